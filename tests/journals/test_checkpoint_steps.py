"""Checkpoints in steps: most of it beside commits, the end of it while nobody writes."""

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from journal_kit import a_reader, checkpoint, entries, verify, without_apsw

from openoutcry.errors import JournalDead
from openoutcry.journals import SqliteJournal, sqlite
from openoutcry.journals.disk_tasks import BesideTask, CheckpointTask, SyncTask
from openoutcry.journals.engines import EngineName
from openoutcry.ports import LogState

DUE_BYTES = 64 * 1024
MAX_BYTES = 1024 * 1024


@pytest.fixture(params=["sqlite3", pytest.param("apsw", marks=without_apsw)])
def engine(request: pytest.FixtureRequest) -> EngineName:
    chosen: EngineName = request.param
    return chosen


@pytest.fixture
def of_steps(tmp_path: Path, engine: EngineName, monkeypatch: pytest.MonkeyPatch) -> Iterator[SqliteJournal]:
    """A journal of which small logs are due, and whose checkpoints are made in steps."""
    monkeypatch.setattr(sqlite, "WAL_DUE_BYTES", DUE_BYTES)
    with SqliteJournal(tmp_path / "firm.db", engine=engine, wal_max_bytes=MAX_BYTES) as made:
        made.make_checkpoints(inline=False)
        yield made


@pytest.fixture
def beside(of_steps: SqliteJournal) -> SqliteJournal:
    """The same, of which the SQLite can copy beside commits (as if, with one connection at a time)."""
    of_steps._has_beside = True
    return of_steps


@pytest.fixture
def unsafe(of_steps: SqliteJournal) -> SqliteJournal:
    """The same, of which the SQLite cannot."""
    of_steps._has_beside = False
    return of_steps


