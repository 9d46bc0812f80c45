"""Recovery acts on the culprit, step by step, drops nothing, is bounded, and ends plainly (CONTRACT 25)."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from bus_helpers import (
    Desk,
    Gate,
    a_fill,
    a_kill,
    assert_balanced,
    assert_settled,
    now_s,
    ticks,
    virtual,
)

from openoutcry import (
    EventBus,
    EventBusHealthStatus,
    EventType,
    HealthCheckConfig,
    HealthCheckResult,
    RetryPolicy,
)
from openoutcry.config import LadderConfig
from openoutcry.core.holds import Hold

UNHEALTHY, RECOVERING = EventBusHealthStatus.UNHEALTHY, EventBusHealthStatus.RECOVERING
STALL_S = 5.0
LADDER = LadderConfig(patience_s=6.0, back_offs=2, back_off_s=1.0, pause_s=20.0, quiet_s=60.0)
CONFIG = HealthCheckConfig(stall_s=STALL_S, ladder=LADDER)
WHOLE_CLIMB = (
    "cancelled the call",
    "restarted the consumer",
    "backed off for 1 s",
    "backed off for 4 s",
    "paused for 20 s",
    "quarantined",
)
PATIENT = RetryPolicy(attempts=1_000, first_s=0.01, factor=1.0, max_s=0.01)


class Sticky(Desk):
    """A handler whose calls never end while it is broken. `swallows`: not even when they are cancelled."""

    def __init__(self, stuck: Callable[[], bool], *, swallows: bool = False) -> None:
        super().__init__()
        self._stuck = stuck
        self._swallows = swallows
        self.let_go = asyncio.Event()

    async def on_event(self, event: Any) -> None:
        while self._stuck() and not self.let_go.is_set():
            try:
                self.begun.append(event)
                self.at_s.append(now_s())
                await self.let_go.wait()
            except asyncio.CancelledError:
                if not self._swallows:
                    raise
        self.handled.append(event)


@virtual
async def test_a_stuck_call_is_cancelled_and_its_event_is_tried_again():
    sticky = Sticky(lambda: len(sticky.begun) < 1)
    told: list[HealthCheckResult] = []
    async with EventBus(health_check_config=CONFIG) as bus:
        bus.on_health_change(told.append)
        bus.subscribe(EventType.MARKET_DATA, sticky.on_event, name="sticky")
        some = ticks(10)
        await bus.publish_many(some)
        await bus.join()
        assert STALL_S <= now_s() <= STALL_S + 2.1
        assert sticky.ids == [tick.event_id for tick in some]
        assert_settled(bus)
        (finding,) = next(r for r in told if r.status is RECOVERING).findings
        assert (finding.culprit, finding.check, finding.tried) == ("sticky", "stuck", WHOLE_CLIMB[:1])
        await asyncio.sleep(5)
        assert told[-1].is_healthy


@virtual
async def test_without_recovery_nothing_is_done_about_what_is_found():
    gate = Gate()
    config = HealthCheckConfig(stall_s=STALL_S, recover=False)
    async with EventBus(health_check_config=config) as bus:
        bus.subscribe(EventType.MARKET_DATA, gate.on_event, name="stuck")
        await bus.publish_many(ticks(3))
        await asyncio.sleep(500)
        assert len(gate.begun) == 1
        assert bus.health_status is EventBusHealthStatus.DEGRADED
        gate.open()


@pytest.mark.parametrize("swallows", [False, True], ids=["cancellable", "swallows cancellation"])
@virtual
async def test_what_nothing_helps_is_quarantined_in_bounded_time_nothing_is_lost_and_the_operator_resumes_it(
    swallows: bool,
):
    sticky, desk = Sticky(lambda: True, swallows=swallows), Desk()
    told: list[HealthCheckResult] = []
    async with EventBus(health_check_config=CONFIG) as bus:
        bus.on_health_change(told.append)
        subscription = bus.subscribe(
            EventType.MARKET_DATA, sticky.on_event, name="sticky", retry=PATIENT, keep=True
        )
        bus.subscribe(EventType.MARKET_DATA, desk.on_event, name="desk")
        some = ticks(20)
        await bus.publish_many(some)
        await asyncio.sleep(300)
        (finding,) = [f for f in told[-1].findings if f.check != "abandoned"]
        assert told[-1].status is bus.health_status is UNHEALTHY
        assert (finding.culprit, finding.check, finding.tried) == ("sticky", "exhausted", WHOLE_CLIMB)
        assert subscription.state() in ("held", "stalled")
        assert len(sticky.at_s) < 100  # and not a retry per hundredth of a second
        calls = len(sticky.begun)
        await asyncio.sleep(10_000)
        assert len(sticky.begun) == calls  # nothing is tried any more
        assert desk.ids == [tick.event_id for tick in some]
        assert_balanced(bus)
        sticky.let_go.set()
        subscription.resume()
        await bus.join()
        assert list(dict.fromkeys(sticky.ids)) == [tick.event_id for tick in some]
        assert bus.dead_letters() == []
        await asyncio.sleep(5)
        assert bus.is_healthy
        assert subscription.stats(0).abandoned == 0
        assert_settled(bus)


@virtual
async def test_while_it_is_recovering_the_bus_says_so_and_not_that_it_is_well():
    sticky = Sticky(lambda: True)
    told: list[HealthCheckResult] = []
    async with EventBus(health_check_config=CONFIG) as bus:
        bus.on_health_change(told.append)
        subscription = bus.subscribe(EventType.FILL, sticky.on_event, name="execution", retry=PATIENT)
        await bus.publish(a_fill())
        await asyncio.sleep(300)
        assert {r.status for r in told[1:-1]} <= {RECOVERING, EventBusHealthStatus.HEALTHY}
        assert told[-1].status is UNHEALTHY
        assert [r.status for r in told].count(UNHEALTHY) == 1
        sticky.let_go.set()
        subscription.resume()


@virtual
async def test_a_kill_switch_gets_through_to_a_subscription_that_recovery_holds_back():
    sticky, kills = Sticky(lambda: True), []

    async def handler(event: Any) -> None:
        if event.event_type is EventType.KILL_SWITCH:
            kills.append(now_s())
        else:
            await sticky.on_event(event)

    async with EventBus(health_check_config=CONFIG) as bus:
        subscription = bus.subscribe(
            [EventType.MARKET_DATA, EventType.KILL_SWITCH], handler, name="risk", retry=PATIENT
        )
        await bus.publish_many(ticks(3))
        await asyncio.sleep(300)
        assert Hold.RECOVERY in subscription.holds
        began_s = now_s()
        await bus.publish(a_kill())
        await asyncio.sleep(0.001)
        assert kills == [pytest.approx(began_s)]
        sticky.let_go.set()
        subscription.resume()
        await bus.join()


@virtual
async def test_after_a_quiet_time_everything_may_be_tried_anew():
    broken = True
    sticky = Sticky(lambda: broken)
    told: list[HealthCheckResult] = []
    async with EventBus(health_check_config=CONFIG) as bus:
        bus.on_health_change(told.append)
        bus.subscribe(EventType.MARKET_DATA, sticky.on_event, name="sticky", retry=PATIENT)
        await bus.publish_many(ticks(1))
        await asyncio.sleep(20)
        broken = False
        await asyncio.sleep(30)
        assert sticky.handled
        first = max(len(f.tried) for r in told for f in r.findings)
        assert first >= 2
        for _ in range(100):  # a quiet time, with work
            await bus.publish_many(ticks(1))
            await asyncio.sleep(1)
        told.clear()
        broken = True
        await bus.publish_many(ticks(1))
        await asyncio.sleep(STALL_S + 2)
        assert next(r for r in told if r.findings).findings[0].tried == WHOLE_CLIMB[:1]
        sticky.let_go.set()


@virtual
async def test_a_stuck_call_among_several_is_left_and_the_others_are_not_touched():
    gate, desk = Gate(), Desk(takes_s=3)
    first = True

    async def handler(event: Any) -> None:
        nonlocal first
        if first:
            first = False
            await gate.on_event(event)
        await desk.on_event(event)

    async with EventBus(health_check_config=CONFIG) as bus:
        bus.subscribe(EventType.MARKET_DATA, handler, name="pool", concurrency=3)
        some = ticks(30)
        await bus.publish_many(some)
        await bus.join()
        assert len(desk.begun) == 30  # each once: only the stuck one was cancelled, and tried again
        assert sorted(desk.ids) == sorted(tick.event_id for tick in some)


@virtual
async def test_a_dead_consumer_is_restarted():
    desk = Desk()
    async with EventBus(health_check_config=CONFIG) as bus:
        subscription = bus.subscribe(EventType.MARKET_DATA, desk.on_event, name="desk")
        await asyncio.sleep(1)
        consumer = bus._consumers.of(subscription)
        consumer.workers[0].waiter = None  # as if its wake-up had been lost
        await bus.publish_many(ticks(3))
        await asyncio.sleep(STALL_S + 3)
        assert len(desk.handled) == 3
        assert_settled(bus)
        await bus.join()


@virtual
async def test_a_call_that_recovery_has_left_goes_on_being_known_by_its_cause():
    outputs: list[Any] = []
    sticky = Sticky(lambda: not outputs, swallows=True)

    async def handler(event: Any) -> None:
        await sticky.on_event(event)
        await bus.publish(a_fill())

    async def on_fill(event: Any) -> None:
        outputs.append(event)

    async with EventBus(health_check_config=CONFIG) as bus:
        bus.subscribe(EventType.MARKET_DATA, handler, name="sticky", retry=PATIENT)
        bus.subscribe(EventType.FILL, on_fill, name="fills")
        (tick,) = ticks(1)
        await bus.publish(tick)
        await asyncio.sleep(15)
        sticky.let_go.set()
        await bus.join()
        await asyncio.sleep(1)
        assert outputs
        assert {fill.causation_id for fill in outputs} == {tick.event_id}


@virtual
async def test_stopping_in_the_middle_of_a_climb_leaves_everything_for_the_next_start():
    sticky = Sticky(lambda: True)
    bus = EventBus(health_check_config=CONFIG)
    bus.subscribe(EventType.MARKET_DATA, sticky.on_event, name="sticky", retry=PATIENT)
    await bus.start()
    some = ticks(5)
    await bus.publish_many(some)
    await asyncio.sleep(17)
    await bus.stop(timeout_s=0.1)
    assert_balanced(bus)
    sticky.let_go.set()
    await bus.start()
    await bus.join()
    assert sticky.ids == [tick.event_id for tick in some]
    await bus.stop()
