"""The journal of the firm, read beside its writer: in a thread of its own, a bounded piece at a time."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from openoutcry.dashboard.refusals import Refused
from openoutcry.errors import JournalError
from openoutcry.journals import JournalReader
from openoutcry.journals.engines import database_errors
from openoutcry.journals.glance import identity_of
from openoutcry.journals.refusals import real_path, refusal
from openoutcry.ports import Clock
from openoutcry.units import NS_PER_MS

LOOK_MS: Final = 200
"""A search gives its thread back after so long, with what it has found and where it goes on."""
WAITING_MAX: Final = 32
_Found = TypeVar("_Found")


class JournalFile:
    """A journal that is looked at, whoever writes it, and whatever file is at the path now.

    One thread has the one connection, so that looks come one after the other. None of them keeps a view of
    the file for longer than its time, as the write-ahead log cannot start over meanwhile.

    Attributes:
        path: The file, symbolic links resolved.
        is_held: Whether what was read last was held against its checksums: not of a sealed journal without
            its key.
        key: The key of a sealed journal; without it nothing is held against the seals.
        database_errors: What SQLite raises.

    """

    def __init__(self, path: Path, key: bytes | None, clock: Clock) -> None:
        self.path = real_path(path)
        self.key = key
        self.is_held = True
        self._clock = clock
        self._thread = ThreadPoolExecutor(1, "openoutcry-journal")
        self._waiting_count = 0
        self._reader: JournalReader | None = None
        self._identity: tuple[int, ...] = ()
        self._version = 0
        self.database_errors: tuple[type[Exception], ...] = database_errors()
        self._failing: tuple[type[Exception], ...] = (
            JournalError,
            OSError,
            msgspec.MsgspecError,
            *self.database_errors,
        )

    async def look(self, look: Callable[[JournalReader, "Deadline"], _Found]) -> _Found:
        """Return what a function finds that is called, in the thread, with a reader and its deadline.

        Refused with 503 where the file cannot be read, or too many want to.
        """
        if self._waiting_count >= WAITING_MAX:
            raise Refused(503, "too much is being searched for at once: try again in a moment")
        self._waiting_count += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._look, look)
        finally:
            self._waiting_count -= 1

    def check(self) -> None:
        """Raise the `JournalError` with which the file cannot be read. Blocks: for before the loop runs."""
        self._open()

    def _look(self, look: Callable[[JournalReader, "Deadline"], _Found]) -> _Found:
        try:
            return look(self._open(), Deadline(self._clock))
        except self._failing as problem:
            self._close()
            said = refusal(self.path, problem) if isinstance(problem, OSError) else problem
            raise Refused(503, f"the journal cannot be read: {said}") from problem

    def _open(self) -> JournalReader:
        """Return a reader of the file that is at the path now.

        One opened without a write-ahead log may be unable to see one that has come since; one that was
        opened before another version of the library has changed the file does not know it any more.
        """
        log = Path(f"{self.path}-wal")
        identity = (*identity_of(self.path), int(log.exists() and log.stat().st_size > 0))
        reader = self._reader
        if reader is not None and (identity, reader.version) != (self._identity, self._version):
            self._close()
        if self._reader is None:
            self._reader = JournalReader(self.path, key=self.key)
            self._identity, self._version = identity, self._reader.version
            self.is_held = self.key is not None or not self._reader.is_sealed
        return self._reader

    def _close(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()

    def close(self) -> None:
        """Let go of the file when the current look is over."""
        self._thread.submit(self._close)
        self._thread.shutdown(wait=True)


class Deadline:
    """When a look has to end."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._at_ns = clock.now_ns() + LOOK_MS * NS_PER_MS

    @property
    def is_over(self) -> bool:
        """Whether it has come."""
        return self._clock.now_ns() >= self._at_ns
