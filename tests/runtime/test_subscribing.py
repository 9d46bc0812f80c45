"""Subscribing (CONTRACT 8, 26, 29): what a handler may be, its types, its one mailbox, and its end."""

import asyncio
import functools
import gc
import weakref
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any, Optional, Protocol, Union
from unittest.mock import AsyncMock, MagicMock, Mock

import pytest
from bus_helpers import (
    Desk,
    Failing,
    Gate,
    a_fill,
    a_kill,
    a_signal,
    a_tick,
    an_order,
    assert_balanced,
    assert_settled,
    row,
    ticks,
    virtual,
)

from openoutcry import (
    BackpressureConfig,
    ConfigError,
    Conflate,
    DropOldest,
    DuplicateName,
    Event,
    EventBus,
    EventType,
    FillEvent,
    MarketDataEvent,
    NotSubscribed,
    OrderEvent,
    RetryPolicy,
    SubscriptionError,
)
from openoutcry import (
    Gate as GateOverflow,
)

if TYPE_CHECKING:
    from decimal import Decimal as OnlyForTypeCheckers


class Kind(Enum):
    NEWS = "news"
    NUMBER = 3


class FirmTick(MarketDataEvent, kw_only=True):
    desk: str = ""


# -- handlers of all kinds -----------------------------------------------------------------------------------


@virtual
async def test_every_kind_of_callable_is_a_handler():
    heard: list[str] = []

    async def coroutine_function(_event: Any) -> None:
        await asyncio.sleep(0)
        heard.append("coroutine function")

    def plain_function(_event: Any) -> None:
        heard.append("plain function")

    def with_word(word: str, _event: Any) -> None:
        heard.append(word)

    async def with_word_later(word: str, _event: Any) -> None:
        await asyncio.sleep(0)
        heard.append(word)

    class Agent:
        async def method(self, _event: Any) -> None:
            heard.append("method")

        @classmethod
        async def class_method(cls, _event: Any) -> None:
            heard.append("class method")

        @staticmethod
        def static_method(_event: Any) -> None:
            heard.append("static method")

        def __call__(self, _event: Any) -> None:
            heard.append("callable object")

    class LaterCall:
        async def __call__(self, _event: Any) -> None:
            await asyncio.sleep(0)
            heard.append("awaitable object call")

    @functools.wraps(coroutine_function)
    def decorated(event: Any) -> Any:
        heard.append("decorated")
        return coroutine_function(event)

    def future(_event: Any) -> "asyncio.Future[None]":
        made = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(1, lambda: (heard.append("future"), made.set_result(None)))
        return made

    handlers = [
        coroutine_function,
        plain_function,
        functools.partial(with_word, "partial"),
        functools.partial(with_word_later, "partial coroutine"),
        functools.partial(functools.partial(with_word), "partial of a partial"),
        Agent().method,
        Agent.class_method,
        Agent.static_method,
        Agent(),
        LaterCall(),
        lambda event: with_word_later("lambda", event),
        decorated,
        future,
    ]
    async with EventBus() as bus:
        for handler in handlers:
            bus.subscribe("*", handler)  # type: ignore[call-overload]
        await bus.publish(a_tick())
        await bus.join()
        assert sorted(heard) == sorted(
            [
                "awaitable object call",
                "callable object",
                "class method",
                "coroutine function",
                "coroutine function",
                "decorated",
                "future",
                "lambda",
                "method",
                "partial",
                "partial coroutine",
                "partial of a partial",
                "plain function",
                "static method",
            ]
        )
        assert_settled(bus)


@pytest.mark.parametrize("kind", [AsyncMock, MagicMock, Mock])
@virtual
async def test_mocks_are_handlers(kind):
    async with EventBus() as bus:
        mock = kind(return_value=None)
        bus.subscribe(EventType.MARKET_DATA, mock)
        event = a_tick()
        await bus.publish(event)
        await bus.join()
        mock.assert_called_once_with(event)
        if kind is AsyncMock:
            mock.assert_awaited_once_with(event)
        bus.unsubscribe(EventType.MARKET_DATA, mock)
        assert bus.subscriptions == ()


