"""What goes into a journal, and what it gives back."""

from collections.abc import Sequence
from enum import IntEnum
from typing import Any, NamedTuple, overload

import msgspec

from openoutcry.core.halts import Halt
from openoutcry.errors import ConfigError, JournalError


class Level(IntEnum):
    """How much an entry survives before it is called accepted. The words are the same on every engine."""

    MEMORY = 0
    """Nothing: a journal in memory. In a journal, an entry that is there *beside*: delivered from memory, and
    recorded. No cursor waits for it, and its id is not remembered."""
    PROCESS = 1
    """The end of the process, kill -9 included: the operating system has it."""
    DISK = 2
    """A power cut: the disk has it."""
    REPLICATED = 3
    """The loss of this host: the engine that joins the desks has it on several nodes' disks. Journals do not
    know it: there it is `process`."""


_LEVELS = {level.name.lower(): level for level in Level}


def level_named(word: str) -> Level:
    """Return a level by its word. Raises `ConfigError` for anything else."""
    found = _LEVELS.get(word) if isinstance(word, str) else None
    if found is None:
        raise ConfigError(f"level is {word!r}; it must be one of {', '.join(_LEVELS)}")
    return found


class Header(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, kw_only=True):
    """What a journal knows of an event without knowing its class.

    The events of openoutcry carry these fields in their own JSON. For users' own classes the header stands
    beside the event, and goes before what the event's JSON says under the same name.
    """

    event_id: str | None = None
    event_type: str | None = None
    source_agent: str | None = None
    symbol: str | None = None
    correlation_id: str | None = None
    causation_id: str | None = None
    round_id: str | None = None
    desk: str | None = msgspec.field(name="(desk)", default=None)
    """Which desk has made it; None: this one. It stands beside the event alone, as the next does."""
    votes: bool | None = msgspec.field(name="(votes)", default=None)
    """True: it answers the round that it names, on the desk that has opened that."""


class Entry(msgspec.Struct, frozen=True, gc=False):
    """An event on its way into the journal.

    Those at the level `memory`, which are there *beside*, are written in calls of their own.

    Attributes:
        event_id: Its id. An id that the journal holds already is not written again.
        payload: The event as `encode` wrote it: one JSON object. It is kept byte for byte.
        lane: `control`, `high` or `normal`.
        level: What it must survive before `publish` returns True.
        wall_ns: When it was admitted, in nanoseconds since 1970 (a label).
        header: Needed for events whose JSON has no `event_id` and `event_type` of its own; None else.

    """

    event_id: str
    payload: bytes
    lane: str = "normal"
    level: Level = Level.PROCESS
    wall_ns: int = 0
    header: Header | None = None


class Alike(Sequence[Entry]):
    """Entries of the normal lane that differ in nothing but the event; each is made when it is asked for.

    A journal may use the parts instead: making the entries of a batch of five hundred costs as much as
    writing it.

    Attributes:
        ids: The events' ids.
        payloads: The events' JSON.
        level: What all of them must survive.
        wall_ns: When they were admitted, in nanoseconds since 1970.

    """

    __slots__ = ("ids", "level", "payloads", "wall_ns")

    def __init__(self, ids: list[str], payloads: list[bytes], level: Level, wall_ns: int) -> None:
        self.ids: list[str] = ids
        self.payloads: list[bytes] = payloads
        self.level: Level = level
        self.wall_ns: int = wall_ns

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


class Carried(Sequence[Entry]):
    """Entries of the normal lane that another desk has made, in parts as `Alike`: they have one header.

    Attributes:
        ids: The events' ids.
        payloads: The events' JSON.
        levels: What each must survive: `PROCESS` or `DISK`.
        walls_ns: When each was admitted there, in nanoseconds since 1970.
        header: What stands beside every one of them.

    """

    __slots__ = ("header", "ids", "levels", "payloads", "walls_ns")

    def __init__(
        self,
        ids: list[str],
        payloads: list[bytes],
        levels: list[Level],
        walls_ns: list[int],
        header: Header,
    ) -> None:
        self.ids: list[str] = ids
        self.payloads: list[bytes] = payloads
        self.levels: list[Level] = levels
        self.walls_ns: list[int] = walls_ns
        self.header: Header = header

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, index: int) -> Entry: ...
    @overload
    def __getitem__(self, index: slice) -> "Carried": ...
    def __getitem__(self, index: int | slice) -> "Entry | Carried":
        ids, payloads = self.ids[index], self.payloads[index]
        levels, walls_ns = self.levels[index], self.walls_ns[index]
        if isinstance(index, slice):
            return Carried(ids, payloads, levels, walls_ns, self.header)  # type: ignore[arg-type]
        return Entry(ids, payloads, "normal", levels, walls_ns, self.header)  # type: ignore[arg-type]


