"""A round computed again from its record is equal: same outcome, same votes in the same order, same stand-ins."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from hypothesis import event, given, settings
from hypothesis import strategies as st

from openoutcry.config import BusConfig
from openoutcry.core.barrier import Round, Verdict
from openoutcry.core.early import Early
from openoutcry.core.outcome import RoundOutcome
from openoutcry.core.terms import Terms, agree
from openoutcry.events import RoundLate, RoundOpened, RoundReleased, decode, encode
from openoutcry.journals.memory import MemoryJournal
from openoutcry.runtime.durability.recorder import Recorder

AGENTS = ("ada", "bob", "cyd", "dan")
STRANGER = "zoe"
SYMBOLS = ("ES", "NQ")
WALL_NS = 1_700_000_000_000_000_000
OPENING = tuple(
    name
    for name in RoundOpened.__struct_fields__
    if name not in ("event_id", "event_type", "timestamp", "symbol")
)
"""What a release says of the opening."""
EARLY, VOTE, ABSTAIN, ALIVE, AGAIN, LET_GO, CLOSE, TICK = range(8)


class Signal(NamedTuple):
    event_id: str
    symbol: str
    round_id: str | None = None


class Life(NamedTuple):
    """A round as it was lived, and what the journal has of it."""

    outcome: RoundOutcome
    released: RoundReleased
    lates: list[RoundLate]


# -- living ----------------------------------------------------------------------------------------------


Step = tuple[int, int, str, str]
"""How long nothing happens, what happens then, to whom, and with which symbol."""


def some_terms() -> st.SearchStrategy[Terms]:
    def agreed(roster: set[str], critical: set[str], quorum: int, times: tuple[int, int], age: Any) -> Terms:
        return agree(
            roster,
            quorum=min(quorum, max(1, len(roster | critical))),
            critical=critical,
            signal_timeout_ns=min(times),
            barrier_timeout_ns=max(times),
            stand_in_max_age_ns=age,
        )

    agents = st.sets(st.sampled_from(AGENTS), min_size=1) | st.sampled_from((set(AGENTS), set[str]()))
    instants = st.integers(1, 30)
    ages = st.sampled_from((None, 5, 200, 200))
    return st.builds(agreed, agents, st.sets(st.sampled_from(AGENTS), max_size=1), st.integers(1, 4),
                     st.tuples(instants, instants), ages)  # fmt: skip


def some_steps() -> st.SearchStrategy[list[Step]]:
    waits = st.sampled_from((0, 0, 0, 1, 1, 2, 5))
    whats = st.sampled_from((EARLY, *[VOTE] * 8, *[ABSTAIN] * 3, ALIVE, AGAIN, LET_GO, CLOSE, TICK))
    step = st.tuples(waits, whats, st.sampled_from((*AGENTS, STRANGER)), st.sampled_from(SYMBOLS))
    return st.lists(step, max_size=24) | st.lists(step, min_size=8, max_size=24)


class Living:
    """Rounds that are lived one after the other, with what a recorder writes of them."""

    def __init__(self, *, apart: bool) -> None:
        self._recorder, self._apart = Recorder(BusConfig()), apart
        self._outcomes: list[RoundOutcome] = []
        self._signals = 0
        self.now_ns = 1_000_000

    def _signal(self, symbol: str) -> Signal:
        self._signals += 1
        return Signal(f"s-{self._signals}", symbol)

    def live(self, terms: Terms, steps: Sequence[Step]) -> Life:
        number = len(self._outcomes) + 1
        lived = Round(
            f"r-{number}", terms, self.now_ns, WALL_NS + self.now_ns, lambda: reversed(self._outcomes)
        )
        self._recorder.opened(lived, has_fresh_id=True)
        records = self._take() if number % 2 == 0 else []
        early = [(agent, symbol) for _, what, agent, symbol in steps if what == EARLY]
        lived.take_early(list(self._earlies(early, terms.roster)), self.now_ns)
        is_noted, heard = False, list[tuple[str, Signal]]()
        for wait_ns, what, agent, symbol in [*steps, (100, TICK, "", "")]:
            self.now_ns += wait_ns
            late_count = 0 if lived.outcome is None else lived.outcome.late_count
            self._step(lived, what, agent, symbol, heard)
            if lived.outcome is not None and not is_noted:
                is_noted = True
                self._recorder.released(lived.outcome)
            if lived.outcome is not None and lived.outcome.late_count > late_count:
                self._recorder.late(lived.outcome)
        outcome = lived.outcome
        assert outcome is not None, "the last tick is behind every deadline"
        self._outcomes.append(outcome)
        records += self._take()
        (released,) = (record for record in records if isinstance(record, RoundReleased))
        openings = [record for record in records if isinstance(record, RoundOpened)]
        for opening in openings:
            assert [getattr(opening, name) for name in OPENING] == [
                getattr(released, name) for name in OPENING
            ]
        assert len(openings) == (self._apart or number % 2 == 0)
        return Life(outcome, released, [record for record in records if isinstance(record, RoundLate)])

    def _take(self) -> list[Any]:
        taken = self._recorder.take(MemoryJournal(), all_of_them=True, apart=self._apart)
        records = [decode(record.payload) for record in taken]
        assert [encode(record) for record in records] == [record.payload for record in taken]
        assert [record.event_id for record in records] == [record.event_id for record in taken]
        return records

    def _earlies(self, early: Iterable[tuple[str, str]], roster: frozenset[str]) -> Iterator[Early]:
        for number, (agent, symbol) in enumerate(early):
            if agent in roster:
                signal = None if number % 3 == 2 else self._signal(symbol)
                yield Early(agent, signal, self.now_ns, f"early {number}")

    def _step(
        self, lived: Round, what: int, agent: str, symbol: str, heard: list[tuple[str, Signal]]
    ) -> None:
        now_ns = self.now_ns
        if what == VOTE:
            heard.append((agent, self._signal(symbol)))
            lived.arrive(*heard[-1], now_ns)
        elif what == AGAIN and heard:
            assert lived.arrive(*heard[-1], now_ns) in (Verdict.DUPLICATE, Verdict.STRANGER, Verdict.LATE)
        elif what == ABSTAIN:
            lived.abstain(agent, f"flat at {now_ns}", now_ns)
        elif what == ALIVE:
            lived.heartbeat(agent, now_ns)
        elif what == LET_GO:
            lived.note_let_go(f"{agent}.on_bar")
        elif what == CLOSE:
            lived.close("the desk went home", now_ns)
        elif what == TICK:
            lived.tick(now_ns)


# -- again -----------------------------------------------------------------------------------------------


def terms_of(record: RoundReleased) -> Terms:
    return Terms(
        roster=frozenset(record.roster),
        critical=frozenset(record.critical),
        quorum_count=record.quorum_count,
        signal_timeout_ns=record.signal_timeout_ns,
        barrier_timeout_ns=record.barrier_timeout_ns,
        blank=dict.fromkeys(record.roster),
        stand_in_max_age_ns=record.stand_in_max_age_ns,
    )


def again(record: RoundReleased, lates: Iterable[RoundLate], earlier: Iterable[RoundOutcome]) -> RoundOutcome:
    """Compute a round again, from what the journal has of it, by a clock that begins with its opening.

    What came at one instant is fed in an order that takes all of it: an abstention goes before the opinion
    that has replaced it and behind the others, since the last answer of an instant may be the one that
    releases. What came at the opening is taken as a whole, as answers are that came before it.
    """
    earlier = list(earlier)
    opened_ns = record.opened_wall_ns
    computed = Round(str(record.round_id), terms_of(record), opened_ns, opened_ns, lambda: earlier)
    for agent, count in record.strangers.items():
        for _ in range(count):
            computed.arrive(agent, Signal("", ""), opened_ns)
    for subscription, count in record.let_go.items():
        for _ in range(count):
            computed.note_let_go(subscription)
    voters = {vote.agent for vote in record.votes}
    answers = [Early(a, None, at, record.abstained.get(a, "")) for a, at in record.abstained_ns.items()]
    answers = [
        *(one for one in answers if one.agent in voters),
        *(Early(v.agent, Signal(v.signal_id, v.symbol), v.after_ns) for v in record.votes),
        *(one for one in answers if one.agent not in voters),
    ]
    instants = sorted({one.at_ns for one in answers} | set(record.heartbeats.values()))
    for at_ns in instants:
        now_ns = opened_ns + at_ns
        for agent in (agent for agent, alive_ns in record.heartbeats.items() if alive_ns == at_ns):
            computed.heartbeat(agent, now_ns)
        now = [one for one in answers if one.at_ns == at_ns]
        if at_ns == 0:
            computed.take_early(now, now_ns)
            continue
        for one in now:
            if one.signal is None:
                computed.abstain(one.agent, one.reason, now_ns)
            else:
                computed.arrive(one.agent, one.signal, now_ns)
    computed.tick(opened_ns + record.noticed_ns)
    outcome = computed.close(record.reason, opened_ns + record.noticed_ns)
    for late in sorted(lates, key=lambda one: one.number):
        at_ns = outcome.released_ns + late.late_ns
        if late.signal_id is None:
            computed.abstain(late.agent, str(late.reason), at_ns)
        else:
            computed.arrive(late.agent, Signal(late.signal_id, str(late.symbol)), at_ns)
    return outcome


def stood_in(record: RoundReleased) -> Iterator[RoundOutcome]:
    """Yield the earlier rounds, as far as the record of a round itself tells of them, newest first."""
    released_ns = record.opened_wall_ns + record.took_ns
    for round_id, some in groupby(record.stand_ins, key=lambda one: one.round_id):
        ones = list(some)
        signals: dict[str, Any] = {one.signal_id: Signal(one.signal_id, one.symbol) for one in ones}
        outcome = RoundOutcome({one.agent: signals[one.signal_id] for one in ones})
        outcome.round_id, outcome.abstained = round_id, {}
        outcome.heard = {
            one.signal_id: (one.agent, one.symbol, signals[one.signal_id], released_ns - one.age_ns)
            for one in ones
        }
        yield outcome


def said(outcome: RoundOutcome, zero_ns: int) -> dict[str, Any]:
    """Return all that an outcome says, with its times from `zero_ns` on."""
    return {
        "round_id": outcome.round_id,
        "opinions": [(agent, signal.event_id) for agent, signal in outcome.items()],
        "status": outcome.status,
        "valid": outcome.valid,
        "reason": outcome.reason,
        "terms": outcome.terms,
        "released_ns": outcome.released_ns - zero_ns,
        "noticed_ns": outcome.noticed_ns - zero_ns,
        "missing": outcome.missing,
        "votes": [(a, symbol, id_, at_ns - zero_ns) for id_, (a, symbol, _, at_ns) in outcome.heard.items()],
        "abstained": outcome.abstained,
        "abstained_ns": {agent: at_ns - zero_ns for agent, at_ns in outcome.abstained_ns.items()},
        "heartbeats": {agent: at_ns - zero_ns for agent, at_ns in outcome.heartbeats.items()},
        "let_go": outcome.let_go,
        "strangers": outcome.strangers,
        "stand_ins": [
            (one.agent, one.symbol, one.signal.event_id, one.age_ns, one.round_id)
            for one in outcome.stand_ins
        ],
        "late": [
            (one.agent, None if one.signal is None else one.signal.event_id, one.reason, one.late_ns)
            for one in outcome.late
        ],
    }


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(some_terms(), some_steps()), min_size=1, max_size=4), st.booleans())
def test_a_round_computed_again_from_its_record_is_equal(rounds: list[tuple[Terms, list[Step]]], apart: bool):
    living, computed = Living(apart=apart), list[RoundOutcome]()
    for terms, steps in rounds:
        outcome, record, lates = living.live(terms, steps)
        event(f"{outcome.status}, {'stood in' if outcome.stand_ins else 'nobody stood in'}")
        lived = said(outcome, outcome.opened_ns)
        by_itself = again(record, lates, stood_in(record))
        assert said(by_itself, record.opened_wall_ns) == lived
        from_all = again(record, lates, reversed(computed))
        assert said(from_all, record.opened_wall_ns) == lived
        computed.append(from_all)
