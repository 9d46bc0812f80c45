"""What a strategy may look at: the bars of one symbol up to today, and none after."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import NamedTuple

from openoutcry.firm.bars import Bar

DEPTH = 300
"""At least so many of the newest bars are kept."""


@dataclass(slots=True, eq=False)
class Past:
    """The bars of one symbol so far, in columns, newest last. `add` is called once per trading day."""

    day: date = date.min
    highs: list[float] = field(default_factory=list)
    lows: list[float] = field(default_factory=list)
    closes: list[float] = field(default_factory=list)
    volumes: list[float] = field(default_factory=list)
    returns: list[float] = field(default_factory=list)
    """The logarithm of each close over the one before; 0 for the first."""

    def __len__(self) -> int:
        return len(self.closes)

    def add(self, bar: Bar) -> None:
        """Add the bar of a day that has just closed; now and then, drop what is older than `DEPTH` bars."""
        self.day = bar.day
        self.returns.append(math.log(bar.close / self.closes[-1]) if self.closes else 0.0)
        self.highs.append(bar.high)
        self.lows.append(bar.low)
        self.closes.append(bar.close)
        self.volumes.append(float(bar.volume))
        if len(self.closes) > 2 * DEPTH:
            for column in (self.highs, self.lows, self.closes, self.volumes, self.returns):
                del column[:-DEPTH]


class Opinion(NamedTuple):
    """What a strategy thinks of a symbol after today's close.

    `score` runs from -1 (as short as may be) to 1 (as long as may be), 0 is flat; `confidence` from 0 to 1.
    """

    score: float
    confidence: float
    rationale: str


def opinion(score: float, confidence: float, rationale: str) -> Opinion:
    """Make an opinion, with score and confidence cut to their ranges."""
    return Opinion(max(-1.0, min(1.0, score)), max(0.0, min(1.0, confidence)), rationale)


def mean(values: Sequence[float]) -> float:
    """Return the average of at least one value."""
    return math.fsum(values) / len(values)


def deviation(values: Sequence[float]) -> float:
    """Return the standard deviation of at least two values (divided by n - 1)."""
    centre = mean(values)
    return math.sqrt(math.fsum((value - centre) ** 2 for value in values) / (len(values) - 1))


def smoothed(values: Sequence[float], span: int) -> float:
    """Return the exponentially weighted mean, with weight 2 / (span + 1) on the newest value."""
    weight = 2 / (span + 1)
    level = values[0]
    for value in values[1:]:
        level += weight * (value - level)
    return level
