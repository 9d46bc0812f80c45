"""Numbers in data that a float does not hold are refused, wherever they stand and whoever has written them."""

import dataclasses
import json
from typing import Any, get_args

import msgspec
import pytest
from tests.test_trading import LEAST

from openoutcry.errors import InvalidEvent
from openoutcry.events import Event, decode, decode_many, encode, register_event
from openoutcry.events.fields import hints_of

INEXACT = 2**53 + 1


class DigitsLeg(msgspec.Struct):
    price: float = 0.0


class Digits(Event, kw_only=True):
    event_type: str = "digits"
    price: float = 0.0
    limit: float | None = None
    spread: float | str = 0.0
    count: int = 0
    either: int | float = 0
    figures: dict[str, float] = {}
    levels: list[list[float]] = []
    seen: set[float] = set()
    by_level: dict[float, int] = {}
    leg: DigitsLeg | None = None
    anything: Any = None


class DigitsAlone(Event, kw_only=True):
    """Has no field within which others lie."""

    event_type: str = "digits_alone"
    price: float = 0.0
    limit: float | None = None


class DigitsPosted(Event, kw_only=True):
    event_type: str = "digits_posted"
    price: float = 0.0

    def __post_init__(self) -> None:
        pass


class DigitsBroughtUp(Event, kw_only=True):
    event_type: str = "digits_brought_up"
    schema_version: int = 2
    price: float = 0.0


@register_event(name="tests.digits.row")
@dataclasses.dataclass
class DigitsRow:
    event_id: str = "1"
    event_type: str = "digits_row"
    price: float = 0.0
    legs: list[DigitsLeg] = dataclasses.field(default_factory=list)


def data_of(event: object, **changes: Any) -> bytes:
    return json.dumps({**json.loads(encode(event)), **changes}).encode()


def refused_everywhere(data: bytes, match: str) -> None:
    with pytest.raises(InvalidEvent, match=match):
        decode(data)
    [undecodable] = decode_many([data])
    with pytest.raises(InvalidEvent, match=match):
        raise undecodable.error


