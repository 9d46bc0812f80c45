"""Saved states of agents: written with the cursors they belong to, loaded, and folded on from there (CONTRACT 33)."""

import asyncio
from decimal import Decimal
from typing import Any

import pytest
from bus_helpers import Desk, a_fill, a_kill, an_order, virtual
from durable_kit import Disk, Faulty, a_bus, is_settled, orders, turns

from openoutcry import EventBus, EventBusHealthStatus, Memory, RestoreFailed
from openoutcry.errors import JournalFull
from openoutcry.journals import MemoryJournal


class Ledger:
    """An agent that knows what it has seen, in order, and how much of that it was loaded with."""

    def __init__(self, form: str = "json") -> None:
        self.seen: list[str] = []
        self.folded: list[str] = []
        self.loaded = 0
        self.form = form
        self.gate: asyncio.Event | None = None
        self.fails: set[str] = set()

    async def on_event(self, event: Any) -> None:
        if self.gate is not None:
            await self.gate.wait()
        if event.event_id in self.fails:
            raise ValueError("no")
        self.seen.append(event.event_id)

    def fold(self, event: Any) -> None:
        self.seen.append(event.event_id)
        self.folded.append(event.event_id)

    def save(self) -> Any:
        return "\n".join(self.seen).encode() if self.form == "bytes" else self.seen

    def load(self, state: Any) -> None:
        self.seen = state.decode().split("\n") if self.form == "bytes" else state
        self.loaded = len(self.seen)


def keeps(bus: EventBus, ledger: Ledger, types: Any = "order", every: int = 10, **fields: Any) -> Any:
    memory = Memory(ledger.fold, ledger.save, ledger.load, every=every)
    return bus.subscribe(types, ledger.on_event, name="ledger", memory=memory, **fields)


def names(events: Any) -> list[str]:
    return [event.event_id for event in events]


@pytest.mark.parametrize("form", ["json", "bytes"])
@virtual
async def test_a_restart_loads_the_newest_state_and_folds_what_came_after(disk: Disk, form):
    ledger, events = Ledger(form), orders(25)
    bus = a_bus(disk.journal)
    keeps(bus, ledger)
    await bus.start()
    for event in events:
        await bus.publish(event)
        await bus.join()
    await bus.flush()
    journal = await disk.crash(bus)
    again = Ledger(form)
    bus = a_bus(journal)
    keeps(bus, again)
    async with bus:
        assert again.loaded == 20
        assert again.folded == names(events[20:])
        assert again.seen == names(events)


@virtual
async def test_a_stop_saves_the_state(disk: Disk):
    events = orders(5)
    for life in range(3):
        ledger = Ledger()
        bus = a_bus(disk.journal if life == 0 else disk.restarted())
        keeps(bus, ledger)
        async with bus:
            assert (ledger.loaded, ledger.folded) == (5 * life, [])
            await bus.publish_many(orders(5, first=10 * life))
            await bus.join()
    assert len(events) == 5


@virtual
async def test_the_state_never_disagrees_with_the_cursor_whenever_the_process_dies(disk: Disk):
    """Die after each of many events: state and redelivered events make up all of it, each once or in flight."""
    events = orders(30)
    done: list[str] = []
    journal = disk.journal
    for number, event in enumerate(events):
        ledger = Ledger()
        bus = a_bus(journal)
        keeps(bus, ledger, every=3)
        await bus.start()
        await bus.join()
        assert sorted(set(ledger.seen)) == sorted(done)
        assert len(ledger.seen) == len(done)
        await bus.publish(event)
        if number % 3:
            await bus.join()
        if number % 2:
            await bus.flush()
        done.append(event.event_id)
        journal = await disk.crash(bus)


@virtual
async def test_nothing_is_saved_while_a_call_is_running_or_a_retry_waits(disk: Disk):
    ledger, events = Ledger(), orders(4)
    ledger.fails = {events[1].event_id}
    bus = a_bus(disk.journal)
    keeps(bus, ledger, every=1)
    async with bus:
        await bus.publish_many(events)
        await asyncio.sleep(0.01)
        assert names(events)[1] not in ledger.seen
        found = bus.persistence.journal.snapshot("ledger")
        assert found.form == "none" or b'"' in found.state
        seen_then = ledger.seen[:1]
        ledger.fails = set()
        await bus.join()
        await bus.flush()
        assert seen_then == names(events)[:1]
        assert len(ledger.seen) == 4
    journal = disk.restarted()
    again = Ledger()
    bus = a_bus(journal)
    keeps(bus, again)
    async with bus:
        assert sorted(again.seen) == sorted(names(events))


