"""A journal that dies (CONTRACT 16): the bus goes on in a new file, built from what verifies, and loses nothing."""

import asyncio
import sqlite3
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
    assert_balanced,
    assert_settled,
    ticks,
    virtual,
)
from durable_kit import Named, ids, orders, quick_stall, settings

from openoutcry import (
    NO_RETRY,
    EventBus,
    EventBusHealthStatus,
    EventType,
    HealthCheckConfig,
    HealthCheckResult,
    OpenOutcryError,
)
from openoutcry.config import LadderConfig
from openoutcry.errors import JournalCorrupt, JournalDead, JournalError, JournalFull
from openoutcry.journals import JournalReader, MemoryJournal, SqliteJournal, recover_into
from openoutcry.journals.disk_tasks import SyncTask
from openoutcry.ports import DiskTask
from openoutcry.runtime.durability import slot

UNHEALTHY, RECOVERING = EventBusHealthStatus.UNHEALTHY, EventBusHealthStatus.RECOVERING


def a_bus(path: Path, **fields: Any) -> EventBus:
    """Its syncs are in a thread, however fast the disk is."""
    return EventBus(persistence_config=settings(path=path, engine="sqlite3", sync="thread"), **fields)


def kill(bus: EventBus) -> None:
    """A sync fails: nobody knows what is on the disk."""
    with pytest.raises(JournalDead):
        bus._admission.store.journal._die("a sync failed", OSError(5, "Input/output error"))  # type: ignore[attr-defined]


def let_syncs_fail(bus: EventBus) -> None:
    """From now on what is written is in the file, and every sync of it fails."""
    journal = bus._admission.store.journal
    end_sync = journal.end_sync

    def failing(task: DiskTask) -> int:
        assert isinstance(task, SyncTask)
        task.problem = OSError(5, "Input/output error")
        return end_sync(task)

    journal.end_sync = failing  # type: ignore[method-assign]


async def die(bus: EventBus) -> None:
    """The journal is found dead by a publish that is refused for it."""
    kill(bus)
    (order,) = orders(1, first=1_000)
    with pytest.raises(JournalDead):
        await bus.publish(order)


def entries_of(path: Path) -> list[str]:
    with JournalReader(path) as reader:
        return [str(entry.head().event_id) for entry in reader.read(0, 10_000)]


@virtual
async def test_the_bus_goes_on_in_a_new_file_and_keeps_the_old_one(tmp_path):
    path, desk = tmp_path / "firm.db", Named("desk")
    async with a_bus(path) as bus:
        bus.subscribe(EventType.ORDER, desk.on_event)
        before, after = orders(50), orders(50, first=51)
        await bus.publish_many(before)
        await bus.join()
        await die(bus)
        assert (await bus.check_health()).status is UNHEALTHY
        found = await bus.admin.recover_journal()
        assert (found.entries, found.lost) == (50, ())
        assert bus.is_healthy
        for order in after:
            assert await bus.publish(order)
        await bus.join()
        assert desk.ids == ids([*before, *after])
        assert_settled(bus)
    assert entries_of(path) == ids([*before, *after])
    assert entries_of(tmp_path / "firm.db.dead-1") == ids(before)
    assert not list(tmp_path.glob("*.next*"))
    again = Named("desk")
    async with a_bus(path) as bus:  # everything is settled, and known
        bus.subscribe(EventType.ORDER, again.on_event)
        assert await bus.publish(before[0])
        await bus.join()
    assert again.handled == []


@virtual
async def test_calls_and_events_that_wait_go_on_over_the_recovery_each_once(tmp_path):
    path, gate, slow = tmp_path / "firm.db", Gate(), Named("slow", takes_s=0.5)
    async with a_bus(path) as bus:
        bus.subscribe(EventType.ORDER, gate.on_event, name="gate")
        bus.subscribe(EventType.ORDER, slow.on_event)
        some = orders(10)
        await bus.publish_many(some)
        await asyncio.sleep(1.2)
        await die(bus)
        await bus.admin.recover_journal()
        gate.open()
        more = orders(5, first=11)
        await bus.publish_many(more)
        await bus.join()
        assert ids(gate.handled) == slow.ids == ids([*some, *more])
        assert_settled(bus)
    async with a_bus(path) as bus:
        again = Named("slow")
        bus.subscribe(EventType.ORDER, again.on_event)
        bus.subscribe(EventType.ORDER, Gate().on_event, name="gate")
        await bus.join()
    assert again.handled == []


