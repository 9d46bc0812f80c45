"""Folding: agents are handed what they had handled, page by page, beside everything else on the loop."""

import asyncio
import logging
from bisect import bisect_right
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from inspect import isawaitable
from operator import attrgetter
from typing import Any

from openoutcry.core.recall import Recall
from openoutcry.core.wording import counted
from openoutcry.errors import JournalError, RestoreFailed
from openoutcry.events import Undecodable, event_type_of, fixed_event_type
from openoutcry.ports import Journal, Stored
from openoutcry.runtime.delivery.causation import Restoring, restoring
from openoutcry.runtime.delivery.memory import Memory
from openoutcry.runtime.delivery.state import BusState
from openoutcry.runtime.delivery.subscription import Subscription, takes
from openoutcry.runtime.durability.catch_up import Page, Pages

log = logging.getLogger("openoutcry")

SHOWN_MOST = 5
"""So many of the gaps in a memory are described."""

_position = attrgetter("position")


@contextmanager
def without_effects(name: str, what: str) -> Iterator[Restoring]:
    """Bar the code inside, and what it spawns, from publishing: the memory of `name` is being `what`."""
    state = Restoring(name, what)
    token = restoring.set(state)
    try:
        yield state
    finally:
        restoring.reset(token)
        state.is_over = True


class Folding:
    """What one subscription is to be handed before it handles anything.

    Attributes:
        subscription: The subscription.
        at: Everything up to this position was handed to it, or is none of its business.
        count: How many events were folded.
        is_loaded: Whether it has its saved state, if there is one.
        is_over: Whether there is no more to fold, because all was folded or because of `error`.
        error: Why it does not get its memory.

    """

    def __init__(self, subscription: Subscription, memory: Memory, recall: Recall) -> None:
        self.subscription = subscription
        self.at = recall.after
        self.count = 0
        self.is_loaded = False
        self.error: RestoreFailed | None = None
        self._memory = memory
        self._recall = recall
        self._bar = Restoring(subscription.name, "restored")
        self._fixed: dict[type, bool] = {}
        self._missing: list[str] = []
        self._missing_count = 0

    @property
    def last(self) -> int:
        """The last position to look at."""
        return self._recall.last

    @property
    def is_over(self) -> bool:
        """Whether there is no more to fold."""
        return self.error is not None or self.at >= self.last or self.subscription.ended

    def take(self, page: Page, covered: int, turn: "Turn") -> bool:
        """Fold what was handled of a page and is not in the state yet. False: its turn is over before."""
        entries, wants = page.entries, self._recall.wants
        token = restoring.set(self._bar)
        try:
            for index in range(bisect_right(entries, self.at, key=_position), len(entries)):
                entry = entries[index]
                if entry.position > covered or self.is_over:
                    break
                if wants(entry.lane, entry.position):
                    self._take(entry, page.events[index])
                self.at = entry.position
                if turn.is_over():
                    return False
        finally:
            restoring.reset(token)
        self.at = max(self.at, covered)
        return True

    def _take(self, entry: Stored, event: Any) -> None:
        if isinstance(event, Undecodable):
            if self._takes_type(entry):
                self._miss(f"position {entry.position} cannot be read: {event.error}")
        elif self._takes(entry, event):
            self._fold(entry, event)

    def _takes(self, entry: Stored, event: Any) -> bool:
        """Return True if the event was of a type that the subscription took when it was settled."""
        then = self._recall.types_at(entry.lane, entry.position)
        if then is not None and "*" not in then:
            return str(event_type_of(event)) in then
        cls = type(event)
        found = self._fixed.get(cls)
        if found is None:
            found = takes(self.subscription.selectors, event)
            if fixed_event_type(cls) is not None:
                self._fixed[cls] = found
        return found

    def _takes_type(self, entry: Stored) -> bool:
        """Return True if an entry that cannot be read may be of such a type."""
        event_type = entry.head().event_type
        offsets = self.subscription.offsets
        then = self._recall.types_at(entry.lane, entry.position)
        if then is None:
            then = frozenset() if offsets is None else frozenset(offsets.takes)
        return "*" in then or event_type is None or event_type in then

    def _fold(self, entry: Stored, event: Any) -> None:
        fold = self._memory.fold
        assert fold is not None, "without it nothing is wanted"
        try:
            result = fold(event)
            if result is not None and isawaitable(result):
                getattr(result, "close", bool)()
                raise TypeError("fold returned something to await; it must be a plain function")  # noqa: TRY301
        except Exception as error:
            failed = RestoreFailed(
                f"{self.subscription.name} did not get its memory back: fold raised {error!r} at position "
                f"{entry.position} ({entry.head().event_type}); mend it, and start again"
            )
            failed.__cause__ = error
            self.error = failed
        else:
            self.count += 1

    def lack(self, first: int, last: int, what: str) -> None:
        """Note that the entries of these positions are not there any more."""
        first = max(first, self.at + 1)
        lacked = [p for p in range(first, min(last, self.last) + 1) if self._recall.may_want(p)]
        if lacked:
            self._miss(f"positions {lacked[0]} to {lacked[-1]} {what}", len(lacked))

    def _miss(self, what: str, count: int = 1) -> None:
        self._missing_count += count
        if self._memory.on_missing == "raise" and self.error is None:
            self.error = RestoreFailed(
                f"{self.subscription.name} did not get its memory back: {what}; bring that back, save states with "
                "Memory(fold, save, load) in future, or say Memory(on_missing='warn') to begin without it"
            )
        elif len(self._missing) < SHOWN_MOST:
            self._missing.append(what)

    def fail(self, error: Exception) -> None:
        """The journal cannot be read."""
        self.error = RestoreFailed(f"{self.subscription.name} did not get its memory back: {error}")
        self.error.__cause__ = error

    def report(self) -> None:
        """Say what the memory lacks, if somebody has said that it may; what `fold` spawned may publish now."""
        self._bar.is_over = True
        if self._missing_count:
            log.error(
                "%s begins without %s that it had handled: %s",
                self.subscription.name,
                counted(self._missing_count, "event"),
                "; ".join(self._missing),
            )


