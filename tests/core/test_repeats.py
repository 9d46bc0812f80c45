"""What happens again and again is told once a minute, with how often it happened in between."""

from openoutcry.core.repeats import EVERY_NS, KINDS_MOST, Repeats, in_between

S = 1_000_000_000


def test_the_first_of_a_kind_is_told_and_the_next_after_a_minute_with_what_came_in_between():
    repeats = Repeats()
    assert [repeats.note("a", at_s * S) for at_s in (0, 1, 30, 59)] == [0, None, None, None]
    assert repeats.note("a", 60 * S) == 3
    assert [repeats.note("a", at_s * S) for at_s in (61, 500)] == [None, 1]


def test_kinds_do_not_hide_each_other():
    repeats = Repeats()
    assert [repeats.note(kind, 0) for kind in ("a", "b", ("a", "b"))] == [0, 0, 0]


def test_so_many_kinds_are_remembered_and_no_more():
    repeats = Repeats()
    for number in range(10 * KINDS_MOST):
        assert repeats.note(number, number) == 0
    assert repeats.note(10 * KINDS_MOST - 1, EVERY_NS - 1) is None
    assert repeats.note(0, EVERY_NS - 1) == 0


def test_the_words_for_it():
    assert in_between(0) == ""
    assert in_between(7) == " (and 7 more like it since it was last logged)"
