"""Rounds as the journal has recorded them: who voted what and when, who was missing, late or stood in for.

Records are looked for from the end backwards, page by page, and no further than the rounds that are asked for
reach: the signals of a round stand between its opening and its release.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import msgspec

from openoutcry.core.outcome import Status
from openoutcry.errors import ConfigError
from openoutcry.events import (
    RoundLate,
    RoundOpened,
    RoundReleased,
    RunStarted,
    StoodIn,
    Vote,
    decode,
    timestamp_ns,
)
from openoutcry.events.records import is_record
from openoutcry.journals.engines import EngineName
from openoutcry.journals.glance import glance
from openoutcry.journals.reading import JournalReader
from openoutcry.journals.round_words import sentences
from openoutcry.ports import Stored
from openoutcry.units import NS_PER_S

PAGE: Final = 1_024
OPEN: Final = "open"
"""The status of a round that the process which has the journal has not ended."""
DIED: Final = "died"
"""The status of a round that was not ended when its process died."""
STATUSES: Final = (*(status.value for status in Status), OPEN, DIED)
CLOCK_SLACK_NS: Final = 3_600 * NS_PER_S
"""So far a wall clock may have been set back without a round being passed over for its time."""
NEVER_NS: Final = 2**63 - 1
SIGNALS_MOST: Final = 65_536
"""So many signals are kept of rounds of which no release was found yet."""
_NO_ROUND: Final = b'"round_id":null'


class RecordedVote(msgspec.Struct, frozen=True, kw_only=True):
    """A signal of a round. What it said is known where the signal is in the journal."""

    signal_id: str | None
    """Its id; None for a late abstention."""
    symbol: str | None = None
    """The instrument that it is about."""
    after_ns: int
    """From the opening of the round to its arrival; of an open round, to its admission by the wall clock."""
    direction: str | None = None
    """What it said: `long`, `short`, and so on; None if that is not known."""
    strength: float | None = None
    """How strong it was, from -1 to 1; None likewise."""
    confidence: float | None = None
    """How sure its agent was, from 0 to 1; None likewise."""
    reason: str | None = None
    """The reason of a late abstention."""


class RoundCell(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one agent of a round's roster."""

    agent: str
    """Its name."""
    how: str
    """`voted`, `abstained`, `late`, `stood in` (an earlier signal was shown for it) or `missing`. Who had
    abstained in a round without a release is not known: it is missing there."""
    is_critical: bool
    """Whether the outcome is not valid without its answer."""
    votes: tuple[RecordedVote, ...] = ()
    """Its signals, in order of arrival."""
    reason: str | None = None
    """Why it abstained."""
    abstained_ns: int | None = None
    """When it abstained first, from the opening; None if it did not, or if that was not recorded."""
    late: tuple[RecordedVote, ...] = ()
    """Its answers that came after the release, in order of arrival."""
    late_ns: int | None = None
    """By how much the first of these was late."""
    heartbeat_ns: int | None = None
    """Its last sign of life, from the opening; None if there was none."""
    stood_in: tuple[StoodIn, ...] = ()
    """The earlier signals that were shown for it."""


class RecordedRound(msgspec.Struct, frozen=True, kw_only=True):
    """A round as the journal has it."""

    round_id: str
    """Its id."""
    ordinal: int
    """The how manieth use of that id it is, in this journal."""
    opened_wall_ns: int
    """When it was opened, in nanoseconds since 1970 UTC."""
    opened_by: str
    """The subscription whose handler has opened it; empty for a main program."""
    symbol: str | None
    """The symbol that it is about, if there is one."""
    status: str
    """`complete`, `quorate`, `expired`, `empty`, `open` or `died` (not ended when its process died)."""
    valid: bool | None
    """Whether a decision may be based on it; None without an outcome."""
    reason: str
    """Why it was released, or that it was not."""
    took_ns: int | None
    """From the opening to the release; None without one."""
    noticed_ns: int | None
    """From the opening to when the release was noticed; later than `took_ns` if the loop was busy."""
    quorum_count: int
    """How many answers sufficed once `signal_timeout_ns` had passed."""
    signal_timeout_ns: int
    """How long it held out for everybody."""
    barrier_timeout_ns: int
    """When it was to be released whatever it had."""
    cells: tuple[RoundCell, ...]
    """One for each agent of the roster, by name."""
    strangers: tuple[str, ...] = ()
    """Agents that are not on the roster and gave signals."""

    def cell(self, agent: str) -> RoundCell | None:
        """Return what became of an agent; None if it was not expected."""
        return next((cell for cell in self.cells if cell.agent == agent), None)

    def explain(self) -> str:
        """Explain in one paragraph how it ended and why, as `RoundOutcome.explain` does."""
        return " ".join(sentences(self))

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON-ready data, with the explanation in words."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        for cell in plain["cells"]:
            cell["stood_in"] = [
                dict(zip(StoodIn.__struct_fields__, one, strict=True)) for one in cell["stood_in"]
            ]
        return {**plain, "explanation": self.explain()}


