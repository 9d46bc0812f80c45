"""What eight pages and a `top` cost a firm: share of its loop, and the kill switch beside them.

    python benchmarks/page.py [--subscriptions 500] [--tabs 8] [--seconds 4] [--rounds 3]

Every page is a process of its own with one watcher, which asks four times a second; a `top` asks for the times
of 48 subscriptions once a second besides. Spells with and without them take turns in one firm, so that both
meet the same machine. The share is the CPU time that the loop's thread uses beyond that without them, while the
firm rests, so that nothing else is counted; kill switches are timed while it trades.
"""

import argparse
import asyncio
import json
import multiprocessing
import statistics
import sys
import tempfile
import time
from pathlib import Path

from openoutcry import EventBus, EventType, KillSwitchEvent, MarketDataEvent, PersistenceConfig
from openoutcry.runtime.control.watcher import Watcher

SHARE_MOST = 0.005
P99_MOST_S = 0.001
KILLS_PER_S = 50
TICKS_PER_S = 200


def page(path: str, go, stop, is_top: bool) -> None:
    """A page's process: watches while it may."""

    async def watch() -> None:
        while not stop.is_set():
            if not go.is_set():
                await asyncio.sleep(0.02)
                continue
            async with Watcher(path) as watcher:
                seen, asked_s = 0, time.monotonic()
                while go.is_set() and not stop.is_set():
                    try:
                        async with asyncio.timeout(0.3):
                            seen = await watcher.changed(seen)
                    except TimeoutError:
                        continue
                    if is_top and watcher.live == "up" and time.monotonic() - asked_s > 1:
                        asked_s = time.monotonic()
                        await watcher.buckets([f"agent-{number}" for number in range(48)])

    asyncio.run(watch())


class Firm:
    """A firm of many subscriptions, and what is measured of its loop."""

    def __init__(self, path: Path, count: int) -> None:
        self.bus = EventBus(persistence_config=PersistenceConfig(path=path))
        self.heard_s: list[float] = []
        self.sent_s = 0.0
        for number in range(count):
            self.bus.subscribe([EventType.MARKET_DATA], self.own(), name=f"agent-{number}")
        self.bus.subscribe(EventType.KILL_SWITCH, self.on_kill, name="risk")

    def own(self):
        async def on_tick(_event: MarketDataEvent) -> None: ...

        return on_tick

    async def on_kill(self, _event: KillSwitchEvent) -> None:
        self.heard_s.append(time.perf_counter() - self.sent_s)

    async def rest(self, seconds: float) -> float:
        """Do nothing for a while, and return the share of a CPU that the loop's thread has used."""
        began_s, used_s = time.monotonic(), time.thread_time()
        await asyncio.sleep(seconds)
        return (time.thread_time() - used_s) / (time.monotonic() - began_s)

    async def trade(self, seconds: float) -> list[float]:
        """Trade for a while, and return how long kill switches took to their handler."""
        self.heard_s = []
        ends_s, number = time.monotonic() + seconds, 0
        while time.monotonic() < ends_s:
            number += 1
            if number % (TICKS_PER_S // KILLS_PER_S) == 0:
                self.sent_s = time.perf_counter()
                await self.bus.publish(KillSwitchEvent(scope=f"S{number % 7}"), level="memory")
            elif number % 20 == 0:
                await self.bus.publish(MarketDataEvent(symbol="ES", price=1.0 + number, source_agent="feed"))
            await asyncio.sleep(1 / TICKS_PER_S)
        return self.heard_s


def p99(values: list[float]) -> float:
    return sorted(values)[int(0.99 * len(values))]


async def measured(count: int, tabs: int, seconds: float, rounds: int) -> dict[str, float]:
    context = multiprocessing.get_context("spawn")
    go, stop = context.Event(), context.Event()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "firm.db"
        firm = Firm(path, count)
        pages = [
            context.Process(target=page, args=(str(path), go, stop, number == tabs), daemon=True)
            for number in range(tabs + 1)
        ]
        async with firm.bus:
            for process in pages:
                process.start()
            await asyncio.sleep(4)  # until they are up
            shares, delays = {False: [], True: []}, {False: [], True: []}
            for number in range(2 * rounds):
                watched = bool(number % 2)
                (go.set if watched else go.clear)()
                await asyncio.sleep(1.5)
                shares[watched].append(await firm.rest(seconds))
                delays[watched] += await firm.trade(seconds)
            stop.set()
            for process in pages:
                process.join(5)
    return {
        "share of a CPU without": statistics.median(shares[False]),
        "share of a CPU with": statistics.median(shares[True]),
        "kill switch p99 without, ms": p99(delays[False]) * 1e3,
        "kill switch p99 with, ms": p99(delays[True]) * 1e3,
        "kill switch p50 without, ms": statistics.median(delays[False]) * 1e3,
        "kill switch p50 with, ms": statistics.median(delays[True]) * 1e3,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--subscriptions", type=int, default=500)
    parser.add_argument("--tabs", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    found = asyncio.run(measured(asked.subscriptions, asked.tabs, asked.seconds, asked.rounds))
    if asked.json:
        print(json.dumps(found))
        return
    print(f"{asked.subscriptions} subscriptions, {asked.tabs} pages and a top")
    for what, value in found.items():
        print(f"  {what:<34} {value:10.4f}")
    added = found["share of a CPU with"] - found["share of a CPU without"]
    print(f"  {'added share of a CPU':<34} {added:10.4f}   (at most {SHARE_MOST})")
    if not sys.flags.interactive and added > SHARE_MOST:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
