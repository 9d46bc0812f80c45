"""The files of an open journal: whether those that were opened are still there, as long as they must be.

SQLite holds descriptors, and goes on writing to a file that has no name any more, or behind a hole that was
torn into it. Nothing of that is there after the next opening, and no write says so.
"""

import errno
import os
import struct
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from openoutcry.journals import mapped_files
from openoutcry.journals.mapped_files import HURT
from openoutcry.journals.refusals import may_use

_ENDINGS: Final = ("", "-wal", "-shm", "-marks")
_LOG, _INDEX = 1, 2
_NOT_A_FILE: Final = (errno.EBADF, errno.EINVAL)
_LOG_MAGIC: Final = (0x377F0682, 0x377F0683)
_LOG_HEADER_BYTES: Final = 32
_FRAME_HEADER_BYTES: Final = 24
_INDEX_HEADER: Final = "=IIIBBHI"
"""Version, unused, change, initialised, byte order, page size and last frame. The index begins with two
copies of 48 bytes of which these are the first (https://www.sqlite.org/walformat.html)."""
_INDEX_VERSION: Final = 3_007_000


@dataclass(slots=True)
class _File:
    path: Path
    place: tuple[int, int]
    rights: tuple[int, int, int]
    size_bytes: int


class StandingFiles:
    """The files of one journal as they were when it was opened, and as they have grown.

    Attributes:
        places: Which files were opened, by device and number; the database first.
        is_log_cut: Whether the log or its index was seen to be truncated, so that they do not fit any more.

    """

    def __init__(self, path: Path, log_fd: int) -> None:
        """Look at them. Raises `OSError` where one is missing. `log_fd` is of the write-ahead log."""
        self._log_fd = log_fd
        self._files = []
        for ending in _ENDINGS:
            file = Path(f"{path}{ending}")
            stat = file.stat()
            rights = (stat.st_mode, stat.st_uid, stat.st_gid)
            self._files.append(_File(file, (stat.st_dev, stat.st_ino), rights, stat.st_size))
        self.places: list[tuple[int, int]] = [file.place for file in self._files]
        self.is_log_cut: bool = False
        self._may_shrink = False
        self._database_fd, self._index_fd = map(_find_descriptor, (self.places[0], self.places[_INDEX]))
        self._tells_of_holes = self._begin_of_hole() >= self._files[_LOG].size_bytes
        mapped_files.renew()

    def may_shrink(self) -> None:
        """The next checkpoint makes the database shorter, since space is given back to the disk."""
        self._may_shrink = True

    def checkpointed(self) -> None:
        """The log was copied as a whole: the database is as long as it should be."""
        if self._may_shrink:
            self._may_shrink = False
            self._files[0].size_bytes = 0
        self._look_at(self._files[0])

    def sync_database(self) -> None:
        """Wait until the database is on the disk, in any thread; do nothing where its descriptor is unknown.

        It may be that of a reader of this process, which has been closed since.
        """
        try:
            stat = os.fstat(self._database_fd)
            if (stat.st_dev, stat.st_ino) == self.places[0]:
                os.fdatasync(self._database_fd)
        except OSError as problem:
            if problem.errno not in _NOT_A_FILE:
                raise

    def look(self, *, thoroughly: bool = False) -> str:
        """Return what has happened to one of the files, in words; empty if nothing has.

        Takes 20 to 50 us. `thoroughly` also finds a log that was cut off and written to since, by its hole,
        and puts the handler of SIGBUS back in its place.
        """
        log = self._files[_LOG]
        log.size_bytes = max(log.size_bytes, self._written_bytes())
        for file in self._files:
            what = self._look_at(file)
            if what:
                return what
        what = self._look_at_log()
        if not what and thoroughly:
            mapped_files.renew()
            what = self._look_for_hole()
        self.is_log_cut = self.is_log_cut or bool(what)
        return what

    def _written_bytes(self) -> int:
        """Return how long the log is by its index, 0 where that cannot be known."""
        if self._index_fd < 0:
            return 0
        begin = os.pread(self._index_fd, 96, 0)
        if len(begin) < 96 or begin[:48] != begin[48:]:  # it was truncated, or is being written
            return 0
        version, _, _, _, _, page_bytes, frames = struct.unpack_from(_INDEX_HEADER, begin)
        if version != _INDEX_VERSION or not frames:
            return 0
        page_bytes = 65_536 if page_bytes == 1 else page_bytes
        return _LOG_HEADER_BYTES + int(frames) * (int(page_bytes) + _FRAME_HEADER_BYTES)

    def _look_for_hole(self) -> str:
        log, hole = self._files[_LOG], self._begin_of_hole()
        if hole >= log.size_bytes or not self._tells_of_holes:
            return ""
        return f"{log.path} was truncated to {hole:,} bytes or less, and written to since"

    def _begin_of_hole(self) -> int:
        """Return how long the log is without a hole. It never has one: its pages are written in order."""
        try:
            return os.lseek(self._log_fd, 0, os.SEEK_HOLE)
        except OSError:  # the file system does not tell, or there is nothing in the file
            return 0

    def _look_at(self, file: _File) -> str:
        path = file.path
        if HURT and path in HURT:
            self._note_cut(file)
            return HURT[path]
        try:
            stat = path.stat()
        except FileNotFoundError:
            return f"{path} was removed"
        except OSError as problem:
            return f"{path} cannot be reached any more ({problem.strerror})"
        if (stat.st_dev, stat.st_ino) != file.place:
            return f"{path} was replaced by another file"
        if stat.st_size < file.size_bytes and not (self._may_shrink and file is self._files[0]):
            self._note_cut(file)
            return f"{path} was truncated: it had {file.size_bytes:,} bytes, and has {stat.st_size:,}"
        file.size_bytes = stat.st_size
        return _look_at_rights(file, stat)

    def _note_cut(self, file: _File) -> None:
        self.is_log_cut = self.is_log_cut or file in (self._files[_LOG], self._files[_INDEX])

    def _look_at_log(self) -> str:
        """See that the log begins as a log does, which one does not that was cut off and written to since."""
        log = self._files[_LOG]
        if not log.size_bytes:
            return ""
        begin = os.pread(self._log_fd, 4, 0)
        if len(begin) == 4 and struct.unpack(">I", begin)[0] in _LOG_MAGIC:
            return ""
        return f"{log.path} was truncated or overwritten: it does not begin as a write-ahead log"


def _find_descriptor(place: tuple[int, int]) -> int:
    """Return SQLite's descriptor of a file, -1 where it cannot be found.

    Closing one of our own would let go of the locks that SQLite has by its.
    """
    with suppress(OSError):
        for entry in Path("/proc/self/fd").iterdir():
            with suppress(OSError):
                stat = entry.stat()
                if (stat.st_dev, stat.st_ino) == place:
                    return int(entry.name)
    return -1


def _look_at_rights(file: _File, stat: os.stat_result) -> str:
    rights = (stat.st_mode, stat.st_uid, stat.st_gid)
    if rights == file.rights or may_use(file.path, os.R_OK | os.W_OK):
        file.rights = rights
        return ""
    return (
        f"{file.path} was made unreadable for user {os.geteuid()}: it is user {stat.st_uid}'s and has mode "
        f"{stat.st_mode & 0o7777:04o}; change that back with chown or chmod"
    )
