"""The transport of tests and simulations: in memory, in the loop's own time, with faults on request."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextvars import Context
from functools import partial
from typing import NoReturn, TypeVar

from msgspec.structs import replace

from openoutcry.errors import Fenced, GroupTooLarge, LinkError, Taken, Unreachable
from openoutcry.links.memory_hub import Ear, Fault, MemoryHub, read_group
from openoutcry.links.wire import pack
from openoutcry.ports import LOGS, Ended, Facts, Group, Heard, LogName, Place, Seat, Unread

T = TypeVar("T")


class MemoryTransport:
    """A desk's end of a `MemoryHub`. It belongs to the loop that opens it.

    Attributes:
        hub: The engine.
        desk: The desk. Empty for somebody who only looks on: that one hears every desk.

    """

    def __init__(self, hub: MemoryHub, desk: str) -> None:
        self.hub = hub
        self.desk: str = desk
        self._ears: list[Ear] = []
        self._is_open = False
        self._is_dead = False

    async def open(self) -> Facts:
        """Make the logs that are not there."""
        self._is_open = True
        return await self._call("open", self.hub.make)

    @property
    def is_connected(self) -> bool:
        """Whether the engine can be reached."""
        return self._is_open and not self._is_dead and self.hub.reaches(self.desk)

    async def facts(self) -> Facts:
        """Ask what the engine can promise, and how large the logs are."""
        return await self._call("facts", self.hub.facts)

    async def append(self, group: Group, token: int) -> int:
        """Append a group, and return its place."""
        data = group.packed or pack(group)
        if len(data) > self.hub.message_bytes:
            raise GroupTooLarge(
                f"a group has {len(data):,} bytes, and the engine takes {self.hub.message_bytes:,}: allow it "
                "larger messages"
            )
        return await self._call("append", partial(self.hub.append, group.log, self.desk, data, token))

    async def last(self, log: LogName, desk: str) -> Ended | None:
        """Return where the exports of a desk end."""
        return await self._call("last", lambda: self.hub.last(log, desk))

    async def read(
        self, log: LogName, desk: str, after: Place, unread: Unread | None = None
    ) -> AsyncIterator[Group]:
        """Return a desk's groups behind a place, and then those that come."""
        made, number = after.made, after.number
        if not made:
            facts = await self.facts()
            made = next((one.made for one in facts.logs if one.log == log), "")
        news = asyncio.Event()
        while True:
            news.clear()  # before the request, since something may come while the answer travels
            self.hub.when_new(log, desk, news.set)
            messages = await self._call("read", partial(self.hub.behind, log, desk, made, number))
            for message in messages:
                number = message.place
                group = read_group(log, message, unread)
                if group is not None:
                    yield group
            if not messages:
                await news.wait()

    async def trim(self, log: LogName, desk: str, upto: int) -> int:
        """Remove a desk's groups that end at this position or before it, and return how many."""
        return await self._call("trim", lambda: self.hub.trim(log, desk, upto))

    async def seats(self) -> list[Seat]:
        """Return every seat there is, by desk."""
        return await self._call("seats", self.hub.seats)

    async def claim(self, seat: Seat, seen: Seat | None) -> Seat:
        """Take a desk, if its record is as it was `seen`."""
        hub = self.hub
        now, before = await self._call("claim", lambda: (hub.seat(seat.desk), hub.tokens(seat.desk)))
        is_own = now is not None and now.holder == seat.holder
        if not is_own and (now.renewal if now else 0) != (seen.renewal if seen else 0):
            raise Taken(f"desk {seat.desk!r} is held by {now.holder if now else 'nobody'!r}")
        expected = now.renewal if now is not None else 0
        first = await self._call("claim record", partial(hub.record, replace(seat, tokens={}), expected))
        tokens: dict[LogName, int] = {}
        for log in LOGS:
            token = await self._call(f"claim {log}", partial(hub.claim, log, seat.desk, before[log]))
            if now is not None and token == now.tokens.get(log):  # the log has forgotten its end
                token = await self._call(f"claim {log}", partial(hub.claim, log, seat.desk, token))
            tokens[log] = token
        claimed = replace(seat, tokens=tokens)
        return await self._call("claim tokens", partial(hub.record, claimed, first.renewal))

    async def renew(self, seat: Seat) -> Seat:
        """Renew one's seat."""
        return await self._call("renew", lambda: self._record_own(seat, seat))

    async def leave(self, seat: Seat) -> None:
        """Give one's seat back."""
        try:
            await self._call("leave", lambda: self._record_own(seat, replace(seat, holder="")))
        except Fenced:
            return

    def _record_own(self, seat: Seat, new: Seat) -> Seat:
        """Write the record of a seat that is one's own, also if an earlier answer was lost."""
        now = self.hub.seat(seat.desk)
        if now is None:
            is_own = self.hub.tokens(seat.desk) == seat.tokens
        else:
            is_own = now.holder == seat.holder and now.tokens == seat.tokens
        if not is_own:
            raise Fenced(f"desk {seat.desk!r} is held by {now.holder if now else 'another process'!r} now")
        return self.hub.record(new, now.renewal if now is not None else 0)

    async def drop(self, desk: str) -> None:
        """Forget a desk that is gone for good."""
        await self._call("drop", lambda: self.hub.drop(desk))

    async def broadcast(self, topic: str, data: bytes, *, urgent: bool = False) -> None:
        """Send a message to who listens now. It goes on when the logs do not answer."""
        self._check_open()
        await asyncio.sleep(0)
        if self._is_dead:
            await self._never()
        if not self.hub.reaches(self.desk):
            raise Unreachable("the engine cannot be reached")
        loop = asyncio.get_running_loop()
        for ear in self.hub.ears:
            if ear.topic == topic and (not self.desk or ear.desk != self.desk) and self.hub.reaches(ear.desk):
                coming = ear.urgent if urgent else ear.bulk
                coming.append((self.desk, data))
                delay_s = 0 if urgent else self.hub.delay_s
                loop.call_later(delay_s, ear.hear, coming, context=ear.context)

    async def listen(self, topic: str, heard: Heard, *, urgent: bool = False) -> None:  # noqa: ARG002
        """Have a function called with what other desks broadcast."""
        self._check_open()
        ear = Ear(self.desk, topic, heard)
        self._ears.append(ear)
        self.hub.ears.append(ear)

    async def close(self) -> None:
        """Hear nothing more, and end the reads."""
        self._is_open = False
        self._forget_ears()
        self.hub.wake()

    def die(self) -> None:
        """Be gone, as after kill -9: what it has begun never comes back, and it hears nothing more."""
        self._is_dead = True
        self._forget_ears()

    def _forget_ears(self) -> None:
        for ear in self._ears:
            ear.bulk.clear()
            ear.urgent.clear()
            if ear in self.hub.ears:
                self.hub.ears.remove(ear)
        self._ears.clear()

    def _check_open(self) -> None:
        if not self._is_open:
            raise Unreachable(f"the transport of desk {self.desk!r} is not open")

    async def _call(self, step: str, do: Callable[[], T]) -> T:
        """Make a request: it is on its way, done, and its answer is on its way."""
        hub = self.hub
        await self._travel()
        fault = hub.becomes(self.desk, step)
        await self._give_up_if_dead()
        if fault is Fault.LATE:
            loop = asyncio.get_running_loop()
            late_s = hub.answer_s + hub.late_s
            loop.call_later(late_s, _do_late, hub, hub.power_cuts, do, context=Context())
        if fault is not None or not self._is_answered():
            await self._give_up()
        result = do()
        fault = hub.becomes(self.desk, f"{step} done")
        await self._travel()
        if fault is not None or not self._is_answered():
            await self._give_up()
        return result

    def _is_answered(self) -> bool:
        return self.hub.is_answering and self.hub.reaches(self.desk)

    async def _travel(self) -> None:
        self._check_open()
        await asyncio.sleep(self.hub.delay_s)
        await self._give_up_if_dead()

    async def _give_up_if_dead(self) -> None:
        if self._is_dead:
            await self._never()

    async def _give_up(self) -> NoReturn:
        await asyncio.sleep(self.hub.answer_s)
        await self._give_up_if_dead()
        raise Unreachable(f"the engine has not answered for {self.hub.answer_s:g} s")

    async def _never(self) -> NoReturn:
        await asyncio.get_running_loop().create_future()
        raise AssertionError("nobody ends this wait")


def _do_late(hub: MemoryHub, power_cuts: int, do: Callable[[], object]) -> None:
    """Do what nobody waits for any more, unless the power was cut while it was under way."""
    if hub.power_cuts != power_cuts:
        return
    try:
        do()
    except LinkError:
        return
