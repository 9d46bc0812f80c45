"""What a restart costs an agent with a memory: a journal of a million fills, and a snapshot every ten thousand.

    python benchmarks/restart.py [--fills 1000000] [--every 10000] [--batch 1] [--folder .]

The file is built once. Then a process of its own opens it, takes the newest snapshot, and reads and decodes what
came after, as much as there can be: what a bus does before it folds. Above that, what a snapshot adds to a commit.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import TypeVar

from openoutcry.events import decode_many, encode
from openoutcry.journals import SqliteJournal
from openoutcry.ports import Changes, CursorState, Entry, Level, Snapshot
from openoutcry.trading import FillEvent

NAME = "book"
LANES = ("control", "high", "normal")
PAGE = 2_048
NOON_NS = 1_764_000_000_000_000_000
ROUNDS = 5
T = TypeVar("T")
SIZES = {"nothing": None, "0 kB": 0, "10 kB": 10_000, "1 MB": 1_000_000}


def fill(number: int) -> Entry:
    event = FillEvent(
        order_id=f"o-{number}",
        symbol="AAPL",
        side="buy",
        filled_quantity=100.0,
        fill_price=187.25,
        source_agent="broker",
    )
    return Entry(event.event_id, encode(event), "high", Level.PROCESS, NOON_NS + number)


def settled(upto: int, state: bytes | None) -> Changes:
    """Return the cursors of the agent, and with a state its snapshot."""
    cursors = [CursorState(subscription=NAME, lane=lane, floor=upto, takes=("fill",)) for lane in LANES]
    if state is None:
        return Changes(cursors=cursors)
    lanes = dict.fromkeys(LANES, (upto, ()))
    snapshot = Snapshot(subscription=NAME, form="bytes", is_needed=True, lanes=lanes, state=state)
    return Changes(cursors=cursors, snapshots=[snapshot])


def build(path: Path, fills: int, every: int, batch: int, state_bytes: int) -> None:
    """Write the fills; the last snapshot is as old as one can be."""
    state = random.Random(0).randbytes(state_bytes)
    due = every
    with SqliteJournal(path) as journal:
        for first in range(1, fills + 1, batch):
            some = [fill(number) for number in range(first, min(first + batch, fills + 1))]
            upto = first + len(some) - 1
            is_due = due <= upto <= fills - every
            journal.write(some, settled(upto, state if is_due else None) if is_due or upto == fills else None)
            due += every if is_due else 0
            if not first % 4096:
                journal.idle()


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
    parser.add_argument("--batch", type=int, default=1, help="fills per commit (default 1)")
    parser.add_argument("--state-bytes", type=int, default=10_000)
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--measure", type=Path, default=None, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.measure is not None:
        sys.stdout.write(json.dumps(restart(asked.measure)) + "\n")
        return
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
        for _ in range(ROUNDS):
            command = [sys.executable, __file__, "--measure", str(path)]
            told = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
            count = told.pop("events")
            steps = ", ".join(f"{name} {ms:,.1f} ms" for name, ms in told.items())
            sys.stdout.write(f"restart, {count:,.0f} fills after the snapshot: {steps}\n")


if __name__ == "__main__":
    main()
