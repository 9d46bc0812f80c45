"""`replicated`: the quorum has a copy before `True`, and a life that lacks the event takes it in from there."""

import asyncio

import pytest
from bus_helpers import a_fill, an_order, now_s, virtual
from desk_kit import Desk, passes, running
from listening import Listener, crash, entries, log_of

from openoutcry import EventBus, EventType, PersistenceConfig
from openoutcry.errors import ConfigError, JournalFull, LogFull, Unreachable
from openoutcry.journals import MemoryJournal
from openoutcry.links.memory_hub import MemoryHub


def a_hub(**fields):
    return MemoryHub(**{"replicas": 3, "is_synced": True, **fields})


def two(hub, tmp_path, **fields):
    return Desk(hub, "floor", tmp_path / "floor", **fields), Desk(
        hub, "street", tmp_path / "street", **fields
    )


@virtual
async def test_the_quorum_has_it_before_true_and_each_desk_handles_it_once(tmp_path):
    hub = a_hub()
    hub.delay_s = 0.01
    floor, street = two(hub, tmp_path, levels={"order": "replicated"})
    here, there = Listener(floor), Listener(street)
    async with running(floor, street):
        before_s = now_s()
        assert await floor.bus.publish(an_order(event_id="o-1"))
        assert now_s() - before_s >= 0.02 - 1e-9
        assert "o-1" in log_of(hub, "normal", "floor")
        assert await floor.bus.publish(a_fill(event_id="f-1"), level="replicated")
        assert "f-1" in log_of(hub, "high", "floor")
        await passes(1)
        assert here.ids == ["o-1", "f-1"]
        assert sorted(there.ids) == ["f-1", "o-1"]
        assert street.linking.importer.logs["floor", "normal"].duplicates == 0
        receipt = await floor.bus.publish_receipt(an_order(event_id="o-2"))
        assert (receipt.level, receipt.outcome) == ("replicated", "accepted")
        assert [*await asyncio.gather(*(floor.bus.publish(an_order(event_id=f"p-{n}")) for n in range(20)))]
        assert await floor.bus.publish_many([an_order(event_id=f"q-{n}") for n in range(5)]) == 5
        await passes(1)
        assert len(there.ids) == 2 + 1 + 20 + 5


@virtual
async def test_a_desk_that_dies_between_copy_and_commit_takes_it_in_in_its_next_life(tmp_path):
    hub = a_hub()
    floor, street = two(hub, tmp_path)
    there = Listener(street, "order")
    async with running(street):
        await floor.bus.start()
        await floor.bus.publish(an_order(event_id="o-1"))
        await passes()
        hub.on_step = lambda desk, step: (
            floor.transport.die() if (desk, step) == ("floor", "append done") else None
        )
        publishing = asyncio.create_task(floor.bus.publish(an_order(event_id="o-2"), level="replicated"))
        await passes()
        hub.on_step = lambda _desk, _step: None
        assert not publishing.done()
        path = await crash(floor, tmp_path / "next")
        publishing.cancel()
        again = Desk(hub, "floor", path)
        here = Listener(again, name="anew")
        async with running(again):
            await passes(3)
            assert here.ids[-1] == "o-2"
            await again.bus.publish(an_order(event_id="o-3"))
            await passes(3)
            assert there.ids == ["o-1", "o-2", "o-3"]
    assert [e.head().event_id for e in entries(path)] == ["o-1", "o-2", "o-3"]


@virtual
async def test_what_was_refused_after_its_copy_is_taken_in_by_no_later_life(tmp_path):
    hub = a_hub()

    class Full(MemoryJournal):
        is_full = False

        def write(self, entries, changes=None):
            if self.is_full and entries:
                raise JournalFull("no room")
            return super().write(entries, changes)

    floor, street = two(hub, tmp_path)
    journal = Full()
    floor.bus = EventBus(
        journal=journal,
        link=floor.bus.config.link,
        transport=floor.transport,
        persistence_config=floor.bus.config.persistence,
    )
    there = Listener(street)
    async with running(street):
        async with running(floor):
            await floor.bus.publish(an_order(event_id="o-1"))
            await passes()
            journal.is_full = True
            with pytest.raises(JournalFull):
                await floor.bus.publish(an_order(event_id="o-2"), level="replicated")
            journal.is_full = False
            await passes()
        again = Desk(hub, "floor", tmp_path / "x")
        again.bus = EventBus(
            journal=journal.reopened(),
            link=floor.bus.config.link,
            transport=again.transport,
            persistence_config=floor.bus.config.persistence,
        )
        async with running(again):
            await passes(25)
            await again.bus.publish(an_order(event_id="o-3"))
            await passes(3)
            assert there.ids[0] == "o-1"
            assert "o-2" not in there.ids
            assert there.ids[-1] == "o-3"


