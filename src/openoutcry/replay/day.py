"""A recorded day as a replay needs it: what was admitted when, and what is to come of whom."""

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
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
    decode_many,
    event_type_of,
)
from openoutcry.journals.recording import RecordedEntry, RecordedRun, Recording
from openoutcry.journals.tape import RecordedCall
from openoutcry.ports import Level, Stored
from openoutcry.replay.taking import Step
from openoutcry.runtime.api.answers import Question
from openoutcry.runtime.delivery.call_guard import ABANDON_S
from openoutcry.units import NS_PER_S

PAGE: Final = 4_096
NEVER_NS: Final = 2**63 - 1
OTHER_TIMES_NS: Final = 60 * NS_PER_S
"""Where every event is as far as that from when it was admitted, a day had times of its own."""
_TIMED_OUT: Final = ("CancelledError", "TimeoutError")
_DERIVED: Final = re.compile(r"[0-9a-f]{26}-[0-9a-f]+")


@dataclass(slots=True, eq=False)
class Entry:
    """An event of the day.

    Attributes:
        stored: What the journal has of it.
        event: The event as it was recorded.
        at_ns: When it was handed out, from the start of the run.
        is_made: Whether an agent has published it; else it came from outside.
        cause_id: The event that it was published because of.
        voted: Whether it is a signal that came to a round.

    """

    stored: Stored
    event: Any
    at_ns: int
    is_made: bool
    cause_id: str | None = None
    voted: bool = False

    @property
    def position(self) -> int:
        """Where it stands in the journal."""
        return self.stored.position

    @property
    def level(self) -> Level:
        """What it was to survive; `memory`: it was delivered from there."""
        return self.stored.level


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
    """One run of a bus, as its journal has recorded it, or a stretch of it.

    Attributes:
        path: The journal.
        manifest: How it was started.
        started_wall_ns: When it was started, in nanoseconds since 1970.
        runs_count: How many runs the journal has; this is the first.
        is_taped: Whether everything that was taken, and all that lives in memory alone, was recorded.
        entries: Its events, in the order in which they were handed out.
        by_id: The same by id.
        records: What the bus has recorded of itself, and when whoever names such records was handed it.
        rounds: Its rounds by id; several of one id in order.
        answers: What was answered from outside, by question.
        steps: What each subscription took, in order.
        failed: Which calls failed on the day, as (subscription, id of the event).
        unended: Which calls were begun and did not end as they should, likewise.
        cut: Which calls were ended from outside, likewise.
        cut_rounds: The rounds that these were about, as (subscription, round).
        refused: The ids of publications for which there was no room.
        settled_ns: When the last call for each event had ended, by id.
        beyond: The ids of events that are not replayed: they came before the stretch, or after it.
        gap: What of the tape is missing, in words: the day is replayed up to there. Empty if nothing is.
        before: What came before the stretch that is replayed: agents remember it, as at a start.
        from_ns: Where that stretch begins, from the start of the run.

    """

    path: Path
    manifest: RunStarted
    started_wall_ns: int
    runs_count: int = 1
    is_taped: bool = False
    entries: list[Entry] = field(default_factory=list)
    by_id: dict[str, Entry] = field(default_factory=dict)
    records: list[Entry] = field(default_factory=list)
    rounds: dict[str, list[PastRound]] = field(default_factory=dict)
    answers: dict[Question, AnswerRecorded] = field(default_factory=dict)
    steps: dict[str, list[Step]] = field(default_factory=dict)
    failed: set[tuple[str, str]] = field(default_factory=set)
    unended: set[tuple[str, str]] = field(default_factory=set)
    cut: set[tuple[str, str]] = field(default_factory=set)
    cut_rounds: set[tuple[str, str]] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    settled_ns: dict[str, int] = field(default_factory=dict)
    beyond: set[str] = field(default_factory=set)
    gap: str = ""
    before: list[Stored] = field(default_factory=list)
    from_ns: int = 0

    def quiet_ids(self) -> frozenset[str]:
        """Return the events at which everything before had been settled: where `join` may have waited.

        Raises `RecordTooThin` without a tape.
        """
        if not self.is_taped:
            raise RecordTooThin(
                f"{self.path}: when everything was settled is not in this record; record with record='replay'"
            )
        found, busy_ns = set(), 0
        for entry in self.entries:
            event_id = entry.event.event_id
            if entry.at_ns >= busy_ns:
                found.add(event_id)
            busy_ns = max(busy_ns, self.settled_ns.get(event_id, 0))
        return frozenset(found)

    def index(self) -> None:
        """Bring `by_id` up to `entries`."""
        self.by_id = {entry.event.event_id: entry for entry in self.entries}

    @property
    def has_own_times(self) -> bool:
        """Whether its events had times of another session, as `stamps` gives them, not the clock's."""
        made = [entry for entry in self.entries if entry.is_made]
        return bool(made) and all(
            abs(time_ns_of(entry.event) - entry.stored.wall_ns) > OTHER_TIMES_NS for entry in made
        )

    @property
    def origin(self) -> str:
        """What its bus derived ids from."""
        return self.manifest.origin

    @property
    def settings(self) -> Mapping[str, Any]:
        """The settings of its bus."""
        return self.manifest.settings


