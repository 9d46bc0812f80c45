"""The histogram of latencies, against a sorted list."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openoutcry.core.latency import Latencies
from openoutcry.errors import ConfigError


def counted(*values_ns: int) -> Latencies:
    latencies = Latencies()
    for value_ns in values_ns:
        latencies.record(value_ns)
    return latencies


def test_before_the_first_there_is_no_percentile():
    latencies = Latencies()
    assert latencies.percentile(50) is None
    assert latencies.to_dict() == {
        "count": 0,
        "p50_us": None,
        "p99_us": None,
        "p99.9_us": None,
        "max_us": None,
    }
    assert latencies.recent_us(Latencies()) == (None, None)


@given(
    st.lists(st.integers(0, 2**63 - 1) | st.integers(0, 100), min_size=1, max_size=60),
    st.floats(0, 100) | st.sampled_from([0, 0.1, 50, 99, 99.9, 100]),
)
def test_a_percentile_is_within_an_eighth_of_the_truth(values_ns, percent):
    ordered = sorted(values_ns)
    at_least = [v for rank, v in enumerate(ordered, 1) if rank * 100 >= len(ordered) * percent - 1e-3]
    found = counted(*values_ns).percentile(percent)
    assert found is not None
    assert at_least[0] * 0.875 <= found <= at_least[0] * 1.125


@pytest.mark.parametrize("value_ns", [0, 1, 2, 7])
def test_the_smallest_values_are_exact(value_ns):
    assert counted(value_ns).percentile(50) == value_ns


@pytest.mark.parametrize("power", range(3, 63))
def test_neighbouring_buckets_meet_without_gap_or_overlap(power):
    below, at = counted(2**power - 1).percentile(50), counted(2**power).percentile(50)
    assert below < at
    assert at / below < 1.3


def test_the_extreme_percentiles_are_the_smallest_and_the_largest():
    latencies = counted(5, *[1_000] * 98, 10**9)
    assert latencies.percentile(0) == 5
    assert latencies.percentile(100) == pytest.approx(10**9, rel=0.125)
    assert latencies.percentile(99) == pytest.approx(1_000, rel=0.125)
    assert latencies.percentile(99.01) == pytest.approx(10**9, rel=0.125)


@pytest.mark.parametrize("count", [1, 3, 7, 1_000, 10**6, 2**53 + 1, 10**18])
def test_any_number_of_latencies_has_every_percentile(count):
    latencies = counted(1)
    latencies._counts[1] = latencies.count = count
    assert {latencies.percentile(p) for p in (0, 1e-9, 33.3, 50, 99.9, 99.999999, 100)} == {1.0}


@pytest.mark.parametrize("value_ns", [-1, -(10**30)])
def test_a_negative_latency_counts_as_none_at_all(value_ns):
    assert counted(value_ns).percentile(50) == 0


@pytest.mark.parametrize("value_ns", [2**63, 2**65, 10**30])
def test_a_latency_beyond_everything_is_counted_as_the_largest(value_ns):
    assert counted(value_ns).percentile(50) == pytest.approx(2**63, rel=0.125)


@pytest.mark.parametrize("percent", [-0.001, 100.001, float("nan"), float("inf"), "50", True, None])
def test_a_percentile_that_is_none_is_refused_with_value_and_limit(percent):
    with pytest.raises(ConfigError, match=r"percent is .*; it must be"):
        counted(1).percentile(percent)


@given(st.lists(st.integers(0, 10**10)), st.lists(st.integers(0, 10**10)))
def test_merging_is_the_same_as_counting_together(first, second):
    merged = Latencies.merged([counted(*first), counted(*second)])
    assert merged.to_dict() == counted(*first, *second).to_dict()


@given(st.lists(st.integers(0, 10**10), min_size=1, max_size=40))
def test_what_is_summed_up_are_the_percentiles_one_by_one(values_ns):
    latencies = counted(*values_ns)
    percentiles = {f"p{p:g}_us": latencies.percentile(p) / 1_000 for p in (50, 99, 99.9)}
    assert latencies.to_dict() == {"count": len(values_ns), **percentiles, "max_us": max(values_ns) / 1_000}


@given(
    st.lists(st.integers(0, 10**10), max_size=40), st.lists(st.integers(0, 10**10), min_size=1, max_size=40)
)
def test_what_is_recent_is_what_was_counted_since(before, since):
    latencies = counted(*before)
    then = latencies.copy()
    for value_ns in since:
        latencies.record(value_ns)
    alone = counted(*since)
    assert latencies.recent_us(then) == (alone.percentile(50) / 1_000, alone.percentile(99) / 1_000)


@given(st.lists(st.tuples(st.integers(0, 10**10), st.integers(1, 9)), min_size=1, max_size=20))
def test_one_that_stands_for_several_is_the_same_as_counting_it_so_often(values):
    latencies = Latencies()
    for value_ns, times in values:
        latencies.record(value_ns, times)
        latencies.to_dict()
    every = [value_ns for value_ns, times in values for _ in range(times)]
    assert latencies.to_dict() == counted(*every).to_dict()


def test_percentiles_are_given_in_microseconds():
    assert counted(4_000).to_dict()["p50_us"] == pytest.approx(4, rel=0.125)
