"""Event classes that change: what an older release wrote is read by the newer one, or an error says why not."""

import dataclasses
import json
from datetime import datetime
from decimal import Decimal
from typing import Any, ClassVar

import attrs
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openoutcry import OrderEvent
from openoutcry.errors import InvalidEvent, NewerSchemaVersion, UnknownEventType
from openoutcry.events import Event, Undecodable, decode, decode_many, encode, register_event, upcaster
from openoutcry.events.registry import upcasters

pytestmark = pytest.mark.usefixtures("upcasters_of_this_test")


def data(event_class: str, version: int | None, /, **fields: Any) -> dict[str, Any]:
    """What an older release has written: an event of a class and version that are not here."""
    written = {"event_class": event_class, "event_id": "e-1", "timestamp": 10**18, "event_type": "x"}
    if version is not None:
        written["schema_version"] = version
    return {**written, "source_agent": "desk", **fields}


def read_everywhere(written: dict[str, Any]) -> Any:
    """Read data in every way that there is; all must give the same."""
    payload = json.dumps(written).encode()
    event = decode(payload)
    assert decode_many([payload]) == [event]
    assert [type(one) for one in decode_many([payload])] == [type(event)]
    if isinstance(event, Event):
        assert Event.from_dict(written) == event
    return event


def refused_everywhere(written: dict[str, Any], error: type[Exception], match: str) -> None:
    payload = json.dumps(written).encode()
    with pytest.raises(error, match=match) as found:
        decode(payload)
    [told] = decode_many([payload])
    assert isinstance(told, Undecodable)
    assert told.payload is payload
    assert type(told.error) is type(found.value)
    assert str(told.error) == str(found.value)


class Booked2(Event, kw_only=True):
    """At version 2: `venue` has become `exchange`, and `desk` came with a default."""

    event_type: str = "x"
    schema_version: int = 2
    qty: float
    exchange: str = ""
    desk: str = "main"


class Retyped3(Event, kw_only=True):
    """At version 3, in which a price is a Decimal; in 2 it was text, in 1 a float in another unit."""

    event_type: str = "x"
    schema_version: int = 3
    price: Decimal
    at: datetime | None = None


def cents(written: dict[str, Any]) -> dict[str, Any]:
    return {**written, "price": str(written["price"] / 100)}


# --- tolerant reading


def test_a_class_that_omits_defaults_is_written_in_full_so_that_they_may_change() -> None:
    class Sparse(Event, kw_only=True, omit_defaults=True):
        event_type: str = "x"
        schema_version: int = 2
        venue: str = "CME"
        size: int | msgspec.UnsetType = msgspec.UNSET

    event = Sparse()
    payload = encode(event)
    assert decode(payload) == event
    assert json.loads(payload)["schema_version"] == 2
    assert "size" not in json.loads(payload)

    class Sparse(Event, kw_only=True, omit_defaults=True):  # type: ignore[no-redef]
        event_type: str = "x"
        schema_version: int = 3
        venue: str = "ICE"

    @upcaster(Sparse, from_version=1)
    def not_for_it(written: dict[str, Any]) -> dict[str, Any]:
        raise AssertionError

    assert decode(payload).venue == "CME"


def test_older_data_takes_the_defaults_of_fields_that_were_added() -> None:
    event = read_everywhere(data("Booked2", 1, qty=2.0, exchange="CME"))
    assert (event.qty, event.exchange, event.desk, event.schema_version) == (2.0, "CME", "main", 2)


def test_older_data_loses_fields_that_were_removed() -> None:
    event = read_everywhere(data("Booked2", 1, qty=2.0, colour="red", legs=[1, {"a": 2}]))
    assert event == Booked2(qty=2.0, event_id="e-1", timestamp=10**18, source_agent="desk")


def test_what_was_read_is_written_again_as_of_the_version_of_its_class() -> None:
    event = read_everywhere(data("Booked2", 1, qty=2.0, colour="red"))
    assert json.loads(encode(event))["schema_version"] == 2
    assert decode(encode(event)) == event
    assert event.amended(qty=3.0).schema_version == 2


