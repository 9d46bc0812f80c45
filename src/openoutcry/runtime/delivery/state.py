"""The state of a running bus that its parts share: clock, loop, who is busy, who waits until all is settled.

It decides nothing: admission, the dispatcher and the workers read and change it.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from operator import attrgetter
from typing import Any, Protocol

from openoutcry.clocks import SystemClock
from openoutcry.config import BackpressureConfig
from openoutcry.core.halts import Halts
from openoutcry.core.holds import Hold, SharedHolds
from openoutcry.core.mailbox import Mailbox
from openoutcry.core.pressure import Pressure
from openoutcry.core.rates import Rates
from openoutcry.core.retries import DeadLetter
from openoutcry.errors import BusClosed, JournalError, SeatLost
from openoutcry.events import Event
from openoutcry.logs import about
from openoutcry.ports import Clock
from openoutcry.runtime.delivery.causation import Cause, Envelopes, Tracker
from openoutcry.runtime.delivery.chance import Chance
from openoutcry.runtime.delivery.conflicts import Conflicts
from openoutcry.runtime.delivery.dead_letters import DeadLetters
from openoutcry.runtime.delivery.durability import Durability, NoDurability
from openoutcry.runtime.delivery.error_log import ErrorLog
from openoutcry.runtime.delivery.hearing import Hearing
from openoutcry.runtime.delivery.history import History
from openoutcry.runtime.delivery.outbox import Output
from openoutcry.runtime.delivery.redriving import LetterDispatcher, Redriving
from openoutcry.runtime.delivery.router import Router
from openoutcry.runtime.delivery.seen_ids import SeenIds
from openoutcry.runtime.delivery.subscription import Subscription
from openoutcry.runtime.delivery.tape import MailboxKind, Tape, mailboxes_of
from openoutcry.runtime.delivery.threads import ThreadKind
from openoutcry.runtime.delivery.unheard import Unheard
from openoutcry.runtime.ownership import Ownership, resolve

log = logging.getLogger("openoutcry")
SLICE_LEAST_NS = 25_000
SLICE_MOST_NS = 250_000
TURN_NS = 500_000


_event_id = attrgetter("event_id")
NO_DURABILITY = NoDurability()


class RoundObserver(Protocol):
    """What wants to know which events of a round did not reach an agent: the rounds."""

    def note_let_go(self, round_id: str, subscription: str) -> None:
        """Note that a subscription has let go an event of a round."""
        ...


class BusState:
    """Shared state; each attribute is read and written on the bus's loop only.

    Attributes:
        ownership: Which loop the bus belongs to, and whether a call may be made where it is made.
        phase: `new`, `running`, `stopping` or `stopped`.
        checks_all: Whether what no journal takes is checked as what one does: it must come back equal.
        chance: What handlers draw from, and the bus itself.
        running: Whether handlers are called: while it is running or stopping.
        holds: The holds that all subscriptions have together.
        busy: Workers that are not at rest. 0 means that everything delivered is settled.
        control_waiting: Kill switches that no worker has taken: workers give the loop back at once.
        thread_waiting: Whether an urgent event from another thread waits for its turn of the loop: the same.
        room_waiting: Whether a publisher waits for room: workers tell of every call that they begin.
        pressured: Whether somebody waits for a mailbox to drain.
        in_outboxes: Events that wait for the end of the calls that have published them.
        durability: What keeps events in a journal; the null object without one.
        halts: The active kill switches.
        hearing: Who has heard the newest of them.
        conflicts: Ids that were used again for other content.
        unheard: What nobody takes.
        outboxed: The events that wait in an outbox, by id.
        on_released: Called when a commit was released, with the position up to which everything is released,
            whether the commit has nothing but ordinary events with no header, and whether other desks have
            made all of them.
        noted: The tape, where the day is recorded; None elsewhere.
        mailboxes: Makes the mailboxes of subscriptions.
        threads: Makes the threads of their workers, where they have some.
        fenced: Why nothing durable is accepted and no call begun: this process does not hold its desk.
        seat_lost: Why it never will again: another process has claimed its desk since it started.

    """

    def __init__(
        self,
        capacity: int,
        config: BackpressureConfig,
        clock: Clock,
        history: History,
        seen: SeenIds,
        ownership: Ownership,
        rounds: RoundObserver,
        checks_all: bool,
        chance: Chance,
        threads: ThreadKind,
        mailboxes: MailboxKind | None = None,
        is_taped: bool = False,
    ) -> None:
        self.ownership = ownership
        self._rounds = rounds
        self.checks_all = checks_all
        self.chance: Chance = chance
        self.clock: Clock = clock
        self.loop: asyncio.AbstractEventLoop | None = None
        self.router: Router = Router()
        self.holds: SharedHolds = SharedHolds()
        self.history = history
        self.seen = seen
        self.conflicts: Conflicts = Conflicts()
        self.unheard: Unheard = Unheard()
        self.outboxed: dict[str, Any] = {}
        self.envelopes: Envelopes = Envelopes(max(10_000, history.size))
        self.pressure: Pressure = Pressure(capacity, config)
        self.phase = "new"
        self.running: bool = False
        self.tracker: Tracker = Tracker(None)
        self.busy = 0
        self.control_waiting: int = 0
        self.thread_waiting = False
        self.room_waiting = False
        self.pressured = False
        self.dead_letters: DeadLetters = DeadLetters()
        self.redriving: Redriving = Redriving(self.dead_letters)
        self.durability: Durability = NO_DURABILITY
        self.halts: Halts = Halts()
        self.hearing: Hearing = Hearing()
        self.on_released: list[Callable[[int, bool, bool], None]] = []
        self.fenced: SeatLost | None = None
        self.seat_lost: SeatLost | None = None
        self.on_journal_error: list[Callable[[JournalError], Any]] = []
        self.on_dead: list[Callable[[DeadLetter], Any]] = []
        self.on_failing: list[Callable[[Subscription, bool], Any]] = []
        self.on_stalled: list[Callable[[Subscription, bool], Any]] = []
        self.on_raised: list[Callable[[str, Any, BaseException], None]] = []
        self.in_outboxes: int = 0
        self._callback_errors = ErrorLog(lambda: self.clock.now_ns(), holds_errors=True)  # noqa: PLW0108 - another clock may come
        self._callbacks: set[asyncio.Task[Any]] = set()
        self._joiners: list[asyncio.Future[None]] = []
        self._stop_waiters: list[asyncio.Future[None]] = []
        self.rates: Rates | None = None
        self.noted: Tape | None = Tape(self) if is_taped else None
        self.threads: ThreadKind = threads
        self.mailboxes: MailboxKind = mailboxes or mailboxes_of(self.noted)

    @property
    def released(self) -> int:
        """Everything up to this position of the journal has been handed out."""
        return self.durability.released

    @property
    def boxes(self) -> Iterator[Mailbox]:
        """The mailboxes of all subscriptions, control lanes included."""
        for subscription in self.router:
            yield subscription.mailbox
            yield subscription.control

    def set_durability(self, durability: Durability | None) -> None:
        """Have this keep what is durable from now on; None: nothing does."""
        self.durability = NO_DURABILITY if durability is None else durability

    def fence(self, error: SeatLost | None) -> None:
        """Begin no call, and accept nothing durable: this process does not hold its desk. None: it does.

        Current calls go on, and kill switches are handled.
        """
        self.fenced = error
        if error is not None:
            self.holds.set(Hold.SEAT)
            for subscription in self.router:
                if subscription.mailbox.open:
                    subscription.mailbox.cut_all()
            self.rested()
            return
        self.holds.lift(Hold.SEAT)
        for subscription in self.router:
            subscription.moved_at = (subscription.mailbox.progress, self.clock.now_ns())
            subscription.wake_all()

    def lose_seat(self, error: SeatLost) -> None:
        """Another process has claimed this desk for good. Who waits for the stop of the bus is told."""
        self.seat_lost = error
        self._wake_stop_waiters(error)

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
                resolve(joiner)

    def dead(self, subscription: Subscription, letter: DeadLetter, number: int = 0) -> None:
        """File a dead letter of an event with this number in its lane, and tell the observers."""
        self._tell_dead(self.dead_letters.bury(subscription, letter, number))

    def put_away(self, letter: DeadLetter) -> None:
        """File a dead letter of no subscription, and tell the observers."""
        self._tell_dead(self.dead_letters.put_away(letter))

    def dead_of_no_room(self, subscription: Subscription, letter: DeadLetter) -> None:
        """File a dead letter while events are delivered, and tell the observers when that is over.

        What they publish must not get to anybody before what is being delivered, nor must their publishing
        lead to the next letter, and so on, in a single turn of the loop.
        """
        letter = self.dead_letters.bury(subscription, letter)
        if self.on_dead:
            assert self.loop is not None
            self.loop.call_soon(self._tell_dead, letter)

    def _tell_dead(self, letter: DeadLetter) -> None:
        for callback in self.on_dead:
            self.guard(callback, letter)

    def catch_up(self, subscription: Subscription, dispatcher: LetterDispatcher) -> None:
        """Hand a subscription more of what it is owed: from the journal, and letters that are redriven."""
        self.durability.catch_up(subscription)
        if not subscription.holds.may_read:
            return
        try:
            self.redriving.hand_on(subscription, dispatcher, self.clock.now_ns())
        except JournalError as error:  # they wait until the journal is recovered into a new file
            subscription.read_on(error=str(error))
            name = subscription.name
            log.critical(
                "the dead letters of %s cannot be read: %s", name, error, extra=about(subscription=name)
            )
            self.journal_failed(error)

    def salt(self, subscription: Subscription, lane: str, number: int) -> str:
        """Return what is mixed into ids derived from an event: something if it was redriven anew."""
        return self.dead_letters.redrives.salt(subscription, lane, number)

    def raised(self, who: str, event: Any, error: BaseException) -> None:
        """Tell the observers what a user's function has raised, before anything becomes of it."""
        for observer in self.on_raised:
            observer(who, event, error)

    def failing(self, subscription: Subscription) -> None:
        """Tell the observers that most events of a subscription fail, or that it handles them again."""
        for callback in self.on_failing:
            self.guard(callback, subscription, subscription.failing)

    def journal_failed(self, error: JournalError) -> None:
        """Tell the observers that the journal is dead, or cannot be read."""
        for callback in self.on_journal_error:
            self.guard(callback, error)

    def let_go(self, subscription: Subscription, events: list[Any], at_ns: int) -> None:
        """Note which events the full mailbox of a subscription has let go."""
        subscription.note_let_go(events, at_ns)
        for event in events:
            round_id = getattr(event, "round_id", None)
            if round_id is not None:
                self._rounds.note_let_go(round_id, subscription.name)

    def forget(self, outputs: list[Output]) -> None:
        """A call has failed: what it had published never was."""
        self.in_outboxes -= len(outputs)
        for output in outputs:
            self.seen.discard(output.entry.event_id)
            self.outboxed.pop(output.entry.event_id, None)

    def envelope_cause(self, event: Any, asked_ns: int) -> Cause:
        """Return what a publication by the handler of `event`, admitted at `asked_ns`, inherits."""
        if isinstance(event, Event):
            return Cause(event.event_id, event.correlation_id or event.event_id, event.round_id, asked_ns)
        known = self.envelopes.get(event.event_id)
        if known is None:
            return Cause(event.event_id, event.event_id, None, asked_ns)
        return Cause(event.event_id, known.correlation_id, known.round_id, asked_ns)

    def guard(self, callback: Callable[..., Any], *args: Any) -> None:
        """Call a user's callback; what it raises is logged and stays its own."""
        try:
            result = callback(*args)
            if asyncio.iscoroutine(result):
                task = asyncio.get_running_loop().create_task(result)
                self._callbacks.add(task)
                task.add_done_callback(partial(self._callback_ended, callback))
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001 - a CancelledError too: `future.result()` raises it
            self._callback_raised(callback, error)

    def _callback_ended(self, callback: Callable[..., Any], task: "asyncio.Task[Any]") -> None:
        self._callbacks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._callback_raised(callback, error)

    def _callback_raised(self, callback: Callable[..., Any], error: BaseException) -> None:
        self.raised(f"the callback {callback!r}", None, error)
        self._callback_errors.tell(logging.ERROR, error, f"the callback {callback!r}", "raised")

    # -- settled ------------------------------------------------------------------------------------

    def settled(self) -> bool:
        """Return True if nothing that was delivered waits or is in flight, also of ended subscriptions.

        A bus that stops without its desk begins nothing any more: what waits there is the next holder's.
        """
        begins_none = self.fenced is not None and self.phase == "stopping"
        return all(
            not s.in_call and not s.control.waiting if begins_none else s.settled for s in self.router
        ) and not any(s.in_call for s in self.router.ended)

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
        """The loop was closed: nothing runs any more, and nobody waits there."""
        self.running = False
        self.stopped()

    def stopped(self) -> None:
        """Wake those who wait for everything to be settled; it is, or it will not be."""
        self.rested()
        joiners, self._joiners = self._joiners, []
        waiting = sum(s.mailbox.waiting for s in self.router)
        error = BusClosed(f"the bus stopped with {waiting} deliveries waiting; the next start makes them")
        for joiner in joiners:
            resolve(joiner, error=error)
        self._wake_stop_waiters()

    def wait_stopped(self) -> "asyncio.Future[None]":
        """Return a future that is done at the end of the next stop. It fails if the desk is lost before."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._stop_waiters = [waiter for waiter in self._stop_waiters if not waiter.done()]
        self._stop_waiters.append(future)
        if self.seat_lost is not None:
            self._wake_stop_waiters(self.seat_lost)
        return future

    def _wake_stop_waiters(self, error: SeatLost | None = None) -> None:
        waiters, self._stop_waiters = self._stop_waiters, []
        for waiter in waiters:
            resolve(waiter, error=error)

    # -- what waits ---------------------------------------------------------------------------------

    def stalled_names(self) -> tuple[str, ...]:
        """Return the names of the subscriptions that have stopped moving with events waiting."""
        return tuple(s.name for s in self.router if s.mailbox.stalled)

    def in_flight_ids(self) -> Iterator[str]:
        """Iterate the ids of all events that wait or are in a handler; some may come twice."""
        return chain(self.durability.pending_ids(), self.outboxed, map(_event_id, self.in_flight()))

    def in_flight(self) -> Iterator[Any]:
        """Iterate the events that wait for a subscription or are in a handler."""
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
                    yield from (event for _, event, _ in offsets.held)
        for events in lists.values():
            yield from events

    # -- withdrawing --------------------------------------------------------------------------------

    def withdraw(self, subscription: Subscription, which: Callable[[Any], bool] | None = None) -> None:
        """Give up what waits for a subscription (or what of it `which` says), counted as withdrawn.

        What of it was redriven is a dead letter as before, and no worker gives way any more for its kill
        switches. Current calls go on.
        """
        lane = subscription.control.normal
        untried = lane.untried

        def withdraw() -> None:
            subscription.mailbox.withdraw(which)
            subscription.withdraw_held(which)
            subscription.control.withdraw(which)

        if which is None:
            self.dead_letters.redrives.call_off(subscription)
        self.dead_letters.withdrawing(subscription, withdraw)
        self.control_waiting -= untried - lane.untried
