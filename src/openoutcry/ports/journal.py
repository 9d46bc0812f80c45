"""The journal, as the runtime asks for it.

`Journal` is all that a bus needs. `FileJournal` adds what a journal in a file needs done beside its writes.
"""

from collections.abc import Collection, MutableSequence, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from openoutcry.core.halts import Halt
from openoutcry.ports.records import (
    BuriedEvent,
    Changes,
    CursorState,
    Entry,
    Filter,
    Holder,
    LogState,
    Snapshot,
    Stored,
    Suspect,
    Written,
)


class DiskTask(Protocol):
    """A wait for the disk: begun on the loop, performed on any thread, ended on the loop."""

    def perform(self) -> None:
        """Wait. Never raises: an error is kept until the task is ended."""
        ...


class CheckpointStep(DiskTask, Protocol):
    """A step of a checkpoint."""

    @property
    def excludes_writers(self) -> bool:
        """Whether nothing may be written while it is performed. A write that comes nevertheless waits."""
        ...


class Marks(Protocol):
    """What is in flight, kept where SIGKILL does not reach it.

    `cells[claim(...)] = position` marks a call as begun, `cells[...] = 0` as over. Neither is a call or a
    commit. The suspects of the next opening are the cells that were not 0.
    """

    @property
    def cells(self) -> MutableSequence[int] | memoryview:
        """The cells, by the index that `claim` returned."""
        ...

    def claim(self, subscription: str, lane: str) -> int:
        """Return the index of a cell for calls of this subscription, one at a time. Raises `ConfigError`."""
        ...

    def release(self, cell: int) -> None:
        """Give a cell back."""
        ...


class Journal(Protocol):
    """The log that holds every durable event, and the cursors on it.

    A journal belongs to one thread at a time, and its calls are plain: they return when the work is done.
    Those that write raise `JournalDead` once a sync or write has failed, `JournalFull` when the disk has no
    room, and `JournalLocked` when another program holds the file; then nothing of the call was written.
    """

    @property
    def head(self) -> int:
        """The position of the newest entry, 0 before the first."""
        ...

    @property
    def first(self) -> int:
        """The oldest position that is kept: older ones are retired."""
        ...

    @property
    def synced(self) -> int:
        """Every entry up to and including this position is on the disk."""
        ...

    @property
    def origin(self) -> str:
        """A random name that a new journal gets, and every copy of it keeps; empty for one that has none.

        Ids that handlers derive from the events of this journal are derived from it as well.
        """
        ...

    @property
    def marks(self) -> Marks:
        """What is in flight."""
        ...

    def write(self, entries: Sequence[Entry], changes: Changes | None = None) -> Written:
        """Write entries and changes in one commit, which survives the process when this returns."""
        ...

    def sync(self) -> int:
        """Put everything that was written on the disk, and return its last position."""
        ...

    def begin_sync(self) -> DiskTask:
        """Begin a sync of everything written so far; perform it on any thread, then call `end_sync`."""
        ...

    def end_sync(self, task: DiskTask) -> int:
        """Note a performed sync, and return the position up to which everything is on the disk."""
        ...

    def read(self, after: int, limit: int, where: Filter | None = None) -> list[Stored]:
        """Return the next `limit` entries behind position `after`, in order. Fewer: there are no more."""
        ...

    def read_urgent(self, after: int, limit: int) -> list[Stored]:
        """Return the next `limit` entries of the lanes `control` and `high` behind `after`, in order.

        The cost is that of these entries and of what was written in one commit with them, however many others
        there are.
        """
        ...

    def tail(self, limit: int, where: Filter | None = None) -> list[Stored]:
        """Return the newest `limit` entries, oldest first."""
        ...

    def find(self, event_id: str) -> int | None:
        """Return the position of the entry with this id, or None if it is not kept."""
        ...

    def cursors(self) -> list[CursorState]:
        """Return every saved cursor, ordered by subscription and lane."""
        ...

    def buried(
        self, subscription: str | None = None, after: int = 0, limit: int | None = None
    ) -> list[BuriedEvent]:
        """Return the dead letters, or those of one name, by their ids: the next `limit` behind `after`."""
        ...

    def last_letter_id(self) -> int:
        """Return the highest id that a dead letter has ever had here, 0 at first: none is given twice."""
        ...

    def suspects(self) -> list[Suspect]:
        """Return what was in flight when a process died, and has not been cleared since."""
        ...

    def halts(self) -> list[Halt]:
        """Return the active kill switches by scope and id. Retention does not touch them."""
        ...

    def snapshot(self, subscription: str) -> Snapshot | None:
        """Return where the memory of a subscription begins, or None if that was never written.

        Raises `JournalCorrupt` if it is damaged.
        """
        ...

    def snapshots(self) -> list[Snapshot]:
        """Return all of these by subscription, without their states: these may be large, and are not read."""
        ...

    def snapshot_sizes(self) -> dict[str, int]:
        """Return how many bytes the states have, by subscription."""
        ...

    def tombstones(self, subscription: str) -> list[int]:
        """Return the positions that a subscription has settled and will never handle, ascending."""
        ...

    def retire(
        self,
        *,
        older_than_ns: int | None = None,
        keep_count: int | None = None,
        keep_bytes: int | None = None,
        past_cursors: bool = False,
        past_memory: Collection[str] = (),
    ) -> int:
        """Forget old entries in whole batches, and return how many; a bounded piece per call, 0 at the end.

        What was admitted before `older_than_ns` is retired, and what is more than `keep_count` entries or
        `keep_bytes` bytes. No entry that a cursor has not settled is retired, unless `past_cursors`; and none
        that the memory of a subscription is rebuilt from, unless its name is in `past_memory`.
        """
        ...

    def held_by(self) -> list[Holder]:
        """Return what keeps retention from going on, the lowest position first; one per name and reason."""
        ...

    def close(self) -> None:
        """Sync, and let go of what is open. Harmless when done twice."""
        ...


