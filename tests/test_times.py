"""Times to the nanosecond: ISO 8601 text, counts of a named unit, and counts whose unit is plainly another."""

import dataclasses
import json
from datetime import UTC, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openoutcry import TransactionReportEvent, timestamp_ns
from openoutcry.errors import InvalidEvent
from openoutcry.events import Event, decode, encode, register_event, stamps
from openoutcry.events.pages import Undecodable, decode_many
from openoutcry.testing import run_virtual
from openoutcry.trading import MarketDataEvent

NOON_NS = 1_767_364_200_123_456_789
NOON = datetime(2026, 1, 2, 14, 30, tzinfo=UTC)
S = 1_000_000_000


def tick(at):
    return {"event_type": "market_data", "event_id": "1", "timestamp": at, "symbol": "ES", "price": 1.5}


WAYS = [
    lambda at: MarketDataEvent(symbol="ES", price=1.5, timestamp=at),
    lambda at: MarketDataEvent.from_dict(tick(at)),
    lambda at: Event.from_dict({**tick(at), "event_class": "MarketDataEvent"}),
    lambda at: decode(json.dumps(tick(at))),
    lambda at: decode(json.dumps({**tick(at), "event_class": "MarketDataEvent"}).encode()),
    lambda at: _raised(
        decode_many([json.dumps({**tick(at), "event_class": "MarketDataEvent"}).encode()])[0],
    ),
]


def _raised(event):
    if isinstance(event, Undecodable):
        raise event.error
    return event


# --- ISO 8601 text


@pytest.mark.parametrize("way", WAYS)
def test_the_last_nanosecond_of_a_bar_stays_in_it(way):
    event = way("2024-11-03T05:59:59.999999998Z")
    assert event.timestamp_ns == 1_730_613_599_999_999_998
    assert event.timestamp < datetime(2024, 11, 3, 6, tzinfo=UTC)
    assert decode(encode(event)).timestamp_ns == event.timestamp_ns
    assert "05:59:59.999999998+00:00" in repr(event)


@settings(deadline=None)
@given(
    st.datetimes(datetime(1680, 1, 1), datetime(2262, 1, 1)),  # noqa: DTZ001
    st.text("0123456789", max_size=9),
    st.sampled_from("Tt "),
    st.sampled_from(".,"),
    st.integers(-23 * 60, 23 * 60),
    st.sampled_from(["{}:{}", "{}{}"]),
)
def test_every_time_with_up_to_nine_digits_is_read_to_the_last(moment, digits, middle, point, east, form):
    offset = ("-" if east < 0 else "+") + form.format(f"{abs(east) // 60:02}", f"{abs(east) % 60:02}")
    whole = moment.replace(microsecond=0)
    text = f"{whole:%Y-%m-%d}{middle}{whole:%H:%M:%S}" + (point + digits if digits else "") + offset
    seconds = (
        whole.replace(tzinfo=timezone(timedelta(minutes=east))) - datetime(1970, 1, 1, tzinfo=UTC)
    ) // timedelta(seconds=1)
    expected = seconds * S + int(digits.ljust(9, "0"))
    assert Event(timestamp=text).timestamp_ns == timestamp_ns(text) == expected
    for way in WAYS:
        assert way(text).timestamp_ns == expected


@pytest.mark.parametrize("end", ["Z", "z", "+00:00", "-00:00", "+0000", "+00"])
def test_every_way_of_writing_utc_is_utc(end):
    assert Event(timestamp="2026-01-02T14:30:00.123456789" + end).timestamp_ns == NOON_NS


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("2026-01-02T14:30:00.1234567891Z", "more than nine digits"),
        ("2026-01-02T14:30:00.0000000000001Z", "more than nine digits"),
        ("2026-01-02T14:30:00", "time zone"),
        ("2016-12-31T23:59:60Z", "leap second"),
        ("2026-01-02T24:00:00Z", "time of day"),
        ("2026-02-29T14:30:00Z", "day of the calendar"),
        ("0000-01-01T00:00:00Z", "day of the calendar"),
        ("2026-01-02T14:30:00+24:00", "offset of less than a day"),
        ("0001-01-01T00:00:00Z", "1677 and 2262"),
        ("9999-12-31T23:59:59Z", "1677 and 2262"),
        ("1767364200", "ISO 8601"),
        ("2026-01-02", "ISO 8601"),
        ("", "ISO 8601"),
        ("\uff12\uff10\uff12\uff16-01-02T14:30:00Z", "ISO 8601"),
        (" 2026-01-02T14:30:00Z", "ISO 8601"),
    ],
)
def test_what_is_no_time_to_the_nanosecond_is_refused_with_the_reason(way, text, why):
    with pytest.raises(InvalidEvent, match=rf"MarketDataEvent\.timestamp = .*{why}.*; "):
        way(text)


