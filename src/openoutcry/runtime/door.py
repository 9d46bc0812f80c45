"""The door: what is let in, what is refused and why, and who has to wait.

Ordinary events pass the turnstile, on the credit that the door's last look at the mailboxes gave. Everything
else goes through `admit`, which looks at everything.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from threading import get_ident
from typing import Any

from openoutcry.core.pressure import Admit, BackpressureLevel, Refusal, Refuse, Wait
from openoutcry.errors import (
    BusClosed,
    InvalidEvent,
    NotAuthorised,
    PublishError,
    WrongThread,
)
from openoutcry.events import (
    HIGH_PRIORITY_EVENT_TYPES,
    Event,
    EventType,
    event_type_of,
    fixed_event_type,
    stamp,
)
from openoutcry.ports import Level
from openoutcry.runtime.causes import Tracker, current
from openoutcry.runtime.durable_door import DurableDoor, Vote
from openoutcry.runtime.feed import Feed
from openoutcry.runtime.floor import Floor
from openoutcry.runtime.groups import Group
from openoutcry.runtime.room import Room, set_done
from openoutcry.runtime.turnstile import make_turnstile

log = logging.getLogger("openoutcry")

YIELD_AT = 512
IN_A_ROW_MOST = 64
_HIGH = frozenset(str(t.value) for t in HIGH_PRIORITY_EVENT_TYPES)
_KILL = str(EventType.KILL_SWITCH.value)
_whose = current.get


class Door(Room, DurableDoor):
    """Admission to one bus.

    Attributes:
        turnstile: The hot path.
        plain: Event classes whose events are all low-priority, so that the turnstile may take them.
        refused: Refused events by reason.
        keeper: What keeps events durable, if anything does. It is opened when it is first needed.
        restoring: Whether an agent is getting its memory back, which must have no effects.

    """

    def __init__(self, floor: Floor, feed: Feed, releasers: frozenset[str]) -> None:
        self._floor = floor
        self.feed = feed
        self._releasers = releasers
        self.seen = floor.seen
        self.plain: set[type] = set()
        self.turnstile = make_turnstile(
            plain=self.plain,
            staged=feed.staged,
            begin=feed.begin,
            mix=feed.mix,
            stamp_cause=self.stamp_cause,
            outbox=self.outbox,
            carefully=self.publish,
        )
        feed.renew = self.turnstile.renew
        feed.hurry = self._hurry
        feed.exchange = self.turnstile.exchange
        feed.exchange(self.seen.now, self.seen.before)
        self.capacity = floor.pressure.capacity
        self._thread = get_ident()
        self.closed = ""
        self.callbacks: list[Callable[[BackpressureLevel], Any]] = []
        self._looked_at = self._granted = 0
        self._moved = True
        self._room: list[asyncio.Future[None]] = []
        self._in_a_row = 0
        self.keeper = None
        self.open_keeper = None
        self.restoring = False
        self.reset()
        floor.on_drained = self.drained

    def reset(self) -> None:
        """Count from zero again."""
        self.refused: Counter[str] = Counter()
        self.duplicates = self.high = self.control = 0
        self.rate_limited_waits = self.room_waits = 0
        self.level_changes = self.peak = 0
        self.admitted_before = self.admitted

    @property
    def admitted(self) -> int:
        """How many events were ever admitted, those on their way to the mailboxes included."""
        keeper = self.keeper
        waiting = 0 if keeper is None else keeper.commits.waiting
        return self._floor.history.admitted + len(self.feed.staged) + self.feed.held_back_all + waiting

    # -- everything else ----------------------------------------------------------------------------

    def stamp_cause(self, event: Any) -> None:
        """Write the cause of a publication into the event or, for a user's own class, its envelope."""
        who = _whose()
        cause = None if who is None else who.cause()
        if (
            cause is None or cause.event_id == event.event_id
        ):  # an event that is passed on is not its own cause
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

    def admit(
        self,
        event: Any,
        *,
        priority: bool = False,
        patient: bool = False,
        paid: bool = False,
        level: str | None = None,
        vote: Vote | None = None,
    ) -> bool | Wait | Group:
        """Let an event in (True), refuse and count it (False), or say how long to wait before asking again.

        A durable event is let in by a commit that is still to come: then that is returned. `patient` says
        that the caller will wait: then a token of the rate limit is reserved for it, and it comes back with
        `paid`.

        Raises:
            InvalidEvent, NotAuthorised, BusClosed, WrongThread, JournalError: Nothing was admitted.

        """
        self.check_thread("publish")
        event_type = self._check(event)
        survives = self._level(event_type, level)
        if event.event_id in self.seen:
            return self._again(event, priority or event_type in _HIGH, survives)
        if event_type == _KILL:
            return self._let_in_kill_switch(event, survives)
        who = _whose()
        reentrant = who is not None and who.bus is self._floor and who.in_hand
        high = priority or event_type in _HIGH
        depth = self._depth_at_most()
        pressure = self._floor.pressure
        if high:
            verdict = pressure.admit_high(depth)
        else:
            # Before the start nothing drains, so nobody is made to wait for a token either.
            hasty = reentrant or not self._floor.running
            verdict = pressure.admit_low(
                event_type,
                depth,
                self._floor.clock.now_ns(),
                reentrant=hasty,
                patient=patient,
                paid=paid,
            )
        if isinstance(verdict, Wait) and reentrant:
            verdict = Refuse(verdict.reason)
        if isinstance(verdict, Admit):
            if survives:
                return self._stage(event, "high" if high else "normal", survives, vote)
            self._let_in(event, "high" if high else "normal")
            return True
        if survives and self.keeper is not None and self.keeper.has_released(event.event_id):
            # An earlier life has accepted it: there is no room to be had for what delivers nothing new.
            return self._again(event, high, survives)
        return verdict if isinstance(verdict, Wait) else self.refuse(verdict.reason)

    def open_on(self, thread: int, tracker: Tracker) -> None:
        """The bus runs on this thread from now on."""
        self.closed = ""
        self._thread = thread
        self.turnstile.rebind(thread, tracker)

    def close(self, state: str) -> None:
        """Admit nothing from outside any more: the bus is in this state."""
        self.closed = state
        self.turnstile.forget()
        self._granted = 0
        self.turnstile.grant(0)
        self._ask_again()

    def is_urgent(self, event: Any, *, priority: bool) -> bool:
        """Tell whether this is a kill switch or takes the high lane. For any object, on any thread."""
        try:
            return event_type_of(event) in _HIGH or priority
        except Exception:  # noqa: BLE001 - what is no event is refused, with its error, when it is published
            return False

    def is_kill_switch(self, event: Any) -> bool:
        """Tell whether this is a kill switch. For any object, on any thread."""
        try:
            return event_type_of(event) == _KILL
        except Exception:  # noqa: BLE001 - as above
            return False

    async def publish(
        self, event: Any, priority: bool = False, level: str | None = None, vote: Vote | None = None
    ) -> bool:
        """Publish an event that the turnstile did not let through."""
        floor = self._floor
        used_up = self.turnstile.credit() <= 0 and len(self.feed.staged) >= YIELD_AT
        if (used_up or floor.control_waiting) and not self.is_urgent(event, priority=priority):
            self.check_thread("publish")
            await asyncio.sleep(0)
        since_ns = floor.clock.now_ns()
        paid = False
        while True:
            verdict = self.admit(event, priority=priority, patient=True, paid=paid, level=level, vote=vote)
            if isinstance(verdict, Group):
                return await self.committed(event, verdict)
            if isinstance(verdict, Wait):
                paid = verdict.reason is Refusal.RATE_LIMITED
                if floor.running and await self.wait(verdict, since_ns):
                    continue
                verdict = self.refuse(verdict.reason)
            self._in_a_row += 1
            if not verdict or self._in_a_row >= IN_A_ROW_MOST:
                # A publisher that awaits nothing else would keep the loop from every handler.
                self._in_a_row = 0
                await asyncio.sleep(0)
            return verdict

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
            await asyncio.sleep(verdict.wait_ns / 1e9)
            return True
        self.room_waits += 1
        floor.pressured = True
        future = floor.loop.create_future()
        self._room.append(future)
        floor.room_waiting = True
        timer = floor.loop.call_later(left_ns / 1e9, set_done, future)
        try:
            await future
        finally:
            timer.cancel()
            if future in self._room:
                self._room.remove(future)
                floor.room_waiting = bool(self._room)
        return True

    def check_thread(self, call: str) -> None:
        """Raise `WrongThread` unless this is the thread of the bus. One that is stopped has none."""
        if get_ident() != self._thread and self.closed != "stopped":
            raise WrongThread(
                f"{call} was called from a thread that does not own this bus; use publish_threadsafe there, "
                "or loop.call_soon_threadsafe for anything else"
            )

    def _check(self, event: Any) -> str:
        if self.restoring:
            raise PublishError(
                "an agent published while its memory was being restored, which must have no effects; "
                "publish from a handler"
            )
        if self.closed:
            who = _whose()
            is_inside = who is not None and who.bus is self._floor
            if self.closed == "stopped" or not (is_inside or self.is_kill_switch(event)):
                raise BusClosed(
                    f"the bus is {self.closed}, so nothing is admitted from outside; "
                    "start it again, or publish before stop()"
                )
        event_type = event_type_of(event)
        event_id = getattr(event, "event_id", None)
        if not isinstance(event_id, str) or not event_id:
            raise InvalidEvent(
                f"{type(event).__name__}.event_id is {event_id!r}; it must be a non-empty string"
            )
        if event_type == _KILL and not getattr(event, "activated", True):
            source = getattr(event, "source_agent", "")
            if source not in self._releasers:
                raise NotAuthorised(
                    f"{source!r} may not release a kill switch; allowed are {sorted(self._releasers)}: "
                    "name the source in EventBus(kill_switch_releasers=...)"
                )
        return event_type

    def _let_in(self, event: Any, lane: str) -> None:
        floor, feed = self._floor, self.feed
        self.stamp_cause(event)
        self.seen.now.add(event.event_id)
        self.high += lane == "high"
        if not floor.running:
            feed.hold_back(event, lane)
        elif lane == "high":
            self.turnstile.spend(1)
            feed.deliver_high(event)
        else:
            self._learn(type(event))
            if not self.turnstile.join(type(event)):
                feed.mix()
                if self._is_loose(event):
                    feed.note_route(event)
            self.turnstile.spend(1)
            feed.staged.append(event)
            if not feed.scheduled:
                feed.begin(event)

    @staticmethod
    def _is_loose(event: Any) -> bool:
        """Tell whether the event's class lets its type change."""
        cls: type = type(event)
        return fixed_event_type(cls) is None

    def _learn(self, cls: type) -> None:
        """Put a class on the hot path if all its events are low-priority and are sure to have an id."""
        fixed = fixed_event_type(cls) if issubclass(cls, Event) else None
        if fixed is None or fixed in _HIGH or self.closed:
            return
        level = Level.MEMORY if self.keeper is None else self.keeper.level_of(str(fixed))
        if self.keeper is None or not level:
            self.plain.add(cls)
        else:
            self.turnstile.learn(cls, level, self.keeper.commits)
