"""A new file takes the place of a journal that died: built beside it, then swapped by renaming.

```
  <path> ──▶ <path>.next (whole, or not there) ──swap──▶ <path>       (the old file: <path>.dead-<n>)
```

The swap may be interrupted anywhere: the next `finish_swap` ends it. Only a file that says, under the seal of
its settings, that it was made from this journal as it is now is taken: see `descent`.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import Final

from openoutcry.errors import JournalError
from openoutcry.journals.descent import bond_of, is_journal, is_leftover, why_foreign, why_not_next
from openoutcry.journals.engines import EngineName
from openoutcry.journals.glance import is_still_of
from openoutcry.journals.marks import take_lock
from openoutcry.journals.opening import sync_folder
from openoutcry.journals.recovery import Recovered, recover_beside, recover_into
from openoutcry.journals.refusals import kind_of, real_path, refusals_of
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
    with refusals_of(path):
        marks.sync()  # after a power cut the bond still holds
    bond = _clear_next(path, permit, key, engine)
    return recover_beside(
        path,
        next_of(path),
        marks,
        key=key,
        engine=engine,
        progress=permit.check,
        placing=permit.held,
        next_of=bond,
    )


def build_next_of_closed(path: Path, permit: Permit, *, key: bytes | None, engine: EngineName) -> Recovered:
    """Build the next journal from a file that nobody has open, on any thread."""
    finish_swap(path, key=key, engine=engine)
    path = real_path(path)
    bond = _clear_next(path, permit, key, engine)
    return recover_into(
        path,
        next_of(path),
        key=key,
        engine=engine,
        progress=permit.check,
        placing=permit.held,
        next_of=bond,
    )


def _clear_next(path: Path, permit: Permit, key: bytes | None, engine: EngineName) -> str:
    """Remove what a recovery has left under the name, and return the bond of the journal.

    Raises `JournalError` where something else stands there.
    """
    following, owners = next_of(path), _owners(path)
    with permit.held(), refusals_of(path):
        bond = bond_of(path, Path(f"{path}-marks"), engine) if path.is_file() else ""
        if os.path.lexists(following) and not is_leftover(following, bond, owners, key, engine):
            why = why_not_next(following, (bond,), owners, key, engine)
            raise JournalError(
                f"{following} stands where the next journal of {path.name} is to be built, and {why}: "
                f"move it away, then recover again"
            )
        for ending in _ENDINGS:
            file = Path(f"{following}{ending}")
            why = why_foreign(file, owners) if os.path.lexists(file) else ""
            if why:
                raise JournalError(
                    f"{file} stands where a file of the next journal is to be, and {why}: move it away, "
                    f"then recover again"
                )
            file.unlink(missing_ok=True)
    return bond


def _owners(path: Path) -> set[int]:
    """Return the users whose files may be this journal's."""
    owners = {os.geteuid()}
    with suppress(OSError):
        owners.add(path.stat().st_uid)
    return owners


def finish_swap(path: Path, *, key: bytes | None = None, engine: EngineName = "auto") -> str:
    """Put the next journal in the place of the old one, which nobody has open, if there is a next one.

    What stands under its name and is not made from this journal, as it is now, is left alone: returns why.
    Raises `JournalLocked` where a bus runs on the old one, and `JournalError` where the old one is gone, so
    that a new and empty journal would begin beside what may be its next one.
    """
    path = real_path(path)
    with refusals_of(path):
        if not os.path.lexists(next_of(path)):
            return ""
        return _finish_swap(path, key, engine)


def _finish_swap(path: Path, key: bytes | None, engine: EngineName) -> str:
    following = next_of(path)
    old = _Old(path)
    with old.locked():
        why = why_not_next(following, old.bonds(engine), old.owners, key, engine)
        if not why:
            old.put_away()
            for ending in ("-marks", ""):
                new = Path(f"{following}{ending}")
                if new.exists():
                    new.replace(f"{path}{ending}")
            sync_folder(path)
            log.warning("the journal goes on in a new file; the old one is kept as %s", old.kept_as)
            return ""
    if not old.is_there and is_journal(following, engine):
        raise JournalError(
            f"{path} is not there, and {following} is a journal that does not take its place, since "
            f"{why}: put the journal back, or rename that one by hand if it is to go on"
        )
    said = _left_alone(following, why)
    log.warning("%s", said)
    return said


def planted_beside(path: Path, *, key: bytes | None = None, engine: EngineName = "auto") -> str:
    """Return what is wrong with what stands where the next journal goes, in words; empty if nothing is."""
    path = real_path(path)
    following = next_of(path)
    if not os.path.lexists(following):
        return ""
    old = _Old(path)
    why = why_not_next(following, old.bonds(engine), old.owners, key, engine)
    return _left_alone(following, why) if why else ""


def _left_alone(following: Path, why: str) -> str:
    return (
        f"{following} is left alone and not used, since {why}: "
        "the journal needs a folder of its own; move that file away"
    )


class _Old:
    """A journal whose place is to be taken. Part of it may have been put away before an interruption."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.is_there = os.path.lexists(path)
        self._number = 1
        while os.path.lexists(self._dead(self._number)):
            self._number += 1
        numbers = [self._number] if self.is_there else range(1, self._number)
        self._databases = [(path if self.is_there else self._dead(n), self._marks(n)) for n in numbers]
        self.kept_as = self._dead(self._number if self.is_there else max(1, self._number - 1))
        self.owners = {os.geteuid()}.union(*(_owners(database) for database, _ in self._databases))

    def _dead(self, number: int, ending: str = "") -> Path:
        return Path(f"{self.path}.dead-{number}{ending}")

    def _marks(self, number: int) -> Path:
        here = Path(f"{self.path}-marks")
        return here if self.is_there and os.path.lexists(here) else self._dead(number, "-marks")

    def bonds(self, engine: EngineName) -> set[str]:
        """Return what the next journal may be bound to."""
        return {bond_of(database, marks, engine) for database, marks in self._databases if database.is_file()}

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the writer's lock of the old journal, where it still has marks."""
        with ExitStack() as open_files:
            for _, marks in self._databases:
                if marks.exists() and not kind_of(marks):
                    fd = os.open(marks, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
                    open_files.callback(os.close, fd)
                    take_lock(fd, Path(f"{self.path}-marks"))
            yield

    def put_away(self) -> None:
        """Rename what is left of it. The database comes last: as long as it is here, the swap is not done."""
        if not self.is_there:
            return
        for ending in _ENDINGS:
            old = Path(f"{self.path}{ending}")
            if os.path.lexists(old):
                old.replace(self._dead(self._number, ending))
        sync_folder(self.path)


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
