"""Health, shutdown, audit and replay: each way in which such a bus has failed is a sentence here (FAULTS)."""

import ast
import asyncio
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest
from bus_helpers import Desk, Failing, a_fill, a_kill, an_order, assert_settled, virtual
from durable_kit import SlowDisk, a_bus, ids, orders, settings

import openoutcry
from openoutcry import (
    NO_RETRY,
    EventBus,
    EventBusHealthStatus,
    EventType,
    HealthCheckConfig,
    NotAuthorised,
)
from openoutcry.journals import JournalReader, MemoryJournal
from openoutcry.journals.rows import Chain

SRC = Path(openoutcry.__file__).parent
SICK = HealthCheckConfig(stall_s=2.0)


@virtual
async def test_recovery_acts_on_the_stuck_handler_and_leaves_every_order_in_its_place():
    """It used to drain the queue, put fills ahead of their orders, drop 3 of 8, and never touch the culprit."""
    never = asyncio.Event()
    handled: list[Any] = []
    cancelled: list[Any] = []

    async def execution(event: Any) -> None:
        if event.order_id == "o-1" and not cancelled:
            try:
                await never.wait()
            except asyncio.CancelledError:
                cancelled.append(event)
                raise
        handled.append(event)

    async with EventBus(health_check_config=SICK) as bus:
        bus.subscribe(EventType.ORDER, execution, name="execution")
        eight = orders(8)
        for order in eight:
            await bus.publish(order)
        await bus.join()
        assert len(cancelled) == 1
        assert ids(handled) == ids(eight)
        (row,) = (r for r in bus.ledger().rows if r.lane == "normal")
        assert (row.accepted, row.handled) == (8, 8)
        assert_settled(bus)


@virtual
async def test_one_hung_handler_is_reported_and_named():
    """It used to stop everything, and the bus reported HEALTHY."""
    never, desk = asyncio.Event(), Desk()

    async def hung(_event: Any) -> None:
        await never.wait()

    async with EventBus(health_check_config=HealthCheckConfig(stall_s=2.0, recover=False)) as bus:
        bus.subscribe(EventType.ORDER, hung, name="hung")
        bus.subscribe(EventType.ORDER, desk.on_event, name="desk")
        await bus.publish_many(orders(5))
        await asyncio.sleep(4)
        result = await bus.check_health()
        assert not result.is_healthy
        assert result.culprits == ("hung",)
        assert len(desk.handled) == 5
        never.set()


@virtual
async def test_fifty_of_fifty_failures_are_not_healthy_and_are_counted():
    failing = Failing()
    async with EventBus() as bus:
        subscription = bus.subscribe(
            EventType.ORDER, failing.on_event, name="failing", retry=NO_RETRY, breaker=False
        )
        await bus.publish_many(orders(50))
        await bus.join()
        result = await bus.check_health()
        assert result.status is EventBusHealthStatus.DEGRADED
        assert result.culprits == ("failing",)
        assert subscription.errors == 50


@virtual
async def test_the_audit_trail_is_in_the_file_while_the_bus_runs(tmp_path):
    """It used to live in memory until the shutdown."""
    path = tmp_path / "firm.db"
    async with EventBus(persistence_config=settings(path=path)) as bus:
        some = orders(5)
        await bus.publish_many(some)
        with JournalReader(path) as reader:
            assert [entry.head().event_id for entry in reader.read(0, 10)] == ids(some)


@virtual
async def test_an_edited_entry_is_found_also_when_every_checksum_behind_it_was_made_anew(tmp_path):
    """It used to verify as intact. Whoever edits a keyed journal lacks the key to make its checksums anew."""
    path, key = tmp_path / "firm.db", b"k" * 32
    async with EventBus(persistence_config=settings(path=path, key=key)) as bus:
        for order in orders(5):
            await bus.publish(order)
    forger, before = Chain(b"x" * 32), Chain(b"x" * 32).start
    db = sqlite3.connect(path)
    for first, count, since_ns, until_ns, entries in db.execute(
        "SELECT first, count, first_ns, last_ns, CAST(entries AS BLOB) FROM batches ORDER BY first"
    ).fetchall():
        edited = entries.replace(b'"o-3"', b'"o-9"')
        before = forger.link(before, first, count, since_ns, until_ns, edited)
        db.execute(
            "UPDATE batches SET entries = CAST(? AS TEXT), checksum = ? WHERE first = ?",
            (edited, before, first),
        )
    db.commit()
    db.close()
    with JournalReader(path, key=key) as reader:
        assert reader.verify().problems


