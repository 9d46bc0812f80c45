"""Pages of the journal: what stands between two positions, and where each event of it stands."""

import pytest
from bus_helpers import an_order

from openoutcry import encode
from openoutcry.ports import Level, Stored
from openoutcry.runtime.durability.catch_up import Page


def a_page(*positions: int) -> Page:
    return Page([Stored(at, encode(an_order(f"o-{at}")), "normal", Level.PROCESS, 0) for at in positions])


@pytest.mark.parametrize(
    ("after", "upto", "positions"),
    [(0, 9, [1, 2, 3, 4]), (1, 3, [2, 3]), (4, 9, []), (0, 0, [])],
)
def test_part_of_a_page_comes_with_where_its_events_stand(after: int, upto: int, positions: list[int]):
    events, found = a_page(1, 2, 3, 4).part(after, upto)
    assert [event.order_id for event in events] == [f"o-{at}" for at in positions]
    assert list(found) == positions


def test_a_page_without_gaps_tells_its_positions_as_a_range():
    assert a_page(5, 6, 7).part(0, 9)[1] == range(5, 8)


def test_positions_that_a_recovery_has_left_empty_do_not_shift_those_behind_them():
    events, found = a_page(1, 2, 5, 6).part(0, 9)
    assert len(events) == len(found)
    assert list(found) == [1, 2, 5, 6]
