"""The keeper of the journal: opens it, knows which subscription stands where, and sees that it is saved."""

import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from openoutcry.config import PersistenceConfig
from openoutcry.core.retries import DeadLetter
from openoutcry.errors import ConfigError, JournalError
from openoutcry.events import (
    HIGH_PRIORITY_EVENT_TYPES,
    Event,
    EventType,
    Undecodable,
    decode_many,
    encode,
    event_type_of,
    fixed_event_type,
    install_deriver,
)
from openoutcry.journals import SqliteJournal
from openoutcry.ports import (
    Changes,
    CursorState,
    Entry,
    Envelope,
    Journal,
    Level,
    Stored,
)
from openoutcry.runtime.backlog import Backlog
from openoutcry.runtime.books import Book, LaneBook
from openoutcry.runtime.causes import current
from openoutcry.runtime.commits import Committer, Group, Ready, Then
from openoutcry.runtime.feed import Feed
from openoutcry.runtime.floor import Floor, guarded
from openoutcry.runtime.graveyard import Which
from openoutcry.runtime.housekeeping import Housekeeping
from openoutcry.runtime.recollect import count_unsettled, count_waiting, restore
from openoutcry.runtime.subscriptions import Subscription, takes
from openoutcry.runtime.suspects import Suspects

log = logging.getLogger("openoutcry")

_HIGH = frozenset(str(t.value) for t in HIGH_PRIORITY_EVENT_TYPES)
_LEVELS = {level.name.lower(): level for level in Level}
SAVE_EVERY = 512
"""Cursors ride along with a commit when this many events were released since they last did."""
STALE_AFTER = 16_384
"""With this many events released since, the cursors of those are saved who had nothing to do with them."""


def level_named(level: str) -> Level:
    """Return a level by its word."""
    found = _LEVELS.get(level) if isinstance(level, str) else None
    if found is None:
        raise ConfigError(f"level is {level!r}; it must be one of {', '.join(_LEVELS)}")
    return found


def derive() -> str | None:
    """Return the id of what is being made, if a handler of a durable subscription makes it."""
    who = current.get()
    return None if who is None else who.derive()


