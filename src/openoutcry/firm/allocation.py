"""The CIO's arithmetic: from the votes of a round to the trade that they ask for. Pure."""

import math
from collections.abc import Iterable
from typing import NamedTuple

from openoutcry.firm.mandate import Mandate
from openoutcry.firm.money import Units


class Ballot(NamedTuple):
    """One vote: strength from -1 (short) to 1 (long), and confidence from 0 to 1."""

    strength: float
    confidence: float


def conviction(ballots: Iterable[Ballot]) -> float:
    """Average the strengths, each with the weight of its confidence; 0 when nobody is confident of anything.

    An agent that is confidently flat pulls toward 0. One that abstained is not among the ballots and pulls
    nowhere. The sums are exact, so that the order in which the ballots came in makes no difference at all.
    """
    cast = list(ballots)
    weight = math.fsum(ballot.confidence for ballot in cast)
    return math.fsum(ballot.strength * ballot.confidence for ballot in cast) / weight if weight > 0 else 0.0


def target_weight(belief: float, mandate: Mandate) -> float:
    """Give the share of equity that a conviction is worth, within the limits for long and short positions."""
    return max(-mandate.short_max, min(mandate.long_max, belief * mandate.conviction_scale))


def wanted_trade(belief: float, held: int, price: Units, equity: Units, mandate: Mandate) -> int:
    """Give the shares to buy (sell if negative) to reach the target; 0 while the position is within the band.

    A target of nothing is always worth the trade, so that no crumbs are left behind.
    """
    if price <= 0 or equity <= 0:
        return -held
    target = round(target_weight(belief, mandate) * equity / price)
    if target != 0 and abs(target - held) * price < mandate.band * equity:
        return 0
    return target - held
