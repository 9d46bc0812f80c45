"""Events that nobody takes: counted by type, and a kill switch of that kind is no small thing (CONTRACT 35)."""

import asyncio
from typing import Any

import pytest
from bus_helpers import Desk, a_fill, a_kill, a_signal, a_tick, an_order, ticks, virtual
from durable_kit import DeskNote, Disk, a_bus

from openoutcry import Event, EventBus
from openoutcry.core.health import EventBusHealthStatus, HealthCheckResult

UNHEALTHY, HEALTHY = EventBusHealthStatus.UNHEALTHY, EventBusHealthStatus.HEALTHY


@pytest.mark.parametrize("journaled", [False, True])
@virtual
async def test_what_nobody_takes_is_counted_under_its_type(disk: Disk, journaled: bool):
    async with a_bus(disk.journal) if journaled else EventBus() as bus:
        bus.subscribe("decision", Desk().on_event)
        await bus.publish_many(ticks(5))
        await bus.publish_many([a_tick(), an_order(), a_tick(), an_order(), Event(event_type="own")])
        await bus.publish(a_fill())
        await bus.publish_signal(a_signal("m"))
        await bus.publish(an_order(), priority=True)
        bus.publish_nowait(an_order())
        if not journaled:
            await bus.publish(DeskNote("n", "x"))
        await bus.join()
        expected = {"market_data": 7, "order": 4, "own": 1, "fill": 1, "signal": 1}
        expected |= {} if journaled else {"note": 1}
        assert bus.metrics.unheard == expected
        assert bus.get_status()["unheard"] == expected
        assert bus.metrics.published == sum(expected.values())
        bus.reset_metrics()
        assert bus.metrics.unheard == {}


@virtual
async def test_what_somebody_takes_is_not_counted(disk: Disk):
    async with a_bus(disk.journal) as bus:
        everything = bus.subscribe("*", Desk().on_event, name="all")
        await bus.publish_many([*ticks(3), an_order()])
        await bus.publish(a_fill())
        await bus.publish(a_kill())
        await bus.join()
        everything.pause()
        await bus.publish(an_order())
        await asyncio.sleep(1)
        assert bus.metrics.unheard == {}
        everything.resume()
        await bus.join()


@pytest.mark.parametrize("journaled", [False, True])
@virtual
async def test_before_the_start_the_question_is_asked_at_the_start(disk: Disk, journaled: bool):
    bus = a_bus(disk.journal) if journaled else EventBus()
    for event in (a_tick(), an_order(), a_fill(), a_kill()):
        await bus.publish(event)
    assert bus.metrics.unheard == {}
    bus.subscribe(["order", "market_data"], Desk().on_event, name="desk")
    async with bus:
        await bus.join()
        assert bus.metrics.unheard == {"fill": 1, "kill_switch": 1}
        assert (await bus.check_health()).status is UNHEALTHY


@virtual
async def test_types_without_end_are_counted_together():
    async with EventBus() as bus:
        await bus.publish_many([Event(event_type=f"type-{number}") for number in range(1_500)])
        await bus.join()
        assert len(bus.metrics.unheard) == 1_001
        assert sum(bus.metrics.unheard.values()) == 1_500


@pytest.mark.filterwarnings("ignore:.*take bus.releaser:DeprecationWarning")
@pytest.mark.parametrize("journaled", [False, True])
@pytest.mark.parametrize("end", ["taken", "the same again", "released", "released by id", "not"])
@virtual
async def test_a_kill_switch_that_nobody_takes_is_unhealthy_until_somebody_does(
    disk: Disk, journaled: bool, end: str
):
    told: list[HealthCheckResult] = []
    desk = Desk()
    fields: Any = {"kill_switch_releasers": ["risk"]}
    async with a_bus(disk.journal, **fields) if journaled else EventBus(**fields) as bus:
        bus.on_health_change(told.append)
        kill = a_kill(reason="loss limit", scope="ES", source_agent="risk")
        assert await bus.publish(kill)
        await asyncio.sleep(3)
        assert told[-1].status is UNHEALTHY
        assert (told[-1].findings[0].check, told[-1].culprits) == ("unheard", ("kill switch",))
        assert "loss limit" in told[-1].message
        subscription = None
        if end != "released":
            subscription = bus.subscribe("kill_switch", desk.on_event, name="desk")
            assert (await bus.check_health()).status is UNHEALTHY, "it has not got that one"
        if end == "taken":
            await bus.publish(a_kill())
        elif end == "the same again":
            assert await bus.publish(kill)
        elif end.startswith("released"):
            await bus.publish(a_kill(scope="NQ", activated=False, source_agent="risk"))
            assert (await bus.check_health()).status is UNHEALTHY, "another scope"
            await bus.publish(a_kill(scope="ES", activated=False, source_agent="risk"))
        await bus.join()
        status = (await bus.check_health()).status
        assert status is (UNHEALTHY if end == "not" else HEALTHY)
        if end == "the same again":
            assert desk.handled == [kill]
            assert await bus.publish(kill)
            await bus.join()
            assert desk.handled == [kill], "once"
        assert subscription is None or not bus.dead_letters("desk")


@virtual
async def test_a_kill_switch_that_somebody_takes_is_no_finding():
    async with EventBus() as bus:
        bus.subscribe("kill_switch", Desk().on_event)
        await bus.publish(a_kill())
        await bus.join()
        assert bus.is_healthy


@pytest.mark.parametrize("name", ["KILL_SWITCH", "killswitch", "Market-Data"])
@virtual
async def test_a_published_type_that_looks_like_one_of_the_firm_s_is_told_once(caplog, name: str):
    async with EventBus() as bus:
        bus.subscribe("*", Desk().on_event, name="audit")
        await bus.publish_many([Event(event_type=name), Event(event_type="note"), Event(event_type="orders")])
        bus.subscribe("order", Desk().on_event, name="desk")
        await bus.publish(Event(event_type=name))
        await bus.publish(an_order())
        await bus.join()
    [told] = [r.getMessage() for r in caplog.records if "did you mean" in r.getMessage()]
    assert repr(name) in told
