"""Strategies that follow a trend: each a pure function from the past of one symbol to an opinion.

None means that the past is too short to have one.
"""

import math

from openoutcry.firm.strategies.past import Opinion, Past, deviation, mean, opinion, smoothed


def momentum(past: Past, *, lookback: int = 126, skip: int = 5) -> Opinion | None:
    """Follow the return of the last half year, measured in its own standard deviations.

    The newest `skip` days are left out, since the very short term tends to turn back.
    """
    if len(past) <= lookback:
        return None
    returns = past.returns[-lookback : len(past) - skip]
    gain = math.fsum(returns)
    noise = deviation(returns) * math.sqrt(len(returns))
    score = math.tanh(gain / noise) if noise > 0 else 0.0
    return opinion(score, 0.4 + 0.5 * abs(score), f"{gain:+.1%} (log) in {lookback - skip} days")


def crossover(past: Past, *, fast: int = 50, slow: int = 200) -> Opinion | None:
    """Be long while the fast moving average is above the slow one; full size when they are 5 % apart."""
    closes = past.closes
    if len(closes) < slow:
        return None
    gap = mean(closes[-fast:]) / mean(closes[-slow:]) - 1
    score = max(-1.0, min(1.0, gap / 0.05))
    return opinion(score, 0.5 + 0.3 * abs(score), f"{fast}-day mean {gap:+.1%} from the {slow}-day mean")


def breakout(past: Past, *, window: int = 55) -> Opinion | None:
    """Follow the edge of the channel (highest high, lowest low) that was touched more recently."""
    if len(past) < window:
        return None
    highs, lows = past.highs[-window:][::-1], past.lows[-window:][::-1]
    since_high, since_low = highs.index(max(highs)), lows.index(min(lows))
    score = (since_low - since_high) / window
    text = f"{window}-day high {since_high} days ago, low {since_low} days ago"
    return opinion(score, 0.5 + 0.4 * abs(score), text)


def steady_trend(past: Past, *, span: int = 40, target: float = 0.20) -> Opinion | None:
    """Follow the smoothed daily return, at the size at which a year's volatility would be `target`."""
    if len(past) <= 3 * span:
        return None
    returns = past.returns[-3 * span :]
    drift = smoothed(returns, span)
    volatility = deviation(returns[-span:]) * math.sqrt(252)
    if volatility <= 0:
        return opinion(0.0, 0.0, "nothing moves")
    size = min(1.0, target / volatility)
    strength = math.tanh(drift * math.sqrt(252) * 12 / volatility)
    text = f"drift {drift * 252:+.0%} a year, volatility {volatility:.0%}"
    return opinion(size * strength, 0.4 + 0.4 * abs(strength), text)


def convergence(past: Past, *, fast: int = 12, slow: int = 26, trigger: int = 9) -> Opinion | None:
    """Trade the convergence and divergence of two moving averages (MACD), in units of daily noise."""
    reach = 4 * slow
    closes = past.closes[-reach:]
    if len(closes) < reach:
        return None
    fast_weight, slow_weight, trigger_weight = 2 / (fast + 1), 2 / (slow + 1), 2 / (trigger + 1)
    quick = long = closes[0]
    line = smooth_line = 0.0
    for close in closes[1:]:
        quick += fast_weight * (close - quick)
        long += slow_weight * (close - long)
        line = quick - long
        smooth_line += trigger_weight * (line - smooth_line)
    noise = deviation(past.returns[-slow:]) * closes[-1]
    score = math.tanh((line - smooth_line) / noise) if noise > 0 else 0.0
    text = f"MACD({fast},{slow},{trigger}) {line - smooth_line:+.3f}"
    return opinion(score, 0.4 + 0.3 * abs(score), text)


def accumulation(past: Past, *, window: int = 60) -> Opinion | None:
    """Follow the volume: shares traded on rising days less those on falling days, as a share of all (OBV)."""
    if len(past) <= window:
        return None
    closes, volumes = past.closes[-window - 1 :], past.volumes[-window:]
    days = zip(closes, closes[1:], volumes, strict=False)
    balance = sum(volume if now > then else -volume if now < then else 0.0 for then, now, volume in days)
    total = sum(volumes)
    part = balance / total if total > 0 else 0.0
    return opinion(
        part * 4, 0.4 + abs(part), f"rising less falling days: {part:+.0%} of {window} days' volume"
    )
