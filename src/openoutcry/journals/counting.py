"""Ids that go on counting, remembered as stretches: where the ids between a lowest and a highest one stand.

openoutcry's own ids are 16 hex digits of the process, a dash, and a counter in hex. What is above the highest
id of its stem is new, which is one comparison per batch; and a few hundred ids take no more memory than one.
A stretch only says where to look: it has holes, and the entries themselves decide.
"""

from bisect import bisect_right
from collections.abc import Sequence
from operator import itemgetter
from typing import Final

STEM: Final = 17
"""How long a stem is, with its dash."""
STEMS: Final = 4_096
"""How many stems are told apart; later ones are not, since such ids count on something else."""
SPAN: Final = 128
"""Up to so many positions, neighbouring stretches are made one."""
LAST_POSITION: Final = 2**63 - 1

Rank = tuple[int, str]
"""The order of a counter without leading zeros: shorter ones first."""
Stretch = tuple[Rank, Rank, int, int]
"""The lowest and the highest id; the first and the last position."""

_low: Final = itemgetter(0)


Part = tuple[str, Rank, Rank]
"""Ids of one stem, from the same batch: the stem, the lowest, the highest."""


def counts(event_id: str) -> bool:
    """Return True if an id has the form of those that count."""
    return event_id[STEM - 1 : STEM] == "-"


def part_of(ids: Sequence[str]) -> Part | None:
    """Return what some ids, at least one, are a part of; None unless they count and have one stem."""
    low = ids[0]
    if low[STEM - 1 : STEM] != "-":
        return None
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


class _Stem:
    __slots__ = ("highest", "oldest", "stretches")

    def __init__(self, highest: Rank, first: int) -> None:
        self.highest = highest
        self.oldest = first
        self.stretches: list[Stretch] = []  # ascending, not overlapping


class Counting:
    """Stretches of ids, by stem.

    Nothing is said of a stem that is not here: its ids are new, unless `is_full`.
    """

    __slots__ = ("_stems",)

    def __init__(self) -> None:
        self._stems: dict[str, _Stem] = {}

    def stems(self) -> list[str]:
        """Return the stems that are told apart."""
        return list(self._stems)

    def part_above(self, ids: Sequence[str]) -> tuple[Part, bool] | None:
        """Return the part that some ids are, if all are above what was noted of their stem, and so new.

        With it comes whether nothing was noted of the stem at all.
        """
        part: Part | None
        if len(ids) == 1 and ids[0][STEM - 1 : STEM] == "-":
            rank = len(ids[0]), ids[0]
            part = rank[1][:STEM], rank, rank
        else:
            part = part_of(ids)
        if part is None:
            return None
        known = self._stems.get(part[0])
        if known is None:
            return (part, True) if len(self._stems) < STEMS else None
        return (part, False) if part[1] > known.highest else None

    def divide(self, ids: Sequence[str]) -> tuple[list[Part], list[str]]:
        """Return the parts of some ids that are above all of their stems, and the other ids."""
        counting, loose = by_stem(ids)
        parts = []
        for stem, some in counting.items():
            known = self._stems.get(stem)
            above = some
            if known is not None:
                above = [event_id for event_id in some if (len(event_id), event_id) > known.highest]
                loose += [event_id for event_id in some if (len(event_id), event_id) <= known.highest]
            elif len(self._stems) >= STEMS:
                loose += some
                continue
            if above and (part := part_of(above)) is not None:
                parts.append(part)
        return parts, loose

    def extend(self, part: Part, first: int, last: int) -> None:
        """Note a part that is above all of its stem and stands somewhere from `first` to `last`."""
        stem, low, high = part
        known = self._stems.get(stem)
        if known is None:
            known = self._stems[stem] = _Stem(high, first)
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
        known = self._stems.get(stem)
        if known is None:
            if len(self._stems) >= STEMS:
                return False
            known = self._stems[stem] = _Stem(high, first)
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

    def reaches_below(self, ids: Sequence[str], position: int) -> bool:
        """Return True if something was noted before a position of a stem that some of the ids have."""
        stems = {event_id[:STEM] for event_id in ids}
        return any(known.oldest < position for known in map(self._stems.get, stems) if known is not None)

    def place(self, event_id: str) -> tuple[int, int] | None:
        """Return the first and the last position between which an id may stand; None when it is not here."""
        known = self._stems.get(event_id[:STEM])
        if known is None:
            return None
        rank = len(event_id), event_id
        at = bisect_right(known.stretches, rank, key=_low)
        if at == 0 or known.stretches[at - 1][1] < rank:
            return None
        return known.stretches[at - 1][2:]

    def forget(self, floor: int) -> None:
        """Free the memory of what stands at or below a position. The highest of a stem is remembered."""
        for known in self._stems.values():
            if known.stretches and known.stretches[0][3] <= floor:
                known.stretches = [stretch for stretch in known.stretches if stretch[3] > floor]
