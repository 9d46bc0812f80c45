"""Start and stop (CONTRACT 27): queueing before, draining, leftovers, restarts, and loops that end without a stop."""

import asyncio
from typing import Any

import pytest
from bus_helpers import (
    Desk,
    Failing,
    Gate,
    a_decision,
    a_fill,
    a_kill,
    a_signal,
    a_tick,
    an_order,
    assert_balanced,
    assert_exactly,
    assert_settled,
    now_s,
    outcome_of,
    row,
    ticks,
    virtual,
)

from openoutcry import BusClosed, ConfigError, EventBus, EventType, RetryPolicy, WrongThread
from openoutcry.testing import run_virtual


def a_bus_with(handler: Any, **options: Any) -> EventBus:
    bus = EventBus()
    bus.subscribe("*", handler, name="desk", **options)
    return bus


# -- starting ------------------------------------------------------------------------------------------------


@virtual
async def test_publishing_before_the_start_queues():
    """CONTRACT 27."""
    desk = Desk()
    bus = a_bus_with(desk.on_event)
    events = [*ticks(3), a_fill(), an_order()]
    assert [await bus.publish(event) for event in events] == [True] * 5
    assert not bus.is_running
    await asyncio.sleep(10)
    assert desk.handled == []
    await bus.start()
    assert bus.is_running
    await bus.join()
    assert_exactly(desk.handled, events)
    assert desk.types[0] == "fill"
    await bus.stop()


@virtual
async def test_start_returns_when_the_bus_runs_and_works_as_a_background_task():
    desk = Desk()
    bus = a_bus_with(desk.on_event)
    task = asyncio.create_task(bus.start())
    await bus.publish(a_tick())
    await bus.join()
    assert task.done()
    assert len(desk.handled) == 1
    await bus.stop()


@virtual
async def test_starting_twice_is_harmless():
    desk = Desk()
    bus = a_bus_with(desk.on_event)
    await bus.start()
    await bus.start()
    await bus.publish(a_tick())
    await bus.join()
    assert len(desk.handled) == 1
    names = [task.get_name() for task in asyncio.all_tasks()]
    assert names.count("openoutcry:desk") == 2, "one worker, and one for kill switches"
    await bus.stop()


@virtual
async def test_joining_before_the_start_waits_for_it():
    desk = Desk()
    bus = a_bus_with(desk.on_event)
    await bus.publish(a_tick())
    joining = asyncio.create_task(bus.join())
    await asyncio.sleep(10)
    assert not joining.done()
    await bus.start()
    await joining
    assert len(desk.handled) == 1
    await bus.stop()


@virtual
async def test_a_bus_with_no_subscription_starts_joins_and_stops():
    bus = EventBus()
    await bus.publish(a_tick())
    joining = asyncio.create_task(bus.join())
    await asyncio.sleep(1)
    await bus.start()
    await joining
    await bus.publish(a_tick())
    await bus.join()
    await bus.stop()
    assert now_s() == 1


# -- stopping ------------------------------------------------------------------------------------------------


@virtual
async def test_stopping_drains_what_was_accepted():
    """CONTRACT 27, 7."""
    desk = Desk(takes_s=0.1)
    bus = a_bus_with(desk.on_event)
    await bus.start()
    events = ticks(20)
    await bus.publish_many(events)
    await bus.stop()
    assert desk.handled == events
    assert not bus.is_running
    assert_settled(bus)


@virtual
async def test_leaving_the_block_stops_and_drains():
    desk = Desk(takes_s=0.1)
    bus = a_bus_with(desk.on_event)

    async def failing_block() -> None:
        async with bus:
            await bus.publish_many(ticks(5))
            raise KeyError

    with pytest.raises(KeyError):
        await failing_block()
    assert len(desk.handled) == 5
    assert not bus.is_running


@virtual
async def test_nothing_is_admitted_from_outside_while_draining():
    """CONTRACT 27: a typed error."""
    desk = Desk(takes_s=1)
    bus = a_bus_with(desk.on_event)
    await bus.start()
    await bus.publish_many(ticks(3))
    stopping = asyncio.create_task(bus.stop())
    await asyncio.sleep(0.5)
    for attempt in (bus.publish(a_tick()), bus.publish(a_fill()), bus.publish_many(ticks(2))):
        assert isinstance(await outcome_of(attempt), BusClosed)
    with pytest.raises(BusClosed, match="stopping"):
        bus.publish_nowait(a_tick())
    assert isinstance(await outcome_of(asyncio.wrap_future(bus.publish_threadsafe(a_tick()))), BusClosed)
    assert isinstance(await outcome_of(bus.publish_signal(a_signal("a"))), BusClosed)
    await stopping
    assert len(desk.handled) == 3


