"""Kill switches at awkward moments of a durable bus: while they are committed, while it starts, while it stops."""

import asyncio
from typing import Any

import pytest
from bus_helpers import Desk, a_fill, a_kill, a_tick, an_order, assert_settled, virtual
from durable_kit import Faulty, Named, SlowDisk, a_bus, cursor, quick_stall, turns

from openoutcry import EventBus
from openoutcry.errors import JournalFull
from openoutcry.journals import MemoryJournal

EVERYTHING = "*"


async def _life_with(journal: MemoryJournal, *desks: Named) -> None:
    """A life in which the desks get their cursors."""
    bus = a_bus(journal)
    for desk in desks:
        bus.subscribe(EVERYTHING, desk.on_event)
    async with bus:
        await bus.publish(an_order("o-1"))
        await bus.join()


def _kills(desk: Desk) -> list[Any]:
    return [event for event in desk.begun if event.event_type == "kill_switch"]


@virtual
async def test_who_comes_back_while_a_kill_switch_is_committed_gets_it_once():
    """CONTRACT 36: its cursor is behind that position, and the journal has not released it yet."""
    disk, there, back, new = SlowDisk(), Named("there"), Named("back"), Named("new")
    disk.let_go()
    await _life_with(disk, there, back)
    bus = a_bus(disk, sync="thread")
    bus.subscribe(EVERYTHING, there.on_event)
    async with bus:
        disk.gate.clear()
        kill = a_kill()
        publishing = asyncio.ensure_future(bus.publish(kill))
        await turns()
        bus.subscribe(EVERYTHING, back.on_event)
        bus.subscribe(EVERYTHING, new.on_event)
        await turns()
        assert not publishing.done()
        assert _kills(there) == _kills(back) == [kill], "it waits for no disk"
        disk.let_go()
        assert await publishing
        await bus.join()
        assert_settled(bus)
    assert _kills(there) == _kills(back) == _kills(new) == [kill]
    for desk in (there, back, new):
        assert cursor(disk, f"{desk.name}.on_event", "control").floor == disk.head


@virtual
async def test_who_comes_back_and_dies_before_the_commit_of_a_kill_switch_gets_it_again():
    """Its cursor does not pass the kill switch before that is settled."""
    disk, back = SlowDisk(), Named("back")
    disk.let_go()
    await _life_with(disk, back)
    bus, busy = a_bus(disk, sync="thread", cursor_save_s=0.1), asyncio.Event()

    async def on_event(event: Any) -> None:
        await busy.wait()

    async with bus:
        disk.gate.clear()
        publishing = asyncio.ensure_future(bus.publish(a_kill()))
        await turns()
        bus.subscribe(EVERYTHING, on_event, name="back.on_event")
        disk.let_go()
        assert await publishing
        await asyncio.sleep(1)
        next_life = disk.reopened()
        assert cursor(next_life, "back.on_event", "control").floor < 2
        busy.set()
    bus = a_bus(next_life)
    bus.subscribe(EVERYTHING, back.on_event)
    async with bus:
        await bus.join()
    assert len(_kills(back)) == 1


@virtual
async def test_a_bus_that_starts_while_a_kill_switch_is_committed_hands_it_to_everybody_once():
    disk, back, later = SlowDisk(), Named("back"), Named("later")
    disk.let_go()
    await _life_with(disk, back, later)
    disk.gate.clear()
    bus = a_bus(disk, sync="thread")
    kill = a_kill()
    publishing = asyncio.ensure_future(bus.publish(kill))
    await turns()
    bus.subscribe(EVERYTHING, back.on_event)
    await bus.start()
    bus.subscribe(EVERYTHING, later.on_event)
    await turns()
    assert _kills(back) == _kills(later) == [kill]
    disk.let_go()
    assert await publishing
    await bus.join()
    await bus.stop()
    assert _kills(back) == _kills(later) == [kill]


class _Stubborn(Named):
    """Takes a while to end when it is cancelled, so that the stop waits for it."""

    is_mended = False

    async def on_event(self, event: Any) -> None:
        self.begun.append(event)
        if event.event_type == "order" and not self.is_mended:
            try:
                await asyncio.sleep(1000)
            except asyncio.CancelledError:
                await asyncio.sleep(0.5)
                raise


