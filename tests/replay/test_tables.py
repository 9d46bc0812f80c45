"""Tables of bars and ticks: which column is which field, when a row was, and what is refused, with its place."""

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from openoutcry import ConfigError, MarketDataEvent, SignalEvent
from openoutcry.errors import InvalidRow
from openoutcry.events import encode
from openoutcry.replay.feed import Feed
from openoutcry.replay.table_files import kind_of
from openoutcry.replay.tables import Rules, Table

pa: Any = import_module("pyarrow")
pq: Any = import_module("pyarrow.parquet")
BARS = "time,symbol,open,high,low,close,volume\n"
NINE_NS = 1_767_344_400_000_000_000  # 2026-01-02T09:00:00Z


def feed_of(tmp_path: Path, *texts: str, **rules: Any) -> Feed:
    paths = []
    for number, text in enumerate(texts):
        paths.append(tmp_path / f"table-{number}.csv")
        paths[-1].write_text(text)
    return Feed(paths, Rules(**rules))


def events_of(feed: Feed) -> list[Any]:
    feed.look()
    return [event for _, events in feed.instants() for event in events]


def bars(*times: str, symbol: str = "ES") -> str:
    return BARS + "".join(f"{time},{symbol},1,3,0.5,2,10\n" for time in times)


def test_a_row_is_an_event_at_its_instant(tmp_path: Path) -> None:
    (event,) = events_of(feed_of(tmp_path, bars("2026-01-02T09:00:00Z")))
    assert event == MarketDataEvent(
        event_id=f"ES:{NINE_NS}",
        timestamp=NINE_NS,
        symbol="ES",
        price=2,
        open=1,
        high=3,
        low=0.5,
        close=2,
        volume=10,
    )


def test_rows_of_several_files_come_in_the_order_of_their_times(tmp_path: Path) -> None:
    first = bars("2026-01-02T09:00:00Z", "2026-01-02T09:02:00Z")
    second = bars("2026-01-02T09:00:00Z", "2026-01-02T09:01:00Z", symbol="ZN")
    feed = feed_of(tmp_path, first, second)
    contents = feed.look()
    assert (contents.rows_count, contents.symbols, contents.first_ns) == (4, ("ES", "ZN"), NINE_NS)
    assert [[event.symbol for event in events] for _, events in feed.instants()] == [
        ["ES", "ZN"],
        ["ZN"],
        ["ES"],
    ]
    assert contents.digest == feed.look().digest != feed_of(tmp_path, first).look().digest


@pytest.mark.parametrize(
    ("head", "cell", "rules"),
    [
        ("time", "2026-01-02T09:00:00Z", {}),
        ("Date Time", "2026-01-02T10:00:00+01:00", {"columns": {"Date Time": "timestamp"}}),
        ("DATETIME", "2026-01-02 04:00", {"zone": "America/New_York"}),
        ("ts_ms", "1767344400000", {}),
        ("ts", "1767344400", {"unit": "s"}),
        ("timestamp", "1767344400.0", {"unit": "s"}),
        ("timestamp", "2026-01-02T08:55:00Z", {"known_after_ns": 300_000_000_000}),
        ("date", "2026-01-02", {"zone": "America/New_York", "known_after_ns": 4 * 3_600_000_000_000}),
    ],
)
def test_times_are_told_in_many_ways(tmp_path: Path, head: str, cell: str, rules: dict[str, Any]) -> None:
    (event,) = events_of(feed_of(tmp_path, f"{head},ticker,price\n{cell},ES,1.5\n", **rules))
    assert (event.timestamp_ns, event.symbol, event.price) == (NINE_NS, "ES", 1.5)


def test_a_bar_of_a_date_is_known_at_the_same_hour_all_year(tmp_path: Path) -> None:
    text = "date,symbol,close\n2026-03-06,ES,1\n2026-03-09,ES,1\n"  # clocks are put forward in between
    feed = feed_of(tmp_path, text, zone="America/New_York", known_after_ns=16 * 3_600_000_000_000)
    assert [event.timestamp.hour for event in events_of(feed)] == [21, 20]


@pytest.mark.parametrize(
    ("cell", "rules", "said"),
    [
        ("2026-01-02T09:00:00", {}, "has no time zone"),
        ("2026-01-02", {"zone": "UTC"}, "is a date"),
        ("1767344400", {}, "is a count, and of what"),
        ("yesterday", {}, "ISO 8601"),
        ("2026-02-30", {"zone": "UTC", "known_after_ns": 0}, "no day of the calendar"),
        ("2026-11-01T01:30:00", {"zone": "America/New_York"}, "was shown twice or never"),
        ("2026-03-08T02:30:00", {"zone": "America/New_York"}, "was shown twice or never"),
        ("", {}, "an empty cell is where a time must be"),
        ("nan", {"unit": "s"}, "ISO 8601"),
        ("0001-01-01", {"zone": "Europe/London", "known_after_ns": 0}, "between the years 1677 and 2262"),
        ("9" * 30, {"unit": "s"}, "between the years 1677 and 2262"),
    ],
)
def test_what_does_not_say_when_it_was_is_refused(
    tmp_path: Path, cell: str, rules: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidRow, match=said) as caught:
        feed_of(tmp_path, f"time,symbol,price\n{cell},ES,1\n", **rules).look()
    assert (caught.value.row, caught.value.column) == (2, "time")


