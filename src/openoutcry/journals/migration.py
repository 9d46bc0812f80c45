"""Bringing a file of an older schema up to date: version after version, each in one transaction.

A step and the new version number are one commit, so that a crash leaves the file at one version or the next,
and the next opening goes on from there. A step that fails leaves the file as it was.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from openoutcry.errors import JournalFull, JournalLocked
from openoutcry.journals import schema
from openoutcry.journals.engines import Connection, is_busy, is_full
from openoutcry.journals.log import Log
from openoutcry.journals.rows import Row, is_urgent

_SOME: Final = (
    "SELECT first, count, first_ns, last_ns, checksum, CAST(entries AS BLOB), urgent "
    "FROM batches WHERE first > ? ORDER BY first LIMIT 16"
)


def _mark_urgent(db: Connection, path: Path) -> None:
    """Mark the batches that have entries of the lanes `control` and `high`."""
    db.run("ALTER TABLE batches ADD COLUMN urgent INTEGER NOT NULL DEFAULT 0")
    for row in _all(Log(db, path)):
        if is_urgent(row):
            db.run("UPDATE batches SET urgent = 1 WHERE first = ?", (row.first,))


def _add_tables(db: Connection, _path: Path) -> None:
    """Add the tables of active kill switches, tombstones, snapshots and seals, all of them empty."""
    for statement in schema.BESIDE:
        db.run(statement)


def _all(log: Log) -> Iterator[Row]:
    """Yield every batch, with no query open while one is looked at: it may then be changed."""
    last = 0
    while some := list(log.rows(_SOME, last)):
        yield from some
        last = some[-1].first


Migration = Callable[[Connection, Path], None]
STEPS: Final[Mapping[int, Migration]] = {2: _mark_urgent, 3: _add_tables}
"""What leads to a version from the one before it, inside a transaction."""


def migrate(db: Connection, path: Path, steps: Mapping[int, Migration] = STEPS) -> None:
    """Bring a journal file that has been looked through to `schema.SCHEMA_VERSION`; the lock is ours.

    Raises `JournalCorrupt` where a batch cannot be read, `JournalFull` where there is no room for what is
    rewritten (in the worst case as much as the file has), and `JournalLocked` where another program writes.
    """
    begun = schema.version_of(db)
    for version in range(begun + 1, schema.SCHEMA_VERSION + 1):
        try:
            db.run("BEGIN IMMEDIATE")
            steps[version](db, path)
            db.run(f"PRAGMA user_version = {version}")
            db.run("COMMIT")
        except BaseException as problem:
            if db.in_transaction:
                db.run("ROLLBACK")
            if isinstance(problem, db.error) and is_full(problem):
                raise JournalFull(
                    f"{path}: the disk has no room to bring the journal from schema version {version - 1} to "
                    f"{version}, nothing was changed; make as much room as the file has, and open it again"
                ) from problem
            if isinstance(problem, db.error) and is_busy(problem):
                raise JournalLocked(
                    f"{path}: another program is using the database, which has to be brought to schema "
                    f"version {version}; end it, and open the journal again",
                    is_passing=True,
                ) from problem
            raise
    if begun < schema.SCHEMA_VERSION:
        list(db.rows("PRAGMA wal_checkpoint(TRUNCATE)"))
