"""The protocols that the runtime asks of the world around it, and the records that pass through them."""

from openoutcry.ports.clock import Clock
from openoutcry.ports.journal import CheckpointStep, DiskTask, FileJournal, Journal, Marks
from openoutcry.ports.records import (
    Alike,
    BuriedEvent,
    Changes,
    CursorState,
    Duplicate,
    Entry,
    Era,
    Filter,
    Header,
    Holder,
    Level,
    LogState,
    Places,
    Snapshot,
    Stored,
    Suspect,
    Written,
    level_named,
)
from openoutcry.ports.renamed import *  # noqa: F403 - `__getattr__`, for former names

__all__ = [
    "Alike",
    "BuriedEvent",
    "Changes",
    "CheckpointStep",
    "Clock",
    "CursorState",
    "DiskTask",
    "Duplicate",
    "Entry",
    "Era",
    "FileJournal",
    "Filter",
    "Header",
    "Holder",
    "Journal",
    "Level",
    "LogState",
    "Marks",
    "Places",
    "Snapshot",
    "Stored",
    "Suspect",
    "Written",
    "level_named",
]