def test_data_that_names_a_class_and_no_version_is_of_version_1() -> None:
    @upcaster(Booked2, from_version=1)
    def rename(written: dict[str, Any]) -> dict[str, Any]:
        written["exchange"] = written.pop("venue")
        return written

    event = read_everywhere(data("Booked2", None, qty=2.0, venue="ICE"))
    assert (event.exchange, event.schema_version) == ("ICE", 2)
    nested = data("Booked2", None, venue="ICE", qty=1.0, old={"schema_version": 2})
    assert read_everywhere(nested).exchange == "ICE"
    text = data("Booked2", None, venue='","schema_version":2,"', qty=1.0)
    assert read_everywhere(text).exchange == '","schema_version":2,"'


def test_data_that_names_neither_class_nor_version_is_read_like_the_arguments_of_its_class() -> None:
    class Plainly2(Event, kw_only=True):
        event_type: str = "plainly"
        schema_version: int = 2
        size: int

    written = {"event_type": "plainly", "event_id": "1", "timestamp": 10**18, "size": 5}
    assert decode(json.dumps(written)).size == 5
    assert Plainly2.from_dict(written).size == 5
    with pytest.raises(InvalidEvent, match="unknown field `colour`"):
        decode(json.dumps({**written, "colour": "red"}))
    assert decode(json.dumps({**written, "colour": "red", "schema_version": 1})).size == 5


@pytest.mark.parametrize("version", [2, 3])
def test_unknown_fields_of_the_same_version_are_refused_and_the_remedy_is_named(version: int) -> None:
    name = {2: "Booked2", 3: "Retyped3"}[version]
    written = data(name, version, qty=1.0, price="1", colour="red")
    del written["price" if version == 2 else "qty"]
    refused_everywhere(written, InvalidEvent, "unknown field `colour`.*raise its schema_version")


def test_a_required_field_that_older_data_lacks_is_an_error_that_says_what_to_do() -> None:
    refused_everywhere(
        data("Booked2", 1, exchange="CME"),
        InvalidEvent,
        r"Booked2 \(schema_version 1 in the data, no upcaster takes version 1\) cannot be read: .*`qty`; "
        "correct the upcaster, or register the one that is missing",
    )


@pytest.mark.parametrize("key", ["event_id", "timestamp"])
def test_nothing_is_made_up_for_older_data(key: str) -> None:
    written = data("Booked2", 1, qty=1.0)
    del written[key]
    refused_everywhere(written, InvalidEvent, f"Booked2.{key}: missing in the data")


@pytest.mark.parametrize("version", [0, -1, "1", 1.5, None, True, 2**63, [1]])
@pytest.mark.parametrize("name", ["Booked2", "Event", "Swapped"])
def test_a_version_that_is_none_is_refused(version: Any, name: str) -> None:
    payload = json.dumps({**data(name, 1, qty=1.0), "schema_version": version}).encode()
    with pytest.raises(InvalidEvent):
        decode(payload)
    assert isinstance(decode_many([payload])[0], Undecodable)


def test_events_of_the_firm_s_own_vocabulary_are_read_by_the_same_rules() -> None:
    class SizedOrder(OrderEvent, kw_only=True):
        schema_version: int = 2
        edge: float = 0.5

    order = OrderEvent(order_id="1", symbol="ES", side="buy", quantity=1)
    written = {**order.to_dict(), "event_class": "SizedOrder", "gone": 1}
    event = read_everywhere(written)
    assert (type(event), event.edge, event.side) == (SizedOrder, 0.5, order.side)
    assert type(decode(encode(order))) is OrderEvent


# --- newer data


def test_data_of_a_newer_version_is_unreadable_and_says_both_versions() -> None:
    for name, here in (("Booked2", 2), ("Event", 1), ("Swapped", 2)):
        written = data(name, 9, qty=1.0)
        refused_everywhere(
            written,
            NewerSchemaVersion,
            f"{name} is at version {here} here, and the data is of version 9: it cannot be read; run the release",
        )
    with pytest.raises(NewerSchemaVersion) as found:
        decode(json.dumps(data("Booked2", 9, qty=1.0)))
    error = found.value
    assert (error.event_class, error.written_version, error.known_version) == ("Booked2", 9, 2)


