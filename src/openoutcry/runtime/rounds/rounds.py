"""The rounds of a bus: which are open, which signal belongs to which, and how the recent ones ended."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, Final, NamedTuple, Protocol

from openoutcry.clocks import clock_of_loop
from openoutcry.core.barrier import NEVER_NS, Round, Verdict
from openoutcry.core.early import Early, EarlySignals, NamedAnswers, belongs_to, same_cause
from openoutcry.core.outcome import RoundOutcome, Status
from openoutcry.errors import BusClosed, DuplicateRound, InvalidEvent, UnknownRound
from openoutcry.events import stamp_round
from openoutcry.ports import Clock
from openoutcry.printable import unwritable
from openoutcry.runtime.ownership import Ownership
from openoutcry.runtime.rounds.agents import Agents
from openoutcry.runtime.rounds.barriers import SignalBarrier, check_round_id, new_round_id
from openoutcry.runtime.rounds.timer import DeadlineTimer
from openoutcry.units import NS_PER_S

EARLY_MAX = 16_384
"""How many answers may wait for their round."""

_AS_USUAL: Final = (None, None, None, None, None)
RECENT_MAX = 256
"""How many released rounds are remembered."""
UNCLAIMED_MAX = 4_096
"""How many are remembered for as long as nobody has waited for them."""


class Stray(NamedTuple):
    """A signal that belongs to no known round. It votes nowhere."""

    agent: str
    round_id: str | None
    event_id: str
    symbol: str


class Totals(NamedTuple):
    """How many rounds there are, and have been."""

    open: int
    released: dict[str, int]
    """How many have ended, by status."""
    late: int
    """How many answers came after the release of their round."""
    invalid: int
    """How many ended without a valid outcome."""
    number: int
    """The number of the newest one released."""


class RoundLog(Protocol):
    """Where it is noted what becomes of rounds. It must not raise, nor wait."""

    def opened(self, opened: Round, *, has_fresh_id: bool) -> None:
        """A round was opened; `has_fresh_id`: under an id that was made for it."""
        ...

    def released(self, outcome: RoundOutcome, /) -> None:
        """A round has its outcome."""
        ...

    def late(self, outcome: RoundOutcome) -> None:
        """An answer came after the release: the last one that the outcome counts."""
        ...


class Released:
    """Released rounds by id, in the order of their release.

    Attributes:
        by_id: The barriers. Only `add` writes to it.
        newest_ns: When the last one was released; 0 before the first.
        number: That of the newest: how many have been released in all.

    """

    def __init__(self) -> None:
        self.by_id: dict[str, SignalBarrier] = {}
        self._numbers: dict[str, int] = {}
        self.newest_ns: int = 0
        self.number: int = 0

    def add(self, barrier: SignalBarrier, outcome: RoundOutcome) -> None:
        """Remember a round; if there are too many, forget one that was waited for, or else the oldest."""
        by_id = self.by_id
        by_id[outcome.round_id] = barrier
        self.number += 1
        self._numbers[outcome.round_id] = self.number
        self.newest_ns = max(self.newest_ns, outcome.released_ns)
        if len(by_id) > RECENT_MAX:
            oldest = next((name for name, b in by_id.items() if b.is_awaited), None)
            if oldest is None and len(by_id) > UNCLAIMED_MAX:
                oldest = next(iter(by_id))
            if oldest is not None:
                del by_id[oldest], self._numbers[oldest]

    def since(self, number: int, most: int) -> list[tuple[int, RoundOutcome]]:
        """Return the next `most` outcomes behind a number with theirs, oldest first, as far as remembered."""
        found: list[tuple[int, RoundOutcome]] = []
        for outcome in self.outcomes():
            its = self._numbers[outcome.round_id]
            if its <= number:
                break
            found.append((its, outcome))
        return found[: -most - 1 : -1]

    def outcomes(self) -> Iterator[RoundOutcome]:
        """Iterate over the outcomes, newest first."""
        for barrier in reversed(self.by_id.values()):
            outcome = barrier.round.outcome
            if outcome is not None:
                yield outcome

    def owed(self, agent: str, signal: Any, now_ns: int) -> SignalBarrier | None:
        """Return the last round that expected an agent, if an answer that names no round is late there."""
        for outcome in self.outcomes():
            if agent in outcome.roster:
                is_owed = belongs_to(outcome, agent, signal, now_ns)
                return self.by_id[outcome.round_id] if is_owed else None
        return None

    def asked_in(self, agent: str, signal: Any, asked_ns: int, opened_ns: int) -> SignalBarrier | None:
        """Return the round for which an answer to an event admitted at `asked_ns` is late.

        It is the first one released after that and before the current round opened (at `opened_ns`), in which
        the agent is missing or was answered by it while handling the same event.
        """
        found = None
        for outcome in self.outcomes():
            if outcome.noticed_ns <= asked_ns:
                break  # and those before it were noticed, and so released, no later
            is_between = asked_ns < outcome.released_ns <= opened_ns and agent in outcome.roster
            if is_between and (agent in outcome.missing or same_cause(outcome, agent, signal)):
                found = self.by_id[outcome.round_id]
        return found


class Rounds:
    """Opens rounds, finds the round of a signal, remembers the newest `RECENT_MAX` that were released.

    Args:
        signal_timeout_s: How long a round waits for everybody, in seconds, unless it asks for another.
        barrier_timeout_s: Its hard deadline, likewise.
        quorum: Its quorum, likewise: a count (int), a share of the roster (float), or None for everybody.
        stand_in_max_age_s: How old a signal may be to be shown in `outcome.stand_ins` for a missing agent, in
            seconds; None for no stand-ins.
        clock: By default that of the loop on which it is first used.
        log: Where it is noted what becomes of rounds; None: nowhere.
        ownership: Says where the barriers of these rounds may be called; by default anywhere.
        new_round: Makes the state machine of a round, as `Round` does.

    Raises:
        ConfigError: A setting is out of range.

    Attributes:
        critical_by_agent: Who is registered, and whether as critical. Only `register` writes to it.

    """

    def __init__(
        self,
        *,
        signal_timeout_s: float = 5.0,
        barrier_timeout_s: float = 10.0,
        quorum: float | None = None,
        stand_in_max_age_s: float | None = None,
        clock: Clock | None = None,
        log: RoundLog | None = None,
        ownership: Ownership | None = None,
        new_round: Callable[..., Round] = Round,
    ) -> None:
        self._new_round = new_round
        self._agents = Agents(
            signal_timeout_s=signal_timeout_s,
            barrier_timeout_s=barrier_timeout_s,
            quorum=quorum,
            stand_in_max_age_s=stand_in_max_age_s,
        )
        self.critical_by_agent: dict[str, bool] = self._agents.critical_by_name
        self._clock = self._given_clock = clock
        self._read_ns: Callable[[], int] = self._first_reading
        self._log = log
        self._ownership = ownership or Ownership()
        self._alarm = DeadlineTimer(self._now_ns, self._ring)
        self._open: dict[str, SignalBarrier] = {}
        self._released = Released()
        self._unclaimed: deque[SignalBarrier] = deque(maxlen=UNCLAIMED_MAX)
        self._strays: deque[Stray] = deque(maxlen=RECENT_MAX)
        self._strays_count = 0
        self._early = EarlySignals(self._agents.signal_timeout_ns, EARLY_MAX)
        self._named: NamedAnswers | None = None
        self._heartbeats: dict[str, int] = {}
        self._ended_counts = dict.fromkeys(Status, 0)
        self._invalid_count = self._late_count = 0
        self._closed_because: str | None = None

    # -- who is expected -----------------------------------------------------------------------------

    def register(self, agent: str, critical: bool = False) -> None:
        """Expect an answer from this agent in every round opened from now on; open rounds stay as they are.

        Registering again changes nothing, except that it can make an agent critical: once critical, it stays
        so.
        """
        self._agents.register(agent, critical=critical)

    @property
    def agents(self) -> frozenset[str]:
        """Everybody who is registered."""
        return self._agents.registered

    @property
    def critical_agents(self) -> frozenset[str]:
        """Those whose answer every round needs in order to be valid."""
        return self._agents.critical

    # -- rounds --------------------------------------------------------------------------------------

    def open(
        self,
        round_id: str | None = None,
        *,
        roster: Iterable[str] | None = None,
        quorum: float | None = None,
        critical: Iterable[str] | None = None,
        signal_timeout_s: float | None = None,
        barrier_timeout_s: float | None = None,
        now_ns: int | None = None,
    ) -> SignalBarrier:
        """Open a round. Whatever is `None` is as usual: a fresh id, the registered agents, the settings.

        With a `roster` of its own, the critical agents are the registered ones on it; `critical` names others
        of the roster. A usual `signal_timeout` longer than the round's own
        `barrier_timeout` is cut to it. For a quorum of everybody where another one is usual, pass `1.0`.

        Raises `DuplicateRound` if the id belongs to an open or remembered round, `ConfigError` for settings
        out of range, `BusClosed` after `close_all`. Nothing has changed then.
        """
        if self._closed_because is not None:
            raise BusClosed(f"no round opens any more: {self._closed_because}")
        is_fresh = round_id is None
        round_id = new_round_id() if round_id is None else check_round_id(round_id)
        if self.knows(round_id):
            state = "open" if round_id in self._open else "remembered"
            raise DuplicateRound(f"round {round_id!r} is {state}: find it, or open one under another id")
        own = (roster, quorum, critical, signal_timeout_s, barrier_timeout_s)
        terms = self._agents.usual_terms() if own == _AS_USUAL else self._agents.terms(*own)
        opened_ns = self._read_ns() if now_ns is None else now_ns
        clock = self._clock or self._find_clock()
        opened = self._new_round(round_id, terms, opened_ns, clock.wall_ns(), self._released.outcomes)
        barrier = SignalBarrier.over(opened, clock, self._alarm, self, self._ownership)
        self._open[round_id] = barrier
        self._unclaimed.append(barrier)
        if self._log is not None:
            self._log.opened(opened, has_fresh_id=is_fresh)
        if opened.outcome is None:
            self._alarm.by(opened.due_ns)
        else:
            barrier.settle()
        if self._early:
            self._let_in(barrier, opened_ns)
        if self._named:
            barrier.round.take_early(self._named.take(round_id), opened_ns)
            barrier.settle()
        return barrier

    def find(self, round_id: str) -> SignalBarrier:
        """Return the open or remembered round of this id, or raise `UnknownRound`."""
        barrier = self._known(round_id)
        if barrier is None:
            raise unknown_round(round_id)
        return barrier

    def _known(self, round_id: str) -> SignalBarrier | None:
        return self._open.get(round_id) or self._released.by_id.get(round_id)

    def knows(self, round_id: str) -> bool:
        """Whether a round of this id is open or remembered."""
        return round_id in self._open or round_id in self._released.by_id

    def note_let_go(self, round_id: str, subscription: str) -> None:
        """Note that a subscription has let go an event of a round, if that is open or remembered."""
        barrier = self._known(round_id)
        if barrier is not None:
            barrier.round.note_let_go(subscription)

    def round_for(
        self, agent: str, signal: Any = None, now_ns: int | None = None, asked_ns: int | None = None
    ) -> SignalBarrier | None:
        """Return the round that an agent's signal belongs to if it names none; None if there is none.

        It is the oldest open round that expects the agent and has not heard from it: rounds are answered in
        the order in which they were opened. If the agent has answered them all, it is the newest of them: the
        signal is a further one there, or replaces an earlier one. An answer to an event that was admitted
        at `asked_ns`, before the last release, may be late instead: then it is the round that missed it.
        """
        now_ns = self._read_ns() if now_ns is None else now_ns
        if now_ns >= self._alarm.due_ns:
            self._alarm.look(now_ns)
        found = None
        for barrier in self._open.values():
            if agent in barrier.round.unheard:
                found = barrier
                break
            if agent in barrier.round.terms.roster:
                found = barrier
        if asked_ns is None or asked_ns >= self._released.newest_ns:
            return found
        opened_ns = now_ns if found is None else found.round.opened_ns
        return self._released.asked_in(agent, signal, asked_ns, opened_ns) or found

    def to_wait_for(self) -> SignalBarrier:
        """Return the round for a waiter that names none; opens one if there is nothing to wait for.

        It is the oldest round that nobody has waited for, even if it was released in the meantime, so that no
        outcome is lost when the answers are quicker than the waiter; else the oldest open round. Two waiters
        that both want every round must name the rounds they wait for.
        """
        now_ns = self._read_ns()
        if now_ns >= self._alarm.due_ns:
            self._alarm.look(now_ns)
        unclaimed = self._unclaimed
        while unclaimed and unclaimed[0].is_awaited:
            unclaimed.popleft()
        if unclaimed:
            return unclaimed[0]
        oldest = next(iter(self._open.values()), None)
        return self.open(now_ns=now_ns) if oldest is None else oldest

    async def wait(self, round_id: str | None = None) -> RoundOutcome:
        """Wait for the outcome of the round of this id, or of `to_wait_for`. Raises `UnknownRound`.

        Cancelling leaves the round as it was; a cancelled wait does not count as one.
        """
        barrier = self.to_wait_for() if round_id is None else self.find(round_id)
        return await barrier.wait()

    def reopen(self) -> None:
        """Allow rounds again after `close_all`: the bus was restarted, perhaps on another loop."""
        if self._closed_because is not None:
            self._closed_because = None
            self._clock = self._given_clock
            self._read_ns = self._first_reading
            self._alarm = DeadlineTimer(self._now_ns, self._ring)
        else:
            self._alarm.move_here()

    def close_all(self, reason: str = "the bus stopped") -> None:
        """End every open round as expired, which wakes its waiters, and open no more. May be repeated."""
        self._closed_because = self._closed_because or reason
        for barrier in list(self._open.values()):
            barrier.round.close(reason, self._read_ns())
            barrier.settle()
        self._alarm.cancel()
        self._add_strays(self._early.clear())

    # -- answers -------------------------------------------------------------------------------------

    def arrive(
        self, signal: Any, agent: str, now_ns: int | None = None, asked_ns: int | None = None
    ) -> Verdict:
        """Take an accepted signal to its round, and return what became of it. Never raises, never opens one.

        A signal with a `round_id` goes to that round, whether open or released; if no such round is known, it
        is a stray. A signal without one

        - is late in a round that the agent missed, if it answers an event (admitted at `asked_ns`) that came
          before that round's release;
        - else goes to `round_for(agent)`;
        - else is late in the last round that expected the agent: if the agent missed that round, once and
          within `barrier_timeout` of the release, or if it comes from the same handler call as the agent's
          answer there;
        - else is early, if the agent is registered: it joins the next round that expects the agent, if that
          opens within `signal_timeout`;
        - else is a stranger's in the oldest open round.
        """
        round_id = signal.round_id
        now_ns = self._read_ns() if now_ns is None else now_ns
        if round_id is None:
            barrier = self.round_for(agent, signal, now_ns, asked_ns)
            if barrier is None:
                return self._arrive_alone(signal, agent, now_ns)
            stamp_round(signal, barrier.round.round_id)
        else:
            barrier = self._known(round_id)
            if barrier is None:
                return self._name_unknown(round_id, Early(agent, signal, now_ns))
        verdict = barrier.round.arrive(agent, signal, now_ns)
        if barrier.round.outcome is not None:
            barrier.settle(verdict)
        return verdict

    def join_desks(self) -> None:
        """Keep answers to rounds that are not open here: their desk has them, or they open here later."""
        self._named = self._named or NamedAnswers(EARLY_MAX)

    def _name_unknown(self, round_id: str, answer: Early) -> Verdict:
        """Take an answer that names a round which is not known here."""
        if self._named is None:
            if answer.signal is None:
                raise unknown_round(round_id)
            self._add_strays([answer])
            return Verdict.STRAY
        self._named.keep(round_id, answer)
        return Verdict.ELSEWHERE

    def arrive_in(self, round_id: str, signal: Any, agent: str) -> Verdict:
        """Take an answer that another desk has recorded for the round of this id, which may open later."""
        now_ns = self._read_ns()
        barrier = self._known(round_id)
        if barrier is None:
            return self._name_unknown(round_id, Early(agent, signal, now_ns))
        return barrier.arrive(agent, signal, now_ns)

    def agent_of(self, signal: Any) -> str:
        """Return whose signal it is: its `source_agent`, or its strategy. Raises `InvalidEvent`."""
        agent: Any = getattr(signal, "source_agent", "")
        if agent and agent in self.critical_by_agent:
            return str(agent)
        strategy: Any = getattr(signal, "strategy_name", "")
        if strategy and (not agent or strategy in self.critical_by_agent):
            agent = strategy
        if not isinstance(agent, str) or not agent:
            raise InvalidEvent(
                f"{type(signal).__name__} names no agent: give it a source_agent (or strategy_name)"
            )
        if problem := unwritable(agent):
            raise InvalidEvent(f"{type(signal).__name__} names the agent {agent!r}: {problem}; correct it")
        return agent

    def name_round(self, signal: Any, agent: str, asked_ns: int | None = None) -> None:
        """Stamp a signal that names no round with the one that it would go to now, for the journal."""
        if signal.round_id is None:
            barrier = self.round_for(agent, signal, None, asked_ns)
            if barrier is not None:
                stamp_round(signal, barrier.round.round_id)

    def _arrive_alone(self, signal: Any, agent: str, now_ns: int) -> Verdict:
        """Take a signal that names no round and is expected by no open one."""
        barrier = self._released.owed(agent, signal, now_ns)
        if barrier is None and self._may_be_early(agent):
            self._add_strays(self._early.keep(agent, signal, now_ns))
            return Verdict.EARLY
        barrier = barrier or next(iter(self._open.values()), None)
        if barrier is None:
            self._add_strays([Early(agent, signal, 0)])
            return Verdict.STRAY
        return barrier.arrive(agent, signal, now_ns)

    def _may_be_early(self, agent: str) -> bool:
        return agent in self.critical_by_agent and self._closed_because is None

    def abstain(
        self,
        agent: str,
        reason: str = "",
        round_id: str | None = None,
        now_ns: int | None = None,
        asked_ns: int | None = None,
    ) -> Verdict:
        """Answer without an opinion, in the round that a signal would go to. Raises `UnknownRound`."""
        now_ns = self._now_ns(now_ns)
        if round_id is not None:
            barrier = self._known(round_id)
            if barrier is None:
                return self._name_unknown(round_id, Early(agent, None, now_ns, reason))
            return barrier.abstain(agent, reason, now_ns)
        barrier = self.round_for(agent, None, now_ns, asked_ns)
        barrier = barrier or self._released.owed(agent, None, now_ns)
        if barrier is not None:
            return barrier.abstain(agent, reason, now_ns)
        if self._may_be_early(agent):
            self._add_strays(self._early.keep_abstention(agent, reason, now_ns))
            return Verdict.EARLY
        return Verdict.STRAY

    def heartbeat(self, agent: str, now_ns: int | None = None) -> Verdict:
        """Note in every open round that expects an agent that it is alive. That is not an answer."""
        at_ns = self._now_ns(now_ns)
        verdict = Verdict.STRANGER
        if agent in self.critical_by_agent:
            self._heartbeats[agent] = at_ns
            verdict = Verdict.ALIVE
        for barrier in list(self._open.values()):
            if barrier.heartbeat(agent, at_ns) is Verdict.ALIVE:
                verdict = Verdict.ALIVE
        return verdict

    @property
    def totals(self) -> "Totals":
        """How many rounds are open, and what has become of the others. Reading it changes nothing."""
        return Totals(
            open=len(self._open),
            released={str(status): count for status, count in self._ended_counts.items() if count},
            late=self._late_count,
            invalid=self._invalid_count,
            number=self._released.number,
        )

    def open_rounds(self, most: int) -> list[tuple[Round, bool]]:
        """Return the oldest open rounds, and whether somebody waits for each. It lets no time pass."""
        return [(barrier.round, barrier.is_awaited) for barrier in islice(self._open.values(), most)]

    def released_since(self, number: int, most: int) -> list[tuple[int, RoundOutcome]]:
        """Return the next `most` outcomes behind a number with theirs, oldest first, as far as remembered."""
        return self._released.since(number, most)

    def get_status(self) -> dict[str, Any]:
        """Return agents, open rounds, counts and strays, JSON-ready."""
        now_ns = self._now_ns()
        self._alarm.look(now_ns)
        return {
            "registered": sorted(self.agents),
            "critical": sorted(self.critical_agents),
            "heartbeats_age_s": {a: (now_ns - at_ns) / NS_PER_S for a, at_ns in self._heartbeats.items()},
            "open": [barrier.get_status() for barrier in self._open.values()],
            "released_counts": {str(status): count for status, count in self._ended_counts.items()},
            "invalid_count": self._invalid_count,
            "recent": [summary(o) for o in islice(self._released.outcomes(), RECENT_MAX)],
            "early_count": len(self._early),
            "strays": [stray._asdict() for stray in self._strays],
            "strays_count": self._strays_count,
        }

    def _now_ns(self, now_ns: int | None = None) -> int:
        return self._read_ns() if now_ns is None else now_ns

    def _first_reading(self) -> int:
        """Find the clock when it is first read: a bus is often made before its loop runs."""
        return self._find_clock().now_ns()

    def _find_clock(self) -> Clock:
        if self._clock is None:
            self._clock = clock_of_loop()
        self._read_ns = self._clock.now_ns
        return self._clock

    def _ring(self, now_ns: int) -> int:
        """Release what is due; return when to look again."""
        for barrier in list(self._open.values()):
            if now_ns >= barrier.round.due_ns:
                barrier.round.tick(now_ns)
                barrier.settle()
        return min((barrier.round.due_ns for barrier in self._open.values()), default=NEVER_NS)

    def _let_in(self, barrier: SignalBarrier, opened_ns: int) -> None:
        """Count the answers that came shortly before the round, as of its opening."""
        taken, left = self._early.take(barrier.roster, opened_ns)
        self._add_strays(left)
        barrier.round.take_early(taken, opened_ns)
        barrier.settle()

    def _add_strays(self, answers: Iterable[Early]) -> None:
        for early in answers:
            if early.signal is not None:
                self._strays_count += 1
                signal = early.signal
                self._strays.append(Stray(early.agent, signal.round_id, signal.event_id, signal.symbol))

    def released(self, outcome: RoundOutcome) -> None:
        """Move a released round to the remembered ones. Called by its barrier."""
        self._released.add(self._open.pop(outcome.round_id), outcome)
        self._ended_counts[outcome.status] += 1
        self._invalid_count += not outcome.valid
        if self._log is not None:
            self._log.released(outcome)

    def late(self, outcome: RoundOutcome) -> None:
        """Note an answer that came too late. Called by its barrier."""
        self._late_count += 1
        if self._log is not None:
            self._log.late(outcome)


class Ballot:
    """The vote of one signal on its way through admission: cast when the signal is released, and once.

    ```
      prepare ──▶ journal ──▶ cast                     a durable signal votes when it is released
                     └──▶ defer ──▶ outbox ──▶ cast    one of an outbox, when that is committed
      settle                                           any other, as soon as it is admitted
    ```

    It is the `Vote` that admission declares: admission knows these four calls, and no rounds.

    Args:
        rounds: Where it is cast.
        signal: The signal.
        agent: Whose it is.
        asked_ns: When the event that it answers was admitted; None if it answers none.
        travels: Whether its round is on another desk, so that the journal is to say that it votes.

    """

    __slots__ = ("_agent", "_asked_ns", "_is_over", "_rounds", "_signal", "travels")

    def __init__(
        self, rounds: Rounds, signal: Any, agent: str, asked_ns: int | None, *, travels: bool = False
    ) -> None:
        self._rounds = rounds
        self._signal = signal
        self._agent = agent
        self._asked_ns = asked_ns
        self._is_over = False
        self.travels: bool = travels

    def prepare(self) -> None:
        """The signal is about to be written: name its round in it, so that the journal has it."""
        self._rounds.name_round(self._signal, self._agent, self._asked_ns)

    def cast(self, _position: int = 0) -> None:
        """The signal is released: take it to its round."""
        self._is_over = True
        self._rounds.arrive(self._signal, self._agent, None, self._asked_ns)

    def defer(self) -> None:
        """The signal waits in an outbox: `cast` is called when that is committed."""
        self._is_over = True

    def settle(self) -> None:
        """The signal was admitted: cast the vote, unless it was cast or deferred."""
        if not self._is_over:
            self.cast()


def unknown_round(round_id: str) -> UnknownRound:
    """Return the error for a round that is not known."""
    return UnknownRound(
        f"round {round_id!r} is neither open nor among the last {RECENT_MAX} released; "
        "wait for a round soon after opening it"
    )


def summary(outcome: RoundOutcome) -> dict[str, Any]:
    """Return an outcome in short, JSON-ready."""
    return {
        "round_id": outcome.round_id,
        "status": str(outcome.status),
        "valid": outcome.valid,
        "missing": sorted(outcome.missing),
        "late_count": outcome.late_count,
        "released_after_s": (outcome.released_ns - outcome.opened_ns) / NS_PER_S,
    }
