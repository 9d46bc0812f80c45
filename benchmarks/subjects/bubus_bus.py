"""bubus: pydantic events, one queue, a task per handler call, a result kept for each."""

import os

os.environ.setdefault("BUBUS_LOGGING_LEVEL", "CRITICAL")  # read once, at import

from collections.abc import Callable, Sequence
from typing import Any

from bubus import BaseEvent, EventBus

from subjects.base import MARKET_DATA, Peer, Route


class MarketDataTick(BaseEvent[None]):
    symbol: str
    price: float
    volume: float


class Bubus(Peer):
    carries = (
        "its own pydantic event with a tick's fields; 50 at a time, since it refuses the 101st pending one"
    )
    burst_limit = 50

    async def open(self, routes: Sequence[Route]) -> None:
        self._bus = EventBus(name="bench")
        for i, (topics, handler) in enumerate(routes):
            assert topics == (MARKET_DATA,)
            handler.__name__ = f"handler_{i}"  # it warns about handlers of the same name
            self._bus.on(MarketDataTick, handler)

    def make_events(self, topics: Sequence[str], events_count: int) -> list[Any]:
        return [MarketDataTick(symbol="AAPL", price=100.0 + i, volume=1.0) for i in range(events_count)]

    def send(self, event: Any) -> None:
        self._bus.dispatch(event)

    async def burst_made(self, make: Callable[[], Any], events_count: int) -> None:
        raise NotImplementedError

    async def drain(self) -> None:
        await self._bus.wait_until_idle()

    async def close(self) -> None:
        await self._bus.stop(timeout=1, clear=True)
