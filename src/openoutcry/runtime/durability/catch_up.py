"""Reading on from the journal: for subscriptions that are behind, by pages that they share.

A lane falls behind when the bus starts with events that it has not settled, or when it stops moving while
others go on. It is then not handed what is new: it reads. When it has read everything that was released, it
is live again, in the same turn of the loop, so that nothing is missed in between.
"""

import logging
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any

from openoutcry.errors import JournalError
from openoutcry.events import Undecodable, decode_many, fixed_event_type
from openoutcry.events.records import BEGINNINGS, name_records
from openoutcry.journals.log import bytes_of
from openoutcry.logs import about
from openoutcry.ports import FileJournal, Journal, Level, Stored
from openoutcry.runtime.delivery.dispatcher import Dispatcher
from openoutcry.runtime.delivery.offsets import LaneOffsets
from openoutcry.runtime.delivery.state import BusState
from openoutcry.runtime.delivery.subscription import Subscription, selects, takes
from openoutcry.runtime.durability.committer import Committer

log = logging.getLogger("openoutcry")

PAGE = 256
READ_AT_ONCE = 1024
"""How many entries are read at a time, since a batch is fetched whole; they are decoded by the page."""
READ_BYTES = 2_000_000
"""Once they have so many bytes, no further batch is read at a time: of large events a page is a part."""
PAGES_KEPT = 64
PAGES_AT_ONCE = 4
LOW_WATER = 128


Kind = tuple[type, str]
"""A class of events, and a type: a subscription takes all of a kind, or none."""


def kind_of(event: Any) -> Kind:
    """Return the kind of an event."""
    value = event.event_type
    return type(event), str(getattr(value, "value", value))


class Page:
    """Part of the journal: entries, and the events that they are.

    Attributes:
        entries: The entries.
        events: The events.
        classes: One event for each class, if the page is plain: all of it is of the normal lane, can be read,
            and has classes with a fixed type; nothing of it stands beside. Otherwise empty.
        is_part: Whether its events are so large that it is a part of a page.

    """

    __slots__ = ("_by_kind", "classes", "entries", "events", "is_part")

    def __init__(self, entries: list[Stored], *, is_part: bool = False) -> None:
        self.entries: list[Stored] = entries
        self.events: list[Any] = decode_many([entry.payload for entry in entries])
        classes = {type(event): event for event in self.events}
        is_plain = all(map(_is_fixed, classes)) and all(
            [entry.lane == "normal" and entry.level is not Level.MEMORY for entry in entries]  # noqa: C419 - a generator takes longer
        )
        self.classes: tuple[Any, ...] = tuple(classes.values()) if is_plain else ()
        self._by_kind: dict[Kind, list[int]] = {}
        self.is_part: bool = is_part

    def by_kind(self) -> dict[Kind, list[int]]:
        """Return which of the events are of each kind, by their index."""
        if not self._by_kind:
            for index, event in enumerate(self.events):
                self._by_kind.setdefault(kind_of(event), []).append(index)
        return self._by_kind

    def part(self, after: int, upto: int) -> tuple[list[Any], Sequence[int]]:
        """Return the events between two positions, and where they stand."""
        entries, events = self.entries, self.events
        low = bisect_right(entries, after, key=_position)
        high = bisect_right(entries, upto, key=_position)
        if low or high < len(entries):
            events = events[low:high]
        if not events:
            return [], ()
        first, last = entries[low].position, entries[high - 1].position
        if last - first + 1 == high - low:
            return events, range(first, last + 1)
        return events, [entry.position for entry in entries[low:high]]  # a recovery has left gaps


def _is_fixed(cls: type) -> bool:
    return cls is not Undecodable and fixed_event_type(cls) is not None


_position = attrgetter("position")


