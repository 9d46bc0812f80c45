"""Recall: which entries of a journal a subscription has handled, so that its memory can be rebuilt from them.

What a name has handled is what is settled, in the types that it took when that was settled, but for its dead
letters and its tombstones (dead letters that were dropped). A memory begins at a base, with a state or with
nothing; what was handled by then, and only that, is in it already.

Settled means the same everywhere: by lane, a floor and the stretches above it.
"""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence

Stretches = Sequence[tuple[int, int]]
Places = Mapping[str, tuple[int, Stretches]]
NOTHING: tuple[int, Stretches] = (0, ())


class Ranges:
    """Positions, as stretches that ascend and do not overlap."""

    __slots__ = ("_firsts", "_stretches")

    def __init__(self, stretches: Iterable[tuple[int, int]]) -> None:
        self._stretches = sorted(stretches)
        self._firsts = [first for first, _ in self._stretches]

    def __contains__(self, position: int) -> bool:
        index = bisect_right(self._firsts, position)
        return index > 0 and position <= self._stretches[index - 1][1]

    def __bool__(self) -> bool:
        return bool(self._stretches)


class Settled:
    """What is settled, by lane."""

    __slots__ = ("_above", "_floors")

    def __init__(self, places: Places) -> None:
        self._floors = {lane: floor for lane, (floor, _) in places.items()}
        self._above = {lane: Ranges(stretches) for lane, (_, stretches) in places.items() if stretches}

    def has(self, lane: str, position: int) -> bool:
        """Return True if what stands at a position is settled in a lane."""
        if position <= self._floors.get(lane, 0):
            return True
        above = self._above.get(lane)
        return above is not None and position in above

    @property
    def lanes(self) -> Iterable[str]:
        """The lanes."""
        return self._floors


class Recall:
    """Tells what a memory is to be handed.

    Attributes:
        after: Nothing up to and including this position is handed.
        last: Nothing behind this position is handed.

    """

    def __init__(
        self,
        base: Places,
        now: Places,
        *,
        reopened: Stretches = (),
        left_out: Iterable[int] = (),
        eras: Iterable[tuple[Sequence[str], Places]] = (),
    ) -> None:
        """Make it.

        Args:
            base: What was settled where the memory begins.
            now: What is settled.
            reopened: What was settled at the base and had not been handled, as stretches.
            left_out: What is settled and was not handled: positions.
            eras: The types that were taken earlier, and what was settled when that ended; oldest first.

        """
        self._base, self._now = Settled(base), Settled(now)
        self._reopened = Ranges(reopened)
        self._left_out = frozenset(left_out)
        self._eras = [(frozenset(takes), Settled(upto)) for takes, upto in eras]
        starts = [floor for floor, _ in base.values()] or [0]  # without any, nothing was settled yet
        self.after: int = min(starts + [first - 1 for first, _ in reopened])
        self.last: int = max(
            (max([floor, *(high for _, high in above)]) for floor, above in now.values()), default=0
        )

    @property
    def has_eras(self) -> bool:
        """Whether other types were taken in an earlier time."""
        return bool(self._eras)

    def wants(self, lane: str, position: int) -> bool:
        """Return True if what stands at a position was handled, and is not in the state yet."""
        if position in self._left_out or not self._now.has(lane, position):
            return False
        return not self._base.has(lane, position) or position in self._reopened

    def may_want(self, position: int) -> bool:
        """Return True if what stood at a position may have been handled; its lane is not known any more."""
        return any(self.wants(lane, position) for lane in self._now.lanes)

    def types_at(self, lane: str, position: int) -> frozenset[str] | None:
        """Return the types that were taken when this was settled; None if they are those of now."""
        for takes, upto in self._eras:
            if upto.has(lane, position):
                return takes
        return None


def both(one: Places, other: Places) -> dict[str, tuple[int, tuple[tuple[int, int], ...]]]:
    """Return what is settled in both of two places, by lane."""
    found = {}
    for lane in one.keys() & other.keys():
        pairs = [
            (max(low, first), min(high, last))
            for low, high in _whole(*one[lane])
            for first, last in _whole(*other[lane])
        ]
        found[lane] = _from(sorted(pairs))
    return found


def either(one: Places, other: Places) -> dict[str, tuple[int, tuple[tuple[int, int], ...]]]:
    """Return what is settled in either of two places, by lane."""
    found = {}
    for lane in one.keys() | other.keys():
        stretches = [stretch for places in (one, other) for stretch in _whole(*places.get(lane, NOTHING))]
        found[lane] = _from(merged(stretches))
    return found


def _whole(floor: int, above: Stretches) -> list[tuple[int, int]]:
    return [(1, floor), *above]


def _from(stretches: Iterable[tuple[int, int]]) -> tuple[int, tuple[tuple[int, int], ...]]:
    """Return ascending stretches, some of which may be empty, as a floor and what is above it."""
    filled = [(low, high) for low, high in stretches if low <= high]
    floor = filled.pop(0)[1] if filled and filled[0][0] == 1 else 0
    return floor, tuple(filled)


def stretches_of(positions: Iterable[int]) -> tuple[tuple[int, int], ...]:
    """Return positions as stretches."""
    return tuple(merged((position, position) for position in positions))


def merged(stretches: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return stretches in order, those that touch or overlap as one."""
    found: list[tuple[int, int]] = []
    for low, high in sorted(stretches):
        if found and low <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(found[-1][1], high))
        else:
            found.append((low, high))
    return found
