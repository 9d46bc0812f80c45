"""The tape: what the workers of a bus have taken from their mailboxes, in which order and when.

```
  TapedMailbox ── took, ended how ──▶ ┐
  dispatcher ──── delivered ────────▶ Tape ──(with a commit)──▶ a record in the journal
  commits ─────── released ─────────▶ ┘
```

An entry of the log says what was published; only the tape says in which order a subscription was handed
events of several lanes, when its calls began and ended, and which failed. What a lane lets go before a worker
takes it, it says by the numbers that nobody took.

Notes are plain tuples, made on the way of every batch, and kept until a commit takes them along. Events at
`memory` are kept as JSON until then, and written before the events of that commit: a cause stands before its
effect.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, Final, NamedTuple, Protocol

from openoutcry.core.lanes import Batch, Lane
from openoutcry.core.mailbox import Mailbox
from openoutcry.core.retries import DeadLetter
from openoutcry.events import encode, encode_many
from openoutcry.journals.told import Asking, HaltsSeen, halts_seen, no_round
from openoutcry.ports import Clock
from openoutcry.runtime.delivery.causation import current

log = logging.getLogger("openoutcry")

NOTES_MOST: Final = 65_536
"""So many notes of calls wait for a commit, and so many of publications; beyond that some are left out.