class Pages:
    """The journal's events in pages of `PAGE` positions, the latest used kept; `at_once` so many are read.

    There are pages with the records of the bus, and what stands beside, and without: they need not be decoded
    for who takes no records.
    """

    def __init__(self, journal: Journal, at_once: int = READ_AT_ONCE) -> None:
        self._journal = journal
        self._file = journal if isinstance(journal, FileJournal) else None  # (To ask that takes a while.)
        self._at_once = at_once
        self._read_after = 0
        self._entries: list[Stored] = []
        self._kept: OrderedDict[tuple[int, bool], Page] = OrderedDict()
        self._large: set[int] = set()
        self._part: tuple[tuple[int, bool], Page, int] | None = None

    def after(self, position: int, upto: int, *, has_records: bool) -> tuple[Page, int]:
        """Return the page with what follows a position, and the last position it covers, up to `upto`."""
        number = position // PAGE
        last = (number + 1) * PAGE
        page = self._kept.get((number, has_records))
        if page is None:
            entries = None if number in self._large else self._read(number * PAGE, min(last, upto))
            if entries is None:
                self._large.add(number)
                return self._part_after(position, min(last, upto), has_records=has_records)
            page = _page_of(entries, has_records=has_records)
            if last <= upto:
                self._kept[number, has_records] = page
                if len(self._kept) > PAGES_KEPT:
                    self._kept.popitem(last=False)
        else:
            self._kept.move_to_end((number, has_records))
        return page, min(last, upto)

    def _part_after(self, position: int, upto: int, *, has_records: bool) -> tuple[Page, int]:
        """Return as much of a page of large events as is read at a time, and the last position it covers."""
        known = self._part
        if known is not None and known[0] == (position, has_records) and known[2] <= upto:
            return known[1:]
        entries = self._read_some(position, PAGE)
        covered = entries[-1].position if bytes_of(entries) >= READ_BYTES else upto
        page = _page_of([e for e in entries if e.position <= upto], has_records=has_records, is_part=True)
        self._part = (position, has_records), page, min(covered, upto)
        return self._part[1:]

    def _read(self, after: int, upto: int) -> list[Stored] | None:
        """Return the entries between two positions; None if they are too large to be read at a time."""
        known = self._entries
        if not known or not self._read_after <= after <= upto <= known[-1].position:
            known = self._entries = self._read_some(after, self._at_once)
            self._read_after = after
            if known and known[-1].position < upto and bytes_of(known) >= READ_BYTES:
                return None
        low, high = bisect_right(known, after, key=_position), bisect_right(known, upto, key=_position)
        return known[low:high]

    def _read_some(self, after: int, limit: int) -> list[Stored]:
        if self._file is None:
            return self._journal.read(after, limit)
        return self._file.read(after, limit, bytes_max=READ_BYTES)


def _page_of(entries: list[Stored], *, has_records: bool, is_part: bool = False) -> Page:
    kept = entries if has_records else _without_records(entries)
    return Page(kept, is_part=is_part)


def _without_records(entries: list[Stored]) -> list[Stored]:
    """Return what is neither a record of the bus nor there beside; written out, for it is asked of each."""
    return [
        entry
        for entry in entries
        if entry.level is not Level.MEMORY and not entry.payload.startswith(BEGINNINGS)
    ]


