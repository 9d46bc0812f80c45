"""What every bus looks like to a measurement: the same shape for all of them.

A measurement opens a subject with routes (which topics go to which handler), pushes bursts through it, and closes
it. Each subject translates that into the calls that its own users would write, with nothing in between that the
timed loop could feel.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from itertools import count
from time import perf_counter_ns
from typing import Any, Protocol

import msgspec

Handler = Callable[..., Any]
Route = tuple[tuple[str, ...], Handler]

MARKET_DATA = "market_data"
SIGNAL = "signal"
ORDER = "order"
KILL_SWITCH = "kill_switch"

YIELD_WHEN_LATE_COUNT = 32


class Tick(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The small event that buses without an event class of their own carry: the fields of a tick, an id, a time."""

    event_id: str
    timestamp_ns: int
    topic: str
    symbol: str
    price: float
    volume: float


class Broken(Exception):
    """A subject lost, refused or repeated events: its figure would mean nothing."""


class Subject(Protocol):
    """One bus in one configuration.

    `burst_limit` is the most events it takes before it must be drained. `submit` hands events in and returns without
    waiting for handlers that run elsewhere; `burst` also drains.
    """

    carries: str
    topic_field: str
    burst_limit: int

    def make_events(self, topics: Sequence[str], events_count: int) -> list[Any]: ...
    async def open(self, routes: Sequence[Route]) -> None: ...
    def prepare(self, events: list[Any]) -> Any: ...
    async def submit(self, prepared: Any) -> None: ...
    async def burst(self, prepared: Any) -> None: ...
    async def burst_made(self, make: Callable[[], Any], events_count: int) -> None: ...
    async def pace(self, events: Sequence[Any], due_ns: Sequence[int]) -> None: ...
    async def drain(self) -> None: ...
    async def close(self) -> None: ...


class Peer:
    """The common part of the subjects that carry `Tick`: only `open`, `send` and `drain` differ."""

    carries = "a frozen msgspec struct of six fields"
    topic_field = "topic"
    burst_limit = 1_000

    def make_events(self, topics: Sequence[str], events_count: int) -> list[Any]:
        numbers = count()
        prefix = f"{perf_counter_ns():x}-"
        return [
            Tick(
                event_id=prefix + str(next(numbers)),
                timestamp_ns=0,
                topic=topics[i % len(topics)],
                symbol="AAPL",
                price=100.0 + i,
                volume=1.0,
            )
            for i in range(events_count)
        ]

    def prepare(self, events: list[Any]) -> Any:
        return events

    async def open(self, routes: Sequence[Route]) -> None:
        raise NotImplementedError

    def send(self, event: Any) -> None:
        raise NotImplementedError

    async def submit(self, prepared: Iterable[Any]) -> None:
        send = self.send
        for event in prepared:
            send(event)

    async def burst(self, prepared: Any) -> None:
        await self.submit(prepared)
        await self.drain()

    async def burst_made(self, make: Callable[[], Any], events_count: int) -> None:
        await self.burst(make() for _ in range(events_count))

    async def pace(self, events: Sequence[Any], due_ns: Sequence[int]) -> None:
        """Send each event at its time, on the loop, giving the loop back while there is time to spare."""
        send = self.send
        for i, (event, due) in enumerate(zip(events, due_ns, strict=True)):
            if perf_counter_ns() >= due and i % YIELD_WHEN_LATE_COUNT == 0:
                await asyncio.sleep(0)
            while perf_counter_ns() < due:  # noqa: ASYNC110 - a timer is too coarse for a schedule of 10 us
                await asyncio.sleep(0)
            send(event)

    async def drain(self) -> None:
        return

    async def close(self) -> None:
        return
