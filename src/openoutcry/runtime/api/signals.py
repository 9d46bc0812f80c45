"""Publishing signals: a signal is accepted and counted in its round, both or neither.

Its vote goes through admission as a `Ballot` and ends in `Rounds.arrive`, which finds the round.
"""

import asyncio
from typing import Any

from openoutcry.errors import InvalidEvent, SignalRefused
from openoutcry.runtime.admission.gate import Admission
from openoutcry.runtime.delivery.causation import current
from openoutcry.runtime.delivery.state import BusState
from openoutcry.runtime.rounds.barriers import RoundOutcome, Verdict
from openoutcry.runtime.rounds.rounds import Ballot, Rounds

_SIGNAL_ATTRIBUTES = ("event_id", "event_type", "source_agent", "symbol", "round_id")


class Signals:
    """Publishes the signals of one bus, and finds the round of an answer."""

    def __init__(self, bus: BusState, admission: Admission, rounds: Rounds) -> None:
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
        return await self._rounds.wait(round_id)

    async def publish(self, signal: Any) -> None:
        """Publish a signal and have it vote; see `EventBus.publish_signal`."""
        if signal.__class__ not in self._signal_classes:
            self._learn_signal_class(signal)
        rounds, fast_path = self._rounds, self._admission.fast_path
        agent = signal.source_agent
        if agent not in rounds.critical_by_agent:
            agent = self._agent_of(signal)
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

    async def _admit_signal(self, signal: Any, agent: str, asked_ns: int | None) -> None:
        """Admit a signal that the fast path did not take. A duplicate has no second vote."""
        admission = self._admission
        is_known = signal.event_id in admission.seen
        ballot = Ballot(self._rounds, signal, agent, asked_ns)
        try:
            accepted = await admission.publish(signal, vote=None if is_known else ballot)
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

    def _agent_of(self, signal: Any) -> str:
        agent: Any = getattr(signal, "source_agent", "")
        if agent and agent in self._rounds.critical_by_agent:
            return str(agent)
        strategy: Any = getattr(signal, "strategy_name", "")
        if strategy and (not agent or strategy in self._rounds.critical_by_agent):
            agent = strategy
        if not isinstance(agent, str) or not agent:
            raise InvalidEvent(
                f"{type(signal).__name__} names no agent: give it a source_agent (or strategy_name)"
            )
        return agent

    def abstain(self, agent: str, reason: str, round_id: str | None) -> Verdict:
        """Answer a round without an opinion; see `EventBus.abstain`."""
        self._admission.check_thread("abstain")
        who = current.get()
        cause = None if who is None else who.cause()
        if cause is None:
            return self._rounds.abstain(agent, reason, round_id)
        if round_id is None and cause.round_id is not None and self._rounds.knows(cause.round_id):
            round_id = cause.round_id
        return self._rounds.abstain(agent, reason, round_id, None, cause.asked_ns)


def _asked_ns() -> int | None:
    """Return when the event being handled was admitted; None outside a handler."""
    who = current.get()
    cause = None if who is None else who.cause()
    return None if cause is None else cause.asked_ns
