"""A firm's classes change between two lives of its bus: what the first has journaled, the second reads."""

import asyncio
import dataclasses
from decimal import Decimal
from typing import Any

import pytest
from bus_helpers import Desk, a_signal, virtual
from durable_kit import Disk, a_bus

from openoutcry import (
    NO_RETRY,
    DecidedOtherwise,
    Event,
    EventBus,
    NewerSchemaVersion,
    register_event,
    upcaster,
)
from openoutcry.events.registry import upcasters

pytestmark = pytest.mark.usefixtures("upcasters_of_this_test")


def first_release(*, foreign: bool) -> Any:
    """Define the class as the release of yesterday has it, in place of any other."""
    if foreign:

        @register_event(name="Deployed")
        @dataclasses.dataclass
        class Deployed:
            event_id: str
            qty: float = 0.0
            venue: str = "CME"
            event_type: str = "deployed"

        return Deployed

    class Deployed(Event, kw_only=True):  # type: ignore[no-redef]
        event_type: str = "deployed"
        qty: float = 0.0
        venue: str = "CME"

    return Deployed


def second_release(*, foreign: bool) -> Any:
    """Define it as today: at version 2, one field renamed, one retyped, one added."""
    if foreign:

        @register_event(name="Deployed")
        @dataclasses.dataclass
        class Deployed:
            event_id: str
            qty: Decimal = Decimal(0)
            exchange: str = "CME"
            desk: str = "main"
            event_type: str = "deployed"
            schema_version: int = 2

    else:

        class Deployed(Event, kw_only=True):  # type: ignore[no-redef]
            event_type: str = "deployed"
            schema_version: int = 2
            qty: Decimal = Decimal(0)
            exchange: str = "CME"
            desk: str = "main"

    @upcaster(Deployed, from_version=1)
    def bring_up(data: dict[str, Any]) -> dict[str, Any]:
        return {**data, "exchange": data.pop("venue"), "qty": f"{data['qty']:.2f}"}

    return Deployed


KINDS = pytest.mark.parametrize("foreign", [False, True], ids=["event", "dataclass"])


def fails(_event: Any) -> None:
    raise ValueError("not today")


async def first_life(disk: Disk, cls: Any, handler: Any, count: int = 5, **options: Any) -> Any:
    """Publish some events to a handler, kill the process, and return the journal of the next."""
    bus = a_bus(disk.journal)
    bus.subscribe("deployed", handler, name="book", **options)
    await bus.start()
    for number in range(count):
        assert await bus.publish(cls(event_id=f"d-{number}", qty=number + 0.5))
    await asyncio.sleep(1)
    await bus.flush()
    return await disk.crash(bus)


def brought_up(events: list[Any], cls: Any, count: int = 5) -> None:
    assert [event.event_id for event in events] == [f"d-{number}" for number in range(count)]
    assert {type(event) for event in events} == {cls}
    assert [str(event.qty) for event in events] == [f"{number}.50" for number in range(count)]
    assert {(event.exchange, event.desk, event.schema_version) for event in events} == {("CME", "main", 2)}


@KINDS
@virtual
async def test_unsettled_events_of_an_older_release_are_handed_over_brought_up(disk: Disk, foreign: bool):
    async def never(_event: Any) -> None:
        await asyncio.Event().wait()

    journal = await first_life(disk, first_release(foreign=foreign), never)
    cls, seen = second_release(foreign=foreign), Desk()
    async with a_bus(journal) as bus:
        bus.subscribe("deployed", seen.on_event, name="book")
        await bus.join()
    brought_up(seen.handled, cls)


@KINDS
@virtual
async def test_memory_and_history_are_restored_from_events_of_an_older_release(disk: Disk, foreign: bool):
    journal = await first_life(disk, first_release(foreign=foreign), Desk().on_event)
    cls, remembered, seen = second_release(foreign=foreign), [], Desk()
    bus = a_bus(journal)
    bus.subscribe("deployed", seen.on_event, name="book", restore=remembered.append)
    async with bus:
        brought_up(remembered, cls)
        brought_up(bus.get_event_history("deployed"), cls)
        assert seen.handled == []


@KINDS
@virtual
async def test_dead_letters_of_an_older_release_are_shown_and_redriven_brought_up(disk: Disk, foreign: bool):
    journal = await first_life(disk, first_release(foreign=foreign), fails, retry=NO_RETRY)
    cls, seen = second_release(foreign=foreign), Desk()
    bus = a_bus(journal)
    bus.subscribe("deployed", seen.on_event, name="book")
    async with bus:
        brought_up([letter.event for letter in bus.dead_letters("book")], cls)
        assert bus.admin.redrive("book") == 5
        await bus.join()
        brought_up(seen.handled, cls)
        assert bus.dead_letters("book") == []


