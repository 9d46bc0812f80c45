"""Raising the level of an event that was accepted before (CONTRACT 1, 2, 13, 18)."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bus_helpers import Desk, a_fill, a_kill, a_tick, an_order, assert_settled, ticks, virtual
from durable_kit import DeskNote, Disk, Faulty, a_bus, orders, written_ids

from openoutcry import Conflate, Event, EventBus
from openoutcry.errors import JournalDead, JournalFull


async def by_publish(bus: EventBus, event: Any) -> bool:
    return await bus.publish(event, level="disk")


async def by_nowait(bus: EventBus, event: Any) -> bool:
    return bus.publish_nowait(event, level="disk")


async def by_receipt(bus: EventBus, event: Any) -> bool:
    receipt = await bus.publish_receipt(event, level="disk")
    assert (receipt.outcome, receipt.level) == ("duplicate", "disk")
    assert receipt.position > 0
    return receipt.accepted


WAYS = pytest.mark.parametrize("way", [by_publish, by_nowait, by_receipt])
EVENTS = pytest.mark.parametrize(
    "make",
    [a_tick, an_order, a_fill, a_kill, lambda: DeskNote("n", "text"), lambda: Event(event_type="own")],
    ids=["tick", "order", "fill", "kill", "dataclass", "free type"],
)


@WAYS
@EVENTS
@pytest.mark.parametrize("state", ["settled", "waiting", "same turn"])
@virtual
async def test_an_event_in_memory_is_journaled_when_its_level_is_raised(
    disk: Disk, make: Callable[[], Any], way: Any, state: str
):
    """Who has settled it is not handed it after a crash, who has not is, and nobody twice meanwhile."""
    quick, slow, plain = Desk(), Desk(), Desk()
    bus = a_bus(disk.journal, cursor_save_s=3600)
    bus.subscribe("*", quick.on_event, name="quick")
    bus.subscribe("*", slow.on_event, name="slow")
    bus.subscribe("*", plain.on_event, name="plain", durable=False)
    await bus.start()
    event = make()
    is_kill = event.event_type == "kill_switch"
    if not is_kill:
        bus.subscription("slow").pause()
    await bus.publish_many(ticks(3))
    assert await bus.publish(event, level="memory")
    if state != "same turn":
        await asyncio.sleep(1)
    if state == "waiting":
        bus.subscription("quick").pause()
    before = len(written_ids(disk.journal))
    assert await way(bus, event)
    assert written_ids(disk.journal)[before:].count(event.event_id) == 1
    assert disk.journal.synced >= 1
    if state == "same turn":
        await asyncio.sleep(1)
        await bus.flush()
    journal = await disk.crash(bus)
    assert plain.handled.count(event) == 1
    assert quick.handled.count(event) == 1
    again_quick, again_slow = Desk(), Desk()
    async with a_bus(journal) as bus:
        bus.subscribe("*", again_quick.on_event, name="quick")
        bus.subscribe("*", again_slow.on_event, name="slow")
        await bus.join()
        ids = [handled.event_id for handled in again_slow.handled]
        assert ids.count(event.event_id) == (0 if is_kill else 1)
        assert event.event_id not in [handled.event_id for handled in again_quick.handled]
        assert_settled(bus)


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("second", [False, True])
@pytest.mark.parametrize("is_started", [False, True])
@virtual
async def test_the_lane_is_that_of_the_first_whatever_the_priority_of_the_second(
    disk: Disk, first: bool, second: bool, is_started: bool
):
    desk = Desk()
    bus = a_bus(disk.journal)
    bus.subscribe("*", desk.on_event, name="desk")
    if is_started:
        await bus.start()
        bus.subscription("desk").pause()
    await bus.publish(an_order())
    order = an_order()
    await bus.publish(order, priority=first, level="memory")
    assert await bus.publish(order, priority=second, level="disk")
    journal = await disk.crash(bus)
    assert desk.handled == []
    bus = a_bus(journal)
    bus.subscribe("*", desk.on_event, name="desk")
    async with bus:
        await bus.join()
        assert [e.event_id for e in desk.handled].count(order.event_id) == 1
        assert len(desk.handled) == 2
        assert_settled(bus)


@virtual
async def test_nothing_is_handed_out_twice_while_the_bus_lives(disk: Disk):
    """Between memory events and journaled ones, waiting, in flight and settled, with others around."""
    desk, gated, gate = Desk(), [], asyncio.Event()

    async def slow(event: Any) -> None:
        gated.append(event)
        await gate.wait()

    async with a_bus(disk.journal) as bus:
        bus.subscribe("*", desk.on_event, name="desk")
        bus.subscribe("*", slow, name="slow")
        some = [a_tick(), *orders(3), a_tick(), DeskNote("n", "x"), *ticks(3)]
        for event in some:
            assert await bus.publish(event)
        for event in some:
            assert await bus.publish(event, level="disk")
        gate.set()
        await bus.join()
        assert sorted(e.event_id for e in desk.handled) == sorted(e.event_id for e in some)
        assert sorted(e.event_id for e in gated) == sorted(e.event_id for e in some)
        await asyncio.sleep(5)
        assert bus.metrics.published == len(some)
        assert_settled(bus)
    late = Desk()
    async with a_bus(disk.restarted()) as bus:
        bus.subscribe("*", late.on_event, name="slow")
        await bus.join()
        assert late.handled == []


@WAYS
@EVENTS
@virtual
async def test_before_the_start_the_level_is_raised_as_well(disk: Disk, make: Callable[[], Any], way: Any):
    desk, plain = Desk(), Desk()
    bus = a_bus(disk.journal)
    bus.subscribe("*", desk.on_event, name="desk")
    bus.subscribe("*", plain.on_event, name="plain", durable=False)
    event, before, after = make(), an_order(), an_order()
    await bus.publish(before)
    assert await bus.publish(event, level="memory")
    assert await way(bus, event)
    await bus.publish(after)
    assert event.event_id in written_ids(disk.journal)
    journal = await disk.crash(bus)
    bus = a_bus(journal)
    bus.subscribe("*", desk.on_event, name="desk")
    async with bus:
        await bus.join()
        assert [e.event_id for e in desk.handled].count(event.event_id) == 1
        assert len(desk.handled) == 3


@EVENTS
@virtual
async def test_what_waits_for_the_start_is_delivered_once_to_each(disk: Disk, make: Callable[[], Any]):
    desk, plain = Desk(), Desk()
    bus = a_bus(disk.journal)
    bus.subscribe("*", desk.on_event, name="desk")
    bus.subscribe("*", plain.on_event, name="plain", durable=False)
    event = make()
    await bus.publish(event, level="memory")
    await bus.publish(event, level="disk")
    async with bus:
        await bus.join()
        assert [e.event_id for e in desk.handled] == [event.event_id]
        assert [e.event_id for e in plain.handled] == [event.event_id]
        assert bus.metrics.published == 1
        assert_settled(bus)


@virtual
async def test_an_event_that_is_held_behind_the_journal_is_raised_too(disk: Disk):
    desk = Desk()
    async with a_bus(disk.journal) as bus:
        await bus.publish_many(orders(2_000))
    bus = a_bus(disk.restarted())
    bus.subscribe("*", desk.on_event, name="desk")
    await bus.start()
    bus.subscription("desk").pause()
    tick = a_tick()
    await bus.publish(tick)
    assert await bus.publish(tick, level="disk")
    bus.subscription("desk").resume()
    await bus.join()
    assert [e.event_id for e in desk.handled].count(tick.event_id) == 1
    assert_settled(bus)
    await bus.stop()


@virtual
async def test_an_idle_bus_saves_that_a_raised_event_was_handled(disk: Disk):
    """CONTRACT 18: within the stated time, with no other event to come."""
    desk = Desk()
    bus = a_bus(disk.journal, cursor_save_s=0.25)
    bus.subscribe("*", desk.on_event, name="desk")
    await bus.start()
    bus.subscription("desk").pause()
    tick = a_tick()
    await bus.publish(tick)
    await bus.publish(tick, level="disk")
    await asyncio.sleep(5)
    bus.subscription("desk").resume()
    await asyncio.sleep(5)
    assert desk.handled == [tick]
    journal = await disk.crash(bus)
    again = Desk()
    async with a_bus(journal) as bus:
        bus.subscribe("*", again.on_event, name="desk")
        await bus.join()
        assert again.handled == []


@virtual
async def test_a_conflating_subscription_keeps_the_newest_also_when_one_was_raised(disk: Disk):
    desk = Desk()
    async with a_bus(disk.journal) as bus:
        bus.subscribe("market_data", desk.on_event, name="desk", overflow=Conflate())
        bus.subscription("desk").pause()
        first, second = a_tick(1.0), a_tick(2.0)
        await bus.publish(first)
        assert await bus.publish(first, level="disk")
        await bus.publish(second)
        bus.subscription("desk").resume()
        await bus.join()
        assert desk.handled[-1] == second
        assert_settled(bus)


@virtual
async def test_what_is_at_process_is_synced_for_disk():
    journal = Faulty()
    async with a_bus(journal) as bus:
        order = an_order()
        await bus.publish(order)
        assert (journal.head, journal.synced) == (1, 0)
        receipt = await bus.publish_receipt(order, level="disk")
        assert journal.synced == 1
        assert (receipt.level, receipt.position, receipt.outcome) == ("disk", 1, "duplicate")


@pytest.mark.parametrize("error", [JournalFull("no room"), JournalDead("gone")], ids=["full", "dead"])
@WAYS
@virtual
async def test_true_is_returned_only_when_the_level_holds(way: Any, error: Exception):
    """A level that is not reached raises; the event itself stays accepted, and is not delivered again."""
    journal, desk = Faulty(), Desk()
    bus = a_bus(journal)
    bus.subscribe("*", desk.on_event, name="desk")
    await bus.start()
    tick = a_tick()
    await bus.publish(tick)
    await bus.join()
    journal.fail_next("write", error)
    with pytest.raises(type(error)):
        await way(bus, tick)
    await bus.publish(tick)
    await bus.join()
    assert desk.handled == [tick]
    if isinstance(error, JournalFull):
        assert await way(bus, tick)
    else:
        with pytest.raises(JournalDead):
            await way(bus, tick)
    await bus.join()
    assert desk.handled == [tick]
    await bus.stop()


@virtual
async def test_an_id_that_only_waits_in_somebodys_outbox_is_accepted_on_its_own(disk: Disk):
    """That call may fail, and then nothing of it was ever published."""
    desk, waits = Desk(), asyncio.Event()
    order = an_order("mine", event_id="mine")
    async with a_bus(disk.journal) as bus:

        async def posting(_event: Any) -> None:
            await bus.publish(order)
            await waits.wait()
            raise ValueError("never")

        bus.subscribe("fill", posting, name="agent", outbox=True)
        bus.subscribe("order", desk.on_event, name="desk")
        await bus.publish(a_fill())
        await asyncio.sleep(1)
        assert await bus.publish(order)
        waits.set()
        await bus.join()
        assert desk.handled == [order]


async def after_a_life(disk: Disk, **fields: Any) -> EventBus:
    """A bus that runs, on a journal that knows `late`, which is absent."""
    async with a_bus(disk.journal) as bus:
        bus.subscribe("*", Desk().on_event, name="late")
    bus = a_bus(disk.restarted(), **fields)
    bus.subscribe("*", Desk().on_event, name="quick")
    await bus.start()
    return bus


@WAYS
@EVENTS
@pytest.mark.parametrize("moment", ["live", "behind", "between", "absent"])
@virtual
async def test_who_was_absent_and_has_come_back_is_handed_what_is_raised(
    disk: Disk, make: Callable[[], Any], way: Any, moment: str
):
    """Whether it comes back before the level is raised, in between or afterwards."""
    bus, late, event = await after_a_life(disk), Desk(), make()
    assert await bus.publish(event, level="memory")
    await asyncio.sleep(1)
    before, after = orders(3), orders(3, 4)
    await bus.publish_many(before)
    if moment in ("live", "behind"):
        bus.subscribe("*", late.on_event, name="late")
    if moment == "behind":
        bus.subscription("late").pause()
    elif moment == "live":
        await bus.join()
    raising = asyncio.create_task(way(bus, event))
    if moment == "between":
        await asyncio.sleep(0)
        bus.subscribe("*", late.on_event, name="late")
    assert await raising
    await bus.publish_many(after)
    if moment == "absent":
        bus.subscribe("*", late.on_event, name="late")
    bus.subscription("late").resume()
    await bus.join()
    assert sorted(late.ids) == sorted(e.event_id for e in (event, *before, *after))
    assert_settled(bus)
    await asyncio.sleep(1)  # an idle bus saves its cursors
    journal, again = await disk.crash(bus), Desk()
    async with a_bus(journal) as bus:
        bus.subscribe("*", again.on_event, name="late")
        await bus.join()
        assert again.handled == []


@EVENTS
@virtual
async def test_what_was_missed_and_is_raised_survives_a_crash(disk: Disk, make: Callable[[], Any]):
    """Also beside others of its commit, which may stand before and after it."""
    bus, late, event = await after_a_life(disk), Desk(), make()
    is_kill = event.event_type == "kill_switch"
    assert await bus.publish(event, level="memory")
    bus.subscribe("*", late.on_event, name="late")
    await bus.join()
    bus.subscription("late").pause()
    some = orders(4)
    assert all(
        await asyncio.gather(
            *map(bus.publish, some[:2]), bus.publish(event, level="disk"), *map(bus.publish, some[2:])
        )
    )
    await asyncio.sleep(1)
    assert late.ids == ([event.event_id] if is_kill else [])
    journal, again = await disk.crash(bus), Desk()
    async with a_bus(journal) as bus:
        bus.subscribe("*", again.on_event, name="late")
        await bus.join()
        assert sorted(late.ids + again.ids) == sorted(e.event_id for e in (event, *some))


@virtual
async def test_many_that_were_missed_take_no_more_room_than_there_is(disk: Disk):
    bus, late = await after_a_life(disk, max_queue_size=50), Desk()
    missed = [a_tick(float(number)) for number in range(200)]
    for tick in missed:
        assert await bus.publish(tick)
        await asyncio.sleep(0.01)
    bus.subscribe("*", late.on_event, name="late")
    await bus.join()
    late_one = bus.subscription("late")
    late_one.pause()
    for tick in missed:
        assert await bus.publish(tick, level="disk")
        assert late_one.mailbox.waiting <= 50
    late_one.resume()
    await bus.join()
    assert late.ids == [tick.event_id for tick in missed]
    assert_settled(bus)
    await bus.stop()


@virtual
async def test_a_subscription_is_not_handed_what_was_accepted_before_it_was_made(disk: Disk):
    """A new name, or one that was given up and has begun anew."""
    bus, made, anew, event = await after_a_life(disk), Desk(), Desk(), an_order()
    assert await bus.publish(event, level="memory")
    given_up = Desk()
    bus.subscribe("*", given_up.on_event, name="late")
    bus.unsubscribe("*", given_up.on_event)
    bus.subscribe("*", anew.on_event, name="late")
    bus.subscribe("*", made.on_event, name="made")
    assert await bus.publish(event, level="disk")
    await bus.join()
    assert (made.handled, anew.handled, given_up.handled) == ([], [], [])
    await bus.stop()


@pytest.mark.parametrize("how", ["after the return", "forgotten", "refused", "a kill switch"])
@virtual
async def test_who_has_got_it_after_all_is_not_handed_it_again(how: str):
    """An id that is forgotten, or was refused, may come again as a new one; a kill switch nobody took does."""
    journal = Faulty()
    async with a_bus(journal) as bus:
        bus.subscribe("*", Desk().on_event, name="late")
    bus, late = a_bus(journal.reopened(), dedup_window=10), Desk()
    event = a_kill() if how == "a kill switch" else a_tick()
    await bus.start()
    if how != "after the return":
        assert await bus.publish(event, level="memory")
    bus.subscribe("*", late.on_event, name="late")
    if how == "forgotten":
        for tick in ticks(100):
            await bus.publish(tick)
            await asyncio.sleep(0)
    if how == "refused":
        bus._bus.seen.discard(event.event_id)
    assert await bus.publish(event, level="memory")
    await bus.join()
    assert late.ids.count(event.event_id) == 1
    assert await bus.publish(event, level="disk")
    await bus.join()
    assert late.ids.count(event.event_id) == 1
    await bus.stop()


@virtual
async def test_where_only_the_newest_counts_nothing_older_is_handed_out(disk: Disk):
    bus, late = await after_a_life(disk), Desk()
    old, new = a_tick(1.0), a_tick(2.0)
    assert await bus.publish(old)
    bus.subscribe("*", late.on_event, name="late", overflow=Conflate())
    await bus.publish(new)
    assert await bus.publish(old, level="disk")
    await bus.join()
    assert late.handled == [new]
    await bus.stop()


CHILD = """
import asyncio, os, sys
from openoutcry import *
from openoutcry.journals import JournalReader
life, path = int(sys.argv[1]), sys.argv[2]
async def main():
    bus = EventBus(persistence_config=PersistenceConfig(path=path, socket=False))
    got = {"quick": [], "slow": []}
    for name in got:
        bus.subscribe("*", lambda e, name=name: got[name].append(e.event_id), name=name)
    await bus.start()
    if life == 1:
        bus.subscription("slow").pause()
        tick, note = MarketDataEvent(symbol="S", price=1.0, event_id="tick"), Event(event_type="note", event_id="note")
        await bus.publish(tick)
        await bus.publish(note, level="memory")
        await asyncio.sleep(0.1)
        assert await bus.publish(tick, level="disk")
        assert bus.publish_nowait(note, level="disk")
        os.write(1, repr(got["quick"]).encode())
        os._exit(9)
    await bus.join()
    print(got)
    await bus.stop()
asyncio.run(main())
"""


def test_after_a_real_crash_just_those_are_handed_it_who_had_not_settled_it(tmp_path: Path):
    def life(number: int) -> "subprocess.CompletedProcess[str]":
        arguments = [sys.executable, "-c", CHILD, str(number), str(tmp_path / "firm.db")]
        return subprocess.run(arguments, capture_output=True, text=True, check=False, env={**os.environ})

    first, second = life(1), life(2)
    assert (first.returncode, first.stdout) == (9, "['tick', 'note']"), first.stderr
    assert second.stdout.strip() == "{'quick': [], 'slow': ['tick', 'note']}", second.stderr


@virtual
async def test_a_bus_without_a_journal_knows_no_other_level():
    async with EventBus() as bus:
        tick = a_tick()
        await bus.publish(tick)
        receipt = await bus.publish_receipt(tick)
        assert (receipt.level, receipt.position) == ("memory", 0)
