"""Which event ids are in a journal file: an index in memory, warmed up from the file, which decides."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Final

from openoutcry.journals.id_blocks import IdBlocks
from openoutcry.journals.ids import IdIndex, counts
from openoutcry.journals.log import Log
from openoutcry.journals.rows import event_ids, is_beside, same_event
from openoutcry.journals.stems import Stems
from openoutcry.ports import Duplicate, Entry, Level, Written

IDLE_IDS: Final = 1_024
"""So many ids are looked up in a piece of deferred work,"""
IDLE_BYTES: Final = 1_000_000
"""or those of entries of so many bytes, in at least one batch."""
_NOTED_TOGETHER: Final = 128
"""Smaller batches are collected up to this size: noting one costs as much as noting many."""


class Sifted:
    """What of a call is new.

    Attributes:
        fresh: The entries to write.
        positions: The position of every entry of the call, if `fresh` is written next.
        duplicates: The others.
        unsynced: Whether a duplicate that asks for `disk` is not there yet.

    """

    __slots__ = ("duplicates", "fresh", "positions", "unsynced")

    def __init__(self) -> None:
        self.fresh: list[Entry] = []
        self.positions: list[int] = []
        self.duplicates: list[Duplicate] = []
        self.unsynced: bool = False

    def written(self, level: Level) -> Written:
        """Return what was done once `fresh` is written, which asks for a level."""
        return Written(self.positions, tuple(self.duplicates), self.unsynced or level is Level.DISK)


class Register:
    """The event ids of a journal file.

    After an opening the ids of older batches are looked up piece by piece (`warm`). A question that comes
    before that is done waits for it, one to five microseconds per entry that is kept, unless the ids in
    question count on a stem that the file did not have then. If they do not count it waits only for those
    entries of which the blocks in the file do not tell.

    Attributes:
        stems: The stems in the file.
        ids: Where the ids stand, as far as they have been looked up.
        is_cold: Whether ids from before the opening may not have been looked up yet: then `warm_for` comes
            before any question to `ids`.

    """

    __slots__ = ("_blocks", "_cold", "_kept", "_log", "ids", "is_cold", "stems")

    def __init__(self, log: Log, floor: int, head: int, stems: Stems, blocks: IdBlocks) -> None:
        self.stems: Stems = stems
        self._blocks = blocks
        self._log = log
        self.ids: IdIndex = IdIndex()
        self.ids.forget(floor)
        self._cold = head
        self.is_cold: bool = head > floor
        self._kept: tuple[tuple[int, int], dict[str, int]] = (0, 0), {}

    def warm(self, count: int, bytes_max: int | None = None) -> None:
        """Look up the ids of at least `count` more entries from before the opening, newest first.

        With `bytes_max`, of fewer: no further batch once those that were read have so many bytes.
        """
        done, size, ids, first = 0, 0, list[str](), self._cold + 1
        for row in self._log.backwards(self._cold):
            is_large = bytes_max is not None and size >= bytes_max
            enough = len(ids) >= min(_NOTED_TOGETHER, count - done) or is_beside(row)
            if ids and (is_large or enough or row.last + 1 != first):
                self._note_older(ids, first)
                done += len(ids)
                if is_large or done >= count:
                    return
                ids = []
            ids = [] if is_beside(row) else event_ids(row) + ids
            first, size = row.first, size + len(row.data)
        self._note_older(ids, first)
        self._cold = 0
        self.is_cold = False
        self._blocks.forget()
        self.stems.settle(self.ids.all_stems())

    def _note_older(self, ids: list[str], first: int) -> None:
        if ids:
            self.ids.add_older(ids, first)
            self._cold = first - 1

    def warm_for(self, ids: Sequence[str]) -> None:
        """Look up what says whether some ids are here: nothing, what the blocks leave, or everything."""
        if self.stems.are_new(ids):
            return
        in_doubt = [event_id for event_id in ids if not self.stems.are_new((event_id,))]
        upto = self.ids.floor if any(map(counts, in_doubt)) else self._blocks.upto(self.ids.floor)
        if self._cold > upto:
            self.warm(self._cold - upto)

    def are_new(self, ids: Sequence[str]) -> bool:
        """Return True if none of the ids can be here; if some have been looked up, after `warm_for`."""
        return self.ids.are_new(ids) and not (self.is_cold and any(map(self._may_be_in_block, ids)))

    def _may_be_in_block(self, event_id: str) -> bool:
        return not counts(event_id) and any(self._in_blocks(event_id))

    def _in_blocks(self, event_id: str) -> Iterator[int]:
        return (place for place in self._blocks.places(event_id) if place > self.ids.floor)

    def stems_to_save(self, ids: Sequence[str]) -> str | None:
        """Return what the file must say of its stems when these new ids are in it; None: it does."""
        return self.stems.to_save(self.ids.parts_of(ids))

    def find(self, event_id: str) -> tuple[int, bytes] | None:
        """Return the position and the content of the entry with an id."""
        if self.is_cold:
            self.warm_for((event_id,))
        for first, last in self.ids.places(event_id):
            position = first if first == last else self._search(event_id, first, last)
            entry = None if position is None else self._log.entry(position)
            if entry is not None and entry.head().event_id == event_id:
                return entry.position, entry.payload
        if self.is_cold:
            for position in self._in_blocks(event_id):
                entry = self._log.entry(position)
                if entry is not None and entry.head().event_id == event_id:
                    return entry.position, entry.payload
        return None

    def _search(self, event_id: str, first: int, last: int) -> int | None:
        """Return the position of an id among the batches between two positions."""
        if self._kept[0] != (first, last):
            positions: dict[str, int] = {}
            with closing(self._log.forwards(first)) as rows:
                for row in rows:
                    if row.first > last:
                        break
                    if not is_beside(row):
                        positions.update(zip(event_ids(row), range(row.first, row.last + 1), strict=True))
            self._kept = (first, last), positions
        return self._kept[1].get(event_id)

    def sift(self, entries: Sequence[Entry], head: int, synced: int) -> Sifted:
        """Tell new entries from those whose ids are here, or came before in the same call."""
        sifted = Sifted()
        here: dict[str, tuple[int, bytes]] = {}
        for index, entry in enumerate(entries):
            known = here.get(entry.event_id) or self.find(entry.event_id)
            if known is None:
                position = head + 1 + len(sifted.fresh)
                here[entry.event_id] = position, entry.payload
                sifted.fresh.append(entry)
            else:
                position, payload = known
                same = same_event(payload, entry.payload)
                sifted.duplicates.append(Duplicate(index, position, same))
                sifted.unsynced |= entry.level is Level.DISK and position > synced
            sifted.positions.append(position)
        return sifted

    def forget(self, floor: int) -> None:
        """Forget the ids of what has been retired."""
        self.ids.forget(floor)
        self.is_cold = self.is_cold and self._cold > floor

    def idle(self, head: int) -> tuple[bool, int]:
        """Do a piece of deferred work; return whether there is more, and bytes written."""
        if self.is_cold:
            self.warm(IDLE_IDS, IDLE_BYTES)
            return True, 0
        if self.ids.move(IDLE_IDS) or self.ids.sweep():
            return True, 0
        # (It reads them as well.)
        return self._blocks.grow(self._log, self.ids.floor, head, IDLE_IDS // 4, IDLE_BYTES)
