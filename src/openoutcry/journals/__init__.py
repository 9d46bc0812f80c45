"""Journals: the log on which everything durable stands, in memory and in SQLite."""

from openoutcry.journals.anchors import Anchor, Held
from openoutcry.journals.backup import BackedUp, backup
from openoutcry.journals.lineage import (
    Explanation,
    HeldFill,
    Indexed,
    Lineage,
    RoundCase,
    Step,
    VoteCount,
)
from openoutcry.journals.memory import MemoryJournal
from openoutcry.journals.persistence import EventPersistence
from openoutcry.journals.reading import JournalReader
from openoutcry.journals.recovery import Recovered, recover_into
from openoutcry.journals.restoring import Restored, restore
from openoutcry.journals.rounds import RecordedRound, RecordedVote, RoundCell, recorded_rounds
from openoutcry.journals.sqlite import SqliteJournal
from openoutcry.journals.verifying import Problem, Verified

__all__ = [
    "Anchor",
    "BackedUp",
    "EventPersistence",
    "Explanation",
    "Held",
    "HeldFill",
    "Indexed",
    "JournalReader",
    "Lineage",
    "MemoryJournal",
    "Problem",
    "RecordedRound",
    "RecordedVote",
    "Recovered",
    "Restored",
    "RoundCase",
    "RoundCell",
    "SqliteJournal",
    "Step",
    "Verified",
    "VoteCount",
    "backup",
    "recorded_rounds",
    "recover_into",
    "restore",
]
