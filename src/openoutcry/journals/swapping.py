"""A new file takes the place of a journal that died: built beside it, then swapped by renaming.

```
  <path> ──▶ <path>.next (whole, or not there) ──swap──▶ <path>       (the old file: <path>.dead-<n>)
```

The swap may be interrupted anywhere: the next `finish_swap` ends it.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Final

from openoutcry.errors import JournalError
from openoutcry.journals.engines import EngineName
from openoutcry.journals.glance import is_still_of
from openoutcry.journals.recovery import Recovered, recover_beside, recover_into
from openoutcry.journals.refusals import refusals_of
from openoutcry.journals.sqlite import SqliteJournal

log = logging.getLogger("openoutcry")

_ENDINGS: Final = ("-wal", "-shm", "-marks", "")
"""The files of a journal, the database last: as long as it stands at the old place, the swap is not done."""


class Permit:
    """Whether a next journal may still be put beside an old one: not once that one is gone on with."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._is_revoked = False

    def revoke(self) -> None:
        """From any thread: what has not been put there by now never will be."""
        with self._lock:
            self._is_revoked = True

    def check(self, *_: object) -> None:
        """Raise `JournalError` if it was revoked. A `Progress`."""
        if self._is_revoked:
            raise JournalError("the recovery of the journal was given up, since the bus was stopped")

    @contextmanager
    def held(self) -> Iterator[None]:
        """Put it there, whole; raises as `check`."""
        with self._lock:
            self.check()
            yield


def next_of(path: Path) -> Path:
    """Return where the next journal of a path is built."""
    return Path(f"{path}.next")


def build_next(journal: SqliteJournal, permit: Permit, *, key: bytes | None, engine: EngineName) -> Recovered:
    """Build the next journal from an open one, on any thread. Write nothing to the old one meanwhile."""
    path, marks = journal.path, journal.marks
    _clear_next(path, permit)
    following, progress, placing = next_of(path), permit.check, permit.held
    return recover_beside(path, following, marks, key=key, engine=engine, progress=progress, placing=placing)


def build_next_of_closed(path: Path, permit: Permit, *, key: bytes | None, engine: EngineName) -> Recovered:
    """Build the next journal from a file that nobody has open, on any thread."""
    finish_swap(path)
    _clear_next(path, permit)
    following, progress, placing = next_of(path), permit.check, permit.held
    return recover_into(path, following, key=key, engine=engine, progress=progress, placing=placing)


def _clear_next(path: Path, permit: Permit) -> None:
    with permit.held():
        for ending in _ENDINGS:
            Path(f"{next_of(path)}{ending}").unlink(missing_ok=True)


def finish_swap(path: Path) -> None:
    """Put the next journal in the place of the old one, which nobody has open, if there is a next one."""
    with refusals_of(path):
        _finish_swap(path)


def _finish_swap(path: Path) -> None:
    following = next_of(path)
    if not following.exists():
        return
    number = 1
    while Path(f"{path}.dead-{number}").exists():
        number += 1
    for ending in _ENDINGS:
        old = Path(f"{path}{ending}")
        if old.exists():
            old.replace(f"{path}.dead-{number}{ending}")
    for ending in ("-marks", ""):
        new = Path(f"{following}{ending}")
        if new.exists():
            new.replace(f"{path}{ending}")
    log.warning("the journal goes on in a new file; the old one is kept as %s.dead-%d", path, number)


def check_is_there(journal: SqliteJournal, engine: EngineName) -> None:
    """Raise `JournalError` unless a journal's file, or a copy of it, stands at its path."""
    path = journal.path
    try:
        is_there = is_still_of(path, journal.places, journal.generation, engine)
    except OSError as error:
        raise JournalError(
            f"{path} was removed ({error.strerror}), so there is nothing to recover; put the file back, "
            "then call recover_journal()"
        ) from error
    if not is_there:
        raise JournalError(
            f"the file at {path} is another journal, not the one that this bus has written; put that one "
            "back, then call recover_journal()"
        )
