"""A recorded day again: whether its agents would do the same, and what if one of them were not there."""

from openoutcry.replay.comparing import Difference, FieldDifference, Hashes
from openoutcry.replay.engine import Replayed
from openoutcry.replay.outcome import DecisionChange, Effects
from openoutcry.replay.process import replay

__all__ = ["DecisionChange", "Difference", "Effects", "FieldDifference", "Hashes", "Replayed", "replay"]
