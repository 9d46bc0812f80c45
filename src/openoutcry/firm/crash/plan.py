"""Where the firm is killed, drawn from a seed: the same seed kills at the same places."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from openoutcry.errors import ConfigError

ANYWHEN, WAKING = "anywhen", "waking"
"""Kills by the clock: at a random moment of a day, and while the firm is restoring its state."""

PLACES: Mapping[str, str] = MappingProxyType(
    {
        "executed": "the broker had filled orders, and no fill event was written",
        "asked": "an order was on the line to the broker, unanswered",
        "vote": "in the middle of a vote",
        "fill": "one fill was written, the others were not",
        "decision": "the CIO had decided, and nobody had acted on it",
        "accepted": "the broker had an order, and the firm did not know",
        ANYWHEN: "at no particular moment",
        "submitting": "an order was written, and not sent to the broker",
        "bars": "the day's bars were written, and nobody had heard them",
        WAKING: "while it was getting its memory back",
        "verdict": "Compliance had passed a trade, and no order was written",
    }
)
"""Every place, and what it means to be killed there, most instructive first."""

EARLIEST_DAY = 5
DELAY_MS_MAX = 60
VOTES_MAX = 12


@dataclass(frozen=True, slots=True)
class Kill:
    """One death of the firm.

    Attributes:
        place: One of `PLACES`.
        day: The first trading day (from 0) on which it may happen.
        nth: At which time that the place is reached from then on.
        delay_ms: For a kill by the clock, how long after the start of the day or of the firm.

    """

    place: str
    day: int
    nth: int = 1
    delay_ms: int = 0

    @property
    def by_the_clock(self) -> bool:
        """Whether it comes at a time, not at a place."""
        return self.place in (ANYWHEN, WAKING)


def draw_kills(seed: int, count: int, days: int) -> tuple[Kill, ...]:
    """Draw so many kills, in the order in which they happen, over the first nine tenths of the days.

    Each place comes once before any comes twice. Raises `ConfigError` for a count below 1, and for fewer than
    10 days per kill: it may take some days to reach a place.
    """
    if count < 1:
        raise ConfigError(f"kills={count}: at least 1 is needed, or there is nothing to show")
    if days < 10 * count + EARLIEST_DAY:
        raise ConfigError(
            f"days={days} with {count} kills: at least {10 * count + EARLIEST_DAY} are needed; "
            "ask for more days"
        )
    dice = random.Random(seed)  # noqa: S311 - a script for a play, not a secret
    span = (days * 9 // 10 - EARLIEST_DAY) / count
    places = [place for _ in range(-(-count // len(PLACES))) for place in PLACES][:count]
    dice.shuffle(places)
    while places[0] == WAKING:  # before the first death there is no state to restore
        places.append(places.pop(0))
    return tuple(
        _kill(dice, place, EARLIEST_DAY + int(span * (number + dice.random() * 0.8)))
        for number, place in enumerate(places)
    )


def _kill(dice: random.Random, place: str, day: int) -> Kill:
    nth = dice.randint(2, VOTES_MAX) if place == "vote" else 1
    delay_ms = dice.randint(0, DELAY_MS_MAX) if place in (ANYWHEN, WAKING) else 0
    return Kill(place, day, nth, delay_ms)
