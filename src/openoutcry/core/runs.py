"""Runs: stretches of a desk's journal that are numbered without a break, so that positions can be compared.

A desk exports its journal by positions. After a power cut, or from a backup, a journal may lack its newest
entries, and gives their positions to others: then a new run begins, from where the two are the same. What
is exported carries the name of its run, and whoever imports goes by it::

    run 0     1 ─────────────── 150 ─────── 200      exported, and lost in the journal behind 150
    run 1                       150 ─────── 163 ──▶  begins behind 150

Pure.
"""

from dataclasses import dataclass
from typing import Final, Self

COPY: Final = "copy:"
"""Before the name of a run: what is to be committed there, and is kept by the engine before that."""
VOID: Final = "void:"
"""The same: what takes a copy back, since it was refused after all."""


def is_beside(name: str) -> bool:
    """Return True if a group of this name stands between those of a run, and is none of them."""
    return name.startswith((COPY, VOID))


@dataclass(frozen=True, slots=True)
class Run:
    """A run of one journal, in one log.

    Attributes:
        origin: The journal's own name: the runs of one journal agree up to where the later one begins.
        epoch: Which of its runs it is.
        begins: It is exported from behind this position.
        kept: What stood up to here is gone for good: nobody can be given it any more. 0: nothing is.

    """

    origin: str
    epoch: int = 0
    begins: int = 0
    kept: int = 0

    @property
    def name(self) -> str:
        """What groups carry."""
        return f"{self.origin}:{self.epoch}:{self.begins}:{self.kept}"

    @classmethod
    def read(cls, name: str) -> Self | None:
        """Return the run of this name; None if it is none."""
        origin, *numbers = name.rsplit(":", 3)
        if len(numbers) != 3 or not all(number.isdecimal() and number.isascii() for number in numbers):
            return None
        epoch, begins, kept = map(int, numbers)
        return cls(origin, epoch, begins, kept)

    def goes_on_at(self, before: Self | None, position: int) -> int:
        """Return up to where we have this run, having the run `before` up to a position."""
        if before is None or before.origin != self.origin:
            return self.begins
        return min(position, self.begins)
