"""Taking, as on the day: a mailbox that hands its worker what the tape says, when it says so.

Without a tape a mailbox is like any other.
"""

from bisect import bisect_left, insort
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from heapq import heapify
from itertools import chain
from statistics import median_low
from typing import Any, Final, NamedTuple

from openoutcry.core.lanes import NOWHERE, Batch, Lane, LaneName
from openoutcry.core.mailbox import Mailbox
from openoutcry.core.overflow import BoundedLane, ConflatingLane

NEVER_NS: Final = 2**63 - 1
RESOLUTION_NS: Final = 2
"""A timer of the loop may fire so much early."""
GIVE_WAY_MOST: Final = 8
"""So many turns of the loop a mailbox waits for others that had begun before it."""


class Step(NamedTuple):
    """An event that a subscription took on the day.

    Attributes:
        lane: The lane that it took it from.
        event_id: The event.
        attempt: How often it had begun it by then, this time included.
        begun_ns: When, from the start of the run; 0 for one that followed another without a pause.
        head: The position up to which everything had been handed out by then.
        cut_ns: When its call was ended from outside; None: it ended by itself.
        is_superseded: Whether that was for a newer event; else its time was up.
        ended_ns: When its call had ended, or was abandoned; None where that is not known.
        order: The place of its beginning among everything that happened on the day.
        is_redriven: Whether it was a dead letter by then, and handed out again.

    """

    lane: str
    event_id: str
    attempt: int
    begun_ns: int
    head: int
    cut_ns: int | None = None
    is_superseded: bool = False
    ended_ns: int | None = None
    order: int = 0
    is_redriven: bool = False


class Pace:
    """How far the script is, as mailboxes see it.

    Attributes:
        position: Everything durable up to this position has been handed out.
        handed: The ids of the events that have been.
        lost_ns: By how much everything is later than on the day.
        now_ns: Returns the time, from the start of the run.
        call_at: Calls a function then.
        to_be_cut: The calls going on that were ended from outside, as (subscription, id of the event).

    """

    def __init__(self, now_ns: Callable[[], int], call_at: Callable[[int, Callable[[], None]], None]) -> None:
        self.position: int = 0
        self.handed: set[str] = set()
        self.lost_ns: int = 0
        self.now_ns: Callable[[], int] = now_ns
        self.call_at: Callable[[int, Callable[[], None]], None] = call_at
        self.to_be_cut: set[tuple[str, str]] = set()
        self._boxes: list[PlayedMailbox] = []
        self._next: list[tuple[int, int]] = []  # the place of each mailbox's next step, and which one it is
        self._behind: dict[PlayedMailbox, None] = {}

    def add(self, mailbox: "PlayedMailbox") -> int:
        """Know one more mailbox; return the number that it goes by."""
        self._boxes.append(mailbox)
        return len(self._boxes) - 1

    def goes_on(self, number: int, last: int | None, order: int | None) -> None:
        """A mailbox goes on from the step at one place of the day to that at another; None: there is none."""
        if last is not None:
            del self._next[bisect_left(self._next, (last, number))]
        if order is not None:
            insort(self._next, (order, number))

    def first_before(self, order: int) -> "PlayedMailbox | None":
        """Return the mailbox that may begin now what had begun first, if that was before this place."""
        now_ns = self.now_ns()
        for earlier, number in self._next:
            if earlier >= order:
                break
            if self._boxes[number].may_begin(now_ns):
                return self._boxes[number]
        return None

    def wait(self, mailbox: "PlayedMailbox") -> None:
        """Wake a mailbox's worker when the script has come further."""
        self._behind[mailbox] = None

    def moved(self, position: int) -> None:
        """Everything up to this position has been handed out."""
        self.position = max(self.position, position)
        self._wake_all()

    def handed_out(self, event_id: str) -> None:
        """An event has been handed out: it is in the mailboxes of those that take it."""
        self.handed.add(event_id)
        self._wake_all()

    def _wake_all(self) -> None:
        if self._behind:
            behind, self._behind = self._behind, {}
            for mailbox in behind:
                mailbox.wake()


