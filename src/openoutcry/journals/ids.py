"""The event ids that a journal holds, found in memory: recent ones at C speed, older ones at 11 bytes each.

A unique index on random ids in the database would cost more than everything else together. So:

1. Ids that go on counting (openoutcry's own: a stem of the process, and a counter) are new if they are above
   the highest of their stem, which is one comparison per batch.
2. Recent ids stand in dicts, asked a batch at a time.
3. In idle moments, or when there are many, they are packed into 65,536 buckets of records: six bytes of hash
   and five of position. A record only says where to look: the entry itself decides.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import islice
from typing import Final

RECENT: Final = 65_536
GENERATIONS: Final = 8
_BUCKETS: Final = 65_536
_HASH_BYTES: Final = 6
_RECORD_BYTES: Final = 11
_HASH_MASK: Final = (1 << 48) - 1
_SWEEP: Final = 2_048
_STEM: Final = 16
_STEMS: Final = 4_096
_LOWEST: Final = (0, "")


_Rank = tuple[int, str]


def _ends(ids: Collection[str]) -> tuple[str, _Rank, _Rank] | None:
    """Return the stem, the lowest and the highest of some ids, shorter ones first; None for several stems."""
    low, high = min(ids), max(ids)
    stem = low[:_STEM]
    if high[:_STEM] != stem:  # if it is the same, so is that of everything in between
        return None
    shortest, longest = min(map(len, ids)), max(map(len, ids))
    if shortest != longest:
        low = min([event_id for event_id in ids if len(event_id) == shortest])
        high = max([event_id for event_id in ids if len(event_id) == longest])
    return stem, (shortest, low), (longest, high)


class IdIndex:
    """Where in the journal an event id stands, or may stand.

    At least the `RECENT` newest ids stand in dicts, some 150 bytes each, and at most `GENERATIONS` times as
    many, if no idle moment comes. Every other id takes 11 to 13 bytes.
    """

    __slots__ = (
        "_buckets",
        "_ends",
        "_highest",
        "_leaving",
        "_now",
        "_older",
        "_outgoing",
        "_swept",
        "floor",
    )

    def __init__(self) -> None:
        self._now: dict[str, int] = {}
        self._older: list[dict[str, int]] = []  # newest first
        self._leaving: dict[str, int] = {}
        self._outgoing: Iterator[tuple[str, int]] = iter(())
        self._buckets: list[bytearray] = []
        self._ends: tuple[Collection[str], tuple[str, _Rank, _Rank] | None] = (), None
        self._highest: dict[str, _Rank] = {}  # by stem; of no use with more than _STEMS of them
        self._swept = 0
        self.floor = 0
        """Ids at or below this position are forgotten."""

    def are_new(self, ids: Collection[str]) -> bool:
        """Tell whether none of the ids may be here."""
        if self._are_above(ids):
            return True
        for known in (self._now, *self._older, self._leaving):
            if known and not known.keys().isdisjoint(ids):
                return False
        return not self._buckets or not any(map(self._in_buckets, ids))

    def add(self, ids: Mapping[str, int]) -> None:
        """Note new ids with their positions."""
        if len(self._now) >= RECENT:
            self._older.insert(0, self._now)
            self._now = {}
        self._now.update(ids)
        self._raise(ids)
        if len(self._older) >= GENERATIONS:
            self.move(len(ids))

    def add_older(self, ids: Sequence[str], first: int) -> None:
        """Note ids from before everything that is here, as found when the journal is opened."""
        self._raise(ids)
        if not self._older:
            self._older.append({})
        if len(self._older[-1]) < RECENT and not self._buckets:
            self._older[-1].update(zip(ids, range(first, first + len(ids)), strict=True))
        else:
            for position, event_id in enumerate(ids, first):
                self._pack(event_id, position)

    def places(self, event_id: str) -> Iterator[int]:
        """Yield the positions where the id may stand. From the recent ones the answer is exact."""
        for known in (self._now, *self._older, self._leaving):
            position = known.get(event_id)
            if position is not None and position > self.floor:
                yield position
                return
        if self._buckets:
            yield from self._packed(event_id)

    def forget(self, floor: int) -> None:
        """Forget what stands at or below a position; the memory comes back with `sweep`."""
        self.floor = max(self.floor, floor)
        self._swept = 0

    def move(self, count: int) -> bool:
        """Pack some ids that are no longer recent, and tell whether more are left."""
        if not self._leaving and len(self._older) > 1:
            self._leaving = self._older.pop()
            self._outgoing = iter(self._leaving.items())
        moved = 0
        for event_id, position in islice(self._outgoing, count):
            moved += 1
            if position > self.floor:
                self._pack(event_id, position)
        if moved < count:
            self._leaving = {}
        return bool(self._leaving) or len(self._older) > 1

    def sweep(self) -> bool:
        """Free the memory of forgotten ids in some of the buckets, and tell whether more are left."""
        if self._swept >= len(self._buckets):
            return False
        upto = self._swept + _SWEEP
        for number in range(self._swept, upto):
            bucket = self._buckets[number]
            kept = [
                bucket[at : at + _RECORD_BYTES]
                for at in range(0, len(bucket), _RECORD_BYTES)
                if int.from_bytes(bucket[at + _HASH_BYTES : at + _RECORD_BYTES], "little") > self.floor
            ]
            if len(kept) * _RECORD_BYTES < len(bucket):
                self._buckets[number] = bytearray().join(kept)
        self._swept = upto
        return upto < len(self._buckets)

    def _are_above(self, ids: Collection[str]) -> bool:
        """Tell whether the ids are of one stem and above its highest. Whatever is not so gets a False."""
        if len(self._highest) > _STEMS:
            return False
        ends = _ends(ids)
        self._ends = ids, ends
        return ends is not None and ends[1] > self._highest.get(ends[0], _LOWEST)

    def _raise(self, ids: Collection[str]) -> None:
        """Note the highest id of every stem: the longest, and of those the last in the alphabet."""
        highest = self._highest
        if len(highest) > _STEMS:
            return
        known, ends = self._ends
        if known is not ids:
            ends = _ends(ids)
        if ends is not None:
            stem, _, top = ends
            highest[stem] = max(top, highest.get(stem, _LOWEST))
            return
        for event_id in ids:
            stem = event_id[:_STEM]
            highest[stem] = max((len(event_id), event_id), highest.get(stem, _LOWEST))

    def _pack(self, event_id: str, position: int) -> None:
        if not self._buckets:
            self._buckets = [bytearray() for _ in range(_BUCKETS)]
        code = hash(event_id)
        self._buckets[code & 0xFFFF] += (code >> 16 & _HASH_MASK).to_bytes(
            _HASH_BYTES, "little"
        ) + position.to_bytes(_RECORD_BYTES - _HASH_BYTES, "little")

    def _in_buckets(self, event_id: str) -> bool:
        code = hash(event_id)
        return (code >> 16 & _HASH_MASK).to_bytes(_HASH_BYTES, "little") in self._buckets[code & 0xFFFF]

    def _packed(self, event_id: str) -> Iterator[int]:
        code = hash(event_id)
        bucket = self._buckets[code & 0xFFFF]
        wanted = (code >> 16 & _HASH_MASK).to_bytes(_HASH_BYTES, "little")
        at = bucket.find(wanted)
        while at >= 0:
            if at % _RECORD_BYTES == 0:
                position = int.from_bytes(bucket[at + _HASH_BYTES : at + _RECORD_BYTES], "little")
                if position > self.floor:
                    yield position
            at = bucket.find(wanted, at + 1)
