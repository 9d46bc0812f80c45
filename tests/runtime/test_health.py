"""Health of a running bus (CONTRACT 25): what is wrong is found, named, told, and over when it is over."""

import asyncio
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from bus_helpers import Desk, Failing, Gate, a_fill, a_kill, a_tick, pause_until, ticks, virtual

from openoutcry import (
    NO_RETRY,
    ConfigError,
    EventBus,
    EventBusHealthStatus,
    EventType,
    HealthCheckConfig,
    HealthCheckResult,
    load_config,
)
from openoutcry.config import DrillConfig, LadderConfig
from openoutcry.sessions import Expectation, Session
from openoutcry.testing import Deadlock, run_virtual

HEALTHY, DEGRADED = EventBusHealthStatus.HEALTHY, EventBusHealthStatus.DEGRADED
UNHEALTHY, RECOVERING = EventBusHealthStatus.UNHEALTHY, EventBusHealthStatus.RECOVERING
WATCHING = HealthCheckConfig(stall_s=2.0, recover=False)


def checks(result: HealthCheckResult) -> list[tuple[str, str]]:
    return [(finding.check, finding.culprit) for finding in result.findings]


@virtual
async def test_a_bus_that_works_is_healthy_and_says_so_once():
    told: list[HealthCheckResult] = []
    desk = Desk()
    async with EventBus(health_check_config=HealthCheckConfig()) as bus:
        bus.on_health_change(told.append)
        bus.subscribe(EventType.MARKET_DATA, desk.on_event, name="desk")
        for tick in ticks(50):
            await bus.publish(tick)
            await asyncio.sleep(0.1)
        assert bus.is_healthy
    assert [result.status for result in told] == [HEALTHY]


@virtual
async def test_a_stuck_call_is_found_by_the_bus_itself_with_its_event_and_the_others_go_on():
    gate, desk = Gate(), Desk()
    told: list[HealthCheckResult] = []
    async with EventBus(health_check_config=WATCHING) as bus:
        bus.on_health_change(told.append)
        bus.subscribe(EventType.MARKET_DATA, gate.on_event, name="stuck")
        bus.subscribe(EventType.MARKET_DATA, desk.on_event, name="desk")
        first = a_tick()
        await bus.publish(first)
        await bus.publish(a_tick())
        await asyncio.sleep(5)
        assert bus.health_status is DEGRADED
        result = told[-1]
        assert checks(result) == [("stuck", "stuck")]
        assert first.event_id in result.findings[0].detail
        assert "with 1 event waiting behind it" in result.findings[0].detail
        assert len(desk.handled) == 2
        gate.open()
        await bus.join()
        await asyncio.sleep(5)
        assert told[-1].is_healthy
        assert bus.is_healthy


@virtual
async def test_a_last_event_that_is_stuck_with_nothing_behind_it_is_found_as_well():
    gate = Gate()
    async with EventBus(health_check_config=WATCHING) as bus:
        bus.subscribe(EventType.MARKET_DATA, gate.on_event, name="stuck")
        await bus.publish(a_tick())
        await asyncio.sleep(5)
        assert checks(await bus.check_health()) == [("stuck", "stuck")]
        gate.open()


@virtual
async def test_a_call_late_in_a_batch_is_timed_by_itself_and_not_with_the_batch():
    slow = Desk(takes_s=1.5)
    async with EventBus(health_check_config=WATCHING) as bus:
        bus.subscribe(EventType.MARKET_DATA, slow.on_event, name="slow")
        await bus.publish_many(ticks(8))
        found = set()
        for _ in range(11):
            await asyncio.sleep(1)
            found |= {check for check, _ in checks(await bus.check_health())}
        assert found <= {"latency"}
        await bus.join()


@virtual
async def test_what_handles_high_priority_types_makes_the_bus_unhealthy_when_stuck():
    gate = Gate()
    async with EventBus() as bus:
        bus.subscribe(EventType.FILL, gate.on_event, name="execution")
        await bus.publish(a_fill())
        await asyncio.sleep(31)
        result = await bus.check_health()
        assert (result.status, checks(result)) == (UNHEALTHY, [("stuck", "execution")])
        gate.open()


@virtual
async def test_slow_is_told_from_stuck():
    slow = Desk(takes_s=0.5)
    async with EventBus(health_check_config=WATCHING) as bus:
        bus.subscribe(EventType.MARKET_DATA, slow.on_event, name="slow")
        await bus.publish_many(ticks(20))
        await asyncio.sleep(6)
        assert checks(await bus.check_health()) == [("latency", "slow")]
        assert bus.health_status is DEGRADED
        await bus.join()
        await asyncio.sleep(10)
        assert bus.is_healthy


