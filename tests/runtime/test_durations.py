"""How long calls took is measured apart from how long events waited, and every slow call counts."""

import asyncio
from typing import Any

import pytest
from bus_helpers import a_kill, a_tick, ticks, virtual

from openoutcry import NO_RETRY, EventBus, EventType, RetryPolicy
from openoutcry.core.latency import Latencies
from openoutcry.runtime.delivery.stopwatch import FAST_CALLS, SLOW_NS

MS_US = 1_000


def of(bus: EventBus, name: str = "agent") -> dict[str, Any]:
    (found,) = (h for h in bus.get_handler_stats()["handlers"] if h["name"] == name)
    return found


async def slow(_event: Any) -> None:
    await asyncio.sleep(0.02)


@virtual
async def test_a_handler_of_20_ms_shows_20_ms_and_its_events_show_how_long_they_waited():
    async with EventBus() as bus:
        bus.subscribe("*", slow, name="agent")
        await bus.publish_many(ticks(100))
        await bus.join()
        found = of(bus)
        assert found["duration"]["count"] == found["latency"]["count"] == 100
        for percentile in ("p50_us", "p99_us", "p99.9_us"):
            assert found["duration"][percentile] == pytest.approx(20 * MS_US, rel=0.13)
        assert found["duration"]["max_us"] == 20 * MS_US
        assert found["latency"]["p50_us"] == pytest.approx(1_000 * MS_US, rel=0.15)
        assert found["latency"]["max_us"] == 99 * 20 * MS_US


@virtual
async def test_the_status_has_both_recent_ones_included():
    async with EventBus() as bus:
        bus.subscribe("*", slow, name="agent")
        bus.subscribe("*", lambda _: None, name="fast")
        await bus.publish_many(ticks(10))
        await bus.join()
        status = bus.get_status()
        assert status["duration"]["count"] == status["latency"]["count"] == 20
        assert status["duration"]["max_us"] == 20 * MS_US
        recent = {h["name"]: h["recent"] for h in status["handlers"]["handlers"]}
        assert recent["agent"]["call_p50_us"] == recent["agent"]["call_p99_us"]
        assert recent["agent"]["call_p99_us"] == pytest.approx(20 * MS_US, rel=0.13)
        assert recent["fast"]["call_p99_us"] == 0
        assert recent["agent"]["p99_us"] == pytest.approx(180 * MS_US, rel=0.13)


@pytest.mark.parametrize("concurrency", [2, 7])
@virtual
async def test_every_worker_of_a_subscription_counts(concurrency):
    async with EventBus() as bus:
        bus.subscribe("*", slow, name="agent", concurrency=concurrency)
        await bus.publish_many(ticks(50))
        await bus.join()
        assert of(bus)["duration"]["count"] == 50
        assert of(bus)["duration"]["p50_us"] == pytest.approx(20 * MS_US, rel=0.13)


@virtual
async def test_a_call_that_times_out_counts_with_its_duration_and_so_does_each_retry():
    async def hang(_event: Any) -> None:
        await asyncio.sleep(60)

    async with EventBus() as bus:
        retry = RetryPolicy(attempts=3, first_s=0.5)
        bus.subscribe("*", hang, name="agent", timeout_s=0.1, retry=retry, breaker=None)
        await bus.publish_many(ticks(3))
        await bus.join()
        found = of(bus)
        assert found["timeouts"] == found["duration"]["count"] == 9
        assert found["duration"]["max_us"] == pytest.approx(100 * MS_US, rel=0.01)
        assert found["duration"]["p50_us"] == pytest.approx(100 * MS_US, rel=0.13)
        assert found["latency"]["count"] == 3, "an event waits for its first call"


@virtual
async def test_a_call_that_swallows_its_cancellation_counts_once():
    async def stubborn(_event: Any) -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(0.2)

    async with EventBus() as bus:
        bus.subscribe("*", stubborn, name="agent", timeout_s=0.1, retry=NO_RETRY)
        await bus.publish(a_tick())
        await bus.join()
        assert of(bus)["duration"]["count"] == 1
        assert of(bus)["duration"]["max_us"] == pytest.approx(300 * MS_US, rel=0.01)


@virtual
async def test_an_abandoned_call_counts_once_when_it_is_abandoned():
    async def deaf(_event: Any) -> None:
        until_s = asyncio.get_running_loop().time() + 30
        while (left_s := until_s - asyncio.get_running_loop().time()) > 0:
            try:
                await asyncio.sleep(left_s)
            except asyncio.CancelledError:
                continue

    async with EventBus() as bus:
        bus.subscribe("*", deaf, name="agent", timeout_s=0.1, retry=NO_RETRY)
        await bus.publish(a_tick())
        await asyncio.sleep(5)
        assert of(bus)["abandoned"] == 1
        assert of(bus)["duration"]["max_us"] == pytest.approx(1_100 * MS_US, rel=0.01)
        await asyncio.sleep(60)
        assert of(bus)["duration"]["count"] == of(bus)["latency"]["count"] == 1


