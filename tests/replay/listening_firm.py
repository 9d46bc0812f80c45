"""A firm with an auditor, who hears what the bus records of its rounds, and acts on it."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from openoutcry import (
    DecisionEvent,
    EventBus,
    MarketDataEvent,
    OrderSide,
    PersistenceConfig,
    RiskAlertEvent,
    SignalEvent,
)
from openoutcry.events import Event
from openoutcry.runtime.durability.recorder import running_app

ROUNDS = 12


class AskedFor(Event, kw_only=True):
    """A round is about to be asked for."""

    event_type: str = "asked_for"


class _Firm:
    auditor: Callable[[EventBus], Any]

    def setup(self, bus: EventBus) -> None:
        self.bus = bus
        for name, each in (("trend", 1), ("value", 2), ("carry", 3)):
            bus.register_signal_agent(name)
            bus.subscribe(MarketDataEvent, self.voter(name, each), name=name)
        bus.subscribe([AskedFor, MarketDataEvent], self.decide, name="chief")
        self.auditor(bus)

    def voter(self, name: str, each: int) -> Callable[[MarketDataEvent], Any]:
        async def vote(tick: MarketDataEvent) -> None:
            if int(tick.price) % each:
                await asyncio.sleep(0.002)
            await self.bus.publish_signal(
                SignalEvent(
                    source_agent=name,
                    strategy_name=name,
                    symbol="ES",
                    direction="long" if name == "trend" else "short",
                )
            )

        return vote

    async def decide(self, event: AskedFor | MarketDataEvent) -> None:
        if isinstance(event, AskedFor):
            self.bus.open_round(event.round_id, quorum=0.6, signal_timeout=0.001, barrier_timeout=1.0)
            return
        outcome = await self.bus.wait_for_signals(event.round_id)
        longs = sum(signal.direction == "long" for signal in outcome.values())
        side = OrderSide.BUY if 2 * longs >= len(outcome) else OrderSide.SELL
        await self.bus.publish(
            DecisionEvent(symbol="ES", action=side, quantity=float(len(outcome)), source_agent="chief")
        )


class Auditor:
    """Says what it hears of rounds."""

    def __init__(self, bus: EventBus) -> None:
        self.bus = bus
        bus.subscribe(["round_released", "round_late", "run_started"], self.on_record, name="auditor")

    async def on_record(self, record: Any) -> None:
        await self.bus.publish(
            RiskAlertEvent(
                severity="info",
                alert_type=record.event_type,
                message=self.words_of(record),
                round_id=record.round_id,
                source_agent="auditor",
            )
        )

    def words_of(self, record: Any) -> str:
        if record.event_type == "round_released":
            return f"{record.round_id} had {sorted(vote.agent for vote in record.votes)}"
        return f"{record.event_type} of {getattr(record, 'agent', 'the bus')}"


class Listening(_Firm):
    """The app."""

    auditor = Auditor


class _TalkativeAuditor(Auditor):
    """Says more of one round."""

    def words_of(self, record: Any) -> str:
        return super().words_of(record) + ("!" if record.round_id == "ES-7" else "")


class Talkative(_Firm):
    auditor = _TalkativeAuditor


async def trade_and_listen(bus: EventBus) -> None:
    for number in range(ROUNDS):
        await bus.publish(AskedFor(round_id=f"ES-{number}", source_agent="feed"))
        await bus.join()
        await bus.publish(
            MarketDataEvent(
                symbol="ES", price=float(number + 1), round_id=f"ES-{number}", source_agent="feed"
            )
        )
        await bus.join()
        await asyncio.sleep(0.02)
    await asyncio.sleep(0.3)
    await bus.join()


def record_listening(path: Path, *, how: Any = "replay") -> None:
    async def run() -> None:
        levels: Any = {"market_data": "process"} if how == "rounds" else {}
        persistence = PersistenceConfig(path=path, record=how, levels=levels)
        async with EventBus(persistence_config=persistence) as bus:
            Listening().setup(bus)
            await trade_and_listen(bus)

    running_app.set(f"{Listening.__module__}:{Listening.__qualname__}")
    asyncio.run(run())
