"""A TCP proxy on loopback that harms what goes through it: cut, black hole, delay, a low rate. asyncio alone.

::

    proxy = Proxy("127.0.0.1", 4222)
    await proxy.start()
    link = Link(..., servers=(f"nats://127.0.0.1:{proxy.port}",))
    proxy.mode = Mode.HOLE
"""

import asyncio
from collections.abc import Iterable
from enum import StrEnum
from typing import Final

_CHUNK_BYTES: Final = 16 * 1024


class Mode(StrEnum):
    """What the proxy does to connections, old and new."""

    OPEN = "open"
    """Nothing."""
    CUT = "cut"
    """It closes those that there are, and refuses new ones."""
    HOLE = "hole"
    """It takes connections, and nothing comes through; what waited comes through when it is open again."""


class Proxy:
    """Forwards connections to one address.

    Attributes:
        delay_s: How long each piece takes in either direction.
        rate_bytes_s: How much goes through in a second, in each direction of each connection; 0: any amount.
        passed_bytes: How much went through so far.

    """

    def __init__(self, host: str, port: int) -> None:
        self.delay_s: float = 0.0
        self.rate_bytes_s: float = 0.0
        self.passed_bytes: int = 0
        self._target = (host, port)
        self._mode = Mode.OPEN
        self._is_open = asyncio.Event()
        self._is_open.set()
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._port = 0

    @property
    def port(self) -> int:
        """The port of 127.0.0.1 on which it listens."""
        return self._port

    @property
    def mode(self) -> Mode:
        """What it does to connections."""
        return self._mode

    @mode.setter
    def mode(self, mode: Mode) -> None:
        self._mode = mode
        if mode is Mode.OPEN:
            self._is_open.set()
        else:
            self._is_open.clear()
        if mode is Mode.CUT:
            self._cut(self._writers)

    async def start(self, port: int = 0) -> None:
        """Listen, on a port of its own unless one is given."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port)
        self._port = int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Close everything. Harmless when done twice."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
        self._cut(self._writers)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    @staticmethod
    def _cut(writers: Iterable[asyncio.StreamWriter]) -> None:
        for writer in list(writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward a connection until one side closes it."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._writers.add(writer)
        there: asyncio.StreamWriter | None = None
        try:
            await self._until_open()
            back, there = await asyncio.open_connection(*self._target)
            self._writers.add(there)
            ways = [
                asyncio.ensure_future(self._forward(reader, there)),
                asyncio.ensure_future(self._forward(back, writer)),
            ]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            ends = [end for end in (writer, there) if end is not None]
            self._writers.difference_update(ends)
            self._cut(ends)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward one direction, each piece `delay_s` after it came."""
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(64)

        async def take() -> None:
            while True:
                data = await reader.read(_CHUNK_BYTES)
                await queue.put((loop.time(), data))
                if not data:
                    return

        taking = asyncio.ensure_future(take())
        try:
            while True:
                came, data = await queue.get()
                if not data:
                    return
                await asyncio.sleep(max(0.0, came + self.delay_s - loop.time()))
                await self._until_open()
                if self.rate_bytes_s:
                    await asyncio.sleep(len(data) / self.rate_bytes_s)
                writer.write(data)
                self.passed_bytes += len(data)
                await writer.drain()
        finally:
            taking.cancel()
            await asyncio.gather(taking, return_exceptions=True)

    async def _until_open(self) -> None:
        if self._mode is Mode.CUT:
            raise ConnectionResetError("the proxy is cut")
        await self._is_open.wait()