@virtual
async def test_dead_letters_are_in_no_state_and_redriven_ones_are_folded_on_top(disk: Disk):
    events = orders(6)
    ledger = Ledger()
    ledger.fails = {events[2].event_id, events[4].event_id}
    bus = a_bus(disk.journal)
    keeps(bus, ledger, every=2, retry=False)
    async with bus:
        await bus.publish_many(events)
        await bus.join()
        [dropped, redriven] = bus.dead_letters("ledger")
        bus.admin.drop_dead_letters("ledger", letter_ids=[dropped.letter_id])
    again = Ledger()
    bus = a_bus(disk.restarted())
    keeps(bus, again, every=1_000)
    await bus.start()
    assert again.loaded == 4
    assert bus.admin.redrive() == 1
    await bus.join()
    await bus.flush()
    await asyncio.sleep(1)
    journal = await disk.crash(bus)
    last = Ledger()
    bus = a_bus(journal)
    keeps(bus, last)
    async with bus:
        assert last.loaded == 4
        assert last.folded == [redriven.event.event_id]


@virtual
async def test_a_state_that_json_does_not_give_back_is_refused_loudly_and_nothing_is_lost(disk: Disk, caplog):
    ledger = Ledger()
    events = orders(4)
    bus = a_bus(disk.journal)
    memory = Memory(ledger.fold, lambda: {"cash": Decimal("1.10")}, ledger.load, every=2)
    bus.subscribe("order", ledger.on_event, name="ledger", memory=memory)
    async with bus:
        await bus.publish_many(events)
        await bus.join()
        health = await bus.check_health()
        assert health.status is EventBusHealthStatus.DEGRADED
        [found] = [f for f in health.findings if f.check == "memory"]
        assert "['cash']" in found.detail
        assert "could not be saved" in found.detail
    assert any("could not be saved" in r.getMessage() for r in caplog.records)
    again = Ledger()
    bus = a_bus(disk.restarted())
    keeps(bus, again)
    async with bus:
        assert again.folded == names(events)


@virtual
async def test_a_load_that_raises_leaves_the_subscription_on_hold(disk: Disk):
    ledger = Ledger()
    bus = a_bus(disk.journal)
    keeps(bus, ledger)
    async with bus:
        await bus.publish_many(orders(3))
        await bus.join()
    for _ in range(2):
        bus = a_bus(disk.restarted())
        memory = Memory(ledger.fold, ledger.save, lambda state: state["cash"])
        subscription = bus.subscribe("order", Desk().on_event, name="ledger", memory=memory)
        async with bus:
            with pytest.raises(
                RestoreFailed, match=r"its load raised TypeError.*what earlier releases have saved"
            ):
                await subscription.ready()
            assert not (await bus.check_health()).is_healthy
    again = Ledger()
    bus = a_bus(disk.restarted())
    keeps(bus, again)
    async with bus:
        assert again.loaded == 3


@virtual
async def test_an_agent_that_forgets_how_to_load_is_told(disk: Disk):
    bus = a_bus(disk.journal)
    keeps(bus, Ledger())
    async with bus:
        await bus.publish_many(orders(3))
        await bus.join()
    bus = a_bus(disk.restarted())
    subscription = bus.subscribe("order", Desk().on_event, name="ledger", restore=lambda event: None)
    async with bus:
        with pytest.raises(RestoreFailed, match="no load"):
            await subscription.ready()


@virtual
async def test_without_fold_the_newest_state_is_what_there_is(disk: Disk):
    ledger, events = Ledger(), orders(7)
    bus = a_bus(disk.journal)
    memory = Memory(save=ledger.save, load=ledger.load, every=5)
    bus.subscribe("order", ledger.on_event, name="ledger", memory=memory, overflow="conflate")
    await bus.start()
    for event in events:
        await bus.publish(event)
        await bus.join()
    await bus.flush()
    journal = await disk.crash(bus)
    again = Ledger()
    bus = a_bus(journal)
    memory = Memory(save=again.save, load=again.load)
    bus.subscribe("order", again.on_event, name="ledger", memory=memory, overflow="conflate")
    async with bus:
        assert again.seen == names(events[:5])


@virtual
async def test_retention_passes_what_is_in_a_state_and_stops_there(disk: Disk):
    ledger, events = Ledger(), orders(47)
    bus = a_bus(disk.journal, retain_count=5)
    keeps(bus, ledger, every=10)
    await bus.start()
    for event in events:
        await bus.publish(event)
        await bus.join()
    await asyncio.sleep(2)
    assert 30 < disk.journal.first <= 41
    assert not [f for f in (await bus.check_health()).findings if f.check == "retention"]
    journal = await disk.crash(bus)
    again = Ledger()
    bus = a_bus(journal, retain_count=5)
    keeps(bus, again)
    async with bus:
        assert again.seen == names(events)


@virtual
async def test_an_idle_agent_does_not_hold_retention_back_for_ever(disk: Disk, monkeypatch):
    monkeypatch.setattr("openoutcry.runtime.durability.memories.MOVE_AFTER", 50)
    ledger, folder, fills = Ledger(), Ledger(), [a_fill(str(n)) for n in range(3)]
    bus = a_bus(disk.journal, retain_count=10)
    keeps(bus, ledger, "fill")
    bus.subscribe("decision", folder.on_event, name="folder", restore=folder.fold)
    async with bus:
        await bus.publish_many(fills)
        await bus.join()
        for order in orders(400):
            await bus.publish(order)
        await bus.join()
        await asyncio.sleep(2)
        assert disk.journal.first > 250
    again = Ledger()
    bus = a_bus(disk.restarted())
    keeps(bus, again, "fill")
    async with bus:
        assert again.seen == names(fills)


