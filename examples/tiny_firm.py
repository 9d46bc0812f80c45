"""A tiny firm: three strategies, a CIO at the barrier, risk, and a broker that fills at once.

Run it in this directory: `openoutcry run tiny_firm:app`.
"""

import random
from collections.abc import AsyncIterator

from openoutcry import (
    DecisionEvent,
    EventBus,
    FillEvent,
    KillSwitchEvent,
    MarketDataEvent,
    OrderSide,
    SignalDirection,
    SignalEvent,
    ValidatedDecisionEvent,
)

SYMBOL = "ES"
ROUNDS = 20


class Strategy:
    """Long above its threshold, short below."""

    def __init__(self, bus: EventBus, name: str, threshold: float) -> None:
        self.bus, self.name, self.threshold = bus, name, threshold
        bus.register_signal_agent(name)
        bus.subscribe(MarketDataEvent, self.on_tick, timeout_s=2)

    async def on_tick(self, tick: MarketDataEvent) -> None:
        above = tick.price > self.threshold
        await self.bus.publish_signal(
            SignalEvent(
                source_agent=self.name,
                strategy_name=self.name,
                symbol=tick.symbol,
                direction=SignalDirection.LONG if above else SignalDirection.SHORT,
                confidence=min(1.0, abs(tick.price - self.threshold) / 10),
            )
        )


class Desk:
    """Risk approves what fits its limit, the broker fills what is approved, a kill switch ends both."""

    def __init__(self, bus: EventBus, limit: float = 5) -> None:
        self.bus, self.limit, self.position, self.halted = bus, limit, 0.0, False
        bus.subscribe(DecisionEvent, self.check)
        bus.subscribe(ValidatedDecisionEvent, self.fill)
        bus.subscribe(KillSwitchEvent, self.halt)

    async def check(self, decision: DecisionEvent) -> None:
        step = decision.quantity if decision.action is OrderSide.BUY else -decision.quantity
        approved = not self.halted and abs(self.position + step) <= self.limit
        await self.bus.publish(
            ValidatedDecisionEvent(
                source_agent="risk",
                original_decision_id=decision.event_id,
                symbol=decision.symbol,
                side=decision.action,
                adjusted_quantity=decision.quantity,
                approved=approved,
                rejection_reason=None if approved else "halted, or beyond the position limit",
            )
        )

    async def fill(self, validated: ValidatedDecisionEvent) -> None:
        if not validated.approved or self.halted:
            return
        self.position += 1 if validated.side is OrderSide.BUY else -1
        fill = FillEvent(
            order_id=validated.original_decision_id,
            symbol=validated.symbol,
            side=validated.side,
            filled_quantity=validated.adjusted_quantity,
            fill_price=100.0,
        )
        await self.bus.publish(fill)

    def halt(self, switch: KillSwitchEvent) -> None:
        self.halted = True
        print(f"halted: {switch.reason}")


async def app(bus: EventBus) -> AsyncIterator[None]:
    """Subscribe the agents; then hold some rounds, and pull the kill switch."""
    dice = random.Random(7)
    for name, threshold in (("trend", 100.0), ("value", 98.0), ("mood", 103.0)):
        Strategy(bus, name, threshold)
    desk = Desk(bus)
    yield  # the bus starts here
    for number in range(ROUNDS):
        opened = bus.open_round(f"{SYMBOL}-{number}", quorum=2, signal_timeout=0.5, barrier_timeout=1.0)
        tick = MarketDataEvent(
            symbol=SYMBOL, price=round(dice.gauss(100, 3), 2), round_id=opened.round_id, source_agent="feed"
        )
        await bus.publish(tick)
        outcome = await bus.wait_for_signals(opened.round_id)
        if not outcome.valid:
            print(outcome.explain())
            continue
        votes = sum(1 if s.direction is SignalDirection.LONG else -1 for s in outcome.values())
        side = OrderSide.BUY if votes > 0 else OrderSide.SELL
        await bus.publish(DecisionEvent(symbol=SYMBOL, action=side, quantity=1, source_agent="cio"))
        await bus.join()
    await bus.publish(KillSwitchEvent(reason="the day is over", source_agent="risk"))
    await bus.join()
    print(f"{ROUNDS} rounds, position {desk.position:+g}, ledger balances: {bus.ledger().balances}")