@virtual
async def test_an_error_streak_is_found_and_ends_with_the_first_success():
    failing = Failing(lambda event: event.price < 13)
    config = HealthCheckConfig(errors_max=10)
    async with EventBus(health_check_config=config) as bus:
        bus.subscribe(EventType.MARKET_DATA, failing.on_event, name="failing", retry=NO_RETRY, breaker=False)
        await bus.publish_many(ticks(12))
        await bus.join()
        result = await bus.check_health()
        assert checks(result) == [("errors", "failing")]
        assert "12 calls in a row have failed (limit 10); the last: ValueError('no')" in result.message
        await bus.publish(a_tick(13.0))
        await bus.join()
        assert (await bus.check_health()).is_healthy


@virtual
async def test_a_subscription_whose_events_mostly_fail_is_named_while_the_breaker_holds_it():
    failing = Failing()
    async with EventBus() as bus:
        bus.subscribe(EventType.MARKET_DATA, failing.on_event, name="broken", retry=NO_RETRY)
        await bus.publish_many(ticks(30))
        await asyncio.sleep(0.1)
        assert ("failing", "broken") in checks(await bus.check_health())


@virtual
async def test_a_paused_subscription_with_events_waiting_is_reported_as_paused():
    desk = Desk()
    async with EventBus(health_check_config=WATCHING) as bus:
        subscription = bus.subscribe(EventType.MARKET_DATA, desk.on_event, name="desk")
        subscription.pause()
        await bus.publish(a_tick())
        await asyncio.sleep(10)
        result = await bus.check_health()
        assert checks(result) == [("stalled", "desk")]
        assert "it is paused" in result.message
        subscription.resume()
        await bus.join()


@virtual
async def test_a_lag_that_grows_without_end_is_reported():
    slow = Desk(takes_s=0.1)
    config = HealthCheckConfig(lag_window_s=8, check_s=1, recover=False, latency_ms_max=1e9)
    async with EventBus(health_check_config=config) as bus:
        bus.subscribe(EventType.MARKET_DATA, slow.on_event, name="slow")
        for _ in range(150):
            await bus.publish_many(ticks(2))
            await asyncio.sleep(0.1)
        (finding,) = (await bus.check_health()).findings
        assert (finding.check, finding.culprit) == ("lag", "slow")
        await bus.stop(timeout_s=0)


@virtual
async def test_callbacks_may_be_plain_or_async_and_may_raise(caplog):
    told: list[Any] = []

    async def later(result: HealthCheckResult) -> None:
        await asyncio.sleep(0)
        told.append(("later", result.status))

    def raising(_result: HealthCheckResult) -> None:
        raise RuntimeError("a callback of the user's")

    bus = EventBus()
    bus.on_health_change(raising)
    bus.on_health_change(later)
    bus.on_health_change(lambda result: told.append(("plain", result.status)))
    await bus.check_health()
    await asyncio.sleep(0.01)
    assert told == [("plain", HEALTHY), ("later", HEALTHY)]
    assert "a callback of the user's" in caplog.text


@virtual
async def test_a_slow_agent_that_may_take_its_time_is_healthy_and_one_that_is_later_still_is_not():
    told: list[EventBusHealthStatus] = []

    async def model(_event: Any) -> None:
        await asyncio.sleep(100)

    async def late(_event: Any) -> None:
        await asyncio.sleep(100)

    async with EventBus(health_check_config=HealthCheckConfig(lag_window_s=3600)) as bus:
        bus.on_health_change(lambda result: told.append(result.status))
        bus.subscribe(EventType.MARKET_DATA, model, name="model", timeout_s=250, overflow="conflate")
        bus.subscribe(EventType.FILL, late, name="late", timeout_s=250)
        for tick in ticks(200):
            await bus.publish(tick)
            await asyncio.sleep(5)
        assert told == [HEALTHY]
        for number in range(4):
            await bus.publish(a_fill(f"o-{number}"))
        await asyncio.sleep(302)
        assert checks(await bus.check_health()) == [("latency", "late")]
        await bus.stop(timeout_s=0)


