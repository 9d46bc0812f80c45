"""Recovery: a file full of events that nobody has handled, opened, read, decoded, handled and settled."""

import asyncio
import gc
from pathlib import Path
from time import perf_counter
from typing import Any

from subjects.durable_peers import PEERS, payloads

from measures.durable import SIZE_BYTES, folder

_BATCH = 512


async def measure(events_count: int) -> dict[str, Any]:
    """openoutcry, from the making of the bus on: `first_ms` to the first handler call, then all of them."""
    from subjects.durable_bus import NOTE, DurableBus  # noqa: PLC0415

    from openoutcry.ports import Changes, CursorState  # noqa: PLC0415 - peers' cells do without

    handled = 0
    first_at = 0.0

    async def handler(event: Any) -> None:
        nonlocal handled, first_at
        if not handled:
            first_at = perf_counter()
        handled += 1

    with folder() as place:
        subject = DurableBus(place, "process")
        cursor = CursorState(subscription="reader-0", lane="normal", floor=0, takes=(NOTE,))
        await asyncio.to_thread(_fill, subject.path, events_count, Changes(cursors=[cursor]))
        gc.collect()
        begun = perf_counter()
        bus = await subject.open([handler])
        await bus.join()
        took_s = perf_counter() - begun
        await bus.stop()
    assert handled == events_count, f"{handled} of {events_count} events came back"
    return {"events_per_s": events_count / took_s, "first_ms": (first_at - begun) * 1e3}


def _fill(path: Path, events_count: int, changes: Any) -> None:
    from subjects.durable_bus import notes  # noqa: PLC0415

    from openoutcry import encode  # noqa: PLC0415
    from openoutcry.journals import SqliteJournal  # noqa: PLC0415
    from openoutcry.ports import Entry  # noqa: PLC0415

    with SqliteJournal(path) as journal:
        journal.write((), changes)
        for start in range(0, events_count, _BATCH):
            some = notes(min(_BATCH, events_count - start))
            journal.write([Entry(event.event_id, encode(event)) for event in some])
        while journal.idle():
            pass


async def measure_peer(peer_name: str, events_count: int) -> dict[str, Any]:
    """A peer: opened again, everything read, handed to a handler and settled."""
    first_at = 0.0
    handled = 0

    def handler(item: Any) -> None:
        nonlocal first_at, handled
        if not handled:
            first_at = perf_counter()
        handled += 1

    with folder() as place:
        queue = PEERS[peer_name](place)
        for start in range(0, events_count, _BATCH):
            queue.put(payloads(min(_BATCH, events_count - start), SIZE_BYTES, start))
        gc.collect()
        begun = perf_counter()
        again = queue.reopened()
        again.settle(events_count, handler)
        took_s = perf_counter() - begun
    assert handled == events_count, f"{handled} of {events_count} came back"
    return {"events_per_s": events_count / took_s, "first_ms": (first_at - begun) * 1e3}
