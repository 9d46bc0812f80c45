"""A round of a what-if: it ends as on the day, or is computed from the answers, which come when they came."""

from typing import Any, Final

from openoutcry.core.barrier import NEVER_NS, Round, Verdict
from openoutcry.core.outcome import RoundOutcome
from openoutcry.replay.branch import Branch
from openoutcry.replay.gates import PlayedRound

SLACK_NS: Final = 100_000
"""So much later than its deadline a round is computed: answers that came before it may be on their way."""


class BranchRound(PlayedRound):
    """A round that ends as on the day, unless somebody on its roster is touched: then it is computed.

    Attributes:
        is_computed: Whether it is.
        is_changed: Whether its outcome is another one than on the day, or comes later.
        has_other_terms: Whether others are expected, or another number of them.
        waiters: The subscriptions that wait for it.

    """

    __slots__ = (
        "_answers",
        "_branch",
        "_look_at",
        "_recorded_ns",
        "has_other_terms",
        "is_changed",
        "is_computed",
        "waiters",
    )

    def __init__(self, branch: Branch, look_at: Any, *made_of: Any) -> None:
        super().__init__(*made_of)
        self._branch = branch
        self._look_at = look_at
        self._answers: list[tuple[int, str, Any, str]] = []
        self.is_changed = self.is_computed = False
        self.waiters: set[str] = set()
        self._recorded_ns = self.due_ns
        terms = self.past.terms
        now = self.terms
        self.has_other_terms: bool = (frozenset(terms.roster), terms.quorum_count) != (
            now.roster,
            now.quorum_count,
        )
        if self.has_other_terms or any(map(branch.is_touched, self.terms.roster)):
            self.compute(self.opened_ns)

    def compute(self, now_ns: int) -> None:
        """From now on it is computed."""
        if self.outcome is None and not self.is_computed:
            self.is_computed = True
            if self._recorded_ns != NEVER_NS:
                self._look_at(self.round_id, self._recorded_ns + SLACK_NS)
            self._judge(now_ns)

    def arrive(self, agent: str, signal: Any, now_ns: int) -> Verdict:
        """Take an opinion: at the instant at which it came on the day, if it is the recorded one."""
        self._note(self._came_ns(signal.event_id, now_ns), agent, signal, "", now_ns)
        return super().arrive(agent, signal, now_ns)

    def abstain(self, agent: str, reason: str, now_ns: int) -> Verdict:
        """Take an answer without an opinion."""
        released = self.past.released
        after_ns = None if released is None else released.abstained_ns.get(agent)
        is_recorded = after_ns is not None and not self._branch.is_touched(agent)
        came_ns = self.opened_ns + after_ns if is_recorded and after_ns is not None else now_ns
        self._note(came_ns, agent, None, reason, now_ns)
        return super().abstain(agent, reason, now_ns)

    def _came_ns(self, signal_id: str, now_ns: int) -> int:
        entry, released = self._script.day.by_id.get(signal_id), self.past.released
        if entry is None or released is None or signal_id in self._branch.passed:
            return now_ns
        for vote in released.votes:
            if vote.signal_id == signal_id:
                return self.opened_ns + vote.after_ns
        late = (one.late_ns for one in self.past.late if one.signal_id == signal_id)
        return next((self.opened_ns + released.took_ns + ns for ns in late), now_ns)

    def _note(self, came_ns: int, agent: str, signal: Any, reason: str, now_ns: int) -> None:
        self._answers.append((came_ns, agent, signal, reason))
        if self.is_computed and self.outcome is None:
            self._judge(now_ns)

    def tick(self, now_ns: int) -> RoundOutcome | None:
        """Let time pass."""
        if not self.is_computed:
            return super().tick(now_ns)
        if self.outcome is None and (now_ns >= self.due_ns or now_ns > self._recorded_ns):
            self._judge(now_ns)
        return self.outcome

    def _judge(self, now_ns: int) -> None:
        """Compute the round from what has come so far."""
        live = Round(self.round_id, self.terms, self.opened_ns, self.opened_wall_ns, self._recall)
        to_come = NEVER_NS
        for came_ns, agent, signal, reason in sorted(self._answers, key=lambda answer: answer[0]):
            if came_ns > now_ns:
                to_come = min(to_come, came_ns)
            elif signal is None:
                live.abstain(agent, reason, came_ns)
            else:
                live.arrive(agent, signal, came_ns)
        outcome = live.tick(max(self.opened_ns, now_ns - SLACK_NS))
        if outcome is None:
            self.due_ns = min(to_come, live.due_ns + SLACK_NS)
            self._look_at(self.round_id, self.due_ns)
            if now_ns > self._recorded_ns:
                self._change()
            return
        self.due_ns, self.outcome, self.state = NEVER_NS, outcome, live.state
        if not self._is_as_recorded(outcome):
            self._change()

    def _change(self) -> None:
        """It ends otherwise than on the day, or later: who waits for it is not handed what it was."""
        self.is_changed = True
        for name in sorted(self.waiters | {self.past.opened_by} - {""}):
            self._branch.touch(name)

    def close(self, reason: str, now_ns: int) -> RoundOutcome:
        """End the round."""
        return Round.close(self, reason, now_ns) if self.is_computed else super().close(reason, now_ns)

    def _is_as_recorded(self, outcome: RoundOutcome) -> bool:
        released, by_id = self.past.released, self._script.day.by_id
        if released is None:
            return False
        is_same_end = (outcome.status.value, outcome.valid) == (released.status, released.valid)
        votes = {vote.signal_id for vote in released.votes}
        return (
            is_same_end
            and set(outcome.heard) == votes
            and all(signal is by_id[i].event for i, (_, _, signal, _) in outcome.heard.items())
            and outcome.abstained == dict(released.abstained)
            and outcome.missing == frozenset(released.missing)
        )
