"""Ids that are published again: windows, conflicts, receipts, amended copies (CONTRACT 1, 2, 35)."""

import asyncio
import logging
import subprocess
import sys
from typing import Any

import msgspec
import pytest
from bus_helpers import (
    Desk,
    a_decision,
    a_fill,
    a_kill,
    a_signal,
    a_tick,
    an_order,
    assert_settled,
    ticks,
    virtual,
)
from durable_kit import DeskNote, Disk, a_bus

from openoutcry import BackpressureConfig, Event, EventBus, InvalidEvent, MarketDataEvent, RetryPolicy
from openoutcry.core.health import EventBusHealthStatus
from openoutcry.journals import MemoryJournal


class Quote(Event, kw_only=True):
    """A user's own type that comes in great numbers, and is not declared to be shed first."""

    event_type: str = "quote"
    size: int = 0


class Plain:
    """A class of nothing in particular."""

    event_type = "plain"

    def __init__(self, event_id: str, text: Any) -> None:
        self.event_id = event_id
        self.text = text


class Slotted:
    __slots__ = ("event_id", "text")
    event_type = "slotted"

    def __init__(self, event_id: str, text: Any) -> None:
        self.event_id = event_id
        self.text = text


IMPORTANT = pytest.mark.parametrize(
    "make",
    [
        an_order,
        a_fill,
        lambda: a_signal("m"),
        a_decision,
        lambda: Quote(size=1),
        lambda: DeskNote("n-1", "text"),
        lambda: Event(event_type="own"),
        a_kill,
    ],
    ids=["order", "fill", "signal", "decision", "subclass", "dataclass", "free type", "kill switch"],
)


# -- windows apart ------------------------------------------------------------------------------------


@IMPORTANT
@pytest.mark.parametrize("one_by_one", [True, False])
@virtual
async def test_ticks_never_push_out_the_id_of_anything_else(make: Any, one_by_one: bool):
    """CONTRACT 35: the same event, published again after many ticks, is handled once."""
    handled = Desk()
    async with EventBus(dedup_window=100) as bus:
        bus.subscribe("*", handled.on_event)
        event = make()
        await bus.publish(event)
        for number in range(20):
            some = ticks(100, number * 100)
            if one_by_one:
                for tick in some:
                    await bus.publish(tick)
            else:
                await bus.publish_many(some)
            await bus.join()
        assert await bus.publish(event)
        await bus.join()
        assert handled.handled.count(event) == 1
        assert bus.metrics.duplicates == 1
        assert_settled(bus)


@virtual
async def test_ids_among_ticks_in_one_batch_are_kept_apart_too():
    """Also where ticks, orders and users' types are delivered together, and another type comes in numbers."""
    desk = Desk()
    async with EventBus(dedup_window=100) as bus:
        bus.subscribe("*", desk.on_event)
        kept = [an_order(), Quote(), DeskNote("n", "x"), Event(event_type="own"), a_fill(), a_signal("m")]
        mixed = [event for one in kept for event in (a_tick(), one)]
        for event in mixed:
            await bus.publish(event)
        await bus.join()
        for _ in range(50):
            await bus.publish_many([*ticks(60), *(Event(event_type="noise") for _ in range(60))])
            await bus.join()
        for event in kept:
            assert await bus.publish(event)
        await bus.join()
        assert bus.metrics.duplicates == len(kept)
        assert all(desk.handled.count(event) == 1 for event in kept)


@virtual
async def test_a_users_own_ticks_push_out_nothing_but_themselves():
    desk = Desk()
    async with EventBus(dedup_window=100) as bus:
        bus.subscribe("*", desk.on_event)
        order, first = an_order(), Quote()
        await bus.publish(order)
        await bus.publish(first)
        for _ in range(10):
            await bus.publish_many([Quote() for _ in range(100)])
            await bus.join()
        await bus.publish(order)
        assert bus.metrics.duplicates == 1
        await bus.publish(first)
        assert bus.metrics.duplicates == 1, "forgotten: a thousand of its own type have come"
        await bus.join()


@virtual
async def test_types_declared_to_be_shed_first_are_not_kept_apart():
    config = BackpressureConfig(shed_first=frozenset({"market_data", "quote"}))
    async with EventBus(dedup_window=100, backpressure_config=config) as bus:
        bus.subscribe("*", Desk().on_event)
        first = Quote()
        await bus.publish(first)
        for _ in range(5):
            await bus.publish_many(ticks(100))
            await bus.join()
        await bus.publish(first)
        assert bus.metrics.duplicates == 0


