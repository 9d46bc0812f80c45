"""The lives of a journal: each start of a bus begins one, and each is replayed by itself.

What a life began with is said by the record. What it was handed of earlier lives stands on its tape, and on
the tapes of those after it: everything else was settled. From which state and which entries memories were
rebuilt, and which kill switches were active, it has recorded at its start.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from openoutcry.core.cursors import BUS
from openoutcry.core.halts import Halt
from openoutcry.core.recall import merged
from openoutcry.errors import RecordTooThin
from openoutcry.journals import MemoryJournal
from openoutcry.journals.beginnings import Beginning, read_beginning
from openoutcry.journals.reading import JournalReader
from openoutcry.journals.recording import RecordedRun, Recording
from openoutcry.ports import Changes, CursorState, Places, Snapshot, Stored
from openoutcry.replay.past import ContinuedJournal
from openoutcry.runtime.durability.saving import STARTED

_LANES: Final = ("control", "high", "normal")
_PAGE: Final = 512

Owed = Mapping[tuple[str, str], frozenset[int]]
"""What subscriptions had not settled: positions, by subscription and lane."""


@dataclass(frozen=True, slots=True)
class Life:
    """A run of a bus, and what it began with of those before it."""

    number: int
    """Which of the journal's lives it is, from 1."""
    count: int
    """How many the journal has."""
    run: RecordedRun
    """What is recorded of it."""
    base: int
    """The last position of what was there before it."""
    owed: Owed
    """What of that was not settled."""
    letters: frozenset[tuple[str, int]]
    """What earlier lives had made dead letters, as (subscription, position)."""
    stays: bool
    """Whether the process is the one of the life before, so that its agents may have stayed as they were."""


class _Crossing(NamedTuple):
    """Something that a life was handed of an earlier one."""

    life: int
    subscription: str
    lane: str
    position: int


class Lives:
    """The lives of a journal, found once; each is read when it is asked for.

    Attributes:
        path: The journal.
        key: Its key.
        runs: The runs, which cannot be read from any more.

    """

    def __init__(self, path: Path, key: bytes | None = None) -> None:
        self.path = path
        self.key = key
        with Recording(path, key=key) as recording:
            self.runs: tuple[RecordedRun, ...] = recording.runs
            several = self.runs if len(self.runs) > 1 else ()
            self._crossings, self._buried = _crossings_of(several)
        if not self.runs:
            raise RecordTooThin(
                f"{path} does not say how its bus was started: it was written with record='off', or by a "
                "version before this one; record the day with record='replay'"
            )

    def life(self, number: int, reader: JournalReader) -> Life:
        """Return a life, to be read from a reader. Raises `RecordTooThin` if there is none of that number."""
        if not 1 <= number <= len(self.runs):
            raise RecordTooThin(f"{self.path} has {len(self.runs)} lives: there is no life {number}")
        run = self.runs[number - 1]
        first = run.started_at if number == 1 and run.first > 1 else run.first
        before = self.runs[number - 2].manifest if number > 1 else None
        here = (run.manifest.process_id, run.manifest.host)
        return Life(
            number,
            len(self.runs),
            run.read_by(reader, first=first),
            first - 1,
            self._owed(number, first),
            frozenset(place for place, lives in self._buried.items() if min(lives) < number),
            before is not None and (before.process_id, before.host) == here,
        )

    def _owed(self, number: int, first: int) -> Owed:
        found: dict[tuple[str, str], set[int]] = defaultdict(set)
        for one in self._crossings:
            if one.life >= number and one.position < first and not self._was_buried(one, number):
                found[one.subscription, one.lane].add(one.position)
        return {place: frozenset(positions) for place, positions in found.items()}

    def _was_buried(self, one: _Crossing, number: int) -> bool:
        """Whether it was a dead letter when a life began."""
        lives = self._buried.get((one.subscription, one.position), ())
        return any(life < number for life in lives)


def _crossings_of(
    runs: Iterable[RecordedRun],
) -> tuple[list[_Crossing], dict[tuple[str, int], list[int]]]:
    crossings: list[_Crossing] = []
    buried: dict[tuple[str, int], list[int]] = defaultdict(list)
    for number, run in enumerate(runs, 1):
        for call in run.calls() if run.is_taped else ():
            places = [place for place in call.places if isinstance(place, int)]
            earlier = (place for place in places if place < run.first)
            crossings += [_Crossing(number, call.subscription, call.lane, place) for place in earlier]
            if call.end == "buried" and places:
                buried[call.subscription, places[-1]].append(number)
    return crossings, buried


