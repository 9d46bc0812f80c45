"""Round trips: every field of every class, to a dict, to JSON and back; and what cannot be read says why."""

import dataclasses
import json
from collections.abc import Mapping
from datetime import UTC, date, datetime
from enum import Enum, StrEnum
from typing import Annotated, ClassVar, Literal

import attrs
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openoutcry import trading
from openoutcry.errors import IllegalTransition, InvalidEvent, NewerSchemaVersion, UnknownEventType
from openoutcry.events import Event, EventType, decode, encode, encode_many, register_event
from openoutcry.trading import (
    ORDER_TRANSITIONS,
    MarketDataEvent,
    OrderEvent,
    OrderSide,
    OrderType,
    SignalDirection,
    SignalEvent,
)

# --- every class of the firm, with anything that it takes

CLASSES = [Event, *(getattr(trading, name) for name in trading.__all__ if name.endswith("Event"))]

texts = st.text(max_size=8)
names = st.text(min_size=1, max_size=8)
numbers = st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
times = st.integers(10**17, 2**63 - 1) | st.integers(
    -(2**63) + 1, 10**8 - 1
)  # what else would be another unit
SPECIAL = {
    "timestamp": times,
    "schema_version": st.just(1),
    "strength": st.floats(-1, 1),
    "confidence": st.floats(0, 1),
    "conviction_score": st.floats(0, 1),
    "correlation": st.floats(-1, 1),
    "baseline_correlation": st.none() | st.floats(-1, 1),
    "threshold": st.none() | st.floats(-1, 1),
    "details": st.dictionaries(texts, json_values, max_size=3),
    "evidence": st.dictionaries(texts, json_values, max_size=3),
    "risk_metrics": st.dictionaries(texts, numbers, max_size=3),
    "position_losses": st.dictionaries(texts, numbers, max_size=3),
    "quantity": st.floats(0, exclude_min=True, allow_infinity=False),
    "filled_quantity": st.floats(0, exclude_min=True, allow_infinity=False),
    "adjusted_quantity": st.none() | st.floats(0, exclude_min=True, allow_infinity=False),
    "implied_volatility": st.none() | st.floats(0, allow_infinity=False),
    "volume": st.none() | st.floats(0, allow_infinity=False),
    "bid_size": st.none() | st.floats(0, allow_infinity=False),
    "ask_size": st.none() | st.floats(0, allow_infinity=False),
    "days_to_expiry": st.none() | st.integers(0, 2**40),
    "window_days": st.none() | st.integers(1, 2**40),
    "executed_at_ns": st.none() | times.filter(lambda ns: ns >= 0),
}
BY_TYPE = {
    str: names,
    str | None: st.none() | names,
    float: numbers,
    float | None: st.none() | numbers,
    bool: st.booleans(),
    tuple[str, ...]: st.lists(texts, max_size=3),
}


def any_value(field):
    if field.name in SPECIAL:
        return SPECIAL[field.name]
    found = BY_TYPE.get(field.type)
    return st.from_type(field.type) if found is None else found


def lawful(cls, values):
    """Bring what was drawn into line with the rules across fields."""
    if "high" in values:
        bar = sorted(values[name] for name in ("low", "open", "close", "high") if values[name] is not None)
        for name in ("low", "open", "close", "high"):
            if values[name] is not None:
                values[name] = bar.pop(0)
        if None not in (values["bid"], values["ask"]):
            values["bid"], values["ask"] = sorted((values["bid"], values["ask"]))
    if "limit_price" in values:
        kind = values["order_type"]
        wants = (
            kind in {OrderType.LIMIT, OrderType.STOP_LIMIT},
            kind in {OrderType.STOP, OrderType.STOP_LIMIT},
        )
        for name, wanted in zip(("limit_price", "stop_price"), wants, strict=True):
            values[name] = (values[name] or 0.0) if wanted else None
    if "rejection_reason" in values:
        values["rejection_reason"] = None if values["approved"] else values["rejection_reason"] or "limit"
    if "to_state" in values:
        following = sorted(ORDER_TRANSITIONS[values["from_state"]])
        if not following:
            values["from_state"], following = (
                trading.OrderState.NEW,
                sorted(ORDER_TRANSITIONS[trading.OrderState.NEW]),
            )
        values["to_state"] = following[len(values["order_id"]) % len(following)]
    if "to_contract" in values and values["to_contract"] == values["from_contract"]:
        values["to_contract"] += "'"
    if "projected_loss" in values and values["loss_limit"] is not None:
        values["passed"] = values["passed"] and values["projected_loss"] <= values["loss_limit"]
    return cls(**values)


