"""An id that is no text (CONTRACT 2): refused with the same error by every way in, and nothing else is harmed."""

import asyncio
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec
import pytest
from bus_helpers import Desk, a_kill, a_signal, a_tick, an_order, assert_exactly, assert_settled, virtual

from openoutcry import Event, EventBus, EventType, InvalidEvent, PersistenceConfig

TAKEN = [EventType.MARKET_DATA, EventType.ORDER, EventType.SIGNAL, EventType.KILL_SWITCH]


class Sly(str):
    """Text that is greater than everything, and less."""

    __slots__ = ()

    def __lt__(self, other: object) -> bool:
        return True

    def __gt__(self, other: object) -> bool:
        return True


class Unhashable(str):
    """Text that is like any other."""

    __slots__ = ()
    __hash__ = None

    def __eq__(self, other: object) -> bool:
        return True


class Between:
    """No text, and between any two texts all the same."""

    def __lt__(self, other: object) -> bool:
        return True

    def __gt__(self, other: object) -> bool:
        return True


class Letter(StrEnum):
    """Text that compares as text."""

    A = "a-letter"


class Careless(Event, kw_only=True):
    """A user's event that does not have its fields looked at."""

    event_type: str = EventType.MARKET_DATA

    def __post_init__(self) -> None:
        """Call nothing of the base class."""


NO_IDS: dict[str, Any] = {
    "an int": 7,
    "none": None,
    "bytes": b"x",
    "a tuple": ("a",),
    "a list": ["a"],
    "a dict": {},
    "nothing": "",
    "an object between all texts": Between(),
    "text with an order of its own": Sly("sly"),
    "text without a hash": Unhashable("unhashable"),
}


def with_id(event: Any, event_id: Any) -> Any:
    """Return the event with an id that its class would have refused."""
    msgspec.structs.force_setattr(event, "event_id", event_id)
    return event


async def publish(bus: EventBus, event: Any, _others: list[Any]) -> None:
    await bus.publish(event)


async def publish_with_priority(bus: EventBus, event: Any, _others: list[Any]) -> None:
    await bus.publish(event, priority=True)


async def publish_nowait(bus: EventBus, event: Any, _others: list[Any]) -> None:
    bus.publish_nowait(event)


async def publish_receipt(bus: EventBus, event: Any, _others: list[Any]) -> None:
    await bus.publish_receipt(event)


async def publish_threadsafe(bus: EventBus, event: Any, _others: list[Any]) -> None:
    future = await asyncio.to_thread(bus.publish_threadsafe, event)
    await asyncio.wrap_future(future)


async def publish_signal(bus: EventBus, event: Any, _others: list[Any]) -> None:
    await bus.publish_signal(event)


async def publish_many_last(bus: EventBus, event: Any, others: list[Any]) -> None:
    await bus.publish_many([*others, event])


async def publish_many_first(bus: EventBus, event: Any, others: list[Any]) -> None:
    await bus.publish_many(others)
    await bus.publish_many([event, *others])


async def publish_many_alone(bus: EventBus, event: Any, _others: list[Any]) -> None:
    await bus.publish_many([event])


WAYS = [
    publish,
    publish_with_priority,
    publish_nowait,
    publish_receipt,
    publish_threadsafe,
    publish_signal,
    publish_many_last,
    publish_many_first,
    publish_many_alone,
]
MAKERS: dict[str, Callable[[], Any]] = {
    "tick": a_tick,
    "order": an_order,
    "signal": lambda: a_signal("momentum"),
    "kill switch": a_kill,
}


def a_bus(tmp_path: Path, *, is_durable: bool) -> EventBus:
    if is_durable:
        return EventBus(
            enable_persistence=True,
            persistence_config=PersistenceConfig(path=tmp_path / "journal.db", socket=False),
        )
    return EventBus(dedup_window=8)


@pytest.mark.parametrize("is_durable", [False, True], ids=["plain", "durable"])
@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_an_id_that_is_no_text_is_refused_with_one_error_and_harms_nothing_else(
    way, kind, is_durable, tmp_path
):
    if way is publish_signal and kind != "signal":
        pytest.skip("only signals vote")
    make, desk = MAKERS[kind], Desk()

    async def run() -> None:
        bus = a_bus(tmp_path, is_durable=is_durable)
        bus.subscribe(TAKEN, desk.on_event, name="desk")
        sent: list[Any] = []
        async with bus:
            for event_id in NO_IDS.values():
                # Some in the batch that is staged or committed with it, and one that comes behind.
                others = [make() for _ in range(3)]
                before = [make() for _ in range(12)]
                for event in before:
                    await bus.publish(event)
                with pytest.raises(InvalidEvent, match="event_id"):
                    await way(bus, with_id(make(), event_id), others)
                after = make()
                await bus.publish(after)
                sent += [*before, *(others if way in (publish_many_last, publish_many_first) else []), after]
                await bus.join()
        assert_settled(bus)
        assert_exactly(desk.handled, sent)

    asyncio.run(run())


@pytest.mark.parametrize("ids", ["in order", "random"])
@pytest.mark.parametrize("bad", NO_IDS)
@virtual
async def test_an_event_whose_class_does_not_look_at_its_id_is_refused_behind_others_of_its_class(bad, ids):
    """The last ids decide which source is followed: this is tried with one, and with none."""
    desk = Desk()

    def good(number: int) -> Careless:
        return Careless(event_id=f"feed-{number:06d}" if ids == "in order" else f"{hash((number, 1)):x}")

    async with EventBus(dedup_window=64) as bus:
        bus.subscribe(Careless, desk.on_event)
        sent = [good(number) for number in range(400)]
        for event in sent[:300]:
            await bus.publish(event)
            if len(desk.begun) < len(sent) - 200:
                await asyncio.sleep(0)
        await bus.join()
        for event in sent[300:350]:
            await bus.publish(event)
        with pytest.raises(InvalidEvent, match=r"Careless\.event_id"):
            await bus.publish(Careless(event_id=NO_IDS[bad]))
        for event in sent[350:]:
            await bus.publish(event)
        await bus.join()
        assert_exactly(desk.handled, sent)
    assert_settled(bus)


@pytest.mark.parametrize("is_durable", [False, True], ids=["plain", "durable"])
def test_an_id_of_a_class_that_compares_as_text_is_an_id(is_durable, tmp_path):
    desk = Desk()

    async def run() -> None:
        bus = a_bus(tmp_path, is_durable=is_durable)
        bus.subscribe(TAKEN, desk.on_event, name="desk")
        async with bus:
            await bus.publish(an_order())
            event = with_id(an_order(), Letter.A)
            assert await bus.publish(event)
            receipt = await bus.publish_receipt(with_id(an_order(), "a-letter"))
            assert receipt.duplicate
            await bus.join()
        assert desk.ids[1:] == ["a-letter"]

    asyncio.run(run())
