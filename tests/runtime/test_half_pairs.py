"""Text that no file can hold: half a surrogate pair ends no journal, whatever it stands in, and loses nothing."""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
from bus_helpers import Desk, a_kill, a_tick, an_order

from openoutcry import EventBus, PersistenceConfig, register_event
from openoutcry.journals import JournalReader

HALF = "half \ud83d"


@register_event
@dataclass
class OwnSwitch:
    """A kill switch of the user's own class."""

    event_id: str
    scope: str = "firm"
    activated: bool = True
    event_type: ClassVar[str] = "kill_switch"


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
@pytest.mark.parametrize("field", ["event_id", "scope", "reason", "triggered_by", "source_agent", "round_id"])
def test_a_kill_switch_is_written_remembered_and_released_whatever_its_texts(
    field: str, key: bytes | None, tmp_path: Path
) -> None:
    """CONTRACT 36: what cannot be written is escaped, and the kill switch is found by what was given."""

    async def first_life() -> None:
        bus, desk = a_bus(tmp_path, key=key), Desk()
        releaser = bus.releaser("risk officer")
        bus.subscribe(["order", "kill_switch"], desk.on_event, name="desk")
        async with bus:
            kill = a_kill(**{field: HALF})
            assert (await bus.publish_receipt(kill)).position > 0
            assert (await bus.publish_receipt(a_kill(**{field: HALF, "event_id": kill.event_id}))).duplicate
            await goes_on(bus, desk)
            scope = HALF if field == "scope" else "firm"
            assert [halt.event_id for halt in bus.halted(scope)] == [kill.event_id]
            ids = [HALF] if field == "event_id" else [kill.event_id]
            released = await releaser.release(ids=ids, reason=HALF, scope=scope)
            assert released.releases == (kill.event_id,)
            await goes_on(bus, desk)
            assert bus.halted(scope) == ()
            assert await bus.publish(a_kill(**{field: HALF, "event_id": "the last one"}))

    async def second_life() -> None:
        bus, desk = a_bus(tmp_path, key=key), Desk()
        releaser = bus.releaser("risk officer")
        bus.subscribe(["order", "kill_switch"], desk.on_event, name="desk")
        async with bus:
            scope = HALF if field == "scope" else "firm"
            assert [halt.event_id for halt in bus.halted(scope)] == ["the last one"]
            await releaser.release(scope=scope, reason="over")
            await goes_on(bus, desk)
            assert bus.halted(scope) == ()

    asyncio.run(first_life())
    is_whole(tmp_path, key)
    asyncio.run(second_life())
    is_whole(tmp_path, key)


@KEYS
def test_a_kill_switch_of_the_users_own_class_ends_no_journal(key: bytes | None, tmp_path: Path) -> None:
    """Its texts are the user's: it is delivered, remembered and released, but not in the journal, which is told."""

    async def run() -> None:
        bus, desk = a_bus(tmp_path, key=key), Desk()
        releaser = bus.releaser("risk officer")
        bus.subscribe(["order", "kill_switch"], desk.on_event, name="desk")
        async with bus:
            for switch in (OwnSwitch(HALF), OwnSwitch("k", HALF)):
                assert await bus.publish(switch)
                await goes_on(bus, desk)
                await releaser.release(scope=switch.scope, reason="over")
                await goes_on(bus, desk)
                assert bus.halted(HALF) == ()

    asyncio.run(run())
    is_whole(tmp_path, key)


def test_a_kill_switch_is_written_whatever_it_was_caused_by(tmp_path: Path) -> None:
    async def run() -> None:
        bus, desk, kills = a_bus(tmp_path), Desk(), []

        async def on_tick(_tick: Any) -> None:
            kills.append(a_kill())
            await bus.publish(kills[0])

        bus.subscribe(["order", "kill_switch"], desk.on_event, name="desk")
        bus.subscribe("market_data", on_tick)
        async with bus:
            await bus.publish(a_tick(event_id=HALF))
            await bus.join()
            assert kills[0].causation_id == "half \\ud83d"
            assert (await bus.publish_receipt(kills[0])).position > 0
            await goes_on(bus, desk)

    asyncio.run(run())
    is_whole(tmp_path)
