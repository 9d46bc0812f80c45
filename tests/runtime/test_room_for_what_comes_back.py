"""Retries and redriven events keep to the room that there is, and to what was asked for (CONTRACT 4, 10)."""

import asyncio
import random
from typing import Any

import pytest
from bus_helpers import Desk, Failing, Gate, a_fill, a_tick, an_order, assert_settled, pause_until, virtual

from openoutcry import BackpressureConfig, DropOldest, EventBus, RetryPolicy
from openoutcry.journals import MemoryJournal


async def buried(bus: EventBus, count: int) -> list[str]:
    """Leave `risk` with so many dead letters, and without a handler; return the ids of their events."""
    broken = Failing()
    bus.subscribe("order", broken.on_event, name="risk", retry=False, breaker=False)
    for number in range(count):
        await bus.publish(an_order(f"o-{number}"))
        await bus.join()
    bus.unsubscribe("order", broken.on_event)
    return [letter.event.event_id for letter in bus.dead_letters("risk")]


@virtual
async def test_redriven_events_leave_the_reserve_to_high_priority_ones():
    async with EventBus(20, backpressure_config=BackpressureConfig(reserve=0.3)) as bus:
        ids, gate, desk = await buried(bus, 40), Gate(), Desk()
        bus.subscribe("*", gate.on_event, name="risk")
        bus.subscribe("*", desk.on_event, name="book")
        assert bus.admin.redrive("risk") == 40
        await pause_until(lambda: len(gate.begun) == 1)
        risk = bus.subscription("risk")
        assert 0 < risk.mailbox.waiting <= 14
        for number in range(20 - 14):
            assert await bus.publish(a_fill(f"f-{number}"))
        assert bus.dead_letter_counts() == {"risk": 40}, "all of the fills wait"
        gate.open()
        await bus.join()
        assert [e.event_id for e in gate.handled if e.event_type == "order"] == ids
        assert not bus.dead_letters()
        assert_settled(bus)


@virtual
async def test_whatever_the_limit_of_those_that_wait_all_letters_can_be_redriven():
    async with EventBus() as bus:
        ids, gate = await buried(bus, 10), Gate()
        bus.subscribe("order", gate.on_event, name="risk", overflow=DropOldest(3))
        assert bus.admin.redrive("risk") == 10
        await asyncio.sleep(1)
        gate.open()
        await bus.join()
        assert [e.event_id for e in gate.handled] == ids
        assert sum(row.overflowed for row in bus.subscription("risk").ledger_rows()) == 0
        assert_settled(bus)


@virtual
async def test_a_letter_that_something_newer_has_replaced_is_counted_as_conflated():
    async with EventBus() as bus:
        broken, gate = Failing(), Gate()
        bus.subscribe("market_data", broken.on_event, name="risk", retry=False, breaker=False)
        await bus.publish(a_tick(1.0))
        await bus.join()
        bus.unsubscribe("market_data", broken.on_event)
        bus.subscribe("market_data", gate.on_event, name="risk", overflow="conflate")
        await bus.publish(a_tick(2.0, "NQ"))
        await pause_until(lambda: len(gate.begun) == 1)
        await bus.publish(a_tick(3.0))
        await asyncio.sleep(0.1)
        assert bus.admin.redrive("risk") == 1
        await asyncio.sleep(1)
        gate.open()
        await bus.join()
        (normal,) = (row for row in bus.subscription("risk").ledger_rows() if row.lane == "normal")
        assert (normal.accepted, normal.handled, normal.conflated) == (3, 2, 1)
        assert not bus.dead_letters()
        assert_settled(bus)


@pytest.mark.parametrize("concurrency", [1, 4])
@virtual
async def test_retries_take_at_most_one_place_each_worker_beyond_the_bound(concurrency):
    policy = RetryPolicy(attempts=3, first_s=1.0, in_order=False)
    async with EventBus(20) as bus:
        fast, slow = Desk(), Failing()
        bus.subscribe("order", fast.on_event, name="fast")

        async def slow_and_failing(event: Any) -> None:
            await asyncio.sleep(0.3)
            await slow.on_event(event)

        bus.subscribe(
            "order", slow_and_failing, name="slow", retry=policy, breaker=False, concurrency=concurrency
        )
        for number in range(600):
            assert await bus.publish(an_order(f"o-{number}"))
            await asyncio.sleep(0.01)
            assert bus.subscription("slow").mailbox.waiting <= 20 + concurrency
        await bus.join()
        assert len(fast.handled) == 600 == bus.dead_letter_counts()["slow"]
        assert_settled(bus)


