"""The state machine of one round of the signal barrier. It is pure: time is passed in as `now_ns`.

A round waits for one answer from every agent on its roster. It holds out for all of them until
`signal_timeout`, from then on the quorum is enough, and at `barrier_timeout` it ends whatever it has:

```
              quorum met              signal_timeout
      OPEN ----------------> QUORATE ----------------> RELEASED (quorate)
       |                        |
       | signal_timeout         +-- all answered ----> RELEASED (complete)
       v         quorum met
   OVERTIME -----------------------------------------> RELEASED (quorate)
       |         all answered (also from OPEN)
       +---------------------------------------------> RELEASED (complete)
       |         barrier_timeout
       +---------------------------------------------> EXPIRED
```

The structure is h11's: the table below is the machine, what comes in is an `Input`, and the methods return
a `Verdict` for their caller to act on. A call that is not possible changes nothing.

The release depends on the quorum alone. A critical agent that is still missing does not keep the round open:
the rule "releases at the first instant at which it holds", so the round is released at `signal_timeout`, and
its outcome is not valid. Holding out for the critical agent would let one silent agent stretch every round to
its hard deadline, only to tell the waiter later what is known already. To wait longer for critical agents,
set a longer `signal_timeout`.

Time is checked before anything else: an answer at or after the instant of the release is late, even if a busy
loop held up the timer that should have noticed.
"""

from collections.abc import Callable, Iterable, Mapping
from enum import Enum, StrEnum
from typing import Any, Final

from openoutcry.core.early import Early
from openoutcry.core.outcome import LATE_MAX, Answer, RoundOutcome, StandIn, Status, find_stand_ins
from openoutcry.core.terms import Terms

NEVER_NS = 2**63 - 1
HEARD_MAX = 65_536
"""How many signals a round remembers before it forgets those that their agents have replaced."""
STRANGERS_MAX = 256
"""How many agents that are not on the roster a round remembers."""


class State(StrEnum):
    """Where a round stands."""

    __hash__ = str.__hash__  # the table is looked up on the hot path, and Enum hashes in Python

    OPEN = "open"
    """Holding out for everybody; the quorum is not met."""
    QUORATE = "quorate"
    """Holding out for everybody; the quorum is met."""
    OVERTIME = "overtime"
    """`signal_timeout` has passed without a quorum; the next answer that meets it releases."""
    RELEASED = "released"
    EXPIRED = "expired"


class Input(Enum):
    """What can happen to a round."""

    __hash__ = object.__hash__

    NOBODY_EXPECTED = "nobody is registered, so there is nobody to wait for"
    ALL_ANSWERED = "everybody has answered"
    QUORUM_MET = "the quorum was met after signal_timeout"
    SIGNAL_TIMEOUT = "signal_timeout passed with the quorum met"
    BARRIER_TIMEOUT = "barrier_timeout passed without the quorum"
    CLOSED = "the round was closed"


TRANSITIONS: Mapping[tuple[State, Input], tuple[State, Status | None]] = {
    (State.OPEN, Input.NOBODY_EXPECTED): (State.RELEASED, Status.EMPTY),
    (State.OPEN, Input.ALL_ANSWERED): (State.RELEASED, Status.COMPLETE),
    (State.OPEN, Input.QUORUM_MET): (State.QUORATE, None),
    (State.OPEN, Input.SIGNAL_TIMEOUT): (State.OVERTIME, None),
    (State.OPEN, Input.CLOSED): (State.EXPIRED, Status.EXPIRED),
    (State.QUORATE, Input.ALL_ANSWERED): (State.RELEASED, Status.COMPLETE),
    (State.QUORATE, Input.SIGNAL_TIMEOUT): (State.RELEASED, Status.QUORATE),
    (State.QUORATE, Input.CLOSED): (State.EXPIRED, Status.EXPIRED),
    (State.OVERTIME, Input.ALL_ANSWERED): (State.RELEASED, Status.COMPLETE),
    (State.OVERTIME, Input.QUORUM_MET): (State.RELEASED, Status.QUORATE),
    (State.OVERTIME, Input.BARRIER_TIMEOUT): (State.EXPIRED, Status.EXPIRED),
    (State.OVERTIME, Input.CLOSED): (State.EXPIRED, Status.EXPIRED),
}


