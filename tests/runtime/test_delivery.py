"""Delivery (CONTRACT 7, 8, 10): a mailbox and a runner each, settling, and whatever a handler may do."""

import asyncio
from typing import Any

import pytest
from bus_helpers import (
    Desk,
    Failing,
    Gate,
    a_fill,
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

from openoutcry import (
    NO_RETRY,
    Conflate,
    DropOldest,
    Event,
    EventBus,
    EventType,
    OpenOutcryError,
    RetryPolicy,
)
from openoutcry.testing import run_virtual

OFTEN = RetryPolicy(attempts=3, first_s=1.0, factor=2.0, jitter=0.0)


# -- one at a time, each for itself --------------------------------------------------------------------------


@virtual
async def test_one_event_at_a_time_unless_more_are_asked_for():
    """CONTRACT 8."""
    single, several = Desk(takes_s=1), Desk(takes_s=1)
    async with EventBus() as bus:
        bus.subscribe("*", single.on_event)
        bus.subscribe("*", several.on_event, concurrency=4)
        await bus.publish_many(ticks(8))
        await bus.join()
        assert (single.most_at_once, several.most_at_once) == (1, 4)
        assert max(several.at_s) == 1
        assert max(single.at_s) == 7
        assert_exactly(several.handled, single.handled)
        assert_settled(bus)


@pytest.mark.parametrize("bad", ["slow", "stuck", "raising", "retrying"])
@virtual
async def test_a_bad_handler_delays_no_other_subscription(bad):
    """CONTRACT 8."""
    good = [Desk() for _ in range(7)]
    culprit: Any = {
        "slow": Desk(takes_s=10),
        "stuck": Gate(),
        "raising": Failing(),
        "retrying": Failing(times=2),
    }[bad]
    async with EventBus() as bus:
        bus.subscribe("*", culprit.on_event, name="culprit", retry=NO_RETRY if bad == "raising" else OFTEN)
        for desk in good:
            bus.subscribe("*", desk.on_event)
        await bus.publish_many(ticks(20))
        await asyncio.sleep(0.001)
        assert [len(desk.handled) for desk in good] == [20] * 7
        assert_balanced(bus)
        await bus.publish(a_fill())
        await asyncio.sleep(0.001)
        assert [desk.types[-1] for desk in good] == ["fill"] * 7
        bus.unsubscribe("*", culprit.on_event)
        if bad == "stuck":
            culprit.open()


@virtual
async def test_what_waits_and_what_is_in_flight_show_in_the_ledger_at_any_moment():
    """CONTRACT 7."""
    desk = Desk(takes_s=1)
    async with EventBus() as bus:
        bus.subscribe("*", desk.on_event, name="desk")
        await bus.publish_many(ticks(10))
        for number in range(10):
            await asyncio.sleep(0.5)
            found = row(bus, "desk")
            assert (found.handled, found.in_flight, found.waiting) == (number, 1, 9 - number)
            assert found.accepted == 10
            assert found.balances
            await asyncio.sleep(0.5)
        await bus.join()
        assert_settled(bus)


# -- settling ------------------------------------------------------------------------------------------------


@virtual
async def test_a_handler_that_returns_has_settled_the_event_whatever_it_returns():
    """CONTRACT 10."""
    async with EventBus() as bus:
        for value in (None, False, 0, ValueError("returned"), object()):

            async def later(_event: Any, value: Any = value) -> Any:
                return value

            def now(_event: Any, value: Any = value) -> Any:
                return value

            bus.subscribe("*", later)
            bus.subscribe("*", now)
        await bus.publish(a_tick())
        await bus.join()
        assert bus.ledger().total("handled") == 10
        assert bus.dead_letters() == []
        assert_settled(bus)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("no"),
        OpenOutcryError("no"),
        asyncio.CancelledError(),
        TimeoutError(),
        SystemExit(3),
        StopAsyncIteration(),
        BaseExceptionGroup("many", [ValueError(), KeyError()]),
        AssertionError(),
    ],
    ids=repr,
)
@pytest.mark.parametrize("plain", [True, False], ids=["plain", "coroutine"])
@virtual
async def test_whatever_a_handler_lets_out_is_its_failure_and_others_do_not_notice(error, plain):
    """CONTRACT 10, 8: also a CancelledError that the bus did not ask for."""
    other = Desk()

    def raises(_event: Any) -> None:
        raise error

    async def raises_later(_event: Any) -> None:
        await asyncio.sleep(1)
        raise error

    async with EventBus() as bus:
        handler = raises if plain else raises_later
        bus.subscribe("*", handler, name="bad", retry=OFTEN)
        bus.subscribe("*", other.on_event)
        await bus.publish_many(ticks(2))
        await bus.join()
        found = row(bus, "bad")
        assert (found.dead_lettered, found.handled) == (2, 0)
        assert [letter.attempts for letter in bus.dead_letters("bad")] == [3, 3]
        assert repr(error) in bus.dead_letters("bad")[0].error
        assert len(other.handled) == 2
        assert_settled(bus)


