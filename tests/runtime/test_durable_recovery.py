"""What the next life finds: cursors, order, names, restore hooks, several lives of one journal (CONTRACT 17, 18, 27, 29)."""

import asyncio
from collections import Counter
from typing import Any

import pytest
from bus_helpers import (
    Desk,
    Failing,
    Gate,
    a_decision,
    a_fill,
    a_kill,
    a_tick,
    an_order,
    assert_balanced,
    assert_settled,
    outcome_of,
    pause_until,
    row,
    ticks,
    virtual,
)
from durable_kit import (
    Disk,
    Named,
    a_bus,
    abandon,
    ids,
    is_settled,
    orders,
    others_go_on,
    quick_stall,
    turns,
    written,
    written_ids,
)

from openoutcry import (
    Conflate,
    DropOldest,
    EventBus,
    OpenOutcryError,
    RetryPolicy,
    SubscriptionError,
    TimeInForce,
)
from openoutcry.errors import DuplicateName
from openoutcry.journals import MemoryJournal
from openoutcry.runtime.durability.missing import MISSING_AFTER_S


async def next_life(journal: Any, *desks: Any, takes: Any = "*", **fields: Any) -> EventBus:
    """Start a bus over what an earlier one left, with these desks, and let it settle everything."""
    bus = a_bus(journal, **fields)
    for desk in desks:
        bus.subscribe(takes, desk.on_event)
    await bus.start()
    await bus.join()
    return bus


# -- crashes ------------------------------------------------------------------------------------------


@virtual
async def test_what_no_subscription_had_settled_is_handled_by_the_next_life_in_order(disk: Disk):
    bus = a_bus(disk.journal)
    bus.subscribe("order", Named("risk", takes_s=1e6).on_event)
    await bus.start()
    some = orders(700)
    await bus.publish_many(some)
    await asyncio.sleep(1)
    journal = await disk.crash(bus)
    desk = Named("risk")
    bus = await next_life(journal, desk)
    assert ids(desk.handled) == ids(some)
    assert_settled(bus)
    await bus.stop()


@virtual
async def test_redelivery_reaches_only_the_subscriptions_that_had_not_settled(disk: Disk):
    quick = Named("quick")
    bus = a_bus(disk.journal)
    bus.subscribe("order", quick.on_event)
    bus.subscribe("order", Named("slow", takes_s=1e6).on_event)
    await bus.start()
    some = orders(20)
    await bus.publish_many(some)
    await asyncio.sleep(1)
    journal = await disk.crash(bus)
    quick, slow = Named("quick"), Named("slow")
    bus = await next_life(journal, quick, slow)
    assert quick.handled == []
    assert ids(slow.handled) == ids(some)
    await bus.stop()


@virtual
async def test_duplicates_after_a_crash_are_those_settled_and_not_saved(disk: Disk):
    bus = a_bus(disk.journal, cursor_save_s=3600)
    bus.subscribe("order", Named("desk").on_event)
    await bus.start()
    await bus.publish_many(orders(30))
    await bus.join()
    await bus.flush()
    await bus.publish_many(orders(10, 31))
    await bus.join()
    journal = await disk.crash(bus)
    desk = Named("desk")
    bus = await next_life(journal, desk)
    assert [event.order_id for event in desk.handled] == [f"o-{n}" for n in range(31, 41)]
    await bus.stop()


@virtual
async def test_an_idle_bus_that_is_killed_redelivers_nothing(disk: Disk):
    bus = a_bus(disk.journal)
    bus.subscribe("*", Named("desk").on_event)
    await bus.start()
    for event in (an_order(), a_fill(), a_kill(), a_decision()):
        await bus.publish(event)
    await bus.join()
    await asyncio.sleep(1)
    journal = await disk.crash(bus)
    desk = Named("desk")
    bus = await next_life(journal, desk)
    assert desk.begun == []
    await bus.stop()


@virtual
async def test_recovery_has_no_limit_and_dead_letters_do_not_use_it_up(disk: Disk):
    failing = Failing(fails=lambda order: int(order.order_id[2:]) % 3 == 0)
    failing.name = "desk"  # type: ignore[attr-defined]
    async with a_bus(disk.journal, max_queue_size=20_000) as bus:
        bus.subscribe("order", failing.on_event, retry=False)
        await bus.publish_many(orders(3_000))
        await bus.join()
        subscription = bus.subscribe("order", failing.on_event)
        subscription.pause()
        await bus.publish_many(orders(3_000, 3_001))
        await bus.stop(timeout_s=0)
    desk = Named("desk")
    bus = await next_life(disk.restarted(), desk, takes="order")
    assert [event.order_id for event in desk.handled] == [f"o-{n}" for n in range(3_001, 6_001)]
    assert len(bus.dead_letters("desk.on_event")) == 1_000
    await bus.stop()


@virtual
async def test_three_lives_within_five_minutes_lose_nothing(disk: Disk):
    some = orders(9)
    handled: list[str] = []
    journal = disk.journal
    for life in range(4):
        desk = Named("desk", takes_s=1.0)
        bus = a_bus(journal)
        bus.subscribe("order", desk.on_event)
        if life == 0:
            await bus.publish_many(some)
        await bus.start()
        await asyncio.sleep(3.5)
        handled += ids(desk.handled)
        journal = await disk.crash(bus)
    assert list(dict.fromkeys(handled)) == ids(some)
    assert len(handled) <= len(some) + 3


