"""Order and precedence (CONTRACT 5, 9): within a lane, between the lanes, and the minimum share."""

import asyncio
import itertools

import pytest
from bus_helpers import Desk, Failing, a_decision, a_fill, a_tick, an_order, assert_settled, ticks, virtual

from openoutcry import (
    AlertSeverity,
    BackpressureConfig,
    Event,
    EventBus,
    EventType,
    RetryPolicy,
    RiskAlertEvent,
    ValidatedDecisionEvent,
)


@virtual
async def test_events_arrive_in_the_order_of_publication_by_every_way_in():
    """CONTRACT 9."""
    desk = Desk()
    async with EventBus() as bus:
        bus.subscribe("*", desk.on_event)
        events = ticks(600)
        await bus.publish(events[0])
        bus.publish_nowait(events[1])
        await bus.publish_many(events[2:100])
        for event in events[100:400]:
            await bus.publish(event)
        for event in events[400:]:
            bus.publish_nowait(event)
        await bus.join()
        assert desk.handled == events


@virtual
async def test_order_holds_also_when_publishing_never_waits_for_the_handlers():
    """CONTRACT 9, through several batches and the credit's end."""
    desk = Desk(takes_s=0.001)
    async with EventBus(max_queue_size=1_000) as bus:
        bus.subscribe("*", desk.on_event)
        accepted = [event for event in ticks(5_000) if await bus.publish(event)]
        await bus.join()
        assert desk.handled == accepted
        assert len(accepted) >= 900
        assert_settled(bus)


@pytest.mark.parametrize("busy", [False, True], ids=["waiting", "in a batch"])
@virtual
async def test_high_priority_events_are_handled_before_every_queued_normal_one(busy):
    """CONTRACT 5: also before those that a worker has taken already."""
    desk = Desk(takes_s=0.001)
    async with EventBus() as bus:
        bus.subscribe("*", desk.on_event)
        await bus.publish_many(ticks(500))
        if busy:
            await asyncio.sleep(0.0105)
        begun = len(desk.begun)
        await bus.publish(a_fill("first"))
        await bus.publish(RiskAlertEvent(severity=AlertSeverity.CRITICAL, alert_type="drawdown"))
        await bus.publish(ValidatedDecisionEvent(original_decision_id="1", symbol="ES", approved=True))
        await bus.publish(a_tick(-1.0), priority=True)
        await bus.join()
        assert desk.types[begun : begun + 4] == ["fill", "risk_alert", "validated_decision", "market_data"]
        assert len(desk.handled) == 504
        assert_settled(bus)


@virtual
async def test_a_fill_for_a_stalled_subscription_still_goes_before_its_queued_ticks():
    """CONTRACT 5."""
    desk = Desk(takes_s=2)
    async with EventBus() as bus:
        bus.subscribe([EventType.MARKET_DATA, EventType.FILL], desk.on_event, name="slow")
        await bus.publish_many(ticks(40))
        await asyncio.sleep(1.9)
        assert bus.metrics.stalled == ("slow",)
        await bus.publish(a_fill())
        await asyncio.sleep(3)
        assert desk.types[:2] == ["market_data", "fill"]
        await bus.stop(timeout_s=0.1)


@virtual
async def test_a_normal_event_is_handled_after_every_so_many_high_ones():
    """CONTRACT 5: the stated minimum share, so that nothing starves."""
    desk = Desk()
    async with EventBus(backpressure_config=BackpressureConfig(high_per_normal=4)) as bus:
        bus.subscribe("*", desk.on_event, name="desk").pause()
        await bus.publish_many(ticks(5))
        for number in range(20):
            await bus.publish(a_fill(str(number)))
        bus.subscription("desk").resume()
        await bus.join()
        kinds = [kind for kind, _ in itertools.groupby(desk.types)]
        assert kinds == ["fill", "market_data"] * 5
        assert desk.types[:5] == ["fill"] * 4 + ["market_data"]


@virtual
async def test_high_priority_events_keep_their_own_order():
    """CONTRACT 9."""
    desk = Desk(takes_s=0.01)
    async with EventBus() as bus:
        bus.subscribe("*", desk.on_event)
        for number in range(50):
            await bus.publish(a_fill(str(number)))
            await bus.publish(a_tick())
        await bus.join()
        assert [e.order_id for e in desk.handled if e.event_type == "fill"] == [str(n) for n in range(50)]


@virtual
async def test_normal_events_keep_their_order_while_high_ones_cut_in():
    """CONTRACT 9."""
    desk = Desk(takes_s=0.001)
    async with EventBus() as bus:
        bus.subscribe("*", desk.on_event)
        await bus.publish_many(ticks(300))
        for number in range(30):
            await asyncio.sleep(0.0033)
            await bus.publish(a_fill(str(number)))
        await bus.join()
        assert [e.price for e in desk.handled if e.event_type == "market_data"] == [
            float(n) for n in range(1, 301)
        ]


@virtual
async def test_a_retry_lets_nothing_of_its_lane_overtake():
    """CONTRACT 9."""
    desk = Failing(lambda e: e.event_type == "market_data" and e.price in (3.0, 7.0), times=2)
    async with EventBus() as bus:
        bus.subscribe("*", desk.on_event, retry=RetryPolicy(attempts=3, first_s=1.0))
        await bus.publish_many(ticks(10))
        await asyncio.sleep(0.5)
        await bus.publish(a_fill())
        await bus.join()
        assert [e.price for e in desk.handled if e.event_type == "market_data"] == [
            float(n) for n in range(1, 11)
        ]
        assert desk.types.index("fill") == 2, "there is no order across lanes: the fill need not wait"


@virtual
async def test_a_retry_may_be_overtaken_where_the_subscription_says_so():
    """CONTRACT 9."""
    desk = Failing(lambda e: e.price == 3.0, times=1)
    async with EventBus() as bus:
        bus.subscribe("*", desk.on_event, retry=RetryPolicy(attempts=3, first_s=1.0, in_order=False))
        await bus.publish_many(ticks(10))
        await bus.join()
        assert desk.prices == [1.0, 2.0, *[float(n) for n in range(4, 11)], 3.0]
        assert_settled(bus)


@virtual
async def test_order_holds_over_a_pause_and_over_withdrawals():
    """CONTRACT 9."""
    desk = Desk()
    async with EventBus() as bus:
        subscription = bus.subscribe(["market_data", "order", "a"], desk.on_event)
        subscription.pause()
        for number in range(1, 30):
            await bus.publish(a_tick(float(number)))
            await bus.publish(an_order(str(number)))
            await bus.publish(Event(event_type="a"))
        bus.unsubscribe("a", desk.on_event)
        subscription.resume()
        await bus.join()
        assert desk.types == ["market_data", "order"] * 29
        assert [e.price for e in desk.handled if e.event_type == "market_data"] == [
            float(n) for n in range(1, 30)
        ]
        assert_settled(bus)


@virtual
async def test_what_a_handler_publishes_comes_after_what_was_published_before_it():
    """CONTRACT 9."""
    desk = Desk()
    async with EventBus() as bus:

        async def chain(event) -> None:
            await bus.publish(a_decision(str(int(event.price))))

        bus.subscribe(EventType.MARKET_DATA, chain)
        bus.subscribe([EventType.MARKET_DATA, EventType.DECISION], desk.on_event)
        await bus.publish_many(ticks(3))
        await bus.join()
        assert desk.types == ["market_data"] * 3 + ["decision"] * 3
        assert [e.symbol for e in desk.handled[3:]] == ["1", "2", "3"]
