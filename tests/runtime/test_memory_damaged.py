"""Memories that cannot be given back because a row is damaged: an error by name, or what the operator says (CONTRACT 32)."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from bus_helpers import virtual
from durable_kit import a_bus, orders

from openoutcry import EventBusHealthStatus, Memory, RestoreFailed
from openoutcry.journals import SqliteJournal, recover_into


class Ledger:
    """An agent whose state is what it has handled; it fails on one order."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    async def on_event(self, event: Any) -> None:
        if event.order_id == "o-2":
            raise ValueError("no")
        self.seen.append(event.order_id)

    def fold(self, event: Any) -> None:
        self.seen.append(event.order_id)

    def save(self) -> Any:
        return self.seen

    def load(self, state: Any) -> None:
        self.seen = list(state)


def memory_of(ledger: Ledger, *, saves: bool, **fields: Any) -> Memory:
    if saves:
        return Memory(ledger.fold, ledger.save, ledger.load, every=2, **fields)
    return Memory(ledger.fold, **fields)


async def a_life(path: Path, *, first: int, saves: bool, drops: bool = False, **fields: Any) -> list[str]:
    """Handle three orders; return what was remembered before."""
    ledger = Ledger()
    with closing(SqliteJournal(path, engine="sqlite3")) as journal:
        async with a_bus(journal) as bus:
            memory = memory_of(ledger, saves=saves, **fields)
            subscription = bus.subscribe("order", ledger.on_event, name="book", retry=False, memory=memory)
            await subscription.ready()
            remembered = list(ledger.seen)
            await bus.publish_many(orders(3, first=first))
            await bus.join()
            if drops:
                bus.admin.drop_dead_letters()
        return remembered


def damage(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute(statement)
        db.commit()


ROWS = {
    "state": "UPDATE snapshots SET state = x'5b5d'",
    "places": "UPDATE snapshots SET cursors = '{}'",
}


@pytest.mark.parametrize("recovers", [True, False], ids=["recovered", "as it is"])
@pytest.mark.parametrize("saves", [True, False], ids=["saved", "folded"])
@virtual
async def test_a_memory_that_begins_with_nothing_on_the_operators_word_remembers_from_then_on(
    tmp_path, saves, recovers
):
    path = tmp_path / "firm.db"
    await a_life(path, first=1, saves=saves)
    damage(path, ROWS["places"])
    if recovers:
        recover_into(path, tmp_path / "new.db")
        path = tmp_path / "new.db"
    for _ in range(2):
        with pytest.raises(RestoreFailed, match=r"damaged.*on_missing='warn'\) it begins with nothing"):
            await a_life(path, first=10, saves=saves)
    assert await a_life(path, first=10, saves=saves, on_missing="warn") == []
    expected = [f"o-{n}" for n in (10, 11, 12)]
    assert await a_life(path, first=20, saves=saves, on_missing="warn") == expected
    expected += [f"o-{n}" for n in (20, 21, 22)]
    assert await a_life(path, first=30, saves=saves) == expected


@virtual
async def test_a_damaged_tombstone_holds_up_those_with_a_memory_and_nobody_else(tmp_path, caplog):
    path, other = tmp_path / "firm.db", Ledger()
    await a_life(path, first=1, saves=False, drops=True)
    damage(path, "UPDATE tombstones SET checksum = x'00'")
    ledger = Ledger()
    with closing(SqliteJournal(path, engine="sqlite3")) as journal:
        async with a_bus(journal) as bus:
            memory = memory_of(ledger, saves=False)
            book = bus.subscribe("order", ledger.on_event, name="book", memory=memory)
            bus.subscribe("order", other.on_event, name="other")
            with pytest.raises(RestoreFailed, match="a tombstone of 'book' is damaged"):
                await book.ready()
            assert await bus.publish(orders(1, first=5)[0])
            await bus.publish_many(orders(1, first=6))
            with pytest.raises(RestoreFailed):
                await bus.join()
            health = await bus.check_health()
            assert (health.status, health.culprits) == (EventBusHealthStatus.UNHEALTHY, ("book",))
    assert other.seen == ["o-5", "o-6"]
    caplog.clear()
    assert await a_life(path, first=7, saves=False, on_missing="warn") == ["o-1", "o-2", "o-3"]
    assert "it may remember events of dead letters that were dropped" in caplog.text


@virtual
async def test_an_agent_without_load_begins_with_what_came_after_its_state_on_the_operators_word(tmp_path):
    path = tmp_path / "firm.db"
    await a_life(path, first=3, saves=True)
    with pytest.raises(RestoreFailed, match="it has a saved state, and no load; give it load, and with"):
        await a_life(path, first=10, saves=False)
    assert await a_life(path, first=20, saves=False, on_missing="warn") == []
    expected = [f"o-{n}" for n in (20, 21, 22)]
    assert await a_life(path, first=30, saves=False, on_missing="warn") == expected
    expected = [f"o-{n}" for n in (3, 4, 5, 20, 21, 22, 30, 31, 32)]
    assert await a_life(path, first=40, saves=True) == expected, "the state is as it was"
