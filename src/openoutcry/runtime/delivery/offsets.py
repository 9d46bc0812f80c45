"""The offsets of a durable subscription: where its lanes stand in the journal, and what is saved of that."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from sys import maxsize
from typing import Any, Protocol

from openoutcry.core.lanes import Lane
from openoutcry.core.mailbox import Mailbox
from openoutcry.core.recall import merged
from openoutcry.ports import CursorState
from openoutcry.runtime.delivery.memory import Recollection

UNSAVED_MOST = 1_536
"""With this many events settled and not saved, a subscription has its cursors saved at once; with a third
more it begins nothing before that is done."""

LAST = 2**63
"""Above every number and position."""

Stretches = tuple[tuple[int, int], ...]


class CursorSaver(Protocol):
    """What saves cursors: the store."""

    def note(self, offsets: "Offsets") -> None:
        """Have the cursors of a subscription saved with some commit soon."""
        ...

    def save_soon(self) -> None:
        """Have everything that is noted saved in the next turn of the loop."""
        ...

    def can_save(self) -> bool:
        """Return True if the cursors will be saved soon."""
        ...


class LaneOffsets:
    """One lane of a durable subscription, and how it relates to the journal.

    A lane is live (what is committed is handed to it) or *behind*: then it reads on from the journal, and
    what is not in the journal waits in `held` for its turn.

    Attributes:
        lane: The lane.
        behind: Whether it reads on from the journal.
        read_upto: Everything up to this position has been handed to the lane, or is none of its business.
            It is moved on while the lane is behind.
        newest: The highest position that was handed to the lane while it was live.
        skip: Stretches above the first floor that were settled in an earlier life.
        posted: The lane's number of an event whose outputs are being committed, which settles it.
        placed: What was queued before it was in the journal: its number in the lane, by its position.
        held: Events that are not in the journal and wait behind what is: (position, event, admission time).
        saved: The state that was saved last.

    """

    __slots__ = (
        "_known",
        "_mailbox",
        "behind",
        "held",
        "lane",
        "newest",
        "placed",
        "posted",
        "read_upto",
        "saved",
        "skip",
    )

    def __init__(self, mailbox: Mailbox, lane: Lane, floor: int, skip: Stretches = ()) -> None:
        self._mailbox = mailbox
        self.lane: Lane = lane
        self.behind: bool = False
        self.posted: int = 0
        self.newest: int = 0
        self.read_upto: int = floor
        self.skip: list[tuple[int, int]] = sorted(skip)
        self._known = (floor, tuple(self.skip))
        self.held: deque[tuple[int, Any, int]] = deque()
        self.placed: dict[int, int] = {}
        self.saved: tuple[int, Stretches] | None = None

    def wants(self, position: int) -> bool:
        """Return True if what stands there has to be handled yet, provided that the subscription takes it."""
        return position > self.read_upto and not any(low <= position <= high for low, high in self.skip)

    def note_settled(self, position: int) -> None:
        """Leave out what stands at `position`, which was not handed to the lane."""
        self.skip = merged([*self.skip, (position, position)])

    def leave_out(self, positions: Iterable[int]) -> None:
        """Leave out what stands there, if it was not handed to the lane yet."""
        self.skip = merged([*self.skip, *((place, place) for place in positions if self.wants(place))])

    def place(self, event_id: str, position: int) -> bool:
        """An event that the lane was handed, or holds, without a position has got this one.

        Return True if it is not settled yet.
        """
        for item in self.held:
            if item[1].event_id == event_id and position > self.read_upto:
                self.held.remove(item)  # it comes from the journal
                self.lane.held -= 1
                return True
        self.note_settled(position)
        number = self._mailbox.place(self.lane, event_id)
        if number:
            self.placed[position] = number
        return bool(number)

    def _open_placed(self) -> list[int]:
        """Return the positions of what was placed and is not settled, ascending."""
        is_open = self._mailbox.is_open
        self.placed = {at: number for at, number in self.placed.items() if is_open(self.lane, number)}
        return sorted(self.placed)

    def hold(self, events: Iterable[Any], after: int, at_ns: int) -> None:
        """Let events that are not in the journal wait until everything up to `after` was read from there."""
        before = len(self.held)
        self.held.extend((after, event, at_ns) for event in events)
        self.lane.held += len(self.held) - before

    def take_held(self, upto: int) -> Iterator[tuple[Any, int]]:
        """Take out what was held until everything up to a position was read: (event, admission time)."""
        while self.held and self.held[0][0] <= upto:
            _, event, at_ns = self.held.popleft()
            self.lane.held -= 1
            yield event, at_ns

    def shed_held(self, most: int, may_go: Callable[[Any], bool]) -> list[Any]:
        """Let up to `most` of the oldest held events go that `may_go`, counted as overflowed; return them."""
        gone: list[Any] = []
        kept: list[tuple[int, Any, int]] = []
        while self.held and len(gone) < most:
            item = self.held.popleft()
            if may_go(item[1]):
                gone.append(item[1])
            else:
                kept.append(item)
        self.held.extendleft(reversed(kept))
        self.lane.held -= len(gone)
        self.lane.overflow(len(gone))
        return gone

    def withdraw_held(self, which: Callable[[Any], bool] | None = None) -> None:
        """Give up what is held (or what of it `which` says), counted as withdrawn."""
        kept = [item for item in self.held if which is not None and not which(item[1])]
        if len(kept) < len(self.held):
            self.lane.withdraw_held(len(self.held) - len(kept))
            self.held.clear()
            self.held.extend(kept)

    def is_open(self, position: int) -> bool:
        """Return True if what stands there was not settled, as far as the lane has come."""
        if self.placed and position in self._open_placed():
            return True
        if self.behind and position > self.read_upto:
            return self.wants(position)
        return any(position in positions for _, positions in self._mailbox.open_runs(self.lane, LAST))

    def state(self, released: int) -> tuple[int, Stretches]:
        """Return the durable cursor: the floor, and the stretches settled above it.

        The floor lies just below the lowest open position. Above it everything is settled that is not open,
        up to what follows the last event that was settled: whatever stands between two events that follow
        each other in the lane is none of its business.
        """
        last = max(self.lane.settled_last, self.posted)
        upto = self.read_upto if self.behind else released
        floor, apart = upto, list[tuple[int, int]]()
        before: tuple[int, int] | None = None
        for number, position in self._mailbox.open_positions(self.lane, last):
            if number == self.posted:
                continue
            if not position:
                # It is being committed, and may stand at any position from here on: so nothing new is known.
                return self._known
            if before is None:
                floor = position - 1
            elif number > before[0] + 1:
                apart.append((before[1] + 1, position - 1))
            before = number, position
            if number > last:
                break
        else:
            if before is not None and before[0] < last:
                apart.append((before[1] + 1, upto))
        if self.skip or self.placed:
            floor, apart = self._beside_the_lane(floor, apart)
        found = (
            floor,
            tuple((max(low, floor + 1), high) for low, high in apart if high > floor and low <= high),
        )
        if not self.posted:  # which is settled by a commit that may be refused
            self._known = found
        return found

    def note_saved(self, state: tuple[int, Stretches]) -> None:
        """Note that a state was saved."""
        self.saved = state
        self._known = max(self._known, state, key=_size)

    @property
    def is_known(self) -> bool:
        """Whether all that was handed to the lane has a place in the journal, so that `state` is new."""
        last = max(self.lane.settled_last, self.posted)
        return all(position for _, position in self._mailbox.open_positions(self.lane, last))

    def _open_places(self) -> set[int]:
        return {place for _, place in self._mailbox.open_positions(self.lane, maxsize) if place}

    def waiting_places(self) -> set[int]:
        """Return where in the journal what waits stands: what is not settled, and in no call."""
        return self._open_places().difference(self._mailbox.begun_positions(self.lane))

    def pass_over(self, released: int) -> tuple[int, Stretches]:
        """Leave out what was released and is not open, whatever the lane is to be handed from now on.

        Return it, and with it what is in a call, as a floor and the stretches above it: what was handed over
        by now, or never will be.
        """
        upto = self.read_upto if self.behind else released
        self.skip = merged([*self.skip, *_beside(self._open_places(), upto)[1]])
        floor, apart = _beside(self.waiting_places(), upto)
        apart = merged([*apart, *self.skip])
        for place in self._open_placed():
            floor, apart = without(floor, apart, place)
        return floor, tuple((max(low, floor + 1), high) for low, high in apart if high > floor)

    def _beside_the_lane(self, floor: int, apart: list[tuple[int, int]]) -> tuple[int, list[tuple[int, int]]]:
        """Return what is settled: also what the lane was not handed, but not what was placed and is open."""
        open_placed = [place for place in self._open_placed() if self.placed[place] != self.posted]
        if self.skip and self.skip[-1][1] <= floor and not open_placed:
            self.skip = []
        apart = merged([*apart, *self.skip])
        for place in open_placed:
            floor, apart = without(floor, apart, place)
        return floor, apart


class Offsets:
    """The lanes of one durable subscription.

    Attributes:
        name: The subscription's name.
        by_lane: The offsets of its lanes, by their names.
        takes: The types that it takes, as saved with its cursors.
        unsaved: Events that were settled since the cursors were last saved.
        is_noted: Whether the cursors are to be saved.
        is_held: Whether nothing is begun before they are.
        memory: What is kept of its memory; None if it has none, or has it not back yet.
        closed_at: What had been released of the journal when it was closed, and its head: what was written
            and not released may be there at the next opening, or not. Negative while it is open.

    """

    __slots__ = (
        "_hold",
        "_saver",
        "_watcher",
        "_withdrawn",
        "by_lane",
        "closed_at",
        "control",
        "high",
        "is_held",
        "is_noted",
        "memory",
        "name",
        "normal",
        "takes",
        "unsaved",
    )

    def __init__(
        self,
        name: str,
        takes: tuple[str, ...],
        lanes: tuple[LaneOffsets, LaneOffsets, LaneOffsets],
        saver: CursorSaver,
        hold: Callable[[bool], None],
    ) -> None:
        self.name: str = name
        self.takes: tuple[str, ...] = takes
        self.control: LaneOffsets
        self.high: LaneOffsets
        self.normal: LaneOffsets
        self.control, self.high, self.normal = lanes
        self.by_lane: dict[str, LaneOffsets] = {offsets.lane.name: offsets for offsets in lanes}
        self.unsaved: int = 0
        self.is_noted: bool = False
        self.is_held: bool = False
        self.closed_at: tuple[int, int] = (-1, -1)
        self.memory: Recollection | None = None
        self._watcher: Callable[[], None] | None = None
        self._withdrawn: dict[str, set[int]] = {}
        self._saver = saver
        self._hold = hold

    def rebind(self, saver: CursorSaver) -> None:
        """Go on with another saver: the journal was opened again."""
        self._saver = saver
        self.is_noted = False
        self.let_go()

    def watch(self, watcher: Callable[[], None] | None) -> None:
        """Call `watcher` at every settling from now on; None: call nobody."""
        self._watcher = watcher

    def note(self) -> None:
        """Have the cursors saved soon."""
        self.is_noted = True
        self._saver.note(self)

    def note_closed(self, at: tuple[int, int]) -> None:
        """The journal is closed: what is remembered here holds if it ends there."""
        self.closed_at = at

    def note_open(self) -> None:
        """The journal is open again, and goes on from what is remembered here."""
        self.closed_at = (-1, -1)

    def go_on_at(self, at: tuple[int, int], saved: dict[str, tuple[int, Stretches]]) -> None:
        """Go on in a journal that ends there, and has these cursors of the subscription, by lane."""
        self.closed_at = at
        for lane in self.lanes:
            lane.saved = saved.get(lane.lane.name)

    def place(self, lane: str, event_id: str, position: int) -> None:
        """An event that a lane was handed without a position has got this one."""
        if not self.by_lane[lane].place(event_id, position) and self.memory is not None:
            self.memory.placed()

    def withdraw(self, withdraw: Callable[[], None]) -> None:
        """Have some of what waits withdrawn, and note where in the journal it stands: it was not handled."""
        waited = {lane: lane.waiting_places() for lane in self.lanes}
        withdraw()
        for lane, places in waited.items():
            gone = places - lane.waiting_places()
            if gone:
                self._withdrawn.setdefault(lane.lane.name, set()).update(gone)

    def take_withdrawn(self) -> dict[str, set[int]]:
        """Return where what was withdrawn since the last time stands, by lane."""
        withdrawn, self._withdrawn = self._withdrawn, {}
        return withdrawn

    @property
    def may_move(self) -> bool:
        """Whether the cursors may be saved: a saved state must not be older than they are."""
        return self.memory is None or self.memory.may_move()

    def take_unsaved(self) -> int:
        """Return how many settled events are being saved now."""
        count, self.unsaved = self.unsaved, 0
        self.is_noted = False
        return count

    def give_back_unsaved(self, count: int) -> None:
        """Count what could not be saved again. Handling goes on: a failed save must not stop it."""
        self.unsaved += count
        self.is_noted = True
        self.let_go()

    @property
    def lanes(self) -> tuple[LaneOffsets, LaneOffsets, LaneOffsets]:
        """The lanes: control, high, normal."""
        return self.control, self.high, self.normal

    def touched(self, count: int) -> None:
        """Note that `count` events were settled, so that the cursors have to be saved."""
        self.unsaved += count
        if not self.is_noted:
            self.note()
        if self.unsaved >= UNSAVED_MOST:
            self._saver.save_soon()
            if self.unsaved >= UNSAVED_MOST * 4 // 3 and not self.is_held and self._saver.can_save():
                self.is_held = True
                self._hold(True)
        if self.memory is not None:
            self.memory.settled(count)
        if self._watcher is not None:
            self._watcher()

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


def _beside(places: Iterable[int], upto: int) -> tuple[int, list[tuple[int, int]]]:
    """Return what is not among some positions, up to a last one, as a floor and the stretches above it."""
    edges = [*sorted(place for place in places if place <= upto), upto + 1]
    return edges[0] - 1, [(low + 1, high - 1) for low, high in pairwise(edges) if high - low > 1]


def _size(state: tuple[int, Stretches]) -> int:
    """Return how many positions are settled."""
    floor, apart = state
    return floor + sum(high - low + 1 for low, high in apart)


def without(floor: int, apart: list[tuple[int, int]], place: int) -> tuple[int, list[tuple[int, int]]]:
    """Return what is settled without one position of it, as a floor and the stretches above it."""
    cut = [part for low, high in apart for part in ((low, min(high, place - 1)), (max(low, place + 1), high))]
    if place <= floor:
        cut.append((place + 1, floor))
        floor = place - 1
    return floor, merged([(low, high) for low, high in cut if low <= high])
