"""Going on in a new file: what verifies in an old one is copied, and what does not is listed."""

from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Final

import msgspec

from openoutcry.errors import JournalCorrupt, JournalError
from openoutcry.journals import books, schema
from openoutcry.journals.chain import Chain
from openoutcry.journals.engines import Connection, EngineName, connect
from openoutcry.journals.log import Log
from openoutcry.journals.marks import MarksFile
from openoutcry.journals.opening import Opened, chain_of, open_file
from openoutcry.journals.rows import Row
from openoutcry.journals.verifying import Progress, judge
from openoutcry.ports import BuriedEvent, Changes, CursorState

_BATCHES_PER_COMMIT: Final = 64


class Recovered(msgspec.Struct, frozen=True):
    """What a recovery has carried over.

    Attributes:
        path: The new file.
        entries: Entries copied, each at the position that it had.
        lost: Stretches of positions that could not be, as (first, last): they stay empty in the new file.
        beside: What was lost of cursors and dead letters, in words.

    """

    path: Path
    entries: int
    lost: tuple[tuple[int, int], ...]
    beside: tuple[str, ...]


def recover_into(
    source: str | Path,
    target: str | Path,
    *,
    key: bytes | None = None,
    engine: EngineName = "auto",
    progress: Progress | None = None,
) -> Recovered:
    """Build a new journal, a new generation, from the rows of an old one that verify.

    Close the old one first; it stays as it is. A batch is copied if it and the checksum that stands before
    it agree, so that a damaged batch costs itself and, at worst, its neighbour. `progress` is called as in
    `verify`.

    Raises:
        JournalLocked: Somebody writes to the old file, or to the new one.
        JournalError: The new file exists.
        NotAJournal, SchemaTooNew: The old file cannot be read at all.

    """
    old, new = Path(source).resolve(), Path(target)
    if new.exists():
        raise JournalError(f"{new} exists; name a file that does not")
    chain = chain_of(key)
    guard = MarksFile(Path(f"{old}-marks"))
    try:
        db = connect(old, engine, "ro")
        try:
            if schema.is_empty(db, old):
                raise JournalError(f"{old} is empty; there is nothing to recover")
            reached = _reached(db, guard)
            return _copy(Log(db, old), new, chain, key, engine, progress, reached)
        finally:
            db.close()
    finally:
        guard.close(remove=True)


def _reached(db: Connection, guard: MarksFile) -> int:
    """Return the head that the last writer had reached, as far as its marks tell."""
    with suppress(db.error, StopIteration):
        generation = bytes.fromhex(schema.one(db.rows("SELECT value FROM meta WHERE key = 'generation'")))
        if guard.belongs_to(generation):
            return guard.written
    return 0


def _copy(
    log: Log,
    new: Path,
    chain: Chain,
    key: bytes | None,
    engine: EngineName,
    progress: Progress | None,
    reached: int,
) -> Recovered:
    floor, before = _floor(log, chain)
    opened = open_file(new, key, engine, floor=floor)
    try:
        cursors, letters, beside = _books(log, chain)
        copier = _Copier(opened, floor, before, progress)
        copier.forwards(log)
        # no position may be given a second time to another entry: a cursor would take it for settled
        copier.backwards(log, max(reached, *map(_furthest, cursors), 0))
        opened.db.run("BEGIN IMMEDIATE")
        opened.db.run_many("INSERT INTO gaps VALUES(?, ?)", copier.lost)
        books.save(opened.db, Changes(cursors=cursors, buried=letters), chain)
        with suppress(log.db.error):
            opened.db.run_many(
                "INSERT INTO suspects VALUES(?, ?, ?, ?)",
                [(s.subscription, s.lane, s.position, s.crashes) for s in books.suspects(log.db)],
            )
        opened.db.run("COMMIT")
        opened.marks.reached(copier.at)
    finally:
        opened.db.close()  # the last connection: everything is checkpointed and synced
        opened.marks.close()
    return Recovered(opened.path, copier.copied, tuple(copier.lost), beside)


def _furthest(cursor: CursorState) -> int:
    return max(cursor.floor, *(last for _, last in cursor.settled), 0)


def _floor(log: Log, chain: Chain) -> tuple[int, bytes]:
    """Return where the old journal begins; where that is damaged, at its first batch."""
    with suppress(JournalError, ValueError):
        found = schema.check_settings(schema.settings(log.db, log.path), chain, log.path)
        return int(found["floor"]), bytes.fromhex(found["floor_checksum"])
    with suppress(JournalError):
        for row in log.forwards():
            return row.first - 1, chain.start
    return 0, chain.start


class _Copier:
    """Copies batches that verify into a new file, each at its place."""

    def __init__(self, opened: Opened, floor: int, before: bytes, progress: Progress | None) -> None:
        self._db = opened.db
        self._chain = opened.chain
        self._progress = progress
        self._old_before = before
        self._new_before = opened.chain.start
        self.at = floor
        self.copied = 0
        self.lost: list[tuple[int, int]] = []

    def forwards(self, log: Log) -> None:
        """Copy from the beginning up to where the database cannot be read any more."""
        rows = iter(log.forwards(self.at + 1))
        more = True
        while more:
            some: list[Row] = []
            try:
                some.extend(islice(rows, _BATCHES_PER_COMMIT))
                more = len(some) == _BATCHES_PER_COMMIT
            except JournalCorrupt:
                more = False
            self._take(some)

    def backwards(self, log: Log, reached: int) -> None:
        """Copy what can be read from the end, down to where `forwards` has come."""
        rest: list[Row] = []
        with suppress(JournalCorrupt):
            for row in log.backwards():
                if row.first <= self.at:
                    break
                rest.append(row)
        if rest:
            self._old_before = b""  # what stands before the last of them is not known
            self._take(rest[::-1])
        if reached > self.at:
            self._skip(reached)

    def _take(self, rows: list[Row]) -> None:
        self._db.run("BEGIN IMMEDIATE")
        for row in self._good(rows):
            if row.first > self.at + 1:
                self._skip(row.first - 1)
            again = self._chain.link(
                self._new_before, row.first, row.size, row.first_ns, row.last_ns, row.data
            )
            self._db.run(schema.INSERT_BATCH, row._replace(checksum=again))
            self._new_before, self.at = again, row.last
            self.copied += row.size
            if self._progress is not None:
                self._progress(row.last, rows[-1].last)
        self._db.run("COMMIT")

    def _good(self, rows: list[Row]) -> Iterator[Row]:
        for row in rows:
            if row.first > self.at and judge(row, row.first, self._old_before, self._chain) is None:
                yield row
            self._old_before = row.checksum

    def _skip(self, last: int) -> None:
        self.lost.append((self.at + 1, last))
        self.at = last


def _books(log: Log, chain: Chain) -> tuple[list[CursorState], list[BuriedEvent], tuple[str, ...]]:
    beside: list[str] = []
    cursors: list[CursorState] = []
    letters: list[BuriedEvent] = []
    try:
        cursors = books.cursors(log.db, chain)
    except (JournalCorrupt, ValueError, log.db.error) as problem:
        beside.append(f"cursors: {problem}")
    try:
        letters = books.letters(log.db, chain, None)
    except (JournalCorrupt, ValueError, log.db.error) as problem:
        beside.append(f"dead letters: {problem}")
    return cursors, letters, tuple(beside)
