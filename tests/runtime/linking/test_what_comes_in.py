"""What comes in from another desk: its room, its dead letters, and what no class here is registered for."""

import asyncio

import msgspec
import pytest
from bus_helpers import a_fill, a_kill, an_order, virtual
from desk_kit import Desk, passes, running
from listening import Listener, crash, entries, log_of

from openoutcry import EventType
from openoutcry.core.link_words import LinkWord
from openoutcry.links.memory import MemoryTransport
from openoutcry.links.memory_hub import MemoryHub
from openoutcry.ports import Entry, Group, Header, Level, Seat
from openoutcry.runtime.linking.rows import Reached, write_row


def two(hub, tmp_path, **fields):
    return Desk(hub, "floor", tmp_path / "floor", **fields), Desk(
        hub, "street", tmp_path / "street", **fields
    )


def orders(count, first=0):
    return [an_order(event_id=f"o-{number}") for number in range(first, first + count)]


def lost_by(desk):
    return [why for word, why in desk.linking.joined.problems.values() if word is LinkWord.LOST]


def groups_of(hub):
    return sum(group.desk == "floor" for group in hub.groups("normal"))


def entry(event, lane="normal", **fields):
    return Entry(
        event.event_id, event.to_json(), lane, Level.PROCESS, 1, Header(**fields) if fields else None
    )


class Stranger:
    """Another program that has the account of the desk `floor`, and exports what it likes."""

    def __init__(self, hub):
        self.transport = MemoryTransport(hub, "floor")
        self.upto = {"high": 0, "normal": 0}

    async def open(self):
        await self.transport.open()
        self.seat = await self.transport.claim(Seat(desk="floor", holder="stranger"), None)

    async def export(self, *given, log="normal"):
        after = self.upto[log]
        self.upto[log] = upto = after + len(given)
        group = Group(
            desk="floor",
            journal="strange:0:0:0:9:9",
            log=log,
            after=after,
            upto=upto,
            positions=tuple(range(after + 1, upto + 1)),
            entries=given,
        )
        await self.transport.append(group, self.seat.tokens[log])


@virtual
async def test_an_event_of_an_unknown_class_is_kept_byte_for_byte_and_told(tmp_path):
    hub = MemoryHub()
    stranger, street = Stranger(hub), Desk(hub, "street", tmp_path / "street")
    there = Listener(street, "novelty", "order")
    await stranger.open()
    payload = b'{"event_class":"Novelty","event_id":"n-1","event_type":"novelty","x":  1.50}'
    async with running(street):
        order = an_order(event_id="o-1")
        await stranger.export(entry(order), Entry("n-1", payload), entry(an_order(event_id="o-2")))
        await passes(3)
        assert there.ids == ["o-1", "o-2"]
        (letter,) = street.bus.dead_letters()
        assert (letter.reason, letter.event.payload) == ("unreadable", payload)
    kept = {e.head().event_id: e for e in entries(tmp_path / "street")}
    assert kept["n-1"].payload == payload
    assert kept["n-1"].header.desk == "floor"


@virtual
@pytest.mark.parametrize(
    ("given", "log", "why"),
    [
        (entry(a_kill(event_id="k-1")), "normal", "comes in the lane 'normal'"),
        (entry(an_order(event_id="k-1"), "control"), "high", "comes in the lane 'control'"),
        (
            Entry("k-1", b'{"event_class":"RoundReleased","event_id":"k-1","event_type":"round_released"}'),
            "normal",
            "is a record of a bus",
        ),
        (entry(a_kill(event_id="k-1", activated=False), "control"), "high", "not among the `releasers`"),
    ],
)
async def test_what_another_desk_may_not_say_is_a_dead_letter_of_the_link(tmp_path, given, log, why):
    hub = MemoryHub()
    stranger, street = Stranger(hub), Desk(hub, "street", tmp_path / "street", releasers=set())
    there = Listener(street)
    await stranger.open()
    async with running(street):
        await stranger.export(given, log=log)
        await stranger.export(entry(an_order(event_id="o-1")))
        await passes(3)
        assert there.ids == ["o-1"]
        assert street.switches == []
        (letter,) = street.bus.dead_letters("(link)")
        assert (letter.reason, letter.subscription) == ("forged", "(link)")
        assert why in letter.error
    again = Desk(hub, "street", tmp_path / "street", releasers=set())
    async with running(again):
        assert len(again.bus.dead_letters("(link)")) == 1


