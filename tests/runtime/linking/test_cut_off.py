"""Cut off: a desk that hears no other one says so, and halts itself if it was told to."""

import asyncio
from typing import cast

from bus_helpers import virtual
from desk_kit import Desk, passes, running

from openoutcry import EventType
from openoutcry.links.memory_hub import MemoryHub
from openoutcry.virtual import VirtualLoop


def alerts_of(desk):
    found = []
    desk.bus.subscribe(EventType.RISK_ALERT, found.append, name=f"{desk.name}.alerts")
    return found


async def health(desk):
    return {finding.check: finding for finding in (await desk.bus.check_health()).findings}


@virtual
async def test_silence_raises_a_risk_alert_once_and_makes_the_bus_unhealthy(tmp_path):
    hub = MemoryHub()
    floor, street = (Desk(hub, name, tmp_path / name) for name in ("floor", "street"))
    alerts, others = alerts_of(street), alerts_of(floor)
    async with running(floor, street):
        await passes(10)
        assert "link" not in await health(street)
        hub.cut("street")
        await passes(4)
        assert alerts == []
        await passes(2)
        assert len(alerts) == 1
        assert "has not heard floor for 5" in alerts[0].message
        finding = (await health(street))["link"]
        assert finding.level.value == "unhealthy"
        assert finding.culprit == "link"
        await passes(5)
        assert len(alerts) == 1
        assert street.active == set()
        hub.heal("street")
        await passes(3)
        assert "link" not in await health(street)
        assert street.active == set()
        assert not [alert for alert in others if "desk 'street'" in alert.message]  # each has its own


@virtual
async def test_halt_throws_this_desks_own_kill_switch_which_stays_here(tmp_path):
    hub = MemoryHub()
    floor, street = (Desk(hub, name, tmp_path / name, on_link_lost="halt") for name in ("floor", "street"))
    releaser = street.bus.releaser("officer")
    async with running(floor, street):
        hub.cut("street")
        await passes(6)
        assert len(street.switched) == 1
        assert "not released by itself: `openoutcry release`" in street.switches[0].reason
        assert street.active == set(street.switched)
        hub.heal("street")
        await passes(5)
        assert street.active == set(street.switched)  # it is not released by itself
        assert not floor.active & street.active
        assert street.switched[0] not in floor.switched
        hub.cut("street")
        await passes(6)
        assert len(street.active) == 1  # one is enough
        hub.heal("street")
        await releaser.release(reason="seen to")
        assert street.active == set()


@virtual
async def test_a_desk_that_is_alone_from_the_beginning_is_not_cut_off(tmp_path):
    hub = MemoryHub()
    street = Desk(hub, "street", tmp_path / "street", on_link_lost="halt")
    async with running(street):
        await passes(60)
        assert street.switched == []
        assert "link" not in await health(street)


@virtual
async def test_a_desk_that_was_left_alone_by_a_clean_stop_is_not_cut_off(tmp_path):
    hub = MemoryHub()
    floor, street = (Desk(hub, name, tmp_path / name) for name in ("floor", "street"))
    alerts = alerts_of(street)
    async with running(floor, street):
        await floor.bus.stop(1)
        await passes(60)
        assert alerts == []


@virtual
async def test_a_desk_whose_only_companion_has_died_is_told_so(tmp_path):
    hub = MemoryHub()
    floor, street = (Desk(hub, name, tmp_path / name) for name in ("floor", "street"))
    alerts = alerts_of(street)
    async with running(floor, street):
        floor.transport.die()
        await passes(6)
        assert len(alerts) == 1


@virtual
async def test_a_desk_that_starts_without_the_engine_is_cut_off(tmp_path):
    hub = MemoryHub()
    hub.cut("street")
    street = Desk(hub, "street", tmp_path / "street", on_link_lost="halt", lease_s=0)
    async with running(street):
        await passes(6)
        assert len(street.switched) == 1
        assert "the engine does not answer" in street.switches[0].reason


@virtual
async def test_what_a_process_has_slept_through_is_no_silence(tmp_path):
    hub = MemoryHub()
    floor, street = (Desk(hub, name, tmp_path / name) for name in ("floor", "street"))
    alerts = alerts_of(street)
    async with running(floor, street):
        await passes(1)
        loop = cast(VirtualLoop, asyncio.get_running_loop())
        loop.clock.advance(60_000_000_000)
        await passes(0.5)
        assert alerts == []
