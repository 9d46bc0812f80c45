"""The books of a durable subscription: where its lanes stand in the journal, and what is saved of that."""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from openoutcry.core.lanes import Batch, Lane
from openoutcry.core.positions import Positions
from openoutcry.ports import CursorState

UNSAVED_MOST = 1_024
"""With this many events settled and not saved, a subscription has its cursors saved at once; with twice as
many it begins nothing before that is done."""

Stretches = tuple[tuple[int, int], ...]


class LaneOffsets:
    """One lane of a durable subscription, and how it relates to the journal.

    A lane is live (what is committed is handed to it) or *behind*: then it reads on from the journal, and
    what is not in the journal waits in `held` for its turn.

    Attributes:
        lane: The lane.
        positions: Where its events stand.
        behind: Whether it reads on from the journal.
        read_upto: Everything up to this position has been handed to the lane, or is none of its business.
        skip: Stretches above the first floor that were settled in an earlier life.
        posted: The place in the lane of an event whose outputs are being committed, which settles it.
        held: Events that are not in the journal and wait behind what is: (position, event, admission time).

    """

    __slots__ = ("behind", "held", "lane", "positions", "posted", "read_upto", "saved", "skip")

    def __init__(self, lane: Lane, floor: int, skip: Stretches) -> None:
        self.lane = lane
        self.positions = Positions()
        self.behind = False
        self.posted = 0
        self.read_upto = floor
        self.skip: list[tuple[int, int]] = sorted(skip)
        self.held: deque[tuple[int, Any, int]] = deque()
        self.saved: tuple[int, Stretches] | None = None

    def wants(self, position: int) -> bool:
        """Tell whether what stands there has to be handled yet, if the subscription takes it."""
        return position > self.read_upto and not any(low <= position <= high for low, high in self.skip)

    def note_settled(self, position: int) -> None:
        """Leave out what stands at `position`, which was not handed to the lane."""
        self.skip = merged([*self.skip, (position, position)])

    def place(self, positions: Sequence[int]) -> None:
        """Note where the events stand that are handed to the lane next."""
        self.positions.add(self.lane.accepted + 1, positions)

    def withdraw_held(self, which: Callable[[Any], bool] | None = None) -> None:
        """Give up what is held (or what of it `which` says), counted as withdrawn."""
        kept = [item for item in self.held if which is not None and not which(item[1])]
        if len(kept) < len(self.held):
            self.lane.withdraw_held(len(self.held) - len(kept))
            self.held.clear()
            self.held.extend(kept)

    def is_open(self, position: int) -> bool:
        """Tell whether what stands there was not settled, as far as the lane has come."""
        if position > self.read_upto and self.behind:
            return self.wants(position)
        place = self.positions.place_of(position)
        return place is not None and not self.lane.cursor.is_settled(place)

    def state(self, released: int) -> tuple[int, Stretches]:
        """Return the durable cursor: the floor, and the stretches settled above it."""
        upto = self.read_upto if self.behind else released
        cursor = self.lane.cursor
        if self.posted and not cursor.is_settled(self.posted):
            cursor = cursor.with_settled(self.posted)
        else:
            self.positions.forget(cursor.floor)
        lowest = self.positions.lowest_open(cursor)
        floor = upto if lowest is None else lowest - 1
        if self.skip and self.skip[-1][1] <= floor:
            self.skip = []
        apart = self.positions.settled(cursor) if cursor.settled_apart else []
        if self.skip:
            apart = merged([*apart, *self.skip])
        return floor, tuple((max(low, floor + 1), high) for low, high in apart if high > floor)


class CursorSaver(Protocol):
    """What saves the cursors of durable subscriptions."""

    def note(self, offsets: "Offsets") -> None:
        """Have the cursors of a subscription saved with some commit soon."""
        ...

    def save_soon(self) -> None:
        """Have everything saved in the next turn of the loop."""
        ...

    def can_save(self) -> bool:
        """Return True if cursors will be saved soon: the journal is alive and has room."""
        ...


