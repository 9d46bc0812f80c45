"""What desks send one another, as bytes: groups of entries, and short messages. No I/O.

A group::

    oo1 8d3f09aa                                             the version, and the CRC-32 of all that follows
    {"desk":"street","journal":"9f…","log":"normal",…}       the head
    [[8812,1790000000000000000,311,1],…]                     the envelopes, one for each entry, in one line
    {"event_id":"…","event_type":"signal",…}                 each entry's JSON, byte for byte, a line each
    …

A message, which nobody keeps, is one JSON object.

Bytes that are something else raise `Garbled`, whatever they are, and nothing but that.
"""

from collections.abc import Iterable, Sequence
from itertools import accumulate, compress, islice, pairwise
from operator import lt
from typing import Annotated, Any, Final, TypeVar, overload
from zlib import crc32

import msgspec

from openoutcry.errors import Garbled
from openoutcry.ports import Ended, Entry, Group, Header, Level, LogName, Stored

ENTRIES_MOST: Final = 512
"""How many entries a group has at most."""
BYTES_MOST: Final = 256 * 1024
"""How large a group is at most, unless it is a single entry that is larger by itself."""
OVERHEAD_BYTES: Final = 1_024
"""More than a group's head takes: what the first line and the head come to, with the longest names."""
_ENVELOPE_BYTES: Final = 80
_PIECE: Final = 64
_VERSION: Final = b"oo1 "
_FIRST_LINE: Final = len(_VERSION) + 8
_LANES: Final = {"high": frozenset({"control", "high"}), "normal": frozenset({"normal"})}
_LEVELS: Final = (Level.MEMORY, Level.PROCESS, Level.DISK)
_LEVEL_MOST: Final = len(_LEVELS) - 1


Natural = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class _Head(msgspec.Struct, frozen=True, kw_only=True):
    desk: str
    journal: str
    log: LogName
    after: Natural
    upto: Natural
    count: Natural


class _Envelope(msgspec.Struct, frozen=True, array_like=True, gc=False):
    position: Natural
    wall_ns: Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
    size_bytes: Natural
    level: Natural
    lane: str
    header: Header | None = None


class _Named(msgspec.Struct, frozen=True, gc=False):
    event_id: object = None


_encode = msgspec.json.Encoder().encode
_read_head = msgspec.json.Decoder(_Head).decode
_read_envelopes = msgspec.json.Decoder(list[_Envelope]).decode
_read_named = msgspec.json.Decoder(_Named).decode


class Lines(Sequence[Entry]):
    """Entries of a group that differ in the event, its level and its time alone; each is made when asked for.

    Their ids are read then as well: asking for an entry raises `Garbled` where its event has none.

    Attributes:
        payloads: The events' JSON.
        levels: What each was to survive.
        walls_ns: When each was admitted, in nanoseconds since 1970.

    """

    __slots__ = ("levels", "payloads", "walls_ns")

    def __init__(self, payloads: list[bytes], levels: list[Level], walls_ns: list[int]) -> None:
        self.payloads: list[bytes] = payloads
        self.levels: list[Level] = levels
        self.walls_ns: list[int] = walls_ns

    def __len__(self) -> int:
        return len(self.payloads)

    @overload
    def __getitem__(self, index: int) -> Entry: ...
    @overload
    def __getitem__(self, index: slice) -> "Lines": ...
    def __getitem__(self, index: int | slice) -> "Entry | Lines":
        if isinstance(index, slice):
            return Lines(self.payloads[index], self.levels[index], self.walls_ns[index])
        return _entry(self.payloads[index], "normal", self.levels[index], self.walls_ns[index], None)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def chosen(self, wanted: Sequence[bool]) -> "Lines":
        """Return those that are wanted."""
        return Lines(
            list(compress(self.payloads, wanted)),
            list(compress(self.levels, wanted)),
            list(compress(self.walls_ns, wanted)),
        )


def group_length(sizes_bytes: Iterable[int]) -> int:
    """Return how many of the next entries one group takes, given the sizes of what they hold.

    `sizes_bytes` has the `size_of` of each of them, in order. At least 1, unless there are none: an entry
    that is too large goes alone.
    """
    room_bytes = BYTES_MOST - OVERHEAD_BYTES
    sizes = list(islice(sizes_bytes, ENTRIES_MOST))
    if sum(sizes) + len(sizes) * _ENVELOPE_BYTES <= room_bytes:
        return len(sizes)
    count = 0
    for size_bytes in sizes:
        room_bytes -= size_bytes + _ENVELOPE_BYTES
        if room_bytes < 0 and count:
            break
        count += 1
    return count


