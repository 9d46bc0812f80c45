"""Stalls: a subscription that has stopped moving, with events waiting, is reported, and gates no longer.

So is one whose full mailbox lets events go.
"""

import asyncio
import logging
from collections import deque
from typing import Final, Protocol

from openoutcry.core.holds import Hold
from openoutcry.core.mailbox import Mailbox
from openoutcry.logs import about
from openoutcry.runtime.delivery.state import BusState
from openoutcry.runtime.delivery.subscription import HealthObserver, Subscription
from openoutcry.units import NS_PER_S

log = logging.getLogger("openoutcry")


AT_ONCE: Final = 500
"""So many subscriptions are looked at in one turn of the loop."""


class RoomObserver(Protocol):
    """What is told that a mailbox may have room again: admission."""

    def drained(self, mailbox: Mailbox | None) -> None:
        """A mailbox has moved while the bus is under pressure; None: any of them may have."""
        ...


class StallWatch:
    """Looks at every subscription of a bus twice in a grace period, for as long as anything waits.

    Most of them are at rest, and have been: of these it is only seen that they still are.

    Attributes:
        is_on: Whether it will look again by itself.

    """

    def __init__(self, bus: BusState, room: RoomObserver) -> None:
        self._bus = bus
        self._room = room
        self._timer: asyncio.TimerHandle | None = None
        self._since_ns = 0
        self._health: HealthObserver | None = None
        self.is_on: bool = False
        self._gone: dict[Subscription, int] = {}
        self._without_room: set[Subscription] = set()
        self._left: deque[Subscription] = deque()
        self._is_unfinished = False
        self._looked_ns = self._looked_before_ns = 0
        self._rested: dict[Subscription, int] = {}
        """How many events those had accepted that were at rest at the last look."""

    def begin(self, health: HealthObserver) -> None:
        """The bus has started: tell `health` whenever work begins, from now on."""
        self._health = health
        self.look()

    def end(self) -> None:
        """The bus stops."""
        self._health = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self.is_on = False

    def look(self) -> None:
        """Look at the subscriptions from now on, for as long as anything waits."""
        if self._bus.loop is None:
            return
        if self._timer is None:
            self._since_ns = self._bus.clock.now_ns()
            self._look_later(self._bus.loop)
        elif not self.is_on:  # it is looking, a part at a time
            self._is_unfinished = self.is_on = True

    def _look_later(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = loop.call_later(self._bus.pressure.config.grace_s / 2, self._look)
        self.is_on = True
        if self._health is not None:
            self._health.work_begins()

    def _look(self) -> None:
        """Look at all of them, a part in each turn of the loop."""
        bus = self._bus
        self._looked_before_ns, self._looked_ns = self._looked_ns, bus.clock.now_ns()
        self._left = deque(bus.router)
        self._is_unfinished = False
        if len(self._rested) > 2 * len(self._left) + 8:
            self._rested = {s: accepted for s, accepted in self._rested.items() if not s.ended}
        self._look_on()

    def _look_on(self) -> None:
        self.is_on = self._is_unfinished
        self._look_at_some()
        loop = self._bus.loop
        if self._timer is None or loop is None:  # a callback has ended it
            return
        self._timer, self.is_on = None, False
        if self._left:
            self.is_on = self._is_unfinished
            self._timer = loop.call_later(0, self._look_on)
        elif self._is_unfinished:
            self._look_later(loop)

    def _look_at_some(self) -> None:
        left, rested, now_ns = self._left, self._rested, self._bus.clock.now_ns()
        for _ in range(min(AT_ONCE, len(left))):
            subscription = left.popleft()
            mailbox = subscription.mailbox
            high, normal = mailbox.high, mailbox.normal
            if subscription.let_go_ns is not None:
                self._report_gone(subscription)
            waits = high.waiting or normal.waiting or mailbox.open or high.held or normal.held
            if waits or mailbox.stalled:
                self._look_at(subscription, now_ns)
            elif rested.get(subscription) != high.accepted + normal.accepted:
                rested[subscription] = high.accepted + normal.accepted
                subscription.moved_at = (mailbox.progress, now_ns)

    def _look_at(self, subscription: Subscription, now_ns: int) -> None:
        """Look at one that is not at rest."""
        bus, mailbox = self._bus, subscription.mailbox
        if self._rested.pop(subscription, None) is not None:
            moved, since_ns = subscription.moved_at
            subscription.moved_at = (moved, max(since_ns, self._looked_before_ns))
        waiting, progress = mailbox.waiting, mailbox.progress
        self._is_unfinished = self._is_unfinished or waiting > 0 or mailbox.stalled
        if not waiting or progress != subscription.moved_at[0]:
            subscription.moved_at = (progress, now_ns)
            if mailbox.stalled and waiting < bus.pressure.fall[0]:
                self._set_stalled(subscription, stalled=False)
        elif bus.holds.is_alone or not subscription.readiness.is_over:
            subscription.moved_at = (progress, now_ns)  # most are held: that is no standing still
        elif (
            not mailbox.stalled
            and now_ns - subscription.moved_at[1] >= bus.pressure.config.grace_s * NS_PER_S
        ):
            self._set_stalled(subscription, stalled=True)

    def _report_gone(self, subscription: Subscription) -> None:
        """Log when a subscription begins to have no room for events, and when that is over."""
        gone = subscription.let_go.total() + subscription.no_room
        if gone == self._gone.get(subscription, 0):
            if subscription in self._without_room and subscription.mailbox.rank == 0:
                self._without_room.discard(subscription)
                log.info(
                    "%s has room again, after %d events that it had none for",
                    subscription.name,
                    gone,
                    extra=about(subscription=subscription.name),
                )
            return
        if len(self._gone) > 2 * len(self._bus.router) + 8:
            self._gone = {s: count for s, count in self._gone.items() if not s.ended}
            self._without_room = {s for s in self._without_room if not s.ended}
        self._gone[subscription] = gone
        if subscription not in self._without_room:
            self._without_room.add(subscription)
            log.warning(
                "%s is too slow and its mailbox is full: it lets events go, or they become its dead letters "
                "(%d so far), while others keep up",
                subscription.name,
                gone,
                extra=about(subscription=subscription.name),
            )

    def _set_stalled(self, subscription: Subscription, *, stalled: bool) -> None:
        subscription.mailbox.stalled = stalled
        waiting = subscription.mailbox.waiting
        if stalled:
            log.warning(
                "%s has not moved for %s s with %d events waiting",
                subscription.name,
                self._bus.pressure.config.grace_s,
                waiting,
                extra=about(subscription=subscription.name),
            )
        else:
            log.info(
                "%s moves again, with %d events waiting",
                subscription.name,
                waiting,
                extra=about(subscription=subscription.name),
            )
        for callback in self._bus.on_stalled:
            self._bus.guard(callback, subscription, stalled)
        self._room.drained(None)

    def still_ns(self, subscription: Subscription, now_ns: int) -> int:
        """Return for how long a subscription has not moved with events waiting; 0 if it moves, or may not."""
        mailbox = subscription.mailbox
        progress, since_ns = subscription.moved_at
        if subscription in self._rested:
            since_ns = max(since_ns, self._looked_ns)
        may_not = not self._bus.running or Hold.OTHER_ALONE in subscription.holds
        may_not = may_not or Hold.SEAT in subscription.holds
        may_not = may_not or not subscription.readiness.is_over or Hold.NOT_RESTORED in subscription.holds
        if may_not or not mailbox.waiting or progress != mailbox.progress:
            return 0
        return max(0, now_ns - max(since_ns, self._since_ns))
