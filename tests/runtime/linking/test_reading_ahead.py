"""Exports read the next group while one is under way: one at a time is appended, and none before its turn."""

import pytest
from bus_helpers import an_order, ticks, virtual
from desk_kit import Desk, passes, running
from listening import Listener, crash, log_of

from openoutcry.links.memory import MemoryTransport
from openoutcry.links.memory_hub import Fault, MemoryHub
from openoutcry.runtime.linking.log_export import PAGE, LogExport

COUNT = 5 * PAGE + 10
IDS = [f"o-{number}" for number in range(COUNT)]


def desks(hub, tmp_path, **fields):
    return tuple(Desk(hub, name, tmp_path / name, **fields) for name in ("floor", "street"))


async def fill(desk, *, first=0, count=COUNT):
    """Publish so many orders."""
    for start in range(first, first + count, PAGE):
        events = [an_order(event_id=IDS[number]) for number in range(start, min(start + PAGE, first + count))]
        assert await desk.bus.publish_many(events) == len(events)


async def fill_while_away(hub, desk):
    """Publish all orders while the engine does not answer, so that the exports have a backlog."""
    hub.is_answering = False
    await passes(3)
    await fill(desk)
    hub.is_answering = True


class Appended:
    """What the floor appends to the log `normal`: the groups that were taken, and how many at once."""

    def __init__(self, monkeypatch):
        self.groups, self.most, self._under_way = [], 0, 0
        append = MemoryTransport.append

        async def counted(transport, group, token):
            if (transport.desk, group.log) != ("floor", "normal"):
                return await append(transport, group, token)
            self._under_way += 1
            self.most = max(self.most, self._under_way)
            try:
                place = await append(transport, group, token)
            finally:
                self._under_way -= 1
            self.groups.append(group)
            return place

        monkeypatch.setattr(MemoryTransport, "append", counted)

    @property
    def ids(self):
        return [entry.head().event_id for group in self.groups for entry in group.entries]


@virtual
async def test_a_backlog_goes_out_in_full_groups_that_are_read_while_another_is_under_way(
    tmp_path, monkeypatch
):
    hub = MemoryHub()
    floor, street = desks(hub, tmp_path)
    there, appended = Listener(street, "order"), Appended(monkeypatch)
    async with running(floor, street):
        await fill_while_away(hub, floor)
        await passes(10)
        assert there.ids == appended.ids == IDS
        assert appended.most == 1
        assert sum(bool(group.packed) for group in appended.groups) >= 3
        export = floor.linking.exporter.logs["normal"]
        assert export.done == floor.bus._admission.slot.store.journal.head
        assert not export.goes_on


@virtual
@pytest.mark.parametrize("fault", [Fault.LOST, Fault.LATE])
@pytest.mark.parametrize("step", ["append", "append done"])
async def test_where_answers_are_lost_everything_comes_once_and_in_its_order(tmp_path, step, fault):
    hub = MemoryHub()
    floor, street = desks(hub, tmp_path)
    there = Listener(street, "order")
    async with running(floor, street):
        await fill_while_away(hub, floor)
        asked = 0

        def every_second(desk, found):
            nonlocal asked
            if (desk, found) != ("floor", step):
                return None
            asked += 1
            return fault if asked % 2 else None

        hub.on_step = every_second
        await passes(60)
        assert asked > 5
        assert there.ids == IDS
        assert street.linking.importer.logs["floor", "normal"].events == COUNT
        assert street.linking.importer.logs["floor", "normal"].gap == ""


@virtual
async def test_what_is_asked_for_is_exported_before_what_was_read_ahead(tmp_path, monkeypatch):
    hub = MemoryHub()
    floor, street = desks(hub, tmp_path)
    there, appended = Listener(street, "order"), Appended(monkeypatch)
    async with running(floor, street):
        await fill_while_away(hub, floor)
        seen = 0

        def ask_in_between(desk, step):
            nonlocal seen
            seen += (desk, step) == ("floor", "append done")
            if seen == 3:
                seen += 1
                floor.linking.exporter.logs["normal"].ask(PAGE // 2)

        hub.on_step = ask_in_between
        await passes(20)
        assert there.ids == IDS
        again = appended.ids.index(IDS[PAGE // 2], PAGE)  # it comes a second time
        assert appended.ids[again:] == IDS[PAGE // 2 :]


@virtual
async def test_a_desk_that_dies_while_the_next_group_is_read_goes_on_where_the_log_ends(tmp_path):
    hub = MemoryHub()
    floor, street = desks(hub, tmp_path)
    there = Listener(street, "order")
    async with running(floor, street):
        await fill_while_away(hub, floor)
        seen = 0

        def die(desk, step):
            nonlocal seen
            if (desk, step) == ("floor", "append done"):
                seen += 1
                return Fault.LOST if seen >= 3 else None
            return None

        hub.on_step = die
        while seen < 3:
            await passes(0.01)
        path = await crash(floor, tmp_path / "next")
        hub.on_step = lambda _desk, _step: None
        again = Desk(hub, "floor", path)
        async with running(again):
            await passes(60)
            assert there.ids == IDS


@virtual
async def test_what_was_deleted_meanwhile_is_not_read_ahead(tmp_path, monkeypatch):
    hub = MemoryHub()
    floor, street = desks(hub, tmp_path)
    there = Listener(street, "order")
    async with running(floor, street):
        await fill_while_away(hub, floor)
        seen, read_ahead = 0, LogExport._read_ahead

        def retire(self, group):
            nonlocal seen
            if self._joined.desk == "floor" and self._log == "normal":
                seen += 1
                if seen == 2:  # one group is under way, and what follows is deleted
                    journal = floor.bus._admission.slot.store.journal
                    journal.retire(keep_count=PAGE, past_cursors=True)
            read_ahead(self, group)

        monkeypatch.setattr(LogExport, "_read_ahead", retire)
        await passes(30)
        had = 2 * PAGE
        assert there.ids == IDS[:had] + IDS[had - len(there.ids) :]
        assert len(there.ids) < COUNT
        assert street.linking.standing().word == "lost"


@virtual
async def test_market_data_that_is_only_recorded_is_not_exported(tmp_path):
    hub = MemoryHub()
    floor = Desk(hub, "floor", tmp_path / "floor", record="replay")
    street = Desk(hub, "street", tmp_path / "street")
    async with running(floor, street):
        for tick in ticks(5):
            await floor.bus.publish(tick)
        await floor.bus.publish(an_order(event_id="o-0"))
        await passes()
        assert log_of(hub, "normal", "floor") == ["o-0"]