@virtual
async def test_a_duplicate_returns_when_the_quorum_has_the_first(tmp_path):
    hub = a_hub()
    floor, street = two(hub, tmp_path)
    async with running(floor, street):
        await passes()
        hub.is_answering = False
        order = an_order(event_id="o-1")
        assert await floor.bus.publish(order)
        again = asyncio.create_task(floor.bus.publish(order, level="replicated"))
        await passes(2)
        assert not again.done()
        hub.is_answering = True
        await passes(3)
        assert again.done()
        assert await again


@virtual
async def test_an_engine_that_is_away_is_told_and_nothing_was_accepted(tmp_path):
    hub = a_hub()
    floor, _ = two(hub, tmp_path, lease_s=0)
    here = Listener(floor, "order")
    async with running(floor):
        hub.is_answering = False
        with pytest.raises(Unreachable, match="nobody knows whether o-1 is replicated"):
            await floor.bus.publish(an_order(event_id="o-1"), level="replicated")
        assert here.ids == []
        hub.is_answering = True
        assert await floor.bus.publish(an_order(event_id="o-1"), level="replicated")
        await passes()
        assert here.ids == ["o-1"]


@virtual
async def test_a_full_log_is_told_to_the_publisher(tmp_path):
    hub = a_hub(most_bytes=3_000)
    floor, _ = two(hub, tmp_path)
    async with running(floor):
        orders = [an_order(event_id=f"o-{number}") for number in range(20)]
        assert await floor.bus.publish(orders[0], level="replicated")
        with pytest.raises(LogFull):
            await asyncio.gather(*(floor.bus.publish(one, level="replicated") for one in orders[1:]))


@virtual
@pytest.mark.parametrize(
    ("engine", "why"),
    [({"replicas": 1}, "keeps each log on 1 node"), ({"is_synced": False}, "before it syncs")],
)
async def test_an_engine_that_cannot_promise_it_is_refused_at_the_start(tmp_path, engine, why):
    floor, _ = two(a_hub(**engine), tmp_path, levels={"order": "replicated"})
    with pytest.raises(ConfigError, match=why):
        await floor.bus.start()
    await floor.bus.stop()
    other, _ = two(a_hub(**engine), tmp_path)
    async with running(other):
        with pytest.raises(ConfigError, match=why):
            await other.bus.publish(an_order(), level="replicated")


def test_without_a_link_there_is_no_replicated(tmp_path):
    config = PersistenceConfig(path=tmp_path / "j", levels={"order": "replicated"})
    with pytest.raises(ConfigError, match="this bus has no link"):
        EventBus(persistence_config=config)


@virtual
async def test_without_a_link_a_publish_at_replicated_is_refused(tmp_path):
    async with EventBus(journal=MemoryJournal()) as bus:
        with pytest.raises(ConfigError, match="this bus has no link"):
            await bus.publish(an_order(), level="replicated")
        assert await bus.publish(an_order())


@virtual
async def test_who_cannot_wait_cannot_publish_at_replicated(tmp_path):
    floor, _ = two(a_hub(), tmp_path)

    async def on_order(order):
        await floor.bus.publish(a_fill(), level="replicated")

    floor.bus.subscribe(EventType.ORDER, on_order, name="outbox", outbox=True)
    async with running(floor):
        with pytest.raises(ConfigError, match="await publish"):
            floor.bus.publish_nowait(an_order(), level="replicated")
        await floor.bus.publish(an_order(event_id="o-1"))
        await passes(30)
        (letter,) = floor.bus.dead_letters("outbox")
        assert "in a handler with an outbox" in letter.error
