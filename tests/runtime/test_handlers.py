"""What can be a handler: whatever can be called with one event, and nothing else, told at subscribing."""

import asyncio
import contextlib
import functools
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any
from unittest.mock import AsyncMock, Mock, create_autospec

import pytest
from bus_helpers import a_tick, virtual

from openoutcry import EventBus, EventType, MarketDataEvent, SubscriptionError


class Agent:
    def __init__(self) -> None:
        self.heard: list[Any] = []

    async def on_tick(self, event: MarketDataEvent) -> None:
        self.heard.append(event)

    def on_nothing(self) -> None:
        raise AssertionError

    @staticmethod
    async def aside(event: MarketDataEvent) -> None:
        HEARD.append(event)

    @classmethod
    async def of_class(cls, event: MarketDataEvent) -> None:
        HEARD.append(event)


class PlainCallable:
    def __init__(self) -> None:
        self.heard: list[Any] = []

    def __call__(self, event: Any) -> None:
        self.heard.append(event)


class AsyncCallable(PlainCallable):
    async def __call__(self, event: Any) -> None:  # type: ignore[override]
        self.heard.append(event)


class GeneratingCallable:
    def __call__(self, event: Any) -> Any:
        yield event


HEARD: list[Any] = []


async def takes_one(event: Any) -> None:
    HEARD.append(event)


async def takes_none() -> None:
    raise AssertionError


async def takes_two(event: Any, book: Any) -> None:
    raise AssertionError


async def takes_keyword(event: Any, *, book: Any) -> None:
    raise AssertionError


async def only_keyword(*, event: Any) -> None:
    raise AssertionError


async def generates(event: Any) -> Any:
    yield event


def generates_plainly(event: Any) -> Any:
    yield event


