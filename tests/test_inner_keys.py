"""Classes within events that change: their fields are as strict as the event's own, and as tolerant."""

import dataclasses
import json
import os
from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar, NamedTuple, TypedDict

import attrs
import msgspec
import pytest

from openoutcry.errors import InvalidEvent
from openoutcry.events import Event, Undecodable, decode, decode_many, encode, register_event, upcaster
from openoutcry.events.inner_keys import holds_classes
from openoutcry.events.survey import Survey

if not os.environ.get("OPENOUTCRY_TESTS_NEED_ALL"):
    pytest.importorskip("pydantic")
import pydantic

pytestmark = pytest.mark.usefixtures("upcasters_of_this_test")


@dataclasses.dataclass(frozen=True)
class Leg:
    strike: float = 0.0
    quantity: int = 0


@attrs.define
class Wing:
    legs: list[Leg] = attrs.Factory(list)


@attrs.define(slots=False)
class Priced:
    value: float = 0.0

    @cached_property
    def doubled(self) -> float:
        return self.value * 2


@register_event
@attrs.define(slots=False)
class KeptPrice:
    event_type: ClassVar[str] = "price_kept"
    event_id: str
    priced: Priced

    @cached_property
    def halved(self) -> float:
        return self.priced.value / 2


class Call(msgspec.Struct, tag="call"):
    strike: float = 0.0


class Put(msgspec.Struct, tag="put", rename="camel"):
    strike_price: float = 0.0


class Row(msgspec.Struct, array_like=True, tag=True):
    size: int = 0
    leg: Leg | None = None


class Sparse(msgspec.Struct, omit_defaults=True):
    size: int = 0


class Terms(TypedDict, total=False):
    days: int


class Pair(NamedTuple):
    name: str
    leg: Leg


class KeptSpread(Event, kw_only=True):
    event_type: str = "spread_kept"
    leg: Leg | None = None
    legs: list[Leg] = []
    pair: Pair | None = None
    wings: dict[int, Wing] = {}
    option: Call | Put | None = None
    rows: tuple[Row, ...] = ()
    sparse: Sequence[Sparse] = []
    terms: Terms = {}
    bag: frozenset[Leg] = frozenset()
    notes: dict[str, Any] = {}


class KeptSpread2(KeptSpread, kw_only=True):
    schema_version: int = 2


class Quote(pydantic.BaseModel):
    bid: float = pydantic.Field(default=0.0, alias="b")
    sizes: dict[int, int] = {}

    model_config = pydantic.ConfigDict(populate_by_name=True)


@register_event
class KeptBook(pydantic.BaseModel):
    event_type: ClassVar[str] = "book_kept"
    event_id: str
    quotes: list[Quote] = []


@register_event
@dataclasses.dataclass
class KeptTrade:
    event_type: ClassVar[str] = "trade_kept"
    event_id: str
    leg: Leg | None = None


def written(event_class: str, version: int = 1, /, **fields: Any) -> bytes:
    """What another release, or another program, has written."""
    kinds = {"KeptBook": "book_kept", "KeptTrade": "trade_kept"}
    head: dict[str, Any] = {"event_class": event_class, "event_id": "e-1", "schema_version": version}
    head["event_type"] = kinds.get(event_class, "spread_kept")
    if event_class not in kinds:
        head["timestamp"] = 10**18
    return json.dumps({**head, **fields}).encode()


STRANGE = [
    ({"leg": {"strike": 1.5, "qty": 3}}, r"its leg has a field 'qty', which Leg does not have"),
    ({"legs": [{}, {"qty": 3}]}, r"its legs\[1\] has a field 'qty', which Leg"),
    ({"pair": ["a", {"qty": 3}]}, r"its pair\[1\] has a field 'qty', which Leg"),
    ({"wings": {"7": {"legs": [{"qty": 1}]}}}, r"its wings\['7'\].legs\[0\] has a field 'qty'"),
    ({"wings": {"7": {"leg": []}}}, r"its wings\['7'\] has a field 'leg', which Wing"),
    ({"option": {"type": "call", "strikePrice": 2.0}}, r"its option has a field 'strikePrice', which Call"),
    ({"option": {"type": "put", "strike_price": 2.0}}, r"its option has a field 'strike_price', which Put"),
    ({"rows": [["Row", 1, None, 9]]}, r"its rows\[0\] has a field '\[3\]'"),
    ({"rows": [["Row", 1, {"qty": 1}]]}, r"its rows\[0\]\[2\] has a field 'qty', which Leg"),
    ({"terms": {"days": 1, "weeks": 2}}, r"its terms has a field 'weeks'"),
    ({"bag": [{"strike": 1.0}, {"qty": 1}]}, r"its bag has a field 'qty'"),
]


