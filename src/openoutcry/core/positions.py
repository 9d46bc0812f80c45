"""Where in the journal the events of a lane stand: what makes a lane's cursor a durable one.

A lane numbers what it accepted from 1; the journal numbers its entries on its own, with those of other lanes
and of other subscriptions in between. `Positions` knows which is which, for as long as something of it is
unsettled, and reads the durable cursor off the lane's own: settling costs nothing here.
"""

from collections import deque
from collections.abc import Iterator, Sequence

from openoutcry.core.cursors import Cursor

Run = tuple[int, Sequence[int]]


class Positions:
    """Journal positions by lane position, both ascending. Events that are not in the journal have none."""

    __slots__ = ("_runs",)

    def __init__(self) -> None:
        self._runs: deque[Run] = deque()

    def __bool__(self) -> bool:
        """Whether any are known."""
        return bool(self._runs)

    def add(self, first: int, positions: Sequence[int]) -> None:
        """Note that the events from lane position `first` on stand at `positions` of the journal."""
        self._runs.append((first, positions))

    def forget(self, floor: int) -> None:
        """Forget what lies wholly at or below the lane's floor."""
        runs = self._runs
        while runs and runs[0][0] + len(runs[0][1]) - 1 <= floor:
            runs.popleft()

    def of(self, first: int, count: int) -> Sequence[int] | None:
        """Return where `count` events from `first` on stand, 0 for one that has no place; None if all."""
        if not self._runs:
            return None
        last = first + count - 1
        found: list[int] | None = None
        for start, positions in self._runs:
            end = start + len(positions) - 1
            if end < first:
                continue
            if start > last:
                break
            if start <= first and last <= end:
                return positions[first - start : last + 1 - start]
            if found is None:
                found = [0] * count
            low, high = max(first, start), min(last, end)
            found[low - first : high + 1 - first] = positions[low - start : high + 1 - start]
        return found

    @property
    def newest(self) -> int | None:
        """The highest position that is known here."""
        return self._runs[-1][1][-1] if self._runs else None

    def lowest_open(self, cursor: Cursor) -> int | None:
        """Return the lowest position that is not settled, or None when everything is."""
        for first, last in self._open(cursor):
            for start, positions in self._runs:
                if start > last:
                    break
                low = max(first, start)
                if low < start + len(positions):
                    return positions[low - start]
        return None

    def _open(self, cursor: Cursor) -> Iterator[tuple[int, int]]:
        """Yield the unsettled stretches of the lane, the last without an end."""
        yield from cursor.gaps()
        above = cursor.settled_above()
        yield (above[-1][1] if above else cursor.floor) + 1, 2**63

    def settled(self, cursor: Cursor) -> list[tuple[int, int]]:
        """Return what is settled above the floor as stretches of positions.

        Between two events that follow each other in the lane there is nothing in the journal for it, so a
        stretch of the lane is a stretch of the journal.
        """
        found = []
        for first, last in cursor.settled_above():
            low = high = 0
            for start, positions in self._runs:
                if start > last:
                    break
                end = start + len(positions) - 1
                if end < first:
                    continue
                low = low or positions[max(first, start) - start]
                high = positions[min(last, end) - start]
            if high:
                found.append((low, high))
        return found

    def place_of(self, position: int) -> int | None:
        """Return the lane position of what stands at `position`, if that is still known."""
        for start, positions in self._runs:
            if positions[0] <= position <= positions[-1]:
                try:
                    return start + positions.index(position)
                except ValueError:
                    return None
        return None