@virtual
async def test_a_restart_gives_an_agent_its_memory_back_and_executes_no_order_again():
    """A replay used to call the live handlers: the order was executed again."""
    journal = MemoryJournal()
    executed: list[str] = []
    remembered: list[str] = []

    async def execute(order: Any) -> None:
        executed.append(order.order_id)

    for _ in range(3):
        bus = EventBus(journal=journal)
        bus.subscribe(
            EventType.ORDER, execute, name="broker", restore=lambda o: remembered.append(o.order_id)
        )
        async with bus:
            await bus.publish(an_order("o-1", event_id="the order"))
            await bus.join()
    assert executed == ["o-1"]
    assert remembered == ["o-1", "o-1"]


def test_no_module_uses_wait_for_which_can_swallow_a_cancellation_on_3_11():
    users = [
        path.name
        for path in SRC.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute)
        and node.attr == "wait_for"
        and ast.unparse(node.value) == "asyncio"
    ]
    assert users == []


@virtual
async def test_a_cancelled_publish_does_not_stop_the_commit_in_its_thread_and_is_admitted_whole():
    desk, disk = Desk(), SlowDisk()
    bus = a_bus(disk, sync="thread")
    bus.subscribe(EventType.FILL, desk.on_event, name="desk")
    await bus.start()
    fill = a_fill()
    publishing = asyncio.create_task(bus.publish(fill))
    for _ in range(10):
        await asyncio.sleep(0)
    publishing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await publishing
    disk.let_go()
    await bus.join()
    assert ids(desk.handled) == [fill.event_id]
    assert await bus.publish(fill)
    await bus.join()
    assert ids(desk.handled) == [fill.event_id]
    await bus.stop()


@virtual
async def test_only_who_may_can_release_a_kill_switch():
    """Any agent used to be able to publish its deactivation."""
    async with EventBus(kill_switch_releasers={"risk"}) as bus:
        assert await bus.publish(a_kill(source_agent="anybody"))
        with pytest.raises(NotAuthorised):
            await bus.publish(a_kill(activated=False, source_agent="momentum"))
        with pytest.warns(DeprecationWarning, match="take bus.releaser"):
            assert await bus.publish(a_kill(activated=False, source_agent="risk"))


def test_a_kill_switch_of_a_thread_gets_through_beside_a_loop_that_is_busy_with_short_slices():
    """Threads starve beside such a loop: the watchdog's pauses let them in."""
    handled = threading.Event()

    async def main() -> bool:
        async with EventBus() as bus:
            for number in range(10):
                bus.subscribe(EventType.ORDER, Busy(bus, handled).on_event, name=f"busy-{number}")
            bus.subscribe(EventType.KILL_SWITCH, lambda _event: handled.set(), name="risk")
            await bus.publish_many(orders(20))
            thread = threading.Thread(target=lambda: bus.publish_threadsafe(a_kill()).result(300))
            thread.start()
            await asyncio.get_running_loop().run_in_executor(None, thread.join, 300)
            return handled.is_set()

    assert asyncio.run(main())


class Busy:
    """A handler that keeps the loop busy by publishing until the kill switch has come."""

    def __init__(self, bus: EventBus, until: threading.Event) -> None:
        self._bus, self._until = bus, until

    async def on_event(self, _event: Any) -> None:
        if not self._until.is_set():
            self._bus.publish_nowait(an_order())
        await asyncio.sleep(0)