def test_a_keyboard_interrupt_from_a_handler_ends_the_program_and_its_event_is_not_lost():
    """CONTRACT 10: it is not the handler's failure, so no attempt is counted."""
    bus = EventBus()
    calls: list[Any] = []

    async def handler(event: Any) -> None:
        calls.append(event)
        if len(calls) == 1:
            raise KeyboardInterrupt

    bus.subscribe("*", handler, name="desk", retry=False)
    events = ticks(3)

    async def interrupted() -> None:
        await bus.start()
        await bus.publish_many(events)
        await asyncio.sleep(10)

    with pytest.raises(KeyboardInterrupt):
        run_virtual(interrupted())

    async def again() -> None:
        await bus.start()
        await bus.join()
        assert calls == [events[0], *events]
        assert bus.dead_letters() == []
        assert_settled(bus)
        await bus.stop()

    run_virtual(again())


@virtual
async def test_a_handler_that_cancels_its_own_task_fails_and_the_subscription_goes_on():
    """CONTRACT 10."""
    seen: list[float] = []

    async def handler(event: Any) -> None:
        seen.append(event.price)
        if event.price == 2.0:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(1)

    async with EventBus() as bus:
        bus.subscribe("*", handler, name="desk", retry=OFTEN)
        await bus.publish_many(ticks(7, first=11))
        await bus.join()
        seen.clear()  # its calls are known to be quick, so that it gets many events at a time
        await bus.publish_many(ticks(4))
        await bus.join()
        # Three attempts are counted; the first one is not, since an earlier call of the batch might be to blame.
        assert seen == [1.0, 2.0, 2.0, 2.0, 2.0, 3.0, 4.0]
        found = row(bus, "desk")
        assert (found.handled, found.dead_lettered) == (7 + 3, 1)
        assert_settled(bus)


@virtual
async def test_a_worker_cancelled_by_somebody_else_is_replaced():
    """CONTRACT 8: nobody may end a subscription but who subscribed it."""
    desk = Desk()
    async with EventBus() as bus:
        bus.subscribe("*", desk.on_event, name="desk")
        await bus.publish(a_tick())
        await bus.join()
        for task in asyncio.all_tasks():
            if task.get_name() == "openoutcry:desk":
                task.cancel()
        await asyncio.sleep(1)
        await bus.publish(a_tick())
        await bus.join()
        assert len(desk.handled) == 2
        assert_settled(bus)


@pytest.mark.parametrize("moment_s", [0.0, 0.005])
@virtual
async def test_a_worker_cancelled_by_somebody_else_is_replaced_also_when_an_event_comes_in_between(moment_s):
    """CONTRACT 8: and who joins or stops afterwards does not wait for ever."""
    desk = Desk()
    async with EventBus() as bus:
        bus.subscribe("*", desk.on_event, name="desk")
        await bus.publish(a_tick())
        await bus.join()
        for task in asyncio.all_tasks():
            if task.get_name() == "openoutcry:desk":
                task.cancel()
        await asyncio.sleep(moment_s)
        await bus.publish(a_tick())
        async with asyncio.timeout(60):
            await bus.join()
        assert len(desk.handled) == 2
        assert_settled(bus)


