"""Measure one line of the guard in this process: `python guard_lines.py '{"line": ..., "seconds": ..., "folder": ...}'`.

Prints one line of JSON: microseconds per event (or round, or call), and of how many repetitions. It uses only names
that `openoutcry` has published, and the makers of events and handlers beside it, so that it measures any commit.

A repetition prepares its events, collects garbage, switches the collector off, and times one burst. The figure is
the time that a quarter of the repetitions stay within: a machine's other work makes some of them slower, and none
faster.
"""

import asyncio
import gc
import json
import sys
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from itertools import count, cycle
from pathlib import Path
from random import Random
from time import perf_counter
from typing import Any, NamedTuple

from measures.throughput import MIXED
from subjects.base import KILL_SWITCH, MARKET_DATA, SIGNAL
from subjects.durable_bus import NOTE, notes
from subjects.handlers import busy, counting, trivial
from subjects.openoutcry_bus import kill_switch, market_data, order, signal

import openoutcry
from openoutcry import EventBus, PersistenceConfig
from openoutcry.trading import MarketDataEvent

REPETITIONS_MIN = 5
BURST_COUNT = 1_000
_WARM_UP_COUNT = 3
_AGENTS = [f"agent{number:02d}" for number in range(14)]


class Limits(NamedTuple):
    """For how long a line repeats itself, and where its journals go."""

    seconds: float
    folder: Path


Burst = Callable[[Any], Awaitable[float | None]]
"""What is timed. It may return the seconds that count, if these are not all that it takes."""


async def repeat(prepare: Callable[[], Any], burst: Burst, events_count: int, limits: Limits) -> list[float]:
    """Return microseconds per event of each repetition of `burst(prepare())`; the first few only warm the bus."""
    for _ in range(_WARM_UP_COUNT):
        await burst(prepare())
    gc.collect()
    gc.freeze()
    found = []
    end = perf_counter() + limits.seconds
    while len(found) < REPETITIONS_MIN or perf_counter() < end:
        prepared = prepare()
        gc.collect()
        gc.disable()
        begun = perf_counter()
        counted_s = await burst(prepared)
        took_s = perf_counter() - begun if counted_s is None else counted_s
        found.append(took_s * 1e6 / events_count)
        gc.enable()
    return found


def sender(bus: EventBus, way: str) -> Burst:
    """Return what publishes a list of events by `publish` or `publish_many` and drains the bus."""

    async def one_by_one(events: Sequence[Any]) -> None:
        publish = bus.publish
        for event in events:
            await publish(event)
        await bus.join()

    async def many(events: Sequence[Any]) -> None:
        await bus.publish_many(events)
        await bus.join()

    return many if way == "many" else one_by_one


# -- in memory ------------------------------------------------------------------------------------


async def fan_out(limits: Limits, handlers_count: int, way: str) -> list[float]:
    """Ticks to some handlers."""
    bus = EventBus()
    for _ in range(handlers_count):
        bus.subscribe(MARKET_DATA, trivial("async"))
    await bus.start()
    return await repeat(
        lambda: [market_data() for _ in range(BURST_COUNT)], sender(bus, way), BURST_COUNT, limits
    )


async def foreign_ids(limits: Limits, way: str, ids: str) -> list[float]:
    """Ticks that bring ids of their own to one handler: random ones, or those of two feeds in turns."""
    bus = EventBus()
    bus.subscribe(MARKET_DATA, trivial("async"))
    await bus.start()
    feeds = (count(), count())
    in_turns = (
        f"{name}-{next(feed):012d}" for name, feed in cycle(zip(("xnas", "bats"), feeds, strict=True))
    )
    chance = Random(0)
    next_id = partial(next, in_turns) if ids == "two feeds" else lambda: f"{chance.getrandbits(128):032x}"

    def prepare() -> list[Any]:
        return [
            MarketDataEvent(event_id=next_id(), symbol="AAPL", price=100.5, volume=1.0)
            for _ in range(BURST_COUNT)
        ]

    return await repeat(prepare, sender(bus, way), BURST_COUNT, limits)


