"""VeighNa's EventEngine: one queue, one thread that calls the handlers."""

from collections.abc import Callable, Sequence
from threading import Event as ThreadEvent
from time import perf_counter_ns, sleep
from typing import Any

from vnpy.event.engine import Event, EventEngine

from subjects.base import Peer, Route

_DRAINED = "drained"


class Vnpy(Peer):
    carries = "its own Event around a frozen msgspec struct"
    topic_field = "type"

    async def open(self, routes: Sequence[Route]) -> None:
        self._engine = EventEngine(interval=1)
        self._drained = ThreadEvent()
        for topics, handler in routes:
            for topic in topics:
                self._engine.register(topic, handler)
        self._engine.register(_DRAINED, lambda _: self._drained.set())
        self._engine.start()

    def make_events(self, topics: Sequence[str], events_count: int) -> list[Any]:
        return [Event(tick.topic, tick) for tick in super().make_events(topics, events_count)]

    def send(self, event: Any) -> None:
        self._engine.put(event)

    async def submit(self, prepared: Sequence[Any]) -> None:
        put = self._engine.put
        for event in prepared:
            put(event)

    async def burst_made(self, make: Callable[[], Any], events_count: int) -> None:
        await self.burst([Event("market_data", make()) for _ in range(events_count)])

    async def pace(self, events: Sequence[Any], due_ns: Sequence[int]) -> None:
        """The publisher has a thread of its own and gives the interpreter away while it waits."""
        for event, due in zip(events, due_ns, strict=True):
            while perf_counter_ns() < due:
                sleep(0)  # noqa: ASYNC251 - this publisher is a thread beside the engine's, no loop is used
            self._engine.put(event)

    async def drain(self) -> None:
        """The queue is first in, first out: when the marker is handled, so is everything before it."""
        self._drained.clear()
        self._engine.put(Event(_DRAINED))
        self._drained.wait()

    async def close(self) -> None:
        self._engine.stop()
