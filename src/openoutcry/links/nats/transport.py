"""The transport between desks over NATS: JetStream keeps logs and seats, core NATS does the rest."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

from msgspec.structs import replace

from openoutcry.config import Link
from openoutcry.errors import Garbled
from openoutcry.links.nats.airing import Airing
from openoutcry.links.nats.connection import Connection
from openoutcry.links.nats.jetstream import JetStream, WrongLast, expecting
from openoutcry.links.nats.reading import Reader
from openoutcry.links.nats.seating import Seating
from openoutcry.links.nats.streams import Streams
from openoutcry.links.nats.subjects import Subjects
from openoutcry.links.nats.trimming import JOURNAL, UPTO, Trimming
from openoutcry.links.wire import ended, pack, unpack
from openoutcry.ports import Ended, Facts, Group, Heard, LogName, Place, Seat, Unread


class NatsTransport:
    """A desk's end of the NATS servers that a `Link` names. It belongs to the loop that opens it.

    Attributes:
        link: The settings.
        desk: The desk. Empty for somebody who only looks on.

    """

    def __init__(self, link: Link, *, onlooker: bool = False) -> None:
        """Make a transport that is not open.

        Args:
            link: The settings.
            onlooker: Whether it only looks on: it makes no logs, and hears every desk, its own as well.

        """
        self.link = link
        self.desk: str = "" if onlooker else link.desk
        self._is_onlooker = onlooker
        self._subjects = Subjects(link.firm)
        self._bulk = Connection(link, link.servers, self._subjects.inbox(link.desk))
        self._airing = Airing(link, self._subjects, self._bulk, hears_own=onlooker)
        self._jetstream = JetStream(self._bulk)
        self._streams = Streams(link, self._subjects, self._bulk, self._jetstream)
        self._seating = Seating(self._subjects, self._jetstream)
        self._trimming = Trimming(self._subjects, self._bulk, self._jetstream)
        self._turns: dict[LogName, asyncio.Lock] = {}

    async def open(self) -> Facts:
        """Connect; make the logs where there are none, also once more after one was deleted.

        Raises `LinkError` with the remedy for what is not right, and `Unreachable` if no server answers: the
        connection is tried again and again from then on, until `close`.
        """
        if not self._bulk.is_connected:
            self._turns = {}  # what is under way has no answer, on another loop perhaps
        self._trimming.forget()
        self._airing.begin()
        await self._bulk.open()
        await self._airing.open()
        await (self._streams.check_server() if self._is_onlooker else self._streams.make())
        return await self._streams.facts(anew=True)

    @property
    def is_connected(self) -> bool:
        """Whether a node answers, as far as this side knows."""
        return self._bulk.is_connected

    async def facts(self) -> Facts:
        """Ask what the servers can promise, and how large the logs are."""
        return await self._streams.facts()

    async def append(self, group: Group, token: int) -> int:
        """Append a group behind all others, and return its place; when it returns, the quorum has it."""
        desk = self.link.desk
        headers = expecting(token, self._subjects.claims(group.log, desk))
        headers |= {JOURNAL: group.journal, UPTO: str(group.upto)}
        if token < 1:  # to JetStream that is a desk that nobody has claimed
            raise await self._seating.why_refused(group.log, desk, token)
        stream, subject = self._subjects.stream(group.log), self._subjects.groups(group.log, desk)
        data = group.packed or pack(group)
        try:
            async with self._turns.setdefault(group.log, asyncio.Lock()):  # a cluster refuses two at once
                place = await self._jetstream.store(stream, subject, data, headers)
        except WrongLast:
            raise await self._seating.why_refused(group.log, desk, token) from None
        self._trimming.appended(group, place)
        return place

    async def last(self, log: LogName, desk: str) -> Ended | None:
        """Return where the exports of a desk end, asked of the leader."""
        stored = await self._jetstream.last(self._subjects.stream(log), self._subjects.groups(log, desk))
        if stored is None:
            return None
        try:
            return ended(stored.data, stored.sequence)
        except Garbled:
            return await self._last_readable(log, desk)

    async def read(
        self, log: LogName, desk: str, after: Place, unread: Unread | None = None
    ) -> AsyncIterator[Group]:
        """Return the groups of a desk behind a place, in order, and then those that come."""
        subject = self._subjects.groups(log, desk)
        reader = Reader(self._bulk, self._jetstream, self._subjects.stream(log), subject)
        async with aclosing(reader.follow(after.made, after.number)) as messages:
            async for message in messages:
                try:
                    group = unpack(message.data)
                except Garbled as error:
                    if unread is not None:
                        unread(message.sequence, error)
                    continue
                if message.subject == subject:
                    yield replace(group, desk=desk, log=log, place=message.sequence)

    async def trim(self, log: LogName, desk: str, upto: int) -> int:
        """Remove a desk's groups that end at this position or before it, and return how many.

        It stops at the first group that ends behind it, and leaves the desk's newest group. The groups of an
        earlier journal of that desk go with those of the one that it exports now.
        """
        if desk == self.link.desk and self._trimming.knows(log):
            return await self._trimming.trim_own(log, desk, upto)
        return await self._trimming.trim(log, desk, upto, await self.last(log, desk))

    async def seats(self) -> list[Seat]:
        """Return every seat there is, by desk."""
        return await self._seating.all()

    async def claim(self, seat: Seat, seen: Seat | None) -> Seat:
        """Take a desk, if its record is still as it was seen."""
        return await self._seating.claim(seat, seen)

    async def renew(self, seat: Seat) -> Seat:
        """Renew one's seat."""
        return await self._seating.renew(seat)

    async def leave(self, seat: Seat) -> None:
        """Give one's seat back."""
        await self._seating.leave(seat)

    async def drop(self, desk: str) -> None:
        """Forget a desk that is gone for good. For administrators."""
        await self._seating.drop(desk)
        for log in ("high", "normal"):
            await self._jetstream.purge(self._subjects.stream(log), self._subjects.groups(log, desk))

    async def broadcast(self, topic: str, data: bytes, *, urgent: bool = False) -> None:
        """Send a message to who listens now."""
        await self._airing.broadcast(topic, data, urgent=urgent)

    async def listen(self, topic: str, heard: Heard, *, urgent: bool = False) -> None:
        """Have a function called with what other desks broadcast, once each."""
        await self._airing.listen(topic, heard, urgent=urgent)

    async def close(self) -> None:
        """Disconnect. Harmless when done twice."""
        await self._airing.close()
        await self._bulk.close()

    async def _last_readable(self, log: LogName, desk: str) -> Ended | None:
        """Return the end of the last group that can be read, looking at all of them."""
        found: Ended | None = None
        reader = Reader(
            self._bulk, self._jetstream, self._subjects.stream(log), self._subjects.groups(log, desk)
        )
        async with aclosing(reader.all(headers_only=False)) as messages:
            async for message in messages:
                try:
                    found = ended(message.data, message.sequence)
                except Garbled:
                    continue
        return found