def any_event(cls):
    drawn = {field.name: any_value(field) for field in msgspec.structs.fields(cls)}
    drawn["event_type"] = names if cls is Event else st.none()
    if cls is not Event:
        del drawn["event_type"]
    return st.fixed_dictionaries(drawn).map(lambda values: lawful(cls, values))


def same(one, other):
    """Equal, and of equal types in every field: 1 is not 1.0 here, nor "long" a member."""
    assert type(one) is type(other)
    assert one == other
    for name in one.__struct_fields__:
        assert type(getattr(one, name)) is type(getattr(other, name)), name
    assert repr(one) == repr(other)
    assert one.timestamp_ns == other.timestamp_ns


@pytest.mark.parametrize("cls", CLASSES)
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_every_field_of_every_class_comes_back(cls, data):
    event = data.draw(any_event(cls))
    same(event, decode(encode(event)))
    same(event, decode(event.to_json()))
    same(event, Event.from_dict(event.to_dict()))
    same(event, cls.from_dict(event.to_dict()))
    same(event, decode(json.dumps(event.to_dict())))
    same(event, msgspec.json.decode(msgspec.json.encode(event), type=cls))
    same(event, msgspec.msgpack.decode(msgspec.msgpack.encode(event), type=cls))
    assert encode(decode(encode(event))) == encode(event)


@pytest.mark.parametrize("cls", CLASSES)
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_a_dict_has_every_field_as_plain_json(cls, data):
    event = data.draw(any_event(cls))
    written = event.to_dict()
    assert set(written) == {"event_class", *cls.__struct_fields__}
    assert written["event_class"] == cls.__name__
    assert written["timestamp"] == event.timestamp_ns
    assert json.loads(json.dumps(written)) == written
    assert json.loads(event.to_json()) == written


@settings(deadline=None)
@given(st.binary(max_size=60))
def test_noise_is_never_an_event(noise):
    with pytest.raises(InvalidEvent):
        decode(noise)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_cut_off_event_is_never_read(data):
    whole = encode(SIGNAL)
    length = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(InvalidEvent):
        decode(whole[:length])


# --- what cannot be read says why

SIGNAL = SignalEvent(
    strategy_name="trend",
    symbol="ES",
    direction=SignalDirection.LONG,
    event_id="1",
    timestamp=1_767_364_200_000_000_001,
)


def changed(**changes):
    return json.dumps({**SIGNAL.to_dict(), **changes})


def without(key):
    return json.dumps({name: value for name, value in SIGNAL.to_dict().items() if name != key})


@pytest.mark.parametrize("form", [str.encode, bytearray, memoryview, str])
def test_bytes_views_and_strings_are_read_alike(form):
    text = changed()
    assert decode(form(text) if form in {str, str.encode} else form(text.encode())) == SIGNAL


@pytest.mark.parametrize("key", ["event_id", "timestamp", "strategy_name", "symbol", "direction"])
def test_a_missing_field_is_named_and_never_made_up(key):
    data = json.loads(without(key))
    for read in (
        lambda: decode(without(key)),
        lambda: Event.from_dict(data),
        lambda: SignalEvent.from_dict(data),
    ):
        with pytest.raises(InvalidEvent, match=rf"SignalEvent.*{key}"):
            read()


def test_a_missing_type_is_made_up_only_where_the_class_has_but_one():
    assert decode(without("event_type")) == SIGNAL
    with pytest.raises(InvalidEvent, match=r"Event\.event_type: missing in the data"):
        decode(b'{"event_class":"Event","event_id":"1","timestamp":1}')


