"""The recovery ladder: harder from step to step, bounded, patient, and back on the ground after a quiet time."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from openoutcry.config import LadderConfig
from openoutcry.core.ladder import Action, Ladder, Step, journal_rungs
from openoutcry.errors import ConfigError

S = 1_000_000_000
MOST_STEPS = 1 + 1 + 3 + 1 + 1


def climb(ladder: Ladder, trouble: str = "stuck", now_ns: int = 0) -> list[tuple[int, Action]]:
    """The whole climb of a culprit that nothing helps, as (second, action)."""
    steps = []
    while not ladder.is_exhausted:
        step = ladder.look(trouble, now_ns)
        if step is not None:
            steps.append((now_ns // S, step.action))
        now_ns = ladder.due_ns if ladder.due_ns is not None else now_ns
    return steps


def test_a_culprit_that_nothing_helps_is_quarantined_after_a_bounded_climb():
    assert climb(Ladder(LadderConfig())) == [
        (0, Action.CANCEL),
        (2, Action.RESTART),
        (4, Action.HOLD),
        (5, Action.RELEASE),
        (7, Action.HOLD),
        (11, Action.RELEASE),
        (13, Action.HOLD),
        (29, Action.RELEASE),
        (31, Action.HOLD),
        (91, Action.RELEASE),
        (93, Action.QUARANTINE),
    ]


def test_what_was_tried_is_told_in_words():
    ladder = Ladder(LadderConfig())
    climb(ladder)
    assert ladder.tried == (
        "cancelled the call",
        "restarted the consumer",
        "backed off for 1 s",
        "backed off for 4 s",
        "backed off for 16 s",
        "paused for 60 s",
        "quarantined",
    )


def test_without_a_call_to_cancel_it_begins_with_the_consumer():
    assert climb(Ladder(LadderConfig()), "dead")[0] == (0, Action.RESTART)
    assert climb(Ladder(LadderConfig()), "failing")[0] == (0, Action.HOLD)


def test_each_step_has_time_to_show_an_effect():
    ladder = Ladder(LadderConfig())
    assert ladder.look("stuck", 0) == Step(Action.CANCEL, 2 * S)
    assert ladder.look("stuck", 2 * S - 1) is None
    assert ladder.look("stuck", 2 * S) == Step(Action.RESTART, 2 * S)


def test_trouble_that_comes_back_before_the_quiet_time_is_over_goes_on_climbing():
    ladder = Ladder(LadderConfig())
    ladder.look("stuck", 0)
    assert ladder.look(None, 3 * S) is None
    assert ladder.look("stuck", 100 * S).action is Action.RESTART


def test_trouble_after_a_quiet_time_begins_on_the_ground():
    ladder = Ladder(LadderConfig())
    ladder.look("stuck", 0)
    ladder.look(None, 1 * S)
    assert ladder.is_climbing
    assert ladder.due_ns == 121 * S
    ladder.look(None, 121 * S)
    assert (ladder.is_climbing, ladder.tried, ladder.due_ns) == (False, (), None)
    assert ladder.look("stuck", 121 * S).action is Action.CANCEL


def test_while_it_holds_back_trouble_is_not_listened_to():
    ladder = Ladder(LadderConfig())
    assert ladder.look("failing", 0).action is Action.HOLD
    assert ladder.is_holding
    assert ladder.look("dead", S - 1) is None
    assert ladder.look(None, S).action is Action.RELEASE
    assert not ladder.is_holding


def test_a_well_culprit_gets_no_step():
    ladder = Ladder(LadderConfig())
    assert ladder.look(None, 0) is None
    assert ladder.due_ns is None
    assert not ladder.is_climbing


def test_at_the_end_only_a_person_helps():
    ladder = Ladder(LadderConfig())
    climb(ladder)
    assert ladder.look("stuck", 10**18) is None
    assert ladder.due_ns is None
    assert ladder.resume() == Step(Action.RELEASE)
    assert (ladder.is_exhausted, ladder.tried) == (False, ())
    assert ladder.look("stuck", 10**18).action is Action.CANCEL


def test_resuming_who_is_held_back_lets_them_go_on_and_who_is_not_needs_nothing():
    ladder = Ladder(LadderConfig())
    assert ladder.resume() is None
    ladder.look("failing", 0)
    assert ladder.resume() == Step(Action.RELEASE)


def test_the_journal_is_reopened_a_few_times_and_then_given_up():
    config = LadderConfig()
    ladder = Ladder(config, journal_rungs(config))
    assert climb(ladder, "dead") == [
        (0, Action.REOPEN),
        (2, Action.REOPEN),
        (10, Action.REOPEN),
        (42, Action.GIVE_UP),
    ]


@pytest.mark.parametrize("reopens", [0, 1])
def test_with_no_attempts_a_rung_is_passed_over(reopens):
    config = LadderConfig(reopens=reopens, back_offs=0)
    assert len(climb(Ladder(config, journal_rungs(config)), "dead")) == reopens + 1
    assert [a for _, a in climb(Ladder(config), "failing")] == [
        Action.HOLD,
        Action.RELEASE,
        Action.QUARANTINE,
    ]


@pytest.mark.parametrize(
    "settings_",
    [{"patience_s": 0}, {"back_offs": -1}, {"back_off_s": 0}, {"pause_s": 0}, {"quiet_s": 1}, {"reopens": 9}],
)
def test_settings_out_of_range_are_refused(settings_):
    with pytest.raises(ConfigError):
        LadderConfig(**settings_)


class Recovery(RuleBasedStateMachine):
    """Any trouble at any time: bounds hold, HOLD and RELEASE alternate, steps keep their distance."""

    @initialize(begin=st.sampled_from(["stuck", "dead", "failing"]))
    def ground(self, begin):
        self.ladder = Ladder(LadderConfig())
        self.now_ns = 0
        self.held = False
        self.steps_since_ground = 0
        self.not_before_ns = 0

    @rule(trouble=st.sampled_from([None, None, "stuck", "dead", "failing"]), wait_s=st.floats(0, 200))
    def look(self, trouble, wait_s):
        self.now_ns += int(wait_s * S)
        step = self.ladder.look(trouble, self.now_ns)
        if not self.ladder.tried:
            self.steps_since_ground = 0
        if step is None:
            return
        assert self.now_ns >= self.not_before_ns
        assert step.action is Action.RELEASE or trouble is not None
        assert (step.action is Action.RELEASE) == self.held
        self.held = step.action in (Action.HOLD, Action.QUARANTINE)
        self.steps_since_ground += step.action is not Action.RELEASE
        self.not_before_ns = self.now_ns + step.wait_ns

    @rule()
    def resume(self):
        step = self.ladder.resume()
        assert (step is not None) == self.held
        self.held = False
        self.steps_since_ground = 0
        self.not_before_ns = 0

    @invariant()
    def bounds_hold(self):
        if hasattr(self, "ladder"):
            assert self.steps_since_ground <= MOST_STEPS
            assert len(self.ladder.tried) <= MOST_STEPS
            assert self.ladder.is_holding + self.ladder.is_exhausted == self.held
            assert not (self.ladder.is_exhausted and self.ladder.is_climbing)


Recovery.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestRecovery = Recovery.TestCase


@given(st.lists(st.tuples(st.floats(0, 30), st.booleans()), max_size=100))
def test_a_ladder_that_is_looked_at_when_it_says_so_always_has_a_next_time_or_an_end(looks):
    ladder, now_ns = Ladder(LadderConfig()), 0
    for wait_s, is_ill in looks:
        now_ns += int(wait_s * S)
        ladder.look("stuck" if is_ill else None, now_ns)
        assert not ladder.is_climbing or ladder.due_ns is not None
