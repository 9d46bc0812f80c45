"""Restores: the old journal is kept whole under another name, and no log is ever replayed over another file."""

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from campaigns.crash_kit import Tell, has_strace, traced, undisturbed
from journal_kit import entry, names, without_apsw
from step_kit import die_at

from openoutcry import EventBus, PersistenceConfig
from openoutcry.errors import JournalCorrupt, JournalDead, JournalError, JournalLocked, NotAJournal
from openoutcry.journals import JournalReader, SqliteJournal, backup, restore
from openoutcry.journals.marks import MarksFile
from openoutcry.testing import run_virtual
from openoutcry.trading import SignalDirection, SignalEvent

KEY = b"k" * 32
ENGINES = ["sqlite3", pytest.param("apsw", marks=without_apsw)]


def write(path: Path, *ids: str, **options: Any) -> Path:
    with SqliteJournal(path, **options) as journal:
        for one in ids:
            journal.write([entry(one)])
    return path


def ids(path: Path, **options: Any) -> list[str]:
    with JournalReader(path, **options) as reader:
        assert reader.verify().intact
        return [one.head().event_id or "" for one in reader.read(0, 1_000_000)]


def crash(path: Path, *more: str) -> None:
    """Write, and be killed: what was written is in the log alone."""

    def live(_tell: Tell) -> None:
        journal = SqliteJournal(path)
        for one in more:
            journal.write([entry(one)])
        os._exit(1)

    undisturbed(live)
    assert Path(f"{path}-wal").stat().st_size


@pytest.fixture
def firm(tmp_path: Path) -> Path:
    (tmp_path / "firm").mkdir()
    return write(tmp_path / "firm" / "firm.db", "a", "b")


@pytest.fixture
def copy(firm: Path, tmp_path: Path) -> Path:
    """A backup of a and b; then came c and d, which are in the log alone."""
    path = tmp_path / "copy.db"
    backup(firm, path)
    crash(firm, "c", "d")
    return path


@pytest.mark.parametrize("engine", ENGINES)
def test_a_backup_takes_the_place_of_the_journal_which_is_kept_whole(
    firm: Path, copy: Path, engine: Any
) -> None:
    before = JournalReader(firm)  # which goes on with the old file
    made = restore(copy, firm, engine=engine)
    aside = firm.with_name("firm.db.replaced-1")
    assert (made.path, made.replaced, made.newer) == (firm, aside, 2)
    assert (made.anchor.position, made.entries, made.newest_ns) == (2, 2, entry().wall_ns)
    assert ids(firm) == ["a", "b"]
    assert ids(copy) == ["a", "b"]
    assert ids(aside) == ["a", "b", "c", "d"]
    assert [one.head().event_id for one in before.tail(9)] == ["a", "b", "c", "d"]
    before.close()
    with SqliteJournal(firm, engine=engine) as journal:
        journal.write([entry("e")])
    assert ids(firm) == ["a", "b", "e"]
    with SqliteJournal(aside, engine=engine) as journal:
        assert journal.head == 4, "with its own marks"


def test_what_is_restored_is_a_new_generation_of_the_same_origin(firm: Path, copy: Path) -> None:
    with SqliteJournal(firm) as journal:
        origin, generation, anchor = journal.origin, journal.generation, journal.anchor
    made = restore(copy, firm)
    with SqliteJournal(firm) as journal:
        assert journal.origin == origin
        assert journal.generation != generation
        assert (journal.anchor.position, journal.anchor.checksum) == (2, made.anchor.checksum)
    with JournalReader(firm) as reader:
        assert reader.verify(anchors=[made.anchor]).intact
        assert not reader.verify(anchors=[anchor]).intact, "an anchor of what is missing now"


def test_a_sealed_journal_is_restored_with_its_key_alone(tmp_path: Path) -> None:
    firm = write(tmp_path / "firm.db", "a", key=KEY)
    backup(firm, tmp_path / "copy.db", key=KEY)
    write(firm, "b", key=KEY)
    for key, said in ((None, "give the key"), (b"q" * 32, "is not the one")):
        with pytest.raises(JournalError, match=said):
            restore(tmp_path / "copy.db", firm, key=key)
    assert ids(firm, key=KEY) == ["a", "b"]
    assert restore(tmp_path / "copy.db", firm, key=KEY).newer == 1
    assert ids(firm, key=KEY) == ["a"]
    assert write(firm, "c", key=KEY)
    assert ids(firm, key=KEY) == ["a", "c"]


