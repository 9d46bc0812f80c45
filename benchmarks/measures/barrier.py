"""Barrier rounds per second with 14 agents: open, 14 signals, the outcome."""

import asyncio
import gc
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Any

from subjects.base import MARKET_DATA, SIGNAL, Broken
from subjects.openoutcry_bus import market_data, signal

from measures.timing import WINDOWS_COUNT, middle

AGENTS = [f"agent{i:02d}" for i in range(14)]
_ROUNDS_COUNT = 200

Signals = list[list[Any]]


async def measure(form: str, window_s: float) -> dict[str, Any]:
    """`form`: calls (bare calls), delivered (a subscriber handles the signals), tasks (the CIO waits in its own)."""
    from openoutcry import EventBus  # noqa: PLC0415 - imported in the fresh process only

    handled = 0

    async def handler(event: Any) -> None:
        nonlocal handled
        handled += 1

    bus = EventBus()
    for agent in AGENTS:
        bus.register_signal_agent(agent)
    if form == "delivered":
        bus.subscribe(SIGNAL, handler)
    await bus.start()
    hold = _rounds_with_waiting_task if form == "tasks" else _rounds_by_calls
    rate = await _rate(lambda signals: hold(bus, signals), window_s)
    await bus.join()
    await bus.stop()
    return {"rounds_per_s": rate}


async def measure_answered(window_s: float) -> dict[str, Any]:
    """As in a firm: agents answer a tick in their handlers, a subscriber handles the signals, the chief waits."""
    from openoutcry import EventBus  # noqa: PLC0415

    bus, votes = EventBus(), dict[str, Any]()

    def answering(agent: str) -> Callable[[Any], Awaitable[None]]:
        async def on_tick(_tick: Any) -> None:
            await bus.publish_signal(votes[agent])

        return on_tick

    async def on_signal(_signal: Any) -> None:
        pass

    for agent in AGENTS:
        bus.register_signal_agent(agent)
        bus.subscribe(MARKET_DATA, answering(agent), name=agent)
    bus.subscribe(SIGNAL, on_signal)
    await bus.start()

    async def hold(rounds: Signals) -> None:
        for signals in rounds:
            votes.update(zip(AGENTS, signals, strict=True))
            bus.open_round()
            await bus.publish(market_data())
            _check(await bus.wait_for_signals())

    rate = await _rate(hold, window_s)
    await bus.join()
    await bus.stop()
    return {"rounds_per_s": rate}


async def measure_alone(window_s: float) -> dict[str, Any]:
    """A SignalBarrier used without a bus."""
    from openoutcry import SignalBarrier  # noqa: PLC0415

    async def hold(rounds: Signals) -> None:
        for signals in rounds:
            barrier = SignalBarrier(AGENTS)
            for agent, vote in zip(AGENTS, signals, strict=True):
                await barrier.add_signal(agent, vote)
            _check(await barrier.wait())

    return {"rounds_per_s": await _rate(hold, window_s)}


async def _rounds_by_calls(bus: Any, rounds: Signals) -> None:
    publish_signal = bus.publish_signal
    for signals in rounds:
        bus.open_round()
        for vote in signals:
            await publish_signal(vote)
        _check(await bus.wait_for_signals())
    await bus.join()


async def _rounds_with_waiting_task(bus: Any, rounds: Signals) -> None:
    """The chief waits first; the agents answer once its round is open, as they do in a firm."""

    async def chief() -> None:
        for _ in rounds:
            _check(await bus.wait_for_signals())

    waiting = asyncio.create_task(chief())
    publish_signal = bus.publish_signal
    for signals in rounds:
        await asyncio.sleep(0)
        for vote in signals:
            await publish_signal(vote)
        await asyncio.sleep(0)
    await waiting
    await bus.join()


def _check(outcome: Any) -> None:
    if len(outcome) != len(AGENTS):
        raise Broken(f"a round ended with {len(outcome)} signals")


async def _rate(hold: Callable[[Signals], Awaitable[None]], window_s: float) -> float:
    def make() -> Signals:
        return [[signal(agent) for agent in AGENTS] for _ in range(_ROUNDS_COUNT)]

    await hold(make())
    rates = []
    for _ in range(WINDOWS_COUNT):
        spent_s, done = 0.0, 0
        while spent_s < window_s:
            rounds = make()
            gc.collect()
            begun = perf_counter()
            await hold(rounds)
            spent_s += perf_counter() - begun
            done += len(rounds)
        rates.append(done / spent_s)
    return middle(rates)
