"""Looking back into the journal: what is not settled is counted, and history reads on there."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any

from openoutcry.events import RECORDS, Undecodable, decode_many, takes_type
from openoutcry.ports import CursorState, Journal, Stored
from openoutcry.runtime.delivery.offsets import Offsets
from openoutcry.runtime.delivery.subscription import Selector, Subscription, takes

READ_MOST = 1_024
WAITING_MOST = 100_000
"""So far what waits for an absent subscription is counted."""


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
    if entry.is_beside:
        return False
    for _, offsets in durable:
        if offsets.by_lane[entry.lane].wants(entry.position):
            event_type = event_type or entry.head().event_type or ""
            if takes_type(offsets.takes, event_type):
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
            if is_meant and (
                event.event_type not in RECORDS if selectors is None else takes(selectors, event)
            ):
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
    if state is None or entry.is_beside or entry.position <= state.floor:
        return False
    if any(low <= entry.position <= high for low, high in state.settled):
        return False
    return takes_type(state.takes, entry.head().event_type)
