"""Pressure: levels that do not flap, a reserve that nobody else fills, and who is refused first."""

from math import ceil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from openoutcry.config import BackpressureConfig
from openoutcry.core.pressure import (
    ADMIT,
    REFUSE_NO_ROOM,
    REFUSE_RATE_LIMITED,
    REFUSE_SHED,
    Admit,
    BackpressureLevel,
    BackpressureMetrics,
    Pressure,
    Refusal,
    TokenBucket,
    Wait,
)

NORMAL, WARNING, HIGH, CRITICAL = BackpressureLevel
S = 1_000_000_000
TINY = [1, 2, 3, 5, 10]


class PressureMachine(RuleBasedStateMachine):
    """One mailbox with a door before it. Low- and high-priority events come and go in any order."""

    @initialize(
        capacity=st.sampled_from([*TINY, 20, 100]),
        reserve=st.sampled_from([0, 0.05, 0.3, 0.5]),
        hysteresis=st.sampled_from([0, 0.05, 0.2]),
        shares=st.sampled_from([(0.5, 0.75, 0.9), (0.5, 0.5, 0.5), (0.2, 0.2, 1), (1, 1, 1)]),
    )
    def a_door(self, capacity, reserve, hysteresis, shares):
        self.shares, self.hysteresis = shares, hysteresis
        config = BackpressureConfig(
            warning_threshold=shares[0],
            high_threshold=shares[1],
            critical_threshold=shares[2],
            reserve=reserve,
            hysteresis=hysteresis,
            rate_limit_per_s=1.0,
            rate_limit_burst=2,
        )
        self.capacity, self.has_reserve = capacity, reserve > 0
        self.pressure = Pressure(capacity, config)
        self.low = self.high = self.now_ns = 0
        self.tokens, self.level = 2.0, NORMAL

    @property
    def depth(self) -> int:
        return self.low + self.high

    def look(self) -> None:
        before = self.level
        changed = self.pressure.assess(self.depth)
        self.level = self.pressure.level
        assert changed == (before is not self.level)
        risen = sum(self.depth >= max(1, ceil(round(share * self.capacity, 6))) for share in self.shares)
        assert self.level.rank >= risen, "a threshold is reached, and its level is not"
        if self.level.rank > risen:
            assert self.level.rank <= before.rank, "a level has begun below its threshold"
            threshold = self.shares[self.level.rank - 1]
            leaves_below = round((threshold - self.hysteresis) * self.capacity, 6)
            assert self.depth >= leaves_below or self.hysteresis, "a level without hysteresis ends at once"
            assert self.depth > 0

    @rule(event_type=st.sampled_from(["market_data", "system", "order"]), reentrant=st.booleans())
    def a_low_priority_event(self, event_type, reentrant):
        self.look()
        verdict = self.pressure.admit_low(event_type, self.depth, self.now_ns, reentrant=reentrant)
        if self.level in (NORMAL, WARNING):
            assert verdict is (ADMIT if self.depth < self.pressure.low_room else REFUSE_NO_ROOM)
        if event_type == "order":
            assert verdict is not REFUSE_SHED
        if self.level is CRITICAL and event_type == "market_data":
            assert verdict in (REFUSE_SHED, REFUSE_NO_ROOM)
        if isinstance(verdict, Wait):
            assert (self.level, verdict.reason, reentrant) == (HIGH, Refusal.RATE_LIMITED, False)
            assert verdict.wait_ns > 0
        self.low += verdict is ADMIT

    @rule(again=st.booleans())
    def a_high_priority_event(self, again):
        verdict = self.pressure.admit_high(self.depth)
        assert isinstance(verdict, Admit) == (self.depth < self.capacity), (
            "a high-priority event is never shed"
        )
        self.high += verdict is ADMIT

    @rule()
    def a_burst_on_credit(self):
        self.look()
        credit = self.pressure.credit(self.depth)
        assert credit >= 0
        if self.level in (HIGH, CRITICAL):
            assert credit == 0, "at HIGH every event is looked at"
        self.low += credit
        risen = sum(self.depth > ceil(round(s * self.capacity, 6)) for s in self.shares if s < 1)
        assert credit == 0 or risen <= self.level.rank, "credit never leads past where the next level begins"

    @precondition(lambda self: self.low)
    @rule(data=st.data())
    def low_ones_are_handled(self, data):
        self.low -= data.draw(st.integers(1, self.low))

    @precondition(lambda self: self.high)
    @rule()
    def a_high_one_is_handled(self):
        self.high -= 1

    @rule(by=st.integers(0, 3))
    def time_passes(self, by):
        self.now_ns += by * S

    @rule()
    def everything_is_handled(self):
        self.low = self.high = 0
        self.look()
        assert self.level is NORMAL, "an empty bus is at NORMAL"

    @invariant()
    def low_priority_events_never_fill_the_reserve(self):
        if self.capacity > 1 and self.has_reserve:
            assert self.low < self.capacity
        assert self.low <= self.pressure.low_room
        assert self.depth <= self.capacity


