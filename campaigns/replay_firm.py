"""The firm whose chaotic days are replayed: slow, busy, failing and forgetful agents, in real time.

    python -m campaigns.replay_firm JOURNAL SEED ROUNDS [--die-at ROUND]

What an agent says depends on everything that it was handed before, and in which order. So a replay that hands
it something else, or in another order, is found out.
"""

import asyncio
import os
import random
import signal
import sys
from collections.abc import AsyncIterator
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

from openoutcry import (
    NO_RETRY,
    DecisionEvent,
    Event,
    EventBus,
    FillEvent,
    MarketDataEvent,
    OrderEvent,
    OrderSide,
    PersistenceConfig,
    RetryPolicy,
    SignalEvent,
)
from openoutcry.errors import UnknownRound
from openoutcry.runtime.durability.recorder import running_app

STRATEGIES: Final = 10
SLOW: Final = 3
SYMBOLS: Final = ("ES", "NQ", "ZN")
APP: Final = "campaigns.replay_firm:Firm"


class ReplayBell(Event, kw_only=True):
    """Rounds are about to be asked for."""

    event_type: str = "replay_bell"
    rounds: tuple[str, ...]


class ReplayNote(Event, kw_only=True):
    """What an agent has to say about itself."""

    event_type: str = "replay_note"
    text: str


class Remembers:
    """What an agent has been handed so far, in one short text."""

    def __init__(self) -> None:
        self.so_far = blake2b(digest_size=6)

    def heard(self, event: Any) -> str:
        """Remember an event, and return all that was heard in short."""
        self.so_far.update(event.event_id.encode())
        return self.so_far.hexdigest()


class Strategy(Remembers):
    """Thinks for a while, and answers; fails now and then."""

    def __init__(self, bus: EventBus, number: int) -> None:
        super().__init__()
        self.bus, self.number, self.name = bus, number, f"s{number:02}"
        bus.register_signal_agent(self.name, critical=number == STRATEGIES - 1)
        bus.subscribe(
            MarketDataEvent,
            self.on_tick,
            name=self.name,
            timeout_s=10.0,
            retry=NO_RETRY if number % 2 else RetryPolicy(attempts=3, first_s=0.002, max_s=0.01),
            breaker=False,
        )

    async def on_tick(self, tick: MarketDataEvent) -> None:
        """Answer in the round of a tick."""
        known = self.heard(tick)
        if self.number < SLOW:
            answer: dict[str, float] = await self.bus.recorded("mood", self.mood)
            await asyncio.sleep(answer["s"])
            known += f" {answer['s']}"
        if self.bus.chance.random() < 0.02:
            raise ValueError(f"{self.name} has lost its thread")
        if self.bus.chance.random() < 0.1:
            try:
                self.bus.abstain(self.name, known, tick.round_id)
            except UnknownRound:
                await self.bus.publish(ReplayNote(text=f"no round {known}", source_agent=self.name))
            return
        await self.bus.publish_signal(self.answer(tick, known))

    async def mood(self) -> dict[str, float]:
        """Take a while, mostly a short one; it is never twice alike."""
        return {"s": random.choice((0.0, 0.001, 0.002, 0.004, 0.008))}  # noqa: S311

    def answer(self, tick: MarketDataEvent, known: str) -> SignalEvent:
        """Return a signal."""
        return SignalEvent(
            source_agent=self.name,
            strategy_name="replayed",
            symbol=tick.symbol,
            direction="long" if self.bus.chance.random() < 0.5 else "short",
            confidence=0.5,
            rationale=known,
            round_id=tick.round_id,
        )


class Chief(Remembers):
    """Opens the rounds, waits for them, and decides."""

    def __init__(self, bus: EventBus) -> None:
        super().__init__()
        self.bus = bus
        bus.subscribe(
            [ReplayBell, MarketDataEvent], self.receive, name="chief", retry=NO_RETRY, breaker=False
        )

    async def receive(self, event: Any) -> None:
        """Open, or decide."""
        known = self.heard(event)
        if isinstance(event, ReplayBell):
            for round_id in event.rounds:
                self.bus.open_round(round_id, quorum=0.6, signal_timeout=0.01, barrier_timeout=0.03)
            return
        outcome = await self.bus.wait_for_signals(event.round_id)
        longs = sum(signal.direction == "long" for signal in outcome.values())
        absent = f"{sorted(outcome.missing)} {sorted(outcome.abstained)}"
        if outcome.valid:
            await self.bus.publish(
                DecisionEvent(
                    symbol=event.symbol,
                    action=OrderSide.BUY if 2 * longs >= len(outcome) else OrderSide.SELL,
                    quantity=float(1 + longs),
                    conviction_score=0.5,
                    rationale=f"{known} {outcome.status} {absent}",
                    contributing_signals=tuple(sorted(signal.event_id for signal in outcome.values())),
                    source_agent="chief",
                )
            )


