"""Commits: durable events are staged, written in one commit per turn of the loop, and only then released.

```
  admission ──▶ group ──(next turn)──▶ write ──▶ sync, if any event asks for `disk` ──▶ release to the mailboxes
             ▲                                                                └──▶ wake the publishers
             └── everybody who publishes in the same turn, or while a sync goes on
```

A publisher that was woken knows that its event survives; no handler has seen an event that does not. What a
refused commit held was never admitted: it is forgotten, so that publishing it again is a fresh attempt.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import perf_counter_ns
from typing import Any, Protocol

from openoutcry.errors import JournalDead, JournalError
from openoutcry.ports import Changes, Entry, Journal, Level, Step
from openoutcry.runtime.delivery.dispatcher import Dispatcher
from openoutcry.runtime.delivery.state import BusState, guarded
from openoutcry.runtime.durability.groups import Group, Then

log = logging.getLogger("openoutcry")

SYNC_INLINE_NS = 2_000_000
"""A disk that takes longer than this for a sync is waited for in a thread."""


@dataclass(frozen=True, slots=True)
class Ready:
    """Changes to save with the next commit, and whom to tell when they are saved, or are not."""

    changes: Changes
    saved: Callable[[], None]
    undo: Callable[[], None]


class CommitExtras(Protocol):
    """Who knows what is to be saved beside events."""

    def ready(self) -> Ready | None:
        """Return what is to be saved now, or None."""
        ...

    def died(self, error: JournalError) -> None:
        """Note that the journal takes nothing more."""
        ...

    def conflict(self, event: Any, position: int) -> None:
        """Note that an event has the id of another one with different content."""
        ...


class Committer:
    """Writes groups of events, one at a time, and releases what has reached its level.

    Attributes:
        released: Everything up to this position has been released.
        waiting: Ordinary and high-priority events that are staged or written and not released.
        dead: The error that ended the journal, if one did.
        refused: Why the last commit was refused, if it was.
        duplicates: Events that were in the journal already.

    """

    def __init__(
        self, bus: BusState, dispatcher: Dispatcher, journal: Journal, store: CommitExtras, sync: str
    ) -> None:
        self._bus = bus
        self._dispatcher = dispatcher
        self._journal = journal
        self._store = store
        self._sync = sync
        self._sync_ns = 0
        self._group: Group | None = None
        self._unfinished: list[Group] = []
        self._syncing: tuple[Group, Step] | None = None
        self._thread: ThreadPoolExecutor | None = None
        self._scheduled = False
        self._held_back = 0
        self.released = self.born_at = journal.head
        self.waiting = 0
        self.dead: JournalError | None = None
        self.refused: JournalError | None = None
        self.duplicates = 0

    # -- staging ------------------------------------------------------------------------------------

    def pending(self, event_id: str) -> tuple[Group, int] | None:
        """Return the group and the index of an event that waits for its commit."""
        for group in self._unfinished:
            index = group.index_of(event_id)
            if index is not None:
                return group, index
        return None

    def pending_ids(self) -> list[str]:
        """Return the ids of everything that waits for its commit."""
        return [event_id for group in self._unfinished for event_id in group.ids]

    @property
    def began_ns(self) -> int | None:
        """When the oldest group that waits for its commit was begun; None when none waits."""
        if self._syncing is not None:
            return self._syncing[0].began_ns
        return None if self._group is None else self._group.began_ns

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits for a commit."""
        return self._group is None and self._syncing is None

    def stage(self, event: Any, entry: Entry, then: Then | None = None, *, gates: bool = True) -> Group:
        """Take an event into the next commit. `then` is called with its position when it is released."""
        group = self._open_group()
        index = group.add(event, entry)
        if then is not None:
            group.thens[index] = then
        self.waiting += gates
        return group

    def stage_alike(
        self, events: list[Any], ids: list[str], payloads: list[bytes], level: Level
    ) -> Group | None:
        """Take ordinary events into the next commit. None where the journal is dead."""
        if self.dead is not None:
            return None
        group = self._group or self._open_group()
        group.add_alike(events, ids, payloads, level)
        self.waiting += len(events)
        return group

    def stage_one(
        self, event: Any, event_id: str, payload: bytes, level: Level, lane: str, then: Then | None = None
    ) -> Group | None:
        """Take one event into the next commit, as `stage` does. None where the journal is dead."""
        if self.dead is not None:
            return None
        group = self._group or self._open_group()
        if lane != "normal":
            group.add(event, Entry(event_id, payload, lane, level, group.wall_ns))
        elif group.entries is None and (group.level is level or not group.ids):
            group.level = level
            group.events.append(event)
            group.ids.append(event_id)
            group.payloads.append(payload)
        else:
            group.add_alike([event], [event_id], [payload], level)
        if then is not None:
            group.thens[len(group.events) - 1] = then
        self.waiting += 1
        return group

    def _open_group(self) -> Group:
        group = self._group
        if group is None:
            clock = self._bus.clock
            group = self._group = Group(clock.now_ns(), clock.wall_ns())
            self._unfinished.append(group)
        if not self._scheduled and self._syncing is None:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._turn)
        return group

    def wall_ns(self) -> int:
        """Return the time that the entries of the open group carry."""
        return self._open_group().wall_ns

    def ask(self, *, sync: bool = False) -> Group:
        """Return a group that is committed soon, with whatever is to be saved; and synced, if asked for."""
        group = self._open_group()
        group.must_sync = group.must_sync or sync
        return group

    # -- committing ---------------------------------------------------------------------------------

    def hold_back(self) -> Callable[[], None]:
        """Commit nothing until the function that is returned is called: the journal is being tidied up."""
        self._held_back += 1

        def go_on() -> None:
            self._held_back -= 1
            if not self._scheduled:
                self._turn()

        return go_on

    def note_error(self, error: JournalError) -> None:
        """Something else than a commit went wrong with the journal."""
        if isinstance(error, JournalDead):
            self._died(error)

    def _turn(self) -> None:
        self._scheduled = False
        if self._syncing is None and self._group is not None and not self._held_back:
            self._commit(inline=False)

    def commit_now(self) -> None:
        """Commit and release, here and now, whatever is staged."""
        if self._syncing is not None:
            group, _ = self._syncing
            self._syncing = None
            self._sync_inline(group)
        if self._group is not None:
            self._commit(inline=True)

    def _commit(self, *, inline: bool) -> None:
        group, self._group = self._group, None
        assert group is not None
        if self.dead is not None:
            self._fail(group, self.dead)
            return
        ready = None
        try:
            ready = self._store.ready()
            written = self._journal.write(group.to_write(), None if ready is None else ready.changes)
        except Exception as error:  # noqa: BLE001 - an adapter of somebody's: whoever waits must be told
            if ready is not None:
                ready.undo()
            self._fail(group, _as_journal_error(error))
            return
        group.written = written
        group.head = self._journal.head
        if ready is not None:
            ready.saved()
        if not (written.wants_sync or group.must_sync):
            self._release(group)
        elif inline or self._sync == "inline" or (self._sync == "auto" and self._sync_ns < SYNC_INLINE_NS):
            self._sync_inline(group)
        else:
            self._sync_in_thread(group)

    def _sync_inline(self, group: Group) -> None:
        began_ns = perf_counter_ns()
        try:
            self._journal.sync()
        except Exception as error:  # noqa: BLE001 - as above
            self._fail(group, _as_journal_error(error))
            return
        self._note_sync(perf_counter_ns() - began_ns)
        self._release(group)

    def _note_sync(self, took_ns: int) -> None:
        # The usual time, not the worst: a disk that hiccups once is not slow.
        self._sync_ns += (took_ns - self._sync_ns) // 8

    def _sync_in_thread(self, group: Group) -> None:
        loop = asyncio.get_running_loop()
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "openoutcry-sync")
        step = self._journal.begin_sync()
        began_ns = perf_counter_ns()
        self._syncing = (group, step)
        future = loop.run_in_executor(self._thread, step.perform)
        future.add_done_callback(lambda _: self._thread_synced(step, began_ns))

    def _thread_synced(self, step: Step, began_ns: int) -> None:
        group = None
        if self._syncing is not None and self._syncing[1] is step:
            group, self._syncing = self._syncing[0], None
        try:
            self._journal.end_sync(step)
        except JournalError as error:
            if group is not None:
                self._fail(group, error)
            elif isinstance(error, JournalDead):
                self._died(error)
        else:
            self._note_sync(perf_counter_ns() - began_ns)
            if group is not None:
                self._release(group)
        if self._group is not None and not self._scheduled:
            self._turn()

    # -- the end of a group -------------------------------------------------------------------------

    def _died(self, error: JournalError) -> None:
        if self.dead is None:
            self.dead = error
            self._store.died(error)

    def _fail(self, group: Group, error: JournalError) -> None:
        """Nothing of the group was admitted: forget its ids, so that publishing again is a new attempt."""
        if group.written is not None and not isinstance(error, JournalDead):
            error = JournalDead(f"a sync failed, so nobody knows what is on the disk: {error}")
        if isinstance(error, JournalDead):
            self._died(error)
        group.error = self.refused = error
        seen = self._bus.seen
        self._unfinished.remove(group)
        for entry in group.to_write():
            if entry.lane != "control":  # a kill switch was delivered, whatever the journal says
                self.waiting -= 1
                seen.now.discard(entry.event_id)
                seen.before.discard(entry.event_id)
        # (What was written and is not known to be on the disk is not released: nobody is handed it here, not
        # even by reading on from the journal, but perhaps by the next life.)
        self._bus.on_drained(None)
        group.wake()

    def _release(self, group: Group) -> None:
        assert group.written is not None
        self.refused = None
        self._unfinished.remove(group)
        positions = group.written.positions
        if group.events:
            duplicates = self._note_duplicates(group) if group.written.duplicates else frozenset()
            if group.entries is None and not duplicates:
                self.waiting -= len(group.events)
                self._dispatcher.release(group.events, positions, group.began_ns)
            else:
                self._deliver(group, positions, duplicates)
            self.released = max(self.released, group.head)
            for index, then in group.thens.items():
                if positions[index] <= self.born_at or index not in duplicates:
                    guarded(then, positions[index])
        group.wake()

    def _note_duplicates(self, group: Group) -> frozenset[int]:
        assert group.written is not None
        found = group.written.duplicates
        self.duplicates += len(found)
        for duplicate in found:
            if not duplicate.same:
                self._store.conflict(group.events[duplicate.index], duplicate.position)
        return frozenset(duplicate.index for duplicate in found)

    def _deliver(self, group: Group, positions: Sequence[int], duplicates: frozenset[int]) -> None:
        events, places = [], []
        for index, entry in enumerate(group.to_write()):
            if entry.lane == "control":
                continue
            self.waiting -= 1
            if index in duplicates:
                continue
            if entry.lane == "high":
                self._dispatcher.release_high(group.events[index], positions[index])
            else:
                events.append(group.events[index])
                places.append(positions[index])
        if events:
            placed = positions if len(events) == len(positions) else places
            self._dispatcher.release(events, placed, group.began_ns)

    def hand_in(self, journal: Journal) -> None:
        """Go on with a stand-in for the journal, which was closed."""
        self._journal = journal

    def close(self) -> None:
        """End the thread that syncs, if there is one."""
        if self._thread is not None:
            self._thread.shutdown(wait=True)
            self._thread = None


def _as_journal_error(error: Exception) -> JournalError:
    """Return the error itself or, where a journal raised something else, that the journal is dead."""
    if isinstance(error, JournalError):
        return error
    dead = JournalDead(
        f"the journal failed in a way that it does not know itself: {error!r}; see to its adapter"
    )
    dead.__cause__ = error
    return dead