TestPressureMachine = PressureMachine.TestCase
TestPressureMachine.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)


def pressure(capacity: int = 100, **settings_: object) -> Pressure:
    return Pressure(capacity, BackpressureConfig(**settings_))  # type: ignore[arg-type]


def level_at(machine: Pressure, depth: int) -> BackpressureLevel:
    machine.assess(depth)
    return machine.level


@pytest.mark.parametrize(
    ("depth", "level"),
    [
        (0, NORMAL),
        (49, NORMAL),
        (50, WARNING),
        (74, WARNING),
        (75, HIGH),
        (89, HIGH),
        (90, CRITICAL),
        (100, CRITICAL),
    ],
)
def test_a_level_begins_exactly_at_its_threshold(depth, level):
    assert level_at(pressure(), depth) is level


@pytest.mark.parametrize(
    ("level", "last", "next_level"), [(50, 45, NORMAL), (75, 70, WARNING), (90, 85, HIGH)]
)
def test_a_level_ends_only_below_its_threshold_less_the_hysteresis(level, last, next_level):
    machine = pressure()
    begun = level_at(machine, level)
    assert level_at(machine, last) is begun
    assert level_at(machine, last - 1) is next_level


def test_a_depth_that_swings_around_a_threshold_changes_the_level_once():
    machine = pressure()
    assert [machine.assess(depth) for depth in (49, 50, 49, 50, 48, 51, 46)] == [False, True, *[False] * 5]


@pytest.mark.parametrize("capacity", TINY)
def test_a_small_bus_does_not_flap_at_its_thresholds_either(capacity):
    for threshold in (0.5, 0.75, 0.9):
        machine = pressure(capacity)
        depth = max(1, ceil(threshold * capacity))
        machine.assess(depth)
        changes = sum(machine.assess(d) for _ in range(5) for d in (depth - 1, depth) if depth > 1)
        assert changes == 0


def test_several_levels_may_be_passed_in_one_step_both_ways():
    machine = pressure()
    assert machine.assess(100)
    assert machine.level is CRITICAL
    assert not machine.assess(100)
    assert machine.assess(0)
    assert machine.level is NORMAL


def test_equal_thresholds_skip_the_levels_between():
    machine = pressure(warning_threshold=0.5, high_threshold=0.5, critical_threshold=0.5)
    assert [level_at(machine, depth) for depth in (49, 50, 45, 44)] == [NORMAL, CRITICAL, CRITICAL, NORMAL]


def test_a_hysteresis_as_large_as_the_first_threshold_still_lets_an_empty_bus_be_normal():
    machine = pressure(hysteresis=0.5)
    assert [level_at(machine, depth) for depth in (50, 1, 0)] == [WARNING, WARNING, NORMAL]
    assert min(machine.fall) >= 1


def test_without_hysteresis_a_level_ends_where_it_began():
    machine = pressure(hysteresis=0)
    assert [level_at(machine, depth) for depth in (50, 49, 75, 74)] == [WARNING, NORMAL, HIGH, WARNING]


