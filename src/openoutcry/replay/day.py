"""A recorded day as a replay needs it: what was admitted when, and what is to come of whom.

A day is one life of a journal, from a start of its bus to the stop or the end of its process.
"""

import re
from bisect import bisect_right
from collections import Counter
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
from openoutcry.journals import MemoryJournal
from openoutcry.journals.reading import JournalReader
from openoutcry.journals.recording import RecordedEntry, RecordedRun, Recording, TapeGap
from openoutcry.journals.showing import time_of
from openoutcry.journals.tape import RecordedCall
from openoutcry.ports import Level, Stored
from openoutcry.replay.earlier import earlier_of
from openoutcry.replay.lives import Beginnings, Life, Lives, beginnings_of, journal_of
from openoutcry.replay.taking import Step
from openoutcry.runtime.api.answers import Question
from openoutcry.runtime.delivery.call_guard import ABANDON_S
from openoutcry.units import NS_PER_S

PAGE: Final = 4_096
NEVER_NS: Final = 2**63 - 1
SLACK_S: Final = 1.0
"""By so much more than `cursor_save_s` the tape may be behind when a process dies."""
OTHER_TIMES_NS: Final = 60 * NS_PER_S
"""Where every event is as far as that from when it was admitted, a day had times of its own."""
_TIMED_OUT: Final = ("CancelledError", "TimeoutError")
_DERIVED: Final = re.compile(r"[0-9a-f]{26}-[0-9a-f]+")


class NothingThen(RecordTooThin):
    """A life has no events in the time that was asked for."""


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

    def has_abstained(self, agent: str) -> bool:
        """Whether an agent had answered it without an opinion, in time or too late."""
        late = any(one.agent == agent and one.signal_id is None for one in self.late)
        return late or (self.released is not None and agent in self.released.abstained_ns)

    def late_signal(self, signal_id: str) -> RoundLate | None:
        """Return the record of a signal that came too late; None for any other."""
        return next((one for one in self.late if one.signal_id == signal_id), None)


@dataclass(slots=True, eq=False)
class Day:
    """One life of a journal: a run of a bus, as it was recorded.

    Attributes:
        path: The journal.
        key: Its key.
        manifest: How it was started.
        started_wall_ns: When it was started, in nanoseconds since 1970.
        life: What life it is, and what it began with.
        begins: The same as it is written into the journal of a replay.
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
        cut_rounds: The rounds that these, and those that did not end, were about, as (subscription, round).
        refused: The ids of publications for which there was no room.
        not_known: How often a call asked for a round that was not known, by (subscription, round).
        halts_seen: Which kill switches a call was told of when it asked, where that was new.
        settled_ns: When the last call for each event had ended, by id.
        beyond: The ids of events that are not replayed, as they came after what is.
        owed_ids: The ids of events of earlier lives that were handed out in this one.
        again: The events of dead letters that were handed out again, by id.
        gap: What of the tape is missing, in words: the day is replayed up to there. Empty if nothing is.
        gap_is_end: Whether that is the end alone, and no more than the death of a process costs.
        skipped_count: How many events are not replayed for that.
        from_ns: What comes before is replayed, and not compared: an instant from the start of the run.

    """

    path: Path
    key: bytes | None
    manifest: RunStarted
    started_wall_ns: int
    life: Life
    begins: Beginnings
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
    not_known: Counter[tuple[str, str]] = field(default_factory=Counter)
    halts_seen: dict[tuple[str, str, str, int], tuple[str, ...]] = field(default_factory=dict)
    settled_ns: dict[str, int] = field(default_factory=dict)
    beyond: set[str] = field(default_factory=set)
    owed_ids: set[str] = field(default_factory=set)
    again: dict[str, Any] = field(default_factory=dict)
    gap: str = ""
    gap_is_end: bool = False
    skipped_count: int = 0
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
    def ended(self) -> str:
        """How it ended: `stopped`, `died`, or `open`: nothing followed, so it died or goes on."""
        if self.life.run.has_ended or not self.is_taped:
            return "stopped"
        return "died" if self.life.number < self.life.count else "open"

    @property
    def compared(self) -> list[Entry]:
        """The events that are compared."""
        return [entry for entry in self.entries if entry.at_ns >= self.from_ns]

    def journal(self) -> MemoryJournal:
        """Return a journal in which a bus finds what this life began with."""
        journal = journal_of(self.path, self.key, self.life.base, self.origin)
        journal.write([], self.begins.changes())
        return journal

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
    path: Path,
    key: bytes | None = None,
    *,
    number: int = 1,
    from_ns: int | None = None,
    to_ns: int | None = None,
) -> Day:
    """Read the first life of a journal, or another one, as `read_life` does."""
    return read_life(Lives(path, key), number, from_ns=from_ns, to_ns=to_ns)