def test_a_newer_version_is_noticed_in_a_page_even_where_a_class_forgets_the_checks_of_event() -> None:
    class Forgets(Event, kw_only=True):
        event_type: str = "x"
        qty: float = 0.0

        def __post_init__(self) -> None:
            pass

    refused_everywhere(data("Forgets", 2, qty=1.0), NewerSchemaVersion, "Forgets is at version 1")
    with pytest.raises(InvalidEvent, match="Forgets is at version 1"):
        encode(Forgets(schema_version=2))


@pytest.mark.parametrize("version", [1, 3, 2**40])
def test_an_event_of_another_version_than_its_class_cannot_be_made(version: int) -> None:
    with pytest.raises(
        InvalidEvent, match=rf"schema_version = {version}: Booked2 is at version 2; leave it out"
    ):
        Booked2(qty=1.0, schema_version=version)
    with pytest.raises(InvalidEvent, match="Booked2 is at version 2"):
        Booked2(qty=1.0).amended(schema_version=version)
    with pytest.raises(InvalidEvent, match="Event is at version 1"):
        Event(schema_version=version + 1)


def test_the_first_event_of_a_class_that_was_just_defined_is_checked_too() -> None:
    def made() -> type[Event]:
        class Fresh2(Event, kw_only=True):
            event_type: str = "x"
            schema_version: int = 2

        return Fresh2

    assert made()().schema_version == 2
    for wrong in (1, 3):
        with pytest.raises(InvalidEvent, match="Fresh2 is at version 2"):
            made()(schema_version=wrong)


@pytest.mark.parametrize("wrong", [0, -1, "2", 1.5, True, None])
def test_the_version_of_a_class_is_a_whole_number_of_at_least_1(wrong: Any) -> None:
    class Wrong(Event, kw_only=True):
        event_type: str = "x"
        schema_version: Any = wrong

    with pytest.raises(InvalidEvent, match=r"schema_version"):
        encode(Wrong())
    with pytest.raises(
        InvalidEvent, match=r"Other.schema_version = .*: the version of a class is a whole number"
    ):

        @register_event
        class Other(msgspec.Struct):
            event_id: str
            event_type: str = "x"
            schema_version: Any = wrong

    with pytest.raises(InvalidEvent, match=r"BareVersion.schema_version = .*give the field a default"):

        @register_event
        @dataclasses.dataclass
        class BareVersion:
            event_id: str
            schema_version: int
            event_type: str = "x"


# --- upcasters


def test_upcasters_follow_each_other() -> None:
    upcaster(Retyped3, from_version=1)(cents)

    @upcaster(Retyped3, from_version=2)
    def exact(written: dict[str, Any]) -> dict[str, Any]:
        assert written["schema_version"] == 2
        return {**written, "price": f"{float(written['price']):.2f}"}

    assert read_everywhere(data("Retyped3", 1, price=1050)).price == Decimal("10.50")
    assert read_everywhere(data("Retyped3", 2, price="10.5")).price == Decimal("10.50")
    assert read_everywhere(data("Retyped3", 3, price="10.5")).price == Decimal("10.5")


def test_a_version_without_an_upcaster_is_read_as_the_next() -> None:
    @upcaster(Retyped3, from_version=2)
    def exact(written: dict[str, Any]) -> dict[str, Any]:
        return {**written, "price": written["price"] + "0"}

    assert read_everywhere(data("Retyped3", 1, price="10.5")).price.as_tuple() == Decimal("10.50").as_tuple()


def test_data_that_its_class_would_take_unchanged_goes_through_its_upcasters_nevertheless() -> None:
    @upcaster(Booked2, from_version=1)
    def double(written: dict[str, Any]) -> dict[str, Any]:
        written["qty"] *= 2
        return written

    old, new = data("Booked2", 1, qty=2.0), data("Booked2", 2, qty=2.0)
    payloads = [json.dumps(one).encode() for one in (old, new, old)]
    assert [event.qty for event in decode_many(payloads)] == [4.0, 2.0, 4.0]


class Heir2(Booked2, kw_only=True):
    """Has its version from its base."""

    note: str = ""


class OwnHeir5(Heir2, kw_only=True):
    """Counts for itself."""

    schema_version: int = 5


@dataclasses.dataclass
class ForeignBase:
    event_id: str
    event_type: str = "x"
    exchange: str = ""
    schema_version: ClassVar[int] = 2


register_event(ForeignBase)


@register_event
@dataclasses.dataclass
class ForeignHeir(ForeignBase):
    note: str = ""


