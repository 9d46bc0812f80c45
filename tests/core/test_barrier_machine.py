"""The round against a model that keeps a diary and works out everything from it, at every step anew."""

from math import ceil
from typing import Any, NamedTuple

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from openoutcry.core.barrier import Round, State, Verdict
from openoutcry.core.terms import agree

AGENTS = ["a", "b", "c", "d", "risk"]
STRANGERS = ["x", "y"]
SYMBOLS = ["ES", "NQ"]


class Signal(NamedTuple):
    event_id: str
    symbol: str
    round_id: str | None


class Entry(NamedTuple):
    at_ns: int
    agent: str
    signal: Signal | None  # None: an abstention


class Model:
    """Answers in time, in order; the rule is evaluated over them for each instant that matters."""

    def __init__(
        self, roster: set[str], needed: int, critical: set[str], signal_ns: int, barrier_ns: int
    ) -> None:
        self.roster, self.needed, self.critical = roster, needed, critical
        self.signal_ns, self.barrier_ns = signal_ns, barrier_ns
        self.diary: list[Entry] = []
        self.closed_ns: int | None = None

    def released(self, now_ns: int) -> tuple[int, str] | None:
        """The first instant up to now at which the round ends, and as what."""
        if not self.roster:
            return 0, "empty"
        instants = sorted({entry.at_ns for entry in self.diary} | {self.signal_ns, self.barrier_ns})
        if self.closed_ns is not None:
            instants = sorted({*instants, self.closed_ns})
        for instant in instants:
            if instant > now_ns:
                return None
            # At one instant the deadlines come before the answers, and a closing after everything.
            before = {entry.agent for entry in self.diary if entry.at_ns < instant}
            upto = {entry.agent for entry in self.diary if entry.at_ns <= instant}
            if instant >= self.signal_ns and len(before) >= self.needed:
                return instant, "quorate"
            if instant >= self.barrier_ns:
                return instant, "expired"
            if upto == self.roster:
                return instant, "complete"
            if instant >= self.signal_ns and len(upto) >= self.needed:
                return instant, "quorate"
            if self.closed_ns is not None and instant >= self.closed_ns:
                return instant, "expired"
        return None


