"""A small firm whose days are recorded and replayed, and the same firm with one thing changed."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from openoutcry import (
    DecisionEvent,
    EventBus,
    FillEvent,
    MarketDataEvent,
    OrderEvent,
    OrderSide,
    PersistenceConfig,
    SignalEvent,
)
from openoutcry.runtime.durability.recorder import running_app

SYMBOLS = ("ES", "ZN")
TICKS = 20


class Strategy:
    def __init__(self, bus: EventBus, name: str, thinks_s: float) -> None:
        self.bus, self.name, self.thinks_s, self.last = bus, name, thinks_s, 0.0
        bus.register_signal_agent(name)
        bus.subscribe(MarketDataEvent, self.on_tick, name=name, timeout_s=5.0)

    async def on_tick(self, tick: MarketDataEvent) -> None:
        before, self.last = self.last, tick.price
        advice: dict[str, float] | None = None
        if self.name == "steady":
            advice = await self.bus.recorded("model", lambda: self.ask(tick))
        if self.thinks_s:
            await asyncio.sleep(self.thinks_s)
        if tick.symbol == "ZN" and self.name == "slow":
            self.bus.abstain(self.name, "no view on bonds", tick.round_id)
            return
        said = self.signal(tick, before)
        if advice is not None:
            said = changed(said, confidence=advice["confidence"], strength=self.bus.chance.random())
        await self.bus.publish_signal(said)

    async def ask(self, tick: MarketDataEvent) -> dict[str, float]:
        """A model, which never answers twice alike."""
        await asyncio.sleep(random.random() / 1000)
        return {"confidence": random.random()}

    def signal(self, tick: MarketDataEvent, before: float) -> SignalEvent:
        return SignalEvent(
            source_agent=self.name,
            strategy_name=self.name,
            symbol=tick.symbol,
            direction="long" if tick.price >= before else "short",
            confidence=0.5,
            rationale=f"{tick.price} after {before}",
            round_id=tick.round_id,
        )


class Chief:
    """Opens a round for each tick it hears, waits for it, and decides."""

    def __init__(self, bus: EventBus) -> None:
        self.bus = bus
        bus.subscribe(DecisionEvent, self.on_decision, name="execution")
        bus.subscribe([OrderEvent], self.on_order, name="broker")

    async def on_decision(self, decision: DecisionEvent) -> None:
        await self.bus.publish(
            OrderEvent(
                order_id=f"o-{decision.event_id}",
                client_order_id=decision.event_id,
                decision_id=decision.event_id,
                symbol=decision.symbol,
                side=decision.action,
                quantity=decision.quantity,
                source_agent="execution",
            )
        )

    async def on_order(self, order: OrderEvent) -> None:
        await self.bus.publish(
            FillEvent(
                event_id=f"fill-{order.order_id}",
                order_id=order.order_id,
                symbol=order.symbol,
                side=order.side,
                filled_quantity=order.quantity,
                fill_price=100.0,
                source_agent="broker",
            )
        )


async def trade(bus: EventBus) -> None:
    """The main program: asks everybody about each tick, and decides."""
    for number in range(TICKS):
        for symbol in SYMBOLS:
            opened = bus.open_round(
                f"{symbol}-{number}", quorum=0.6, signal_timeout=0.004, barrier_timeout=0.5
            )
            price = 100.0 + (number * 7 + len(symbol)) % 5
            await bus.publish(
                MarketDataEvent(symbol=symbol, price=price, round_id=opened.round_id, source_agent="feed")
            )
            outcome = await bus.wait_for_signals(opened.round_id)
            if outcome.valid:
                longs = sum(signal.direction == "long" for signal in outcome.values())
                await bus.publish(
                    DecisionEvent(
                        symbol=symbol,
                        action=OrderSide.BUY if 2 * longs >= len(outcome) else OrderSide.SELL,
                        quantity=float(10 * len(outcome)),
                        conviction_score=0.5,
                        contributing_signals=tuple(one.event_id for one in outcome.values()),
                        source_agent="chief",
                    )
                )
    await bus.join()


class Firm:
    """The app; subclasses change one thing."""

    strategy: Callable[..., Any] = Strategy

    def __init__(self) -> None:
        self.rng = random.Random(4)

    def setup(self, bus: EventBus) -> None:
        for name, thinks_s in (("quick", 0.0), ("steady", 0.001), ("slow", 0.003)):
            self.strategy(bus, name, thinks_s)
        Chief(bus)

    async def main(self, bus: EventBus) -> None:
        await trade(bus)


def record(path: Path, firm: Callable[[], Any] = Firm, *, how: Any = "replay", **settings: Any) -> None:
    """Have a firm trade on a journal, in real time."""
    if how == "rounds":
        settings["levels"] = {"market_data": "process"}

    async def run() -> None:
        persistence = PersistenceConfig(path=path, record=how, **settings)
        async with EventBus(persistence_config=persistence) as bus:
            app = firm()
            app.setup(bus)
            await app.main(bus)

    running_app.set(f"{firm.__module__}:{firm.__qualname__}")
    asyncio.run(run())


class _Changed(Strategy):
    """Changes what `slow` says of the tenth tick of ES."""

    def signal(self, tick: MarketDataEvent, before: float) -> SignalEvent:
        said = super().signal(tick, before)
        return self.amended(said) if self.name == "slow" and tick.round_id == "ES-10" else said

    def amended(self, said: SignalEvent) -> SignalEvent:
        return said


class _OtherRationale(_Changed):
    def amended(self, said: SignalEvent) -> SignalEvent:
        return (
            said.copy_with(rationale="because")
            if hasattr(said, "copy_with")
            else changed(said, rationale="because")
        )


class _ReadsTheClock(_Changed):
    def amended(self, said: SignalEvent) -> SignalEvent:
        return changed(said, rationale=f"at {time.time_ns()}")


class _Random(_Changed):
    def amended(self, said: SignalEvent) -> SignalEvent:
        return changed(said, confidence=random.random())


class _Silent(Strategy):
    async def on_tick(self, tick: MarketDataEvent) -> None:
        if self.name == "slow" and tick.round_id == "ES-10":
            return
        await super().on_tick(tick)


class _Talkative(Strategy):
    async def on_tick(self, tick: MarketDataEvent) -> None:
        await super().on_tick(tick)
        if self.name == "slow" and tick.round_id == "ES-10":
            await self.bus.publish(self.signal(tick, 0.0))


class _Abstains(Strategy):
    async def on_tick(self, tick: MarketDataEvent) -> None:
        if self.name == "slow" and tick.round_id == "ES-10":
            self.bus.abstain(self.name, "not today", tick.round_id)
            return
        await super().on_tick(tick)


class _Raises(Strategy):
    async def on_tick(self, tick: MarketDataEvent) -> None:
        if self.name == "slow" and tick.round_id == "ES-10":
            raise ValueError("no account")
        await super().on_tick(tick)


class _Writes(Strategy):
    async def on_tick(self, tick: MarketDataEvent) -> None:
        if self.name == "slow" and tick.round_id == "ES-10":
            with open("/tmp/openoutcry-must-not-be", "w") as file:  # noqa: ASYNC230, PTH123
                file.write("no")
        await super().on_tick(tick)


def changed(said: SignalEvent, **changes: Any) -> SignalEvent:
    fields = {name: getattr(said, name) for name in said.__struct_fields__}
    return SignalEvent(**(fields | changes))


class OtherRationale(Firm):
    strategy = _OtherRationale


class ReadsTheClock(Firm):
    strategy = _ReadsTheClock


class Random(Firm):
    strategy = _Random


class Silent(Firm):
    strategy = _Silent


class Talkative(Firm):
    strategy = _Talkative


class Abstains(Firm):
    strategy = _Abstains


class Raises(Firm):
    strategy = _Raises


class Writes(Firm):
    strategy = _Writes


async def as_generator(bus: EventBus) -> AsyncIterator[None]:
    Firm().setup(bus)
    yield
    await trade(bus)
