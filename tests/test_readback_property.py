"""Any annotation with any value: the event is refused with the field's name, or comes back strictly equal."""

import dataclasses
import types
from collections import OrderedDict, defaultdict, deque
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, Flag, IntEnum, StrEnum
from typing import Annotated, Any, Literal, NamedTuple, Optional, TypedDict, Union
from uuid import UUID
from zoneinfo import ZoneInfo

import attrs
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from openoutcry.errors import InvalidEvent
from openoutcry.events import Event, certainty, decode, encode, register_event
from openoutcry.events.bounds import fields_of

NEW_YORK = ZoneInfo("America/New_York")


class Side(StrEnum):
    BUY = "buy"


class Rank(IntEnum):
    FIRST = 1


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Rights(Flag):
    READ = 1
    WRITE = 2


class Text(str):
    __slots__ = ()


class Whole(int):
    pass


class Real(float):
    pass


class Pair(NamedTuple):
    one: int
    two: Any = None


class Marks(TypedDict, total=False):
    best: float
    note: Any


class Leg(msgspec.Struct):
    price: float = 0.0
    what: Any = None


class FutureLeg(Leg):
    expiry: int = 0


class Renamed(msgspec.Struct, rename="camel", omit_defaults=True):
    net_price: float = 0.0
    what: Any = 0
    deep: "Renamed | None" = None


class Rounded(msgspec.Struct):
    price: float = 0.0

    def __post_init__(self) -> None:
        self.price += 1.0


@dataclasses.dataclass
class Row:
    value: float = 0.0
    rows: "list[Row]" = dataclasses.field(default_factory=list)
    seen: int = dataclasses.field(default=0, init=False)


@attrs.define
class Cell:
    value: float = 0.0
    _own: int = 1


@attrs.define
class Doubled:
    value: float = attrs.field(default=0.0, converter=lambda value: value * 2)


LEAVES: dict[Any, st.SearchStrategy[Any]] = {
    type(None): st.none(),
    bool: st.booleans(),
    int: st.integers() | st.integers(-(2**80), 2**80),
    float: st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from([0.0, -0.0, 1.0]),
    str: st.text(max_size=4) | st.sampled_from(["buy", "1", "2026-01-01", "1.5", "AQ=="]),
    bytes: st.binary(max_size=4),
    bytearray: st.binary(max_size=4).map(bytearray),
    Decimal: st.decimals(allow_nan=False)
    | st.sampled_from([Decimal("1.10"), Decimal("-0.0"), Decimal("1E+3")]),
    date: st.dates(),
    datetime: st.datetimes(timezones=st.sampled_from([None, UTC, NEW_YORK, timezone(timedelta(hours=5.5))]))
    | st.datetimes().map(lambda at: at.replace(fold=1)),
    time: st.times(timezones=st.sampled_from([None, UTC])),
    timedelta: st.timedeltas(),
    UUID: st.uuids(),
    Side: st.just(Side.BUY),
    Rank: st.just(Rank.FIRST),
    Colour: st.sampled_from(Colour),
    Rights: st.sampled_from([Rights.READ, Rights.READ | Rights.WRITE]),
    Literal["buy", 1]: st.sampled_from(["buy", 1]),
    Text: st.just(Text("a")),
    Whole: st.just(Whole(3)),
    Real: st.just(Real(1.5)),
}
HASHABLE = [kind for kind in LEAVES if kind is not bytearray]
LEAF = st.one_of(*LEAVES.values())
STRUCTURES: dict[Any, Any] = {
    Pair: lambda inner: st.builds(Pair, st.integers(), inner),
    Marks: lambda inner: st.fixed_dictionaries({}, optional={"best": LEAVES[float], "note": inner}),
    Leg: lambda inner: st.builds(Leg, LEAVES[float] | LEAVES[int], inner),
    FutureLeg: lambda inner: st.builds(FutureLeg, LEAVES[float], inner, st.integers()),
    Renamed: lambda inner: st.builds(Renamed, LEAVES[float], inner),
    Rounded: lambda _inner: st.builds(Rounded, LEAVES[float]),
    Row: lambda _inner: st.builds(Row, LEAVES[float] | LEAVES[int]),
    Cell: lambda _inner: st.builds(Cell, LEAVES[float]),
    Doubled: lambda _inner: st.builds(Doubled, LEAVES[float]),
}


def containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    keys = st.one_of(*(LEAVES[kind] for kind in HASHABLE))
    plain = st.lists(inner, max_size=2)
    dicts = st.dictionaries(keys, inner, max_size=2)
    return st.one_of(
        plain,
        plain.map(tuple),
        plain.map(deque),
        st.lists(keys, max_size=2).map(set),
        st.lists(keys, max_size=2).map(frozenset),
        dicts,
        dicts.map(OrderedDict),
        dicts.map(lambda made: defaultdict(list, made)),
        *(make(inner) for make in STRUCTURES.values()),
    )


ANYTHING = st.recursive(LEAF, containers, max_leaves=4)


def of(generic: Any, *inner: Any) -> Any:
    return generic[inner if len(inner) > 1 else inner[0]]


