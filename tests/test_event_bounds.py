"""How deep, how large and how finite the contents of an event may be, and where that is found out."""

import dataclasses
import json
import math
from collections.abc import Mapping
from typing import Any

import attrs
import msgspec
import pytest

from openoutcry.errors import InvalidEvent
from openoutcry.events import MAX_BYTES, MAX_DEPTH, Event, decode, encode, register_event
from openoutcry.events.codec import encode_many
from openoutcry.events.pages import Undecodable, decode_many
from openoutcry.trading import AlertSeverity, RiskAlertEvent, SignalEvent, SurveillanceAlertEvent, SystemEvent


class Level(msgspec.Struct):
    price: float
    size: float = 0.0


@dataclasses.dataclass
class Row:
    value: float | None = None
    rows: "list[Row] | None" = None


@attrs.define
class Cell:
    value: float = 0.0


class Book(Event, kw_only=True):
    event_type: str = "book"
    best: float = 0.0
    bids: list[Level] = []
    by_price: dict[float, float] = {}
    by_name: dict[str, list[float]] = {}
    depth: frozenset[float] = frozenset()
    pair: tuple[float, ...] = ()
    either: float | list[float] | None = None
    row: Row | None = None
    anything: Any = None
    params: dict = {}
    shape: Mapping[str, Any] | None = None


@register_event(name="tests.bounds.Own")
@dataclasses.dataclass
class Own:
    event_id: str = "1"
    event_type: str = "own"
    value: float = 0.0
    levels: "list[Level] | None" = None
    cell: "Cell | None" = None
    depth: frozenset[float] = frozenset()
    anything: Any = None


def book(**fields: Any):
    return Book(**fields)


def nested(levels, kind=list):
    value: Any = 1
    for _ in range(levels):
        value = {"a": value} if kind is dict else kind([value])
    return value


# --- not-a-number


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    ("make", "path"),
    [
        (lambda bad: Book(best=bad), r"Book\.best"),
        (lambda bad: Book(bids=[Level(1.0), Level(1.0, bad)]), r"Book\.bids\[1\]\.size"),
        (lambda bad: Book(by_price={1.5: bad}), r"Book\.by_price\[1\.5\]"),
        (lambda bad: Book(by_price={bad: 1.0}), r"Book\.by_price key"),
        (lambda bad: Book(by_name={"ES": [1.0, bad]}), r"Book\.by_name\['ES'\]\[1\]"),
        (lambda bad: Book(depth=frozenset({bad})), r"Book\.depth\[0\]"),
        (lambda bad: Book(pair=(1.0, 2.0, bad)), r"Book\.pair\[2\]"),
        (lambda bad: Book(either=bad), r"Book\.either"),
        (lambda bad: Book(either=[bad]), r"Book\.either\[0\]"),
        (lambda bad: Book(row=Row(rows=[Row(bad)])), r"Book\.row\.rows\[0\]\.value"),
        (lambda bad: Book(anything={"a": [[bad], 1]}), r"Book\.anything\['a'\]\[0\]\[0\]"),
        (lambda bad: Own(value=bad), r"Own\.value"),
        (lambda bad: Own(levels=[Level(bad)]), r"Own\.levels\[0\]\.price"),
        (lambda bad: Own(cell=Cell(bad)), r"Own\.cell\.value"),
        (lambda bad: Own(depth=frozenset({bad})), r"Own\.depth\[0\]"),
    ],
)
def test_a_number_that_json_does_not_have_is_refused_wherever_it_is(make, path, bad):
    event = make(bad)
    for write in (encode, lambda event: encode_many([event])):
        with pytest.raises(InvalidEvent, match=path + r" = -?(nan|inf): JSON has no such number"):
            write(event)
    assert decode(encode(make(1.5))) == make(1.5) or not isinstance(make(1.5), Own)


# --- depth


@pytest.mark.parametrize("kind", [list, tuple, dict])
def test_details_are_taken_up_to_the_bound_and_come_back(kind):
    event = SystemEvent(details={"a": nested(MAX_DEPTH - 1, kind)})
    assert decode(encode(event)) == event
    for levels in (MAX_DEPTH, 495, 500, 5_000, 200_000):
        for make in (
            lambda deep: SystemEvent(details={"a": deep}),
            lambda deep: SurveillanceAlertEvent(
                severity=AlertSeverity.INFO, alert_type="x", evidence={"a": deep}
            ),
            lambda deep: SystemEvent.from_dict({**SystemEvent().to_dict(), "details": {"a": deep}}),
        ):
            with pytest.raises(
                InvalidEvent, match=f"more than {MAX_DEPTH} levels deep, or contains itself; flatten"
            ):
                make(nested(levels, kind))