@virtual
async def test_high_priority_events_are_recovered_first_and_kill_switches_before_them(disk: Disk):
    bus = a_bus(disk.journal)
    gate = Named("desk", takes_s=1e6)
    bus.subscribe("*", gate.on_event, concurrency=1)
    bus.subscribe("kill_switch", Named("other", takes_s=1e6).on_event)
    await bus.start()
    batch = [an_order("1"), a_fill("1"), an_order("2"), a_fill("2"), a_kill()]
    for event in batch:
        await bus.publish(event)
    journal = await disk.crash(bus)
    desk = Named("desk")
    bus = await next_life(journal, desk, suspect_alone_s=0)
    assert desk.types[0] == "kill_switch"
    rest = [event for event in desk.handled if event.event_type != "kill_switch"]
    fills = [e for e in rest if e.event_type == "fill"]
    assert ids(fills) == ids([batch[1], batch[3]])
    assert [e.order_id for e in rest if e.event_type == "order"] == ["1", "2"]
    await bus.stop()


@virtual
async def test_recovered_events_come_before_new_ones_of_their_lane(disk: Disk):
    bus = a_bus(disk.journal)
    bus.subscribe(["order", "fill"], Named("desk", takes_s=1e6).on_event)
    await bus.start()
    old = orders(600)
    await bus.publish_many(old)
    await bus.publish(a_fill("old"))
    journal = await disk.crash(bus)
    desk = Named("desk")
    bus = a_bus(journal)
    bus.subscribe(["order", "fill"], desk.on_event)
    await bus.start()
    new = orders(300, 1_001)
    await bus.publish_many(new)
    await bus.publish(a_fill("new"))
    await bus.join()
    assert [e.event_id for e in desk.handled if e.event_type == "order"] == ids([*old, *new])
    assert [e.order_id for e in desk.handled if e.event_type == "fill"] == ["old", "new"]
    await bus.stop()


@virtual
async def test_a_kill_switch_in_hand_at_the_crash_is_handled_again(disk: Disk):
    bus = a_bus(disk.journal)
    bus.subscribe("kill_switch", Named("risk", takes_s=1e6).on_event)
    await bus.start()
    kill = a_kill()
    await bus.publish(kill)
    await turns()
    journal = await disk.crash(bus)
    risk = Named("risk")
    bus = await next_life(journal, risk)
    assert ids(risk.handled) == [kill.event_id]
    await bus.stop()


@virtual
async def test_a_kill_switch_in_hand_is_not_saved_as_settled_once_its_position_is_known(disk: Disk):
    """CONTRACT 5, 11: it is handed out before its commit, and everything before and behind it is settled."""
    bus = a_bus(disk.journal, cursor_save_s=0.01)
    bus.subscribe(["order", "kill_switch"], Named("risk", takes_s=1e6).on_event, concurrency=2)
    other = Named("other")
    bus.subscribe(["order", "kill_switch"], other.on_event)
    await bus.start()
    await bus.publish_many(orders(3))
    await bus.publish(a_kill())
    await bus.publish_many(orders(3, first=4))
    await asyncio.sleep(1)
    await bus.flush()
    assert not is_settled(disk.journal, "risk.on_event", "control", 4)
    assert is_settled(disk.journal, "risk.on_event", "control", 3)
    assert is_settled(disk.journal, "other.on_event", "control", 7)
    await abandon(bus)


@virtual
async def test_a_kill_switch_published_while_the_bus_starts_is_delivered(disk: Disk):
    risk = Named("risk")
    bus = a_bus(disk.journal)
    bus.subscribe("kill_switch", risk.on_event)
    publishing = asyncio.create_task(bus.publish(a_kill()))
    await bus.start()
    assert await publishing
    await bus.join()
    assert len(risk.handled) == 1
    await bus.stop()


@virtual
async def test_a_kill_switch_of_before_the_start_is_handled_once_per_life(disk: Disk):
    risk = Named("risk")
    bus = a_bus(disk.journal)
    bus.subscribe("kill_switch", risk.on_event)
    assert await bus.publish(a_kill())
    await bus.start()
    await bus.join()
    await bus.stop()
    assert len(risk.handled) == 1
    again = Named("risk")
    bus = await next_life(disk.restarted(), again)
    assert again.begun == []
    await bus.stop()


@virtual
async def test_recover_persisted_events_counts_what_is_unsettled_and_start_hands_it_out_once(disk: Disk):
    bus = a_bus(disk.journal)
    bus.subscribe("order", Named("desk", takes_s=1e6).on_event)
    await bus.start()
    await bus.publish_many(orders(7))
    journal = await disk.crash(bus)
    desk = Named("desk")
    bus = a_bus(journal)
    bus.subscribe("order", desk.on_event)
    assert await bus.recover_persisted_events() == 7
    assert await bus.recover_persisted_events() == 7
    assert desk.begun == []
    await bus.start()
    with pytest.raises(OpenOutcryError, match="comes before start"):
        await bus.recover_persisted_events()
    await bus.join()
    assert len(desk.handled) == 7
    await bus.stop()