def fill(journal: SqliteJournal, size_bytes: int) -> None:
    for _ in range(size_bytes // 10_000):
        journal.write(entries(1, pad="x" * 10_000))


def steps_of(
    journal: SqliteJournal, *, restarts: bool, meanwhile: Callable[[], object] = lambda: None
) -> list[type]:
    """Make a checkpoint, with something else after each step beside, and return its steps."""
    kinds = []
    step = journal.begin_checkpoint(restarts=restarts)
    while step is not None:
        kinds.append(type(step))
        step.perform()
        if not step.excludes_writers:
            meanwhile()
        step = journal.end_checkpoint(step)
    return kinds


def test_an_sqlite_that_cannot_have_two_connections_syncs_ahead(unsafe: SqliteJournal) -> None:
    fill(unsafe, DUE_BYTES)
    assert steps_of(unsafe, restarts=False, meanwhile=lambda: fill(unsafe, 10_000)) == [
        SyncTask,
        CheckpointTask,
    ]
    assert unsafe.synced == unsafe.head
    assert unsafe.begin_checkpoint() is None


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of the files that were synced by calls of the journal's own."""
    found, fdatasync = [], os.fdatasync

    def noted(fd: int) -> None:
        found.append(os.fstat(fd).st_ino)
        fdatasync(fd)

    monkeypatch.setattr(os, "fdatasync", noted)
    return found


def test_what_was_copied_beside_commits_is_synced_beside_them(
    beside: SqliteJournal, synced: list[int]
) -> None:
    fill(beside, DUE_BYTES)
    step = beside.begin_checkpoint()
    assert isinstance(step, BesideTask)
    synced.clear()
    step.perform()
    assert synced == [beside.path.stat().st_ino]
    last = beside.end_checkpoint(step)
    assert type(last) is CheckpointTask
    last.perform()
    assert beside.end_checkpoint(last) is None
    assert synced == [beside.path.stat().st_ino], "SQLite syncs the rest"


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_an_error_of_that_sync_ends_the_generation(
    beside: SqliteJournal, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise OSError(code, os.strerror(code))

    fill(beside, DUE_BYTES)
    step = beside.begin_checkpoint()
    assert step is not None
    with monkeypatch.context() as patched:
        patched.setattr(os, "fdatasync", fail)
        step.perform()
    assert beside.marks.dead
    with pytest.raises(JournalDead, match="a checkpoint failed"):
        beside.end_checkpoint(step)


def test_a_descriptor_that_was_closed_or_is_another_files_is_not_synced(
    beside: SqliteJournal, synced: list[int], tmp_path: Path
) -> None:
    fd = os.open(tmp_path / "other", os.O_CREAT | os.O_WRONLY)
    beside._files._database_fd = fd
    fill(beside, DUE_BYTES)
    assert steps_of(beside, restarts=True) == [BesideTask, CheckpointTask]
    os.close(fd)
    fill(beside, DUE_BYTES)
    assert steps_of(beside, restarts=True) == [BesideTask, CheckpointTask]
    assert synced == []
    assert verify(beside).intact


def test_what_is_committed_beside_a_copying_is_in_the_next_one(beside: SqliteJournal) -> None:
    fill(beside, DUE_BYTES)
    before = beside.head
    assert steps_of(beside, restarts=False, meanwhile=lambda: fill(beside, DUE_BYTES)) == [BesideTask]
    assert beside.synced == before
    assert steps_of(beside, restarts=False) == [BesideTask]
    assert beside.synced == beside.head
    assert verify(beside).intact


def test_the_log_starts_over_when_nobody_commits_and_when_it_is_nearly_as_long_as_it_may_be(
    beside: SqliteJournal,
) -> None:
    fill(beside, DUE_BYTES)
    assert steps_of(beside, restarts=True) == [BesideTask, CheckpointTask]
    ends = []
    for _ in range(40):
        fill(beside, DUE_BYTES)
        ends.append(steps_of(beside, restarts=False, meanwhile=lambda: fill(beside, 10_000))[-1])
        assert beside.log_state.size_bytes < MAX_BYTES
    assert ends[0] is BesideTask
    assert 2 <= ends.count(CheckpointTask) <= 10


def test_a_log_of_which_all_was_copied_still_starts_over_in_an_idle_moment(beside: SqliteJournal) -> None:
    fill(beside, DUE_BYTES)
    assert steps_of(beside, restarts=False) == [BesideTask]
    assert beside.begin_checkpoint(restarts=False) is None, "there is nothing to copy"
    assert steps_of(beside, restarts=True) == [BesideTask, CheckpointTask]
    assert beside.begin_checkpoint(restarts=True) is None


def test_where_there_can_be_no_second_connection_commits_wait_for_all_of_it(
    beside: SqliteJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("too many open files")

    monkeypatch.setattr(sqlite, "connect", refuse)
    fill(beside, DUE_BYTES)
    assert steps_of(beside, restarts=True) == [BesideTask, CheckpointTask]
    assert beside.synced == beside.head


def test_a_file_that_another_one_has_replaced_gets_nothing_of_the_log(beside: SqliteJournal) -> None:
    fill(beside, DUE_BYTES)
    step = beside.begin_checkpoint()
    assert step is not None
    ours, foreign = beside.path.with_suffix(".ours"), b"another one's"
    beside.path.rename(ours)
    beside.path.write_bytes(foreign)
    step.perform()
    assert beside.path.read_bytes() == foreign
    ours.replace(beside.path)
    assert steps_of(beside, restarts=True) == [BesideTask, CheckpointTask]
    assert verify(beside).intact


def test_an_error_of_the_disk_beside_commits_ends_the_generation(beside: SqliteJournal) -> None:
    fill(beside, DUE_BYTES)
    step = beside.begin_checkpoint()
    assert step is not None
    with pytest.raises(OSError, match="the disk"), beside._turn.taken():
        raise OSError("the disk")
    step.perform()
    assert beside.marks.dead
    with pytest.raises(JournalDead, match="a checkpoint failed"):
        beside.end_checkpoint(step)


def test_a_reader_lets_the_log_grow_and_is_not_tried_in_vain_at_each_commit(
    of_steps: SqliteJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []
    perform = CheckpointTask.perform
    monkeypatch.setattr(CheckpointTask, "perform", lambda task: (tried.append(task), perform(task)))
    of_steps.make_checkpoints(inline=True)
    of_steps.write(entries(1))
    with a_reader(of_steps.path):
        fill(of_steps, 4 * MAX_BYTES)
        assert 2 <= len(tried) <= 8
        assert of_steps.log_state.hindered == "reader"
        size = of_steps.log_state.size_bytes
        assert size > 4 * MAX_BYTES
    checkpoint(of_steps)
    of_steps.write(entries(1))
    assert of_steps.log_state == LogState(size, ""), "it starts over"
    assert verify(of_steps).intact


def test_where_a_runtime_makes_the_checkpoints_neither_writes_nor_idle_moments_make_one(
    of_steps: SqliteJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(CheckpointTask, "perform", lambda _task: pytest.fail("a checkpoint"))
        assert not of_steps.is_log_due
        fill(of_steps, 2 * MAX_BYTES)
        assert of_steps.is_log_due
        while of_steps.idle():
            pass
    assert of_steps.begin_checkpoint() is not None
    assert of_steps.is_log_due, "there is more than the bound: writes are to wait for the one begun"
    of_steps.make_checkpoints(inline=True)
    fill(of_steps, 10_000)
    assert of_steps.synced == of_steps.head
    assert not of_steps.is_log_due


def test_the_log_of_a_closed_journal_has_no_size(of_steps: SqliteJournal) -> None:
    of_steps.write(entries(1))
    of_steps.close()
    assert of_steps.log_state == LogState(0, "")
