"""A disk for a simulated journal: writes stay in a cache until they are synced, and calls may fail.

```
  life 1: SimJournal ──write──▶ cache ──sync──▶ platter
                                  │                │
  killed:       everything ───────┴────────────────┴──▶ life 2
  power cut:    some of the first ones of it ──────┴──▶ life 2
```
"""

from collections.abc import Callable, Sequence
from typing import Any

from openoutcry.errors import JournalDead, JournalError, JournalFull, JournalLocked
from openoutcry.journals import MemoryJournal
from openoutcry.ports import Changes, DiskTask, Entry, Written
from openoutcry.testing.simulator.chance import Chance
from openoutcry.testing.simulator.faults import Faults
from openoutcry.testing.simulator.loop import SimClock

Op = Callable[[MemoryJournal], object]
Watch = Callable[[Sequence[Entry], Changes | None, Written], None]
Note = Callable[[str], None]


class SimTask:
    """A sync under way.

    Attributes:
        inner: The task of the journal in memory.
        count: How many of the operations of this life it syncs.

    """

    def __init__(self, inner: DiskTask, count: int) -> None:
        self.inner = inner
        self.count = count

    def perform(self) -> None:
        """Do nothing: the time it takes is simulated elsewhere."""


class SimJournal(MemoryJournal):
    """A journal in memory that fails as a file does.

    Attributes:
        faults: What goes wrong with it.
        failures: How many calls have failed.
        severed: Whether the process is dead, so that nothing it does reaches the disk.
        on_written: Called after each write that reached the journal.
        crash: Called if the process is to die in a call.

    """

    def __init__(self, chance: Chance, clock: SimClock, note: Note) -> None:
        super().__init__()
        self._chance = chance
        self._clock = clock
        self._note = note
        self.faults: Faults = Faults.none()
        self.crash_at_call: int | None = None
        self.failures: int = 0
        self.severed = False
        self.dead: JournalDead | None = None
        self.cache: list[Op] = []
        self.synced_ops: list[Op] = []
        self.on_written: Watch = lambda _entries, _changes, _written: None
        self.crash: Callable[[], None] = lambda: None
        self._calls = 0

    def take_over(self, other: MemoryJournal) -> None:
        """Take over the contents of another journal."""
        self.__dict__.update(
            {name: value for name, value in other.reopened().__dict__.items() if name != "marks"}
        )

    # -- what goes wrong ----------------------------------------------------------------------------

    def _begin(self, call: str) -> bool:
        """Let a call fail if it is to. Return True if the process is to die in the middle of it."""
        if self.severed:
            raise JournalDead("the process has died: nothing it does reaches the disk")
        if self.dead is not None:
            raise self.dead
        self._calls += 1
        chance, faults = self._chance, self.faults
        if self._calls == self.crash_at_call:
            return True
        if chance.happens(faults.journal_slow):
            self._clock.keep(chance.whole(1, 50_000_000))
        if chance.happens(faults.clock_jumps):
            self._clock.jump(chance.whole(-3_600, 3_600) * 1_000_000_000)
        if chance.happens(faults.journal_dead):
            raise self._die(call)
        if call == "write":
            self._refuse()
        return False

    def _refuse(self) -> None:
        error: JournalError | None = None
        if self._chance.happens(self.faults.journal_full):
            error = JournalFull("the simulated disk is full; the same call succeeds later")
        elif self._chance.happens(self.faults.journal_locked):
            error = JournalLocked("the simulated file is locked; the same call succeeds later")
        if error is not None:
            self.failures += 1
            self._note(f"journal {type(error).__name__}")
            raise error

    def _die(self, call: str) -> JournalDead:
        self.failures += 1
        self._note(f"journal dies at a {call}")
        self.dead = JournalDead(f"a simulated {call} has failed; start again on what is there")
        return self.dead

    # -- the journal --------------------------------------------------------------------------------

    def write(self, entries: Sequence[Entry], changes: Changes | None = None) -> Written:
        """Write into the cache."""
        entries = tuple(entries)
        was_alive = self.dead is None and not self.severed
        try:
            dies = self._begin("write")
        except JournalDead:
            if was_alive and self._chance.happens(0.5):  # what is on the disk is unknown: here, all
                self._write(entries, changes)
            raise
        if dies and self._chance.happens(0.5):  # before it reaches the disk
            self.crash()
            raise JournalDead("the process has died before a write")
        written = self._write(entries, changes)
        if dies:
            self.crash()
            raise JournalDead("the process has died after a write")
        return written

    def _write(self, entries: Sequence[Entry], changes: Changes | None) -> Written:
        written = super().write(entries, changes)
        self.cache.append(lambda image: MemoryJournal.write(image, entries, changes))
        self._note(f"journal writes {len(entries)}, up to {self.head}{', and changes' if changes else ''}")
        self.on_written(entries, changes, written)
        return written

    def begin_sync(self) -> DiskTask:
        """Begin a sync of what is in the cache."""
        if self.severed or self.dead is not None:
            raise self.dead or JournalDead("the process has died: nothing it does reaches the disk")
        return SimTask(super().begin_sync(), len(self.synced_ops) + len(self.cache))

    def end_sync(self, task: DiskTask) -> int:
        """Move what was synced to the platter."""
        assert isinstance(task, SimTask), "the task was begun by begin_sync"
        if self._begin("sync"):
            self.crash()
            raise JournalDead("the process has died in a sync")
        # (Syncs overlap where one waits in a thread while another is made on the loop.)
        count = max(0, task.count - len(self.synced_ops))
        self.synced_ops += self.cache[:count]
        del self.cache[:count]
        upto = super().end_sync(task.inner)
        self._note(f"journal synced upto {upto}")
        return upto

    def retire(self, **wishes: Any) -> int:
        """Forget old batches, also those in the cache."""
        if self._begin("retire"):
            self.crash()
            raise JournalDead("the process has died while it tidied up")
        retired = super().retire(**wishes)
        if retired:
            self.cache.append(lambda image: MemoryJournal.retire(image, **wishes))
        return retired


class Disk:
    """What outlives a process.

    Attributes:
        platter: What survives a power cut.
        journal: The journal of the current life.

    """

    def __init__(self, origin: str) -> None:
        self.platter: MemoryJournal = MemoryJournal(origin)
        self.journal: SimJournal | None = None

    def opened(self, chance: Chance, clock: SimClock, note: Note) -> SimJournal:
        """Open the journal as a new process does; what it finds counts as being on the platter."""
        journal = SimJournal(chance, clock, note)
        journal.take_over(self.platter)
        self.journal = journal
        return journal

    def lose(self, chance: Chance, *, power: bool) -> int:
        """End the current life, and return how many operations were lost with the power."""
        journal = self.journal
        assert journal is not None
        journal.severed = True
        kept = chance.whole(0, len(journal.cache)) if power else len(journal.cache)
        lost = len(journal.cache) - kept
        for op in [*journal.synced_ops, *journal.cache[:kept]]:
            op(self.platter)
        self.platter.marks = journal.marks  # a memory page that the kernel has
        if power:
            for cell in range(len(journal.marks.cells)):
                if chance.happens(0.5):
                    journal.marks.cells[cell] = 0
        self.platter = self.platter.reopened()
        return lost
