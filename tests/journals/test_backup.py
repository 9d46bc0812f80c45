"""Backups: right while a bus runs, verified before they have their name, and nothing half ever under it."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from campaigns.crash_kit import Tell, has_strace, traced, undisturbed
from journal_kit import entries, entry, names, without_apsw
from step_kit import die_at

from openoutcry.errors import JournalCorrupt, JournalError, JournalFull, JournalLocked, NotAJournal
from openoutcry.journals import JournalReader, SqliteJournal, backup
from openoutcry.ports import BuriedEvent, Changes, CursorState

KEY = b"k" * 32
ENGINES = ["sqlite3", pytest.param("apsw", marks=without_apsw)]
LIMIT_S = 300


def filled(path: Path, number: int = 100, **options: Any) -> Path:
    with SqliteJournal(path, **options) as journal:
        for one in entries(number):
            journal.write([one])
    return path


@pytest.fixture
def firm(tmp_path: Path) -> Path:
    folder = tmp_path / "firm"
    folder.mkdir()
    return filled(folder / "firm.db")


@pytest.fixture
def target(tmp_path: Path) -> Path:
    folder = tmp_path / "backups"
    folder.mkdir()
    return folder / "copy.db"


def ids(path: Path, **options: Any) -> list[str]:
    with JournalReader(path, **options) as reader:
        assert reader.verify().intact
        return [one.head().event_id or "" for one in reader.read(0, 1_000_000)]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("key", [None, KEY], ids=["plain", "keyed"])
def test_a_backup_holds_everything_and_is_one_file(
    tmp_path: Path, target: Path, engine: Any, key: bytes | None
) -> None:
    letter = BuriedEvent(
        subscription="risk",
        lane="normal",
        position=2,
        payload=entry("e2").payload,
        reason="failed",
        error="KeyError",
        traceback="",
        attempts=1,
        wall_ns=1,
    )
    cursor = CursorState(subscription="risk", lane="normal", floor=3)
    with SqliteJournal(tmp_path / "firm.db", key=key, engine=engine) as journal:
        journal.write([entry(f"e{n}") for n in range(1, 5)], Changes(cursors=[cursor], buried=[letter]))
        made = backup(journal.path, target, key=key, engine=engine)
        anchor, origin, generation = journal.anchor, journal.origin, journal.generation
    assert (made.path, made.first, made.entries) == (target, 1, 4)
    assert (made.anchor.position, made.anchor.checksum) == (anchor.position, anchor.checksum)
    assert made.newest_ns == entry().wall_ns
    assert made.size_bytes == target.stat().st_size
    assert names(target.parent) == [target.name]
    assert target.stat().st_mode & 0o777 == 0o600
    assert ids(target, key=key, engine=engine) == ["e1", "e2", "e3", "e4"]
    assert names(target.parent) == [target.name], "a reader leaves nothing beside it"
    with SqliteJournal(target, key=key, engine=engine) as copy:
        assert (copy.origin, copy.generation) == (origin, generation)
        assert copy.cursors() == [cursor]
        assert [one.subscription for one in copy.buried()] == ["risk"]


def test_a_backup_can_be_verified_where_nothing_can_be_written(firm: Path, target: Path) -> None:
    backup(firm, target)
    read_only = f"file:{target}?mode=ro&immutable=1"
    with sqlite3.connect(read_only, uri=True) as db:
        assert db.execute("SELECT count(*) FROM events").fetchone() == (100,)
    db.close()
    target.chmod(0o400)
    target.parent.chmod(0o500)
    try:
        assert len(ids(target)) == 100
    finally:
        target.parent.chmod(0o700)


@pytest.mark.parametrize("engine", ENGINES)
def test_what_is_written_meanwhile_is_not_held_up_nor_copied(
    tmp_path: Path, target: Path, engine: Any
) -> None:
    path = tmp_path / "firm.db"
    calls: list[tuple[int, int]] = []
    with SqliteJournal(path, engine=engine) as journal:
        for _ in range(120):
            journal.write(entries(64, text="x" * 900))
        head = journal.head

        def write(done: int, of: int) -> None:
            calls.append((done, of))
            journal.write(entries(64))
            assert len(calls) < 10_000, "the copy begins again and again"

        made = backup(path, target, engine=engine, progress=write)
        assert journal.head == head + 64 * len(calls)
    assert made.anchor.position == head
    assert len(ids(target)) == head
    assert calls == sorted(calls)
    assert len([done for done, of in calls if done * 2 < of]) >= 1, "it is told while it is copied"
    assert calls[-1][0] == calls[-1][1]


@pytest.mark.parametrize("left", [0, 1])
def test_a_journal_after_a_crash_is_backed_up_with_what_its_log_has(
    tmp_path: Path, target: Path, left: int
) -> None:
    def live(tell: Tell) -> None:
        journal = SqliteJournal(tmp_path / "firm.db")
        for one in range(50):
            journal.write([entry(f"e{one}")])
        os.kill(os.getpid(), signal.SIGKILL)

    undisturbed(live)
    wal = tmp_path / "firm.db-wal"
    assert wal.stat().st_size
    if not left:
        wal.unlink()
        with pytest.raises(JournalCorrupt, match=r"ends at position 0, but 50 had been reached"):
            backup(tmp_path / "firm.db", target)
        assert names(target.parent) == []
    else:
        assert backup(tmp_path / "firm.db", target).anchor.position == 50


def test_an_empty_journal_can_be_backed_up(tmp_path: Path, target: Path) -> None:
    SqliteJournal(tmp_path / "firm.db").close()
    made = backup(tmp_path / "firm.db", target)
    assert (made.entries, made.newest_ns, made.anchor.position) == (0, None, 0)


def damage(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("UPDATE batches SET entries = replace(entries, 'note', 'nota') WHERE first = 40")
    db.close()


def test_a_damaged_journal_is_not_backed_up(firm: Path, target: Path) -> None:
    damage(firm)
    with pytest.raises(
        JournalCorrupt, match=r"positions 40 to 40 does not hold, so it was not copied"
    ) as found:
        backup(firm, target)
    assert found.value.position == 40
    assert names(target.parent) == []


def test_a_sealed_journal_needs_its_key(tmp_path: Path, target: Path) -> None:
    filled(tmp_path / "firm.db", key=KEY)
    with pytest.raises(JournalError, match="give the key to verify the copy"):
        backup(tmp_path / "firm.db", target)
    with pytest.raises(JournalCorrupt, match="the key is not the one"):
        backup(tmp_path / "firm.db", target, key=b"q" * 32)
    assert names(target.parent) == []


PARTS = [
    "-wal",
    "-shm",
    "-journal",
    "-marks",
    "-sock",
    "-unfinished",
    ".next",
    ".next-marks",
    ".dead-1",
    ".replaced-2",
]


@pytest.mark.parametrize("ending", PARTS)
def test_no_backup_has_the_name_of_a_part_of_a_journal(firm: Path, ending: str) -> None:
    for journal in (firm, firm.with_name("another.db")):
        with pytest.raises(JournalError, match="would be taken for a part of the journal"):
            backup(firm, f"{journal}{ending}")
    assert len(ids(firm)) == 100


@pytest.mark.parametrize("ending", ["-wal", "-shm", "-journal", "-marks", ".next"])
def test_no_backup_is_put_beside_what_would_be_taken_for_its_part(
    firm: Path, target: Path, ending: str
) -> None:
    Path(f"{target}{ending}").write_bytes(b"old")
    with pytest.raises(JournalError, match="move it away"):
        backup(firm, target)
    assert names(target.parent) == [target.name + ending]


def link(journal: Path, target: Path) -> None:
    target.symlink_to(journal)


TAKEN: dict[str, Callable[[Path, Path], Any]] = {
    "a file": lambda _, target: target.write_bytes(b"mine"),
    "an empty file": lambda _, target: target.touch(),
    "a link to the journal": link,
    "a link to nothing": lambda journal, target: link(journal.with_name("nothing"), target),
    "a hard link to the journal": os.link,
    "a folder": lambda _, target: target.mkdir(),
    "a fifo": lambda _, target: os.mkfifo(target),
}


@pytest.mark.parametrize("what", TAKEN)
def test_nothing_that_exists_is_overwritten(firm: Path, target: Path, what: str) -> None:
    TAKEN[what](firm, target)
    before = os.lstat(target)
    with pytest.raises(
        JournalError, match="a folder; name a file in it" if what == "a folder" else "exists; name a"
    ):
        backup(firm, target)
    assert os.lstat(target) == before
    assert names(target.parent) == [target.name]
    with pytest.raises(JournalError, match="exists"):
        backup(firm, firm)


def test_a_file_that_comes_meanwhile_is_not_overwritten(firm: Path, target: Path) -> None:
    def comes(*_: object) -> None:
        target.write_bytes(b"mine")

    with pytest.raises(JournalError, match="exists"):
        backup(firm, target, progress=comes)
    assert target.read_bytes() == b"mine"
    assert names(target.parent) == [target.name]


def test_a_target_that_cannot_be_made_says_why(firm: Path, target: Path, tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="see that its folder exists"):
        backup(firm, tmp_path / "nowhere" / "copy.db")
    with pytest.raises(JournalError, match="give the journal a shorter one"):
        backup(firm, tmp_path / ("x" * 250))
    with pytest.raises(NotAJournal, match="does not exist"):
        backup(tmp_path / "nothing.db", target)
    (tmp_path / "text.db").write_text("no database" * 1000)
    with pytest.raises(NotAJournal):
        backup(tmp_path / "text.db", target)
    assert names(target.parent) == []


def test_two_backups_to_one_name_do_not_meet(firm: Path, target: Path) -> None:
    def again(*_: object) -> None:
        with pytest.raises(JournalLocked, match="is being made by another process"):
            backup(firm, target)

    assert backup(firm, target, progress=again).entries == 100


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize("half", [1, 2], ids=["copying", "verifying"])
@pytest.mark.parametrize("engine", ENGINES)
def test_an_interrupted_backup_leaves_nothing(
    firm: Path, target: Path, engine: Any, half: int, error: type[BaseException]
) -> None:
    def interrupt(done: int, of: int) -> None:
        if done * 2 > of or half == 1:
            raise error

    with pytest.raises(error):
        backup(firm, target, engine=engine, progress=interrupt)
    assert names(target.parent) == []


@pytest.mark.parametrize("engine", ENGINES)
def test_where_a_file_may_not_grow_there_is_no_backup(tmp_path: Path, target: Path, engine: str) -> None:
    with SqliteJournal(tmp_path / "firm.db") as journal:
        journal.write(entries(2_000, text="x" * 1_000))
    script = f"""
        import resource, signal
        from openoutcry.errors import JournalError
        from openoutcry.journals import backup
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))
        try:
            backup({str(tmp_path / "firm.db")!r}, {str(target)!r}, engine={engine!r})
        except JournalError as error:
            print(type(error).__name__)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.stdout == "JournalError\n", done.stderr
    assert names(target.parent) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = shutil.which("mount") is not None and os.geteuid() == 0
    if (
        not mounted
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", place], check=False).returncode
    ):
        pytest.skip("no file system can be mounted here")
    yield place
    subprocess.run(["umount", place], check=True)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_full_disk_is_a_journal_full(tmp_path: Path, small_disk: Path, engine: Any) -> None:
    with SqliteJournal(tmp_path / "firm.db") as journal:
        journal.write(entries(2_000, text="x" * 1_000))
    with pytest.raises(JournalFull, match="make room"):
        backup(tmp_path / "firm.db", small_disk / "copy.db", engine=engine)
    assert names(small_disk) == []


