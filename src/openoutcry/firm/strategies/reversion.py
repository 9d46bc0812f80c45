"""Strategies that bet on a reversal: each a pure function from the past of one symbol to an opinion.

None means that the past is too short to have one.
"""

import math
from itertools import pairwise

from openoutcry.firm.strategies.past import Opinion, Past, deviation, mean, opinion


def stretch(past: Past, *, window: int = 20) -> Opinion | None:
    """Trade against the distance from the mean, in standard deviations; full size at 2.5 of them."""
    closes = past.closes[-window:]
    if len(closes) < window:
        return None
    spread = deviation(closes)
    distance = (closes[-1] - mean(closes)) / spread if spread > 0 else 0.0
    score = -distance / 2.5 if abs(distance) > 1 else 0.0
    text = f"{distance:+.1f} deviations from the {window}-day mean"
    return opinion(score, 0.3 + 0.2 * min(abs(distance), 3), text)


def relative_index(past: Past, *, window: int = 14, low: float = 30, high: float = 70) -> Opinion | None:
    """Buy below `low` and sell above `high` of the relative strength index (RSI, with plain means)."""
    closes = past.closes[-window - 1 :]
    if len(closes) <= window:
        return None
    moves = [now - then for then, now in pairwise(closes)]
    gains, losses = sum(move for move in moves if move > 0), -sum(move for move in moves if move < 0)
    index = 100 * gains / (gains + losses) if gains + losses > 0 else 50.0
    if index < low:
        score = (low - index) / low + 0.3
    elif index > high:
        score = (high - index) / (100 - high) - 0.3
    else:
        score = 0.0
    return opinion(score, 0.4 + 0.4 * abs(score), f"RSI({window}) {index:.0f}")


def exhaustion(past: Past, *, window: int = 60) -> Opinion | None:
    """Buy on a day that fell far on heavy volume, and on the two days after it: sellers may be done."""
    if len(past) < window + 4:
        return None
    returns = past.returns[-window - 3 :]
    noise, volume = deviation(returns[:-3]), mean(past.volumes[-window - 3 : -3])
    worst = 0.0
    for day in (-3, -2, -1):
        if noise > 0 and past.volumes[day] > 1.5 * volume:
            worst = min(worst, returns[day] / noise)
    score = min(1.0, -worst / 4) if worst < -1.5 else 0.0
    return opinion(score, 0.3 + 0.4 * score, f"worst heavy day {worst:+.1f} deviations")


def calm(past: Past, *, fast: int = 20, slow: int = 200) -> Opinion | None:
    """Hold while the market is calmer than usual, and step aside in storms."""
    if len(past) <= slow:
        return None
    returns = past.returns[-slow:]
    usual = deviation(returns)
    ratio = deviation(returns[-fast:]) / usual if usual > 0 else 1.0
    score = math.tanh(2 * (1.1 - ratio))
    return opinion(score if score > 0 else score / 3, 0.5, f"volatility {ratio:.2f} times the usual")