@pytest.mark.parametrize(
    ("row", "column", "value", "said"),
    [
        ("2026-01-02T09:01:00Z,ES,1,3,,2,10", "low", "an empty cell", "a bar has all four"),
        ("2026-01-02T09:01:00Z,ES,1,3,nan,2,10", "low", "'nan'", "is no number"),
        ("2026-01-02T09:01:00Z,ES,1,inf,1,2,10", "high", "'inf'", "is no number"),
        ("2026-01-02T09:01:00Z,ES,1,1e999,1,2,10", "high", "'1e999'", "no finite number"),
        ("2026-01-02T09:01:00Z,ES,1_0,30,1,2,10", "open", "'1_0'", "is no number"),
        ('2026-01-02T09:01:00Z,ES,"1,0",30,1,2,10', "open", "'1,0'", "is no number"),
        ("2026-01-02T09:01:00Z,ES,1,3,2.5,2,10", "open", "1.0", "must not be below low"),
        ("2026-01-02T09:01:00Z,ES,1,3,1,2,-1", "volume", "-1.0", "must be"),
        ("2026-01-02T09:01:00Z,,1,3,1,2,10", "symbol", "an empty cell", "a name must be"),
        ("2026-01-02T08:59:00Z,ES,1,3,1,2,10", "time", "'2026-01-02T08:59:00Z'", "sort the table"),
        ("2026-01-02T09:00:00Z,ES,1,3,1,2,10", "", "an empty cell", "there is a bar of ES for this time"),
        ("2026-01-02T09:01:00Z,ES,,,,,10", "price", "an empty cell", "a price must be"),
    ],
)
def test_a_row_that_is_no_event_is_named(
    tmp_path: Path, row: str, column: str, value: str, said: str
) -> None:
    with pytest.raises(InvalidRow, match=said) as caught:
        feed_of(tmp_path, bars("2026-01-02T09:00:00Z") + row + "\n").look()
    found = caught.value
    assert found.path.endswith("table-0.csv")
    assert (found.row, found.column, found.value) == (3, column, value)
    assert f"{found.path}, line 3" in str(found)


@pytest.mark.parametrize(
    ("text", "rules", "said"),
    [
        ("time,symbol,price,vwap\n", {}, "what it is is not known"),
        ("time,symbol,prise\n", {}, r"did you mean price\?"),
        ("time,symbol,price,last\n", {}, "are both the price"),
        ("time,symbol,price,price\n", {}, "several columns"),
        ("symbol,price\n", {}, "no column for the timestamp"),
        ("time,price\n", {}, "no column for the symbol"),
        ("time,symbol\n", {}, "no column for the price"),
        ("time,symbol,open,close\n", {}, "none for high, low"),
        ("time,symbol,price\n", {"columns": {"cost": ""}}, "there is no column 'cost'"),
        ("time,symbol,p\n", {"columns": {"p": "cost"}}, "there is no field 'cost'"),
        ("time,symbol,price\n", {"constants": {"symbol": "ES"}}, "has a column for it"),
        ("time,symbol,price\n", {"constants": {"price": "1"}}, "may be symbol, interval or"),
        ("time,symbol,price\n", {"zone": "Mars/Base"}, "is no time zone here"),
        ("time,symbol,price\n", {"unit": "m"}, "must be one of"),
        ("time,symbol,price\n", {}, "has no rows"),
        ("", {}, "is neither Parquet nor text"),
    ],
)
def test_a_table_that_says_too_little_is_refused(
    tmp_path: Path, text: str, rules: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        feed_of(tmp_path, text, **rules).look()


def test_columns_are_mapped_left_out_and_set(tmp_path: Path) -> None:
    text = "t;Settle;vwap\n2026-01-02T09:00:00Z;1.5;9\n"
    rules = {"columns": {"t": "timestamp", "Settle": "price", "vwap": ""}, "constants": {"symbol": "ES"}}
    (event,) = events_of(feed_of(tmp_path, text, **rules))
    assert (event.symbol, event.price, event.volume) == ("ES", 1.5, None)


def test_equal_ticks_need_ids_or_a_word(tmp_path: Path) -> None:
    row = "2026-01-02T09:00:00Z,ES,1.5,10\n"
    text = "time,symbol,price,size\n" + row + row
    with pytest.raises(InvalidRow, match=r"is equal to .* line 2"):
        feed_of(tmp_path, text).look()
    first, second = events_of(feed_of(tmp_path, text, repeats=True))
    assert (first.event_id, second.event_id) == (f"ES:{NINE_NS}", f"ES:{NINE_NS}:2")
    ids = "time,symbol,price,event_id\n2026-01-02T09:00:00Z,ES,1,{}\n2026-01-02T09:00:01Z,ES,1,{}\n"
    assert [event.event_id for event in events_of(feed_of(tmp_path, ids.format("a", "b")))] == ["a", "b"]
    with pytest.raises(InvalidRow, match=r"is the id of .* line 2 as well"):
        feed_of(tmp_path, ids.format("a", "a")).look()


def test_cells_too_many_and_bytes_that_are_no_text_are_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidRow, match="line 2: has 4 cells, and the head 3"):
        feed_of(tmp_path, "time,symbol,price\n2026-01-02T09:00:00Z,ES,1,2\n").look()
    path = tmp_path / "latin.csv"
    path.write_bytes(b"time,symbol,price\n" + b"2026-01-02T09:00:00Z,ES,1\n" * 4_000 + b"x,\xe9,1\n")
    with pytest.raises(InvalidRow, match="cannot be read as CSV"):
        Feed([path], Rules(repeats=True)).look()