class Verdict(Enum):
    """What became of an answer."""

    COUNTED = "the agent's first answer: it counts toward the quorum"
    FURTHER = "a further answer of that agent: its newest signal per symbol stands, or its newest reason"
    ALIVE = "a sign of life, which is not an answer"
    DUPLICATE = "this event was heard before and has no second vote"
    OPINION_STANDS = "an abstention does not take back an opinion"
    LATE = "the round had been released: recorded there as late"
    FOREIGN = "it belongs to another round"
    STRANGER = "the agent is not on the roster"
    EARLY = "no round expects the agent yet: it joins the next one that does, if that opens soon"
    STRAY = "no such round is known"
    ELSEWHERE = "the round is not open here: the answer goes to the other desks"

    @property
    def is_taken(self) -> bool:
        """Whether the answer is part of the round's outcome."""
        return self is _COUNTED or self is _FURTHER


# Reading a member from its Enum costs 100 ns in CPython 3.11; from the module, a tenth of that.
_COUNTED: Final = Verdict.COUNTED
_FURTHER: Final = Verdict.FURTHER
_OPEN: Final = State.OPEN
_QUORATE: Final = State.QUORATE
_ALL_ANSWERED: Final = Input.ALL_ANSWERED
_QUORUM_MET: Final = Input.QUORUM_MET
_COMPLETE: Final = Status.COMPLETE
_NOBODY: Final[frozenset[str]] = frozenset()

Recall = Callable[[], Iterable[RoundOutcome]]
"""Returns the outcomes of earlier rounds, newest first."""


