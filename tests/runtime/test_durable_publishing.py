"""Publishing what has to survive: levels, commits before dispatch, receipts, duplicates (CONTRACT 1-3, 13-15, 18)."""

import asyncio
import logging
from threading import Thread
from typing import Any

import pytest
from bus_helpers import (
    Desk,
    Gate,
    a_decision,
    a_fill,
    a_kill,
    a_signal,
    a_tick,
    an_order,
    assert_balanced,
    assert_settled,
    outcome_of,
    pause_until,
    ticks,
    virtual,
)
from durable_kit import (
    Disk,
    Faulty,
    Named,
    SlowDisk,
    a_bus,
    ids,
    orders,
    settings,
    turns,
    written,
    written_ids,
)

from openoutcry import BusClosed, ConfigError, Event, EventBus, EventType, InvalidEvent, PersistenceConfig
from openoutcry.journals import MemoryJournal
from openoutcry.ports import Level

# -- commit before dispatch ---------------------------------------------------------------------------


@virtual
async def test_no_handler_sees_a_durable_event_before_the_journal_has_it(disk: Disk):
    seen: list[bool] = []
    async with a_bus(disk.journal) as bus:
        bus.subscribe(
            ["order", "fill"], lambda event: seen.append(disk.journal.find(event.event_id) is not None)
        )
        await bus.publish(an_order())
        await bus.publish(a_fill())
        bus.publish_nowait(an_order("o-2"))
        await bus.join()
    assert seen == [True, True, True]


@virtual
async def test_no_handler_sees_an_event_of_level_disk_before_the_sync_has_returned():
    journal, desk = SlowDisk(), Named("risk")
    bus = a_bus(journal, sync="thread")
    bus.subscribe("fill", desk.on_event)
    await bus.start()
    publishing = asyncio.create_task(bus.publish(a_fill()))
    await turns(20)
    assert journal.head == 1
    assert desk.begun == []
    assert not publishing.done()
    journal.let_go()
    assert await publishing
    await bus.join()
    assert len(desk.handled) == 1
    await bus.stop()


@virtual
async def test_publish_returns_when_its_event_is_committed_and_an_idle_bus_commits_at_once(disk: Disk):
    loop = asyncio.get_running_loop()
    async with a_bus(disk.journal) as bus:
        order = an_order()
        before_s = loop.time()
        assert await bus.publish(order)
        assert loop.time() == before_s, "no timer adds latency"
        assert written(disk.journal) == [order]


@virtual
async def test_many_publishers_share_one_commit_and_one_sync():
    journal = Faulty()
    async with a_bus(journal) as bus:
        await bus.flush()
        before = journal.calls.copy()
        await asyncio.gather(*(bus.publish(a_fill(f"f-{n}")) for n in range(64)))
        assert journal.calls["write"] - before["write"] == 1
        assert journal.calls["sync"] - before["sync"] == 1
        assert journal.head == 64


@virtual
async def test_publish_many_waits_for_one_commit():
    journal, desk = Faulty(), Named("desk")
    async with a_bus(journal) as bus:
        bus.subscribe("order", desk.on_event)
        await bus.flush()
        before = journal.calls["write"]
        some = orders(200)
        assert await bus.publish_many(some) == 200
        assert journal.calls["write"] - before == 1
        await bus.join()
    assert ids(desk.handled) == ids(some)


@virtual
async def test_everybody_who_publishes_during_a_sync_shares_the_next_one():
    journal = SlowDisk()
    bus = a_bus(journal, sync="thread")
    await bus.start()
    first = asyncio.create_task(bus.publish(a_fill("0")))
    await turns()
    rest = [asyncio.create_task(bus.publish(a_fill(str(n)))) for n in range(1, 10)]
    await turns()
    assert journal.head == 1, "one commit at a time"
    journal.let_go()
    assert all(await asyncio.gather(first, *rest))
    assert journal.calls["write"] == 2
    await bus.stop()


@virtual
async def test_order_per_lane_is_the_order_of_publishing_however_events_are_published(disk: Disk):
    desk = Named("desk")
    async with a_bus(disk.journal) as bus:
        bus.subscribe("order", desk.on_event)
        some = orders(40)
        for at, order in enumerate(some):
            if at % 4 == 0:
                bus.publish_nowait(order)
            elif at % 4 == 1:
                await bus.publish(order)
            elif at % 4 == 2:
                assert await bus.publish_many([order]) == 1
            else:
                await asyncio.gather(bus.publish(order))
        await bus.join()
        assert ids(desk.handled) == ids(some) == written_ids(disk.journal)
        assert_settled(bus)


