"""Runs: stretches of a journal whose positions can be compared, and where an import goes on in the next one."""

import pytest

from openoutcry.core.runs import ALL, COPY, VOID, Run, is_beside

FIRST = Run("journal", begins=10)


def test_a_run_is_read_from_its_name():
    for run in (FIRST, FIRST.without_end(1, 150), FIRST.without_beginning(90)):
        assert Run.read(run.name) == run


@pytest.mark.parametrize(
    "name", ["", "journal", "journal:1:2:3:4", "journal:1:2:3:4:x", "journal:1:2:3:4:-5", "::::²:1"]
)
def test_another_text_is_the_name_of_none(name):
    assert Run.read(name) is None


def test_who_has_nothing_of_a_journal_begins_where_it_begins():
    assert FIRST.goes_on_at(None, 77) == 10
    assert FIRST.goes_on_at(Run("another"), 77) == 10
    assert FIRST.without_end(1, 150).goes_on_at(None, 0) == 10


def test_after_a_lost_end_an_import_goes_on_where_both_are_the_same():
    again = FIRST.without_end(1, 150)
    assert again.goes_on_at(FIRST, 200) == 150
    assert again.goes_on_at(FIRST, 120) == 120
    assert again.goes_on_at(again, 163) == 163


def test_a_deleted_beginning_changes_no_position():
    cut = FIRST.without_beginning(90)
    assert cut.kept == 90
    assert cut.goes_on_at(FIRST, 200) == 200
    assert cut.goes_on_at(FIRST, 50) == 50


def test_who_has_missed_a_run_goes_on_where_all_are_the_same():
    second = FIRST.without_end(1, 150)
    third = second.without_end(2, 170)
    assert third.goes_on_at(second, 180) == 170
    assert third.goes_on_at(FIRST, 200) == 150
    assert third.without_beginning(5).goes_on_at(FIRST, 200) == 150
    assert FIRST.same_as_all == ALL


def test_copies_and_voids_stand_beside_a_run():
    assert is_beside(COPY + FIRST.name)
    assert is_beside(VOID + FIRST.name)
    assert not is_beside(FIRST.name)
