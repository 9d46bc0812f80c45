"""Files of older schemas: brought up to date whole, or left as they were; newer and foreign ones are not touched."""

import json
import os
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from journal_kit import entries, entry, payloads

from openoutcry.core.halts import Halt
from openoutcry.errors import JournalCorrupt, JournalError, JournalFull, JournalLocked
from openoutcry.events import encode
from openoutcry.journals import JournalReader, SqliteJournal, migration, recover_into, schema
from openoutcry.journals.engines import Connection, EngineName, connect
from openoutcry.journals.rows import Chain, pack
from openoutcry.ports import Changes, Entry, Level, Snapshot
from openoutcry.trading import FillEvent

VERSION_1 = [
    "CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL, checksum BLOB NOT NULL) WITHOUT ROWID",
    """CREATE TABLE batches(
        first INTEGER PRIMARY KEY, count INTEGER NOT NULL, first_ns INTEGER NOT NULL, last_ns INTEGER NOT
        NULL, checksum BLOB NOT NULL, entries TEXT NOT NULL)""",
    """CREATE TABLE cursors(
        subscription TEXT NOT NULL, lane TEXT NOT NULL, floor INTEGER NOT NULL, settled TEXT NOT NULL,
        takes TEXT NOT NULL, checksum BLOB NOT NULL, PRIMARY KEY(subscription, lane)) WITHOUT ROWID""",
    """CREATE TABLE dead_letters(
        letter_id INTEGER PRIMARY KEY AUTOINCREMENT, subscription TEXT NOT NULL, lane TEXT NOT NULL,
        position INTEGER NOT NULL, reason TEXT NOT NULL, error TEXT NOT NULL, traceback TEXT NOT NULL,
        attempts INTEGER NOT NULL, wall_ns INTEGER NOT NULL, event TEXT NOT NULL, checksum BLOB NOT NULL)""",
    """CREATE TABLE suspects(
        subscription TEXT NOT NULL, lane TEXT NOT NULL, position INTEGER NOT NULL, crashes INTEGER NOT NULL,
        PRIMARY KEY(subscription, lane, position)) WITHOUT ROWID""",
    "CREATE TABLE gaps(first INTEGER PRIMARY KEY, last INTEGER NOT NULL)",
    """CREATE VIEW events AS
SELECT
    b.first + e.key AS position,
    json_extract(e.value, '$[3]') AS event
FROM batches AS b, json_each(b.entries) AS e""",
    "PRAGMA application_id = 0x4F4F4331",
    "PRAGMA user_version = 1",
]
FILL = FillEvent(order_id="1", symbol="ES", side="buy", filled_quantity=1.0, fill_price=2.0)
WRITTEN: list[list[Entry]] = [
    entries(3),
    [entry(), entry(lane="high"), entry()],
    entries(40),
    [Entry(FILL.event_id, encode(FILL), "high", Level.DISK)],
    [entry(lane="control"), entry(lane="high")],
    entries(2),
]
HALT = Halt(scope="firm", event_id="k-1", by="risk", reason="drawdown", since_ns=12)
OTHER = Halt(scope="ES", event_id="k-2", by="risk")
URGENT = [5, 47, 48, 49]
"""Where the entries of the lanes control and high stand."""


def make_version_2(path: Path) -> Path:
    """Write a file as version 2 did: one of version 1, brought up by one step."""
    make_version_1(path)
    db = connect(path, "sqlite3", "rw")
    db.run("BEGIN")
    migration.STEPS[2](db, path)
    db.run("PRAGMA user_version = 2")
    db.run("COMMIT")
    db.close()
    return path


def make_version_1(path: Path, key: bytes | None = None) -> Path:
    """Write a file as version 1 did."""
    chain = Chain(key)
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA auto_vacuum = INCREMENTAL")
    db.execute("PRAGMA journal_mode = WAL")
    for statement in VERSION_1:
        db.execute(statement)
    values = {
        "generation": os.urandom(16).hex(),
        "checksum": chain.kind,
        "floor": "0",
        "floor_checksum": chain.start.hex(),
        "run": "0",
    }
    db.executemany(
        "INSERT INTO meta VALUES(?, ?, ?)", [schema.setting(k, v, chain) for k, v in values.items()]
    )
    checksum, first = chain.start, 1
    for batch in WRITTEN:
        row, _ = pack(batch, first, checksum, chain)
        db.execute("INSERT INTO batches VALUES(?, ?, ?, ?, ?, CAST(? AS TEXT))", row[:6])
        checksum, first = row.checksum, first + row.size
    cursor = ("risk", "normal", 2, "[[4, 4]]", '["fill"]')
    db.execute("INSERT INTO cursors VALUES(?, ?, ?, ?, ?, ?)", (*cursor, chain.seal(json.dumps(cursor))))
    db.execute("INSERT INTO suspects VALUES('risk', 'normal', 3, 1)")
    db.close()
    return path


