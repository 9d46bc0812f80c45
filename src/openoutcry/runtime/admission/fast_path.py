"""The hot path of admission: events within the credit that the last look at the mailboxes has granted.

An event passes here if its class is known, credit is left, its loop runs in this thread and its id is new. An
event of a plain class is staged for the next delivery, one of a durable class for the next commit. Whatever
else it is (a kill switch, a duplicate, the first of its class, one too many, one with an id that is no text),
the answer is "not here", nothing has changed, and `Admission` looks at everything.

`publish` itself stands in `publishing`.
"""

from asyncio import AbstractEventLoop
from collections.abc import Callable, Iterable
from operator import countOf
from threading import get_ident
from typing import Any, Final, Protocol

from openoutcry.core.mailbox import Mailbox
from openoutcry.errors import OpenOutcryError
from openoutcry.events import encode, encode_many
from openoutcry.ports import Level
from openoutcry.runtime.delivery.causation import Tracker, needs_care, stamp_cause
from openoutcry.runtime.delivery.dispatcher import Dispatcher
from openoutcry.runtime.delivery.seen_ids import SeenIds
from openoutcry.runtime.delivery.state import BusState
from openoutcry.runtime.durability.commit import Commit
from openoutcry.runtime.durability.committer import Committer
from openoutcry.runtime.ownership import NOWHERE, place_of

_thread: Final[Callable[[], Any]] = get_ident
"""Called, and compared, without a look-up and without being made a C integer where this is compiled."""


class Vote(Protocol):
    """What belongs to the admission of a signal: its answer in a round.

    Attributes:
        travels: Whether the journal is to say that it votes, since its round is on another desk.

    """

    @property
    def travels(self) -> bool:
        """Whether it does."""
        ...

    def prepare(self) -> None:
        """Name the round in the signal, before it is written."""
        ...

    def cast(self, position: int, /) -> None:
        """The signal is released, at this position of the journal: let it count."""
        ...

    def defer(self) -> None:
        """The signal waits in an outbox: it does not count before it is released."""
        ...


class SlowPath(Protocol):
    """What takes the events that the fast path does not, and is told when a mailbox has moved."""

    async def publish(self, event: Any, priority: bool = False, level: str | None = None) -> bool:
        """Publish an event, looking at everything."""
        ...

    def drained(self, mailbox: Mailbox | None) -> None:
        """A mailbox has moved while the bus is under pressure; None: any of them may have."""
        ...


