"""What the journal itself does per second, beside the floors that it stands on.

    python benchmarks/journal_writes.py [--events 200000] [--engine sqlite3] [--folder .]
    python benchmarks/journal_writes.py --record replay --beside off [--events 40000] [--folder .]

Making and encoding the entries (about 390 bytes each) and the bus's own work are not in these figures. `floor` is one
blob per batch into a bare table, with an fdatasync for `disk`: the least that SQLite can do.

With `--record` it measures what recording a day costs a bus: two buses with these settings, turn by turn in one process, on
each of which signals are published by so many at a time, and handled by two subscriptions. The median of the turns' ratios of
processor time is what counts. `ticks` are market data in memory, which `replay` writes beside.
"""

import argparse
import asyncio
import json
import os
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from openoutcry import EventBus, MarketDataEvent, PersistenceConfig
from openoutcry.events import decode, encode
from openoutcry.journals import JournalReader, SqliteJournal
from openoutcry.ports import Entry, Level
from openoutcry.trading import SignalEvent

BATCHES = (1, 64, 512, 4096)
SINGLE_EVENTS_MAX = {"process": 20_000, "disk": 2_000}
TARGETS = {"process": {1: 47, 64: 601, 512: 810, 4096: 860}, "disk": {1: 7, 64: 247, 512: 674, 4096: 888}}


