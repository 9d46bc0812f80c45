"""Kill-switch latency while publishers offer 100 times more than the handlers can take.

The flooded agent takes market data and the kill switch in one subscription. A flooder on the same loop keeps
offering 100 events for each one that was handled, in slices, and a publisher pulls the kill switch every few
milliseconds. What was refused is offered again, so that the flood is limited by the bus and not by making events. The clock runs from just before its publish call to the handler's first line. A pull that has not
arrived when the flood ends counts with the time that it has waited so far.
"""

import asyncio
from collections.abc import Callable
from operator import attrgetter
from time import perf_counter_ns, sleep
from typing import Any

from subjects.base import KILL_SWITCH, MARKET_DATA, Peer, Subject
from subjects.registry import build

from measures.timing import percentiles

FLOOD_FACTOR = 100
BUSY_NS = 50_000
WAIT_S = 0.001
_SLICE_COUNT_MAX = 512
_POOL_COUNT = 4_096
_WARM_UP_S = 0.3
_PULL_EVERY_S = 0.005


class _Agent:
    """The flooded agent: it computes, or waits, over each tick, and notes when the kill switch reaches it."""

    def __init__(self, is_busy: bool, topic_of: Callable[[Any], str]) -> None:
        self._is_busy = is_busy
        self._topic_of = topic_of
        self.handled_count = 0
        self.pulled_ns: list[int] = []
        self.latency_us: list[float] = []

    async def handle(self, event: Any) -> None:
        if self._note(event):
            return
        if self._is_busy:
            _compute()
        else:
            await asyncio.sleep(WAIT_S)

    def handle_plain(self, event: Any) -> None:
        if self._note(event):
            return
        if self._is_busy:
            _compute()
        else:
            sleep(WAIT_S)

    def _note(self, event: Any) -> bool:
        if self._topic_of(event) == KILL_SWITCH:
            self.latency_us.append((perf_counter_ns() - self.pulled_ns[len(self.latency_us)]) / 1_000)
            return True
        self.handled_count += 1
        return False

    def result_us(self) -> dict[str, float]:
        now_ns = perf_counter_ns()
        waiting = [(now_ns - pulled) / 1_000 for pulled in self.pulled_ns[len(self.latency_us) :]]
        arrived = float(len(self.latency_us))
        return percentiles(self.latency_us + waiting) | {"pulls": arrived + len(waiting), "arrived": arrived}


def _compute() -> None:
    end_ns = perf_counter_ns() + BUSY_NS
    while perf_counter_ns() < end_ns:
        pass


async def measure(
    subject: str, options: dict[str, Any], kind: str, busy: bool, handlers: int, seconds: float
) -> dict[str, Any]:
    """Latency at the last agent in us, and by how much the agents were flooded."""
    bus = build(subject, options)
    agents = [_Agent(busy, attrgetter(bus.topic_field)) for _ in range(handlers)]
    handle = "handle_plain" if kind == "plain" else "handle"
    await bus.open([((MARKET_DATA, KILL_SWITCH), getattr(agent, handle)) for agent in agents])
    last = agents[-1]
    pool = bus.make_events((MARKET_DATA,), _POOL_COUNT)
    offered = 0

    async def flood() -> None:
        nonlocal offered
        while True:
            slice_count = min(_SLICE_COUNT_MAX, FLOOD_FACTOR * (last.handled_count + 1) - offered)
            offered += max(0, slice_count)
            accepted_count = _offer(bus, pool, slice_count)
            pool.extend(bus.make_events((MARKET_DATA,), accepted_count))
            await asyncio.sleep(0)

    flooder = asyncio.create_task(flood())
    await asyncio.sleep(_WARM_UP_S)
    handled_before, offered_before = last.handled_count, offered
    await _pull(bus, agents, seconds)
    flooder.cancel()
    flood_factor = (offered - offered_before) / max(1, last.handled_count - handled_before)
    return last.result_us() | {"flood": flood_factor}


def _offer(bus: Any, pool: list[Any], slice_count: int) -> int:
    """Offer events from the end of the pool; one that is refused stays there. Give how many were accepted."""
    offer = bus.send if isinstance(bus, Peer) else bus.bus.publish_nowait
    accepted_count = 0
    for _ in range(slice_count):
        if offer(pool[-1]) is not False:
            pool.pop()
            accepted_count += 1
    return accepted_count


async def _pull(bus: Subject, agents: list[_Agent], seconds: float) -> None:
    end_ns = perf_counter_ns() + int(seconds * 1e9)
    while perf_counter_ns() < end_ns:
        (event,) = bus.make_events((KILL_SWITCH,), 1)
        for agent in agents:
            agent.pulled_ns.append(perf_counter_ns())
        await bus.submit([event])
        await asyncio.sleep(_PULL_EVERY_S)
