"""Every failure to open a journal is a `JournalError` with a remedy, whatever stands at its names (CONTRACT 16)."""

import asyncio
import errno
import fcntl
import os
import resource
import shutil
import socket
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from journal_kit import entry

from openoutcry import EventBus, PersistenceConfig
from openoutcry.cli.app import main as command
from openoutcry.errors import JournalError, JournalFull, JournalLocked, NotAJournal
from openoutcry.journals import EventPersistence, JournalReader, SqliteJournal, recover_into

Way = Callable[[str | Path], object]


def start(path: str | Path) -> None:
    async def life() -> None:
        async with EventBus(persistence_config=PersistenceConfig(path=path, socket=False)):
            pass

    asyncio.run(life())


def read(path: str | Path) -> int:
    with JournalReader(path) as reader:
        return len(reader.read(0, 10))


WRITING: dict[str, Way] = {
    "a bus": start,
    "a journal": lambda path: SqliteJournal(path).close(),
    "a journal by sqlite3": lambda path: SqliteJournal(path, engine="sqlite3").close(),
    "persistence": lambda path: EventPersistence(PersistenceConfig(path=path)).close(),
    "a recovery": lambda path: recover_into(path, f"{path}-new"),
}
WAYS: dict[str, Way] = {**WRITING, "a reader": read}
every_way = pytest.mark.parametrize("way", list(WAYS))
every_writer = pytest.mark.parametrize("way", list(WRITING))
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can do this")


def directory(at: Path) -> None:
    at.mkdir()


def pipe(at: Path) -> None:
    os.mkfifo(at)


def dangling_link(at: Path) -> None:
    at.symlink_to("nowhere/at-all")


def circle(at: Path) -> None:
    at.symlink_to(at)


def hard_link_to_the_journal(at: Path) -> None:
    at.hardlink_to(at.with_name("firm.db"))


def link_to_another_file(at: Path) -> None:
    at.with_name("another").write_bytes(b"precious")
    at.symlink_to(at.with_name("another"))


