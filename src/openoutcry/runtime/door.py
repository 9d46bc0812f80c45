"""The door: what is let in, what is refused and why, and who has to wait.

`admit_plain` is the hot path: an event of a known class that is low-priority, within the credit that the last look at the
mailboxes gave, and not seen before. Everything else goes through `admit`, which looks at everything.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from threading import get_ident
from typing import Any

from openoutcry.core.pressure import Admit, BackpressureLevel, Refusal, Refuse, Wait
from openoutcry.errors import BusClosed, InvalidEvent, NotAuthorised, WrongThread
from openoutcry.events import HIGH_PRIORITY_EVENT_TYPES, Event, EventType, event_type_of, fixed_event_type, stamp
from openoutcry.runtime.causes import Causing, current
from openoutcry.runtime.feed import Feed
from openoutcry.runtime.floor import Floor, guarded

GRANT_MOST = 1024
_HIGH = frozenset(str(t.value) for t in HIGH_PRIORITY_EVENT_TYPES)
_KILL = str(EventType.KILL_SWITCH.value)
_whose = current.get


class Door:
    """Admission to one bus.

    Attributes:
        credit: Low-priority events that can be let in before the mailboxes must be looked at again.
        plain: Event classes whose events are all low-priority, so that `admit_plain` may take them.
        refused: Refused events by reason.

    """

    def __init__(self, floor: Floor, feed: Feed, releasers: frozenset[str]) -> None:
        self._floor = floor
        self._feed = feed
        self._releasers = releasers
        self._seen = self.seen = floor.seen
        self.capacity = floor.pressure.capacity
        self.thread = get_ident()
        self.closed = ""
        self.credit = 0
        self.plain: set[type] = set()
        self.bus: object = None
        self.callbacks: list[Callable[[BackpressureLevel], Any]] = []
        self._room: list[asyncio.Future[None]] = []
        self.reset()
        floor.on_drained = self.drained

    def reset(self) -> None:
        """Count from zero again."""
        self.refused: Counter[str] = Counter()
        self.duplicates = self.high = self.control = 0
        self.rate_limited_waits = self.room_waits = 0
        self.level_changes = self.peak = 0
        self.admitted_before = self._floor.history.admitted

    # -- the hot path -------------------------------------------------------------------------------

    def admit_plain(self, event: Any) -> bool:
        """Let an ordinary event in. False says nothing about the event: ask `admit`."""
        if self.credit <= 0 or event.__class__ not in self.plain or get_ident() != self.thread:
            return False
        event_id = event.event_id
        seen = self._seen
        if event_id in seen.now or event_id in seen.before:
            return False
        seen.now.add(event_id)
        who = _whose()
        if who is not None:
            self._stamp(event, who)
        self.credit -= 1
        feed = self._feed
        feed.staged.append(event)
        if not feed.scheduled:
            feed.begin(event)
        return True

    def admit_plain_many(self, events: list[Any]) -> bool:
        """Let ordinary events in, all or none. False says nothing about them."""
        if self.credit < len(events) or get_ident() != self.thread or not self.plain.issuperset(map(type, events)):
            return False
        ids = {event.event_id for event in events}
        seen = self._seen
        if len(ids) != len(events) or not ids.isdisjoint(seen.now) or not ids.isdisjoint(seen.before):
            return False
        seen.now |= ids
        who = _whose()
        if who is not None:
            for event in events:
                self._stamp(event, who)
        self.credit -= len(events)
        feed = self._feed
        feed.staged += events
        if not feed.scheduled:
            feed.begin(events[0])
        return True

    def _stamp(self, event: Any, who: Causing) -> None:
        cause = who.cause()
        if cause is None:
            return
        if isinstance(event, Event):
            stamp(
                event,
                causation_id=cause.event_id,
                correlation_id=cause.correlation_id,
                round_id=cause.round_id,
            )
        else:
            self._floor.envelopes.put(event.event_id, cause)

    # -- everything else ----------------------------------------------------------------------------

    def admit(self, event: Any, *, priority: bool = False) -> bool | Wait:
        """Let an event in (True), refuse and count it (False), or say how long to wait before asking again.

        Raises:
            InvalidEvent, NotAuthorised, BusClosed, WrongThread: Nothing was admitted.

        """
        self.check_thread("publish")
        event_type = self._check(event)
        if event.event_id in self._seen:
            self.duplicates += 1
            return True
        if event_type == _KILL:
            self._let_in(event, "control")
            return True
        who = _whose()
        reentrant = who is not None and who.bus is self._floor
        high = priority or event_type in _HIGH
        depth = self.look()
        pressure = self._floor.pressure
        if high:
            verdict = pressure.admit_high(depth)
        else:
            verdict = pressure.admit_low(event_type, depth, self._floor.clock.now_ns(), reentrant=reentrant)
        if isinstance(verdict, Wait) and reentrant:
            verdict = Refuse(verdict.reason)
        if isinstance(verdict, Admit):
            self._let_in(event, "high" if high else "normal")
            return True
        return verdict if isinstance(verdict, Wait) else self.refuse(verdict.reason)

    def is_urgent(self, event: Any, *, priority: bool) -> bool:
        """Tell whether an event is a kill switch or takes the high-priority lane. Works on any thread and any object."""
        try:
            event_type = event_type_of(event)
        except InvalidEvent:
            return False
        return priority or event_type in _HIGH

    def refuse(self, reason: Refusal) -> bool:
        """Count a refused event. Always False."""
        self.refused[reason.value] += 1
        return False

    async def wait(self, verdict: Wait, since_ns: int) -> bool:
        """Wait as a verdict says. False when the longest wait, counted from `since_ns`, is over."""
        floor = self._floor
        assert floor.loop is not None
        left_ns = int(floor.pressure.config.cooldown_s * 1e9) - (floor.clock.now_ns() - since_ns)
        if left_ns <= 0:
            return False
        if verdict.reason is Refusal.RATE_LIMITED:
            self.rate_limited_waits += 1
            if verdict.wait_ns > left_ns:
                return False
            await asyncio.sleep(verdict.wait_ns / 1e9)
            return True
        self.room_waits += 1
        floor.pressured = True
        future = floor.loop.create_future()
        self._room.append(future)
        timer = floor.loop.call_later(left_ns / 1e9, _set, future)
        try:
            await future
        finally:
            timer.cancel()
            if future in self._room:
                self._room.remove(future)
        return True

    def check_thread(self, call: str) -> None:
        """Raise `WrongThread` unless this is the thread of the bus."""
        if get_ident() != self.thread:
            raise WrongThread(
                f"{call} was called from a thread that does not own this bus; use publish_threadsafe there, or "
                "loop.call_soon_threadsafe for anything else"
            )

    def _check(self, event: Any) -> str:
        if self.closed:
            who = _whose()
            if who is None or who.bus is not self._floor or self.closed == "stopped":
                raise BusClosed(
                    f"the bus is {self.closed}, so nothing is admitted from outside; start it, or publish before stop()"
                )
        event_type = event_type_of(event)
        event_id = getattr(event, "event_id", None)
        if not isinstance(event_id, str) or not event_id:
            raise InvalidEvent(f"{type(event).__name__}.event_id is {event_id!r}; it must be a non-empty string")
        if event_type == _KILL and not getattr(event, "activated", True):
            source = getattr(event, "source_agent", "")
            if source not in self._releasers:
                raise NotAuthorised(
                    f"{source!r} may not release a kill switch; allowed are {sorted(self._releasers)}: "
                    "name the source in EventBus(kill_switch_releasers=...)"
                )
        return event_type

    def _let_in(self, event: Any, lane: str) -> None:
        floor, feed = self._floor, self._feed
        who = _whose()
        if who is not None:
            self._stamp(event, who)
        self._seen.now.add(event.event_id)
        self.high += lane == "high"
        self.control += lane == "control"
        if not floor.running:
            feed.hold_back(event, lane)
        elif lane == "control":
            feed.deliver_control(event)
        elif lane == "high":
            self.credit -= 1
            feed.deliver_high(event)
        else:
            self._learn(type(event))
            self.credit -= 1
            feed.staged.append(event)
            if not feed.scheduled:
                feed.begin(event)

    def _learn(self, cls: type) -> None:
        """Put a class on the hot path if all its events are low-priority."""
        fixed = fixed_event_type(cls)
        if fixed is not None and fixed not in _HIGH and not self.closed:
            self.plain.add(cls)

    # -- depth and level ----------------------------------------------------------------------------

    def depth(self) -> int:
        """Return how many events wait in the fullest gating mailbox, those on their way to it included."""
        return self._floor.depth() + len(self._feed.staged) + self._feed.held_back

    def look(self) -> int:
        """Look at the mailboxes, set the level, grant credit, and return the depth."""
        floor = self._floor
        depth = self.depth()
        self.peak = max(self.peak, depth)
        pressure = floor.pressure
        if pressure.assess(depth):
            self._level_changed(pressure.level)
        floor.pressured = pressure.level is not BackpressureLevel.NORMAL or bool(self._room)
        self.credit = min(GRANT_MOST, pressure.credit(depth)) if floor.running and not self.closed else 0
        return depth

    def _level_changed(self, level: BackpressureLevel) -> None:
        self.level_changes += 1
        for callback in self.callbacks:
            guarded(callback, level)

    def drained(self) -> None:
        """The fullest mailbox has moved: look again and let those who wait for room ask again."""
        if self.look() < self._floor.pressure.capacity and self._room:
            room, self._room = self._room, []
            for future in room:
                _set(future)


def _set(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)
