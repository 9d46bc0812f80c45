"""Corners of the durable bus that only kills at random moments have found."""

import asyncio

from bus_helpers import an_order, virtual
from durable_kit import Disk, Named, SlowDisk, a_bus, cursor, orders, turns, written_ids

from openoutcry import BackpressureConfig, OrderEvent


def an_answer(order: OrderEvent) -> OrderEvent:
    return an_order(f"answer to {order.order_id}")


@virtual
async def test_an_outbox_whose_commit_is_under_way_when_the_bus_stops_is_settled_with_it():
    journal = SlowDisk()
    bus = a_bus(journal, sync="thread")

    async def answer(order: OrderEvent) -> None:
        if not order.order_id.startswith("answer"):
            await bus.publish(an_answer(order), level="disk")

    bus.subscribe("order", answer, name="answer", outbox=True)
    await bus.start()
    (order,) = orders(1)
    assert await bus.publish(order)
    await turns(10)  # the handler has returned, and its outbox is being synced
    assert len(written_ids(journal)) == 2
    stopping = asyncio.create_task(bus.stop(timeout_s=0))
    await turns(10)
    journal.let_go()
    await stopping
    assert cursor(journal, "answer").floor >= 1, "the outputs are there, so their cause is settled"
    (row,) = (row for row in bus.ledger().rows if row.lane == "normal")
    assert row.handled >= 1
    assert bus.ledger().balances


@virtual
async def test_an_event_of_an_earlier_life_is_true_again_also_when_there_is_no_room(disk: Disk):
    events = orders(10)
    bus = a_bus(disk.journal)
    assert await bus.publish_many(events) == 10
    journal = await disk.crash(bus)
    bus = a_bus(journal, max_queue_size=10, backpressure_config=BackpressureConfig(cooldown_s=0))
    slow = Named("slow", takes_s=1)
    bus.subscribe("order", slow.on_event, durable=False)  # it does not read on, so publishers wait for it
    async with bus:
        await bus.publish_many(orders(50, first=100))
        assert not await bus.publish(an_order("new")), "there is no room"
        assert await bus.publish(events[3])
        assert bus.metrics.duplicates == 1
    assert len(slow.ids) == len(set(slow.ids))
    assert written_ids(journal).count(events[3].event_id) == 1


@virtual
async def test_who_subscribes_while_the_bus_stops_gets_nothing_old(disk: Disk):
    bus = a_bus(disk.journal)
    late = Named("late")

    async def until_cancelled(_: OrderEvent) -> None:
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            assert not bus.is_running
            bus.subscribe("order", late.on_event)
            raise

    bus.subscribe("order", until_cancelled, name="early")
    await bus.start()
    assert await bus.publish_many(orders(3)) == 3
    await bus.stop(timeout_s=0.5)
    assert cursor(disk.journal, "late.on_event").floor == 3
    bus, late = a_bus(disk.restarted()), Named("late")
    bus.subscribe("order", late.on_event)
    async with bus:
        await bus.join()
    assert late.ids == []
