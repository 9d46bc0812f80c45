"""Pages of events: exactly what reading them one by one gives, with what cannot be read in its place."""

import dataclasses
import gc
import json
import sys
import threading
import weakref
from typing import ClassVar

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openoutcry.errors import InvalidEvent, UnknownEventType
from openoutcry.events import (
    Event,
    Undecodable,
    decode,
    decode_many,
    encode,
    install_deriver,
    register_event,
    stamps,
)
from openoutcry.trading import FillEvent, MarketDataEvent, RiskAlertEvent, SignalEvent, SurveillanceAlertEvent


class PageMemo(Event):
    """A type that varies by instance, and a default that is no constant."""

    event_type: str
    text: str = ""
    lines: tuple[str, ...] = ()


class Grumpy(Event):
    event_type: str = "grumpy"
    mood: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mood:
            raise KeyError("not today")


@register_event
@dataclasses.dataclass(frozen=True)
class Foreign:
    event_type: ClassVar[str] = "foreign"
    event_id: str
    size: int = 1


EVENTS = [
    MarketDataEvent(symbol="ES", price=4500.25, bid=4500.0, ask=4500.5),
    MarketDataEvent(symbol='quote" and \\ back\\\\slash', price=1.0, event_id='x","timestamp":1,"y'),
    SignalEvent(strategy_name="trend", symbol="ES", direction="long", round_id="r", correlation_id="c"),
    FillEvent(order_id="1", symbol="ES", side="buy", filled_quantity=1, fill_price=2, causation_id="f"),
    RiskAlertEvent(severity="warning", alert_type="limit", affected_positions=("ES", "NQ")),
    SurveillanceAlertEvent(severity="info", alert_type="layering", evidence={"a": [1, {"b": None}]}),
    Event(),
    Event(event_type="mine", event_id="e"),
    PageMemo(event_type="page_memo", text="é\u2028"),
    Grumpy(),
    Foreign("7"),
]
PAYLOADS = [encode(event) for event in EVENTS]


def one_by_one(payloads):
    told = []
    for payload in payloads:
        try:
            told.append(decode(payload))
        except Exception as problem:  # noqa: BLE001 - whatever it is, it is compared
            told.append(Undecodable(payload, problem))
    return told


def same(page, expected):
    assert len(page) == len(expected)
    for one, other in zip(page, expected, strict=True):
        assert type(one) is type(other)
        if type(one) is Undecodable:
            assert one.payload is other.payload
            assert (type(one.error), str(one.error)) == (type(other.error), str(other.error))
        else:
            assert one == other
            assert repr(one) == repr(other)
            for name in getattr(one, "__struct_fields__", ()):
                assert type(getattr(one, name)) is type(getattr(other, name)), name


def test_a_page_is_read_as_its_events_are():
    assert decode_many(PAYLOADS) == EVENTS
    same(decode_many(PAYLOADS * 3), one_by_one(PAYLOADS * 3))
    assert decode_many([]) == []
    assert decode_many(tuple(PAYLOADS[:1])) == EVENTS[:1]


# --- anything at all, and events that somebody has changed

KEYS = ["event_class", "event_id", "timestamp", "event_type", "schema_version", "symbol", "extra", "round_id"]
VALUES = [
    *(None, 1, 0, -1, 1.5, True, "", "x", [], {}, 2**63, "1970-01-01T00:00:01Z", "1970-01-01T00:00:01"),
    *("Event", "SignalEvent", "MarketDataEvent", "Foreign", "Martian", "signal", "market_data", "mine"),
]


def as_json(pairs):
    """JSON with keys in any order, and perhaps twice."""
    inner = ",".join(f"{json.dumps(key)}:{json.dumps(value)}" for key, value in pairs)
    return f"{{{inner}}}".encode()


@st.composite
def changed(draw):
    pairs = list(json.loads(draw(st.sampled_from(PAYLOADS))).items())
    for _ in range(draw(st.integers(0, 3))):
        how, at = draw(st.integers(0, 3)), draw(st.integers(0, max(0, len(pairs) - 1)))
        new = draw(st.sampled_from(KEYS)), draw(st.sampled_from(VALUES))
        if how == 0:
            del pairs[at : at + 1]
        elif how == 1:
            pairs.insert(at, new)
        elif how == 2 and pairs:
            pairs[at] = pairs[at][0], new[1]
        else:
            pairs = pairs[at:] + pairs[:at]
    return as_json(pairs)


