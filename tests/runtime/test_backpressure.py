"""Backpressure (CONTRACT 4, 5, 6): room, levels, shedding, the rate limit, the reserve, and no deadlock."""

import asyncio
import logging
from typing import Any

import pytest
from bus_helpers import (
    Desk,
    Gate,
    a_decision,
    a_fill,
    a_signal,
    a_tick,
    an_order,
    assert_exactly,
    assert_settled,
    now_s,
    row,
    ticks,
    virtual,
)

from openoutcry import BackpressureConfig, BackpressureLevel, ConfigError, Event, EventBus, EventType

NORMAL, WARNING, HIGH, CRITICAL = BackpressureLevel
SLOW_TOKENS = BackpressureConfig(rate_limit_per_s=1.0, rate_limit_burst=2, cooldown_s=3.0, grace_s=1e6)
FAST_TOKENS = BackpressureConfig(rate_limit_per_s=1e6, rate_limit_burst=1_000, grace_s=1e6)


def a_full_house(config: BackpressureConfig = FAST_TOKENS, room: int = 100) -> tuple[EventBus, Desk]:
    """A bus whose only subscription is paused, so that what is published stays."""
    bus, desk = EventBus(max_queue_size=room, backpressure_config=config), Desk()
    bus.subscribe("*", desk.on_event, name="desk").pause()
    return bus, desk


async def the_end_of(bus: EventBus) -> None:
    bus.subscription("desk").resume()
    await bus.join()
    assert_settled(bus)
    await bus.stop()


@pytest.mark.parametrize("how", ["publish", "publish_nowait", "publish_many"])
@virtual
async def test_levels_follow_utilisation(how):
    """CONTRACT 4: NORMAL < 50 % <= WARNING < 75 % <= HIGH < 90 % <= CRITICAL, by every way in."""
    bus, _ = a_full_house()
    await bus.start()
    levels = {}
    for number in range(1, 96):
        event = an_order(str(number))
        answer = {  # type: ignore[operator]
            "publish": bus.publish,
            "publish_nowait": bus.publish_nowait,
            "publish_many": lambda e: bus.publish_many([e]),
        }[how](event)
        assert answer if how == "publish_nowait" else await answer
        levels[number] = bus.backpressure_level
        assert bus.queue_size == number
    assert [n for n in levels if levels[n] is NORMAL] == list(range(1, 50))
    assert [n for n in levels if levels[n] is WARNING] == list(range(50, 75))
    assert [n for n in levels if levels[n] is HIGH] == list(range(75, 90))
    assert [n for n in levels if levels[n] is CRITICAL] == list(range(90, 96))
    assert bus.metrics.level_changes == 3
    await the_end_of(bus)


@virtual
async def test_a_level_is_left_only_well_below_where_it_began():
    """CONTRACT 4: hysteresis, so that the levels do not flap."""
    desk = Desk(takes_s=1)
    seen: list[BackpressureLevel] = []
    async with EventBus(max_queue_size=100, backpressure_config=FAST_TOKENS) as bus:
        bus.on_backpressure_change(seen.append)
        bus.subscribe("*", desk.on_event)
        await bus.publish_many([an_order(str(n)) for n in range(51)])
        for _ in range(10):
            await asyncio.sleep(0.4)
            await bus.publish(an_order())
        assert seen == [WARNING]
        await bus.join()
        assert seen == [WARNING, NORMAL]
        assert bus.metrics.level_changes == 2


@virtual
async def test_each_change_of_level_is_logged_once_and_told_to_the_callbacks(caplog):
    """CONTRACT 4."""
    caplog.set_level(logging.INFO, "openoutcry")
    bus, _ = a_full_house()
    seen: list[Any] = []
    told_later: list[Any] = []

    async def later(level: BackpressureLevel) -> None:
        await asyncio.sleep(1)
        told_later.append(level)

    def broken(level: BackpressureLevel) -> None:
        raise RuntimeError("a callback's own trouble")

    bus.on_backpressure_change(broken)
    bus.on_backpressure_change(seen.append)
    bus.on_backpressure_change(later)
    await bus.start()
    for number in range(95):
        assert await bus.publish(an_order(str(number)))
    await asyncio.sleep(2)
    assert seen == told_later == [WARNING, HIGH, CRITICAL]
    logged = [r.getMessage() for r in caplog.records if "backpressure is" in r.getMessage()]
    assert len(logged) == 3
    assert any("a callback's own trouble" in str(r.exc_info) for r in caplog.records)
    await the_end_of(bus)
    assert seen[-1] is NORMAL


