"""The file beside a journal that says where names stand: made by readers, and never believed unseen.

It is an SQLite database of *shelves*: each has the keys of some neighbouring positions, by kind in blocks
of ascending keys. For each kind a row says which keys the blocks begin with, so that one more read finds the
right one. A block's checksum takes in from which key to which it reaches, its shelf and the file, so that a
block which is missing, damaged, or left over from an older shelf is noticed by whoever would need it. A shelf
says which checksum the journal had at its end: an index of another journal, or of another state of this one,
does not fit. With the journal's key these checksums are keyed too.

In a block a key is what it has beyond the first key there may be, in as few bytes as the largest one needs.

Nothing of it is synced or logged, as all of it can be made again.
"""

import os
import sqlite3
import stat
import struct
import sys
import zlib
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import quote

import msgspec

from openoutcry.journals.engines import Connection, StandardConnection, cannot_open, is_busy, is_full
from openoutcry.journals.lineage.keys import HASH_BITS, KINDS, OFFSET_BITS, SHELF, Hashing, Keys

ENDING: Final = "-lineage"
FORM: Final = 2
"""The version of what is written here; a file of another one is made again."""
_ROOT: Final = 0
_BLOCK: Final = 440
"""So many keys are a block: in a large shelf, three of them fit on a page."""
_KEY_BYTES: Final = 8
_KIND_BITS: Final = 3
_END: Final = (1 << (HASH_BITS + OFFSET_BITS)) - 1
_WAIT: Final = "PRAGMA busy_timeout = 2000"
_SETTINGS: Final = ("PRAGMA synchronous = OFF", "PRAGMA journal_mode = MEMORY")
_TABLES: Final = (
    "PRAGMA page_size = 8192",
    "CREATE TABLE about(said TEXT NOT NULL, checksum BLOB NOT NULL)",
    """CREATE TABLE shelves(first INTEGER PRIMARY KEY, last INTEGER NOT NULL, link BLOB NOT NULL,
        after INTEGER NOT NULL, checksum BLOB NOT NULL)""",
    """CREATE TABLE starts(place INTEGER PRIMARY KEY, block INTEGER NOT NULL, lows BLOB NOT NULL,
        checksum BLOB NOT NULL)""",
    "CREATE TABLE blocks(number INTEGER PRIMARY KEY, keys BLOB NOT NULL, checksum BLOB NOT NULL)",
)
"""A `place` is the first position of a shelf, and in the lowest bits a kind."""
_SHELVES: Final = "SELECT first, last, link, after, checksum FROM shelves ORDER BY first"
_STARTS: Final = "SELECT block, lows, checksum FROM starts WHERE place = ?"
_BLOCKS: Final = "SELECT keys, checksum FROM blocks WHERE number BETWEEN ? AND ? ORDER BY number"
_NEXT: Final = "SELECT coalesce(max(number), 0) + 1 FROM blocks"
_pack: Final = struct.Struct(">QQQQQ").pack


class NotBelieved(Exception):
    """The file is not what was written for this journal: it is to be thrown away."""


class NotNow(Exception):
    """The file cannot be used now: another process writes it, or this one may not."""


class Shelf(NamedTuple):
    """Positions whose keys are kept together.

    Attributes:
        first: The first position.
        last: The last.
        link: The journal's checksum of the batch that ends there.
        after: Where the shelf before it ends: what is between is no longer in the journal.

    """

    first: int
    last: int
    link: bytes
    after: int

    @property
    def span(self) -> int:
        """How many positions it has."""
        return self.last - self.first + 1


class _Starts(NamedTuple):
    """Where the blocks of a shelf begin that have the keys of one kind.

    Attributes:
        block: The number of the first block; the others follow.
        lows: The lowest key that each may have; that of the first is 0.

    """

    block: int
    lows: "array[int]"

    def reach(self, at: int) -> tuple[int, int]:
        """Return from which key to which a block reaches."""
        return self.lows[at], self.lows[at + 1] if at + 1 < len(self.lows) else _END


class _About(msgspec.Struct, frozen=True):
    form: int
    name: str
    """A name for the file, at random, which all checksums take in."""
    origin: str
    modulus: int
    references: tuple[str, ...]


