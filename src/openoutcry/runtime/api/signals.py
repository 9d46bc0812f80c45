"""Publishing signals: a signal is accepted and counted in its round, both or neither.

Its vote goes through admission as a `Ballot` and ends in `Rounds.arrive`, which finds the round. On a bus
that is joined to other desks, an answer that names a round which is not open here is written with a mark that
it votes, and counts on the desk of that round.
"""

import asyncio
from collections.abc import Callable, Coroutine
from hashlib import blake2b
from typing import Any

from openoutcry.core.terms import check_answer
from openoutcry.errors import InvalidEvent, SignalRefused, UnknownRound
from openoutcry.events import RoundAbstained
from openoutcry.runtime.admission.access import check_id
from openoutcry.runtime.admission.gate import Admission
from openoutcry.runtime.delivery.causation import Cause, current
from openoutcry.runtime.delivery.state import BusState
from openoutcry.runtime.rounds.barriers import RoundOutcome, Verdict, check_round_id
from openoutcry.runtime.rounds.rounds import Ballot, Rounds

_SIGNAL_ATTRIBUTES = ("event_id", "event_type", "source_agent", "symbol", "round_id")


class Signals:
    """Publishes the signals of one bus, and finds the round of an answer.

    Attributes:
        publish: Publishes a signal and has it vote; see `EventBus.publish_signal`.

    """

    def __init__(
        self, bus: BusState, admission: Admission, rounds: Rounds, *, is_joined: bool = False
    ) -> None:
        self.publish: Callable[[Any], Coroutine[Any, Any, None]] = (
            self._publish_anywhere if is_joined else self._publish_here
        )
        self._is_joined = is_joined
        self._bus = bus
        self._admission = admission
        self._rounds = rounds
        self._signal_classes: set[type] = set()

    def register(self, agent: str, critical: bool) -> None:
        """Expect an answer of an agent; see `EventBus.register_signal_agent`."""
        self._admission.check_thread("register_signal_agent")
        self._rounds.register(agent, critical)

    async def wait(self, round_id: str | None) -> RoundOutcome:
        """Wait for the outcome of a round; see `EventBus.wait_for_signals`."""
        self._admission.check_thread("wait_for_signals")
        try:
            return await self._rounds.wait(round_id)
        except UnknownRound:
            self._note_unknown(round_id)
            raise

    async def _publish_anywhere(self, signal: Any) -> None:
        """Publish a signal that may answer a round of another desk."""
        if signal.__class__ not in self._signal_classes:
            self._learn_signal_class(signal)
        cause = _cause()
        round_id = signal.round_id or (None if cause is None else cause.round_id)
        if round_id is None or self._rounds.knows(round_id):
            await self._publish_here(signal)
        else:
            agent = self._rounds.agent_of(signal)
            await self._admit_signal(signal, agent, None if cause is None else cause.asked_ns, travels=True)

    async def _publish_here(self, signal: Any) -> None:
        if signal.__class__ not in self._signal_classes:
            self._learn_signal_class(signal)
        rounds, fast_path = self._rounds, self._admission.fast_path
        agent = signal.source_agent
        if agent not in rounds.critical_by_agent:
            agent = self._rounds.agent_of(signal)
        asked_ns = _asked_ns() if self._bus.tracker.calls else None
        vote = None
        if signal.__class__ in fast_path.durable:
            vote = Ballot(rounds, signal, agent, asked_ns)
        admitted = fast_path.admit(signal, vote)
        if admitted is False:
            await self._admit_signal(signal, agent, asked_ns)
        elif admitted is True:
            rounds.arrive(signal, agent, None, asked_ns)
        else:
            await admitted

    async def _admit_signal(
        self, signal: Any, agent: str, asked_ns: int | None, *, travels: bool = False
    ) -> None:
        """Admit a signal that the fast path did not take. A duplicate has no second vote.

        `travels`: it votes on another desk, so that it is journaled whatever the settings say.
        """
        admission = self._admission
        check_id(signal)
        is_known = signal.event_id in admission.seen
        ballot = Ballot(self._rounds, signal, agent, asked_ns, travels=travels)
        level = "process" if travels and not admission.level_of(signal) else None
        try:
            accepted = await admission.publish(signal, level=level, vote=None if is_known else ballot)
        except asyncio.CancelledError:
            is_in = not is_known and signal.event_id in admission.seen
            if is_in and not admission.slot.is_pending(signal.event_id):
                # It was admitted before the cancellation arrived, so its vote counts as well.
                ballot.settle()
            raise
        if not accepted:
            is_kept = signal.__class__ in admission.fast_path.durable
            _, depth = admission.room.met_by(signal, is_kept=is_kept)
            capacity = self._bus.pressure.capacity
            raise SignalRefused(
                f"the signal {signal.event_id} of {agent!r} was refused: {depth} of {capacity} wait "
                f"(refused so far: {dict(admission.refused)}); publish it again when there is room, or raise "
                "max_queue_size"
            )
        if not is_known:
            ballot.settle()

    def _learn_signal_class(self, signal: Any) -> None:
        lacks = [name for name in _SIGNAL_ATTRIBUTES if not hasattr(signal, name)]
        if lacks:
            raise InvalidEvent(
                f"{type(signal).__name__} is not a signal: it has no {', '.join(lacks)}; use SignalEvent, "
                "or give your class these attributes"
            )
        self._signal_classes.add(type(signal))

    def abstain(self, agent: str, reason: str, round_id: str | None) -> Verdict:
        """Answer a round without an opinion; see `EventBus.abstain`."""
        self._admission.check_thread("abstain")
        reason = check_answer(agent, reason)
        rounds, cause = self._rounds, _cause()
        asked_ns = None if cause is None else cause.asked_ns
        named = round_id
        if named is None and cause is not None and (self._is_joined or rounds.knows(cause.round_id or "")):
            named = cause.round_id
        if self._is_joined and named is not None and not rounds.knows(named):
            return self._abstain_elsewhere(agent, reason, named, cause)
        try:
            return rounds.abstain(agent, reason, named, None, asked_ns)
        except UnknownRound:
            self._note_unknown(named)
            raise

    def _note_unknown(self, round_id: str | None) -> None:
        """Note on the tape that there was no such round: what a handler does then is its answer to that."""
        if self._bus.noted is not None and round_id is not None:
            self._bus.noted.found_no_round(round_id)

    def _abstain_elsewhere(self, agent: str, reason: str, round_id: str, cause: Cause | None) -> Verdict:
        """Write an abstention for the desk of the round: with the next commit.

        In a handler its id follows from the cause, the agent and the round. It takes none of the ids that
        the handler's events are given in turn: when the call is repeated after a crash, the round may be
        open, or not yet, and they must have the same ids either way.
        """
        check_round_id(round_id)
        given: dict[str, Any] = {} if cause is None else {"event_id": _id_of(cause.event_id, agent, round_id)}
        answer = RoundAbstained(agent=agent, reason=reason, round_id=round_id, source_agent=agent, **given)
        self._admission.stage_vote(answer, Abstained(self._rounds, answer))
        return Verdict.ELSEWHERE


class Abstained:
    """The vote of an abstention on its way to the desk of its round: a `Vote`, as admission declares it."""

    travels = True

    def __init__(self, rounds: Rounds, answer: RoundAbstained) -> None:
        self._rounds = rounds
        self._answer = answer

    def prepare(self) -> None:
        """It names its round."""

    def cast(self, _position: int = 0) -> None:
        """It is released: should its round open here after all, it counts."""
        answer = self._answer
        self._rounds.abstain(answer.agent, answer.reason, answer.round_id)

    def defer(self) -> None:
        """It waits in an outbox."""


def _id_of(cause_id: str, agent: str, round_id: str) -> str:
    """Return the id of an abstention that a handler makes."""
    parts = f"{cause_id}\0abstained\0{agent}\0{round_id}"
    return blake2b(parts.encode("utf-8", "surrogatepass"), digest_size=13).hexdigest()


def _cause() -> Cause | None:
    """Return the event being handled, as a cause; None outside a handler."""
    who = current.get()
    return None if who is None else who.cause()


def _asked_ns() -> int | None:
    """Return when the event being handled was admitted; None outside a handler."""
    cause = _cause()
    return None if cause is None else cause.asked_ns
