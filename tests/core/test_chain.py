"""Groups of another desk's entries, held against what is there."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openoutcry.core.chain import FORMER_MOST, Chain, Verdict


def a_chain() -> Chain:
    return Chain("j", 10)


@pytest.mark.parametrize(
    ("after", "upto", "verdict"),
    [
        (10, 15, Verdict.NEXT),
        (4, 15, Verdict.NEXT),
        (0, 11, Verdict.NEXT),
        (10, 10, Verdict.OLD),
        (4, 10, Verdict.OLD),
        (0, 3, Verdict.OLD),
        (11, 15, Verdict.GAP),
        (11, 11, Verdict.GAP),
    ],
)
def test_a_group_is_next_or_old_or_behind_a_gap(after: int, upto: int, verdict: Verdict) -> None:
    assert a_chain().judge("j", after, upto) is verdict


def test_judging_changes_nothing() -> None:
    chain = a_chain()
    for journal in ("j", "k"):
        chain.judge(journal, 3, 80)
    assert chain == a_chain()


def test_the_first_group_is_of_another_journal_and_then_the_next() -> None:
    chain = Chain()
    assert chain.judge("j", 0, 4) is Verdict.OTHER
    chain.begin("j")
    assert chain.judge("j", 0, 4) is Verdict.NEXT
    assert chain.former == ()


def test_a_desk_that_begins_anew_begins_at_its_first_position() -> None:
    chain = a_chain()
    assert chain.judge("k", 0, 4) is Verdict.OTHER
    chain.begin("k")
    assert chain.judge("k", 0, 4) is Verdict.NEXT
    assert chain.judge("k", 2, 4) is Verdict.GAP


def test_a_group_of_the_journal_before_is_old_however_far_it_goes() -> None:
    chain = a_chain()
    chain.begin("k")
    assert chain.judge("j", 0, 10_000) is Verdict.OLD
    assert chain.journal == "k"


def test_a_bounded_number_of_former_journals_is_remembered() -> None:
    chain = Chain()
    for number in range(FORMER_MOST + 5):
        chain.begin(f"j{number}")
    assert len(chain.former) == FORMER_MOST
    assert chain.former[-1] == f"j{FORMER_MOST + 3}"


def test_what_was_reached_is_never_given_back() -> None:
    chain = a_chain()
    with pytest.raises(ValueError, match="before 10"):
        chain.take(9)
    assert chain == a_chain()


@given(cuts=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=60))
def test_whatever_comes_nothing_is_missed_and_nothing_taken_twice(cuts: list[tuple[int, int]]) -> None:
    chain, taken = Chain("j"), []
    for after, length in cuts:
        if chain.judge("j", after, after + length) is Verdict.NEXT:
            taken += range(chain.position + 1, after + length + 1)
            chain.take(after + length)
    assert taken == list(range(1, chain.position + 1))
