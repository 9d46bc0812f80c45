"""Kill switches across desks: at once, once, and back again."""

import asyncio
import random

import msgspec
from bus_helpers import an_order, virtual
from desk_kit import Desk, passes, running
from listening import crash, entries, image

from openoutcry import EventType, KillSwitchEvent
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
        assert street.active == {two.event_id}


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


@virtual
async def test_a_desk_that_starts_reads_the_log_when_nobody_is_there_to_tell_it(tmp_path):
    hub = MemoryHub()
    floor, street = (Desk(hub, name, tmp_path / name) for name in ("floor", "street"))
    releaser = floor.bus.releaser("officer")
    async with running(floor, street):
        await passes(1)
    first, second = a_switch(), a_switch(scope="ES")
    floor = Desk(hub, "floor", tmp_path / "floor")
    releaser = floor.bus.releaser("officer")
    async with running(floor):
        await floor.bus.publish(first)
        await floor.bus.publish(second)
        await releaser.release(ids=first.event_id, reason="seen to")
        await passes(1)
    floor.transport.die()
    seen = []
    street = Desk(hub, "street", tmp_path / "street")
    street.bus.subscribe("order", lambda _: seen.append(street.active), name="gateway")
    await street.bus.start()
    assert street.active == {second.event_id}
    await passes(3)
    assert street.switched.count(second.event_id) == 1
    assert street.active == {second.event_id}
    await street.bus.stop(1)


@virtual
async def test_a_journal_that_lost_its_own_kill_switch_gets_it_back_as_its_own(tmp_path):
    hub = MemoryHub()
    street = Desk(hub, "street", tmp_path / "street")
    async with running(street):
        floor = Desk(hub, "floor", tmp_path / "floor")
        await floor.bus.start()
        await passes(1)
        path = image(floor.bus.config.persistence.path, tmp_path / "before")
        hub.is_answering = False  # the log does not have it either
        switch = a_switch()
        await floor.bus.publish(switch)
        await passes(0.1)
        await crash(floor, tmp_path / "unused")
        hub.is_answering = True
        copy = Desk(hub, "floor", path)
        async with running(copy):
            await passes(3)
            assert copy.active == street.active == {switch.event_id}
    found = {}
    for name, file in (("floor", path), ("street", street.bus.config.persistence.path)):
        (found[name],) = (one for one in entries(file) if one.head().event_id == switch.event_id)
    assert found["floor"].header is None or found["floor"].header.desk is None
    assert found["street"].header.desk == "floor"


@virtual
async def test_one_that_comes_by_shout_and_beat_and_log_is_one_event(tmp_path):
    hub = MemoryHub()
    desks = [Desk(hub, name, tmp_path / name) for name in ("floor", "street", "third")]
    async with running(*desks):
        switches = [a_switch(scope=f"S{number}") for number in range(20)]
        for switch in switches:
            await desks[0].bus.publish(switch)
            await passes(0.05)
        await passes(5)
        for desk in desks:
            assert sorted(desk.switched) == sorted(switch.event_id for switch in switches)
            assert desk.active == {switch.event_id for switch in switches}
            stored = [s for s in desk.bus.persistence.journal.read(0, 1000) if s.lane == "control"]
            assert len(stored) == 20
            assert desk.bus.metrics.duplicates >= 0
            assert not any(f.check == "conflict" for f in (await desk.bus.check_health()).findings)


@virtual
async def test_every_desk_ends_in_the_same_state_whatever_order_things_come_in(tmp_path):
    hub = MemoryHub()
    names = ("floor", "street", "third")
    desks = [Desk(hub, name, tmp_path / name, lease_s=0) for name in names]
    releasers = [desk.bus.releaser("officer") for desk in desks]
    chance = random.Random(7)
    async with running(*desks):
        await passes(1)
        published = []
        for number in range(120):
            which = chance.randrange(3)
            cut = chance.choice(names)
            if chance.random() < 0.3:
                hub.cut(cut)
            if chance.random() < 0.5 or not desks[which].active:
                switch = a_switch(scope=chance.choice(["firm", "ES", "NQ"]), reason=str(number))
                published.append(switch.event_id)
                await desks[which].bus.publish(switch)
            else:
                one = chance.choice(sorted(desks[which].active))
                await releasers[which].release(ids=one, reason="seen to")
            await passes(chance.choice([0.0, 0.01, 0.3]))
            hub.heal(cut)
        await passes(10)
        states = [desk.active for desk in desks]
        assert states[0] == states[1] == states[2]
        for desk in desks:
            handled = [e.event_id for e in desk.switches if e.activated]
            assert sorted(handled) == sorted(published)
            assert _by_events(desk.switches) == desk.active


def _by_events(switches):
    """What an agent that goes by the events that it handles takes for active."""
    active = set()
    for event in switches:
        if event.activated:
            active.add(event.event_id)
        else:
            active -= set(event.releases)
    return active


