"""Damaged journal files: what is read was written, damage is a `JournalError`, and nothing is lost by looking."""

import sqlite3

import pytest
from campaigns.fuzz_files import OPERATION
from campaigns.fuzz_journal import JOURNAL
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from openoutcry.errors import JournalCorrupt
from openoutcry.journals import JournalReader, SqliteJournal
from openoutcry.journals.recovery import recover_into
from openoutcry.ports import Entry

ENGINES = ("apsw", "sqlite3")
BYTE = st.integers(0, 255)
DAMAGE = st.builds(OPERATION.pack, st.integers(0, 2), st.integers(0, 7), st.integers(0, 2**21), BYTE, BYTE)


@pytest.mark.parametrize("part", range(4))
def test_every_kind_of_damage_to_every_file_is_noticed_or_harmless(part):
    for recipe in JOURNAL.seeds()[part::4]:
        JOURNAL.run(recipe)


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 2), st.integers(0, 1), st.lists(DAMAGE, min_size=1, max_size=3))
def test_damage_in_several_places_gives_nothing_that_was_not_written(kind, engine, damage):
    JOURNAL.run(bytes([kind, engine]) + b"".join(damage))


def recover(path, engine):
    recover_into(path, path.with_name("new.db"), engine=engine)


def crashed(tmp_path, engine):
    """Return the path of a journal's files as a crash leaves them."""
    whole, path = tmp_path / "whole.db", tmp_path / "firm.db"
    with SqliteJournal(whole, engine=engine) as journal:
        journal.write([Entry(f"e{n}", b'{"event_type":"weather"}') for n in range(5)])
        for ending in ("", "-wal", "-marks"):
            (tmp_path / f"firm.db{ending}").write_bytes((tmp_path / f"whole.db{ending}").read_bytes())
    return path


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("take", [JournalReader, SqliteJournal, recover], ids=["read", "open", "recover"])
def test_a_write_ahead_log_beside_an_emptied_file_is_left_alone(tmp_path, engine, take):
    path = crashed(tmp_path, engine)
    whole, log = path.read_bytes(), (tmp_path / "firm.db-wal").read_bytes()
    path.write_bytes(b"")
    with pytest.raises(JournalCorrupt, match="write-ahead log is not"):
        take(path, engine=engine)
    assert (tmp_path / "firm.db-wal").read_bytes() == log
    path.write_bytes(whole)
    with SqliteJournal(path, engine=engine) as journal:
        assert len(journal.read(0, 10)) == 5


def test_verify_says_that_the_list_of_gaps_is_damaged(tmp_path):
    path = tmp_path / "firm.db"
    with SqliteJournal(path, engine="sqlite3") as journal:
        journal.write([Entry("e1", b'{"event_type":"weather"}')])
    with sqlite3.connect(path) as db:
        db.execute("DROP TABLE gaps")
        db.execute("CREATE TABLE gaps (first, last)")
        db.execute("INSERT INTO gaps VALUES('two', 'three')")
    db.close()
    with JournalReader(path) as reader:
        verified = reader.verify()
    assert not verified.intact
    assert "gaps" in verified.problems[0].what
