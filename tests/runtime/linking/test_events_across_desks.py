"""Events across desks: what one desk accepts is handled on every other that imports its type, in its order."""

import dataclasses
import subprocess
import sys

import pytest
from bus_helpers import a_decision, a_fill, a_kill, a_tick, an_order, virtual
from desk_kit import Desk, passes, running
from listening import Listener, entries, ids_of, log_of

from openoutcry import EventBus, EventType, PersistenceConfig, register_event
from openoutcry.config import Link
from openoutcry.errors import ConfigError
from openoutcry.links.memory import MemoryTransport
from openoutcry.links.memory_hub import MemoryHub
from openoutcry.runtime.linking.log_export import LogExport


@register_event
@dataclasses.dataclass
class Hedge:
    """A user's own event class."""

    event_id: str
    event_type: str = "hedge"
    ratio: float = 0.5


def two(hub, tmp_path, **fields):
    return Desk(hub, "floor", tmp_path / "floor", **fields), Desk(
        hub, "street", tmp_path / "street", **fields
    )


@virtual
async def test_what_a_desk_accepts_is_handled_on_another_in_its_order(tmp_path):
    hub = MemoryHub()
    floor, street = two(hub, tmp_path)
    here, there = Listener(floor), Listener(street)
    async with running(floor, street):
        events = [an_order(f"o-{number}") for number in range(100)]
        for event in events:
            assert await floor.bus.publish(event)
        await passes()
        assert here.ids == ids_of(events)
        assert there.heard == events


@virtual
async def test_what_was_imported_says_which_desk_has_made_it_and_is_exported_by_nobody_else(tmp_path):
    hub = MemoryHub()
    floor, street = two(hub, tmp_path)
    async with running(floor, street):
        order = an_order()
        await floor.bus.publish(order)
        await passes()
    (made,) = [e for e in entries(tmp_path / "floor") if e.head().event_id == order.event_id]
    (taken,) = [e for e in entries(tmp_path / "street") if e.head().event_id == order.event_id]
    assert made.header is None
    assert taken.header.desk == "floor"
    assert (taken.payload, taken.lane, taken.level, taken.wall_ns) == (
        made.payload,
        made.lane,
        made.level,
        made.wall_ns,
    )
    assert log_of(hub, "normal", "street") == []


@virtual
async def test_what_comes_in_from_others_is_not_read_again_for_the_exports(tmp_path, monkeypatch):
    read = []

    def counted(self, released, _read=LogExport._read):
        read.append(self)
        return _read(self, released)

    monkeypatch.setattr(LogExport, "_read", counted)
    hub = MemoryHub()
    floor, street = two(hub, tmp_path)
    there = Listener(street)
    async with running(floor, street):
        await passes()
        read.clear()
        events = [an_order(f"o-{number}") for number in range(1_000)]
        await floor.bus.publish_many(events)
        await passes()
        assert there.heard == events
        exports = street.linking.exporter.logs
        assert not any(one in read for one in exports.values())
        assert {one.done for one in exports.values()} == {street.linking.joined.store.commits.released}
        own = an_order("o-own")
        await street.bus.publish(own)
        await passes()
        assert read.count(exports["normal"]) == 1, "it begins where its own one is"
        assert log_of(hub, "normal", "street") == [own.event_id]


@virtual
async def test_high_priority_events_go_by_a_log_of_their_own(tmp_path):
    hub = MemoryHub()
    floor, street = two(hub, tmp_path)
    there = Listener(street)
    async with running(floor, street):
        fill, order = a_fill(), an_order()
        assert await floor.bus.publish(order)
        assert await floor.bus.publish(fill)
        await passes()
        assert sorted(there.ids) == sorted([fill.event_id, order.event_id])
        assert log_of(hub, "high", "floor") == [fill.event_id]
        assert log_of(hub, "normal", "floor") == [order.event_id]


@virtual
async def test_only_what_is_exported_leaves_and_only_what_is_imported_comes_in(tmp_path):
    hub = MemoryHub()
    floor = Desk(hub, "floor", tmp_path / "floor", exports={"order", "decision"}, keep={"decision"})
    street = Desk(hub, "street", tmp_path / "street", imports={"fill"})
    there = Listener(street)
    async with running(floor, street):
        order, decision, fill = an_order(), a_decision(), a_fill()
        for event in (order, decision, fill):
            await floor.bus.publish(event)
        await passes()
        assert log_of(hub, "normal", "floor") == [order.event_id]
        assert log_of(hub, "high", "floor") == []
        assert there.heard == []
        (reached,) = [one.reached for one in street.linking.importer.logs.values() if one.reached.run]
        assert reached.position == floor.linking.exporter.logs["normal"].after


@virtual
async def test_a_kill_switch_travels_whatever_is_exported_and_imported(tmp_path):
    hub = MemoryHub()
    floor = Desk(hub, "floor", tmp_path / "floor", exports=set())
    street = Desk(hub, "street", tmp_path / "street", imports=set())
    async with running(floor, street):
        switch = a_kill()
        await floor.bus.publish(switch)
        await passes()
        assert street.switched == [switch.event_id]
        assert log_of(hub, "high", "floor") == [switch.event_id]


@virtual
async def test_ticks_that_no_journal_takes_do_not_go_by_the_log(tmp_path):
    hub = MemoryHub()
    floor, street = two(hub, tmp_path)
    async with running(floor, street):
        await floor.bus.publish(a_tick())
        await passes()
        assert log_of(hub, "normal", "floor") == []


@virtual
async def test_what_is_published_before_the_start_is_exported_too(tmp_path):
    hub = MemoryHub()
    floor, street = two(hub, tmp_path)
    there = Listener(street)
    order = an_order()
    await floor.bus.publish(order)
    async with running(floor, street):
        await passes()
        assert there.ids == [order.event_id]


