"""A firm whose agents have several subscriptions each, and depend on the order between them."""

import asyncio
import random
from collections.abc import Callable

from openoutcry import DecisionEvent, Event, EventBus, FillEvent, MarketDataEvent, OrderSide, register_event

SYMBOLS = ("ES", "ZN", "CL")
TICKS = 240
BURST = 6


@register_event
class InventoryNoted(Event, frozen=True, kw_only=True, tag="inventory_noted"):  # type: ignore[misc]
    symbol: str
    held: float
    seen_count: int


class Maker:
    """Quotes by what it holds, of which its other subscription tells it."""

    name = "maker"

    def __init__(self, bus: EventBus) -> None:
        self.bus, self.held, self.seen_count = bus, 0.0, 0
        bus.subscribe(MarketDataEvent, self.on_tick, name="maker.ticks")
        bus.subscribe(FillEvent, self.on_fill, name="maker.fills")

    async def on_tick(self, tick: MarketDataEvent) -> None:
        self.seen_count += 1
        await self.bus.publish(
            DecisionEvent(
                symbol=tick.symbol,
                action=OrderSide.BUY,
                quantity=1.0 + self.held,
                conviction_score=0.5,
                source_agent=self.name,
            )
        )

    async def on_fill(self, fill: FillEvent) -> None:
        self.held += fill.filled_quantity


class Newest:
    """Takes the newest of each symbol, and is slow."""

    def __init__(self, bus: EventBus) -> None:
        self.bus, self.count = bus, 0
        bus.subscribe(MarketDataEvent, self.on_tick, name="newest", overflow="conflate")

    async def on_tick(self, tick: MarketDataEvent) -> None:
        self.count += 1
        await asyncio.sleep(random.random() / 500)
        await self.bus.publish(
            InventoryNoted(
                source_agent="newest", symbol=tick.symbol, held=tick.price or 0.0, seen_count=self.count
            )
        )


class Divides:
    """Publishes what cannot be written, now and then, and is told so."""

    def __init__(self, bus: EventBus) -> None:
        self.bus = bus
        bus.subscribe(FillEvent, self.on_fill, name="divides", retry=False, breaker=False)

    async def on_fill(self, fill: FillEvent) -> None:
        held = float("inf") if fill.filled_quantity > 3 else fill.filled_quantity
        await self.bus.publish(
            InventoryNoted(source_agent="divides", symbol=fill.symbol, held=held, seen_count=0)
        )


class Customer:
    """Buys something on some ticks."""

    def __init__(self, bus: EventBus) -> None:
        self.bus, self.count = bus, 0
        bus.subscribe(MarketDataEvent, self.on_tick, name="customer")

    async def on_tick(self, tick: MarketDataEvent) -> None:
        self.count += 1
        if self.count % 5 == 0:
            await self.bus.publish(
                FillEvent(
                    order_id=f"c-{self.count}",
                    symbol=tick.symbol,
                    side="buy",
                    filled_quantity=1.0 + self.count % 4,
                    fill_price=tick.price or 0.0,
                    source_agent="customer",
                )
            )


class Makers:
    """The app."""

    agents: tuple[Callable[[EventBus], object], ...] = (Maker, Newest, Divides, Customer)

    def setup(self, bus: EventBus) -> None:
        for agent in self.agents:
            agent(bus)

    async def main(self, bus: EventBus) -> None:
        """Publish ticks in bursts, so that much waits while others run."""
        for first in range(0, TICKS, BURST):
            ticks = [
                MarketDataEvent(
                    symbol=SYMBOLS[number * number % 7 % 3], price=100.0 + number, source_agent="feed"
                )
                for number in range(first, first + BURST)
            ]
            await bus.publish_many(ticks)
            await asyncio.sleep(0.002)
        await bus.join()
