"""The round's state machine, driven by hand: every instant is given, nothing waits."""

from itertools import product
from typing import Any, NamedTuple

import pytest

from openoutcry.core.barrier import (
    HEARD_MAX,
    NEVER_NS,
    STRANGERS_MAX,
    TRANSITIONS,
    Input,
    Round,
    State,
    Verdict,
)
from openoutcry.core.outcome import LATE_MAX, LateAnswer, Status
from openoutcry.core.terms import agree

SIGNAL_NS, BARRIER_NS = 5_000, 10_000


class Signal(NamedTuple):
    event_id: str
    symbol: str = "ES"
    round_id: str | None = None


def a_round(*roster: str, **settings: Any) -> Round:
    times = {"signal_timeout_ns": SIGNAL_NS, "barrier_timeout_ns": BARRIER_NS}
    recall = settings.pop("recall", None)
    return Round("r-1", agree(roster, **(times | settings)), 0, recall=recall)


def snapshot(round_: Round) -> Any:
    return (
        round_.state,
        round_.outcome,
        round_.due_ns,
        round_.opinions,
        round_.missing,
        dict(round_._heard),
        dict(round_._abstained),
        dict(round_._heartbeats),
    )


# -- the table -----------------------------------------------------------------------------------------


def test_every_state_that_is_not_final_has_a_way_out_by_time_alone():
    for state in (State.OPEN, State.QUORATE):
        assert (state, Input.SIGNAL_TIMEOUT) in TRANSITIONS
    assert TRANSITIONS[State.OVERTIME, Input.BARRIER_TIMEOUT] == (State.EXPIRED, Status.EXPIRED)


def test_nothing_leads_out_of_a_final_state():
    for state, happened in product((State.RELEASED, State.EXPIRED), Input):
        assert (state, happened) not in TRANSITIONS


def test_a_transition_has_a_status_exactly_when_it_ends_the_round():
    for after, status in TRANSITIONS.values():
        assert (status is not None) == (after in {State.RELEASED, State.EXPIRED})


# -- release -------------------------------------------------------------------------------------------


def test_a_round_is_complete_at_the_instant_of_the_last_answer():
    round_ = a_round("a", "b")
    assert round_.arrive("a", Signal("1"), 10) is Verdict.COUNTED
    assert round_.outcome is None
    assert round_.arrive("b", Signal("2"), 20) is Verdict.COUNTED
    outcome = round_.outcome
    assert outcome is not None
    assert (outcome.status, outcome.valid, outcome.released_ns) == ("complete", True, 20)
    assert outcome == {"a": Signal("1"), "b": Signal("2")}
    assert round_.state is State.RELEASED
    assert round_.next_deadline_ns() is None


def test_a_quorum_before_signal_timeout_still_holds_out_for_everybody():
    round_ = a_round("a", "b", "c", quorum=2)
    round_.arrive("a", Signal("1"), 10)
    round_.arrive("b", Signal("2"), 20)
    assert (round_.state, round_.outcome) == (State.QUORATE, None)
    assert round_.tick(SIGNAL_NS - 1) is None
    outcome = round_.tick(SIGNAL_NS)
    assert outcome is not None
    assert (outcome.status, outcome.valid, outcome.missing) == ("quorate", True, {"c"})


def test_a_quorum_met_after_signal_timeout_releases_at_that_answer_and_not_at_the_deadline():
    round_ = a_round("a", "b", "c", quorum=2)
    round_.arrive("a", Signal("1"), 10)
    assert round_.tick(SIGNAL_NS) is None
    assert round_.state is State.OVERTIME
    round_.arrive("c", Signal("2"), SIGNAL_NS + 300)
    assert round_.outcome is not None
    assert (round_.outcome.status, round_.outcome.released_ns) == ("quorate", SIGNAL_NS + 300)


def test_a_round_without_its_quorum_expires_at_barrier_timeout_with_what_it_has():
    round_ = a_round("a", "b", "c", quorum=2)
    round_.arrive("a", Signal("1"), 10)
    assert round_.tick(BARRIER_NS - 1) is None
    outcome = round_.tick(BARRIER_NS)
    assert outcome is not None
    assert (outcome.status, outcome.valid, dict(outcome)) == ("expired", False, {"a": Signal("1")})
    assert round_.state is State.EXPIRED


def test_a_quorum_that_holds_at_a_common_deadline_is_quorate_and_not_expired():
    round_ = a_round("a", "b", quorum=1, signal_timeout_ns=BARRIER_NS)
    round_.arrive("a", Signal("1"), 10)
    outcome = round_.tick(BARRIER_NS)
    assert outcome is not None
    assert (outcome.status, outcome.valid) == ("quorate", True)