def parquet(tmp_path: Path, **columns: Any) -> Path:
    path = tmp_path / "bars.parquet"
    pq.write_table(pa.table(columns), path)
    return path


def test_parquet_has_times_and_numbers_of_its_own(tmp_path: Path) -> None:
    for kind in (pa.timestamp("ns", "UTC"), pa.timestamp("ms", "America/New_York")):
        at = NINE_NS if kind.unit == "ns" else NINE_NS // 1_000_000
        times = pa.array([at], kind)
        path = parquet(tmp_path, time=times, symbol=["ES"], price=[1.5], volume=pa.array([None], "double"))
        (event,) = events_of(Feed([path], Rules()))
        assert (event.timestamp_ns, event.price, event.volume) == (NINE_NS, 1.5, None)
    on_the_wall = pa.array([NINE_NS - 5 * 3_600_000_000_000], pa.timestamp("ns"))
    path = parquet(tmp_path, time=on_the_wall, symbol=["ES"], price=[1])
    with pytest.raises(InvalidRow, match="has no time zone"):
        Feed([path], Rules()).look()
    (event,) = events_of(Feed([path], Rules(zone="America/New_York")))
    assert event.timestamp_ns == NINE_NS


@pytest.mark.parametrize(
    ("column", "cells", "said"),
    [
        ("price", [1.0, float("nan")], "no finite number"),
        ("price", pa.array([1.0, None]), "an empty cell is where a price must be"),
        ("price", [True, False], "is bool, and must be a number"),
        ("symbol", [1, 2], "is int, and must be text"),
        ("time", pa.array([NINE_NS, None], pa.timestamp("ns", "UTC")), "where a time must be"),
    ],
)
def test_wrong_cells_of_parquet_are_named(tmp_path: Path, column: str, cells: Any, said: str) -> None:
    times = pa.array([NINE_NS, NINE_NS + 1], pa.timestamp("ns", "UTC"))
    path = parquet(tmp_path, **{"time": times, "symbol": ["ES", "ES"], "price": [1.0, 2.0], column: cells})
    with pytest.raises(InvalidRow, match=said) as caught:
        Feed([path], Rules()).look()
    assert caught.value.column == column
    assert "bars.parquet, row " in str(caught.value)


def test_what_a_file_is_its_content_says(tmp_path: Path) -> None:
    named = tmp_path / "bars.csv"
    named.write_bytes(parquet(tmp_path, time=["2026-01-02T09:00:00Z"], symbol=["ES"], price=[1]).read_bytes())
    assert kind_of(named) == "parquet"
    assert Feed([named], Rules()).look().rows_count == 1
    named.write_bytes(b"SQLite format 3\0")
    assert kind_of(named) is None
    assert kind_of(tmp_path / "nothing") is None
    named.write_bytes(b"\x1f\x8b\x08")
    with pytest.raises(ConfigError, match="unpack it"):
        Table(named, Rules())


def exported(tmp_path: Path, *events: Any) -> Feed:
    text = "wall_ns,event\n"
    for number, event in enumerate(events):
        quoted = encode(event).decode().replace('"', '""')
        text += f'{NINE_NS + number},"{quoted}"\n'
    return feed_of(tmp_path, text)


def test_exported_events_come_as_they_were_when_they_were_admitted(tmp_path: Path) -> None:
    events = [MarketDataEvent(symbol="ES", price=price, timestamp=NINE_NS + 5) for price in (1.0, 2.0)]
    feed = exported(tmp_path, *events)
    assert feed.look().last_ns == NINE_NS + 1
    assert [event for _, some in feed.instants() for event in some] == events


def test_what_agents_published_is_no_input(tmp_path: Path) -> None:
    signal = SignalEvent(
        symbol="ES", direction="long", confidence=1, strategy_name="s", source_agent="s", causation_id="x"
    )
    with pytest.raises(InvalidRow, match="was published by an agent"):
        exported(tmp_path, signal).look()
    with pytest.raises(InvalidRow, match="cannot be read"):
        feed_of(tmp_path, 'wall_ns,event\n1767344400000000000,{"event_class":"Nobody"}\n').look()
