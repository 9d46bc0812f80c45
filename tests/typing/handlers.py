"""Handlers: what may be subscribed to what, and what a decorated function is."""

from typing import Any, Unpack, assert_type

from openoutcry import Event, EventBus, EventType, Memory, RetryPolicy, SubscribeOptions, Subscription


class News(Event, kw_only=True):
    event_type: str = "news"
    headline: str


class Flash(News, kw_only=True):
    event_type: str = "flash"


class Quote(Event, kw_only=True):
    event_type: str = "quote"
    bid: float = 0.0


class Trade(Event, kw_only=True):
    event_type: str = "trade"
    price: float


class Halted(Event, kw_only=True):
    event_type: str = "halted"


class Foreign:
    """A class that is no `Event`."""

    event_id: str = "1"
    event_type: str = "foreign"


bus = EventBus()


def on_news(event: News) -> None: ...
def on_quote(event: Quote) -> None: ...
def on_event(event: Event) -> int:
    return 1


def on_any(event: Any) -> None: ...
def on_object(event: object) -> None: ...
def on_foreign(event: Foreign) -> None: ...
def on_two(event: News | Quote) -> None: ...
def on_three(event: News | Quote | Trade) -> None: ...
def on_four(event: News | Quote | Trade | Halted) -> None: ...
def with_more(event: News, retries: int = 3, *, loud: bool = False) -> None: ...
def without() -> None: ...
def of_two(event: News, other: int) -> None: ...
async def later(event: News) -> str:
    return ""


class Agent:
    def on_news(self, event: News) -> None: ...
    async def on_quote(self, event: Quote) -> None: ...
    def __call__(self, event: Trade) -> None: ...
    @staticmethod
    def apart(event: News) -> None: ...
    @classmethod
    def of_all(cls, event: News) -> None: ...


agent = Agent()

# One class: its own handler, or one of a base.
assert_type(bus.subscribe(News, on_news), Subscription)
bus.subscribe(News, on_event)
bus.subscribe(News, on_any)
bus.subscribe(News, on_object)
bus.subscribe(News, on_two)
bus.subscribe(News, later)
bus.subscribe(News, with_more)
bus.subscribe(News, agent.on_news)
bus.subscribe(News, Agent.apart)
bus.subscribe(News, agent.of_all)
bus.subscribe(Flash, on_news)
bus.subscribe(Quote, agent.on_quote)
bus.subscribe(Trade, agent)
bus.subscribe(Foreign, on_foreign)
bus.subscribe(News, lambda event: None)
bus.subscribe(Event, on_event)
bus.subscribe(News, on_quote)  # error
bus.subscribe(News, agent.on_quote)  # error
bus.subscribe(News, agent)  # error
bus.subscribe(Event, on_news)  # error
bus.subscribe(News, on_foreign)  # error
bus.subscribe(News, without)  # error
bus.subscribe(News, of_two)  # error
bus.subscribe(News, Agent.on_news)  # error
bus.subscribe(News, 3)  # error
bus.subscribe(3, on_news)  # error
bus.subscribe(News)  # error

# Several classes.
kinds: tuple[type[Event], ...] = (News, Quote)
listed: list[type[Event]] = [News, Quote]
bus.subscribe((News,), on_news)
bus.subscribe((News, Quote), on_two)
bus.subscribe((News, Quote), on_event)
bus.subscribe((News, Quote, Trade), on_three)
bus.subscribe((News, Quote, Trade, Halted), on_four)
bus.subscribe([News, Quote], on_two)
bus.subscribe(kinds, on_event)
bus.subscribe(listed, on_event)
bus.subscribe((News, Quote), on_news)  # error
bus.subscribe((News, Quote, Trade), on_two)  # error
bus.subscribe((Quote,), on_news)  # error