@pytest.fixture
def old(path: Path) -> Path:
    return make_version_1(path)


def version(path: Path) -> int:
    db = sqlite3.connect(path)
    try:
        return int(db.execute("PRAGMA user_version").fetchone()[0])
    finally:
        db.close()


def dump(path: Path) -> list[str]:
    db = sqlite3.connect(path)
    try:
        return list(db.iterdump())
    finally:
        db.close()


ALL = [one for batch in WRITTEN for one in batch]


def test_a_file_of_version_1_is_opened_with_everything_in_it(old: Path, engine: EngineName) -> None:
    with SqliteJournal(old, engine=engine) as journal:
        assert payloads(journal.read(0, 100)) == [one.payload for one in ALL]
        assert [e.position for e in journal.read_urgent(0, 100)] == URGENT
        assert journal.find(FILL.event_id) == 47
        assert [(c.floor, c.settled, c.takes) for c in journal.cursors()] == [(2, ((4, 4),), ("fill",))]
        assert [s.position for s in journal.suspects()] == [3]
        assert journal.write([entry(lane="high")]).positions == range(52, 53)
        assert [e.position for e in journal.read_urgent(40, 100)] == [*URGENT[1:], 52]
        with journal.reader() as reader:
            assert reader.verify().intact
    assert version(old) == schema.SCHEMA_VERSION


def test_a_keyed_file_is_migrated_with_its_key(path: Path) -> None:
    make_version_1(path, b"k" * 32)
    before = dump(path)
    with pytest.raises(JournalError, match="give the key"):
        SqliteJournal(path)
    with pytest.raises(JournalCorrupt, match="the key is not the one"):
        SqliteJournal(path, key=b"x" * 32)
    assert dump(path) == before
    with SqliteJournal(path, key=b"k" * 32) as journal:
        assert [e.position for e in journal.read_urgent(0, 100)] == URGENT
        with journal.reader() as reader:
            assert reader.verify().intact


def test_a_migrated_file_has_the_tables_of_a_new_one(old: Path, tmp_path: Path) -> None:
    SqliteJournal(old).close()
    SqliteJournal(tmp_path / "new.db").close()

    def columns(path: Path) -> list[object]:
        db = sqlite3.connect(path)
        tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        found: list[object] = [
            (table, db.execute(f"PRAGMA table_info({table})").fetchall()) for table in sorted(tables)
        ]
        found += db.execute(
            "SELECT name FROM sqlite_master WHERE sql IS NOT NULL AND type <> 'view' ORDER BY name"
        )
        db.close()
        return found

    assert columns(old) == columns(tmp_path / "new.db")


def test_a_file_of_version_2_gets_the_tables_of_version_3_when_it_is_opened_for_writing(
    path: Path, engine: EngineName
) -> None:
    make_version_2(path)
    before = dump(path)
    with JournalReader(path, engine=engine) as reader:
        assert reader.halts() == []
        assert reader.verify().intact
    assert (dump(path), version(path)) == (before, 2)
    with SqliteJournal(path, engine=engine) as journal:
        assert journal.halts() == []
        journal.write([entry(lane="control")], Changes(halts=[HALT]))
        assert [e.position for e in journal.read_urgent(0, 100)] == [*URGENT, 52]
    assert version(path) == schema.SCHEMA_VERSION
    with JournalReader(path, engine=engine) as reader:
        assert reader.halts() == [HALT]
        assert reader.verify().intact


def test_a_file_of_version_2_can_be_recovered_from(path: Path, tmp_path: Path) -> None:
    recovered = recover_into(make_version_2(path), tmp_path / "new.db")
    assert (recovered.entries, recovered.lost, recovered.beside) == (51, (), ())
    assert version(tmp_path / "new.db") == schema.SCHEMA_VERSION


@pytest.mark.parametrize("key", [None, b"k" * 32])
def test_what_stands_in_the_new_tables_is_verified_and_carried_by_a_recovery(
    path: Path, tmp_path: Path, key: bytes | None
) -> None:
    new = tmp_path / "new.db"
    book = Snapshot(
        subscription="book", form="bytes", is_needed=True, lanes={"normal": (2, ())}, state=b"\x00state\xff"
    )
    with SqliteJournal(path, key=key) as journal:
        journal.write(entries(3), Changes(halts=[HALT], snapshots=[book], tombstones=[("book", 2)]))
    with JournalReader(path, key=key) as reader:
        assert reader.verify().intact
    assert recover_into(path, new, key=key).beside == ()
    with SqliteJournal(new, key=key) as journal:
        assert journal.halts() == [HALT]
        assert journal.snapshot("book") == book
        assert journal.tombstones("book") == [2]


