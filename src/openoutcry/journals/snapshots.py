"""Where the memory of agents begins: the rows of `snapshots` and `tombstones`.

A state may have many megabytes, and the checksum of its row is over all of it. So everything else of the row
is one JSON object in the column `cursors`, with a checksum of its own: retention and listings read that, and
leave the state where it is.
"""

import json
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import msgspec

from openoutcry.errors import JournalCorrupt
from openoutcry.journals.engines import Connection
from openoutcry.journals.rows import Chain
from openoutcry.journals.sealing import is_sealed, rows_of, sealed
from openoutcry.ports import Changes, Era, Places, Snapshot
from openoutcry.printable import writable

LOST: Final = "lost"
"""The form of a snapshot that a recovery could not carry over."""
_SAVE: Final = (
    "INSERT INTO snapshots VALUES(?, ?, ?, ?, ?, ?) ON CONFLICT(subscription) DO UPDATE SET "
    "cursors = excluded.cursors, wall_ns = excluded.wall_ns, form = excluded.form, "
    "state = excluded.state, checksum = excluded.checksum"  # replacing would write the index anew as well
)
_ADD: Final = "INSERT OR REPLACE INTO tombstones VALUES(?, ?, ?)"
_FORGET: Final = (
    "DELETE FROM snapshots WHERE subscription = ?",
    "DELETE FROM tombstones WHERE subscription = ?",
)
_ONE: Final = (
    "SELECT subscription, cursors, wall_ns, form, state, checksum FROM snapshots WHERE subscription = ?"
)
_HEADS: Final = "SELECT subscription, cursors, wall_ns, form FROM snapshots NOT INDEXED"
_ALL_TOMBSTONES: Final = "SELECT subscription, position, checksum FROM tombstones"
_TOMBSTONES: Final = (
    "SELECT subscription, position, checksum FROM tombstones WHERE subscription = ? ORDER BY position"
)
_NEXT_NAME: Final = "SELECT min(subscription) FROM tombstones WHERE subscription > ?"
_RETIRE: Final = "DELETE FROM tombstones WHERE subscription = ? AND position <= ?"


class _Where(msgspec.Struct, frozen=True, kw_only=True):
    """The column `cursors`. Its checksum is over the columns beside it and all the text that follows it."""

    checksum: str = ""
    is_needed: bool
    lanes: Places
    open: tuple[tuple[int, int], ...]
    eras: tuple[Era, ...]
    size_bytes: int
    state: str = ""
    """The checksum of the state: so that a seal over this is over all of the row."""


_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(_Where).decode
_BEFORE_CHECKSUM: Final = len('{"checksum":"')


class Head(NamedTuple):
    """A row of `snapshots` without its state.

    Attributes:
        snapshot: The snapshot, its state empty.
        size_bytes: How many bytes the state has.
        is_whole: Whether all this is what was saved; if not, only the name can be right.

    """

    snapshot: Snapshot
    size_bytes: int
    is_whole: bool


# Writing


def save(db: Connection, changes: Changes, chain: Chain) -> None:
    """Carry out what changes say of memory, inside the transaction that is open."""
    for old, new in changes.renamed:
        _rename(db, old, new, chain)
    for name in changes.forgotten:
        _forget(db, name)
    if changes.snapshots:
        db.run_many(_SAVE, [_row(snapshot, chain) for snapshot in changes.snapshots])
    if changes.tombstones:
        db.run_many(_ADD, [sealed(tombstone, chain) for tombstone in changes.tombstones])


def retire(db: Connection, last: int) -> None:
    """Take out the tombstones of entries that are retired, inside the transaction that is open."""
    name: str | None = ""
    while name is not None:
        (name,) = next(iter(list(db.rows(_NEXT_NAME, (name,)))))
        if name is not None:
            db.run(_RETIRE, (name, last))


def _rename(db: Connection, old: str, new: str, chain: Chain) -> None:
    if old == new:
        return
    found, places = snapshot(db, chain, old), tombstones(db, chain, old)
    _forget(db, old)
    _forget(db, new)
    if found is not None:
        db.run(_SAVE, _row(msgspec.structs.replace(found, subscription=new), chain))
    db.run_many(_ADD, [sealed((new, position), chain) for position in places])


def _forget(db: Connection, name: str) -> None:
    for statement in _FORGET:
        db.run(statement, (name,))


def _row(snapshot: Snapshot, chain: Chain) -> tuple[Any, ...]:
    state = chain.seal(snapshot.state).hex()
    where = _Where(
        is_needed=snapshot.is_needed,
        lanes=snapshot.lanes,
        open=snapshot.open,
        eras=tuple(Era(tuple(map(writable, era.takes)), era.upto) for era in snapshot.eras),
        size_bytes=len(snapshot.state),
        state=state,
    )
    name, wall_ns, form = snapshot.subscription, snapshot.wall_ns, snapshot.form
    text = _encode(where).decode()
    seal = chain.seal(_sealed_text(name, wall_ns, form, text, "")).hex()
    text = f"{text[:_BEFORE_CHECKSUM]}{seal}{text[_BEFORE_CHECKSUM:]}"
    checksum = chain.seal(json.dumps([name, text, wall_ns, form, state]))  # as `sealed` makes it
    return name, text, wall_ns, form, snapshot.state, checksum


