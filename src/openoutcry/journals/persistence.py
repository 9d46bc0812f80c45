"""The persistence layer by hand: events kept, settled and asked for without a bus, or beside one."""

import traceback
from collections.abc import Callable, Collection, Iterable, Iterator
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from openoutcry.config import LevelName, PersistenceConfig
from openoutcry.config.checks import check_number
from openoutcry.core.lanes import LaneName
from openoutcry.errors import ConfigError, InvalidEvent, JournalError
from openoutcry.events import (
    HIGH_PRIORITY_EVENT_TYPES,
    Event,
    EventType,
    decode_many,
    differences,
    encode,
    event_type_of,
    first_of,
)
from openoutcry.events.sources import new_timestamp_ns
from openoutcry.journals.anchors import Anchor
from openoutcry.journals.sqlite import SqliteJournal
from openoutcry.journals.standing import Standing
from openoutcry.journals.verifying import Verified
from openoutcry.ports import (
    BuriedEvent,
    Changes,
    CursorState,
    Entry,
    FileJournal,
    Header,
    Journal,
    Level,
    Stored,
    level_named,
)
from openoutcry.printable import unwritable
from openoutcry.units import NS_PER_S

DEFAULT: Final = "default"
"""The subscription that events are settled for when none is named."""
_PAGE: Final = 2_048