class Keeper:
    """What a bus keeps durable, and how.

    Attributes:
        config: The settings.
        journal: The open journal.
        commits: Groups what is published into commits.
        backlog: Lets lanes read on from the journal.
        graves: The dead letters.
        conflicts: Events that had the id of another one with different content.

    """

    def __init__(self, floor: Floor, feed: Feed, config: PersistenceConfig, journal: Journal | None) -> None:
        self.config = config
        self._floor = floor
        self._feed = feed
        self.owns_journal = journal is None
        self.journal: Journal = (
            SqliteJournal(config.path, key=config.key, engine=config.engine) if journal is None else journal
        )
        self._levels = {str(EventType.MARKET_DATA.value): Level.MEMORY} | {
            name: level_named(level) for name, level in config.levels.items()
        }
        self._ordinary = level_named(config.level)
        self._high = level_named(config.high_priority_level)
        self.commits = Committer(floor, feed, self.journal, self, config.sync)
        self.backlog = Backlog(floor, self.journal, self._released, self._unreadable)
        self._cursors: dict[str, dict[str, CursorState]] = {}
        for state in self.journal.cursors():
            self._cursors.setdefault(state.subscription, {})[state.lane] = state
        self._begin_at = self.journal.first - 1 if not self._cursors else self.journal.head
        self._noted: dict[Book, None] = {}
        self._dropped: list[tuple[str, str]] = []
        self._saved_at = 0
        self._swept_at = self.journal.head
        self._urgent: list[tuple[Stored, Any]] | None = None
        self.conflicts = 0
        self.redelivered = 0
        self.on_error: list[Callable[[JournalError], Any]] = []
        self.graves = floor.graves
        self.graves.load(self.journal.buried())
        self.graves.changed = self.save_soon
        self.suspects = Suspects(floor, self.journal, config, self.save_soon)
        self.house = Housekeeping(floor, self.journal, self.commits, config)
        self._uninstall = install_deriver(derive)
        feed.released = self._released
        feed.fall_behind = self.backlog.fall_behind
        floor.pending_ids = self.commits.pending_ids
        floor.marks = self.journal.marks
        floor.refill = self.backlog.refill
        floor.on_ended = self.ended
        self._to_redrive: list[tuple[Subscription, DeadLetter]] = []
        self._fresh = False
        for subscription in floor.roster:
            self.adopt(subscription)

    @property
    def face(self) -> Any:
        """The journal's face for code that uses it directly."""
        from openoutcry.journals import EventPersistence

        return EventPersistence(self.journal, owned=self._owns)

    def _owns(self, name: str) -> bool:
        return any(s.name == name and s.book is not None for s in self._floor.roster)

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
        payload = encode(event)
        envelope = None if isinstance(event, Event) else self._envelope(event)
        entry = Entry(event.event_id, payload, lane, level, self.commits.wall_ns(), envelope)
        return self.commits.stage(event, entry, then, gates=lane != "control")

    def _envelope(self, event: Any) -> Envelope:
        cause = self._floor.envelopes.get(event.event_id)
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

    def died(self, error: JournalError) -> None:
        """The journal takes nothing more: durable publishes raise, everything else goes on."""
        log.critical("the journal is dead, and durable events are refused from now on: %s", error)
        for callback in self.on_error:
            guarded(callback, error)

    # -- who stands where ---------------------------------------------------------------------------

    def adopt(self, subscription: Subscription) -> None:
        """Give a durable subscription its books, and what it has not settled."""
        if not subscription.durable:
            return
        saved = self._cursors.pop(subscription.name, {})
        box = subscription.mailbox
        # Its cursors are written with the next commit: those of one before it must not be dropped there.
        self._dropped = [gone for gone in self._dropped if gone[0] != subscription.name]
        if subscription.book is not None and self._goes_on(subscription.book, saved):
            return
        if subscription.book is not None:
            # Somebody else has had the journal meanwhile: what it says goes before what is remembered here.
            self.graves.interrupt(subscription)
            box.withdraw()
            box.fall_behind(-box.behind)
            self._floor.withdraw_control(subscription)
        lanes = (subscription.control.normal, box.high, box.normal)
        first = self._first_floor()
        books = []
        for lane in lanes:
            state = saved.get(lane.name)
            book = LaneBook(lane, first, ()) if state is None else LaneBook(lane, state.floor, state.settled)
            if state is not None:
                book.saved = (state.floor, state.settled)
            books.append(book)
            self._fresh = self._fresh or state is None
        control, high, normal = books
        takes_types = tuple(sorted(_types(subscription)))
        subscription.book = Book(
            subscription.name, takes_types, (control, high, normal), self._note, self.save_soon
        )
        self.suspects.sort_out(subscription)
        self._to_redrive += [(subscription, letter) for letter in self.graves.adopt(subscription)]
        control.behind = high.behind = normal.behind = True
        box.fall_behind(+1)
        if self._floor.running:
            self._hand_urgent(subscription)
            self._redrive()
        self._note(subscription.book)

    def _goes_on(self, book: Book, saved: dict[str, CursorState]) -> bool:
        """Tell whether the books of before a stop still hold, since nobody else has had the journal."""
        states = {name: (state.floor, state.settled) for name, state in saved.items()}
        holds = book.closed_at == self.journal.head and all(
            states.get(lane.lane.name) == lane.saved for lane in book.lanes
        )
        if holds:
            book.rebind(self._note, self.save_soon)
        return holds

    def hand_over(self) -> None:
        """The bus is about to run: hand out what is urgent."""
        for subscription in self._floor.roster:
            # (A high lane alone that is behind has stalled before the last stop: it reads on by itself.)
            if subscription.book is not None and subscription.book.control.behind:
                self._hand_urgent(subscription)
        self._redrive()

    def _redrive(self) -> None:
        letters, self._to_redrive = self._to_redrive, []
        for subscription, letter in letters:
            chosen = frozenset({letter.letter_id})
            self.graves.redrive(subscription, Which(letter_ids=chosen), self._floor.clock.now_ns())

    def _first_floor(self) -> int:
        """Return where a subscription without a cursor begins: now or, before the start, at the beginning."""
        return self.commits.released if self._floor.running else self._begin_at

    def _hand_urgent(self, subscription: Subscription) -> None:
        """Hand a subscription the high-priority events and kill switches that it has not settled."""
        book, floor = subscription.book, self._floor
        assert book is not None
        low = min(book.control.read_upto, book.high.read_upto)
        released, now_ns = self.commits.released, floor.clock.now_ns()
        for entry, event in self._urgent_after(low):
            lane = book.of(entry.lane)
            if entry.position > released or not lane.wants(entry.position):
                continue
            if isinstance(event, Undecodable):
                if self.takes_type(subscription, entry):
                    self._unreadable(subscription, lane, entry, event)
            elif takes(subscription.selectors, event):
                lane.place((entry.position,))
                if entry.lane == "high":
                    subscription.mailbox.push_high([event], now_ns)
                else:
                    lane.lane.push([event], now_ns)
                    floor.control_waiting += floor.running
                self.redelivered += 1
        book.control.read_upto = book.high.read_upto = released
        book.control.behind = book.high.behind = False

    def _urgent_after(self, position: int) -> Iterable[tuple[Stored, Any]]:
        """Return the entries of the control and high lanes behind a position, read once while starting."""
        if self._urgent is None or self._urgent_from > position or self._floor.running:
            found = [e for e in self.journal.read(position, 2**31) if e.lane != "normal"]
            self._urgent = list(zip(found, decode_many([e.payload for e in found]), strict=True))
            self._urgent_from = position
        return (pair for pair in self._urgent if pair[0].position > position)

    _urgent_from = 0

    def started(self) -> None:
        """The bus runs: what was read for the start is not needed any more."""
        self._urgent = None
        for name, lanes in self._cursors.items():
            lag = count_waiting(self.journal, lanes.values())
            if lag:
                log.warning(
                    "%d events wait for the subscription %r, which nobody has made: subscribe it, or give it up "
                    "with `openoutcry cursors drop`",
                    lag,
                    name,
                )
        self.house.begin()
        self.suspects.begin()

    @staticmethod
    def takes_type(subscription: Subscription, entry: Stored) -> bool:
        """Tell whether a subscription takes events of the type that an unreadable entry names."""
        event_type = entry.head().event_type
        return any(s in ("*", event_type) for s in subscription.selectors)

    def _unreadable(
        self, subscription: Subscription, book: LaneBook, entry: Stored, event: Undecodable
    ) -> None:
        """Put away what nobody here can read, byte for byte, until its class is registered."""
        log.error(
            "position %d of the journal cannot be read for %s: %s",
            entry.position,
            subscription.name,
            event.error,
        )
        book.note_settled(entry.position)
        letter = DeadLetter(
            subscription.name,
            entry.lane,
            event,
            "unreadable",
            str(event.error),
            "",
            0,
            self._floor.clock.wall_ns(),
            position=entry.position,
        )
        self._floor.dead(subscription, letter)

    def ended(self, subscription: Subscription) -> None:
        """A subscription was ended: nothing waits for it any more."""
        book, subscription.book = subscription.book, None
        if book is not None:
            self._noted.pop(book, None)
            self._dropped += [(book.name, lane.lane.name) for lane in book.lanes]
            self.save_soon()

    async def restore(self) -> None:
        """Give the agents their memory back, before they handle anything."""
        await restore(self.backlog.pages, self.journal, self._floor.roster, self.commits.released)

    async def count_unsettled(self) -> int:
        """Return how many events some subscription has not settled."""
        return await count_unsettled(self.journal, self._floor.roster, self.commits.released)

    async def flush(self) -> None:
        """Have everything on the disk: what is accepted, and how far everybody has come."""
        self._sweep()
        self.house.now_due()
        await self.commits.ask(sync=True).wait()

    # -- saving -------------------------------------------------------------------------------------

    def _note(self, book: Book) -> None:
        book.is_noted = True
        self._noted[book] = None
        self.house.due()

    def save_soon(self) -> None:
        """Have everything that is noted saved in the next turn of the loop."""
        self.house.now_due()
        if self.commits.dead is None:
            with suppress(RuntimeError):  # no loop runs: it is saved with the next commit
                self.commits.ask()

    def ready(self) -> Ready | None:
        """Return what is to be saved with this commit, or None."""
        graves = self.graves
        self.house.busy()
        graves.settle(self._floor.roster)
        due = self._noted and (
            self._fresh
            or self.commits.released - self._saved_at >= SAVE_EVERY
            or self.house.is_due()
            or graves.waiting
        )
        if not (due or self._dropped or graves.waiting or self.suspects.cleared):
            return None
        self._fresh = False
        released = self.commits.released
        if released - self._swept_at >= STALE_AFTER:
            self._sweep()
        noted, self._noted = self._noted, {}
        moved = [item for book in noted for item in book.moved(released)]
        dropped, self._dropped = self._dropped, []
        buried, exhumed = graves.take()
        cleared = self.suspects.take_cleared()
        changes = Changes(
            cursors=[cursor for _, _, cursor in moved],
            dropped_cursors=dropped,
            buried=buried,
            exhumed=exhumed,
            cleared=cleared,
        )
        unsaved = {book: book.unsaved for book in noted}
        for book in noted:
            book.is_noted = False
            book.unsaved = 0
        return Ready(changes, lambda: self._note_saved(moved, released), lambda: self._undo(changes, unsaved))

    def _note_saved(self, moved: list[Any], released: int) -> None:
        for book, state, _ in moved:
            book.saved = state
        self._saved_at = released
        self.house.saved()

    def _undo(self, changes: Changes, unsaved: dict[Book, int]) -> None:
        """The commit was refused: all of it is to be saved with the next one."""
        self._fresh = True  # perhaps the first cursor of somebody was among it
        for book, count in unsaved.items():
            book.unsaved += count
            self._note(book)
        self._dropped = [*changes.dropped_cursors, *self._dropped]
        self.graves.give_back(changes.buried, changes.exhumed)
        self.suspects.cleared = [*changes.cleared, *self.suspects.cleared]

    def _sweep(self) -> None:
        """Note everybody: a cursor that lags far behind would cost the next start a long read."""
        self._swept_at = self.commits.released
        for subscription in self._floor.roster:
            if subscription.book is not None:
                self._noted[subscription.book] = None

    def close(self) -> None:
        """Save everything, sync, and close the journal, if it was opened here."""
        self.suspects.end()
        self.house.end()
        self._uninstall()
        try:
            if self.commits.dead is None:
                self._sweep()
                self.house.now_due()
                last = self.commits.ask(sync=True)
                self.commits.commit_now()
                if last.error is not None:
                    raise last.error
        finally:
            self.commits.close()
            for subscription in self._floor.roster:
                if subscription.book is not None:
                    subscription.book.closed_at = self.journal.head
            self._feed.released = int
            self._floor.pending_ids = tuple
            self._floor.marks = None
            self._floor.on_ended = lambda _subscription: None
            if self.owns_journal:
                self.journal.close()


def _types(subscription: Subscription) -> set[str]:
    """Return the event types that a subscription takes, as far as they can be told without its code."""
    found: set[str] = set()
    for selector in subscription.selectors:
        fixed = selector if isinstance(selector, str) else fixed_event_type(selector)
        found.add("*" if fixed is None else str(fixed))
    return found


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
