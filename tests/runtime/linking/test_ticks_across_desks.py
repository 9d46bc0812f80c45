"""Ticks across desks: the newest counts, nobody waits, and what is let go or lost is counted."""

import asyncio

from bus_helpers import a_tick, ticks, virtual
from desk_kit import Desk, passes, running

from openoutcry import BackpressureConfig, EventType
from openoutcry.links.memory_hub import MemoryHub

TICKS = [EventType.MARKET_DATA]


def seen_by(desk, **options):
    found = []
    desk.bus.subscribe(EventType.MARKET_DATA, found.append, name=f"{desk.name}.ticks", **options)
    return found


def two(hub, tmp_path, **fields):
    return (Desk(hub, name, tmp_path / name, **fields) for name in ("floor", "street"))


@virtual
async def test_a_tick_reaches_a_desk_that_takes_its_type(tmp_path):
    hub = MemoryHub()
    floor, street = two(hub, tmp_path)
    seen = seen_by(street)
    async with running(floor, street):
        await passes(0.5)
        tick = a_tick(5.0, round_id="r-1")
        await floor.bus.publish(tick)
        await passes(0.1)
        assert seen == [tick]
        await passes(1)
        assert seen == [tick]


@virtual
async def test_what_came_from_elsewhere_is_not_sent_on(tmp_path):
    hub = MemoryHub()
    floor, street = two(hub, tmp_path)
    third = Desk(hub, "third", tmp_path / "third")
    seen = seen_by(third)
    async with running(floor, street, third):
        await passes(0.5)
        for price in range(50):
            await floor.bus.publish(a_tick(float(price + 1)))
            await passes(0.01)
        await passes(1)
        assert len(seen) == 50
        assert floor.linking.tick_sender.sent == 50
        assert street.linking.tick_sender.sent == third.linking.tick_sender.sent == 0
        assert not street.linking.tick_sender._foreign


@virtual
async def test_ticks_of_one_turn_are_one_message_and_the_newest_of_a_symbol_is_admitted(tmp_path):
    hub = MemoryHub()
    floor, street = two(hub, tmp_path)
    seen = seen_by(street)
    async with running(floor, street):
        await passes(0.5)
        await floor.bus.publish_many([*ticks(100, symbol="ES"), *ticks(100, symbol="NQ")])
        await passes(0.1)
        assert {tick.symbol: tick.price for tick in seen} == {"ES": 100.0, "NQ": 100.0}
        (its,) = street.linking.tick_receiver.desks.values()
        assert (its.came, its.conflated, its.lost) == (200, 200 - len(seen), 0)
        assert len(seen) < 10


@virtual
async def test_a_tick_of_a_round_is_not_replaced_by_one_that_asks_for_nothing(tmp_path):
    hub = MemoryHub()
    floor, street = two(hub, tmp_path)
    seen = seen_by(street)
    async with running(floor, street):
        await passes(0.5)
        await floor.bus.publish_many([a_tick(1.0, round_id="r-1"), a_tick(2.0)])
        await passes(0.1)
        assert [tick.round_id for tick in seen] == ["r-1", None]


@virtual
async def test_what_never_came_is_counted(tmp_path):
    hub = MemoryHub()
    floor, street = two(hub, tmp_path)
    async with running(floor, street):
        await passes(0.5)
        await floor.bus.publish(a_tick(1.0))
        await passes(0.1)
        hub.cut("street")
        for price in range(7):
            await floor.bus.publish(a_tick(float(price + 1)))
            await passes(0.01)
        hub.heal("street")
        await floor.bus.publish(a_tick(9.0))
        await passes(0.1)
        assert street.linking.tick_receiver.desks["floor"].lost == 7


@virtual
async def test_who_takes_no_market_data_is_sent_none(tmp_path):
    hub = MemoryHub()
    floor, street = Desk(hub, "floor", tmp_path / "f"), Desk(hub, "street", tmp_path / "s", imports=["fill"])
    async with running(floor, street):
        await passes(0.5)
        await floor.bus.publish(a_tick())
        await passes(0.1)
        assert floor.linking.tick_sender.sent == 0
        assert floor.bus._admission.dispatcher._tap is None


@virtual
async def test_nothing_is_remembered_of_ticks_where_none_are_sent(tmp_path):
    hub = MemoryHub()
    floor = Desk(hub, "floor", tmp_path / "floor", imports=["fill"])
    street = Desk(hub, "street", tmp_path / "street")
    seen = seen_by(street)
    async with running(floor, street):
        await passes(0.5)
        for price in range(100):
            await floor.bus.publish(a_tick(float(price + 1)))
            await passes(0.01)
        assert len(seen) == 100
        assert not street.linking.tick_sender._foreign


