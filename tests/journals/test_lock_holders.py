"""Who reads a journal, where the system tells."""

import os
from pathlib import Path

import pytest
from journal_kit import a_reader, entries

from openoutcry.journals import JournalReader, SqliteJournal
from openoutcry.journals.lock_holders import readers_of

needs_locks = pytest.mark.skipif(not Path("/proc/locks").exists(), reason="the system tells nobody's locks")


@needs_locks
def test_another_process_that_reads_is_named_for_as_long_as_it_reads(tmp_path: Path) -> None:
    path = tmp_path / "firm.db"
    with SqliteJournal(path) as journal:
        journal.write(entries(1))
        assert readers_of(path) == []
        with a_reader(path) as pid:
            journal.write(entries(1))
            assert readers_of(path) == [pid]
        assert readers_of(path) == []


@needs_locks
def test_a_reader_of_this_process_is_found_in_the_middle_of_a_batch_alone(tmp_path: Path) -> None:
    with SqliteJournal(tmp_path / "firm.db") as journal:
        journal.write(entries(1))
        journal.write(entries(1))
        with JournalReader(journal.path) as reader:
            rows = reader._log.forwards()
            next(rows)
            assert readers_of(journal.path) == [os.getpid()]
            rows.close()
            assert readers_of(journal.path) == []


def test_of_a_journal_that_is_not_open_nobody_is_a_reader(tmp_path: Path) -> None:
    assert readers_of(tmp_path / "firm.db") == []
