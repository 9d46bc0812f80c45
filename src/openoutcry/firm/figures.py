"""The figures of a curve of daily equity: return, risk, drawdown."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from openoutcry.firm.money import Units

TRADING_DAYS_PER_YEAR = 252


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of one equity curve. Rates are fractions: 0.05 is five percent."""

    start: Units
    """Equity before the first day."""
    end: Units
    """Equity at the last close."""
    total_return: float
    """Gain over the whole time."""
    annual_return: float
    """The yearly rate that compounds to `total_return` over the calendar time of the curve."""
    volatility: float
    """Standard deviation of the daily returns, scaled to a year of 252 days."""
    sharpe: float
    """Mean daily return over its standard deviation, for a year; cash earns nothing. 0 for a flat curve."""
    max_drawdown: float
    """The deepest fall from a peak, as a positive fraction of the peak."""
    longest_drawdown_days: int
    """The most trading days in a row below an earlier peak."""

    @property
    def profit(self) -> Units:
        """Money made."""
        return self.end - self.start


def figures(days: Sequence[date], equity: Sequence[Units], start: Units) -> Figures:
    """Return the figures of a curve with one value per day that began with `start`.

    Raises `ValueError` if the curve is empty, the lengths differ, or `start` is not positive.
    """
    if not equity or len(days) != len(equity) or start <= 0:
        raise ValueError(
            f"{len(days)} days, {len(equity)} values, start {start}: give one value per day, start above 0"
        )
    returns = daily_returns(equity, start)
    mean = math.fsum(returns) / len(returns)
    variance = math.fsum((value - mean) ** 2 for value in returns) / max(1, len(returns) - 1)
    deviation = math.sqrt(variance)
    growth = equity[-1] / start
    years = max((days[-1] - days[0]).days, 1) / 365.25
    depths = drawdowns(equity, start)
    return Figures(
        start=start,
        end=equity[-1],
        total_return=growth - 1,
        annual_return=growth ** (1 / years) - 1 if growth > 0 else -1.0,
        volatility=deviation * math.sqrt(TRADING_DAYS_PER_YEAR),
        sharpe=mean / deviation * math.sqrt(TRADING_DAYS_PER_YEAR) if deviation > 0 else 0.0,
        max_drawdown=max(depths),
        longest_drawdown_days=_longest_run(depths),
    )


def daily_returns(equity: Sequence[Units], start: Units) -> list[float]:
    """Return the gain of each day over the day before, the first over `start`."""
    before = [start, *equity[:-1]]
    return [now / then - 1 for then, now in zip(before, equity, strict=True)]


def drawdowns(equity: Sequence[Units], start: Units) -> list[float]:
    """Return for each day how far it is below the highest value so far, as a fraction of that value."""
    peak, depths = start, []
    for value in equity:
        peak = max(peak, value)
        depths.append(1 - value / peak)
    return depths


def _longest_run(depths: Sequence[float]) -> int:
    longest = run = 0
    for depth in depths:
        run = run + 1 if depth > 0 else 0
        longest = max(longest, run)
    return longest
