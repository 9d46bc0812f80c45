"""The market: replays bars day by day, and never publishes anything about a day ahead of time."""

import asyncio
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, time
from typing import Any

from openoutcry.firm.agents.base import Agent
from openoutcry.firm.bars import Session
from openoutcry.firm.happenings import DAILY, OPENING, MarketClosed, SessionOpened, round_name
from openoutcry.trading import MarketDataEvent
from openoutcry.units import NS_PER_S

OPENS, CLOSES = time(14, 30, tzinfo=UTC), time(21, 0, tzinfo=UTC)
"""New York's hours in winter. They are labels on events; daylight saving time is ignored."""
GLANCE_S = 0.001


class MarketDataAgent(Agent):
    """Publishes each day's opening prints and, when all that follows from them is settled, the day's bars.

    So the orders of one evening are filled at the opening of the next day, before any agent knows that day's
    bar.

    Attributes:
        label_ns: The market's time, in nanoseconds since 1970 UTC: the timestamp of events made now.
        impatient_count: How often it continued although a strategy was still busy after `patience_s`.

    """

    def __init__(
        self, desk: Iterable[str] = (), patience_s: float | None = None, name: str = "market"
    ) -> None:
        super().__init__(name)
        self.patience_s = patience_s
        self._desk = frozenset(desk)
        self.impatient_count: int = 0
        self.label_ns: int = 0

    def wall_ns(self) -> int:
        """Return the market's time, for `stamps`."""
        return self.label_ns

    async def play(self, number: int, session: Session) -> None:
        """Run one trading day to its end: the open, the fills, the close, the decisions."""
        self.label_ns = label(session, OPENS)
        await self.say(self.opening(number, session))
        for event in self.prints(session):
            await self.say(event)
        await self.settle()
        self.label_ns = label(session, CLOSES)
        for event in self.bars(session):
            await self.say(event)
        await self.settle()

    def opening(self, number: int, session: Session) -> SessionOpened:
        """Publish that a day begins."""
        return SessionOpened(
            day=session.day.isoformat(),
            number=number,
            symbols=tuple(bar.symbol for bar in session.bars),
            source_agent=self.name,
            **self.named("open", session),
        )

    def prints(self, session: Session) -> Iterator[MarketDataEvent]:
        """Return the opening prints of a day."""
        for bar in session.bars:
            yield MarketDataEvent(
                symbol=bar.symbol,
                price=bar.open,
                interval=OPENING,
                source_agent=self.name,
                **self.named("print", session, bar.symbol),
            )

    def bars(self, session: Session) -> Iterator[MarketDataEvent]:
        """Return the bars of a day."""
        for bar in session.bars:
            yield MarketDataEvent(
                symbol=bar.symbol,
                price=bar.close,
                open=bar.open,
                high=bar.high,
                low=bar.low,
                close=bar.close,
                volume=float(bar.volume),
                interval=DAILY,
                round_id=round_name(bar.symbol, session.day.isoformat()),
                source_agent=self.name,
                **self.named("bar", session, bar.symbol),
            )

    def named(self, kind: str, session: Session, symbol: str = "") -> dict[str, Any]:  # noqa: ARG002
        """Return the id of an event as its argument; none here, so that a fresh one is made."""
        return {}

    async def close(self) -> None:
        """Publish that the last day is over."""
        await self.say(MarketClosed(source_agent=self.name))
        await self.settle()

    async def settle(self) -> None:
        """Wait until all events are settled; after `patience_s` (None: never), by all but the strategies.

        So a strategy that hangs delays a day by `patience_s` and does not stop the firm.
        """
        try:
            async with asyncio.timeout(self.patience_s):
                await self.bus.join()
        except TimeoutError:
            self.impatient_count += 1
            # The bus has no event for: these subscriptions are settled.
            while self._desk_is_busy():  # noqa: ASYNC110
                await asyncio.sleep(GLANCE_S)

    def _desk_is_busy(self) -> bool:
        return any(
            row.waiting or row.in_flight for row in self.bus.ledger().rows if row.subscription in self._desk
        )


def label(session: Session, at: time) -> int:
    """Return the market's time on a day, in nanoseconds since 1970 UTC."""
    return int(datetime.combine(session.day, at).timestamp()) * NS_PER_S
