"""The journal in an SQLite file: one row per batch, one commit per write, syncs on demand.

The owner of the loop writes inline: a commit without a sync takes microseconds, and a thread would pay
more for the interpreter's lock than it saves. One connection writes, and another one checkpoints at the same
time only where SQLite is 3.51.3 or newer (`disk_tasks`); readers open the file read-only (`JournalReader`).

`disk` is a commit without a sync, then `fdatasync` of the write-ahead log through a descriptor of our own: as
synchronous=FULL does, only that many commits can share it, and that it can be waited for elsewhere.
"""

import logging
import os
from collections.abc import Collection, Sequence
from contextlib import suppress
from operator import attrgetter
from pathlib import Path
from types import TracebackType
from typing import Final, NoReturn, Self

from openoutcry.core.halts import Halt
from openoutcry.errors import JournalDead, JournalError, JournalFull, JournalLocked
from openoutcry.journals import forks, reading, retention, saved, schema, snapshots
from openoutcry.journals.anchors import Anchor
from openoutcry.journals.disk_room import LOG_BYTES_MAX
from openoutcry.journals.disk_tasks import FRAME_BYTES, BesideTask, CheckpointTask, SyncTask
from openoutcry.journals.disk_turn import Turn
from openoutcry.journals.engines import (
    LOCK_WAIT_S,
    Connection,
    EngineName,
    choose,
    connect,
    connect_to_read,
    is_busy,
    is_full,
    is_unsafe,
    sqlite_version,
)
from openoutcry.journals.holders import allowed_upto
from openoutcry.journals.id_blocks import IdBlocks
from openoutcry.journals.lock_holders import holder_of, named
from openoutcry.journals.log import Log
from openoutcry.journals.log_size import LogSize
from openoutcry.journals.mapped_files import HURT
from openoutcry.journals.marks import SYNCED, WRITTEN, MarksFile, MarksSync
from openoutcry.journals.opening import leave_alone, open_file
from openoutcry.journals.power_cuts import PowerCut
from openoutcry.journals.refusals import refusals_of
from openoutcry.journals.register import Register
from openoutcry.journals.rows import IN_PARTS, Row, event_ids, is_beside, pack, pack_in_parts
from openoutcry.journals.standing_files import StandingFiles
from openoutcry.journals.stems import Stems
from openoutcry.ports import (
    BuriedEvent,
    Carried,
    Changes,
    CheckpointStep,
    CursorState,
    DiskTask,
    Entry,
    Filter,
    Holder,
    Level,
    LogState,
    Snapshot,
    Stored,
    Suspect,
    Written,
)

log = logging.getLogger("openoutcry")

WAL_DUE_BYTES: Final = 1024 * 1024
"""From this size of the write-ahead log on an idle moment is used for a checkpoint."""
WAL_MAX_BYTES: Final = LOG_BYTES_MAX
"""At this size a write makes a checkpoint, and the writes of a bus wait for the one that is being made."""
_COMMIT_BYTES: Final = 8192
_event_id: Final = attrgetter("event_id")


