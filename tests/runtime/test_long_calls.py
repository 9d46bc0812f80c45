"""From when a call exceeds its limit until it ends, the bus is not HEALTHY and names it (CONTRACT 25)."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from bus_helpers import a_fill, a_kill, a_tick, now_s, ticks, virtual

from openoutcry import EventBus, EventBusHealthStatus, EventType, HealthCheckConfig, RetryPolicy
from openoutcry.config import LadderConfig

HEALTHY = EventBusHealthStatus.HEALTHY
STALL_S = 5.0
LADDER = LadderConfig(patience_s=2.0, back_offs=2, back_off_s=1.0, pause_s=10.0, quiet_s=30.0)
EVERY_S = 0.037  # no divisor of anything


class Hung:
    """Calls that hang for `for_s`, each one `swallows` so many cancellations; it knows which go on since when."""

    def __init__(self, for_s: float, swallows: int = 0) -> None:
        self.for_s = for_s
        self.swallows = swallows
        self.running: dict[int, float] = {}

    async def on_event(self, event: Any) -> None:
        until = now_s() + self.for_s
        key = max(self.running, default=0) + 1
        self.running[key] = now_s()
        left = self.swallows
        try:
            while until - now_s() > 1e-9:  # a clock that counts nanoseconds never comes closer
                try:
                    await asyncio.sleep(until - now_s())
                except asyncio.CancelledError:
                    if not left:
                        raise
                    left -= 1
        finally:
            del self.running[key]

    def oldest_s(self) -> float:
        return max((now_s() - began for began in self.running.values()), default=0.0)


async def watch(
    bus: EventBus, hung: Hung, for_s: float, how: Callable[[], Any], limit_s: float = STALL_S
) -> int:
    """Sample the health at many instants; return at how many a call had exceeded its limit."""
    count, end_s = 0, now_s() + for_s
    while now_s() < end_s:
        await asyncio.sleep(EVERY_S)
        oldest_s = hung.oldest_s()
        result = how()
        result = await result if asyncio.iscoroutine(result) else result
        if oldest_s > limit_s + 1e-6:
            count += 1
            status = getattr(result, "status", result)
            assert status is not HEALTHY, (now_s(), oldest_s)
            if hasattr(result, "culprits"):
                assert "desk" in result.culprits
    return count


@virtual
@pytest.mark.parametrize("by", ["check_health", "health_status", "get_status"])
@pytest.mark.parametrize("swallows", [0, 1, 2, 1_000])
@pytest.mark.parametrize("recover", [True, False, None])
async def test_a_long_call_is_never_read_as_healthy_before_it_ends(recover, swallows, by):
    config = None if recover is None else HealthCheckConfig(stall_s=STALL_S, ladder=LADDER, recover=recover)
    hung = Hung(for_s=60.0, swallows=swallows)
    async with EventBus(health_check_config=config) as bus:
        limit_s = STALL_S if config else HealthCheckConfig().stall_s
        bus.subscribe(EventType.MARKET_DATA, hung.on_event, name="desk", retry=RetryPolicy(attempts=50))
        await bus.publish_many(ticks(2))

        def how() -> Any:
            if by == "get_status":
                health = bus.get_status()["health"]
                return EventBusHealthStatus(health["status"])
            return bus.check_health() if by == "check_health" else bus.health_status

        assert await watch(bus, hung, 130.0, how, limit_s) > 0
        await bus.stop(timeout_s=0)


@virtual
async def test_between_two_steps_of_recovery_a_subscription_that_has_handled_nothing_is_not_healthy():
    """Elsewhere: the cancelled call was tried again, hung again, and read HEALTHY until it was too long."""
    hung = Hung(for_s=1e6)
    config = HealthCheckConfig(stall_s=STALL_S, ladder=LADDER)
    async with EventBus(health_check_config=config) as bus:
        bus.subscribe("*", hung.on_event, name="desk", retry=RetryPolicy(attempts=50))
        await bus.publish(a_tick())
        await asyncio.sleep(STALL_S + 0.1)
        statuses = []
        for _ in range(2_000):
            await asyncio.sleep(EVERY_S)
            result = await bus.check_health()
            statuses.append(result.status)
            assert result.culprits == ("desk",)
        assert HEALTHY not in statuses
        hung.for_s = 0.0
        bus.subscription("desk").resume()
        await bus.join()
        assert (await bus.check_health()).status is HEALTHY
        await bus.stop(timeout_s=0)


@virtual
@pytest.mark.parametrize("quick", [0, 3, 40, 500])
async def test_a_call_that_hangs_after_quick_ones_of_its_batch_is_seen_at_the_first_look(quick):
    """Elsewhere: its age was counted from the first time that anybody asked."""
    hung = Hung(for_s=1e6)

    async def handler(event: Any) -> None:
        if event.price == quick + 1:
            await hung.on_event(event)

    async with EventBus() as bus:
        bus.subscribe("*", handler, name="desk")
        await bus.publish_many(ticks(quick + 1))
        await asyncio.sleep(29)
        assert (await bus.check_health()).status is HEALTHY
        await asyncio.sleep(2)
        assert (await bus.check_health()).culprits == ("desk",)
        await bus.stop(timeout_s=0)


@virtual
async def test_slow_calls_are_not_taken_for_one_that_hangs():
    slow = Hung(for_s=4.0)
    async with EventBus() as bus:
        bus.subscribe("*", slow.on_event, name="desk")
        await bus.publish_many(ticks(20))
        await asyncio.sleep(62)
        findings = (await bus.check_health()).findings
        assert "stuck" not in {finding.check for finding in findings}
        await bus.stop(timeout_s=0)


@virtual
@pytest.mark.parametrize("timeout_s", [1.0, 20.0])
async def test_a_call_with_its_own_limit_is_long_after_that_also_while_it_is_being_cancelled(timeout_s):
    hung = Hung(for_s=200.0, swallows=1_000)
    config = HealthCheckConfig(stall_s=STALL_S, ladder=LADDER)
    async with EventBus(health_check_config=config) as bus:
        bus.subscribe("*", hung.on_event, name="desk", timeout_s=timeout_s, retry=RetryPolicy(attempts=3))
        await bus.publish(a_tick())
        await asyncio.sleep(min(timeout_s, STALL_S) - 0.1)
        assert (await bus.check_health()).status is HEALTHY
        assert await watch(bus, hung, 60.0, bus.check_health, max(timeout_s, STALL_S)) > 0
        await bus.stop(timeout_s=0)


@virtual
@pytest.mark.parametrize("event", [a_fill, a_kill])
async def test_calls_of_the_other_lanes_count_as_well(event):
    hung = Hung(for_s=60.0, swallows=1_000)
    config = HealthCheckConfig(stall_s=STALL_S, recover=False)
    async with EventBus(health_check_config=config) as bus:
        bus.subscribe("*", hung.on_event, name="desk")
        await bus.publish(event())
        assert await watch(bus, hung, 70.0, bus.check_health) > 0
        assert (await bus.check_health()).status is HEALTHY


@virtual
async def test_a_call_that_outlives_its_subscription_is_named_until_it_ends():
    hung = Hung(for_s=60.0)
    async with EventBus(health_check_config=HealthCheckConfig(stall_s=STALL_S)) as bus:
        bus.subscribe("*", hung.on_event, name="desk")
        await bus.publish(a_tick())
        await asyncio.sleep(1)
        bus.unsubscribe("*", hung.on_event)
        assert await watch(bus, hung, 70.0, bus.check_health) > 0
        assert (await bus.check_health()).status is HEALTHY


@pytest.mark.parametrize("recover", [True, False])
def test_a_thread_that_goes_on_keeps_the_bus_from_being_healthy(recover):
    let_go = threading.Event()

    def blocks(_event: Any) -> None:
        let_go.wait()

    async def main() -> None:
        ladder = LadderConfig(patience_s=0.01, back_offs=1, back_off_s=0.01, pause_s=0.01, quiet_s=60.0)
        config = HealthCheckConfig(stall_s=0.02, check_s=0.01, ladder=ladder, recover=recover)
        async with asyncio.timeout(60), EventBus(health_check_config=config) as bus:
            bus.subscribe("*", blocks, name="desk", blocking=True, retry=False)
            await bus.publish(a_tick())
            while (await bus.check_health()).is_healthy:  # noqa: ASYNC110 - nobody tells, and that is the test
                await asyncio.sleep(0.001)
            for _ in range(200):
                await asyncio.sleep(0.002)
                result = await bus.check_health()
                assert not result.is_healthy
                assert "desk" in result.culprits
            let_go.set()
            bus.subscription("desk").resume()
            await bus.join()

    asyncio.run(main())
