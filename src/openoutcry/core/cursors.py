"""Cursors: which positions of a lane are settled, as a floor and the stretches settled above it.

Positions count from 1. In the plain case (one call at a time, in order) a cursor is one integer. Concurrent
calls and retries that let others overtake settle out of order: what is settled above the floor is kept as
merged stretches, found by either end, so that settling costs the same however many gaps there are.
"""


class Cursor:
    """A settled floor plus the settled stretches above it.

    Attributes:
        floor: Every position up to and including this one is settled.
        settled_apart: The stretches settled above the floor, last position by first.

    """

    __slots__ = ("_by_end", "floor", "settled_apart")

    def __init__(self, floor: int = 0) -> None:
        self.floor = floor
        self.settled_apart: dict[int, int] = {}
        self._by_end: dict[int, int] = {}

    def settle(self, first: int, count: int) -> None:
        """Mark the `count` positions from `first` on as settled. None of them may be settled already."""
        if count <= 0:
            return
        assert first > self.floor, "a position was settled twice"
        last = first + count - 1
        if first == self.floor + 1:
            self.floor = last
            if self.settled_apart:
                self._absorb()
            return
        first = self._by_end.pop(first - 1, first)
        last = self.settled_apart.pop(last + 1, last)
        self.settled_apart[first] = last
        self._by_end[last] = first

    def with_settled(self, position: int) -> "Cursor":
        """Return a copy in which `position` is settled as well."""
        copy = Cursor(self.floor)
        copy.settled_apart = dict(self.settled_apart)
        copy._by_end = dict(self._by_end)
        copy.settle(position, 1)
        return copy

    def is_settled(self, position: int) -> bool:
        """Return True if `position` is settled. It costs more the more stretches are above the floor."""
        return position <= self.floor or any(a <= position <= b for a, b in self.settled_apart.items())

    def settled_above(self) -> list[tuple[int, int]]:
        """Return the settled stretches above the floor as (first, last), ascending."""
        return sorted(self.settled_apart.items())

    def gaps(self) -> list[tuple[int, int]]:
        """Return the unsettled stretches between the floor and the highest settled position, ascending."""
        gaps = []
        low = self.floor + 1
        for first, last in self.settled_above():
            gaps.append((low, first - 1))
            low = last + 1
        return gaps

    def lag(self, head: int) -> int:
        """Return how many of the positions up to `head` are not settled."""
        return head - self.floor - sum(last - first + 1 for first, last in self.settled_apart.items())

    def _absorb(self) -> None:
        last = self.settled_apart.pop(self.floor + 1, None)
        if last is not None:
            self._by_end.pop(last)
            self.floor = last