@virtual
async def test_what_a_journal_had_before_it_was_joined_stays_where_it_is(tmp_path):
    hub = MemoryHub()
    alone = EventBus(persistence_config=Desk(hub, "x", tmp_path / "floor").bus.config.persistence)
    async with alone:
        await alone.publish(an_order("before"))
    floor, street = two(hub, tmp_path)
    there = Listener(street)
    async with running(floor, street):
        after = an_order("after")
        await floor.bus.publish(after)
        await passes()
        assert there.ids == [after.event_id]


@virtual
async def test_an_event_that_both_desks_have_published_is_one_event(tmp_path):
    hub = MemoryHub()
    floor, street = two(hub, tmp_path)
    here, there = Listener(floor), Listener(street)
    async with running(floor, street):
        order = an_order()
        await floor.bus.publish(order)
        await street.bus.publish(order)
        await passes()
        assert here.ids == there.ids == [order.event_id]
        assert await street.bus.publish(order)  # a duplicate, as of its own
        await passes()
        assert there.ids == [order.event_id]


@virtual
async def test_causes_and_chains_go_along(tmp_path):
    hub = MemoryHub()
    floor, street = two(hub, tmp_path)

    async def on_decision(decision):
        await floor.bus.publish(an_order("caused"))

    floor.bus.subscribe(EventType.DECISION, on_decision, name="floor.cio")
    there = Listener(street, EventType.ORDER)
    async with running(floor, street):
        decision = a_decision()
        await floor.bus.publish(decision)
        await passes()
        (order,) = there.heard
        assert order.causation_id == decision.event_id
        assert order.correlation_id == decision.event_id


@virtual
async def test_a_users_own_event_keeps_what_stands_beside_it(tmp_path):
    hub = MemoryHub()
    floor, street = two(hub, tmp_path)

    async def on_order(order):
        await floor.bus.publish(Hedge(f"hedge-of-{order.event_id}"))

    floor.bus.subscribe(EventType.ORDER, on_order, name="floor.hedger")
    there = Listener(street, Hedge)
    async with running(floor, street):
        order = an_order()
        await floor.bus.publish(order)
        await passes()
        (hedge,) = there.heard
        assert hedge == Hedge(f"hedge-of-{order.event_id}")
        envelope = street.bus.envelope(hedge)
        assert (envelope.causation_id, envelope.correlation_id) == (order.event_id, order.event_id)


@virtual
async def test_what_handlers_of_two_desks_make_of_one_event_are_two_events(tmp_path):
    hub = MemoryHub()
    desks = two(hub, tmp_path)
    made = []
    for desk in desks:

        async def on_order(order, desk=desk):
            decision = a_decision()
            made.append(decision.event_id)
            await desk.bus.publish(decision)

        desk.bus.subscribe(EventType.ORDER, on_order, name="same name")
    async with running(*desks):
        await desks[0].bus.publish(an_order())
        await passes()
        assert len(set(made)) == 2


@virtual
async def test_history_metrics_and_envelopes_know_what_was_imported(tmp_path):
    hub = MemoryHub()
    floor, street = two(hub, tmp_path)
    async with running(floor, street):
        theirs, ours = an_order(event_id="theirs"), an_order(event_id="ours")
        await floor.bus.publish(theirs)
        await passes()
        await street.bus.publish(ours)
        await passes()
        assert street.bus.envelope(theirs).desk == "floor"
        assert street.bus.envelope(ours).desk is None
        assert floor.bus.envelope(theirs).desk is None
        assert ids_of(street.bus.get_event_history("order")) == ["theirs", "ours"]
        metrics = street.bus.metrics
        assert (metrics.imported, metrics.published) == (1, 2)
        street.bus.reset_metrics()
        assert street.bus.metrics.imported == 0


@virtual
async def test_several_desks_hear_each_other(tmp_path):
    hub = MemoryHub()
    desks = [Desk(hub, name, tmp_path / name) for name in ("floor", "street", "risk")]
    heard = [Listener(desk) for desk in desks]
    async with running(*desks):
        orders = [an_order(f"o-{number}") for number in range(30)]
        for number, order in enumerate(orders):
            await desks[number % 3].bus.publish(order)
        await passes()
        for listener in heard:
            assert sorted(listener.ids) == sorted(ids_of(orders))
            for number in range(3):
                own = ids_of(orders[number::3])
                assert [one for one in listener.ids if one in own] == own


def test_a_link_takes_a_journal(tmp_path):
    with pytest.raises(ConfigError, match="'floor' has a link and no journal"):
        EventBus(link=Link(firm="alpha", desk="floor"), transport=MemoryTransport(MemoryHub(), "floor"))


def test_a_transport_takes_a_link():
    with pytest.raises(ConfigError, match="a transport was given, and no link"):
        EventBus(transport=MemoryTransport(MemoryHub(), "floor"))


def test_a_transport_speaks_for_the_desk_of_the_link(tmp_path):
    link = Link(firm="alpha", desk="floor")
    kept = PersistenceConfig(path=tmp_path / "firm.db")
    with pytest.raises(ConfigError, match="of desk 'floor' and the transport of desk 'street': make"):
        EventBus(persistence_config=kept, link=link, transport=MemoryTransport(MemoryHub(), "street"))


def test_who_has_no_link_imports_nothing_of_it():
    program = (
        "import sys, openoutcry; openoutcry.EventBus()\n"
        "names = ('openoutcry.links', 'openoutcry.runtime.linking', 'nats')\n"
        "print([name for name in sys.modules if name.startswith(names)])"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"
