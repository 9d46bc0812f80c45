"""What is settled and not saved is bounded, however slow the disk is (CONTRACT 18)."""

import asyncio
from typing import Any

import pytest
from bus_helpers import an_order, virtual
from durable_kit import Named, a_bus

from openoutcry.errors import JournalFull
from openoutcry.journals import MemoryJournal
from openoutcry.ports import Changes
from openoutcry.runtime.delivery.offsets import UNSAVED_MOST
from openoutcry.runtime.delivery.worker import BATCH_MOST


@virtual
async def test_a_subscription_begins_nothing_before_its_cursor_is_saved_when_too_much_is_not() -> None:
    journal = MemoryJournal()
    async with a_bus(journal, max_queue_size=100_000) as bus:
        desk = Named("desk")
        subscription = bus.subscribe("order", desk.on_event)
        subscription.pause()
        await bus.publish_many([an_order() for _ in range(20_000)])
        store = bus._admission.store
        assert store is not None
        release = store.commits.hold_back()  # as while a checkpoint or a sync in a thread goes on
        subscription.resume()
        await asyncio.sleep(1)
        held = len(desk.handled)
        assert 0 < held <= UNSAVED_MOST * 4 // 3 + BATCH_MOST
        await asyncio.sleep(10)
        assert len(desk.handled) == held
        release()
        await bus.join()
        assert len(desk.handled) == 20_000


@virtual
async def test_batches_of_512_have_their_cursors_saved_with_every_other_commit_and_in_none_of_their_own() -> (
    None
):
    async with a_bus(MemoryJournal(), max_queue_size=100_000) as bus:
        bus.subscribe("order", Named("desk").on_event)
        await bus.publish_many([an_order() for _ in range(512)])
        await bus.join()
        store = bus._admission.store
        assert store is not None
        commits, saves = store.commits.commits, store.saving.saves_count
        for _ in range(20):
            await bus.publish_many([an_order() for _ in range(512)])
            await bus.join()
        assert store.commits.commits == commits + 20
        assert store.saving.saves_count in (saves + 10, saves + 11)


class Full(MemoryJournal):
    """A journal that has no room for anything once `full` is set."""

    full = False

    def write(self, entries: Any, changes: Changes | None = None) -> Any:
        if self.full:
            raise JournalFull("no room")
        return super().write(entries, changes)


@virtual
async def test_where_nothing_can_be_saved_handling_goes_on() -> None:
    journal = Full()
    async with a_bus(journal, max_queue_size=100_000) as bus:
        desk = Named("desk")
        subscription = bus.subscribe("order", desk.on_event)
        subscription.pause()
        await bus.publish_many([an_order() for _ in range(20_000)])
        journal.full = True
        with pytest.raises(JournalFull):
            await bus.publish(an_order())
        subscription.resume()
        async with asyncio.timeout(60):
            await bus.join()
        assert len(desk.handled) == 20_000
        journal.full = False
