"""Broadcasts: what is urgent goes over a connection of its own to every node, and is heard once."""

import asyncio
import itertools
from collections import deque
from typing import Final

from openoutcry.config import Link
from openoutcry.errors import Unreachable
from openoutcry.links.nats.connection import Connection, Message
from openoutcry.links.nats.subjects import Subjects, desk_of
from openoutcry.ports import Heard

_ID: Final = "Oo-Id"
_NODES_S: Final = 1.0
_PROBE_S: Final = 0.02
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

    def begin(self) -> None:
        """Connect to every node, in the background."""
        for one in self._urgent:
            one.begin()

    async def open(self) -> None:
        """Wait until every node answers, or `_NODES_S` are over."""
        opening = [asyncio.ensure_future(one.open(_NODES_S)) for one in self._urgent]
        try:
            await asyncio.gather(*opening, return_exceptions=True)
        finally:
            for one in opening:
                one.cancel()

    async def close(self) -> None:
        """Disconnect from every node."""
        for one in self._urgent:
            await one.close()

    @property
    def is_connected(self) -> bool:
        """Whether any node answers."""
        return any(one.is_connected for one in self._urgent)

    async def broadcast(self, topic: str, data: bytes, *, urgent: bool) -> None:
        """Send a message to who listens now. Raises `Unreachable` if it went nowhere.

        What is urgent is with the socket of each node when this waits for the first time.
        """
        subject = self._subjects.topic(topic, self._desk)
        headers = {_ID: f"{self._bulk.inbox}.{next(self._numbers)}"}
        if not urgent:
            await self._bulk.publish(subject, data, headers)
            return
        sent_count = 0
        for one in self._urgent:
            try:
                await one.publish(subject, data, headers, at_once=True)
            except Unreachable:
                continue
            sent_count += 1
        if not sent_count:
            raise Unreachable(f"no node answers at {self._bulk.where}")

    async def listen(self, topic: str, heard: Heard, *, urgent: bool) -> None:
        """Have a function called with what other desks broadcast, once each."""
        start = self._subjects.topic(topic, "")
        copies = _Copies()

        def hear(message: Message) -> None:
            desk = desk_of(message.subject)
            if message.subject != start + desk or message.reply:
                return  # what a server was made to send there
            if (desk != self._desk or self._hears_own) and copies.is_first(message):
                heard(desk, message.data)

        for connection in self._urgent if urgent else (self._bulk,):
            await connection.listen(self._subjects.topic(topic), hear)
            await self._until_known(connection)

    async def _until_known(self, listening: Connection) -> None:
        """Wait until every node knows what a connection listens to: nodes tell one another in order.

        A node that cannot be asked within `_NODES_S` is not waited for.
        """
        others = [one for one in self._urgent if one.is_connected and one is not listening]
        missing = {str(number) for number in range(len(others))}
        is_known = asyncio.Event()

        def hear(message: Message) -> None:
            missing.discard(message.data.decode())
            if not missing:
                is_known.set()

        subject = f"{self._subjects.inbox(self._desk)}.known.{next(self._numbers)}"
        heard = await listening.listen(subject, hear)
        try:
            async with asyncio.timeout(_NODES_S):
                while missing:
                    for number, one in enumerate(others):
                        if str(number) in missing:
                            await one.publish(subject, b"%d" % number)
                    try:
                        async with asyncio.timeout(_PROBE_S):
                            await is_known.wait()
                    except TimeoutError:
                        continue
        except (TimeoutError, Unreachable):
            return
        finally:
            await listening.forget(heard)


class _Copies:
    """Knows a message again that came over another node; the last `_REMEMBERED` are known."""

    def __init__(self) -> None:
        self._known: set[str] = set()
        self._order: deque[str] = deque()

    def is_first(self, message: Message) -> bool:
        """Return True for a message that was not there before."""
        number = (message.headers or {}).get(_ID, "")
        if number in self._known:
            return False
        if number:
            self._known.add(number)
            self._order.append(number)
            if len(self._order) > _REMEMBERED:
                self._known.discard(self._order.popleft())
        return True
