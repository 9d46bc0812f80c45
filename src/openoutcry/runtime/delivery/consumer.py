"""The consumer of a subscription: its workers, and what becomes of the calls that fail.

Control events (kill switches) have a worker of their own, so that no call in hand delays them. An event that
failed is tried again by the subscription's policy, and buried as a dead letter after the last attempt.
"""

import asyncio
import logging
import random
import traceback
from typing import Any

from openoutcry.core.breaker import Breaker, Go, Pause
from openoutcry.core.lanes import Batch
from openoutcry.core.overflow import SupersedingLane
from openoutcry.core.retries import Again, DeadLetter, after_failure
from openoutcry.events import event_type_of
from openoutcry.ports import Marks
from openoutcry.runtime.delivery.crew import Crew
from openoutcry.runtime.delivery.subscription import Subscription
from openoutcry.runtime.delivery.worker import Worker

log = logging.getLogger("openoutcry")

RESTART_S = 0.01
ABANDONED_MOST = 8


def safe_repr(value: object) -> str:
    """Return `repr(value)`, or what can be said of a value whose own `__repr__` raises."""
    try:
        return repr(value)
    except Exception:  # noqa: BLE001 - a report must not fail for what it reports on
        return f"<{type(value).__qualname__}, whose repr() raises>"


def safe_traceback(error: BaseException) -> str:
    """Return an error's traceback as text, as far as it can be had."""
    try:
        return "".join(traceback.format_exception(error))
    except Exception:  # noqa: BLE001 - a report must not fail for what it reports on
        return "".join(traceback.format_tb(error.__traceback__)) + safe_repr(error)


def described(event: Any) -> str:
    """Return an event's type and id for a log line, whatever its class does."""
    try:
        return f"{event_type_of(event)} {event.event_id}"
    except Exception:  # noqa: BLE001 - a report must not fail for what it reports on
        return f"<{type(event).__qualname__}>"


