"""The side file of a journal: the writer's lock, the heads it has reached, and what is in flight.

It is mapped into memory, so that noting a call costs a store and no system call, and SIGKILL takes nothing
away: the pages belong to the operating system. After a power cut the file may be older than the database;
nothing here is needed for correctness then, and the boot id tells the two cases apart. It is synced at
opening, and now and then by a bus, so that what a power cut takes can be counted. A file that is cut off
under its map costs the journal and not the process: see `mapped_files`.

    0     magic, generation, boot id, pid      written at opening
    48    written | synced | dead | run | set aside as        64-bit cells
    4096  one slot of 512 bytes per call in flight: position | lane's length | name's length and a checksum
          of all but the position (32 bits each, 0 in those of earlier versions) | lane and name

A mapped page reaches the disk at any time, in any mixture of what its cells were while it was written. So
after a power cut each cell counts by itself: a head is one that had been reached, and a slot whose name does
not match its checksum tells of nobody.

The lock is a BSD lock on this file and not on the database, whose locks are SQLite's own business:
closing any descriptor of the database would let go of them.
"""

import fcntl
import mmap
import os
from contextlib import suppress
from pathlib import Path
from typing import Final
from zlib import crc32

from openoutcry.errors import ConfigError, JournalError, JournalFull, JournalLocked
from openoutcry.journals import mapped_files
from openoutcry.journals.refusals import NO_ROOM, must_be_own

MAGIC: Final = b"OOMARKS1"
SLOTS: Final = 2_048
_HEADER_BYTES: Final = 4_096
_SLOT_BYTES: Final = 512
_SLOT_CELLS: Final = _SLOT_BYTES // 8
_NAME_BYTES_MAX: Final = _SLOT_BYTES - 24
FILE_BYTES: Final = _HEADER_BYTES + SLOTS * _SLOT_BYTES
"""The size of the file, always."""
WRITTEN: Final = 6
"""The cell with the head after the last commit."""
SYNCED: Final = 7
"""The cell with the head after the last sync."""
_PID, _DEAD, _RUN, _SET_ASIDE_AS = 5, 8, 9, 10
_SET_ASIDE_MAX: Final = 10**9
_FIRST_CELL: Final = _HEADER_BYTES // 8
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


def boot_id() -> bytes:
    """Return 16 bytes that change when the machine starts again; zeros where that cannot be known."""
    try:
        return bytes.fromhex(_BOOT_ID.read_text("utf-8").strip().replace("-", ""))
    except (OSError, ValueError):
        return bytes(16)


def take_lock(fd: int, path: Path) -> None:
    """Take the writer's lock on a side file. Raises `JournalLocked`, naming the process that has it."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as problem:
        pid = int.from_bytes(os.pread(fd, 8, 8 * _PID), "little") or None
        holder = f"process {pid}" if pid else "another process"
        raise JournalLocked(
            f"{str(path).removesuffix('-marks')} is being written by {holder}; "
            f"stop that one first, or read the file with JournalReader, which needs no lock",
            pid,
        ) from problem
    except OSError as problem:
        raise JournalError(
            f"{path} cannot be locked: {problem.strerror or problem}; put the journal on a local file system "
            f"that has locks (flock)"
        ) from problem


def identity_in(path: Path) -> tuple[str, int] | None:
    """Return generation and run of the last writer in a side file; None where there is no whole one."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        head = os.pread(fd, 8 * (_RUN + 1), 0) if os.fstat(fd).st_size == FILE_BYTES else b""
    except OSError:
        return None
    finally:
        os.close(fd)
    if not head.startswith(MAGIC):
        return None
    return head[len(MAGIC) : 24].hex(), int.from_bytes(head[8 * _RUN :], "little")


class MarksSync:
    """A sync of the marks.

    Attributes:
        problem: What went wrong.

    """

    __slots__ = ("_fd", "problem")

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.problem: OSError | None = None

    def perform(self) -> None:
        """Wait for the disk, without the interpreter's lock."""
        try:
            os.fdatasync(self._fd)
        except OSError as problem:
            self.problem = problem
        finally:
            os.close(self._fd)


def _halves(cell: int) -> tuple[int, int]:
    return cell & 0xFFFF_FFFF, cell >> 32


