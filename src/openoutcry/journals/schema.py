"""The tables and the view of a journal file, and how a file is recognised as one."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from openoutcry.errors import (
    JournalCorrupt,
    JournalError,
    JournalFull,
    JournalLocked,
    NotAJournal,
    SchemaTooNew,
)
from openoutcry.journals.engines import Connection, is_busy, is_corrupt, is_foreign, is_from_disk, is_full
from openoutcry.journals.refusals import explain, has_no_room
from openoutcry.journals.rows import KEYED, UNKEYED, Chain

APPLICATION_ID: Final = 0x4F4F4331
"""In SQLite's header field for this purpose: "OOC1"."""
SCHEMA_VERSION: Final = 3
"""In SQLite's `user_version`. 2: batches with entries of the lanes `control` and `high` are marked. 3: the
tables of `BESIDE`.

The mark is the last column. Being 0 or 1 it stands in the row's header, so that a query for it reads no
entries; an index on it would be no faster for batches, and cost every urgent commit a page.
"""

BESIDE: Final = (
    """CREATE TABLE halts(
        scope TEXT NOT NULL, event_id TEXT NOT NULL, source TEXT NOT NULL, reason TEXT NOT NULL,
        since_ns INTEGER NOT NULL, count INTEGER NOT NULL, checksum BLOB NOT NULL,
        PRIMARY KEY(scope, event_id)) WITHOUT ROWID""",
    """CREATE TABLE tombstones(
        subscription TEXT NOT NULL, position INTEGER NOT NULL, checksum BLOB NOT NULL, PRIMARY
        KEY(subscription, position)) WITHOUT ROWID""",
    """CREATE TABLE snapshots(
        subscription TEXT PRIMARY KEY, cursors TEXT NOT NULL, wall_ns INTEGER NOT NULL, form TEXT NOT NULL,
        state BLOB NOT NULL, checksum BLOB NOT NULL)""",
    """CREATE TABLE seals(
        name TEXT PRIMARY KEY, serial INTEGER NOT NULL, count INTEGER NOT NULL, digest BLOB NOT NULL, checksum
        BLOB NOT NULL) WITHOUT ROWID""",
)
"""The tables of version 3. Every row ends with a checksum of its own: see `sealing`, and `seals` for the rows
of that table, which sealed journals alone have.
"""
AIDS: Final = (
    "CREATE INDEX IF NOT EXISTS dead_letters_by_position ON dead_letters(subscription, position)",
    """CREATE TABLE IF NOT EXISTS id_blocks(
        first INTEGER PRIMARY KEY, last INTEGER NOT NULL, records BLOB NOT NULL, checksum BLOB NOT NULL)""",
)
"""What only makes things faster, and is made where it is missing: so that retention finds the first dead
letter of a subscription, however many there are, and an opening the ids of old entries (see `id_blocks`).
"""
SEALED: Final = ("halts", "tombstones", "snapshots", "seals")
"""The tables of `BESIDE`, by name."""

_TABLES: Final = (
    "CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL, checksum BLOB NOT NULL) WITHOUT ROWID",
    """CREATE TABLE batches(
        first INTEGER PRIMARY KEY, count INTEGER NOT NULL, first_ns INTEGER NOT NULL, last_ns INTEGER NOT
        NULL, checksum BLOB NOT NULL, entries TEXT NOT NULL, urgent INTEGER NOT NULL DEFAULT 0)""",
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
    *AIDS,
    *BESIDE,
)
_COLUMNS_BESIDE: Final = {
    "halts": ("scope", "event_id", "source", "reason", "since_ns", "count", "checksum"),
    "tombstones": ("subscription", "position", "checksum"),
    "snapshots": ("subscription", "cursors", "wall_ns", "form", "state", "checksum"),
    "seals": ("name", "serial", "count", "digest", "checksum"),
}
_FIELDS: Final = (
    "event_id",
    "event_type",
    "source_agent",
    "symbol",
    "correlation_id",
    "causation_id",
    "round_id",
)
_COLUMNS: Final = ",\n    ".join(
    f"coalesce(json_extract(e.value, '$[4].{name}'), json_extract(e.value, '$[3].{name}')) AS {name}"
    for name in _FIELDS
)
_VIEW: Final = f"""CREATE VIEW events AS
SELECT
    b.first + e.key AS position,
    strftime('%Y-%m-%dT%H:%M:%f', (b.first_ns + json_extract(e.value, '$[2]')) / 1e9, 'unixepoch') AS time,
    b.first_ns + json_extract(e.value, '$[2]') AS wall_ns,
    {_COLUMNS},
    json_extract(json_array('control', 'high', 'normal'), '$[' || json_extract(e.value, '$[0]') || ']') AS
    lane, json_extract(json_array('memory', 'process', 'disk'), '$[' || json_extract(e.value, '$[1]') ||
    ']') AS level, json_extract(e.value, '$[3]') AS event
FROM batches AS b, json_each(b.entries) AS e"""  # noqa: S608 - made of the names above alone

INSERT_BATCH: Final = "INSERT INTO batches VALUES(?, ?, ?, ?, ?, CAST(? AS TEXT), ?)"
SELECT_BATCH: Final = (
    "SELECT first, count, first_ns, last_ns, checksum, CAST(entries AS BLOB), urgent FROM batches "
)
NEXT_OF: Final = "next_of"
"""The setting that says of which journal a recovery has made this one: see `descent`."""
SAVE_META: Final = "INSERT OR REPLACE INTO meta VALUES(?, ?, ?)"