class PlayedLane(Lane):
    """A lane that lets go, as it comes, what nobody took on the day, and hands over what it is asked for.

    (On the day a lane may have put a newer event in the place of an older one.) When it goes freely it lets
    go what the subscription's own lane would.

    Attributes:
        taken_ids: What was taken; None: it goes freely.
        tried_again: Says whether an event was begun once more on the day than it has been by now.

    """

    __slots__ = ("_own", "taken_ids", "tried_again")

    waiting: int
    conflated: int
    overflowed: int

    def __init__(
        self,
        name: LaneName,
        taken_ids: set[str] | None,
        tried_again: Callable[[str], bool],
        own: Lane | None = None,
    ) -> None:
        super().__init__(name)
        self._own = own
        self.taken_ids: set[str] | None = taken_ids
        self.tried_again: Callable[[str], bool] = tried_again

    def push(self, events: list[Any], at_ns: int, positions: Sequence[int] | None = None) -> None:
        """Accept events, each to be taken by itself; of those that nobody took, no more than the count."""
        ids = self.taken_ids
        for index, event in enumerate(events):
            if ids is not None and event.event_id not in ids:
                self.overflow(1)
            else:
                super().push([event], at_ns, positions and positions[index : index + 1])
                if ids is None:
                    self._let_go()

    def go_freely(self) -> None:
        """From now on hand over everything, but for what the subscription's own lane would let go."""
        self.taken_ids = None
        waiting, self._stretches = self._stretches, deque()
        for stretch in waiting:
            self._stretches.append(stretch)
            self._let_go()

    def _let_go(self) -> None:
        """Let go what the subscription's own lane would, now that one more waits."""
        own, stretches = self._own, self._stretches
        newest = stretches[-1]
        if isinstance(own, ConflatingLane):
            key = own.key_of(newest.events[0])
            for index, old in enumerate(stretches):
                if old is not newest and not old.attempts and own.key_of(old.events[0]) == key:
                    stretches.pop()
                    stretches[index] = newest
                    self.conflated += 1
                    self.waiting -= 1
                    break
        elif isinstance(own, BoundedLane) and self.waiting > own.limit:
            stretches.popleft()
            self.overflowed += 1
            self.waiting -= 1

    def take_this(self, event_id: str, now_ns: int) -> Batch | None:
        """Hand over the event with this id; None if it does not wait, or may not be tried again yet."""
        found = next((s for s in self._stretches if s.events[0].event_id == event_id), None)
        if found is not None:
            if found.due_ns > now_ns:
                return None
            self._stretches.remove(found)
        else:
            parked = (p for p in self._parked if p[0] <= now_ns and p[2].events[0].event_id == event_id)
            entry = next(parked, None)
            if entry is None:
                return None
            self._parked.remove(entry)
            heapify(self._parked)
            found = entry[2]
        self.waiting -= 1
        return Batch(
            self, found.events, found.first, found.admitted_ns, found.attempts, False, found.positions
        )

    def due_of(self, event_id: str) -> int | None:
        """Return from when on an event may be handed over; None if it does not wait."""
        stretches = chain(self._stretches, (stretch for _, _, stretch in self._parked))
        return next((s.due_ns for s in stretches if s.events[0].event_id == event_id), None)

    def retry(self, batch: Batch, at_ns: int, *, in_order: bool) -> None:
        """Queue a failed event again, if it was tried again on the day."""
        if self.taken_ids is None or self.tried_again(batch.events[0].event_id):
            super().retry(batch, at_ns, in_order=in_order)
        else:
            self.expire(batch)


