"""The journal in memory: for tests and simulations, behaving like the others, with nothing on a disk."""

from bisect import bisect_right
from collections.abc import Collection, Iterator, Sequence
from itertools import islice

import msgspec

from openoutcry.core.halts import Halt
from openoutcry.errors import InvalidEvent, JournalError
from openoutcry.events.sources import new_name
from openoutcry.journals.holders import allowed_upto, holders
from openoutcry.journals.log import take_backwards, take_forwards
from openoutcry.journals.rows import LANES, NORMAL, same_event
from openoutcry.ports import (
    BuriedEvent,
    Changes,
    CursorState,
    DiskTask,
    Duplicate,
    Entry,
    Filter,
    Holder,
    Level,
    Snapshot,
    Stored,
    Suspect,
    Written,
)


class MemoryMarks:
    """What is in flight, in memory."""

    def __init__(self) -> None:
        self.cells: list[int] = []
        self._names: list[tuple[str, str]] = []
        self._free: list[int] = []

    def claim(self, subscription: str, lane: str) -> int:
        """Return the index of a cell for calls of this subscription, one at a time."""
        if not self._free:
            self._free.append(len(self.cells))
            self.cells.append(0)
            self._names.append(("", ""))
        cell = self._free.pop()
        self._names[cell] = (subscription, lane)
        return cell

    def release(self, cell: int) -> None:
        """Give a cell back."""
        self.cells[cell] = 0
        self._free.append(cell)

    def in_flight(self) -> list[tuple[str, str, int]]:
        """Return (subscription, lane, position) of every call that was not over."""
        found = zip(self._names, self.cells, strict=True)
        return [(name, lane, position) for (name, lane), position in found if position]


class _NoWait:
    """A task with nothing to wait for."""

    def __init__(self, upto: int) -> None:
        self.upto = upto

    def perform(self) -> None:
        """Do nothing."""


