"""The chief investment officer: opens a round per symbol and day, waits at the barrier, and decides."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from openoutcry.core.outcome import RoundOutcome
from openoutcry.firm.agents.bookkeeper import Bookkeeper
from openoutcry.firm.allocation import Ballot, conviction, wanted_trade
from openoutcry.firm.happenings import Abstained, SessionOpened, round_name
from openoutcry.firm.mandate import Mandate
from openoutcry.firm.money import to_units
from openoutcry.runtime.rounds.barriers import SignalBarrier
from openoutcry.trading import DecisionEvent, MarketDataEvent, OrderSide, SignalEvent

ANSWERS_MAX = 1_000
"""How far back the answers to a round are looked for: a day has at most 320 (64 strategies, 5 symbols)."""


@dataclass(slots=True)
class Tally:
    """How the rounds ended."""

    by_status: Counter[str] = field(default_factory=Counter)
    by_month: dict[str, Counter[str]] = field(default_factory=dict)
    """The same by month: `2000-03`."""
    moods: dict[str, Counter[str]] = field(default_factory=dict)
    """How many votes were long, short and flat, and how many agents abstained or were missing, by month."""
    missing: Counter[str] = field(default_factory=Counter)
    """How many rounds each agent missed."""
    invalid_count: int = 0
    votes_count: int = 0
    abstentions_count: int = 0
    waited_ns: list[int] = field(default_factory=list)
    """From the first look at a round to its release, per round; 0 if it had been released before."""

    def add(self, outcome: RoundOutcome, day: str, waited_ns: int) -> None:
        """Count a round."""
        self.by_status[str(outcome.status)] += 1
        month = day[:7]
        self.by_month.setdefault(month, Counter())[str(outcome.status)] += 1
        mood = self.moods.setdefault(month, Counter())
        mood.update(signal.direction.value for signal in outcome.votes.values())
        mood["abstained"] += len(outcome.abstained)
        mood["missing"] += len(outcome.missing)
        self.missing.update(outcome.missing)
        self.invalid_count += not outcome.valid
        self.votes_count += len(outcome.votes)
        self.abstentions_count += len(outcome.abstained)
        self.waited_ns.append(waited_ns)


class ChiefInvestmentOfficer(Bookkeeper):
    """Decides on each symbol after the close, from the votes of its round.

    All rounds of a day open with the day, so that a silent agent costs one time-out, not one per symbol. A
    round that is not valid (no quorum) leads to no decision.

    Rounds are kept in memory. After a restart the CIO opens the round of the current bar again, and first
    counts the answers in the journal: a signal that was accepted before the restart is a duplicate when it is
    published again, and a duplicate has no vote.
    """

    def __init__(self, mandate: Mandate, name: str = "cio") -> None:
        super().__init__(name, mandate)
        self.tally: Tally = Tally()
        self.decisions_count: int = 0
        self.outcomes: list[RoundOutcome] = []
        """The newest hundred rounds with a missing agent."""
        self._rounds: dict[str, SignalBarrier] = {}

    async def on_session(self, event: SessionOpened) -> None:
        """Open the day's rounds."""
        await super().on_session(event)
        self._rounds.clear()
        if self.halted or self.remembering:
            return
        for symbol in event.symbols:
            self._open(round_name(symbol, event.day))
        if self.durable and any(answer.round_id in self._rounds for answer in self._answers(newest=1)):
            await self._refill(*self._rounds)

    async def on_bar(self, bar: MarketDataEvent) -> None:
        """Wait for all answers on the symbol, then decide."""
        if self.halted or self.remembering or bar.round_id is None:
            return
        if self.durable and bar.round_id not in self._rounds:
            self._open(bar.round_id)
            await self._refill(bar.round_id)
        since_ns = self.clock.now_ns()
        outcome = await self.bus.wait_for_signals(bar.round_id)
        self.tally.add(outcome, self.day, self.clock.now_ns() - since_ns)
        if outcome.missing:
            self.outcomes = [*self.outcomes[-99:], outcome]
        if outcome.valid and not self.halted:
            await self._decide(bar, [outcome.votes[key] for key in sorted(outcome.votes)])

    def _open(self, round_id: str) -> None:
        self._rounds[round_id] = self.bus.open_round(round_id, quorum=self.mandate.quorum)

    async def _refill(self, *round_ids: str) -> None:
        """Count the answers in the journal."""
        for answer in self._answers(newest=ANSWERS_MAX):
            if answer.round_id not in round_ids:
                continue
            barrier = self._rounds[answer.round_id]
            if isinstance(answer, SignalEvent):
                await barrier.add_signal(answer.source_agent, answer)
            else:
                barrier.abstain(answer.source_agent, answer.reason)

    def _answers(self, newest: int) -> list[Any]:
        return self.bus.get_event_history([SignalEvent, Abstained], limit=newest)

    async def _decide(self, bar: MarketDataEvent, votes: list[SignalEvent]) -> None:
        belief = conviction(Ballot(vote.strength, vote.confidence) for vote in votes)
        quantity = wanted_trade(
            belief, self.book.quantity(bar.symbol), to_units(bar.price), self.book.equity, self.mandate
        )
        if quantity == 0:
            return
        self.decisions_count += 1
        reasons: dict[str, Any] = {}
        if votes:
            # The strongest signal for the trade is named as its cause; all signals are listed.
            reasons["causation_id"] = max(
                votes, key=lambda vote: vote.strength * vote.confidence * quantity
            ).event_id
        await self.say(
            DecisionEvent(
                symbol=bar.symbol,
                action=OrderSide.BUY if quantity > 0 else OrderSide.SELL,
                quantity=float(abs(quantity)),
                rationale=f"conviction {belief:+.2f} from {len(votes)} votes",
                contributing_signals=tuple(vote.event_id for vote in votes),
                conviction_score=min(1.0, abs(belief)),
                source_agent=self.name,
                **reasons,
            )
        )
