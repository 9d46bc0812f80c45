"""Text that cannot be written: it keeps no kill switch from another desk, and no desk from going on."""

from dataclasses import dataclass
from typing import ClassVar

import pytest
from bus_helpers import a_tick, an_order, virtual
from desk_kit import Desk, passes, running
from test_kill_switches_across_desks import a_switch

from openoutcry import register_event
from openoutcry.links.memory_hub import MemoryHub

HALF = "half \ud83d"


@register_event
@dataclass
class HouseSwitch:
    """A kill switch of the user's own class."""

    event_id: str
    scope: str = "firm"
    activated: bool = True
    event_type: ClassVar[str] = "kill_switch"


@pytest.mark.parametrize("field", ["event_id", "reason", "scope", "triggered_by", "source_agent"])
@virtual
async def test_a_kill_switch_reaches_every_desk_whatever_its_texts(field, tmp_path):
    hub = MemoryHub()
    floor, street = (Desk(hub, name, tmp_path / name) for name in ("floor", "street"))
    releaser = floor.bus.releaser("risk officer")
    async with running(floor, street):
        switch = a_switch(**{field: HALF})
        await floor.bus.publish(switch)
        await passes(0.01)
        assert street.switched == floor.switched == [switch.event_id]
        assert street.switches[0] == switch
        await releaser.release(ids=[switch.event_id], reason=HALF)
        await passes()
        assert street.active == floor.active == set()


@virtual
async def test_desks_go_on_after_text_that_cannot_be_written(tmp_path):
    hub = MemoryHub()
    floor, street = (Desk(hub, name, tmp_path / name) for name in ("floor", "street"))
    handled = []
    releaser = floor.bus.releaser("risk officer")
    street.bus.subscribe(["order", "market_data"], handled.append, name="street.desk")
    async with running(floor, street):
        for switch in (HouseSwitch(HALF), HouseSwitch("k", HALF)):
            await floor.bus.publish(switch)
            await passes(0.01)
            assert len(street.switched) == len(floor.switched)
            await floor.bus.publish(a_tick(symbol=HALF))
            await passes(2)
            assert street.active == floor.active
            tick, order = a_tick(), an_order()
            await floor.bus.publish(tick)
            await floor.bus.publish(order)
            await passes(2)
            assert [event.event_id for event in handled[-2:]] in (
                [tick.event_id, order.event_id],
                [order.event_id, tick.event_id],
            )
            after = a_switch()
            await floor.bus.publish(after)
            await passes(2)
            assert after.event_id in street.switched
        assert len(street.active) == 4
        await releaser.release(reason="over")
        await releaser.release(scope=HALF, reason="over")
        await passes()
        assert street.active == floor.active == set()
