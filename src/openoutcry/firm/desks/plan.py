"""Which desk is killed where, and when the node is, drawn from a seed."""

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from openoutcry.firm.crash.plan import ANYWHEN, WAKING, Kill, draw_kills
from openoutcry.firm.desks.words import DESK, DESKS, FLOOR, NODE, STREET

WHERE: Final[Mapping[str, str]] = MappingProxyType(
    {
        "bars": FLOOR,
        "vote": FLOOR,
        "decision": FLOOR,
        "verdict": DESK,
        "submitting": STREET,
        "asked": STREET,
        "accepted": STREET,
        "executed": STREET,
        "fill": STREET,
    }
)
"""At which desk each place is."""
NODE_SHARE: Final = 4
"""One kill in so many is of the node."""
DOWN_MS: Final = (100, 1_500)
"""For how long the node stays away."""


@dataclass(frozen=True, slots=True)
class DeskKill:
    """One death of a desk, or of the node.

    Attributes:
        who: Which desk, or `node`.
        kill: Where and when.
        down_ms: For how long the node stays away.

    """

    who: str
    kill: Kill
    down_ms: int = 0


def draw(seed: int, count: int, days: int) -> tuple[DeskKill, ...]:
    """Draw so many kills, in the order in which they happen. Raises `ConfigError` as `draw_kills` does."""
    kills = draw_kills(seed, count, days)
    dice = random.Random(f"desks {seed}")  # noqa: S311 - a script for a play, not a secret
    of_node = _of_node(dice, kills)
    drawn: list[DeskKill] = []
    for number, kill in enumerate(kills):
        if number in of_node:
            here = replace(kill, place=ANYWHEN, nth=1, delay_ms=dice.randint(0, 60))
            drawn.append(DeskKill(NODE, here, dice.randint(*DOWN_MS)))
        elif kill.place == WAKING:  # whoever was killed last is waking
            drawn.append(DeskKill(drawn[-1].who, kill))
        else:
            drawn.append(DeskKill(WHERE.get(kill.place) or dice.choice(list(DESKS)), kill))
    return tuple(drawn)


def _of_node(dice: random.Random, kills: tuple[Kill, ...]) -> set[int]:
    """Choose which kills are of the node: none that a desk is waking after, or in."""
    free = [
        number
        for number, kill in enumerate(kills)
        if kill.place != WAKING and (number + 1 == len(kills) or kills[number + 1].place != WAKING)
    ]
    return set(dice.sample(free, min(len(free), max(1, len(kills) // NODE_SHARE))))
