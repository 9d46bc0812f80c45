"""What is committed while the bus does not run: before a start, and while it stops (CONTRACT 1, 7, 27)."""

import asyncio
from typing import Any

from bus_helpers import a_kill, an_order, virtual
from durable_kit import SlowDisk, a_bus, cursor, ids, orders, turns

from openoutcry import EventBus
from openoutcry.journals import MemoryJournal


class Noting:
    def __init__(self, name: str) -> None:
        self.name = name
        self.handled: list[Any] = []

    async def on_event(self, event: Any) -> None:
        self.handled.append(event)


async def _stopped_before_the_sync_ends(bus: EventBus, disk: SlowDisk) -> None:
    """(Without a timer: virtual time would wait for the thread that syncs, in real seconds.)"""
    stopping = asyncio.create_task(bus.stop(timeout_s=0))
    await turns(20)
    assert not stopping.done()
    disk.let_go()
    await stopping


@virtual
async def test_what_was_still_being_synced_at_the_stop_is_handled_by_the_next_life():
    disk = SlowDisk()
    bus = a_bus(disk, sync="thread")
    desk = Noting("desk")
    bus.subscribe("order", desk.on_event)
    await bus.start()
    order = an_order("o-1")
    told = asyncio.create_task(bus.publish(order, level="disk"))
    await turns()
    await _stopped_before_the_sync_ends(bus, disk)
    assert await told
    assert desk.handled == []
    assert cursor(disk, "desk.on_event").floor == 0
    again = a_bus(disk.reopened())
    again.subscribe("order", desk.on_event)
    await again.start()
    await again.join()
    assert ids(desk.handled) == ids([order])
    await again.stop()


@virtual
async def test_what_was_still_being_synced_at_the_stop_is_handled_when_the_same_bus_starts_again():
    disk = SlowDisk()
    bus = a_bus(disk, sync="thread")
    desk = Noting("desk")
    bus.subscribe("*", desk.on_event)
    await bus.start()
    some = [an_order("o-1"), an_order("o-2")]
    told = [asyncio.create_task(bus.publish(o, priority=n == 1, level="disk")) for n, o in enumerate(some)]
    await turns()
    await _stopped_before_the_sync_ends(bus, disk)
    assert await asyncio.gather(*told) == [True, True]
    await bus.start()
    await bus.join()
    assert sorted(ids(desk.handled)) == sorted(ids(some))
    await bus.stop()


@virtual
async def test_a_subscription_that_is_not_durable_gets_what_was_published_before_the_start_in_order():
    bus = a_bus(MemoryJournal())
    passing, durable = Noting("passing"), Noting("durable")
    bus.subscribe("*", passing.on_event, durable=False)
    some = orders(6)
    for number, order in enumerate(some):
        assert await bus.publish(order, level="memory" if number % 2 else None)
    bus.subscribe("*", durable.on_event)
    urgent = an_order("urgent")
    await bus.publish(urgent, priority=True)
    await bus.publish(a_kill())
    await bus.start()
    await bus.join()
    for desk in (passing, durable):
        lane = [event for event in desk.handled if event in some]
        assert ids(lane) == ids(some)
        assert urgent in desk.handled
        assert len(desk.handled) == len(some) + 2
    await bus.stop()
