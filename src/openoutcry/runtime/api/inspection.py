"""Looking at a bus: status, statistics, history, ledger, dead letters. Reading changes nothing."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from openoutcry.config import check_number
from openoutcry.core.health import EventBusHealthStatus, HealthCheckResult
from openoutcry.core.latency import Latencies
from openoutcry.core.ledger import Ledger
from openoutcry.core.pressure import BackpressureMetrics
from openoutcry.core.retries import DeadLetter
from openoutcry.events import Event, event_type_of
from openoutcry.runtime.delivery.subscription import Subscription, selectors_of
from openoutcry.runtime.health.readings import lag_of, status_of

if TYPE_CHECKING:
    from openoutcry.runtime.admission.gate import Admission
    from openoutcry.runtime.api.lifecycle import Lifecycle
    from openoutcry.runtime.delivery.dispatcher import Dispatcher
    from openoutcry.runtime.delivery.state import BusState
    from openoutcry.runtime.health.monitor import Monitor
    from openoutcry.runtime.rounds.rounds import Rounds


@dataclass(frozen=True, slots=True)
class Envelope:
    """What the bus knows of an event, whatever its class.

    Attributes:
        event_id: Its id.
        event_type: Its type, as a plain string.
        correlation_id: The first event of the chain it belongs to, or None if it began one.
        causation_id: The event whose handler published it, or None.
        round_id: The barrier round it belongs to, or None.

    """

    event_id: str
    event_type: str
    correlation_id: str | None
    causation_id: str | None
    round_id: str | None


class Inspection:
    """Methods of the bus that only look."""

    _admission: "Admission"
    _dispatcher: "Dispatcher"
    _bus: "BusState"
    _rounds: "Rounds"
    _lifecycle: "Lifecycle"
    _monitor: "Monitor"

    @property
    def metrics(self) -> BackpressureMetrics:
        """What happened at the admission so far, as a frozen record."""
        self._admission.check_thread("metrics")
        admission, bus = self._admission, self._bus
        depth = admission.room.look()
        capacity = bus.pressure.capacity
        return BackpressureMetrics(
            level=bus.pressure.level,
            queue_size=depth,
            capacity=capacity,
            utilisation=depth / capacity,
            peak_queue_size=max(admission.room.peak, depth),
            published=admission.admitted - admission.admitted_before,
            high_priority=admission.high,
            control=admission.control,
            duplicates=admission.duplicates,
            refused=dict(admission.refused),
            rate_limited_waits=admission.room.rate_limited_waits,
            room_waits=admission.room.room_waits,
            level_changes=admission.room.level_changes,
            stalled=bus.stalled_names(),
        )

    def get_event_history(self, event_type: Any = None, limit: int = 100) -> list[Any]:
        """Return the most recent accepted events for audit, oldest first.

        The newest `history_size` are in memory. With a journal it reads on there, also after a restart, in
        the newest 16,384 entries: it is a plain call, and the loop waits for it. `read_event_history` reads
        them all.

        Args:
            event_type: A type, a class, or a list of these; None for all.
            limit: The most events to return.

        """
        self._admission.check_thread("get_event_history")
        check_number("limit", limit, 0, whole=True)
        self._dispatcher.deliver()
        selectors = None if event_type is None else selectors_of(event_type)
        found = self._bus.history.recent(selectors, limit)
        store = self._admission.store
        if store is not None and len(found) < limit:
            found = [*store.older(selectors, limit - len(found), found), *found]
        return found

    async def read_event_history(self, event_type: Any = None, limit: int = 100) -> list[Any]:
        """Return what `get_event_history` does, from everything that the journal keeps, however far back.

        Gives the loop back in between; about half a second per million entries that are looked at. Cancelling
        it is harmless.
        """
        found = self.get_event_history(event_type, limit)
        store = self._admission.store
        if store is None or len(found) >= limit:
            return found
        selectors = None if event_type is None else selectors_of(event_type)
        return [*await store.history(selectors, limit - len(found), found), *found]

    def get_handler_stats(self) -> dict[str, Any]:
        """Return statistics of the subscriptions: counts by type, and one record each, JSON-ready."""
        self._admission.check_thread("get_handler_stats")
        now_ns = self._bus.clock.now_ns()
        handlers = [s.stats(now_ns).to_dict() for s in self._bus.router]
        by_type: dict[str, int] = {}
        for subscription in self._bus.router:
            for name in subscription.types:
                by_type[name] = by_type.get(name, 0) + 1
        return {"total_handlers": len(handlers), "by_event_type": by_type, "handlers": handlers}

    def _handlers(self, monitor: "Monitor") -> dict[str, Any]:
        """Return the statistics of the subscriptions, with how they did of late."""
        stats = self.get_handler_stats()
        now_ns = self._bus.clock.now_ns()
        for record, subscription in zip(stats["handlers"], self._bus.router, strict=True):
            record["lag"] = lag_of(subscription, self._bus.durability.released)
            record.update(status_of(monitor.readings(subscription), now_ns))
        return stats

    @property
    def subscriptions(self) -> tuple[Subscription, ...]:
        """The subscriptions, in the order in which they were made."""
        return tuple(self._bus.router)

    def subscription(self, name: str) -> Subscription:
        """Return the subscription of that name, or raise `NotSubscribed`."""
        return self._bus.router.named(name)

    def ledger(self) -> Ledger:
        """Return the loss ledger: per subscription and lane, what became of every accepted event."""
        self._admission.check_thread("ledger")
        self._dispatcher.deliver()
        return Ledger(tuple(self._bus.router.ledger_rows()))

    def dead_letters(self, subscription: str | None = None) -> list[DeadLetter]:
        """Return the dead letters of one subscription or of all, oldest first; the newest 10,000 of each.

        Without a name, those of the subscriptions that ended lately are among them.
        """
        self._admission.check_thread("dead_letters")
        self._bus.dead_letters.settle(self._bus.router)
        everybody = (*self.subscriptions, *self._bus.router.ended)
        chosen = everybody if subscription is None else (self.subscription(subscription),)
        return sorted(
            (letter for s in chosen for letter in s.dead_letters), key=lambda letter: letter.wall_ns
        )

    async def check_health(self) -> HealthCheckResult:
        """Look at the health of the bus now: verdict, who is to blame, and what recovery has tried.

        It looks at every subscription (slow, stuck, dead, failing), the event loop, the journal, and at what
        is expected and does not come. Where a `HealthCheckConfig` was given, recovery acts on what is found.
        """
        self._admission.check_thread("check_health")
        return self._monitor.look()

    def on_health_change(self, callback: Callable[[HealthCheckResult], Any]) -> None:
        """Call `callback(result)` after the first check, and after each that finds something else.

        From now on the bus checks itself, also where no `HealthCheckConfig` was given. A plain function or a
        coroutine function; what it raises is logged.
        """
        self._admission.check_thread("on_health_change")
        self._monitor.listen(callback)

    @property
    def health_status(self) -> EventBusHealthStatus:
        """The health of the bus: of the last check or, if that is older than `check_s`, of a new one."""
        self._admission.check_thread("health_status")
        return self._monitor.current().status

    @property
    def is_healthy(self) -> bool:
        """Whether nothing is wrong with the bus, as `health_status` says."""
        self._admission.check_thread("is_healthy")
        return self._monitor.current().is_healthy

    def envelope(self, event: Any) -> Envelope:
        """Return what the bus knows of an event: its cause, chain and round, also for users' own classes."""
        if isinstance(event, Event):
            ids = (event.correlation_id, event.causation_id, event.round_id)
        else:
            cause = self._bus.envelopes.get(event.event_id)
            ids = (
                (None, None, None)
                if cause is None
                else (cause.correlation_id, cause.event_id, cause.round_id)
            )
        event_type = event_type_of(event)
        return Envelope(event.event_id, str(getattr(event_type, "value", event_type)), *ids)

    def get_status(self) -> dict[str, Any]:
        """Return a comprehensive status for monitoring, JSON-ready. Cheap enough to ask for every second."""
        self._admission.check_thread("get_status")
        latencies = Latencies()
        for subscription in self._bus.router:
            latencies.merge(subscription.latencies)
        ledger = self.ledger()
        monitor = self._monitor
        health = monitor.current()
        return {
            "state": self._lifecycle.state,
            "is_running": self._bus.running,
            "health": health.to_dict(),
            "watchdog": monitor.watchdog_status(),
            "backpressure": self.metrics.to_dict(),
            "latency": latencies.to_dict(),
            "handlers": self._handlers(monitor),
            "barrier": self._rounds.get_status(),
            "ledger": ledger.to_dict(),
            "journal": None if self._admission.store is None else self._admission.store.status(),
            "dead_letters": sum(row.dead_lettered for row in ledger.rows),
            "history": {"kept": self._bus.history.kept, "size": self._bus.history.size},
        }
