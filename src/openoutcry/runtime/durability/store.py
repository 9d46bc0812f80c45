"""The store of the journal: opens it, knows which subscription stands where, and sees that it is saved."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from openoutcry.config import PersistenceConfig
from openoutcry.core.lanes import Batch
from openoutcry.errors import JournalError
from openoutcry.events import (
    HIGH_PRIORITY_EVENT_TYPES,
    Event,
    EventType,
    encode,
    event_type_of,
    install_deriver,
)
from openoutcry.journals import EventPersistence, SqliteJournal
from openoutcry.ports import (
    Entry,
    Envelope,
    Journal,
    Level,
    level_named,
)
from openoutcry.runtime.delivery.causation import current
from openoutcry.runtime.delivery.dispatcher import Dispatcher
from openoutcry.runtime.delivery.offsets import Offsets
from openoutcry.runtime.delivery.outbox import Output
from openoutcry.runtime.delivery.state import BusState, guarded
from openoutcry.runtime.delivery.subscription import Selector, Subscription
from openoutcry.runtime.durability.catch_up import CatchUp
from openoutcry.runtime.durability.committer import Committer
from openoutcry.runtime.durability.crash_suspects import CrashSuspects
from openoutcry.runtime.durability.cursors import Cursors, unreadable
from openoutcry.runtime.durability.groups import Group, Then
from openoutcry.runtime.durability.maintenance import Maintenance
from openoutcry.runtime.durability.restore import count_unsettled, older, oldest_first, restore
from openoutcry.runtime.durability.saving import Saving

log = logging.getLogger("openoutcry")

_HIGH = frozenset(str(t.value) for t in HIGH_PRIORITY_EVENT_TYPES)
HISTORY_LOOK = 16_384
"""So many entries of the journal the plain history looks at; the loop waits for it."""


def derive() -> str | None:
    """Return the id of what is being made, if a handler of a durable subscription makes it."""
    who = current.get()
    return None if who is None else who.derive()


class Store(Saving):
    """What a bus keeps durable, and how.

    Attributes:
        config: The settings.
        journal: The open journal.
        commits: Groups what is published into commits.
        backlog: Lets lanes read on from the journal.
        dead_letters: The dead letters.
        conflicts: Events that had the id of another one with different content.

    """

    def __init__(
        self, bus: BusState, dispatcher: Dispatcher, config: PersistenceConfig, journal: Journal | None
    ) -> None:
        self.config = config
        self._bus = bus
        self._dispatcher = dispatcher
        self.owns_journal = journal is None
        self.journal: Journal = (
            SqliteJournal(config.path, key=config.key, engine=config.engine) if journal is None else journal
        )
        self._levels = {str(EventType.MARKET_DATA.value): Level.MEMORY} | {
            name: level_named(level) for name, level in config.levels.items()
        }
        self._ordinary = level_named(config.level)
        self._high = level_named(config.high_priority_level)
        self.commits = Committer(bus, dispatcher, self.journal, self, config.sync)
        self.backlog = CatchUp(
            bus, dispatcher, self.journal, self._released, unreadable(bus), self.unreadable
        )
        self._noted: dict[Offsets, None] = {}
        self._saved_at = 0
        self._swept_at = self.journal.head
        self.conflicts = 0
        self._is_refused = False
        self.is_gone = False
        self.on_error: list[Callable[[JournalError], Any]] = []
        self.dead_letters = bus.dead_letters
        self.dead_letters.load(self.journal.buried())
        self.dead_letters.changed = self.save_soon
        self.suspects = CrashSuspects(bus, self.journal, config, self.save_soon)
        self.maintenance = Maintenance(bus, self.journal, self.commits, config)
        self._uninstall = install_deriver(derive)
        dispatcher.released = self._released
        dispatcher.fall_behind = self.backlog.fall_behind
        bus.pending_ids = self.commits.pending_ids
        bus.marks = self.journal.marks
        bus.refill = self.backlog.refill
        bus.post = self.post
        bus.forget = self.forget
        self.cursors = Cursors(
            bus, dispatcher, self.journal, self.commits, self.dead_letters, self.suspects, self
        )
        bus.on_ended = self.cursors.ended
        for subscription in bus.router:
            self.cursors.adopt(subscription)

    @property
    def face(self) -> EventPersistence:
        """The journal's face for code that uses it directly."""
        return EventPersistence(self.journal, owned=self._owns, wall_ns=self._bus.clock.wall_ns)

    def _owns(self, name: str) -> bool:
        return any(s.name == name and s.offsets is not None for s in self._bus.router)

    def _released(self) -> int:
        return self.commits.released

    # -- levels and entries -------------------------------------------------------------------------

    def level_of(self, event_type: str, asked: str | None = None) -> Level:
        """Return what an event of a type must survive, where nothing else is asked for."""
        if asked is not None:
            return level_named(asked)
        found = self._levels.get(event_type)
        if found is None:
            return self._high if event_type in _HIGH else self._ordinary
        return found

    def stage(self, event: Any, lane: str, level: Level, then: Then | None = None) -> Group:
        """Take an event into the next commit. Raises `InvalidEvent` where it cannot be written."""
        return self.commits.stage(event, self.entry(event, lane, level), then, gates=lane != "control")

    def entry(self, event: Any, lane: str, level: Level) -> Entry:
        """Return what is written of an event. Raises `InvalidEvent` where it cannot be written."""
        payload = encode(event)
        envelope = None if isinstance(event, Event) else self._envelope(event)
        return Entry(event.event_id, payload, lane, level, self.commits.wall_ns(), envelope)

    async def post(self, subscription: Subscription, batch: Batch, outputs: list[Output]) -> None:
        """Commit what a call has published together with the settling of its event."""
        offsets = subscription.offsets
        if offsets is None or not outputs:
            return
        lane = offsets.of(batch.lane.name)
        group = None
        for output in outputs:
            group = self.commits.stage(output.event, output.entry, output.then)
        lane.posted = batch.first
        self.cursors.fresh = True
        self.note(offsets)
        assert group is not None
        try:
            await self._wait_regardless(group)
        finally:
            lane.posted = 0

    @staticmethod
    async def _wait_regardless(group: Group) -> None:
        """Wait for a commit that settles an event: a cancellation would leave its outputs without that."""
        while not group.is_over:
            with suppress(asyncio.CancelledError):
                await group.wait()
        if group.error is not None:
            raise group.error

    def forget(self, outputs: list[Output]) -> None:
        """A call has failed: what it had published never was."""
        seen = self._bus.seen
        for output in outputs:
            seen.now.discard(output.entry.event_id)
            seen.before.discard(output.entry.event_id)

    def _envelope(self, event: Any) -> Envelope:
        cause = self._bus.envelopes.get(event.event_id)
        return Envelope(
            event_id=event.event_id,
            event_type=event_type_of(event),
            source_agent=_text(getattr(event, "source_agent", None)),
            symbol=_text(getattr(event, "symbol", None)),
            correlation_id=None if cause is None else cause.correlation_id,
            causation_id=None if cause is None else cause.event_id,
            round_id=None if cause is None else cause.round_id,
        )

    def knows(self, event_id: str) -> bool:
        """Tell whether the journal has an event, or will with the next commit."""
        return self.commits.pending(event_id) is not None or self.journal.find(event_id) is not None

    def has_released(self, event_id: str) -> bool:
        """Tell whether an event has been released, so that who has not settled it is handed it."""
        position = self.journal.find(event_id)
        return position is not None and position <= self.commits.released

    def conflict(self, event: Any, position: int) -> None:
        """Two events share an id and say different things: the first stands, the second is reported."""
        self.conflicts += 1
        log.error(
            "the event %s (%s) was accepted before with other content, at position %d; the first one stands: "
            "give each event an id of its own",
            event.event_id,
            event_type_of(event),
            position,
        )

    def unreadable(self, error: JournalError) -> None:
        """Part of the journal cannot be read: who was to read it waits, everything else goes on."""
        for callback in self.on_error:
            guarded(callback, error)

    def died(self, error: JournalError) -> None:
        """The journal takes nothing more: durable publishes raise, everything else goes on."""
        log.critical("the journal is dead, and durable events are refused from now on: %s", error)
        for subscription in self._bus.router:
            if subscription.offsets is not None:
                subscription.offsets.let_go()
        for callback in self.on_error:
            guarded(callback, error)

    # -- looking back -------------------------------------------------------------------------------

    def hand_over(self) -> None:
        """The bus is about to run: hand out what is urgent."""
        self.cursors.hand_over()

    def started(self) -> None:
        """The bus runs."""
        self.cursors.started()
        self.maintenance.begin()
        self.suspects.begin()

    def older(self, selectors: frozenset[Selector] | None, limit: int, newer: list[Any]) -> list[Any]:
        """Return the newest events of the journal that are not in `newer`, oldest first, if near the end."""
        return older(self.journal, selectors, limit, newer, HISTORY_LOOK)

    async def history(self, selectors: frozenset[Selector] | None, limit: int, newer: list[Any]) -> list[Any]:
        """Return the same from the whole journal, giving the loop back in between."""
        return await oldest_first(self.journal, selectors, limit, newer)

    def status(self) -> dict[str, Any]:
        """Return how the journal stands, JSON-ready."""
        journal, commits = self.journal, self.commits
        path = getattr(journal, "path", None)
        return {
            "path": None if path is None else str(path),
            "head": journal.head,
            "first": journal.first,
            "synced": journal.synced,
            "released": commits.released,
            "waiting": commits.waiting,
            "dead": None if commits.dead is None else str(commits.dead),
            "unsaved": sum(s.offsets.unsaved for s in self._bus.router if s.offsets is not None),
            "behind": [s.name for s in self._bus.router if s.mailbox.behind],
            "duplicates": commits.duplicates,
            "conflicts": self.conflicts,
            "quarantined": self.suspects.quarantined,
        }

    async def restore(self) -> None:
        """Give the agents their memory back, before they handle anything."""
        await restore(self.backlog.pages, self.journal, self._bus.router, self.commits.released)

    async def count_unsettled(self) -> int:
        """Return how many events some subscription has not settled."""
        return await count_unsettled(self.journal, self._bus.router, self.commits.released)

    async def flush(self) -> None:
        """Have everything on the disk: what is accepted, and how far everybody has come."""
        self._sweep()
        self.maintenance.now_due()
        await self.commits.ask(sync=True).wait()

    # -- the end ------------------------------------------------------------------------------------

    def hand_in(self, journal: Journal) -> None:
        """Go on with a stand-in for the journal, which was closed, until there is a new one."""
        self.is_gone = True
        self.journal = journal
        self.commits.hand_in(journal)
        self.cursors.hand_in(journal)

    def close(self) -> None:
        """Save everything, sync, and close the journal, if it was opened here."""
        if self.is_gone:
            self._let_go()
            return
        self.suspects.end()
        self.cursors.end()
        self.maintenance.end()
        self._uninstall()
        try:
            if self.commits.dead is None:
                self._sweep()
                self.maintenance.now_due()
                last = self.commits.ask(sync=True)
                self.commits.commit_now()
                if last.error is not None:
                    raise last.error
        finally:
            self.commits.close()
            for subscription in self._bus.router:
                if subscription.offsets is not None:
                    subscription.offsets.closed_at = self.journal.head
            self._let_go()
            if self.owns_journal:
                self.journal.close()

    def _let_go(self) -> None:
        self._dispatcher.released = int
        self._bus.pending_ids = tuple
        self._bus.marks = None
        self._bus.on_ended = lambda _subscription: None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
