"""Crash suspects: events that were in a handler when the process died, and may be why.

Each is tried again while nothing else runs, and marked so, for as long as it has proved nothing: a further
crash then has one culprit. An event that kills the process is convicted after a few crashes, and an innocent
one that was merely busy at the time is not, however often that happens. (A hundred-minute call may kill the
process at its end; so enough crashes beside others convict as well.)
"""

import asyncio
import logging
from dataclasses import dataclass
from typing import Protocol

from openoutcry.core.holds import Hold
from openoutcry.core.retries import DeadLetter
from openoutcry.events import decode_many
from openoutcry.journals.rows import LANES
from openoutcry.logs import about
from openoutcry.ports import Journal
from openoutcry.runtime.delivery.in_flight import ALONE
from openoutcry.runtime.delivery.offsets import LaneOffsets
from openoutcry.runtime.delivery.state import BusState
from openoutcry.runtime.delivery.subscription import Subscription
from openoutcry.runtime.durability.saving import Call, Saving

log = logging.getLogger("openoutcry")

BESIDE_FACTOR = 10
"""This many times `crash_attempts` crashes beside others convict as well."""
TRIED_MOST = 5
"""After this many times `suspect_alone_s` the bus goes on, whatever is left to be tried alone."""


@dataclass(slots=True)
class Record:
    """What is held against a call: crashes while it was in flight, beside others or alone."""

    beside: int = 0
    alone: int = 0

    @property
    def crashes(self) -> int:
        """All of them."""
        return self.beside + self.alone


class Limits(Protocol):
    """The settings that are needed here."""

    @property
    def crash_attempts(self) -> int:
        """After this many crashes an event is not tried again."""
        ...

    @property
    def suspect_alone_s(self) -> float:
        """For how long a suspect has the bus to itself, in seconds."""
        ...