def recorded_rounds(
    path: str | Path,
    *,
    since: Any = None,
    until: Any = None,
    agent: str | None = None,
    status: str | None = None,
    symbol: str | None = None,
    round_id: str | None = None,
    limit: int = 100,
    key: bytes | None = None,
    engine: EngineName = "auto",
) -> list[RecordedRound]:
    """Return the rounds that a journal has recorded, the newest first. Nothing is written, and nobody waits.

    A journal without records, such as one that was written with `record="off"`, has no rounds.

    Args:
        path: The journal's file, whether a bus writes to it or not.
        since: Opened at this time or later: a datetime with a zone, ISO text, or nanoseconds since 1970.
        until: Opened before this time.
        agent: With this agent on the roster.
        status: With this status, as in `RecordedRound`.
        symbol: About this symbol, or with a vote on it.
        round_id: With this id.
        limit: At most so many.
        key: The key of a sealed journal; without it nothing is held against the seals.
        engine: As in `PersistenceConfig`.

    Raises:
        ConfigError: An argument is out of range.
        InvalidEvent: A time is none.
        JournalError: The file cannot be read, in one of the ways that the subclasses name.
        NewerSchemaVersion: A newer version of openoutcry has written a record.

    """
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
        raise ConfigError(f"limit is {limit!r}; it must be a whole number of at least 1")
    if status is not None and status not in STATUSES:
        raise ConfigError(f"status is {status!r}; it must be one of {', '.join(STATUSES)}")
    wanted = _Wanted(
        since_ns=_point(since),
        until_ns=_point(until),
        agent=agent,
        status=status,
        symbol=symbol,
        round_id=round_id,
    )
    with closing(JournalReader(path, key=key, engine=engine)) as reader:
        return _searched(reader, _Search(wanted, limit, is_written=is_written(reader, engine))).rounds


class RoundsPage(msgspec.Struct, frozen=True):
    """What a piece of a search for rounds has found."""

    rounds: list[RecordedRound]
    """The rounds, the newest first."""
    places: list[int]
    """The position at which each of them was released; if it was not, opened."""
    next: int | None
    """Search on with `before` = this; None: there are no more."""
    scanned: int
    """How many entries were looked at."""


def rounds_before(
    reader: JournalReader,
    before: int | None = None,
    *,
    agent: str | None = None,
    status: str | None = None,
    symbol: str | None = None,
    round_id: str | None = None,
    since_ns: int | None = None,
    until_ns: int | None = None,
    limit: int = 100,
    is_late: Callable[[], bool] = lambda: False,
) -> RoundsPage:
    """Return the next older rounds, as `recorded_rounds` does, that were released before a position.

    It ends with what it has when `is_late` returns True, which it asks after every page of the journal.
    Answers that came more than a page after such a position are not seen.
    """
    if status is not None and status not in STATUSES:
        raise ConfigError(f"status is {status!r}; it must be one of {', '.join(STATUSES)}")
    wanted = _Wanted(
        since_ns=since_ns, until_ns=until_ns, agent=agent, status=status, symbol=symbol, round_id=round_id
    )
    search = _Search(wanted, limit, is_written=is_written(reader, "auto"), before=before)
    return _searched(reader, search, None if before is None else before + PAGE, is_late)


def rounds_in(entries: Iterable[Stored], *, is_written: bool) -> list[RecordedRound]:
    """Return the rounds that some entries tell of, which come newest first; so do the rounds.

    Of a round there must be its records, its signals, and the starts of buses since. `is_written`: a process
    has the journal, so that a round without an end may still be open.
    """
    anything = _Wanted(since_ns=None, until_ns=None, agent=None, status=None, symbol=None, round_id=None)
    search = _Search(anything, SIGNALS_MOST, is_written=is_written)
    for entry in entries:
        search.look_at(entry)
    return search.page(None, 0).rounds


def is_written(reader: JournalReader, engine: EngineName) -> bool:
    """Return True if a process has the journal for writing now."""
    look = glance(reader.path, engine)
    if look is None:
        return False
    with look:
        return look.is_written


