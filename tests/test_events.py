"""The envelope: ids, times, types, links, immutability, and the classes of users."""

import copy
import dataclasses
import os
import pickle
import subprocess
import sys
import textwrap
import threading
from datetime import UTC, datetime, timedelta, timezone
from enum import Enum, StrEnum
from typing import ClassVar

import attrs
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openoutcry.errors import InvalidEvent
from openoutcry.events import (
    HIGH_PRIORITY_EVENT_TYPES,
    Event,
    EventType,
    FrozenDict,
    event_type_of,
    fixed_event_type,
    new_event_id,
    register_event,
    stamp,
    stamp_round,
    stamps,
)
from openoutcry.trading import SignalDirection, SignalEvent

NOON = datetime(2026, 11, 24, 12, 0, 0, 123456, tzinfo=UTC)


class Colour(Enum):
    RED = "red"
    FILL = "fill"


class Shade(StrEnum):
    DARK = "dark"


class News(Event, kw_only=True):
    event_type: str = "news"
    headline: str


class Flash(News):
    urgency: int = 1


class Rumour(News):
    event_type: str = "rumour"


class Painted(Event):
    event_type: Colour = Colour.RED  # type: ignore[assignment]


class Anything(Event):
    note: str = ""


# --- types


def test_event_types_are_the_seventeen_of_a_trading_firm_in_lower_snake_case():
    assert len(EventType) == 17
    assert all(member.value == member.name.lower() and str(member) == member.value for member in EventType)


def test_fills_validated_decisions_risk_alerts_and_kill_switches_go_first():
    assert {str(member) for member in HIGH_PRIORITY_EVENT_TYPES} == {
        "fill",
        "validated_decision",
        "risk_alert",
        "kill_switch",
    }


@pytest.mark.parametrize(
    ("given_type", "kept"),
    [
        ("anything", "anything"),
        ("fill", EventType.FILL),
        (EventType.ORDER, EventType.ORDER),
        (Colour.RED, "red"),
        (Colour.FILL, EventType.FILL),
        (Shade.DARK, "dark"),
    ],
)
def test_a_plain_event_takes_any_string_or_string_valued_member_as_its_type(given_type, kept):
    event = Event(event_type=given_type)
    assert event.event_type == kept
    assert type(event.event_type) is type(kept)
    assert event_type_of(event) == kept


@pytest.mark.parametrize("given_type", ["", None, 7, Enum("Number", {"ONE": 1}).ONE, ["signal"]])  # type: ignore[attr-defined]
def test_an_event_type_that_is_no_name_is_refused_with_the_remedy(given_type):
    with pytest.raises(InvalidEvent, match=r"event_type = .*non-empty string.*use a member of EventType"):
        Event(event_type=given_type)


def test_a_subclass_that_gives_the_type_a_default_is_fixed_to_it():
    assert fixed_event_type(News) == "news"
    assert fixed_event_type(Flash) == "news"
    assert fixed_event_type(Rumour) == "rumour"
    assert fixed_event_type(Painted) == "red"
    assert fixed_event_type(SignalEvent) is EventType.SIGNAL
    assert News(headline="x", event_type="news").event_type == "news"
    with pytest.raises(InvalidEvent, match=r"News\.event_type = 'rumour': every News is of type 'news'"):
        News(headline="x", event_type="rumour")


def test_a_subclass_that_gives_no_default_is_free():
    assert fixed_event_type(Event) is None
    assert fixed_event_type(Anything) is None
    assert Anything(event_type="whatever").event_type == "whatever"
    assert Anything().event_type is EventType.SYSTEM


def test_a_fixed_type_given_by_value_becomes_the_declared_member():
    event = SignalEvent(
        strategy_name="trend",
        symbol="ES",
        direction=SignalDirection.LONG,
        event_type="signal",
    )
    assert event.event_type is EventType.SIGNAL
    assert Painted(event_type="red").event_type is Colour.RED  # type: ignore[arg-type]
    assert event_type_of(Painted()) == "red"


