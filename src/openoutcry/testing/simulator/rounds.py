"""The truth about the signal barrier: who has answered what, and how every round ended."""

from collections.abc import Callable
from typing import Any

from openoutcry.core.outcome import RoundOutcome, Status
from openoutcry.runtime.rounds.barriers import SignalBarrier


class RoundTruth:
    """What was answered in one life.

    Args:
        fail: Called with what is wrong.

    """

    def __init__(self, fail: Callable[[str], None]) -> None:
        self._fail = fail
        self._critical: set[str] = set()
        self._agents: set[str] = set()
        self._asked: dict[str, tuple[str, str | None]] = {}
        self._refused: set[str] = set()
        self._abstained: set[str] = set()
        self._usual: dict[str, tuple[frozenset[str], frozenset[str]]] = {}
        self._outcomes: dict[str, RoundOutcome] = {}
        self._were: dict[str, tuple[bool, Status, frozenset[str]]] = {}

    def registered(self, agent: str, *, critical: bool) -> None:
        """An agent is expected in rounds from now on."""
        self._agents.add(agent)
        if critical:
            self._critical.add(agent)

    def opened(self, barrier: SignalBarrier, *, usual: bool) -> None:
        """A round was opened."""
        if usual:
            self._usual[barrier.round_id] = (frozenset(self._agents), frozenset(self._critical))

    def signalling(self, signal: Any) -> None:
        """A signal is about to be published."""
        named = getattr(signal, "round_id", None)
        self._asked.setdefault(signal.event_id, (signal.source_agent or signal.strategy_name, named))

    def refused(self, signal: Any) -> None:
        """A signal was refused for certain."""
        self._refused.add(signal.event_id)

    def abstaining(self, agent: str) -> None:
        """An agent abstains."""
        self._abstained.add(agent)

    def released(self, outcome: RoundOutcome) -> None:
        """A waiter has an outcome."""
        known = self._outcomes.setdefault(outcome.round_id, outcome)
        if known is not outcome:
            self._fail(f"round {outcome.round_id} has two outcomes")
        self._check(outcome)

    def check(self) -> None:
        """Check all outcomes again: they must not have changed."""
        for outcome in self._outcomes.values():
            self._check(outcome)

    def _check(self, outcome: RoundOutcome) -> None:
        now = (outcome.valid, outcome.status, frozenset(outcome.heard))
        was = self._were.setdefault(outcome.round_id, now)
        if was != now:
            self._fail(f"the outcome of round {outcome.round_id} has changed: {was} became {now}")
        voters = {self._check_vote(outcome, *vote) for vote in outcome.heard.items()}
        answered = voters | (set(outcome.abstained) & self._abstained)
        if not outcome.answered <= answered:
            self._fail(
                f"round {outcome.round_id} counts {sorted(outcome.answered - answered)}, who did not answer"
            )
        if outcome.valid:
            self._check_valid(outcome, answered)

    def _check_vote(self, outcome: RoundOutcome, event_id: str, answer: tuple[str, str, Any, int]) -> str:
        agent, named = self._asked.get(event_id, ("", None))
        if agent != answer[0]:
            self._fail(f"round {outcome.round_id} has a signal {event_id} of {answer[0]}, who never gave it")
        if named not in (None, outcome.round_id):
            self._fail(f"{event_id} belongs to round {named}, and votes in {outcome.round_id}")
        if event_id in self._refused:
            self._fail(f"{event_id} was refused, and votes in {outcome.round_id}")
        if answer[3] > outcome.released_ns:
            self._fail(f"{event_id} came after the release of round {outcome.round_id}, and votes there")
        return answer[0]

    def _check_valid(self, outcome: RoundOutcome, answered: set[str]) -> None:
        roster, critical = self._usual.get(outcome.round_id, (outcome.roster, outcome.terms.critical))
        if not critical <= answered:
            missing = sorted(critical - answered)
            self._fail(f"round {outcome.round_id} is valid, and {missing} of the critical agents are missing")
        if outcome.status not in (Status.COMPLETE, Status.QUORATE) or roster != outcome.roster:
            self._fail(
                f"round {outcome.round_id} is valid, and is {outcome.status} with {sorted(outcome.roster)}"
            )
        if len(answered & roster) < outcome.terms.quorum_count:
            self._fail(f"round {outcome.round_id} is valid with {len(answered)} answers")
