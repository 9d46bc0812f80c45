"""Maintenance of a journal: checkpoints, old entries forgotten, space given back to the disk.

It is done in idle moments. An idle bus has no timer but the one at which the next entry grows too old.
"""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context
from time import sleep

from openoutcry.config import PersistenceConfig
from openoutcry.core.holds import Hold
from openoutcry.errors import JournalError, JournalLocked
from openoutcry.ports import CheckpointStep, FileJournal, Journal
from openoutcry.runtime.delivery.state import BusState
from openoutcry.runtime.durability.committer import NEVER, Committer
from openoutcry.runtime.durability.disk_watch import DiskWatch
from openoutcry.runtime.durability.memories import Memories
from openoutcry.runtime.durability.saving import Saving
from openoutcry.units import NS_PER_S

log = logging.getLogger("openoutcry")

QUIET_S = 0.05
"""A pause between two pieces of deferred work."""
IDLE_S = 0.25
"""The pause between a commit and the first look at what may be tidied up."""
RETIRE_S = 0.002
"""The pause between two pieces of work that should end soon: forgetting, and what is left of opening."""
VACUUM_PAGES = 64
"""How many pages are given back to the disk at a time."""
LOOK_AFTER_NS = 100_000_000
"""How often the files of a journal that is written to are looked after."""
THOROUGH_LOOKS = 10
"""Every so many looks at a journal that is written to is a thorough one."""
PAUSE_S = 1e-6
"""A pause in which a thread gets the interpreter's lock; about 60 us, with what the system adds to it."""
HINDERED_S = 1.0
"""The pause after a checkpoint that a reader or a full disk has hindered."""
RETIRE_AGAIN_S = 60.0
"""An idle bus does not forget entries more often than this, apart from what it forgets at once."""
RETIRE_WAIT_MAX_S = 3_600.0
"""How long it waits at most before it asks the wall clock again, which may have been set."""
BUSY_LOOKS = 8
"""After so many looks at a journal that is written to, or folded from, it is tidied up nevertheless."""


