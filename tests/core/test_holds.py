"""Holds: every hold stops what the table says, together they stop all of that, and nothing unknown gets in."""

import gc
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from openoutcry.core.holds import LIFTED_BY_RESUME, TABLE, Begins, Hold, Holds, SharedHolds, as_markdown

DOCS = Path(__file__).resolve().parents[2] / "docs" / "holds.md"
LIFTABLE = [hold for hold in Hold if hold not in (Hold.ENDED, Hold.NOT_RESTORED)]
every_hold = pytest.mark.parametrize("hold", Hold, ids=lambda hold: hold.name)
every_hold_but_the_end = pytest.mark.parametrize("hold", LIFTABLE, ids=lambda hold: hold.name)


def answers(holds: Holds) -> tuple[object, ...]:
    """Everything that is asked of holds."""
    return (
        holds.is_clear,
        holds.may_begin,
        holds.one_at_a_time,
        holds.may_read,
        holds.ended,
        holds.word,
        *(hold in holds for hold in Hold),
    )


def expected(of: set[Hold]) -> tuple[object, ...]:
    """The same by the table, asked row by row."""
    begins = [TABLE[hold].begins for hold in of]
    may_begin = all(b is not Begins.NONE for b in begins)
    words = [TABLE[hold].word for hold in Hold if hold in of and TABLE[hold].word]
    return (
        len(of) == 0,
        may_begin,
        any(b is Begins.ONE for b in begins),
        may_begin and all(TABLE[hold].reads for hold in of),
        Hold.ENDED in of,
        words[0] if words else "",
        *(hold in of for hold in Hold),
    )


CLEAR = answers(Holds())


def test_without_holds_everything_may_be_done() -> None:
    holds = Holds()
    assert (holds.is_clear, holds.may_begin, holds.may_read) == (True, True, True)
    assert (holds.one_at_a_time, holds.ended, holds.word) == (False, False, "")


def test_the_table_has_a_row_for_every_hold_in_the_order_of_the_words() -> None:
    assert list(TABLE) == list(Hold)
    words = [row.word for row in TABLE.values() if row.word]
    assert words == ["ended", "paused", "not restored", "restoring", "held", "failing", "no seat"]


@every_hold
def test_a_row_says_who_sets_the_hold_and_what_it_means(hold: Hold) -> None:
    row = TABLE[hold]
    assert row.set_by
    assert row.meaning.endswith(".")
    assert bool(row.lifted_by) == (hold in LIFTABLE)
    assert row.begins is not Begins.ALL or not row.reads, "it stops nothing, so it is no hold"


@every_hold
def test_a_hold_stops_what_its_row_says(hold: Hold) -> None:
    holds = Holds()
    assert holds.set(hold)
    assert answers(holds) == expected({hold})
    assert not holds.is_clear


@every_hold_but_the_end
def test_lifting_a_hold_gives_everything_back(hold: Hold) -> None:
    holds = Holds()
    holds.set(hold)
    assert holds.lift(hold)
    assert answers(holds) == CLEAR


@every_hold
def test_setting_a_hold_again_changes_nothing(hold: Hold) -> None:
    holds = Holds()
    holds.set(hold)
    before = answers(holds)
    assert not holds.set(hold)
    assert answers(holds) == before


@every_hold_but_the_end
def test_lifting_what_is_not_set_changes_nothing(hold: Hold) -> None:
    holds = Holds()
    assert not holds.lift(hold)
    assert answers(holds) == CLEAR


@pytest.mark.parametrize(("one", "other"), [*combinations(LIFTABLE, 2)], ids=lambda hold: hold.name)
def test_lifting_one_hold_leaves_the_other_as_it_is(one: Hold, other: Hold) -> None:
    holds = Holds()
    holds.set(one)
    holds.set(other)
    assert answers(holds) == expected({one, other})
    holds.lift(one)
    assert answers(holds) == expected({other})


def test_nobody_lifts_the_end() -> None:
    holds, shared = Holds(), SharedHolds()
    holds.set(Hold.ENDED)
    before = answers(holds)
    for everything in (holds, shared):
        with pytest.raises(ValueError, match="never lifted"):
            everything.lift(Hold.ENDED)
    assert answers(holds) == before


@pytest.mark.parametrize("unknown", ["paused", "PAUSED", None, 1, Begins.NONE])
def test_what_is_unknown_raises_and_changes_nothing(unknown: object) -> None:
    shared = SharedHolds()
    holds = Holds(shared)
    for change in (holds.set, holds.lift, shared.set, shared.lift):
        with pytest.raises(ValueError, match="is no hold; there are ENDED, PAUSED"):
            change(unknown)  # type: ignore[arg-type]
    assert answers(holds) == CLEAR
    assert answers(Holds(shared)) == CLEAR


def test_a_shared_hold_is_everybodys_and_that_of_those_who_come_later() -> None:
    shared = SharedHolds()
    early = Holds(shared)
    shared.set(Hold.READS_WAIT)
    late = Holds(shared)
    assert answers(early) == answers(late) == expected({Hold.READS_WAIT})
    shared.lift(Hold.READS_WAIT)
    assert answers(early) == answers(late) == answers(Holds(shared)) == CLEAR


