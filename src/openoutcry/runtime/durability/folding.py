"""Folding: agents are handed what they had handled, page by page, beside everything else on the loop."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from inspect import isawaitable
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
from openoutcry.runtime.durability.catch_up import Pages

log = logging.getLogger("openoutcry")

SHOWN_MOST = 5
"""So many of the gaps in a memory are described."""


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
        self._selectors = subscription.selectors
        self._types = _types_of(subscription)
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

    def take(self, entry: Stored, event: Any) -> None:
        """Fold an event, if it was handled and is not in the state yet."""
        position = entry.position
        if position <= self.at or self.error is not None or not self._recall.wants(entry.lane, position):
            return
        if isinstance(event, Undecodable):
            if self._takes_type(entry):
                self._miss(f"position {position} cannot be read: {event.error}")
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
            found = takes(self._selectors, event)
            if fixed_event_type(cls) is not None:  # type: ignore[arg-type]
                self._fixed[cls] = found
        return found

    def _takes_type(self, entry: Stored) -> bool:
        """Return True if an entry that cannot be read may be of such a type."""
        event_type = entry.head().event_type
        then = self._recall.types_at(entry.lane, entry.position)
        then = self._types if then is None else then
        return "*" in then or event_type is None or event_type in then

    def _fold(self, entry: Stored, event: Any) -> None:
        fold = self._memory.fold
        assert fold is not None, "without it nothing is wanted"
        token = restoring.set(self._bar)
        try:
            result = fold(event)
            if isawaitable(result):
                getattr(result, "close", bool)()
                raise TypeError("fold returned something to await; it must be a plain function")  # noqa: TRY301
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - whatever it lets out is its failure
            failed = RestoreFailed(
                f"{self.subscription.name} did not get its memory back: fold raised {error!r} at position "
                f"{entry.position} ({entry.head().event_type}); mend it, and start again"
            )
            failed.__cause__ = error
            self.error = failed
        else:
            self.count += 1
        finally:
            restoring.reset(token)

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
                f"{self.subscription.name} did not get its memory back: {what}; bring it back (with save and "
                "load it would not be needed), or say Memory(on_missing='warn') to begin without it"
            )
        elif len(self._missing) < SHOWN_MOST:
            self._missing.append(what)

    def fail(self, error: Exception) -> None:
        """The journal cannot be read."""
        self.error = RestoreFailed(f"{self.subscription.name} did not get its memory back: {error}")
        self.error.__cause__ = error

    def report(self) -> None:
        """Say what the memory lacks, if it may lack something; what `fold` has spawned may publish now."""
        self._bar.is_over = True
        if self._missing_count:
            log.error(
                "%s begins without %s that it had handled: %s",
                self.subscription.name,
                counted(self._missing_count, "event"),
                "; ".join(self._missing),
            )


def _types_of(subscription: Subscription) -> frozenset[str]:
    return frozenset() if subscription.offsets is None else frozenset(subscription.offsets.takes)


class Pass:
    """Reads the journal once, and folds for several subscriptions.

    The loop is given back after every page, and whenever folding has taken as long as a worker may.
    """

    def __init__(self, foldings: list[Folding], pages: Pages, journal: Journal, bus: BusState) -> None:
        self._left = list(foldings)
        self._pages = pages
        self._journal = journal
        self._bus = bus
        self._began_ns = 0

    async def run(self) -> AsyncIterator[Folding]:
        """Fold, and yield each subscription's as it is over."""
        at = self._begin()
        self._began_ns = self._bus.clock.now_ns()
        while True:
            for folding in [folding for folding in self._left if folding.is_over]:
                self._left.remove(folding)
                yield folding
            if not self._left:
                return
            try:
                at = await self._fold_page(at)
            except JournalError as error:
                for folding in self._left:
                    folding.fail(error)

    def _begin(self) -> int:
        """Return where to begin, having told those who need more what was retired of it."""
        at, first = min(folding.at for folding in self._left), self._journal.first
        self._lack(at + 1, first - 1, "were retired from the journal")
        return max(at, first - 1)

    async def _fold_page(self, at: int) -> int:
        """Fold what follows a position; return up to which."""
        page, covered = self._pages.after(at, max(folding.last for folding in self._left))
        expected = at + 1
        for entry, event in zip(page.entries, page.events, strict=True):
            position = entry.position
            if not at < position <= covered:
                continue
            self._lack(expected, position - 1, "were lost from the journal")
            expected = position + 1
            for folding in self._left:
                folding.take(entry, event)
            if self._bus.clock.now_ns() - self._began_ns > self._bus.slice_ns():
                await self._give_way(position)
        self._lack(expected, covered, "were lost from the journal")
        await self._give_way(covered)
        return covered

    async def _give_way(self, at: int) -> None:
        """Give the loop back. Should the bus stop meanwhile, folding goes on from here."""
        for folding in self._left:
            folding.at = max(folding.at, at)
        await asyncio.sleep(0)
        self._began_ns = self._bus.clock.now_ns()

    def _lack(self, first: int, last: int, what: str) -> None:
        if first <= last:
            for folding in self._left:
                folding.lack(first, last, what)
