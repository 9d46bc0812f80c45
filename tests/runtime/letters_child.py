"""A program that is killed while dead letters are buried or redriven.

    python letters_child.py FOLDER SCENE

`bury`: a handler fails at every event. `redrive`: it is mended, and redrives all letters; what it handles is told in the file
`handled`, which is there after SIGKILL. `rest`: as `redrive`, and it ends by itself when all letters are gone.
"""

import asyncio
import logging
import os
import sys
from pathlib import Path
from typing import Any

from openoutcry import EventBus, OrderEvent, OrderSide, OrderType, PersistenceConfig

COUNT = 600


async def main(folder: Path, scene: str) -> None:
    handled = os.open(folder / "handled", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    settings = PersistenceConfig(path=folder / "firm.db", socket=False, cursor_save_s=0.01)
    bus = EventBus(100, persistence_config=settings)

    async def handle(event: Any) -> None:
        if scene == "bury":
            raise ValueError("no")
        await asyncio.sleep(0)
        os.write(handled, f"{event.event_id}\n".encode())

    bus.subscribe("order", handle, name="risk", retry=False, breaker=False)
    async with bus:
        if scene == "bury":
            for number in range(COUNT):
                order = OrderEvent(
                    event_id=f"e-{number}",
                    order_id="o",
                    symbol="ES",
                    side=OrderSide.BUY,
                    quantity=1.0,
                    order_type=OrderType.MARKET,
                )
                await bus.publish(order)
            await bus.join()
            await bus.flush()
        else:
            await bus.join()
            bus.admin.redrive()
            await bus.join()
        assert scene != "rest" or not bus.dead_letters()


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
