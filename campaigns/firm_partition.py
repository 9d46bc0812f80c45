"""Part the desks of a firm from the nodes, and the nodes from one another, and see that nothing is lost.

python -m campaigns.firm_partition --modes cut,hole,slow,routes

    cut      the connections of one desk are closed, and new ones refused
    hole     what one desk sends and is sent vanishes, and no connection ends
    slow     its connections take 200 ms in either direction, and 50 KiB/s
    routes   one node of three is parted from the other two; the desks reach all of them

In `cut` and `hole` another process takes the desk over when its lease is over: the former holder must be
refused when the connection is whole again.
"""

import argparse
import asyncio
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

from campaigns.firm_kit import Firm, a_folder, chosen, report, take_over
from campaigns.link_proxy import Mode, Proxy
from openoutcry.links.nats.servers import Servers

DESKS: Final = ("a", "b", "c")
LEASE_S: Final = 3.0
HARM_S: Final = 8.0
RECONNECT_S: Final = 5.0
"""How long a client may take to find out that a connection is whole again."""
NODES: Final = 3
MODES: Final = ("cut", "hole", "slow", "routes")
HOST: Final = "127.0.0.1"


def free_ports(count: int) -> list[int]:
    """Return ports that nobody uses now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind((HOST, 0))
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()


@asynccontextmanager
async def proxied() -> AsyncIterator[tuple[Firm, list[Proxy]]]:
    """A firm on three nodes, whose desk `b` reaches each of them by a proxy."""
    folder, ports = a_folder(), free_ports(NODES)
    urls = tuple(f"nats://{HOST}:{port}" for port in ports)
    with Servers(folder / "nodes", NODES) as servers:
        proxies = [Proxy(HOST, node.port) for node in servers.nodes]
        for proxy, port in zip(proxies, ports, strict=True):
            await proxy.start(port)
        firm = Firm(folder, servers, DESKS, {"b": {"servers": urls}}, {"lease_s": LEASE_S})
        try:
            await firm.start_all()
            yield firm, proxies
        finally:
            await firm.end()
            for proxy in proxies:
                await proxy.stop()


async def desk(mode: str) -> int:
    """Part one desk from all nodes for a while, and judge."""
    began_s = time.monotonic()
    async with proxied() as (firm, proxies):
        await asyncio.sleep(2)
        harm(proxies, mode)
        firm.desks["b"].away()
        await asyncio.sleep(HARM_S)
        heal(proxies)
        await asyncio.sleep(RECONNECT_S)
        firm.desks["b"].back()
        await asyncio.sleep(2)
        judge = await firm.settle()
        judge.judge()
    return report(f"partition, {mode}", judge.tell(), firm.folder, began_s)


def harm(proxies: list[Proxy], mode: str) -> None:
    """Harm what goes through the proxies."""
    for proxy in proxies:
        if mode == "slow":
            proxy.delay_s, proxy.rate_bytes_s = 0.2, 50 * 1024
        else:
            proxy.mode = Mode(mode)


def heal(proxies: list[Proxy]) -> None:
    """Let everything through again."""
    for proxy in proxies:
        proxy.mode, proxy.delay_s, proxy.rate_bytes_s = Mode.OPEN, 0.0, 0.0


async def holder(mode: str) -> int:
    """Part a desk from all nodes until another process has taken it over, and bring it back."""
    began_s = time.monotonic()
    async with proxied() as (firm, proxies):
        await asyncio.sleep(2)
        harm(proxies, mode)
        found = await take_over(firm, "b", ("a", "c"), 2.0, lambda: heal(proxies))
    return report(f"two holders, {mode}", not found, firm.folder, began_s)


async def routes() -> int:
    """Part one node from the other two for a while, and judge."""
    began_s, folder, ports = time.monotonic(), a_folder(), free_ports(NODES * NODES)
    servers = Servers(folder / "nodes", NODES, routes=lambda here, there: ports[here * NODES + there])
    proxies = {
        (here, there): Proxy(HOST, servers.route_ports[there])
        for here in range(NODES)
        for there in range(NODES)
        if here != there
    }
    for (here, there), proxy in proxies.items():
        await proxy.start(ports[here * NODES + there])
    for node in servers.nodes:
        node.start()
    for node in servers.nodes:
        await asyncio.to_thread(node.wait)  # the proxies are on this loop
    with servers:
        firm = Firm(folder, servers, DESKS, {}, {"lease_s": LEASE_S})
        try:
            await firm.start_all()
            for parted in range(NODES):
                around = [proxy for pair, proxy in proxies.items() if parted in pair]
                harm(around, Mode.HOLE)
                await asyncio.sleep(HARM_S)
                heal(around)
                await asyncio.sleep(HARM_S)
            judge = await firm.settle()
            judge.judge()
        finally:
            await firm.end()
            for proxy in proxies.values():
                await proxy.stop()
    return report("partition, routes", judge.tell(), folder, began_s)


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    known = partial(chosen, known=MODES)
    parser.add_argument("--modes", type=known, default=list(MODES), help="which of them [all]")
    asked = parser.parse_args().modes
    failed = 0
    for mode in asked:
        failed += asyncio.run(routes() if mode == "routes" else desk(mode))
        if mode in (Mode.CUT, Mode.HOLE):
            failed += asyncio.run(holder(mode))
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
