"""What two events with one id say differently (CONTRACT 18, 35)."""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from itertools import permutations
from typing import Any, ClassVar

import msgspec
import pytest

from openoutcry import Event, InvalidEvent, MarketDataEvent, OrderEvent, OrderSide, register_event
from openoutcry.events import Undecodable, decode, differences, encode, first_of


class ContentReport(Event, kw_only=True):
    event_type: str = "content_report"
    volatile_fields: ClassVar[frozenset[str]] = frozenset({"took_ms"})
    text: str = ""
    took_ms: float = 0.0
    words: frozenset[str] = frozenset()
    price: Decimal = Decimal(0)
    details: Any = None


@register_event
@dataclass
class ContentMemo:
    event_id: str
    event_type: ClassVar[str] = "content_memo"
    volatile_fields: ClassVar[tuple[str, ...]] = ("took_ms",)
    timestamp: int = 0
    took_ms: float = 0.0
    pages: tuple[int, ...] = ()
    extra: dict[str, Any] = field(default_factory=dict)


class Anything:
    def __init__(self, **fields: Any) -> None:
        self.__dict__.update(fields)


def test_the_fields_that_differ_are_named():
    first = OrderEvent(event_id="7", order_id="1", symbol="ES", side=OrderSide.BUY, quantity=1)
    second = OrderEvent(event_id="7", order_id="2", symbol="NQ", side=OrderSide.BUY, quantity=1)
    assert differences(first, second) == ("order_id", "symbol")
    assert differences(first, first) == ()
    assert differences(first, MarketDataEvent(symbol="ES", price=1.0)) == ("*",)


def test_timestamp_id_and_volatile_fields_do_not_count():
    first = ContentReport(event_id="1", timestamp=5, took_ms=1.0)
    assert differences(first, ContentReport(event_id="2", timestamp=6, took_ms=2.0)) == ()
    assert differences(ContentMemo("1", took_ms=1.0), ContentMemo("1", timestamp=9, took_ms=2.0)) == ()
    assert differences(ContentMemo("1", pages=(1,)), ContentMemo("1", pages=(2,))) == ("pages",)


@pytest.mark.parametrize("link", ["causation_id", "correlation_id", "round_id"])
def test_what_the_bus_stamps_counts_where_both_have_it(link: str):
    plain = ContentReport()
    one, other = (msgspec.structs.replace(plain, **{link: value}) for value in ("a", "b"))
    assert differences(one, plain) == differences(plain, one) == ()
    assert differences(one, other) == (link,)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (float("nan"), float("nan")),
        ([float("nan")], [float("nan")]),
        ((1, 2), [1, 2]),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        (1, 1.0),
        (Decimal("1.0"), Decimal("1.00")),
        (datetime(2020, 1, 1, tzinfo=UTC), datetime(2020, 1, 1, tzinfo=UTC)),
        (object(), object()),
    ],
)
def test_values_that_nobody_can_tell_apart_are_equal(one: Any, other: Any):
    first, second = Anything(event_id="1", value=one), Anything(event_id="1", value=other)
    assert differences(first, second) == ()


def test_values_whose_comparison_raises_are_compared_as_they_are_shown():
    class Array:
        def __init__(self, shown: str) -> None:
            self.shown = shown

        def __eq__(self, other: object) -> bool:
            raise ValueError("the truth value of an array is ambiguous")

        __hash__ = object.__hash__

        def __repr__(self) -> str:
            return self.shown

    first = Anything(event_id="1", value=Array("[1 2]"))
    assert differences(first, Anything(event_id="1", value=Array("[1 2]"))) == ()
    assert differences(first, Anything(event_id="1", value=Array("[1 3]"))) == ("value",)


@pytest.mark.parametrize(
    "event",
    [
        ContentReport(
            text="x", words=frozenset({"a", "b", "c"}), price=Decimal("1.10"), details=[1, {"k": [2]}]
        ),
        ContentMemo("1", pages=(1, 2), extra={"k": [1, 2]}),
    ],
)
def test_an_event_that_was_read_back_is_the_same(event: Any):
    assert differences(decode(encode(event)), event) == ()


def test_what_cannot_be_read_any_more_is_compared_as_json():
    event = ContentReport(text="x", took_ms=1.0, correlation_id="chain")
    payload = encode(msgspec.structs.replace(event, timestamp=5, took_ms=2.0, correlation_id=None))
    lost = Undecodable(payload, ValueError("its class is gone"))
    assert differences(lost, event) == ()
    assert differences(lost, msgspec.structs.replace(event, text="y")) == ("text",)
    assert differences(Undecodable(b"{", ValueError()), event) == ("*",)


def test_declaring_volatile_what_is_no_field_is_refused():
    class Typo(Event, kw_only=True):
        event_type: str = "content_typo"
        volatile_fields: ClassVar[frozenset[str]] = frozenset({"tok_ms"})
        took_ms: float = 0.0

    with pytest.raises(InvalidEvent, match="tok_ms"):
        encode(Typo())

    @dataclass
    class Text:
        event_id: str
        event_type: ClassVar[str] = "content_text"
        volatile_fields: ClassVar[Any] = "event_id"

    with pytest.raises(InvalidEvent, match="set of field names"):
        register_event(Text)


def test_the_order_in_a_set_is_no_content_where_no_type_is_declared():
    """Another process has the words of a set in another order; a list it was read back as has that of the first."""
    words = ["alpha", "beta", "gamma"]

    def memo(extra: Any) -> ContentMemo:
        return ContentMemo("m", extra={"tags": extra})

    for order in permutations(words):
        for made in (set(words), frozenset(words)):
            assert differences(decode(encode(memo(list(order)))), memo(made)) == ()
            assert differences(decode(encode(memo([[*order], 1]))), memo((made, 1))) == ()
            assert differences(memo({"in": [*order]}), memo({"in": made})) == ()
        assert differences(memo(list(order)), memo({*words, "delta"})) == ("extra",)
    assert differences(memo(["b", "a"]), memo(["a", "b"])) == ("extra",), "in a list it is"
    assert differences(memo({"k": 1}), memo({"k": 2})) == ("extra",)
    assert differences(memo({"1": {"x"}}), memo({1: ["x"]})) == ()


def test_an_event_of_an_older_version_is_compared_in_the_fields_that_its_data_had():
    class ContentGrown(Event, kw_only=True):
        event_type: str = "content"
        schema_version: int = 2
        size: int = 0
        desk: str = "main"

    event = ContentGrown(event_id="1", timestamp=10**18, size=1, desk="rates")
    old = {key: value for key, value in event.to_dict().items() if key != "desk"}
    first = first_of(json.dumps({**old, "schema_version": 1}).encode())
    assert differences(first.event, event, first.had) == ()
    first = first_of(json.dumps({**old, "schema_version": 1, "size": 2}).encode())
    assert differences(first.event, event, first.had) == ("size",)
    first = first_of(encode(event.amended(desk="fx")))
    assert first.had is None
    assert differences(first.event, event, first.had) == ("desk",)
    first = first_of(json.dumps({**event.to_dict(), "schema_version": 3, "note": "x"}).encode())
    assert differences(first.event, event, first.had) == ()
    assert differences(first.event, event.amended(size=5), first.had) == ("size",)
