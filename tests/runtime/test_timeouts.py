"""Time-outs (CONTRACT 10, 28): a call that takes too long fails; one that will not end is left behind."""

import asyncio
import contextlib
from typing import Any

import pytest
from bus_helpers import (
    Desk,
    Gate,
    a_kill,
    a_tick,
    assert_balanced,
    assert_settled,
    now_s,
    row,
    ticks,
    virtual,
)

from openoutcry import NO_RETRY, Event, EventBus, RetryPolicy

TWICE = RetryPolicy(attempts=2, first_s=1.0, jitter=0.0)


@virtual
async def test_a_call_that_takes_too_long_is_cancelled_and_has_failed():
    """CONTRACT 10."""
    gate = Gate()
    async with EventBus() as bus:
        bus.subscribe("*", gate.on_event, name="stuck", timeout_s=5, retry=TWICE)
        await bus.publish(a_tick())
        await bus.join()
        assert now_s() == 11
        (letter,) = bus.dead_letters()
        assert (letter.reason, letter.attempts) == ("timed out", 2)
        assert "5 s" in letter.error
        stats = bus.get_handler_stats()["handlers"][0]
        assert (stats["timeouts"], stats["errors"], stats["abandoned"]) == (2, 2, 0)
        assert_settled(bus)


@virtual
async def test_a_time_out_ends_a_stuck_kill_handler_too():
    """CONTRACT 10, 5: so that the next kill switch does not wait for ever."""
    gate = Gate()
    async with EventBus() as bus:
        bus.subscribe("kill_switch", gate.on_event, name="stuck", timeout_s=2, retry=NO_RETRY)
        await bus.publish(a_kill(scope="ES"))
        await bus.publish(a_kill(scope="NQ"))
        await bus.join()
        assert now_s() == 4
        assert [letter.reason for letter in bus.dead_letters("stuck")] == ["timed out"] * 2
        assert_settled(bus)


@virtual
async def test_calls_that_are_quick_enough_are_left_alone_however_many():
    desk = Desk(takes_s=0.9)
    async with EventBus() as bus:
        bus.subscribe("*", desk.on_event, name="desk", timeout_s=1)
        await bus.publish_many(ticks(100))
        await bus.join()
        assert row(bus, "desk").handled == 100
        assert bus.get_handler_stats()["handlers"][0]["timeouts"] == 0
        assert_settled(bus)


@virtual
async def test_each_call_has_the_whole_time_for_itself():
    """A time-out counts from the call, not from the batch or from the last alarm."""
    seen: list[tuple[float, float]] = []

    async def handler(event: Any) -> None:
        began_s = now_s()
        try:
            await asyncio.sleep({1.0: 0.6, 2.0: 0.6, 3.0: 100, 4.0: 0.9, 5.0: 100}[event.price])
        finally:
            seen.append((event.price, round(now_s() - began_s, 6)))

    async with EventBus() as bus:
        bus.subscribe("*", handler, timeout_s=1, retry=NO_RETRY)
        await bus.publish_many(ticks(5))
        await bus.join()
        assert seen == [(1.0, 0.6), (2.0, 0.6), (3.0, 1.0), (4.0, 0.9), (5.0, 1.0)]
        assert [letter.event.price for letter in bus.dead_letters()] == [3.0, 5.0]


@virtual
async def test_a_time_out_of_the_handlers_own_is_a_failure_like_any_other():
    async def handler(_event: Any) -> None:
        async with asyncio.timeout(1):
            await asyncio.sleep(100)

    async with EventBus() as bus:
        bus.subscribe("*", handler, name="desk", timeout_s=50, retry=NO_RETRY)
        await bus.publish(a_tick())
        await bus.join()
        assert bus.dead_letters()[0].reason == "failed"
        assert bus.get_handler_stats()["handlers"][0]["timeouts"] == 0


@virtual
async def test_the_others_do_not_notice_a_time_out():
    """CONTRACT 8."""
    gate, desk = Gate(), Desk()
    async with EventBus() as bus:
        bus.subscribe("*", gate.on_event, timeout_s=5)
        bus.subscribe("*", desk.on_event)
        await bus.publish_many(ticks(5))
        await asyncio.sleep(0.001)
        assert len(desk.handled) == 5
        await bus.stop(timeout_s=1)


