"""Waiting for a lock that another program has on the journal's file, elsewhere than on the loop.

A commit that was refused for it is kept here, with what it was to bring along, and tried again soon.
"""

import asyncio
from collections.abc import Callable
from time import perf_counter_ns, sleep
from typing import Generic, TypeVar

from openoutcry.errors import JournalError, JournalLocked
from openoutcry.journals.lock_holders import with_holder
from openoutcry.ports import FileJournal, Journal
from openoutcry.runtime.delivery.state import BusState
from openoutcry.runtime.ownership import running_loop
from openoutcry.units import NS_PER_S

Item = TypeVar("Item")

LOCK_WAIT_S = 5.0
"""For how long a commit is put off where another program has locked the journal."""
NOW_S = 0.1
"""So long it is tried again on the loop where nobody can wait elsewhere (`publish_nowait`)."""
PAUSE_S = (0.002, 0.05)
"""The shortest and the longest pause until it is tried again: a quarter of the time that it has waited."""
ASK_S = 1.0
"""After so long it is found out, in a thread, who has locked it."""
_ANOTHER_LOCK_S = 0.2


class LockWait(Generic[Item]):
    """What waits for a lock: one commit, and behind it whatever is staged meanwhile.

    Attributes:
        item: What waits; None if nothing does.
        error: Why it does.
        is_pausing: Whether it is to be tried again here and now.

    """

    def __init__(self, bus: BusState, journal: Journal, again: Callable[[], None]) -> None:
        """`again` is called on the loop when it is time to try again."""
        self._bus = bus
        self._journal = journal
        self._again = again
        self._timer: asyncio.TimerHandle | None = None
        self._from_ns = self._last_ns = 0
        self._is_waiting = False
        self.is_pausing: bool = False
        self._holder: asyncio.Future[int | None] | None = None
        self.item: Item | None = None
        self.error: JournalLocked | None = None

    def take(self) -> Item | None:
        """Return what waits, to be tried again now."""
        self._silence()
        item, self.item, self.error, self.is_pausing = self.item, None, None, False
        return item

    def keep(self, item: Item, began_ns: int, error: JournalLocked) -> bool:
        """Keep what was refused, to be tried again; False if it has waited long enough, or no loop runs.

        It counts how long it has waited for this lock, also behind another commit.
        """
        loop, now_ns = running_loop(), self._bus.clock.now_ns()
        is_another = not self._is_waiting and now_ns - self._last_ns > _ANOTHER_LOCK_S * NS_PER_S
        if is_another or not self._from_ns:
            self._from_ns, self._holder = now_ns, None
        self._last_ns = now_ns
        waited_s = (now_ns - max(self._from_ns, began_ns)) / NS_PER_S
        self._is_waiting = loop is not None and waited_s < LOCK_WAIT_S
        if loop is None or not self._is_waiting:
            return False
        if waited_s >= ASK_S and self._holder is None and isinstance(self._journal, FileJournal):
            self._holder = loop.run_in_executor(None, self._journal.lock_holder)
        self.item, self.error = item, error
        pause_s = min(PAUSE_S[1], max(PAUSE_S[0], waited_s / 4))
        self._timer = loop.call_later(pause_s, self._again)
        return True

    def pause(self, item: Item, from_ns: int) -> bool:
        """Keep what was refused, and wait here for a moment; False if that has gone on for long enough.

        `from_ns` is when it began, on the real monotonic clock.
        """
        if perf_counter_ns() - from_ns >= NOW_S * NS_PER_S:
            return False
        self.item, self.is_pausing = item, True
        sleep(PAUSE_S[0])
        return True

    def named(self, error: JournalError) -> JournalError:
        """Return an error that says who has the lock, if it is about one, and that is known."""
        holder = self._holder
        if not isinstance(error, JournalLocked) or holder is None or not holder.done():
            return error
        return with_holder(error, None if holder.cancelled() or holder.exception() else holder.result())

    def over(self) -> None:
        """What was tried again met no lock."""
        self._is_waiting = False

    def give_up(self) -> None:
        """Nothing waits any more."""
        self.take()
        self.over()

    def _silence(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