The record says so.
"""
NOTES_DUE: Final = 4_096
"""So many notes are not left waiting: they go with the next commit."""
BESIDE_MOST: Final = 16_384
"""So many events at `memory` wait to be written; beyond that the oldest go, and the record says so."""
BESIDE_DUE: Final = 512
"""So many of them are not left waiting."""

HANDLED, FAILED, BURIED, SUPERSEDED, RELEASED, EXPIRED, BEGUN = range(7)
"""How the last event of a batch has ended."""


class Begun(NamedTuple):
    """When a batch was begun, or gone on with after something else had happened.

    Attributes:
        start: How many of its events had been begun before.
        at_ns: The time.
        head: Everything durable up to this position had been handed out.
        order: The place of that among everything that is noted.

    """

    start: int
    at_ns: int
    head: int
    order: int


class Taken(NamedTuple):
    """Events of one lane, in order, that a worker took and began one after the other, nothing in between."""

    subscription: str
    lane: str
    end: int
    attempts: int
    number: int
    events: Sequence[Any]
    """None of them where their positions follow each other."""
    positions: Sequence[int] | None
    begun_ns: int
    ended_ns: int
    head: int
    order: int
    error: str = ""


class Delivered(NamedTuple):
    """Events at `memory` that were handed to the mailboxes together, ready to be written."""

    events: Sequence[Any]
    payloads: Sequence[bytes]
    lane: str
    at_ns: int
    order: int
    wall_ns: int


class Notes(NamedTuple):
    """What one record says, still with the events themselves."""

    taken: list[Taken]
    released: list[tuple[int, int, int]]
    raised: list[tuple[str, int, int]]
    made: list[tuple[str, str, bool, int]]
    left_out: int


class TapedBus(Protocol):
    """The bus, as its tape sees it."""

    clock: Clock
    on_raised: list[Callable[[str, Any, BaseException], None]]
    on_dead: list[Callable[[DeadLetter], Any]]
    on_released: list[Callable[[int, bool, bool], None]]

    @property
    def released(self) -> int:
        """Everything up to this position has been handed out."""
        ...

    @property
    def boxes(self) -> Iterable[Mailbox]:
        """The mailboxes of all subscriptions."""
        ...


class Tape:
    """Collects what happens on one bus until a commit takes it along.

    Attributes:
        taken: What was taken, in the order in which it has ended.
        delivered: Events at `memory` that are not written yet.
        beside_count: How many they are.
        left_out: How many notes and events are missing from the next record: too many, or not to be written.
        order: The place of what was noted last among everything that is.

    """

    def __init__(self, bus: TapedBus) -> None:
        self._bus = bus
        self._wake: Callable[[bool], None] | None = None
        self._errors: dict[str, str] = {}
        self._open: set[tuple[str, str, int, int]] = set()
        self.taken: list[Taken] = []
        self.delivered: list[Delivered] = []
        self.beside_count: int = 0
        self.left_out: int = 0
        self.order: int = 0
        self._released: list[tuple[int, int, int]] = []
        self._raised: list[tuple[str, int, int]] = []
        self._made: list[tuple[str, str, bool, int]] = []
        self._asking = Asking()
        self._halts_seen: dict[tuple[str, str], tuple[str, ...]] = {}
        bus.on_raised.append(self._note_error)
        bus.on_dead.append(self._note_dead)
        bus.on_released.append(self._note_released)

    # -- in time ------------------------------------------------------------------------------------

    def begin(self, wake: Callable[[bool], None]) -> None:
        """Call `wake` when notes wait, and now if any do; with True: the next commit is to take them."""
        self._wake = wake
        if self.has_any:
            wake(False)

    def end(self) -> None:
        """Call nobody any more."""
        self._wake = None

    def now_ns(self) -> int:
        """The time, on the bus's monotonic clock."""
        return self._bus.clock.now_ns()

    def next_order(self) -> int:
        """Return the place of what happens now among everything that is noted."""
        self.order = order = self.order + 1
        return order

    def begun(self, start: int = 0) -> Begun:
        """Note that a batch is begun, or gone on with."""
        return Begun(start, self._bus.clock.now_ns(), self._bus.released, self.next_order())

    @property
    def has_any(self) -> bool:
        """Whether a record is worth a commit: what was released goes along with others."""
        return bool(self.taken or self.delivered or self._made or self._raised)

    def _ring(self, count: int, due: int) -> None:
        if self._wake is not None and (count == 1 or count >= due):
            self._wake(count >= due)

    # -- what is noted ------------------------------------------------------------------------------

    def note(self, taken: Taken) -> None:
        """Note a batch that has ended."""
        notes = self.taken
        notes.append(taken)
        count = len(notes)
        if count == 1 or count >= NOTES_DUE:
            self._ring(count, NOTES_DUE)
            if count > NOTES_MOST:
                del notes[: NOTES_MOST // 8]
                self._leave_out(NOTES_MOST // 8)

    def deliver(self, events: Sequence[Any], lane: str) -> None:
        """Note events at `memory` as they are handed to the mailboxes."""
        try:
            payloads: Sequence[bytes] = encode_many(list(events))
        except Exception:  # noqa: BLE001 - it calls users' classes, and must keep nothing from delivery
            events, payloads = self._one_by_one(events)
            if not events:
                return
        clock = self._bus.clock
        at_ns, order = clock.now_ns(), self.next_order()
        self.delivered.append(Delivered(events, payloads, lane, at_ns, order, clock.wall_ns()))
        before = self.beside_count
        self.beside_count = count = before + len(events)
        if not before or count >= BESIDE_DUE:
            self._ring(count if before else 1, BESIDE_DUE)
            while self.beside_count > BESIDE_MOST:
                gone = len(self.delivered.pop(0).events)
                self.beside_count -= gone
                self._leave_out(gone)

    def _one_by_one(self, events: Sequence[Any]) -> tuple[list[Any], list[bytes]]:
        """Return those of some events that can be written, with their JSON."""
        found, payloads = [], []
        for event in events:
            try:
                payloads.append(encode(event))
            except Exception:
                if not self.left_out:
                    log.exception("an event at `memory` cannot be recorded, and is left out")
                self.left_out += 1
            else:
                found.append(event)
        return found, payloads

    def _leave_out(self, count: int) -> None:
        if not self.left_out:
            log.error("more happens than the journal takes: notes of the tape are left out")
        self.left_out += count

    def deliver_control(self, event: Any, *, is_kept: bool) -> None:
        """Note a kill switch as it is handed to the mailboxes; `is_kept`: the journal will have it."""
        if is_kept:
            self._raised.append((event.event_id, self.now_ns(), self.next_order()))
        else:
            self.deliver([event], "control")

    def made(self, event_id: str) -> None:
        """Note that the current call publishes an event with an id that was not derived from it."""
        self._note_publication(event_id, is_refused=False)

    def refused(self, event_id: str) -> None:
        """Note that an event was refused, if a call has published it."""
        self._note_publication(event_id, is_refused=True)

    def found_no_round(self, round_id: str) -> None:
        """Note that the current call has asked for a round that is not known, and was told so."""
        self._note_publication(no_round(round_id, self.next_order()), is_refused=True)

    def saw_halts(self, scope: str, ids: tuple[str, ...]) -> None:
        """Note which kill switches the current call was told of, if that is new to its subscription."""
        who = current.get()
        cause = None if who is None else who.cause()
        if who is None or cause is None or not who.in_call:
            return
        place = who.subscription, scope
        number = self._asking.number(*place, cause.event_id)
        if ids != self._halts_seen.get(place):
            seen = HaltsSeen(scope, cause.event_id, number, ids)
            if self._note_publication(halts_seen(seen, self.next_order()), is_refused=True):
                self._halts_seen[place] = ids

    def _note_publication(self, event_id: str, *, is_refused: bool) -> bool:
        """Note what a call publishes, or is told. False: nobody's call runs, or there is no room."""
        who = current.get()
        if who is None or not who.in_call:
            return False
        if len(self._made) >= NOTES_MOST:
            self._leave_out(1)
            return False
        self._made.append((event_id, who.subscription, is_refused, self.now_ns()))
        return True

    def _note_released(self, upto: int, _is_plain: bool, _is_imported: bool) -> None:
        self._released.append((upto, self.now_ns(), self.next_order()))

    def _note_error(self, name: str, _event: Any, error: BaseException) -> None:
        self._errors[name] = type(error).__qualname__

    def take_error(self, name: str) -> str:
        """Return what the call of a subscription that has just failed has raised."""
        return self._errors.pop(name, "")

    def _note_dead(self, letter: DeadLetter) -> None:
        if self.taken and letter.attempts:
            last = self.taken[-1]
            if last.end == FAILED and last.subscription == letter.subscription:
                self.taken[-1] = last._replace(end=BURIED)

    # -- what a commit takes ------------------------------------------------------------------------

    def take_delivered(self) -> list[Delivered]:
        """Return the events at `memory` that are to be written now."""
        delivered, self.delivered, self.beside_count = self.delivered, [], 0
        return delivered

    def give_back_delivered(self, delivered: list[Delivered]) -> None:
        """Take back what was not written: it goes with the next commit."""
        self.delivered = [*delivered, *self.delivered]
        self.beside_count = sum(len(one.events) for one in self.delivered)
        if self._wake is not None:
            self._wake(False)

    def take(self) -> Notes:
        """Return what waits, and the calls that are going on and of which nothing was said yet."""
        notes = Notes(self.taken, self._released, self._raised, self._made, self.left_out)
        going_on: set[tuple[str, str, int, int]] = set()
        for box in self._bus.boxes:
            if box.open and isinstance(box, TapedMailbox):
                for batch in box.open:
                    key = box.name, batch.lane.name, batch.first, batch.noted[-1].order
                    going_on.add(key)
                    if key not in self._open:
                        notes.taken.extend(box.taken(batch, BEGUN, max(1, batch.begun)))
        self._open = going_on
        self.taken, self._released, self._raised, self._made, self.left_out = [], [], [], [], 0
        return notes


class TapedMailbox(Mailbox):
    """A mailbox that notes what workers take from it, and how that ends.

    Attributes:
        name: The subscription's name.

    """

    __slots__ = ("_tape", "name")

    def __init__(self, tape: Tape, name: str, normal: Lane, **options: Any) -> None:
        super().__init__(normal, **options)
        self._tape = tape
        self.name: str = name

    def taken(self, batch: Batch, end: int, count: int) -> list[Taken]:
        """Return the notes of the first `count` events of a batch, which has ended with the last of them."""
        noted = batch.noted
        if len(noted) == 1:
            return [self._taken(batch, end, noted[0], count, self._tape.now_ns())]
        parts = [(this, following.start, following.at_ns) for this, following in pairwise(noted)]
        found = [self._taken(batch, HANDLED, *part) for part in parts]
        return [*found, self._taken(batch, end, noted[-1], count, self._tape.now_ns())]

    def _taken(self, batch: Batch, end: int, begun: Begun, count: int, ended_ns: int) -> Taken:
        """Return the note of what of a batch was begun then, up to its first `count` events."""
        start, begun_ns, head, order = begun
        events: Sequence[Any] = batch.events
        positions = batch.positions
        if positions:
            first, last = positions[start], positions[count - 1]
            if first and last - first + 1 == count - start:
                events, positions = (), range(first, last + 1)  # the events themselves are not kept for that
            elif start or len(positions) > count:
                positions = positions[start:count]
        if events and (start or len(events) > count):
            events = events[start:count]
        error = self._tape.take_error(self.name) if end == FAILED else ""
        attempts = 0 if start else batch.attempts
        return Taken(
            self.name,
            batch.lane.name,
            end,
            attempts,
            batch.first + start,
            events,
            positions,
            begun_ns,
            ended_ns,
            head,
            order,
            error,
        )

    def take(self, limit: int, now_ns: int) -> Batch | None:
        """Hand over the next batch, and note when, and what had been released then."""
        batch = Mailbox.take(self, limit, now_ns)
        if batch is not None:
            batch.noted = [self._tape.begun()]
            if len(batch.events) > 1:
                batch.iterator = _Noting(self._tape, batch)
        return batch

    def settle(self, batch: Batch) -> None:
        """Close a batch whose every event was handled."""
        self._note(self.taken(batch, HANDLED, len(batch.events)))
        Mailbox.settle(self, batch)

    def fail(self, batch: Batch) -> None:
        """Close a batch whose current call failed."""
        self._note(self._copied(batch, FAILED))
        Mailbox.fail(self, batch)

    def conflate(self, batch: Batch) -> None:
        """Close a batch whose current call was ended for a newer event."""
        self._note(self._copied(batch, SUPERSEDED))
        Mailbox.conflate(self, batch)

    def expire(self, batch: Batch) -> None:
        """Close a batch of events that are too old, none of them begun."""
        self._note(self.taken(batch, EXPIRED, len(batch.events)))
        Mailbox.expire(self, batch)

    def release(self, batch: Batch) -> None:
        """Close a batch without an end for its current event: it waits again."""
        self._note(self._copied(batch, RELEASED))
        Mailbox.release(self, batch)

    def _copied(self, batch: Batch, end: int) -> list[Taken]:
        """Return the notes of what was begun of a batch that is about to be cut."""
        notes = self.taken(batch, end, max(1, batch.begun))
        return [note._replace(events=list(note.events)) for note in notes]

    def _note(self, notes: list[Taken]) -> None:
        for note in notes:
            self._tape.note(note)


class _Noting:
    """Iterates the events of a batch, and notes where something else has happened between two of them.

    It is asked how many are left, and moved, as the iterator of a list is.
    """

    __slots__ = ("_count", "_events", "_noted", "_order", "_tape")

    def __init__(self, tape: Tape, batch: Batch) -> None:
        self._tape = tape
        self._events: Any = batch.iterator
        self._noted = batch.noted
        self._order = tape.order
        self._count = 0

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        event, tape = next(self._events), self._tape
        if tape.order != self._order:
            if self._count:
                self._noted.append(tape.begun(self._count))
            self._order = tape.order
        self._count += 1
        return event

    def __length_hint__(self) -> int:
        return self._events.__length_hint__()  # type: ignore[no-any-return]

    def __setstate__(self, index: int) -> None:
        self._events.__setstate__(index)


MailboxKind = Callable[..., Mailbox]
"""Makes a mailbox, given the subscription's name, its normal lane, and the options of `Mailbox`."""


def plain_mailbox(_name: str, normal: Lane, **options: Any) -> Mailbox:
    """Make a mailbox of which nothing is noted."""
    return Mailbox(normal, **options)


def mailboxes_of(tape: Tape | None) -> MailboxKind:
    """Return what makes the mailboxes of a bus: those of which all is noted, where it has a tape."""
    return plain_mailbox if tape is None else partial(TapedMailbox, tape)
