"""Events: what constructors take, what fields read as, and what the bus gives back."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, assert_type

import msgspec

from openoutcry import (
    BackpressureConfig,
    DeadLetter,
    Event,
    EventBus,
    EventType,
    Expectation,
    HealthCheckConfig,
    LaneName,
    LevelName,
    MarketDataEvent,
    Memory,
    OrderEvent,
    OrderSide,
    OrderState,
    OrderStateChangeEvent,
    OrderType,
    PersistenceConfig,
    Receipt,
    RiskAlertEvent,
    RoundOutcome,
    Session,
    SignalDirection,
    SignalEvent,
    ValidatedDecisionEvent,
)
from openoutcry.testing import Recording, expect, recorded


class News(Event, kw_only=True):
    event_type: str = "news"
    headline: str
    tags: tuple[str, ...] = ()
    scores: list[float] = msgspec.field(default_factory=list)


class Flash(News, kw_only=True):
    event_type: str = "flash"
    urgency: int = 1


class Quote(Event, kw_only=True):
    bid: float


# Constructors.
news = News(headline="x")
Flash(headline="x", urgency=2, tags=("a",), scores=[1.0], event_id="1", source_agent="desk")
News(headline="x", timestamp="2026-01-05T14:30:00Z")
News(headline="x", timestamp=1_767_623_400_000_000_000)
News(headline="x", timestamp=datetime(2026, 1, 5, tzinfo=UTC))
Event(event_type="anything")
News()  # error
News(headline=3)  # error
News(hedline="x", headline="x")  # error
News(headline="x", timestamp=1.5)  # error
Flash(headline="x", urgency="high")  # error

# Fields.
assert_type(news.timestamp, datetime)
assert_type(news.timestamp_ns, int)
assert_type(news.headline, str)
assert_type(Flash(headline="x").timestamp, datetime)
assert_type(news.amended(headline="y"), News)
assert_type(News.from_dict({}), News)
news.headline = "y"  # error: pyright
news.headlin  # error

# Enums take their words, lists become tuples, and they read as what they are.
order = OrderEvent(order_id="1", symbol="ES", side="buy", quantity=1)
OrderEvent(order_id="1", symbol="ES", side=OrderSide.BUY, quantity=1, order_type="limit", time_in_force="ioc")
assert_type(order.side, OrderSide)
assert_type(order.order_type, OrderType)
assert_type(OrderEvent(order_id="1", symbol="ES", side="sell", quantity=1).side, OrderSide)
signal = SignalEvent(strategy_name="trend", symbol="ES", direction="long", data_sources=["prices"])
assert_type(signal.direction, SignalDirection)
assert_type(signal.data_sources, tuple[str, ...])
RiskAlertEvent(severity="critical", alert_type="drawdown", affected_positions=["ES"])
change = OrderStateChangeEvent(order_id="1", from_state="new", to_state="filled")
assert_type(change.to_state, OrderState)
assert_type(
    ValidatedDecisionEvent(original_decision_id="1", symbol="ES", approved=True).side, OrderSide | None
)
MarketDataEvent(symbol="ES", price=5000.25)
OrderEvent(order_id="1", symbol="ES", side="by", quantity=1)  # error
OrderEvent(order_id="1", symbol="ES", side="buy", quantity=1, order_type="limt")  # error
SignalEvent(strategy_name="trend", symbol="ES", direction="up")  # error
RiskAlertEvent(severity="crit", alert_type="drawdown")  # error
OrderStateChangeEvent(order_id="1", from_state="new", to_state="filed")  # error
OrderEvent(order_id="1", symbol="ES", quantity=1)  # error


class Weighted(SignalEvent, kw_only=True):
    weight: float = 1.0


assert_type(
    Weighted(strategy_name="trend", symbol="ES", direction="flat", weight=0.5).direction, SignalDirection
)

# Settings.
settings = PersistenceConfig(path="firm.db", level="disk", levels={"news": "memory", EventType.ORDER: "disk"})
assert_type(settings.path, Path)
assert_type(settings.level, LevelName)
PersistenceConfig(path=Path("firm.db"))
BackpressureConfig(shed_first=["market_data"], shed_last={EventType.ORDER})
assert_type(BackpressureConfig().shed_first, frozenset[str])
bell = Session(start="09:30", end="16:00", tz="America/New_York", holidays=["2026-12-25"])
feed = Expectation(event_type=EventType.MARKET_DATA, every_s=5, sessions=(bell,))
HealthCheckConfig(expectations=[feed])
HealthCheckConfig(expectations=feed)
PersistenceConfig(level="dsk")  # error
PersistenceConfig(levels={"news": "memry"})  # error
PersistenceConfig(path=3)  # error
PersistenceConfig(paht="firm.db")  # error
EventBus(max_queue=3)  # error
EventBus(check_events="never")  # error

bus = EventBus()


async def what_the_bus_gives() -> None:
    assert_type(await bus.publish(news), bool)
    await bus.publish(news, level="disk")
    bus.publish_nowait(news, level="memory")
    receipt = await bus.publish_receipt(news, level="process")
    assert_type(receipt, Receipt)
    assert_type(receipt.level, LevelName)
    await bus.publish(news, level="disc")  # error
    bus.publish_nowait(news, level="Disk")  # error
    await bus.publish_receipt(news, level=2)  # error

    assert_type(bus.get_event_history(), list[Event])
    assert_type(bus.get_event_history(limit=5), list[Event])
    assert_type(bus.get_event_history(News), list[News])
    assert_type(bus.get_event_history(News, 5), list[News])
    assert_type(bus.get_event_history((News, Quote)), list[News | Quote])
    assert_type(bus.get_event_history("news"), list[Any])
    assert_type(bus.get_event_history([News, Quote]), list[Any])
    assert_type(bus.get_event_history(EventType.ORDER, limit=5), list[Any])
    assert_type(await bus.read_event_history(), list[Event])
    assert_type(await bus.read_event_history(News, limit=5), list[News])
    bus.get_event_history(3)  # error
    bus.get_event_history(News)[0].bid  # error

    outcome = await bus.wait_for_signals()
    assert_type(outcome, RoundOutcome)
    signals: Mapping[str, SignalEvent] = outcome
    assert_type(outcome["trend"].direction, SignalDirection)
    assert_type([one.confidence for one in signals.values()], list[float])
    outcome["trend"].directon  # error
    assert_type(bus.ledger().rows[0].lane, LaneName)
    letters: list[DeadLetter] = bus.dead_letters(limit=5)
    if letters[0].lane == "hihg":  # error
        return

    recording = recorded(bus)
    assert_type(recording, Recording)
    assert_type(recording.of(News), list[News])
    assert_type(await expect(bus, News), News)
    assert_type(await expect(bus, News, count=2), list[News])
    assert_type(await expect(bus, News, where=lambda event: event.headline == "x"), News)
    await expect(bus, "news", where={"headline": "x"}, count=0)


# Memory: what `load` takes is what `save` returns.
def fold(event: News) -> None: ...
def save() -> dict[str, int]:
    return {}


def load(state: dict[str, int]) -> None: ...
def load_mapping(state: Mapping[str, int]) -> None: ...
def load_any(state: Any) -> None: ...
def load_bytes(state: bytes) -> None: ...
def load_nothing() -> None: ...


Memory(fold)
Memory(fold, save, load)
Memory(fold, save, load_mapping, every=10, on_missing="warn")
Memory(save=save, load=load_any)
Memory(fold, save, load_bytes)  # error
Memory(fold, save, load_nothing)  # error
Memory(fold, save, load, on_missing="ignore")  # error
remembered: Memory = Memory(fold, save, load)
