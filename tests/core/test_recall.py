"""Which entries a memory is handed, held against a plain model of what a name has handled."""

from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from openoutcry.core.recall import Ranges, Recall, Settled, both, either, stretches_of

LANES = ("control", "high", "normal")
MOST = 24


def as_places(settled: dict[str, set[int]]) -> dict[str, Any]:
    """What is settled, by lane, as a floor and stretches; a position is settled in the lane that has it."""
    found = {}
    for lane, positions in settled.items():
        floor = 0
        while floor + 1 in positions:
            floor += 1
        found[lane] = (floor, stretches_of(p for p in positions if p > floor))
    return found


@st.composite
def histories(draw: st.DrawFn) -> Any:
    """Draw the lane of each position, two moments of a growing set of settled ones, and what was not handled.

    In each lane the positions of the others count as settled as well, up to the furthest of its own.
    """
    lanes = draw(st.lists(st.sampled_from(LANES), min_size=MOST, max_size=MOST))
    everything = range(1, MOST + 1)
    now = draw(st.sets(st.sampled_from(everything)))
    base = draw(st.sets(st.sampled_from(sorted(now)))) if now else set()
    unhandled = draw(st.sets(st.sampled_from(sorted(now)))) if now else set()
    reopened = draw(st.sets(st.sampled_from(sorted(base)))) if base else set()
    return lanes, base, now, unhandled, reopened


def by_lane(lanes: list[str], settled: set[int]) -> dict[str, set[int]]:
    found: dict[str, set[int]] = {}
    for lane in LANES:
        own = {p for p in settled if lanes[p - 1] == lane}
        open_ = {p for p in range(1, MOST + 1) if lanes[p - 1] == lane} - own
        last = max(own, default=0)
        found[lane] = {p for p in range(1, last + 1) if p not in open_}
    return found


@given(histories())
def test_a_memory_is_handed_what_was_handled_since_its_base_and_nothing_else(history):
    lanes, base, now, unhandled, reopened = history
    recall = Recall(
        as_places(by_lane(lanes, base)),
        as_places(by_lane(lanes, now)),
        reopened=stretches_of(reopened),
        left_out=unhandled,
    )
    handed = {p for p in range(1, MOST + 1) if recall.wants(lanes[p - 1], p)}
    assert handed == (now - unhandled) - (base - reopened)
    assert all(recall.after < p <= recall.last for p in handed)
    assert all(recall.may_want(p) for p in handed)


def test_types_are_those_of_the_time_in_which_an_event_was_settled():
    recall = Recall(
        {},
        {"normal": (9, ())},
        eras=[(("order",), {"normal": (3, ((5, 5),))}), (("order", "fill"), {"normal": (7, ())})],
    )
    found = [recall.types_at("normal", position) for position in range(1, 10)]
    first, second = frozenset({"order"}), frozenset({"order", "fill"})
    assert found == [first, first, first, second, first, second, second, None, None]


def test_what_has_no_lane_any_more_may_be_wanted_if_any_lane_has_settled_it():
    recall = Recall({"normal": (2, ())}, {"normal": (5, ()), "high": (7, ())}, left_out=[4])
    assert [p for p in range(1, 10) if recall.may_want(p)] == [1, 2, 3, 5, 6, 7]


def test_a_memory_without_anything_settled_looks_at_nothing():
    recall = Recall({}, {})
    assert (recall.after, recall.last) == (0, 0)
    assert not recall.wants("normal", 1)


def test_a_memory_that_begins_with_nothing_looks_at_everything_whatever_its_dead_letters():
    assert Recall({}, {"normal": (9, ())}, reopened=((5, 5),)).after == 0


@given(st.sets(st.integers(1, 40)), st.sets(st.integers(1, 40)))
def test_what_is_settled_in_both_places_or_in_either_is_just_that(one, other):
    places = []
    for positions in (one, other):
        floor = next(n for n in range(1, 42) if n not in positions) - 1
        places.append({"normal": (floor, stretches_of(p for p in positions if p > floor)), "high": (1, ())})
    settled = Settled(both(*places))
    assert {p for p in range(1, 50) if settled.has("normal", p)} == one & other
    assert both(places[0], {}) == {}
    settled = Settled(either(*places))
    assert {p for p in range(1, 50) if settled.has("normal", p)} == one | other
    assert either(places[0], {}) == places[0]


@given(st.sets(st.integers(1, 60)))
def test_stretches_are_the_positions_and_no_longer_than_they_must_be(positions):
    stretches = stretches_of(positions)
    assert {p for low, high in stretches for p in range(low, high + 1)} == positions
    assert all(after[0] > before[1] + 1 for before, after in pairwise(stretches))
    ranges = Ranges(stretches)
    assert bool(ranges) == bool(positions)
    assert {p for p in range(70) if p in ranges} == positions


def test_settled_knows_floors_and_what_is_above_them():
    settled = Settled({"high": (2, ((5, 6),)), "normal": (0, ())})
    assert [p for p in range(1, 9) if settled.has("high", p)] == [1, 2, 5, 6]
    assert not settled.has("normal", 1)
    assert not settled.has("control", 1)
    assert set(settled.lanes) == {"high", "normal"}
