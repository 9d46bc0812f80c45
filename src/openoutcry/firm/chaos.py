"""What goes wrong and when, drawn from a seed: the same seed brings the same trouble."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from openoutcry.errors import ConfigError

DAYS_MIN = 20
"""The fewest trading days in which everything has room to happen."""
DAYS_OF_TROUBLE_MAX = 260
"""Trouble begins and ends within the first year or so: long enough to trade, short enough to watch."""
AFTERMATH_DAYS = 5
"""For how many days the market continues after the kill switch, to show that the firm no longer trades."""


class Trouble(StrEnum):
    """The ways in which an agent misbehaves."""

    HANG = "hang"
    """Its handler never returns by itself."""
    RAISE = "raise"
    """Its handler raises."""
    FLOOD = "flood"
    """It publishes ticks of a symbol that is not traded, far faster than the firm can handle them."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One agent's trouble, on the trading days `first_day` to `last_day` (from 0, both included)."""

    agent: str
    trouble: Trouble
    first_day: int
    last_day: int

    def holds(self, day: int) -> bool:
        """Return True if it goes wrong on that day."""
        return self.first_day <= day <= self.last_day


@dataclass(frozen=True, slots=True)
class ChaosPlan:
    """Everything that goes wrong. The flood comes last, and the kill switch in the middle of it."""

    seed: int
    faults: tuple[Fault, ...]
    kill_day: int

    def fault_of(self, agent: str) -> Fault | None:
        """Return the fault of an agent, if it has one. No agent has two."""
        return next((fault for fault in self.faults if fault.agent == agent), None)

    @property
    def days(self) -> int:
        """How many trading days the run takes, including those after the kill switch."""
        return self.kill_day + 1 + AFTERMATH_DAYS


def draw_plan(seed: int, agents: Sequence[str], days: int) -> ChaosPlan:
    """Draw who fails, how and when, within `days` trading days. The same arguments always give the same plan.

    At most about one agent in seven hangs and as many raise, at least one of each, and one floods: even with
    the fewest agents a quorum stays well. Raises `ConfigError` for fewer than 6 agents or `DAYS_MIN` days.
    """
    if len(agents) < 6:
        raise ConfigError(f"chaos with {len(agents)} agents: at least 6 are needed, so that some stay well")
    if days < DAYS_MIN:
        raise ConfigError(f"days={days} with chaos: at least {DAYS_MIN} are needed; ask for more days")
    dice = random.Random(seed)  # noqa: S311 - a script for a play, not a secret
    horizon = min(days, DAYS_OF_TROUBLE_MAX)
    kill_day = dice.randint(horizon * 3 // 5, horizon - AFTERMATH_DAYS - 2)
    most = max(1, len(agents) // 7)
    hanging, raising = dice.randint(1, most), dice.randint(1, most)
    unlucky = dice.sample(list(agents), hanging + raising + 1)
    faults = [
        _spell(dice, agent, Trouble.HANG if place < hanging else Trouble.RAISE, kill_day)
        for place, agent in enumerate(unlucky[:-1])
    ]
    faults.append(Fault(unlucky[-1], Trouble.FLOOD, kill_day, kill_day))
    return ChaosPlan(seed, tuple(faults), kill_day)


def _spell(dice: random.Random, agent: str, trouble: Trouble, kill_day: int) -> Fault:
    """Draw a spell of up to eight days that begins before the kill day and may last into it."""
    first = dice.randint(2, kill_day - 2)
    return Fault(agent, trouble, first, min(kill_day, first + dice.randint(1, 7)))