def time_ns_of(event: Any) -> int:
    """Return the time that an event says, in nanoseconds since 1970; 0 where it says none."""
    return getattr(event, "timestamp_ns", None) or 0


def recorded_app(path: Path, key: bytes | None = None) -> str:
    """Return what a journal says its first run was of, as `module:app`; empty if it does not say."""
    found = manifest_of(path, key)
    return "" if found is None else found.app


def recorded_broker(path: Path, key: bytes | None = None) -> str:
    """Return which venue took part in a journal's first run, as `module:app`; empty if none did."""
    found = manifest_of(path, key)
    return "" if found is None else found.broker


def manifest_of(path: Path, key: bytes | None = None) -> RunStarted | None:
    """Return how the first run of a journal was started; None if it does not say."""
    with Recording(path, key=key) as recording:
        return recording.runs[0].manifest if recording.runs else None


def made_in(path: Path) -> Iterator[Any]:
    """Yield what agents have published in the first run of a journal, in its order."""
    with Recording(path) as recording:
        run = recording.runs[0]
        made = _made_of(run)
        for one, event in _decoded(run.entries()):
            if event_type_of(event) not in RECORDS and _is_made(_stored(one).head(), event, made):
                yield event


def read_day(
    path: Path, key: bytes | None = None, *, from_ns: int | None = None, to_ns: int | None = None
) -> Day:
    """Read the first run of a journal, or what of it was admitted from `from_ns` to `to_ns`.

    The classes of its events must have been imported. Raises `RecordTooThin` for a journal from which nothing
    can be replayed, and what reading it raises.
    """
    with Recording(path, key=key) as recording:
        if not recording.runs:
            raise RecordTooThin(
                f"{path} does not say how its bus was started: it was written with record='off', or by a "
                "version before this one; record the day with record='replay'"
            )
        run = recording.runs[0]
        if run.first > 1:
            raise RecordTooThin(
                f"{path} begins at position {run.first}: what came before was retired, and with it how the "
                "day began; record a day with a journal of its own, or with a longer retain_s"
            )
        day = _day_of(path, run, len(recording.runs))
        if day.is_taped:
            _read_tape(day, run)
        else:
            _check_causes(day)
    _cut(day, from_ns, to_ns)
    return day


def _day_of(path: Path, run: RecordedRun, runs_count: int) -> Day:
    day = Day(path, run.manifest, run.manifest.timestamp_ns, runs_count, run.is_taped)
    made = _made_of(run)
    for one, event in _decoded(run.entries()):
        if isinstance(event, Undecodable):
            raise RecordTooThin(
                f"{path}: the event at position {one.position} cannot be read: {event.error}; import its "
                "class in the app's module"
            )
        if event_type_of(event) in RECORDS:
            day.records.append(_record(one, event, day))
            _note_round(day.rounds, event, day.started_wall_ns)
        else:
            day.entries.append(_entry(one, event, day, made))
    if day.is_taped:
        day.entries.sort(key=lambda entry: (entry.at_ns, entry.position))
        day.records.sort(key=lambda entry: (entry.at_ns, entry.position))
    for record in run.answers:
        asked = Question(record.name, record.subscription, record.causation_id or "", record.ordinal)
        day.answers.setdefault(asked, record)
    day.index()
    return day


def _decoded(entries: Iterable[RecordedEntry]) -> Iterator[tuple[RecordedEntry, Any]]:
    """Yield each entry with its event."""
    rest = iter(entries)
    while page := list(islice(rest, PAGE)):
        yield from zip(page, decode_many([entry.payload for entry in page]), strict=True)


def _stored(one: RecordedEntry) -> Stored:
    return Stored(one.position, one.payload, one.lane, one.level, one.wall_ns, one.header)


def _made_of(run: RecordedRun) -> set[str] | None:
    """Return the ids of what was published in handlers, as the tape tells it; None without one."""
    return {one.event_id for one in run.made.values() if not one.was_refused} if run.is_taped else None


def _is_made(head: Any, event: Any, made: set[str] | None) -> bool:
    """Return True if an agent has published it: as the tape tells, or else its id, or that it has a cause."""
    is_derived = bool(_DERIVED.fullmatch(event.event_id))
    has_cause = getattr(head, "causation_id", None) is not None
    is_made = is_derived or (has_cause if made is None else event.event_id in made)
    return is_made and getattr(head, "from_desk", None) is None


def _entry(one: RecordedEntry, event: Any, day: Day, made: set[str] | None) -> Entry:
    """Return an entry."""
    stored = _stored(one)
    head = stored.head()
    return Entry(stored, event, _at_ns(one, day), _is_made(head, event, made), head.causation_id)


def _record(one: RecordedEntry, event: Any, day: Day) -> Entry:
    """Return the entry of a record: nobody has published it."""
    return Entry(_stored(one), event, _at_ns(one, day), is_made=False)