class MarksFile:
    """The mapped side file, locked for one writer.

    Attributes:
        path: Where it is.
        cells: All of it as 64-bit cells: those that `claim` gives out, `WRITTEN` and `SYNCED`.
        file: What becomes of it while it is mapped.
        found: Whether it was there and belonged to the generation named at `adopt`.

    """

    __slots__ = ("_fd", "_free", "_generation", "_map", "cells", "created", "file", "found", "path")

    def __init__(self, path: Path) -> None:
        """Take the lock. Raises `JournalLocked`, naming who has it, `JournalFull`, or `OSError`."""
        self.path: Path = path
        self.found: bool = False
        self._generation = b""
        must_be_own(path, Path(str(path).removesuffix("-marks")))
        self.created: bool = not path.exists()
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
        try:
            take_lock(self._fd, path)
            self._fill_up()
            self.file: mapped_files.MappedFile = mapped_files.hold(path, fill=0)
        except BaseException:
            os.close(self._fd)
            raise
        try:
            self._map = mmap.mmap(self._fd, FILE_BYTES)
        except BaseException:
            self.file.release()
            os.close(self._fd)
            raise
        self.cells: memoryview[int] = memoryview(self._map).cast("Q")
        self._free = list(range(_FIRST_CELL + (SLOTS - 1) * _SLOT_CELLS, _FIRST_CELL - 1, -_SLOT_CELLS))

    def _fill_up(self) -> None:
        """Give the file its size, without holes: a store into one would fail on a full disk."""
        missing = FILE_BYTES - os.fstat(self._fd).st_size
        try:
            while missing > 0:
                missing -= os.pwrite(self._fd, bytes(missing), FILE_BYTES - missing)
        except OSError as problem:
            if problem.errno not in NO_ROOM:
                raise
            raise JournalFull(
                f"{self.path} needs {FILE_BYTES} bytes and cannot have them ({problem.strerror}); make room"
            ) from problem

    @property
    def tells_of_entries(self) -> bool:
        """Whether a journal that is not empty has stood beside this file."""
        return bytes(self._map[: len(MAGIC)]) == MAGIC and self.written > 0

    def belongs_to(self, generation: bytes) -> bool:
        """Return True if what stands here is of this database."""
        return bytes(self._map[:24]) == MAGIC + generation

    def stands_at(self, path: Path) -> bool:
        """Return True if the file at a path is this one, whose lock is held here."""
        try:
            return os.path.samestat(path.stat(), os.fstat(self._fd))
        except OSError:
            return False

    @property
    def generation(self) -> bytes:
        """Of which database it is."""
        return bytes(self._map[len(MAGIC) : 24])

    def adopt(self, generation: bytes) -> None:
        """See whether what stands here belongs to this database, and empty the file if it does not."""
        self._generation = generation
        self.found = self.belongs_to(generation)
        if not self.found:
            self._map[:] = bytes(FILE_BYTES)
            self._map[:24] = MAGIC + generation

    @property
    def same_boot(self) -> bool:
        """Whether the machine has run on since the last writer, so that nothing written can be lost."""
        return self.found and bytes(self._map[24:40]) == boot_id() != bytes(16)

    @property
    def dead(self) -> bool:
        """Whether a sync or write of this generation has failed."""
        return self.cells[_DEAD] != 0

    def die(self) -> None:
        """Note that this generation takes nothing more; from any thread, harmless when closed."""
        with suppress(ValueError):
            self.cells[_DEAD] = 1
        if self.file.hurt:  # what is stored there reaches no file
            with suppress(OSError):
                os.pwrite(self._fd, MAGIC + self._generation, 0)
                os.pwrite(self._fd, (1).to_bytes(8, "little"), 8 * _DEAD)

    def sync(self) -> None:
        """Put what is marked on the disk. Raises `OSError`."""
        if not self.file.hurt:
            self._map.flush()
        os.fsync(self._fd)

    @property
    def written(self) -> int:
        """The last position that a writer has committed."""
        return int(self.cells[WRITTEN])

    @property
    def synced(self) -> int:
        """The last position of which a sync has returned."""
        return int(self.cells[SYNCED])

    @property
    def run(self) -> int:
        """A number of the writer's run that left what is here."""
        return int(self.cells[_RUN])

    @property
    def set_aside_as(self) -> int:
        """The number under which a restore that has not ended sets the journal's files aside; 0 if none.

        One with more than nine digits is none: what stands here was not written by a journal.
        """
        number = int(self.cells[_SET_ASIDE_AS])
        return number if number < _SET_ASIDE_MAX else 0

    def begin_to_set_aside(self, number: int) -> None:
        """Note on the disk that a restore begins to move the journal's files."""
        self.cells[_SET_ASIDE_AS] = number
        self.sync()

    def copy_to(self, path: Path) -> None:
        """Put a copy on the disk, for a journal that is set aside."""
        content = bytearray(self._map)
        content[8 * _SET_ASIDE_AS : 8 * (_SET_ASIDE_AS + 1)] = bytes(8)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(fd)

    def forget(self) -> None:
        """Empty the file, on the disk: the database beside it is one that nobody has opened yet."""
        self._map[:] = bytes(len(self._map))
        self.sync()

    def in_flight(self, head: int) -> list[tuple[str, str, int]]:
        """Return (subscription, lane, position) of every call that was not over, up to the head."""
        found = []
        for cell in range(_FIRST_CELL, _FIRST_CELL + SLOTS * _SLOT_CELLS, _SLOT_CELLS):
            position = int(self.cells[cell])
            if 0 < position <= head:  # else it is damaged, or of an event that a power cut took
                call = self._call_of(cell)
                if call is not None:
                    found.append((*call, position))
        return found

    def _call_of(self, cell: int) -> tuple[str, str] | None:
        """Return the subscription and the lane that a slot names; None if it is damaged."""
        lane_bytes, name_bytes, check = self.cells[cell + 1], *_halves(self.cells[cell + 2])
        if not (lane_bytes and name_bytes) or lane_bytes + name_bytes > _NAME_BYTES_MAX:
            return None
        at = cell * 8 + 24
        text = bytes(self._map[at : at + lane_bytes + name_bytes])
        if check and check != crc32(text, lane_bytes):
            return None
        try:
            return text[lane_bytes:].decode(), text[:lane_bytes].decode()
        except UnicodeDecodeError:
            return None

    def begin_run(self, written: int, synced: int) -> None:
        """Clear what the last run left and sign for this one."""
        for cell in range(_FIRST_CELL, _FIRST_CELL + SLOTS * _SLOT_CELLS, _SLOT_CELLS):
            if any(self.cells[cell : cell + 3]):
                self._map[cell * 8 : cell * 8 + _SLOT_BYTES] = bytes(_SLOT_BYTES)
        self.cells[WRITTEN] = written
        self.cells[SYNCED] = synced
        self.cells[_PID] = os.getpid()
        self._map[24:40] = boot_id()  # from here on the head counts: one that a power cut has taken must not
        self.cells[_RUN] = int.from_bytes(os.urandom(7), "little") + 1
        self.cells[_SET_ASIDE_AS] = 0  # a restore that ended before it had moved anything

    def begin_sync(self) -> "MarksSync":
        """Return a sync that any thread may perform, whatever becomes of this object meanwhile."""
        return MarksSync(os.dup(self._fd))

    def claim(self, subscription: str, lane: str) -> int:
        """Return the index of a cell for calls of this subscription, one at a time."""
        text = (lane + subscription).encode()
        if len(text) > _NAME_BYTES_MAX:
            raise ConfigError(
                f"the subscription name {subscription[:40]!r}... has {len(text)} bytes with its lane; "
                f"at most {_NAME_BYTES_MAX} fit: give it a shorter name"
            )
        if not self._free:
            raise ConfigError(f"{SLOTS} calls can be marked as in flight at once; lower the concurrency")
        cell = self._free.pop()
        lane_bytes = len(lane.encode())
        self._map[cell * 8 + 24 : cell * 8 + 24 + len(text)] = text
        self.cells[cell + 1] = lane_bytes
        self.cells[cell + 2] = (len(text) - lane_bytes) | crc32(text, lane_bytes) << 32
        return cell

    def release(self, cell: int) -> None:
        """Give a cell back."""
        self.cells[cell] = 0
        self._free.append(cell)

    def disown(self) -> None:
        """Let go of the file in a forked child, so that the lock ends with the parent.

        The map holds a descriptor too.
        """
        self.cells.release()
        self._map.close()
        self.file.release()
        os.close(self._fd)

    def close(self, *, remove: bool = False) -> None:
        """Let go of the lock; `remove` the file too if this opening made it for nothing."""
        self.cells.release()
        self._map.close()
        self.file.release()
        if remove and self.created:
            self.path.unlink(missing_ok=True)
        fcntl.flock(self._fd, fcntl.LOCK_UN)  # a child forked a moment ago may still share the descriptor
        os.close(self._fd)
