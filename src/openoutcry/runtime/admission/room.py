"""Room: how full the mailboxes are, the level that follows from it, and the credit that it leaves."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from openoutcry.core.mailbox import Mailbox
from openoutcry.core.pressure import BackpressureLevel
from openoutcry.runtime.admission.fast_path import FastPath
from openoutcry.runtime.delivery.dispatcher import Dispatcher
from openoutcry.runtime.delivery.state import BusState, guarded
from openoutcry.runtime.durability.slot import StoreSlot

log = logging.getLogger("openoutcry")

GRANT_MOST = 1024


class Room:
    """The part of the admission that looks at the mailboxes."""

    dispatcher: Dispatcher
    fast_path: FastPath
    _slot: StoreSlot
    callbacks: list[Callable[[BackpressureLevel], Any]]
    capacity: int
    closed: str
    level_changes: int
    peak: int
    _bus: BusState
    _looked_at: int
    _granted: int
    _moved: bool
    _room: "list[asyncio.Future[None]]"

    def depth(self) -> int:
        """Return how many events wait in the fullest gating mailbox, those on their way to it included."""
        dispatcher, store = self.dispatcher, self._slot.store
        on_the_way = len(dispatcher.staged) + dispatcher.held_back + dispatcher.held_in_journal
        return self._bus.depth() + on_the_way + (0 if store is None else store.commits.waiting)

    def look(self) -> int:
        """Look at the mailboxes, set the level, grant credit, and return the depth."""
        bus = self._bus
        depth = self.depth()
        pressure = bus.pressure
        if self.dispatcher.staged and bus.running and depth >= pressure.rise[0]:
            # What is on its way counts as if the fullest mailbox took it: now it matters whether it does.
            self.dispatcher.deliver()
            depth = self.depth()
        self.peak = max(self.peak, depth)
        if pressure.assess(depth):
            self._level_changed(pressure.level)
            depth = self.depth()  # a callback may have published or unsubscribed
        bus.pressured = pressure.level is not BackpressureLevel.NORMAL or bool(self._room)
        self._grant(depth)
        return depth

    def _grant(self, depth: int) -> None:
        credit = self._bus.pressure.credit(depth) if self._bus.running and not self.closed else 0
        self._looked_at = depth
        self._granted = 0 if self._bus.control_waiting else min(GRANT_MOST, credit)
        self._moved = False
        self.fast_path.grant(self._granted)

    def _depth_at_most(self) -> int:
        """Return the depth, or a bound on it where a look at every mailbox could not change the answer.

        The bound is what the last look found and what was admitted since. It serves below the first
        threshold, and under pressure for as long as no mailbox has moved and no level begins: a flood of
        refusals must not look at everything each time.
        """
        bound = self._looked_at + self._granted - self.fast_path.credit()
        pressure = self._bus.pressure
        if self.fast_path.credit() > 0 and bound < pressure.rise[0]:
            return bound
        rank = pressure.level.rank
        rises = rank < len(pressure.rise) and bound >= pressure.rise[rank]
        if self._bus.pressured and not self._moved and self._bus.running and not rises:
            return bound
        return self.look()

    def _hurry(self) -> None:
        """A kill switch is on its way: publishers give the loop back before they go on."""
        self._looked_at += self._granted - self.fast_path.credit()
        self._granted = 0
        self.fast_path.grant(0)

    def _level_changed(self, level: BackpressureLevel) -> None:
        self.level_changes += 1
        fullest = next((s.name for s in self._bus.router if s.mailbox is self._bus.fullest), "the door")
        log.log(
            logging.INFO if level is BackpressureLevel.NORMAL else logging.WARNING,
            "backpressure is %s: %d of %d events wait for %s",
            level.value,
            self.depth(),
            self.capacity,
            fullest,
        )
        for callback in self.callbacks:
            guarded(callback, level)

    def drained(self, mailbox: Mailbox | None) -> None:
        """A mailbox has moved under pressure. If it is the fullest, those who wait for room ask again."""
        self._moved = True
        fullest = self._bus.fullest
        if mailbox is not None and fullest is not None and mailbox is not fullest:
            return
        if self.look() < self._bus.pressure.capacity:
            self._ask_again()

    def _ask_again(self) -> None:
        """Let those who wait for room ask again."""
        room, self._room = self._room, []
        self._bus.room_waiting = False
        for future in room:
            set_done(future)


def set_done(future: "asyncio.Future[None]") -> None:
    """Have whoever waits for a future go on."""
    if not future.done():
        future.set_result(None)
