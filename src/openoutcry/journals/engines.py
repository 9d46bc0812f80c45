"""SQLite through the standard library or through apsw: the few calls that are made, the same on both."""

import importlib
import os
import sqlite3
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from threading import RLock
from typing import Any, Final, Literal, Protocol
from urllib.parse import quote

from openoutcry.errors import ConfigError, JournalCorrupt, JournalError, JournalLocked
from openoutcry.journals import mapped_files
from openoutcry.journals.mapped_files import HURT, MappedFile
from openoutcry.journals.refusals import check_side_files, refusals_of

EngineName = Literal["auto", "sqlite3", "apsw"]
BUSY_TIMEOUT_MS: Final = 100
LOCK_WAIT_S: Final = 5.0
"""For how long something that is written waits for a lock that another program has on the database."""
_FULL, _CORRUPT, _NOT_A_DATABASE = 13, 11, 26
_DISK: Final = 10
_CANNOT_OPEN: Final = (3, 8, _DISK, 14, 23)
_NO_MAPS: Final = "PRAGMA mmap_size = 0"
"""The database is read, not mapped, whatever the library was built with: see `mapped_files`."""
_BUSY: Final = (5, 6)
_NOT_TEXT: Final = "Could not decode to UTF-8"
"""What the standard library says of text that is none; it gives no code."""
_PAGES_AT_ONCE: Final = 1_024
_UNSYNCED: Final = ("PRAGMA journal_mode = OFF", "PRAGMA synchronous = OFF")
"""For a file that nobody looks for before it is whole: then it is synced once."""

_UNSAFE: Final = ((3, 7, 0), (3, 51, 3))
"""From the first to before the second version two connections that write or checkpoint at once can corrupt
a WAL database."""
_MENDED: Final = {(3, 44): 6, (3, 50): 7}
"""Older release lines that got the correction as well."""


class Connection(Protocol):
    """One connection that begins no transaction by itself.

    Another thread may have a call going on, a checkpoint for instance; calls wait for each other.
    """

    run: Callable[..., Any]
    """Run a statement with some values."""
    execute: Callable[..., Any]
    """The same for one that gives no rows, by a cursor that stays; whoever calls it holds `turn`."""
    turn: RLock
    """What has to be held for `execute`, and for nothing else."""
    run_many: Callable[..., Any]
    """Run a statement once for each of some rows of values."""

    @property
    def error(self) -> type[Exception]:
        """What it raises when SQLite refuses."""
        ...

    index: MappedFile | None
    """The index of the write-ahead log, which SQLite maps; None where it needs none."""

    def rows(self, sql: str, values: Sequence[Any] = ()) -> Generator[Any, None, None]:
        """Yield the rows of a query as tuples."""
        ...

    def copy_into(self, path: Path, tell: Callable[[int, int], None]) -> None:
        """Copy every page into an empty file that nobody else has, and tell (pages copied, all of them).

        Within a transaction it is the file as that sees it, whatever is written meanwhile. Nothing is synced.
        """
        ...

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""
        ...

    def close(self) -> None:
        """Close it."""
        ...


class _OneAtATime:
    """One connection that several threads may use: a call waits until the one before has ended.

    Apsw refuses a call while another thread has one going on. The standard library lets SQLite wait, but
    asks for the reason of an error only afterwards: by then it may be what another thread's call has left,
    an error of no kind, or none.
    """

    def __init__(self, db: Any, error: type[Exception]) -> None:
        self._db = db
        self.error: type[Exception] = error
        self.index: MappedFile | None = None
        self.turn: RLock = RLock()
        self.execute: Callable[..., Any] = db.cursor().execute
        self.run: Callable[..., Any] = self._alone(db.execute)
        self.run_many: Callable[..., Any] = self._alone(db.executemany)
        self.run(_NO_MAPS)

    def _alone(self, call: Callable[..., Any]) -> Callable[..., Any]:
        turn = self.turn

        def call_alone(*values: Any) -> Any:
            with turn:
                return call(*values)

        return call_alone

    def rows(self, sql: str, values: Sequence[Any] = ()) -> Generator[Any, None, None]:
        """Yield the rows of a query as tuples."""
        turn = self.turn
        with turn:
            cursor = self._db.cursor()
        try:
            with turn:
                found = cursor.execute(sql, values)
            while True:
                with turn:
                    row = next(found, None)
                if row is None:
                    _check(self.index)
                    return
                yield row
        except UnicodeDecodeError as problem:  # of a message of SQLite's, which quotes what is damaged
            raise self.error(f"{_NOT_TEXT}: {problem}") from problem
        finally:
            with turn:
                cursor.close()  # an open query would keep the write-ahead log from starting over

    def close(self) -> None:
        """Close it."""
        index, self.index = self.index, None
        try:
            self._db.close()
        finally:
            if index is not None:
                index.release()