@virtual
async def test_a_tick_never_waits_behind_a_signals_commit():
    journal, desk = SlowDisk(), Named("desk")
    bus = a_bus(journal, level="disk", sync="thread")
    bus.subscribe(["market_data", "signal"], desk.on_event)
    await bus.start()
    publishing = asyncio.create_task(bus.publish(a_signal("momentum")))
    await turns()
    await bus.publish(a_tick())
    await pause_until(lambda: bool(desk.handled), at_most_s=1)
    assert desk.types == ["market_data"]
    journal.let_go()
    await publishing
    await bus.join()
    assert desk.types == ["market_data", "signal"]
    await bus.stop()


@virtual
async def test_a_batch_of_several_types_reaches_each_subscription_in_order(disk: Disk):
    everything, some = Named("everything"), Named("some")
    async with a_bus(disk.journal) as bus:
        bus.subscribe("*", everything.on_event)
        bus.subscribe(["order", "decision"], some.on_event)
        batch: list[Any] = [an_order("1"), a_decision("ES"), a_signal("a"), an_order("2"), a_decision("NQ")]
        assert await bus.publish_many(batch) == 5
        await bus.join()
        assert ids(everything.handled) == ids(batch)
        assert ids(some.handled) == ids([e for e in batch if e.event_type in ("order", "decision")])
        assert_settled(bus)


# -- levels -------------------------------------------------------------------------------------------


@virtual
async def test_ordinary_events_survive_kill_9_and_high_priority_ones_a_power_cut():
    journal = MemoryJournal()
    async with a_bus(journal) as bus:
        await bus.publish(an_order())
        await bus.publish(a_fill())
        await bus.publish(a_kill())
        assert [stored.level for stored in journal.read(0, 9)] == [Level.PROCESS, Level.DISK, Level.DISK]
        assert [stored.lane for stored in journal.read(0, 9)] == ["normal", "high", "control"]


@virtual
async def test_market_data_is_not_journaled_unless_asked_for():
    journal, desk = MemoryJournal(), Named("desk")
    async with a_bus(journal) as bus:
        bus.subscribe("market_data", desk.on_event)
        await bus.publish_many(ticks(3))
        assert await bus.publish(a_tick(4.0), level="process")
        await bus.join()
        assert [event.price for event in written(journal)] == [4.0]
        assert sorted(desk.prices) == [1.0, 2.0, 3.0, 4.0]


@virtual
async def test_levels_are_set_per_type_for_market_data_too():
    journal = MemoryJournal()
    async with a_bus(journal, levels={EventType.MARKET_DATA: "process", "order": "memory"}) as bus:
        await bus.publish_many(ticks(3))
        await bus.publish(an_order())
        assert [str(event.event_type) for event in written(journal)] == ["market_data"] * 3


@virtual
async def test_a_level_is_set_for_one_publish():
    journal = MemoryJournal()
    async with a_bus(journal) as bus:
        await bus.publish(an_order("1"), level="memory")
        await bus.publish(an_order("2"), level="disk")
        bus.publish_nowait(an_order("3"), level="disk")
        assert [(e.order_id) for e in written(journal)] == ["2", "3"]
        assert {stored.level for stored in journal.read(0, 9)} == {Level.DISK}
        assert journal.synced == 2


@virtual
async def test_a_bus_whose_events_are_all_of_level_memory_writes_nothing():
    journal, desk = MemoryJournal(), Named("desk")
    async with a_bus(journal, level="memory", high_priority_level="memory") as bus:
        bus.subscribe("*", desk.on_event)
        await bus.publish(an_order())
        await bus.publish(a_fill())
        await bus.publish(a_kill())
        await bus.join()
    assert journal.head == 0
    assert len(desk.handled) == 3


@virtual
async def test_an_unknown_level_is_refused_with_the_words_that_there_are():
    async with a_bus(MemoryJournal()) as bus:
        for level in ("ram", 3):
            with pytest.raises(ConfigError, match="memory, process, disk"):
                await bus.publish(an_order(), level=level)  # type: ignore[arg-type]


@virtual
async def test_a_bus_without_a_journal_says_how_to_get_one_when_a_level_is_asked_of_it():
    async with EventBus() as bus:
        assert await bus.publish(an_order(), level="memory")
        for publish in (bus.publish, bus.publish_receipt):
            with pytest.raises(ConfigError, match="enable_persistence=True"):
                await publish(an_order(), level="disk")
        with pytest.raises(ConfigError, match="enable_persistence=True"):
            bus.publish_nowait(an_order(), level="process")


