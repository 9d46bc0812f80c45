"""What is held of a symbol, by its fills: their sum, its average price, and what one of them has changed."""

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from openoutcry.journals.lineage.finding import Finder, Found
from openoutcry.journals.lineage.keys import TRADED
from openoutcry.journals.lineage.words import figure, money, number, price, side_of, text_in, word

_FEW: Final = 128
"""With more fills than these a single one is not told what it has changed: adding them up takes too long."""
_FLAT: Final = 1e-9
"""What is left of a trade of so small a share of it is an error of addition."""


class Sum(NamedTuple):
    """A fill, and what was held after it.

    Attributes:
        fill: The fill.
        added: What it added; below 0 for a sale.
        held: What was held after it; below 0 if sold short.
        average: The average price of that.
        realised: What it gained, before commissions; below 0 for a loss; None where it only added.

    """

    fill: Found
    added: float
    held: float
    average: float
    realised: float | None


def sums_of(fills: Iterable[Found]) -> Iterator[Sum]:
    """Yield what was held after each fill of a symbol, where nothing was held before."""
    held = average = 0.0
    for fill in fills:
        added = number(fill.fields, "filled_quantity") or 0.0
        added = -added if side_of(fill.fields) == "sell" else added
        at = number(fill.fields, "fill_price") or 0.0
        realised: float | None = None
        if held * added < 0:
            closed = min(abs(added), abs(held)) * (1 if held > 0 else -1)
            realised = closed * (at - average)
        before, held = held, held + added
        held = 0.0 if abs(held) <= _FLAT * max(abs(before), abs(added)) else held
        if before * held <= 0:
            average = at
        elif abs(held) > abs(before):
            average = (average * before + at * added) / held
        yield Sum(fill, added, held, average, realised)


def since_flat(sums: list[Sum]) -> list[Sum]:
    """Return the newest sums, from the fill that opened what is held, or that the last one closed."""
    first = len(sums) - 1
    while first > 0 and sums[first - 1].held * sums[-1].held > 0:
        first -= 1
    if sums[-1].held == 0.0 or (first == len(sums) - 1 and sums[-1].realised is not None):
        while first > 0 and sums[first - 1].held * sums[-1].added < 0:
            first -= 1
    return sums[first:]


def upto(finder: Finder, fill: Found) -> list[Sum]:
    """Return the fills of a symbol up to one, added up; none if that is not known, or takes too long."""
    symbol = text_in(fill.fields, "symbol")
    if not symbol or any(source.reader.first > 1 for source in finder.sources):
        return []
    if sum(len(source.places(TRADED, symbol, _FEW + 1)) for source in finder.sources) > _FEW:
        return []
    sums = list(sums_of(finder.of(TRADED, symbol, _FEW)))
    at = next((at for at, one in enumerate(sums) if one.fill.event_id == fill.event_id), -1)
    return sums[: at + 1]


def changed(sums: list[Sum]) -> str:
    """Return what the last of some fills has changed, as a sentence."""
    if not sums:
        return ""
    last, before = sums[-1], sums[-2] if len(sums) > 1 else None
    symbol = word(last.fill.fields, "symbol")
    if before is None or before.held == 0.0:
        return f"It opened a position: {_holding(last.held, symbol)}."
    if last.realised is None:
        return f"It raised a position from {_holding(before.held, symbol)} to {figure(abs(last.held))}."
    said = f"at {price(before.average, 4)} on average: {_result(last, before)}"
    if last.held == 0.0:
        return f"It closed a position of {_holding(before.held, symbol)} {said}."
    verb = "cut" if last.held * before.held > 0 else "turned"
    left = _holding(last.held, symbol)
    return f"It {verb} a position of {_holding(before.held, symbol)} {said}. It left {left}."


def _result(last: Sum, before: Sum) -> str:
    """Return what a fill gained or lost of what had been paid, or taken in, for it."""
    assert last.realised is not None, "a fill that takes away has a result"
    paid = abs(before.average) * min(abs(last.added), abs(before.held))
    if abs(last.realised) <= _FLAT * paid:
        return "neither a gain nor a loss before commissions"
    result = "a gain" if last.realised > 0 else "a loss"
    share = f" ({abs(last.realised) / paid:.1%})" if paid else ""
    return f"{result} of {money(abs(last.realised))}{share} before commissions"


def _holding(held: float, symbol: str) -> str:
    return f"{figure(abs(held))} {symbol} {'bought' if held > 0 else 'sold short'}"