class Consumer:
    """The workers of one subscription."""

    def __init__(self, subscription: Subscription, crew: Crew, loop: asyncio.AbstractEventLoop) -> None:
        self.subscription = subscription
        self.crew = crew
        self.loop = loop
        self.name = subscription.name
        options = subscription.options
        self.timeout_ns = None if options.timeout_s is None else int(options.timeout_s * 1e9)
        self.max_age_ns = None if options.max_age_s is None else int(options.max_age_s * 1e9)
        self.guarded = options.timeout_s is not None or options.max_age_s is not None
        self.outbox = options.outbox
        self.single = (
            options.outbox
            or options.concurrency > 1
            or options.timeout_s is not None
            or options.max_age_s is not None
        )
        self.single = self.single or options.blocking
        if options.blocking:
            crew.tracker.calls += 1  # what its threads publish has a cause, also when the call is over
        if isinstance(subscription.mailbox.normal, SupersedingLane):
            subscription.mailbox.normal.on_newer = self._newer
        self.in_order = options.retry.in_order and options.concurrency == 1
        self.breaker: Breaker | None = None
        if options.breaker is not None:
            self.breaker = Breaker(options.breaker, subscription.handled)
        self._pause: asyncio.TimerHandle | None = None
        self.drill_is_out = False
        self.side_calls: set[Worker] = set()
        self.stopping = False
        self.workers = [
            Worker(self, subscription.mailbox, is_control=False) for _ in range(options.concurrency)
        ]
        self.control: Worker | None = None
        self._share_wake()
        self.need_control()

    def need_control(self) -> None:
        """Have a control worker if a kill switch may come."""
        if self.control is None and self.subscription.takes_kill_switch:
            self.control = Worker(self, self.subscription.control, is_control=True)

    def _share_wake(self) -> None:
        # The feed calls this for every delivery: with one worker it is the worker's own.
        self.subscription.wake = self.workers[0].wake if len(self.workers) == 1 else self.wake
        self.subscription.wake_control = self.wake_control
        self.subscription.on_resume = self._mended

    def wake(self) -> bool:
        """Look at the mailbox again. Tell whether a worker will run because of this call."""
        return sum(worker.wake() for worker in self.workers) > 0

    def _mended(self) -> None:
        """A person says that the handler is mended: forget how it failed."""
        subscription = self.subscription
        if self.breaker is not None:
            self.breaker.reset(subscription.handled)
        if subscription.failing:
            subscription.failing = False
            self.crew.failing(subscription)

    def mark_as_beside(self) -> None:
        """Others are handled from now on beside the calls in hand."""
        for worker in self._all_workers():
            if worker.marker is not None:
                worker.marker.mark_as_beside()

    def mark_in(self, marks: Marks | None) -> None:
        """Mark the next calls here: the journal was replaced."""
        for worker in self.active_workers():
            worker.mark_in(marks)

    def wake_control(self) -> None:
        """Look at the control lane again, where there is one."""
        self.need_control()
        if self.control is not None:
            self.control.wake()

    def failed(self, batch: Batch, error: BaseException, *, timed_out: bool) -> None:
        """Retry or bury the one event of a failed batch."""
        subscription, lane, event = self.subscription, batch.lane, batch.events[0]
        attempts = batch.attempts + 1
        reason = "timed out" if timed_out else "failed"
        text = self._no_answer() if timed_out else safe_repr(error)
        subscription.errors += 1
        subscription.streak.failed(subscription.handled)
        subscription.timeouts += timed_out
        subscription.last_error = text
        step = after_failure(subscription.options.retry, attempts, random.random())  # noqa: S311 - jitter
        if isinstance(step, Again):
            subscription.retries += 1
            lane.retry(batch, self.crew.clock.now_ns() + step.wait_ns, in_order=self.in_order)
            log.warning("%s %s on %s, attempt %d: %s", self.name, reason, described(event), attempts, text)
            if subscription.ended:
                lane.withdraw()  # nobody is left to try again
            if len(self.workers) > 1:
                self.wake()  # so that one of those at rest waits for the retry's time
            return
        lane.bury(batch)
        trace = safe_traceback(error)
        letter = DeadLetter(
            self.name, lane.name, event, reason, text, trace, attempts, self.crew.clock.wall_ns()
        )
        log.error("%s gave up %s after %d attempts: %s", self.name, described(event), attempts, text)
        self.crew.dead(subscription, letter, batch.first)
        if self.breaker is not None and lane.name != "control":
            self._judge(self.breaker)

    def _no_answer(self) -> str:
        timeout_s = self.subscription.options.timeout_s
        return "it did not end, and was cancelled" if timeout_s is None else f"no answer within {timeout_s} s"

    def _judge(self, breaker: Breaker) -> None:
        """Pause the subscription where most of its events fail: the rest need not become dead letters too."""
        subscription, now_ns = self.subscription, self.crew.clock.now_ns()
        trips = breaker.trips
        verdict = breaker.buried(subscription.handled, now_ns)
        if isinstance(verdict, Go) or breaker.trips == trips:
            return
        subscription.mailbox.cut_all()
        subscription.pauses += 1
        wait_ns = verdict.wait_ns or 0
        log.error(
            "most events of %s fail: it is paused for %.3g s, and then tried with one; last: %s",
            self.name,
            wait_ns / 1e9,
            subscription.last_error,
        )
        self._wake_in(wait_ns)
        if not subscription.failing:
            subscription.failing = True
            self.crew.failing(subscription)

    def _wake_in(self, wait_ns: int) -> None:
        """Look again when the pause is over; one timer is enough."""
        if self._pause is None:
            self._pause = self.loop.call_later(wait_ns / 1e9 + 1e-6, self._pause_over)

    def _pause_over(self) -> None:
        self._pause = None
        self.wake()

    @property
    def is_held(self) -> bool:
        """Whether the breaker lets nothing begin until its pause is over or its probe has ended."""
        breaker = self.breaker
        return (
            breaker is not None
            and not breaker.is_closed
            and (breaker.until_ns is not None or self._has_ordinary_call())
        )

    def _has_ordinary_call(self) -> bool:
        return any(worker.running and not worker.is_control for worker in self._all_workers())

    def may_begin(self, breaker: Breaker, now_ns: int) -> bool | None:
        """Tell whether a subscription that was failing may begin: True, None for one event, False."""
        subscription = self.subscription
        verdict = breaker.ask(subscription.handled, now_ns, calls_running=self._has_ordinary_call())
        if isinstance(verdict, Pause):
            if verdict.wait_ns is not None:
                self._wake_in(verdict.wait_ns)
            return False
        if verdict.probe:
            return None
        subscription.failing = False
        log.warning("%s handles its events again", self.name)
        self.crew.failing(subscription)
        if len(self.workers) > 1:
            self.wake()
        return True

    def abandon(self, worker: Worker, batch: Batch) -> None:
        """Go on without a call that did not end when cancelled; it is named, and its end is only noted."""
        self.subscription.abandoned += 1
        self.side_calls.add(worker)
        self.failed(batch, TimeoutError("the call did not end when cancelled"), timed_out=True)
        log.error(
            "%s did not end its call for %s when cancelled (%s); it is abandoned, and the next begins",
            self.name,
            described(batch.events[0]),
            self._no_answer(),
        )
        self._replace(worker)
        if self.subscription.abandoned >= ABANDONED_MOST and not self.subscription.paused:
            log.error(
                "%s has %d abandoned calls and is paused; mend its handler and resume it",
                self.name,
                self.subscription.abandoned,
            )
            self.subscription.pause()

    def _newer(self, events: list[Any]) -> None:
        """Events have come: end the calls in hand for older ones with the same keys."""
        lane = self.subscription.mailbox.normal
        assert isinstance(lane, SupersedingLane)
        calls = [(w, w.batch) for w in self.workers if w.batch is not None and w.batch.lane is lane]
        keys = {lane.key_of(event) for event in events} if calls else ()
        for worker, batch in calls:
            if batch.begun and lane.key_of(batch.current) in keys:
                worker.supersede()

    def thread_left(self, future: "asyncio.Future[Any]") -> None:
        """A stranger has cancelled a call in a thread, which goes on; its end is only noted."""
        subscription = self.subscription
        subscription.abandoned += 1
        log.error("a call of %s in a thread was cancelled by somebody else; it goes on, abandoned", self.name)

        def ended(_future: "asyncio.Future[Any]") -> None:
            subscription.abandoned -= 1
            log.warning("an abandoned call of %s has ended", self.name)

        future.add_done_callback(ended)

    def leave_superseded(self, worker: Worker) -> None:
        """Go on without a call that did not end for a newer event; its event is settled."""
        self._set_aside(worker)
        log.error("%s did not end its call for a newer event; it is abandoned, the next begins", self.name)

    def _set_aside(self, worker: Worker) -> None:
        """Let a call go on beside the subscription, and another worker take the place."""
        self.subscription.abandoned += 1
        self.side_calls.add(worker)
        self._replace(worker)

    # -- recovery -----------------------------------------------------------------------------------

    def active_workers(self) -> list[Worker]:
        """Return the workers that count: abandoned ones do not."""
        return [*self.workers, *([self.control] if self.control else [])]

    def _older(self, longer_than_ns: int) -> list[Worker]:
        latest_ns = self.crew.clock.now_ns() - longer_than_ns
        return [w for w in self.active_workers() if w.running and w.began_ns <= latest_ns]

    def cancel_calls(self, longer_than_ns: int) -> int:
        """Cancel the calls that have taken longer, as a time-out would; return how many."""
        return sum(worker.cancel_call("recovery") for worker in self._older(longer_than_ns))

    def restart(self, longer_than_ns: int = 0) -> None:
        """Replace the workers but for those in calls that have not taken longer.

        A call that is left is cancelled; if it does not end it is an abandoned one. Its event waits again.
        """
        for worker in self._older(longer_than_ns):
            log.warning(
                "%s is restarted: its call for %s is left, and the event waits again",
                self.name,
                described(worker.batch and worker.batch.current),
            )
            worker.leave_call()
            self._set_aside(worker)
        for worker in self.active_workers():
            if not worker.running:
                self._replace(worker)
                worker.retire()
        self.wake()
        self.wake_control()

    def drill(self) -> None:
        """Ask the control worker for a sign of life."""
        self.drill_is_out = True
        self.wake_control()

    def answer_drill(self) -> None:
        """The control worker has come to rest, so that a kill switch would have been handled."""
        self.drill_is_out = False
        self.crew.drilled(self.name)

    def abandoned_call_ended(self, worker: Worker) -> None:
        """Note that an abandoned call has ended after all."""
        self.side_calls.discard(worker)
        self.subscription.abandoned -= 1
        log.warning("an abandoned call of %s has ended", self.name)

    def _replace(self, worker: Worker) -> None:
        self.crew.busy -= worker.abandoned
        new = Worker(self, worker.mailbox, is_control=worker.is_control)
        if worker.is_control:
            self.control = new
        elif worker in self.workers:
            self.workers[self.workers.index(worker)] = new
            self._share_wake()

    def worker_ended(self, worker: Worker) -> None:
        """Replace a worker whose task ended without having been asked to, if the loop goes on."""
        if self.stopping or self.subscription.ended or worker.abandoned or not self.crew.is_running():
            return
        if worker not in self.active_workers():
            return  # replaced by recovery
        self.crew.busy += 1
        self.loop.call_later(RESTART_S, self._restart, worker)

    def _restart(self, worker: Worker) -> None:
        if self.stopping:
            return  # the next start counts anew
        self.crew.busy -= 1
        if worker not in self.active_workers():
            return  # replaced by recovery meanwhile
        if not self.stopping and not self.subscription.ended and self.crew.is_running():
            log.error("the task of %s was cancelled by somebody else; it goes on in a new one", self.name)
            self._replace(worker)
        elif not self.crew.busy:
            self.crew.rested()

    @property
    def has_call(self) -> bool:
        """Whether a call is in hand, abandoned ones not counted."""
        return any(worker.running and not worker.abandoned for worker in self._all_workers())

    @property
    def is_over(self) -> bool:
        """Whether every worker has ended."""
        return all(worker.task.done() for worker in self._all_workers())

    def _all_workers(self) -> list[Worker]:
        return [*self.active_workers(), *self.side_calls]

    async def stop(self, grace_s: float) -> None:
        """Cancel the workers and wait for their end, at most `grace_s`; a call that goes on is abandoned."""
        self.stopping = True
        if self._pause is not None:
            self._pause.cancel()
        subscription = self.subscription
        subscription.mailbox.cut_all()
        workers = self._all_workers()
        for worker in workers:
            worker.stop()
        await asyncio.wait([worker.task for worker in workers], timeout=grace_s)
        for worker in workers:
            if not worker.task.done() and not worker.abandoned:
                self._leave(worker)
        if subscription.ended:
            subscription.mailbox.withdraw()
            subscription.control.withdraw()

    def _leave(self, worker: Worker) -> None:
        """Stop without a call that did not end when cancelled: its event waits for the next start."""
        log.error("%s did not end when cancelled at the stop: %r", self.name, worker.task)
        worker.abandoned = True
        self.subscription.abandoned += 1
        if worker.batch is not None:
            worker.mailbox.release(worker.batch)
