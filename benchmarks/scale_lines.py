"""Measure one point of a curve in this process: `python scale_lines.py '{"curve": ..., "size": ..., "folder": ...}'`.

Prints one line of JSON with the cost of the whole of that size: a time of the processor in microseconds, the least of
several repetitions, or bytes. scale.py says what each curve is, and which sizes it has.
"""

import asyncio
import gc
import json
import logging
import os
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from time import process_time
from typing import Any, NamedTuple

from measures.memory import resident_bytes
from subjects.base import KILL_SWITCH, MARKET_DATA, ORDER, SIGNAL
from subjects.durable_bus import NOTE, notes
from subjects.handlers import trivial
from subjects.openoutcry_bus import kill_switch, market_data, order, signal

from openoutcry import EventBus, PersistenceConfig
from openoutcry.observers.prometheus import collector
from openoutcry.replay.day import read_day
from openoutcry.replay.engine import replay_here
from openoutcry.runtime.durability.recorder import running_app

_REPETITIONS_MIN = 3
_EVENTS_COUNT = 200
_WAITING_FOR_ALL_COUNT = 8_000
_ROOM_COUNT = 2_000_000


class Point(NamedTuple):
    """A size of a curve, for how long its burst is repeated, and where its journals go."""

    size: int
    seconds: float
    folder: Path


async def least(point: Point, prepare: Callable[[], Any], burst: Callable[[Any], Awaitable[Any]]) -> float:
    """Return the microseconds of the processor that `burst(prepare())` takes, the least of the repetitions."""
    await burst(prepare())
    gc.collect()
    gc.freeze()
    found: list[float] = []
    while len(found) < _REPETITIONS_MIN or sum(found) < point.seconds:
        prepared = prepare()
        gc.collect()
        gc.disable()
        begun = process_time()
        await burst(prepared)
        found.append(process_time() - begun)
        gc.enable()
    return min(found) * 1e6


def many(make: Callable[[], Any], count: int = _EVENTS_COUNT) -> Callable[[], list[Any]]:
    """Return what makes so many fresh events."""
    return lambda: [make() for _ in range(count)]


def sender(bus: EventBus) -> Callable[[list[Any]], Awaitable[None]]:
    """Return what publishes events one by one, and drains the bus."""

    async def send(events: list[Any]) -> None:
        publish = bus.publish
        for event in events:
            await publish(event)
        await bus.join()

    return send


class Reader:
    """A handler, and what publishes to it and waits until it has handled that.

    `join` would look at every subscription, which is what is to be found out.
    """

    def __init__(self, bus: EventBus, *, by_turns: bool) -> None:
        self._publish = bus.publish
        self._by_turns = by_turns
        self._left_count = 0
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def handle(self, _event: Any) -> None:
        self._left_count -= 1
        if not self._left_count:
            self._over.set_result(None)

    async def handle_too(self, event: Any) -> None:
        await self.handle(event)

    async def send(self, events: list[Any]) -> None:
        """Publish some; `by_turns`: each when the one before has been handled."""
        for some in [[event] for event in events] if self._by_turns else [events]:
            self._left_count = len(some)
            self._over = asyncio.get_running_loop().create_future()
            for event in some:
                await self._publish(event)
            await self._over


def durable_bus(point: Point, name: str = "journal") -> EventBus:
    """Return a bus that journals at `process`."""
    settings = PersistenceConfig(path=point.folder / f"{name}.db", level="process", socket=False)
    return EventBus(persistence_config=settings)


# -- subscriptions --------------------------------------------------------------------------------


async def matching(point: Point) -> float:
    """Ticks, each to all subscriptions."""
    bus = EventBus()
    for _ in range(point.size):
        bus.subscribe(MARKET_DATA, trivial("async"))
    await bus.start()
    return await least(point, many(market_data), sender(bus))


async def idle(point: Point, make: Callable[[], Any], selector: str, *, by_turns: bool) -> float:
    """Events of one type to one subscription, beside others that take another type."""
    bus = EventBus()
    for _ in range(point.size):
        bus.subscribe("quiet", trivial("async"))
    reader = Reader(bus, by_turns=by_turns)
    bus.subscribe(selector, reader.handle)
    await bus.start()
    return await least(point, many(make), reader.send)


