"""Which chains of a journal become traces: a chain is gathered until it is quiet, and kept or dropped whole.

A chain with a fill, an alert, a kill switch or a dead letter is always kept, of the others a share, by the
hash of their id. What comes after a chain was quiet is a part of its own; if that is what makes the chain
worth keeping, what was dropped is read once more.
"""

from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from openoutcry.events import RECORDS
from openoutcry.observers.spans import TELLING, Known, Part, is_kept, put, trace_id
from openoutcry.observers.steps import Step, step_of, step_of_letter
from openoutcry.ports import BuriedEvent, Stored

STEPS_MOST: Final = 50_000
"""How many events are held at most; the chain that has been quiet for longest ends then."""
PART_MOST: Final = 2_000
"""How many events of one chain are held at most."""
CLOSED_MOST: Final = 100_000
SAVED_MOST: Final = 10_000
"""Of how many ended chains it is known where they were, and how many of these outlive the process."""
LETTERS_MOST: Final = 10_000

Reread = Callable[[str, int, int], list[Stored]]


class Closed(msgspec.Struct, frozen=True, array_like=True):
    """A chain that was quiet: its events were at these positions, and it was kept or dropped."""

    first: int
    last: int
    kept: bool


class Place(msgspec.Struct):
    """How far a journal was read, so that another process can go on.

    Attributes:
        after: Everything up to this position is done.
        letter_after: Every dead letter up to this id is done.
        closed: The chains that ended last, by the last 64 bits of their trace's id.

    """

    after: int = 0
    letter_after: int = 0
    closed: dict[int, Closed] = {}


class _Open(msgspec.Struct):
    """A chain that is not quiet yet."""

    name: str
    first: int
    seen_ns: int
    kept: bool
    steps: list[Step]
    letters: list[tuple[Step, BuriedEvent]]


class Chains:
    """The chains of one journal.

    Args:
        share: Of how many chains spans are made, from 0 to 1, apart from those that are always kept.
        linger_ns: For how long a chain must be quiet.
        reread: Returns the entries of a chain from one position to another.
        place: Where to go on.

    Attributes:
        known: What was made into spans.

    """

    def __init__(self, share: float, linger_ns: int, reread: Reread, place: Place) -> None:
        self.known: Known = Known()
        self._share = share
        self._linger_ns = linger_ns
        self._reread = reread
        self._open: dict[int, _Open] = {}
        self._closed = dict(place.closed)
        self._read_upto = place.after
        self._letters_upto = place.letter_after
        self._letters_to_come: dict[int, list[BuriedEvent]] = {}
        self._count = 0
        self._ended: list[Part] = []

    @property
    def letters_upto(self) -> int:
        """The id of the last dead letter that was added."""
        return self._letters_upto

    def add(self, page: Iterable[Stored], now_ns: int) -> None:
        """Add the next entries of the journal."""
        for entry in page:
            self._read_upto = entry.position
            step = step_of(entry)
            if step.event_type not in RECORDS:
                self._add(step, now_ns)

    def _add(self, step: Step, now_ns: int) -> None:
        key = _key(step.chain)
        closed = self._closed.get(key)
        if closed is not None and step.position <= closed.last:
            return  # another process has done it
        self.known.note(step)
        chain = self._chain(key, step, now_ns)
        chain.steps.append(step)
        self._count += 1
        if step.event_type in TELLING:
            chain.kept = True
        for letter in self._letters_to_come.pop(step.position, ()):
            self._attach(chain, step, letter)
        if len(chain.steps) >= PART_MOST:
            self._end(key)
        while self._count > STEPS_MOST:
            self._end(next(iter(self._open)))

    def add_letters(self, letters: Iterable[BuriedEvent], now_ns: int) -> None:
        """Add the next dead letters of the journal."""
        for letter in letters:
            self._letters_upto = letter.letter_id
            if letter.position > self._read_upto and len(self._letters_to_come) < LETTERS_MOST:
                self._letters_to_come.setdefault(letter.position, []).append(letter)
                continue
            step = step_of_letter(letter)
            step = self.known.step(step.event_id) or step
            self._attach(self._chain(_key(step.chain), step, now_ns), step, letter)

    def _attach(self, chain: _Open, step: Step, letter: BuriedEvent) -> None:
        chain.kept = True
        chain.letters.append((step, letter))

    def _chain(self, key: int, step: Step, now_ns: int) -> _Open:
        """Return an open chain, as the one that was heard last."""
        chain = self._open.pop(key, None)
        if chain is None:
            kept = is_kept(step.chain, self._share)
            chain = _Open(step.chain, step.position, now_ns, kept, [], [])
        chain.seen_ns = now_ns
        self._open[key] = chain
        return chain

    def take(self, now_ns: int | None) -> list[Part]:
        """Return what is to be made into spans of the chains that are quiet now; None ends all of them."""
        while self._open:
            key, chain = next(iter(self._open.items()))
            if now_ns is not None and now_ns - chain.seen_ns < self._linger_ns:
                break
            self._end(key)
        ended, self._ended = self._ended, []
        return ended

    def _end(self, key: int) -> None:
        chain = self._open.pop(key)
        self._count -= len(chain.steps)
        before = self._closed.get(key)
        if before is None and not chain.steps and chain.first:  # a dead letter of a chain that is forgotten
            before = Closed(chain.first, chain.first, kept=False)
        kept = chain.kept or (before is not None and before.kept)
        if kept:
            self._keep(chain, before)
        first = chain.first if before is None else before.first
        last = max((step.position for step in chain.steps), default=0 if before is None else before.last)
        put(self._closed, key, Closed(first, last, kept), CLOSED_MOST)

    def _keep(self, chain: _Open, before: Closed | None) -> None:
        is_rest = before is not None
        if before is not None and not before.kept:
            dropped = map(step_of, self._reread(chain.name, before.first, before.last))
            chain.steps[:0] = [step for step in dropped if step.event_type not in RECORDS]
            is_rest = False
        self._ended.append(Part(steps=chain.steps, letters=chain.letters, is_rest=is_rest))

    def place(self) -> Place:
        """Return how far everything is done, provided that what `take` has returned is."""
        opened = [chain.first for chain in self._open.values() if chain.steps]
        letters = [letter.letter_id for chain in self._open.values() for _, letter in chain.letters]
        letters += [letter.letter_id for some in self._letters_to_come.values() for letter in some]
        newest = list(self._closed.items())[-SAVED_MOST:]
        return Place(
            after=min(opened, default=self._read_upto + 1) - 1,
            letter_after=min(letters, default=self._letters_upto + 1) - 1,
            closed=dict(newest),
        )


def _key(chain: str) -> int:
    return trace_id(chain) & 0xFFFF_FFFF_FFFF_FFFF
