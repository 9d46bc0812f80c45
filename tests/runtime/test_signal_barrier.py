"""The signal barrier on an event loop, in virtual time."""

import asyncio
from typing import NamedTuple

import pytest

from openoutcry.clocks import SystemClock, VirtualClock, clock_of_loop
from openoutcry.core.barrier import Verdict
from openoutcry.errors import ConfigError
from openoutcry.runtime.rounds.barriers import SignalBarrier
from openoutcry.testing import run_virtual

S = 1_000_000_000


class Signal(NamedTuple):
    event_id: str
    symbol: str = "ES"
    round_id: str | None = None


def test_a_waiter_gets_everybodys_signals_as_soon_as_the_last_one_is_there():
    async def main():
        barrier = SignalBarrier(["a", "b"], 10.0)
        waiting = asyncio.create_task(barrier.wait())
        await asyncio.sleep(1)
        assert await barrier.add_signal("a", Signal("1")) is False
        assert (await barrier.is_complete(), await barrier.get_received_count()) == (False, 1)
        assert await barrier.add_signal("b", Signal("2")) is True
        outcome = await waiting
        assert asyncio.get_running_loop().time() == 1
        assert outcome == {"a": Signal("1"), "b": Signal("2")}
        assert (outcome.status, outcome.valid) == ("complete", True)
        assert await barrier.is_complete()
        assert barrier.is_closed

    run_virtual(main())


def test_a_copy_of_the_signals_is_the_callers_own():
    async def main():
        barrier = SignalBarrier(["a", "b"])
        await barrier.add_signal("a", Signal("1"))
        copied = await barrier.get_signals_copy()
        copied.clear()
        assert await barrier.get_signals_copy() == {"a": Signal("1")}

    run_virtual(main())