@virtual
async def test_what_is_kept_apart_is_bounded_in_entries_time_and_types():
    async with EventBus(dedup_window=50, dedup_window_s=60.0) as bus:
        bus.subscribe("*", Desk().on_event)
        for number in range(100):
            await bus.publish_many([Event(event_type=f"type-{number}") for _ in range(100)])
            await bus.join()
        seen = bus._bus.seen
        assert len(seen.ids()) < 50 * 2 * 40
        order = an_order()
        await bus.publish(order)
        await bus.join()
        for _ in range(3):
            await asyncio.sleep(61)
            await bus.publish(a_tick())
            await bus.join()
        await bus.publish(order)
        assert bus.metrics.duplicates == 0, "forgotten after its time"


@virtual
async def test_an_order_published_before_the_start_is_remembered_over_ticks():
    desk = Desk()
    bus = EventBus(dedup_window=100)
    bus.subscribe("*", desk.on_event)
    order = an_order()
    await bus.publish(order)
    async with bus:
        for _ in range(10):
            await bus.publish_many(ticks(100))
            await bus.join()
        await bus.publish(order)
        await bus.join()
        assert desk.handled.count(order) == 1


# -- conflicts ----------------------------------------------------------------------------------------

PAIRS = pytest.mark.parametrize(
    ("one", "other"),
    [
        (a_tick(1.0, "BTC", event_id="7"), a_tick(1.0, "ETH", event_id="7")),
        (an_order("o-1", event_id="7"), an_order("o-2", event_id="7")),
        (an_order("o-1", event_id="7"), a_fill("o-1", event_id="7")),
        (a_fill("f-1", event_id="7"), a_fill("f-2", event_id="7")),
        (a_kill(reason="one", event_id="7"), a_kill(reason="two", event_id="7")),
        (DeskNote("7", "one"), DeskNote("7", "two")),
        (Plain("7", "one"), Plain("7", "two")),
        (Slotted("7", "one"), Slotted("7", "two")),
        (Plain("7", [1.0]), Plain("7", [2.0])),
    ],
    ids=["ticks", "orders", "classes", "fills", "kills", "dataclasses", "plain", "slots", "lists"],
)


@PAIRS
@pytest.mark.parametrize("when", ["at once", "in flight", "handled", "before the start"])
@virtual
async def test_an_id_used_again_for_other_content_is_flagged_and_the_first_stands(
    one: Any, other: Any, when: str, caplog: pytest.LogCaptureFixture
):
    """CONTRACT 35: in memory too."""
    desk = Desk()
    bus = EventBus()
    bus.subscribe("*", desk.on_event, name="all")
    if when == "before the start":
        assert await bus.publish(one)
        assert await bus.publish(other) is True
    await bus.start()
    if when == "in flight":
        bus.subscription("all").pause()
    if when != "before the start":
        assert await bus.publish(one)
        if when == "handled":
            await bus.join()
        assert await bus.publish(other) is True
    bus.subscription("all").resume()
    await bus.join()
    assert desk.handled == [one]
    assert (bus.metrics.conflicts, bus.metrics.duplicates) == (1, 1)
    assert "other content" in caplog.text
    health = await bus.check_health()
    assert [finding.check for finding in health.findings] == ["conflict"]
    assert health.status is EventBusHealthStatus.DEGRADED
    await bus.stop()


@virtual
async def test_a_conflict_is_a_finding_for_some_minutes():
    async with EventBus() as bus:
        await bus.publish(a_tick(1.0, event_id="7"))
        await bus.publish(a_tick(2.0, event_id="7"))
        assert not bus.is_healthy
        await asyncio.sleep(601)
        assert bus.is_healthy
        assert bus.metrics.conflicts == 1
        bus.reset_metrics()
        assert bus.metrics.conflicts == 0


@virtual
async def test_the_same_content_is_no_conflict():
    nan = float("nan")
    events = [
        a_tick(1.0, event_id="tick"),
        DeskNote("note", "x", latency=nan),
        Plain("plain", [nan, {"k": (1, 2)}]),
        Plain("object", object),
        an_order("o", event_id="order"),
    ]
    again = [
        a_tick(1.0, event_id="tick", timestamp=5),
        DeskNote("note", "x", latency=nan),
        Plain("plain", [float("nan"), {"k": (1, 2)}]),
        Plain("object", object),
        an_order("o", event_id="order"),
    ]
    async with EventBus() as bus:
        for event in (*events, *events, *again):
            assert await bus.publish(event)
        assert bus.metrics.duplicates == 10
        assert bus.metrics.conflicts == 0