def test_a_type_without_an_annotation_is_refused_when_the_class_is_defined():
    with pytest.raises(InvalidEvent, match=r"hides the field event_type of Event; annotate it"):

        class Careless(Event):
            event_type = "careless"


def test_the_first_instance_of_a_class_already_knows_its_type():
    class Fresh(Event):
        event_type: str = "fresh"

    assert Fresh().event_type == "fresh"

    class Stale(Event):
        event_type: str = "stale"

    with pytest.raises(InvalidEvent, match="every Stale is of type 'stale'"):
        Stale(event_type="fresh")


# --- classes of users


@dataclasses.dataclass
class Tick:
    event_id: str
    event_type: str = "tick"


@dataclasses.dataclass(frozen=True)
class Tock:
    event_id: str
    event_type: ClassVar[str] = "tock"


@attrs.frozen
class Bell:
    event_id: str
    event_type: Colour = Colour.RED


class Own(msgspec.Struct):
    event_id: str
    event_type: ClassVar[Colour] = Colour.RED


class Bare:
    event_type = "bare"

    def __init__(self, event_type=None):
        self.event_id = "1"
        if event_type is not None:
            self.event_type = event_type


class Slotted:
    __slots__ = ("event_id",)
    event_type = "slotted"


class Promised:
    event_type: ClassVar[str] = "promised"
    event_id = "1"


class Computed:
    event_id = "1"

    @property
    def event_type(self):
        return "computed"


@pytest.mark.parametrize(
    ("cls", "fixed"),
    [
        (Tick, None),
        (Tock, "tock"),
        (Bell, None),
        (Own, "red"),
        (Bare, None),
        (Slotted, "slotted"),
        (Promised, "promised"),
        (Computed, None),
        (object, None),
    ],
)
def test_a_class_of_a_user_is_fixed_only_when_its_instances_cannot_vary(cls, fixed):
    assert fixed_event_type(cls) == fixed


@pytest.mark.parametrize(
    ("event", "name"),
    [
        (Tick("1"), "tick"),
        (Tick("1", Colour.RED), "red"),  # type: ignore[arg-type]
        (Tock("1"), "tock"),
        (Bell("1"), "red"),
        (Own("1"), "red"),
        (Bare("other"), "other"),
        (Computed(), "computed"),
        (Tick("1", Shade.DARK), "dark"),
    ],
)
def test_events_of_users_are_routed_by_the_plain_name_of_their_type(event, name):
    found = event_type_of(event)
    assert found == name
    assert type(found) is str


def test_an_object_without_a_type_is_no_event():
    with pytest.raises(InvalidEvent, match="has no event_type; publish Events"):
        event_type_of(object())
    with pytest.raises(InvalidEvent, match="non-empty string"):
        event_type_of(Tick("1", ""))
    with pytest.raises(InvalidEvent, match="non-empty string"):
        event_type_of(Tick("1", 5))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("cls", "problem"),
    [
        (Bare, "no named fields"),
        (dataclasses.make_dataclass("NoId", [("event_type", str)]), "no field event_id"),
        (dataclasses.make_dataclass("NoType", [("event_id", str)]), "neither a field nor a class attribute"),
        (
            dataclasses.make_dataclass(
                "Taken", [("event_id", str), ("event_type", str), ("event_class", str)]
            ),
            "has a field event_class",
        ),
        (
            msgspec.defstruct("Row", [("event_id", str), ("event_type", str)], array_like=True),
            "no named fields",
        ),
    ],
)
def test_a_class_that_cannot_be_an_event_is_refused_at_registration(cls, problem):
    with pytest.raises(InvalidEvent, match=problem):
        register_event(cls)


def test_two_importable_classes_cannot_share_a_name():
    first = dataclasses.make_dataclass("Shared", [("event_id", str), ("event_type", str)])
    second = dataclasses.make_dataclass("Shared", [("event_id", str), ("event_type", str)])
    first.__module__, second.__module__ = "here", "there"
    register_event(first)
    register_event(first)
    with pytest.raises(InvalidEvent, match=r"taken by here.Shared; rename the class or .* name="):
        register_event(second)
    assert register_event(name="there.Shared")(second) is second