def test_a_late_signal_is_refused_and_recorded():
    async def main():
        barrier = SignalBarrier(["a", "b"], 2.0)
        await barrier.add_signal("a", Signal("1"))
        outcome = await barrier.wait()
        assert asyncio.get_running_loop().time() == 2
        assert (outcome.status, outcome.valid, dict(outcome)) == ("expired", False, {"a": Signal("1")})
        await asyncio.sleep(0.5)
        assert await barrier.add_signal("b", Signal("2")) is False
        assert [(late.agent, late.late_ns) for late in outcome.late] == [("b", S // 2)]
        assert await barrier.wait() is outcome

    run_virtual(main())


def test_quorum_suffices_at_signal_timeout_and_not_before():
    async def main():
        barrier = SignalBarrier(["a", "b", "c", "d"], 10.0, quorum=0.5, signal_timeout=3.0)
        await barrier.add_signal("a", Signal("1"))
        await barrier.add_signal("b", Signal("2"))
        outcome = await barrier.wait()
        assert asyncio.get_running_loop().time() == 3
        assert (outcome.status, outcome.missing) == ("quorate", {"c", "d"})

    run_virtual(main())


def test_quorum_met_after_signal_timeout_releases_at_once():
    async def main():
        barrier = SignalBarrier(["a", "b", "c"], 10.0, quorum=2, signal_timeout=3.0)
        loop = asyncio.get_running_loop()
        loop.call_later(1, barrier.arrive, "a", Signal("1"))
        loop.call_later(4.25, barrier.arrive, "b", Signal("2"))
        outcome = await barrier.wait()
        assert loop.time() == 4.25
        assert (outcome.status, outcome.released_ns - outcome.opened_ns) == ("quorate", 4_250_000_000)

    run_virtual(main())


def test_without_a_signal_timeout_the_round_holds_out_to_its_deadline():
    async def main():
        barrier = SignalBarrier(["a", "b"], 4.0, quorum=1)
        await barrier.add_signal("a", Signal("1"))
        outcome = await barrier.wait()
        assert (asyncio.get_running_loop().time(), outcome.status, outcome.valid) == (4, "quorate", True)

    run_virtual(main())


def test_the_round_ends_at_its_deadline_also_when_nobody_waits():
    async def main():
        barrier = SignalBarrier(["a"], 2.0)
        await asyncio.sleep(3)
        assert str(barrier.round.state) == "expired"
        assert barrier.round.outcome is not None
        assert barrier.round.outcome.noticed_ns == 2 * S
        assert barrier.arrive("a", Signal("1")) is Verdict.LATE

    run_virtual(main())


def test_all_waiters_get_the_same_outcome():
    async def main():
        barrier = SignalBarrier(["a"])
        waiting = [asyncio.create_task(barrier.wait()) for _ in range(5)]
        await asyncio.sleep(0)
        await barrier.add_signal("a", Signal("1"))
        outcomes = await asyncio.gather(*waiting)
        assert all(outcome is outcomes[0] for outcome in outcomes)

    run_virtual(main())


def test_a_cancelled_wait_leaves_the_round_and_its_other_waiters_intact():
    async def main():
        barrier = SignalBarrier(["a"], 10.0)
        first, second = (asyncio.create_task(barrier.wait()) for _ in range(2))
        await asyncio.sleep(1)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await barrier.wait()
        assert barrier.get_status()["waiters_count"] == 1
        await barrier.add_signal("a", Signal("1"))
        assert (await second).valid
        assert await barrier.wait() is await second

    run_virtual(main())


def test_a_wait_cancelled_in_the_turn_of_the_release_is_cancelled_and_the_outcome_stays():
    async def main():
        barrier = SignalBarrier(["a"])
        waiting = asyncio.create_task(barrier.wait())
        await asyncio.sleep(0)
        barrier.arrive("a", Signal("1"))
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert (await barrier.wait()).valid

    run_virtual(main())


def test_waiting_with_nobody_expected_returns_at_once_and_says_so():
    async def main():
        outcome = await SignalBarrier([]).wait()
        assert (outcome.status, outcome.valid, len(outcome)) == ("empty", False, 0)
        assert asyncio.get_running_loop().time() == 0

    run_virtual(main())


def test_closing_releases_the_waiters_with_the_reason():
    async def main():
        barrier = SignalBarrier(["a"])
        waiting = asyncio.create_task(barrier.wait())
        await asyncio.sleep(1)
        closed = barrier.close("the bus stopped")
        outcome = await waiting
        assert outcome is closed
        assert (outcome.status, outcome.valid, outcome.reason) == ("expired", False, "the bus stopped")
        assert asyncio.get_running_loop().time() == 1

    run_virtual(main())


def test_abstaining_and_heartbeats_are_different_answers():
    async def main():
        barrier = SignalBarrier(["a", "b", "c"], 5.0, quorum=2, signal_timeout=1.0)
        await barrier.add_signal("a", Signal("1"))
        assert barrier.heartbeat("b") is Verdict.ALIVE
        assert barrier.abstain("c", "no data") is Verdict.COUNTED
        assert await barrier.get_received_count() == 1
        outcome = await barrier.wait()
        assert (outcome.status, set(outcome), outcome.abstained) == ("quorate", {"a"}, {"c": "no data"})
        assert outcome.missing == {"b"}

    run_virtual(main())


@pytest.mark.parametrize("name", ["stranger", "duplicate", "foreign"])
def test_a_signal_without_a_vote_is_not_said_to_complete_the_round(name):
    async def main():
        barrier = SignalBarrier(["a", "b"])
        await barrier.add_signal("a", Signal("1"))
        agent, signal = {
            "stranger": ("x", Signal("2")),
            "duplicate": ("a", Signal("1")),
            "foreign": ("b", Signal("2", "ES", "another")),
        }[name]
        assert await barrier.add_signal(agent, signal) is False
        assert not await barrier.is_complete()

    run_virtual(main())


def test_a_blocked_loop_cannot_let_a_late_signal_in():
    async def main():
        clock = VirtualClock()
        barrier = SignalBarrier(["a"], 2.0, clock=clock)
        clock.advance(3 * S)
        assert await barrier.add_signal("a", Signal("1")) is False
        outcome = await barrier.wait()
        assert (outcome.status, outcome.released_ns, outcome.noticed_ns) == ("expired", 2 * S, 3 * S)

    run_virtual(main())


def test_a_timer_that_fires_before_its_time_on_the_clock_is_set_again():
    async def main():
        clock = VirtualClock()
        barrier = SignalBarrier(["a"], 2.0, clock=clock)
        waiting = asyncio.create_task(barrier.wait())
        await asyncio.sleep(2.5)
        assert not waiting.done()
        clock.advance(2 * S - 1)
        await asyncio.sleep(2.5)
        assert not waiting.done()
        clock.advance(1)
        await asyncio.sleep(0.0002)
        assert waiting.done()
        assert (await waiting).released_ns == 2 * S

    run_virtual(main())


def test_a_released_round_leaves_no_timer_behind():
    async def main():
        barrier = SignalBarrier(["a"], 10.0)
        await barrier.add_signal("a", Signal("1"))
        await asyncio.sleep(0)
        timers = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]
        assert all(timer.cancelled() for timer in timers)

    run_virtual(main())


def test_a_barrier_made_outside_of_a_loop_works_inside_one():
    clock = VirtualClock()
    barrier = SignalBarrier(["a"], 2.0, clock=clock)

    async def main():
        outcome = asyncio.create_task(barrier.wait())
        await asyncio.sleep(0)
        clock.advance(2 * S)
        assert (await outcome).status == "expired"

    run_virtual(main())


def test_the_clock_is_that_of_the_loop_if_it_owns_one():
    async def main():
        assert clock_of_loop() is asyncio.get_running_loop().clock  # type: ignore[attr-defined]

    run_virtual(main())
    assert isinstance(clock_of_loop(), SystemClock)


def test_the_wall_clock_is_a_label_on_the_outcome():
    async def main():
        outcome = await SignalBarrier([]).wait()
        assert outcome.to_dict()["opened_at"] == "2024-01-02T14:30:00.000000000Z"

    run_virtual(main())


def test_fresh_round_ids_differ_and_given_ones_are_kept():
    one, other = SignalBarrier(["a"]), SignalBarrier(["a"])
    assert one.round_id != other.round_id
    assert SignalBarrier(["a"], round_id="bar-17").round_id == "bar-17"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"timeout": 0}, "timeout is 0"),
        ({"timeout": float("nan")}, "timeout is nan"),
        ({"signal_timeout": 11.0}, "signal_timeout is 11 s"),
        ({"quorum": 3}, "quorum is 3"),
        ({"critical": [""]}, "critical holds ''"),
        ({"round_id": ""}, "round_id is ''"),
    ],
)
def test_settings_out_of_range_are_refused_with_their_value(settings, said):
    with pytest.raises(ConfigError, match=said):
        SignalBarrier(["a", "b"], **settings)


def test_the_names_of_the_agents_are_a_list_and_not_a_string():
    with pytest.raises(ConfigError, match=r"give a list of agent names"):
        SignalBarrier("momentum")


def test_the_status_of_a_round_is_json_ready_and_current():
    async def main():
        barrier = SignalBarrier(
            ["a", "b"], 10.0, critical=["risk"], quorum=2, signal_timeout=4.0, round_id="r"
        )
        await asyncio.sleep(1)
        barrier.arrive("a", Signal("1"))
        barrier.abstain("b")
        assert barrier.get_status() == {
            "round_id": "r",
            "state": "quorate",
            "is_closed": False,
            "expected": ["a", "b", "risk"],
            "answered": ["a", "b"],
            "missing": ["risk"],
            "missing_critical": ["risk"],
            "quorum_count": 2,
            "opinions_count": 1,
            "abstentions_count": 1,
            "age_s": 1.0,
            "due_in_s": 3.0,
            "waiters_count": 0,
        }
        assert repr(barrier) == "<SignalBarrier 'r': quorate, 2 of 3 answered>"
        await asyncio.sleep(9)
        assert barrier.get_status()["due_in_s"] is None
        assert barrier.outcome is not None

    run_virtual(main())
