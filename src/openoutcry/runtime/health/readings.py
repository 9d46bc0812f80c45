"""What is remembered of each subscription between two looks at its health.

Only counters that are kept anyway are read, so a subscription that nobody looks at costs nothing.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from openoutcry.config import HealthCheckConfig
from openoutcry.core.ladder import Ladder
from openoutcry.core.lanes import Batch
from openoutcry.core.latency import Latencies
from openoutcry.core.trends import LagTrend
from openoutcry.core.vitals import SubscriptionVitals
from openoutcry.runtime.delivery.causation import CallId
from openoutcry.runtime.delivery.consumer import Consumer
from openoutcry.runtime.delivery.failures import described
from openoutcry.runtime.delivery.subscription import Subscription
from openoutcry.runtime.delivery.worker import Worker

GONE_WINDOW_NS = 10_000_000_000
"""What a subscription has had no room for is told for one or two times as long, in nanoseconds."""

Recent = tuple[float | None, float | None]


@dataclass(frozen=True, slots=True, eq=False)
class Totals:
    """What a subscription had done by a point in time."""

    at_ns: int
    accepted: int
    handled: int
    errors: int
    latencies: Latencies
    durations: Latencies

    @classmethod
    def none(cls, at_ns: int) -> "Totals":
        """Return the totals of a subscription that has done nothing by then."""
        return cls(at_ns=at_ns, accepted=0, handled=0, errors=0, latencies=Latencies(), durations=Latencies())

    @classmethod
    def of(cls, subscription: Subscription, now_ns: int) -> "Totals":
        """Return the current totals."""
        box, control = subscription.mailbox, subscription.control.normal
        return cls(
            at_ns=now_ns,
            accepted=box.high.accepted + box.normal.accepted + control.accepted,
            handled=subscription.handled + control.handled,
            errors=subscription.errors,
            latencies=subscription.latencies.copy(),
            durations=subscription.durations.copy(),
        )


@dataclass(frozen=True, slots=True)
class Overflowed:
    """What a subscription had accepted, and had no room for, by a point in time; None: before the first."""

    at_ns: int | None = None
    accepted: int = 0
    let_go: Counter[str] = field(default_factory=Counter)
    no_room: int = 0

    @classmethod
    def of(cls, subscription: Subscription, now_ns: int) -> "Overflowed":
        """Return the current totals."""
        box = subscription.mailbox
        accepted = box.high.accepted + box.normal.accepted
        return cls(now_ns, accepted, subscription.let_go.copy(), subscription.no_room)

    def since(self, before: "Overflowed") -> "Overflowed":
        """Return what has come since then; `at_ns` is then the time between, None if that is all time."""
        over_ns = None if before.at_ns is None or self.at_ns is None else self.at_ns - before.at_ns
        let_go, no_room = self.let_go - before.let_go, self.no_room - before.no_room
        return Overflowed(over_ns, self.accepted - before.accepted, let_go, no_room)


_NOTHING = Overflowed()


@dataclass(frozen=True, slots=True)
class Call:
    """A call that was running at a look: its id, when it began at the earliest, and when the look was."""

    call_id: CallId
    since_ns: int
    looked_ns: int


def call_of(worker: Worker, batch: Batch, before: Call | None, now_ns: int) -> Call:
    """Return the current call of a worker.

    Only when its batch began is known. So the call has run since then, or since a look that saw the call
    before it; a batch has many events only where calls are quick, so that this is when the call began.
    """
    call_id, since_ns = worker.lineage.call, worker.began_ns
    if before is not None and batch.begun > 1:
        since_ns = before.since_ns if before.call_id == call_id else max(since_ns, before.looked_ns)
    return Call(call_id, since_ns, now_ns)


class Readings:
    """The readings of one subscription. What has happened `since` counts as recent at first.

    Attributes:
        ladder: What recovery has tried.
        is_critical: Whether it was subscribed with `keep` or takes a high-priority type.

    """

    def __init__(
        self, subscription: Subscription, config: HealthCheckConfig, since: Totals, now_ns: int
    ) -> None:
        self.subscription = subscription
        self.ladder: Ladder = Ladder(config.ladder)
        self._window_ns = int(config.check_s * 1e9)
        self._trend = LagTrend(config.lag_window_s, now_ns)
        self._gone_before = self._gone_newer = Overflowed()
        self._before = self._newer = since
        self._seen: tuple[Totals, int, int] | None = None
        self._said_us: tuple[Recent, Recent] = ((None, None), (None, None))
        self._calls: dict[Worker, Call] = {}
        self._handled_before = 0
        self.is_critical: bool = subscription.options.keep or subscription.takes_high_priority

    def note_step(self) -> None:
        """Recovery has taken a step: what is handled from now on proves it right."""
        self._handled_before = self._handled

    @property
    def _handled(self) -> int:
        return self.subscription.handled + self.subscription.control.normal.handled

    @property
    def is_unproven(self) -> bool:
        """Whether recovery has begun, and nothing has been handled since its last step, with work to do."""
        is_idle = self.subscription.settled
        return self.ladder.is_climbing and not is_idle and self._handled == self._handled_before

    def note(self, now_ns: int, lag: int) -> None:
        """Take a reading. What counts as recent begins one or two check intervals ago."""
        self._trend.note(lag, now_ns)
        if now_ns - self._newer.at_ns >= self._window_ns:
            self._before, self._newer = self._newer, Totals.of(self.subscription, now_ns)
        newest_ns = self._gone_newer.at_ns
        if newest_ns is None or now_ns - newest_ns >= GONE_WINDOW_NS:
            self._gone_before, self._gone_newer = self._gone_newer, Overflowed.of(self.subscription, now_ns)

    def gone(self, now_ns: int) -> Overflowed:
        """Return what the subscription has lately had no room for; nothing, if that is over."""
        last_ns = self.subscription.let_go_ns
        if last_ns is None or now_ns - last_ns > 2 * GONE_WINDOW_NS:
            return _NOTHING
        return Overflowed.of(self.subscription, now_ns).since(self._gone_before)

    def recent(self, now_ns: int) -> dict[str, float | None]:
        """Return recent rates per second, latencies and durations of calls in microseconds, JSON-ready."""
        subscription, before = self.subscription, self._before
        box, control = subscription.mailbox, subscription.control.normal
        accepted = box.high.accepted + box.normal.accepted + control.accepted - before.accepted
        handled = box.high.handled + box.normal.handled + control.handled - before.handled
        errors = subscription.errors - before.errors
        over_s = max(now_ns - before.at_ns, 1) / 1e9
        (p50_us, p99_us), (call_p50_us, call_p99_us) = self._recent_us()
        return {
            "accepted_per_s": round(accepted / over_s, 3) if accepted else 0.0,
            "handled_per_s": round(handled / over_s, 3) if handled else 0.0,
            "errors_per_s": round(errors / over_s, 3) if errors else 0.0,
            "p50_us": p50_us,
            "p99_us": p99_us,
            "call_p50_us": call_p50_us,
            "call_p99_us": call_p99_us,
        }

    def _recent_us(self) -> tuple[Recent, Recent]:
        """Return median and p99 of the recent latencies and durations."""
        latencies, durations, before = self.subscription.latencies, self.subscription.durations, self._before
        seen = (before, latencies.count, durations.count)
        if seen != self._seen:  # asked for often, and most have not changed
            self._seen = seen
            self._said_us = (
                latencies.recent_us(before.latencies),
                durations.recent_us(before.durations),
            )
        return self._said_us

    def vitals(self, consumer: Consumer | None, now_ns: int, still_ns: int, lag: int) -> SubscriptionVitals:
        """Return the vital signs; `lag` is how many events wait, those in the journal included."""
        subscription = self.subscription
        call = None if consumer is None else self._oldest_call(consumer, now_ns)
        due_ns = subscription.mailbox.due_ns()
        breaker = None if consumer is None else consumer.failures.breaker
        breaker_in_ns = None
        if breaker is not None and not breaker.is_closed:
            breaker_in_ns = 0 if breaker.until_ns is None else max(0, breaker.until_ns - now_ns)
        gone, error = self.gone(now_ns), subscription.readiness.error
        return SubscriptionVitals(
            name=subscription.name,
            critical=self.is_critical,
            waiting=lag,
            lag_per_s=self._trend.per_s,
            still_ns=still_ns,
            call_ns=None if call is None else call[0],
            call_limit_ns=None if consumer is None else consumer.timeout_ns,
            call_event="" if call is None else call[1],
            retry_in_ns=None if due_ns is None else due_ns - now_ns,
            latency_ns=self._latency_ns(0 if call is None else call[2]),
            error_streak=subscription.streak.now(subscription.handled),
            last_error=subscription.last_error,
            paused=subscription.paused,
            breaker_in_ns=breaker_in_ns,
            breaker_pauses=0 if breaker is None else breaker.trips,
            let_go=dict(gone.let_go),
            no_room=gone.no_room,
            accepted=gone.accepted,
            let_go_over_ns=gone.at_ns,
            not_restored="" if error is None or subscription.ended else str(error),
            save_error=subscription.save_error,
            held_by_ladder=self.ladder.is_holding,
            stalled=subscription.mailbox.stalled,
            abandoned=subscription.abandoned,
            exhausted=self.ladder.is_exhausted,
            tried=self.ladder.tried,
        )

    def _latency_ns(self, late_ns: int) -> float | None:
        """Return the recent latency: the p99 or, if larger, how late a current call began."""
        (_, p99_us), _ = self._recent_us()
        counted = None if p99_us is None else p99_us * 1_000
        if late_ns <= 0:
            return counted
        return late_ns if counted is None else max(counted, late_ns)

    def _oldest_call(self, consumer: Consumer, now_ns: int) -> tuple[int, str, int] | None:
        """Return the age of the oldest current call (at most), what it handles, and how late calls began."""
        oldest: tuple[int, str] | None = None
        late_ns = 0
        seen, self._calls = self._calls, {}
        for worker in consumer.active_workers():
            batch = worker.batch
            if batch is None:
                continue
            call = self._calls[worker] = call_of(worker, batch, seen.get(worker), now_ns)
            age_ns = now_ns - call.since_ns
            if not batch.attempts:
                late_ns = max(late_ns, now_ns - age_ns - batch.admitted_ns)
            if oldest is None or age_ns > oldest[0]:
                oldest = (max(0, age_ns), described(batch.current))
        return None if oldest is None else (*oldest, late_ns)


def status_of(readings: Readings, now_ns: int) -> dict[str, Any]:
    """Return what the readings add to the statistics of their subscription, JSON-ready."""
    ladder, gone = readings.ladder, readings.gone(now_ns)
    return {
        "recent": readings.recent(now_ns),
        "let_go": {
            "by_type": dict(readings.subscription.let_go),
            "no_room": readings.subscription.no_room,
            "recent_share": (sum(gone.let_go.values()) + gone.no_room) / max(1, gone.accepted),
        },
        "error_streak": readings.subscription.streak.now(readings.subscription.handled),
        "recovery": {
            "tried": list(ladder.tried),
            "holding": ladder.is_holding,
            "exhausted": ladder.is_exhausted,
        },
    }


def lag_of(subscription: Subscription, released: int) -> int:
    """Return how many events wait for a subscription; in the journal there may be fewer than are counted."""
    lag = subscription.mailbox.waiting + subscription.control.waiting
    offsets = subscription.offsets
    if offsets is not None and offsets.normal.behind:
        lag += max(0, released - offsets.normal.read_upto)
    return lag