class EventPersistence:
    """A journal for code that uses it directly: persist, mark completed or failed, ask what is pending.

    It opens a journal of its own (`PersistenceConfig`, or `EventPersistence.open(path)`), or stands before
    one that was opened elsewhere. `bus.persistence` is one of the latter kind: it shows what the bus
    keeps, but events come in by `bus.publish` alone, and what the bus's own subscriptions have settled is for
    the bus to say. A subscription is any name; what it has not settled is pending for it.

    Like a journal it belongs to one thread at a time, and its calls are plain: they return when the work is
    done, and raise the errors of `openoutcry.ports.Journal`.

    Args:
        source: The settings of a journal to open, or an open journal. None is `PersistenceConfig()`.
        owned: Tells of a bus that uses the journal which subscriptions are its own. With it, nothing can be
            persisted here, and those subscriptions are read only.
        check: Raises where a call of that name may not be made: the journal of a bus belongs to its loop.
        wall_ns: Where the time of admission comes from, in nanoseconds since 1970.

    """

    def __init__(
        self,
        source: PersistenceConfig | Journal | None = None,
        *,
        owned: Callable[[str], bool] | None = None,
        check: Callable[[str], None] | None = None,
        wall_ns: Callable[[], int] = new_timestamp_ns,
    ) -> None:
        self._opened_here = source is None or isinstance(source, PersistenceConfig)
        if source is None or isinstance(source, PersistenceConfig):
            settings = source or PersistenceConfig()
            source = SqliteJournal(settings.path, key=settings.key, engine=settings.engine)
        self._journal: Journal = source
        self._owned = owned
        self._check = check or _anywhere
        self._wall_ns = wall_ns

    @classmethod
    def open(cls, path: str | PathLike[str], *, key: bytes | None = None) -> Self:
        """Open a journal file, and make it if there is none."""
        return cls(PersistenceConfig(path=Path(path), key=key))

    @property
    def journal(self) -> Journal:
        """The journal."""
        self._check("persistence")
        return self._journal

    @property
    def path(self) -> Path | None:
        """The journal's file, symbolic links resolved; None for one in memory."""
        return self.journal.path if isinstance(self.journal, FileJournal) else None

    # Keeping

    def persist(self, event: Any, level: LevelName = "process", lane: LaneName | None = None) -> int:
        """Keep an event, and return its position; with level `disk`, when the disk has it.

        `lane` is by default the one that the bus would use: `control` for a kill switch, `high` for the other
        high-priority types, `normal` for the rest. An event that is here already is not written again.
        Raises `InvalidEvent` where the id is here with other content, or the event cannot be written as JSON,
        and `JournalError` before the journal of a bus.
        """
        return self.persist_many([event], level, lane)[0]

    def _differs(self, event: Any, position: int) -> bool:
        """Return True unless an older version of an event's class has said the same here."""
        first = first_of(self.journal.read(position - 1, 1)[0].payload)
        return first.had is None or bool(differences(first.event, event, first.had))

    def persist_many(
        self, events: Iterable[Any], level: LevelName = "process", lane: LaneName | None = None
    ) -> list[int]:
        """Keep some events in one commit, all or none, and return their positions. See `persist`."""
        self._check("persist")
        if self._owned is not None:
            raise JournalError(
                "this journal is a bus's: publish the event on the bus, which then persists it"
            )
        survives = level_named(level)
        wall_ns = self._wall_ns()
        events = list(events)
        entries = [_entry(event, lane, survives, wall_ns) for event in events]
        written = self.journal.write(entries)
        if written.wants_sync:
            self.journal.sync()
        for duplicate in written.duplicates:
            if not duplicate.same and self._differs(events[duplicate.index], duplicate.position):
                raise InvalidEvent(
                    f"event_id = {entries[duplicate.index].event_id!r}: the journal holds another event with "
                    f"this id at position {duplicate.position}; give each event an id of its own"
                )
        return list(written.positions)

    # Settling

    def mark_completed(self, event: Any, subscription: str = DEFAULT) -> bool:
        """Settle an event, given as itself or by its id, for a subscription; `False`: it was settled before.

        One commit, which survives the process. A name that is new begins with everything pending.
        Raises `JournalError` where the journal does not hold the event, or a bus owns the subscription, and
        `ConfigError` for a name that cannot be written.
        """
        return self._settle(event, subscription, None)

    def mark_many_completed(self, events: Iterable[Any], subscription: str = DEFAULT) -> int:
        """Settle some events in one commit, all or none, and return how many of them were pending.

        Every commit saves all that is settled out of order. With a thousand stretches of that, one event at a
        time is slow; together they pay for it once.
        """
        self._check_own(subscription)
        standing = Standing.of(subscription, self.journal)
        settled = 0
        for entry in map(self._find, events):
            if standing.waits_for(entry):
                standing.settle(entry)
                settled += 1
        if settled:
            self.journal.write((), Changes(cursors=standing.states()))
        return settled

    def mark_failed(
        self, event: Any, error: str | BaseException, subscription: str = DEFAULT, attempts: int = 1
    ) -> bool:
        """Settle an event as failed, with a dead letter that keeps it. Else like `mark_completed`."""
        check_number("attempts", attempts, 1, whole=True)
        text, trace = (error, "") if isinstance(error, str) else _told(error)

        def letter(entry: Stored) -> BuriedEvent:
            return BuriedEvent(
                subscription=subscription,
                lane=entry.lane,
                position=entry.position,
                payload=entry.payload,
                reason="failed",
                error=text,
                traceback=trace,
                attempts=attempts,
                wall_ns=self._wall_ns(),
            )

        return self._settle(event, subscription, letter)

    def _check_own(self, subscription: str) -> None:
        self._check("persistence")
        _check_name(subscription)
        if self._owned is not None and self._owned(subscription):
            raise JournalError(
                f"{subscription!r} is a subscription of the running bus, which settles its events itself: "
                f"stop the bus, or settle for a subscription of your own"
            )

    def _settle(self, event: Any, subscription: str, letter: Callable[[Stored], BuriedEvent] | None) -> bool:
        self._check_own(subscription)
        entry = self._find(event)
        standing = Standing.of(subscription, self.journal)
        if not standing.waits_for(entry):
            return False
        standing.settle(entry)
        buried = () if letter is None else (letter(entry),)
        self.journal.write((), Changes(cursors=standing.states(), buried=buried))
        return True

    def _find(self, event: Any) -> Stored:
        event_id = event if isinstance(event, str) else getattr(event, "event_id", None)
        position = self.journal.find(event_id) if isinstance(event_id, str) else None
        found = [] if position is None else self.journal.read(position - 1, 1)
        if not found:
            raise JournalError(f"event_id = {event_id!r}: the journal does not hold it; persist it first")
        return found[0]

    # Asking

    def pending_events(self, subscription: str | None = None, limit: int | None = None) -> list[Any]:
        """Return what a subscription has not settled, oldest first; of None, what some subscription has not.

        Without `limit` all of it. Failed events are not pending: `dead_letters` has them. An event whose
        class is not known here comes back as `openoutcry.events.Undecodable`. Of a running bus's
        subscriptions what was settled in the last moments (`cursor_save_s`) may be among it.
        """
        if limit is not None:
            check_number("limit", limit, 0, whole=True)
        found: list[Any] = []
        for entries in self._pending(subscription):
            some = entries if limit is None else entries[: limit - len(found)]
            found += decode_many([entry.payload for entry in some])
            if len(found) == limit:
                break
        return found

    def pending_count(self, subscription: str | None = None) -> int:
        """Return how many events `pending_events` would. About a microsecond for each that it looks at."""
        return sum(map(len, self._pending(subscription)))

    def _pending(self, subscription: str | None) -> Iterator[list[Stored]]:
        """Yield what is pending, page by page."""
        journal = self.journal
        names = {c.subscription for c in journal.cursors()} if subscription is None else {subscription}
        standings = [Standing.of(name, journal) for name in sorted(names or {DEFAULT})]
        after = min(standing.floor for standing in standings)
        while page := journal.read(after, _PAGE):
            after = page[-1].position
            yield [entry for entry in page if any(standing.waits_for(entry) for standing in standings)]

    def dead_letters(self, subscription: str | None = None) -> list[BuriedEvent]:
        """Return what failed for a subscription (None: for any), oldest first, with the events' JSON."""
        _check_name(subscription)
        return self.journal.buried(subscription)

    def get_stats(self) -> dict[str, Any]:
        """Return where the journal stands, as plain data for JSON. Cheap: nothing is counted one by one.

        Of each cursor `behind` counts the positions above its floor: no more than that are pending.
        """
        journal = self.journal
        return {
            "path": None if self.path is None else str(self.path),
            "first": journal.first,
            "head": journal.head,
            "synced": journal.synced,
            "entries": journal.head - journal.first + 1,
            "bytes": self._bytes(),
            "cursors": [
                {
                    "subscription": cursor.subscription,
                    "lane": cursor.lane,
                    "floor": cursor.floor,
                    "behind": journal.head - cursor.floor,
                }
                for cursor in journal.cursors()
            ],
            "dead_letters": len(journal.buried()),
            "suspects": len(journal.suspects()),
        }

    def _bytes(self) -> int | None:
        if self.path is None:
            return None
        files = [Path(f"{self.path}{ending}") for ending in ("", "-wal")]
        return sum(file.stat().st_size for file in files if file.exists())

    def verify(self) -> Verified:
        """Hold everything that is kept against its checksums: about a second per million small events.

        A journal in memory has none; of one, that every entry can be read.
        """
        journal = self.journal
        if isinstance(journal, SqliteJournal):
            with journal.reader() as reader:
                return reader.verify()
        entries, after = 0, 0
        while page := journal.read(after, _PAGE):
            entries, after = entries + len(page), page[-1].position
        return Verified(entries, 0, Anchor(journal.head, ""), ())

    # Maintenance

    def cleanup(
        self,
        older_than_s: float | None = None,
        keep_count: int | None = None,
        *,
        past_cursors: bool = False,
        past_memory: Collection[str] = (),
    ) -> int:
        """Forget the oldest entries, and return how many: those older, or those beyond the newest so many.

        They go in whole batches (what was written in one commit), and nothing goes that a subscription has
        not settled, unless `past_cursors`; before the journal of a bus, never. As long as nobody has settled
        anything, everything is pending. Nor does anything go that the memory of a subscription is rebuilt
        from, unless its name is in `past_memory`: its next start then fails, unless it has
        `on_missing="warn"`. Dead letters keep their events.
        """
        self._check("cleanup")
        if older_than_s is None and keep_count is None:
            raise ConfigError(
                "cleanup: neither older_than_s nor keep_count is given; say what is to be forgotten"
            )
        if past_cursors and self._owned is not None:
            raise JournalError("this journal is a bus's: what its subscriptions have not settled stays")
        if older_than_s is not None:
            check_number("older_than_s", older_than_s, 0)
        if keep_count is not None:
            check_number("keep_count", keep_count, 0, whole=True)
        if not past_cursors and not self._raise_floors():
            return 0
        before_ns = None if older_than_s is None else self._wall_ns() - int(older_than_s * NS_PER_S)
        forgotten = 0
        while count := self.journal.retire(
            older_than_ns=before_ns,
            keep_count=keep_count,
            past_cursors=past_cursors,
            past_memory=past_memory,
        ):
            forgotten += count
        return forgotten

    def _raise_floors(self) -> bool:
        """Save how far our subscriptions have come; return False if there is no subscription at all."""
        names = {cursor.subscription for cursor in self.journal.cursors()}
        states: list[CursorState] = []
        for name in names:
            if self._owned is None or not self._owned(name):
                standing = Standing.of(name, self.journal)
                standing.follow()
                states += standing.states()
        if states:
            self.journal.write((), Changes(cursors=states))
        return bool(names)

    def close(self) -> None:
        """Sync and close the journal, if it was opened here; one that was handed in stays with its owner."""
        if self._opened_here:
            self._journal.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"EventPersistence({self._journal!r})"