def test_a_threshold_that_a_float_cannot_hit_stands_where_a_person_expects_it():
    machine = pressure(warning_threshold=0.07, hysteresis=0)
    assert [level_at(machine, depth) for depth in (6, 7)] == [NORMAL, WARNING]
    assert pressure(reserve=0.29).low_room == 71


@pytest.mark.parametrize(
    ("capacity", "room"), [(1, 1), (2, 1), (3, 2), (5, 4), (10, 9), (20, 19), (100, 95), (10_000, 9_500)]
)
def test_the_reserve_is_at_least_one_event_and_leaves_at_least_one_to_the_others(capacity, room):
    assert pressure(capacity).low_room == room


@pytest.mark.parametrize("capacity", TINY)
def test_where_nothing_is_reserved_low_priority_events_may_fill_everything(capacity):
    assert pressure(capacity, reserve=0).low_room == capacity


@pytest.mark.parametrize("capacity", [2, 3, 5, 10, 100])
def test_a_mailbox_that_low_priority_events_have_filled_still_takes_a_high_priority_one(capacity):
    machine = pressure(capacity)
    depth = 0
    while True:
        machine.assess(depth)
        if machine.admit_low("order", depth, depth * S) is not ADMIT:
            break
        depth += 1
    assert machine.admit_low("order", depth, 0) is REFUSE_NO_ROOM
    assert machine.admit_high(depth) is ADMIT


@pytest.mark.parametrize("capacity", [*TINY, 10**12])
def test_a_full_mailbox_makes_a_high_priority_event_wait_for_the_cool_down(capacity):
    machine = pressure(capacity, cooldown_s=1.5)
    assert machine.admit_high(capacity - 1) is ADMIT
    assert machine.admit_high(capacity) == Wait(1_500_000_000, Refusal.NO_ROOM)
    assert machine.admit_high(capacity + 7) == Wait(1_500_000_000, Refusal.NO_ROOM)


def test_at_normal_and_warning_everything_is_queued():
    machine = pressure(rate_limit_burst=1, rate_limit_per_s=1)
    for depth in (0, 49, 50, 74):
        machine.assess(depth)
        for event_type in ("market_data", "system", "order"):
            assert machine.admit_low(event_type, depth, 0) is ADMIT


