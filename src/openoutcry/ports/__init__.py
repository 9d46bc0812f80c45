"""The protocols that the runtime asks of the world around it, and the records that pass through them."""

from openoutcry.ports.clock import Clock
from openoutcry.ports.journal import Journal, Marks, Step
from openoutcry.ports.records import (
    Alike,
    BuriedEvent,
    Changes,
    CursorState,
    Duplicate,
    Entry,
    Envelope,
    Filter,
    Level,
    Stored,
    Suspect,
    Written,
    level_named,
)

__all__ = [
    "Alike",
    "BuriedEvent",
    "Changes",
    "Clock",
    "CursorState",
    "Duplicate",
    "Entry",
    "Envelope",
    "Filter",
    "Journal",
    "Level",
    "Marks",
    "Step",
    "Stored",
    "Suspect",
    "Written",
    "level_named",
]