class Stored(msgspec.Struct, frozen=True, gc=False):
    """An event as the journal gives it back, known to the bus or not.

    Attributes:
        position: Its place in the journal: 1, 2, 3 and so on without a hole.
        payload: The event's JSON, byte for byte what was written. `openoutcry.events.decode` reads it.
        lane: `control`, `high` or `normal`.
        level: The level that it was accepted at.
        wall_ns: When it was admitted, in nanoseconds since 1970.
        header: What stands beside the event, for users' own classes.

    """

    position: int
    payload: bytes
    lane: str
    level: Level
    wall_ns: int
    header: Header | None = None

    @property
    def is_beside(self) -> bool:
        """Whether it was delivered from memory, and is only recorded: nobody is handed it from here."""
        return self.level is Level.MEMORY

    def head(self) -> Header:
        """Return the header: what the event's JSON says (0.3 microseconds), and what stands beside it."""
        try:
            own = _read_head(self.payload)
        except msgspec.ValidationError:  # a user's own class, whose `symbol` may be a number
            data = msgspec.json.decode(self.payload)
            texts: dict[str, Any] = {n: v for n in _OWN if isinstance(v := data.get(n), str)}
            own = Header(**texts)
        beside = self.header
        if beside is None:
            return own
        names = Header.__struct_fields__
        return Header(**{n: v if (v := getattr(beside, n)) is not None else getattr(own, n) for n in names})


_OWN = tuple(name for name in Header.__struct_encode_fields__ if name in Header.__struct_fields__)
"""What an event's own JSON may say."""
_read_head = msgspec.json.Decoder(Header, strict=False).decode


class _Type(msgspec.Struct, frozen=True, gc=False):
    event_type: object = None


_read_type = msgspec.json.Decoder(_Type).decode


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which entries a reader wants: those that meet every condition that is given.

    Attributes:
        types: Event types, any of them.
        agent: The source agent.
        symbol: The event's symbol.
        event_id: Its id.
        correlation_id: The chain that it belongs to.
        causation_id: The id of the event that it was published because of.
        round_id: The round that it belongs to.
        since_ns: Admitted at this instant (nanoseconds since 1970) or later.
        until_ns: Admitted before this instant.
        own_since_ns: Its own time, its `timestamp`, is this instant or later.
        own_until_ns: Its own time is before this instant.

    """

    types: frozenset[str] | None = None
    agent: str | None = None
    symbol: str | None = None
    event_id: str | None = None
    correlation_id: str | None = None
    causation_id: str | None = None
    round_id: str | None = None
    since_ns: int | None = None
    until_ns: int | None = None
    own_since_ns: int | None = None
    own_until_ns: int | None = None


class CursorState(msgspec.Struct, frozen=True, kw_only=True):
    """How far a subscription has settled one lane of the journal.

    Attributes:
        subscription: The subscription's name.
        lane: The lane.
        floor: Every position up to and including this one is settled.
        settled: The stretches settled above the floor, as (first, last), ascending.
        takes: The event types that it takes, so that what waits can be counted without its code. `*` stands
            for all types, with `class NAME` for each class that decides: `class object` takes everything. If
            `(in part)` is among them, it lets events go: they are conflated, dropped or too old.

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
        reason: As in `DeadLetter`, or that the next start is to redrive it.
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

    @property
    def event_type(self) -> str:
        """The type that the event's JSON names; empty where that cannot be read."""
        try:
            found = _read_type(self.payload).event_type
        except (msgspec.MsgspecError, RecursionError, UnicodeError):
            return ""
        return found if isinstance(found, str) else ""


Places = dict[str, tuple[int, tuple[tuple[int, int], ...]]]
"""What of each lane is settled: a floor, and the stretches settled above it, as (first, last), ascending."""


class Era(msgspec.Struct, frozen=True):
    """A time in which a subscription took the same event types.

    Attributes:
        takes: The types, as in `CursorState`.
        upto: What was settled when it ended.

    """

    takes: tuple[str, ...]
    upto: Places


