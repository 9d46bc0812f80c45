"""Arrivals: how events that another desk has accepted come in, as they were written there.

```
  entries of a group ─▶ room? ─▶ one commit, with how far the import has come ─▶ released as any other
                          └ no: those before go in, the rest waits for its turn
```

They have passed the admission of their desk, so nothing is refused or shed here: it waits. The journal drops
what it has by its id. What cannot be read is kept byte for byte, and is a dead letter of who takes its type.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from openoutcry.errors import BusClosed
from openoutcry.events import Event, Undecodable
from openoutcry.ports import Carried, Entry, Snapshot
from openoutcry.runtime.admission.kill_switches import KillSwitches
from openoutcry.runtime.admission.room import Room
from openoutcry.runtime.delivery.causation import Cause
from openoutcry.runtime.delivery.state import BusState
from openoutcry.runtime.delivery.subscription import Subscription, selects
from openoutcry.runtime.durability.commit import Commit, Then
from openoutcry.runtime.durability.slot import StoreSlot
from openoutcry.runtime.durability.store import Store

LOOK_LEAST_S: Final = 0.001
"""The first pauses before it is looked again whether there is room,"""
LOOK_MOST_S: Final = 0.02
"""and the longest."""


class Arrival(NamedTuple):
    """An event that another desk has made.

    Attributes:
        event: The event, or an `Undecodable`.
        entry: As what it is written.
        then: What is to be called with its position when it is released.

    """

    event: Any
    entry: Entry
    then: Then | None = None


class Plain(NamedTuple):
    """Events that another desk has made: ordinary ones of its normal lane, of classes that are known here.

    Attributes:
        events: The events.
        entries: As what they are written.

    """

    events: list[Any]
    entries: Carried


class Arrivals:
    """Takes in what other desks have made.

    Attributes:
        taken: How many events came in that were new here.
        duplicates: How many came that were here already.

    """

    def __init__(self, bus: BusState, slot: StoreSlot, room: Room, kill_switches: KillSwitches) -> None:
        self._bus = bus
        self._slot = slot
        self._room = room
        self._kill_switches = kill_switches
        self.taken: int = 0
        self.duplicates: int = 0

    async def take_in(
        self, arrivals: Sequence[Arrival] | Plain, snapshot_after: Callable[[int], Snapshot] | None
    ) -> tuple[int, int]:
        """Take in as many of the events as there is room for, in order; wait if there is room for none.

        What `snapshot_after` returns for their count is written in their commit, and never without them.
        Returns how many were taken in, and how many of these were here already. It returns when they have
        reached their levels.

        Raises:
            JournalError: Nothing was taken in, as far as is known; taking it in again is harmless.
            BusClosed: The bus is stopping.
            SeatLost: This process does not hold its desk.

        """
        count = await self._room_for(arrivals)
        entries: Sequence[Entry]
        if isinstance(arrivals, Plain):
            events, carried = arrivals
            if count < len(events):
                events, carried = events[:count], carried[:count]
            entries = carried
            commit, known = self._stage_plain(events, carried)
        else:
            entries = [arrival.entry for arrival in arrivals[:count]]
            commit, known = self._stage(arrivals[:count])
        if snapshot_after is not None:
            snapshot = snapshot_after(count)
            commit.snapshots[snapshot.subscription] = snapshot
        await commit
        duplicates = known + _duplicates(commit, entries)
        self.taken += count - duplicates
        self.duplicates += duplicates
        return count, duplicates

    # -- room ---------------------------------------------------------------------------------------

    async def _room_for(self, arrivals: Sequence[Arrival] | Plain) -> int:
        """Return how many of the next events there is room for, at least one unless there are none."""
        pause_s = 0.0
        while True:
            self._check_open()
            self._room.look()
            if isinstance(arrivals, Plain):
                count, are_any = self._count_plain(arrivals.events), bool(arrivals.events)
            else:
                count, are_any = self._count(arrivals), bool(arrivals)
            if count or not are_any:
                return count
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s + LOOK_LEAST_S, LOOK_MOST_S)

    def _check_open(self) -> None:
        """Raise why nothing comes in, if so."""
        if self._bus.phase != "running":
            raise BusClosed(f"the bus is {self._bus.phase}, so nothing is imported")
        if self._bus.fenced is not None:
            raise self._bus.fenced

    def _count(self, arrivals: Sequence[Arrival]) -> int:
        """Return how many of the next events there is room for."""
        left: dict[tuple[str, type, object], int] = {}
        for index, (event, entry, _) in enumerate(arrivals):
            if entry.lane == "control" or type(event) is Undecodable:
                continue
            key = entry.lane, type(event), event.event_type
            if key not in left:
                left[key] = self._left(event, is_high=entry.lane == "high")
            if left[key] <= 0:
                return index
            left[key] -= 1
        return len(arrivals)

    def _count_plain(self, events: list[Any]) -> int:
        """Return the same for events of which each class has one type."""
        if len(set(map(type, events))) == 1:
            return min(len(events), max(0, self._left(events[0], is_high=False)))
        examples = {type(event): event for event in events}
        left = {cls: self._left(event, is_high=False) for cls, event in examples.items()}
        for index, event in enumerate(events):
            left[type(event)] -= 1
            if left[type(event)] < 0:
                return index
        return len(events)

    def _left(self, event: Any, *, is_high: bool) -> int:
        """Return how many events like this one there is room for: as many as nobody here would notice."""
        pressure = self._bus.pressure
        _, depth = self._room.met_now(event, is_kept=True)
        return (pressure.capacity if is_high else pressure.rise[1]) - depth

    # -- staging ------------------------------------------------------------------------------------

    def _stage(self, arrivals: Sequence[Arrival]) -> tuple[Commit, int]:
        """Take events into the next commit; return it, and how many of them are not in it."""
        store, known = self._slot.store, 0
        assert store is not None, "a desk with a link has a journal"
        if store.commits.dead is not None:
            raise store.commits.dead
        commit = store.commits.ask()
        for event, entry, then in arrivals:
            if entry.lane == "control":
                known += self._take_kill_switch(event, entry, commit)
            elif type(event) is Undecodable:
                self._stage_unreadable(store, event, entry)
            elif event.event_id in self._bus.seen and not store.knows(event.event_id):
                store.raise_level(event, entry.level, entry)
            else:
                self._note(event, entry)
                store.commits.stage_entry(event, entry, then)
        return commit, known

    def _stage_plain(self, events: list[Any], entries: Carried) -> tuple[Commit, int]:
        """Do the same with plain ones."""
        seen, store = self._bus.seen, self._slot.store
        assert store is not None, "a desk with a link has a journal"
        ids = entries.ids
        if store.commits.dead is not None or not seen.are_new(ids):
            return self._stage(list(map(Arrival, events, entries)))
        return store.commits.stage_carried(events, entries), 0

    def _take_kill_switch(self, event: Any, entry: Entry, commit: Commit) -> bool:
        """Let a kill switch in, which is delivered at once; return True if it is not in this commit."""
        count = len(commit.ids)
        self._kill_switches.take_in(event, entry)
        return len(commit.ids) == count

    def _note(self, event: Any, entry: Entry) -> None:
        """Note what stands beside a user's own event, as for one that is published here."""
        header = entry.header
        if header is not None and header.causation_id is not None and not isinstance(event, Event):
            correlation_id = header.correlation_id or header.causation_id
            cause = Cause(header.causation_id, correlation_id, header.round_id, self._bus.clock.now_ns())
            self._bus.envelopes.put(event.event_id, cause)

    def _stage_unreadable(self, store: Store, event: Undecodable, entry: Entry) -> None:
        """Have an entry written that nobody can be handed: those who take its type read it, and say so."""
        event_type = event.event_type

        def takers() -> list[Subscription]:
            return [
                s
                for s in self._bus.router
                if s.offsets is not None and selects(s.selectors, object, event_type)
            ]

        def leave_in_journal() -> None:
            for subscription in takers():
                assert subscription.offsets is not None, "only durable ones are asked"
                offsets = subscription.offsets.by_lane[entry.lane]
                if not offsets.behind:
                    store.fall_behind(subscription, offsets)

        def read_on(_position: int) -> None:
            for subscription in takers():
                subscription.read_on()
                subscription.wake_all()

        store.commits.stage_raised(event, entry, leave_in_journal, read_on)


def _duplicates(commit: Commit, entries: Sequence[Entry]) -> int:
    """Return how many of these, which are in a commit, the journal had already."""
    written = commit.written
    if written is None or not written.duplicates:
        return 0
    ids = {entry.event_id for entry in entries}
    return sum(commit.ids[duplicate.index] in ids for duplicate in written.duplicates)
