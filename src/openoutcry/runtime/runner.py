"""The runner of a subscription: long-lived workers that take, call, and settle, retry or bury.

```
           ┌──────── idle (a future) ◀───────┐
  wake ────┤                                 │ nothing may start
           ▼                                 │
         take ──▶ for event in batch: await handler(event) ──▶ settle ──▶ give the loop back
                        │ raised, timed out, cancelled by nobody          when the slice is used up
                        ▼
                  retry after a wait | bury as a dead letter
```

Handlers are awaited directly, one after the other: no task, no time-out object and no lock per event. A time-out is a
timer that looks at the call in hand; a call that does not end when cancelled is abandoned, and a new worker goes on.
Control events (kill switches) have a worker of their own, so that no call in hand delays them.
"""

import asyncio
import logging
import random
import traceback
from inspect import isawaitable
from typing import Any, Protocol

from openoutcry.core.lanes import Batch
from openoutcry.core.mailbox import Mailbox
from openoutcry.core.retries import Again, DeadLetter, after_failure
from openoutcry.events import event_type_of
from openoutcry.ports import Clock
from openoutcry.runtime.causes import Cause, current
from openoutcry.runtime.subscriptions import Subscription

log = logging.getLogger("openoutcry")

BATCH_MOST = 1024
BATCH_FIRST = 16
SLICE_MOST_NS = 250_000
ABANDON_S = 1.0
RESTART_S = 0.01


class Crew(Protocol):
    """What the workers of a bus share.

    Attributes:
        busy: Workers that are not at rest. 0 means that everything delivered is settled.
        control_waiting: Kill switches that no worker has taken: workers give the loop back at once.
        pressured: Somebody waits for a mailbox to drain.

    """

    clock: Clock
    busy: int
    control_waiting: int
    pressured: bool

    def slice_ns(self) -> int:
        """How long a worker may keep the loop before it gives it back."""
        ...

    def rested(self) -> None:
        """The last busy worker has come to rest."""
        ...

    def drained(self, mailbox: Mailbox) -> None:
        """A worker has moved on in a mailbox while the bus is under pressure."""
        ...

    def dead(self, letter: DeadLetter) -> None:
        """An event became a dead letter."""
        ...

    def envelope_cause(self, event: Any) -> Cause:
        """Return what a publication by the handler of `event` inherits."""
        ...

    def is_running(self) -> bool:
        """Whether workers may be restarted."""
        ...