class SideFile:
    """The file, open.

    Attributes:
        path: Where it is.
        hashing: How names become numbers here.
        may_write: Whether this process may write it.
        shelves: What it has, ascending and without a hole.

    Raises:
        NotBelieved: It is not what was written.
        NotNow: It cannot be opened.

    """

    def __init__(self, path: Path, *, owner: int, key: bytes | None, may_write: bool = True) -> None:
        self.path = path
        self._key = key
        self.may_write: bool = may_write
        self._place = _place_of(path, owner)
        with _told():
            self._db: Connection = StandardConnection(_uri(path, "rw" if may_write else "ro"))
            try:
                self._db.run(_WAIT)
                self._is_set = False
                self._about = self._read_about()
                self._name = self._about.name.encode()
                self.hashing = Hashing(self._about.modulus, frozenset(self._about.references))
                self.shelves: list[Shelf] = []
                self._starts: dict[int, _Starts] = {}
                self._seen = -1
                self.look_again()
            except BaseException:
                self._db.close()
                raise

    @classmethod
    def make(
        cls, path: Path, *, owner: int, key: bytes | None, origin: str, references: Iterable[str]
    ) -> "SideFile":
        """Make an empty one. Raises `NotNow` where that cannot be done."""
        about = _About(FORM, os.urandom(8).hex(), origin, _modulus(), tuple(sorted(references)))
        said = msgspec.json.encode(about)
        if os.geteuid() not in (_ROOT, owner):
            raise NotNow("the journal is another user's")
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
            fd = os.open(path, flags, 0o600)
            try:
                if os.geteuid() != owner:
                    os.fchown(fd, owner, -1)
            finally:
                os.close(fd)
        except OSError as problem:
            raise NotNow(str(problem)) from problem
        with _told():
            db = StandardConnection(_uri(path, "rw"))
            try:
                for statement in (*_TABLES[:1], *_SETTINGS, "BEGIN IMMEDIATE", *_TABLES[1:]):
                    db.run(statement)
                db.run("INSERT INTO about VALUES(?, ?)", (said.decode(), _check(key, said)))
                db.run("COMMIT")
            finally:
                db.close()
        return cls(path, owner=owner, key=key)

    @property
    def origin(self) -> str:
        """The `origin` of the journal that it was made for."""
        return self._about.origin

    @property
    def end(self) -> int:
        """The last position that it has; 0 if none."""
        return self.shelves[-1].last if self.shelves else 0

    @property
    def is_there(self) -> bool:
        """Whether the file at the path is this one."""
        try:
            found = self.path.lstat()
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == self._place

    def look_again(self) -> None:
        """See which shelves there are now. Raises `NotBelieved` and `NotNow`."""
        with _told():
            version = int(next(iter(self._db.rows("PRAGMA data_version")))[0])
            if version != self._seen:
                self._starts.clear()
                self.shelves = self._read_shelves()
                self._seen = version

    @contextmanager
    def view(self) -> Iterator[None]:
        """See the file as it stands now, whatever other processes write meanwhile; nothing can be written.

        Raises `NotBelieved` and `NotNow`.
        """
        with _told():
            self._db.run("BEGIN")
        try:
            self.look_again()
            yield
        finally:
            with suppress(self._db.error):  # it may have been closed
                self._db.run("ROLLBACK")

    def positions(self, shelf: Shelf, kind: int, name: str, most: int) -> list[int]:
        """Return where a shelf may have a name, the last `most` at least, ascending.

        Raises `NotBelieved` and `NotNow`.
        """
        low = self.hashing.hash(name) << OFFSET_BITS
        high = low + (1 << OFFSET_BITS)
        found: list[int] = []
        with _told():
            starts = self._starts_of(shelf, kind)
            at = bisect_left(starts.lows, high) - 1
            while at >= 0 and len(found) < most:
                (keys,) = self._keys_in(shelf, kind, at, at)
                base = starts.lows[at]
                some = keys[bisect_left(keys, low - base) : bisect_left(keys, high - base)]
                base += shelf.first - low
                found[:0] = [key + base for key in some]
                at = at - 1 if starts.lows[at] > low else -1
        return found

    def keys_of(self, shelf: Shelf) -> Keys:
        """Return all keys of a shelf. Raises `NotBelieved` and `NotNow`."""
        return tuple(self._all_keys(shelf, kind) for kind in KINDS)

    def _all_keys(self, shelf: Shelf, kind: int) -> "array[int]":
        found = array("Q")
        with _told():
            lows = self._starts_of(shelf, kind).lows
            blocks = self._keys_in(shelf, kind, 0, len(lows) - 1)
            for low, keys in zip(lows, blocks, strict=True):
                found.extend([low + key for key in keys])
        return found

    def put(self, added: Iterable[tuple[Shelf, Keys]], instead: Sequence[Shelf], end: int) -> bool:
        """Write shelves in place of others, if the file has those and ends at `end`; else return False.

        Raises `NotNow` where it cannot be written, and `NotBelieved`.
        """
        if not self.may_write or not self.is_there:
            raise NotNow("it cannot be written")
        with _told():
            for pragma in () if self._is_set else _SETTINGS:
                self._db.run(pragma)
            self._is_set = True
            self._db.run("BEGIN IMMEDIATE")
            try:
                self._starts.clear()
                shelves = self._read_shelves()
                if (shelves[-1].last if shelves else 0) != end or not set(instead) <= set(shelves):
                    self._db.run("ROLLBACK")
                    return False
                for shelf in instead:
                    self._db.run("DELETE FROM shelves WHERE first = ?", (shelf.first,))
                    self._remove_keys(shelf)
                for shelf, keys in added:
                    self._put(shelf, keys)
                self._db.run("COMMIT")
            except BaseException:
                with suppress(self._db.error):
                    self._db.run("ROLLBACK")
                raise
        self._seen = -1
        self.look_again()
        return True

    def _put(self, shelf: Shelf, keys: Keys) -> None:
        check = self._check(_pack(shelf.first, shelf.last, shelf.after, 0, 0), shelf.link)
        self._db.run("INSERT INTO shelves VALUES(?, ?, ?, ?, ?)", (*shelf, check))
        ((number,),) = self._db.run(_NEXT).fetchall()
        for kind, some in enumerate(keys):  # all of them first, so that they stand together
            starts = _Starts(number, array("Q", [0, *some[_BLOCK::_BLOCK]] if some else []))
            lows = _bytes_of(starts.lows)
            row = (_starts_at(shelf, kind), number, lows, self._check_of(shelf, kind, (number, 0), lows))
            self._db.run("INSERT INTO starts VALUES(?, ?, ?, ?)", row)
            self._starts[row[0]] = starts
            number += len(starts.lows)
        for kind, some in enumerate(keys):
            rows = self._block_rows(shelf, kind, some)
            self._db.run_many("INSERT INTO blocks VALUES(?, ?, ?)", rows)

    def _block_rows(self, shelf: Shelf, kind: int, keys: "array[int]") -> Iterator[tuple[int, bytes, bytes]]:
        starts = self._starts_of(shelf, kind)
        for at in range(len(starts.lows)):
            reach = starts.reach(at)
            data = _packed(keys[at * _BLOCK : (at + 1) * _BLOCK], reach)
            yield starts.block + at, data, self._check_of(shelf, kind, reach, data)

    def _remove_keys(self, shelf: Shelf) -> None:
        for kind in KINDS:
            first, lows = self._starts_of(shelf, kind)
            between = (first, first + len(lows) - 1)
            self._db.run("DELETE FROM blocks WHERE number BETWEEN ? AND ?", between)
            self._db.run("DELETE FROM starts WHERE place = ?", (_starts_at(shelf, kind),))

    def close(self) -> None:
        """Close it."""
        with suppress(self._db.error):
            self._db.close()

    # -- what is believed ---------------------------------------------------------------------------

    def _read_about(self) -> _About:
        rows = list(self._db.rows("SELECT said, checksum FROM about"))
        try:
            ((said, check),) = rows
            if check != _check(self._key, said.encode()):
                raise NotBelieved("its settings are not what was written")
            about = msgspec.json.decode(said, type=_About)
        except (ValueError, AttributeError, msgspec.MsgspecError) as problem:
            raise NotBelieved(str(problem)) from problem
        if about.form != FORM or about.modulus >> (HASH_BITS - 1) != 1:
            raise NotBelieved("another version has made it")
        return about

    def _read_shelves(self) -> list[Shelf]:
        found: list[Shelf] = []
        for row in self._db.rows(_SHELVES):
            match row:
                case (int() as first, int() as last, bytes() as link, int() as after, bytes() as check):
                    if not 0 <= after < first <= last < first + SHELF:
                        raise NotBelieved("a shelf is damaged")
                    if check != self._check(_pack(first, last, after, 0, 0), link):
                        raise NotBelieved(f"the shelf at position {first} is not what was written")
                    if found and after != found[-1].last:
                        raise NotBelieved(f"the shelf before position {first} is missing")
                    found.append(Shelf(first, last, link, after))
                case _:
                    raise NotBelieved("a shelf is damaged")
        return found

    def _starts_of(self, shelf: Shelf, kind: int) -> _Starts:
        """Return where the blocks of a kind begin."""
        place = _starts_at(shelf, kind)
        known = self._starts.get(place)
        if known is None:
            match self._db.run(_STARTS, (place,)).fetchall():
                case [(int() as block, bytes() as lows, bytes() as check)] if check == self._check_of(
                    shelf, kind, (block, 0), lows
                ):
                    known = self._starts[place] = _Starts(block, _array_of(lows))
                case _:
                    raise NotBelieved(f"the shelf at position {shelf.first} is not what was written")
        return known

    def _keys_in(self, shelf: Shelf, kind: int, first: int, last: int) -> Iterator["array[int]"]:
        """Yield the keys of some blocks, less the lowest that each may have."""
        starts = self._starts_of(shelf, kind)
        at = first
        for row in self._db.run(_BLOCKS, (starts.block + first, starts.block + last)).fetchall():
            match row:
                case (bytes() as data, bytes() as check):
                    reach = starts.reach(at)
                    if check == self._check_of(shelf, kind, reach, data):
                        yield _unpacked(data, reach)
                        at += 1
                        continue
            break
        if at <= last:
            raise NotBelieved(f"a block of the shelf at position {shelf.first} is not what was written")

    def _check_of(self, shelf: Shelf, kind: int, reach: tuple[int, int], data: bytes) -> bytes:
        return self._check(_pack(shelf.first, shelf.last, kind, *reach), data)

    def _check(self, place: bytes, data: bytes) -> bytes:
        return _check(self._key, self._name + place + data)


