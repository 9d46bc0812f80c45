"""Bugs to be planted: the same runs must catch each of them, or they prove nothing."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from campaigns.power_loss_work import Bugs
from openoutcry.journals import SqliteJournal, marks, opening
from openoutcry.journals.disk_tasks import SyncTask
from openoutcry.journals.disk_turn import Turn
from openoutcry.journals.engines import Connection
from openoutcry.journals.power_cuts import PowerCut
from openoutcry.journals.rows import Row
from openoutcry.ports import Changes, DiskTask


class NormalCalledDisk(SqliteJournal):
    """Calls a commit under synchronous=NORMAL `disk`: nothing waits for the disk."""

    def sync(self) -> int:
        """Say so at once."""
        return self._on_disk(self.head)

    def begin_sync(self) -> SyncTask:
        """Begin nothing."""
        return _NoSync(self._wal, super().begin_sync().upto, self._turn)


class _NoSync(SyncTask):
    """A task that does not sync."""

    def perform(self) -> None:
        self.performed = True


class AckBeforeCommit(SqliteJournal):
    """Says that a write is done, and commits it with the next one."""

    _late: tuple[Row | None, Changes | None, str | None] | None = None

    def _commit(self, row: Row | None, changes: Changes | None, stems: str | None = None) -> None:
        late, self._late = self._late, (row, changes, stems)
        head, checksum = self.head, self._checksum
        if late is not None:
            super()._commit(*late)
        self.head, self._checksum = (head, checksum) if row is None else (row.last, row.checksum)


class RetriedSync(SqliteJournal):
    """Tries a failed sync again, and takes the second answer."""

    def sync(self) -> int:
        """Sync as if a thread had done it."""
        task = self.begin_sync()
        task.perform()
        return self.end_sync(task)

    def end_sync(self, task: DiskTask) -> int:
        """Take the second answer."""
        assert isinstance(task, SyncTask), "it was begun here"
        if task.problem is not None:
            task.problem = self._turn.problem = None
            task.perform()
        return super().end_sync(task)


class CheckpointWithoutSync(SqliteJournal):
    """Runs SQLite with synchronous=OFF, since it syncs the log itself."""

    def __init__(self, *args: object, **options: object) -> None:
        super().__init__(*args, **options)  # type: ignore[arg-type]
        self._db.run("PRAGMA synchronous = OFF")


class BesideWithoutSync(SqliteJournal):
    """Runs SQLite with synchronous=OFF where it copies beside commits."""

    def _connect_beside(self) -> Connection:
        db = super()._connect_beside()
        db.run("PRAGMA synchronous = OFF")
        return db


class Together(SqliteJournal):
    """Lets syncs and checkpoints run at the same time, and one go on after an error of the other."""

    def __init__(self, *args: object, **options: object) -> None:
        super().__init__(*args, **options)  # type: ignore[arg-type]
        self._turn = _NoTurn(lambda: None)


class _NoTurn(Turn):
    """Everybody's turn, always."""

    is_taken = False

    @contextmanager
    def taken(self) -> Iterator[None]:
        yield


class Plant(NamedTuple):
    """A bug to be planted, in the journal, in what uses it, or in place of a function."""

    journal: type[SqliteJournal] = SqliteJournal
    bugs: Bugs = Bugs()
    instead: tuple[Any, str, Any] | None = None

    @contextmanager
    def patched(self) -> Iterator[None]:
        """Have the bug in place meanwhile."""
        if self.instead is None:
            yield
            return
        where, name, other = self.instead
        real = getattr(where, name)
        setattr(where, name, other)
        try:
            yield
        finally:
            setattr(where, name, real)


HONEST = Plant()
PLANTS = {
    "synchronous=NORMAL called disk": Plant(NormalCalledDisk),
    "acknowledged before the commit": Plant(AckBeforeCommit),
    "a failed sync tried again": Plant(RetriedSync),
    "checkpoints that are not synced": Plant(CheckpointWithoutSync),
    "checkpoints beside commits that are not synced": Plant(BesideWithoutSync),
    "a sync and a checkpoint at once": Plant(Together),
    "the log is not written again": Plant(instead=(opening, "_write_log_again", lambda _: None)),
    "marks believed without their checksum": Plant(instead=(marks, "crc32", lambda *_: 0)),
    "what a power cut took told again": Plant(instead=(PowerCut, "is_told", lambda *_: False)),
    "the cursor saved before the work": Plant(bugs=Bugs(cursor_before_work=True)),
}
