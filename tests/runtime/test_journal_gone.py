"""A journal whose file is taken away under a running bus: nothing more is accepted into nowhere (CONTRACT 1, 16)."""

import asyncio
import os
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from bus_helpers import an_order, virtual

from openoutcry import (
    ConfigError,
    EventBus,
    EventBusHealthStatus,
    HealthCheckConfig,
    HealthCheckResult,
    PersistenceConfig,
)
from openoutcry.errors import JournalDead
from openoutcry.journals import SqliteJournal
from openoutcry.ports import Entry

without_apsw = pytest.mark.skipif(find_spec("apsw") is None, reason="apsw is not installed")


def remove(path: Path) -> None:
    path.unlink()


def replace(path: Path) -> None:
    shutil.copy(path, path.with_name("copy"))
    path.with_name("copy").replace(path)


def remove_log(path: Path) -> None:
    path.with_name(path.name + "-wal").unlink()


def remove_folder(path: Path) -> None:
    shutil.rmtree(path.parent)


@pytest.mark.parametrize("do", [remove, replace, remove_log, remove_folder])
def test_what_is_published_after_the_file_is_gone_raises(tmp_path: Path, do: Callable[[Path], None]) -> None:
    (tmp_path / "data").mkdir()
    path = tmp_path / "data" / "firm.db"

    @virtual
    async def main() -> None:
        bus = EventBus(persistence_config=PersistenceConfig(path=path, socket=False))
        errors: list[Exception] = []
        bus.on_journal_error(errors.append)
        await bus.start()
        assert await bus.publish(an_order())
        do(path)
        await asyncio.sleep(0.5)
        with pytest.raises(JournalDead, match=r"removed|replaced"):
            await bus.publish(an_order())
        assert errors
        with pytest.raises(JournalDead):
            await bus.publish(an_order())
        await bus.stop()

    main()


def cut(ending: str, share: float) -> Callable[[Path], None]:
    def do(path: Path) -> None:
        file = path.with_name(path.name + ending)
        os.truncate(file, int(file.stat().st_size * share))

    return do


def overwrite_log(path: Path) -> None:
    path.with_name(path.name + "-wal").write_bytes(b"x" * 10_000_000)


def remove_index(path: Path) -> None:
    path.with_name(path.name + "-shm").unlink()


def remove_marks(path: Path) -> None:
    path.with_name(path.name + "-marks").unlink()


HARMS: dict[str, tuple[Callable[[Path], None], str, bool]] = {
    # what is done, which file is named, whether recovery goes on by itself
    "the database is removed": (remove, "firm.db was removed", False),
    "the database is replaced": (replace, "firm.db was replaced", True),
    "the database is emptied": (cut("", 0), "firm.db was truncated", False),
    "the database is halved": (cut("", 0.5), "firm.db was truncated", True),
    "the log is removed": (remove_log, "firm.db-wal was removed", True),
    "the log is emptied": (cut("-wal", 0), "firm.db-wal was truncated", True),
    "the log is halved": (cut("-wal", 0.5), "firm.db-wal was truncated", True),
    "the log is overwritten": (overwrite_log, "firm.db-wal was truncated or overwritten", True),
    "the index is removed": (remove_index, "firm.db-shm was removed", True),
    "the index is emptied": (cut("-shm", 0), "firm.db-shm was truncated", True),
    "the index is halved": (cut("-shm", 0.5), "firm.db-shm was truncated", True),
    "the marks are removed": (remove_marks, "firm.db-marks was removed", True),
    "the marks are emptied": (cut("-marks", 0), "firm.db-marks was truncated", True),
    "the marks are halved": (cut("-marks", 0.5), "firm.db-marks was truncated", True),
    "the folder is removed": (remove_folder, "firm.db was removed", False),
}


def a_bus(path: Path, engine: Any, *, recover: bool) -> EventBus:
    settings = PersistenceConfig(path=path, socket=False, engine=engine)
    return EventBus(persistence_config=settings, health_check_config=HealthCheckConfig(recover=recover))


def prepared(path: Path) -> None:
    """Enough for a checkpoint to have been made, and a log with something in it."""

    @virtual
    async def main() -> None:
        async with EventBus(persistence_config=PersistenceConfig(path=path, socket=False)) as bus:
            for _ in range(8):
                await bus.publish_many([an_order() for _ in range(100)])

    main()


