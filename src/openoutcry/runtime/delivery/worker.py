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

Handlers are awaited directly, one after the other: no task, no time-out object and no lock per event. A
time-out is a timer that looks at the call in hand; a call that does not end when cancelled is abandoned, and
a new worker goes on.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from openoutcry.core.lanes import Batch
from openoutcry.core.mailbox import Mailbox
from openoutcry.events import Derivation
from openoutcry.ports import Marks
from openoutcry.runtime.delivery.causation import current
from openoutcry.runtime.delivery.in_flight import InFlightMarker
from openoutcry.runtime.delivery.interrupting import Interruptible
from openoutcry.runtime.delivery.loops import PROBE, Drive, await_each, call_each, own_copy, probe
from openoutcry.runtime.delivery.outbox import Output, posting
from openoutcry.runtime.delivery.subscription import Handler, Subscription
from openoutcry.runtime.delivery.threads import HandlerThread, in_thread

if TYPE_CHECKING:
    from openoutcry.runtime.delivery.consumer import Consumer

log = logging.getLogger("openoutcry")

BATCH_MOST = 1024
BATCH_FIRST = 16
SLICE_LEAST_NS = 25_000
SLICE_MOST_NS = 250_000
SAMPLE_MASK = 7
GIVE_WAY_MOST = 2  # once for the thread's event to get in, once for its worker