@pytest.mark.parametrize(("fields", "message"), STRANGE)
def test_a_field_that_a_class_within_does_not_have_is_refused_in_data_of_the_same_version(fields, message):
    payload = written("KeptSpread", **fields)
    for read in (decode, lambda data: Event.from_dict(json.loads(data))):
        with pytest.raises(InvalidEvent, match=message) as found:
            read(payload)
        assert "raise its schema_version" in str(found.value)
    [told] = decode_many([payload])
    assert isinstance(told, Undecodable)
    assert str(told.error) == str(found.value)


@pytest.mark.parametrize(("fields", "message"), STRANGE)
def test_it_is_left_out_of_older_data_as_those_of_the_event_are(fields, message):
    payload = written("KeptSpread2", 1, **fields)
    event = decode(payload)
    assert event == decode(encode(event))
    assert decode_many([payload]) == [event]
    survey = Survey()
    survey.add([payload], [1])
    [row] = survey.rows
    assert row.ignored, "which doctor warns of"


def test_an_upcaster_renames_a_field_of_a_class_within():
    @upcaster(KeptSpread2, from_version=1)
    def name_the_quantity(data: dict[str, Any]) -> dict[str, Any]:
        for leg in data["legs"]:
            leg["quantity"] = leg.pop("qty")
        return data

    payload = written("KeptSpread2", 1, legs=[{"strike": 1.5, "qty": 3}])
    assert decode(payload).legs == [Leg(1.5, 3)]
    survey = Survey()
    survey.add([payload], [1])
    assert survey.rows[0].ignored == ()


@pytest.mark.parametrize(
    "payload",
    [
        written("KeptBook", quotes=[{"b": 1.0, "ask": 2.0}]),
        written("KeptTrade", leg={"strike": 1.0, "qty": 2}),
    ],
)
def test_it_is_refused_in_the_classes_of_users_too(payload):
    with pytest.raises(InvalidEvent, match=r"its (quotes\[0\]|leg) has a field '(ask|qty)'"):
        decode(payload)


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        ({"leg": {}}, Leg()),
        ({"legs": [{"quantity": 2}]}, [Leg(0.0, 2)]),
        ({"pair": ["a", {"strike": 1}]}, Pair("a", Leg(1.0))),
        ({"wings": {"7": {"legs": [{}]}, "8": {}}}, {7: Wing([Leg()]), 8: Wing()}),
        ({"option": {"type": "put", "strikePrice": 2}}, Put(2.0)),
        ({"rows": [["Row"], ["Row", 1, {"strike": 1}]]}, (Row(), Row(1, Leg(1.0)))),
        ({"sparse": [{"size": 0}, {}]}, [Sparse(), Sparse()]),
        ({"terms": {"days": 1}}, {"days": 1}),
        ({"bag": [{"strike": 1}, {}, {}]}, frozenset({Leg(1.0), Leg()})),
        ({"notes": {"any": {"thing": [{"goes": 1}]}}}, {"any": {"thing": [{"goes": 1}]}}),
    ],
)
def test_what_is_missing_or_written_otherwise_by_another_program_is_read(fields, kept):
    [name] = fields
    payload = written("KeptSpread", **fields)
    assert getattr(decode(payload), name) == kept
    assert getattr(decode_many([payload])[0], name) == kept
    assert getattr(Event.from_dict(json.loads(payload)), name) == kept


def test_what_cached_properties_keep_is_no_field_and_no_obstacle():
    event = KeptPrice("1", Priced(2.0))
    assert (event.halved, event.priced.doubled) == (1.0, 4.0)
    assert decode(encode(event)) == event


def test_a_mapping_may_hold_tuples_and_what_is_made_already():
    written_as = json.loads(written("KeptSpread"))
    assert KeptSpread.from_dict({**written_as, "legs": ({"strike": 1.0}, Leg(2.0))}).legs == [
        Leg(1.0),
        Leg(2.0),
    ]
    with pytest.raises(InvalidEvent, match=r"its legs\[1\] has a field 'qty', which Leg"):
        KeptSpread.from_dict({**written_as, "legs": (Leg(2.0), {"qty": 1})})


def test_a_model_within_takes_its_names_and_keys_in_any_form():
    book = decode(written("KeptBook", quotes=[{"b": 1.0, "sizes": {"1": 2}}, {"bid": 2.0}]))
    assert book.quotes == [Quote(b=1.0, sizes={1: 2}), Quote(b=2.0)]
    assert decode(encode(book)) == book


def test_only_classes_that_hold_others_are_looked_into():
    class Flat(Event, kw_only=True):
        event_type: str = "flat_kept"
        price: float = 0.0
        notes: dict[str, list[int]] = {}

    assert not holds_classes(Flat)
    assert not holds_classes(Event)
    assert holds_classes(KeptSpread)
    assert holds_classes(KeptBook)
