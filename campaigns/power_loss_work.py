"""A seeded workload on a journal, which tells the truth beside it what it does and what it was told."""

import json
import random
from collections.abc import Callable, Generator
from functools import partial
from typing import Final, NamedTuple, NoReturn, TypeVar

from campaigns.power_loss_disk import Killed, SimulatedDisk
from campaigns.power_loss_truth import SUBSCRIPTIONS, Broken, Truth
from openoutcry.errors import JournalDead, JournalFull
from openoutcry.journals import JournalReader, SqliteJournal
from openoutcry.ports import (
    BuriedEvent,
    Changes,
    CheckpointStep,
    CursorState,
    DiskTask,
    Entry,
    Level,
    Snapshot,
    Suspect,
)

LANE: Final = "normal"
WAL_MAX_BYTES: Final = 256 * 1024

T = TypeVar("T")


class Stopped(Exception):
    """The journal has ended its generation, as it should after an error of the disk."""


class Bugs(NamedTuple):
    """Bugs that are planted in the workload instead of the journal."""

    cursor_before_work: bool = False


class Worker:
    """One life of a process that writes to a journal."""

    def __init__(
        self, journal: SqliteJournal, truth: Truth, disk: SimulatedDisk, rng: random.Random, bugs: Bugs
    ) -> None:
        self.journal = journal
        self.truth = truth
        self._disk = disk
        self._rng = rng
        self._bugs = bugs
        self._cells: dict[int, str] = {}
        self._ids = 0
        self._reading: Generator[object, None, None] | None = None
        self._reader: JournalReader | None = None
        self.in_flight: dict[int, tuple[str, str, int]] = {}

    def work(self, steps: int) -> None:
        """Do some steps. Raises `Stopped` when the journal is dead."""
        actions = {
            self.publish: 10,
            self.publish_and_sync: 8,
            self.sync_elsewhere: 4,
            self.sync_beside_checkpoint: 6,
            self.repeat: 3,
            self.settle: 6,
            self.bury: 2,
            self.call: 6,
            self.retire: 1,
            self.vacuum: 1,
            self.idle: 3,
            self.read_on: 1,
        }
        for action in self._rng.choices(list(actions), list(actions.values()), k=steps):
            action()
            if self._disk.frozen:
                return
            if self.journal.head != self.truth.state.head:
                raise Broken(f"the head is {self.journal.head}, and {self.truth.state.head} was acknowledged")
            self.truth.synced_head(self.journal.synced)

    # What a journal is asked for

    def publish(self) -> bool:
        """Write some entries, perhaps with changes, and return whether a sync is wanted."""
        entries = [self._entry() for _ in range(self._rng.choice((1, 1, 2, 3, 8, 40)))]
        return self._commit(entries, self._settling() if self._rng.random() < 0.3 else None)

    def publish_and_sync(self) -> None:
        """Write some entries and acknowledge them at `disk`."""
        wanted = self.publish()
        if wanted or self._rng.random() < 0.2:
            self.sync()

    def sync(self) -> None:
        """Sync, and hold the journal to it."""
        upto = len(self.truth.states) - 1
        self._or_dead(self.journal.sync)
        self.truth.synced(upto)

    def sync_elsewhere(self) -> None:
        """Sync in three steps, with commits in between, as a runtime does."""
        upto = len(self.truth.states) - 1
        step = self.journal.begin_sync()
        for _ in range(self._rng.randrange(3)):
            self.publish()
        step.perform()
        if self._rng.random() < 0.5:
            self.publish()
        self._end_sync(step, upto)

    def sync_beside_checkpoint(self) -> None:
        """Sync in one thread while another checkpoints: before it, in the midst of any step, or after it."""
        rng, disk, journal = self._rng, self._disk, self.journal
        while journal.begin_checkpoint() is None and rng.random() < 0.9:
            self.publish()
        upto = len(self.truth.states) - 1
        sync, step = journal.begin_sync(), journal.begin_checkpoint()
        fails = rng.random() < 0.25
        if fails:
            disk.fail_own_sync_at = disk.own_syncs + 1
            disk.kill_at_failure = rng.random() < 0.2
        if rng.random() < (0.7 if fails else 0.2):
            disk.cut_at = disk.steps + rng.randint(1, 60)
        when = rng.choice(("before", "within", "after"))
        if when == "before":
            sync.perform()
        if when == "within":
            disk.meanwhile_at = disk.steps + rng.randint(1, 30)
            disk.meanwhile = lambda: None if journal._turn.is_taken else sync.perform()  # noqa: SLF001
        while step is not None:
            step = self._walk(step, sync, upto, when)
        disk.meanwhile = None
        if not sync.performed:
            sync.perform()
        self._end_sync(sync, upto)

    def _walk(self, step: CheckpointStep, sync: DiskTask, upto: int, when: str) -> CheckpointStep | None:
        """Perform a step of a checkpoint, and return the next one; `when` the sync was performed."""
        step.perform()
        if step.excludes_writers:
            if when == "before" and self._rng.random() < 0.5:
                self._end_sync(sync, upto)
        elif not self._disk.frozen and self._rng.random() < 0.5:
            self.publish()
        following = self._or_dead(partial(self.journal.end_checkpoint, step))
        if following is None and when == "after" and not self._disk.frozen:
            self.publish()  # the log starts over before its sync has begun
        return following

    def _end_sync(self, task: DiskTask, upto: int) -> None:
        """End a sync that was begun when there were so many commits, unless a kill comes before."""
        if self._disk.failed and self._rng.random() < 0.3:
            self._disk.kill()
            raise Killed
        self._or_dead(lambda: self.journal.end_sync(task))
        self.truth.synced(upto)

    def repeat(self) -> None:
        """Publish again what is there: it must be found, and nothing written."""
        there = [p for p in self.truth.payloads if p > self.truth.state.floor]
        if not there:
            return
        position = self._rng.choice(there)
        payload = self.truth.payloads[position]
        same = self._rng.random() < 0.8
        event_id = json.loads(payload)["event_id"]
        again = Entry(event_id, payload if same else payload[:-1] + b',"x":1}', level=Level.DISK)
        written = self._or_dead(lambda: self.journal.write([again]))
        found = [(d.position, d.same) for d in written.duplicates]
        if found != [(position, same)]:
            raise Broken(f"{event_id} stands at {position} (same: {same}), and is reported as {found}")
        if written.wants_sync:
            self.sync()

    def settle(self) -> None:
        """Handle some events and save the cursor."""
        self._commit([], self._settling())

    def bury(self) -> None:
        """Bury an event, or dig one out."""
        letters = self.truth.state.letters
        if letters and self._rng.random() < 0.4:
            letter_id = self._rng.choice(sorted(letters))
            dropped = [(letters[letter_id].subscription, letters[letter_id].position)]
            self._commit([], Changes(removed_letters=[letter_id], tombstones=dropped))
        elif self.truth.payloads:
            position = max(self.truth.payloads)
            letter = BuriedEvent(
                subscription=self._rng.choice(SUBSCRIPTIONS),
                lane=LANE,
                position=position,
                payload=self.truth.payloads[position],
                reason="failed",
                error="E" * self._rng.randrange(300),
            )
            self._commit([], Changes(buried=[letter]))

    def call(self) -> None:
        """Begin a call of a handler, or end one; or clear what an earlier crash has left."""
        suspects = self.journal.suspects()
        if suspects and self._rng.random() < 0.3:
            self._clear(self._rng.choice(suspects))
        elif self.truth.state.head and len(self._cells) < len(SUBSCRIPTIONS):
            name = SUBSCRIPTIONS[len(self._cells)]
            self._cells[self.journal.marks.claim(name, LANE)] = name
            if self._rng.random() < 0.7:
                self._begin_or_end(next(reversed(self._cells)))
        elif self._cells:
            self._begin_or_end(self._rng.choice(sorted(self._cells)))

    def _begin_or_end(self, cell: int) -> None:
        """Begin the call of a cell, or end it."""
        position = 0 if cell in self.in_flight else self.truth.state.head
        if position:
            call = (self._cells[cell], LANE, position)
            self.truth.flown.add(call)
            self.in_flight[cell] = call
        else:
            self.in_flight.pop(cell, None)
        self.journal.marks.cells[cell] = position

    def retire(self) -> None:
        """Let retention take what it may."""
        keep = self._rng.randrange(200)
        past_memory = [name for name in SUBSCRIPTIONS if self._rng.random() < 0.5]
        self.truth.retiring(self.truth.state.retired_most(past_memory))
        try:
            self._or_dead(lambda: self.journal.retire(keep_count=keep, past_memory=past_memory))
        except JournalFull:
            self.truth.refused()
            return
        self.truth.retired(self.journal.first - 1)

    def vacuum(self) -> None:
        """Give room back."""
        try:
            self._or_dead(lambda: self.journal.vacuum(self._rng.choice((1, 16, 256))))
        except JournalFull:
            return

    def idle(self) -> None:
        """Use an idle moment, which may run a checkpoint."""
        self._or_dead(self.journal.idle)

    def read_on(self) -> None:
        """Let a reader look at the file for a while, which keeps a checkpoint from going all the way."""
        if self._reading is None:
            self._reader = self.journal.reader()
            self._reading = self._reader._log.forwards()  # noqa: SLF001 - a reader in the middle of a batch
            next(self._reading, None)
        else:
            self.stop_reading()

    def stop_reading(self) -> None:
        """Close the reader."""
        if self._reading is not None and self._reader is not None:
            self._reading.close()
            self._reader.close()
            self._reading = self._reader = None

    # How it is asked

    def _commit(self, entries: list[Entry], changes: Changes | None) -> bool:
        """Commit, through a full disk if need be, and return whether a sync is wanted."""
        self.truth.trying(entries, changes)
        try:
            written = self._or_dead(lambda: self.journal.write(entries, changes))
        except JournalFull:
            self.truth.refused()
            if self._rng.random() < 0.5:
                return False
            self._disk.capacity = None
            self.truth.trying(entries, changes)
            written = self._or_dead(lambda: self.journal.write(entries, changes))
        first = self.truth.state.head + 1
        self.truth.committed()
        if list(written.positions) != list(range(first, first + len(entries))):
            raise Broken(f"{len(entries)} entries from {first} on are called {written.positions}")
        return written.wants_sync

    def _or_dead(self, call: Callable[[], T]) -> T:
        try:
            return call()
        except JournalDead:
            self.expect_dead()

    def expect_dead(self) -> NoReturn:
        """See that a journal whose disk has failed takes nothing more. Raises `Stopped`."""
        if not self._disk.failed:
            raise Broken("the journal calls itself dead, and nothing has failed")
        for call in (lambda: self.journal.write([self._entry()]), self.journal.sync, self.journal.begin_sync):
            try:
                call()
            except JournalDead:
                continue
            raise Broken("a dead journal has acknowledged something")
        raise Stopped

    def _settling(self) -> Changes:
        """Do the work of some events, and return the cursor to save for it."""
        name = self._rng.choice(SUBSCRIPTIONS)
        state = self.truth.state
        before = state.cursors.get((name, LANE))
        floor = max(before.floor if before else 0, state.floor)
        to = min(state.head, floor + self._rng.randrange(12))
        gap = self._rng.random() < 0.3 and to + 3 <= state.head
        cursor = CursorState(
            subscription=name,
            lane=LANE,
            floor=to,
            settled=((to + 2, to + 3),) if gap else (),
            takes=("note",),
        )
        if self._bugs.cursor_before_work:
            self._commit([], Changes(cursors=[cursor]))
        for _ in range(12):
            self._disk.step()  # the work takes a while, and the power may go meanwhile
        self.truth.handled.update(
            (name, self.truth.payloads[n]) for n in range(1, to + 1) if n not in self.truth.gaps
        )
        return Changes(cursors=[cursor], snapshots=self._snapshots(cursor))

    def _snapshots(self, cursor: CursorState) -> list[Snapshot]:
        """Return the snapshot that belongs to a cursor, if one is due."""
        if self._rng.random() < 0.5:
            return []
        snapshot = Snapshot(
            subscription=cursor.subscription,
            form="bytes",
            is_needed=self._rng.random() < 0.7,
            lanes={cursor.lane: (cursor.floor, cursor.settled)},
            wall_ns=self._rng.getrandbits(40),
            state=self._rng.randbytes(self._rng.choice((0, 30, 900, 9000))),
        )
        return [snapshot]

    def _clear(self, suspect: Suspect) -> None:
        self._commit([], Changes(cleared=[(suspect.subscription, suspect.lane, suspect.position)]))

    def _entry(self) -> Entry:
        rng = self._rng
        event = {
            "event_id": f"{rng.getrandbits(60):x}",
            "event_type": "note",
            "pad": "x" * rng.choice((0, 20, 200, 200, 900, 6000)),
        }
        level = Level.DISK if rng.random() < 0.3 else Level.PROCESS
        lane = rng.choice((LANE, LANE, "high"))
        return Entry(event["event_id"], json.dumps(event).encode(), lane, level, rng.randrange(10**9))
