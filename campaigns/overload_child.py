"""A process with a bus that is offered far more than it can handle, and what it has counted in the end.

The agent that everything waits for (`desk`) spends some milliseconds per event, as one that asks somebody
else does. How much of the mix it settles per second is measured first; then so many times as much is offered:
market data by `publish_nowait` and fills and market data from a thread by `publish_threadsafe` come whether
there is room or not, orders by `publish` wait for room as long as the settings say. Kill switches come from
the loop and from a thread of their own.
"""

import asyncio
import json
import resource
import sys
import threading
import time
import tracemalloc
from collections import Counter
from concurrent.futures import Future
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Final, NamedTuple

from campaigns.process_vitals import address_bytes, peak_rss_bytes, percentile, rss_bytes, waited_s
from openoutcry import (
    BackpressureConfig,
    EventBus,
    FillEvent,
    KillSwitchEvent,
    MarketDataEvent,
    OrderEvent,
    OrderSide,
    PersistenceConfig,
)
from openoutcry.journals import SqliteJournal

HANDLER_S: Final = 0.01
MODEL_S: Final = 0.05
"""How long the model takes for each event, while the overload lasts."""
CALLS: Final = 2
ORDER_PUBLISHERS: Final = 8
ORDER_PAUSE_S: Final = 0.005
TICK_S: Final = 0.001
BURST_MOST: Final = 16
"""So many are offered at a time, by the loop's publisher and by the thread's: some 0.2 ms of a turn."""
THREAD_SHARE: Final = 0.3
KILL_EVERY_S: Final = 0.05
DRAIN_S: Final = 1200.0
SQLITE_BYTES: Final = 16 * 2**20
"""SQLite's page cache and its index of the log, the commit in hand, and what the allocator keeps free."""
ADDRESSES: Final = 512 * 2**20
"""Addresses that the stacks and arenas of a few threads reserve, and do not use."""
SLOT_BYTES: Final = 64
"""A place in a mailbox, with the time of its admission, and in the books."""
ID_BYTES: Final = 200
"""A remembered id: a string of 36 characters and a place in a half-empty set."""
FUTURE_BYTES: Final = 1_500
"""What a thread's event waits with: a concurrent future with its condition, and its callback."""


class Terms(NamedTuple):
    """What is asked of a run.

    Attributes:
        seconds: How long the overload lasts.
        times: How many times the sustainable rate is offered.
        room: The bus's `max_queue_size`.
        folder: Where the journal is made.

    """

    seconds: float
    times: float
    room: int
    folder: str


class Tally:
    """What publishers asked and were told. Answers may come on any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.attempts = 0
        self.accepted: Counter[str] = Counter()
        self.refused = 0
        self.raised: Counter[str] = Counter()

    def asked(self) -> None:
        """Somebody publishes."""
        with self._lock:
            self.attempts += 1

    def answered(self, kind: str, accepted: bool) -> None:
        """Somebody has the answer."""
        with self._lock:
            if accepted:
                self.accepted[kind] += 1
            else:
                self.refused += 1

    def resolved(self, kind: str, future: "Future[bool]") -> None:
        """A thread's event has its answer."""
        error = future.exception()
        if error is None:
            self.answered(kind, future.result())
        else:
            with self._lock:
                self.raised[type(error).__name__] += 1

    @property
    def answers(self) -> int:
        """How many answers there were, of any kind."""
        return sum(self.accepted.values()) + self.refused + sum(self.raised.values())


def event_of(number: int, kind: str) -> Any:
    """Return an event of the mix."""
    if kind == "order":
        return OrderEvent(order_id=f"o{number}", symbol="ES", side=OrderSide.BUY, quantity=1.0)
    if kind == "fill":
        return FillEvent(
            order_id=f"o{number}", symbol="ES", side=OrderSide.BUY, filled_quantity=1.0, fill_price=5000.0
        )
    return MarketDataEvent(symbol=f"S{number % 50}", price=5000.0 + number % 100, volume=1.0)