@pytest.mark.parametrize("table", ["halts", "tombstones", "snapshots"])
def test_a_damaged_row_of_the_new_tables_is_found_and_the_others_are_carried(
    path: Path, tmp_path: Path, table: str
) -> None:
    names = ("one", "two")
    kept = [Snapshot(subscription=name, form="json", is_needed=True, lanes={}, state=b"17") for name in names]
    with SqliteJournal(path) as journal:
        tombstones = [(name, 1) for name in names]
        journal.write(entries(1), Changes(halts=[HALT, OTHER], snapshots=kept, tombstones=tombstones))
    column = {"halts": "reason", "tombstones": "position", "snapshots": "state"}[table]
    which = "scope = 'ES'" if table == "halts" else "subscription = 'one'"
    db = sqlite3.connect(path, isolation_level=None)
    db.execute(f"UPDATE {table} SET {column} = 17 WHERE {which}")
    db.close()
    with JournalReader(path) as reader:
        told = [problem.what for problem in reader.verify().problems]
    assert len(told) == 1
    assert f"a row of {table} ({'ES' if table == 'halts' else 'one'!r}) is damaged" in told[0]
    recovered = recover_into(path, tmp_path / "new.db")
    assert recovered.entries == 1
    assert recovered.beside[0].startswith(f"{table}: ")
    with SqliteJournal(tmp_path / "new.db") as journal:
        assert journal.halts() == ([HALT] if table == "halts" else [OTHER, HALT])
        assert journal.tombstones("one") == ([] if table == "tombstones" else [1])
        assert journal.tombstones("two") == [1]
        one, two = (journal.snapshot(name) for name in names)
        assert one is not None
        assert (one.form, two) == ("json" if table == "halts" else "lost", kept[1])


def test_a_damaged_halt_is_an_error_and_never_fewer_halts(path: Path) -> None:
    with SqliteJournal(path) as journal:
        journal.write(entries(1), Changes(halts=[HALT]))
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("UPDATE halts SET scope = 'other'")
    db.close()
    with SqliteJournal(path) as journal, pytest.raises(JournalCorrupt, match="a row of halts"):
        journal.halts()


