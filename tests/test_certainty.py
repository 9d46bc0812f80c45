"""A plan only saves time: with it and without it the same is written, or refused in the same words."""

import dataclasses
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Annotated, Any, Generic, Literal, NewType, TypeAlias, TypeVar

import attr
import attrs
import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from openoutcry.errors import InvalidEvent, UnknownEventType
from openoutcry.events import Event, decode, encode, encode_many, register_event
from openoutcry.events.bounds import MAX_BYTES, MAX_DEPTH
from openoutcry.events.certainty import comes_back, measure_json
from openoutcry.events.codec import _encode_with_care
from openoutcry.events.registry import ways
from openoutcry.events.writing import note_way

NAN, INF = float("nan"), float("inf")
Price = NewType("Price", float)
Figures: TypeAlias = dict[str, float]
T = TypeVar("T")


class Share(float, Enum):
    HALF = 0.5
    NONE = NAN


class Rank(IntEnum):
    FIRST = 1


class Whole(int):
    pass


class Tick(msgspec.Struct):
    price: float = 0.0
    symbol: str = ""


class FutureTick(Tick):
    basis: float = 0.0


class Quote(msgspec.Struct, tag=True):
    bid: float = 0.0


class Halt(msgspec.Struct, tag=True):
    reason: str = ""


class Node(msgspec.Struct):
    value: float = 0.0
    inner: "list[Node]" = []
    other: "Other | None" = None


class Other(msgspec.Struct):
    node: Node | None = None
    value: float = 0.0


class Box(msgspec.Struct, Generic[T]):
    held: T


class Clamped(msgspec.Struct):
    """Its `__post_init__` changes what it is given, so that reading an instance may change it once more."""

    value: float = 0.0

    def __post_init__(self) -> None:
        self.value = min(self.value, 10.0)


class Growing(msgspec.Struct):
    value: float = 0.0

    def __post_init__(self) -> None:
        self.value += 1.0


class Lazy(msgspec.Struct, omit_defaults=True):
    value: float = 0.0
    tick: Tick | None = None


@dataclasses.dataclass
class Row:
    value: float = 0.0
    tick: Tick | None = None


@attrs.define
class Cell:
    value: float = 0.0
    rows: list[Row] = attrs.Factory(list)


FLOATS = st.floats() | st.sampled_from([0.0, -0.0, 1.0, NAN, INF, -INF, 2.0**53, 1e300])
NUMBERS = FLOATS | st.sampled_from(
    [1, True, 2**53 + 1, Whole(3), Share.HALF, Share.NONE, Rank.FIRST, np.float64(1.5), np.float64(NAN)]
)
TICKS = st.builds(Tick, NUMBERS, st.text(max_size=3)) | st.builds(FutureTick, FLOATS, st.just(""), FLOATS)
ROWS = st.builds(Row, NUMBERS, st.none() | TICKS)
LEAVES = NUMBERS | st.text(max_size=3) | st.none() | st.sampled_from([Decimal("1.10"), b"x", Rank.FIRST])
ANYTHING = st.recursive(
    LEAVES | TICKS | ROWS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=2) | st.integers(0, 3), inner, max_size=3)
        | st.tuples(inner, inner)
    ),
    max_leaves=5,
)


@st.composite
def nodes(draw: st.DrawFn, depth: int = 3) -> Node:
    """Trees, some of which lead back to themselves."""
    node = Node(draw(NUMBERS))
    if depth:
        node.inner = draw(st.lists(nodes(depth - 1), max_size=2))
        node.other = draw(st.none() | st.builds(Other, st.none() | nodes(depth - 1), NUMBERS))
    if draw(st.integers(0, 19)) == 0:
        node.inner = [*node.inner, node]
    return node