class Round:
    """One round, from its opening to its one outcome.

    Times are readings of one monotonic clock and never decrease. Of a signal only `event_id`, `round_id` and
    `symbol` are read.

    Attributes:
        due_ns: When `tick` next has something to do.
        outcome: None until the release. Check it after every call.
        unheard: The agents on the roster that have given neither an opinion nor an abstention.

    """

    __slots__ = (
        "_abstained",
        "_abstained_ns",
        "_heard",
        "_heard_max",
        "_heartbeats",
        "_late_ids",
        "_let_go",
        "_may_lack",
        "_opinions",
        "_recall",
        "_strangers",
        "due_ns",
        "opened_ns",
        "opened_wall_ns",
        "outcome",
        "round_id",
        "state",
        "terms",
        "unheard",
    )

    def __init__(
        self,
        round_id: str,
        terms: Terms,
        opened_ns: int,
        opened_wall_ns: int | None = None,
        recall: Recall | None = None,
    ) -> None:
        self.round_id: str = round_id
        self.terms: Terms = terms
        self.opened_ns: int = opened_ns
        self.opened_wall_ns: int | None = opened_wall_ns
        self.state: State = _OPEN
        self.outcome: RoundOutcome | None = None
        self.due_ns: int = opened_ns + terms.signal_timeout_ns
        self._recall = recall
        self._may_lack = len(terms.roster) - terms.quorum_count
        self.unheard: set[str] = set(terms.roster)
        self._opinions = terms.blank.copy()  # a key for every agent: one look-up tells strangers from answers
        self._heard: dict[str, Answer] = {}
        self._heard_max = HEARD_MAX
        self._late_ids: set[str] = set()
        self._abstained: dict[str, str] = {}
        self._abstained_ns: dict[str, int] = {}
        self._heartbeats: dict[str, int] = {}
        self._strangers: dict[str, int] = {}
        self._let_go: dict[str, int] = {}
        if not terms.roster:
            self._step(Input.NOBODY_EXPECTED, opened_ns, opened_ns)

    # -- what comes in -------------------------------------------------------------------------------

    def arrive(self, agent: str, signal: Any, now_ns: int) -> Verdict:
        """Take an opinion. The newest to arrive wins, per agent and symbol."""
        if now_ns >= self.due_ns:
            self.tick(now_ns)
        opinions, heard = self._opinions, self._heard
        try:
            former = opinions[agent]
        except KeyError:
            return self._note_stranger(agent)
        event_id, round_id, symbol = signal.event_id, signal.round_id, signal.symbol
        if event_id in heard:
            return Verdict.DUPLICATE
        if round_id is not None and round_id != self.round_id:
            return Verdict.FOREIGN
        if self.outcome is not None:
            return self._note_late(self.outcome, agent, signal, now_ns)
        heard[event_id] = (agent, symbol, signal, now_ns)
        opinions[agent] = signal
        if former is not None:
            if len(heard) > self._heard_max:
                self._forget_superseded()
            return _FURTHER
        if self._abstained:
            self._abstained.pop(agent, None)
        unheard = self.unheard
        unheard.discard(agent)
        if len(unheard) <= self._may_lack:
            self._enough(now_ns)
        return _COUNTED

    def take_early(self, answers: Iterable[Early], now_ns: int) -> None:
        """Take all that came before the opening, and only then check whether it is enough."""
        may_lack, self._may_lack = self._may_lack, -1
        for early in answers:
            if early.signal is None:
                self.abstain(early.agent, early.reason, now_ns)
            else:
                self.arrive(early.agent, early.signal, now_ns)
        self._may_lack = may_lack
        if self.outcome is None and len(self.unheard) <= may_lack:
            self._enough(now_ns)

    def abstain(self, agent: str, reason: str, now_ns: int) -> Verdict:
        """Take an answer without an opinion. It counts toward the quorum and never takes back an opinion."""
        if now_ns >= self.due_ns:
            self.tick(now_ns)
        if agent not in self._opinions:
            return Verdict.STRANGER
        if self.outcome is not None:
            self.outcome.add_late(agent, None, reason, now_ns)
            return Verdict.LATE
        if self._opinions[agent] is not None:
            return Verdict.OPINION_STANDS
        known = agent in self._abstained
        self._abstained[agent] = reason
        if known:
            return Verdict.FURTHER
        self._abstained_ns[agent] = now_ns
        self.unheard.discard(agent)
        if len(self.unheard) <= self._may_lack:
            self._enough(now_ns)
        return Verdict.COUNTED

    def heartbeat(self, agent: str, now_ns: int) -> Verdict:
        """Note that an agent is alive, which is neither an opinion nor an abstention."""
        if now_ns >= self.due_ns:
            self.tick(now_ns)
        if agent not in self._opinions:
            return Verdict.STRANGER
        if self.outcome is not None:
            return Verdict.LATE
        self._heartbeats[agent] = now_ns
        return Verdict.ALIVE

    def note_let_go(self, subscription: str) -> None:
        """Note that a subscription has let go an event of this round; the outcome shows it."""
        self._let_go[subscription] = self._let_go.get(subscription, 0) + 1

    def tick(self, now_ns: int) -> RoundOutcome | None:
        """Let time pass: release the round if it is due, and return its outcome if it has one.

        A call before `due_ns` does nothing, so that a timer that fires early can simply be set again.
        """
        while now_ns >= self.due_ns:
            if self.state is State.OVERTIME:
                self._step(Input.BARRIER_TIMEOUT, self.due_ns, now_ns)
            else:
                self._step(Input.SIGNAL_TIMEOUT, self.due_ns, now_ns)
        return self.outcome

    def close(self, reason: str, now_ns: int) -> RoundOutcome:
        """End the round early, as expired for this reason, unless it has been released."""
        self.tick(now_ns)
        if self.outcome is None:
            self._step(Input.CLOSED, now_ns, now_ns, reason)
        assert self.outcome is not None
        return self.outcome

    # -- what can be seen ----------------------------------------------------------------------------

    def next_deadline_ns(self) -> int | None:
        """Return when `tick` must be called next, or None after the release."""
        return None if self.outcome is not None else self.due_ns

    @property
    def opinions(self) -> dict[str, Any]:
        """Each agent's newest signal so far, as a copy."""
        return {agent: signal for agent, signal in self._opinions.items() if signal is not None}

    @property
    def answers_count(self) -> int:
        """How many agents of the roster have answered, by an opinion or an abstention."""
        return len(self._opinions) - len(self.unheard)

    @property
    def missing(self) -> frozenset[str]:
        """The agents on the roster that have not answered."""
        return frozenset(self.unheard)

    def expects(self, agent: str) -> bool:
        """Return True if an agent is on the roster and has given neither an opinion nor an abstention."""
        return agent in self.unheard

    # -- the machine ---------------------------------------------------------------------------------

    def _enough(self, now_ns: int) -> None:
        """Another agent has answered, and the quorum is met."""
        if not self.unheard:
            self._step(_ALL_ANSWERED, now_ns, now_ns)
        elif self.state is not _QUORATE:
            self._step(_QUORUM_MET, now_ns, now_ns)

    def _step(self, happened: Input, at_ns: int, noticed_ns: int, reason: str | None = None) -> None:
        self.state, status = TRANSITIONS[self.state, happened]
        if status is not None:
            self._release(status, at_ns, noticed_ns, reason or happened._value_)
        elif self.state is State.OVERTIME:
            self.due_ns = self.opened_ns + self.terms.barrier_timeout_ns

    def _release(self, status: Status, released_ns: int, noticed_ns: int, reason: str) -> None:
        """Make the outcome attribute by attribute: keyword arguments to a class cost 2 us in CPython 3.11."""
        self.due_ns = NEVER_NS
        terms = self.terms
        all_opined = status is _COMPLETE and not self._abstained
        outcome = RoundOutcome(self._opinions if all_opined else self.opinions)
        outcome.round_id = self.round_id
        outcome.status = status
        outcome.terms = terms
        outcome.reason = reason
        outcome.opened_ns = self.opened_ns
        outcome.opened_wall_ns = self.opened_wall_ns
        outcome.released_ns = released_ns
        outcome.noticed_ns = noticed_ns
        outcome.heard = self._heard
        outcome.abstained = self._abstained
        outcome.abstained_ns = self._abstained_ns
        outcome.heartbeats = self._heartbeats
        outcome.strangers = self._strangers
        outcome.let_go = self._let_go
        outcome.late = []
        outcome.late_count = 0
        if status is _COMPLETE:
            outcome.missing, outcome.stand_ins, outcome.valid = _NOBODY, (), True
        else:
            outcome.missing = missing = self.missing
            outcome.stand_ins = self._find_stand_ins(missing, released_ns)
            outcome.valid = status is Status.QUORATE and terms.critical.isdisjoint(missing)
        self.outcome = outcome

    def _find_stand_ins(self, missing: frozenset[str], at_ns: int) -> tuple[StandIn, ...]:
        max_age_ns = self.terms.stand_in_max_age_ns
        if max_age_ns is None or self._recall is None or not missing:
            return ()
        return find_stand_ins(missing, self._recall(), at_ns, max_age_ns)

    def _forget_superseded(self) -> None:
        """Keep the signals that stand, in the order of arrival, and forget those that were replaced."""
        newest = {(agent, symbol): event_id for event_id, (agent, symbol, _, _) in self._heard.items()}
        self._heard = {event_id: self._heard[event_id] for event_id in newest.values()}
        self._heard_max = max(HEARD_MAX, 2 * len(self._heard))

    def _note_late(self, outcome: RoundOutcome, agent: str, signal: Any, now_ns: int) -> Verdict:
        if signal.event_id in self._late_ids:
            return Verdict.DUPLICATE
        if len(self._late_ids) < LATE_MAX:
            self._late_ids.add(signal.event_id)
        outcome.add_late(agent, signal, None, now_ns)
        return Verdict.LATE

    def _note_stranger(self, agent: str) -> Verdict:
        known = self._strangers.get(agent)
        if known is not None or len(self._strangers) < STRANGERS_MAX:
            self._strangers[agent] = (known or 0) + 1
        return Verdict.STRANGER
