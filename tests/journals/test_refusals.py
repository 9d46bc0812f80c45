"""A journal that the operating system does not let us have is a `JournalError` that names a remedy."""

import asyncio
import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from openoutcry import Event, EventBus, PersistenceConfig
from openoutcry.errors import JournalError, JournalFull
from openoutcry.journals import EventPersistence, JournalReader, SqliteJournal, recover_into
from openoutcry.journals.refusals import refusals_of

NOBODY = 65_534


def start(path: Path) -> None:
    async def life() -> None:
        async with EventBus(persistence_config=PersistenceConfig(path=path)):
            pass

    asyncio.run(life())


WAYS: dict[str, Callable[[Path], object]] = {
    "a bus": start,
    "a journal": lambda path: SqliteJournal(path).close(),
    "persistence": lambda path: EventPersistence(PersistenceConfig(path=path)).close(),
    "a reader": lambda path: JournalReader(path).close(),
    "a recovery": lambda path: recover_into(path, path.with_name("new.db")),
}
every_way = pytest.mark.parametrize("way", list(WAYS))


def as_nobody(call: Callable[[], object]) -> str:
    """What a call raises in a child that runs as another user."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        answer = "nothing"
        try:
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            call()
        except BaseException as error:  # noqa: BLE001 - it is the answer
            answer = f"{[c.__name__ for c in type(error).__mro__]} {error}"
        os.write(writing, answer.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        answer = pipe.read()
    os.waitpid(pid, 0)
    return answer


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("whose", ["all of it", "the marks", "the folder", "a folder that is closed"])
@every_way
def test_another_users_journal_is_a_journal_error_that_says_whose_it_is(way, whose, tmp_path):
    """CONTRACT 16: as where a container runs as another user than yesterday."""
    for folder in (tmp_path, *tmp_path.parents):
        if folder != Path(folder.anchor):
            folder.chmod(folder.stat().st_mode | stat.S_IXOTH | stat.S_IROTH)
    folder = tmp_path / "data"
    folder.mkdir()
    folder.chmod(0o777)
    path = folder / "firm.db"
    start(path)
    if whose == "the marks":
        os.chown(path, NOBODY, NOBODY)
    elif whose == "the folder":
        folder.chmod(0o755)
        for file in folder.iterdir():
            os.chown(file, NOBODY, NOBODY)
    elif whose == "a folder that is closed":
        folder.chmod(0o700)
    answer = as_nobody(lambda: WAYS[way](path))
    if answer != "nothing":  # SQLite reads what it may read
        assert "'JournalError'" in answer, answer
        assert "chown" in answer or "can be written" in answer, answer
    if whose == "a folder that is closed":
        assert "user 0's" in answer


@pytest.mark.parametrize("length", [250, 256, 300, 5_000])
@pytest.mark.parametrize("way", [way for way in WAYS if way != "a recovery"])
def test_a_name_that_is_too_long_is_a_journal_error_and_leaves_no_file(way, length, tmp_path):
    path = tmp_path / ("x" * (length - 3) + ".db")
    with pytest.raises(JournalError, match=r"at most 255|does not exist"):
        WAYS[way](path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("way", [way for way in WAYS if way != "a recovery"])
def test_a_folder_that_is_missing_or_a_file_is_a_journal_error(way, tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "no" / "firm.db", tmp_path / "file" / "firm.db"):
        with pytest.raises(JournalError, match=r"see that its folder exists|does not exist"):
            WAYS[way](path)


@pytest.mark.parametrize(
    ("number", "kind", "remedy"),
    [
        (errno.EROFS, JournalError, "mount the file system for writing"),
        (errno.ENOSPC, JournalFull, "make room"),
        (errno.EDQUOT, JournalFull, "make room"),
        (errno.EIO, JournalError, "see to the file and its folder"),
    ],
)
def test_what_the_system_says_otherwise_has_its_remedy(number, kind, remedy, tmp_path):
    path = tmp_path / "firm.db"
    with pytest.raises(kind, match=remedy) as caught, refusals_of(path):
        raise OSError(number, os.strerror(number), str(path))
    assert os.strerror(number) in str(caught.value)
    assert isinstance(caught.value.__cause__, OSError)


def test_a_read_only_file_system_is_a_journal_error(tmp_path, monkeypatch):
    path = tmp_path / "firm.db"
    really = os.open

    def read_only(file: object, flags: int, *args: int, **kwargs: int) -> int:
        if str(file).startswith(str(path)) and flags & (os.O_RDWR | os.O_CREAT):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(file))
        return really(file, flags, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", read_only)
    with pytest.raises(JournalError, match="mount the file system for writing"):
        start(path)


# -- relative paths --------------------------------------------------------------------------------------------


def test_a_relative_path_is_that_of_the_moment_when_the_settings_were_made(tmp_path, monkeypatch):
    """CONTRACT 18: after a change of directory a restart goes on with the same journal."""
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path)
    got: list[object] = []
    bus = EventBus(persistence_config=PersistenceConfig(path="firm.db"))
    bus.subscribe("note", got.append, name="notes")

    async def life(note: Event) -> None:
        async with bus, asyncio.timeout(20):
            await bus.publish(note)
            await bus.join()

    first, second = Event(event_type="note"), Event(event_type="note")
    monkeypatch.chdir(tmp_path / "other")
    asyncio.run(life(first))
    monkeypatch.chdir("/")
    asyncio.run(life(second))
    assert [file.name for file in (tmp_path / "other").iterdir()] == []
    monkeypatch.chdir(tmp_path)
    with EventPersistence(PersistenceConfig(path=Path("firm.db"))) as kept:
        monkeypatch.chdir("/")
        assert kept.path == (tmp_path / "firm.db").resolve()
        assert kept.journal.find(first.event_id)
        assert kept.journal.find(second.event_id)
        assert kept.verify().problems == ()