@virtual
async def test_settled_out_of_order_is_remembered_over_a_crash(disk: Disk):
    """Gaps: what calls beside each other had settled above one that had not ended is not handled again."""
    bus = a_bus(disk.journal)
    done: list[str] = []

    async def handler(order: Any) -> None:
        if order.order_id in ("o-2", "o-5"):
            await asyncio.sleep(1e6)
        done.append(order.order_id)

    bus.subscribe("order", handler, name="desk.on_event", concurrency=3)
    await bus.start()
    await bus.publish_many(orders(8))
    await asyncio.sleep(1)
    assert done == ["o-1", "o-3", "o-4", "o-6", "o-7", "o-8"]
    journal = await disk.crash(bus)
    desk = Named("desk")
    bus = await next_life(journal, desk)
    assert sorted(event.order_id for event in desk.handled) == ["o-2", "o-5"]
    await bus.stop()


@virtual
async def test_retries_that_wait_at_the_crash_are_tried_again_by_the_next_life(disk: Disk):
    failing = Failing(times=1)
    bus = a_bus(disk.journal)
    bus.subscribe(
        "order", failing.on_event, name="desk.on_event", retry=RetryPolicy(first_s=3600, max_s=3600)
    )
    await bus.start()
    await bus.publish_many(orders(3))
    await asyncio.sleep(1)
    journal = await disk.crash(bus)
    desk = Named("desk")
    bus = await next_life(journal, desk)
    assert [event.order_id for event in desk.handled] == ["o-1", "o-2", "o-3"]
    await bus.stop()


@virtual
async def test_retries_that_let_others_overtake_are_gaps_that_survive(disk: Disk):
    failing = Failing(fails=lambda order: order.order_id == "o-1")
    bus = a_bus(disk.journal)
    policy = RetryPolicy(first_s=3600, max_s=3600, in_order=False)
    bus.subscribe("order", failing.on_event, name="desk.on_event", retry=policy)
    await bus.start()
    await bus.publish_many(orders(4))
    await asyncio.sleep(1)
    assert len(failing.handled) == 3
    journal = await disk.crash(bus)
    desk = Named("desk")
    bus = await next_life(journal, desk)
    assert [event.order_id for event in desk.handled] == ["o-1"]
    await bus.stop()


@virtual
async def test_a_crash_in_the_middle_of_recovery_loses_nothing(disk: Disk):
    some = orders(1_200)
    bus = a_bus(disk.journal, max_queue_size=5_000)
    bus.subscribe("order", Named("desk", takes_s=1e6).on_event)
    await bus.start()
    await bus.publish_many(some)
    journal = await disk.crash(bus)
    handled: list[str] = []
    for at_once in (100, 500):
        desk = Named("desk", takes_s=0.001)
        bus = a_bus(journal)
        bus.subscribe("order", desk.on_event)
        await bus.start()
        await pause_until(lambda: len(desk.handled) >= at_once)  # noqa: B023
        handled += ids(desk.handled)
        journal = await disk.crash(bus)
    desk = Named("desk")
    bus = await next_life(journal, desk)
    handled += ids(desk.handled)
    assert list(dict.fromkeys(handled)) == ids(some)
    await bus.stop()


@virtual
async def test_every_field_comes_back_as_it_was(disk: Disk):
    bus = a_bus(disk.journal)
    bus.subscribe("order", Named("desk", takes_s=1e6).on_event)
    await bus.start()
    order = an_order(
        time_in_force=TimeInForce.GTC, source_agent="execution", correlation_id="chain", round_id="r"
    )
    await bus.publish(order)
    journal = await disk.crash(bus)
    desk = Named("desk")
    bus = await next_life(journal, desk)
    assert desk.handled == [order]
    assert type(desk.handled[0]) is type(order)
    await bus.stop()


# -- stopping and starting ----------------------------------------------------------------------------


@virtual
async def test_what_did_not_drain_by_the_deadline_is_redelivered_next_time(disk: Disk):
    slow = Named("desk", takes_s=1.0)
    bus = a_bus(disk.journal)
    bus.subscribe("order", slow.on_event)
    await bus.start()
    await bus.publish_many(orders(10))
    await bus.stop(timeout_s=3.5)
    first = [event.order_id for event in slow.handled]
    desk = Named("desk")
    bus = await next_life(disk.restarted(), desk)
    assert first + [event.order_id for event in desk.handled] == [f"o-{n}" for n in range(1, 11)]
    await bus.stop()


@virtual
async def test_a_clean_stop_leaves_nothing_to_redeliver(disk: Disk):
    async with a_bus(disk.journal, cursor_save_s=3600) as bus:
        bus.subscribe("*", Named("desk").on_event)
        await bus.publish_many(orders(50))
        await bus.publish(a_fill())
    assert disk.journal.synced == disk.journal.head
    desk = Named("desk")
    bus = await next_life(disk.restarted(), desk)
    assert desk.begun == []
    await bus.stop()