async def mixed(limits: Limits, way: str) -> list[float]:
    """Three types in turn to six subscribers that take one, two or three of them."""
    bus = EventBus()
    for types in MIXED:
        bus.subscribe(list(types), trivial("async"))
    await bus.start()

    def prepare() -> list[Any]:
        return [make() for _ in range(BURST_COUNT // 3) for make in (market_data, signal, order)]

    return await repeat(prepare, sender(bus, way), BURST_COUNT // 3 * 3, limits)


def by_turns(bus: EventBus, event_type: str) -> Burst:
    """Subscribe a handler, and return what publishes each event when the one before has been handled."""
    loop = asyncio.get_running_loop()
    handled: asyncio.Future[None]

    async def handler(_event: Any) -> None:
        handled.set_result(None)

    async def burst(events: Sequence[Any]) -> None:
        nonlocal handled
        publish = bus.publish
        for event in events:
            handled = loop.create_future()
            await publish(event)
            await handled

    bus.subscribe(event_type, handler, name="reader")
    return burst


async def one_at_a_time(limits: Limits) -> list[float]:
    """Publish, handled, next."""
    bus = EventBus()
    burst = by_turns(bus, MARKET_DATA)
    await bus.start()
    return await repeat(lambda: [market_data() for _ in range(200)], burst, 200, limits)


async def kill_switch_beside_busy(limits: Limits) -> list[float]:
    """From the publishing of a kill switch to its handler, while four handlers compute over a backlog of ticks."""
    bus = EventBus()
    for _ in range(4):
        bus.subscribe(MARKET_DATA, busy(5_000))
    arrived: asyncio.Future[float]

    async def stop_trading(_event: Any) -> None:
        arrived.set_result(perf_counter())

    bus.subscribe(KILL_SWITCH, stop_trading)
    await bus.start()

    async def pull(event: Any) -> float:
        nonlocal arrived
        arrived = asyncio.get_running_loop().create_future()
        await bus.publish_many([market_data() for _ in range(64)])
        for _ in range(3):
            await asyncio.sleep(0)
        begun = perf_counter()
        await bus.publish(event)
        waited_s = await arrived - begun
        await bus.join()
        return waited_s

    return await repeat(kill_switch, pull, 1, limits)


async def barrier_rounds(limits: Limits) -> list[float]:
    """Rounds of 14 agents, whose signals a subscriber handles too."""
    bus = EventBus()
    return await _rounds(bus, limits, rounds_count=50, is_gathered=False)


async def answered_rounds(limits: Limits) -> list[float]:
    """Rounds of 14 agents that answer a tick in their handlers; a subscriber handles their signals too."""
    bus, votes = EventBus(), dict[str, Any]()

    def answering(agent: str) -> Callable[[Any], Awaitable[None]]:
        async def on_tick(_tick: Any) -> None:
            await bus.publish_signal(votes[agent])

        return on_tick

    for agent in _AGENTS:
        bus.register_signal_agent(agent)
        bus.subscribe(MARKET_DATA, answering(agent), name=agent)
    bus.subscribe(SIGNAL, trivial("async"), name="reader")
    await bus.start()

    async def burst(rounds: list[list[Any]]) -> None:
        for tick, *signals in rounds:
            votes.update(zip(_AGENTS, signals, strict=True))
            bus.open_round()
            await bus.publish(tick)
            outcome = await bus.wait_for_signals()
            assert len(outcome) == len(signals), f"a round ended with {len(outcome)} signals"
        await bus.join()

    def prepare() -> list[list[Any]]:
        return [[market_data(), *map(signal, _AGENTS)] for _ in range(10)]

    return await repeat(prepare, burst, 10, limits)


async def _rounds(bus: EventBus, limits: Limits, rounds_count: int, *, is_gathered: bool) -> list[float]:
    for agent in _AGENTS:
        bus.register_signal_agent(agent)
    bus.subscribe(SIGNAL, trivial("async"), name="reader")
    await bus.start()

    async def burst(rounds: list[list[Any]]) -> None:
        publish_signal = bus.publish_signal
        for votes in rounds:
            bus.open_round()
            if is_gathered:
                await asyncio.gather(*[publish_signal(vote) for vote in votes])
            else:
                for vote in votes:
                    await publish_signal(vote)
            outcome = await bus.wait_for_signals()
            assert len(outcome) == len(votes), f"a round ended with {len(outcome)} signals"
        await bus.join()

    def prepare() -> list[list[Any]]:
        return [[signal(agent) for agent in _AGENTS] for _ in range(rounds_count)]

    return await repeat(prepare, burst, rounds_count, limits)


async def status(limits: Limits) -> list[float]:
    """`get_status` of a bus with 200 subscriptions."""
    bus = EventBus()
    for number in range(200):
        bus.subscribe(MARKET_DATA, trivial("async"), name=f"reader-{number}")
    await bus.start()
    await sender(bus, "many")([market_data() for _ in range(BURST_COUNT)])

    async def burst(_: None) -> None:
        bus.get_status()

    return await repeat(lambda: None, burst, 1, limits)


# -- with a journal -------------------------------------------------------------------------------


def durable_bus(limits: Limits, level: str, name: str = "journal") -> EventBus:
    """Return a bus that journals at a level, in a file of that name."""
    settings = PersistenceConfig(path=limits.folder / f"{name}.db", level=level, socket=False)
    return EventBus(max_queue_size=50_000, persistence_config=settings)


async def durable_many(limits: Limits, level: str) -> list[float]:
    """`publish_many` of 512 events of 300 bytes, settled before the next."""
    bus = durable_bus(limits, level)
    bus.subscribe(NOTE, trivial("async"), name="reader")
    await bus.start()
    return await repeat(lambda: notes(512), sender(bus, "many"), 512, limits)


async def durable_publishers(limits: Limits, level: str) -> list[float]:
    """512 tasks that each await their own `publish`, four events each."""
    bus = durable_bus(limits, level)
    bus.subscribe(NOTE, trivial("async"), name="reader")
    await bus.start()

    async def publisher(events: list[Any]) -> None:
        for event in events:
            await bus.publish(event)

    async def burst(events: list[Any]) -> None:
        await asyncio.gather(*[publisher(events[start : start + 4]) for start in range(0, len(events), 4)])
        await bus.join()

    return await repeat(lambda: notes(2_048), burst, 2_048, limits)


async def durable_one_at_a_time(limits: Limits, level: str) -> list[float]:
    """Publish, handled, next."""
    bus = durable_bus(limits, level)
    burst = by_turns(bus, NOTE)
    await bus.start()
    return await repeat(lambda: notes(50), burst, 50, limits)


async def durable_rounds(limits: Limits, *, is_gathered: bool) -> list[float]:
    """Rounds of 14 agents whose signals are journaled: each after the other, or all at once."""
    return await _rounds(durable_bus(limits, "process"), limits, rounds_count=5, is_gathered=is_gathered)


async def recovery(limits: Limits) -> list[float]:
    """From the making of a bus until it has handled and settled 5,000 events that the last one left behind."""
    events_count = 5_000
    names = (f"journal-{number}" for number in count())

    async def leave_and_recover(_: None) -> float:
        name = next(names)
        last = durable_bus(limits, "process", name)
        last.subscribe(NOTE, trivial("async"), name="reader").pause()
        await last.start()
        await last.publish_many(notes(events_count))
        await last.stop(timeout_s=0)
        handled_counts = [0]
        gc.collect()
        begun = perf_counter()
        bus = durable_bus(limits, "process", name)
        bus.subscribe(NOTE, counting("async", handled_counts, 0), name="reader")
        await bus.start()
        await bus.join()
        took_s = perf_counter() - begun
        await bus.stop()
        assert handled_counts == [events_count], f"{handled_counts} of {events_count} events came back"
        return took_s

    return await repeat(lambda: None, leave_and_recover, events_count, limits)


LINES: dict[str, Callable[[Limits], Awaitable[list[float]]]] = {
    "1 handler, publish": partial(fan_out, handlers_count=1, way="publish"),
    "8 handlers, publish": partial(fan_out, handlers_count=8, way="publish"),
    "32 handlers, publish": partial(fan_out, handlers_count=32, way="publish"),
    "1 handler, publish_many": partial(fan_out, handlers_count=1, way="many"),
    "8 handlers, publish_many": partial(fan_out, handlers_count=8, way="many"),
    "32 handlers, publish_many": partial(fan_out, handlers_count=32, way="many"),
    "random ids, publish": partial(foreign_ids, way="publish", ids="random"),
    "random ids, publish_many": partial(foreign_ids, way="many", ids="random"),
    "ids of two feeds, publish": partial(foreign_ids, way="publish", ids="two feeds"),
    "three types mixed, publish": partial(mixed, way="publish"),
    "three types mixed, publish_many": partial(mixed, way="many"),
    "one at a time": one_at_a_time,
    "kill switch beside busy handlers": kill_switch_beside_busy,
    "barrier round of 14 agents": barrier_rounds,
    "barrier round answered by handlers": answered_rounds,
    "get_status of 200 subscriptions": status,
    "process, publish_many": partial(durable_many, level="process"),
    "process, 512 publishers": partial(durable_publishers, level="process"),
    "process, one at a time": partial(durable_one_at_a_time, level="process"),
    "disk, publish_many": partial(durable_many, level="disk"),
    "disk, 512 publishers": partial(durable_publishers, level="disk"),
    "disk, one at a time": partial(durable_one_at_a_time, level="disk"),
    "journaled round, one by one": partial(durable_rounds, is_gathered=False),
    "journaled round, all at once": partial(durable_rounds, is_gathered=True),
    "recovery of pending events": recovery,
}


def main() -> None:
    if sys.argv[1:] == ["--names"]:
        print(json.dumps(list(LINES)))
        return
    spec = json.loads(sys.argv[1])
    limits = Limits(spec["seconds"], Path(spec["folder"]))
    found = sorted(asyncio.run(LINES[spec["line"]](limits)))
    figures = {
        "us": found[len(found) // 4],
        "repetitions": len(found),
        "package": str(Path(openoutcry.__file__).resolve()),
    }
    print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
