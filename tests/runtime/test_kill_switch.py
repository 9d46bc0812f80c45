"""The kill switch (CONTRACT 5, 14): takes no room, is never refused, waits for nobody, and is released with leave."""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from bus_helpers import (
    Desk,
    Failing,
    Gate,
    a_fill,
    a_kill,
    a_tick,
    an_order,
    assert_balanced,
    assert_settled,
    now_s,
    outcome_of,
    row,
    ticks,
    virtual,
)

from openoutcry import (
    BackpressureConfig,
    BusClosed,
    Event,
    EventBus,
    EventType,
    KillSwitchEvent,
    NotAuthorised,
    PersistenceConfig,
    RetryPolicy,
)
from openoutcry.journals.sqlite import SqliteJournal

PATIENT = BackpressureConfig(grace_s=1e6)


@pytest.mark.parametrize("level", ["memory", "process"])
def test_those_who_take_a_kill_switch_are_called_before_the_journal_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, level: Any
) -> None:
    order: list[str] = []
    write = SqliteJournal.write

    def noted(*given: Any) -> Any:
        order.append("commit")
        return write(*given)

    async def scene() -> None:
        async with EventBus(persistence_config=PersistenceConfig(path=tmp_path / "firm.db")) as bus:
            for number in range(20):
                bus.subscribe("kill_switch", lambda _: order.append("call"), name=f"agent-{number}")
            await bus.publish(a_kill())
            await bus.flush()
            monkeypatch.setattr(SqliteJournal, "write", noted)
            order.clear()
            await bus.publish(a_kill(), level=level)
            await bus.flush()
            assert order[:20] == ["call"] * 20
            assert order[20:].count("commit") >= 1

    asyncio.run(scene())


@virtual
async def test_a_two_minute_call_does_not_delay_the_kill_switch():
    """CONTRACT 5: a runner of its own beside whatever call the subscription is busy with."""
    at_s: list[float] = []

    async def agent(event: Any) -> None:
        if isinstance(event, KillSwitchEvent):
            at_s.append(now_s())
        else:
            await asyncio.sleep(120)

    async with EventBus() as bus:
        bus.subscribe("*", agent)
        await bus.publish_many(ticks(5))
        await asyncio.sleep(60)
        await bus.publish(a_kill())
        await asyncio.sleep(1)
        assert at_s == [60]
        await bus.join()
        assert_settled(bus)


@virtual
async def test_a_kill_switch_passes_four_thousand_ticks_and_a_full_queue():
    """CONTRACT 5: it takes no room and is never refused."""
    desk, slow = Desk(), Desk(takes_s=0.001)
    async with EventBus(max_queue_size=4_000, backpressure_config=PATIENT) as bus:
        bus.subscribe("*", slow.on_event, name="slow")
        bus.subscribe(EventType.KILL_SWITCH, desk.on_event)
        count = await bus.publish_many(ticks(4_000))
        while bus.publish_nowait(a_fill()):
            pass
        assert count > 2_900
        assert not bus.publish_nowait(a_fill())
        begun = len(slow.begun)
        assert bus.publish_nowait(a_kill())
        await asyncio.sleep(0.0005)
        assert len(desk.handled) == 1
        assert "kill_switch" in [str(e.event_type) for e in slow.begun[begun:][:2]]
        assert bus.metrics.control == 1
        await bus.join()
        assert_settled(bus)


@virtual
async def test_a_paused_and_a_stalled_subscription_still_hear_the_kill_switch():
    """CONTRACT 5."""
    paused, stuck = Desk(), Gate()
    heard = Desk()

    async def stuck_agent(event: Any) -> None:
        await (heard.on_event if event.event_type == "kill_switch" else stuck.on_event)(event)

    async with EventBus() as bus:
        bus.subscribe("*", paused.on_event, name="paused").pause()
        bus.subscribe("*", stuck_agent, name="stuck")
        await bus.publish_many(ticks(3))
        await asyncio.sleep(10)
        assert set(bus.metrics.stalled) == {"paused", "stuck"}
        await bus.publish(a_kill())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert paused.types == heard.types == ["kill_switch"]
        stuck.open()
        bus.subscription("paused").resume()
        await bus.join()
        assert_settled(bus)