def test_a_missing_field_with_a_default_takes_it_so_that_old_data_stays_readable():
    assert decode(without("rationale")) == SIGNAL


@pytest.mark.parametrize("changes", [{}, {"horizon_days": 5}])
def test_newer_data_is_not_read_even_if_every_field_is_known(changes):
    newer = changed(schema_version=2, **changes)
    for read in (lambda: decode(newer), lambda: Event.from_dict(json.loads(newer))):
        with pytest.raises(
            NewerSchemaVersion, match="SignalEvent is at version 1 here, and the data is of version 2"
        ):
            read()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"strength": 2.0}, r"SignalEvent\.strength = 2\.0: must be a number from -1 to 1"),
        ({"strength": "1"}, r"SignalEvent .*Expected `float`, got `str` - at `\$.strength`"),
        ({"direction": "up"}, r"Invalid enum value 'up'"),
        ({"event_type": "fill"}, r"every SignalEvent is of type 'signal'"),
        ({"event_id": ""}, r"event_id = ''"),
        ({"timestamp": "1970-01-01T00:00:01"}, r"must have a time zone"),
        ({"timestamp": 1.5}, r"timestamp"),
        ({"event_class": 5}, r"not an event"),
    ],
)
def test_data_that_the_rules_refuse_says_which_rule(changes, message):
    with pytest.raises(InvalidEvent, match=message):
        decode(changed(**changes))


def test_an_illegal_transition_in_the_data_is_still_one():
    event = trading.OrderStateChangeEvent(order_id="1", from_state="new", to_state="filled")
    with pytest.raises(IllegalTransition):
        Event.from_dict({**event.to_dict(), "from_state": "filled", "to_state": "new"})


def test_times_of_other_programs_are_read_with_their_zone():
    assert decode(changed(timestamp="1970-01-01T09:00:01+09:00")).timestamp_ns == 1_000_000_000
    assert Event.from_dict({**SIGNAL.to_dict(), "timestamp": datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)})


def test_an_unknown_class_is_named_with_what_to_do():
    with pytest.raises(
        UnknownEventType, match=r"event_class = 'Martian'.*register_event it, and decode again"
    ):
        decode(changed(event_class="Martian"))
    with pytest.raises(UnknownEventType, match=r"event_class = None, event_type = 'martian'"):
        decode(b'{"event_type":"martian","event_id":"1","timestamp":1}')
    with pytest.raises(UnknownEventType):
        Event.from_dict({"event_type": "martian", "event_id": "1", "timestamp": 1})


def test_data_of_other_programs_is_read_by_its_type():
    data = {key: value for key, value in SIGNAL.to_dict().items() if key != "event_class"}
    assert decode(json.dumps(data)) == SIGNAL
    assert Event.from_dict(data) == SIGNAL
    assert SignalEvent.from_dict(data) == SIGNAL


def test_from_dict_gives_only_the_class_it_is_called_on():
    with pytest.raises(InvalidEvent, match="is no FillEvent; call from_dict on Event, or on SignalEvent"):
        trading.FillEvent.from_dict(SIGNAL.to_dict())


class Special(SignalEvent):
    edge: float = 0.0


def test_a_subclass_comes_back_as_itself():
    event = Special(strategy_name="a", symbol="b", direction="flat", edge=0.5)
    for back in (decode(encode(event)), SignalEvent.from_dict(event.to_dict())):
        assert type(back) is Special
        assert back == event
    assert decode(json.dumps({"event_type": "signal", **json.loads(without("event_class"))})) == SIGNAL


def test_a_class_made_again_in_a_function_replaces_the_one_before():
    def made(default):
        class Local(Event):
            event_type: str = "local"
            note: str = default

        return Local()

    for default in ("a", "b"):
        event = made(default)
        back = decode(encode(event))
        assert type(back) is type(event)
        assert back == event


# --- classes of users


class Colour(Enum):
    RED = "red"


