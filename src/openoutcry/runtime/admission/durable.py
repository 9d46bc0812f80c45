"""The part of the admission that lets durable events in: through a commit."""

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from openoutcry.core.pressure import Wait
from openoutcry.errors import ConfigError, InvalidEvent, JournalError
from openoutcry.events import EventType, encode, event_type_of
from openoutcry.journals.rows import same_event
from openoutcry.ports import Level, level_named
from openoutcry.runtime.admission.fast_path import FastPath
from openoutcry.runtime.delivery.causation import current
from openoutcry.runtime.delivery.dispatcher import Dispatcher
from openoutcry.runtime.delivery.history import SeenIds
from openoutcry.runtime.delivery.outbox import Output
from openoutcry.runtime.delivery.state import BusState
from openoutcry.runtime.durability.committer import Commit, Receipt, Then
from openoutcry.runtime.durability.slot import StoreSlot
from openoutcry.runtime.durability.store import Store

log = logging.getLogger("openoutcry")

IN_A_ROW_MOST = 64
_KILL = str(EventType.KILL_SWITCH.value)


@dataclass(slots=True)
class Vote:
    """What belongs to the admission of a signal.

    Attributes:
        prepare: Called before the signal is written.
        then: Called when it is released, with its position.
        is_deferred: Whether it waits in an outbox: it has no vote before it is released.

    """

    prepare: Callable[[], None]
    then: Then
    is_deferred: bool = False