def test_a_subclass_of_event_whose_name_is_taken_travels_but_cannot_be_written():
    clash = type(Event)("SignalEvent", (Event,), {"__module__": "elsewhere", "__qualname__": "SignalEvent"})  # type: ignore[misc]
    for _ in range(2):
        with pytest.raises(InvalidEvent, match=r"'SignalEvent': taken by openoutcry.trading.* tag="):
            clash().to_json()
    named = type(Event)(  # type: ignore[misc]
        "SignalEvent", (Event,), {"__module__": "elsewhere", "__qualname__": "SignalEvent"}, tag="else.Signal"
    )
    assert named().to_dict()["event_class"] == "else.Signal"


def test_fields_may_be_renamed_in_the_encoded_form_but_not_those_of_the_envelope():
    class Camel(Event, rename="camel"):
        head_line: str = "x"

    assert Camel().to_dict()["headLine"] == "x"
    assert Event.from_dict(Camel(head_line="y").to_dict()).head_line == "y"  # type: ignore[attr-defined]

    class Odd(Event, rename="camel", kw_only=True):
        event_id: str

    with pytest.raises(InvalidEvent, match="rename: stored events are found"):
        Odd(event_id="1").to_json()


@pytest.mark.parametrize("option", [{"tag": False}, {"array_like": True}, {"tag_field": "kind"}])
def test_an_option_that_would_make_stored_events_unfindable_is_refused(option):
    class Odd(Event, **option):
        pass

    with pytest.raises(InvalidEvent, match="stored events are found by their event_class"):
        Odd().to_json()


def test_only_subclasses_of_event_name_themselves_by_a_tag():
    assert register_event(News) is News
    with pytest.raises(InvalidEvent, match="tag="):
        register_event(name="other")(News)


# --- ids


def test_ids_are_unique_and_ascend_within_a_process():
    ids = [new_event_id() for _ in range(2000)]
    assert len(set(ids)) == 2000
    assert len({an_id.split("-")[0] for an_id in ids}) == 1
    numbers = [int(an_id.split("-")[1], 16) for an_id in ids]
    assert numbers == sorted(numbers)