def unix_socket(at: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(at.parent)  # the name of a socket is at most 107 bytes long
        try:
            server.bind(at.name)
        finally:
            os.chdir(here)


def device(at: Path) -> None:
    os.mknod(at, 0o20600, os.makedev(1, 3))


def garbage(at: Path) -> None:
    at.write_bytes(b"garbage" * 3_000)


KINDS = [
    directory,
    pipe,
    dangling_link,
    circle,
    unix_socket,
    pytest.param(device, marks=as_root),
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "firm.db"
    with SqliteJournal(path) as journal:
        journal.write([entry()])
    return path


@pytest.mark.parametrize("put", [*KINDS, garbage])
@every_way
def test_something_else_than_a_file_at_the_path(
    tmp_path: Path, put: Callable[[Path], None], way: str
) -> None:
    path = tmp_path / "firm.db"
    put(path)
    with pytest.raises(JournalError, match=r"is a|is no|not a journal|does not exist|see that its folder"):
        WAYS[way](path)
    assert os.path.lexists(path)


@pytest.mark.parametrize("put", [*KINDS, link_to_another_file, hard_link_to_the_journal])
@pytest.mark.parametrize("ending", ["-wal", "-shm", "-marks", "-journal"])
@every_way
def test_something_else_than_a_file_beside_it(
    path: Path, ending: str, put: Callable[[Path], None], way: str
) -> None:
    side = Path(f"{path}{ending}")
    side.unlink(missing_ok=True)
    put(side)
    before = path.read_bytes()
    if way == "a reader" and ending == "-marks":
        assert read(path) == 1  # it needs none
        return
    with pytest.raises(JournalError, match=r"move it away|remove the link") as caught:
        WAYS[way](path)
    assert str(side) in str(caught.value)
    assert path.read_bytes() == before
    assert not path.with_name("another").exists() or path.with_name("another").read_bytes() == b"precious"


@pytest.mark.parametrize(
    "name", ["a\nb.db", "a?b.db", "a%41b.db", "a#b.db", "a;b&mode=memory", "ä.db", "\udce4.db"]
)
@every_way
def test_any_name_that_the_system_takes_is_taken(tmp_path: Path, name: str, way: str) -> None:
    path = tmp_path / name
    start(path)
    WAYS[way](path)
    assert {file.name.removeprefix(name) for file in tmp_path.iterdir()} <= {
        "",
        "-marks",
        "-wal",
        "-shm",
        "-new",
        "-new-marks",
    }


@pytest.mark.parametrize("name", ["a\0b.db", "\ud800.db"])
@every_way
def test_a_name_that_is_none_is_refused(tmp_path: Path, name: str, way: str) -> None:
    with pytest.raises(NotAJournal, match=r"cannot be the name of a file.*give it another"):
        WAYS[way](f"{tmp_path}/{name}")
    assert list(tmp_path.iterdir()) == []


def test_an_empty_path_is_refused() -> None:
    for open_it in (SqliteJournal, JournalReader):
        with pytest.raises(NotAJournal, match="name a file"):
            open_it("")


# -- other programs, and limits ---------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["auto", "sqlite3"])
def test_a_database_that_another_program_has_locked(path: Path, engine: str) -> None:
    program = f"""
        import sqlite3, sys
        db = sqlite3.connect({str(path)!r}, isolation_level=None)
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        db.execute("BEGIN EXCLUSIVE")
        print("locked", flush=True)
        sys.stdin.read()
    """
    other = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert other.stdin is not None
    assert other.stdout is not None
    try:
        assert other.stdout.readline() == b"locked\n"
        for open_it in (SqliteJournal, JournalReader):
            with pytest.raises(JournalLocked, match="end its transaction"):
                open_it(path, engine=engine)  # type: ignore[arg-type]
    finally:
        other.stdin.close()
        other.wait(30)
        other.stdout.close()
    assert read(path) == 1


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EIO, errno.EOPNOTSUPP])
@every_writer
def test_a_file_system_without_locks(
    path: Path, number: int, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuses)
    with pytest.raises(JournalError, match=r"cannot be locked: .*local file system") as caught:
        WRITING[way](path)
    assert not isinstance(caught.value, JournalLocked)


def _fill_up() -> list[int]:
    """Open files until no number below the highest that is open is free; return theirs."""
    filled = [os.open(os.devnull, os.O_RDONLY)]
    while filled[-1] < max(int(open_fd.name) for open_fd in Path("/proc/self/fd").iterdir()) - 1:
        filled.append(os.open(os.devnull, os.O_RDONLY))
    return filled


@pytest.mark.parametrize(
    "way", ["a journal", "a journal by sqlite3", "a recovery", "a reader", "persistence"]
)
def test_no_descriptors_are_left_at_any_step(path: Path, way: str) -> None:
    """The journal is none the worse for it: the same call succeeds when there are some."""
    WAYS[way](path)  # what is imported when it is first needed
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    outcomes: list[str] = []
    for spare in range(24):
        Path(f"{path}-new").unlink(missing_ok=True)
        filled = _fill_up()
        resource.setrlimit(resource.RLIMIT_NOFILE, (filled[-1] + 1 + spare, hard))
        try:
            WAYS[way](path)
            outcomes.append("opened")
        except JournalError as error:
            outcomes.append(type(error).__name__)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for fd in filled:
                os.close(fd)
    assert outcomes[0] == "JournalError"
    assert outcomes[-1] == "opened"
    assert set(outcomes) == {"JournalError", "opened"}
    assert read(path) == 1


