"""Batches as they are stored: one row, whose entries are one JSON array, chained to the row before it.

An element is `[lane, level, ns after the row's first_ns, event]`, with the header as a fifth member if
there is one. The event is copied in and out as bytes and never re-written, so that unknown types keep
every one of theirs.
"""

import hashlib
import struct
import zlib
from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from openoutcry.errors import InvalidEvent, JournalCorrupt
from openoutcry.ports import Alike, Carried, Entry, Header, Level, Stored

NORMAL: Final = "normal"
LANES: Final = ("control", "high", NORMAL)
UNKNOWN: Final = -1
LEVELS: Final = (Level.MEMORY, Level.PROCESS, Level.DISK)
_LANE_NUMBER: Final = {name: number for number, name in enumerate(LANES)}
_HEADS: Final = {
    (lane, level): b"[%d,%d,0," % (number, level) for lane, number in _LANE_NUMBER.items() for level in LEVELS
}
_NORMAL_NUMBER: Final = _LANE_NUMBER[NORMAL]
_encode: Final = msgspec.json.Encoder().encode
IN_PARTS: Final = (Alike, Carried)
KEY_BYTES_MIN: Final = 16
KEY_BYTES_MAX: Final = 64
UNKEYED: Final = "crc32"
KEYED: Final = "blake2b"
_KEYED_BYTES: Final = 32
_SERIAL_BYTES: Final = 8
_ROW: Final = b"openoutcry row"
"""Keeps the digests of rows apart from all other uses of the key."""
_CRC_START: Final = bytes(4)
_KEYED_START: Final = bytes(_KEYED_BYTES)
_place: Final = struct.Struct(">QQqq").pack


class Row(NamedTuple):
    """A batch as it stands in the table.

    Attributes:
        first: The position of its first entry.
        size: How many entries it has.
        first_ns: The earliest `wall_ns` of its entries.
        last_ns: The latest.
        checksum: The chain's, over all the rest and the row before.
        data: The entries, a JSON array.
        urgent: 1 if some of them are of the lanes `control` or `high`, else 0; `UNKNOWN` in what is read from
            a file of version 1.

    """

    first: int
    size: int
    first_ns: int
    last_ns: int
    checksum: bytes
    data: bytes
    urgent: int = 0

    @property
    def last(self) -> int:
        """The position of its last entry."""
        return self.first + self.size - 1


class Chain:
    """The chain of checksums: a batch's covers its bytes, its place and the checksum of the batch before it.

    A changed bit, a batch that was replaced, taken out or moved, and a tail written by half all break it.
    CRC-32 finds accidents, at 80 ns per event. To find *tampering*, give a key: then it is BLAKE2b keyed with
    it, which nobody can continue or calculate again without the key; and where the file has seals it ends
    with the serial that their root has with the batch's commit.

    Attributes:
        kind: `crc32`, or `blake2b` when there is a key.
        start: What stands before the first batch.
        tail: What the next checksums end with.

    """

    __slots__ = ("_key", "kind", "start", "tail")

    def __init__(self, key: bytes | None = None) -> None:
        self._key = key
        self.kind = UNKEYED if key is None else KEYED
        self.start: bytes = _CRC_START if key is None else _KEYED_START
        self.tail: bytes = b""

    def link(
        self,
        before: bytes,
        first: int,
        count: int,
        since_ns: int,
        until_ns: int,
        data: bytes,
        stored: bytes | None = None,
    ) -> bytes:
        """Return the checksum of a batch that follows the one whose checksum is `before`.

        Of one that is held against its `stored` checksum, the serial is that one's.
        """
        place = _place(first, count, since_ns, until_ns)
        if self._key is None:
            return zlib.crc32(data, zlib.crc32(before + place)).to_bytes(4, "big")
        tail = self.tail if stored is None else stored[_KEYED_BYTES:]
        digest = hashlib.blake2b(before + place + tail, digest_size=_KEYED_BYTES, key=self._key)
        digest.update(data)
        return digest.digest() + tail

    def reach(self, serial: int) -> None:
        """Let the next checksums end with a serial of the seals."""
        self.tail = serial.to_bytes(_SERIAL_BYTES, "big")

    def serial_in(self, checksum: bytes) -> int | None:
        """Return the serial that a batch's checksum ends with; None for one of a file without seals."""
        tail = checksum[_KEYED_BYTES:]
        return int.from_bytes(tail, "big") if self._key is not None and tail else None

    def digest(self, data: bytes, size: int = _KEYED_BYTES) -> bytes:
        """Return the keyed digest of a row for its seal, which nobody without the key can calculate."""
        assert self._key is not None, "only a sealed journal has seals"
        return hashlib.blake2b(data, digest_size=size, key=self._key, person=_ROW).digest()

    def seal(self, text: str | bytes) -> bytes:
        """Return the checksum of something that stands by itself: a cursor, a dead letter, a setting."""
        data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
        if self._key is None:
            return zlib.crc32(data).to_bytes(4, "big")
        return hashlib.blake2b(data, digest_size=_KEYED_BYTES, key=self._key).digest()


