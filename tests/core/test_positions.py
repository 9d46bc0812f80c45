"""Where a lane's events stand in the journal: read off the lane's own cursor, against a plain model."""

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from openoutcry.core.cursors import Cursor
from openoutcry.core.positions import Positions


def placed(*runs: tuple[int, list[int]]) -> Positions:
    positions = Positions()
    for first, where in runs:
        positions.add(first, where)
    return positions


def test_nothing_is_open_where_nothing_was_placed():
    assert Positions().lowest_open(Cursor()) is None
    assert Positions().newest is None
    assert Positions().of(1, 3) is None


def test_the_lowest_open_position_is_that_of_the_first_event_that_is_not_settled():
    positions, cursor = placed((1, [10, 20, 30])), Cursor()
    assert positions.lowest_open(cursor) == 10
    cursor.settle(1, 2)
    assert positions.lowest_open(cursor) == 30
    cursor.settle(3, 1)
    assert positions.lowest_open(cursor) is None


def test_events_that_are_not_in_the_journal_hold_nothing_open():
    positions, cursor = placed((3, [10])), Cursor()
    assert positions.lowest_open(cursor) == 10
    cursor.settle(3, 1)
    assert positions.lowest_open(cursor) is None
    assert cursor.floor == 0


def test_what_is_settled_out_of_order_is_told_as_stretches_of_the_journal():
    positions, cursor = placed((1, [10, 20]), (5, [50, 60, 70])), Cursor()
    cursor.settle(2, 4)
    cursor.settle(7, 1)
    assert positions.settled(cursor) == [(20, 50), (70, 70)]
    assert positions.lowest_open(cursor) == 10


def test_a_settled_stretch_of_events_that_are_in_no_journal_is_none_of_the_journals_business():
    positions, cursor = placed((1, [10]), (5, [50])), Cursor()
    cursor.settle(2, 2)
    assert positions.settled(cursor) == []


def test_what_lies_below_the_floor_is_forgotten():
    positions = placed((1, [10, 20]), (3, [30, 40]))
    positions.forget(2)
    assert positions.place_of(20) is None
    assert positions.place_of(30) == 3
    positions.forget(3)
    assert positions.place_of(30) == 3, "a run goes as a whole"


def test_a_batch_is_told_where_its_events_stand_and_0_for_those_that_do_not():
    positions = placed((2, [10, 20]), (6, [60]))
    assert positions.of(2, 2) == [10, 20]
    assert positions.of(3, 1) == [20]
    assert positions.of(1, 7) == [0, 10, 20, 0, 0, 60, 0]
    assert positions.of(4, 2) is None
    assert positions.newest == 60


def test_a_position_between_two_that_are_known_has_no_place():
    assert placed((1, [10, 30])).place_of(20) is None


class PositionsMachine(RuleBasedStateMachine):
    """Events come with and without a position and are settled in any order; the model looks at each of them."""

    def __init__(self) -> None:
        super().__init__()
        self.positions, self.cursor = Positions(), Cursor()
        self.where: dict[int, int] = {}
        self.open: set[int] = set()
        self.accepted = self.head = 0

    @rule(gaps=st.lists(st.integers(1, 4), min_size=1, max_size=6))
    def durable_events_come(self, gaps):
        run = []
        for gap in gaps:
            self.head += gap
            run.append(self.head)
        self.positions.add(self.accepted + 1, run)
        for position in run:
            self.accepted += 1
            self.where[self.accepted] = position
            self.open.add(self.accepted)

    @rule(count=st.integers(1, 4))
    def other_events_come(self, count):
        for _ in range(count):
            self.accepted += 1
            self.open.add(self.accepted)

    @precondition(lambda self: self.open)
    @rule(data=st.data(), count=st.integers(1, 5))
    def some_are_settled(self, data, count):
        first = data.draw(st.sampled_from(sorted(self.open)))
        last = first
        while last - first + 1 < count and last + 1 in self.open:
            last += 1
        self.cursor.settle(first, last - first + 1)
        self.open -= set(range(first, last + 1))

    @rule()
    def what_is_settled_is_forgotten(self):
        self.positions.forget(self.cursor.floor)

    def is_settled(self, place: int) -> bool:
        return place not in self.open

    @invariant()
    def the_lowest_open_position_is_right(self):
        lowest = min((self.where[p] for p in self.open if p in self.where), default=None)
        assert self.positions.lowest_open(self.cursor) == lowest

    @invariant()
    def no_stretch_holds_anything_that_is_open_and_none_is_left_out(self):
        found = self.positions.settled(self.cursor)
        told = {place for place, at in self.where.items() if any(low <= at <= high for low, high in found)}
        assert not told & self.open
        settled_above = {p for p in self.where if p > self.cursor.floor and p not in self.open}
        assert settled_above <= told
        assert found == sorted(found)

    @invariant()
    def places_and_positions_belong_together(self):
        for place in self.open & self.where.keys():
            assert self.positions.place_of(self.where[place]) == place
            assert self.positions.of(place, 1) == [self.where[place]]

    @invariant()
    def a_stretch_of_the_lane_is_told_event_by_event(self):
        floor = self.cursor.floor
        count = self.accepted - floor
        wanted = [self.where.get(place, 0) for place in range(floor + 1, self.accepted + 1)]
        found = self.positions.of(floor + 1, count) if count else None
        assert found is None if not any(wanted) else list(found or ()) == wanted


PositionsMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestPositionsMachine = PositionsMachine.TestCase


@given(st.lists(st.integers(1, 3), min_size=1, max_size=20), st.data())
@settings(max_examples=60, deadline=None)
def test_the_durable_floor_never_passes_what_is_open(gaps, data):
    where = [sum(gaps[: n + 1]) for n in range(len(gaps))]
    positions, cursor = placed((1, where)), Cursor()
    for place in data.draw(st.permutations(range(1, len(where) + 1))):
        cursor.settle(place, 1)
        lowest = positions.lowest_open(cursor)
        still = [at for p, at in enumerate(where, 1) if not cursor.is_settled(p)]
        assert lowest == (min(still) if still else None)