def read_life(lives: Lives, number: int, *, from_ns: int | None = None, to_ns: int | None = None) -> Day:
    """Read a life of a journal, up to `to_ns`; what was admitted before `from_ns` is not compared.

    The classes of its events must have been imported. Raises `RecordTooThin` for one of which nothing can be
    replayed, and what reading it raises.
    """
    with JournalReader(lives.path, key=lives.key) as reader:
        life = lives.life(number, reader)
        day = _day_of(lives, life)
        _check_remembers(day, reader)
        if day.is_taped:
            _read_tape(day, reader)
        else:
            _check_causes(day)
    _cut(day, from_ns, to_ns)
    return day


def _check_remembers(day: Day, reader: JournalReader) -> None:
    """Raise if what a memory is rebuilt from is not in the journal any more."""
    first = reader.first
    for name, memory in day.begins.memories.items():
        floor = min((floor for floor, _ in memory.base.lanes.values()), default=0)
        if memory.base.is_needed and floor < first - 1:
            raise RecordTooThin(
                f"{day.path}: {name} remembered what came from position {floor + 1} on, and the journal "
                f"begins at {first}: the rest was retired; keep it longer (retain_s)"
            )


def _day_of(lives: Lives, life: Life) -> Day:
    run, path = life.run, lives.path
    started_ns = run.manifest.timestamp_ns
    day = Day(path, lives.key, run.manifest, started_ns, life, beginnings_of(life), run.is_taped)
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


def _end_at_gap(day: Day, gap: TapeGap) -> None:
    """Leave out what comes after the first gap of the tape, and note what that is."""
    run = day.life.run
    places = {entry.position for entry in day.entries}
    untimed = (one.position for one in run.entries(run.started_at) if one.at_ns is None)
    first = min(gap.first, next((place for place in untimed if place in places), gap.first))
    lost = [entry for entry in day.entries if entry.position >= first]
    day.skipped_count = len(lost)
    if len(lost) == len(day.entries) and lost:
        raise RecordTooThin(f"{day.path}: {gap.why}; nothing of the {len(lost):,} events is on the tape")
    aside = [record for record in day.records if record.position >= first]
    day.beyond |= {entry.event.event_id for entry in (*lost, *aside)}
    day.entries = [entry for entry in day.entries if entry.position < first]
    day.records = [record for record in day.records if record.position < first]
    day.index()
    last_ns = max((entry.stored.wall_ns for entry in lost), default=0) - day.started_wall_ns
    save_s = (day.settings.get("persistence") or {}).get("cursor_save_s", 1.0)
    is_last = len(run.gaps) == 1 and not run.has_ended
    day.gap_is_end = is_last and last_ns - gap.after_ns <= (save_s + SLACK_S) * NS_PER_S
    why = "the process died" if is_last and day.ended == "died" else gap.why
    since = time_of(day.started_wall_ns + gap.after_ns)
    day.gap = f"{why}: the tape goes up to {since}, and {day.skipped_count:,} events after that are skipped"


