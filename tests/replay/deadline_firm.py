"""A firm whose agents answer at the edge of the deadline of their rounds, recorded in virtual time.

Nothing in it takes time but its clock, which moves on whenever it is read, as on a busy machine. So when a vote
came, when it was written, when its round was opened and when that ended are never told by one reading.
"""

import asyncio
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from typing import Any, Final

from listening_firm import Auditor

from openoutcry import DecisionEvent, EventBus, MarketDataEvent, OrderSide, PersistenceConfig, SignalEvent
from openoutcry.clocks import VirtualClock
from openoutcry.runtime.durability.recorder import running_app
from openoutcry.virtual import VirtualLoop

ROUNDS: Final = 24
DEADLINE_S: Final = 0.001
AGENTS: Final = ("trend", "value", "carry", "basis", "macro")
APP: Final = "deadline_firm:Deadlines"


class SteppedClock(VirtualClock):
    """A clock that moves on by some microseconds whenever it is read."""

    __slots__ = ("_steps_ns",)

    def __init__(self, *steps_us: int) -> None:
        super().__init__()
        self._steps_ns = cycle([step_us * 1_000 for step_us in steps_us])

    def now_ns(self) -> int:
        """Nanoseconds since the clock was made."""
        self._now_ns += next(self._steps_ns)
        return self._now_ns

    def wall_ns(self) -> int:
        """Nanoseconds since 1970."""
        return self._start_wall_ns + self.now_ns()


class SteppedLoop(VirtualLoop):
    """A virtual loop that looks at its clock without moving it on."""

    def time(self) -> float:
        """Virtual seconds since the clock was made."""
        return self.clock._now_ns / 1e9


class Deadlines:
    """The app. Votes, further votes and abstentions come a little before and after the deadline.

    Without a chief nobody waits for rounds.
    """

    def __init__(
        self, *, quorum: float = 0.6, barrier_timeout_s: float = 0.5, has_chief: bool = True
    ) -> None:
        self.quorum, self.barrier_timeout_s, self.has_chief = quorum, barrier_timeout_s, has_chief

    def setup(self, bus: EventBus) -> None:
        self.bus = bus
        for number, name in enumerate(AGENTS):
            bus.register_signal_agent(name)
            bus.subscribe(MarketDataEvent, self.voter(name, number), name=name)
        if self.has_chief:
            bus.subscribe(MarketDataEvent, self.decide, name="chief")
        Auditor(bus)

    def voter(self, name: str, number: int) -> Callable[[MarketDataEvent], Any]:
        async def vote(tick: MarketDataEvent) -> None:
            turn = int(tick.price) + number
            await asyncio.sleep(DEADLINE_S * (0.5, 0.9, 0.96, 1.0, 1.04)[turn % 5])
            if turn % 7 == number:
                self.bus.abstain(name, f"no view on {tick.price:g}", tick.round_id)
                return
            for symbol in ("ES", "ZN")[: 1 + turn % 2]:
                await self.bus.publish_signal(
                    SignalEvent(
                        source_agent=name,
                        strategy_name=name,
                        symbol=symbol,
                        direction="long" if turn % 3 else "short",
                        round_id=tick.round_id,
                    )
                )

        return vote

    async def decide(self, tick: MarketDataEvent) -> None:
        outcome = await self.bus.wait_for_signals(tick.round_id)
        longs = sum(signal.direction == "long" for signal in outcome.values())
        side = OrderSide.BUY if 2 * longs >= len(outcome) else OrderSide.SELL
        await self.bus.publish(
            DecisionEvent(symbol="ES", action=side, quantity=float(1 + len(outcome)), source_agent="chief")
        )

    async def trade(self) -> None:
        bus = self.bus
        for number in range(ROUNDS):
            round_id = f"ES-{number}"
            bus.open_round(
                round_id,
                quorum=self.quorum,
                signal_timeout=DEADLINE_S,
                barrier_timeout=self.barrier_timeout_s,
            )
            await bus.publish(
                MarketDataEvent(symbol="ES", price=float(number + 1), round_id=round_id, source_agent="feed")
            )
            await bus.join()
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.3)
        await bus.join()


def record_deadlines(path: Path, firm: Deadlines, clock: VirtualClock, *, how: Any = "replay") -> None:
    """Record a day of the firm on a clock."""

    async def run() -> None:
        levels: Any = {"market_data": "process"} if how == "rounds" else {}
        persistence = PersistenceConfig(path=path, record=how, levels=levels, socket=False)
        async with EventBus(persistence_config=persistence) as bus:
            firm.setup(bus)
            await firm.trade()

    running_app.set(APP)
    with asyncio.Runner(loop_factory=lambda: SteppedLoop(clock)) as runner:
        runner.run(run())
