"""The room of a running bus's journal: what health and `status` say of it."""

import asyncio
import os
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from durable_kit import Named, a_bus, settings
from journal_kit import a_reader

from openoutcry import Event, EventBus, EventBusHealthStatus
from openoutcry.journals import SqliteJournal, disk_room, sqlite
from openoutcry.ports import LogState
from openoutcry.runtime.durability import disk_watch

DUE_BYTES = 64 * 1024
MAX_BYTES = 1024 * 1024
LIMIT_S = 60.0


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SqliteJournal]:
    """A journal of which small logs are due."""
    monkeypatch.setattr(sqlite, "WAL_DUE_BYTES", DUE_BYTES)
    with SqliteJournal(tmp_path / "firm.db", wal_max_bytes=MAX_BYTES) as made:
        yield made


class LargeReport(Event, kw_only=True):
    event_type: str = "large_report"
    text: str = "x" * 2_000


def reports(count: int) -> list[LargeReport]:
    return [LargeReport() for _ in range(count)]


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def in_time() -> None:
        async with asyncio.timeout(LIMIT_S):
            await main()

    asyncio.run(in_time())


async def until(holds: Callable[[], bool]) -> None:
    while not holds():  # noqa: ASYNC110 - a thread makes it true
        await asyncio.sleep(0.01)


async def flood(bus: EventBus, size_bytes: int) -> None:
    """Publish so many bytes from eight tasks without a pause."""

    async def publisher() -> None:
        for _ in range(size_bytes // 8 // 10_000):
            assert await bus.publish_many(reports(5)) == 5

    await asyncio.gather(*(publisher() for _ in range(8)))


def test_who_reads_is_not_asked_again_at_each_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def readers(path: Path) -> list[int]:
        asked.append(path)
        return [17]

    monkeypatch.setattr(disk_watch, "readers_of", readers)

    async def main() -> None:
        file: Any = SimpleNamespace(log_state=LogState(10**9, "reader"), path=tmp_path)
        bus: Any = SimpleNamespace(clock=SimpleNamespace(now_ns=lambda: 0))
        watch = disk_watch.DiskWatch(file, bus)
        for _ in range(20):
            watch.findings()
            assert watch._asking is not None
            await asyncio.wait([watch._asking])
            await asyncio.sleep(0)
        assert "process 17" in " ".join(watch.findings())
        assert len(asked) == 2, "once, and once more for what was new"

    run(main)


@pytest.mark.skipif(not Path("/proc/locks").exists(), reason="the system tells nobody's locks")
def test_a_reader_that_does_not_end_lets_the_log_grow_and_is_named_until_it_ends(
    journal: SqliteJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk_room, "LOG_BYTES_MAX", MAX_BYTES)

    async def told(bus: EventBus) -> list[str]:
        health = await bus.check_health()
        return [one.detail for one in health.findings if one.check == "disk"]

    async def main() -> None:
        bus = a_bus(journal, level="process")
        bus.subscribe("large_report", Named("desk").on_event)
        async with bus:
            await bus.publish_many(reports(5))
            with a_reader(journal.path) as pid:
                await flood(bus, 4 * MAX_BYTES)
                await bus.join()
                await until(lambda: journal.log_state.hindered == "reader")
                assert journal.log_state.size_bytes > 3 * MAX_BYTES
                while not (said := " ".join(await told(bus))).count(f"process {pid}"):  # noqa: ASYNC110 - as above
                    await asyncio.sleep(0.01)  # a thread finds out who reads
                assert f"{journal.log_state.size_bytes:,} bytes" in said
                assert "a reader that does not end keeps it from starting over, for" in said
                assert (await bus.check_health()).status is EventBusHealthStatus.DEGRADED
                assert bus.get_status()["journal"]["disk"] == await told(bus)
            await until(lambda: not journal.log_state.hindered)
            await bus.publish(LargeReport())
            await bus.join()
            monkeypatch.setattr(disk_watch, "EVERY_NS", 0)
            assert await told(bus) == []

    run(main)


def test_a_file_system_that_is_nearly_full_is_found_before_a_write_fails(
    journal: SqliteJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    statvfs = os.statvfs

    def nearly_full(path: Path) -> Any:
        asked.append(path)
        found = list(statvfs(path))
        found[4] = 1_000_000 // found[1]  # the blocks that are free for this user
        return os.statvfs_result(found)

    monkeypatch.setattr(os, "statvfs", nearly_full)

    async def main() -> None:
        async with a_bus(journal, level="process") as bus:
            await bus.publish(LargeReport())
            for _ in range(20):
                health = await bus.check_health()
            (found,) = [one.detail for one in health.findings if one.check == "disk"]
            assert "bytes left, and 13" in found
            assert health.status is not EventBusHealthStatus.HEALTHY
            assert len(asked) < 10, "the file system is asked every few seconds"

    run(main)


def test_what_was_left_where_the_next_journal_goes_is_a_finding_until_it_is_moved(tmp_path: Path) -> None:
    path = tmp_path / "firm.db"
    planted = Path(f"{path}.next")
    plant, remove = planted.write_bytes, planted.unlink

    async def main() -> None:
        async with EventBus(persistence_config=settings(path=path)) as bus:
            assert bus.get_status()["journal"]["disk"] == []
        plant(b"what is this")
        async with EventBus(persistence_config=settings(path=path)) as bus:
            (finding,) = (one for one in (await bus.check_health()).findings if one.check == "disk")
            assert finding.detail.startswith(f"{planted} is left alone and not used, since ")
            assert finding.culprit == "journal"
            assert bus.get_status()["journal"]["disk"] == [finding.detail]
            remove()
            assert (await bus.check_health()).status is EventBusHealthStatus.HEALTHY
            assert bus.get_status()["journal"]["disk"] == []

    run(main)
