"""Rows with a checksum of their own: how it is made, and how they are read."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from openoutcry.errors import JournalCorrupt, JournalError
from openoutcry.journals import schema
from openoutcry.journals.engines import Connection, is_corrupt
from openoutcry.journals.rows import Chain
from openoutcry.printable import writable


def sealed(values: Sequence[Any], chain: Chain) -> tuple[Any, ...]:
    """Return values with their checksum: a row of the tables in `schema.SEALED`."""
    return *values, chain.seal(_as_text(values, chain))


def _as_text(values: Sequence[Any], chain: Chain) -> str:
    """Return what a checksum is over: JSON, with the checksum of bytes in their place."""
    return json.dumps([chain.seal(value).hex() if isinstance(value, bytes) else value for value in values])


def is_sealed(values: Sequence[Any], checksum: Any, chain: Chain) -> bool:
    """Return True if values are what was saved; damage may have changed their types too."""
    return isinstance(checksum, bytes) and chain.seal(_as_text(values, chain)) == checksum


def halt_place(scope: str, event_id: str) -> tuple[str, str]:
    """Return where an active kill switch stands: half a surrogate pair in its scope or id is escaped."""
    return writable(scope), writable(event_id)


def rows_of(db: Connection, sql: str, values: Sequence[Any] = ()) -> Iterator[Any]:
    """Yield rows, turning what SQLite says of damage into `JournalCorrupt`."""
    try:
        yield from db.rows(sql, values)
    except db.error as problem:
        if is_corrupt(problem):
            raise JournalCorrupt(
                f"what is saved beside the log is damaged ({problem}); go on in a new file with recover_into"
            ) from problem
        raise JournalError(f"the journal cannot be read: {problem}; try again") from problem


def rows_sealed(db: Connection, chain: Chain | None, table: str) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of a table in `schema.SEALED`; with a chain, raise `JournalCorrupt` at a damaged one."""
    for row, is_whole in rows_judged(db, chain, table):
        if not is_whole:
            raise JournalCorrupt(
                f"a row of {table} ({row[0]!r}) is damaged; go on in a new file with recover_into"
            )
        yield row


def rows_judged(db: Connection, chain: Chain | None, table: str) -> Iterator[tuple[tuple[Any, ...], bool]]:
    """Yield the rows of a table in `schema.SEALED`, each with whether it is what was saved."""
    assert table in schema.SEALED, "a table with checksums by row"
    for *values, checksum in rows_of(db, f"SELECT * FROM {table}"):  # noqa: S608 - one of our own names
        yield (*values, checksum), chain is None or is_sealed(values, checksum, chain)