def _at_ns(one: RecordedEntry, day: Day) -> int:
    """Return when an entry was handed out, or at the earliest."""
    if one.at_ns is not None:
        return max(0, one.at_ns)
    after_ns = day.entries[-1].at_ns if day.entries else 0
    return max(after_ns, 0 if day.is_taped else one.wall_ns - day.started_wall_ns)


def _check_causes(day: Day) -> None:
    """Raise if what agents answered is not in the journal."""
    known = {*day.by_id, *(record.event.event_id for record in day.records)}
    unknown = [
        entry
        for entry in day.entries
        if entry.is_made and (entry.cause_id or entry.event.event_id) not in known
    ]
    if unknown:
        raise RecordTooThin(
            f"{day.path}: {len(unknown):,} events answer what is not in the journal, the first of them at "
            f"position {unknown[0].position}: market data was not recorded; record the day with "
            "record='replay'"
        )


def _read_tape(day: Day, run: RecordedRun) -> None:
    """Note what was taken, as far as the tape goes without a gap."""
    if run.gaps:
        gap = run.gaps[0]
        day.gap = gap.why
        places = {entry.position for entry in day.entries}
        untimed = (one.position for one in run.entries(run.started_at) if one.at_ns is None)
        first = min(gap.first, next((place for place in untimed if place in places), gap.first))
        found = (*day.entries, *day.records)
        day.beyond |= {entry.event.event_id for entry in found if entry.position >= first}
        day.entries = [entry for entry in day.entries if entry.position < first]
        day.records = [record for record in day.records if record.position < first]
        if not day.entries:
            raise RecordTooThin(
                f"{day.path}: {gap.why}, from the first event on; nothing of it can be replayed"
            )
        day.index()
    ids = {entry.position: entry.event.event_id for entry in (*day.entries, *day.records)}
    known = set(ids.values())
    durable = sorted(entry.position for entry in day.entries if entry.level)
    for call in run.calls():
        taken = [ids.get(place) if isinstance(place, int) else place for place in call.places]
        if call.end in ("failed", "buried"):
            day.failed.add((call.subscription, taken[-1] or ""))
        elif call.end != "handled":
            day.unended.add((call.subscription, taken[-1] or ""))
        cut_ns = _cut_ns(call)
        if cut_ns is not None:
            day.cut.add((call.subscription, taken[-1] or ""))
            cause = day.by_id.get(taken[-1] or "")
            round_id = None if cause is None else getattr(cause.event, "round_id", None)
            day.cut_rounds.add((call.subscription, round_id or ""))
        if call.lane == "control" or call.end == "expired":
            continue
        reached = bisect_right(durable, call.head)
        head = durable[reached - 1] if reached else 0
        steps = day.steps.setdefault(call.subscription, [])
        for number, event_id in enumerate(taken):
            if event_id is not None and event_id in known:
                ended_ns = NEVER_NS if call.ended_ns is None else call.ended_ns
                day.settled_ns[event_id] = max(day.settled_ns.get(event_id, 0), ended_ns)
                is_last = number == len(taken) - 1
                steps.append(
                    Step(
                        call.lane,
                        event_id,
                        1 if number else call.attempt,
                        call.begun_ns,
                        head,
                        cut_ns if is_last else None,
                        call.end == "superseded",
                        call.ended_ns,
                        call.order,
                    )
                )
    day.refused = {one.event_id for one in run.made.values() if one.was_refused}


def _cut_ns(call: RecordedCall) -> int | None:
    """Return when a call was ended from outside, as a time-out does; None for one that ended by itself."""
    has_failed = call.end in ("failed", "buried")
    if has_failed and not call.error and call.ended_ns is not None:  # it went on, and was abandoned
        return call.ended_ns - round(ABANDON_S * NS_PER_S)
    is_cut = call.end == "superseded" or (has_failed and call.error in _TIMED_OUT)
    return call.ended_ns if is_cut else None


def _cut(day: Day, from_ns: int | None, to_ns: int | None) -> None:
    """Keep of a day what was admitted in a stretch of time, and remember what came before."""
    first_ns = 0 if from_ns is None else from_ns - day.started_wall_ns
    last_ns = NEVER_NS if to_ns is None else to_ns - day.started_wall_ns
    earlier = [entry for entry in day.entries if entry.at_ns < first_ns]
    day.from_ns = max(0, first_ns)
    day.before = [entry.stored for entry in earlier if entry.level]
    later = [entry for entry in day.entries if entry.at_ns >= last_ns]
    aside = [record for record in day.records if not first_ns <= record.at_ns < last_ns]
    day.records = [record for record in day.records if first_ns <= record.at_ns < last_ns]
    day.beyond |= {entry.event.event_id for entry in (*earlier, *later, *aside)}
    day.entries = day.entries[len(earlier) : len(day.entries) - len(later)]
    if not day.entries:
        raise RecordTooThin(
            f"{day.path} has no events in that time: leave --from and --to out to see its day"
        )
    for round_id, known in list(day.rounds.items()):
        kept = [one for one in known if one.at_ns < last_ns and one.ends_ns >= first_ns]
        day.rounds[round_id] = kept
    for name, steps in day.steps.items():
        day.steps[name] = [step for step in steps if step.event_id not in day.beyond]
    day.index()
    _mark_votes(day)


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