@virtual
async def test_a_flood_of_conflicts_is_logged_once_per_type_and_minute(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.WARNING)
    async with EventBus() as bus:
        bus.subscribe("*", Desk().on_event)
        first = [a_tick(1.0, event_id=f"t-{number}") for number in range(3_000)]
        await bus.publish_many(first)
        await bus.join()
        for number in range(3_000):
            await bus.publish(a_tick(2.0, event_id=f"t-{number}"))
        assert await bus.publish(an_order("1", event_id="o"))
        assert await bus.publish(an_order("2", event_id="o"))
        assert bus.metrics.conflicts == 3_001
        told = [r for r in caplog.records if "other content" in r.getMessage()]
        assert len(told) == 2
        await asyncio.sleep(61)
        await bus.publish(a_tick(3.0, event_id="t-5"))
        told = [r for r in caplog.records if "other content" in r.getMessage()]
        assert len(told) == 3
        assert "2999" in told[-1].getMessage()


@virtual
async def test_a_conflict_with_what_the_journal_has_is_flagged_after_a_restart(disk: Disk):
    async with a_bus(disk.journal) as bus:
        await bus.publish(an_order("o-1", event_id="7"))
    async with a_bus(disk.restarted()) as bus:
        assert await bus.publish(an_order("o-2", event_id="7"))
        assert bus.metrics.conflicts == 1
        assert await bus.publish(an_order("o-1", event_id="7"))
        assert bus.metrics.conflicts == 1
        assert bus.get_status()["journal"]["conflicts"] == 1


@virtual
async def test_what_an_older_version_of_the_class_wrote_is_no_conflict(disk: Disk):
    """CONTRACT 34: missing fields have their defaults."""

    class Old(Event, kw_only=True, tag="Versioned"):
        event_type: str = "versioned"
        size: int = 0

    async with a_bus(disk.journal) as bus:
        await bus.publish(Old(event_id="7", size=1))

    class New(Event, kw_only=True, tag="Versioned"):
        event_type: str = "versioned"
        size: int = 0
        note: str = ""

    New.__qualname__ = Old.__qualname__ = "Versioned"
    async with a_bus(disk.restarted()) as bus:
        await bus.publish(New(event_id="7", size=1))
        assert bus.metrics.conflicts == 0
        await bus.publish(New(event_id="7", size=2))
        assert bus.metrics.conflicts == 1


# -- receipts -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("journaled", [False, True])
@virtual
async def test_a_receipt_is_true_for_nothing_but_a_new_event_that_somebody_takes(journaled: bool):
    bus = a_bus(MemoryJournal(), max_queue_size=10) if journaled else EventBus(10)
    async with bus:
        bus.subscribe("order", Desk().on_event, name="desk")
        accepted = await bus.publish_receipt(an_order("1", event_id="7"))
        duplicate = await bus.publish_receipt(an_order("1", event_id="7"))
        conflicting = await bus.publish_receipt(an_order("2", event_id="7"))
        unheard = await bus.publish_receipt(a_fill())
        bus.subscription("desk").pause()
        receipts = [await bus.publish_receipt(an_order(str(number))) for number in range(12)]
        receipts = [accepted, duplicate, conflicting, unheard, receipts[-1]]
        outcomes = ["accepted", "duplicate", "conflicting", "unheard", "refused"]
        assert [receipt.outcome for receipt in receipts] == outcomes
        assert [bool(receipt) for receipt in receipts] == [True, False, False, False, False]
        assert [receipt.accepted for receipt in receipts] == [True, True, True, True, False]
        assert [receipt.duplicate for receipt in receipts] == [False, True, True, False, False]
        bus.subscription("desk").resume()
        await bus.join()


@virtual
async def test_a_receipt_tells_what_an_earlier_life_has_accepted(disk: Disk):
    async with a_bus(disk.journal) as bus:
        await bus.publish(an_order("1", event_id="7"))
    async with a_bus(disk.restarted()) as bus:
        assert (await bus.publish_receipt(an_order("2", event_id="7"))).outcome == "conflicting"
        assert (await bus.publish_receipt(an_order("1", event_id="7"))).outcome == "duplicate"
        assert bus.metrics.conflicts == 1


