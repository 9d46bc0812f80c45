"""Context variables: calls of one subscription share them, unless it is isolated; causes hold in both."""

import asyncio
from contextvars import ContextVar
from typing import Any

import pytest
from bus_helpers import a_kill, a_tick, an_order, ticks, virtual
from durable_kit import a_bus

from openoutcry import ConfigError, EventBus, EventType, MarketDataEvent, OrderEvent
from openoutcry.journals import MemoryJournal

seen_before: ContextVar[str | None] = ContextVar("seen_before", default=None)


class Leaky:
    """Notes what the call before left in the context, and leaves something itself."""

    def __init__(self) -> None:
        self.found: list[str | None] = []

    async def on_event(self, event: Any) -> None:
        await asyncio.sleep(0)
        self.on_event_plainly(event)
        await asyncio.sleep(0.1)
        assert seen_before.get() == event.event_id

    def on_event_plainly(self, event: Any) -> None:
        self.found.append(seen_before.get())
        seen_before.set(event.event_id)


@virtual
@pytest.mark.parametrize("method", ["on_event", "on_event_plainly"])
async def test_an_isolated_call_sees_nothing_of_the_calls_before_it(method):
    shared, isolated = Leaky(), Leaky()
    seen_before.set("at the start")
    async with EventBus() as bus:
        bus.subscribe("*", getattr(shared, method), name="shared")
        bus.subscribe("*", getattr(isolated, method), name="isolated", isolated=True)
        some = ticks(40)
        await bus.publish_many(some)
        await bus.join()
        assert shared.found == ["at the start", *(tick.event_id for tick in some[:-1])]
        assert isolated.found == ["at the start"] * 40
        await bus.publish(a_kill())
        await bus.join()
        assert isolated.found[-1] == "at the start"
        assert all(s.errors == 0 for s in bus.subscriptions)


@virtual
async def test_blocking_calls_are_isolated_anyway():
    leaky = Leaky()
    async with EventBus() as bus:
        bus.subscribe("*", leaky.on_event_plainly, blocking=True)
        await bus.publish_many(ticks(3))
        await bus.join()
    assert leaky.found == [None] * 3


@virtual
async def test_an_isolated_call_that_takes_too_long_is_cancelled_and_can_limit_itself():
    ended: list[str] = []

    async def hangs(event: MarketDataEvent) -> None:
        try:
            async with asyncio.timeout(1):
                await asyncio.Event().wait()
        except TimeoutError:
            ended.append("by itself")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append("by the bus")
            raise

    async with EventBus() as bus:
        s = bus.subscribe("*", hangs, isolated=True, timeout_s=2, retry=False)
        await bus.publish_many(ticks(2))
        await bus.join()
        assert (s.timeouts, ended) == (2, ["by itself", "by the bus"] * 2)
        assert "in hangs" in bus.dead_letters()[0].traceback


@virtual
@pytest.mark.parametrize("isolated", [False, True])
async def test_what_a_handler_publishes_has_its_cause_isolated_or_not(isolated):
    heard: list[OrderEvent] = []
    async with EventBus() as bus:

        async def in_a_task(tick: MarketDataEvent) -> None:
            await asyncio.sleep(1)
            await bus.publish(an_order(f"task {tick.price}"))

        async def on_tick(tick: MarketDataEvent) -> None:
            await asyncio.sleep(0.1)
            await bus.publish(an_order(str(tick.price)))
            asyncio.get_running_loop().create_task(in_a_task(tick))

        bus.subscribe(EventType.MARKET_DATA, on_tick, isolated=isolated)
        bus.subscribe(EventType.ORDER, heard.append)
        some = ticks(3)
        await bus.publish_many(some)
        await asyncio.sleep(5)
        wanted = {(name, t.event_id) for t in some for name in (str(t.price), f"task {t.price}")}
        assert {(order.order_id, order.causation_id) for order in heard} == wanted


@virtual
@pytest.mark.parametrize("isolated", [False, True])
@pytest.mark.parametrize("outbox", [False, True])
async def test_a_retry_publishes_nothing_twice_isolated_or_not(isolated, outbox):
    heard: list[str] = []
    tried: set[str] = set()
    async with a_bus(MemoryJournal(), levels={"market_data": "process"}) as bus:

        async def on_tick(tick: MarketDataEvent) -> None:
            await asyncio.sleep(0.1)
            await bus.publish(an_order(str(tick.price)))
            if tick.event_id not in tried:
                tried.add(tick.event_id)
                raise ValueError("once more")

        bus.subscribe(EventType.MARKET_DATA, on_tick, name="desk", isolated=isolated, outbox=outbox)
        bus.subscribe(EventType.ORDER, lambda event: heard.append(event.order_id), durable=False)
        await bus.publish_many(ticks(3))
        await bus.join()
    assert heard == ["1.0", "2.0", "3.0"]


@pytest.mark.parametrize("flag", ["keep", "durable", "outbox", "blocking", "isolated"])
def test_a_flag_is_true_or_false(flag):
    with pytest.raises(ConfigError, match=f"{flag} is 'yes'; it must be True or False"):
        EventBus().subscribe("*", Leaky().on_event, **{flag: "yes"})  # type: ignore[call-overload]


@virtual
async def test_an_isolated_coroutine_that_ends_at_once_is_no_special_case():
    async def at_once(event: Any) -> str:
        return "done"

    def a_future(event: Any) -> "asyncio.Future[None]":
        return asyncio.ensure_future(asyncio.sleep(0.1))

    async with EventBus() as bus:
        one = bus.subscribe("*", at_once, isolated=True)
        two = bus.subscribe("*", a_future, isolated=True)
        await bus.publish(a_tick())
        await bus.join()
        assert (one.handled, two.handled) == (1, 1)