@virtual
async def test_publishers_that_wait_for_room_are_told_at_once_that_the_bus_stops():
    """CONTRACT 27."""
    gate = Gate()
    bus = EventBus(max_queue_size=10)
    bus.subscribe("*", gate.on_event)
    await bus.start()
    await bus.publish(a_fill())
    await asyncio.sleep(0.1)  # that one is in the handler, and has left its place
    while bus.publish_nowait(a_fill()):
        pass
    waiting = [asyncio.create_task(outcome_of(bus.publish(a_fill()))) for _ in range(3)]
    await asyncio.sleep(0.1)
    stopping = asyncio.create_task(bus.stop(timeout_s=5))
    answers = await asyncio.gather(*waiting)
    assert [type(answer) for answer in answers] == [BusClosed] * 3
    assert now_s() == pytest.approx(0.2)
    assert not stopping.done()
    gate.open()
    await stopping


@virtual
async def test_a_handler_that_waits_for_a_round_does_not_hold_up_the_stop():
    """CONTRACT 27: rounds are closed before the lanes drain."""
    outcomes: list[Any] = []
    bus = EventBus()

    async def handler(_event: Any) -> None:
        outcomes.append(await bus.wait_for_signals())

    bus.subscribe("*", handler)
    bus.register_signal_agent("a")
    await bus.start()
    await bus.publish(a_tick())
    await asyncio.sleep(1)
    await bus.stop()
    assert now_s() == 1
    assert [outcome.valid for outcome in outcomes] == [False]
    assert_settled(bus)


@virtual
async def test_running_handlers_may_publish_while_draining():
    """CONTRACT 27: a chain is not cut in half."""
    ends = Desk()
    bus = EventBus()

    async def on_tick(_event: Any) -> None:
        await asyncio.sleep(1)
        await bus.publish(a_decision())

    async def on_decision(_event: Any) -> None:
        await asyncio.sleep(1)
        task = asyncio.create_task(bus.publish(an_order()))
        await task

    async def on_order(_event: Any) -> None:
        assert bus.publish_nowait(a_fill())

    bus.subscribe(EventType.MARKET_DATA, on_tick)
    bus.subscribe(EventType.DECISION, on_decision)
    bus.subscribe(EventType.ORDER, on_order)
    bus.subscribe(EventType.FILL, ends.on_event)
    await bus.start()
    await bus.publish(a_tick())
    await bus.stop()
    assert len(ends.handled) == 1
    assert_settled(bus)


@virtual
async def test_what_has_not_drained_by_the_deadline_is_redelivered_next_time_in_order():
    """CONTRACT 27: what was in flight too."""
    desk = Desk(takes_s=1)
    bus = a_bus_with(desk.on_event)
    await bus.start()
    events = ticks(10)
    await bus.publish_many(events)
    await bus.stop(timeout_s=3.5)
    assert now_s() == 3.5
    assert desk.prices == [1.0, 2.0, 3.0]
    found = row(bus, "desk")
    assert (found.waiting, found.in_flight, found.handled) == (7, 0, 3)
    assert_balanced(bus)
    await bus.start()
    await bus.publish(a_tick(99.0))
    await bus.join()
    assert desk.handled[:10] == events
    assert desk.prices[-1] == 99.0
    assert bus.dead_letters() == []
    assert_settled(bus)
    await bus.stop()


@virtual
async def test_a_retry_that_waits_is_kept_over_a_restart():
    """CONTRACT 27."""
    failing = Failing(times=1)
    bus = a_bus_with(failing.on_event, retry=RetryPolicy(attempts=2, first_s=100.0, max_s=100.0))
    await bus.start()
    await bus.publish_many(ticks(2))
    await bus.stop(timeout_s=1)
    assert failing.handled == []
    await bus.start()
    await bus.join()
    assert sorted(failing.prices) == [1.0, 2.0]
    assert_settled(bus)
    await bus.stop()


@virtual
async def test_stopping_twice_or_before_the_start_is_harmless():
    """CONTRACT 27."""
    desk = Desk()
    bus = a_bus_with(desk.on_event)
    await bus.publish(a_tick())
    await bus.stop()
    await bus.stop()
    assert isinstance(await outcome_of(bus.publish(a_tick())), BusClosed)
    await bus.start()
    await bus.join()
    assert len(desk.handled) == 1, "what was accepted before is not lost"
    await asyncio.gather(bus.stop(), bus.stop())
    await bus.stop()
    assert not bus.is_running


