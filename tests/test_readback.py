"""What is journaled is read back equal, or refused with the way to the value (CONTRACT 34)."""

import dataclasses
from collections import OrderedDict, defaultdict, deque
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from functools import cached_property
from typing import Annotated, Any, Literal, TypedDict
from uuid import UUID
from zoneinfo import ZoneInfo

import attrs
import msgspec
import pytest

from openoutcry.errors import InvalidEvent
from openoutcry.events import Event, decode, encode, encode_many, register_event
from openoutcry.events.certainty import comes_back
from openoutcry.events.readback import NOTHING, first_difference

NEW_YORK = ZoneInfo("America/New_York")
NIGHT = datetime(2026, 3, 7, 16)  # noqa: DTZ001 - without a zone on purpose


class Side(StrEnum):
    BUY = "buy"


class Rank(IntEnum):
    FIRST = 1


class Colour(Enum):
    RED = "red"


class Leg(msgspec.Struct):
    price: float = 0.0
    note: Any = None


class Marks(TypedDict, total=False):
    best: float


class FutureLeg(Leg):
    expiry: int = 0


@dataclasses.dataclass
class Row:
    value: float = 0.0

    @cached_property
    def doubled(self) -> float:
        return self.value * 2


class Held(Event, kw_only=True):
    event_type: str = "held"
    anything: Any = None
    params: dict = {}
    things: list = []
    floats: list[float] = []
    table: dict[str, float] = {}
    strikes: dict[int, float] = {}
    text: str = ""
    count: int = 0
    at: datetime | None = None
    price: Decimal = Decimal(0)
    prices: dict[str, Decimal] = {}
    pair: tuple[str, ...] = ()
    words: frozenset[str] = frozenset()
    side: Side = Side.BUY
    leg: Leg | None = None
    row: Row | None = None
    marks: Marks | None = None
    number: int | float | None = None
    word: Literal["a", "b"] = "a"
    bounded: Annotated[float, msgspec.Meta(ge=0)] = 0.0


@register_event(name="tests.readback.HeldRow")
@dataclasses.dataclass
class HeldRow:
    event_id: str = "1"
    event_type: str = "held_row"
    value: float = 0.0
    extra: dict = dataclasses.field(default_factory=dict)
    seen: int = dataclasses.field(default=0, init=False)


@register_event(name="tests.readback.HeldCell")
@attrs.define
class HeldCell:
    event_id: str = "1"
    event_type: str = "held_cell"
    value: float = attrs.field(default=0.0, converter=lambda value: value * 2)
    extra: Any = None


@register_event(name="tests.readback.HeldStruct")
class HeldStruct(msgspec.Struct, rename="camel", omit_defaults=True, dict=True):
    event_id: str = "1"
    event_type: str = "held_struct"
    net_value: float = 0.0
    extra: Any = 0


# --- the strict comparison


@pytest.mark.parametrize(
    ("before", "after", "path"),
    [
        (1, 1.0, ""),
        (1, True, ""),
        (0.0, -0.0, ""),
        (0j, -0j, ""),
        (iter([1]), iter([1]), ""),
        ((1,), [1], ""),
        ({"a": [1, (2,)]}, {"a": [1, [2]]}, "['a'][1]"),
        ([1], [1, 2], "[1]"),
        ([1, 2], [1], "[1]"),
        ({"a": 1}, {}, " key"),
        ({}, {"a": 1}, "['a']"),
        ({150: 1}, {"150": 1}, " key"),
        ({1: 1}, {True: 1}, " key"),
        ({1}, {1.0}, " item"),
        ({1}, {2}, " item"),
        (frozenset({1}), {1}, ""),
        (Decimal("1.10"), Decimal("1.1"), ""),
        (Side.BUY, "buy", ""),
        (Rank.FIRST, 1, ""),
        (OrderedDict(a=1), {"a": 1}, ""),
        (deque([1], maxlen=2), deque([1]), ".maxlen"),
        (Leg(1.0, [Row(1.0)]), Leg(1.0, [Row(2.0)]), ".note[0].value"),
        (FutureLeg(), Leg(), ""),
        (NIGHT, NIGHT.replace(fold=1), ""),
        (NIGHT, NIGHT.replace(tzinfo=UTC), ""),
        (NIGHT.replace(tzinfo=NEW_YORK), NIGHT.replace(tzinfo=timezone(timedelta(hours=-5))), ""),
        (time(1, tzinfo=UTC), time(1), ""),
        (Event(event_id="1", timestamp=10**18), Event(event_id="1", timestamp=10**18 + 1), ".timestamp_ns"),
    ],
)
def test_what_differs_in_value_or_class_is_found_with_the_way_to_it(before, after, path):
    assert first_difference(before, after).path == path
    assert first_difference([{"x": before}], [{"x": after}]).path == f"[0]['x']{path}"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        (float("nan"), float("nan")),
        (Decimal("sNaN"), Decimal("sNaN")),
        (NIGHT.replace(tzinfo=ZoneInfo("UTC")), NIGHT.replace(tzinfo=UTC)),
        (
            NIGHT.replace(tzinfo=timezone(timedelta(hours=-5), "EST")),
            NIGHT.replace(tzinfo=timezone(timedelta(hours=-5))),
        ),
        (object(), object()),
        (UUID(int=5), UUID(int=5)),
    ],
)
def test_what_nobody_can_tell_apart_is_equal(one, other):
    assert first_difference(one, other) is None


