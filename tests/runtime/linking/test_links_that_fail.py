"""Exports and imports when something goes wrong: nothing is lost, nothing comes twice, nothing out of order."""

import pytest
from bus_helpers import a_fill, an_order, virtual
from desk_kit import Desk, passes, running
from listening import Listener, crash, entries, ids_of, log_of

from openoutcry.links.memory_hub import Fault, MemoryHub


def two(hub, tmp_path, **fields):
    return Desk(hub, "floor", tmp_path / "floor", **fields), Desk(
        hub, "street", tmp_path / "street", **fields
    )


def orders(count, first=0):
    return [an_order(event_id=f"o-{number}") for number in range(first, first + count)]


def newest(hub):
    """The place of the newest message in the log `normal`."""
    return next(log.last for log in hub.facts().logs if log.log == "normal")


async def publish(desk, events):
    for event in events:
        assert await desk.bus.publish(event)


@virtual
async def test_a_desk_whose_engine_is_away_goes_on_and_nothing_is_lost_when_it_comes_back(tmp_path):
    hub = MemoryHub()
    floor, street = two(hub, tmp_path)
    here, there = Listener(floor), Listener(street)
    async with running(floor, street):
        await passes()
        hub.is_answering = False
        events = orders(50)
        await publish(floor, events)
        await passes(3)
        assert here.ids == ids_of(events)
        assert there.ids == []
        word, why = floor.linking.joined.problems["export normal"]
        assert word == "stalled"
        assert "takes nothing" in why
        hub.is_answering = True
        await passes(3)
        assert there.ids == ids_of(events)
        assert "export normal" not in floor.linking.joined.problems


@virtual
async def test_a_desk_starts_while_the_engine_is_away(tmp_path):
    hub = MemoryHub()
    hub.is_answering = False
    floor, street = two(hub, tmp_path, lease_s=0)
    here, there = Listener(floor), Listener(street)
    async with running(floor, street):
        events = orders(5)
        await publish(floor, events)
        await passes(2)
        assert here.ids == ids_of(events)
        hub.is_answering = True
        await passes(8)
        assert there.ids == ids_of(events)


@virtual
@pytest.mark.parametrize("fault", [Fault.LOST, Fault.LATE])
async def test_a_group_whose_answer_was_lost_comes_once(tmp_path, fault):
    hub = MemoryHub()
    floor, street = two(hub, tmp_path)
    there = Listener(street)
    async with running(floor, street):
        await passes()
        hub.fail("append", fault, desk="floor", times=2)
        hub.fail("append done", desk="floor", times=2)
        events = orders(20)
        await publish(floor, events)
        await passes(15)
        await publish(floor, orders(20, 20))
        await passes(5)
        assert there.ids == [f"o-{number}" for number in range(40)]
        assert street.linking.importer.logs["floor", "normal"].events == 40


@virtual
async def test_a_log_that_was_deleted_is_filled_again(tmp_path):
    hub = MemoryHub()
    floor, street = two(hub, tmp_path)
    there = Listener(street)
    async with running(floor, street):
        await publish(floor, orders(10))
        await passes()
        hub.cut("street")
        await publish(floor, orders(10, 10))
        await passes()
        hub.delete("normal")
        hub.heal("street")
        await publish(floor, orders(10, 20))
        await passes(10)
        assert there.ids == [f"o-{number}" for number in range(30)]


@virtual
async def test_a_damaged_group_is_asked_for_and_exported_again(tmp_path):
    hub = MemoryHub()
    floor, street = two(hub, tmp_path)
    there = Listener(street)
    async with running(floor, street):
        await publish(floor, orders(5))
        await passes()
        hub.cut("street")
        await publish(floor, orders(5, 5))
        await passes()
        last = newest(hub)
        hub.flip("normal", last)
        await publish(floor, orders(5, 10))
        await passes()
        hub.heal("street")
        await passes(0.3)
        await publish(floor, orders(5, 15))
        await passes(10)
        assert there.ids == [f"o-{number}" for number in range(20)]
        assert street.linking.importer.logs["floor", "normal"].gap == ""
        assert street.linking.joined.problems == {}


