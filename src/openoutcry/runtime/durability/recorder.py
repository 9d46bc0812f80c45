"""The recorder: what becomes of rounds, runs and operators' verbs, as events that the journal is to have.

```
  rounds, control ──▶ note ──▶ (waits, at most `RECORDS_MOST`) ──▶ take, with the next commit ──▶ the journal
                                                                └── refused: back to the front
```

Nobody waits for a record, and none has a commit of its own where one is due anyway. A record that cannot be
made is logged and left out: no round fares otherwise for that.
"""

import logging
import os
import platform
import socket
import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from functools import partial
from typing import Any, Final, NamedTuple

import msgspec

from openoutcry.config import BusConfig, to_plain
from openoutcry.core.barrier import Round
from openoutcry.core.outcome import LATE_MAX, RoundOutcome
from openoutcry.errors import JournalError
from openoutcry.events import (
    Event,
    RoundLate,
    RoundOpened,
    RoundReleased,
    RunStarted,
    StoodIn,
    Vote,
    encode,
)
from openoutcry.events.sources import new_name
from openoutcry.ports import FileJournal, Journal
from openoutcry.runtime.delivery.causation import current
from openoutcry.version import __version__

log = logging.getLogger("openoutcry")

RECORDS_MOST: Final = 16_384
"""How many records may wait for a commit; the oldest go beyond that, which is logged."""
TAKEN_MOST: Final = 512
"""How many records go with one commit, unless everything is to be on the disk."""
USED_AGAIN_MOST: Final = 65_536
"""Of how many rounds it is remembered that their ids were used before."""

running_app: ContextVar[str] = ContextVar("running_app", default="")
"""What `openoutcry run` was given, as `module:app`."""

Make = Callable[[Journal], Event]


class Record(NamedTuple):
    """A record, ready to be written."""

    event: Event
    payload: bytes


class Opening(NamedTuple):
    """By whom a round was opened, and for which event."""

    subscription: str = ""
    event_id: str | None = None
    correlation_id: str | None = None
    symbol: str | None = None


