"""Looking at a firm from outside: what its servers know, and what its desks say in their beats."""

import asyncio
import importlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, TypeVar

from openoutcry.cli.firm.view import DeskView, FirmView, Said
from openoutcry.cli.mistakes import Failed
from openoutcry.config import Link
from openoutcry.errors import Garbled, LogGone, Unreachable
from openoutcry.links.wire import Beat, read_message
from openoutcry.ports import LOGS, Ended, LogName, Transport

LISTEN_S: Final = 1.2
"""So long a command listens for beats, of which there are four a second."""
OPEN_S: Final = 10.0
"""So long it waits for the servers: they may be electing a leader."""
NO_SERVER: Final = 3
"""The exit code where no server answers."""
T = TypeVar("T")


class NoServer(Failed):
    """No server answers: one line, and exit code 3."""

    exit_code = NO_SERVER


def no_server(link: Link, problem: Exception) -> str:
    """Say that no server answers, and why, as far as that is known."""
    why = str(problem) if isinstance(problem, Unreachable) else ""
    return why or f"no server answers at {', '.join(link.servers)} in time"


def transport_of(link: Link) -> Transport:
    """Return a transport that looks on. Raises `ConfigError` where what it needs is not installed."""
    nats: Any = importlib.import_module("openoutcry.links.nats.transport")
    made: Transport = nats.NatsTransport(link, onlooker=True)
    return made


class Ear:
    """Hears the beats of all desks."""

    def __init__(self) -> None:
        self.said: dict[str, Said] = {}

    def hear(self, desk: str, data: bytes) -> None:
        """Keep the newest beat of a desk, and the newest classes it named."""
        with suppress(Garbled):
            beat = read_message(Beat, data)
            before = self.said.get(desk)
            holders = {beat.holder} | (before.holders if before is not None else set())
            classes = beat.classes if beat.classes is not None or before is None else before.classes
            ahead_ns = beat.wall_ns - time.time_ns() if beat.wall_ns else 0
            self.said[desk] = Said(beat, time.monotonic(), ahead_ns, classes, holders)


@asynccontextmanager
async def onlooking(link: Link) -> AsyncIterator[tuple[Transport, Ear]]:
    """Open a transport that looks on, and hear what desks say from then on.

    Raises `LinkError` with the remedy for servers that cannot be used, `Unreachable` for those that do not
    answer.
    """
    transport, ear = transport_of(link), Ear()
    try:
        async with asyncio.timeout(OPEN_S):
            await transport.open()
        await transport.listen("beat", ear.hear)
        yield transport, ear
    finally:
        with suppress(Exception):  # whatever is left of the connection: it is over
            async with asyncio.timeout(1):
                await transport.close()


async def view_of(link: Link, transport: Transport, ear: Ear, listen_s: float) -> FirmView:
    """Ask the servers, listen for a while, and return what is known of the firm.

    What was exported before it listened, and is not imported afterwards, is behind: in this order, nobody is
    for a moment just because events flow.
    """
    facts = await transport.facts()
    seats = {}
    with suppress(LogGone):  # no desk has started yet
        seats = {seat.desk: seat for seat in await transport.seats()}
    there: list[LogName] = [log for log in LOGS if log in {one.log for one in facts.logs}]
    ends: dict[str, dict[LogName, Ended | None]] = {
        name: {log: await transport.last(log, name) for log in there} for name in seats
    }
    await asyncio.sleep(listen_s)
    for name in ear.said.keys() - seats.keys():
        ends[name] = {log: await transport.last(log, name) for log in there}
    now_s = time.monotonic()
    desks = []
    for name in sorted(ends):
        said = ear.said.get(name)
        heard_s = None if said is None else max(0.0, now_s - said.at_s)
        desks.append(DeskView(name=name, seat=seats.get(name), said=said, heard_s=heard_s, ends=ends[name]))
    return FirmView(firm=link.firm, facts=facts, desks=desks, listened_s=listen_s)


def look(link: Link, listen_s: float = LISTEN_S) -> FirmView:
    """Return what is known of a firm, from a command."""

    async def looking() -> FirmView:
        async with onlooking(link) as (transport, ear):
            return await view_of(link, transport, ear, listen_s)

    return asyncio.run(looking())


def act(link: Link, do: Callable[[Transport, Ear], Awaitable[T]]) -> T:
    """Do something with the servers, from a command. Ends with 3 if none answers."""

    async def acting() -> T:
        async with onlooking(link) as (transport, ear):
            return await do(transport, ear)

    try:
        return asyncio.run(acting())
    except (Unreachable, TimeoutError) as problem:
        raise NoServer(no_server(link, problem)) from problem