@virtual
async def test_the_same_bus_object_goes_on_after_a_stop(disk: Disk):
    desk = Named("desk", takes_s=0.5)
    bus = a_bus(disk.journal)
    bus.subscribe(["order", "market_data"], desk.on_event)
    batch = [event for pair in zip(orders(6), ticks(6), strict=True) for event in pair]
    await bus.start()
    for event in batch:
        await bus.publish(event)
    await bus.stop(timeout_s=1.6)
    assert 0 < len(desk.handled) < 12
    await bus.start()
    await bus.publish(an_order("last"))
    await bus.join()
    assert [event.event_id for event in desk.handled if event.event_type == "order"] == written_ids(
        disk.journal
    )
    assert len([event for event in desk.handled if event.event_type == "market_data"]) == 6
    assert_settled(bus)
    await bus.stop()


@virtual
async def test_a_handler_may_still_publish_durable_events_while_the_bus_stops(disk: Disk):
    fills = Named("book")
    bus = a_bus(disk.journal)

    async def execute(order: Any) -> None:
        await asyncio.sleep(0.5)
        await bus.publish(a_fill(order.order_id))

    bus.subscribe("order", execute, name="execution")
    bus.subscribe("fill", fills.on_event)
    await bus.start()
    await bus.publish(an_order())
    await asyncio.sleep(0.1)
    await bus.stop(timeout_s=5)
    assert len(fills.handled) == 1
    assert [str(event.event_type) for event in written(disk.journal)] == ["order", "fill"]


@virtual
async def test_a_stalled_high_lane_goes_on_after_a_stop_and_start_of_the_same_bus(disk: Disk):
    gate, other = Gate(), Named("other")
    bus = a_bus(disk.journal, backpressure_config=quick_stall())
    bus.subscribe(["fill", "kill_switch"], gate.on_event, name="risk")
    bus.subscribe("kill_switch", other.on_event)
    await bus.start()
    await bus.publish(a_kill())
    fills = [a_fill(f"{n}") for n in range(6)]
    for fill in fills[:3]:
        await bus.publish(fill)
    await asyncio.sleep(2)
    for fill in fills[3:]:
        await bus.publish(fill)
    await bus.stop(0.1)
    await bus.start()
    gate.open()
    await bus.join()
    assert [e.event_id for e in gate.handled if e.event_type == "fill"] == ids(fills)
    assert len(other.handled) == 1
    await bus.stop()


@virtual
async def test_two_buses_one_after_the_other_share_a_journal_and_the_first_may_come_back():
    journal, desk = MemoryJournal(), Named("desk")
    first = a_bus(journal)
    first.subscribe("order", desk.on_event)
    await first.start()
    await first.publish(an_order("o-1"))
    await first.join()
    await first.stop()
    async with a_bus(journal) as second:
        await second.publish(an_order("o-2"))
        second.subscribe("order", Named("other").on_event)
        await second.publish(an_order("o-3"))
    await first.start()
    await first.publish(an_order("o-4"))
    await first.join()
    assert [event.order_id for event in desk.handled] == ["o-1", "o-2", "o-3", "o-4"]
    await first.stop()


@virtual
async def test_an_old_life_that_goes_on_cannot_disturb_the_new_one():
    journal = MemoryJournal()
    old, desk = a_bus(journal), Named("desk")
    old.subscribe("order", desk.on_event)
    await old.start()
    await old.publish(an_order("o-1"))
    await old.join()
    again = Named("desk")
    new = await next_life(journal.reopened(), again)
    await asyncio.gather(old.publish(an_order("o-2")), new.publish(an_order("o-3")))
    await asyncio.gather(old.join(), new.join())
    assert [event.order_id for event in desk.handled] == ["o-1", "o-2"]
    assert [event.order_id for event in again.handled][-1] == "o-3"
    await old.stop()
    await new.stop()


# -- names --------------------------------------------------------------------------------------------


def test_two_durable_subscriptions_may_not_get_the_same_name():
    bus = a_bus(MemoryJournal())
    bus.subscribe("order", Desk().on_event)
    with pytest.raises(DuplicateName, match="durable=False"):
        bus.subscribe("order", Desk().on_event)
    bus.subscribe("order", Desk().on_event, name="second desk")
    bus.subscribe("order", Desk().on_event, durable=False)
    with pytest.raises(DuplicateName):
        bus.subscribe("order", Desk().on_event, name="second desk")


@virtual
async def test_a_name_that_is_not_unique_is_given_a_number_without_a_journal():
    async with EventBus() as bus:
        names = {bus.subscribe("order", Desk().on_event).name for _ in range(3)}
        assert len(names) == 3


@virtual
async def test_a_subscription_that_is_made_a_moment_after_the_start_is_not_reported_as_missing(
    disk: Disk, caplog: pytest.LogCaptureFixture
):
    bus = a_bus(disk.journal)
    for name in ("book", "risk"):
        bus.subscribe("order", Named(name, takes_s=1e6).on_event)
    await bus.start()
    await bus.publish_many(orders(5))
    bus = await next_life(await disk.crash(bus))
    book = Named("book")
    await asyncio.sleep(MISSING_AFTER_S / 2)
    bus.subscribe("order", book.on_event)
    await asyncio.sleep(MISSING_AFTER_S)
    assert len(book.handled) == 5
    assert "'risk.on_event', which is not subscribed" in caplog.text
    assert "book.on_event" not in caplog.text
    await bus.stop()


