"""Leases: who heartbeats is missed when the heart stops."""

from openoutcry.core.leases import Lapse, Leases

S = 1_000_000_000


def test_a_lease_is_good_until_it_runs_out():
    leases = Leases()
    leases.renew("trend", 0, 5 * S)
    assert leases.lapsed(5 * S) == []
    assert leases.lapsed(6 * S) == [Lapse("trend", 5 * S, 1 * S)]


def test_each_sign_of_life_begins_it_anew():
    leases = Leases()
    leases.renew("trend", 0, 5 * S)
    leases.renew("trend", 4 * S)
    assert leases.lapsed(9 * S) == []
    assert leases.due_ns() == 9 * S


def test_who_never_asked_for_a_lease_is_never_missed():
    leases = Leases()
    leases.renew("trend", 0)
    assert len(leases) == 0
    assert leases.lapsed(10**18) == []
    assert leases.due_ns() is None


def test_who_says_goodbye_is_not_missed():
    leases = Leases()
    leases.renew("trend", 0, S)
    assert leases.release("trend")
    assert not leases.release("trend")
    assert leases.lapsed(10 * S) == []


def test_the_longest_missed_comes_first():
    leases = Leases()
    leases.renew("b", 0, 2 * S)
    leases.renew("a", 0, S)
    assert [lapse.agent for lapse in leases.lapsed(10 * S)] == ["a", "b"]


def test_a_start_begins_every_lease_anew():
    leases = Leases()
    leases.renew("trend", 0, 5 * S)
    leases.restart(100 * S)
    assert leases.lapsed(105 * S) == []