@virtual
async def test_a_built_in_method_is_a_handler():
    heard: list[Any] = []
    async with EventBus() as bus:
        bus.subscribe(EventType.MARKET_DATA, heard.append)
        bus.subscribe(EventType.FILL, heard.append)
        assert len(bus.subscriptions) == 1
        events = [a_tick(), a_fill()]
        await bus.publish_many(events)
        await bus.join()
        assert {e.event_id for e in heard} == {e.event_id for e in events}


@virtual
async def test_equal_callable_objects_are_two_handlers_and_need_not_be_hashable():
    @dataclass
    class Counter:
        count: int = 0

        def __call__(self, _event: Any) -> None:
            self.count += 1

    async with EventBus() as bus:
        one, two = Counter(), Counter()
        assert bus.subscribe("*", one) is not bus.subscribe("*", two)
        await bus.publish(a_tick())
        await bus.join()
        assert (one.count, two.count) == (1, 1)
        bus.unsubscribe("*", one)
        await bus.publish(a_tick())
        await bus.join()
        assert (one.count, two.count) == (1, 2)


@virtual
async def test_what_cannot_be_a_handler_is_refused_at_once():
    async def generates(event: Any) -> Any:
        yield event

    def generates_plainly(event: Any) -> Any:
        yield event

    async with EventBus() as bus:
        for thing in (None, 3, "handler", Desk()):
            with pytest.raises(SubscriptionError, match="must be a function"):
                bus.subscribe("*", thing)  # type: ignore[call-overload]
        for thing in (generates, generates_plainly, functools.partial(generates)):  # type: ignore[assignment]
            with pytest.raises(SubscriptionError, match="runs nothing"):
                bus.subscribe("*", thing)  # type: ignore[call-overload]
        assert bus.subscriptions == ()


# -- types ---------------------------------------------------------------------------------------------------


@virtual
async def test_a_handler_subscribes_by_string_member_enum_class_and_everything():
    desks = {name: Desk() for name in ("string", "member", "enum", "class", "base", "all", "own")}
    async with EventBus() as bus:
        bus.subscribe("market_data", desks["string"].on_event)
        bus.subscribe(EventType.MARKET_DATA, desks["member"].on_event)
        bus.subscribe(Kind.NEWS, desks["enum"].on_event)
        bus.subscribe(MarketDataEvent, desks["class"].on_event)
        bus.subscribe(Event, desks["base"].on_event)
        bus.subscribe("*", desks["all"].on_event)
        bus.subscribe(FirmTick, desks["own"].on_event)
        tick, own, news = a_tick(), FirmTick(symbol="ES", price=2.0), Event(event_type="news")
        for event in (tick, own, news):
            await bus.publish(event)
        await bus.join()
        assert desks["string"].handled == desks["member"].handled == [tick, own]
        assert desks["class"].handled == [tick, own], "subclasses are included"
        assert desks["own"].handled == [own]
        assert desks["enum"].handled == [news]
        assert desks["base"].handled == desks["all"].handled == [tick, own, news]


@virtual
async def test_a_list_a_tuple_or_a_set_of_types_is_one_mailbox():
    """CONTRACT 29."""
    async with EventBus() as bus:
        for many in (
            ["fill", OrderEvent],
            ("fill", OrderEvent),
            {"fill", OrderEvent},
            frozenset({"fill", OrderEvent}),
        ):
            desk = Desk()
            subscription = bus.subscribe(many, desk.on_event)
            assert subscription.types == ("OrderEvent", "fill")
            await bus.publish(a_fill())
            await bus.publish(an_order())
            await bus.join()
            assert len(desk.handled) == 2


@pytest.mark.parametrize(
    "bad", [None, 3, "", [], [3], Kind.NUMBER, [EventType.FILL, None], {}, object()], ids=repr
)
@virtual
async def test_what_is_no_type_is_refused(bad):
    async with EventBus() as bus:
        with pytest.raises(SubscriptionError):
            bus.subscribe(bad, Desk().on_event)
        with pytest.raises(SubscriptionError):
            bus.unsubscribe(bad, Desk().on_event)
        assert bus.subscriptions == ()


@virtual
async def test_a_protocol_that_cannot_be_asked_is_refused_before_it_harms_others():
    class Priced(Protocol):
        price: float

    async with EventBus() as bus:
        desk = Desk()
        bus.subscribe("*", desk.on_event)
        with pytest.raises(SubscriptionError, match="Priced"):
            bus.subscribe(Priced, Desk().on_event)
        await bus.publish(a_tick())
        await bus.join()
        assert len(desk.handled) == 1


