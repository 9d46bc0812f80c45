"""Memories at the edges of commits: what is written together, and what has no place in the journal yet."""

import asyncio
from contextlib import suppress
from typing import Any

import pytest
from bus_helpers import Desk, a_decision, a_kill, an_order, virtual
from durable_kit import Disk, Faulty, a_bus, orders, turns

from openoutcry import EventBus, EventBusHealthStatus, Memory, RestoreFailed
from openoutcry.config import RetryPolicy
from openoutcry.errors import JournalFull


class Notes:
    """An agent whose state is the list of what it has handled."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.folded: list[str] = []
        self.fails: set[str] = set()
        self.save_fails = 0

    async def on_event(self, event: Any) -> None:
        if event.event_id in self.fails:
            raise ValueError("no")
        self.seen.append(event.event_id)

    def fold(self, event: Any) -> None:
        self.seen.append(event.event_id)
        self.folded.append(event.event_id)

    def save(self) -> Any:
        if self.save_fails:
            self.save_fails -= 1
            raise ValueError("not now")
        return self.seen

    def load(self, state: Any) -> None:
        self.seen = list(state)


def keeps(bus: EventBus, notes: Notes, types: Any = "order", name: str = "notes", **fields: Any) -> Any:
    return bus.subscribe(types, notes.on_event, name=name, memory=Memory(notes.fold), **fields)


def saves(bus: EventBus, notes: Notes, types: Any = "order", every: int = 1, **fields: Any) -> Any:
    memory = Memory(notes.fold, notes.save, notes.load, every)
    return bus.subscribe(types, notes.on_event, name="notes", memory=memory, **fields)


def check_snapshot(journal: Any, name: str = "notes") -> None:
    """The saved state claims nothing that the saved cursors do not."""
    snapshot = journal.snapshot(name)
    floors = {c.lane: c.floor for c in journal.cursors() if c.subscription == name}
    assert snapshot.form != "none"
    assert all(floor <= floors[lane] for lane, (floor, _) in snapshot.lanes.items())


class Checked(Faulty):
    """A journal that compares state and cursors after each write."""

    def write(self, entries: Any, changes: Any = None) -> Any:
        written = super().write(entries, changes)
        snapshot = self.snapshot("notes")
        if snapshot is not None and snapshot.form != "none":
            check_snapshot(self)
        return written


@virtual
async def test_a_state_is_never_written_ahead_of_its_cursors_though_a_kill_switch_waits_for_its_place():
    notes, journal = Notes(), Checked()
    bus = a_bus(journal)
    saves(bus, notes, ["order", "kill_switch"])
    async with bus:
        for number in range(6):
            await bus.publish(a_kill(reason=str(number)))
            await bus.publish(an_order(str(number)))
            await turns(2)
            bus.publish_nowait(a_kill(reason=f"{number} again"))
            await bus.publish(an_order(f"{number} again"))
        await bus.join()
    assert journal.snapshot("notes").form == "json"
    assert len(notes.seen) == 24


@virtual
async def test_a_save_that_fails_once_leaves_state_and_cursors_together(disk: Disk):
    notes, events = Notes(), orders(3)
    bus = a_bus(disk.journal)
    saves(bus, notes, every=1)
    await bus.start()
    await bus.publish(events[0], level="memory")
    await bus.publish(events[1])
    await bus.join()
    await bus.flush()
    notes.save_fails = 1
    await bus.publish(events[0], level="process")
    await bus.flush()
    check_snapshot(disk.journal)
    await bus.flush()
    check_snapshot(disk.journal)
    await bus.publish(events[2])
    await bus.join()
    await bus.flush()
    check_snapshot(disk.journal)
    await bus.stop()


def test_a_bus_whose_loop_was_closed_can_be_stopped_with_a_memory_in_it(disk: Disk):
    bus, notes = a_bus(disk.journal), Notes()
    saves(bus, notes, every=1_000)
    saves_nothing = Notes()
    keeps(bus, saves_nothing, "fill", name="idle")

    async def live() -> None:
        await bus.start()
        await bus.publish(an_order())
        await bus.join()
        await bus.flush()

    loop = asyncio.new_event_loop()
    loop.run_until_complete(live())
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    asyncio.run(bus.stop())
    assert disk.journal.snapshot("notes").form == "json"


@virtual
async def test_a_name_that_was_reassigned_on_a_full_disk_has_the_memory_of_the_former_one():
    journal = Faulty()
    notes, before, events, again = Notes(), orders(2, first=90), orders(3), Notes()
    async with a_bus(journal) as bus:
        bus.subscribe("order", Desk().on_event, name="other")
        await bus.publish_many(before)
        await bus.join()
        keeps(bus, notes)
        await bus.publish_many(events)
        await bus.join()
    async with a_bus(journal) as bus:
        bus.subscribe("order", Desk().on_event, name="other")
        await bus.flush()
        journal.fail_next("write", JournalFull("no room"))
        with suppress(JournalFull):
            await bus.admin.reassign_cursor("notes", "book")
        await keeps(bus, again, name="book").ready()
        assert again.folded == [event.event_id for event in events]


@virtual
async def test_what_was_buried_before_it_had_a_place_in_the_journal_is_not_remembered(disk: Disk):
    notes, kill, order = Notes(), a_kill(), an_order("o")
    notes.fails = {kill.event_id, order.event_id}
    bus = a_bus(disk.journal)
    keeps(bus, notes, ["order", "kill_switch"], retry=False)
    async with bus:
        bus.publish_nowait(kill)
        await bus.publish(order, level="memory")
        await bus.join()
        assert len(bus.dead_letters("notes")) == 2
        await bus.publish(order, level="disk")
        await bus.publish(an_order("fine"))
        await bus.join()
        bus.admin.drop_dead_letters("notes", event_type="order")
    again = Notes()
    bus = a_bus(disk.restarted())
    keeps(bus, again, ["order", "kill_switch"])
    async with bus:
        assert again.folded == notes.seen
        assert len(again.folded) == 1


@virtual
async def test_what_has_passed_beside_an_open_event_is_not_remembered_when_its_type_is_taken_later(
    disk: Disk,
):
    notes, held, passed, later = Notes(), an_order("held"), a_decision(), a_decision()
    notes.fails = {held.event_id}
    bus = a_bus(disk.journal)
    keeps(bus, notes, "order", retry=RetryPolicy(attempts=3, first_s=1))
    async with bus:
        await bus.publish(held)
        await bus.publish(passed)
        await asyncio.sleep(0.1)
        bus.subscribe("decision", notes.on_event)
        notes.fails = set()
        await bus.publish(later)
        await bus.join()
        assert notes.seen == [held.event_id, later.event_id]
    again = Notes()
    bus = a_bus(disk.restarted())
    keeps(bus, again, ["order", "decision"])
    async with bus:
        assert again.folded == notes.seen


@virtual
async def test_what_was_handled_after_a_second_start_is_remembered_by_who_takes_other_types_then(disk: Disk):
    bus, notes, before, after = a_bus(disk.journal, cursor_save_s=3600), Notes(), *orders(2)
    keeps(bus, notes, ["order", "decision"])
    async with bus:
        await bus.publish(before)
        await bus.join()
    async with bus:
        await bus.publish(after)
        await bus.join()
        bus.unsubscribe("order", notes.on_event)
        await bus.publish(a_decision())  # the other types are written with it
        again, bus = Notes(), a_bus(await disk.crash(bus))
    keeps(bus, again, ["order", "decision"])
    async with bus:
        assert again.folded[:2] == [before.event_id, after.event_id]


@virtual
async def test_who_waits_for_a_memory_is_told_when_the_subscription_is_ended(disk: Disk):
    async with a_bus(disk.journal) as bus:
        keeps(bus, Notes())
        await bus.publish_many(orders(2_000))
        await bus.join()
    bus, notes = a_bus(disk.restarted()), Notes()
    unread = keeps(bus, Notes())
    bus.unsubscribe("order", unread.subscribed)
    async with bus:
        with pytest.raises(RestoreFailed, match="notes was ended before it had its memory back"):
            await unread.ready()
    async with a_bus(disk.restarted()) as bus:
        subscription = keeps(bus, notes)
        waiting = [asyncio.create_task(subscription.ready()) for _ in range(2)]
        await turns()
        assert 0 < len(notes.folded) < 2_000
        bus.unsubscribe("order", notes.on_event)
        for ready in (*waiting, asyncio.create_task(subscription.ready())):
            with pytest.raises(RestoreFailed, match="notes was ended before it had its memory back"):
                await ready
        await bus.join()
        assert len(notes.folded) < 2_000
        assert await bus.publish(an_order("later"))


@virtual
async def test_a_subscription_that_was_ended_without_its_memory_is_nobodys_trouble(disk: Disk):
    async with a_bus(disk.journal) as bus:
        keeps(bus, Notes())
        await bus.publish_many(orders(3))
        await bus.join()
    async with a_bus(disk.restarted()) as bus:
        notes = Notes()
        subscription = bus.subscribe("order", notes.on_event, name="notes", restore=lambda _: 1 / 0)
        with pytest.raises(RestoreFailed, match="ZeroDivisionError"):
            await subscription.ready()
        assert (await bus.check_health()).culprits == ("notes",)
        bus.unsubscribe("order", notes.on_event)
        assert (await bus.check_health()).status is EventBusHealthStatus.HEALTHY
