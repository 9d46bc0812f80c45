"""A journal whose file is taken away under a running bus: nothing more is accepted into nowhere (CONTRACT 1, 16)."""

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from bus_helpers import an_order, virtual

from openoutcry import ConfigError, EventBus, PersistenceConfig
from openoutcry.errors import JournalDead


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


@pytest.mark.parametrize("wrong", ["x.db", 3])
def test_a_journal_that_is_none_is_refused_at_once(wrong: object) -> None:
    with pytest.raises(ConfigError, match="PersistenceConfig"):
        EventBus(journal=wrong)  # type: ignore[arg-type]


@virtual
async def test_a_level_that_is_no_word_is_named_also_without_a_journal() -> None:
    async with EventBus() as bus:
        with pytest.raises(ConfigError, match="memory, process, disk"):
            await bus.publish(an_order(), level="bogus")  # type: ignore[arg-type]