@virtual
async def test_a_publisher_meets_the_emptiest_mailbox_and_the_bus_shows_the_worst_that_one_meets():
    """CONTRACT 4."""
    async with EventBus(max_queue_size=100, backpressure_config=FAST_TOKENS) as bus:
        for name in ("desk-0", "desk-1"):
            bus.subscribe("*", Desk().on_event, name=name).pause()
        bus.subscribe("a", Desk().on_event, name="desk-a").pause()
        await bus.publish_many(ticks(20))
        for _ in range(10):
            await bus.publish(Event(event_type="a"))
        assert bus.queue_size == 30, "whoever publishes ticks meets 30, and for `a` there is one with 10"
        bus.subscription("desk-0").resume()
        await asyncio.sleep(0.1)
        assert bus.queue_size == 0, "one that takes both has nothing waiting"
        bus.unsubscribe("*", bus.subscription("desk-0").handler)
        assert bus.queue_size == 30, "whoever publishes ticks meets it, without having published any since"
        bus.unsubscribe("*", bus.subscription("desk-1").handler)
        assert bus.queue_size == 10, "of ticks there is nobody left, and of `a` one"
        for subscription in bus.subscriptions:
            subscription.resume()
        await bus.join()
        assert bus.queue_size == 0


@pytest.mark.parametrize("overflow", ["conflate", "drop_oldest"])
@virtual
async def test_a_subscription_that_conflates_or_drops_is_as_good_as_empty(overflow):
    """CONTRACT 4."""
    async with EventBus(max_queue_size=100, backpressure_config=FAST_TOKENS) as bus:
        bus.subscribe("*", Desk().on_event, name="slow").pause()
        bus.subscribe("*", Desk().on_event, name="newest", overflow=overflow).pause()
        for tick in ticks(200):
            assert await bus.publish(tick)
        await asyncio.sleep(0)
        assert bus.queue_size == 0
        assert bus.backpressure_level is NORMAL


@virtual
async def test_never_more_than_the_room_waits_whatever_the_thresholds():
    """CONTRACT 4."""
    for config in (
        BackpressureConfig(grace_s=1e6),
        BackpressureConfig(warning_threshold=0.9, high_threshold=0.95, critical_threshold=1.0, grace_s=1e6),
        BackpressureConfig(reserve=0, grace_s=1e6),
        BackpressureConfig(reserve=0.5, hysteresis=0, grace_s=1e6),
    ):
        for room in (1, 2, 10, 97, 2_000):
            desk, other = Desk(), Desk()
            async with EventBus(max_queue_size=room, backpressure_config=config) as bus:
                bus.subscribe("*", desk.on_event, name="desk").pause()
                bus.subscribe("*", other.on_event, name="other").pause()
                accepted = 0
                for number in range(5):
                    accepted += sum(bus.publish_nowait(an_order(str(n))) for n in range(room))
                    accepted += bus.publish_nowait(a_fill())
                    await asyncio.sleep(0.01 * number)
                    assert bus.queue_size <= room
                    assert bus.metrics.peak_queue_size <= room
                assert accepted <= room
                bus.subscription("desk").resume()
                bus.subscription("other").resume()
                await bus.join()
                assert len(desk.handled) == len(other.handled) == accepted


@virtual
async def test_market_data_is_shed_first_and_signals_decisions_and_orders_last():
    """CONTRACT 4."""
    bus, _ = a_full_house()
    await bus.start()
    for number in range(90):
        assert await bus.publish(an_order(str(number)))
    assert bus.backpressure_level is CRITICAL
    assert not await bus.publish(a_tick())
    assert bus.metrics.refused == {"shed": 1}
    assert await bus.publish(Event(event_type="other"))
    while await bus.publish(Event(event_type="other")):
        pass
    assert bus.queue_size < 95
    assert bus.metrics.refused == {"shed": 2}
    for event in (a_signal("a"), a_decision(), an_order()):
        if bus.queue_size < 95:
            assert await bus.publish(event)
    while await bus.publish(a_signal("a")):
        pass
    assert bus.queue_size == 95
    assert bus.metrics.refused == {"shed": 2, "no_room": 1}
    await the_end_of(bus)


