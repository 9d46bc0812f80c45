"""NATS as an engine of the conformance suite: one node, or a cluster of three."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from nats_kit import a_firm, a_link, opened

from openoutcry.links.nats.jetstream import expecting
from openoutcry.links.nats.servers import Servers
from openoutcry.links.nats.subjects import Subjects
from openoutcry.links.nats.transport import NatsTransport
from openoutcry.ports import LogName


class NatsFirm:
    def __init__(self, servers: Servers, most_bytes: int) -> None:
        self._servers = servers
        self._firm = a_firm()
        self._most_bytes = most_bytes or 64 * 2**20

    def transport(self, desk: str) -> NatsTransport:
        link = a_link(self._servers, self._firm, desk or "nobody", max_bytes=self._most_bytes)
        return NatsTransport(link, onlooker=not desk)

    async def put(self, log: LogName, desk: str, data: bytes, token: int) -> None:
        subjects = Subjects(self._firm)
        headers = expecting(token, subjects.claims(log, desk))
        async with opened(a_link(self._servers, self._firm, desk), onlooker=True) as (transport,):
            await transport._jetstream.store(subjects.stream(log), subjects.groups(log, desk), data, headers)

    async def delete(self, log: LogName) -> None:
        async with opened(a_link(self._servers, self._firm), onlooker=True) as (transport,):
            await transport._jetstream.call(f"STREAM.DELETE.{Subjects(self._firm).stream(log)}")


class NatsEngine:
    def __init__(self, servers: Servers) -> None:
        self._servers = servers

    def firm(self, *, most_bytes: int = 0) -> NatsFirm:
        return NatsFirm(self._servers, most_bytes)

    def run(self, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
        asyncio.run(main())


@contextmanager
def nats_engine(nodes_count: int) -> Iterator[NatsEngine]:
    """Servers that run for as long as the block."""
    with TemporaryDirectory() as folder, Servers(Path(folder), nodes_count) as servers:
        yield NatsEngine(servers)
