"""The market's history: adjusted daily bars, from the file that comes with the firm.

`data/PROVENANCE.md` says where the figures come from. Prices come out with four decimals, as exchange feeds
quote them, so that money can be counted in whole ten-thousandths of a dollar.
"""

import csv
import gzip
import io
from collections.abc import Iterable, Iterator
from datetime import date
from functools import cache
from importlib import resources
from typing import NamedTuple

import msgspec

from openoutcry.errors import ConfigError

SYMBOLS: tuple[str, ...] = ("AAPL", "FB", "GOOG", "IBM", "MSFT")


class Bar(msgspec.Struct, frozen=True, gc=False):
    """One symbol's trading day. Prices are adjusted dollars; `volume` is adjusted shares."""

    symbol: str
    day: date
    open: float
    high: float
    low: float
    close: float
    volume: int


class Session(NamedTuple):
    """One trading day: its date and a bar for each symbol that traded, in the order of the symbols."""

    day: date
    bars: tuple[Bar, ...]


class History(NamedTuple):
    """Consecutive trading days, oldest first, and their symbols."""

    symbols: tuple[str, ...]
    sessions: tuple[Session, ...]

    def of(self, symbol: str) -> Iterator[Bar]:
        """Return the bars of one symbol, oldest first."""
        return (bar for session in self.sessions for bar in session.bars if bar.symbol == symbol)


def load_history(symbols: Iterable[str] = SYMBOLS, *, days: int | None = None) -> History:
    """Read the bars of some symbols, beginning on the first day on which any of them traded.

    `days` keeps that many trading days from the beginning; None keeps them all. Raises `ConfigError` for an
    unknown symbol, for none at all, and for fewer than two days (an order placed on one day is filled on the
    next).
    """
    wanted = tuple(dict.fromkeys(symbol.upper() for symbol in symbols))
    unknown = [symbol for symbol in wanted if symbol not in SYMBOLS]
    if unknown or not wanted:
        raise ConfigError(
            f"symbols={','.join(unknown) or 'none'}: the data knows {', '.join(SYMBOLS)}; name one or more"
        )
    if days is not None and days < 2:
        raise ConfigError(f"days={days}: at least 2 are needed, one to decide on and one to fill")
    by_day: dict[date, list[Bar]] = {}
    for symbol in wanted:
        for bar in _all_bars()[symbol]:
            by_day.setdefault(bar.day, []).append(bar)
    return History(wanted, tuple(Session(day, tuple(by_day[day])) for day in sorted(by_day)[:days]))


@cache
def _all_bars() -> dict[str, list[Bar]]:
    packed = (resources.files("openoutcry.firm") / "data" / "bars.csv.gz").read_bytes()
    bars: dict[str, list[Bar]] = {symbol: [] for symbol in SYMBOLS}
    factor = 0.0
    with io.TextIOWrapper(gzip.GzipFile(fileobj=io.BytesIO(packed)), encoding="ascii", newline="") as text:
        rows = csv.reader(text)
        next(rows)
        for symbol, day, open_, high, low, close, volume, new_factor in rows:
            factor = float(new_factor) if new_factor else factor
            bar = Bar(
                symbol,
                date.fromisoformat(day),
                round(float(open_) * factor, 4),
                round(float(high) * factor, 4),
                round(float(low) * factor, 4),
                round(float(close) * factor, 4),
                round(int(volume) / factor),
            )
            bars[symbol].append(bar)
    return bars
