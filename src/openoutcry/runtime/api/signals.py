"""Signals: the part of the bus's face that deals with the barrier."""

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from openoutcry.core.outcome import RoundOutcome
from openoutcry.errors import InvalidEvent, SignalRefused
from openoutcry.runtime.delivery.causation import current
from openoutcry.runtime.rounds.barriers import SignalBarrier, Verdict

if TYPE_CHECKING:
    from openoutcry.runtime.admission.gate import Admission
    from openoutcry.runtime.delivery.state import BusState
    from openoutcry.runtime.health.monitor import Monitor
    from openoutcry.runtime.rounds.rounds import Rounds


_SIGNAL_ATTRIBUTES = ("event_id", "event_type", "source_agent", "symbol", "round_id")


class SignalVote:
    """How the vote of a signal reaches its round: when the signal is released, and not before, and once."""

    __slots__ = ("_agent", "_asked_ns", "_is_over", "_rounds", "_signal")

    def __init__(self, rounds: "Rounds", signal: Any, agent: str, asked_ns: int | None) -> None:
        self._rounds = rounds
        self._signal = signal
        self._agent = agent
        self._asked_ns = asked_ns
        self._is_over = False

    def prepare(self) -> None:
        """Name the round in the signal, so that the journal has it."""
        self._rounds.name_round(self._signal, self._agent, self._asked_ns)

    def cast(self, _position: int = 0) -> None:
        """The signal is released: take it to its round."""
        self._is_over = True
        self._rounds.arrive(self._signal, self._agent, None, self._asked_ns)

    def defer(self) -> None:
        """The signal waits in an outbox: it counts when that is committed."""
        self._is_over = True

    def settle(self) -> None:
        """The signal was admitted: let it count, unless it has, or waits in an outbox."""
        if not self._is_over:
            self.cast()