class Shade(StrEnum):
    DARK = "dark"


@register_event
@dataclasses.dataclass(frozen=True)
class Tick:
    event_id: str
    at: datetime
    levels: Mapping[int, float]
    raw: bytes = b""
    event_type: str = "tick"
    side: Shade = Shade.DARK


@register_event
@dataclasses.dataclass(frozen=True, slots=True)
class Typed:
    event_type: ClassVar[Colour] = Colour.RED
    event_id: str
    pair: tuple[int, str] = (1, "a")


@register_event
@attrs.frozen
class Bell:
    event_id: str
    event_type: Colour = Colour.RED
    when: datetime | None = None


@register_event(name="acme.Own")
class Own(msgspec.Struct, frozen=True, rename="camel", tag="own", tag_field="kind"):
    event_id: str
    event_type: str
    net_price: float | None = None


class Tinted(Event):
    event_type: Colour = Colour.RED  # type: ignore[assignment]
    shade: Shade = Shade.DARK


USERS = [
    Tick("1", datetime(2026, 1, 1, tzinfo=UTC), {1: 2.5}, b"\x00\xff", "tock"),
    Typed("1", (2, "b")),
    Bell("1", when=datetime(2026, 1, 1, tzinfo=UTC)),
    Own("1", "own", 1.5),
    Tinted(),
]


@pytest.mark.parametrize("event", USERS)
def test_events_of_users_come_back_as_they_were(event):
    back = decode(encode(event))
    assert type(back) is type(event)
    assert back == event


@pytest.mark.parametrize("event", USERS)
def test_events_of_users_are_written_flat_with_their_class_and_type(event):
    written = json.loads(encode(event))
    assert next(iter(written)) == "event_class"
    assert written["event_class"] == ("acme.Own" if isinstance(event, Own) else type(event).__name__)
    assert "event_type" in written or "eventType" in written


def test_events_of_users_lose_no_field_and_get_none_made_up():
    written = json.loads(encode(USERS[1]))
    with pytest.raises(InvalidEvent, match=r"Typed .*no field 'extra' \(= 5\)"):
        decode(json.dumps({**written, "extra": 5}))
    with pytest.raises(InvalidEvent, match=r"Typed .*no field 'event_type'"):
        decode(json.dumps({**written, "event_type": "blue"}))
    with pytest.raises(InvalidEvent, match=r"Typed\.event_id: missing"):
        decode(json.dumps({key: value for key, value in written.items() if key != "event_id"}))
    with pytest.raises(InvalidEvent, match=r"Typed .*Expected `int`"):
        decode(json.dumps({**written, "pair": ["x", "y"]}))


def test_an_unregistered_class_cannot_be_written_and_says_why():
    @dataclasses.dataclass
    class Secret:
        event_id: str = "1"
        event_type: str = "secret"

    with pytest.raises(UnknownEventType, match="decorate it with @register_event"):
        encode(Secret())
    register_event(Secret)
    assert decode(encode(Secret())) == Secret()


def test_a_field_that_json_has_no_word_for_is_refused_when_writing():
    class Holder(Event):
        thing: object = None

    with pytest.raises(
        InvalidEvent, match=r"Holder\.thing = .*: cannot be written as JSON: .*; convert it before"
    ):
        encode(Holder(thing=object()))


def test_the_encoded_form_can_be_asked_by_plain_json_tools():
    event = MarketDataEvent(symbol="ES", price=1, event_id="7", timestamp=5, source_agent="feed")
    assert encode(event).startswith(b'{"event_class":"MarketDataEvent","event_id":"7","timestamp":5,')
    written = json.loads(encode(event))
    assert (written["event_type"], written["symbol"], written["source_agent"]) == (
        "market_data",
        "ES",
        "feed",
    )
    assert decode(encode(event)).event_type is EventType.MARKET_DATA


class Picky(Event, kw_only=True):
    event_type: str = "picky"
    count: int = 0
    share: float | None = None
    sure: bool = False
    name: str = ""
    day: date | None = None
    few: Annotated[int, msgspec.Meta(ge=0)] = 0
    mood: Literal["calm", "wild"] = "calm"
    series: list[float] = []