def _searched(
    reader: JournalReader,
    search: "_Search",
    last: int | None = None,
    is_late: Callable[[], bool] = lambda: False,
) -> RoundsPage:
    """Look at the entries up to a position, page by page, and return what was found."""
    scanned = 0
    for page in _newest_first(reader, last):
        for entry in reversed(page):
            search.look_at(entry)
        scanned += len(page)
        at = page[0].position
        if search.is_over(page[0].wall_ns):
            return search.page(search.lowest if search.is_full else None, scanned)
        if search.is_below(at) and is_late():
            return search.page_so_far(at, scanned)
    return search.page(None, scanned)


def _point(given: Any) -> int | None:
    if given is None or (isinstance(given, int) and not isinstance(given, bool)):
        return given
    return timestamp_ns(given)


def _newest_first(reader: JournalReader, last: int | None = None) -> Iterator[list[Stored]]:
    """Yield the entries up to a position in pages, the newest first, each in order; none of them empty."""
    last = reader.head if last is None else min(last, reader.head)
    while last >= (first := reader.first):
        after = max(first - 1, last - PAGE)
        page = [entry for entry in reader.read(after, last - after) if entry.position <= last]
        if page:
            yield page
        last = after


class _Said(msgspec.Struct, gc=False):
    """What is read of a signal, of whatever class."""

    event_id: str = ""
    event_type: Any = None
    source_agent: Any = ""
    strategy_name: Any = ""
    symbol: Any = None
    round_id: Any = None
    direction: Any = None
    strength: Any = None
    confidence: Any = None


_read_said = msgspec.json.Decoder(_Said).decode


