"""A small firm and its venue for backtests, and others in which something is wrong."""

import asyncio
import random
from pathlib import Path
from typing import Any

from openoutcry import FillEvent, MarketDataEvent, OrderEvent


class Trend:
    """Buys what has risen, and sells what has fallen."""

    thinks_s = 0.0

    def setup(self, bus: Any) -> None:
        self.bus, self.last, self.count = bus, {}, 0
        bus.subscribe(MarketDataEvent, self.on_bar, name="trend")
        bus.subscribe(OrderEvent, self.never, name="venue")

    async def never(self, order: OrderEvent) -> None:
        raise AssertionError("the venue has taken this place")

    async def on_bar(self, bar: MarketDataEvent) -> None:
        before = self.last.get(bar.symbol, bar.price)
        self.last[bar.symbol] = bar.price
        if bar.price == before:
            return
        self.count += 1
        size = await self.bus.recorded("model", self.ask) if self.thinks_s else 1.0
        await self.bus.publish(
            OrderEvent(
                order_id=f"o-{self.count}",
                symbol=bar.symbol,
                side="buy" if bar.price > before else "sell",
                quantity=size,
                source_agent="trend",
            )
        )

    async def ask(self) -> float:
        await asyncio.sleep(self.thinks_s)
        return random.randrange(1, 10) * self.bus.chance.random()


class SlowTrend(Trend):
    thinks_s = 120.0


class FailingTrend(Trend):
    async def on_bar(self, bar: MarketDataEvent) -> None:
        raise ValueError(f"no view on {bar.symbol}")


class WritingTrend(Trend):
    def on_bar(self, bar: MarketDataEvent) -> None:
        Path("/tmp/openoutcry-must-not-be").write_text("x")


class BrokenTrend(Trend):
    def setup(self, bus: Any) -> None:
        raise KeyError("no account")


class Venue:
    """Fills an order at the opening of the next bar of its symbol."""

    def setup(self, bus: Any) -> None:
        self.bus, self.orders = bus, []
        bus.subscribe([MarketDataEvent, OrderEvent], self.take, name="venue")

    async def take(self, event: Any) -> None:
        if isinstance(event, OrderEvent):
            self.orders.append(event)
            return
        due = [order for order in self.orders if order.symbol == event.symbol]
        self.orders = [order for order in self.orders if order not in due]
        for order in due:
            await self.bus.publish(
                FillEvent(
                    order_id=order.order_id,
                    symbol=order.symbol,
                    side=order.side,
                    filled_quantity=order.quantity,
                    fill_price=event.open,
                    source_agent="venue",
                )
            )


def write_bars(path: Path, minutes_count: int = 40) -> None:
    """Write bars of two symbols, a minute each."""
    rows = ["time,symbol,open,high,low,close,volume"]
    for minute in range(minutes_count):
        for symbol, base in (("ES", 100), ("ZN", 50)):
            first = base + (minute * 7 + base) % 5
            last = base + (minute * 7 + 7 + base) % 5
            prices = f"{first},{max(first, last)},{min(first, last)},{last}"
            rows.append(f"2026-01-02T{14 + minute // 60}:{minute % 60:02}:00Z,{symbol},{prices},10")
    path.write_text("\n".join(rows) + "\n")
