"""Broadcasts: what is urgent goes over a connection of its own to every node, and is heard once."""

import itertools
from collections import deque
from typing import Final

from openoutcry.config import Link
from openoutcry.errors import Unreachable
from openoutcry.links.nats.connection import Connection, Message
from openoutcry.links.nats.subjects import Subjects, desk_of
from openoutcry.ports import Heard

_ID: Final = "Oo-Id"
_REMEMBERED: Final = 4_096


class Airing:
    """What a desk broadcasts, and what it hears of others.

    It is bulk that travels on the connection that the logs use as well.
    """

    def __init__(self, link: Link, subjects: Subjects, bulk: Connection, *, hears_own: bool) -> None:
        self._desk = link.desk
        self._subjects = subjects
        self._bulk = bulk
        self._hears_own = hears_own
        inbox = subjects.inbox(link.desk)
        self._urgent = [Connection(link, (url,), inbox) for url in link.servers]
        self._numbers = itertools.count(1)
        self._known: set[str] = set()
        self._order: deque[str] = deque()

    def begin(self) -> None:
        """Connect to every node, in the background."""
        for one in self._urgent:
            one.begin()

    async def close(self) -> None:
        """Disconnect from every node."""
        for one in self._urgent:
            await one.close()

    @property
    def is_connected(self) -> bool:
        """Whether any node answers."""
        return any(one.is_connected for one in self._urgent)

    async def broadcast(self, topic: str, data: bytes, *, urgent: bool) -> None:
        """Send a message to who listens now. Raises `Unreachable` if it went nowhere."""
        subject = self._subjects.topic(topic, self._desk)
        if not urgent:
            await self._bulk.publish(subject, data)
            return
        headers = {_ID: f"{self._bulk.inbox}.{next(self._numbers)}"}
        sent_count = 0
        for one in self._urgent:
            try:
                await one.publish(subject, data, headers)
            except Unreachable:
                continue
            sent_count += 1
        if not sent_count:
            raise Unreachable(f"no node answers at {self._bulk.where}")

    async def listen(self, topic: str, heard: Heard, *, urgent: bool) -> None:
        """Have a function called with what other desks broadcast, once each."""
        start = self._subjects.topic(topic, "")

        def hear(message: Message) -> None:
            desk = desk_of(message.subject)
            is_new = not urgent or self._is_new(message)
            if message.subject != start + desk or message.reply or not is_new:
                return  # what a server was made to send there, or a copy that came over another node
            if desk != self._desk or self._hears_own:
                heard(desk, message.data)

        for connection in self._urgent if urgent else (self._bulk,):
            await connection.listen(self._subjects.topic(topic), hear)

    def _is_new(self, message: Message) -> bool:
        number = (message.headers or {}).get(_ID, "")
        if not number:
            return True
        if number in self._known:
            return False
        self._known.add(number)
        self._order.append(number)
        if len(self._order) > _REMEMBERED:
            self._known.discard(self._order.popleft())
        return True
