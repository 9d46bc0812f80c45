"""Bugs to be planted: the same runs must catch each of them, or they prove nothing."""

from typing import NamedTuple

from campaigns.power_loss_work import Bugs
from openoutcry.journals import SqliteJournal
from openoutcry.journals.disk_tasks import SyncTask
from openoutcry.journals.rows import Row
from openoutcry.ports import Changes, DiskTask


class NormalCalledDisk(SqliteJournal):
    """Calls a commit under synchronous=NORMAL `disk`: nothing waits for the disk."""

    def sync(self) -> int:
        """Say so at once."""
        return self._on_disk(self.head)

    def begin_sync(self) -> SyncTask:
        """Begin nothing."""
        return _NoSync(self._wal, super().begin_sync().upto)


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
            task.problem = None
            task.perform()
        return super().end_sync(task)


class CheckpointWithoutSync(SqliteJournal):
    """Runs SQLite with synchronous=OFF, since it syncs the log itself."""

    def __init__(self, *args: object, **options: object) -> None:
        super().__init__(*args, **options)  # type: ignore[arg-type]
        self._db.run("PRAGMA synchronous = OFF")


class Plant(NamedTuple):
    """A bug to be planted, in the journal or in what uses it."""

    journal: type[SqliteJournal] = SqliteJournal
    bugs: Bugs = Bugs()


HONEST = Plant()
PLANTS = {
    "synchronous=NORMAL called disk": Plant(NormalCalledDisk),
    "acknowledged before the commit": Plant(AckBeforeCommit),
    "a failed sync tried again": Plant(RetriedSync),
    "checkpoints that are not synced": Plant(CheckpointWithoutSync),
    "the cursor saved before the work": Plant(bugs=Bugs(cursor_before_work=True)),
}
