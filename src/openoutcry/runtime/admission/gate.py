"""Admission: what is let in, what is refused and why, and who has to wait.

```
  publish ──▶ FastPath.admit: a known class, within the credit ──▶ staged, or into the next commit
                 │ not here
                 ▼
              Admission.admit: thread, type, authority ─▶ duplicate ─▶ kill switch: at once, beside everything
                                                       └▶ pressure's verdict ─▶ staged, commit, refused, wait
```

`admit` is the only way in, for one event and for many, with and without a vote, for the loop's own publishers
and for other threads. What has to wait waits in `publish`; nothing here waits for a handler.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

from openoutcry.config import LevelName
from openoutcry.core.audience import Audience
from openoutcry.core.mailbox import Mailbox
from openoutcry.core.pressure import Admit, Refusal, Refuse, Wait
from openoutcry.errors import BusClosed, ConfigError, OpenOutcryError, SeatLost
from openoutcry.events import Event, event_type_of, fixed_event_type
from openoutcry.ports import Entry, Level
from openoutcry.runtime.admission.access import (
    HIGH_TYPES,
    KILL_SWITCH,
    Access,
    has_id,
    is_kill_switch,
    is_urgent,
)
from openoutcry.runtime.admission.again import Again, Answer
from openoutcry.runtime.admission.arrivals import Arrivals
from openoutcry.runtime.admission.durable import DurableAdmission
from openoutcry.runtime.admission.fast_path import FastPath, Vote
from openoutcry.runtime.admission.kill_switches import Handled, KillSwitches
from openoutcry.runtime.admission.publishing import Publish, new_fast_path
from openoutcry.runtime.admission.room import Room
from openoutcry.runtime.delivery.causation import Tracker, current, outbox_of, stamp_cause
from openoutcry.runtime.delivery.dispatcher import Dispatcher
from openoutcry.runtime.delivery.seen_ids import SeenIds
from openoutcry.runtime.delivery.state import BusState
from openoutcry.runtime.durability.commit import Commit
from openoutcry.runtime.durability.receipt import Receipt
from openoutcry.runtime.durability.slot import StoreSlot
from openoutcry.runtime.durability.store import Store

BEFORE_START = 512
"""How many durable events may share a commit before the start, when nothing drains and nobody has credit."""
YIELD_AT = 512
IN_A_ROW_MAX = 64
"""A publisher that awaits nothing else gives the loop back after this many events."""
RATE_LIMITED = Refusal.RATE_LIMITED
COPY_FIRST = Wait(0, Refusal.NO_ROOM)
"""The verdict on an event that is to be replicated: `publish` sends a copy first, and commits then."""
_whose = current.get


class Replicas(Protocol):
    """What keeps copies on other hosts: the link."""

    async def put(self, entry: Entry) -> None:
        """Have a copy kept of what is about to be committed. Raises why it is not, or may not be."""
        ...

    async def take_back(self, entry: Entry) -> None:
        """It was refused after all."""
        ...

    def released(self, entry: Entry) -> None:
        """It was committed and released."""
        ...

    async def wait_kept(self, event_id: str) -> None:
        """Wait until other hosts have what the journal has of an event."""
        ...


@dataclass(slots=True)
class Admitted:
    """How far some events came.

    Attributes:
        count: How many were admitted.
        commits: The commits that they wait for, each with one of its events.
        handled: What is done when kill switches that no journal keeps were handled, while the bus stops.
        has_to_wait: Whether the next one has to wait before it can be admitted.
        is_refused: Whether the next one was refused, and counted.
        error: What the next one raised, where others wait for a commit already.

    """

    count: int = 0
    commits: dict[Commit, Any] = field(default_factory=dict)
    handled: list[Handled] = field(default_factory=list)
    has_to_wait: bool = False
    is_refused: bool = False
    error: Exception | None = None


class Admission:
    """Admission to one bus.

    Attributes:
        access: Who may publish what.
        check_thread: Raises where a call may not be made: `Ownership.check` of the bus.
        fast_path: The hot path.
        publish_fast: `EventBus.publish`: by the fast path, and what may not pass there by `publish`.
        dispatcher: Where what is admitted is delivered from.
        slot: Where the journal is opened, when the first event needs it.
        room: How full the mailboxes are, and who waits for room.
        kill_switches: What is done about kill switches, and who may release them.
        arrivals: Where what other desks have made comes in.
        refused: Refused events by reason.
        admitted_before: How many events had been admitted at the last reset.
        overflowed_before: How many had been let go by then.
        new_dispatcher: Makes the dispatcher.

    """

    new_dispatcher: Callable[..., Dispatcher] = Dispatcher

    def __init__(
        self, bus: BusState, make_slot: Callable[[Dispatcher], StoreSlot], releasers: frozenset[str]
    ) -> None:
        self._bus = bus
        self.access: Access = Access(bus, releasers)
        self.check_thread: Callable[[str], None] = bus.ownership.check
        self.seen: SeenIds = bus.seen
        self.fast_path: FastPath
        self.publish_fast: Publish
        self.fast_path, self.publish_fast = new_fast_path(bus, self, self.new_dispatcher)
        self.dispatcher: Dispatcher = self.fast_path.dispatcher
        self.slot: StoreSlot = make_slot(self.dispatcher)
        self.room: Room = Room(bus, self.fast_path, self.slot)
        self._durable = durable = DurableAdmission(bus, self.slot)
        self.again: Again = Again(bus, self.dispatcher, self.slot, durable)
        self.kill_switches: KillSwitches = KillSwitches(bus, self.access, self.slot, durable, self.dispatcher)
        self.arrivals: Arrivals = Arrivals(bus, self.slot, self.room, self.kill_switches)
        self._replicas: Replicas | None = None
        self._in_a_row = 0
        self.reset()

    @property
    def store(self) -> Store | None:
        """What keeps events durable, if anything does. It is opened when it is first needed."""
        return self.slot.store

    # -- counts -------------------------------------------------------------------------------------

    def reset(self) -> None:
        """Count from zero again."""
        self.refused: Counter[str] = Counter()
        self._high = self.kill_switches.count = self.again.duplicates = self.arrivals.taken = 0
        self.conflicts_before: int = self._bus.conflicts.total
        self._bus.unheard.counts.clear()
        self.fast_path.take_high_count()
        self.room.reset()
        self.admitted_before: int = self.admitted
        self.overflowed_before: int = self._bus.router.overflowed

    @property
    def admitted(self) -> int:
        """How many events were ever admitted, those on their way to the mailboxes included."""
        dispatcher = self.dispatcher
        on_the_way = len(dispatcher.staged) + dispatcher.before_start.in_memory + self.slot.committing
        return self._bus.history.admitted + on_the_way

    @property
    def control(self) -> int:
        """How many kill switches were admitted."""
        return self.kill_switches.count

    @property
    def high(self) -> int:
        """How many events have taken the high-priority lane."""
        self._high += self.fast_path.take_high_count()
        return self._high

    def refuse(self, reason: Refusal, event: Any) -> bool:
        """Count a refused event. Always False."""
        self.refused[reason.value] += 1
        if self._bus.noted is not None:
            self._bus.noted.refused(event.event_id)
        return False

    # -- publishing ---------------------------------------------------------------------------------

    async def publish(
        self,
        event: Any,
        priority: bool = False,
        level: str | None = None,
        vote: Vote | None = None,
        answer: Answer | None = None,
    ) -> bool:
        """Publish an event that the fast path has not taken; wait for room, a token, or its commit."""
        bus = self._bus
        # (A receipt asks whether the journal has the event, which the fast path does not.)
        is_plain = not priority and level is None and vote is None and answer is None
        admitted = self._admit_on_new_credit(event) if is_plain else False
        if admitted is not False:
            return admitted is True or await self.committed(event, admitted)
        # (Publishers go on before the handlers of what was committed with theirs: here these come first.)
        commits = bus.running and self.store is not None
        used_up = self.fast_path.credit <= 0 and (commits or len(self.dispatcher.staged) >= YIELD_AT)
        if (used_up or bus.control_waiting) and not is_urgent(event, priority=priority):
            self.check_thread("publish")
            await asyncio.sleep(0)
        since_ns = bus.clock.now_ns()
        paid = False
        while True:
            verdict = self._look(event, priority, level, vote, answer, patient=True, paid=paid)
            if isinstance(verdict, Commit):
                return await self.committed(event, verdict) and await self._kept(event, level)
            if isinstance(verdict, asyncio.Future):
                return await verdict
            if verdict is COPY_FIRST:
                return await self._publish_copied(event, priority, vote, answer)
            if isinstance(verdict, Wait):
                paid = verdict.reason is Refusal.RATE_LIMITED
                survives = self._durable.level(event_type_of(event), level)
                audience = bus.router.audience(event, is_kept=bool(survives))
                if bus.running and await self.room.wait(verdict, audience, since_ns):
                    continue
                verdict = self.refuse(verdict.reason, event)
            self._in_a_row += 1
            if not verdict or self._in_a_row >= IN_A_ROW_MAX:
                # A publisher that awaits nothing else would keep the loop from every handler.
                self._in_a_row = 0
                await asyncio.sleep(0)
            return verdict and await self._kept(event, level)

    def _admit_on_new_credit(self, event: Any) -> Commit | bool:
        """Admit a durable event on the fast path, if nothing was against it but that credit is used up.

        So the first of many publishers looks for all of them. (Under pressure each is looked at.)
        """
        fast_path = self.fast_path
        if fast_path.credit > 0 or self._bus.pressured or not fast_path.is_durable(event):
            return False
        self.room.look()
        return fast_path.admit(event)

    async def _kept(self, event: Any, level: str | None) -> bool:
        """Wait until other hosts have an event that was known, if it is to be replicated. Always True."""
        replicas = self._replicas
        if replicas is not None and self._durable.level(event_type_of(event), level) is Level.REPLICATED:
            await replicas.wait_kept(event.event_id)
        return True

    def publish_nowait(self, event: Any, priority: bool = False, level: str | None = None) -> bool:
        """Publish without waiting for room or a turn of the loop: a durable event is committed at once."""
        if self.access.closed and is_kill_switch(event):
            self.check_thread("publish")
            # (Checked before its level is asked for: a bus that is stopped opens its journal for nobody.)
            self.kill_switches.check_is_kept(self._durable.level(self.access.check(event), level))
        is_again = has_id(event) and self.slot.is_pending(event.event_id)
        verdict = self.admit_one(event, priority, level)
        if isinstance(verdict, Commit):
            self._durable.commit_now(event, verdict, is_again=is_again)
            if verdict.error is not None and self.access.closed:
                raise verdict.error  # it was delivered, and nobody can know yet whether it is handled
            return True
        if isinstance(verdict, asyncio.Future):
            verdict.cancel()
            raise BusClosed("the bus is stopping, and nobody can know yet that the kill switch is handled")
        if verdict is COPY_FIRST:
            raise ConfigError("level is 'replicated', which waits for other hosts: await publish(...)")
        return self.refuse(verdict.reason, event) if isinstance(verdict, Wait) else verdict

    async def publish_many(self, events: Iterable[Any], priority: bool = False) -> int:
        """Publish in order, up to the first that is refused; return how many were admitted."""
        rest, done = list(events), 0
        while done < len(rest):
            size = self._chunk_size(rest[done], len(rest) - done)
            chunk = rest[done : done + size] if done or size < len(rest) else rest
            whole = False if priority else self.fast_path.admit_many(chunk)
            if whole is not False:
                if whole is not True:
                    await whole
                done += len(chunk)
                continue
            admitted = self.admit(chunk, priority=priority)
            await self._accepted(admitted)
            if admitted.error is not None:
                raise admitted.error
            if not admitted.commits:
                await asyncio.sleep(0)
            done += admitted.count
            if admitted.is_refused:
                return done
            if admitted.has_to_wait and not admitted.count:
                if not await self.publish(rest[done], priority):
                    return done
                done += 1
        return done

    async def _accepted(self, admitted: Admitted) -> None:
        """Wait until what was admitted is accepted. Raises the error that kept something out."""
        for commit, event in admitted.commits.items():
            await self.committed(event, commit)
        for handled in admitted.handled:
            await handled

    async def committed(self, event: Any, commit: Commit) -> bool:
        """Wait until an event has reached its level: True. Raises the error that kept it out."""
        await self._durable.committed(event, commit)
        if commit.error is not None:  # a kill switch that was delivered
            handled = self.kill_switches.handled(event)
            if handled is not None:
                return await handled
        return True

    def _chunk_size(self, event: Any, left: int) -> int:
        """Return how many events to admit at once: what the credit allows."""
        if not self._bus.running:
            return BEFORE_START
        if self.fast_path.credit < left and self.fast_path.is_durable(event):
            self.room.look()  # what is left of an old credit would be a commit of its own
        return max(1, self.fast_path.credit)

    async def publish_receipt(self, event: Any, priority: bool, level: str | None) -> Receipt:
        """Publish an event and tell where it stands."""
        self.check_thread("publish_receipt")
        survives = self._durable.level(self.access.check(event), level)
        store, answer = self.store, Answer()
        is_heard = not self._bus.running or self._bus.router.is_heard(event)
        accepted = await self.publish(event, priority, level, None, answer)
        found = None if store is None or not accepted else store.journal.find(event.event_id)
        is_kept = found is not None or (store is not None and outbox_of(self._bus) is not None)
        return Receipt(
            accepted,
            event.event_id,
            found or 0,
            cast(LevelName, (survives if is_kept else Level.MEMORY).name.lower()),
            answer.duplicate,
            answer.conflicting,
            unheard=accepted and not is_heard,
        )

    def join_replicas(self, replicas: Replicas) -> None:
        """Have this keep copies of what is published at the level `replicated`."""
        self._replicas = replicas

    async def _publish_copied(
        self, event: Any, priority: bool, vote: Vote | None, answer: Answer | None
    ) -> bool:
        """Publish an event that was let in, when other hosts have a copy of it."""
        lane = "high" if priority or event_type_of(event) in HIGH_TYPES else "normal"
        entry, replicas = self._durable.entry_to_copy(event, lane, vote), self._replicas
        if replicas is None:
            raise ConfigError("level is 'replicated', and this bus has no link: EventBus(link=Link(...))")
        await replicas.put(entry)
        try:
            self.access.check(event)
            if self.again.is_known(event, Level.PROCESS):
                found = self.again.meet(event, Level.PROCESS, answer)
            else:
                self.again.check(event, Level.PROCESS, answer)
                found = self._stage(event, lane, Level.PROCESS, vote)
            if isinstance(found, Commit):
                await self.committed(event, found)
        except OpenOutcryError:
            await replicas.take_back(entry)
            raise
        replicas.released(entry)
        return True

    # -- admitting ----------------------------------------------------------------------------------

    def admit(self, events: Sequence[Any], *, priority: bool = False) -> Admitted:
        """Admit events in order, without waiting, until one has to wait or is refused.

        Raises:
            InvalidEvent, NotAuthorised, BusClosed, WrongThread, JournalError: What the first of them raises.

        """
        admitted = Admitted()
        try:
            for event in events:
                verdict = self.admit_one(event, priority)
                if verdict is False or isinstance(verdict, Wait):
                    admitted.is_refused = verdict is False
                    admitted.has_to_wait = not admitted.is_refused
                    break
                admitted.count += 1
                if isinstance(verdict, asyncio.Future):
                    admitted.handled.append(verdict)
                elif isinstance(verdict, Commit):
                    # (A kill switch forgives its commit everything, which is not to hold for the others.)
                    if verdict not in admitted.commits or not is_kill_switch(event):
                        admitted.commits[verdict] = event
                elif admitted.count >= IN_A_ROW_MAX:
                    break
        except Exception as error:
            if not (admitted.commits or admitted.handled):
                raise
            admitted.error = error
        return admitted

    def admit_one(
        self, event: Any, priority: bool = False, level: str | None = None, *, is_caused: bool = False
    ) -> bool | Wait | Commit | Handled:
        """Let one event in (True, or what it waits for), refuse it, or say that it has to wait.

        `is_caused`: a handler has published it, which may be one of another loop, or may have returned.
        """
        if not priority and level is None and not is_caused:
            admitted = self.fast_path.admit(event)
            if admitted is not False:
                return admitted
        return self._look(event, priority, level)

    def _look(
        self,
        event: Any,
        priority: bool,
        level: str | None,
        vote: Vote | None = None,
        answer: Answer | None = None,
        *,
        patient: bool = False,
        paid: bool = False,
    ) -> bool | Wait | Commit | Handled:
        """Look at everything: let an event in, refuse and count it, or say how long to wait.

        A durable event is let in by a commit that is still to come: then that is returned. `patient` says
        that the caller will wait: then a token of the rate limit is reserved for it, and it comes back with
        `paid`.
        """
        self.check_thread("publish")
        event_type = self.access.check(event)
        asked = self._durable.level(event_type, level)
        survives = min(asked, Level.DISK)
        high = priority or event_type in HIGH_TYPES
        lane = "high" if high else "normal"
        is_control = event_type == KILL_SWITCH
        if self.again.is_known(event, survives) or (is_control and self.kill_switches.knows(event)):
            return self._meet(event, survives, answer)
        if is_control:
            return self.kill_switches.admit(event, survives)
        audience, depth = self.room.met_by(event, is_kept=bool(survives))
        verdict = self._judge(audience, depth, event_type, high, patient=patient, paid=paid)
        is_bound = depth > audience.depth
        if is_bound and not isinstance(verdict, Admit) and verdict.reason is not RATE_LIMITED:
            # Nobody is refused on a bound.
            audience, depth = self.room.met_now(event, is_kept=bool(survives))
            verdict = self._judge(audience, depth, event_type, high, patient=patient, paid=paid)
        if isinstance(verdict, Admit) and asked is Level.REPLICATED:
            verdict = COPY_FIRST
        elif isinstance(verdict, Admit):
            if not survives:
                return self._let_in(event, lane)
            self.again.check(event, survives, answer)
            return self._stage(event, lane, survives, vote)
        store = self.slot.store
        if survives and store is not None and store.has_released(event.event_id):
            # An earlier life has accepted it: there is no room to be had for what delivers nothing new.
            return self.again.meet(event, survives, answer)
        return verdict if isinstance(verdict, Wait) else self.refuse(verdict.reason, event)

    def _judge(
        self, audience: Audience, depth: int, event_type: str, high: bool, *, patient: bool, paid: bool
    ) -> Admit | Refuse | Wait:
        """Return pressure's verdict on an event; a publish from within a handler never waits."""
        bus = self._bus
        who = _whose()
        reentrant = who is not None and who.bus is bus and who.in_call
        if high:
            verdict = bus.pressure.admit_high(depth)
        else:
            # Before the start nothing drains, so nobody is made to wait for a token either.
            hasty = reentrant or not bus.running
            now_ns, rank = bus.clock.now_ns(), audience.rank
            verdict = bus.pressure.admit_low(
                event_type, depth, rank, now_ns, reentrant=hasty, patient=patient, paid=paid
            )
        return Refuse(verdict.reason) if reentrant and isinstance(verdict, Wait) else verdict

    # -- what is let in -----------------------------------------------------------------------------

    def _let_in(self, event: Any, lane: str) -> bool:
        """Take an event that lives in memory alone: stage it, or deliver it at once."""
        bus, dispatcher = self._bus, self.dispatcher
        stamp_cause(self._bus, event)
        self.seen.add(event.event_id)
        self._high += lane == "high"
        if not bus.running:
            dispatcher.hold_back(event, lane)
        elif lane == "high":
            self.fast_path.spend(1)
            dispatcher.deliver_high(event)
        else:
            cls: type = type(event)
            self._learn(cls)
            if fixed_event_type(cls) is None:
                dispatcher.note_route(event)
            self.fast_path.stage(event)
        return True

    def _stage(self, event: Any, lane: str, level: Level, vote: Vote | None) -> Commit | bool:
        """Take an event into the next commit, or into the outbox of the call that publishes it."""
        commit = self._durable.stage(event, lane, level, vote)
        self.seen.add(event.event_id)
        self._high += lane == "high"
        self.fast_path.spend(1)
        self._learn(type(event))
        return commit

    def stage_vote(self, answer: Any, vote: Vote) -> None:
        """Take what the bus itself has written of an answer into the next commit, or the call's outbox.

        Raises `SeatLost`, and what the journal has died of.
        """
        self.level_of(answer)  # which opens the journal
        self._durable.stage(answer, "normal", Level.PROCESS, vote)

    def level_of(self, event: Any) -> Level:
        """Return what an event must survive, by the settings and its type."""
        return self._durable.level(event_type_of(event), None)

    def _meet(self, event: Any, level: Level, answer: Answer | None) -> bool | Commit | Handled:
        """Take an event whose id is known; a kill switch promises no more than it did the first time."""
        found = self.again.meet(event, level, answer)
        if found is True and is_kill_switch(event):
            return self.kill_switches.handled(event) or True
        return found

    def _learn(self, cls: type) -> None:
        """Let the fast path take a class whose events all have an id, and one type, lane and level.

        Not as long as their publishers meet HIGH: then each is looked at.
        """
        fixed = fixed_event_type(cls) if issubclass(cls, Event) else None
        if fixed is None or fixed == KILL_SWITCH or self.access.closed:
            return
        lane = "high" if fixed in HIGH_TYPES else "normal"
        level = Level.MEMORY if self.store is None else self.store.level_of(str(fixed))
        audience = self._bus.router.audience_of(cls, is_kept=bool(level))
        if audience is None or not audience.credit:
            return
        if level is Level.REPLICATED:
            return
        if self.store is not None and level:
            self.fast_path.learn_durable(cls, level, lane, self.store.commits)
        elif lane == "normal":
            self.fast_path.learn_plain(cls)

    # -- life ---------------------------------------------------------------------------------------

    def open_on(self, loop: asyncio.AbstractEventLoop, tracker: Tracker) -> None:
        """The bus runs on this loop from now on."""
        self.fast_path.run_on(loop, tracker)

    def fence(self, error: SeatLost | None) -> None:
        """Accept nothing durable, since this process does not hold its desk; None: it does again."""
        self._bus.fence(error)
        self.fast_path.forget_classes()

    def close(self) -> None:
        """Admit nothing on credit any more: the bus is stopping, or has stopped."""
        self.fast_path.forget_classes()
        self.fast_path.grant(0)
        self.fast_path.leave()
        self.room.ask_again()
        if self.access.closed == "stopped":
            self.kill_switches.stopped()

    def drained(self, mailbox: Mailbox | None) -> None:
        """A mailbox has moved while the bus is under pressure; None: any of them may have."""
        self.room.drained(mailbox)
