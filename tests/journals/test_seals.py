"""Old, missing, foreign and duplicated rows beside a keyed log are found at opening and by verify, by table and name."""

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from journal_kit import entries, entry, verify

from openoutcry.core.halts import Halt
from openoutcry.errors import JournalCorrupt
from openoutcry.journals import JournalReader, SqliteJournal, recover_into, retention
from openoutcry.journals.seals import judge_seals
from openoutcry.ports import BuriedEvent, Changes, CursorState, Entry, Snapshot

KEY = b"k" * 32
TABLES = ("cursors", "dead_letters", "halts", "snapshots", "suspects", "tombstones")
OWNER = {"halts": "scope"}


def cursor(name: str, floor: int) -> CursorState:
    return CursorState(subscription=name, lane="normal", floor=floor, takes=("note",))


def letter(name: str, position: int, **more: Any) -> BuriedEvent:
    return BuriedEvent(
        subscription=name, lane="normal", position=position, payload=b"{}", **{"reason": "failed", **more}
    )


def snapshot(name: str, state: bytes) -> Snapshot:
    return Snapshot(subscription=name, form="bytes", is_needed=True, lanes={"normal": (1, ())}, state=state)


def beside(name: str, number: int) -> Changes:
    """A row of each table, of one name."""
    return Changes(
        cursors=[cursor(name, number)],
        buried=[letter(name, number)],
        halts=[Halt(scope=name, event_id="stop", count=number)],
        snapshots=[snapshot(name, b"%d" % number)],
        tombstones=[(name, number)],
    )


def accuse(journal: SqliteJournal, name: str, position: int) -> None:
    """Let a call be in flight at the death of the process."""
    journal.marks.cells[journal.marks.claim(name, "normal")] = position


def opened(path: Path) -> SqliteJournal:
    return SqliteJournal(path, key=KEY)


