"""Subscriptions that are in the journal and absent: reports, some time after a start, what waits for them."""

import asyncio
import logging
from collections.abc import Mapping

from openoutcry.core.wording import listed
from openoutcry.events.times import iso_text
from openoutcry.logs import about
from openoutcry.ports import CursorState, Journal
from openoutcry.runtime.delivery.state import BusState
from openoutcry.runtime.durability.looking_back import WAITING_MOST, waiting
from openoutcry.units import NS_PER_S

log = logging.getLogger("openoutcry")

MISSING_AFTER_S = 10.0
"""How long after a start, by the bus's clock, absent subscriptions are reported: some are made after it."""


class MissingReport:
    """Reports the subscriptions of a journal that are absent `MISSING_AFTER_S` after a start.

    `absent` has the cursors by name and lane, and loses those of a subscription that is made.
    """

    def __init__(
        self, bus: BusState, journal: Journal, absent: Mapping[str, Mapping[str, CursorState]]
    ) -> None:
        self._bus = bus
        self._journal = journal
        self._absent = absent
        self._due_ns = 0
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """The bus runs."""
        if self._absent:
            self._due_ns = self._bus.clock.now_ns() + int(MISSING_AFTER_S * NS_PER_S)
            self._look()

    def end(self) -> None:
        """The bus stops, or its loop was closed."""
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None and not self._task.get_loop().is_closed():
            self._task.cancel()

    def _look(self) -> None:
        """Report when it is time by the bus's clock, which a timer of the loop may be ahead of."""
        loop, left_ns = asyncio.get_running_loop(), self._due_ns - self._bus.clock.now_ns()
        if left_ns > 0:
            self._timer = loop.call_later(max(left_ns / NS_PER_S, 0.001), self._look)
        else:
            self._task = loop.create_task(self._report_all(), name="openoutcry:missing")

    async def _report_all(self) -> None:
        for name in list(self._absent):
            lanes = self._absent.get(name)
            if lanes is not None:
                await _report(self._journal, name, lanes, self._absent)


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
        extra=about(subscription=name),
    )
