"""How a round of the signal barrier ended, and why."""

from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

from openoutcry.core.terms import Terms
from openoutcry.core.wording import listed, span, wall_label
from openoutcry.errors import InvalidEvent
from openoutcry.events.frozen import ReadOnlyDict

if TYPE_CHECKING:  # the state machine does not need it, and takes whatever has its attributes
    from openoutcry.trading.decisions import SignalEvent

LATE_MAX = 1024
"""How many late answers an outcome keeps; any more are only counted."""

Answer = tuple[str, str, "SignalEvent", int]
"""Agent, symbol, signal, and the monotonic instant at which it arrived."""


class Status(StrEnum):
    """How a round ended."""

    __hash__ = str.__hash__  # counted on the hot path, and Enum hashes in Python

    COMPLETE = "complete"
    """Everybody answered."""
    QUORATE = "quorate"
    """`signal_timeout` had passed and the quorum was met."""
    EXPIRED = "expired"
    """`barrier_timeout` passed, or the round was closed, before the rule held."""
    EMPTY = "empty"
    """Nobody was expected."""


class StandIn(NamedTuple):
    """A stale signal shown for a missing agent. It has no vote, and its confidence is unchanged."""

    agent: str
    symbol: str
    signal: "SignalEvent"
    age_ns: int
    """From the arrival of the signal to the release of the round that it stands in for."""
    round_id: str
    """The round in which the signal voted."""


class LateAnswer(NamedTuple):
    """An answer that came after the release of its round."""

    agent: str
    signal: "SignalEvent | None"
    """The signal, or `None` for an abstention."""
    reason: str | None
    """The reason of an abstention, or `None` for a signal."""
    late_ns: int
    """From the release to the arrival."""