class Maintenance:
    """Tidies up one journal while the bus runs.

    Attributes:
        held_back: What keeps retention from going on: a name, why, and how many entries; or None.
        disk: Watches the room of a journal in a file; None for another one.

    """

    def __init__(
        self,
        bus: BusState,
        journal: Journal,
        commits: Committer,
        saving: Saving,
        memories: Memories,
        config: PersistenceConfig,
    ) -> None:
        self._bus = bus
        self._journal = journal
        self._file = journal if isinstance(journal, FileJournal) else None
        self._commits = commits
        self._saving = saving
        self._memories = memories
        self._config = config
        self._retains = any(
            wish is not None for wish in (config.retain_s, config.retain_count, config.retain_bytes)
        )
        self._timer: asyncio.TimerHandle | None = None
        self._is_running = False
        self._retired_at: tuple[int, int] | None = None
        self._retire_due_ns: int | None = None
        self._retire_timer: asyncio.TimerHandle | None = None
        self._retired_in_time_s = float("-inf")
        self.disk: DiskWatch | None = None if self._file is None else DiskWatch(self._file, bus)
        self._busy_looks = self._looked_at = 0
        self._looked_after_ns = -LOOK_AFTER_NS
        self._looks = 0
        self._freed = self._is_warm = self._has_tidied = False
        self._step: CheckpointStep | None = None
        self._release: Callable[[], None] | None = None
        self._thread: ThreadPoolExecutor | None = None
        self.held_back: tuple[str, str, int] | None = None

    def begin(self) -> None:
        """The bus runs."""
        self._is_running = True
        self._looked_after_ns = -LOOK_AFTER_NS  # the clock may be another one now
        self._commits.look_after()
        if self._file is not None:
            self._file.make_checkpoints(inline=False)
        self._arm(IDLE_S)

    def end(self, *, waits: bool = True) -> None:
        """The bus stops; `waits` for a checkpoint that is being made."""
        self._is_running = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._retire_timer is not None:
            self._retire_timer.cancel()
            self._retire_timer = None
        if self._thread is not None:
            self._thread.shutdown(wait=waits)
            self._thread = None
        if self._step is not None and waits:
            self._end_step(self._step)
        if self._file is not None:
            self._file.make_checkpoints(inline=True)
        if self._release is not None:
            self._let_reads_go_on()

    def look_after(self) -> None:
        """Something is being committed: there will be something to tidy up.

        Raises `JournalDead` if the journal's files are gone or replaced, so that nothing is accepted into
        nowhere.
        """
        self._arm(IDLE_S)
        if self._file is None:
            self._commits.look_after(NEVER if self._timer is not None else 0)
            return
        now_ns = self._bus.clock.now_ns()
        if now_ns >= self._looked_after_ns + LOOK_AFTER_NS:
            self._looked_after_ns = now_ns
            self._looks += 1
            self._file.look_after(thoroughly=self._looks % THOROUGH_LOOKS == 1)
        self._commits.look_after(self._looked_after_ns + LOOK_AFTER_NS)

    def look_at_files(self) -> None:
        """Look after the files although nothing is committed, and end the journal if that is due."""
        if self._file is None or self._commits.dead is not None:
            return
        try:
            self._file.look_after(thoroughly=True)
        except JournalError as error:
            self._commits.note_error(error)

    def _arm(self, after_s: float) -> None:
        if self._timer is None and self._is_running and self._bus.loop is not None:
            self._timer = self._bus.loop.call_later(after_s, self._look)

    def _look(self) -> None:
        self._timer = None
        self._commits.look_after()  # with the next commit there is something to tidy up again
        if not self._is_running or self._commits.dead is not None:
            return
        if self._release is not None:  # nobody may write now
            self._arm(QUIET_S)
            return
        is_busy = not self._commits.is_idle or self._memories.are_restoring
        if is_busy and self._busy_looks < BUSY_LOOKS:
            self._busy_looks += 1
            self._arm(QUIET_S)
            return
        self._busy_looks = 0
        is_still, self._looked_at = self._looked_at == self._journal.head, self._journal.head
        try:
            self._tidy_up(is_still=is_still)
        except JournalLocked:  # for a while: it can wait
            self._arm(IDLE_S)
        except JournalError as error:
            log.error("the journal could not be tidied up: %s", error)  # noqa: TRY400 - the message says it
            self._commits.note_error(error)

    def _tidy_up(self, *, is_still: bool) -> None:
        """Do one piece of work, and come back if there may be more."""
        file = self._file
        # A journal that is written to always has something to checkpoint: every second turn is for the rest.
        had_turn, step = self._has_tidied, None
        if file is not None and self._step is None and not had_turn:
            step = file.begin_checkpoint(restarts=is_still)
        self._has_tidied = step is not None
        if step is not None:
            self._checkpoint(step)
        elif self._retire():
            self._arm(RETIRE_S)
        elif file is not None and file.idle():
            self._arm(QUIET_S if self._is_warm else RETIRE_S)
        elif file is not None and self._freed and file.vacuum(VACUUM_PAGES) > 0:
            self._arm(QUIET_S)
        else:
            self._freed = False
            self._is_warm = True
            if had_turn:
                self._arm(QUIET_S)
            self._arm_retention()

    def _retire(self) -> bool:
        """Forget a piece of what is too old; return True if there may be more."""
        # Without a new entry, a cursor that has moved on, or an entry that falls due, there is nothing.
        here, wall_ns = (self._journal.head, self._saving.saves_count), self._bus.clock.wall_ns()
        is_due = self._retire_due_ns is not None and wall_ns >= self._retire_due_ns
        if not self._retains or (here == self._retired_at and not is_due):
            return False
        config, older_than_ns = self._config, None
        if config.retain_s is not None:
            older_than_ns = wall_ns - int(config.retain_s * NS_PER_S)
        retired = self._journal.retire(
            older_than_ns=older_than_ns, keep_count=config.retain_count, keep_bytes=config.retain_bytes
        )
        if not retired:
            self._retired_at = here
            self.held_back = self._held_back(older_than_ns)
            self._retire_due_ns = self._next_due_ns(older_than_ns)
        self._freed = self._freed or retired > 0
        return retired > 0

    def _next_due_ns(self, older_than_ns: int | None) -> int | None:
        """Return when the oldest entry is to be forgotten; None if that is not a matter of time alone."""
        if older_than_ns is None or self.held_back is not None:
            return None
        oldest = self._journal.read(self._journal.first - 1, 1)
        if not oldest:
            return None
        now_ns = self._bus.clock.wall_ns()
        due_ns = oldest[0].wall_ns + now_ns - older_than_ns + 1
        # (The newest entry of its batch may fall due later than the oldest.)
        return due_ns if due_ns > now_ns else now_ns + int(RETIRE_AGAIN_S * NS_PER_S)

    def _arm_retention(self) -> None:
        """Wait for the next entry to fall due, though nothing else happens."""
        due_ns, loop = self._retire_due_ns, self._bus.loop
        if due_ns is None or self._retire_timer is not None or not self._is_running or loop is None:
            return
        again_s = self._retired_in_time_s + RETIRE_AGAIN_S - loop.time()
        after_s = min(max((due_ns - self._bus.clock.wall_ns()) / NS_PER_S, again_s), RETIRE_WAIT_MAX_S)
        self._retire_timer = loop.call_later(after_s, self._retire_in_time)

    def _retire_in_time(self) -> None:
        assert self._bus.loop is not None
        self._retire_timer, self._retired_in_time_s = None, self._bus.loop.time()
        self._arm(0)

    def _held_back(self, older_than_ns: int | None) -> tuple[str, str, int] | None:
        """Return who keeps retention from going on, why, and how many entries; None if nobody does."""
        journal, config = self._journal, self._config
        holder = next(iter(journal.held_by()), None)
        if holder is None or holder.position >= journal.head or self._memories.goes_on(holder):
            return None
        kept = journal.head - max(holder.position, journal.first - 1)
        oldest = journal.read(max(holder.position, journal.first - 1), 1)
        is_old = older_than_ns is not None and bool(oldest) and oldest[0].wall_ns < older_than_ns
        is_many = config.retain_count is not None and kept > config.retain_count
        is_much = config.retain_bytes is not None and self._file is not None
        is_much = is_much and self._size_bytes() > (config.retain_bytes or 0)
        return (holder.subscription, holder.why, kept) if is_old or is_many or is_much else None

    def _size_bytes(self) -> int:
        assert self._file is not None, "only a file has a size"
        try:
            return self._file.path.stat().st_size
        except OSError:  # it was taken away, which is found elsewhere
            return 0

    def log_is_due(self) -> None:
        """The write-ahead log has grown by what it may without a checkpoint, or the end of one."""
        assert self._file is not None, "it has a log"
        if self._step is not None:
            self._hold_commits()
            return
        try:
            step = self._file.begin_checkpoint(restarts=False)
        except JournalError as error:
            self._commits.note_error(error)
            return
        if step is not None:
            self._checkpoint(step)

    def _checkpoint(self, step: CheckpointStep) -> None:
        """Perform a step of a checkpoint in a thread; commits are held back where it excludes them."""
        loop = self._bus.loop
        assert loop is not None
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "openoutcry-checkpoint")
        self._step = step
        self._commits.note_disk(is_busy=True)
        if step.excludes_writers:
            self._hold_commits()
            loop.call_soon(self._make_way, step)
        future = Context().run(loop.run_in_executor, self._thread, step.perform)  # on no handler's behalf
        future.add_done_callback(lambda _: self._performed(step))

    def _performed(self, step: CheckpointStep) -> None:
        if self._step is not step:
            return
        assert self._file is not None
        assert self.disk is not None
        following = self._end_step(step)
        if following is not None:
            self._checkpoint(following)
            return
        self._commits.note_disk(is_busy=False)
        self._let_commits_go_on()
        self.disk.note_checkpoint()
        self._arm(HINDERED_S if self._file.log_state.hindered else QUIET_S)

    def _end_step(self, step: CheckpointStep) -> CheckpointStep | None:
        self._step = None
        assert self._file is not None
        try:
            return self._file.end_checkpoint(step)
        except JournalError as error:
            self._commits.note_error(error)
            return None

    def _make_way(self, step: CheckpointStep) -> None:
        """In every turn of the loop, let the thread that commits wait for have the interpreter's lock."""
        if self._step is step and self._bus.loop is not None:
            sleep(PAUSE_S)
            self._bus.loop.call_soon(self._make_way, step)

    def _hold_commits(self) -> None:
        """Commit nothing until the checkpoint is over. Who reads on from the journal waits as well."""
        if self._release is None:
            self._release = self._commits.hold_back()
            self._bus.holds.set(Hold.READS_WAIT)

    def _let_commits_go_on(self) -> None:
        release, self._release = self._release, None
        if release is not None:
            self._let_reads_go_on()
            release()

    def _let_reads_go_on(self) -> None:
        self._bus.holds.lift(Hold.READS_WAIT)
        for subscription in self._bus.router:
            if subscription.mailbox.behind:
                subscription.wake()
