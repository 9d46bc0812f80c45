"""The feed: from admission to the mailboxes, once per batch.

```
  admitted ─▶ staged ─(one loop turn)─▶ history ─▶ one class in the batch: the same list to every subscription
                                                └▶ mixed: one list per group of subscriptions
  high     ─▶ what is staged first, then at once to the high lanes; normal batches are cut short
  control  ─▶ at once to the control workers; every worker looks up after the call in hand
  durable  ─▶ (committed) ─▶ as above, with its positions in the journal; not to lanes that are behind
```
"""

from collections.abc import Callable, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any, Protocol

from openoutcry.core.lanes import Lane
from openoutcry.core.mailbox import Mailbox
from openoutcry.core.retries import DeadLetter
from openoutcry.runtime.delivery.offsets import LaneOffsets
from openoutcry.runtime.delivery.router import Route
from openoutcry.runtime.delivery.state import BusState
from openoutcry.runtime.delivery.subscription import Subscription

Went = list[tuple[Subscription, int]]
"""The subscriptions that a kill switch went to, and its place in their control lanes."""


class Intake(Protocol):
    """What the dispatcher tells admission."""

    def batch_delivered(self) -> None:
        """What was staged is delivered, and a new batch begins."""
        ...

    def ids_moved(self, now: set[str], before: set[str]) -> None:
        """The known ids are in these generations from now on."""
        ...

    def hurry(self) -> None:
        """A kill switch is on its way: publishers give the loop back before they go on."""
        ...

    def drained(self, mailbox: Mailbox | None) -> None:
        """A mailbox has moved while the bus is under pressure; None: any of them may have."""
        ...