STATE_BYTES_MAX = 256 * 1024 * 1024
"""How large a saved state may be: a database takes no row of a gigabyte, and it is written on the loop."""


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """Where the memory of a subscription begins: with a state, or with nothing.

    What it has handled since is what is settled now and was not then, in the types that it took at the time,
    without its dead letters and tombstones.

    Attributes:
        subscription: The subscription's name.
        form: How the state is written: `bytes`, `json`, or `none`, which is no state. `lost`: there was one,
            which was damaged, or so was something else that the memory is rebuilt from; a recovery of the
            journal writes it, so that no smaller memory is taken for the whole.
        is_needed: Whether the memory is rebuilt from the log, so that retention must not pass `lanes`.
        lanes: What was settled then.
        open: What was settled then and not handled, as stretches: the positions of dead letters.
        eras: The times since then in which it took other types than now, oldest first.
        wall_ns: When it was written, in nanoseconds since 1970.
        state: The state.

    Raises:
        JournalError: The state is larger than `STATE_BYTES_MAX`.

    """

    subscription: str
    form: str
    is_needed: bool
    lanes: Places
    open: tuple[tuple[int, int], ...] = ()
    eras: tuple[Era, ...] = ()
    wall_ns: int = 0
    state: bytes = b""

    def __post_init__(self) -> None:
        """Check the size."""
        if len(self.state) > STATE_BYTES_MAX:
            raise JournalError(
                f"the state of {self.subscription!r} has {len(self.state):,} bytes; at most "
                f"{STATE_BYTES_MAX:,} are saved: save less, or keep the rest in a file of your own"
            )

    @property
    def floor(self) -> int:
        """Every position up to here was settled, in every lane."""
        return min((floor for floor, _ in self.lanes.values()), default=0)


class LogState(NamedTuple):
    """The write-ahead log of a journal in a file.

    Attributes:
        size_bytes: Its size on the disk.
        hindered: What kept the last checkpoint from copying all of it: `reader` (a program that is still
            reading, or makes one itself), `room` (the database has no room to grow); empty if nothing did.

    """

    size_bytes: int
    hindered: str


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """What keeps retention from going on.

    Attributes:
        subscription: The subscription's name.
        why: `cursor` (it has not settled what follows), `memory` (its memory is rebuilt from what follows, or
            may be: where it begins is damaged), or `dead letter` (its memory would lack that event if it is
            handled yet).
        position: Nothing after this position may go.

    """

    subscription: str
    why: str
    position: int


class Suspect(msgspec.Struct, frozen=True):
    """An event that was being handled when the process died, and may be why.

    Attributes:
        subscription: The subscription that handled it.
        lane: The lane that it came from.
        position: The event's position.
        crashes: How often the process died while it was handled.

    """

    subscription: str
    lane: str
    position: int
    crashes: int


class Changes(msgspec.Struct, frozen=True, kw_only=True):
    """What is saved in one commit, with entries or alone.

    Attributes:
        cursors: Cursors to save, each in place of the one of the same subscription and lane.
        dropped_cursors: Cursors to forget, as (subscription, lane).
        buried: New dead letters.
        removed_letters: Ids of dead letters to forget.
        cleared: Suspects that are settled or buried, as (subscription, lane, position).
        halts: Active kill switches, each in place of the one of the same scope and id.
        released: Kill switches that are active no more, as (scope, event id).
        renamed: Subscriptions whose snapshot and tombstones go to another name, in place of what that has, as
            (old, new).
        forgotten: Subscriptions whose snapshot and tombstones go; before those that are new.
        snapshots: New snapshots, each in place of the one of the same subscription.
        tombstones: What was settled and will never be handled, as (subscription, position).

    """

    cursors: Sequence[CursorState] = ()
    dropped_cursors: Sequence[tuple[str, str]] = ()
    buried: Sequence[BuriedEvent] = ()
    removed_letters: Sequence[int] = ()
    cleared: Sequence[tuple[str, str, int]] = ()
    halts: Sequence[Halt] = ()
    released: Sequence[tuple[str, str]] = ()
    renamed: Sequence[tuple[str, str]] = ()
    forgotten: Sequence[str] = ()
    snapshots: Sequence[Snapshot] = ()
    tombstones: Sequence[tuple[str, int]] = ()


class Duplicate(msgspec.Struct, frozen=True):
    """An entry that was not written, because the journal has its event id.

    Attributes:
        index: Its index among the entries of the call.
        position: Where the journal has the id.
        same: Whether the content is the same, timestamps aside. If not, two events share an id: report it.

    """

    index: int
    position: int
    same: bool


class Written(msgspec.Struct, frozen=True):
    """What a write did.

    Attributes:
        positions: The position of every entry of the call; of a duplicate, that of the first of its id.
        duplicates: The entries that were not written, because their ids were there already.
        wants_sync: Whether an entry asked for `disk` and is not there yet: sync before telling its publisher.

    """

    positions: Sequence[int]
    duplicates: tuple[Duplicate, ...] = ()
    wants_sync: bool = False