@virtual
async def test_a_kill_switch_before_the_start_is_handled_first():
    """CONTRACT 5, 27."""
    desk = Desk()
    bus = EventBus()
    bus.subscribe("*", desk.on_event)
    await bus.publish_many(ticks(3))
    await bus.publish(a_fill())
    kill = a_kill()
    assert await bus.publish(kill)
    assert await bus.publish(kill)
    assert bus.queue_size == 4, "it takes no room"
    async with bus:
        await bus.join()
        assert desk.types == ["kill_switch", "fill", "market_data", "market_data", "market_data"]
        assert_settled(bus)


@virtual
async def test_a_kill_switch_is_delivered_once_however_often_it_is_published():
    """CONTRACT 2."""
    desk = Desk()
    async with EventBus() as bus:
        bus.subscribe("kill_switch", desk.on_event)
        kill = a_kill()
        for _ in range(3):
            assert await bus.publish(kill)
            assert bus.publish_nowait(kill, True)
            assert await asyncio.wrap_future(bus.publish_threadsafe(kill))
        await bus.join()
        assert desk.handled == [kill]
        assert bus.metrics.duplicates == 8


@virtual
async def test_kill_switches_arrive_in_their_order_one_at_a_time():
    """CONTRACT 9, for the control lane."""
    desk = Desk(takes_s=1)
    async with EventBus(kill_switch_releasers={"risk"}) as bus:
        bus.subscribe("kill_switch", desk.on_event)
        events = [a_kill(), a_kill(activated=False, source_agent="risk"), a_kill(scope="ES")]
        with pytest.warns(DeprecationWarning, match="take bus.releaser"):
            await bus.publish_many(events)
        await bus.join()
        assert desk.handled == events
        assert desk.most_at_once == 1


@virtual
async def test_a_kill_handler_that_raises_is_retried_and_others_do_not_wait():
    """CONTRACT 10."""
    failing, other = Failing(times=2), Desk()
    async with EventBus() as bus:
        bus.subscribe(
            "*", failing.on_event, name="failing", retry=RetryPolicy(attempts=3, first_s=1.0, jitter=0)
        )
        bus.subscribe("kill_switch", other.on_event)
        await bus.publish(a_kill())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert len(other.handled) == 1
        await bus.join()
        assert failing.at_s == [0, 1, 5]
        assert row(bus, "failing", "control").handled == 1
        assert_settled(bus)


@virtual
async def test_a_kill_handler_that_never_succeeds_leaves_a_dead_letter_of_the_control_lane():
    """CONTRACT 10, 7."""
    failing = Failing()
    async with EventBus() as bus:
        bus.subscribe("kill_switch", failing.on_event, name="failing")
        kill = a_kill()
        await bus.publish(kill)
        await bus.join()
        (letter,) = bus.dead_letters("failing")
        assert (letter.event, letter.lane, letter.attempts) == (kill, "control", 3)
        assert row(bus, "failing", "control").dead_lettered == 1
        assert_settled(bus)


@virtual
async def test_a_kill_switch_that_is_redriven_leaves_nobody_hurrying():
    """CONTRACT 5, 10: it is counted as it comes, and again as it is taken."""
    failing = Failing()
    async with EventBus() as bus:
        bus.subscribe("kill_switch", failing.on_event, name="failing", retry=False)
        await bus.publish(a_kill())
        await bus.join()
        assert bus.admin.redrive("failing") == 1
        assert bus._bus.control_waiting == 1
        await bus.join()
        assert bus._bus.control_waiting == 0
        assert_settled(bus)


