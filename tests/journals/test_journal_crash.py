"""Killed under load, damaged by bits, cut short: what was acknowledged is there, or the journal says what is not."""

import json
import os
import random
import shutil
import signal
from pathlib import Path

import pytest
from journal_kit import entries, entry, payloads, verify

from openoutcry.errors import JournalCorrupt, JournalError
from openoutcry.journals import JournalReader, SqliteJournal, marks, opening, recover_into
from openoutcry.ports import BuriedEvent, Changes, CursorState, Entry, Level, Suspect

KILLS = 25
FLIPS = 120
CUTS = 40


def nth(position: int) -> Entry:
    return entry(f"e{position}", level=Level.DISK if position % 5 == 0 else Level.PROCESS, n=position)


def load(path: Path, into: int, seed: int) -> None:
    """Write for ever, and tell after every acknowledgement which position it reached."""
    rng = random.Random(seed)
    journal = SqliteJournal(path)
    cell = journal.marks.claim("worker", "normal")
    while True:
        first = journal.head + 1
        batch = [nth(first + k) for k in range(rng.choice([1, 2, 7, 64]))]
        cursor = CursorState(subscription="worker", lane="normal", floor=journal.head)
        written = journal.write(batch, rng.choice([None, Changes(cursors=[cursor])]))
        journal.marks.cells[cell] = first
        if written.wants_sync:
            journal.sync()
        os.write(into, f"{journal.head}\n".encode())
        if rng.random() < 0.05:
            journal.idle()


def killed_after(path: Path, acknowledgements: int, seed: int) -> int:
    """Let a child write, kill it after some acknowledgements, and return the last position of which it told."""
    out, into = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            load(path, into, seed)
        finally:
            os._exit(1)
    os.close(into)
    with os.fdopen(out) as told:
        lines = [told.readline() for _ in range(acknowledgements)]
        os.kill(pid, signal.SIGKILL)
        lines += told.readlines()
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status), "the child ended by itself"
    return max(int(line) for line in lines if line.endswith("\n"))


def test_after_25_kills_everything_acknowledged_is_there_in_order(path: Path) -> None:
    rng = random.Random(2026)
    for seed in range(KILLS):
        acknowledged = killed_after(path, rng.randint(1, 40), seed)
        with SqliteJournal(path) as journal:
            assert journal.head >= acknowledged
            assert journal.unsynced_lost == 0
            for stored in journal.read(0, 10**9):
                assert json.loads(stored.payload)["n"] == stored.position
            assert [c.floor <= journal.head for c in journal.cursors()] in ([], [True])
            found = journal.suspects()
            assert len(found) <= 1 + seed
            assert {(s.subscription, s.lane) for s in found} <= {("worker", "normal")}
            assert len(set(journal.write([nth(1), nth(journal.head)]).duplicates)) == 2
            assert verify(journal).intact


