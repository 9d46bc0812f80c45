"""Stalls: a subscription that stands still is found among many, and one that rested is given its time."""

import asyncio
from typing import Any

import pytest
from bus_helpers import a_tick

from openoutcry import BackpressureConfig, Event, EventBus
from openoutcry.core.mailbox import Mailbox
from openoutcry.runtime.delivery import stalls
from openoutcry.testing import run_virtual

GRACE_S = 4.0


class OtherTick(Event):
    event_type: str = "other_tick"


def in_virtual_time(scene: Any) -> None:
    async def go() -> None:
        bus = EventBus(backpressure_config=BackpressureConfig(grace_s=GRACE_S))
        async with bus:
            await scene(bus)
            await bus.stop(timeout_s=0.01)

    run_virtual(go())


async def never(_event: Any) -> None:
    await asyncio.sleep(1e6)


def test_one_that_stands_still_is_found_among_more_than_are_looked_at_in_one_turn() -> None:
    async def scene(bus: EventBus) -> None:
        for number in range(2 * stalls.AT_ONCE):
            bus.subscribe("other_tick", lambda _: None, name=f"agent-{number}")
        bus.subscribe("market_data", never, name="stuck")
        told: list[tuple[str, bool]] = []
        bus.on_stalled(lambda s, stalled: told.append((s.name, stalled)))
        for _ in range(3):
            await bus.publish(a_tick())
        await asyncio.sleep(2 * GRACE_S)
        assert told == [("stuck", True)]

    in_virtual_time(scene)


def test_what_comes_while_the_subscriptions_are_looked_at_is_watched_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stalls, "AT_ONCE", 1)

    async def scene(bus: EventBus) -> None:
        watch = bus._admission.dispatcher.stalls
        bus.subscribe("market_data", never, name="stuck")
        for number in range(3):
            bus.subscribe("other_tick", lambda _: None, name=f"agent-{number}")
        told: list[tuple[str, bool]] = []
        bus.on_stalled(lambda s, stalled: told.append((s.name, stalled)))
        await bus.publish(OtherTick())
        await bus.join()
        await asyncio.sleep(2 * GRACE_S)
        assert not watch.is_on
        await bus.publish(OtherTick())
        await bus.join()
        assert watch.is_on
        await asyncio.sleep(GRACE_S / 2)
        assert not watch.is_on  # the first was looked at, the others follow in the next turns
        for _ in range(2):
            await bus.publish(a_tick())
        await asyncio.sleep(2 * GRACE_S)
        assert told == [("stuck", True)]

    in_virtual_time(scene)


def test_the_time_at_which_a_subscription_rested_does_not_count_as_standing_still() -> None:
    async def stuck(event: Any) -> None:
        await never(event)

    async def scene(bus: EventBus) -> None:
        told: list[float] = []
        loop = asyncio.get_running_loop()
        bus.on_stalled(lambda s, stalled: told.append(loop.time()) if stalled and s.name == "late" else None)
        bus.subscribe("other_tick", never, name="busy")
        bus.subscribe("market_data", stuck, name="late")
        for _ in range(2):
            await bus.publish(OtherTick())
        await asyncio.sleep(10 * GRACE_S)
        came_s = loop.time()
        for _ in range(2):
            await bus.publish(a_tick())
        await asyncio.sleep(5 * GRACE_S)
        (found_s,) = told
        assert GRACE_S / 2 <= found_s - came_s <= 2 * GRACE_S

    in_virtual_time(scene)


def test_of_those_that_rest_nothing_is_worked_out_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Mailbox] = []
    progress: Any = vars(Mailbox)["progress"].fget

    def counted(mailbox: Mailbox) -> int:
        asked.append(mailbox)
        found: int = progress(mailbox)
        return found

    async def scene(bus: EventBus) -> None:
        for number in range(50):
            bus.subscribe("market_data", lambda _: None, name=f"agent-{number}")
        bus.subscribe("other_tick", never, name="busy")
        for _ in range(2):
            await bus.publish(OtherTick())
        await bus.publish(a_tick())
        await asyncio.sleep(3 * GRACE_S)
        monkeypatch.setattr(Mailbox, "progress", property(counted))
        await asyncio.sleep(3 * GRACE_S)
        assert {id(mailbox) for mailbox in asked} == {id(bus._bus.router.named("busy").mailbox)}
        asked.clear()
        await bus.publish(a_tick())
        await asyncio.sleep(GRACE_S)
        assert len({id(mailbox) for mailbox in asked}) == 51

    in_virtual_time(scene)
