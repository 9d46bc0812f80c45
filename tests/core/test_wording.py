from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openoutcry.core.wording import counted, listed, rounded, some_of, span, wall_label


@pytest.mark.parametrize(
    ("duration_ns", "said"),
    [
        (0, "0 s"),
        (1, "1 ns"),
        (999, "999 ns"),
        (1_500, "1.5 us"),
        (312_500_000, "312.5 ms"),
        (5_000_000_000, "5 s"),
        (100_000_000_000, "100 s"),
        (172_800_000_000_000, "2 d"),
        (-5_000_000_000, "-5 s"),
    ],
)
def test_a_duration_is_said_in_its_largest_fitting_unit(duration_ns, said):
    assert span(duration_ns) == said


@pytest.mark.parametrize(
    ("duration_ns", "said"),
    [
        (0, "0 s"),
        (9_200_000, "9.2 ms"),
        (312_500_000, "312 ms"),
        (58_863_000_000, "58 s"),
        (119_999_999_999, "119 s"),
        (120_000_000_000, "2 min"),
        (7_200_000_000_000, "2 h"),
        (172_800_000_000_000, "2 d"),
    ],
)
def test_a_measured_duration_is_said_so_that_it_stands_still(duration_ns, said):
    assert rounded(duration_ns) == said


def test_a_list_is_joined_as_a_reader_would():
    assert [listed([]), listed("a"), listed("ab"), listed("abc")] == ["", "a", "a and b", "a, b and c"]


def test_of_a_long_list_the_first_are_named_and_the_others_counted():
    assert [some_of([*"abcde"][:n], 2) for n in (0, 2, 3, 5)] == [
        "",
        "a, b",
        "a, b and 1 more",
        "a, b and 3 more",
    ]


@given(st.datetimes(datetime(1600, 1, 1), datetime(2400, 1, 1)), st.integers(0, 999))  # noqa: DTZ001
def test_a_wall_label_agrees_with_the_calendar_of_the_standard_library(moment, ns):
    since = moment.replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    wall_ns = since // timedelta(microseconds=1) * 1000 + ns
    assert wall_label(wall_ns) == moment.strftime("%Y-%m-%dT%H:%M:%S.%f") + f"{ns:03}Z"


def test_a_count_is_said_with_its_noun():
    assert [counted(n, "event") for n in (0, 1, 2, 1_200)] == [
        "0 events",
        "1 event",
        "2 events",
        "1,200 events",
    ]
