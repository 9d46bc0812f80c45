"""What the parts of a running bus share: clock, loop, consumers, durability, and who waits for what.

It is the `Crew` that workers see, and it watches for subscriptions that have stopped moving.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any

from openoutcry.clocks import SystemClock
from openoutcry.config import BackpressureConfig
from openoutcry.core.mailbox import Mailbox
from openoutcry.core.pressure import Pressure
from openoutcry.core.rates import Rates
from openoutcry.core.retries import DeadLetter
from openoutcry.errors import BusClosed, JournalError
from openoutcry.events import Event
from openoutcry.ports import Clock
from openoutcry.runtime.delivery.causation import Cause, Tracker
from openoutcry.runtime.delivery.consumer import Consumer
from openoutcry.runtime.delivery.crew import Deliverer
from openoutcry.runtime.delivery.dead_letters import DeadLetters
from openoutcry.runtime.delivery.durability import Durability, NoDurability
from openoutcry.runtime.delivery.history import History, SeenIds
from openoutcry.runtime.delivery.outbox import Output
from openoutcry.runtime.delivery.router import Router
from openoutcry.runtime.delivery.subscription import Subscription

log = logging.getLogger("openoutcry")

SLICE_LEAST_NS = 25_000
SLICE_MOST_NS = 250_000
TURN_NS = 500_000


class Envelopes:
    """What the bus knows of users' own events, which have no fields for it: correlation, causation, round."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: dict[str, Cause] = {}

    def put(self, event_id: str, cause: Cause) -> None:
        """Remember the cause of an event; the oldest are forgotten."""
        self._known[event_id] = cause
        if len(self._known) > self._most:
            del self._known[next(iter(self._known))]

    def get(self, event_id: str) -> Cause | None:
        """Return the cause of an event, if it has one and is remembered."""
        return self._known.get(event_id)


class _NothingToDeliver:
    scheduled = False

    def deliver(self) -> None:
        """Do nothing: the dispatcher has not been made yet."""

    def release(self, events: list[Any], positions: Sequence[int], at_ns: int) -> None:
        """Do nothing: no journal is open yet."""

    def release_high(self, event: Any, position: int) -> None:
        """Do nothing: no journal is open yet."""


_event_id = attrgetter("event_id")
_NOTHING_TO_DELIVER = _NothingToDeliver()
NO_DURABILITY = NoDurability()


