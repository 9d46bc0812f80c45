"""The firm whose chaotic days are replayed: slow, busy, failing and forgetful agents, in real time.

    python -m campaigns.replay_firm JOURNAL SEED LIFE ROUNDS DIE_AT STOP_S

What an agent says depends on everything that it was handed before, and in which order. So a replay that hands
it something else, or in another order, is found out. In a later life some have what they remembered: `books`
folds, `chief` saves after each event, `broker` after every few; the others begin with nothing.
"""

import asyncio
import os
import random
import signal
import sys
from collections.abc import AsyncIterator
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final, NamedTuple

from openoutcry import (
    NO_RETRY,
    DecisionEvent,
    Event,
    EventBus,
    FillEvent,
    KillSwitchEvent,
    MarketDataEvent,
    Memory,
    OrderEvent,
    OrderSide,
    PersistenceConfig,
    Releaser,
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
        self.so_far = ""

    def heard(self, event: Any) -> str:
        """Remember an event, and return all that was heard in short."""
        self.so_far = blake2b(f"{self.so_far} {event.event_id}".encode(), digest_size=6).hexdigest()
        return self.so_far

    def save(self) -> str:
        """Return what is remembered."""
        return self.so_far

    def load(self, so_far: str) -> None:
        """Remember what was saved."""
        self.so_far = so_far


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
            [ReplayBell, MarketDataEvent],
            self.receive,
            name="chief",
            retry=NO_RETRY,
            breaker=False,
            memory=Memory(save=self.save, load=self.load, every=1),
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
        memory = Memory(save=self.save, load=self.load, every=5)
        bus.subscribe(OrderEvent, self.on_order, name="broker", memory=memory)

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
        known = self.heard(order)
        await asyncio.gather(*(self._fill(order, part, known) for part in (1, 2)))

    async def _fill(self, order: OrderEvent, part: int, known: str) -> None:
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
                exchange=known,
                source_agent="broker",
            )
        )


class Books(Remembers):
    """Hears bars in the normal lane and fills in the high one, and is busy: order is everything to it."""

    def __init__(self, bus: EventBus) -> None:
        super().__init__()
        self.bus = bus
        takes = [MarketDataEvent, FillEvent, SignalEvent]
        bus.subscribe(takes, self.receive, name="books", memory=Memory(fold=self.heard_again))

    def heard_again(self, event: Any) -> None:
        """Remember an event of an earlier life."""
        self.heard(event)

    async def receive(self, event: Any) -> None:
        """Note what it has been handed so far."""
        known = self.heard(event)
        await asyncio.sleep(0.0003)
        if not isinstance(event, SignalEvent):
            halted = sorted(halt.scope for halt in self.bus.halted("ES"))
            await self.bus.publish(ReplayNote(text=f"{known} {halted}", source_agent="books"))


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


class Plan(NamedTuple):
    """What happens in one life of the firm.

    Attributes:
        life: The how manieth it is, from 1.
        rounds: How many rounds of each symbol are asked for.
        die_at: In which of them the process is killed; 0: in none.
        stop_s: How long the bus may drain when it stops; below 0: until everything is settled.

    """

    life: int = 1
    rounds: int = 40
    die_at: int = 0
    stop_s: float = -1.0


async def feed(plan: Plan, draw: random.Random) -> AsyncIterator[tuple[ReplayBell, list[MarketDataEvent]]]:
    """Yield the bells and the ticks of a life."""
    for number in range(1_000 * plan.life, 1_000 * plan.life + plan.rounds):
        names = {symbol: f"{symbol}-{number}" for symbol in SYMBOLS}
        yield (
            ReplayBell(rounds=tuple(names.values())),
            [
                MarketDataEvent(symbol=symbol, price=100 + draw.random(), round_id=name, source_agent="feed")
                for symbol, name in names.items()
            ],
        )
        await asyncio.sleep(draw.choice((0.0, 0.001, 0.004, 0.008)))


async def take_over(bus: EventBus, releaser: Releaser, life: int) -> None:
    """Do what an operator does at the beginning of a life."""
    if life == 1:
        await bus.publish(KillSwitchEvent(scope="ES", reason="to be seen in the next life"))
    elif life == 2:
        bus.admin.redrive()
    else:
        await releaser.release(scope="ES", reason="seen")
    await asyncio.sleep(0.005)


async def trade(path: Path, seed: int, plan: Plan) -> None:
    """Have the firm trade on a journal for one life; die in the middle of it, if that is planned."""
    draw = random.Random(10 * seed + plan.life)  # noqa: S311
    persistence = PersistenceConfig(path=path, record="replay", cursor_save_s=0.05)
    bus = EventBus(
        persistence_config=persistence,
        signal_timeout=0.01,
        barrier_timeout=0.03,
        kill_switch_releasers={"operator"},
    )
    releaser = bus.releaser("operator")
    Firm().setup(bus)
    await bus.start()
    await take_over(bus, releaser, plan.life)
    number = 0
    async for bell, ticks in feed(plan, draw):
        await bus.publish(bell)
        await asyncio.sleep(0.0005)
        await bus.publish_many(ticks)
        number += 1
        if number == plan.die_at:
            os.kill(os.getpid(), signal.SIGKILL)
    if plan.stop_s < 0:
        await bus.join()
    await bus.stop(max(0.0, plan.stop_s))


def main() -> None:
    """Record a life of a day."""
    path, seed, *given = sys.argv[1:]
    life, rounds, die_at, stop_s = given
    running_app.set(APP)
    plan = Plan(int(life), int(rounds), int(die_at), float(stop_s))
    asyncio.run(trade(Path(path), int(seed), plan))


if __name__ == "__main__":
    main()
