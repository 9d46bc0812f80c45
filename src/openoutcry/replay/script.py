"""The script of a replay: hands out what was recorded, in its order, and holds agents against it.

```
  recorded, from outside ───────────────────────▶ admitted, when it is its turn
  recorded, by an agent ──▶ offered by the agent ─▶ compared ─▶ admitted, when it is its turn
                        └─▶ not offered: missing ────────────▶ admitted all the same
```

Whatever an agent publishes, others are handed what was recorded. So each agent is judged on its own record,
and one difference does not spread.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from heapq import merge
from typing import Any, Final, Literal, Protocol

from openoutcry.core.halts import Halt
from openoutcry.events import RECORDS, event_type_of
from openoutcry.journals import MemoryJournal
from openoutcry.replay.comparing import Difference, compared
from openoutcry.replay.day import Day, Entry, PastRound, time_ns_of
from openoutcry.replay.past import ContinuedJournal
from openoutcry.replay.taking import Pace
from openoutcry.units import NS_PER_S

PATIENCE_NS: Final = 20_000_000
"""How long in virtual time a publication may be later than it was on the day before it counts as missing: the
clocks of a day do not all run alike."""
STEM_DIGITS: Final = 26
"""So many digits the ids have in common that a call derives."""
IDLE_NS: Final = 1_000
"""So much time passes when nothing else can happen at an instant: what agents say in it is said by then."""

Admit = Callable[[Entry], Awaitable[bool]]


class OpensRounds(Protocol):
    """The rounds of the bus, as the script sees them."""

    def is_open(self, one: PastRound) -> bool:
        """Whether a round is open, or was."""
        ...

    def open(self, one: PastRound) -> None:
        """Open it as it was on the day."""
        ...

    def hand_out(self, record: Any) -> None:
        """Hand a record of the bus to those that name its type."""
        ...


class Script:
    """What is to happen, and what has.

    Attributes:
        day: The recorded day.
        strict: Whether timestamps are compared as well.
        published: What agents have published of what is compared, by id.
        offered: By whom, and when, what is in the record was published.
        differences: What they did otherwise, in the order in which it was found.
        pace: How far it is, for the mailboxes.
        journal: What the bus writes into, with what the day began with.
        cut_count: How many events were published that the day had published later, or was about to.
        unhanded_count: How many events were not handed to who took them on the day.
        aside_count: How many events were published outside of handlers, and not compared.
        is_closed: Whether the replay is over, so that nothing that is published counts.
        is_kept: Whether the bus journals everything, to be kept as a file.
        record: What the bus records of itself: `replay` where it is kept, else nothing.
        admits_what_is_new: Whether others are handed what was published now, where the record has something
            else.

    """

    admits_what_is_new = False

    def __init__(self, day: Day, *, strict: bool = False, is_kept: bool = False) -> None:
        self.day = day
        self.strict = strict
        self.is_kept = is_kept
        self.record: Literal["off", "rounds", "replay"] = "replay" if is_kept else "off"
        self.published: dict[str, Any] = {}
        self.offered: dict[str, tuple[str, int]] = {}
        self.differences: list[Difference] = []
        self.pace = Pace(_now_ns, _call_at)
        self.pace.handed |= day.owed_ids
        self.cut_count = self.aside_count = self.unhanded_count = 0
        self.is_closed = False
        self.journal: MemoryJournal = day.journal()
        self._turns: dict[str, asyncio.Future[bool]] = {}  # of what was published and waits for its turn
        self._handed: set[str] = set()
        self._missing: dict[str, Difference] = {}
        self._session_ns = time_ns_of(day.entries[0].event) if day.entries else day.started_wall_ns
        self._awaited: tuple[str, asyncio.Future[None]] | None = None

    # -- what agents publish ------------------------------------------------------------------------

    def is_touched(self, name: str) -> bool:  # noqa: ARG002 - for a script with a change
        """Whether an agent need not do what it did: never, where nothing is changed."""
        return False

    def is_silent(self, name: str) -> bool:  # noqa: ARG002 - likewise
        """Whether nothing that an agent says is heard: never, where nothing is changed."""
        return False

    def has_other_halts(self, name: str, now: tuple[Halt, ...]) -> bool:  # noqa: ARG002 - likewise
        """Whether an agent may be told of others than on the day: never, where nothing is changed."""
        return False

    def touch(self, name: str) -> None:
        """An agent is told something else than on the day; only where something is changed."""

    def knows(self, event_id: str) -> bool:
        """Whether an event is in the record."""
        return event_id in self.day.by_id

    def offer(
        self,
        event: Any,
        agent: str | None,
        cause_id: str | None,
        *,
        votes: bool,
        priority: bool = False,  # noqa: ARG002 - for a script that admits it as it is
        level: str | None = None,  # noqa: ARG002 - likewise
    ) -> "asyncio.Future[bool]":
        """Take what the handler of `agent` has published (None: no handler), and return when it is admitted.

        What is not in the record is never admitted, and nobody waits for it.
        """
        event_id, turn = event.event_id, _answered(answer=True)
        entry = self.day.by_id.get(event_id)
        if event_id in self.published or self.is_closed:
            return self._turns.get(event_id, turn)
        if entry is None:
            return self._take_unknown(event, agent, cause_id, turn)
        self.offered[event_id] = (agent or _source(event), self.pace.now_ns())
        self.published[event_id] = self._judge(entry, event, agent or _source(event), cause_id, votes=votes)
        if event_id in self._handed:
            return turn
        turn = self._turns[event_id] = asyncio.get_running_loop().create_future()
        if self._awaited is not None and self._awaited[0] == event_id and not self._awaited[1].done():
            self._awaited[1].set_result(None)
        return turn

    def _take_unknown(
        self, event: Any, agent: str | None, cause_id: str | None, turn: "asyncio.Future[bool]"
    ) -> "asyncio.Future[bool]":
        """Take an event that is not in the record, and return what its publisher waits for."""
        event_id, day = event.event_id, self.day
        call = (agent or "", cause_id or "")
        if event_id in day.refused:
            return _answered(answer=False)
        if call in day.cut:  # it had not come so far when its time was up
            return asyncio.get_running_loop().create_future()
        if event_id in day.beyond or call in day.unended:
            self.cut_count += 1
        elif agent is None:
            self.aside_count += 1
        elif self.is_compared(None):
            self.published[event_id] = event
            self._note("extra", agent, event, None, cause_id)
        return turn

    def is_compared(self, at_ns: int | None) -> bool:
        """Whether what was recorded at an instant, or is said now (None), is compared."""
        if at_ns is None:
            at_ns = self.pace.now_ns() - self.pace.lost_ns
        return at_ns >= self.day.from_ns

    def is_last_of_a_cut_call(self, agent: str, cause_id: str, event_id: str) -> bool:
        """Whether a call that was ended from outside had not come further than this publication."""
        stem, _, ordinal = event_id.rpartition("-")
        if (agent, cause_id) not in self.pace.to_be_cut or len(stem) != STEM_DIGITS:
            return False
        return f"{stem}-{int(ordinal, 16) + 1:x}" not in self.day.by_id

    def is_repeated(self, event_id: str) -> bool:
        """Whether an event was published, and handed out: who publishes it again is told so by the bus.

        What was published in an earlier life is in the journal.
        """
        if self.is_closed:
            return False
        if event_id in self.published and event_id in self._handed:
            return True
        journal, day = self.journal, self.day
        is_new = event_id not in day.by_id and event_id not in day.beyond and event_id not in day.refused
        return is_new and isinstance(journal, ContinuedJournal) and journal.is_of_the_past(event_id)

    def withdraw(self, event_id: str) -> None:
        """A publication was cancelled before its turn: if it is not the recorded one, it was not made."""
        turn, entry = self._turns.get(event_id), self.day.by_id.get(event_id)
        is_recorded = entry is not None and self.published.get(event_id) is entry.event
        if turn is not None and turn.cancelled() and not is_recorded:
            del self._turns[event_id], self.published[event_id]
            self.offered.pop(event_id, None)
            self.differences = [one for one in self.differences if one.event_id != event_id]

    def _judge(self, entry: Entry, event: Any, agent: str, cause_id: str | None, *, votes: bool) -> Any:
        """Compare an event with the recorded one; return what counts as published."""
        was_missing = self._missing.pop(event.event_id, None)
        if was_missing is not None:
            self.differences = [one for one in self.differences if one is not was_missing]
            self._note("late", agent, event, entry, cause_id)
        elif entry.voted and not votes:
            self._note("vote", agent, event, entry, cause_id, said="published its signal without a vote")
        fields = compared(entry.event, event, strict=self.strict)
        if not fields:
            return entry.event
        self._note("content", agent, event, entry, cause_id, fields=fields)
        return event

    def _note(
        self, kind: str, agent: str, event: Any, entry: Entry | None, cause_id: str | None, **more: Any
    ) -> Difference:
        found = Difference(
            kind=kind,
            agent=agent,
            event_id=event.event_id,
            event_type=str(event_type_of(event)),
            position=None if entry is None else entry.position,
            symbol=_text(getattr(event, "symbol", None)),
            round_id=_text(getattr(event, "round_id", None)),
            cause_id=cause_id,
            **more,
        )
        if self.is_compared(None if entry is None else entry.at_ns):
            self.differences.append(found)
        return found

    def note_raised(self, agent: str, event: Any, error: BaseException) -> None:
        """A call has failed: that is a difference if it is not known to have failed on the day."""
        event_id = getattr(event, "event_id", "")
        call = (agent, event_id)
        if self.is_closed or call in self.day.failed or call in self.day.unended:
            return
        if not self.is_compared(None):
            return
        self.differences.append(
            Difference(
                kind="raised",
                agent=agent,
                cause_id=event_id,
                symbol=_text(getattr(event, "symbol", None)),
                said=f"raised {type(error).__name__}: {error}",
            )
        )

    # -- what is handed out -------------------------------------------------------------------------

    def session_ns(self) -> int:
        """Return the time of a day that had times of its own: the latest of what has come so far."""
        return self._session_ns

    async def play(self, admit: Admit, rounds: "OpensRounds") -> None:
        """Hand out the day, from its start to its end."""
        loop = asyncio.get_running_loop()
        openings = deque(
            sorted((one for known in self.day.rounds.values() for one in known), key=lambda one: one.at_ns)
        )
        for entry in merge(self.day.entries, self.day.records, key=lambda one: (one.at_ns, one.position)):
            while openings and openings[0].at_ns <= entry.at_ns:
                await self._open(loop, openings.popleft(), rounds)
            await self._until(loop, entry.at_ns)
            if event_type_of(entry.event) in RECORDS:
                self.tell(entry.event, rounds)
                continue
            self._session_ns = max(self._session_ns, time_ns_of(entry.event))
            if await self._turn_of(loop, entry):
                await self._hand_out(entry, admit)
            if entry.level:
                self.pace.moved(entry.position)
        for one in openings:
            await self._open(loop, one, rounds)

    def tell(self, record: Any, rounds: "OpensRounds") -> None:
        """Hand a record of the day to those that name its type."""
        rounds.hand_out(record)

    def is_new(self, record: Any) -> bool:  # noqa: ARG002 - for a script with a change
        """Whether a record that the bus has written now is handed out: never, as that of the day is."""
        return False

    async def _hand_out(self, entry: Entry, admit: Admit) -> None:
        """Admit a recorded event, and let who has published it go on."""
        event_id = entry.event.event_id
        self._handed.add(event_id)
        await admit(entry)
        # (What lives in memory is in the mailboxes when what it has staged has been delivered.)
        asyncio.get_running_loop().call_soon(self.pace.handed_out, event_id)
        turn = self._turns.pop(event_id, None)
        if turn is not None and not turn.done():
            turn.set_result(True)

    async def _open(self, loop: asyncio.AbstractEventLoop, one: PastRound, rounds: "OpensRounds") -> None:
        """Open a round that a main program had opened; see to it that an agent has opened its own."""
        await self._until(loop, one.at_ns)
        if not one.opened_by:
            if not rounds.is_open(one):
                rounds.open(one)
            return
        # When it was opened is told by the wall clock, which is not that of the tape.
        due_ns = one.at_ns + self.pace.lost_ns + PATIENCE_NS
        self.pace.call_at(due_ns, partial(self._see_to_round, one, rounds))

    def _see_to_round(self, one: PastRound, rounds: "OpensRounds") -> None:
        """Open a round that an agent should have opened by now."""
        if not self.is_closed and not rounds.is_open(one):
            if not self.is_touched(one.opened_by):
                self.note_round(one, "did not open its round")
            rounds.open(one)

    async def _until(self, loop: asyncio.AbstractEventLoop, at_ns: int) -> None:
        left_s = (at_ns + self.pace.lost_ns) / NS_PER_S - loop.time()
        if left_s > 0:
            await asyncio.sleep(left_s)

    def note_round(self, one: PastRound, said: str) -> None:
        """An agent has not opened a round as it had."""
        if not self.is_compared(one.at_ns):
            return
        self.differences.append(
            Difference(
                kind="round", agent=one.opened_by, round_id=one.round_id, said=f"{said} {one.round_id}"
            )
        )

    async def _turn_of(self, loop: asyncio.AbstractEventLoop, entry: Entry) -> bool:
        """Wait until an agent has published what it published on the day; not for ever. Always True."""
        event = entry.event
        event_id = event.event_id
        if not entry.is_made or event_id in self.published:
            return True
        offered: asyncio.Future[None] = loop.create_future()
        self._awaited = (event_id, offered)
        try:
            async with asyncio.timeout(PATIENCE_NS / NS_PER_S):
                await offered
        except TimeoutError:
            self.pace.lost_ns += PATIENCE_NS
            self._missing[event_id] = self._note("missing", _source(event), event, entry, None)
        finally:
            self._awaited = None
        return True


def _now_ns() -> int:
    return round(asyncio.get_running_loop().time() * NS_PER_S)


def _call_at(at_ns: int, call: Callable[[], None]) -> None:
    asyncio.get_running_loop().call_at(at_ns / NS_PER_S, call)


def _answered(*, answer: bool) -> "asyncio.Future[bool]":
    turn: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    turn.set_result(answer)
    return turn


def _source(event: Any) -> str:
    return _text(getattr(event, "source_agent", None)) or "somebody"


def _text(value: Any) -> str | None:
    return None if value is None or value == "" else str(value)
