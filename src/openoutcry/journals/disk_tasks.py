"""Waits for the disk that a runtime may perform elsewhere than on its loop."""

import os

from openoutcry.journals.disk_turn import Turn
from openoutcry.journals.engines import Connection, is_busy, is_full

FRAME_BYTES = 4096 + 24


class SyncTask:
    """An `fdatasync` of the write-ahead log.

    Attributes:
        upto: The head when it was begun: what is on the disk if it succeeds.
        performed: Whether it has been.
        problem: What went wrong, here or before.

    """

    __slots__ = ("_fd", "_turn", "performed", "problem", "upto")

    def __init__(self, fd: int, upto: int, turn: Turn) -> None:
        self._fd = fd
        self._turn = turn
        self.upto = upto
        self.performed = False
        self.problem: Exception | None = None

    def perform(self) -> None:
        """Wait for the disk, without the interpreter's lock."""
        try:
            with self._turn.taken():
                os.fdatasync(self._fd)
        except Exception as problem:  # noqa: BLE001 - that of SQLite as well, at a checkpoint before
            self.problem = problem
        self.performed = True


class CheckpointTask:
    """A checkpoint: the write-ahead log is synced, copied into the database, and may then start over.

    It runs on the connection that writes, because in SQLite before 3.51.3 a second one could corrupt the
    file.

    Attributes:
        upto: The head when it was begun.
        left_bytes: What could not be copied, since a reader is still looking at it; None if nothing was
            tried, since another program was at a checkpoint.
        problem: What went wrong, here or before.

    """

    __slots__ = ("_db", "_turn", "left_bytes", "problem", "upto")

    def __init__(self, db: Connection, upto: int, turn: Turn) -> None:
        self._db = db
        self._turn = turn
        self.upto = upto
        self.left_bytes: int | None = None
        self.problem: Exception | None = None

    @property
    def hindered(self) -> str:
        """What kept it from copying everything, as `LogState` says it; empty if nothing, or an error did."""
        if self.problem is not None and is_full(self.problem):
            return "room"
        is_late = self.left_bytes != 0 if self.problem is None else is_busy(self.problem)
        return "reader" if is_late else ""

    def perform(self) -> None:
        """Copy, without the interpreter's lock."""
        try:
            with self._turn.taken():
                _, frames, copied = next(iter(self._db.rows("PRAGMA wal_checkpoint(PASSIVE)")))
        except Exception as problem:  # noqa: BLE001 - that of a sync as well, before
            self.problem = problem
            return
        if frames >= 0:  # else it was another program's turn
            self.left_bytes = max(0, frames - copied) * FRAME_BYTES
