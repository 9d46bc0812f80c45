"""Kill switches that come again when the journal has long forgotten them: what is over stays over."""

import msgspec
import pytest
from bus_helpers import an_order, virtual
from desk_kit import Desk, passes, running
from listening import entries

from openoutcry import KillSwitchEvent
from openoutcry.core.crossings import OVER_MOST, Crossings
from openoutcry.links import Fault
from openoutcry.links.memory_hub import MemoryHub
from openoutcry.links.wire import ActiveHalt, Kill, write_message
from openoutcry.runtime.linking.kill import CROSSINGS

FORGETS = {"retain_count": 5, "lease_s": 0}


def a_switch(**fields):
    return KillSwitchEvent(**{"scope": "firm", "reason": "limit", "triggered_by": "risk", **fields})


def without_exports(hub, desk):
    """Have the engine take nothing that a desk exports, as if its log were full. Kill switches are shouted."""

    def becomes(asking, step):
        return Fault.LOST if (asking, step) == (desk, "append") else None

    hub.on_step = becomes


async def forgotten(desk, *event_ids):
    """Publish until the journal of a desk has forgotten some events."""
    for number in range(40):
        await desk.bus.publish(an_order(f"{desk.name}-{number}"))
    await passes(200)
    journal = desk.bus.persistence.journal
    assert [one for one in event_ids if journal.find(one) is not None] == []


@virtual
async def test_one_that_was_released_and_forgotten_is_not_raised_anew_when_the_log_brings_it(tmp_path):
    hub = MemoryHub()
    floor, street = (Desk(hub, name, tmp_path / name, **FORGETS) for name in ("floor", "street"))
    releaser = floor.bus.releaser("officer")
    async with running(floor, street):
        await passes(1)
        without_exports(hub, "street")
        switch = a_switch()
        await street.bus.publish(switch)
        await passes(0.1)
        release = await releaser.release(reason="seen to")
        await forgotten(floor, switch.event_id)
        hub.on_step = lambda _desk, _step: None
        await passes(60)
        assert any(e.event_id == switch.event_id for g in hub.groups("high") for e in g.entries)
        for desk in (floor, street):
            assert desk.active == set()
            assert desk.switched == [switch.event_id, release.event_id]


@virtual
async def test_so_it_is_after_a_restart_and_its_handlers_are_not_called_again(tmp_path):
    hub = MemoryHub()
    floor, street = (Desk(hub, name, tmp_path / name, **FORGETS) for name in ("floor", "street"))
    releaser = floor.bus.releaser("officer")
    switch = a_switch()
    async with running(street):
        async with running(floor):
            await passes(1)
            without_exports(hub, "street")
            await street.bus.publish(switch)
            await passes(0.1)
            await releaser.release(reason="seen to")
            await forgotten(floor, switch.event_id)
        again = Desk(hub, "floor", tmp_path / "floor", **FORGETS)
        async with running(again):
            await passes(1)
            hub.on_step = lambda _desk, _step: None
            await passes(60)
            assert again.active == street.active == set()
            assert again.switched == []
    last = Desk(hub, "floor", tmp_path / "floor", **FORGETS)
    async with running(last):
        await passes(5)
        assert last.active == set()
        assert last.switched == []


@virtual
async def test_a_release_that_was_forgotten_is_handled_once_and_ends_nothing_more(tmp_path):
    hub = MemoryHub()
    floor, street = (Desk(hub, name, tmp_path / name, **FORGETS) for name in ("floor", "street"))
    releaser = street.bus.releaser("officer")
    async with running(floor, street):
        await passes(1)
        without_exports(hub, "street")
        switch = a_switch()
        await street.bus.publish(switch)
        release = await releaser.release(reason="seen to")
        await passes(0.1)
        await forgotten(floor, switch.event_id, release.event_id)
        hub.on_step = lambda _desk, _step: None
        await passes(60)
        assert floor.switched == [switch.event_id, release.event_id]
        assert floor.active == set()
        assert len(floor.linking.kill._switches.crossings) == 0