# -- killed --------------------------------------------------------------------------------------


def test_killed_at_any_step_there_is_a_whole_backup_or_none(firm: Path, target: Path) -> None:
    kills = 0
    while True:
        kills += 1

        def make(tell: Tell, nth: int = kills) -> None:
            with pytest.MonkeyPatch.context() as patch:
                die_at(nth, patch)
                backup(firm, target)

        killed = undisturbed(make).killed
        left = set(names(target.parent))
        assert left <= {target.name, f"{target.name}-unfinished"}
        if target.exists():
            assert len(ids(target)) == 100
            target.unlink()
        if not killed:
            break
        assert backup(firm, target).entries == 100, "what is left hinders nobody"
        assert names(target.parent) == [target.name]
        target.unlink()
    assert kills > 5


@pytest.mark.skipif(not has_strace(), reason="strace is missing, or may not trace: apt-get install strace")
@pytest.mark.parametrize("call", ["pwrite64", "fsync", "rename", "unlink", "fcntl", "flock"])
def test_killed_at_a_system_call_there_is_a_whole_backup_or_none(firm: Path, target: Path, call: str) -> None:
    def make(_tell: Tell) -> None:
        backup(firm, target)

    for nth in (1, 2, 5):
        traced(make, call, nth)
        if target.exists():
            assert len(ids(target)) == 100
            target.unlink()
        backup(firm, target)
        target.unlink()


def test_a_leftover_is_named_and_removed(firm: Path, target: Path, caplog: pytest.LogCaptureFixture) -> None:
    left = Path(f"{target}-unfinished")
    left.write_bytes(firm.read_bytes()[:5_000])
    backup(firm, target)
    assert f"{left} was left by a backup or restore that was interrupted, and is removed" in caplog.text
    assert names(target.parent) == [target.name]


@pytest.mark.parametrize("what", ["another file", "a folder", "a link"])
def test_what_is_no_leftover_is_left_alone(firm: Path, target: Path, what: str) -> None:
    left = Path(f"{target}-unfinished")
    if what == "another file":
        left.write_text("my notes")
    elif what == "a folder":
        left.mkdir()
    else:
        left.symlink_to(firm)
    before = os.lstat(left)
    with pytest.raises(JournalError, match=r"copy\.db-unfinished"):
        backup(firm, target)
    assert os.lstat(left) == before
    assert not target.exists()