@virtual
async def test_the_last_group_is_missed_though_nothing_follows_it(tmp_path):
    hub = MemoryHub()
    floor, street = two(hub, tmp_path)
    there = Listener(street)
    async with running(floor, street):
        await publish(floor, orders(5))
        await passes()
        hub.cut("street")
        await publish(floor, orders(5, 5))
        await passes()
        hub.flip("normal", newest(hub))
        hub.heal("street")
        await passes(20)
        assert there.ids == [f"o-{number}" for number in range(10)]


@virtual
async def test_a_full_log_is_told_and_goes_on_when_there_is_room(tmp_path):
    hub = MemoryHub(most_bytes=6_000)
    floor, street = two(hub, tmp_path)
    there = Listener(street)
    async with running(floor, street):
        hub.cut("street")
        await passes()
        await publish(floor, orders(100))
        await passes(3)
        word, why = floor.linking.joined.problems["export normal"]
        assert word == "full"
        assert "6,000 bytes" in why
        hub.most_bytes = 0
        hub.heal("street")
        await passes(5)
        assert there.ids == [f"o-{number}" for number in range(100)]
        assert floor.linking.joined.problems == {}


@virtual
async def test_an_event_that_is_too_large_for_the_engine_is_told_and_overtaken_by_none(tmp_path):
    hub = MemoryHub(message_bytes=3_000)
    floor, street = two(hub, tmp_path)
    there = Listener(street)
    async with running(floor, street):
        await passes()
        large = an_order("x" * 5_000, event_id="large")
        await publish(floor, [large, an_order(event_id="small")])
        await passes(3)
        word, why = floor.linking.joined.problems["export normal"]
        assert word == "stalled"
        assert large.event_id in why
        assert there.ids == []
        hub.message_bytes = 1_000_000
        await passes(3)
        assert there.ids == ["large", "small"]


@virtual
async def test_a_desk_that_was_away_gets_all_of_it_in_order(tmp_path):
    hub = MemoryHub()
    floor, street = two(hub, tmp_path)
    async with running(floor, street):
        await publish(floor, orders(5))
        await passes()
        await street.bus.stop()
        await publish(floor, orders(300, 5))
        await publish(floor, [a_fill(event_id="f-1")])
        await passes()
        again = Desk(hub, "street", tmp_path / "street")
        there = Listener(again, "order", "fill", name="new")
        async with running(again):
            await passes(3)
            assert [one for one in there.ids if one.startswith("o-")] == [f"o-{n}" for n in range(5, 305)]
            assert len(there.ids) == 301


@virtual
async def test_a_desk_that_died_goes_on_where_its_journal_ends(tmp_path):
    hub = MemoryHub()
    floor, street = two(hub, tmp_path)
    first = Listener(street)
    async with running(floor):
        await street.bus.start()
        await publish(floor, orders(100))
        await passes()
        path = await crash(street, tmp_path / "next")
        again = Desk(hub, "street", path)
        then = Listener(again)
        async with running(again):
            await publish(floor, orders(10, 100))
            await passes(3)
            assert first.ids == [f"o-{number}" for number in range(100)]
            assert then.ids[-10:] == [f"o-{number}" for number in range(100, 110)]
            written = [e.head().event_id for e in entries(path)]
            assert [one for one in written if one.startswith("o-")] == [f"o-{n}" for n in range(110)]


@virtual
async def test_a_desk_that_began_anew_is_imported_from_its_beginning(tmp_path, caplog):
    hub = MemoryHub()
    floor, street = two(hub, tmp_path)
    there = Listener(street)
    async with running(street):
        async with running(floor):
            await publish(floor, orders(10))
            await passes()
        anew = Desk(hub, "floor", tmp_path / "another")
        async with running(anew):
            await publish(anew, orders(5, 20))
            await passes(3)
            assert there.ids == [f"o-{n}" for n in [*range(10), *range(20, 25)]]
            assert "desk floor has another journal" in caplog.text


@virtual
async def test_what_is_exported_again_after_a_restart_is_handled_by_nobody_twice(tmp_path):
    hub = MemoryHub()
    _, street = two(hub, tmp_path)
    there = Listener(street)
    async with running(street):
        for life in range(4):
            desk = Desk(hub, "floor", tmp_path / "floor")
            async with running(desk):
                await publish(desk, orders(25, 25 * life))
                await passes(1)
        assert there.ids == [f"o-{number}" for number in range(100)]
        assert log_of(hub, "normal", "floor")[-25:] == there.ids[-25:]