@virtual
async def test_an_event_that_matches_in_several_ways_is_handled_once():
    """CONTRACT 29."""
    desk = Desk()
    async with EventBus() as bus:
        bus.subscribe(["market_data", EventType.MARKET_DATA, MarketDataEvent, Event, "*"], desk.on_event)
        await bus.publish(a_tick())
        await bus.join()
        assert len(desk.handled) == 1


@virtual
async def test_the_same_handler_on_several_types_is_one_subscription_and_never_races_itself():
    """CONTRACT 29."""
    desk = Desk(takes_s=1)
    async with EventBus() as bus:
        first = bus.subscribe(EventType.MARKET_DATA, desk.on_event)
        assert bus.subscribe(EventType.ORDER, desk.on_event) is first
        assert bus.subscribe([EventType.FILL, EventType.ORDER], desk.on_event) is first
        for event in (a_tick(), an_order(), a_fill()):
            await bus.publish(event)
        await bus.join()
        assert len(desk.handled) == 3
        assert desk.most_at_once == 1
        assert first.types == ("fill", "market_data", "order")


@virtual
async def test_the_same_method_of_two_agents_is_two_subscriptions():
    """CONTRACT 29."""
    one, two = Desk(), Desk()
    async with EventBus() as bus:
        first, second = bus.subscribe("*", one.on_event), bus.subscribe("*", two.on_event)
        assert first is not second
        assert (first.name, second.name) == ("Desk.on_event", "Desk.on_event#2")
        await bus.publish(a_tick())
        await bus.join()
        assert len(one.handled) == len(two.handled) == 1


# -- names and options ---------------------------------------------------------------------------------------


@virtual
async def test_names_come_from_the_agent_and_its_method_or_are_given():
    class Named:
        name = "momentum"

        async def on_tick(self, _event: Any) -> None: ...

    class Odd:
        agent_name = "value"

        async def on_tick(self, _event: Any) -> None: ...

    async with EventBus() as bus:
        assert bus.subscribe("*", Named().on_tick).name == "momentum.on_tick"
        assert bus.subscribe("*", Odd().on_tick).name == "value.on_tick"
        assert bus.subscribe("*", Desk().on_event, name="mine").name == "mine"
        assert bus.subscription("mine").name == "mine"
        with pytest.raises(DuplicateName, match="'mine'"):
            bus.subscribe("*", Desk().on_event, name="mine")
        for bad in ("", 3):
            with pytest.raises(SubscriptionError, match="non-empty string"):
                bus.subscribe("*", Desk().on_event, name=bad)  # type: ignore[arg-type]
        with pytest.raises(NotSubscribed, match="'nobody'"):
            bus.subscription("nobody")


@virtual
async def test_a_further_type_may_not_bring_other_options():
    desk, owner = Desk(), Desk()
    async with EventBus() as bus:
        policy = RetryPolicy(attempts=2)
        bus.subscribe("a", desk.on_event, name="desk", timeout_s=2.0, retry=policy)
        for options in (
            {"timeout_s": 3.0},
            {"name": "other"},
            {"keep": True},
            {"overflow": "conflate"},
            {"owner": owner},
        ):
            with pytest.raises(SubscriptionError, match="desk"):
                bus.subscribe("b", desk.on_event, **options)
        assert bus.subscription("desk").types == ("a",)
        bus.subscribe("b", desk.on_event)
        bus.subscribe("c", desk.on_event, name="desk", timeout_s=2.0, retry=policy)
        assert bus.subscription("desk").types == ("a", "b", "c")


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"timeout_s": 0}, ConfigError),
        ({"timeout_s": -1}, ConfigError),
        ({"timeout_s": "2"}, ConfigError),
        ({"max_age_s": 0}, ConfigError),
        ({"max_age_s": float("nan")}, ConfigError),
        ({"concurrency": 0}, ConfigError),
        ({"concurrency": 1.5}, ConfigError),
        ({"overflow": "drop"}, ConfigError),
        ({"overflow": None}, ConfigError),
        ({"retry": 3}, SubscriptionError),
    ],
    ids=str,
)
@virtual
async def test_options_out_of_range_are_refused_and_nothing_is_subscribed(options, error):
    async with EventBus() as bus:
        with pytest.raises(error):
            bus.subscribe("*", Desk().on_event, **options)
        assert bus.subscriptions == ()


