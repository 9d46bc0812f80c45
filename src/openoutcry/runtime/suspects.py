"""Suspects: events that were in a handler when the process died, and may be why.

Each is tried again while nothing else runs, so that a further crash has one suspect alone: an event that
kills the process is convicted after a few, and an innocent one that was merely busy at the time is not.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from openoutcry.core.retries import DeadLetter
from openoutcry.events import decode_many
from openoutcry.ports import Journal, Suspect
from openoutcry.runtime.books import LaneBook
from openoutcry.runtime.floor import Floor
from openoutcry.runtime.subscriptions import Subscription

log = logging.getLogger("openoutcry")

Call = tuple[str, str, int]


class Limits(Protocol):
    """The settings that are needed here."""

    @property
    def crash_attempts(self) -> int:
        """At so many crashes an event is not tried again."""
        ...

    @property
    def suspect_alone_s(self) -> float:
        """For how long a suspect has the bus to itself, in seconds."""
        ...


class Suspects:
    """The suspects of earlier lives.

    Attributes:
        cleared: Calls that are no suspects any more, to be saved.
        quarantined: Events that were put away.

    """

    def __init__(self, floor: Floor, journal: Journal, limits: Limits, changed: Callable[[], None]) -> None:
        self._floor = floor
        self._journal = journal
        self._limits = limits
        self._changed = changed
        self._known: dict[str, list[Suspect]] = {}
        for suspect in journal.suspects():
            self._known.setdefault(suspect.subscription, []).append(suspect)
        self._open: list[tuple[Subscription, LaneBook, int]] = []
        self._timer: asyncio.TimerHandle | None = None
        self.cleared: list[Call] = []
        self.quarantined = 0

    def sort_out(self, subscription: Subscription) -> None:
        """Put away what was in the handler at too many crashes, and remember what is to be tried alone."""
        book = subscription.book
        assert book is not None
        for suspect in self._known.pop(subscription.name, ()):
            lane = book.of(suspect.lane)
            call = (suspect.subscription, suspect.lane, suspect.position)
            if not lane.wants(suspect.position) or suspect.position > self._journal.head:
                self.cleared.append(call)
            elif suspect.crashes >= self._limits.crash_attempts:
                self._quarantine(subscription, lane, suspect)
                self.cleared.append(call)
            elif suspect.lane != "control":
                self._open.append((subscription, lane, suspect.position))
        if self.cleared:
            self._changed()

    def _quarantine(self, subscription: Subscription, lane: LaneBook, suspect: Suspect) -> None:
        found = self._journal.read(suspect.position - 1, 1)
        lane.note_settled(suspect.position)
        if not found or found[0].position != suspect.position:
            return
        self.quarantined += 1
        event = decode_many([found[0].payload])[0]
        text = f"the process died {suspect.crashes} times while this was being handled"
        log.error("%s: position %d is quarantined: %s", subscription.name, suspect.position, text)
        letter = DeadLetter(
            subscription.name,
            suspect.lane,
            event,
            "quarantined",
            text,
            "",
            suspect.crashes,
            self._floor.clock.wall_ns(),
            position=suspect.position,
        )
        self._floor.dead(subscription, letter)

    def begin(self) -> None:
        """Let the first suspect have the bus to itself."""
        for subscription, _, _ in self._open:
            if subscription.book is not None:
                subscription.book.watch = self._look
        self._next()

    def _next(self) -> None:
        floor = self._floor
        self._silence()
        while self._open:
            subscription, lane, position = self._open[0]
            if not subscription.ended and subscription.book is not None and lane.is_open(position):
                log.warning(
                    "%s was handling position %d when the process died: it is tried again alone",
                    subscription.name,
                    position,
                )
                floor.alone = subscription
                assert floor.loop is not None
                self._timer = floor.loop.call_later(self._limits.suspect_alone_s, self._enough)
                subscription.wake()
                return
            self._clear()
        self._let_go(floor.roster)

    def _clear(self) -> None:
        subscription, lane, position = self._open.pop(0)
        self.cleared.append((subscription.name, lane.lane.name, position))
        self._changed()

    def _look(self) -> None:
        """Something was settled: perhaps the suspect."""
        if self._open:
            subscription, lane, position = self._open[0]
            if subscription.ended or not lane.is_open(position):
                self._clear()
                self._next()

    def _enough(self) -> None:
        """A suspect that takes so long is no killer so far: the others go on beside it."""
        self._timer = None
        if self._floor.alone is not None:
            log.warning(
                "%s takes its time with what is tried alone: the others go on", self._floor.alone.name
            )
        self._let_go(self._floor.roster)

    def _let_go(self, everybody: Iterable[Subscription]) -> None:
        self._silence()
        self._floor.alone = None
        for subscription in everybody:
            if subscription.book is not None and not self._open:
                subscription.book.watch = None
            subscription.wake()

    def _silence(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def end(self) -> None:
        """The bus stops."""
        self._silence()
        self._floor.alone = None

    def take_cleared(self) -> Sequence[Call]:
        """Return what is to be saved."""
        cleared, self.cleared = self.cleared, []
        return cleared