class PlayedMailbox(Mailbox):
    """A mailbox from which is taken what was taken on the day, in that order and at that time.

    Attributes:
        wake: Wakes the worker, if it waits.
        end_call: Ends the call for a batch from outside; `is_superseded` says that it is for a newer event.
        timeout_ns: How long a call may take that is not on the tape; None: as long as it does.
        unhanded_count: How many events that were taken on the day it was not handed.

    """

    __slots__ = (
        "_again",
        "_ends_ns",
        "_gave_way",
        "_in_threads",
        "_name",
        "_number",
        "_pace",
        "_retried",
        "_retry_ns",
        "_steps",
        "_timer_ns",
        "_took_ns",
        "_usual_ns",
        "end_call",
        "timeout_ns",
        "unhanded_count",
        "wake",
    )

    def __init__(
        self,
        name: str,
        own: Lane,
        pace: Pace,
        steps: Iterable[Step],
        again: Mapping[str, Any],
        **options: Any,
    ) -> None:
        """Make it. `own` is the lane that the subscription asks for, which lets go what it lets go.

        `again` are the events of dead letters that were handed out again, by id.
        """
        self._again = again
        self._name = name
        self._pace = pace
        self._steps = deque(steps)
        self._retried = Counter(step.event_id for step in self._steps if step.attempt > 1)
        ids = {step.event_id for step in self._steps}
        super().__init__(PlayedLane("normal", ids, self._is_tried_again, own), **options)
        self.high = PlayedLane("high", ids, self._is_tried_again)
        self._number = pace.add(self)
        pace.goes_on(self._number, None, self._next_order)
        self._gave_way = 0
        self._timer_ns = NEVER_NS
        self._retry_ns: int | None = None
        self.unhanded_count: int = 0
        self.wake: Callable[[], object] = bool
        self.end_call: Callable[[Batch, bool], object] = lambda *_: None
        self.timeout_ns: int | None = None
        self._in_threads = False
        self._ends_ns: dict[str, int] = {}
        self._took_ns: dict[str, int] = {}
        self._usual_ns = 0

    __hash__ = object.__hash__

    def link(
        self,
        wake: Callable[[], object],
        end_call: Callable[[Batch, bool], object],
        timeout_ns: int | None,
        *,
        in_threads: bool,
    ) -> None:
        """Before the start: say who takes from it, for how long its calls may go on, and if in threads."""
        self.wake, self.end_call, self.timeout_ns = wake, end_call, timeout_ns
        self._in_threads = in_threads
        self._redrive_next()

    def go_freely(self) -> None:
        """Take what comes, from now on: nothing is as on the day any more."""
        if self._in_threads:
            self._took_ns = {
                step.event_id: step.ended_ns - step.begun_ns
                for step in self._steps
                if step.ended_ns is not None and step.cut_ns is None
            }
            self._usual_ns = median_low(self._took_ns.values()) if self._took_ns else 0
        self._pace.goes_on(self._number, self._next_order, None)
        self._steps.clear()
        for lane in self._lanes():
            lane.go_freely()

    def _lanes(self) -> tuple[PlayedLane, PlayedLane]:
        """Return both lanes."""
        high, normal = self.high, self.normal
        assert isinstance(high, PlayedLane), "it was made here"
        assert isinstance(normal, PlayedLane), "as above"
        return high, normal

    @property
    def is_free(self) -> bool:
        """Whether it takes what comes."""
        return isinstance(self.high, PlayedLane) and self.high.taken_ids is None

    def take(self, limit: int, now_ns: int) -> Batch | None:
        """Hand over the next event, when it is its turn."""
        if self.is_free:
            batch = super().take(limit if self.timeout_ns is None else 1, now_ns)
            if batch is not None and self.timeout_ns is not None:
                self._cut_at(self._pace.now_ns() + self.timeout_ns, batch, is_superseded=False)
            return batch
        self._retry_ns = None
        while self._steps:
            step = self._steps[0]
            if not self._is_due(step) or self._gives_way(step):
                return None
            batch = self._find(step, now_ns)
            if batch is not None:
                self._go_on()
                return self._begin(batch, step)
            if (due_ns := self._due_of(step)) is not None:
                self._retry_ns = due_ns
                return None
            if step.attempt == 1:
                if self.behind or step.event_id not in self._pace.handed:
                    self._pace.wait(self)
                    return None
                self.unhanded_count += 1
            self._go_on()  # (or it failed on the day, and has not now)
        return None

    def _go_on(self) -> None:
        """Go on behind the next step. If a dead letter was handed out again next, put it into its lane."""
        step = self._steps.popleft()
        if step.attempt > 1:
            self._retried[step.event_id] -= 1
        self._pace.goes_on(self._number, step.order, self._next_order)
        self._redrive_next()

    @property
    def _next_order(self) -> int | None:
        return self._steps[0].order if self._steps else None

    def _redrive_next(self) -> None:
        step = self._steps[0] if self._steps else None
        event = self._again.get(step.event_id) if step is not None and step.is_redriven else None
        if step is not None and event is not None:
            lane = self.high if step.lane == "high" else self.normal
            lane.push([event], step.begun_ns + self._pace.lost_ns, NOWHERE)

    def _find(self, step: Step, now_ns: int) -> Batch | None:
        """Take the event of a step out of its lane, or out of the other one."""
        high, normal = self._lanes()
        for lane in (high, normal) if step.lane == "high" else (normal, high):
            batch = lane.take_this(step.event_id, now_ns)
            if batch is not None:
                return batch
        return None

    def _gives_way(self, step: Step) -> bool:
        """Return True if another mailbox goes first that may begin now as well, and had begun before.

        (Where all is on time, time alone sees to the order. Agents that share an object depend on it.)
        """
        pace = self._pace
        now_ns = pace.now_ns()
        if now_ns <= step.begun_ns + pace.lost_ns + RESOLUTION_NS or self._gave_way >= GIVE_WAY_MOST:
            return False
        first = pace.first_before(step.order)
        if first is None:
            return False
        self._gave_way += 1
        first.wake()
        pace.call_at(now_ns, self._ring)
        return True

    def may_begin(self, now_ns: int) -> bool:
        """Whether the next step may be begun now, or as soon as a call ends."""
        step = self._steps[0]
        is_due = step.head <= self._pace.position and now_ns >= step.begun_ns + self._pace.lost_ns
        return is_due and self._due_of(step) is not None

    def _due_of(self, step: Step) -> int | None:
        """Return from when on the event of a step may be begun; None if it does not wait."""
        for lane in self._lanes():
            due_ns = lane.due_of(step.event_id)
            if due_ns is not None:
                return due_ns
        return None

    def _begin(self, batch: Batch, step: Step) -> Batch:
        """Open a batch, and have its call ended when it was on the day."""
        self._gave_way = 0
        self.open.append(batch)
        self._pace.to_be_cut.discard((self._name, step.event_id))
        self._note_end(step, batch)
        return batch

    def _is_tried_again(self, event_id: str) -> bool:
        return self._retried[event_id] > 0

    def _note_end(self, step: Step, batch: Batch) -> None:
        """A call is about to begin: see to it that it ends as it did."""
        lost_ns, is_cut = self._pace.lost_ns, step.cut_ns is not None
        if self._in_threads and step.ended_ns is not None:
            is_cut = step.cut_ns is not None and step.cut_ns < step.ended_ns  # else it has raised that itself
            self._ends_ns[step.event_id] = NEVER_NS if is_cut else step.ended_ns + lost_ns
        if is_cut and step.cut_ns is not None:
            self._pace.to_be_cut.add((self._name, step.event_id))
            self._cut_at(step.cut_ns + lost_ns, batch, is_superseded=step.is_superseded)

    def ends_ns(self, event: Any) -> int | None:
        """Return when the call in a thread ends that has just been begun; None: when it returns."""
        event_id = event.event_id
        if self.is_free:
            return self._pace.now_ns() + self._took_ns.get(event_id, self._usual_ns)
        return self._ends_ns.pop(event_id, None)

    def _cut_at(self, at_ns: int, batch: Batch, *, is_superseded: bool) -> None:
        """Have a call ended at this time, if it goes on."""

        def cut() -> None:
            if batch in self.open:
                self.end_call(batch, is_superseded)

        self._pace.call_at(at_ns, cut)

    def due_ns(self) -> int | None:
        """Return when the next retry may start, if it is its turn; else the tape says when to go on."""
        return super().due_ns() if self.is_free else self._retry_ns

    def _is_due(self, step: Step) -> bool:
        """Whether an event may be taken; if not, the worker is woken when it may."""
        pace, due_ns = self._pace, step.begun_ns + self._pace.lost_ns
        if step.head > pace.position:
            pace.wait(self)
            return False
        if pace.now_ns() >= due_ns - RESOLUTION_NS:
            return True
        if due_ns < self._timer_ns:
            self._timer_ns = due_ns
            pace.call_at(due_ns, self._ring)
        return False

    def _ring(self) -> None:
        self._timer_ns = NEVER_NS
        self.wake()
