"""The store: one open journal, what a bus writes into it, and what it asks of it."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from os.path import lexists
from typing import Any

from openoutcry.config import PersistenceConfig
from openoutcry.core.lanes import NOWHERE, Batch
from openoutcry.core.overflow import ConflatingLane
from openoutcry.errors import JournalError
from openoutcry.events import (
    HIGH_PRIORITY_EVENT_TYPES,
    Event,
    EventType,
    FirstVersion,
    differences,
    encode,
    event_type_of,
    first_of,
    install_deriver,
)
from openoutcry.journals import EventPersistence
from openoutcry.journals.swapping import next_of
from openoutcry.ports import Entry, FileJournal, Header, Journal, Level, Marks, Stored
from openoutcry.runtime.delivery.causation import current
from openoutcry.runtime.delivery.dispatcher import Dispatcher
from openoutcry.runtime.delivery.offsets import LaneOffsets, Offsets
from openoutcry.runtime.delivery.outbox import Output
from openoutcry.runtime.delivery.state import BusState
from openoutcry.runtime.delivery.subscription import Selector, Subscription, takes
from openoutcry.runtime.durability.catch_up import CatchUp
from openoutcry.runtime.durability.commit import Commit, Then
from openoutcry.runtime.durability.commit_extras import Extras
from openoutcry.runtime.durability.commit_records import CommitRecords
from openoutcry.runtime.durability.committer import Committer
from openoutcry.runtime.durability.crash_suspects import CrashSuspects
from openoutcry.runtime.durability.cursors import Cursors, unreadable
from openoutcry.runtime.durability.levels import Levels
from openoutcry.runtime.durability.looking_back import count_unsettled, older, oldest_first
from openoutcry.runtime.durability.maintenance import Maintenance
from openoutcry.runtime.durability.marks_syncing import MARKS_SYNC_S, MarksSyncing
from openoutcry.runtime.durability.memories import Memories
from openoutcry.runtime.durability.recorder import Recorder
from openoutcry.runtime.durability.saving import SavedCursors, Saving
from openoutcry.runtime.durability.taping import TapeWriter

log = logging.getLogger("openoutcry")

_HIGH = frozenset(str(t.value) for t in HIGH_PRIORITY_EVENT_TYPES)
_KILL_SWITCH = str(EventType.KILL_SWITCH.value)
HISTORY_LOOK = 16_384
"""How many entries of the journal the plain history looks at; the loop waits for it."""


def derive() -> str | None:
    """Return the id of the event that is being made, if a handler of a durable subscription makes it."""
    who = current.get()
    return None if who is None else who.derive()


class Store:
    """What a bus keeps durable, in one open journal. It is the `Durability` of that bus's delivery.

    Attributes:
        config: The settings.
        journal: The open journal. The store does not close it.
        commits: Writes what is published, in commits.
        level_of: Returns what an event of a type must survive: what is asked for, or what the settings say.
        memories: Gives agents their memory back, and saves it.
        saving: What is saved beside events.
        cursors: Which durable subscription stands where.
        power_cut: What a power cut before this start took, in words; empty if nothing.
        is_closed: Whether nothing goes into the journal any more.

    """

    def __init__(
        self,
        bus: BusState,
        dispatcher: Dispatcher,
        config: PersistenceConfig,
        journal: Journal,
        recorder: Recorder,
        tape: TapeWriter | None,
        before: "Store | None" = None,
        left: str = "",
    ) -> None:
        """Make the store of a journal.

        `before` is the store of the journal which this one replaces, `left` what the opening has left alone
        where the next one goes, in words.
        """
        self.config = config
        self.journal = journal
        self._bus = bus
        self._left = left
        self._dispatcher = dispatcher
        self.level_of: Callable[..., Level] = Levels(config).of
        self.is_closed: bool = False
        saved = SavedCursors(journal)
        halts = journal.halts()
        self._recorder, self._is_new = recorder, before is None
        self._records = CommitRecords(
            bus, dispatcher, journal, recorder, tape, self.header_of, config.cursor_save_s
        )
        self.commits: Committer = Committer(bus, dispatcher, journal, self, self._records, config.sync)
        self.saving: Saving = Saving(bus, self.commits, config.cursor_save_s, saved.begin_at)
        self._suspects = CrashSuspects(bus, journal, config, self.saving)
        self._catch_up = CatchUp(bus, dispatcher, journal, self.commits, unreadable(bus))
        self.memories: Memories = Memories(
            bus,
            journal,
            self.commits,
            self.saving,
            self._suspects.restored,
            recorder if config.record == "replay" else None,
        )
        self._maintenance = Maintenance(bus, journal, self.commits, self.saving, self.memories, config)
        self._marks_syncing = MarksSyncing(bus, journal, self.commits.note_error)
        self.power_cut: str = _power_cut(journal) if before is None else before.power_cut
        self.cursors: Cursors = Cursors(
            bus, dispatcher, journal, self.commits, self.saving, self._suspects, self.memories, saved
        )
        bus.dead_letters.load(journal, self.saving)
        if before is None:
            bus.halts.load(halts)
            if self.power_cut:
                log.critical("the journal: %s", self.power_cut)
        else:
            bus.halts.save_all()
            self.saving.go_on_from(before.saving)
        self._uninstall = install_deriver(derive)

    @property
    def face(self) -> EventPersistence:
        """The journal, for code that uses it directly."""
        bus = self._bus
        return EventPersistence(
            self.journal, owned=self._owns, check=bus.ownership.check, wall_ns=bus.clock.wall_ns
        )

    def _owns(self, name: str) -> bool:
        return any(s.name == name and s.offsets is not None for s in self._bus.router)

    # -- what delivery asks -------------------------------------------------------------------------

    @property
    def released(self) -> int:
        """Everything up to this position has been handed out."""
        return self.commits.released

    @property
    def marks(self) -> Marks:
        """Where calls are marked while they are in flight."""
        return self.journal.marks

    @property
    def origin(self) -> str:
        """What ids derived in the bus's handlers are derived from."""
        return self.journal.origin

    def pending_ids(self) -> list[str]:
        """Return the ids of the events that wait for their commit."""
        return self.commits.pending_ids()

    def fall_behind(self, subscription: Subscription, offsets: LaneOffsets) -> None:
        """Let a live lane read on from the journal, from what it was handed last."""
        self._catch_up.fall_behind(subscription, offsets)

    def catch_up(self, subscription: Subscription) -> None:
        """Read on, for every lane of the subscription that is behind and has little left."""
        self._catch_up.refill(subscription)

    async def post(self, subscription: Subscription, batch: Batch, outputs: list[Output]) -> None:
        """Commit what a call has published together with the settling of its event."""
        offsets = subscription.offsets
        if offsets is None or not outputs:
            return
        lane = offsets.by_lane[batch.lane.name]
        commit = None
        for output in outputs:
            commit = self.commits.stage_entry(output.event, output.entry, output.then)
            self._bus.outboxed.pop(output.entry.event_id, None)
        lane.posted = batch.first
        offsets.note()
        self.saving.save_with_next()
        assert commit is not None
        try:
            await _wait_regardless(commit)
        finally:
            lane.posted = 0

    def ended(self, subscription: Subscription) -> None:
        """Drop the cursors of a subscription that was ended: nothing waits for it any more."""
        self.cursors.ended(subscription)

    # -- levels and entries -------------------------------------------------------------------------

    def stage(
        self, event: Any, lane: str, level: Level, then: Then | None = None, *, votes: bool = False
    ) -> Commit:
        """Take an event into the next commit. Raises `InvalidEvent` if it cannot be written.

        `votes`: it is noted beside the event that it votes in a round of another desk.
        """
        payload = encode(event)
        return self.commits.stage(event, payload, lane, level, self.header_of(event, votes=votes), then)

    def entry(self, event: Any, lane: str, level: Level, *, votes: bool = False) -> Entry:
        """Return what is written of an event. Raises `InvalidEvent` if it cannot be written."""
        payload = encode(event)
        wall_ns = self._bus.clock.wall_ns()
        return Entry(event.event_id, payload, lane, level, wall_ns, self.header_of(event, votes=votes))

    def header_of(self, event: Any, *, votes: bool = False) -> Header | None:
        """Return what stands beside an event in the journal; None if nothing does."""
        if isinstance(event, Event):
            return Header(votes=True) if votes else None
        cause = self._bus.envelopes.get(event.event_id)
        return Header(
            event_id=event.event_id,
            event_type=event_type_of(event),
            source_agent=_text(getattr(event, "source_agent", None)),
            symbol=_text(getattr(event, "symbol", None)),
            correlation_id=None if cause is None else cause.correlation_id,
            causation_id=None if cause is None else cause.event_id,
            round_id=None if cause is None else cause.round_id,
            votes=votes or None,
        )

    def knows(self, event_id: str) -> bool:
        """Return True if the journal has an event, or will have it with the next commit."""
        return self.commits.pending(event_id) is not None or self._find(event_id) is not None

    def has(self, event_id: str) -> bool:
        """Return True if the journal has an event."""
        return self._find(event_id) is not None

    def first_version(self, event_id: str) -> FirstVersion | None:
        """Return the event that has this id, waiting for its commit or in the journal; None if none has.

        One whose class cannot be read any more is an `Undecodable`.
        """
        pending = self.commits.pending(event_id)
        if pending is not None:
            commit, index = pending
            return FirstVersion(commit.events[index])
        position = self._find(event_id)
        return None if position is None else self._at(position)

    def stored(self, event_id: str) -> Stored | None:
        """Return what the journal has of an event; None if that is nothing, or cannot be read."""
        position = self._find(event_id)
        try:
            found = [] if position is None else self.journal.read(position - 1, 1)
        except JournalError:
            return None
        return found[0] if found and found[0].position == position else None

    def _at(self, position: int) -> FirstVersion | None:
        """Return the event at a position; None if it cannot be read."""
        try:
            found = self.journal.read(position - 1, 1)
        except JournalError:
            return None
        return first_of(found[0].payload) if found and found[0].position == position else None

    def holds_at(self, event_id: str, level: Level) -> bool:
        """Return True if the journal has an event, and it has reached this level there."""
        position = self._find(event_id)
        return position is not None and (level is not Level.DISK or position <= self.journal.synced)

    def _lane_of(self, event: Any) -> str:
        """Return the lane that an event took from memory, whatever `priority` is given now."""
        event_type = str(event_type_of(event))
        if event_type in _HIGH:
            return "control" if event_type == _KILL_SWITCH else "high"
        held = self._dispatcher.before_start.lane_of(event.event_id)
        if held is not None:
            return held
        for subscription in self._bus.router:
            box, offsets = subscription.mailbox, subscription.offsets
            if box.has_open(box.high, event.event_id) or (
                offsets is not None and any(one.event_id == event.event_id for _, one, _ in offsets.high.held)
            ):
                return "high"
        return "normal"

    def raise_level(self, event: Any, level: Level, entry: Entry | None = None) -> Commit:
        """Take an event that was delivered from memory into the next commit. Raises `InvalidEvent`.

        `entry`: as what it is written, if another desk has written it before.

        Who has not settled it has it in a lane, and keeps it; for the others it is settled. So nobody is
        handed it twice, and after a crash just those are handed it who had not settled it. A subscription of
        an earlier life that was absent when it was delivered, and has come back since, is handed it now.
        """
        lane = self._lane_of(event)

        def takers() -> list[tuple[Subscription, Offsets]]:
            return [
                (s, s.offsets)
                for s in self._bus.router
                if s.offsets is not None and takes(s.selectors, event)
            ]

        def leave_in_journal() -> None:
            for subscription, offsets in takers():
                its = offsets.by_lane[lane]
                if self._has_missed(subscription, event, its) and lane != "control" and not its.behind:
                    self._catch_up.fall_behind(subscription, its)

        def note(position: int) -> None:
            if self._dispatcher.commit_held(event, lane):
                return
            if self._bus.running:
                self._dispatcher.deliver()
            for subscription, offsets in takers():
                if not self._hand_missed(subscription, event, offsets.by_lane[lane], position):
                    offsets.place(lane, event.event_id, position)
                offsets.note()

        entry = entry or self.entry(event, lane, level)
        return self.commits.stage_raised(event, entry, leave_in_journal, note)

    def _has_missed(self, subscription: Subscription, event: Any, offsets: LaneOffsets) -> bool:
        """Return True if a subscription was absent when an event was delivered, and is to get it yet.

        Where only the newest of a key counts, it came too early.
        """
        is_owed = not isinstance(offsets.lane, ConflatingLane)
        return is_owed and self._bus.seen.has_missed(subscription.name, event.event_id)

    def _hand_missed(
        self, subscription: Subscription, event: Any, offsets: LaneOffsets, position: int
    ) -> bool:
        """Hand a subscription an event that it has missed. True: it reads it in the journal."""
        if not self._has_missed(subscription, event, offsets):
            return False
        self._bus.seen.delivered_to(subscription.name, event.event_id)
        is_read = offsets.behind and offsets.wants(position)
        if not is_read:
            now_ns, name = self._bus.clock.now_ns(), offsets.lane.name
            self._dispatcher.push((subscription,), [event], now_ns, NOWHERE, name, is_owed=True)
        subscription.wake_all()
        return is_read

    def has_released(self, event_id: str) -> bool:
        """Return True if an event has been released: those who have not settled it are handed it."""
        position = self._find(event_id)
        return position is not None and position <= self.commits.released

    def _find(self, event_id: str) -> int | None:
        """Return the position of an event; None as well where the journal cannot be read."""
        try:
            return self.journal.find(event_id)
        except JournalError:
            return None

    # -- what commits ask ---------------------------------------------------------------------------

    def take(self) -> Extras | None:
        """Return what is to be saved with this commit, or None."""
        self.memories.look()
        return self.saving.take()

    def look_after(self) -> None:
        """Look after the journal's files, and have the marks synced. Raises `JournalDead`."""
        self._marks_syncing.note()
        self._maintenance.look_after()

    def log_is_due(self) -> None:
        """Have a checkpoint made, or commits wait for the one that is being made."""
        self._maintenance.log_is_due()

    def look_at_files(self) -> None:
        """Look after the journal's files although nothing is committed; it dies if they are gone."""
        self._maintenance.look_at_files()

    def conflict(self, event: Any, position: int) -> None:
        """Note that an event has the id of one in the journal, if it differs. The first one stands."""
        first = self._at(position)
        fields = ("*",) if first is None else differences(first.event, event, first.had)
        if fields:
            self._bus.conflicts.note(event, fields, self._bus.clock.now_ns())

    def died(self, error: JournalError) -> None:
        """The journal takes nothing more: durable publishes raise, everything else goes on."""
        log.critical("the journal is dead, and durable events are refused from now on: %s", error)
        self._let_go()
        self._bus.journal_failed(error)

    def _let_go(self) -> None:
        for subscription in self._bus.router:
            if subscription.offsets is not None:
                subscription.offsets.let_go()

    # -- looking back -------------------------------------------------------------------------------

    def older(self, selectors: frozenset[Selector] | None, limit: int, newer: list[Any]) -> list[Any]:
        """Return the newest events of the journal that are not in `newer`, oldest first, if near the end."""
        return older(self.journal, selectors, limit, newer, HISTORY_LOOK)

    async def history(self, selectors: frozenset[Selector] | None, limit: int, newer: list[Any]) -> list[Any]:
        """Return the same from the whole journal, giving the loop back in between."""
        return await oldest_first(self.journal, selectors, limit, newer)

    async def count_unsettled(self) -> int:
        """Return how many events some subscription has not settled."""
        return await count_unsettled(self.journal, self._bus.router, self.commits.released)

    @property
    def held_back(self) -> tuple[str, str, int] | None:
        """What keeps retention from going on: a name, why, and how many entries; None if nothing does."""
        return self._maintenance.held_back

    @property
    def disk_findings(self) -> tuple[str, ...]:
        """What is wrong with the room of the journal's files, or stands in their way, in words."""
        watch = self._maintenance.disk
        if self._left and not (isinstance(self.journal, FileJournal) and lexists(next_of(self.journal.path))):
            self._left = ""
        return (*(() if watch is None else watch.findings()), *filter(None, (self._left,)))

    def status(self) -> dict[str, Any]:
        """Return the state of the journal, JSON-ready."""
        journal, commits = self.journal, self.commits
        return {
            "path": str(journal.path) if isinstance(journal, FileJournal) else None,
            "head": journal.head,
            "first": journal.first,
            "synced": journal.synced,
            "released": commits.released,
            "waiting": commits.waiting,
            "dead": None if commits.dead is None else str(commits.dead),
            "unsaved": sum(s.offsets.unsaved for s in self._bus.router if s.offsets is not None),
            "disk": list(self.disk_findings),
            "behind": [s.name for s in self._bus.router if s.mailbox.behind],
            "duplicates": commits.duplicates,
            "conflicts": self._bus.conflicts.total,
            "quarantined": self._suspects.quarantined,
            "unsynced_lost": journal.unsynced_lost if isinstance(journal, FileJournal) else 0,
            "power_cut": self.power_cut or None,
        }

    # -- life ---------------------------------------------------------------------------------------

    def adopt_all(self) -> None:
        """Give every durable subscription its offsets, and what it has not settled."""
        for subscription in self._bus.router:
            self.cursors.adopt(subscription)

    def hand_over(self) -> None:
        """The bus is about to run: hand out what is urgent."""
        self.cursors.hand_over()

    def started(self) -> None:
        """The bus runs."""
        if isinstance(self.journal, FileJournal):
            self.journal.wait_for_locks(0)  # it would hold the loop: commits are put off instead
        if self._is_new and self.config.record != "off":
            self._recorder.started(self._bus.clock.wall_ns(), self._bus.halts.all())
            if self._records.tape is not None:
                self._records.tape.started(self._bus.clock.now_ns())
        self._records.begin(self.commits)
        self.saving.begin()
        self.memories.begin()
        self.cursors.started()
        self._maintenance.begin()
        self._marks_syncing.begin()
        self._suspects.begin()

    async def flush(self) -> None:
        """Put everything on the disk: what was accepted, and every cursor."""
        self.saving.sweep()
        await self.commits.ask(sync=True)

    async def give_up(self) -> None:
        """Accept nothing more, since the journal is about to be replaced. What can be saved is saved."""
        while not self.commits.is_idle:
            with suppress(JournalError):
                await self.commits.ask()
        if self.commits.dead is None:
            with suppress(JournalError):  # it is damaged; what verifies of it is carried over
                await self.flush()
            self.commits.refuse(JournalError("the journal is being recovered into a new file; try again"))
            self._let_go()

    def abandon(self) -> None:
        """Let go of the journal without saving anything: it could not be taken over."""
        self.is_closed = True
        self._bus.dead_letters.closed()
        self.commits.refuse(JournalError("the journal could not be opened; see to it, and try again"))
        self._uninstall()

    def close(self, *, as_it_is: bool = False) -> None:
        """Save everything and sync; `as_it_is`: neither, and wait for no thread. Harmless when done twice."""
        if self.is_closed:
            return
        self.is_closed = True
        self._suspects.end()
        self.cursors.end()
        self._records.end()
        self.saving.end()  # no timer any more: the loop may be closed
        self.memories.end(saves=not as_it_is and self.commits.dead is None)
        self._maintenance.end(waits=not as_it_is)
        self._marks_syncing.end(waits=not as_it_is)
        self._uninstall()
        try:
            if as_it_is:
                self.commits.give_up(JournalError("the disk did not answer before the bus had to stop"))
            elif self.commits.dead is None:
                self.commits.commit_now(at_last=True)  # a kill switch in it gets its position only here
                self.saving.sweep()
                last = self.commits.ask(sync=True)
                self.commits.commit_now(at_last=True)
                if last.error is not None:
                    raise last.error
        finally:
            self.commits.close(waits=not as_it_is)
            self._bus.dead_letters.closed()
            at = (self.commits.released, self.journal.head)
            for subscription in self._bus.router:
                if subscription.offsets is not None:
                    subscription.offsets.note_closed(at)


def _power_cut(journal: Journal) -> str:
    """Return what is to be told of a power cut: what it took, and what nobody knows of."""
    if not isinstance(journal, FileJournal) or not journal.unsynced_lost:
        return ""
    return (
        f"{journal.power_cut}; what was accepted at `process` in the last {MARKS_SYNC_S:g} s before it may "
        "be lost as well, and is not counted: have its publishers publish again"
    )


async def _wait_regardless(commit: Commit) -> None:
    """Wait for a commit that settles an event: a cancellation would leave its outputs without that."""
    while not commit.is_over:
        with suppress(asyncio.CancelledError):
            await commit
    if commit.error is not None:
        raise commit.error


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
