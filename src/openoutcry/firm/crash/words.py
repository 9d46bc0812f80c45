"""What the firm's process is given when it is started, and what it writes to standard output."""

import msgspec

from openoutcry.firm.money import Units


class Life(msgspec.Struct, frozen=True, kw_only=True):
    """What one life of the firm is given at its start.

    Attributes:
        journal: The journal's file; it holds everything of the lives before.
        socket: Where the broker can be reached.
        account: Where the firm's books are written when the last day is over.
        symbols: What to trade.
        agents: How many strategies.
        days: How many trading days there are.
        place: At which place to stop and wait to be killed; empty for none.
        day: The first trading day on which to stop.
        nth: At which time that the place is reached.
        days_per_s: Trading days per second of real time; 0 for as fast as possible.

    """

    journal: str
    socket: str
    account: str
    symbols: tuple[str, ...]
    agents: int
    days: int
    place: str = ""
    day: int = 0
    nth: int = 1
    days_per_s: float = 0.0


class Word(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of the firm.

    Attributes:
        at: `born` (the process runs), `back` (it has restored its state), `day` (a day begins), `place` (it
            waits to be killed) or `done` (the last day is over).
        number: The trading day, from 0.
        date: The same as a date, ISO 8601.
        equity: The value of the firm.
        fills: Fills in its books.
        loaded: Events that are in the saved states with which agents began, once per agent.
        remembered: Events from which agents rebuilt the rest of their state, once per agent.
        recovered: Events that were not settled when the life before ended, and were delivered again.
        duplicates: Events of this life that the journal already had and did not take again.
        repeated: Orders of this life that the broker already had and did not take again.
        took_s: How long it took to restore the state, from the start of the process, in seconds.
        what: What happens at the place.

    """

    at: str
    number: int = 0
    date: str = ""
    equity: Units = 0
    fills: int = 0
    loaded: int = 0
    remembered: int = 0
    recovered: int = 0
    duplicates: int = 0
    repeated: int = 0
    took_s: float = 0.0
    what: str = ""


class Fill(msgspec.Struct, frozen=True, array_like=True):
    """A fill in the firm's books."""

    fill_id: str
    day: str
    symbol: str
    side: str
    shares: int
    price: Units
    commission: Units
    realised: Units
    held_after: int


class Holding(msgspec.Struct, frozen=True, array_like=True):
    """The holding of a symbol at the end."""

    symbol: str
    shares: int
    cost: Units
    realised: Units


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """The firm's books after the last day, to the last ten-thousandth of a dollar."""

    capital: Units
    cash: Units
    equity: Units
    realised: Units
    commissions: Units
    fees: Units
    unbalanced: Units
    positions: tuple[Holding, ...]
    fills: tuple[Fill, ...]
    equity_by_day: tuple[Units, ...]
    open_orders: tuple[str, ...]
    dead_letters: int
    conflicts: int