class RoundMachine(RuleBasedStateMachine):
    @initialize(
        roster=st.sets(st.sampled_from(AGENTS[:4])),
        critical=st.sets(st.just("risk")),
        share=st.one_of(st.none(), st.sampled_from([0.2, 0.5, 0.8, 1.0]), st.just(1)),
        signal_ns=st.integers(1, 20),
        more_ns=st.integers(0, 20),
    )
    def open(self, roster: set[str], critical: set[str], share: Any, signal_ns: int, more_ns: int) -> None:
        everybody = roster | critical
        needed = len(everybody) if share is None else share
        if isinstance(share, float):
            needed = ceil(round(share * 10) * len(everybody) / 10)
        terms = agree(
            roster,
            quorum=share,
            critical=critical,
            signal_timeout_ns=signal_ns,
            barrier_timeout_ns=signal_ns + more_ns,
        )
        self.round = Round("r", terms, 0)
        self.model = Model(everybody, needed, critical, signal_ns, signal_ns + more_ns)
        self.now_ns = 0
        self.count = 0
        self.late: list[Entry] = []
        self.first_outcome: Any = None
        self.sent: list[tuple[str, Signal]] = []

    @rule(by_ns=st.integers(0, 8), tell=st.booleans())
    def time_passes(self, by_ns: int, tell: bool) -> None:
        self.now_ns += by_ns
        if tell:
            self.round.tick(self.now_ns)

    @rule(agent=st.sampled_from(AGENTS + STRANGERS), symbol=st.sampled_from(SYMBOLS), named=st.booleans())
    def a_signal_arrives(self, agent: str, symbol: str, named: bool) -> None:
        self.count += 1
        signal = Signal(f"s{self.count}", symbol, "r" if named else None)
        gone = self.model.released(self.now_ns)
        had = {entry.agent for entry in self.model.diary if entry.signal}
        verdict = self.round.arrive(agent, signal, self.now_ns)
        if agent not in self.model.roster:
            assert verdict is Verdict.STRANGER
            return
        self.sent.append((agent, signal))
        if gone is not None:
            assert verdict is Verdict.LATE
            self.late.append(Entry(self.now_ns - gone[0], agent, signal))
        else:
            assert verdict is (Verdict.FURTHER if agent in had else Verdict.COUNTED)
            self.model.diary.append(Entry(self.now_ns, agent, signal))

    @precondition(lambda self: self.sent)
    @rule(data=st.data(), agent=st.sampled_from(AGENTS))
    def a_signal_arrives_again(self, data: st.DataObject, agent: str) -> None:
        _, signal = data.draw(st.sampled_from(self.sent))
        expected = Verdict.DUPLICATE if agent in self.model.roster else Verdict.STRANGER
        assert self.round.arrive(agent, signal, self.now_ns) is expected

    @rule(agent=st.sampled_from(AGENTS))
    def a_signal_of_another_round_arrives(self, agent: str) -> None:
        self.count += 1
        verdict = self.round.arrive(agent, Signal(f"s{self.count}", "ES", "elsewhere"), self.now_ns)
        assert verdict is (Verdict.FOREIGN if agent in self.model.roster else Verdict.STRANGER)

    @rule(agent=st.sampled_from(AGENTS + STRANGERS))
    def an_agent_abstains(self, agent: str) -> None:
        gone = self.model.released(self.now_ns)
        opined = {entry.agent for entry in self.model.diary if entry.signal}
        answered = {entry.agent for entry in self.model.diary}
        verdict = self.round.abstain(agent, "because", self.now_ns)
        if agent not in self.model.roster:
            assert verdict is Verdict.STRANGER
        elif gone is not None:
            assert verdict is Verdict.LATE
            self.late.append(Entry(self.now_ns - gone[0], agent, None))
        elif agent in opined:
            assert verdict is Verdict.OPINION_STANDS
        else:
            assert verdict is (Verdict.FURTHER if agent in answered else Verdict.COUNTED)
            self.model.diary.append(Entry(self.now_ns, agent, None))

    @rule(agent=st.sampled_from(AGENTS + STRANGERS))
    def a_heart_beats(self, agent: str) -> None:
        before = self.round.answers_count
        self.round.heartbeat(agent, self.now_ns)
        assert self.round.answers_count == before

    @rule()
    def the_round_is_closed(self) -> None:
        if self.model.released(self.now_ns) is None:
            self.model.closed_ns = self.now_ns
        self.round.close("closed", self.now_ns)

    @invariant()
    def the_outcome_is_what_the_diary_says(self) -> None:
        expected = self.model.released(self.now_ns)
        outcome = self.round.tick(self.now_ns)
        assert (outcome is None) == (expected is None)
        if outcome is None or expected is None:
            return
        assert (outcome.released_ns, outcome.status) == expected
        if self.first_outcome is None:
            self.first_outcome = outcome
        assert outcome is self.first_outcome
        opinions = [entry for entry in self.model.diary if entry.signal]
        answered = {entry.agent for entry in self.model.diary}
        assert outcome == {entry.agent: entry.signal for entry in opinions}
        assert outcome.votes == {
            (entry.agent, entry.signal.symbol): entry.signal for entry in opinions if entry.signal
        }
        assert outcome.answered == answered
        assert outcome.missing == self.model.roster - answered
        assert set(outcome.abstained) == answered - set(outcome)
        assert [(late.late_ns, late.agent, late.signal) for late in outcome.late] == self.late
        rule_held = outcome.status in {"complete", "quorate"}
        assert outcome.valid == (rule_held and self.model.critical <= answered)
        assert not (outcome.valid and not answered)
        assert outcome.explain()

    @invariant()
    def the_state_agrees_with_the_count(self) -> None:
        counted = len({entry.agent for entry in self.model.diary})
        assert self.round.answers_count == counted
        if self.round.state is State.QUORATE:
            assert counted >= self.model.needed
        if self.round.state in {State.OPEN, State.OVERTIME}:
            assert counted < self.model.needed
        assert (self.round.next_deadline_ns() is None) == (self.round.outcome is not None)


RoundMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
TestRoundMachine = RoundMachine.TestCase
