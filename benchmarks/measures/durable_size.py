"""How many bytes a stored event takes for each byte of its payload."""

from pathlib import Path
from typing import Any

from subjects.durable_peers import PEERS, payloads

from measures.durable import SIZE_BYTES, folder


async def measure(batch: int, events_count: int) -> dict[str, Any]:
    """openoutcry, by bursts of `batch`, after a stop."""
    from subjects.durable_bus import DurableBus, notes  # noqa: PLC0415 - peers' cells do without

    async def handler(event: Any) -> None:
        pass

    with folder() as place:
        subject = DurableBus(place, "process")
        bus = await subject.open([handler])
        for _ in range(events_count // batch):
            await bus.publish_many(notes(batch))
            await bus.join()
        await bus.stop()
        size = subject.file_bytes()
    return {"bytes_per_byte": size / (events_count // batch * batch * SIZE_BYTES)}


async def measure_peer(peer_name: str, events_count: int) -> dict[str, Any]:
    """A peer, closed, with nothing read or settled yet."""
    with folder() as place:
        queue = PEERS[peer_name](place)
        for start in range(0, events_count, 512):
            queue.put(payloads(min(512, events_count - start), SIZE_BYTES, start))
        queue.reopened()
        size = _data_bytes(place)
    return {"bytes_per_byte": size / (events_count * SIZE_BYTES)}


def _data_bytes(place: Path) -> int:
    files = [path for path in place.rglob("*") if path.is_file()]
    return sum(path.stat().st_size for path in files if not path.name.endswith(("-wal", "-shm")))