@virtual
async def test_a_callback_that_lets_a_cancellation_out_does_not_end_the_checks():
    told: list[Any] = []

    def unlucky(_result: HealthCheckResult) -> None:
        raise asyncio.CancelledError  # as `future.result()` of a cancelled one does

    gate = Gate()
    async with EventBus(health_check_config=WATCHING) as bus:
        bus.on_health_change(unlucky)
        bus.on_health_change(lambda result: told.append(result.status))
        bus.subscribe(EventType.MARKET_DATA, gate.on_event, name="stuck")
        await bus.publish(a_tick())
        await asyncio.sleep(10)
        assert told == [HEALTHY, DEGRADED]
        assert not bus.is_healthy
        gate.open()


@virtual
async def test_who_listens_is_told_without_any_setting_and_nothing_is_done_about_it():
    gate = Gate()
    told: list[HealthCheckResult] = []
    async with EventBus() as bus:
        bus.on_health_change(told.append)
        bus.subscribe(EventType.MARKET_DATA, gate.on_event, name="stuck")
        await bus.publish(a_tick())
        await asyncio.sleep(300)
        assert [(r.status, checks(r)) for r in told] == [(HEALTHY, []), (DEGRADED, [("stuck", "stuck")])]
        assert told[-1].findings[0].tried == ()
        assert len(gate.begun) == 1
        gate.open()


def test_an_idle_bus_that_checks_itself_leaves_no_timer_standing():
    async def main() -> None:
        async with EventBus(health_check_config=HealthCheckConfig()) as bus:
            bus.on_health_change(lambda _: None)
            desk = Desk()
            bus.subscribe(EventType.MARKET_DATA, desk.on_event)
            await bus.publish(a_tick())
            await bus.join()
            await asyncio.get_running_loop().create_future()

    with pytest.raises(Deadlock):
        run_virtual(main(), limit_s=600.0)


@virtual
async def test_an_idle_kill_switch_handler_is_healthy_for_months():
    """CONTRACT 26: being idle is not being dead."""
    desk = Desk()
    async with EventBus(health_check_config=HealthCheckConfig()) as bus:
        bus.subscribe(EventType.KILL_SWITCH, desk.on_event)
        await asyncio.sleep(90 * 86_400)
        assert (await bus.check_health()).is_healthy
        await bus.publish(a_kill())
        await bus.join()
        assert len(desk.handled) == 1


# -- expectations, leases, drills -------------------------------------------------------------------

BELL = Session(start="09:30", end="16:00", tz="America/New_York")


@virtual
async def test_a_feed_that_stops_in_an_open_session_is_named():
    expected = Expectation(event_type=EventType.MARKET_DATA, every_s=5.0, critical=True)
    config = HealthCheckConfig(expectations=(expected,))
    told: list[HealthCheckResult] = []
    async with EventBus(health_check_config=config) as bus:
        bus.on_health_change(told.append)
        for _ in range(20):
            await bus.publish(a_tick())
            await asyncio.sleep(1)
        assert bus.is_healthy
        await asyncio.sleep(10)
        assert bus.health_status is UNHEALTHY
        assert checks(told[-1]) == [("feed", "market_data")]
        await bus.publish(a_tick())
        await asyncio.sleep(1.5)
        assert told[-1].is_healthy


@virtual
async def test_quiet_is_fine_at_night_and_not_after_the_opening_bell():
    # virtual time begins on Tuesday 2024-01-02 at 14:30Z, which is 09:30 in New York
    expected = Expectation(event_type=EventType.MARKET_DATA, agent="gateway", every_s=60.0, sessions=(BELL,))
    config = HealthCheckConfig(expectations=(expected,))
    async with EventBus(health_check_config=config) as bus:
        await asyncio.sleep(30)
        assert bus.is_healthy
        await asyncio.sleep(45)
        assert checks(await bus.check_health()) == [("feed", "gateway")]
        await asyncio.sleep(6.5 * 3600)  # 16:01
        assert bus.is_healthy
        await asyncio.sleep(17.5 * 3600 + 30)  # 09:31 on the next day
        assert checks(await bus.check_health()) == [("feed", "gateway")]


@virtual
async def test_high_priority_and_control_events_are_heard_too():
    kinds = (EventType.FILL, EventType.KILL_SWITCH, EventType.MARKET_DATA)
    expected = tuple(Expectation(event_type=kind, every_s=1.0) for kind in kinds)
    async with EventBus(health_check_config=HealthCheckConfig(expectations=expected)) as bus:
        bus.subscribe(EventType.KILL_SWITCH, lambda _: None, name="risk")
        for _ in range(5):
            await bus.publish(a_fill())
            await bus.publish(a_kill())
            await bus.publish(a_tick())
            await asyncio.sleep(0.9)
        assert bus.is_healthy
        await asyncio.sleep(2)
        assert {culprit for _, culprit in checks(await bus.check_health())} == {str(k.value) for k in kinds}


