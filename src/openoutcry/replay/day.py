"""A recorded day as a replay needs it: what was admitted when, and what is to come of whom."""

import re
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from openoutcry.errors import RecordTooThin
from openoutcry.events import (
    RECORDS,
    AnswerRecorded,
    RoundLate,
    RoundOpened,
    RoundReleased,
    RunStarted,
    Undecodable,
    decode,
    decode_many,
    event_type_of,
)
from openoutcry.journals import JournalReader
from openoutcry.ports import Filter, Level, Stored
from openoutcry.runtime.api.answers import Question

PAGE: Final = 4_096
NEVER_NS: Final = 2**63 - 1
_DERIVED: Final = re.compile(r"[0-9a-f]{26}-[0-9a-f]+")


@dataclass(slots=True, eq=False)
class Entry:
    """An event of the day.

    Attributes:
        position: Where it stands in the journal.
        event: The event as it was recorded.
        lane: The lane that it took.
        level: What it was to survive.
        at_ns: When it was handed out, from the start of the run.
        is_made: Whether an agent has published it; else it came from outside.
        cause_id: The event that it was published because of.
        voted: Whether it is a signal that came to a round.

    """

    position: int
    event: Any
    lane: str
    level: Level
    at_ns: int
    is_made: bool
    cause_id: str | None = None
    voted: bool = False


@dataclass(slots=True, eq=False)
class PastRound:
    """A round of the day.

    Attributes:
        round_id: Its id.
        opened_by: The subscription that has opened it; empty for a main program.
        at_ns: When it was opened, from the start of the run.
        terms: The record that says what it demanded.
        released: How it ended; None if that was not recorded.
        late: The answers that came too late.

    """

    round_id: str
    opened_by: str
    at_ns: int
    terms: RoundOpened | RoundReleased
    released: RoundReleased | None = None
    late: list[RoundLate] = field(default_factory=list)

    @property
    def ends_ns(self) -> int:
        """When that was noticed; never, if it was not."""
        return NEVER_NS if self.released is None else self.at_ns + self.released.noticed_ns


@dataclass(slots=True, eq=False)
class Day:
    """One run of a bus, as its journal has recorded it.

    Attributes:
        path: The journal.
        manifest: How it was started; None where that was not recorded.
        entries: Its events, in order.
        records: What the bus has recorded of itself, by the position that it comes behind.
        rounds: Its rounds by id; several of one id in order.
        started_wall_ns: When it was started, in nanoseconds since 1970.
        ended_well: Whether the bus was stopped; else its process may have died.
        runs_count: How many runs the journal has; this is the first.
        is_taped: Whether everything that was taken, and all that lives in memory alone, was recorded.
        answers: What was answered from outside, by question.
        failed: Which calls failed on the day, as (subscription, id of the event).
        before: What came before the stretch that is replayed: agents remember it, as at a start.
        from_ns: Where that stretch begins, from the start of the run.

    """

    path: Path
    manifest: RunStarted | None
    entries: list[Entry]
    records: list[tuple[int, Any]]
    rounds: dict[str, list[PastRound]]
    started_wall_ns: int
    ended_well: bool = True
    runs_count: int = 1
    is_taped: bool = False
    answers: dict[Question, AnswerRecorded] = field(default_factory=dict)
    failed: set[tuple[str, str]] = field(default_factory=set)
    before: list[Stored] = field(default_factory=list)
    from_ns: int = 0
    by_id: dict[str, Entry] = field(init=False)

    def __post_init__(self) -> None:
        self.by_id = {entry.event.event_id: entry for entry in self.entries}

    @property
    def origin(self) -> str:
        """What its bus derived ids from."""
        return "" if self.manifest is None else self.manifest.origin

    @property
    def settings(self) -> Mapping[str, Any]:
        """The settings of its bus."""
        return {} if self.manifest is None else self.manifest.settings


def recorded_app(path: Path, key: bytes | None = None) -> str:
    """Return what a journal says its first run was of, as `module:app`; empty if it does not say."""
    with closing(JournalReader(path, key=key)) as reader:
        found = reader.read(0, 1, Filter(types=frozenset({"run_started"})))
    return decode(found[0].payload).app if found else ""


def read_day(
    path: Path, key: bytes | None = None, *, from_ns: int | None = None, to_ns: int | None = None
) -> Day:
    """Read the first run of a journal, or what of it was admitted from `from_ns` to `to_ns`.

    The classes of its events must have been imported. Raises `RecordTooThin` for a journal from which nothing
    can be replayed, and what reading it raises.
    """
    with closing(JournalReader(path, key=key)) as reader:
        stored = list(_pages(reader))
        buried = [(letter.subscription, letter.position) for letter in reader.buried()]
        if reader.first > 1:
            raise RecordTooThin(
                f"{path} begins at position {reader.first}: what came before was retired, and with it how "
                "the day began; record a day with a journal of its own, or with a longer retain_s"
            )
    day = _day_of(path, stored)
    if day.manifest is None:
        raise RecordTooThin(
            f"{path} does not say how its bus was started: it was written with record='off', or by a version "
            "before this one; record the day with record='replay'"
        )
    _check_causes(day)
    ids = {entry.position: entry.event.event_id for entry in day.entries}
    day.failed = {(name, ids[position]) for name, position in buried if position in ids}
    _cut(day, {one.position: one for one, _ in stored}, from_ns, to_ns)
    return day