async def an_older_copy(hub, folder, then_s=0.5):
    """The journal of a desk, without the last ten orders that the desk has exported."""
    floor = Desk(hub, "floor", folder / "floor")
    await floor.bus.start()
    await publish(floor, orders(10))
    await passes()
    path = await crash(floor, folder / "before")
    again = Desk(hub, "floor", folder / "floor")
    async with running(again):
        await publish(again, orders(10, 10))
        await passes(then_s)
    return path


@virtual
async def test_a_journal_that_lost_its_end_gets_it_back_from_the_log_and_nothing_new_is_taken_for_old(
    tmp_path,
):
    hub = MemoryHub()
    street = Desk(hub, "street", tmp_path / "street")
    there = Listener(street)
    async with running(street):
        path = await an_older_copy(hub, tmp_path)
        copy = Desk(hub, "floor", path)
        here = Listener(copy)
        async with running(copy):
            await publish(copy, orders(5, 20))  # at positions that were exported
            await passes(3)
            await publish(copy, orders(5, 25))
            await passes(3)
            assert sorted(there.ids) == sorted(f"o-{number}" for number in range(30))
            assert {f"o-{number}" for number in range(10, 30)} <= set(here.ids)
            (run,) = {
                one.reached.run for key, one in street.linking.importer.logs.items() if key[1] == "normal"
            }
            assert ":1:" in run
    written = [e.head().event_id for e in entries(path)]
    assert len(written) == len(set(written))
    assert {f"o-{number}" for number in range(30)} <= set(written)


@virtual
async def test_what_others_have_says_nothing_before_it_is_known_where_the_journal_and_the_log_are_the_same(
    tmp_path,
):
    hub = MemoryHub()
    street = Desk(hub, "street", tmp_path / "street")
    there = Listener(street)
    async with running(street):
        path = await an_older_copy(hub, tmp_path, 3)
        copy = Desk(hub, "floor", path)
        hub.fail("last", desk="floor", times=20)
        async with running(copy):
            await publish(copy, orders(10, 20))  # at positions that street says it has
            await passes(40)
    assert sorted(there.ids) == sorted(f"o-{number}" for number in range(30))


@virtual
async def test_where_journal_and_log_have_lost_the_same_what_is_new_at_its_positions_comes_all_the_same(
    tmp_path,
):
    hub = MemoryHub()
    street = Desk(hub, "street", tmp_path / "street")
    there = Listener(street)
    async with running(street):
        path = await an_older_copy(hub, tmp_path)
        hub.delete("normal")
        copy = Desk(hub, "floor", path)
        async with running(copy):
            await publish(copy, orders(5, 20))  # at positions that street has
            await passes(3)
            await publish(copy, orders(20, 25))
            await passes(3)
        assert there.ids == [f"o-{number}" for number in range(45)]


@virtual
async def test_of_a_log_that_has_lost_its_newest_what_is_new_at_their_positions_comes_all_the_same(tmp_path):
    hub = MemoryHub()
    street = Desk(hub, "street", tmp_path / "street")
    there = Listener(street)
    async with running(street):
        path = await an_older_copy(hub, tmp_path)
        count = sum(group.desk == "floor" and group.upto > 10 for group in hub.groups("normal"))
        hub.forget_newest("normal", count)  # it ends now where the journal does
        copy = Desk(hub, "floor", path)
        async with running(copy):
            await passes(1)  # street says meanwhile what it has
            await publish(copy, orders(20, 20))
            await passes(3)
        assert there.ids == [f"o-{number}" for number in range(40)]


@virtual
async def test_a_log_that_was_deleted_while_its_desk_was_down_is_no_reason_to_import_anything_again(tmp_path):
    hub = MemoryHub()
    floor, street = two(hub, tmp_path)
    there = Listener(street)
    async with running(street):
        async with running(floor):
            await publish(floor, orders(20))
            await passes(3)
        hub.delete("normal")
        again = Desk(hub, "floor", tmp_path / "floor")
        async with running(again):
            await publish(again, orders(5, 20))
            await passes(3)
        assert there.ids == [f"o-{number}" for number in range(25)]
        (normal,) = (one for key, one in street.linking.importer.logs.items() if key[1] == "normal")
        assert normal.duplicates == 0