@virtual
async def test_which_types_may_be_shed_is_declared():
    """CONTRACT 4."""
    config = BackpressureConfig(
        shed_first=frozenset({"gossip"}), shed_last=frozenset({EventType.MARKET_DATA}), grace_s=1e6
    )
    bus, _ = a_full_house(config)
    await bus.start()
    await bus.publish_many(ticks(90))
    assert bus.backpressure_level is CRITICAL
    assert not await bus.publish(Event(event_type="gossip"))
    for tick in ticks(5):
        assert await bus.publish(tick)
    assert not await bus.publish(a_tick())
    await the_end_of(bus)
    with pytest.raises(ConfigError):
        BackpressureConfig(shed_first=frozenset({"a"}), shed_last=frozenset({"a"}))


@virtual
async def test_low_priority_events_never_fill_the_reserve():
    """CONTRACT 5."""
    bus, desk = a_full_house()
    await bus.start()
    while bus.publish_nowait(an_order()):
        pass
    assert bus.queue_size == 95
    assert [bus.publish_nowait(a_fill(str(n))) for n in range(5)] == [True] * 5
    assert not bus.publish_nowait(a_fill())
    assert not bus.publish_nowait(an_order())
    bus.subscription("desk").resume()
    await bus.join()
    assert desk.types[:5] == ["fill"] * 5
    assert_settled(bus)
    await bus.stop()


@virtual
async def test_at_high_publishers_wait_for_tokens():
    """CONTRACT 4: a token bucket."""
    bus, _ = a_full_house(SLOW_TOKENS)
    await bus.start()
    assert await bus.publish_many(ticks(75)) == 75
    at_s = []
    for _ in range(5):
        assert await bus.publish(a_tick())
        at_s.append(now_s())
    assert at_s == pytest.approx([0, 0, 1, 2, 3])
    assert bus.metrics.rate_limited_waits >= 3
    assert bus.metrics.refused == {}
    await the_end_of(bus)


@virtual
async def test_who_would_wait_longer_than_the_cooldown_is_refused():
    """CONTRACT 4."""
    bus, desk = a_full_house(SLOW_TOKENS)
    await bus.start()
    assert await bus.publish_many(ticks(75)) == 75
    answers = await asyncio.gather(*(bus.publish(a_tick(99.0)) for _ in range(10)))
    assert now_s() <= 3
    assert 2 <= answers.count(True) <= 5
    assert bus.metrics.refused == {"rate_limited": answers.count(False)}
    await the_end_of(bus)
    assert desk.prices.count(99.0) == answers.count(True)


@virtual
async def test_high_priority_events_are_not_rate_limited():
    """CONTRACT 5."""
    bus, _ = a_full_house(SLOW_TOKENS)
    await bus.start()
    await bus.publish_many(ticks(75))
    for _ in range(20):
        assert await bus.publish(a_fill())
    assert now_s() == 0
    await the_end_of(bus)


@virtual
async def test_a_high_priority_event_waits_for_room_up_to_the_cooldown():
    """CONTRACT 4, 5."""
    gate = Gate()
    async with EventBus(max_queue_size=10, backpressure_config=SLOW_TOKENS) as bus:
        bus.subscribe("*", gate.on_event)
        await bus.publish(a_fill())
        await asyncio.sleep(0)
        await bus.publish_many([a_fill() for _ in range(10)])
        refused = asyncio.create_task(bus.publish(a_fill("refused")))
        await asyncio.sleep(2.5)
        admitted = asyncio.create_task(bus.publish(a_fill("admitted")))
        await asyncio.sleep(1)
        assert refused.done()
        assert refused.result() is False
        gate.open()
        assert await admitted is True
        assert now_s() == 3.5
        await bus.join()
        assert gate.handled[-1].order_id == "admitted"
        assert bus.metrics.room_waits == 2
        assert_settled(bus)


