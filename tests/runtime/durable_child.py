"""A program with a durable bus, to be killed: it tells in files what it was promised and what it handled.

    python durable_child.py FOLDER SCENE FIRST

What is written with `os.write` is there after SIGKILL, so the files say exactly what happened until then:
`accepted` has a line per publish that returned True, `handled` one per call that was begun (`<` in front) or ended.
"""

import asyncio
import os
import random
import signal
import sys
from itertools import count
from pathlib import Path
from typing import Any

from openoutcry import EventBus, FillEvent, LevelName, OrderEvent, OrderSide, OrderType, PersistenceConfig

POISON = "poison"


class Files:
    def __init__(self, folder: Path) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        self._files = {name: os.open(folder / name, flags) for name in ("accepted", "handled")}

    def tell(self, name: str, line: str) -> None:
        os.write(self._files[name], f"{line}\n".encode())


def an_order(number: int | str) -> OrderEvent:
    return OrderEvent(
        event_id=f"order-{number}",
        order_id=f"{number}",
        symbol="ES",
        side=OrderSide.BUY,
        quantity=1.0,
        order_type=OrderType.MARKET,
    )


def a_fill(number: int) -> FillEvent:
    return FillEvent(
        event_id=f"fill-{number}",
        order_id=f"{number}",
        symbol="ES",
        side=OrderSide.BUY,
        filled_quantity=1.0,
        fill_price=1.0,
    )


def a_bus(folder: Path, **fields: Any) -> EventBus:
    settings = PersistenceConfig(path=folder / "firm.db", socket=False, **fields)
    return EventBus(100_000, persistence_config=settings)


def handlers(bus: EventBus, files: Files) -> None:
    """Three subscriptions: of all, of orders alone, and one that has several calls at a time."""

    def watch(name: str, takes: Any, pause_s: float, **options: Any) -> None:
        async def handler(event: Any) -> None:
            files.tell("handled", f"{name} {event.event_id}")
            if pause_s and random.random() < 0.02:
                await asyncio.sleep(pause_s)

        bus.subscribe(takes, handler, name=name, **options)

    watch("all", ["order", "fill"], 0)
    watch("orders", "order", 0.002)
    watch("beside", "fill", 0.005, concurrency=4)


def ready() -> None:
    os.write(1, b"ready\n")


async def publish_for_ever(bus: EventBus, files: Files, numbers: Any) -> None:
    while True:
        number = next(numbers)
        if number % 7 == 0:
            accepted = await bus.publish(a_fill(number))
            name = f"fill-{number}"
        else:
            level: LevelName | None = "disk" if number % 11 == 0 else None
            accepted = await bus.publish(an_order(number), level=level)
            name = f"order-{number}"
        if accepted:
            files.tell("accepted", name)


async def under_load(folder: Path, first: int) -> None:
    files, numbers = Files(folder), count(first)
    bus = a_bus(folder)
    handlers(bus, files)
    async with bus, asyncio.TaskGroup() as group:
        ready()
        for _ in range(8):
            group.create_task(publish_for_ever(bus, files, numbers))


async def stopping(folder: Path, first: int) -> None:
    files, numbers = Files(folder), count(first)
    bus = a_bus(folder)
    handlers(bus, files)
    await bus.start()
    publishers = [asyncio.create_task(publish_for_ever(bus, files, numbers)) for _ in range(8)]
    await asyncio.sleep(0.05)
    for task in publishers:
        task.cancel()
    ready()
    await bus.stop()


async def behind(folder: Path, first: int) -> None:
    """Accept a lot that nobody handles, and wait for the end."""
    files = Files(folder)
    bus = a_bus(folder)
    handlers(bus, files)
    for number in range(first, first + 3_000):
        assert bus.publish_nowait(an_order(number))
        files.tell("accepted", f"order-{number}")
    ready()
    await asyncio.sleep(60)


async def recovering(folder: Path, _first: int) -> None:
    """Handle what is there, slowly enough to be killed in the middle."""
    files = Files(folder)
    bus = a_bus(folder)
    handlers(bus, files)
    ready()
    await bus.start()
    await bus.join()
    await bus.stop()


async def poisoned(folder: Path, first: int) -> None:
    """One event kills the process whenever it is handled; a slow one is in hand beside it."""
    files = Files(folder)
    bus = a_bus(folder, crash_attempts=3, suspect_alone_s=60)

    async def victim(order: Any) -> None:
        files.tell("handled", f"<victim {order.event_id}")
        if order.order_id == POISON:
            await asyncio.sleep(0.05)  # so that the innocent has begun
            os.kill(os.getpid(), signal.SIGKILL)
        files.tell("handled", f"victim {order.event_id}")

    async def innocent(order: Any) -> None:
        files.tell("handled", f"<innocent {order.event_id}")
        await asyncio.sleep(0.2)
        files.tell("handled", f"innocent {order.event_id}")

    bus.subscribe("order", innocent, name="innocent")
    bus.subscribe("order", victim, name="victim")
    if not first:
        for number in (1, POISON, 2):
            assert await bus.publish(an_order(number))
    await bus.start()
    await bus.join()
    await bus.stop()


SCENES = {f.__name__: f for f in (under_load, stopping, behind, recovering, poisoned)}

if __name__ == "__main__":
    random.seed(sys.argv[3])
    asyncio.run(SCENES[sys.argv[2]](Path(sys.argv[1]), int(sys.argv[3])))
