"""Looking at a bus: metrics, history, ledger, dead letters, status. Reading changes nothing."""

import asyncio
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from msgspec import to_builtins

from openoutcry.config import check_number
from openoutcry.core.halts import Halt
from openoutcry.core.health import HealthCheckResult
from openoutcry.core.latency import Latencies
from openoutcry.core.ledger import Counts, Ledger, plain_row
from openoutcry.core.pressure import BackpressureLevel, BackpressureMetrics
from openoutcry.core.retries import DeadLetter
from openoutcry.errors import JournalError
from openoutcry.events import Event, event_type_of
from openoutcry.journals import EventPersistence
from openoutcry.ports import Header
from openoutcry.printable import writable
from openoutcry.runtime.admission.gate import Admission
from openoutcry.runtime.delivery.state import BusState
from openoutcry.runtime.delivery.subscription import Subscription, selectors_of
from openoutcry.runtime.health.monitor import Monitor
from openoutcry.runtime.health.readings import status_of
from openoutcry.runtime.rounds.rounds import Rounds

if TYPE_CHECKING:
    from openoutcry.runtime.linking.linking import Linking  # who has no link does not pay for it

HALTS_SHOWN: Final = 100
"""So many active kill switches are in the status."""
PIECE: Final = 16
"""A status that is collected in pieces gives the loop back after so many subscriptions."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """What the bus knows of an event, whatever its class.

    Attributes:
        event_id: Its id.
        event_type: Its type, as a plain string.
        correlation_id: The first event of the chain it belongs to, or None if it began one.
        causation_id: The event whose handler published it, or None.
        round_id: The barrier round it belongs to, or None.
        desk: The desk that has made it, where it was imported; None for one of this desk's own, and where the
            journal does not have it.
        votes: Whether it is an answer to a round of another desk.

    """

    event_id: str
    event_type: str
    correlation_id: str | None
    causation_id: str | None
    round_id: str | None
    desk: str | None = None
    votes: bool = False


class _Merged:
    """The latencies of all subscriptions together, added up anew when any of them has changed."""

    def __init__(self) -> None:
        self._seen: list[tuple[Latencies, int]] = []
        self._said = Latencies().to_dict()

    def of(self, parts: list[Latencies]) -> dict[str, float | int | None]:
        """Return count, percentiles and the largest of all."""
        seen = [(part, part.count) for part in parts]
        if seen != self._seen:
            self._seen, self._said = seen, Latencies.merged(parts).to_dict()
        return self._said.copy()


class _Books:
    """The loss ledger as JSON-ready data, entered subscription by subscription."""

    def __init__(self) -> None:
        self.balance = True
        self.rows: list[dict[str, Any]] = []

    def enter(self, name: str, lanes: Sequence[tuple[str, Counts]]) -> None:
        """Enter the lanes of a subscription."""
        for lane, counts in lanes:
            self.rows.append(plain_row(name, lane, counts))
            if counts[0] != sum(counts[1:]):
                self.balance = False


class Inspection:
    """Collects what the parts of one bus know. The methods are documented at `EventBus`."""

    def __init__(
        self,
        bus: BusState,
        admission: Admission,
        rounds: Rounds,
        monitor: Monitor,
        linking: "Linking | None",
    ) -> None:
        self._bus = bus
        self._linking = linking
        self._dispatcher = admission.dispatcher
        self._admission = admission
        self._rounds = rounds
        self._monitor = monitor
        self._latencies, self._durations = _Merged(), _Merged()

    def metrics(self) -> BackpressureMetrics:
        """Return what has happened at the admission so far."""
        self._admission.check_thread("metrics")
        admission, bus = self._admission, self._bus
        depth = admission.room.look()
        capacity = bus.pressure.capacity
        return BackpressureMetrics(
            level=admission.room.level,
            queue_size=depth,
            capacity=capacity,
            utilisation=depth / capacity,
            peak_queue_size=max(admission.room.peak, depth),
            published=admission.admitted - admission.admitted_before,
            high_priority=admission.high,
            control=admission.control,
            duplicates=admission.again.duplicates,
            conflicts=bus.conflicts.total - admission.conflicts_before,
            unheard=dict(bus.unheard.counts),
            refused=dict(admission.refused),
            rate_limited_waits=admission.room.rate_limited_waits,
            room_waits=admission.room.room_waits,
            level_changes=admission.room.level_changes,
            overflowed=bus.router.overflowed - admission.overflowed_before,
            stalled=bus.stalled_names(),
            imported=admission.arrivals.taken,
        )

    def level(self) -> BackpressureLevel:
        """Return the current backpressure level."""
        self._admission.check_thread("backpressure_level")
        self._admission.room.look()
        return self._admission.room.level

    def depth(self) -> int:
        """Return the most events that a publisher meets."""
        self._admission.check_thread("queue_size")
        return self._admission.room.depth()

    def subscriptions(self) -> tuple[Subscription, ...]:
        """Return the subscriptions, in the order in which they were made."""
        self._admission.check_thread("subscriptions")
        return tuple(self._bus.router)

    def subscription(self, name: str) -> Subscription:
        """Return the subscription of that name."""
        self._admission.check_thread("subscription")
        return self._bus.router.named(name)

    def persistence(self) -> EventPersistence | None:
        """Return the persistence layer, which checks each call as well; None if there is no journal."""
        self._admission.check_thread("persistence")
        slot = self._admission.slot
        return slot.open().face if slot.has_journal else None

    def barrier(self) -> dict[str, Any]:
        """Return the state of the barrier."""
        self._admission.check_thread("get_barrier_status")
        return self._rounds.get_status()

    def health(self, call: str, *, anew: bool = False) -> HealthCheckResult:
        """Return what the last check of the health has found, if it is recent; otherwise check now."""
        self._admission.check_thread(call)
        return self._monitor.look() if anew else self._monitor.current()

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

    def reset(self) -> None:
        """Count admissions and refusals from zero again."""
        self._admission.check_thread("reset_metrics")
        self._admission.reset()

    def ledger(self) -> Ledger:
        """Return the loss ledger."""
        self._admission.check_thread("ledger")
        self._dispatcher.deliver()
        return Ledger(tuple(self._bus.router.ledger_rows()))

    def dead_letters(self, name: str | None, limit: int | None, after: int) -> list[DeadLetter]:
        """Return the dead letters of one name or of all, oldest first, by the page if that is asked for."""
        self._admission.check_thread("dead_letters")
        if limit is not None:
            check_number("limit", limit, 1, whole=True)
        check_number("after", after, 0, whole=True)
        letters = self._bus.dead_letters
        if name is not None and name not in letters.counts():
            self._bus.router.named(name)
        letters.settle()
        return list(islice(letters.letters(name, after), limit))

    def dead_letter_counts(self) -> dict[str, int]:
        """Return how many dead letters each name has."""
        self._admission.check_thread("dead_letter_counts")
        return self._bus.dead_letters.counts()

    def _letters(self) -> dict[str, Any] | None:
        """Return what there is of dead letters, JSON-ready; None if they cannot be read now."""
        letters = self._bus.dead_letters
        try:
            counts = letters.counts()
        except JournalError:
            return None
        present = {subscription.name for subscription in self._bus.router}
        return {
            "total": sum(counts.values()),
            "by_name": {
                name: {"count": count, "subscribed": name in present} for name, count in counts.items()
            },
            "redriving": letters.redrives.count,
            "let_go": dict(letters.let_go),
        }

    def halted(self, scope: str) -> tuple[Halt, ...]:
        """Return the active kill switches that concern a scope."""
        self._admission.check_thread("halted")
        self._admission.slot.open_if_any()
        found = self._bus.halts.of(writable(scope))
        if self._bus.noted is not None:
            self._bus.noted.saw_halts(scope, tuple(halt.event_id for halt in found))
        return found

    def _halts(self) -> dict[str, Any] | None:
        """Return the active kill switches; None if a journal that is not open yet may know of some."""
        slot, halts = self._admission.slot, self._bus.halts
        if slot.has_journal and slot.store is None and self._bus.phase == "new":
            return None
        active = [halt.to_dict() for halt in islice(halts.all(), HALTS_SHOWN)]
        return {"count": len(halts), "active": active}

    def envelope(self, event: Any) -> Envelope:
        """Return what the bus knows of an event."""
        self._admission.check_thread("envelope")
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
        beside = self._beside(event.event_id) or Header()
        name = str(getattr(event_type, "value", event_type))
        return Envelope(event.event_id, name, *ids, beside.desk, bool(beside.votes))

    def _beside(self, event_id: str) -> Header | None:
        """Return what stands beside an event in the journal of a desk with a link."""
        store = self._admission.store
        if store is None or self._linking is None:
            return None
        found = store.stored(event_id)
        return None if found is None else found.header

    def handler_stats(self) -> dict[str, Any]:
        """Return the counts of subscriptions by type, and a record of each."""
        self._admission.check_thread("get_handler_stats")
        now_ns = self._bus.clock.now_ns()
        letters = self._bus.dead_letters.open_counts()
        return _by_type(
            [s.plain_stats(now_ns, s.ledger_counts(), letters.get(s.name, 0)) for s in self._bus.router]
        )

    def status(self) -> dict[str, Any]:
        """Return everything about the bus, JSON-ready."""
        pieces = self._status()
        try:
            while True:
                next(pieces)
        except StopIteration as done:
            found: dict[str, Any] = done.value
            return found

    async def read_status(self) -> dict[str, Any]:
        """Return everything about the bus, JSON-ready, and let others run after every few subscriptions."""
        pieces = self._status()
        try:
            while True:
                for _ in range(PIECE):
                    next(pieces)
                await asyncio.sleep(0)
        except StopIteration as done:
            found: dict[str, Any] = done.value
            return found

    def _link(self) -> dict[str, Any] | None:
        """Return how the link to other desks stands; None without one."""
        standing = None if self._linking is None else self._linking.standing()
        return None if standing is None else to_builtins(standing)

    def _status(self) -> Generator[None, None, dict[str, Any]]:
        """Collect everything about the bus; yields after each subscription."""
        self._admission.check_thread("get_status")
        self._dispatcher.deliver()
        bus, monitor = self._bus, self._monitor
        health = monitor.current()
        books, handlers, counts = _Books(), [], bus.dead_letters.open_counts()
        for subscription in tuple(bus.router):
            now_ns = bus.clock.now_ns()
            lanes = subscription.ledger_counts()
            books.enter(subscription.name, lanes)
            record = subscription.plain_stats(now_ns, lanes, counts.get(subscription.name, 0))
            record["lag"] = monitor.lag(subscription)
            record.update(status_of(monitor.readings(subscription), now_ns))
            handlers.append(record)
            yield
        for subscription in bus.router.ended:
            books.enter(subscription.name, subscription.ledger_counts())
        for name, lane, folded in bus.router.folded_counts():
            books.enter(name, [(lane, folded)])
        store, letters = self._admission.store, self._letters()
        return {
            "state": bus.phase,
            "is_running": bus.running,
            "health": health.to_dict(),
            "watchdog": monitor.watchdog_status(),
            "backpressure": self.metrics().to_dict(),
            "latency": self._latencies.of([s.latencies for s in bus.router]),
            "duration": self._durations.of([s.durations for s in bus.router]),
            "handlers": _by_type(handlers),
            "barrier": self._rounds.get_status(),
            "ledger": {"balances": books.balance, "rows": books.rows},
            "halts": self._halts(),
            "journal": None if store is None else store.status(),
            "link": self._link(),
            "unheard": dict(bus.unheard.counts),
            "dead_letters": None if letters is None else letters["total"],
            "letters": letters,
            "history": {
                "kept": bus.history.kept,
                "size": bus.history.size,
                "bytes": bus.history.bytes_kept,
            },
        }


def _by_type(handlers: list[dict[str, Any]]) -> dict[str, Any]:
    """Return records of subscriptions, and how many there are of each type."""
    by_type: dict[str, int] = {}
    for record in handlers:
        for name in record["types"]:
            by_type[name] = by_type.get(name, 0) + 1
    return {"total_handlers": len(handlers), "by_event_type": by_type, "handlers": handlers}
