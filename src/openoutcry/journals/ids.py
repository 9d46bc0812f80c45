"""The event ids that a journal holds, found in memory: recent ones at C speed, older ones at 11 bytes each.

A unique index on random ids in the database would cost more than everything else together. Recent ids
stand in dicts, asked a batch at a time. From there they go, a few with every batch, into 65,536 buckets
of packed
records: six bytes of hash and five of position. A record only says where to look: the entry itself decides.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import islice
from typing import Final

RECENT: Final = 65_536
_BUCKETS: Final = 65_536
_HASH_BYTES: Final = 6
_RECORD_BYTES: Final = 11
_HASH_MASK: Final = (1 << 48) - 1
_SWEEP: Final = 2_048


class IdIndex:
    """Where in the journal an event id stands, or may stand.

    The two newest generations of ids are `RECENT` each. The index needs no more than some 150 bytes for
    each of those 131,072, and 11 to 13 bytes for every older one.
    """

    __slots__ = ("_before", "_buckets", "_leaving", "_now", "_outgoing", "_swept", "floor")

    def __init__(self) -> None:
        self._now: dict[str, int] = {}
        self._before: dict[str, int] = {}
        self._leaving: dict[str, int] = {}
        self._outgoing: Iterator[tuple[str, int]] = iter(())
        self._buckets: list[bytearray] = []
        self._swept = 0
        self.floor = 0
        """Ids at or below this position are forgotten."""

    def are_new(self, ids: Collection[str]) -> bool:
        """Tell whether none of the ids may be here."""
        for known in (self._now, self._before, self._leaving):
            if known and not known.keys().isdisjoint(ids):
                return False
        return not self._buckets or not any(map(self._in_buckets, ids))

    def add(self, ids: Mapping[str, int]) -> None:
        """Note new ids with their positions."""
        if len(self._now) >= RECENT:
            self._turn()
        self._now.update(ids)
        if self._leaving:
            self.move(2 * len(ids))

    def add_older(self, ids: Sequence[str], first: int) -> None:
        """Note ids from before everything that is here, as found when the journal is opened."""
        if len(self._before) < RECENT:
            self._before.update(zip(ids, range(first, first + len(ids)), strict=True))
        else:
            for position, event_id in enumerate(ids, first):
                self._pack(event_id, position)

    def places(self, event_id: str) -> Iterator[int]:
        """Yield the positions where the id may stand. From the recent ones the answer is exact."""
        for known in (self._now, self._before, self._leaving):
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
        """Move some ids that are no longer recent into their buckets, and tell whether more are left."""
        moved = 0
        for event_id, position in islice(self._outgoing, count):
            moved += 1
            if position > self.floor:
                self._pack(event_id, position)
        if moved < count and self._leaving:
            self._leaving = {}
        return bool(self._leaving)

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

    def _turn(self) -> None:
        self.move(len(self._leaving) + 1)
        self._leaving, self._before, self._now = self._before, self._now, {}
        self._outgoing = iter(self._leaving.items())

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
