"""openoutcry's EventBus with a journal: the settings at their defaults, but for the level that a row names."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from openoutcry import Event, EventBus, PersistenceConfig, encode
from subjects.base import Handler

NOTE = "note"


class Note(Event, frozen=True, kw_only=True, gc=False):
    """A user's own small event, 300 bytes of JSON."""

    event_type: str = NOTE
    text: str = ""


_TEXT = "x" * (300 - len(encode(Note())))


def notes(notes_count: int) -> list[Note]:
    """Fresh events of 300 bytes each."""
    return [Note(text=_TEXT) for _ in range(notes_count)]


class DurableBus:
    """A bus whose notes are journaled at a level, in a folder of its own."""

    def __init__(self, folder: Path, level: str, settings: dict[str, Any] | None = None) -> None:
        self.path = folder / "openoutcry.db"
        self._settings = {
            "enable_persistence": True,
            "persistence_config": PersistenceConfig(path=self.path, level=level),
            **(settings or {}),
        }

    async def open(self, handlers: Sequence[Handler]) -> EventBus:
        """Make the bus, subscribe the handlers under names of their own, and start it."""
        self.bus = EventBus(**self._settings)
        for number, handler in enumerate(handlers):
            self.bus.subscribe(NOTE, handler, durable=True, name=f"reader-{number}")
        await self.bus.start()
        return self.bus

    def wal_bytes(self) -> int:
        """The present size of the write-ahead log."""
        wal = Path(f"{self.path}-wal")
        return wal.stat().st_size if wal.exists() else 0

    def file_bytes(self) -> int:
        """The size of the database, and of what is left of its write-ahead log."""
        return self.path.stat().st_size + self.wal_bytes()