@pytest.mark.parametrize(("base", "heir"), [(Booked2, "Heir2"), (ForeignBase, "ForeignHeir")])
def test_a_class_that_inherits_its_version_has_the_upcasters_of_its_base(base: Any, heir: str) -> None:
    @upcaster(base, from_version=1)
    def rename(written: dict[str, Any]) -> dict[str, Any]:
        return {**written, "exchange": written.pop("venue")}

    def written(name: str, version: int) -> dict[str, Any]:
        found = data(name, version, qty=1.0, venue="CME", note="n")
        return found if name != "ForeignHeir" else {k: found[k] for k in ("event_class", "event_id", "schema_version", "event_type", "venue", "note")}  # fmt: skip

    event = read_everywhere(written(heir, 1))
    assert (type(event).__name__, event.exchange, event.note) == (heir, "CME", "n")
    if base is Booked2:
        assert read_everywhere(data("OwnHeir5", 1, qty=1.0, venue="CME")).exchange == ""

    @upcaster(heir, from_version=1)
    def own(written: dict[str, Any]) -> dict[str, Any]:
        return {**written, "exchange": written.pop("venue"), "note": "own"}

    assert read_everywhere(written(heir, 1)).note == "own"


def test_an_upcaster_may_change_the_dict_that_it_gets_and_nobody_else_s() -> None:
    @upcaster(Booked2, from_version=1)
    def take_apart(written: dict[str, Any]) -> dict[str, Any]:
        written["qty"] = written["legs"].pop()
        del written["legs"]
        return written

    written = data("Booked2", 1, legs=[1.0, 2.0])
    assert Booked2.from_dict(written).qty == 2.0
    assert written == data("Booked2", 1, legs=[1.0, 2.0])


def test_a_class_that_was_renamed_is_read_by_its_old_name() -> None:
    @upcaster("Bkd", from_version=1)
    def renamed(written: dict[str, Any]) -> dict[str, Any]:
        return {**written, "event_class": "Booked2"}

    @upcaster(Booked2, from_version=1)
    def rename(written: dict[str, Any]) -> dict[str, Any]:
        written["exchange"] = written.pop("venue")
        return written

    event = read_everywhere(data("Bkd", 1, qty=1.0, venue="CME"))
    assert (type(event), event.exchange) == (Booked2, "CME")
    assert Booked2.from_dict(data("Bkd", 1, qty=1.0, venue="CME")) == event
    refused_everywhere(
        data("Bkd", 2, qty=1.0), UnknownEventType, r"'Bkd', schema_version 2: .*its upcasters take version 1"
    )


def test_an_old_name_is_read_from_the_next_version_that_has_an_upcaster() -> None:
    @upcaster("Bkd", from_version=3)
    def renamed(written: dict[str, Any]) -> dict[str, Any]:
        return {**written, "event_class": "Booked2", "schema_version": 2}

    assert read_everywhere(data("Bkd", 1, qty=1.0, exchange="CME")).exchange == "CME"


class SpotTrade(Event, kw_only=True):
    event_type: str = "x"
    pair: str


class FutureTrade(Event, kw_only=True):
    event_type: str = "x"
    schema_version: int = 2
    contract: str


def test_a_class_that_was_split_gives_either() -> None:
    @upcaster("Trade", from_version=1)
    def split(written: dict[str, Any]) -> dict[str, Any]:
        kind = written.pop("kind")
        if kind == "spot":
            return {**written, "event_class": "SpotTrade", "pair": written.pop("what")}
        return {**written, "event_class": "FutureTrade", "schema_version": 2, "contract": written.pop("what")}

    spot = read_everywhere(data("Trade", 1, kind="spot", what="EURUSD"))
    future = read_everywhere(data("Trade", 1, kind="future", what="ESZ6"))
    assert (spot.pair, future.contract) == ("EURUSD", "ESZ6")
    assert (type(spot), type(future)) == (SpotTrade, FutureTrade)


def test_an_upcaster_may_give_what_json_values_are_made_of() -> None:
    @upcaster(Retyped3, from_version=1)
    def typed(written: dict[str, Any]) -> dict[str, Any]:
        return {
            **written,
            "price": Decimal("1.10"),
            "at": datetime.fromisoformat("2026-01-01T00:00:00+00:00"),
        }

    event = read_everywhere(data("Retyped3", 1))
    assert (str(event.price), event.at.year) == ("1.10", 2026)


