"""Lanes: what waits for one subscription, in order, with the counts that account for it.

The dispatcher hands every subscription the *same* list of events; a lane keeps (list, start) stretches of
such lists, so that queueing a thousand events for thirty subscriptions costs thirty small objects. A worker
takes a `Batch`: some of the next events and an iterator over them. How far the worker has come is read off
the iterator, so that progress, in-flight and causation cost nothing per event; urgency, time-outs and pauses
cut the list short, and the loop over it ends by itself after the current call.

Where the events stand in the journal travels with them: a sequence of positions parallel to the events, from
`push` to the end of the batch. So what is not settled, and where it stands, is read off the lane and the open
batches; nothing else keeps count of it. A lane also numbers what it accepted, from 1: the order of its
events. The counts are the loss ledger's. Lanes that let events go as the subscriber asked are in `overflow`.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from heapq import heapify, heappop, heappush
from typing import Any, Literal

from openoutcry.compiled import mypyc_attr

LaneName = Literal["control", "high", "normal"]
"""A lane of a mailbox: that of kill switches, of high priority, of everything else."""

NOWHERE: tuple[int, ...] = ()
"""The positions of events that are owed to one subscription and stand nowhere: unlike others they stay."""
LAST = 2**63
"""Above every number of an event."""


class Batch:
    """Some events of one lane that a worker has taken.

    Attributes:
        lane: Where the events came from.
        events: What the worker iterates, until `keep` cuts it short.
        is_shared: Whether the list is the dispatcher's, which others iterate too and nobody may change.
        iterator: How far the worker has come.
        first: The lane's number of `events[0]`; the rest follow without gaps.
        admitted_ns: When the events were admitted, on the bus's monotonic clock.
        attempts: How often `events[0]` was tried before and failed. Above 0 the batch has one event.
        positions: Where each of the events stands in the journal, 0 for one that is not there (yet); None if
            none of them does. Empty: none of them did when it was queued, and one does now, so that their
            settling has to be noted.
        noted: When it was taken, and gone on with after others, where that is noted.

    """

    __slots__ = (
        "admitted_ns",
        "attempts",
        "events",
        "first",
        "is_shared",
        "iterator",
        "lane",
        "noted",
        "positions",
    )

    noted: list[Any]

    def __init__(
        self,
        lane: "Lane",
        events: list[Any],
        first: int,
        admitted_ns: int,
        attempts: int = 0,
        is_shared: bool = False,
        positions: Sequence[int] | None = None,
    ) -> None:
        self.lane: Lane = lane
        self.events: list[Any] = events
        self.is_shared: bool = is_shared
        self.first: int = first
        self.admitted_ns: int = admitted_ns
        self.attempts: int = attempts
        self.positions = positions
        self.iterator: Any = iter(events)

    @property
    def waiting(self) -> int:
        """How many of the events have not been begun."""
        return self.iterator.__length_hint__()  # type: ignore[no-any-return]

    @property
    def begun(self) -> int:
        """How many of the events have been begun, the one in the handler included."""
        return len(self.events) - self.waiting

    @property
    def current(self) -> Any:
        """The event that was begun last, or None before the first."""
        begun = self.begun
        return self.events[begun - 1] if begun else None

    @property
    def position(self) -> int:
        """Where the first of the events stands in the journal; 0 if it is not there (yet)."""
        return self.positions[0] if self.positions else 0

    def keep(self, count: int) -> None:
        """Keep the first `count` events, all of them begun: the worker's loop ends after the current call.

        A list of the worker's own is cut short, which its iterator notices. A shared one must not change:
        there the iterator is moved to the end, and the worker has a list of its own from now on.
        """
        if self.positions is not None and count < len(self.positions):
            self.positions = self.positions[:count]
        if not self.is_shared:
            del self.events[count:]
            return
        self.iterator.__setstate__(len(self.events))
        self.is_shared = False
        self.events = self.events[:count]
        self.iterator = iter(self.events)
        self.iterator.__setstate__(count)


class Stretch:
    """Part of a shared list that waits in a lane: `events[start:]`; `events[0]` has the number `first`.

    `positions` is parallel to `events`, or None. A retry waits as a stretch of its own, which may not start
    before `due_ns`.
    """

    __slots__ = ("admitted_ns", "attempts", "due_ns", "events", "first", "positions", "start")

    def __init__(
        self,
        events: list[Any],
        first: int,
        admitted_ns: int,
        positions: Sequence[int] | None = None,
        attempts: int = 0,
        due_ns: int = 0,
    ) -> None:
        self.events: list[Any] = events
        self.positions: Sequence[int] | None = positions
        self.due_ns: int = due_ns
        self.start: int = 0
        self.first: int = first
        self.admitted_ns: int = admitted_ns
        self.attempts: int = attempts


class Divided:
    """What becomes of events for which there is too little room.

    Attributes:
        kept: Those that are queued.
        gone: Those that are let go.
        refused: Those that may not be, and have no room either.

    """

    __slots__ = ("gone", "kept", "refused")

    def __init__(self) -> None:
        self.kept: list[Any] = []
        self.gone: list[Any] = []
        self.refused: list[Any] = []


def _last_number(s: Stretch) -> int:
    return s.first + len(s.events) - 1


@mypyc_attr(allow_interpreted_subclasses=True)
class Lane:
    """A first-in first-out lane. What ends in it is counted under exactly one of the ledger's words.

    Attributes:
        name: `control`, `high` or `normal`.
        waiting: Events that no worker has taken.
        accepted: Events that were ever accepted into the lane; also the number of the newest.
        retried: How often an event that had been begun was queued again.
        held: Events accepted for the lane that wait outside of it, behind what comes from the journal.
        settled_last: The highest number of an event that was settled after it had waited here.

    """

    keeps_all = True
    """Whether the lane never lets an event go: the subscriber asked for none of that."""
    drops_any = False
    """Whether it would let any event go, in the journal or not, rather than have no room for a newer one."""

    __slots__ = (
        "_parked",
        "_spared",
        "_stretches",
        "accepted",
        "conflated",
        "dead_lettered",
        "expired",
        "handled",
        "held",
        "name",
        "overflowed",
        "retried",
        "settled_last",
        "waiting",
        "withdrawn",
    )

    def __init__(self, name: LaneName) -> None:
        self.name: LaneName = name
        self.waiting: int = 0
        self.accepted: int = 0
        self.retried: int = 0
        self.held: int = 0
        self.settled_last: int = 0
        self.handled: int = 0
        self.dead_lettered: int = 0
        self.conflated: int = 0
        self.overflowed: int = 0
        self.expired: int = 0
        self.withdrawn: int = 0
        self._stretches: deque[Stretch] = deque()
        self._parked: list[tuple[int, int, Stretch]] = []
        self._spared = 0

    def push(self, events: list[Any], at_ns: int, positions: Sequence[int] | None = None) -> None:
        """Accept `events`, in order. The list is shared and must not change afterwards.

        `positions` says where each of them stands in the journal, ascending; None if none of them does.
        """
        count = len(events)
        if count:
            self._stretches.append(Stretch(events, self.accepted + 1, at_ns, positions))
        self.accepted += count
        self.waiting += count

    def take(self, limit: int, now_ns: int) -> Batch | None:
        """Hand over up to `limit` of the next events, or None when nothing may start now."""
        if self._parked and self._parked[0][0] <= now_ns:
            s = heappop(self._parked)[2]
            self.waiting -= 1
            return Batch(self, s.events, s.first, s.admitted_ns, s.attempts, False, s.positions)
        stretches = self._stretches
        if not stretches or stretches[0].due_ns > now_ns:
            return None
        s = stretches[0]
        events, start = s.events, s.start
        if not start and len(events) <= limit:
            # Nothing of it was taken and all of it may be: no copy is needed.
            stretches.popleft()
            self.waiting -= len(events)
            return Batch(self, events, s.first, s.admitted_ns, s.attempts, True, s.positions)
        part = events[start : start + limit]
        s.start = end = start + len(part)
        if end >= len(events):
            stretches.popleft()
        self.waiting -= end - start
        positions = None if s.positions is None else s.positions[start:end]
        return Batch(self, part, s.first + start, s.admitted_ns, s.attempts, False, positions)

    @property
    def left(self) -> int:
        """How many more events may wait before the lane lets the oldest go."""
        return LAST

    @property
    def oldest_ns(self) -> int:
        """When the next event that waits was admitted, or the next retry if that is older; 0: none waits."""
        heads = [self._stretches[0].admitted_ns] if self._stretches else []
        if self._parked:
            heads.append(self._parked[0][2].admitted_ns)
        return min(heads, default=0)

    @property
    def untried(self) -> int:
        """How many of the waiting events were never tried."""
        return self.waiting - len(self._parked) - sum(s.attempts > 0 for s in self._stretches)

    def due_ns(self) -> int | None:
        """Return when the next held or parked retry may start, or None when none is waiting for its time."""
        dues = [self._parked[0][0]] if self._parked else []
        if self._stretches and self._stretches[0].due_ns:
            dues.append(self._stretches[0].due_ns)
        return min(dues, default=None)

    def settle(self, batch: Batch) -> None:
        """Count every event of `batch` as handled."""
        count = len(batch.events)
        self.handled += count
        last = batch.first + count - 1
        if last > self.settled_last:  # noqa: PLR1730 - half the time
            self.settled_last = last

    def settle_before_current(self, batch: Batch) -> None:
        """Count the events before the current one as handled and make the current one the batch's only event.

        What was not begun goes back to the head of the lane. Where nothing was begun yet, the first event is
        the current one: something has to answer for the failure.
        """
        if not batch.begun:
            next(batch.iterator, None)
        self.give_back(batch)
        batch.keep(batch.begun)
        done = len(batch.events) - 1
        if done > 0:
            self.handled += done
            batch.first += done
            self._note_settled(batch.first - 1)
            del batch.events[:done]
            if batch.positions is not None:
                batch.positions = batch.positions[done:]

    def give_back(self, batch: Batch) -> None:
        """Return what was not begun to the head of the lane; the worker ends after the current call."""
        begun = batch.begun
        rest = batch.events[begun:]
        if rest:
            positions = batch.positions
            if positions is not None and begun:
                positions = positions[begun:]
            batch.keep(begun)
            attempts = batch.attempts if begun == 0 else 0
            first = batch.first + begun
            stretch = Stretch(rest, first, batch.admitted_ns, positions, attempts)
            stretches = self._stretches
            if first <= self._spared:
                self._spared = first - 1
            if not stretches or first < stretches[0].first + stretches[0].start:
                stretches.appendleft(stretch)
            else:
                self._put_back(stretch)
            self.waiting += len(rest)

    def _put_back(self, stretch: Stretch) -> None:
        """Insert a stretch at its place in the order: not the head, if other workers gave back before."""
        self._spared = min(self._spared, stretch.first - 1)
        behind = (n for n, s in enumerate(self._stretches) if s.first + s.start > stretch.first)
        self._stretches.insert(next(behind, len(self._stretches)), stretch)

    def retry(self, batch: Batch, at_ns: int, *, in_order: bool) -> None:
        """Queue the one event of a failed `batch` again, not before `at_ns`.

        In a list of its own: the call may go on, abandoned, and `batch` says what it is about.
        """
        attempts, events = batch.attempts + 1, batch.events[:]
        stretch = Stretch(events, batch.first, batch.admitted_ns, batch.positions, attempts, at_ns)
        self.waiting += 1
        self.retried += 1
        if in_order:
            self._put_back(stretch)
        else:
            heappush(self._parked, (at_ns, batch.first, stretch))

    def bury(self, batch: Batch) -> None:
        """Count the one event of a failed `batch` as a dead letter."""
        self.dead_lettered += 1
        self._note_settled(batch.first)

    def conflate(self, batch: Batch) -> None:
        """Count the one event of a `batch` whose call was ended for a newer one as conflated."""
        self.conflated += 1
        self._note_settled(batch.first)

    def expire(self, batch: Batch) -> None:
        """Count every event of `batch`, none of them begun, as expired."""
        self.expired += len(batch.events)
        self._note_settled(batch.first + len(batch.events) - 1)
        batch.iterator = iter(())

    def _note_settled(self, number: int) -> None:
        """Note that the event with this number, which had waited here, is settled."""
        self.settled_last = max(self.settled_last, number)

    def withdraw(self, which: Callable[[Any], bool] | None = None) -> list[Any]:
        """Take out what waits (or what of it `which` says), count it as withdrawn, and return it in order."""
        events: list[Any] = []
        self._stretches = deque(rest for s in self._stretches for rest in self._sift(s, which, events))
        self._parked = [(at, r.first, r) for at, _, s in self._parked for r in self._sift(s, which, events)]
        heapify(self._parked)
        self.withdrawn += len(events)
        self.waiting -= len(events)
        return events

    def withdraw_held(self, count: int) -> None:
        """Count `count` events that were held outside of the lane as withdrawn."""
        self.accepted += count
        self.withdrawn += count
        self.held -= count

    def _sift(self, s: Stretch, which: Callable[[Any], bool] | None, out: list[Any]) -> Iterator[Stretch]:
        """Move what is withdrawn from `s` to `out`; yield what stays, as stretches without gaps."""
        count = len(s.events)
        gone = [index for index in range(s.start, count) if which is None or which(s.events[index])]
        if not gone:
            yield s
            return
        out += [s.events[index] for index in gone]
        self._note_settled(s.first + gone[-1])
        begin = s.start
        for end in (*gone, count):
            if begin < end:
                part = None if s.positions is None else s.positions[begin:end]
                yield Stretch(s.events[begin:end], s.first + begin, s.admitted_ns, part, s.attempts, s.due_ns)
            begin = end + 1

    # -- where there is too little room -------------------------------------------------------------

    def room_for(self, events: list[Any]) -> int:
        """Return how many places `events` would take."""
        return len(events)

    def shed(
        self,
        most: int,
        may_go: Callable[[Any], bool],
        newer: Sequence[Any] = (),  # noqa: ARG002 - for lanes where they replace others
    ) -> list[Any]:
        """Let up to `most` of the oldest waiting events go that `may_go`; count them as overflowed.

        `newer` are events that are about to come: what they replace makes no room by going before.

        What stands in the journal stays, but in a lane that drops any. `may_go` is the same at each call: it
        is asked once of an event that stays where it is.
        """
        gone: list[Any] = []
        stretches = self._stretches
        index = bisect_right(stretches, self._spared, key=_last_number) if self._spared else 0
        while len(gone) < most and index < len(stretches):
            s = stretches[index]
            begin, end = self._next_to_go(s, most - len(gone), may_go)
            if self._parked and (parked := self._oldest_parked(s.first + begin, may_go)) is not None:
                gone += parked.events
                continue
            if begin < end:
                gone += s.events[begin:end]
                index += self._cut_out(index, begin, end)
            else:
                index += 1
        next_stretch = stretches[index] if index < len(stretches) else None
        self._spared = self.accepted if next_stretch is None else next_stretch.first + next_stretch.start - 1
        while self._parked and len(gone) < most and (parked := self._oldest_parked(LAST, may_go)) is not None:
            gone += parked.events
        self.overflowed += len(gone)
        self.waiting -= len(gone)
        return gone

    def _may_go(self, s: Stretch) -> bool:
        return s.positions is None or self.drops_any

    def _next_to_go(self, s: Stretch, most: int, may_go: Callable[[Any], bool]) -> tuple[int, int]:
        """Return from where to where the first events of `s` stand that may go: its end, if none may."""
        events, count = s.events, len(s.events)
        begin = s.start if self._may_go(s) else count
        while begin < count and not may_go(events[begin]):
            begin += 1
        end, limit = begin, min(count, begin + most)
        while end < limit and may_go(events[end]):
            end += 1
        return begin, end

    def _cut_out(self, index: int, begin: int, end: int) -> bool:
        """Take events out of the stretch at `index`. True if something of it is left before them."""
        s, stretches = self._stretches[index], self._stretches
        self._note_settled(s.first + end - 1)
        is_split = begin > s.start
        if is_split and end < len(s.events):
            places = None if s.positions is None else s.positions[end:]
            rest = Stretch(s.events[end:], s.first + end, s.admitted_ns, places, s.attempts, s.due_ns)
            stretches.insert(index + 1, rest)
        if is_split:
            s.events = s.events[:begin]
            s.positions = None if s.positions is None else s.positions[:begin]
        else:
            s.start = end
            if end >= len(s.events):
                del stretches[index]
        return is_split

    def _oldest_parked(self, before: int, may_go: Callable[[Any], bool]) -> Stretch | None:
        """Take out the oldest parked retry that may go, if it is older than the event with this number."""
        found = [p for p in self._parked if p[1] < before and self._may_go(p[2]) and may_go(p[2].events[0])]
        if not found:
            return None
        oldest = min(found, key=lambda parked: parked[1])
        self._parked.remove(oldest)
        heapify(self._parked)
        self._note_settled(oldest[1])
        return oldest[2]

    def divide(
        self, events: list[Any], excess: int, may_go: Callable[[Any], bool], to_go: int = 0
    ) -> "Divided":
        """Say which of `events` to take if there are `excess` places too few: first those go that may.

        Of these, `to_go` are to go anyway. What is not taken is to be counted with `overflow` and `refuse`,
        since it never waits.
        """
        divided = Divided()
        for event in events:
            if (excess > 0 or to_go > 0) and may_go(event):
                excess -= 1
                to_go -= 1
                divided.gone.append(event)
            else:
                divided.kept.append(event)
        if excess > 0:
            at = max(0, len(divided.kept) - excess)
            divided.refused = divided.kept[at:]
            del divided.kept[at:]
        return divided

    def overflow(self, count: int) -> None:
        """Count events as accepted and let go."""
        self.accepted += count
        self.overflowed += count

    def refuse(self, count: int) -> None:
        """Count events as accepted and as dead letters."""
        self.accepted += count
        self.dead_lettered += count

    # -- what is open -------------------------------------------------------------------------------

    def open_runs(self, upto: int) -> Iterator[tuple[int, Sequence[int]]]:
        """Iterate what waits and is, or may get, in the journal: (number of the first event, positions).

        All of it with a number up to `upto`, and at least what follows next; retries that may be overtaken
        first.
        """
        for _, _, s in self._parked:
            if s.positions is not None:
                yield s.first, s.positions
        for s in self._stretches:
            positions = s.positions
            if positions:
                yield s.first + s.start, positions[s.start :] if s.start else positions
                if positions[-1] and s.first + len(positions) > upto + 1:
                    return

    def has_waiting(self, number: int) -> bool:
        """Return True if the event with this number waits here."""
        for s in self._stretches:
            if s.first + s.start > number:
                break
            if number < s.first + len(s.events):
                return True
        return any(s.first == number for _, _, s in self._parked)

    def place(self, event_id: str) -> int:
        """Have the settling of a waiting event noted that is in the journal now; return its number, or 0."""
        for s in (*self._stretches, *(p[2] for p in self._parked)):
            if not (s.positions and s.positions[0]):
                for index in range(s.start, len(s.events)):
                    if s.events[index].event_id == event_id:
                        s.positions = ()
                        return s.first + index
        return 0

    def forget_positions(self) -> None:
        """Forget where what waits stands: another journal is used from now on."""
        for s in (*self._stretches, *(p[2] for p in self._parked)):
            s.positions = None

    def waiting_lists(self) -> Iterator[list[Any]]:
        """Iterate lists that what waits is in, with some events beside it that do not wait any more."""
        for s in (*self._stretches, *(p[2] for p in self._parked)):
            yield s.events

    def waiting_events(self) -> Iterator[Any]:
        """Iterate what waits, retries that may be overtaken last."""
        for s in (*self._stretches, *(p[2] for p in self._parked)):
            yield from s.events[s.start :]
