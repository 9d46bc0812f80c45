"""At what pace memories are given back: beside everything else, and before what has time (CONTRACT 32)."""

import asyncio
from collections import Counter
from itertools import pairwise
from typing import Any

import pytest
from bus_helpers import Desk, a_tick, virtual
from durable_kit import Named, a_bus, orders

from openoutcry import BusClosed, Memory, RestoreFailed
from openoutcry.journals import MemoryJournal, SqliteJournal

MS = 1_000_000


async def a_life(journal: Any, agents: int, events: Any) -> None:
    async with a_bus(journal) as bus:
        for number in range(agents):
            bus.subscribe("order", Named(str(number)).on_event, name=f"agent-{number}")
        await bus.publish_many(events)
        await bus.join()


class Slow:
    """An agent that takes its time to fold: the clock goes on by so much with each event."""

    def __init__(self, by_ns: int) -> None:
        self.ids: list[str] = []
        self.by_ns = by_ns
        self.clock = asyncio.get_running_loop().clock  # type: ignore[attr-defined]

    async def on_event(self, event: Any) -> None:
        """Take it."""

    def fold(self, event: Any) -> None:
        self.ids.append(event.event_id)
        self.clock.advance(self.by_ns)


@virtual
async def test_a_slow_fold_gives_the_loop_back_after_every_event_and_a_fast_one_by_the_page():
    journal, events = MemoryJournal(), orders(500)
    await a_life(journal, 2, events)
    bus, slow, fast = a_bus(journal), Slow(MS), Slow(0)
    bus.subscribe("order", slow.on_event, name="agent-0", restore=slow.fold)
    bus.subscribe("order", fast.on_event, name="agent-1", restore=fast.fold)
    bus.subscribe("market_data", Desk().on_event)
    starting, seen = asyncio.create_task(bus.start()), []
    while not starting.done():
        await asyncio.sleep(0)
        seen.append((len(slow.ids), len(fast.ids)))
        if bus.is_running:
            await bus.publish(a_tick())
    assert max(b[0] - a[0] for a, b in pairwise(seen)) == 1
    assert max(b[1] - a[1] for a, b in pairwise(seen)) > 100
    assert slow.ids == fast.ids == [event.event_id for event in events]
    await bus.stop()


@virtual
async def test_a_stop_in_the_middle_of_a_page_is_gone_on_from_event_by_event():
    journal, events = MemoryJournal(), orders(300)
    await a_life(journal, 2, events)
    bus, slow, fast = a_bus(journal), Slow(MS), Slow(0)
    bus.subscribe("order", slow.on_event, name="agent-0", restore=slow.fold)
    bus.subscribe("order", fast.on_event, name="agent-1", restore=fast.fold)
    starting = asyncio.create_task(bus.start())
    while len(slow.ids) < 40:  # noqa: ASYNC110 - an agent folds without events of the loop
        await asyncio.sleep(0)
    await bus.stop(timeout_s=0.05)
    with pytest.raises(BusClosed):
        await starting
    assert 40 <= len(slow.ids) < 300
    await bus.start()
    assert slow.ids == fast.ids == [event.event_id for event in events]
    await bus.stop()


@virtual
async def test_of_several_agents_the_one_that_fails_fails_alone_and_nobody_folds_twice():
    journal, events = MemoryJournal(), orders(600)
    await a_life(journal, 3, events)
    bus, folded = a_bus(journal), Counter[str]()

    def fold(event: Any) -> None:
        folded[event.event_id] += 1

    def fail(event: Any) -> None:
        if event.event_id == events[299].event_id:
            raise ValueError("no")

    one = bus.subscribe("order", Named("0").on_event, name="agent-0", restore=fold)
    bad = bus.subscribe("order", Named("1").on_event, name="agent-1", restore=fail)
    other = bus.subscribe("order", Named("2").on_event, name="agent-2", memory=Memory(fold))
    async with bus:
        await one.ready()
        await other.ready()
        with pytest.raises(RestoreFailed, match="position 300"):
            await bad.ready()
    assert set(folded.values()) == {2}
    assert len(folded) == 600


@virtual
async def test_ids_are_looked_up_after_memories_were_given_back(tmp_path, monkeypatch):
    """Both take the loop, and only one of them is waited for."""
    path, pieces = tmp_path / "firm.db", []
    with SqliteJournal(path) as journal:
        await a_life(journal, 1, orders(500))
    with SqliteJournal(path) as journal:

        def idle() -> bool:
            pieces.append(len(slow.ids))
            return True

        monkeypatch.setattr(journal, "idle", idle)
        bus, slow = a_bus(journal), Slow(5 * MS)
        bus.subscribe("order", slow.on_event, name="agent-0", restore=slow.fold)
        async with bus:
            assert len(slow.ids) == 500  # that took two and a half seconds
            assert 0 < len(pieces) < 10
            pieces.clear()
            await asyncio.sleep(1)
            assert len(pieces) > 100
