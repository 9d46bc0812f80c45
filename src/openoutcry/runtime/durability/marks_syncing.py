"""The marks of a journal file go to the disk now and then, so that what a power cut takes can be counted.

A second after a commit they are synced, in a thread; an idle bus has no timer. What was accepted at
`process` later than that is not counted.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context

from openoutcry.errors import JournalError
from openoutcry.ports import DiskTask, FileJournal, Journal
from openoutcry.runtime.delivery.state import BusState

MARKS_SYNC_S = 1.0
"""How long after a commit the marks are on their way to the disk."""


class MarksSyncing:
    """Syncs the marks of one journal while the bus runs.

    Args:
        bus: The state of the bus.
        journal: The journal. One that is no file has nothing to sync.
        failed: Called with the error of a sync.

    """

    def __init__(self, bus: BusState, journal: Journal, failed: Callable[[JournalError], None]) -> None:
        self._bus = bus
        self._file = journal if isinstance(journal, FileJournal) else None
        self._failed = failed
        self._timer: asyncio.TimerHandle | None = None
        self._thread: ThreadPoolExecutor | None = None
        self._synced_at = journal.head
        self._is_running = self._is_syncing = False

    def begin(self) -> None:
        """The bus runs."""
        self._is_running = True
        self.note()

    def note(self) -> None:
        """Something is being committed: have the marks synced in a while."""
        file, loop = self._file, self._bus.loop
        if self._timer is None and self._is_running and file is not None and loop is not None:
            self._timer = loop.call_later(MARKS_SYNC_S, self._sync)

    def _sync(self) -> None:
        self._timer = None
        file, loop = self._file, self._bus.loop
        if file is None or loop is None or not self._is_running:
            return
        head = file.head
        if head == self._synced_at:
            return
        self.note()  # what comes now is looked for once more, and then no more
        if self._is_syncing:
            return
        self._synced_at, self._is_syncing = head, True
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "openoutcry-marks")
        task = file.begin_marks_sync()
        future = Context().run(loop.run_in_executor, self._thread, task.perform)  # on no handler's behalf
        future.add_done_callback(lambda _: self._ended(task))

    def _ended(self, task: DiskTask) -> None:
        self._is_syncing = False
        if self._is_running and self._file is not None:
            try:
                self._file.end_marks_sync(task)
            except JournalError as error:
                self._failed(error)

    def end(self, *, waits: bool = True) -> None:
        """The bus stops; `waits` for a sync that is being made."""
        self._is_running = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._thread is not None:
            self._thread.shutdown(wait=waits)
            self._thread = None
