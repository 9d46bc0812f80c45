"""The protocols that the runtime asks of the world around it."""

from collections.abc import MutableSequence, Sequence
from enum import IntEnum
from typing import Protocol, overload, runtime_checkable

import msgspec


@runtime_checkable
class Clock(Protocol):
    """Where time comes from: durations from one reading, labels from the other.

    Both readings are integers of nanoseconds. Subtract only readings of `now_ns`; show or store only
    readings of `wall_ns`, because wall time may jump when the machine's clock is set.
    """

    def now_ns(self) -> int:
        """Nanoseconds on a monotonic clock with an arbitrary zero: never decreases, never jumps."""
        ...

    def wall_ns(self) -> int:
        """Nanoseconds since 1970-01-01T00:00Z, for labels that people read."""
        ...


class Level(IntEnum):
    """How much an entry survives before it is called accepted. The words are the same on every engine."""

    MEMORY = 0
    """Nothing: a journal in memory."""
    PROCESS = 1
    """The end of the process, kill -9 included: the operating system has it."""
    DISK = 2
    """A power cut: the disk has it."""


class Envelope(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, kw_only=True):
    """What a journal can tell of an event without knowing its class.

    The events of openoutcry carry these fields in their own JSON. For users' own classes the envelope stands
    beside the event, and what it names goes before what the event's JSON says under the same name.
    """

    event_id: str | None = None
    event_type: str | None = None
    source_agent: str | None = None
    symbol: str | None = None
    correlation_id: str | None = None
    causation_id: str | None = None
    round_id: str | None = None


class Entry(msgspec.Struct, frozen=True, gc=False):
    """An event on its way into the journal.

    Attributes:
        event_id: Its id. An id that the journal holds already is not written again.
        payload: The event as `encode` wrote it: one JSON object. It is kept byte for byte.
        lane: `control`, `high` or `normal`.
        level: What it must survive before its publisher is told `True`.
        wall_ns: When it was admitted, in nanoseconds since 1970 (a label).
        envelope: Needed for events whose JSON has no `event_id` and `event_type` of its own; None else.

    """

    event_id: str
    payload: bytes
    lane: str = "normal"
    level: Level = Level.PROCESS
    wall_ns: int = 0
    envelope: Envelope | None = None


class Alike(Sequence[Entry]):
    """Entries of the normal lane that differ in nothing but the event: an entry is made when it is asked for.

    A journal may look at the parts instead: of a batch of five hundred, the entries alone would cost what
    writing it costs.

    Attributes:
        ids: The events' ids.
        payloads: The events' JSON.
        level: What all of them must survive.
        wall_ns: When they were admitted, in nanoseconds since 1970.

    """

    __slots__ = ("ids", "level", "payloads", "wall_ns")

    def __init__(self, ids: list[str], payloads: list[bytes], level: Level, wall_ns: int) -> None:
        self.ids = ids
        self.payloads = payloads
        self.level = level
        self.wall_ns = wall_ns

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, index: int) -> Entry: ...
    @overload
    def __getitem__(self, index: slice) -> list[Entry]: ...
    def __getitem__(self, index: int | slice) -> Entry | list[Entry]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self.ids)))]
        return Entry(self.ids[index], self.payloads[index], "normal", self.level, self.wall_ns)


class Stored(msgspec.Struct, frozen=True, gc=False):
    """An event as the journal gives it back, known to the bus or not.

    Attributes:
        position: Its place in the journal: 1, 2, 3 and so on without a hole.
        payload: The event's JSON, byte for byte what was written. `openoutcry.events.decode` reads it.
        lane: `control`, `high` or `normal`.
        level: The level that it was accepted at.
        wall_ns: When it was admitted, in nanoseconds since 1970.
        envelope: What stands beside the event, for users' own classes.

    """

    position: int
    payload: bytes
    lane: str
    level: Level
    wall_ns: int
    envelope: Envelope | None = None

    def head(self) -> Envelope:
        """Return who, what and why, read off the JSON (a third of a microsecond) and the envelope."""
        try:
            own = _read_head(self.payload)
        except msgspec.ValidationError:  # a user's own class, whose `symbol` may be a number
            data = msgspec.json.decode(self.payload)
            own = Envelope(
                **{n: v for n in Envelope.__struct_fields__ if isinstance(v := data.get(n), str)}
            )
        beside = self.envelope
        if beside is None:
            return own
        names = Envelope.__struct_fields__
        return Envelope(**{n: v if (v := getattr(beside, n)) is not None else getattr(own, n) for n in names})