@virtual
async def test_stopping_before_the_start_answers_feed_threads_and_waiters():
    """CONTRACT 27."""
    bus = EventBus()
    bus.register_signal_agent("a")
    waiting = asyncio.create_task(bus.wait_for_signals())
    await asyncio.sleep(0)
    future = bus.publish_threadsafe(a_tick())
    await bus.stop()
    assert isinstance(future.exception(timeout=0), BusClosed)
    assert not (await waiting).valid
    assert now_s() == 0


@virtual
async def test_a_handler_may_stop_the_bus():
    """CONTRACT 27: it returns at once there, and the stop goes on."""
    desk = Desk()
    bus = EventBus()

    async def handler(event: Any) -> None:
        await bus.stop()
        await asyncio.sleep(1)
        await desk.on_event(event)

    bus.subscribe("*", handler)
    await bus.start()
    await bus.publish_many(ticks(3))
    await asyncio.sleep(0.5)
    assert bus.get_status()["state"] == "stopping"
    await bus.stop()
    assert len(desk.handled) == 3
    assert bus.get_status()["state"] == "stopped"
    assert_settled(bus)


@virtual
async def test_a_cancelled_stop_goes_on_in_the_background():
    gate = Gate()
    bus = a_bus_with(gate.on_event)
    await bus.start()
    await bus.publish(a_tick())
    stopping = asyncio.create_task(bus.stop(timeout_s=100))
    await asyncio.sleep(1)
    stopping.cancel()
    assert isinstance((await asyncio.gather(stopping, return_exceptions=True))[0], asyncio.CancelledError)
    assert bus.is_running
    gate.open()
    await bus.stop()
    assert len(gate.handled) == 1
    assert not bus.is_running


@virtual
async def test_a_stuck_handler_is_cancelled_at_the_deadline_and_its_event_kept():
    """CONTRACT 27."""
    gate = Gate()
    bus = a_bus_with(gate.on_event)
    await bus.start()
    await bus.publish(a_tick())
    await bus.stop(timeout_s=5)
    assert now_s() == 5
    found = row(bus, "desk")
    assert (found.waiting, found.in_flight) == (1, 0)
    gate.open()
    await bus.start()
    await bus.join()
    assert len(gate.handled) == 1
    assert bus.get_handler_stats()["handlers"][0]["errors"] == 0, "the bus asked for that cancellation"
    await bus.stop()


class Stubborn(Desk):
    """A handler whose first call swallows its cancellation and goes on for ten seconds."""

    async def on_event(self, event: Any) -> None:
        self.begun.append(event)
        if len(self.begun) == 1:
            try:
                await asyncio.sleep(1_000)
            except asyncio.CancelledError:
                await asyncio.sleep(10)
        self.handled.append(event)


@virtual
async def test_a_handler_that_swallows_its_cancellation_does_not_hold_up_the_stop_and_its_event_is_kept():
    """CONTRACT 27, 7."""
    desk = Stubborn()
    bus = a_bus_with(desk.on_event)
    await bus.start()
    events = ticks(3)
    await bus.publish_many(events)
    await bus.stop(timeout_s=5)
    assert 5 < now_s() <= 5.5
    assert row(bus, "desk").waiting == 3
    await bus.start()
    await bus.join()
    assert desk.handled == events
    await asyncio.sleep(100)
    assert desk.handled == [*events, events[0]], "at least once: its late end settles nothing twice"
    await bus.publish(a_tick())
    async with asyncio.timeout(10):
        await bus.join()
    assert_settled(bus)
    await bus.stop()


def test_what_a_stubborn_call_held_is_handled_on_the_next_loop():
    """CONTRACT 27."""
    desk = Stubborn()
    bus = a_bus_with(desk.on_event)
    events = ticks(3)

    async def first() -> None:
        await bus.start()
        await bus.publish_many(events)
        await bus.stop(timeout_s=5)

    async def second() -> None:
        await bus.start()
        async with asyncio.timeout(10):
            await bus.join()
        assert desk.handled[-3:] == events
        assert_settled(bus)
        await bus.stop()

    run_virtual(first())
    run_virtual(second())


