"""The consumer of a subscription: its workers, and what is done about a call that does not end.

Control events (kill switches) have a worker of their own, so that no running call delays them.
"""

import asyncio
import logging
from typing import Any

from openoutcry.core.lanes import Batch
from openoutcry.core.overflow import SupersedingLane
from openoutcry.logs import about
from openoutcry.runtime.delivery.failures import Failures, described, no_answer
from openoutcry.runtime.delivery.in_flight import InFlightMarker
from openoutcry.runtime.delivery.state import BusState
from openoutcry.runtime.delivery.subscription import Subscription, Wake
from openoutcry.runtime.delivery.worker import Deliverer, Worker

log = logging.getLogger("openoutcry")

RESTART_S = 0.01
ABANDONED_MOST = 8


class Consumer:
    """The workers of one subscription.

    Attributes:
        subscription: Whose workers they are.
        name: Its name.
        workers: Those that handle its events.
        control: The one that handles kill switches, as soon as one may come.
        side_calls: Workers whose calls were abandoned, and go on.
        failures: What becomes of failed calls.
        wake: Has the workers look at the mailbox.
        drill_is_out: Whether the control worker still owes a sign of life.

    """

    def __init__(
        self,
        subscription: Subscription,
        bus: BusState,
        dispatcher: Deliverer,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.subscription = subscription
        self.name: str = subscription.name
        self._bus = bus
        self._dispatcher = dispatcher
        self._loop = loop
        options, lane = subscription.options, subscription.mailbox.normal
        self.timeout_ns: int | None = options.timeout_ns
        if options.blocking:
            bus.tracker.calls += 1  # what its threads publish has a cause, also when the call is over
        self._superseding = lane if isinstance(lane, SupersedingLane) else None
        self.failures: Failures = Failures(subscription, bus, loop, self._has_ordinary_call)
        self.drill_is_out: bool = False
        self._drill_answered_ns: int | None = None
        self.side_calls: set[Worker] = set()
        self.stopping: bool = False
        self.workers: list[Worker] = [self._new_worker(is_control=False) for _ in range(options.concurrency)]
        self.control: Worker | None = None
        self.wake: Wake = self._wake
        self._attach()
        self.need_control()

    def _new_worker(self, *, is_control: bool) -> Worker:
        return Worker(self, self.subscription, self._bus, self._dispatcher, self._loop, is_control=is_control)

    def need_control(self) -> None:
        """Have a control worker if a kill switch may come."""
        subscription = self.subscription
        if self.control is None and subscription.takes_kill_switch and not subscription.ended:
            self.control = self._new_worker(is_control=True)

    def _attach(self) -> None:
        # The dispatcher calls `wake` for every delivery: with one worker it is the worker's own.
        is_plain = len(self.workers) == 1 and self._superseding is None
        self.wake = self.workers[0].wake if is_plain else self._wake
        self.subscription.attach(self)

    def _wake(self, delivers: bool = False, /) -> bool:
        self.end_superseded()
        woken = False
        for worker in self.workers:
            woken = worker.wake(delivers and not woken) or woken
        return woken

    def wake_control(self) -> None:
        """Look at the control lane again, if there is one."""
        self.need_control()
        if self.control is not None:
            self.control.wake()

    def resumed(self) -> None:
        """The operator says that the handler is mended: forget how it failed."""
        self.failures.resumed()

    # -- calls that go on ---------------------------------------------------------------------------

    def end_superseded(self) -> None:
        """End the calls for whose key something newer waits, where only the newest counts."""
        lane = self._superseding
        if lane is None:
            return
        for worker in self.workers:
            batch = worker.batch
            if batch is not None and batch.lane is lane and batch.begun and lane.has_newer(batch.current):
                worker.guard.supersede()

    def abandon(self, worker: Worker, batch: Batch) -> None:
        """Go on without a call that did not end when cancelled; it is named, and its end is only noted."""
        subscription, otherwise = self.subscription, worker.guard.otherwise
        error = otherwise or TimeoutError("the call did not end when cancelled")
        self.failures.failed(batch, error, timed_out=otherwise is None)
        log.error(
            "%s did not end its call for %s when cancelled (%s); it is abandoned, and the next begins",
            self.name,
            described(batch.events[0]),
            no_answer(subscription),
            extra=about(batch.events[0], self.name),
        )
        self._set_aside(worker)
        if subscription.abandoned >= ABANDONED_MOST and not subscription.paused:
            log.error(
                "%s has %d abandoned calls and is paused; mend its handler and resume it",
                self.name,
                subscription.abandoned,
                extra=about(subscription=self.name),
            )
            subscription.pause()

    def leave_superseded(self, worker: Worker) -> None:
        """Go on without a call that did not end for a newer event; its event is settled."""
        self._set_aside(worker)
        log.error(
            "%s did not end its call for a newer event; it is abandoned, the next begins",
            self.name,
            extra=about(worker.batch and worker.batch.current, self.name),
        )

    def _set_aside(self, worker: Worker) -> None:
        """Let a call go on beside the subscription, and another worker take the place."""
        worker.stopwatch.call_given_up(worker.batch, worker.began_ns)
        self.subscription.abandoned += 1
        self.side_calls.add(worker)
        self._replace(worker)

    def thread_left(self, future: "asyncio.Future[Any]") -> None:
        """Somebody else has cancelled a call in a thread, which goes on; its end is only noted."""
        self.subscription.abandoned += 1
        log.error(
            "a call of %s in a thread was cancelled by somebody else; it goes on, abandoned",
            self.name,
            extra=about(subscription=self.name),
        )
        future.add_done_callback(lambda _: self._note_end_of_abandoned())

    def _note_end_of_abandoned(self) -> None:
        self.subscription.abandoned -= 1
        log.warning("an abandoned call of %s has ended", self.name, extra=about(subscription=self.name))

    # -- recovery -----------------------------------------------------------------------------------

    def active_workers(self) -> list[Worker]:
        """Return the workers that count: abandoned ones do not."""
        return [*self.workers, *([self.control] if self.control else [])]

    def _older(self, longer_than_ns: int) -> list[Worker]:
        latest_ns = self._bus.clock.now_ns() - longer_than_ns
        return [w for w in self.active_workers() if w.running and w.began_ns <= latest_ns]

    def cancel_calls(self, longer_than_ns: int) -> int:
        """Cancel the calls that have taken longer, as a time-out would; return how many."""
        return sum(worker.guard.cancel_call("recovery") for worker in self._older(longer_than_ns))

    def restart(self, longer_than_ns: int = 0) -> None:
        """Replace the workers but for those in calls that have not taken longer.

        A call that is left is cancelled; if it does not end it is an abandoned one. Its event waits again.
        """
        for worker in self._older(longer_than_ns):
            log.warning(
                "%s is restarted: its call for %s is left, and the event waits again",
                self.name,
                described(worker.batch and worker.batch.current),
                extra=about(worker.batch and worker.batch.current, self.name),
            )
            if worker.is_control and worker.batch is not None and not worker.batch.attempts:
                self._bus.control_waiting += 1  # it waits again as if it had not been taken
            worker.guard.leave_call()
            self._set_aside(worker)
        for worker in self.active_workers():
            if not worker.running:
                self._replace(worker)
                worker.guard.retire()
        self.subscription.wake_all()

    def drill(self) -> None:
        """Ask the control worker for a sign of life; `take_drill_answer` tells when it came."""
        self._drill_answered_ns = None
        self.drill_is_out = True
        self.wake_control()

    def control_rests(self) -> None:
        """The control worker has come to rest, so that a kill switch would have been handled."""
        self._bus.hearing.rested(self.subscription, self._bus.clock.now_ns())
        if self.drill_is_out:
            self.drill_is_out = False
            self._drill_answered_ns = self._bus.clock.now_ns()

    def take_drill_answer(self) -> int | None:
        """Return when the last drill was answered, once; None before that, and after it has been told."""
        answered_ns, self._drill_answered_ns = self._drill_answered_ns, None
        return answered_ns

    # -- in-flight marks ----------------------------------------------------------------------------

    def mark_as_beside(self) -> None:
        """Others are handled from now on beside the current calls."""
        for worker in self._all_workers():
            if worker.marker is not None:
                worker.marker.mark_as_beside()

    def leave_marks(self) -> None:
        """The journal is closed: mark nothing in it any more, and begin nothing that was taken before."""
        self.subscription.mailbox.cut_all()
        for worker in self.active_workers():
            worker.mark_with(None)

    def take_marks(self) -> None:
        """The journal is open again, in a new file: mark calls in it from the next on."""
        for worker in self.active_workers():
            worker.mark_with(
                InFlightMarker.of(self.subscription, self._bus.durability.marks, is_control=worker.is_control)
            )

    # -- the ends of workers ------------------------------------------------------------------------

    def _replace(self, worker: Worker) -> None:
        self._bus.busy -= worker.guard.abandoned
        new = self._new_worker(is_control=worker.is_control)
        if worker.is_control:
            self.control = new
        elif worker in self.workers:
            self.workers[self.workers.index(worker)] = new
            self._attach()

    def worker_ended(self, worker: Worker) -> None:
        """Replace a worker whose task ended without having been asked to, if the loop goes on."""
        if worker.guard.abandoned:
            self.side_calls.discard(worker)
            self._note_end_of_abandoned()
        elif self._goes_on and worker in self.active_workers():  # else it was replaced by recovery
            self._bus.busy += 1
            self._loop.call_later(RESTART_S, self._restart, worker)

    def _restart(self, worker: Worker) -> None:
        if self.stopping:
            return  # the next start counts anew
        self._bus.busy -= 1
        if worker not in self.active_workers():
            return  # replaced by recovery meanwhile
        if self._goes_on:
            log.error(
                "the task of %s was cancelled by somebody else; it goes on in a new one",
                self.name,
                extra=about(subscription=self.name),
            )
            self._replace(worker)
        elif not self._bus.busy:
            self._bus.rested()

    @property
    def _goes_on(self) -> bool:
        """Whether workers may be replaced."""
        return self._bus.running and not (self.stopping or self.subscription.ended)

    @property
    def is_over(self) -> bool:
        """Whether every worker has ended."""
        return all(worker.task.done() for worker in self._all_workers())

    def _has_ordinary_call(self) -> bool:
        return any(worker.running for worker in self.workers)

    def _all_workers(self) -> list[Worker]:
        return [*self.active_workers(), *self.side_calls]

    def forked(self) -> None:
        """In a forked child: end after the current call, and mark nothing."""
        self.stopping = True
        self.subscription.detach()
        for worker in self._all_workers():
            worker.forked()

    async def stop(self, grace_s: float) -> None:
        """Cancel the workers and wait for their end, at most `grace_s`; a call that goes on is abandoned."""
        self.stopping = True
        self.failures.close()
        subscription = self.subscription
        subscription.detach()
        subscription.mailbox.cut_all()
        workers = self._all_workers()
        for worker in workers:
            worker.guard.stop()
        await asyncio.wait([worker.task for worker in workers], timeout=grace_s)
        for worker in workers:
            if not worker.task.done() and not worker.guard.abandoned:
                log.error(
                    "%s did not end when cancelled at the stop: %r",
                    self.name,
                    worker.task,
                    extra=about(worker.batch and worker.batch.current, self.name),
                )
                worker.guard.outlive_stop()
                subscription.abandoned += 1
        if subscription.ended:
            self._bus.withdraw(subscription)