@virtual
async def test_a_refused_commit_saves_the_state_with_a_later_one():
    journal = Faulty()
    ledger, events = Ledger(), orders(12)
    bus = a_bus(journal)
    keeps(bus, ledger, every=4)
    await bus.start()
    await bus.publish_many(events[:3])
    await bus.join()
    await bus.flush()
    journal.fail_next("write", JournalFull("no room"))
    await bus.publish_many(events[3:4]) if False else None
    with pytest.raises(JournalFull):
        await bus.publish(an_order("refused"))
    await bus.publish_many(events[3:])
    await bus.join()
    await bus.flush()
    again = Ledger()
    bus_again = a_bus(journal.reopened())
    keeps(bus_again, again)
    async with bus_again:
        assert again.seen == names(events)
        assert again.loaded >= 4
    await bus.stop()


@virtual
async def test_a_kill_switch_that_was_handled_before_it_was_written_is_remembered_once(disk: Disk):
    ledger = Ledger()
    bus = a_bus(disk.journal)
    keeps(bus, ledger, ["order", "kill_switch"], every=1)
    await bus.start()
    for number in range(8):
        await bus.publish(a_kill(reason=str(number)))
        await bus.publish(an_order(str(number)))
        if number % 2:
            await turns(1)
    await bus.join()
    await bus.flush()
    await bus.publish(an_order("last"))
    await bus.join()
    await bus.flush()
    journal = await disk.crash(bus)
    again = Ledger()
    bus = a_bus(journal)
    keeps(bus, again, ["order", "kill_switch"])
    async with bus:
        await bus.join()
        assert sorted(again.seen) == sorted(ledger.seen)
        assert len(set(again.seen)) == 17


@virtual
async def test_an_event_whose_level_is_raised_after_it_was_saved_is_remembered_once(disk: Disk):
    ledger = Ledger()
    events = orders(4)
    bus = a_bus(disk.journal)
    keeps(bus, ledger, every=1)
    await bus.start()
    await bus.publish(events[0], level="memory")
    await bus.publish(events[1])
    await bus.join()
    await bus.flush()
    assert is_settled(bus.persistence.journal, "ledger", "normal", 1)
    await bus.publish(events[0], level="disk")
    await bus.flush()
    assert is_settled(bus.persistence.journal, "ledger", "normal", 2)
    journal = await disk.crash(bus)
    again = Ledger()
    bus = a_bus(journal)
    keeps(bus, again)
    async with bus:
        await bus.join()
        assert sorted(again.seen) == sorted(names(events[:2]))


@virtual
async def test_save_may_not_publish(disk: Disk):
    ledger = Ledger()
    bus = a_bus(disk.journal)

    def save() -> Any:
        bus.publish_nowait(a_fill())
        return []

    memory = Memory(ledger.fold, save, ledger.load, every=1)
    bus.subscribe("order", ledger.on_event, name="ledger", memory=memory)
    async with bus:
        await bus.publish(an_order())
        await bus.join()
        assert "while its memory was being saved" in str((await bus.check_health()).findings)
        assert bus.persistence.journal.head == 1


@virtual
async def test_a_memory_that_is_added_to_an_old_name_begins_with_what_that_had_handled(disk: Disk):
    events = orders(4)
    async with a_bus(disk.journal) as bus:
        bus.subscribe("fill", Desk().on_event, name="other")
        await bus.publish_many(events[:2])
        await bus.join()
        bus.subscribe("order", Ledger().on_event, name="ledger")
        await bus.publish_many(events[2:])
        await bus.join()
    ledger = Ledger()
    bus = a_bus(disk.restarted())
    keeps(bus, ledger)
    async with bus:
        assert ledger.folded == names(events[2:])


@virtual
async def test_giving_the_memory_up_lets_retention_go_on(disk: Disk):
    bus = a_bus(disk.journal)
    bus.subscribe("order", Ledger().on_event, name="ledger", restore=lambda event: None)
    async with bus:
        for order in orders(20):
            await bus.publish(order)
        await bus.join()
    bus = a_bus(disk.restarted(), retain_count=3)
    bus.subscribe("order", Ledger().on_event, name="ledger")
    async with bus:
        await bus.publish(an_order("last"))
        await bus.join()
        await asyncio.sleep(2)
        assert disk.journal.first > 10


@virtual
async def test_a_large_state_beside_the_limit_is_refused_with_its_size(monkeypatch):
    monkeypatch.setattr("openoutcry.runtime.durability.states.STATE_BYTES_MOST", 100)
    ledger = Ledger("bytes")
    bus = a_bus(MemoryJournal())
    keeps(bus, ledger, every=1)
    async with bus:
        await bus.publish_many(orders(20))
        await bus.join()
        assert "at most 100 are kept" in str((await bus.check_health()).findings)
