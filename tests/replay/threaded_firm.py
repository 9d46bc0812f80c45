"""A firm whose agents are plain functions in threads of their own."""

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from openoutcry import NO_RETRY, EventBus, MarketDataEvent, OrderEvent, PersistenceConfig
from openoutcry.runtime.durability.recorder import running_app

NAMES = ("first", "second", "third")


class Buyer:
    """Buys what the tick says, in a thread: some of it after a while, and once by way of the loop."""

    def __init__(self, bus: EventBus, name: str) -> None:
        self.bus, self.name, self.loop = bus, name, asyncio.get_running_loop()
        bus.subscribe(MarketDataEvent, self.on_tick, name=name, blocking=True, timeout_s=60.0)

    def on_tick(self, tick: MarketDataEvent) -> None:
        assert threading.current_thread() is not threading.main_thread()
        assert self.buy(tick, "now").result(60.0)
        if tick.price % 3 == 0:
            time.sleep(0.004)
            assert self.buy(tick, "later").result(60.0)
        if tick.price == 4:
            assert asyncio.run(asyncio.sleep(0, result=True))
        if tick.price == 5 and self.name == "first":
            self.by_way_of_the_loop(tick)

    def by_way_of_the_loop(self, tick: MarketDataEvent) -> None:
        published = self.bus.publish(self.order(tick, "loop"))
        assert asyncio.run_coroutine_threadsafe(published, self.loop).result(60.0)

    def buy(self, tick: MarketDataEvent, when: str) -> Any:
        return self.bus.publish_threadsafe(self.order(tick, when))

    def order(self, tick: MarketDataEvent, when: str) -> OrderEvent:
        return OrderEvent(
            order_id=f"{self.name}-{tick.price:g}-{when}",
            symbol="ES",
            side="buy",
            quantity=1.0,
            source_agent=self.name,
        )


class Threaded:
    """The app; subclasses change one thing."""

    buyer: Callable[..., Any] = Buyer

    async def setup(self, bus: EventBus) -> None:
        for name in NAMES:
            self.buyer(bus, name)


class _Writes(Buyer):
    def order(self, tick: MarketDataEvent, when: str) -> OrderEvent:
        if tick.price == 7 and self.name == "second":
            with ThreadPoolExecutor(1):
                Path("/tmp/openoutcry-must-not-be-either").write_text("no")
        return super().order(tick, when)


class _Doubles(Buyer):
    def order(self, tick: MarketDataEvent, when: str) -> OrderEvent:
        return doubled(super().order(tick, when), tick)


def doubled(order: OrderEvent, tick: MarketDataEvent) -> OrderEvent:
    quantity = 2.0 if tick.price == 7 and order.source_agent == "second" else 1.0
    fields = {name: getattr(order, name) for name in order.__struct_fields__}
    return OrderEvent(**(fields | {"quantity": quantity}))


class WritesInThread(Threaded):
    buyer = _Writes


class Doubles(Threaded):
    buyer = _Doubles


class _Slow(Buyer):
    """Thinks for two seconds."""

    def on_tick(self, tick: MarketDataEvent) -> None:
        time.sleep(2.0)
        assert self.buy(tick, "now").result(60.0)


class Slow(Threaded):
    buyer = _Slow


class _Hangs(Buyer):
    """Does not come back in time, once; what it buys after that is bought all the same."""

    def __init__(self, bus: EventBus, name: str) -> None:
        self.bus, self.name = bus, name
        bus.subscribe(MarketDataEvent, self.on_tick, name=name, blocking=True, timeout_s=0.05, retry=NO_RETRY)

    def on_tick(self, tick: MarketDataEvent) -> None:
        self.buy(tick, "now").result(60.0)
        if tick.price == 7 and self.name == "second":
            time.sleep(1.5)
            self.buy(tick, "much later")


class Hangs(Threaded):
    buyer = _Hangs


def record_threads(path: Path, firm: Callable[[], Any] = Threaded, *, ticks: int = 20) -> None:
    """Have the firm buy, in real time."""

    async def run() -> None:
        persistence = PersistenceConfig(path=path, record="replay")
        async with EventBus(persistence_config=persistence) as bus:
            await firm().setup(bus)
            for number in range(ticks):
                await bus.publish(MarketDataEvent(symbol="ES", price=float(number), source_agent="feed"))
                if number % 4 == 0:
                    await asyncio.sleep(0.002)
            await bus.join()

    running_app.set(f"{firm.__module__}:{firm.__qualname__}")
    asyncio.run(run())