@virtual
async def test_a_handler_of_a_flood_does_not_delay_one_from_another_desk(tmp_path):
    hub = MemoryHub()
    floor, street = (Desk(hub, name, tmp_path / name, lease_s=0) for name in ("floor", "street"))
    calls, came = [], []

    async def slowly(event):
        calls.append(event)
        await asyncio.sleep(0.01)

    def on_switch(event):
        came.append((asyncio.get_running_loop().time(), len(calls)))

    street.bus.subscribe(EventType.ORDER, slowly, name="street.slow")
    street.bus.subscribe(EventType.KILL_SWITCH, on_switch, name="street.watch")
    async with running(floor, street):
        await passes(1)
        hub.delay_s = 0.05  # of what is no urgent broadcast
        await floor.bus.publish_many([an_order(f"o-{number}") for number in range(2_000)])
        await passes(1)
        at_s = asyncio.get_running_loop().time()
        await floor.bus.publish(a_switch())
        await passes(0.1)
        assert 0 < len(calls) < 2_000
        assert came[0][0] - at_s < 0.01


@virtual
async def test_one_of_a_class_that_is_unknown_here_halts_all_the_same(tmp_path):
    hub = MemoryHub()
    floor, street = (Desk(hub, name, tmp_path / name) for name in ("floor", "street"))
    async with running(floor, street):
        payload = (
            b'{"event_class":"OurOwnStop","event_id":"own-1","event_type":"kill_switch","scope":"ES",'
            b'"reason":"ours","level":7}'
        )
        kill = Kill(event=msgspec.Raw(payload), wall_ns=5)
        await floor.transport.broadcast("kill", write_message(kill), urgent=True)
        await passes(0.1)
        assert street.active == {"own-1"}
        assert street.switches[0].scope == "ES"
        (stored,) = (s for s in street.bus.persistence.journal.read(0, 10) if s.lane == "control")
        assert stored.payload == payload
    again = Desk(hub, "street", tmp_path / "street")
    async with running(again):
        assert again.active == {"own-1"}


@virtual
async def test_garbage_that_is_shouted_is_told_and_harms_nobody(tmp_path):
    hub = MemoryHub()
    floor, street = (Desk(hub, name, tmp_path / name) for name in ("floor", "street"))
    bad = [b"", b"{}", b"[]", b"\xff", b'{"event":1}', b'{"event":{}}', b'{"event":{"event_type":"fill"}}']
    bad += [
        b'{"event":{"event_type":"kill_switch","event_id":""}}',
        b'{"event":{"event_type":"kill_switch","activated":3}}',
    ]
    bad += [b"[" * 100_000]
    async with running(floor, street):
        for topic in ("kill", "release", "beat", "ask", "md"):
            for data in bad:
                await floor.transport.broadcast(topic, data, urgent=True)
        switch = a_switch()
        await floor.bus.publish(switch)
        await passes(1)
        assert street.switched == [switch.event_id]


@virtual
async def test_one_that_is_published_before_the_start_is_told_by_the_first_beat(tmp_path):
    hub = MemoryHub()
    floor, street = (Desk(hub, name, tmp_path / name) for name in ("floor", "street"))
    switch = a_switch()
    async with running(street):
        await floor.bus.publish(switch)
        await floor.bus.start()
        await passes(0.5)
        assert street.switched == [switch.event_id]
        await floor.bus.stop(1)


@virtual
async def test_who_keeps_kill_switches_sends_none(tmp_path):
    hub = MemoryHub()
    floor = Desk(hub, "floor", tmp_path / "floor", keep=["kill_switch"])
    street = Desk(hub, "street", tmp_path / "street")
    async with running(floor, street):
        await floor.bus.publish(a_switch())
        await passes(2)
        assert street.active == set()
        other = a_switch()
        await street.bus.publish(other)
        await passes(1)
        assert other.event_id in floor.switched


@virtual
async def test_more_than_are_kept_by_id_are_released_together(tmp_path):
    hub = MemoryHub()
    floor, street = (Desk(hub, name, tmp_path / name, lease_s=0) for name in ("floor", "street"))
    releaser = floor.bus.releaser("officer")
    async with running(floor, street):
        await passes(1)
        for number in range(1_200):
            await floor.bus.publish(a_switch(reason=str(number)))
        await passes(5)
        assert len(street.bus._bus.halts) == len(floor.bus._bus.halts) == 1_200
        await releaser.release(reason="seen to")
        await passes(2)
        assert len(street.bus._bus.halts) == len(floor.bus._bus.halts) == 0


@virtual
async def test_a_desk_that_is_stopped_and_started_again_hears_and_is_heard(tmp_path):
    hub = MemoryHub()
    floor, street = (Desk(hub, name, tmp_path / name) for name in ("floor", "street"))
    async with running(floor, street):
        for _ in range(3):
            await street.bus.stop(1)
            await street.bus.start()
            await passes(1)
            one, two = a_switch(), a_switch()
            await floor.bus.publish(one)
            await street.bus.publish(two)
            await passes(1)
            for desk in (floor, street):
                assert desk.switched.count(one.event_id) == desk.switched.count(two.event_id) == 1
