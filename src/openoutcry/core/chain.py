"""Chains: whether a group of another desk's entries is the next one. Pure.

A desk exports its journal in groups, each from behind one position to another. In a log they form a chain: a
group begins where the one before it ends. Repeats are common (an answer was lost, or a crash came between)
and
harmless; what must not happen in silence is that something between two groups is missing::

    we have          |=========|
    next                       |------|       take it
    overlapping          |------------|       take what we do not have of it
    old                |-------|              let it go
    gap                            |------|   something is missing: ask the desk to export it again
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

FORMER_MOST: Final = 8
"""So many journals that a desk had before are remembered, the newest of them."""


class Verdict(StrEnum):
    """What a group is, beside what we have."""

    NEXT = "next"
    """It holds something that we do not have, and nothing is missing before it."""
    OLD = "old"
    """We have all of it, or it is of a journal that the desk had before."""
    GAP = "gap"
    """Something between what we have and this group is missing."""
    OTHER = "other"
    """The desk has another journal now: `begin` with it, and judge again."""


@dataclass(slots=True)
class Chain:
    """What we have of one desk, in one log.

    Attributes:
        journal: The journal that it is of; empty before the first group.
        position: We have everything up to this position of it.
        former: The journals that the desk had before, the newest last.

    """

    journal: str = ""
    position: int = 0
    former: tuple[str, ...] = ()

    def judge(self, journal: str, after: int, upto: int) -> Verdict:
        """Return what a group is that holds everything from behind `after` to `upto` of a journal."""
        if journal in self.former:
            return Verdict.OLD
        if journal != self.journal:
            return Verdict.OTHER
        if after > self.position:
            return Verdict.GAP
        return Verdict.NEXT if upto > self.position else Verdict.OLD

    def begin(self, journal: str) -> None:
        """Begin with the first journal, or with another one than before: nothing is there of it yet."""
        if self.journal:
            self.former = (*self.former, self.journal)[-FORMER_MOST:]
        self.journal = journal
        self.position = 0

    def take(self, upto: int) -> None:
        """Note that everything up to a position is there. Raises `ValueError` if more was there already."""
        if upto < self.position:
            raise ValueError(f"position {upto} is before {self.position}, which was reached")
        self.position = upto