def decorated(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


WRONG = [
    (takes_none, r"takes_none\(\) -> None cannot be called with an event: it takes no positional argument"),
    (lambda: None, "it takes no positional argument"),
    (takes_two, r"it needs 2 arguments \(event, book\); bind the others: partial\(f, book=\.\.\.\)"),
    (takes_keyword, r"it needs the keywords book; give defaults, or bind them: partial\(f, book=\.\.\.\)"),
    (only_keyword, "it takes no positional argument"),
    (functools.partial(takes_one, None), "it takes no positional argument"),
    (functools.partial(takes_two), "it needs 2 arguments"),
    (functools.cache(takes_none), "it takes no positional argument"),
    (Agent.on_tick, r"a method without its instance; .*agent\.on_tick"),
    (Agent.on_nothing, r"a method without its instance; .*agent\.on_nothing"),
    (Agent().on_nothing, "it takes no positional argument"),
    (Agent, "the handler is the class Agent: each event would only make an instance"),
    (functools.partial(Agent), "the handler is the class Agent"),
    (list, "the handler is the class list"),
    (None, "the handler is None; it must be a function of the event"),
    ("market_data", "The event type comes first"),
    (3, "the handler is 3, which cannot be called; it must be a function"),
    (Agent(), "which cannot be called"),
    (vars(Agent)["of_class"], "which cannot be called"),
    (generates, "generates is a generator function, and calling it runs nothing"),
    (generates_plainly, "runs nothing"),
    (functools.partial(generates), "runs nothing"),
    (GeneratingCallable(), "runs nothing"),
    (
        generates(None),
        r"what generates\(\.\.\.\) returned when it was called; give the function itself: generates",
    ),
    (create_autospec(takes_none), "it takes no positional argument"),
]


@pytest.mark.parametrize(("handler", "told"), WRONG)
def test_what_cannot_be_called_with_an_event_is_refused_with_what_to_write(handler, told):
    bus = EventBus()
    with pytest.raises(SubscriptionError, match=told):
        bus.subscribe("*", handler)
    with pytest.raises(SubscriptionError, match=told):
        bus.on("market_data")(handler)
    with pytest.raises(SubscriptionError, match=told):
        bus.on()(handler)
    assert bus.subscriptions == ()


def test_a_coroutine_is_refused_and_not_left_unawaited():
    with pytest.raises(
        SubscriptionError, match=r"what takes_one\(\.\.\.\) returned .* give the function itself"
    ):
        EventBus().subscribe("*", takes_one(a_tick()))  # type: ignore[call-overload]


def test_a_class_with_handlers_for_instances_is_no_handler_of_on():
    bus = EventBus()
    with pytest.raises(SubscriptionError, match="decorates a class whose instances are handlers"):
        bus.on(PlainCallable)


def test_a_method_in_the_body_of_its_class_cannot_be_subscribed_there():
    bus = EventBus()
    with pytest.raises(SubscriptionError, match="a method without its instance"):

        class Momentum:
            @bus.on
            async def on_tick(self, event: MarketDataEvent) -> None: ...


@virtual
async def test_whatever_takes_one_positional_argument_is_a_handler():
    agent, plain, coro, mock, async_mock = Agent(), PlainCallable(), AsyncCallable(), Mock(), AsyncMock()
    heard: list[Any] = []
    HEARD.clear()

    def with_more(event: Any, book: Any = None, *, deep: bool = False) -> None:
        heard.append(event)

    def takes_any(*events: Any) -> None:
        heard.extend(events)

    handlers = [
        agent.on_tick,
        Agent.aside,
        vars(Agent)["aside"],
        Agent.of_class,
        plain,
        coro,
        mock,
        async_mock,
        heard.append,
        lambda event, heard=heard: heard.append(event),
        with_more,
        takes_any,
        functools.partial(lambda book, event: heard.append(event), None),
        decorated(takes_one),
        functools.lru_cache(takes_one),
        create_autospec(takes_one),
    ]
    async with EventBus() as bus:
        for number, handler in enumerate(handlers):
            bus.subscribe("*", handler, name=f"h{number}", retry=False)
        await bus.publish(a_tick())
        await bus.join()
        assert [s.name for s in bus.subscriptions if s.errors or s.handled != 1] == []
    assert (len(agent.heard), len(plain.heard), len(coro.heard), len(heard)) == (1, 1, 1, 5)
    assert (mock.call_count, async_mock.await_count, len(HEARD)) == (1, 1, 5)


@virtual
async def test_a_decorator_over_a_function_that_takes_no_event_is_warned_of():
    async with EventBus() as bus:
        with pytest.warns(
            UserWarning, match=r"takes_none is decorated, and what is decorated, takes_none\(\)"
        ):
            bus.subscribe("*", decorated(takes_none))


@virtual
async def test_a_handler_that_returns_a_generator_has_failed():
    """It looks like a handler, and nothing of it would ever run."""

    def call(handler: Callable[[Any], Any], event: Any) -> Any:
        return handler(event)

    async with EventBus() as bus:
        for name, handler in (("plain", generates_plainly), ("async", generates)):
            bus.subscribe("*", functools.partial(call, handler), name=name, retry=False)
        await bus.publish(a_tick())
        await bus.join()
        assert {letter.subscription for letter in bus.dead_letters()} == {"plain", "async"}
        assert all("generator" in letter.error for letter in bus.dead_letters())


@virtual
async def test_a_handler_that_returns_the_function_to_call_has_failed():
    agent = Agent()
    async with EventBus() as bus:
        bus.subscribe("*", lambda event: agent.on_tick, name="lambda", retry=False)
        bus.subscribe("*", lambda event: [event], name="harmless", retry=False)
        await bus.publish(a_tick())
        await bus.join()
        (letter,) = bus.dead_letters()
        assert (letter.subscription, "without calling it" in letter.error) == ("lambda", True)


# -- time-outs -----------------------------------------------------------------------------------------------


def plain_handler(event: Any) -> None:
    raise AssertionError


@pytest.mark.parametrize(
    "handler",
    [plain_handler, lambda event: None, PlainCallable(), [].append, functools.partial(plain_handler), Mock()],
)
def test_a_time_limit_for_a_plain_function_is_refused_with_the_remedy(handler):
    bus = EventBus()
    with pytest.raises(SubscriptionError, match=r"timeout_s=2 for .*, a plain function: .*blocking=True"):
        bus.subscribe("*", handler, timeout_s=2)
    assert bus.subscribe("*", handler, timeout_s=2, blocking=True).options.timeout_s == 2


@virtual
async def test_a_plain_function_that_is_known_to_return_a_coroutine_has_its_time():
    hung = asyncio.Event()

    async def hangs(event: Any) -> None:
        await hung.wait()

    def annotated(event: Any) -> Coroutine[Any, Any, None]:
        return hangs(event)

    def as_string(event: Any) -> "Awaitable[None]":
        return hangs(event)

    class Hanging:
        async def __call__(self, event: Any) -> None:
            await hung.wait()

    handlers: list[Callable[[Any], Any]] = [
        decorated(hangs),
        annotated,
        as_string,
        functools.partial(decorated(hangs)),
        Hanging(),
    ]
    async with EventBus() as bus:
        for number, handler in enumerate(handlers):
            bus.subscribe("*", handler, name=f"h{number}", timeout_s=0.5, retry=False)
        await bus.publish(a_tick())
        await bus.join()
        assert [s.timeouts for s in bus.subscriptions] == [1] * len(handlers)


# -- event types that are misspelt ---------------------------------------------------------------------------

MISSPELT = [
    "KILL_SWITCH",
    "killswitch",
    "kill-switch",
    " kill_switch",
    "Order",
    "KillSwitchEvent",
    "OrderEvent",
]
PATTERNS = ["order.*", "kill*", "order.>", "fill.", "*.fill", "or?er"]


@pytest.mark.parametrize("name", [*MISSPELT, *PATTERNS, "order, fill", "order|fill"])
def test_a_type_that_was_meant_to_be_a_known_one_is_refused_wherever_it_is_named(name):
    bus = EventBus()
    for act in (
        lambda: bus.subscribe(name, takes_one),
        lambda: bus.subscribe(["fill", name], takes_one),
        lambda: bus.on(name)(takes_one),
        lambda: bus.unsubscribe(name, takes_one),
        lambda: bus.get_event_history(name),
    ):
        with pytest.raises(SubscriptionError, match=r"did you mean|give the class itself|in a list"):
            act()
    assert bus.subscriptions == ()


def test_the_message_names_the_nearest_known_type():
    bus = EventBus()
    for name, told in (
        ("KILL_SWITCH", "did you mean 'kill_switch'"),
        ("KillSwitchEvent", "the class itself, KillSwitchEvent, or its type: 'kill_switch'"),
        ("order.*", r"in a list: \['order', 'order_state_change'\]"),
        ("order,fill", r"in a list: \['order', 'fill'\]"),
    ):
        with pytest.raises(SubscriptionError, match=told):
            bus.subscribe(name, takes_one)


@pytest.mark.parametrize(("name", "meant"), [("market_dat", "market_data"), ("oder", "order")])
def test_a_type_that_is_only_like_a_known_one_may_be_the_users_own_so_it_is_a_warning(name, meant):
    bus = EventBus()
    with pytest.warns(UserWarning, match=f"'{name}': did you mean '{meant}'"):
        bus.subscribe(name, takes_one)
    assert bus.subscriptions[0].types == (name,)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "name", ["news", "order_book", "tick", "signal_2", "Заказ", "my.type", "px/ES", EventType.FILL]
)
def test_types_of_the_users_own_are_free(name):
    with contextlib.closing(asyncio.new_event_loop()):
        assert EventBus().subscribe(name, takes_one).types == (str(name),)
