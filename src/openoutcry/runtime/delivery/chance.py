"""Chance: random numbers that come out the same when a day is run again.

Each call of a handler draws from a generator of its own, seeded by the bus's seed, the subscription's name
and the id of the event. So what an agent draws depends neither on what others have drawn nor on what it drew
for earlier events: a replay that begins in the middle of a day draws the same, and so does a what-if.
"""

import random
from typing import Any, Final

from openoutcry.errors import ConfigError
from openoutcry.runtime.delivery.causation import current

_SEED_BITS: Final = 53
"""So many bits are exact in every JSON reader."""


class Chance(random.Random):
    """A `random.Random` that draws from the generator of the current call.

    Outside of handlers, and in what a handler has started and that outlives its call, it draws from one that
    the whole program shares.

    Attributes:
        first_seed: What all its generators are seeded by.
        jitter: A generator apart, for what the bus itself draws: no draw of an agent depends on that.

    """

    def __init__(self, seed: int | None) -> None:
        super().__init__()
        self.first_seed: int = random.SystemRandom().getrandbits(_SEED_BITS) if seed is None else seed
        self.jitter: random.Random = self._made("jitter")
        self._shared = self._made("")

    def _made(self, name: str) -> random.Random:
        return random.Random(f"{self.first_seed}:{name}")  # noqa: S311 - to be drawn again

    def _of_call(self) -> random.Random:
        who = current.get()
        found = None if who is None else who.chance(self._made)
        return self._shared if found is None else found

    def random(self) -> float:
        """Return the next number of the current call, from 0.0 to below 1.0."""
        return self._of_call().random()

    def getrandbits(self, k: int, /) -> int:
        """Return an integer of so many random bits, of the current call."""
        return self._of_call().getrandbits(k)

    def gauss(self, mu: float = 0.0, sigma: float = 1.0) -> float:
        """Return a number from a Gaussian distribution, of the current call."""
        return self._of_call().gauss(mu, sigma)

    def seed(self, a: Any = None, version: int = 2) -> None:
        """Refuse: the seed is the bus's, and stands in its journal."""
        if hasattr(self, "first_seed"):
            raise ConfigError(
                f"chance.seed({a!r}): the seed of a bus is given when it is made, so that a replay knows it: "
                "EventBus(seed=...)"
            )
        super().seed(a, version)

    def getstate(self) -> tuple[Any, ...]:
        """Return the state of the generator of the current call."""
        return self._of_call().getstate()

    def setstate(self, state: tuple[Any, ...]) -> None:
        """Set the generator of the current call to a state that `getstate` has returned."""
        self._of_call().setstate(state)
