"""A disk that can lose power, below SQLite and below the journal's own syncs.

The files are real ones in a folder and stand for the operating system's page cache. Every write, truncation,
sync, creation and removal is recorded, and at a power cut the record says what a disk may hold then:

- what was synced is there;
- of every other sector *any* state that the page cache has had since then may be there, each sector for
  itself: lost, kept, or kept while an earlier one is lost. A write may be torn within a sector, as long as the
  bytes around it stay what they were (SQLite relies on that too);
- a name that was made or removed since the folder was last synced may be there or not;
- of the marks, which are mapped and never synced, every page may be as old as it likes.

A failed sync is as bad as Linux makes it: some of the pages are not on the disk, all of them count as clean, so
that a second sync finds nothing to do and succeeds.

SQLite's calls come in through an apsw VFS that is made the default one for the time. The journal's own
`os.fdatasync` and `os.fsync` are caught by replacing those two functions, for descriptors in the folder.
"""

import errno
import os
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import apsw

from openoutcry.journals import marks
from openoutcry.journals.engines import ApswConnection

SECTOR: Final = 512
PAGE: Final = 4096
_MARKS_PAGES: Final = 2
"""The header, and the page of the first eight cells: the workloads claim no more."""
_VFS: Final = "power-loss"

Keep = Callable[[int, int], bool]
"""Asked as (number of the operation, sector): is the sector, as this operation left it, on the disk?"""


class PowerCut(BaseException):
    """The power went: nothing after this happens."""