def _check_causes(day: Day) -> None:
    """Raise if what agents answered is not in the journal."""
    if day.is_taped:
        return
    unknown = [
        entry
        for entry in day.entries
        if entry.is_made and (entry.cause_id or entry.event.event_id) not in day.by_id
    ]
    if unknown:
        raise RecordTooThin(
            f"{day.path}: {len(unknown):,} events answer what is not in the journal, the first of them at "
            f"position {unknown[0].position}: market data was not recorded; record the day with "
            "record='replay'"
        )


def _cut(day: Day, stored: Mapping[int, Stored], from_ns: int | None, to_ns: int | None) -> None:
    """Keep of a day what was admitted in a stretch of time, and remember what came before."""
    first_ns = 0 if from_ns is None else from_ns - day.started_wall_ns
    last_ns = NEVER_NS if to_ns is None else to_ns - day.started_wall_ns
    earlier = [entry for entry in day.entries if entry.at_ns < first_ns]
    day.from_ns = max(0, first_ns)
    day.before = [stored[entry.position] for entry in earlier]
    day.entries = [entry for entry in day.entries[len(earlier) :] if entry.at_ns < last_ns]
    if not day.entries:
        raise RecordTooThin(
            f"{day.path} has no events in that time: leave --from and --to out to see its day"
        )
    for round_id, known in list(day.rounds.items()):
        kept = [one for one in known if one.at_ns < last_ns and one.ends_ns >= first_ns]
        day.rounds[round_id] = kept


def _pages(reader: JournalReader) -> Iterator[tuple[Stored, Any]]:
    """Yield each entry with its event."""
    after = 0
    while page := reader.read(after, PAGE):
        yield from zip(page, decode_many([entry.payload for entry in page]), strict=True)
        after = page[-1].position


def _day_of(path: Path, stored: list[tuple[Stored, Any]]) -> Day:
    manifest, runs_count = None, 0
    entries: list[Entry] = []
    records: list[tuple[int, Any]] = []
    rounds: dict[str, list[PastRound]] = {}
    started_wall_ns = stored[0][0].wall_ns if stored else 0
    for one, event in stored:
        if isinstance(event, RunStarted):
            runs_count += 1
            if runs_count > 1:
                continue
            manifest, started_wall_ns = event, min(started_wall_ns, one.wall_ns)
        if runs_count > 1:
            continue
        if isinstance(event, Undecodable):
            raise RecordTooThin(
                f"{path}: the event at position {one.position} cannot be read: {event.error}; import its "
                "class in the app's module"
            )
        if event_type_of(event) in RECORDS:
            records.append((one.position, event))
            _note_round(rounds, event, started_wall_ns)
            continue
        entries.append(_entry(one, event, started_wall_ns, entries[-1].at_ns if entries else 0))
    day = Day(path, manifest, entries, records, rounds, started_wall_ns, runs_count=runs_count)
    for _, record in records:
        if isinstance(record, AnswerRecorded):
            asked = Question(record.name, record.subscription, record.causation_id or "", record.ordinal)
            day.answers.setdefault(asked, record)
    _mark_votes(day)
    return day


def _entry(one: Stored, event: Any, started_ns: int, after_ns: int) -> Entry:
    at_ns = max(after_ns, one.wall_ns - started_ns)
    # A handler's events have ids that are derived or its own, and the cause that the bus has stamped. (Only
    # the tape tells for sure: a main program may name a cause as well.)
    cause_id = one.head().causation_id
    is_made = bool(_DERIVED.fullmatch(event.event_id)) or cause_id is not None
    return Entry(one.position, event, one.lane, one.level, at_ns, is_made, cause_id)


def _note_round(rounds: dict[str, list[PastRound]], event: Any, started_ns: int) -> None:
    if isinstance(event, RoundLate):
        rounds[event.round_id or ""][-1].late.append(event)
        return
    if not isinstance(event, RoundOpened | RoundReleased):
        return
    round_id = event.round_id or ""
    known = rounds.setdefault(round_id, [])
    opened = known[-1] if known and known[-1].terms.ordinal == event.ordinal else None
    if opened is None:
        wall_ns = event.opened_wall_ns if isinstance(event, RoundReleased) else event.timestamp_ns
        opened = PastRound(round_id, event.opened_by, max(0, wall_ns - started_ns), event)
        known.append(opened)
    if isinstance(event, RoundReleased):
        opened.released = event


def _mark_votes(day: Day) -> None:
    for known in day.rounds.values():
        for one in known:
            ids = [] if one.released is None else [vote.signal_id for vote in one.released.votes]
            for signal_id in (*ids, *(late.signal_id for late in one.late)):
                entry = day.by_id.get(signal_id or "")
                if entry is not None:
                    entry.voted = True
