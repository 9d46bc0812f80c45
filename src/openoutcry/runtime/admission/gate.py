"""The door: what is let in, what is refused and why, and who has to wait.

Ordinary events pass the fast_path, on the credit that the door's last look at the mailboxes gave. Everything
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
from openoutcry.runtime.admission.durable import DurableAdmission, Vote
from openoutcry.runtime.admission.fast_path import make_fast_path
from openoutcry.runtime.admission.room import Room, set_done
from openoutcry.runtime.delivery.causation import Tracker, current
from openoutcry.runtime.delivery.dispatcher import Dispatcher
from openoutcry.runtime.delivery.state import BusState
from openoutcry.runtime.durability.committer import Commit
from openoutcry.runtime.durability.slot import StoreSlot

log = logging.getLogger("openoutcry")

YIELD_AT = 512
IN_A_ROW_MOST = 64
_HIGH = frozenset(str(t.value) for t in HIGH_PRIORITY_EVENT_TYPES)
_KILL = str(EventType.KILL_SWITCH.value)
_whose = current.get


class Admission(Room, DurableAdmission):
    """Admission to one bus.

    Attributes:
        fast_path: The hot path.
        plain: Event classes whose events are all low-priority, so that the fast_path may take them.
        refused: Refused events by reason.
        store: What keeps events durable, if anything does. It is opened when it is first needed.
        restoring: Whether an agent is getting its memory back, which must have no effects.

    """

    def __init__(
        self, bus: BusState, dispatcher: Dispatcher, slot: StoreSlot, releasers: frozenset[str]
    ) -> None:
        self._bus = bus
        self._slot = slot
        self.dispatcher = dispatcher
        self._releasers = releasers
        self.seen = bus.seen
        self.plain: set[type] = set()
        self.fast_path = make_fast_path(
            plain=self.plain,
            staged=dispatcher.staged,
            begin=dispatcher.begin,
            mix=dispatcher.mix,
            stamp_cause=self.stamp_cause,
            outbox=self.outbox,
            carefully=self.publish,
        )
        dispatcher.renew = self.fast_path.renew
        dispatcher.hurry = self._hurry
        dispatcher.exchange = self.fast_path.exchange
        dispatcher.exchange(self.seen.now, self.seen.before)
        self.capacity = bus.pressure.capacity
        self._thread = get_ident()
        self.closed = ""
        self.callbacks: list[Callable[[BackpressureLevel], Any]] = []
        self._looked_at = self._granted = 0
        self._moved = True
        self._room: list[asyncio.Future[None]] = []
        self._in_a_row = 0
        self.restoring = False
        self.reset()
        bus.on_drained = self.drained

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
        store = self.store
        waiting = 0 if store is None else store.commits.waiting
        return (
            self._bus.history.admitted + len(self.dispatcher.staged) + self.dispatcher.held_back_all + waiting
        )

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
            self._bus.envelopes.put(event.event_id, cause)

    def admit(
        self,
        event: Any,
        *,
        priority: bool = False,
        patient: bool = False,
        paid: bool = False,
        level: str | None = None,
        vote: Vote | None = None,
    ) -> bool | Wait | Commit:
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
        reentrant = who is not None and who.bus is self._bus and who.in_call
        high = priority or event_type in _HIGH
        depth = self._depth_at_most()
        pressure = self._bus.pressure
        if high:
            verdict = pressure.admit_high(depth)
        else:
            # Before the start nothing drains, so nobody is made to wait for a token either.
            hasty = reentrant or not self._bus.running
            verdict = pressure.admit_low(
                event_type,
                depth,
                self._bus.clock.now_ns(),
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
        if survives and self.store is not None and self.store.has_released(event.event_id):
            # An earlier life has accepted it: there is no room to be had for what delivers nothing new.
            return self._again(event, high, survives)
        return verdict if isinstance(verdict, Wait) else self.refuse(verdict.reason)

    def open_on(self, thread: int, tracker: Tracker) -> None:
        """The bus runs on this thread from now on."""
        self.closed = ""
        self._thread = thread
        self.fast_path.rebind(thread, tracker)

    def close(self, state: str) -> None:
        """Admit nothing from outside any more: the bus is in this state."""
        self.closed = state
        self.fast_path.forget()
        self._granted = 0
        self.fast_path.grant(0)
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
        """Publish an event that the fast_path did not let through."""
        bus = self._bus
        used_up = self.fast_path.credit() <= 0 and len(self.dispatcher.staged) >= YIELD_AT
        if (used_up or bus.control_waiting) and not self.is_urgent(event, priority=priority):
            self.check_thread("publish")
            await asyncio.sleep(0)
        since_ns = bus.clock.now_ns()
        paid = False
        while True:
            verdict = self.admit(event, priority=priority, patient=True, paid=paid, level=level, vote=vote)
            if isinstance(verdict, Commit):
                return await self.committed(event, verdict)
            if isinstance(verdict, Wait):
                paid = verdict.reason is Refusal.RATE_LIMITED
                if bus.running and await self.wait(verdict, since_ns):
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
        bus = self._bus
        assert bus.loop is not None
        left_ns = int(bus.pressure.config.cooldown_s * 1e9) - (bus.clock.now_ns() - since_ns)
        if left_ns <= 0:
            return False
        if verdict.reason is Refusal.RATE_LIMITED:
            self.rate_limited_waits += 1
            await asyncio.sleep(verdict.wait_ns / 1e9)
            return True
        self.room_waits += 1
        bus.pressured = True
        future = bus.loop.create_future()
        self._room.append(future)
        bus.room_waiting = True
        timer = bus.loop.call_later(left_ns / 1e9, set_done, future)
        try:
            await future
        finally:
            timer.cancel()
            if future in self._room:
                self._room.remove(future)
                bus.room_waiting = bool(self._room)
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
            is_inside = who is not None and who.bus is self._bus
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
        bus, dispatcher = self._bus, self.dispatcher
        self.stamp_cause(event)
        self.seen.now.add(event.event_id)
        self.high += lane == "high"
        if not bus.running:
            dispatcher.hold_back(event, lane)
        elif lane == "high":
            self.fast_path.spend(1)
            dispatcher.deliver_high(event)
        else:
            self._learn(type(event))
            if not self.fast_path.join(type(event)):
                dispatcher.mix()
                if self._is_loose(event):
                    dispatcher.note_route(event)
            self.fast_path.spend(1)
            dispatcher.staged.append(event)
            if not dispatcher.scheduled:
                dispatcher.begin(event)

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
        level = Level.MEMORY if self.store is None else self.store.level_of(str(fixed))
        if self.store is None or not level:
            self.plain.add(cls)
        else:
            self.fast_path.learn(cls, level, self.store.commits)