@st.composite
def damaged(draw):
    payload = bytearray(draw(st.sampled_from(PAYLOADS)))
    at = draw(st.integers(0, len(payload) - 1))
    payload[at] = draw(st.integers(0, 255))
    return bytes(payload[: draw(st.integers(at, len(payload)))])


anything = st.sampled_from(PAYLOADS) | changed() | damaged() | st.binary(max_size=30)


@settings(max_examples=400, deadline=None)
@given(st.lists(anything, max_size=12))
def test_whatever_is_in_a_page_it_is_read_as_one_by_one(payloads):
    same(decode_many(payloads), one_by_one(payloads))


@pytest.mark.parametrize("key", ["event_id", "timestamp", "event_type"])
@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_nothing_is_made_up(event, key):
    pairs = [pair for pair in json.loads(encode(event)).items() if pair[0] != key]
    twice = [*pairs[:1], *pairs]
    nested = [*pairs, ("extra", {key: "1"})]
    page = [*PAYLOADS, *map(as_json, (pairs, twice, nested)), *PAYLOADS]
    same(decode_many(page), one_by_one(page))


def test_what_cannot_be_read_stands_in_its_place_with_the_reason():
    martian = PAYLOADS[0].replace(b"MarketDataEvent", b"Martian")
    page = decode_many([PAYLOADS[0], martian, b"", b"nonsense", PAYLOADS[2]])
    assert [type(one) for one in page] == [
        *(MarketDataEvent, Undecodable, Undecodable, Undecodable, SignalEvent),
    ]
    assert page[1].payload is martian
    assert isinstance(page[1].error, UnknownEventType)
    assert isinstance(page[2].error, InvalidEvent)


def test_what_a_user_s_class_raises_comes_back_too():
    sour = encode(Grumpy()).replace(b'"mood":0', b'"mood":1')
    [bad, good] = decode_many([sour, PAYLOADS[0]])
    assert isinstance(bad.error, KeyError)
    assert good == EVENTS[0]


def test_a_class_whose_annotations_mean_nothing_hurts_only_its_own():
    class Broken(Event):
        event_type: str = "broken"
        thing: "NoSuchThing" = None  # type: ignore[name-defined] # noqa: F821

    written = msgspec.json.encode(Broken())  # as before its annotation was broken
    [bad, good] = decode_many([written, PAYLOADS[0]])
    assert isinstance(bad.error, InvalidEvent)
    assert "Broken cannot be read" in str(bad.error)
    assert good == EVENTS[0]
    with pytest.raises(InvalidEvent, match="correct the annotations"):
        decode(written)
    with pytest.raises(
        InvalidEvent, match=r"Broken: could not be read back .*NoSuchThing.*correct the annotation"
    ):
        encode(Broken())


def test_a_class_that_is_defined_later_is_read():
    payload = encode(PageMemo(event_type="page_memo")).replace(b'"PageMemo"', b'"LaterMemo"')
    assert type(decode_many([payload])[0]) is Undecodable

    class LaterMemo(PageMemo):
        pass

    assert type(decode_many([payload])[0]) is LaterMemo


def test_what_other_threads_make_meanwhile_changes_nothing():
    done = threading.Event()

    def make():
        while not done.is_set():
            Event()

    maker = threading.Thread(target=make)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    maker.start()
    try:
        for _ in range(30):
            assert decode_many(PAYLOADS * 10) == EVENTS * 10
    finally:
        done.set()
        maker.join()
        sys.setswitchinterval(before)


def test_sources_that_are_installed_are_asked_as_before():
    asked = []
    uninstall = install_deriver(lambda: asked.append(1))
    try:
        with stamps(ids="run", time_ns=lambda: 5):
            assert decode_many(PAYLOADS) == EVENTS
            assert asked == []
            assert (Event().event_id, Event().timestamp_ns) == ("run-1", 5)
    finally:
        uninstall()


def test_what_could_not_be_read_keeps_no_page_alive():
    class Page(list):
        pass

    page = Page([b"nonsense", encode(Grumpy()).replace(b'"mood":0', b'"mood":1')])
    told, alive = decode_many(page), weakref.ref(page)
    del page
    gc.collect()
    assert alive() is None
    assert all(one.error.__traceback__ is None for one in told)
