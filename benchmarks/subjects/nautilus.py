"""nautilus_trader's MessageBus: compiled, synchronous, publish calls the handlers before it returns."""

from collections.abc import Callable, Sequence
from time import perf_counter_ns
from typing import Any

from nautilus_trader.common.component import LiveClock, MessageBus
from nautilus_trader.model.identifiers import TraderId

from subjects.base import MARKET_DATA, Peer, Route


class Nautilus(Peer):
    async def open(self, routes: Sequence[Route]) -> None:
        self._bus = MessageBus(trader_id=TraderId("BENCH-001"), clock=LiveClock())
        for topics, handler in routes:
            for topic in topics:
                self._bus.subscribe(topic, handler)

    def send(self, event: Any) -> None:
        self._bus.publish(event.topic, event)

    async def submit(self, prepared: Sequence[Any]) -> None:
        publish = self._bus.publish
        for event in prepared:
            publish(event.topic, event)

    async def burst_made(self, make: Callable[[], Any], events_count: int) -> None:
        publish = self._bus.publish
        for _ in range(events_count):
            publish(MARKET_DATA, make())

    async def pace(self, events: Sequence[Any], due_ns: Sequence[int]) -> None:
        """No loop is involved: the publisher spins, which is the best case for a direct call."""
        publish = self._bus.publish
        for event, due in zip(events, due_ns, strict=True):
            while perf_counter_ns() < due:
                pass
            publish(event.topic, event)
