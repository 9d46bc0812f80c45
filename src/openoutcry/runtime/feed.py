"""The feed: from admission to the mailboxes, once per batch.

```
  admitted ─▶ staged ─(one loop turn)─▶ history ─▶ one class in the batch: the same list to every subscription
                                                └▶ mixed: one list per group of subscriptions
  high     ─▶ what is staged first, then at once to the high lanes; normal batches are cut short
  control  ─▶ at once to the control workers; every worker looks up after the call in hand
```
"""

from collections.abc import Callable
from typing import Any

from openoutcry.core.retries import DeadLetter
from openoutcry.runtime.floor import Floor
from openoutcry.runtime.roster import Group
from openoutcry.runtime.subscriptions import Subscription


class Feed:
    """Routes admitted events into mailboxes.

    Attributes:
        staged: Low-priority events admitted since the last delivery.
        scheduled: Whether a delivery is on its way.
        mixed: Whether the staged events may differ in class or type.
        held_back: Events that wait for the start, kill switches not counted.

    """

    __slots__ = (
        "_before_start",
        "_floor",
        "_noted",
        "_staged_at_ns",
        "exchange",
        "held_back",
        "hurry",
        "mixed",
        "renew",
        "scheduled",
        "staged",
    )

    def __init__(self, floor: Floor) -> None:
        self._floor = floor
        floor.feed = self
        self.staged: list[Any] = []
        self.renew: Callable[[], None] = lambda: None
        self.hurry: Callable[[], None] = lambda: None
        self.exchange: Callable[[set[str], set[str]], None] = lambda _now, _before: None
        self.scheduled = self.mixed = False
        self._staged_at_ns = 0
        self._before_start: list[tuple[Any, str]] = []
        self.held_back = 0
        self._noted: dict[int, tuple[Group, ...]] = {}

    @property
    def held_back_all(self) -> int:
        """Events that wait for the start."""
        return len(self._before_start)

    def mix(self) -> None:
        """Note that what is staged differs in class or type."""
        self.mixed = True

    def note_route(self, event: Any) -> None:
        """Keep the route of an event whose class lets its type change: it goes where it was admitted to."""
        self._noted[id(event)] = self._floor.roster.route(event)

    def hold_back(self, event: Any, lane: str) -> None:
        """Keep an event for the start."""
        self._before_start.append((event, lane))
        self.held_back += lane != "control"

    def begin(self, event: Any) -> None:
        """The first event of a batch was staged: deliver in the next turn of the loop.

        The workers that take this event are woken now, so that they run right after the delivery and not a
        turn later.
        """
        floor = self._floor
        assert floor.loop is not None
        self.scheduled = True
        self._staged_at_ns = floor.clock.now_ns()
        woken = False
        for group in floor.roster.routes.get(event.__class__) or floor.roster.route(event):
            for subscription in group.subscriptions:
                woken = subscription.wake() or woken
        if not woken:
            floor.loop.call_soon(self.deliver)

    def deliver(self) -> None:
        """Hand what is staged to the mailboxes."""
        self.scheduled = False
        if not self.staged:
            return
        batch = self.staged.copy()
        del self.staged[: len(batch)]
        floor = self._floor
        floor.history.append(batch)
        seen = floor.seen
        if len(seen.now) >= seen.window or self._staged_at_ns >= seen.until_ns:
            self._forget(batch)
        self.renew()
        if self.mixed:
            self.mixed = False
            self._deliver_mixed(batch)
        else:
            routes = floor.roster.routes
            for group in routes.get(type(batch[0])) or floor.roster.route(batch[0]):
                self._hand(group.subscriptions, batch)
        if not floor.watching:
            floor.watch()
        if self.staged:
            self.begin(self.staged[0])

    def _forget(self, batch: list[Any]) -> None:
        """Forget the ids of the generation before the last, but for those in flight or in `batch`."""
        seen, floor = self._floor.seen, self._floor
        seen.forget(self._staged_at_ns, floor.in_flight_ids().union(e.event_id for e in batch))
        self.exchange(seen.now, seen.before)

    def _deliver_mixed(self, batch: list[Any]) -> None:
        roster = self._floor.roster
        routes = roster.routes
        touched: dict[Group, None] = {}
        noted, self._noted = self._noted, {}
        for event in batch:
            groups = routes.get(event.__class__)
            if groups is None:
                groups = noted.get(id(event))
            for group in roster.route(event) if groups is None else groups:
                group.bucket.append(event)
                touched[group] = None
        for group in touched:
            events, group.bucket = group.bucket, []
            self._hand(group.subscriptions, events)

    def _hand(self, subscriptions: tuple[Subscription, ...], events: list[Any]) -> None:
        at_ns = self._staged_at_ns
        for subscription in subscriptions:
            mailbox = subscription.mailbox
            if mailbox.stalled:
                self._hand_stalled(subscription, "normal", events, at_ns)
            else:
                mailbox.normal.push(events, at_ns)
            subscription.wake()

    def _hand_stalled(self, subscription: Subscription, lane: str, events: list[Any], at_ns: int) -> None:
        """A stalled mailbox holds what it may; the rest are its own dead letters, not everybody's wait."""
        mailbox, floor = subscription.mailbox, self._floor
        if not mailbox.gates and lane == "normal":
            mailbox.normal.push(events, at_ns)
            return
        target = mailbox.high if lane == "high" else mailbox.normal
        if lane == "high":
            mailbox.cut()
        rest = target.push_overflowing(events, floor.pressure.capacity - mailbox.waiting, at_ns)
        wall_ns = floor.clock.wall_ns()
        for event in rest:
            letter = DeadLetter(
                subscription.name, lane, event, "stalled", "its mailbox is full", "", 0, wall_ns
            )
            subscription.dead_letters.append(letter)
            floor.dead(letter)

    def _admit_alone(self, events: list[Any]) -> int:
        """Enter an event that is not staged in the log; return the time."""
        floor = self._floor
        floor.history.append(events)
        self._staged_at_ns = now_ns = floor.clock.now_ns()
        if len(floor.seen.now) >= floor.seen.window or now_ns >= floor.seen.until_ns:
            self._forget(events)
        return now_ns

    def deliver_high(self, event: Any) -> None:
        """Hand a high-priority event to the mailboxes at once, after what was admitted before it."""
        self.deliver()
        floor = self._floor
        events = [event]
        now_ns = self._admit_alone(events)
        for group in floor.roster.route(event):
            for subscription in group.subscriptions:
                if subscription.mailbox.stalled:
                    self._hand_stalled(subscription, "high", events, now_ns)
                else:
                    subscription.mailbox.push_high(events, now_ns)
                subscription.wake()
        floor.watch()

    def deliver_control(self, event: Any) -> None:
        """Hand a kill switch to the control workers at once, before anything that waits anywhere."""
        self.deliver()
        floor = self._floor
        events = [event]
        now_ns = self._admit_alone(events)
        for group in floor.roster.route(event):
            for subscription in group.subscriptions:
                subscription.control.normal.push(events, now_ns)
                floor.control_waiting += 1
                floor.runners[subscription].wake_control()
        for subscription in floor.roster:
            subscription.mailbox.cut_all()
        self.hurry()

    def deliver_held_back(self) -> None:
        """The bus has started: deliver what was published before, kill switches first."""
        held, self._before_start = self._before_start, []
        self.held_back = 0
        self._staged_at_ns = self._floor.clock.now_ns()
        for event, lane in held:
            if lane == "control":
                self.deliver_control(event)
        for event, lane in held:
            if lane == "high":
                self.deliver_high(event)
            elif lane == "normal":
                self.mixed = True
                self.staged.append(event)
        self.deliver()
