"""Cursors: where each durable subscription stands in the journal, and what it is handed when it is made."""

import logging
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, cast

import msgspec

from openoutcry.core.cursors import BUS, LINK
from openoutcry.core.lanes import LaneName
from openoutcry.core.retries import DeadLetter
from openoutcry.errors import JournalError, NotSubscribed, SubscriptionError
from openoutcry.events import Undecodable, decode_many
from openoutcry.logs import about
from openoutcry.ports import CursorState, Journal, Stored
from openoutcry.printable import unwritable
from openoutcry.runtime.delivery.dispatcher import Dispatcher
from openoutcry.runtime.delivery.offsets import LaneOffsets, Offsets
from openoutcry.runtime.delivery.state import BusState
from openoutcry.runtime.delivery.subscription import Selector, Subscription, takes
from openoutcry.runtime.durability.catch_up import give_held, takes_type
from openoutcry.runtime.durability.committer import Committer
from openoutcry.runtime.durability.crash_suspects import CrashSuspects
from openoutcry.runtime.durability.looking_back import count_waiting
from openoutcry.runtime.durability.memories import Memories
from openoutcry.runtime.durability.missing import MissingReport
from openoutcry.runtime.durability.saving import SavedCursors, Saving
from openoutcry.runtime.durability.taken import given_up, what_is_taken

log = logging.getLogger("openoutcry")

URGENT_PAGE = 4_096
"""So many urgent entries are in memory at a time while they are handed out."""


@dataclass(slots=True)
class _Owed:
    """A lane that is handed what is urgent: up to which position, and how many events its mailbox takes."""

    subscription: Subscription
    lane: LaneOffsets
    upto: int
    room: int

    @property
    def is_high(self) -> bool:
        return self.lane.lane.name == "high"


@dataclass(frozen=True, slots=True)
class CursorReport:
    """Where a subscription stands in a lane of the journal.

    Attributes:
        subscription: The subscription's name.
        lane: The lane.
        floor: Every position up to here is settled.
        waiting: Events that it takes and has not settled; counted up to 100,000.
        present: Whether it is subscribed now.

    """

    subscription: str
    lane: LaneName
    floor: int
    waiting: int
    present: bool

    def to_dict(self) -> dict[str, str | int]:
        """Return the report as JSON-ready data."""
        return asdict(self)