def test_levels_are_checked_when_the_settings_are_made():
    with pytest.raises(ConfigError, match="levels"):
        PersistenceConfig(levels={"order": "sometimes"})  # type: ignore[dict-item]
    with pytest.raises(ConfigError, match="level"):
        PersistenceConfig(level="never")  # type: ignore[arg-type]


# -- receipts and flush -------------------------------------------------------------------------------


@virtual
async def test_a_receipt_tells_the_position_and_the_level(disk: Disk):
    async with a_bus(disk.journal) as bus:
        order, fill, tick = an_order(), a_fill(), a_tick()
        first = await bus.publish_receipt(order)
        second = await bus.publish_receipt(fill)
        third = await bus.publish_receipt(tick)
        assert (first.accepted, first.event_id, first.position, first.level) == (
            True,
            order.event_id,
            1,
            "process",
        )
        assert (second.position, second.level, second.duplicate) == (2, "disk", False)
        assert (third.accepted, third.position, third.level) == (True, 0, "memory")


@virtual
async def test_a_receipt_for_a_duplicate_names_the_position_of_the_first(disk: Disk):
    order = an_order()
    async with a_bus(disk.journal) as bus:
        await bus.publish(a_fill())
        await bus.publish(order)
        again = await bus.publish_receipt(order)
        assert (again.accepted, again.position, again.duplicate) == (True, 2, True)
    async with a_bus(disk.restarted()) as bus:
        again = await bus.publish_receipt(order)
        assert (again.accepted, again.position, again.duplicate) == (True, 2, True)


@virtual
async def test_a_receipt_names_a_duplicate_of_an_earlier_life_where_the_credit_is_used_up(disk: Disk):
    before = orders(30)
    async with a_bus(disk.journal) as bus:
        await bus.publish_many(before)
    async with a_bus(disk.restarted(), max_queue_size=20) as bus:
        await bus.publish(an_order("o-0"))
        for order in before:  # each takes some of the credit, and some of them the last of it
            _, again = await asyncio.gather(bus.publish(an_order("new")), bus.publish_receipt(order))
            assert (again.outcome, again.position) == ("duplicate", before.index(order) + 1)


@virtual
async def test_a_receipt_is_not_called_a_duplicate_for_what_somebody_else_published_twice():
    async with a_bus(MemoryJournal()) as bus:
        mine, other = orders(2)
        await bus.publish(other)
        receipt, _ = await asyncio.gather(bus.publish_receipt(mine), bus.publish(other))
        assert not receipt.duplicate


@virtual
async def test_a_receipt_says_when_an_event_was_refused():
    gate = Gate()
    async with a_bus(MemoryJournal(), max_queue_size=10) as bus:
        bus.subscribe("order", gate.on_event)
        receipts = [await bus.publish_receipt(order) for order in orders(12)]
        refused = [r for r in receipts if not r.accepted]
        assert refused
        assert all((r.position, r.level, r.duplicate) == (0, "memory", False) for r in refused)
        gate.open()


@virtual
async def test_flush_has_everything_on_the_disk_cursors_too(disk: Disk):
    desk = Named("desk")
    async with a_bus(disk.journal, cursor_save_s=3600) as bus:
        bus.subscribe("order", desk.on_event)
        await bus.publish_many(orders(10))
        await bus.join()
        await bus.flush()
        assert disk.journal.synced == disk.journal.head == 10
        assert {c.floor for c in disk.journal.cursors() if c.subscription == "desk.on_event"} == {10}


@virtual
async def test_flush_without_a_journal_returns_at_once():
    async with EventBus() as bus:
        await bus.flush()


@virtual
async def test_an_idle_bus_saves_its_cursors_in_time(disk: Disk):
    desk = Named("desk")
    async with a_bus(disk.journal, cursor_save_s=0.25) as bus:
        bus.subscribe("order", desk.on_event)
        await bus.publish_many(orders(10))
        await bus.join()
        await asyncio.sleep(0.26)
        assert {c.floor for c in disk.journal.cursors()} == {10}


@virtual
async def test_settling_costs_no_commit_of_its_own_while_events_come():
    journal, desk = Faulty(), Named("desk")
    async with a_bus(journal, cursor_save_s=3600) as bus:
        bus.subscribe("order", desk.on_event)
        for order in orders(500):
            await bus.publish(order)
            await bus.join()
        assert journal.calls["write"] <= 502