@virtual
async def test_who_keeps_market_data_sends_none(tmp_path):
    hub = MemoryHub()
    floor, street = two(hub, tmp_path, keep=TICKS)
    async with running(floor, street):
        await passes(0.5)
        await floor.bus.publish(a_tick())
        await passes(0.1)
        assert floor.linking.tick_sender.sent == 0


@virtual
async def test_a_full_desk_is_offered_the_newest_again_and_harms_nobody(tmp_path):
    hub = MemoryHub()
    floor = Desk(hub, "floor", tmp_path / "floor")
    street = Desk(
        hub, "street", tmp_path / "street", max_queue_size=10, backpressure_config=BackpressureConfig()
    )
    seen, gate = [], asyncio.Event()

    async def slowly(tick):
        seen.append(tick)
        await gate.wait()

    street.bus.subscribe(EventType.MARKET_DATA, slowly, name="street.slow")
    async with running(floor, street):
        await passes(0.5)
        for price in range(200):
            assert await floor.bus.publish(a_tick(float(price + 1), symbol=f"S{price % 50}"))
            await passes(0.001)
        await passes(0.5)
        assert len(street.linking.tick_receiver._newest) <= 50
        gate.set()
        await passes(5)
        newest = {tick.symbol: tick.price for tick in seen}
        assert newest == {f"S{number}": 151.0 + number for number in range(50)}


@virtual
async def test_more_than_can_be_sent_is_conflated_at_the_sender(tmp_path):
    hub = MemoryHub()
    floor, street = two(hub, tmp_path)
    async with running(floor, street):
        await passes(0.5)
        sender = floor.linking.tick_sender
        sender._is_sending = True  # a message is on its way, and stays there
        for first in range(0, 10_000, 500):
            await floor.bus.publish_many(ticks(500, first=first + 1))
        await passes(0.1)
        assert len(sender._waiting) <= 4_096
        assert len(sender._waiting) + sender.let_go == 10_000
        assert sender._waiting[-1].price == 10_000.0
        sender._is_sending = False


@virtual
async def test_market_data_that_is_journaled_here_is_not_sent_as_a_tick(tmp_path):
    hub = MemoryHub()
    floor = Desk(hub, "floor", tmp_path / "floor", levels={"market_data": "process"})
    street = Desk(hub, "street", tmp_path / "street")
    async with running(floor, street):
        await passes(0.5)
        await floor.bus.publish(a_tick())
        await passes(0.1)
        assert floor.linking.tick_sender.sent == 0


@virtual
async def test_a_tick_is_not_journaled_where_market_data_is(tmp_path):
    hub = MemoryHub()
    floor = Desk(hub, "floor", tmp_path / "floor")
    street = Desk(hub, "street", tmp_path / "street", levels={"market_data": "process"})
    seen = seen_by(street)
    async with running(floor, street):
        await passes(0.5)
        await floor.bus.publish(a_tick())
        await passes(0.1)
        assert len(seen) == 1
        assert street.bus.persistence.journal.read(0, 10) == []


@virtual
async def test_garbage_on_the_topic_harms_nobody(tmp_path):
    hub = MemoryHub()
    floor, street = two(hub, tmp_path)
    seen = seen_by(street)
    async with running(floor, street):
        await passes(0.5)
        for data in (
            b"",
            b"{}",
            b"[]",
            b'{"number":0,"events":[1,null,{}, {"event_type":"market_data","symbol":"X"}]}',
            b"\xff",
        ):
            await floor.transport.broadcast("md", data)
        await floor.bus.publish(a_tick())
        await passes(0.1)
        assert len(seen) == 1


@virtual
async def test_a_type_that_another_desk_takes_and_no_journal_keeps_is_named_once(tmp_path, caplog):
    hub = MemoryHub()
    floor = Desk(hub, "floor", tmp_path / "floor", levels={"order": "memory", "signal": "memory"})
    street = Desk(hub, "street", tmp_path / "street", imports=["order", "fill", "market_data"])
    async with running(floor, street):
        await passes(5)
    assert caplog.text.count("imports 'order', which this desk keeps at the level 'memory'") == 1
    assert "'signal'" not in caplog.text
    assert "'market_data'" not in caplog.text