@virtual
async def test_overflow_policies_are_given_by_name_or_as_themselves():
    async with EventBus() as bus:
        for policy in ("gate", "conflate", "drop_oldest", GateOverflow(), Conflate("symbol"), DropOldest(7)):
            bus.subscribe("*", Desk().on_event, overflow=policy)
        assert len(bus.subscriptions) == 6


# -- bus.on --------------------------------------------------------------------------------------------------


@virtual
async def test_on_takes_the_types_from_the_annotation():
    heard: list[tuple[str, str]] = []
    async with EventBus() as bus:

        @bus.on
        async def plain(event: MarketDataEvent) -> None:
            heard.append(("plain", str(event.event_type)))

        @bus.on()
        async def called(event: MarketDataEvent | FillEvent) -> None:
            heard.append(("union", str(event.event_type)))

        @bus.on(timeout_s=5)
        async def old_union(event: Union[OrderEvent, FillEvent]) -> None:  # noqa: UP007 - the older spelling
            heard.append(("old union", str(event.event_type)))

        @bus.on
        def as_string(event: "FirmTick") -> None:
            heard.append(("string", str(event.event_type)))

        @bus.on
        def annotated(event: Annotated[OrderEvent, "an order"]) -> None:
            heard.append(("annotated", str(event.event_type)))

        for event in (FirmTick(symbol="ES", price=1.0), a_tick(), a_fill(), an_order()):
            await bus.publish(event)
        await bus.join()
        assert sorted(heard) == [
            ("annotated", "order"),
            ("old union", "fill"),
            ("old union", "order"),
            ("plain", "market_data"),
            ("plain", "market_data"),
            ("string", "market_data"),
            ("union", "fill"),
            ("union", "market_data"),
            ("union", "market_data"),
        ]
        assert callable(plain)
        assert (
            bus.subscription("test_on_takes_the_types_from_the_annotation.old_union").options.timeout_s == 5
        )


@virtual
async def test_on_takes_types_and_options_and_gives_the_function_back():
    async with EventBus() as bus:
        desk = Desk()

        async def handler(event: Any) -> None:
            await desk.on_event(event)

        assert bus.on(EventType.FILL, OrderEvent, name="given", keep=True)(handler) is handler
        assert bus.on("news")(handler) is handler
        assert bus.on(["a", "b"], "c")(handler) is handler
        assert bus.subscription("given").types == ("OrderEvent", "a", "b", "c", "fill", "news")
        await bus.publish(a_fill())
        await bus.publish(Event(event_type="b"))
        await bus.join()
        assert desk.types == ["fill", "b"]


@virtual
async def test_on_takes_methods_partials_and_callable_objects():
    heard: list[str] = []

    class Agent:
        async def on_tick(self, event: MarketDataEvent) -> None:
            heard.append("method")

        async def __call__(self, event: MarketDataEvent) -> None:
            heard.append("object")

    def worded(event: MarketDataEvent, word: str) -> None:
        heard.append(word)

    agent = Agent()
    async with EventBus() as bus:
        bus.on(agent.on_tick)
        bus.on(agent)
        bus.on(functools.partial(worded, word="partial"))
        bus.on(name="second")(Agent())
        await bus.publish(a_tick())
        await bus.join()
        assert sorted(heard) == ["method", "object", "object", "partial"]


@virtual
async def test_on_refuses_what_names_no_event_class():
    def bare(event): ...

    def nothing(): ...

    def optional(event: Optional[MarketDataEvent]): ...  # noqa: UP045 - the older spelling

    def loose(event: Any): ...

    def hidden(event: "OnlyForTypeCheckers"): ...

    def misspelt(event: "NoSuchEvent"): ...  # type: ignore[name-defined]  # noqa: F821 - that is the point

    async with EventBus() as bus:
        for function in (bare, nothing, optional, loose, hidden, misspelt):
            with pytest.raises(SubscriptionError, match=function.__name__):
                bus.on(function)
            with pytest.raises(SubscriptionError):
                bus.on()(function)
        assert bus.subscriptions == ()


# -- before, during and inside -------------------------------------------------------------------------------