@pytest.mark.parametrize("engine", ["sqlite3", pytest.param("apsw", marks=without_apsw)])
@pytest.mark.parametrize("harm", HARMS)
def test_on_an_idle_bus_it_is_noticed_within_a_health_interval(
    tmp_path: Path, harm: str, engine: str
) -> None:
    (tmp_path / "data").mkdir()
    path = tmp_path / "data" / "firm.db"
    prepared(path)
    do, said, _ = HARMS[harm]

    @virtual
    async def main() -> None:
        bus = a_bus(path, engine, recover=False)
        seen: list[HealthCheckResult] = []
        bus.on_health_change(seen.append)
        await bus.start()
        await bus.publish_many([an_order() for _ in range(20)])
        await asyncio.sleep(30)
        assert seen[-1].is_healthy
        do(path)
        await asyncio.sleep(1.01)
        assert seen[-1].status is EventBusHealthStatus.UNHEALTHY
        assert said in seen[-1].message
        with pytest.raises(JournalDead, match=said):
            await bus.publish(an_order(), level="disk")
        await bus.stop()

    main()


@pytest.mark.parametrize("harm", HARMS)
def test_recovery_goes_on_in_a_new_file_or_says_what_to_do(tmp_path: Path, harm: str) -> None:
    (tmp_path / "data").mkdir()
    path = tmp_path / "data" / "firm.db"
    prepared(path)
    do, _, goes_on = HARMS[harm]

    @virtual
    async def main() -> None:
        bus = a_bus(path, "auto", recover=True)
        await bus.start()
        await bus.publish_many([an_order() for _ in range(20)])
        do(path)
        async with asyncio.timeout(60):
            while not (bus.is_healthy and path.with_name("firm.db.dead-1").exists()):
                await asyncio.sleep(0.5)
                result = await bus.check_health()
                if "recovery failed" in result.message:
                    break
        assert bus.is_healthy == goes_on, result.message
        if goes_on:
            assert await bus.publish(an_order(), level="disk")
        else:
            assert "put" in result.message
            with pytest.raises(JournalDead):
                await bus.publish(an_order(), level="disk")
        await bus.stop()

    main()


@pytest.mark.parametrize("ending", ["-wal", ""])
def test_on_a_busy_bus_what_is_cut_off_and_written_to_again_is_noticed(tmp_path: Path, ending: str) -> None:
    path = tmp_path / "firm.db"
    prepared(path)

    @virtual
    async def main() -> None:
        bus = a_bus(path, "auto", recover=False)
        await bus.start()
        await bus.publish_many([an_order() for _ in range(500)])
        cut(ending, 0.5)(path)
        accepted = 0

        async def publish_on() -> None:
            nonlocal accepted
            while accepted < 1_000:
                accepted += await bus.publish(an_order(), level="disk")
                await asyncio.sleep(0.01)

        with pytest.raises(JournalDead, match="truncated"):
            await publish_on()
        assert accepted <= 110
        await bus.stop()

    main()


@pytest.mark.skipif(os.geteuid() != 0, reason="root can read everything, and become another user")
@pytest.mark.parametrize("ending", ["", "-wal", "-shm", "-marks"])
def test_a_file_that_was_made_unreadable_is_noticed(tmp_path: Path, ending: str) -> None:
    path = tmp_path / "firm.db"
    with SqliteJournal(path) as journal:
        file = path.with_name(path.name + ending)
        file.chmod(0o640)
        journal.look_after()
        file.chmod(0)
        os.seteuid(65_534)
        try:
            with pytest.raises(JournalDead, match=r"made unreadable for user 65534.*chmod|cannot be reached"):
                journal.look_after()
        finally:
            os.seteuid(0)


@virtual
async def test_space_given_back_to_the_disk_is_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "firm.db"
    with SqliteJournal(path) as journal:
        for _ in range(40):
            journal.write(
                [Entry(f"{n}-{_}", b'{"event_id":"%d-%d"}' % (n, _) + b" " * 9_000) for n in range(9)]
            )
        while journal.idle():
            pass
        before = path.stat().st_size
        while journal.retire(keep_count=9, past_cursors=True):
            journal.look_after(thoroughly=True)
        while journal.vacuum():
            journal.look_after(thoroughly=True)
        while journal.idle():
            journal.look_after(thoroughly=True)
        assert path.stat().st_size < before
        journal.look_after(thoroughly=True)
        os.truncate(path, 4096)
        with pytest.raises(JournalDead, match="truncated"):
            journal.look_after()


@pytest.mark.parametrize("wrong", ["x.db", 3])
def test_a_journal_that_is_none_is_refused_at_once(wrong: object) -> None:
    with pytest.raises(ConfigError, match="PersistenceConfig"):
        EventBus(journal=wrong)  # type: ignore[arg-type]


@virtual
async def test_a_level_that_is_no_word_is_named_also_without_a_journal() -> None:
    async with EventBus() as bus:
        with pytest.raises(ConfigError, match="memory, process, disk"):
            await bus.publish(an_order(), level="bogus")  # type: ignore[arg-type]
