"""What a recovery carries over of what stands beside the log, and how it marks what it could not.

What is damaged, or in a sealed journal not what was saved last, is not believed, name by name:

- A cursor that is not believed begins at the start of the log: what its subscription has handled is handled
  again, and nothing is passed over.
- Dead letters that are whole are kept, but none of a name that is not believed is redriven by itself.
- A memory without its snapshot would begin with nothing, and without a tombstone, cursor or dead letter it
  would have other events than were handled: smaller or larger than it was. So whoever may have lost something
  gets a snapshot of the form `lost`, which a bus refuses by name.
- Suspects that are not believed are left out: events are tried before they are given up.
- Active kill switches that are whole are kept.

All of it is said, in words.
"""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any, TypeVar

import msgspec

from openoutcry.core.cursors import BUS, LINK
from openoutcry.core.halts import Halt
from openoutcry.core.letters import REDRIVE, REDRIVE_ANEW
from openoutcry.errors import JournalCorrupt, JournalError
from openoutcry.journals import saved, snapshots
from openoutcry.journals.engines import Connection
from openoutcry.journals.rows import LANES, NORMAL, Chain
from openoutcry.journals.saved import Damaged
from openoutcry.journals.sealing import is_sealed, rows_judged
from openoutcry.journals.seals import LOG, Broken, judge_seals
from openoutcry.journals.snapshots import LOST, Head
from openoutcry.ports import BuriedEvent, CursorState, Snapshot, Suspect

Row = TypeVar("Row", CursorState, BuriedEvent)
_AGAIN = "what it has handled may be handled again"
_EVERYTHING = ("*",)
_FAILED = "failed"


class Doubts:
    """Whose rows are not what was saved last, as far as seals tell.

    Attributes:
        said: What was found, in words.

    """

    def __init__(self, db: Connection, chain: Chain) -> None:
        try:
            broken = judge_seals(db, chain).broken
        except (JournalError, db.error) as problem:
            broken = (Broken("seals", None, f"seals: {problem}"),)
        self.said: list[str] = [one.said for one in broken]
        self._of = {(one.table, one.name) for one in broken if one.table != LOG}
        self.all: bool = any(table == "seals" for table, _ in self._of)
        if self.all:
            self.said.append("seals: so nothing beside the log is believed to be what was saved last")

    def has(self, table: str, name: str | None = None) -> bool:
        """Return True if rows of a name are not to be believed."""
        return self.all or (table, name) in self._of or (table, None) in self._of

    def names(self, table: str) -> list[str]:
        """Return whose rows of a table are not to be believed, as far as names are known."""
        return [name for its_table, name in self._of if its_table == table and name is not None]


