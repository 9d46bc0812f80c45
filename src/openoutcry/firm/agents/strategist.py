"""A strategy at work: takes bars, and answers each round of the barrier with a signal or abstains."""

import asyncio
from collections import Counter
from collections.abc import Mapping
from datetime import date
from typing import Any, ClassVar

from openoutcry.errors import UnknownRound
from openoutcry.firm.agents.base import Agent
from openoutcry.firm.bars import Bar
from openoutcry.firm.chaos import Fault, Trouble
from openoutcry.firm.happenings import DAILY, Abstained, SessionOpened
from openoutcry.firm.strategies import Opinion, Past, Recipe
from openoutcry.trading import MarketDataEvent, SignalDirection, SignalEvent

FLAT_BELOW = 0.05
"""A score closer to 0 than this counts as flat."""
FLOOD_BURST = 1_000
"""Ticks that a flooding agent publishes in one go, unless the bus refuses one."""
FLOOD_BURSTS_MAX = 5_000
FLOOD_REFUSALS_IN_A_ROW = 50
"""So many refusals in a row make a flooding agent yield to the loop before its burst is over."""
FLOOD_REFUSALS_NOTICED = 500
"""After so many refusals in all, the flood counts as noticed."""


class SimulatedFault(RuntimeError):
    """Raised on purpose by an agent that the chaos plan makes fail."""


class StrategyAgent(Agent):
    """Runs one recipe, with a past of its own for every symbol.

    Attributes:
        answers: How often it answered long, short and flat, and how often it abstained.
        scores: Every score it gave, by (symbol, day).
        overflowing: Set once its flood, if it floods, has been refused often enough to be noticed.
        flooded_count: Ticks that its flood got into the bus.

    """

    state: ClassVar[Mapping[str, Any]] = {
        **Agent.state,
        "_pasts": dict[str, Past],
        "_session": SessionOpened | None,
        "_today": dict[str, MarketDataEvent],
    }

    def __init__(self, recipe: Recipe, fault: Fault | None = None) -> None:
        super().__init__(recipe.name)
        self.recipe = recipe
        self.fault = fault
        self.answers: Counter[str] = Counter()
        self.scores: dict[tuple[str, str], float] = {}
        self.overflowing: asyncio.Event = asyncio.Event()
        self.flooded_count: int = 0
        self._pasts: dict[str, Past] = {}
        self._session: SessionOpened | None = None
        self._today: dict[str, MarketDataEvent] = {}
        self._due: Trouble | None = None
        self.react(SessionOpened, self.on_session)
        self.react(MarketDataEvent, self.on_market_data)

    async def on_session(self, event: SessionOpened) -> None:
        """Begin a day."""
        self._session = event
        self._today.clear()
        self._due = self.fault.trouble if self.fault and self.fault.holds(event.number) else None

    async def on_market_data(self, event: MarketDataEvent) -> None:
        """Take a bar, and answer once there is all that the recipe needs."""
        if event.interval != DAILY or self.halted or self._session is None:
            return
        await self._suffer()
        past = self._pasts.setdefault(event.symbol, Past())
        past.add(_as_bar(event, self._session.date))
        self._today[event.symbol] = event
        if self.remembering:
            return
        if self.recipe.one is not None:
            await self._answer(event, self.recipe.one(past))
        elif self.recipe.many is not None and len(self._today) == len(self._session.symbols):
            opinions = self.recipe.many({symbol: self._pasts[symbol] for symbol in self._today})
            for symbol, bar in self._today.items():
                await self._answer(bar, opinions.get(symbol))

    async def _answer(self, bar: MarketDataEvent, opinion: Opinion | None) -> None:
        if opinion is None:
            self.answers["abstained"] += 1
            await self._abstain(bar, "the past is too short")
            return
        score = opinion.score
        direction = SignalDirection.FLAT
        if abs(score) >= FLAT_BELOW:
            direction = SignalDirection.LONG if score > 0 else SignalDirection.SHORT
        self.answers[direction.value] += 1
        assert self._session is not None
        self.scores[bar.symbol, self._session.day] = score
        # The cause is named: a recipe that compares symbols answers on all of them at the last bar.
        signal = SignalEvent(
            strategy_name=self.recipe.kind,
            symbol=bar.symbol,
            direction=direction,
            strength=score,
            confidence=opinion.confidence,
            rationale=opinion.rationale,
            source_agent=self.name,
            round_id=bar.round_id,
            causation_id=bar.event_id,
        )
        await self.bus.publish_signal(signal)
        self.on_said(signal)

    async def _abstain(self, bar: MarketDataEvent, reason: str) -> None:
        """Answer without an opinion. With a journal also by an event, since rounds do not survive a restart.

        After a restart the round may not have been opened again yet: the CIO will find the published event.
        """
        if self.durable:
            await self.say(Abstained(reason=reason, source_agent=self.name, round_id=bar.round_id))
        try:
            self.bus.abstain(self.name, reason, round_id=bar.round_id)
        except UnknownRound:
            if not self.durable:
                raise

    async def _suffer(self) -> None:
        """Do what the chaos plan demands, at the first bar of the day; an error lasts all day."""
        trouble = self._due
        if trouble is Trouble.RAISE:
            raise SimulatedFault(f"{self.name} fails on purpose")
        self._due = None
        if trouble is Trouble.HANG:
            await asyncio.Event().wait()
        elif trouble is Trouble.FLOOD:
            await self._flood()

    async def _flood(self) -> None:
        """Publish as fast as the bus takes it until the kill switch, yielding to the loop between bursts."""
        for _ in range(FLOOD_BURSTS_MAX):
            if self.halted:
                return
            refused_in_a_row = 0
            for _ in range(FLOOD_BURST):
                if self.bus.publish_nowait(
                    MarketDataEvent(symbol="NOISE", price=1.0, source_agent=self.name)
                ):
                    self.flooded_count += 1
                    refused_in_a_row = 0
                    continue
                self.refused_count += 1
                refused_in_a_row += 1
                if refused_in_a_row == FLOOD_REFUSALS_IN_A_ROW:
                    break
            if self.refused_count >= FLOOD_REFUSALS_NOTICED:
                self.overflowing.set()
            await asyncio.sleep(0)


def _as_bar(event: MarketDataEvent, day: date) -> Bar:
    """Return the daily bar of an event; prices that a feed left out are taken from the last price."""
    open_, high, low, close = (
        event.price if price is None else price for price in (event.open, event.high, event.low, event.close)
    )
    return Bar(event.symbol, day, open_, high, low, close, int(event.volume or 0))