@virtual
async def test_a_call_that_does_not_end_when_cancelled_is_abandoned_and_the_next_begins():
    """CONTRACT 8, 10: and its late end settles nothing twice."""
    ended: list[float] = []
    seen: list[float] = []

    async def stubborn(event: Any) -> None:
        seen.append(event.price)
        if event.price == 1.0:
            for _ in range(10):
                try:
                    await asyncio.sleep(10)
                except asyncio.CancelledError:
                    continue
            ended.append(now_s())

    async with EventBus() as bus:
        bus.subscribe("*", stubborn, name="stubborn", timeout_s=2, retry=NO_RETRY)
        await bus.publish_many(ticks(3))
        await asyncio.sleep(5)
        assert seen == [1.0, 2.0, 3.0]
        assert bus.get_handler_stats()["handlers"][0]["abandoned"] == 1
        assert [letter.reason for letter in bus.dead_letters()] == ["timed out"]
        assert_settled(bus)
        await asyncio.sleep(200)
        assert ended
        assert bus.get_handler_stats()["handlers"][0]["abandoned"] == 0
        found = row(bus, "stubborn")
        assert (found.handled, found.dead_lettered) == (2, 1)
        assert_settled(bus)


@virtual
async def test_a_handler_that_keeps_leaving_calls_behind_is_paused():
    """CONTRACT 10, 25."""

    async def stubborn(_event: Any) -> None:
        for _ in range(2):
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(1_000)

    async with EventBus() as bus:
        bus.subscribe("*", stubborn, name="stubborn", timeout_s=1, retry=NO_RETRY)
        await bus.publish_many(ticks(50))
        await asyncio.sleep(100)
        stats = bus.get_handler_stats()["handlers"][0]
        assert stats["abandoned"] == 8
        assert stats["state"] in ("paused", "stalled")
        assert row(bus, "stubborn").waiting == 42
        assert_balanced(bus)
        await bus.stop(timeout_s=1)


@pytest.mark.parametrize("after", ["raises", "cancelled"])
@virtual
async def test_what_a_cancelled_call_does_last_is_still_a_failure(after):
    """CONTRACT 10."""

    async def handler(_event: Any) -> None:
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            await asyncio.sleep(0.5)
            if after == "raises":
                raise ValueError("while cleaning up") from None
            raise

    async with EventBus() as bus:
        bus.subscribe("*", handler, name="desk", timeout_s=1, retry=NO_RETRY)
        await bus.publish_many(ticks(3))
        await bus.join()
        assert len(bus.dead_letters()) == 3
        assert now_s() == 4.5
        assert_settled(bus)


@virtual
async def test_concurrent_calls_time_out_one_by_one():
    gate = Gate()
    async with EventBus() as bus:
        bus.subscribe("*", gate.on_event, name="stuck", timeout_s=1, concurrency=5, retry=NO_RETRY)
        await bus.publish_many(ticks(10))
        await bus.join()
        assert now_s() == 2
        assert len(bus.dead_letters()) == 10
        assert_settled(bus)


@virtual
async def test_time_outs_go_by_the_clock_of_the_bus():
    """CONTRACT 28: an hour of them passes in no time."""
    gate = Gate()
    async with EventBus() as bus:
        bus.subscribe("*", gate.on_event, timeout_s=3600, retry=NO_RETRY)
        await bus.publish(a_tick())
        await bus.join()
        assert now_s() == 3600


class Outliving:
    """A handler whose first call goes on for 40 s, whatever cancels it, and then publishes."""

    def __init__(self, bus: EventBus) -> None:
        self.bus = bus
        self.calls_count = 0
        self.made: list[Event] = []

    async def on_event(self, _event: Any) -> None:
        self.calls_count += 1
        if self.calls_count > 1:
            await asyncio.sleep(20)
            return
        end_s = now_s() + 40
        while now_s() < end_s:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(end_s - now_s())
        self.made.append(Event(event_type="late"))
        await self.bus.publish(self.made[0])


@pytest.mark.parametrize("in_order", [False, True])
@pytest.mark.parametrize("timeout_s", [2, None])
@virtual
async def test_what_an_abandoned_call_publishes_after_a_stop_and_a_start_has_its_cause(timeout_s, in_order):
    """CONTRACT 12: also where its event has been taken again, and given back at the stop."""
    bus = EventBus()
    handler, tick = Outliving(bus), a_tick()
    bus.subscribe(
        tick.event_type, handler.on_event, timeout_s=timeout_s, retry=RetryPolicy(in_order=in_order)
    )
    await bus.start()
    await bus.publish(tick)
    await asyncio.sleep(3.5)
    assert handler.calls_count == (1 if timeout_s is None else 2)
    await bus.stop(timeout_s=0.5)
    await bus.start()
    await asyncio.sleep(60)
    assert [event.causation_id for event in handler.made] == [tick.event_id]
    await bus.stop()