class Standings:
    """The cursors and dead letters in an old file, as far as they are believed.

    Attributes:
        cursors: The cursors to carry over.
        letters: The dead letters to carry over.
        lost: What was lost, in words.
        reached: The highest position that a cursor knows of.
        names: The subscriptions that have a cursor or dead letter, without the bus itself.
        doubts: What of a subscription is not what was saved, by name.
        doubts_of_all: The same where nobody can tell whose it was; empty otherwise.

    """

    def __init__(self, db: Connection, chain: Chain, seals: Doubts, floor: int) -> None:
        self.lost: list[str] = []
        self.doubts: dict[str, str] = {}
        self.doubts_of_all: str = ""
        self._seals = seals
        cursors, bad_cursors = self._read("cursors", saved.judged_cursors(db, chain), db.error)
        letters, bad_letters = self._read("dead letters", saved.judged_letters(db, chain), db.error)
        self.names: set[str] = {one.subscription for one in cursors} | {one.subscription for one in letters}
        self.names |= _names_in_heads(db, chain)
        letters += self._owned("dead letters", bad_letters)
        self.letters: list[BuriedEvent] = [
            self._letter(letter) for letter in sorted(letters, key=lambda one: one.letter_id)
        ]
        cursors += self._owned("cursors", bad_cursors)
        self.cursors: list[CursorState] = self._settled(cursors, floor)
        self.names -= {BUS}
        self.reached: int = max((_furthest(cursor) for cursor in cursors), default=0)

    def _read(
        self, table: str, rows: Iterator[Row | Damaged], error: type[Exception]
    ) -> tuple[list[Row], list[Damaged]]:
        """Return the rows of a table that hold, and those that do not."""
        whole: list[Row] = []
        damaged: list[Damaged] = []
        try:
            for row in rows:
                if isinstance(row, Damaged):
                    damaged.append(row)
                else:
                    whole.append(row)
        except (JournalError, ValueError, error) as problem:
            self.lost.append(f"{table}: {problem}")
            self.doubts_of_all = self.doubts_of_all or table
        return whole, damaged

    def _owned(self, table: str, damaged: list[Damaged]) -> Iterator[Any]:
        """Yield damaged rows of which just the name is; of the others note whose they are, if it is known."""
        for row in damaged:
            found = next(filter(None, map(row.under, sorted(self.names))), None)
            if found is not None:
                yield found
                continue
            self.lost.append(f"{table}: {row.said}")
            if row.name in self.names:
                self.doubts.setdefault(row.name, table)
            else:
                self.doubts_of_all = self.doubts_of_all or table

    def _letter(self, letter: BuriedEvent) -> BuriedEvent:
        """Return a letter as it is carried over: of a name in doubt it is not redriven by itself."""
        name = letter.subscription
        if not self._seals.has("dead_letters", name):
            return letter
        self.doubts.setdefault(name, "dead letters")
        return msgspec.structs.replace(
            letter, reason=_FAILED if letter.reason in (REDRIVE, REDRIVE_ANEW) else letter.reason
        )

    def _settled(self, cursors: list[CursorState], floor: int) -> list[CursorState]:
        """Return the cursors to carry over; in the place of those in doubt such as have settled nothing."""
        doubted = {name for name, table in self.doubts.items() if table == "cursors"}
        doubted |= {name for name in self.names if self._seals.has("cursors", name)}
        doubted.update(self._seals.names("cursors"))
        self.doubts.update(dict.fromkeys(doubted, "cursors"))
        believed = {
            (cursor.subscription, cursor.lane): cursor
            for cursor in cursors
            if not self._seals.has("cursors", cursor.subscription)
        }
        if self.doubts_of_all == "cursors":  # whoever has none may have had one
            doubted |= {cursor.subscription for cursor in cursors} | {BUS}
        takes = {cursor.subscription: cursor.takes for cursor in cursors}
        for name in doubted:
            begins = [lane for lane in LANES if (name, lane) not in believed]
            for lane in _lanes_of(name, begins):
                believed[name, lane] = CursorState(
                    subscription=name,
                    lane=lane,
                    floor=floor,
                    takes=() if name in (BUS, LINK) else takes.get(name, _EVERYTHING),
                )
            if begins:
                self.lost.append(f"cursors: {name!r} begins at the start of the log: {_AGAIN}")
        return list(believed.values())


def _lanes_of(name: str, lanes: list[str]) -> list[str]:
    """Return in which of the lanes a name has a cursor."""
    if name == BUS:
        return [NORMAL] if lanes else []
    return [lane for lane in lanes if name != LINK or lane != "control"]


def _furthest(cursor: CursorState) -> int:
    return max(cursor.floor, *(last for _, last in cursor.settled), 0)


def _names_in_heads(db: Connection, chain: Chain) -> set[str]:
    with suppress(JournalError, db.error):
        return {head.snapshot.subscription for head in snapshots.heads(db, chain) if head.is_whole}
    return set()


def suspects(db: Connection, seals: Doubts) -> tuple[list[Suspect], list[str]]:
    """Return the suspects to carry over, and what was lost of them, in words."""
    try:
        found = saved.suspects(db)
    except (JournalError, db.error) as problem:
        return [], [f"suspects: {problem}"]
    return [suspect for suspect in found if not seals.has("suspects", suspect.subscription)], []


def halts(db: Connection, chain: Chain) -> tuple[list[Halt], list[str]]:
    """Return the active kill switches to carry over, and what was lost of them, in words."""
    found: list[Halt] = []
    lost: list[str] = []
    try:
        for row, is_whole in rows_judged(db, chain, "halts"):
            if is_whole:
                found.append(saved.halt_of(row))
            else:
                lost.append(f"halts: the row {row[:2]!r} is damaged")
    except (JournalError, ValueError, db.error) as problem:
        lost.append(f"halts: {problem}")
    return found, lost


