"""Drills of the kill lane: sent, answered, late, missed."""

import pytest

from openoutcry.config import DrillConfig
from openoutcry.core.drills import Drills
from openoutcry.errors import ConfigError

MS = 1_000_000
S = 1000 * MS


def drills() -> Drills:
    return Drills(DrillConfig(every_s=60, deadline_s=0.1), 0)


def test_a_drill_that_all_answer_in_time_proves_the_lane():
    d = drills()
    number = d.send(["risk", "execution"], 0)
    d.answered(number, "risk", 1 * MS)
    d.answered(number, "execution", 2 * MS)
    report = d.report(10 * S)
    assert (report.failed, report.proven_ns_ago, report.worst_ns) == (False, 10 * S, 2 * MS)


def test_who_gives_no_answer_is_named_after_the_deadline():
    d = drills()
    d.answered(d.send(["risk", "execution"], 0), "risk", MS)
    assert not d.report(100 * MS).failed
    report = d.report(101 * MS)
    assert (report.missed, report.proven_ns_ago) == (("execution",), None)


def test_a_late_answer_is_late_and_not_missing():
    d = drills()
    number = d.send(["risk"], 0)
    assert d.report(S).missed == ("risk",)
    d.answered(number, "risk", 2 * S)
    report = d.report(3 * S)
    assert (report.missed, report.late, report.failed) == ((), ("risk",), True)


def test_the_next_drill_that_works_makes_it_well():
    d = drills()
    d.send(["risk"], 0)
    assert d.report(S).failed
    d.answered(d.send(["risk"], 60 * S), "risk", 60 * S + MS)
    assert not d.report(61 * S).failed


def test_an_answer_to_an_old_drill_proves_nothing():
    d = drills()
    old = d.send(["risk"], 0)
    d.send(["risk"], 60 * S)
    d.answered(old, "risk", 60 * S + MS)
    assert d.report(61 * S).missed == ("risk",)


def test_a_failure_stays_known_while_the_next_drill_is_out():
    d = drills()
    d.send(["risk"], 0)
    d.send(["risk"], 60 * S)
    assert d.report(60 * S + MS).failed


def test_a_subscription_that_has_ended_owes_no_answer():
    d = drills()
    d.send(["risk"], 0)
    d.withdrawn("risk")
    assert not d.report(S).failed
    assert d.report(S).proven_ns_ago == S


def test_with_nobody_to_answer_the_lane_counts_as_proven():
    d = drills()
    d.send([], 0)
    assert not d.report(S).failed


def test_drills_come_at_their_interval():
    d = drills()
    assert d.due_in_ns(0) == 0
    number = d.send(["risk"], 0)
    assert d.due_in_ns(0) == 100 * MS
    d.answered(number, "risk", MS)
    assert d.due_in_ns(S) == 59 * S


def test_a_stranger_and_a_second_answer_change_nothing():
    d = drills()
    number = d.send(["risk"], 0)
    d.answered(number, "nobody", MS)
    d.answered(number, "risk", 2 * MS)
    d.answered(number, "risk", 90 * S)
    assert d.report(S).worst_ns == 2 * MS


@pytest.mark.parametrize("settings", [{"every_s": 0}, {"deadline_s": 0}, {"every_s": 1, "deadline_s": 2}])
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ConfigError):
        DrillConfig(**settings)