@virtual
async def test_before_the_start_a_receipt_does_not_say_that_nobody_listens():
    bus = EventBus()
    assert (await bus.publish_receipt(an_order())).outcome == "accepted"
    await bus.stop()


# -- amended copies -----------------------------------------------------------------------------------


@virtual
async def test_an_amended_copy_is_an_event_of_its_own():
    desk = Desk()
    async with EventBus() as bus:
        bus.subscribe("market_data", desk.on_event)
        tick = a_tick(5000.0)
        await bus.publish(tick)
        better = tick.amended(price=5001.0)
        assert (await bus.publish_receipt(better)).outcome == "accepted"
        assert (
            await bus.publish_receipt(msgspec.structs.replace(tick, price=5002.0))
        ).outcome == "conflicting"
        await bus.join()
        assert [tick.price for tick in desk.handled] == [5000.0, 5001.0]
        assert better.timestamp_ns == tick.timestamp_ns


@virtual
async def test_an_amended_copy_made_by_a_handler_has_its_id_and_links_from_there(disk: Disk):
    copies: list[Any] = []
    first = an_order(correlation_id="chain", causation_id="somebody", round_id="round")
    async with a_bus(disk.journal) as bus:

        async def agent(order: Any) -> None:
            if order.quantity == 1.0:
                copies.append(order.amended(quantity=2.0))
                assert (copies[-1].causation_id, copies[-1].round_id) == (None, None)
                await bus.publish(copies[-1])
                if len(copies) == 1:
                    raise ValueError("later")

        bus.subscribe("order", agent, name="agent", retry=RetryPolicy(attempts=3, first_s=0.01))
        await bus.publish(first)
        await bus.join()
        assert len(copies) == 2
        assert copies[0].event_id == copies[1].event_id != first.event_id
        assert copies[0].causation_id == first.event_id
        assert copies[0].correlation_id == "chain"
        assert bus.dead_letters() == []


def test_the_changes_of_an_amended_copy_are_checked():
    tick = a_tick(1.0)
    with pytest.raises(InvalidEvent, match="price"):
        tick.amended(price="dear")
    with pytest.raises(InvalidEvent, match="symbol"):
        tick.amended(symbol="")
    with pytest.raises(InvalidEvent, match="event_type"):
        tick.amended(event_type="order")
    with pytest.raises(InvalidEvent, match="to be amended"):
        tick.amended(event_id=tick.event_id)
    assert tick.amended(event_id="mine").event_id == "mine"
    assert tick.amended(timestamp=5).timestamp_ns == 5
    assert type(tick.amended()) is MarketDataEvent


CHILD = """
import asyncio, sys
from openoutcry import *
async def main():
    handled = []
    async with EventBus() as bus:
        bus.subscribe("order", lambda order: handled.append(order.order_id))
        order = OrderEvent(order_id="1", symbol="ES", side="buy", quantity=1)
        await bus.publish(order)
        for _ in range(100):
            await bus.publish_many([MarketDataEvent(symbol="ES", price=1.0) for _ in range(1_000)])
            await bus.join()
        await bus.publish(order)
        await bus.join()
        print(handled)
asyncio.run(main())
"""


def test_with_the_defaults_an_order_is_recognised_after_a_hundred_thousand_ticks():
    found = subprocess.run(
        [sys.executable, "-c", CHILD],
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.strip() == "['1']"


@pytest.mark.parametrize("is_same_life", [True, False])
@pytest.mark.parametrize("make", [lambda: an_order("o", event_id="x"), lambda: DeskNote("x", "text")])
@virtual
async def test_what_the_journal_has_is_a_duplicate_at_memory_too(disk: Disk, make: Any, is_same_life: bool):
    """CONTRACT 2: de-duplication lasts as long as the journal keeps the event."""
    desk = Desk()
    bus = a_bus(disk.journal, dedup_window=5)
    bus.subscribe("*", desk.on_event, name="desk")
    await bus.start()
    await bus.publish(make())
    await bus.publish_many([an_order(f"o-{number}") for number in range(50)])
    await bus.join()
    if not is_same_life:
        await bus.stop()
        bus = a_bus(disk.restarted())
        bus.subscribe("*", desk.on_event, name="desk")
        await bus.start()
    assert await bus.publish(make(), level="memory")
    assert bus.publish_nowait(make(), level="memory")
    assert (await bus.publish_receipt(make(), level="memory")).outcome == "duplicate"
    await bus.join()
    assert bus.metrics.duplicates == 3
    assert [event.event_id for event in desk.handled].count("x") == 1
    await bus.stop()
