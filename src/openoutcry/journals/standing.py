"""How far a subscription has come in a journal, for code that settles by hand and in any order."""

from collections.abc import Iterable
from typing import Final, Self

from openoutcry.core.cursors import Cursor
from openoutcry.events import RECORDS
from openoutcry.journals.rows import LANES
from openoutcry.ports import CursorState, Journal, Stored

_PAGES: Final = (16, 256, 4_096)
_STRETCHES: Final = 64
"""At every so many stretches above a floor it is seen whether the floor can follow."""
_ANY: Final = "*"


class Standing:
    """The cursors of one subscription on the lanes of a journal.

    A cursor counts in positions of the journal, which its lane shares with the others: what belongs to
    another lane, or to a type that the subscription does not take, is passed over as if it were settled.

    Attributes:
        name: The subscription.

    """

    def __init__(self, name: str, journal: Journal, saved: Iterable[CursorState]) -> None:
        self.name = name
        self._journal = journal
        self._cursors = {lane: Cursor(journal.first - 1) for lane in LANES}
        self._takes: tuple[str, ...] = ()
        self._moved: set[str] = set(LANES)
        for state in saved:
            self._takes = state.takes
            self._moved.discard(state.lane)
            self._cursors[state.lane] = _cursor(state.floor, state.settled)

    @classmethod
    def of(cls, name: str, journal: Journal) -> Self:
        """Return where a subscription stands; a new one if it has no cursors."""
        return cls(name, journal, [state for state in journal.cursors() if state.subscription == name])

    @property
    def floor(self) -> int:
        """Up to here everything is settled in every lane."""
        return min(cursor.floor for cursor in self._cursors.values())

    def waits_for(self, entry: Stored) -> bool:
        """Return True if an entry is pending."""
        return not self._cursors[entry.lane].is_settled(entry.position) and self._concerns(entry)

    def _concerns(self, entry: Stored) -> bool:
        if entry.is_beside:
            return False
        event_type = entry.head().event_type
        if event_type in RECORDS:
            return event_type in self._takes  # only who names one takes it
        return not self._takes or _ANY in self._takes or event_type in self._takes

    def settle(self, entry: Stored) -> None:
        """Settle a pending entry."""
        cursor = self._cursors[entry.lane]
        cursor.settle(entry.position, 1)
        self._moved.add(entry.lane)
        if cursor.settled_apart and len(cursor.settled_apart) % _STRETCHES == 0:
            self._follow(entry.lane)

    def follow(self) -> None:
        """Raise every lane's floor over what is none of its business, as far as that goes."""
        self._moved.update(LANES)
        for lane in LANES:
            self._follow(lane)

    def _follow(self, lane: str) -> None:
        """Raise a lane's floor to the next entry that is pending in it, or to the head."""
        journal, cursor = self._journal, self._cursors[lane]
        step = 0
        while cursor.floor < journal.head:
            page = journal.read(cursor.floor, _PAGES[min(step, len(_PAGES) - 1)])
            for entry in page:
                if entry.position > cursor.floor + 1:  # positions that a recovery or retention left empty
                    cursor = self._cursors[lane] = _cursor(entry.position - 1, cursor.settled_above())
                if cursor.is_settled(entry.position):
                    continue
                if entry.lane == lane and self._concerns(entry):
                    return
                cursor.settle(entry.position, 1)
            if not page:
                cursor = self._cursors[lane] = Cursor(journal.head)
            step += 1

    def states(self) -> list[CursorState]:
        """Return the cursors to save: those that have moved, and all of a new subscription."""
        return [
            CursorState(
                subscription=self.name,
                lane=lane,
                floor=cursor.floor,
                settled=tuple(cursor.settled_above()),
                takes=self._takes,
            )
            for lane, cursor in self._cursors.items()
            if lane in self._moved
        ]


def _cursor(floor: int, settled: Iterable[tuple[int, int]]) -> Cursor:
    """Return a cursor with a floor, and what is settled above it."""
    made = Cursor(floor)
    for first, last in settled:
        if last > made.floor:
            begin = max(first, made.floor + 1)
            made.settle(begin, last - begin + 1)
    return made