class Cursors:
    """Where the durable subscriptions of a journal stand.

    Attributes:
        redelivered: Urgent events that were handed out again at a start.

    """

    def __init__(
        self,
        bus: BusState,
        dispatcher: Dispatcher,
        journal: Journal,
        commits: Committer,
        saving: Saving,
        suspects: CrashSuspects,
        memories: Memories,
        saved: SavedCursors,
    ) -> None:
        self._bus = bus
        self._dispatcher = dispatcher
        self._journal = journal
        self._commits = commits
        self._saving = saving
        self._dead_letters = bus.dead_letters
        self._suspects = suspects
        self._put_away = unreadable(bus)
        self._memories = memories
        self._cursors = saved.by_subscription
        self._missing = MissingReport(bus, journal, saved.by_subscription)
        self.redelivered: int = 0

    def adopt(self, subscription: Subscription) -> None:
        """Give a durable subscription its offsets, and what it has not settled."""
        if subscription.durable:
            self._adopt(subscription, self._cursors.pop(subscription.name, {}))
        self._dead_letters.adopt(subscription)

    def adopt_new(self, subscription: Subscription) -> None:
        """Adopt one that is just being made. If the journal cannot be read, its cursors stay as they were."""
        saved = self._cursors.get(subscription.name)
        try:
            self.adopt(subscription)
        except JournalError:
            subscription.offsets = None
            if saved is not None:
                self._cursors[subscription.name] = saved
            raise

    def _adopt(self, subscription: Subscription, saved: dict[str, CursorState]) -> None:
        box = subscription.mailbox
        held: list[deque[tuple[int, Any, int]]] = []
        # Its cursors are written with the next commit: those of one before it must not be dropped there.
        self._saving.keep(subscription.name)
        if subscription.offsets is not None and self._goes_on(subscription.offsets, saved):
            self.take_types(subscription, subscription.selectors)
            self._memories.note_withdrawn(subscription.offsets)
            self._read_on(subscription, subscription.offsets)
            subscription.offsets.note_open()
            self._memories.go_on(subscription)
            return
        if subscription.offsets is None:
            if saved:
                coming = self._dispatcher.before_start.events(0)
                self._bus.seen.came_back(subscription.name, [event.event_id for event in coming])
        else:
            # The journal was written by another bus meanwhile: what it says goes before what is known here.
            self._dead_letters.redrives.call_off(subscription)
            self._bus.withdraw(subscription, self._is_kept)
            held = [lane.held for lane in subscription.offsets.lanes]
            box.fall_behind(-box.behind)
            box.forget_positions()
            subscription.control.forget_positions()
        first = self._first_floor()
        made: list[LaneOffsets] = []
        is_new = False
        for mailbox, lane in (
            (subscription.control, subscription.control.normal),
            (box, box.high),
            (box, box.normal),
        ):
            state = saved.get(lane.name)
            if state is None:
                offsets = LaneOffsets(mailbox, lane, first)
            else:
                offsets = LaneOffsets(mailbox, lane, state.floor, state.settled)
                offsets.saved = (state.floor, state.settled)
                self._report_untaken(subscription, state)
            made.append(offsets)
            is_new = is_new or state is None
        for offsets, waiting in zip(made, held, strict=False):
            offsets.held = waiting
        control, high, normal = made
        takes_types = _taken(subscription, subscription.selectors)
        subscription.offsets = Offsets(
            subscription.name, takes_types, (control, high, normal), self._saving, subscription.save_first
        )
        self._memories.adopt(subscription, subscription.offsets, saved)
        self._suspects.sort_out(subscription)
        control.behind = high.behind = normal.behind = True
        box.fall_behind(+2)
        if self._bus.running:
            self._hand_urgent([(subscription, subscription.offsets)])
            self._hand_pending(subscription)
        subscription.offsets.note()
        if is_new:
            self._saving.save_with_next()

    @staticmethod
    def _report_untaken(subscription: Subscription, state: CursorState) -> None:
        """Warn if a subscription takes less than before: what waits of the rest is given up."""
        untaken = given_up(state.takes, what_is_taken(subscription.selectors))
        if untaken and state.lane == "normal":
            log.warning(
                "%s does not take %s any more: what waits for it of these is given up",
                subscription.name,
                ", ".join(untaken),
                extra=about(subscription=subscription.name),
            )

    def _is_kept(self, event: Any) -> bool:
        """Return True if the journal has an event, so that it comes from there."""
        return self._journal.find(event.event_id) is not None

    def _goes_on(self, offsets: Offsets, saved: dict[str, CursorState]) -> bool:
        """Return True if the offsets of before a stop still hold: only this bus has used the journal."""
        states = {name: (state.floor, state.settled) for name, state in saved.items()}
        released, head = offsets.closed_at
        holds = released <= self._journal.head <= head and all(
            states.get(lane.lane.name) == lane.saved for lane in offsets.lanes
        )
        if holds:
            offsets.rebind(self._saving)
        return holds

    def _read_on(self, subscription: Subscription, offsets: Offsets) -> None:
        """Have a subscription read what a failed sync left open, if the journal has it."""
        released, _ = offsets.closed_at
        if self._journal.head <= released:
            return
        for lane in offsets.lanes:
            # The urgent lanes are handed all of it at once, the normal one reads on.
            if not lane.behind:
                lane.read_upto = released
                lane.behind = True
                if lane is not offsets.control:
                    subscription.mailbox.fall_behind(+1)

    def hand_over(self) -> None:
        """Hand out what is urgent: the bus is about to run."""
        # (A high lane alone that is behind has stalled before the last stop: it reads on by itself.)
        behind = [
            (s, s.offsets) for s in self._bus.router if s.offsets is not None and s.offsets.control.behind
        ]
        if behind:
            self._hand_urgent(behind)

    def _first_floor(self) -> int:
        """Return where a subscription without a cursor begins: now or, before the start, `_beginning`."""
        # (A bus that is stopping does not run any more, and has handed out everything as well.)
        begin_at = self._saving.begin_at
        return self._commits.released if self._bus.running or begin_at is None else begin_at

    def _hand_urgent(self, subscriptions: list[tuple[Subscription, Offsets]]) -> None:
        """Hand subscriptions the high-priority events and kill switches that they have not settled.

        High-priority events for which there is no room are read on from the journal.
        """
        released, now_ns = self._commits.released, self._bus.clock.now_ns()
        owed = [
            _Owed(subscription, lane, released, self._dispatcher.room_left(subscription, "high"))
            for subscription, offsets in subscriptions
            for lane in (offsets.control, offsets.high)
            if lane.behind
        ]
        for entry, event in self._urgent_after(min(one.lane.read_upto for one in owed), released):
            for one in owed:
                if one.lane.lane.name == entry.lane and one.lane.wants(entry.position):
                    self._hand_one(one, entry, event, now_ns)
        for one in owed:
            lane, upto = one.lane, one.upto
            give_held(self._dispatcher, one.subscription, lane, upto)
            lane.read_upto = max(lane.read_upto, upto)
            lane.behind = upto < released
            if one.is_high and not lane.behind:
                one.subscription.mailbox.fall_behind(-1)

    def _hand_one(self, one: _Owed, entry: Stored, event: Any, now_ns: int) -> None:
        subscription, lane = one.subscription, one.lane
        if entry.position > one.upto:
            return
        if isinstance(event, Undecodable):
            if takes_type(subscription, entry):
                self._put_away(subscription, lane, entry, event)
        elif takes(subscription.selectors, event):
            if one.is_high and not one.room:
                one.upto = entry.position - 1
                return
            one.room -= one.is_high
            give_held(self._dispatcher, subscription, lane, entry.position - 1)
            at = (entry.position,)
            self._dispatcher.push((subscription,), [event], now_ns, at, entry.lane, is_owed=True)
            self.redelivered += 1

    def _hand_pending(self, subscription: Subscription) -> None:
        """Hand a new subscription the kill switches that the others have and the journal does not (yet)."""
        now_ns = self._bus.clock.now_ns()
        for event, positions in self._commits.delivered():
            if takes(subscription.selectors, event):
                who = (subscription,)
                self._dispatcher.push(who, [event], now_ns, positions, "control", is_owed=True)

    def _urgent_after(self, position: int, upto: int) -> Iterator[tuple[Stored, Any]]:
        """Yield the entries of the control and high lanes between two positions, reading some at a time."""
        while found := self._journal.read_urgent(position, URGENT_PAGE):
            for entry, event in zip(found, decode_many([e.payload for e in found]), strict=True):
                if entry.position > upto:
                    return
                if not entry.is_beside:
                    yield entry, event
            if len(found) < URGENT_PAGE:
                return
            position = found[-1].position

    def started(self) -> None:
        """Note that the bus runs: report whom events wait for that is absent."""
        self._missing.begin()

    def end(self) -> None:
        """Stop reporting: the bus stops."""
        self._missing.end()

    # -- what the operator may do -------------------------------------------------------------------

    async def report(self) -> list["CursorReport"]:
        """Return where every subscription of the journal stands, in every lane."""
        states = {(c.subscription, c.lane): c for c in self._journal.cursors()}
        states = {key: state for key, state in states.items() if key[0] not in (BUS, LINK)}
        present = set()
        for subscription in self._bus.router:
            if subscription.offsets is not None:
                present.add(subscription.name)
                for _, _, cursor in subscription.offsets.moved(self._commits.released):
                    states[cursor.subscription, cursor.lane] = cursor
        reports = []
        for (name, lane), state in sorted(states.items()):
            waiting = await count_waiting(self._journal, [state])
            reports.append(CursorReport(name, cast(LaneName, lane), state.floor, waiting, name in present))
        return reports

    def _absent(self, name: str) -> dict[str, CursorState]:
        """Return the cursors of a subscription that is absent."""
        if any(s.name == name and s.offsets is not None for s in self._bus.router):
            raise SubscriptionError(f"{name!r} is subscribed; unsubscribe it, which drops its cursor as well")
        states = self._cursors.get(name)
        if states is None:
            raise NotSubscribed(
                f"the journal has no cursor of {name!r} to drop or reassign; it has those of "
                f"{sorted(self._cursors)}"
            )
        return states

    async def drop(self, name: str) -> int:
        """Forget the cursors of an absent subscription; return how many events waited for it."""
        states = self._absent(name)
        waiting = await count_waiting(self._journal, states.values())
        self._cursors.pop(name, None)
        self._saving.drop(name, states)
        await self._saving.save()
        return waiting

    async def reassign(self, old: str, new: str) -> int:
        """Give the cursors and dead letters of an absent subscription to a name that has none."""
        self._check_new(old, new)
        while self._dead_letters.rename(old, new):  # by the page: there may be many
            await self._saving.save()
            self._check_new(old, new)
        states = self._absent(old)
        renamed = {lane: msgspec.structs.replace(s, subscription=new) for lane, s in states.items()}
        self._saving.rename(old, new, states.values())
        del self._cursors[old]
        self._cursors[new] = renamed
        await self._saving.save()
        return await count_waiting(self._journal, renamed.values())

    def _check_new(self, old: str, new: str) -> None:
        """Raise unless the cursors of one name can be given to another."""
        self._absent(old)
        if problem := unwritable(new):
            raise SubscriptionError(f"the new name is {new!r}; {problem}: correct the name")
        if not new or new in self._cursors or any(s.name == new for s in self._bus.router):
            raise SubscriptionError(
                f"{new!r} has a cursor of its own; reassign {old!r} before {new!r} is subscribed for the "
                "first time, or stop the bus and drop the cursor of the new name first"
            )

    def ended(self, subscription: Subscription) -> None:
        """Drop the cursors of a subscription that was ended: nothing waits for it any more."""
        offsets, subscription.offsets = subscription.offsets, None
        self._bus.seen.ended(subscription.name)
        if offsets is not None:
            self._memories.ended(subscription)
            self._saving.drop(offsets.name, [lane.lane.name for lane in offsets.lanes])
            self._saving.save_soon()

    def take_types(self, subscription: Subscription, selectors: frozenset[Selector]) -> None:
        """Have a subscription take what these select, from now on."""
        offsets = subscription.offsets
        if offsets is not None:
            takes_types = _taken(subscription, selectors)
            if takes_types != offsets.takes:
                self._memories.take_types(subscription, offsets, takes_types)
                offsets.note()
        subscription.selectors = selectors

    def note_withdrawn(self, subscription: Subscription) -> None:
        """Have it remembered that what was withdrawn of what waited for a subscription was not handled."""
        if subscription.offsets is not None:
            self._memories.note_withdrawn(subscription.offsets)


def _taken(subscription: Subscription, selectors: frozenset[Selector]) -> tuple[str, ...]:
    return what_is_taken(selectors, lets_go=bool(subscription.options.lets_go))


def unreadable(bus: BusState) -> Callable[[Subscription, LaneOffsets, Stored, Undecodable], None]:
    """Return what files an entry that cannot be read as a dead letter, byte for byte."""

    def put_away(subscription: Subscription, offsets: LaneOffsets, entry: Stored, event: Undecodable) -> None:
        log.error(
            "position %d of the journal cannot be read for %s: %s",
            entry.position,
            subscription.name,
            event.error,
            extra=about(event, subscription.name),
        )
        offsets.note_settled(entry.position)
        letter = DeadLetter(
            subscription.name,
            cast(LaneName, entry.lane),
            event,
            "unreadable",
            str(event.error),
            "",
            0,
            bus.clock.wall_ns(),
            position=entry.position,
        )
        bus.dead(subscription, letter)

    return put_away
