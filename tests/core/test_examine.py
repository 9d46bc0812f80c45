"""Examining a bus: each sign of illness is found, named and told apart, and good health says nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openoutcry.config import HealthCheckConfig
from openoutcry.core.drills import DrillReport
from openoutcry.core.examine import examine, examine_subscription, trouble_of
from openoutcry.core.health import EventBusHealthStatus as Status
from openoutcry.core.health import verdict
from openoutcry.core.leases import Lapse
from openoutcry.core.rates import Silence
from openoutcry.core.vitals import Bounds, JournalVitals, LoopVitals, SubscriptionVitals, Vitals
from openoutcry.errors import ConfigError
from openoutcry.sessions import Expectation

S = 1_000_000_000
MS = 1_000_000
BOUNDS = Bounds()


def of(**signs) -> SubscriptionVitals:
    return SubscriptionVitals(name="risk.on_order", **signs)


def checks(**signs) -> list[str]:
    return [finding.check for finding in examine_subscription(of(**signs), BOUNDS)]


def one(vitals: Vitals):
    (finding,) = examine(vitals, BOUNDS)
    return finding


def test_a_well_bus_has_no_findings():
    well = Vitals(
        subscriptions=(of(waiting=100, call_ns=MS, latency_ns=5e6, error_streak=1),),
        loop=LoopVitals(lag_ns=MS),
        journal=JournalVitals(oldest_ns=MS),
        drill=DrillReport(5, S, MS, (), ()),
    )
    assert examine(well, BOUNDS) == []
    assert verdict(examine(well, BOUNDS)).status is Status.HEALTHY


def test_slow_stuck_and_dead_are_told_apart():
    assert checks(waiting=500, latency_ns=5e9, call_ns=MS) == ["latency"]
    assert checks(waiting=500, call_ns=31 * S, still_ns=31 * S) == ["stuck"]
    assert checks(waiting=500, still_ns=31 * S) == ["dead"]


def test_a_stuck_call_is_named_with_its_event_and_its_age():
    (finding,) = examine_subscription(of(call_ns=45 * S, call_event="order o-17", waiting=3), BOUNDS)
    assert (finding.culprit, finding.check) == ("risk.on_order", "stuck")
    assert "order o-17 has not ended for 45 s (limit 30 s), with 3 events waiting" in finding.detail


def test_a_call_that_may_take_minutes_is_not_stuck_within_its_own_limit():
    assert checks(call_ns=100 * S, call_limit_ns=120 * S, waiting=5, still_ns=100 * S) == []
    assert checks(call_ns=241 * S, call_limit_ns=120 * S, waiting=5, still_ns=241 * S) == ["stuck"]


def test_a_stuck_call_is_found_even_if_nothing_waits_behind_it():
    assert checks(call_ns=31 * S) == ["stuck"]


def test_idle_is_not_dead():
    assert checks(still_ns=0, waiting=0) == []


def test_what_waits_for_its_retry_is_stalled_and_not_dead():
    assert checks(waiting=1, still_ns=31 * S, retry_in_ns=5 * S) == ["stalled"]


def test_what_a_person_has_paused_is_stalled_and_not_dead():
    (finding,) = examine_subscription(of(waiting=7, still_ns=31 * S, paused=True), BOUNDS)
    assert (finding.check, finding.level) == ("stalled", Status.DEGRADED)
    assert "resume it" in finding.detail


def test_what_the_breaker_holds_back_is_failing():
    (finding,) = examine_subscription(
        of(
            waiting=7,
            still_ns=31 * S,
            breaker_in_ns=4 * S,
            breaker_pauses=3,
            last_error="ValueError('no price')",
        ),
        BOUNDS,
    )
    assert finding.check == "failing"
    assert "probed in 4 s" in finding.detail
    assert "no price" in finding.detail


def test_a_streak_of_errors_is_found_at_its_limit():
    assert checks(error_streak=9) == []
    assert checks(error_streak=10) == ["errors"]


def test_abandoned_calls_are_named():
    assert checks(abandoned=2) == ["abandoned"]


def test_a_growing_lag_is_found():
    assert checks(waiting=5000, lag_per_s=12.5) == ["lag"]


def test_what_the_ladder_holds_back_is_not_dead():
    assert checks(waiting=5, still_ns=90 * S, held_by_ladder=True, recovering=True) == ["stalled"]


def test_a_ladder_at_its_end_is_plainly_unhealthy_and_tells_what_was_tried():
    result = verdict(
        examine_subscription(of(exhausted=True, tried=("cancelled the call", "quarantined")), BOUNDS)
    )
    assert result.status is Status.UNHEALTHY
    assert result.findings[0].tried == ("cancelled the call", "quarantined")
    assert "resume" in result.message


def test_a_ladder_at_work_makes_the_bus_recovering():
    stuck = of(critical=True, call_ns=31 * S, recovering=True, tried=("cancelled the call",))
    assert verdict(examine_subscription(stuck, BOUNDS)).status is Status.RECOVERING


@pytest.mark.parametrize(
    "signs",
    [
        {"call_ns": 31 * S},
        {"waiting": 1, "still_ns": 31 * S},
        {"error_streak": 10},
        {"breaker_in_ns": S},
    ],
)
def test_what_the_firm_cannot_do_without_makes_the_bus_unhealthy(signs):
    assert [f.level for f in examine_subscription(of(**signs), BOUNDS)] == [Status.DEGRADED]
    assert [f.level for f in examine_subscription(of(critical=True, **signs), BOUNDS)] == [Status.UNHEALTHY]


def test_the_ladder_is_for_the_stuck_and_the_dead():
    assert trouble_of(of(call_ns=31 * S), BOUNDS) == "stuck"
    assert trouble_of(of(waiting=1, still_ns=31 * S), BOUNDS) == "dead"
    assert trouble_of(of(waiting=1, still_ns=31 * S, paused=True), BOUNDS) is None
    assert trouble_of(of(error_streak=99, latency_ns=1e12), BOUNDS) is None


def test_a_handler_that_keeps_the_loop_is_named():
    finding = one(
        Vitals(loop=LoopVitals(blockages=2, longest_ns=3 * S, handler="trend.on_tick", lag_ns=3 * S))
    )
    assert (finding.check, finding.culprit, finding.level) == ("loop", "trend.on_tick", Status.DEGRADED)
    finding = one(Vitals(loop=LoopVitals(blocked_ns=3 * S, handler="trend.on_tick")))
    assert (finding.culprit, finding.level) == ("trend.on_tick", Status.UNHEALTHY)


def test_a_loop_with_too_much_to_do_is_found_without_a_culprit():
    assert one(Vitals(loop=LoopVitals(lag_ns=300 * MS))).culprit == "loop"


@pytest.mark.parametrize("state", ["dead", "full", "locked"])
def test_a_journal_that_takes_nothing_is_unhealthy(state):
    finding = one(Vitals(journal=JournalVitals(state=state, error="disk I/O error")))
    assert (finding.check, finding.level) == ("journal", Status.UNHEALTHY)
    assert "disk I/O error" in finding.detail


def test_a_journal_that_is_late_is_degraded():
    assert one(Vitals(journal=JournalVitals(oldest_ns=2 * S))).level is Status.DEGRADED


def test_a_journal_that_recovers_makes_the_bus_recovering():
    journal = JournalVitals(state="dead", recovering=True, tried=("reopened the journal",))
    assert verdict(examine(Vitals(journal=journal), BOUNDS)).status is Status.RECOVERING


def test_a_feed_that_stopped_is_named_by_its_agent():
    expected = Expectation(event_type="market_data", agent="feed", every_s=30)
    finding = one(Vitals(silences=(Silence(expected, 60 * S, True),)))
    assert (finding.check, finding.culprit, finding.level) == ("feed", "feed", Status.DEGRADED)
    assert "no market_data from feed for 60 s" in finding.detail


def test_a_feed_that_matters_most_is_unhealthy_and_one_that_never_came_is_told():
    expected = Expectation(event_type="market_data", every_s=30, critical=True)
    finding = one(Vitals(silences=(Silence(expected, 60 * S, False),)))
    assert (finding.culprit, finding.level) == ("market_data", Status.UNHEALTHY)
    assert "none has come since the start" in finding.detail


def test_an_agent_whose_lease_ran_out_is_named():
    finding = one(Vitals(lapses=(Lapse("trend", 5 * S, 2 * S),)))
    assert (finding.check, finding.culprit) == ("lease", "trend")
    assert "no sign of life for 7 s; its lease is for 5 s" in finding.detail


def test_a_kill_lane_that_is_not_proven_is_unhealthy_for_each_who_owes_an_answer():
    findings = examine(Vitals(drill=DrillReport(3, 90 * S, MS, ("risk",), ("execution",))), BOUNDS)
    assert [(f.culprit, f.level) for f in findings] == [
        ("risk", Status.UNHEALTHY),
        ("execution", Status.UNHEALTHY),
    ]
    assert "last proven 90 s ago" in findings[0].detail


def test_bounds_follow_the_configuration_as_far_as_it_has_them():
    bounds = Bounds.of(HealthCheckConfig(latency_ms_max=5, stall_s=2, errors_max=3))
    assert (bounds.latency_ms_max, bounds.stall_s, bounds.errors_max) == (5, 2, 3)
    assert bounds.overrun == Bounds().overrun


@pytest.mark.parametrize(
    "settings", [{"stall_s": 0}, {"errors_max": 1.5}, {"overrun": 0.5}, {"loop_lag_ms_max": -1}]
)
def test_bounds_out_of_range_are_refused(settings):
    with pytest.raises(ConfigError):
        Bounds(**settings)


ages = st.none() | st.integers(0, 10**13)


@given(
    st.builds(
        SubscriptionVitals,
        name=st.just("s"),
        critical=st.booleans(),
        waiting=st.integers(0, 10**9),
        still_ns=st.integers(0, 10**13),
        call_ns=ages,
        call_limit_ns=ages,
        retry_in_ns=ages,
        latency_ns=ages,
        error_streak=st.integers(0, 100),
        paused=st.booleans(),
        breaker_in_ns=ages,
        held_by_ladder=st.booleans(),
        abandoned=st.integers(0, 9),
        exhausted=st.booleans(),
    )
)
def test_at_most_one_word_says_why_a_subscription_rests_and_every_finding_names_it(signs):
    found = examine_subscription(signs, BOUNDS)
    assert sum(f.check in ("stuck", "dead", "stalled", "exhausted") for f in found) <= 1
    assert all(f.culprit == "s" and f.detail for f in found)
    assert "failing" not in [f.check for f in found] or signs.breaker_in_ns is not None