class Turn:
    """How long the loop is held at most: as long as a worker may."""

    def __init__(self, bus: BusState) -> None:
        self._bus = bus
        self._now_ns = bus.clock.now_ns
        self._begin()

    def _begin(self) -> None:
        self._ends_ns = self._now_ns() + self._bus.slice_ns()

    def is_over(self) -> bool:
        """Return True if the loop is to be given back."""
        return self._now_ns() > self._ends_ns

    async def give_back(self) -> None:
        """Let everything else run."""
        await asyncio.sleep(0)
        self._begin()


async def fold_all(
    foldings: list[Folding], pages: Pages, journal: Journal, bus: BusState
) -> AsyncIterator[Folding]:
    """Read the journal once for several subscriptions, and yield each when it is over.

    The loop is given back after every page, and whenever folding has taken as long as a worker may.
    """
    left = list(foldings)
    at = min(folding.at for folding in left)
    if at < journal.first - 1:
        _lack(left, at + 1, journal.first - 1, "were retired from the journal")
        at = journal.first - 1
    turn = Turn(bus)
    while True:
        for folding in [folding for folding in left if folding.is_over]:
            left.remove(folding)
            yield folding
        if not left:
            return
        last = max(folding.last for folding in left)
        try:
            page, covered = pages.after(at, last)
        except JournalError as error:
            for folding in left:
                folding.fail(error)
            continue
        for first, upto in _gaps(page, at, covered):
            _lack(left, first, upto, "were lost from the journal")
        for folding in left:
            while not folding.take(page, covered, turn):
                await turn.give_back()
        at = covered
        await turn.give_back()


def _gaps(page: Page, after: int, covered: int) -> Iterator[tuple[int, int]]:
    """Yield the stretches between two positions of which a page has nothing."""
    expected = after + 1
    for entry in page.entries:
        position = entry.position
        if expected < position <= covered:
            yield expected, position - 1
        expected = max(expected, position + 1)
    if expected <= covered:
        yield expected, covered


def _lack(foldings: list[Folding], first: int, last: int, what: str) -> None:
    for folding in foldings:
        folding.lack(first, last, what)
