"""The rounds that were released recently, so that late answers find theirs, and waiters the outcome."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from openoutcry.core.early import belongs_to, same_cause
from openoutcry.core.outcome import RoundOutcome
from openoutcry.runtime.rounds.barriers import SignalBarrier
from openoutcry.units import NS_PER_S

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


class Released:
    """Released rounds by id, in the order of their release.

    Attributes:
        newest_ns: When the last one was released; 0 before the first.

    """

    def __init__(self) -> None:
        self._by_id: dict[str, SignalBarrier] = {}
        self.newest_ns = 0

    def __contains__(self, round_id: str) -> bool:
        return round_id in self._by_id

    def get(self, round_id: str) -> SignalBarrier | None:
        """Return the round of this id, if it is remembered."""
        return self._by_id.get(round_id)

    def add(self, barrier: SignalBarrier, outcome: RoundOutcome) -> None:
        """Remember a round; if there are too many, forget one that was waited for, or else the oldest."""
        self._by_id[outcome.round_id] = barrier
        self.newest_ns = max(self.newest_ns, outcome.released_ns)
        if len(self._by_id) > RECENT_MAX:
            oldest = next((name for name, b in self._by_id.items() if b.is_awaited), None)
            if oldest is None and len(self._by_id) > UNCLAIMED_MAX:
                oldest = next(iter(self._by_id))
            if oldest is not None:
                del self._by_id[oldest]

    def outcomes(self) -> Iterator[RoundOutcome]:
        """Iterate over the outcomes, newest first."""
        for barrier in reversed(self._by_id.values()):
            outcome = barrier.outcome
            if outcome is not None:
                yield outcome

    def owed(self, agent: str, signal: Any, now_ns: int) -> SignalBarrier | None:
        """Return the last round that expected an agent, if an answer that names no round is late there."""
        for outcome in self.outcomes():
            if agent in outcome.roster:
                is_owed = belongs_to(outcome, agent, signal, now_ns)
                return self._by_id[outcome.round_id] if is_owed else None
        return None

    def asked_in(self, agent: str, signal: Any, asked_ns: int, opened_ns: int) -> SignalBarrier | None:
        """Return the round for which an answer to an event admitted at `asked_ns` is late.

        It is the first one released after that and before the current round opened (at `opened_ns`), in which
        the agent is missing or was answered by it while handling the same event.
        """
        found = None
        for outcome in self.outcomes():
            is_between = asked_ns < outcome.released_ns <= opened_ns and agent in outcome.roster
            if is_between and (agent in outcome.missing or same_cause(outcome, agent, signal)):
                found = self._by_id[outcome.round_id]
        return found


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
