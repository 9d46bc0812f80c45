"""Hearing: in which subscriptions the call with the newest kill switch is over."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from openoutcry.core.halts import is_release, scope_of
from openoutcry.runtime.delivery.subscription import Subscription

NAMES_MOST: Final = 10
"""So many names are told of those that have not heard it, or whose call has failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeardSoFar:
    """How far a kill switch, or a release of one, has come.

    Attributes:
        event_id: Its id.
        activated: False for a release.
        scope: What it stops or releases.
        at_ns: When it was delivered, on the bus's monotonic clock.
        total: How many subscriptions take it.
        heard: In how many of them the call with it is over.
        slowest_ns: How long the slowest of these took.
        waiting: The names of some of the others.
        failed: The names of some of those whose call has failed.

    """

    event_id: str
    activated: bool
    scope: str
    at_ns: int
    total: int
    heard: int
    slowest_ns: int
    waiting: tuple[str, ...]
    failed: tuple[str, ...]


class Hearing:
    """Keeps count for one bus. It is told of deliveries, and of control workers that come to rest."""

    def __init__(self) -> None:
        self._event: Any = None
        self._at_ns = self._heard = self._slowest_ns = 0
        self._left: dict[Subscription, None] = {}
        self._failed: list[str] = []
        self._dead: dict[Subscription, int] = {}

    def begin(self, event: Any, subscriptions: Iterable[Subscription], now_ns: int) -> None:
        """A kill switch, or a release, was put into the mailboxes of those that take it."""
        self._event = event
        self._at_ns, self._heard, self._slowest_ns = now_ns, 0, 0
        self._left = dict.fromkeys(subscriptions)
        self._failed = []
        if self._dead:
            self._dead = {subscription: n for subscription, n in self._dead.items() if not subscription.ended}

    def join(self, event: Any, subscriptions: Iterable[Subscription]) -> None:
        """One that nobody took was put into the mailboxes of those that take it by now."""
        if event is self._event:
            self._left.update(dict.fromkeys(subscriptions))

    def rested(self, subscription: Subscription, now_ns: int) -> None:
        """The control worker of a subscription is at rest: its call is over, unless it will be made again."""
        if subscription not in self._left:
            return
        lane = subscription.control_lane
        newest, may_be_open = lane.newest, lane.waiting or subscription.control.open
        if newest is not None and may_be_open and subscription.control.is_open(lane, newest.final().first):
            return
        del self._left[subscription]
        self._heard += 1
        self._slowest_ns = max(self._slowest_ns, now_ns - self._at_ns)
        if lane.dead_lettered > self._dead.get(subscription, 0):
            self._dead[subscription] = lane.dead_lettered
            self._failed.append(subscription.name)

    def so_far(self) -> HeardSoFar | None:
        """Return how far the newest one has come; None before the first."""
        event = self._event
        if event is None:
            return None
        waiting = [subscription.name for subscription in self._left if not subscription.ended]
        return HeardSoFar(
            event_id=event.event_id,
            activated=not is_release(event),
            scope=scope_of(event),
            at_ns=self._at_ns,
            total=self._heard + len(waiting),
            heard=self._heard,
            slowest_ns=self._slowest_ns,
            waiting=tuple(waiting[:NAMES_MOST]),
            failed=tuple(self._failed[:NAMES_MOST]),
        )
