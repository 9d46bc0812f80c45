"""What is read is what was written: a flipped bit anywhere in the file is an error, not an event."""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from journal_kit import NOON_NS, Factory, entries, entry, payloads, without_apsw

from openoutcry.errors import JournalCorrupt
from openoutcry.journals import JournalReader, SqliteJournal, recover_into
from openoutcry.journals.rows import Batch, Row, lanes_in, unpack
from openoutcry.ports import Filter

BATCHES = 100  # so many that opening, which looks at the newest, does not come to the old ones
DAMAGED = 21  # the first position of the batch that is damaged
NEEDLE = "needle-in-the-middle"
Source = SqliteJournal | JournalReader

READS: dict[str, Callable[[Source], Any]] = {
    "read": lambda journal: journal.read(0, 1000),
    "read from the middle": lambda journal: journal.read(DAMAGED - 1, 1),
    "read of another time": lambda journal: journal.read(0, 1000, Filter(until_ns=1)),
    "tail": lambda journal: journal.tail(1000),
    "tail of another time": lambda journal: journal.tail(1000, Filter(until_ns=1)),
}
WRITERS_READS: dict[str, Callable[[SqliteJournal], Any]] = {
    **READS,
    "read_urgent": lambda journal: journal.read_urgent(0, 1000),
    "entry": lambda journal: journal._log.entry(DAMAGED),
}


@pytest.fixture(params=["sqlite", "sqlite keyed", pytest.param("sqlite apsw", marks=without_apsw)])
def factory(request: pytest.FixtureRequest, tmp_path: Path) -> Factory:
    """A journal of ten urgent and ten normal entries by turns, one of which has the needle."""
    made = Factory(request.param, tmp_path)
    with made.open_file() as journal:
        for number in range(BATCHES):
            pad = NEEDLE if journal.head + 1 == DAMAGED else "x"
            journal.write(entries(5, pad=pad, lane="normal" if number % 2 else "high"))
    return made


def reader(factory: Factory) -> JournalReader:
    return JournalReader(factory.path, **factory.options)


def flip(path: Path) -> None:
    """Flip a bit of an event in the database file, which stays an event like another.

    Where a page was split, what it had before still stands in its unused part: that copy gets it as well.
    """
    path.write_bytes(path.read_bytes().replace(NEEDLE.encode(), NEEDLE.replace("d", "e", 1).encode()))


def change(path: Path, sql: str) -> None:
    db = sqlite3.connect(path)
    with db:
        assert db.execute(sql).rowcount == 1
    db.close()


@pytest.mark.parametrize("how", WRITERS_READS)
def test_a_flipped_bit_in_an_old_batch_is_an_error_and_not_an_event(factory: Factory, how: str) -> None:
    with factory.open_file() as journal:
        WRITERS_READS[how](journal)
    flip(factory.path)
    with factory.open_file() as journal:
        for _ in range(2):  # asking again does not make it true
            with pytest.raises(JournalCorrupt, match="positions 21 to 25 do not match") as caught:
                WRITERS_READS[how](journal)
            assert caught.value.position == DAMAGED


@pytest.mark.parametrize("how", READS)
def test_a_reader_sees_the_flipped_bit_too(factory: Factory, how: str) -> None:
    flip(factory.path)
    with reader(factory) as reading, pytest.raises(JournalCorrupt, match="positions 21 to 25") as caught:
        READS[how](reading)
    assert caught.value.position == DAMAGED


