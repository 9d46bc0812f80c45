"""Seals: what stands beside the log of a sealed journal is what was saved last, all of it and nothing else.

A row's own checksum says that somebody with the key has written it; not that it was written last, and here,
and that none is missing. So a row of the table `seals` is over the rows that a table has of one name, and one
more, the root, is over the table `seals`:

```
  name             serial  count             digest
  ""               88      how many others   over all that follows
  batches          88      the log's end     its checksum there
  cursors book     88      3                 over the cursors of `book`
  dead_letters cio 61      2                 over the dead letters of `cio`
  meta             12      7                 over the settings
```

The serial is that of the commit which changed the row, one more each time. A batch's checksum ends with the
serial of its commit, so that the log says as well how far the root has come. So the file is as it was after
one of its commits: any mixture of several moments is found, and whose rows they are. What cannot be found
from inside is the whole file as it was at an earlier moment: for that there are anchors.

The digest is incremental: the sum, modulo 2^256, of a keyed digest of each row (MSet-Add-Hash, in Clarke,
Devadas, van Dijk, Gassend and Suh: "Incremental Multiset Hash Functions and Their Application to Memory
Integrity Checking", ASIACRYPT 2003). A commit takes the digests of the rows that it changes out and puts the
new ones in; it reads no others. It is a sum and no exclusive or: under that two equal rows are none, and from
some hundred known digests others with the same result can be solved for. The sums themselves do not stand in
the file, only keyed digests of them.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from openoutcry.errors import JournalCorrupt, JournalError
from openoutcry.journals.engines import Connection
from openoutcry.journals.log import LAST_POSITION
from openoutcry.journals.rows import UNKEYED, Chain
from openoutcry.journals.sealing import halt_place, rows_of
from openoutcry.ports import Changes

ROOT: Final = ""
"""The name of the seal over the seals."""
LOG: Final = "batches"
"""The name of the seal that says where the log ended."""
_MODULUS: Final = 2**256
_SETTINGS: Final = (
    "'generation', 'origin', 'ancestors', 'checksum', 'sealed', 'floor', 'floor_checksum', 'stems', "
    "'power_cut'"
)
_SOURCE: Final = f"(SELECT * FROM meta WHERE key IN ({_SETTINGS}))"  # noqa: S608 - our own names
_SAVE: Final = "INSERT OR REPLACE INTO seals VALUES(?, ?, ?, ?, ?)"
_DROP: Final = "DELETE FROM seals WHERE name = ?"
_NEWEST: Final = (
    "SELECT first + count - 1, checksum FROM batches WHERE first <= ? ORDER BY first DESC LIMIT 1"
)
_FLOOR: Final = "SELECT key, value FROM meta WHERE key IN ('floor', 'floor_checksum')"
_SHOWN: Final = 3
_DIGEST_BYTES: Final = 32
_AT_ONCE: Final = 500
_ONE_TOO_MANY: Final = "a row was put there, and none was ever saved"
_encode: Final = msgspec.json.Encoder().encode
End = tuple[int, bytes]
"""Where a log ends: the position of its head, and the checksum there."""


class _Table(NamedTuple):
    """What of a table is sealed: whose a row is, where rows come from, and what tells one from all others.

    The rest of a row is under its own checksum.
    """

    owner: str
    source: str
    columns: str


_TABLES: Final = {
    "cursors": _Table("subscription", "cursors", "subscription, lane, checksum"),
    "dead_letters": _Table(
        "subscription", "dead_letters", "letter_id, subscription, lane, position, checksum"
    ),
    "gaps": _Table("NULL", "gaps", "first, last"),
    "halts": _Table("scope", "halts", "scope, event_id, checksum"),
    "meta": _Table("NULL", _SOURCE, "key, checksum"),
    "snapshots": _Table("subscription", "snapshots", "subscription, cursors, wall_ns, form"),
    "sqlite_sequence": _Table("NULL", "sqlite_sequence", "name, seq"),
    "suspects": _Table("subscription", "suspects", "subscription, lane, position, crashes"),
    "tombstones": _Table("subscription", "tombstones", "subscription, position, checksum"),
}


class Where(NamedTuple):
    """Rows of a table that a commit may change."""

    table: str
    condition: str
    values: Sequence[Any] = ()


class Broken(NamedTuple):
    """Rows that are not what was saved last.

    Attributes:
        table: Their table. `seals` if nobody can tell whose rows are concerned, `batches` for the log's end.
        name: The subscription or scope that they are of; None for tables that have none.
        said: What is wrong, in words, table and name included.

    """

    table: str
    name: str | None
    said: str


class _Sum(NamedTuple):
    """What the rows of one name come to, and what their seal adds to the root."""

    rows: int = 0
    total: int = 0
    part: int = 0


class _Seal(NamedTuple):
    """A row of `seals`."""

    name: str
    serial: int
    rows: int
    digest: bytes
    checksum: bytes


_Rows = dict[str, set[bytes]]


def touched(changes: Changes, last_letter_id: Callable[[], int]) -> list[Where]:
    """Return all rows that some changes may add, replace or take out; before any of them is carried out."""
    settled = {cursor.subscription for cursor in changes.cursors}
    settled.update(name for name, _ in changes.dropped_cursors)
    moved = {*changes.forgotten, *(name for both in changes.renamed for name in both)}
    remembered = moved.union(snapshot.subscription for snapshot in changes.snapshots)
    found = _among("cursors", "subscription", settled)
    found += suspected(changes.cleared)
    found += _among("snapshots", "subscription", remembered)
    found += _among("tombstones", "subscription", moved)
    found += [Where("tombstones", "subscription = ? AND position = ?", one) for one in changes.tombstones]
    stopped = {(halt.scope, halt.event_id) for halt in changes.halts}.union(changes.released)
    found += [Where("halts", "scope = ? AND event_id = ?", halt_place(*one)) for one in stopped]
    letters = {letter.letter_id for letter in changes.buried if letter.letter_id}
    found += _among("dead_letters", "letter_id", letters.union(changes.removed_letters))
    if changes.buried:
        found.append(Where("dead_letters", "letter_id > ?", (last_letter_id(),)))
        found.append(Where("sqlite_sequence", "TRUE"))
    return found


def _among(table: str, column: str, values: Collection[Any]) -> list[Where]:
    """Return the rows of a table that have one of some values, so many at a time as a statement takes."""
    if not values:
        return []
    rest, found = list(values), list[Where]()
    while rest:
        some, rest = rest[:_AT_ONCE], rest[_AT_ONCE:]
        found.append(Where(table, f"{column} IN (?{', ?' * (len(some) - 1)})", some))
    return found


def suspected(calls: Iterable[tuple[str, str, int]]) -> list[Where]:
    """Return the rows that counting a crash against some calls may change."""
    return _among("suspects", "subscription", {call[0] for call in calls})


def settings(*keys: str) -> list[Where]:
    """Return the rows of some settings."""
    return _among("meta", "key", keys)


def retired(names: Iterable[str], last: int) -> list[Where]:
    """Return the rows that retiring everything up to a position may change."""
    of_names = (
        Where("tombstones", f"{where.condition} AND position <= ?", [*where.values, last])
        for where in _among("tombstones", "subscription", list(names))
    )
    return [*settings("floor", "floor_checksum"), Where("gaps", "last <= ?", (last,)), *of_names]


class Seals:
    """The seals of a file, as its one writer keeps them up to date.

    Around what changes rows, in one transaction: `before`, the changes, `after`; then `saved`, once it is
    committed.

    Attributes:
        serial: That of the last commit that changed what is sealed.
        digest: The root's; empty before there is one.

    """

    def __init__(self, db: Connection, chain: Chain) -> None:
        self._db = db
        self._chain = chain
        self._sums: dict[str, _Sum] = {}
        self._total = 0
        self._where: Sequence[Where] = ()
        self._rows: _Rows = {}
        self._staged: _Staged | None = None
        self.serial: int = 0
        self.digest: bytes = b""

    def names(self, table: str) -> list[str]:
        """Return whose rows a table has."""
        return [name for kind, _, name in (key.partition(" ") for key in self._sums) if kind == table]

    def before(self, where: Sequence[Where]) -> None:
        """Note what stands there, inside the transaction that is going to change it."""
        self._where, self._rows = where, _look(self._db, where)

    def after(self, end: End) -> None:
        """Seal what stands there now, and that the log ends so, inside the same transaction."""
        before, now = self._rows, _look(self._db, self._where)
        sums: dict[str, _Sum] = {}
        for name in before.keys() | now.keys():
            out, into = before.get(name, set()), now.get(name, set())
            if out != into:
                count, total, part = self._sums.get(name, _Sum())
                total += sum(map(self._digest_of, into - out)) - sum(map(self._digest_of, out - into))
                sums[name] = _Sum(count + len(into) - len(out), total % _MODULUS, part)
        self._write(sums, end)

    def renew(self, end: End) -> None:
        """Seal everything as it stands, inside a transaction."""
        self._db.run("DELETE FROM seals")
        self._sums, self._total = {}, 0
        self._write(_sums(self._db, self._chain), end)

    def _digest_of(self, data: bytes) -> int:
        return _number(self._chain, data)

    def _write(self, sums: dict[str, _Sum], end: End) -> None:
        """Write the seals of these sums, of the log and of all, and stage what is true with the commit."""
        chain, serial, total = self._chain, self.serial + 1, self._total
        sums[LOG] = self._sums.get(LOG, _Sum())._replace(rows=1)
        rows, gone = [], []
        for name, (count, of_rows, part) in sums.items():
            total -= part
            if not count:
                gone.append((name,))  # it was there: nothing can be taken out of none
                continue
            what = end if name == LOG else (count, _sealed_sum(chain, of_rows))
            row, part = _seal(chain, name, serial, *what)  # noqa: PLW2901 - the part that it has from now on
            total += part
            sums[name] = _Sum(count, of_rows, part)
            rows.append(row)
        total %= _MODULUS
        new = sum(1 for row in rows if row.name not in self._sums)
        digest = _sealed_sum(chain, total)
        rows.append(_seal(chain, ROOT, serial, len(self._sums) + new - len(gone), digest)[0])
        if gone:
            self._db.run_many(_DROP, gone)
        self._db.run_many(_SAVE, rows)
        self._staged = _Staged(serial, sums, total, digest)

    def saved(self) -> None:
        """Note that what `after` has sealed is committed."""
        staged, self._staged = self._staged, None
        if staged is not None:
            self.serial, changed, self._total, self.digest = staged
            self._chain.reach(self.serial)
            self._sums.update(changed)
            for name, (count, _, _) in changed.items():
                if not count:
                    del self._sums[name]

    def look_again(self) -> None:
        """After an interruption of unknown outcome: see in the file whether the commit was made."""
        staged = self._staged
        for serial, *_ in rows_of(self._db, "SELECT serial FROM seals WHERE name = ?", (ROOT,)):
            if staged is not None and serial == staged.serial:
                self.saved()
        self._staged = None

    def begin(self, serial: int, total: int, digest: bytes, sums: dict[str, _Sum]) -> None:
        """Take over what a file has been found to be sealed with."""
        self.serial, self._total, self.digest, self._sums = serial, total, digest, sums
        self._chain.reach(serial)


class _Staged(NamedTuple):
    """What is true when the open transaction is committed."""

    serial: int
    sums: dict[str, _Sum]
    total: int
    digest: bytes


def _look(db: Connection, where: Iterable[Where]) -> _Rows:
    """Return the rows that stand there, by the name of their seal."""
    found: _Rows = defaultdict(set)
    for table, condition, values in where:
        for name, row in _rows(db, table, condition, values):
            found[name].add(row)
    return found


def _rows(
    db: Connection, table: str, condition: str = "TRUE", values: Sequence[Any] = ()
) -> Iterator[tuple[str, bytes]]:
    owner, source, columns = _TABLES[table]
    sql = f"SELECT {owner}, {columns} FROM {source} WHERE {condition}"  # noqa: S608 - all of it our own
    for who, *what in rows_of(db, sql, values):
        yield table if who is None else f"{table} {who}", _encode((table, what))


def _number(chain: Chain, data: bytes) -> int:
    return int.from_bytes(chain.digest(data), "big")


def _sealed_sum(chain: Chain, total: int) -> bytes:
    return chain.digest(b"sum" + total.to_bytes(32, "big"))


def _seal(chain: Chain, name: str, serial: int, rows: int, digest: bytes) -> tuple[_Seal, int]:
    """Return a row of `seals`, and what it adds to the root: the half of its digest that is not stored."""
    both = chain.digest(_encode((name, serial, rows, digest)), size=2 * _DIGEST_BYTES)
    part = int.from_bytes(both[_DIGEST_BYTES:], "big")
    return _Seal(name, serial, rows, digest, both[:_DIGEST_BYTES]), part


def _is_whole(chain: Chain, seal: _Seal) -> bool:
    """Return True if a row of `seals` is one that was written."""
    return _seal(chain, *seal[:-1])[0] == seal


def _sums(db: Connection, chain: Chain, broken: list[Broken] | None = None) -> dict[str, _Sum]:
    """Add everything up, some microseconds for a row.

    Raises `JournalCorrupt` where a table cannot be read; with a list it goes there instead.
    """
    found: dict[str, tuple[int, int]] = defaultdict(lambda: (0, 0))
    for table in _TABLES:
        try:
            for name, row in _rows(db, table):
                count, total = found[name]
                found[name] = count + 1, total + _number(chain, row)
        except JournalError as problem:
            if broken is None:
                raise
            broken.append(Broken(table, None, f"{table}: {problem}"))
    return {name: _Sum(count, total % _MODULUS) for name, (count, total) in found.items()}


# Looking at a file


class Judged(NamedTuple):
    """What looking at the seals of a file has shown.

    Attributes:
        seals: The seals, to go on with; None where the file was never sealed.
        broken: What is not what was saved last.

    """

    seals: Seals | None
    broken: tuple[Broken, ...]


def judge_seals(db: Connection, chain: Chain) -> Judged:
    """Hold what stands beside the log against its seals, where nobody writes meanwhile.

    Raises `JournalError` where the batches cannot be read at all.
    """
    if chain.kind == UNKEYED:
        return Judged(None, ())
    try:
        rows = {str(row[0]): _Seal(*row) for row in rows_of(db, "SELECT * FROM seals")}
    except JournalError as problem:
        return Judged(None, (Broken("seals", None, f"seals: {problem}"),))
    reached = chain.serial_in(log_end(db)[1])
    if not rows and reached is None and not list(rows_of(db, "SELECT 1 FROM meta WHERE key = 'sealed'")):
        return Judged(None, ())
    if not rows:
        return Judged(None, (Broken("seals", None, "seals: all of them are missing"),))
    broken: list[Broken] = []
    sums = _sums(db, chain, broken)
    unreadable = {one.table for one in broken}
    broken += (one for one in _judge_names(rows, sums, chain) if one.table not in unreadable)
    root = rows.pop(ROOT, None)
    parts = {name: _seal(chain, *row[:-1])[1] for name, row in rows.items()}
    total = sum(parts.values()) % _MODULUS
    if root is None or not _is_whole(chain, root):
        broken.append(Broken("seals", None, "seals: the one over all of them is missing or damaged"))
    elif (root.rows, root.digest) != (len(rows), _sealed_sum(chain, total)):
        broken.append(Broken("seals", None, "seals: they are of several moments, or some are missing"))
    elif root.serial < (reached or 0):
        said = f"seals: what stands beside the log is of an earlier moment than its end: serial {root.serial}"
        broken.append(Broken("seals", None, f"{said}, and {reached} had been reached"))
    broken += _judge_log(db, rows.get(LOG), chain)
    seals = Seals(db, chain)
    if root is not None and not broken:
        sums[LOG] = _Sum(1)
        seals.begin(
            root.serial, total, root.digest, {name: s._replace(part=parts[name]) for name, s in sums.items()}
        )
    return Judged(seals, tuple(broken))


def root_of(db: Connection, chain: Chain | None) -> tuple[int, bytes] | None:
    """Return serial and digest of the seal over all seals; None where there is none.

    With a chain, raises `JournalCorrupt` where it is not what was written.
    """
    for row in rows_of(db, "SELECT * FROM seals WHERE name = ?", (ROOT,)):
        root = _Seal(*row)
        if chain is not None and not _is_whole(chain, root):
            raise JournalCorrupt("the seal over all seals is damaged; go on in a new file with recover_into")
        return root.serial, bytes(root.digest)
    return None


def check_seals(db: Connection, chain: Chain, path: Path) -> Seals | None:
    """Return the seals of a file that is being opened; None where it was never sealed.

    Raises `JournalCorrupt` with what is not what was saved last.
    """
    seals, broken = judge_seals(db, chain)
    if broken:
        more = f", and {len(broken) - _SHOWN} more" if len(broken) > _SHOWN else ""
        raise JournalCorrupt(
            f"{path}: {'; '.join(one.said for one in broken[:_SHOWN])}{more}. If a copy was put back in "
            f"part, put back all of it; else go on in a new file with recover_into, which says what it does "
            f"not believe"
        )
    return seals


def _judge_names(rows: dict[str, _Seal], sums: dict[str, _Sum], chain: Chain) -> Iterator[Broken]:
    """Hold the rows of every name against their seal."""
    for key in sorted((sums.keys() | rows.keys()) - {ROOT, LOG}):
        seal, (count, total, _) = rows.get(key), sums.get(key, _Sum())
        table, space, name = key.partition(" ")
        whose = f"{table} of {name!r}" if space else table
        if seal is None:
            wrong = f"{count} rows were put there, and none was ever saved" if count > 1 else _ONE_TOO_MANY
        elif not _is_whole(chain, seal):
            wrong = "the seal is damaged"
        elif count != seal.rows:
            wrong = f"rows there: {count}, rows saved: {seal.rows}"
        elif seal.digest != _sealed_sum(chain, total):
            wrong = (
                "a row is not the one that was saved last: it is older, of another name or file, or changed"
            )
        else:
            continue
        yield Broken(table, name if space else None, f"{whose}: {wrong}")


def _judge_log(db: Connection, seal: _Seal | None, chain: Chain) -> Iterator[Broken]:
    """Hold the log against what its seal says of its end then."""
    if seal is None or not _is_whole(chain, seal):
        yield Broken("seals", None, "seals: that of the log's end is missing or damaged")
        return
    if log_end(db, seal.rows) != (seal.rows, seal.digest):
        yield Broken(LOG, None, f"batches: the log does not lead through position {seal.rows} as it did")


def log_end(db: Connection, upto: int = LAST_POSITION) -> End:
    """Return where the log ends; with `upto`, where it ended when nothing above that position was there."""
    last, checksum = next(rows_of(db, _NEWEST, (upto,)), None) or _floor(db)
    for (gap,) in rows_of(db, "SELECT last FROM gaps WHERE first = ? AND last <= ?", (last + 1, upto)):
        last = gap
    return last, checksum if isinstance(checksum, bytes) else b""


def _floor(db: Connection) -> End:
    found = dict(rows_of(db, _FLOOR))
    try:
        return int(found["floor"]), bytes.fromhex(found["floor_checksum"])
    except (KeyError, TypeError, ValueError):
        return 0, b""
