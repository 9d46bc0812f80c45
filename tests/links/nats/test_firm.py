"""Desks of one firm over real servers: whole buses, with journals in files."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from nats_kit import a_firm, a_link, eventually

from openoutcry import EventBus, EventType, KillSwitchEvent, MarketDataEvent, PersistenceConfig, SignalEvent
from openoutcry.config import Link
from openoutcry.links.nats.servers import Servers


class Desk:
    """A bus, and what its handlers were handed."""

    def __init__(self, link: Link, folder: Path) -> None:
        self.handled: list[str] = []
        self.switched: list[str] = []
        self.ticks: list[float] = []
        self.bus = EventBus(persistence_config=PersistenceConfig(path=folder / f"{link.desk}.db"), link=link)
        self.bus.subscribe(EventType.SIGNAL, self.on_signal, name="signals")
        self.bus.subscribe(EventType.KILL_SWITCH, self.on_switch, name="switches")
        self.bus.subscribe(EventType.MARKET_DATA, self.on_tick, name="ticks")

    def has(self, count: int) -> bool:
        return len(self.handled) >= count

    async def on_signal(self, event: SignalEvent) -> None:
        self.handled.append(event.event_id)

    async def on_switch(self, event: KillSwitchEvent) -> None:
        self.switched.append(event.event_id)

    async def on_tick(self, event: MarketDataEvent) -> None:
        self.ticks.append(event.price)


@asynccontextmanager
async def a_firm_of(
    servers: Servers, folder: Path, *names: str, **more: Any
) -> AsyncIterator[tuple[list[Desk], Callable[[str], Link]]]:
    firm = a_firm()

    def link(desk: str) -> Link:
        return a_link(servers, firm, desk, imports="*", **more)

    desks = [Desk(link(name), folder) for name in names]
    try:
        await asyncio.gather(*(desk.bus.start() for desk in desks))
        await eventually(lambda: all(desk.bus._lifecycle.linking.joined.seat for desk in desks))
        yield desks, link
    finally:
        for desk in desks:
            await desk.bus.stop(1)


def signals(first: int, last: int) -> list[SignalEvent]:
    return [
        SignalEvent(
            source_agent="a",
            strategy_name="s",
            event_id=f"s{number}",
            symbol="ES",
            direction="long",
            confidence=0.5,
        )
        for number in range(first, last)
    ]


@pytest.mark.parametrize("nodes", ["one_node", "three_nodes"])
def test_what_one_desk_publishes_is_handled_on_every_other_once_and_in_order(
    nodes: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    servers = request.getfixturevalue(nodes)

    async def main() -> None:
        async with a_firm_of(servers, tmp_path, "floor", "street", "risk") as (desks, _link):
            floor, street, risk = desks
            for event in signals(0, 100):
                await floor.bus.publish(event)
            await street.bus.publish_many(signals(100, 600))
            expected = {event.event_id for event in signals(0, 600)}
            for desk in desks:
                await eventually(partial(desk.has, 600))
                assert set(desk.handled) == expected
                assert len(desk.handled) == 600
                for first, last in ((0, 100), (100, 600)):
                    ids = [event.event_id for event in signals(first, last)]
                    assert [one for one in desk.handled if one in set(ids)] == ids
            await risk.bus.publish(KillSwitchEvent(source_agent="risk", event_id="k", reason="r"))
            await eventually(lambda: all(desk.switched for desk in desks))
            assert [desk.switched for desk in desks] == [["k"]] * 3

    asyncio.run(main())


def test_a_desk_trades_on_while_its_server_is_away_and_nothing_is_lost(tmp_path: Path) -> None:
    async def main(servers: Servers) -> None:
        async with a_firm_of(servers, tmp_path, "floor", "street", lease_s=60.0) as (desks, _link):
            floor, street = desks
            await floor.bus.publish_many(signals(0, 100))
            await eventually(lambda: len(street.handled) == 100)
            servers.nodes[0].kill()
            for event in signals(100, 300):
                assert await floor.bus.publish(event)
            await eventually(lambda: len(floor.handled) == 300)
            assert len(street.handled) == 100
            servers.nodes[0].start()
            await eventually(lambda: len(street.handled) == 300)
            assert street.handled == floor.handled

    with Servers(tmp_path / "servers") as servers:
        asyncio.run(main(servers))


def test_a_log_that_is_deleted_is_filled_again_from_the_journals(tmp_path: Path) -> None:
    async def main(servers: Servers) -> None:
        async with a_firm_of(servers, tmp_path, "floor", "street") as (desks, link):
            floor, street = desks
            await floor.bus.publish_many(signals(0, 100))
            await eventually(lambda: len(street.handled) == 100)
            transport: Any = floor.bus._lifecycle.linking.joined.transport
            for stream in ("high", "normal", "seats"):
                await transport._jetstream.call(f"STREAM.DELETE.OO_{link('floor').firm}_{stream}")
            await floor.bus.publish_many(signals(100, 200))
            await eventually(lambda: len(street.handled) == 200)
            assert street.handled == floor.handled
            await street.bus.publish_many(signals(200, 300))
            await eventually(lambda: len(floor.handled) == 300)

    with Servers(tmp_path / "servers") as servers:
        asyncio.run(main(servers))
