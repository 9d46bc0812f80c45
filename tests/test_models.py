"""Pydantic models as events: registered, journaled, read back, and brought up like any other class."""

import asyncio
import json
import os
from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest

from openoutcry import EventBus, PersistenceConfig
from openoutcry.errors import InvalidEvent, NewerSchemaVersion
from openoutcry.events import Undecodable, decode, decode_many, encode, register_event, upcaster

if not os.environ.get("OPENOUTCRY_TESTS_NEED_ALL"):
    pytest.importorskip("pydantic")
import pydantic
from pydantic import BaseModel, ConfigDict, Field

pytestmark = pytest.mark.usefixtures("upcasters_of_this_test")


class Side(StrEnum):
    BUY = "buy"


class Leg(BaseModel):
    contract: str
    price: Decimal
    at: datetime | None = None
    weight: float | None = None


@register_event
class Spread(BaseModel):
    """Not frozen, with nested models and what JSON has no types for."""

    event_id: str
    event_type: Literal["spread"] = "spread"
    legs: list[Leg] = []
    side: Side = Side.BUY
    pair: tuple[int, str] = (1, "a")
    raw: bytes = b"x"
    by_level: dict[int, Decimal] = {}

    @pydantic.computed_field
    def legs_count(self) -> int:
        return len(self.legs)


@register_event(name="acme.Quote")
class Quote(BaseModel):
    """Frozen, with a class attribute as type, and aliases of every kind."""

    model_config = ConfigDict(frozen=True)
    event_type: ClassVar[str] = "quote"
    event_id: str = Field(alias="id")
    bid: Decimal = Field(alias="bestBid")
    ask: Decimal = Field(validation_alias="bestAsk")
    size: int = Field(default=0, serialization_alias="qty")
    venue: str = Field(default="", validation_alias=pydantic.AliasChoices("mic", "market"))


@register_event
class Ticket2(BaseModel):
    """At version 2."""

    event_id: str
    event_type: str = "ticket"
    schema_version: int = 2
    qty: float
    exchange: str = ""


@register_event
class Counted2(BaseModel):
    """At version 2 by a class attribute, and with extra fields."""

    model_config = ConfigDict(extra="allow")
    schema_version: ClassVar[int] = 2
    event_id: str
    event_type: str = "counted"


AT = datetime(2026, 1, 1, 9, 30, 0, 123456, UTC)
MODELS: list[Any] = [
    Spread(event_id="1"),
    Spread(
        event_id="1",
        legs=[Leg(contract="ESZ6", price=Decimal("4500.10"), at=AT)],
        by_level={1: Decimal("1.10")},
        pair=(2, "b"),
    ),
    Quote.model_validate({"id": "1", "bestBid": "1.10", "bestAsk": "1.20", "mic": "XCME"}),
    Ticket2(event_id="1", qty=1.5),
    Counted2(event_id="1"),
    Counted2.model_validate({"event_id": "1", "colour": "red"}),
]


@pytest.mark.parametrize("event", MODELS)
def test_a_model_comes_back_as_it_was(event: Any) -> None:
    payload = encode(event)
    for back in (decode(payload), decode_many([payload])[0]):
        assert type(back) is type(event)
        assert back == event
        assert back.model_dump() == event.model_dump()


@pytest.mark.parametrize("event", MODELS)
def test_a_model_is_written_flat_with_its_class_type_and_version(event: Any) -> None:
    written = json.loads(encode(event))
    assert next(iter(written)) == "event_class"
    assert written["event_class"] == ("acme.Quote" if type(event) is Quote else type(event).__name__)
    assert written["event_type"] == event.event_type
    assert written["schema_version"] == getattr(event, "schema_version", 1)
    assert "legs_count" not in written


def test_unknown_fields_are_refused_though_the_model_would_ignore_them() -> None:
    written = json.loads(encode(MODELS[0]))
    with pytest.raises(InvalidEvent, match=r"Spread .*no field 'colour'"):
        decode(json.dumps({**written, "colour": "red"}))
    with pytest.raises(InvalidEvent, match=r"Spread\.event_id: missing"):
        decode(json.dumps({key: value for key, value in written.items() if key != "event_id"}))
    assert decode(json.dumps({**json.loads(encode(MODELS[4])), "colour": "red"})) == MODELS[5]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"legs": [{"contract": "ESZ6", "price": "much"}]}, "Spread .* cannot be read: .*legs"),
        ({"side": "up"}, "Spread .* cannot be read"),
        ({"pair": [1]}, "Spread .* cannot be read"),
        ({"schema_version": 2}, "Spread is at version 1 here, and the data is of version 2"),
    ],
)
def test_data_that_a_model_refuses_is_an_invalid_event(changes: dict[str, Any], message: str) -> None:
    payload = json.dumps({**json.loads(encode(MODELS[0])), **changes}).encode()
    with pytest.raises(InvalidEvent, match=message):
        decode(payload)
    assert isinstance(decode_many([payload])[0], Undecodable)


