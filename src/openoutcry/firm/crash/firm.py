"""One life of the firm: restores its state from the journal, and trades on from there."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

import msgspec

from openoutcry.clocks import SystemClock
from openoutcry.config import Link, PersistenceConfig
from openoutcry.events import stamps
from openoutcry.firm.agents import (
    Agent,
    Archivist,
    ChiefInvestmentOfficer,
    ComplianceOfficer,
    OrderManager,
    Portfolio,
    RiskOfficer,
    StrategyAgent,
)
from openoutcry.firm.agents.gateway import BrokerGateway
from openoutcry.firm.bars import load_history
from openoutcry.firm.brokerage import BrokerLine
from openoutcry.firm.crash.market import DurableMarket
from openoutcry.firm.crash.watch import Watch
from openoutcry.firm.crash.words import Account, Fill, Holding, Life, Word
from openoutcry.firm.mandate import Mandate
from openoutcry.firm.strategies import recipes
from openoutcry.runtime.api.bus import EventBus

Tell = Callable[[Word], None]
Hold = Callable[[], None]

PATIENCE_S = 300.0
"""How long a round holds out for everybody: a vote must not depend on how busy the machine is."""
CRASHES_MAX = 20
"""An event with so many crashes counts as their cause. Here the supervisor is the cause."""
SUSPECT_ALONE_S = 0.05
"""How long an event that was in a handler at a crash is tried alone. The CIO waits for others: not long."""


@dataclass(slots=True)
class Staff:
    """The agents of the firm: those of the plain firm, but for the market and the broker's gateway.

    Attributes:
        line: The connection to the broker; None where the gateway does not work.

    """

    line: BrokerLine | None
    agents_count: int
    mandate: Mandate = field(default_factory=Mandate)
    market: DurableMarket = field(default_factory=DurableMarket)
    cio: ChiefInvestmentOfficer = field(init=False)
    risk: RiskOfficer = field(init=False)
    compliance: ComplianceOfficer = field(init=False)
    execution: OrderManager = field(default_factory=OrderManager)
    gateway: BrokerGateway = field(init=False)
    portfolio: Portfolio = field(init=False)
    archivist: Archivist = field(default_factory=Archivist)
    strategies: tuple[StrategyAgent, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.cio = ChiefInvestmentOfficer(self.mandate)
        self.risk = RiskOfficer(self.mandate)
        self.compliance = ComplianceOfficer(self.mandate)
        self.gateway = BrokerGateway(self.line)
        self.portfolio = Portfolio(self.mandate)
        self.strategies = tuple(StrategyAgent(recipe) for recipe in recipes(self.agents_count))

    @property
    def everybody(self) -> tuple[Agent, ...]:
        """All agents, in the order of the plain firm."""
        desk = (self.cio, self.risk, self.compliance, self.execution, self.gateway, self.portfolio)
        return (self.market, *desk, self.archivist, *self.strategies)


class RestartableFirm:
    """A firm on a bus with a journal, killed or not.

    Attributes:
        life: What it was given.
        staff: All agents of the firm.
        agents: Those that work on this bus.
        bus: The bus.
        watch: Holds it where it is to be killed.
        tell: Writes a line.
        born_s: When it was made, on the monotonic clock.

    """

    def __init__(
        self, life: Life, line: BrokerLine | None, tell: Tell, hold: Hold, link: Link | None = None
    ) -> None:
        self.life = life
        self.staff = Staff(line, life.agents)
        self.agents: tuple[Agent, ...] = self.staff.everybody
        self.bus = EventBus(
            signal_timeout=PATIENCE_S,
            barrier_timeout=PATIENCE_S,
            enable_persistence=True,
            persistence_config=PersistenceConfig(
                path=Path(life.journal),
                levels={"market_data": "process"},
                crash_attempts=CRASHES_MAX,
                suspect_alone_s=SUSPECT_ALONE_S,
                socket=False,
            ),
            link=link,
        )
        self.watch: Watch = Watch(self._hold)
        self.watch.wait_for(life.place, life.day, life.nth)
        self.tell: Tell = tell
        self._hold_still = hold
        self._today = (0, "")
        self.born_s: float = monotonic()
        self._recovered = 0

    async def live(self) -> None:
        """Restore the state, and trade until the last day is over."""
        market = self.staff.market
        self.attach()
        with stamps(time_ns=market.wall_ns):
            with stamps(ids="crash-demo"):  # the journals of both runs have one origin, so that ids compare
                self._recovered = await self.bus.recover_persisted_events()
            number = self.watch.day = market.resume()
            async with self.bus:
                await self.work(number)

    async def work(self, number: int) -> None:
        """Trade from a day on until the last one is over."""
        await self.trade(number)
        await self.write_account()
        self.say("done")

    async def trade(self, number: int) -> None:
        """Play the market from a day on until the last one is over."""
        history, market = load_history(self.life.symbols, days=self.life.days), self.staff.market
        self.begin_day(number, history.sessions[number].day.isoformat())
        self.say("back", took_s=monotonic() - self.born_s)
        for session in history.sessions[number:]:
            self.begin_day(number, session.day.isoformat())
            self.say("day")
            await market.play(number, session)
            number += 1
            if self.life.days_per_s:
                await asyncio.sleep(1 / self.life.days_per_s)
        await market.close()

    def attach(self) -> None:
        """Put the agents on the bus."""
        clock = SystemClock()
        for agent in self.agents:
            if isinstance(agent, StrategyAgent):
                self.bus.register_signal_agent(agent.name)
        for agent in self.agents:
            agent.attach_durably(self.bus, clock)
            agent.on_said = self.watch.said
        self.staff.gateway.on_step = self.watch.step

    def begin_day(self, number: int, date: str) -> None:
        """Note which trading day it is, to say it."""
        self._today = (number, date)

    def _hold(self, what: str) -> None:
        self.say("place", what=what)
        self._hold_still()

    def say(self, at: str, *, what: str = "", took_s: float = 0.0) -> None:
        """Write a line."""
        self.tell(self.word(at, what=what, took_s=took_s))

    def word(self, at: str, *, what: str = "", took_s: float = 0.0) -> Word:
        """Return a line about now."""
        book, journal = self.staff.portfolio.book, self.bus.get_status()["journal"]
        number, date = self._today
        return Word(
            at=at,
            number=number,
            date=date,
            equity=book.equity,
            fills=book.fills_count,
            loaded=sum(agent.loaded_count for agent in self.agents),
            remembered=sum(agent.remembered_count for agent in self.agents),
            recovered=self._recovered,
            duplicates=self.bus.metrics.duplicates + journal["duplicates"],
            repeated=self.staff.gateway.repeated,
            took_s=took_s,
            what=what,
        )

    async def write_account(self) -> None:
        """Write the books of the portfolio, which works here."""
        account = msgspec.json.encode(self._account())
        await asyncio.to_thread(Path(self.life.account).write_bytes, account)

    def _account(self) -> Account:
        portfolio = self.staff.portfolio
        book = portfolio.book
        return Account(
            capital=book.capital,
            cash=book.cash,
            equity=book.equity,
            realised=book.realised,
            commissions=book.commissions,
            fees=book.fees,
            unbalanced=book.unbalanced,
            positions=tuple(
                Holding(symbol, held.quantity, held.cost, held.realised)
                for symbol, held in sorted(book.positions.items())
            ),
            fills=tuple(
                Fill(
                    trade.fill_id,
                    trade.day,
                    trade.symbol,
                    trade.side.value,
                    trade.shares,
                    trade.price,
                    trade.commission,
                    trade.realised,
                    trade.held_after,
                )
                for trade in portfolio.trades
            ),
            equity_by_day=tuple(portfolio.equity),
            open_orders=tuple(self.staff.execution.open_orders),
            dead_letters=len(self.bus.dead_letters()),
            conflicts=self.bus.get_status()["journal"]["conflicts"],
        )


async def live(life: Life, tell: Tell, hold: Hold) -> None:
    """Connect to the broker, and run the firm until the last day is over."""
    async with await BrokerLine.connect(Path(life.socket)) as line:
        await RestartableFirm(life, line, tell, hold).live()