@virtual
async def test_a_bus_that_stops_before_the_report_of_missing_subscriptions_is_due_makes_none(
    disk: Disk, caplog: pytest.LogCaptureFixture
):
    bus = a_bus(disk.journal)
    bus.subscribe("order", Named("book", takes_s=1e6).on_event)
    await bus.start()
    await bus.publish_many(orders(5))
    bus = await next_life(await disk.crash(bus))
    await bus.stop()
    await asyncio.sleep(2 * MISSING_AFTER_S)
    assert "not subscribed" not in caplog.text


@virtual
async def test_a_vanished_subscription_is_reported_with_what_waits_for_it(
    disk: Disk, caplog: pytest.LogCaptureFixture
):
    bus = a_bus(disk.journal)
    bus.subscribe("order", Named("old name", takes_s=1e6).on_event)
    await bus.start()
    await bus.publish_many(orders(5))
    await bus.publish(a_decision())
    journal = await disk.crash(bus)
    desk = Named("new name")
    bus = await next_life(journal, desk, takes="order")
    await asyncio.sleep(MISSING_AFTER_S - 0.1)
    assert "not subscribed" not in caplog.text, "it may be made a moment after the start"
    await asyncio.sleep(0.2)
    assert (
        "5 events wait for the subscription 'old name.on_event', which is not subscribed 10 s" in caplog.text
    )
    assert "after the start: order, the oldest since 2024-01-02T14:30:00" in caplog.text
    assert "Subscribe it under this name, and it gets them." in caplog.text
    assert desk.begun == [], "a new name begins now"
    await bus.publish(an_order("new"))
    await bus.join()
    await bus.stop()
    caplog.clear()
    old = Named("old name")
    bus = await next_life(disk.restarted(), old, takes="order")
    assert [event.order_id for event in old.handled] == [f"o-{n}" for n in range(1, 6)] + ["new"]
    await bus.stop()


@virtual
async def test_a_subscription_that_is_not_durable_gets_what_happens_while_it_lives(disk: Disk):
    bus = a_bus(disk.journal)
    bus.subscribe("order", Named("desk", takes_s=1e6).on_event, durable=False)
    await bus.start()
    await bus.publish_many(orders(3))
    journal = await disk.crash(bus)
    assert disk.journal.cursors() == []
    desk = Named("desk")
    bus = a_bus(journal)
    bus.subscribe("order", desk.on_event, durable=False)
    await bus.start()
    await bus.publish(an_order("new"))
    await bus.join()
    assert [event.order_id for event in desk.handled] == ["new"]
    assert_settled(bus)
    await bus.stop()


@virtual
async def test_a_new_subscription_on_a_journal_that_others_used_begins_now(disk: Disk):
    async with a_bus(disk.journal) as bus:
        bus.subscribe("order", Named("old").on_event)
        await bus.publish_many(orders(3))
    new = Named("new")
    bus = a_bus(disk.restarted())
    bus.subscribe("order", new.on_event)
    await bus.start()
    late = Named("late")
    await bus.publish(an_order("first"))
    bus.subscribe("order", late.on_event)
    await bus.publish(an_order("second"))
    await bus.join()
    assert [event.order_id for event in new.handled] == ["first", "second"]
    assert [event.order_id for event in late.handled] == ["second"]
    await bus.stop()


@virtual
async def test_a_late_subscription_with_a_cursor_gets_what_it_missed_then_what_is_new(disk: Disk):
    async with a_bus(disk.journal) as bus:
        bus.subscribe(["order", "fill"], Named("late").on_event)
        await bus.publish_many(orders(3))
        await bus.join()
    bus = a_bus(disk.restarted())
    await bus.start()
    await bus.publish_many(orders(600, 11))
    await bus.publish(a_fill("missed"))
    late = Named("late")
    bus.subscribe(["order", "fill"], late.on_event)
    await bus.publish_many(orders(3, 901))
    await bus.publish(a_fill("new"))
    await bus.join()
    wanted = [f"o-{n}" for n in (*range(11, 611), 901, 902, 903)]
    assert [e.order_id for e in late.handled if e.event_type == "order"] == wanted
    assert [e.order_id for e in late.handled if e.event_type == "fill"] == ["missed", "new"]
    assert_settled(bus)
    await bus.stop()


@virtual
async def test_several_late_subscriptions_each_get_the_high_priority_events_they_missed(disk: Disk):
    names = ("a", "b", "c")
    async with a_bus(disk.journal) as bus:
        for name in names:
            bus.subscribe("fill", Named(name).on_event)
        await bus.publish(a_fill("0"))
        await bus.join()
    bus = a_bus(disk.restarted())
    await bus.start()
    for missed, name in enumerate(names, 1):
        await bus.publish(a_fill(f"{missed}"))
        desk = Named(name)
        bus.subscribe("fill", desk.on_event)
        await bus.join()
        assert [event.order_id for event in desk.handled] == [f"{n}" for n in range(1, missed + 1)]
    await bus.stop()


