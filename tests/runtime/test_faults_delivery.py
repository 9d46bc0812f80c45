"""The ways in which a bus like this really fails to deliver: each was seen elsewhere, and must not happen here."""

import asyncio
import logging
from typing import Any

import pytest
from bus_helpers import (
    Desk,
    Failing,
    Gate,
    a_fill,
    a_kill,
    a_tick,
    an_order,
    assert_settled,
    now_s,
    row,
    ticks,
    virtual,
)

from openoutcry import BackpressureConfig, BusClosed, EventBus, EventType, NotAuthorised, RetryPolicy


@virtual
async def test_a_kill_switch_is_not_the_last_of_four_hundred_and_one():
    """Elsewhere: one FIFO, where it arrived 401st of 401."""
    desk = Desk()
    async with EventBus() as bus:
        bus.subscribe("*", desk.on_event)
        await bus.publish_many(ticks(400))
        await bus.publish(a_kill())
        await bus.join()
        assert desk.types[0] == "kill_switch"


@virtual
async def test_a_kill_switch_does_not_wait_for_four_thousand_market_events():
    """Elsewhere: it was handled after all of them."""
    seen_at: list[int] = []
    count = 0
    async with EventBus() as bus:

        def handler(event: Any) -> None:
            nonlocal count
            count += 1
            if event.event_type == "kill_switch":
                seen_at.append(count)

        bus.subscribe("*", handler)
        assert all(bus.publish_nowait(tick) for tick in ticks(4_000))
        assert bus.publish_nowait(a_kill())
        await bus.join()
        assert seen_at == [1]


@virtual
async def test_a_kill_switch_is_not_dropped_on_a_full_queue():
    """Elsewhere: on a full queue it was dropped."""
    desk = Desk()
    config = BackpressureConfig(grace_s=1e6)
    async with EventBus(max_queue_size=50, backpressure_config=config) as bus:
        bus.subscribe("*", Gate().on_event, timeout_s=10, retry=False)
        bus.subscribe("kill_switch", desk.on_event)
        while bus.publish_nowait(a_fill()):
            pass
        assert not bus.publish_nowait(an_order())
        assert bus.publish_nowait(a_kill())
        await asyncio.sleep(0.001)
        assert len(desk.handled) == 1
        await bus.stop(timeout_s=0.1)


@virtual
async def test_a_kill_switch_does_not_wait_behind_four_slow_handlers():
    """Elsewhere: it waited 2 s behind four handlers of 0.5 s each."""
    slow = [Desk(takes_s=0.5) for _ in range(4)]
    at_s: list[float] = []
    async with EventBus() as bus:
        for desk in slow:
            bus.subscribe("*", desk.on_event)
        bus.subscribe("kill_switch", lambda _event: at_s.append(now_s()))
        await bus.publish(a_tick())
        await asyncio.sleep(0.1)
        await bus.publish(a_kill())
        await asyncio.sleep(0.001)
        assert at_s == [0.1]
        assert [desk.at_s for desk in slow] == [[0, 0.1]] * 4
        await bus.join()


@virtual
async def test_an_unrelated_fill_does_not_wait_for_a_slow_strategy():
    """Elsewhere: it did."""
    strategy, broker = Desk(takes_s=10), Desk()
    async with EventBus() as bus:
        bus.subscribe("market_data", strategy.on_event)
        bus.subscribe("fill", broker.on_event)
        await bus.publish_many(ticks(10))
        await asyncio.sleep(1)
        await bus.publish(a_fill())
        await asyncio.sleep(0.001)
        assert broker.at_s == [1]
        await bus.stop(timeout_s=0.1)


@virtual
async def test_a_hung_handler_stops_nobody_else_and_is_named(caplog):
    """Elsewhere: one hung handler stopped everything, and nothing was reported."""
    caplog.set_level(logging.WARNING, "openoutcry")
    hung, desk = Gate(), Desk()
    async with EventBus() as bus:
        bus.subscribe("*", hung.on_event, name="hung")
        bus.subscribe("*", desk.on_event, name="desk")
        for number in range(100):
            assert await bus.publish(a_tick(number + 1.0))
            await asyncio.sleep(0.1)
        assert len(desk.handled) == 100
        assert bus.metrics.stalled == ("hung",)
        assert any("hung has not moved" in r.getMessage() for r in caplog.records)
        (stats,) = (h for h in bus.get_handler_stats()["handlers"] if h["name"] == "hung")
        assert stats["state"] == "stalled"
        hung.open()
        await bus.join()
        assert_settled(bus)


