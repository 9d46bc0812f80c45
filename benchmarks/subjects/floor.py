"""The floors: what the interpreter alone charges for the same handler calls, with no bus at all."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from subjects.base import Handler, Peer, Route


class Floor(Peer):
    """Calls each handler in turn over the events it would get: `for e in events: await handler(e)`."""

    def __init__(self, handlers: str = "async") -> None:
        self._is_plain = handlers == "plain"
        self._routes: Sequence[Route] = ()

    async def open(self, routes: Sequence[Route]) -> None:
        self._routes = routes

    def prepare(self, events: list[Any]) -> list[tuple[Handler, list[Any]]]:
        """Sort the events per handler beforehand: routing is what a bus adds."""
        return [(handler, [e for e in events if e.topic in topics]) for topics, handler in self._routes]

    async def burst(self, prepared: list[tuple[Handler, list[Any]]]) -> None:
        if self._is_plain:
            for handler, events in prepared:
                for event in events:
                    handler(event)
        else:
            for handler, events in prepared:
                for event in events:
                    await handler(event)

    async def burst_made(self, make: Callable[[], Any], events_count: int) -> None:
        handlers = [handler for _, handler in self._routes]
        for _ in range(events_count):
            event = make()
            for handler in handlers:
                await handler(event)


class TaskFloor(Floor):
    """The floor for handlers that suspend: one bare task per handler, so that their waits overlap."""

    async def burst(self, prepared: list[tuple[Handler, list[Any]]]) -> None:
        await asyncio.gather(*(_run(handler, events) for handler, events in prepared))


async def _run(handler: Handler, events: list[Any]) -> None:
    for event in events:
        await handler(event)


class CallSoonFloor(Peer):
    """The floor for latency on a loop: one `call_soon` per handler call, which is one turn of the loop."""

    def __init__(self) -> None:
        self._handlers: list[Handler] = []

    async def open(self, routes: Sequence[Route]) -> None:
        self._loop = asyncio.get_running_loop()
        self._handlers = [handler for _, handler in routes]

    def send(self, event: Any) -> None:
        for handler in self._handlers:
            self._loop.call_soon(handler, event)

    async def drain(self) -> None:
        await asyncio.sleep(0)
        await asyncio.sleep(0)