@virtual
async def test_what_a_failed_sync_left_open_is_handed_out_if_it_is_in_the_file(tmp_path):
    path, desk = tmp_path / "firm.db", Named("desk")
    async with a_bus(path) as bus:
        bus.subscribe([EventType.ORDER, EventType.KILL_SWITCH], desk.on_event)
        (first, unsure) = orders(2)
        await bus.publish(first)
        let_syncs_fail(bus)
        with pytest.raises(JournalDead):
            await bus.publish(unsure, level="disk")
        await asyncio.sleep(1)
        assert desk.ids == [first.event_id]  # nobody knows whether it is on the disk
        await bus.admin.recover_journal()
        await bus.join()
        assert desk.ids == ids([first, unsure])
        assert await bus.publish(unsure)  # publishing it again is safe, and delivers nothing new
        await bus.join()
        assert desk.ids == ids([first, unsure])
        assert_settled(bus)


@virtual
async def test_what_a_failed_sync_left_open_is_handed_out_after_a_stop_and_a_repair(tmp_path):
    """The same where the file is repaired while the bus is stopped: it goes on, but not past what it had not seen."""
    path, desk = tmp_path / "firm.db", Named("desk")
    bus = a_bus(path)
    bus.subscribe([EventType.ORDER, EventType.FILL], desk.on_event)
    await bus.start()
    (first, unsure), fill = orders(2), a_fill()
    await bus.publish(first)
    await bus.join()
    let_syncs_fail(bus)
    together = [bus.publish(unsure, level="disk"), bus.publish(fill)]
    assert [type(e) for e in await asyncio.gather(*together, return_exceptions=True)] == [JournalDead] * 2
    await bus.stop()
    assert desk.ids == [first.event_id]
    await bus.admin.recover_journal()
    await bus.start()
    assert await bus.publish(unsure)
    assert await bus.publish(fill)
    await bus.join()
    assert sorted(desk.ids) == sorted(ids([first, unsure, fill]))
    assert_settled(bus)
    await bus.stop()


@virtual
async def test_kill_switches_and_what_is_not_journaled_get_through_while_the_journal_is_recovered(
    tmp_path, monkeypatch
):
    path, desk, slow = tmp_path / "firm.db", Named("desk"), asyncio.Event()
    real = slot.build
    loop = asyncio.get_running_loop()

    def held(*args: Any) -> Any:
        asyncio.run_coroutine_threadsafe(slow.wait(), loop).result(20)
        return real(*args)

    monkeypatch.setattr(slot, "build", held)
    async with a_bus(path) as bus:
        bus.subscribe([EventType.MARKET_DATA, EventType.KILL_SWITCH, EventType.ORDER], desk.on_event)
        await bus.publish(orders(1)[0])
        await die(bus)
        recovery = asyncio.create_task(bus.admin.recover_journal())
        await asyncio.sleep(0)
        tick, kill_switch, late = a_tick(), a_kill(), orders(1, first=2)[0]
        assert await bus.publish(tick)
        assert await bus.publish(kill_switch)
        with pytest.raises(JournalDead):
            await bus.publish(late)
        newcomer = Desk()
        bus.subscribe(EventType.ORDER, newcomer.on_event, name="newcomer")
        bus.get_status()
        assert bus.get_event_history()
        for _ in range(100):  # turns, and no time: a timer would wait for the thread
            await asyncio.sleep(0)
        assert len(desk.handled) == 3
        slow.set()
        await recovery
        assert await bus.publish(late)
        await bus.join()
        assert set(desk.ids) == set(ids([tick, kill_switch, late])) | {desk.ids[0]}
        assert newcomer.ids == [late.event_id]
        assert_balanced(bus)


@virtual
async def test_a_subscription_that_reads_on_from_the_journal_reads_on_in_the_new_one(tmp_path):
    path = tmp_path / "firm.db"
    async with a_bus(path) as bus:
        bus.subscribe(EventType.ORDER, Desk().on_event, name="desk")
        await bus.stop()
    bus = a_bus(path)
    some = orders(2_000)
    await bus.publish_many(some)
    slow = Desk(takes_s=0.001)
    bus.subscribe(EventType.ORDER, slow.on_event, name="desk")
    await bus.start()
    await asyncio.sleep(0.2)
    assert 0 < len(slow.handled) < 1_000
    await die(bus)
    await bus.admin.recover_journal()
    await bus.join()
    assert slow.ids == ids(some)
    assert_settled(bus)
    await bus.stop()


