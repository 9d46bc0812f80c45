"""Bugs to be planted: the same runs must catch each of them, or they prove nothing."""

from typing import NamedTuple

from campaigns.power_loss_work import Bugs
from openoutcry.journals import SqliteJournal
from openoutcry.journals.rows import Row
from openoutcry.journals.steps import SyncStep
from openoutcry.ports import Changes, Step


class NormalCalledDisk(SqliteJournal):
    """Calls a commit under synchronous=NORMAL `disk`: nothing waits for the disk."""

    def begin_sync(self) -> SyncStep:
        """Begin nothing."""
        return _NoSync(self._wal, super().begin_sync().upto)


class _NoSync(SyncStep):
    """A step that does not sync."""

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

    def end_sync(self, step: Step) -> int:
        """Take the second answer."""
        assert isinstance(step, SyncStep), "it was begun here"
        if step.problem is not None:
            step.problem = None
            step.perform()
        return super().end_sync(step)


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
