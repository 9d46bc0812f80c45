"""Ids of old entries after an opening: found at once by the blocks in the file, and by reading where those fail."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from journal_kit import entry

from openoutcry.journals import SqliteJournal, id_blocks, recover_into, register
from openoutcry.journals.rows import Row, event_ids

BLOCK = 100
OLD = 1_050  # ten blocks, and half a block that is in none


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(id_blocks, "POSITIONS", BLOCK)


@pytest.fixture(params=[None, b"k" * 32], ids=["plain", "keyed"])
def key(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def looked_up(monkeypatch: pytest.MonkeyPatch) -> list[Row]:
    """The batches whose ids are looked up."""
    rows: list[Row] = []

    def noted(row: Row) -> list[str]:
        rows.append(row)
        return event_ids(row)

    monkeypatch.setattr(register, "event_ids", noted)
    return rows


def old_id(number: int) -> str:
    return f"derived-{number}"


def idle_out(journal: SqliteJournal) -> None:
    while journal.idle():
        pass


@pytest.fixture
def old(path: Path, key: bytes | None) -> Path:
    with SqliteJournal(path, key=key) as journal:
        for number in range(1, OLD + 1):
            journal.write([entry(old_id(number))])
        idle_out(journal)
    return path


def blocks_of(path: Path) -> list[tuple[int, int]]:
    db = sqlite3.connect(path)
    found = db.execute("SELECT first, last FROM id_blocks ORDER BY first").fetchall()
    db.close()
    return found


def edit(path: Path, sql: str) -> None:
    db = sqlite3.connect(path, isolation_level=None)
    db.execute(sql)
    db.close()


def assert_knows_all(journal: SqliteJournal, first: int = 1) -> None:
    for number in (first, 99, 100, 101, 550, OLD):
        if number >= first:
            written = journal.write([entry(old_id(number))])
            assert [(d.position, d.same) for d in written.duplicates] == [(number, True)]
            assert journal.find(old_id(number)) == number
    assert journal.find("nobody") is None
    assert not journal.write([entry()]).duplicates


def test_blocks_are_made_in_idle_moments(old: Path) -> None:
    assert blocks_of(old) == [(first, first + BLOCK - 1) for first in range(1, 1_001, BLOCK)]


def test_a_new_derived_id_waits_only_for_what_is_in_no_block(
    old: Path, key: bytes | None, looked_up: list[Row]
) -> None:
    with SqliteJournal(old, key=key) as journal:
        assert list(journal.write([entry("derived-new")]).positions) == [OLD + 1]
        assert 0 < len(looked_up) <= 128 + BLOCK
        assert_knows_all(journal)
        assert len(looked_up) <= 128 + BLOCK, "the blocks say where the others stand"


def test_a_derived_id_beside_ids_that_count_on_a_new_stem_waits_for_no_more(
    old: Path, key: bytes | None, looked_up: list[Row]
) -> None:
    with SqliteJournal(old, key=key) as journal:
        journal.write([entry("0123456789abcdef-001")])
        looked_up.clear()
        journal.write([entry("1123456789abcdef-001"), entry("derived-new")])
        assert len(looked_up) < 2 * BLOCK


def test_ids_that_count_on_an_old_stem_are_looked_up_in_the_entries(path: Path, looked_up: list[Row]) -> None:
    ids = [f"0123456789abcdef-{number:x}" for number in range(1, 301)]
    with SqliteJournal(path) as journal:
        for event_id in ids:
            journal.write([entry(event_id)])
        idle_out(journal)
    with SqliteJournal(path) as journal:
        assert journal.find("derived") is None
        assert journal.find(ids[7]) == 8
        assert len(looked_up) >= 300


def test_blocks_go_on_where_the_last_life_has_ended(old: Path, key: bytes | None) -> None:
    with SqliteJournal(old, key=key) as journal:
        for number in range(OLD + 1, OLD + 200):
            journal.write([entry(old_id(number))])
        idle_out(journal)
    assert blocks_of(old)[-3:] == [(901, 1_000), (1_001, 1_100), (1_101, 1_200)]
    with SqliteJournal(old, key=key) as journal:
        assert_knows_all(journal)
        assert journal.find(old_id(1_150)) == 1_150


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE id_blocks SET records = zeroblob(length(records)) WHERE first = 501",
        "UPDATE id_blocks SET records = substr(records, 9) WHERE first = 501",
        "UPDATE id_blocks SET records = 'text' WHERE first = 501",
        "UPDATE id_blocks SET last = 2000 WHERE first = 501",
        "UPDATE id_blocks SET first = 490 WHERE first = 501",
        "UPDATE id_blocks SET checksum = 7 WHERE first = 1",
        "DELETE FROM id_blocks WHERE first = 501",
        "DELETE FROM id_blocks",
        "DROP TABLE id_blocks",
    ],
)
def test_what_is_wrong_with_a_block_costs_time_and_nothing_else(
    old: Path, key: bytes | None, damage: str
) -> None:
    edit(old, damage)
    with SqliteJournal(old, key=key) as journal:
        assert_knows_all(journal)
        idle_out(journal)
        assert_knows_all(journal)
    assert blocks_of(old)[:10] == [(first, first + BLOCK - 1) for first in range(1, 1_001, BLOCK)]
    with SqliteJournal(old, key=key) as journal:
        assert_knows_all(journal)


def test_blocks_go_with_their_entries(old: Path, key: bytes | None) -> None:
    with SqliteJournal(old, key=key) as journal:
        while journal.retire(keep_count=500):
            pass
        assert journal.first == 551
    assert blocks_of(old)[0] == (501, 600)
    with SqliteJournal(old, key=key) as journal:
        assert journal.find(old_id(520)) is None
        assert not journal.write([entry(old_id(521))]).duplicates
        assert_knows_all(journal, 551)


def test_a_recovery_makes_its_own(old: Path, key: bytes | None) -> None:
    new = old.with_name("new.db")
    recover_into(old, new, key=key)
    assert blocks_of(new) == []
    with SqliteJournal(new, key=key) as journal:
        assert_knows_all(journal)
        idle_out(journal)
    assert len(blocks_of(new)) == 10


def test_two_ids_with_the_same_code_are_told_apart(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(id_blocks, "_code", lambda _: 7)
    with SqliteJournal(old.with_name("same.db")) as journal:
        for number in range(1, 205):
            journal.write([entry(old_id(number))])
        idle_out(journal)
    with SqliteJournal(old.with_name("same.db")) as journal:
        assert [journal.find(old_id(number)) for number in (1, 50, 200)] == [1, 50, 200]
        assert not journal.write([entry("another")]).duplicates


def test_a_disk_without_room_makes_no_more_blocks_and_nothing_fails(path: Path) -> None:
    with SqliteJournal(path, engine="sqlite3") as journal:
        for number in range(1, OLD + 1):
            journal.write([entry(old_id(number))])
        journal._db.run("PRAGMA max_page_count = 1")
        idle_out(journal)
        journal._db.run("PRAGMA max_page_count = 1000000")
        assert list(journal.write([entry("next")]).positions) == [OLD + 1]


def test_the_blocks_of_another_journal_are_not_believed(old: Path, key: bytes | None) -> None:
    other = old.with_name("other.db")
    with SqliteJournal(other, key=key) as journal:
        for number in range(1, OLD + 1):
            journal.write([entry(f"other-{number}")])
        idle_out(journal)
    db = sqlite3.connect(old, isolation_level=None)
    db.execute(f"ATTACH '{other}' AS other")
    db.execute("DELETE FROM id_blocks")
    db.execute("INSERT INTO id_blocks SELECT * FROM other.id_blocks")
    db.close()
    with SqliteJournal(old, key=key) as journal:
        (duplicate,) = journal.write([entry(old_id(7))]).duplicates
        assert duplicate.position == 7
        assert journal.head == OLD


def test_large_entries_make_a_block_before_they_are_many(
    path: Path, monkeypatch: pytest.MonkeyPatch, looked_up: list[Row]
) -> None:
    monkeypatch.setattr(id_blocks, "BYTES", 2_000_000)
    text = "x" * 100_000
    with SqliteJournal(path) as journal:
        for number in range(1, 51):
            journal.write([entry(old_id(number), text=text)])
        idle_out(journal)
    blocks = blocks_of(path)
    assert len(blocks) == 2
    assert all(15 <= last - first + 1 <= 25 for first, last in blocks)
    with SqliteJournal(path) as journal:
        looked_up.clear()
        assert journal.find("derived-new") is None
        assert len(looked_up) <= 50 - blocks[-1][1], "but for those that are in no block"
        assert journal.find(old_id(7)) == 7


def test_in_an_idle_moment_no_more_large_entries_are_read_than_one(
    path: Path, monkeypatch: pytest.MonkeyPatch, looked_up: list[Row]
) -> None:
    monkeypatch.setattr(register, "IDLE_BYTES", 100_000)
    with SqliteJournal(path) as journal:
        for number in range(1, 11):
            journal.write([entry(old_id(number), text="x" * 150_000)])
    with SqliteJournal(path) as journal:
        seen, pieces = 0, []
        while seen < 10:
            assert journal.idle()
            pieces.append(len(looked_up) - seen)
            seen = len({row.first for row in looked_up})
        assert max(pieces) <= 2  # the batch behind it is looked at, to know whether it goes with it
        assert journal.find(old_id(1)) == 1
