import csv
import gzip
import hashlib
from datetime import date
from importlib import resources
from itertools import pairwise

import pytest

from openoutcry.errors import ConfigError
from openoutcry.firm.bars import SYMBOLS, load_history

ROWS = {"AAPL": 3270, "FB": 196, "GOOG": 2148, "IBM": 3270, "MSFT": 3270}
SPLITS = {"AAPL": (date(2000, 6, 21), date(2005, 2, 28)), "MSFT": (date(2003, 2, 18),)}


def raw_rows():
    packed = (resources.files("openoutcry.firm") / "data" / "bars.csv.gz").read_bytes()
    return list(csv.DictReader(gzip.decompress(packed).decode("ascii").splitlines()))


def test_every_row_of_the_source_is_there():
    history = load_history()
    assert {symbol: len(list(history.of(symbol))) for symbol in SYMBOLS} == ROWS
    assert len(history.sessions) == 3270
    assert history.sessions[0].day == date(2000, 3, 1)
    assert history.sessions[-1].day == date(2013, 3, 1)


def test_the_file_is_the_one_whose_provenance_is_told():
    packed = (resources.files("openoutcry.firm") / "data" / "bars.csv.gz").read_bytes()
    expected = "335adcfbe3fac8cc86883ecfd83a9c106875946db9025dd1311e054fb487b4b5"
    assert hashlib.sha256(packed).hexdigest() == expected
    note = (resources.files("openoutcry.firm") / "data" / "PROVENANCE.md").read_text(encoding="utf-8")
    assert "Public domain" in note
    assert f"{sum(ROWS.values()):,}" in note


def test_dates_ascend_and_no_symbol_has_two_bars_of_one_day():
    history = load_history()
    assert all(first.day < second.day for first, second in pairwise(history.sessions))
    for session in history.sessions:
        names = [bar.symbol for bar in session.bars]
        assert len(names) == len(set(names))
        assert all(bar.day == session.day for bar in session.bars)


def test_every_bar_is_possible():
    for session in load_history().sessions:
        for bar in session.bars:
            assert 0 < bar.low <= min(bar.open, bar.close)
            assert max(bar.open, bar.close) <= bar.high
            assert bar.volume > 0


@pytest.mark.parametrize(
    ("symbol", "day"), [(symbol, day) for symbol, days in SPLITS.items() for day in days]
)
def test_a_split_is_no_fall(symbol, day):
    unadjusted = {row["date"]: float(row["close"]) for row in raw_rows() if row["symbol"] == symbol}
    bars = list(load_history((symbol,)).of(symbol))
    before, on = next((a, b) for a, b in pairwise(bars) if b.day == day)
    assert unadjusted[on.day.isoformat()] / unadjusted[before.day.isoformat()] < 0.6
    assert abs(on.close / before.close - 1) < 0.12


def test_adjusting_keeps_the_money_that_changed_hands():
    row = next(row for row in raw_rows() if row["symbol"] == "AAPL")
    bar = next(load_history(("AAPL",)).of("AAPL"))
    assert bar.close * bar.volume == pytest.approx(float(row["close"]) * int(row["volume"]), rel=1e-4)


@pytest.mark.parametrize(
    ("symbol", "day", "adjusted_close"),
    [
        ("AAPL", date(2000, 3, 1), 4.1867),
        ("AAPL", date(2013, 3, 1), 56.1374),
        ("MSFT", date(2003, 2, 18), 16.6157),
        ("FB", date(2012, 5, 18), 38.2318),
    ],
)
def test_adjusted_closes_are_those_of_the_source(symbol, day, adjusted_close):
    bar = next(bar for bar in load_history((symbol,)).of(symbol) if bar.day == day)
    assert bar.close == adjusted_close


def test_the_history_begins_when_the_first_of_its_symbols_trades():
    assert load_history(("FB", "GOOG")).sessions[0].day == date(2004, 8, 19)
    assert load_history(("goog", "GOOG")).symbols == ("GOOG",)


def test_days_counts_from_the_beginning():
    assert load_history(("IBM",), days=7).sessions == load_history(("IBM",)).sessions[:7]


@pytest.mark.parametrize("arguments", [{"symbols": ("TSLA",)}, {"symbols": ()}, {"days": 1}])
def test_what_the_data_cannot_give_is_a_clear_error(arguments):
    with pytest.raises(ConfigError, match=r"name one or more|at least 2"):
        load_history(**arguments)
