"""Kill switches across desks: at once, once, and back again."""

import msgspec
from bus_helpers import virtual
from desk_kit import Desk, passes, running

from openoutcry import KillSwitchEvent
from openoutcry.links.memory_hub import MemoryHub
from openoutcry.links.wire import Kill, write_message


def a_switch(**fields):
    return KillSwitchEvent(**{"scope": "firm", "reason": "limit", "triggered_by": "risk", **fields})


@virtual
async def test_a_kill_switch_is_handled_at_once_on_every_desk(tmp_path):
    hub = MemoryHub()
    floor, street = (Desk(hub, name, tmp_path / name) for name in ("floor", "street"))
    async with running(floor, street):
        switch = a_switch()
        await floor.bus.publish(switch)
        await passes(0.01)
        assert street.switched == floor.switched == [switch.event_id]
        assert street.active == floor.active == {switch.event_id}
        assert street.switches[0] == switch


@virtual
async def test_it_is_written_as_its_desk_has_written_it_and_known_after_a_restart(tmp_path):
    hub = MemoryHub()
    floor, street = (Desk(hub, name, tmp_path / name) for name in ("floor", "street"))
    switch = a_switch()
    async with running(floor, street):
        await floor.bus.publish(switch)
        await passes(0.1)
        (first,) = (s for s in floor.bus.persistence.journal.read(0, 10) if s.lane == "control")
        (second,) = (s for s in street.bus.persistence.journal.read(0, 10) if s.lane == "control")
        assert second.payload == first.payload
        assert second.header.desk == "floor"
        assert first.header is None
    again = Desk(hub, "street", tmp_path / "street")
    async with running(again):
        assert again.active == {switch.event_id}
        assert again.switched == []


@virtual
async def test_who_missed_the_shout_hears_it_from_a_beat(tmp_path):
    hub = MemoryHub()
    floor, street = (Desk(hub, name, tmp_path / name) for name in ("floor", "street"))
    async with running(floor, street):
        hub.cut("street")
        switch = a_switch()
        await floor.bus.publish(switch)
        await passes(0.1)
        assert street.switched == []
        hub.heal("street")
        await passes(0.3)
        assert street.switched == [switch.event_id]
        await passes(2)
        assert street.switched == [switch.event_id]


@virtual
async def test_it_reaches_all_while_the_logs_answer_nobody(tmp_path):
    hub = MemoryHub()
    floor, street = (Desk(hub, name, tmp_path / name) for name in ("floor", "street"))
    async with running(floor, street):
        hub.is_answering = False
        switch = a_switch()
        await floor.bus.publish(switch)
        await passes(0.01)
        assert street.switched == [switch.event_id]
        hub.is_answering = True


@virtual
async def test_a_desk_that_starts_hears_what_is_active_before_it_hands_out_anything(tmp_path):
    hub = MemoryHub()
    floor, street = (Desk(hub, name, tmp_path / name) for name in ("floor", "street"))
    async with running(floor):
        switch = a_switch()
        await floor.bus.publish(switch)
        await passes(0.1)
        await street.bus.start()
        assert street.active == {switch.event_id}
        await street.bus.join()
        assert street.switched == [switch.event_id]
        await street.bus.stop(1)


@virtual
async def test_a_release_ends_what_it_names_and_nothing_else(tmp_path):
    hub = MemoryHub()
    floor, street = (Desk(hub, name, tmp_path / name) for name in ("floor", "street"))
    releaser = floor.bus.releaser("officer")
    async with running(floor, street):
        one, two = a_switch(), a_switch()
        await floor.bus.publish(one)
        await passes(0.1)
        hub.cut("floor")
        await street.bus.publish(two)  # it crosses the release
        release = await releaser.release(reason="seen to")
        assert release.releases == (one.event_id,)
        hub.heal("floor")
        await passes(1)
        assert floor.active == {two.event_id}
        assert two.event_id in floor.switched
        assert two.event_id in street.active


@virtual
async def test_a_release_of_a_desk_that_may_not_release_is_not_believed(tmp_path):
    hub = MemoryHub()
    floor = Desk(hub, "floor", tmp_path / "floor")
    street = Desk(hub, "street", tmp_path / "street", releasers=["risk"])
    releaser = floor.bus.releaser("officer")
    async with running(floor, street):
        switch = a_switch()
        await floor.bus.publish(switch)
        await passes(0.1)
        await releaser.release(reason="seen to")
        await passes(1)
        assert floor.active == set()
        assert street.active == {switch.event_id}


@virtual
async def test_a_release_on_the_topic_of_kill_switches_is_not_believed(tmp_path):
    hub = MemoryHub()
    floor, street = (Desk(hub, name, tmp_path / name) for name in ("floor", "street"))
    async with running(floor, street):
        switch = a_switch()
        await floor.bus.publish(switch)
        await passes(0.1)
        release = KillSwitchEvent(activated=False, releases=(switch.event_id,), source_agent="x")
        await floor.transport.broadcast("kill", write_message(Kill(event=msgspec.Raw(release.to_json()))))
        await passes(0.1)
        assert street.active == {switch.event_id}


@virtual
async def test_a_release_that_names_nothing_ends_nothing_elsewhere(tmp_path):
    hub = MemoryHub()
    floor, street = (Desk(hub, name, tmp_path / name) for name in ("floor", "street"))
    releaser = floor.bus.releaser("officer")
    async with running(floor, street):
        hub.cut("floor")
        switch = a_switch()
        await street.bus.publish(switch)
        hub.heal("floor")
        release = await releaser.release(reason="there is nothing active here yet")
        assert release.releases == ()
        await passes(1)
        assert street.active == floor.active == {switch.event_id}


@virtual
async def test_a_kill_switch_that_comes_after_its_release_is_over_when_it_comes(tmp_path):
    hub = MemoryHub()
    floor, street, third = (Desk(hub, name, tmp_path / name) for name in ("floor", "street", "third"))
    releaser = floor.bus.releaser("officer")
    async with running(floor, street, third):
        switch = a_switch()
        hub.cut("third")
        await street.bus.publish(switch)
        await passes(0.1)
        assert floor.active == {switch.event_id}
        hub.heal("third")
        release = await releaser.release(reason="seen to")  # before third has asked for the switch
        await passes(0.01)
        assert third.switched == [release.event_id]
        for desk in (floor, street):
            assert desk.active == set()
        kill = Kill(event=msgspec.Raw(switch.to_json()))
        third.linking.kill._heard("street", write_message(kill), releases=False)
        await passes(0.1)
        assert third.active == set()
        assert third.switched[1] == switch.event_id
        assert third.switches[-1].releases == (switch.event_id,)
        assert not third.switches[-1].activated
        await passes(1)
        assert floor.active == street.active == third.active == set()
    again = Desk(hub, "third", tmp_path / "third")
    async with running(again):
        assert again.active == set()


@virtual
async def test_what_crossed_is_remembered_over_a_restart(tmp_path):
    hub = MemoryHub()
    floor, third = (Desk(hub, name, tmp_path / name) for name in ("floor", "third"))
    releaser = floor.bus.releaser("officer")
    switch = a_switch()
    async with running(floor, third):
        hub.cut("third")
        await floor.bus.publish(switch)
        hub.heal("third")
        await releaser.release(reason="seen to")
        await passes(0.1)
    again = Desk(hub, "third", tmp_path / "third")
    async with running(again):
        again.linking.kill._heard(
            "floor", write_message(Kill(event=msgspec.Raw(switch.to_json()))), releases=False
        )
        await passes(0.1)
        assert again.active == set()