class Salvage:
    """The memories in an old file, as far as they hold.

    Attributes:
        tombstones: Those to carry over.
        lost: What was lost, in words; complete when the snapshots have been taken.
        reached: The highest position that a snapshot or tombstone knows of.

    """

    def __init__(self, db: Connection, chain: Chain, standings: Standings, seals: Doubts) -> None:
        """Look at the tombstones and the heads of the snapshots."""
        self._db = db
        self._chain = chain
        self.lost: list[str] = []
        self._heads, self._are_all_there = self._look_at_heads()
        self._names = {*standings.names, *self._heads} - {BUS}
        for table in ("snapshots", "tombstones"):
            self._names.update(seals.names(table))
        self._doubts = {name: _not_saved(table) for name, table in standings.doubts.items()}
        if standings.doubts_of_all:
            self._doubt(self._names, _not_saved(standings.doubts_of_all))
        for table in ("snapshots", "tombstones", "dead_letters"):
            self._doubt((name for name in self._names if seals.has(table, name)), _not_saved(table))
        self.tombstones: list[tuple[str, int]] = list(self._look_at_tombstones())
        lanes = [head.snapshot.lanes for head in self._heads.values() if head.is_whole]
        places = (place for of in lanes for place in of.values())
        settled = (max(floor, *(last for _, last in above), 0) for floor, above in places)
        self.reached: int = max(0, 0, *(position for _, position in self.tombstones), *settled)

    def _look_at_heads(self) -> tuple[dict[str, Head], bool]:
        """Return the heads by name, and whether there can be no others."""
        found: dict[str, Head] = {}
        is_whole = False
        with suppress(JournalError, self._db.error):
            for head in snapshots.heads(self._db, self._chain):
                if head.is_whole or head.snapshot.subscription not in found:
                    found[head.snapshot.subscription] = head
            is_whole = True
        return found, is_whole and all(head.is_whole for head in found.values())

    def _look_at_tombstones(self) -> Iterator[tuple[str, int]]:
        """Yield the tombstones that hold, and note whose are lost."""
        try:
            for (name, position, checksum), is_whole in rows_judged(self._db, self._chain, "tombstones"):
                if is_whole:
                    yield name, position
                    continue
                owner = self._owner_of(position, checksum)
                if owner is not None:
                    yield owner, position
                    continue
                self.lost.append(f"tombstones: the row {(name, position)!r} is damaged")
                self._doubt([name] if name in self._names else self._names, "a tombstone is damaged")
        except (JournalError, ValueError, self._db.error) as problem:
            self.lost.append(f"tombstones: {problem}")
            self._doubt(self._names, _not_saved("tombstones"))

    def _owner_of(self, position: object, checksum: object) -> str | None:
        """Return whose tombstone it is, where only the name is damaged."""
        rows = ((name, position) for name in self._names)
        return next((row[0] for row in rows if is_sealed(row, checksum, self._chain)), None)

    def _doubt(self, names: Iterable[str], what: str) -> None:
        for name in names:
            self._doubts.setdefault(name, what)

    def take(self) -> Iterator[Snapshot]:
        """Yield the snapshots to save, one by one, since their states may be large."""
        for name, head in sorted(self._heads.items()):
            if name in self._doubts:
                yield self._lost(head, self._doubts[name])
                continue
            try:
                found = None if not head.is_whole else snapshots.snapshot(self._db, self._chain, name)
            except (JournalCorrupt, self._db.error):
                found = None
            yield found if found is not None else self._lost(head, "it is damaged")
        for name in sorted(self._names - self._heads.keys()):
            if not self._are_all_there:  # one that is damaged may be its
                yield self._lost(_nothing(name), "a damaged one may be its")
            elif name in self._doubts:
                yield self._lost(_nothing(name), self._doubts[name])

    def _lost(self, head: Head, why: str) -> Snapshot:
        """Return what to save in place of a snapshot; what is known of what it needs is still kept for it."""
        known = head if head.is_whole else _nothing(head.snapshot.subscription)
        self.lost.append(f"snapshots: the memory of {head.snapshot.subscription!r} is lost: {why}")
        return msgspec.structs.replace(known.snapshot, form=LOST)


def _not_saved(table: str) -> str:
    return f"its {table.replace('_', ' ')} are not what was saved last"


def _nothing(name: str) -> Head:
    return Head(Snapshot(subscription=name, form=LOST, is_needed=False, lanes={}), 0, is_whole=True)
