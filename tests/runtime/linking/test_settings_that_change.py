"""Desks whose settings of what is exported and imported change, or that had no link before: the audit knows."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from bus_helpers import a_fill, an_order

from openoutcry import EventBus, EventType, Link, PersistenceConfig
from openoutcry.journals import JournalReader
from openoutcry.journals.audit import Audit, Pair
from openoutcry.journals.desks import desk_in
from openoutcry.links.memory import MemoryTransport
from openoutcry.links.memory_hub import MemoryHub


def desk(folder: Path, hub: MemoryHub | None, name: str, **link: Any) -> EventBus:
    joined = hub is not None
    bus = EventBus(
        persistence_config=PersistenceConfig(path=folder / f"{name}.db", socket=False),
        link=Link(**{"firm": "alpha", "desk": name, **link}) if joined else None,
        transport=MemoryTransport(hub, name) if joined else None,
    )
    for kind in (EventType.ORDER, EventType.FILL):
        bus.subscribe(kind, lambda _: None, name=f"{name}.{kind}")
    return bus


async def trade(floor: EventBus, street: EventBus, expected: int) -> None:
    """Have the floor publish an order and a fill, and wait until the street has so many events."""
    async with asyncio.timeout(60), floor, street:
        await floor.publish(an_order())
        await floor.publish(a_fill())
        while street.ledger().total("accepted") < expected:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def audited(folder: Path) -> Pair:
    with JournalReader(folder / "floor.db") as made, JournalReader(folder / "street.db") as found:
        return Audit((desk_in(made), made), (desk_in(found), found)).run()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {"imports": ["order", "fill"]}),
        ({"imports": ["order", "fill"]}, {}),
    ],
    ids=["more", "less"],
)
def test_imports_that_change_make_nothing_missing_and_no_strangers(tmp_path, before, after):
    hub, wanted = MemoryHub(), {"imports": ["order"]}
    for one in ({**wanted, **before}, {**wanted, **after}):
        count = len(one["imports"])
        asyncio.run(trade(desk(tmp_path, hub, "floor"), desk(tmp_path, hub, "street", **one), count))
    pair = audited(tmp_path)
    assert pair.is_clean, pair
    assert (pair.same, pair.former) == (3, 1 if after else 0)


def test_exports_that_change_make_nothing_missing(tmp_path):
    hub = MemoryHub()
    for keep in (["fill"], []):
        floor = desk(tmp_path, hub, "floor", keep=keep)
        asyncio.run(trade(floor, desk(tmp_path, hub, "street", imports="*"), 1 if keep else 2))
    pair = audited(tmp_path)
    assert pair.is_clean, pair
    assert pair.same + pair.former == 4  # the fill that was kept was not exported, or is in the second life


def test_what_a_desk_had_made_before_it_had_a_link_is_not_looked_for(tmp_path):
    asyncio.run(trade(desk(tmp_path, None, "floor"), desk(tmp_path, None, "street"), 0))
    hub = MemoryHub()
    asyncio.run(trade(desk(tmp_path, hub, "floor"), desk(tmp_path, hub, "street", imports="*"), 2))
    pair = audited(tmp_path)
    assert pair.is_clean, pair
    assert (pair.same, pair.former) == (2, 2)


def test_what_the_log_had_let_go_before_a_desk_was_new_is_not_looked_for(tmp_path):
    hub = MemoryHub()
    asyncio.run(trade(desk(tmp_path, hub, "floor"), desk(tmp_path, hub, "other", imports="*"), 2))

    async def trimmed() -> None:
        mouth = MemoryTransport(hub, "other")
        await mouth.open()
        for log in ("high", "normal"):
            end = await mouth.last(log, "floor")
            await mouth.trim(log, "floor", end.upto if end is not None else 0)
        await mouth.close()

    asyncio.run(trimmed())
    asyncio.run(trade(desk(tmp_path, hub, "floor"), desk(tmp_path, hub, "street", imports="*"), 2))
    pair = audited(tmp_path)
    assert pair.is_clean, pair
    assert pair.same >= 2
