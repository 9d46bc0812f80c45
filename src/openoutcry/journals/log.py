"""Reading batches through one connection: forwards, backwards, filtered, and held against the chain.

`rows`, `forwards` and `backwards` give what the file has, for those that judge it themselves. What goes out
as entries is held against the checksum of the batch before: carried along while batches are read in order,
asked for once where reading begins somewhere else.
"""

import struct
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Final

from openoutcry.errors import JournalCorrupt, JournalError
from openoutcry.journals.engines import Connection, is_corrupt
from openoutcry.journals.matching import matching
from openoutcry.journals.rows import NORMAL, Chain, Row, unpack
from openoutcry.journals.schema import SELECT_BATCH
from openoutcry.ports import Filter, Stored

_HOLDER: Final = "coalesce((SELECT max(first) FROM batches WHERE first <= ?), 0)"
_FORWARDS: Final = SELECT_BATCH + f"WHERE first >= {_HOLDER} ORDER BY first"
_BACKWARDS: Final = SELECT_BATCH + "WHERE first <= ? ORDER BY first DESC"
_ONE: Final = _BACKWARDS + " LIMIT 1"
_URGENT: Final = SELECT_BATCH + f"WHERE urgent = 1 AND first >= {_HOLDER} ORDER BY first"
_BEFORE: Final = "SELECT checksum FROM batches WHERE first < ? ORDER BY first DESC LIMIT 1"
_LINK: Final = "SELECT first + count - 1, checksum FROM batches WHERE first <= ? ORDER BY first DESC LIMIT 1"
_HEAD: Final = "SELECT first + count - 1 FROM batches ORDER BY first DESC LIMIT 1"
_FLOOR: Final = "SELECT key, value FROM meta WHERE key IN ('floor', 'floor_checksum')"
_TYPES: Final = (int, int, int, int, bytes, bytes, int)
_UNMARKED: Final = {NORMAL}
LAST_POSITION: Final = 2**63 - 1


def take_forwards(
    batches: Iterator[list[Stored]],
    after: int,
    limit: int,
    where: Filter | None,
    bytes_max: int | None = None,
) -> list[Stored]:
    """Collect the first `limit` entries behind a position that meet a filter.

    With `bytes_max` it takes no further batch once their payloads have so many bytes.
    """
    found: list[Stored] = []
    size_bytes = 0
    meets = None if where is None else matching(where)
    for batch in batches:
        if batch and batch[0].position <= after:
            batch = batch[after + 1 - batch[0].position :]  # noqa: PLW2901 - the rest of the same batch
        before = len(found)
        found += islice(batch if meets is None else filter(meets, batch), limit - before)
        if len(found) >= limit:
            break
        if bytes_max is not None:
            size_bytes += bytes_of(found[before:])
            if size_bytes >= bytes_max:
                break
    return found


def bytes_of(entries: Iterable[Stored]) -> int:
    """Return how many bytes the payloads of some entries have."""
    return sum([len(entry.payload) for entry in entries])


def take_backwards(batches: Iterator[list[Stored]], limit: int, where: Filter | None) -> list[Stored]:
    """Collect the last `limit` entries that meet a filter, from batches that come newest first."""
    found: list[Stored] = []
    meets = None if where is None else matching(where)
    for batch in batches:
        for entry in reversed(batch):
            if meets is None or meets(entry):
                found.append(entry)
                if len(found) == limit:
                    return found[::-1]
    return found[::-1]