class StandardConnection(_OneAtATime):
    """The standard library's sqlite3."""

    def __init__(self, uri: str) -> None:
        db = sqlite3.connect(
            uri,
            uri=True,
            isolation_level=None,
            check_same_thread=False,
            timeout=BUSY_TIMEOUT_MS / 1000,
        )
        super().__init__(db, sqlite3.Error)

    def copy_into(self, path: Path, tell: Callable[[int, int], None]) -> None:
        """Copy every page into an empty file."""

        def check(status: int, left: int, of: int) -> None:
            if status in _BUSY:  # the library would try again for ever
                raise JournalLocked(f"{path} is used by another program; end that, and try again")
            tell(of - left, of)

        with closing(sqlite3.connect(_uri(path, "rw"), uri=True, isolation_level=None)) as target:
            for pragma in _UNSYNCED:
                target.execute(pragma)
            self._db.backup(target, pages=_PAGES_AT_ONCE, progress=check)

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""
        return bool(self._db.in_transaction)


class ApswConnection(_OneAtATime):
    """Apsw, which brings an SQLite of its own, usually a newer one."""

    def __init__(self, uri: str) -> None:
        apsw = importlib.import_module("apsw")
        db = apsw.Connection(
            uri, flags=apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE | apsw.SQLITE_OPEN_URI
        )
        db.set_busy_timeout(BUSY_TIMEOUT_MS)
        super().__init__(db, apsw.Error)

    def copy_into(self, path: Path, tell: Callable[[int, int], None]) -> None:
        """Copy every page into an empty file."""
        apsw = importlib.import_module("apsw")
        flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_URI
        with closing(apsw.Connection(_uri(path, "rw"), flags=flags)) as target:
            for pragma in _UNSYNCED:
                target.execute(pragma)
            with target.backup("main", self._db, "main") as copying:
                while not copying.done:
                    with self.turn:
                        copying.step(_PAGES_AT_ONCE)
                    tell(copying.page_count - copying.remaining, copying.page_count)

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""
        with self.turn:
            return bool(self._db.in_transaction)


def _check(index: MappedFile | None) -> None:
    """Raise `JournalError` if what was read by this index may be less than what is there."""
    if HURT and index is not None and index.hurt:
        raise JournalError(
            f"{index.hurt}; what is read here may be old: close the journal, and open it again"
        )


def choose(engine: EngineName) -> Literal["sqlite3", "apsw"]:
    """Return the engine to use: for `auto`, apsw where it is installed."""
    if engine not in ("auto", "sqlite3", "apsw"):
        raise ConfigError(f"engine = {engine!r}: it is 'auto', 'sqlite3' or 'apsw'")
    if engine == "sqlite3":
        return "sqlite3"
    try:
        importlib.import_module("apsw")
    except ImportError:
        if engine == "apsw":
            raise ConfigError(
                "engine = 'apsw': it is not installed; pip install 'openoutcry[speed]'"
            ) from None
        return "sqlite3"
    return "apsw"