def test_where_no_journal_stands_one_is_made(copy: Path, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    made = restore(copy, tmp_path / "new" / "firm.db")
    assert (made.replaced, made.newer) == (None, 0)
    assert ids(tmp_path / "new" / "firm.db") == ["a", "b"]
    write(tmp_path / "new" / "firm.db", "c")


def test_a_log_without_its_database_is_not_replayed_over_the_backup(firm: Path, copy: Path) -> None:
    firm.unlink()
    made = restore(copy, firm)
    assert made.replaced is None
    assert ids(firm) == ["a", "b"]
    assert "firm.db.replaced-1-wal" in names(firm.parent)


def test_a_restore_can_be_taken_back(firm: Path, copy: Path) -> None:
    restore(copy, firm)
    made = restore(firm.with_name("firm.db.replaced-1"), firm)
    assert made.replaced == firm.with_name("firm.db.replaced-2")
    assert ids(firm) == ["a", "b", "c", "d"]
    assert made.newer == 0


def test_how_much_came_after_the_backup_is_told_where_it_can_be(
    firm: Path, copy: Path, tmp_path: Path
) -> None:
    assert restore(copy, firm).newer == 2
    assert restore(copy, firm).newer == 0
    write(firm, "x", "y", "z")
    assert restore(firm.with_name("firm.db.replaced-1"), firm).newer is None, "it is another history"
    other = write(tmp_path / "other.db", "q")
    assert restore(copy, other).newer is None
    empty = tmp_path / "empty.db"
    SqliteJournal(empty).close()
    backup(empty, tmp_path / "empty-copy.db")
    assert restore(tmp_path / "empty-copy.db", firm).newer == 4


def foreign(path: Path) -> None:
    path.unlink()
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE t(x)")
    db.close()


WRECKS: dict[str, Callable[[Path], Any]] = {
    "no database": lambda path: path.write_bytes(b"\xff" * 70_000),
    "nothing": lambda path: path.write_bytes(b""),
    "half of it": lambda path: os.truncate(path, path.stat().st_size // 2),
    "another program's": foreign,
}


@pytest.mark.parametrize("wreck", WRECKS)
def test_a_wreck_is_replaced_and_kept(firm: Path, copy: Path, wreck: str) -> None:
    WRECKS[wreck](firm)
    content = firm.read_bytes()
    made = restore(copy, firm)
    assert made.replaced.read_bytes() == content
    assert made.newer is None
    write(firm, "c")
    assert ids(firm) == ["a", "b", "c"]


def test_a_dead_journal_is_replaced_by_one_that_lives(firm: Path, copy: Path) -> None:
    marks = MarksFile(Path(f"{firm}-marks"))
    marks.die()
    marks.close()
    with pytest.raises(JournalDead):
        SqliteJournal(firm)
    made = restore(copy, firm)
    write(firm, "c")
    with pytest.raises(JournalDead):
        SqliteJournal(made.replaced)


def test_a_journal_that_was_built_beside_the_old_one_goes_with_it(firm: Path, copy: Path) -> None:
    Path(f"{firm}.next").write_bytes(copy.read_bytes())
    Path(f"{firm}.next-marks").write_bytes(b"marks")
    restore(copy, firm)
    left = names(firm.parent)
    assert {"firm.db.replaced-1.next", "firm.db.replaced-1.next-marks"} <= set(left)
    assert not [name for name in left if name.startswith("firm.db.next")]


def test_while_a_bus_writes_nothing_is_restored(firm: Path, copy: Path) -> None:
    with SqliteJournal(firm) as journal:
        before = names(firm.parent)
        with pytest.raises(JournalLocked, match=f"process {os.getpid()}; stop that one first"):
            restore(copy, firm)
        assert names(firm.parent) == before
        with pytest.raises(JournalLocked, match="it is no backup; make one of it"):
            restore(firm, firm.with_name("another.db"))
        journal.write([entry("e")])
    assert ids(firm) == ["a", "b", "c", "d", "e"]


def test_nobody_can_open_the_journal_while_it_is_restored(firm: Path, copy: Path) -> None:
    def look(*_: object) -> None:
        with pytest.raises(JournalLocked):
            SqliteJournal(firm)
        with pytest.raises(JournalLocked):
            restore(copy, firm)

    restore(copy, firm, progress=look)


def mistaken(copy: Path, firm: Path) -> dict[str, tuple[Path, Path, type[JournalError], str]]:
    (firm.parent / "folder").mkdir()
    (firm.parent / "text").write_text("text")
    (firm.parent / "link").symlink_to(firm)
    os.link(firm, firm.parent / "hard")
    damaged = copy.with_name("damaged.db")
    damaged.write_bytes(copy.read_bytes())
    with sqlite3.connect(damaged) as db:
        db.execute("UPDATE batches SET checksum = x'00'")
    db.close()
    return {
        "the journal": (firm, firm, JournalError, "is the journal itself"),
        "a link to it": (firm.parent / "link", firm, JournalError, "is the journal itself"),
        "a hard link": (firm.parent / "hard", firm, JournalError, "is the journal itself"),
        "nothing": (firm.parent / "nothing", firm, NotAJournal, "does not exist"),
        "text": (firm.parent / "text", firm, NotAJournal, "not a journal"),
        "a folder": (firm.parent / "folder", firm, NotAJournal, "is a directory, not a journal"),
        "damage": (damaged, firm, JournalCorrupt, "does not hold, so it was not copied"),
        "into a folder": (copy, firm.parent / "folder", JournalError, "is a directory, not a journal"),
        "nowhere": (copy, firm.parent / "no" / "firm.db", JournalError, "see that its folder exists"),
    }


@pytest.mark.parametrize(
    "what",
    [
        "the journal",
        "a link to it",
        "a hard link",
        "nothing",
        "text",
        "a folder",
        "damage",
        "into a folder",
        "nowhere",
    ],
)
def test_a_mistake_moves_nothing(firm: Path, copy: Path, what: str) -> None:
    source, place, kind, said = mistaken(copy, firm)[what]
    before = names(firm.parent)
    with pytest.raises(kind, match=said):
        restore(source, place)
    assert {name for name in names(firm.parent) if not name.endswith("-shm")} == {
        name for name in before if not name.endswith("-shm")
    }
    with SqliteJournal(firm) as journal:
        assert journal.head == 4


@pytest.mark.parametrize("content", [b"\xff" * 8192, b"garbage " * 1024])
def test_marks_that_no_journal_has_written_do_not_say_under_which_name_the_old_one_is_kept(
    firm: Path, copy: Path, content: bytes
) -> None:
    Path(f"{firm}-marks").write_bytes(content)
    assert restore(copy, firm).replaced == firm.with_name("firm.db.replaced-1")
    assert ids(firm) == ["a", "b"]


def test_a_link_to_the_journal_is_followed(firm: Path, copy: Path, tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to(firm)
    assert restore(copy, tmp_path / "link.db").path == firm
    assert (tmp_path / "link.db").is_symlink()
    assert ids(firm) == ["a", "b"]


def test_the_owner_and_the_mode_stay(firm: Path, copy: Path) -> None:
    firm.chmod(0o640)
    if os.geteuid() == 0:
        for path in firm.parent.iterdir():
            os.chown(path, 12_345, 12_346)
    restore(copy, firm)
    for name in names(firm.parent):
        stat = (firm.parent / name).stat()
        assert stat.st_mode & 0o007 == 0
        if os.geteuid() == 0:
            assert (stat.st_uid, stat.st_gid) == (12_345, 12_346), name
    assert firm.stat().st_mode & 0o777 == 0o640


def test_a_firm_starts_on_what_was_restored_and_goes_on_from_there(tmp_path: Path) -> None:
    path, copy, taken = tmp_path / "firm.db", tmp_path / "copy.db", []

    def firm_of() -> EventBus:
        bus = EventBus(persistence_config=PersistenceConfig(path=path))
        bus.subscribe("signal", lambda event: taken.append(event.event_id), name="desk")
        return bus

    def signal(event_id: str) -> SignalEvent:
        return SignalEvent(
            event_id=event_id,
            symbol="AAPL",
            direction=SignalDirection.LONG,
            strategy_name="desk",
            confidence=1.0,
        )

    async def before() -> None:
        bus = firm_of()
        await bus.start()
        assert await bus.publish(signal("s1"))
        await bus.join()
        await bus.flush()
        backup(path, copy)
        assert await bus.publish(signal("s2"))
        await bus.join()
        with pytest.raises(JournalLocked):
            restore(copy, path)
        await bus.stop()

    async def afterwards() -> list[str]:
        bus = firm_of()
        await bus.start()
        assert await bus.publish(signal("s2")), "it is new again"
        await bus.join()
        history = [one.event_id for one in await bus.read_event_history()]
        await bus.stop()
        return history

    run_virtual(before())
    restore(copy, path)
    assert run_virtual(afterwards()) == ["s1", "s2"]
    assert taken == ["s1", "s2", "s2"]


# -- killed --------------------------------------------------------------------------------------


def check_after(firm: Path, copy: Path, *, killed: bool) -> None:
    """Whatever came between: the old journal or the new one can be opened, or the restore is to be run again."""
    refused = ""
    try:
        with SqliteJournal(firm) as journal:
            head = journal.head
    except JournalError as error:
        refused = str(error)
    if refused:
        assert killed
        assert "run `openoutcry restore` again" in refused
        with pytest.raises(JournalError):
            JournalReader(firm)
    else:
        assert head in (2, 4)
        assert ids(firm) == ["a", "b", "c", "d"][:head]
        write(firm, "e")
        if head == 4:
            return
    made = restore(copy, firm)
    write(firm, "f")
    assert ids(firm) == ["a", "b", "f"]
    if refused:
        assert made.replaced == firm.with_name("firm.db.replaced-1")
        assert made.newer == 2
    with SqliteJournal(firm.with_name("firm.db.replaced-1")) as journal:
        assert journal.head == 4, "the old one is whole, with its log"


def test_killed_at_any_step_the_old_journal_or_the_new_one_stands_or_the_next_restore_ends_it(
    tmp_path: Path,
) -> None:
    outcomes = set()
    killed, nth = True, 0
    while killed:
        nth += 1
        folder = tmp_path / str(nth)
        folder.mkdir()
        firm = write(folder / "firm.db", "a", "b")
        copy = folder / "copy.db"
        backup(firm, copy)
        crash(firm, "c", "d")

        def put_back(_tell: Tell, at: int = nth, firm: Path = firm, copy: Path = copy) -> None:
            with pytest.MonkeyPatch.context() as patch:
                die_at(at, patch)
                restore(copy, firm)

        killed = undisturbed(put_back).killed
        outcomes.add((firm.exists(), Path(f"{firm}-wal").exists()))
        check_after(firm, copy, killed=killed)
    assert nth > 15
    assert {(True, True), (False, True), (False, False)} <= outcomes, "it has died between the moves"


@pytest.mark.skipif(not has_strace(), reason="strace is missing, or may not trace: apt-get install strace")
@pytest.mark.parametrize("call", ["rename", "fsync", "pwrite64", "unlink"])
def test_killed_at_a_system_call_the_old_journal_or_the_new_one_stands(tmp_path: Path, call: str) -> None:
    for nth in range(1, 5):
        folder = tmp_path / str(nth)
        folder.mkdir()
        firm = write(folder / "firm.db", "a", "b")
        copy = folder / "copy.db"
        backup(firm, copy)
        crash(firm, "c", "d")

        def put_back(_tell: Tell, firm: Path = firm, copy: Path = copy) -> None:
            restore(copy, firm)

        life = traced(put_back, call, nth)
        check_after(firm, copy, killed=life.killed)


def test_interrupted_between_its_moves_it_is_ended_by_the_next_one(
    firm: Path, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moves, rename = [], Path.rename

    def interrupt(path: Path, to: Any) -> Any:
        moves.append(path)
        if len(moves) == 2:
            raise KeyboardInterrupt
        return rename(path, to)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", interrupt)
        with pytest.raises(KeyboardInterrupt):
            restore(copy, firm)
    check_after(firm, copy, killed=True)