FIELDS: dict[Any, st.SearchStrategy[Any]] = {
    float: NUMBERS,
    float | None: NUMBERS | st.none(),
    int | float | str: NUMBERS | st.text(max_size=3),
    Price: NUMBERS,
    Annotated[float, "a note"]: NUMBERS,
    Annotated[float, msgspec.Meta(ge=0)]: NUMBERS,
    Literal["buy", 1] | None: st.sampled_from(["buy", "sell", 1, True, 1.0, None]),
    Share: st.sampled_from([*Share, 0.5]),
    Rank: st.sampled_from([Rank.FIRST, 1]),
    Figures: st.dictionaries(st.text(max_size=2), NUMBERS, max_size=3),
    dict[int, float]: st.dictionaries(st.integers(0, 3) | st.booleans(), NUMBERS, max_size=3),
    list[float]: st.lists(NUMBERS, max_size=3),
    list[float | None]: st.lists(NUMBERS | st.none(), max_size=3),
    frozenset[float]: st.frozensets(NUMBERS, max_size=3),
    tuple[float, ...]: st.lists(NUMBERS, max_size=3).map(tuple),
    tuple[str, float]: st.tuples(st.text(max_size=2), NUMBERS),
    list[tuple[float, list[float]]]: st.lists(st.tuples(NUMBERS, st.lists(NUMBERS, max_size=2)), max_size=2),
    Tick: TICKS,
    list[Tick]: st.lists(TICKS, max_size=3),
    dict[str, list[Tick]]: st.dictionaries(st.text(max_size=2), st.lists(TICKS, max_size=2), max_size=2),
    Quote | Halt: st.builds(Quote, NUMBERS) | st.builds(Halt, st.text(max_size=2)) | TICKS,
    Quote | Halt | float | None: st.builds(Quote, NUMBERS) | NUMBERS | st.none(),
    list[float] | str | None: st.lists(NUMBERS, max_size=2) | st.text(max_size=2) | st.none(),
    Box[float]: st.builds(Box, NUMBERS),
    Node: nodes(),
    Clamped: st.builds(Clamped, FLOATS),
    Growing: st.builds(Growing, FLOATS),
    list[Lazy]: st.lists(st.builds(Lazy, NUMBERS, st.none() | TICKS), max_size=2),
    Row: ROWS,
    Cell: st.builds(Cell, NUMBERS, st.lists(ROWS, max_size=2)),
    Any: ANYTHING,
    object: ANYTHING,
    dict: ANYTHING,
    list[Any]: ANYTHING,
}
KINDS = ["event", "posted", "growing", "struct", "dataclass", "attrs"]


class CertainPosted(Event, kw_only=True):
    """Has a `__post_init__` of its own, which changes nothing."""

    def __post_init__(self) -> None:
        super().__post_init__()


class CertainGrowing(Event, kw_only=True):
    """Has a `__post_init__` of its own, which makes another value of some."""

    scale: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.scale > 1.0:
            CertainGrowing.__dict__["scale"].__set__(self, self.scale + 1.0)


BASES = {"event": Event, "posted": CertainPosted, "growing": CertainGrowing}


def made_class(kind: str, hints: list[Any]) -> Any:
    """A class made for the occasion, with a field for each of the annotations."""
    fields = [(f"held_{number}", hint) for number, hint in enumerate(hints)]
    if kind in BASES:
        return msgspec.defstruct(
            "CertainEvent", fields, bases=(BASES[kind],), kw_only=True, tag=f"certain-{kind}", module=__name__
        )
    fields = [("event_id", str), ("event_type", str), *fields]
    made: Any
    if kind == "struct":
        made = msgspec.defstruct("CertainForeign", fields, module=__name__)
    elif kind == "dataclass":
        made = dataclasses.make_dataclass("CertainForeign", fields)
        made.__module__ = __name__
    else:
        made = attrs.make_class("CertainForeign", {name: attrs.field(type=type_) for name, type_ in fields})
        made.__module__ = __name__
    return register_event(name="tests.certainty.foreign")(made)


def outcome(write: Any, event: object) -> tuple[str, object]:
    try:
        return "written", write(event)
    except InvalidEvent as refused:
        return "refused", str(refused)


many = settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))


@many
@given(st.data(), st.sampled_from(KINDS), st.lists(st.sampled_from(list(FIELDS)), min_size=1, max_size=4))
def test_with_a_plan_the_same_is_written_or_refused_as_without(data, kind, hints):
    cls = made_class(kind, hints)
    values = {f"held_{number}": data.draw(FIELDS[hint]) for number, hint in enumerate(hints)}
    if kind == "growing":
        values["scale"] = data.draw(st.sampled_from([1.0, 2.0]))
    try:
        event = cls(**values) if kind in BASES else cls("1", "certain_foreign", **values)
    except InvalidEvent:
        return
    note_way(cls)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("openoutcry.events.codec.comes_back", lambda _event: False)
        expected = outcome(_encode_with_care, event)
    assert outcome(encode, event) == expected
    assert outcome(lambda one: encode_many([one, one])[0], event) == expected
    assert expected[0] == "written" or not comes_back(event)


