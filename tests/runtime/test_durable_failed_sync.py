"""What a failed sync leaves behind is handed to nobody in this life, however a lane gets its events (CONTRACT 14, 16)."""

import asyncio
from typing import Any

import pytest
from bus_helpers import an_order, virtual
from durable_kit import Faulty, a_bus, ids, orders, others_go_on

from openoutcry.errors import JournalDead


class Noting:
    name = "desk"

    def __init__(self) -> None:
        self.handled: list[Any] = []

    async def on_event(self, event: Any) -> None:
        self.handled.append(event)


@virtual
async def test_a_lane_that_reads_on_from_the_journal_is_not_handed_what_a_failed_sync_left_there():
    journal = Faulty()
    bus = a_bus(journal, max_queue_size=2)
    desk = Noting()
    subscription = bus.subscribe("order", desk.on_event)
    others_go_on(bus)
    await bus.start()
    subscription.pause()
    some = orders(3)
    for order in some:
        assert await bus.publish(order)
    assert subscription.stats(0).behind
    journal.fail_next("sync", JournalDead("the disk is gone"))
    with pytest.raises(JournalDead):
        await bus.publish(an_order("o-9"), level="disk")
    subscription.resume()
    await asyncio.sleep(1)
    assert ids(desk.handled) == ids(some)
    await bus.stop()


@virtual
async def test_what_a_failed_sync_left_in_the_journal_is_no_duplicate_when_there_is_no_room():
    journal = Faulty()
    bus = a_bus(journal, max_queue_size=2)
    subscription = bus.subscribe("*", Noting().on_event)
    await bus.start()
    subscription.pause()
    journal.fail_next("sync", JournalDead("the disk is gone"))
    order = an_order("o-9")
    with pytest.raises(JournalDead):
        await bus.publish(order, level="disk")
    while await bus.publish(an_order(), level="memory"):
        pass
    assert not await bus.publish(order, level="disk")
    await bus.stop(timeout_s=0)
