"""Engines of every kind, as the conformance suite uses them.

To add one: write an `Engine`, and put what makes it into `ENGINES`.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AbstractContextManager, aclosing, asynccontextmanager, nullcontext
from typing import Any, Protocol, TypeVar

from link_kit import a_seat

from openoutcry.links import MemoryHub, MemoryTransport
from openoutcry.ports import Group, LogName, Place, Seat, Transport
from openoutcry.testing import run_virtual

T = TypeVar("T")


class Firm(Protocol):
    """The logs and seats of one firm on an engine: every test has its own."""

    def transport(self, desk: str) -> Transport:
        """A new end of the engine, not open yet; an empty name is somebody who only looks on."""
        ...

    async def put(self, log: LogName, desk: str, data: bytes, token: int) -> None:
        """Put bytes into a log as a desk's group, whatever they are."""
        ...

    async def delete(self, log: LogName) -> None:
        """Delete a log, as an operator might."""
        ...


class Engine(Protocol):
    """An engine that tests run against."""

    def firm(self, *, most_bytes: int = 0) -> Firm:
        """A firm that nobody has used; its logs take this many bytes, which are a mebibyte at least."""
        ...

    def run(self, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a test on a loop of its own, in the engine's time."""
        ...


class MemoryFirm:
    def __init__(self, most_bytes: int) -> None:
        self.hub = MemoryHub(most_bytes=most_bytes)

    def transport(self, desk: str) -> MemoryTransport:
        return MemoryTransport(self.hub, desk)

    async def put(self, log: LogName, desk: str, data: bytes, token: int) -> None:
        self.hub.append(log, desk, data, token)

    async def delete(self, log: LogName) -> None:
        self.hub.delete(log)


class MemoryEngine:
    def firm(self, *, most_bytes: int = 0) -> MemoryFirm:
        return MemoryFirm(most_bytes)

    def run(self, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
        run_virtual(main())


def nats(nodes_count: int) -> AbstractContextManager[Engine]:
    """Real servers. What they need is imported where they are wanted."""
    from nats_engine import nats_engine  # noqa: PLC0415

    return nats_engine(nodes_count)


ENGINES: dict[str, Callable[[], AbstractContextManager[Engine]]] = {
    "memory": lambda: nullcontext(MemoryEngine()),
    "nats": lambda: nats(1),
    "nats cluster": lambda: nats(3),
}
"""What makes each kind of engine, once per run of the tests, and ends it."""


@asynccontextmanager
async def opened(firm: Firm, *desks: str) -> AsyncIterator[list[Transport]]:
    """Transports of desks, open, and closed at the end."""
    transports = [firm.transport(desk) for desk in desks]
    try:
        for transport in transports:
            await transport.open()
        yield transports
    finally:
        for transport in transports:
            await transport.close()


async def seated(transport: Transport, desk: str, holder: str = "process-1") -> Seat:
    """The seat of a desk that nobody has held."""
    return await transport.claim(a_seat(desk, holder), None)


async def read(
    transport: Transport, log: LogName, count: int, after: Place | None = None, *, desk: str = "floor"
) -> list[Group]:
    """The next groups of a desk behind a place."""
    found: list[Group] = []
    if not count:
        return found
    async with aclosing(reading(transport, log, after, desk=desk)) as groups:
        async for group in groups:
            found.append(group)
            if len(found) == count:
                break
    return found


def reading(transport: Transport, log: LogName, after: Place | None = None, *, desk: str = "floor") -> Any:
    """A read, as something that can be closed."""
    return transport.read(log, desk, after if after is not None else Place())


async def made_of(transport: Transport, log: LogName) -> str:
    """A log's own identity."""
    return next(one.made for one in (await transport.facts()).logs if one.log == log)


async def eventually(holds: Callable[[], object]) -> None:
    """Wait until something holds; 60 s bound what never does."""
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110 (what it waits for is at the other end of a socket)
            await asyncio.sleep(0.01)


async def outcome(call: Awaitable[T]) -> T | Exception:
    """What a call returns or raises."""
    try:
        return await call
    except Exception as error:  # noqa: BLE001
        return error