@virtual
async def test_what_is_settled_and_not_saved_is_bounded_per_subscription():
    journal, desk = Faulty(), Named("desk")
    async with a_bus(journal, cursor_save_s=3600) as bus:
        bus.subscribe("order", desk.on_event)
        for first in range(1, 8_001, 400):
            await bus.publish_many(orders(400, first))
            await bus.join()
            await turns()
            (floor,) = {c.floor for c in journal.cursors() if c.lane == "normal"}
            assert len(desk.handled) - floor <= 1_024 + 400


# -- duplicates and identity --------------------------------------------------------------------------


@virtual
async def test_publishing_an_id_again_is_a_success_that_delivers_nothing(disk: Disk):
    desk, order = Named("desk"), an_order()
    async with a_bus(disk.journal) as bus:
        bus.subscribe("order", desk.on_event)
        assert await bus.publish(order)
        assert await bus.publish(order)
        assert bus.publish_nowait(order)
        assert await bus.publish_many([order, order]) == 2
        await bus.join()
        assert bus.metrics.duplicates == 4
        assert disk.journal.head == 1
    assert len(desk.handled) == 1


@virtual
async def test_an_event_that_waits_for_its_commit_counts_as_seen(disk: Disk):
    desk, order = Named("desk"), an_order()
    async with a_bus(disk.journal) as bus:
        bus.subscribe("order", desk.on_event)
        assert await asyncio.gather(*(bus.publish(order) for _ in range(5))) == [True] * 5
        await bus.join()
        assert disk.journal.head == 1
    assert len(desk.handled) == 1


@virtual
async def test_an_id_is_known_over_restarts_and_crashes(disk: Disk):
    order, fill = an_order(), a_fill()
    async with a_bus(disk.journal) as bus:
        await bus.publish(order)
        await bus.publish(fill)
    for _ in range(2):
        desk = Named("desk")
        bus = a_bus(disk.restarted())
        bus.subscribe("*", desk.on_event)
        await bus.start()
        await bus.join()
        desk.handled.clear()
        assert await bus.publish(order)
        assert bus.publish_nowait(fill)
        assert await bus.publish_many([order, fill]) == 2
        await bus.join()
        assert disk.journal.head == 2
        assert desk.handled == []
        await disk.crash(bus)


@virtual
async def test_the_same_id_with_other_content_is_flagged_and_the_first_stands(
    disk: Disk, caplog: pytest.LogCaptureFixture
):
    first, other = an_order("o-1", event_id="mine"), an_order("o-2", event_id="mine")
    desk = Named("desk")
    async with a_bus(disk.journal) as bus:
        bus.subscribe("order", desk.on_event)
        assert await bus.publish(first)
        assert await bus.publish(other)
        await bus.join()
        assert "with other content" in caplog.text
    caplog.clear()
    async with a_bus(disk.restarted()) as bus:
        assert await bus.publish(other)
        assert "with other content" in caplog.text
    assert [event.order_id for event in written(disk.journal)] == ["o-1"]
    assert [event.order_id for event in desk.handled] == ["o-1"]


@virtual
async def test_a_retry_with_a_newer_timestamp_is_no_conflict(disk: Disk, caplog: pytest.LogCaptureFixture):
    async with a_bus(disk.journal) as bus:
        await bus.publish(an_order("o-1", event_id="mine", timestamp=1))
    async with a_bus(disk.restarted()) as bus:
        assert await bus.publish(an_order("o-1", event_id="mine", timestamp=2))
    assert "other content" not in caplog.text


# -- before the start, after the stop, from elsewhere -------------------------------------------------


@virtual
async def test_publishing_before_the_start_is_durable_at_once_and_delivered_by_the_start(disk: Disk):
    desk = Named("desk")
    bus = a_bus(disk.journal)
    order, fill, tick, kill = an_order(), a_fill(), a_tick(), a_kill()
    bus.subscribe("*", desk.on_event)
    for event in (tick, order, fill, kill):
        assert await bus.publish(event)
    assert written_ids(disk.journal) == ids([order, fill, kill])
    assert desk.begun == []
    assert bus.queue_size == 3
    await bus.start()
    await bus.join()
    assert sorted(desk.types[:2]) == ["fill", "kill_switch"]
    assert sorted(desk.ids) == sorted(ids([order, fill, tick, kill]))
    assert_settled(bus)
    await bus.stop()