def entries_at(reader: JournalReader, positions: Iterable[int]) -> dict[int, Stored]:
    """Return the entries at some positions, where they are still there."""
    found: dict[int, Stored] = {}
    page: list[Stored] = []
    for position in sorted(positions):
        if not page or position > page[-1].position:
            page = reader.read(position - 1, _PAGE)
        for entry in page:
            if entry.position == position:
                found[position] = entry
    return found


def entries_of(reader: JournalReader, ids: Iterable[str], upto: int) -> dict[str, Stored]:
    """Return the entries of some ids up to a position, the newest of each, those beside the log too."""
    found: dict[str, Stored] = {}
    missing = set(ids)
    with closing(reader.back(upto + 1)) as batches:
        for _, batch in batches if missing else ():
            for entry in reversed(batch):
                event_id = entry.head().event_id or ""
                if event_id in missing:
                    found[event_id] = entry
                    missing.discard(event_id)
            if not missing:
                break
    return found


class Beginnings(NamedTuple):
    """What a bus is to find in its journal when a life begins again."""

    base: int
    owed: Owed
    memories: Mapping[str, Beginning]
    halts: Mapping[str, Any]

    def changes(self) -> Changes:
        """Return it as it is written into a journal."""
        cursors: list[CursorState] = []
        snapshots: list[Snapshot] = []
        tombstones: list[tuple[str, int]] = []
        if self.base:
            cursors.append(CursorState(subscription=BUS, lane="normal", floor=self.base, takes=STARTED))
        for name in sorted({name for name, _ in self.owed} - self.memories.keys()):
            now = {lane: _settled(self.base, self.owed.get((name, lane), ())) for lane in _LANES}
            cursors += _cursors(name, now, ())
            snapshots.append(Snapshot(subscription=name, form="none", is_needed=False, lanes=now))
        for name, memory in sorted(self.memories.items()):
            cursors += _cursors(name, memory.now, memory.takes)
            snapshots.append(memory.base)
            tombstones += [(name, at) for low, high in memory.left_out for at in range(low, high + 1)]
        halts = [Halt(**told) for told in self.halts.values()]
        return Changes(cursors=cursors, snapshots=snapshots, tombstones=tombstones, halts=halts)


def beginnings_of(life: Life) -> Beginnings:
    """Return what a life began with. Raises `RecordTooThin` if it remembered what is not there any more."""
    memories: dict[str, Beginning] = {}
    for record in life.run.memories:
        found = read_beginning(record.begins)
        if not record.is_whole:
            raise RecordTooThin(
                f"{record.subscription} began with a state of {record.state_size_bytes:,} bytes, which is "
                "not in the record: states of up to 4 MiB are"
            )
        memories[record.subscription] = found
    return Beginnings(life.base, life.owed, memories, life.run.manifest.halts)


def _cursors(name: str, now: Places, takes: tuple[str, ...]) -> list[CursorState]:
    return [
        CursorState(subscription=name, lane=lane, floor=floor, settled=tuple(settled), takes=takes)
        for lane, (floor, settled) in now.items()
    ]


def _settled(base: int, unsettled: Iterable[int]) -> tuple[int, tuple[tuple[int, int], ...]]:
    """Return what is settled up to a position, but for some, as a floor and the stretches above it."""
    holes = merged((position, position) for position in unsettled)
    if not holes:
        return base, ()
    ends = [first - 1 for first, _ in holes[1:]] + [base]
    stretches = zip([last + 1 for _, last in holes], ends, strict=True)
    return holes[0][0] - 1, tuple((low, high) for low, high in stretches if low <= high)


def journal_of(path: Path, key: bytes | None, base: int, origin: str) -> MemoryJournal:
    """Return the journal of a replayed life, which goes on behind the file's entries up to `base`."""
    if not base:
        return MemoryJournal(origin)
    return ContinuedJournal(JournalReader(path, key=key), base, origin)