class CrashSuspects:
    """The suspects of earlier lives.

    Attributes:
        quarantined: Events that were put away.

    """

    def __init__(self, bus: BusState, journal: Journal, limits: Limits, saving: Saving) -> None:
        self._bus = bus
        self._journal = journal
        self._limits = limits
        self._saving = saving
        self._known: dict[str, dict[tuple[str, int], Record]] = {}
        for suspect in journal.suspects():
            lane = suspect.lane.removesuffix(ALONE)
            if not suspect.subscription or lane not in LANES or suspect.position < journal.first:
                # a damaged mark, which an earlier version took for a call, or one that is retired: nobody's
                saving.clear([(suspect.subscription, suspect.lane, suspect.position)])
                continue
            records = self._known.setdefault(suspect.subscription, {})
            record = records.setdefault((lane, suspect.position), Record())
            if lane == suspect.lane:
                record.beside += suspect.crashes
            else:
                record.alone += suspect.crashes
        self._open: list[tuple[Subscription, LaneOffsets, int]] = []
        self._slow: list[tuple[Subscription, LaneOffsets, int]] = []
        self._alone: dict[Call, int] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._until_ns = 0
        self.quarantined: int = 0

    def sort_out(self, subscription: Subscription) -> None:
        """Put away what was in the handler at too many crashes, and remember what is to be tried alone."""
        offsets = subscription.offsets
        assert offsets is not None
        most = self._limits.crash_attempts
        for (name, position), record in self._known.pop(subscription.name, {}).items():
            lane = offsets.by_lane[name]
            if not lane.wants(position) or position > self._journal.head:
                self._clear(subscription, lane, position)
            elif record.alone + min(record.beside, 1) >= most or record.crashes >= most * BESIDE_FACTOR:
                self._quarantine(subscription, lane, position, record.crashes)
                self._clear(subscription, lane, position)
            elif name == "control":  # a kill switch does not wait to be tried alone
                self._slow.append((subscription, lane, position))
            else:
                self._alone[subscription.name, name, position] = record.alone
                self._open.append((subscription, lane, position))

    def _quarantine(self, subscription: Subscription, lane: LaneOffsets, position: int, crashes: int) -> None:
        found = self._journal.read(position - 1, 1)
        lane.note_settled(position)
        if not found or found[0].position != position:
            return
        self.quarantined += 1
        event = decode_many([found[0].payload])[0]
        text = f"the process died {crashes} times while this was being handled"
        log.error(
            "%s: position %d is quarantined: %s",
            subscription.name,
            position,
            text,
            extra=about(event, subscription.name),
        )
        letter = DeadLetter(
            subscription.name,
            lane.lane.name,
            event,
            "quarantined",
            text,
            "",
            crashes,
            self._bus.clock.wall_ns(),
            position=position,
        )
        self._bus.dead(subscription, letter)

    def begin(self) -> None:
        """Let the first suspect have the bus to itself."""
        self._until_ns = self._bus.clock.now_ns() + int(self._limits.suspect_alone_s * 1e9) * TRIED_MOST
        # Who has been alone at a crash comes first; chance sees that everybody's turn comes some time.
        self._bus.chance.jitter.shuffle(self._open)
        self._open.sort(key=lambda call: -self._alone.get((call[0].name, call[1].lane.name, call[2]), 0))
        for subscription, _, _ in (*self._open, *self._slow):
            if subscription.offsets is not None:
                subscription.offsets.watch(self._look)
        self._next()

    def _next(self) -> None:
        bus = self._bus
        self._silence()
        # (Who is getting its memory back may take its time; its turn comes when it has it.)
        self._open.sort(key=lambda call: Hold.RESTORING in call[0].holds)
        while self._open and bus.clock.now_ns() < self._until_ns:
            subscription, lane, position = self._open[0]
            if Hold.RESTORING in subscription.holds:
                self._end_alone()
                return
            if not subscription.ended and subscription.offsets is not None and lane.is_open(position):
                log.warning(
                    "%s was handling position %d when the process died: it is tried again alone",
                    subscription.name,
                    position,
                    extra=about(subscription=subscription.name),
                )
                bus.holds.let_alone(subscription.holds)
                assert bus.loop is not None
                self._timer = bus.loop.call_later(self._limits.suspect_alone_s, self._enough)
                subscription.wake()
                return
            self._clear(*self._open.pop(0))
        # (What is over already would not be looked at again.)
        self._slow = [call for call in (*self._slow, *self._open) if not self._is_over(*call)]
        self._open = []
        self._let_go()

    def restored(self) -> None:
        """A subscription has got its memory back: it may be the next to have the bus to itself."""
        if self._open and not self._bus.holds.is_alone:
            self._next()

    def _clear(self, subscription: Subscription, lane: LaneOffsets, position: int) -> None:
        name = lane.lane.name
        self._saving.clear([(subscription.name, name, position), (subscription.name, name + ALONE, position)])

    def _look(self) -> None:
        """Something was settled: perhaps a suspect."""
        self._slow = [call for call in self._slow if not self._is_over(*call)]
        if self._open and self._is_over(*self._open[0]):
            self._open.pop(0)
            self._next()
        elif not self._open and not self._slow:
            self._let_go()

    def _is_over(self, subscription: Subscription, lane: LaneOffsets, position: int) -> bool:
        if not subscription.ended and lane.is_open(position):
            return False
        self._clear(subscription, lane, position)
        return True

    def _enough(self) -> None:
        """A suspect that takes so long has not killed the process by being begun: the next one is tried.

        It goes on beside that, and a crash from now on is not held against it as one that it had alone.
        """
        self._timer = None
        if self._open:
            slow = self._open.pop(0)
            self._slow.append(slow)
            log.warning(
                "%s takes its time with what is tried alone: the next goes on",
                slow[0].name,
                extra=about(subscription=slow[0].name),
            )
            slow[0].mark_as_beside()
        self._next()

    def _let_go(self) -> None:
        """Nobody has the bus alone any more; watch on only for what takes its time."""
        self._silence()
        for subscription in self._bus.router:
            if subscription.offsets is not None and not self._slow:
                subscription.offsets.watch(None)
        self._end_alone()

    def _end_alone(self) -> None:
        self._bus.holds.end_alone()
        for subscription in self._bus.router:
            subscription.wake()

    def _silence(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def end(self) -> None:
        """The bus stops."""
        self._silence()
        self._bus.holds.end_alone()