@virtual
async def test_what_was_published_before_the_start_reaches_who_subscribes_before_the_start(disk: Disk):
    desk = Named("desk")
    bus = a_bus(disk.journal)
    some = orders(5)
    for order in some:
        assert bus.publish_nowait(order)
    bus.subscribe("order", desk.on_event)
    await bus.start()
    await bus.join()
    await bus.stop()
    assert ids(desk.handled) == ids(some)


@virtual
async def test_memory_events_and_durable_ones_of_before_the_start_keep_their_order():
    desk = Named("desk")
    bus = a_bus(MemoryJournal())
    bus.subscribe(["order", "market_data"], desk.on_event)
    batch: list[Any] = []
    for n in range(5):
        batch += [a_tick(float(n)), an_order(f"{n}")]
    for event in batch:
        assert bus.publish_nowait(event)
    await bus.start()
    await bus.join()
    await bus.stop()
    assert ids(desk.handled) == ids(batch)


@virtual
async def test_room_is_bounded_before_the_start_too():
    bus = a_bus(MemoryJournal(), max_queue_size=10)
    bus.subscribe("order", Named("desk").on_event)
    taken = [bus.publish_nowait(order) for order in orders(30)]
    assert sum(taken) <= 10
    assert bus.metrics.refused
    await bus.start()
    await bus.stop()


@virtual
async def test_nothing_is_published_after_the_stop():
    journal = MemoryJournal()
    bus = a_bus(journal)
    await bus.start()
    await bus.stop()
    for event in (an_order(), a_fill(), a_kill()):
        with pytest.raises(BusClosed):
            await bus.publish(event)
    assert journal.head == 0


@virtual
async def test_a_stop_before_the_start_keeps_what_was_published(disk: Disk):
    desk, order = Named("desk"), an_order()
    bus = a_bus(disk.journal)
    await bus.publish(order)
    await bus.stop()
    await bus.stop()
    second = a_bus(disk.restarted())
    second.subscribe("order", desk.on_event)
    async with second:
        await second.join()
    assert ids(desk.handled) == [order.event_id]


@virtual
async def test_threads_publish_durable_events_in_their_order(disk: Disk):
    desk = Named("desk")
    async with a_bus(disk.journal) as bus:
        bus.subscribe(["order", "fill"], desk.on_event)
        some = orders(50)
        futures: list[Any] = []

        def feed() -> None:
            futures.extend(bus.publish_threadsafe(order) for order in some)
            futures.append(bus.publish_threadsafe(a_fill()))

        thread = Thread(target=feed)
        thread.start()
        await asyncio.to_thread(thread.join)
        assert all([await asyncio.wrap_future(future) for future in futures])
        assert disk.journal.head == 51, "True: it is in the journal"
        await bus.join()
    assert [e.event_id for e in desk.handled if e.event_type == "order"] == ids(some)


@virtual
async def test_a_handler_publishes_durable_events_without_a_deadlock(disk: Disk):
    done: list[str] = []
    async with a_bus(disk.journal, max_queue_size=64) as bus:

        async def execute(order: Any) -> None:
            assert await bus.publish(a_fill(order.order_id))

        bus.subscribe("order", execute, name="execution")
        bus.subscribe("fill", lambda fill: done.append(fill.order_id), name="book")
        for order in orders(30):
            await bus.publish(order)
        await bus.join()
        assert_settled(bus)
    assert done == [order.order_id for order in orders(30)]


@virtual
async def test_an_event_that_cannot_be_written_is_an_invalid_event_and_nothing_else_suffers(disk: Disk):
    class Note(Event, tag="DurablePublishingNote"):
        text: Any = None

    desk = Named("desk")
    async with a_bus(disk.journal) as bus:
        bus.subscribe("*", desk.on_event)
        note = Note(event_type="note", text=object())
        good = an_order()
        found = await asyncio.gather(bus.publish(good), outcome_of(bus.publish(note)))
        assert found[0] is True
        assert isinstance(found[1], InvalidEvent)
        with pytest.raises(InvalidEvent):
            bus.publish_nowait(note)
        await bus.join()
        assert written_ids(disk.journal) == [good.event_id]
        assert ids(desk.handled) == [good.event_id]
        assert_balanced(bus)