class _Element(msgspec.Struct, array_like=True, gc=False, frozen=True):
    lane: int
    level: int
    after_ns: int
    event: msgspec.Raw
    header: Header | None = None


_decode: Final = msgspec.json.Decoder(list[_Element]).decode


_BESIDE: Final = b"%d" % Level.MEMORY
_LEVEL_AT: Final = len(b"[[2,")


def is_beside(row: Row) -> bool:
    """Return True if the entries of a row are there beside: their ids are not remembered."""
    return row.data[_LEVEL_AT : _LEVEL_AT + 1] == _BESIDE


def pack_in_parts(parts: Alike | Carried, first: int, before: bytes, chain: Chain) -> tuple[Row, Level]:
    """Return what `pack` does for entries, at least one, that are there in parts."""
    if isinstance(parts, Carried):
        return _pack_carried(parts, first, before, chain)
    alike = parts
    size, level, first_ns = len(alike.ids), alike.level, alike.wall_ns
    head = _HEADS[NORMAL, level]
    data = b"[%b%b]]" % (head, alike.payloads[0]) if size == 1 else _join_alike(head, alike.payloads.copy())
    checksum = chain.link(before, first, size, first_ns, first_ns, data)
    return Row(first, size, first_ns, first_ns, checksum, data), level


def _pack_carried(carried: Carried, first: int, before: bytes, chain: Chain) -> tuple[Row, Level]:
    """Return what `pack` does for entries, at least one, that another desk has made."""
    levels, walls_ns = carried.levels, carried.walls_ns
    first_ns, last_ns, level = min(walls_ns), max(walls_ns), max(levels)
    beside, size = b"," + _encode(carried.header) + b"]", len(walls_ns)
    if first_ns == last_ns and levels.count(level) == size:
        head = _HEADS[NORMAL, level]
        data = b"[%b%b%b]" % (head, (beside + b"," + head).join(carried.payloads), beside)
    else:
        data = _join_carried(carried, first_ns, beside)
    checksum = chain.link(before, first, size, first_ns, last_ns, data)
    return Row(first, size, first_ns, last_ns, checksum, data), level


def _join_carried(carried: Carried, first_ns: int, beside: bytes) -> bytes:
    """Return the array of entries that another desk has made at several times, or that differ in level."""
    levels, walls_ns = carried.levels, carried.walls_ns
    if levels.count(levels[0]) == len(levels):
        head_at = {
            wall_ns: beside + b"," + _head(NORMAL, levels[0], wall_ns - first_ns) for wall_ns in set(walls_ns)
        }
        heads = [head_at[wall_ns] for wall_ns in walls_ns]
    else:
        kinds = zip(levels, walls_ns, strict=True)
        heads = [beside + b"," + _head(NORMAL, level, wall_ns - first_ns) for level, wall_ns in kinds]
    parts = [b""] * (2 * len(heads))
    parts[::2], parts[1::2] = heads, carried.payloads
    parts[0] = b"[" + parts[0][len(beside) + 1 :]
    return b"".join([*parts, beside, b"]"])