@virtual
async def test_an_agent_with_a_lease_is_missed_when_it_is_silent_and_not_after_a_goodbye():
    async with EventBus(health_check_config=HealthCheckConfig()) as bus:
        bus.heartbeat("momentum", lease_s=5.0)
        for _ in range(5):
            await asyncio.sleep(3)
            bus.heartbeat("momentum")
        assert bus.is_healthy
        await asyncio.sleep(6.5)
        assert checks(await bus.check_health()) == [("lease", "momentum")]
        bus.heartbeat("momentum")
        assert (await bus.check_health()).is_healthy
        bus.heartbeat("momentum", lease_s=0)
        await asyncio.sleep(100)
        assert (await bus.check_health()).is_healthy


DRILLS = HealthCheckConfig(drills=DrillConfig(every_s=10.0, deadline_s=0.5), recover=False, stall_s=1e6)


@virtual
async def test_drills_prove_the_kill_lane_without_calling_anybody():
    desk, other = Desk(), Desk()
    async with EventBus(health_check_config=DRILLS) as bus:
        bus.subscribe(EventType.KILL_SWITCH, desk.on_event, name="risk")
        bus.subscribe(EventType.MARKET_DATA, other.on_event, name="other")
        await asyncio.sleep(35)
        lane = (await bus.check_health()).details["kill_lane"]
        assert lane["drills"] == 4
        assert lane["proven_s_ago"] == pytest.approx(5, abs=0.1)
        assert desk.begun == other.begun == []
        assert all(row.accepted == 0 for row in bus.ledger().rows)


@virtual
async def test_a_kill_lane_that_does_not_answer_a_drill_makes_the_bus_unhealthy_until_it_does():
    gate, well = Gate(), Desk()
    told: list[HealthCheckResult] = []
    async with EventBus(health_check_config=DRILLS) as bus:
        bus.on_health_change(told.append)
        bus.subscribe(EventType.KILL_SWITCH, gate.on_event, name="risk")
        bus.subscribe(EventType.KILL_SWITCH, well.on_event, name="desk")
        await asyncio.sleep(5)
        assert bus.is_healthy
        await bus.publish(a_kill())
        await asyncio.sleep(6)
        assert (told[-1].status, checks(told[-1])) == (UNHEALTHY, [("kill_lane", "risk")])
        gate.open()
        await asyncio.sleep(11)
        assert told[-1].is_healthy


@virtual
async def test_a_subscription_that_has_ended_owes_no_answer_to_a_drill():
    gate = Gate()
    async with EventBus(health_check_config=DRILLS) as bus:
        bus.subscribe(EventType.KILL_SWITCH, gate.on_event, name="risk")
        await asyncio.sleep(5)
        await bus.publish(a_kill())
        await asyncio.sleep(6)
        assert checks(await bus.check_health()) == [("kill_lane", "risk")]
        bus.unsubscribe(EventType.KILL_SWITCH, gate.on_event)
        assert (await bus.check_health()).is_healthy
        gate.open()


@virtual
async def test_an_answer_to_a_drill_counts_from_when_it_was_given_however_late_health_looks():
    config = HealthCheckConfig(drills=DrillConfig(every_s=10.0, deadline_s=9.0), recover=False, check_s=8.0)
    async with EventBus(health_check_config=config) as bus:
        bus.subscribe(EventType.KILL_SWITCH, Desk().on_event, name="risk")
        await asyncio.sleep(7)
        assert (await bus.check_health()).details["kill_lane"]["worst_ms"] < 1


@virtual
async def test_resuming_a_subscription_forgets_its_errors_whether_or_not_anybody_has_looked():
    failing = Failing(times=1_000)
    async with EventBus() as bus:
        subscription = bus.subscribe(
            EventType.MARKET_DATA, failing.on_event, name="sick", retry=NO_RETRY, breaker=False
        )
        for tick in ticks(30):
            await bus.publish(tick)
        await bus.join()
        subscription.resume()
        assert (await bus.check_health()).is_healthy