@virtual
async def test_a_stop_begins_no_further_call():
    """CONTRACT 27: also when a handler swallows its cancellation in the middle of a batch."""
    calls: list[float] = []

    async def handler(event: Any) -> None:
        calls.append(event.price)
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            return

    bus = a_bus_with(handler)
    await bus.start()
    await bus.publish_many(ticks(10))
    await bus.stop(timeout_s=1)
    await asyncio.sleep(1_000)
    assert calls == [1.0]
    assert row(bus, "desk").waiting == 9
    assert_balanced(bus)


@virtual
async def test_a_stop_ends_the_calls_of_ended_subscriptions_too():
    ended: list[str] = []

    async def handler(_event: Any) -> None:
        try:
            await asyncio.sleep(100)
        finally:
            ended.append("ended")

    bus = a_bus_with(handler)
    await bus.start()
    await bus.publish_many(ticks(2))
    await asyncio.sleep(1)
    bus.unsubscribe("*", handler)
    await bus.stop(timeout_s=5)
    assert ended == ["ended"]
    assert row(bus, "desk").withdrawn == 2
    assert_settled(bus)


@virtual
async def test_no_task_is_left_after_a_stop():
    bus = EventBus()
    for number in range(5):
        bus.subscribe("*", Desk().on_event, concurrency=number + 1)
    before, factory = asyncio.all_tasks(), asyncio.get_running_loop().get_task_factory()
    await bus.start()
    await bus.publish_many([a_tick(), a_fill(), a_kill()])
    await bus.stop()
    assert asyncio.all_tasks() == before
    assert asyncio.get_running_loop().get_task_factory() is factory, "the loop is left as it was found"


@virtual
async def test_joining_a_stopped_bus_with_leftovers_says_so_instead_of_waiting():
    gate = Gate()
    bus = a_bus_with(gate.on_event)
    await bus.start()
    await bus.publish(a_tick())
    joining = asyncio.create_task(bus.join())
    await bus.stop(timeout_s=1)
    assert isinstance(await outcome_of(joining), BusClosed)
    with pytest.raises(BusClosed):
        await bus.join()


@virtual
async def test_joins_that_were_given_up_leave_nothing_behind():
    """CONTRACT 3."""
    gate = Gate()
    async with EventBus() as bus:
        bus.subscribe("*", gate.on_event)
        await bus.publish(a_tick())
        for _ in range(50):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1):
                    await bus.join()
        assert bus._bus._joiners == []
        gate.open()
        await bus.join()


@virtual
async def test_rounds_are_closed_by_a_stop_and_open_again_after_the_next_start():
    """CONTRACT 27."""
    bus = EventBus()
    bus.register_signal_agent("a")
    await bus.start()
    waiting = asyncio.create_task(bus.wait_for_signals())
    await asyncio.sleep(1)
    await bus.stop()
    outcome = await waiting
    assert (outcome.valid, outcome.status) == (False, "expired")
    with pytest.raises(BusClosed):
        bus.open_round()
    await bus.start()
    opened = bus.open_round()
    await bus.publish_signal(a_signal("a"))
    assert (await bus.wait_for_signals(opened.round_id)).valid
    await bus.stop()


# -- other loops ---------------------------------------------------------------------------------------------


def test_a_bus_starts_on_another_loop_after_a_stop():
    desk = Desk()
    bus = a_bus_with(desk.on_event)

    async def once(price: float) -> None:
        async with bus:
            await bus.publish(a_tick(price))
            await bus.join()

    for number in range(1, 4):
        run_virtual(once(float(number)))
    assert desk.prices == [1.0, 2.0, 3.0]
    assert_settled(bus)


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "in a call"])
def test_a_loop_that_was_closed_without_a_stop_loses_nothing(busy):
    """CONTRACT 7, 27."""
    desk = Desk(takes_s=1)
    bus = a_bus_with(desk.on_event)
    events = ticks(6)

    async def first() -> None:
        await bus.start()
        await bus.publish_many(events[:3])
        await asyncio.sleep(1.5 if busy else 10)
        await bus.publish(events[3])

    async def second() -> None:
        await bus.start()
        await bus.publish_many(events[4:])
        async with asyncio.timeout(100):
            await bus.join()
        assert_exactly(desk.handled, events)
        assert desk.handled == events
        assert_settled(bus)
        await bus.stop()

    run_virtual(first())
    run_virtual(second())
    assert_balanced(bus)