class _Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which rounds are asked for."""

    since_ns: int | None
    until_ns: int | None
    agent: str | None
    status: str | None
    symbol: str | None
    round_id: str | None

    def takes(self, found: "RoundOpened | RoundReleased", status: str, opened_ns: int) -> bool:
        """Return True for a round that is asked for, as far as its symbol is left out."""
        return (
            (self.since_ns is None or opened_ns >= self.since_ns)
            and (self.until_ns is None or opened_ns < self.until_ns)
            and (self.agent is None or self.agent in found.roster)
            and (self.status is None or self.status == status)
            and (self.round_id is None or self.round_id == found.round_id)
        )


class _Draft:
    """A round while the journal is read."""

    def __init__(
        self,
        found: RoundOpened | RoundReleased,
        status: str,
        opened_ns: int,
        late: list[RoundLate],
        position: int,
    ) -> None:
        self.found = found
        self.position = position
        self.status = status
        self.opened_ns = opened_ns
        self.late = late
        self.signals: dict[str, tuple[_Said, int]] = {}

    @property
    def begins_ns(self) -> int:
        """Nothing that belongs to it was admitted before this instant: answers may come a little early."""
        return self.opened_ns - self.found.signal_timeout_ns


class _Search:
    """Collects rounds while the journal is read backwards."""

    def __init__(self, wanted: _Wanted, limit: int, *, is_written: bool, before: int | None = None) -> None:
        self._wanted = wanted
        self._before = before
        self._at = 0
        self._limit = limit
        self._is_of_this_life = is_written
        self._later_run_ns = NEVER_NS
        self._drafts: list[_Draft] = []
        self._late: dict[tuple[str | None, int], list[RoundLate]] = {}
        self._released: set[tuple[str | None, int]] = set()
        self._ids_released: set[str | None] = set()
        self._missed: dict[str, _Draft] = {}
        self._unended: dict[str, list[tuple[_Said, int]]] = {}
        self._unended_count = 0
        self._open: dict[str, _Draft] = {}

    def look_at(self, entry: Stored) -> None:
        """Take in the next older entry."""
        payload = entry.payload
        self._at = entry.position
        if is_record(payload):
            self._look_at_record(decode(payload))
        elif _NO_ROUND not in payload:
            self._look_at_signal(entry)

    def is_over(self, wall_ns: int) -> bool:
        """Return True if nothing older than what was admitted at this instant is asked for."""
        since_ns = self._wanted.since_ns
        if since_ns is not None and wall_ns < since_ns - CLOCK_SLACK_NS:
            return True
        if not self.is_full:
            return False
        is_whole = not (self._missed or self._open)
        return is_whole or wall_ns < min(draft.begins_ns for draft in self._drafts) - NS_PER_S

    # -- records ------------------------------------------------------------------------------------

    def _look_at_record(self, record: Any) -> None:
        if isinstance(record, RoundReleased):
            self._look_at_released(record)
        elif isinstance(record, RoundLate):
            self._late.setdefault((record.round_id, record.ordinal), []).append(record)
        elif isinstance(record, RoundOpened):
            self._look_at_opened(record)
        elif isinstance(record, RunStarted):
            self._look_at_start(record)

    def _look_at_start(self, record: RunStarted) -> None:
        """What is older belongs to earlier runs, whose rounds have nothing to do with those of this one."""
        self._is_of_this_life = False
        self._later_run_ns = record.timestamp_ns
        self._ids_released.clear()
        self._unended.clear()
        self._unended_count = 0

    def _look_at_released(self, record: RoundReleased) -> None:
        key = record.round_id, record.ordinal
        self._released.add(key)
        late = self._late.pop(key, [])
        after = self._unended.pop(record.round_id or "", [])
        self._unended_count -= len(after)
        self._ids_released.add(record.round_id)
        self._open.pop(record.round_id or "", None)
        if self._takes(record, record.status, record.opened_wall_ns):
            draft = _Draft(record, record.status, record.opened_wall_ns, late, self._at)
            self._drafts.append(draft)
            for vote in record.votes:
                self._missed[vote.signal_id] = draft
            late_ids = {answer.signal_id for answer in late}
            draft.signals = {one[0].event_id: one for one in after if one[0].event_id in late_ids}
            self._missed.update({name: draft for name in late_ids - draft.signals.keys() if name is not None})

    def _look_at_opened(self, record: RoundOpened) -> None:
        round_id = record.round_id or ""
        self._ids_released.discard(round_id)
        self._open.pop(round_id, None)
        signals = self._unended.pop(round_id, [])
        self._unended_count -= len(signals)
        if (record.round_id, record.ordinal) in self._released:
            return
        status = OPEN if self._is_of_this_life else DIED
        if self._takes(record, status, record.timestamp_ns):
            draft = _Draft(record, status, record.timestamp_ns, [], self._at)
            draft.signals = {said.event_id: (said, wall_ns) for said, wall_ns in reversed(signals)}
            self._drafts.append(draft)
            self._open[round_id] = draft  # the signals of its own commit stand before it

    def _takes(self, record: RoundOpened | RoundReleased, status: str, opened_ns: int) -> bool:
        if self.is_full or not self._wanted.takes(record, status, opened_ns):
            return False
        if not self.is_below(self._at):
            return False
        symbol = self._wanted.symbol
        if symbol is None or symbol == record.symbol:
            return True
        if isinstance(record, RoundReleased):
            return any(vote.symbol == symbol for vote in record.votes)
        return any(said.symbol == symbol for said, _ in self._unended.get(record.round_id or "", ()))

    # -- signals ------------------------------------------------------------------------------------

    def _look_at_signal(self, entry: Stored) -> None:
        try:
            said = _read_said(entry.payload)
        except (msgspec.MsgspecError, UnicodeError):  # an event of a user's, whatever it is
            return
        draft = self._missed.pop(said.event_id, None)
        if draft is not None:
            draft.signals[said.event_id] = said, entry.wall_ns
            return
        round_id = said.round_id if entry.header is None else entry.header.round_id or said.round_id
        if not isinstance(round_id, str) or round_id in self._ids_released:
            return
        if said.direction is None and said.event_type != "signal":
            return
        if entry.wall_ns >= self._later_run_ns:  # of the commit with which the start was written
            return
        if round_id in self._open:
            signals = self._open[round_id].signals
            self._open[round_id].signals = {said.event_id: (said, entry.wall_ns), **signals}
        elif self._unended_count < SIGNALS_MOST:
            self._unended.setdefault(round_id, []).append((said, entry.wall_ns))
            self._unended_count += 1

    # -- the rounds ---------------------------------------------------------------------------------

    @property
    def is_full(self) -> bool:
        """Whether as many rounds as were asked for have begun to be collected."""
        return len(self._drafts) >= self._limit

    def is_below(self, position: int) -> bool:
        """Return True for a position among those whose rounds are asked for."""
        return self._before is None or position < self._before

    @property
    def lowest(self) -> int | None:
        """The position of the oldest round that was found."""
        return self._drafts[-1].position if self._drafts else None

    def page(self, following: int | None, scanned: int) -> RoundsPage:
        """Return the rounds that were found, and where to search on."""
        places = [draft.position for draft in self._drafts]
        return RoundsPage([_round_of(draft) for draft in self._drafts], places, following, scanned)

    def page_so_far(self, at: int, scanned: int) -> RoundsPage:
        """Return the rounds whose signals were found as well; if none is so whole, the newest as it is."""
        torn = {id(draft) for draft in (*self._missed.values(), *self._open.values())}
        are_torn = [id(draft) in torn for draft in self._drafts]
        if True not in are_torn:
            return self.page(at, scanned)
        del self._drafts[max(1, are_torn.index(True)) :]
        return self.page(self.lowest, scanned)


def _round_of(draft: _Draft) -> RecordedRound:
    found, ended = draft.found, draft.found if isinstance(draft.found, RoundReleased) else None
    reasons = {OPEN: "not ended yet", DIED: "not ended when the process died"}
    return RecordedRound(
        round_id=found.round_id or "",
        ordinal=found.ordinal,
        opened_wall_ns=draft.opened_ns,
        opened_by=found.opened_by,
        symbol=found.symbol,
        status=draft.status,
        valid=None if ended is None else ended.valid,
        reason=reasons[draft.status] if ended is None else ended.reason,
        took_ns=None if ended is None else ended.took_ns,
        noticed_ns=None if ended is None else ended.noticed_ns,
        quorum_count=found.quorum_count,
        signal_timeout_ns=found.signal_timeout_ns,
        barrier_timeout_ns=found.barrier_timeout_ns,
        cells=_cells_of_open(draft) if ended is None else _cells_of_released(draft, ended),
        strangers=() if ended is None else tuple(sorted(ended.strangers)),
    )


def _cells_of_released(draft: _Draft, ended: RoundReleased) -> tuple[RoundCell, ...]:
    votes: dict[str, list[RecordedVote]] = {}
    for vote in ended.votes:
        votes.setdefault(vote.agent, []).append(_vote(vote, draft))
    late: dict[str, list[RoundLate]] = {}
    for answer in reversed(draft.late):
        late.setdefault(answer.agent, []).append(answer)
    return tuple(
        RoundCell(
            agent=agent,
            how=_how(agent, ended, votes, late),
            is_critical=agent in ended.critical,
            votes=tuple(votes.get(agent, ())),
            reason=ended.abstained.get(agent),
            abstained_ns=ended.abstained_ns.get(agent),
            late=tuple(_late_vote(one, draft, ended.took_ns) for one in late.get(agent, ())),
            late_ns=late[agent][0].late_ns if agent in late else None,
            heartbeat_ns=ended.heartbeats.get(agent),
            stood_in=tuple(one for one in ended.stand_ins if one.agent == agent),
        )
        for agent in ended.roster
    )


def _how(
    agent: str, ended: RoundReleased, votes: dict[str, list[RecordedVote]], late: dict[str, list[RoundLate]]
) -> str:
    if agent in votes:
        return "voted"
    if agent in ended.abstained:
        return "abstained"
    if agent in late:
        return "late"
    return "stood in" if any(one.agent == agent for one in ended.stand_ins) else "missing"


def _cells_of_open(draft: _Draft) -> tuple[RoundCell, ...]:
    roster = frozenset(draft.found.roster)
    votes: dict[str, list[RecordedVote]] = {}
    for said, wall_ns in draft.signals.values():
        agent = said.source_agent if said.source_agent in roster else said.strategy_name
        vote = Vote(agent, _text(said.symbol) or "", said.event_id, max(0, wall_ns - draft.opened_ns))
        votes.setdefault(agent, []).append(_vote(vote, draft))
    return tuple(
        RoundCell(
            agent=agent,
            how="voted" if agent in votes else "missing",
            is_critical=agent in draft.found.critical,
            votes=tuple(votes.get(agent, ())),
        )
        for agent in draft.found.roster
    )


def _vote(vote: Vote, draft: _Draft) -> RecordedVote:
    return RecordedVote(
        signal_id=vote.signal_id,
        symbol=vote.symbol,
        after_ns=vote.after_ns,
        **_opinion(vote.signal_id, draft),
    )


def _late_vote(answer: RoundLate, draft: _Draft, took_ns: int) -> RecordedVote:
    return RecordedVote(
        signal_id=answer.signal_id,
        symbol=answer.symbol,
        after_ns=took_ns + answer.late_ns,
        reason=answer.reason,
        **_opinion(answer.signal_id or "", draft),
    )


def _opinion(signal_id: str, draft: _Draft) -> dict[str, Any]:
    """Return what a signal said, if it is in the journal."""
    known = draft.signals.get(signal_id)
    if known is None:
        return {}
    said = known[0]
    return {
        "direction": _text(said.direction),
        "strength": _number(said.strength),
        "confidence": _number(said.confidence),
    }


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
