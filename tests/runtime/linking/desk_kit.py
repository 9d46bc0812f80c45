"""Desks as tests make them: buses in one loop, joined by an engine in memory, in virtual time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from durable_kit import settings

from openoutcry import EventBus, EventType, KillSwitchEvent
from openoutcry.config import Link
from openoutcry.links.memory import MemoryTransport
from openoutcry.links.memory_hub import MemoryHub

BUS_FIELDS = (
    "journal",
    "max_queue_size",
    "kill_switch_releasers",
    "health_check_config",
    "backpressure_config",
)


class Desk:
    """A desk: its bus, its end of the engine, and what its handlers were handed."""

    def __init__(self, hub: MemoryHub, name: str, path: Path | None, **fields: Any) -> None:
        own = {key: fields.pop(key) for key in BUS_FIELDS if key in fields}
        kept = {
            key: fields.pop(key)
            for key in ("levels", "record", "retain_count")
            if fields.get(key) is not None
        }
        if path is not None:
            kept["path"] = path
        self.name = name
        self.transport = MemoryTransport(hub, name)
        self.bus = EventBus(
            persistence_config=settings(**kept),
            # (Desks of one process die without their process: their seats have to lapse.)
            link=Link(**{"firm": "alpha", "desk": name, "imports": "*", "lease_s": 15, **fields}),
            transport=self.transport,
            **own,
        )
        self.switches: list[Any] = []
        self.bus.subscribe(EventType.KILL_SWITCH, self.on_switch, name=f"{name}.halts")

    async def on_switch(self, event: KillSwitchEvent) -> None:
        self.switches.append(event)

    @property
    def switched(self) -> list[str]:
        return [event.event_id for event in self.switches]

    @property
    def active(self) -> set[str]:
        return {halt.event_id for halt in self.bus._bus.halts.all()}

    @property
    def linking(self) -> Any:
        return self.bus._lifecycle.linking


@asynccontextmanager
async def running(*desks: Desk) -> AsyncIterator[None]:
    """Run the desks; stop those that a test has not stopped."""
    try:
        for desk in desks:
            await desk.bus.start()
        yield
    finally:
        for desk in desks:
            await desk.bus.stop(1)


async def passes(seconds: float = 0.5) -> None:
    """Let virtual time pass."""
    await asyncio.sleep(seconds)