@virtual
@pytest.mark.parametrize(
    "payload",
    [
        an_order(event_id="x-1").to_json().replace(b'"event_id"', b'"event_ix"'),
        b'{"event_class":"Novelty","event_type":"novelty"}',
        b'{"event_id":1}',
        b"[]",
        b'{"event_id":"x-1"',
    ],
)
@pytest.mark.parametrize("imports", ["*", ["order"]])
async def test_of_a_group_with_an_event_that_has_no_id_nothing_is_taken_and_it_is_told(
    tmp_path, payload, imports
):
    hub = MemoryHub()
    stranger, street = Stranger(hub), Desk(hub, "street", tmp_path / "street", imports=imports)
    there = Listener(street, "order")
    await stranger.open()
    async with running(street):
        await stranger.export(entry(an_order(event_id="o-1")))
        await stranger.export(entry(an_order(event_id="o-2")), Entry("x-1", payload))
        await stranger.export(entry(an_order(event_id="o-3")))
        await passes(3)
        is_taken = imports != "*" and b"order" not in payload  # what is not imported is not looked at
        assert there.ids == (["o-1", "o-2", "o-3"] if is_taken else ["o-1"])
        assert ("positions 2 to" in street.linking.importer.logs["floor", "normal"].gap) is not is_taken
    assert [e.head().event_id for e in entries(tmp_path / "street") if b"o-" in e.payload] == there.ids


@virtual
async def test_where_there_is_no_room_it_waits_and_nothing_overtakes(tmp_path):
    hub = MemoryHub()
    floor = Desk(hub, "floor", tmp_path / "floor")
    street = Desk(hub, "street", tmp_path / "street", max_queue_size=100)
    heard, may_go = [], asyncio.Event()

    async def slowly(event):
        await may_go.wait()
        heard.append(event.event_id)

    street.bus.subscribe(EventType.ORDER, slowly, name="slow", durable=False)
    async with running(floor, street):
        for event in orders(500):
            await floor.bus.publish(event)
        await passes(5)
        assert heard == []
        assert street.linking.importer.logs["floor", "normal"].events < 100
        assert street.bus.metrics.refused == {}
        may_go.set()
        await passes(60)
        assert heard == [f"o-{number}" for number in range(500)]


@virtual
async def test_a_durable_subscription_that_is_slow_holds_nobody_up(tmp_path):
    hub = MemoryHub()
    floor = Desk(hub, "floor", tmp_path / "floor")
    street = Desk(hub, "street", tmp_path / "street", max_queue_size=100)
    quick, heard = Listener(street, name="quick"), []

    async def slowly(event):
        await asyncio.sleep(0.05)
        heard.append(event.event_id)

    street.bus.subscribe(EventType.ORDER, slowly, name="slow")
    async with running(floor, street):
        for event in orders(500):
            await floor.bus.publish(event)
        await passes(3)
        assert len(quick.ids) == 500
        await passes(60)
        assert heard == [f"o-{number}" for number in range(500)]


@virtual
async def test_the_ledger_accounts_for_what_comes_in(tmp_path):
    hub = MemoryHub()
    floor, street = two(hub, tmp_path)
    Listener(street)
    async with running(floor, street):
        for event in orders(50):
            await floor.bus.publish(event)
        await passes()
        await street.bus.join()
        ledger = street.bus.ledger()
        assert ledger.balances
        assert sum(row.handled for row in ledger.rows if row.subscription == "street.listener") == 50


@virtual
async def test_a_desk_that_imports_nothing_of_a_log_does_not_hold_up_others_trimming(tmp_path):
    hub = MemoryHub()
    floor = Desk(hub, "floor", tmp_path / "floor", levels={"order": "disk"})
    street = Desk(hub, "street", tmp_path / "street", imports=set())
    async with running(floor, street):
        for event in orders(50):
            await floor.bus.publish(event)
        await passes(30)
        assert groups_of(hub) == 1  # the newest one stays, with as many as it has


@virtual
async def test_logs_are_trimmed_below_what_all_desks_have_on_their_disks(tmp_path):
    hub = MemoryHub()
    desks = [
        Desk(hub, name, tmp_path / name, levels={"order": "disk"}) for name in ("floor", "street", "risk")
    ]
    floor, _, risk = desks
    async with running(*desks):
        for event in orders(20):
            await floor.bus.publish(event)
        await passes(20)
        assert groups_of(hub) == 1  # the newest one stays, with as many as it has
        await risk.bus.stop()
        for event in orders(20, 20):
            await floor.bus.publish(event)
        await passes(30)
        assert set(log_of(hub, "normal", "floor")) >= {f"o-{number}" for number in range(20, 40)}


@virtual
async def test_retention_keeps_what_another_desk_has_not_imported(tmp_path):
    hub = MemoryHub()
    floor, street = two(hub, tmp_path, levels={"order": "disk"})
    there = Listener(street, "order")
    async with running(street):
        await floor.bus.start()
        for event in orders(20):
            await floor.bus.publish(event)
        await passes(20)
        hub.cut("street")
        for event in orders(20, 20):
            await floor.bus.publish(event)
        await passes(20)
        journal = floor.bus._admission.slot.store.journal
        assert next(h for h in journal.held_by() if h.subscription == "(link)").position < journal.head
        journal.retire(keep_count=0)
        assert journal.first <= 21
        hub.delete("normal")
        hub.heal("street")
        await passes(30)
        assert there.ids == [f"o-{number}" for number in range(40)]
        assert next(h for h in journal.held_by() if h.subscription == "(link)").position == journal.head
        await floor.bus.stop()


