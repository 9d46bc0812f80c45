"""The event ids that a journal holds, found in memory: recent ones at C speed, older ones at a few bytes.

A unique index on random ids in the database would cost more than everything else together. So:

1. Ids that go on counting are kept as stretches (`Counting`): where the ids between a lowest and a highest
   one stand. openoutcry's own are a stem, which is 16 hex digits of the process and a dash, and a counter in
   hex. What is above the highest id of its stem is new: one comparison per batch. A few hundred ids take no
   more memory than one.
2. Recent ids stand in dicts, which are filled when they are first asked, a batch at a time.
3. Other ids, when they are no longer recent, are packed into 65,536 buckets of records: six bytes of hash and
   five of position, in idle moments or when there are many.

Only the dicts are exact: stretches have holes and records may collide. They say where to look, and the entry
itself decides.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from operator import itemgetter
from typing import Final

STEM: Final = 17
"""How long a stem is, with its dash."""
STEMS: Final = 4_096
"""How many stems are told apart; later ones are not, since such ids count on something else."""
SPAN: Final = 128
"""Up to so many positions, neighbouring stretches are made one."""
LAST_POSITION: Final = 2**63 - 1
RECENT: Final = 65_536
GENERATIONS: Final = 8
_BUCKETS: Final = 65_536
_HASH_BYTES: Final = 6
_RECORD_BYTES: Final = 11
_HASH_MASK: Final = (1 << 48) - 1
_SWEEP: Final = 2_048

Rank = tuple[int, str]
"""The order of a counter without leading zeros: shorter ones first."""
Stretch = tuple[Rank, Rank, int, int]
"""The lowest and the highest id; the first and the last position."""

Part = tuple[str, Rank, Rank]
"""Ids of one stem, from the same batch: the stem, the lowest, the highest."""

_low: Final = itemgetter(0)


def counts(event_id: str) -> bool:
    """Return True if an id has the form of those that count."""
    return event_id[STEM - 1 : STEM] == "-"


def part_of(ids: Sequence[str]) -> Part | None:
    """Return what some ids, at least one, are a part of; None unless they count and have one stem."""
    low = ids[0]
    if low[STEM - 1 : STEM] != "-":
        return None
    if len(ids) == 1:
        return low[:STEM], (len(low), low), (len(low), low)
    if low[:STEM] != ids[-1][:STEM]:
        return None
    ordered = sorted(ids)
    low, high = ordered[0], ordered[-1]
    stem = low[:STEM]
    if high[:STEM] != stem:  # if it is the same, so is that of everything in between
        return None
    lengths = set(map(len, ids))
    if len(lengths) > 1:
        shortest, longest = min(lengths), max(lengths)
        low = min([event_id for event_id in ids if len(event_id) == shortest])
        high = max([event_id for event_id in ids if len(event_id) == longest])
    return stem, (len(low), low), (len(high), high)


def by_stem(ids: Sequence[str]) -> tuple[dict[str, list[str]], list[str]]:
    """Return the ids that count, by their stems, and the others."""
    others = [event_id for event_id in ids if event_id[STEM - 1 : STEM] != "-"]
    counting: dict[str, list[str]] = {}
    if len(others) < len(ids):
        for event_id in ids:
            if event_id[STEM - 1 : STEM] == "-":
                counting.setdefault(event_id[:STEM], []).append(event_id)
    return counting, others


Divided = tuple[Sequence[str], Sequence[Part], Mapping[str, Sequence[str]], Sequence[str]]
"""Some ids: all of them; the parts that are above all of their stem, and so new; those that count and are not
above, by stem; and those that do not count."""

_NOTHING: Final[Divided] = (), (), {}, ()


class _Stem:
    __slots__ = ("highest", "oldest", "stretches")

    def __init__(self, highest: Rank, first: int) -> None:
        self.highest = highest
        self.oldest = first
        self.stretches: list[Stretch] = []  # ascending, not overlapping


class Counting:
    """Stretches of ids that count.

    Attributes:
        stems: What was noted, by stem. Ids of a stem that is not here are new, unless it has `STEMS` of them.

    """

    __slots__ = ("stems",)

    def __init__(self) -> None:
        self.stems: dict[str, _Stem] = {}

    def divide(self, ids: Sequence[str]) -> Divided:
        """Divide some ids, at least one, into those that are above all of their stems, and the others."""
        whole = part_of(ids)
        if whole is not None:
            above, late = self._above(whole, ids)
            return ids, () if above is None else (above,), {whole[0]: late} if late else {}, ()
        counting, others = by_stem(ids)
        parts: list[Part] = []
        below: dict[str, Sequence[str]] = {}
        for stem, some in counting.items():
            part = part_of(some)
            assert part is not None, "they have one stem"
            above, late = self._above(part, some)
            if above is not None:
                parts.append(above)
            if late:
                below[stem] = late
        return ids, parts, below, others

    def _above(self, part: Part, ids: Sequence[str]) -> tuple[Part | None, Sequence[str]]:
        """Return which part of the ids of a part is above all of its stem, and the ids that are not."""
        stem, low, high = part
        known = self.stems.get(stem)
        if known is None:
            return (part, ()) if len(self.stems) < STEMS else (None, ids)
        highest = known.highest
        if low > highest:
            return part, ()
        if high <= highest:
            return None, ids
        late = [event_id for event_id in ids if (len(event_id), event_id) <= highest]
        return part_of([event_id for event_id in ids if (len(event_id), event_id) > highest]), late

    def extend(self, part: Part, first: int, last: int) -> None:
        """Note a part that is above all of its stem and stands somewhere from `first` to `last`."""
        stem, low, high = part
        known = self.stems.get(stem)
        if known is None:
            known = self.stems[stem] = _Stem(high, first)
        known.highest = high
        stretches = known.stretches
        if stretches:
            before = stretches[-1]
            if last - before[2] < SPAN:
                stretches[-1] = before[0], high, before[2], last
                return
        stretches.append((low, high, first, last))

    def insert(self, part: Part, first: int, last: int) -> bool:
        """Note a part that stands before everything that is here; False: it cannot be told apart."""
        stem, low, high = part
        known = self.stems.get(stem)
        if known is None:
            if len(self.stems) >= STEMS:
                return False
            known = self.stems[stem] = _Stem(high, first)
        known.highest = max(known.highest, high)
        known.oldest = min(known.oldest, first)
        stretches = known.stretches
        at = bisect_right(stretches, low, key=_low)
        if at and stretches[at - 1][1] >= low:
            return False
        if at < len(stretches):
            behind = stretches[at]
            if behind[0] <= high:
                return False
            if behind[3] - first < SPAN:
                stretches[at] = low, behind[1], first, behind[3]
                return True
        stretches.insert(at, (low, high, first, last))
        return True

    def reaches_below(self, stems: Iterable[str], position: int) -> bool:
        """Return True if something was noted before a position of one of the stems."""
        return any(known.oldest < position for known in map(self.stems.get, stems) if known is not None)

    def place(self, event_id: str) -> tuple[int, int] | None:
        """Return the first and the last position between which an id may stand; None when it is not here."""
        known = self.stems.get(event_id[:STEM])
        if known is None:
            return None
        rank = len(event_id), event_id
        at = bisect_right(known.stretches, rank, key=_low)
        if at == 0 or known.stretches[at - 1][1] < rank:
            return None
        return known.stretches[at - 1][2:]

    def forget(self, floor: int) -> None:
        """Free the memory of what stands at or below a position. The highest of a stem is remembered."""
        for known in self.stems.values():
            if known.stretches and known.stretches[0][3] <= floor:
                known.stretches = [stretch for stretch in known.stretches if stretch[3] > floor]


class _Generation:
    """The ids of some batches.

    Attributes:
        count: How many there are.
        first: The position of the first; everything written since has been added, to this or a later one.
        loose: Those of which there is no stretch, all among them that do not count.
        batches: Ids with the position of the first of them, that have not been asked for yet.

    """

    __slots__ = ("_known", "batches", "count", "first", "loose")

    def __init__(self) -> None:
        self._known: dict[str, int] = {}
        self.batches: list[tuple[Sequence[str], int]] = []
        self.count = 0
        self.first = LAST_POSITION
        self.loose: set[str] = set()

    def add_older(self, ids: Sequence[str], positions: Sequence[int]) -> None:
        """Note ids that have no stretch, from before the opening."""
        self._known.update(zip(ids, positions, strict=True))
        self.loose.update(ids)

    @property
    def known(self) -> dict[str, int]:
        """The positions by id."""
        batches = self.batches
        if batches:
            known = self._known
            for ids, first in batches:
                known.update(zip(ids, range(first, first + len(ids)), strict=True))
            batches.clear()
        return self._known


class IdIndex:
    """Where in the journal an event id stands, or may stand.

    At least the `RECENT` newest ids stand in dicts, some 150 bytes each, and at most `GENERATIONS` times as
    many, if no idle moment comes. Older ids take 11 to 13 bytes, and about one if they went on counting.
    """

    __slots__ = (
        "_buckets",
        "_counting",
        "_divided",
        "_leaving",
        "_now",
        "_older",
        "_outgoing",
        "_swept",
        "brings_stem",
        "floor",
    )

    def __init__(self) -> None:
        self._counting = Counting()
        self._now = _Generation()
        self._older: list[_Generation] = []  # newest first
        self._leaving: _Generation | None = None
        self._outgoing: Iterator[str] = iter(())
        self._buckets: list[bytearray] = []
        self._divided = _NOTHING
        self._swept = 0
        self.brings_stem: bool = True
        """Whether the ids that were asked about last may have a stem of which nothing was noted before."""
        self.floor: int = 0
        """Ids at or below this position are forgotten."""

    def are_new(self, ids: Sequence[str]) -> bool:
        """Return True if none of the ids can be here."""
        first = ids[0]
        stem = first[:STEM]
        known = self._counting.stems.get(stem)
        if known is not None and len(ids) == 1 and (rank := (len(first), first)) > known.highest:
            self._divided = ids, ((stem, rank, rank),), {}, ()
            self.brings_stem = False
            return True
        self._divided = _, parts, below, others = self._counting.divide(ids)
        stems = self._counting.stems
        self.brings_stem = any([part[0] not in stems for part in parts])  # noqa: C419 - of one, mostly
        return not (below or others) or self._are_loose_new(below, others)

    def _are_loose_new(self, below: Mapping[str, Sequence[str]], others: Sequence[str]) -> bool:
        """Return True if none of the ids that are above no stem can be here."""
        loose, exact_from = [*chain(others, *below.values())], LAST_POSITION
        for generation in self._generations():
            here = generation.known.keys() if below else generation.loose
            if not here.isdisjoint(loose):
                return False
            exact_from = min(exact_from, generation.first)
        if self._buckets and any(map(self._in_buckets, loose)):
            return False
        if not below or not self._counting.reaches_below(below, exact_from):
            return True  # the dicts know all of what they could be
        return not any(self._in_stretch(event_id, exact_from) for event_id in chain(*below.values()))

    def parts_of(self, ids: Sequence[str]) -> Sequence[Part]:
        """Return the parts that new ids have; one of a stem that was noted before may be left out."""
        asked = self._divided
        return (asked if asked[0] is ids else self._counting.divide(ids))[1]

    def all_stems(self) -> list[str]:
        """Return the stems of everything that was noted."""
        return list(self._counting.stems)

    def add(self, ids: Sequence[str], first: int) -> None:
        """Note the ids, all new, of a batch whose first entry stands at position `first`."""
        if self._now.count >= RECENT:
            self._older.insert(0, self._now)
            self._now = _Generation()
        asked = self._divided
        _, parts, below, others = asked if asked[0] is ids else self._counting.divide(ids)
        for part in parts:
            self._counting.extend(part, first, first + len(ids) - 1)
        self._divided = _NOTHING
        now = self._now
        if not now.count:
            now.first = first
        now.count += len(ids)
        now.batches.append((ids, first))
        if below or others:
            now.loose.update(others, *below.values())
        if len(self._older) >= GENERATIONS:
            self.move(len(ids))

    def add_older(self, ids: Sequence[str], first: int) -> None:
        """Note ids from before everything that is here, as found when the journal is opened."""
        last = first + len(ids) - 1
        whole = part_of(ids)
        if whole is not None and self._counting.insert(whole, first, last):
            return
        counting, loose = by_stem(ids)
        for some in counting.values():
            part = part_of(some)
            if part is None or not self._counting.insert(part, first, last):
                loose += some
        if not loose:
            return
        where = dict(zip(ids, range(first, first + len(ids)), strict=True))
        if not self._older:
            self._older.append(_Generation())
        oldest = self._older[-1]
        if len(oldest.loose) < RECENT and not self._buckets:
            oldest.add_older(loose, [where[event_id] for event_id in loose])
        else:
            for event_id in loose:
                self._pack(event_id, where[event_id])

    def places(self, event_id: str) -> Iterator[tuple[int, int]]:
        """Yield where the id may stand: the first and the last position, which are one if it is recent."""
        exact_from = LAST_POSITION
        for generation in self._generations():
            position = generation.known.get(event_id)
            if position is not None and position > self.floor:
                yield position, position
                return
            exact_from = min(exact_from, generation.first)
        if self._buckets:
            for position in self._packed(event_id):
                yield position, position
        if self._in_stretch(event_id, exact_from):
            place = self._counting.place(event_id)
            assert place is not None
            yield place

    def forget(self, floor: int) -> None:
        """Forget what stands at or below a position; the memory comes back with `sweep`."""
        self.floor = max(self.floor, floor)
        self._swept = 0

    def move(self, count: int) -> bool:
        """Pack some ids that are no longer recent; return True if more are left."""
        if self._leaving is None and len(self._older) > 1:
            self._leaving = self._older.pop()
            self._outgoing = iter(self._leaving.loose)
        if self._leaving is None:
            return False
        moved = 0
        for event_id in islice(self._outgoing, count):
            moved += 1
            position = self._leaving.known[event_id]
            if position > self.floor:
                self._pack(event_id, position)
        if moved < count:
            self._leaving = None
        return self._leaving is not None or len(self._older) > 1

    def sweep(self) -> bool:
        """Free the memory of forgotten ids in some of the buckets; return True if more are left."""
        if self._swept == 0:
            self._counting.forget(self.floor)
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

    def _generations(self) -> Iterator[_Generation]:
        yield self._now
        yield from self._older
        if self._leaving is not None:
            yield self._leaving

    def _in_stretch(self, event_id: str, exact_from: int) -> bool:
        """Return True if a stretch says that the id may stand before a position."""
        place = self._counting.place(event_id)
        return place is not None and place[0] < exact_from and place[1] > self.floor

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
