"""A recorded day again, whether its agents would do the same; and backtests: days without a record."""

from openoutcry.replay.backtest import Backtested, Buried, backtest
from openoutcry.replay.comparing import Difference, FieldDifference, Hashes
from openoutcry.replay.feed import Contents
from openoutcry.replay.outcome import DecisionChange, Effects
from openoutcry.replay.process import replay
from openoutcry.replay.replayed import Replayed, ReplayedLife

__all__ = [
    "Backtested",
    "Buried",
    "Contents",
    "DecisionChange",
    "Difference",
    "Effects",
    "FieldDifference",
    "Hashes",
    "Replayed",
    "ReplayedLife",
    "backtest",
    "replay",
]