def test_zeros_beyond_the_ninth_digit_lose_nothing():
    assert Event(timestamp="2026-01-02T14:30:00.123456789000Z").timestamp_ns == NOON_NS


def test_the_edges_of_what_64_bits_hold_are_read():
    assert Event(timestamp="2262-04-11T23:47:16.854775807Z").timestamp_ns == 2**63 - 1
    assert Event(timestamp="1677-09-21T00:12:43.145224193Z").timestamp_ns == -(2**63) + 1
    with pytest.raises(InvalidEvent, match="1677 and 2262"):
        Event(timestamp="2262-04-11T23:47:16.854775808Z")


def test_a_class_that_asks_for_its_own_timestamp_keeps_nine_digits_too():
    class Dated(Event, kw_only=True):
        timestamp: int | datetime  # type: ignore[assignment]
        event_type: str = "dated"

    assert Dated(timestamp="2026-01-02T14:30:00.123456789Z").timestamp_ns == NOON_NS  # type: ignore[arg-type]
    data = '{"event_type":"dated","event_id":"1","timestamp":"2026-01-02T14:30:00.123456789Z"}'
    assert decode(data).timestamp_ns == NOON_NS
    assert decode(data.replace("{", '{"event_class":"Dated",')).timestamp_ns == NOON_NS


# --- fields of users' classes


class Inner(msgspec.Struct):
    at: datetime | None = None


class Dates(Event, kw_only=True):
    event_type: str = "dates"
    at: datetime | None = None
    of_day: time | None = None
    lasted: timedelta | None = None
    note: str = ""
    inner: list[Inner] = []


@register_event(name="tests.times.Own")
@dataclasses.dataclass
class Own:
    event_id: str
    at: datetime
    event_type: str = "own"


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"at": "2024-11-03T05:59:59.999999998Z"}, r"Dates\.at = "),
        ({"of_day": "05:59:59.9999998Z"}, r"Dates\.of_day = "),
        ({"lasted": "PT0.1234567S"}, r"Dates\.lasted = "),
        ({"inner": [{"at": None}, {"at": "2024-11-03T05:59:59.1234567Z"}]}, r"Dates\.inner\[1\]\.at = "),
    ],
)
def test_a_datetime_is_never_given_more_digits_than_it_holds(changes, path):
    data = {**Dates(event_id="1").to_dict(), **changes}
    reads = [
        lambda: Dates.from_dict(data),
        lambda: decode(json.dumps(data)),
        lambda: _raised(decode_many([json.dumps(data).encode()])[0]),
        lambda: decode(json.dumps({key: value for key, value in data.items() if key != "event_class"})),
    ]
    for read in reads:
        with pytest.raises(InvalidEvent, match=path + ".*six digits.*; keep it as text"):
            read()


def test_a_datetime_of_six_digits_and_a_text_of_nine_are_read_as_they_are():
    data = {**Dates(event_id="1").to_dict(), "at": "2024-11-03T05:59:59.999999000Z"}
    data["note"] = "seen at 2024-11-03T05:59:59.999999998Z"
    event = decode(json.dumps(data))
    assert (event.at.microsecond, event.note) == (999_999, data["note"])
    assert decode(encode(event)) == event


def test_a_datetime_of_a_class_of_a_user_is_never_given_more_digits_either():
    with pytest.raises(InvalidEvent, match=r"Own\.at = .*six digits"):
        decode(
            '{"event_class":"tests.times.Own","event_id":"1","event_type":"own","at":"2024-11-03T05:59:59.9999998Z"}'
        )


# --- counts of another unit


@pytest.mark.parametrize("way", [WAYS[0], WAYS[1], WAYS[3]])
@pytest.mark.parametrize(
    ("count", "unit", "word"),
    [
        (1_767_364_200, "s", "seconds"),
        (1_767_364_200_123, "ms", "milliseconds"),
        (1_767_364_200_123_456, "us", "microseconds"),
        (1_000_000_000, "s", "seconds"),
        (4_102_444_799, "s", "seconds"),
    ],
)
def test_a_count_of_another_unit_is_refused_with_the_unit_and_the_helper(way, count, unit, word):
    with pytest.raises(
        InvalidEvent, match=rf"looks like {word} .*; pass timestamp_ns\(value, unit=\"{unit}\"\)"
    ):
        way(count)
    assert way(timestamp_ns(count, unit=unit)).timestamp_ns == timestamp_ns(count, unit)


