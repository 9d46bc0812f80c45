"""What a restart costs an agent with a memory: a journal of a million fills, and a snapshot every ten thousand.

    python benchmarks/restart.py [--fills 1000000] [--every 10000] [--batch 64] [--folder .]

The file is built once. Each figure is taken in a process of its own:

- what a snapshot adds to a commit;
- what the journal does at a restart: opening, the newest snapshot, reading and decoding what came after;
- what a bus does, from `EventBus(...)` until `start()` has returned, for an agent that loads the newest state and folds as
  much as there can be after it, for one that folds the newest 50,000 fills, and for one that folds them all;
- the same while a tick is published to another agent every millisecond, and every twentieth time a kill switch: how long
  each was under way, and how much of the processor a turn of the loop took.

Processor time is what to compare where other programs run beside this.
"""

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from statistics import median
from typing import TypeVar

from openoutcry import EventBus, FillEvent, KillSwitchEvent, MarketDataEvent, Memory, PersistenceConfig
from openoutcry.events import decode_many, encode
from openoutcry.journals import SqliteJournal
from openoutcry.ports import Changes, CursorState, Entry, Level, Snapshot

NAME = "book"
RECENT, ALL, NOBODY = "recent", "all", "nobody"
"""Agents that only fold, from `RECENT_FILLS` before the end and from the beginning; and none, to compare with."""
RECENT_FILLS = 50_000
SWITCH_EVERY = 20
LANES = ("control", "high", "normal")
PAGE = 2_048
NOON_NS = 1_764_000_000_000_000_000
ROUNDS = 5
T = TypeVar("T")
SIZES = {"nothing": None, "0 kB": 0, "10 kB": 10_000, "1 MB": 1_000_000}


def fill(number: int, **ids: str) -> Entry:
    event = FillEvent(
        **ids,
        order_id=f"o-{number}",
        symbol="AAPL",
        side="buy",
        filled_quantity=100.0,
        fill_price=187.25,
        source_agent="broker",
    )
    return Entry(event.event_id, encode(event), "high", Level.PROCESS, NOON_NS + number)


def derived(number: int) -> Entry:
    """Return a fill as a handler publishes it, with an id that does not count up."""
    return fill(number, event_id=blake2b(b"%d" % number, digest_size=16).hexdigest())


def cursors_at(name: str, upto: int) -> list[CursorState]:
    return [CursorState(subscription=name, lane=lane, floor=upto, takes=("fill",)) for lane in LANES]


def snapshot_at(name: str, upto: int, state: bytes | None) -> Snapshot:
    form = "none" if state is None else "bytes"
    lanes = dict.fromkeys(LANES, (upto, ()))
    return Snapshot(subscription=name, form=form, is_needed=True, lanes=lanes, state=state or b"")


def settled(upto: int, state: bytes | None) -> Changes:
    """Return the cursors of the agent, and with a state its snapshot."""
    snapshots = [] if state is None else [snapshot_at(NAME, upto, state)]
    return Changes(cursors=cursors_at(NAME, upto), snapshots=snapshots)


def without_states(fills: int) -> Changes:
    """Return the cursors of the agents that only fold, and where their memories begin."""
    return Changes(
        cursors=[*cursors_at(RECENT, fills), *cursors_at(ALL, fills)],
        snapshots=[snapshot_at(RECENT, max(fills - RECENT_FILLS, 0), None), snapshot_at(ALL, 0, None)],
    )


def build(path: Path, fills: int, every: int, batch: int, state_bytes: int) -> None:
    """Write the fills; the last snapshot is as old as one can be. A state begins with how many fills are in it."""
    padding = random.Random(0).randbytes(state_bytes)
    due = every
    with SqliteJournal(path) as journal:
        for first in range(1, fills + 1, batch):
            some = [fill(number) for number in range(first, min(first + batch, fills + 1))]
            if first // batch % 2:
                some[0] = derived(first)
            upto = first + len(some) - 1
            is_due = due <= upto < fills - every + batch
            state = b"%016d" % upto + padding if is_due else None
            journal.write(some, settled(upto, state) if is_due or upto == fills else None)
            due += every if is_due else 0
            if upto % 256 < batch:
                journal.idle()
        journal.write([], without_states(fills))
        while journal.idle():
            pass