@pytest.mark.parametrize("field", ["anything", "params", "shape"])
@pytest.mark.parametrize("levels", [MAX_DEPTH, 495, 5_000])
def test_a_user_s_event_is_never_made_deeper_than_the_bound(field, levels):
    assert decode(encode(book(**{field: {"a": nested(MAX_DEPTH - 1)}}))).event_type == "book"
    with pytest.raises(InvalidEvent, match=rf"Book\.{field}\['a'\].* = <class 'list'>: lies more than"):
        book(**{field: {"a": nested(levels)}})


def test_structures_within_structures_count_as_levels():
    row = Row()
    for _ in range(MAX_DEPTH):
        row = Row(rows=[row])
    with pytest.raises(InvalidEvent, match=r"Book\.row\.rows\[0\]\.rows.*levels deep"):
        Book(row=row)


def test_a_class_that_is_not_made_here_is_refused_before_it_is_written():
    assert decode(encode(Own(anything=nested(MAX_DEPTH)))) == Own(anything=nested(MAX_DEPTH))
    with pytest.raises(InvalidEvent, match=r"Own\.anything\[0\].*levels deep"):
        encode(Own(anything=nested(MAX_DEPTH + 1)))


def test_what_contains_itself_is_refused():
    loop: list[Any] = []
    loop.append(loop)
    ring: dict[str, Any] = {}
    ring["a"] = [ring]
    for wrong in (loop, ring):
        for make in (
            lambda wrong: SystemEvent(details={"a": wrong}),
            lambda wrong: Book(anything=wrong),
            lambda wrong: encode(Own(anything=wrong)),
            lambda wrong: SystemEvent.from_dict({**SystemEvent().to_dict(), "details": {"a": wrong}}),
        ):
            with pytest.raises(InvalidEvent, match="contains itself"):
                make(wrong)


def test_deep_data_is_refused_when_it_is_read():
    data = json.dumps({**SystemEvent().to_dict(), "details": {"a": nested(MAX_DEPTH)}})
    with pytest.raises(InvalidEvent, match="levels deep"):
        decode(data)
    (left,) = decode_many([data.encode()])
    assert isinstance(left, Undecodable)


# --- size


@pytest.mark.parametrize(
    "large",
    ["x" * (MAX_BYTES + 1), ["x" * 2**20] * 17, list(range(9 * 2**20))],
    ids=["text", "texts", "numbers"],
)
def test_contents_beyond_the_bound_are_refused(large):
    limit = "has more than 16,777,216 bytes; store it elsewhere"
    with pytest.raises(InvalidEvent, match=limit):
        SystemEvent(details={"a": large})
    with pytest.raises(InvalidEvent, match="16,777,216"):
        encode(Book(anything=large))
    with pytest.raises(InvalidEvent, match="16,777,216"):
        encode(Own(anything=large))


def test_texts_beyond_the_bound_are_refused():
    large = "x" * (MAX_BYTES + 1)
    for make in (
        lambda: SystemEvent(message=large),
        lambda: RiskAlertEvent(severity="info", alert_type="x", affected_positions=[large]),
        lambda: encode(SignalEvent(strategy_name="a", symbol="b", direction="long", rationale=large)),
        lambda: encode_many([SignalEvent(strategy_name="a", symbol="b", direction="long", rationale=large)]),
    ):
        with pytest.raises(InvalidEvent, match=r"at most 16,777,216( bytes)?; store") as caught:
            make()
        assert len(str(caught.value)) < 1_000


def test_what_is_shared_counts_as_often_as_it_is_written():
    shared: Any = [1.5]
    for _ in range(60):
        shared = [shared, shared]
    for make in (
        lambda: SystemEvent(details={"a": shared}),
        lambda: Book(anything=shared),
        lambda: encode(Own(anything=shared)),
    ):
        with pytest.raises(InvalidEvent, match="16,777,216 bytes"):
            make()


def test_an_event_just_within_the_bound_comes_back():
    event = SystemEvent(details={"a": "x" * (MAX_BYTES - 1_000)})
    assert decode(encode(event)) == event


def test_the_field_of_data_that_a_class_does_not_have_is_named_with_the_nearest():
    data = {**SystemEvent().to_dict(), "mesage": "x"}
    for read in (lambda: SystemEvent.from_dict(data), lambda: decode(json.dumps(data))):
        with pytest.raises(InvalidEvent, match=r"SystemEvent .*`mesage`.*did you mean 'message'\?"):
            read()
    with pytest.raises(InvalidEvent, match=r"Own .*'vlaue'.*did you mean 'value'\?"):
        decode('{"event_class":"tests.bounds.Own","event_id":"1","event_type":"own","vlaue":1.5}')


def test_a_class_made_by_a_function_may_have_a_field_of_any_name():
    cls = msgspec.defstruct("Odd", [("class", float, 0.0), ("x", float, 0.0)], bases=(Event,), kw_only=True)
    event = cls(**{"class": 5, "x": 7})
    assert [type(getattr(event, name)) for name in ("class", "x")] == [float, float]
