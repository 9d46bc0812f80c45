"""What a damaged mark has left among the suspects is nobody's: a start clears it, and no agent is disturbed."""

import sqlite3
from pathlib import Path

import pytest
from bus_helpers import virtual
from durable_kit import Named, orders, settings

from openoutcry import EventBus
from openoutcry.journals import JournalReader, SqliteJournal


@pytest.mark.parametrize("call", [("", "", 2), ("", "normal", 2), ("desk.on_event", "no lane", 2)])
def test_a_suspect_that_names_nobody_or_no_lane_is_cleared_at_the_next_start(
    tmp_path: Path, call: tuple[str, str, int]
):
    path = tmp_path / "firm.db"

    @virtual
    async def live() -> None:
        desk = Named("desk")
        bus = EventBus(persistence_config=settings(path=path))
        bus.subscribe("order", desk.on_event)
        async with bus:
            await bus.publish_many(orders(3))
            await bus.join()
        assert len(desk.handled) == 3

    SqliteJournal(path).close()
    db = sqlite3.connect(path)
    with db:
        db.execute("INSERT INTO suspects VALUES(?, ?, ?, 1)", call)
    db.close()
    live()
    with JournalReader(path) as reader:
        assert reader.suspects() == []