@runtime_checkable
class FileJournal(Journal, Protocol):
    """A journal in a file: a bus looks after the file while it runs, and tidies it up in idle moments."""

    @property
    def path(self) -> Path:
        """The file."""
        ...

    def read(
        self, after: int, limit: int, where: Filter | None = None, *, bytes_max: int | None = None
    ) -> list[Stored]:
        """As `Journal.read`; with `bytes_max`, no further batch once the payloads have so many bytes."""
        ...

    @property
    def unsynced_lost(self) -> int:
        """How many entries at `process` a power cut before this opening took, at least."""
        ...

    @property
    def power_cut(self) -> object | None:
        """What the last power cut that cost something took, as `str` says it; None if none has."""
        ...

    def begin_marks_sync(self) -> DiskTask:
        """Begin to put the marks on the disk, so that a power cut can be counted; perform it anywhere."""
        ...

    def end_marks_sync(self, task: DiskTask) -> None:
        """Note a performed sync of the marks. Any error of it is final, as of every sync."""
        ...

    def wait_for_locks(self, wait_s: float) -> None:
        """Set for how long, in seconds, a call waits for a lock that another program has on the file.

        With 0 it raises `JournalLocked` at once: a bus puts the commit off, and tries again.
        """
        ...

    def lock_holder(self) -> int | None:
        """Return the process that has locked the file; None if that cannot be known. On any thread."""
        ...

    def look_after(self, *, thoroughly: bool = False) -> None:
        """Raise `JournalDead` if the files were removed, replaced or truncated. Cheap, not free.

        `thoroughly` is asked for about once a second, and may take longer.
        """
        ...

    @property
    def log_state(self) -> LogState:
        """How long the write-ahead log is, and what hindered the last checkpoint."""
        ...

    def make_checkpoints(self, *, inline: bool) -> None:
        """Leave checkpoints of the write-ahead log to `begin_checkpoint`, or make them within writes."""
        ...

    @property
    def is_log_due(self) -> bool:
        """Whether a checkpoint must not wait for an idle moment, or writes must wait for the one begun."""
        ...

    def begin_checkpoint(self, *, restarts: bool = ...) -> CheckpointStep | None:
        """Begin a checkpoint of the write-ahead log; None if it is not worth it yet.

        `restarts`: so that the log can start over, for which writers wait; else that may be put off.
        Perform the step on any thread, then call `end_checkpoint`, which returns the next one.
        """
        ...

    def end_checkpoint(self, step: CheckpointStep) -> CheckpointStep | None:
        """Note a performed step of a checkpoint, and return the next one; None after the last."""
        ...

    def idle(self) -> bool:
        """Do a small piece of deferred work, a few milliseconds; return True if there is more."""
        ...

    def vacuum(self, pages: int = ...) -> int:
        """Give free pages back to the disk, some per call; return how many are left."""
        ...