def test_what_an_object_holds_beside_its_fields_counts_but_for_what_it_keeps_at_hand():
    one, other = Row(1.0), Row(1.0)
    assert one.doubled == 2.0
    assert first_difference(one, other) is None
    one.note = "x"  # type: ignore[attr-defined]
    found = first_difference(one, other)
    assert (found.path, found.before, found.after) == (".note", "x", NOTHING)
    other.note = "x"  # type: ignore[attr-defined]
    one.owner, other.owner = [one], [other]  # type: ignore[attr-defined]
    assert first_difference(one, other) is None, "what leads back to itself ends"


def test_an_equality_of_the_user_s_own_is_not_asked_where_there_are_fields():
    @dataclasses.dataclass
    class Agreeable:
        value: int

        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = object.__hash__

    assert first_difference(Agreeable(1), Agreeable(2)).path == ".value"


# --- what is refused


REFUSED = [
    (Held(params={"limit": Decimal("1.10")}), r"params\['limit'\] = Decimal\('1.10'\): .* the str '1.10'"),
    (Held(params={"a": {"b": [date(2026, 1, 16)]}}), r"params\['a'\]\['b'\]\[0\] = .* the str '2026-01-16'"),
    (
        Held(params={150: "x"}),
        r"params key = 150: .* the str '150'; annotate the field, e.g. dict\[int, ...\]",
    ),
    (Held(params={1: "x", "1": "y"}), r"params key = 1"),
    (Held(params=OrderedDict(a=1)), r"params = OrderedDict.*; pass a dict"),
    (Held(params=defaultdict(int, a=1)), r"params = defaultdict.*; pass a dict"),
    (Held(anything=("C", "P")), r"anything = \('C', 'P'\): .* the list"),
    (Held(anything={1}), r"anything = \{1\}"),
    (Held(anything=b"x"), r"anything = b'x'"),
    (Held(anything=UUID(int=1)), r"anything = UUID.*annotate the field with UUID, or pass a str"),
    (Held(anything=timedelta(1)), r"anything = datetime.timedelta"),
    (Held(anything=Leg()), r"anything = Leg.*; annotate the field with Leg, or pass a dict"),
    (Held(anything=Row()), r"anything = Row"),
    (Held(anything=Side.BUY), r"anything = <Side.BUY: 'buy'>"),
    (Held(anything=Event()), r"anything = Event"),
    (Held(anything={"a": [1 + 2j]}), r"anything\['a'\]\[0\] = \(1\+2j\): cannot be written as JSON"),
    (Held(params={None: 1}), r"params key = None: cannot be written as JSON"),
    (Held(things=[(1, 2)]), r"things\[0\] = \(1, 2\): .*e.g. list\[tuple\[...\]\], or pass a list"),
    (Held(floats=[1.5, 2]), r"floats\[1\] = 2: .* the float 2.0; pass a float"),
    (Held(table={"a": 1}), r"table\['a'\] = 1: .* the float 1.0"),
    (Held(strikes={True: 1.5}), r"strikes key = True"),
    (
        Held(text=Side.BUY),
        r"text = <Side.BUY: 'buy'>: .* the str 'buy'; pass a str, or correct the annotation",
    ),
    (Held(count=Rank.FIRST), r"count = <Rank.FIRST: 1>: .* the int 1"),
    (Held(side="buy"), r"side = 'buy'"),  # type: ignore[arg-type]
    (Held(price=1.5), r"price = 1.5: .* as Decimal\('1.5'\); pass a Decimal"),  # type: ignore[arg-type]
    (Held(pair=["C"]), r"pair = \['C'\]: .* the tuple"),  # type: ignore[arg-type]
    (Held(leg=Leg(1)), r"leg.price = 1: .* the float 1.0"),
    (Held(leg=Leg(1.0, (1,))), r"leg.note = \(1,\)"),
    (Held(leg=FutureLeg()), r"leg = FutureLeg"),
    (Held(row=Row(1)), r"row.value = 1: .* the float 1.0"),
    (Held(marks={"last": 1.5}), r"marks key = 'last': would not come back .*; declare it"),  # type: ignore[typeddict-unknown-key]
    (Held(word="c"), r"word = 'c'"),  # type: ignore[arg-type]
    (Held(bounded=-1.0), r"bounded = -1.0"),
    (
        Held(at=NIGHT.replace(tzinfo=NEW_YORK)),
        r"at = .*without the rules of its time zone; .*astimezone\(UTC\)",
    ),
    (Held(at=NIGHT.replace(fold=1)), r"at = .*; give it a time zone"),
    (HeldRow(value=1), r"HeldRow.value = 1: .* the float 1.0"),
    (HeldRow(extra={"a": (1,)}), r"HeldRow.extra\['a'\] = \(1,\)"),
    (HeldRow(event_type=Side.BUY), r"HeldRow.event_type = <Side.BUY: 'buy'>"),
    (HeldCell(extra=Decimal(1)), r"HeldCell.extra = Decimal\('1'\)"),
    (HeldStruct("e-1", extra=(1,)), r"HeldStruct.extra = \(1,\)"),
    (HeldStruct("e-1", net_value=1), r"HeldStruct.net_value = 1: .* the float 1.0"),
    (HeldRow(value=Decimal("1.5")), r"HeldRow.value = Decimal\('1.5'\): pass a float.*Exact prices"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("event", "message"), REFUSED, ids=lambda value: None)
def test_what_would_come_back_otherwise_is_refused_with_the_way_to_it(event, message):
    for write in (encode, lambda event: encode_many([event])):
        with pytest.raises(InvalidEvent, match=message):
            write(event)


def test_an_attribute_that_is_no_field_is_refused():
    for event in (HeldRow(), HeldStruct("e-1")):
        assert decode(encode(event)) == event
        event.note = "x"  # type: ignore[union-attr]
        with pytest.raises(
            InvalidEvent, match=r"\.note = 'x': would not come back from a journal; declare it"
        ):
            encode(event)


def test_a_post_init_that_changes_what_it_reads_is_refused_and_one_that_checks_is_not():
    class Grows(Event, kw_only=True):
        event_type: str = "grows"
        value: float = 0.0
        by: float = 0.0

        def __post_init__(self) -> None:
            super().__post_init__()
            msgspec.structs.force_setattr(self, "value", self.value + self.by)

    assert decode(encode(Grows(value=1.0))).value == 1.0
    with pytest.raises(InvalidEvent, match=r"Grows\.value = 3.0: .* the float 5.0; .*__post_init__"):
        encode(Grows(value=1.0, by=2.0))


# --- what stays allowed


KEPT = [
    Held(),
    Held(anything={"a": [1, 2.5, None, True, {"b": [-0.0]}]}, params={"x": 2**64 - 1}, things=[[], {}, ""]),
    Held(price=Decimal("1.10"), prices={"ES": Decimal("-0.00"), "NQ": Decimal("1E+3")}),
    Held(at=datetime(2026, 1, 16, 21, 0, 0, 123456, tzinfo=UTC)),
    Held(at=NIGHT),
    Held(at=NIGHT.replace(tzinfo=timezone(timedelta(hours=5, minutes=30)))),
    Held(at=NIGHT.replace(tzinfo=ZoneInfo("UTC"))),
    Held(strikes={150: 2.5}, pair=("C", "P"), words=frozenset({"a", "b"}), side=Side.BUY),
    Held(leg=Leg(1.5, {"a": [1]}), row=Row(2.5), number=1),
    Held(number=1.0, word="b", bounded=1.0),
    HeldRow(value=1.5, extra={"a": [1, {"b": 2.5}]}),
    HeldCell(value=0.0),
    HeldCell(value=1.0),
    HeldStruct("e-1", net_value=2.5, extra=[1, 2.5]),
    HeldStruct("e-1"),
]


@pytest.mark.parametrize("event", KEPT, ids=lambda value: None)
def test_what_comes_back_is_taken(event):
    assert first_difference(event, decode(encode(event))) is None


def test_a_field_that_the_constructor_does_not_take_comes_back():
    event = HeldRow()
    event.seen = 4
    assert decode(encode(event)).seen == 4


# --- without reading it again


class Sure(Event, kw_only=True):
    event_type: str = "sure"
    price: float = 0.0
    exact: Decimal | None = None
    at: datetime | None = None
    params: dict = {}
    pair: tuple[str, int] = ("", 0)
    legs: list[Leg] = []
    by_strike: dict[int, list[float]] = {}
    side: Side | None = None
    word: Literal["a", 1] = "a"


@register_event(name="tests.readback.SureRow")
@dataclasses.dataclass(frozen=True)
class SureRow:
    event_id: str = "1"
    event_type: str = "sure_row"
    value: float = 0.0
    inner: "SureRow | None" = None


@pytest.mark.parametrize(
    "event",
    [
        Sure(),
        Sure(price=1.5, exact=Decimal("1.10"), at=NIGHT.replace(tzinfo=UTC), side=Side.BUY, word=1),
        Sure(
            params={"a": [1, {"b": 2.5}]}, pair=("x", 1), legs=[Leg(1.0), Leg(2.0, [1])], by_strike={1: [2.5]}
        ),
        SureRow(value=1.5, inner=SureRow(inner=SureRow())),
    ],
)
def test_what_is_sure_by_its_annotations_is_not_read_again(event, monkeypatch):
    assert comes_back(event)
    monkeypatch.setattr("openoutcry.events.codec._read_back", lambda *_given: pytest.fail("it was read"))
    assert encode(event)


@pytest.mark.parametrize(
    "event",
    [
        Sure(price=Rank.FIRST, params=OrderedDict()),
        Sure(exact=1.5),  # type: ignore[arg-type]
        Sure(at=NIGHT.replace(tzinfo=NEW_YORK)),
        Sure(at=NIGHT.replace(fold=1)),
        Sure(params={1: 2}),
        Sure(params={"a": [(1,)]}),
        Sure(pair=("x", 1, 2)),  # type: ignore[arg-type]
        Sure(legs=[FutureLeg()]),
        Sure(legs=[Leg(1)]),
        Sure(by_strike={1: [2]}),
        Sure(by_strike={True: [2.0]}),
        Sure(word=True),  # type: ignore[arg-type]
        SureRow(inner=SureRow(value=1)),
        HeldCell(),
        HeldStruct(),
        Held(),
    ],
)
def test_what_is_not_of_its_annotation_or_may_be_changed_is_read_again(event):
    assert not comes_back(event)


def test_an_annotation_that_cannot_be_read_is_named_with_its_field():
    class Unclear(Event, kw_only=True):
        event_type: str = "unclear"
        text: str = ""
        limit: Decimal | str = ""

    with pytest.raises(InvalidEvent, match=r"Unclear\.limit = '': could not be read back .*str-like"):
        encode(Unclear())


def test_an_event_of_a_class_that_was_defined_again_is_compared_by_its_fields():
    def made() -> Any:
        class Local(Event, kw_only=True):
            event_type: str = "readback_local"
            params: Any = None

            def __post_init__(self) -> None:
                super().__post_init__()

        encode(Local())
        return Local

    first, _second = made(), made()
    assert encode(first(params=[1]))
    with pytest.raises(InvalidEvent, match=r"Local\.params = \(1,\)"):
        encode(first(params=(1,)))
