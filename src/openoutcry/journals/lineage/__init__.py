"""Explaining what a journal has: from any event back to its causes, and on to what came of it."""

from openoutcry.journals.lineage.explanation import (
    Explanation,
    HeldFill,
    RoundCase,
    Step,
    VoteCount,
)
from openoutcry.journals.lineage.lineage import Indexed, Lineage

__all__ = ["Explanation", "HeldFill", "Indexed", "Lineage", "RoundCase", "Step", "VoteCount"]
