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
from collections.abc import Callable, Coroutine, Iterator
from inspect import isawaitable
from types import FunctionType
from typing import TYPE_CHECKING, Any

from openoutcry.core.lanes import Batch
from openoutcry.core.mailbox import Mailbox
from openoutcry.runtime.causes import Cause, current
from openoutcry.runtime.subscriptions import Handler

if TYPE_CHECKING:
    from openoutcry.runtime.runner import Runner

log = logging.getLogger("openoutcry")

Drive = Callable[[Iterator[Any], Handler], Coroutine[Any, Any, None]]

BATCH_MOST = 1024
BATCH_FIRST = 16
SLICE_MOST_NS = 250_000
ABANDON_S = 1.0


async def _await_each(events: Iterator[Any], handler: Handler) -> None:
    for event in events:
        await handler(event)


async def _call_each(events: Iterator[Any], handler: Handler) -> None:
    for event in events:
        result = handler(event)
        if result is not None and isawaitable(result):
            await result


def _own_copy(function: Drive) -> Drive:
    """Return the same function over a code object of its own.

    CPython specialises a call for the function it calls, in the code object of the caller. A loop shared by
    all subscriptions calls a different handler each time and never stays specialised: that costs half as much
        again.
    """
    assert isinstance(function, FunctionType)
    return FunctionType(function.__code__.replace(), function.__globals__, function.__name__)


