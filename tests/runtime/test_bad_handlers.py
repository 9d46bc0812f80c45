"""Bad handlers, of every kind: the others are unharmed, nothing is lost, and health names the culprit."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from bus_helpers import (
    Desk,
    a_fill,
    a_kill,
    a_tick,
    assert_balanced,
    now_s,
    ticks,
    virtual,
)

from openoutcry import NO_RETRY, EventBus, EventType, HealthCheckConfig, HealthCheckResult
from openoutcry.config import LadderConfig
from openoutcry.runtime.health.loop_watchdog import LIMIT_S as LIMIT_S_OF_A_CALL
from openoutcry.runtime.health.loop_watchdog import TICK_S

CONFIG = HealthCheckConfig(
    stall_s=2.0, errors_max=3, latency_ms_max=500.0, ladder=LadderConfig(back_offs=1, pause_s=5.0)
)
COUNT = 60
LIMIT_S = 300  # by which a test has failed, on any machine


class Bad:
    """The subscription that misbehaves, one way per method. `never` ends with the test."""

    def __init__(self, bus: EventBus) -> None:
        self.bus = bus
        self.never = asyncio.Event()
        self.calls = 0

    async def slow(self, _event: Any) -> None:
        await asyncio.sleep(0.9)

    async def stuck(self, _event: Any) -> None:
        await self.never.wait()

    async def raising(self, _event: Any) -> None:
        raise ValueError("no")

    async def raising_base_exception(self, _event: Any) -> None:
        raise BaseException("not even an Exception")  # noqa: TRY002 - the worst that there is

    async def exiting(self, _event: Any) -> None:
        raise SystemExit(1)

    async def cancelling(self, _event: Any) -> None:
        raise asyncio.CancelledError

    async def swallowing_cancellation(self, _event: Any) -> None:
        while not self.never.is_set():
            try:
                await self.never.wait()
            except asyncio.CancelledError:
                continue

    async def publishing_back(self, _event: Any) -> None:
        await self.bus.publish(a_fill(f"echo-{self.calls}"))
        self.calls += 1

    async def unsubscribing_itself(self, _event: Any) -> None:
        self.bus.unsubscribe(EventType.MARKET_DATA, self.unsubscribing_itself)

    async def killing_its_task(self, _event: Any) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(10)


# How it misbehaves, and the checks of which at least one must name it; none where it harms nobody.
MATRIX: list[tuple[str, set[str]]] = [
    ("slow", {"latency"}),
    ("stuck", {"stuck", "exhausted", "stalled"}),
    ("raising", {"errors", "failing"}),
    ("raising_base_exception", {"errors", "failing"}),
    ("exiting", {"errors", "failing"}),
    ("cancelling", {"errors", "failing"}),
    ("swallowing_cancellation", {"stuck", "abandoned", "stalled", "exhausted"}),
    ("publishing_back", set()),
    ("unsubscribing_itself", set()),
    ("killing_its_task", {"errors", "failing"}),
]


@pytest.mark.parametrize(("way", "named_by"), MATRIX, ids=[way for way, _ in MATRIX])
@virtual
async def test_a_bad_handler_harms_nobody_else_and_is_named(way: str, named_by: set[str]):
    told: list[HealthCheckResult] = []
    fast, urgent = Desk(), Desk()
    bus = EventBus(health_check_config=CONFIG)
    bad = Bad(bus)
    bus.on_health_change(told.append)
    bus.subscribe(EventType.MARKET_DATA, getattr(bad, way), name="bad", retry=NO_RETRY)
    bus.subscribe(EventType.MARKET_DATA, fast.on_event, name="fast")
    bus.subscribe(EventType.KILL_SWITCH, urgent.on_event, name="urgent")
    published: list[float] = []
    await bus.start()
    some = ticks(COUNT)
    for tick in some:
        published.append(now_s())
        assert await bus.publish(tick)
        await asyncio.sleep(0.25)
    killed_s = now_s()
    await bus.publish(a_kill())
    await asyncio.sleep(5)

    assert fast.ids == [tick.event_id for tick in some]
    assert fast.at_s == pytest.approx(published)  # virtual time: not a moment later than it was published
    assert urgent.at_s == [pytest.approx(killed_s)]
    found = {(finding.check, finding.culprit) for result in told for finding in result.findings}
    assert {culprit for _, culprit in found} <= {"bad"}
    if named_by:
        assert {check for check, _ in found} & named_by, found
    else:
        assert found == set()
    assert_balanced(bus)
    bad.never.set()
    await bus.stop(timeout_s=1)
    assert_balanced(bus)


async def _held_up(
    bad: Callable[[Any], Any], others: Callable[[EventBus], Awaitable[None]]
) -> HealthCheckResult:
    """Run a bus on a real loop with a handler that keeps it, and return what health says afterwards."""
    found: list[HealthCheckResult] = []
    async with EventBus(health_check_config=HealthCheckConfig(check_s=0.05)) as bus:
        bus.on_health_change(found.append)
        bus.subscribe(EventType.MARKET_DATA, bad, name="bad")
        await bus.publish(a_tick())
        await others(bus)
        deadline_s = time.monotonic() + LIMIT_S
        while not any(result.findings for result in found):
            assert time.monotonic() < deadline_s, "health has not noticed"
            await asyncio.sleep(0.01)
    return next(result for result in found if result.findings)


def test_a_handler_that_never_yields_is_named_within_250_ms_and_a_kill_switch_goes_next():
    handled: list[str] = []
    named: list[str] = []

    async def hog(_event: Any) -> None:
        deadline_s = time.monotonic() + LIMIT_S
        while not named and time.monotonic() < deadline_s:
            named.extend(episode.handler for episode in bus_of[0]._monitor.watchdog.episodes)
        handled.append("hog")

    bus_of: list[EventBus] = []

    async def on_kill(_event: Any) -> None:
        handled.append("kill")

    async def others(bus: EventBus) -> None:
        bus_of.append(bus)
        bus.subscribe(EventType.KILL_SWITCH, on_kill, name="urgent")
        for tick in ticks(5):
            bus.publish_nowait(tick)
        await asyncio.sleep(0)
        bus.publish_threadsafe(a_kill())

    result = asyncio.run(_held_up(hog, others))
    assert ("loop", "bad") in [(f.check, f.culprit) for f in result.findings]
    assert named[0] == "bad"
    assert LIMIT_S_OF_A_CALL + TICK_S <= 0.25  # which is what a machine with nothing else to do takes
    assert handled[:2] == ["hog", "kill"]