def test_threads_never_get_the_same_id():
    found: list[list[str]] = []

    def make():
        found.append([new_event_id() for _ in range(5000)])

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({an_id for ids in found for an_id in ids}) == 20_000


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_never_repeats_an_id_of_its_parent():
    program = """
        import os, sys
        from openoutcry.events import Event
        Event()
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(writer, "\\n".join(Event().event_id for _ in range(500)).encode())
            os._exit(0)
        os.waitpid(child, 0)
        theirs = set(os.read(reader, 60_000).decode().split())
        ours = {Event().event_id for _ in range(500)}
        sys.exit(0 if len(theirs) == len(ours) == 500 and not ours & theirs else 1)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True, timeout=600)


def test_an_empty_or_foreign_id_is_refused():
    for wrong in ("", None, 5, b"x"):
        with pytest.raises(
            InvalidEvent, match=r"Event\.event_id = .*: must be a non-empty string; pass a str"
        ):
            Event(event_id=wrong)  # type: ignore[arg-type]


# --- time


def test_a_timestamp_is_read_as_an_aware_datetime_and_kept_in_nanoseconds():
    event = Event(timestamp=NOON)
    assert event.timestamp == NOON
    assert event.timestamp.tzinfo is UTC
    assert event.timestamp_ns == 1795521600123456000
    assert Event(timestamp=1795521600123456789).timestamp_ns == 1795521600123456789
    assert Event(timestamp=1795521600123456789).timestamp == NOON


def test_a_timestamp_in_another_zone_is_the_same_instant():
    tokyo = NOON.astimezone(timezone(timedelta(hours=9)))
    assert Event(timestamp=tokyo).timestamp_ns == Event(timestamp=NOON).timestamp_ns


@settings(deadline=None)
@given(st.datetimes(datetime(1700, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001
def test_every_datetime_comes_back_to_the_microsecond(moment):
    assert Event(timestamp=moment).timestamp == moment


@settings(deadline=None)
@given(st.integers(-(2**63) + 1, 2**63 - 1))
def test_every_nanosecond_comes_back_where_time_begins_in_1970(ns):
    with stamps(time_ns=lambda: 0):
        event = Event(timestamp=ns)
    assert event.timestamp_ns == ns
    assert (
        abs((event.timestamp - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) - ns // 1000)
        == 0
    )


def test_the_nanoseconds_of_a_pandas_timestamp_are_kept():
    class Stamp(datetime):
        nanosecond = 789

    moment = Stamp(2026, 11, 24, 12, 0, 0, 123456, tzinfo=UTC)
    assert Event(timestamp=moment).timestamp_ns == 1795521600123456789


def test_a_naive_or_impossible_time_is_refused_with_the_remedy():
    with pytest.raises(InvalidEvent, match=r"Event\.timestamp = .*must have a time zone; add one"):
        Event(timestamp=datetime(2026, 1, 1))  # noqa: DTZ001
    for wrong in (True, 1.5, "now", None):
        with pytest.raises(InvalidEvent, match="pass an aware datetime, or an int of nanoseconds"):
            Event(timestamp=wrong)  # type: ignore[arg-type]
    for wrong in (2**63, -(2**63), datetime(2300, 1, 1, tzinfo=UTC)):  # type: ignore[assignment]
        with pytest.raises(InvalidEvent, match="between the years 1677 and 2262"):
            Event(timestamp=wrong)  # type: ignore[arg-type]


# --- the other fields


@pytest.mark.parametrize("field", ["correlation_id", "causation_id", "round_id"])
def test_a_link_is_a_name_or_none(field):
    assert getattr(Event(**{field: "x"}), field) == "x"  # type: ignore[arg-type]
    for wrong in ("", 5):
        with pytest.raises(InvalidEvent, match=rf"Event\.{field} = .*non-empty string or None"):
            Event(**{field: wrong})  # type: ignore[arg-type]


def test_a_version_is_a_whole_number_from_one_and_a_source_a_string():
    assert Event(schema_version=1).schema_version == 1
    for wrong in (0, -1, True, 1.5, "1"):
        with pytest.raises(InvalidEvent, match=r"schema_version = .*whole number of at least 1"):
            Event(schema_version=wrong)  # type: ignore[arg-type]
    with pytest.raises(InvalidEvent, match=r"source_agent = None: must be a string"):
        Event(source_agent=None)


def test_strings_of_a_subclass_become_plain_strings():
    class Loud(str):
        __slots__ = ()

    event = Event(event_id=Loud("a"), source_agent=Loud("b"), round_id=Loud("c"))
    assert [type(event.event_id), type(event.source_agent), type(event.round_id)] == [str, str, str]
    assert Event(source_agent=Shade.DARK).source_agent == "dark"


# --- immutability, copies


@pytest.mark.parametrize("field", [*Event.__struct_fields__, "timestamp_ns", "surprise"])
def test_no_field_of_an_event_can_be_set(field):
    event = Event()
    with pytest.raises(AttributeError):
        setattr(event, field, "x")


def test_copies_pickles_and_replacements_keep_every_field():
    event = News(headline="x", timestamp=1795521600123456789, round_id="r")
    assert copy.copy(event) == event
    assert copy.deepcopy(event) == event
    assert pickle.loads(pickle.dumps(event)) == event
    later = msgspec.structs.replace(event, timestamp=NOON, headline="y")
    assert (later.timestamp, later.headline, later.event_id) == (NOON, "y", event.event_id)
    with pytest.raises(InvalidEvent):
        msgspec.structs.replace(event, schema_version=0)
    assert msgspec.structs.asdict(event)["timestamp"] == 1795521600123456789


def test_equal_events_are_those_whose_every_field_is_equal():
    event = Event(event_id="1", timestamp=5)
    assert event == Event(event_id="1", timestamp=5)
    assert hash(event) == hash(Event(event_id="1", timestamp=5))
    assert event != Event(event_id="1", timestamp=6)
    assert event != Event(event_id="2", timestamp=5)


def test_an_event_prints_its_time_as_a_person_reads_it_and_leaves_out_what_is_empty():
    text = repr(News(headline="x", event_id="1", timestamp=NOON))
    assert text == (
        "News(event_id='1', timestamp='2026-11-24T12:00:00.123456+00:00', event_type='news', "
        "schema_version=1, headline='x')"
    )


def test_a_subclass_may_ask_for_its_own_timestamp():
    class Dated(Event, kw_only=True):
        timestamp: int | datetime  # type: ignore[assignment]
        event_type: str = "dated"

    with pytest.raises(TypeError, match="timestamp"):
        Dated()  # type: ignore[call-arg]
    assert Dated(timestamp=NOON).timestamp == NOON


def test_a_frozen_dict_is_a_dict_that_refuses_every_change():
    frozen = FrozenDict({"a": 1})
    assert frozen == {"a": 1}
    assert hash(frozen) == hash(FrozenDict(a=1))
    assert pickle.loads(pickle.dumps(frozen)) == copy.deepcopy(frozen) == copy.copy(frozen) == frozen
    changes = [
        lambda d: d.update(b=2),
        lambda d: d.pop("a"),
        lambda d: d.popitem(),
        lambda d: d.clear(),
        lambda d: d.setdefault("b", 2),
        lambda d: d.__setitem__("a", 2),
        lambda d: d.__delitem__("a"),
        lambda d: d.__ior__({"b": 2}),
    ]
    for change in changes:
        with pytest.raises(TypeError, match="make a dict"):
            change(frozen)
    assert frozen == {"a": 1}


# --- what the bus stamps


def test_stamping_fills_only_what_is_empty():
    event = Event(correlation_id="mine")
    stamp(event, causation_id="cause", correlation_id="theirs", round_id="r1")
    assert (event.causation_id, event.correlation_id, event.round_id) == ("cause", "mine", "r1")
    stamp(event, causation_id="other", round_id="r2")
    assert (event.causation_id, event.round_id) == ("cause", "r1")
    stamp(event)


def test_stamping_leaves_classes_of_users_alone():
    tick = Tick("1")
    stamp(tick, causation_id="cause")
    assert tick == Tick("1")


def test_the_same_sources_make_the_same_events():
    def run():
        clock = iter(range(100, 200))
        with stamps(ids="run", time_ns=lambda: next(clock)):
            return [Event(), News(headline="x"), Event()]

    first = run()
    assert first == run()
    assert [event.event_id for event in first] == ["run-1", "run-2", "run-3"]
    assert [event.timestamp_ns for event in first] == [100, 101, 102]


def test_sources_nest_and_come_back():
    with stamps(ids="outer", time_ns=lambda: 1):
        with stamps(ids=lambda: "inner"):
            assert (Event().event_id, Event().timestamp_ns) == ("inner", 1)
        assert Event().event_id == "outer-1"
    assert "-" in Event().event_id
    assert Event().timestamp_ns > 1


def test_a_source_of_ids_that_fails_says_so():
    with stamps(ids=[].pop), pytest.raises(IndexError):
        Event()
    assert Event().event_id


def test_a_class_whose_definition_fails_hurts_no_other() -> None:
    with pytest.raises(ValueError, match="conflicts"):

        class HalfMade(Event, kw_only=True):
            event_type: str = "half_made"
            event_class: str = ""

    class MadeAfterIt(Event, kw_only=True):
        event_type: str = "made_after_it"

    assert MadeAfterIt().event_type == "made_after_it"


def test_a_round_is_stamped_on_an_event_and_on_nothing_else():
    class Own:
        round_id: str | None = None

    event, own = Event(), Own()
    stamp_round(event, "r-1")
    stamp_round(own, "r-1")
    assert (event.round_id, own.round_id) == ("r-1", None)