def size_of(entry: Entry | Stored) -> int:
    """Return what an entry holds, in bytes: its payload, and its header if it has one."""
    return len(entry.payload) + (len(_encode(entry.header)) if entry.header is not None else 0)


def pack(group: Group) -> bytes:
    """Return a group as bytes. `unpack` gives back an equal one, but for its `place`."""
    head = _Head(
        desk=group.desk,
        journal=group.journal,
        log=group.log,
        after=group.after,
        upto=group.upto,
        count=len(group.entries),
    )
    # (Tuples, as an `_Envelope` is written: they take half the time.)
    envelopes = [
        (position, entry.wall_ns, len(entry.payload), entry.level, entry.lane, entry.header)
        for position, entry in zip(group.positions, group.entries, strict=True)
    ]
    payloads = [entry.payload for entry in group.entries]
    start = b"\n".join((b"", _encode(head), _encode(envelopes)))
    checksum = crc32(start)
    for first in range(0, len(payloads), _PIECE):  # a second copy of all of it would cost more than the sum
        checksum = crc32(b"\n".join([b"", *payloads[first : first + _PIECE]]), checksum)
    return b"\n".join([b"%s%08x%s" % (_VERSION, checksum, start), *payloads])


def unpack(data: bytes) -> Group:
    """Return the group that `pack` made these bytes of. Raises `Garbled` for all others.

    Of `Lines` that is known only when each is asked for.
    """
    _check_sum(data)
    try:
        if not data.isascii():
            data.decode()
        head_line, end = _line(data, _FIRST_LINE + 1)
        envelope_line, end = _line(data, end + 1)
        head = _read_head(head_line)
        envelopes = _read_envelopes(envelope_line)
        entries = _entries(_payloads(data, end, envelopes), envelopes)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise Garbled(f"a group of {len(data):,} bytes has the right checksum, but: {error}") from None
    positions = tuple([one.position for one in envelopes])
    _check(head, positions, envelopes)
    return Group(
        desk=head.desk,
        journal=head.journal,
        log=head.log,
        after=head.after,
        upto=head.upto,
        positions=positions,
        entries=entries,
    )


def ended(data: bytes, place: int) -> Ended:
    """Return where a group ends, of its bytes and its place in the log. Raises `Garbled`."""
    group = unpack(data)
    position = group.positions[-1] if group.positions else 0
    event_id = group.entries[-1].event_id if group.entries else ""
    return Ended(group.journal, group.upto, place, position, event_id)


def _check_sum(data: bytes) -> None:
    """Raise `Garbled` for what is no group of this version, or is damaged."""
    if data[: len(_VERSION)] != _VERSION:
        raise Garbled(
            f"{data[:16]!r} is no group of this version, which begins with {_VERSION.decode()!r}. If another "
            "desk runs a newer openoutcry, update this one first"
        )
    if data[len(_VERSION) : _FIRST_LINE] != b"%08x" % crc32(memoryview(data)[_FIRST_LINE:]):
        raise Garbled(f"a group of {len(data):,} bytes is damaged: its checksum is another one")


def _line(data: bytes, start: int) -> tuple[bytes, int]:
    """Return the line that begins at `start`, which may be the last one, and where it ends."""
    end = data.find(b"\n", start)
    if end < 0:
        end = len(data)
    return data[start:end], end


def _payloads(data: bytes, end: int, envelopes: list[_Envelope]) -> list[bytes]:
    """Return the lines that begin behind `end`. Raises `ValueError` if they are not there."""
    ends = list(accumulate([one.size_bytes + 1 for one in envelopes], initial=end))
    if ends[-1] != len(data):
        raise ValueError(f"the entries end at byte {ends[-1]:,} of {len(data):,}")
    return [data[start + 1 : end] for start, end in pairwise(ends)]


def _entries(payloads: list[bytes], envelopes: list[_Envelope]) -> Sequence[Entry]:
    """Return the entries. Raises `Garbled` for what is none."""
    # (A newer version may have levels that this one does not know: the highest stands for them.)
    known = {number: _LEVELS[min(number, _LEVEL_MOST)] for number in {one.level for one in envelopes}}
    levels = [known[one.level] for one in envelopes] if len(known) > 1 else [*known.values()] * len(envelopes)
    if all([one.header is None and one.lane == "normal" for one in envelopes]):  # noqa: C419 - a generator takes longer
        return Lines(payloads, levels, [one.wall_ns for one in envelopes])
    return tuple(
        _entry(payload, one.lane, level, one.wall_ns, one.header)
        for payload, level, one in zip(payloads, levels, envelopes, strict=True)
    )


