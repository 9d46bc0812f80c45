"""Subscriptions that are in the journal and absent: reports, some time after a start, what waits for them."""

import asyncio
import logging
from collections.abc import Mapping

from openoutcry.core.wording import listed
from openoutcry.events.times import iso_text
from openoutcry.ports import Clock, CursorState, Journal
from openoutcry.runtime.durability.looking_back import WAITING_MOST, waiting
from openoutcry.units import NS_PER_S

log = logging.getLogger("openoutcry")

MISSING_AFTER_S = 10.0
"""How long after a start, by the bus's clock, absent subscriptions are reported: some are made after it."""


async def report_missing(
    journal: Journal, absent: Mapping[str, Mapping[str, CursorState]], clock: Clock
) -> None:
    """Warn of subscriptions that are absent when `MISSING_AFTER_S` have passed, and tell what waits for them.

    `absent` has the cursors by name and lane, and loses those of a subscription that is made.
    """
    due_ns = clock.now_ns() + int(MISSING_AFTER_S * NS_PER_S)
    while (left_ns := due_ns - clock.now_ns()) > 0:  # noqa: ASYNC110 - a timer may fire ahead of the clock
        await asyncio.sleep(max(left_ns / NS_PER_S, 0.001))
    for name in list(absent):
        lanes = absent.get(name)
        if lanes is not None:
            await _report(journal, name, lanes, absent)


async def _report(
    journal: Journal,
    name: str,
    lanes: Mapping[str, CursorState],
    absent: Mapping[str, Mapping[str, CursorState]],
) -> None:
    count, since_ns, types = 0, 0, set[str]()
    async for page in waiting(journal, lanes.values()):
        count += len(page)
        since_ns = since_ns or (page[0].wall_ns if page else 0)
        types.update(entry.head().event_type or "?" for entry in page)
    if not count or name not in absent:
        return
    log.warning(
        "%s%d events wait for the subscription %r, which is not subscribed %g s after the start: %s, the "
        "oldest since %s. Subscribe it under this name, and it gets them. Only if the name is gone for good, "
        "the operator gives them to another one or up (`openoutcry cursors reassign`, `cursors drop`)",
        "at least " if count >= WAITING_MOST else "",
        count,
        name,
        MISSING_AFTER_S,
        listed(sorted(types)),
        iso_text(since_ns),
    )
