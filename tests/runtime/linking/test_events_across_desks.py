"""Events across desks: what one desk accepts is handled on every other that imports its type, in its order."""

from bus_helpers import a_fill, an_order, virtual
from desk_kit import Desk, passes, running

from openoutcry.links.memory_hub import MemoryHub


def ids_of(events):
    return [event.event_id for event in events]


class Listener:
    """Handles everything of some types on a desk."""

    def __init__(self, desk, *types, name="listener"):
        self.heard = []
        desk.bus.subscribe(types or "*", self.on_event, name=f"{desk.name}.{name}")

    async def on_event(self, event):
        self.heard.append(event)

    @property
    def ids(self):
        return ids_of(self.heard)


@virtual
async def test_what_a_desk_accepts_is_handled_on_another_in_its_order(tmp_path):
    hub = MemoryHub()
    floor, street = Desk(hub, "floor", tmp_path / "floor"), Desk(hub, "street", tmp_path / "street")
    here, there = Listener(floor), Listener(street)
    async with running(floor, street):
        events = [an_order(f"o-{number}") for number in range(100)]
        for event in events:
            assert await floor.bus.publish(event)
        await passes()
        assert here.ids == ids_of(events)
        assert there.ids == ids_of(events)
        assert there.heard == events


@virtual
async def test_high_priority_events_go_by_a_log_of_their_own(tmp_path):
    hub = MemoryHub()
    floor, street = Desk(hub, "floor", tmp_path / "floor"), Desk(hub, "street", tmp_path / "street")
    there = Listener(street)
    async with running(floor, street):
        fill, order = a_fill(), an_order()
        assert await floor.bus.publish(order)
        assert await floor.bus.publish(fill)
        await passes()
        assert sorted(there.ids) == sorted([fill.event_id, order.event_id])
        assert {log.log: log.last > 1 for log in hub.facts().logs} == {"high": True, "normal": True}
