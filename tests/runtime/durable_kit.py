"""What the tests of the durable bus share: journals that fail, crashes, and the audit of what survived them."""

import asyncio
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event as ThreadEvent
from typing import Any

from bus_helpers import Desk, an_order

from openoutcry import BackpressureConfig, EventBus, PersistenceConfig, decode, register_event
from openoutcry.errors import JournalDead
from openoutcry.journals import JournalReader, MemoryJournal, SqliteJournal
from openoutcry.ports import Changes, CursorState, DiskTask, Entry, Journal, Written

HUGE = 1_000_000


def settings(**fields: Any) -> PersistenceConfig:
    """Settings without a socket, and without records: what is published has the first positions."""
    return PersistenceConfig(**{"socket": False, "record": "off", **fields})


def a_bus(journal: Journal, *, max_queue_size: int = 10_000, **fields: Any) -> EventBus:
    """A bus over a journal that is handed in; `fields` are those of `PersistenceConfig` and of the bus."""
    own = {name: fields.pop(name) for name in list(fields) if name in PersistenceConfig.__dataclass_fields__}
    return EventBus(max_queue_size, journal=journal, persistence_config=settings(**own), **fields)


def orders(count: int, first: int = 1) -> list[Any]:
    """Orders: ordinary events that are durable unless told otherwise."""
    return [an_order(f"o-{number}") for number in range(first, first + count)]


def quick_stall(**fields: Any) -> BackpressureConfig:
    return BackpressureConfig(grace_s=0.2, **fields)


def written(journal: Journal) -> list[Any]:
    """Every event that the journal has, in order."""
    return [decode(stored.payload) for stored in journal.read(0, HUGE)]


def written_ids(journal: Journal) -> list[str]:
    return [str(stored.head().event_id) for stored in journal.read(0, HUGE)]


def cursor(journal: Journal, subscription: str, lane: str = "normal") -> CursorState:
    (found,) = (c for c in journal.cursors() if (c.subscription, c.lane) == (subscription, lane))
    return found


def floor_of(journal: Journal | JournalReader, subscription: str) -> int:
    """The saved floor of a subscription's ordinary lane."""
    (found,) = (c for c in journal.cursors() if (c.subscription, c.lane) == (subscription, "normal"))
    return found.floor


def is_settled(journal: Journal, subscription: str, lane: str, position: int) -> bool:
    """Whether the saved cursor says so."""
    for state in journal.cursors():
        if (state.subscription, state.lane) == (subscription, lane):
            return position <= state.floor or any(a <= position <= b for a, b in state.settled)
    return False


class Named(Desk):
    """A desk whose subscription has a name of its own: `<name>.on_event`."""

    def __init__(self, name: str, takes_s: float = 0.0) -> None:
        super().__init__(takes_s)
        self.name = name


@register_event
@dataclass
class DeskNote:
    """A user's own class, and mutable at that."""

    event_id: str
    text: str
    event_type: str = "note"
    latency: Any = None


class Disk:
    """A journal of one kind, and what becomes of it over crashes and restarts."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind = kind
        self._folder = folder
        folder.mkdir()
        self._lives = 0
        self._made: list[Any] = []
        self.journal = self._open()

    def _open(self) -> Any:
        made = MemoryJournal() if self.kind == "memory" else SqliteJournal(self.path, engine="sqlite3")
        self._made.append(made)
        return made

    @property
    def path(self) -> Path:
        return self._folder / f"life-{self._lives}" / "firm.db" if self._lives else self._folder / "firm.db"

    def image(self) -> Any:
        """What a new process would find if this one were killed now; the old journal lives on apart from it."""
        old = self.journal
        if self.kind == "memory":
            self.journal = old.reopened()
            self._made.append(self.journal)
            return self.journal
        before = self.path
        self._lives += 1
        self.path.parent.mkdir()
        files = [f for f in before.parent.glob("firm.db*") if not f.name.endswith("-shm")]
        # By another process: to open and close the database here would let go of SQLite's locks on it.
        subprocess.run(["cp", *map(str, files), str(self.path.parent)], check=True)
        self.journal = self._open()
        return self.journal

    async def crash(self, bus: EventBus) -> Any:
        """Kill the process, as far as the journal can tell, and return the journal of the next one."""
        found = self.image()
        await abandon(bus)
        return found

    def restarted(self) -> Any:
        """The journal of the next process after a clean end."""
        self.journal.close()
        if self.kind == "memory":
            self.journal = self.journal.reopened()
            self._made.append(self.journal)
        else:
            self.journal = self._open()
        return self.journal

    def close(self) -> None:
        for made in self._made:
            made.close()
        shutil.rmtree(self._folder, ignore_errors=True)


async def abandon(bus: EventBus) -> None:
    """End a bus whose journal has gone on to another life: what it still writes reaches nobody."""
    await bus.stop(timeout_s=0)


class Faulty(MemoryJournal):
    """A journal in memory whose nth write or sync fails, and which remembers what it was asked for.

    `fails` maps ("write", 3) to the error that the third write raises. A `JournalDead` is final, as in life.
    """

    def __init__(self, fails: dict[tuple[str, int], Exception] | None = None) -> None:
        super().__init__()
        self.fails = fails or {}
        self.calls: Counter[str] = Counter()
        self.dead: Exception | None = None

    def fail_next(self, call: str, error: Exception) -> None:
        self.fails[call, self.calls[call] + 1] = error

    def _call(self, call: str) -> None:
        self.calls[call] += 1
        if self.dead is not None:
            raise self.dead
        error = self.fails.get((call, self.calls[call]))
        if error is not None:
            if isinstance(error, JournalDead):
                self.dead = error
            raise error

    def write(self, entries: Sequence[Entry], changes: Changes | None = None) -> Written:
        self._call("write")
        return super().write(entries, changes)

    def end_sync(self, task: DiskTask) -> int:
        self._call("sync")
        return super().end_sync(task)


class SlowTask:
    def __init__(self, inner: Any, gate: ThreadEvent) -> None:
        self.inner = inner
        self._gate = gate

    def perform(self) -> None:
        self._gate.wait(300)


class SlowDisk(Faulty):
    """A journal whose syncs last, in their thread, until `let_go` is called, or the loop itself syncs.

    (Who syncs on the loop waits there for the thread, so that nobody could call `let_go` any more.)

    While a sync lasts, let time pass by `turns`: a timer of virtual time waits for the thread, five real seconds.
    """

    def __init__(self, fails: dict[tuple[str, int], Exception] | None = None) -> None:
        super().__init__(fails)
        self.gate = ThreadEvent()

    def begin_sync(self) -> Any:
        return SlowTask(super().begin_sync(), self.gate)

    def end_sync(self, task: Any) -> int:
        return super().end_sync(task.inner)

    def sync(self) -> int:
        self.let_go()
        return super().sync()

    def let_go(self) -> None:
        self.gate.set()


def others_go_on(bus: EventBus) -> Named:
    """Subscribe one that keeps up, so that a slower one that has no room falls behind."""
    quick = Named("quick")
    bus.subscribe("*", quick.on_event)
    return quick


async def turns(count: int = 5) -> None:
    """Let the loop turn a few times without time going on."""
    for _ in range(count):
        await asyncio.sleep(0)


def ids(events: Iterable[Any]) -> list[str]:
    return [event.event_id for event in events]
