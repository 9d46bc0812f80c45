"""A worker: one call at a time, from one mailbox, for as long as the subscription lives.

```
           ┌──────── idle (a future) ◀───────┐
  wake ────┤                                 │ nothing may start
           ▼                                 │
         take ──▶ for event in batch: await handler(event) ──▶ settle ──▶ give the loop back
                        │ raised, timed out, cancelled by nobody          when the slice is used up
                        ▼
                  retry after a wait | bury as a dead letter
```

Handlers are awaited directly, one after the other: no task, no time-out object and no lock per event. The
subscription's holds say what may be begun (`core/holds.py`). A worker has two parts: the guard of its calls,
which ends them from outside (`call_guard`), and their lineage, which knows what they publish (`causation`).

It is woken by the dispatcher (`Dispatcher.begin` when a batch is staged, `Dispatcher.push` when it is in the
mailbox), by whatever lifts a hold or hands the lane something owed, and by its own timer when a retry is due.
"""

import asyncio
import logging
from contextvars import copy_context
from typing import Any, Protocol

from openoutcry.core.holds import Hold
from openoutcry.core.lanes import Batch
from openoutcry.core.mailbox import Mailbox
from openoutcry.errors import DecidedOtherwise
from openoutcry.logs import about
from openoutcry.runtime.delivery.call_guard import CallGuard
from openoutcry.runtime.delivery.causation import Lineage, current
from openoutcry.runtime.delivery.failures import Failures
from openoutcry.runtime.delivery.in_flight import InFlightMarker
from openoutcry.runtime.delivery.loops import (
    PROBE,
    Drive,
    await_each,
    call_each,
    call_each_isolated,
    own_copy,
    probe,
)
from openoutcry.runtime.delivery.outbox import posting
from openoutcry.runtime.delivery.redriving import LetterDispatcher
from openoutcry.runtime.delivery.state import BusState
from openoutcry.runtime.delivery.stopwatch import SAMPLED, SLOW_NS, Stopwatch
from openoutcry.runtime.delivery.subscription import Subscription
from openoutcry.runtime.delivery.threads import in_thread

log = logging.getLogger("openoutcry")

BATCH_MOST = 1024
BATCH_FIRST = 1  # until it is known that calls are quick: nobody could tell how long one has run
SLICE_LEAST_NS = 25_000
SLICE_MOST_NS = 250_000
GIVE_WAY_MOST = 2  # once for the thread's event to get in, once for its worker


class Deliverer(LetterDispatcher, Protocol):
    """The dispatcher, as workers see it: the first worker to run may deliver what is staged.

    Attributes:
        scheduled: Whether a delivery is due.

    """

    scheduled: bool

    def deliver(self) -> None:
        """Put what is staged into the mailboxes."""
        ...

    def drained(self, mailbox: Mailbox | None) -> None:
        """A worker has moved on while the bus is under pressure."""
        ...


class Owner(Protocol):
    """The consumer, as its workers see it.

    Attributes:
        failures: What becomes of failed calls.

    """

    failures: Failures

    def end_superseded(self) -> None:
        """End the calls for whose key something newer waits."""
        ...

    def abandon(self, worker: "Worker", batch: Batch) -> None:
        """Go on without a call that did not end when cancelled; its event failed."""
        ...

    def leave_superseded(self, worker: "Worker") -> None:
        """Go on without a call that did not end when cancelled; its event is settled."""
        ...

    def thread_left(self, future: "asyncio.Future[Any]") -> None:
        """Somebody else than the bus has cancelled a call in a thread, which goes on."""
        ...

    def control_rests(self) -> None:
        """The control worker has come to rest."""
        ...

    def worker_ended(self, worker: "Worker") -> None:
        """The task of a worker has ended."""
        ...


