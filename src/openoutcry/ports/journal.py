"""The journal, as the runtime asks for it."""

from collections.abc import MutableSequence, Sequence
from typing import Protocol

from openoutcry.ports.records import (
    BuriedEvent,
    Changes,
    CursorState,
    Entry,
    Filter,
    Stored,
    Suspect,
    Written,
)


class Step(Protocol):
    """Waiting for the disk, in three steps: begun on the loop, performed anywhere, ended on the loop."""

    def perform(self) -> None:
        """Wait; from any thread. Never raises: what went wrong is kept for the end of the step."""
        ...


class Marks(Protocol):
    """What is in flight, kept where SIGKILL does not reach it.

    `cells[claim(...)] = position` marks a call as begun, `cells[...] = 0` as over. Neither is a call or a
    commit. The suspects of the next opening are the cells that were not 0.
    """

    @property
    def cells(self) -> MutableSequence[int] | memoryview:
        """The cells, by the index that `claim` gave."""
        ...

    def claim(self, subscription: str, lane: str) -> int:
        """Return the index of a cell for calls of this subscription, one at a time. Raises `ConfigError`."""
        ...

    def release(self, cell: int) -> None:
        """Give a cell back."""
        ...


class Journal(Protocol):
    """The log that everything durable is an entry of, and the cursors on it.

    A journal belongs to one thread at a time, and its calls are plain: they return when the work is done.
    Those that write raise `JournalDead` once a sync or write has failed, `JournalFull` when the disk has no
    room, `JournalLocked` when a stranger holds the file; then nothing of the call has been written.
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
    def marks(self) -> Marks:
        """What is in flight."""
        ...

    def write(self, entries: Sequence[Entry], changes: Changes | None = None) -> Written:
        """Write entries and changes in one commit, which survives the process when this returns."""
        ...

    def sync(self) -> int:
        """Put everything that has been written on the disk, and return its last position."""
        ...

    def begin_sync(self) -> Step:
        """Begin a sync of all that has been written, to be performed elsewhere and ended here."""
        ...

    def end_sync(self, step: Step) -> int:
        """Note a performed sync, and return the position up to which all is on the disk."""
        ...

    def look_after(self) -> None:
        """See that what is written goes where it went; raise `JournalDead` if not. Cheap, not free."""
        ...

    def begin_checkpoint(self) -> Step | None:
        """Begin tidying up the write-ahead log, to be performed elsewhere; None when it is not worth it yet.

        A write that comes in between waits for it, so hold writes back until it has been performed.
        """
        ...

    def end_checkpoint(self, step: Step) -> None:
        """Note a performed checkpoint."""
        ...

    def read(self, after: int, limit: int, where: Filter | None = None) -> list[Stored]:
        """Return the next `limit` entries behind position `after`, in order. Fewer: there are no more."""
        ...

    def read_urgent(self, after: int, limit: int) -> list[Stored]:
        """Return the next `limit` entries of the lanes `control` and `high` behind `after`, in order.

        It costs what these cost, and what was written in one commit with them, however many others there are.
        """
        ...

    def tail(self, limit: int, where: Filter | None = None) -> list[Stored]:
        """Return the newest `limit` entries, oldest first."""
        ...

    def find(self, event_id: str) -> int | None:
        """Return the position of the entry with this id, or None when it is not kept."""
        ...

    def cursors(self) -> list[CursorState]:
        """Return every saved cursor, ordered by subscription and lane."""
        ...

    def buried(self, subscription: str | None = None) -> list[BuriedEvent]:
        """Return the dead letters, oldest first."""
        ...

    def suspects(self) -> list[Suspect]:
        """Return what was in flight when a process died, and has not been cleared since."""
        ...

    def retire(
        self,
        *,
        older_than_ns: int | None = None,
        keep_count: int | None = None,
        keep_bytes: int | None = None,
        past_cursors: bool = False,
    ) -> int:
        """Forget old entries in whole batches, and return how many; a bounded piece per call, 0 at the end.

        Retired is what was admitted before `older_than_ns`, and what is more than `keep_count` entries or
        `keep_bytes` bytes. No entry that a cursor has not settled is retired, unless `past_cursors`.
        """
        ...

    def idle(self) -> bool:
        """Do a small piece of deferred work, a few milliseconds, and tell whether there is more."""
        ...

    def close(self) -> None:
        """Sync, and let go of the file. Harmless when done twice."""
        ...