def test_who_has_the_bus_alone_begins_one_event_at_a_time_and_everybody_else_none() -> None:
    shared = SharedHolds()
    one, other = Holds(shared), Holds(shared)
    shared.let_alone(one)
    late = Holds(shared)
    assert answers(one) == expected({Hold.ALONE})
    assert answers(other) == answers(late) == expected({Hold.OTHER_ALONE})
    assert shared.is_alone
    shared.let_alone(other)
    assert answers(other) == expected({Hold.ALONE})
    assert answers(one) == answers(late) == expected({Hold.OTHER_ALONE})
    shared.end_alone()
    assert answers(one) == answers(other) == answers(late) == answers(Holds(shared)) == CLEAR
    assert not shared.is_alone


def test_ending_a_trial_that_has_not_begun_changes_nothing() -> None:
    shared = SharedHolds()
    holds = Holds(shared)
    shared.end_alone()
    assert answers(holds) == CLEAR


def test_a_subscription_that_has_ended_or_is_forgotten_shares_nothing() -> None:
    shared = SharedHolds()
    ended, forgotten = Holds(shared), Holds(shared)
    ended.set(Hold.ENDED)
    del forgotten
    gc.collect()
    shared.set(Hold.READS_WAIT)
    assert answers(ended) == expected({Hold.ENDED})


def test_the_docs_have_the_table() -> None:
    assert DOCS.read_text(encoding="utf-8").endswith("\n\n" + as_markdown())


class ManyHolds(RuleBasedStateMachine):
    """Subscriptions that come and end, held one by one and all together, against plain sets."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = SharedHolds()
        self.all_hold: set[Hold] = set()
        self.holds: list[Holds] = []
        self.models: list[set[Hold]] = []
        self.alone: int | None = None

    @rule()
    def subscribe(self) -> None:
        self.holds.append(Holds(self.shared))
        model = set(self.all_hold)
        if self.alone is not None:
            model.add(Hold.OTHER_ALONE)
        self.models.append(model)

    def _one(self, number: int) -> int:
        return number % len(self.holds)

    @precondition(lambda self: self.holds)
    @rule(
        number=st.integers(0, 99),
        hold=st.sampled_from([Hold.PAUSED, Hold.RECOVERY, Hold.FAILING, Hold.COOLING]),
    )
    def set(self, number: int, hold: Hold) -> None:
        one = self._one(number)
        assert self.holds[one].set(hold) == (hold not in self.models[one])
        self.models[one].add(hold)

    @precondition(lambda self: self.holds)
    @rule(
        number=st.integers(0, 99),
        hold=st.sampled_from([Hold.PAUSED, Hold.RECOVERY, Hold.FAILING, Hold.COOLING]),
    )
    def lift(self, number: int, hold: Hold) -> None:
        one = self._one(number)
        assert self.holds[one].lift(hold) == (hold in self.models[one])
        self.models[one].discard(hold)

    @rule(hold=st.sampled_from([Hold.READS_WAIT, Hold.SAVING]))
    def set_all(self, hold: Hold) -> None:
        self.shared.set(hold)
        self.all_hold.add(hold)
        for model in self.models:
            if Hold.ENDED not in model:
                model.add(hold)

    @rule(hold=st.sampled_from([Hold.READS_WAIT, Hold.SAVING]))
    def lift_all(self, hold: Hold) -> None:
        self.shared.lift(hold)
        self.all_hold.discard(hold)
        for model in self.models:
            if Hold.ENDED not in model:
                model.discard(hold)

    @precondition(lambda self: self.holds)
    @rule(number=st.integers(0, 99))
    def let_alone(self, number: int) -> None:
        one = self._one(number)
        if Hold.ENDED in self.models[one]:
            return
        self.shared.let_alone(self.holds[one])
        self._end_alone()
        self.alone = one
        for each, model in enumerate(self.models):
            if each == one:
                model.add(Hold.ALONE)
            elif Hold.ENDED not in model:
                model.add(Hold.OTHER_ALONE)

    @rule()
    def end_alone(self) -> None:
        self.shared.end_alone()
        self._end_alone()

    def _end_alone(self) -> None:
        if self.alone is not None:
            self.models[self.alone].discard(Hold.ALONE)
        for model in self.models:
            if Hold.ENDED not in model:
                model.discard(Hold.OTHER_ALONE)
        self.alone = None

    @precondition(lambda self: self.holds)
    @rule(number=st.integers(0, 99))
    def end(self, number: int) -> None:
        one = self._one(number)
        self.holds[one].set(Hold.ENDED)
        self.models[one].add(Hold.ENDED)

    @invariant()
    def every_answer_is_that_of_the_table(self) -> None:
        for holds, model in zip(self.holds, self.models, strict=True):
            assert answers(holds) == expected(model)
        assert self.shared.is_alone == (self.alone is not None)


ManyHolds.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestManyHolds = ManyHolds.TestCase


def test_what_resume_lifts_is_what_the_table_says() -> None:
    assert set(LIFTED_BY_RESUME) == {hold for hold, row in TABLE.items() if "`resume`" in row.lifted_by}
