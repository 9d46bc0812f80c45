"""The recorder: what becomes of rounds, runs, questions and operators' verbs, as events for the journal.

```
  rounds, control ──▶ note ──▶ (waits, at most `RECORDS_MOST`) ──▶ take, when they are due ──▶ the journal
                                                                └── refused: back to the front
```

Nobody waits for a record. They are collected, and made and written many at a time, which costs the least. A
round that is released before its opening was written has one record, which says both. A record that cannot be
made is logged and left out: no round fares otherwise for that.
"""

import logging
import os
import platform
import socket
import sqlite3
import sys
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from functools import partial
from hashlib import blake2b
from typing import Any, Final, NamedTuple

import msgspec

from openoutcry.config import BusConfig, to_plain
from openoutcry.core.barrier import Round
from openoutcry.core.halts import NAMED_MOST, Halt
from openoutcry.core.outcome import LATE_MAX, RoundOutcome
from openoutcry.errors import JournalError
from openoutcry.events import (
    Event,
    RoundLate,
    RoundOpened,
    RunStarted,
)
from openoutcry.events.records import encode_record, encode_released
from openoutcry.ports import FileJournal, Journal
from openoutcry.runtime.delivery.causation import current
from openoutcry.version import __version__

log = logging.getLogger("openoutcry")

RECORDS_MOST: Final = 16_384
"""How many records may wait for a commit; the oldest go beyond that, which is logged."""
DUE_COUNT: Final = 64
"""So many records are not left waiting: they go with the next commit."""
TAKEN_MOST: Final = 512
"""How many records go with one commit, unless everything is to be on the disk."""
USED_AGAIN_MOST: Final = 65_536
"""Of how many rounds it is remembered that their ids were used before."""

running_app: ContextVar[str] = ContextVar("running_app", default="")
"""What `openoutcry run` was given, as `module:app`."""
running_broker: ContextVar[str] = ContextVar("running_broker", default="")
"""The venue of a backtest, likewise."""

_TOO_MANY: Final = "%d records wait for the journal, and the oldest are left out"


class Record(NamedTuple):
    """A record, ready to be written: its id and its JSON."""

    event_id: str
    payload: bytes


class Taken(NamedTuple):
    """The records that one commit takes along, while they are made."""

    journal: Journal
    apart: bool
    records: list[Record]
    ids: set[str]

    def add(self, event: Event) -> None:
        """Add a record."""
        self.add_json(event.event_id, encode_record(event))

    def add_json(self, event_id: str, data: bytes) -> None:
        """Add a record that was written as JSON."""
        self.records.append(Record(event_id, data))
        self.ids.add(event_id)


Make = Callable[[Taken], None]
Noted = RoundOutcome | Make
"""What waits: a round that was released, or what makes another record."""


class Opening(NamedTuple):
    """By whom a round was opened, and for which event."""

    subscription: str = ""
    event_id: str | None = None
    correlation_id: str | None = None
    symbol: str | None = None


class RoundOpening(NamedTuple):
    """A round that was opened, by whom, and whether its id was made for it."""

    round: Round
    opening: Opening
    has_fresh_id: bool


_FROM_MAIN: Final = Opening()