def entries(count: int, level: Level) -> list[Entry]:
    made = []
    for number in range(count):
        event = SignalEvent(
            source_agent="momentum",
            strategy_name="momentum-20",
            symbol="AAPL",
            direction="long",
            strength=0.25,
            confidence=0.75,
        )
        made.append(
            Entry(event.event_id, encode(event), "normal", level, 1_764_000_000_000_000_000 + number // 64)
        )
    return made


def batches(of: list[Entry], size: int) -> Iterator[list[Entry]]:
    for start in range(0, len(of), size):
        yield of[start : start + size]


def timed(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def floor_rate(folder: Path, count: int, size: int, *, disk: bool) -> float:
    path = folder / "floor.db"
    db = sqlite3.connect(path, isolation_level=None)
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "wal_autocheckpoint=0"):
        db.execute(f"PRAGMA {pragma}")
    db.execute("CREATE TABLE b(first INTEGER PRIMARY KEY, data BLOB)")
    wal = os.open(f"{path}-wal", os.O_RDWR)
    took = 0.0
    for number in range(count // size):
        blob = b"".join(e.payload for e in entries(size, Level.PROCESS))
        begun = time.perf_counter()
        db.execute("INSERT INTO b VALUES(?, ?)", (number, blob))
        if disk:
            os.fdatasync(wal)
        took += time.perf_counter() - begun
    db.close()
    os.close(wal)
    path.unlink()
    return count // size * size / took


def journal_rate(
    folder: Path, count: int, size: int, engine: str, *, disk: bool
) -> tuple[float, list[float]]:
    """Entries are made just before they are written, as on the bus: what is fresh is in the processor's cache."""
    calls: list[float] = []
    with SqliteJournal(folder / "j.db", engine=engine) as journal:
        for _ in range(count // size):
            batch = entries(size, Level.DISK if disk else Level.PROCESS)
            begun = time.perf_counter()
            if journal.write(batch).wants_sync:
                journal.sync()
            calls.append(time.perf_counter() - begun)
    return count // size * size / sum(calls), calls


def clean(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


def write_rows(folder: Path, count: int, engine: str) -> list[dict[str, object]]:
    rows = []
    for level in ("process", "disk"):
        for size in BATCHES:
            number = min(count, SINGLE_EVENTS_MAX[level]) if size == 1 else count
            rates, floors, calls = [], [], []
            for _ in range(3):
                floors.append(floor_rate(folder, number, size, disk=level == "disk"))
                rate, took = journal_rate(folder, number, size, engine, disk=level == "disk")
                rates.append(rate)
                calls += took
                clean(folder)
            calls.sort()
            rate, floor = statistics.median(rates), statistics.median(floors)
            rows.append(
                {
                    "level": level,
                    "batch": size,
                    "rows_per_s": round(rate),
                    "floor_per_s": round(floor),
                    "of_floor": round(rate / floor, 2),
                    "targets_table_k_per_s": TARGETS[level][size],
                    "call_p50_us": round(calls[len(calls) // 2] * 1e6),
                    "call_p99_us": round(calls[len(calls) * 99 // 100] * 1e6),
                }
            )
    return rows


def read_rows(folder: Path, count: int, engine: str) -> dict[str, object]:
    of = entries(count, Level.PROCESS)
    path = folder / "j.db"
    with SqliteJournal(path, engine=engine) as journal:
        for batch in batches(of, 512):
            journal.write(batch)
    size = path.stat().st_size
    journal = SqliteJournal(path, engine=engine)
    opened = timed(lambda: (journal.close(), None))
    begun = time.perf_counter()
    journal = SqliteJournal(path, engine=engine)
    opened = time.perf_counter() - begun

    def scan(work: Callable[[object], object]) -> float:
        def run() -> None:
            after = 0
            while some := journal.read(after, 4096):
                work(some)
                after = some[-1].position

        return count / timed(run)

    begun = time.perf_counter()
    while journal.idle():
        pass
    warm = time.perf_counter() - begun
    result = {
        "read_per_s": round(scan(len)),
        "read_and_decode_per_s": round(scan(lambda some: [decode(e.payload) for e in some])),
        "file_per_payload": round(size / sum(len(e.payload) for e in of), 3),
        "open_ms": round(opened * 1e3, 1),
        "warm_up_of_ids_us_per_event": round(warm / count * 1e6, 2),
    }
    journal.close()
    with JournalReader(path) as reader:
        result["verify_per_s"] = round(count / timed(reader.verify))
    clean(folder)
    return result


def checkpoint(journal: SqliteJournal) -> None:
    step = journal.begin_checkpoint()
    while step is not None:
        step.perform()
        step = journal.end_checkpoint(step)


def checkpoint_costs(folder: Path, engine: str) -> dict[str, object]:
    of = entries(50_000, Level.PROCESS)
    costs = []
    for _ in range(3):
        with SqliteJournal(folder / "j.db", engine=engine, wal_max_bytes=1 << 40) as journal:
            for batch in batches(of, 512):
                journal.write(batch)
            wal = Path(f"{journal.path}-wal").stat().st_size
            costs.append(timed(partial(checkpoint, journal)) * 1e3 / (wal / 1e6))
        clean(folder)
    return {"checkpoint_ms_per_mb": round(statistics.median(costs), 2)}


def made(kind: str, count: int) -> list[Any]:
    if kind == "ticks":
        return [MarketDataEvent(symbol="AAPL", price=100.0) for _ in range(count)]
    return [
        SignalEvent(
            source_agent="momentum",
            strategy_name="momentum-20",
            symbol="AAPL",
            direction="long",
            strength=0.25,
            confidence=0.75,
        )
        for _ in range(count)
    ]


async def record_turn(bus: EventBus, kind: str, count: int, size: int) -> float:
    """Return how many events are published, written and handled per second of the processor's time."""
    events = made(kind, count)
    begun = time.process_time()
    for start in range(0, count, size):
        await bus.publish_many(events[start : start + size])
    await bus.join()
    return count / (time.process_time() - begun)


async def record_rows(
    folder: Path, total: int, words: tuple[Any, Any], engine: Any
) -> list[dict[str, object]]:
    rows = []
    for kind, size in (("signals", 1), ("signals", 64), ("signals", 512), ("ticks", 64)):
        count = max(size, min(total, 64 * size) // 8)
        buses = []
        for number, word in enumerate(words):
            settings = PersistenceConfig(
                path=folder / f"{kind}-{size}-{number}.db", engine=engine, record=word, socket=False
            )
            bus = EventBus(persistence_config=settings)
            for name in ("first", "second"):
                bus.subscribe((SignalEvent, MarketDataEvent), partial(_handle, name), name=name)
            await bus.start()
            buses.append(bus)
        turns: list[tuple[float, float]] = []
        for turn in range(min(60, total // count) + 4):
            one, other = buses if turn % 2 else buses[::-1]
            rates = {id(bus): await record_turn(bus, kind, count, size) for bus in (one, other)}
            turns.append((rates[id(buses[0])], rates[id(buses[1])]))
        for bus in buses:
            await bus.stop()
        turns = turns[4:]
        rows.append(
            {
                "of": kind,
                "by": size,
                **{word: round(statistics.median(t[n] for t in turns)) for n, word in enumerate(words)},
                "ratio": round(statistics.median(first / second for first, second in turns), 3),
                "bytes": {w: round(_bytes_of(folder / f"{kind}-{size}-{n}.db")) for n, w in enumerate(words)},
            }
        )
    return rows


async def _handle(_name: str, _event: Any) -> None:
    pass


def _bytes_of(path: Path) -> float:
    with JournalReader(path) as reader:
        kinds = (SignalEvent, MarketDataEvent)
        events, after = 0, 0
        while page := reader.read(after, 4096):
            events += sum(isinstance(decode(entry.payload), kinds) for entry in page)
            after = page[-1].position
    return path.stat().st_size / max(1, events)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--engine", default="sqlite3", choices=["sqlite3", "apsw"])
    parser.add_argument("--folder", default=".", help="on the disk that is to be measured")
    parser.add_argument("--record", choices=["off", "rounds", "replay"], help="what a bus records")
    parser.add_argument("--beside", choices=["off", "rounds", "replay"], default="off", help="compared with")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        folder = Path(name)
        if given.record:
            words = (given.record, given.beside)
            for row in asyncio.run(record_rows(folder, given.events, words, given.engine)):
                print(json.dumps(row))
            return
        for row in write_rows(folder, given.events, given.engine):
            print(json.dumps(row))
        print(json.dumps(read_rows(folder, given.events, given.engine)))
        print(json.dumps(checkpoint_costs(folder, given.engine)))


if __name__ == "__main__":
    main()
