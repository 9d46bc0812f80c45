"""The benchmark of the firm: the same capital and the same costs, bought once and held."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from openoutcry.firm.bars import History
from openoutcry.firm.book import Book
from openoutcry.firm.costs import fill_commission, fill_price
from openoutcry.firm.mandate import Mandate
from openoutcry.firm.money import Units, to_units
from openoutcry.trading import OrderSide


@dataclass(frozen=True, slots=True)
class Holding:
    """The value of the capital when it is simply held, day by day."""

    symbols: tuple[str, ...]
    days: tuple[date, ...]
    equity: tuple[Units, ...]
    commissions: Units


def buy_and_hold(history: History, mandate: Mandate, symbols: Sequence[str] | None = None) -> Holding:
    """Spend the capital in equal parts at the first open of the symbols that trade on their first common day.

    `symbols` defaults to those that trade on the first day of the history; one that is listed later is not
    bought, since that could not have been known. A single symbol is bought at its own first open. Raises
    `ValueError` if a symbol never trades.
    """
    chosen = tuple(symbols) if symbols is not None else tuple(bar.symbol for bar in history.sessions[0].bars)
    book = Book(mandate.capital)
    days: list[date] = []
    equity: list[Units] = []
    for session in history.sessions:
        bars = {bar.symbol: bar for bar in session.bars if bar.symbol in chosen}
        if not days and len(bars) < len(chosen):
            continue
        if not days:
            for symbol, bar in bars.items():
                _buy(book, symbol, to_units(bar.open), mandate.capital // len(chosen), mandate)
        for symbol, bar in bars.items():
            book.mark(symbol, to_units(bar.close))
        days.append(session.day)
        equity.append(book.equity)
    if not days:
        raise ValueError(
            f"{', '.join(chosen)}: there is no day on which all of them trade; name other symbols"
        )
    return Holding(chosen, tuple(days), tuple(equity), book.commissions)


def _buy(book: Book, symbol: str, opening: Units, budget: Units, mandate: Mandate) -> None:
    price = fill_price(OrderSide.BUY, opening, mandate)
    shares = budget // price
    while shares and shares * price + fill_commission(shares, price, mandate) > budget:
        shares -= 1
    if shares:
        book.fill(symbol, OrderSide.BUY, shares, price, fill_commission(shares, price, mandate))