@virtual
async def test_a_subscription_gets_what_is_accepted_from_now_on():
    early, late = Desk(), Desk()
    async with EventBus() as bus:
        bus.subscribe("*", early.on_event)
        await bus.publish(a_tick(1.0))
        bus.subscribe("*", late.on_event)
        await bus.publish(a_tick(2.0))
        await bus.join()
        assert (early.prices, late.prices) == ([1.0, 2.0], [2.0])


@virtual
async def test_a_subscription_before_the_start_gets_what_was_published_before_it():
    desk = Desk()
    bus = EventBus()
    await bus.publish(a_tick(1.0))
    bus.subscribe("*", desk.on_event)
    await bus.publish(a_tick(2.0))
    assert desk.handled == []
    async with bus:
        await bus.join()
        assert desk.prices == [1.0, 2.0]


@virtual
async def test_handlers_subscribe_and_unsubscribe_each_other_and_themselves():
    newcomer = Desk()
    async with EventBus() as bus:
        calls: list[float] = []

        async def first(event: Any) -> None:
            calls.append(event.price)
            bus.subscribe("*", newcomer.on_event)
            bus.unsubscribe("*", first)
            bus.subscribe("*", third)

        async def third(event: Any) -> None:
            calls.append(-event.price)
            bus.unsubscribe("*", third)

        bus.subscribe("*", first, name="first")
        await bus.publish_many(ticks(3))
        await bus.join()
        await bus.publish_many(ticks(2, 10))
        await bus.join()
        assert calls == [1.0, -10.0]
        assert newcomer.prices == [10.0, 11.0]
        assert row(bus, "first").withdrawn == 2
        assert_settled(bus)


@virtual
async def test_a_handler_publishes_to_subscriptions_that_it_makes():
    heard = Desk()
    async with EventBus() as bus:

        async def handler(_event: Any) -> None:
            bus.subscribe(EventType.FILL, heard.on_event)
            await bus.publish(a_fill())

        bus.subscribe(EventType.ORDER, handler)
        await bus.publish(an_order())
        await bus.join()
        assert len(heard.handled) == 1


# -- unsubscribing -------------------------------------------------------------------------------------------


@virtual
async def test_what_waits_for_an_unsubscribed_handler_is_withdrawn_and_its_call_in_hand_ends():
    """CONTRACT 7."""
    gate, other = Gate(), Desk()
    async with EventBus() as bus:
        bus.subscribe("*", gate.on_event, name="gate")
        bus.subscribe("*", other.on_event, name="other")
        await bus.publish_many(ticks(5))
        await asyncio.sleep(1)
        bus.unsubscribe("*", gate.on_event)
        found = row(bus, "gate")
        assert (found.accepted, found.withdrawn, found.in_flight, found.waiting) == (5, 4, 1, 0)
        await bus.publish_many(ticks(5))
        gate.open()
        await bus.join()
        assert len(gate.handled) == 1
        assert len(other.handled) == 10
        assert row(bus, "gate").handled == 1
        assert_settled(bus)
        with pytest.raises(NotSubscribed):
            bus.unsubscribe("*", gate.on_event)


@virtual
async def test_unsubscribing_one_type_withdraws_only_its_events():
    """CONTRACT 7."""
    desk = Desk()
    async with EventBus() as bus:
        subscription = bus.subscribe(
            [EventType.MARKET_DATA, EventType.FILL, EventType.KILL_SWITCH], desk.on_event, name="desk"
        )
        subscription.pause()
        for event in (a_tick(1.0), a_fill(), a_tick(2.0), a_tick(3.0)):
            await bus.publish(event)
        bus.unsubscribe(EventType.MARKET_DATA, desk.on_event)
        assert subscription.types == ("fill", "kill_switch")
        await bus.publish(a_tick(4.0))
        subscription.resume()
        await bus.join()
        assert desk.types == ["fill"]
        assert row(bus, "desk").withdrawn == 3
        assert row(bus, "desk").accepted == 3
        assert_settled(bus)


@virtual
async def test_a_failing_event_of_an_unsubscribed_handler_is_withdrawn_not_left_waiting():
    """CONTRACT 7."""
    async with EventBus() as bus:

        async def failing(_event: Any) -> None:
            await asyncio.sleep(1)
            raise ValueError

        bus.subscribe("*", failing, name="failing")
        await bus.publish(a_tick())
        await asyncio.sleep(0.5)
        bus.unsubscribe("*", failing)
        await bus.join()
        found = row(bus, "failing")
        assert (found.withdrawn, found.waiting, found.in_flight) == (1, 0, 0)
        assert_settled(bus)


