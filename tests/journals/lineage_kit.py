"""A small firm whose journal is explained: it trades on real buses, in virtual time. As a program: JOURNAL."""

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from openoutcry import (
    DecisionEvent,
    Event,
    EventBus,
    FillEvent,
    MarketDataEvent,
    OrderEvent,
    PersistenceConfig,
    SignalEvent,
    ValidatedDecisionEvent,
)
from openoutcry.events import encode
from openoutcry.journals import JournalReader, SqliteJournal
from openoutcry.ports import Entry, Header, Stored
from openoutcry.testing import run_virtual

AGENTS = {"momentum": 0.8, "value": -0.5, "carry": 0.3}
"""Who answers in time, and how strong."""
NOON_NS = 1_764_000_000_000_000_000


def vote(agent: str, strength: float, round_id: str, symbol: str) -> SignalEvent:
    return SignalEvent(
        source_agent=agent,
        strategy_name=agent,
        symbol=symbol,
        direction="long" if strength > 0 else "short",
        strength=strength,
        confidence=0.6,
        rationale=f"{agent} has looked",
        round_id=round_id,
    )


class Firm:
    """Agents on a bus. `llm` is late, `quiet` only shows that it is alive, `shy` abstains."""

    def __init__(self, bus: EventBus) -> None:
        self.bus = bus
        self.orders = 0
        for name in (*AGENTS, "llm", "quiet", "shy"):
            bus.register_signal_agent(name)
            bus.subscribe("market_data", self.agent(name), name=name)
        bus.subscribe("market_data", self.decide, name="cio")
        bus.subscribe("decision", self.judge, name="risk")
        bus.subscribe("validated_decision", self.send, name="execution")
        bus.subscribe("order", self.fill, name="broker")

    def agent(self, name: str) -> Any:
        async def on_bar(bar: MarketDataEvent) -> None:
            assert bar.round_id is not None
            if name in AGENTS:
                await self.bus.publish_signal(vote(name, AGENTS[name], bar.round_id, bar.symbol))
            elif name == "shy":
                self.bus.abstain(name, "no view", bar.round_id)
            elif name == "quiet":
                self.bus.heartbeat(name)
            else:
                await asyncio.sleep(0.3)
                await self.bus.publish_signal(vote(name, -0.9, bar.round_id, bar.symbol))

        return on_bar

    async def decide(self, bar: MarketDataEvent) -> None:
        outcome = await self.bus.wait_for_signals(bar.round_id)
        signals = tuple(one.event_id for one in outcome.votes.values())
        await self.bus.publish(
            DecisionEvent(
                symbol=bar.symbol,
                action="buy",
                quantity=100,
                rationale="two of three",
                contributing_signals=signals,
                source_agent="cio",
            )
        )

    async def judge(self, decision: DecisionEvent) -> None:
        is_allowed = decision.symbol != "BAD"
        await self.bus.publish(
            ValidatedDecisionEvent(
                original_decision_id=decision.event_id,
                symbol=decision.symbol,
                approved=is_allowed,
                adjusted_quantity=90 if is_allowed else None,
                rejection_reason=None if is_allowed else "on the restricted list",
                side="buy",
                source_agent="risk",
            )
        )

    async def send(self, verdict: ValidatedDecisionEvent) -> None:
        if verdict.approved:
            self.orders += 1
            await self.bus.publish(
                OrderEvent(
                    order_id=f"o-{self.orders}",
                    client_order_id=f"c-{self.orders}",
                    decision_id=verdict.original_decision_id,
                    symbol=verdict.symbol,
                    side="buy",
                    quantity=90,
                    source_agent="execution",
                )
            )

    async def fill(self, order: OrderEvent) -> None:
        await self.bus.publish(
            FillEvent(
                order_id=order.order_id,
                execution_id=f"x-{order.order_id}",
                symbol=order.symbol,
                side="buy",
                filled_quantity=90,
                fill_price=100.0,
                source_agent="broker",
            )
        )


async def trade(bus: EventBus, symbols: Sequence[str]) -> None:
    """Hold a round for each symbol, one after the other."""
    for number, symbol in enumerate(symbols, 1):
        bus.open_round(f"{symbol}@{number}", quorum=4)
        await bus.publish(
            MarketDataEvent(symbol=symbol, price=100, round_id=f"{symbol}@{number}", source_agent="market")
        )
        await bus.join()


def traded(path: Path, symbols: Sequence[str] = ("AAPL", "BAD", "AAPL"), **settings: Any) -> Path:
    """Have the firm trade, and return its journal."""
    settings.setdefault("levels", {"market_data": "process"})

    async def run() -> None:
        kept = PersistenceConfig(path=path, socket=False, **settings)
        async with EventBus(signal_timeout=0.05, barrier_timeout=5.0, persistence_config=kept) as bus:
            Firm(bus)
            await trade(bus, symbols)

    run_virtual(run())
    return path


def entry_of(event: Event, wall_ns: int = NOON_NS, header: Header | None = None) -> Entry:
    return Entry(event.event_id, encode(event), wall_ns=wall_ns, header=header)


def written(path: Path, *events: Event, batch: int = 4) -> Path:
    """Write events into a journal, a millisecond apart."""
    with SqliteJournal(path) as journal:
        for at in range(0, len(events), batch):
            some = events[at : at + batch]
            journal.write(
                [entry_of(one, NOON_NS + (at + number) * 1_000_000) for number, one in enumerate(some)]
            )
    return path


def everything(path: Path) -> list[Stored]:
    with JournalReader(path) as reader:
        return reader.read(0, 1_000_000)


if __name__ == "__main__":
    traded(Path(sys.argv[1]))