class RoundOutcome(ReadOnlyDict[str, "SignalEvent"]):
    """The opinions of a round, each agent's newest signal under its name, and how the round ended.

    All waiters of a round share this one object, so the mapping is read-only; `dict(outcome)` is a copy that
    can be changed. Stand-ins, abstentions and late answers are attributes, never in the mapping. Check
    `valid` before acting: an outcome with signals in it may still lack the quorum or a critical agent. Only
    `Round` makes outcomes, and fills in their attributes.
    """

    __slots__ = (
        "abstained",
        "abstained_ns",
        "heard",
        "heartbeats",
        "late",
        "late_count",
        "let_go",
        "missing",
        "noticed_ns",
        "opened_ns",
        "opened_wall_ns",
        "reason",
        "released_ns",
        "round_id",
        "stand_ins",
        "status",
        "strangers",
        "terms",
        "valid",
    )

    _REFUSAL = "an outcome is shared by all who waited for its round: change a copy, dict(outcome)"

    round_id: str
    status: Status
    valid: bool
    """Whether a decision may be based on it: complete or quorate, and every critical agent has answered."""
    terms: Terms
    """What the round demanded: roster, critical agents, quorum, time-outs."""
    reason: str
    """Why it was released, in a few words."""
    opened_ns: int
    """On the monotonic clock, as the next two."""
    released_ns: int
    """The instant at which the rule held."""
    noticed_ns: int
    """The instant at which that was noticed: later than `released_ns` if the loop was busy."""
    opened_wall_ns: int | None
    """The wall time of the opening, in nanoseconds since 1970 (UTC). Only a label."""
    missing: frozenset[str]
    """Who was expected and gave neither an opinion nor an abstention."""
    heard: Mapping[str, Answer]
    """Every signal that was taken, by event id in order of arrival, including those replaced later."""
    abstained: dict[str, str]
    """Reasons by agent."""
    abstained_ns: dict[str, int]
    """When each of them abstained first; also of those who gave an opinion after that."""
    heartbeats: dict[str, int]
    """The last sign of life by agent, on the monotonic clock. It is not an answer."""
    let_go: dict[str, int]
    """How many events of this round a subscription has let go for lack of room, by its name."""
    strangers: dict[str, int]
    """How many signals came from agents that are not on the roster. They did not count."""
    stand_ins: tuple[StandIn, ...]
    """Stale signals of missing agents, if the terms allow any."""
    late: list[LateAnswer]
    """Answers that came after the release; grows while the round is remembered."""
    late_count: int
    """All late answers, including those beyond the limit of `late`."""

    # -- what it says --------------------------------------------------------------------------------

    @property
    def roster(self) -> frozenset[str]:
        """Everybody who was expected."""
        return self.terms.roster

    @property
    def answered(self) -> frozenset[str]:
        """Those who gave an opinion or an abstention in time."""
        return self.terms.roster - self.missing

    @property
    def missing_critical(self) -> frozenset[str]:
        """The critical agents among the missing. One is enough to make the outcome invalid."""
        return self.terms.critical & self.missing

    @property
    def votes(self) -> "dict[tuple[str, str], SignalEvent]":
        """The newest signal by (agent, symbol)."""
        return {(agent, symbol): signal for agent, symbol, signal, _ in self.heard.values()}

    def let_go_by(self, agent: str) -> int:
        """Return how many events of this round the subscriptions of an agent have let go.

        A subscription belongs to the agent whose name it has, alone or before a dot: `momentum.on_tick`.
        """
        return sum(n for name, n in self.let_go.items() if name == agent or name.startswith(f"{agent}."))

    def standing(self) -> list[Answer]:
        """Return the signals that stand (the newest per agent and symbol) with their arrival."""
        return list({(answer[0], answer[1]): answer for answer in self.heard.values()}.values())

    def with_stand_ins(self) -> "dict[str, SignalEvent | StandIn]":
        """Return a copy of the opinions, with each missing agent's newest `StandIn` under its name."""
        filled: dict[str, SignalEvent | StandIn] = dict(self)
        for stand_in in sorted(self.stand_ins, key=lambda one: one.age_ns):
            filled.setdefault(stand_in.agent, stand_in)
        return filled

    def explain(self) -> str:
        """Explain the outcome in one paragraph, completely enough to be read months later."""
        return " ".join(_sentences(self))

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON-ready data, with the explanation in words."""
        opened_ns = self.opened_ns
        return {
            "round_id": self.round_id,
            "status": str(self.status),
            "valid": self.valid,
            "reason": self.reason,
            "explanation": self.explain(),
            "opened_at": None if self.opened_wall_ns is None else wall_label(self.opened_wall_ns),
            "opened_wall_ns": self.opened_wall_ns,
            "released_after_ns": self.released_ns - opened_ns,
            "noticed_after_ns": self.noticed_ns - opened_ns,
            "quorum_count": self.terms.quorum_count,
            "signal_timeout_ns": self.terms.signal_timeout_ns,
            "barrier_timeout_ns": self.terms.barrier_timeout_ns,
            "roster": sorted(self.roster),
            "critical": sorted(self.terms.critical),
            "answered": sorted(self.answered),
            "missing": sorted(self.missing),
            "missing_critical": sorted(self.missing_critical),
            "abstained": dict(self.abstained),
            "heartbeats_after_ns": {agent: at_ns - opened_ns for agent, at_ns in self.heartbeats.items()},
            "let_go": dict(self.let_go),
            "strangers": dict(self.strangers),
            "votes": [
                {"agent": agent, "symbol": symbol, "after_ns": at_ns - opened_ns, "signal": _plain(signal)}
                for agent, symbol, signal, at_ns in self.standing()
            ],
            "stand_ins": [one._asdict() | {"signal": _plain(one.signal)} for one in self.stand_ins],
            "late": [one._asdict() | {"signal": _plain(one.signal)} for one in self.late],
            "late_count": self.late_count,
        }

    def __repr__(self) -> str:
        verdict = "valid" if self.valid else "not valid"
        return (
            f"<RoundOutcome {self.round_id!r}: {self.status}, {verdict}, "
            f"{len(self.answered)} of {len(self.roster)} answered>"
        )

    # -- what happens to it --------------------------------------------------------------------------

    def add_late(self, agent: str, signal: Any, reason: str | None, at_ns: int) -> None:
        """Record an answer that came after the release. Called by the barrier."""
        self.late_count += 1
        if len(self.late) < LATE_MAX:
            self.late.append(LateAnswer(agent, signal, reason, at_ns - self.released_ns))

    def __reduce__(self) -> tuple[Any, ...]:
        fields = {name: getattr(self, name) for name in self.__slots__ if hasattr(self, name)}
        return _revive, (type(self), dict(self), fields)


def _revive(kind: type[RoundOutcome], opinions: dict[str, Any], fields: dict[str, Any]) -> RoundOutcome:
    """Rebuild a pickled or copied outcome, whose own mapping cannot be filled item by item."""
    outcome = kind.__new__(kind)
    dict.update(outcome, opinions)
    for name, value in fields.items():
        setattr(outcome, name, value)
    return outcome


def find_stand_ins(
    missing: Iterable[str], earlier: Iterable[RoundOutcome], at_ns: int, max_age_ns: int
) -> tuple[StandIn, ...]:
    """Return, per missing agent and symbol, the newest signal of an earlier round that is young enough.

    `earlier` runs from the newest round back. An agent that has abstained since its last signal has taken it
    back, so nothing stands in for it. Only signals that voted stand in; late ones never do.
    """
    wanted = set(missing)
    found: dict[tuple[str, str], StandIn] = {}
    for outcome in earlier:
        wanted.difference_update(outcome.abstained)
        if wanted.isdisjoint(outcome):
            continue
        for agent, symbol, signal, heard_ns in outcome.standing():
            if agent in wanted and at_ns - heard_ns <= max_age_ns:
                found.setdefault(
                    (agent, symbol), StandIn(agent, symbol, signal, at_ns - heard_ns, outcome.round_id)
                )
    return tuple(found.values())


def _plain(signal: Any) -> Any:
    """Return a signal as JSON-ready data: its own `to_dict`, or else what identifies it.

    In memory a signal may hold what JSON does not give back; then it is said which.
    """
    if signal is None:
        return None
    to_dict: Callable[[], dict[str, Any]] | None = getattr(signal, "to_dict", None)
    identity = {"event_id": signal.event_id, "symbol": signal.symbol}
    try:
        return identity if to_dict is None else to_dict()
    except InvalidEvent as problem:
        return {**identity, "problem": str(problem)}


# -- in words ----------------------------------------------------------------------------------------


def _sentences(outcome: RoundOutcome) -> Iterable[str]:
    yield _how_it_ended(outcome)
    if outcome.terms.roster:
        yield _who_answered(outcome)
    yield from _who_did_not_count(outcome)
    yield _may_decide(outcome)


def _how_it_ended(outcome: RoundOutcome) -> str:
    when = "" if outcome.opened_wall_ns is None else f" at {wall_label(outcome.opened_wall_ns)}"
    said = f"Round {outcome.round_id} opened{when} and was released after "
    said += f"{span(outcome.released_ns - outcome.opened_ns)} as {outcome.status}: {outcome.reason}"
    slip_ns = outcome.noticed_ns - outcome.released_ns
    return said + (f", which a busy loop noticed {span(slip_ns)} later." if slip_ns >= 1_000_000 else ".")


def _who_answered(outcome: RoundOutcome) -> str:
    terms, count = outcome.terms, len(outcome.answered)
    said = f"{count} of {len(terms.roster)} agents answered ({len(outcome)} with an opinion"
    if outcome.abstained:
        said += f", {len(outcome.abstained)} abstained: " + listed(
            f"{agent} ({reason})" if reason else agent for agent, reason in sorted(outcome.abstained.items())
        )
    said += f"); the quorum was {terms.quorum_count} from {span(terms.signal_timeout_ns)} on, "
    said += f"the hard deadline {span(terms.barrier_timeout_ns)}."
    if outcome.missing:
        said += f" Missing: {listed(_sign_of_life(outcome, agent) for agent in sorted(outcome.missing))}."
    return said


def _sign_of_life(outcome: RoundOutcome, agent: str) -> str:
    beat_ns = outcome.heartbeats.get(agent)
    alive = "silent" if beat_ns is None else f"alive {span(outcome.released_ns - beat_ns)} before the release"
    gone = outcome.let_go_by(agent)
    lacked = f"; {gone} of the round's events let go for lack of room in its mailbox" if gone else ""
    return f"{agent} ({alive}{lacked})"


def _who_did_not_count(outcome: RoundOutcome) -> Iterable[str]:
    if outcome.strangers:
        yield f"Not on the roster, so not counted: {listed(sorted(outcome.strangers))}."
    if outcome.late:
        late = listed(f"{one.agent} (by {span(one.late_ns)})" for one in outcome.late[:20])
        yield f"Late, so not counted: {late}."
    if outcome.stand_ins:
        stale = listed(
            f"{one.agent} on {one.symbol} by a signal of round {one.round_id}, {span(one.age_ns)} old"
            for one in outcome.stand_ins
        )
        yield f"Stale signals stand in, without a vote, for {stale}."


def _may_decide(outcome: RoundOutcome) -> str:
    if outcome.valid:
        return "A decision may rest on it." if outcome else "It is valid, but all who answered abstained."
    if outcome.missing_critical and outcome.status is not Status.EXPIRED:
        critical = listed(sorted(outcome.missing_critical))
        return f"No decision may rest on it: critical and missing, whatever the quorum says: {critical}."
    return "No decision may rest on it."
