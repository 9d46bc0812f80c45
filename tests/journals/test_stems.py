"""New ids of a new process are known to be new before the old ones have been looked up."""

import sqlite3
from pathlib import Path

import pytest
from journal_kit import Factory, entry, without_apsw

from openoutcry.journals import SqliteJournal, recover_into, stems
from openoutcry.journals.stems import MANY, Stems
from openoutcry.ports import Changes, CursorState, Entry

OLD, NEW = "00000000000000aa-", "00000000000000bb-"


def counted(stem: str, *numbers: int) -> list[Entry]:
    return [entry(f"{stem}{number:x}") for number in numbers]


def said(path: Path) -> str | None:
    db = sqlite3.connect(path)
    row = db.execute("SELECT value FROM meta WHERE key = 'stems'").fetchone()
    db.close()
    return None if row is None else str(row[0])


@pytest.fixture(params=["sqlite", "sqlite keyed", pytest.param("sqlite apsw", marks=without_apsw)])
def factory(request: pytest.FixtureRequest, tmp_path: Path) -> Factory:
    """A journal in which one process has written."""
    made = Factory(request.param, tmp_path)
    with made.open_file() as journal:
        journal.write(counted(OLD, 1, 2, 3))
        journal.write(counted(OLD, 4))
    return made


def test_the_first_write_of_a_new_process_does_not_wait_for_the_old_ids(factory: Factory) -> None:
    with factory.open_file() as journal:
        assert journal.write(counted(NEW, 1)).positions == range(5, 6)
        assert journal.write(counted(NEW, 2, 3)).positions == range(6, 8)
        assert journal.find(f"{NEW}2") == 6
        assert journal.find("00000000000000cc-1") is None
        assert journal.write(counted(NEW, 2)).duplicates[0].position == 6
        assert journal._register.is_cold
    assert said(factory.path) == f"{OLD}\n{NEW}"


def test_saving_a_cursor_looks_nothing_up(factory: Factory) -> None:
    with factory.open_file() as journal:
        journal.write((), Changes(cursors=[CursorState(subscription="risk", lane="normal", floor=4)]))
        assert journal._register.is_cold


def test_an_id_of_a_stem_that_is_there_or_of_none_is_looked_up(factory: Factory) -> None:
    with factory.open_file() as journal:
        assert journal.write([*counted(NEW, 1), *counted(OLD, 2)]).duplicates[0].position == 2
        assert not journal._register.is_cold
    with factory.open_file() as journal:
        journal.write([entry("derived")])
        assert not journal._register.is_cold


def test_the_setting_is_written_once_per_stem(factory: Factory, monkeypatch: pytest.MonkeyPatch) -> None:
    with factory.open_file() as journal:
        saved: list[str] = []
        saves = journal._register.stems.saved
        monkeypatch.setattr(Stems, "saved", lambda _, text: (saved.append(text), saves(text))[0])
        for number in range(5):
            journal.write(counted(NEW, number))
    assert saved == [f"{OLD}\n{NEW}"]


def test_a_refused_write_leaves_no_stem(factory: Factory) -> None:
    with factory.open_file() as journal:
        run = journal._db.run

        def interrupted(sql: str, *values: object) -> object:
            if sql == "COMMIT":
                raise KeyboardInterrupt
            return run(sql, *values)

        journal._db.run = interrupted
        with pytest.raises(KeyboardInterrupt):
            journal.write(counted(NEW, 1))
        journal._db.run = run
        journal.write(counted(NEW, 1))
    assert said(factory.path) == f"{OLD}\n{NEW}"


def test_a_file_that_does_not_say_its_stems_is_looked_through_and_says_them_later(
    factory: Factory, tmp_path: Path
) -> None:
    new = recover_into(factory.path, tmp_path / "new.db", **factory.options).path
    assert said(new) is None
    with SqliteJournal(new, **factory.options) as journal:
        assert journal.write(counted(OLD, 2)).duplicates[0].position == 2
        journal.write(counted(NEW, 1))
    assert said(new) == f"{OLD}\n{NEW}"


def test_too_many_stems_are_not_counted_any_more(factory: Factory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stems, "STEMS_MAX", 2)
    with factory.open_file() as journal:
        journal.write([*counted(NEW, 1), *counted("00000000000000cc-", 1)])
    assert said(factory.path) == MANY
    with factory.open_file() as journal:
        assert journal.write(counted("00000000000000cc-", 1)).duplicates[0].position == 6
        journal.write(counted("00000000000000dd-", 1))
    assert said(factory.path) == MANY