def wider(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    keys = st.sampled_from([str, int, float, Decimal, date, UUID, Side, Rank, Any])
    generics: list[Any] = [list, set, frozenset, Sequence, Optional]
    return st.one_of(
        st.builds(of, st.sampled_from(generics), inner),
        st.builds(of, st.just(tuple), inner, st.sampled_from([..., str])),
        st.builds(of, st.just(Annotated), inner, st.sampled_from(["a note", msgspec.Meta(description="x")])),
        st.builds(of, st.just(Union), inner, inner),
        st.builds(of, st.sampled_from([dict, Mapping]), keys, inner),
    )


HINTS = st.recursive(
    st.sampled_from([*LEAVES, Any, object, dict, list, tuple, set, *STRUCTURES]), wider, max_leaves=3
)


def fitting(hint: Any) -> st.SearchStrategy[Any]:
    """Values that an annotation means, more or less: what it does not foresee is drawn as well."""
    if hint in LEAVES:
        return LEAVES[hint]
    if hint in STRUCTURES:
        return STRUCTURES[hint](st.floats(0, 1) | ANYTHING)
    origin: Any = getattr(hint, "__origin__", None)
    inner: Any = getattr(hint, "__args__", ())
    if origin is Union or isinstance(hint, types.UnionType):
        return st.one_of(*map(fitting, inner))
    if getattr(hint, "__metadata__", None):
        return fitting(origin)
    if origin in (list, tuple, Sequence):
        return st.lists(fitting(inner[0]), max_size=2).map(tuple if origin is tuple else list)
    if origin in (dict, Mapping) and inner[0] is not Any:
        return st.dictionaries(fitting(inner[0]), fitting(inner[1]), max_size=2)
    return ANYTHING


def shape(value: Any) -> Any:
    """What there is to tell about a value, without any help of the code under test."""
    kind: Any = type(value)
    if (
        isinstance(value, Enum)
        or value is None
        or kind in (bool, int, str, bytes, bytearray, date, timedelta, UUID)
    ):
        return kind, str(value)
    if kind is float:
        return kind, value.hex()
    if kind is Decimal:
        return kind, str(value)
    if kind in (datetime, time):
        zone = value.tzinfo and value.tzinfo.utcoffset(None)
        return kind, value.replace(tzinfo=None).isoformat(), value.fold, value.tzinfo is None, zone
    if isinstance(value, Mapping):
        return kind, sorted(((shape(key), shape(inner)) for key, inner in value.items()), key=str)
    if isinstance(value, set | frozenset):
        return kind, sorted(map(shape, value), key=str)
    if isinstance(value, list | tuple | deque):
        return kind, list(map(shape, value))
    names = [name for name in fields_of(kind) if not name.startswith("timestamp")]
    return kind, [(name, shape(getattr(value, name))) for name in names], getattr(value, "timestamp_ns", None)


def event_of(kind: str, hint: Any, value: Any) -> Any:
    """An event of a class made for the occasion, with the value in a field of this annotation."""
    if kind == "event":
        cls = msgspec.defstruct(
            "ReadbackEvent", [("held", hint)], bases=(Event,), kw_only=True, module=__name__
        )
        return cls(held=value)
    fields = [("event_id", str), ("event_type", str), ("held", hint)]
    if kind == "struct":
        made: Any = msgspec.defstruct("ReadbackForeign", fields, module=__name__)
    elif kind == "dataclass":
        made = dataclasses.make_dataclass("ReadbackForeign", fields)
        made.__module__ = __name__
    else:
        made = attrs.make_class("ReadbackForeign", {name: attrs.field(type=type_) for name, type_ in fields})
        made.__module__ = __name__
    return register_event(name="tests.readback.foreign")(made)("1", "readback_foreign", value)


many = settings(max_examples=1_000, deadline=None, suppress_health_check=list(HealthCheck))


@many
@given(st.data(), st.sampled_from(["event", "struct", "dataclass", "attrs"]), HINTS)
def test_an_event_is_refused_by_the_name_of_its_field_or_comes_back_strictly_equal(data, kind, hint):
    value = data.draw(fitting(hint) | ANYTHING)
    try:
        event = event_of(kind, hint, value)
        written = encode(event)
    except InvalidEvent as refused:
        problem = str(refused)
    else:
        assert shape(decode(written)) == shape(event)
        return
    assert "held" in problem


@many
@given(st.data(), st.sampled_from(["event", "struct", "dataclass", "attrs"]), HINTS)
def test_what_is_meant_by_an_annotation_is_not_refused_where_it_comes_back(data, kind, hint):
    """The strict comparison alone decides: no more is refused than what differs."""
    event = event_of(kind, hint, data.draw(fitting(hint)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("openoutcry.events.codec.comes_back", lambda _event: True)
        try:
            written = encode(event)
            back = decode(written)
        except InvalidEvent:
            assert not certainty.comes_back(event)
            return
    same = shape(back) == shape(event)
    assert not certainty.comes_back(event) or same
    if same:
        assert encode(event) == written
    else:
        with pytest.raises(InvalidEvent, match="held"):
            encode(event)
