"""`stop(timeout_s)` holds its time (CONTRACT 27), whatever handlers, threads and disks do, and works without a loop."""

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from bus_helpers import Desk, a_fill, a_kill, a_tick, an_order, assert_settled, now_s, ticks, virtual
from durable_kit import SlowDisk, a_bus

from openoutcry import BusClosed, EventBus, OpenOutcryError, PersistenceConfig
from openoutcry.errors import JournalError
from openoutcry.journals import MemoryJournal, SqliteJournal
from openoutcry.runtime.durability import slot

BOUND_S = 0.5
"""What the documentation grants beyond the time-out."""
SLACK_S = 5.0
"""What a busy machine may add to real time; the waits below would last for ever, or for minutes."""


class Stubborn(Desk):
    """A handler that swallows its cancellations; not all, so that the test can end."""

    async def on_event(self, event: Any) -> None:
        self.begun.append(event)
        for _ in range(3):
            try:
                await asyncio.sleep(1_000)
            except asyncio.CancelledError:
                continue


@pytest.mark.parametrize("timeout_s", [0, 0.1, 1, 2, 10])
@pytest.mark.parametrize("event", [an_order, a_fill, a_kill, a_tick], ids=lambda make: make.__name__)
@virtual
async def test_a_handler_that_never_ends_costs_the_timeout_and_half_a_second(timeout_s, event):
    desks = [Stubborn() for _ in range(5)]
    bus = EventBus()
    for number, desk in enumerate(desks):
        bus.subscribe("*", desk.on_event, name=f"desk-{number}")
    await bus.start()
    await bus.publish(event())
    await asyncio.sleep(0.01)
    assert all(desk.begun for desk in desks)
    began_s = now_s()
    await bus.stop(timeout_s=timeout_s)
    assert timeout_s <= now_s() - began_s <= timeout_s + BOUND_S
    assert bus.get_status()["state"] == "stopped"


@virtual
async def test_a_second_stop_with_less_time_shortens_the_first():
    desk = Stubborn()
    bus = EventBus()
    bus.subscribe("*", desk.on_event)
    await bus.start()
    await bus.publish(a_tick())
    await asyncio.sleep(0.01)
    began_s = now_s()
    first = asyncio.ensure_future(bus.stop(timeout_s=100))
    await asyncio.sleep(1)
    await bus.stop(timeout_s=2)
    assert 3 <= now_s() - began_s <= 3 + BOUND_S
    await first
    assert now_s() - began_s <= 3 + BOUND_S


@virtual
async def test_a_second_stop_with_more_time_waits_for_the_first():
    bus = EventBus()
    bus.subscribe("*", Stubborn().on_event)
    await bus.start()
    await bus.publish(a_tick())
    await asyncio.sleep(0.01)
    began_s = now_s()
    await asyncio.gather(bus.stop(timeout_s=1), bus.stop(timeout_s=50))
    assert now_s() - began_s <= 1 + BOUND_S


def test_a_thread_that_does_not_end_is_left():
    let_go = threading.Event()

    async def main() -> float:
        bus = EventBus()
        bus.subscribe("*", lambda _event: let_go.wait(60), name="desk", blocking=True)
        await bus.start()
        await bus.publish(a_tick())
        await asyncio.sleep(0.05)
        began_s = time.monotonic()
        await bus.stop(timeout_s=0.2)
        return time.monotonic() - began_s

    try:
        assert asyncio.run(main()) < 0.2 + BOUND_S + SLACK_S
    finally:
        let_go.set()


