"""What open pages and a `top` cost a firm: CPU time of its loop, and the kill switch beside them.

    python benchmarks/page.py [--subscriptions 500] [--tabs 8] [--takers 20] [--spell 1.8] [--pairs 6]

A firm trades at a steady, moderate rate: 20 events a second, each to a tenth of its subscriptions. Every page is a
process of its own, with the page's hub, its series and an open tab; the last of them shows one subscription. The
`top` is `openoutcry top`. They are attached for one spell and detached for the next, in one firm, so that both kinds
of spell meet the same machine. Two figures are held against their aims, and the exit status is 1 if one is missed:

- the CPU time that the loop's thread uses with them beyond that without, as a share of the time (at most 0.5 %);
- the p99 of a kill switch, with and without, from its publication to the last of its handlers (less than 1 ms).

The figures are void, and the exit status is 1, where the pages had too little CPU to ask as often as they do.
On a machine that is busy with other things give both precedence: `chrt -f 10 python benchmarks/page.py`, as root, has
the firm run before the pages, and these before everything else.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path

from openoutcry import EventBus, KillSwitchEvent, MarketDataEvent, PersistenceConfig
from openoutcry.clocks import SystemClock
from openoutcry.dashboard.hub import Hub
from openoutcry.dashboard.series import Series
from openoutcry.runtime.control.watcher import Watcher

ADDED_MOST = 0.005
P99_MOST_MS = 1.0
TICKS_PER_S = 20
KILLS_PER_S = 50
KILLS_S = 1.0
KINDS = 10
SETTLE_S = 1.2
"""For so long after they are attached or detached nothing is measured."""
PULSES_LEAST = 1.9
"""A page asks four times a second, and of a large firm twice. Fewer pulses than this are no figures of a page."""
SEATS = 23
"""So many pages and a `top` may watch a bus."""

Ticks = [type(f"Tick{number}", (MarketDataEvent,), {}) for number in range(KINDS)]


def page(path: str, is_on, is_over, pulses, shown: str) -> None:
    """A page's process: has a tab open whenever it is attached."""
    come_second()
    with suppress(KeyboardInterrupt):
        asyncio.run(serve(path, is_on, is_over, pulses, shown))


async def serve(path: str, is_on, is_over, pulses, shown: str) -> None:
    clock = SystemClock()
    while not is_over.is_set():
        if not is_on.is_set():
            await asyncio.sleep(0.02)
            continue
        async with AsyncExitStack() as living:
            watcher = await living.enter_async_context(Watcher(path))
            hub, series = Hub(watcher, clock, None), Series(watcher, clock)
            tab = living.enter_context(hub.tab(2**62, "", wants_tail=False))
            works = (hub.run(), series.run(), read(tab), count(watcher, pulses))
            tasks = [asyncio.create_task(work) for work in works]
            while is_on.is_set() and not is_over.is_set():
                if shown:
                    series.look_at(shown)
                await asyncio.sleep(0.05)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def read(tab) -> None:
    while await tab.next() is not None:
        pass


def come_second(pid: int = 0) -> None:
    """Where the firm has precedence over the machine's other processes (`chrt -f`), have less of it than the firm."""
    if hasattr(os, "sched_getscheduler") and os.sched_getscheduler(pid) == os.SCHED_FIFO:
        os.sched_setscheduler(pid, os.SCHED_FIFO, os.sched_param(1))


async def count(watcher, pulses) -> None:
    seen = 0
    while True:
        seen = await watcher.changed(seen)
        if watcher.live == "up":
            with pulses.get_lock():
                pulses.value += 1


