"""Values of numpy and pandas in events: converted to exactly the same value, or refused with what to do."""

import dataclasses
import importlib
import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openoutcry import timestamp_ns
from openoutcry.errors import InvalidEvent
from openoutcry.events import Event, decode, encode, register_event
from openoutcry.trading import (
    MarketDataEvent,
    OrderEvent,
    RollSignalEvent,
    SignalEvent,
    StressTestResultEvent,
    SystemEvent,
    ValidatedDecisionEvent,
)

if os.environ.get("OPENOUTCRY_TESTS_NEED_ALL"):
    np: Any = importlib.import_module("numpy")
    pd: Any = importlib.import_module("pandas")
else:
    np = pytest.importorskip("numpy")
    pd = pytest.importorskip("pandas")

WEI = 10**18 + 1
ORDER: dict[str, Any] = {"order_id": "1", "symbol": "ETH", "side": "buy"}
NS = "2026-01-02T14:30:00.123456789Z"
NOON_NS = 1_767_364_200_123_456_789


class Feature(Event, kw_only=True):
    event_type: str = "feature"
    value: float = 0.0
    maybe: float | None = None
    count: int = 0
    flag: bool = False
    name: str = ""
    at: datetime | None = None
    lasted: timedelta | None = None
    anything: Any = None
    series: list[float] = []
    table: dict[str, float] = {}


class BigOrder(OrderEvent, kw_only=True):
    edge: float = 0.0


@register_event(name="tests.foreign.Own")
@dataclasses.dataclass
class Own:
    event_id: str = "1"
    event_type: str = "own"
    value: float = 0.0
    anything: Any = None


def comes_back(event, field, expected):
    for each in (event, decode(encode(event)), type(event).from_dict(event.to_dict())):
        kept = getattr(each, field)
        assert (type(kept), kept) == (type(expected), expected)


# --- numbers


@pytest.mark.parametrize(
    "quantity", [WEI, np.int64(WEI), np.uint64(WEI), Fraction(1, 3), np.longdouble("0.1")]
)
def test_a_number_with_more_digits_than_a_float_is_refused_whatever_its_class(quantity):
    for make in (
        lambda: OrderEvent(**ORDER, quantity=quantity),
        lambda: OrderEvent.from_dict({**OrderEvent(**ORDER, quantity=1.0).to_dict(), "quantity": quantity}),
        lambda: encode(Feature(value=quantity)),
    ):
        with pytest.raises(InvalidEvent, match=r"float|Fraction|longdouble"):
            make()


def test_digits_that_a_float_does_not_have_are_refused_in_data_of_other_programs_too():
    data = {**OrderEvent(**ORDER, quantity=1.0).to_dict(), "quantity": WEI}
    del data["event_class"]
    with pytest.raises(
        InvalidEvent, match=r"OrderEvent\.quantity = 1000000000000000001: must fit a float exactly"
    ):
        decode(json.dumps(data))


@pytest.mark.parametrize(
    "number",
    [
        np.int8(5),
        np.int64(5),
        np.uint64(2**53),
        np.float16(1.5),
        np.float32(0.1),
        np.float64(0.1),
        np.longdouble(1.5),
        np.array(1.5),
    ],
)
def test_a_number_of_numpy_becomes_the_float_that_it_is(number):
    exact = float(number)
    comes_back(OrderEvent(**ORDER, quantity=number), "quantity", exact)
    comes_back(Feature(value=number), "value", exact)
    comes_back(Feature(maybe=number), "maybe", exact)
    comes_back(BigOrder(**ORDER, quantity=1.0, edge=number), "edge", exact)


@settings(deadline=None)
@given(st.integers(-(2**63), 2**63 - 1))
def test_an_int_and_the_same_int_of_numpy_are_settled_alike(number):
    def settled(cls, field, value, **fields):
        try:
            return getattr(cls(**fields, **{field: value}), field)
        except InvalidEvent:
            return None

    for cls, field, fields in ((Feature, "value", {}), (MarketDataEvent, "price", {"symbol": "A"})):
        kept = settled(cls, field, number, **fields)
        assert kept == settled(cls, field, np.int64(number), **fields)
        assert kept is None or int(kept) == number


def test_whole_numbers_flags_and_names_of_numpy_become_python_s_own():
    comes_back(Feature(count=np.int64(WEI)), "count", WEI)
    comes_back(Feature(flag=np.bool_(True)), "flag", True)
    comes_back(Feature(anything=np.int32(7)), "anything", 7)
    comes_back(
        ValidatedDecisionEvent(original_decision_id="1", symbol="A", approved=np.bool_(True)),
        "approved",
        True,
    )
    contracts: dict[str, Any] = {"symbol": "ES", "from_contract": "Z", "to_contract": "H"}
    comes_back(RollSignalEvent(**contracts, days_to_expiry=np.int16(3)), "days_to_expiry", 3)
    event = SignalEvent(
        strategy_name=np.str_("a"),
        symbol=np.str_("b"),
        direction=np.str_("LONG"),
        data_sources=(np.str_("c"),),
    )
    assert {type(event.symbol), type(event.strategy_name), type(event.data_sources[0])} == {str}
    assert decode(encode(event)) == event


