"""Maintenance of a journal: cursors saved in time, the write-ahead log tidied up, old entries forgotten.

Nothing here runs while there is nothing to do: no timer of an idle bus is left standing.
"""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from openoutcry.config import PersistenceConfig
from openoutcry.core.holds import Hold
from openoutcry.errors import JournalError
from openoutcry.ports import Journal, Step
from openoutcry.runtime.delivery.state import BusState
from openoutcry.runtime.durability.committer import Committer

log = logging.getLogger("openoutcry")

QUIET_S = 0.05
"""A pause between two pieces of deferred work."""
IDLE_S = 0.25
"""The pause between a commit and the first look at what may be tidied up."""
RETIRE_S = 0.002
"""The pause between two pieces of work that should end soon: forgetting, and what is left of opening."""
VACUUM_PAGES = 64
"""So many pages are given back to the disk at a time."""
LOOK_AFTER_NS = 100_000_000
"""A journal that is written to is looked after so often."""
BUSY_LOOKS = 8
"""After so many looks at a journal that is being written to, it is tidied up nevertheless."""


class Maintenance:
    """The timers of a journal."""

    def __init__(
        self, bus: BusState, journal: Journal, commits: Committer, config: PersistenceConfig
    ) -> None:
        self._bus = bus
        self._journal = journal
        self._commits = commits
        self._config = config
        self._save: asyncio.TimerHandle | None = None
        self._idle: asyncio.TimerHandle | None = None
        self._overdue = False
        self._running = False
        self._head = journal.head
        self._busy_looks = 0
        self._look_after_ns = 0
        self._freed = self._is_warm = self._has_tidied = False
        self._step: Step | None = None
        self._thread: ThreadPoolExecutor | None = None
        self._retains = any(
            wish is not None for wish in (config.retain_s, config.retain_count, config.retain_bytes)
        )

    def begin(self) -> None:
        """The bus runs."""
        self._running = True
        self.due()
        self._arm_idle(IDLE_S)

    def end(self) -> None:
        """The bus stops."""
        self._running = False
        for timer in (self._save, self._idle):
            if timer is not None:
                timer.cancel()
        self._save = self._idle = None
        if self._thread is not None:
            self._thread.shutdown(wait=True)
            self._thread = None
        if self._step is not None:
            self._end_checkpoint(self._step)

    # -- cursors ------------------------------------------------------------------------------------

    def due(self) -> None:
        """Something is to be saved, at the latest in `cursor_save_s`."""
        if self._save is None and self._running and self._bus.loop is not None:
            self._save = self._bus.loop.call_later(self._config.cursor_save_s, self._ring)

    def now_due(self) -> None:
        """Everything is to be saved with the next commit."""
        self._overdue = True

    def is_due(self) -> bool:
        """Tell whether the next commit has to save the cursors."""
        return self._overdue

    def saved(self) -> None:
        """The cursors were saved."""
        self._overdue = False
        self._head = -1  # perhaps something may be forgotten now that somebody has caught up
        if self._save is not None:
            self._save.cancel()
            self._save = None

    def _ring(self) -> None:
        self._save = None
        self._overdue = True
        if self._commits.dead is None:
            self._commits.ask()
            self._arm_idle(IDLE_S)

    # -- deferred work ------------------------------------------------------------------------------

    def busy(self) -> None:
        """Something is committed: there will be something to tidy up.

        Raises `JournalDead` where the journal's files are gone or replaced, so that nothing is accepted into
        nowhere.
        """
        self._arm_idle(IDLE_S)
        now_ns = self._bus.clock.now_ns()
        if now_ns >= self._look_after_ns:
            self._look_after_ns = now_ns + LOOK_AFTER_NS
            self._journal.look_after()

    def _arm_idle(self, after_s: float) -> None:
        if self._idle is None and self._running and self._bus.loop is not None:
            self._idle = self._bus.loop.call_later(after_s, self._look)

    def _look(self) -> None:
        self._idle = None
        if not self._running or self._commits.dead is not None:
            return
        if not self._commits.is_idle and self._busy_looks < BUSY_LOOKS:
            self._busy_looks += 1
            self._arm_idle(QUIET_S)
            return
        self._busy_looks = 0
        try:
            # A journal that is written to always has something to tidy up: other work has every second turn.
            step = None if self._has_tidied else self._journal.begin_checkpoint()
            self._has_tidied = step is not None
            if step is not None:
                self._checkpoint(step)
            elif self._retire():
                self._arm_idle(RETIRE_S)
            elif self._journal.idle():
                self._arm_idle(QUIET_S if self._is_warm else RETIRE_S)
            elif self._vacuum():
                self._arm_idle(QUIET_S)
            else:
                self._is_warm = True
        except JournalError as error:
            log.error("the journal could not be tidied up: %s", error)  # noqa: TRY400 - the message says it
            self._commits.note_error(error)

    def _retire(self) -> bool:
        """Forget a piece of what is too old; tell whether there may be more."""
        config, head = self._config, self._journal.head
        if not self._retains or head == self._head:
            return False
        older = None
        if config.retain_s is not None:
            older = self._bus.clock.wall_ns() - int(config.retain_s * 1e9)
        retired = self._journal.retire(
            older_than_ns=older, keep_count=config.retain_count, keep_bytes=config.retain_bytes
        )
        if not retired:
            self._head = head
        self._freed = self._freed or retired > 0
        return retired > 0

    def _vacuum(self) -> bool:
        """Give a piece of the room of what was forgotten back to the disk; tell whether there is more."""
        vacuum = getattr(self._journal, "vacuum", None)
        if self._freed:
            self._freed = vacuum is not None and vacuum(VACUUM_PAGES) > 0
        return self._freed

    def _checkpoint(self, step: Step) -> None:
        """Tidy up the write-ahead log in a thread, while commits are held back."""
        loop = self._bus.loop
        assert loop is not None
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "openoutcry-checkpoint")
        self._step = step
        self._bus.holds.set(Hold.READS_WAIT)
        release = self._commits.hold_back()
        future = loop.run_in_executor(self._thread, step.perform)
        future.add_done_callback(lambda _: self._checkpointed(step, release))

    def _checkpointed(self, step: Step, release: Callable[[], None]) -> None:
        if self._step is step:
            self._end_checkpoint(step)
        release()
        self._arm_idle(QUIET_S)

    def _end_checkpoint(self, step: Step) -> None:
        self._step = None
        self._bus.holds.lift(Hold.READS_WAIT)
        for subscription in self._bus.router:
            if subscription.mailbox.behind:
                subscription.wake()
        try:
            self._journal.end_checkpoint(step)
        except JournalError as error:
            self._commits.note_error(error)