@pytest.mark.parametrize("named", [True, False], ids=["named", "foreign"])
@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"price": INEXACT}, "price"),
        ({"limit": -INEXACT}, "limit"),
        ({"spread": INEXACT}, "spread"),
        ({"figures": {"a": INEXACT}}, r"figures\.a"),
        ({"levels": [[1], [2, INEXACT]]}, r"levels\[1\]\[1\]"),
        ({"seen": [1, INEXACT]}, r"seen\[\d\]"),
        ({"leg": {"price": INEXACT}}, r"leg\.price"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_int_that_would_be_rounded_is_refused_with_the_way_to_it(changes, where, named):
    data = json.loads(data_of(Digits(), **changes))
    if not named:
        del data["event_class"]
    refused_everywhere(
        json.dumps(data).encode(), rf"Digits\.{where} = -?9007199254740993: must fit a float exactly"
    )
    with pytest.raises(InvalidEvent, match=rf"Digits\.{where} = "):
        Event.from_dict(data)


@pytest.mark.parametrize("event", [DigitsAlone(), DigitsPosted(), DigitsBroughtUp(), DigitsRow()])
def test_so_it_is_in_classes_of_every_kind(event):
    refused_everywhere(data_of(event, price=INEXACT), r"price = 9007199254740993: must fit a float exactly")


def test_so_it_is_in_what_an_upcaster_returns():
    refused_everywhere(
        data_of(DigitsBroughtUp(), price=INEXACT, schema_version=1), "must fit a float exactly"
    )


@pytest.mark.parametrize("seen", [[2**53, INEXACT], [INEXACT, 2**53], [1, INEXACT, 2]])
def test_so_it_is_in_a_set_where_two_numbers_become_one(seen):
    refused_everywhere(data_of(Digits(), seen=seen), rf"Digits\.seen.* = {INEXACT}")


def test_a_key_that_would_be_rounded_is_refused():
    refused_everywhere(
        data_of(Digits(), by_level={"1": 1, str(INEXACT): 2}),
        r"Digits\.by_level key 9007199254740993: must fit",
    )
    assert decode(data_of(Digits(), by_level={"1": 1, "2.5": 2, str(2**53): 3})).by_level == {
        1.0: 1,
        2.5: 2,
        2.0**53: 3,
    }


def test_ints_that_a_float_equals_are_read_and_ints_stay_ints():
    changes = {
        "price": 3,
        "limit": 2**60,
        "count": INEXACT,
        "either": INEXACT,
        "figures": {"a": 2**53, "b": 1},
        "seen": [2, 1],
        "anything": {"a": INEXACT},
    }
    data = data_of(Digits(), **changes)
    event = decode(data)
    assert [event] == decode_many([data])
    assert (event.price, event.limit, event.figures) == (3.0, 2.0**60, {"a": 2.0**53, "b": 1.0})
    assert event.count == event.either == event.anything["a"] == INEXACT
    assert type(event.either) is int


@pytest.mark.parametrize("limit", [2.0**53, -(2.0**60), 1.5e300])
def test_floats_of_any_size_come_back(limit):
    events = [DigitsAlone(limit=limit), DigitsAlone(price=limit), DigitsAlone(price=1.5)]
    assert decode_many([encode(event) for event in events]) == events
    assert [decode(encode(event)) for event in events] == events


FLOATS = [
    (cls, name)
    for cls in LEAST
    for name, hint in hints_of(cls).items()
    if float in (get_args(hint) or (hint,)) and name in cls.__struct_fields__
]


@pytest.mark.parametrize(("cls", "name"), FLOATS, ids=lambda value: getattr(value, "__name__", value))
def test_every_field_for_floats_of_the_vocabulary_refuses_what_it_would_round(cls, name):
    least: Any = LEAST
    is_figures = get_args(hints_of(cls)[name])[:1] == (str,)
    data = data_of(cls(**least[cls]), **{name: {"a": INEXACT} if is_figures else INEXACT})
    refused_everywhere(data, rf"{cls.__name__}\.")


# --- structs that would be written without their defaults


class DigitsSparse(msgspec.Struct, omit_defaults=True, tag="sparse", tag_field="kind", rename="camel"):
    net_size: int = 0
    inner: "DigitsSparse | None" = None


class HoldsSparse(Event, kw_only=True):
    event_type: str = "holds_sparse"
    one: DigitsSparse | None = None
    many: dict[int, list[DigitsSparse]] = {}


@register_event(name="tests.digits.sparse")
class SparseForeign(msgspec.Struct, omit_defaults=True):
    event_id: str
    event_type: str = "sparse_foreign"
    size: int = 1
    one: DigitsSparse | None = None


def test_a_struct_that_omits_its_defaults_is_written_in_full_within_an_event():
    event = HoldsSparse(one=DigitsSparse(inner=DigitsSparse(net_size=2)), many={1: [DigitsSparse()]})
    written = json.loads(encode(event))
    assert written["one"] == {
        "kind": "sparse",
        "netSize": 0,
        "inner": {"kind": "sparse", "netSize": 2, "inner": None},
    }
    assert written["many"] == {"1": [{"kind": "sparse", "netSize": 0, "inner": None}]}
    assert decode(encode(event)) == event
    assert decode_many([encode(event)]) == [event]


FULL = {"kind": "sparse", "netSize": 0, "inner": None}


@pytest.mark.parametrize(
    ("hint", "value", "expected"),
    [
        (list[list[DigitsSparse]], [[DigitsSparse()]], [[FULL]]),
        (dict[str, dict[str, DigitsSparse]], {"A": {"bid": DigitsSparse()}}, {"A": {"bid": FULL}}),
        (dict[str, DigitsSparse | None] | None, {"A": DigitsSparse()}, {"A": FULL}),
    ],
)
def test_so_it_is_within_collections_of_collections(hint, value, expected):
    fields = [("held", hint)]
    cls: Any = msgspec.defstruct("SparseWithin", fields, bases=(Event,), kw_only=True, module=__name__)
    event = cls(event_type="digits_sparse_within", held=value)
    assert json.loads(encode(event))["held"] == expected
    assert decode(encode(event)) == event


def test_a_user_s_own_struct_that_omits_its_defaults_is_written_in_full():
    event = SparseForeign("1", one=DigitsSparse())
    written = json.loads(encode(event))
    assert (written["size"], written["one"]["netSize"]) == (1, 0)
    assert decode(encode(event)) == event


def test_data_without_the_defaults_is_read_as_before():
    data = data_of(HoldsSparse(), one={"kind": "sparse"})
    assert decode(data) == decode_many([data])[0]
    assert decode(data).one == DigitsSparse()