def test_a_crash_is_counted_once_even_if_the_opening_after_it_dies_too(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = SqliteJournal(path)
    journal.write(entries(3))
    journal.marks.cells[journal.marks.claim("a", "normal")] = 3
    journal.close()

    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(marks.MarksFile, "begin_run", dies)
    with pytest.raises(KeyboardInterrupt):
        SqliteJournal(path)
    monkeypatch.undo()
    with SqliteJournal(path) as journal:
        assert journal.suspects() == [Suspect("a", "normal", 3, 1)]


# Power cuts, as far as they can be told without cutting the power


def images(journal: SqliteJournal, folder: Path) -> Path:
    """What a crash would leave: the files as they are now."""
    folder.mkdir(exist_ok=True)
    for suffix in ("", "-wal", "-marks"):
        shutil.copy(f"{journal.path}{suffix}", folder / f"{journal.path.name}{suffix}")
    return folder / journal.path.name


def test_a_power_cut_may_take_what_was_not_synced_and_that_is_told(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with SqliteJournal(path) as journal:
        journal.write(entries(3))
        journal.sync()
        size = Path(f"{path}-wal").stat().st_size
        journal.write(entries(4))
        image = images(journal, tmp_path / "cut")
    os.truncate(f"{image}-wal", size)
    with pytest.raises(JournalCorrupt, match="7 had been reached") as damage:
        SqliteJournal(image)
    assert damage.value.position == 4
    monkeypatch.setattr(marks, "boot_id", lambda: b"b" * 16)
    with SqliteJournal(image) as journal:
        assert (journal.head, journal.unsynced_lost) == (3, 4)


def test_a_power_cut_must_not_take_what_was_synced(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with SqliteJournal(path) as journal:
        journal.write(entries(3))
        journal.sync()
        image = images(journal, tmp_path / "cut")
    os.truncate(f"{image}-wal", 0)
    monkeypatch.setattr(marks, "boot_id", lambda: b"b" * 16)
    with pytest.raises(JournalCorrupt, match="write-ahead log is damaged"):
        SqliteJournal(image)


# Bits and cuts


Content = tuple[list[bytes], list[CursorState], list[BuriedEvent]]


def content(journal: SqliteJournal | JournalReader) -> Content:
    return payloads(journal.read(0, 10**9)), journal.cursors(), journal.buried()


def furnish(journal: SqliteJournal) -> None:
    cursors = [
        CursorState(subscription=f"s{n}", lane="high", floor=n, settled=((n + 2, n + 3),)) for n in range(3)
    ]
    letter = BuriedEvent(
        subscription="s1", lane="high", position=2, payload=b'{"a":1}', reason="failed", error="E"
    )
    for size in (1, 3, 40, 2, 90):
        journal.write(entries(size, pad="x" * 150), Changes(cursors=cursors, buried=[letter]))
    journal.sync()


def is_noticed(path: Path, truth: Content) -> bool:
    """Whether damage is raised or reported, or has hurt nothing that the file holds."""
    try:
        with SqliteJournal(path) as journal:
            with journal.reader() as reader:
                if not reader.verify().intact:
                    return True
            return content(journal) == truth
    except JournalError:
        return True


def damaged_copies(original: Path, copy: Path, suffix: str, rng: random.Random) -> None:
    for ending in ("", "-wal", "-shm", "-marks"):
        Path(f"{copy}{ending}").unlink(missing_ok=True)
        if ending != "-shm" and Path(f"{original}{ending}").exists():
            shutil.copy(f"{original}{ending}", f"{copy}{ending}")
    victim = Path(f"{copy}{suffix}")
    data = bytearray(victim.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    victim.write_bytes(data)


@pytest.fixture
def image(path: Path, tmp_path: Path, request: pytest.FixtureRequest) -> tuple[Path, Content]:
    """A journal closed cleanly (`-db`), or as a crash leaves it (`-wal`), and what is in it."""
    with SqliteJournal(path) as journal:
        furnish(journal)
        truth = content(journal)
        crashed = images(journal, tmp_path / "crashed")
    return (crashed if request.param == "-wal" else path), truth


@pytest.mark.parametrize("image", ["-wal", ""], indirect=True, ids=["write-ahead log", "database"])
def test_a_flipped_bit_anywhere_is_noticed(
    image: tuple[Path, Content], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    original, truth = image
    suffix = request.node.callspec.params["image"]
    rng = random.Random(f"flip {suffix}")
    for number in range(FLIPS):
        damaged_copies(original, tmp_path / "flipped.db", suffix, rng)
        assert is_noticed(tmp_path / "flipped.db", truth), f"flip {number}"


@pytest.mark.parametrize("image", ["-wal", ""], indirect=True, ids=["write-ahead log", "database"])
def test_a_cut_anywhere_is_noticed(
    image: tuple[Path, Content], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    original, truth = image
    suffix = request.node.callspec.params["image"]
    rng = random.Random(f"cut {suffix}")
    copy = tmp_path / "cut.db"
    for number in range(CUTS):
        damaged_copies(original, copy, suffix, rng)
        shutil.copy(f"{original}{suffix}", f"{copy}{suffix}")
        os.truncate(f"{copy}{suffix}", rng.randrange(1, Path(f"{original}{suffix}").stat().st_size))
        assert is_noticed(copy, truth), f"cut {number}"


def edit(path: Path, sql: str) -> None:
    import sqlite3  # noqa: PLC0415

    db = sqlite3.connect(path)
    with db:
        db.execute(sql)
    db.close()


@pytest.mark.parametrize(
    ("sql", "position"),
    [
        ("UPDATE batches SET entries = replace(entries, '\"n\":5', '\"n\":6') WHERE first = 5", 5),
        ("DELETE FROM batches WHERE first = 3", 3),
        ("UPDATE batches SET first_ns = first_ns - 1 WHERE first = 1", 1),
        ("UPDATE batches SET count = 1 WHERE first = 5", 5),
        ("UPDATE batches SET entries = x'00' WHERE first = 7", 7),
    ],
)
def test_an_edited_row_is_found_where_it_stands(path: Path, sql: str, position: int) -> None:
    with SqliteJournal(path) as journal:
        for first in (1, 3, 5, 7):
            journal.write([nth(first), nth(first + 1)])
    edit(path, sql)
    with JournalReader(path) as reader:
        assert reader.verify().problems[0].position == position
    with pytest.raises(JournalCorrupt) as found:
        SqliteJournal(path)
    assert found.value.position == position


@pytest.mark.parametrize("table", ["cursors", "dead_letters"])
def test_an_edited_cursor_or_dead_letter_is_found(path: Path, table: str) -> None:
    with SqliteJournal(path) as journal:
        furnish(journal)
    edit(
        path, "UPDATE cursors SET floor = 99" if table == "cursors" else "UPDATE dead_letters SET error = 'F'"
    )
    with JournalReader(path) as reader:
        assert not reader.verify().intact
    if table == "cursors":
        with pytest.raises(JournalCorrupt, match="cursor of 's0'"):
            SqliteJournal(path)
    else:
        with SqliteJournal(path) as journal, pytest.raises(JournalCorrupt):
            journal.buried()


def test_a_cursor_that_is_ahead_of_the_log_tells_that_its_end_is_lost(path: Path) -> None:
    with SqliteJournal(path) as journal:
        journal.write([nth(1)])
        journal.write([nth(2)], Changes(cursors=[CursorState(subscription="a", lane="high", floor=2)]))
    Path(f"{path}-marks").unlink()
    edit(path, "DELETE FROM batches WHERE first = 2")
    with pytest.raises(JournalCorrupt, match="'a' has settled 2") as found:
        SqliteJournal(path)
    assert found.value.position == 2


def test_recovery_keeps_what_verifies_and_lists_what_is_lost(path: Path, tmp_path: Path) -> None:
    with SqliteJournal(path) as journal:
        for first in (1, 3, 5, 7):
            journal.write([nth(first), nth(first + 1)])
        journal.write((), Changes(cursors=[CursorState(subscription="a", lane="high", floor=4)]))
    edit(path, "UPDATE batches SET entries = replace(entries, '\"n\":3', '\"n\":9') WHERE first = 3")
    seen: list[int] = []
    recovered = recover_into(path, tmp_path / "new.db", progress=lambda done, _: seen.append(done))
    assert (recovered.entries, recovered.lost) == (6, ((3, 4),))
    assert seen == [2, 6, 8]
    with SqliteJournal(recovered.path) as new:
        assert [e.position for e in new.read(0, 99)] == [1, 2, 5, 6, 7, 8]
        assert new.find("e3") is None
        assert [c.floor for c in new.cursors()] == [4]
        assert list(new.write([nth(3)]).positions) == [9]
        assert verify(new).intact


def test_positions_of_a_lost_tail_are_not_given_again(path: Path, tmp_path: Path) -> None:
    with SqliteJournal(path) as journal:
        journal.write([nth(1)])
        journal.write([nth(2)], Changes(cursors=[CursorState(subscription="a", lane="high", floor=2)]))
    edit(path, "DELETE FROM batches WHERE first = 2")
    recovered = recover_into(path, tmp_path / "new.db")
    assert recovered.lost == ((2, 2),)
    with SqliteJournal(recovered.path) as new:
        assert list(new.write([nth(3)]).positions) == [3]
        assert verify(new).intact
    with SqliteJournal(recovered.path) as new:
        assert [e.position for e in new.read(0, 9)] == [1, 3]


def test_a_damaged_page_in_the_middle_costs_only_what_stands_there(path: Path, tmp_path: Path) -> None:
    with SqliteJournal(path) as journal:
        for first in range(1, 400, 10):
            journal.write([nth(first + k) for k in range(10)])
    size = path.stat().st_size
    with path.open("r+b") as out:
        out.seek(size * 3 // 4 // 4096 * 4096)  # (before the middle the other tables begin)
        out.write(os.urandom(4096))
    with pytest.raises(JournalCorrupt):
        SqliteJournal(path)
    recovered = recover_into(path, tmp_path / "new.db")
    assert recovered.lost
    with SqliteJournal(recovered.path) as new:
        found = new.read(0, 999)
        assert len(found) == recovered.entries > 200
        assert all(json.loads(e.payload)["n"] == e.position for e in found)
        assert verify(new).intact


def test_recovery_never_writes_over_a_file_and_never_beside_a_writer(path: Path, tmp_path: Path) -> None:
    with SqliteJournal(path) as journal:
        journal.write(entries(1))
        with pytest.raises(JournalError, match="being written"):
            recover_into(path, tmp_path / "new.db")
    (tmp_path / "there.db").touch()
    with pytest.raises(JournalError, match="exists"):
        recover_into(path, tmp_path / "there.db")


def test_opening_verifies_the_tail_and_verify_the_rest(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with SqliteJournal(path) as journal:
        for position in range(1, 9):
            journal.write([nth(position)])
    edit(path, "UPDATE batches SET last_ns = 0 WHERE first = 2")
    monkeypatch.setattr(opening, "TAIL_BATCHES", 3)
    with SqliteJournal(path) as journal:
        assert [p.position for p in verify(journal).problems] == [2]
