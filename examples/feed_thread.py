"""A feed that lives in a thread of its own, and an agent that only wants the newest quote of each symbol.

Run it in this directory: `openoutcry run feed_thread:app`.
"""

import asyncio
from collections.abc import AsyncIterator

from openoutcry import EventBus, MarketDataEvent

QUOTES = 2_000


def feed(bus: EventBus) -> None:
    """Publish quotes from a thread, and wait for the answer to the last one."""
    for number in range(QUOTES):
        symbol = ("ES", "NQ", "YM")[number % 3]
        answer = bus.publish_threadsafe(MarketDataEvent(symbol=symbol, price=100 + number / 100))
    print("the last quote was accepted:", answer.result(timeout=10))


async def app(bus: EventBus) -> AsyncIterator[None]:
    """Subscribe the agent; then let the feed run to its end, and show what became of its quotes."""
    seen: dict[str, float] = {}

    async def slow_agent(tick: MarketDataEvent) -> None:
        await asyncio.sleep(0.001)
        seen[tick.symbol] = tick.price

    bus.subscribe(MarketDataEvent, slow_agent, overflow="conflate")
    yield  # the bus starts here
    await asyncio.to_thread(feed, bus)
    await bus.join()
    row = bus.ledger().rows[-1]
    print(f"accepted {row.accepted} = handled {row.handled} + conflated {row.conflated}; newest {seen}")
