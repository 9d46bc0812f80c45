"""Cursors: a settled floor and the stretches above it, against a set of numbers."""

from itertools import pairwise

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from openoutcry.core.cursors import Cursor, import_of, name_of_import


class CursorMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.cursor = Cursor()
        self.settled: set[int] = set()

    @rule(data=st.data(), first=st.integers(1, 40), count=st.integers(0, 6))
    def settle(self, data, first, count):
        positions = set(range(first, first + count))
        if not positions & self.settled:
            self.cursor.settle(first, count)
            self.settled |= positions

    @rule(count=st.integers(1, 4))
    def settle_at_the_floor(self, count):
        first = self.cursor.floor + 1
        positions = set(range(first, first + count))
        if not positions & self.settled:
            self.cursor.settle(first, count)
            self.settled |= positions

    @invariant()
    def it_agrees_with_the_set(self):
        cursor = self.cursor
        floor = 0
        while floor + 1 in self.settled:
            floor += 1
        assert cursor.floor == floor
        head = max(self.settled, default=0)
        assert all(cursor.is_settled(p) == (p in self.settled) for p in range(1, head + 3))
        assert not cursor.is_settled(head + 1)

    @invariant()
    def stretches_are_merged_and_apart(self):
        stretches = self.cursor.settled_above()
        edges = [(self.cursor.floor, self.cursor.floor), *stretches]
        for (_, before), (first, last) in pairwise(edges):
            assert before + 1 < first <= last


TestCursorMachine = CursorMachine.TestCase
TestCursorMachine.settings = settings(max_examples=80, stateful_step_count=30, deadline=None)


def test_settling_in_order_is_one_integer():
    cursor = Cursor()
    cursor.settle(1, 3)
    cursor.settle(4, 1)
    assert (cursor.floor, cursor.settled_above()) == (4, [])


def test_the_floor_never_passes_a_gap():
    cursor = Cursor()
    cursor.settle(2, 5)
    assert (cursor.floor, cursor.settled_above()) == (0, [(2, 6)])
    cursor.settle(1, 1)
    assert (cursor.floor, cursor.settled_above()) == (6, [])


def test_closing_a_gap_between_two_stretches_makes_one_of_them():
    cursor = Cursor()
    cursor.settle(2, 2)
    cursor.settle(6, 2)
    cursor.settle(4, 2)
    assert cursor.settled_above() == [(2, 7)]


def test_a_cursor_can_begin_where_an_earlier_one_ended():
    cursor = Cursor(floor=10**15)
    cursor.settle(10**15 + 1, 1)
    assert (cursor.floor, cursor.is_settled(1)) == (10**15 + 1, True)


def test_settling_nothing_changes_nothing():
    cursor = Cursor()
    cursor.settle(1, 0)
    cursor.settle(5, -1)
    assert (cursor.floor, cursor.settled_above()) == (0, [])


def test_settling_a_settled_position_again_is_noticed():
    cursor = Cursor()
    cursor.settle(1, 3)
    with pytest.raises(AssertionError, match="twice"):
        cursor.settle(3, 1)
    assert cursor.floor == 3


def test_many_gaps_cost_no_more_to_settle_than_few():
    cursor = Cursor()
    for position in range(2, 20_002, 2):
        cursor.settle(position, 1)
    assert (cursor.floor, len(cursor.settled_above())) == (0, 10_000)
    for position in range(1, 20_003, 2):
        cursor.settle(position, 1)
    assert (cursor.floor, cursor.settled_above()) == (20_001, [])


@pytest.mark.parametrize(
    "name", ["(link)", "(link:released)", "(link::normal)", "(link:a:b:c)", "(link:a:normal", "a:b"]
)
def test_only_the_name_of_an_import_is_read_as_one(name):
    assert import_of(name) is None
    assert import_of(name_of_import("street", "normal")) == ("street", "normal")
