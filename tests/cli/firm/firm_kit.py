"""A firm on a real server, with desks that only claim, export and speak, in a thread beside the command."""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Self

from click.testing import CliRunner, Result

from openoutcry.cli import main
from openoutcry.config import Link
from openoutcry.links.nats.transport import NatsTransport
from openoutcry.links.wire import ActiveHalt, Beat, Imported, write_message
from openoutcry.ports import LOGS, Entry, Group, LogName, Seat


def call(*words: object) -> Result:
    result = CliRunner().invoke(main, ["firm", *map(str, words)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


class ToyDesk:
    """A desk: a seat, and beats that say what it is told to say."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.transport = NatsTransport(link)
        self.seat: Seat | None = None
        self.says: dict[str, Any] = {"holder": f"p-{link.desk}", "version": "1.0", "word": "up"}
        self.heads: dict[LogName, int] = {}
        self.number = 0

    async def open(self) -> None:
        await self.transport.open()
        seat = Seat(
            desk=self.link.desk, holder=f"p-{self.link.desk}", host="h1", journal=f"j-{self.link.desk}"
        )
        self.seat = await self.transport.claim(seat, None)

    async def export(self, log: LogName, *names: str) -> None:
        """Append one group with these events behind what is there."""
        assert self.seat is not None
        after = self.heads.get(log, 0)
        lane = "normal" if log == "normal" else "high"
        entries = tuple(
            Entry(name, b'{"event_id":"%s","event_type":"order"}' % name.encode(), lane) for name in names
        )
        upto = after + len(names)
        group = Group(
            desk=self.link.desk,
            journal=f"j-{self.link.desk}",
            log=log,
            after=after,
            upto=upto,
            positions=tuple(range(after + 1, upto + 1)),
            entries=entries,
        )
        await self.transport.append(group, self.seat.tokens[log])
        self.heads[log] = upto

    async def beat(self) -> None:
        self.number += 1
        plain = {"number": self.number, "heads": dict(self.heads), "wall_ns": time.time_ns(), **self.says}
        with suppress(Exception):  # at the end
            await self.transport.broadcast("beat", write_message(Beat(**plain)))


class ToyFirm:
    """Some desks on a loop of their own, in a thread."""

    def __init__(self, *links: Link) -> None:
        self.desks = {link.desk: ToyDesk(link) for link in links}
        self.quiet: set[str] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._beating: asyncio.Task[None] | None = None

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    def __enter__(self) -> Self:
        self._thread.start()
        for desk in self.desks.values():
            self.do(desk.open())
        self.do(self._begin())
        return self

    async def _begin(self) -> None:
        self._beating = asyncio.create_task(self._beat())

    async def _beat(self) -> None:
        while True:
            for name, desk in self.desks.items():
                if name not in self.quiet:
                    await desk.beat()
            await asyncio.sleep(0.05)

    def __exit__(self, *error: object) -> None:
        self.do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        if self._beating is not None:
            self._beating.cancel()
            await asyncio.wait([self._beating])
        for desk in self.desks.values():
            await desk.transport.close()

    def have_imported(self, importer: str, **positions: int) -> None:
        """Have a desk say that it has imported so much of both logs of the others."""
        self.desks[importer].says["imported"] = tuple(
            Imported(desk, log, f"j-{desk}", position) for desk, position in positions.items() for log in LOGS
        )
        self.desks[importer].says["imports"] = ("*",)

    def halt(self, *names: str, event_id: str = "k-1", scope: str = "firm") -> None:
        for name in names:
            self.desks[name].says["halts"] = (ActiveHalt(scope, event_id, "ann", "drill"),)


Say = Callable[..., Result]