@pytest.mark.parametrize(
    "options",
    [{}, {"timeout_s": 100}, {"max_age_s": 100}, {"concurrency": 2}],
    ids=lambda options: str(*options),
)
@pytest.mark.parametrize("end", ["returns", "raises"])
@virtual
async def test_a_handler_that_cancels_its_own_task_and_ends_its_call_harms_no_other_event(options, end):
    """CONTRACT 10."""
    handled: list[float] = []

    async def handler(event: Any) -> None:
        if event.price == 1.0:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            if end == "raises":
                raise ValueError
            return
        await asyncio.sleep(0)
        handled.append(event.price)

    async with EventBus() as bus:
        bus.subscribe("*", handler, name="desk", retry=False, **options)
        await bus.publish_many(ticks(3))
        await bus.join()
        assert handled == [2.0, 3.0]
        assert len(bus.dead_letters()) == (end == "raises")
        assert row(bus, "desk").handled == 2 + (end == "returns")
        assert_settled(bus)


@virtual
async def test_a_handler_may_cancel_and_await_tasks_of_its_own():
    async def handler(_event: Any) -> None:
        task = asyncio.create_task(asyncio.sleep(100))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await asyncio.sleep(100)
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(1))

    async with EventBus() as bus:
        bus.subscribe("*", handler, name="desk", timeout_s=60)
        await bus.publish_many(ticks(3))
        await bus.join()
        assert row(bus, "desk").handled == 3
        assert bus.dead_letters() == []


# -- publishing inside handlers ------------------------------------------------------------------------------


@virtual
async def test_a_chain_of_handlers_that_publish_settles_completely():
    """CONTRACT 6, 7."""
    ends = Desk()
    async with EventBus() as bus:

        async def on_tick(event: Any) -> None:
            await bus.publish(Event(event_type="signal-like", correlation_id=event.event_id))

        def on_signal(_event: Any) -> None:
            bus.publish_nowait(an_order())

        async def on_order(_event: Any) -> None:
            assert await bus.publish_many([a_fill("1"), a_fill("2")]) == 2

        bus.subscribe(EventType.MARKET_DATA, on_tick)
        bus.subscribe("signal-like", on_signal)
        bus.subscribe(EventType.ORDER, on_order)
        bus.subscribe(EventType.FILL, ends.on_event)
        await bus.publish_many(ticks(50))
        await bus.join()
        assert len(ends.handled) == 100
        assert_settled(bus)


@virtual
async def test_a_handler_that_publishes_what_it_handles_goes_round_and_others_still_have_their_turn():
    """CONTRACT 8: a chain without an end starves nobody."""
    other = Desk()
    async with EventBus() as bus:
        rounds = 0

        async def echo(_event: Any) -> None:
            nonlocal rounds
            rounds += 1
            if rounds < 5_000:
                await bus.publish(Event(event_type="echo"))

        bus.subscribe("echo", echo)
        bus.subscribe("*", other.on_event)
        await bus.publish(Event(event_type="echo"))
        await bus.publish(a_fill())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await bus.join()
        assert rounds == 5_000
        assert other.types.index("fill") < 100
        assert_settled(bus)


# -- what the subscriber chooses to lose ---------------------------------------------------------------------


@virtual
async def test_conflation_keeps_the_newest_per_symbol_and_counts_the_rest():
    """CONTRACT 7: chosen by the subscriber, and every such event is counted."""
    gate = Gate()
    async with EventBus() as bus:
        bus.subscribe("*", gate.on_event, name="desk", overflow="conflate")
        await bus.publish(a_tick(1.0, "ES"))
        await asyncio.sleep(1)
        for price in (2.0, 3.0, 4.0):
            await bus.publish(a_tick(price, "ES"))
            await bus.publish(a_tick(price, "NQ"))
            await bus.publish(Event(event_type="no symbol"))
        await asyncio.sleep(1)
        found = row(bus, "desk")
        assert (found.accepted, found.conflated, found.waiting, found.in_flight) == (10, 4, 5, 1)
        gate.open()
        await bus.join()
        prices = [(e.symbol, e.price) for e in gate.handled if e.event_type == "market_data"]
        assert prices == [("ES", 1.0), ("ES", 4.0), ("NQ", 4.0)]
        assert_settled(bus)