def restart(path: Path) -> dict[str, float]:
    """Open the file as a bus does, and return the milliseconds of each step."""
    took: dict[str, float] = {}

    def step(name: str, work: Callable[[], T]) -> T:
        begun = time.perf_counter()
        done = work()
        took[name] = (time.perf_counter() - begun) * 1e3
        return done

    journal = step("open", lambda: SqliteJournal(path))
    snapshot, cursors, places = step(
        "snapshot", lambda: (journal.snapshot(NAME), journal.cursors(), journal.tombstones(NAME))
    )
    assert snapshot is not None, "one was saved"
    assert places == [], "nothing was dropped"
    took["events"] = step("read", lambda: read(journal, snapshot.floor, cursors[0].floor))
    took["in all"] = took["open"] + took["snapshot"] + took["read"]
    step("first write", lambda: journal.write([fill(0)]))
    step("first derived", lambda: journal.write([derived(time.time_ns())]))
    step("held_by", journal.held_by)
    journal.close(as_it_is=True)
    return took


def read(journal: SqliteJournal, after: int, upto: int) -> int:
    """Read and decode what stands between two positions, and return how much it is."""
    count = 0
    while after < upto and (page := journal.read(after, PAGE)):
        count += len(decode_many([entry.payload for entry in page if entry.position <= upto]))
        after = page[-1].position
    return count


class Book:
    """Counts the fills that it knows of."""

    def __init__(self) -> None:
        self.known = self.folded = 0

    def fold(self, fill: FillEvent) -> None:
        self.known += 1
        self.folded += 1

    def save(self) -> bytes:
        return b"%016d" % self.known

    def load(self, state: bytes) -> None:
        self.known = int(state[:16])


def start(path: Path, name: str, every: int, *, is_busy: bool) -> dict[str, float]:
    """Start a bus with one agent that has a memory, and return what that took."""
    return asyncio.run(_start(path, name, every, is_busy=is_busy))


async def _start(path: Path, name: str, every: int, *, is_busy: bool) -> dict[str, float]:
    begun, begun_cpu = time.perf_counter(), time.process_time()
    book = Book()
    bus = EventBus(persistence_config=PersistenceConfig(path=path, socket=False))
    if name != NOBODY:
        memory = Memory(book.fold, book.save, book.load, every=every) if name == NAME else Memory(book.fold)
        bus.subscribe(FillEvent, book.fold, name=name, memory=memory)
    beside = Beside(bus)
    busy = asyncio.create_task(beside.go_on(book, waits=name != NOBODY)) if is_busy else None
    await bus.start()
    told: dict[str, float] = {
        "seconds": time.perf_counter() - begun,
        "cpu": time.process_time() - begun_cpu,
        "known": book.known,
        "folded": book.folded,
    }
    if busy is not None:
        await asyncio.sleep(1 if name == NOBODY else 0)
        busy.cancel()
        await asyncio.wait([busy])
        told |= beside.figures()
    return told  # and stop nothing: the file stays as it is


class Beside:
    """Another agent on the same bus, and what is published to it meanwhile."""

    def __init__(self, bus: EventBus) -> None:
        self._bus = bus
        self._took: dict[type, list[float]] = {MarketDataEvent: [], KillSwitchEvent: []}
        self._due: dict[type, deque[float]] = {MarketDataEvent: deque(), KillSwitchEvent: deque()}
        self._turns: list[float] = []
        bus.subscribe([MarketDataEvent, KillSwitchEvent], self.take, name="other", durable=False)

    def take(self, event: MarketDataEvent | KillSwitchEvent) -> None:
        kind = type(event)
        self._took[kind].append(time.perf_counter() - self._due[kind].popleft())

    async def go_on(self, book: Book, *, waits: bool) -> None:
        """From the first fill that is folded, publish, and measure the turns of the loop."""
        while waits and not book.folded:  # noqa: ASYNC110 - the book is as plain as an agent is
            await asyncio.sleep(0)
        await asyncio.gather(self._publish(), self._measure_turns())

    async def _measure_turns(self) -> None:
        """Note how much of the processor each turn of the loop takes, whatever else the machine does."""
        before = time.thread_time()
        while True:
            await asyncio.sleep(0)
            now = time.thread_time()
            self._turns.append(now - before)
            before = now

    async def _publish(self) -> None:
        """Publish a tick every millisecond, and every so often a kill switch instead."""
        count = 0
        while True:
            due = time.perf_counter() + 0.001
            await asyncio.sleep(0.001)
            count += 1
            event: MarketDataEvent | KillSwitchEvent = MarketDataEvent(symbol="ES", price=1.0)
            if count % SWITCH_EVERY == 0:
                event = KillSwitchEvent(reason="a test", scope="elsewhere")
            self._due[type(event)].append(due)
            self._bus.publish_nowait(event)

    def figures(self) -> dict[str, float]:
        """Return milliseconds: of a turn's processor time, and from when an event was due to its handler."""
        told: dict[str, float] = {}
        took_by_name = {
            "turn": self._turns,
            "tick": self._took[MarketDataEvent],
            "kill": self._took[KillSwitchEvent],
        }
        for name, took in took_by_name.items():
            ordered = sorted(took)
            for share, at in (("p50", 0.5), ("p99", 0.99), ("max", 1.0)):
                told[f"{name} {share}"] = ordered[min(len(ordered) - 1, int(len(ordered) * at))] * 1e3
        return told


