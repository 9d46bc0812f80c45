"""Waits for the disk that a runtime may perform elsewhere than on its loop."""

import os

from openoutcry.journals.engines import Connection

FRAME_BYTES = 4096 + 24


class SyncTask:
    """An `fdatasync` of the write-ahead log.

    Attributes:
        upto: The head when it was begun: what is on the disk if it succeeds.
        performed: Whether it has been.
        problem: What went wrong.

    """

    __slots__ = ("_fd", "performed", "problem", "upto")

    def __init__(self, fd: int, upto: int) -> None:
        self._fd = fd
        self.upto = upto
        self.performed = False
        self.problem: OSError | None = None

    def perform(self) -> None:
        """Wait for the disk, without the interpreter's lock."""
        try:
            os.fdatasync(self._fd)
        except OSError as problem:
            self.problem = problem
        self.performed = True


class CheckpointTask:
    """A checkpoint: the write-ahead log is synced, copied into the database, and may then start over.

    It runs on the connection that writes, because in SQLite before 3.51.3 a second one could corrupt the
    file.

    Attributes:
        upto: The head when it was begun.
        left_bytes: What could not be copied, since a reader is still looking at it.
        problem: What went wrong.

    """

    __slots__ = ("_db", "left_bytes", "problem", "upto")

    def __init__(self, db: Connection, upto: int) -> None:
        self._db = db
        self.upto = upto
        self.left_bytes = 0
        self.problem: Exception | None = None

    def perform(self) -> None:
        """Copy, without the interpreter's lock."""
        try:
            _, frames, copied = next(iter(self._db.rows("PRAGMA wal_checkpoint(PASSIVE)")))
            self.left_bytes = max(0, frames - copied) * FRAME_BYTES
        except self._db.error as problem:
            self.problem = problem