@virtual
async def test_conflation_by_a_function_never_mixes_types():
    gate = Gate()
    async with EventBus() as bus:
        bus.subscribe("*", gate.on_event, name="desk", overflow=Conflate(lambda _event: "same"))
        await bus.publish(an_order("blocks"))
        await asyncio.sleep(1)
        for number in range(1, 4):
            await bus.publish(a_tick(float(number)))
            await bus.publish(an_order(str(number)))
        gate.open()
        await bus.join()
        assert [str(e.event_type) for e in gate.handled] == ["order", "market_data", "order"]
        assert_settled(bus)


@pytest.mark.parametrize(
    "key", [lambda e: 1 / 0, lambda e: [e.symbol], "data_sources_list"], ids=["raises", "list", "none"]
)
@virtual
async def test_a_conflation_key_that_fails_costs_nobody_an_event(key):
    """CONTRACT 7, 8."""
    conflating, other = Desk(), Desk()
    async with EventBus() as bus:
        bus.subscribe("*", conflating.on_event, overflow=Conflate(key))
        bus.subscribe("*", other.on_event)
        await bus.publish_many(ticks(3))
        await bus.join()
        assert len(conflating.handled) == len(other.handled) == 3
        assert_settled(bus)


@virtual
async def test_dropping_the_oldest_keeps_at_most_the_limit_and_counts_the_rest():
    """CONTRACT 7."""
    desk = Desk(takes_s=1)
    async with EventBus() as bus:
        bus.subscribe("*", desk.on_event, name="desk", overflow=DropOldest(3))
        for first in (1, 21):
            await bus.publish_many(ticks(20, first))
            await asyncio.sleep(0.1)
            found = row(bus, "desk")
            assert found.waiting <= 3
            assert found.balances
        assert found.waiting == 3
        await bus.join()
        assert desk.prices[-3:] == [38.0, 39.0, 40.0]
        assert row(bus, "desk").overflowed == 40 - len(desk.handled)
        assert_settled(bus)


@virtual
async def test_high_priority_events_are_neither_conflated_nor_dropped_nor_too_old():
    """CONTRACT 5, 7."""
    for overflow in ("conflate", DropOldest(1)):
        desk = Desk(takes_s=1)
        async with EventBus() as bus:
            bus.subscribe("*", desk.on_event, name="desk", overflow=overflow)
            for number in range(10):
                await bus.publish(a_fill(str(number)))
            await bus.join()
            assert [e.order_id for e in desk.handled] == [str(n) for n in range(10)]
            assert_settled(bus)


@virtual
async def test_events_older_than_asked_when_their_turn_comes_are_expired_and_counted():
    """CONTRACT 7."""
    desk = Desk(takes_s=1)
    async with EventBus() as bus:
        bus.subscribe("*", desk.on_event, name="desk", max_age_s=2.5)
        await bus.publish_many(ticks(10))
        await bus.join()
        assert desk.prices == [1.0, 2.0, 3.0]
        assert row(bus, "desk").expired == 7
        assert_settled(bus)
        await bus.publish(a_tick(99.0))
        await bus.join()
        assert desk.prices[-1] == 99.0


@virtual
async def test_a_paused_subscription_loses_nothing():
    """CONTRACT 7."""
    desk = Desk()
    async with EventBus() as bus:
        subscription = bus.subscribe("*", desk.on_event, name="desk")
        await bus.publish_many(ticks(3))
        await bus.join()
        subscription.pause()
        await bus.publish_many(ticks(3, 4))
        await bus.publish(a_fill())
        await asyncio.sleep(100)
        assert len(desk.handled) == 3
        assert row(bus, "desk").waiting == 3
        subscription.resume()
        await bus.join()
        assert len(desk.handled) == 7
        assert_settled(bus)


