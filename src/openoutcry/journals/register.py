"""Which event ids are in a journal file: an index in memory, warmed up from the file, which decides."""

from collections.abc import Sequence
from contextlib import closing
from typing import Final

from openoutcry.journals.ids import IdIndex
from openoutcry.journals.log import Log
from openoutcry.journals.rows import event_ids, same_event
from openoutcry.journals.stems import Stems
from openoutcry.ports import Duplicate, Entry, Level, Written

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
        self.unsynced = False

    def written(self, level: Level) -> Written:
        """Return what was done once `fresh` is written, which asks for a level."""
        return Written(self.positions, tuple(self.duplicates), self.unsynced or level is Level.DISK)


class Register:
    """The event ids of a journal file.

    After an opening the ids of older batches are looked up piece by piece (`warm`). A question that comes
    before that is done waits for it, one to five microseconds per entry that is kept, unless the ids in
    question count on a stem that the file did not have then.

    Attributes:
        stems: The stems in the file.
        ids: Where the ids stand, as far as they have been looked up.
        is_cold: Whether ids from before the opening may not have been looked up yet: then `warm_for` comes
            before any question to `ids`.

    """

    __slots__ = ("_cold", "_kept", "_log", "ids", "is_cold", "stems")

    def __init__(self, log: Log, floor: int, head: int, stems: Stems) -> None:
        self.stems = stems
        self._log = log
        self.ids = IdIndex()
        self.ids.forget(floor)
        self._cold = head
        self.is_cold = head > floor
        self._kept: tuple[tuple[int, int], dict[str, int]] = (0, 0), {}

    def warm(self, count: int) -> None:
        """Look up the ids of at least `count` more entries from before the opening, newest first."""
        done, ids, first = 0, list[str](), self._cold + 1
        for row in self._log.backwards(self._cold):
            if ids and (len(ids) >= _NOTED_TOGETHER or row.last + 1 != first):
                self._note_older(ids, first)
                done += len(ids)
                if done >= count:
                    return
                ids = []
            ids, first = event_ids(row) + ids, row.first
        self._note_older(ids, first)
        self._cold = 0
        self.is_cold = False
        self.stems.settle(self.ids.all_stems())

    def _note_older(self, ids: list[str], first: int) -> None:
        if ids:
            self.ids.add_older(ids, first)
            self._cold = first - 1

    def warm_for(self, ids: Sequence[str]) -> None:
        """Look up what says whether some ids are here: everything, or nothing."""
        if not self.stems.are_new(ids):
            self.warm(self._cold)

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
        return None

    def _search(self, event_id: str, first: int, last: int) -> int | None:
        """Return the position of an id among the batches between two positions."""
        if self._kept[0] != (first, last):
            positions: dict[str, int] = {}
            with closing(self._log.forwards(first)) as rows:
                for row in rows:
                    if row.first > last:
                        break
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

    def idle(self, count: int) -> bool:
        """Do about `count` ids' worth of deferred work; return True if there is more."""
        if self.is_cold:
            self.warm(count)
            return True
        return self.ids.move(count) or self.ids.sweep()
