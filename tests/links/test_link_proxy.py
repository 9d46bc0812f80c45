"""The proxy that harms a link on purpose does what it says."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from campaigns.link_proxy import Mode, Proxy


@asynccontextmanager
async def an_echo() -> AsyncIterator[tuple[Proxy, asyncio.StreamReader, asyncio.StreamWriter]]:
    """A server that says back what it hears, a proxy before it, and a connection through both."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            writer.write(data)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1")
    proxy = Proxy("127.0.0.1", server.sockets[0].getsockname()[1])
    await proxy.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    try:
        yield proxy, reader, writer
    finally:
        writer.close()
        await proxy.stop()
        await proxy.stop()
        server.close()


def test_what_goes_in_comes_out() -> None:
    async def main() -> None:
        async with an_echo() as (proxy, reader, writer):
            data = bytes(range(256)) * 4_000
            writer.write(data)
            assert await reader.readexactly(len(data)) == data
            assert proxy.passed_bytes == 2 * len(data)

    asyncio.run(main())


def test_a_hole_keeps_what_goes_in_until_it_is_open() -> None:
    async def main() -> None:
        async with an_echo() as (proxy, reader, writer):
            writer.write(b"before")
            await reader.readexactly(6)
            proxy.mode = Mode.HOLE
            writer.write(b"behind")
            coming = asyncio.create_task(reader.readexactly(6))
            done, _ = await asyncio.wait({coming}, timeout=0.2)
            assert not done
            proxy.mode = Mode.OPEN
            assert await coming == b"behind"

    asyncio.run(main())


def test_a_cut_closes_what_there_is_and_lets_nothing_new_in() -> None:
    async def main() -> None:
        async with an_echo() as (proxy, reader, writer):
            writer.write(b"before")
            await reader.readexactly(6)
            proxy.mode = Mode.CUT
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await reader.readexactly(1)
            again, out = await asyncio.open_connection("127.0.0.1", proxy.port)
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await again.readexactly(1)
            out.close()
            proxy.mode = Mode.OPEN
            again, out = await asyncio.open_connection("127.0.0.1", proxy.port)
            out.write(b"after")
            assert await again.readexactly(5) == b"after"
            out.close()

    asyncio.run(main())


def test_a_slow_link_takes_its_time() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with an_echo() as (proxy, reader, writer):
            proxy.delay_s = 0.1
            started = loop.time()
            writer.write(b"x")
            await reader.readexactly(1)
            assert loop.time() - started >= 0.2
            proxy.delay_s, proxy.rate_bytes_s = 0.0, 100_000
            started = loop.time()
            writer.write(b"x" * 20_000)
            await reader.readexactly(20_000)
            assert loop.time() - started >= 0.2

    asyncio.run(main())
