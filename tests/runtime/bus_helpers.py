"""What the tests of the bus share: small events, handlers that remember, and the audit of what became of them."""

import asyncio
import functools
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any

from openoutcry import (
    DecisionEvent,
    EventBus,
    FillEvent,
    KillSwitchEvent,
    MarketDataEvent,
    OrderEvent,
    OrderSide,
    OrderType,
    SignalDirection,
    SignalEvent,
)
from openoutcry.testing import run_virtual

FATES = ("handled", "dead_lettered", "conflated", "overflowed", "expired", "withdrawn")


def virtual(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an async test in virtual time."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        run_virtual(test(*args, **kwargs), limit_s=600.0)

    return run


def now_s() -> float:
    return asyncio.get_running_loop().time()


def a_tick(price: float = 1.0, symbol: str = "ES", **fields: Any) -> MarketDataEvent:
    return MarketDataEvent(symbol=symbol, price=price, **fields)


def ticks(count: int, first: int = 1, symbol: str = "ES") -> list[MarketDataEvent]:
    return [a_tick(float(number), symbol) for number in range(first, first + count)]


def a_fill(order_id: str = "o-1", **fields: Any) -> FillEvent:
    return FillEvent(
        order_id=order_id, symbol="ES", side=OrderSide.BUY, filled_quantity=1.0, fill_price=1.0, **fields
    )


def an_order(order_id: str = "o-1", **fields: Any) -> OrderEvent:
    return OrderEvent(
        order_id=order_id,
        symbol="ES",
        side=OrderSide.BUY,
        quantity=1.0,
        order_type=OrderType.MARKET,
        **fields,
    )


def a_decision(symbol: str = "ES", **fields: Any) -> DecisionEvent:
    return DecisionEvent(symbol=symbol, action=OrderSide.BUY, quantity=1.0, **fields)


def a_signal(
    agent: str, symbol: str = "ES", direction: Any = SignalDirection.LONG, **fields: Any
) -> SignalEvent:
    return SignalEvent(strategy_name=agent, source_agent=agent, symbol=symbol, direction=direction, **fields)


def a_kill(**fields: Any) -> KillSwitchEvent:
    return KillSwitchEvent(**fields)


class Desk:
    """A handler that remembers what it handled, in which order and when; each call takes `takes_s`."""

    def __init__(self, takes_s: float = 0.0) -> None:
        self.takes_s = takes_s
        self.begun: list[Any] = []
        self.handled: list[Any] = []
        self.at_s: list[float] = []
        self.most_at_once = 0

    async def on_event(self, event: Any) -> None:
        self.begun.append(event)
        self.at_s.append(now_s())
        self.most_at_once = max(self.most_at_once, len(self.begun) - len(self.handled))
        if self.takes_s:
            await asyncio.sleep(self.takes_s)
        self.handled.append(event)

    @property
    def ids(self) -> list[str]:
        return [event.event_id for event in self.handled]

    @property
    def prices(self) -> list[float]:
        return [event.price for event in self.handled]

    @property
    def types(self) -> list[str]:
        return [str(event.event_type) for event in self.handled]


class Failing(Desk):
    """A handler that raises for the events that `fails` names, as often as `times` says."""

    def __init__(
        self,
        fails: Callable[[Any], bool] = lambda _: True,
        times: int = 1_000_000,
        error: Callable[[], BaseException] = lambda: ValueError("no"),
    ) -> None:
        super().__init__()
        self._fails = fails
        self._times = times
        self._error = error
        self.tries: Counter[str] = Counter()

    async def on_event(self, event: Any) -> None:
        self.tries[event.event_id] += 1
        if self._fails(event) and self.tries[event.event_id] <= self._times:
            self.at_s.append(now_s())
            raise self._error()
        await super().on_event(event)


class Gate:
    """A handler that waits in every call until it is opened."""

    def __init__(self) -> None:
        self.begun: list[Any] = []
        self.handled: list[Any] = []
        self._open = asyncio.Event()

    async def on_event(self, event: Any) -> None:
        self.begun.append(event)
        await self._open.wait()
        self.handled.append(event)

    def open(self) -> None:
        self._open.set()


def row(bus: EventBus, subscription: str, lane: str = "normal") -> Any:
    (found,) = (r for r in bus.ledger().rows if (r.subscription, r.lane) == (subscription, lane))
    return found


def assert_balanced(bus: EventBus) -> None:
    """Nothing that was accepted is unaccounted for, in any row (CONTRACT 7)."""
    ledger = bus.ledger()
    assert ledger.balances, [r for r in ledger.rows if not r.balances]
    assert all(getattr(r, fate) >= 0 for r in ledger.rows for fate in (*FATES, "waiting", "in_flight"))


def assert_settled(bus: EventBus) -> None:
    """The ledger balances, and nothing waits or is in flight."""
    assert_balanced(bus)
    open_rows = [r for r in bus.ledger().rows if r.waiting or r.in_flight]
    assert open_rows == []


def assert_exactly(handled: Iterable[Any], expected: Iterable[Any]) -> None:
    """The same events, each once: none lost, none twice; the order is another matter."""
    assert Counter(e.event_id for e in handled) == Counter(e.event_id for e in expected)


async def pause_until(condition: Callable[[], bool], at_most_s: float = 60.0) -> None:
    """Let virtual time go on in small steps until a condition holds."""
    end_s = now_s() + at_most_s
    while not condition():
        assert now_s() < end_s, "the condition never came to hold"
        await asyncio.sleep(0.001)


async def outcome_of(awaitable: Awaitable[Any]) -> Any:
    """The result, or the error as a value."""
    try:
        return await awaitable
    except Exception as error:  # noqa: BLE001 - the error is the answer
        return error