@virtual
async def test_a_handler_that_pauses_itself_has_ended_its_call_and_no_other():
    desk = Desk()
    async with EventBus() as bus:

        async def handler(event: Any) -> None:
            await desk.on_event(event)
            bus.subscription("desk").pause()

        bus.subscribe("*", handler, name="desk")
        await bus.publish_many(ticks(5))
        await asyncio.sleep(1)
        assert desk.prices == [1.0]
        assert bus.subscription("desk").state() == "paused"
        bus.subscription("desk").resume()
        await asyncio.sleep(1)
        assert desk.prices == [1.0, 2.0]
        await bus.stop(timeout_s=0.1)
        assert_balanced(bus)


# -- a slow subscription among others --------------------------------------------------------------------------------


@virtual
async def test_a_subscription_that_does_not_move_is_reported_and_the_others_go_on():
    """CONTRACT 4: neither publishers nor other subscriptions wait for it; it keeps the newest ticks."""
    gate, other = Gate(), Desk()
    async with EventBus(max_queue_size=100) as bus:
        bus.subscribe("*", gate.on_event, name="stuck")
        bus.subscribe("*", other.on_event, name="other")
        for event in ticks(40):
            assert await bus.publish(event)
        await asyncio.sleep(3)
        assert bus.metrics.stalled == ("stuck",)
        assert bus.subscription("stuck").state() == "stalled"
        assert bus.queue_size == 0
        for first in range(41, 441, 40):
            assert await bus.publish_many(ticks(40, first)) == 40
            await asyncio.sleep(0.1)
        assert len(other.handled) == 440
        found = row(bus, "stuck")
        assert found.waiting <= 100
        assert found.overflowed == 440 - found.waiting - found.in_flight == bus.metrics.overflowed
        assert bus.dead_letters("stuck") == []
        assert_balanced(bus)
        gate.open()
        await bus.join()
        await asyncio.sleep(2)
        assert bus.metrics.stalled == ()
        assert [tick.price for tick in gate.handled] == [1.0, *range(351, 441)]
        assert_settled(bus)


@virtual
async def test_a_slow_subscription_that_moves_is_not_stalled():
    """CONTRACT 4."""
    desk = Desk(takes_s=0.4)
    async with EventBus() as bus:
        bus.subscribe("*", desk.on_event)
        await bus.publish_many(ticks(30))
        for _ in range(20):
            await asyncio.sleep(0.5)
            assert bus.metrics.stalled == ()
        await bus.join()


# -- joining -------------------------------------------------------------------------------------------------


@virtual
async def test_joining_waits_until_everything_is_settled_retries_and_chains_included():
    failing = Failing(times=2)
    async with EventBus() as bus:
        bus.subscribe("*", failing.on_event, retry=OFTEN)
        await bus.join()
        await bus.publish(a_tick())
        await bus.join()
        assert now_s() == 3
        assert len(failing.handled) == 1
        assert_settled(bus)


@virtual
async def test_joining_inside_a_handler_raises_instead_of_waiting_for_itself():
    answers: list[Any] = []
    async with EventBus() as bus:

        async def handler(_event: Any) -> None:
            answers.append(await outcome_of(bus.join()))

        bus.subscribe("*", handler)
        await bus.publish(a_tick())
        await bus.join()
        assert isinstance(answers[0], OpenOutcryError)
        assert "handler" in str(answers[0])


@virtual
async def test_joining_another_bus_inside_a_handler_is_fine():
    desk = Desk(takes_s=1)
    async with EventBus() as outer, EventBus() as inner:
        inner.subscribe("*", desk.on_event)

        async def handler(event: Any) -> None:
            await inner.publish(Event(event_type="inner"))
            await inner.join()

        outer.subscribe("*", handler)
        await outer.publish(a_tick())
        await outer.join()
        assert len(desk.handled) == 1