@virtual
async def test_joining_waits_for_the_call_in_hand_of_an_unsubscribed_handler():
    gate = Gate()
    async with EventBus() as bus:
        bus.subscribe("*", gate.on_event)
        await bus.publish(a_tick())
        await asyncio.sleep(1)
        bus.unsubscribe("*", gate.on_event)
        joining = asyncio.create_task(bus.join())
        await asyncio.sleep(10)
        assert not joining.done()
        gate.open()
        await joining
        assert_settled(bus)


@virtual
async def test_a_worker_that_gives_way_to_a_kill_switch_while_its_subscription_ends_ends_too():
    """CONTRACT 8."""
    desk, other = Desk(), Desk()
    async with EventBus() as bus:
        bus.subscribe(["market_data", "kill_switch"], desk.on_event, name="leaver")
        bus.subscribe("*", other.on_event)
        await bus.publish(a_tick())
        await bus.publish(a_kill())
        await asyncio.sleep(0)
        bus.unsubscribe(["market_data", "kill_switch"], desk.on_event)
        await asyncio.sleep(1)
        assert [task for task in asyncio.all_tasks() if task.get_name() == "openoutcry:leaver"] == []
        async with asyncio.timeout(60):
            await bus.join()
        assert_settled(bus)


@virtual
async def test_an_ended_subscription_does_not_keep_its_agent_alive_and_its_dead_letters_can_still_be_read():
    """CONTRACT 26, 10."""
    async with EventBus() as bus:
        agent = Failing()
        gone = weakref.ref(agent)
        bus.subscribe("*", agent.on_event, name="agent", retry=False)
        event = a_tick()
        await bus.publish(event)
        await bus.join()
        bus.unsubscribe("*", agent.on_event)
        await asyncio.sleep(0.001)
        del agent
        gc.collect()
        assert gone() is None
        (letter,) = bus.dead_letters()
        assert (letter.subscription, letter.event) == ("agent", event)
        assert bus.dead_letters("agent") == [letter], "they belong to the name"
        assert row(bus, "agent").dead_lettered == 1


@virtual
async def test_a_failure_after_the_end_of_the_subscription_is_on_record_and_its_agent_may_go():
    """CONTRACT 7, 26: the call in hand at the end still uses the agent, and nothing does after it."""

    class Agent:
        async def on_event(self, _event: Any) -> None:
            await asyncio.sleep(1)
            raise ValueError

    async with EventBus() as bus:
        agent = Agent()
        gone = weakref.ref(agent)
        bus.subscribe("*", agent.on_event, name="agent", retry=False)
        await bus.publish(a_tick())
        await asyncio.sleep(0.5)
        bus.unsubscribe("*", agent.on_event)
        del agent
        await bus.join()
        await asyncio.sleep(1)
        gc.collect()
        assert gone() is None
        assert len(bus.dead_letters()) == 1
        assert_settled(bus)


@virtual
async def test_a_handler_may_be_subscribed_again_after_its_end():
    desk = Desk()
    async with EventBus() as bus:
        first = bus.subscribe("*", desk.on_event, name="desk")
        bus.unsubscribe("*", desk.on_event)
        second = bus.subscribe("*", desk.on_event, name="desk")
        assert second is not first
        assert first.state() == "ended"
        await bus.publish(a_tick())
        await bus.join()
        assert len(desk.handled) == 1


@virtual
async def test_a_thousand_agents_that_come_and_go_leave_a_bounded_and_balanced_ledger():
    async with EventBus() as bus:
        for _ in range(1_000):
            desk = Desk()
            bus.subscribe("*", desk.on_event, name="guest")
            await bus.publish(a_tick())
            await bus.join()
            bus.unsubscribe("*", desk.on_event)
        rows = bus.ledger().rows
        assert len(rows) < 1_000
        assert sum(r.handled for r in rows) == 1_000
        assert_settled(bus)


# -- owners --------------------------------------------------------------------------------------------------


class Slim:
    """An agent that dies with its last reference."""

    __slots__ = ("__weakref__", "heard")

    def __init__(self, heard: list[Any]) -> None:
        self.heard = heard

    async def on_event(self, event: Any) -> None:
        self.heard.append(event)


