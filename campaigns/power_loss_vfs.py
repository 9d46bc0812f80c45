"""The way from SQLite and the journal to a simulated disk.

SQLite's calls come in through an apsw VFS that is made the default one for the time. What the journal does
by itself (`os.fdatasync`, `os.fsync`, `os.replace`, `os.unlink`) is caught by replacing those functions, for
files in the disk's folder. The journal needs no seams for that.
"""

import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import apsw

from campaigns.power_loss_disk import SimulatedDisk
from openoutcry.journals import marks
from openoutcry.journals.engines import ApswConnection

_VFS: Final = "power-loss"


class _File(apsw.VFSFile):
    """A file of SQLite's on the simulated disk."""

    def __init__(self, disk: SimulatedDisk, name: str | apsw.URIFilename, flags: list[int]) -> None:
        super().__init__("unix", name, flags)
        self._disk = disk
        self._name = Path(name if isinstance(name, str) else name.filename()).name
        disk.opened(self._name)
        self._names_synced = not flags[0] & apsw.SQLITE_OPEN_CREATE

    @property
    def _is_off(self) -> bool:
        """Whether nothing done to it counts: the power is off, or the life that had it open is over."""
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
            if not disk.frozen and not disk.sync(there.name, own=True):
                raise OSError(errno.EIO, os.strerror(errno.EIO))
        else:
            real(fd)

    return sync


def _pwrite(real: Callable[[int, bytes, int], int]) -> Callable[[int, bytes, int], int]:
    """Return a write that goes to the mounted disk, if the descriptor does and is not that of the marks."""

    def pwrite(fd: int, piece: bytes, offset: int) -> int:
        disk = _mounted[-1]
        there = Path(f"/proc/self/fd/{fd}").readlink()
        if there.parent != disk.folder or there.name.endswith("-marks"):
            return real(fd, piece, offset)
        if not disk.frozen:
            through = disk.wrote(there.name, offset, bytes(piece))
            real(fd, piece[:through], offset)
            if through < len(piece):
                raise OSError(errno.EIO, os.strerror(errno.EIO))
        return len(piece)

    return pwrite


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
    """Close: SQLite swallows what fails meanwhile; apsw would raise what a VFS in Python has raised."""
    for _ in range(2):
        with suppress(apsw.IOError, apsw.FullError):
            connection._db.close()  # noqa: SLF001


@contextmanager
def mounted(disk: SimulatedDisk) -> Iterator[SimulatedDisk]:
    """Let everything that apsw and the journal do in the meantime go to this disk."""
    if not _vfs:
        _vfs.append(_Vfs())
    _mounted.append(disk)
    instead: list[tuple[Any, str, Any]] = [
        (os, "fdatasync", _caught(os.fdatasync)),
        (os, "fsync", _caught(os.fsync)),
        (os, "pwrite", _pwrite(os.pwrite)),
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