def _entry(payload: bytes, lane: str, level: Level, wall_ns: int, header: Header | None) -> Entry:
    """Return an entry. Raises `Garbled` if it has no id, or its event is not JSON."""
    try:
        event_id = _read_named(payload).event_id
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise Garbled(f"an entry with the right checksum is no event: {error}") from None
    if header is not None and header.event_id is not None:
        event_id = header.event_id
    if type(event_id) is not str:
        raise Garbled(f"an entry with the right checksum has no event_id: {payload[:40]!r}")
    return Entry(event_id, payload, lane, level, wall_ns, header)


def _check(head: _Head, positions: tuple[int, ...], envelopes: list[_Envelope]) -> None:
    """Raise `Garbled` for a group whose parts do not fit together."""
    is_ascending = all(map(lt, (head.after, *positions), (*positions, head.upto + 1)))
    if (
        head.count != len(envelopes)
        or not is_ascending
        or not {one.lane for one in envelopes} <= _LANES[head.log]
    ):
        raise Garbled(
            f"a group of {head.desk!r} does not fit together: log {head.log}, {head.count} entries said and "
            f"{len(envelopes)} there, from behind {head.after} to {head.upto}"
        )


class Kill(msgspec.Struct, frozen=True, kw_only=True):
    """A kill switch or a release on its way to every desk at once; the log has it too, as an entry.

    Attributes:
        event: Its JSON, byte for byte as the journal has it or would have it.
        header: What stands beside it, for users' own classes.
        wall_ns: When it was admitted, in nanoseconds since 1970.

    """

    event: msgspec.Raw
    header: Header | None = None
    wall_ns: int = 0


class ActiveHalt(msgspec.Struct, frozen=True, array_like=True):
    """A kill switch that is active at the desk whose beat says so: its scope, id, who pulled it, and why."""

    scope: str
    event_id: str
    by: str = ""
    reason: str = ""


class Imported(msgspec.Struct, frozen=True, array_like=True):
    """How far a desk has imported what another one exports.

    Attributes:
        desk: The other one.
        log: The log.
        journal: The run of its journal.
        position: Everything up to this position is imported.
        safe: Everything up to this one would survive a power cut here: the other one may forget it.

    """

    desk: str
    log: LogName
    journal: str
    position: Natural
    safe: Natural = 0


class Beat(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A sign of life, several times a second.

    Attributes:
        holder: The process that holds the desk, by a name of its own.
        number: Its beats, counted from 1.
        journal: The `origin` of its journal.
        heads: The last position that it has exported, by log.
        halts: Which kill switches are active there.
        imported: How far it has imported what others export.
        word: How its link stands, in a word.
        why: The same in a sentence, if there is more to say.
        version: Its version of openoutcry.
        classes: Its event classes and the `schema_version` of each; in some beats only, else None.
        wall_ns: When it was sent by its clock, in nanoseconds since 1970 (a label).
        imports: The event types that it takes; `*` is every type.
        is_leaving: Whether it is the last one, before a stop: nobody misses it then.

    """

    holder: str
    number: Natural
    journal: str = ""
    heads: dict[LogName, Natural] = {}
    halts: tuple[ActiveHalt, ...] = ()
    imported: tuple[Imported, ...] = ()
    word: str = ""
    why: str = ""
    version: str = ""
    classes: dict[str, int] | None = None
    wall_ns: int = 0
    imports: tuple[str, ...] = ()
    is_leaving: bool = False


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """A desk lacks what another one has exported: it asks that one to export it again.

    Attributes:
        desk: The desk that is asked.
        log: The log.
        journal: The `origin` of that desk's journal, as far as it is known here.
        after: It has everything up to this position of that journal.
        kill: The id of a kill switch that is active there and unknown here: it asks for that alone.

    """

    desk: str
    log: LogName
    journal: str
    after: Natural
    kill: str = ""


class Ticks(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Events that no journal keeps: the newest counts.

    Attributes:
        number: How many this desk has sent before these, in this life: the receiver counts what never came.
        events: Their JSON.
        headers: What stands beside each, if anything does for one of them.

    """

    number: Natural
    events: list[msgspec.Raw]
    headers: list[Header | None] = []


M = TypeVar("M", Kill, Beat, Ask, Ticks)
_DECODERS: Final[dict[type, Any]] = {kind: msgspec.json.Decoder(kind) for kind in (Kill, Beat, Ask, Ticks)}


def write_message(message: Kill | Beat | Ask | Ticks) -> bytes:
    """Return a message as bytes."""
    return _encode(message)


def read_message(kind: type[M], data: bytes) -> M:
    """Return the message of this kind that the bytes are. Raises `Garbled`."""
    try:
        found: M = _DECODERS[kind].decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise Garbled(f"{data[:40]!r}… is no {kind.__name__.lower()} of this version: {error}") from None
    return found