class Inode:
    """What a file holds on the disk, and what the page cache has done to it since."""

    __slots__ = ("_cache", "disk", "ops")

    def __init__(self, disk: bytes = b"") -> None:
        self.disk = bytearray(disk)
        self._cache: bytearray | None = None  # None: the same as the disk
        self.ops: list[tuple[int, bytes | None]] = []
        """Writes as (offset, bytes), truncations as (size, None)."""

    def sync(self) -> None:
        """Put everything dirty on the disk."""
        if self._cache is None:
            for offset, piece in self.ops:
                _apply(self.disk, offset, piece)
        else:
            self.disk = self._replay(lambda _, __: True, PAGE)
            for offset, piece in self.ops:
                _apply(self._cache, offset, piece)
        self.ops.clear()

    def fail_to_sync(self, rng: random.Random) -> None:
        """Put some of it on the disk, and take all of it for clean."""
        kept = self.after_cut(rng)
        cache = self.cached()
        self.disk, self._cache = bytearray(kept), cache
        self.ops.clear()

    def cached(self) -> bytearray:
        """Return what the page cache holds."""
        cache = bytearray(self.disk if self._cache is None else self._cache)
        for offset, piece in self.ops:
            _apply(cache, offset, piece)
        return cache

    def after_cut(self, rng: random.Random) -> bytes:
        """Return what the disk may hold when the power goes now."""
        if not self.ops:
            return bytes(self.disk)
        if rng.random() < 0.25:
            return self._torn(rng)
        hole = b"\0" if rng.random() < 0.75 else b"\xa5"
        return bytes(self._replay(choose_keep(rng, len(self.ops)), SECTOR, hole))

    def _torn(self, rng: random.Random) -> bytes:
        """Every operation up to one, and that one in part."""
        image = bytearray(self.disk if self._cache is None else self._replay(lambda _, __: True, PAGE))
        if self._cache is not None:
            return bytes(image)
        last = rng.randrange(len(self.ops))
        for offset, piece in self.ops[:last]:
            _apply(image, offset, piece)
        offset, piece = self.ops[last]
        if piece is not None:
            _apply(image, offset, piece[: rng.randrange(len(piece) + 1)])
        return bytes(image)

    def _replay(self, keep: Keep, unit: int, hole: bytes = b"\0") -> bytearray:
        """Let the page cache live again, and copy out every sector that is kept as it was then."""
        image = bytearray(self.disk)
        cache = bytearray(self.disk if self._cache is None else self._cache)
        for number, (offset, piece) in enumerate(self.ops):
            _apply(cache, offset, piece)
            if piece is None:
                if keep(number, -1):
                    del image[offset:]
                continue
            for sector in range(offset // unit, (offset + len(piece) - 1) // unit + 1):
                if keep(number, sector):
                    start = sector * unit
                    if start > len(image):
                        image += hole * (start - len(image))
                    image[start : start + unit] = cache[start : start + unit]
        return image


def _apply(content: bytearray, offset: int, piece: bytes | None) -> None:
    if piece is None:
        del content[offset:]
        return
    if offset > len(content):
        content += bytes(offset - len(content))
    content[offset : offset + len(piece)] = piece


def choose_keep(rng: random.Random, count: int) -> Keep:
    """Return one of the ways in which a disk may treat `count` operations that were not synced."""
    cut = rng.randrange(count + 1)
    chance = rng.random()
    per_operation = [rng.random() < chance for _ in range(count)]
    ways: tuple[Keep, ...] = (
        lambda _, __: False,
        lambda _, __: True,
        lambda number, _: number < cut,
        lambda number, _: number >= cut,
        lambda number, _: number != cut,
        lambda number, _: per_operation[number],
        lambda _, __: rng.random() < chance,
        lambda number, sector: number < cut or (number == cut and rng.random() < 0.5 and sector >= 0),
    )
    return rng.choice(ways)


class SimulatedDisk:
    """A folder whose files remember what of them is on the disk.

    Attributes:
        folder: Where the files are.
        steps: How many operations there have been.
        cut_at: The operation at which the power goes; None for never.
        frozen: The power is off, or the process is dead: nothing is written any more.
        capacity: How many bytes all files together may have; None for no limit.
        fail_write_at: The number of the write that fails with an I/O error.
        fail_sync_at: The number of the sync that fails and drops pages.
        failed: Whether one of these has happened.
        newest_marks: The marks happen to be on the disk as they are.

    """

    def __init__(self, folder: Path, rng: random.Random, boot: bytes) -> None:
        self.folder = folder
        self.rng = rng
        self.boot = boot
        self.steps = self.writes = self.syncs = 0
        self.cut_at: int | None = None
        self.capacity: int | None = None
        self.fail_write_at = self.fail_sync_at = 0
        self.failed = self.frozen = self.newest_marks = False
        self.now = {path.name: Inode(path.read_bytes()) for path in folder.iterdir()}
        self._synced = dict(self.now)
        self._marks: dict[str, list[list[bytes]]] = {}
        self._image: dict[str, bytes] | None = None

    # What happens to the files

    def step(self) -> None:
        """Count an operation, and cut the power if it is the one."""
        self.steps += 1
        self.look_at_marks()
        if self.steps == self.cut_at:
            self.cut()
            raise PowerCut

    def opened(self, name: str) -> None:
        """Note a name that SQLite has opened and may have made."""
        if name not in self.now:
            self.now[name] = Inode()

    def removed(self, name: str) -> None:
        """Note a name that SQLite has removed."""
        self.step()
        self.now.pop(name, None)

    def renamed(self, name: str, other: str) -> None:
        """Note that a file has another name now."""
        self.step()
        self.now[other] = self.now.pop(name, None) or Inode()
        if name in self._marks:
            self._marks[other] = self._marks.pop(name)

    def wrote(self, name: str, offset: int, piece: bytes) -> int:
        """Note a write, and return how many bytes of it get through. Raises what the file should raise then."""
        self.step()
        self.writes += 1
        through = len(piece)
        if self.writes == self.fail_write_at:
            self.failed = True
            through = self.rng.randrange(len(piece))
        elif self.capacity is not None:
            size = len(self.now[name].cached())
            growth = max(0, offset + len(piece) - size)
            through -= max(0, min(growth, self.used() + growth - self.capacity))
        if through:
            self.now[name].ops.append((offset, piece[:through]))
        return through

    def truncated(self, name: str, size: int) -> None:
        """Note a truncation."""
        self.step()
        self.now[name].ops.append((size, None))

    def sync(self, name: str) -> bool:
        """Sync a file, and tell whether it worked."""
        self.step()
        self.syncs += 1
        if self.syncs == self.fail_sync_at:
            self.failed = True
            self.now[name].fail_to_sync(self.rng)
            return False
        self.now[name].sync()
        return True

    def sync_folder(self) -> None:
        """Put the names on the disk, also of what was made without SQLite."""
        self.step()
        there = {path.name for path in self.folder.iterdir()}
        for name in there - self.now.keys():
            self.now[name] = Inode()
        for name in self.now.keys() - there:
            del self.now[name]
        self._synced = dict(self.now)

    def used(self) -> int:
        """Return how many bytes all files have, but for the marks and the index of the log."""
        return sum(
            len(inode.cached()) for name, inode in self.now.items() if not name.endswith(("-marks", "-shm"))
        )

    def look_at_marks(self) -> None:
        """Note the states that the mapped pages have had."""
        for name in self.now:
            if not name.endswith("-marks"):
                continue
            if name not in self._marks:
                before = bytes(self.now[name].disk).ljust(PAGE * _MARKS_PAGES, b"\0")
                self._marks[name] = [[before[n * PAGE : n * PAGE + PAGE]] for n in range(_MARKS_PAGES)]
            history = self._marks[name]
            fd = os.open(f"{self.folder}/{name}", os.O_RDONLY)
            for number, versions in enumerate(history):
                page = os.pread(fd, PAGE, number * PAGE)
                if page != versions[-1]:
                    versions.append(page)
            os.close(fd)

    # The end

    def cut(self) -> None:
        """Cut the power, and decide what the disk holds."""
        self.look_at_marks()
        self.frozen = True
        self._image = self._decide()

    def kill(self) -> dict[str, bytes]:
        """End the process, not the machine; return the mapped files, to be put back when it is buried."""
        self.frozen = True
        return {p.name: p.read_bytes() for p in self.folder.iterdir() if p.name.endswith(("-marks", "-shm"))}

    def revive(self, mapped: dict[str, bytes]) -> None:
        """Let the next process go on with the page cache of the last one."""
        for name, content in mapped.items():
            (self.folder / name).write_bytes(content)
        self.frozen = False

    def _decide(self) -> dict[str, bytes]:
        image: dict[str, bytes] = {}
        for name in sorted(self.now.keys() | self._synced.keys()):
            inode = self.rng.choice((self.now.get(name), self._synced.get(name)))
            if name.endswith("-marks"):
                if inode is not None:
                    image[name] = self._old_marks(name)
            elif inode is not None:
                image[name] = inode.after_cut(self.rng)
        for path in self.folder.glob("*-shm"):
            if self.rng.random() < 0.3:
                image[path.name] = path.read_bytes()
        return image

    def _old_marks(self, name: str) -> bytes:
        path = self.folder / name
        content = bytearray(path.read_bytes() if path.exists() else b"")
        for number, versions in enumerate(self._marks.get(name, ())):
            page = (
                self.rng.choice(versions)
                if not self.newest_marks and self.rng.random() < 0.5
                else versions[-1]
            )
            content[number * PAGE : (number + 1) * PAGE] = page
        return bytes(content)

    def after_cut(self, folder: Path, *, flip: str | None = None) -> "SimulatedDisk":
        """Return the disk as the next boot finds it, in a new folder; `flip` ends the name of a file to damage."""
        assert self._image is not None, "the power has been cut"
        folder.mkdir()
        for name, content in self._image.items():
            if flip is not None and name == flip and content:
                damaged = bytearray(content)
                damaged[self.rng.randrange(len(content))] ^= 1 << self.rng.randrange(8)
                content = bytes(damaged)  # noqa: PLW2901 - the same file, damaged
            (folder / name).write_bytes(content)
        return SimulatedDisk(folder, self.rng, self.rng.randbytes(16))


# The way from SQLite and the journal to the disk


class _File(apsw.VFSFile):
    """A file of SQLite's on the simulated disk."""

    def __init__(self, disk: SimulatedDisk, name: str | apsw.URIFilename, flags: list[int]) -> None:
        super().__init__("unix", name, flags)  # type: ignore[arg-type]
        self._disk = disk
        self._name = Path(name if isinstance(name, str) else name.filename()).name
        disk.opened(self._name)
        self._names_synced = not flags[0] & apsw.SQLITE_OPEN_CREATE

    @property
    def _is_off(self) -> bool:
        """Whether nothing that is done to it counts: the power is off, or the life is over that had it open."""
        return self._disk.frozen or not _mounted or _mounted[-1] is not self._disk

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 - SQLite's name
        if self._is_off:
            return
        through = self._disk.wrote(self._name, offset, bytes(data))
        super().xWrite(data[:through], offset)
        if through < len(data):
            failed = self._disk.failed and self._disk.writes == self._disk.fail_write_at
            raise apsw.exception_for(apsw.SQLITE_IOERR_WRITE if failed else apsw.SQLITE_FULL)

    def xTruncate(self, newsize: int) -> None:  # noqa: N802
        if not self._is_off:
            self._disk.truncated(self._name, newsize)
            super().xTruncate(newsize)

    def xSync(self, flags: int) -> None:  # noqa: N802, ARG002
        if self._is_off:
            return
        if not self._disk.sync(self._name):
            raise apsw.exception_for(apsw.SQLITE_IOERR_FSYNC)
        if not self._names_synced and self._name.endswith(("-wal", "-journal")):
            self._names_synced = True  # as SQLite does for logs that it has made
            self._disk.sync_folder()


class _Vfs(apsw.VFS):
    """Hands out files of the disk that is mounted."""

    def __init__(self) -> None:
        super().__init__(_VFS, "unix")

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:  # noqa: N802
        return _File(_mounted[-1], name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802
        if not _mounted or _mounted[-1].frozen or Path(filename).parent != _mounted[-1].folder:
            return  # a connection of a life that is over
        disk = _mounted[-1]
        disk.removed(Path(filename).name)
        super().xDelete(filename, syncdir)
        if syncdir:
            disk.sync_folder()


_mounted: list[SimulatedDisk] = []
_vfs: list[_Vfs] = []


def _here(path: Any) -> SimulatedDisk | None:
    """Return the mounted disk, if the path is on it and the power is on."""
    disk = _mounted[-1]
    return disk if Path(path).parent == disk.folder and not disk.frozen else None


def _caught(real: Callable[[int], None]) -> Callable[[int], None]:
    """Return a sync that goes to the mounted disk, if the descriptor does."""

    def sync(fd: int) -> None:
        disk = _mounted[-1]
        there = Path(f"/proc/self/fd/{fd}").readlink()
        if there == disk.folder:
            if not disk.frozen:
                disk.sync_folder()
        elif there.parent == disk.folder:
            if not disk.frozen and not disk.sync(there.name):
                raise OSError(errno.EIO, os.strerror(errno.EIO))
        else:
            real(fd)

    return sync


def _replace(real: Callable[..., None]) -> Callable[..., None]:
    def replace(path: Any, target: Any) -> None:
        disk = _here(path)
        if disk is not None:
            disk.renamed(Path(path).name, Path(target).name)
        real(path, target)

    return replace


def _unlink(real: Callable[..., None]) -> Callable[..., None]:
    def unlink(path: Any, **options: Any) -> None:
        disk = _here(path)
        if disk is not None and Path(path).exists():
            disk.removed(Path(path).name)
        real(path, **options)

    return unlink


def _close_quietly(connection: ApswConnection) -> None:
    """Close: SQLite swallows what fails meanwhile, and says nothing; apsw would raise what a VFS in Python has raised."""
    for _ in range(2):
        with suppress(apsw.IOError, apsw.FullError):
            connection._db.close()


@contextmanager
def mounted(disk: SimulatedDisk) -> Iterator[SimulatedDisk]:
    """Let everything that apsw and the journal do in the meantime go to this disk."""
    if not _vfs:
        _vfs.append(_Vfs())
    _mounted.append(disk)
    instead: list[tuple[Any, str, Any]] = [
        (os, "fdatasync", _caught(os.fdatasync)),
        (os, "fsync", _caught(os.fsync)),
        (os, "replace", _replace(os.replace)),
        (os, "unlink", _unlink(os.unlink)),
        (marks, "boot_id", lambda: disk.boot),
        (sys, "unraisablehook", lambda _: None),
        (ApswConnection, "close", _close_quietly),
    ]
    kept = [(where, name, getattr(where, name)) for where, name, _ in instead]
    for where, name, other in instead:
        setattr(where, name, other)
    apsw.set_default_vfs(_VFS)
    try:
        yield disk
    finally:
        apsw.set_default_vfs("unix")
        for where, name, real in kept:
            setattr(where, name, real)
        _mounted.pop()
