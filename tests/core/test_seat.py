"""Who may act for a desk: the holder stops before another one begins."""

from hypothesis import given
from hypothesis import strategies as st

from openoutcry.core.seat import Office, Tenure, Vigil

LEASE = 15_000


def test_a_holder_is_in_office_for_a_lease_from_when_it_sent_its_claim() -> None:
    tenure = Tenure(LEASE, 100)
    assert tenure.office(100 + LEASE - 1) is Office.IN_OFFICE
    assert tenure.office(100 + LEASE) is Office.DOUBTFUL
    assert tenure.runs_out_ns() == 100 + LEASE


def test_a_renewal_counts_from_when_it_was_sent_and_brings_a_doubtful_holder_back() -> None:
    tenure = Tenure(LEASE, 0)
    assert tenure.office(LEASE + 5) is Office.DOUBTFUL
    tenure.renewed(LEASE)
    assert tenure.office(LEASE + 5) is Office.IN_OFFICE
    assert tenure.office(2 * LEASE) is Office.DOUBTFUL


def test_an_answer_that_was_overtaken_takes_nothing_back() -> None:
    tenure = Tenure(LEASE, 0)
    tenure.renewed(900)
    tenure.renewed(500)
    assert tenure.runs_out_ns() == 900 + LEASE


def test_a_holder_renews_three_times_a_lease() -> None:
    assert Tenure(LEASE, 100).renew_ns(7) == 100 + LEASE // 3


def test_who_has_lost_the_seat_is_out_for_good() -> None:
    tenure = Tenure(LEASE, 0)
    tenure.lose()
    tenure.renewed(10)
    assert tenure.office(11) is Office.OUT


def test_a_lease_of_nothing_never_runs_out_and_lapses_for_nobody() -> None:
    tenure, vigil = Tenure(0, 0), Vigil()
    assert tenure.office(10**18) is Office.IN_OFFICE
    assert tenure.runs_out_ns() is None
    assert tenure.renew_ns(7) == 7
    assert not any(vigil.may_claim("p", 1, 0, now) for now in (0, 10**18))
    tenure.lose()
    assert tenure.office(1) is Office.OUT


def test_a_seat_that_nobody_holds_is_claimed_at_once() -> None:
    assert Vigil().may_claim("", 7, LEASE, 0)


def test_a_seat_is_claimed_when_it_was_unchanged_for_a_lease_and_a_quarter() -> None:
    vigil = Vigil()
    assert not vigil.may_claim("p", 1, LEASE, 50)
    assert not vigil.may_claim("p", 1, LEASE, 50 + LEASE * 5 // 4 - 1)
    assert vigil.may_claim("p", 1, LEASE, 50 + LEASE * 5 // 4)


def test_a_renewal_or_another_holder_begins_the_wait_again() -> None:
    vigil = Vigil()
    vigil.may_claim("p", 1, LEASE, 0)
    assert not vigil.may_claim("p", 2, LEASE, 2 * LEASE)
    assert not vigil.may_claim("q", 2, LEASE, 4 * LEASE)
    assert vigil.may_claim("q", 2, LEASE, 6 * LEASE)


@given(
    offset=st.integers(-(10**9), 10**9),
    looks=st.lists(st.integers(1, LEASE), min_size=1, max_size=40),
    travel=st.integers(0, LEASE // 2),
)
def test_the_holder_has_stopped_whenever_another_one_claims(
    offset: int, looks: list[int], travel: int
) -> None:
    """The renewal was sent at 0 and has reached the engine after `travel`; the claimer's clock has another zero."""
    tenure, vigil, now = Tenure(LEASE, 0), Vigil(), travel
    for pause in looks:
        now += pause
        if vigil.may_claim("p", 1, LEASE, now + offset):
            assert tenure.office(now) is Office.DOUBTFUL
