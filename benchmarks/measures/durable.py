"""Durable events per second: stored, handled, settled. Events are made beforehand, in bursts."""

import asyncio
import gc
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

from subjects.durable_floor import BareSqlite, BareSync
from subjects.durable_peers import PEERS, payloads
from subjects.handlers import counting

SIZE_BYTES = 300
_HERE = Path(__file__).resolve().parent.parent


@contextmanager
def folder() -> Iterator[Path]:
    """A folder on the disk that the benchmarks stand on."""
    (_HERE / "results").mkdir(exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix="durable-", dir=_HERE / "results"))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


async def measure_floor(level: str, batch: int, seconds: float) -> dict[str, Any]:
    """Bare SQLite, a blob per batch; nothing is handled or settled."""
    with folder() as place:
        return _bare(BareSqlite(place, level), batch, seconds)


async def measure_sync(seconds: float) -> dict[str, Any]:
    """A bare fdatasync of 4 KiB."""
    with folder() as place:
        return _bare(BareSync(place), 1, seconds)


def _bare(store: Any, batch: int, seconds: float) -> dict[str, Any]:
    blobs = [b"".join(payloads(batch, SIZE_BYTES, number * batch)) for number in range(32)]
    spent_s, done = 0.0, 0
    while spent_s < seconds:
        begun = perf_counter()
        for blob in blobs:
            store.put(blob)
        spent_s += perf_counter() - begun
        done += batch * len(blobs)
    store.close()
    return {"events_per_s": done / spent_s}


async def measure_peer(peer_name: str, batch: int, seconds: float) -> dict[str, Any]:
    """A peer: put a batch, then read, handle and settle it; `put_per_s` is the first half alone."""
    handled = 0

    def handler(item: Any) -> None:
        nonlocal handled
        handled += 1

    with folder() as place:
        queue = PEERS[peer_name](place)
        put_s, settle_s, done = 0.0, 0.0, 0
        while put_s + settle_s < seconds:
            some = payloads(batch, SIZE_BYTES, done)
            begun = perf_counter()
            queue.put(some)
            middle = perf_counter()
            queue.settle(batch, handler)
            settle_s += perf_counter() - middle
            put_s += middle - begun
            done += batch
    assert handled == done, f"{handled} of {done} came back"
    return {"events_per_s": done / (put_s + settle_s), "put_per_s": done / put_s}


async def measure_many(level: str, handlers: int, batch: int, seconds: float) -> dict[str, Any]:
    """openoutcry by `publish_many`, each batch drained before the next; everything counts, checkpoints too."""
    from subjects.durable_bus import DurableBus, notes  # noqa: PLC0415 - peers' cells do without

    counts = [0] * handlers
    with folder() as place:
        subject = DurableBus(place, level)
        bus = await subject.open([counting("async", counts, i) for i in range(handlers)])
        spent_s, done, wal_bytes = 0.0, 0, 0
        rates = []
        while spent_s < seconds:
            some = notes(batch)
            begun = perf_counter()
            await bus.publish_many(some)
            await bus.join()
            took_s = perf_counter() - begun
            spent_s += took_s
            done += batch
            rates.append(batch / took_s)
            wal_bytes = max(wal_bytes, subject.wal_bytes())
        await bus.stop()
    assert counts == [done] * handlers, f"handlers got {counts} of {done} events"
    rates.sort()
    return {
        "events_per_s": done / spent_s,
        "burst_per_s": rates[len(rates) // 2],
        "wal_mb": wal_bytes / 1e6,
    }


async def measure_publishers(level: str, publishers: int, seconds: float) -> dict[str, Any]:
    """openoutcry by tasks that publish one event after the other, each awaiting its own."""
    from subjects.durable_bus import DurableBus, notes  # noqa: PLC0415 - peers' cells do without

    counts = [0]
    with folder() as place:
        subject = DurableBus(place, level)
        bus = await subject.open([counting("async", counts, 0)])
        share = 1_000 if publishers == 1 else 20

        async def publisher(mine: list[Any]) -> None:
            publish = bus.publish
            for event in mine:
                await publish(event)

        spent_s, done = 0.0, 0
        while spent_s < seconds:
            each = [notes(share) for _ in range(publishers)]
            gc.collect()
            begun = perf_counter()
            await asyncio.gather(*[publisher(mine) for mine in each])
            await bus.join()
            spent_s += perf_counter() - begun
            done += share * publishers
        await bus.stop()
    assert counts == [done], f"the handler got {counts[0]} of {done} events"
    return {"events_per_s": done / spent_s}
