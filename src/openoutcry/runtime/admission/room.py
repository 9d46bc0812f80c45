"""Room: how full the mailboxes are, the level and the credit that follow from it, and who waits for room."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Protocol

from openoutcry.core.audience import Audience
from openoutcry.core.mailbox import Mailbox
from openoutcry.core.pressure import LEVELS, BackpressureLevel, Refusal, Wait
from openoutcry.runtime.admission.fast_path import FastPath
from openoutcry.runtime.delivery.state import BusState

log = logging.getLogger("openoutcry")

CREDIT_MAX = 1024
"""The most events that pass between two looks at the mailboxes."""


class Committing(Protocol):
    """What knows how many events wait for a commit: the slot of the store."""

    @property
    def committing(self) -> int:
        """How many ordinary and high-priority events wait for a commit, or for its sync."""
        ...


class Room:
    """Looks at the mailboxes of one bus.

    Attributes:
        level: The highest level that a publisher of any type in use meets.
        callbacks: Called with the level at each change of it.
        level_changes: How often it has changed.
        peak: The greatest depth that a look has found.
        rate_limited_waits: Publications that waited for a token of the rate limit.
        room_waits: High-priority publications that waited for room.

    """

    def __init__(self, bus: BusState, fast: FastPath, commits: Committing) -> None:
        self._bus = bus
        self._commits = commits
        self._fast = fast
        self._dispatcher = fast.dispatcher
        self._credit_most = min(CREDIT_MAX, bus.pressure.rise[0])
        self._way = self._way_rank = 0
        self._has_moved = True
        self._waiters: list[tuple[asyncio.Future[None], Audience]] = []
        self.level: BackpressureLevel = BackpressureLevel.NORMAL
        self.callbacks: list[Callable[[BackpressureLevel], Any]] = []
        self.reset()

    def reset(self) -> None:
        """Count from zero again."""
        self.level_changes: int = 0
        self.peak: int = 0
        self.rate_limited_waits: int = 0
        self.room_waits: int = 0

    def _on_the_way(self) -> int:
        return self._dispatcher.on_the_way + self._commits.committing

    def depth(self) -> int:
        """Return the most events that a publisher of any type in use meets, those on their way included."""
        bus, pressure, way = self._bus, self._bus.pressure, self._on_the_way()
        self._way, self._way_rank = way, pressure.rank_at(way, self._way_rank)
        for subscription in bus.router:
            subscription.mailbox.measure(pressure, way, self._credit_most)
        depth = way if bus.phase != "running" else 0
        for audience in bus.router.audiences():
            audience.measure(pressure, way, self._way_rank)
            depth = max(depth, audience.depth)
            if audience.rank:
                audience.mark(way)
        self._fast.count_anew()
        self._has_moved = False
        return depth

    def look(self) -> int:
        """Look at the mailboxes, set the level, grant credit, and return the depth."""
        bus = self._bus
        depth = self.depth()
        if self._dispatcher.staged and bus.running and depth >= bus.pressure.rise[0]:
            # What is on its way counts as if every mailbox took it: now it matters whether it does.
            self._dispatcher.deliver()
            depth = self.depth()
        self.peak = max(self.peak, depth)
        level = LEVELS[max((a.rank for a in bus.router.audiences()), default=self._way_rank)]
        if level is not self.level:
            self.level = level
            self._level_changed()
            depth = self.depth()  # a callback may have published or unsubscribed
        self._grant()
        return depth

    def _grant(self) -> None:
        """Grant credit for the classes whose publishers meet less than HIGH; the others are looked at."""
        bus, fast = self._bus, self._fast
        audiences = bus.router.audiences()
        granted = [audience.credit for audience in audiences if audience.credit]
        may_pass = bus.running and bus.phase == "running" and not bus.control_waiting
        if audiences and len(granted) < len(audiences):
            for cls in tuple(fast.known()):
                audience = bus.router.audience_of(cls, is_kept=cls in fast.durable)
                if audience is not None and not audience.credit:
                    fast.forget(cls)
        if not audiences:
            granted = [bus.pressure.credit(self._way, self._way_rank)]
        fast.grant(min(self._credit_most, *granted) if may_pass and granted else 0)
        bus.pressured = bool(self._waiters) or any(audience.rank for audience in audiences)

    def met_by(self, event: Any, *, is_kept: bool) -> tuple[Audience, int]:
        """Return the audience of an event and how many events its publisher meets, or a bound on that.

        The bound is what the last look has found and what was admitted since. It serves below the first
        threshold, and under pressure for as long as no mailbox has moved and no level begins: a flood of
        refusals must not look at everything each time. (A mailbox falls also while a worker goes through what
        it has taken, without telling.)
        """
        bus, fast = self._bus, self._fast
        audience = bus.router.audience(event, is_kept=is_kept)
        if audience.depth >= 0:
            since, rise = fast.admitted_since, bus.pressure.rise
            bound, rank = audience.depth + since, audience.rank
            if fast.credit > 0 and bound < rise[0]:
                return audience, bound
            rises = rank < len(rise) and bound >= rise[rank]
            holds = since < self._credit_most and self._on_the_way() >= self._way
            may_differ = rises or self._has_moved or audience.has_fallen()
            if bus.pressured and bus.running and holds and not may_differ:
                return audience, bound
        return self.met_now(event, is_kept=is_kept)

    def met_now(self, event: Any, *, is_kept: bool) -> tuple[Audience, int]:
        """Look, and return the audience of an event and how many events its publisher meets."""
        bus = self._bus
        self.look()
        audience = bus.router.audience(event, is_kept=is_kept)
        if audience.depth < 0:  # a callback has just made it
            self.look()
        return audience, max(0, audience.depth)

    def _level_changed(self) -> None:
        self.level_changes += 1
        bus, level = self._bus, self.level
        worst = max(bus.router.audiences(), key=lambda a: (a.rank, a.depth), default=None)
        met = min(worst.mailboxes, key=lambda box: box.depth, default=None) if worst is not None else None
        log.log(
            logging.INFO if level is BackpressureLevel.NORMAL else logging.WARNING,
            "backpressure is %s: %d of %d events wait for %s",
            level.value,
            self._way if worst is None else worst.depth,
            bus.pressure.capacity,
            next((s.name for s in bus.router if s.mailbox is met), "its turn"),
        )
        for callback in self.callbacks:
            self._bus.guard(callback, level)

    # -- waiting for it -----------------------------------------------------------------------------

    async def wait(self, verdict: Wait, audience: Audience, since_ns: int) -> bool:
        """Wait as a verdict says. False when the longest wait, counted from `since_ns`, is over."""
        bus = self._bus
        assert bus.loop is not None
        left_ns = int(bus.pressure.config.cooldown_s * 1e9) - (bus.clock.now_ns() - since_ns)
        if left_ns <= 0:
            return False
        if verdict.reason is Refusal.RATE_LIMITED:
            self.rate_limited_waits += 1
            await asyncio.sleep(verdict.wait_ns / 1e9)
            return True
        self.room_waits += 1
        bus.pressured = True
        waiter = (bus.loop.create_future(), audience)
        self._waiters.append(waiter)
        bus.room_waiting = True
        timer = bus.loop.call_later(left_ns / 1e9, _set_done, waiter[0])
        try:
            await waiter[0]
        finally:
            timer.cancel()
            if waiter in self._waiters:
                self._waiters.remove(waiter)
                bus.room_waiting = bool(self._waiters)
        return True

    def drained(self, mailbox: Mailbox | None) -> None:
        """A mailbox has moved under pressure; None: any may have. Who waits and has room now asks again."""
        if mailbox is not None:
            if not mailbox.mark:
                return
            self._has_moved = True
            if not self._waiters and not mailbox.has_fallen():
                return
        self.look()
        if self._waiters:
            current, most = self._bus.router.audiences(), self._bus.pressure.capacity
            full = {id(audience) for audience in current if audience.depth >= most}
            self._ask_again([waiter for waiter in self._waiters if id(waiter[1]) not in full])

    def give_up_loop(self) -> None:
        """The loop was closed: nobody waits any more."""
        self._waiters = []
        self._bus.room_waiting = False

    def ask_again(self) -> None:
        """Let all who wait for room ask again."""
        self._ask_again(self._waiters)

    def _ask_again(self, waiters: list[tuple["asyncio.Future[None]", Audience]]) -> None:
        self._waiters = [waiter for waiter in self._waiters if waiter not in waiters]
        self._bus.room_waiting = bool(self._waiters)
        for future, _ in waiters:
            _set_done(future)


def _set_done(waiter: "asyncio.Future[None]") -> None:
    if not waiter.done():
        waiter.set_result(None)