@KINDS
@virtual
async def test_after_a_roll_back_newer_events_are_dead_letters_and_are_read_again_later(
    disk: Disk, foreign: bool
):
    async def never(_event: Any) -> None:
        await asyncio.Event().wait()

    first_release(foreign=foreign)
    cls = second_release(foreign=foreign)
    bus = a_bus(disk.journal)
    bus.subscribe("deployed", never, name="book")
    await bus.start()
    for number in range(5):
        assert await bus.publish(cls(event_id=f"d-{number}", qty=Decimal(f"{number}.50")))
    await bus.flush()
    journal = await disk.crash(bus)
    payloads = [stored.payload for stored in journal.read(0, 9)]

    upcasters.pop("Deployed")
    first_release(foreign=foreign)
    bus = a_bus(journal)
    bus.subscribe("deployed", fails, name="book")
    async with bus:
        await bus.join()
        letters = bus.dead_letters("book")
        assert len(letters) == 5
        assert all(isinstance(letter.event.error, NewerSchemaVersion) for letter in letters)
        assert [letter.event.payload for letter in letters] == payloads, "byte for byte"
        assert "is at version 1 here, and the data is of version 2" in letters[0].error
        await bus.flush()
    journal = disk.restarted()
    assert [stored.payload for stored in journal.read(0, 9)] == payloads

    cls, seen = second_release(foreign=foreign), Desk()
    bus = a_bus(journal)
    bus.subscribe("deployed", seen.on_event, name="book")
    async with bus:
        assert bus.admin.redrive("book") == 5
        await bus.join()
        brought_up(seen.handled, cls)


class Author:
    """Publishes an event for each signal, and does not come to its end in its first life."""

    def __init__(self, bus: EventBus, make: Any, *, ends: bool) -> None:
        self.bus, self.make, self.ends = bus, make, ends
        self.errors: list[Exception] = []

    async def on_signal(self, signal: Any) -> None:
        try:
            await self.bus.publish(self.make())
        except DecidedOtherwise as error:
            self.errors.append(error)
            raise
        if not self.ends:
            await asyncio.Event().wait()


async def decided_before(disk: Disk, make: Any) -> Any:
    bus = a_bus(disk.journal)
    bus.subscribe("signal", Author(bus, make, ends=False).on_signal, name="author")
    await bus.start()
    await bus.publish(a_signal("m"))
    await asyncio.sleep(1)
    await bus.flush()
    return await disk.crash(bus)


async def decided_after(journal: Any, make: Any) -> Author:
    bus = a_bus(journal)
    author = Author(bus, make, ends=True)
    bus.subscribe("signal", author.on_signal, name="author", retry=NO_RETRY)
    async with bus:
        await bus.join()
        assert journal.head == 2, "the signal, and what was published first"
        assert bus.metrics.conflicts == 0
    return author


@virtual
async def test_a_decision_of_an_older_release_is_compared_in_the_fields_that_it_had(disk: Disk):
    cls = first_release(foreign=False)
    journal = await decided_before(disk, lambda: cls(qty=1.5))
    newer = second_release(foreign=False)
    author = await decided_after(journal, lambda: newer(qty=Decimal("1.50"), exchange="CME", desk="rates"))
    assert author.errors == []


@virtual
async def test_another_decision_than_that_of_an_older_release_is_told(disk: Disk):
    cls = first_release(foreign=False)
    journal = await decided_before(disk, lambda: cls(qty=1.5))
    newer = second_release(foreign=False)
    author = await decided_after(journal, lambda: newer(qty=Decimal("9.50"), desk="rates"))
    (error,) = author.errors
    assert isinstance(error, DecidedOtherwise)
    assert error.fields == ("qty",)


@virtual
async def test_after_a_roll_back_a_decision_is_compared_in_the_fields_that_both_have(disk: Disk):
    metaclass: Any = type(Event)

    def with_field(version: int, **added: Any) -> Any:
        namespace = {"event_type": "grown", "schema_version": version, "size": 0, **added}
        notes = {name: type(value) for name, value in namespace.items()}
        return metaclass("Grown", (Event,), {**namespace, "__annotations__": notes, "__module__": __name__})

    newer = with_field(2, desk="main")
    journal = await decided_before(disk, lambda: newer(size=1, desk="rates"))
    older = with_field(1)
    author = await decided_after(journal, lambda: older(size=1))
    assert author.errors == []