def test_one_late_tick_passes_both_deadlines_in_order():
    quorate = a_round("a", "b", quorum=1)
    quorate.arrive("a", Signal("1"), 10)
    outcome = quorate.tick(50 * BARRIER_NS)
    assert outcome is not None
    assert (outcome.status, outcome.released_ns, outcome.noticed_ns) == (
        "quorate",
        SIGNAL_NS,
        50 * BARRIER_NS,
    )
    expired = a_round("a", "b").tick(50 * BARRIER_NS)
    assert expired is not None
    assert (expired.status, expired.released_ns) == ("expired", BARRIER_NS)


def test_a_tick_before_its_time_changes_nothing():
    round_ = a_round("a", "b", quorum=1)
    round_.arrive("a", Signal("1"), 10)
    before = snapshot(round_)
    assert round_.tick(SIGNAL_NS - 1) is None
    assert snapshot(round_) == before
    assert round_.next_deadline_ns() == SIGNAL_NS


def test_with_nobody_expected_a_round_is_over_at_once_and_never_looks_valid():
    round_ = a_round()
    assert round_.outcome is not None
    assert (round_.outcome.status, round_.outcome.valid, len(round_.outcome)) == ("empty", False, 0)
    assert round_.due_ns == NEVER_NS


def test_an_outcome_that_nobody_answered_is_not_valid():
    outcome = a_round("a", quorum=1).tick(BARRIER_NS)
    assert outcome is not None
    assert not outcome.valid
    assert not outcome


def test_a_round_has_one_outcome_whatever_happens_afterwards():
    round_ = a_round("a")
    round_.arrive("a", Signal("1"), 10)
    outcome = round_.outcome
    round_.arrive("a", Signal("2"), 20)
    round_.abstain("a", "", 30)
    assert round_.tick(BARRIER_NS) is outcome
    assert round_.close("enough", 2 * BARRIER_NS) is outcome
    assert outcome == {"a": Signal("1")}


# -- who counts ----------------------------------------------------------------------------------------


def test_three_strangers_do_not_release_a_round_of_four():
    round_ = a_round("a", "b", "c", "d", quorum=3)
    for name in ("x", "y", "z"):
        assert round_.arrive(name, Signal(name), 10) is Verdict.STRANGER
    assert round_.abstain("x", "", 10) is Verdict.STRANGER
    assert round_.heartbeat("x", 10) is Verdict.STRANGER
    outcome = round_.tick(BARRIER_NS)
    assert outcome is not None
    assert (outcome.status, len(outcome), outcome.strangers) == ("expired", 0, {"x": 1, "y": 1, "z": 1})


def test_a_critical_agent_is_expected_although_nobody_registered_it():
    round_ = a_round("a", critical=["risk"])
    round_.arrive("a", Signal("1"), 10)
    assert round_.outcome is None
    outcome = round_.tick(BARRIER_NS)
    assert outcome is not None
    assert (outcome.valid, outcome.missing_critical) == (False, {"risk"})


def test_without_a_critical_agent_the_quorum_releases_at_its_instant_but_is_not_valid():
    round_ = a_round("a", "b", "risk", quorum=2, critical=["risk"])
    round_.arrive("a", Signal("1"), 10)
    round_.arrive("b", Signal("2"), 20)
    outcome = round_.tick(SIGNAL_NS)
    assert outcome is not None
    assert (outcome.status, outcome.valid, outcome.released_ns) == ("quorate", False, SIGNAL_NS)
    assert outcome.missing_critical == {"risk"}


def test_the_abstention_of_a_critical_agent_is_its_answer():
    round_ = a_round("a", "risk", critical=["risk"])
    round_.arrive("a", Signal("1"), 10)
    round_.abstain("risk", "no position", 20)
    assert round_.outcome is not None
    assert (round_.outcome.status, round_.outcome.valid) == ("complete", True)


def test_an_abstention_counts_toward_the_quorum_and_is_not_handed_on():
    round_ = a_round("a", "b", "c", quorum=2)
    round_.arrive("a", Signal("1"), 10)
    assert round_.abstain("b", "no data", 20) is Verdict.COUNTED
    outcome = round_.tick(SIGNAL_NS)
    assert outcome is not None
    assert (outcome.status, set(outcome), outcome.abstained) == ("quorate", {"a"}, {"b": "no data"})
    assert outcome.answered == {"a", "b"}


def test_heartbeats_of_silent_agents_never_reach_the_quorum():
    round_ = a_round("a", "b", quorum=1)
    for name in ("a", "b"):
        assert round_.heartbeat(name, 10) is Verdict.ALIVE
    outcome = round_.tick(BARRIER_NS)
    assert outcome is not None
    assert (outcome.status, len(outcome), outcome.missing) == ("expired", 0, {"a", "b"})
    assert outcome.heartbeats == {"a": 10, "b": 10}


