"""Agents, wrappers and callables as firms have them: generic, decorated, kept in tables."""

import abc
import functools
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar, assert_type

from openoutcry import Event, EventBus, LevelName, SignalEvent, Subscription


class News(Event, kw_only=True):
    event_type: str = "news"
    headline: str


class Quote(Event, kw_only=True):
    event_type: str = "quote"


class Urgent(SignalEvent, kw_only=True):
    event_type: str = "urgent"
    edge: float

    def __post_init__(self) -> None:
        super().__post_init__()

    @property
    def doubled(self) -> float:
        return self.edge * 2


class Audited(EventBus):
    async def publish(self, event: Any, priority: bool = False, *, level: LevelName | None = None) -> bool:
        return await super().publish(event, priority, level=level)

    def subscribe(self, event_type: Any, handler: Callable[[Any], Any], **options: Any) -> Subscription:
        return super().subscribe(event_type, handler, **options)


bus = EventBus()
Audited().subscribe(News, print)
assert_type(Urgent(strategy_name="trend", symbol="ES", direction="long", edge=0.5).doubled, float)

Kind = TypeVar("Kind", bound=Event)


class Agent(Generic[Kind]):
    def __init__(self, kind: type[Kind]) -> None:
        bus.subscribe(kind, self.handle)
        bus.on(kind)(self.handle)
        self.seen: list[Kind] = bus.get_event_history(kind)
        for one in (News, Quote):
            bus.subscribe(one, self.handle_any)

    async def handle(self, event: Kind) -> None: ...
    async def handle_any(self, event: Event) -> None: ...


class Base(abc.ABC):
    """An abstract class, of events that are no `Event`."""

    event_id: str
    event_type: str

    @abc.abstractmethod
    def said(self) -> str: ...


def on_base(event: Base) -> None: ...


bus.subscribe(Base, on_base)


# A handler without names of its parameters, as a decorator or a table may leave it.
def logged(handler: Callable[[Kind], Awaitable[None]]) -> Callable[[Kind], Awaitable[None]]:
    return handler


def with_prefix(prefix: str, event: News) -> None: ...


async def on_news(event: News) -> None: ...


handlers: dict[type[Event], Callable[[Any], Awaitable[None]]] = {}
for kind, handler in handlers.items():
    bus.subscribe(kind, handler)
bus.subscribe(News, functools.partial(with_prefix, "x"))
bus.on(News)(functools.partial(with_prefix, "x"))
bus.subscribe(News, logged(on_news))
bus.subscribe(Quote, logged(on_news))  # error


@bus.on(News)
@logged
async def decorated_twice(event: News) -> None: ...


@bus.on(News)
@functools.lru_cache
def remembered(event: News) -> None: ...


@bus.on(Quote)  # error
@logged
async def wrong_twice(event: News) -> None: ...


async def what_they_are(news: News) -> None:
    assert_type(await decorated_twice(news), None)
    decorated_twice(Quote())  # error
