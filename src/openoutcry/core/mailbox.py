"""A mailbox: what one subscription has not settled, in a high-priority and a normal lane.

```
         dispatcher                                     worker
  push_high ─────▶ high   ▒▒▒▒                          take ──▶ Batch (high first, one normal
  push      ─────▶ normal ▒▒▒▒▒▒▒▒▒▒▒▒                            after every `share` high ones)
                                                        settle | retry | bury | expire
```

High-priority events are handled before every queued normal one, but for the minimum share of the normal lane,
so that nothing starves. A normal batch that a worker has taken is cut short when a high-priority event
arrives.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Any

from openoutcry.compiled import mypyc_attr
from openoutcry.core.lanes import Batch, Lane
from openoutcry.core.pressure import Pressure


@mypyc_attr(allow_interpreted_subclasses=True)
class Mailbox:
    """Two lanes and the open batches: what workers have taken from them and not settled.

    Args:
        normal: The normal lane, with whatever overflow policy it has.
        share: One normal event is handled after this many high-priority ones in a row.
        counts: Whether what waits in the normal lane is met by publishers.
        gates: Whether publishers wait for this mailbox also where another one is emptier.

    Attributes:
        stalled: Whether it has stopped moving, with events waiting. Then it gates no longer.
        behind: How many of its lanes read on from the journal.
        aside: Whether it is not simply handed what is new: it is behind, or may have too little room.
        depth: How many events publishers have met here at the last look.
        rank: The rank of the level that this means.
        mark: As long as at least this many wait, no publisher that is held up meets fewer than at that look.

    """

    __slots__ = (
        "_is_tight",
        "_returned_before",
        "_streak",
        "aside",
        "behind",
        "counts",
        "depth",
        "gates",
        "high",
        "mark",
        "normal",
        "open",
        "rank",
        "share",
        "stalled",
    )

    def __init__(self, normal: Lane, *, share: int = 16, counts: bool = True, gates: bool = False) -> None:
        self.high: Lane = Lane("high")
        self.normal: Lane = normal
        self.share: int = share
        self.counts: bool = counts
        self.gates: bool = gates
        self.stalled: bool = False
        self.aside: bool = True
        self._is_tight = True  # until the first look
        self.behind: int = 0
        self.depth: int = 0
        self.rank: int = 0
        self.mark: int = 0
        self.open: list[Batch] = []
        self._streak = self._returned_before = 0

    @property
    def waiting(self) -> int:
        """Events that wait: accepted, neither settled nor in a handler."""
        high, normal = self.high, self.normal
        waiting = high.waiting + normal.waiting + high.held + normal.held
        for batch in self.open:
            waiting += batch.waiting
        return waiting

    @property
    def returned(self) -> int:
        """How often an event that was begun has come back to wait again since the last look."""
        return self.high.retried + self.normal.retried - self._returned_before

    @property
    def in_flight(self) -> int:
        """Events that a handler has begun and not ended."""
        return sum(batch.begun > 0 for batch in self.open)

    @property
    def progress(self) -> int:
        """A number that changes whenever the subscription moves: calls ended somehow, and calls begun."""
        high, normal = self.high, self.normal
        done = high.handled + normal.handled + high.dead_lettered + normal.dead_lettered
        # A failed call ends as well, though its event waits again: without this, a retry looks like rest.
        done += high.retried + normal.retried
        return done + high.expired + normal.expired + sum(batch.begun for batch in self.open)

    # -- room ---------------------------------------------------------------------------------------

    def measure(self, pressure: Pressure, way: int, slack: int) -> None:
        """Look at what waits. `way` events are on their way, and up to `slack` more may follow unasked."""
        waiting = self.waiting
        self.depth = depth = waiting if self.counts else self._high_waiting()
        self.rank = pressure.rank_at(depth + way, self.rank)
        self.mark = 0
        self._returned_before = self.high.retried + self.normal.retried
        self._is_tight = pressure.low_room - waiting < slack + way
        self.aside = self._is_tight or self.behind > 0

    def _high_waiting(self) -> int:
        high = self.high
        return high.waiting + high.held + sum(b.waiting for b in self.open if b.lane is high)

    def room_left(self, pressure: Pressure, *, is_high: bool) -> int:
        """Return how many more events a lane has room for; negative if there are too many.

        High-priority events may fill all of it, the others never what is reserved for those.
        """
        waiting = self.waiting
        room = pressure.capacity - waiting
        return room if is_high else min(room, pressure.low_room - waiting + self._high_waiting())

    def has_fallen(self) -> bool:
        """Return True if fewer events wait than its mark says."""
        return (self.waiting if self.counts else self._high_waiting()) < self.mark

    def tighten(self) -> None:
        """Until the next look, hand it nothing new without looking whether it has room."""
        self._is_tight = self.aside = True

    def fall_behind(self, lanes: int) -> None:
        """Note that so many more (or fewer) of its lanes read on from the journal."""
        self.behind += lanes
        self.aside = self._is_tight or self.behind > 0

    # -- what comes, and what is taken --------------------------------------------------------------

    def push_high(self, events: list[Any], at_ns: int, positions: Sequence[int] | None = None) -> None:
        """Queue high-priority events and cut the normal batches short."""
        self.high.push(events, at_ns, positions)
        self.cut()

    def cut(self) -> None:
        """Make every worker look up after the current call: unbegun normal events go back to their lane."""
        for batch in self.open:
            if batch.lane is self.normal:
                self.normal.give_back(batch)

    def cut_all(self) -> None:
        """Give back whatever no worker has begun, in both lanes."""
        for batch in self.open:
            self._uncount(batch)
            batch.lane.give_back(batch)

    def _uncount(self, batch: Batch) -> None:
        """High-priority events that a batch ends without do not count toward the normal lane's share."""
        if batch.lane is self.high:
            self._streak = max(0, self._streak - batch.waiting)

    def take(self, limit: int, now_ns: int) -> Batch | None:
        """Hand over the next batch, which is then open, or None when nothing may start now."""
        if self.high.waiting:
            batch = self._choose(limit, now_ns)
        else:
            self._streak = 0
            batch = self.normal.take(limit, now_ns)
        if batch is not None:
            self.open.append(batch)
        return batch

    def _choose(self, limit: int, now_ns: int) -> Batch | None:
        high, normal = self.high, self.normal
        if not normal.waiting:
            # Not more than the share at once: a normal event may come while the batch is open.
            batch = high.take(limit if limit < self.share else self.share, now_ns)  # noqa: FURB136 - a third of it
            self._streak = 0 if batch is None else len(batch.events)
            return batch
        if self._streak < self.share:
            batch = high.take(min(limit, self.share - self._streak), now_ns)
            if batch is not None:
                self._streak += len(batch.events)
                return batch
        batch = normal.take(1, now_ns)
        if batch is not None:
            self._streak = 0
            return batch
        return high.take(1, now_ns)

    def settle(self, batch: Batch) -> None:
        """Close a batch whose every event was handled."""
        batch.lane.settle(batch)
        self.open.remove(batch)

    def fail(self, batch: Batch) -> None:
        """Close a batch whose current call failed: those before it are handled, those after it wait again.

        The batch then holds the failed event alone; `retry` or `bury` must follow.
        """
        self._uncount(batch)
        batch.lane.settle_before_current(batch)
        self.open.remove(batch)

    def conflate(self, batch: Batch) -> None:
        """Close a batch whose current call was ended for a newer event."""
        self._uncount(batch)
        batch.lane.settle_before_current(batch)
        self.open.remove(batch)
        batch.lane.conflate(batch)

    def expire(self, batch: Batch) -> None:
        """Close a batch of events that are too old, none of them begun."""
        self._uncount(batch)
        batch.lane.expire(batch)
        self.open.remove(batch)

    def release(self, batch: Batch) -> None:
        """Close a batch without an end for its current event: it waits again, and no attempt is counted."""
        self._uncount(batch)
        batch.lane.settle_before_current(batch)
        self.open.remove(batch)
        batch.iterator = iter(batch.events)
        batch.lane.retried += 1
        batch.lane.give_back(batch)

    def due_ns(self) -> int | None:
        """Return when the next retry may start, or None when no retry waits for its time."""
        waiting = [lane for lane in (self.high, self.normal) if lane.waiting]
        dues = [due for lane in waiting if (due := lane.due_ns()) is not None]
        return min(dues, default=None)

    def withdraw(self, which: Callable[[Any], bool] | None = None) -> list[Any]:
        """Give up what waits (or what of it `which` says), counted as withdrawn. Current calls go on."""
        self.cut_all()
        return self.high.withdraw(which) + self.normal.withdraw(which)

    # -- what is open -------------------------------------------------------------------------------

    def open_runs(self, lane: Lane, upto: int) -> Iterator[tuple[int, Sequence[int]]]:
        """Iterate what of a lane is not settled and is, or may get, in the journal: (number, positions).

        A batch counts as a whole until it is settled. See `Lane.open_runs` for `upto`.
        """
        for batch in self.open:
            if batch.lane is lane and batch.positions:
                yield batch.first, batch.positions
        yield from lane.open_runs(upto)

    def open_positions(self, lane: Lane, upto: int) -> list[tuple[int, int]]:
        """Return what of a lane is not settled as (number, position), by number.

        All of it with a number up to `upto`, and what follows next. The position is 0 for an event that is
        being committed.
        """
        found: list[tuple[int, int]] = []
        for first, positions in self.open_runs(lane, upto):
            for number, position in enumerate(positions, first):
                found.append((number, position))
                if number > upto and position:
                    break
        found.sort()
        return found

    def begun_positions(self, lane: Lane) -> set[int]:
        """Return where in the journal those of a lane's events stand that a handler was called with."""
        found: set[int] = set()
        for batch in self.open:
            if batch.lane is lane and batch.positions:
                found.update(batch.positions[: batch.begun])
        return found

    def is_open(self, lane: Lane, number: int) -> bool:
        """Return True if the event that has this number in its lane is not settled. It was pushed once."""
        return (
            number > lane.settled_last
            or any(b.lane is lane and b.first <= number < b.first + len(b.events) for b in self.open)
            or lane.has_waiting(number)
        )

    def has_open(self, lane: Lane, event_id: str) -> bool:
        """Return True if an event of a lane is not settled."""
        batches = (batch.events for batch in self.open if batch.lane is lane)
        events = chain(lane.waiting_events(), chain.from_iterable(batches))
        return any(event.event_id == event_id for event in events)

    def place(self, lane: Lane, event_id: str) -> int:
        """Have the settling of an event noted that was queued before it was in the journal.

        Returns its number in the lane; 0 if it is settled, or was never queued there.
        """
        for batch in self.open:
            if batch.lane is lane and not (batch.positions and batch.positions[0]):
                for number, event in enumerate(batch.events, batch.first):
                    if event.event_id == event_id:
                        batch.positions = ()
                        return number
        return lane.place(event_id)

    def forget_positions(self) -> None:
        """Forget where what is open stands: another journal is used from now on."""
        for batch in self.open:
            batch.positions = None
        self.high.forget_positions()
        self.normal.forget_positions()
