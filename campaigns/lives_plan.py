"""The plan of a firm's lives, drawn by seed: who is subscribed in each, and what happens to them."""

import random
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from campaigns.lives_events import BROKEN, FILL, NEWEST, NOTE, TRADE

KINDS: Final = ("plain", "restore", "fold", "json", "bytes", "newest")
"""No memory; the short form; only a fold; a fold with saved states of two forms; saved states alone."""
FOLDS: Final = frozenset(("restore", "fold", "json", "bytes"))
SAVES: Final = frozenset(("json", "bytes", "newest"))
_LATER: Final = {
    "plain": ("plain", "fold", "json"),
    "restore": ("restore", "fold", "json"),
    "fold": ("fold", "fold", "bytes"),
    "json": ("json", "json", "bytes"),
    "bytes": ("bytes", "json"),
    "newest": ("newest",),
}
"""What an agent may be in its next life."""
_SETS: Final = ((TRADE,), (NOTE,), (FILL,), (TRADE, NOTE), (TRADE, FILL), (NOTE, FILL), (TRADE, NOTE, FILL))


def first_name(name: str) -> str:
    """Return what an agent was called before it was renamed."""
    return name.rstrip("-")


@dataclass(frozen=True)
class Agent:
    """An agent of one life.

    Attributes:
        name: The name of its subscription.
        types: What it takes.
        kind: What memory it has: one of `KINDS`.
        every: It saves after so many events.
        late: Whether it subscribes on the running bus.
        warns: Whether it begins without what it cannot be given.
        gains: A type that it subscribes to in the middle of the life, if any.
        loses: A type that it gives up then, if any.

    """

    name: str
    types: tuple[str, ...]
    kind: str
    every: int
    late: bool = False
    warns: bool = False
    gains: str | None = None
    loses: str | None = None

    @property
    def types_in_the_end(self) -> tuple[str, ...]:
        """What it takes when the life ends."""
        types = self.types if self.gains is None else (*self.types, self.gains)
        return tuple(t for t in types if t != self.loses)


@dataclass(frozen=True)
class Order:
    """Something that an operator does between two lives.

    Attributes:
        verb: `reassign`, `drop` (a cursor) or `retire` (past the memory of a name).
        name: The subscription.
        new: The new name, for `reassign`.

    """

    verb: str
    name: str
    new: str = ""


@dataclass(frozen=True)
class Plan:
    """One life.

    Attributes:
        number: Which, from 0.
        seed: Draws what it publishes, and when.
        edition: The edition of its event classes.
        agents: Who is there.
        orders: What was done before it.
        reads_all: Whether its classes read what the lives before have written.
        retain: How many entries the journal keeps, if that is limited.
        mended: Whether the handlers handle everything.
        is_last: Whether it ends in peace, with everything handled.
        first: The number of its first event.

    """

    number: int
    seed: int
    edition: int
    agents: tuple[Agent, ...]
    orders: tuple[Order, ...] = ()
    reads_all: bool = True
    retain: int | None = None
    mended: bool = False
    is_last: bool = False
    first: int = 0


@dataclass
class Firm:
    """The agents from life to life.

    Attributes:
        rng: Draws everything.
        lives: How many lives there are.
        agents: Those of the next life.
        away: Those that are away for one life.
        edition: The edition of the classes.
        made: How many there have been.

    """

    rng: random.Random
    lives: int
    agents: list[Agent] = field(default_factory=list)
    away: list[Agent] = field(default_factory=list)
    edition: int = 0
    made: int = 0

    def plans(self, warned: Collection[str]) -> Iterator[Plan]:
        """Yield the plan of each life; those who were `warned` begin without what is missing."""
        rng = self.rng
        retain = rng.choice((None, 5, 20))
        for _ in range(rng.randint(1, 3)):
            self.agents.append(self._new())
        for number in range(self.lives):
            is_last = number == self.lives - 1
            orders = self._between(retain) if number else ()
            if rng.random() < 0.3 and self.edition < NEWEST:
                self.edition += 1
            edition = self.edition
            if not is_last and edition > 0 and rng.random() < 0.15 and not warned:
                edition = edition - 1 if edition > 1 and rng.random() < 0.5 else BROKEN
            yield Plan(
                number=number,
                seed=rng.getrandbits(32),
                edition=edition,
                reads_all=edition == self.edition,
                agents=tuple(self._turned(agent, warned) for agent in list(self.agents)),
                orders=orders,
                retain=retain,
                mended=is_last or rng.random() < 0.5,
                is_last=is_last,
                first=number * 1_000,
            )

    def _new(self) -> Agent:
        rng = self.rng
        self.made += 1
        kind = rng.choice(KINDS)
        return Agent(f"agent{self.made}", rng.choice(_SETS), kind, rng.choice((1, 2, 3, 7, 20)))

    def _turned(self, agent: Agent, warned: Collection[str]) -> Agent:
        """Return an agent as it is in this life, and keep how it will be in the next one."""
        rng = self.rng
        late, warns = rng.random() < 0.3, any(first_name(agent.name) == first_name(name) for name in warned)
        now = replace(agent, late=late, warns=warns, gains=None, loses=None)
        if rng.random() < 0.15:
            spare = [t for t in (TRADE, NOTE, FILL) if t not in now.types]
            now = replace(now, gains=rng.choice(spare) if spare else None)
        elif rng.random() < 0.15 and len(now.types) > 1:
            now = replace(now, loses=rng.choice(now.types))
        later = replace(now, types=now.types_in_the_end, kind=rng.choice(_LATER[now.kind]))
        if rng.random() < 0.1:
            later = replace(later, types=rng.choice(_SETS))
        self.agents[self.agents.index(agent)] = later
        return now

    def _between(self, retain: int | None) -> tuple[Order, ...]:
        """Let agents come and go, and return what an operator does with those that have gone."""
        rng = self.rng
        orders = []
        coming, self.away = self.away, []
        for agent in list(self.agents):
            fate = rng.random()
            if fate < 0.08:
                new = f"{agent.name}-"
                orders.append(Order("reassign", agent.name, new))
                self.agents[self.agents.index(agent)] = replace(agent, name=new)
            elif fate < 0.11:
                orders.append(Order("drop", agent.name))
            elif fate < 0.19 and len(self.agents) > 1:
                self.agents.remove(agent)
                self.away.append(agent)
            elif fate < 0.22 and retain and agent.kind in FOLDS:
                orders.append(Order("retire", agent.name))
        self.agents += coming
        if rng.random() < 0.25:
            self.agents.append(self._new())
        return tuple(orders)