class Offsets:
    """The lanes of one durable subscription."""

    __slots__ = (
        "_hold",
        "_saver",
        "closed_at",
        "control",
        "high",
        "is_held",
        "is_noted",
        "name",
        "normal",
        "takes",
        "unsaved",
        "watch",
    )

    def __init__(
        self,
        name: str,
        takes: tuple[str, ...],
        lanes: tuple[LaneOffsets, LaneOffsets, LaneOffsets],
        saver: CursorSaver,
        hold: Callable[[bool], None],
    ) -> None:
        self.name = name
        self.takes = takes
        self.control, self.high, self.normal = lanes
        self.unsaved = 0
        self.is_noted = False
        self.closed_at = -1
        self.watch: Callable[[], None] | None = None
        self._saver = saver
        self._hold = hold
        self.is_held = False

    def rebind(self, saver: CursorSaver) -> None:
        """Go on with another saver: the journal was opened again."""
        self._saver = saver
        self.is_noted = False
        self.let_go()

    def note(self) -> None:
        """Have the cursors saved soon."""
        self.is_noted = True
        self._saver.note(self)

    def note_closed(self, head: int) -> None:
        """The journal is closed, and ends at `head`: what is remembered here holds as long as it does."""
        self.closed_at = head

    def go_on_at(self, head: int, saved: dict[str, tuple[int, Stretches]]) -> None:
        """Go on in a journal that ends at `head` and has these cursors of the subscription, by lane."""
        self.closed_at = head
        for lane in self.lanes:
            lane.saved = saved.get(lane.lane.name)

    def take_unsaved(self) -> int:
        """Return how many settled events are being saved now."""
        count, self.unsaved = self.unsaved, 0
        self.is_noted = False
        return count

    def give_back_unsaved(self, count: int) -> None:
        """So many could not be saved. Handling goes on: who cannot save need not stand still."""
        self.unsaved += count
        self.is_noted = True
        self.let_go()

    @property
    def lanes(self) -> tuple[LaneOffsets, LaneOffsets, LaneOffsets]:
        """The lanes: control, high, normal."""
        return self.control, self.high, self.normal

    def of(self, lane: str) -> LaneOffsets:
        """Return a lane's offsets by the lane's name."""
        return self.normal if lane == "normal" else self.high if lane == "high" else self.control

    def positions_of(self, batch: Batch) -> Sequence[int] | None:
        """Return where the events of a batch stand, 0 where one is not in the journal; None if none is."""
        offsets = self.of(batch.lane.name)
        offsets.positions.forget(batch.lane.cursor.floor)
        return offsets.positions.of(batch.first, len(batch.events))

    def settled(self, lane: Lane, count: int) -> None:
        """Note that `count` events of a lane were settled; those of memory alone need no saving."""
        if self.of(lane.name).positions:
            self.touched(count)

    def touched(self, count: int) -> None:
        """Note that `count` events were settled, so that the cursors have to be saved."""
        self.unsaved += count
        if not self.is_noted:
            self.note()
        if self.unsaved >= UNSAVED_MOST:
            self._saver.save_soon()
            if self.unsaved >= 2 * UNSAVED_MOST and not self.is_held and self._saver.can_save():
                self.is_held = True
                self._hold(True)
        if self.watch is not None:
            self.watch()

    def let_go(self) -> None:
        """The cursors were saved, or cannot be: the subscription goes on."""
        if self.is_held:
            self.is_held = False
            self._hold(False)

    def moved(self, released: int) -> list[tuple[LaneOffsets, tuple[int, Stretches], CursorState]]:
        """Return the cursors that are not as they were saved, with what they are now."""
        found = []
        for offsets in self.lanes:
            state = offsets.state(released)
            if state != offsets.saved:
                cursor = CursorState(
                    subscription=self.name,
                    lane=offsets.lane.name,
                    floor=state[0],
                    settled=state[1],
                    takes=self.takes,
                )
                found.append((offsets, state, cursor))
        return found


def merged(stretches: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return stretches in order, those that touch or overlap as one."""
    found: list[tuple[int, int]] = []
    for low, high in sorted(stretches):
        if found and low <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(found[-1][1], high))
        else:
            found.append((low, high))
    return found
