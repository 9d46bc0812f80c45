import pytest
from hypothesis import given
from hypothesis import strategies as st

from openoutcry.errors import ConfigError
from openoutcry.firm.crash.plan import PLACES, draw_kills


def test_the_same_seed_kills_at_the_same_places():
    assert draw_kills(3, 8, 500) == draw_kills(3, 8, 500)
    assert draw_kills(3, 8, 500) != draw_kills(4, 8, 500)


@given(st.integers(), st.integers(1, 40), st.integers(0, 3_000))
def test_kills_come_one_after_the_other_and_leave_room_at_the_end(seed, count, more):
    days = 10 * count + 5 + more
    kills = draw_kills(seed, count, days)
    assert len(kills) == count
    assert [kill.day for kill in kills] == sorted(kill.day for kill in kills)
    assert all(5 <= kill.day < days * 9 // 10 for kill in kills)
    assert all((kill.delay_ms == 0) or kill.by_the_clock for kill in kills)


@given(st.integers(), st.integers(1, 3))
def test_every_place_comes_once_before_any_comes_again(seed, rounds):
    count = rounds * len(PLACES)
    places = [kill.place for kill in draw_kills(seed, count, 10 * count + 5)]
    assert {places.count(place) for place in PLACES} == {rounds}
    assert places[0] != "waking"


@pytest.mark.parametrize(("count", "days"), [(0, 500), (-1, 500), (8, 84)])
def test_too_few_kills_or_days_are_a_config_error(count, days):
    with pytest.raises(ConfigError, match=r"at least"):
        draw_kills(1, count, days)