def test_a_time_with_more_digits_than_a_datetime_is_refused() -> None:
    @register_event
    class Timed(BaseModel):
        event_id: str
        event_type: str = "timed"
        at: datetime

    written = json.loads(encode(Timed(event_id="1", at=AT)))
    with pytest.raises(InvalidEvent, match="more than the six digits"):
        decode(json.dumps({**written, "at": "2026-01-01T09:30:00.123456789Z"}))


def test_what_a_model_holds_and_json_has_not_is_refused_with_the_field() -> None:
    @register_event
    class LooseModel(BaseModel):
        event_id: str
        event_type: str = "loose"
        value: Any = None
        inner: Leg | None = None

    for value in (float("nan"), [1.0, float("inf")], object()):
        with pytest.raises(InvalidEvent, match=r"LooseModel\.value"):
            encode(LooseModel(event_id="1", value=value))
    with pytest.raises(InvalidEvent, match=r"LooseModel\.inner\.weight = nan: JSON has no such number"):
        encode(LooseModel(event_id="1", inner=Leg(contract="1", price=Decimal(1), weight=float("nan"))))


def test_a_validator_that_refuses_what_was_written_is_noticed_when_writing() -> None:
    @register_event
    class Once(BaseModel):
        event_id: str
        event_type: str = "once"
        price: str = "1"

        @pydantic.field_validator("price", mode="before")
        @classmethod
        def no_text(cls, value: Any) -> str:
            assert isinstance(value, int), "give a number"
            return str(value)

    with pytest.raises(InvalidEvent, match=r"Once.*could not be read back.*give a number"):
        encode(Once(event_id="1", price=5))  # type: ignore[arg-type]


def test_older_data_of_a_model_is_read_tolerantly_and_by_upcasters() -> None:
    written = {"event_class": "Ticket2", "event_id": "1", "event_type": "ticket", "qty": 1.5, "venue": "CME"}
    assert decode(json.dumps(written)) == Ticket2(event_id="1", qty=1.5)

    @upcaster(Ticket2, from_version=1)
    def rename(data: dict[str, Any]) -> dict[str, Any]:
        data["exchange"] = data.pop("venue")
        return data

    for version in ({}, {"schema_version": 1}):
        assert decode(json.dumps({**written, **version})) == Ticket2(event_id="1", qty=1.5, exchange="CME")
    with pytest.raises(NewerSchemaVersion, match="Ticket2 is at version 2 here"):
        decode(json.dumps({**written, "schema_version": 3}))


def test_extra_fields_of_older_data_stay_where_a_model_keeps_them() -> None:
    event = decode(b'{"event_class":"Counted2","event_id":"1","event_type":"counted","colour":"red"}')
    assert event == MODELS[5]


def test_another_version_than_that_of_the_model_is_not_written() -> None:
    with pytest.raises(InvalidEvent, match=r"Ticket2.schema_version = 1: the class is at version 2"):
        encode(Ticket2(event_id="1", qty=1, schema_version=1))


def test_a_model_without_what_the_bus_needs_is_refused() -> None:
    with pytest.raises(InvalidEvent, match="has no field event_id"):
        register_event(Leg)
    with pytest.raises(InvalidEvent, match=r"schema_version = .*give the field a default"):

        @register_event
        class NoVersion(BaseModel):
            event_id: str
            schema_version: int
            event_type: str = "x"


def test_models_are_journaled_and_read_after_a_restart(tmp_path: Path) -> None:
    events = [MODELS[1], MODELS[2], Ticket2(event_id="3", qty=1.5), MODELS[5]]
    types = [event.event_type for event in events]
    seen: list[Any] = []

    async def live(*publish: Any) -> None:
        bus = EventBus(persistence_config=PersistenceConfig(path=tmp_path / "firm.db"))
        bus.subscribe(types, lambda _: None, name="desk", restore=seen.append)
        async with bus:
            for event in publish:
                assert await bus.publish(event)
            await bus.join()

    asyncio.run(live(*(event.model_copy(update={"event_id": str(n)}) for n, event in enumerate(events))))
    assert seen == []
    asyncio.run(live())
    assert seen == [event.model_copy(update={"event_id": str(n)}) for n, event in enumerate(events)]


def test_an_iterable_that_is_read_once_is_refused_since_writing_it_has_used_it_up():
    @register_event
    class Streamed(BaseModel):
        event_type: ClassVar[str] = "streamed"
        event_id: str
        prices: Iterable[float]

    with pytest.raises(InvalidEvent, match=r"Streamed.prices"):
        encode(Streamed(event_id="1", prices=[1.0, 2.0]))
