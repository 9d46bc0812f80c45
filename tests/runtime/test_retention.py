"""Retention of a running bus: old entries go, never one that somebody has not settled, and the file shrinks."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from bus_helpers import an_order, now_s, virtual
from durable_kit import Named

from openoutcry import EventBus, PersistenceConfig
from openoutcry.journals import MemoryJournal


@virtual
async def test_what_everybody_has_settled_is_forgotten_beyond_the_count_to_keep() -> None:
    journal = MemoryJournal()
    bus = EventBus(journal=journal, persistence_config=PersistenceConfig(record="off", retain_count=100))
    quick = Named("quick")
    bus.subscribe("order", quick.on_event)
    async with bus:
        for _ in range(20):
            await bus.publish_many([an_order() for _ in range(50)])
            await bus.join()
            await asyncio.sleep(1)
        assert journal.head == 1000
        assert journal.head - journal.first < 200
        assert len(quick.handled) == 1000


@virtual
async def test_nothing_is_forgotten_that_a_paused_subscription_has_not_settled() -> None:
    journal = MemoryJournal()
    bus = EventBus(
        journal=journal, persistence_config=PersistenceConfig(record="off", retain_count=10, retain_s=1.0)
    )
    paused, quick = Named("paused"), Named("quick")
    bus.subscribe("order", quick.on_event)
    bus.subscribe("order", paused.on_event).pause()
    async with bus:
        for _ in range(10):
            await bus.publish_many([an_order() for _ in range(50)])
            await asyncio.sleep(5)
        assert journal.first == 1
        bus.subscription("paused.on_event").resume()
        await bus.join()
        assert len(paused.handled) == 500


def test_the_file_shrinks_while_the_bus_runs(tmp_path: Path) -> None:
    path = tmp_path / "firm.db"

    @virtual
    async def main() -> None:
        settings = PersistenceConfig(record="off", path=path, retain_count=200, socket=False)
        bus = EventBus(persistence_config=settings)
        bus.subscribe("order", Named("quick").on_event)
        async with bus:
            for _ in range(20):
                await bus.publish_many([an_order() for _ in range(500)])
                await bus.join()
            await asyncio.sleep(60)
            await bus.flush()
        assert path.stat().st_size < 1_000_000  # 10,000 events, of some 400 bytes each, went through it

    main()


def test_entries_are_forgotten_while_events_keep_coming(tmp_path: Path) -> None:
    path = tmp_path / "firm.db"

    @virtual
    async def main() -> None:
        settings = PersistenceConfig(record="off", path=path, retain_count=100, socket=False)
        bus = EventBus(persistence_config=settings)
        bus.subscribe("order", Named("quick").on_event)
        async with bus:
            for _ in range(300):
                await bus.publish_many([an_order() for _ in range(50)])
                await asyncio.sleep(0.1)
            journal = bus._admission.store.journal
            assert journal.head == 15_000
            assert journal.head - journal.first < 5_000

    main()


@virtual
async def test_what_a_late_one_has_settled_is_forgotten_though_nothing_new_comes() -> None:
    journal = MemoryJournal()
    bus = EventBus(journal=journal, persistence_config=PersistenceConfig(record="off", retain_count=10))
    late = Named("late")
    bus.subscribe("order", late.on_event).pause()
    async with bus:
        for _ in range(10):
            await bus.publish_many([an_order() for _ in range(50)])
        await asyncio.sleep(5)
        assert journal.first == 1
        bus.subscription("late.on_event").resume()
        await bus.join()
        await asyncio.sleep(5)
        assert journal.head - journal.first < 100


@virtual
async def test_what_grows_too_old_on_an_idle_bus_is_forgotten_when_it_falls_due() -> None:
    journal = MemoryJournal()
    bus = EventBus(journal=journal, persistence_config=PersistenceConfig(record="off", retain_s=300.0))
    quick = Named("quick")
    bus.subscribe("order", quick.on_event)
    async with bus:
        await bus.publish_many([an_order() for _ in range(50)])
        await bus.join()
        await asyncio.sleep(290)
        assert journal.first == 1
        await asyncio.sleep(11)
        assert journal.first == 51


@virtual
async def test_an_idle_bus_forgets_what_falls_due_at_most_once_a_minute(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    journal = MemoryJournal()
    bus = EventBus(journal=journal, persistence_config=PersistenceConfig(record="off", retain_s=300.0))
    quick = Named("quick")
    bus.subscribe("order", quick.on_event)
    retired_at: list[float] = []
    retire = journal.retire

    def noted(**wish: Any) -> int:
        retired_at.append(now_s())
        return retire(**wish)

    async with bus:
        for _ in range(120):
            await bus.publish(an_order())
            await asyncio.sleep(1)
        monkeypatch.setattr(journal, "retire", noted)
        await asyncio.sleep(400)
        assert journal.first == 121
        minutes = [at for before, at in zip([0.0, *retired_at], retired_at, strict=False) if at - before > 1]
        assert len(minutes) <= 4


@virtual
async def test_what_has_grown_too_old_while_no_bus_ran_is_forgotten_after_the_start() -> None:
    journal = MemoryJournal()
    settings = PersistenceConfig(record="off", retain_s=100.0)
    for _ in range(2):
        bus = EventBus(journal=journal, persistence_config=settings)
        bus.subscribe("order", Named("quick").on_event, name="quick")
        async with bus:
            if journal.head == 0:
                await bus.publish_many([an_order() for _ in range(50)])
                await bus.join()
            else:
                await asyncio.sleep(1)
                assert journal.first == 51
        journal = journal.reopened()
        await asyncio.sleep(200)


@virtual
async def test_what_is_kept_for_a_subscription_sets_no_timer_and_goes_when_that_has_settled_it() -> None:
    journal = MemoryJournal()
    bus = EventBus(journal=journal, persistence_config=PersistenceConfig(record="off", retain_s=100.0))
    late = Named("late")
    bus.subscribe("order", late.on_event).pause()
    async with bus:
        await bus.publish_many([an_order() for _ in range(50)])
        await asyncio.sleep(300)
        assert journal.first == 1
        assert bus._admission.store._maintenance._retire_timer is None
        bus.subscription("late.on_event").resume()
        await bus.join()
        await asyncio.sleep(5)
        assert journal.first == 51


@virtual
async def test_without_an_age_an_idle_bus_has_no_timer() -> None:
    journal = MemoryJournal()
    bus = EventBus(journal=journal, persistence_config=PersistenceConfig(record="off", retain_count=10))
    bus.subscribe("order", Named("quick").on_event)
    async with bus:
        await bus.publish_many([an_order() for _ in range(50)])
        await bus.join()
        await asyncio.sleep(10)
        maintenance = bus._admission.store._maintenance
        assert (maintenance._timer, maintenance._retire_timer) == (None, None)