def test_an_opinion_takes_the_place_of_an_abstention_without_a_second_vote():
    round_ = a_round("a", "b")
    round_.abstain("a", "wait", 10)
    assert round_.abstain("a", "still waiting", 11) is Verdict.FURTHER
    assert round_.arrive("a", Signal("1"), 20) is Verdict.COUNTED
    assert (round_.outcome, round_.answers_count) == (None, 1)
    round_.arrive("b", Signal("2"), 30)
    assert round_.outcome is not None
    assert (round_.outcome.abstained, set(round_.outcome)) == ({}, {"a", "b"})


def test_an_abstention_does_not_erase_an_opinion():
    round_ = a_round("a", "b")
    round_.arrive("a", Signal("1"), 10)
    before = snapshot(round_)
    assert round_.abstain("a", "changed my mind", 20) is Verdict.OPINION_STANDS
    assert snapshot(round_) == before


# -- which signals count -------------------------------------------------------------------------------


def test_a_later_signal_for_one_symbol_does_not_erase_the_one_for_another():
    round_ = a_round("a", "b")
    long_es, flat_nq = Signal("1", "ES"), Signal("2", "NQ")
    round_.arrive("a", long_es, 10)
    assert round_.arrive("a", flat_nq, 20) is Verdict.FURTHER
    round_.arrive("b", Signal("3"), 30)
    assert round_.outcome is not None
    assert round_.outcome.votes == {("a", "ES"): long_es, ("a", "NQ"): flat_nq, ("b", "ES"): Signal("3")}
    assert round_.outcome["a"] is flat_nq


def test_the_newest_signal_per_symbol_wins_and_is_one_vote():
    round_ = a_round("a", "b", quorum=2)
    for number in range(5):
        round_.arrive("a", Signal(str(number)), number)
    assert (round_.answers_count, round_.outcome) == (1, None)
    round_.arrive("b", Signal("b"), 10)
    assert round_.outcome is not None
    assert round_.outcome.votes["a", "ES"] == Signal("4")


def test_the_same_event_twice_is_not_a_second_vote_and_does_not_come_back():
    round_ = a_round("a", "b")
    first, second = Signal("1"), Signal("2")
    round_.arrive("a", first, 10)
    round_.arrive("a", second, 20)
    before = snapshot(round_)
    assert round_.arrive("a", first, 30) is Verdict.DUPLICATE
    assert round_.arrive("b", first, 30) is Verdict.DUPLICATE
    assert snapshot(round_) == before


def test_a_signal_of_another_round_never_joins_this_one():
    round_ = a_round("a")
    before = snapshot(round_)
    assert round_.arrive("a", Signal("1", round_id="r-0"), 10) is Verdict.FOREIGN
    assert snapshot(round_) == before
    assert round_.arrive("a", Signal("2", round_id="r-1"), 20) is Verdict.COUNTED


@pytest.mark.parametrize("broken", [object(), None])
def test_what_is_no_signal_raises_and_changes_nothing(broken):
    round_ = a_round("a")
    before = snapshot(round_)
    with pytest.raises(AttributeError):
        round_.arrive("a", broken, 10)
    assert snapshot(round_) == before


def test_a_late_signal_is_recorded_in_its_round_and_has_no_vote():
    round_ = a_round("a", "b", quorum=1)
    round_.arrive("a", Signal("1"), 10)
    outcome = round_.tick(SIGNAL_NS)
    assert outcome is not None
    assert round_.arrive("b", Signal("2"), SIGNAL_NS + 7) is Verdict.LATE
    assert round_.arrive("b", Signal("2"), SIGNAL_NS + 8) is Verdict.DUPLICATE
    assert round_.abstain("b", "slow", SIGNAL_NS + 9) is Verdict.LATE
    assert round_.heartbeat("b", SIGNAL_NS + 9) is Verdict.LATE
    assert outcome.late == [LateAnswer("b", Signal("2"), None, 7), LateAnswer("b", None, "slow", 9)]  # type: ignore[arg-type]
    assert (set(outcome), outcome.missing, outcome.late_count) == ({"a"}, {"b"}, 2)


def test_an_answer_at_the_deadline_itself_is_late_even_if_no_timer_has_noticed():
    round_ = a_round("a", "b")
    round_.arrive("a", Signal("1"), 10)
    assert round_.arrive("b", Signal("2"), BARRIER_NS) is Verdict.LATE
    assert round_.outcome is not None
    assert (round_.outcome.status, round_.outcome.released_ns) == ("expired", BARRIER_NS)


def test_closing_ends_an_open_round_as_expired_for_the_reason_even_with_its_quorum():
    round_ = a_round("a", "b", quorum=1)
    round_.arrive("a", Signal("1"), 10)
    outcome = round_.close("the bus stopped", 20)
    assert (outcome.status, outcome.valid, outcome.reason) == ("expired", False, "the bus stopped")
    assert outcome.released_ns == 20


