"""Retries: again at a time, or dead."""

from dataclasses import FrozenInstanceError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openoutcry.config import NO_RETRY, RetryPolicy
from openoutcry.core.retries import Again, Dead, DeadLetter, after_failure

MS = 1_000_000


def waits_ms(policy: RetryPolicy, jitter: float = 0.0) -> list[float]:
    steps = (after_failure(policy, attempts, jitter) for attempts in range(1, policy.attempts))
    return [step.wait_ns / MS for step in steps if isinstance(step, Again)]


def test_each_wait_is_a_factor_longer_than_the_one_before():
    assert waits_ms(RetryPolicy(attempts=4, first_s=0.05, factor=4)) == [50, 200, 800]


def test_no_wait_is_longer_than_the_longest():
    assert waits_ms(RetryPolicy(attempts=5, first_s=1, factor=10, max_s=5)) == [1000, 5000, 5000, 5000]


def test_a_factor_of_one_waits_the_same_each_time():
    assert waits_ms(RetryPolicy(attempts=4, first_s=0.5, factor=1)) == [500, 500, 500]


def test_jitter_only_lengthens_and_by_no_more_than_its_share():
    policy = RetryPolicy(attempts=2, first_s=1, jitter=0.25)
    assert waits_ms(policy, 0.0) == [1000]
    assert waits_ms(policy, 0.5) == [1125]


def test_jitter_lengthens_the_longest_wait_too():
    assert waits_ms(RetryPolicy(attempts=2, first_s=1, max_s=1, jitter=1), 0.5) == [1500]


def test_the_last_attempt_makes_a_dead_letter():
    assert after_failure(RetryPolicy(attempts=3), 2, 0.0) != Dead(2)
    assert after_failure(RetryPolicy(attempts=3), 3, 0.0) == Dead(3)
    assert after_failure(RetryPolicy(attempts=3), 4, 0.0) == Dead(4)


def test_without_retries_the_first_failure_is_the_last():
    assert after_failure(NO_RETRY, 1, 0.9) == Dead(1)


@pytest.mark.parametrize("factor", [1, 1.0, 1.000001, 4, 10**12])
@pytest.mark.parametrize("attempts", [1, 2, 1_000, 10**12 - 1])
def test_a_million_attempts_neither_overflow_nor_take_long(factor, attempts):
    policy = RetryPolicy(attempts=10**12, first_s=0.001, factor=factor, max_s=60, jitter=0)
    step = after_failure(policy, attempts, 0.0)
    assert isinstance(step, Again)
    assert 1 * MS <= step.wait_ns <= 60_000 * MS


@pytest.mark.parametrize("attempts", [1, 2, 5_000])
def test_no_first_wait_means_no_wait_ever(attempts):
    policy = RetryPolicy(attempts=10_000, first_s=0, factor=10, max_s=30)
    assert after_failure(policy, attempts, 0.5) == Again(0)


@given(
    first_s=st.floats(0, 1e6),
    factor=st.floats(1, 1e6),
    spare_s=st.floats(0, 1e9),
    attempts=st.integers(1, 400),
    jitter=st.floats(0, 1, exclude_max=True),
)
def test_waits_never_shrink_and_stay_within_their_bounds(first_s, factor, spare_s, attempts, jitter):
    policy = RetryPolicy(attempts=500, first_s=first_s, factor=factor, max_s=first_s + spare_s, jitter=1)
    now, later = after_failure(policy, attempts, jitter), after_failure(policy, attempts + 1, jitter)
    assert isinstance(now, Again)
    assert isinstance(later, Again)
    assert 0 <= now.wait_ns <= later.wait_ns <= policy.max_s * 2 * 1e9


def test_a_dead_letter_cannot_be_changed():
    letter = DeadLetter("s", "normal", object(), "failed", "boom", "trace", 3, 0)
    with pytest.raises(FrozenInstanceError):
        letter.attempts = 0  # type: ignore[misc]
