"""One at a time at the disk, and nobody after an error.

What may be called synced, and when:

1. A sync promises what had been written when it was begun. Whatever of that a checkpoint has moved to the
   database since then is on the disk all the same: SQLite lets the log start over only once the pages that
   were copied out of it have been synced, so an entry is in a synced log or in a synced database.
2. A checkpoint promises what had been written when it was begun, if all of the log was copied (or had been
   before). One that did not come to its turn, since another program is at one, has synced nothing.
3. After an error the system may call pages clean that are not on the disk: another sync succeeds, and a
   checkpoint would copy over sound pages of the database out of a log that no crash can recover. So syncs of
   the log and checkpoints exclude each other (`Turn`), and after an error of one of them none begins.
4. The thread that meets an error notes the end of the generation in the marks before anybody else is told. A
   process that is killed in that very instant leaves a page cache that lies, so an opening writes the log
   again before its first sync (`opening.py`), and only then calls what it has found synced.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock

from openoutcry.journals.engines import is_busy, is_full


class Turn:
    """Whose turn it is at the disk: one at a time, and nobody's after an error.

    Attributes:
        lock: What has to be held.
        problem: The first error.

    """

    def __init__(self, failed: Callable[[], None]) -> None:
        """`failed` is called in the thread that meets the first error."""
        self.lock: Lock = Lock()
        self._failed = failed
        self.problem: Exception | None = None

    @property
    def is_taken(self) -> bool:
        """Whether somebody is waiting for the disk."""
        return self.lock.locked()

    def note(self, problem: Exception) -> None:
        """Note an error: nobody's turn comes any more. The lock is held."""
        self.problem = problem
        self._failed()

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Wait for one's turn; raises the error of an earlier one, and keeps that of this one."""
        with self.lock:
            if self.problem is not None:
                raise self.problem
            try:
                yield
            except Exception as problem:
                if not (is_busy(problem) or is_full(problem)):
                    self.note(problem)
                raise