class Watchers:
    """The pages and the `top`.

    Attributes:
        pulses: How many pulses the pages have got.

    """

    def __init__(self, path: Path, tabs: int, *, has_top: bool) -> None:
        context = multiprocessing.get_context("spawn")
        self._path = path
        self._has_top = has_top
        self._top: subprocess.Popen[bytes] | None = None
        self._is_on, self._is_over = context.Event(), context.Event()
        self.pulses = context.Value("q")
        self._pages = [
            context.Process(
                target=page,
                args=(
                    str(path),
                    self._is_on,
                    self._is_over,
                    self.pulses,
                    "agent-7" if number == tabs - 1 else "",
                ),
                daemon=True,
            )
            for number in range(tabs)
        ]
        for process in self._pages:
            process.start()

    def attach(self) -> None:
        self._is_on.set()
        if self._has_top:
            self._top = subprocess.Popen(
                [sys.executable, "-m", "openoutcry", "top", str(self._path)],
                stdout=subprocess.DEVNULL,
            )
            come_second(self._top.pid)

    def detach(self) -> None:
        self._is_on.clear()
        if self._top is not None:
            self._top.terminate()
            self._top.wait()
            self._top = None

    def end(self) -> None:
        self._is_over.set()
        self.detach()
        for process in self._pages:
            process.join(5)


class Firm:
    """A firm of many subscriptions, and what is measured of its loop.

    Attributes:
        bus: Its bus.
        heard_ms: How long each kill switch took to the last of those that take it.

    """

    def __init__(self, path: Path, count: int, takers: int) -> None:
        self.bus = EventBus(persistence_config=PersistenceConfig(path=path))
        self.heard_ms: list[float] = []
        self._takers = takers
        self._left = self._number = 0
        self._sent_s = 0.0
        for number in range(count):
            takes = [Ticks[number % KINDS], *([KillSwitchEvent] if number < takers else [])]
            self.bus.subscribe(takes, self._handler(), name=f"agent-{number}")

    def _handler(self) -> Callable:
        async def handle(event: MarketDataEvent | KillSwitchEvent) -> None:
            if type(event) is KillSwitchEvent:
                self._left -= 1
                if not self._left:
                    self.heard_ms.append((time.perf_counter() - self._sent_s) * 1e3)

        return handle

    async def trade(self, seconds: float) -> float:
        """Trade for a while; return the share of that time for which the loop's thread has used a CPU."""
        began_s, used_ns = time.perf_counter(), time.thread_time_ns()
        for number in range(int(seconds * TICKS_PER_S)):
            await asyncio.sleep(began_s + number / TICKS_PER_S - time.perf_counter())
            self._number += 1
            await self.bus.publish(
                Ticks[number % KINDS](symbol="ES", price=1.0 + self._number, source_agent="feed")
            )
        return (time.thread_time_ns() - used_ns) / 1e9 / (time.perf_counter() - began_s)

    async def stop_again_and_again(self, seconds: float) -> None:
        """Trade for a while, and pull the kill switch beside it."""
        trading = asyncio.create_task(self.trade(seconds))
        began_s = time.perf_counter()
        for number in range(int(seconds * KILLS_PER_S)):
            # (Not in step with the ticks, nor with the pulses.)
            await asyncio.sleep(
                began_s + (number + 0.5 * (number * 0.618 % 1)) / KILLS_PER_S - time.perf_counter()
            )
            self._number += 1
            self._left, self._sent_s = self._takers, time.perf_counter()
            await self.bus.publish(KillSwitchEvent(scope=f"S{self._number % 7}"), level="memory")
        await trading


async def measured(asked: argparse.Namespace) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "firm.db"
        firm = Firm(path, asked.subscriptions, asked.takers)
        watchers = Watchers(path, asked.tabs, has_top=not asked.no_top)
        try:
            async with firm.bus:
                await firm.stop_again_and_again(SETTLE_S)
                firm.heard_ms.clear()
                return await compared(firm, watchers, asked.spell, asked.pairs)
        finally:
            watchers.end()


