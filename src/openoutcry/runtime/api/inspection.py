"""Looking at a bus: metrics, history, ledger, dead letters, status. Reading changes nothing."""

from dataclasses import dataclass
from itertools import islice
from typing import Any

from openoutcry.config import check_number
from openoutcry.core.halts import Halt
from openoutcry.core.latency import Latencies
from openoutcry.core.ledger import Ledger
from openoutcry.core.pressure import BackpressureMetrics
from openoutcry.core.retries import DeadLetter
from openoutcry.events import Event, event_type_of
from openoutcry.runtime.admission.gate import Admission
from openoutcry.runtime.delivery.state import BusState
from openoutcry.runtime.delivery.subscription import selectors_of
from openoutcry.runtime.health.monitor import Monitor
from openoutcry.runtime.health.readings import status_of
from openoutcry.runtime.rounds.rounds import Rounds

HALTS_SHOWN = 100
"""So many active kill switches are in the status."""


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
    """Collects what the parts of one bus know. The methods are documented at `EventBus`."""

    def __init__(
        self,
        bus: BusState,
        admission: Admission,
        rounds: Rounds,
        monitor: Monitor,
    ) -> None:
        self._bus = bus
        self._dispatcher = admission.dispatcher
        self._admission = admission
        self._rounds = rounds
        self._monitor = monitor

    def metrics(self) -> BackpressureMetrics:
        """Return what has happened at the admission so far."""
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

    def history(self, event_type: Any, limit: int) -> list[Any]:
        """Return the most recent accepted events, from memory and the end of the journal."""
        self._admission.check_thread("get_event_history")
        check_number("limit", limit, 0, whole=True)
        self._dispatcher.deliver()
        selectors = None if event_type is None else selectors_of(event_type)
        found = self._bus.history.recent(selectors, limit)
        store = self._admission.store
        if store is not None and len(found) < limit:
            found = [*store.older(selectors, limit - len(found), found), *found]
        return found

    async def whole_history(self, event_type: Any, limit: int) -> list[Any]:
        """Return the most recent accepted events, from memory and the whole journal."""
        found = self.history(event_type, limit)
        store = self._admission.store
        if store is None or len(found) >= limit:
            return found
        selectors = None if event_type is None else selectors_of(event_type)
        return [*await store.history(selectors, limit - len(found), found), *found]

    def ledger(self) -> Ledger:
        """Return the loss ledger."""
        self._admission.check_thread("ledger")
        self._dispatcher.deliver()
        return Ledger(tuple(self._bus.router.ledger_rows()))

    def dead_letters(self, name: str | None) -> list[DeadLetter]:
        """Return the dead letters of one subscription or of all, oldest first."""
        self._admission.check_thread("dead_letters")
        router = self._bus.router
        self._bus.dead_letters.settle(router)
        chosen = (*router, *router.ended) if name is None else (router.named(name),)
        return sorted(
            (letter for s in chosen for letter in s.dead_letters), key=lambda letter: letter.wall_ns
        )

    def halted(self, scope: str) -> tuple[Halt, ...]:
        """Return the active kill switches that concern a scope."""
        self._admission.check_thread("halted")
        self._admission.slot.open_if_any()
        return self._bus.halts.of(scope)

    def _halts(self) -> dict[str, Any] | None:
        """Return the active kill switches; None if a journal that is not open yet may know of some."""
        slot, halts = self._admission.slot, self._bus.halts
        if slot.has_journal and slot.store is None and self._bus.phase == "new":
            return None
        active = [halt.to_dict() for halt in islice(halts.all(), HALTS_SHOWN)]
        return {"count": len(halts), "active": active}

    def envelope(self, event: Any) -> Envelope:
        """Return what the bus knows of an event."""
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

    def handler_stats(self) -> dict[str, Any]:
        """Return the counts of subscriptions by type, and a record of each."""
        self._admission.check_thread("get_handler_stats")
        now_ns = self._bus.clock.now_ns()
        handlers = [s.stats(now_ns).to_dict() for s in self._bus.router]
        by_type: dict[str, int] = {}
        for subscription in self._bus.router:
            for name in subscription.types:
                by_type[name] = by_type.get(name, 0) + 1
        return {"total_handlers": len(handlers), "by_event_type": by_type, "handlers": handlers}

    def status(self) -> dict[str, Any]:
        """Return everything about the bus, JSON-ready."""
        self._admission.check_thread("get_status")
        latencies = Latencies()
        for subscription in self._bus.router:
            latencies.merge(subscription.latencies)
        ledger = self.ledger()
        store, monitor = self._admission.store, self._monitor
        health = monitor.current()
        return {
            "state": self._bus.phase,
            "is_running": self._bus.running,
            "health": health.to_dict(),
            "watchdog": monitor.watchdog_status(),
            "backpressure": self.metrics().to_dict(),
            "latency": latencies.to_dict(),
            "handlers": self._handlers(),
            "barrier": self._rounds.get_status(),
            "ledger": ledger.to_dict(),
            "halts": self._halts(),
            "journal": None if store is None else store.status(),
            "dead_letters": sum(row.dead_lettered for row in ledger.rows),
            "history": {"kept": self._bus.history.kept, "size": self._bus.history.size},
        }

    def _handlers(self) -> dict[str, Any]:
        """Return the statistics of the subscriptions, and what the monitor has read of each lately."""
        stats, monitor = self.handler_stats(), self._monitor
        now_ns = self._bus.clock.now_ns()
        for record, subscription in zip(stats["handlers"], self._bus.router, strict=True):
            record["lag"] = monitor.lag(subscription)
            record.update(status_of(monitor.readings(subscription), now_ns))
        return stats
