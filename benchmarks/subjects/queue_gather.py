"""The usual home-made bus: one `asyncio.Queue`, one task that gathers all handlers for each event."""

import asyncio
from collections.abc import Sequence
from typing import Any

from subjects.base import Handler, Peer, Route


class QueueGather(Peer):
    def __init__(self) -> None:
        self._queue: asyncio.Queue[Any] = asyncio.Queue()
        self._handlers: dict[str, list[Handler]] = {}
        self._task: asyncio.Task[None] | None = None

    async def open(self, routes: Sequence[Route]) -> None:
        for topics, handler in routes:
            for topic in topics:
                self._handlers.setdefault(topic, []).append(handler)
        self._task = asyncio.create_task(self._run())

    def send(self, event: Any) -> None:
        self._queue.put_nowait(event)

    async def _run(self) -> None:
        while True:
            event = await self._queue.get()
            await asyncio.gather(*(handler(event) for handler in self._handlers.get(event.topic, ())))
            self._queue.task_done()

    async def drain(self) -> None:
        await self._queue.join()

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