@virtual
async def test_many_that_wait_for_room_get_it_as_it_is_made_and_never_too_much():
    """CONTRACT 4."""
    desk = Desk(takes_s=0.1)
    async with EventBus(max_queue_size=10, backpressure_config=SLOW_TOKENS) as bus:
        bus.subscribe("*", desk.on_event)
        events = [a_fill(str(n)) for n in range(30)]
        publishing = [asyncio.create_task(bus.publish(event)) for event in events]
        while not all(task.done() for task in publishing):
            await asyncio.sleep(0.05)
            assert bus.queue_size <= 10
        await bus.join()
        accepted = [event for event, task in zip(events, publishing, strict=True) if task.result()]
        assert len(accepted) == 30
        assert_exactly(desk.handled, accepted)


@virtual
async def test_an_unsubscribed_mailbox_makes_room_at_once():
    bus, desk = a_full_house(SLOW_TOKENS, room=10)
    await bus.start()
    seen: list[Any] = []
    bus.on_backpressure_change(seen.append)
    for _ in range(10):
        await bus.publish(a_fill())
    waiting = asyncio.create_task(bus.publish(a_fill()))
    await asyncio.sleep(1)
    bus.unsubscribe("*", desk.on_event)
    assert await waiting is True
    assert now_s() == 1
    assert seen[-1] is NORMAL
    await bus.stop()


@virtual
async def test_withdrawing_one_type_makes_room_at_once():
    bus, desk = EventBus(max_queue_size=10, backpressure_config=SLOW_TOKENS), Desk()
    bus.subscribe(["market_data", "fill"], desk.on_event, name="desk").pause()
    await bus.start()
    while bus.publish_nowait(a_tick(), True):
        pass
    waiting = asyncio.create_task(bus.publish(a_fill()))
    await asyncio.sleep(1)
    bus.unsubscribe("market_data", desk.on_event)
    assert await waiting is True
    assert now_s() == 1
    await the_end_of(bus)
    assert desk.types == ["fill"]


@virtual
async def test_events_that_expire_make_room_like_those_that_are_handled():
    """CONTRACT 1, 4."""
    async with EventBus(max_queue_size=100, backpressure_config=FAST_TOKENS) as bus:
        subscription = bus.subscribe("*", Desk().on_event, name="desk", max_age_s=1)
        subscription.pause()
        while bus.publish_nowait(an_order()):
            pass
        await asyncio.sleep(10)
        subscription.resume()
        await asyncio.sleep(10)
        assert row(bus, "desk").expired == 95
        assert bus.publish_nowait(an_order())
        await bus.join()
        assert_settled(bus)


# -- callbacks -----------------------------------------------------------------------------------------------


@virtual
async def test_a_callback_may_unsubscribe_while_the_bus_looks_for_the_stalled():
    """CONTRACT 4: the others go on."""
    gate, fine = Gate(), Desk()
    config = BackpressureConfig(grace_s=1.0, rate_limit_per_s=1e6, rate_limit_burst=1_000)
    async with EventBus(max_queue_size=20, backpressure_config=config) as bus:
        levels: list[Any] = []

        def callback(level: BackpressureLevel) -> None:
            levels.append(level)
            if level is NORMAL:
                bus.unsubscribe("*", fine.on_event)

        bus.subscribe("*", gate.on_event, name="stuck")
        bus.subscribe("*", fine.on_event, name="fine")
        bus.on_backpressure_change(callback)
        await bus.publish_many([an_order(str(n)) for n in range(15)])
        await asyncio.sleep(10)
        assert levels[-2:] == [NORMAL, WARNING], "alone it is the emptiest"
        assert bus.metrics.stalled == ("stuck",)
        assert [s.name for s in bus.subscriptions] == ["stuck"]
        gate.open()
        await bus.join()
        await asyncio.sleep(10)
        assert bus.metrics.stalled == ()
        assert_settled(bus)