def test_a_batch_is_unpacked_entry_by_entry_as_it_is_read(factory: Factory) -> None:
    with reader(factory) as found:
        row = found.batch(DAMAGED + 2)
        assert row is not None
        assert [Batch(row).at(place) for place in range(row.first, row.last + 1)] == found.read(
            row.first - 1, 5
        )
        assert found.batch(found.head + 1) is None
        flip(factory.path)
    with reader(factory) as found, pytest.raises(JournalCorrupt, match=str(DAMAGED)):
        found.batch(DAMAGED + 2)


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data[:-1],
        lambda data: data[:-1] + b",[2,1,0,{}]]",
        lambda data: data.replace(b"[2,", b"[7,"),
    ],
)
def test_a_batch_that_is_none_is_not_unpacked(factory: Factory, change: Callable[[bytes], bytes]) -> None:
    with reader(factory) as found:
        row = found.batch(1 + BATCHES // 2 * 10 - 5)
        assert row is not None
        with pytest.raises(JournalCorrupt, match=str(row.first)):
            Batch(row._replace(data=change(row.data))).at(row.first)


def test_what_stands_around_a_damaged_batch_can_still_be_read(factory: Factory) -> None:
    flip(factory.path)
    with factory.open_file() as journal:
        assert [e.position for e in journal.read(0, DAMAGED - 1)] == list(range(1, DAMAGED))
        assert [e.position for e in journal.read(DAMAGED + 4, 1000)] == list(range(DAMAGED + 5, 501))
        assert [e.position for e in journal.tail(475)] == list(range(DAMAGED + 5, 501))


@pytest.mark.parametrize(
    ("sql", "position"),
    [
        ("UPDATE batches SET last_ns = last_ns - 1 WHERE first = 21", 21),
        ("UPDATE batches SET checksum = zeroblob(4) WHERE first = 21", 21),
        ("UPDATE batches SET first_ns = 'noon' WHERE first = 21", 21),
        ("UPDATE batches SET entries = 7 WHERE first = 21", 21),
        ("UPDATE batches SET checksum = 7 WHERE first = 16", 16),
        ("DELETE FROM batches WHERE first = 21", 26),
        ("DELETE FROM batches WHERE first = 1", 6),
        ("UPDATE batches SET urgent = 0 WHERE first = 21", 21),
        ("UPDATE meta SET value = '00' WHERE key = 'floor_checksum'", 1),
        ("UPDATE meta SET value = 'zz' WHERE key = 'floor_checksum'", 1),
    ],
)
@pytest.mark.parametrize("how", ["read", "tail"])
def test_whatever_of_a_batch_is_changed_reading_says_so(
    factory: Factory, sql: str, position: int, how: str
) -> None:
    with reader(factory) as reading:
        change(factory.path, sql)
        with pytest.raises(JournalCorrupt) as caught:
            READS[how](reading)
    if how == "read" or "checksum = " not in sql:  # from behind, a damaged checksum is met one batch earlier
        assert caught.value.position == position


def test_batches_that_are_swapped_are_an_error(factory: Factory) -> None:
    db = sqlite3.connect(factory.path)
    with db:
        for old, new in ((21, 9999), (31, 21), (9999, 31)):
            db.execute("UPDATE batches SET first = ? WHERE first = ?", (new, old))
    db.close()
    with factory.open_file() as journal, pytest.raises(JournalCorrupt) as caught:
        journal.read(0, 1000)
    assert caught.value.position == DAMAGED


def test_reading_goes_on_across_a_gap_that_a_recovery_has_left(factory: Factory, tmp_path: Path) -> None:
    flip(factory.path)
    found = recover_into(factory.path, tmp_path / "new.db", **factory.options)
    assert found.lost == ((21, 25),)
    expected = [*range(1, 21), *range(26, 501)]
    with SqliteJournal(found.path, **factory.options) as journal:
        assert [e.position for e in journal.read(0, 1000)] == expected
        assert [e.position for e in journal.tail(1000)] == expected
        assert [e.position for e in journal.read(22, 3)] == [26, 27, 28]
        urgent = [e.position for e in journal.read_urgent(0, 1000)]
        assert urgent == [position for position in expected if (position - 1) // 5 % 2 == 0]


def test_reading_holds_behind_what_was_retired(factory: Factory) -> None:
    with factory.open_file() as journal, reader(factory) as reading:
        while journal.retire(keep_count=50):
            pass
        for source in (journal, reading):
            assert [e.position for e in source.read(0, 1000)] == list(range(451, 501))
            assert [e.position for e in source.tail(1000)] == list(range(451, 501))
        flipped = "UPDATE batches SET last_ns = last_ns + 1 WHERE first = 451"
        assert journal._db.run(flipped) is not None
        with pytest.raises(JournalCorrupt):
            reading.read(0, 1)


def test_a_batch_that_is_retired_while_it_is_read_is_no_damage(factory: Factory) -> None:
    with factory.open_file() as journal, reader(factory) as reading:
        row = next(reading._log.forwards(DAMAGED))
        while journal.retire(keep_count=50):
            pass
        before = reading._log._before(row.first)
        assert not reading._log._holds(row, before)


def test_pages_of_any_size_and_questions_in_between_read_the_same(factory: Factory) -> None:
    with factory.open_file() as journal:
        whole = payloads(journal.read(0, 1000))
        for size in (1, 3, 5, 7, 64):
            found, after = [], 0
            while page := journal.read(after, size):
                found += payloads(page)
                after = page[-1].position
                assert journal._log.entry(1 + after * 7 % 500) is not None
            assert found == whole
        new = entry(wall_ns=NOON_NS + 1)
        journal.write([new])
        assert payloads(journal.read(500, 9)) == [new.payload]


def test_without_its_key_a_sealed_journal_is_read_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "sealed.db"
    with SqliteJournal(path, key=b"k" * 32) as journal:
        for _ in range(BATCHES):
            journal.write(entries(5, pad=NEEDLE))
    flip(path)
    with JournalReader(path) as reading:
        assert len(reading.read(0, 1000)) == len(reading.tail(1000)) == 500


def test_what_is_left_of_a_damaged_file_can_be_looked_at(factory: Factory) -> None:
    flip(factory.path)
    with JournalReader(factory.path, held=False, **factory.options) as reading:
        assert len(reading.read(0, 1000)) == len(reading.tail(1000)) == 500
        assert [problem.position for problem in reading.verify().problems] == [DAMAGED]


def test_verifying_sees_one_moment_however_much_is_retired_meanwhile(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = JournalReader._start
    with SqliteJournal(path) as journal, journal.reader() as reader:
        for _ in range(9):
            journal.write(entries(1))

        def start(self: JournalReader) -> object:
            found = begin(self)
            journal.retire(keep_count=3)
            return found

        monkeypatch.setattr(JournalReader, "_start", start)
        found = reader.verify()
        assert (found.problems, found.entries) == ((), 9)
        assert journal.first == 7


@pytest.mark.parametrize(
    ("data", "size"),
    [
        (b"[[2,1,0,{}]]", 2),
        (b"[[3,1,0,{}]]", 1),
        (b"[[2,9,0,{}]]", 1),
        (b"[[2,1,0,{]]", 1),
        (b'[[2,"x",0,{}]]', 1),
        (b"{}", 1),
    ],
)
def test_the_lanes_of_a_batch_are_refused_where_its_entries_are(data: bytes, size: int):
    row = Row(1, size, 0, 0, b"", data)
    with pytest.raises(JournalCorrupt) as by_entries:
        unpack(row)
    with pytest.raises(JournalCorrupt) as by_lanes:
        lanes_in(row)
    assert str(by_lanes.value) == str(by_entries.value)


def test_the_lanes_of_a_batch_are_those_of_its_entries():
    row = Row(1, 3, 0, 0, b"", b"[[2,1,0,{}],[0,2,5,{}],[2,1,9,{}]]")
    assert lanes_in(row) == {entry.lane for entry in unpack(row)} == {"control", "normal"}
