"""Checkpoints of a running bus: beside its commits, never on its loop, and the log stays bounded."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from durable_kit import Named, a_bus
from journal_kit import without_apsw

from openoutcry import Event, EventBus
from openoutcry.core.holds import Hold
from openoutcry.journals import SqliteJournal, sqlite
from openoutcry.journals.disk_tasks import BesideTask, CheckpointTask, SyncTask

DUE_BYTES = 64 * 1024
MAX_BYTES = 1024 * 1024
LIMIT_S = 60.0


@pytest.fixture(params=["sqlite3", pytest.param("apsw", marks=without_apsw)])
def journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[SqliteJournal]:
    """A journal of which small logs are due, with either kind of the step that is made beside commits."""
    monkeypatch.setattr(sqlite, "WAL_DUE_BYTES", DUE_BYTES)
    monkeypatch.setattr(sqlite, "is_unsafe", lambda _: request.param == "sqlite3")
    with SqliteJournal(tmp_path / "firm.db", engine=request.param, wal_max_bytes=MAX_BYTES) as made:
        yield made


def ahead(journal: SqliteJournal) -> type[SyncTask | BesideTask]:
    """The kind of the step that is made beside commits."""
    return BesideTask if journal._has_beside else SyncTask


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
                kinds = [kind for kind, _ in seen]
                assert kinds.count(CheckpointTask) > 5
                assert kinds.count(ahead(journal)) >= kinds.count(CheckpointTask)
                assert not any(is_main for _, is_main in seen)
            await bus.join()

    run(main)


def test_commits_go_on_beside_the_first_step_and_wait_for_the_last_one(
    journal: SqliteJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = (ahead(journal), CheckpointTask)
    may_end = {kind: threading.Event() for kind in kinds}
    begun = {kind: threading.Event() for kind in kinds}

    def stop_at(kind: Any) -> None:
        perform = kind.perform

        def waiting(task: Any) -> None:
            if type(task) is kind:
                begun[kind].set()
                may_end[kind].wait(LIMIT_S)
            perform(task)

        monkeypatch.setattr(kind, "perform", waiting)

    def is_long() -> bool:
        return journal.log_state.size_bytes > 0.8 * MAX_BYTES

    async def main() -> None:
        bus = a_bus(journal, level="process")
        async with bus:
            for kind in kinds:
                stop_at(kind)
            try:
                while not begun[kinds[0]].is_set():
                    await bus.publish_many(reports(5))
                while not is_long():  # commits go on meanwhile
                    await bus.publish_many(reports(5))
                may_end[kinds[0]].set()
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
    kind: Any = ahead(journal)
    perform = kind.perform

    def waiting(task: Any) -> None:
        may_end.wait(LIMIT_S)
        perform(task)

    async def main() -> None:
        bus = a_bus(journal, level="process")
        bus.subscribe("long_report", Named("desk").on_event)
        async with bus:
            monkeypatch.setattr(kind, "perform", waiting)
            maintenance = bus._admission.store._maintenance
            flooding = asyncio.ensure_future(flood(bus, 10 * MAX_BYTES))
            try:
                while maintenance._release is None:  # noqa: ASYNC110 - commits are held back
                    await asyncio.sleep(0.01)
                head = journal.head
                await asyncio.sleep(0.05)
                assert journal.head == head
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
                if task.excludes_writers:
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
            assert not journal._log_size.is_inline

    asyncio.run(main())
    assert journal._log_size.is_inline