class SqliteJournal:
    """A journal in one file; implements `openoutcry.ports.Journal`.

    Opening makes the file if there is none (readable by its owner alone), takes the writer's lock,
    verifies the newest batches and takes over what was in flight. Beside the file stand SQLite's `-wal`
    and `-shm`, and `-marks`.

    Attributes:
        path: The file, symbolic links resolved.
        head: The position of the newest entry.
        first: The oldest position that is kept.
        synced: Every entry up to and including this position is on the disk.
        marks: What is in flight.
        places: Which files it has opened, by device and number.
        generation: What tells this journal from others that stood or will stand at its path.
        origin: What ids derived in its bus are derived from: random, and kept by every copy and recovery of
            the file. Empty for a file of a version that had none.
        is_log_due: Whether a checkpoint is not to wait for an idle moment, or writes are to wait for the one
            that was begun. Never where writes make checkpoints themselves.
        unsynced_lost: Entries accepted at `process` that a power cut before this opening took away, at least.
        power_cut: What the last power cut that cost something took, also before an earlier opening; or None.

    Raises:
        JournalLocked: Another writer has the file.
        JournalCorrupt: The tail is not what was written; `position` says from where.
        JournalDead: A sync or write of this file has failed before.
        NotAJournal: The file is something else.
        SchemaTooNew: A newer version made it.
        JournalError: It cannot be opened: folder, permissions, key.

    """

    def __init__(
        self,
        path: str | Path,
        *,
        key: bytes | None = None,
        engine: EngineName = "auto",
        wal_max_bytes: int = WAL_MAX_BYTES,
        lock_wait_s: float = LOCK_WAIT_S,
    ) -> None:
        opened = open_file(path, key, engine, lock_wait_s=lock_wait_s)
        self._waits_for_locks = lock_wait_s > 0
        self.path: Path = opened.path
        self.head: int = opened.head
        self.synced: int = opened.head
        self.first: int = opened.floor + 1
        self.marks: MarksFile = opened.marks
        self.generation: bytes = opened.marks.generation
        self.origin: str = opened.origin
        self.unsynced_lost: int = opened.unsynced_lost
        self.power_cut: PowerCut | None = opened.power_cut
        self._engine: EngineName = engine
        self._key = key
        self._db = opened.db
        self._log = Log(opened.db, opened.path, opened.chain)
        self._chain = opened.chain
        self._checksum = opened.checksum
        self._seals = opened.seals
        self._wal = opened.wal
        self._turn = Turn(opened.marks.die)
        self._log_size = LogSize(wal_max_bytes)
        self.is_log_due: bool = False
        self._must_restart = False
        self._has_beside = not is_unsafe(sqlite_version(choose(engine)))
        self._blocks = IdBlocks(opened.db, opened.chain)
        self._register = Register(self._log, opened.floor, opened.head, Stems(opened.stems), self._blocks)
        self._barred: JournalError | None = None
        self._has_whole_tombstones = False
        self._held: list[Holder] | None = None  # what keeps retention from going on, until it changes
        self._closed = False
        with refusals_of(self.path):
            self._files = StandingFiles(self.path, self._wal)
        self.places: list[tuple[int, int]] = self._files.places
        forks.watch(self)

    # Writing

    def write(self, entries: Sequence[Entry], changes: Changes | None = None) -> Written:
        """Write entries and changes in one commit, which survives the process when this returns.

        An entry whose id is here already, or twice in the call, is not written again (unless it is beside);
        the changes are saved in any case. If it raises what the port says, nothing of the call is written.
        """
        if self._barred is not None:
            raise self._barred
        parts = entries if isinstance(entries, IN_PARTS) else None
        ids = list(map(_event_id, entries)) if parts is None else parts.ids
        if not ids:
            self._commit(None, changes)
            return Written(())
        register = self._register
        kind = entries[0] if parts is None else parts
        has_ids = isinstance(kind, Carried) or kind.level is not Level.MEMORY
        if register.is_cold and has_ids:
            register.warm_for(ids)
        sifted = None
        are_new = register.are_new if register.is_cold else register.ids.are_new  # warm: all are known
        if has_ids and ((len(ids) > 1 and len(set(ids)) < len(ids)) or not are_new(ids)):
            sifted = register.sift(entries, self.head, self.synced)
            if not sifted.fresh:
                self._commit(None, changes)
                return sifted.written(Level.MEMORY)
            parts, entries, ids = None, sifted.fresh, list(map(_event_id, sifted.fresh))
        brings = has_ids and (sifted is not None or register.ids.brings_stem)
        stems = register.stems_to_save(ids) if brings else None
        if self._seals is not None:
            self._chain.reach(self._seals.serial + (changes is not None or stems is not None))
        place = self.head + 1, self._checksum, self._chain
        row, level = pack(entries, *place) if parts is None else pack_in_parts(parts, *place)
        self._commit(row, changes, stems)
        if has_ids:
            register.ids.add(ids, row.first)
        if stems is not None:
            register.stems.saved(stems)
        if sifted is not None:
            return sifted.written(level)
        return Written(range(row.first, row.first + row.size), (), level is Level.DISK)

    def _commit(self, row: Row | None, changes: Changes | None, stems: str | None = None) -> None:
        """Write a batch and changes, all or nothing, and note the new head."""
        try:
            if changes is not None or stems is not None:
                end = (self.head, self._checksum) if row is None else (row.last, row.checksum)
                saved.commit(self._db, row, changes, stems, self._chain, self._seals, end)
            elif row is not None:
                with self._db.turn:
                    self._db.execute(schema.INSERT_BATCH, row)
            else:
                return
        except BaseException as problem:  # noqa: BLE001 - undone, whatever interrupted it
            self._refused(problem)
        if HURT:
            self._check_maps()
        size = self._log_size
        size.waiting_bytes += _COMMIT_BYTES
        if changes is not None:
            self._held = None
            size.waiting_bytes += sum(len(snapshot.state) for snapshot in changes.snapshots)
        if row is not None:
            self.head = head = row.first + row.size - 1
            self._checksum = row.checksum
            size.waiting_bytes += len(row.data)
            self.marks.cells[WRITTEN] = head
        if size.waiting_bytes >= size.limit_bytes:
            self.is_log_due = not size.is_inline
            if size.is_inline:
                self._checkpoint()

    def _refused(self, problem: BaseException) -> NoReturn:
        """Undo what a failed commit may have begun, and raise what it means."""
        db = self._db
        try:
            if db.in_transaction:
                db.run("ROLLBACK")
        except db.error as also:
            self._die("the disk refused a write, and taking it back", also)
        if HURT:
            self._check_maps()
        if not isinstance(problem, db.error):
            self._look_again()
            raise problem
        if is_full(problem):
            raise JournalFull(
                f"{self.path}: the disk has no room, nothing was written; make room and publish again"
            ) from problem
        if is_busy(problem):
            locked = JournalLocked(
                f"{self.path}: another program is writing to the database, nothing was written; "
                f"end its transaction and publish again",
                is_passing=True,
            )
            raise (named(locked, self.path) if self._waits_for_locks else locked) from problem
        self._die("the disk refused a write", problem)

    def _look_again(self) -> None:
        """After an interruption of unknown outcome: take from the file where it begins and ends."""
        self._held = None
        if self._seals is not None:
            self._seals.look_again()
        floor = int(schema.settings(self._db, self.path)["floor"][0])
        if floor >= self.first:
            self._forget(floor)
        row = self._log.newest()
        if row is not None and row.last > self.head:
            self.head, self._checksum = row.last, row.checksum
            if not is_beside(row):
                self._register.ids.add(event_ids(row), row.first)
            self.marks.cells[WRITTEN] = row.last

    def _die(self, what: str, problem: BaseException) -> NoReturn:
        """End this generation: nothing is retried as if it had worked."""
        self.marks.die()
        why = self._files.look(thoroughly=True)
        self._barred = JournalDead(
            f"{self.path}: {what} ({f'{why}; {problem}' if why else problem}), so nobody knows what is on "
            f"the disk; reading still works; go on in a new file with recover_into"
        )
        raise self._barred from problem

    # The disk

    def sync(self) -> int:
        """Put everything that has been written on the disk, and return its last position."""
        if self._barred is not None:
            raise self._barred
        upto, turn = self.head, self._turn
        with turn.lock:
            if turn.problem is None:
                try:
                    os.fdatasync(self._wal)
                except OSError as problem:
                    turn.note(problem)
        if turn.problem is not None:
            self._die("a sync failed", turn.problem)
        return self._on_disk(upto)

    def begin_sync(self) -> SyncTask:
        """Begin a sync of all that has been written; `perform` it in any thread, `end_sync` it here."""
        if self._barred is not None:
            raise self._barred
        return SyncTask(self._wal, self.head, self._turn)

    def look_after(self, *, thoroughly: bool = False) -> None:
        """Raise `JournalDead` if the files were removed, replaced, truncated or made unreadable.

        No write says so, and what is written then is gone when the journal is closed. Costs 20 to 50 us;
        `thoroughly` also looks for a truncation that was written over since.
        """
        if self._barred is None:
            found = self._files.look(thoroughly=thoroughly)
            if found:
                self._lose(found)

    def _check_maps(self) -> None:
        """Raise `JournalDead` if a mapped file was truncated: what is seen there is not the file's."""
        index = self._db.index
        hurt = self.marks.file.hurt or ("" if index is None else index.hurt)
        if hurt:
            self._lose(hurt)

    def _lose(self, what: str) -> NoReturn:
        """End this generation, since a file of it is not what it was."""
        self.marks.die()
        self._barred = JournalDead(
            f"{what}, so what is written there may not be kept: this generation takes nothing more; go on in "
            f"a new file with recover_journal() or recover_into, and keep other programs from the files"
        )
        raise self._barred

    def end_sync(self, task: DiskTask) -> int:
        """Note a performed sync. Any error of it is final: the generation is dead."""
        if self._barred is not None:
            raise self._barred
        assert isinstance(task, SyncTask), "the task was begun by begin_sync"
        if task.problem is not None:
            self._die("a sync failed", task.problem)
        if not task.performed:
            raise JournalError("the sync was not performed: call perform() before end_sync()")
        return self._on_disk(task.upto)

    def begin_marks_sync(self) -> MarksSync:
        """Begin a sync of the marks, after which a power cut can be counted as far as that; any thread."""
        return self.marks.begin_sync()

    def end_marks_sync(self, task: DiskTask) -> None:
        """Note a performed sync of the marks. Any error of it is final, as of every sync."""
        assert isinstance(task, MarksSync), "the task was begun by begin_marks_sync"
        if task.problem is not None and self._barred is None:
            self._die("a sync of the marks failed", task.problem)

    def _on_disk(self, upto: int) -> int:
        """Note that everything up to a position is on the disk; return the last such position."""
        if HURT:
            self._check_maps()
        self.synced = self.marks.cells[SYNCED] = max(self.synced, upto)
        return self.synced

    @property
    def log_state(self) -> LogState:
        """How long the write-ahead log is, and what hindered the last checkpoint."""
        return LogState(0 if self._closed else os.fstat(self._wal).st_size, self._log_size.hindered)

    def make_checkpoints(self, *, inline: bool) -> None:
        """Leave checkpoints to `begin_checkpoint`, or make them within writes and `idle`, as at first."""
        self._log_size.is_inline = inline
        self.is_log_due = self._log_size.set_limit()

    def begin_checkpoint(self, *, restarts: bool = True) -> CheckpointStep | None:
        """Begin a checkpoint; None while the log has less than 1 MB. `restarts`: so that it starts over."""
        size = self._log_size
        if self._barred is not None or not size.is_worth_it(WAL_DUE_BYTES, restarts=restarts):
            return None
        self.look_after()  # a checkpoint would give a database that was truncated its length back
        self._must_restart = restarts or not self._has_beside
        self.is_log_due = size.set_limit(is_under_way=True)
        if not self._has_beside:
            return self.begin_sync()
        return BesideTask(self._connect_beside, self._files, *self._to_copy())

    def _connect_beside(self) -> Connection:
        """Connect to the database once more, in any thread. Raises `JournalError` where it is another one."""
        db = connect(self.path, self._engine, "rw")  # (which reads nothing yet)
        with suppress(OSError):
            stat = self.path.stat()
            if (stat.st_dev, stat.st_ino) == self.places[0]:
                return db
        db.close()
        raise JournalError(f"{self.path} was removed or replaced by another file")

    def end_checkpoint(self, step: CheckpointStep) -> CheckpointStep | None:
        """Note a performed step, and return the next one: hindered ones later; any other error is final."""
        if self._barred is not None:
            return None
        if isinstance(step, SyncTask):
            self.end_sync(step)
            return CheckpointTask(*self._to_copy())
        assert isinstance(step, CheckpointTask), "the step was begun by begin_checkpoint"
        if not isinstance(step, BesideTask):
            self._end_copying(step)
            return None
        self._note_copied(step)
        if self._must_restart or self._log_size.must_restart:
            return CheckpointTask(*self._to_copy())
        self.is_log_due = self._log_size.set_limit()
        return None

    def _to_copy(self) -> tuple[Connection, int, Turn, int]:
        return self._db, self.head, self._turn, self._log_size.waiting_bytes

    def _note_copied(self, task: CheckpointTask) -> None:
        if task.problem is not None and not task.hindered:
            self._die("a checkpoint failed", task.problem)
        if HURT:
            self._check_maps()
        self._log_size.copied(task)
        if not task.hindered:
            self._on_disk(task.upto)

    def _end_copying(self, task: CheckpointTask) -> None:
        self._note_copied(task)
        self.is_log_due = self._log_size.ended(task)
        if not task.hindered:
            self._files.checkpointed()

    def _checkpoint(self) -> None:
        self.look_after()
        task = CheckpointTask(*self._to_copy())
        task.perform()
        self._end_copying(task)

    def reopen_to_read(self) -> None:
        """Where the log or its index was truncated, have SQLite make the index anew from what is left.

        Only then can the rest be read. Nothing more may be written.
        """
        index = self._db.index
        self._files.look(thoroughly=True)
        if index is None or not self._files.is_log_cut:
            return
        assert self._barred is not None, "only what is dead is reopened"
        leave_alone(self._db, self.path, self._engine)
        with refusals_of(self.path):
            index.path.unlink(missing_ok=True)
        self._db = self._log.db = connect_to_read(self.path, self._engine)
        self._log.forget()
        self._blocks = IdBlocks(self._db, self._chain)
        self._register = Register(self._log, self.first - 1, self.head, Stems(None), self._blocks)

    def wait_for_locks(self, wait_s: float) -> None:
        """Set for how long, in seconds, a call waits for a lock that another program holds on the database.

        With 0 it raises `JournalLocked` at once: a runtime tries again, and waits elsewhere than on its loop.
        """
        self._waits_for_locks = wait_s > 0
        self._db.run(f"PRAGMA busy_timeout = {int(wait_s * 1000)}")

    def lock_holder(self) -> int | None:
        """Return the process that has locked the database; None if that cannot be known. On any thread."""
        return holder_of(self.path)

    def refuse(self, error: JournalError) -> None:
        """Take nothing more, and raise this where something is written. Reading goes on."""
        self._barred = self._barred or error

    # Reading

    def read(
        self, after: int, limit: int, where: Filter | None = None, *, bytes_max: int | None = None
    ) -> list[Stored]:
        """Return the next `limit` entries behind `after`. All reading raises `JournalCorrupt` at damage."""
        return self._log.read(after, limit, where, bytes_max)

    def read_urgent(self, after: int, limit: int) -> list[Stored]:
        """Return the next `limit` entries of the lanes `control` and `high` behind `after`.

        By the marks of their batches: 5 ms per million entries in batches of 64, 0.6 s in batches of one.
        """
        return self._log.read_urgent(after, limit)

    def tail(self, limit: int, where: Filter | None = None) -> list[Stored]:
        """Return the newest `limit` entries, oldest first."""
        return self._log.tail(limit, where)

    def find(self, event_id: str) -> int | None:
        """Return the position of the entry with this id, or None when it is not kept."""
        found = self._register.find(event_id)
        return None if found is None else found[0]

    def cursors(self) -> list[CursorState]:
        """Return every saved cursor. Raises `JournalCorrupt` when one is not what was saved."""
        return saved.cursors(self._db, self._chain)

    def buried(
        self, subscription: str | None = None, after: int = 0, limit: int | None = None
    ) -> list[BuriedEvent]:
        """Return the dead letters, oldest first: of all or of one name, the next `limit` behind `after`.

        Raises `JournalCorrupt` when one of them is not what was buried.
        """
        return saved.letters(self._db, self._chain, subscription, after, limit)

    def last_letter_id(self) -> int:
        """Return the highest id that a dead letter has ever had; none is given twice."""
        return saved.last_letter_id(self._db)

    def suspects(self) -> list[Suspect]:
        """Return what was in flight when a process died, and has not been cleared since."""
        return saved.suspects(self._db)

    def halts(self) -> list[Halt]:
        """Return the active kill switches. Raises `JournalCorrupt` when one is not what was saved."""
        return saved.halts(self._db, self._chain)

    def snapshot(self, subscription: str) -> Snapshot | None:
        """Return where the memory of a subscription begins, or None if that was never written.

        Raises `JournalCorrupt` if it is damaged, or may be one that is damaged.
        """
        return snapshots.snapshot(self._db, self._chain, subscription)

    def snapshots(self) -> list[Snapshot]:
        """Return all of these by subscription, without their states; raises `JournalCorrupt` at damage."""
        return snapshots.snapshots(self._db, self._chain)

    def snapshot_sizes(self) -> dict[str, int]:
        """Return how many bytes the states have, by subscription."""
        return snapshots.sizes(self._db, self._chain)

    def tombstones(self, subscription: str) -> list[int]:
        """Return the positions that a subscription has settled and will never handle, ascending.

        The first call looks at those of all: raises `JournalCorrupt` if one is damaged, whose name may be.
        """
        if not self._has_whole_tombstones:
            snapshots.check_tombstones(self._db, self._chain)
            self._has_whole_tombstones = True
        return snapshots.tombstones(self._db, self._chain, subscription)

    def held_by(self) -> list[Holder]:
        """Return what keeps retention from going on, the lowest position first."""
        if self._held is None:
            self._held = retention.held_by(self._db, self._chain)
        return list(self._held)

    @property
    def anchor(self) -> Anchor:
        """What has been reached; kept elsewhere, it shows `verify` that nothing was taken back since."""
        seals = self._seals
        return Anchor(
            self.head,
            self._checksum.hex(),
            serial=0 if seals is None else seals.serial,
            seals="" if seals is None else seals.digest.hex(),
            generation=self.generation.hex(),
            origin=self.origin,
        )

    def reader(self) -> "reading.JournalReader":
        """Return a reader of this file, with a connection of its own: for other threads, and for `verify`."""
        return reading.JournalReader(self.path, key=self._key, engine=self._engine)

    # Maintenance

    def retire(
        self,
        *,
        older_than_ns: int | None = None,
        keep_count: int | None = None,
        keep_bytes: int | None = None,
        past_cursors: bool = False,
        past_memory: Collection[str] = (),
    ) -> int:
        """Forget old batches, some per call, and return how many entries they had; 0 at the end.

        A batch goes when *all* of it may. The room is used again by later batches; `vacuum` gives it back.
        """
        if self._barred is not None:
            raise self._barred
        wish = retention.Wish(older_than_ns, keep_count, keep_bytes)
        allowed = allowed_upto(self.held_by(), self.head, past_cursors=past_cursors, past_memory=past_memory)
        last = retention.choose(self._db, wish, self.head, allowed)
        if last is None:
            return 0
        try:
            retention.carry_out(self._db, last, self._chain, self._seals, (self.head, self._checksum))
        except BaseException as problem:  # noqa: BLE001 - undone, whatever interrupted it
            self._refused(problem)
        retired = last.position + 1 - self.first
        self._forget(last.position)
        self._log_size.waiting_bytes += _COMMIT_BYTES * 8
        return retired

    def _forget(self, upto: int) -> None:
        """Note that everything up to a position is retired."""
        self.first = upto + 1
        self._register.forget(upto)
        self._log.forget()

    def vacuum(self, pages: int = 256) -> int:
        """Give free pages back to the disk, some per call; return how many are left."""
        if self._barred is not None:
            raise self._barred
        self._files.may_shrink()
        try:
            for _ in self._db.rows(f"PRAGMA incremental_vacuum({pages})"):
                pass
        except BaseException as problem:  # noqa: BLE001 - undone, whatever interrupted it
            self._refused(problem)
        self._log_size.waiting_bytes += pages * retention.PAGE_BYTES
        return int(schema.one(self._db.rows("PRAGMA freelist_count")))

    def idle(self) -> bool:
        """Do a small piece of deferred work, a few milliseconds; return True if there is more."""
        if self._barred is not None:
            return False
        if self._log_size.is_inline and self._log_size.waiting_bytes >= WAL_DUE_BYTES:
            self._checkpoint()
            if not self._log_size.hindered:
                return True
        try:
            is_more, written_bytes = self._register.idle(self.head)
        except self._db.error as problem:
            if not (is_full(problem) or is_busy(problem)):
                self._die("the disk refused a write", problem)
            self._blocks.give_up()
            return False
        self._log_size.waiting_bytes += written_bytes
        return is_more

    def close(self, *, as_it_is: bool = False) -> None:
        """Sync, and let go of the file. Harmless when done twice. A failed sync raises `JournalDead`.

        Afterwards the database file alone holds everything, so that it can be copied. Where a program is just
        reading older pages, that takes 0.1 s more, and what is left in the log is logged as a warning.

        `as_it_is`: without the sync, and without the checkpoint that is made when a file is closed.
        """
        if self._closed:
            return
        self._closed = True
        forks.forget(self)
        try:
            if self._barred is None and not as_it_is:
                self.sync()
                self._empty_log()
        finally:
            is_left_alone = as_it_is or self._barred is not None
            self._barred = self._barred or JournalError(f"{self.path} is closed; open it again")
            if is_left_alone:
                leave_alone(self._db, self.path, self._engine)
            else:
                self._db.close()
            os.close(self._wal)
            self.marks.close()

    def _empty_log(self) -> None:
        """Copy the write-ahead log into the database, and truncate it."""
        left_bytes, reason = 0, "another program is reading older pages"
        try:
            _, frames, copied = list(self._db.rows("PRAGMA wal_checkpoint(TRUNCATE)"))[0]  # noqa: RUF015 - to its end
            left_bytes = (frames - copied) * FRAME_BYTES
        except self._db.error as problem:
            if not (is_busy(problem) or is_full(problem)):
                self._die("the last checkpoint failed", problem)
            left_bytes = Path(f"{self.path}-wal").stat().st_size
            reason = "the disk has no room for it" if is_full(problem) else reason
        if left_bytes > 0:
            log.warning(
                "%s: %d bytes of the write-ahead log are not in the database yet, since %s; nothing is lost, "
                "but do not copy the file by itself: use `openoutcry backup`",
                self.path,
                left_bytes,
                reason,
            )

    def disown(self) -> None:
        """In a forked child: leave the file to the parent. The connection must not be used, nor closed."""
        self._barred = JournalError(
            f"{self.path} belongs to the process that opened it, and this is a child that it forked; "
            f"open it in the child, when the parent has closed it, or read it with JournalReader"
        )
        self._closed = True
        self._db = forks.Disowned(self._db, self._barred)
        self._log.db = self._db
        self._blocks = IdBlocks(self._db, self._chain)
        self._register = Register(self._log, 0, 1, Stems(None), self._blocks)
        self.marks.disown()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"SqliteJournal({str(self.path)!r}, head={self.head}, synced={self.synced})"