def test_one_event_of_many_that_is_not_sure_is_written_or_refused_by_itself():
    class Mark(Event, kw_only=True):
        event_type: str = "mark_of_many"
        price: float = 0.0

    some = [Mark(price=float(number)) for number in range(5)]
    note_way(Mark)
    assert encode_many(some) == [encode(event) for event in some]
    with pytest.raises(InvalidEvent, match="price"):
        encode_many([*some, Mark(price=NAN)])
    whole: Any = Mark(price=7)
    assert outcome(lambda one: encode_many([*some, one])[-1], whole) == outcome(encode, whole)


# --- bounds


class CertainHolder(Event, kw_only=True):
    event_type: str = "certain_holder"
    node: Node | None = None
    anything: Any = None
    texts: list[str] = []
    lists: list[list[list[float]]] = []
    ticks: list[Tick] = []


def nested(levels: int, inner: Any = None) -> Any:
    for _ in range(levels):
        inner = [inner]
    return inner


def chain(levels: int) -> Node:
    node = Node()
    for _ in range((levels - 1) // 2):
        node = Node(inner=[node])
    return node


@pytest.mark.parametrize("anything", [nested(MAX_DEPTH), chain(MAX_DEPTH), Row(), (1,), {1: 2}])
def test_what_is_within_the_bounds_is_written_with_a_plan_too(anything):
    encode(CertainHolder())
    event = CertainHolder(node=anything) if isinstance(anything, Node) else CertainHolder(anything=anything)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("openoutcry.events.codec.comes_back", lambda _event: False)
        expected = outcome(_encode_with_care, event)
    assert outcome(encode, event) == expected


def test_a_tree_that_is_too_deep_is_refused_with_a_plan_too():
    encode(CertainHolder())
    assert comes_back(CertainHolder(node=chain(MAX_DEPTH)))
    with pytest.raises(InvalidEvent, match=r"CertainHolder\.node.*more than 64 levels deep"):
        encode(CertainHolder(node=chain(MAX_DEPTH + 3)))


@pytest.mark.parametrize(
    "held",
    [
        {"texts": ["x" * 2**20] * 2**10},
        {"lists": [[[1.0] * 1_000] * 1_000] * 1_000},
        {"ticks": [Tick(symbol="x" * 2**20)] * 2**10},
    ],
    ids=["texts", "lists", "ticks"],
)
def test_what_is_shared_is_refused_before_it_is_written(held, monkeypatch):
    encode(CertainHolder())
    monkeypatch.setattr("openoutcry.events.writing.encode_json", lambda _event: pytest.fail("written"))
    monkeypatch.setattr("openoutcry.events.codec.encode_json", lambda _event: pytest.fail("written"))
    with pytest.raises(InvalidEvent, match="has more than 16,777,216 bytes"):
        encode(CertainHolder(**held))


def is_sure_of_shared() -> bool:
    value: Any = []
    for _ in range(40):
        value = [value, value]
    return measure_json(value, MAX_BYTES, MAX_DEPTH) >= 0


def test_anything_that_is_shared_many_times_over_is_given_up_soon():
    assert not is_sure_of_shared()


# --- the plan belongs to the class


def test_an_event_of_a_class_that_was_replaced_is_refused_as_before():
    def made() -> Any:
        @register_event(name="tests.certainty.replaced")
        class Replaced(msgspec.Struct):
            event_id: str
            event_type: str = "replaced"
            value: float = 0.0

        return Replaced

    first = made()("1")
    assert encode(first) == encode(first)
    assert first.__class__ in ways
    made()
    with pytest.raises(UnknownEventType, match="not registered"):
        encode(first)


def replaced_event(annotation: Any, version: int = 1) -> type[Any]:
    """Define an event class anew, as a cell of a notebook does that is run again."""
    fields: list[Any] = [
        ("event_type", str, "certain_again"),
        ("schema_version", int, version),
        ("value", annotation),
    ]
    return msgspec.defstruct("CertainAgain", fields, bases=(Event,), kw_only=True, module=__name__)


def test_an_event_of_a_subclass_that_was_replaced_is_refused_if_the_new_class_would_not_read_it():
    first = replaced_event(float)(value=1.5)
    assert encode(first) == encode(first)
    replaced_event(float)
    assert decode(encode(first)).value == 1.5
    replaced_event(str)
    for _ in range(2):
        with pytest.raises(InvalidEvent, match=r"CertainAgain\.value = 1\.5: .*defined again since"):
            encode(first)


def test_an_event_of_an_older_version_of_its_class_is_written_as_such():
    first = replaced_event(float)(value=1.5)
    replaced_event(float, version=2)
    again = decode(encode(first))
    assert (again.value, again.schema_version) == (1.5, 2)


def test_annotations_may_name_what_is_defined_after_another_class_was_registered():
    class CertainAhead(Event, kw_only=True):
        event_type: str = "certain_ahead"
        inner: "DefinedLater | None" = None  # type: ignore[name-defined] # noqa: F821 - below
        price: float = 0.0

    replaced_event(float)(value=1.0)  # registers what was defined so far
    try:
        globals()["DefinedLater"] = msgspec.defstruct("DefinedLater", [("price", float)])
        event = CertainAhead(price=1)
        assert type(event.price) is float
        assert comes_back(event)
        assert decode(encode(event)) == event
    finally:
        globals().pop("DefinedLater", None)


def test_a_struct_of_a_subclass_is_looked_through_in_a_field_of_its_base():
    class CertainBased(Event, kw_only=True):
        event_type: str = "certain_based"
        tick: Tick | None = None

    encode(CertainBased())
    with pytest.raises(InvalidEvent, match=r"CertainBased\.tick\.basis = nan"):
        encode(CertainBased(tick=FutureTick(basis=NAN)))


def test_an_event_with_a_post_init_of_its_own_is_read_once_more_and_no_more():
    made = []

    class CertainCounted(Event, kw_only=True):
        event_type: str = "certain_counted"
        value: float = 0.0

        def __post_init__(self) -> None:
            super().__post_init__()
            made.append(self)

    event = CertainCounted(value=1.0)
    encode(event)
    made.clear()
    encode(event)
    assert len(made) == 1
    assert decode(encode(event)) == event


# --- nothing is sure that cannot be read


class HighRank(Enum):
    MOST = 2**63 + 5


class Spelled(str, Enum):  # noqa: UP042 - which a `StrEnum` is not
    def __new__(cls, word: str) -> "Spelled":  # noqa: PYI034 - no subclass of an enum is made
        made = str.__new__(cls, word)
        made._value_ = word.upper()
        return made

    ONE = "one"


class OtherHalt(msgspec.Struct, tag_field="kind", tag="halt"):
    reason: str = ""


class NumberedHalt(msgspec.Struct, tag=7):
    reason: str = ""


@dataclasses.dataclass
class WithUnread:
    size: int
    unit: dataclasses.InitVar[int] = 3


@attr.s(auto_attribs=True)
class Positive:
    size: int = attr.ib(validator=attr.validators.gt(0))


@dataclasses.dataclass
class Doubled:
    size: int

    def __getattribute__(self, name: str) -> Any:
        found = object.__getattribute__(self, name)
        return found * 2 if name == "size" else found


class NoSlots:
    pass


@dataclasses.dataclass(slots=True)
class InSlots(NoSlots):
    size: int = 0


def no_more_positive() -> Positive:
    held = Positive(1)
    held.size = -1
    return held


def with_more_than_slots() -> InSlots:
    held = InSlots(1)
    vars(held)["unit"] = "shares"
    return held


UNREAD = {
    "an enum of an int that is too large": (HighRank, HighRank.MOST),
    "a literal that is too large": (Literal[1, 9223372036854775813], 9223372036854775813),
    "an enum that is another text than its value": (Spelled, Spelled.ONE),
    "structs with tags under different names": (Quote | OtherHalt, OtherHalt()),
    "structs with tags of different kinds": (Quote | NumberedHalt, NumberedHalt()),
    "a tuple that is to be empty": (tuple[()], (1, 2)),
    "a field that is none": (WithUnread, WithUnread(1)),
    "what a validator refuses": (Positive, no_more_positive()),
    "a class that changes what is looked at": (Doubled, Doubled(1)),
    "attributes besides slots": (InSlots, with_more_than_slots()),
}


@pytest.mark.parametrize(("hint", "value"), UNREAD.values(), ids=UNREAD)
def test_what_could_not_be_read_back_as_it_is_is_refused(hint, value):
    fields: list[Any] = [("event_type", str, "certain_unread"), ("held", hint)]
    cls: Any = msgspec.defstruct("CertainUnread", fields, bases=(Event,), kw_only=True, module=__name__)
    with pytest.raises(InvalidEvent, match=r"CertainUnread\.held"):
        encode(cls(held=value))
