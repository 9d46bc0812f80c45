"""An agent that keeps books of its own, from the fills and prices that it receives."""

from collections.abc import Mapping
from typing import Any, ClassVar

from openoutcry.firm.agents.base import Agent
from openoutcry.firm.book import Book
from openoutcry.firm.happenings import DAILY, SessionOpened
from openoutcry.firm.mandate import Mandate
from openoutcry.firm.money import share_of, to_units
from openoutcry.trading import FillEvent, MarketDataEvent


class Bookkeeper(Agent):
    """Keeps books: the same fills give every agent the same books, so none are shared.

    Attributes:
        book: The books.
        day: The current trading day, ISO 8601; empty before the first.

    """

    state: ClassVar[Mapping[str, Any]] = {**Agent.state, "book": Book, "day": str}

    def __init__(self, name: str, mandate: Mandate) -> None:
        super().__init__(name)
        self.mandate = mandate
        self.book: Book = Book(mandate.capital)
        self.day: str = ""
        self.react(SessionOpened, self.on_session)
        self.react(MarketDataEvent, self.on_market_data)
        self.react(FillEvent, self.on_fill)

    async def on_session(self, event: SessionOpened) -> None:
        """Close the books of the day before, with the fee on borrowed shares."""
        if self.day:
            self.close_day()
        self.day = event.day

    def close_day(self) -> None:
        """Charge a day's fee on borrowed shares."""
        self.book.charge(share_of(self.book.short_value, self.mandate.borrow_bps_year / 252))

    async def on_market_data(self, event: MarketDataEvent) -> None:
        """Mark the symbol to the close."""
        if event.interval == DAILY:
            self.book.mark(event.symbol, to_units(event.price))
            await self.on_bar(event)

    async def on_bar(self, bar: MarketDataEvent) -> None:
        """Do what is due after the close of a symbol."""

    async def on_fill(self, fill: FillEvent) -> None:
        """Book a fill."""
        self.book.fill(
            fill.symbol,
            fill.side,
            int(fill.filled_quantity),
            to_units(fill.fill_price),
            to_units(fill.commission),
        )