def commits(folder: Path) -> dict[str, float]:
    """Return the microseconds of a commit of one fill and three cursors, by what comes with it."""
    return {name: commit_us(folder / f"{name}.db", size) for name, size in SIZES.items()}


def commit_us(path: Path, size: int | None) -> float:
    state = None if size is None else random.Random(0).randbytes(size)
    took = []
    with SqliteJournal(path) as journal:
        for number in range(1, 20 if size and size > 100_000 else 200):
            some, changes = [fill(number)], settled(number - 1, state)
            begun = time.perf_counter()
            journal.write(some, changes)
            took.append(time.perf_counter() - begun)
    return median(took) * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fills", type=int, default=1_000_000)
    parser.add_argument("--every", type=int, default=10_000)
    parser.add_argument("--batch", type=int, default=64, help="fills per commit (default 64)")
    parser.add_argument("--state-bytes", type=int, default=10_000)
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--measure", nargs=3, metavar=("PATH", "WHAT", "BUSY"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.measure is not None:
        path, what, busy = asked.measure
        told = (
            restart(Path(path))
            if what == "journal"
            else start(Path(path), what, asked.every, is_busy=bool(busy))
        )
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()
        os._exit(0)
    with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
        for name, us in commits(Path(folder)).items():
            sys.stdout.write(f"a commit with a snapshot of {name:<8} {us:10,.0f} us\n")
        path = Path(folder) / "firm.db"
        begun = time.perf_counter()
        build(path, asked.fills, asked.every, asked.batch, asked.state_bytes)
        took = time.perf_counter() - begun
        sys.stdout.write(
            f"{asked.fills:,} fills written in {took:.0f} s, {path.stat().st_size / 1e6:,.0f} MB\n"
        )
        for name, busy in (
            (NAME, ""),
            (RECENT, ""),
            (ALL, ""),
            (NOBODY, "busy"),
            (RECENT, "busy"),
            (ALL, "busy"),
        ):
            for _ in range(1 if name == ALL else ROUNDS):
                print_start(in_a_process(path, name, busy), asked.fills)
        for _ in range(ROUNDS):
            told = in_a_process(path, "journal")
            count = told.pop("events")
            steps = ", ".join(f"{name} {ms:,.1f} ms" for name, ms in told.items())
            sys.stdout.write(f"the journal, {count:,.0f} fills after the snapshot: {steps}\n")


def in_a_process(path: Path, what: str, busy: str = "") -> dict[str, float]:
    """Measure in a new process."""
    command = [sys.executable, __file__, "--measure", str(path), what, busy]
    found: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return found


def print_start(told: dict[str, float], fills: int) -> None:
    """Print what the start of a bus took."""
    seconds, cpu, known, folded = (told.pop(name) for name in ("seconds", "cpu", "known", "folded"))
    expected = (0, fills, min(fills, RECENT_FILLS))
    assert known in expected, f"the agent knows {known} of {fills} fills"
    what = f"{folded:,.0f} of {known:,.0f} fills folded" if known else "nothing to fold"
    rate = f", {folded / cpu:,.0f} a second of that" if folded else ""
    sys.stdout.write(f"a bus, {what}: {seconds:.3f} s, of the processor {cpu:.3f} s{rate}\n")
    if told:
        beside = ", ".join(f"{name} {ms:,.2f} ms" for name, ms in told.items())
        sys.stdout.write(f"    beside it: {beside}\n")


if __name__ == "__main__":
    main()