class Log:
    """The batches of a journal file, as one connection sees them.

    With a chain, `read`, `read_urgent`, `tail` and `entry` raise `JournalCorrupt` where a batch is not what
    was written. Without one they give whatever can be read.
    """

    __slots__ = ("_chain", "_kept", "_kept_first", "_link", "_next", "db", "path")

    def __init__(self, db: Connection, path: Path, chain: Chain | None = None) -> None:
        self.db: Connection = db
        self.path: Path = path
        self._chain = chain
        self._next = 0
        """Where the batch begins that follows the last one held, whose checksum is `_link`."""
        self._link = b""
        self._kept: list[Stored] = []
        self._kept_first = 0

    def rows(self, sql: str, position: int, *, held: bool = False) -> Generator[Row, None, None]:
        """Yield batches, turning what SQLite says of damage into `JournalCorrupt`.

        What is `held` against the chain need not be looked at for its types.
        """
        try:
            with closing(self.db.rows(sql, (position,))) as found:
                for row in found:
                    if not held and tuple(map(type, row)) != _TYPES:
                        raise JournalCorrupt(
                            f"{self.path}: a row near position {position} has not the types of a batch; "
                            f"go on in a new file with recover_into",
                            position,
                        )
                    yield Row(*row)
        except self.db.error as problem:
            raise self._unreadable(position, problem) from problem

    def _unreadable(self, position: int, problem: Exception) -> JournalError:
        if is_corrupt(problem):
            return JournalCorrupt(
                f"{self.path} is damaged near position {position} ({problem}); "
                f"run verify, and go on in a new file with recover_into",
                position,
            )
        return JournalError(f"{self.path} cannot be read: {problem}; try again")

    def forwards(self, position: int = 0) -> Generator[Row, None, None]:
        """Yield batches in order, from the one that holds `position`."""
        return self.rows(_FORWARDS, position)

    def backwards(self, position: int = LAST_POSITION) -> Generator[Row, None, None]:
        """Yield batches newest first, from the one that holds `position`."""
        return self.rows(_BACKWARDS, position)

    def newest(self) -> Row | None:
        """Return the last batch."""
        return next(self.rows(_ONE, LAST_POSITION), None)

    def head(self) -> int | None:
        """Return the position of the last entry, without reading its batch; None if there is no batch."""
        try:
            found = next(iter(list(self.db.rows(_HEAD))), None)
        except self.db.error as problem:
            raise self._unreadable(LAST_POSITION, problem) from problem
        if found is None or isinstance(found[0], int):
            return None if found is None else found[0]
        newest = self.newest()  # which says what is wrong
        return None if newest is None else newest.last

    def read(
        self, after: int, limit: int, where: Filter | None, bytes_max: int | None = None
    ) -> list[Stored]:
        """Return the next `limit` entries behind a position that meet a filter; see `take_forwards`."""
        if limit <= 0:
            return []
        at = after + 1 - self._kept_first
        if where is None and at >= 0 and at + limit <= len(self._kept):
            return self._kept[at : at + limit]
        with closing(self._held(_FORWARDS, after + 1)) as rows:
            return take_forwards(map(self._open, _in_time(rows, where)), after, limit, where, bytes_max)

    def read_urgent(self, after: int, limit: int) -> list[Stored]:
        """Return the next `limit` entries of the lanes `control` and `high` behind a position."""
        found: list[Stored] = []
        with closing(self._held(_URGENT, after + 1)) as rows:
            for row in rows:
                found += [entry for entry in unpack(row, all_lanes=False) if entry.position > after]
                if len(found) >= limit:
                    break
        return found[: max(0, limit)]

    def tail(self, limit: int, where: Filter | None) -> list[Stored]:
        """Return the last `limit` entries that meet a filter, oldest first."""
        if limit <= 0:
            return []
        with closing(self._held_backwards()) as rows:
            return take_backwards(map(self._unpack, _in_time(rows, where)), limit, where)

    def back(
        self, before: int, where: Filter | None, holds: Callable[[bytes], bool] | None
    ) -> Generator[tuple[int, list[Stored]], None, None]:
        """Yield the first position and the entries before `before` of each batch, the newest batch first.

        Of a batch that has nothing of the filter's times, or whose bytes `holds` does not accept, there are
        no entries.
        """
        with closing(self._held_backwards(before - 1)) as rows:
            for row in rows:
                if next(_in_time(iter((row,)), where), None) is None or not (
                    holds is None or holds(row.data)
                ):
                    yield row.first, []
                else:
                    yield row.first, self._unpack(row)[: before - row.first]

    def entry(self, position: int) -> Stored | None:
        """Return the entry at a position, or None when it is not kept."""
        if 0 <= position - self._kept_first < len(self._kept):
            return self._kept[position - self._kept_first]
        with closing(self._held(_ONE, position)) as rows:
            row = next(rows, None)
        if row is None or position > row.last:
            return None
        return self._open(row)[position - row.first]

    def batches(self, after: int) -> Generator[Row, None, None]:
        """Yield the batches that end behind a position, in order, each held against the chain."""
        with closing(self._held(_FORWARDS, after + 1)) as rows:
            for row in rows:
                if row.last > after:
                    yield row

    def batch(self, position: int) -> Row | None:
        """Return the batch that holds a position, held against the chain; None when it is not kept."""
        with closing(self._held(_ONE, position)) as rows:
            row = next(rows, None)
        return None if row is None or position > row.last else row

    def link(self, position: int) -> bytes | None:
        """Return the checksum of the batch that ends at a position; None if none does."""
        try:
            for last, checksum in self.db.rows(_LINK, (position,)):
                return checksum if last == position and isinstance(checksum, bytes) else None
        except self.db.error as problem:
            raise self._unreadable(position, problem) from problem
        return None

    def forget(self) -> None:
        """Forget what was unpacked last: it may have been retired."""
        self._kept, self._kept_first = [], 0

    def _open(self, row: Row) -> list[Stored]:
        """Unpack a row, unless it is the one that was unpacked last: small reads go through it again."""
        if self._kept_first != row.first:
            self._kept = self._unpack(row)
            self._kept_first = row.first
        return self._kept

    def _unpack(self, row: Row) -> list[Stored]:
        """Unpack a row and hold its mark against it: without one `read_urgent` would pass it over."""
        entries = unpack(row)
        if not row.urgent and {entry.lane for entry in entries} != _UNMARKED:
            raise self._damaged(row.first, row.size, "are marked as not urgent, and some are")
        return entries

    def _held(self, sql: str, position: int) -> Generator[Row, None, None]:
        """Yield batches that come in order, or singly, each held against the chain."""
        with closing(self.rows(sql, position, held=self._chain is not None)) as rows:
            if self._chain is None:
                yield from rows
                return
            for row in rows:
                first = row.first
                if first != self._kept_first:  # else it was held when it was unpacked
                    if not self._holds(row, self._link if first == self._next else self._before(first)):
                        continue
                    self._next, self._link = first + row.size, row.checksum
                yield row

    def _held_backwards(self, position: int = LAST_POSITION) -> Generator[Row, None, None]:
        """Yield batches newest first, each held against the chain when the one before it is there."""
        with closing(self.rows(_BACKWARDS, position, held=self._chain is not None)) as rows:
            if self._chain is None:
                yield from rows
                return
            row = next(rows, None)
            while row is not None:
                older = next(rows, None)
                if not self._holds(row, self._before(row.first) if older is None else older.checksum):
                    return
                yield row
                row = older

    def _before(self, first: int) -> bytes:
        """Return the checksum that stands before a batch: a gap that a recovery has left does not count."""
        try:
            for (checksum,) in self.db.rows(_BEFORE, (first,)):
                return checksum if isinstance(checksum, bytes) else b""
        except self.db.error as problem:
            raise self._unreadable(first, problem) from problem
        return self._floor(first)[1]

    def _floor(self, first: int) -> tuple[int, bytes]:
        """Return where the file begins, and the checksum before that; of a damaged one nothing holds."""
        try:
            found = dict(self.db.rows(_FLOOR))
            return int(found["floor"]), bytes.fromhex(found["floor_checksum"])
        except self.db.error as problem:
            raise self._unreadable(first, problem) from problem
        except (KeyError, TypeError, ValueError):
            return 0, b""

    def _holds(self, row: Row, before: bytes) -> bool:
        """Return True if a batch holds; False, not an error, when it was retired while it was being read."""
        assert self._chain is not None, "only what has a chain is held against it"
        first, size, first_ns, last_ns, checksum, data, _ = row
        try:
            if self._chain.link(before, first, size, first_ns, last_ns, data, checksum) == checksum:
                return True
        except (TypeError, struct.error):  # damage has changed the type of something
            size = 1
        if self._floor(first)[0] >= first:
            return False
        raise self._damaged(first, size, "do not match their checksum, or the one before it")

    def _damaged(self, first: int, size: int, what: str) -> JournalCorrupt:
        return JournalCorrupt(
            f"{self.path}: positions {first} to {first + size - 1} {what}; "
            f"run verify, and go on in a new file with recover_into",
            first,
        )


def _in_time(rows: Iterator[Row], where: Filter | None) -> Iterator[Row]:
    """Leave out batches that have nothing of the time that is asked for, without unpacking them."""
    return rows if where is None else filter(_timely(where), rows)


def _timely(where: Filter) -> Callable[[Row], bool]:
    """Return the question whether a batch may have something of the time that is asked for."""
    since_ns = where.since_ns if where.since_ns is not None else -LAST_POSITION
    until_ns = where.until_ns if where.until_ns is not None else LAST_POSITION
    return lambda row: row.last_ns >= since_ns and row.first_ns < until_ns
