"""The house: hires the agents, puts them on one bus, and runs the market through it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

from openoutcry.clocks import SystemClock
from openoutcry.config import NO_RETRY, PersistenceConfig
from openoutcry.core.pressure import BackpressureLevel
from openoutcry.events import stamps
from openoutcry.firm.agents import (
    Agent,
    Archivist,
    ChiefInvestmentOfficer,
    ComplianceOfficer,
    MarketDataAgent,
    OrderManager,
    PaperBroker,
    Portfolio,
    RiskOfficer,
    StrategyAgent,
)
from openoutcry.firm.bars import History
from openoutcry.firm.chaos import ChaosPlan
from openoutcry.firm.mandate import Mandate
from openoutcry.firm.strategies import Recipe
from openoutcry.ports import Clock
from openoutcry.runtime.api.bus import EventBus
from openoutcry.trading import KillSwitchEvent

SUPERVISOR = "supervisor"
KILL_PATIENCE_S = 5.0
"""Within this time every agent has heard the kill switch, or the run fails."""
DESK = ("cio", "risk", "compliance", "execution", "broker", "portfolio", "archivist")
"""The agents without which no day can be closed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How patient the house is, in seconds.

    Attributes:
        signal_timeout_s: How long a round holds out for everybody.
        barrier_timeout_s: When a round ends, whatever it has.
        strategy_timeout_s: The longest reaction of a strategy; None for no limit.
        patience_s: The longest that the market waits for strategies to settle; None for no limit.
        max_queue_size: Room on the bus, in events.

    """

    signal_timeout_s: float = 5.0
    barrier_timeout_s: float = 10.0
    strategy_timeout_s: float | None = None
    patience_s: float | None = None
    max_queue_size: int = 10_000


CALM = Timing()
STORMY = Timing(
    signal_timeout_s=0.05,
    barrier_timeout_s=0.15,
    strategy_timeout_s=0.2,
    patience_s=0.02,
    max_queue_size=2_000,
)
"""For a run with chaos: real time-outs, and a bus small enough to fill up."""
WATCHED = Timing(
    signal_timeout_s=0.2,
    barrier_timeout_s=0.4,
    strategy_timeout_s=20.0,
    patience_s=0.02,
    max_queue_size=2_000,
)
"""For a run with chaos at a speed that a person follows: whoever hangs does so long enough to be seen."""
OPERATOR = "operator"
"""Who may release the kill switch of a firm with a journal."""


@dataclass(slots=True)
class KillReport:
    """What happened when the kill switch was thrown.

    Attributes:
        day: The trading day.
        accepted: Whether the bus took it.
        queue_size: The most events that a publisher met at that moment.
        level: The backpressure level at that moment.
        heard_ns: From publishing to each handler, by agent.
        orders_before: Orders sent until all agents had heard.

    """

    day: str
    accepted: bool
    queue_size: int
    level: str
    heard_ns: dict[str, int]
    orders_before: int

    @property
    def slowest_ms(self) -> float:
        """From publishing until the last of the agents had heard, in milliseconds."""
        return max(self.heard_ns.values()) / 1e6


@dataclass(slots=True)
class Firm:
    """The agents of the firm."""

    market: MarketDataAgent
    strategies: tuple[StrategyAgent, ...]
    cio: ChiefInvestmentOfficer
    risk: RiskOfficer
    compliance: ComplianceOfficer
    execution: OrderManager
    broker: PaperBroker
    portfolio: Portfolio
    archivist: Archivist

    @property
    def desk(self) -> tuple[Agent, ...]:
        """All agents but the strategies."""
        return (
            self.market,
            self.cio,
            self.risk,
            self.compliance,
            self.execution,
            self.broker,
            self.portfolio,
            self.archivist,
        )

    @property
    def everybody(self) -> tuple[Agent, ...]:
        """All agents."""
        return (*self.desk, *self.strategies)


def hire(recipes: tuple[Recipe, ...], mandate: Mandate, timing: Timing, plan: ChaosPlan | None) -> Firm:
    """Make the agents of a firm, not yet on a bus."""
    return Firm(
        market=MarketDataAgent(DESK, timing.patience_s),
        strategies=tuple(
            StrategyAgent(recipe, plan.fault_of(recipe.name) if plan else None) for recipe in recipes
        ),
        cio=ChiefInvestmentOfficer(mandate),
        risk=RiskOfficer(mandate),
        compliance=ComplianceOfficer(mandate),
        execution=OrderManager(),
        broker=PaperBroker(mandate),
        portfolio=Portfolio(mandate),
        archivist=Archivist(),
    )


@dataclass(slots=True)
class House:
    """One run of a firm over a history.

    Attributes:
        journal: The file that the bus writes to; None for a bus in memory.
        is_recorded: Whether everything is written there that a replay needs.
        given: The bus to trade on; None: one is made.
        firm: The agents.
        bus: The bus; stopped after `run`.
        elapsed_ns: How long the run took, pauses included.
        paused_ns: How much of that it waited between days, as asked.
        levels: Backpressure level changes as (nanoseconds since the start, level).
        kill: What happened at the kill switch, if there was one.
        days_done: Trading days so far.

    """

    history: History
    recipes: tuple[Recipe, ...]
    mandate: Mandate = field(default_factory=Mandate)
    timing: Timing = CALM
    plan: ChaosPlan | None = None
    clock: Clock = field(default_factory=SystemClock)
    journal: Path | None = None
    is_recorded: bool = False
    given: EventBus | None = None
    firm: Firm = field(init=False)
    bus: EventBus = field(init=False)
    elapsed_ns: int = 0
    paused_ns: int = 0
    levels: list[tuple[int, BackpressureLevel]] = field(default_factory=list)
    kill: KillReport | None = None
    days_done: int = 0

    def __post_init__(self) -> None:
        self.firm = hire(self.recipes, self.mandate, self.timing, self.plan)
        self.bus = self._make_bus() if self.given is None else self.given

    def _make_bus(self) -> EventBus:
        kept = None
        if self.journal is not None:
            if self.is_recorded:
                kept = PersistenceConfig(path=self.journal, record="replay")
            else:
                kept = PersistenceConfig(path=self.journal, levels={"market_data": "process"})
        return EventBus(
            max_queue_size=self.timing.max_queue_size,
            signal_timeout=self.timing.signal_timeout_s,
            barrier_timeout=self.timing.barrier_timeout_s,
            clock=self.clock,
            enable_persistence=kept is not None,
            persistence_config=kept,
            kill_switch_releasers=() if kept is None else (OPERATOR,),
        )

    async def run(
        self,
        on_day: Callable[["House"], None] = lambda _house: None,
        *,
        days_per_s: float | None = None,
        rest_s: float = 0.0,
    ) -> None:
        """Run every day of the history, or until the chaos plan ends it. `on_day` is called after each day.

        The bus is open for `rest_s` seconds more when the last day is over.

        Ids and times of events come from the market, so that two runs with the same arguments make the same
        events.
        """
        start_ns = self.clock.now_ns()
        self.bus.on_backpressure_change(
            lambda level: self.levels.append((self.clock.now_ns() - start_ns, level))
        )
        self.attach()
        with stamps(ids="firm", time_ns=self.firm.market.wall_ns):
            async with self.bus:
                async for _ in self.trade():
                    self.elapsed_ns = self.clock.now_ns() - start_ns
                    on_day(self)
                    if days_per_s:
                        await self._pause(1 / days_per_s)
                if rest_s:
                    await self._pause(rest_s)
        self.elapsed_ns = self.clock.now_ns() - start_ns

    async def trade(self) -> AsyncIterator[int]:
        """Run the days on a bus that runs, yielding the number of each when it is over; then close."""
        sessions = self.history.sessions[: self.plan.days if self.plan else None]
        for number, session in enumerate(sessions):
            if self.plan is not None and number == self.plan.kill_day:
                await self._play_and_kill(number)
            else:
                await self.firm.market.play(number, session)
            self.days_done = number + 1
            yield number
        await self.firm.market.close()

    def attach(self) -> None:
        """Subscribe all agents to the bus."""
        for agent in self.firm.desk:
            agent.attach(self.bus, self.clock)
        for strategy in self.firm.strategies:
            self.bus.register_signal_agent(strategy.name)
            # A bar that could not be handled today is of no use later: no second attempt.
            strategy.attach(self.bus, self.clock, timeout_s=self.timing.strategy_timeout_s, retry=NO_RETRY)

    async def _pause(self, pause_s: float) -> None:
        since_ns = self.clock.now_ns()
        await asyncio.sleep(pause_s)
        self.paused_ns += self.clock.now_ns() - since_ns

    async def _play_and_kill(self, number: int) -> None:
        """Play the day of the flood, and throw the kill switch in the middle of it."""
        flooding = next(
            agent for agent in self.firm.strategies if agent.fault and agent.fault.first_day == number
        )
        watch = asyncio.create_task(self._throw_kill_switch(flooding))
        await self.firm.market.play(number, self.history.sessions[number])
        flooding.overflowing.set()  # the switch is thrown even if the flood was cut short
        await watch

    async def _throw_kill_switch(self, flooding: StrategyAgent) -> None:
        await flooding.overflowing.wait()
        queue_size, level = self.bus.queue_size, self.bus.backpressure_level
        since_ns = self.clock.now_ns()
        accepted = await self.bus.publish(
            KillSwitchEvent(
                reason=f"{flooding.name} floods the bus", triggered_by=SUPERVISOR, source_agent=SUPERVISOR
            )
        )
        async with asyncio.timeout(KILL_PATIENCE_S):
            for agent in self.firm.everybody:
                await agent.heard_kill.wait()
        self.kill = KillReport(
            day=self.history.sessions[self.days_done].day.isoformat(),
            accepted=accepted,
            queue_size=queue_size,
            level=level.value,
            heard_ns={
                agent.name: (agent.kill_heard_ns or since_ns) - since_ns for agent in self.firm.everybody
            },
            orders_before=self.firm.execution.orders_count,
        )