# Names: they say nothing of the class.
bus.subscribe("news", on_news)
bus.subscribe("*", on_event)
bus.subscribe(EventType.ORDER, on_any)
bus.subscribe([EventType.ORDER, "fill"], on_any)
bus.subscribe(("news", Quote), on_two)
bus.subscribe((Quote, "news"), on_two)
bus.subscribe({"news", EventType.FILL}, on_any)
bus.unsubscribe(News, on_news)
bus.unsubscribe((News, "quote"), on_two)

# Options.
bus.subscribe(
    News, on_news, name="desk", owner=agent, overflow="conflate", timeout_s=2, retry=RetryPolicy(attempts=5)
)
bus.subscribe(News, on_news, retry=False, breaker=None, max_age_s=None, concurrency=4, durable=False)
bus.subscribe(News, on_news, restore=on_news, supersede="headline", blocking=True, isolated=True)
bus.subscribe(News, on_news, memory=Memory(on_news), outbox=True, keep=True)
bus.subscribe(News, on_news, tiemout_s=2)  # error
bus.subscribe(News, on_news, timeout_s="2")  # error
bus.subscribe(News, on_news, overflow="conflat")  # error
bus.subscribe("news", on_news, tiemout_s=2)  # error
bus.subscribe(News, on_news, name=3)  # error
bus.subscribe(News, on_news, retry=3.0)  # error
bus.subscribe(News, on_news, memory=on_news)  # error


def subscribe_all(**options: Unpack[SubscribeOptions]) -> None:
    bus.subscribe(News, on_news, **options)
    bus.on(Quote, **options)(on_quote)


subscribe_all(timeout_s=3, name="desk")
subscribe_all(timeout=3)  # error


# The decorator returns what it was given.
@bus.on(News)
def decorated(event: News, retries: int = 3) -> str:
    return ""


@bus.on(News, timeout_s=2.0, name="desk.later")
async def decorated_later(event: News) -> int:
    return 1


@bus.on(News, Quote)
def decorated_two(event: News | Quote) -> None: ...


@bus.on((News, Quote, Trade))
def decorated_three(event: Event) -> None: ...


@bus.on(News, Quote, Trade, Halted)
def decorated_four(event: News | Quote | Trade | Halted) -> None: ...


@bus.on(EventType.FILL, "news", concurrency=2)
def decorated_by_name(event: News) -> None: ...


@bus.on("news", Quote)
def decorated_mixed(event: News | Quote) -> None: ...


@bus.on
def decorated_bare(event: News) -> str:
    return ""


@bus.on()
def decorated_called(event: News) -> str:
    return ""


@bus.on(name="desk.named")
def decorated_named(event: News) -> str:
    return ""


async def what_they_are(news: News) -> None:
    assert_type(decorated(news), str)
    assert_type(decorated(event=news, retries=5), str)
    assert_type(await decorated_later(news), int)
    assert_type(await decorated_later(event=news), int)
    decorated_two(event=Quote())
    decorated_by_name(event=news)
    assert_type(decorated_bare(event=news), str)
    assert_type(decorated_called(event=news), str)
    assert_type(decorated_named(event=news), str)
    decorated_three(event=Trade(price=1))
    assert_type(bus.on(News)(agent.on_news)(news), None)
    decorated(Quote())  # error
    decorated(news, rtries=5)  # error
    decorated_two(Trade(price=1))  # error


@bus.on(News)  # error
def wrong_class(event: Quote) -> None: ...


@bus.on(News, Quote)  # error
def wrong_for_one(event: News) -> None: ...


@bus.on((News, Quote))  # error
async def wrong_in_tuple(event: News) -> None: ...


@bus.on(News)  # error
def wrong_without() -> None: ...


@bus.on(News, tiemout_s=2)  # error
def wrong_option(event: News) -> None: ...


@bus.on(News, overflow="conflat")  # error
def wrong_word(event: News) -> None: ...


bus.on(Quote)(agent.on_news)  # error
bus.on(News)(agent)  # error