def test_details_take_numpy_s_scalars_at_every_depth():
    event = SystemEvent(details={np.str_("a"): [np.float64(1.5), {"b": np.int64(5)}, np.bool_(False)]})
    assert event.details == {"a": (1.5, {"b": 5}, False)}
    assert decode(encode(event)) == event
    stress: dict[str, Any] = {"scenario": "x", "passed": False, "projected_loss": 1}
    assert StressTestResultEvent(**stress, position_losses={"a": np.float32(0.5)}).position_losses == {
        "a": 0.5
    }
    with pytest.raises(InvalidEvent, match="position_losses"):
        StressTestResultEvent(**stress, position_losses={"a": np.int64(WEI)})


@pytest.mark.parametrize(
    "wrong",
    [Decimal("1.5"), Decimal("NaN"), np.complex128(1), np.timedelta64(5, "s"), np.timedelta64("NaT", "s")],
)
def test_what_is_no_float_is_never_made_one(wrong):
    for make in (
        lambda: OrderEvent(**ORDER, quantity=wrong),
        lambda: MarketDataEvent(symbol="A", price=wrong),
    ):
        with pytest.raises(InvalidEvent, match="pass a float, not a"):
            make()
    with pytest.raises(InvalidEvent, match="days_to_expiry"):
        RollSignalEvent(
            symbol="ES", from_contract="Z", to_contract="H", days_to_expiry=np.timedelta64(5, "D")
        )


# --- no value, many values


MISSING = [pd.NaT, pd.NA, np.datetime64("NaT", "s")]
MANY = [
    np.array([1.5]),
    np.array([]),
    np.array(["a", "b"]),
    pd.Series([1.5]),
    pd.Index([1]),
    pd.DataFrame({"a": [1]}),
]


@pytest.mark.parametrize("wrong", [*MISSING, *MANY], ids=lambda value: type(value).__name__)
@pytest.mark.parametrize(
    "cls", [MarketDataEvent, SignalEvent, ValidatedDecisionEvent, SystemEvent, OrderEvent]
)
def test_no_value_and_many_values_are_refused_in_every_field(cls, wrong):
    least: Mapping[Any, dict[str, Any]] = {
        MarketDataEvent: {"symbol": "A", "price": 1.0},
        SignalEvent: {"strategy_name": "a", "symbol": "A", "direction": "long"},
        ValidatedDecisionEvent: {"original_decision_id": "1", "symbol": "A", "approved": True},
        SystemEvent: {},
        OrderEvent: {**ORDER, "quantity": 1.0},
    }
    for field in cls.__struct_fields__:
        for value in (wrong, {"a": wrong}, [wrong]):
            with pytest.raises(InvalidEvent, match=r"; "):
                cls(**{**least[cls], field: value})
            with pytest.raises(InvalidEvent):
                cls.from_dict({**cls(**least[cls]).to_dict(), field: value})


@pytest.mark.parametrize("field", ["value", "maybe", "count", "name", "flag", "at"])
def test_no_value_and_many_values_are_refused_where_a_user_s_class_has_one(field):
    for wrong in MISSING:
        with pytest.raises(InvalidEvent, match=rf"Feature\.{field} = .*stands for no value; use None"):
            Feature(**{field: wrong})
    for wrong in MANY:
        with pytest.raises(InvalidEvent, match=rf"Feature\.{field} = (.|\n)*one value, not an array"):
            Feature(**{field: wrong})


def test_an_array_may_travel_in_memory_and_is_refused_by_name_when_it_is_written():
    for event, path in (
        (Feature(anything=np.array([1.5])), r"Feature\.anything"),
        (Feature(series=np.array([1.5])), r"Feature\.series"),
        (Own(anything=pd.Series([1.5])), r"Own\.anything"),
    ):
        with pytest.raises(InvalidEvent, match=path + r" = (.|\n)*convert it before"):
            encode(event)


@pytest.mark.parametrize(
    ("event", "path", "kept"),
    [
        (Feature(series=[0.5, np.float64(0.1)]), r"Feature\.series\[1\]", "the float 0.1"),
        (Feature(series=[np.float32(0.5)]), r"Feature\.series\[0\]", "the float 0.5"),
        (Feature(table={"a": np.int64(5)}), r"Feature\.table\['a'\]", "the float 5.0"),
        (Feature(anything={"a": [np.int64(5)]}), r"Feature\.anything\['a'\]\[0\]", "the int 5"),
        (Own(value=np.float64(0.1)), r"Own\.value", "the float 0.1"),
    ],
)
def test_a_number_of_numpy_that_is_not_made_python_s_own_is_refused_when_it_is_written(event, path, kept):
    with pytest.raises(
        InvalidEvent, match=rf"{path} = .*would come back from a journal as {kept}; pass an? "
    ):
        encode(event)


