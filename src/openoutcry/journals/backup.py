"""A copy of a journal as it stands at one moment, made beside a running bus: whole and verified, or none.

```
  <journal> ──pages, in one read transaction──▶ <target>-unfinished ──verified, synced──▶ <target>
```

The connection that copies only reads, so that SQLite has one writer as always. Within one transaction it sees
the journal as it was at the beginning, and never begins again because of what is written meanwhile.
"""

import fcntl
import logging
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from stat import S_ISREG
from typing import Final

import msgspec

from openoutcry.errors import JournalCorrupt, JournalError, JournalLocked
from openoutcry.journals.anchors import Anchor
from openoutcry.journals.engines import EngineName
from openoutcry.journals.glance import glance
from openoutcry.journals.opening import sync_folder
from openoutcry.journals.reading import JournalReader
from openoutcry.journals.refusals import refusals_of
from openoutcry.journals.verifying import Progress

log = logging.getLogger("openoutcry")

_PARTS: Final = ("-wal", "-shm", "-journal", "-marks", ".next")
"""The endings of files that belong to the database beside which they stand."""
_PART: Final = re.compile(
    r"(-(wal|shm|journal|marks|sock|unfinished|recovering)|\.next|\.(dead|replaced)-\d+)$"
)
_MAGIC: Final = b"SQLite format 3\0"
_VERSIONS_AT: Final = 18
"""Where the header of a database says whether it has a write-ahead log (2) or not (1), twice: for readers and
for writers. See "The Database File Format" of SQLite's documentation, 1.3.
"""


class BackedUp(msgspec.Struct, frozen=True, kw_only=True):
    """What a backup holds.

    Attributes:
        path: The file.
        anchor: The last position that it has, and the checksum of the chain there.
        first: The oldest position that it keeps.
        entries: How many entries it has.
        newest_ns: When the last of them was accepted, in nanoseconds since 1970; None if there is none.
        size_bytes: The size of the file.

    """

    path: Path
    anchor: Anchor
    first: int
    entries: int
    newest_ns: int | None
    size_bytes: int


def backup(
    journal: str | Path,
    target: str | Path,
    *,
    key: bytes | None = None,
    engine: EngineName = "auto",
    progress: Progress | None = None,
) -> BackedUp:
    """Copy a journal into one file that holds everything accepted until now, on any thread.

    A bus may write to it meanwhile, and others read it. The copy is verified, as `JournalReader.verify` does,
    and on the disk before it gets its name; whatever ends the call earlier, there is none. It is of the same
    generation and origin, with all that stands beside the events; `restore` puts it back. `progress` is
    called as (pages done, twice all pages), since they are copied first and then verified. In the process of
    the bus `engine` must be the one that it uses.

    Raises:
        JournalCorrupt: The journal is damaged, or its end is missing; `recover_into` makes a new one.
        JournalFull: There is no room for the copy.
        JournalLocked: Another backup is being made under this name.
        JournalError: The target exists, has the name of a part of a journal, or cannot be made; or the
            journal is sealed and `key` is missing.
        NotAJournal, SchemaTooNew: The journal cannot be read at all.

    """
    source, new = Path(os.path.realpath(journal)), Path(os.path.abspath(target))  # noqa: PTH100 - links stay
    with refusals_of(new):
        _check_target(new)
        with unfinished(new) as making:
            made = copy_verified(source, making, key, engine, progress)
            _check_target(new)
            making.replace(new)
            sync_folder(new)
    return msgspec.structs.replace(made, path=new)


def _check_target(path: Path) -> None:
    """Raise `JournalError` unless a new file may stand there: alone, and taken for a part of nothing."""
    if found := _PART.search(path.name):
        raise JournalError(
            f"{path} would be taken for a part of the journal {path.name.removesuffix(found[0])}; "
            f"give the backup a name that does not end in {found[0]}"
        )
    if path.is_dir():
        raise JournalError(f"{path} is a folder; name a file in it")
    if os.path.lexists(path):
        raise JournalError(f"{path} exists; name a file that does not")
    for ending in _PARTS:
        if os.path.lexists(f"{path}{ending}"):
            raise JournalError(
                f"{path}{ending} stands where it would be taken for a part of {path}; move it away, or give "
                "the backup another name"
            )


