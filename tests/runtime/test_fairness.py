"""Fairness (CONTRACT 4, 5, 8): whoever awaits nothing but the bus, floods it or turns slow leaves turns to the others."""

import asyncio
from collections.abc import Callable
from typing import Any, Self

import pytest
from bus_helpers import (
    Desk,
    a_fill,
    a_kill,
    a_tick,
    an_order,
    assert_settled,
    now_s,
    row,
    ticks,
    virtual,
)

from openoutcry import BackpressureConfig, Event, EventBus, EventType, SystemEvent

ENDLESS = 10_000
GRANT = 1_024


class Turns:
    """Counts the turns that a bystander gets while a block runs, and the steps taken between two of them."""

    def __init__(self) -> None:
        self.count = self.most_between = self._steps = 0

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._bystander())
        await asyncio.sleep(0)
        self.begin()
        return self

    async def __aexit__(self, *_error: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _bystander(self) -> None:
        while True:
            self.count += 1
            self._steps = 0
            await asyncio.sleep(0)

    def begin(self) -> None:
        self.count = self.most_between = self._steps = 0

    def step(self, by: int = 1) -> None:
        self._steps += by
        self.most_between = max(self.most_between, self._steps)


# -- publishers ----------------------------------------------------------------------------------------------

ONE_AND_THE_SAME = a_tick()


@pytest.mark.parametrize(
    ("event_of", "priority", "at_most"),
    [
        (a_tick, True, 64),
        (a_fill, False, 64),
        (a_kill, False, 64),
        (lambda: ONE_AND_THE_SAME, False, 64),
        (lambda: Event(event_type="news"), False, GRANT),
        (a_tick, False, GRANT),
    ],
    ids=["with priority", "fills", "kill switches", "duplicates", "loose types", "ticks"],
)
@pytest.mark.parametrize("taken", ["by nobody", "by one who gates not", "by one who gates"])
@virtual
async def test_a_publisher_that_awaits_nothing_else_leaves_turns_to_the_others(
    event_of, priority, at_most, taken
):
    """CONTRACT 8."""
    async with EventBus() as bus, Turns() as turns:
        if taken != "by nobody":
            bus.subscribe("*", Desk().on_event, overflow="gate" if taken.endswith("gates") else "drop_oldest")
        for _ in range(3 * GRANT):
            assert await bus.publish(event_of(), priority)
            turns.step()
        assert turns.most_between <= at_most


@pytest.mark.parametrize("event_of", [a_tick, a_fill], ids=["ticks", "fills"])
@virtual
async def test_a_publisher_that_tries_again_what_was_refused_leaves_turns_to_the_others(event_of):
    """CONTRACT 4, 8: each refusal gives the loop back, whatever the priority."""
    config = BackpressureConfig(cooldown_s=0, grace_s=1e6)
    async with EventBus(max_queue_size=10, backpressure_config=config) as bus, Turns() as turns:
        bus.subscribe("*", Desk().on_event, name="desk").pause()
        while await bus.publish(event_of()):
            pass
        turns.begin()
        for _ in range(100):
            assert not await bus.publish(event_of())
            turns.step()
        assert turns.most_between == 1
        bus.subscription("desk").resume()


@virtual
async def test_a_handler_that_tries_again_what_was_refused_leaves_turns_to_those_who_make_room():
    """CONTRACT 6: a re-entrant publish never waits, so it is refused at once, again and again."""

    async def slow(_event: Any) -> None:
        for _ in range(3):
            await asyncio.sleep(0)

    async with EventBus(max_queue_size=10) as bus:
        tries = 0

        async def persistent(_event: Any) -> None:
            nonlocal tries
            for number in range(40):
                while not await bus.publish(a_fill(str(number))):
                    tries += 1
                    assert tries < ENDLESS

        bus.subscribe(EventType.FILL, slow, name="slow")
        bus.subscribe(EventType.ORDER, persistent, retry=False)
        await bus.publish(an_order())
        await bus.join()
        assert tries > 0
        assert bus.dead_letters() == []
        assert row(bus, "slow", "high").handled == 40
        assert_settled(bus)


@virtual
async def test_a_publisher_that_tries_again_before_the_start_lets_the_bus_start():
    """CONTRACT 27."""
    bus, desk, tries = EventBus(max_queue_size=20), Desk(), 0
    bus.subscribe("*", desk.on_event)
    starting = asyncio.create_task(bus.start())
    for event in ticks(100):
        while not await bus.publish(event):
            tries += 1
            assert tries < ENDLESS
    assert starting.done()
    assert tries > 0
    await bus.join()
    assert len(desk.handled) == 100
    await bus.stop()


@virtual
async def test_a_kill_switch_is_handled_before_publishers_that_flood_the_bus_have_their_next_grant():
    """CONTRACT 5."""
    published, at_kill = 0, []
    async with EventBus() as bus:

        async def flood() -> None:
            nonlocal published
            while True:
                published += await bus.publish(a_tick())

        bus.subscribe(EventType.MARKET_DATA, Desk().on_event)
        bus.subscribe(EventType.KILL_SWITCH, lambda _event: at_kill.append(published))
        floods = [asyncio.create_task(flood()) for _ in range(3)]
        before = []
        for turns in range(1, 8):
            for _ in range(turns):
                await asyncio.sleep(0)
            before.append(published)
            await bus.publish(a_kill())
            while len(at_kill) < len(before):  # noqa: ASYNC110 - it goes by turns
                await asyncio.sleep(0)
        for task in floods:
            task.cancel()
        assert published > 7 * GRANT
        assert max(there - here for here, there in zip(before, at_kill, strict=True)) <= 6


# -- handlers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("plain", [False, True], ids=["coroutine", "plain"])
@virtual
async def test_a_handler_that_turns_slow_keeps_the_loop_for_a_probe_and_not_for_a_batch(plain):
    """CONTRACT 8: what it holds goes back, and from then on it takes as few as fit in its time."""
    clock: Any = asyncio.get_running_loop().clock  # type: ignore[attr-defined]
    cost_ns = 0
    async with EventBus() as bus, Turns() as turns:

        def work(_event: Any) -> None:
            turns.step()
            clock.advance(cost_ns)

        async def work_too(event: Any) -> None:
            work(event)

        bus.subscribe("*", work if plain else work_too, name="desk")
        for _ in range(10):
            await bus.publish_many(ticks(1_000))
            await bus.join()
        assert turns.most_between == 1_000, "as long as it is quick it keeps the loop for a batch"
        cost_ns = 1_000_000
        turns.begin()
        await bus.publish_many(ticks(1_000))
        await bus.join()
        assert turns.most_between <= 32
        assert turns.count > 900, "after the probe it takes one at a time"
        turns.begin()
        await bus.publish_many(ticks(1_000))
        await bus.join()
        assert turns.most_between == 1
        assert row(bus, "desk").handled == 12_000
        assert_settled(bus)


class RunningClock:
    """A clock that goes on by a microsecond whenever it is read, so that nothing takes no time at all."""

    def __init__(self) -> None:
        self.at_ns = 0

    def now_ns(self) -> int:
        self.at_ns += 1_000
        return self.at_ns

    def wall_ns(self) -> int:
        return self.at_ns


@virtual
async def test_a_backlog_that_expires_opens_the_door_again_and_leaves_turns_to_the_others():
    """CONTRACT 4, 8."""
    clock = RunningClock()
    config = BackpressureConfig(grace_s=1e6, rate_limit_per_s=1e9, rate_limit_burst=100_000)
    async with EventBus(max_queue_size=5_000, backpressure_config=config, clock=clock) as bus:
        subscription = bus.subscribe("*", Desk().on_event, name="desk", max_age_s=1)
        subscription.pause()
        while bus.publish_nowait(an_order()):
            pass
        clock.at_ns += 10**10
        async with Turns() as turns:
            subscription.resume()
            expired = 0
            while expired < 4_000:
                await asyncio.sleep(0)
                turns.step(row(bus, "desk").expired - expired)
                expired = row(bus, "desk").expired
            assert turns.count > 10
        assert bus.publish_nowait(an_order())
        await bus.join()
        assert_settled(bus)


# -- who waits for a token -----------------------------------------------------------------------------------


async def publish_at_high(event_of: Callable[[], Any], publishers: int) -> tuple[EventBus, list[Any]]:
    """Let many publish at once at HIGH, at 10 tokens a second; return what each was told and when."""
    config = BackpressureConfig(rate_limit_per_s=10, rate_limit_burst=1, cooldown_s=2, grace_s=1e6)
    told: list[tuple[int, bool, float]] = []
    async with EventBus(max_queue_size=1_000, backpressure_config=config) as bus:
        bus.subscribe("*", Desk().on_event, name="desk").pause()
        assert await bus.publish_many(ticks(750)) == 750
        began_s = now_s()

        async def publisher(number: int) -> None:
            answer = await bus.publish(event_of())
            told.append((number, answer, round(now_s() - began_s, 6)))

        await asyncio.gather(*(publisher(number) for number in range(publishers)))
        bus.subscription("desk").resume()
    return bus, told


@virtual
async def test_who_waits_for_a_token_waits_once_in_the_order_of_asking_and_nobody_who_fits_is_refused():
    """CONTRACT 4: one token at once, twenty within the cool-down of two seconds, and the rest are told at once."""
    bus, told = await publish_at_high(SystemEvent, 30)
    assert bus.metrics.rate_limited_waits == 20
    assert bus.metrics.refused == {"rate_limited": 9}
    assert sorted(told) == [(n, n <= 20, n / 10 if n <= 20 else 0.0) for n in range(30)]
    assert [n for n, answer, _ in told if answer] == list(range(21))
    assert_settled(bus)


@virtual
async def test_the_last_to_be_shed_wait_for_a_token_but_never_in_vain():
    """CONTRACT 4: after the cool-down they are let in, on debt."""
    bus, told = await publish_at_high(an_order, 30)
    assert bus.metrics.refused == {}
    assert sorted(told) == [(n, True, min(n / 10, 2.0)) for n in range(30)]
    assert [n for n, _, _ in told[:20]] == list(range(20))
    assert bus.metrics.rate_limited_waits == 29
    assert_settled(bus)