class Recorder:
    """Collects records until a commit takes them along. It is the `RoundLog` of a bus.

    Attributes:
        has_any: Whether records wait for a commit, or a round is open of which there will be one.
        released: Called with the outcome of a round that was opened before. It stands on the way of the
            signal that completes a round, so it does no more than keep it.
        left_out: How many records could not be written.

    """

    def __init__(self, config: BusConfig, seed: int | None = None) -> None:
        self._config = config
        self._seed = seed
        self._answers_on = ""
        self._answers_count = 0
        self._app, self._broker = running_app.get(), running_broker.get()
        self._waiting: deque[Noted] = deque()
        self._given_back: list[Record] = []
        self._wake: Callable[[bool], None] | None = None
        self._is_urgent = False
        self._unsaid: dict[str, RoundOpening] = {}
        self._said: dict[str, RoundOpening] = {}
        self._ordinals: dict[str, int] = {}
        self.has_any: bool = False
        self.released: Callable[[RoundOutcome], None] = self._waiting.append
        self.left_out: int = 0

    # -- what is noted ------------------------------------------------------------------------------

    def opened(self, opened: Round, *, has_fresh_id: bool) -> None:
        """A round was opened, by the call in which this is called."""
        round_id, unsaid = opened.round_id, self._unsaid
        if not has_fresh_id and (round_id in unsaid or round_id in self._said):
            self._tell_apart(round_id)
        if len(unsaid) == RECORDS_MOST:
            oldest = next(iter(unsaid))
            self._said[oldest] = unsaid.pop(oldest)
            self._leave_out(_TOO_MANY, RECORDS_MOST)
        unsaid[round_id] = RoundOpening(opened, _opening(), has_fresh_id)
        if not self.has_any or len(self._waiting) >= DUE_COUNT:
            self._trim()
            self._ring()

    def _tell_apart(self, round_id: str) -> None:
        """A round's id is used again, and it waits how the one before has ended: it has its own opening."""
        for index, outcome in enumerate(self._waiting):
            if isinstance(outcome, RoundOutcome) and outcome.round_id == round_id:
                self._waiting[index] = self._round_of(outcome)

    def late(self, outcome: RoundOutcome) -> None:
        """An answer came after the release: the last one that the outcome counts."""
        if outcome.late_count <= LATE_MAX:
            self._note(partial(self._round_late, outcome, outcome.late_count))

    def started(self, wall_ns: int, halts: Iterable[Halt] = ()) -> None:
        """The bus was started, at this instant in nanoseconds since 1970. It goes with the next commit.

        `halts` are the kill switches that are active.
        """
        # ahead of the rounds of this run, so that a reader can tell them from those of the run before
        self._waiting.appendleft(partial(self._run_started, wall_ns, tuple(halts)))
        self._is_urgent = True
        self._ring()

    def note(self, event: Event) -> None:
        """Have a record written with the next commit."""
        self._is_urgent = True
        self._note(lambda taken: taken.add(event))

    def answered(self, wall_ns: int, make: Callable[[str], Event]) -> None:
        """Somebody was answered, or given its memory back, at this instant: the next commit has a record.

        It is made with the id that it is given then.
        """
        self._is_urgent = True
        self._note(partial(self._answer, wall_ns, make))

    def _note(self, make: Make) -> None:
        self._waiting.append(make)
        if self._is_urgent or not self.has_any or len(self._waiting) >= DUE_COUNT:
            self._trim()
            self._ring()

    def _trim(self) -> None:
        while len(self._waiting) > RECORDS_MOST:
            self._waiting.popleft()
            self._leave_out(_TOO_MANY, RECORDS_MOST)

    def _ring(self) -> None:
        self.has_any = True
        if self._wake is not None:
            self._wake(self._is_urgent or len(self._waiting) >= DUE_COUNT)

    def _leave_out(self, message: str, *args: object) -> None:
        if not self.left_out:
            log.error(message, *args)
        self.left_out += 1

    # -- what commits take --------------------------------------------------------------------------

    def begin(self, wake: Callable[[bool], None]) -> None:
        """Call `wake` from now on when records wait, and now if any do.

        With True: the next commit is to take them, whatever it is.
        """
        self._wake = wake
        if self.has_any:
            self._ring()

    def end(self) -> None:
        """Call nobody any more: what waits is for the next journal that is opened."""
        self._wake = None

    def tell_what_waits(self) -> None:
        """The journal takes nothing more: log how many records it has not taken."""
        count = len(self._waiting) + len(self._given_back)
        if count:
            log.error(
                "the journal has not taken %d records of rounds and of what operators did; they are lost "
                "unless this bus opens another journal",
                count,
            )

    def take(self, journal: Journal, *, all_of_them: bool, apart: bool) -> list[Record]:
        """Return the records that are to be written now: all, or those of one ordinary commit.

        `apart`: the opening of a round has a record of its own even where the release says it as well.
        """
        records, self._given_back = self._given_back, []
        taken = Taken(journal, apart, records, {record.event_id for record in records})
        most = sys.maxsize if all_of_them else TAKEN_MOST
        waiting, unsaid = self._waiting, self._unsaid
        while waiting and len(records) < most:
            noted = waiting.popleft()
            self._make(self._round_of(noted) if isinstance(noted, RoundOutcome) else noted, taken)
        while unsaid and len(records) < most:
            round_id = next(iter(unsaid))
            opened = self._said[round_id] = unsaid.pop(round_id)
            self._make(partial(self._round_opened, opened), taken)
        self.has_any = bool(waiting or unsaid or self._said)
        self._is_urgent = self._is_urgent and bool(waiting)
        return records

    @property
    def has_more(self) -> bool:
        """Whether more records could be made now: not all went with the last commit."""
        return bool(self._waiting or self._unsaid or self._given_back)

    def _round_of(self, outcome: RoundOutcome) -> Make:
        """Return what makes the record of a released round, and of its opening where that has none."""
        opened = self._unsaid.pop(outcome.round_id, None)
        if opened is not None:
            return partial(self._whole_round, outcome, opened)
        opened = self._said.pop(outcome.round_id, None)
        return partial(self._round_released, outcome, _FROM_MAIN if opened is None else opened.opening)

    def _make(self, make: Make, taken: Taken) -> None:
        try:
            make(taken)
        except Exception:  # a record must not keep a commit, or a round, from anything
            log.exception("a record of the bus could not be written, and is left out")
            self.left_out += 1

    def give_back(self, records: Sequence[Record]) -> None:
        """Take back what was not written: it goes with the next commit."""
        self._given_back = [*records, *self._given_back]
        self._is_urgent = True
        self._ring()

    def note_known(self, record: Record) -> None:
        """The journal has another event with the id of a record, which is not written therefore."""
        self._leave_out("the journal has another event with the id of the record %s", record.event_id)

    # -- the records --------------------------------------------------------------------------------

    def _round_opened(self, opened: RoundOpening, taken: Taken) -> None:
        its_round, opening, has_fresh_id = opened
        round_id, terms = its_round.round_id, its_round.terms
        ordinal = 1 if has_fresh_id else self._ordinal_of_new(round_id, taken)
        taken.add(
            RoundOpened(
                event_id=_id(round_id, ordinal, ":opened"),
                timestamp=its_round.opened_wall_ns or 0,
                correlation_id=opening.correlation_id,
                causation_id=opening.event_id,
                round_id=round_id,
                ordinal=ordinal,
                opened_by=opening.subscription,
                symbol=opening.symbol,
                roster=tuple(terms.blank),
                critical=tuple(sorted(terms.critical)),
                quorum_count=terms.quorum_count,
                signal_timeout_ns=terms.signal_timeout_ns,
                barrier_timeout_ns=terms.barrier_timeout_ns,
                stand_in_max_age_ns=terms.stand_in_max_age_ns,
            )
        )

    def _whole_round(self, outcome: RoundOutcome, opened: RoundOpening, taken: Taken) -> None:
        """A round was released before its opening was written: the release says that as well."""
        if taken.apart:
            self._round_opened(opened, taken)
        elif not opened.has_fresh_id:
            self._ordinal_of_new(outcome.round_id, taken)
        self._round_released(outcome, opened.opening, taken)

    def _round_released(self, outcome: RoundOutcome, opening: Opening, taken: Taken) -> None:
        round_id, terms, opened_ns = outcome.round_id, outcome.terms, outcome.opened_ns
        ordinal, opened_wall_ns = self._ordinals.get(round_id, 1), outcome.opened_wall_ns or 0
        event_id, took_ns = _id(round_id, ordinal), outcome.released_ns - opened_ns
        votes = [
            (agent, symbol if type(symbol) is str else str(symbol), signal_id, at_ns - opened_ns)
            for signal_id, (agent, symbol, _, at_ns) in outcome.heard.items()
        ]
        data = encode_released(
            event_id,
            opened_wall_ns + took_ns,
            "round_released",
            "",  # source_agent
            1,  # schema_version
            opening.correlation_id,
            opening.event_id,
            round_id,
            ordinal,
            outcome.status._value_,
            outcome.valid,
            outcome.reason,
            opening.subscription,
            opening.symbol or _only_symbol(votes),
            opened_wall_ns,
            took_ns,
            outcome.noticed_ns - opened_ns,
            tuple(terms.blank),
            sorted(terms.critical),
            terms.quorum_count,
            terms.signal_timeout_ns,
            terms.barrier_timeout_ns,
            terms.stand_in_max_age_ns,
            votes,
            sorted(outcome.missing),
            {agent: str(reason) for agent, reason in outcome.abstained.items()} if outcome.abstained else {},
            _from_opening(outcome.abstained_ns, opened_ns),
            _from_opening(outcome.heartbeats, opened_ns),
            outcome.let_go,
            outcome.strangers,
            [
                (one.agent, str(one.symbol), one.signal.event_id, one.age_ns, one.round_id)
                for one in outcome.stand_ins
            ],
        )
        taken.add_json(event_id, data)

    def _round_late(self, outcome: RoundOutcome, number: int, taken: Taken) -> None:
        round_id, answer = outcome.round_id, outcome.late[number - 1]
        ordinal, signal = self._ordinals.get(round_id, 1), answer.signal
        released_after_ns = outcome.released_ns - outcome.opened_ns
        taken.add(
            RoundLate(
                event_id=_id(round_id, ordinal, f":late:{answer.agent}:{number}"),
                timestamp=(outcome.opened_wall_ns or 0) + released_after_ns + answer.late_ns,
                round_id=round_id,
                ordinal=ordinal,
                agent=answer.agent,
                number=number,
                late_ns=answer.late_ns,
                signal_id=None if signal is None else signal.event_id,
                symbol=None if signal is None else str(signal.symbol),
                reason=answer.reason,
            )
        )

    def _run_started(self, wall_ns: int, halts: Sequence[Halt], taken: Taken) -> None:
        named = self._app, self._broker
        started = _run_started(self._config, named, wall_ns, taken.journal, self._seed)
        by_id = {halt.event_id: halt.to_dict() for halt in halts[:NAMED_MOST]}
        taken.add(msgspec.structs.replace(started, halts=by_id) if by_id else started)

    def _answer(self, wall_ns: int, make: Callable[[str], Event], taken: Taken) -> None:
        self._answers_on = self._answers_on or _stem("answers", taken.journal, wall_ns)
        self._answers_count += 1
        taken.add(make(f"{self._answers_on}-{self._answers_count:x}"))

    def _ordinal_of_new(self, round_id: str, taken: Taken) -> int:
        """Return the how manieth use of a round's id this is: the journal may have earlier ones."""
        ordinal = 1
        while self._is_known(round_id, ordinal, taken):
            ordinal += 1
        if ordinal > 1:
            self._ordinals[round_id] = ordinal
            if len(self._ordinals) > USED_AGAIN_MOST:
                del self._ordinals[next(iter(self._ordinals))]
        else:
            self._ordinals.pop(round_id, None)
        return ordinal

    def _is_known(self, round_id: str, ordinal: int, taken: Taken) -> bool:
        ids = [_id(round_id, ordinal, part) for part in (":opened", "")]
        if not taken.ids.isdisjoint(ids):
            return True
        try:
            return any(taken.journal.find(event_id) is not None for event_id in ids)
        except JournalError:
            return False


