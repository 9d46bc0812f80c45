"""The truth of a run: what was published, accepted and handled, to compare with what the bus says.

It sees every publication and every call of a handler, over all lives, and knows nothing of the inside of the
bus. A promise that is broken is a `Violation`; the first one ends the run.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from openoutcry.core.retries import DeadLetter
from openoutcry.errors import OpenOutcryError
from openoutcry.events import HIGH_PRIORITY_EVENT_TYPES, EventType, event_type_of
from openoutcry.ports import BuriedEvent, Changes, CursorState, Entry, Level, Written
from openoutcry.runtime.delivery.subscription import Subscription, takes
from openoutcry.testing.simulator.contents import Contents, content_of
from openoutcry.testing.simulator.disk import SimJournal
from openoutcry.testing.simulator.letters import NO_ROOM, LetterTruth

HIGH: Final = frozenset(str(t.value) for t in HIGH_PRIORITY_EVENT_TYPES)
TICK: Final = str(EventType.MARKET_DATA.value)
KILL: Final = str(EventType.KILL_SWITCH.value)


class Violation(Exception):
    """The bus has broken a promise."""


def _type_of(event: Any) -> str:
    return str(getattr(event.event_type, "value", event.event_type))


def id_of(letter: BuriedEvent) -> str:
    """Return the id of a dead letter's event."""
    return str(msgspec.json.decode(letter.payload).get("event_id"))


@dataclass(slots=True, eq=False)
class Sent:
    """A published event.

    Attributes:
        event: The event.
        level: What it was to survive.
        lane: The lane that it takes.
        began: When it was first published, in the count of the truth.
        order: Who published it, and its number; None if it took more than one attempt.
        status: `new`, `refused`, `unknown`, `accepted` or `lost` (with the power or the process, as its level
            allows).
        life: The life in which it was accepted last.
        going: How many publications of it have not returned.
        ended: When one returned last, in the count of the truth.
        number: How often events of its type had been published when this one was, as a new one.
        raised: When it was published again at a higher level, in the count of the truth; -1: it was not.
        is_at_stop: Whether it was accepted while the bus was stopping.
        named: The ids that a release names.
        contents: What its publications say.

    """

    event: Any
    level: Level
    lane: str
    began: int
    order: tuple[tuple[int, object], int] | None
    status: str = "new"
    life: int = -1
    going: int = 0
    ended: int = -1
    number: int = 0
    raised: int = -1
    is_at_stop: bool = False
    named: tuple[str, ...] = ()
    contents: Contents = field(default_factory=Contents)

    @property
    def is_raised(self) -> bool:
        """Whether it was published again at a higher level."""
        return self.raised >= 0

    @property
    def is_certain(self) -> bool:
        """Whether it was accepted, and nothing that has happened since leaves a doubt."""
        return self.status == "accepted"


@dataclass(slots=True, eq=False)
class Taker:
    """A subscription, over all lives.

    Attributes:
        name: Its name.
        made: The subscription of this life.
        since: Since when it must get what is published; -1 for always.
        selectors: What it takes.
        changes: When it has taken other types while the bus ran.
        since_now: The same, for what is known in this life alone.
        settled: Ids of events that a call has handled, in any life.
        settled_now: The same, in this life.
        saved: The cursors in the journal, by lane.
        buried: Ids of the events of its dead letters in the journal.
        begun: Ids of events that were begun in this life.
        last: By lane: the id and the position of the event begun last.
        newest: By lane and publisher: the number of the newest event begun.

    """

    name: str
    made: Subscription
    since: int
    selectors: frozenset[Any] = frozenset()
    changes: list[int] = field(default_factory=list)
    since_now: int = -1
    settled: set[str] = field(default_factory=set)
    settled_now: set[str] = field(default_factory=set)
    saved: dict[str, CursorState] = field(default_factory=dict)
    verified: dict[str, set[int]] = field(default_factory=dict)
    buried: set[str] = field(default_factory=set)
    begun: set[str] = field(default_factory=set)
    last: dict[str, tuple[str, int]] = field(default_factory=dict)
    newest: dict[tuple[str, object], int] = field(default_factory=dict)

    def loses(self, lane: str) -> bool:
        """Return True if it has asked to drop events of a lane."""
        options = self.made.options
        if lane == "control":
            return False
        return options.max_age_s is not None or (lane == "normal" and not self.made.mailbox.normal.keeps_all)

    @property
    def is_ordered(self) -> bool:
        """Whether it gets its events in order."""
        return self.made.options.concurrency == 1 and self.made.options.retry.in_order

    def has_saved(self, lane: str, position: int) -> bool:
        """Return True if its cursor in the journal says that it has settled a position."""
        state = self.saved.get(lane)
        if state is None:
            return False
        return position <= state.floor or any(low <= position <= high for low, high in state.settled)


