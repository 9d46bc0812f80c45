"""Taking, as on the day: a mailbox that hands its worker what the tape says, when it says so.

Without a tape a mailbox is like any other.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median_low
from typing import Any, Final, NamedTuple

from openoutcry.core.lanes import NOWHERE, Batch, Lane, LaneName, Stretch
from openoutcry.core.mailbox import Mailbox

NEVER_NS: Final = 2**63 - 1
RESOLUTION_NS: Final = 2
"""A timer of the loop may fire so much early."""


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
    is_redriven: bool = False


class Pace:
    """How far the script is, as mailboxes see it.

    Attributes:
        position: Everything durable up to this position has been handed out.
        lost_ns: By how much everything is later than on the day.
        now_ns: Returns the time, from the start of the run.
        call_at: Calls a function then.
        to_be_cut: The calls going on that were ended from outside, as (subscription, id of the event).

    """

    def __init__(self, now_ns: Callable[[], int], call_at: Callable[[int, Callable[[], None]], None]) -> None:
        self.position: int = 0
        self.lost_ns: int = 0
        self.now_ns: Callable[[], int] = now_ns
        self.call_at: Callable[[int, Callable[[], None]], None] = call_at
        self.to_be_cut: set[tuple[str, str]] = set()
        self._behind: dict[PlayedMailbox, None] = {}

    def wait(self, mailbox: "PlayedMailbox") -> None:
        """Wake a mailbox's worker when the script has come further."""
        self._behind[mailbox] = None

    def moved(self, position: int) -> None:
        """Everything up to this position has been handed out."""
        self.position = max(self.position, position)
        if self._behind:
            behind, self._behind = self._behind, {}
            for mailbox in behind:
                mailbox.wake()


class PlayedLane(Lane):
    """A lane that lets go, as it comes, what nobody took on the day.

    Attributes:
        taken_ids: What was taken; None: everything is.

    """

    __slots__ = ("taken_ids",)

    def __init__(self, name: LaneName, taken_ids: set[str] | None) -> None:
        super().__init__(name)
        self.taken_ids: set[str] | None = taken_ids

    def push(self, events: list[Any], at_ns: int, positions: Sequence[int] | None = None) -> None:
        """Accept events; of those that nobody took, no more than the count."""
        ids = self.taken_ids
        if ids is not None and not all(event.event_id in ids for event in events):
            kept = [index for index, event in enumerate(events) if event.event_id in ids]
            self.overflow(len(events) - len(kept))
            events = [events[index] for index in kept]
            positions = [positions[index] for index in kept] if positions else positions
        super().push(events, at_ns, positions)

    def put_first(self, event: Any, at_ns: int) -> None:
        """Accept an event that is to be taken before all that wait."""
        self.accepted += 1
        self.waiting += 1
        self._stretches.appendleft(Stretch([event], self.accepted, at_ns, NOWHERE))


class PlayedMailbox(Mailbox):
    """A mailbox from which is taken what was taken on the day, in that order and at that time.

    Attributes:
        wake: Wakes the worker, if it waits.
        end_call: Ends the call for a batch from outside; `is_superseded` says that it is for a newer event.
        timeout_ns: How long a call may take that is not on the tape; None: as long as it does.
        astray_count: How many events were taken in another order than on the day.

    """

    __slots__ = (
        "_again",
        "_awaits_retry",
        "_ends_ns",
        "_in_threads",
        "_name",
        "_pace",
        "_steps",
        "_timer_ns",
        "_took_ns",
        "_usual_ns",
        "astray_count",
        "end_call",
        "timeout_ns",
        "wake",
    )

    def __init__(
        self, name: str, pace: Pace, steps: Iterable[Step], again: Mapping[str, Any], **options: Any
    ) -> None:
        """Make it. `again` are the events of dead letters that were handed out again, by id."""
        self._again = again
        self._name = name
        self._pace = pace
        self._steps = deque(steps)
        ids = {step.event_id for step in self._steps}
        super().__init__(PlayedLane("normal", ids), **options)
        self.high = PlayedLane("high", ids)
        self._timer_ns = NEVER_NS
        self._awaits_retry = False
        self.astray_count: int = 0
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
        self._look_ahead()

    def go_freely(self) -> None:
        """Take what comes, from now on: nothing is as on the day any more."""
        if self._in_threads:
            self._took_ns = {
                step.event_id: step.ended_ns - step.begun_ns
                for step in self._steps
                if step.ended_ns is not None and step.cut_ns is None
            }
            self._usual_ns = median_low(self._took_ns.values()) if self._took_ns else 0
        self._steps.clear()
        for lane in (self.high, self.normal):
            assert isinstance(lane, PlayedLane), "they were made here"
            lane.taken_ids = None

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
        self._awaits_retry = False
        while self._steps:
            step = self._steps[0]
            if not self._is_due(step):
                return None
            lane = self.high if step.lane == "high" else self.normal
            batch = lane.take(1, now_ns)
            if batch is None:
                if step.attempt > 1 and not _waits(lane, step.event_id):
                    self._steps.popleft()  # it failed on the day, and has not now
                    self._look_ahead()
                    continue
                self._awaits_retry = step.attempt > 1
                return None
            if batch.attempts and batch.events[0].event_id != step.event_id:
                lane.expire(batch)  # it fails now, and did not on the day: there was no second attempt
                continue
            self._pass(batch.events[0].event_id)
            self.open.append(batch)
            self._pace.to_be_cut.discard((self._name, step.event_id))
            self._note_end(step, batch)
            return batch
        return None

    def _look_ahead(self) -> None:
        """If a dead letter was handed out again next, put it before what waits."""
        step = self._steps[0] if self._steps else None
        event = self._again.get(step.event_id) if step is not None and step.is_redriven else None
        if step is not None and event is not None:
            lane = self.high if step.lane == "high" else self.normal
            assert isinstance(lane, PlayedLane), "they were made here"
            lane.put_first(event, step.begun_ns + self._pace.lost_ns)

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
        return super().due_ns() if self.is_free or self._awaits_retry else None

    def _pass(self, event_id: str) -> None:
        """Go on behind the step of an event, which is the next one, or else was taken astray."""
        if self._steps[0].event_id == event_id:
            self._steps.popleft()
            self._look_ahead()
            return
        self.astray_count += 1
        for step in self._steps:
            if step.event_id == event_id:
                self._steps.remove(step)
                return

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


def _waits(lane: Lane, event_id: str) -> bool:
    return any(event.event_id == event_id for event in lane.waiting_events())