@virtual
async def test_several_may_join_and_a_cancelled_one_leaves_the_others():
    gate = Gate()
    async with EventBus() as bus:
        bus.subscribe("*", gate.on_event)
        await bus.publish(a_tick())
        joining = [asyncio.create_task(bus.join()) for _ in range(3)]
        await asyncio.sleep(1)
        joining[0].cancel()
        await asyncio.sleep(1)
        gate.open()
        done = await asyncio.gather(*joining, return_exceptions=True)
        assert [type(answer) for answer in done] == [asyncio.CancelledError, type(None), type(None)]


# -- the audit over everything at once -----------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
@virtual
async def test_the_ledger_balances_at_every_moment_of_a_messy_day(seed):
    """CONTRACT 7."""
    import random  # noqa: PLC0415 - seeded, and for this test alone

    chance = random.Random(seed)
    sure = Desk()
    async with EventBus(max_queue_size=200) as bus:
        bus.subscribe("*", sure.on_event, name="sure")
        policies: list[Any] = ["gate", "conflate", DropOldest(5)]
        types: list[Any] = ["*", "market_data", ["fill", "order"]]
        for number in range(6):
            desk = Failing(lambda e: hash(e.event_id) % 3 == 0, times=chance.choice([1, 2, 99]))
            desk.takes_s = chance.choice([0, 0.001, 0.3, 2.0])
            bus.subscribe(
                chance.choice(types),
                desk.on_event,
                name=f"desk-{number}",
                overflow=chance.choice(policies),
                timeout_s=chance.choice([None, 1.0]),
                max_age_s=chance.choice([None, 5.0]),
                concurrency=chance.choice([1, 3]),
                retry=RetryPolicy(attempts=2, first_s=0.2, in_order=chance.random() < 0.5),
            )
        accepted = []
        for _ in range(300):
            event = chance.choice([a_tick(1.0, chance.choice("ABC")), an_order(), a_fill()])
            if bus.publish_nowait(event):
                accepted.append(event)
            act = chance.random()
            if act < 0.1:
                await asyncio.sleep(chance.choice([0, 0.01, 0.5, 3.0]))
            elif act < 0.13:
                chance.choice(bus.subscriptions[1:]).pause()
            elif act < 0.2:
                chance.choice(bus.subscriptions[1:]).resume()
            elif act < 0.21 and len(bus.subscriptions) > 3:
                victim = bus.subscriptions[-1]
                bus.unsubscribe(list(victim.selectors), victim.handler)
            assert_balanced(bus)
        for subscription in bus.subscriptions:
            subscription.resume()
        await bus.join()
        assert_exactly(sure.handled, accepted)
        assert_settled(bus)


@virtual
async def test_what_the_handlers_of_one_event_publish_is_delivered_in_one_batch():
    batches: list[list[Any]] = []
    async with EventBus() as bus:

        def answering(number: int) -> Any:
            async def on_tick(_event: Any) -> None:
                await bus.publish(Event(event_type="answer", source_agent=str(number)))

            return on_tick

        for number in range(5):
            bus.subscribe("market_data", answering(number))
        heard = Desk()
        bus.subscribe("answer", heard.on_event)
        await bus.publish(Event(event_type="answer"))
        await bus.join()
        bus._admission.dispatcher.tap(lambda events, _lane: batches.append(events))
        await bus.publish(a_tick())
        await bus.join()
        assert [len(batch) for batch in batches] == [1, 5]
        assert len(heard.handled) == 6


@virtual
async def test_a_paused_subscription_that_is_woken_to_deliver_does_so():
    desk, other = Desk(), Desk()
    async with EventBus() as bus:
        paused = bus.subscribe("market_data", desk.on_event)
        await bus.publish(a_tick())
        await bus.join()
        paused.pause()
        await bus.publish_many(ticks(2))
        await asyncio.sleep(1)
        bus.subscribe("market_data", other.on_event)
        await bus.publish(a_tick())
        await asyncio.sleep(1)
        assert (len(desk.handled), len(other.handled)) == (1, 1)
        paused.resume()
        await bus.join()
        assert (len(desk.handled), len(other.handled)) == (4, 1)
