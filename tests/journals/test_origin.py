"""The origin of a journal: random, sealed, and kept by every copy (CONTRACT 18)."""

import shutil
import sqlite3
from pathlib import Path

import pytest

from openoutcry.errors import JournalCorrupt
from openoutcry.events import derived_id, stamps
from openoutcry.events.derived import Derivation
from openoutcry.journals import MemoryJournal, SqliteJournal, recover_into
from openoutcry.ports import Entry

KEY = b"0123456789abcdef"


def an_entry(number: int) -> Entry:
    return Entry(f"id-{number}", b'{"event_id":"id-%d","event_type":"x"}' % number)


def change(path: Path, statement: str) -> None:
    with sqlite3.connect(path) as db:
        db.execute(statement)
    db.close()


@pytest.mark.parametrize("key", [None, KEY], ids=["plain", "keyed"])
def test_a_new_file_has_one_of_its_own_and_keeps_it(tmp_path: Path, key: bytes | None):
    with SqliteJournal(tmp_path / "one.db", key=key) as one, SqliteJournal(tmp_path / "two.db") as two:
        origin = one.origin
        assert origin
        assert origin != two.origin
        one.write([an_entry(1)])
    with SqliteJournal(tmp_path / "one.db", key=key) as one:
        assert one.origin == origin


@pytest.mark.parametrize("key", [None, KEY], ids=["plain", "keyed"])
def test_a_copy_and_a_recovery_have_the_same_and_another_generation(tmp_path: Path, key: bytes | None):
    with SqliteJournal(tmp_path / "one.db", key=key) as one:
        one.write([an_entry(1)])
        origin, generation = one.origin, one.generation
    shutil.copy(tmp_path / "one.db", tmp_path / "copy.db")
    found = recover_into(tmp_path / "one.db", tmp_path / "new.db", key=key)
    assert found.beside == ()
    for name in ("copy.db", "new.db"):
        with SqliteJournal(tmp_path / name, key=key) as journal:
            assert journal.origin == origin
    with SqliteJournal(tmp_path / "new.db", key=key) as journal:
        assert journal.generation != generation


def test_a_file_of_a_version_that_had_none_has_none_also_when_recovered(tmp_path: Path):
    """So what was derived with that version is derived again in the same way."""
    with SqliteJournal(tmp_path / "one.db") as journal:
        journal.write([an_entry(1)])
    change(tmp_path / "one.db", "DELETE FROM meta WHERE key = 'origin'")
    assert recover_into(tmp_path / "one.db", tmp_path / "new.db").beside == ()
    for name in ("one.db", "new.db"):
        with SqliteJournal(tmp_path / name) as journal:
            assert journal.origin == ""


def test_a_damaged_origin_is_noticed_and_recovery_says_so(tmp_path: Path):
    with SqliteJournal(tmp_path / "one.db") as journal:
        journal.write([an_entry(1)])
    change(tmp_path / "one.db", "UPDATE meta SET value = 'mine' WHERE key = 'origin'")
    with pytest.raises(JournalCorrupt, match="origin"):
        SqliteJournal(tmp_path / "one.db")
    found = recover_into(tmp_path / "one.db", tmp_path / "new.db")
    assert found.entries == 1
    assert any("origin" in line for line in found.beside)
    with SqliteJournal(tmp_path / "new.db") as journal:
        assert journal.origin == "mine"


def test_the_journal_in_memory_draws_it_from_the_injected_source():
    numbers = iter(range(10))
    with stamps("e", lambda: next(numbers)):
        one, two = MemoryJournal().origin, MemoryJournal().origin
    with stamps("e", lambda: next(numbers)):
        assert MemoryJournal().origin == one
    assert one != two
    assert MemoryJournal().origin != MemoryJournal().origin
    assert MemoryJournal("mine").reopened().origin == "mine"


def test_ids_differ_by_origin_and_an_empty_one_derives_as_before():
    assert derived_id("", "cause", "risk", 0) == "10e1e20737a356c649b4be633e-0"
    origins = ["", "a", "b", "a" * 64, "a" * 65, "a" * 66, "\ud800"]
    assert len({derived_id(origin, "cause", "risk", 0) for origin in origins}) == len(origins)
    assert Derivation("o", "c", "s", 3).next() == derived_id("o", "c", "s", 3)


def test_a_derivation_knows_its_ids_and_those_of_its_tasks():
    call = Derivation("o", "cause", "risk")
    assert not call.has_made("anything")
    branch = call.branch()
    inner = branch.branch()
    made = [call.next(), branch.next(), inner.next()]
    for one in (call, branch, inner):
        assert all(one.has_made(event_id) for event_id in made)
    assert not call.has_made(Derivation("p", "cause", "risk").next())
