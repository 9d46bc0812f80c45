"""Runs: stretches of a desk's journal that are numbered without a break, so that positions can be compared.

A desk exports its journal by positions. After a power cut, or from a backup, a journal may lack its newest
entries, and gives their positions to others: then a new run begins, from where the two are the same. What
is exported carries the name of its run, and whoever imports goes by it::

    run 0     1 ─────────────── 150 ─────── 200      exported, and lost in the journal behind 150
    run 1                       150 ─────── 163 ──▶  begins behind 150

Pure.
"""

from dataclasses import dataclass, replace
from typing import Final, Self

COPY: Final = "copy:"
"""Before the name of a run: what is to be committed there, and is kept by the engine before that."""
VOID: Final = "void:"
"""The same: what takes a copy back, since it was refused after all."""


def is_beside(name: str) -> bool:
    """Return True if a group of this name stands between those of a run, and is none of them."""
    return name.startswith((COPY, VOID))


ALL: Final = 10**18
"""Above every position."""


@dataclass(frozen=True, slots=True)
class Run:
    """A run of one journal, in one log.

    Attributes:
        origin: The journal's own name.
        epoch: Which of its runs it is.
        begins: Who has nothing of the journal begins behind this position.
        kept: What stood up to here was deleted: nobody can be given it any more. 0: nothing was.
        same: Up to here the positions are those of the run before.
        same_as_all: Up to here they are those of all runs before.

    """

    origin: str
    epoch: int = 0
    begins: int = 0
    kept: int = 0
    same: int = ALL
    same_as_all: int = ALL

    @property
    def name(self) -> str:
        """What groups carry."""
        numbers = (self.epoch, self.begins, self.kept, self.same, self.same_as_all)
        return ":".join((self.origin, *map(str, numbers)))

    @classmethod
    def read(cls, name: str) -> Self | None:
        """Return the run of this name; None if it is none."""
        origin, *numbers = name.rsplit(":", 5)
        if len(numbers) != 5 or not all(number.isdecimal() and number.isascii() for number in numbers):
            return None
        return cls(origin, *map(int, numbers))

    def goes_on_at(self, before: Self | None, position: int) -> int:
        """Return up to where we have this run, having the run `before` up to a position."""
        if before is None or before.origin != self.origin:
            return self.begins
        if before.epoch == self.epoch:
            return position
        return min(position, self.same if before.epoch + 1 == self.epoch else self.same_as_all)

    def without_end(self, epoch: int, same: int) -> Self:
        """Return the run that follows when everything behind a position was lost."""
        kept, as_all = min(self.kept, same), min(self.same_as_all, same)
        return replace(self, epoch=epoch, kept=kept, same=same, same_as_all=as_all)

    def without_beginning(self, kept: int) -> Self:
        """Return the run that follows when what stood up to a position was deleted."""
        return replace(self, epoch=self.epoch + 1, kept=kept, same=ALL)