def test_a_float_is_never_a_time():
    with pytest.raises(InvalidEvent, match=r"looks like seconds \(timestamp_ns\(value, unit=\"s\"\)"):
        Event(timestamp=1_767_364_200.5)  # type: ignore[arg-type]
    with pytest.raises(InvalidEvent, match="timestamp"):
        decode(json.dumps({**tick(1.5)}))


@pytest.mark.parametrize("small", [0, 1, 5, 99_999_999, -1, -1_767_364_200, 10**17, NOON_NS])
def test_what_no_other_unit_explains_is_taken(small):
    assert Event(timestamp=small).timestamp_ns == small


def test_every_count_is_taken_where_time_itself_begins_in_1970():
    with stamps(time_ns=lambda: 2 * S):
        assert Event(timestamp=1_767_364_200).timestamp_ns == 1_767_364_200
        assert Event().timestamp_ns == 2 * S
        data = encode(Event(timestamp=1_767_364_200))
    assert decode(data).timestamp_ns == 1_767_364_200
    assert decode_many([data]) == [decode(data)]
    assert Event.from_dict(json.loads(data)) == decode(data)


def test_every_count_is_taken_under_a_virtual_clock_that_begins_in_1970():
    async def main():
        return Event(timestamp=1_767_364_200).timestamp_ns

    assert run_virtual(main(), start=0) == 1_767_364_200
    with pytest.raises(InvalidEvent, match="looks like seconds"):
        run_virtual(main())


def test_the_time_of_a_trade_is_judged_in_the_same_way():
    report: dict[str, Any] = {
        "report_id": "r",
        "order_id": "o",
        "symbol": "ES",
        "side": "buy",
        "quantity": 1.0,
        "price": 1.0,
    }
    with pytest.raises(InvalidEvent, match=r"executed_at_ns = 1767364200: .*looks like seconds"):
        TransactionReportEvent(**report, executed_at_ns=1_767_364_200)
    assert TransactionReportEvent(**report, executed_at_ns=NOON_NS).executed_at_ns == NOON_NS


# --- the helper


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        (1_767_364_200, "s", 1_767_364_200 * S),
        (1_767_364_200_123, "ms", 1_767_364_200_123_000_000),
        (1_767_364_200_123_456, "us", 1_767_364_200_123_456_000),
        (NOON_NS, "ns", NOON_NS),
        (5, "ns", 5),
        (-1, "s", -S),
        (1_767_364_200.123456, "s", 1_767_364_200_123_456_000),
        (0.1, "s", 100_000_000),
        (1_767_364_200_123.4567, "ms", 1_767_364_200_123_456_800),  # the float that is nearest
        ("1767364200.123456789", "s", NOON_NS),
        (Decimal("1767364200.123456789"), "s", NOON_NS),
        (Fraction(1, 4), "s", 250_000_000),
        (NOON, None, 1_767_364_200 * S),
        ("2026-01-02T14:30:00.123456789Z", None, NOON_NS),
    ],
)
def test_a_count_of_a_named_unit_is_converted_exactly(value, unit, expected):
    assert timestamp_ns(value, unit) == expected


@settings(deadline=None)
@given(st.floats(10**9, 4 * 10**9))
def test_seconds_in_a_float_lose_nothing_that_the_float_holds(seconds):
    assert timestamp_ns(seconds, unit="s") / S == seconds


@pytest.mark.parametrize(
    ("value", "unit", "why"),
    [
        (5, None, "needs its unit"),
        (1.5, None, "float does not hold nanoseconds"),
        (5, "m", "no such unit"),
        (True, "s", "must be a number"),
        (None, "s", "must be a number"),
        ("soon", "s", "finite number"),
        ("soon", None, "ISO 8601"),
        (float("nan"), "s", "is not a time"),
        (float("inf"), "s", "finite number"),
        (Decimal("NaN"), "s", "is not a time"),
        (Decimal("1.0000000001"), "s", "beyond the nanosecond"),
        (Fraction(1, 3), "s", "beyond the nanosecond"),
        (1_767_364_200_123, "s", "1677 and 2262"),
        (NOON, "s", "unit of its own"),
        (NOON.replace(tzinfo=None), None, "time zone"),
    ],
)
def test_what_the_helper_cannot_convert_exactly_it_refuses(value, unit, why):
    with pytest.raises(InvalidEvent, match=rf"timestamp_ns\(.*\): .*{why}"):
        timestamp_ns(value, unit)
