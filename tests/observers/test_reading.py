"""What is made of pulses: rates, recent distributions, and what is wrong, with the culprit's name."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from bus_helpers import a_tick
from msgspec.structs import replace

from openoutcry import EventBus, HealthCheckConfig, KillSwitchEvent
from openoutcry.observers.pulse import (
    Finding,
    HaltRow,
    Heard,
    Histogram,
    JournalRow,
    Pulse,
    Shape,
    SubRow,
    SubShape,
)
from openoutcry.observers.reading import Wrong, percentile_ns, rates, since, wrong
from openoutcry.testing import run_virtual

S = 1_000_000_000
NOW = 1_000 * S
WALL = 1_800_000_000 * S


def a_shape(*names: str, timeout_s: float | None = None) -> Shape:
    subscriptions = [
        SubShape(name, ["market_data"], {}, False, True, False, 1, timeout_s, 10_000, {}) for name in names
    ]
    return Shape(1, "s", "firm", 1, "0", WALL, [], None, S, S, [], [], subscriptions)


def a_row(index: int = 0, **given: Any) -> SubRow:
    plain: Any = [index, *[0] * 12, "", "idle", 0, 0, 0, []]
    return replace(SubRow(*plain), **given)


def a_pulse(*rows: SubRow, **given: Any) -> Pulse:
    plain: dict[str, Any] = {
        **dict.fromkeys(Pulse.__struct_fields__, 0),
        **{name: {} for name in ("refused", "unheard", "dead_elsewhere", "rounds_released")},
        "session": "s",
        "shape": 1,
        "wall_ns": WALL,
        "now_ns": NOW,
        "state": "running",
        "level": "normal",
        "capacity": 10_000,
        "halts": [],
        "heard": None,
        "journal": None,
        "link": None,
        "blocked": "",
        "ledger_balances": True,
        "health": "unknown",
        "findings": [],
        "flows": [],
        "rows": list(rows),
    }
    return Pulse(**{**plain, **given})


def the_one(found: list[Wrong]) -> Wrong:
    assert len(found) == 1, found
    return found[0]


JOURNAL = JournalRow("firm.db", 9, 1, 9, 0, 1, 1, "a sync failed", "process", 1, 1, 1, 1, 0)
FULL = replace(JOURNAL, dead="", refused="the disk has no room")
HEARD = Heard("k-1", True, "firm", NOW - 4 * S, 3, 2, S, ["llm"], [])
CASES: list[tuple[str, Pulse, Pulse | None, str, str, str, str]] = [
    (
        "halted",
        a_pulse(halts=[HaltRow("k-1", "firm", "drawdown", "ann", WALL - S)], halts_count=1),
        None,
        "critical",
        "firm",
        "the firm is halted by ann: drawdown",
        "release",
    ),
    (
        "unheard",
        a_pulse(heard=HEARD),
        None,
        "critical",
        "llm",
        "llm has not handled the kill switch of firm: 2 of 3 have",
        "look",
    ),
    (
        "failed to hear",
        a_pulse(heard=replace(HEARD, waiting=[], heard=3, failed=["risk"])),
        None,
        "bad",
        "risk",
        "risk has failed to handle the kill switch of firm",
        "dead",
    ),
    ("ledger", a_pulse(ledger_balances=False), None, "critical", "ledger", "does not balance", ""),
    ("journal full", a_pulse(journal=FULL), None, "critical", "journal", "the disk has no room", ""),
    ("journal", a_pulse(journal=JOURNAL), None, "critical", "journal", "a sync failed", ""),
    ("stopping", a_pulse(state="stopping"), None, "bad", "bus", "the bus is stopping", ""),
    (
        "critical level",
        a_pulse(level="critical", queue=9_000, refused={"shed": 7}),
        None,
        "bad",
        "backpressure",
        "9,000 of 10,000 events wait, 7 were refused",
        "",
    ),
    ("late loop", a_pulse(loop_delay_ns=S), None, "bad", "loop", "a turn took 1 s", ""),
    (
        "invalid rounds",
        a_pulse(rounds_invalid=3, rounds_released={"quorate": 7}, rounds_late=2),
        None,
        "warn",
        "rounds",
        "3 of 7 ended without a valid outcome, 2 answers were late",
        "",
    ),
    ("paused", a_pulse(a_row(state="paused", lag=4)), None, "warn", "llm", "llm is paused; 4 wait", "resume"),
    ("held", a_pulse(a_row(state="held")), None, "bad", "llm", "llm is held by recovery", "resume"),
    (
        "failing",
        a_pulse(a_row(state="failing", errors=8, handled=2)),
        None,
        "bad",
        "llm",
        "is failing: 80% of its calls",
        "resume",
    ),
    (
        "fails often",
        a_pulse(a_row(errors=80, handled=120, error_streak=3)),
        None,
        "warn",
        "llm",
        "llm fails 40% of its calls: 80 of 200, the last 3 in a row",
        "look",
    ),
    (
        "fails mostly now",
        a_pulse(a_row(errors=88, handled=1_002)),
        a_pulse(a_row(errors=80, handled=1_000), now_ns=NOW - 5 * S),
        "bad",
        "llm",
        "llm fails 80% of its calls: 8 of 10",
        "look",
    ),
    (
        "long call",
        a_pulse(a_row(state="busy", busy_since_ns=NOW - 12 * S, call_event="signal", lag=3)),
        None,
        "warn",
        "llm",
        "llm has been in a call with signal for 12 s; 3 wait",
        "look",
    ),
    (
        "very long call",
        a_pulse(a_row(state="busy", busy_since_ns=NOW - 200 * S, call_event="signal")),
        None,
        "bad",
        "llm",
        "for 3 min",
        "look",
    ),
    (
        "stalled",
        a_pulse(a_row(state="stalled", lag=9)),
        None,
        "bad",
        "llm",
        "has stopped moving; 9 wait",
        "look",
    ),
    ("dead letters", a_pulse(a_row(dead=1)), None, "warn", "llm", "llm has 1 dead letter", "dead"),
    (
        "letters elsewhere",
        a_pulse(dead_elsewhere={"gone": 2}),
        None,
        "warn",
        "gone",
        "gone has 2 dead letters, and is not subscribed now",
        "dead",
    ),
    (
        "full",
        a_pulse(a_row(state="busy", waiting=9_500, lag=9_500, oldest_ns=NOW - S)),
        None,
        "bad",
        "llm",
        "9,500 of 10,000 events waiting",
        "look",
    ),
    (
        "lets go",
        a_pulse(a_row(overflowed=9)),
        a_pulse(a_row(overflowed=7), now_ns=NOW - S),
        "warn",
        "llm",
        "lets events go for lack of room: 9 so far",
        "look",
    ),
    (
        "found by a health check",
        a_pulse(
            a_row(errors=80, handled=20, error_streak=9),
            health="unhealthy",
            health_checked_ns=WALL - S,
            findings=[Finding("errors", "unhealthy", "llm", "9 calls in a row have failed")],
        ),
        None,
        "bad",
        "llm",
        "llm: 9 calls in a row have failed",
        "look",
    ),
    (
        "stuck by a health check, told without the ids and fractions that its detail has",
        a_pulse(
            a_row(state="stalled", busy_since_ns=NOW - 106 * S, call_event="signal", lag=3),
            health="unhealthy",
            health_checked_ns=WALL - S,
            findings=[Finding("stuck", "unhealthy", "llm", "its call for signal 27a0b-007 has not ended")],
        ),
        None,
        "bad",
        "llm",
        "llm has been in a call with signal for 106 s; 3 wait",
        "look",
    ),
]


@pytest.mark.parametrize(
    ("pulse", "before", "severity", "culprit", "says", "action"),
    [c[1:] for c in CASES],
    ids=[c[0] for c in CASES],
)
def test_what_is_wrong_is_said_with_the_culprit_and_what_one_can_do(
    pulse: Pulse, before: Pulse | None, severity: str, culprit: str, says: str, action: str
) -> None:
    one = the_one(wrong(a_shape("llm"), pulse, before))
    assert (one.severity, one.culprit, one.action) == (severity, culprit, action)
    assert says in one.sentence
    if action:
        assert one.target == culprit


FINE: list[Callable[[], tuple[Pulse, Pulse | None]]] = [
    lambda: (a_pulse(), None),
    lambda: (a_pulse(a_row(errors=1, handled=100)), None),
    lambda: (  # it failed once, and not since
        a_pulse(a_row(errors=80, handled=40)),
        a_pulse(a_row(errors=80, handled=20), now_ns=NOW - S),
    ),
    lambda: (a_pulse(a_row(state="busy", busy_since_ns=NOW - S, waiting=3, lag=3, oldest_ns=NOW - S)), None),
    lambda: (a_pulse(heard=replace(HEARD, at_ns=NOW - S // 2)), None),
    lambda: (
        a_pulse(findings=[Finding("loop", "unhealthy", "loop", "late")], health_checked_ns=WALL - 60 * S),
        None,
    ),
    lambda: (a_pulse(refused={"shed": 7}), a_pulse(refused={"shed": 7}, now_ns=NOW - S)),
]


@pytest.mark.parametrize("case", FINE)
def test_nothing_is_wrong_where_nothing_is(case: Callable[[], tuple[Pulse, Pulse | None]]) -> None:
    pulse, before = case()
    assert wrong(a_shape("llm"), pulse, before) == []


@pytest.mark.parametrize("before", [None, a_pulse(a_row(errors=80, handled=20), now_ns=NOW - S)])
def test_who_fails_mostly_and_has_not_shown_that_it_is_better_is_told_of(before: Pulse | None) -> None:
    one = the_one(wrong(a_shape("llm"), a_pulse(a_row(errors=80, handled=20)), before))
    assert (one.severity, one.sentence) == ("bad", "llm fails 80% of its calls: 80 of 100")


def test_the_worst_comes_first_and_there_are_at_most_a_hundred() -> None:
    rows = [a_row(number, state="paused") for number in range(150)]
    halts = [HaltRow("k-1", "firm", "", "", WALL)]
    found = wrong(
        a_shape(*(f"agent-{number}" for number in range(150))), a_pulse(*rows, halts=halts, halts_count=1)
    )
    assert len(found) == 100
    assert found[0].severity == "critical"


def test_a_call_may_take_what_its_subscription_allows() -> None:
    row = a_row(state="busy", busy_since_ns=NOW - 30 * S, call_event="signal")
    assert wrong(a_shape("llm", timeout_s=60.0), a_pulse(row)) == []
    assert the_one(wrong(a_shape("llm", timeout_s=10.0), a_pulse(row))).severity == "bad"


def test_rates_are_counted_between_two_pulses_of_one_session_and_shape() -> None:
    before = a_pulse(a_row(accepted=10, handled=10), now_ns=NOW - 2 * S)
    pulse = a_pulse(a_row(accepted=30, handled=20, errors=4))
    its = rates(before, pulse, a_shape("llm"))["llm"]
    assert (its.accepted, its.handled, its.errors) == (10, 5, 2)
    for other in (None, replace(before, session="t"), replace(before, shape=7), replace(before, now_ns=NOW)):
        assert rates(other, pulse, a_shape("llm"))["llm"].handled == 0


def test_recent_times_are_what_has_been_counted_since_an_earlier_reading() -> None:
    old = Histogram({10: 5, 20: 5}, 10, 30)
    new = Histogram({10: 5, 20: 8, 24: 1}, 14, 900)
    found = since(new, old)
    assert (found.buckets, found.count) == ({20: 3, 24: 1}, 4)
    assert percentile_ns(found, 0.5) == percentile_ns(Histogram({20: 1}, 1, 1), 0.5)
    assert since(new, None) is new
    assert since(old, new) is old  # counted anew
    assert percentile_ns(since(new, new), 0.99) is None


def test_with_the_kill_switch_pulled_and_agents_failing_a_bus_without_health_checks_is_not_called_healthy() -> (
    None
):
    async def go() -> None:
        async with EventBus() as bus:

            async def mostly(event: Any) -> None:
                if event.price % 5:
                    raise ValueError("no")

            bus.subscribe("market_data", mostly, name="momentum", retry=False, breaker=False)
            bus.subscribe("kill_switch", lambda _: None, name="risk")
            for price in range(1, 21):
                await bus.publish(a_tick(float(price)))
            await bus.publish(a_tick(1.0))
            await bus.join()
            await bus.publish(KillSwitchEvent(reason="drawdown"))
            await asyncio.sleep(1)
            found = wrong(await bus.admin.shape(), await bus.admin.pulse())
        assert [(one.severity, one.culprit) for one in found] == [
            ("critical", "firm"),
            ("bad", "momentum"),
            ("warn", "momentum"),
        ]
        assert "fails 81% of its calls" in found[1].sentence

    run_virtual(go())


def test_what_a_health_check_finds_is_told_in_its_words() -> None:
    async def go() -> None:
        async with EventBus(health_check_config=HealthCheckConfig()) as bus:

            async def never(_event: Any) -> None:
                raise ValueError("no")

            bus.subscribe("market_data", never, name="momentum", retry=False)
            for price in range(1, 30):
                await bus.publish(a_tick(float(price)))
            await asyncio.sleep(3)
            pulse = await bus.admin.pulse()
            found = wrong(await bus.admin.shape(), pulse)
        assert pulse.health in ("degraded", "unhealthy")
        assert any(one.culprit == "momentum" and one.action == "resume" for one in found)

    run_virtual(go())


def test_a_full_disk_is_told_of_once_though_a_health_check_has_seen_it_too() -> None:
    finding = Finding("journal", "unhealthy", "journal", "the journal's disk is full")
    pulse = a_pulse(journal=FULL, findings=[finding], health_checked_ns=WALL - S)
    assert the_one(wrong(a_shape("llm"), pulse)).sentence.endswith("the disk has no room")


def test_a_loop_that_nobody_known_has_blocked_comes_after_who_can_be_looked_at() -> None:
    stuck = a_row(state="stalled", busy_since_ns=NOW - 12 * S, call_event="signal")
    found = wrong(a_shape("llm"), a_pulse(stuck, blocked=" for 0.2 s"), a_pulse(stuck, now_ns=NOW - S))
    assert [one.sentence for one in found] == [
        "llm has been in a call with signal for 12 s",
        "the loop was blocked for 0.2 s",
    ]


def test_of_the_equally_bad_a_call_that_does_not_end_stands_before_dead_letters() -> None:
    stuck = a_row(state="stalled", busy_since_ns=NOW - 12 * S, call_event="signal", dead=4)
    assert [one.action for one in wrong(a_shape("llm"), a_pulse(stuck))] == ["look", "dead"]
    failed = a_row(0, dead=9), replace(stuck, index=1)
    assert [one.culprit for one in wrong(a_shape("cio", "llm"), a_pulse(*failed))] == ["llm", "cio", "llm"]