@virtual
async def test_unsubscribing_forgets_the_cursor(disk: Disk):
    desk = Named("desk")
    async with a_bus(disk.journal) as bus:
        bus.subscribe("order", Named("other").on_event)
        bus.subscribe("order", desk.on_event)
        await bus.publish(an_order())
        await bus.join()
        bus.unsubscribe("order", desk.on_event)
        await asyncio.sleep(1)
        assert {c.subscription for c in disk.journal.cursors()} == {"(bus)", "other.on_event"}


@virtual
async def test_subscribing_again_at_once_keeps_the_new_cursor(disk: Disk):
    gate = Named("desk", takes_s=1e6)
    bus = a_bus(disk.journal)
    bus.subscribe("order", Named("other").on_event)
    bus.subscribe("order", gate.on_event)
    await bus.start()
    await bus.flush()
    bus.unsubscribe("order", gate.on_event)
    bus.subscribe("order", gate.on_event)
    order = an_order()
    await bus.publish(order)
    await asyncio.sleep(1)
    journal = await disk.crash(bus)
    desk = Named("desk")
    bus = await next_life(journal, desk)
    assert ids(desk.handled) == [order.event_id]
    await bus.stop()


# -- restore hooks ------------------------------------------------------------------------------------


class Book:
    """An agent with a memory: the net of what it handled."""

    name = "book"

    def __init__(self) -> None:
        self.restored: list[Any] = []
        self.handled: list[Any] = []
        self.order: list[str] = []

    def fold(self, event: Any) -> None:
        self.restored.append(event)
        self.order.append("restored")

    async def on_event(self, event: Any) -> None:
        self.handled.append(event)
        self.order.append("handled")


@virtual
async def test_a_restore_hook_gets_what_was_settled_in_order_before_anything_is_handled(disk: Disk):
    bus, book = a_bus(disk.journal), Book()
    bus.subscribe(["order", "fill"], book.on_event, restore=book.fold)
    await bus.start()
    batch = [an_order("1"), a_fill("1"), an_order("2"), a_decision(), a_fill("2")]
    for event in batch:
        await bus.publish(event)
        await bus.join()
    await bus.flush()
    subscription = bus.subscribe("order", book.on_event)
    subscription.pause()
    waiting = [an_order("3"), a_fill("3")]
    for event in waiting:
        await bus.publish(event)
    journal = await disk.crash(bus)
    again = Book()
    bus = a_bus(journal)
    bus.subscribe(["order", "fill"], again.on_event, restore=again.fold)
    await bus.start()
    await bus.join()
    assert again.restored == [event for event in batch if event.event_type != "decision"]
    assert sorted(ids(again.handled)) == sorted(ids(waiting))
    assert again.order == ["restored"] * 4 + ["handled"] * 2
    await bus.stop()


@virtual
async def test_a_restore_hook_is_called_at_every_start_with_all_of_it(disk: Disk):
    counts = []
    for life in range(4):
        book = Book()
        bus = a_bus(disk.journal if life == 0 else disk.restarted())
        bus.subscribe("order", book.on_event, restore=book.fold)
        await bus.start()
        await bus.publish(an_order(f"o-{life}"))
        await bus.join()
        counts.append((len(book.restored), len(book.handled)))
        await bus.stop()
    assert counts == [(0, 1), (1, 1), (2, 1), (3, 1)]


@virtual
async def test_a_restore_hook_gets_no_dead_letters(disk: Disk):
    book, failing = Book(), Failing(fails=lambda order: order.order_id == "o-2")
    async with a_bus(disk.journal) as bus:
        bus.subscribe("order", failing.on_event, name="book", retry=False)
        await bus.publish_many(orders(3))
        await bus.join()
    bus = a_bus(disk.restarted())
    bus.subscribe("order", book.on_event, name="book", restore=book.fold)
    await bus.start()
    assert [event.order_id for event in book.restored] == ["o-1", "o-3"]
    await bus.stop()


def test_a_restore_hook_must_be_a_plain_function_of_a_durable_subscription():
    bus = a_bus(MemoryJournal())
    with pytest.raises(SubscriptionError, match="plain function"):
        bus.subscribe("order", Desk().on_event, restore=Desk().on_event)
    with pytest.raises(SubscriptionError, match="durable=False"):
        bus.subscribe("order", Desk().on_event, restore=print, durable=False)


# -- stalls: the mailbox becomes a cursor -------------------------------------------------------------


@virtual
async def test_the_mailbox_of_a_stalled_subscription_becomes_a_cursor_and_it_catches_up_in_order(disk: Disk):
    gate, other = Gate(), Named("other")
    bus = a_bus(disk.journal, max_queue_size=100, backpressure_config=quick_stall())
    bus.subscribe("order", gate.on_event, name="stuck")
    bus.subscribe("order", other.on_event)
    await bus.start()
    first = orders(20)
    await bus.publish_many(first)
    await asyncio.sleep(1)
    rest = orders(2_000, 21)
    assert await bus.publish_many(rest) == 2_000
    await asyncio.sleep(0.1)
    assert len(other.handled) == 2_020
    assert row(bus, "stuck").waiting <= 200, "it stays in the journal"
    assert not bus.dead_letters("stuck")
    gate.open()
    await bus.join()
    assert ids(gate.handled) == ids([*first, *rest])
    assert_settled(bus)
    await asyncio.sleep(1)
    journal = await disk.crash(bus)
    again = Named("stuck")
    bus = a_bus(journal)
    bus.subscribe("order", again.on_event, name="stuck")
    await bus.start()
    await bus.join()
    assert again.begun == []
    await bus.stop()