class FastPath:
    """Admission on credit.

    Attributes:
        dispatcher: Where what is staged is delivered from.
        durable: The classes known to be durable, with their level and lane. Only `learn_durable` adds.

    """

    __slots__ = (
        "_bus",
        "_commits",
        "_granted",
        "_high",
        "_most",
        "_newest_class",
        "_place",
        "_plain",
        "_seen",
        "_slow",
        "_spent",
        "_staged",
        "_tracker",
        "dispatcher",
        "durable",
    )

    def __init__(
        self, bus: BusState, slow: SlowPath, new_dispatcher: Callable[..., Dispatcher] = Dispatcher
    ) -> None:
        self._bus = bus
        self._slow = slow
        self.dispatcher: Dispatcher = new_dispatcher(bus, self)
        self._seen: SeenIds = bus.seen
        self._staged: list[Any] = self.dispatcher.staged
        self._plain: set[type] = set()
        self.durable: dict[type, tuple[Level, str]] = {}
        self._commits: Committer | None = None
        self._newest_class: type | None = None
        """The class of what was staged last; None while nothing is."""
        self._place: Any = NOWHERE
        self._tracker: Tracker = Tracker(None)
        self._most: int = 0
        """So many events may be staged without a further look: each takes one from the credit."""
        self._high: int = 0
        self._spent: int = 0
        self._granted: int = 0

    # -- one event ----------------------------------------------------------------------------------

    def admit(self, event: Any, vote: Vote | None = None) -> Commit | bool:
        """Admit one event, with the vote of a signal of a durable class.

        True, the commit it waits for, or False, and nothing has changed.
        """
        staged = self._staged
        if len(staged) >= self._most or _thread() != self._place._thread_id:  # noqa: SLF001 - see `ownership`
            return False
        cls = type(event)
        if cls not in self._plain:
            return self._admit_durable(event, vote) if cls in self.durable else False
        event_id, seen = event.event_id, self._seen
        if type(event_id) is not str:
            return False
        if seen.limit > event_id > seen.newest:
            seen.newest = event_id
            seen.line.append(event_id)
        elif not seen.add_other(event_id):
            return False
        if self._tracker.calls:
            stamp_cause(self._bus, event)
        staged.append(event)
        if cls is not self._newest_class:
            self._newest_class = cls
            if len(staged) > 1:
                self.dispatcher.mixed = True
            else:
                self.dispatcher.begin(event)
        return True

    def _admit_durable(self, event: Any, vote: Vote | None) -> Commit | bool:
        """Take an event of a durable class into the next commit."""
        event_id, seen = event.event_id, self._seen
        if event_id.__class__ is not str or not event_id:
            return False
        if not seen.limit > event_id > seen.newest and event_id in seen:
            return False
        if self._tracker.calls:
            if needs_care(self._bus, event_id):
                return False
            stamp_cause(self._bus, event)
        if vote is not None:
            vote.prepare()
        try:
            payload = encode(event)
        except OpenOutcryError:  # the slow path says what is wrong with it
            return False
        level, lane = self.durable[event.__class__]
        assert self._commits is not None, "it came with the class"
        commit = self._commits.stage_one(
            event, event_id, payload, level, lane, None if vote is None else vote.cast
        )
        if commit is None:
            return False
        if seen.limit > event_id > seen.newest:
            seen.newest = event_id
            seen.line.append(event_id)
        else:
            seen.add_other(event_id)
        self._most -= 1
        self._high += lane == "high"
        return commit

    # -- many at once -------------------------------------------------------------------------------

    def admit_many(self, events: list[Any]) -> Commit | bool:
        """Admit a list, all or none: True, the commit they wait for, or False, and nothing has changed.

        The list must not change afterwards.
        """
        if self.credit < len(events) or get_ident() != self._place._thread_id:  # noqa: SLF001 - see `ownership`
            return False
        classes = _classes_of(events)
        is_plain = classes <= self._plain
        kinds = set() if is_plain else set(map(self.durable.get, classes))
        kind = kinds.pop() if len(kinds) == 1 else None
        if not is_plain and (kind is None or kind[1] != "normal"):
            return False
        ids = [event.event_id for event in events]
        if not self._seen.add_all(ids):
            return False
        admitted = self._take(events, ids, classes, kind)
        if admitted is False:
            for event_id in ids:
                self._seen.discard(event_id)
        elif kind is not None:
            self._most -= len(events)
        return admitted

    def _take(
        self, events: list[Any], ids: list[str], classes: set[Any], kind: tuple[Level, str] | None
    ) -> Commit | bool:
        """Stage events that may pass: for the next delivery, or for the next commit."""
        if self._tracker.calls:
            if kind is not None and needs_care(self._bus, *ids):
                return False
            for event in events:
                stamp_cause(self._bus, event)
        if kind is None:
            self.dispatcher.stage(events, mixed=len(classes) > 1 or not self._join(events[0].__class__))
            return True
        try:
            payloads = encode_many(events)
        except OpenOutcryError:  # the slow path says what is wrong with which
            return False
        assert self._commits is not None, "it came with the class"
        return self._commits.stage_alike(events, ids, payloads, kind[0]) or False

    def stage(self, event: Any) -> None:
        """Stage an event that the slow path has admitted."""
        self.dispatcher.stage([event], mixed=not self._join(event.__class__))

    def _join(self, cls: type) -> bool:
        """Return True if what is staged is of this plain class alone, the next events of it included."""
        if cls is self._newest_class:
            return True
        if cls not in self._plain:
            return False
        self._newest_class = cls
        return not self._staged

    # -- credit -------------------------------------------------------------------------------------

    @property
    def credit(self) -> int:
        """How many events may be admitted without a further look."""
        return self._most - len(self._staged)

    def grant(self, credit: int) -> None:
        """Let `credit` events in, from the look on that has just been taken."""
        self._most = credit + len(self._staged)
        self.count_anew()

    def count_anew(self) -> None:
        """A look has just been taken: count what is admitted from now on."""
        self._spent = 0
        self._granted = self.credit

    def spend(self, count: int) -> None:
        """Take from the credit for events that were admitted elsewhere."""
        self._most -= count

    @property
    def admitted_since(self) -> int:
        """How many events have been admitted since the last look."""
        return self._spent + self._granted - self.credit

    def take_high_count(self) -> int:
        """Return how many high-priority events have passed here since the last call of this."""
        count, self._high = self._high, 0
        return count

    # -- classes ------------------------------------------------------------------------------------

    def learn_plain(self, cls: type) -> None:
        """Note that all events of a class are low-priority and live in memory alone."""
        self._plain.add(cls)

    def learn_durable(self, cls: type, level: Level, lane: str, commits: Committer) -> None:
        """Note the level and the lane of all events of a class, and which commits they go into."""
        self.durable[cls] = (level, lane)
        self._commits = commits

    def forget_classes(self) -> None:
        """Forget all classes, so that each is looked at anew."""
        self._plain.clear()
        self.durable.clear()

    def known(self) -> Iterable[type]:
        """Return the classes that are known."""
        return *self._plain, *self.durable

    def forget(self, cls: type) -> None:
        """Forget a class: its events are looked at, one by one."""
        self._plain.discard(cls)
        self.durable.pop(cls, None)
        if self._newest_class is cls:
            self._newest_class = None
            if self._staged:
                self.dispatcher.mixed = True

    def is_durable(self, event: Any) -> bool:
        """Whether an event's class is known to be durable; False on other threads and loops."""
        return event.__class__ in self.durable and get_ident() == self._place._thread_id  # noqa: SLF001 - see `ownership`

    # -- life ---------------------------------------------------------------------------------------

    def leave(self) -> None:
        """Let nothing pass here any more: the bus has no loop."""
        self._place = NOWHERE

    def run_on(self, loop: AbstractEventLoop, tracker: Tracker) -> None:
        """Note on which loop the bus runs, and the tracker of that loop."""
        self._place = place_of(loop)
        self._tracker = tracker

    # -- what the dispatcher tells ------------------------------------------------------------------

    def batch_taken(self, count: int) -> None:
        """The `count` events that were staged are about to be delivered, and a new batch begins."""
        self._newest_class = None
        self._staged = self.dispatcher.staged
        self._most -= count

    def hurry(self) -> None:
        """A kill switch is on its way: publishers give the loop back before they go on."""
        self._spent, self._granted = self.admitted_since, 0
        self._most = len(self._staged)

    def drained(self, mailbox: Mailbox | None) -> None:
        """A mailbox has moved under pressure."""
        self._slow.drained(mailbox)


def _classes_of(events: list[Any]) -> set[Any]:
    """Return the classes of events. To count those of one class is quicker than to gather all."""
    cls = type(events[0])
    is_of_one = type(events[-1]) is cls and countOf(map(type, events), cls) == len(events)
    return {cls} if is_of_one else set(map(type, events))


class CheckingFastPath(FastPath):
    """Admission on credit to a bus that checks all events: those too that pass here without being written."""

    __slots__ = ()

    def admit(self, event: Any, vote: Vote | None = None) -> Commit | bool:
        """Admit one event that could be written. Raises `InvalidEvent` if it could not."""
        if event.__class__ in self._plain:
            encode(event)
        return super().admit(event, vote)

    def admit_many(self, events: list[Any]) -> Commit | bool:
        """Admit a list of events that could be written, all or none."""
        if self._plain.issuperset(map(type, events)):
            try:
                encode_many(events)
            except OpenOutcryError:  # the slow path says what is wrong with which
                return False
        return super().admit_many(events)
