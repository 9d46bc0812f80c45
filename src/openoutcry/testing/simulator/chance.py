"""Random decisions that follow from a seed and a name alone, so that a run can be repeated."""

import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Chance:
    """A stream of random decisions.

    Streams of different names are independent: what one part of a run decides does not depend on how often
    another part has asked.

    Args:
        seed: The seed of the run.
        name: The name of the stream.

    Attributes:
        seed: The seed of the run.
        name: The name of the stream.

    """

    def __init__(self, seed: int, name: str = "") -> None:
        self.seed = seed
        self.name = name
        self._random = random.Random(f"{seed}/{name}")  # noqa: S311 - decisions of a simulation, no secrets

    def stream(self, name: str) -> "Chance":
        """Return the stream of that name below this one, each time from its beginning."""
        return Chance(self.seed, f"{self.name}/{name}")

    def happens(self, probability: float) -> bool:
        """Return True with this probability."""
        return self._random.random() < probability

    def share(self) -> float:
        """Return a number from 0 to 1."""
        return self._random.random()

    def between(self, low: float, high: float) -> float:
        """Return a number from `low` to `high`."""
        return low + (high - low) * self._random.random()

    def whole(self, low: int, high: int) -> int:
        """Return a whole number from `low` to `high`, both included."""
        return low + int(self._random.random() * (high - low + 1))

    def one_of(self, choices: Sequence[T]) -> T:
        """Return one of the choices."""
        return choices[int(self._random.random() * len(choices))]

    def shuffle(self, items: list[T]) -> None:
        """Put a list into a random order."""
        self._random.shuffle(items)
