"""SQLite through the standard library or through apsw: the few calls that are made, the same on both."""

import importlib
import sqlite3
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from threading import Lock
from typing import Any, Final, Literal, Protocol
from urllib.parse import quote

from openoutcry.errors import ConfigError, JournalCorrupt

EngineName = Literal["auto", "sqlite3", "apsw"]
BUSY_TIMEOUT_MS: Final = 100
LOCK_WAIT_S: Final = 5.0
"""For how long something that is written waits for a lock that another program has on the database."""
_FULL, _CORRUPT, _NOT_A_DATABASE = 13, 11, 26
_BUSY: Final = (5, 6)
_NOT_TEXT: Final = "Could not decode to UTF-8"
"""What the standard library says of text that is none; it gives no code."""

SafeFrom = tuple[int, int, int]
UNSAFE_UNTIL: Final[SafeFrom] = (3, 51, 3)
"""Before this version two connections that write or checkpoint at once can corrupt a WAL database."""


class Connection(Protocol):
    """One connection that begins no transaction by itself.

    Another thread may have a call going on, a checkpoint for instance; calls wait for each other.
    """

    run: Callable[..., Any]
    """Run a statement with some values."""
    execute: Callable[..., Any]
    """The same by the engine itself, for whoever holds `turn`: a call less where it counts."""
    turn: Lock
    """What has to be held for `execute`, and for nothing else."""
    run_many: Callable[..., Any]
    """Run a statement once for each of some rows of values."""

    @property
    def error(self) -> type[Exception]:
        """What it raises when SQLite refuses."""
        ...

    def rows(self, sql: str, values: Sequence[Any] = ()) -> Generator[Any, None, None]:
        """Yield the rows of a query as tuples."""
        ...

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""
        ...

    def close(self) -> None:
        """Close it."""
        ...


class StandardConnection:
    """The standard library's sqlite3."""

    def __init__(self, uri: str) -> None:
        self._db = sqlite3.connect(
            uri,
            uri=True,
            isolation_level=None,
            check_same_thread=False,
            timeout=BUSY_TIMEOUT_MS / 1000,
        )
        self.error: type[Exception] = sqlite3.Error
        self.turn = Lock()  # nobody else takes it: the library waits by itself
        self.execute: Callable[..., Any] = self._db.execute
        self.run: Callable[..., Any] = self._db.execute
        self.run_many: Callable[..., Any] = self._db.executemany

    def rows(self, sql: str, values: Sequence[Any] = ()) -> Generator[Any, None, None]:
        """Yield the rows of a query as tuples."""
        try:
            cursor = self._db.execute(sql, values)
        except UnicodeDecodeError as problem:  # of a message of SQLite's, which quotes what is damaged
            raise self.error(f"{_NOT_TEXT}: {problem}") from problem
        try:
            yield from cursor
        finally:
            cursor.close()  # an open query would keep the write-ahead log from starting over

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""
        return self._db.in_transaction

    def close(self) -> None:
        """Close it."""
        self._db.close()


class ApswConnection:
    """Apsw, which brings an SQLite of its own, usually a newer one.

    It refuses a call while another thread has one going on. The standard library waits, and so does this.
    """

    def __init__(self, uri: str) -> None:
        apsw = importlib.import_module("apsw")
        self.error: type[Exception] = apsw.Error
        self._db = apsw.Connection(
            uri, flags=apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE | apsw.SQLITE_OPEN_URI
        )
        self._db.set_busy_timeout(BUSY_TIMEOUT_MS)
        self.turn = Lock()
        self.execute: Callable[..., Any] = self._db.execute
        self.run: Callable[..., Any] = self._alone(self._db.execute)
        self.run_many: Callable[..., Any] = self._alone(self._db.executemany)

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
                    return
                yield row
        except UnicodeDecodeError as problem:
            raise self.error(f"{_NOT_TEXT}: {problem}") from problem
        finally:
            with turn:
                cursor.close()

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""
        with self.turn:
            return bool(self._db.in_transaction)

    def close(self) -> None:
        """Close it."""
        self._db.close()


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
    where it was only to read.
    """
    if _is_emptied(path):
        raise JournalCorrupt(
            f"{path} is empty, and its write-ahead log is not: put the file back from a copy; "
            f"if the journal is to begin anew, delete {path.name}-wal",
            1,
        )
    uri = f"file:{quote(str(path))}?mode={mode}"
    if choose(engine) == "apsw":
        return ApswConnection(uri)
    return StandardConnection(uri)


def _is_emptied(path: Path) -> bool:
    try:
        return path.stat().st_size == 0 < Path(f"{path}-wal").stat().st_size
    except OSError:
        return False


def sqlite_version(engine: EngineName) -> tuple[int, int, int]:
    """Return the version of the SQLite library behind an engine."""
    if choose(engine) == "apsw":
        text = importlib.import_module("apsw").sqlite_lib_version()
    else:
        text = sqlite3.sqlite_version
    major, minor, patch = map(int, text.split(".")[:3])
    return major, minor, patch


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


def is_corrupt(problem: BaseException) -> bool:
    """Return True if the database's own structure is damaged, or text in it is none any more."""
    return _code(problem) == _CORRUPT or _NOT_TEXT in str(problem)


def is_foreign(problem: BaseException) -> bool:
    """Return True if the file is no SQLite database."""
    return _code(problem) == _NOT_A_DATABASE