@virtual
async def test_dead_letters_live_on_in_the_new_file(tmp_path):
    path = tmp_path / "firm.db"

    async def failing(_event: Any) -> None:
        raise ValueError("no")

    async with a_bus(path) as bus:
        bus.subscribe(EventType.ORDER, failing, name="desk", retry=NO_RETRY)
        await bus.publish_many(orders(3))
        await bus.join()
        await bus.flush()
        await die(bus)
        await bus.admin.recover_journal()
        assert len(bus.dead_letters("desk")) == 3
        assert bus.admin.drop_dead_letters("desk", letter_ids=[bus.dead_letters()[0].letter_id]) == 1
    async with a_bus(path) as bus:
        bus.subscribe(EventType.ORDER, failing, name="desk", retry=NO_RETRY)
        assert len(bus.dead_letters("desk")) == 2


@pytest.mark.parametrize("then", ["nothing", "redriven", "dropped"])
@virtual
async def test_a_letter_whose_write_failed_and_is_in_the_file_all_the_same_is_one(tmp_path, then):
    """Of a commit that ends in an error nobody knows whether it is there."""
    path, failing = tmp_path / "firm.db", Failing(times=1)
    async with a_bus(path) as bus:
        bus.subscribe(EventType.ORDER, failing.on_event, name="desk", retry=NO_RETRY)
        journal = bus._admission.store.journal
        write = journal.write

        def in_doubt(*given: Any) -> Any:
            written = write(*given)
            if given[1] is not None and given[1].buried:
                kill(bus)
                raise JournalDead("the write has failed")
            return written

        journal.write = in_doubt  # type: ignore[method-assign, assignment]
        await bus.publish_many(orders(2))
        await bus.join()
        await asyncio.sleep(1)
        assert bus._admission.store.commits.dead is not None
        before = bus.dead_letters("desk")
        assert len(before) == 2
        await bus.admin.recover_journal()
        assert bus.dead_letters("desk") == before
        assert bus.dead_letter_counts() == {"desk": 2}
        if then == "redriven":
            assert bus.admin.redrive("desk") == 2
            await bus.join()
            assert ids(failing.handled) == ids(letter.event for letter in before)
        elif then == "dropped":
            assert bus.admin.drop_dead_letters("desk") == 2
        left = before if then == "nothing" else []
        assert bus.dead_letters("desk") == left
    async with a_bus(path) as bus:
        bus.subscribe(EventType.ORDER, failing.on_event, name="desk", retry=NO_RETRY)
        assert bus.dead_letters("desk") == left


@virtual
async def test_a_letter_that_was_redriven_while_the_journal_was_dead_does_not_come_back(tmp_path):
    path, failing = tmp_path / "firm.db", Failing(times=1)
    async with a_bus(path) as bus:
        bus.subscribe(EventType.ORDER, failing.on_event, name="desk", retry=NO_RETRY)
        await bus.publish_many(orders(1))
        await bus.join()
        await bus.flush()
        await die(bus)
        assert bus.admin.redrive("desk") == 1
        await bus.join()
        assert bus.admin.redrive("desk") == 0
        await bus.admin.recover_journal()
        assert bus.admin.redrive("desk") == 0
        await bus.join()
        assert len(failing.handled) == 1
    async with a_bus(path) as bus:
        bus.subscribe(EventType.ORDER, failing.on_event, name="desk", retry=NO_RETRY)
        assert not bus.dead_letters("desk")


@virtual
async def test_what_waits_behind_the_journal_in_the_high_lane_goes_on_in_the_new_one(tmp_path):
    """A stalled high lane reads on from the journal, and what is not in there waits for its turn."""
    path, gate = tmp_path / "firm.db", Gate()
    async with a_bus(path, max_queue_size=20, backpressure_config=quick_stall()) as bus:
        bus.subscribe("*", gate.on_event, name="desk")
        await bus.publish_many(orders(2))
        await asyncio.sleep(1)
        fills, loud = [a_fill(f"f-{n}") for n in range(3)], ticks(3)
        for fill, tick in zip(fills, loud, strict=True):
            await bus.publish(fill)
            await bus.publish(tick, priority=True)
        (unsure,) = orders(1, first=9)
        let_syncs_fail(bus)
        with pytest.raises(JournalDead):
            await bus.publish(unsure, level="disk")
        await bus.admin.recover_journal()
        gate.open()
        async with asyncio.timeout(60):
            await bus.join()
        urgent = [event for pair in zip(fills, loud, strict=True) for event in pair]
        assert [event for event in ids(gate.handled) if event in ids(urgent)] == ids(urgent)
        assert len(gate.handled) == 2 + 6 + 1
        assert_settled(bus)


