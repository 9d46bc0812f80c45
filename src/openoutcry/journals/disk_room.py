"""The room that a journal needs on its file system, and a write-ahead log that has outgrown its bound.

Health, `status` and `doctor` say the same of both, in the words of this module.
"""

import os
from collections.abc import Collection
from pathlib import Path
from typing import Final, NamedTuple

from openoutcry.core.wording import listed, span
from openoutcry.ports import LogState
from openoutcry.units import NS_PER_S

LOG_BYTES_MAX: Final = 64 * 1024 * 1024
"""The bound of the write-ahead log, but for one commit and for what a reader keeps in it."""


class DiskRoom(NamedTuple):
    """The room of a journal, in bytes.

    Attributes:
        free_bytes: What the file system has left for this user.
        database_bytes: The size of the database.
        log_bytes: The size of the write-ahead log.

    """

    free_bytes: int
    database_bytes: int
    log_bytes: int

    @property
    def is_log_long(self) -> bool:
        """Whether the log is above its bound, which it stays until it is closed."""
        return self.log_bytes > LOG_BYTES_MAX

    @property
    def running_bytes(self) -> int:
        """What it may take at any time: the rest of the log, and the log once more where it is copied to."""
        return max(0, LOG_BYTES_MAX - self.log_bytes) + LOG_BYTES_MAX

    @property
    def recovery_bytes(self) -> int:
        """What a recovery takes beside it: a second copy of the database, with a log of its own."""
        return self.database_bytes + 2 * LOG_BYTES_MAX

    @property
    def needed_bytes(self) -> int:
        """All that it needs: itself, its log, and a recovery. Vacuum goes through the log."""
        return self.database_bytes + 2 * LOG_BYTES_MAX + self.recovery_bytes


def room_of(path: Path) -> DiskRoom:
    """Return the room of the journal at a path. Raises `OSError` where it is gone."""
    system = os.statvfs(path.parent)
    return DiskRoom(system.f_bavail * system.f_frsize, path.stat().st_size, _log_bytes(path))


def _log_bytes(path: Path) -> int:
    try:
        return Path(f"{path}-wal").stat().st_size
    except FileNotFoundError:
        return 0


def say_log(log: LogState, readers: Collection[int], since_ns: int | None = None) -> str:
    """Return what is wrong with a write-ahead log, and what to do; empty if nothing is.

    `since_ns`: for how long it could not be copied as a whole, if that is known.
    """
    lasting = "" if since_ns is None else f", for {span(since_ns // NS_PER_S * NS_PER_S)}"
    if log.hindered == "room":
        return (
            f"the database has no room to take over its write-ahead log of {log.size_bytes:,} bytes"
            f"{lasting}: make room"
        )
    if log.size_bytes <= LOG_BYTES_MAX or log.hindered != "reader":
        return ""
    who = listed("this process" if pid == os.getpid() else f"process {pid}" for pid in readers)
    return (
        f"the write-ahead log has {log.size_bytes:,} bytes, and {LOG_BYTES_MAX:,} are its bound: "
        f"a reader that does not end keeps it from starting over{lasting}; "
        + (f"end the reading of {who}" if who else "end it (the system does not tell whose it is)")
    )


def say_room(room: DiskRoom) -> str:
    """Return that a file system is nearly full, and for what the room is needed; empty if it is not."""
    if room.free_bytes >= room.running_bytes:
        return ""
    return (
        f"the journal's file system has {room.free_bytes:,} bytes left, and {room.running_bytes:,} may be "
        f"needed at any time, for the write-ahead log and the database: make room before "
        f"publishing is refused"
    )
