"""Folding: agents are handed what they had handled, page by page, beside everything else on the loop."""

import asyncio
import logging
from bisect import bisect_right
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from operator import attrgetter
from typing import Any

from openoutcry.core.recall import Recall
from openoutcry.core.wording import counted
from openoutcry.errors import JournalError, RestoreFailed
from openoutcry.events import Undecodable, event_type_of
from openoutcry.logs import about
from openoutcry.ports import Journal, Stored
from openoutcry.runtime.delivery.causation import Restoring, restoring
from openoutcry.runtime.delivery.memory import Memory, check_has_run
from openoutcry.runtime.delivery.state import BusState
from openoutcry.runtime.delivery.subscription import Subscription, takes
from openoutcry.runtime.durability.catch_up import Kind, Page, Pages, kind_of
from openoutcry.runtime.durability.taken import Taken

log = logging.getLogger("openoutcry")

SLICE_NS = 250_000
"""So long is folded at a time, in nanoseconds, before the loop is given back."""
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
        self.at: int = recall.after
        self._selectors = subscription.selectors
        self._now = Taken(() if subscription.offsets is None else subscription.offsets.takes)
        self._eras: dict[frozenset[str], Taken] = {}
        self.count: int = 0
        self.is_loaded = False
        self.error: RestoreFailed | None = None
        self._memory = memory
        self._recall = recall
        self._bar = Restoring(subscription.name, "restored")
        self._taken: dict[Kind, bool] = {}
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

    def take(self, page: Page, covered: int, is_late: Callable[[], bool]) -> Iterator[None]:
        """Fold what was handled of a page and is not in the state. Yields whenever it is late."""
        entries, wants, chosen = page.entries, self._recall.wants, self._chosen(page)
        for index in chosen[bisect_right(chosen, self.at, key=lambda i: entries[i].position) :]:
            entry = entries[index]
            if entry.position > covered or self.is_over:
                break
            if wants(entry.lane, entry.position) and not entry.is_beside:
                self._take(entry, page.events[index])
            self.at = entry.position
            if is_late():
                yield
        self.at = max(self.at, covered)

    def _chosen(self, page: Page) -> Sequence[int]:
        """Return which entries of a page it may take, by their index: of five hundred agents few take all."""
        by_kind = page.by_kind()
        taken = [i for kind, i in by_kind.items() if self._may_take(kind, page.events[i[0]])]
        if len(taken) == len(by_kind):
            return range(len(page.entries))
        return taken[0] if len(taken) == 1 else sorted(chain.from_iterable(taken))

    def _may_take(self, kind: Kind, event: Any) -> bool:
        """Return True if it may take events of a kind, of which this is one."""
        return kind[0] is Undecodable or self._recall.has_eras or self._takes_now(kind, event)

    def _take(self, entry: Stored, event: Any) -> None:
        if isinstance(event, Undecodable):
            if self._takes_type(entry):
                self._miss(f"position {entry.position} cannot be read: {event.error}")
        elif self._takes(entry, event):
            self._fold(entry, event)

    def _takes(self, entry: Stored, event: Any) -> bool:
        """Return True if the event was of a type that the subscription took when it was settled."""
        then = self._then(entry)
        if then is None or then.varies:
            return self._takes_now(kind_of(event), event)
        if then.has(event) and then.in_part:
            self._miss(
                f"position {entry.position} ({event_type_of(event)}) may have been let go: it conflated, "
                "dropped or aged out events then"
            )
            return False
        if then.has(event):
            return True
        if unknown := then.unknown(event):
            self._miss(
                f"position {entry.position} ({event_type_of(event)}) may be of what it took by "
                f"{', '.join(unknown)}, which is not known any more: import it, or register it so"
            )
        return False

    def _then(self, entry: Stored) -> Taken | None:
        """Return what the subscription took when an entry was settled; None if that is what it takes now."""
        takes = self._recall.types_at(entry.lane, entry.position)
        if takes is None:
            return None
        found = self._eras.get(takes)
        if found is None:
            found = self._eras[takes] = Taken(takes)
        return found

    def _takes_now(self, kind: Kind, event: Any) -> bool:
        """Return True if the subscription took the event when its memory was adopted."""
        found = self._taken.get(kind)
        if found is None:
            found = self._taken[kind] = takes(self._selectors, event)
        return found

    def _takes_type(self, entry: Stored) -> bool:
        """Return True if an entry that cannot be read may be of such a type."""
        return (self._then(entry) or self._now).may_have(entry.head().event_type)

    def _fold(self, entry: Stored, event: Any) -> None:
        fold = self._memory.fold
        assert fold is not None, "without it nothing is wanted"
        token = restoring.set(self._bar)
        try:
            check_has_run("fold", fold(event))
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
                extra=about(subscription=self.subscription.name),
            )


class Pass:
    """Reads the journal once, and folds for several subscriptions.

    The loop is given back after every page, and whenever folding has taken as long as a worker may.
    """

    def __init__(self, foldings: list[Folding], pages: Pages, journal: Journal, bus: BusState) -> None:
        self._left = list(foldings)
        self._pages = pages
        self._journal = journal
        self._bus = bus
        self._now_ns = bus.clock.now_ns
        self._late_ns = 0

    async def run(self) -> AsyncIterator[Folding]:
        """Fold, and yield each subscription's as it is over."""
        at = self._begin()
        self._begin_turn()
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
        if at < first - 1:
            self._lack(at + 1, first - 1, "were retired from the journal")
        return max(at, first - 1)

    async def _fold_page(self, at: int) -> int:
        """Fold what follows a position; return up to which."""
        last = max(folding.last for folding in self._left)
        page, covered = self._pages.after(at, last, has_records=True)  # what a page has not is lost
        for first, last in _gaps(page, at, covered):
            self._lack(first, last, "were lost from the journal")
        for folding in self._left:
            for _ in folding.take(page, covered, self._is_late):
                await self._give_way()
        await self._give_way()
        return covered

    def _lack(self, first: int, last: int, what: str) -> None:
        for folding in self._left:
            folding.lack(first, last, what)

    def _is_late(self) -> bool:
        return self._now_ns() > self._late_ns

    def _begin_turn(self) -> None:
        self._late_ns = self._now_ns() + SLICE_NS

    async def _give_way(self) -> None:
        """Give the loop back."""
        await asyncio.sleep(0)
        self._begin_turn()


def _gaps(page: Page, after: int, covered: int) -> Iterator[tuple[int, int]]:
    """Yield the stretches behind a position, up to what is covered, of which a page has nothing."""
    expected = after + 1
    for entry in page.entries:
        position = entry.position
        if expected < position <= covered:
            yield expected, position - 1
        expected = max(expected, position + 1)
    if expected <= covered:
        yield expected, covered
