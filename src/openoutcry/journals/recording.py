"""A recorded day: what a journal knows of each run of a bus, put together for whoever plays it again.

A bus with `record="replay"` writes, beside its events, a tape: what its subscriptions took, in which order
and when (`journals.tape`). A *run* is one life of a bus, from a start to its stop or the end of its process.
All instants of a run count from its start, on the bus's monotonic clock; times of day are labels.
"""

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple, Protocol, Self

from openoutcry.events import AnswerRecorded, MemoryRestored, RunStarted, TapeRecorded, decode
from openoutcry.events.records import is_record
from openoutcry.journals.reading import JournalReader
from openoutcry.journals.tape import RecordedCall, RecordedPublication, Steps, read_steps
from openoutcry.journals.told import read_halts_seen, round_not_known
from openoutcry.ports import Header, Level, Stored

_PAGE: Final = 4_096
_BACK: Final = 64
"""So many entries are read at once when it is looked back."""


class Entries(Protocol):
    """What a recording is read from: a `JournalReader`, or a journal."""

    @property
    def first(self) -> int:
        """The oldest position that is kept."""
        ...

    @property
    def head(self) -> int:
        """The position of the newest entry."""
        ...

    def read(self, after: int, limit: int) -> list[Stored]:
        """Return the next entries behind a position."""
        ...


class RecordedEntry(NamedTuple):
    """An entry of the journal, and when it was handed to the subscriptions."""

    position: int
    """Its position."""
    event_id: str
    """Its id."""
    payload: bytes
    """The event's JSON."""
    lane: str
    """`control`, `high` or `normal`."""
    level: Level
    """The level that it was accepted at: `memory` for one that is there beside."""
    header: Header | None
    """What stands beside the event, for users' own classes."""
    wall_ns: int
    """When it was admitted, in nanoseconds since 1970: a label."""
    at_ns: int | None
    """When it was handed to the mailboxes, from the start of the run; None where that is not on the tape."""
    order: int | None
    """The place of that among everything that was noted; what was handed out together has the same."""

    @property
    def is_beside(self) -> bool:
        """Whether it was delivered from memory, so that no cursor waited for it."""
        return self.level is Level.MEMORY


class TapeGap(NamedTuple):
    """A stretch of a run of which the tape is missing, or a part of it."""

    after_ns: int
    """The last instant of which the tape knows everything, from the start of the run."""
    first: int
    """The entries from here"""
    last: int
    """to here were written in that stretch."""
    why: str
    """What is missing, and why, in words."""


class _Part(NamedTuple):
    position: int
    record: TapeRecorded


class RecordedRun:
    """One life of a bus, from its start to its stop or to the end of its process.

    Attributes:
        manifest: What was started: versions, settings, seed, app.
        first: The position of its first entry: of what was published before the start, if anything was.
        last: That of its last entry.
        started_at: The position of the manifest.
        answers: What was asked by `EventBus.recorded`, in order.
        memories: From what the memories of subscriptions were rebuilt.

    """

    def __init__(self, entries: Entries, manifest: RunStarted, started_at: int, first: int) -> None:
        self._entries = entries
        self.manifest: RunStarted = manifest
        self.started_at: int = started_at
        self.first: int = first
        self.last: int = started_at
        self.answers: list[AnswerRecorded] = []
        self.memories: list[MemoryRestored] = []
        self._parts: list[_Part] = []

    def read_by(self, entries: Entries, *, first: int | None = None) -> "RecordedRun":
        """Return this run, to be read from another reader of its journal; it begins at `first`, if given."""
        again = RecordedRun(entries, self.manifest, self.started_at, self.first if first is None else first)
        again.last, again.answers, again.memories = self.last, self.answers, self.memories
        again._parts = self._parts
        return again

    @property
    def is_taped(self) -> bool:
        """Whether all of it was to be recorded: `record="replay"`."""
        return bool((self.manifest.settings.get("persistence") or {}).get("record") == "replay")

    @property
    def has_ended(self) -> bool:
        """Whether the tape goes to its end: it was stopped, and everything was saved."""
        return bool(self._parts) and self._parts[-1].record.is_last

    @cached_property
    def gaps(self) -> tuple[TapeGap, ...]:
        """What of the tape is missing, in order; empty if nothing is."""
        if not self.is_taped:
            return (TapeGap(0, self.first, self.last, 'nothing is on tape without record="replay"'),)
        return tuple(self._find_gaps())

    def _find_gaps(self) -> Iterator[TapeGap]:
        before, number = _Part(self.first - 1, TapeRecorded(number=0, upto_ns=0, steps="")), 0
        for part in self._parts:
            lost = part.record.number - number - 1
            if lost:
                why = f"parts {number + 1} to {part.record.number - 1} of the tape are missing"
                yield TapeGap(before.record.upto_ns, before.position + 1, part.position, why)
            if part.record.left_out:
                why = f"{part.record.left_out:,} notes or events are missing: too many, or not to be written"
                yield TapeGap(before.record.upto_ns, before.position + 1, part.position, why)
            before, number = part, part.record.number
        if not self.has_ended:
            why = "the tape has no end: the process died, or the run goes on"
            yield TapeGap(before.record.upto_ns, before.position + 1, self.last, why)

    @cached_property
    def _steps(self) -> list[Steps]:
        return [read_steps(part.record.steps) for part in self._parts]

    @cached_property
    def _raised(self) -> dict[str, tuple[int, int]]:
        return {one: (at_ns, order) for steps in self._steps for one, at_ns, order in steps.raised}

    def entries(self, after: int = 0) -> Iterator[RecordedEntry]:
        """Yield its entries behind a position, in order.

        Those that stand beside were written before what was committed with them.
        """
        released = sorted(one for steps in self._steps for one in steps.released)
        beside = sorted(one for steps in self._steps for one in steps.beside)
        uptos, firsts = [one[0] for one in released], [one[0] for one in beside]
        for entry in _pages(self._entries, max(after, self.first - 1), self.last):
            when: tuple[int | None, int | None] = None, None
            if entry.is_beside:
                index = bisect_right(firsts, entry.position) - 1
                if index >= 0 and entry.position < firsts[index] + beside[index][1]:
                    when = beside[index][2:]
            elif (index := bisect_left(uptos, entry.position)) < len(uptos):
                when = released[index][1:]
            yield _recorded(entry, when, self._raised)

    def calls(self, subscription: str | None = None) -> list[RecordedCall]:
        """Return what workers took, of all subscriptions or of one, in the order in which it was begun.

        A call that ran while the tape was written has its end, if that is on the tape too.
        """
        found: dict[int, RecordedCall] = {}
        for steps in self._steps:
            for call in steps.calls:
                if subscription in (None, call.subscription):
                    found[call.order] = call
        calls = [found[order] for order in sorted(found)]
        unknown = {place for call in calls for place in call.places if isinstance(place, str)}
        if unknown:
            known = self._positions_of(unknown)
            calls = [_placed(call, known) for call in calls]
        return calls

    def _positions_of(self, ids: set[str]) -> dict[str, int]:
        """Return where events stand that were taken before they were written."""
        found: dict[str, int] = {}
        for entry in _pages(self._entries, self.first - 1, self.last):
            event_id = entry.head().event_id
            if event_id in ids and not entry.is_beside:
                found.setdefault(str(event_id), entry.position)
        return found

    @cached_property
    def made(self) -> dict[str, RecordedPublication]:
        """Publications from inside calls whose ids do not tell that, and those that were refused, by id."""
        return {one.event_id: one for steps in self._steps for one in steps.made}

    @cached_property
    def rounds_not_known(self) -> Counter[tuple[str, str]]:
        """How often calls have asked for a round that was not known: by subscription and round."""
        asked = ((one.subscription, round_not_known(one.event_id)) for one in self.made.values())
        return Counter((who, round_id) for who, round_id in asked if round_id is not None)

    @cached_property
    def halts_seen(self) -> dict[tuple[str, str, str, int], tuple[str, ...]]:
        """Which kill switches calls were told of, where that was new.

        The ids are found by the subscription, the scope, the event's id, and the how manieth time it asked.
        """
        found = ((one.subscription, read_halts_seen(one.event_id)) for one in self.made.values())
        return {(who, *seen[:3]): seen.ids for who, seen in found if seen is not None}

    def _add(self, position: int, record: object) -> None:
        self.last = position
        if isinstance(record, TapeRecorded):
            self._parts.append(_Part(position, record))
        elif isinstance(record, AnswerRecorded):
            self.answers.append(record)
        elif isinstance(record, MemoryRestored):
            self.memories.append(record)