@pytest.mark.parametrize("timeout_s", [0, 0.2])
def test_a_disk_that_does_not_answer_is_left_and_told(timeout_s):
    """CONTRACT 13, 27: nobody waits for ever for an acknowledgement that does not come."""

    class HungDisk(SlowDisk):
        def sync(self) -> int:
            raise AssertionError("the loop itself waits for the disk")

    disk, answers = HungDisk(), []

    async def main() -> float:
        bus = a_bus(disk, sync="thread")
        bus.subscribe("*", Desk().on_event, name="desk")
        await bus.start()
        publishing = asyncio.ensure_future(bus.publish(a_fill()))
        await asyncio.sleep(0.05)
        began_s = time.monotonic()
        with pytest.raises(JournalError, match="did not answer"):
            await bus.stop(timeout_s=timeout_s)
        took_s = time.monotonic() - began_s
        async with asyncio.timeout(5):
            answers.extend(await asyncio.gather(publishing, return_exceptions=True))
        assert not bus.is_running
        await bus.stop()
        return took_s

    try:
        assert asyncio.run(main()) < timeout_s + BOUND_S + SLACK_S
    finally:
        disk.let_go()
    assert isinstance(answers[0], JournalError)


# -- in the middle of a start ----------------------------------------------------------------------------------


def kept(path: Path, count: int) -> None:
    """A journal with some orders that "desk" has handled."""

    async def life() -> None:
        bus = EventBus(persistence_config=PersistenceConfig(path=path))
        bus.subscribe("order", Desk().on_event, name="desk")
        async with bus:
            for start in range(0, count, 500):
                await bus.publish_many([an_order(f"o-{n}") for n in range(start, start + 500)])
            await bus.join()

    asyncio.run(life())


@pytest.mark.parametrize("turns", [1, 2, 3, 5, 8])
def test_a_stop_in_the_middle_of_a_start_ends_it(turns, tmp_path):
    """CONTRACT 27: also while an agent gets its memory back. The journal is closed, and the next start works."""
    kept(tmp_path / "firm.db", 5_000)

    async def main() -> None:
        bus = EventBus(persistence_config=PersistenceConfig(path=tmp_path / "firm.db"))
        restored: list[Any] = []
        desk = Desk()
        bus.subscribe("order", desk.on_event, name="desk", restore=restored.append)
        starting = asyncio.ensure_future(bus.start())
        for _ in range(turns):
            await asyncio.sleep(0)
        began_s = time.monotonic()
        await bus.stop(timeout_s=1)
        assert time.monotonic() - began_s < 1 + BOUND_S + SLACK_S
        (answer,) = await asyncio.gather(starting, return_exceptions=True)
        assert answer is None or isinstance(answer, BusClosed)
        assert not bus.is_running
        with pytest.raises(BusClosed):
            await bus.publish(an_order())
        SqliteJournal(tmp_path / "firm.db").close()
        async with bus, asyncio.timeout(20):
            assert len(restored) == len({order.order_id for order in restored}) == 5_000
            await bus.publish(an_order("o-new"))
            await bus.join()
        assert [e.order_id for e in desk.handled] == ["o-new"]

    asyncio.run(main())


@virtual
async def test_a_start_task_that_is_cancelled_leaves_a_bus_that_can_be_stopped():
    """As in `task = asyncio.create_task(bus.start())`, and `task.cancel()` at the end."""
    desk = Desk()
    bus = EventBus()
    bus.subscribe("*", desk.on_event)
    starting = asyncio.create_task(bus.start())
    await asyncio.sleep(0)
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)
    await bus.stop()
    assert not bus.is_running


# -- in the middle of a recovery of the journal ---------------------------------------------------------------


