"""Two desks on real journals in one process, and others that only speak, one in hostile words. Run with FOLDER.

They are joined in memory. While FOLDER/cut exists, the desk of the journal is cut off from the others.
Of the others each says of itself a word that a desk can say; one is silent, and one was stopped.
"""

import asyncio
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from small_firm import HOSTILE

from openoutcry import EventBus, Link, OrderEvent, PersistenceConfig
from openoutcry.errors import Fenced
from openoutcry.links import MemoryHub, MemoryTransport
from openoutcry.links.wire import Beat, write_message
from openoutcry.ports import Seat

JOURNAL = "floor.db"
CUT = "cut"
EVERY_S = 0.2
WORDS = ("gap", "full", "stalled", "fenced")
SILENT, AWAY = "quiet", "stopped"


def desk(hub: MemoryHub, folder: Path, name: str, imports: list[str]) -> EventBus:
    return EventBus(
        persistence_config=PersistenceConfig(path=folder / f"{name}.db"),
        link=Link(firm="alpha", desk=name, imports=imports, link_lost_s=1),
        transport=MemoryTransport(hub, name),
    )


async def speak(hub: MemoryHub, name: str, **words: Any) -> None:
    """Be a desk that says this of itself, and whose clock is wrong."""
    mouth, number = MemoryTransport(hub, name), 0
    await mouth.open()
    await mouth.claim(Seat(desk=name, holder=words["holder"], host="trading-host-17/3d1219c7"), None)
    while True:
        number += 1
        with suppress(Fenced):
            await mouth.broadcast("beat", write_message(Beat(number=number, wall_ns=1, **words)))
        await asyncio.sleep(EVERY_S if name != SILENT else 3_600)


async def leave(hub: MemoryHub) -> None:
    """Be a desk that was stopped."""
    mouth = MemoryTransport(hub, AWAY)
    await mouth.open()
    await mouth.leave(await mouth.claim(Seat(desk=AWAY, holder="4711.20dba153.a-1", host="h1"), None))
    await mouth.close()


async def main(folder: Path) -> None:
    hub = MemoryHub()
    floor, street = desk(hub, folder, "floor", ["*"]), desk(hub, folder, "street", ["order"])
    street.subscribe("order", lambda order: None, name="broker")
    async with floor, street:
        await leave(hub)
        words = {
            word: {"holder": f"47{n}.20dba153.bcb965cffc25ceaf-001", "word": word}
            for n, word in enumerate(WORDS)
        }
        voices = {"evil": {"holder": HOSTILE, "why": HOSTILE, "version": HOSTILE, "word": "behind"}, **words}
        voices[SILENT] = {"holder": "4720.20dba153.bcb965cffc25ceaf-001", "word": "up"}
        speaking = asyncio.gather(*(speak(hub, name, **said) for name, said in voices.items()))
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