@virtual
async def test_what_is_gone_from_log_and_journal_is_told_and_not_passed_over_in_silence(tmp_path, caplog):
    hub = MemoryHub()
    floor, street = two(hub, tmp_path)
    there = Listener(street, "order")
    async with running(floor, street):
        for event in orders(5):
            await floor.bus.publish(event)
        await passes()
        hub.cut("street")
        for event in orders(5, 5):
            await floor.bus.publish(event)
        await passes()
        floor.bus._admission.slot.store.journal.retire(keep_count=0, past_cursors=True)
        hub.delete("normal")
        hub.heal("street")
        await floor.bus.publish(an_order(event_id="o-10"))
        await passes(30)
        assert there.ids == [*(f"o-{number}" for number in range(5)), "o-10"]
        standing = street.linking.standing()
        assert standing.word is LinkWord.LOST
        lost = standing.why
        assert "between positions 5 and 10 of its journal was deleted there before" in lost
        assert lost in caplog.text
        assert (lost, True) in street.linking.problems()
    await street.bus.start()
    assert not lost_by(street)
    await street.bus.stop()


@virtual
async def test_what_was_deleted_and_is_no_business_of_a_log_is_not_told_as_lost_after_a_restart(tmp_path):
    hub = MemoryHub()
    floor, street = two(hub, tmp_path)
    there = Listener(street, "fill", "order")
    async with running(street):
        async with running(floor):
            await floor.bus.publish(a_fill(event_id="f-0"))
            for event in orders(20):
                await floor.bus.publish(event)
            await passes(20)
            journal = floor.bus._admission.slot.store.journal
            journal.retire(keep_count=0, past_cursors=True)
            assert journal.first == journal.head + 1
        again = Desk(hub, "floor", tmp_path / "floor")
        async with running(again):
            await again.bus.publish(a_fill(event_id="f-1"))
            await passes(20)
            assert [one for one in there.ids if one.startswith("f")] == ["f-0", "f-1"]
            assert not lost_by(street)
            runs = {one.reached.run for one in street.linking.importer.logs.values()}
            assert {run.split(":")[1] for run in runs} == {"0"}


@virtual
async def test_a_new_desk_gets_all_that_is_made_from_when_it_has_come(tmp_path):
    hub = MemoryHub()
    floor, street = two(hub, tmp_path)
    there = Listener(street, "order")
    async with running(floor):
        await passes()
        await street.bus.start()
        hub.cut("street")
        for event in orders(3):
            await floor.bus.publish(event)
            await passes(0.1)
        first = next(group.place for group in hub.groups("normal") if group.desk == "floor")
        hub.flip("normal", first)
        hub.heal("street")
        await passes(30)
        assert there.ids == ["o-0", "o-1", "o-2"]
        await street.bus.stop()


@virtual
async def test_what_was_deleted_before_a_new_desk_came_is_no_loss_of_it(tmp_path):
    hub = MemoryHub()
    floor, street = two(hub, tmp_path)
    async with running(floor):
        for event in orders(10):
            await floor.bus.publish(event)
        await passes(20)
        floor.bus._admission.slot.store.journal.retire(keep_count=0)
        await street.bus.start()
        again = Desk(hub, "street", await crash(street, tmp_path / "next"))
        there = Listener(again, "order")
        hub.delete("normal")
        async with running(again):
            await floor.bus.publish(an_order(event_id="o-10"))
            await passes(30)
            assert there.ids == ["o-10"]
            assert not lost_by(again)


@virtual
async def test_what_was_committed_with_its_place_is_not_taken_in_again_after_a_crash(tmp_path):
    hub = MemoryHub()
    floor, street = two(hub, tmp_path)
    async with running(floor):
        await street.bus.start()
        for event in orders(50):
            await floor.bus.publish(event)
        await passes()
        position = street.linking.importer.logs["floor", "normal"].reached.position
        again = Desk(hub, "street", await crash(street, tmp_path / "next"))
        async with running(again):
            await passes()
            found = again.linking.importer.logs["floor", "normal"]
            assert found.reached.position == position
            assert found.duplicates == found.events == 0


def test_the_shape_of_what_the_journal_keeps_of_a_link_is_plain_json():
    state = write_row("(link:floor:normal)", Reached(run="a:0:0:0", position=3), 0).state
    assert msgspec.json.decode(state) == {"run": "a:0:0:0", "position": 3}