def sql(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for statement in statements:
            db.execute(statement)


@pytest.fixture
def early(path: Path) -> Path:
    """A copy of the journal as it was before everything in it changed."""
    with opened(path) as journal:
        journal.write(entries(4), beside("book", 1))
        journal.write((), beside("cio", 1))
        for name in ("book", "cio"):
            accuse(journal, name, 1)
    opened(path).close()  # takes over the suspects
    copy = path.with_name("early.db")
    shutil.copy(path, copy)
    with opened(path) as journal:
        late = beside("book", 2)
        journal.write(entries(2), late)
        accuse(journal, "book", 1)
    opened(path).close()
    return copy


def others(early: Path, table: str) -> str:
    """Return what puts back the rows that the copy had of one name."""
    owner = OWNER.get(table, "subscription")
    return f"INSERT OR REPLACE INTO {table} SELECT * FROM early.{table} WHERE {owner} = 'book'"


def taken_from(early: Path, path: Path, *statements: str) -> None:
    sql(path, f"ATTACH '{early}' AS early", *statements)


def assert_found(path: Path, what: str) -> None:
    """It is found wherever it is looked for, and names what it is."""
    with pytest.raises(JournalCorrupt, match=what):
        SqliteJournal(path, key=KEY)
    with JournalReader(path, key=KEY) as reader:
        found = reader.verify()
        assert not found.intact
        assert any(what in problem.what for problem in found.problems), found.problems
        assert [problem.what for problem in reader.check_seals() if what in problem.what]


def test_a_journal_that_nobody_has_touched_is_whole(path: Path, early: Path) -> None:
    for one in (path, early):
        with opened(one) as journal:
            assert verify(journal).intact
            assert not judge_seals(journal._db, journal._chain).broken


@pytest.mark.parametrize("table", TABLES)
def test_an_old_row_that_was_put_back_is_found(path: Path, early: Path, table: str) -> None:
    owner = OWNER.get(table, "subscription")
    taken_from(early, path, f"DELETE FROM {table} WHERE {owner} = 'book'", others(early, table))
    assert_found(path, f"{table} of 'book'")


@pytest.mark.parametrize("table", TABLES)
def test_a_row_that_was_deleted_is_found(path: Path, early: Path, table: str) -> None:
    sql(path, f"DELETE FROM {table} WHERE {OWNER.get(table, 'subscription')} = 'cio'")
    assert_found(path, f"{table} of 'cio': rows there: 0, rows saved: 1")


@pytest.mark.parametrize("table", TABLES)
def test_rows_of_two_names_that_were_swapped_are_found(path: Path, early: Path, table: str) -> None:
    owner = OWNER.get(table, "subscription")
    swap = f"UPDATE {table} SET {owner} = CASE {owner} WHEN 'book' THEN 'cio' ELSE 'book' END"
    if table != "dead_letters":  # their keys do not allow it at once
        swap = f"UPDATE {table} SET {owner} = '-' || {owner}"
        sql(path, swap, f"UPDATE {table} SET {owner} = 'cio' WHERE {owner} = '-book'")
        sql(path, f"UPDATE {table} SET {owner} = 'book' WHERE {owner} = '-cio'")
    else:
        sql(path, swap)
    for name in ("book", "cio"):
        assert_found(path, f"{table} of '{name}': ")


@pytest.mark.parametrize("table", TABLES)
def test_a_row_of_another_journal_with_the_same_key_is_found(path: Path, early: Path, table: str) -> None:
    other = path.with_name("other.db")
    with opened(other) as journal:
        journal.write(entries(9), beside("zoe", 7))
        accuse(journal, "zoe", 3)
    opened(other).close()
    sql(other, "UPDATE dead_letters SET letter_id = 99")
    taken_from(other, path, f"INSERT INTO {table} SELECT * FROM early.{table}")
    assert_found(path, f"{table} of 'zoe': a row was put there, and none was ever saved")


@pytest.mark.parametrize("table", ["cursors", "snapshots", "dead_letters"])
def test_a_row_of_another_journal_under_the_same_name_is_found(path: Path, early: Path, table: str) -> None:
    other = path.with_name("other.db")
    with opened(other) as journal:
        journal.write(entries(9), beside("cio", 4))
    sql(path, f"DELETE FROM {table} WHERE subscription = 'cio'")
    taken_from(other, path, f"INSERT OR REPLACE INTO {table} SELECT * FROM early.{table}")
    assert_found(path, f"{table} of 'cio': a row is not the one that was saved last")


def test_a_dead_letter_that_is_there_twice_is_found(path: Path, early: Path) -> None:
    columns = "subscription, lane, position, reason, error, traceback, attempts, wall_ns, event, checksum"
    copy = (
        f"INSERT INTO dead_letters({columns}) SELECT {columns} FROM dead_letters WHERE subscription = 'cio'"
    )
    sql(path, copy)
    assert_found(path, "dead_letters of 'cio': rows there: 2, rows saved: 1")


@pytest.mark.parametrize("setting", ["stems", "floor", "floor_checksum", "origin", "sealed", "generation"])
def test_an_old_or_foreign_setting_is_found(path: Path, setting: str) -> None:
    other = path.with_name("other.db")
    for one, count in ((path, 3), (other, 5)):
        with opened(one) as journal:
            journal.write([entry(f"{count}" * 16 + f"-{n:03}") for n in range(count)])
            journal.write(entries(2))
            journal.retire(keep_count=2)
    taken_from(other, path, f"INSERT OR REPLACE INTO meta SELECT * FROM early.meta WHERE key = '{setting}'")
    if setting == "sealed":
        sql(path, "DELETE FROM meta WHERE key = 'sealed'")
    with pytest.raises(JournalCorrupt):
        SqliteJournal(path, key=KEY)
    with JournalReader(path, key=KEY) as reader:
        assert any(problem.what.startswith("meta: ") for problem in reader.check_seals())


@pytest.mark.parametrize(
    "tampering",
    [
        "UPDATE seals SET serial = serial + 1 WHERE name = ''",
        "UPDATE seals SET serial = serial - 1 WHERE name = 'cursors book'",
        "UPDATE seals SET count = 2 WHERE name = 'cursors book'",
        "UPDATE seals SET digest = zeroblob(32) WHERE name = 'cursors book'",
        "DELETE FROM seals WHERE name = ''",
        "DELETE FROM seals WHERE name = 'batches'",
        "DELETE FROM seals WHERE name = 'cursors book'",
        "UPDATE seals SET name = 'cursors cip' WHERE name = 'cursors cio'",
        "DELETE FROM seals",
        "DROP TABLE seals",
    ],
)
def test_a_seal_that_was_changed_or_taken_out_is_found(path: Path, early: Path, tampering: str) -> None:
    sql(path, tampering)
    with pytest.raises(JournalCorrupt):
        SqliteJournal(path, key=KEY)
    with JournalReader(path, key=KEY) as reader:
        assert not reader.verify().intact
        assert reader.check_seals()


def test_taking_the_seals_out_with_all_that_says_there_were_some_is_found(path: Path, early: Path) -> None:
    sql(path, "DELETE FROM seals", "DELETE FROM meta WHERE key = 'sealed'")
    assert_found(path, "seals: all of them are missing")


@pytest.mark.parametrize("table", TABLES)
def test_an_old_row_is_found_also_with_its_old_seal(path: Path, early: Path, table: str) -> None:
    owner = OWNER.get(table, "subscription")
    taken_from(
        early,
        path,
        f"DELETE FROM {table} WHERE {owner} = 'book'",
        others(early, table),
        f"INSERT OR REPLACE INTO seals SELECT * FROM early.seals WHERE name = '{table} book'",
    )
    assert_found(path, "seals: they are of several moments")


def put_back(early: Path, path: Path, *but: str) -> None:
    """Put back everything beside the log as it was in the copy."""
    tables = {*TABLES, "seals", "sqlite_sequence", "meta", "gaps"} - set(but)
    statements = [
        line
        for t in sorted(tables)
        for line in (f"DELETE FROM {t}", f"INSERT INTO {t} SELECT * FROM early.{t}")
    ]
    taken_from(early, path, *statements)


def test_everything_beside_the_log_of_an_earlier_moment_is_found_by_the_log(path: Path, early: Path) -> None:
    put_back(early, path)
    assert_found(path, "what stands beside the log is of an earlier moment")


def test_a_log_that_was_put_back_behind_what_stands_beside_it_is_found(path: Path, early: Path) -> None:
    sql(path, "DELETE FROM batches WHERE first > 4")
    Path(f"{path}-marks").unlink()
    assert_found(path, "batches: the log does not lead through position 6")


def test_a_batch_carries_the_serial_of_its_commit(path: Path) -> None:
    with opened(path) as journal:
        serials = []
        for changes in (None, beside("book", 1), None, beside("book", 2)):
            journal.write(entries(1), changes)
            serials.append(journal._chain.serial_in(bytes.fromhex(journal.anchor.checksum)))
        assert serials == [1, 2, 2, 3]
        assert journal.anchor.serial == 3


# What the seals say stays true


def many_changes() -> Iterator[Callable[[SqliteJournal], object]]:
    yield lambda j: j.write(entries(3), beside("book", 1))
    yield lambda j: j.write([Entry("mine-1", b'{"event_id":"mine-1"}')], beside("cio", 2))
    yield lambda j: j.write([Entry("mine-1", b'{"event_id":"mine-1"}')], beside("cio", 3))
    yield lambda j: j.write((), Changes(renamed=[("book", "ledger")], dropped_cursors=[("book", "normal")]))
    yield lambda j: j.write((), Changes(renamed=[("ledger", "cio")]))
    yield lambda j: j.write((), Changes(forgotten=["cio"], snapshots=[snapshot("cio", b"new")]))
    yield lambda j: j.write((), Changes(tombstones=[("cio", 1), ("cio", 1), ("zoe", 2)]))
    yield lambda j: j.write((), Changes(buried=[letter("cio", 1, error="\ud800"), letter("cio", 2)]))
    yield lambda j: j.write((), Changes(buried=[letter("", 3, letter_id=50)], removed_letters=[1, 77]))
    yield lambda j: j.write(
        (), Changes(halts=[Halt(scope="ES", event_id="a b"), Halt(scope="", event_id="")])
    )
    yield lambda j: j.write((), Changes(released=[("ES", "a b"), ("ES", "no")]))
    yield lambda j: j.write((), Changes(cleared=[("cio", "normal", 3)]))
    yield lambda j: j.write((), Changes())
    yield lambda j: j.retire(keep_count=1, past_cursors=True, past_memory=["cio", "book", "ledger"])
    yield lambda j: j.vacuum()
    yield lambda j: j.write(entries(2))


def test_every_change_keeps_the_seals_true_in_every_life(path: Path) -> None:
    for change in many_changes():
        with opened(path) as journal:
            change(journal)
            seals = journal._seals
            assert seals is not None
            sums = seals._sums
            found = judge_seals(journal._db, journal._chain)
            assert not found.broken
            assert found.seals is not None
            assert found.seals._sums == sums
            assert (found.seals.serial, found.seals.digest) == (seals.serial, seals.digest)
            assert verify(journal).intact


def test_a_commit_that_fails_leaves_the_seals_as_they_were(path: Path) -> None:
    with opened(path) as journal:
        journal.write(entries(1), beside("book", 1))
        with pytest.raises(UnicodeEncodeError):
            journal.write(entries(1), Changes(cursors=[cursor("book", 2), cursor("\ud800", 2)]))
        journal.write(entries(1), beside("book", 2))
        journal.write(entries(1))
        assert verify(journal).intact
    with opened(path) as journal:
        assert journal.head == 3


def test_an_interruption_behind_the_commit_is_noticed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(path) as journal:
        seals = journal._seals
        assert seals is not None
        honest, calls = seals.saved, []

        def interrupted() -> None:
            calls.append(1)
            if len(calls) == 1:
                raise KeyboardInterrupt
            honest()

        monkeypatch.setattr(seals, "saved", interrupted)
        with pytest.raises(KeyboardInterrupt):
            journal.write(entries(1), beside("book", 1))
        assert (journal.head, journal.anchor.serial, len(calls)) == (1, 2, 2)
        journal.write(entries(1), beside("book", 2))
    with opened(path) as journal:
        assert verify(journal).intact


def test_a_retirement_that_is_interrupted_behind_its_commit_is_noticed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = retention.carry_out

    def interrupted(*of: Any) -> None:
        honest(*of)
        raise KeyboardInterrupt

    with opened(path) as journal:
        first = entry("first")
        journal.write([first])
        journal.write(entries(3))
        with monkeypatch.context() as patch:
            patch.setattr(retention, "carry_out", interrupted)
            with pytest.raises(KeyboardInterrupt):
                journal.retire(keep_count=3)
        assert journal.first == 2
        assert list(journal.write([first]).positions) == [5], "what was retired is not known any more"
    with opened(path) as journal:
        assert verify(journal).intact


def test_a_journal_of_before_is_sealed_when_it_is_opened_and_says_so(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(path) as journal:
        journal._seals = None
        journal._chain.tail = b""
        sql(path, "DELETE FROM seals", "DELETE FROM meta WHERE key = 'sealed'")
        journal.write(entries(2), beside("book", 1))
    with JournalReader(path, key=KEY) as reader:
        assert reader.verify().intact
        assert reader.check_seals() == []
    with opened(path) as journal:
        assert "is sealed from now on" in caplog.text
        journal.write(entries(1), beside("book", 2))
        assert verify(journal).intact
    caplog.clear()
    opened(path).close()
    assert "sealed" not in caplog.text
    sql(path, "DELETE FROM cursors")
    assert_found(path, "cursors of 'book'")


def test_a_recovery_of_what_is_left_by_retention_warns_of_no_missing_seals(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(path) as journal:
        for _ in range(9):
            journal.write(entries(1))
        assert journal.retire(keep_count=3) == 6
    recover_into(path, path.with_name("new.db"), key=KEY)
    assert "sealed" not in caplog.text


def test_a_journal_without_a_key_has_no_seals(path: Path) -> None:
    with SqliteJournal(path) as journal:
        journal.write(entries(2), beside("book", 1))
        assert (journal.anchor.serial, journal.anchor.seals) == (0, "")
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT count(*) FROM seals").fetchone() == (0,)
    with JournalReader(path) as reader:
        assert reader.check_seals() == []


# Recovery


@pytest.mark.parametrize(
    ("tampering", "told", "floors"),
    [
        ("DELETE FROM cursors WHERE subscription = 'cio'", "cursors of 'cio'", {"book": 2, "cio": 0}),
        ("DELETE FROM tombstones WHERE subscription = 'cio'", "tombstones of 'cio'", {"book": 2, "cio": 1}),
        ("DELETE FROM snapshots WHERE subscription = 'cio'", "snapshots of 'cio'", {"book": 2, "cio": 1}),
        (
            "DELETE FROM dead_letters WHERE subscription = 'cio'",
            "dead_letters of 'cio'",
            {"book": 2, "cio": 1},
        ),
    ],
)
def test_a_recovery_believes_everybody_but_whose_rows_are_missing(
    path: Path, early: Path, tampering: str, told: str, floors: dict[str, int]
) -> None:
    sql(path, tampering)
    recovered = recover_into(path, path.with_name("new.db"), key=KEY)
    assert any(told in said for said in recovered.beside)
    assert any("the memory of 'cio' is lost" in said for said in recovered.beside)
    with opened(recovered.path) as journal:
        forms = {one.subscription: one.form for one in journal.snapshots()}
        assert forms == {"book": "bytes", "cio": "lost"}
        assert {c.subscription: c.floor for c in journal.cursors() if c.lane == "normal"} == floors
        assert verify(journal).intact


def test_an_old_cursor_is_not_believed_by_a_recovery_but_begins_at_the_start(path: Path, early: Path) -> None:
    taken_from(early, path, others(early, "cursors"))
    recovered = recover_into(path, path.with_name("new.db"), key=KEY)
    said = "cursors: 'book' begins at the start of the log: what it has handled may be handled again"
    assert said in recovered.beside
    with opened(recovered.path) as journal:
        assert {c.floor for c in journal.cursors() if c.subscription == "book"} == {0}


def test_an_old_letter_that_was_marked_is_not_redriven_by_itself(path: Path) -> None:
    with opened(path) as journal:
        journal.write(entries(2), Changes(buried=[letter("cio", 1, reason="redrive")]))
    old = path.with_name("old.db")
    shutil.copy(path, old)
    with opened(path) as journal:
        journal.write((), Changes(removed_letters=[1]))
    taken_from(old, path, "INSERT INTO dead_letters SELECT * FROM early.dead_letters")
    recovered = recover_into(path, path.with_name("new.db"), key=KEY)
    with opened(recovered.path) as journal:
        assert [one.reason for one in journal.buried()] == ["failed"]


def test_without_its_seals_nothing_beside_the_log_is_believed(path: Path, early: Path) -> None:
    sql(path, "DELETE FROM seals")
    recovered = recover_into(path, path.with_name("new.db"), key=KEY)
    assert "seals: so nothing beside the log is believed to be what was saved last" in recovered.beside
    with opened(recovered.path) as journal:
        assert {c.floor for c in journal.cursors()} == {0}
        assert {one.form for one in journal.snapshots()} == {"lost"}
        assert len(journal.halts()) == 2, "it stays stopped"
        assert journal.suspects() == []


def test_suspects_that_were_put_there_accuse_nobody_after_a_recovery(path: Path, early: Path) -> None:
    sql(path, "INSERT INTO suspects VALUES('zoe', 'normal', 2, 99)")
    recovered = recover_into(path, path.with_name("new.db"), key=KEY)
    assert any("suspects of 'zoe'" in said for said in recovered.beside)
    with opened(recovered.path) as journal:
        assert {suspect.subscription for suspect in journal.suspects()} == {"book", "cio"}
