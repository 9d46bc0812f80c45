"""A subscription begins, and reads on, what none of its holds stops: seen through the bus (`core/holds.py`)."""

import asyncio
from typing import Any, TypedDict

import pytest
from bus_helpers import a_fill, a_kill, an_order, now_s, ticks, virtual
from durable_kit import a_bus

from openoutcry import NO_RETRY, EventBus, RetryPolicy, Subscription
from openoutcry.core.breaker import BreakerConfig
from openoutcry.core.holds import TABLE, Hold
from openoutcry.journals import MemoryJournal


class Failing(TypedDict):
    """What decides on a subscription whose calls fail."""

    retry: RetryPolicy | bool
    breaker: BreakerConfig


BREAKER = BreakerConfig(window=4, least=2, first_pause_s=10.0)
FAILING: Failing = {"retry": False, "breaker": BREAKER}
PLAIN: Failing = {"retry": RetryPolicy(attempts=2, first_s=1.0, factor=1.0, jitter=0.0), "breaker": BREAKER}


class Fails:
    """A handler that fails as long as it is told to, and notes when it was called."""

    def __init__(self) -> None:
        self.fails = True
        self.at_s: list[float] = []
        self.running = self.running_most = 0

    async def on_event(self, event: Any) -> None:
        self.at_s.append(now_s())
        self.running += 1
        self.running_most = max(self.running_most, self.running)
        try:
            await asyncio.sleep(0.5)
            if self.fails:
                raise ValueError(event.event_id)
        finally:
            self.running -= 1


@virtual
async def test_a_subscription_that_fails_is_tried_with_one_event_after_each_pause() -> None:
    handler, told = Fails(), []
    async with EventBus() as bus:
        bus.on_failing(lambda subscription, fails: told.append((subscription.name, fails)))
        subscription = bus.subscribe("*", handler.on_event, name="bad", **FAILING)
        await bus.publish_many(ticks(8))
        await asyncio.sleep(1.5)
        assert handler.at_s == [0, 0.5]
        assert (subscription.state(), subscription.failing, told) == ("failing", True, [("bad", True)])
        await asyncio.sleep(13.5)
        assert handler.at_s == [0, 0.5, pytest.approx(11)]
        handler.fails = False
        await bus.join()
        assert len(handler.at_s) == 8
        assert (subscription.state(), subscription.failing) == ("idle", False)
        assert told == [("bad", True), ("bad", False)]


@virtual
async def test_the_probe_is_the_only_call_also_with_many_workers() -> None:
    handler = Fails()
    async with EventBus() as bus:
        subscription = bus.subscribe("*", handler.on_event, concurrency=3, **PLAIN)
        await bus.publish_many(ticks(20))
        await asyncio.sleep(5)
        assert subscription.failing
        handler.running_most = 0
        await asyncio.sleep(120)
        assert handler.running_most == 1
        handler.fails = False
        await bus.join()
        assert handler.running_most == 3
        assert not subscription.failing


@virtual
async def test_a_call_that_was_abandoned_keeps_nobody_from_being_tried() -> None:
    handler, hangs = Fails(), asyncio.Event()

    async def sometimes_hangs(event: Any) -> None:
        if event.price == 1:
            while not hangs.is_set():
                try:
                    await hangs.wait()
                except asyncio.CancelledError:
                    continue
        await handler.on_event(event)

    async with EventBus() as bus:
        subscription = bus.subscribe("*", sometimes_hangs, timeout_s=2.0, **FAILING)
        await bus.publish_many(ticks(6))
        await asyncio.sleep(8)
        assert (subscription.failing, subscription.abandoned) == (True, 1)
        handler.fails = False
        async with asyncio.timeout(60):
            await bus.join()
        assert not subscription.failing
        hangs.set()
        await asyncio.sleep(1)
        assert subscription.abandoned == 0


@virtual
async def test_who_is_resumed_does_not_wait_for_the_pause() -> None:
    handler = Fails()
    async with EventBus() as bus:
        subscription = bus.subscribe("*", handler.on_event, **FAILING)
        await bus.publish_many(ticks(8))
        await asyncio.sleep(5)
        assert subscription.failing
        handler.fails = False
        subscription.resume()
        assert not subscription.failing
        await bus.join()
        assert now_s() < 10


@virtual
async def test_a_start_begins_with_everybody_well() -> None:
    handler, told = Fails(), []
    bus = EventBus()
    bus.on_failing(lambda _subscription, fails: told.append(fails))
    subscription = bus.subscribe("*", handler.on_event, **FAILING)
    await bus.start()
    await bus.publish_many(ticks(8))
    await asyncio.sleep(5)
    await bus.stop(timeout_s=0)
    assert subscription.failing
    handler.fails = False
    await bus.start()
    assert (subscription.failing, told) == (False, [True, False])
    began_s = now_s()
    await bus.join()
    assert now_s() - began_s < 5
    await bus.stop()


@virtual
async def test_who_fails_reads_on_to_the_next_event_that_it_takes() -> None:
    journal, handler = MemoryJournal(), Fails()
    async with a_bus(journal, max_queue_size=100_000) as bus:
        bus.subscribe("order", handler.on_event, name="orders", **FAILING).pause()
        await bus.publish_many([an_order() for _ in range(2)])
        await bus.publish_many([a_fill() for _ in range(5_000)])
        await bus.publish(an_order())
        await bus.stop(timeout_s=0)
    bus = a_bus(journal, max_queue_size=100_000)
    subscription = bus.subscribe("order", handler.on_event, name="orders", **FAILING)
    await bus.start()
    await asyncio.sleep(2)
    assert subscription.failing
    handler.fails = False
    async with asyncio.timeout(60):
        await bus.join()
    assert len(handler.at_s) == 3
    await bus.stop()


@virtual
async def test_every_hold_but_those_on_reading_keeps_events_waiting_and_no_kill_switch() -> None:
    for hold in Hold:
        if TABLE[hold].lifted_by:
            await _events_wait_and_kill_switches_do_not(hold)


async def _events_wait_and_kill_switches_do_not(hold: Hold) -> None:
    seen: list[str] = []

    async def handler(event: Any) -> None:
        seen.append(str(event.event_type.value))

    async with EventBus() as bus:
        subscription: Subscription = bus.subscribe("*", handler, retry=NO_RETRY)
        subscription.holds.set(hold)
        await bus.publish_many(ticks(2))
        await bus.publish(a_kill())
        await asyncio.sleep(1)
        may_begin = subscription.holds.may_begin
        assert sorted(seen) == ["kill_switch", *(["market_data"] * 2 if may_begin else [])], hold
        subscription.holds.lift(hold)
        subscription.wake()
        await bus.join()
        assert len(seen) == 3