def pack(entries: Sequence[Entry], first: int, before: bytes, chain: Chain) -> tuple[Row, Level]:
    """Return the row of some entries, at least one, and the highest level that one of them asks for."""
    size = len(entries)
    one = entries[0]
    level, first_ns = one.level, one.wall_ns
    urgent = one.lane != NORMAL
    if size == 1 and one.header is None:
        last_ns = first_ns
        data = b"[%b%b]]" % (_HEADS.get((one.lane, level)) or _head(one.lane, level, 0), one.payload)
    elif _alike(entries, one.lane, level, first_ns):
        last_ns = first_ns
        data = _join_alike(_head(one.lane, level, 0), [entry.payload for entry in entries])
    else:
        times = [entry.wall_ns for entry in entries]
        first_ns, last_ns = min(times), max(times)
        level = max([entry.level for entry in entries])
        data, urgent = _join(entries, first_ns)
    checksum = chain.link(before, first, size, first_ns, last_ns, data)
    return Row(first, size, first_ns, last_ns, checksum, data, int(urgent)), level


def _join_alike(head: bytes, payloads: list[bytes]) -> bytes:
    """Return the array of entries that differ in nothing but the event. The list is used up."""
    payloads[0] = b"[" + head + payloads[0]
    payloads[-1] += b"]]"
    return (b"]," + head).join(payloads)


def _alike(entries: Sequence[Entry], lane: str, level: Level, wall_ns: int) -> bool:
    """Return True if the entries differ in nothing but the event, as those of one batch mostly do."""
    for entry in entries:
        if (
            entry.lane != lane
            or entry.level is not level
            or entry.wall_ns != wall_ns
            or entry.header is not None
        ):
            return False
    return True


def _head(lane: str, level: Level, after_ns: int) -> bytes:
    number = _LANE_NUMBER.get(lane)
    if number is None:
        raise InvalidEvent(f"lane = {lane!r}: an entry's lane is one of {', '.join(LANES)}")
    return b"[%d,%d,%d," % (number, level, after_ns)


def _join(entries: Sequence[Entry], first_ns: int) -> tuple[bytes, bool]:
    """Return the array of entries that differ, and whether some are of the lanes `control` and `high`."""
    parts: list[bytes] = []
    add = parts.append
    header, beside = None, b"],"
    lane, level, wall_ns, head, is_urgent = "", None, 0, b"", False
    levels: set[Level] = set()
    for entry in entries:
        if entry.lane != lane or entry.level is not level or entry.wall_ns != wall_ns:
            lane, level, wall_ns = entry.lane, entry.level, entry.wall_ns
            head, is_urgent = _head(lane, level, wall_ns - first_ns), is_urgent or lane != NORMAL
            levels.add(level)
        add(head)
        add(entry.payload)
        if entry.header is not header:  # many have the same one: what another desk has made
            header = entry.header
            beside = b"]," if header is None else b"," + _encode(header) + b"],"
        add(beside)
    parts[-1] = parts[-1][:-1]
    if Level.MEMORY in levels and len(levels) > 1:
        raise InvalidEvent("entries at the level `memory` are written in calls of their own")
    return b"[" + b"".join(parts) + b"]", is_urgent


def unpack(row: Row, *, all_lanes: bool = True) -> list[Stored]:
    """Return the entries of a row, without `all_lanes` those of the lanes `control` and `high`.

    Raises `JournalCorrupt` where its data is not what `pack` made.
    """
    elements, first_ns = _elements(row), row.first_ns
    try:
        return [
            Stored(
                position,
                bytes(element.event),
                LANES[element.lane],
                LEVELS[element.level],
                first_ns + element.after_ns,
                element.header,
            )
            for position, element in enumerate(elements, row.first)
            if all_lanes or element.lane != _NORMAL_NUMBER
        ]
    except IndexError as problem:
        raise _damaged(row, str(problem)) from problem


