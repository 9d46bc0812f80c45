"""Superseding: a newer event for the same key ends the older call in flight, where that was asked for."""

import asyncio
from contextlib import suppress
from typing import Any

import pytest
from bus_helpers import Desk, Gate, a_fill, a_tick, assert_balanced, assert_settled, now_s, row, virtual

from openoutcry import Conflate, EventBus, EventType, HealthCheckConfig, RetryPolicy, SubscriptionError
from openoutcry.journals import MemoryJournal


class Model(Desk):
    """An analyst that takes a minute for each event, and notes what it was told to let go of."""

    def __init__(self, takes_s: float = 60.0) -> None:
        super().__init__(takes_s)
        self.let_go: list[Any] = []

    async def on_event(self, event: Any) -> None:
        try:
            await super().on_event(event)
        except asyncio.CancelledError:
            self.let_go.append(event)
            raise


@virtual
async def test_a_newer_event_of_the_same_symbol_ends_the_call_in_hand_and_is_begun_at_once():
    model = Model()
    async with EventBus() as bus:
        bus.subscribe(EventType.MARKET_DATA, model.on_event, name="model", supersede="symbol")
        old, new = a_tick(1.0), a_tick(2.0)
        await bus.publish(old)
        await asyncio.sleep(10)
        await bus.publish(new)
        await asyncio.sleep(1)
        assert model.let_go == [old]
        assert model.begun == [old, new]
        await bus.join()
        assert now_s() == pytest.approx(70, abs=0.1)
        assert model.handled == [new]
        found = row(bus, "model")
        assert (found.handled, found.conflated, found.dead_lettered) == (1, 1, 0)
        assert_settled(bus)
        assert bus.subscription("model").errors == 0


@virtual
async def test_an_event_of_another_key_or_type_leaves_the_call_alone():
    model = Model()
    async with EventBus() as bus:
        bus.subscribe(
            [EventType.MARKET_DATA, EventType.FILL], model.on_event, name="model", supersede="symbol"
        )
        for event in (a_tick(1.0), a_tick(2.0, "NQ"), a_fill()):
            await bus.publish(event)
            await asyncio.sleep(5)
        await bus.join()
        assert model.let_go == []
        assert len(model.handled) == 3


@virtual
async def test_what_waits_is_superseded_as_well_so_that_the_newest_of_each_key_is_what_is_handled():
    model = Model(takes_s=10)
    async with EventBus() as bus:
        bus.subscribe(EventType.MARKET_DATA, model.on_event, name="model", supersede="symbol")
        for price in range(1, 6):
            await bus.publish(a_tick(float(price), "ES"))
            await bus.publish(a_tick(float(price), "NQ"))
            await asyncio.sleep(1)
        await bus.join()
        assert [(t.symbol, t.price) for t in model.handled] == [("ES", 5.0), ("NQ", 5.0)]
        found = row(bus, "model")
        assert (found.accepted, found.handled, found.conflated) == (10, 2, 8)


@virtual
async def test_with_several_calls_at_a_time_only_the_one_of_the_key_is_ended():
    model = Model()
    async with EventBus() as bus:
        bus.subscribe(EventType.MARKET_DATA, model.on_event, name="model", supersede="symbol", concurrency=3)
        for symbol in ("ES", "NQ", "CL"):
            await bus.publish(a_tick(1.0, symbol))
        await asyncio.sleep(5)
        await bus.publish(a_tick(2.0, "NQ"))
        await bus.join()
        assert [tick.symbol for tick in model.let_go] == ["NQ"]
        assert sorted((t.symbol, t.price) for t in model.handled) == [("CL", 1.0), ("ES", 1.0), ("NQ", 2.0)]


@virtual
async def test_a_key_may_be_a_function_and_one_that_raises_supersedes_nothing():
    model = Model(takes_s=5)

    def key(event: Any) -> Any:
        return {}[event.symbol] if event.symbol == "odd" else event.symbol[0]

    async with EventBus() as bus:
        bus.subscribe(EventType.MARKET_DATA, model.on_event, name="model", supersede=key)
        for symbol in ("odd", "odd", "ES", "EZ"):
            await bus.publish(a_tick(1.0, symbol))
            await asyncio.sleep(1)
        await bus.join()
        assert [tick.symbol for tick in model.handled] == ["odd", "odd", "EZ"]