def test_a_file_is_migrated_once(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    SqliteJournal(old).close()
    monkeypatch.setattr(migration, "STEPS", {})
    SqliteJournal(old).close()


def test_an_older_file_can_be_read_as_it_is(old: Path, engine: EngineName) -> None:
    before = dump(old)
    with JournalReader(old, engine=engine) as reader:
        assert payloads(reader.read(0, 100)) == [one.payload for one in ALL]
        assert payloads(reader.tail(2)) == [one.payload for one in ALL[-2:]]
        assert reader.head == 51
        assert reader.verify().intact
    assert dump(old) == before


@pytest.mark.parametrize("make", [make_version_1, make_version_2])
def test_an_older_file_keeps_nothing_of_memory_and_gets_it_when_it_is_opened(
    path: Path, engine: EngineName, make: Callable[[Path], Path]
) -> None:
    make(path)
    kept = Snapshot(subscription="risk", form="json", is_needed=True, lanes={"normal": (1, ())}, state=b"1")
    with JournalReader(path, engine=engine) as reader:
        assert (reader.snapshot("risk"), reader.snapshots(), reader.snapshot_sizes()) == (None, [], {})
        assert reader.tombstones("risk") == []
        assert [held.why for held in reader.held_by()] == ["cursor"]
    with SqliteJournal(path, engine=engine) as journal:
        assert journal.snapshot("risk") is None
        journal.write((), Changes(snapshots=[kept], tombstones=[("risk", 2)]))
    with JournalReader(path, engine=engine) as reader:
        assert (reader.snapshot("risk"), reader.tombstones("risk")) == (kept, [2])
        assert [held.why for held in reader.held_by()] == ["memory", "cursor"]


def test_an_older_file_can_be_recovered_from(old: Path, tmp_path: Path) -> None:
    before = dump(old)
    recovered = recover_into(old, tmp_path / "new.db")
    assert (recovered.entries, recovered.lost, recovered.beside) == (51, (), ())
    assert dump(old) == before
    with SqliteJournal(tmp_path / "new.db") as journal:
        assert [e.position for e in journal.read_urgent(0, 100)] == URGENT


# What goes wrong leaves the file as it was

Steps = Mapping[int, migration.Migration]


def failing(problem: BaseException) -> Steps:
    def step(db: Connection, path: Path) -> None:
        migration.STEPS[2](db, path)
        raise problem

    return {2: step}


def open_with(path: Path, steps: Steps) -> None:
    db = connect(path, "sqlite3", "rw")
    try:
        migration.migrate(db, path, steps)
    finally:
        db.close()


@pytest.mark.parametrize("problem", [RuntimeError("no"), KeyboardInterrupt(), MemoryError()])
def test_a_step_that_fails_leaves_the_file_as_it_was(old: Path, problem: BaseException) -> None:
    before = dump(old)
    with pytest.raises(type(problem)):
        open_with(old, failing(problem))
    assert (dump(old), version(old)) == (before, 1)
    SqliteJournal(old).close()
    assert version(old) == schema.SCHEMA_VERSION


def test_a_full_disk_says_so_and_leaves_the_file_as_it_was(old: Path) -> None:
    before = dump(old)

    def step(db: Connection, path: Path) -> None:
        db.run(f"PRAGMA max_page_count = {schema.one(db.rows('PRAGMA page_count'))}")
        migration.STEPS[2](db, path)
        db.run("INSERT INTO suspects VALUES(hex(zeroblob(1000000)), '', 1, 1)")

    with pytest.raises(JournalFull, match="schema version 1 to 2, nothing was changed; make as much room"):
        open_with(old, {2: step})
    assert (dump(old), version(old)) == (before, 1)


def test_another_program_that_writes_is_waited_for_by_name(old: Path) -> None:
    other = sqlite3.connect(old, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        with pytest.raises(JournalLocked, match="another program is using the database"):
            SqliteJournal(old, engine="sqlite3")
    finally:
        other.close()
    assert version(old) == 1


def test_a_damaged_batch_is_found_and_the_file_left_as_it_was(old: Path) -> None:
    db = sqlite3.connect(old, isolation_level=None)
    db.execute("UPDATE batches SET entries = substr(entries, 2) WHERE first = 1")
    db.close()
    before = dump(old)
    with pytest.raises(JournalCorrupt):
        SqliteJournal(old)
    assert (dump(old), version(old)) == (before, 1)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_kill_at_the_commit_leaves_one_version_or_the_next(old: Path, when: str) -> None:
    program = f"""
        import os, signal
        from openoutcry.journals import SqliteJournal, migration
        from openoutcry.journals.engines import StandardConnection
        class Killed(StandardConnection):
            def __init__(self, uri):
                super().__init__(uri)
                run = self.run
                def killing(sql, *values):
                    migrated = sql == "COMMIT" and any("user_version = 2" in one for one in self.said)
                    if migrated and {when!r} == "before":
                        os.kill(os.getpid(), signal.SIGKILL)
                    self.said.append(sql)
                    done = run(sql, *values)
                    if migrated:
                        os.kill(os.getpid(), signal.SIGKILL)
                    return done
                self.said, self.run = [], killing
        from openoutcry.journals import engines
        engines.StandardConnection = Killed
        SqliteJournal({str(old)!r}, engine="sqlite3")
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=False, timeout=600)
    assert done.returncode == -9
    assert version(old) == (1 if when == "before" else 2)
    with SqliteJournal(old) as journal:
        assert payloads(journal.read(0, 100)) == [one.payload for one in ALL]
        assert [e.position for e in journal.read_urgent(0, 100)] == URGENT


# The marks of urgent batches


def test_a_wrong_mark_is_found_by_verify_and_renewed_by_a_recovery(tmp_path: Path) -> None:
    old, new = tmp_path / "old.db", tmp_path / "new.db"
    with SqliteJournal(old, engine="sqlite3") as journal:
        for batch in WRITTEN:
            journal.write(batch)
        other = connect(old, "sqlite3", "rw")
        other.run("UPDATE batches SET urgent = 1 - urgent WHERE first IN (4, 7)")
        other.close()
        with journal.reader() as reader:
            told = [problem.what for problem in reader.verify().problems]
        assert told == [
            "positions 4 to 6 are marked as not urgent",
            "positions 7 to 46 are marked as urgent",
        ]
    with pytest.raises(JournalCorrupt, match="marked as not urgent"):
        SqliteJournal(old, engine="sqlite3")
    recovered = recover_into(old, new)
    assert (recovered.entries, recovered.lost) == (51, ())
    with SqliteJournal(new) as journal:
        assert [e.position for e in journal.read_urgent(0, 100)] == URGENT
