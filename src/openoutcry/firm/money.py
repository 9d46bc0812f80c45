"""Money as whole numbers: a unit is a ten-thousandth of a dollar, the finest price an exchange feed quotes.

A share count times a price in units is exact, so the books balance to the last unit however many trades they
hold.
"""

from typing import TypeAlias

Units: TypeAlias = int
"""An amount of money or a price per share, in ten-thousandths of a dollar."""

UNITS_PER_DOLLAR = 10_000


def to_units(dollars: float) -> Units:
    """Round dollars to whole units, half to even."""
    return round(dollars * UNITS_PER_DOLLAR)


def to_dollars(units: Units) -> float:
    """Return the dollars that some units are worth."""
    return units / UNITS_PER_DOLLAR


def share_of(amount: Units, basis_points: float) -> Units:
    """Return a share of an amount, in hundredths of a percent, rounded to whole units."""
    return round(amount * basis_points / 10_000)


def in_words(units: Units, *, signed: bool = False) -> str:
    """Return an amount in whole dollars as text: `$1,234,567`, or with its sign: `+$1,234`."""
    dollars = round(to_dollars(units))
    sign = "-" if dollars < 0 else "+" if signed else ""
    return f"{sign}${abs(dollars):,}"