class Signals:
    """Methods of the bus that deal with the barrier."""

    _admission: "Admission"
    _bus: "BusState"
    _monitor: "Monitor"
    _rounds: "Rounds"
    _signal_classes: set[type]

    def register_signal_agent(self, agent_name: str, critical: bool = False) -> None:
        """Expect an answer from this agent in every round opened from now on.

        Args:
            agent_name: What the agent's signals carry as `source_agent` (or `strategy_name`).
            critical: Without its answer no outcome is valid, whatever the quorum says.

        """
        self._admission.check_thread("register_signal_agent")
        self._rounds.register(agent_name, critical)

    async def publish_signal(self, signal: Any) -> None:
        """Publish a signal and count it in its round, both or neither.

        The round is the one that the signal names, or that of the event being handled, or the open round that
        expects the agent. A late signal is recorded as late in its own round and has no vote in another. A
        signal published before any round is open joins the next one, if that opens within `signal_timeout`. A
        duplicate has no second vote.

        Cancelled: either the signal was not published and has no vote, or both happened; publishing it again
        is safe.

        Raises:
            SignalRefused: There was no room; it was not delivered and has no vote.
            InvalidEvent: It is not a signal.
            BusClosed, NotAuthorised, WrongThread: As `publish`.

        """
        if signal.__class__ not in self._signal_classes:
            self._learn_signal_class(signal)
        rounds, fast_path = self._rounds, self._admission.fast_path
        agent = signal.source_agent
        if agent not in rounds.critical_by_agent:
            agent = self._agent_of(signal)
        vote = None
        if signal.__class__ in fast_path.durable:
            vote = SignalVote(rounds, signal, agent, self._asked_ns())
        admitted = fast_path.admit(signal, vote)
        if admitted is False:
            await self._admit_signal(signal, agent)
        elif admitted is True:
            rounds.arrive(signal, agent, None, self._asked_ns())
        else:
            await admitted.wait()

    def _asked_ns(self) -> int | None:
        """Return when the event being handled was admitted; None outside of handlers."""
        if not self._bus.tracker.calls:
            return None
        who = current.get()
        cause = None if who is None else who.cause()
        return None if cause is None else cause.asked_ns

    async def _admit_signal(self, signal: Any, agent: str) -> None:
        """Let in a signal that the fast path did not. A duplicate has no second vote."""
        admission = self._admission
        is_known = signal.event_id in admission.seen
        vote = SignalVote(self._rounds, signal, agent, self._asked_ns())
        try:
            accepted = await admission.publish(signal, vote=None if is_known else vote)
        except asyncio.CancelledError:
            is_in = not is_known and signal.event_id in admission.seen
            if is_in and not admission.is_pending(signal.event_id):
                # It was admitted whole before the cancellation came: then it votes as well.
                vote.settle()
            raise
        if not accepted:
            depth, capacity = admission.room.depth(), self._bus.pressure.capacity
            raise SignalRefused(
                f"the signal {signal.event_id} of {agent!r} was refused: {depth} of {capacity} wait "
                f"(refused so far: {dict(admission.refused)}); publish it again when there is room, or raise "
                "max_queue_size"
            )
        if not is_known:
            vote.settle()

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

    async def wait_for_signals(self, round_id: str | None = None) -> RoundOutcome:
        """Wait for a round's outcome: the signals as a dict by agent, and what came of the round.

        Without an id it is the oldest round that nobody waited for yet; if there is none, a round is opened.
        With nobody registered it returns at once, empty and not valid. Cancelling leaves the round as it was.

        Returns:
            The outcome. Look at `valid` before deciding on it; `explain()` says why it is what it is.

        Raises:
            UnknownRound: No round of that id is open or remembered.
            BusClosed: The bus is stopping or stopped, so no round can open.

        """
        self._admission.check_thread("wait_for_signals")
        return await self._rounds.wait(round_id)

    def open_round(
        self,
        round_id: str | None = None,
        roster: Iterable[str] | None = None,
        quorum: float | None = None,
        critical: Iterable[str] | None = None,
        signal_timeout: float | None = None,
        barrier_timeout: float | None = None,
    ) -> SignalBarrier:
        """Open a round; several may be open at once, one per symbol or offsets.

        Args:
            round_id: Its identity; by default a fresh one.
            roster: Who is expected; by default the registered agents.
            quorum: A count (int), or a share of the roster, rounded up (float); by default everybody.
            critical: Agents without whose answer the outcome is not valid; by default those registered as
                critical.
            signal_timeout: How long to hold out for everybody, in seconds; by default the bus's.
            barrier_timeout: The hard deadline, in seconds; by default the bus's.

        Raises:
            DuplicateRound: The id is taken.
            ConfigError: A setting is out of range.

        """
        self._admission.check_thread("open_round")
        return self._rounds.open(
            round_id,
            roster=roster,
            quorum=quorum,
            critical=critical,
            signal_timeout_s=signal_timeout,
            barrier_timeout_s=barrier_timeout,
        )

    def abstain(self, agent: str, reason: str = "", round_id: str | None = None) -> Verdict:
        """Answer a round without an opinion: counts toward the quorum, is handed to nobody as a signal.

        The round is found as that of a signal is: by the id, by the event being handled, by who is expected.

        Raises:
            UnknownRound: A round of the given id is neither open nor remembered.

        """
        self._admission.check_thread("abstain")
        who = current.get()
        cause = None if who is None else who.cause()
        if cause is None:
            return self._rounds.abstain(agent, reason, round_id)
        if round_id is None and cause.round_id is not None and self._rounds.knows(cause.round_id):
            round_id = cause.round_id
        return self._rounds.abstain(agent, reason, round_id, None, cause.asked_ns)

    def heartbeat(self, agent: str, lease_s: float | None = None) -> Verdict:
        """Note that an agent is alive. That is no answer.

        With `lease_s` the agent has a lease: from then on health misses it whenever it gives no sign of life
        for so many seconds. Later heartbeats renew the lease; 0 ends it.
        """
        self._admission.check_thread("heartbeat")
        self._monitor.renew(agent, lease_s)
        return self._rounds.heartbeat(agent)

    async def get_barrier_status(self) -> dict[str, Any]:
        """Return the state of the barrier, JSON-ready: agents, open rounds, recent outcomes, strays."""
        self._admission.check_thread("get_barrier_status")
        return self._rounds.get_status()
