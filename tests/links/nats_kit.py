"""Real NATS servers, and transports to them, as tests make them."""

import asyncio
import itertools
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from openoutcry.config import Link
from openoutcry.errors import LinkError, Unreachable
from openoutcry.links.nats.servers import Servers
from openoutcry.links.nats.transport import NatsTransport

_NUMBERS = itertools.count(1)

LONG_S = 60.0
"""How long a test waits for what must come: no more than a bound for what never does."""


def a_firm() -> str:
    """A firm that no other test has: its streams are its own."""
    return f"firm-{os.getpid()}-{next(_NUMBERS)}"


def a_link(servers: Servers | str, firm: str, desk: str = "floor", **more: Any) -> Link:
    urls = (servers,) if isinstance(servers, str) else servers.urls
    settings: dict[str, Any] = {"replicas": len(urls), "max_bytes": 8 * 2**20} | more
    return Link(firm=firm, desk=desk, servers=urls, **settings)


@asynccontextmanager
async def opened(*links: Link, onlooker: bool = False) -> AsyncIterator[list[NatsTransport]]:
    """Transports, open, and closed at the end."""
    transports = [NatsTransport(link, onlooker=onlooker) for link in links]
    try:
        for transport in transports:
            await transport.open()
        yield transports
    finally:
        for transport in transports:
            await transport.close()


async def eventually(holds: Callable[[], object], what: str = "") -> None:
    """Wait until something holds."""
    async with asyncio.timeout(LONG_S):
        while not holds():  # noqa: ASYNC110 (what it waits for is on the other side of a socket)
            await asyncio.sleep(0.01)


async def until_answered(call: Callable[[], Any]) -> Any:
    """Make a call until the servers answer it: a leader may have to be elected."""
    async with asyncio.timeout(LONG_S):
        while True:
            try:
                return await call()
            except Unreachable:
                await asyncio.sleep(0.05)


async def refused(call: Any) -> LinkError:
    """The error that a call ends with."""
    try:
        await call
    except LinkError as problem:
        return problem
    raise AssertionError("it was not refused")