@virtual
async def test_what_a_callback_publishes_finds_no_more_room_than_there_is():
    """CONTRACT 4."""
    bus, desk = a_full_house()
    await bus.start()
    answers: list[bool] = []
    is_filling = True

    def callback(_level: BackpressureLevel) -> None:
        if is_filling:
            answers.extend(bus.publish_nowait(Event(event_type="alert")) for _ in range(200))

    bus.on_backpressure_change(callback)
    accepted = 0
    for event in ticks(200):
        accepted += await bus.publish(event)
        assert bus.queue_size <= 95
    await asyncio.sleep(0.001)
    assert bus.subscription("desk").mailbox.waiting == accepted + sum(answers) <= 95
    is_filling = False
    await the_end_of(bus)
    assert len(desk.handled) == accepted + sum(answers)


# -- handlers that publish -----------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [WARNING, HIGH, CRITICAL])
@virtual
async def test_a_handler_never_waits_for_room_or_tokens(level):
    """CONTRACT 6: re-entrant publishing at every level answers at once, and nothing deadlocks."""
    answers: list[tuple[str, bool]] = []
    begun_s: list[float] = []
    config = BackpressureConfig(rate_limit_per_s=0.001, rate_limit_burst=1, cooldown_s=50.0, grace_s=1e6)
    async with EventBus(max_queue_size=100, backpressure_config=config) as bus:

        async def handler(event: Any) -> None:
            begun_s.append(now_s())
            if event.event_type != "order":
                return
            for made in (a_tick(), an_order("again"), a_fill()):
                if made.event_type != "order" or event.order_id != "again":
                    answer = await bus.publish(made)
                    answers.append((str(made.event_type), answer))
            await bus.publish_many([a_tick(), a_tick()])

        bus.subscribe("*", handler, name="desk").pause()
        wanted = {WARNING: 60, HIGH: 76, CRITICAL: 94}[level]
        for number in range(wanted):
            await bus.publish(an_order("x")) if number < 75 else await bus.publish(an_order("x"), True)
        assert bus.backpressure_level is level
        bus.subscription("desk").resume()
        async with asyncio.timeout(1_000):
            await bus.join()
        assert now_s() == 0
        assert len(answers) >= 3 * wanted
        assert_settled(bus)


@virtual
async def test_a_handler_that_fans_out_more_than_there_is_room_is_refused_not_stuck():
    """CONTRACT 6."""
    desk = Desk()
    async with EventBus(max_queue_size=50, backpressure_config=SLOW_TOKENS) as bus:
        counts: list[int] = []

        async def fan_out(_event: Any) -> None:
            counts.append(sum([await bus.publish(a_fill(str(n))) for n in range(200)]))

        bus.subscribe(EventType.ORDER, fan_out)
        bus.subscribe([EventType.ORDER, EventType.FILL], desk.on_event, name="desk")
        bus.subscription("desk").pause()
        await bus.publish(an_order())
        await asyncio.sleep(0.1)
        assert counts
        assert 0 < counts[0] <= 50
        assert bus.metrics.refused == {"no_room": 200 - counts[0]}
        bus.subscription("desk").resume()
        await bus.join()
        assert desk.types.count("fill") == counts[0]
        assert_settled(bus)


@virtual
async def test_two_handlers_that_feed_each_other_do_not_deadlock_a_small_bus():
    """CONTRACT 6."""
    async with EventBus(max_queue_size=4, backpressure_config=SLOW_TOKENS) as bus:
        counts = {"ping": 0, "pong": 0}

        async def ping(_event: Any) -> None:
            counts["ping"] += 1
            if counts["ping"] < 500:
                await bus.publish(Event(event_type="pong"), True)
                await bus.publish(Event(event_type="pong"), True)

        async def pong(_event: Any) -> None:
            counts["pong"] += 1
            await bus.publish(Event(event_type="ping"), True)

        bus.subscribe("ping", ping)
        bus.subscribe("pong", pong)
        await bus.publish(Event(event_type="ping"))
        async with asyncio.timeout(100):
            await bus.join()
        assert counts["ping"] >= 500
        assert_settled(bus)


# -- before the start, and the figures -----------------------------------------------------------------------