@virtual
async def test_a_kill_switch_whose_call_recovery_has_left_leaves_nobody_hurrying():
    """CONTRACT 5: it waits again as if it had not been taken, and is taken again."""
    begun: list[Any] = []

    async def stuck_once(event: Any) -> None:
        begun.append(event)
        if len(begun) == 1:
            await asyncio.sleep(1000)

    async with EventBus() as bus:
        bus.subscribe("*", stuck_once, name="stuck")
        await bus.publish(a_kill())
        await asyncio.sleep(0.01)
        for consumer in bus._consumers:
            consumer.restart()
        assert bus._bus.control_waiting == 1
        await bus.join()
        assert len(begun) == 2
        assert bus._bus.control_waiting == 0
        assert_settled(bus)


ONE_MORE_LATER = RetryPolicy(attempts=3, first_s=10.0, max_s=100.0)


@virtual
async def test_a_kill_switch_that_waits_for_its_retry_at_a_restart_does_not_slow_everybody_for_good():
    """CONTRACT 5: workers and publishers hurry for first attempts only."""
    failing = Failing()
    bus = EventBus()
    bus.subscribe("*", failing.on_event, retry=ONE_MORE_LATER)
    await bus.start()
    await bus.publish(a_kill())
    await asyncio.sleep(1)
    await bus.stop(timeout_s=1)
    await bus.start()
    assert bus._bus.control_waiting == 0
    await bus.join()
    assert bus._bus.control_waiting == 0
    assert_settled(bus)
    await bus.stop()


@pytest.mark.parametrize("how", ["one type", "everything"])
@virtual
async def test_a_kill_switch_whose_retry_is_withdrawn_leaves_nobody_hurrying(how):
    """CONTRACT 5, 7: neither for it nor one too few for the next."""
    failing, gate = Failing(), Gate()
    async with EventBus() as bus:
        bus.subscribe(["kill_switch", "market_data"], failing.on_event, name="failing", retry=ONE_MORE_LATER)
        bus.subscribe("kill_switch", gate.on_event, name="stuck")
        await bus.publish(a_kill())
        await asyncio.sleep(1)
        await bus.publish(a_kill())
        assert bus._bus.control_waiting == 2, "a first attempt of each"
        bus.unsubscribe(
            "kill_switch" if how == "one type" else ["kill_switch", "market_data"], failing.on_event
        )
        assert row(bus, "failing", "control").withdrawn == 2
        assert bus._bus.control_waiting == 1
        bus.unsubscribe("kill_switch", gate.on_event)
        assert bus._bus.control_waiting == 0
        gate.open()
        await bus.join()
        assert_settled(bus)


@virtual
async def test_a_kill_switch_gets_through_from_outside_while_the_bus_is_draining():
    """CONTRACT 5, 27: nothing else does, and nothing at all once it has stopped."""
    busy, desk = Desk(takes_s=5), Desk()
    bus = EventBus()
    bus.subscribe(EventType.ORDER, busy.on_event)
    bus.subscribe(EventType.KILL_SWITCH, desk.on_event)
    await bus.start()
    await bus.publish(an_order())
    stopping = asyncio.create_task(bus.stop())
    await asyncio.sleep(1)
    assert isinstance(await outcome_of(bus.publish(a_fill())), BusClosed)
    assert await bus.publish(a_kill())
    assert await asyncio.wrap_future(await asyncio.to_thread(bus.publish_threadsafe, a_kill()))
    await asyncio.sleep(0.001)
    assert len(desk.handled) == 2
    assert now_s() < 5
    await stopping
    assert isinstance(await outcome_of(bus.publish(a_kill())), BusClosed)
    assert_settled(bus)


@virtual
async def test_a_kill_switch_is_never_too_old():
    """CONTRACT 5, 7."""
    desk = Desk(takes_s=10)
    async with EventBus() as bus:
        bus.subscribe("kill_switch", desk.on_event, max_age_s=1, overflow="conflate")
        await bus.publish_many([a_kill(scope=scope) for scope in ("ES", "NQ", "YM")])
        await bus.join()
        assert len(desk.handled) == 3