def failing(written: dict[str, Any]) -> dict[str, Any]:
    raise KeyError("venue")


def nothing(written: dict[str, Any]) -> None:
    written["exchange"] = "CME"


UPCASTERS_THAT_FAIL = [
    (failing, "tests.*failing raised KeyError: 'venue'; correct the upcaster"),
    (nothing, "nothing returned a NoneType, not a dict"),
    (lambda _: [("qty", 1)], "lambda> returned a list, not a dict"),
    (lambda w: {5: 6}, "not a dict from field names"),
    (lambda w: {**w, "event_id": "other"}, "changed the event_id from 'e-1' to 'other'"),
    (lambda w: {k: v for k, v in w.items() if k != "event_id"}, "changed the event_id from 'e-1' to None"),
    (lambda w: {**w, "exchnage": "CME"}, "added 'exchnage', which version 2 does not have, did you mean 'exchange'?"),
    (lambda w: {**w, "event_class": None}, "gave event_class = None, which is no name"),
    (lambda w: {**w, "event_class": "Event", "schema_version": "1"}, "gave the class 'Event' with schema_version"),
    (lambda w: {**w, "schema_version": 7}, "gave version 7, not 2"),
    (lambda w: {**w, "desk": float("nan")}, "gave desk = nan: JSON has no such number"),
    (lambda w: {**w, "desk": object()}, r"Booked2 \(schema_version 1 in the data, brought up by .*lambda"),
    (lambda w: {**w, "desk": 5}, r"brought up by .*lambda>\) cannot be read: Expected `str`, got `int`"),
    (lambda w: {**w, "event_class": "Martian"}, "'Martian', schema_version 1, brought up by .*no such class"),
    (lambda w: {**w, "event_class": "Event", "schema_version": 4}, "Event is at version 1 here.*version 4, brought up by"),
]  # fmt: skip


@pytest.mark.parametrize(("function", "message"), UPCASTERS_THAT_FAIL)
def test_an_upcaster_that_fails_makes_the_event_unreadable_and_is_named(function: Any, message: str) -> None:
    upcaster(Booked2, from_version=1)(function)
    refused_everywhere(data("Booked2", 1, qty=1.0), InvalidEvent, message)
    assert read_everywhere(data("Booked2", 2, qty=1.0)).qty == 1.0


def test_what_an_earlier_upcaster_added_may_be_gone_again() -> None:
    @upcaster(Retyped3, from_version=1)
    def note(written: dict[str, Any]) -> dict[str, Any]:
        return {**written, "note": "from version 1"}

    assert read_everywhere(data("Retyped3", 1, price="1")).price == 1


def test_upcasters_that_lead_back_are_noticed() -> None:
    upcaster("LeadsAway", from_version=1)(lambda w: {**w, "event_class": "LeadsBack"})
    upcaster("LeadsBack", from_version=1)(lambda w: {**w, "event_class": "LeadsAway"})
    refused_everywhere(data("LeadsAway", 1), InvalidEvent, "its upcasters lead back to it")


def test_a_version_has_one_upcaster() -> None:
    upcaster(Retyped3, from_version=1)(cents)
    upcaster(Retyped3, from_version=1)(cents)
    with pytest.raises(InvalidEvent, match=r"version 1 of Retyped3 is brought up by .*cents already"):
        upcaster("Retyped3", from_version=1)(failing)


def test_two_functions_of_one_name_for_one_version_are_not_one_function() -> None:
    @upcaster(Retyped3, from_version=1)
    def up(written: dict[str, Any]) -> dict[str, Any]:
        return written

    with pytest.raises(InvalidEvent, match=r"brought up by .*up already"):

        @upcaster(Retyped3, from_version=1)
        def up(written: dict[str, Any]) -> dict[str, Any]:
            return {**written, "price": "1"}


def test_an_upcaster_that_is_defined_again_replaces_the_one_before() -> None:
    for price in ("1", "2"):
        cell = f"def up(written): return {{**written, 'price': '{price}'}}"
        names: dict[str, Any] = {"__name__": "notebook"}
        exec(compile(cell, f"<cell {price}>", "exec"), names)
        upcaster(Retyped3, from_version=1)(names["up"])
        assert read_everywhere(data("Retyped3", 1)).price == Decimal(price)


