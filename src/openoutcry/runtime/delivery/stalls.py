"""Stalls: a subscription that has stopped moving, with events waiting, is reported, and gates no longer.

So is one whose full mailbox lets events go.
"""

import asyncio
import logging
from typing import Protocol

from openoutcry.core.holds import Hold
from openoutcry.core.mailbox import Mailbox
from openoutcry.logs import about
from openoutcry.runtime.delivery.state import BusState
from openoutcry.runtime.delivery.subscription import HealthObserver, Subscription

log = logging.getLogger("openoutcry")


class RoomObserver(Protocol):
    """What is told that a mailbox may have room again: admission."""

    def drained(self, mailbox: Mailbox | None) -> None:
        """A mailbox has moved while the bus is under pressure; None: any of them may have."""
        ...


class StallWatch:
    """Looks at every subscription of a bus twice in a grace period, for as long as anything waits.

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
        if self._timer is None and self._bus.loop is not None:
            self._since_ns = self._bus.clock.now_ns()
            self._look_later(self._bus.loop)

    def _look_later(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = loop.call_later(self._bus.pressure.config.grace_s / 2, self._look)
        self.is_on = True
        if self._health is not None:
            self._health.work_begins()

    def _look(self) -> None:
        self._timer = None
        self.is_on = False
        bus = self._bus
        now_ns, grace_ns = bus.clock.now_ns(), bus.pressure.config.grace_s * 1e9
        unfinished = False
        for subscription in tuple(bus.router):  # a callback may unsubscribe
            mailbox = subscription.mailbox
            self._report_gone(subscription)
            waiting, progress = mailbox.waiting, mailbox.progress
            unfinished = unfinished or waiting > 0 or mailbox.stalled
            if not waiting or progress != subscription.moved_at[0]:
                subscription.moved_at = (progress, now_ns)
                if mailbox.stalled and waiting < bus.pressure.fall[0]:
                    self._set_stalled(subscription, stalled=False)
            elif bus.holds.is_alone or not subscription.readiness.is_over:
                subscription.moved_at = (progress, now_ns)  # most are held: that is no standing still
            elif not mailbox.stalled and now_ns - subscription.moved_at[1] >= grace_ns:
                self._set_stalled(subscription, stalled=True)
        if unfinished and self._timer is None and bus.loop is not None:
            self._look_later(bus.loop)

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
        may_not = not self._bus.running or Hold.OTHER_ALONE in subscription.holds
        may_not = may_not or Hold.SEAT in subscription.holds
        may_not = may_not or not subscription.readiness.is_over or Hold.NOT_RESTORED in subscription.holds
        if may_not or not mailbox.waiting or progress != mailbox.progress:
            return 0
        return max(0, now_ns - max(since_ns, self._since_ns))
