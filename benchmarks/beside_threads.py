"""How threads fare beside a busy bus, and how soon a handler that never yields is named.

    python benchmarks/beside_threads.py [--seconds 2] [--rounds 3] [--calls 20]

A feed thread wants to run every millisecond and publishes a fill every tenth time; another one publishes a kill
switch about ten times a second, and is quiet otherwise. Each row is a fresh process; `watched` has the watchdog and its breath, `plain` has
not. Times are in milliseconds and include the wait for the interpreter's lock. `share` is the part of a processor that
the loop's thread got: rows of less than 0.8 say more of the machine's other work than of the bus.
"""

import argparse
import asyncio
import json
import logging
import random
import statistics
import subprocess
import sys
import threading
import time
from typing import Any

from openoutcry import EventBus, FillEvent, KillSwitchEvent, MarketDataEvent, OrderSide
from openoutcry.runtime.health.loop_watchdog import Blockage, Watchdog

BURST = 1000


def percentile(values: list[float], share: float) -> float | None:
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1e3, 2) if ordered else None


class Threads:
    """A feed at 1 kHz and a kill switch at about 10 Hz, from threads of their own."""

    def __init__(self, bus: EventBus) -> None:
        self.bus = bus
        self.over = threading.Event()
        self.late: list[float] = []
        self.fills: list[float] = []
        self.kills: list[float] = []
        self.due: dict[str, float] = {}
        bus.subscribe("fill", self.on_fill)
        bus.subscribe("kill_switch", self.on_kill)
        self.runs = {"feed": self.feed, "kill": self.kill}

    async def on_fill(self, event: FillEvent) -> None:
        self.fills.append(time.perf_counter() - self.due.pop(event.order_id))

    async def on_kill(self, event: KillSwitchEvent) -> None:
        self.kills.append(time.perf_counter() - self.due.pop(event.reason))

    def feed(self) -> None:
        due, number = time.perf_counter(), 0
        while not self.over.is_set():
            due = max(due + 0.001, time.perf_counter())
            time.sleep(max(0.0, due - time.perf_counter()))
            self.late.append(time.perf_counter() - due)
            number += 1
            if number % 10 == 0:
                order_id = f"o-{number}"
                self.due[order_id] = due
                self.bus.publish_threadsafe(
                    FillEvent(
                        order_id=order_id, symbol="ES", side=OrderSide.BUY, filled_quantity=1, fill_price=1
                    )
                )

    def kill(self) -> None:
        number = 0
        while True:
            due = time.perf_counter() + random.uniform(0.05, 0.15)
            if self.over.wait(due - time.perf_counter()):
                return
            number += 1
            self.due[f"k-{number}"] = due
            self.bus.publish_threadsafe(KillSwitchEvent(reason=f"k-{number}", activated=True))


async def beside(*, watched: bool, threads: str, seconds: float) -> dict[str, Any]:
    bus = EventBus(max_queue_size=100_000, history_size=1000)
    handled = 0

    async def on_tick(_event: MarketDataEvent) -> None:
        nonlocal handled
        handled += 1

    bus.subscribe("market_data", on_tick)
    others = Threads(bus)
    dog = Watchdog(asyncio.get_running_loop())
    async with bus:
        if watched:
            dog.start()
        running = [threading.Thread(target=others.runs[name]) for name in threads.split()]
        for thread in running:
            thread.start()
        began_s, cpu_s = time.perf_counter(), time.thread_time()
        while time.perf_counter() - began_s < seconds:
            if watched:
                dog.work_begins()
            await bus.publish_many([MarketDataEvent(symbol="ES", price=1.0) for _ in range(BURST)])
            await bus.join()
        wall_s, cpu_s = time.perf_counter() - began_s, time.thread_time() - cpu_s
        others.over.set()
        for thread in running:
            thread.join()
        dog.stop()
    return {
        "kevents_per_s": round(handled / wall_s / 1e3),
        "kevents_per_cpu_s": round(handled / cpu_s / 1e3),
        "share": round(cpu_s / wall_s, 2),
        "wakes_per_s": round(len(others.late) / wall_s),
        "late_p50": percentile(others.late, 0.5),
        "late_p99": percentile(others.late, 0.99),
        "late_max": percentile(others.late, 1),
        "fill_p99": percentile(others.fills, 0.99),
        "kill_p50": percentile(others.kills, 0.5),
        "kill_p99": percentile(others.kills, 0.99),
    }


async def named(*, calls: int) -> dict[str, Any]:
    """Hold the loop again and again, and tell how long it took until the handler was named."""
    loop = asyncio.get_running_loop()
    reports: list[tuple[float, Blockage]] = []
    dog = Watchdog(loop, on_blocked=lambda blockage: reports.append((time.perf_counter(), blockage)))
    dog.start()

    async def handler() -> None:
        until_s = time.perf_counter() + 0.5
        while time.perf_counter() < until_s:
            pass

    took = []
    for _ in range(calls):
        await asyncio.sleep(random.uniform(0.05, 0.1))
        reports.clear()
        began_s = time.perf_counter()
        await loop.create_task(handler(), name="openoutcry:desk.on_tick")
        took += [at_s - began_s for at_s, blockage in reports if blockage.handler == "desk.on_tick"]
    dog.stop()
    return {
        "calls": calls,
        "named": len(took),
        **{f"p{share * 100:g}": percentile(took, share) for share in (0.5, 0.99, 1)},
    }


def measured(name: str, **options: Any) -> dict[str, Any]:
    spec = json.dumps({"measure": name, **options})
    done = subprocess.run(
        [sys.executable, __file__, "--cell", spec], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=2.0, help="how long a process is measured")
    parser.add_argument(
        "--rounds", type=int, default=3, help="processes per row, of which the median is shown"
    )
    parser.add_argument("--calls", type=int, default=20, help="handlers that never yield")
    parser.add_argument("--cell", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.cell:
        spec = json.loads(arguments.cell)
        measure = {"beside": beside, "named": named}[spec.pop("measure")]
        logging.disable()
        print(json.dumps(asyncio.run(measure(**spec))))
        return
    rows = [(threads, watched) for threads in ("", "feed", "kill", "feed kill") for watched in (False, True)]
    cells: dict[tuple[str, bool], list[dict[str, Any]]] = {row: [] for row in rows}
    for _ in range(arguments.rounds):
        for threads, watched in rows:
            options = {"threads": threads, "watched": watched, "seconds": arguments.seconds}
            cells[threads, watched].append(measured("beside", **options))
    for (threads, watched), found in cells.items():
        print(f"threads: {threads or 'none'}, {'watched' if watched else 'plain'}")
        for key in found[0]:
            values = [cell[key] for cell in found if cell[key] is not None]
            if values:
                print(f"  {key:18} {statistics.median(values):10.2f}   ({min(values):g} to {max(values):g})")
    print("a handler that never yields is named after (ms):", measured("named", calls=arguments.calls))


if __name__ == "__main__":
    main()
