"""Strategies that compare symbols: pure functions from the past of all symbols to an opinion on each.

A symbol is missing from the answer, or None there, if its past is too short to compare.
"""

import math
from collections.abc import Mapping

from openoutcry.firm.strategies.past import Opinion, Past, deviation, mean, opinion

Opinions = dict[str, Opinion | None]


def leadership(pasts: Mapping[str, Past], *, lookback: int = 120) -> Opinions:
    """Be long the strongest of the last `lookback` days and short the weakest, in proportion to the rank."""
    gains = {
        symbol: past.closes[-1] / past.closes[-1 - lookback] - 1
        for symbol, past in pasts.items()
        if len(past) > lookback
    }
    if len(gains) < 2:
        return {}
    ranked = sorted(gains, key=lambda symbol: (gains[symbol], symbol))
    top = len(ranked) - 1
    return {
        symbol: opinion(
            2 * place / top - 1, 0.6, f"rank {top - place + 1} of {top + 1}: {gains[symbol]:+.0%}"
        )
        for place, symbol in enumerate(ranked)
    }


def pairs(pasts: Mapping[str, Past], *, window: int = 60) -> Opinions:
    """Lean against a symbol's distance from the average of the others, in its standard deviations."""
    logs = {
        symbol: [math.log(close) for close in past.closes[-window:]]
        for symbol, past in pasts.items()
        if len(past) >= window
    }
    if len(logs) < 2:
        return {}
    sums = [math.fsum(day) for day in zip(*logs.values(), strict=True)]
    opinions: Opinions = {}
    for symbol, own in logs.items():
        others = len(logs) - 1
        spread = [mine - (total - mine) / others for mine, total in zip(own, sums, strict=True)]
        noise = deviation(spread)
        distance = (spread[-1] - mean(spread)) / noise if noise > 0 else 0.0
        score = -distance / 3 if abs(distance) > 1 else 0.0
        opinions[symbol] = opinion(
            score, 0.3 + 0.15 * min(abs(distance), 3), f"{distance:+.1f} deviations from its peers"
        )
    return opinions