@pytest.mark.parametrize("seed", range(5))
@virtual
async def test_what_is_held_leaves_a_place_for_what_comes_first_also_beside_a_retry(seed):
    """Or the lane could never read on, and what is held would wait for ever."""
    chance, calls, done, fast = random.Random(seed), asyncio.Semaphore(0), Failing(times=1), Desk()

    async def slow(event: Any) -> None:
        await calls.acquire()
        await done.on_event(event)

    config, policy = BackpressureConfig(reserve=0), RetryPolicy(first_s=0)
    async with EventBus(1, journal=MemoryJournal(), backpressure_config=config) as bus:
        bus.subscribe("*", fast.on_event, name="fast")
        bus.subscribe("*", slow, name="slow", retry=policy)
        for number in range(15):
            assert await bus.publish(an_order(f"o-{number}"))
            await asyncio.sleep(0.01)
        for step in range(40):
            what = chance.choice(("call", "tick", "turn", "rest"))
            if what == "call":
                calls.release()
            elif what == "tick":
                bus.publish_nowait(a_tick(float(step)))
            else:
                await asyncio.sleep(0 if what == "turn" else 0.01)
            assert bus.subscription("slow").mailbox.normal.held == 0, "there is a single place"
        for _ in range(100):
            calls.release()
        await bus.join()
        orders = [e.order_id for e in done.handled if e.event_type == "order"]
        assert orders == [f"o-{number}" for number in range(15)]
        assert_settled(bus)


@virtual
async def test_what_an_observer_of_dead_letters_publishes_overtakes_nothing():
    async with EventBus(4) as bus:
        slow, fast = Gate(), Desk()
        bus.subscribe("*", slow.on_event, name="slow")
        bus.subscribe("*", fast.on_event, name="fast")
        bus.on_dead_letter(
            lambda letter: bus.publish_nowait(a_fill("alert")) if len(fast.handled) < 20 else None
        )
        for number in range(8):
            assert await bus.publish(a_fill(f"f-{number}"))
            await asyncio.sleep(0)
        slow.open()
        await bus.join()
        assert fast.ids == [event.event_id for event in bus.get_event_history()]
        assert fast.handled[5].order_id == "f-5", "which the first alert is about"


@virtual
async def test_a_subscription_that_an_observer_of_dead_letters_ends_is_handed_nothing_more():
    async with EventBus(4) as bus:
        slow, other, fast = Gate(), Desk(), Desk()
        bus.subscribe("*", slow.on_event, name="slow")
        bus.subscribe("*", other.on_event, name="other")
        bus.subscribe("*", fast.on_event, name="fast")
        bus.on_dead_letter(
            lambda _: bus.unsubscribe("*", other.on_event) if len(bus.subscriptions) > 2 else None
        )
        for number in range(8):
            assert await bus.publish(an_order(f"o-{number}"))
            await asyncio.sleep(0)
        slow.open()
        await bus.join()
        assert_settled(bus)


@pytest.mark.parametrize("how", [{"overflow": "conflate"}, {"supersede": "symbol"}])
@virtual
async def test_a_conflating_mailbox_keeps_its_bound_also_if_a_burst_replaces_what_is_oldest(how):
    gate, fast, sent = Gate(), Desk(), 0
    async with EventBus(40) as bus:
        bus.subscribe("market_data", fast.on_event, name="fast")
        slow = bus.subscribe("market_data", gate.on_event, name="slow", **how)
        slow.pause()
        for number in range(200):
            oldest = [event.symbol for event in slow.mailbox.normal.waiting_events()][:12]
            for symbol in [f"S{number}", *oldest]:
                assert await bus.publish(a_tick(float(number), symbol))
                sent += 1
            await asyncio.sleep(0.01)
            assert slow.mailbox.waiting <= 40
        assert len(fast.handled) == sent
        slow.resume()
        gate.open()
        await bus.join()
        assert_settled(bus)
