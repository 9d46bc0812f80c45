"""What is held of a symbol, by its fills: their sum, and what one of them has changed."""

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from openoutcry.journals.lineage.finding import Finder, Found
from openoutcry.journals.lineage.keys import TRADED
from openoutcry.journals.lineage.words import figure, number, side_of, word

_FEW: Final = 128
"""With more fills than these a single one is not told what it has changed: adding them up takes too long."""
_FLAT: Final = 1e-9


class Sum(NamedTuple):
    """A fill, what it added, and what was held after it."""

    fill: Found
    added: float
    held: float


def sums_of(fills: Iterable[Found]) -> Iterator[Sum]:
    """Yield what was held after each fill of a symbol, where nothing was held before."""
    held = 0.0
    for fill in fills:
        added = number(fill.fields, "filled_quantity") or 0.0
        added = -added if side_of(fill.fields) == "sell" else added
        held += added
        held = 0.0 if abs(held) < _FLAT else held
        yield Sum(fill, added, held)


def change_of(finder: Finder, fill: Found) -> str:
    """Return what a fill has changed, as a sentence; empty if that is not known, or takes too long."""
    symbol = word(fill.fields, "symbol")
    if not symbol or any(source.reader.first > 1 for source in finder.sources):
        return ""
    fills = finder.of(TRADED, symbol, _FEW + 1)
    if len(fills) > _FEW:
        return ""
    before = 0.0
    for one in sums_of(fills):
        if one.fill is fill:
            return _changed(before, one.held, symbol)
        before = one.held
    return ""


def _changed(before: float, after: float, symbol: str) -> str:
    if before == 0.0:
        return f"It opened a position: {_holding(after, symbol)}."
    if after == 0.0:
        return f"It closed a position: before it, {_holding(before, symbol)}."
    verb = "turned" if before * after < 0 else "raised" if abs(after) > abs(before) else "cut"
    return f"It {verb} a position: {_holding(before, symbol)} before it, {_holding(after, symbol)} after."


def _holding(held: float, symbol: str) -> str:
    return f"{figure(abs(held))} {symbol} {'held' if held > 0 else 'sold short'}"
