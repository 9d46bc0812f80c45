"""What looking at a bus costs its loop: `get_status`, a health check, the metrics; per number of subscriptions.

    python benchmarks/status.py [--against OTHER/src] [--subscriptions 500]

`--against` measures another revision's sources in turns with these, and prints both side by side. The bus is
quiet (nothing has changed since the last look), or busy (every subscription has handled something).
"""

import argparse
import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path

from openoutcry import EventBus, EventType, MarketDataEvent

HERE = Path(__file__).resolve().parent.parent / "src"
ROUNDS = 5
LOOKS = 8
UNITS = "ms of the loop, least of all looks"


async def measured(count: int) -> dict[str, float]:
    async def handle(event: MarketDataEvent) -> None: ...

    bus = EventBus(history_size=1_000)
    for number in range(count):
        bus.subscribe([EventType.MARKET_DATA, EventType.SIGNAL], own(handle), name=f"agent-{number}")
    async with bus:

        async def trade() -> None:
            for number in range(20):
                await bus.publish(MarketDataEvent(symbol="ES", price=1.0 + number))
            await bus.join()

        for _ in range(20):
            await trade()
        found: dict[str, float] = {}
        for _ in range(LOOKS):
            await trade()
            note(found, "get_status, busy", bus.get_status)
            note(found, "get_status, quiet", bus.get_status)
            note(found, "get_handler_stats", bus.get_handler_stats)
            note(found, "ledger", bus.ledger)
            note(found, "metrics", lambda: bus.metrics)
            started_s = time.perf_counter()
            await bus.check_health()
            least(found, "check_health", time.perf_counter() - started_s)
            if hasattr(bus, "read_status"):
                least(found, "read_status, longest piece", await longest_turn(bus.read_status()))
        return found


def own(handle):
    async def one(event):
        await handle(event)

    return one


async def longest_turn(work) -> float:
    """The longest time for which the loop was kept while `work` ran."""
    longest_s, over = 0.0, asyncio.Event()

    async def watch() -> None:
        nonlocal longest_s
        before_s = time.perf_counter()
        while not over.is_set():
            await asyncio.sleep(0)
            now_s = time.perf_counter()
            longest_s, before_s = max(longest_s, now_s - before_s), now_s

    watching = asyncio.create_task(watch())
    await asyncio.sleep(0)
    await work
    over.set()
    await watching
    return longest_s


def note(found: dict[str, float], what: str, look) -> None:
    started_s = time.perf_counter()
    look()
    least(found, what, time.perf_counter() - started_s)


def least(found: dict[str, float], what: str, took_s: float) -> None:
    found[what] = min(found.get(what, 1e9), took_s * 1e3)


def one(source: Path, count: int) -> dict[str, float]:
    """Measure in a process of its own."""
    command = [sys.executable, __file__, "--child", "--subscriptions", str(count)]
    done = subprocess.run(
        command, env={"PYTHONPATH": str(source), "PATH": ""}, check=True, capture_output=True
    )
    return json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--against", type=Path)
    parser.add_argument("--subscriptions", type=int, default=500)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        print(json.dumps(asyncio.run(measured(asked.subscriptions))))
        return
    sources = [HERE] if asked.against is None else [asked.against.resolve(), HERE]
    best: list[dict[str, float]] = [{} for _ in sources]
    for _ in range(ROUNDS):
        for found, source in zip(best, sources, strict=True):
            for what, took_ms in one(source, asked.subscriptions).items():
                least(found, what, took_ms / 1e3)
    print(f"{asked.subscriptions} subscriptions, {UNITS}")
    print(
        f"{'':<28}" + "".join(f"{name:>12}" for name in ("before", "after", "ratio")[-2 * len(sources) + 1 :])
    )
    for what, took_ms in best[-1].items():
        before_ms = best[0].get(what)
        cells = [took_ms] if len(sources) == 1 else [before_ms, took_ms, before_ms and before_ms / took_ms]
        print(
            f"{what:<28}" + "".join(f"{'-' if cell is None else format(cell, '.3f'):>12}" for cell in cells)
        )


if __name__ == "__main__":
    main()
