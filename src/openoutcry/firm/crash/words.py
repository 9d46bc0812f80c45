"""What the firm's process is told when it is started, and what it says on its standard output."""

import msgspec

from openoutcry.firm.money import Units


class Life(msgspec.Struct, frozen=True, kw_only=True):
    """What one life of the firm is told at its birth.

    Attributes:
        journal: The journal's file; it holds everything of the lives before.
        socket: Where the broker is to be reached.
        account: Where the firm's books are written when the last day is over.
        symbols: What to trade.
        agents: How many strategies.
        days: How many trading days there are.
        place: At which place to hold still and wait to be killed; empty for none.
        day: The first trading day on which to hold still.
        nth: At which time that the place is come by.
        days_per_s: Trading days per second of real time; 0 for as fast as it goes.

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
    """One line of the firm's.

    Attributes:
        at: `born` (the process runs), `back` (it has its memory back), `day` (a day begins), `place` (it
            holds still to be killed) or `done` (the last day is over).
        number: The trading day, from 0.
        date: The same as a date, ISO 8601.
        equity: What the firm is worth.
        fills: Fills in its books.
        remembered: Events that were taken to heart and not dealt with again, once per agent.
        recovered: Events that were not settled when the life before ended, and were handed out again.
        duplicates: Events of this life that the journal had already, and did not take again.
        repeated: Orders of this life that the broker had already, and did not take again.
        took_s: How long it took to get the memory back, from the birth, in seconds.
        what: What the place is about.

    """

    at: str
    number: int = 0
    date: str = ""
    equity: Units = 0
    fills: int = 0
    remembered: int = 0
    recovered: int = 0
    duplicates: int = 0
    repeated: int = 0
    took_s: float = 0.0
    what: str = ""


class Fill(msgspec.Struct, frozen=True, array_like=True):
    """A fill as the firm's books have it."""

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
    """What is held of a symbol at the end."""

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