def create(db: Connection, settings: dict[str, str], chain: Chain) -> None:
    """Lay out an empty file, in one transaction."""
    db.run("BEGIN IMMEDIATE")
    for statement in (*_TABLES, _VIEW):
        db.run(statement)
    db.run_many(SAVE_META, (setting(key, value, chain) for key, value in settings.items()))
    db.run(f"PRAGMA application_id = {APPLICATION_ID}")
    db.run(f"PRAGMA user_version = {SCHEMA_VERSION}")
    db.run("COMMIT")


def version_of(db: Connection) -> int:
    """Return the schema version of a journal file."""
    return _number(db, "user_version")


def lend(db: Connection) -> None:
    """Let a connection read an older file as if it had the columns of newer ones; `take_back` ends it."""
    version = version_of(db)
    if version < 2:
        db.run("CREATE TEMP VIEW batches AS SELECT *, -1 AS urgent FROM main.batches")
    if version < 3:
        for name, columns in _COLUMNS_BESIDE.items():
            nothing = ", ".join(f"NULL AS {column}" for column in columns)
            db.run(f"CREATE TEMP VIEW {name} AS SELECT {nothing} WHERE 0")


def take_back(db: Connection) -> None:
    """Undo `lend`."""
    for name in ("batches", *SEALED):
        db.run(f"DROP VIEW IF EXISTS temp.{name}")


def setting(key: str, value: str, chain: Chain) -> tuple[str, str, bytes]:
    """Return the row of a setting."""
    return key, value, chain.seal(json.dumps([key, value]))


def settings(db: Connection, path: Path) -> dict[str, tuple[str, bytes]]:
    """Return the settings of a file with their checksums, which `check_settings` looks at."""
    try:
        rows = list(db.rows("SELECT key, value, checksum FROM meta"))
    except db.error as problem:
        raise unreadable(path, problem) from problem
    # damage may have changed the types too: then the checksum does not hold
    return {str(key): (str(value), check if isinstance(check, bytes) else b"") for key, value, check in rows}


def check_settings(found: dict[str, tuple[str, bytes]], chain: Chain, path: Path) -> dict[str, str]:
    """Return the settings by name. Raises `JournalCorrupt` where one is not what was written."""
    kind = found.get("checksum", ("", b""))[0]
    if kind == KEYED and chain.kind == UNKEYED:
        raise JournalError(f"{path} is sealed with a key; give the key that it was made with")
    if kind == UNKEYED and chain.kind == KEYED:
        raise JournalError(f"{path} was made without a key; open it without one")
    for key, (value, check) in found.items():
        if chain.seal(json.dumps([key, value])) != check:
            hint = " (or the key is not the one that it was made with)" if kind == KEYED else ""
            raise JournalCorrupt(f"{path}: the setting {key!r} is damaged{hint}; recover_into a new file")
    missing = {"generation", "checksum", "floor", "floor_checksum"} - found.keys()
    if missing:
        raise JournalCorrupt(
            f"{path}: the settings {sorted(missing)} are missing; restore the file from a copy"
        )
    return {key: value for key, (value, _) in found.items()}


def is_empty(db: Connection, path: Path) -> bool:
    """Return True if a file has nothing in it yet, False if it is a journal. Raises for anything else."""
    try:
        application_id, version = _number(db, "application_id"), _number(db, "user_version")
        tables = next(iter(db.rows("SELECT count(*) FROM sqlite_master")))[0]
    except db.error as problem:
        raise unreadable(path, problem) from problem
    if application_id == 0 and version == 0 and tables == 0:
        if path.stat().st_size and not _number(db, "page_count"):
            raise NotAJournal(f"{path} is too short to be a journal; give the journal a file of its own")
        return True
    if application_id != APPLICATION_ID or version < 1:
        raise NotAJournal(
            f"{path} is an SQLite database of another program (application_id {application_id:#x}); "
            f"give the journal a file of its own"
        )
    if version > SCHEMA_VERSION:
        raise SchemaTooNew(
            f"{path} has schema version {version}, and this version of openoutcry knows {SCHEMA_VERSION}: "
            f"upgrade openoutcry"
        )
    return False


def unreadable(path: Path, problem: Exception) -> JournalError:
    """Return the error to raise for what SQLite said while a file was being opened."""
    if isinstance(problem, JournalError):
        return problem
    if is_foreign(problem):
        return NotAJournal(f"{path} is not a journal ({problem}); give the journal a file of its own")
    if is_corrupt(problem):
        return JournalCorrupt(f"{path} is damaged ({problem}); recover_into a new file")
    if is_busy(problem):
        return JournalLocked(
            f"{path} is locked by another program ({problem}); end its transaction, and open it again",
            is_passing=True,
        )
    if is_full(problem) or (is_from_disk(problem) and has_no_room(path)):
        return JournalFull(f"{path} cannot be opened: the disk has no room ({problem}); make room")
    return JournalError(f"{path} cannot be opened: {problem}; {explain(path)}")


def _number(db: Connection, pragma: str) -> int:
    return int(one(db.rows(f"PRAGMA {pragma}")))


def one(rows: Iterable[Any]) -> Any:
    """Return the first column of the first row, when the statement is through: its commit comes last."""
    return list(rows)[0][0]  # noqa: RUF015 - `next` would leave the commit, and its error, to the collector
