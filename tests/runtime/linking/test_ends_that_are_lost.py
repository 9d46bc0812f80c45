"""Logs and journals that have lost their ends: a run begins where it must, in a full log too, and only there."""

from bus_helpers import an_order, virtual
from desk_kit import Desk, passes, running
from listening import Listener, crash, image

from openoutcry.links.memory_hub import Fault, MemoryHub
from openoutcry.runtime.linking import log_export
from openoutcry.testing.simulator.chance import Chance
from openoutcry.testing.simulator.disk import Disk
from openoutcry.testing.simulator.loop import SimClock


def orders(count, first=0, text="order"):
    return [an_order(f"{text}-{number}", event_id=f"o-{number}") for number in range(first, first + count)]


async def publish(desk, events):
    for event in events:
        assert await desk.bus.publish(event)


def export_of(desk):
    return desk.linking.exporter.logs["normal"]


def size_of_log(hub):
    return next(one.size_bytes for one in hub.facts().logs if one.log == "normal")


def groups_behind(hub, position):
    """How many groups of the floor end behind a position."""
    return sum(group.desk == "floor" and group.upto > position for group in hub.groups("normal"))


def numbers(first, end):
    return [f"o-{number}" for number in range(first, end)]


class PoweredDesk(Desk):
    """A desk on a disk that loses what was not synced when its power is cut."""

    def __init__(self, hub, name, disk, **fields):
        self.disk = disk
        journal = disk.opened(Chance(1), SimClock(), lambda _what: None)
        super().__init__(hub, name, None, journal=journal, **fields)

    async def lose_power(self):
        """Cut its power; return the disk that is left, without anything that was not synced."""
        self.transport.die()
        left = Disk(self.disk.platter.origin)
        left.platter = self.disk.platter.reopened()
        for op in self.disk.journal.synced_ops:
            op(left.platter)
        await self.bus.stop(0)
        return left


