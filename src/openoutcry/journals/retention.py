"""Retention: which old batches may go, and taking them out."""

from typing import Final, NamedTuple

import msgspec

from openoutcry.journals import saved, schema, snapshots
from openoutcry.journals.engines import Connection
from openoutcry.journals.holders import holders
from openoutcry.journals.rows import Chain
from openoutcry.journals.sealing import rows_of
from openoutcry.journals.seals import End, Seals, retired
from openoutcry.ports import Holder

PAGE_BYTES: Final = 4096
BATCHES_PER_CALL: Final = 64
_OVERSIZE_BATCHES: Final = 8
_OLDEST: Final = "SELECT first + count - 1, last_ns, checksum FROM batches ORDER BY first LIMIT ?"
_FIRST_LETTER: Final = "SELECT min(position) FROM dead_letters WHERE subscription = ? AND position > 0"


class Wish(NamedTuple):
    """What is to be retired; see `openoutcry.ports.Journal.retire`."""

    older_than_ns: int | None
    keep_count: int | None
    keep_bytes: int | None


class Last(NamedTuple):
    """The last batch to go."""

    position: int
    checksum: bytes


def held_by(db: Connection, chain: Chain | None) -> list[Holder]:
    """Return what keeps retention from going on, the lowest position first. The states are not read.

    A memory of which nobody can tell what it needs may need everything.
    """
    found = [
        head.snapshot if head.is_whole else msgspec.structs.replace(head.snapshot, is_needed=True, lanes={})
        for head in snapshots.heads(db, chain)
    ]
    letters = {
        name: position
        for name in (one.subscription for one in found if one.is_needed)
        for (position,) in rows_of(db, _FIRST_LETTER, (name,))
        if position is not None
    }
    return holders(saved.cursors(db, chain), found, letters)


def choose(db: Connection, wish: Wish, head: int, allowed: int) -> Last | None:
    """Return the last of the oldest batches that may go in one piece of work, or None.

    None goes that has positions above `allowed`.
    """
    too_big = wish.keep_bytes is not None and used_bytes(db) > wish.keep_bytes
    chosen = None
    for number, (last, last_ns, checksum) in enumerate(db.rows(_OLDEST, (BATCHES_PER_CALL,))):
        goes = (
            (wish.older_than_ns is not None and last_ns < wish.older_than_ns)
            or (wish.keep_count is not None and head - last >= wish.keep_count)
            or (too_big and number < _OVERSIZE_BATCHES)
        )
        if last > allowed or not goes:
            break
        chosen = Last(last, bytes(checksum))
    return chosen


def carry_out(db: Connection, last: Last, chain: Chain, seals: Seals | None, end: End) -> None:
    """Delete the batches up to `last`, and remember where the chain goes on, in one commit."""
    db.run("BEGIN IMMEDIATE")
    if seals is not None:
        seals.before(retired(seals.names("tombstones"), last.position))
    db.run("DELETE FROM batches WHERE first <= ?", (last.position,))
    db.run("DELETE FROM gaps WHERE last <= ?", (last.position,))
    snapshots.retire(db, last.position)
    db.run("DELETE FROM id_blocks WHERE last <= ?", (last.position,))
    for key, value in (("floor", str(last.position)), ("floor_checksum", last.checksum.hex())):
        db.run(schema.SAVE_META, schema.setting(key, value, chain))
    if seals is not None:
        seals.after(end)
    db.run("COMMIT")
    if seals is not None:
        seals.saved()


def used_bytes(db: Connection) -> int:
    """Return the size of the database without its free pages."""
    pages = schema.one(db.rows("PRAGMA page_count")) - schema.one(db.rows("PRAGMA freelist_count"))
    return int(pages) * PAGE_BYTES
