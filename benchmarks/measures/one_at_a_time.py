"""Publish, handled, next: round trips per second, beside two bare tasks that wake each other."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from time import perf_counter
from typing import Any

from subjects.base import MARKET_DATA
from subjects.registry import build

from measures.timing import WINDOWS_COUNT, middle

_TRIPS_COUNT = 1_000


async def measure(subject: str, options: dict[str, Any], window_s: float) -> dict[str, Any]:
    """The publisher waits until the handler has set its future, then publishes the next event."""
    loop = asyncio.get_running_loop()
    handled: asyncio.Future[None] = loop.create_future()

    async def handler(event: Any) -> None:
        handled.set_result(None)

    bus = build(subject, options)
    await bus.open([((MARKET_DATA,), handler)])

    async def trips(events: Sequence[Any]) -> None:
        nonlocal handled
        publish = bus.bus.publish
        for event in events:
            handled = loop.create_future()
            await publish(event)
            await handled

    rate = await _rate(trips, lambda: bus.make_events((MARKET_DATA,), _TRIPS_COUNT), window_s)
    await bus.close()
    return {"round_trips_per_s": rate}


async def measure_joined(subject: str, options: dict[str, Any], window_s: float) -> dict[str, Any]:
    """The publisher waits by `join()`, which also says that the event is settled."""
    bus = build(subject, options)

    async def handler(event: Any) -> None:
        pass

    await bus.open([((MARKET_DATA,), handler)])

    async def trips(events: Sequence[Any]) -> None:
        publish = bus.bus.publish
        join = bus.bus.join
        for event in events:
            await publish(event)
            await join()

    rate = await _rate(trips, lambda: bus.make_events((MARKET_DATA,), _TRIPS_COUNT), window_s)
    await bus.close()
    return {"round_trips_per_s": rate}


async def measure_direct(subject: str, options: dict[str, Any], window_s: float) -> dict[str, Any]:
    """A bus whose publish is the call: nothing to wait for."""
    bus = build(subject, options)

    def handler(event: Any) -> None:
        pass

    await bus.open([((MARKET_DATA,), handler)])

    async def trips(events: Sequence[Any]) -> None:
        for event in events:
            bus.send(event)

    rate = await _rate(trips, lambda: bus.make_events((MARKET_DATA,), _TRIPS_COUNT), window_s)
    await bus.close()
    return {"round_trips_per_s": rate}


async def measure_bare(window_s: float) -> dict[str, Any]:
    """Two tasks, a future each way: what the loop alone charges for a round trip."""
    loop = asyncio.get_running_loop()
    ball: asyncio.Future[Any] = loop.create_future()
    back: asyncio.Future[None] = loop.create_future()

    async def other() -> None:
        nonlocal ball
        while True:
            await ball
            ball = loop.create_future()
            back.set_result(None)

    async def trips(events: Sequence[Any]) -> None:
        nonlocal back
        for event in events:
            back = loop.create_future()
            ball.set_result(event)
            await back

    task = asyncio.create_task(other())
    rate = await _rate(trips, lambda: list(range(_TRIPS_COUNT)), window_s)
    task.cancel()
    return {"round_trips_per_s": rate}


async def _rate(
    trips: Callable[[Sequence[Any]], Awaitable[None]], make: Callable[[], Sequence[Any]], window_s: float
) -> float:
    await trips(make())
    rates = []
    for _ in range(WINDOWS_COUNT):
        spent_s, done = 0.0, 0
        while spent_s < window_s:
            events = make()
            begun = perf_counter()
            await trips(events)
            spent_s += perf_counter() - begun
            done += len(events)
        rates.append(done / spent_s)
    return middle(rates)