class Worker:
    """One call at a time, from one mailbox."""

    __slots__ = (
        "_alarm",
        "_asked_to_stop",
        "_deadline_ns",
        "_drive",
        "_limit",
        "_resting",
        "_slice_began_ns",
        "abandoned",
        "batch",
        "bus",
        "is_control",
        "mailbox",
        "runner",
        "running",
        "task",
        "waiter",
    )

    def __init__(self, runner: "Runner", mailbox: Mailbox, *, is_control: bool) -> None:
        self.runner = runner
        self.mailbox = mailbox
        self.is_control = is_control
        self.bus: object = runner.crew
        self.running = self.abandoned = self._resting = False
        self._asked_to_stop = False
        self.batch: Batch | None = None
        self.waiter: asyncio.Future[None] | None = None
        self._deadline_ns: int | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._drive = _own_copy(_await_each if runner.subscription.is_coroutine else _call_each)
        self._limit = BATCH_FIRST
        self._slice_began_ns = 0
        self.task: asyncio.Task[None] = runner.loop.create_task(self._run(), name=f"openoutcry:{runner.name}")
        self.task.add_done_callback(self._ended)
        runner.crew.busy += 1

    def wake(self) -> None:
        """Look at the mailbox again, if at rest."""
        waiter = self.waiter
        if waiter is not None:
            self.waiter = None
            if self._resting:
                self._resting = False
                self.runner.crew.busy += 1
            if not waiter.done():
                waiter.set_result(None)

    def cause(self) -> Cause | None:
        """Return what a publication inherits from the event in the handler.

        None for a callback or a thread that outlived the call: no cause is better than a wrong one.
        """
        batch = self.batch
        if batch is None or asyncio.current_task() is not self.task:
            return None
        event = batch.current
        return None if event is None else self.runner.crew.envelope_cause(event)

    async def _run(self) -> None:
        current.set(self)
        crew, mailbox, subscription = self.runner.crew, self.mailbox, self.runner.subscription
        clock = crew.clock
        now_ns = self._slice_began_ns = clock.now_ns()
        single = self.runner.single or self.is_control
        while not subscription.ended and not self._asked_to_stop:
            if crew.control_waiting and not self.is_control:
                await asyncio.sleep(0)
            paused = subscription.paused and not self.is_control
            batch = None if paused else mailbox.take(1 if single else self._limit, now_ns)
            if batch is None:
                await self._rest(now_ns)
                now_ns = self._slice_began_ns = clock.now_ns()
                continue
            if not await (self._control(batch, now_ns) if self.is_control else self._handle(batch, now_ns)):
                return
            began_ns, now_ns = now_ns, clock.now_ns()
            subscription.last_ns = now_ns
            self._adapt(now_ns - began_ns)
            if crew.pressured:
                crew.drained(mailbox)
            if now_ns - self._slice_began_ns >= crew.slice_ns():
                await asyncio.sleep(0)
                now_ns = self._slice_began_ns = clock.now_ns()

    async def _control(self, batch: Batch, now_ns: int) -> bool:
        """Handle a kill switch; the other workers need not hurry for it any more."""
        if not batch.attempts:
            self.runner.crew.control_waiting -= 1
        return await self._handle(batch, now_ns)

    async def _handle(self, batch: Batch, now_ns: int) -> bool:
        """Call the handler for a batch and see to its end. False when the worker must not go on."""
        age_ns = now_ns - batch.admitted_ns
        self.runner.subscription.latencies.record(age_ns)
        if self.runner.max_age_ns is not None and age_ns > self.runner.max_age_ns and not self.is_control:
            self.mailbox.expire(batch)
            return True
        self.batch = batch
        self.running = True
        self.runner.crew.tracker.calls += 1
        if self.runner.timeout_ns is not None:
            self._set_alarm(now_ns)
        try:
            await self._drive(batch.iterator, self.runner.subscription.handler)
        except BaseException as error:  # noqa: BLE001 - whatever a handler lets out is its failure
            return self._after_error(batch, error)
        finally:
            self.running = False
            self.runner.crew.tracker.calls -= 1
            if self._timed_out and self._alarm is not None:
                # It would have abandoned this call; the next one needs an alarm of its own.
                self._alarm.cancel()
                self._alarm = None
            self._deadline_ns = None
            self.batch = None
        if self.abandoned:
            self.runner.abandoned_call_ended(self, None)
            return False
        self.mailbox.settle(batch)
        return self._absorb_cancellation()

    def _absorb_cancellation(self) -> bool:
        """After a call that returned although a time-out had cancelled it: the request is spent."""
        if self._asked_to_stop:
            return False
        while self.task.cancelling():
            self.task.uncancel()
        return True

    def _after_error(self, batch: Batch, error: BaseException) -> bool:
        if self.abandoned:
            self.runner.abandoned_call_ended(self, error)
            return False
        if isinstance(error, KeyboardInterrupt | GeneratorExit):
            self.mailbox.release(batch)
            raise error
        cancelled_from_outside = False
        if isinstance(error, asyncio.CancelledError):
            if self._asked_to_stop:
                self.mailbox.release(batch)
                return False
            cancelled_from_outside = bool(self.task.cancelling()) and not self._timed_out
        timed_out = self._timed_out and isinstance(error, asyncio.CancelledError | TimeoutError)
        while self.task.cancelling():
            self.task.uncancel()
        self.mailbox.fail(batch)
        self.runner.failed(batch, error, timed_out=timed_out)
        # Whoever cancels the worker's own task wants the task to end: so it does, and a new worker goes on if
        # the loop does.
        return not cancelled_from_outside

    @property
    def _timed_out(self) -> bool:
        return self._deadline_ns == 0

    def _adapt(self, took_ns: int) -> None:
        if took_ns < SLICE_MOST_NS // 4:
            self._limit = min(BATCH_MOST, self._limit * 2)
        elif took_ns > SLICE_MOST_NS:
            self._limit = max(1, self._limit // 2)

    async def _rest(self, now_ns: int) -> None:
        """Wait to be woken or for the next retry. At rest means: nothing waits for this worker."""
        due_ns = None if self.runner.subscription.paused and not self.is_control else self.mailbox.due_ns()
        loop = self.runner.loop
        self.waiter = waiter = loop.create_future()
        timer = None
        if due_ns is not None:
            timer = loop.call_later(max(0, due_ns - now_ns) / 1e9, self.wake)
        else:
            self._resting = True
            crew = self.runner.crew
            crew.busy -= 1
            if not crew.busy:
                crew.rested()
        try:
            await waiter
        finally:
            if timer is not None:
                timer.cancel()

    def _set_alarm(self, now_ns: int) -> None:
        timeout_ns = self.runner.timeout_ns or 0
        self._deadline_ns = now_ns + timeout_ns
        if self._alarm is None:
            self._alarm = self.runner.loop.call_later(timeout_ns / 1e9, self._ring)

    def _ring(self) -> None:
        """The alarm went off: cancel the call in hand if its time is up, else set the alarm anew."""
        self._alarm = None
        deadline_ns, batch = self._deadline_ns, self.batch
        if not deadline_ns or batch is None:
            return
        left_ns = deadline_ns - self.runner.crew.clock.now_ns()
        loop = self.runner.loop
        if left_ns > 0:
            self._alarm = loop.call_later(left_ns / 1e9, self._ring)
            return
        self._deadline_ns = 0
        self.task.cancel("timed out")
        self._alarm = loop.call_later(ABANDON_S, self._abandon, batch)

    def _abandon(self, batch: Batch) -> None:
        """The cancelled call has not ended: go on without it."""
        self._alarm = None
        if self.batch is batch and not self.abandoned:
            self.abandoned = True
            self.mailbox.fail(batch)
            self.runner.abandon(self, batch)

    def stop(self) -> None:
        """End after the call in hand, or cancel it. What it held waits again."""
        self._asked_to_stop = True
        self.task.cancel("the bus is stopping")

    def _ended(self, task: asyncio.Task[None]) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        if not self._resting and not self.abandoned:
            crew = self.runner.crew
            crew.busy -= 1
            if not crew.busy:
                crew.rested()
        if not task.cancelled() and task.exception() is not None:
            log.critical("the worker of %s ended", self.runner.name, exc_info=task.exception())
        self.runner.worker_ended(self)