async def later(written: dict[str, Any]) -> dict[str, Any]:
    return written


@pytest.mark.parametrize(
    ("event_class", "from_version", "function", "message"),
    [
        (
            Booked2,
            2,
            cents,
            "takes version 2 of Booked2, but the class is at version 2.*schema_version: int = 3",
        ),
        (Booked2, 3, cents, "the class is at version 2, so nothing would be brought up"),
        ("Booked2", 2, cents, "the class is at version 2"),
        (Booked2, 0, cents, "from_version = 0: a version is a whole number of at least 1"),
        (Booked2, True, cents, "from_version = True"),
        (Booked2, "1", cents, "from_version = '1'"),
        (Booked2, 1, later, "an upcaster is a plain function"),
        (Booked2, 1, 5, "an upcaster is a plain function"),
        ("", 1, cents, "is no event class"),
        (5, 1, cents, "is no event class"),
        (int, 1, cents, r"upcaster\(int\): the class is not registered"),
    ],
)
def test_a_mistake_is_told_where_an_upcaster_is_registered(
    event_class: Any, from_version: Any, function: Any, message: str
) -> None:
    with pytest.raises(InvalidEvent, match=message):
        upcaster(event_class, from_version=from_version)(function)


def test_a_class_that_is_defined_after_an_upcaster_of_its_own_version_is_refused() -> None:
    upcaster("Late", from_version=1)(cents)

    class Late(Event, kw_only=True):
        event_type: str = "x"

    with pytest.raises(InvalidEvent, match="takes version 1 of Late, but the class is at version 1"):
        encode(Late())
    with pytest.raises(InvalidEvent, match="takes version 1 of Late"):
        upcaster(Late, from_version=1)

    upcaster("Later", from_version=1)(cents)
    with pytest.raises(InvalidEvent, match="takes version 1 of Later"):

        @register_event
        @dataclasses.dataclass
        class Later:
            event_id: str
            event_type: str = "x"


def test_decoding_a_page_calls_an_upcaster_once_for_each_older_event() -> None:
    called = []

    @upcaster(Booked2, from_version=1)
    def count(written: dict[str, Any]) -> dict[str, Any]:
        called.append(written["event_id"])
        return written

    old, new = data("Booked2", 1, qty=1.0), data("Booked2", 2, qty=1.0)
    decode_many([json.dumps(one).encode() for one in (new, old, new, new, old)])
    assert called == ["e-1", "e-1"]


# --- classes of users that are no Events


@register_event
@dataclasses.dataclass
class Swapped:
    """A class attribute says the version."""

    event_id: str
    event_type: str = "x"
    qty: float = 0.0
    schema_version: ClassVar[int] = 2


@register_event
@attrs.frozen
class Forward:
    """A field says the version."""

    event_id: str
    event_type: str = "x"
    qty: float = 0.0
    schema_version: int = 2


@register_event(name="firm.Repo")
class Repo(msgspec.Struct, rename="camel", tag="repo", tag_field="kind"):
    """The fields have other keys in JSON."""

    event_id: str
    event_type: str = "x"
    qty: float = 0.0
    schema_version: int = 2


FOREIGN = [Swapped("e-1", qty=1.0), Forward("e-1", qty=1.0), Repo("e-1", qty=1.0)]


def written_by_version_1(event: Any) -> dict[str, Any]:
    written: dict[str, Any] = json.loads(encode(event))
    if "schemaVersion" in written:
        written["schemaVersion"] = 1
    return {**written, "schema_version": 1}


@pytest.mark.parametrize("event", FOREIGN)
def test_a_class_of_users_is_written_with_its_version_and_read_back(event: Any) -> None:
    written = json.loads(encode(event))
    assert written["schema_version"] == 2
    assert read_everywhere(written) == event


@pytest.mark.parametrize("event", FOREIGN)
def test_older_data_of_a_class_of_users_is_read_tolerantly(event: Any) -> None:
    written = written_by_version_1(event)
    assert read_everywhere({**written, "colour": "red"}) == event
    del written["schema_version"]
    assert read_everywhere({**written, "colour": "red"}) == event


