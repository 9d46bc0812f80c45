"""A disk that can lose power, below SQLite and below the journal's own syncs.

The files are real ones in a folder and stand for the operating system's page cache. Every write, truncation,
sync, creation and removal is recorded, and at a power cut the record says what a disk may hold then:

- what was synced is there;
- of every other sector *any* state that the page cache has had since then may be there, each sector for
  itself: lost, kept, or kept while an earlier one is lost. A write may be torn within a sector, as long as
  the bytes around it stay what they were (SQLite relies on that too);
- a name that was made or removed since the folder was last synced may be there or not;
- of the marks, which are mapped, every page may be as old as its last sync, or a mixture of two ages, cell
  by cell: it was stored into while it was on its way to the disk.

A failed sync is as bad as Linux makes it: some of the pages are not on the disk, all of them count as clean,
so that a second sync finds nothing to do and succeeds.

`campaigns.power_loss_vfs` leads to it what SQLite and the journal do.
"""

import os
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from campaigns.power_loss_files import PAGE, Inode

_MARKS_PAGES: Final = 2
"""The header, and the page of the first eight cells: the workloads claim no more."""


class PowerCut(BaseException):
    """The power went: nothing after this happens."""


class Killed(BaseException):
    """The process was killed, and the machine goes on."""


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
        fail_own_sync_at: The same, counting only what the journal syncs by itself.
        failed: Whether one of these has happened.
        newest_marks: The marks happen to be on the disk as they are.
        kill_at_failure: The process is killed in the instant in which a sync fails.
        meanwhile: What another thread does as soon as the operation `meanwhile_at` begins.
        mapped: After a kill, the mapped files as they were.

    """

    def __init__(self, folder: Path, rng: random.Random, boot: bytes) -> None:
        self.folder = folder
        self.rng = rng
        self.boot = boot
        self.steps = self.writes = self.syncs = self.own_syncs = 0
        self.cut_at: int | None = None
        self.capacity: int | None = None
        self.fail_write_at = self.fail_sync_at = self.fail_own_sync_at = 0
        self.failed = self.frozen = self.newest_marks = self.kill_at_failure = False
        self.meanwhile: Callable[[], None] | None = None
        self.meanwhile_at = 0
        self.mapped: dict[str, bytes] | None = None
        self.now = {path.name: Inode(path.read_bytes()) for path in folder.iterdir()}
        self._synced = dict(self.now)
        self._marks: dict[str, list[list[bytes]]] = {}
        self._image: dict[str, bytes] | None = None

    # What happens to the files

    def step(self) -> None:
        """Count an operation, and cut the power if it is the one."""
        self.steps += 1
        self.look_at_marks()
        if self.meanwhile is not None and self.steps >= self.meanwhile_at:
            meanwhile, self.meanwhile = self.meanwhile, None
            meanwhile()
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
        self.now[other] = self.now.pop(name) if name in self.now else Inode()
        if name in self._marks:
            self._marks[other] = self._marks.pop(name)

    def wrote(self, name: str, offset: int, piece: bytes) -> int:
        """Note a write, and return how many bytes get through: all, but for a failure or a full disk."""
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

    def sync(self, name: str, *, own: bool = False) -> bool:
        """Sync a file, by a call of the journal's own or by SQLite, and return whether it worked."""
        self.step()
        if name.endswith("-marks"):
            for versions in self._marks.get(name, ()):
                del versions[:-1]
            return True
        self.syncs += 1
        self.own_syncs += own
        if self.syncs == self.fail_sync_at or (own and self.own_syncs == self.fail_own_sync_at):
            self.failed = True
            self.now[name].fail_to_sync(self.rng)
            if self.kill_at_failure:
                self.kill()
                raise Killed
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
                page = os.pread(fd, PAGE, number * PAGE).ljust(PAGE, b"\0")  # not filled up yet
                if page != versions[-1]:
                    versions.append(page)
            os.close(fd)

    # The end

    def cut(self) -> None:
        """Cut the power, and decide what the disk holds."""
        self.look_at_marks()
        self.frozen = True
        self._image = self._decide()

    def kill(self) -> None:
        """End the process, not the machine, and keep the mapped files, to be put back when it is buried."""
        self.frozen = True
        files = (path for path in self.folder.iterdir() if path.name.endswith(("-marks", "-shm")))
        self.mapped = {path.name: path.read_bytes() for path in files}

    def revive(self) -> None:
        """Let the next process go on with the page cache of the last one."""
        assert self.mapped is not None, "the process was killed"
        for name, content in self.mapped.items():
            (self.folder / name).write_bytes(content)
        self.mapped = None
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
            page = versions[-1] if self.newest_marks else self._old_page(versions)
            content[number * PAGE : (number + 1) * PAGE] = page
        return bytes(content)

    def _old_page(self, versions: list[bytes]) -> bytes:
        chance = self.rng.random()
        if chance < 0.4:
            return versions[-1]
        at = self.rng.randrange(len(versions))
        if chance < 0.6 or not at:
            return versions[at]
        old, new = (memoryview(versions[n]).cast("Q") for n in (at - 1, at))
        cells = (
            self.rng.choice(pair) if pair[0] != pair[1] else pair[0] for pair in zip(old, new, strict=True)
        )
        return b"".join(cell.to_bytes(8, sys.byteorder) for cell in cells)

    def after_cut(self, folder: Path, *, flip: str | None = None) -> "SimulatedDisk":
        """Return the disk as the next boot finds it, in a new folder; one bit of the file `flip` is wrong."""
        assert self._image is not None, "the power has been cut"
        folder.mkdir()
        for name, content in self._image.items():
            if flip is not None and name == flip and content:
                damaged = bytearray(content)
                damaged[self.rng.randrange(len(content))] ^= 1 << self.rng.randrange(8)
                content = bytes(damaged)  # noqa: PLW2901 - the same file, damaged
            (folder / name).write_bytes(content)
        return SimulatedDisk(folder, self.rng, self.rng.randbytes(16))
