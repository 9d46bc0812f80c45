"""Who holds a lock on the files of a journal, where the system tells: on Linux, /proc/locks does.

To ask takes the system some milliseconds, and half a second where it is busy: not on a loop.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from openoutcry.errors import JournalLocked

_LOCKS: Final = Path("/proc/locks")
_WRITER: Final = (120, 122)
"""The bytes of SQLite's index that whoever writes, checkpoints or rebuilds it locks."""
_READERS: Final = (123, 127)
"""The bytes of it of which whoever reads locks one (https://sqlite.org/walformat.html, section 2.3)."""
_DATABASE: Final = 0x4000_0000
"""From here on SQLite locks a database."""


def holder_of(path: Path) -> int | None:
    """Return the process that has locked a journal's database for writing; None if none, or not known."""
    wanted = {_name_of(path): (_DATABASE, _DATABASE + 511), _name_of(Path(f"{path}-shm")): _WRITER}
    return next(_holders(wanted, "WRITE"), None)  # (others may hold it for reading beside)


def readers_of(path: Path) -> list[int]:
    """Return the processes that read a journal at this moment, as far as that can be known.

    Whoever writes is one for an instant with each commit.
    """
    return sorted(set(_holders({_name_of(Path(f"{path}-shm")): _READERS}, "READ")))


def _holders(wanted: dict[str, tuple[int, int]], kind: str) -> Iterator[int]:
    """Yield the processes that hold locks of a kind on some of these bytes of these files."""
    try:
        lines = _LOCKS.read_text("ascii", "replace").splitlines()
    except OSError:
        return
    for line in lines:
        fields = line.split()  # 1: POSIX ADVISORY READ pid device:inode first last
        if len(fields) < 8 or fields[1] != "POSIX" or fields[3] != kind:
            continue
        span = wanted.get(fields[5])
        last = 2**63 if fields[7] == "EOF" else int(fields[7])
        if span is not None and int(fields[6]) <= span[1] and last >= span[0] and int(fields[4]) > 0:
            yield int(fields[4])


def _name_of(path: Path) -> str:
    """Return how the system names a file in its list of locks; empty where there is none."""
    try:
        stat = path.stat()
    except OSError:
        return ""
    return f"{os.major(stat.st_dev):02x}:{os.minor(stat.st_dev):02x}:{stat.st_ino}"


def named(error: JournalLocked, path: Path) -> JournalLocked:
    """Return an error that says who holds the lock; the same if that is said, or cannot be known."""
    return error if error.pid is not None else with_holder(error, holder_of(path))


def with_holder(error: JournalLocked, pid: int | None) -> JournalLocked:
    """Return an error that says that this process holds the lock; the same for None."""
    if pid is None:
        return error
    found = JournalLocked(f"{error}; {_in_words(pid)} holds the lock", pid, is_passing=error.is_passing)
    found.__cause__ = error.__cause__
    return found


def _in_words(pid: int) -> str:
    """Return a process in words: its number, and what it runs where that can be known."""
    if pid == os.getpid():
        return f"another connection of this process ({pid})"
    try:
        name = Path(f"/proc/{pid}/comm").read_text("utf-8", "replace").strip()
    except OSError:
        name = ""
    return f"process {pid} ({name})" if name else f"process {pid}"
