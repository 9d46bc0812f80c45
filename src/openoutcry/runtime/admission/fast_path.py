"""The hot path of admission: events within the credit that the last look at the mailboxes has granted.

An event passes here if its class is known, credit is left, its loop runs in this thread and its id is new. An
event of a plain class is staged for the next delivery, one of a durable class for the next commit. Whatever
else it is (a kill switch, a duplicate, the first of its class, one too many), the answer is "not here",
nothing has changed, and `Admission` looks at everything.

`publish` and `admit` are closures, and their state lives in cells: with attributes a publish takes a sixth
longer. Everybody else reads and writes the cells through `FastPath`.
"""

from asyncio import AbstractEventLoop
from collections.abc import Callable, Coroutine, Iterable
from threading import get_ident
from types import CellType
from typing import Any, Protocol

from openoutcry.core.mailbox import Mailbox
from openoutcry.errors import OpenOutcryError
from openoutcry.events import encode, encode_many
from openoutcry.ports import Level
from openoutcry.runtime.delivery.causation import Tracker, needs_care, stamp_cause
from openoutcry.runtime.delivery.dispatcher import Dispatcher
from openoutcry.runtime.delivery.state import BusState
from openoutcry.runtime.durability.commit import Commit
from openoutcry.runtime.durability.committer import Committer
from openoutcry.runtime.ownership import NOWHERE, place_of

Publish = Callable[..., Coroutine[Any, Any, bool]]


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
        publish: `EventBus.publish`: admits an event here, or has the slow path do it.
        admit: Admits one event, with the vote of a signal of a durable class: True, the commit it waits for,
            or False, and nothing has changed.

    """

    def __init__(
        self, bus: BusState, slow: SlowPath, new_dispatcher: Callable[..., Dispatcher] = Dispatcher
    ) -> None:
        self._bus = bus
        self._slow = slow
        self.dispatcher: Dispatcher = new_dispatcher(bus, self)
        self._plain: set[type] = set()
        self.durable: dict[type, tuple[Level, str]] = {}
        self.publish: Publish
        self.admit: Callable[..., Commit | bool]
        self.publish, self.admit, cells = _hot(bus, self.dispatcher, self._plain, self.durable, slow)
        if bus.checks_all:
            self.publish, self.admit = _checked(self.publish, self.admit, self._plain)
        self._batch_class, self._credit, self._high = cells["batch_class"], cells["credit"], cells["high"]
        self._place, self._tracker, self._commits = cells["place"], cells["tracker"], cells["commits"]
        self._now, self._before, self._remember = cells["now"], cells["before"], cells["remember"]
        self._spent = self._granted = 0
        self.ids_moved(bus.seen.now, bus.seen.before)

    # -- credit -------------------------------------------------------------------------------------

    @property
    def credit(self) -> int:
        """How many events may be admitted without a further look."""
        return self._credit.cell_contents  # type: ignore[no-any-return]

    def grant(self, credit: int) -> None:
        """Let `credit` events in, from the look on that has just been taken."""
        self._credit.cell_contents = credit
        self.count_anew()

    def count_anew(self) -> None:
        """A look has just been taken: count what is admitted from now on."""
        self._spent = 0
        self._granted = self._credit.cell_contents

    def spend(self, count: int) -> None:
        """Take from the credit for events that were admitted elsewhere."""
        self._credit.cell_contents -= count

    @property
    def admitted_since(self) -> int:
        """How many events have been admitted since the last look."""
        return self._spent + self._granted - self._credit.cell_contents  # type: ignore[no-any-return]

    def take_high_count(self) -> int:
        """Return how many high-priority events have passed here since the last call of this."""
        count: int = self._high.cell_contents
        self._high.cell_contents = 0
        return count

    # -- classes ------------------------------------------------------------------------------------

    def learn_plain(self, cls: type) -> None:
        """Note that all events of a class are low-priority and live in memory alone."""
        self._plain.add(cls)

    def learn_durable(self, cls: type, level: Level, lane: str, commits: Committer) -> None:
        """Note the level and the lane of all events of a class, and which commits they go into."""
        self.durable[cls] = (level, lane)
        self._commits.cell_contents = commits

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
        if self._batch_class.cell_contents is cls:
            self._batch_class.cell_contents = None
            if self.dispatcher.staged:
                self.dispatcher.mix()

    def is_durable(self, event: Any) -> bool:
        """Whether an event's class is known to be durable; False on other threads and loops."""
        return event.__class__ in self.durable and get_ident() == self._here

    @property
    def _here(self) -> int | None:
        """In which thread the loop of the bus runs at this moment."""
        return self._place.cell_contents._thread_id  # type: ignore[no-any-return]  # noqa: SLF001 - see `ownership`

    def leave(self) -> None:
        """Let nothing pass here any more: the bus has no loop."""
        self._place.cell_contents = NOWHERE

    def run_on(self, loop: AbstractEventLoop, tracker: Tracker) -> None:
        """Note on which loop the bus runs, and the tracker of that loop."""
        self._place.cell_contents = place_of(loop)
        self._tracker.cell_contents = tracker

    # -- many at once -------------------------------------------------------------------------------

    def admit_many(self, events: list[Any]) -> Commit | bool:
        """Admit a list, all or none: True, the commit they wait for, or False, and nothing has changed.

        The list must not change afterwards.
        """
        credit, now, before = self._credit.cell_contents, self._now.cell_contents, self._before.cell_contents
        if credit < len(events) or get_ident() != self._here:
            return False
        classes: set[Any] = set(map(type, events))
        is_plain = classes <= self._plain
        kinds = set() if is_plain else set(map(self.durable.get, classes))
        kind = kinds.pop() if len(kinds) == 1 else None
        if not is_plain and (kind is None or kind[1] != "normal"):
            return False
        if self._bus.checks_all and is_plain and not _are_writable(events):
            return False
        ids = [event.event_id for event in events]
        if not now.isdisjoint(ids) or not before.isdisjoint(ids):
            return False
        known = len(now)
        now.update(ids)
        admitted = len(now) - known == len(ids) and self._take(events, ids, classes, kind)
        if admitted is False:
            now.difference_update(ids)
        else:
            self._credit.cell_contents -= len(events)
        return admitted

    def _take(
        self, events: list[Any], ids: list[str], classes: set[Any], kind: tuple[Level, str] | None
    ) -> Commit | bool:
        """Stage events that may pass: for the next delivery, or for the next commit."""
        if self._tracker.cell_contents.calls:
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
        commits: Committer = self._commits.cell_contents
        return commits.stage_alike(events, ids, payloads, kind[0]) or False

    def _join(self, cls: type) -> bool:
        """Return True if what is staged is of this plain class alone, the next events of it included."""
        batch_class = self._batch_class.cell_contents
        if cls is batch_class:
            return True
        if cls not in self._plain:
            return False
        self._batch_class.cell_contents = cls
        return not self.dispatcher.staged

    def stage(self, event: Any) -> None:
        """Stage an event that the slow path has admitted."""
        self._credit.cell_contents -= 1
        self.dispatcher.stage([event], mixed=not self._join(event.__class__))

    # -- what the dispatcher tells ------------------------------------------------------------------

    def batch_delivered(self) -> None:
        """What was staged is delivered, and a new batch begins."""
        self._batch_class.cell_contents = None

    def ids_moved(self, now: set[str], before: set[str]) -> None:
        """Take these generations of known ids from now on."""
        self._now.cell_contents, self._before.cell_contents = now, before
        self._remember.cell_contents = now.add

    def hurry(self) -> None:
        """A kill switch is on its way: publishers give the loop back before they go on."""
        self._spent = self.admitted_since
        self._granted = self._credit.cell_contents = 0

    def drained(self, mailbox: Mailbox | None) -> None:
        """A mailbox has moved under pressure."""
        self._slow.drained(mailbox)


