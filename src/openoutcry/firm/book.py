"""A set of books: cash, positions at average cost, and the profit, to the last unit of money.

Every agent that needs to know what the firm holds keeps books of its own from the fills that it receives, so
that agents share no state. The books always balance:

    cash + cost of the open positions = capital + realised - commissions - borrowing fees
"""

from dataclasses import dataclass, field

from openoutcry.firm.money import Units
from openoutcry.trading import OrderSide


@dataclass(slots=True)
class Position:
    """The holding of one symbol. `cost` has the sign of `quantity`: a short position was paid for."""

    quantity: int = 0
    cost: Units = 0
    realised: Units = 0
    last_price: Units = 0
    closed_count: int = 0
    won_count: int = 0

    @property
    def value(self) -> Units:
        """The value at the last price; negative if short."""
        return self.quantity * self.last_price

    @property
    def average_price(self) -> float:
        """Units paid per share of the open position; 0 if flat."""
        return self.cost / self.quantity if self.quantity else 0.0

    def trade(self, quantity: int, price: Units) -> Units:
        """Add a signed quantity at a price, and return the realised profit."""
        closing = min(abs(quantity), abs(self.quantity)) if quantity * self.quantity < 0 else 0
        realised = self._close(closing, price) if closing else 0
        opening = abs(quantity) - closing
        direction = 1 if quantity > 0 else -1
        self.quantity += direction * opening
        self.cost += direction * opening * price
        self.last_price = price
        return realised

    def _close(self, shares: int, price: Units) -> Units:
        side = 1 if self.quantity > 0 else -1
        cost = side * (abs(self.cost) * shares // abs(self.quantity))
        realised = side * shares * price - cost
        self.quantity -= side * shares
        self.cost -= cost
        self.realised += realised
        self.closed_count += 1
        self.won_count += realised > 0
        return realised


@dataclass(slots=True)
class Book:
    """The books of a firm that began with `capital`."""

    capital: Units
    spent: Units = 0
    commissions: Units = 0
    fees: Units = 0
    turnover: Units = 0
    fills_count: int = 0
    positions: dict[str, Position] = field(default_factory=dict)

    @property
    def cash(self) -> Units:
        """The capital less what was spent on shares, commissions and fees; sales count as negative."""
        return self.capital - self.spent

    def position(self, symbol: str) -> Position:
        """Return the position in a symbol, a flat one if there was none."""
        found = self.positions.get(symbol)
        if found is None:
            found = self.positions[symbol] = Position()
        return found

    def quantity(self, symbol: str) -> int:
        """Return the shares held of a symbol; negative if short."""
        found = self.positions.get(symbol)
        return found.quantity if found else 0

    def fill(self, symbol: str, side: OrderSide, shares: int, price: Units, commission: Units) -> Units:
        """Book an execution, and return the realised profit before its commission."""
        signed = shares if side is OrderSide.BUY else -shares
        self.spent += signed * price + commission
        self.commissions += commission
        self.turnover += shares * price
        self.fills_count += 1
        return self.position(symbol).trade(signed, price)

    def charge(self, fee: Units) -> None:
        """Take a fee, such as the price of borrowed shares, from the cash."""
        self.spent += fee
        self.fees += fee

    def mark(self, symbol: str, price: Units) -> None:
        """Value a symbol at a new price."""
        self.position(symbol).last_price = price

    @property
    def equity(self) -> Units:
        """Cash plus the value of every position."""
        return self.cash + sum(position.value for position in self.positions.values())

    @property
    def gross(self) -> Units:
        """The value of all positions, long and short added up."""
        return sum(abs(position.value) for position in self.positions.values())

    @property
    def short_value(self) -> Units:
        """The value of the borrowed shares, as a positive amount."""
        return -sum(min(0, position.value) for position in self.positions.values())

    @property
    def realised(self) -> Units:
        """The profit of closed positions, before commissions and fees."""
        return sum(position.realised for position in self.positions.values())

    @property
    def unbalanced(self) -> Units:
        """By how much the books do not balance. Always 0: the invariant at the top of this module."""
        cost = sum(position.cost for position in self.positions.values())
        return self.cash + cost - (self.capital + self.realised - self.commissions - self.fees)