class Worker(Interruptible):
    """One call at a time, from one mailbox."""

    __slots__ = (
        "_limit",
        "_resting",
        "began_ns",
        "bus",
        "hand",
        "is_control",
        "marker",
        "outbox",
        "waiter",
    )

    def __init__(self, consumer: "Consumer", mailbox: Mailbox, *, is_control: bool) -> None:
        self.consumer = consumer
        self.mailbox = mailbox
        self.is_control = is_control
        self.bus: object = consumer.crew
        self.abandoned = self.superseded = self._resting = self._asked_to_stop = False
        self.batch: Batch | None = None
        self.waiter: Any = None
        self._deadline_ns: int | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._limit = BATCH_FIRST
        self._beat = self.began_ns = 0
        self._derived_for = (0, 0)
        self._derivation: Derivation | None = None
        self.hand: HandlerThread | None = None
        self.outbox: list[Output] | None = None
        self.marker = InFlightMarker.of(
            consumer.subscription, consumer.crew.durability.marks, is_control=is_control
        )
        self.task: asyncio.Task[None] = consumer.loop.create_task(
            self._run(), name=f"openoutcry:{consumer.name}"
        )
        self.task.add_done_callback(self._ended)
        consumer.crew.busy += 1

    def mark_in(self, marks: Marks | None) -> None:
        """Mark the next calls here: the journal was replaced. The current call is not marked any more."""
        if self.marker is not None:
            self.marker.clear()
            self.marker.release()
        self.marker = InFlightMarker.of(self.consumer.subscription, marks, is_control=self.is_control)

    def wake(self) -> bool:
        """Look at the mailbox again, if waiting. Tell whether the worker will run because of this call."""
        waiter = self.waiter
        if waiter is None:
            return False
        self.waiter = None
        if waiter.done():
            return False  # the worker is about to end: its successor will look
        if self._resting:
            self._resting = False
            self.consumer.crew.busy += 1
        waiter.set_result(None)
        return True

    async def _run(self) -> None:  # noqa: C901, PLR0912, PLR0915 - what is done for every batch is written out
        """Work until the subscription ends."""
        current.set(self)
        mailbox, crew, dispatcher = self.mailbox, self.consumer.crew, self.consumer.crew.dispatcher
        subscription, latencies = self.consumer.subscription, self.consumer.subscription.latencies
        high, normal, clock_ns = mailbox.high, mailbox.normal, crew.clock.now_ns
        drive = self._drive()
        guarded, gave_way = self.consumer.guarded, 0
        now_ns = slice_began_ns = clock_ns()
        while not (subscription.ended or self._asked_to_stop):
            if (crew.control_waiting or crew.thread_waiting) and self._gives_way(gave_way):
                gave_way += 1
                await asyncio.sleep(0)
                continue
            gave_way = 0
            batch = self._take(now_ns) if high.waiting or normal.waiting or mailbox.behind else None
            if batch is None:
                if mailbox.behind and self._reads_on():
                    await asyncio.sleep(0)
                    now_ns = slice_began_ns = clock_ns()
                    continue
                timer = self._prepare_rest(now_ns)
                try:
                    await self.waiter
                finally:
                    if timer is not None:
                        timer.cancel()
                    if dispatcher.scheduled:
                        # The feed woke the workers first: so the delivery costs no turn of the loop.
                        dispatcher.deliver()
                now_ns = slice_began_ns = clock_ns()
                continue
            self._beat = beat = self._beat + 1
            self.began_ns = now_ns
            count = len(batch.events)
            if count > 1 or not beat & SAMPLE_MASK:
                latencies.record(now_ns - batch.admitted_ns)
            if not guarded or self._still_good(batch, now_ns):
                if not await self._call(batch, drive, subscription.handler, clock_ns):
                    break
                began_ns, now_ns = now_ns, clock_ns()
                subscription.last_ns = now_ns
                if count >= self._limit or now_ns - began_ns > SLICE_MOST_NS:
                    self._adapt(now_ns - began_ns, len(batch.events))
            else:
                now_ns = clock_ns()
            if crew.pressured:
                crew.drained(mailbox)
            if now_ns - slice_began_ns >= SLICE_LEAST_NS and now_ns - slice_began_ns >= crew.slice_ns():
                await asyncio.sleep(0)
                now_ns = slice_began_ns = clock_ns()
        if self.abandoned:
            self.consumer.abandoned_call_ended(self)

    def _drive(self) -> Drive:
        """Return what calls the handler."""
        subscription = self.consumer.subscription
        if subscription.options.blocking:
            self.hand = HandlerThread(f"openoutcry:{self.consumer.name}")
            return in_thread(self, self.hand)
        return own_copy(await_each if subscription.is_coroutine else call_each)

    async def _call(self, batch: Batch, drive: Drive, handler: Handler, clock_ns: Callable[[], int]) -> bool:
        """Call the handler for a batch and see to its end. False when the worker must not go on."""
        tracker, marker = self.consumer.crew.tracker, self.marker
        if marker is not None:
            drive = marker.drive(batch, drive, alone=self.consumer.crew.alone is not None)
        if self.consumer.outbox:
            drive = self._posting(batch, drive)
        self.batch = batch
        tracker.calls += 1
        try:
            if len(batch.events) > PROBE:
                await probe(drive, batch, handler, clock_ns)
            else:
                await drive(batch.iterator, handler)
        except BaseException as error:  # noqa: BLE001 - whatever a handler lets out is its failure
            goes_on = self._after_error(batch, error)
        else:
            if self.has_swallowed_timeout:
                goes_on = self._after_error(batch, TimeoutError("it returned when cancelled"))
            else:
                goes_on = not self.abandoned and self._after_success(batch)
        finally:
            tracker.calls -= 1
            self.batch = None
            if marker is not None:
                marker.clear()
        if goes_on and self.task.cancelling():
            await self._spend_cancellation()
        return goes_on

    def _posting(self, batch: Batch, drive: Drive) -> Drive:
        """Have what the handler publishes wait for the end of its call."""
        crew, subscription = self.consumer.crew, self.consumer.subscription

        async def post(who: Subscription, what: Batch, outputs: list[Output]) -> None:
            if self.abandoned or self.has_swallowed_timeout:
                crew.forget(outputs)  # its event waits again, or is buried: another call makes them
                return
            self._silence_alarm()  # the call is over: committing is not the handler's time
            await crew.durability.post(who, what, outputs)

        return posting(drive, subscription, batch, post, crew.forget, self._open_box)

    def _open_box(self, outputs: list[Output] | None) -> None:
        self.outbox = outputs

    def _gives_way(self, times: int) -> bool:
        """Tell whether to let a kill switch or a thread's urgent event go first once more."""
        return not self.is_control and times < GIVE_WAY_MOST

    def _take(self, now_ns: int) -> Batch | None:
        if self.is_control:
            batch = self.mailbox.take(1, now_ns)
            if batch is not None and not batch.attempts:
                # The other workers need not hurry for this one any more. (A retry was never counted.)
                self.consumer.crew.control_waiting -= 1
            return batch
        subscription, crew = self.consumer.subscription, self.consumer.crew
        if subscription.halted or (crew.alone is not None and crew.alone is not subscription):
            return None
        single = self.consumer.single
        breaker = self.consumer.breaker
        if breaker is not None and not breaker.is_closed:
            goes = self.consumer.may_begin(breaker, now_ns)
            if goes is False:
                return None
            single = single or goes is None
        if self.mailbox.behind:
            crew.durability.catch_up(subscription)
        if crew.alone is not None:
            return self.mailbox.take(1, now_ns)
        if crew.room_waiting:
            # One at a time, and told when it is begun: each makes room for somebody who waits for it.
            self.consumer.loop.call_soon(crew.drained, self.mailbox)
            return self.mailbox.take(1, now_ns)
        return self.mailbox.take(1 if single else self._limit, now_ns)

    def _reads_on(self) -> bool:
        """Tell whether more of the journal may be read at once: then the worker must not come to rest."""
        subscription, mailbox, alone = self.consumer.subscription, self.mailbox, self.consumer.crew.alone
        if (
            self.is_control
            or subscription.halted
            or subscription.failing
            or subscription.read_error
            or self.consumer.crew.reads_wait
            or (alone is not None and alone is not subscription)
        ):
            return False
        return not (mailbox.high.waiting or mailbox.normal.waiting)

    def _still_good(self, batch: Batch, now_ns: int) -> bool:
        """Put a batch that is too old away, set the alarm for one that is not."""
        consumer = self.consumer
        too_old = consumer.max_age_ns is not None and now_ns - batch.admitted_ns > consumer.max_age_ns
        if too_old and not self.is_control:
            count = len(batch.events)
            self.mailbox.expire(batch)
            self._settled(count)
            return False
        if consumer.timeout_ns is not None:
            self._set_alarm(now_ns)
        return True

    def _after_success(self, batch: Batch) -> bool:
        """Settle. False when the worker must not go on."""
        self.mailbox.settle(batch)
        offsets = self.consumer.subscription.offsets
        if offsets is not None:
            offsets.settled(batch.lane, len(batch.events))
        if self._deadline_ns is not None:
            self.superseded = False
            self._silence_alarm()
        return not self._asked_to_stop

    def _adapt(self, took_ns: int, count: int) -> None:
        """Take as many events at a time as fit in a slice, by what the last batch took."""
        if took_ns < SLICE_MOST_NS // 4:
            self._limit = min(BATCH_MOST, self._limit * 2)
        elif took_ns > SLICE_MOST_NS:
            self._limit = max(1, count * SLICE_MOST_NS // took_ns)

    def _prepare_rest(self, now_ns: int) -> asyncio.TimerHandle | None:
        """Make the future to wait for, and the timer that sets it when a retry is due.

        Without a timer the worker is at rest: nothing waits for it.
        """
        loop, crew, mailbox = self.consumer.loop, self.consumer.crew, self.mailbox
        if self.is_control and self.consumer.drill_is_out:
            self.consumer.answer_drill()
        self.waiter = loop.create_future()
        if mailbox.high.waiting or mailbox.normal.waiting:
            due_ns = mailbox.due_ns()
            consumer = self.consumer
            # (Who waits while another has the bus to itself is woken at the end of that.)
            subscription = consumer.subscription
            waits = subscription.halted or consumer.is_held or crew.alone not in (None, subscription)
            if due_ns is not None and (self.is_control or not waits):
                return loop.call_later(max(0, due_ns - now_ns) / 1e9, self.wake)
        self._resting = True
        crew.busy -= 1
        if not crew.busy:
            crew.rested()
        return None

    def _abandon(self, batch: Batch) -> None:
        """The cancelled call has not ended: go on without it."""
        self._alarm = None
        if self.batch is batch and not self.abandoned:
            self.abandoned = True
            is_derived = self._derived_for == self.call
            if self.superseded:
                self._conflate(batch)
                self.consumer.leave_superseded(self)
            else:
                self.mailbox.fail(batch)
                self.consumer.abandon(self, batch)
            if is_derived:  # what the call still makes goes on being numbered from where it was
                self._derived_for = self.call

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.waiter = None
        if self.hand is not None:
            self.hand.shutdown()
        if self.marker is not None:
            self.marker.release()
        if self._alarm is not None:
            self._alarm.cancel()
        if not self._resting and not self.abandoned:
            crew = self.consumer.crew
            crew.busy -= 1
            if not crew.busy:
                crew.rested()
        if not task.cancelled() and task.exception() is not None:
            log.critical("the worker of %s ended", self.consumer.name, exc_info=task.exception())
        self.consumer.worker_ended(self)