# -- settings ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"stall_s": 0}, "stall_s"),
        ({"check_s": 0}, "check_s"),
        ({"lag_window_s": 2.0}, "lag_window_s"),
        ({"overrun": 0.5}, "overrun"),
        ({"expectations": "market_data"}, "expectations"),
        ({"drills": 60}, "drills"),
        ({"ladder": None}, "ladder"),
        ({"recover": 1}, "recover"),
        ({"watchdog": "yes"}, "watchdog"),
    ],
)
def test_a_setting_out_of_range_is_refused_by_name(fields: dict[str, Any], named: str):
    with pytest.raises(ConfigError, match=named):
        HealthCheckConfig(**fields)


def test_what_is_no_health_check_config_is_refused():
    with pytest.raises(ConfigError, match="health"):
        EventBus(health_check_config=True)  # type: ignore[arg-type]


def test_health_is_configured_in_a_file(tmp_path):
    path = tmp_path / "bus.toml"
    path.write_text(
        "[health]\nstall_s = 12\n[health.drills]\nevery_s = 30\n[health.ladder]\nback_offs = 1\n", "utf-8"
    )
    config = load_config(path)
    assert config.health == HealthCheckConfig(
        stall_s=12, drills=DrillConfig(every_s=30), ladder=LadderConfig(back_offs=1)
    )
    EventBus(**config.arguments())
    path.write_text("[health.ladder]\nrungs = 3\n", "utf-8")
    with pytest.raises(ConfigError, match=r"ladder.*rungs"):
        load_config(path)


# -- status -----------------------------------------------------------------------------------------


@virtual
async def test_the_status_tells_of_health_and_of_each_subscription_of_late_and_is_json():
    slow = Desk(takes_s=0.01)
    async with EventBus(health_check_config=HealthCheckConfig()) as bus:
        bus.subscribe(EventType.MARKET_DATA, slow.on_event, name="slow")
        for tick in ticks(100):
            await bus.publish(tick)
            await asyncio.sleep(0.1)
        status = json.loads(json.dumps(bus.get_status()))
        assert status["health"]["status"] == "healthy"
        assert status["watchdog"] is None  # virtual time is never late
        (record,) = status["handlers"]["handlers"]
        assert record["lag"] == 0
        assert record["recent"]["handled_per_s"] == pytest.approx(10, rel=0.2)
        assert record["recent"]["accepted_per_s"] == pytest.approx(10, rel=0.2)
        assert record["error_streak"] == 0
        assert record["recovery"] == {"tried": [], "holding": False, "exhausted": False}


def test_a_blocked_loop_is_named_and_shows_in_status_and_health():
    import time  # noqa: PLC0415 - real time, for this test alone

    async def main() -> tuple[HealthCheckResult, dict[str, Any]]:
        async with EventBus() as bus:
            watchdog = bus._monitor.watchdog
            assert watchdog is not None

            def hog(_event: Any) -> None:
                deadline_s = time.monotonic() + 300
                while not watchdog.episodes and time.monotonic() < deadline_s:
                    pass

            bus.subscribe(EventType.MARKET_DATA, hog, name="hog")
            await bus.publish(a_tick())
            await bus.join()
            while not watchdog.episodes[0].is_over:  # noqa: ASYNC110 - the thread sees to it
                await asyncio.sleep(0.01)
            status = bus.get_status()
            return await bus.check_health(), status

    result, status = asyncio.run(main())
    assert "hog" in status["health"]["culprits"]
    assert ("loop", "hog") in [(f["check"], f["culprit"]) for f in status["health"]["findings"]]
    episode = status["watchdog"]["episodes"][0]
    assert episode["handler"] == "hog"
    assert episode["is_over"]
    assert any("hog" in line for line in episode["stack"])
    assert "hog" not in result.culprits  # once told, it is over


DOC = Path(__file__).parents[2] / "docs" / "health.md"
PROGRAMS = re.findall(r"```python\n(.*?)```", DOC.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("program", PROGRAMS, ids=range(len(PROGRAMS)))
def test_the_code_of_the_page_on_health_runs(program: str):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@virtual
async def test_a_bus_that_was_stopped_does_not_call_what_waits_dead():
    desk = Desk(takes_s=10)
    bus = EventBus(health_check_config=HealthCheckConfig(stall_s=1.0, recover=False))
    bus.subscribe(EventType.MARKET_DATA, desk.on_event)
    await bus.start()
    await bus.publish_many(ticks(3))
    await bus.stop(timeout_s=0.1)
    await asyncio.sleep(100)
    result = await bus.check_health()
    assert result.is_healthy
    assert result.details["state"] == "stopped"
    await bus.start()
    await pause_until(lambda: len(desk.handled) == 3)
    await bus.stop()