@virtual
async def test_a_call_for_a_kill_switch_counts():
    async with EventBus() as bus:
        bus.subscribe(EventType.KILL_SWITCH, slow, name="agent")
        for scope in ("ES", "NQ", "YM"):
            await bus.publish(a_kill(scope=scope))
        await bus.join()
        assert of(bus)["duration"]["count"] == of(bus)["latency"]["count"] == 3
        assert of(bus)["duration"]["p50_us"] == pytest.approx(20 * MS_US, rel=0.13)


@virtual
async def test_a_call_in_a_thread_counts():
    async with EventBus() as bus:
        bus.subscribe("*", lambda _: None, name="agent", blocking=True)
        await bus.publish_many(ticks(300))
        await bus.join()
        assert of(bus)["duration"]["count"] == of(bus)["latency"]["count"] == 300


@pytest.mark.parametrize("fails_at", [1, 5, 400])
@virtual
async def test_a_call_that_fails_counts(fails_at):
    async def picky(event: Any) -> None:
        if event.price == fails_at:
            await asyncio.sleep(0.05)
            raise ValueError(fails_at)

    async with EventBus() as bus:
        bus.subscribe("*", picky, name="agent", retry=NO_RETRY)
        await bus.publish_many(ticks(420))
        await bus.join()
        duration = of(bus)["duration"]
        assert duration["count"] == pytest.approx(420, abs=20)
        assert duration["max_us"] == pytest.approx(50 * MS_US, rel=0.01)


@virtual
async def test_a_handler_that_is_fast_for_long_and_then_slow_has_every_slow_call_counted():
    many = 5 * FAST_CALLS

    async def tiring(event: Any) -> None:
        if event.price > many:
            await asyncio.sleep(0.02)

    async with EventBus() as bus:
        subscription = bus.subscribe("*", tiring, name="agent")
        for batch in range(10):
            await bus.publish_many(ticks(many // 10, 1 + batch * many // 10))
            await bus.join()
        before = subscription.durations.copy()
        assert before.count == pytest.approx(many, rel=0.1)
        assert before.largest_ns == 0
        await bus.publish_many(ticks(300, many + 1))
        await bus.join()
        assert subscription.durations.count - before.count == 300
        (p50_us, p99_us) = subscription.durations.recent_us(before)
        assert p50_us == p99_us == pytest.approx(20 * MS_US, rel=0.13)


@virtual
async def test_one_slow_call_among_a_thousand_fast_ones_counts_as_one():
    async def rare(event: Any) -> None:
        if event.price == 1_500:
            await asyncio.sleep(0.02)

    async with EventBus() as bus:
        subscription = bus.subscribe("*", rare, name="agent")
        for batch in range(3):
            await bus.publish_many(ticks(1_000, 1 + batch * 1_000))
            await bus.join()
        assert subscription.durations.count == pytest.approx(3_000, abs=50)
        assert subscription.durations.largest_ns == 20 * SLOW_NS
        slow_calls = [p for p in (99.9, 99.97) if subscription.durations.percentile(p) > SLOW_NS]
        assert slow_calls == [99.97]


@virtual
async def test_one_slow_call_in_a_hundred_is_measured_by_itself():
    async def seldom(event: Any) -> None:
        if event.price % 100 == 0:
            await asyncio.sleep(0.2)

    async with EventBus() as bus:
        subscription = bus.subscribe("*", seldom, name="agent")
        await bus.publish_many(ticks(3_000))
        await bus.join()
        durations: Latencies = subscription.durations
        assert durations.count == 3_000
        assert durations.percentile(98.9) == 0
        assert durations.percentile(99.1) == pytest.approx(200 * SLOW_NS, rel=0.13)
        assert durations.largest_ns == 200 * SLOW_NS


@virtual
async def test_fast_calls_are_counted_by_sample_and_their_number_is_about_right():
    async with EventBus() as bus:
        bus.subscribe("*", lambda _: None, name="agent")
        for tick in ticks(5 * FAST_CALLS):
            await bus.publish(tick)
            await bus.join()
        assert of(bus)["duration"]["count"] == pytest.approx(5 * FAST_CALLS, abs=16)
        assert of(bus)["latency"]["count"] == of(bus)["duration"]["count"]
