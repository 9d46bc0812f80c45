"""Room: how full the mailboxes are, the level and the credit that follow from it, and who waits for room."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Protocol

from openoutcry.core.mailbox import Mailbox
from openoutcry.core.pressure import BackpressureLevel, Refusal, Wait
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
        callbacks: Called with the level of backpressure at each change of it.
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
        self._has_moved = True
        self._waiters: list[asyncio.Future[None]] = []
        self.callbacks: list[Callable[[BackpressureLevel], Any]] = []
        self.reset()

    def reset(self) -> None:
        """Count from zero again."""
        self.level_changes = self.peak = 0
        self.rate_limited_waits = self.room_waits = 0

    def depth(self) -> int:
        """Return how many events wait in the fullest gating mailbox, those on their way to it included."""
        return self._bus.depth() + self._dispatcher.on_the_way + self._commits.committing

    def look(self) -> int:
        """Look at the mailboxes, set the level, grant credit, and return the depth."""
        bus = self._bus
        depth = self.depth()
        pressure = bus.pressure
        if self._dispatcher.staged and bus.running and depth >= pressure.rise[0]:
            # What is on its way counts as if the fullest mailbox took it: now it matters whether it does.
            self._dispatcher.deliver()
            depth = self.depth()
        self.peak = max(self.peak, depth)
        if pressure.assess(depth):
            self._level_changed(pressure.level)
            depth = self.depth()  # a callback may have published or unsubscribed
        bus.pressured = pressure.level is not BackpressureLevel.NORMAL or bool(self._waiters)
        is_open = bus.running and bus.phase == "running" and not bus.control_waiting
        self._fast.grant(depth, min(CREDIT_MAX, pressure.credit(depth)) if is_open else 0)
        self._has_moved = False
        return depth

    def depth_at_most(self) -> int:
        """Return the depth, or a bound on it where a look at every mailbox could not change the answer.

        The bound is what the last look has found and what was admitted since. It serves below the first
        threshold, and under pressure for as long as no mailbox has moved and no level begins: a flood of
        refusals must not look at everything each time.
        """
        bound = self._fast.depth_bound
        pressure = self._bus.pressure
        if self._fast.credit > 0 and bound < pressure.rise[0]:
            return bound
        rank = pressure.level.rank
        rises = rank < len(pressure.rise) and bound >= pressure.rise[rank]
        if self._bus.pressured and not self._has_moved and self._bus.running and not rises:
            return bound
        return self.look()

    def _level_changed(self, level: BackpressureLevel) -> None:
        self.level_changes += 1
        bus = self._bus
        fullest = next((s.name for s in bus.router if s.mailbox is bus.fullest), "its turn")
        log.log(
            logging.INFO if level is BackpressureLevel.NORMAL else logging.WARNING,
            "backpressure is %s: %d of %d events wait for %s",
            level.value,
            self.depth(),
            bus.pressure.capacity,
            fullest,
        )
        for callback in self.callbacks:
            self._bus.guard(callback, level)

    # -- waiting for it -----------------------------------------------------------------------------

    async def wait(self, verdict: Wait, since_ns: int) -> bool:
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
        waiter = bus.loop.create_future()
        self._waiters.append(waiter)
        bus.room_waiting = True
        timer = bus.loop.call_later(left_ns / 1e9, _set_done, waiter)
        try:
            await waiter
        finally:
            timer.cancel()
            if waiter in self._waiters:
                self._waiters.remove(waiter)
                bus.room_waiting = bool(self._waiters)
        return True

    def drained(self, mailbox: Mailbox | None) -> None:
        """A mailbox has moved under pressure; None: any may have. Of the fullest, the waiters ask again."""
        self._has_moved = True
        fullest = self._bus.fullest
        if mailbox is not None and fullest is not None and mailbox is not fullest:
            return
        if self.look() < self._bus.pressure.capacity:
            self.ask_again()

    def give_up_loop(self) -> None:
        """The loop was closed: nobody waits any more."""
        self._waiters = []
        self._bus.room_waiting = False

    def ask_again(self) -> None:
        """Let those who wait for room ask again."""
        waiters, self._waiters = self._waiters, []
        self._bus.room_waiting = False
        for waiter in waiters:
            _set_done(waiter)


def _set_done(waiter: "asyncio.Future[None]") -> None:
    if not waiter.done():
        waiter.set_result(None)