class MemoryJournal:
    """A journal that lives as long as the object; implements `openoutcry.ports.Journal`.

    Nothing is on a disk: `synced` follows `sync`, so that a test sees whether it was called.
    `reopened` stands in for a restart.

    Attributes:
        head: The position of the newest entry.
        first: The oldest position that is kept.
        synced: The head at the last sync.
        origin: What ids derived in its bus are derived from.
        marks: What is in flight.

    """

    def __init__(self, origin: str | None = None) -> None:
        """Make an empty journal, with an origin of its own unless one is given."""
        self.origin: str = new_name() if origin is None else origin
        self.head: int = 0
        self.first: int = 1
        self.synced: int = 0
        self.marks: MemoryMarks = MemoryMarks()
        self._batches: list[list[Stored]] = []
        self._places: dict[str, Stored] = {}
        self._cursors: dict[tuple[str, str], CursorState] = {}
        self._letters: dict[int, BuriedEvent] = {}
        self._last_letter_id = 0
        self._suspects: dict[tuple[str, str, int], Suspect] = {}
        self._halts: dict[tuple[str, str], Halt] = {}
        self._snapshots: dict[str, Snapshot] = {}
        self._tombstones: dict[str, set[int]] = {}
        self._closed = False

    def reopened(self) -> "MemoryJournal":
        """Return a journal with everything of this one, as a new process would find it after a crash."""
        again = MemoryJournal(self.origin)
        again.head, again.first, again.synced = self.head, self.first, self.head
        again._batches, again._places = list(self._batches), dict(self._places)
        again._cursors, again._letters = dict(self._cursors), dict(self._letters)
        again._last_letter_id = self._last_letter_id
        again._suspects, again._halts = dict(self._suspects), dict(self._halts)
        again._snapshots = dict(self._snapshots)
        again._tombstones = {name: set(places) for name, places in self._tombstones.items()}
        for name, lane, position in self.marks.in_flight():
            known = again._suspects.get((name, lane, position))
            crashes = 1 if known is None else known.crashes + 1
            again._suspects[name, lane, position] = Suspect(name, lane, position, crashes)
        return again

    def write(self, entries: Sequence[Entry], changes: Changes | None = None) -> Written:
        """Note entries and changes, as one."""
        self._check_open()
        for entry in entries:
            if entry.lane not in LANES:
                raise InvalidEvent(f"lane = {entry.lane!r}: an entry's lane is one of {', '.join(LANES)}")
            if (entry.level is Level.MEMORY) is not (entries[0].level is Level.MEMORY):
                raise InvalidEvent("entries at the level `memory` are written in calls of their own")
        batch: list[Stored] = []
        positions: list[int] = []
        duplicates: list[Duplicate] = []
        wants_sync = False
        for index, entry in enumerate(entries):
            known = None if entry.level is Level.MEMORY else self._places.get(entry.event_id)
            if known is None:
                known = self._place(entry, self.head + 1 + len(batch))
                batch.append(known)
            else:
                same = same_event(known.payload, entry.payload)
                duplicates.append(Duplicate(index, known.position, same))
            positions.append(known.position)
            wants_sync |= entry.level is Level.DISK and known.position > self.synced
        if batch:
            self._batches.append(batch)
            self.head = batch[-1].position
        if changes is not None:
            self._save(changes)
        return Written(positions, tuple(duplicates), wants_sync)

    def _place(self, entry: Entry, position: int) -> Stored:
        stored = Stored(position, entry.payload, entry.lane, entry.level, entry.wall_ns, entry.header)
        if not stored.is_beside:
            self._places[entry.event_id] = stored
        return stored

    def _save(self, changes: Changes) -> None:
        for cursor in changes.cursors:
            self._cursors[cursor.subscription, cursor.lane] = cursor
        for name, lane in changes.dropped_cursors:
            self._cursors.pop((name, lane), None)
        for letter in changes.buried:
            letter_id = letter.letter_id or self._last_letter_id + 1
            self._last_letter_id = max(self._last_letter_id, letter_id)
            self._letters[letter_id] = msgspec.structs.replace(letter, letter_id=letter_id)
        for letter_id in changes.removed_letters:
            self._letters.pop(letter_id, None)
        for call in changes.cleared:
            self._suspects.pop(call, None)
        for place in changes.released:
            self._halts.pop(place, None)
        for halt in changes.halts:
            self._halts[halt.scope, halt.event_id] = halt
        self._save_memories(changes)

    def _save_memories(self, changes: Changes) -> None:
        for old, new in changes.renamed:
            found, places = self._snapshots.pop(old, None), self._tombstones.pop(old, set())
            self._snapshots.pop(new, None)
            self._tombstones[new] = places
            if found is not None:
                self._snapshots[new] = msgspec.structs.replace(found, subscription=new)
        for name in changes.forgotten:
            self._snapshots.pop(name, None)
            self._tombstones.pop(name, None)
        for snapshot in changes.snapshots:
            self._snapshots[snapshot.subscription] = snapshot
        for name, position in changes.tombstones:
            self._tombstones.setdefault(name, set()).add(position)

    def sync(self) -> int:
        """Let `synced` follow the head."""
        return self.end_sync(self.begin_sync())

    def begin_sync(self) -> DiskTask:
        """Begin a sync that has nothing to wait for."""
        self._check_open()
        return _NoWait(self.head)

    def end_sync(self, task: DiskTask) -> int:
        """Let `synced` follow the head at which the task was begun."""
        self._check_open()
        assert isinstance(task, _NoWait), "the task was begun by begin_sync"
        self.synced = max(self.synced, task.upto)
        return self.synced

    def read(self, after: int, limit: int, where: Filter | None = None) -> list[Stored]:
        """Return the next `limit` entries behind position `after`, in order. Fewer: there are no more."""
        batches = (batch for batch in self._batches if batch[-1].position > after)
        return take_forwards(batches, after, limit, where) if limit > 0 else []

    def read_urgent(self, after: int, limit: int) -> list[Stored]:
        """Return the next `limit` entries of the lanes `control` and `high` behind `after`, in order."""
        batches = (batch for batch in self._batches if batch[-1].position > after)
        found = (e for batch in batches for e in batch if e.lane != NORMAL and e.position > after)
        return list(islice(found, max(0, limit)))

    def tail(self, limit: int, where: Filter | None = None) -> list[Stored]:
        """Return the newest `limit` entries, oldest first."""
        return take_backwards(reversed(self._batches), limit, where) if limit > 0 else []

    def find(self, event_id: str) -> int | None:
        """Return the position of the entry with this id, or None when it is not kept."""
        stored = self._places.get(event_id)
        return None if stored is None else stored.position

    def cursors(self) -> list[CursorState]:
        """Return every saved cursor, ordered by subscription and lane."""
        return [cursor for _, cursor in sorted(self._cursors.items())]

    def buried(
        self, subscription: str | None = None, after: int = 0, limit: int | None = None
    ) -> list[BuriedEvent]:
        """Return the dead letters, oldest first: of all or of one name, the next `limit` behind `after`."""
        ids = list(self._letters)  # in order: a letter gets a higher id than all before
        found = (self._letters[i] for i in islice(ids, bisect_right(ids, after), None))
        return list(islice((b for b in found if subscription in (None, b.subscription)), limit))

    def last_letter_id(self) -> int:
        """Return the highest id that a dead letter has ever had; none is given twice."""
        return self._last_letter_id

    def suspects(self) -> list[Suspect]:
        """Return what was in flight when a process died, and has not been cleared since."""
        return [suspect for _, suspect in sorted(self._suspects.items())]

    def halts(self) -> list[Halt]:
        """Return the active kill switches."""
        return [halt for _, halt in sorted(self._halts.items())]

    def snapshot(self, subscription: str) -> Snapshot | None:
        """Return where the memory of a subscription begins, or None if that was never written."""
        return self._snapshots.get(subscription)

    def snapshots(self) -> list[Snapshot]:
        """Return all of these by subscription, without their states."""
        found = (snapshot for _, snapshot in sorted(self._snapshots.items()))
        return [msgspec.structs.replace(snapshot, state=b"") for snapshot in found]

    def snapshot_sizes(self) -> dict[str, int]:
        """Return how many bytes the states have, by subscription."""
        return {name: len(snapshot.state) for name, snapshot in sorted(self._snapshots.items())}

    def tombstones(self, subscription: str) -> list[int]:
        """Return the positions that a subscription has settled and will never handle."""
        return sorted(self._tombstones.get(subscription, ()))

    def held_by(self) -> list[Holder]:
        """Return what keeps retention from going on, the lowest position first."""
        letters: dict[str, int] = {}
        for letter in self._letters.values():
            if letter.position > 0:
                name = letter.subscription
                letters[name] = min(letter.position, letters.get(name, letter.position))
        return holders(self._cursors.values(), self._snapshots.values(), letters)

    def retire(
        self,
        *,
        older_than_ns: int | None = None,
        keep_count: int | None = None,
        keep_bytes: int | None = None,
        past_cursors: bool = False,
        past_memory: Collection[str] = (),
    ) -> int:
        """Forget old batches, and return how many entries they had. Bytes are those of the events."""
        self._check_open()
        allowed = allowed_upto(self.held_by(), self.head, past_cursors=past_cursors, past_memory=past_memory)
        retired = 0
        sizes = self._sizes() if keep_bytes is not None else iter(())
        for batch in list(self._batches):
            last = batch[-1].position
            goes = (
                (older_than_ns is not None and max(e.wall_ns for e in batch) < older_than_ns)
                or (keep_count is not None and self.head - last >= keep_count)
                or (keep_bytes is not None and next(sizes) > keep_bytes)
            )
            if last > allowed or not goes:
                break
            self._batches.pop(0)
            self.first = last + 1
            retired += len(batch)
        kept = self.first
        if retired:
            for name, places in self._tombstones.items():
                self._tombstones[name] = {place for place in places if place >= kept}
        self._places = {i: stored for i, stored in self._places.items() if stored.position >= kept}
        return retired

    def _sizes(self) -> Iterator[int]:
        """Yield, batch after batch, the bytes of the events from it on."""
        sizes = [sum(len(entry.payload) for entry in batch) for batch in self._batches]
        left = sum(sizes)
        for size in sizes:
            yield left
            left -= size

    def close(self) -> None:
        """Sync, and accept nothing more. Harmless when done twice."""
        if not self._closed:
            self.sync()
            self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise JournalError("the journal is closed; make a new one")

    def __repr__(self) -> str:
        return f"MemoryJournal(head={self.head})"