class Truth:
    """What happened.

    Attributes:
        sent: Every published event, by its id.
        takers: Every subscription, by its name.
        life: The number of the current life.
        redriven: Events that were redriven, as (subscription, event id).
        letters: The dead letters.
        window: How many ids of a type the bus remembers without a journal.
        violation: The first broken promise, if there is one.

    """

    def __init__(self) -> None:
        self.sent: dict[str, Sent] = {}
        self.takers: dict[str, Taker] = {}
        self.life = 0
        self.journal: SimJournal | None = None
        self.positions: dict[int, tuple[str, str]] = {}
        self._retired: set[str] = set()
        self.redriven: set[tuple[str, str]] = set()
        self.letters: LetterTruth = LetterTruth(self.fail)
        self.window = 0
        self._counts: Counter[str] = Counter()
        self.violation: Violation | None = None
        self.ticks: int = 0

    def fail(self, what: str) -> None:
        """A promise is broken."""
        if self.violation is None:
            self.violation = Violation(what)

    # -- publishing ---------------------------------------------------------------------------------

    def publishing(
        self, event: Any, level: Level, *, priority: bool, publisher: object, running: bool
    ) -> Sent | None:
        """Note that an event is about to be published. Return None for what is not an event."""
        self.ticks += 1
        try:
            event_id, event_type = event.event_id, event_type_of(event)
        except (AttributeError, OpenOutcryError):
            return None
        self._counts[event_type] += 1
        sent = self.sent.get(event_id)
        if sent is None:
            lane = "control" if event_type == KILL else "high" if priority or event_type in HIGH else "normal"
            order = ((self.life, publisher), self.ticks) if running or level or lane != "high" else None
            sent = self.sent[event_id] = Sent(event, level, lane, self.ticks, order)
            sent.named = tuple(getattr(event, "releases", ()))
        elif sent.status == "refused":
            sent.status = "new"
            sent.contents.refused()
            sent.event, sent.level = event, level
        elif sent.status == "accepted" and self._is_forgotten(sent):
            sent.order = None
            for taker in self.takers.values():  # it may be a new one to the bus
                taker.settled_now.discard(event_id)
                taker.begun.discard(event_id)
                self.letters.there.discard((taker.name, event_id))
        if not sent.going and (sent.status != "accepted" or sent.life != self.life):
            # What is under way may be admitted after it, however long before it began.
            under_way = sum(
                other.going for other in self.sent.values() if _type_of(other.event) == event_type
            )
            sent.number = self._counts[event_type] - under_way
        if sent.order is not None and sent.order[0][1] is not publisher:
            sent.order = None  # two publish it at the same time
        sent.going += 1
        return sent

    def differs(self, sent: Sent, event: Any) -> bool:
        """Note what a publication says. Return True if another content surely stands for its id."""
        is_here = bool(sent.level) or sent.life == self.life
        certain = sent.is_certain and is_here and not self._is_forgotten(sent)
        return sent.contents.publishing(content_of(event), is_certain=certain)

    def surely_knows(self, sent: Sent) -> bool:
        """Return True if the bus must know the id of an event, and all that was published under it."""
        is_here = sent.level > Level.MEMORY or sent.life == self.life
        is_kept = is_here and not self._is_forgotten(sent) and not self.is_retired(sent.event.event_id)
        return sent.is_certain and is_kept and sent.going == 1

    def _is_forgotten(self, sent: Sent) -> bool:
        """Return True if the bus need not know an id any more: so many of its type have come since."""
        if self.is_retired(sent.event.event_id):
            return True
        is_kept = sent.level and self.journal is not None
        return not is_kept and self._counts[_type_of(sent.event)] - sent.number >= self.window

    def accepted(self, sent: Sent, *, journal_failed: bool, level: Level = Level.MEMORY) -> None:
        """`True` was returned: compare with the journal."""
        event_id, journal = sent.event.event_id, self.journal
        self.ticks += 1
        sent.ended = self.ticks
        if level > sent.level and sent.lane != "control":
            sent.level, sent.raised, sent.order = level, self.ticks, None
        if sent.lane == "control" and journal_failed:
            sent.level = Level.MEMORY  # delivered at once, journal or no journal
        if sent.level and journal is not None:
            position = journal.find(event_id)
            if position is None and self.is_retired(event_id):
                pass
            elif position is None:
                self.fail(f"{event_id} was accepted at level {sent.level.name}, and is not in the journal")
            elif sent.level is Level.DISK and position > journal.synced:
                self.fail(
                    f"{event_id} was accepted at level DISK at position {position}, and the journal is "
                    f"synced up to {journal.synced}"
                )
        sent.status, sent.life = "accepted", self.life
        sent.going -= 1

    def refused(self, sent: Sent, *, for_sure: bool) -> None:
        """It was not accepted, or that is unknown."""
        self.ticks += 1
        sent.ended = self.ticks
        sent.order = None
        sent.going -= 1
        if not for_sure and sent.status in ("new", "lost"):
            sent.status = "unknown"
        elif sent.status == "new" and not sent.going:
            sent.status = "refused"

    # -- subscribing --------------------------------------------------------------------------------

    def subscribed(self, made: Subscription, *, running: bool) -> None:
        """Note a subscription."""
        self.ticks += 1
        known = self.takers.get(made.name)
        if known is not None and known.made is made:
            self.took_types(made)
            return
        fresh = not known or not made.durable or (self.journal is not None and not known.saved)
        since = -1 if not running and self.life == 0 else self.ticks
        if known is None or fresh:
            if self.journal is not None and self.journal.head == 0 and not running:
                since = -1
            self.takers[made.name] = taker = Taker(made.name, made, since)
            if known is not None:
                taker.settled = known.settled
        else:
            if known.selectors != made.selectors:
                known.since = self.ticks
            known.made = made
        self.takers[made.name].selectors = made.selectors
        self.takers[made.name].since_now = self.ticks if running else -1

    def took_types(self, made: Subscription) -> None:
        """Note that a subscription takes other types from now on, if it does."""
        known = self.takers.get(made.name)
        if known is not None and known.selectors != made.selectors:
            known.selectors, known.since = made.selectors, self.ticks
            known.changes.append(self.ticks)

    def renamed(self, old: str, new: str) -> None:
        """Note that the cursors and letters of one name are those of another from now on."""
        known = self.takers.pop(old, None)
        if known is not None:
            known.name = new
            self.takers[new] = known
        self.letters.rename(old, new)
        self.redriven |= {(new, event_id) for name, event_id in self.redriven if name == old}

    def unsubscribed(self, made: Subscription) -> None:
        """Note the end of a subscription."""
        known = self.takers.get(made.name)
        if known is not None and known.made is made:
            del self.takers[made.name]
            self.letters.forget(made.name)

    # -- calls --------------------------------------------------------------------------------------

    def begins(self, name: str, event: Any) -> None:
        """A handler is called."""
        self.ticks += 1
        taker, sent = self.takers.get(name), self.sent.get(event.event_id)
        if taker is None:
            return  # it was unsubscribed in the meantime, and ends its call
        if sent is None:
            self.fail(f"{name} was handed {event.event_id}, which was never published")
            return
        event_id = event.event_id
        if sent.status == "refused":
            self.fail(f"{name} was handed {event_id}, which was refused")
        # (A dead letter keeps an event that the process has lost, whose id has come again for another one.)
        is_letters = (name, event_id) in self.redriven and content_of(event) in sent.contents.asked
        if not (is_letters or sent.contents.handed(content_of(event))):
            self.fail(f"{name} was handed {event_id} with another content than the one that was accepted")
        self.letters.begins((name, event_id))
        if taker.made.options.concurrency == 1 and sent.lane != "control":
            self.letters.check_buried(name)
        if event_id in taker.settled_now and (name, event_id) not in self.redriven:
            self.fail(f"{name} was handed {event_id} again, which it has handled in this life")
        if (name, event_id) in self.redriven:
            return
        position = self._position_of(name, sent)
        if position and taker.has_saved(sent.lane, position):
            self.fail(
                f"{name} was handed {event_id} (position {position}), which its saved cursor has settled"
            )
        if taker.is_ordered and not taker.loses(sent.lane):
            self._check_order(taker, sent, position)
        taker.begun.add(event_id)
        taker.last[sent.lane] = (event_id, position)

    def _position_of(self, name: str, sent: Sent) -> int:
        """Return the position of a durable event, which must be in the journal before it is delivered."""
        journal = self.journal
        if journal is None or not sent.level or sent.lane == "control" or sent.is_raised:
            return 0
        position = journal.find(sent.event.event_id)
        if position is None:
            if not self.is_retired(sent.event.event_id):
                self.fail(f"{name} was handed {sent.event.event_id} before it was in the journal")
            return 0
        if sent.level is Level.DISK and position > journal.synced:
            self.fail(f"{name} was handed {sent.event.event_id} before its position {position} was synced")
        return position

    def _check_order(self, taker: Taker, sent: Sent, position: int) -> None:
        event_id, lane = sent.event.event_id, sent.lane
        last_id, last_position = taker.last.get(lane, ("", 0))
        if event_id in taker.begun:
            if event_id != last_id:
                self.fail(
                    f"{taker.name} was handed {last_id} while {event_id} of the same lane waited for a retry"
                )
            return
        if position and position < last_position:
            self.fail(f"{taker.name} was handed position {position} of lane {lane} after {last_position}")
        if sent.order is None or sent.order[0][0] != self.life:
            return
        publisher, number = sent.order
        newest = taker.newest.get((lane, publisher), -1)
        if number < newest:
            self.fail(f"{taker.name} was handed {event_id} after a later one of the same publisher")
        taker.newest[lane, publisher] = max(newest, number)

    def ends(self, name: str, event: Any) -> bool:
        """A call has returned. Return True if the event is handled."""
        self.ticks += 1
        taker = self.takers.get(name)
        if taker is None or not self.letters.ends((name, event.event_id)):
            return False
        taker.settled.add(event.event_id)
        taker.settled_now.add(event.event_id)
        return True

    def buried(self, letter: DeadLetter) -> None:
        """A dead letter was filed."""
        self.letters.buried(letter)
        sent, taker = self.sent.get(letter.event.event_id), self.takers.get(letter.subscription)
        if letter.reason != NO_ROOM or sent is None or taker is None:
            return
        if _type_of(sent.event) == TICK or (sent.level and taker.made.durable and not sent.is_raised):
            self.fail(
                f"there was no room for {sent.event.event_id} ({sent.level.name}) at {taker.name}, which "
                "could have let it go, or read it in the journal"
            )

    # -- the journal --------------------------------------------------------------------------------

    def written(self, entries: Sequence[Entry], changes: Changes | None, written: Written) -> None:
        """A commit was made: no cursor may be past what is settled."""
        known = {duplicate.index for duplicate in written.duplicates}
        for index, entry in enumerate(entries):
            if index not in known:
                self.positions[written.positions[index]] = (entry.event_id, entry.lane)
        if changes is None:
            return
        for letter in changes.buried:
            if letter.subscription in self.takers:
                self.takers[letter.subscription].buried.add(id_of(letter))
        for state in changes.cursors:
            taker = self.takers.get(state.subscription)
            if taker is not None:
                self._check_cursor(taker, state)
        for name, lane in changes.dropped_cursors:
            if name in self.takers and not any(c.subscription == name for c in changes.cursors):
                self.takers[name].saved.pop(lane, None)

    def _check_cursor(self, taker: Taker, state: CursorState) -> None:
        before = taker.saved.get(state.lane)
        taker.saved[state.lane] = state
        if taker.loses(state.lane):
            return
        verified = taker.verified.setdefault(state.lane, set())
        floor = 0 if before is None else before.floor
        for low, high in ((floor + 1, state.floor), *state.settled):
            for position in range(low, high + 1):
                if position not in verified:
                    verified.add(position)
                    self._check_settled(taker, state.lane, position)

    def _check_settled(self, taker: Taker, lane: str, position: int) -> None:
        event_id, its_lane = self.positions.get(position, ("", ""))
        sent = self.sent.get(event_id)
        if sent is not None and not sent.level:
            return
        is_buried = event_id in taker.buried or (taker.name, event_id) in self.letters.dropped
        if its_lane != lane or sent is None or sent.began <= taker.since or is_buried:
            return
        if event_id in taker.settled or not takes(taker.made.selectors, sent.event):
            return
        if not self.is_folded(sent):
            self.fail(
                f"the saved cursor of {taker.name} on lane {lane} says that position {position} ({event_id}) "
                "is settled, and it was neither handled nor buried"
            )

    def is_folded(self, sent: Sent, settled: Collection[str] | None = None) -> bool:
        """Return True if a later kill switch of the same scope may stand for one, or does (in `settled`).

        None does across a release.
        """
        if sent.lane != "control" or not sent.event.activated:
            return False
        control = [other for other in self.sent.values() if other.lane == "control"]
        releases = [other for other in control if not other.event.activated and other.is_certain]
        return any(
            other.began > sent.began
            and other.event.activated
            and other.event.scope == sent.event.scope
            and (settled is None or other.event.event_id in settled)
            and not any(0 <= sent.ended < one.began and one.ended < other.began for one in releases)
            for other in control
        )

    # -- lives --------------------------------------------------------------------------------------

    def moved(self) -> None:
        """The loop was closed, and the bus goes on on another one: publishers there have had no answer."""
        for sent in self.sent.values():
            if sent.going:
                sent.status = "unknown" if sent.status == "new" else sent.status
                sent.going, sent.order = 0, None
        for taker in self.takers.values():
            taker.begun, taker.last, taker.newest = set(), {}, {}

    def opened(self, journal: SimJournal | None, *, power: bool) -> None:
        """A new life begins: what was accepted must be in the journal, as its level promises."""
        self.journal = journal
        self.letters.begin()
        for taker in self.takers.values():
            taker.settled_now, taker.begun = set(), set()
            taker.last, taker.newest, taker.saved, taker.buried = {}, {}, {}, set()
        needed = Level.DISK if power else Level.PROCESS
        for event_id, sent in self.sent.items():
            if sent.going:  # the publisher was never told
                sent.status = "unknown" if sent.status == "new" else sent.status
                sent.going, sent.order = 0, None
            position = None if journal is None else journal.find(event_id)
            if position is not None:
                if sent.status == "refused":
                    self.fail(f"{event_id} was refused, and is in the journal at position {position}")
                sent.status = "accepted"
                if not (sent.is_raised or sent.level):
                    sent.raised = self.ticks
                sent.level = max(sent.level, Level.PROCESS)
            elif sent.status == "accepted":
                if sent.level >= needed and not self.is_retired(event_id):
                    self.fail(
                        f"{event_id} was accepted at level {sent.level.name}, and the crash has lost it"
                    )
                sent.status = "lost"
        if journal is not None:
            self._read(journal)

    def is_retired(self, event_id: str) -> bool:
        """Return True if retention has deleted an event, which must have been settled by everybody."""
        first = 1 if self.journal is None else self.journal.first
        for position in [at for at in self.positions if at < first]:
            self._retired.add(self.positions.pop(position)[0])
        return event_id in self._retired

    def _read(self, journal: SimJournal) -> None:
        """Read the cursors and letters from the journal; `written` has checked them."""
        self.positions = {at: known for at, known in self.positions.items() if at <= journal.head}
        for taker in self.takers.values():
            taker.verified = {
                lane: {at for at in seen if at <= journal.head} for lane, seen in taker.verified.items()
            }
        for state in journal.cursors():
            if state.subscription in self.takers:
                self.takers[state.subscription].saved[state.lane] = state
        for letter in journal.buried():
            if letter.subscription in self.takers:
                self.takers[letter.subscription].buried.add(id_of(letter))

    def losing(self) -> set[str]:
        """Return the names of those who ask to lose some events."""
        return {name for name, taker in self.takers.items() if taker.loses("normal") or taker.loses("high")}

    def check_letters(self, letters: Iterable[Any]) -> None:
        """Check that the dead letters are there which must be."""
        self.letters.check(letters, self.losing())