@virtual
async def test_a_subscription_ends_with_its_owner():
    """CONTRACT 26: dead is who has no owner any more."""
    heard: list[Any] = []
    async with EventBus() as bus:
        agent = Slim(heard)
        bus.subscribe("*", agent.on_event, owner=agent, name="agent")
        await bus.publish(a_tick())
        await bus.join()
        assert len(heard) == 1
        del agent
        gc.collect()
        await asyncio.sleep(0)
        assert bus.subscriptions == ()
        await bus.publish(a_tick())
        await bus.join()
        assert len(heard) == 1
        assert_settled(bus)


@virtual
async def test_without_an_owner_the_bus_keeps_the_agent_alive():
    heard: list[Any] = []
    async with EventBus() as bus:
        bus.subscribe("*", Slim(heard).on_event)
        gc.collect()
        await bus.publish(a_tick())
        await bus.join()
        assert len(heard) == 1


@virtual
async def test_an_owner_may_be_somebody_else_than_the_handlers_instance():
    class Session: ...

    async with EventBus() as bus:
        desk, session = Desk(), Session()
        bus.subscribe("*", desk.on_event, owner=session)
        await bus.publish(a_tick())
        await bus.join()
        del session
        gc.collect()
        await asyncio.sleep(0)
        assert bus.subscriptions == ()
        assert len(desk.handled) == 1


@virtual
async def test_an_agent_made_where_a_gone_one_lay_gets_a_subscription_and_the_name_of_its_own():
    heard: list[Any] = []
    async with EventBus() as bus:
        for _ in range(20):
            agent = Slim(heard)
            bus.subscribe("*", agent.on_event, owner=agent, name="agent")
            event = a_tick()
            await bus.publish(event)
            await bus.join()
            assert heard[-1] is event
            del agent
        assert len(heard) == 20
        assert_settled(bus)


@virtual
async def test_an_owner_that_goes_with_events_waiting_leaves_them_withdrawn():
    """CONTRACT 7."""
    heard: list[Any] = []
    async with EventBus() as bus:
        agent = Slim(heard)
        bus.subscribe("*", agent.on_event, owner=agent, name="agent").pause()
        await bus.publish_many(ticks(3))
        await asyncio.sleep(0)
        del agent
        gc.collect()
        await asyncio.sleep(0)
        assert row(bus, "agent").withdrawn == 3
        assert heard == []
        assert_settled(bus)


@virtual
async def test_an_owner_that_goes_before_the_start_takes_its_subscription_along():
    bus = EventBus()
    agent = Slim([])
    bus.subscribe("*", agent.on_event, owner=agent)
    del agent
    gc.collect()
    assert bus.subscriptions == ()
    await bus.start()
    await bus.publish(a_tick())
    await bus.stop()


# -- idle handlers -------------------------------------------------------------------------------------------


@virtual
async def test_cleaning_up_ends_those_idle_for_longer_than_asked():
    """CONTRACT 26: idle counts from the last call or, before any, from subscribing."""
    called, never, lately = Desk(), Desk(), Desk()
    async with EventBus() as bus:
        bus.subscribe("a", called.on_event, name="called")
        bus.subscribe("b", never.on_event, name="never")
        await asyncio.sleep(500)
        await bus.publish(Event(event_type="a"))
        await bus.join()
        bus.subscribe("c", lately.on_event, name="lately")
        await asyncio.sleep(200)
        assert bus.cleanup_dead_handlers() == 1
        assert [s.name for s in bus.subscriptions] == ["called", "lately"]
        assert bus.cleanup_dead_handlers(200) == 0, "longer than, not as long as"
        assert bus.cleanup_dead_handlers(199.9) == 2
        assert bus.cleanup_dead_handlers(0) == 0


@virtual
async def test_cleaning_up_spares_those_who_wait_for_what_is_rare_or_were_told_to_stay():
    """CONTRACT 26."""
    async with EventBus() as bus:
        for types in (
            "kill_switch",
            "fill",
            "risk_alert",
            "validated_decision",
            FillEvent,
            Event,
            "*",
            ["a", "fill"],
        ):
            bus.subscribe(types, Desk().on_event)
        bus.subscribe("a", Desk().on_event, keep=True)
        await asyncio.sleep(3600 * 24 * 90)
        assert bus.cleanup_dead_handlers() == 0
        assert len(bus.subscriptions) == 9


