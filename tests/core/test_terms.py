import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openoutcry.core.terms import agree, check_quorum, count_quorum, to_ns
from openoutcry.errors import ConfigError

TIMES = {"signal_timeout_ns": 5, "barrier_timeout_ns": 10}


@pytest.mark.parametrize(
    ("share", "size", "count"),
    [
        (0.8, 14, 12),
        (0.1, 30, 3),
        (0.07, 100, 7),
        (0.29, 100, 29),
        (0.5, 1, 1),
        (0.8, 1, 1),
        (1 / 3, 3, 1),
        (1.0, 14, 14),
        (1e-300, 14, 1),
        (0.8, 0, 0),
    ],
)
def test_a_share_is_rounded_up_from_the_decimal_that_was_written(share, size, count):
    assert count_quorum(share, size) == count


@given(st.integers(1, 1000), st.integers(1, 500))
def test_a_share_in_thousandths_agrees_with_whole_number_arithmetic(thousandths, size):
    assert count_quorum(thousandths / 1000, size) == -(-thousandths * size // 1000)


@given(st.floats(0, 1, exclude_min=True), st.integers(1, 500))
def test_a_share_asks_for_at_least_one_and_at_most_everybody(share, size):
    assert 1 <= count_quorum(share, size) <= size


def test_one_is_a_count_and_one_point_nought_is_everybody():
    assert (count_quorum(1, 14), count_quorum(1.0, 14), count_quorum(None, 14)) == (1, 14, 14)


@pytest.mark.parametrize("quorum", [0, -1, 0.0, -0.5, 1.0001, 80.0, math.nan, math.inf, True, "0.8", [3]])
def test_a_quorum_without_a_meaning_is_refused_with_its_value(quorum):
    for refused in (lambda: check_quorum(quorum), lambda: agree(["a"], quorum=quorum, **TIMES)):  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="quorum is"):
            refused()


def test_a_count_larger_than_the_roster_is_refused_with_the_remedy():
    with pytest.raises(ConfigError, match=r"quorum is 3, but only 2 agents are expected: lower it"):
        agree(["a", "b"], quorum=3, **TIMES)  # type: ignore[arg-type]
    assert agree(["a", "b"], quorum=3, critical=["c"], **TIMES).quorum_count == 3
    assert agree([], quorum=3, **TIMES).quorum_count == 0  # type: ignore[arg-type]


@pytest.mark.parametrize("names", [[""], [None], [3], "abc"])
def test_names_are_strings_of_at_least_one_character(names):
    with pytest.raises(ConfigError, match="critical"):
        agree(["a"], critical=names, **TIMES)
    with pytest.raises(ConfigError, match="roster"):
        agree(names, **TIMES)  # type: ignore[arg-type]


def test_critical_agents_join_the_roster():
    terms = agree(["a"], critical=["risk"], **TIMES)
    assert (terms.roster, terms.critical, terms.quorum_count) == ({"a", "risk"}, {"risk"}, 2)


@pytest.mark.parametrize("value", [0, -1, 1.5, True, None])
@pytest.mark.parametrize("setting", ["signal_timeout_ns", "barrier_timeout_ns", "stand_in_max_age_ns"])
def test_durations_are_whole_nanoseconds_above_nought(setting, value):
    if (setting, value) == ("stand_in_max_age_ns", None):
        return
    with pytest.raises(ConfigError, match=setting):
        agree(["a"], **(TIMES | {setting: value}))


def test_a_signal_timeout_beyond_the_hard_deadline_is_refused():
    with pytest.raises(
        ConfigError, match=r"signal_timeout is 11 ns, but a round ends at its barrier_timeout of 10 ns"
    ):
        agree(["a"], signal_timeout_ns=11, barrier_timeout_ns=10)


def test_seconds_become_nanoseconds():
    assert (to_ns("t", 5), to_ns("t", 0.3), to_ns("t", 1e-9)) == (5_000_000_000, 300_000_000, 1)


@pytest.mark.parametrize("seconds", [0, -1, 1e-12, math.nan, math.inf, True, None, "5"])
def test_seconds_must_be_finite_and_above_nought(seconds):
    with pytest.raises(ConfigError, match=r"timeout is .*"):
        to_ns("timeout", seconds)
