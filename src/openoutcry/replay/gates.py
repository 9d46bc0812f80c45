"""The gates of a replay: the admission and the rounds of its bus, which do what was recorded.

They are handed to the bus as its `Parts`. Nothing in the runtime knows that it replays.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

from openoutcry.core.barrier import NEVER_NS, Recall, Round, Verdict
from openoutcry.core.outcome import RoundOutcome, StandIn, Status
from openoutcry.core.terms import Terms
from openoutcry.errors import OpenOutcryError
from openoutcry.events import RoundLate, RoundReleased, encode
from openoutcry.replay.day import Day, Entry, PastRound
from openoutcry.replay.script import Script
from openoutcry.runtime.admission.again import Answer
from openoutcry.runtime.admission.fast_path import Vote
from openoutcry.runtime.admission.gate import Admission
from openoutcry.runtime.delivery.causation import current, outbox_of, stamp_cause
from openoutcry.runtime.delivery.dispatcher import Dispatcher
from openoutcry.runtime.delivery.state import BusState


class HeldDispatcher(Dispatcher):
    """A dispatcher that hands out the records of the day in place of those that the bus writes now."""

    def __init__(self, script: Script, *made_of: Any) -> None:
        super().__init__(*made_of)
        self._script = script

    def release_record(self, event: Any, position: int, at_ns: int) -> None:
        """Hand out what the bus has recorded now, if that is new."""
        if self._script.is_new(event):
            super().release_record(event, position, at_ns)

    def hand_out(self, record: Any) -> None:
        """Hand a record of the day to those that name its type; it does not stand in this bus's journal."""
        if self.staged:
            self.deliver()
        now_ns = self._bus.clock.now_ns()
        for group in self._bus.router.route(record):
            if group.subscriptions:
                self.push(group.subscriptions, [record], now_ns)


class HeldAdmission(Admission):
    """Admission that lets in what was recorded, when it is its turn; agents are only held against that."""

    def __init__(self, script: Script, bus: BusState, make_slot: Callable[..., Any], releasers: Any) -> None:
        self._script = script
        self.new_dispatcher = partial(HeldDispatcher, script)
        super().__init__(bus, make_slot, releasers)

    def _learn(self, cls: type) -> None:
        """Nothing takes the fast path: everything is looked at."""

    async def publish(
        self,
        event: Any,
        priority: bool = False,
        level: str | None = None,
        vote: Vote | None = None,
        answer: Answer | None = None,
    ) -> bool:
        """Hold what is published against the record, and wait until it is its turn."""
        turn = self._offer(event, level, vote, priority=priority)
        if turn is None:
            return await super().publish(event, priority, level, vote, answer)
        return await self._wait(event, turn)

    def publish_nowait(self, event: Any, priority: bool = False, level: str | None = None) -> bool:
        """Hold what is published against the record."""
        is_held = self._offer(event, level, None, priority=priority) is not None
        return is_held or super().publish_nowait(event, priority, level)

    def admit_one(
        self, event: Any, priority: bool = False, level: str | None = None, *, is_caused: bool = False
    ) -> Any:
        """Hold what a thread has published against the record."""
        is_held = self._offer(event, level, None, priority=priority) is not None
        return is_held or super().admit_one(event, priority, level, is_caused=is_caused)

    async def publish_many(self, events: Any, priority: bool = False) -> int:
        """Hold each against the record; they are admitted when it is the turn of the last."""
        given = list(events)
        turns = [self._offer(event, None, None, priority=priority) for event in given]
        for event, turn in zip(given, turns, strict=True):
            if turn is None:
                await super().publish(event, priority)
            elif not await self._wait(event, turn):
                return given.index(event)
        return len(given)

    async def _wait(self, event: Any, turn: "asyncio.Future[bool]") -> bool:
        """Wait for a turn, unless what is published waits for something itself: the start, or an outbox."""
        if not self._bus.running or outbox_of(self._bus) is not None:
            return True
        try:
            accepted = await turn
            if self._is_cut_here(event.event_id):
                await asyncio.get_running_loop().create_future()
            return accepted  # noqa: TRY300 - it stands beside what is waited for
        except asyncio.CancelledError:
            self._script.withdraw(event.event_id)
            raise

    def _is_cut_here(self, event_id: str) -> bool:
        """Whether the current call is to be ended from outside, and had published nothing after this."""
        who = current.get()
        cause = None if who is None else who.cause()
        if who is None or cause is None:
            return False
        return self._script.is_last_of_a_cut_call(who.subscription, cause.event_id, event_id)

    def _offer(
        self, event: Any, level: str | None, vote: Vote | None, *, priority: bool = False
    ) -> "asyncio.Future[bool] | None":
        """Return the future of its turn; None: it is not held against the record."""
        self.check_thread("publish")
        survives = self._durable.level(self.access.check(event), level)
        script = self._script
        if not (survives or script.knows(event.event_id) or script.day.is_taped):
            return None
        try:
            encode(event)
        except OpenOutcryError:
            if survives:
                raise  # as on the day
            return None
        if script.is_repeated(event.event_id):
            return None
        stamp_cause(self._bus, event)
        if vote is not None:
            vote.prepare()
        who = current.get()
        if who is None or who.bus is not self._bus:
            return script.offer(event, None, None, votes=vote is not None)
        if vote is not None and script.is_silent(who.subscription):
            vote.defer()  # for ever
        cause = who.cause()
        cause_id = None if cause is None else cause.event_id
        return script.offer(
            event, who.subscription, cause_id, votes=vote is not None, priority=priority, level=level
        )

    async def let_in(self, entry: Entry, vote: Vote | None) -> bool:
        """Admit a recorded event, as it was on the day."""
        stored = entry.stored
        return await super().publish(entry.event, stored.lane == "high", stored.level.name.lower(), vote)

    async def let_in_new(self, event: Any, priority: bool, level: str | None, vote: Vote | None) -> bool:
        """Admit an event that is not as recorded."""
        return await super().publish(event, priority, level, vote)


