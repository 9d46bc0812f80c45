"""The commands on a journal. Those that only read need no lock; changes go through the running bus."""

from openoutcry.cli.journal.anchoring import anchor
from openoutcry.cli.journal.backing_up import backup, restore
from openoutcry.cli.journal.cursors import cursors
from openoutcry.cli.journal.explaining import explain, index
from openoutcry.cli.journal.exporting import export
from openoutcry.cli.journal.halts import halts
from openoutcry.cli.journal.letters import dlq
from openoutcry.cli.journal.log import history, tail
from openoutcry.cli.journal.pending import pending
from openoutcry.cli.journal.recovering import recover
from openoutcry.cli.journal.rounds import rounds
from openoutcry.cli.journal.stats import stats
from openoutcry.cli.journal.upkeep import retire, vacuum
from openoutcry.cli.journal.verifying import verify

__all__ = [
    "anchor",
    "backup",
    "cursors",
    "dlq",
    "explain",
    "export",
    "halts",
    "history",
    "index",
    "pending",
    "recover",
    "restore",
    "retire",
    "rounds",
    "stats",
    "tail",
    "vacuum",
    "verify",
]
