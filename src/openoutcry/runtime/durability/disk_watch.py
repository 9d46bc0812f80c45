"""Whether the journal of a running bus has room, and its write-ahead log stays within its bound."""

import asyncio
from typing import Final

from openoutcry.journals.disk_room import room_of, say_log, say_room
from openoutcry.journals.lock_holders import readers_of
from openoutcry.ports import FileJournal
from openoutcry.runtime.delivery.state import BusState
from openoutcry.runtime.ownership import running_loop
from openoutcry.units import NS_PER_S

EVERY_NS: Final = 5 * NS_PER_S
"""How often the file system is asked, at most."""


class DiskWatch:
    """Looks at the files of one journal when it is asked to, at a bounded rate.

    Who reads them is found out in a thread, and told from the next look on.
    """

    def __init__(self, file: FileJournal, bus: BusState) -> None:
        self._file = file
        self._bus = bus
        self._hindered_ns: int | None = None
        self._looked_ns: int | None = None
        self._found: tuple[str, ...] = ()
        self._readers: tuple[int, ...] = ()
        self._asking: asyncio.Future[list[int]] | None = None

    def note_checkpoint(self) -> None:
        """A checkpoint was made, or was hindered."""
        if not self._file.log_state.hindered:
            self._hindered_ns = None
        elif self._hindered_ns is None:
            self._hindered_ns = self._bus.clock.now_ns()

    def findings(self) -> tuple[str, ...]:
        """Return what is wrong, in words; what was found in the last few seconds holds."""
        now_ns = self._bus.clock.now_ns()
        if self._looked_ns is None or not 0 <= now_ns - self._looked_ns < EVERY_NS:
            self._looked_ns = now_ns
            self._found = tuple(found for found in self._look(now_ns) if found)
        return self._found

    def _look(self, now_ns: int) -> tuple[str, ...]:
        self.note_checkpoint()
        since_ns = None if self._hindered_ns is None else now_ns - self._hindered_ns
        log = self._file.log_state
        if say_log(log, ()):
            self._ask()
        else:
            self._readers = ()
        try:
            return say_log(log, self._readers, since_ns), say_room(room_of(self._file.path))
        except OSError:  # it was taken away, which is found elsewhere
            return ()

    def _ask(self) -> None:
        """Find out who reads."""
        loop = running_loop()
        if loop is None or (self._asking is not None and not self._asking.done()):
            return
        self._asking = loop.run_in_executor(None, readers_of, self._file.path)
        self._asking.add_done_callback(self._answered)

    def _answered(self, asking: "asyncio.Future[list[int]]") -> None:
        if asking.cancelled() or asking.exception():
            return
        readers = tuple(asking.result())
        if readers != self._readers:  # else the next look would ask again, and the one after it
            self._readers, self._looked_ns = readers, None
