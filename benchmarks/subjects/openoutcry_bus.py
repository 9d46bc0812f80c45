"""openoutcry's EventBus as its users get it: every always-on feature on, the settings at their defaults."""

import asyncio
from collections.abc import Callable, Sequence
from time import perf_counter_ns
from typing import Any

from openoutcry import Event, EventBus
from openoutcry.trading import KillSwitchEvent, MarketDataEvent, OrderEvent, SignalEvent
from subjects.base import KILL_SWITCH, MARKET_DATA, ORDER, SIGNAL, YIELD_WHEN_LATE_COUNT, Broken, Route


class MinimalEvent(Event, frozen=True, kw_only=True, gc=False):
    """What a user's own small event looks like."""

    event_type: str = MARKET_DATA
    value: float = 0.0


def market_data() -> Event:
    return MarketDataEvent(symbol="AAPL", price=100.5, volume=1.0)


def signal(agent: str = "momentum") -> SignalEvent:
    return SignalEvent(
        source_agent=agent,
        strategy_name=agent,
        symbol="AAPL",
        direction="long",
        strength=0.5,
        confidence=0.5,
    )


def order() -> Event:
    return OrderEvent(order_id="1", symbol="AAPL", side="buy", quantity=1.0)


def kill_switch() -> Event:
    return KillSwitchEvent(reason="drill", triggered_by="benchmark")


def minimal() -> Event:
    return MinimalEvent(value=100.5)


_MAKERS: dict[str, Callable[[], Event]] = {
    MARKET_DATA: market_data,
    SIGNAL: signal,
    ORDER: order,
    KILL_SWITCH: kill_switch,
}


class Openoutcry:
    """`publish` is how events get in: publish, nowait or many; `event` is market_data or minimal."""

    carries = "a validated MarketDataEvent, or a one-field Event subclass where the row says minimal"
    topic_field = "event_type"
    burst_limit = 1_000

    def __init__(
        self, publish: str = "publish", event: str = "market_data", settings: dict[str, Any] | None = None
    ) -> None:
        self._settings = settings or {}
        self._is_minimal = event == "minimal"
        self._is_many = publish == "many"
        self.submit = {"publish": self._publish, "nowait": self._publish_nowait, "many": self._publish_many}[
            publish
        ]

    def make_events(self, topics: Sequence[str], events_count: int) -> list[Any]:
        if self._is_minimal:
            return [minimal() for _ in range(events_count)]
        makers = [_MAKERS[topic] for topic in topics]
        return [makers[i % len(makers)]() for i in range(events_count)]

    async def open(self, routes: Sequence[Route]) -> None:
        self.bus = EventBus(**self._settings)
        for topics, handler in routes:
            self.bus.subscribe(list(topics), handler)
        await self.bus.start()

    def prepare(self, events: list[Any]) -> Any:
        return events

    async def _publish(self, events: Sequence[Any]) -> None:
        publish = self.bus.publish
        for event in events:
            await publish(event)

    async def _publish_nowait(self, events: Sequence[Any]) -> None:
        publish = self.bus.publish_nowait
        for event in events:
            publish(event)

    async def _publish_many(self, events: Sequence[Any]) -> None:
        await self.bus.publish_many(events)

    async def burst(self, prepared: Any) -> None:
        await self.submit(prepared)
        await self.bus.join()

    async def burst_made(self, make: Callable[[], Any], events_count: int) -> None:
        if self._is_many:
            await self.bus.publish_many([make() for _ in range(events_count)])
        else:
            publish = self.bus.publish
            for _ in range(events_count):
                await publish(make())
        await self.bus.join()

    async def pace(self, events: Sequence[Any], due_ns: Sequence[int]) -> None:
        """Publish each event at its time, on the loop, giving the loop back while there is time to spare."""
        publish = self.bus.publish
        for i, (event, due) in enumerate(zip(events, due_ns, strict=True)):
            if perf_counter_ns() >= due and i % YIELD_WHEN_LATE_COUNT == 0:
                await asyncio.sleep(0)
            while perf_counter_ns() < due:  # noqa: ASYNC110 - a timer is too coarse for a schedule of 10 us
                await asyncio.sleep(0)
            if not await publish(event):
                raise Broken(f"event {i} was refused")

    async def drain(self) -> None:
        await self.bus.join()

    async def close(self) -> None:
        await self.bus.stop()