def _modulus() -> int:
    """Return a prime, at random: of a product of small ones it could be guessed what it divides."""
    while True:
        found = 1 << (HASH_BITS - 1) | int.from_bytes(os.urandom(8), "big") >> (65 - HASH_BITS) | 1
        if pow(2, found - 1, found) == 1:
            return found


def _check(key: bytes | None, data: bytes) -> bytes:
    if key is None:
        return zlib.crc32(data).to_bytes(4, "big")
    return blake2b(data, digest_size=16, key=key, person=b"openoutcry line").digest()


def _starts_at(shelf: Shelf, kind: int) -> int:
    return shelf.first << _KIND_BITS | kind


def _width(reach: tuple[int, int]) -> int:
    """Return how many bytes a key needs in a block."""
    return max(1, (reach[1] - reach[0]).bit_length() + 7 >> 3)


def _packed(keys: "array[int]", reach: tuple[int, int]) -> bytes:
    low, width = reach[0], _width(reach)
    whole = _bytes_of(array("Q", [key - low for key in keys]))
    packed = bytearray(width * len(keys))
    for at in range(width):
        packed[at::width] = whole[at::_KEY_BYTES]
    return bytes(packed)


def _unpacked(data: bytes, reach: tuple[int, int]) -> "array[int]":
    width = _width(reach)
    whole = bytearray(_KEY_BYTES * (len(data) // width))
    for at in range(width):
        whole[at::_KEY_BYTES] = data[at::width]
    return _array_of(whole)


def _bytes_of(keys: "array[int]") -> bytes:
    if sys.byteorder == "big":
        keys = keys[:]
        keys.byteswap()
    return keys.tobytes()


def _array_of(data: bytes | bytearray) -> "array[int]":
    keys = array("Q")
    keys.frombytes(data)
    if sys.byteorder == "big":
        keys.byteswap()
    return keys


def _uri(path: Path, mode: str) -> str:
    return f"file:{quote(os.fsencode(path))}?mode={mode}"


def _place_of(path: Path, owner: int) -> tuple[int, int]:
    """Return which file it is.

    Raises `NotNow` where there is none, or one that is somebody else's; `NotBelieved` if others may write it.
    """
    try:
        found = path.lstat()
    except OSError as problem:
        raise NotNow(str(problem)) from problem
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1 or found.st_uid not in (owner, os.geteuid()):
        raise NotNow(f"{path} is not a file of the journal's owner")
    if found.st_mode & 0o022:
        raise NotBelieved("others may write it")
    return found.st_dev, found.st_ino


@contextmanager
def _told() -> Iterator[None]:
    """Turn what SQLite says into what it means here."""
    try:
        yield
    except sqlite3.Error as problem:
        if is_busy(problem) or is_full(problem) or cannot_open(problem):
            raise NotNow(str(problem)) from problem
        raise NotBelieved(str(problem)) from problem
