"""pyee: plain handlers are called by `emit`; a coroutine handler becomes a task for each event."""

from collections.abc import Sequence
from typing import Any

from pyee.asyncio import AsyncIOEventEmitter
from pyee.base import EventEmitter

from subjects.base import Peer, Route


class Pyee(Peer):
    def __init__(self, handlers: str = "plain") -> None:
        self._is_plain = handlers == "plain"

    async def open(self, routes: Sequence[Route]) -> None:
        self._emitter = EventEmitter() if self._is_plain else AsyncIOEventEmitter()
        for topics, handler in routes:
            for topic in topics:
                self._emitter.on(topic, handler)

    def send(self, event: Any) -> None:
        self._emitter.emit(event.topic, event)

    async def submit(self, prepared: Sequence[Any]) -> None:
        emit = self._emitter.emit
        for event in prepared:
            emit(event.topic, event)

    async def drain(self) -> None:
        if isinstance(self._emitter, AsyncIOEventEmitter):
            await self._emitter.wait_for_complete()