@virtual
async def test_a_cancelled_publish_is_unknown_but_never_half_done():
    journal, desk = SlowDisk(), Named("desk")
    bus = a_bus(journal, sync="thread")
    bus.subscribe("fill", desk.on_event)
    await bus.start()
    fill = a_fill()
    publishing = asyncio.create_task(bus.publish(fill))
    await turns()
    publishing.cancel()
    await asyncio.gather(publishing, return_exceptions=True)
    assert publishing.cancelled()
    again = asyncio.create_task(bus.publish(fill))
    await turns()
    assert not again.done(), "its level must be reached before True"
    journal.let_go()
    assert await again
    await bus.join()
    assert ids(desk.handled) == [fill.event_id] == written_ids(journal)
    await bus.stop()


@virtual
async def test_a_publish_that_is_cancelled_before_its_commit_is_admitted_whole():
    journal, desk = MemoryJournal(), Named("desk")
    async with a_bus(journal) as bus:
        bus.subscribe("order", desk.on_event)
        order = an_order()
        publishing = asyncio.create_task(bus.publish(order))
        await asyncio.sleep(0)
        publishing.cancel()
        await asyncio.gather(publishing, return_exceptions=True)
        await bus.join()
        assert ids(desk.handled) == written_ids(journal)
        assert await bus.publish(order)
        await bus.join()
        assert ids(desk.handled) == [order.event_id] == written_ids(journal)


@virtual
async def test_a_publish_that_timed_out_waiting_for_room_was_not_admitted(disk: Disk):
    gate = Gate()
    bus = a_bus(disk.journal, max_queue_size=10)
    bus.subscribe("fill", gate.on_event)
    await bus.start()
    taken = 0
    for _ in range(2):  # the first is in the handler by the second time
        while bus.publish_nowait(a_fill(f"f-{taken}")):
            taken += 1
        await turns()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await bus.publish(a_fill("late"))
    gate.open()
    await bus.join()
    assert "late" not in [event.order_id for event in written(disk.journal)]
    assert len(gate.handled) == taken == disk.journal.head
    await bus.stop()


@virtual
async def test_the_bus_opens_its_own_file_and_closes_it_at_the_stop(tmp_path: Any):
    desk = Named("desk")
    for life in range(2):
        bus = EventBus(persistence_config=settings(path=tmp_path / "firm.db"))
        bus.subscribe("order", desk.on_event)
        async with bus:
            await bus.publish(an_order(f"o-{life}"))
            await bus.join()
    assert [event.order_id for event in desk.handled] == ["o-0", "o-1"]
    assert not (tmp_path / "firm.db-wal").exists() or (tmp_path / "firm.db-wal").stat().st_size == 0


@virtual
async def test_a_bus_without_persistence_has_no_face_and_nothing_to_recover():
    bus = EventBus()
    assert bus.persistence is None
    assert await bus.recover_persisted_events() == 0


@virtual
async def test_the_face_of_a_bus_reads_and_does_not_let_events_in_behind_its_back(disk: Disk):
    desk = Named("desk")
    async with a_bus(disk.journal) as bus:
        bus.subscribe("order", desk.on_event)
        order = an_order()
        await bus.publish(order)
        face = bus.persistence
        assert face is not None
        assert face.get_stats()["head"] == 1
        with pytest.raises(Exception, match="publish the event on the bus"):
            face.persist(an_order("o-2"))
        await bus.join()
        await bus.flush()
        assert face.pending_events("desk.on_event") == []


@virtual
async def test_a_quiet_bus_leaves_no_timer_behind():
    loop: Any = asyncio.get_running_loop()
    async with a_bus(MemoryJournal()) as bus:
        bus.subscribe("order", Desk().on_event)
        await bus.publish(an_order())
        await bus.join()
        await asyncio.sleep(2)
    await turns()
    assert [timer for timer in loop._scheduled if not timer.cancelled()] == []


def test_the_log_names_no_event_that_is_accepted(caplog: pytest.LogCaptureFixture):
    @virtual
    async def run() -> None:
        async with a_bus(MemoryJournal()) as bus:
            bus.subscribe("*", Named("desk").on_event)
            await bus.publish_many(orders(10))
            await bus.join()

    with caplog.at_level(logging.DEBUG, "openoutcry"):
        run()
    assert caplog.records == []


@virtual
async def test_the_same_id_with_other_content_is_flagged_within_one_commit_too(
    caplog: pytest.LogCaptureFixture,
):
    journal = MemoryJournal()
    async with a_bus(journal) as bus:
        first, other = an_order("o-1", event_id="mine"), an_order("o-2", event_id="mine")
        assert await asyncio.gather(bus.publish(first), bus.publish(other)) == [True, True]
        assert "other content" in caplog.text
    assert [event.order_id for event in written(journal)] == ["o-1"]
