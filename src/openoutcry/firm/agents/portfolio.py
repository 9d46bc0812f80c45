"""The portfolio: the firm's official books, day by day."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, ClassVar

from openoutcry.firm.agents.bookkeeper import Bookkeeper
from openoutcry.firm.happenings import MarketClosed
from openoutcry.firm.mandate import Mandate
from openoutcry.firm.money import Units, to_units
from openoutcry.trading import FillEvent, OrderSide


@dataclass(frozen=True, slots=True)
class Trade:
    """A fill in the books. `realised` is before the commission."""

    fill_id: str
    day: str
    symbol: str
    side: OrderSide
    shares: int
    price: Units
    commission: Units
    realised: Units
    held_after: int


class Portfolio(Bookkeeper):
    """Keeps the history that the report is drawn from.

    Attributes:
        days: Every trading day that has been closed.
        equity: The firm's value at each close, after the borrowing fees of that day.
        gross: The value of all positions at each close, long and short added up.
        holdings: The quantity held at each close, by symbol; shorter than `days` for a symbol listed later.
        trades: Every fill.

    """

    state: ClassVar[Mapping[str, Any]] = {
        **Bookkeeper.state,
        "days": list[date],
        "equity": list[Units],
        "gross": list[Units],
        "holdings": dict[str, dict[str, int]],
        "trades": list[Trade],
    }

    def __init__(self, mandate: Mandate, name: str = "portfolio") -> None:
        super().__init__(name, mandate)
        self.days: list[date] = []
        self.equity: list[Units] = []
        self.gross: list[Units] = []
        self.holdings: dict[str, dict[str, int]] = {}
        self.trades: list[Trade] = []
        self.react(MarketClosed, self.on_closed)

    def close_day(self) -> None:
        """Add the day to the history."""
        super().close_day()
        self.days.append(date.fromisoformat(self.day))
        self.equity.append(self.book.equity)
        self.gross.append(self.book.gross)
        for symbol, position in self.book.positions.items():
            self.holdings.setdefault(symbol, {})[self.day] = position.quantity

    async def on_closed(self, _event: MarketClosed) -> None:
        """Close the last day."""
        self.close_day()

    async def on_fill(self, fill: FillEvent) -> None:
        """Book a fill and remember it."""
        realised_before = self.book.position(fill.symbol).realised
        await super().on_fill(fill)
        position = self.book.position(fill.symbol)
        self.trades.append(
            Trade(
                fill_id=fill.event_id,
                day=self.day,
                symbol=fill.symbol,
                side=fill.side,
                shares=int(fill.filled_quantity),
                price=to_units(fill.fill_price),
                commission=to_units(fill.commission),
                realised=position.realised - realised_before,
                held_after=position.quantity,
            )
        )