def lanes_in(row: Row) -> set[str]:
    """Return the lanes of a row's entries. Raises `JournalCorrupt` where `unpack` does, in half its time."""
    elements = _elements(row)
    try:
        for level in {element.level for element in elements}:
            LEVELS[level]
        return {LANES[lane] for lane in {element.lane for element in elements}}
    except IndexError as problem:
        raise _damaged(row, str(problem)) from problem


def _elements(row: Row) -> list[_Element]:
    try:
        elements = _decode(row.data)
    except msgspec.DecodeError as problem:
        raise _damaged(row, str(problem)) from problem
    if len(elements) != row.size:
        raise _damaged(row, f"it has {len(elements)} entries and should have {row.size}")
    return elements


class Batch:
    """A row whose entries are unpacked one by one, as they are asked for.

    Attributes:
        row: The row.

    Raises:
        JournalCorrupt: Its data is not what `pack` made.

    """

    __slots__ = ("_elements", "row")

    def __init__(self, row: Row) -> None:
        self.row: Row = row
        try:
            self._elements = _split(row.data)
        except msgspec.DecodeError as problem:
            raise _damaged(row, str(problem)) from problem
        if len(self._elements) != row.size:
            raise _damaged(row, f"it has {len(self._elements)} entries and should have {row.size}")

    def at(self, position: int) -> Stored:
        """Return the entry at a position of the row. Raises `JournalCorrupt`."""
        row = self.row
        try:
            element = _decode_one(self._elements[position - row.first])
            return Stored(
                position,
                bytes(element.event),
                LANES[element.lane],
                LEVELS[element.level],
                row.first_ns + element.after_ns,
                element.header,
            )
        except (msgspec.DecodeError, IndexError) as problem:
            raise _damaged(row, str(problem)) from problem


_split: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_one: Final = msgspec.json.Decoder(_Element).decode


class _Lane(msgspec.Struct, array_like=True, gc=False, frozen=True):
    lane: int


_decode_lanes: Final = msgspec.json.Decoder(list[_Lane]).decode


def is_urgent(row: Row) -> bool:
    """Return True if some of the entries themselves are of the lanes `control` and `high`."""
    try:
        return any(element.lane != _NORMAL_NUMBER for element in _decode_lanes(row.data))
    except msgspec.DecodeError as problem:
        raise _damaged(row, str(problem)) from problem


def _damaged(row: Row, what: str) -> JournalCorrupt:
    return JournalCorrupt(
        f"the batch at positions {row.first} to {row.last} cannot be read: {what}; "
        f"run verify, and go on in a new file with recover_into",
        row.first,
    )


class _Id(msgspec.Struct, gc=False, frozen=True):
    event_id: str | None = None


class _IdElement(msgspec.Struct, array_like=True, gc=False, frozen=True):
    lane: int
    level: int
    after_ns: int
    event: _Id
    header: _Id = _Id()


_decode_ids: Final = msgspec.json.Decoder(list[_IdElement]).decode


def event_ids(row: Row) -> list[str]:
    """Return the ids of a row's entries without unpacking them; one that has none gets an empty one."""
    try:
        return [e.header.event_id or e.event.event_id or "" for e in _decode_ids(row.data)]
    except msgspec.DecodeError as problem:
        raise _damaged(row, str(problem)) from problem


def same_event(one: bytes, other: bytes) -> bool:
    """Return True if two events say the same, but for when.

    An event that a handler makes anew while it handles its cause again has a fresh timestamp.
    """
    if one == other:
        return True
    first, second = msgspec.json.decode(one), msgspec.json.decode(other)
    if isinstance(first, dict) and isinstance(second, dict):
        first.pop("timestamp", None)
        second.pop("timestamp", None)
    return bool(first == second)
