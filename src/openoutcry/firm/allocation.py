"""The CIO's arithmetic: from the votes of a round to the trade that they call for. Pure."""

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
    """Return the average of the strengths, weighted by confidence; 0 if all confidences are 0.

    An agent that is confidently flat pulls toward 0. One that abstained is not among the ballots and does not
    pull. The sums are exact, so the order of the ballots makes no difference.
    """
    cast = list(ballots)
    weight = math.fsum(ballot.confidence for ballot in cast)
    return math.fsum(ballot.strength * ballot.confidence for ballot in cast) / weight if weight > 0 else 0.0


def target_weight(belief: float, mandate: Mandate) -> float:
    """Return the share of equity for a conviction, within the limits for long and short positions."""
    return max(-mandate.short_max, min(mandate.long_max, belief * mandate.conviction_scale))


def wanted_trade(belief: float, held: int, price: Units, equity: Units, mandate: Mandate) -> int:
    """Return the shares to buy (sell if negative) to reach the target; 0 if the position is in the band.

    A target of 0 is always traded, so that no small remainder is left.
    """
    if price <= 0 or equity <= 0:
        return -held
    target = round(target_weight(belief, mandate) * equity / price)
    if target != 0 and abs(target - held) * price < mandate.band * equity:
        return 0
    return target - held
