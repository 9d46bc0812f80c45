"""A look at a journal's side file that takes no lock: who writes, how far, what is in flight."""

import fcntl
import mmap
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

import msgspec

from openoutcry.journals import mapped_files, power_cuts, schema
from openoutcry.journals.engines import EngineName, connect, connect_to_read
from openoutcry.journals.marks import _PID, FILE_BYTES, MarksFile
from openoutcry.journals.power_cuts import PowerCut
from openoutcry.journals.refusals import must_be_own, real_path


class Glance(MarksFile):
    """The side file, mapped for reading. What a writer notes is seen at once.

    Attributes:
        found: Whether it belongs to the generation of the database beside it.
        power_cut: What the database says of power cuts.

    """

    __slots__ = ("_counted_run", "power_cut")

    def __init__(
        self, journal: Path, generation: bytes, counted_run: str, power_cut: PowerCut | None = None
    ) -> None:
        """Map it. Raises `FileNotFoundError` where there is none, or one that was never filled.

        `counted_run` is the last run whose calls in flight the database has counted as suspects.
        """
        self._counted_run = counted_run
        self.power_cut: PowerCut | None = power_cut
        self.path: Path = Path(f"{journal}-marks")
        self.created = False
        self._generation = generation
        must_be_own(self.path, journal)
        self._fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        if os.fstat(self._fd).st_size < FILE_BYTES:
            os.close(self._fd)
            raise FileNotFoundError(f"{self.path} was never filled")
        try:
            self.file: mapped_files.MappedFile = mapped_files.hold(self.path, fill=0)
        except BaseException:
            os.close(self._fd)
            raise
        try:
            self._map = mmap.mmap(self._fd, FILE_BYTES, access=mmap.ACCESS_READ)
        except BaseException:
            self.file.release()
            os.close(self._fd)
            raise
        self.cells: memoryview[int] = memoryview(self._map).cast("Q")
        self._free = []
        self.found: bool = self.belongs_to(generation)

    @property
    def pid(self) -> int:
        """The process that wrote last; 0 where nobody has."""
        return int(self.cells[_PID])

    @property
    def is_written(self) -> bool:
        """Whether a process has the writer's lock now. Asking takes a shared lock for some microseconds."""
        try:
            fcntl.flock(self._fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        fcntl.flock(self._fd, fcntl.LOCK_UN)
        return False

    @property
    def due(self) -> int:
        """The position that the file must reach after the last writer's end, whatever ended it."""
        return self.written if self.same_boot else self.synced

    def cut(self, head: int) -> PowerCut | None:
        """Return what is known of power cuts, with what the next opening will find missing behind the head.

        For when nobody writes.
        """
        is_uncounted = self.found and not self.same_boot and str(self.run) != self._counted_run
        return power_cuts.after(self.power_cut, self.written - head if is_uncounted else 0, head + 1)

    def accused(self, head: int) -> list[tuple[str, str, int]]:
        """Return the calls against which the next opening will count a crash, if nobody writes now."""
        if not self.found or str(self.run) == self._counted_run:
            return []
        return self.in_flight(head)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def glance(journal: str | Path, engine: EngineName = "auto") -> Glance | None:
    """Look at the side file of a journal that exists; None where it has none. Close what is returned."""
    path = real_path(journal)
    db = connect_to_read(path, engine)
    try:
        found = {key: value for key, (value, _) in schema.settings(db, path).items()}
    finally:
        db.close()
    try:
        generation = bytes.fromhex(found.get("generation", ""))
        return Glance(path, generation, found.get("run", ""), power_cuts.read(found))
    except (FileNotFoundError, ValueError, msgspec.MsgspecError):
        return None


def identity_of(path: Path) -> tuple[int, ...]:
    """Return what changes if the journal or its side file is replaced; empty while one is missing."""
    found: list[int] = []
    for name in (path, Path(f"{os.path.realpath(path)}-marks")):
        with suppress(OSError):
            found.append(name.stat().st_ino)
    return tuple(found)


def is_still_of(path: Path, places: Sequence[tuple[int, int]], generation: bytes, engine: EngineName) -> bool:
    """Return True if the file at a path is the one that was opened, or a copy. Raises `OSError` without one.

    A file that is damaged can no longer say whose it is, but it is still the same file.
    """
    stat = path.stat()
    if (stat.st_dev, stat.st_ino) == places[0]:
        return True
    try:
        # alone: our own write-ahead log is still beside it, and would make our pages of another file's
        db = connect(path, engine, "ro&immutable=1")
        try:
            return bytes.fromhex(schema.settings(db, path)["generation"][0]) == generation
        finally:
            db.close()
    except Exception:  # noqa: BLE001 - whatever SQLite says of another file
        return False