class PlayedRound(Round):
    """A round that ends as it did on the day, whoever answers it now.

    Attributes:
        past: The round on the day.
        said: Who has abstained this time.

    """

    __slots__ = ("_late_said", "_script", "past", "said")

    def __init__(
        self,
        past: PastRound,
        script: Script,
        terms: Terms,
        opened_ns: int,
        opened_wall_ns: int | None,
        recall: Recall | None,
    ) -> None:
        super().__init__(past.round_id, terms, opened_ns, opened_wall_ns, recall)
        self.past = past
        self.said: set[str] = set()
        self._late_said = [one for one in past.late if one.signal_id is None]
        self._script = script
        self._may_lack = -1  # answers alone release nothing
        released = past.released
        if self.outcome is None:
            self.due_ns = (
                NEVER_NS
                if released is None
                else max(opened_ns, past.at_ns + script.pace.lost_ns) + released.noticed_ns
            )

    def arrive(self, agent: str, signal: Any, now_ns: int) -> Verdict:
        """Take an opinion. One that counted on the day is not late now, and one that was late is."""
        outcome = self.outcome
        if outcome is not None and signal.event_id in outcome.heard:
            return Verdict.COUNTED
        late = self.past.late_signal(signal.event_id)
        return super().arrive(agent, signal, now_ns if late is None else self._late_at_ns(late, now_ns))

    def abstain(self, agent: str, reason: str, now_ns: int) -> Verdict:
        """Take an answer without an opinion, likewise."""
        return self._play_abstention(agent, reason, now_ns, self._late_abstention(agent, reason))

    def _play_abstention(self, agent: str, reason: str, now_ns: int, late: RoundLate | None) -> Verdict:
        """Take an abstention, given its record if it was late on the day."""
        self.said.add(agent)
        if late is not None:
            return super().abstain(agent, reason, self._late_at_ns(late, now_ns))
        outcome = self.outcome
        if outcome is not None and agent in outcome.abstained:
            return Verdict.COUNTED
        return super().abstain(agent, reason, now_ns)

    def _late_abstention(self, agent: str, reason: str) -> RoundLate | None:
        """Return the record of an abstention, if it was late on the day; each is found once."""
        released = self.past.released
        if released is not None and agent in released.abstained_ns and agent not in self.said:
            return None  # its first was in time
        for late in self._late_said:
            if (late.agent, late.reason) == (agent, reason):
                self._late_said.remove(late)
                return late
        return None

    def _late_at_ns(self, late: RoundLate, now_ns: int) -> int:
        """End the round, as an answer comes that was late on the day; return when that came."""
        self._end()
        return now_ns if self.outcome is None else self.outcome.released_ns + late.late_ns

    def _end(self) -> None:
        """The round has the outcome of the day, where that is known."""
        released = self.past.released
        if self.outcome is None and released is not None:
            self.due_ns = NEVER_NS
            self.outcome = outcome_again(self, released, self._script.day)

    def tick(self, now_ns: int) -> RoundOutcome | None:
        """Let time pass: when it is time, the round has the outcome of the day."""
        if now_ns >= self.due_ns:
            self._end()
        return self.outcome

    def close(self, reason: str, now_ns: int) -> RoundOutcome:
        """End the round: as on the day, where that is known."""
        self._end()
        return super().close(reason, now_ns)


class _Collecting(Round):
    """A round that only collects: the record says how it ended."""

    __slots__ = ()

    def __init__(self, opened: Round) -> None:
        super().__init__(opened.round_id, opened.terms, opened.opened_ns, opened.opened_wall_ns)
        self._may_lack, self.due_ns = -1, NEVER_NS


def outcome_again(opened: Round, released: RoundReleased, day: Day) -> RoundOutcome:
    """Return the outcome that a record tells of, from the opening of a round."""
    opened_ns, again = opened.opened_ns, _Collecting(opened)
    for agent, after_ns in released.abstained_ns.items():
        again.abstain(agent, released.abstained.get(agent, ""), opened_ns + after_ns)
    for vote in released.votes:
        entry = day.by_id.get(vote.signal_id)
        if entry is not None:
            again.arrive(vote.agent, entry.event, opened_ns + vote.after_ns)
    outcome = again.close(released.reason, opened_ns + released.took_ns)
    outcome.status, outcome.valid, outcome.reason = Status(released.status), released.valid, released.reason
    outcome.noticed_ns = opened_ns + released.noticed_ns
    outcome.missing = frozenset(released.missing)
    outcome.abstained = dict(released.abstained)
    outcome.heartbeats = {agent: opened_ns + after_ns for agent, after_ns in released.heartbeats.items()}
    outcome.strangers, outcome.let_go = dict(released.strangers), dict(released.let_go)
    outcome.stand_ins = tuple(
        StandIn(one.agent, one.symbol, day.by_id[one.signal_id].event, one.age_ns, one.round_id)
        for one in released.stand_ins
        if one.signal_id in day.by_id
    )
    return outcome