def _sealed_text(name: str, wall_ns: int, form: str, text: str, checksum: str) -> str:
    """Return what the checksum in `cursors` is over."""
    return json.dumps([name, wall_ns, form]) + text[_BEFORE_CHECKSUM + len(checksum) :]


# Reading


def snapshot(db: Connection, chain: Chain | None, name: str) -> Snapshot | None:
    """Return where the memory of a subscription begins, or None if that was never written.

    Raises `JournalCorrupt` if it is damaged, or may be one that is damaged.
    """
    for *values, state, checksum in rows_of(db, _ONE, (name,)):
        head = _judge(tuple(values), None)
        is_whole = head.is_whole and isinstance(state, bytes)
        if not is_whole or (chain is not None and not is_sealed((*values, state), checksum, chain)):
            raise _damaged(name)
        return msgspec.structs.replace(head.snapshot, state=state)
    for head in heads(db, chain):  # a damaged name looks like none, whose memory would begin with nothing
        if not head.is_whole or head.snapshot.subscription == name:
            raise _damaged(name, f", and may be the one of {head.snapshot.subscription!r}")
    return None


def snapshots(db: Connection, chain: Chain | None) -> list[Snapshot]:
    """Return all of them by subscription, without their states; raise `JournalCorrupt` at a damaged one."""
    return [head.snapshot for head in _whole(db, chain)]


def sizes(db: Connection, chain: Chain | None) -> dict[str, int]:
    """Return the bytes of their states, by subscription."""
    return {head.snapshot.subscription: head.size_bytes for head in _whole(db, chain)}


def heads(db: Connection, chain: Chain | None) -> Iterator[Head]:
    """Yield the rows without their states, damaged or not, in any order."""
    for row in rows_of(db, _HEADS):
        yield _judge(row, chain)


def _whole(db: Connection, chain: Chain | None) -> list[Head]:
    found = list(heads(db, chain))
    for head in found:
        if not head.is_whole:
            raise _damaged(head.snapshot.subscription)
    return sorted(found, key=lambda head: head.snapshot.subscription)


def _judge(row: tuple[Any, ...], chain: Chain | None) -> Head:
    """Hold a row against the checksum in its `cursors`, without a chain only against its form."""
    name, text, wall_ns, form = row
    try:
        where = _decode(text)
        found = Snapshot(
            subscription=name,
            form=form,
            is_needed=where.is_needed,
            lanes=where.lanes,
            open=where.open,
            eras=where.eras,
            wall_ns=wall_ns,
        )
        is_whole = chain is None or (
            chain.seal(_sealed_text(name, wall_ns, form, text, where.checksum)).hex() == where.checksum
        )
        return Head(found, where.size_bytes, is_whole)
    except (msgspec.MsgspecError, TypeError, ValueError, RecursionError):
        return Head(Snapshot(subscription=str(name), form=LOST, is_needed=False, lanes={}), 0, False)


def _damaged(name: str, more: str = "") -> JournalCorrupt:
    return JournalCorrupt(
        f"the snapshot of {name!r}, where its memory begins, is damaged{more}; "
        f"go on in a new file with recover_into"
    )


def check_tombstones(db: Connection, chain: Chain | None) -> None:
    """Raise `JournalCorrupt` where a tombstone is damaged: it may be that of any subscription."""
    _held_tombstones(rows_of(db, _ALL_TOMBSTONES), chain)


def tombstones(db: Connection, chain: Chain | None, name: str) -> list[int]:
    """Return the positions that a subscription has settled and will never handle, ascending.

    Raises `JournalCorrupt` if one is damaged. Where that may have changed the name, `check_tombstones` tells.
    """
    return _held_tombstones(rows_of(db, _TOMBSTONES, (name,)), chain)


def _held_tombstones(rows: Iterator[Any], chain: Chain | None) -> list[int]:
    """Return the positions of rows, each held against its checksum: what `sealed` makes, only faster."""
    found: list[int] = []
    name, begin = None, ""
    for its_name, position, checksum in rows:
        if its_name != name:
            name, begin = its_name, json.dumps([its_name], default=repr)[:-1]
        if chain is not None and (
            type(position) is not int or chain.seal(f"{begin}, {position}]") != checksum
        ):
            raise JournalCorrupt(
                f"a tombstone of {its_name!r} is damaged; go on in a new file with recover_into",
                position if isinstance(position, int) else None,
            )
        found.append(position)
    return found