def test_at_high_publishers_wait_for_tokens():
    machine = pressure(rate_limit_burst=2, rate_limit_per_s=4)
    machine.assess(80)
    assert [machine.admit_low("order", 80, 5) for _ in range(3)] == [
        ADMIT,
        ADMIT,
        Wait(S // 4, Refusal.RATE_LIMITED),
    ]
    assert machine.admit_low("order", 80, 5 + S // 4) is ADMIT


def test_at_high_a_publish_from_a_handler_never_waits_and_the_others_pay_for_it():
    machine = pressure(rate_limit_burst=2, rate_limit_per_s=1)
    machine.assess(80)
    assert {machine.admit_low("order", 80, 0, reentrant=True) for _ in range(100)} == {ADMIT}
    assert machine.admit_low("order", 80, 0) == Wait(3 * S, Refusal.RATE_LIMITED), "the debt is bounded"


@pytest.mark.parametrize(
    ("event_type", "depth", "verdict"),
    [
        ("market_data", 90, REFUSE_SHED),
        ("system", 90, ADMIT),
        ("system", 92, ADMIT),
        ("system", 93, REFUSE_SHED),
        ("order", 94, ADMIT),
        ("signal", 94, ADMIT),
        ("decision", 94, ADMIT),
        ("order", 95, REFUSE_NO_ROOM),
        ("market_data", 95, REFUSE_NO_ROOM),
    ],
)
def test_at_critical_market_data_goes_first_and_orders_last(event_type, depth, verdict):
    machine = pressure()
    machine.assess(depth)
    assert machine.level is CRITICAL
    assert machine.admit_low(event_type, depth, 0) is verdict


def test_which_types_are_shed_is_the_user_s_word():
    machine = pressure(shed_first=["news"], shed_last=["market_data"])
    machine.assess(94)
    assert machine.admit_low("news", 94, 0) is REFUSE_SHED
    assert machine.admit_low("market_data", 94, 0) is ADMIT
    assert machine.admit_low("order", 94, 0) is REFUSE_SHED


def test_where_critical_begins_inside_the_reserve_nothing_is_shed_but_for_lack_of_room():
    machine = pressure(high_threshold=0.99, critical_threshold=1.0, reserve=0.1)
    machine.assess(89)
    assert machine.admit_low("market_data", 89, 0) is ADMIT
    assert machine.admit_low("order", 90, 0) is REFUSE_NO_ROOM


@pytest.mark.parametrize(
    ("depth", "credit"), [(0, 50), (49, 1), (50, 25), (74, 1), (75, 0), (95, 0), (100, 0)]
)
def test_credit_leads_to_the_next_level_and_no_further(depth, credit):
    machine = pressure()
    machine.assess(depth)
    assert machine.credit(depth) == credit


def test_credit_never_leads_into_the_reserve():
    machine = pressure(
        warning_threshold=1.0, high_threshold=1.0, critical_threshold=1.0, hysteresis=0, reserve=0.2
    )
    assert machine.credit(70) == 10
    assert machine.credit(90) == 0


# -- the token bucket ---------------------------------------------------------------------------------


def test_a_bucket_starts_full_and_refills_at_its_rate_up_to_its_burst():
    bucket = TokenBucket(2.0, 3)
    assert [bucket.take(0) for _ in range(4)] == [0, 0, 0, S // 2]
    assert [bucket.take(100 * S) for _ in range(4)] == [0, 0, 0, S // 2]


@given(
    rate=st.floats(1e-3, 1e9),
    burst=st.integers(1, 10_000),
    start=st.integers(0, 10**19),
    used=st.integers(0, 30),
)
def test_waiting_exactly_as_long_as_told_is_enough(rate, burst, start, used):
    bucket = TokenBucket(rate, burst)
    for _ in range(used):
        bucket.take(start, force=True)
    wait_ns = bucket.take(start)
    while wait_ns:
        start += wait_ns
        told, wait_ns = wait_ns, bucket.take(start)
        assert wait_ns == 0 or wait_ns <= told // 2 + 1, "it converges at once but for rounding"


@given(st.lists(st.tuples(st.integers(0, 3 * S), st.booleans()), min_size=1, max_size=60))
def test_no_interval_gets_more_tokens_than_rate_and_burst_allow(steps):
    rate, burst = 5.0, 4
    bucket, now_ns = TokenBucket(rate, burst), 0
    taken: list[int] = []
    for passed_ns, eager in steps:
        now_ns += passed_ns if not eager else 0
        if bucket.take(now_ns) == 0:
            taken.append(now_ns)
    for first in range(len(taken)):
        for last in range(first, len(taken)):
            seconds = (taken[last] - taken[first]) / S
            assert last - first + 1 <= burst + rate * seconds + 1e-6


def test_a_debt_is_bounded_by_the_burst_and_is_paid_back_first():
    bucket = TokenBucket(1.0, 2)
    for _ in range(10):
        assert bucket.take(0, force=True) == 0
    assert bucket.take(0) == 3 * S
    assert bucket.take(2 * S) == S
    assert bucket.take(3 * S) == 0


def test_a_clock_that_begins_again_earlier_does_not_dry_the_bucket_up():
    bucket = TokenBucket(1.0, 1)
    assert bucket.take(10**18) == 0
    assert bucket.take(5 * S) == S
    assert bucket.take(6 * S) == 0


@pytest.mark.parametrize(("rate", "burst"), [(1e-6, 1), (1e12, 10**12), (1e-6, 10**12), (1e12, 1)])
def test_the_extremes_of_the_settings_give_finite_waits(rate, burst):
    bucket = TokenBucket(rate, burst)
    for _ in range(3):
        bucket.take(0, force=True)
    bucket._tokens = -float(burst)
    wait_ns = bucket.take(0)
    assert wait_ns >= 1
    assert bucket.take(wait_ns * 2) == 0


def test_metrics_are_ready_for_json_and_sum_up_what_was_refused():
    metrics = BackpressureMetrics(
        level=HIGH,
        queue_size=8,
        capacity=10,
        utilisation=0.8,
        peak_queue_size=9,
        published=100,
        high_priority=3,
        control=1,
        duplicates=2,
        conflicts=1,
        unheard={"order": 1},
        refused={"shed": 2, "no_room": 1},
        rate_limited_waits=4,
        room_waits=5,
        level_changes=6,
        stalled=("slow",),
    )
    plain = metrics.to_dict()
    assert metrics.dropped == plain["dropped"] == 3
    assert (plain["level"], plain["stalled"]) == ("high", ["slow"])


def test_everybody_who_reserves_a_token_gets_a_time_of_his_own_in_the_order_of_asking():
    bucket = TokenBucket(rate_per_s=4, burst=2)
    assert [bucket.reserve(0, S) for _ in range(7)] == [0, 0, S // 4, S // 2, 3 * S // 4, S, None]


def test_a_token_that_would_come_too_late_is_not_reserved_and_costs_nobody_anything():
    bucket = TokenBucket(rate_per_s=1, burst=1)
    assert bucket.reserve(0, 0) == 0
    assert [bucket.reserve(0, S - 1) for _ in range(5)] == [None] * 5
    assert bucket.reserve(0, S) == S


def test_a_reserved_token_is_gone_for_those_who_do_not_wait():
    bucket = TokenBucket(rate_per_s=1, burst=1)
    assert [bucket.reserve(0, 9 * S) for _ in range(3)] == [0, S, 2 * S]
    assert bucket.take(S) == 2 * S
    assert bucket.take(3 * S) == 0


def test_what_was_reserved_is_not_forgiven_by_a_forced_take():
    bucket = TokenBucket(rate_per_s=1, burst=1)
    assert [bucket.reserve(0, 9 * S) for _ in range(6)] == [n * S for n in range(6)]
    assert bucket.take(0, force=True) == 0
    assert bucket.reserve(0, 9 * S) == 6 * S


def at_high(**settings_: object) -> Pressure:
    machine = pressure(rate_limit_burst=1, rate_limit_per_s=10, cooldown_s=0.3, **settings_)  # type: ignore[arg-type]
    machine.assess(80)
    return machine


def test_at_high_those_who_will_wait_have_a_token_reserved_and_those_who_would_wait_too_long_are_refused():
    machine = at_high()
    verdicts = [machine.admit_low("system", 80, 0, patient=True) for _ in range(6)]
    waits = [Wait(n * S // 10, Refusal.RATE_LIMITED) for n in (1, 2, 3)]
    assert verdicts == [ADMIT, *waits, REFUSE_RATE_LIMITED, REFUSE_RATE_LIMITED]


@pytest.mark.parametrize("event_type", ["signal", "decision", "order"])
def test_at_high_the_last_to_be_shed_are_never_refused_for_the_rate_when_they_will_wait(event_type):
    machine = at_high()
    verdicts = [machine.admit_low(event_type, 80, 0, patient=True) for _ in range(50)]
    assert verdicts[0] is ADMIT
    assert [v.wait_ns for v in verdicts[1:]] == [min(n, 3) * S // 10 for n in range(1, 50)]  # type: ignore[union-attr]
    assert machine.admit_low("system", 80, 0, patient=True) is REFUSE_RATE_LIMITED, "the others pay for it"


def test_who_has_waited_for_a_token_does_not_need_another_but_needs_room_like_everybody():
    machine = at_high()
    assert machine.admit_low("system", 80, 0) is ADMIT
    assert machine.admit_low("system", 80, 0, paid=True) is ADMIT
    machine.assess(93)
    assert machine.admit_low("system", 93, 0, paid=True) is REFUSE_SHED
    assert machine.admit_low("order", 95, 0, paid=True) is REFUSE_NO_ROOM


def test_at_high_a_handler_does_not_wait_however_patient_it_is():
    machine = at_high()
    verdicts = {machine.admit_low("system", 80, 0, reentrant=True, patient=True) for _ in range(20)}
    assert verdicts == {ADMIT}