def _run_id(journal: Journal, wall_ns: int) -> str:
    """Return an id that is none of those that `stamps` gives, nor any in the journal.

    It counts on a stem of its own, so that a journal knows that without a look at its entries.
    """
    return f"{_stem('run', journal, wall_ns)}-0"


def _stem(what: str, journal: Journal, wall_ns: int) -> str:
    """Return the beginning of ids that nobody else gives."""
    named = f"{what}:{journal.origin}:{journal.head}:{wall_ns}".encode()
    return blake2b(named, digest_size=8).hexdigest()


def _run_started(
    config: BusConfig, named: tuple[str, str], wall_ns: int, journal: Journal, seed: int | None
) -> RunStarted:
    settings = to_plain(config)
    if settings["persistence"] is not None:
        del settings["persistence"]["key"]
    generation = getattr(journal, "generation", b"")
    return RunStarted(
        event_id=_run_id(journal, wall_ns),
        timestamp=wall_ns,
        version=__version__,
        python=platform.python_version(),
        sqlite=sqlite3.sqlite_version if isinstance(journal, FileJournal) else "",
        origin=journal.origin,
        generation=generation.hex() if isinstance(generation, bytes) else "",
        settings=msgspec.to_builtins(settings),
        app=named[0],
        broker=named[1],
        process_id=os.getpid(),
        host=socket.gethostname(),
        seed=seed,
    )


def _id(round_id: str, ordinal: int, part: str = "") -> str:
    """Return the id of a record of a round."""
    return f"round:{round_id}{part}" if ordinal == 1 else f"round:{round_id}:{ordinal}{part}"


def _opening() -> Opening:
    """Return by whom a round is opened that is opened now."""
    who = current.get()
    cause = None if who is None else who.cause()
    if who is None or cause is None:
        return _FROM_MAIN
    symbol: Any = getattr(who.handled, "symbol", None)
    known = symbol if isinstance(symbol, str) and symbol else None
    return Opening(who.subscription, cause.event_id, cause.correlation_id, known)


def _only_symbol(votes: Sequence[tuple[str, str, str, int]]) -> str | None:
    symbols = {symbol for _, symbol, _, _ in votes}
    return symbols.pop() if len(symbols) == 1 else None


def _from_opening(instants: dict[str, int], opened_ns: int) -> dict[str, int]:
    return {agent: at_ns - opened_ns for agent, at_ns in instants.items()} if instants else instants