def test_not_a_number_is_found_among_numpy_s_floats_too():
    for nan in (np.float64("nan"), np.float32("nan")):
        with pytest.raises(InvalidEvent, match=r"Feature\.series.*JSON has no such number"):
            encode(Feature(series=[0.5, nan]))


# --- times


def test_a_timestamp_of_pandas_keeps_its_nanoseconds():
    assert MarketDataEvent(symbol="A", price=1, timestamp=pd.Timestamp(NS)).timestamp_ns == NOON_NS
    there = pd.Timestamp(NS).tz_convert("America/New_York")
    assert MarketDataEvent(symbol="A", price=1, timestamp=there).timestamp_ns == NOON_NS
    data = MarketDataEvent(symbol="A", price=1).to_dict()
    assert MarketDataEvent.from_dict({**data, "timestamp": there}).timestamp_ns == NOON_NS
    assert MarketDataEvent.from_dict({**data, "timestamp": np.int64(NOON_NS)}).timestamp_ns == NOON_NS


@pytest.mark.parametrize(
    "wrong",
    [
        pd.Timestamp("2026-01-02T14:30"),
        np.datetime64("2026-01-02T14:30"),
        pd.Timedelta(5),
        pd.Period("2026-01"),
        *MISSING,
    ],
)
def test_a_time_without_a_zone_and_what_is_none_are_refused(wrong):
    with pytest.raises(InvalidEvent, match=r"MarketDataEvent\.timestamp = "):
        MarketDataEvent(symbol="A", price=1, timestamp=wrong)
    with pytest.raises(InvalidEvent, match="timestamp"):
        MarketDataEvent.from_dict({**MarketDataEvent(symbol="A", price=1).to_dict(), "timestamp": wrong})


def test_a_datetime_field_takes_a_timestamp_of_pandas_that_has_no_nanoseconds():
    event = Feature(at=pd.Timestamp("2026-01-02T14:30:00.123456Z"), lasted=pd.Timedelta(5, "s"))
    assert (type(event.at), event.at) == (datetime, datetime(2026, 1, 2, 14, 30, 0, 123456, tzinfo=UTC))
    assert (type(event.lasted), event.lasted) == (timedelta, timedelta(seconds=5))
    assert decode(encode(event)) == event
    for field, wrong in (
        ("at", pd.Timestamp(NS)),
        ("at", np.datetime64(NS[:-1])),
        ("lasted", pd.Timedelta(5, "ns")),
    ):
        with pytest.raises(InvalidEvent, match=rf"Feature\.{field} = .*; keep"):
            Feature(**{field: wrong})


@pytest.mark.parametrize("unit", ["W", "D", "h", "m", "s", "ms", "us", "ns", "M", "Y", "25s"])
def test_the_helper_takes_numpy_s_times_of_every_unit_as_utc(unit):
    value = np.datetime64("2026-01-02T14:30:00").astype(f"datetime64[{unit}]")
    assert timestamp_ns(value) == int(value.astype("datetime64[ns]").astype("int64"))


def test_the_helper_takes_what_numpy_and_pandas_have_and_refuses_what_is_no_time():
    assert timestamp_ns(pd.Timestamp(NS)) == timestamp_ns(np.datetime64(NS[:-1])) == NOON_NS
    assert timestamp_ns(np.int64(1_767_364_200), unit="s") == timestamp_ns(np.float64(1_767_364_200), "s")
    far = np.datetime64("2300-01-01", "s")
    for wrong, unit in (
        (pd.NaT, None),
        (pd.NA, "s"),
        (np.datetime64("NaT", "s"), None),
        (far, None),
        (np.array([1]), "s"),
        (np.timedelta64(1, "s"), None),
    ):
        with pytest.raises(InvalidEvent, match=r"timestamp_ns\("):
            timestamp_ns(wrong, unit)
    with pytest.raises(InvalidEvent, match="beyond the nanosecond"):
        timestamp_ns(np.datetime64(1, "ps"))


@pytest.mark.parametrize(
    "wrong", [np.ma.masked, np.ma.array(7, mask=True), np.ma.array([1.5], mask=[True])[0]]
)
def test_what_numpy_has_masked_is_no_value(wrong):
    with pytest.raises(InvalidEvent, match=r"MarketDataEvent\.price"):
        MarketDataEvent(symbol="ES", price=wrong)
    with pytest.raises(InvalidEvent, match=r"Feature\.count = .*stands for no value"):
        Feature(count=wrong)
    with pytest.raises(InvalidEvent, match=r"masked|Masked"):
        encode(Feature(series=[wrong]))
    with pytest.raises(InvalidEvent, match=r"timestamp_ns\("):
        timestamp_ns(wrong, "s")
    assert MarketDataEvent(symbol="ES", price=np.ma.array([1.5, 2.5], mask=[True, False])[1]).price == 2.5


@pytest.mark.parametrize("number", [3.0, np.float64(3), np.float32(3), np.ma.array(3.0)])
def test_a_whole_float_in_a_field_for_ints_becomes_that_int(number):
    event = Feature(count=number)
    assert (type(event.count), event.count) == (int, 3)
    assert decode(encode(event)) == event