@contextmanager
def unfinished(path: Path) -> Iterator[Path]:
    """Yield an empty file beside a path, which nobody else makes; unless it was renamed it is then removed.

    Raises `JournalLocked` while another process makes one.
    """
    making = path.with_name(f"{path.name}-unfinished")
    _remove_leftover(making)
    fd = os.open(making, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        _lock(fd, making)
        yield making
    finally:
        with suppress(FileNotFoundError):
            if os.path.samestat(making.stat(), os.fstat(fd)):
                making.unlink()
        os.close(fd)


def _lock(fd: int, making: Path) -> None:
    """Take the lock of an unfinished file, which nobody must have taken away before."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        is_there = os.path.samestat(making.stat(follow_symlinks=False), os.fstat(fd))
    except (BlockingIOError, FileNotFoundError):
        is_there = False
    if not is_there:
        raise JournalLocked(f"{making} is being made by another process; wait for it, or give another name")


def _remove_leftover(making: Path) -> None:
    """Remove what an interrupted call has left, and nothing else."""
    try:
        fd = os.open(making, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return
    try:
        _lock(fd, making)
        if not S_ISREG(os.fstat(fd).st_mode) or os.pread(fd, len(_MAGIC), 0) not in (_MAGIC, b""):
            raise JournalError(f"{making} is not what an interrupted backup leaves; move it away")
        making.unlink()
    finally:
        os.close(fd)
    log.warning("%s was left by a backup or restore that was interrupted, and is removed", making)


class _Halves:
    """Counts pages that are copied, then pages that are verified, for the progress of both."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._pages = 0

    def copied(self, done: int, of: int) -> None:
        self._pages = of
        if self._progress is not None:
            self._progress(done, 2 * of)

    def verified(self, at: int, head: int) -> None:
        if self._progress is not None:
            self._progress(self._pages + self._pages * at // max(head, 1), 2 * self._pages)


def copy_verified(
    source: Path,
    making: Path,
    key: bytes | None,
    engine: EngineName,
    progress: Progress | None,
    change: Callable[[Path], None] = lambda _copy: None,
) -> BackedUp:
    """Copy a journal into an empty file that needs no log beside it, let it be changed, and verify it."""
    halves = _Halves(progress)
    with JournalReader(source, key=key, engine=engine) as reader:
        due = _due(source, engine)
        reader.copy_into(making, halves.copied)
    with_log(making, has_log=False)
    change(making)
    with JournalReader(making, key=key, engine=engine) as copy:
        found = copy.verify(halves.verified)
        newest = copy.tail(1) if found.intact else []
        first = copy.first
    if not found.intact:
        problem = found.problems[0]
        raise JournalCorrupt(
            f"{source}: {problem.what}, so it was not copied; go on in a new file with recover_into",
            problem.position or 1,
        )
    if found.anchor.position < due:
        raise JournalCorrupt(
            f"{source} ends at position {found.anchor.position}, but {due} had been reached, so it was not "
            "copied: its write-ahead log is damaged or gone. Go on in a new file with recover_into",
            found.anchor.position + 1,
        )
    return BackedUp(
        path=making,
        anchor=found.anchor,
        first=first,
        entries=found.entries,
        newest_ns=newest[0].wall_ns if newest else None,
        size_bytes=making.stat().st_size,
    )


def _due(path: Path, engine: EngineName) -> int:
    """Return the position that a copy which begins now has to reach."""
    side = glance(path, engine)
    if side is None:
        return 0
    with side:
        return side.due if side.found else 0


def with_log(path: Path, *, has_log: bool) -> None:
    """Write into a database that nobody has open whether it has a write-ahead log, and put it on the disk.

    Without one it can be read where nothing can be written, and no reader leaves files beside it.
    """
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.pwrite(fd, bytes([2, 2] if has_log else [1, 1]), _VERSIONS_AT)
        os.fsync(fd)
    finally:
        os.close(fd)