WRONG = [
    ("count", "5"),
    ("count", 3.5),
    ("count", True),
    ("share", "0.5"),
    ("sure", 1),
    ("name", 5),
    ("name", None),
    ("day", datetime(2026, 1, 1, tzinfo=UTC)),
    ("few", -1),
    ("mood", "sad"),
    ("series", ["a"]),
    ("series", None),
]


@pytest.mark.parametrize(("field", "value"), WRONG)
def test_what_could_not_be_read_back_is_refused_when_writing(field, value):
    with pytest.raises(InvalidEvent, match=rf"Picky\.{field} = .*could not be read back"):
        encode(Picky(**{field: value}))
    with pytest.raises(InvalidEvent, match="could not be read back"):
        encode_many([Picky(), Picky(**{field: value})])


def test_a_value_of_another_class_than_a_dataclass_says_is_refused_when_writing():
    with pytest.raises(InvalidEvent, match=r"Typed\.pair = .*could not be read back"):
        encode(Typed("1", ("b", 2)))  # type: ignore[arg-type]


def test_an_event_whose_own_check_refuses_it_later_is_refused_when_writing():
    with pytest.raises(InvalidEvent, match="Forgetful: could not be read back from a journal: 'only once'"):
        encode(Forgetful())


class Forgetful(Event):
    event_type: str = "forgetful"
    series: list[int] = []
    made: ClassVar[list[object]] = []

    def __post_init__(self) -> None:
        super().__post_init__()
        self.made.append(1)
        if len(self.made) > 1:
            raise KeyError("only once")


@pytest.mark.parametrize(("field", "meant"), [("quantitiy", "quantity"), ("limitprice", "limit_price")])
def test_a_field_that_a_class_does_not_have_is_told_with_the_nearest(field, meant):
    order = OrderEvent(order_id="1", symbol="ES", side=OrderSide.BUY, quantity=1)
    with pytest.raises(InvalidEvent, match=f"OrderEvent has no field '{field}'; did you mean '{meant}'"):
        order.amended(**{field: 2})
    with pytest.raises(InvalidEvent, match=f"OrderEvent .*`{field}`, did you mean '{meant}'"):
        OrderEvent.from_dict({**order.to_dict(), field: 2})
    with pytest.raises(InvalidEvent, match=r"OrderEvent has no field 'colour'; it has .*order_id"):
        order.amended(colour="red")


@pytest.mark.parametrize("wrong", [5, "Order", Typed("1")])
def test_only_a_class_can_be_registered(wrong):
    with pytest.raises(InvalidEvent, match="is no class"):
        register_event(name="x")(wrong)


class CodecNowhere(Event, kw_only=True):
    event_type: str = "codec_nowhere"
    held: "Nowhere"  # type: ignore[name-defined] # noqa: F821 - the case


@register_event(name="tests.codec.nowhere")
@dataclasses.dataclass
class ForeignNowhere:
    event_id: str
    held: "Nowhere"  # type: ignore[name-defined] # noqa: F821 - the case
    event_type: str = "foreign_nowhere"


@register_event(name="tests.codec.wide")
@dataclasses.dataclass
class ForeignWide:
    event_id: str
    held: Literal[1, 9223372036854775813] = 1  # type: ignore[valid-type] # of more than 63 bits
    event_type: str = "foreign_wide"


@pytest.mark.parametrize("name", ["CodecNowhere", "tests.codec.nowhere", "tests.codec.wide"])
def test_data_of_a_class_whose_annotations_cannot_be_read_is_an_invalid_event(name):
    data = {"event_class": name, "event_id": "1", "held": 1}
    if name == "CodecNowhere":
        data |= {"timestamp": 1_700_000_000_000_000_000}
        with pytest.raises(InvalidEvent, match="correct the annotations"):
            Event.from_dict(data)
    with pytest.raises(InvalidEvent, match="correct the annotations"):
        decode(msgspec.json.encode(data))
