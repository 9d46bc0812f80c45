"""Checkpoints of a running bus: beside its commits, never on its loop, and the log stays bounded."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from durable_kit import Named, a_bus

from openoutcry import Event, EventBus
from openoutcry.core.holds import Hold
from openoutcry.journals import SqliteJournal, sqlite
from openoutcry.journals.disk_tasks import CheckpointTask, SyncTask

DUE_BYTES = 64 * 1024
MAX_BYTES = 1024 * 1024
LIMIT_S = 60.0


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SqliteJournal]:
    """A journal of which small logs are due."""
    monkeypatch.setattr(sqlite, "WAL_DUE_BYTES", DUE_BYTES)
    with SqliteJournal(tmp_path / "firm.db", wal_max_bytes=MAX_BYTES) as made:
        yield made


class LongReport(Event, kw_only=True):
    event_type: str = "long_report"
    text: str = "x" * 2_000


def reports(count: int) -> list[LongReport]:
    return [LongReport() for _ in range(count)]


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def in_time() -> None:
        async with asyncio.timeout(LIMIT_S):
            await main()

    asyncio.run(in_time())


async def flood(bus: EventBus, size_bytes: int) -> None:
    """Publish so many bytes from eight tasks without a pause."""

    async def publisher() -> None:
        for _ in range(size_bytes // 8 // 10_000):
            assert await bus.publish_many(reports(5)) == 5

    await asyncio.gather(*(publisher() for _ in range(8)))


@contextmanager
def watched(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[type, bool]]]:
    """Note of each step of a checkpoint its kind, and whether it was performed in the main thread."""
    seen: list[tuple[type, bool]] = []

    def watch(kind: Any) -> None:
        perform = kind.perform

        def noted(task: Any) -> None:
            seen.append((type(task), threading.current_thread() is threading.main_thread()))
            perform(task)

        patched.setattr(kind, "perform", noted)

    with monkeypatch.context() as patched:
        for kind in (SyncTask, CheckpointTask):
            watch(kind)
        yield seen


def test_a_busy_bus_keeps_its_log_short_and_makes_no_checkpoint_on_its_loop(
    journal: SqliteJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        bus = a_bus(journal, level="process")
        bus.subscribe("long_report", Named("desk").on_event)
        async with bus:
            with watched(monkeypatch) as seen:
                await flood(bus, 10 * MAX_BYTES)
                assert journal.log_state.size_bytes < 2 * MAX_BYTES
                assert len([kind for kind, _ in seen if kind is CheckpointTask]) > 5
                assert not any(is_main for _, is_main in seen)
            await bus.join()

    run(main)


def test_commits_go_on_while_the_log_is_synced_and_wait_while_it_is_copied(
    journal: SqliteJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_end = {SyncTask: threading.Event(), CheckpointTask: threading.Event()}
    begun = {SyncTask: threading.Event(), CheckpointTask: threading.Event()}

    def stop_at(kind: Any) -> None:
        perform = kind.perform

        def waiting(task: Any) -> None:
            begun[kind].set()
            may_end[kind].wait(LIMIT_S)
            perform(task)

        monkeypatch.setattr(kind, "perform", waiting)

    async def main() -> None:
        bus = a_bus(journal, level="process")
        async with bus:
            stop_at(SyncTask)
            stop_at(CheckpointTask)
            try:
                while not begun[SyncTask].is_set():
                    await bus.publish_many(reports(5))
                await bus.publish_many(reports(5))  # the log is being synced, and it is True
                may_end[SyncTask].set()
                await asyncio.to_thread(begun[CheckpointTask].wait, LIMIT_S)
                await asyncio.sleep(0)
                waiting = asyncio.ensure_future(bus.publish_many(reports(5)))
                done, _ = await asyncio.wait({waiting}, timeout=0.05)
                assert not done
                may_end[CheckpointTask].set()
                assert await waiting == 5
            finally:
                for event in may_end.values():
                    event.set()

    run(main)


def test_where_the_disk_does_not_end_a_checkpoint_commits_wait_at_the_bound_of_the_log(
    journal: SqliteJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_end = threading.Event()
    perform = SyncTask.perform

    def waiting(task: SyncTask) -> None:
        may_end.wait(LIMIT_S)
        perform(task)

    async def main() -> None:
        bus = a_bus(journal, level="process")
        bus.subscribe("long_report", Named("desk").on_event)
        async with bus:
            monkeypatch.setattr(SyncTask, "perform", waiting)
            flooding = asyncio.ensure_future(flood(bus, 10 * MAX_BYTES))
            try:
                head = -1
                while journal.head > head or journal.head == 0:
                    head = journal.head
                    await asyncio.sleep(0.2)
                assert not flooding.done()
                assert MAX_BYTES / 2 < journal.log_state.size_bytes < 2 * MAX_BYTES
            finally:
                may_end.set()
            await flooding
            await bus.join()

    run(main)


def test_who_reads_on_from_the_journal_waits_for_a_checkpoint_and_goes_on_behind_it(
    journal: SqliteJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[bool] = []

    async def main() -> None:
        bus = a_bus(journal, level="process")
        desk = Named("desk")
        subscription = bus.subscribe("long_report", desk.on_event)
        async with bus:
            store = bus._admission.store
            shared = store._bus.holds
            perform = CheckpointTask.perform

            def noted(task: CheckpointTask) -> None:
                held.append(Hold.READS_WAIT in shared._set)
                perform(task)

            monkeypatch.setattr(CheckpointTask, "perform", noted)
            subscription.pause()
            store.fall_behind(subscription, subscription.offsets.by_lane["normal"])
            while not held:
                await bus.publish_many(reports(10))
                await asyncio.sleep(0.01)
            assert all(held)
            subscription.resume()
            await bus.join()
            assert len(desk.handled) == journal.head
            assert not shared._set

    run(main)


def test_after_the_stop_a_journal_makes_its_checkpoints_itself_again(journal: SqliteJournal) -> None:
    async def main() -> None:
        async with a_bus(journal, level="process"):
            assert not journal._is_inline

    asyncio.run(main())
    assert journal._is_inline
