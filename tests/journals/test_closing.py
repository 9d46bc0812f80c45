"""A journal that was closed is whole in its database file alone, unless a reader hinders it."""

import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
from journal_kit import entries, names, without_apsw

from openoutcry import EventBus, PersistenceConfig
from openoutcry.errors import JournalDead
from openoutcry.journals import JournalReader, SqliteJournal
from openoutcry.journals.engines import connect
from openoutcry.testing import run_virtual
from openoutcry.trading import KillSwitchEvent

ENGINES = ["sqlite3", pytest.param("apsw", marks=without_apsw)]
pytestmark = pytest.mark.parametrize("engine", ENGINES)


def copied_head(path: Path, engine: Any) -> int:
    """The head of a plain copy of the database file."""
    other = path.with_name("copied.db")
    shutil.copy(path, other)
    with SqliteJournal(other, engine=engine) as journal:
        return journal.head


def test_without_readers_the_log_is_gone(tmp_path: Path, engine: Any) -> None:
    path = tmp_path / "firm.db"
    with SqliteJournal(path, engine=engine) as journal:
        journal.write(entries(500))
    assert names(tmp_path) == ["firm.db", "firm.db-marks"]
    assert copied_head(path, engine) == 500


def test_with_a_reader_attached_the_log_is_empty(tmp_path: Path, engine: Any) -> None:
    path = tmp_path / "firm.db"
    journal = SqliteJournal(path, engine=engine)
    journal.write(entries(500))
    with JournalReader(path, engine=engine) as reader:
        assert reader.head == 500
        journal.close()
        assert Path(f"{path}-wal").stat().st_size == 0
        assert copied_head(path, engine) == 500
        assert reader.head == 500


def test_with_a_reader_of_the_newest_pages_the_database_is_whole_and_nothing_is_said(
    tmp_path: Path, engine: Any, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "firm.db"
    journal = SqliteJournal(path, engine=engine)
    journal.write(entries(500))
    reader = connect(path, engine, "ro")
    reader.run("BEGIN")
    assert list(reader.rows("SELECT count(*) FROM batches")) == [(1,)]
    journal.close()
    assert copied_head(path, engine) == 500
    reader.close()
    assert caplog.text == ""


def test_a_reader_of_older_pages_keeps_them_in_the_log_which_is_said(
    tmp_path: Path, engine: Any, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "firm.db"
    journal = SqliteJournal(path, engine=engine)
    journal.write(entries(500))
    reader = connect(path, engine, "ro")
    reader.run("BEGIN")
    assert list(reader.rows("SELECT count(*) FROM batches")) == [(1,)]
    journal.write(entries(500))
    with caplog.at_level(logging.WARNING):
        journal.close()
    (record,) = caplog.records
    assert "since another program is reading older pages; nothing is lost" in record.getMessage()
    assert "use `openoutcry backup`" in record.getMessage()
    reader.close()
    with SqliteJournal(path, engine=engine) as again:
        assert again.head == 1_000


def test_a_failed_last_checkpoint_ends_the_generation_and_leaves_the_log(
    tmp_path: Path, engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "firm.db"
    journal = SqliteJournal(path, engine=engine)
    journal.write(entries(500))
    connection = journal._db
    rows = connection.rows

    def fail(sql: str, values: Any = ()) -> Any:
        if "wal_checkpoint" in sql:
            raise connection.error("disk I/O error")
        return rows(sql, values)

    monkeypatch.setattr(connection, "rows", fail)
    with pytest.raises(JournalDead, match="the last checkpoint failed"):
        journal.close()
    assert Path(f"{path}-wal").stat().st_size > 0
    with pytest.raises(JournalDead):
        SqliteJournal(path, engine=engine)


def test_a_bus_that_has_stopped_beside_a_reader_can_be_copied(tmp_path: Path, engine: Any) -> None:
    path = tmp_path / "firm.db"

    async def live() -> None:
        bus = EventBus(persistence_config=PersistenceConfig(path=path, engine=engine, record="off"))
        await bus.start()
        await bus.publish(KillSwitchEvent(event_id="k1", reason="drill", source_agent="risk", activated=True))
        with JournalReader(path, engine=engine) as reader:
            assert reader.first == 1
            await bus.stop()
            assert copied_head(path, engine) == 1

    run_virtual(live())
