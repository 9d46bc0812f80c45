"""Text that no file can hold: half a surrogate pair ends no journal, whatever it stands in, and loses nothing."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from bus_helpers import Desk, a_kill, an_order

from openoutcry import EventBus, PersistenceConfig
from openoutcry.journals import JournalReader

HALF = "half \ud83d"
KEYS = pytest.mark.parametrize("key", [None, b"k" * 32], ids=["plain", "keyed"])


def a_bus(folder: Path, **fields: Any) -> EventBus:
    config = PersistenceConfig(path=folder / "firm.db", socket=False, cursor_save_s=0.01, **fields)
    return EventBus(persistence_config=config)


async def goes_on(bus: EventBus, desk: Desk) -> None:
    """The bus accepts, writes and delivers what comes next."""
    order = an_order()
    receipt = await bus.publish_receipt(order)
    assert (receipt.outcome, receipt.level) == ("accepted", "process")
    await bus.join()
    assert order.event_id in desk.ids


def is_whole(folder: Path, key: bytes | None = None) -> None:
    """The journal is read, and holds what was written."""
    with JournalReader(folder / "firm.db", key=key) as reader:
        assert list(reader.verify().problems) == []


# -- kill switches ---------------------------------------------------------------------------------


@KEYS
@pytest.mark.parametrize(
    "switch", [{"event_id": HALF}, {"scope": HALF}, {"event_id": HALF, "scope": HALF, "reason": HALF}]
)
def test_a_kill_switch_is_remembered_and_released_whatever_its_texts(
    switch: dict[str, str], key: bytes | None, tmp_path: Path
) -> None:
    """CONTRACT 36."""

    async def first_life() -> None:
        bus, desk = a_bus(tmp_path, key=key), Desk()
        releaser = bus.releaser("risk officer")
        bus.subscribe(["order", "kill_switch"], desk.on_event, name="desk")
        async with bus:
            for _ in range(2):
                kill = a_kill(**switch)
                assert await bus.publish(kill)
                await goes_on(bus, desk)
                assert [halt.event_id for halt in bus.halted(kill.scope)] == [kill.event_id]
                await releaser.release(ids=[kill.event_id], reason="over")
                await goes_on(bus, desk)
                assert bus.halted(kill.scope) == ()
                switch.pop("event_id", None)
            await bus.publish(a_kill(scope=HALF))
            await goes_on(bus, desk)

    async def second_life() -> None:
        bus, desk = a_bus(tmp_path, key=key), Desk()
        releaser = bus.releaser("risk officer")
        bus.subscribe(["order", "kill_switch"], desk.on_event, name="desk")
        async with bus:
            (halt,) = bus.halted("half \\ud83d")
            await releaser.release(ids=[halt.event_id], reason="over")
            await goes_on(bus, desk)
            assert bus.halted("half \\ud83d") == ()

    asyncio.run(first_life())
    is_whole(tmp_path, key)
    asyncio.run(second_life())
    is_whole(tmp_path, key)