async def _stopped_with_a_kill_switch(bus: EventBus) -> Any:
    """Publish a kill switch when the bus stops and begins no further call, but waits for one that is running."""
    await bus.publish(an_order("o-1"))
    await asyncio.sleep(0.01)
    stopping = asyncio.ensure_future(bus.stop(timeout_s=0.1))
    await asyncio.sleep(0.3)
    kill = a_kill()
    assert await bus.publish(kill)
    await stopping
    return kill


@pytest.mark.parametrize("is_same_process", [True, False])
@virtual
async def test_a_kill_switch_of_the_last_moment_before_the_end_is_handled_at_the_next_start(is_same_process):
    journal, desk, light = MemoryJournal(), _Stubborn("desk"), Named("light")
    bus = a_bus(journal)
    bus.subscribe(EVERYTHING, desk.on_event)
    bus.subscribe(EVERYTHING, light.on_event, durable=False)
    await bus.start()
    kill = await _stopped_with_a_kill_switch(bus)
    assert _kills(desk) == []
    if not is_same_process:
        bus = a_bus(journal.reopened())
        bus.subscribe(EVERYTHING, desk.on_event)
    await bus.start()
    await asyncio.sleep(0.01)
    assert [event.event_id for event in _kills(desk)] == [kill.event_id]
    assert len(_kills(light)) == is_same_process
    await bus.stop(timeout_s=0)


@virtual
async def test_a_stalled_subscription_reads_on_also_after_a_kill_switch_of_the_last_moment():
    journal, desk = MemoryJournal(), _Stubborn("desk")
    bus = a_bus(journal, max_queue_size=20, backpressure_config=quick_stall())
    bus.subscribe(EVERYTHING, desk.on_event)
    await bus.start()
    await bus.publish(an_order("o-0"))
    await bus.publish(an_order("o-0b"))
    await asyncio.sleep(1)
    fills = [a_fill(f"f-{n}") for n in range(3)]
    for fill in fills:
        await bus.publish(fill)
    loud = a_tick(1.0)
    await bus.publish(loud, priority=True)
    kill = await _stopped_with_a_kill_switch(bus)
    desk.begun.clear()
    desk.is_mended = True
    await bus.start()
    async with asyncio.timeout(60):
        await bus.join()
    assert_settled(bus)
    await bus.stop()
    ids = [event.event_id for event in desk.begun]
    assert {kill.event_id, loud.event_id, *(fill.event_id for fill in fills)} <= set(ids)
    assert len(ids) == len(set(ids)) == 8


@virtual
async def test_a_kill_switch_does_not_forgive_the_commit_of_those_it_is_published_with():
    """CONTRACT 1: True, or an error. The kill switch was delivered, the orders were not admitted."""
    journal, desk = Faulty(), Named("desk")
    bus = a_bus(journal)
    bus.subscribe(EVERYTHING, desk.on_event)
    async with bus:
        batch = [an_order("o-1"), an_order("o-2"), a_kill()]
        journal.fail_next("write", JournalFull("no room"))
        with pytest.raises(JournalFull):
            await bus.publish_many(batch)
        await bus.join()
        assert desk.begun == batch[2:]
        assert await bus.publish_many(batch) == 3
        await bus.join()
    assert desk.begun == [batch[2], *batch[:2]]


@virtual
async def test_a_kill_switch_that_is_handled_and_committed_only_by_the_stop_is_not_handled_again():
    """Its position is known after that commit, and so are the cursors that a proper stop leaves."""
    disk, desk, again = SlowDisk(), Named("desk"), Named("desk")
    disk.let_go()
    await _life_with(disk, desk)
    bus = a_bus(disk, sync="thread")
    bus.subscribe(EVERYTHING, desk.on_event)
    await bus.start()
    disk.gate.clear()
    kills = [a_kill(), a_kill()]
    publishing = [asyncio.ensure_future(bus.publish(kills[0]))]
    await turns()  # its sync has begun: what comes now has a commit of its own, later
    publishing.append(asyncio.ensure_future(bus.publish(kills[1])))
    await turns()
    assert _kills(desk) == kills
    asyncio.get_running_loop().call_soon(disk.let_go)
    await bus.stop(timeout_s=0)
    assert await asyncio.gather(*publishing) == [True, True]
    assert cursor(disk, "desk.on_event", "control").floor == disk.head
    bus = a_bus(disk)
    bus.subscribe(EVERYTHING, again.on_event, name="desk.on_event")
    async with bus:
        await bus.join()
    assert _kills(again) == []