_read_head = msgspec.json.Decoder(Envelope, strict=False).decode


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which entries a reader wants: those that meet every condition that is given.

    Attributes:
        types: Event types, any of them.
        agent: The source agent.
        symbol: The event's symbol.
        correlation_id: The chain that it belongs to.
        since_ns: Admitted at this instant (nanoseconds since 1970) or later.
        until_ns: Admitted before this instant.

    """

    types: frozenset[str] | None = None
    agent: str | None = None
    symbol: str | None = None
    correlation_id: str | None = None
    since_ns: int | None = None
    until_ns: int | None = None


class CursorState(msgspec.Struct, frozen=True, kw_only=True):
    """How far a subscription has settled one lane of the journal.

    Attributes:
        subscription: The subscription's name.
        lane: The lane.
        floor: Every position up to and including this one is settled.
        settled: The stretches settled above the floor, as (first, last), ascending.
        takes: The event types that it takes, so that what waits can be counted without its code.

    """

    subscription: str
    lane: str
    floor: int
    settled: tuple[tuple[int, int], ...] = ()
    takes: tuple[str, ...] = ()


class BuriedEvent(msgspec.Struct, frozen=True, kw_only=True):
    """A dead letter as the journal keeps it, with the event itself, so that retention cannot take it away.

    Attributes:
        letter_id: Its id. 0 lets the journal choose one when it is written.
        subscription: The subscription that could not handle the event.
        lane: The lane that it waited in.
        position: The event's position.
        payload: The event's JSON.
        reason: `failed`, `timed out`, `stalled` or `quarantined`.
        error: The last error as text.
        traceback: The last error's traceback as text.
        attempts: How often it was tried.
        wall_ns: When it was buried, in nanoseconds since 1970.

    """

    subscription: str
    lane: str
    position: int
    payload: bytes
    reason: str
    error: str = ""
    traceback: str = ""
    attempts: int = 1
    wall_ns: int = 0
    letter_id: int = 0


class Suspect(msgspec.Struct, frozen=True):
    """An event that was being handled when the process died, and may be why.

    Attributes:
        subscription: The subscription that handled it.
        lane: The lane that it came from.
        position: The event's position.
        crashes: How often the process has died with it in hand.

    """

    subscription: str
    lane: str
    position: int
    crashes: int


class Changes(msgspec.Struct, frozen=True, kw_only=True):
    """What is saved together with entries, or by itself, in one commit.

    Attributes:
        cursors: Cursors to save, each in place of the one of the same subscription and lane.
        dropped_cursors: Cursors to forget, as (subscription, lane).
        buried: New dead letters.
        exhumed: Ids of dead letters to forget.
        cleared: Suspects that are settled or buried, as (subscription, lane, position).

    """

    cursors: Sequence[CursorState] = ()
    dropped_cursors: Sequence[tuple[str, str]] = ()
    buried: Sequence[BuriedEvent] = ()
    exhumed: Sequence[int] = ()
    cleared: Sequence[tuple[str, str, int]] = ()


class Duplicate(msgspec.Struct, frozen=True):
    """An entry that was not written, because the journal holds its event id.

    Attributes:
        index: Its index among the entries of the call.
        position: Where the journal holds the id.
        same: Whether the content is the same, timestamps aside. If not, two events share an id: report it.

    """

    index: int
    position: int
    same: bool


class Written(msgspec.Struct, frozen=True):
    """What a write has done.

    Attributes:
        positions: The position of every entry of the call; of a duplicate, that of the first of its id.
        duplicates: The entries that were not written, since their ids were there.
        wants_sync: Whether some entry asked for `disk` and is not there yet: sync before saying `True`.

    """

    positions: Sequence[int]
    duplicates: tuple[Duplicate, ...] = ()
    wants_sync: bool = False


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
        """See that what is written still goes where it went; raise `JournalDead` if not. Cheap, but not free."""
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