def test_closing_a_round_that_was_due_gives_it_the_outcome_it_had_earned():
    round_ = a_round("a", "b", quorum=1)
    round_.arrive("a", Signal("1"), 10)
    assert round_.close("the bus stopped", SIGNAL_NS).status == "quorate"


# -- what is kept is bounded -----------------------------------------------------------------------------


def test_a_flooding_agent_does_not_grow_the_round_without_bound():
    round_ = a_round("a", "b")
    for number in range(HEARD_MAX + 10):
        round_.arrive("a", Signal(f"{number}", f"S{number % 3}"), 1)
    assert len(round_._heard) < HEARD_MAX
    round_.arrive("b", Signal("b"), 2)
    assert round_.outcome is not None
    last = HEARD_MAX + 9
    assert {signal.event_id for signal in round_.outcome.votes.values()} == {
        f"{last}",
        f"{last - 1}",
        f"{last - 2}",
        "b",
    }


def test_late_answers_and_strangers_are_counted_but_kept_within_bounds():
    round_ = a_round("a")
    round_.arrive("a", Signal("1"), 10)
    for number in range(LATE_MAX + 5):
        round_.arrive("a", Signal(f"late-{number}"), 20)
        round_.arrive(f"x{number}", Signal(f"x-{number}"), 20)
    assert round_.outcome is not None
    assert (len(round_.outcome.late), round_.outcome.late_count) == (LATE_MAX, LATE_MAX + 5)
    assert len(round_.outcome.strangers) == STRANGERS_MAX


# -- stand-ins -------------------------------------------------------------------------------------------


def released(round_id: str, opened_ns: int, **answers: Signal) -> Any:
    round_ = Round(round_id, agree(answers, signal_timeout_ns=10, barrier_timeout_ns=10), opened_ns)
    for agent, signal in answers.items():
        round_.arrive(agent, signal, opened_ns)
    return round_.outcome


def test_a_stale_signal_stands_in_marked_with_its_true_age_and_without_a_vote():
    old = Signal("old", "ES")
    earlier = [released("r-0", -3_000, b=old)]
    round_ = a_round("a", "b", quorum=2, stand_in_max_age_ns=20_000, recall=lambda: earlier)
    round_.arrive("a", Signal("1"), 10)
    outcome = round_.tick(BARRIER_NS)
    assert outcome is not None
    assert (outcome.status, outcome.valid, set(outcome)) == ("expired", False, {"a"})
    (stand_in,) = outcome.stand_ins
    assert stand_in == ("b", "ES", old, BARRIER_NS + 3_000, "r-0")
    assert stand_in.signal is old
    assert outcome.with_stand_ins() == {"a": Signal("1"), "b": stand_in}
    assert set(outcome) == {"a"}


def test_a_stand_in_expires_and_the_newest_goes_first():
    earlier = [
        released("r-2", -500, b=Signal("new")),
        released("r-1", -900, b=Signal("older"), c=Signal("c")),
    ]
    round_ = a_round("a", "b", "c", stand_in_max_age_ns=BARRIER_NS + 600, recall=lambda: earlier)
    outcome = round_.tick(BARRIER_NS)
    assert outcome is not None
    assert [(one.agent, one.signal.event_id) for one in outcome.stand_ins] == [("b", "new")]


def test_an_outcome_says_when_each_has_abstained_first_also_who_had_an_opinion_after_that():
    round_ = a_round("a", "b", "c")
    round_.abstain("a", "no data", 1)
    round_.abstain("b", "asleep", 2)
    round_.abstain("a", "still none", 3)
    round_.arrive("b", Signal("1"), 4)
    round_.abstain("b", "never mind", 4)
    outcome = round_.close("enough", 5)
    assert outcome.abstained == {"a": "still none"}
    assert outcome.abstained_ns == {"a": 1, "b": 2}


def test_nothing_stands_in_for_an_agent_that_abstained_since():
    earlier = [a_round("b"), a_round("b")]
    earlier[0].abstain("b", "closed my position", 2)
    earlier[1].arrive("b", Signal("old"), 1)
    round_ = a_round("b", stand_in_max_age_ns=10**9, recall=lambda: [one.outcome for one in earlier])
    outcome = round_.tick(BARRIER_NS)
    assert outcome is not None
    assert outcome.stand_ins == ()


def test_a_late_signal_never_stands_in():
    earlier = a_round("b")
    earlier.tick(BARRIER_NS)
    earlier.arrive("b", Signal("late"), BARRIER_NS)
    round_ = a_round("b", stand_in_max_age_ns=10**9, recall=lambda: [earlier.outcome])
    outcome = round_.tick(BARRIER_NS)
    assert outcome is not None
    assert outcome.stand_ins == ()
