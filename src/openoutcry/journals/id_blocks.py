"""Which ids stand in older entries, kept in the file: so that nobody waits for all of them after an opening.

Ids that count are told by their stems (`stems`). For the others, those that handlers derive and users' own,
a block says of a stretch of positions which of them stand there: for each a record of eight bytes, the CRC-32
of the id and the place within the stretch, in order. Like the index in memory a block only says where to
look, and the entry itself decides; but an id that is in no block is not in those entries. Blocks are made in
idle moments. What is wrong with one costs time and nothing else: the entries are then read, as without it.
Its checksum is over the chain at its end too: a block of another file would tell that ids are new.
"""

import sys
import zlib
from array import array
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import closing
from typing import Final

from openoutcry.errors import JournalCorrupt
from openoutcry.journals.engines import Connection
from openoutcry.journals.ids import counts
from openoutcry.journals.log import Log
from openoutcry.journals.retention import PAGE_BYTES
from openoutcry.journals.rows import Chain, event_ids, is_beside
from openoutcry.journals.sealing import is_sealed, sealed

POSITIONS: Final = 16_384
"""So many positions a block is over, at least,"""
BYTES: Final = 32_000_000
"""or entries of so many bytes: they take as long to read."""
_WEIGHED_AGAIN: Final = 16
"""How large they are is estimated again when there are more of them by this part."""
_PLACE_BITS: Final = 32
_PLACE_MASK: Final = (1 << _PLACE_BITS) - 1
_ALL: Final = "SELECT first, last, records, checksum FROM id_blocks ORDER BY first"
_PAGES: Final = ("PRAGMA page_count", "PRAGMA freelist_count")
_SAVE: Final = "INSERT OR REPLACE INTO id_blocks VALUES(?, ?, ?, ?)"
_LINK: Final = "SELECT checksum FROM batches WHERE first <= ? ORDER BY first DESC LIMIT 1"
_DROP: Final = "DELETE FROM id_blocks WHERE first >= ? OR last >= ?"


class IdBlocks:
    """The blocks of a journal file, read when they are first needed."""

    __slots__ = (
        "_blocks",
        "_bytes",
        "_chain",
        "_db",
        "_first",
        "_is_due",
        "_is_given_up",
        "_link",
        "_next",
        "_records",
        "_upto",
        "_weighed",
    )

    def __init__(self, db: Connection, chain: Chain) -> None:
        self._db = db
        self._chain = chain
        self._blocks: list[tuple[int, array[int]]] = []
        self._upto: int | None = None
        self._first = self._next = 0
        self._link = b""
        """The checksum of the batch before `_next`: a block of another file does not go with this one's."""
        self._records: list[int] = []
        self._is_given_up = self._is_due = False
        self._bytes = self._weighed = 0

    def upto(self, floor: int) -> int:
        """Return up to which position the blocks say everything, from the first above `floor` on."""
        if self._upto is None:
            self._upto = floor
            try:
                self._load()
            except self._db.error:  # damage: what was read is good
                self._is_given_up = True
        return self._upto

    def _load(self) -> None:
        for first, last, data, checksum in self._db.rows(_ALL):
            assert self._upto is not None, "it begins at the floor"
            link = next(self._db.rows(_LINK, (last,)), (b"",))[0]
            is_whole = isinstance(data, bytes) and is_sealed((first, last, data, link), checksum, self._chain)
            if not is_whole or len(data) % 8 or first > self._upto + 1:
                return
            records = array("Q", data)
            if sys.byteorder == "big":
                records.byteswap()
            self._blocks.append((first, records))
            self._upto = max(self._upto, last)

    def places(self, event_id: str) -> Iterator[int]:
        """Yield the positions where an id may stand."""
        code = _code(event_id)
        low = code << _PLACE_BITS
        for first, records in self._blocks:
            at = bisect_left(records, low)
            while at < len(records) and records[at] >> _PLACE_BITS == code:
                yield first + (records[at] & _PLACE_MASK)
                at += 1

    def forget(self) -> None:
        """Free the memory: every id has been looked up by now."""
        self._blocks.clear()

    def give_up(self) -> None:
        """Make no more blocks until the file is opened again."""
        self._is_given_up = True

    def grow(self, log: Log, floor: int, head: int, count: int, bytes_max: int) -> tuple[bool, int]:
        """Look at about `count` entries for the next block; return whether there is more, and bytes written.

        At fewer, once the batches that were read have `bytes_max` bytes.

        For when every id has been looked up. Raises what the database does.
        """
        if self._is_given_up:
            return False, 0
        if not self._first:
            self._first = self._next = max(self.upto(floor), floor) + 1
            self.forget()
        if not self._has_enough(floor, head):
            return False, 0
        before = self._next
        try:
            self._read(log, count, bytes_max)
        except JournalCorrupt:
            self._is_given_up = True
            return False, 0
        if self._next == before:  # they are smaller than most
            self._is_due = False
            return False, 0
        return True, self._write() if self._is_whole() else 0

    def _has_enough(self, floor: int, head: int) -> bool:
        """Return True if there seems to be enough for a block: as many entries, or as large ones."""
        count = head - self._first + 1
        if self._is_due or count >= POSITIONS:
            return True
        if count - self._weighed <= count // _WEIGHED_AGAIN:
            return False
        self._weighed = count
        pages, free = (next(self._db.rows(sql))[0] for sql in _PAGES)
        self._is_due = (pages - free) * PAGE_BYTES * count // (head - floor) >= BYTES
        return self._is_due

    def _is_whole(self) -> bool:
        """Return True if what was read is enough for a block."""
        return self._next - self._first >= POSITIONS or self._bytes >= BYTES

    def _read(self, log: Log, count: int, bytes_max: int) -> None:
        first, add = self._first, self._records.append
        with closing(log.forwards(self._next)) as rows:
            for row in rows:
                for place, event_id in enumerate(() if is_beside(row) else event_ids(row), row.first - first):
                    if not counts(event_id):
                        add(_code(event_id) << _PLACE_BITS | place)
                self._next, self._link = row.last + 1, row.checksum
                count, bytes_max = count - row.size, bytes_max - len(row.data)
                self._bytes += len(row.data)
                if count <= 0 or bytes_max <= 0 or self._is_whole():
                    return

    def _write(self) -> int:
        records = array("Q", sorted(self._records))
        if sys.byteorder == "big":
            records.byteswap()
        data = records.tobytes()
        self._db.run(_DROP, (self._first, self._first))  # what could not be used
        place = self._first, self._next - 1, data
        checksum = sealed((*place, self._link), self._chain)[-1]
        self._db.run(_SAVE, (*place, checksum))
        self._first, self._records = self._next, []
        self._bytes, self._weighed, self._is_due = 0, 0, False
        return len(data)


def _code(event_id: str) -> int:
    return zlib.crc32(event_id.encode("utf-8", "surrogatepass"))
