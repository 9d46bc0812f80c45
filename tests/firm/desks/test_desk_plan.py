import itertools

from hypothesis import given
from hypothesis import strategies as st

from openoutcry.firm.crash.plan import PLACES
from openoutcry.firm.desks.plan import WHERE, draw
from openoutcry.firm.desks.words import DESKS, NODE


def test_the_same_seed_kills_the_same_desks_at_the_same_places():
    assert draw(3, 8, 500) == draw(3, 8, 500)
    assert draw(3, 8, 500) != draw(4, 8, 500)


def test_every_place_is_at_one_desk_but_for_those_that_the_clock_chooses():
    assert set(WHERE) == set(PLACES) - {"anywhen", "waking"}
    assert set(WHERE.values()) == set(DESKS)


@given(st.integers(), st.integers(2, 40))
def test_the_node_is_killed_too_and_whoever_wakes_was_killed_just_before(seed, count):
    kills = draw(seed, count, 10 * count + 5)
    assert len(kills) == count
    of_node = [number for number, kill in enumerate(kills) if kill.who == NODE]
    assert 1 <= len(of_node) <= max(1, count // 4)
    for before, kill in itertools.pairwise(kills):
        if kill.kill.place == "waking":
            assert kill.who == before.who != NODE
    assert all((kill.down_ms > 0) == (kill.who == NODE) for kill in kills)
