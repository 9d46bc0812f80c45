"""Durable publish latency in an open loop: from the time at which an event was due to its publish having returned."""

import asyncio
import gc
from time import perf_counter_ns
from typing import Any

from subjects.base import YIELD_WHEN_LATE_COUNT, Broken
from subjects.durable_bus import DurableBus, notes
from subjects.durable_floor import BareSqlite, BareSync
from subjects.durable_peers import PEERS, payloads

from measures.durable import SIZE_BYTES, folder
from measures.timing import percentiles, schedule

_WARM_UP_COUNT = 2_000


async def measure(level: str, rate_per_s: int, seconds: float) -> dict[str, Any]:
    """Latency in us of publishing (until `publish` says `True`) and of handling (until the handler's first line)."""
    arrived_ns: list[int] = []
    acknowledged_ns: list[int] = []

    async def handler(event: Any) -> None:
        arrived_ns.append(perf_counter_ns())

    with folder() as place:
        bus = await DurableBus(place, level).open([handler])
        await bus.publish_many(notes(_WARM_UP_COUNT))
        await bus.join()
        arrived_ns.clear()

        async def one(event: Any, due: int) -> None:
            if not await bus.publish(event):
                raise Broken("an event was refused")
            acknowledged_ns.append(perf_counter_ns() - due)

        events = notes(int(rate_per_s * seconds))
        gc.collect()
        due_ns = schedule(len(events), rate_per_s)
        tasks = set()
        for i, (event, due) in enumerate(zip(events, due_ns, strict=True)):
            if perf_counter_ns() >= due and i % YIELD_WHEN_LATE_COUNT == 0:
                await asyncio.sleep(0)
            while perf_counter_ns() < due:  # noqa: ASYNC110 - a timer is too coarse for this schedule
                await asyncio.sleep(0)
            task = asyncio.create_task(one(event, due))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        while tasks:
            await asyncio.gather(*tasks)
        await bus.join()
        await bus.stop()
    if len(arrived_ns) != len(events):
        raise Broken(f"{len(arrived_ns)} of {len(events)} events arrived")
    handled = percentiles([(at - due) / 1_000 for at, due in zip(arrived_ns, due_ns, strict=True)])
    return {
        **percentiles([taken / 1_000 for taken in acknowledged_ns]),
        "handled_p50": handled["p50"],
        "handled_p99": handled["p99"],
    }


async def measure_offered(level: str, rate_per_s: int, seconds: float) -> dict[str, Any]:
    """Bare commits at the same rate from the same loop, with no bus and no handler."""
    (blob,) = payloads(1, SIZE_BYTES)
    taken_us = []
    with folder() as place:
        store = BareSqlite(place, level)
        for due in schedule(int(rate_per_s * seconds), rate_per_s):
            while perf_counter_ns() < due:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0)
            store.put(blob)
            taken_us.append((perf_counter_ns() - due) / 1_000)
        store.close()
    return percentiles(taken_us)


async def measure_bare(kind: str, level: str, seconds: float) -> dict[str, Any]:
    """One bare commit, or sync, after the other: what a call takes on this disk."""
    (blob,) = payloads(1, SIZE_BYTES)
    with folder() as place:
        store = BareSync(place) if kind == "sync" else BareSqlite(place, level)
        return _calls(lambda: store.put(blob), seconds)


async def measure_peer(peer_name: str, seconds: float) -> dict[str, Any]:
    """One `put` after the other: a blocking call, so that what it takes is also for how long a loop would stand."""
    some = payloads(100_000, SIZE_BYTES)
    with folder() as place:
        queue = PEERS[peer_name](place)
        return _calls(lambda: queue.put([some.pop()]), seconds)


def _calls(call: Any, seconds: float) -> dict[str, Any]:
    taken_us = []
    end_ns = perf_counter_ns() + int(seconds * 1e9)
    while (begun := perf_counter_ns()) < end_ns:
        call()
        taken_us.append((perf_counter_ns() - begun) / 1_000)
    return percentiles(taken_us)