class CatchUp:
    """Lets lanes read on from the journal."""

    def __init__(
        self,
        bus: BusState,
        dispatcher: Dispatcher,
        journal: Journal,
        commits: Committer,
        unreadable: Callable[[Subscription, LaneOffsets, Stored, Undecodable], None],
    ) -> None:
        self._bus = bus
        self._dispatcher = dispatcher
        self.pages: Pages = Pages(journal)
        self._commits = commits
        self._unreadable = unreadable

    def fall_behind(self, subscription: Subscription, offsets: LaneOffsets) -> None:
        """Let a live lane read on from the journal, from what it was handed last."""
        # What is being released now may have been handed to it in part.
        offsets.read_upto = max(self._commits.released, offsets.newest)
        offsets.behind = True
        if offsets.lane.name != "control":
            subscription.mailbox.fall_behind(+1)

    def refill(self, subscription: Subscription) -> None:
        """Read on, for every lane of the subscription that is behind and has little left."""
        offsets = subscription.offsets
        if offsets is None or not subscription.holds.may_read:
            return
        try:
            low_water = max(1, min(LOW_WATER, self._bus.pressure.low_room // 4))
            for lane in (offsets.high, offsets.normal):
                pages = 0
                while lane.behind and lane.lane.waiting < low_water and pages < PAGES_AT_ONCE:
                    room = self._dispatcher.room_left(subscription, lane.lane.name)
                    if not room:
                        break
                    is_part = self._read_page(subscription, lane, room)
                    pages += PAGES_AT_ONCE if is_part else 1
        except JournalError as error:
            # What cannot be read is not skipped: it waits until the journal is recovered into a new file.
            subscription.read_on(error=str(error))
            name = subscription.name
            log.critical(
                "%s cannot read on from the journal: %s", name, error, extra=about(subscription=name)
            )
            self._bus.journal_failed(error)

    def _read_page(self, subscription: Subscription, offsets: LaneOffsets, room: int) -> bool:
        """Read on by a page, or a part of one; return whether it was a part."""
        released, is_part = self._commits.released, False
        if offsets.read_upto < released:
            has_records = name_records(subscription.selectors)
            page, upto = self.pages.after(offsets.read_upto, released, has_records=has_records)
            is_part = page.is_part
            upto = self._hand(subscription, offsets, page, upto, room)
            offsets.read_upto = max(offsets.read_upto, upto)
        if offsets.read_upto >= released:
            give_held(self._dispatcher, subscription, offsets, released)
            offsets.behind = False
            subscription.mailbox.fall_behind(-1)
        return is_part

    def _hand(
        self, subscription: Subscription, offsets: LaneOffsets, page: Page, upto: int, room: int
    ) -> int:
        """Hand a lane what it wants of a page, and what was held for its turn in between.

        Return up to which position: no more than `room` events are handed.
        """
        if self._is_plain(subscription, offsets, page):
            return self._hand_plain(subscription, offsets, page, upto, room)
        name, selectors = offsets.lane.name, subscription.selectors
        wanted: dict[type, bool] = {}
        events: list[Any] = []
        positions: list[int] = []
        stale = subscription.options.max_age_s is not None
        begin = bisect_right(page.entries, offsets.read_upto, key=_position)
        for entry, event in zip(page.entries[begin:], page.events[begin:], strict=True):
            is_its = entry.lane == name and not entry.is_beside
            if not is_its or entry.position > upto or not offsets.wants(entry.position):
                continue
            if isinstance(event, Undecodable):
                if takes_type(subscription, entry):
                    self._unreadable(subscription, offsets, entry, event)
                continue
            if not _wants(wanted, selectors, event):
                continue
            if not room:
                upto = entry.position - 1
                break
            room -= 1
            if stale or (offsets.held and offsets.held[0][0] < entry.position):
                self._push(subscription, offsets, events, positions, self._bus.clock.now_ns())
                events, positions = [], []
                give_held(self._dispatcher, subscription, offsets, entry.position - 1)
            events.append(event)
            positions.append(entry.position)
            if stale:
                self._push(subscription, offsets, events, positions, admitted_ns(self._bus, entry))
                events, positions = [], []
        self._push(subscription, offsets, events, positions, self._bus.clock.now_ns())
        return upto

    @staticmethod
    def _is_plain(subscription: Subscription, offsets: LaneOffsets, page: Page) -> bool:
        """Return True if a lane wants all of a page. False: each entry has to be looked at."""
        return (
            bool(page.classes)
            and not (offsets.skip or offsets.held)
            and subscription.options.max_age_s is None
            and offsets.lane is subscription.mailbox.normal
            and all(takes(subscription.selectors, event) for event in page.classes)
        )

    def _hand_plain(
        self, subscription: Subscription, offsets: LaneOffsets, page: Page, upto: int, room: int
    ) -> int:
        """Hand a lane all of a page at once, as far as there is room; return up to which position."""
        events, positions = page.part(offsets.read_upto, upto)
        if len(events) > room:
            events, positions = events[:room], positions[:room]
            upto = positions[-1]
        self._push(subscription, offsets, events, positions, self._bus.clock.now_ns())
        return upto

    def _push(
        self,
        subscription: Subscription,
        offsets: LaneOffsets,
        events: list[Any],
        positions: Sequence[int],
        at_ns: int,
    ) -> None:
        if events:
            name = offsets.lane.name
            self._dispatcher.push((subscription,), events, at_ns, positions, name, is_owed=True)


def give_held(dispatcher: Dispatcher, subscription: Subscription, offsets: LaneOffsets, upto: int) -> None:
    """Hand a lane what was held until everything up to a position had been read."""
    for event, at_ns in offsets.take_held(upto):
        dispatcher.push((subscription,), [event], at_ns, lane=offsets.lane.name, is_owed=True)


def takes_type(subscription: Subscription, entry: Stored) -> bool:
    """Return True if a subscription takes events of the type that an unreadable entry names."""
    return selects(subscription.selectors, object, entry.head().event_type or "")


def admitted_ns(bus: BusState, entry: Stored) -> int:
    """Return when an entry was admitted, on the monotonic clock of today."""
    clock = bus.clock
    return clock.now_ns() - max(0, clock.wall_ns() - entry.wall_ns)


def _wants(known: dict[type, bool], selectors: frozenset[Any], event: Any) -> bool:
    """Return True if the selectors take an event; asked once per class whose type is fixed."""
    cls = type(event)
    found = known.get(cls)
    if found is None:
        found = takes(selectors, event)
        if fixed_event_type(cls) is not None:  # type: ignore[arg-type]
            known[cls] = found
    return found
