"""The transport over NATS beside the bare client, in one run: groups appended and read, in events a second.

`python benchmarks/link_nats.py [--groups 300] [--repeat 5] [--nodes 1]`

Bare is nats-py alone: `request` with a group that was packed before, one at a time; and a push consumer whose
messages are counted and not looked at. The transport packs, checks, and unpacks. Beside them: a broadcast's way
from one desk to another, urgent and not, in milliseconds.
"""

import argparse
import asyncio
import contextlib
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import nats

from openoutcry.config import Link
from openoutcry.links.nats.servers import Servers
from openoutcry.links.nats.subjects import Subjects
from openoutcry.links.nats.transport import NatsTransport
from openoutcry.links.wire import pack
from openoutcry.ports import Entry, Group, Place, Seat

EVENTS = 512


def a_group(number: int) -> Group:
    """512 events of some 300 bytes."""
    positions = tuple(range(number * EVENTS + 1, (number + 1) * EVENTS + 1))
    entries = tuple(
        Entry(
            f"e{position}",
            json.dumps({"event_id": f"e{position}", "pad": "x" * 270}).encode(),
            wall_ns=position,
        )
        for position in positions
    )
    return Group(
        desk="floor",
        journal="j",
        log="normal",
        after=positions[0] - 1,
        upto=positions[-1],
        positions=positions,
        entries=entries,
    )


@contextlib.contextmanager
def timed(found: list[float], events: int) -> Iterator[None]:
    started = time.perf_counter()
    yield
    found.append(events / (time.perf_counter() - started))


async def bare_append(client: nats.NATS, subject: str, groups: list[bytes]) -> None:
    for data in groups:
        await client.request(subject, data, timeout=10)


async def bare_read(client: nats.NATS, stream: str, subject: str, count: int) -> None:
    done, seen = asyncio.Event(), 0

    async def hear(_message: object) -> None:
        nonlocal seen
        seen += 1
        if seen == count:
            done.set()

    inbox = client.new_inbox()
    listening = await client.subscribe(inbox, cb=hear)
    config = {
        "name": f"b{time.monotonic_ns()}",
        "deliver_subject": inbox,
        "ack_policy": "none",
        "mem_storage": True,
    }
    body = {"stream_name": stream, "config": config | {"filter_subject": subject}}
    await client.request(
        f"$JS.API.CONSUMER.CREATE.{stream}.{config['name']}.{subject}", json.dumps(body).encode(), timeout=10
    )
    await done.wait()
    await listening.unsubscribe()


async def read(transport: NatsTransport, desk: str, count: int, made: str, after: int) -> None:
    async with contextlib.aclosing(transport.read("normal", desk, Place(made, after))) as groups:
        async for _ in groups:
            count -= 1
            if not count:
                return


async def way_ms(
    floor: NatsTransport, street: NatsTransport, topic: str, *, urgent: bool, count: int = 300
) -> list[float]:
    """How long a broadcast is on its way."""
    came: asyncio.Queue[float] = asyncio.Queue()
    await street.listen(topic, lambda _desk, _data: came.put_nowait(time.perf_counter()), urgent=urgent)
    ways = []
    for _ in range(count):
        started = time.perf_counter()
        await floor.broadcast(topic, b"x" * 300, urgent=urgent)
        ways.append((await came.get() - started) * 1e3)
    return sorted(ways)


async def main(servers: Servers, count: int, repeat: int) -> None:
    def link(desk: str, firm: str) -> Link:
        return Link(firm=firm, desk=desk, servers=servers.urls, replicas=len(servers.nodes), max_bytes=2**31)

    groups = [a_group(number) for number in range(count)]
    packed = [pack(group) for group in groups]
    rates: dict[str, list[float]] = {"append": [], "bare append": [], "read": [], "bare read": []}
    for number in range(repeat):
        firm, bare = f"firm{number}", f"bare{number}"
        floor, street, other = (
            NatsTransport(link(*names)) for names in (("floor", firm), ("street", firm), ("floor", bare))
        )
        client = await nats.connect(list(servers.urls))
        try:
            for transport in (floor, street, other):
                await transport.open()
            seat = await floor.claim(Seat(desk="floor", holder="p"), None)
            with timed(rates["append"], count * EVENTS):
                for group in groups:
                    await floor.append(group, seat.tokens["normal"])
            subjects = Subjects(bare)
            with timed(rates["bare append"], count * EVENTS):
                await bare_append(client, subjects.groups("normal", "floor"), packed)
            with timed(rates["read"], count * EVENTS):
                await read(street, "floor", count, "", 0)
            with timed(rates["bare read"], count * EVENTS):
                await bare_read(client, subjects.stream("normal"), subjects.groups("normal", "floor"), count)
            if number == repeat - 1:
                for topic, urgent in (("kill", True), ("md", False)):
                    ways = await way_ms(floor, street, topic, urgent=urgent)
                    p50, p99 = ways[len(ways) // 2], ways[len(ways) * 99 // 100]
                    print(
                        f"{'urgent' if urgent else 'bulk':>12} broadcast  p50 {p50:6.2f} ms  p99 {p99:6.2f} ms"
                    )
        finally:
            await client.close()
            for transport in (floor, street, other):
                await transport.close()
    for name, found in rates.items():
        print(f"{name:>12} {statistics.median(found):12,.0f} events/s")
    for name in ("append", "read"):
        ratios = [one / other for one, other in zip(rates[name], rates[f"bare {name}"], strict=True)]
        print(
            f"{name:>12} {statistics.median(ratios):.2f} of the bare client ({min(ratios):.2f} to {max(ratios):.2f})"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--groups", type=int, default=300)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--nodes", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Servers(Path(folder), given.nodes) as servers:
        asyncio.run(main(servers, given.groups, given.repeat))