def test_a_limit_for_the_size_of_files(tmp_path: Path) -> None:
    program = f"""
        import resource
        from openoutcry.errors import JournalError
        from openoutcry.journals import SqliteJournal
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        try:
            SqliteJournal({str(tmp_path / "firm.db")!r})
        except JournalError as error:
            print(error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], check=True, capture_output=True, timeout=60
    )
    assert b"ulimit -f" in done.stdout


# -- mounts -----------------------------------------------------------------------------------------------------


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Mount something; the tests need root, and a machine that lets it."""
    made: list[Path] = []

    def do(*words: str, at: Path | None = None) -> Path:
        at = at or tmp_path / "mounted"
        at.mkdir(exist_ok=True)
        done = subprocess.run(["mount", *words, str(at)], check=False, capture_output=True)
        if done.returncode:
            pytest.skip(f"no mount here: {done.stderr.decode().strip()}")
        made.append(at)
        return at

    yield do
    for at in reversed(made):
        subprocess.run(["umount", "-l", str(at)], check=False)


needs_mounts = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("mount") is None, reason="only root can mount"
)


@needs_mounts
@pytest.mark.parametrize("state", ["closed", "crashed"])
@every_way
def test_a_mount_that_is_read_only(tmp_path: Path, way: str, state: str, mount: Callable[..., Path]) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    path = folder / "firm.db"
    program = f"""
        import os
        from openoutcry.journals import SqliteJournal
        from openoutcry.ports import Entry
        journal = SqliteJournal({str(path)!r})
        journal.write([Entry("x", b'{{"event_id":"x","event_type":"note"}}')])
        journal.close() if {state == "closed"} else os._exit(0)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True, timeout=60)
    mount("--bind", str(folder), at=folder)
    mount("-o", "remount,bind,ro", at=folder)
    if way == "a reader":
        assert read(path) == 1
        assert CliRunner().invoke(command, ["verify", str(path)]).exit_code == 0
        return
    with pytest.raises(JournalError, match="mount the file system for writing"):
        WAYS[way](path)


@needs_mounts
@every_writer
def test_a_file_system_that_is_full(way: str, mount: Callable[..., Path]) -> None:
    folder = mount("-t", "tmpfs", "-o", "size=3m", "openoutcry-test")
    path = folder / "firm.db"
    if way != "a recovery":
        (folder / "rest").write_bytes(bytes(2_900_000))
        with pytest.raises(JournalFull, match="make room"):
            WAYS[way](path)
        (folder / "rest").unlink()
    start(path)
    written = read(path)
    room = os.statvfs(folder)
    (folder / "rest").write_bytes(bytes(room.f_bavail * room.f_frsize))
    with pytest.raises(JournalFull, match="make room"):
        WAYS[way](path)
    assert read(path) == written


# -- commands ---------------------------------------------------------------------------------------------------

VERBS = [
    ["stats"],
    ["verify"],
    ["tail"],
    ["history"],
    ["pending"],
    ["halts"],
    ["status"],
    ["vacuum"],
    ["retire", "--keep-count", "1"],
    ["dlq", "list"],
    ["cursors", "list"],
    ["recover", "--dry-run"],
    ["doctor"],
]


@pytest.mark.parametrize("put", [directory, pipe, circle, garbage])
@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_a_command_says_it_in_words(tmp_path: Path, verb: list[str], put: Callable[[Path], None]) -> None:
    path = tmp_path / "firm.db"
    put(path)
    done = CliRunner().invoke(command, [*verb, str(path)])
    assert done.exit_code in (1, 2)
    assert isinstance(done.exception, SystemExit)
    assert "Error" in done.output or "FAIL" in done.output
    assert "Traceback" not in done.output


@pytest.mark.parametrize("ending", ["-wal", "-shm"])
@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_a_command_says_what_stands_beside_the_journal(path: Path, verb: list[str], ending: str) -> None:
    Path(f"{path}{ending}").mkdir()
    done = CliRunner().invoke(command, [*verb, str(path)])
    assert done.exit_code in (1, 2)
    assert f"{ending} is a directory" in " ".join(done.output.split())


def test_a_plain_sqlite_database_of_another_program_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE t(a)")
    db.close()
    before = path.read_bytes()
    for way in WAYS.values():
        with pytest.raises(NotAJournal, match="of another program"):
            way(path)
    assert path.read_bytes() == before
