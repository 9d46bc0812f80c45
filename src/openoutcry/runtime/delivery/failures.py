"""What becomes of failed calls: retries, dead letters, and a pause for a subscription that mostly fails."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from openoutcry.core.breaker import Breaker, Go, Pause
from openoutcry.core.holds import Hold
from openoutcry.core.lanes import Batch
from openoutcry.core.retries import DECIDED_OTHERWISE, Again, Dead, DeadLetter, after_failure
from openoutcry.core.wording import counted
from openoutcry.errors import DecidedOtherwise
from openoutcry.events import event_type_of
from openoutcry.logs import about
from openoutcry.runtime.delivery.error_log import ErrorLog, safe_repr, safe_traceback
from openoutcry.runtime.delivery.state import BusState
from openoutcry.runtime.delivery.subscription import Subscription

log = logging.getLogger("openoutcry")


def described(event: Any) -> str:
    """Return an event's type and id for a log line, whatever its class does."""
    try:
        return f"{event_type_of(event)} {event.event_id}"
    except Exception:  # noqa: BLE001 - a report must not fail for what it reports on
        return f"<{type(event).__qualname__}>"


class Failures:
    """The failed calls of one subscription.

    Attributes:
        breaker: Decides when so many events fail that the subscription is paused; None if it wants none.
        in_order: Whether a retry keeps its place, so that later events wait for it.

    """

    def __init__(
        self,
        subscription: Subscription,
        bus: BusState,
        loop: asyncio.AbstractEventLoop,
        has_call: Callable[[], bool],
    ) -> None:
        self._subscription = subscription
        self._bus = bus
        self._loop = loop
        self._has_call = has_call
        self._log = ErrorLog(bus.clock.now_ns, holds_errors=False)
        options = subscription.options
        self.in_order: bool = options.retry.in_order and options.concurrency == 1
        self.breaker: Breaker | None = (
            None if options.breaker is None else Breaker(options.breaker, subscription.handled)
        )
        self._timer: asyncio.TimerHandle | None = None
        self._mended()  # a breaker begins closed, whatever was before the last stop

    def failed(self, batch: Batch, error: BaseException, *, timed_out: bool) -> None:
        """Retry or bury the one event of a failed batch."""
        subscription, lane, event, now_ns = (
            self._subscription,
            batch.lane,
            batch.events[0],
            self._bus.clock.now_ns,
        )
        name, attempts = subscription.name, batch.attempts + 1
        has_decided_otherwise = isinstance(error, DecidedOtherwise)
        reason = DECIDED_OTHERWISE if has_decided_otherwise else "timed out" if timed_out else "failed"
        text = no_answer(subscription) if timed_out else safe_repr(error)
        subscription.errors += 1
        subscription.streak.failed(subscription.handled)
        subscription.timeouts += timed_out
        subscription.last_error = text
        self._log.tell(
            logging.WARNING,
            error,
            name,
            f"{reason} on %s, attempt %d: %s",
            described(event),
            attempts,
            text,
            extra=about(event, name),
        )
        step: Again | Dead = Dead(attempts)  # who decides otherwise would do so again
        if not has_decided_otherwise:
            step = after_failure(subscription.options.retry, attempts, self._bus.chance.jitter.random())
        if isinstance(step, Again):
            subscription.retries += 1
            lane.retry(batch, now_ns() + step.wait_ns, in_order=self.in_order)
            if subscription.ended:
                self._bus.withdraw(subscription)  # nobody is left to try again
            if subscription.options.concurrency > 1:
                subscription.wake()  # so that one of the workers at rest waits for the retry's time
            return
        lane.bury(batch)
        trace = safe_traceback(error)
        wall_ns, position = self._bus.clock.wall_ns(), batch.position
        letter = DeadLetter(name, lane.name, event, reason, text, trace, attempts, wall_ns, position=position)
        log.error(
            "%s gave up %s after %s: %s",
            name,
            described(event),
            counted(attempts, "attempt"),
            text,
            extra=about(event, name),
        )
        self._bus.dead(subscription, letter, batch.first)
        if self.breaker is not None and lane.name != "control":
            self._judge(self.breaker)

    def _judge(self, breaker: Breaker) -> None:
        """Pause the subscription if most of its events fail: the rest need not become dead letters too."""
        subscription, now_ns = self._subscription, self._bus.clock.now_ns()
        trips = breaker.trips
        verdict = breaker.buried(subscription.handled, now_ns)
        if isinstance(verdict, Go) or breaker.trips == trips:
            return
        subscription.mailbox.cut_all()
        subscription.pauses += 1
        wait_ns = verdict.wait_ns or 0
        log.error(
            "most events of %s fail: it is paused for %.3g s, and then tried with one; last: %s",
            subscription.name,
            wait_ns / 1e9,
            subscription.last_error,
            extra=about(subscription=subscription.name),
        )
        self._wake_in(wait_ns)
        subscription.holds.set(Hold.COOLING)
        if subscription.holds.set(Hold.FAILING):
            self._bus.failing(subscription)

    def look(self, now_ns: int) -> None:
        """Let a failing subscription begin one event if its pause is over, or all if it is well again.

        A worker asks for this before it begins anything, as long as the subscription is failing.
        """
        breaker, subscription = self.breaker, self._subscription
        if breaker is None:
            return
        verdict = breaker.ask(subscription.handled, now_ns, calls_running=self._has_call())
        if isinstance(verdict, Pause):
            if verdict.wait_ns is not None:
                self._wake_in(verdict.wait_ns)
            subscription.holds.set(Hold.COOLING)
        elif verdict.probe:
            subscription.holds.lift(Hold.COOLING)
        else:
            name = subscription.name
            log.warning("%s handles its events again", name, extra=about(subscription=name))
            self._mended()
            if subscription.options.concurrency > 1:
                subscription.wake()

    def _wake_in(self, wait_ns: int) -> None:
        """Have the workers look again when the pause is over; one timer is enough."""
        if self._timer is None:
            self._timer = self._loop.call_later(wait_ns / 1e9 + 1e-6, self._pause_over)

    def _pause_over(self) -> None:
        self._timer = None
        self._subscription.wake()

    def resumed(self) -> None:
        """The operator says that the handler is mended: forget how it failed."""
        if self.breaker is not None:
            self.breaker.reset(self._subscription.handled)
        self._mended()

    def _mended(self) -> None:
        holds = self._subscription.holds
        holds.lift(Hold.COOLING)
        if holds.lift(Hold.FAILING):
            self._bus.failing(self._subscription)

    def close(self) -> None:
        """The bus stops."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def no_answer(subscription: Subscription) -> str:
    """Return what is wrong with a call that was cancelled, in words."""
    timeout_s = subscription.options.timeout_s
    return "it did not end, and was cancelled" if timeout_s is None else f"no answer within {timeout_s} s"
