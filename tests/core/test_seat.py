"""Seats: a claimer may never begin before the holder has lapsed, whatever their clocks say."""

from hypothesis import given
from hypothesis import strategies as st

from openoutcry.core.seat import May, Office, Record, Tenure, Vacancy

S = 1_000_000_000
HELD = Record("one", 7, 15 * S)


def test_a_holder_is_in_office_for_a_lease_from_when_it_sent_its_renewal():
    tenure = Tenure(15 * S)
    tenure.renewed(100 * S)
    assert tenure.office(115 * S - 1) is Office.IN
    assert tenure.office(115 * S) is Office.LAPSED
    assert tenure.lapses_ns == 115 * S


def test_a_renewal_brings_one_that_has_lapsed_back_into_office():
    tenure = Tenure(15 * S)
    tenure.renewed(0)
    assert tenure.office(20 * S) is Office.LAPSED
    tenure.renewed(19 * S)
    assert tenure.office(20 * S) is Office.IN


def test_an_older_answer_that_comes_late_does_not_shorten_the_lease():
    tenure = Tenure(15 * S)
    tenure.renewed(10 * S)
    tenure.renewed(5 * S)
    assert tenure.lapses_ns == 25 * S


def test_one_that_was_never_held_has_lapsed():
    assert Tenure(15 * S).office(0) is Office.LAPSED
    assert Tenure(15 * S).lapses_ns is None
    assert Tenure(15 * S).renewed_ns == 0


def test_one_that_is_out_stays_out():
    tenure = Tenure(15 * S)
    tenure.renewed(0)
    tenure.lost()
    tenure.renewed(1 * S)
    assert tenure.office(1 * S) is Office.OUT


def test_a_lease_of_none_never_lapses_but_can_be_lost():
    tenure = Tenure(0)
    assert tenure.office(10**18) is Office.IN
    assert tenure.lapses_ns is None
    tenure.lost()
    assert tenure.office(0) is Office.OUT


def test_a_desk_that_nobody_holds_is_claimed_at_once():
    assert Vacancy().look(None, 0) is May.CLAIM
    assert Vacancy().look(Record("", 7, 15 * S), 0) is May.CLAIM


def test_a_desk_whose_holder_is_known_to_be_dead_is_claimed_at_once():
    assert Vacancy().look(HELD, 0, is_dead=True) is May.CLAIM


def test_a_record_that_does_not_change_is_claimed_after_a_lease_and_a_quarter():
    vacancy = Vacancy()
    assert vacancy.look(HELD, 100 * S) is May.WAIT
    assert vacancy.claims_ns == 118 * S + 750_000_000
    assert vacancy.look(HELD, vacancy.claims_ns - 1) is May.WAIT
    assert vacancy.look(HELD, vacancy.claims_ns) is May.CLAIM


def test_a_record_that_changes_is_that_of_a_holder_that_is_alive():
    vacancy = Vacancy()
    vacancy.look(HELD, 0)
    assert vacancy.look(HELD._replace(renewal=8), 5 * S) is May.NEVER
    assert vacancy.look(HELD, 30 * S) is May.CLAIM  # (a stale answer; the engine compares once more)


def test_a_lease_that_does_not_lapse_is_not_claimed_from_one_that_may_be_alive():
    assert Vacancy().look(Record("one", 7, 0), 10**18) is May.NEVER


@given(
    lease=st.integers(1, 10**6),
    sent=st.integers(0, 10**6),
    effect=st.integers(0, 10**6),
    answer=st.integers(0, 10**6),
    skew=st.integers(0, 10**9),
)
def test_whenever_a_claimer_may_begin_the_holder_has_lapsed(lease, sent, effect, answer, skew):
    tenure, vacancy = Tenure(lease), Vacancy()
    tenure.renewed(sent)
    record = Record("one", 1, lease)
    seen_at = sent + effect + answer  # it takes effect after it was sent, and is read after that
    assert vacancy.look(record, seen_at + skew) is May.WAIT  # on a clock of its own
    claims_at = vacancy.claims_ns - skew
    assert tenure.office(claims_at + 1) is Office.LAPSED