async def compared(firm: Firm, watchers: Watchers, spell_s: float, pairs: int) -> dict[str, float]:
    """Measure spells with and without them, in the order that a drift of the machine does not favour."""
    shares: dict[bool, list[float]] = {False: [], True: []}
    heard: dict[bool, list[float]] = {False: [], True: []}
    is_attached, answered = False, 0
    for pair in range(pairs):
        for watched in (True, False) if pair % 2 else (False, True):
            if watched != is_attached:
                await asyncio.to_thread(watchers.attach if watched else watchers.detach)
                is_attached = watched
                await asyncio.sleep(SETTLE_S)
            firm.heard_ms = heard[watched]
            before = watchers.pulses.value
            shares[watched].append(await firm.trade(spell_s))
            answered += watched * (watchers.pulses.value - before)
            await firm.stop_again_and_again(KILLS_S)
    added = [with_them - without for without, with_them in zip(shares[False], shares[True], strict=True)]
    found = {
        "pulses a second, all pages together": answered / (pairs * spell_s),
        "CPU of the loop without, %": statistics.median(shares[False]) * 100,
        "CPU of the loop with, %": statistics.median(shares[True]) * 100,
        "added, %": statistics.median(added) * 100,
        "added in the least of the pairs, %": min(added) * 100,
        "added in the most, %": max(added) * 100,
    }
    for word, watched in (("without", False), ("with", True)):
        found[f"kill switch {word}, p50 ms"] = statistics.median(heard[watched])
        found[f"kill switch {word}, p99 ms"] = sorted(heard[watched])[int(0.99 * len(heard[watched]))]
    return found


def missed(found: dict[str, float], tabs: int) -> list[str]:
    """Return the aims that were missed, and what makes the figures void, in words."""
    said = []
    if (pulses := found["pulses a second, all pages together"]) < PULSES_LEAST * tabs:
        said.append(
            f"the pages had too little CPU: {pulses:.1f} pulses a second, less than {PULSES_LEAST * tabs:g}"
        )
    if found["added, %"] >= ADDED_MOST * 100:
        said.append(f"they add {found['added, %']:.2f} % of a CPU; the aim is less than {ADDED_MOST:.1%}")
    for word in ("without", "with"):
        p99_ms = found[f"kill switch {word}, p99 ms"]
        if p99_ms >= P99_MOST_MS:
            said.append(
                f"{word} them the kill switch's p99 is {p99_ms:.2f} ms; the aim is less than {P99_MOST_MS:g}"
            )
    return said


def main() -> None:
    parser = argparse.ArgumentParser(
        description="What open pages and a `top` cost a firm. Exits with 1 if they add 0.5 % of a CPU, or if "
        "the kill switch's p99 is 1 ms or more, with or without them. Needs the extra [page]."
    )
    parser.add_argument("--subscriptions", type=int, default=500, help="of the firm (500)")
    parser.add_argument("--takers", type=int, default=20, help="how many of them take kill switches (20)")
    parser.add_argument("--tabs", type=int, default=8, help=f"pages, each with a tab; at most {SEATS} (8)")
    parser.add_argument("--no-top", action="store_true", help="without `openoutcry top`")
    parser.add_argument("--spell", type=float, default=1.8, help="seconds of each spell (1.8)")
    parser.add_argument("--pairs", type=int, default=6, help="spells with them, and without (6)")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    asked = parser.parse_args()
    if not (0 < asked.takers <= asked.subscriptions and 0 <= asked.tabs <= SEATS and asked.pairs > 0):
        parser.error(f"give 1 to --subscriptions takers, 0 to {SEATS} tabs, and a pair at least")
    found = asyncio.run(measured(asked))
    wrong = missed(found, asked.tabs)
    if asked.json:
        print(json.dumps({**found, "missed": wrong}))
    else:
        top = "no top" if asked.no_top else "a top"
        print(
            f"{asked.subscriptions} subscriptions, {asked.takers} take kill switches; {asked.tabs} pages and {top}"
        )
        for what, value in found.items():
            print(f"  {what:<36} {value:8.3f}")
        print("\n".join(f"MISSED: {what}" for what in wrong) or "both aims are met")
    raise SystemExit(bool(wrong))


if __name__ == "__main__":
    main()
