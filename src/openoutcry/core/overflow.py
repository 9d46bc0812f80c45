"""Lanes that let waiting events go, and keep the newest per key, the newest few, the newest kill switches.

All of them drop only what waits, oldest first, and count each event. What all lanes share is in `lanes`.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from heapq import heapify
from itertools import repeat
from typing import Any

from openoutcry.compiled import mypyc_attr
from openoutcry.core.halts import is_release, scope_of
from openoutcry.core.lanes import Batch, Divided, Lane, LaneName, Stretch


@mypyc_attr(allow_interpreted_subclasses=True)
class ConflatingLane(Lane):
    """A lane that keeps the newest waiting event per key.

    An update takes the place of the one it replaces: order holds per key, and a key that never stops updating
    still has its turn. (Moving updates to the end would starve just the busiest symbol.) An event that a
    worker has taken is not replaced any more: it is tried again before its successor.

    The key is the user's: where it raises or cannot be hashed, the event stands alone, so that nothing is
    lost and nobody else's delivery stops.

    Attributes:
        unkeyed: Events that stand alone because their key could not be used.
        key_error: What was wrong with the last of these, in words; empty if there were none.

    """

    keeps_all = False
    __slots__ = ("_key", "_newest", "key_error", "unkeyed")

    waiting: int
    conflated: int
    overflowed: int
    withdrawn: int

    def __init__(self, name: LaneName, key: Callable[[Any], object]) -> None:
        super().__init__(name)
        self._key = key
        self._newest: OrderedDict[object, tuple[Any, int, int, int]] = OrderedDict()
        self.unkeyed: int = 0
        self.key_error: str = ""

    def push(self, events: list[Any], at_ns: int, positions: Sequence[int] | None = None) -> None:
        """Accept `events`; each replaces the waiting one with the same key."""
        newest, key_of, number, last = self._newest, self._key, self.accepted, 0
        for event, position in zip(events, positions or repeat(0), strict=False):
            number += 1
            try:
                key = key_of(event)
                old = newest.get(key)
            except Exception as error:  # noqa: BLE001 - the key is the user's function
                key, old = self._alone(event, error), None
            if old is not None:
                self.conflated += 1
                self.waiting -= 1
                if old[1] > last:  # noqa: PLR1730 - half the time
                    last = old[1]
            newest[key] = (event, number, at_ns, position)
        self._note_settled(last)
        self.accepted: int = number
        self.waiting += len(events)

    def _alone(self, event: Any, error: Exception) -> object:
        """Note that the key of `event` cannot be used, and return one that nothing else has."""
        self.unkeyed += 1
        self.key_error = (
            f"the conflation key of {type(event).__name__} cannot be used ({error!r}), so the event stands "
            "alone; give Conflate a key that is hashable for every event"
        )
        return object()

    def room_for(self, events: list[Any]) -> int:
        """Return how many places `events` would take: a replacement takes none."""
        return len(self._new_keys(events))

    def _new_keys(self, events: list[Any]) -> dict[object, list[Any]]:
        """Return the events that replace none that waits, by key."""
        found: dict[object, list[Any]] = {}
        for event in events:
            if not self._replaces(event):
                found.setdefault(self.key_of(event), []).append(event)
        return found

    def key_of(self, event: Any) -> object:
        """Return the key of an event; one that nothing else has, where it has none."""
        try:
            key = self._key(event)
            hash(key)
        except Exception:  # noqa: BLE001 - the key is the user's function
            return object()
        return key

    def shed(self, most: int, may_go: Callable[[Any], bool], newer: Sequence[Any] = ()) -> list[Any]:
        """Let up to `most` of the oldest waiting events go that `may_go`; count them as overflowed."""
        gone = super().shed(most, may_go)
        if len(gone) < most:
            newest, stay = self._newest, set(map(self.key_of, newer))
            keys = [
                key for key, (event, _, _, at) in newest.items() if not (at or key in stay) and may_go(event)
            ]
            found = [newest.pop(key) for key in keys[: most - len(gone)]]
            for _, number, _, _ in found:
                self._note_settled(number)
            self.overflowed += len(found)
            self.waiting -= len(found)
            gone += [event for event, *_ in found]
        return gone

    def divide(
        self, events: list[Any], excess: int, may_go: Callable[[Any], bool], to_go: int = 0
    ) -> Divided:
        """Say which of `events` to take if there are `excess` places too few: all of a new key, or none."""
        divided = Divided()
        new = self._new_keys(events)
        goes = {key: all(map(may_go, some)) for key, some in new.items()}
        going = [key for key in new if goes[key]][: max(0, excess, to_go)]
        refused = [key for key in reversed(new) if not goes[key]][: max(0, excess - len(going))]
        out = {id(event): goes[key] for key in (*going, *refused) for event in new[key]}
        for event in events:
            fate = out.get(id(event))
            (divided.kept if fate is None else divided.gone if fate else divided.refused).append(event)
        return divided

    def outdated(self) -> None:
        """Count an event as accepted and conflated: something newer waits, so that it never does."""
        self.accepted += 1
        self.conflated += 1

    def _replaces(self, event: Any) -> bool:
        return self.waiting_number(event) > 0

    def waiting_number(self, event: Any) -> int:
        """Return the number of the waiting event that has the key of `event`; 0 if there is none."""
        try:
            found = self._newest.get(self._key(event))
        except Exception:  # noqa: BLE001 - the key is the user's function
            return 0
        return 0 if found is None else found[1]

    def take(self, limit: int, now_ns: int) -> Batch | None:
        """Hand over the next event alone, so that those behind it can still be replaced."""
        batch = super().take(limit, now_ns)
        if batch is not None or self._stretches or not self._newest:
            return batch
        _, (event, number, at_ns, position) = self._newest.popitem(last=False)
        self.waiting -= 1
        return Batch(self, [event], number, at_ns, 0, False, (position,) if position else None)

    def withdraw(self, which: Callable[[Any], bool] | None = None) -> list[Any]:
        """Take out what waits (or what of it `which` says), count it as withdrawn, and return it."""
        events = super().withdraw(which)
        gone = [key for key, (event, *_) in self._newest.items() if which is None or which(event)]
        for key in gone:
            event, number, _, _ = self._newest.pop(key)
            self._note_settled(number)
            events.append(event)
        self.withdrawn += len(gone)
        self.waiting -= len(gone)
        return events

    @property
    def oldest_ns(self) -> int:
        """When the event whose turn is next was admitted; 0 if none waits."""
        found = super().oldest_ns
        if found or not self._newest:
            return found
        return next(iter(self._newest.values()))[2]

    def waiting_lists(self) -> Iterator[list[Any]]:
        """Iterate lists that what waits is in."""
        yield from super().waiting_lists()
        yield [event for event, *_ in self._newest.values()]

    def waiting_events(self) -> Iterator[Any]:
        """Iterate what waits."""
        yield from super().waiting_events()
        yield from (event for event, *_ in self._newest.values())

    def open_runs(self, upto: int) -> Iterator[tuple[int, Sequence[int]]]:
        """Iterate what waits and is in the journal: all of it, since a replacement is out of order."""
        yield from super().open_runs(upto)
        yield from ((number, (position,)) for _, number, _, position in self._newest.values() if position)

    def has_waiting(self, number: int) -> bool:
        """Return True if the event with this number waits here."""
        return super().has_waiting(number) or any(item[1] == number for item in self._newest.values())

    def place(self, event_id: str) -> int:
        """Return the number of a waiting event that is in the journal now, or 0."""
        waiting = (number for event, number, _, _ in self._newest.values() if event.event_id == event_id)
        return super().place(event_id) or next(waiting, 0)

    def forget_positions(self) -> None:
        """Forget where what waits stands: another journal is used from now on."""
        super().forget_positions()
        for key, (event, number, at_ns, _) in list(self._newest.items()):
            self._newest[key] = (event, number, at_ns, 0)


class SupersedingLane(ConflatingLane):
    """A conflating lane where a newer event also ends the call for an older one of its key."""

    __slots__ = ()

    waiting: int
    conflated: int

    def has_newer(self, event: Any) -> bool:
        """Return True if an event with the same key waits, so that a call for this one is to be ended."""
        return self._replaces(event)

    def push(self, events: list[Any], at_ns: int, positions: Sequence[int] | None = None) -> None:
        """Accept `events`; each replaces whatever is older with the same key, retries included."""
        if self._stretches or self._parked:
            self._let_go({self.key_of(event) for event in events})
        super().push(events, at_ns, positions)

    def _let_go(self, keys: set[object]) -> None:
        """Count what waits to be tried again as conflated, if something newer has come."""
        gone = [
            s
            for s in (*self._stretches, *(p[2] for p in self._parked))
            if len(s.events) - s.start == 1 and self.key_of(s.events[s.start]) in keys
        ]
        if gone:
            self._stretches = deque(s for s in self._stretches if s not in gone)
            self._parked = [p for p in self._parked if p[2] not in gone]
            heapify(self._parked)
            for s in gone:
                self.conflated += 1
                self.waiting -= 1
                self._note_settled(s.first + s.start)

    def retry(self, batch: Batch, at_ns: int, *, in_order: bool) -> None:
        """Queue a failed event again, unless something newer has come meanwhile."""
        if self._replaces(batch.events[0]):
            self.conflate(batch)
        else:
            super().retry(batch, at_ns, in_order=in_order)


@mypyc_attr(allow_interpreted_subclasses=True)
class BoundedLane(Lane):
    """A lane where at most `limit` events wait: the oldest make room for the newest, and are counted.

    What a worker has taken and not begun waits as well, and is the oldest: it is taken back when room is
    needed. So is a retry, wherever it waits.

    Attributes:
        limit: The most events that wait.

    """

    keeps_all = False
    drops_any = True
    __slots__ = ("_held", "limit")

    def __init__(self, name: LaneName, limit: int) -> None:
        super().__init__(name)
        self.limit: int = limit
        self._held: list[Batch] = []

    @property
    def left(self) -> int:
        """How many more events may wait before the lane lets the oldest go."""
        return self.limit - self.waiting - sum(batch.waiting for batch in self._held)

    def push(self, events: list[Any], at_ns: int, positions: Sequence[int] | None = None) -> None:
        """Accept `events`; drop the oldest beyond the limit."""
        super().push(events, at_ns, positions)
        self._trim()

    def take(self, limit: int, now_ns: int) -> Batch | None:
        """Hand over up to `limit` of the next events, or None when nothing may start now."""
        batch = super().take(limit, now_ns)
        if batch is not None:
            self._held.append(batch)
        return batch

    def settle(self, batch: Batch) -> None:
        """Count every event of `batch` as handled."""
        super().settle(batch)
        self._let_go(batch)

    def expire(self, batch: Batch) -> None:
        """Count every event of `batch`, none of them begun, as expired."""
        super().expire(batch)
        self._let_go(batch)

    def give_back(self, batch: Batch) -> None:
        """Return what was not begun to the head of the lane; drop the oldest beyond the limit."""
        self._let_go(batch)
        super().give_back(batch)
        self._trim()

    def retry(self, batch: Batch, at_ns: int, *, in_order: bool) -> None:
        """Queue the one event of a failed `batch` again, not before `at_ns`; drop what is too many."""
        super().retry(batch, at_ns, in_order=in_order)
        self._trim()

    def _let_go(self, batch: Batch) -> None:
        if batch in self._held:
            self._held.remove(batch)

    def _trim(self) -> None:
        excess = self.waiting - self.limit
        for batch in self._held:
            excess += batch.waiting
        if excess > 0:
            for batch in self._held:
                super().give_back(batch)
            self._held.clear()
            self.shed(excess, _any)


def _any(_event: Any) -> bool:
    return True


EACH_MOST = 64
"""So many kill switches of one scope wait each by itself."""


class WaitingSwitch(Stretch):
    """A kill switch that waits in a control lane.

    Attributes:
        stand_in: The newer one of its scope that it was folded into; None while it stands for itself.

    """

    __slots__ = ("stand_in",)

    stand_in: "WaitingSwitch | None"

    def final(self) -> "WaitingSwitch":
        """Return the one that stands for it now: itself, or what it was folded into."""
        final = self
        while final.stand_in is not None:
            final = final.stand_in
        switch = self
        while switch.stand_in is not None:
            switch.stand_in, switch = final, switch.stand_in
        return final


@mypyc_attr(allow_interpreted_subclasses=True)
class ControlLane(Lane):
    """The lane of kill switches: of those of one scope that wait, an older one is folded into the next.

    That happens from the `EACH_MOST`th on, so that a subscription that is hung holds a bounded number per
    scope, however many are published; what is folded counts as conflated. None is folded across a release,
    whatever the scope of that: a release may name any id, and whoever sees both must see them in order.
    Releases are not folded.

    Attributes:
        newest: The one that was pushed last.

    """

    __slots__ = ("_foldable", "newest")

    accepted: int
    waiting: int
    conflated: int

    def __init__(self, name: LaneName = "control") -> None:
        super().__init__(name)
        self._foldable: dict[str, list[WaitingSwitch]] = {}
        self.newest: WaitingSwitch | None = None

    def push(self, events: list[Any], at_ns: int, positions: Sequence[int] | None = None) -> None:
        """Accept `events`; where too many of a scope wait, the oldest of them is folded into the next."""
        for index, event in enumerate(events):
            # (The list of one position is the committer's, who will fill it in.)
            place = positions if positions is None or len(events) == 1 else positions[index : index + 1]
            switch = WaitingSwitch(events if len(events) == 1 else [event], self.accepted + 1, at_ns, place)
            switch.stand_in = None
            self._fold(event, switch)
            self._stretches.append(switch)
            self.newest = switch
            self.accepted += 1
            self.waiting += 1

    def _fold(self, event: Any, switch: WaitingSwitch) -> None:
        if is_release(event):
            self._foldable.clear()
            return
        scope = scope_of(event)
        waiting = self._foldable.get(scope)
        if waiting is None:
            self._foldable[scope] = [switch]  # (a deque takes ten times as long, in each lane)
            return
        waiting.append(switch)
        if len(waiting) <= EACH_MOST:
            return
        old = waiting.pop(0)
        try:
            self._stretches.remove(old)
        except ValueError:  # a worker has taken it, or it was withdrawn
            return
        old.stand_in = waiting[0]
        self.conflated += 1
        self.waiting -= 1
        self._note_settled(old.first)

    def count_folded(self, count: int) -> None:
        """Count kill switches that were folded before they came here, while the bus did not run."""
        self.accepted += count
        self.conflated += count
        self._note_settled(self.accepted)