class Desk(Remembers):
    """Sends orders, and fills them under ids of its own."""

    def __init__(self, bus: EventBus) -> None:
        super().__init__()
        self.bus = bus
        bus.subscribe(DecisionEvent, self.on_decision, name="execution", outbox=True)
        bus.subscribe(OrderEvent, self.on_order, name="broker")

    async def on_decision(self, decision: DecisionEvent) -> None:
        """Send an order."""
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
        """Fill an order, in a task, after a moment."""
        await asyncio.gather(*(self._fill(order, part) for part in (1, 2)))

    async def _fill(self, order: OrderEvent, part: int) -> None:
        await asyncio.sleep(0.0005 * part)
        await self.bus.publish(
            FillEvent(
                event_id=f"{order.order_id}-{part}",
                order_id=order.order_id,
                execution_id=f"{order.order_id}-{part}",
                symbol=order.symbol,
                side=order.side,
                filled_quantity=order.quantity / 2,
                fill_price=100.0,
                source_agent="broker",
            )
        )


class Books(Remembers):
    """Hears bars in the normal lane and fills in the high one, and is busy: order is everything to it."""

    def __init__(self, bus: EventBus) -> None:
        super().__init__()
        self.bus = bus
        bus.subscribe([MarketDataEvent, FillEvent, SignalEvent], self.receive, name="books")

    async def receive(self, event: Any) -> None:
        """Note what it has been handed so far."""
        known = self.heard(event)
        await asyncio.sleep(0.0003)
        if not isinstance(event, SignalEvent):
            await self.bus.publish(ReplayNote(text=known, source_agent="books"))


class Firm:
    """The app; what a day is planted with is in a subclass."""

    strategy: Any = Strategy

    def setup(self, bus: EventBus) -> None:
        """Subscribe everybody."""
        Books(bus)
        Chief(bus)
        Desk(bus)
        for number in range(STRATEGIES):
            self.strategy(bus, number)

    async def main(self, bus: EventBus) -> None:
        """Trade: the number of rounds and the seed are the command's."""


async def feed(rounds: int, draw: random.Random) -> AsyncIterator[tuple[ReplayBell, list[MarketDataEvent]]]:
    """Yield the bells and the ticks of a day."""
    for number in range(rounds):
        names = {symbol: f"{symbol}-{number}" for symbol in SYMBOLS}
        yield (
            ReplayBell(rounds=tuple(names.values())),
            [
                MarketDataEvent(symbol=symbol, price=100 + draw.random(), round_id=name, source_agent="feed")
                for symbol, name in names.items()
            ],
        )
        await asyncio.sleep(draw.choice((0.0, 0.001, 0.004, 0.008)))


async def trade(path: Path, seed: int, rounds: int, die_at: int | None) -> None:
    """Have the firm trade on a journal; die in the middle, if asked to."""
    draw = random.Random(seed)  # noqa: S311
    persistence = PersistenceConfig(path=path, record="replay", cursor_save_s=0.05)
    async with EventBus(persistence_config=persistence, signal_timeout=0.01, barrier_timeout=0.03) as bus:
        Firm().setup(bus)
        number = 0
        async for bell, ticks in feed(rounds, draw):
            await bus.publish(bell)
            await asyncio.sleep(0.0005)
            await bus.publish_many(ticks)
            number += 1
            if number == die_at:
                os.kill(os.getpid(), signal.SIGKILL)
        await bus.join()


def main() -> None:
    """Record a day."""
    path, seed, rounds = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    running_app.set(APP)
    asyncio.run(trade(path, seed, rounds, int(sys.argv[5]) if len(sys.argv) > 4 else None))


if __name__ == "__main__":
    main()