@virtual
async def test_who_could_not_be_subscribed_for_the_journal_can_be_when_that_is_readable(tmp_path):
    """It is there as if it had never been asked for, and its cursors are as they were."""
    path, desk = tmp_path / "firm.db", Desk()
    async with a_bus(path) as bus:
        bus.subscribe("*", desk.on_event, name="desk")
        await bus.publish_many(orders(2))
    async with a_bus(path) as bus:
        (missed,) = orders(1, first=3)
        kill_switch = a_kill()
        await bus.publish(missed)
        await bus.publish(kill_switch)
        journal = bus._admission.store.journal
        read_urgent = journal.read_urgent
        journal.read_urgent = _unreadable  # type: ignore[method-assign, assignment]
        with pytest.raises(JournalCorrupt):
            bus.subscribe("*", desk.on_event, name="desk")
        journal.read_urgent = read_urgent  # type: ignore[method-assign]
        bus.subscribe("*", desk.on_event, name="desk")
        await bus.join()
        assert ids(desk.handled[2:]) in (ids([kill_switch, missed]), ids([missed, kill_switch]))
        assert_settled(bus)


def _unreadable(*_: Any) -> Any:
    raise JournalCorrupt("a page of the file cannot be read")


# -- by itself --------------------------------------------------------------------------------------


@virtual
async def test_with_health_checks_the_bus_recovers_its_journal_by_itself(tmp_path):
    path, desk = tmp_path / "firm.db", Named("desk")
    told: list[HealthCheckResult] = []
    async with a_bus(path, health_check_config=HealthCheckConfig()) as bus:
        bus.on_health_change(told.append)
        bus.subscribe(EventType.ORDER, desk.on_event)
        await bus.publish_many(orders(10))
        await die(bus)
        await asyncio.sleep(5)
        assert bus.is_healthy
        (finding,) = next(r for r in told if r.status is RECOVERING).findings
        assert (finding.check, finding.tried) == ("journal", ("reopened the journal",))
        assert UNHEALTHY not in {r.status for r in told}
        assert await bus.publish(orders(1, first=11)[0])
        await bus.join()
        assert len(desk.handled) == 11


@virtual
async def test_a_journal_that_cannot_be_recovered_is_given_up_after_its_attempts(tmp_path, monkeypatch):
    attempts: list[float] = []

    def full(*_args: Any) -> Any:
        attempts.append(1)
        raise JournalFull("there is no room for the new file")

    monkeypatch.setattr(slot, "build", full)
    ladder = LadderConfig(reopens=2, patience_s=1.0)
    config = HealthCheckConfig(ladder=ladder)
    async with a_bus(tmp_path / "firm.db", health_check_config=config) as bus:
        bus.subscribe(EventType.ORDER, Desk().on_event, name="desk")
        await bus.publish(orders(1)[0])
        await die(bus)
        await asyncio.sleep(100)
        assert len(attempts) == 2
        result = await bus.check_health()
        assert result.status is UNHEALTHY
        (finding,) = result.findings
        assert finding.tried == ("reopened the journal", "reopened the journal", "gave up")
        assert "there is no room for the new file" in finding.detail
        with pytest.raises(JournalDead):
            await bus.publish(orders(1, first=5)[0])
        monkeypatch.undo()
        await bus.admin.recover_journal()  # a person has made room
        assert bus.is_healthy
        assert await bus.publish(orders(1, first=6)[0])


@virtual
async def test_without_health_checks_a_dead_journal_stays_dead_until_somebody_says_so(tmp_path):
    async with a_bus(tmp_path / "firm.db") as bus:
        await die(bus)
        await asyncio.sleep(100)
        assert [f.check for f in (await bus.check_health()).findings] == ["journal"]
        with pytest.raises(JournalDead):
            await bus.publish(orders(1)[0])


# -- without a running bus, and not at all ----------------------------------------------------------


@virtual
async def test_a_damaged_file_that_cannot_be_opened_is_recovered_before_the_start(tmp_path):
    path = tmp_path / "firm.db"
    async with a_bus(path) as bus:
        bus.subscribe(EventType.ORDER, Desk().on_event, name="desk")
        await bus.publish_many(orders(3))
    data = bytearray(path.read_bytes())
    at = data.rindex(b'"o-3"')
    data[at + 1] ^= 1
    path.write_bytes(data)
    bus = a_bus(path)
    bus.subscribe(EventType.ORDER, Desk().on_event, name="desk")
    with pytest.raises(JournalCorrupt):
        await bus.start()
    found = await bus.admin.recover_journal()
    assert found.lost
    await bus.start()
    assert await bus.publish(orders(1, first=9)[0])
    await bus.stop()
    assert (tmp_path / "firm.db.dead-1").exists()


