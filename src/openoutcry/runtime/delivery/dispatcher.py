"""The dispatcher: from admission to the mailboxes, once per batch.

```
  admitted ─▶ staged ─(one loop turn)─▶ history ─▶ one class in the batch: the same list to every subscription
                                                └▶ mixed: one list per group of subscriptions
  high     ─▶ what is staged first, then at once to the high lanes; normal batches are cut short
  control  ─▶ at once to the control workers; every worker looks up after the current call
  durable  ─▶ (committed) ─▶ as above, with its positions in the journal; not to lanes that are behind
  owed     ─▶ (read on from the journal, urgent at the start, redriven) ─▶ to the one subscription
```

All of it ends in `push`: nothing else puts an event into a mailbox.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from openoutcry.compiled import mypyc_attr
from openoutcry.core.lanes import NOWHERE
from openoutcry.core.mailbox import Mailbox
from openoutcry.runtime.delivery.before_start import BeforeStart, Held
from openoutcry.runtime.delivery.router import Route
from openoutcry.runtime.delivery.spilling import Spilling
from openoutcry.runtime.delivery.stalls import StallWatch
from openoutcry.runtime.delivery.state import BusState
from openoutcry.runtime.delivery.subscription import Subscription

Tap = Callable[[list[Any], str], None]
"""Is called with events and their lane."""


class Intake(Protocol):
    """What the dispatcher tells admission."""

    def batch_taken(self, count: int) -> None:
        """The `count` events that were staged are about to be delivered, and a new batch begins."""
        ...

    def hurry(self) -> None:
        """A kill switch is on its way: publishers give the loop back before they go on."""
        ...

    def drained(self, mailbox: Mailbox | None) -> None:
        """A mailbox has moved while the bus is under pressure; None: any of them may have."""
        ...


@mypyc_attr(allow_interpreted_subclasses=True)
class Dispatcher:
    """Routes admitted events into mailboxes.

    Attributes:
        staged: Low-priority events admitted since the last delivery.
        scheduled: Whether a delivery is on its way.
        mixed: Whether the staged events may differ in class or type.
        before_start: What waits for the start.
        stalls: Watches for subscriptions that have stopped moving.

    """

    __slots__ = (
        "_after",
        "_bus",
        "_intake",
        "_noted",
        "_on_tape",
        "_spilling",
        "_staged_at_ns",
        "_tap",
        "before_start",
        "mixed",
        "scheduled",
        "staged",
        "stalls",
    )

    def __init__(self, bus: BusState, intake: Intake) -> None:
        self._bus = bus
        self._intake = intake
        self._spilling = Spilling(bus)
        self.stalls: StallWatch = StallWatch(bus, intake)
        self.staged: list[Any] = []
        self.scheduled: bool = False
        self.mixed: bool = False
        self._staged_at_ns = 0
        self.before_start: BeforeStart = BeforeStart()
        self._after: int | None = None
        self._noted: dict[int, tuple[Route, ...]] = {}
        self._on_tape: Tap | None = None if bus.noted is None else bus.noted.deliver
        self._tap: Tap | None = self._on_tape

    def tap(self, call: Tap | None) -> None:
        """Call this with each batch of events that live in memory alone, as it is delivered; None: none."""
        note = self._on_tape
        if call is None or note is None:
            self._tap = call or note
            return

        def both(events: list[Any], lane: str) -> None:
            note(events, lane)
            call(events, lane)

        self._tap = both

    def drained(self, mailbox: Mailbox | None) -> None:
        """A mailbox has moved while the bus is under pressure; None: any of them may have."""
        self._intake.drained(mailbox)

    @property
    def on_the_way(self) -> int:
        """Events on their way to mailboxes, kill switches not counted."""
        return len(self.staged) + self.before_start.counting + self._bus.in_outboxes

    def stage(self, events: list[Any], *, mixed: bool) -> None:
        """Take events into the next delivery; `mixed` says that what is staged then differs in class."""
        is_first = not self.staged
        self.mixed = self.mixed or mixed
        self.staged.extend(events)
        if is_first:
            self.begin(events[0])

    def note_route(self, event: Any) -> None:
        """Keep the route of an event whose class lets its type change: it goes where it was admitted to."""
        self._noted[id(event)] = self._bus.router.route(event)

    def hold_back(self, event: Any, lane: str, positions: list[int] | None = None) -> None:
        """Keep an event for the start. `positions` is as for `deliver_control`."""
        self.before_start.add(Held(event, lane, self._bus.durability.released, positions))
        if positions is not None:
            self._fall_behind(lane)  # the journal hands it to them, at this start or in another process

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
                woken = subscription.wake(not woken) or woken
        if not woken:
            bus.loop.call_soon(self.deliver)

    def deliver(self) -> None:
        """Hand what is staged to the mailboxes."""
        self.scheduled = False
        if not self.staged:
            return
        batch, self.staged = self.staged, []
        self._intake.batch_taken(len(batch))
        bus = self._bus
        bus.history.append(batch, mixed=self.mixed)
        if bus.rates is not None:
            bus.rates.look(batch, self._staged_at_ns, mixed=self.mixed)
        if self._tap is not None:
            self._tap(batch, "normal")
        seen = bus.seen
        if self.mixed or batch[0].__class__ not in seen.passing:
            seen.keep(batch, self._staged_at_ns)
        if len(seen.line) + len(seen.now) >= seen.room or self._staged_at_ns >= seen.until_ns:
            self._forget(batch, self._staged_at_ns)
        if self.mixed:
            self.mixed = False
            self._deliver_mixed(batch)
        else:
            routes = bus.router.routes
            for group in routes.get(type(batch[0])) or bus.router.route(batch[0]):
                self.push(group.subscriptions, batch, self._staged_at_ns)
        if not self.stalls.is_on:
            self.stalls.look()
        if self.staged:
            self.begin(self.staged[0])

    def _forget(self, batch: list[Any], at_ns: int) -> None:
        """Forget the ids of the generation before the last, but for those in flight or in `batch`."""
        ids = [event.event_id for event in batch]
        self._bus.seen.forget(at_ns, [*self._bus.in_flight_ids(), *ids], ids)

    def _deliver_mixed(self, batch: list[Any]) -> None:
        """Hand out events of several classes: each group of subscriptions gets a list of what it takes."""
        router = self._bus.router
        lists: dict[Route, list[Any]] = {}
        by_class: dict[type, list[Callable[[Any], None]]] = {}
        noted, self._noted = self._noted, {}
        for event in batch:
            cls = event.__class__
            appends = by_class.get(cls)
            if appends is None:
                groups = router.routes.get(cls) or noted.get(id(event)) or router.route(event)
                appends = [lists.setdefault(group, []).append for group in groups]
                if cls in router.routes:
                    by_class[cls] = appends
            for append in appends:
                append(event)
        for group, events in lists.items():
            self.push(group.subscriptions, events, self._staged_at_ns)

    # -- into the mailboxes -------------------------------------------------------------------------

    def push(
        self,
        subscriptions: Sequence[Subscription],
        events: list[Any],
        at_ns: int,
        positions: Sequence[int] | None = None,
        lane: str = "normal",
        *,
        is_owed: bool = False,
    ) -> None:
        """Put events that were admitted at `at_ns` into a lane of every subscription.

        Args:
            subscriptions: Who is handed them; if there are none, that is noted.
            events: The events, in one list for all, which nobody changes afterwards.
            at_ns: When they were admitted, on the bus's monotonic clock.
            positions: Where they stand in the journal, for the durable among the subscriptions; None for
                events that are not there, `NOWHERE` if they may not be let go either.
            lane: `normal`, `high` or `control`.
            is_owed: Whether they are not new but owed to the subscription, which may read on from the
                journal: they go into its lane, whatever state it is in, and the caller wakes it.

        """
        if not subscriptions:
            self._bus.unheard.note(events, lane)
            return
        if lane == "control":
            self._bus.unheard.taken(events[0])
        is_plain = positions is None and lane == "normal" and not is_owed
        for subscription in subscriptions:
            mailbox = subscription.mailbox
            if is_plain and not mailbox.aside:
                mailbox.normal.push(events, at_ns)
                subscription.wake()
                continue
            if is_owed:
                mailbox.tighten()
                self._queue(subscription, events, at_ns, positions, lane)
            elif lane == "control":
                self._queue(subscription, events, at_ns, positions, lane, is_new=True)
                subscription.wake_control()
            else:
                if not (mailbox.aside and self._see_to(subscription, events, at_ns, positions, lane)):
                    self._queue(subscription, events, at_ns, positions, lane, is_new=True)
                subscription.wake()

    def _queue(
        self,
        subscription: Subscription,
        events: list[Any],
        at_ns: int,
        positions: Sequence[int] | None,
        lane: str,
        *,
        is_new: bool = False,
    ) -> None:
        """Put events into a lane. Where they stand in the journal is for durable subscriptions alone."""
        mailbox, offsets, known = subscription.mailbox, subscription.offsets, None
        if positions is not None and (offsets is not None or positions is NOWHERE):
            known = positions
        if is_new and known and offsets is not None:
            offsets.by_lane[lane].newest = known[-1]
        if lane == "normal":
            mailbox.normal.push(events, at_ns, known)
        elif lane == "high":
            mailbox.push_high(events, at_ns, known)
        else:
            self._push_control(subscription, events, at_ns, known)

    def _push_control(
        self, subscription: Subscription, events: list[Any], at_ns: int, known: Sequence[int] | None
    ) -> None:
        lane = subscription.control_lane
        waited = lane.waiting
        lane.push(events, at_ns, known)
        self._bus.control_waiting += (lane.waiting - waited) * self._bus.running

    def _see_to(
        self,
        subscription: Subscription,
        events: list[Any],
        at_ns: int,
        positions: Sequence[int] | None,
        lane: str,
    ) -> bool:
        """See to new events for a mailbox that is behind or may have too little room. False: queue them."""
        after = self._bus.durability.released if self._after is None else self._after
        return self._spilling.see_to(subscription, events, at_ns, positions, lane, after)

    def room_left(self, subscription: Subscription, lane: str) -> int:
        """Return how many more events a lane of a subscription may be handed."""
        return max(0, subscription.mailbox.room_left(self._bus.pressure, is_high=lane == "high"))

    # -- what the journal has -----------------------------------------------------------------------

    def release(self, events: list[Any], positions: Sequence[int], at_ns: int) -> None:
        """Hand committed normal-lane events to the mailboxes, after what was staged before."""
        bus = self._bus
        if not bus.running:
            self._leave_in_journal("normal", events)
            return
        if self.staged:
            self.deliver()
        mixed = len(events) > 1 and len(set(map(type, events))) > 1
        bus.history.append(events, mixed=mixed)
        seen = bus.seen
        if bus.rates is not None or len(seen.line) + len(seen.now) >= seen.room or at_ns >= seen.until_ns:
            self._note(events, at_ns)
        groups = bus.router.routes.get(events[0].__class__)
        if groups is not None and not mixed:
            for group in groups:
                self.push(group.subscriptions, events, at_ns, positions)
        else:
            for group, (some, places) in bus.router.split(events, positions):
                self.push(group.subscriptions, some, at_ns, places)
        if not self.stalls.is_on:
            self.stalls.look()

    def release_record(self, event: Any, position: int, at_ns: int) -> None:
        """Hand what the bus has recorded of itself to those that name its type. It counts in no figure."""
        for group in self._bus.router.route(event):
            if self._bus.running and group.subscriptions:
                if self.staged:
                    self.deliver()
                self.push(group.subscriptions, [event], at_ns, (position,))
                continue
            for subscription in group.subscriptions:
                offsets = None if subscription.offsets is None else subscription.offsets.normal
                if offsets is not None and not offsets.behind:
                    self._bus.durability.fall_behind(subscription, offsets)

    def release_high(self, event: Any, position: int) -> None:
        """Hand a committed high-priority event to the mailboxes at once, after what was staged before."""
        if not self._bus.running:
            self._leave_in_journal("high", [event])
            return
        self.deliver_high(event, position)

    def commit_held(self, event: Any, lane: str) -> bool:
        """An event that waits for the start has got into the journal. False: it does not wait here."""
        if not self.before_start.committed(event.event_id):
            return False
        self._bus.history.admitted += lane != "control"
        self._fall_behind(lane)
        return True

    def _leave_in_journal(self, lane: str, events: list[Any]) -> None:
        """Leave what is committed while the bus does not run to the next start, also for live lanes."""
        self._bus.history.admitted += len(events)
        for event in events:
            self.before_start.add(Held(event, lane, 0, is_committed=True))
        self._fall_behind(lane)

    def _fall_behind(self, lane: str) -> None:
        """Have the durable subscriptions read on from the journal, in this lane."""
        for subscription in self._bus.router:
            offsets = None if subscription.offsets is None else subscription.offsets.by_lane[lane]
            if offsets is not None and not offsets.behind:
                self._bus.durability.fall_behind(subscription, offsets)

    def _note(self, events: list[Any], at_ns: int) -> None:
        """Count events that were not staged in the rates, and forget old ids if it is time."""
        bus = self._bus
        if bus.rates is not None:
            bus.rates.look(events, at_ns)
        if len(bus.seen) >= bus.seen.room or at_ns >= bus.seen.until_ns:
            self._forget(events, at_ns)

    def deliver_high(self, event: Any, position: int = 0) -> None:
        """Hand a high-priority event to the mailboxes at once, after what was admitted before it."""
        if self.staged:
            self.deliver()
        bus = self._bus
        events, now_ns, seen = [event], bus.clock.now_ns(), bus.seen
        bus.history.append(events)
        if not position:
            seen.keep(events, now_ns)
            if self._tap is not None:
                self._tap(events, "high")
        if bus.rates is not None or len(seen.line) + len(seen.now) >= seen.room or now_ns >= seen.until_ns:
            self._note(events, now_ns)
        positions = (position,) if position else None
        for group in bus.router.route(event):
            self.push(group.subscriptions, events, now_ns, positions, "high")
        if not self.stalls.is_on:
            self.stalls.look()

    def deliver_control(
        self, event: Any, positions: list[int] | None = None, *, is_known: bool = False, folded: int = 0
    ) -> None:
        """Hand a kill switch to the control workers at once, before anything that waits anywhere.

        `positions` is a list with one 0 if it is being committed: whoever commits it writes its position into
        the list, and so tells every lane. `is_known`: the journal hands it to those who read on from there.
        `folded`: for how many older ones it stands.
        """
        if self.staged:
            self.deliver()
        bus = self._bus
        is_working = bus.busy > 0
        events, now_ns, seen = [event], bus.clock.now_ns(), bus.seen
        bus.history.append(events)
        seen.keep(events, now_ns)
        self._note_control(event, is_kept=positions is not None or is_known)
        if bus.rates is not None or len(seen.line) + len(seen.now) >= seen.room or now_ns >= seen.until_ns:
            self._note(events, now_ns)
        takers: list[Subscription] = []
        for group in bus.router.route(event):
            who = group.subscriptions
            if is_known and who:
                who = tuple(subscription for subscription in who if subscription.offsets is None)
                if not who:
                    continue
            takers.extend(who)
            if folded:
                for subscription in who:
                    subscription.control_lane.count_folded(folded)
            self.push(who, events, now_ns, positions, "control")
        bus.hearing.begin(event, takers, now_ns)
        if is_working:
            self._cut_all()
        self._intake.hurry()
        if not self.stalls.is_on:
            self.stalls.look()

    def _note_control(self, event: Any, *, is_kept: bool) -> None:
        """Note on the tape that a kill switch is delivered; `is_kept`: the journal has it, or will."""
        if self._bus.noted is not None:
            self._bus.noted.deliver_control(event, is_kept=is_kept)

    def _cut_all(self) -> None:
        """Have every worker give the loop back after its current call."""
        for subscription in self._bus.router:
            if subscription.mailbox.open:
                subscription.mailbox.cut_all()

    def deliver_control_again(self, event: Any) -> None:
        """Hand a kill switch that nobody took when it was published to those that do now."""
        self._bus.seen.delivered_to_all(event.event_id)
        for group in self._bus.router.route(event):
            self.push(group.subscriptions, [event], self._bus.clock.now_ns(), lane="control")
            self._bus.hearing.join(event, group.subscriptions)
        self._intake.hurry()

    def deliver_held_back(self, is_known: Callable[[str], bool] = lambda _: False) -> None:
        """The bus has started: deliver what was published before, kill switches first.

        `is_known` tells of an event id whether the journal has released it: then it comes from there.
        """
        self._staged_at_ns = self._bus.clock.now_ns()
        for event, lane, after, positions, is_committed, folded in self.before_start.take():
            if lane == "normal" and not is_committed:
                if after != self._after:
                    self.deliver()  # each batch goes in its place among what stands in the journal
                self._after = after
                self.mixed = True
                self.staged.append(event)
            elif lane == "control":
                is_read = is_known(event.event_id)
                self._bus.history.admitted += folded
                self.deliver_control(event, positions, is_known=is_read, folded=folded)
            elif is_committed:
                self.deliver()
                self._push_committed(event, lane)
            else:
                self.deliver_high(event)
        self.deliver()
        self._after = None

    def _push_committed(self, event: Any, lane: str) -> None:
        """Hand what was committed before the start to those that do not read on from the journal."""
        for group in self._bus.router.route(event):
            who = [s for s in group.subscriptions if s.offsets is None]
            if who or not group.subscriptions:
                self.push(who, [event], self._staged_at_ns, lane=lane)
