"""What a recovery carries over of agents' memory, and how it marks what it could not.

Without its snapshot a memory would begin with nothing, and without a tombstone it would have an event that
was never handled: smaller or larger than it was, and nothing would say so. So whoever may have lost something
gets a snapshot of the form `lost`, which a bus refuses by name.
"""

from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress

import msgspec

from openoutcry.errors import JournalCorrupt, JournalError
from openoutcry.journals import snapshots
from openoutcry.journals.engines import Connection
from openoutcry.journals.rows import Chain
from openoutcry.journals.sealing import is_sealed, rows_judged
from openoutcry.journals.snapshots import LOST, Head
from openoutcry.ports import Snapshot


class Salvage:
    """The memories in an old file, as far as they hold.

    Attributes:
        tombstones: Those to carry over.
        lost: What was lost, in words; complete when the snapshots have been taken.
        reached: The highest position that a snapshot or tombstone knows of.

    """

    def __init__(
        self, db: Connection, chain: Chain, names: Collection[str], *, is_known: bool, lost_tables: str = ""
    ) -> None:
        """Look at the tombstones and the heads of the snapshots.

        Args:
            db: The old file.
            chain: How its checksums are made.
            names: The subscriptions that have cursors or dead letters.
            is_known: Whether all cursors and dead letters hold: if not, no memory does.
            lost_tables: Which of them do not.

        """
        self._db = db
        self._chain = chain
        self.lost: list[str] = []
        self._heads, self._are_all_there = self._look_at_heads()
        self._names = {*names, *self._heads}
        self._doubts = dict[str, str]() if is_known else dict.fromkeys(self._names, f"its {lost_tables}")
        self.tombstones = list(self._look_at_tombstones())
        lanes = [head.snapshot.lanes for head in self._heads.values() if head.is_whole]
        places = (place for of in lanes for place in of.values())
        settled = (max(floor, *(last for _, last in above), 0) for floor, above in places)
        self.reached = max(0, 0, *(position for _, position in self.tombstones), *settled)

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
                self._doubt([name] if name in self._names else self._names, "a tombstone")
        except (JournalError, ValueError, self._db.error) as problem:
            self.lost.append(f"tombstones: {problem}")
            self._doubt(self._names, "tombstones")

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
                yield self._lost(head, f"{self._doubts[name]} is damaged")
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
                yield self._lost(_nothing(name), f"{self._doubts[name]} is damaged")

    def _lost(self, head: Head, why: str) -> Snapshot:
        """Return what to save in place of a snapshot; what is known of what it needs is still kept for it."""
        known = head if head.is_whole else _nothing(head.snapshot.subscription)
        self.lost.append(f"snapshots: the memory of {head.snapshot.subscription!r} is lost: {why}")
        return msgspec.structs.replace(known.snapshot, form=LOST)


def _nothing(name: str) -> Head:
    return Head(Snapshot(subscription=name, form=LOST, is_needed=False, lanes={}), 0, is_whole=True)
