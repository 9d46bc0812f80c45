"""Twenty desks in one process: each hears all others in their order, and nobody is woken for what others read."""

from bus_helpers import a_kill, an_order, virtual
from desk_kit import Desk, passes, running
from listening import Listener

from openoutcry.links.memory_hub import MemoryHub

DESKS, EACH = 20, 4


@virtual
async def test_twenty_desks_hear_each_other_in_order_and_read_what_there_is_and_no_more(
    tmp_path, monkeypatch
):
    hub, reads = MemoryHub(), 0
    desks = [Desk(hub, f"d{number:02}", tmp_path / f"d{number:02}") for number in range(DESKS)]
    listeners = [Listener(desk, "order") for desk in desks]
    behind = MemoryHub.behind

    def counted(self, *given):
        nonlocal reads
        reads += 1
        return behind(self, *given)

    async with running(*desks):
        await passes(3)
        monkeypatch.setattr(MemoryHub, "behind", counted)
        for number in range(EACH):
            for desk in desks:
                assert await desk.bus.publish(an_order(event_id=f"{desk.name}-{number}"))
        await passes(3)
        for listener in listeners:
            for desk in desks:
                its = [event_id for event_id in listener.ids if event_id.startswith(desk.name)]
                assert its == [f"{desk.name}-{number}" for number in range(EACH)]
            assert len(listener.ids) == DESKS * EACH
        # Each event is read by 19 desks, and each of them asks once more for what follows.
        assert reads <= 2 * DESKS * EACH * DESKS
        await desks[0].bus.publish(a_kill(event_id="k-1"))
        await passes(0.1)
        assert [desk.active for desk in desks] == [{"k-1"}] * DESKS
        assert all(desk.linking.joined.problems == {} for desk in desks)