def _read_tape(day: Day, reader: JournalReader) -> None:
    """Note what was taken, as far as the tape goes without a gap."""
    run = day.life.run
    if run.gaps:
        _end_at_gap(day, run.gaps[0])
    ids = {entry.position: entry.event.event_id for entry in (*day.entries, *day.records)}
    calls = run.calls()
    earlier = earlier_of(day.life, calls, set(ids.values()), reader)
    ids.update(earlier.ids)
    buried, day.again = set(earlier.letters), dict(earlier.again)
    day.owed_ids = {*earlier.ids.values(), *earlier.again}
    day.begins = day.begins._replace(owed=earlier.owed)
    known = {*ids.values(), *day.owed_ids}
    durable = sorted(entry.position for entry in day.entries if entry.level)
    for call in calls:
        taken = [ids.get(place) if isinstance(place, int) else place for place in call.places]
        is_redriven = call.attempt == 1 and (call.subscription, taken[0] or "") in buried
        if is_redriven and taken[0] in day.by_id:
            day.again[taken[0]] = day.by_id[taken[0]].event
        if call.end == "buried":
            buried.add((call.subscription, taken[-1] or ""))
        cut_ns = _cut_ns(call)
        _note_end(day, call, taken[-1] or "", is_cut=cut_ns is not None)
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
                        is_redriven and not number,
                    )
                )
    day.refused = {one.event_id for one in run.made.values() if one.was_refused}
    day.not_known = run.rounds_not_known
    day.halts_seen = run.halts_seen


def _note_end(day: Day, call: RecordedCall, event_id: str, *, is_cut: bool) -> None:
    """Note how the call for an event ended, if not as it should."""
    if call.end in ("failed", "buried"):
        day.failed.add((call.subscription, event_id))
    elif call.end != "handled":
        day.unended.add((call.subscription, event_id))
    if is_cut:
        day.cut.add((call.subscription, event_id))
    if is_cut or (call.subscription, event_id) in day.unended:
        cause = day.by_id.get(event_id)
        round_id = None if cause is None else getattr(cause.event, "round_id", None)
        day.cut_rounds.add((call.subscription, round_id or ""))


def _cut_ns(call: RecordedCall) -> int | None:
    """Return when a call was ended from outside, as a time-out does; None for one that ended by itself."""
    has_failed = call.end in ("failed", "buried")
    if has_failed and not call.error and call.ended_ns is not None:  # it went on, and was abandoned
        return call.ended_ns - round(ABANDON_S * NS_PER_S)
    is_cut = call.end == "superseded" or (has_failed and call.error in _TIMED_OUT)
    return call.ended_ns if is_cut else None


def _cut(day: Day, from_ns: int | None, to_ns: int | None) -> None:
    """Leave out what was admitted from an instant on, and note from when on the rest is compared."""
    day.from_ns = 0 if from_ns is None else max(0, from_ns - day.started_wall_ns)
    last_ns = NEVER_NS if to_ns is None else to_ns - day.started_wall_ns
    later = [entry for entry in day.entries if entry.at_ns >= last_ns]
    aside = [record for record in day.records if record.at_ns >= last_ns]
    day.records = [record for record in day.records if record.at_ns < last_ns]
    day.beyond |= {entry.event.event_id for entry in (*later, *aside)}
    day.entries = day.entries[: len(day.entries) - len(later)]
    if (from_ns is not None or to_ns is not None) and not day.compared:
        raise NothingThen(f"{day.path} has no events in that time: leave --from and --to out to see its day")
    for round_id, known in list(day.rounds.items()):
        day.rounds[round_id] = [one for one in known if one.at_ns < last_ns]
    for name, steps in day.steps.items():
        day.steps[name] = [step for step in steps if step.event_id not in day.beyond]
    day.index()
    _mark_votes(day)


def _note_round(rounds: dict[str, list[PastRound]], event: Any, started_ns: int) -> None:
    if isinstance(event, RoundLate):
        if event.round_id in rounds:
            rounds[event.round_id][-1].late.append(event)
        return
    if not isinstance(event, RoundOpened | RoundReleased):
        return
    round_id = event.round_id or ""
    known = rounds.setdefault(round_id, [])
    opened = known[-1] if known and known[-1].terms.ordinal == event.ordinal else None
    if opened is None:
        wall_ns = event.opened_wall_ns if isinstance(event, RoundReleased) else event.timestamp_ns
        if wall_ns < started_ns - NS_PER_S:
            return  # it is of the life before, and was written only now
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