@virtual
async def test_what_is_asked_for_while_a_group_is_unanswered_is_no_sign_that_the_log_lost_its_end(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(log_export, "PAGE", 3)
    hub = MemoryHub()
    floor, street = (Desk(hub, name, tmp_path / name) for name in ("floor", "street"))
    there = Listener(street, "order")
    async with running(floor, street):
        await publish(floor, orders(9))
        await passes(1)
        hub.delay_s = 0.4

        def asked(desk, step):
            if (desk, step) != ("floor", "append done"):
                return None
            hub.on_step = lambda _desk, _step: None
            export_of(floor).ask(0)  # by a desk that lacks everything, while the others get the newest
            return Fault.LOST

        hub.on_step = asked
        await publish(floor, orders(1, 9))
        await passes(15)
        assert export_of(floor).run.epoch == 0
        hub.delay_s = 0
        await publish(floor, orders(1, 10))
        await passes(5)
        assert there.ids == numbers(0, 11)


async def export_more_than_a_copy_has(hub, tmp_path, count):
    """Export ten orders of the floor and so many more; return a copy of its journal that has but the ten."""
    floor = Desk(hub, "floor", tmp_path / "floor")
    await floor.bus.start()
    await publish(floor, orders(10))
    await passes()
    path = await crash(floor, tmp_path / "before")
    async with running(again := Desk(hub, "floor", tmp_path / "floor")):
        await publish(again, orders(count, 10))
        await passes()
    return path


async def begin_anew_in_a_full_log(hub, tmp_path, street):
    """Start the floor on an older copy, with a log that has lost as much, and is full when that is noticed."""
    path = await export_more_than_a_copy_has(hub, tmp_path, 50)
    hub.forget_newest("normal", groups_behind(hub, 10))
    hub.cut("street")  # what it has is not known
    copy = Desk(hub, "floor", path)
    await copy.bus.start()
    await passes(1)
    for event in orders(30, 60, "x" * 60_000):
        await publish(copy, [event])
        await passes(0.05)
    hub.most_bytes = size_of_log(hub)
    hub.heal("street")
    return copy


@virtual
async def test_a_run_that_begins_in_a_full_log_makes_room_for_itself(tmp_path):
    hub = MemoryHub()
    street = Desk(hub, "street", tmp_path / "street")
    there = Listener(street, "order")
    async with running(street):
        copy = await begin_anew_in_a_full_log(hub, tmp_path, street)
        async with running():
            await publish(copy, orders(5, 90, "x" * 60_000))
            await passes(30)
            assert export_of(copy).run.epoch == 1
            assert there.ids == numbers(0, 95)
        await copy.bus.stop(1)


@virtual
async def test_a_desk_that_dies_before_its_new_run_has_a_group_makes_room_for_it_in_its_next_life(tmp_path):
    hub = MemoryHub()
    street = Desk(hub, "street", tmp_path / "street")
    there = Listener(street, "order")
    async with running(street):
        copy = await begin_anew_in_a_full_log(hub, tmp_path, street)
        hub.on_step = lambda desk, step: Fault.LOST if (desk, step) == ("floor", "append") else None
        await publish(copy, orders(5, 90, "x" * 60_000))
        await passes(5)
        assert export_of(copy).run.epoch == 1
        path = await crash(copy, tmp_path / "next")
        hub.on_step = lambda _desk, _step: None
        again = Desk(hub, "floor", path)
        async with running(again):
            await passes(40)
            assert there.ids == numbers(0, 95)


@virtual
async def test_what_is_new_comes_where_journal_and_log_have_lost_a_run_of_which_the_log_has_nothing_left(
    tmp_path,
):
    hub = MemoryHub()
    street = Desk(hub, "street", tmp_path / "street")
    there = Listener(street, "order")
    async with running(street):
        path = await export_more_than_a_copy_has(hub, tmp_path, 30)
        hub.forget_newest("normal", groups_behind(hub, 10))
        floor = Desk(hub, "floor", path)
        await floor.bus.start()
        await passes(3)
        assert export_of(floor).run.epoch == 1
        older = image(path, tmp_path / "older")
        await publish(floor, orders(30, 40))
        await passes(3)
        await crash(floor, tmp_path / "unused")
        assert there.ids == numbers(0, 70)
        hub.forget_newest("normal", groups_behind(hub, 10))
        async with running(copy := Desk(hub, "floor", older)):
            await passes(1)  # street says meanwhile what it has
            await publish(copy, orders(10, 70))
            await passes(10)
            assert there.ids == numbers(0, 80)


@virtual
async def test_what_is_made_before_others_have_said_what_they_have_comes_where_journal_and_log_lost_it(
    tmp_path,
):
    hub = MemoryHub()
    street = Desk(hub, "street", tmp_path / "street")
    there = Listener(street, "order")
    async with running(street):
        path = await export_more_than_a_copy_has(hub, tmp_path, 5)
        hub.forget_newest("normal", 1_000)  # nothing of the floor is left, its claims neither
        hub.cut("street")
        async with running(copy := Desk(hub, "floor", path)):
            await publish(copy, orders(30, 15))  # more than the street has of what was lost
            await passes(3)
            hub.heal("street")
            await passes(10)
            assert there.ids == numbers(0, 45)


@virtual
async def test_a_desk_whose_power_is_cut_when_it_has_just_come_lacks_nothing_of_what_was_made_since(tmp_path):
    hub, disk = MemoryHub(), Disk("the journal of the street")
    floor = Desk(hub, "floor", tmp_path / "floor")
    async with running(floor):
        street = PoweredDesk(hub, "street", disk)
        await street.bus.start()
        await passes(3)
        disk = await street.lose_power()
        await publish(floor, orders(20))
        await passes(2)
        hub.forget_newest("normal", groups_behind(hub, 0))
        await publish(floor, orders(5, 20))
        await passes(2)
        again = PoweredDesk(hub, "street", disk)
        there = Listener(again, "order")
        async with running(again):
            await passes(10)
            assert there.ids == numbers(0, 25)


@virtual
async def test_that_the_log_may_have_copies_is_on_the_disk_before_the_first_one_is_there(tmp_path):
    hub, disk = MemoryHub(replicas=3, is_synced=True), Disk("the journal of the floor")
    floor = PoweredDesk(hub, "floor", disk)
    lost = []
    await floor.bus.start()
    await passes()

    def copied(desk, step):
        if (desk, step) == ("floor", "append"):
            lost.append(len(disk.journal.cache))

    hub.on_step = copied
    assert await floor.bus.publish(an_order(event_id="o-0"), level="replicated")
    await floor.bus.stop(1)
    assert lost[0] == 0


@virtual
async def test_what_was_exported_again_is_trimmed_again_so_that_a_log_which_it_has_filled_goes_on(tmp_path):
    hub = MemoryHub()
    floor, street = (Desk(hub, name, tmp_path / name) for name in ("floor", "street"))
    there = Listener(street, "order")
    async with running(floor, street):
        await publish(floor, orders(30, text="x" * 60_000))
        await passes(12)
        assert len([group for group in hub.groups("normal") if group.desk == "floor"]) == 1
        export_of(floor).ask(0)
        await passes(1)
        hub.most_bytes = size_of_log(hub)
        assert hub.most_bytes > 30 * 60_000
        await publish(floor, orders(5, 30, "x" * 60_000))
        await passes(20)
        assert there.ids == numbers(0, 35)
