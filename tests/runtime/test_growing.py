"""What idle subscriptions cost an event, and what waits costs who publishes: nothing more for each. Calls are counted."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Self

import pytest
from bus_helpers import a_tick, an_order, ticks, virtual

from openoutcry import EventBus, PersistenceConfig


class Calls:
    """Counts the calls of this package's functions, and how often its generators go on."""

    def __init__(self) -> None:
        self.count = 0

    def __enter__(self) -> Self:
        sys.setprofile(self._note)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _note(self, frame: Any, kind: str, _: object) -> None:
        self.count += kind == "call" and "/openoutcry/" in frame.f_code.co_filename


async def calls_of(bus: EventBus, work: Callable[[], Awaitable[object]], handled: asyncio.Event) -> int:
    """Count the calls from an event's publishing until it has been handled, on a bus that is warm."""
    for _ in range(20):
        handled.clear()
        await work()
        await handled.wait()
    await bus.join()
    handled.clear()
    with Calls() as calls:
        await work()
        await handled.wait()
    await bus.join()
    return calls.count


async def calls_beside(
    idle_count: int, make: Callable[[], Any], persistence: PersistenceConfig | None
) -> int:
    handled = asyncio.Event()
    async with EventBus(persistence_config=persistence) as bus:
        for number in range(idle_count):
            bus.subscribe("quiet", lambda _: None, name=f"quiet-{number}")
        bus.subscribe([type(make())], lambda _: handled.set(), name="reader")
        return await calls_of(bus, lambda: bus.publish(make()), handled)


@pytest.mark.parametrize("make", [a_tick, an_order])
@virtual
async def test_an_event_takes_the_same_calls_beside_any_number_of_idle_subscriptions(
    make: Callable[[], Any],
) -> None:
    assert await calls_beside(2, make, None) == await calls_beside(100, make, None) > 0


@virtual
async def test_a_journaled_event_takes_the_same_calls_beside_any_number_of_idle_subscriptions(
    tmp_path: Path,
) -> None:
    few = await calls_beside(2, an_order, PersistenceConfig(path=tmp_path / "few.db", socket=False))
    many = await calls_beside(100, an_order, PersistenceConfig(path=tmp_path / "many.db", socket=False))
    assert few == many > 0


@virtual
async def test_to_subscribe_takes_the_same_calls_however_many_have_subscribed() -> None:
    bus = EventBus()

    def subscribe(number: int) -> int:
        with Calls() as calls:
            bus.subscribe("quiet", lambda _: None, name=f"quiet-{number:03}")
        return calls.count

    counts = [subscribe(number) for number in range(100)]
    assert counts[2] == counts[99] > 0


@virtual
async def test_what_waits_is_looked_at_again_only_when_as_much_has_come() -> None:
    async def calls_for(events_count: int) -> int:
        released = asyncio.Event()

        async def wait(_event: Any) -> None:
            await released.wait()

        bus = EventBus(dedup_window=64, max_queue_size=100_000)
        bus.subscribe("market_data", wait)
        async with bus:
            with Calls() as calls:
                for number in range(0, events_count, 50):
                    await bus.publish_many(ticks(50, number + 1))
                    await asyncio.sleep(0)
            released.set()
            await bus.join()
        return calls.count

    assert await calls_for(8_000) < 2.5 * await calls_for(4_000)


@virtual
async def test_a_duplicate_of_what_waits_is_known_however_much_has_come_since() -> None:
    released, first = asyncio.Event(), a_tick()

    async def wait(_event: Any) -> None:
        await released.wait()

    bus = EventBus(dedup_window=16, max_queue_size=100_000)
    bus.subscribe("market_data", wait)
    async with bus:
        await bus.publish(first)
        for number in range(40):
            await bus.publish_many(ticks(50, 50 * number + 2))
            await asyncio.sleep(0)
        assert await bus.publish(first)
        assert bus.metrics.duplicates == 1
        released.set()
        await bus.join()