def _checked(
    publish: Publish, admit: Callable[..., Commit | bool], plain: set[type]
) -> tuple[Publish, Callable[..., Commit | bool]]:
    """Return both for a bus that checks all events: those too that pass here without being written."""

    async def checked_publish(event: Any, priority: bool = False, level: str | None = None) -> bool:
        if event.__class__ in plain:
            encode(event)
        return await publish(event, priority, level)

    def checked_admit(event: Any, vote: Vote | None = None) -> Commit | bool:
        if event.__class__ in plain:
            encode(event)
        return admit(event, vote)

    return checked_publish, checked_admit


def _are_writable(events: list[Any]) -> bool:
    try:
        encode_many(events)
    except OpenOutcryError:  # the slow path says what is wrong with which
        return False
    return True


def _hot(  # noqa: C901, PLR0915 - two functions that share their variables
    bus: BusState,
    dispatcher: Dispatcher,
    plain: set[type],
    durable: dict[type, tuple[Level, str]],
    slow: SlowPath,
) -> tuple[Publish, Callable[..., Commit | bool], dict[str, CellType]]:
    """Return `publish`, `admit` and the cells that they share, by name."""
    staged, begin, mix = dispatcher.staged, dispatcher.begin, dispatcher.mix
    append, carefully = staged.append, slow.publish
    batch_class: Any = None
    credit = high = 0
    place: Any = NOWHERE
    tracker = Tracker(None)
    now: set[str] = set()
    before: set[str] = set()
    remember = now.add
    commits: Any = None

    async def publish(event: Any, priority: bool = False, level: str | None = None) -> bool:
        nonlocal credit
        if (
            event.__class__ is batch_class
            and credit > 0
            and not priority
            and level is None
            and get_ident() == place._thread_id  # noqa: SLF001 - see `ownership`
        ):
            event_id = event.event_id
            if event_id not in now and event_id not in before:
                remember(event_id)
                if tracker.calls:
                    stamp_cause(bus, event)
                credit -= 1
                append(event)
                return True
        if not priority and level is None:
            admitted = admit(event)
            if admitted is True:
                return True
            if admitted is not False:
                await admitted
                return True
        return await carefully(event, priority, level)

    def admit(event: Any, vote: Vote | None = None) -> Commit | bool:  # noqa: C901, PLR0911, PLR0912
        nonlocal batch_class, credit, high
        if credit <= 0 or get_ident() != place._thread_id:  # noqa: SLF001 - as above
            return False
        cls = event.__class__
        if cls is batch_class or cls in plain:
            event_id = event.event_id
            if event_id in now or event_id in before:
                return False
            remember(event_id)
            if tracker.calls:
                stamp_cause(bus, event)
            credit -= 1
            first = not staged
            if cls is not batch_class:
                if not first:
                    mix()
                batch_class = cls
            append(event)
            if first:
                begin(event)
            return True
        kind = durable.get(cls)
        if kind is None:
            return False
        event_id = event.event_id
        if event_id in now or event_id in before:
            return False
        if tracker.calls:
            if needs_care(bus, event_id):
                return False
            stamp_cause(bus, event)
        if vote is not None:
            vote.prepare()
        try:
            payload = encode(event)
        except OpenOutcryError:  # the slow path says what is wrong with it
            return False
        commit: Commit | None = commits.stage_one(
            event, event_id, payload, *kind, None if vote is None else vote.cast
        )
        if commit is None:
            return False
        remember(event_id)
        credit -= 1
        high += kind[1] == "high"
        return commit

    cells = dict(zip(admit.__code__.co_freevars, admit.__closure__ or (), strict=True))
    return publish, admit, cells
