"""A program of another firm, written for the published interface alone, runs as it is (CONTRACT 27, 29, 30).

The bus is made in one thread, where the module is imported, and runs in that of a web framework's test client;
events are the firm's own dataclasses; agents subscribe themselves in their constructors; `start` is a task.
"""

import asyncio
import itertools
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Self

import pytest

from openoutcry import (
    HIGH_PRIORITY_EVENT_TYPES,
    BackpressureConfig,
    BackpressureLevel,
    BusClosed,
    EventBus,
    EventBusHealthStatus,
    EventType,
    HealthCheckConfig,
    PersistenceConfig,
    SignalDirection,
    SignalEvent,
    register_event,
)

_number = itertools.count(1)


class Topic(Enum):
    """The firm's own names of event types; not all of them are ours."""

    MARKET_DATA = "market_data"
    ORDER = "order"
    REBALANCE = "rebalance"


@dataclass
class Tick:
    symbol: str
    price: float
    event_id: str = field(default_factory=lambda: f"tick-{next(_number)}")
    event_type: Topic = Topic.MARKET_DATA


@register_event
@dataclass
class Order:
    symbol: str
    quantity: int
    event_id: str = field(default_factory=lambda: f"order-{next(_number)}")
    event_type: str = "order"


@register_event
@dataclass(frozen=True)
class Rebalance:
    event_id: str
    event_type: Topic = Topic.REBALANCE


class Strategy:
    """Subscribes itself, and publishes from its handler."""

    def __init__(self, bus: EventBus) -> None:
        self.bus = bus
        self.seen: list[Tick] = []
        bus.subscribe(EventType.MARKET_DATA, self.on_tick)
        bus.register_signal_agent("momentum")

    async def on_tick(self, event: Tick) -> None:
        self.seen.append(event)
        assert await self.bus.publish(Order(event.symbol, 1))
        await self.bus.publish_signal(
            SignalEvent(
                strategy_name="momentum",
                source_agent="momentum",
                symbol=event.symbol,
                direction=SignalDirection.LONG,
            )
        )


class Cio:
    def __init__(self, bus: EventBus) -> None:
        self.bus = bus

    async def decide(self) -> dict[str, SignalEvent]:
        return await self.bus.wait_for_signals()


class Book:
    def __init__(self, bus: EventBus) -> None:
        self.orders: list[Order] = []
        self.rebalances: list[Rebalance] = []
        bus.subscribe(EventType.ORDER, self.on_order)
        bus.subscribe(Topic.REBALANCE, self.on_rebalance)

    async def on_order(self, event: Order) -> None:
        self.orders.append(event)

    async def on_rebalance(self, event: Rebalance) -> None:
        self.rebalances.append(event)


class LateBook(Book):
    """One that subscribes itself when the bus runs."""


class WebClient:
    """What a web framework's test client does: the application's loop runs in a thread of its own."""

    def __init__(self, startup: Any, shutdown: Any) -> None:
        self._startup, self._shutdown = startup, shutdown
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    def request(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        future: Future[Any] = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        return future.result(30)

    def __enter__(self) -> Self:
        self._thread.start()
        self.request(self._startup())
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.request(self._shutdown())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()


class Application:
    """The module of the firm: everything is made at import, in the main thread."""

    def __init__(self, bus: EventBus, ends_by: str) -> None:
        self.bus = bus
        self.ends_by = ends_by
        self.strategy, self.book, self.cio = Strategy(bus), Book(bus), Cio(bus)
        self.levels: list[BackpressureLevel] = []
        self.health: list[Any] = []
        bus.on_backpressure_change(self.levels.append)
        bus.on_health_change(self.health.append)

    async def startup(self) -> None:
        self.recovered = await self.bus.recover_persisted_events()
        self.task = asyncio.create_task(self.bus.start())
        await asyncio.sleep(0.05)

    async def shutdown(self) -> None:
        if self.ends_by == "cancelling the task":
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)
        await self.bus.stop()

    async def tick(self, price: float) -> bool:
        return await self.bus.publish(Tick("ES", price))

    async def drained(self) -> None:
        async with asyncio.timeout(20):
            await self.bus.join()

    async def status(self) -> dict[str, Any]:
        result = await self.bus.check_health()
        return {
            "running": self.bus.is_running,
            "healthy": self.bus.is_healthy,
            "status": self.bus.health_status,
            "check": result.to_dict(),
            "queue": self.bus.queue_size,
            "level": self.bus.backpressure_level,
            "metrics": self.bus.metrics.to_dict(),
            "all": self.bus.get_status(),
            "handlers": self.bus.get_handler_stats(),
            "barrier": await self.bus.get_barrier_status(),
            "history": self.bus.get_event_history(EventType.ORDER, 10),
        }


@pytest.mark.parametrize("ends_by", ["stop", "cancelling the task"])
@pytest.mark.parametrize("durable", [False, True], ids=["in memory", "journaled"])
def test_a_program_for_the_published_interface_runs_unchanged(durable, ends_by, tmp_path):
    bus = EventBus(
        10_000,
        0.2,
        0.5,
        BackpressureConfig(),
        durable,
        PersistenceConfig(path=tmp_path / "firm.db") if durable else None,
        HealthCheckConfig(),
    )
    app = Application(bus, ends_by)
    assert asyncio.run(bus.publish(Rebalance("rebalance-1")))
    assert bus.is_running is False
    with WebClient(app.startup, app.shutdown) as client:
        assert bus.is_running is True, "any thread may ask"
        deciding = asyncio.run_coroutine_threadsafe(app.cio.decide(), client._loop)
        assert client.request(app.tick(5000.0)) is True
        assert set(deciding.result(30)) == {"momentum"}
        client.request(app.drained())

        async def subscribe_later() -> LateBook:
            return LateBook(bus)

        late = client.request(subscribe_later())
        assert client.request(app.tick(5001.0)) is True
        client.request(app.drained())
        status = client.request(app.status())
    assert [t.price for t in app.strategy.seen] == [5000.0, 5001.0]
    assert [o.symbol for o in app.book.orders] == ["ES", "ES"]
    assert [r.event_id for r in app.book.rebalances] == ["rebalance-1"]
    assert len(late.orders) == 1
    assert status["running"]
    assert status["healthy"], status["check"]
    assert status["status"] is EventBusHealthStatus.HEALTHY
    assert status["queue"] == 0
    assert status["level"] is BackpressureLevel.NORMAL
    assert [type(e) for e in status["history"]] == [Order, Order]
    assert bus.is_running is False
    with pytest.raises(BusClosed):
        asyncio.run(bus.publish(Tick("ES", 1.0)))
    assert HIGH_PRIORITY_EVENT_TYPES


def test_the_same_bus_serves_one_client_after_the_other():
    """As a test suite does, with an application that is made once."""
    app = Application(EventBus(signal_timeout=0.2, barrier_timeout=0.5), "stop")
    for round_number in (1, 2, 3):
        with WebClient(app.startup, app.shutdown) as client:
            assert client.request(app.tick(float(round_number))) is True
            client.request(app.drained())
    assert [t.price for t in app.strategy.seen] == [1.0, 2.0, 3.0]
