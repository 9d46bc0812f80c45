"""Memory of 100,000 queued events: what the events take by themselves, and what queueing them adds."""

import asyncio
import gc
import tracemalloc
from pathlib import Path
from typing import Any

from subjects.base import MARKET_DATA
from subjects.registry import build

EVENTS_COUNT = 100_000
_PAGE_SIZE_BYTES = 4_096
_STATM = Path("/proc/self/statm")


async def measure(subject: str, options: dict[str, Any], trace: bool) -> dict[str, Any]:
    """MB for the events and MB added by the queue, by tracemalloc or by the resident set (Linux only)."""
    released = asyncio.Event()

    async def waiting(event: Any) -> None:
        await released.wait()

    bus = build(subject, options)
    if trace:
        tracemalloc.start()
    await bus.open([((MARKET_DATA,), waiting)])
    before = _bytes(trace)
    events = bus.make_events((MARKET_DATA,), EVENTS_COUNT)
    made = _bytes(trace)
    await bus.submit(events)
    await asyncio.sleep(0)
    queued = _bytes(trace)
    released.set()
    return {"events_mb": (made - before) / 1e6, "queue_mb": (queued - made) / 1e6}


def _bytes(trace: bool) -> int:
    gc.collect()
    if trace:
        return tracemalloc.get_traced_memory()[0]
    return resident_bytes()


def resident_bytes() -> int:
    """The resident set of this process."""
    return int(_STATM.read_text().split()[1]) * _PAGE_SIZE_BYTES
