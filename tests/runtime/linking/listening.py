"""What the tests of exports and imports share: who listens on a desk, and what its journal has."""

import subprocess
from pathlib import Path
from typing import Any

from desk_kit import Desk

from openoutcry.journals import JournalReader
from openoutcry.links.memory_hub import MemoryHub

FOREVER = 1_000_000


def ids_of(events: list[Any]) -> list[str]:
    return [event.event_id for event in events]


class Listener:
    """Handles everything of some types on a desk."""

    def __init__(self, desk: Desk, *types: Any, name: str = "listener", **options: Any) -> None:
        self.heard: list[Any] = []
        desk.bus.subscribe(types or "*", self.on_event, name=f"{desk.name}.{name}", **options)

    async def on_event(self, event: Any) -> None:
        self.heard.append(event)

    @property
    def ids(self) -> list[str]:
        return ids_of(self.heard)


def entries(path: Any) -> list[Any]:
    """What the journal of a desk has."""
    with JournalReader(path) as reader:
        return reader.read(0, FOREVER)


def log_of(hub: MemoryHub, log: str, desk: str) -> list[str]:
    """The ids of what a desk has in a log, in order."""
    return [e.event_id for group in hub.groups(log) if group.desk == desk for e in group.entries]  # type: ignore[arg-type]


def image(path: Path, to: Path) -> Path:
    """Copy the files of a journal as they are; return where the copy is."""
    to.mkdir()
    files = [f for f in path.parent.glob(f"{path.name}*") if not f.name.endswith("-shm")]
    # By another process: to open and close the database here would let go of SQLite's locks on it.
    subprocess.run(["cp", *map(str, files), str(to)], check=True)
    return to / path.name


async def crash(desk: Desk, to: Path) -> Path:
    """Kill a desk, as far as its journal and its engine can tell; return where the next life has its journal."""
    config = desk.bus.config.persistence
    assert config is not None
    desk.transport.die()
    found = image(config.path, to)
    await desk.bus.stop(0)
    return found