@virtual
async def test_fifty_failures_of_fifty_are_fifty_errors_and_none_of_them_is_handled():
    """Elsewhere: no errors were counted."""
    failing = Failing()
    async with EventBus() as bus:
        bus.subscribe("*", failing.on_event, name="failing", retry=False)
        await bus.publish_many(ticks(50))
        await bus.join()
        (stats,) = bus.get_handler_stats()["handlers"]
        assert (stats["errors"], stats["dead_letters"], stats["handled"]) == (50, 50, 0)
        assert bus.get_status()["dead_letters"] == 50


@virtual
async def test_an_order_published_three_times_quickly_runs_once():
    """Elsewhere: an event was marked as seen only after success, and the order ran three times."""
    desk = Desk(takes_s=1)
    async with EventBus() as bus:
        bus.subscribe(EventType.ORDER, desk.on_event)
        order = an_order()
        assert await asyncio.gather(*(bus.publish(order) for _ in range(3))) == [True] * 3
        await bus.join()
        assert desk.handled == [order]


@pytest.mark.parametrize("how", ["raised", "its own task cancelled", "a child's cancellation"])
@virtual
async def test_a_handler_that_ends_in_a_cancellation_has_not_processed_its_event(how):
    """Elsewhere: it counted as processed."""

    async def handler(_event: Any) -> None:
        if how == "raised":
            raise asyncio.CancelledError
        task = asyncio.current_task() if "own" in how else asyncio.create_task(asyncio.sleep(10))
        assert task is not None
        task.cancel()
        await (asyncio.sleep(1) if "own" in how else task)

    async with EventBus() as bus:
        bus.subscribe("*", handler, name="desk", retry=RetryPolicy(attempts=2, first_s=0.1))
        await bus.publish(a_tick())
        await bus.join()
        found = row(bus, "desk")
        assert (found.handled, found.dead_lettered) == (0, 1)
        assert bus.dead_letters()[0].attempts == 2
        assert_settled(bus)


@virtual
async def test_a_kill_switch_handler_that_was_idle_for_eleven_minutes_is_still_there():
    """Elsewhere: "dead handler" clean-up removed it."""
    desk = Desk()
    async with EventBus() as bus:
        bus.subscribe("kill_switch", desk.on_event)
        await bus.publish(a_kill())
        await asyncio.sleep(11 * 60)
        assert bus.cleanup_dead_handlers() == 0
        await bus.publish(a_kill())
        await bus.join()
        assert len(desk.handled) == 2


@virtual
async def test_a_retry_does_not_run_again_the_handlers_that_had_succeeded_and_keeps_its_count():
    """Elsewhere: a redrive ran them all, lost its count, and doubled: 2, 4, 8, ... 64 entries."""
    failing, good = Failing(), [Desk() for _ in range(3)]
    async with EventBus() as bus:
        bus.subscribe("*", failing.on_event, name="failing", retry=RetryPolicy(attempts=6, first_s=0.1))
        for desk in good:
            bus.subscribe("*", desk.on_event)
        event = a_tick()
        await bus.publish(event)
        await bus.join()
        assert [desk.handled for desk in good] == [[event]] * 3
        assert failing.tries[event.event_id] == 6
        (letter,) = bus.dead_letters()
        assert letter.attempts == 6
        assert_settled(bus)


@virtual
async def test_publishing_after_the_stop_does_not_return_true():
    """Elsewhere: it did."""
    bus = EventBus()
    await bus.start()
    await bus.stop()
    with pytest.raises(BusClosed):
        await bus.publish(a_tick())
    with pytest.raises(BusClosed):
        await bus.publish(a_fill(), True)


@virtual
async def test_what_a_stop_could_not_drain_is_not_marked_as_done():
    """Elsewhere: events drained at shutdown into no handlers were marked complete."""
    gate = Gate()
    bus = EventBus()
    bus.subscribe("*", gate.on_event, name="gate")
    await bus.start()
    events = ticks(5)
    await bus.publish_many(events)
    await bus.stop(timeout_s=1)
    found = row(bus, "gate")
    assert (found.handled, found.waiting) == (0, 5)
    gate.open()
    await bus.start()
    await bus.join()
    assert gate.handled == events
    await bus.stop()


@virtual
async def test_not_any_agent_may_take_the_kill_switch_back():
    """Elsewhere: any agent could publish its deactivation."""
    async with EventBus(kill_switch_releasers={"risk-officer"}) as bus:
        with pytest.raises(NotAuthorised):
            await bus.publish(a_kill(activated=False, source_agent="momentum"))
        with pytest.warns(DeprecationWarning, match="take bus.releaser"):
            assert await bus.publish(a_kill(activated=False, source_agent="risk-officer"))
