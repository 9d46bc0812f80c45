"""Spilling: what a mailbox does with new events while it is behind, or has too little room for them.

```
  in the journal, for a durable cursor ─▶ stays there: the lane is behind, and reads on
  not there, the lane is behind        ─▶ held for its turn, as far as there is room
  no room                              ─▶ the oldest waiting event of a type that is shed first goes
             none of these waits       ─▶ the lane falls behind, or the event itself goes, or is a dead letter
```

The emptiest mailbox that takes an event decides whether it is accepted, so this concerns the fuller ones.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from openoutcry.core.lanes import Lane
from openoutcry.core.mailbox import Mailbox
from openoutcry.core.pressure import Pressure
from openoutcry.core.retries import DeadLetter
from openoutcry.events import event_type_of, fixed_event_type
from openoutcry.ports import Clock
from openoutcry.runtime.delivery.durability import Durability
from openoutcry.runtime.delivery.offsets import LaneOffsets
from openoutcry.runtime.delivery.subscription import Subscription

NO_ROOM = "no room"
"""The reason of a dead letter for which there was no room."""


class SpillingBus(Protocol):
    """The state of a bus, as spilling mailboxes see it."""

    clock: Clock
    durability: Durability
    pressure: Pressure

    def dead_of_no_room(self, subscription: Subscription, letter: DeadLetter) -> None:
        """File a dead letter, and tell the observers when the delivery is over."""
        ...

    def let_go(self, subscription: Subscription, events: list[Any], at_ns: int) -> None:
        """Note which events the full mailbox of a subscription has let go."""
        ...


def _any(_event: Any) -> bool:
    return True


def _none(_event: Any) -> bool:
    return False


class Spilling:
    """Sees to new events for mailboxes that are not simply handed what is new."""

    __slots__ = ("_bus", "_by_class", "_shed_first")

    def __init__(self, bus: SpillingBus) -> None:
        self._bus = bus
        self._shed_first = bus.pressure.config.shed_first
        self._by_class: dict[type, bool] = {}

    def _may_go(self, event: Any) -> bool:
        """Return True if an event is of a type that is shed first."""
        cls: type = event.__class__
        found = self._by_class.get(cls)
        if found is None:
            found = event_type_of(event) in self._shed_first
            if fixed_event_type(cls) is not None:
                self._by_class[cls] = found
        return found

    def see_to(
        self,
        subscription: Subscription,
        events: list[Any],
        at_ns: int,
        positions: Sequence[int] | None,
        lane: str,
        after: int,
    ) -> bool:
        """See to new events for a mailbox that is behind or may have too little room.

        `after` is up to where the journal had been released when they were published. False: they are to be
        queued as usual.
        """
        mailbox, offsets = subscription.mailbox, subscription.offsets
        queue = mailbox.high if lane == "high" else mailbox.normal
        its = None if offsets is None else offsets.by_lane[lane]
        kept = its if positions is not None else None
        if kept is not None and kept.behind:
            return True
        if queue.drops_any:
            self._push_and_drop(subscription, events, at_ns, positions if kept is not None else None)
            return True
        holds = its if its is not None and its.behind and queue.keeps_all else None
        if holds is None and not queue.room_for(events):
            return False
        return self._fit(subscription, queue, events, at_ns, kept, holds, after)

    def _fit(
        self,
        subscription: Subscription,
        queue: Lane,
        events: list[Any],
        at_ns: int,
        kept: LaneOffsets | None,
        holds: LaneOffsets | None,
        after: int,
    ) -> bool:
        """Queue or hold events as far as there is room, or can be made. False: there is room for all of them.

        `kept` are the offsets of the lane if the journal has the events, `holds` if it is behind and has not.
        """
        mailbox = subscription.mailbox
        excess = queue.room_for(events) - self._places(subscription, queue, holds)
        # Of what is shed first so many are to go that the last of them finds the level below CRITICAL.
        to_go = max(excess, 0 if kept is not None else self._to_go(mailbox, queue, events, excess))
        if to_go > 0:
            newer = events if queue is mailbox.normal else []
            gone = self._make_room(subscription, to_go, newer, holds, at_ns)
            excess -= gone
            to_go -= gone
        if excess > 0 and kept is not None:
            self._bus.durability.fall_behind(subscription, kept)
            return True
        if excess <= 0 and to_go <= 0 and holds is None:
            return False
        refused: list[Any] = []
        if excess > 0 or to_go > 0:
            events, refused = self._divide(subscription, queue, events, excess, to_go, at_ns)
        if holds is not None:
            holds.hold(events, after, at_ns)
        elif events:
            queue.push(events, at_ns, None)
        if queue is mailbox.high:
            mailbox.cut()
        self._bury(subscription, queue, refused, at_ns)
        return True

    def _places(self, subscription: Subscription, queue: Lane, holds: LaneOffsets | None) -> int:
        """Return how many events there is room for; negative if there are too many.

        Of those that are held, one place is left for what has to be read from the journal before them: or
        they would wait for ever. What came back from a handler since the last look was not there when the
        events were accepted; what is in a handler may still come back.
        """
        mailbox = subscription.mailbox
        room = mailbox.room_left(self._bus.pressure, is_high=queue is mailbox.high)
        if holds is not None:
            return room - 1
        return room + max(0, min(mailbox.returned, subscription.options.concurrency - mailbox.in_flight))

    def _to_go(self, mailbox: Mailbox, queue: Lane, events: list[Any], excess: int) -> int:
        """Return how many events that are shed first there would be too many after the last of `events`."""
        after = 0
        if queue is mailbox.normal:
            after = next((n for n, event in enumerate(reversed(events)) if self._may_go(event)), len(events))
        if queue is mailbox.high or after == len(events):
            return 0
        pressure = self._bus.pressure
        return excess - after + pressure.low_room - pressure.shed_room

    def _push_and_drop(
        self, subscription: Subscription, events: list[Any], at_ns: int, positions: Sequence[int] | None
    ) -> None:
        """Queue events where the oldest may go whatever they are."""
        mailbox, offsets = subscription.mailbox, subscription.offsets
        if positions is not None and offsets is not None:
            offsets.normal.newest = positions[-1]
        mailbox.normal.push(events, at_ns, positions)
        mailbox.cut()
        mailbox.normal.shed(-mailbox.room_left(self._bus.pressure, is_high=False), _any)

    def _make_room(
        self,
        subscription: Subscription,
        most: int,
        newer: list[Any],
        holds: LaneOffsets | None,
        at_ns: int,
    ) -> int:
        """Let the oldest events go that may, for `newer` ones of the normal lane; return how many."""
        mailbox = subscription.mailbox
        mailbox.cut()  # what a worker has taken and not begun waits as well, and is the oldest
        gone = mailbox.normal.shed(most, _any if mailbox.normal.drops_any else self._may_go, newer)
        if holds is not None and holds.lane is mailbox.normal and len(gone) < most:
            gone += holds.shed_held(most - len(gone), self._may_go)
        self._bus.let_go(subscription, gone, at_ns)
        return len(gone)

    def _divide(
        self,
        subscription: Subscription,
        queue: Lane,
        events: list[Any],
        excess: int,
        to_go: int,
        at_ns: int,
    ) -> tuple[list[Any], list[Any]]:
        """Return which of the events to take, and which are dead letters; count these, and those let go."""
        is_high = queue is subscription.mailbox.high
        divided = queue.divide(events, excess, _none if is_high else self._may_go, to_go)
        queue.overflow(len(divided.gone))
        self._bus.let_go(subscription, divided.gone, at_ns)
        queue.refuse(len(divided.refused))
        return divided.kept, divided.refused

    def _bury(self, subscription: Subscription, lane: Lane, events: list[Any], at_ns: int) -> None:
        bus, wall_ns = self._bus, self._bus.clock.wall_ns()
        subscription.note_no_room(len(events), at_ns)
        for event in events:
            error = f"{subscription.mailbox.waiting} of {bus.pressure.capacity} events wait in its mailbox"
            letter = DeadLetter(subscription.name, lane.name, event, NO_ROOM, error, "", 0, wall_ns)
            bus.dead_of_no_room(subscription, letter)