def event_bytes() -> int:
    """Measure what the largest event of the mix takes, with its id."""
    most = 0
    for kind in ("market_data", "order", "fill"):
        tracemalloc.start()
        kept = [event_of(number, kind) for number in range(1_000)]
        most = max(most, tracemalloc.get_traced_memory()[0] // len(kept))
        tracemalloc.stop()
    return most


def bound_bytes(bus: EventBus, subscriptions: int, per_event: int) -> int:
    """Return what the bus may take by its settings, if no event were shared between two places.

    That is a full mailbox per subscription, the history, what threads have handed in (twice the room, for
    urgent ones), both generations of remembered ids, and the journal's own memory.
    """
    config = bus.config
    room = config.max_queue_size
    places = subscriptions * room + config.history_size + 2 * room
    return (
        places * (per_event + SLOT_BYTES)
        + 2 * room * FUTURE_BYTES
        + 2 * config.dedup_window * ID_BYTES
        + SQLITE_BYTES
    )


class Firm:
    """A bus, its agents, and those who publish too much."""

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self.path = Path(terms.folder) / "overload.db"
        self.before_bytes = rss_bytes()
        self.bus = EventBus(
            terms.room,
            persistence_config=PersistenceConfig(path=self.path, socket=False, record="off"),
            backpressure_config=BackpressureConfig(cooldown_s=0.05),
            history_size=terms.room,
        )
        self.tally = Tally()
        self.handled: dict[str, Counter[str]] = {"desk": Counter(), "audit": Counter(), "control": Counter()}
        self.handled["model"] = Counter()
        self.kills: dict[str, list[float]] = {"loop": [], "thread": []}
        self.rss_most = 0
        self._began: dict[str, float] = {}
        self._drills = count()
        self._over = threading.Event()
        self._target_per_s = self._waited_share = self._model_s = 0.0
        mix = ["market_data", "order", "fill"]
        # Publishers wait for the desk, which is to miss nothing; the model has what it can have.
        self.bus.subscribe(mix, self._desk, name="desk", concurrency=CALLS, overflow="gate")
        self.bus.subscribe(mix, self._audit, name="audit")
        self.bus.subscribe(mix, self._model, name="model")
        self.bus.subscribe("kill_switch", self._control, name="control")

    async def _desk(self, event: Any) -> None:
        await asyncio.sleep(HANDLER_S)
        self.handled["desk"][str(event.event_type.value)] += 1

    async def _model(self, event: Any) -> None:
        if self._model_s:
            await asyncio.sleep(self._model_s)
        self.handled["model"][str(event.event_type.value)] += 1

    def _audit(self, event: Any) -> None:
        self.handled["audit"][str(event.event_type.value)] += 1

    def _control(self, event: KillSwitchEvent) -> None:
        now = time.perf_counter()
        self.handled["control"]["kill_switch"] += 1
        self.kills[event.triggered_by].append(now - self._began.pop(event.event_id))

    # -- publishers ---------------------------------------------------------------------------------

    async def measure(self) -> float:
        """Return how many events of the mix are settled per second when that many come."""
        count = self.terms.room // 2
        kinds = ("market_data", "order", "market_data", "fill")
        began = time.perf_counter()
        for number in range(count):
            kind = kinds[number % 4]
            self.tally.asked()
            self.tally.answered(kind, await self.bus.publish(event_of(number, kind)))
        await self.bus.join()
        return count / (time.perf_counter() - began)

    async def _flood(self, began: float) -> None:
        """Offer market data, so many that all publishers together offer what is asked."""
        first, number = self.tally.attempts, 0
        while not self._over.is_set():
            due = int(self._target_per_s * (time.perf_counter() - began)) - (self.tally.attempts - first)
            for _ in range(min(due, BURST_MOST)):
                number += 1
                self.tally.asked()
                self.tally.answered("market_data", self.bus.publish_nowait(event_of(number, "market_data")))
            await asyncio.sleep(0 if due > BURST_MOST else TICK_S)

    async def _orders(self) -> None:
        number = 0
        while not self._over.is_set():
            number += 1
            self.tally.asked()
            self.tally.answered("order", await self.bus.publish(event_of(number, "order")))
            await asyncio.sleep(ORDER_PAUSE_S)

    def _thread(self, began: float) -> None:
        number = 0
        while not self._over.is_set():
            due = int(self._target_per_s * THREAD_SHARE * (time.perf_counter() - began)) - number
            for _ in range(min(due, BURST_MOST)):
                number += 1
                kind = "market_data" if number % 10 else "fill"
                self.tally.asked()
                future = self.bus.publish_threadsafe(event_of(number, kind))
                future.add_done_callback(partial(self.tally.resolved, kind))
            time.sleep(TICK_S)

    def _kill(self, source: str) -> KillSwitchEvent:
        self.tally.asked()
        scope = f"drill-{next(self._drills)}"  # one of its own, so that none stands for another
        event = KillSwitchEvent(triggered_by=source, reason="drill", scope=scope)
        self._began[event.event_id] = time.perf_counter()
        return event

    async def _kill_from_loop(self) -> None:
        while not self._over.is_set():
            self.tally.answered("kill_switch", await self.bus.publish(self._kill("loop")))
            await asyncio.sleep(KILL_EVERY_S)

    def _kill_from_thread(self) -> None:
        while not self._over.wait(KILL_EVERY_S):
            future = self.bus.publish_threadsafe(self._kill("thread"))
            future.add_done_callback(partial(self.tally.resolved, "kill_switch"))

    async def _watch(self) -> None:
        while not self._over.is_set():
            self.rss_most = max(self.rss_most, rss_bytes())
            await asyncio.sleep(0.05)

    # -- a run --------------------------------------------------------------------------------------

    async def overload(self, sustainable_per_s: float) -> float:
        """Offer too much for so long; return how many were offered per second."""
        self._target_per_s = self.terms.times * sustainable_per_s
        began, first = time.perf_counter(), self.tally.attempts
        waited, self._model_s = waited_s(), MODEL_S
        threads = [
            threading.Thread(target=self._thread, args=(began,)),
            threading.Thread(target=self._kill_from_thread),
        ]
        for thread in threads:
            thread.start()
        async with asyncio.TaskGroup() as group:
            for work in (self._flood(began), self._kill_from_loop(), self._watch()):
                group.create_task(work)
            for _ in range(ORDER_PUBLISHERS):
                group.create_task(self._orders())
            await asyncio.sleep(self.terms.seconds)
            took_s, offered = time.perf_counter() - began, self.tally.attempts - first
            self._over.set()
            self._model_s = 0.0
        self._waited_share = (waited_s() - waited) / took_s
        for thread in threads:
            await asyncio.to_thread(thread.join)
        return offered / took_s

    async def run(self) -> dict[str, Any]:
        """Measure, offer too much, let everything settle; return what was counted."""
        await self.bus.start()
        sustainable_per_s = await self.measure()
        offered_per_s = await self.overload(sustainable_per_s)
        began = time.perf_counter()
        async with asyncio.timeout(DRAIN_S):
            await self.bus.join()
        await self.bus.flush()
        journal = self.bus.get_status()["journal"]
        cursors = [report.to_dict() for report in await self.bus.admin.cursors()]
        settle_s = time.perf_counter() - began
        found = {
            "sustainable_per_s": sustainable_per_s,
            "offered_per_s": offered_per_s,
            "settle_s": settle_s,
            "head": journal["head"],
            "cursors": cursors,
            "ledger": self.bus.ledger().to_dict(),
            "counted": self.bus.metrics.to_dict(),
        }
        await self.bus.stop()
        return found | self._told()

    def _told(self) -> dict[str, Any]:
        tally = self.tally
        return {
            "attempts": tally.attempts,
            "answers": tally.answers,
            "accepted": dict(tally.accepted),
            "refused": tally.refused,
            "raised": dict(tally.raised),
            "handled": {name: dict(counts) for name, counts in self.handled.items()},
            "before_bytes": self.before_bytes,
            "sampled_bytes": self.rss_most,
            "waited_share": self._waited_share,
            "kills": {
                source: {
                    "count": len(times),
                    "p50_ms": percentile(times, 0.5) * 1e3,
                    "p99_ms": percentile(times, 0.99) * 1e3,
                    "max_ms": max(times, default=0.0) * 1e3,
                }
                for source, times in self.kills.items()
            },
        }


def run(terms: Terms) -> dict[str, Any]:
    """Run in this process, whose memory is limited from now on."""
    per_event = event_bytes()
    firm = Firm(terms)
    bound = bound_bytes(firm.bus, len(firm.handled), per_event)
    limit = address_bytes() + bound + ADDRESSES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    found = asyncio.run(firm.run())
    found |= {"event_bytes": per_event, "bound_bytes": bound, "peak_bytes": peak_rss_bytes()}
    journal = SqliteJournal(firm.path)
    try:
        found["kept"] = journal.head - journal.first + 1
    finally:
        journal.close()
    return found


if __name__ == "__main__":
    sys.stdout.write(json.dumps(run(Terms(*json.loads(sys.argv[1])))) + "\n")