class Worker:
    """One call at a time, from one mailbox."""

    __slots__ = (
        "_alarm",
        "_asked_to_stop",
        "_deadline_ns",
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
        if self.runner.timeout_ns is not None:
            self._set_alarm(now_ns)
        try:
            if self.runner.subscription.is_coroutine:
                handler = self.runner.subscription.handler
                for event in batch.iterator:
                    await handler(event)
            else:
                await self._call_plain(batch)
        except BaseException as error:  # noqa: BLE001 - whatever a handler lets out is its failure
            return self._after_error(batch, error)
        finally:
            self.running = False
            self._deadline_ns = None
            self.batch = None
        if self.abandoned:
            self.runner.abandoned_call_ended(self, None)
            return False
        self.mailbox.settle(batch)
        return self._absorb_cancellation()

    async def _call_plain(self, batch: Batch) -> None:
        handler = self.runner.subscription.handler
        for event in batch.iterator:
            result = handler(event)
            if result is not None and isawaitable(result):
                await result

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
        # Whoever cancels the worker's own task wants the task to end: so it does, and a new worker goes on if the
        # loop does.
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
        """The alarm went off: cancel the call in hand if its time is up, else set the alarm for when it will be."""
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


class Runner:
    """The workers of one subscription."""

    def __init__(self, subscription: Subscription, crew: Crew, loop: asyncio.AbstractEventLoop) -> None:
        self.subscription = subscription
        self.crew = crew
        self.loop = loop
        self.name = subscription.name
        options = subscription.options
        self.timeout_ns = None if options.timeout_s is None else int(options.timeout_s * 1e9)
        self.max_age_ns = None if options.max_age_s is None else int(options.max_age_s * 1e9)
        self.single = options.concurrency > 1 or options.timeout_s is not None or options.max_age_s is not None
        self.in_order = options.retry.in_order and options.concurrency == 1
        self.side_calls: set[Worker] = set()
        self.stopping = False
        self.workers = [
            Worker(self, subscription.mailbox, is_control=False) for _ in range(options.concurrency)
        ]
        self.control: Worker | None = None
        subscription.wake = self.wake
        self.need_control()

    def need_control(self) -> None:
        """Have a control worker if a kill switch may come."""
        if self.control is None and self.subscription.takes_kill_switch:
            self.control = Worker(self, self.subscription.control, is_control=True)

    def wake(self) -> None:
        """Look at the mailbox again."""
        for worker in self.workers:
            worker.wake()

    def wake_control(self) -> None:
        """Look at the control lane again."""
        self.need_control()
        assert self.control is not None
        self.control.wake()

    def failed(self, batch: Batch, error: BaseException, *, timed_out: bool) -> None:
        """Retry or bury the one event of a failed batch."""
        subscription, lane, event = self.subscription, batch.lane, batch.events[0]
        attempts = batch.attempts + 1
        reason = "timed out" if timed_out else "failed"
        text = f"no answer within {self.subscription.options.timeout_s} s" if timed_out else repr(error)
        subscription.errors += 1
        subscription.timeouts += timed_out
        subscription.last_error = text
        step = after_failure(subscription.options.retry, attempts, random.random())  # noqa: S311 - jitter
        if isinstance(step, Again):
            subscription.retries += 1
            log.warning(
                "%s %s on %s %s, attempt %d: %s", self.name, reason, event_type_of(event), event.event_id, attempts, text
            )
            lane.retry(batch, self.crew.clock.now_ns() + step.wait_ns, in_order=self.in_order)
            if len(self.workers) > 1:
                self.wake()  # so that one of those at rest waits for the retry's time
            return
        lane.bury(batch)
        trace = "".join(traceback.format_exception(error))
        letter = DeadLetter(self.name, lane.name, event, reason, text, trace, attempts, self.crew.clock.wall_ns())
        subscription.dead_letters.append(letter)
        log.error("%s gave up %s %s after %d attempts: %s", self.name, event_type_of(event), event.event_id, attempts, text)
        self.crew.dead(letter)

    def abandon(self, worker: Worker, batch: Batch) -> None:
        """Go on without a call that did not end when cancelled; it is named, and its end is only noted."""
        self.subscription.abandoned += 1
        self.side_calls.add(worker)
        log.error(
            "%s did not end its call for %s when cancelled after %s s; it is abandoned and the subscription goes on",
            self.name, batch.events[0].event_id, self.subscription.options.timeout_s,
        )
        self._replace(worker)
        self.failed(batch, TimeoutError("the call did not end when cancelled"), timed_out=True)

    def abandoned_call_ended(self, worker: Worker, error: BaseException | None) -> None:
        """Note that an abandoned call has ended after all."""
        self.side_calls.discard(worker)
        self.subscription.abandoned -= 1
        log.warning("an abandoned call of %s ended%s", self.name, f": {error!r}" if error else "")

    def _replace(self, worker: Worker) -> None:
        self.crew.busy -= worker.abandoned
        new = Worker(self, worker.mailbox, is_control=worker.is_control)
        if worker.is_control:
            self.control = new
        elif worker in self.workers:
            self.workers[self.workers.index(worker)] = new

    def worker_ended(self, worker: Worker) -> None:
        """Replace a worker whose task ended without having been asked to, if the loop goes on."""
        if self.stopping or self.subscription.ended or worker.abandoned or not self.crew.is_running():
            return
        self.crew.busy += 1
        self.loop.call_later(RESTART_S, self._restart, worker)

    def _restart(self, worker: Worker) -> None:
        self.crew.busy -= 1
        if not self.stopping and not self.subscription.ended and self.crew.is_running():
            log.error("the task of %s was cancelled by somebody else; it goes on in a new one", self.name)
            self._replace(worker)

    async def stop(self, grace_s: float) -> None:
        """Cancel the workers and wait for their end, at most `grace_s`; a call that goes on is named."""
        self.stopping = True
        workers = [*self.workers, *([self.control] if self.control else []), *self.side_calls]
        for worker in workers:
            worker.stop()
        _, left = await asyncio.wait([worker.task for worker in workers], timeout=grace_s)
        for task in left:
            log.error("%s did not end when cancelled at the stop: %r", self.name, task)