@virtual
async def test_the_room_is_bounded_before_the_start_too():
    """CONTRACT 4, 27."""
    desk = Desk()
    bus = EventBus(max_queue_size=100, backpressure_config=SLOW_TOKENS)
    bus.subscribe("*", desk.on_event)
    accepted = [event for event in (an_order(str(n)) for n in range(200)) if await bus.publish(event)]
    assert 75 <= len(accepted) <= 95
    assert bus.queue_size == len(accepted)
    fills = sum([await bus.publish(a_fill(str(number))) for number in range(30)])
    assert bus.queue_size == 100 == len(accepted) + fills
    assert now_s() == 0, "nothing drains before the start, so nobody waits"
    async with bus:
        await bus.join()
        assert len(desk.handled) == 100
        assert_settled(bus)


@virtual
async def test_the_metrics_count_what_happened_at_the_door():
    bus, _ = a_full_house(SLOW_TOKENS)
    await bus.start()
    await bus.publish_many(ticks(10))
    await bus.publish(a_fill())
    await bus.publish(Event(event_type="kill_switch"))
    duplicate = a_tick()
    await bus.publish(duplicate)
    await bus.publish(duplicate)
    metrics = bus.metrics
    assert (metrics.published, metrics.high_priority, metrics.control, metrics.duplicates) == (13, 1, 1, 1)
    assert (metrics.queue_size, metrics.capacity, metrics.utilisation) == (12, 100, 0.12)
    assert metrics.peak_queue_size == 12
    assert (metrics.level, metrics.stalled, metrics.dropped) == (NORMAL, (), 0)
    shown = metrics.to_dict()
    assert (shown["level"], shown["published"], shown["dropped"], shown["refused"]) == ("normal", 13, 0, {})
    bus.reset_metrics()
    assert (bus.metrics.published, bus.metrics.duplicates, bus.metrics.high_priority) == (0, 0, 0)
    assert bus.metrics.queue_size == 12
    await bus.publish(a_tick())
    assert bus.metrics.published == 1
    await the_end_of(bus)


@pytest.mark.parametrize("taker", ["nobody", "drop_oldest", "other types"])
@virtual
async def test_what_no_gating_mailbox_takes_needs_no_room(taker):
    """CONTRACT 4."""
    async with EventBus(max_queue_size=1_000) as bus:
        if taker == "drop_oldest":
            bus.subscribe("market_data", Desk().on_event, overflow="drop_oldest")
        elif taker == "other types":
            bus.subscribe("fill", Desk().on_event)
        assert all(bus.publish_nowait(tick) for tick in ticks(5_000))
        assert bus.metrics.refused == {}
        await bus.join()


@pytest.mark.parametrize("concurrency", [1, 4, 32])
@virtual
async def test_what_idle_workers_have_taken_is_room_again_while_their_calls_go_on(concurrency):
    desk = Desk(600.0)
    async with EventBus(100) as bus:
        bus.subscribe("order", desk.on_event, name="llm", concurrency=concurrency)
        for number in range(200):
            bus.publish_nowait(an_order(f"o-{number}"))
        await asyncio.sleep(0.5)
        assert len(desk.begun) == concurrency
        accepted = [bus.publish_nowait(an_order(f"p-{number}")) for number in range(50)]
        assert accepted == [True] * concurrency + [False] * (50 - concurrency)
        desk.takes_s = 0
        await bus.stop(0.1)


@virtual
async def test_a_handler_that_turns_slow_in_the_middle_of_a_burst_makes_room_call_by_call():
    handled = 0

    async def handle(event: Any) -> None:
        nonlocal handled
        handled += 1
        if handled > 500:
            await asyncio.sleep(0.5)

    async with EventBus(100) as bus:
        bus.subscribe("order", handle, name="llm")
        for number in range(490):
            assert await bus.publish(an_order(f"o-{number}"))
            if number % 40 == 39:
                await asyncio.sleep(0.01)
        await asyncio.sleep(1)
        for number in range(200):
            bus.publish_nowait(an_order(f"p-{number}"))
        for step in range(10):
            await asyncio.sleep(0.5)
            while bus.subscription("llm").mailbox.waiting < 95:
                assert bus.publish_nowait(an_order(f"q-{step}-{number}")), "there is room"
                number += 1
                await asyncio.sleep(0)
