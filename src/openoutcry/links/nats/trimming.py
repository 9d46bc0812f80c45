"""Removes from a log what all desks have: where a desk's groups stand in it is remembered, or read there.

A desk appends its groups itself, so it knows where those of this life stand; to read their headers again,
five hundred a second perhaps, would hold its loop up. What stands before them is read once.
"""

from contextlib import aclosing
from typing import Final, NamedTuple

from openoutcry.links.nats.connection import Connection
from openoutcry.links.nats.jetstream import JetStream
from openoutcry.links.nats.reading import Reader
from openoutcry.links.nats.subjects import Subjects
from openoutcry.ports import Ended, Group, LogName

JOURNAL: Final = "Oo-Journal"
UPTO: Final = "Oo-Upto"
KNOWN_MOST: Final = 4_096
"""The places of so many groups are remembered: of more, every second one."""


class Known(NamedTuple):
    """A group, or neighbouring ones of one journal: the place of the last, and how far they reach at most."""

    place: int
    journal: str
    upto: int


class OwnPlaces:
    """Where the groups stand that this end has appended to a log.

    Attributes:
        first: The place of the first one.
        is_first_of_all: Whether nothing of this desk stands before it that is still to be removed.

    """

    def __init__(self) -> None:
        self._known: list[Known] = []
        self.first: int = 0
        self.is_first_of_all: bool = False

    def note(self, group: Group, place: int) -> None:
        """Note the place of a group, which is the newest."""
        if self._known and place <= self._known[-1].place:  # the log has lost its end, and gives places again
            self._known.clear()
            self.is_first_of_all = False
        if not self._known:
            self.first = place
        self._known.append(Known(place, group.journal, group.upto))
        if len(self._known) > KNOWN_MOST:
            self._thin()

    def _thin(self) -> None:
        kept: list[Known] = []
        pairs = iter(self._known)
        for one, other in zip(pairs, pairs, strict=False):
            if one.journal != other.journal:
                kept.append(one)
            kept.append(other._replace(upto=max(one.upto, other.upto)))
        self._known = kept + self._known[2 * (len(self._known) // 2) :]

    @property
    def newest(self) -> Known:
        """The newest group, which is never removed."""
        return self._known[-1]

    def before(self, upto: int) -> int:
        """Return before which place all of them end at a position or before it; 0 if the first does not."""
        newest, before = self.newest, 0
        for place, journal, ends in self._known:
            if journal == newest.journal:
                if ends > upto:
                    break
                before = place + 1
        return min(before, newest.place)

    def removed(self, before: int) -> None:
        """Note that what stands before a place is gone."""
        self._known = [one for one in self._known if one.place >= before]
        self.first = self._known[0].place


class Trimming:
    """Trims the logs of a firm."""

    def __init__(self, subjects: Subjects, connection: Connection, jetstream: JetStream) -> None:
        self._subjects = subjects
        self._connection = connection
        self._jetstream = jetstream
        self._own: dict[LogName, OwnPlaces] = {}

    def forget(self) -> None:
        """Forget what is known of the logs: they may be others than before."""
        self._own.clear()

    def appended(self, group: Group, place: int) -> None:
        """Note a group that this end has appended."""
        self._own.setdefault(group.log, OwnPlaces()).note(group, place)

    def knows(self, log: LogName) -> bool:
        """Return True if this end has appended to a log."""
        return log in self._own

    async def trim_own(self, log: LogName, desk: str, upto: int) -> int:
        """Do as `trim` for the desk that appends here, by what is known of its groups."""
        own, before = self._own[log], 0
        if not own.is_first_of_all:
            before, is_past = await self._read(log, desk, upto, own.newest.journal, own.first)
            if not is_past:
                return await self._purge(log, desk, before)
            own.is_first_of_all = True
        before = own.before(upto) or before
        count = await self._purge(log, desk, before)
        own.removed(before)
        return count

    async def trim(self, log: LogName, desk: str, upto: int, newest: Ended | None) -> int:
        """Remove a desk's groups that end at a position or before it, by what the log says of them.

        It stops at the first group that ends behind it, and leaves the desk's newest group. The groups of an
        earlier journal of that desk go with those of the one that it exports now.
        """
        if newest is None:
            return 0
        before, _ = await self._read(log, desk, upto, newest.journal, newest.place)
        return await self._purge(log, desk, min(before, newest.place))

    async def _read(self, log: LogName, desk: str, upto: int, journal: str, end: int) -> tuple[int, bool]:
        """Return before which place all of a desk's groups end at a position or before it.

        With it comes whether all of those before the place `end` do.
        """
        subject, before = self._subjects.groups(log, desk), 0
        reader = Reader(self._connection, self._jetstream, self._subjects.stream(log), subject)
        async with aclosing(reader.all(headers_only=True)) as messages:
            async for message in messages:
                if message.sequence >= end:
                    return before, True
                if message.headers.get(JOURNAL) == journal:
                    if int(message.headers.get(UPTO, 0)) > upto:
                        return before, False
                    before = message.sequence + 1
        return before, True

    async def _purge(self, log: LogName, desk: str, before: int) -> int:
        if not before:
            return 0
        stream, subject = self._subjects.stream(log), self._subjects.groups(log, desk)
        return await self._jetstream.purge(stream, subject, before)