class Recorder:
    """Collects records until a commit takes them along. It is the `RoundLog` of a bus.

    Attributes:
        left_out: How many records could not be written.

    """

    def __init__(self, config: BusConfig) -> None:
        self._config = config
        self._app = running_app.get()
        self._waiting: deque[Make] = deque()
        self._given_back: list[Record] = []
        self._wake: Callable[[], None] | None = None
        self._openings: dict[str, Opening] = {}
        self._ordinals: dict[str, int] = {}
        self.left_out = 0

    # -- what is noted ------------------------------------------------------------------------------

    def opened(self, opened: Round, *, has_fresh_id: bool) -> None:
        """A round was opened, by the call in which this is called."""
        opening = self._openings[opened.round_id] = _opening()
        self._note(partial(self._round_opened, opened, opening, has_fresh_id))

    def released(self, outcome: RoundOutcome) -> None:
        """A round has its outcome."""
        opening = self._openings.pop(outcome.round_id, Opening())
        self._note(partial(self._round_released, outcome, opening))

    def late(self, outcome: RoundOutcome) -> None:
        """An answer came after the release: the last one that the outcome counts."""
        if outcome.late_count <= LATE_MAX:
            self._note(partial(self._round_late, outcome, outcome.late_count))

    def started(self, wall_ns: int) -> None:
        """The bus was started, at this instant in nanoseconds since 1970."""
        # ahead of the rounds of this run, so that a reader can tell them from those of the run before
        self._waiting.appendleft(partial(self._run_started, wall_ns, f"run:{new_name()}"))

    def note(self, event: Event) -> None:
        """Have a record written with the next commit."""
        self._note(lambda _: event)

    def _note(self, make: Make) -> None:
        waiting = self._waiting
        if len(waiting) == RECORDS_MOST:
            waiting.popleft()
            self._leave_out("%d records wait for the journal, and the oldest are left out", RECORDS_MOST)
        waiting.append(make)
        if self._wake is not None:
            self._wake()

    def _leave_out(self, message: str, *args: object) -> None:
        if not self.left_out:
            log.error(message, *args)
        self.left_out += 1

    # -- what commits take --------------------------------------------------------------------------

    def begin(self, wake: Callable[[], None]) -> None:
        """Call `wake` from now on when records wait, and now if any do."""
        self._wake = wake
        if self.has_any:
            wake()

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

    @property
    def has_any(self) -> bool:
        """Whether records wait for a commit."""
        return bool(self._waiting or self._given_back)

    def take(self, journal: Journal, *, all_of_them: bool) -> list[Record]:
        """Return the records that are to be written now: all, or those of one ordinary commit."""
        records, self._given_back = self._given_back, []
        while self._waiting and (all_of_them or len(records) < TAKEN_MOST):
            make = self._waiting.popleft()
            try:
                event = make(journal)
                records.append(Record(event, encode(event)))
            except Exception:  # a record must not keep a commit, or a round, from anything
                log.exception("a record of the bus could not be written, and is left out")
                self.left_out += 1
        return records

    def give_back(self, records: Sequence[Record]) -> None:
        """Take back what was not written: it goes with the next commit."""
        self._given_back = [*records, *self._given_back]

    def note_known(self, record: Record) -> None:
        """The journal has another event with the id of a record, which is not written therefore."""
        self._leave_out("the journal has another event with the id of the record %s", record.event.event_id)

    # -- the records --------------------------------------------------------------------------------

    def _round_opened(self, opened: Round, opening: Opening, has_fresh_id: bool, journal: Journal) -> Event:
        round_id, terms = opened.round_id, opened.terms
        ordinal = 1 if has_fresh_id else self._ordinal_of_new(round_id, journal)
        return RoundOpened(
            event_id=_id(round_id, ordinal, ":opened"),
            timestamp=opened.opened_wall_ns or 0,
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

    def _round_released(self, outcome: RoundOutcome, opening: Opening, _: Journal) -> Event:
        round_id, terms, opened_ns = outcome.round_id, outcome.terms, outcome.opened_ns
        ordinal, opened_wall_ns = self._ordinals.get(round_id, 1), outcome.opened_wall_ns or 0
        took_ns = outcome.released_ns - opened_ns
        votes = [
            Vote(agent, symbol if type(symbol) is str else str(symbol), signal_id, at_ns - opened_ns)
            for signal_id, (agent, symbol, _, at_ns) in outcome.heard.items()
        ]
        return RoundReleased(
            event_id=_id(round_id, ordinal),
            timestamp=opened_wall_ns + took_ns,
            correlation_id=opening.correlation_id,
            causation_id=opening.event_id,
            round_id=round_id,
            ordinal=ordinal,
            status=outcome.status.value,
            valid=outcome.valid,
            reason=outcome.reason,
            opened_by=opening.subscription,
            symbol=opening.symbol or _only_symbol(votes),
            opened_wall_ns=opened_wall_ns,
            took_ns=took_ns,
            noticed_ns=outcome.noticed_ns - opened_ns,
            roster=tuple(terms.blank),
            critical=tuple(sorted(terms.critical)),
            quorum_count=terms.quorum_count,
            signal_timeout_ns=terms.signal_timeout_ns,
            barrier_timeout_ns=terms.barrier_timeout_ns,
            votes=tuple(votes),
            missing=tuple(sorted(outcome.missing)),
            **_rarely(outcome),
        )

    def _round_late(self, outcome: RoundOutcome, number: int, _: Journal) -> Event:
        round_id, answer = outcome.round_id, outcome.late[number - 1]
        ordinal, signal = self._ordinals.get(round_id, 1), answer.signal
        released_after_ns = outcome.released_ns - outcome.opened_ns
        return RoundLate(
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

    def _run_started(self, wall_ns: int, event_id: str, journal: Journal) -> Event:
        settings = to_plain(self._config)
        if settings["persistence"] is not None:
            del settings["persistence"]["key"]
        generation = getattr(journal, "generation", b"")
        return RunStarted(
            event_id=event_id,
            timestamp=wall_ns,
            version=__version__,
            python=platform.python_version(),
            sqlite=sqlite3.sqlite_version if isinstance(journal, FileJournal) else "",
            origin=journal.origin,
            generation=generation.hex() if isinstance(generation, bytes) else "",
            settings=msgspec.to_builtins(settings),
            app=self._app,
            process_id=os.getpid(),
            host=socket.gethostname(),
        )

    def _ordinal_of_new(self, round_id: str, journal: Journal) -> int:
        """Return the how manieth use of a round's id this is: the journal may have earlier ones."""
        ordinal = 1
        while self._is_known(round_id, ordinal, journal):
            ordinal += 1
        if ordinal > 1:
            self._ordinals[round_id] = ordinal
            if len(self._ordinals) > USED_AGAIN_MOST:
                del self._ordinals[next(iter(self._ordinals))]
        else:
            self._ordinals.pop(round_id, None)
        return ordinal

    def _is_known(self, round_id: str, ordinal: int, journal: Journal) -> bool:
        try:
            return any(journal.find(_id(round_id, ordinal, part)) is not None for part in (":opened", ""))
        except JournalError:
            return False


def _id(round_id: str, ordinal: int, part: str = "") -> str:
    """Return the id of a record of a round."""
    return f"round:{round_id}{part}" if ordinal == 1 else f"round:{round_id}:{ordinal}{part}"


def _opening() -> Opening:
    """Return by whom a round is opened that is opened now."""
    who = current.get()
    cause = None if who is None else who.cause()
    if who is None or cause is None:
        return Opening()
    symbol: Any = getattr(who.handled, "symbol", None)
    known = symbol if isinstance(symbol, str) and symbol else None
    return Opening(who.subscription, cause.event_id, cause.correlation_id, known)


def _only_symbol(votes: Sequence[Vote]) -> str | None:
    symbols = {vote.symbol for vote in votes}
    return symbols.pop() if len(symbols) == 1 else None


def _rarely(outcome: RoundOutcome) -> dict[str, Any]:
    """Return the fields that most rounds leave empty, where they are not."""
    opened_ns = outcome.opened_ns
    found: dict[str, Any] = {
        "abstained": outcome.abstained,
        "heartbeats": {agent: at_ns - opened_ns for agent, at_ns in outcome.heartbeats.items()},
        "let_go": outcome.let_go,
        "strangers": outcome.strangers,
        "stand_ins": tuple(
            StoodIn(one.agent, str(one.symbol), one.signal.event_id, one.age_ns, one.round_id)
            for one in outcome.stand_ins
        ),
    }
    return {name: value for name, value in found.items() if value}
