"""What is published before `start`: kept in order here, and delivered by `Dispatcher.deliver_held_back`.

What is durable is committed at once all the same. Then it is kept here only for subscriptions without a
cursor; the others read it from the journal.
"""

from collections import deque
from collections.abc import Iterator
from typing import Any, NamedTuple

from openoutcry.core.halts import is_release, scope_of
from openoutcry.core.overflow import EACH_MOST

LANES = ("control", "high", "normal")
"""The lanes, in the order of their delivery at the start."""


class Held(NamedTuple):
    """An event that waits for the start.

    Attributes:
        event: The event.
        lane: Its lane.
        after: The position up to which the journal was released when it was published.
        positions: Where a kill switch will stand in the journal, if it is being committed.
        is_committed: Whether it is in the journal, so that durable subscriptions read it there.
        folded: How many older kill switches of its scope it stands for.

    """

    event: Any
    lane: str
    after: int
    positions: list[int] | None = None
    is_committed: bool = False
    folded: int = 0


class BeforeStart:
    """Events that wait for the start.

    Kill switches of one scope are folded as in `core.overflow.ControlLane`, once they are sure to stay: one
    that is being committed may be taken back.

    Attributes:
        in_memory: How many of them no journal has, kill switches included.
        counting: How many count toward the bus's room: all but kill switches.

    """

    __slots__ = ("_barrier", "_control", "_foldable", "_held", "_numbers", "_unsure", "counting", "in_memory")

    def __init__(self) -> None:
        self._held: list[Held] = []
        self._control: dict[int, Held] = {}
        self._foldable: dict[str, deque[int]] = {}
        self._unsure: dict[int, int] = {}
        self._numbers = self._barrier = 0
        self.in_memory: int = 0
        self.counting: int = 0

    def __len__(self) -> int:
        return len(self._held) + len(self._control)

    def add(self, held: Held) -> None:
        """Keep an event."""
        self.in_memory += not held.is_committed
        if held.lane == "control":
            self._add_control(held)
        else:
            self.counting += 1
            self._held.append(held)

    def _add_control(self, held: Held) -> None:
        self._numbers += 1
        self._control[self._numbers] = held
        if is_release(held.event):
            self._foldable.clear()
            self._barrier = self._numbers
        if held.positions is None:
            self._fold(self._numbers)
        else:
            self._unsure[id(held.event)] = self._numbers

    def _fold(self, number: int) -> None:
        """Where too many kill switches of a scope stay, fold the oldest of them into the next."""
        if number <= self._barrier:
            return
        waiting = self._foldable.setdefault(scope_of(self._control[number].event), deque())
        waiting.append(number)
        if len(waiting) > EACH_MOST:
            old, heir = self._control.pop(waiting.popleft()), waiting[0]
            held = self._control[heir]
            self._control[heir] = held._replace(folded=held.folded + old.folded + 1)

    def confirm(self, event: Any) -> None:
        """Note that the commit of a kill switch has succeeded."""
        number = self._unsure.pop(id(event), None)
        if number is not None:
            self._fold(number)

    def take_back(self, event: Any) -> bool:
        """Let go of a kill switch whose commit has failed; return False if it is not here any more."""
        number = self._unsure.pop(id(event), None)
        if number is None:
            return False
        del self._control[number]
        self.in_memory -= 1
        return True

    def events(self, after: int) -> list[Any]:
        """Return them in the order in which they came, but for the first `after`; kill switches always."""
        control = [held.event for held in self._control.values()]
        return control + [held.event for held in self._held[max(0, after - len(control)) :]]

    def lane_of(self, event_id: str) -> str | None:
        """Return the lane of an event that waits here; None if it does not."""
        waiting = (*self._control.values(), *self._held)
        return next((held.lane for held in waiting if held.event.event_id == event_id), None)

    def committed(self, event_id: str) -> bool:
        """Note that an event that was in memory alone is in the journal now. False if it is not here.

        Of a kill switch nothing is noted: the journal is asked about it when it is delivered.
        """
        for index, held in enumerate(self._held):
            if held.event.event_id == event_id and not held.is_committed:
                self._held[index] = held._replace(is_committed=True)
                self.in_memory -= 1
                return True
        return any(held.event.event_id == event_id for held in self._control.values())

    def take(self) -> Iterator[Held]:
        """Take all of them out: kill switches first, in each lane in the order in which they came."""
        held, self._held = [*self._control.values(), *self._held], []
        self._control, self._foldable, self._unsure = {}, {}, {}
        self.in_memory = self.counting = 0
        for lane in LANES:
            yield from (one for one in held if one.lane == lane)