# -- who may release it --------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["", "strategy", "risk "])
@virtual
async def test_only_named_sources_may_release_the_kill_switch(source):
    """CONTRACT 1: a typed error, whose message states the value, the limit and the remedy."""
    desk = Desk()
    async with EventBus(kill_switch_releasers={"risk"}) as bus:
        bus.subscribe("*", desk.on_event)
        release = a_kill(activated=False, source_agent=source)
        with pytest.raises(NotAuthorised, match="kill_switch_releasers"):
            await bus.publish(release)
        with pytest.raises(NotAuthorised):
            bus.publish_nowait(release)
        with pytest.raises(NotAuthorised):
            await asyncio.wrap_future(bus.publish_threadsafe(release))
        with pytest.raises(NotAuthorised):
            await bus.publish(release, True)
        with pytest.warns(DeprecationWarning, match="take bus.releaser"):
            assert await bus.publish(a_kill(activated=False, source_agent="risk"))
        await bus.join()
        assert [(e.activated, e.source_agent) for e in desk.handled] == [(False, "risk")]


@virtual
async def test_by_default_nobody_may_release_it_and_anybody_may_pull_it():
    async with EventBus() as bus:
        with pytest.raises(NotAuthorised):
            await bus.publish(a_kill(activated=False, source_agent="risk"))
        for event in (a_kill(), a_kill(source_agent="strategy"), Event(event_type="kill_switch")):
            assert await bus.publish(event)


@virtual
async def test_a_release_of_the_users_own_class_needs_leave_too():
    @dataclass
    class Halt:
        event_id: str
        activated: bool = True
        source_agent: str = "desk"
        event_type: str = "kill_switch"

    desk = Desk()
    async with EventBus(kill_switch_releasers={"risk"}) as bus:
        bus.subscribe("kill_switch", desk.on_event)
        assert await bus.publish(Halt("1"))
        with pytest.raises(NotAuthorised):
            await bus.publish(Halt("2", activated=False))
        with pytest.warns(DeprecationWarning, match="take bus.releaser"):
            assert await bus.publish(Halt("3", activated=False, source_agent="risk"))
        await bus.join()
        assert [e.event_id for e in desk.handled] == ["1", "3"]


# -- beside everything else ----------------------------------------------------------------------------------


@virtual
async def test_a_handler_may_pull_the_kill_switch_on_itself():
    seen: list[str] = []
    async with EventBus() as bus:

        async def agent(event: Any) -> None:
            seen.append(str(event.event_type))
            if event.event_type == "market_data":
                await bus.publish(a_kill())
                await asyncio.sleep(1)
                seen.append("done")

        bus.subscribe("*", agent)
        await bus.publish(a_tick())
        await bus.join()
        assert seen == ["market_data", "kill_switch", "done"]


@virtual
async def test_a_subscription_that_comes_to_take_kill_switches_gets_a_runner_for_them():
    gate = Gate()
    heard = Desk()

    async def agent(event: Any) -> None:
        await (heard.on_event if event.event_type == "kill_switch" else gate.on_event)(event)

    async with EventBus() as bus:
        bus.subscribe(EventType.ORDER, agent)
        await bus.publish(an_order())
        await asyncio.sleep(1)
        bus.subscribe(EventType.KILL_SWITCH, agent)
        await bus.publish(a_kill())
        await asyncio.sleep(1)
        assert len(heard.handled) == 1
        gate.open()
        await bus.join()
        assert_balanced(bus)


@virtual
async def test_after_a_kill_switch_the_normal_work_goes_on_in_order():
    desk = Desk()
    async with EventBus() as bus:
        bus.subscribe("*", desk.on_event)
        for number in range(1, 101):
            await bus.publish(a_tick(float(number)))
            if not number % 10:
                await bus.publish(a_kill())
        await bus.join()
        assert [e.price for e in desk.handled if e.event_type == "market_data"] == [
            float(n) for n in range(1, 101)
        ]
        assert desk.types.count("kill_switch") == 10
        assert_settled(bus)