@virtual
async def test_a_failed_event_is_not_tried_again_when_something_newer_has_come():
    tries: list[float] = []

    async def handler(event: Any) -> None:
        tries.append(event.price)
        if event.price == 1.0:
            raise ValueError("no")

    async with EventBus() as bus:
        policy = RetryPolicy(attempts=10, first_s=10.0, factor=1, max_s=10.0, jitter=0)
        bus.subscribe(EventType.MARKET_DATA, handler, name="model", supersede="symbol", retry=policy)
        await bus.publish(a_tick(1.0))
        await asyncio.sleep(5)
        await bus.publish(a_tick(2.0))
        await bus.join()
        assert tries == [1.0, 2.0]
        found = row(bus, "model")
        assert (found.handled, found.conflated) == (1, 1)
        assert_balanced(bus)


@virtual
async def test_a_call_that_swallows_the_cancellation_is_abandoned_and_named_and_the_newer_goes_on():
    gate = Gate()
    begun: list[float] = []

    async def handler(event: Any) -> None:
        begun.append(event.price)
        if event.price == 1.0:
            while not gate.handled:
                with suppress(asyncio.CancelledError):
                    await gate.on_event(event)

    config = HealthCheckConfig(recover=False)
    async with EventBus(health_check_config=config) as bus:
        subscription = bus.subscribe(EventType.MARKET_DATA, handler, name="model", supersede="symbol")
        await bus.publish(a_tick(1.0))
        await asyncio.sleep(1)
        await bus.publish(a_tick(2.0))
        await asyncio.sleep(3)
        assert begun == [1.0, 2.0]
        assert subscription.abandoned == 1
        assert [f.check for f in (await bus.check_health()).findings] == ["abandoned"]
        found = row(bus, "model")
        assert (found.handled, found.conflated, found.in_flight) == (1, 1, 0)
        gate.open()
        await asyncio.sleep(0.01)
        assert subscription.abandoned == 0
        assert row(bus, "model").handled == 1  # it was settled when it was superseded


@virtual
async def test_a_handler_that_ends_in_spite_of_the_cancellation_has_handled_its_event():
    handled: list[float] = []

    async def handler(event: Any) -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(0.1)  # it puts away what it has
        handled.append(event.price)

    async with EventBus() as bus:
        bus.subscribe(EventType.MARKET_DATA, handler, name="model", supersede="symbol")
        await bus.publish(a_tick(1.0))
        await asyncio.sleep(1)
        await bus.publish(a_tick(2.0))
        await bus.join()
        assert handled == [1.0, 2.0]
        found = row(bus, "model")
        assert (found.handled, found.conflated) == (2, 0)


@virtual
async def test_what_was_superseded_stays_settled_after_a_crash():
    journal, model = MemoryJournal(), Model(takes_s=10)
    orders = [a_tick(float(price)) for price in (1, 2)]
    bus = EventBus(journal=journal)
    bus.subscribe(EventType.MARKET_DATA, model.on_event, name="model", supersede="symbol")
    await bus.start()
    await bus.publish(orders[0], level="process")
    await asyncio.sleep(1)
    await bus.publish(orders[1], level="process")
    await bus.join()
    await bus.stop()
    again = Model(takes_s=10)
    async with EventBus(journal=journal) as bus:
        bus.subscribe(EventType.MARKET_DATA, again.on_event, name="model", supersede="symbol")
        await bus.join()
    assert again.begun == []


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"overflow": "drop_oldest"}, "leave overflow out"),
        ({"blocking": True}, "cannot be ended"),
    ],
    ids=str,
)
def test_what_does_not_go_together_is_refused(options, match):
    with pytest.raises(SubscriptionError, match=match):
        EventBus().subscribe(EventType.MARKET_DATA, lambda _e: None, supersede="symbol", **options)
    EventBus().subscribe(
        EventType.MARKET_DATA, lambda _e: None, supersede="symbol", overflow=Conflate("symbol")
    )