def connect(path: Path, engine: EngineName, mode: Literal["rw", "ro", "ro&immutable=1"]) -> Connection:
    """Connect to a file that exists; `immutable` looks at the file alone, without its write-ahead log.

    Raises `JournalCorrupt` for an empty file beside a write-ahead log: SQLite would delete the log, also
    where it was only to read. Raises `JournalError` for side files that cannot be used.
    """
    if _is_emptied(path):
        raise JournalCorrupt(
            f"{path} is empty, and its write-ahead log is not: put the file back from a copy; "
            f"if the journal is to begin anew, delete {path.name}-wal",
            1,
        )
    maker = ApswConnection if choose(engine) == "apsw" else StandardConnection
    uri = _uri(path, mode)
    if "immutable" in mode:
        return maker(uri)
    with refusals_of(path):
        check_side_files(path, writing=mode == "rw")
        index = mapped_files.hold(Path(f"{path}-shm"), fill=0xFF)
    try:
        db = maker(uri)
    except BaseException:
        index.release()
        raise
    db.index = index
    return db


def connect_to_read(path: Path, engine: EngineName) -> Connection:
    """Connect to a file that exists, for reading alone, also where its folder cannot be written to.

    SQLite needs to make an index there. Where it cannot, and there is no write-ahead log, the file says all.
    """
    db = connect(path, engine, "ro")
    try:
        list(db.rows("PRAGMA schema_version"))
    except db.error as problem:
        if not cannot_open(problem) or _has_log(path):
            return db  # it says the same again to whoever asks next
        db.close()
        return connect(path, engine, "ro&immutable=1")
    except BaseException:
        db.close()
        raise
    return db


def _has_log(path: Path) -> bool:
    try:
        return Path(f"{path}-wal").stat().st_size > 0
    except FileNotFoundError:
        return False
    except OSError:
        return True


def _uri(path: Path, mode: str) -> str:
    return f"file:{quote(os.fsencode(path))}?mode={mode}"


def _is_emptied(path: Path) -> bool:
    try:
        return path.stat().st_size == 0 < Path(f"{path}-wal").stat().st_size
    except OSError:
        return False


def database_errors() -> tuple[type[Exception], ...]:
    """Return the errors of the SQLite libraries that may be in use."""
    if find_spec("apsw") is None:
        return (sqlite3.Error,)
    return (sqlite3.Error, importlib.import_module("apsw").Error)


def sqlite_version(engine: EngineName) -> tuple[int, int, int]:
    """Return the version of the SQLite library behind an engine."""
    if choose(engine) == "apsw":
        text = importlib.import_module("apsw").sqlite_lib_version()
    else:
        text = sqlite3.sqlite_version
    major, minor, patch = map(int, text.split(".")[:3])
    return major, minor, patch


def is_unsafe(version: tuple[int, int, int]) -> bool:
    """Return True if this SQLite can corrupt a database when two connections write or checkpoint at once."""
    mended = _MENDED.get(version[:2])
    return _UNSAFE[0] <= version < _UNSAFE[1] and (mended is None or version[2] < mended)


def _code(problem: BaseException) -> int:
    """SQLite's primary result code, 0 where the problem has none."""
    for name in ("sqlite_errorcode", "extendedresult", "result"):
        code = getattr(problem, name, None)
        if isinstance(code, int):
            return code & 0xFF
    return 0


def is_full(problem: BaseException) -> bool:
    """Return True if SQLite found no room on the disk."""
    return _code(problem) == _FULL


def is_busy(problem: BaseException) -> bool:
    """Return True if another program holds SQLite's own lock."""
    return _code(problem) in _BUSY


def cannot_open(problem: BaseException) -> bool:
    """Return True if SQLite could not have the file, or not make what it needs beside it."""
    return _code(problem) in _CANNOT_OPEN


def is_from_disk(problem: BaseException) -> bool:
    """Return True if the system gave an error when SQLite read or wrote."""
    return _code(problem) == _DISK


def is_corrupt(problem: BaseException) -> bool:
    """Return True if the database's own structure is damaged, or text in it is none any more."""
    return _code(problem) == _CORRUPT or _NOT_TEXT in str(problem)


def is_foreign(problem: BaseException) -> bool:
    """Return True if the file is no SQLite database."""
    return _code(problem) == _NOT_A_DATABASE
