"""Two desks on real journals in one process, and a third that only speaks, in hostile words. Run with FOLDER.

They are joined in memory. While FOLDER/cut exists, the desk of the journal is cut off from the others.
"""

import asyncio
import sys
from pathlib import Path
from typing import Any

from small_firm import HOSTILE

from openoutcry import EventBus, Link, OrderEvent, PersistenceConfig
from openoutcry.links import MemoryHub, MemoryTransport
from openoutcry.links.wire import Beat, write_message

JOURNAL = "floor.db"
CUT = "cut"
EVERY_S = 0.2


def desk(hub: MemoryHub, folder: Path, name: str, imports: list[str]) -> EventBus:
    return EventBus(
        persistence_config=PersistenceConfig(path=folder / f"{name}.db"),
        link=Link(firm="alpha", desk=name, imports=imports, link_lost_s=1),
        transport=MemoryTransport(hub, name),
    )


async def speak(hub: MemoryHub) -> None:
    """Be a desk that runs another version, and whose clock is wrong."""
    mouth, number = MemoryTransport(hub, "evil"), 0
    await mouth.open()
    while True:
        number += 1
        words: Any = {"holder": HOSTILE, "why": HOSTILE, "version": HOSTILE, "word": "behind"}
        await mouth.broadcast("beat", write_message(Beat(number=number, wall_ns=1, **words)))
        await asyncio.sleep(EVERY_S)


async def main(folder: Path) -> None:
    hub = MemoryHub()
    floor, street = desk(hub, folder, "floor", ["*"]), desk(hub, folder, "street", ["order"])
    street.subscribe("order", lambda order: None, name="broker")
    async with floor, street:
        speaking = asyncio.create_task(speak(hub))
        print("ready", flush=True)  # noqa: T201 - for who started it
        number, was_cut = 0, False
        while not speaking.done():
            is_cut = (folder / CUT).exists()
            if is_cut != was_cut:
                (hub.cut if is_cut else hub.heal)("floor")
                was_cut = is_cut
            number += 1
            await floor.publish(OrderEvent(order_id=f"o-{number}", symbol="ES", side="buy", quantity=1))
            await asyncio.sleep(EVERY_S)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
