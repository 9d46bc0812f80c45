"""Cursors: which positions are settled, as a floor and the stretches settled above it.

For code that settles the positions of a journal by hand, in any order. (A running bus reads its cursors off
what is open: see `runtime.delivery.offsets`.) Positions count from 1. Settled in order, a cursor is one
integer; what is settled above the floor is kept as merged stretches, found by either end, so that settling
costs the same however many gaps there are.
"""

import re
from typing import Final

BUS: Final = "(bus)"
"""The name under which a bus keeps a cursor of its own: how far events were handed out at all."""
LINK: Final = "(link)"
"""The name under which a desk keeps how far all other desks have imported what it exports, for each log."""
_IMPORT: Final = re.compile(rf"{re.escape(LINK[:-1])}:([^:]+):([^:]+)\)")


def name_of_import(desk: str, log: str) -> str:
    """Return the name under which a desk keeps how far it has imported a log of another one."""
    return f"{LINK[:-1]}:{desk}:{log})"


def import_of(name: str) -> tuple[str, str] | None:
    """Return the desk and the log that such a name is about; None for another name."""
    found = _IMPORT.fullmatch(name)
    return None if found is None else (found[1], found[2])


class Cursor:
    """A settled floor plus the settled stretches above it.

    Attributes:
        floor: Every position up to and including this one is settled.
        settled_apart: The stretches settled above the floor, last position by first.

    """

    __slots__ = ("_by_end", "floor", "settled_apart")

    def __init__(self, floor: int = 0) -> None:
        self.floor: int = floor
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

    def is_settled(self, position: int) -> bool:
        """Return True if `position` is settled. It costs more the more stretches are above the floor."""
        return position <= self.floor or any(a <= position <= b for a, b in self.settled_apart.items())

    def settled_above(self) -> list[tuple[int, int]]:
        """Return the settled stretches above the floor as (first, last), ascending."""
        return sorted(self.settled_apart.items())

    def _absorb(self) -> None:
        last = self.settled_apart.pop(self.floor + 1, None)
        if last is not None:
            self._by_end.pop(last)
            self.floor = last
