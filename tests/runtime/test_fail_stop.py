"""A journal that fails: what is refused is refused whole, a full disk passes, anything else is final (CONTRACT 16)."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest
from bus_helpers import (
    Failing,
    Gate,
    a_fill,
    a_kill,
    a_signal,
    a_tick,
    an_order,
    assert_balanced,
    assert_settled,
    outcome_of,
    virtual,
)
from durable_kit import Faulty, Named, SlowDisk, a_bus, abandon, cursor, ids, orders, turns, written_ids

from openoutcry import EventBus
from openoutcry.errors import JournalDead, JournalError, JournalFull, JournalLocked

FULL = JournalFull("no room on the disk")
LOCKED = JournalLocked("a stranger holds the file", 42, is_passing=True)
DEAD = JournalDead("a write has failed")

PASSING = pytest.mark.parametrize("error", [FULL], ids=["full"])
REFUSALS = pytest.mark.parametrize("error", [FULL, DEAD], ids=["full", "dead"])

Way = Callable[[EventBus, Any], Any]


async def by_publish(bus: EventBus, event: Any) -> Any:
    return await bus.publish(event)


async def by_nowait(bus: EventBus, event: Any) -> Any:
    return bus.publish_nowait(event)


async def by_many(bus: EventBus, event: Any) -> Any:
    return await bus.publish_many([event]) == 1


async def by_receipt(bus: EventBus, event: Any) -> Any:
    return (await bus.publish_receipt(event)).accepted


async def by_thread(bus: EventBus, event: Any) -> Any:
    future = await asyncio.to_thread(bus.publish_threadsafe, event)
    return await asyncio.wrap_future(future)


WAYS = pytest.mark.parametrize("way", [by_publish, by_nowait, by_many, by_receipt, by_thread])


# -- at a write ---------------------------------------------------------------------------------------


@WAYS
@REFUSALS
@virtual
async def test_a_refused_write_raises_and_delivers_nothing(way: Way, error: JournalError):
    journal, desk = Faulty(), Named("desk")
    async with a_bus(journal) as bus:
        bus.subscribe("*", desk.on_event)
        await bus.flush()
        for event in (an_order(), a_fill()):
            journal.fail_next("write", error)
            assert await outcome_of(way(bus, event)) is error
        await asyncio.sleep(2)
        assert desk.begun == []
        assert journal.head == 0
        assert bus.queue_size == 0
        assert_settled(bus)


@WAYS
@PASSING
@virtual
async def test_the_same_publish_succeeds_once_there_is_room_again(way: Way, error: JournalError):
    journal, desk = Faulty(), Named("desk")
    async with a_bus(journal) as bus:
        bus.subscribe("*", desk.on_event)
        await bus.flush()
        some = [an_order(), a_fill()]
        for event in some:
            journal.fail_next("write", error)
            assert await outcome_of(way(bus, event)) is error
            assert await way(bus, event) is True
        await bus.join()
        assert sorted(ids(desk.handled)) == ids(some) == written_ids(journal)
        assert bus.metrics.duplicates == 0
        assert_settled(bus)


@WAYS
@virtual
async def test_a_lock_that_is_gone_a_moment_later_is_no_refusal(way: Way):
    journal, desk = Faulty(), Named("desk")
    async with a_bus(journal) as bus:
        bus.subscribe("*", desk.on_event)
        await bus.flush()
        order = an_order()
        journal.fail_next("write", LOCKED)
        assert await way(bus, order) is True
        await bus.join()
        assert ids(desk.handled) == ids([order])
        assert_settled(bus)


@WAYS
@virtual
async def test_a_dead_journal_is_final(way: Way):
    journal, desk = Faulty(), Named("desk")
    async with a_bus(journal) as bus:
        bus.subscribe("*", desk.on_event)
        await bus.flush()
        journal.fail_next("write", DEAD)
        order = an_order()
        assert await outcome_of(way(bus, order)) is DEAD
        journal.dead = None  # nothing is retried as if it had worked: the journal is not even asked again
        writes = journal.calls["write"]
        for event in (order, a_fill()):
            assert isinstance(await outcome_of(way(bus, event)), JournalDead)
        assert isinstance(await outcome_of(bus.flush()), JournalDead)
        await asyncio.sleep(2)
        assert journal.calls["write"] == writes
        assert desk.begun == []


@virtual
async def test_everybody_who_shared_a_refused_commit_is_told_and_those_before_and_after_are_not():
    journal, desk = Faulty(), Named("desk")
    async with a_bus(journal) as bus:
        bus.subscribe("order", desk.on_event)
        first, last = orders(5), orders(5, 11)
        assert all(await asyncio.gather(*map(bus.publish, first)))
        journal.fail_next("write", FULL)
        found = await asyncio.gather(*(outcome_of(bus.publish(o)) for o in orders(5, 6)))
        assert found == [FULL] * 5
        assert all(await asyncio.gather(*map(bus.publish, last)))
        await bus.join()
        assert ids(desk.handled) == ids([*first, *last])


@virtual
async def test_publish_many_raises_and_publishing_all_of_it_again_is_safe():
    journal, desk = Faulty(), Named("desk")
    async with a_bus(journal) as bus:
        bus.subscribe("order", desk.on_event)
        await bus.flush()
        some = orders(3_000)
        journal.fail_next("write", FULL)
        with pytest.raises(JournalFull):
            await bus.publish_many(some)
        assert await bus.publish_many(some) == 3_000
        await bus.join()
        assert sorted(ids(desk.handled)) == sorted(ids(some))
        assert_settled(bus)


@virtual
async def test_a_refused_commit_gives_the_room_back():
    journal, gate = Faulty(), Gate()
    bus = a_bus(journal, max_queue_size=50)
    bus.subscribe("order", gate.on_event)
    await bus.start()
    await bus.flush()
    for _ in range(20):
        journal.fail_next("write", FULL)
        found = await asyncio.gather(*(outcome_of(bus.publish(o)) for o in orders(20)))
        assert found == [FULL] * 20
    assert bus.queue_size == 0
    assert await bus.publish(an_order())
    gate.open()
    await bus.join()
    await bus.stop()


@virtual
async def test_cursors_that_a_full_disk_refused_are_saved_when_there_is_room_again():
    journal, desk = Faulty(), Named("desk")
    async with a_bus(journal, cursor_save_s=0.25) as bus:
        bus.subscribe("order", desk.on_event)
        await bus.publish_many(orders(10))
        await bus.join()
        journal.fail_next("write", FULL)
        await asyncio.sleep(2)
        assert cursor(journal, "desk.on_event").floor == 10


@virtual
async def test_the_first_cursor_of_a_subscription_that_a_full_disk_refused_is_saved_with_the_next_commit():
    journal, old = Faulty(), Named("old")
    async with a_bus(journal) as bus:
        bus.subscribe("order", old.on_event)
        await bus.publish(an_order())
        await bus.join()
    bus, gate = a_bus(journal, cursor_save_s=3600), Named("new", takes_s=1e6)
    bus.subscribe("order", gate.on_event)
    await bus.start()
    order = an_order("o-2")
    journal.fail_next("write", FULL)
    assert await outcome_of(bus.publish(order)) is FULL
    assert await bus.publish(order)
    after = journal.reopened()
    await abandon(bus)
    new = Named("new")
    async with a_bus(after) as bus:
        bus.subscribe("order", new.on_event)
        await bus.join()
    assert ids(new.handled) == [order.event_id]


@virtual
async def test_dead_letters_that_a_full_disk_refused_are_written_when_there_is_room_again():
    journal, failing = Faulty(), Failing()
    async with a_bus(journal) as bus:
        bus.subscribe("order", failing.on_event, name="risk", retry=False)
        await bus.publish(an_order())
        journal.fail_next("write", FULL)
        await bus.join()
        await asyncio.sleep(2)
        assert [letter.subscription for letter in journal.buried()] == ["risk"]


@virtual
async def test_a_full_disk_at_the_stop_is_told_and_the_bus_is_stopped():
    journal, desk = Faulty(), Named("desk")
    bus = a_bus(journal)
    bus.subscribe("order", desk.on_event)
    await bus.start()
    await bus.publish(an_order())
    await bus.join()
    journal.fail_next("write", FULL)
    with pytest.raises(JournalFull):
        await bus.stop()
    assert not bus.is_running
    await bus.stop()
    again = Named("desk")
    async with a_bus(journal.reopened()) as bus:
        bus.subscribe("order", again.on_event)
        await bus.join()
    assert len(again.handled) <= 1, "its cursor was not saved: it may be handled again, and no more than that"


# -- at a sync ----------------------------------------------------------------------------------------


@WAYS
@pytest.mark.parametrize("error", [FULL, DEAD, JournalError("odd")], ids=lambda e: type(e).__name__)
@virtual
async def test_any_error_of_a_sync_is_final_and_delivers_nothing(way: Way, error: JournalError):
    journal, desk = Faulty(), Named("desk")
    async with a_bus(journal) as bus:
        bus.subscribe("*", desk.on_event)
        await bus.flush()
        journal.fail_next("sync", error)
        fill = a_fill()
        assert isinstance(await outcome_of(way(bus, fill)), JournalDead)
        for event in (fill, an_order()):
            assert isinstance(await outcome_of(way(bus, event)), JournalDead)
        await asyncio.sleep(2)
        assert desk.begun == []
        assert all(c.floor == 0 for c in journal.cursors()), "nothing counts as settled that nobody saw"


@virtual
async def test_a_sync_that_fails_in_its_thread_is_final_and_wakes_everybody():
    journal, desk = SlowDisk(), Named("desk")
    bus = a_bus(journal, sync="thread")
    bus.subscribe("*", desk.on_event)
    await bus.start()
    journal.fail_next("sync", JournalError("the disk is gone"))
    some = [asyncio.create_task(outcome_of(bus.publish(a_fill(f"{n}")))) for n in range(3)]
    await turns()
    some += [asyncio.create_task(outcome_of(bus.publish(an_order(f"{n}")))) for n in range(3)]
    await turns()
    journal.let_go()
    assert {type(found) for found in await asyncio.gather(*some)} == {JournalDead}
    assert desk.begun == []
    await bus.stop()


@virtual
async def test_an_event_whose_sync_failed_is_redelivered_where_the_disk_had_it_after_all():
    journal, desk = Faulty(), Named("desk")
    bus = a_bus(journal)
    bus.subscribe("fill", desk.on_event)
    await bus.start()
    await bus.flush()
    journal.fail_next("sync", DEAD)
    fill = a_fill()
    assert await outcome_of(bus.publish(fill)) is DEAD
    await bus.stop()
    again = Named("desk")
    async with a_bus(journal.reopened()) as bus:
        bus.subscribe("fill", again.on_event)
        assert await bus.publish(fill), "retrying on the next journal is safe"
        await bus.join()
    assert ids(again.handled) == [fill.event_id]


# -- what goes on nevertheless ------------------------------------------------------------------------


@WAYS
@pytest.mark.parametrize("call", ["write", "sync"])
@REFUSALS
@virtual
async def test_a_kill_switch_is_delivered_whatever_the_journal_does(
    way: Way, error: JournalError, call: str, caplog: pytest.LogCaptureFixture
):
    journal, desk = Faulty(), Named("desk")
    async with a_bus(journal) as bus:
        bus.subscribe("kill_switch", desk.on_event)
        await bus.flush()
        for n in range(2):
            journal.fail_next(call, error)
            assert await way(bus, a_kill()) is True
            await turns()
            assert len(desk.handled) == n + 1
            assert "was delivered, and is not in the journal" in caplog.text


@virtual
async def test_a_kill_switch_does_not_wait_for_a_sync():
    journal, desk = SlowDisk(), Named("desk")
    bus = a_bus(journal, sync="thread")
    bus.subscribe("kill_switch", desk.on_event)
    await bus.start()
    filling = asyncio.create_task(bus.publish(a_fill()))
    await turns()
    killing = asyncio.create_task(bus.publish(a_kill()))
    await turns()
    assert len(desk.handled) == 1
    assert not killing.done(), "True when the journal has it"
    journal.let_go()
    assert await filling
    assert await killing
    assert [stored.lane for stored in journal.read(0, 9)] == ["high", "control"]
    await bus.stop()


@virtual
async def test_events_of_level_memory_go_on_beside_a_dead_journal():
    journal, desk = Faulty(), Named("desk")
    async with a_bus(journal) as bus:
        bus.subscribe("*", desk.on_event)
        await bus.flush()
        journal.fail_next("write", DEAD)
        assert await outcome_of(bus.publish(an_order())) is DEAD
        assert await bus.publish(a_tick())
        assert await bus.publish(an_order("o-2"), level="memory")
        await bus.join()
        assert desk.types == ["market_data", "order"]
        assert_settled(bus)


@virtual
async def test_what_was_accepted_before_is_handled_to_its_end_on_a_dead_journal():
    journal, desk = Faulty(), Named("desk", takes_s=0.01)
    async with a_bus(journal) as bus:
        bus.subscribe("order", desk.on_event)
        some = orders(20)
        await bus.publish_many(some)
        journal.fail_next("write", DEAD)
        assert await outcome_of(bus.publish(an_order("late"))) is DEAD
        await bus.join()
        assert ids(desk.handled) == ids(some)
        assert_settled(bus)
    assert not bus.is_running


@virtual
async def test_the_death_of_the_journal_is_told_once_and_logged():
    journal = Faulty()
    told: list[JournalError] = []
    async with a_bus(journal) as bus:
        bus.on_journal_error(told.append)
        bus.on_journal_error(lambda error: 1 / 0)
        await bus.flush()
        journal.fail_next("write", DEAD)
        for order in orders(5):
            await outcome_of(bus.publish(order))
    assert told == [DEAD]


@virtual
async def test_a_full_disk_is_no_death(caplog: pytest.LogCaptureFixture):
    journal = Faulty()
    told: list[JournalError] = []
    async with a_bus(journal) as bus:
        bus.on_journal_error(told.append)
        journal.fail_next("write", FULL)
        await outcome_of(bus.publish(an_order()))
        assert await bus.publish(an_order("o-2"))
    assert told == []
    assert not [r for r in caplog.records if r.levelno >= logging.CRITICAL]


@virtual
async def test_a_handler_that_publishes_on_a_dead_journal_fails_and_its_event_is_a_dead_letter():
    journal = Faulty()
    async with a_bus(journal) as bus:

        async def execute(order: Any) -> None:
            await bus.publish(a_fill(order.order_id))

        bus.subscribe("order", execute, name="execution", retry=False)
        await bus.flush()
        journal.fail_next("write", DEAD)
        await outcome_of(bus.publish(an_order("o-1")))
        assert await bus.publish(an_order("o-2"), level="memory")
        await bus.join()
        (letter,) = bus.dead_letters("execution")
        assert letter.event.order_id == "o-2"
        assert "JournalDead" in letter.error
        assert_balanced(bus)


# -- signals and cancellation -------------------------------------------------------------------------


@REFUSALS
@virtual
async def test_a_signal_that_the_journal_refused_has_no_vote(error: JournalError):
    journal = Faulty()
    async with a_bus(journal, signal_timeout=1.0, barrier_timeout=2.0) as bus:
        for agent in ("a", "b"):
            bus.register_signal_agent(agent)
        await bus.flush()
        bus.open_round("r")
        await bus.publish_signal(a_signal("a"))
        journal.fail_next("write", error)
        signal = a_signal("b")
        assert await outcome_of(bus.publish_signal(signal)) is error
        if error is not DEAD:
            await bus.publish_signal(signal)
        outcome = await bus.wait_for_signals("r")
        assert outcome.valid is (error is not DEAD)
        assert set(outcome.missing) == (set() if error is not DEAD else {"b"})


@virtual
async def test_a_publish_cancelled_during_a_commit_that_is_refused_was_not_admitted():
    journal, desk = SlowDisk(), Named("desk")
    bus = a_bus(journal, sync="thread")
    bus.subscribe("fill", desk.on_event)
    await bus.start()
    journal.fail_next("sync", DEAD)
    publishing = asyncio.create_task(bus.publish(a_fill()))
    await turns()
    publishing.cancel()
    await asyncio.gather(publishing, return_exceptions=True)
    journal.let_go()
    await bus.stop()
    assert desk.begun == []
    assert_settled(bus)


@virtual
async def test_the_bus_stops_in_time_with_publishers_waiting_for_a_sync_that_fails():
    journal = SlowDisk()
    bus = a_bus(journal, sync="thread")
    await bus.start()
    journal.fail_next("sync", DEAD)
    publishing = asyncio.create_task(outcome_of(bus.publish(a_fill())))
    await turns()
    stopping = asyncio.create_task(bus.stop(timeout_s=1))
    await turns()
    journal.let_go()
    await stopping
    assert await publishing is DEAD


@virtual
async def test_publishing_before_the_start_on_a_full_disk_can_be_tried_again():
    journal, desk = Faulty(), Named("desk")
    bus = a_bus(journal)
    bus.subscribe("order", desk.on_event)
    order = an_order()
    journal.fail_next("write", FULL)
    assert await outcome_of(bus.publish(order)) is FULL
    journal.fail_next("write", FULL)
    with pytest.raises(JournalFull):
        bus.publish_nowait(order)
    assert await bus.publish(order)
    await bus.start()
    await bus.join()
    await bus.stop()
    assert ids(desk.handled) == [order.event_id]