class Dispatcher:
    """Routes admitted events into mailboxes.

    Attributes:
        staged: Low-priority events admitted since the last delivery.
        scheduled: Whether a delivery is on its way.
        mixed: Whether the staged events may differ in class or type.
        held_back: Events that wait for the start, kill switches not counted.
        held_in_journal: Events that wait for the start in the journal alone.

    """

    __slots__ = (
        "_after",
        "_before_start",
        "_bus",
        "_for_unbooked",
        "_intake",
        "_noted",
        "_staged_at_ns",
        "held_back",
        "held_in_journal",
        "mixed",
        "scheduled",
        "staged",
    )

    def __init__(self, bus: BusState, intake: Intake) -> None:
        self._bus = bus
        self._intake = intake
        bus.dispatcher = self
        self.staged: list[Any] = []
        self.scheduled = self.mixed = False
        self._staged_at_ns = 0
        self._before_start: list[tuple[Any, str, int, Went]] = []
        self._for_unbooked: list[tuple[Any, str, int]] = []
        self.held_back = self.held_in_journal = 0
        self._after: int | None = None
        self._noted: dict[int, tuple[Route, ...]] = {}

    @property
    def held_back_all(self) -> int:
        """Events that wait for the start."""
        return len(self._before_start)

    @property
    def on_the_way(self) -> int:
        """Events on their way to mailboxes, kill switches not counted."""
        return len(self.staged) + self.held_back + self.held_in_journal

    def stage(self, events: list[Any], *, mixed: bool) -> None:
        """Take events into the next delivery; `mixed` says that what is staged then differs in class."""
        is_first = not self.staged
        self.mixed = self.mixed or mixed
        self.staged.extend(events)
        if is_first:
            self.begin(events[0])

    def mix(self) -> None:
        """Note that what is staged differs in class or type."""
        self.mixed = True

    def note_route(self, event: Any) -> None:
        """Keep the route of an event whose class lets its type change: it goes where it was admitted to."""
        self._noted[id(event)] = self._bus.router.route(event)

    def hold_back(self, event: Any, lane: str) -> Went:
        """Keep an event for the start. Returns a list that will say where a kill switch went then."""
        went: Went = []
        self._before_start.append((event, lane, self._bus.durability.released, went))
        self.held_back += lane != "control"
        return went

    def begin(self, event: Any) -> None:
        """The first event of a batch was staged: deliver in the next turn of the loop.

        The workers that take this event are woken now, so that they run right after the delivery and not a
        turn later.
        """
        bus = self._bus
        assert bus.loop is not None
        self.scheduled = True
        self._staged_at_ns = bus.clock.now_ns()
        woken = False
        for group in bus.router.routes.get(event.__class__) or bus.router.route(event):
            for subscription in group.subscriptions:
                woken = subscription.wake() or woken
        if not woken:
            bus.loop.call_soon(self.deliver)

    def deliver(self) -> None:
        """Hand what is staged to the mailboxes."""
        self.scheduled = False
        if not self.staged:
            return
        batch = self.staged.copy()
        del self.staged[: len(batch)]
        bus = self._bus
        bus.history.append(batch)
        if bus.rates is not None:
            bus.rates.look(batch, self._staged_at_ns, mixed=self.mixed)
        seen = bus.seen
        if len(seen.now) >= seen.window or self._staged_at_ns >= seen.until_ns:
            self._forget(batch)
        self._intake.batch_delivered()
        if self.mixed:
            self.mixed = False
            self._deliver_mixed(batch)
        else:
            routes = bus.router.routes
            for group in routes.get(type(batch[0])) or bus.router.route(batch[0]):
                self._hand(group.subscriptions, batch)
        if not bus.watching:
            bus.watch()
        if self.staged:
            self.begin(self.staged[0])

    def _forget(self, batch: list[Any]) -> None:
        """Forget the ids of the generation before the last, but for those in flight or in `batch`."""
        seen, bus = self._bus.seen, self._bus
        seen.forget(self._staged_at_ns, bus.in_flight_ids().union(e.event_id for e in batch))
        self._intake.ids_moved(seen.now, seen.before)

    def _deliver_mixed(self, batch: list[Any]) -> None:
        router = self._bus.router
        routes = router.routes
        touched: dict[Route, None] = {}
        noted, self._noted = self._noted, {}
        for event in batch:
            groups = routes.get(event.__class__)
            if groups is None:
                groups = noted.get(id(event))
            for group in router.route(event) if groups is None else groups:
                group.bucket.append(event)
                touched[group] = None
        for group in touched:
            events, group.bucket = group.bucket, []
            self._hand(group.subscriptions, events)

    def _hand(self, subscriptions: tuple[Subscription, ...], events: list[Any]) -> None:
        at_ns = self._staged_at_ns
        for subscription in subscriptions:
            mailbox = subscription.mailbox
            if mailbox.aside:
                self._hand_aside(subscription, mailbox.normal, events, at_ns)
            else:
                mailbox.normal.push(events, at_ns)
            subscription.wake()

    def _hand_aside(self, subscription: Subscription, lane: Lane, events: list[Any], at_ns: int) -> None:
        """Hand events that are not in the journal to a mailbox that is stalled or reads on from the journal.

        A stalled mailbox holds what it may; the rest are its own dead letters, not everybody's wait.
        """
        mailbox, bus = subscription.mailbox, self._bus
        if lane is mailbox.high:
            mailbox.cut()
        rest: list[Any] = []
        room = bus.pressure.capacity - mailbox.waiting
        if mailbox.stalled and (mailbox.gates or lane is mailbox.high):
            if lane.keeps_all:
                events, rest = events[: max(0, room)], events[max(0, room) :]
            else:
                rest, events = lane.push_overflowing(events, room, at_ns), []
        offsets = None if subscription.offsets is None else subscription.offsets.of(lane.name)
        if offsets is not None and offsets.behind and lane.keeps_all:
            after = bus.durability.released if self._after is None else self._after
            offsets.held.extend((after, event, at_ns) for event in events)
            lane.held += len(events)
        elif events:
            lane.push(events, at_ns)
        if rest:
            if lane.keeps_all:
                lane.push_overflowing(rest, 0, at_ns)
            self._overflow(subscription, lane, rest, [0] * len(rest))

    def _overflow(
        self, subscription: Subscription, lane: Lane, events: list[Any], positions: Sequence[int]
    ) -> None:
        wall_ns = self._bus.clock.wall_ns()
        for event, position in zip(events, positions, strict=True):
            letter = DeadLetter(
                subscription.name,
                lane.name,
                event,
                "stalled",
                "its mailbox is full",
                "",
                0,
                wall_ns,
                position=position,
            )
            self._bus.dead(subscription, letter)

    # -- what the journal has -----------------------------------------------------------------------

    def release(self, events: list[Any], positions: Sequence[int], at_ns: int) -> None:
        """Hand committed normal-lane events to the mailboxes, after what was staged before."""
        bus = self._bus
        if not bus.running:
            self._leave_in_journal("normal", events)
            return
        self.deliver()
        if not self.staged:
            self._staged_at_ns = at_ns
        bus.history.append(events)
        if bus.rates is not None:
            bus.rates.look(events, at_ns)
        if len(bus.seen.now) >= bus.seen.window or at_ns >= bus.seen.until_ns:
            self._forget(events)
        cls = events[0].__class__
        groups = bus.router.routes.get(cls)
        if groups is not None and len(set(map(type, events))) == 1:
            for group in groups:
                self._place(group.subscriptions, events, positions, at_ns)
        else:
            self._release_mixed(events, positions, at_ns)
        if not bus.watching:
            bus.watch()

    def _release_mixed(self, events: list[Any], positions: Sequence[int], at_ns: int) -> None:
        router = self._bus.router
        parts: dict[Route, tuple[list[Any], list[int]]] = {}
        for event, position in zip(events, positions, strict=True):
            for group in router.route(event):
                part = parts.get(group)
                if part is None:
                    part = parts[group] = ([], [])
                part[0].append(event)
                part[1].append(position)
        for group, (some, places) in parts.items():
            self._place(group.subscriptions, some, places, at_ns)

    def _place(
        self,
        subscriptions: tuple[Subscription, ...],
        events: list[Any],
        positions: Sequence[int],
        at_ns: int,
    ) -> None:
        for subscription in subscriptions:
            mailbox, offsets = subscription.mailbox, subscription.offsets
            if offsets is None:
                self._hand((subscription,), events)
                continue
            if mailbox.aside and self._stays_in_journal(subscription, offsets.normal):
                subscription.wake()
                continue
            offsets.normal.place(positions)
            mailbox.normal.push(events, at_ns)
            subscription.wake()

    def _stays_in_journal(self, subscription: Subscription, offsets: LaneOffsets) -> bool:
        """Tell whether a lane need not be handed what is committed: it reads on from the journal itself."""
        mailbox = subscription.mailbox
        if not offsets.behind and mailbox.stalled and (mailbox.gates or offsets.lane is mailbox.high):
            self._bus.durability.fall_behind(subscription, offsets)
        return offsets.behind

    def release_high(self, event: Any, position: int) -> None:
        """Hand a committed high-priority event to the mailboxes at once, after what was staged before."""
        if not self._bus.running:
            self._leave_in_journal("high", [event])
            return
        self.deliver_high(event, position)

    def _leave_in_journal(self, lane: str, events: list[Any]) -> None:
        """Leave what is committed while the bus does not run to the next start, of live lanes too."""
        self.held_in_journal += len(events)
        self._bus.history.admitted += len(events)
        self._for_unbooked += ((event, lane, len(self._before_start)) for event in events)
        for subscription in self._bus.router:
            offsets = None if subscription.offsets is None else subscription.offsets.of(lane)
            if offsets is not None and not offsets.behind:
                self._bus.durability.fall_behind(subscription, offsets)

    def _admit_alone(self, events: list[Any]) -> int:
        """Enter an event that is not staged in the log; return the time."""
        bus = self._bus
        bus.history.append(events)
        self._staged_at_ns = now_ns = bus.clock.now_ns()
        if bus.rates is not None:
            bus.rates.look(events, now_ns)
        if len(bus.seen.now) >= bus.seen.window or now_ns >= bus.seen.until_ns:
            self._forget(events)
        return now_ns

    def deliver_high(self, event: Any, position: int = 0) -> None:
        """Hand a high-priority event to the mailboxes at once, after what was admitted before it."""
        self.deliver()
        bus = self._bus
        events = [event]
        now_ns = self._admit_alone(events)
        for group in bus.router.route(event):
            for subscription in group.subscriptions:
                mailbox, offsets = subscription.mailbox, subscription.offsets
                durable = offsets is not None and position > 0
                if not mailbox.aside:
                    if durable and offsets is not None:
                        offsets.high.place((position,))
                    mailbox.push_high(events, now_ns)
                elif durable and offsets is not None and self._stays_in_journal(subscription, offsets.high):
                    pass
                elif durable and offsets is not None:
                    offsets.high.place((position,))
                    mailbox.push_high(events, now_ns)
                else:
                    self._hand_aside(subscription, mailbox.high, events, now_ns)
                subscription.wake()
        bus.watch()

    def deliver_control(self, event: Any, *, is_known: bool = False) -> Went:
        """Hand a kill switch to the control workers at once, before anything that waits anywhere.

        `is_known`: the journal hands it to those who read on from there. Returns where it went: the
        subscriptions, and its place in their control lanes.
        """
        self.deliver()
        bus = self._bus
        events = [event]
        now_ns = self._admit_alone(events)
        went: Went = []
        for group in bus.router.route(event):
            for subscription in group.subscriptions:
                if is_known and subscription.offsets is not None:
                    continue
                subscription.control.normal.push(events, now_ns)
                went.append((subscription, subscription.control.normal.accepted))
                bus.control_waiting += 1
                bus.consumers[subscription].wake_control()
        for subscription in bus.router:
            subscription.mailbox.cut_all()
        self._intake.hurry()
        bus.watch()
        return went

    def deliver_held_back(self, is_known: Callable[[str], bool] = lambda _: False) -> None:
        """The bus has started: deliver what was published before, kill switches first.

        `is_known` tells of an event id whether the journal has released it: then it comes from there.
        """
        held, self._before_start = self._before_start, []
        committed, self._for_unbooked = self._for_unbooked, []
        self.held_back = self.held_in_journal = 0
        self._staged_at_ns = self._bus.clock.now_ns()
        for event, lane, _, went in held:
            if lane == "control":
                went.extend(self.deliver_control(event, is_known=is_known(event.event_id)))
        for lane in ("high", "normal"):
            done = 0
            for event, _, place in (h for h in committed if h[1] == lane):
                self._deliver_held(lane, held[done:place])
                done = place
                self._hand_unbooked(event, lane)
            self._deliver_held(lane, held[done:])
        self._after = None

    def _deliver_held(self, lane: str, held: list[tuple[Any, str, int, Went]]) -> None:
        some = [(event, after) for event, its_lane, after, _ in held if its_lane == lane]
        for event, _ in some if lane == "high" else ():
            self.deliver_high(event)
        for after, together in groupby(some if lane == "normal" else (), key=itemgetter(1)):
            self.mixed = True
            self.staged.extend(event for event, _ in together)
            self._after = after
            self.deliver()

    def _hand_unbooked(self, event: Any, lane: str) -> None:
        """Hand what the journal has to those who do not read on from it."""
        for group in self._bus.router.route(event):
            for subscription in (s for s in group.subscriptions if s.offsets is None):
                if lane == "high":
                    subscription.mailbox.push_high([event], self._staged_at_ns)
                    subscription.wake()
                else:
                    self._hand((subscription,), [event])
