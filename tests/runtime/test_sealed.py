"""A bus on a keyed journal: what was put back is not believed, and what a recovery makes of it is handled loudly."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from bus_helpers import virtual
from durable_kit import orders

from openoutcry import EventBus, PersistenceConfig
from openoutcry.errors import JournalCorrupt
from openoutcry.journals import JournalReader

KEY = b"b" * 32


def a_sealed_bus(path: Path) -> EventBus:
    config = PersistenceConfig(path=path, key=KEY, engine="sqlite3", socket=False)
    return EventBus(enable_persistence=True, persistence_config=config)


async def a_life(path: Path, *, first: int | None = None) -> list[str]:
    """Handle what is left over, and then fifty orders; return all that was handled."""
    handled: list[str] = []

    async def desk(event: Any) -> None:
        handled.append(event.order_id)

    async with a_sealed_bus(path) as bus:
        bus.subscribe("order", desk, name="desk")
        if first is not None:
            await bus.publish_many(orders(50, first=first))
        await bus.join()
    return handled


@virtual
async def test_cursors_that_were_put_back_do_not_have_fifty_orders_handled_again(tmp_path):
    path, copy = tmp_path / "firm.db", tmp_path / "copy.db"
    await a_life(path, first=1)
    shutil.copy(path, copy)
    assert len(await a_life(path, first=51)) == 50
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute(f"ATTACH '{copy}' AS early")
        db.execute("INSERT OR REPLACE INTO cursors SELECT * FROM early.cursors")
    with pytest.raises(JournalCorrupt, match="cursors of 'desk'"):
        await a_life(path)
    bus = a_sealed_bus(path)
    found = await bus.admin.recover_journal()
    assert "cursors: 'desk' begins at the start of the log: what it has handled may be handled again" in (
        found.beside
    )
    assert len(await a_life(path)) == 100, "and nothing of it in silence"
    assert await a_life(path) == []


@virtual
async def test_a_keyed_firm_lives_on_through_its_own_lives(tmp_path):
    path = tmp_path / "firm.db"
    for life in range(4):
        assert len(await a_life(path, first=1 + 50 * life)) == 50
        with JournalReader(path, key=KEY) as reader:
            assert reader.verify().intact