def test_a_running_bus_cannot_be_started_on_another_loop():
    """CONTRACT 30."""
    bus = EventBus()
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(bus.start())

        async def elsewhere() -> None:
            with pytest.raises(WrongThread, match="another event loop"):
                await bus.start()
            with pytest.raises(WrongThread):
                await bus.stop()

        run_virtual(elsewhere())
        loop.run_until_complete(bus.stop())
    finally:
        loop.close()


@virtual
async def test_two_buses_on_one_loop_leave_each_other_and_the_loop_alone():
    one, two = Desk(), Desk()
    first, second = a_bus_with(one.on_event), a_bus_with(two.on_event)
    factory = asyncio.get_running_loop().get_task_factory()
    await first.start()
    await second.start()
    await first.publish(a_tick(1.0))
    await second.publish(a_tick(2.0))
    await first.stop()
    await second.publish(a_tick(3.0))
    await second.stop()
    assert (one.prices, two.prices) == ([1.0], [2.0, 3.0])
    assert asyncio.get_running_loop().get_task_factory() is factory


@virtual
async def test_a_handler_of_one_bus_that_stops_another_waits_for_it():
    desk = Desk(takes_s=5)
    inner = a_bus_with(desk.on_event)
    stopped_s: list[float] = []
    await inner.start()
    await inner.publish(a_tick())
    async with EventBus() as outer:

        async def handler(_event: Any) -> None:
            await inner.stop()
            stopped_s.append(now_s())

        outer.subscribe("*", handler)
        await outer.publish(a_tick())
        await outer.join()
    assert stopped_s == [5]
    assert len(desk.handled) == 1


@virtual
async def test_starting_while_stopping_waits_for_the_stop_and_then_starts():
    """CONTRACT 27."""
    desk = Desk(takes_s=5)
    bus = a_bus_with(desk.on_event)
    await bus.start()
    await bus.publish(a_tick())
    stopping = asyncio.create_task(bus.stop())
    await asyncio.sleep(1)
    await bus.start()
    assert stopping.done()
    assert now_s() == 5
    assert bus.is_running
    assert await bus.publish(a_tick())
    await bus.stop()
    assert len(desk.handled) == 2


@virtual
async def test_several_starts_while_stopping_start_it_once_and_a_cancelled_one_stops_nothing():
    """CONTRACT 27."""
    desk = Desk(takes_s=5)
    bus = a_bus_with(desk.on_event)
    await bus.start()
    await bus.publish(a_tick())
    stopping = asyncio.create_task(bus.stop())
    await asyncio.sleep(1)
    starts = [asyncio.create_task(bus.start()) for _ in range(3)]
    await asyncio.sleep(1)
    starts[0].cancel()
    await asyncio.gather(*starts, return_exceptions=True)
    assert starts[0].cancelled()
    assert stopping.done()
    assert bus.is_running
    await bus.publish(a_tick())
    await bus.join()
    assert len(desk.handled) == 2
    await bus.stop()
    assert asyncio.all_tasks() == {asyncio.current_task()}


@virtual
async def test_a_handler_cannot_start_the_bus_that_waits_for_it_to_stop():
    answers: list[Any] = []
    bus = EventBus()

    async def handler(_event: Any) -> None:
        await bus.start()
        await bus.stop()
        answers.append(await outcome_of(bus.start()))

    bus.subscribe("*", handler)
    await bus.start()
    await bus.publish(a_tick())
    await asyncio.sleep(1)
    await bus.stop()
    assert isinstance(answers[0], BusClosed)
    assert now_s() == 1


@pytest.mark.parametrize("timeout_s", ["5", -1, float("nan"), None, True])
@virtual
async def test_a_stop_with_a_bad_time_out_is_refused_and_changes_nothing(timeout_s):
    async with EventBus() as bus:
        with pytest.raises(ConfigError, match="timeout_s"):
            await bus.stop(timeout_s)
        assert await bus.publish(a_tick())
        assert bus.is_running


@virtual
async def test_a_restart_right_after_a_cancelled_call_leaves_nobody_waiting():
    """CONTRACT 27."""
    async with EventBus() as bus:
        gate = Gate()
        bus.subscribe("*", gate.on_event, name="gate", retry=False)
        await bus.publish(a_tick())
        await asyncio.sleep(0.01)
        for task in asyncio.all_tasks():
            if task.get_name() == "openoutcry:gate":
                task.cancel()
        await asyncio.sleep(0)
        await bus.stop(0)
        await bus.start()
        gate.open()
        await asyncio.sleep(1)
        async with asyncio.timeout(60):
            await bus.join()
        assert bus._bus.busy == 0