class BusState:
    """Shared state; each attribute is read and written on the bus's loop only."""

    def __init__(
        self, capacity: int, config: BackpressureConfig, clock: Clock, history: History, seen: SeenIds
    ) -> None:
        self.clock = clock
        self.loop: asyncio.AbstractEventLoop | None = None
        self.router = Router()
        self.consumers: dict[Subscription, Consumer] = {}
        self.leaving: set[Consumer] = set()
        self.history = history
        self.seen = seen
        self.envelopes = Envelopes(max(10_000, history.size))
        self.pressure = Pressure(capacity, config)
        self.running = False
        self.phase = "new"
        self.tracker = Tracker(None)
        self.busy = 0
        self.control_waiting = 0
        self.thread_waiting = False
        self.room_waiting = False
        self.pressured = False
        self.fullest: Mailbox | None = None
        self.on_drained: Callable[[Mailbox | None], None] = lambda _mailbox: None
        self.dead_letters = DeadLetters()
        self.durability: Durability = NO_DURABILITY
        self.alone: Subscription | None = None
        self.reads_wait = False
        self.on_journal_error: list[Callable[[JournalError], Any]] = []
        self.on_dead: list[Callable[[DeadLetter], Any]] = []
        self.on_failing: list[Callable[[Subscription, bool], Any]] = []
        self.on_stalled: list[Callable[[Subscription, bool], Any]] = []
        self._joiners: list[asyncio.Future[None]] = []
        self._tick: asyncio.TimerHandle | None = None
        self.watching = False
        self.watched_since_ns = 0
        self.on_work: Callable[[], None] = lambda: None
        self.rates: Rates | None = None
        self.drilled: Callable[[str], None] = lambda _name: None
        self.dispatcher: Deliverer = _NOTHING_TO_DELIVER

    def set_durability(self, durability: Durability | None) -> None:
        """Have this keep what is durable from now on; None: nothing does."""
        self.durability = NO_DURABILITY if durability is None else durability

    def set_clock(self, clock: Clock) -> None:
        """Go by this clock. What was read from another one cannot be compared with it: idling starts anew."""
        if clock is not self.clock and not isinstance(clock, SystemClock):
            for subscription in self.router:
                subscription.last_ns = clock.now_ns()
        self.clock = clock

    # -- what workers ask ---------------------------------------------------------------------------

    def slice_ns(self) -> int:
        """How long a worker may keep the loop: less, the more are busy, so that a turn stays short."""
        busy = self.busy
        return SLICE_MOST_NS if busy < 2 else max(SLICE_LEAST_NS, TURN_NS // busy)

    def is_running(self) -> bool:
        """Whether workers may be restarted."""
        return self.running

    def rested(self) -> None:
        """Everything delivered is settled, or what is left is paused: wake those who wait for that."""
        if self._joiners and self.settled():
            joiners, self._joiners = self._joiners, []
            for joiner in joiners:
                if not joiner.done():
                    joiner.set_result(None)

    def drained(self, mailbox: Mailbox) -> None:
        """A worker moved on while the bus was under pressure."""
        self.on_drained(mailbox)

    def dead(self, subscription: Subscription, letter: DeadLetter, place: int = 0) -> None:
        """File a dead letter of an event at `place` of its lane, and tell the observers."""
        letter = self.dead_letters.bury(subscription, letter, place)
        for callback in self.on_dead:
            guarded(callback, letter)

    def failing(self, subscription: Subscription) -> None:
        """Tell the observers that most events of a subscription fail, or that it handles them again."""
        for callback in self.on_failing:
            guarded(callback, subscription, subscription.failing)

    def journal_failed(self, error: JournalError) -> None:
        """Tell the observers that the journal is dead, or cannot be read."""
        for callback in self.on_journal_error:
            guarded(callback, error)

    def forget(self, outputs: list[Output]) -> None:
        """A call has failed: what it had published never was."""
        seen = self.seen
        for output in outputs:
            seen.now.discard(output.entry.event_id)
            seen.before.discard(output.entry.event_id)

    def envelope_cause(self, event: Any, asked_ns: int) -> Cause:
        """Return what a publication by the handler of `event`, admitted at `asked_ns`, inherits."""
        if isinstance(event, Event):
            return Cause(event.event_id, event.correlation_id or event.event_id, event.round_id, asked_ns)
        known = self.envelopes.get(event.event_id)
        if known is None:
            return Cause(event.event_id, event.event_id, None, asked_ns)
        return Cause(event.event_id, known.correlation_id, known.round_id, asked_ns)

    # -- settled ------------------------------------------------------------------------------------

    def settled(self) -> bool:
        """Return True if nothing that was delivered waits or is in flight, also of ended subscriptions."""
        return all(s.settled for s in self.router) and not any(r.has_call for r in self.leaving)

    def wait_settled(self) -> "asyncio.Future[None]":
        """Return a future that is done when everything is settled; it fails if the bus stops before."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._joiners.append(future)
        future.add_done_callback(self._joined)
        return future

    def _joined(self, future: "asyncio.Future[None]") -> None:
        if future in self._joiners:  # cancelled: nobody waits any more
            self._joiners.remove(future)

    def stopped(self) -> None:
        """Wake those who wait for everything to be settled; it is, or it will not be."""
        self.rested()
        joiners, self._joiners = self._joiners, []
        waiting = sum(s.mailbox.waiting for s in self.router)
        for joiner in joiners:
            if not joiner.done():
                joiner.set_exception(
                    BusClosed(f"the bus stopped with {waiting} deliveries waiting; the next start makes them")
                )

    # -- depth and stalls ---------------------------------------------------------------------------

    def depth(self) -> int:
        """Return how many events wait in the fullest gating mailbox."""
        deepest, fullest = 0, None
        for subscription in self.router:
            depth = subscription.mailbox.gating
            if depth > deepest:
                deepest, fullest = depth, subscription.mailbox
        self.fullest = fullest
        return deepest

    def watch(self) -> None:
        """Look for stalled subscriptions from now on, for as long as anything waits."""
        if self._tick is None and self.loop is not None:
            self.watched_since_ns = self.clock.now_ns()
            self._watch_on(self.loop)

    def _watch_on(self, loop: asyncio.AbstractEventLoop) -> None:
        self._tick = loop.call_later(self.pressure.config.grace_s / 2, self._look)
        self.watching = True
        self.on_work()

    def stop_watching(self) -> None:
        """Stop looking for stalled subscriptions."""
        if self._tick is not None:
            self._tick.cancel()
            self._tick = None
            self.watching = False

    def _look(self) -> None:
        self._tick = None
        self.watching = False
        now_ns = self.clock.now_ns()
        grace_ns = self.pressure.config.grace_s * 1e9
        unfinished = False
        for subscription in tuple(self.router):  # a callback may unsubscribe
            mailbox = subscription.mailbox
            waiting, progress = mailbox.waiting, mailbox.progress
            unfinished = unfinished or waiting > 0 or mailbox.stalled
            if not waiting or progress != subscription.moved_at[0]:
                subscription.moved_at = (progress, now_ns)
                if mailbox.stalled and waiting < self.pressure.fall[0]:
                    self._set_stalled(subscription, stalled=False)
            elif self.alone is not None:
                subscription.moved_at = (progress, now_ns)  # it is held: that is no standing still
            elif not mailbox.stalled and now_ns - subscription.moved_at[1] >= grace_ns:
                self._set_stalled(subscription, stalled=True)
        if unfinished and self._tick is None and self.loop is not None:
            self._watch_on(self.loop)

    def _set_stalled(self, subscription: Subscription, *, stalled: bool) -> None:
        subscription.mailbox.set_stalled(stalled)
        waiting = subscription.mailbox.waiting
        if stalled:
            log.warning(
                "%s has not moved for %s s with %d events waiting: it does not hold up the others any more",
                subscription.name,
                self.pressure.config.grace_s,
                waiting,
            )
        else:
            log.info("%s moves again, with %d events waiting", subscription.name, waiting)
        for callback in self.on_stalled:
            guarded(callback, subscription, stalled)
        self.on_drained(None)

    def still_ns(self, subscription: Subscription, now_ns: int) -> int:
        """Return for how long a subscription has not moved with events waiting; 0 if it moves, or may not."""
        mailbox = subscription.mailbox
        progress, since_ns = subscription.moved_at
        alone = self.alone
        may_not = not self.running or (alone is not None and alone is not subscription)
        if may_not or not mailbox.waiting or progress != mailbox.progress:
            return 0
        return max(0, now_ns - max(since_ns, self.watched_since_ns))

    def stalled_names(self) -> tuple[str, ...]:
        """Return the names of the subscriptions that do not gate because they have stopped moving."""
        return tuple(s.name for s in self.router if s.mailbox.stalled)

    def in_flight_ids(self) -> set[str]:
        """Return the ids of all events that wait or are in a handler."""
        ids: set[str] = set(self.durability.pending_ids())
        lists: dict[int, list[Any]] = {}  # subscriptions share them: each is looked at once
        for subscription in self.router:
            for mailbox in (subscription.mailbox, subscription.control):
                for batch in mailbox.open:
                    lists[id(batch.events)] = batch.events
                for lane in (mailbox.high, mailbox.normal):
                    for events in lane.waiting_lists():
                        lists[id(events)] = events
            if subscription.offsets is not None:
                for offsets in subscription.offsets.lanes:
                    ids.update(event.event_id for _, event, _ in offsets.held)
        for events in lists.values():
            ids.update(map(_event_id, events))
        return ids

    # -- consumers ------------------------------------------------------------------------------------

    def run(self, subscription: Subscription) -> None:
        """Start the workers of a subscription."""
        assert self.loop is not None
        self.consumers[subscription] = Consumer(subscription, self, self.loop)

    def withdraw_control(
        self, subscription: Subscription, which: Callable[[Any], bool] | None = None
    ) -> None:
        """Withdraw kill switches that wait for a subscription; nobody need hurry for them any more."""
        lane = subscription.control.normal
        untried = lane.untried
        subscription.control.withdraw(which)
        self.control_waiting -= untried - lane.untried

    def end(self, subscription: Subscription) -> None:
        """End a subscription: what waits is withdrawn and counted, the current calls may end."""
        subscription.ended = True
        subscription.mailbox.withdraw()
        subscription.withdraw_held()
        self.withdraw_control(subscription)
        self.router.remove(subscription)
        self.durability.ended(subscription)
        subscription.let_go()
        consumer = self.consumers.pop(subscription, None)
        if consumer is not None:
            self.leaving = {other for other in self.leaving if not other.is_over} | {consumer}
            consumer.wake()
            if consumer.control is not None:
                consumer.control.wake()
        self.on_drained(None)


def guarded(callback: Callable[..., Any], *args: Any) -> None:
    """Call a user's callback; what it raises is logged and stays its own."""
    try:
        result = callback(*args)
        if asyncio.iscoroutine(result):
            task = asyncio.get_running_loop().create_task(result)
            _callbacks.add(task)
            task.add_done_callback(_callback_ended)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:  # a CancelledError too: `future.result()` raises it, nobody cancels a plain call
        log.exception("the callback %r raised", callback)


_callbacks: set["asyncio.Task[Any]"] = set()


def _callback_ended(task: "asyncio.Task[Any]") -> None:
    _callbacks.discard(task)
    if not task.cancelled() and task.exception() is not None:
        log.error("a callback raised", exc_info=task.exception())