class Recording:
    """The runs of a journal file, also while a bus writes to it: those that there are when it is opened.

    Attributes:
        runs: The runs, in order.

    Raises:
        JournalError: As `JournalReader`; `JournalCorrupt` where an entry is not what was written.

    """

    def __init__(self, path: str | Path, *, key: bytes | None = None) -> None:
        reader = JournalReader(path, key=key)
        self._reader: JournalReader | None = reader
        try:
            self.runs: tuple[RecordedRun, ...] = runs_of(reader)
        except BaseException:
            reader.close()
            raise

    def close(self) -> None:
        """Close the file. Harmless when done twice."""
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def runs_of(entries: Entries) -> tuple[RecordedRun, ...]:
    """Return the runs of a journal. What stands before the first start is part of that run."""
    runs: list[RecordedRun] = []
    first = entries.first
    for entry in _pages(entries, first - 1, entries.head):
        record = decode(entry.payload) if is_record(entry.payload) else None
        if isinstance(record, RunStarted):
            if runs and not runs[-1].has_ended:
                first = _began(entries, runs[-1].started_at, entry.position, record.timestamp_ns)
                runs[-1].last = first - 1
            runs.append(RecordedRun(entries, record, entry.position, first))
        elif runs and not (runs[-1].has_ended and record is None):
            runs[-1]._add(entry.position, record)  # noqa: SLF001 - of this module
            first = entry.position + 1
    if runs:
        runs[-1].last = max(runs[-1].last, entries.head)
    return tuple(runs)


def _began(entries: Entries, after: int, started_at: int, started_ns: int) -> int:
    """Return where the first entry of a run stands: what it commits first may be written before its start.

    The process before has died, and wrote what is older.
    """
    begins = started_at
    while begins > after + 1:
        before = max(after, begins - 1 - _BACK)
        for entry in reversed(entries.read(before, begins - 1 - before)):
            if entry.wall_ns < started_ns or is_record(entry.payload):
                return begins
            begins = entry.position
    return begins


def _pages(entries: Entries, after: int, upto: int) -> Iterator[Stored]:
    while after < upto and (page := entries.read(after, min(_PAGE, upto - after))):
        for entry in page:
            if entry.position > upto:
                return
            yield entry
        after = page[-1].position


def _recorded(
    entry: Stored, when: tuple[int | None, int | None], raised: dict[str, tuple[int, int]]
) -> RecordedEntry:
    event_id = entry.head().event_id or ""
    if entry.lane == "control":
        when = raised.get(event_id, when)
    kept = entry.payload, entry.lane, entry.level, entry.header, entry.wall_ns
    return RecordedEntry(entry.position, event_id, *kept, *when)


def _placed(call: RecordedCall, known: dict[str, int]) -> RecordedCall:
    places: Sequence[Any] = [known.get(one, one) if isinstance(one, str) else one for one in call.places]
    return call._replace(places=tuple(places))