class DurableAdmission(ABC):
    """Admission of what has to survive.

    Attributes:
        store: What keeps events durable, if anything does. It is opened when it is first needed.

    """

    dispatcher: Dispatcher
    fast_path: FastPath
    _slot: StoreSlot
    seen: SeenIds
    duplicates: int
    high: int
    control: int
    _bus: BusState

    @property
    def store(self) -> Store | None:
        """The open store."""
        return self._slot.store

    @property
    def has_journal(self) -> bool:
        """Whether the bus has a journal, open or not."""
        return self._slot.has_journal

    @abstractmethod
    def admit(self, event: Any, *, priority: bool = False) -> bool | Wait | Commit:
        """Let an event in, refuse it, or say that it has to wait."""

    @abstractmethod
    async def publish(self, event: Any, priority: bool = False, level: str | None = None) -> bool:
        """Publish an event."""

    @abstractmethod
    def check_thread(self, call: str) -> None:
        """Raise `WrongThread` unless this is the thread of the bus."""

    @abstractmethod
    def is_kill_switch(self, event: Any) -> bool:
        """Tell whether this is a kill switch."""

    @abstractmethod
    def stamp_cause(self, event: Any) -> None:
        """Write the cause of a publication into the event."""

    @abstractmethod
    def _learn(self, cls: type) -> None:
        """Put a class on the hot path if all its events are alike."""

    @abstractmethod
    def _check(self, event: Any) -> str:
        """Return the event's type, or raise what is wrong with publishing it."""

    def _level(self, event_type: str, asked: str | None) -> Level:
        """Return what an event must survive. The journal is opened when the first one has to."""
        store = self.store
        if store is None:
            if not self._slot.has_journal:
                if asked is not None and level_named(asked):
                    raise ConfigError(
                        f"level is {asked!r}, but this bus has no journal: make it with "
                        "EventBus(enable_persistence=True), or leave the level out"
                    )
                return Level.MEMORY
            store = self._slot.open()
        return store.level_of(event_type, asked)

    async def publish_some(self, events: list[Any], priority: bool) -> tuple[int, bool]:
        """Publish until one has to wait or is refused; return how many were accepted, and which it was.

        They are let in one after the other without a wait in between, and then waited for together.
        """
        done, refused = 0, False
        groups: dict[Commit, Any] = {}
        verdict: bool | Wait | Commit | None
        try:
            for event in events:
                verdict = None if priority else self.fast_path.keep(event)
                if verdict is None:
                    verdict = self.admit(event, priority=priority)
                refused = verdict is False
                if isinstance(verdict, Wait) or refused:
                    break
                done += 1
                if isinstance(verdict, Commit):
                    groups[verdict] = event
                elif done >= IN_A_ROW_MOST:
                    break
        finally:
            for group, event in groups.items():
                await self.committed(event, group)
            if not groups:
                await asyncio.sleep(0)
        return done, refused

    @property
    def is_committed(self) -> bool:
        """Whether nothing waits for a commit."""
        return self.store is None or self.store.commits.is_idle

    async def wait_committed(self) -> None:
        """Wait for the commit that is under way; its failure is its publishers' business."""
        assert self.store is not None
        with suppress(JournalError):
            await self.store.commits.ask().wait()

    async def committed(self, event: Any, group: Commit) -> bool:
        """Wait until a durable event has reached its level. True, or the error that kept it out."""
        try:
            await group.wait()
        except JournalError as error:
            self.excuse(event, error)
        return True

    def commit_now(self, event: Any, group: Commit) -> bool:
        """Commit a durable event here and now. True, or the error that kept it out."""
        assert self.store is not None
        self.store.commits.commit_now()
        if group.error is not None:
            self.excuse(event, group.error)
        return True

    def excuse(self, event: Any, error: JournalError) -> None:
        """Raise the error, but for a kill switch: that was delivered at once, journal or no journal."""
        if not self.is_kill_switch(event):
            raise error
        log.critical("the kill switch %s was delivered, and is not in the journal: %s", event.event_id, error)

    async def publish_receipt(self, event: Any, priority: bool, level: str | None) -> Receipt:
        """Publish an event and tell where it stands."""
        self.check_thread("publish_receipt")
        survives = self._level(self._check(event), level)
        store = self.store
        duplicate = event.event_id in self.seen or (store is not None and store.knows(event.event_id))
        accepted = await self.publish(event, priority, level)
        found = None if store is None or not accepted else store.journal.find(event.event_id)
        is_kept = found is not None or (store is not None and self.outbox() is not None)
        word = (survives if is_kept else Level.MEMORY).name.lower()
        return Receipt(accepted, event.event_id, found or 0, word, duplicate)

    def is_pending(self, event_id: str) -> bool:
        """Tell whether an event waits for its commit."""
        return self.store is not None and self.store.commits.pending(event_id) is not None

    def _again(self, event: Any, high: bool, level: Level) -> bool | Commit:
        """An event whose id was seen: nothing new is delivered, but its level must be reached as well."""
        self.duplicates += 1
        store = self.store
        if store is None or not level:
            return True
        pending = store.commits.pending(event.event_id)
        if pending is not None:
            group, index = pending
            if not same_event(group.to_write()[index].payload, encode(event)):
                store.conflict(event, 0)
            group.must_sync = group.must_sync or level is Level.DISK
            return group
        is_elsewhere = store.commits.dead is not None or store.journal.find(event.event_id) is None
        if is_elsewhere or event_type_of(event) == _KILL:
            return True
        return store.stage(event, "high" if high else "normal", level)

    def _stage(self, event: Any, lane: str, level: Level, vote: Vote | None) -> Commit | bool:
        """Take a durable event into the next commit, or into the outbox of the call that publishes it."""
        store = self.store
        assert store is not None
        if store.commits.dead is not None:
            raise store.commits.dead
        self.stamp_cause(event)
        if vote is not None:
            vote.prepare()
        then = None if vote is None else vote.then
        outbox = self.outbox()
        group: Commit | bool = True
        if outbox is None:
            group = store.stage(event, lane, level, then)
        else:
            outbox.append(Output(event, store.entry(event, lane, level), then))
            if vote is not None:
                vote.is_deferred = True
        self.seen.now.add(event.event_id)
        self.high += lane == "high"
        self.fast_path.spend(1)
        if lane == "normal":
            self._learn(type(event))
        return group

    def outbox(self) -> list[Output] | None:
        """Return where the publications of the call in hand wait for its end, if they do."""
        who = current.get()
        if who is None or who.bus is not self._bus or not who.in_call:
            return None
        found: list[Output] | None = who.outbox
        return found

    def _let_in_kill_switch(self, event: Any, level: Level) -> bool | Commit:
        """Deliver a kill switch at once, and have it written behind that."""
        store, bus = self.store, self._bus
        if store is not None and store.knows(event.event_id):
            self.duplicates += 1
            return True
        self.stamp_cause(event)
        self.seen.now.add(event.event_id)
        self.control += 1
        dispatcher = self.dispatcher
        went = dispatcher.deliver_control(event) if bus.running else dispatcher.hold_back(event, "control")
        if store is None or not level:
            return True

        def note(position: int) -> None:
            for subscription, place in went:
                if subscription.offsets is not None:
                    subscription.offsets.control.positions.add(place, (position,))
                    subscription.offsets.touched(0)

        try:
            if store.commits.dead is not None:
                raise store.commits.dead
            return store.stage(event, "control", level, note)
        except (JournalError, InvalidEvent) as error:
            log.critical(
                "the kill switch %s was delivered, and is not in the journal: %s", event.event_id, error
            )
            return True
