"""Commits: durable events are staged, written in one commit per turn of the loop, and only then released.

```
  admission ──▶ commit ──(next turn)──▶ write ──▶ sync, if an event asks for it ──▶ release to the mailboxes
             ▲                                                             └──▶ wake the publishers
             └── everybody who publishes in the same turn, or while a sync goes on
```

Where another program has locked the file, the commit is put off: it is tried again some milliseconds later,
for at most `LOCK_WAIT_S`, while publishers wait and the loop runs on.

A publisher that is woken knows that its event survives; no handler has seen an event that does not. What was
in a refused commit was never admitted: its ids are forgotten, so that publishing it again is a new attempt.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context
from time import perf_counter_ns
from typing import Any

from openoutcry.errors import JournalDead, JournalError, JournalLocked
from openoutcry.ports import Carried, DiskTask, Entry, FileJournal, Header, Journal, Level, Written
from openoutcry.runtime.delivery.dispatcher import Dispatcher
from openoutcry.runtime.delivery.state import BusState
from openoutcry.runtime.durability.commit import Commit, Then
from openoutcry.runtime.durability.commit_extras import CommitExtras, Extras
from openoutcry.runtime.durability.commit_records import CommitRecords
from openoutcry.runtime.durability.lock_wait import LockWait
from openoutcry.runtime.durability.sync_times import SyncTimes
from openoutcry.runtime.ownership import running_loop

log = logging.getLogger("openoutcry")

SYNC_INLINE_NS = 2_000_000
"""A disk that takes longer than this for a sync is waited for in a thread."""
NEVER = 2**63
"""A position that is never reached, and a time that never comes."""


class Committer:
    """Writes one commit at a time, and releases what has reached its level.

    `_commit` writes it and chooses where it is synced: on the loop (`_sync_inline`) or in a thread
    (`_sync_in_thread`). `_release` then hands it to the dispatcher.

    Attributes:
        released: Everything up to this position has been released.
        born_at: The journal's head when this committer was made.
        waiting: Ordinary and high-priority events that are staged or written and not released.
        dead: The error that ended the journal, if one did.
        refused: Why the last commit was refused, if it was.
        duplicates: Events that were in the journal already.
        commits: How many commits were written.
        syncs: How many times the journal was synced for one, and how long it took.

    """

    def __init__(
        self,
        bus: BusState,
        dispatcher: Dispatcher,
        journal: Journal,
        extras: CommitExtras,
        records: CommitRecords,
        sync: str,
    ) -> None:
        self._bus = bus
        self._dispatcher = dispatcher
        self._journal = journal
        self._file = journal if isinstance(journal, FileJournal) else None
        self._extras = extras
        self._records = records
        self._extras_at = NEVER
        self._look_after_ns = 0
        self._sync = sync
        self._sync_ns = 0
        self._open: Commit | None = None
        self._unfinished: list[Commit] = []
        self._syncing: tuple[Commit, DiskTask] | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._scheduled = self._is_disk_busy = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._few, self._held_back = bus.pressure.rise[0] // 2, 0
        self._is_last, self._here_from_ns = False, 0
        self._late = LockWait[tuple[Commit, Extras | None]](bus, journal, self._commit)
        self.released: int = journal.head
        self.born_at: int = journal.head
        self.dead: JournalError | None = None
        self.refused: JournalError | None = None
        self.waiting: int = 0
        self.duplicates: int = 0
        self.commits: int = 0
        self.syncs: SyncTimes = SyncTimes()

    # -- staging ------------------------------------------------------------------------------------

    def pending(self, event_id: str) -> tuple[Commit, int] | None:
        """Return the commit that an event waits for and its index in it; None if it waits for none."""
        for commit in self._unfinished:
            if (index := commit.index_of(event_id)) is not None:
                return commit, index
        return None

    def pending_ids(self) -> list[str]:
        """Return the ids of everything that waits for its commit."""
        return [event_id for commit in self._unfinished for event_id in commit.ids]

    def delivered(self) -> list[tuple[Any, list[int]]]:
        """Return the kill switches that were delivered and wait for their commit, as `Commit.delivered`."""
        return [item for commit in self._unfinished for item in commit.delivered]

    @property
    def began_ns(self) -> int | None:
        """When the oldest commit that is not over was begun; None if there is none."""
        under_way = self._syncing or self._late.item
        if under_way is not None:
            return under_way[0].began_ns
        return None if self._open is None else self._open.began_ns

    @property
    def locked(self) -> JournalLocked | None:
        """Why a commit is put off now; None if none is."""
        return self._late.error

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits for a commit."""
        return self._open is None and self._syncing is None and self._late.item is None

    def stage(
        self, event: Any, payload: bytes, lane: str, level: Level, header: Header | None, then: Then | None
    ) -> Commit:
        """Take an event into the next commit. `then` is called with its position when it is released."""
        commit = self._begin() if self._open is None else self._open
        entry = Entry(event.event_id, payload, lane, level, commit.wall_ns, header)
        return self.stage_entry(event, entry, then)

    def stage_entry(self, event: Any, entry: Entry, then: Then | None) -> Commit:
        """Take an event of which the entry was made before into the next commit, as `stage` does."""
        commit = self._begin() if self._open is None else self._open
        commit.add(event, entry)
        if then is not None:
            commit.thens[len(commit.ids) - 1] = then
        self.waiting += entry.lane != "control"
        return commit

    def stage_carried(self, events: list[Any], carried: Carried) -> Commit:
        """Take events of the normal lane that another desk has made into the next commit."""
        commit = self._begin() if self._open is None else self._open
        commit.add_carried(events, carried)
        self.waiting += len(events)
        return commit

    def stage_raised(self, event: Any, entry: Entry, before: Callable[[], None], then: Then) -> Commit:
        """Take an event that was delivered from memory into the next commit: it is written, and that is all.

        `before` is called before anything of the commit is released. `then` is called with its position, and
        what it has saved is saved before the commit is over.
        """
        commit = self._begin() if self._open is None else self._open
        commit.raised[len(commit.ids)] = before
        commit.thens[len(commit.ids)] = then
        commit.add(event, entry)
        return commit

    def stage_alike(
        self, events: list[Any], ids: list[str], payloads: list[bytes], level: Level
    ) -> Commit | None:
        """Take ordinary events into the next commit. None if the journal is dead."""
        if self.dead is not None:
            return None
        commit = self._begin() if self._open is None else self._open
        commit.add_alike(events, ids, payloads, level)
        self.waiting += len(events)
        return commit

    def stage_one(
        self, event: Any, event_id: str, payload: bytes, level: Level, lane: str, then: Then | None = None
    ) -> Commit | None:
        """Take one event into the next commit, as `stage` does. None if the journal is dead."""
        if self.dead is not None:
            return None
        commit = self._begin() if self._open is None else self._open
        if lane != "normal":
            commit.add(event, Entry(event_id, payload, lane, level, commit.wall_ns))
        elif commit.entries is None and (commit.level is level or not commit.ids):
            commit.level = level
            commit.events.append(event)
            commit.ids.append(event_id)
            commit.payloads.append(payload)
        else:
            commit.add_alike([event], [event_id], [payload], level)
        if then is not None:
            commit.thens[len(commit.ids) - 1] = then
        self.waiting += 1
        return commit

    def _begin(self) -> Commit:
        """Begin a commit, to be written in the next turn of the loop or when the current sync is over."""
        if not self._scheduled and self._syncing is None:
            self._schedule()
        clock = self._bus.clock
        commit = self._open = Commit(clock.now_ns(), clock.wall_ns())
        self._unfinished.append(commit)
        return commit

    def _schedule(self) -> None:
        """Commit in the next turn of the loop; without one, before the start, whoever stages commits."""
        loop = self._loop = running_loop() or (self._bus.loop if self._bus.running else None)
        if loop is not None:
            loop.call_soon(self._commit)
            self._scheduled = True

    def move_here(self) -> None:
        """Before the start: go on, on the running loop, with what another one has left undone.

        That loop may be closed, or gone on to something else: what it was to commit, or to sync in a thread,
        would never be over.
        """
        if running_loop() is self._loop:
            return
        if self._syncing is not None:
            (commit, _), self._syncing = self._syncing, None
            self._sync_inline(commit)
        self._scheduled = False
        if self._open is not None or self._late.item is not None:
            self._schedule()

    def ask(self, *, sync: bool = False) -> Commit:
        """Return a commit that is written soon, with whatever is to be saved; `sync`: and synced."""
        commit = self._begin() if self._open is None else self._open
        commit.must_sync = commit.must_sync or sync
        return commit

    # -- what is asked of the store, and when ----------------------------------------------------------

    def bring_extras(self, from_position: int = 0) -> None:
        """Have the first commit after this position was released bring extras along; by default the next."""
        self._extras_at = min(self._extras_at, from_position)

    def look_after(self, from_ns: int = 0) -> None:
        """Have commits that begin at this time or later look after the files; by default the next."""
        self._look_after_ns = from_ns

    # -- committing ---------------------------------------------------------------------------------

    def hold_back(self) -> Callable[[], None]:
        """Commit nothing until the function that is returned is called: the journal is being tidied up."""
        self._held_back += 1

        def go_on() -> None:
            self._held_back -= 1
            if not self._scheduled:
                self._commit()

        return go_on

    def note_disk(self, *, is_busy: bool) -> None:
        """Somebody else is waiting for the disk: who waits for their turn does so in a thread."""
        self._is_disk_busy = is_busy

    def refuse(self, error: JournalError) -> None:
        """Accept nothing more, without telling anybody that the journal has died."""
        self.dead = self.dead or error

    def give_up(self, error: JournalError) -> None:
        """Accept nothing more, and tell everybody who waits for a commit."""
        self.refuse(error)
        self._open = self._syncing = None
        self._late.give_up()
        for commit in list(self._unfinished):
            self._fail(commit, error)

    def note_error(self, error: JournalError) -> None:
        """Something else than a commit went wrong with the journal."""
        if isinstance(error, JournalDead):
            self._died(error)

    def commit_now(self, *, at_last: bool = False) -> None:
        """Commit and release, here and now, whatever is staged.

        Where another program has locked the file it is put off after a moment; `at_last`: it is refused.
        """
        self._is_last, self._here_from_ns = at_last, perf_counter_ns()
        if self._syncing is not None:
            (commit, _), self._syncing = self._syncing, None
            self._sync_inline(commit)
        if self._late.item is not None:
            self._commit_here()
        last = self._open
        if self._late.item is None:
            self._commit_here()
        if last is not None and last.raised:
            self._commit_here()  # who has settled what was raised

    def _commit_here(self) -> None:
        """Write, sync and release here; where another program has locked the file, try it for a moment."""
        self._commit(now=True)
        while self._late.is_pausing:
            self._commit(now=True)

    def _commit(self, *, now: bool = False) -> None:  # noqa: C901 - what is done for every commit is written out
        """Write what is staged, sync it if that is asked for, and release it. `now`: wait for nothing."""
        self._scheduled = False
        late = self._late.item
        commit = self._open if late is None else late[0]
        if commit is None or (not now and (self._syncing is not None or self._held_back)):
            return
        extras = None
        if late is None:
            self._open = None
        else:
            self._late.take()
            extras = late[1]
        if self.dead is not None:
            self._refused(commit, extras, self.dead, now=now)
            return
        try:
            if commit.began_ns >= self._look_after_ns or self.released >= self._extras_at:
                extras = self._prepare(commit, extras)
            records, own = self._records, commit if commit.entries is None else commit.entries
            takes = records.are_due or commit.must_sync or own is not commit or commit.level is Level.DISK
            if records.tape is not None:
                records.write_beside()
            takes = takes and (records.recorder.has_any or records.tape is not None)
            entries = records.entries_with(commit, own) if takes else own
            changes = None if extras is None else extras.changes
            changes = commit.changes_with(changes) if commit.snapshots else changes
            written = self._journal.write(entries, changes)
        except Exception as error:  # noqa: BLE001 - a user's adapter: the publishers must be told
            self._refused(commit, extras, error, now=now)
            return
        self.commits += 1
        commit.written = written if commit.records is None else commit.records.written_beside(written)
        commit.head = self._journal.head
        if extras is not None:
            extras.saved()
        if not (written.wants_sync or commit.must_sync):
            self._release(commit)
        elif now or self._syncs_inline:
            self._sync_inline(commit)
        else:
            self._sync_in_thread(commit)
        if late is not None:
            self._late.over()
            self._go_on()

    def _prepare(self, commit: Commit, extras: Extras | None) -> Extras | None:
        """Look after the files, if it is time, and return what a commit is to bring along."""
        if commit.began_ns >= self._look_after_ns:
            self._extras.look_after()
        if extras is not None or self.released < self._extras_at:
            return extras
        self._extras_at = NEVER
        return self._extras.take()

    def _refused(self, commit: Commit, extras: Extras | None, error: Exception, *, now: bool) -> None:
        """A commit was not written: put it off if another program has locked the file, or else fail it."""
        self._records.refused(commit)
        if isinstance(error, JournalLocked):
            if now and self._late.pause((commit, extras), self._here_from_ns):
                return
            is_last = now and self._is_last
            if not is_last and self._late.keep((commit, extras), commit.began_ns, error):
                self._loop, self._scheduled = running_loop(), True
                return
            error = self._late.named(error)
        else:
            self._late.over()
        if extras is not None:
            extras.refused()
        self._fail(commit, _as_journal_error(error))
        self._go_on()

    def withdraw(self, commit: Commit, event_id: str) -> JournalError:
        """Take out the newest event of a commit that was put off: nobody waits for it. Return why."""
        assert commit.ids[-1] == event_id, "it was staged last, and nothing was staged since"
        if not commit.withdraw():
            self.waiting -= 1
            self._bus.seen.discard(event_id)
            self._dispatcher.drained(None)
        assert self.locked is not None, "that is why it is put off"
        return self.locked

    def _go_on(self) -> None:
        """Commit what was staged behind a commit that was put off."""
        if self._open is not None and not self._scheduled and self._syncing is None:
            self._schedule()

    @property
    def _syncs_inline(self) -> bool:
        is_short = self._sync_ns < SYNC_INLINE_NS and not self._is_disk_busy
        return self._sync == "inline" or (self._sync == "auto" and is_short)

    def sync_in_thread(self) -> None:
        """Wait for the disk in a thread from now on, unless the settings say `inline`."""
        if self._sync == "auto":
            self._sync = "thread"

    def _sync_inline(self, commit: Commit) -> None:
        began_ns = perf_counter_ns()
        try:
            self._journal.sync()
        except Exception as error:  # noqa: BLE001 - as above
            self._fail(commit, _as_journal_error(error))
            return
        self._note_sync(perf_counter_ns() - began_ns)
        self._release(commit)

    def _note_sync(self, took_ns: int) -> None:
        self._sync_ns += (took_ns - self._sync_ns) // 8  # a disk that hiccups once is not slow
        self.syncs.note(took_ns)

    def _sync_in_thread(self, commit: Commit) -> None:
        loop = self._loop = asyncio.get_running_loop()
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, "openoutcry-sync")
        task = self._journal.begin_sync()
        began_ns = perf_counter_ns()
        self._syncing = (commit, task)
        future = Context().run(loop.run_in_executor, self._pool, task.perform)  # on no handler's behalf
        future.add_done_callback(lambda _: self._thread_synced(task, began_ns))

    def _thread_synced(self, task: DiskTask, began_ns: int) -> None:
        commit = None
        if self._syncing is not None and self._syncing[1] is task:
            commit, self._syncing = self._syncing[0], None
        try:
            self._journal.end_sync(task)
        except JournalError as error:
            if commit is not None:
                self._fail(commit, error)
            elif isinstance(error, JournalDead):
                self._died(error)
        else:
            self._note_sync(perf_counter_ns() - began_ns)
            if commit is not None:
                self._release(commit)
        if not self._scheduled:
            self._commit()

    # -- the end of a commit ------------------------------------------------------------------------

    def _died(self, error: JournalError) -> None:
        if self.dead is None:
            self.dead = error
            self._extras.died(error)

    def _fail(self, commit: Commit, error: JournalError) -> None:
        """Nothing of the commit was admitted: forget its ids, so that publishing again is a new attempt."""
        if commit.written is not None and not isinstance(error, JournalDead):
            error = JournalDead(f"a sync failed, so nobody knows what is on the disk: {error}")
        if isinstance(error, JournalDead):
            self._died(error)
        commit.error = self.refused = error
        seen = self._bus.seen
        self._unfinished.remove(commit)
        for index, entry in enumerate(commit if commit.entries is None else commit.entries):
            # (A kill switch was delivered, whatever the journal says, and so was what is raised.)
            if entry.lane != "control" and index not in commit.raised:
                self.waiting -= 1
                seen.discard(entry.event_id)
        # (What was written and may not be on the disk is not released: nobody is handed it here, not even by
        # reading on from the journal, but perhaps by the next life.)
        self._dispatcher.drained(None)
        commit.wake()

    def _release(self, commit: Commit) -> None:
        written = commit.written
        assert written is not None
        self.refused = None
        events, positions = commit.events, written.positions
        duplicates = self._note_duplicates(commit, written) if written.duplicates else frozenset()
        if commit.is_mixed or duplicates or commit.raised:
            self._deliver(commit, positions, duplicates)
        elif events:
            self.waiting -= len(events)
            self._dispatcher.release(events, positions, commit.began_ns)
        commit.is_crowded = self._bus.pressured or len(events) > self._few
        if commit.records is not None:
            self._records.hand_out(commit.records, commit.began_ns)
        if events or commit.records is not None:
            self.released = max(self.released, commit.head)
            for call in self._bus.on_released:
                call(self.released, commit.entries is None, commit.imported == len(events))
        if commit.thens:
            self._follow(commit, positions, duplicates)
        self._unfinished.remove(commit)
        if commit.raised:
            self._wake_later(commit)
        else:
            commit.wake()
        if self._file is not None and self._file.is_log_due:
            self._extras.log_is_due()

    def _follow(self, commit: Commit, positions: Sequence[int], duplicates: frozenset[int]) -> None:
        """Call what is to follow the release of its events."""
        for index, then in commit.thens.items():
            if positions[index] <= self.born_at or index not in duplicates:
                try:
                    then(positions[index])
                except Exception:  # a vote or a kill switch is not to keep others from their release
                    log.exception("what was to follow the release of %s failed", commit.ids[index])

    def _wake_later(self, commit: Commit) -> None:
        """Let publishers go on when it is saved who has settled what was raised: no crash undoes it."""
        assert commit.written is not None, "it was released"
        commit.is_over = True
        saved = self.ask(sync=commit.must_sync or commit.written.wants_sync)
        self.bring_extras()
        saved.on_done.append(commit.wake)

    def _note_duplicates(self, commit: Commit, written: Written) -> frozenset[int]:
        found = written.duplicates
        self.duplicates += len(found)
        for duplicate in found:
            if not duplicate.same:
                self._extras.conflict(commit.events[duplicate.index], duplicate.position)
        return frozenset(duplicate.index for duplicate in found)

    def _deliver(self, commit: Commit, positions: Sequence[int], duplicates: frozenset[int]) -> None:
        """Hand out events of several lanes, or beside duplicates: urgent ones one by one."""
        for before in commit.raised.values():
            before()
        events, places = [], []
        for index, entry in enumerate(commit if commit.entries is None else commit.entries):
            if entry.lane == "control" or index in commit.raised:
                continue
            self.waiting -= 1
            if index in duplicates:
                continue
            if entry.lane == "high":
                self._dispatcher.release_high(commit.events[index], positions[index])
            else:
                events.append(commit.events[index])
                places.append(positions[index])
        if events:
            placed = positions if len(events) == len(positions) else places
            self._dispatcher.release(events, placed, commit.began_ns)

    def close(self, *, waits: bool = True) -> None:
        """End the thread that syncs, if there is one; `waits` for a sync that it is making."""
        self._late.give_up()
        if self._pool is not None:
            self._pool.shutdown(wait=waits)
            self._pool = None


def _as_journal_error(error: Exception) -> JournalError:
    """Return the error itself or, if a journal raised something else, that the journal is dead."""
    if isinstance(error, JournalError):
        return error
    text = f"the journal failed in a way that it does not know itself: {error!r}; see to its adapter"
    dead = JournalDead(text)
    dead.__cause__ = error
    return dead
