"""What is saved beside the log: cursors, dead letters, suspects, active kill switches; and the commit.

Each row has a checksum of its own, but for suspects, which a wrong bit can only make too many or too few.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache, partial
from typing import Any, Final, NamedTuple

from openoutcry.core.halts import Halt
from openoutcry.errors import JournalCorrupt
from openoutcry.journals import schema, snapshots
from openoutcry.journals.engines import Connection
from openoutcry.journals.rows import Chain, Row
from openoutcry.journals.sealing import halt_place, rows_of, rows_sealed, sealed
from openoutcry.journals.seals import End, Seals, settings, touched
from openoutcry.ports import BuriedEvent, Changes, CursorState, Suspect
from openoutcry.printable import writable

_SAVE_CURSOR: Final = "INSERT OR REPLACE INTO cursors VALUES(?, ?, ?, ?, ?, ?)"
_DROP_CURSOR: Final = "DELETE FROM cursors WHERE subscription = ? AND lane = ?"
_BURY: Final = "INSERT INTO dead_letters VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, CAST(? AS TEXT), ?)"
_FORGET_LETTER: Final = "DELETE FROM dead_letters WHERE letter_id = ?"
_HALT: Final = "INSERT OR REPLACE INTO halts VALUES(?, ?, ?, ?, ?, ?, ?)"
_RELEASE: Final = "DELETE FROM halts WHERE scope = ? AND event_id = ?"
_CLEAR: Final = "DELETE FROM suspects WHERE subscription = ? AND lane = ? AND position = ?"
_ACCUSE: Final = (
    "INSERT INTO suspects VALUES(?, ?, ?, 1) "
    "ON CONFLICT(subscription, lane, position) DO UPDATE SET crashes = crashes + 1"
)
_CURSORS: Final = "SELECT * FROM cursors ORDER BY subscription, lane"
_LETTERS: Final = (
    "SELECT letter_id, subscription, lane, position, reason, error, traceback, attempts, wall_ns, "
    "CAST(event AS BLOB), checksum FROM dead_letters "
    "WHERE letter_id > ? AND (? IS NULL OR subscription = ?) ORDER BY letter_id LIMIT ?"
)
_LAST_LETTER: Final = "SELECT max(seq) FROM sqlite_sequence WHERE name = 'dead_letters'"
_FORGET_LAST: Final = "DELETE FROM sqlite_sequence WHERE name = 'dead_letters'"
_KEEP_LAST: Final = "INSERT INTO sqlite_sequence(name, seq) VALUES('dead_letters', ?)"
_NO_STRETCHES: Final = json.dumps("[]")
_SUSPECTS: Final = "SELECT * FROM suspects ORDER BY subscription, lane, position"


def commit(
    db: Connection,
    row: Row | None,
    changes: Changes | None,
    stems: str | None,
    chain: Chain,
    seals: Seals | None,
    end: End,
) -> None:
    """Write a batch, changes, and what the settings say of its stems, in one transaction.

    `end` is where the log ends then.
    """
    db.run("BEGIN IMMEDIATE")
    if seals is not None:
        where = [] if stems is None else settings("stems")
        where += touched(changes, partial(last_letter_id, db)) if changes is not None else []
        seals.before(where)
    if row is not None:
        db.run(schema.INSERT_BATCH, row)
    if changes is not None:
        save(db, changes, chain)
    if stems is not None:
        db.run(schema.SAVE_META, schema.setting("stems", stems, chain))
    if seals is not None:
        seals.after(end)
    db.run("COMMIT")
    if seals is not None:
        seals.saved()


def save(db: Connection, changes: Changes, chain: Chain) -> None:
    """Carry changes out, inside the transaction that is open."""
    if changes.cursors:
        db.run_many(_SAVE_CURSOR, [_cursor_row(cursor, chain) for cursor in changes.cursors])
    if changes.dropped_cursors:
        db.run_many(_DROP_CURSOR, changes.dropped_cursors)
    if changes.buried:
        db.run_many(
            _BURY, [(letter.letter_id or None, *_letter_row(letter, chain)) for letter in changes.buried]
        )
    if changes.removed_letters:
        db.run_many(_FORGET_LETTER, [(letter_id,) for letter_id in changes.removed_letters])
    if changes.cleared:
        db.run_many(_CLEAR, changes.cleared)
    if changes.released:
        db.run_many(_RELEASE, [halt_place(*place) for place in changes.released])
    if changes.halts:
        db.run_many(_HALT, [_halt_row(halt, chain) for halt in changes.halts])
    snapshots.save(db, changes, chain)


def accuse(db: Connection, calls: Iterable[tuple[str, str, int]]) -> None:
    """Count a crash against each of some calls, given as (subscription, lane, position)."""
    db.run_many(_ACCUSE, calls)


def _cursor_row(cursor: CursorState, chain: Chain) -> tuple[Any, ...]:
    subscription, lane, floor = cursor.subscription, cursor.lane, cursor.floor
    settled = json.dumps(cursor.settled) if cursor.settled else "[]"
    takes, begin, end = _around_floor(subscription, lane, tuple(cursor.takes))
    sealed_text = f"{begin}{floor}, {json.dumps(settled) if cursor.settled else _NO_STRETCHES}{end}"
    return subscription, lane, floor, settled, takes, chain.seal(sealed_text)


@lru_cache(maxsize=1_024)
def _around_floor(subscription: str, lane: str, takes: tuple[str, ...]) -> tuple[str, str, str]:
    """Return a cursor's types as they are stored, and the JSON of its row before and behind what moves.

    Cursors are saved with every few commits, and writing this anew takes longer than saving them.
    """
    text = json.dumps(takes)
    return text, f"[{json.dumps(subscription)}, {json.dumps(lane)}, ", f", {json.dumps(text)}]"


def _letter_row(letter: BuriedEvent, chain: Chain) -> tuple[Any, ...]:
    texts = (letter.reason, writable(letter.error), writable(letter.traceback))
    values = (letter.subscription, letter.lane, letter.position, *texts, letter.attempts, letter.wall_ns)
    return *values, letter.payload, chain.seal(json.dumps([*values, letter.payload.decode()]))


def _halt_row(halt: Halt, chain: Chain) -> tuple[Any, ...]:
    place, said = halt_place(halt.scope, halt.event_id), (writable(halt.by), writable(halt.reason))
    return sealed((*place, *said, halt.since_ns, halt.count), chain)


def _holds(chain: Chain, values: list[Any], checksum: Any) -> bool:
    """Return True if values are what was saved; damage may have changed their types too."""
    try:
        return isinstance(checksum, bytes) and chain.seal(json.dumps(values)) == checksum
    except TypeError:
        return False


class Damaged(NamedTuple):
    """A row that is not what was saved.

    Attributes:
        name: The subscription that it is of, unless just the name is damaged.
        under: Return what the row says if it is one of another subscription, of this name; None if it is not.
        said: What is wrong, in words.
        position: The position that it speaks of, if it does.

    """

    name: str
    under: Callable[[str], Any]
    said: str
    position: int | None = None

    def error(self) -> JournalCorrupt:
        """Return the error for whoever needs the row."""
        return JournalCorrupt(f"{self.said}; go on in a new file with recover_into", self.position)


def cursors(db: Connection, chain: Chain | None) -> list[CursorState]:
    """Return the cursors; with a chain, raise `JournalCorrupt` where one is not what was saved."""
    found = []
    for cursor in judged_cursors(db, chain):
        if isinstance(cursor, Damaged):
            raise cursor.error()
        found.append(cursor)
    return found


def judged_cursors(db: Connection, chain: Chain | None) -> Iterator[CursorState | Damaged]:
    """Yield the cursors, and in the place of one that is not what was saved what is wrong with it."""
    for row in rows_of(db, _CURSORS):
        name, lane, *_ = row
        under = partial(_cursor, chain, row)
        said = f"the cursor of {name!r} on lane {lane!r} is damaged"
        yield under(name) or Damaged(str(name), under, said)


def _cursor(chain: Chain | None, row: Sequence[Any], name: str) -> CursorState | None:
    """Return what a row says of a subscription of this name; None where nothing like it was saved."""
    _, lane, floor, settled, takes, checksum = row
    if chain is not None and not _holds(chain, [name, lane, floor, settled, takes], checksum):
        return None
    try:
        stretches = tuple((first, last) for first, last in json.loads(settled))
        taken = tuple(json.loads(takes))
    except (TypeError, ValueError):
        return None
    return CursorState(subscription=name, lane=lane, floor=floor, settled=stretches, takes=taken)


def last_letter_id(db: Connection) -> int:
    """Return the highest id that a dead letter has ever had."""
    return next((last or 0 for (last,) in rows_of(db, _LAST_LETTER)), 0)


def keep_last_letter_id(db: Connection, last: int) -> None:
    """Give no dead letter an id up to this one, inside the transaction that is open."""
    if last > last_letter_id(db):
        db.run(_FORGET_LAST)
        db.run(_KEEP_LAST, (last,))


def letters(
    db: Connection, chain: Chain | None, subscription: str | None, after: int = 0, limit: int | None = None
) -> list[BuriedEvent]:
    """Return the dead letters; with a chain, raise `JournalCorrupt` where one is not what was saved."""
    found = []
    for letter in judged_letters(db, chain, subscription, after, limit):
        if isinstance(letter, Damaged):
            raise letter.error()
        found.append(letter)
    return found


def judged_letters(
    db: Connection,
    chain: Chain | None,
    subscription: str | None = None,
    after: int = 0,
    limit: int | None = None,
) -> Iterator[BuriedEvent | Damaged]:
    """Yield the dead letters, and in the place of one that is not what was saved what is wrong with it."""
    which = after, subscription, subscription, -1 if limit is None else limit
    for row in rows_of(db, _LETTERS, which):
        letter_id, name, _, position, *_ = row
        under = partial(_letter, chain, row)
        where = position if isinstance(position, int) else None
        yield under(name) or Damaged(str(name), under, f"dead letter {letter_id} is damaged", where)


def _letter(chain: Chain | None, row: Sequence[Any], its_name: str) -> BuriedEvent | None:
    """Return what a row says of a subscription of this name; None where nothing like it was saved."""
    letter_id, _, *values, payload, checksum = row
    text = payload.decode("utf-8", "replace") if isinstance(payload, bytes) else None
    if chain is not None and not _holds(chain, [its_name, *values, text], checksum):
        return None
    lane, position, reason, error, traceback, attempts, wall_ns = values
    return BuriedEvent(
        subscription=its_name,
        lane=lane,
        position=position,
        payload=payload,
        reason=reason,
        error=error,
        traceback=traceback,
        attempts=attempts,
        wall_ns=wall_ns,
        letter_id=letter_id,
    )


def suspects(db: Connection) -> list[Suspect]:
    """Return the suspects."""
    return [Suspect(*row) for row in rows_of(db, _SUSPECTS)]


def halts(db: Connection, chain: Chain | None) -> list[Halt]:
    """Return the active kill switches; with a chain, raise `JournalCorrupt` at a damaged one."""
    return [halt_of(row) for row in rows_sealed(db, chain, "halts")]


def halt_of(row: Sequence[Any]) -> Halt:
    """Return what a row of the active kill switches says."""
    scope, event_id, by, reason, since_ns, count, _ = row
    return Halt(scope=scope, event_id=event_id, by=by, reason=reason, since_ns=since_ns, count=count)