@virtual
async def test_memory_events_between_durable_ones_keep_their_order_in_a_mailbox_that_is_behind(disk: Disk):
    slow = Named("slow", takes_s=0.1)
    bus = a_bus(disk.journal, max_queue_size=300)
    subscription = bus.subscribe(["order", "market_data"], slow.on_event)
    others_go_on(bus)
    await bus.start()
    batch = orders(300)
    for order in batch:
        assert await bus.publish(order)
    assert subscription.mailbox.behind == 1
    await asyncio.sleep(10)
    for n in range(20):
        batch += [an_order(f"{n}"), a_tick(float(n)), a_tick(n + 0.5)]
        for event in batch[-3:]:
            assert await bus.publish(event)
    await turns(3)
    assert subscription.mailbox.normal.held == 40
    assert subscription.mailbox.behind == 1
    await bus.join()
    assert ids(slow.handled) == ids(batch)
    assert_settled(bus)
    await bus.stop()


@virtual
async def test_a_stalled_subscription_that_the_process_dies_with_gets_everything_in_the_next_life(disk: Disk):
    bus = a_bus(disk.journal, max_queue_size=30)
    bus.subscribe("*", Named("stuck", takes_s=1e6).on_event)
    others_go_on(bus)
    await bus.start()
    batch: list[Any] = []
    for n in range(50):
        batch += [an_order(f"{n}"), a_fill(f"{n}")]
        for event in batch[-2:]:
            assert await bus.publish(event)
    await asyncio.sleep(1)
    assert bus.subscription("stuck.on_event").mailbox.behind == 2
    journal = await disk.crash(bus)
    desk = Named("stuck")
    bus = await next_life(journal, desk)
    for kind in ("order", "fill"):
        assert [e.event_id for e in desk.handled if e.event_type == kind] == ids(
            [e for e in batch if e.event_type == kind]
        )
    await bus.stop()


@virtual
async def test_a_paused_subscription_reads_on_from_the_journal_when_it_is_resumed(disk: Disk):
    desk = Named("desk")
    bus = a_bus(disk.journal, max_queue_size=100)
    subscription = bus.subscribe("order", desk.on_event)
    others_go_on(bus)
    await bus.start()
    subscription.pause()
    await bus.publish_many(orders(10))
    assert await bus.publish_many(orders(1_000, 11)) == 1_000
    subscription.resume()
    await bus.join()
    assert [event.order_id for event in desk.handled] == [f"o-{n}" for n in range(1, 1_011)]
    await bus.stop()


@virtual
async def test_stalling_and_catching_up_again_and_again_loses_and_repeats_nothing(disk: Disk):
    desk = Named("desk")
    bus = a_bus(disk.journal, max_queue_size=6)
    subscription = bus.subscribe(["order", "fill", "market_data"], desk.on_event)
    others_go_on(bus)
    await bus.start()
    batch: list[Any] = []
    for n in range(6):
        subscription.pause()
        new: list[Any] = [*orders(9, n * 100), a_fill(f"{n}")]
        for event in new[:5]:
            assert await bus.publish(event)
        await asyncio.sleep(1)
        for event in new[5:]:
            assert await bus.publish(event)
        batch += new
        subscription.resume()
        await (bus.join() if n % 2 else turns(3))
    await bus.join()
    assert Counter(desk.ids) == Counter(ids(batch))
    assert [e.event_id for e in desk.handled if e.event_type != "fill"] == ids(
        [e for e in batch if e.event_type != "fill"]
    )
    assert_settled(bus)
    await bus.stop()


# -- subscribers who let events go --------------------------------------------------------------------


@virtual
async def test_a_conflating_subscription_settles_what_it_let_go(disk: Disk):
    desk = Named("desk", takes_s=1.0)
    bus = a_bus(disk.journal, levels={"market_data": "process"})
    bus.subscribe("market_data", desk.on_event, overflow=Conflate("symbol"))
    await bus.start()
    for tick in ticks(20):
        await bus.publish(tick)
    await bus.join()
    assert desk.prices == [1.0, 20.0]
    assert_settled(bus)
    await asyncio.sleep(1)
    journal = await disk.crash(bus)
    again = Named("desk")
    bus = a_bus(journal, levels={"market_data": "process"})
    bus.subscribe("market_data", again.on_event, overflow=Conflate("symbol"))
    await bus.start()
    await bus.join()
    assert again.begun == []
    await bus.stop()


@virtual
async def test_a_conflating_subscription_gets_the_newest_after_a_crash(disk: Disk):
    bus = a_bus(disk.journal, levels={"market_data": "process"})
    bus.subscribe("market_data", Named("desk", takes_s=1e6).on_event, overflow="conflate")
    await bus.start()
    for tick in [*ticks(300), *ticks(5, symbol="NQ")]:
        await bus.publish(tick)
    journal = await disk.crash(bus)
    desk = Named("desk")
    bus = a_bus(journal)
    bus.subscribe("market_data", desk.on_event, overflow="conflate")
    await bus.start()
    await bus.join()
    newest = {event.symbol: event.price for event in desk.handled}
    assert newest == {"ES": 300.0, "NQ": 5.0}
    assert_settled(bus)
    await bus.stop()


