"""aiopubsub: a hub, one `asyncio.Queue` and one consuming task per listener."""

import asyncio
from collections.abc import Sequence
from typing import Any

from aiopubsub import Hub, Key, Publisher, Subscriber

from subjects.base import Handler, Peer, Route

_PREFIX = "bench"


def _two_arguments(handler: Handler) -> Handler:
    async def listener(_key: Key, message: Any) -> None:
        await handler(message)

    return listener


class Aiopubsub(Peer):
    async def open(self, routes: Sequence[Route]) -> None:
        self._hub = Hub()
        self._publisher = Publisher(self._hub, prefix=Key(_PREFIX))
        self._keys = {topic: Key(topic) for topics, _ in routes for topic in topics}
        self._subscribers = []
        for i, (topics, handler) in enumerate(routes):
            subscriber = Subscriber(self._hub, f"subscriber{i}")
            subscriber.add_async_listener({Key(_PREFIX, topic) for topic in topics}, _two_arguments(handler))
            self._subscribers.append(subscriber)
        await asyncio.sleep(0)

    def send(self, event: Any) -> None:
        self._publisher.publish(self._keys[event.topic], event)

    async def drain(self) -> None:
        full_keys = [Key(_PREFIX, topic) for topic in self._keys]
        while any(any(self._hub.get_subscriber_queue_sizes(key)) for key in full_keys):  # noqa: ASYNC110
            await asyncio.sleep(0)
        for _ in range(3):  # the last event has left its queue: let its handler end
            await asyncio.sleep(0)

    async def close(self) -> None:
        for subscriber in self._subscribers:
            await subscriber.remove_all_listeners()
