"""Looking back into the journal: what was settled restores agents' memory, what was not is counted."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Any

from openoutcry.errors import SubscriptionError
from openoutcry.events import Undecodable, decode_many
from openoutcry.ports import CursorState, Journal, Stored
from openoutcry.runtime.delivery.causation import Restoring, restoring
from openoutcry.runtime.delivery.offsets import Offsets
from openoutcry.runtime.delivery.state import BusState
from openoutcry.runtime.delivery.subscription import Selector, Subscription, takes
from openoutcry.runtime.durability.catch_up import Pages, takes_type

log = logging.getLogger("openoutcry")

READ_MOST = 1_024
WAITING_MOST = 100_000
"""So far what waits for an absent subscription is counted."""


async def restore(pages: Pages, journal: Journal, bus: BusState, upto: int) -> None:
    """Call every `restore` hook with what its subscription had settled, in the order of the journal.

    What became a dead letter was not handled, so it is left out. Gives the loop back between pages.
    """
    folds, states = [], []
    for subscription in bus.router:
        offsets, hook = subscription.offsets, subscription.options.restore
        if offsets is not None and hook is not None:
            buried = bus.dead_letters.positions(subscription.name)
            states.append(Restoring(subscription.name))
            folds.append((subscription, offsets, _marked(hook, states[-1]), buried))
    if not folds:
        return
    last = min(upto, max(_furthest(offsets) for _, offsets, _, _ in folds))
    at = journal.first - 1
    try:
        while at < last:
            page, covered = pages.after(at, upto)
            for entry, event in zip(page.entries, page.events, strict=True):
                if not at < entry.position <= covered:
                    continue
                for subscription, offsets, hook, buried in folds:
                    if isinstance(event, Undecodable):
                        _report(subscription, offsets, buried, entry, event)
                    else:
                        _fold(subscription, offsets, hook, buried, entry, event)
            at = covered
            await asyncio.sleep(0)
    finally:
        for state in states:
            state.is_over = True


def _marked(hook: Callable[[Any], Any], state: Restoring) -> Callable[[Any], None]:
    """Return the hook, marked while it runs as one that must have no effects."""

    def call(event: Any) -> None:
        token = restoring.set(state)
        try:
            hook(event)
        finally:
            restoring.reset(token)

    return call


def _report(
    subscription: Subscription, offsets: Offsets, buried: set[int], entry: Stored, event: Undecodable
) -> None:
    """Say that the memory of an agent lacks an event that it had handled."""
    is_settled = not offsets.by_lane[entry.lane].wants(entry.position) and entry.position not in buried
    if is_settled and takes_type(subscription, entry):
        log.error(
            "position %d of the journal cannot be read, so the memory of %s is restored without it: %s",
            entry.position,
            subscription.name,
            event.error,
        )


def _furthest(offsets: Offsets) -> int:
    return max(max(lane.read_upto, *(high for _, high in lane.skip), 0) for lane in offsets.lanes)


def _fold(
    subscription: Subscription, offsets: Offsets, hook: Any, buried: set[int], entry: Stored, event: Any
) -> None:
    lane = offsets.by_lane[entry.lane]
    if lane.wants(entry.position) or entry.position in buried or not takes(subscription.selectors, event):
        return
    try:
        hook(event)
    except Exception as error:
        raise SubscriptionError(
            f"the restore hook of {subscription.name} failed at position {entry.position} "
            f"({entry.head().event_type}): {error!r}; the bus was not started"
        ) from error


async def count_unsettled(journal: Journal, subscriptions: Iterable[Subscription], upto: int) -> int:
    """Return how many events some subscription has not settled, going by the type in their JSON."""
    durable = [(s, s.offsets) for s in subscriptions if s.offsets is not None]
    if not durable:
        return 0
    count = 0
    for entries in _behind(journal, min(lane.read_upto for _, offsets in durable for lane in offsets.lanes)):
        count += sum(entry.position <= upto and _is_wanted(durable, entry) for entry in entries)
        if entries[-1].position >= upto:
            break
        await asyncio.sleep(0)
    return count


def _behind(journal: Journal, position: int) -> Iterator[list[Stored]]:
    """Yield what stands behind a position, in pages, none of them empty."""
    while entries := journal.read(position, READ_MOST):
        yield entries
        if len(entries) < READ_MOST:
            break
        position = entries[-1].position


def _is_wanted(durable: list[tuple[Subscription, Offsets]], entry: Stored) -> bool:
    event_type: str | None = None
    for _, offsets in durable:
        if offsets.by_lane[entry.lane].wants(entry.position):
            event_type = event_type or entry.head().event_type or ""
            if "*" in offsets.takes or event_type in offsets.takes:
                return True
    return False


def older(
    journal: Journal, selectors: frozenset[Selector] | None, limit: int, newer: list[Any], most: int
) -> list[Any]:
    """Return the newest `limit` events of a journal that selectors take and `newer` has not, oldest first.

    Looks at the newest `most` entries at least, and stops soon after: the loop waits meanwhile.
    """
    pages = _older(journal, selectors, limit, newer)
    found: list[Any] = []
    for page, looked_at in pages:
        found += page
        if looked_at >= most:
            break
    return found[::-1]


async def oldest_first(
    journal: Journal, selectors: frozenset[Selector] | None, limit: int, newer: list[Any]
) -> list[Any]:
    """Return what `older` does, however far back that is, giving the loop back in between."""
    found: list[Any] = []
    for page, _ in _older(journal, selectors, limit, newer):
        found += page
        await asyncio.sleep(0)
    return found[::-1]


def _older(
    journal: Journal, selectors: frozenset[Selector] | None, limit: int, newer: list[Any]
) -> Iterator[tuple[list[Any], int]]:
    """Yield the newest events page by page, newest first, with the number of entries looked at so far."""
    known = {event.event_id for event in newer}
    count, last, head = 0, journal.head, journal.head
    while last >= journal.first and count < limit:
        found: list[Any] = []
        after = max(journal.first - 1, last - READ_MOST)
        entries = [entry for entry in journal.read(after, last - after) if entry.position <= last]
        for event in reversed(decode_many([entry.payload for entry in entries])):
            if count == limit:
                break
            is_meant = not isinstance(event, Undecodable) and event.event_id not in known
            if is_meant and (selectors is None or takes(selectors, event)):
                found.append(event)
                count += 1
        last = after
        yield found, head - last


async def count_waiting(journal: Journal, lanes: Iterable[CursorState], most: int = WAITING_MOST) -> int:
    """Return how many events wait behind the cursors of one subscription, `most` or a page more at most."""
    return sum([len(page) async for page in waiting(journal, lanes, most)])


async def waiting(
    journal: Journal, lanes: Iterable[CursorState], most: int = WAITING_MOST
) -> AsyncIterator[list[Stored]]:
    """Yield what waits behind the cursors of one subscription by the page, until it is `most` or more."""
    states = {state.lane: state for state in lanes}
    if not states:
        return
    count = 0
    for entries in _behind(journal, min(state.floor for state in states.values())):
        page = [entry for entry in entries if _waits(entry, states.get(entry.lane))]
        yield page
        count += len(page)
        if count >= most:
            break
        await asyncio.sleep(0)


def _waits(entry: Stored, state: CursorState | None) -> bool:
    """Return True if an entry waits behind the cursor of its lane."""
    if state is None or entry.position <= state.floor:
        return False
    if any(low <= entry.position <= high for low, high in state.settled):
        return False
    return "*" in state.takes or entry.head().event_type in state.takes
