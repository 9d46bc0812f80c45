"""The rules of Risk: pure verdicts on what the firm may hold, from books, prices and the mandate."""

from dataclasses import dataclass, field
from typing import NamedTuple

from openoutcry.firm.book import Book, Position
from openoutcry.firm.mandate import Mandate
from openoutcry.firm.money import Units


class Ruling(NamedTuple):
    """A verdict on a trade: the signed quantity that passes (0: nothing), and why not all of it."""

    quantity: int
    reason: str


def stopped_out(position: Position, stop_loss: float) -> bool:
    """Return True if a position has gone against its average price by more than the stop allows."""
    if not position.quantity:
        return False
    move = position.last_price / position.average_price - 1
    return (move if position.quantity > 0 else -move) < -stop_loss


@dataclass(slots=True)
class Planned:
    """Trades that were allowed today and are not yet filled, as signed quantities by symbol."""

    quantities: dict[str, int] = field(default_factory=dict)

    def add(self, symbol: str, quantity: int) -> None:
        """Count a trade that was allowed."""
        self.quantities[symbol] = self.quantities.get(symbol, 0) + quantity

    def holding(self, book: Book, symbol: str) -> int:
        """Return the shares held once everything allowed is filled."""
        return book.quantity(symbol) + self.quantities.get(symbol, 0)

    def gross_without(self, book: Book, symbol: str) -> Units:
        """Return the value of all other positions once everything allowed is filled, long plus short."""
        others = (set(book.positions) | set(self.quantities)) - {symbol}
        return sum(abs(self.holding(book, name)) * book.position(name).last_price for name in others)


def judge(
    symbol: str, quantity: int, *, book: Book, planned: Planned, mandate: Mandate, halted: bool
) -> Ruling:
    """Decide on buying (selling, if negative) a quantity: allow it, cut it to the limits, or refuse it.

    A trade that reduces a position is always allowed, up to closing it, whatever the limits or a halt say.
    """
    held, price, equity = planned.holding(book, symbol), book.position(symbol).last_price, book.equity
    goal = held + quantity
    if _reduces(held, goal):
        return Ruling(quantity, "")
    if halted:
        return Ruling(-held if held * goal < 0 else 0, "trading is halted: only reductions pass")
    if price <= 0 or equity <= 0:
        return Ruling(0, "no price or no equity to size it by")
    weight = mandate.long_max if goal > 0 else mandate.short_max
    room_gross = max(0, int(mandate.gross_max * equity) - planned.gross_without(book, symbol))
    room = min(int(weight * equity), room_gross) // price
    allowed = min(abs(goal), max(room, 0)) * (1 if goal > 0 else -1)
    if abs(allowed) < abs(held) and allowed * held > 0:
        allowed = (
            held  # it has grown past the limit by itself: nothing is added, but no sale is forced either
        )
    if allowed == goal:
        return Ruling(quantity, "")
    which = "gross exposure" if room_gross < int(weight * equity) else "position"
    return Ruling(allowed - held, f"cut to the {which} limit")


def _reduces(held: int, goal: int) -> bool:
    return abs(goal) <= abs(held) and goal * held >= 0
