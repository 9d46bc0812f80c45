"""Trends: errors in a row, and a lag that keeps growing."""

from hypothesis import given
from hypothesis import strategies as st

from openoutcry.core.trends import ErrorStreak, LagTrend

S = 1_000_000_000


def test_failures_in_a_row_are_counted():
    streak = ErrorStreak()
    assert [streak.failed(0) for _ in range(3)] == [1, 2, 3]
    assert streak.now(0) == 3


def test_a_success_in_between_begins_anew():
    streak = ErrorStreak()
    streak.failed(0)
    assert streak.now(1) == 0
    assert streak.failed(1) == 1


def test_a_reset_begins_anew():
    streak = ErrorStreak()
    streak.failed(0)
    streak.reset()
    assert streak.now(0) == 0


@given(st.lists(st.booleans(), max_size=50))
def test_the_streak_is_that_of_the_outcomes(outcomes):
    streak, handled, expected = ErrorStreak(), 0, 0
    for ok in outcomes:
        handled += ok
        expected = 0 if ok else expected + 1
        if not ok:
            streak.failed(handled)
        assert streak.now(handled) == expected


def lag_over(lags, every_s=1.0, window_s=20.0) -> LagTrend:
    trend = LagTrend(window_s, 0)
    for n, lag in enumerate(lags):
        trend.note(lag, int(n * every_s * S))
    return trend


def test_a_lag_that_only_grows_is_growing_by_its_slope():
    assert lag_over(range(0, 1000, 10)).per_s == 10.0


def test_a_lag_that_drains_now_and_then_is_not():
    assert lag_over([n % 7 * 100 for n in range(100)]).per_s == 0


def test_a_lag_that_stays_is_not():
    assert lag_over([500] * 100).per_s == 0


def test_a_burst_that_is_worked_off_is_not():
    assert lag_over([0] * 30 + list(range(1000, 0, -10))).per_s == 0


def test_nothing_is_said_before_a_whole_window_was_seen():
    assert lag_over(range(0, 240, 10)).per_s == 0
    assert lag_over(range(0, 260, 10)).per_s == 10.0


def test_a_growth_that_ends_is_over_after_a_period():
    assert lag_over([*range(0, 500, 10), *[500] * 11]).per_s == 0


def test_a_time_in_which_nobody_looked_proves_nothing():
    trend = lag_over(range(0, 1000, 10))
    trend.note(2000, 500 * S)
    assert trend.per_s == 0