@virtual
async def test_a_dropping_subscription_keeps_its_limit_while_it_reads_on(disk: Disk):
    bus = a_bus(disk.journal)
    bus.subscribe("order", Named("desk", takes_s=1e6).on_event, overflow=DropOldest(10))
    await bus.start()
    await bus.publish_many(orders(600))
    journal = await disk.crash(bus)
    desk = Named("desk")
    bus = a_bus(journal)
    bus.subscribe("order", desk.on_event, overflow=DropOldest(10))
    await bus.start()
    await bus.join()
    assert [event.order_id for event in desk.handled][-10:] == [f"o-{n}" for n in range(591, 601)]
    assert_settled(bus)
    found = row(bus, "desk.on_event")
    assert found.handled + found.overflowed == found.accepted
    await asyncio.sleep(1)
    assert {c.floor for c in journal.cursors()} == {600}
    await bus.stop()


@virtual
async def test_events_too_old_for_a_subscription_expire_also_over_a_crash(disk: Disk):
    bus = a_bus(disk.journal)
    bus.subscribe("order", Named("desk", takes_s=1e6).on_event, max_age_s=10)
    await bus.start()
    await bus.publish_many(orders(3))
    await asyncio.sleep(60)
    await bus.publish_many(orders(2, 11))
    journal = await disk.crash(bus)
    desk = Named("desk")
    bus = a_bus(journal)
    bus.subscribe("order", desk.on_event, max_age_s=10)
    await bus.start()
    await bus.join()
    assert [event.order_id for event in desk.handled] == ["o-11", "o-12"]
    assert row(bus, "desk.on_event").expired == 3
    await bus.stop()
    again = Named("desk")
    bus = await next_life(disk.restarted(), again)
    assert again.begun == []
    await bus.stop()


@virtual
async def test_a_bus_over_a_journal_with_other_peoples_events_hands_out_only_what_is_taken(disk: Disk):
    async with a_bus(disk.journal) as bus:
        for order in orders(300):
            await bus.publish(order)
        await bus.publish(a_decision())
    desk = Named("desk")
    bus = await next_life(disk.restarted(), desk, takes="decision")
    assert desk.types == ["decision"]
    await bus.stop()


@virtual
async def test_one_failing_start_leaves_the_journal_as_it_was():
    journal = MemoryJournal()
    bus = a_bus(journal)
    await bus.publish(an_order())
    bus.subscribe("order", Named("desk").on_event)
    assert await outcome_of(bus.start()) is None
    await bus.join()
    await abandon(bus)
    assert_balanced(bus)


@virtual
async def test_what_is_held_of_a_type_that_is_given_up_is_withdrawn():
    gate = Gate()
    bus = a_bus(MemoryJournal(), backpressure_config=quick_stall())
    bus.subscribe(["order", "market_data"], gate.on_event, name="stuck")
    await bus.start()
    await bus.publish_many(orders(3))
    await asyncio.sleep(1)
    await bus.publish_many(orders(3, 4))
    await bus.publish(a_tick())
    await asyncio.sleep(0.1)
    bus.unsubscribe("market_data", gate.on_event)
    gate.open()
    await bus.join()
    assert [str(event.event_type) for event in gate.handled] == ["order"] * 6
    assert row(bus, "stuck").withdrawn == 1
    assert_settled(bus)
    await bus.stop()


@virtual
async def test_a_stalled_bus_comes_back_after_another_one_had_its_journal():
    journal, gate = MemoryJournal(), Gate()
    bus = a_bus(journal, backpressure_config=quick_stall())
    bus.subscribe(["order", "market_data"], gate.on_event, name="stuck")
    await bus.start()
    await bus.publish_many(orders(3))
    await asyncio.sleep(1)
    await bus.publish_many(orders(3, 4))
    await bus.publish(a_tick())
    await asyncio.sleep(0.1)
    await bus.stop(0)
    async with a_bus(journal) as second:
        await second.publish(an_order("in between"))
    await bus.start()
    gate.open()
    await bus.join()
    assert [e.event_id for e in gate.handled if e.event_type == "order"] == written_ids(journal)
    assert_settled(bus)
    await bus.stop()


def test_a_loop_that_is_closed_before_the_report_of_missing_subscriptions_is_due_does_no_harm():
    journal = MemoryJournal()

    async def first_life() -> None:
        bus = EventBus(journal=journal)
        subscription = bus.subscribe("order", Named("book").on_event)
        async with bus:
            subscription.pause()
            await bus.publish_many(orders(3))
            await bus.stop(timeout_s=0)

    asyncio.run(first_life())
    bus, loop = EventBus(journal=journal), asyncio.new_event_loop()
    loop.run_until_complete(bus.start())
    loop.close()
    asyncio.run(bus.stop())
    assert bus.get_status()["state"] == "stopped"