async def idle_mixed(point: Point) -> float:
    """Three types in turn to two subscriptions, beside others that take another type."""
    bus = EventBus()
    for _ in range(point.size):
        bus.subscribe("quiet", trivial("async"))
    reader = Reader(bus, by_turns=False)
    bus.subscribe([MARKET_DATA, SIGNAL], reader.handle)
    bus.subscribe(ORDER, reader.handle_too)
    await bus.start()

    def prepare() -> list[Any]:
        return [make() for _ in range(_EVENTS_COUNT // 3) for make in (market_data, signal, order)]

    return await least(point, prepare, reader.send)


async def idle_durable(point: Point, *, by_turns: bool) -> float:
    """Journaled events to one subscription, beside others with cursors of their own that take another type."""
    bus = durable_bus(point)
    for number in range(point.size):
        bus.subscribe("quiet", trivial("async"), name=f"quiet-{number}")
    reader = Reader(bus, by_turns=by_turns)
    bus.subscribe(NOTE, reader.handle, name="reader")
    await bus.start()
    return await least(point, lambda: notes(_EVENTS_COUNT), reader.send)


async def matching_durable(point: Point) -> float:
    """Journaled events, each to all subscriptions, whose cursors are saved."""
    bus = durable_bus(point)
    for number in range(point.size):
        bus.subscribe(NOTE, trivial("async"), name=f"reader-{number}")
    await bus.start()

    async def send(events: list[Any]) -> None:
        await bus.publish_many(events)
        await bus.flush()

    return await least(point, lambda: notes(_EVENTS_COUNT), send)


async def kill_switches(point: Point) -> float:
    """A kill switch to all subscriptions."""
    bus = EventBus()
    for _ in range(point.size):
        bus.subscribe([MARKET_DATA, KILL_SWITCH], trivial("async"))
    await bus.start()
    return await least(point, many(kill_switch, 1), sender(bus))


async def life(point: Point, *, is_durable: bool) -> float:
    """Subscribe all, start, and stop."""
    numbers = iter(range(1_000))

    async def live(_: None) -> None:
        bus = durable_bus(point, f"journal-{next(numbers)}") if is_durable else EventBus()
        for number in range(point.size):
            bus.subscribe(NOTE, trivial("async"), name=f"reader-{number}")
        await bus.start()
        await bus.publish_many(notes(10))
        await bus.stop()

    return await least(point, lambda: None, live)


async def looks(point: Point, *, what: str) -> float:
    """Look at a bus whose subscriptions all have handled something since the last look."""
    bus = EventBus()
    for number in range(point.size):
        bus.subscribe([MARKET_DATA, SIGNAL], trivial("async"), name=f"reader-{number}")
    await bus.start()
    send, collected = sender(bus), collector(bus)
    found: list[float] = []
    while len(found) < _REPETITIONS_MIN or sum(found) < point.seconds:
        await send([market_data()])
        begun = process_time()
        if what == "status":
            bus.get_status()
        elif what == "health":
            await bus.check_health()
        elif what == "metrics":
            _ = bus.metrics
        elif what == "ledger":
            bus.ledger()
        elif what == "join":
            await bus.join()
        else:
            await bus.admin.shape()
            await bus.admin.pulse()
            collected.describe()
        found.append(process_time() - begun)
    return min(found) * 1e6


# -- rounds ---------------------------------------------------------------------------------------


async def rounds(point: Point, *, form: str) -> float:
    """Rounds of all agents: `calls` alone; `firm`, where each votes on a tick it handles; or `journaled`."""
    agents = [f"agent-{number:03}" for number in range(point.size)]
    bus = durable_bus(point) if form == "journaled" else EventBus()
    for agent in agents:
        bus.register_signal_agent(agent)
    bus.subscribe(SIGNAL, trivial("async"), name="cio")
    if form == "firm":
        for agent in agents:
            bus.subscribe(MARKET_DATA, voter(bus, agent), name=agent)
    await bus.start()

    async def hold(votes: list[Any]) -> None:
        opened = bus.open_round()
        if form == "firm":
            await bus.publish(market_data())
        elif form == "journaled":
            await asyncio.gather(*[bus.publish_signal(vote) for vote in votes])
        else:
            for vote in votes:
                await bus.publish_signal(vote)
        outcome = await bus.wait_for_signals(opened.round_id)
        assert len(outcome) == len(agents), f"a round ended with {len(outcome)} signals"
        await bus.join()

    return await least(point, lambda: [signal(agent) for agent in agents], hold)


def voter(bus: EventBus, agent: str) -> Callable[[Any], Awaitable[None]]:
    """Return a handler that votes on each tick."""

    async def vote(_tick: Any) -> None:
        await bus.publish_signal(signal(agent))

    return vote


# -- events that wait -----------------------------------------------------------------------------


async def waiting(point: Point, *, what: str) -> float:
    """Ticks that wait for a handler: the bytes that waiting adds, or what publishing or draining them takes."""
    released = asyncio.Event()
    bus = EventBus(max_queue_size=_ROOM_COUNT)

    async def handler(_event: Any) -> None:
        await released.wait()

    bus.subscribe(MARKET_DATA, handler)
    await bus.start()
    events = [market_data() for _ in range(point.size)]
    gc.collect()
    gc.freeze()
    made, begun = resident_bytes(), process_time()
    publish = bus.publish
    for event in events:
        await publish(event)
    await asyncio.sleep(0)
    published_s = process_time() - begun
    gc.collect()
    added = resident_bytes() - made
    begun = process_time()
    released.set()
    await bus.join()
    drained_s = process_time() - begun
    return {"bytes": float(added), "publish": published_s * 1e6, "drain": drained_s * 1e6}[what]


async def waiting_for_all(point: Point) -> float:
    """Bytes that ticks take which wait for all subscriptions, beside the ticks themselves."""
    released = asyncio.Event()
    bus = EventBus()

    async def handler(_event: Any) -> None:
        await released.wait()

    for number in range(point.size):
        bus.subscribe(MARKET_DATA, partial(handler), name=f"reader-{number}")
    await bus.start()
    events = [market_data() for _ in range(_WAITING_FOR_ALL_COUNT)]
    gc.collect()
    made = resident_bytes()
    await bus.publish_many(events)
    await asyncio.sleep(0)
    gc.collect()
    return float(resident_bytes() - made)


# -- a day again ----------------------------------------------------------------------------------


class Firm:
    """An app whose agents take a short while over each tick."""

    size = 0
    ticks_count = 10

    def setup(self, bus: EventBus) -> None:
        async def handle(_tick: Any) -> None:
            await asyncio.sleep(0.001)

        for number in range(self.size):
            bus.subscribe(MARKET_DATA, partial(handle), name=f"agent-{number}")

    async def main(self, bus: EventBus) -> None:
        for _ in range(self.ticks_count):
            await bus.publish(market_data())
            await asyncio.sleep(0.002)
        await bus.join()


async def replayed(point: Point) -> float:
    """Replay a day that was recorded with all subscriptions."""
    Firm.size = point.size
    settings = PersistenceConfig(path=point.folder / "day.db", record="replay", socket=False)
    running_app.set("benchmarks:Firm")
    async with EventBus(persistence_config=settings) as bus:
        firm = Firm()
        firm.setup(bus)
        await firm.main(bus)
    day = read_day(point.folder / "day.db")
    begun = process_time()
    found = await asyncio.to_thread(replay_here, day, Firm, "firm")
    assert found.identical, "the day went otherwise"
    return (process_time() - begun) * 1e6


CURVES: dict[str, Callable[[Point], Awaitable[float]]] = {
    "a tick to all": matching,
    "a tick, others idle": partial(idle, make=market_data, selector=MARKET_DATA, by_turns=False),
    "a tick at a time, others idle": partial(idle, make=market_data, selector=MARKET_DATA, by_turns=True),
    "an order, others idle": partial(idle, make=order, selector=ORDER, by_turns=False),
    "three types, others idle": idle_mixed,
    "a journaled event, others idle": partial(idle_durable, by_turns=False),
    "a journaled event at a time, others idle": partial(idle_durable, by_turns=True),
    "a journaled event to all": matching_durable,
    "a kill switch to all": kill_switches,
    "subscribe, start, stop": partial(life, is_durable=False),
    "subscribe, start, stop, with a journal": partial(life, is_durable=True),
    "get_status": partial(looks, what="status"),
    "check_health": partial(looks, what="health"),
    "metrics": partial(looks, what="metrics"),
    "ledger": partial(looks, what="ledger"),
    "join": partial(looks, what="join"),
    "what the page asks": partial(looks, what="pulse"),
    "a round": partial(rounds, form="calls"),
    "a round on a tick": partial(rounds, form="firm"),
    "a journaled round": partial(rounds, form="journaled"),
    "publish what waits": partial(waiting, what="publish"),
    "drain what waited": partial(waiting, what="drain"),
    "memory of what waits": partial(waiting, what="bytes"),
    "memory of what waits for all": waiting_for_all,
    "a day replayed": replayed,
}


def main() -> None:
    if sys.argv[1:] == ["--names"]:
        print(json.dumps(list(CURVES)))
        return
    spec = json.loads(sys.argv[1])
    logging.disable()  # a subscription that has been made to wait is meant to
    point = Point(spec["size"], spec["seconds"], Path(spec["folder"]))
    asyncio.run(_print(CURVES[spec["curve"]](point)))


async def _print(measuring: Awaitable[float]) -> None:
    print(json.dumps(await measuring), flush=True)
    os._exit(0)  # a bus that was not stopped may not hold the run up


if __name__ == "__main__":
    main()
