"""The results of a run, gathered once for the terminal and the report."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from itertools import pairwise

from openoutcry.core.ledger import Ledger
from openoutcry.events import Event
from openoutcry.firm.agents import StrategyAgent
from openoutcry.firm.agents.portfolio import Trade
from openoutcry.firm.agents.strategist import FLAT_BELOW
from openoutcry.firm.bars import History
from openoutcry.firm.buyhold import Holding, buy_and_hold
from openoutcry.firm.figures import Figures, figures
from openoutcry.firm.house import House
from openoutcry.firm.money import Units
from openoutcry.trading import SignalEvent


@dataclass(frozen=True, slots=True)
class SymbolResult:
    """The firm's profit with one symbol, and that of holding it with the whole capital."""

    symbol: str
    first_day: date
    fills_count: int
    commissions: Units
    profit: Units
    """Realised and open profit, after commissions; borrowing fees are not split by symbol."""
    held: Figures


@dataclass(frozen=True, slots=True)
class StrategyResult:
    """How one strategy voted, and how often the next close proved it right."""

    name: str
    kind: str
    answers: Counter[str]
    calls_count: int
    """Long and short opinions that can be judged by a next day."""
    right_count: int
    missed_count: int
    """Rounds that ended without it."""

    @property
    def hit_rate(self) -> float | None:
        """Share of these that were right about the direction of the next close."""
        return self.right_count / self.calls_count if self.calls_count else None


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast the bus was. Latencies are from publishing to the handler, in microseconds."""

    elapsed_s: float
    """Without the pauses that `--speed` asked for."""
    published_count: int
    handled_count: int
    p50_us: float
    p99_us: float
    p999_us: float

    @property
    def events_per_s(self) -> float:
        """Events published per second of running time."""
        return self.published_count / self.elapsed_s if self.elapsed_s > 0 else 0.0

    @property
    def deliveries_per_s(self) -> float:
        """Events handled, once per subscription, per second of running time."""
        return self.handled_count / self.elapsed_s if self.elapsed_s > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Results:
    """All results of a run."""

    house: House
    history: History
    """The days that were run."""
    firm: Figures
    held: Figures
    holding: Holding
    symbols: tuple[SymbolResult, ...]
    strategies: tuple[StrategyResult, ...]
    speed: Speed
    ledger: Ledger
    refused: dict[str, int]
    dead_letters: Counter[str]
    late_count: int
    """Answers that came after their round, in the rounds with a missing agent."""
    example: Trade | None
    """Of the fills that strategies voted for, the one that realised the largest gain or loss."""
    chain: list[Event]
    """The events that led to it, the bar first."""

    @property
    def sound(self) -> bool:
        """Whether nothing was lost: the bus's ledger and the firm's books both balance."""
        return self.ledger.balances and self.house.firm.portfolio.book.unbalanced == 0

    @property
    def days(self) -> Sequence[date]:
        """The trading days."""
        return self.house.firm.portfolio.days


def gather(house: House) -> Results:
    """Gather the results of a run that has ended."""
    portfolio = house.firm.portfolio
    history = History(house.history.symbols, house.history.sessions[: house.days_done])
    holding = buy_and_hold(history, house.mandate)
    example, chain = _example(house)
    ledger = house.bus.ledger()
    outcomes = house.firm.cio.outcomes
    return Results(
        house=house,
        history=history,
        firm=figures(portfolio.days, portfolio.equity, house.mandate.capital),
        held=figures(holding.days, holding.equity, house.mandate.capital),
        holding=holding,
        symbols=_by_symbol(house, history),
        strategies=_by_strategy(house, history),
        speed=_speed(house, ledger),
        ledger=ledger,
        refused=house.bus.metrics.refused,
        dead_letters=Counter(letter.subscription for letter in house.bus.dead_letters()),
        late_count=sum(outcome.late_count for outcome in outcomes),
        example=example,
        chain=chain,
    )


def _example(house: House) -> tuple[Trade | None, list[Event]]:
    for trade in sorted(house.firm.portfolio.trades, key=lambda trade: -abs(trade.realised)):
        chain = house.firm.archivist.explain(trade.fill_id)
        if any(isinstance(event, SignalEvent) for event in chain):
            return trade, chain
    return None, []


def _by_symbol(house: House, history: History) -> tuple[SymbolResult, ...]:
    results = []
    for symbol in history.symbols:
        if next(history.of(symbol), None) is None:
            continue
        held = buy_and_hold(history, house.mandate, (symbol,))
        trades = [trade for trade in house.firm.portfolio.trades if trade.symbol == symbol]
        position = house.firm.portfolio.book.position(symbol)
        commissions = sum(trade.commission for trade in trades)
        results.append(
            SymbolResult(
                symbol=symbol,
                first_day=held.days[0],
                fills_count=len(trades),
                commissions=commissions,
                profit=position.realised + position.value - position.cost - commissions,
                held=figures(held.days, held.equity, house.mandate.capital),
            )
        )
    return tuple(results)


def _by_strategy(house: House, history: History) -> tuple[StrategyResult, ...]:
    moves: dict[tuple[str, str], float] = {}
    for symbol in history.symbols:
        for bar, following in pairwise(history.of(symbol)):
            moves[symbol, bar.day.isoformat()] = following.close - bar.close
    return tuple(
        _judge(agent, moves, house.firm.cio.tally.missing[agent.name]) for agent in house.firm.strategies
    )


def _judge(agent: StrategyAgent, moves: dict[tuple[str, str], float], missed_count: int) -> StrategyResult:
    calls = [(score, moves.get(key, 0.0)) for key, score in agent.scores.items() if abs(score) >= FLAT_BELOW]
    judged = [score * move for score, move in calls if move]
    right_count = sum(product > 0 for product in judged)
    return StrategyResult(
        agent.name, agent.recipe.kind, agent.answers, len(judged), right_count, missed_count
    )


def _speed(house: House, ledger: Ledger) -> Speed:
    latency = house.bus.get_status()["latency"]
    return Speed(
        elapsed_s=max(house.elapsed_ns - house.paused_ns, 1) / 1e9,
        published_count=house.bus.metrics.published,
        handled_count=ledger.total("handled"),
        p50_us=latency["p50_us"] or 0.0,
        p99_us=latency["p99_us"] or 0.0,
        p999_us=latency["p99.9_us"] or 0.0,
    )
