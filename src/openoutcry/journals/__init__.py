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
from openoutcry.journals.recording import RecordedEntry, RecordedRun, Recording, TapeGap, runs_of
from openoutcry.journals.recovery import Recovered, recover_into
from openoutcry.journals.restoring import Restored, restore
from openoutcry.journals.rounds import RecordedRound, RecordedVote, RoundCell, recorded_rounds
from openoutcry.journals.sqlite import SqliteJournal
from openoutcry.journals.tape import RecordedCall, RecordedPublication
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
    "RecordedCall",
    "RecordedEntry",
    "RecordedPublication",
    "RecordedRound",
    "RecordedRun",
    "RecordedVote",
    "Recording",
    "Recovered",
    "Restored",
    "RoundCase",
    "RoundCell",
    "SqliteJournal",
    "Step",
    "TapeGap",
    "Verified",
    "VoteCount",
    "backup",
    "recorded_rounds",
    "recover_into",
    "restore",
    "runs_of",
]
