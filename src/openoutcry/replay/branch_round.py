"""A round of a what-if: it ends as on the day, or is computed from answers at the instants when they came.

```
  computed:  an answer is here ──▶ judged: everything that came by now, in the order in which it came
                                     ├─▶ not over, and nothing more is on its way ──▶ changed, if it was over
                                     ├─▶ over, but what came before that is not here ─▶ waits for it
                                     └─▶ over ─▶ what came after that is late
```

When an answer came is told by the day: so long after the opening of the round. The clocks of a day do not all
run alike, so it may be here later than that, and the round waits for it before it ends.
"""

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from openoutcry.core.barrier import NEVER_NS, Round, Verdict
from openoutcry.core.outcome import RoundOutcome
from openoutcry.events import RoundLate
from openoutcry.replay.branch import Branch
from openoutcry.replay.gates import PlayedRound
from openoutcry.replay.script import PATIENCE_NS

SLACK_NS: Final = 100_000
"""So much later than on the day a round may be over before that counts as a change."""


class Came(NamedTuple):
    """An answer to a round.

    Attributes:
        at_ns: When it came: on the day, from the opening of the round, if it is the recorded one.
        was_late: Whether the round of the day was over by then: it comes behind those that counted.
        agent: Whose it is.
        signal: The opinion; None for an abstention.
        reason: Why the agent has abstained.

    """

    at_ns: int
    was_late: bool
    agent: str
    signal: Any
    reason: str = ""


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
        "_overdue",
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
        self._answers: list[Came] = self._here_before()
        self._overdue: list[Came] = []  # what was here when it ended, and came after that
        self.is_changed = self.is_computed = False
        self.waiters: set[str] = set()
        released, terms = self.past.released, self.past.terms
        self._recorded_ns = self.due_ns  # it is over by then, and not before its own time
        if released is not None:
            self._recorded_ns = max(self.due_ns, self.opened_ns + released.took_ns)
        now = self.terms
        self.has_other_terms: bool = (frozenset(terms.roster), terms.quorum_count) != (
            now.roster,
            now.quorum_count,
        )
        if self.has_other_terms or any(map(branch.is_touched, self.terms.roster)):
            self.compute(self.opened_ns)

    def compute(self, now_ns: int) -> None:
        """From now on it is computed; if it is already, what it waits for may not come any more."""
        if self.outcome is not None:
            return
        if not self.is_computed:
            self.is_computed = True
            if self._recorded_ns != NEVER_NS:
                self._look_at(self.round_id, self._recorded_ns + SLACK_NS)
        self._judge(now_ns)

    # -- what comes in -------------------------------------------------------------------------------

    def arrive(self, agent: str, signal: Any, now_ns: int) -> Verdict:
        """Take an opinion: at the instant at which it came on the day, if it is the recorded one."""
        came = self._came(agent, signal, now_ns)
        self._take(came, now_ns)
        outcome = self.outcome
        if not self.is_computed:
            return super().arrive(agent, signal, now_ns)
        if outcome is None:
            return Round.arrive(self, agent, signal, now_ns)
        if signal.event_id in outcome.heard:
            return Verdict.COUNTED
        return Round.arrive(self, agent, signal, max(came.at_ns, outcome.released_ns))

    def abstain(self, agent: str, reason: str, now_ns: int) -> Verdict:
        """Take an answer without an opinion, likewise."""
        late, was_over = self._late_abstention(agent, reason), self.outcome is not None
        came = self._abstained_then(agent, reason, now_ns, late)
        self._take(came, now_ns)
        outcome = self.outcome
        if not self.is_computed:
            return self._play_abstention(agent, reason, now_ns, late)
        self.said.add(agent)
        if outcome is None:
            return Round.abstain(self, agent, reason, now_ns)
        others = [one for one in self._overdue if one is not came]
        if len(others) == len(self._overdue) and not was_over:
            return Verdict.COUNTED
        self._overdue = others
        return Round.abstain(self, agent, reason, max(came.at_ns, outcome.released_ns))

    def _take(self, came: Came, now_ns: int) -> None:
        self._answers.append(came)
        if self.is_computed and self.outcome is None:
            self._judge(now_ns)

    def _came(self, agent: str, signal: Any, now_ns: int) -> Came:
        """Return when an opinion came: now, if it is not the recorded one."""
        signal_id, released = signal.event_id, self.past.released
        if released is not None and self._branch.is_of_the_day(signal_id):
            for vote in released.votes:
                if vote.signal_id == signal_id:
                    return Came(self.opened_ns + vote.after_ns, False, agent, signal)
            late = self.past.late_signal(signal_id)
            if late is not None:
                return Came(self._late_after_ns(late) + self.opened_ns, True, agent, signal)
        return Came(now_ns, False, agent, signal)

    def _abstained_then(self, agent: str, reason: str, now_ns: int, late: RoundLate | None) -> Came:
        """Return when an abstention came: so much later than on the day as its agent is; or now."""
        released, later_ns = self.past.released, self._branch.abstains_later_ns(agent)
        if released is not None and later_ns is not None:
            since_ns = self.opened_ns + later_ns
            if late is not None:
                return Came(since_ns + self._late_after_ns(late), True, agent, None, reason)
            if agent in released.abstained_ns and agent not in self.said:
                return Came(since_ns + released.abstained_ns[agent], False, agent, None, reason)
        return Came(now_ns, False, agent, None, reason)

    def _late_after_ns(self, late: RoundLate) -> int:
        """Return how long after its opening the round of the day was told of a late answer."""
        released = self.past.released
        return late.late_ns + (0 if released is None else released.took_ns)

    def _here_before(self) -> list[Came]:
        """Return the signals of the day that were handed out already: it was open by then, on the day."""
        branch, found = self._branch, []
        for agent, signal_id, _ in self._signals_of_the_day():
            entry = branch.handed(signal_id)
            if entry is not None and entry.event.round_id is not None:
                found.append(self._came(agent, entry.event, self.opened_ns))
        return found

    # -- what is on its way --------------------------------------------------------------------------

    def _signals_of_the_day(self) -> Iterator[tuple[str, str, int]]:
        """Yield whose each signal of the round was, its id, and how long after the opening it came."""
        released = self.past.released
        if released is not None:
            for vote in released.votes:
                yield vote.agent, vote.signal_id, vote.after_ns
            for late in self.past.late:
                if late.signal_id is not None:
                    yield late.agent, late.signal_id, self._late_after_ns(late)

    def _abstentions_to_come(self) -> Iterator[tuple[str, int]]:
        """Yield who has not abstained yet, and how long after the opening it did on the day."""
        released = self.past.released
        if released is not None:
            yield from ((one, ns) for one, ns in released.abstained_ns.items() if one not in self.said)
            yield from ((late.agent, self._late_after_ns(late)) for late in self._late_said)

    def _all_here_ns(self, until_ns: int) -> int:
        """Return by when all answers are here that came up to an instant on the day; 0: they are here."""
        branch, opened_ns = self._branch, self.opened_ns
        here = {one.signal.event_id for one in self._answers if one.signal is not None}
        found = [
            branch.here_by_ns(signal_id)
            for _, signal_id, after_ns in self._signals_of_the_day()
            if opened_ns + after_ns <= until_ns and signal_id not in here
        ]
        began_ns = max(opened_ns, self.past.at_ns + branch.pace.lost_ns)
        for agent, after_ns in self._abstentions_to_come():
            later_ns = branch.abstains_later_ns(agent)
            if later_ns is not None and opened_ns + after_ns + later_ns <= until_ns:
                found.append(began_ns + after_ns + later_ns + PATIENCE_NS)
        return max(found, default=0)

    # -- how it ends ---------------------------------------------------------------------------------

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
        answers = sorted(self._answers, key=_order)
        count = 0
        for came in answers:
            if came.at_ns > now_ns or live.tick(came.at_ns) is not None:
                break
            _hear(live, came)
            count += 1
        outcome = live.tick(now_ns)
        if outcome is None:
            to_come_ns = answers[count].at_ns if count < len(answers) else NEVER_NS
            self._go_on(now_ns, min(to_come_ns, live.due_ns))
            return
        here_ns = self._all_here_ns(outcome.released_ns)
        if here_ns > now_ns:
            self._wait_until(here_ns)
            return
        self.due_ns, self.outcome, self.state = NEVER_NS, outcome, live.state
        self._overdue = answers[count:]
        if self._overdue:
            self._look_at(self.round_id, now_ns)
        if not self._is_as_recorded(outcome):
            self._change()

    def _go_on(self, now_ns: int, due_ns: int) -> None:
        """It is not over: that is otherwise than on the day if it was by now, and nothing is on its way."""
        released = self.past.released
        if released is not None and now_ns > self._recorded_ns + SLACK_NS:
            here_ns = self._all_here_ns(self.opened_ns + released.took_ns)
            if here_ns > now_ns:
                due_ns = min(due_ns, here_ns)
            else:
                self._change()
        self._wait_until(due_ns)

    def _wait_until(self, due_ns: int) -> None:
        self.due_ns = due_ns
        self._look_at(self.round_id, due_ns)

    def note_overdue(self) -> Iterator[Verdict]:
        """Note what was here when the round ended and is late all the same, and yield what became of each."""
        outcome, overdue = self.outcome, self._overdue
        self._overdue = []
        for came in overdue:
            if outcome is None or came.agent not in self.terms.roster:
                continue
            at_ns = max(came.at_ns, outcome.released_ns)
            if came.signal is None:
                yield Round.abstain(self, came.agent, came.reason, at_ns)
            elif came.signal.event_id not in outcome.heard and came.signal.round_id in (None, self.round_id):
                yield self._note_late(outcome, came.agent, came.signal, at_ns)

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


def _order(came: Came) -> tuple[int, bool]:
    """Return where an answer comes: behind those that were in time at the same instant, if it was late."""
    return came.at_ns, came.was_late


def _hear(live: Round, came: Came) -> None:
    """Have a round hear an answer at the instant at which it came."""
    if came.signal is None:
        live.abstain(came.agent, came.reason, came.at_ns)
    else:
        live.arrive(came.agent, came.signal, came.at_ns)
