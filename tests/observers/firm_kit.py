"""A firm in which everything has happened that has a figure, and what it says of itself."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.thread_kit import running_bus

from openoutcry import (
    NO_RETRY,
    DecisionEvent,
    DropOldest,
    EventBus,
    KillSwitchEvent,
    MarketDataEvent,
    PersistenceConfig,
    SignalEvent,
)
from openoutcry.observers.pulse import Buckets, Pulse, Shape


def a_tick() -> MarketDataEvent:
    return MarketDataEvent(symbol="ES", price=1.0)


async def live_through(bus: EventBus) -> None:
    """Let everything happen: failures, rounds that fail, kill switches, refusals, unheard events."""
    await bus.publish(SignalEvent(strategy_name="trend", symbol="ES", direction="long", source_agent="trend"))
    for _ in range(5):
        await bus.publish(a_tick())
    await bus.publish(DecisionEvent(symbol="ES", action="buy", quantity=1.0))
    await bus.publish(KillSwitchEvent(scope="ES", reason="drill", source_agent="risk"))
    bus.open_round("empty", ["trend", "carry"], signal_timeout=0.01, barrier_timeout=0.02)
    await bus.wait_for_signals("empty")
    bus.open_round("still open", ["trend"], signal_timeout=1_000, barrier_timeout=2_000)
    await bus.check_health()


def wire(bus: EventBus, *, names: tuple[str, ...] = ()) -> None:
    def fail(_: Any) -> None:
        raise ValueError("no account")

    async def think(_: Any) -> None:
        await asyncio.sleep(3_600)

    bus.subscribe("signal", fail, name="books", retry=NO_RETRY)
    bus.subscribe("market_data", think, name="llm", overflow=DropOldest(3), concurrency=1)
    bus.subscribe("kill_switch", lambda _: None, name="desk")
    for name in names:
        bus.subscribe("market_data", lambda _: None, name=name)


async def seen(bus: EventBus) -> tuple[Shape, Pulse, dict[str, Buckets]]:
    shape, pulse = await bus.admin.shape(), await bus.admin.pulse()
    return shape, pulse, bus.admin.buckets(s.name for s in shape.subscriptions)


def a_seen_firm(path: Path, *names: str) -> tuple[Shape, Pulse, dict[str, Buckets]]:
    """What a firm says of itself in which everything has happened."""

    async def run() -> tuple[Shape, Pulse, dict[str, Buckets]]:
        bus = a_bus(path)
        wire(bus, names=names)
        async with bus:
            await live_through(bus)
            found = await seen(bus)
            await bus.stop(timeout_s=0.01)
        return found

    return asyncio.run(run())


def a_bus(path: Path, **settings: Any) -> EventBus:
    return EventBus(
        persistence_config=PersistenceConfig(path=path),
        **settings,
    )


@contextmanager
def running(path: Path, *names: str) -> Iterator[None]:
    """Such a firm in a thread of its own."""

    def make() -> EventBus:
        bus = a_bus(path)
        wire(bus, names=names)
        return bus

    with running_bus(make, live_through, stop_s=0.01):
        yield