@pytest.mark.parametrize("at", range(7))
@virtual
async def test_a_swap_that_is_interrupted_anywhere_is_ended_by_the_next_opening(tmp_path, monkeypatch, at):
    path = tmp_path / "firm.db"
    some = orders(5)
    async with a_bus(path) as bus:
        await bus.publish_many(some)
    moved = 0
    real = Path.replace

    def replace(self: Path, target: Any) -> Any:
        nonlocal moved
        if ".next" in str(self) and "recovering" in str(self):
            return real(self, target)
        moved += 1
        if moved > at:
            raise OSError("the power went")
        return real(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", replace)
        bus = a_bus(path)
        try:
            await bus.admin.recover_journal()
        except OSError:
            pass
        else:
            assert at > 3
    async with a_bus(path) as bus:
        assert bus._admission.store.journal.head == 5
        assert not any([await bus.publish(order) is False for order in some])
        assert bus._admission.store.journal.head == 5
    assert entries_of(path) == ids(some)


@virtual
async def test_what_is_well_or_not_its_own_is_not_recovered(tmp_path):
    async with a_bus(tmp_path / "firm.db") as bus:
        await bus.publish(orders(1)[0])
        with pytest.raises(OpenOutcryError, match="not dead"):
            await bus.admin.recover_journal()
    async with EventBus(journal=MemoryJournal()) as bus:
        with pytest.raises(OpenOutcryError, match="given to the bus"):
            await bus.admin.recover_journal()
    async with EventBus() as bus:
        with pytest.raises(OpenOutcryError, match="journal file of its own"):
            await bus.admin.recover_journal()


@virtual
async def test_two_who_ask_for_recovery_get_the_same_one_and_a_cancelled_one_goes_on(tmp_path):
    path = tmp_path / "firm.db"
    async with a_bus(path) as bus:
        await bus.publish(orders(1)[0])
        await die(bus)
        one, two = (
            asyncio.create_task(bus.admin.recover_journal()),
            asyncio.create_task(bus.admin.recover_journal()),
        )
        await asyncio.sleep(0)
        one.cancel()
        assert (await two).entries == 1
        assert await bus.publish(orders(1, first=2)[0])
    assert not (tmp_path / "firm.db.dead-2").exists()


@virtual
async def test_a_stop_in_the_middle_of_a_recovery_leaves_a_whole_file(tmp_path):
    path = tmp_path / "firm.db"
    bus = a_bus(path)
    await bus.start()
    some = orders(3)
    await bus.publish_many(some)
    await die(bus)
    recovery = asyncio.create_task(bus.admin.recover_journal())
    await asyncio.sleep(0)
    await bus.stop()
    await recovery
    assert entries_of(path) == ids(some)
    with SqliteJournal(path) as journal:
        assert journal.head == 3


@virtual
async def test_a_file_that_was_removed_is_not_let_go_of_and_goes_on_when_it_is_put_back(tmp_path):
    path, aside = tmp_path / "firm.db", tmp_path / "aside.db"
    desk = Desk()
    async with a_bus(path) as bus:
        bus.subscribe(EventType.ORDER, desk.on_event, name="desk")
        events = orders(5)
        for order in events[:3]:
            await bus.publish(order)
        path.rename(aside)
        await die(bus)
        with pytest.raises(JournalError, match=r"was removed.*put the file back"):
            await bus.admin.recover_journal()
        aside.rename(path)
        assert (await bus.admin.recover_journal()).entries == 3
        for order in events[3:]:
            await bus.publish(order)
        await bus.join()
        assert ids(desk.handled) == ids(events)


@virtual
async def test_recovery_does_not_take_the_file_of_another_bus_for_its_own(tmp_path):
    path, aside, other = tmp_path / "firm.db", tmp_path / "aside.db", tmp_path / "other.db"
    async with a_bus(other) as stranger:
        stranger.subscribe(EventType.ORDER, Desk().on_event, name="desk")
        await stranger.publish_many(orders(10, first=100))
        await stranger.join()
    desk, gate = Desk(), Gate()
    async with a_bus(path, health_check_config=HealthCheckConfig(ladder=LadderConfig(reopens=1))) as bus:
        bus.subscribe(EventType.ORDER, desk.on_event, name="desk")
        bus.subscribe(EventType.ORDER, gate.on_event, name="gate")
        events = orders(3)
        for order in events:
            await bus.publish(order)
        path.rename(aside)
        other.rename(path)
        await die(bus)
        await asyncio.sleep(20)
        result = await bus.check_health()
        assert result.status is UNHEALTHY
        assert "is another journal" in result.message
        path.rename(other)
        aside.rename(path)
        await bus.admin.recover_journal()
        gate.open()
        await bus.join()
        assert ids(desk.handled) == ids(events)


def test_a_journal_that_is_not_there_cannot_be_recovered_and_nothing_is_left_behind(tmp_path):
    with pytest.raises(JournalError, match="is no file"):
        recover_into(tmp_path / "firm.db", tmp_path / "new.db")
    assert not list(tmp_path.iterdir())


# -- the old file, the new one, and what goes wrong between them -----------------------------------------


@virtual
async def test_the_old_file_is_read_while_the_new_one_is_built(tmp_path, monkeypatch):
    path, slow, real = tmp_path / "firm.db", asyncio.Event(), slot.build
    loop = asyncio.get_running_loop()

    def held(*args: Any) -> Any:
        asyncio.run_coroutine_threadsafe(slow.wait(), loop).result(20)
        return real(*args)

    monkeypatch.setattr(slot, "build", held)
    async with a_bus(path, history_size=1) as bus:
        some = orders(3)
        await bus.publish_many(some)
        await die(bus)
        recovery = asyncio.create_task(bus.admin.recover_journal())
        for _ in range(100):
            await asyncio.sleep(0)
        assert ids(bus.get_event_history()) == ids(some)
        assert ids(bus.persistence.pending_events()) == ids(some)
        with pytest.raises(JournalError):
            bus.persistence.mark_completed(some[0])  # it would be lost
        slow.set()
        await recovery
        assert ids(bus.get_event_history()) == ids(some)


@pytest.mark.parametrize("at", range(4))
@virtual
async def test_a_swap_that_fails_beside_a_running_bus_is_ended_by_the_next_recovery(
    tmp_path, monkeypatch, at
):
    path, desk, gate = tmp_path / "firm.db", Desk(), Gate()
    real = Path.replace
    moved = 0

    def replace(self: Path, target: Any) -> Any:
        nonlocal moved
        if "recovering" not in str(self):
            moved += 1
            if moved > at:
                raise OSError("the disk is gone")
        return real(self, target)

    async with a_bus(path) as bus:
        bus.subscribe([EventType.ORDER, EventType.KILL_SWITCH], desk.on_event, name="desk")
        bus.subscribe(EventType.ORDER, gate.on_event, name="gate")
        some = orders(3)
        await bus.publish_many(some)
        await die(bus)
        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", replace)
            with pytest.raises(OSError, match="the disk is gone"):
                await bus.admin.recover_journal()
        with pytest.raises(JournalDead):
            await bus.publish(orders(1, first=9)[0])
        assert await bus.publish(a_kill())  # delivered at once, journal or no journal
        bus.get_status()
        await bus.admin.recover_journal()
        some += orders(1, first=4)
        assert await bus.publish(some[-1])
        gate.open()
        await bus.join()
        assert ids(gate.handled) == ids(some)
        assert len(desk.handled) == 5
        assert_settled(bus)
    assert entries_of(path) == ids(some)


@virtual
async def test_a_file_whose_dead_letters_are_damaged_is_let_go_of_so_that_it_can_be_recovered(tmp_path):
    path = tmp_path / "firm.db"

    async def failing(_event: Any) -> None:
        raise ValueError("no")

    async with a_bus(path) as bus:
        bus.subscribe(EventType.ORDER, failing, name="desk", retry=NO_RETRY)
        await bus.publish_many(orders(2))
        await bus.join()
    with sqlite3.connect(path) as db:
        db.execute("UPDATE dead_letters SET attempts = 7 WHERE position = 1")
    db.close()
    bus = a_bus(path)
    bus.subscribe(EventType.ORDER, failing, name="desk", retry=NO_RETRY)
    for _ in range(2):
        with pytest.raises(JournalCorrupt, match="dead letter"):
            await bus.start()
    assert (await bus.admin.recover_journal()).beside
    await bus.start()
    assert await bus.publish(orders(1, first=3)[0])
    await bus.stop()