def _entry(event: Any, lane: str | None, level: Level, wall_ns: int) -> Entry:
    if level is Level.REPLICATED:
        raise ConfigError(
            "level is 'replicated', which takes a bus with a link: a journal alone keeps no copy"
        )
    payload = encode(event)
    event_type = event_type_of(event)
    if lane is None:
        lane = "high" if event_type in HIGH_PRIORITY_EVENT_TYPES else "normal"
        lane = "control" if event_type == EventType.KILL_SWITCH else lane
    header = None
    if not isinstance(event, Event):
        names = ("source_agent", "symbol", "correlation_id", "causation_id", "round_id")
        said = {name: getattr(event, name, None) for name in names}
        texts: dict[str, Any] = {name: value for name, value in said.items() if isinstance(value, str)}
        header = Header(event_id=event.event_id, event_type=event_type, **texts)
    return Entry(event.event_id, payload, lane, level, wall_ns, header)


def _check_name(subscription: str | None) -> None:
    """Raise `ConfigError` for a name that no journal can hold."""
    if subscription is not None and (problem := unwritable(subscription)):
        raise ConfigError(f"subscription is {subscription!r}; {problem}: correct the name")


def _anywhere(_call: str) -> None:
    """Let every call pass."""


def _told(error: BaseException) -> tuple[str, str]:
    """Return what an error says, and its traceback; what it cannot say is left out."""
    try:
        return f"{type(error).__name__}: {error}", "".join(traceback.format_exception(error))
    except Exception:  # noqa: BLE001 - the user's __str__ or __repr__
        return type(error).__name__, "".join(traceback.format_tb(error.__traceback__))
