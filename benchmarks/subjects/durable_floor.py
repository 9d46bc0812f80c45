"""The least that a durable bus can do on this disk: bare SQLite, and a bare sync."""

import os
import sqlite3
from pathlib import Path

_LOG_PAGES = 64 * 1024 * 1024 // 4096


class BareSqlite:
    """One blob per batch into a table in WAL mode: synchronous FULL for `disk`, NORMAL for `process`.

    Its write-ahead log is bounded at 64 MB, as the bus's is: a floor that never took a checkpoint would
    measure the page cache, and no disk.
    """

    def __init__(self, folder: Path, level: str) -> None:
        self._db = sqlite3.connect(folder / "bare.db", isolation_level=None)
        synchronous = "FULL" if level == "disk" else "NORMAL"
        for pragma in ("journal_mode=WAL", f"synchronous={synchronous}", f"wal_autocheckpoint={_LOG_PAGES}"):
            self._db.execute(f"PRAGMA {pragma}")
        self._db.execute("CREATE TABLE batches(first INTEGER PRIMARY KEY, entries BLOB)")
        self._next = 0

    def put(self, blob: bytes) -> None:
        self._next += 1
        self._db.execute("INSERT INTO batches VALUES(?, ?)", (self._next, blob))

    def close(self) -> None:
        self._db.close()


class BareSync:
    """4 KiB appended to a file, and an fdatasync."""

    _BLOCK = b"x" * 4096

    def __init__(self, folder: Path) -> None:
        self._fd = os.open(folder / "bare.bin", os.O_CREAT | os.O_WRONLY | os.O_APPEND)

    def put(self, blob: bytes) -> None:
        os.write(self._fd, self._BLOCK)
        os.fdatasync(self._fd)

    def close(self) -> None:
        os.close(self._fd)