@pytest.mark.parametrize("how", ["stop", "loop closed, then stop", "loop closed, then start"])
def test_a_recovery_that_is_left_in_the_middle_never_takes_the_journals_place_later(
    how, tmp_path, monkeypatch
):
    """CONTRACT 16: its thread may end when another life has long gone on with the old file."""
    path = tmp_path / "firm.db"
    kept(path, 500)
    goes_on, has_ended = threading.Event(), threading.Event()
    build = slot.rebuild

    def slowly(*args: Any) -> Any:
        goes_on.wait(60)
        try:
            return build(*args)
        finally:
            has_ended.set()

    monkeypatch.setattr(slot, "rebuild", slowly)
    bus = EventBus(persistence_config=PersistenceConfig(path=path))
    desk = Desk()
    bus.subscribe("order", desk.on_event, name="desk")

    async def first() -> None:
        recovering = asyncio.ensure_future(bus.admin.recover_journal())
        await asyncio.sleep(0.05)
        if how != "stop":
            return
        began_s = time.monotonic()
        await bus.stop(timeout_s=0.1)
        assert time.monotonic() - began_s < 0.1 + BOUND_S + SLACK_S
        (answer,) = await asyncio.gather(recovering, return_exceptions=True)
        assert isinstance(answer, BusClosed)

    async def second() -> None:
        if how == "loop closed, then stop":
            await bus.stop()
        async with bus, asyncio.timeout(60):
            await bus.publish(an_order("o-new"))
            goes_on.set()
            await asyncio.to_thread(has_ended.wait, 60)
            await bus.publish(an_order("o-newer"))
            await bus.join()

    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda *_: None)
    loop.run_until_complete(first())
    executor, loop._default_executor = loop._default_executor, None  # type: ignore[attr-defined]
    loop.close()
    asyncio.run(second())
    executor.shutdown()
    assert [e.order_id for e in desk.handled] == ["o-new", "o-newer"]
    assert not Path(f"{path}.next").exists()
    assert not Path(f"{path}.dead-1").exists()
    with SqliteJournal(path) as journal:
        assert journal.find(desk.handled[1].event_id) is not None


# -- when the loop is gone ------------------------------------------------------------------------------------


def lived(bus: EventBus, *events: Any) -> None:
    """Start a bus on a loop, publish, and close the loop with whatever is left on it."""

    async def life() -> None:
        await bus.start()
        for event in events:
            await bus.publish(event)
        await asyncio.sleep(0.01)

    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda *_: None)
    loop.run_until_complete(life())
    loop.close()


@pytest.mark.parametrize("where", ["here", "in another thread"])
def test_a_bus_whose_loop_is_gone_is_stopped_on_a_new_one_and_starts_again(where, tmp_path):
    """CONTRACT 27, 30: the journal is closed, nobody waits any more, and what was left is handled."""
    path, desk, is_open = tmp_path / "firm.db", Desk(), []

    async def on_event(event: Any) -> None:
        if not is_open:
            await asyncio.sleep(1_000)
        await desk.on_event(event)

    bus = EventBus(persistence_config=PersistenceConfig(path=path))
    bus.subscribe("*", on_event, name="desk")
    lived(bus, an_order("o-1"), a_fill("o-2"), *ticks(3))
    assert not bus.is_running

    def stop() -> None:
        asyncio.run(bus.stop(timeout_s=1))

    if where == "here":
        stop()
    else:
        thread = threading.Thread(target=stop)
        thread.start()
        thread.join()
    assert bus.get_status()["state"] == "stopped"
    assert bus.ledger().balances
    assert not Path(f"{path}-sock").exists()
    SqliteJournal(path).close()
    asyncio.run(bus.stop())
    is_open.append(True)

    async def again() -> None:
        async with bus, asyncio.timeout(20):
            await bus.join()
            assert_settled(bus)

    asyncio.run(again())
    assert {getattr(e, "order_id", e.event_type) for e in desk.handled} == {"o-1", "o-2", "market_data"}
    assert len(desk.handled) == 5


def test_what_threads_have_handed_in_is_answered_by_the_stop_of_a_bus_whose_loop_is_gone():
    bus = EventBus()
    bus.subscribe("*", Desk().on_event)
    futures: list[Any] = []

    async def life() -> None:
        await bus.start()
        asyncio.get_running_loop().call_soon(lambda: futures.append(bus.publish_threadsafe(a_tick())))

    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda *_: None)
    loop.run_until_complete(life())
    loop.close()
    asyncio.run(bus.stop())
    assert all(future.done() for future in futures)


def test_a_journal_that_fails_while_a_bus_without_a_loop_is_stopped_is_told():
    class Failing(MemoryJournal):
        def sync(self) -> int:
            raise JournalError("no")

    bus = a_bus(Failing(), sync="thread")
    bus.subscribe("order", Desk().on_event, name="desk")
    lived(bus, an_order())
    with pytest.raises(OpenOutcryError):
        asyncio.run(bus.stop())
    assert bus.get_status()["state"] == "stopped"
    asyncio.run(bus.stop())