class Worker:
    """One call at a time, from one mailbox.

    Attributes:
        subscription: Whose handler it calls.
        mailbox: Where it takes events from: the subscription's, or its control lane.
        is_control: Whether it handles kill switches.
        batch: What it is handling; None between calls.
        batches_count: How many batches it has begun.
        began_ns: When the last of them began.
        waiter: The future that it waits for when there is nothing to do.
        marker: Marks its calls in the journal, if there is one.
        guard: Ends its current call from outside.
        lineage: Its current call, as the cause of what that call publishes.
        stopwatch: Measures its calls.
        task: Its task.

    """

    __slots__ = (
        "_bus",
        "_dispatcher",
        "_drive",
        "_limit",
        "_loop",
        "_max_age_ns",
        "_own_thread",
        "_owner",
        "_resting",
        "_takes_one",
        "_timer",
        "batch",
        "batches_count",
        "began_ns",
        "guard",
        "is_control",
        "lineage",
        "mailbox",
        "marker",
        "stopwatch",
        "subscription",
        "task",
        "waiter",
    )

    def __init__(
        self,
        owner: Owner,
        subscription: Subscription,
        bus: BusState,
        dispatcher: Deliverer,
        loop: asyncio.AbstractEventLoop,
        *,
        is_control: bool,
    ) -> None:
        options = subscription.options
        self._owner = owner
        self._bus = bus
        self._dispatcher = dispatcher
        self._loop = loop
        self.subscription: Subscription = subscription
        self.mailbox: Mailbox = subscription.control if is_control else subscription.mailbox
        self.is_control: bool = is_control
        self.batch: Batch | None = None
        self.waiter: asyncio.Future[bool] | None = None
        self._resting = False
        self._timer: asyncio.TimerHandle | None = None
        self._limit = BATCH_FIRST
        self._takes_one = is_control or options.takes_one
        self._max_age_ns = None if is_control else options.max_age_ns
        self.batches_count: int = 0
        self.began_ns: int = 0
        self.guard: CallGuard = CallGuard(
            self, loop, bus.clock, timeout_ns=options.timeout_ns, blocks=options.blocking
        )
        self.lineage: Lineage = Lineage(self, subscription, bus)
        self._own_thread = bus.threads(subscription.name) if options.blocking else None
        self._drive = self._make_drive()
        self.stopwatch: Stopwatch = Stopwatch(
            subscription.latencies,
            subscription.durations,
            bus.clock.now_ns,
            always=is_control or options.blocking or options.outbox,
            apart=options.outbox,
        )
        self.marker = InFlightMarker.of(subscription, bus.durability.marks, is_control=is_control)
        context = copy_context()
        context.run(current.set, self.lineage)
        self.task: asyncio.Task[None] = loop.create_task(
            self._run(), name=f"openoutcry:{subscription.name}", context=context
        )
        self.task.add_done_callback(self._ended)
        bus.busy += 1

    def _make_drive(self) -> Drive:
        """Return what calls the handler."""
        if self._own_thread is not None:
            return in_thread(self._own_thread, self.lineage, self.guard, self._owner.thread_left)
        options = self.subscription.options
        if options.isolated:
            drive: Drive = call_each_isolated
        else:
            drive = own_copy(await_each if self.subscription.is_coroutine else call_each)
        return posting(drive, self, self._bus) if options.outbox else drive

    @property
    def running(self) -> bool:
        """Whether a call is running."""
        return self.batch is not None

    def mark_with(self, marker: InFlightMarker | None) -> None:
        """Mark the calls in another journal, from the next one on, or nowhere."""
        if self.marker is not None:
            self.marker.clear()
            self.marker.release()
        self.marker = marker

    def decide_otherwise(self, error: DecidedOtherwise) -> bool:
        """Let the event of the current call become a dead letter at its end, and begin no other before.

        False if the call has ended, or was abandoned.
        """
        if self.batch is None or self.guard.abandoned:
            return False
        if self.guard.otherwise is None:
            self.guard.otherwise = error
            self.mailbox.cut_all()
        return True

    def forked(self) -> None:
        """In a forked child: end after the current call; the marks are the parent's."""
        self.marker = None
        self.guard.forked()

    def wake(self, delivers: bool = False, /) -> bool:
        """Look at the mailbox again, if waiting. Return True if the worker will run because of this call.

        With `delivers` it first delivers what is staged then, unless somebody has by then. (Whoever is woken
        for another reason leaves that alone: others may be about to stage more, for the same batch.)
        """
        waiter = self.waiter
        if waiter is None:
            return False
        self.waiter = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if waiter.done():
            return False  # the worker is about to end: its successor will look
        if self._resting:
            self._resting = False
            self._bus.busy += 1
        waiter.set_result(delivers)
        return True

    async def _run(self) -> None:  # noqa: C901, PLR0912, PLR0915 - what is done for every batch is written out
        """Work until the subscription ends."""
        bus, guard, mailbox, subscription = self._bus, self.guard, self.mailbox, self.subscription
        holds, watch, options = subscription.holds, self.stopwatch, subscription.options
        dispatcher, tracker, clock_ns = self._dispatcher, bus.tracker, bus.clock.now_ns
        is_control, is_guarded, takes_one = self.is_control, options.is_guarded, self._takes_one
        high, normal, drive, gave_way = mailbox.high, mailbox.normal, self._drive, 0
        now_ns = slice_began_ns = clock_ns()
        while not (holds.ended or guard.is_stopping):
            if (bus.control_waiting or bus.thread_waiting) and gave_way < GIVE_WAY_MOST and not is_control:
                gave_way += 1
                await asyncio.sleep(0)
                continue
            batch, gave_way = None, 0
            if high.waiting or normal.waiting or mailbox.behind:
                is_plain = holds.is_clear and not (takes_one or mailbox.behind or bus.room_waiting)
                batch = mailbox.take(self._limit, now_ns) if is_plain else self._take(now_ns)
            if batch is None:
                if await self._rest(now_ns) and dispatcher.scheduled:
                    dispatcher.deliver()  # it woke the workers first, so that this costs no turn of the loop
                now_ns = slice_began_ns = clock_ns()
                continue
            count, self.began_ns = len(batch.events), now_ns
            self.batches_count = number = self.batches_count + 1
            if not is_guarded or self._still_good(batch, now_ns):
                by_call, handler = watch.by_call if count > 1 else watch.apart, subscription.handler
                self.batch, marker = batch, self.marker
                call = drive if marker is None and not by_call else self._call_for(batch, marker, by_call)
                tracker.calls += 1
                try:
                    if count > PROBE:
                        await probe(call, batch, handler, clock_ns)
                    else:
                        await call(batch.iterator, handler)
                except BaseException as error:  # noqa: BLE001 - whatever a handler lets out is its failure
                    goes_on, by_call = self._call_failed(batch, error, by_call), True
                else:
                    goes_on = self._after_success(batch)
                finally:
                    tracker.calls -= 1
                    self.batch = None
                    if marker is not None:
                        marker.clear()
                if not goes_on:
                    break
                if self.task.cancelling():
                    await guard.spend_cancellation()
                subscription.last_ns = now_ns = clock_ns()
                took_ns = now_ns - self.began_ns
                if not by_call and (count > 1 or took_ns > SLOW_NS or not number & SAMPLED or watch.by_call):
                    watch.batch_ended(batch, self.began_ns, took_ns, len(batch.events))
                if count >= self._limit or took_ns > SLICE_MOST_NS:
                    self._limit = _adapted(self._limit, took_ns, len(batch.events))
            else:
                now_ns = clock_ns()
            if bus.pressured:
                dispatcher.drained(mailbox)
            if now_ns - slice_began_ns >= SLICE_LEAST_NS and self._gives_way(now_ns - slice_began_ns):
                await asyncio.sleep(0)
                now_ns = slice_began_ns = clock_ns()

    def _gives_way(self, took_ns: int) -> bool:
        """Return True if others are to have the loop now; with nothing to do it rests, which is as good."""
        mailbox = self.mailbox
        is_more = bool(mailbox.high.waiting or mailbox.normal.waiting or mailbox.behind)
        return is_more and took_ns >= self._bus.slice_ns()

    def _call_for(self, batch: Batch, marker: InFlightMarker | None, by_call: bool) -> Drive:
        """Return what calls the handler for a batch that is marked, or measured call by call."""
        call = self._drive
        if marker is not None:
            call = marker.drive(batch, call, alone=self._bus.holds.is_alone)
        return self.stopwatch.timing(call, batch) if by_call else call

    # -- taking -------------------------------------------------------------------------------------

    def _take(self, now_ns: int) -> Batch | None:
        """Take what may be begun: the way of every batch, but for the plain ones."""
        bus, mailbox, holds = self._bus, self.mailbox, self.subscription.holds
        if self.is_control:
            batch = mailbox.take(1, now_ns)
            if batch is not None and not batch.attempts:
                # The other workers need not hurry for this one any more. (A retry was never counted.)
                bus.control_waiting -= 1
            return batch
        if Hold.FAILING in holds:
            self._owner.failures.look(now_ns)
        if not holds.may_begin:
            return None
        if mailbox.behind:
            bus.catch_up(self.subscription, self._dispatcher)
            self._owner.end_superseded()
        takes_one = self._takes_one or holds.one_at_a_time
        if bus.room_waiting and Hold.ALONE not in holds:
            # One at a time, and told when it is begun: each makes room for somebody who waits for it.
            self._loop.call_soon(self._dispatcher.drained, mailbox)
            takes_one = True
        return mailbox.take(1 if takes_one else self._limit, now_ns)

    def _still_good(self, batch: Batch, now_ns: int) -> bool:
        """Put a batch that is too old away, and give the call its time if it is not."""
        if self._max_age_ns is not None and now_ns - batch.admitted_ns > self._max_age_ns:
            self.mailbox.expire(batch)
            self._note_settled(len(batch.events))
            return False
        self.guard.begin(now_ns)
        return True

    def _rest(self, now_ns: int) -> "asyncio.Future[bool]":
        """Return the future to wait for, and see that it is set when a retry is due, or more may be read.

        Its result says whether the worker is to deliver what is staged. If nothing is due the worker is at
        rest: nothing waits for it.
        """
        bus, mailbox, holds = self._bus, self.mailbox, self.subscription.holds
        waiter = self.waiter = self._loop.create_future()
        due_ns = None
        if self.is_control:
            self._owner.control_rests()
        if mailbox.high.waiting or mailbox.normal.waiting:
            # (Who may not begin is woken when that is over.)
            due_ns = mailbox.due_ns() if self.is_control or holds.may_begin else None
        elif mailbox.behind and holds.may_read:
            due_ns = now_ns
        if due_ns is not None:
            self._timer = self._loop.call_later(max(0, due_ns - now_ns) / 1e9, self.wake)
            return waiter
        self._resting = True
        bus.busy -= 1
        if not bus.busy:
            bus.rested()
        return waiter

    # -- the end of a call --------------------------------------------------------------------------

    def _after_success(self, batch: Batch) -> bool:
        """Settle. False when the worker must not go on."""
        guard = self.guard
        if guard.deadline_ns is not None or guard.abandoned or guard.otherwise is not None:
            if guard.abandoned:
                return False
            if guard.otherwise is not None:
                return self._after_error(batch, guard.otherwise)
            if guard.has_swallowed_timeout:
                return self._after_error(batch, TimeoutError("it returned when cancelled"))
            guard.end()
        self.mailbox.settle(batch)
        offsets = self.subscription.offsets
        if offsets is not None and batch.positions is not None:
            offsets.touched(len(batch.events))
        return not guard.is_stopping

    def _call_failed(self, batch: Batch, error: BaseException, by_call: bool) -> bool:
        """Count a call that raised, and see to its event. False when the worker must not go on."""
        if not self.guard.abandoned:  # else it was counted then
            self.stopwatch.call_failed(batch, self.began_ns, timed=by_call)
        return self._after_error(batch, error)

    def _after_error(self, batch: Batch, error: BaseException) -> bool:
        """Retry or bury what failed. False when the worker must not go on."""
        guard, mailbox = self.guard, self.mailbox
        self._bus.raised(self.subscription.name, batch.current, error)
        if guard.abandoned:
            log.warning(
                "an abandoned call of %s ended: %r",
                self.subscription.name,
                error,
                extra=about(batch.current, self.subscription.name),
            )
            return False
        if isinstance(error, KeyboardInterrupt) or (
            isinstance(error, GeneratorExit) and not self._loop.is_running()
        ):
            # The program ends, or the worker is closed with its loop: nothing was decided about the event.
            if batch in mailbox.open:
                mailbox.release(batch)
            raise error
        cancelled = isinstance(error, asyncio.CancelledError)
        if cancelled and guard.is_stopping:
            mailbox.release(batch)
            return False
        if guard.superseded:
            guard.end()
            mailbox.conflate(batch)
            self._note_settled(1)
            return True
        timed_out = guard.deadline_ns == 0 and (cancelled or isinstance(error, TimeoutError))
        cancelled_from_outside = cancelled and not timed_out and self.task.cancelling() > 0
        otherwise = guard.otherwise
        guard.end()
        if cancelled_from_outside and batch.begun > 1:
            # An earlier handler of the batch may have cancelled the task and returned: this event is to blame
            # only if it happens again when it comes first.
            mailbox.release(batch)
            return False
        mailbox.fail(batch)
        self._owner.failures.failed(batch, otherwise or error, timed_out=timed_out and otherwise is None)
        self._note_settled(1)
        # Whoever cancels the worker's own task wants the task to end: so it does, and a new worker goes on if
        # the loop does.
        return not cancelled_from_outside

    def _note_settled(self, count: int) -> None:
        """Note for the journal that `count` events were settled."""
        offsets = self.subscription.offsets
        if offsets is not None:
            offsets.touched(count)

    def abandon(self, batch: Batch) -> None:
        """Go on without the current call, which did not end when cancelled."""
        if self.guard.superseded:
            self.mailbox.conflate(batch)
            self._note_settled(1)
            self._owner.leave_superseded(self)
        else:
            self.mailbox.fail(batch)
            self._owner.abandon(self, batch)

    def _ended(self, task: asyncio.Task[None]) -> None:
        bus = self._bus
        self.waiter = None
        if self._own_thread is not None:
            self._own_thread.shutdown()
        if self.marker is not None:
            self.marker.release()
        if self._timer is not None:
            self._timer.cancel()
        self.guard.close()
        if not self._resting and not self.guard.abandoned:
            bus.busy -= 1
            if not bus.busy:
                bus.rested()
        if not task.cancelled() and task.exception() is not None:
            name = self.subscription.name
            log.critical(
                "the worker of %s ended", name, exc_info=task.exception(), extra=about(subscription=name)
            )
        if self._dispatcher.scheduled:
            self._dispatcher.deliver()  # it was woken to do so, and then cancelled
        self._owner.worker_ended(self)


def _adapted(limit: int, took_ns: int, count: int) -> int:
    """Return how many events to take at a time so that they fit in a slice, by what the last batch took."""
    if took_ns < SLICE_MOST_NS // 4:
        return min(BATCH_MOST, limit * 2)
    return max(1, count * SLICE_MOST_NS // took_ns) if took_ns > SLICE_MOST_NS else limit
