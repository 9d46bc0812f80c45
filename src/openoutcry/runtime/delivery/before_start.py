"""What is published before `start`: kept in order here, and delivered by `Dispatcher.deliver_held_back`.

What is durable is committed at once all the same. Then it is kept here only for subscriptions without a
cursor; the others read it from the journal.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

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

    """

    event: Any
    lane: str
    after: int
    positions: list[int] | None = None
    is_committed: bool = False


class BeforeStart:
    """Events that wait for the start.

    Attributes:
        in_memory: How many of them no journal has, kill switches included.
        counting: How many count toward the bus's room: all but kill switches.

    """

    __slots__ = ("_held", "counting", "in_memory")

    def __init__(self) -> None:
        self._held: list[Held] = []
        self.in_memory = self.counting = 0

    def __len__(self) -> int:
        return len(self._held)

    def add(self, held: Held) -> None:
        """Keep an event."""
        self._held.append(held)
        self.in_memory += not held.is_committed
        self.counting += held.lane != "control"

    def events(self, after: int) -> list[Any]:
        """Return them in the order in which they came, but for the first `after`."""
        return [held.event for held in self._held[after:]]

    def lane_of(self, event_id: str) -> str | None:
        """Return the lane of an event that waits here; None if it does not."""
        return next((held.lane for held in self._held if held.event.event_id == event_id), None)

    def committed(self, event_id: str) -> bool:
        """Note that an event that was in memory alone is in the journal now. False if it is not here.

        Of a kill switch nothing is noted: the journal is asked about it when it is delivered.
        """
        for index, held in enumerate(self._held):
            if held.event.event_id == event_id and not held.is_committed:
                if held.lane != "control":
                    self._held[index] = held._replace(is_committed=True)
                    self.in_memory -= 1
                return True
        return False

    def take(self) -> Iterator[Held]:
        """Take all of them out: kill switches first, in each lane in the order in which they came."""
        held, self._held = self._held, []
        self.in_memory = self.counting = 0
        for lane in LANES:
            yield from (one for one in held if one.lane == lane)