@virtual
async def test_a_desk_that_still_names_it_in_its_beats_is_not_asked_for_it(tmp_path):
    hub = MemoryHub()
    floor, street = (Desk(hub, name, tmp_path / name, **FORGETS) for name in ("floor", "street"))
    releaser = floor.bus.releaser("officer")
    async with running(floor, street):
        await passes(1)
        switch = a_switch()
        await floor.bus.publish(switch)
        await releaser.release(reason="seen to")
        await passes(1)
        await forgotten(floor, switch.event_id)
        kill = floor.linking.kill
        kill._known.clear()
        assert kill._knows(ActiveHalt("firm", switch.event_id, "risk", "limit"))
        kill._heard("street", write_message(Kill(event=msgspec.Raw(switch.to_json()))), releases=False)
        await passes(1)
        assert floor.active == set()
        assert floor.switched.count(switch.event_id) == 1


@virtual
async def test_one_that_is_still_active_stays_so_when_it_was_forgotten_and_comes_again(tmp_path):
    hub = MemoryHub()
    floor, street = (Desk(hub, name, tmp_path / name, **FORGETS) for name in ("floor", "street"))
    async with running(floor, street):
        await passes(1)
        without_exports(hub, "street")
        switch = a_switch()
        await street.bus.publish(switch)
        await forgotten(floor, switch.event_id)
        hub.on_step = lambda _desk, _step: None
        await passes(60)
        assert floor.active == street.active == {switch.event_id}
        assert floor.switched == [switch.event_id]


@virtual
async def test_what_is_over_is_saved_beside_the_journal_also_what_was_released_before_the_start(tmp_path):
    hub = MemoryHub()
    floor = Desk(hub, "floor", tmp_path / "floor", **FORGETS)
    releaser = floor.bus.releaser("officer")
    switch = a_switch()
    await floor.bus.publish(switch)
    await releaser.release(ids=switch.event_id, reason="seen to")
    async with running(floor):
        await passes(1)
        saved = floor.bus.persistence.journal.snapshot(CROSSINGS)
        assert switch.event_id in msgspec.json.decode(saved.state)["over"]
    assert [one.lane for one in entries(tmp_path / "floor")] == ["control", "control"]


def test_of_those_that_are_over_the_last_are_remembered() -> None:
    crossings = Crossings()
    crossings.end(str(number) for number in range(OVER_MOST))
    crossings.end(["0"])  # again, so that it is the newest
    crossings.end(["new"])
    assert crossings.is_over("0")
    assert not crossings.is_over("1")
    again = Crossings()
    again.end(["since"])
    again.load(msgspec.json.decode(msgspec.json.encode(crossings.to_dict())))
    assert again.is_over("new")
    assert again.is_over("since")
    assert len(again) == 0


@pytest.mark.parametrize("saved", [{}, {"k-1": "r-1"}])
def test_what_an_earlier_version_has_saved_is_read(saved) -> None:
    crossings = Crossings()
    crossings.load(saved)
    assert len(crossings) == len(saved)
    for kill_id, release_id in saved.items():
        assert crossings.take(kill_id) == release_id


@virtual
async def test_what_a_release_has_ended_is_saved_with_the_release_and_not_a_beat_later(tmp_path):
    hub = MemoryHub()
    floor, street, third = (
        Desk(hub, name, tmp_path / name, lease_s=0) for name in ("floor", "street", "third")
    )
    releaser = third.bus.releaser("officer")
    async with running(floor, street, third):
        await passes(1)
        hub.cut("street")  # it hears of nothing
        without_exports(hub, "floor")
        switch = a_switch()
        await floor.bus.publish(switch)
        await passes(0.1)
        release = await releaser.release(reason="seen to")
        await passes(1)
        hub.heal("street")
        journal = street.bus.persistence.journal
        for _ in range(1_000):
            await passes(0.001)
            if journal.find(release.event_id) is not None:
                break
        saved = journal.snapshot("(link:released)")
        assert saved is not None
        assert switch.event_id.encode() in saved.state, "it is in the same commit"