@pytest.mark.parametrize("event", FOREIGN)
def test_older_data_of_a_class_of_users_goes_through_its_upcasters(event: Any) -> None:
    @upcaster(type(event), from_version=1)
    def double(written: dict[str, Any]) -> dict[str, Any]:
        return {**written, "qty": written["qty"] * 2}

    assert read_everywhere(written_by_version_1(event)).qty == 2.0
    assert read_everywhere(json.loads(encode(event))).qty == 1.0


@pytest.mark.parametrize("event", FOREIGN)
def test_newer_data_and_unknown_fields_of_a_class_of_users_are_refused(event: Any) -> None:
    written = json.loads(encode(event))
    refused_everywhere({**written, "schema_version": 3}, NewerSchemaVersion, "is at version 2 here")
    refused_everywhere(
        {**written, "colour": "red"}, InvalidEvent, "no field 'colour'.*raise its schema_version"
    )


@pytest.mark.parametrize("cls", [Forward, Repo])
@pytest.mark.parametrize("version", [1, 3, True, "2"])
def test_an_event_of_users_of_another_version_than_its_class_is_not_written(cls: Any, version: Any) -> None:
    with pytest.raises(InvalidEvent, match=rf"{cls.__name__}.schema_version = .*the class is at version 2"):
        encode(cls("e-1", schema_version=version))


def test_another_field_cannot_take_the_key_of_the_version() -> None:
    with pytest.raises(InvalidEvent, match="writes another field as schema_version"):

        @register_event
        class Renamed(msgspec.Struct, rename={"size": "schema_version"}):
            event_id: str
            event_type: str
            size: int

    class RenamedEvent(Event, rename={"schema_version": "v"}, kw_only=True):
        event_type: str = "x"
        schema_version: int = 2

    with pytest.raises(InvalidEvent, match="rename: stored events are found by"):
        encode(RenamedEvent())


def test_an_event_may_become_one_of_another_kind() -> None:
    @upcaster("Struct1", from_version=1)
    def to_dataclass(written: dict[str, Any]) -> dict[str, Any]:
        kept = {key: written[key] for key in ("event_id", "qty")}
        return {**kept, "event_class": "Swapped", "schema_version": 2}

    assert read_everywhere(data("Struct1", 1, qty=5.0)) == Swapped("e-1", qty=5.0)


# --- any chain of versions


@settings(max_examples=60, deadline=None)
@given(
    version=st.integers(1, 6),
    steps=st.sets(st.integers(1, 5)),
    start=st.integers(1, 6),
    qty=st.integers(-1000, 1000),
    foreign=st.booleans(),
)
def test_data_of_any_version_comes_up_by_the_upcasters_between(
    version: int, steps: set[int], start: int, qty: int, foreign: bool
) -> None:
    upcasters.clear()
    name = f"Chain{version}{'F' if foreign else ''}"
    if foreign:
        fields: list[Any] = [
            ("event_id", str),
            ("event_type", str, "x"),
            ("trail", list[int], msgspec.field(default_factory=list)),
        ]
        cls: Any = msgspec.defstruct(name, [*fields, ("qty", int, 0)], namespace={"schema_version": version})
        register_event(cls)
    else:
        cls = msgspec.defstruct(
            name,
            [
                ("event_type", str, "x"),
                ("schema_version", int, version),
                ("trail", list[int], msgspec.field(default_factory=list)),
                ("qty", int, 0),
            ],
            bases=(Event,),
            kw_only=True,
        )

    def step(number: int) -> Any:
        return lambda w: {**w, "trail": [*w.get("trail", []), number], "qty": w["qty"] + 1}

    for number in sorted(one for one in steps if one < version):
        upcaster(cls, from_version=number)(step(number))
    payload = json.dumps(data(name, start, qty=qty)).encode()
    if foreign:
        inner = {k: v for k, v in json.loads(payload).items() if k not in {"timestamp", "source_agent"}}
        payload = json.dumps(inner).encode()
    [event] = decode_many([payload])
    if start > version:
        assert isinstance(event.error, NewerSchemaVersion)
        return
    called = sorted(one for one in steps if start <= one < version)
    assert (event.trail, event.qty) == (called, qty + len(called))
    assert event == decode(payload)
    assert decode(encode(event)) == event
    assert event.schema_version == version
