"""The state of a running bus that its parts share: clock, loop, who is busy, who waits until all is settled.

It decides nothing: admission, the dispatcher and the workers read and change it.
"""

import asyncio
import logging
from collections.abc import Callable
from operator import attrgetter
from typing import Any

from openoutcry.clocks import SystemClock
from openoutcry.config import BackpressureConfig
from openoutcry.core.halts import Halts
from openoutcry.core.holds import SharedHolds
from openoutcry.core.mailbox import Mailbox
from openoutcry.core.pressure import Pressure
from openoutcry.core.rates import Rates
from openoutcry.core.retries import DeadLetter
from openoutcry.errors import BusClosed, JournalError
from openoutcry.events import Event
from openoutcry.ports import Clock
from openoutcry.runtime.delivery.causation import Cause, Envelopes, Tracker
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


_event_id = attrgetter("event_id")
NO_DURABILITY = NoDurability()


class BusState:
    """Shared state; each attribute is read and written on the bus's loop only.

    Attributes:
        phase: `new`, `running`, `stopping` or `stopped`.
        running: Whether handlers are called: while it is running or stopping.
        holds: The holds that all subscriptions have together.
        busy: Workers that are not at rest. 0 means that everything delivered is settled.
        control_waiting: Kill switches that no worker has taken: workers give the loop back at once.
        thread_waiting: Whether an urgent event from another thread waits for its turn of the loop: the same.
        room_waiting: Whether a publisher waits for room: workers tell of every call that they begin.
        pressured: Whether somebody waits for a mailbox to drain.
        durability: What keeps events in a journal; the null object without one.
        halts: The active kill switches.

    """

    def __init__(
        self, capacity: int, config: BackpressureConfig, clock: Clock, history: History, seen: SeenIds
    ) -> None:
        self.clock = clock
        self.loop: asyncio.AbstractEventLoop | None = None
        self.router = Router()
        self.holds = SharedHolds()
        self.history = history
        self.seen = seen
        self.envelopes = Envelopes(max(10_000, history.size))
        self.pressure = Pressure(capacity, config)
        self.phase = "new"
        self.running = False
        self.tracker = Tracker(None)
        self.busy = 0
        self.control_waiting = 0
        self.thread_waiting = False
        self.room_waiting = False
        self.pressured = False
        self.fullest: Mailbox | None = None
        self.dead_letters = DeadLetters()
        self.durability: Durability = NO_DURABILITY
        self.halts = Halts()
        self.on_journal_error: list[Callable[[JournalError], Any]] = []
        self.on_dead: list[Callable[[DeadLetter], Any]] = []
        self.on_failing: list[Callable[[Subscription, bool], Any]] = []
        self.on_stalled: list[Callable[[Subscription, bool], Any]] = []
        self._joiners: list[asyncio.Future[None]] = []
        self.rates: Rates | None = None

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

    def rested(self) -> None:
        """Everything delivered is settled, or what is left is paused: wake those who wait for that."""
        if self._joiners and self.settled():
            joiners, self._joiners = self._joiners, []
            for joiner in joiners:
                if not joiner.done():
                    joiner.set_result(None)

    def dead(self, subscription: Subscription, letter: DeadLetter, number: int = 0) -> None:
        """File a dead letter of an event with this number in its lane, and tell the observers."""
        letter = self.dead_letters.bury(subscription, letter, number)
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
        return all(s.settled for s in self.router) and not any(s.in_call for s in self.router.ended)

    def wait_settled(self) -> "asyncio.Future[None]":
        """Return a future that is done when everything is settled; it fails if the bus stops before."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._joiners.append(future)
        future.add_done_callback(self._joined)
        return future

    def _joined(self, future: "asyncio.Future[None]") -> None:
        if future in self._joiners:  # cancelled: nobody waits any more
            self._joiners.remove(future)

    def give_up_loop(self) -> None:
        """The loop was closed: nothing runs any more, and nobody waits."""
        self.running = False
        self._joiners.clear()

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

    # -- depth --------------------------------------------------------------------------------------

    def depth(self) -> int:
        """Return how many events wait in the fullest gating mailbox."""
        deepest, fullest = 0, None
        for subscription in self.router:
            depth = subscription.mailbox.gating
            if depth > deepest:
                deepest, fullest = depth, subscription.mailbox
        self.fullest = fullest
        return deepest

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

    # -- kill switches ------------------------------------------------------------------------------

    def withdraw_control(
        self, subscription: Subscription, which: Callable[[Any], bool] | None = None
    ) -> None:
        """Withdraw kill switches that wait for a subscription; no worker gives way for them any more."""
        lane = subscription.control.normal
        untried = lane.untried
        subscription.control.withdraw(which)
        self.control_waiting -= untried - lane.untried


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
