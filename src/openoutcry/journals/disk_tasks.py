"""Waits for the disk that a runtime may perform elsewhere than on its loop.

A checkpoint that is made beside a runtime has two steps:

1. Commits go on. `BesideTask`, where SQLite can have it: its own checkpoint, on a second connection. What is
   committed meanwhile stays in the log; then SQLite does not sync the database, so the task does. Elsewhere,
   `SyncTask`: the log is synced.
2. `CheckpointTask`, while nobody writes: SQLite's own checkpoint, on the connection that writes. All of the
   log is copied then, and the next commit begins it anew. After a `BesideTask` there is little left to do, so
   it is put off until the log is nearly as long as it may be, or nobody commits.

Whatever gets into the database is put there by SQLite: it syncs the log, copies pages, and syncs the database
before it notes that they were copied. Step 1 leaves step 2 less to wait for, and nothing relies on it.
Who may wait for the disk at the same time as whom is said in `disk_turn`.

SQLite 3.7.0 to 3.51.2 could corrupt a file when two connections write or checkpoint at once.
"""

import os
from collections.abc import Callable

from openoutcry.errors import JournalError
from openoutcry.journals.disk_turn import Turn
from openoutcry.journals.engines import Connection, is_busy, is_full
from openoutcry.journals.standing_files import StandingFiles

FRAME_BYTES = 4096 + 24


class SyncTask:
    """An `fdatasync` of the write-ahead log.

    Attributes:
        excludes_writers: Whether nobody may write while it is performed.
        upto: The head when it was begun: what is on the disk if it succeeds.
        performed: Whether it has been.
        problem: What went wrong, here or before.

    """

    __slots__ = ("_fd", "_turn", "performed", "problem", "upto")

    excludes_writers = False

    def __init__(self, fd: int, upto: int, turn: Turn) -> None:
        self._fd = fd
        self._turn = turn
        self.upto: int = upto
        self.performed: bool = False
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

    It runs on the connection that writes.

    Attributes:
        excludes_writers: Whether nobody may write while it is performed. A write that comes waits.
        upto: The head when it was begun.
        log_bytes: About how much of the log waited to be copied then.
        left_bytes: What could not be copied, since a reader is still looking at it; None if nothing was
            tried, since another program was at a checkpoint.
        problem: What went wrong, here or before.

    """

    __slots__ = ("_db", "_turn", "left_bytes", "log_bytes", "problem", "upto")

    excludes_writers = True

    def __init__(self, db: Connection, upto: int, turn: Turn, log_bytes: int = 0) -> None:
        self._db = db
        self._turn = turn
        self.upto: int = upto
        self.log_bytes: int = log_bytes
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
                frames, copied = self._copy()
        except Exception as problem:  # noqa: BLE001 - that of a sync as well, before
            self.problem = problem
            return
        if frames >= 0:  # else it was another program's turn
            self.left_bytes = max(0, frames - copied) * FRAME_BYTES

    def _copy(self) -> tuple[int, int]:
        """Return how many frames the log has, and how many of them are in the database now."""
        _, frames, copied = next(iter(self._db.rows("PRAGMA wal_checkpoint(PASSIVE)")))
        return frames, copied


class BesideTask(CheckpointTask):
    """A checkpoint on a connection of its own, while commits go on. What was committed since is left out.

    What was copied is synced as well, so that the step that follows has only the rest to wait for.
    """

    __slots__ = ("_connect", "_files")

    excludes_writers = False

    def __init__(
        self,
        connect: Callable[[], Connection],
        files: StandingFiles,
        db: Connection,
        upto: int,
        turn: Turn,
        log_bytes: int,
    ) -> None:
        super().__init__(db, upto, turn, log_bytes)
        self._connect = connect
        self._files = files

    def perform(self) -> None:
        """Copy, without the interpreter's lock. Where there can be no connection, nothing is tried."""
        try:
            self._db = self._connect()
        except (JournalError, OSError, self._db.error):
            return
        try:
            super().perform()
        finally:
            self._db.close()

    def _copy(self) -> tuple[int, int]:
        found = super()._copy()
        self._files.sync_database()
        return found