@virtual
async def test_cleaning_up_spares_those_with_work():
    """CONTRACT 26, 7."""
    gate, waiting, staged = Gate(), Desk(), Desk()
    async with EventBus() as bus:
        bus.subscribe("a", gate.on_event)
        bus.subscribe("b", waiting.on_event).pause()
        bus.subscribe("c", staged.on_event)
        await bus.publish(Event(event_type="a"))
        await bus.publish(Event(event_type="b"))
        await asyncio.sleep(3600)
        await bus.publish(Event(event_type="c"))
        assert bus.cleanup_dead_handlers(1) == 0
        gate.open()
        for subscription in bus.subscriptions:
            subscription.resume()
        await bus.join()
        assert len(gate.handled) == len(waiting.handled) == len(staged.handled) == 1


@virtual
async def test_cleaning_up_refuses_a_time_that_is_none():
    async with EventBus() as bus:
        for bad in (-1, float("nan"), "600", None):
            with pytest.raises(ConfigError):
                bus.cleanup_dead_handlers(bad)  # type: ignore[arg-type]


def test_idling_counts_from_the_start_for_a_bus_made_outside_of_a_loop():
    from openoutcry.testing import run_virtual  # noqa: PLC0415 - beside the one test that is not virtual as a whole

    bus = EventBus()
    bus.subscribe("a", Desk().on_event)

    async def main() -> None:
        async with bus:
            await asyncio.sleep(601)
            assert bus.cleanup_dead_handlers() == 1

    run_virtual(main())


@virtual
async def test_the_bus_itself_never_removes_an_idle_handler():
    """CONTRACT 26."""
    desk = Desk()
    async with EventBus() as bus:
        bus.subscribe("a", desk.on_event)
        await asyncio.sleep(3600 * 24 * 365)
        await bus.publish(Event(event_type="a"))
        await bus.join()
        assert len(desk.handled) == 1


@virtual
async def test_signals_and_kill_switches_of_an_owner_that_is_gone_reach_nobody_and_stop_nothing():
    heard: list[Any] = []
    async with EventBus() as bus:
        agent = Slim(heard)
        other = Desk()
        bus.subscribe(["signal", "kill_switch"], agent.on_event, owner=agent)
        bus.subscribe("*", other.on_event)
        del agent
        gc.collect()
        await bus.publish(a_kill())
        await bus.publish(a_signal("a"))
        await bus.join()
        assert heard == []
        assert sorted(other.types) == ["kill_switch", "signal"]
        assert_balanced(bus)


@virtual
async def test_an_owner_that_cannot_be_held_weakly_is_refused_and_leaves_nothing_behind():
    """CONTRACT 26: and a kill switch still gets through."""

    class Agent:
        __slots__ = ()

        async def on_event(self, event: Any) -> None:
            """Never called."""

    async with EventBus() as bus:
        agent, desk = Agent(), Desk()
        with pytest.raises(SubscriptionError, match="weakref"):
            bus.subscribe("*", agent.on_event, owner=agent)
        assert bus.subscriptions == ()
        bus.subscribe("*", desk.on_event)
        assert await bus.publish(a_kill())
        await bus.join()
        assert desk.types == ["kill_switch"]


@virtual
async def test_a_task_that_outlives_its_handler_waits_for_room_like_anybody_outside():
    """CONTRACT 6: only what the handler itself waits for is re-entrant."""
    config = BackpressureConfig(grace_s=1e6, cooldown_s=5)
    async with EventBus(max_queue_size=10, backpressure_config=config) as bus:
        gate, answers = Gate(), []
        bus.subscribe("fill", gate.on_event, name="gate")

        async def later() -> None:
            await asyncio.sleep(1)
            answers.append(await bus.publish(a_fill("late")))

        tasks = []

        async def spawns(_event: Any) -> None:
            tasks.append(asyncio.create_task(later()))

        bus.subscribe("order", spawns)
        await bus.publish(an_order())
        for number in range(11):
            assert await bus.publish(a_fill(str(number)))
        await asyncio.sleep(2)
        assert answers == []
        gate.open()
        await bus.join()
        await asyncio.gather(*tasks)
        assert answers == [True]
