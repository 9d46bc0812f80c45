"""The rounds of a bus: which signal belongs to which round."""

import asyncio
import json
from typing import NamedTuple

import pytest

from openoutcry.core.barrier import Verdict
from openoutcry.errors import BusClosed, ConfigError, DuplicateRound, UnknownRound
from openoutcry.runtime.rounds.rounds import EARLY_MAX, RECENT_MAX, Rounds
from openoutcry.testing import run_virtual

S = 1_000_000_000


class Signal(NamedTuple):
    event_id: str
    round_id: str | None = None
    symbol: str = "ES"


def rounds_of(*agents: str, **settings) -> Rounds:
    rounds = Rounds(**settings)
    for agent in agents:
        rounds.register(agent)
    return rounds


def now_s() -> float:
    return asyncio.get_running_loop().time()


# -- opening and finding ---------------------------------------------------------------------------------


def test_waiting_opens_a_round_if_none_is_open():
    async def main():
        rounds = rounds_of("a", "b")
        waiting = asyncio.create_task(rounds.wait())
        await asyncio.sleep(1)
        rounds.arrive(Signal("1"), "a")
        rounds.arrive(Signal("2"), "b")
        outcome = await waiting
        assert (now_s(), outcome.status, set(outcome)) == (1, "complete", {"a", "b"})

    run_virtual(main())


def test_waiting_with_nobody_registered_returns_at_once_and_is_not_valid():
    async def main():
        rounds = rounds_of()
        outcome = await rounds.wait()
        assert (now_s(), outcome.status, outcome.valid, dict(outcome)) == (0, "empty", False, {})
        assert rounds.get_status()["open"] == []

    run_virtual(main())


def test_waiting_with_no_round_open_and_no_answer_never_looks_valid():
    async def main():
        outcome = await rounds_of("a", quorum=1).wait()
        assert (now_s(), outcome.status, outcome.valid) == (10, "expired", False)

    run_virtual(main())


def test_the_roster_is_frozen_when_the_round_opens():
    async def main():
        rounds = rounds_of("a")
        rounds.open("r-1")
        rounds.register("b", critical=True)
        assert rounds.find("r-1").roster == {"a"}
        assert rounds.open("r-2").roster == {"a", "b"}
        assert rounds.arrive(Signal("1", "r-1"), "b") is Verdict.STRANGER

    run_virtual(main())


def test_an_id_that_is_open_or_remembered_cannot_be_opened_again():
    async def main():
        rounds = rounds_of("a")
        first = rounds.open("bar-1")
        with pytest.raises(DuplicateRound, match="'bar-1' is open"):
            rounds.open("bar-1")
        rounds.arrive(Signal("1", "bar-1"), "a")
        with pytest.raises(DuplicateRound, match="'bar-1' is remembered"):
            rounds.open("bar-1")
        assert rounds.find("bar-1") is first
        assert rounds.get_status()["open"] == []

    run_virtual(main())


def test_an_id_that_nobody_knows_is_an_error_to_wait_for_and_to_abstain_in():
    async def main():
        rounds = rounds_of("a")
        with pytest.raises(UnknownRound, match="'nowhere'"):
            rounds.find("nowhere")
        with pytest.raises(UnknownRound):
            await rounds.wait("nowhere")
        with pytest.raises(UnknownRound):
            rounds.abstain("a", "", "nowhere")

    run_virtual(main())


def test_only_the_newest_released_rounds_are_remembered():
    async def main():
        rounds = rounds_of("a")
        for number in range(RECENT_MAX + 1):
            rounds.open(f"r-{number}")
            rounds.arrive(Signal(f"{number}", f"r-{number}"), "a")
            assert (await rounds.wait(f"r-{number}")).valid
        with pytest.raises(UnknownRound):
            rounds.find("r-0")
        assert rounds.find("r-1").outcome is not None
        assert rounds.get_status()["released_counts"]["complete"] == RECENT_MAX + 1

    run_virtual(main())


def test_a_round_for_which_nobody_has_waited_is_remembered_longer():
    async def main():
        rounds = rounds_of("a")
        for number in range(RECENT_MAX + 50):
            rounds.open(f"r-{number}")
            rounds.arrive(Signal(f"{number}", f"r-{number}"), "a")
        for number in range(RECENT_MAX + 50):
            assert (await rounds.wait(f"r-{number}")).valid

    run_virtual(main())


def test_an_early_abstention_counts_in_the_next_round():
    async def main():
        rounds = rounds_of("a", "b")
        assert rounds.abstain("a", "warming up") is Verdict.EARLY
        rounds.arrive(Signal("1"), "b")
        outcome = await rounds.wait()
        assert (outcome.valid, dict(outcome)) == (True, {"b": Signal("1")})
        assert dict(outcome.abstained) == {"a": "warming up"}

    run_virtual(main())


def test_everything_early_is_in_its_round_before_the_round_ends():
    async def main():
        rounds = rounds_of("a", "b")
        for agent in ("a", "b"):
            for symbol in ("ES", "NQ"):
                rounds.arrive(Signal(f"{agent}-{symbol}", symbol=symbol), agent)
        outcome = await rounds.wait()
        assert set(outcome.votes) == {("a", "ES"), ("a", "NQ"), ("b", "ES"), ("b", "NQ")}
        assert outcome.late_count == 0

    run_virtual(main())


def test_five_hundred_agents_may_be_earlier_than_their_round():
    async def main():
        names = [f"agent-{number}" for number in range(500)]
        rounds = rounds_of(*names)
        for name in names:
            rounds.arrive(Signal(name), name)
        outcome = await rounds.wait()
        assert (outcome.status, len(outcome)) == ("complete", 500)

    run_virtual(main())


def test_a_round_may_have_its_own_roster_quorum_critical_agents_and_deadlines():
    async def main():
        rounds = rounds_of("a", "b", "c")
        rounds.register("risk", critical=True)
        own = rounds.open(roster=["a", "b"], quorum=1, signal_timeout_s=1, barrier_timeout_s=2)
        assert (own.roster, own.round.terms.critical) == ({"a", "b"}, set())
        assert rounds.open(roster=["a", "risk"]).round.terms.critical == {"risk"}
        named = rounds.open(roster=["a", "cio"], critical=["cio"])
        assert (named.roster, named.round.terms.critical) == ({"a", "cio"}, {"cio"})
        assert rounds.open(critical=[]).round.terms.critical == set()
        own.arrive("a", Signal("1"))
        outcome = await own.wait()
        assert (now_s(), outcome.status, outcome.valid) == (1, "quorate", True)

    run_virtual(main())


def test_the_usual_signal_timeout_is_cut_to_a_rounds_own_deadline_but_an_explicit_one_is_refused():
    async def main():
        rounds = rounds_of("a", signal_timeout_s=5, barrier_timeout_s=10)
        assert rounds.open(barrier_timeout_s=2).round.terms.signal_timeout_ns == 2 * S
        with pytest.raises(ConfigError, match="signal_timeout is 3 s"):
            rounds.open("r", signal_timeout_s=3, barrier_timeout_s=2)
        with pytest.raises(ConfigError, match="signal_timeout is 20 s"):
            rounds.open("r", signal_timeout_s=20)
        with pytest.raises(UnknownRound):
            rounds.find("r")

    run_virtual(main())


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"quorum": 0}, "quorum is 0"),
        ({"quorum": 1.5}, "quorum is 1.5"),
        ({"signal_timeout_s": 0}, "signal_timeout is 0"),
        ({"barrier_timeout_s": 1}, "signal_timeout is 5 s"),
        ({"stand_in_max_age_s": -1}, "stand_in_max_age is -1"),
    ],
)
def test_the_settings_of_rounds_are_checked_when_they_are_given(settings, said):
    with pytest.raises(ConfigError, match=said):
        Rounds(**settings)


def test_registering_again_never_makes_a_critical_agent_ordinary():
    rounds = rounds_of("risk")
    rounds.register("risk", critical=True)
    rounds.register("risk")
    assert (rounds.agents, rounds.critical_agents) == ({"risk"}, {"risk"})
    with pytest.raises(ConfigError, match="agent_name"):
        rounds.register("")


def test_a_critical_agent_that_did_not_answer_this_round_makes_it_invalid_though_it_answered_the_last():
    async def main():
        rounds = rounds_of("a", "b", quorum=2)
        rounds.register("risk", critical=True)
        rounds.open("r-1")
        for agent in ("a", "b", "risk"):
            rounds.arrive(Signal(f"1-{agent}", "r-1"), agent)
        assert (await rounds.wait("r-1")).valid
        rounds.open("r-2")
        for agent in ("a", "b"):
            rounds.arrive(Signal(f"2-{agent}", "r-2"), agent)
        outcome = await rounds.wait("r-2")
        assert (outcome.status, outcome.valid, outcome.missing_critical) == ("quorate", False, {"risk"})
        assert now_s() == 5

    run_virtual(main())


# -- which round a signal belongs to -----------------------------------------------------------------------


def test_a_late_signal_never_opens_joins_or_completes_the_next_round():
    async def main():
        rounds = rounds_of("a", "b", quorum=1)
        rounds.open("r-1")
        rounds.arrive(Signal("1", "r-1"), "a")
        first = await rounds.wait("r-1")
        assert rounds.arrive(Signal("late-1", "r-1"), "b") is Verdict.LATE
        assert rounds.get_status()["open"] == []
        second = rounds.open("r-2")
        assert rounds.arrive(Signal("late-2", "r-1"), "b") is Verdict.LATE
        assert second.round.answers_count == 0
        assert [late.signal.event_id for late in first.late] == ["late-1", "late-2"]
        assert set(first) == {"a"}

    run_virtual(main())


def test_a_signal_of_an_unknown_round_is_a_stray_and_joins_nothing():
    async def main():
        rounds = rounds_of("a")
        rounds.open("r-1")
        assert rounds.arrive(Signal("1", "from-yesterday"), "a") is Verdict.STRAY
        status = rounds.get_status()
        assert status["strays"] == [
            {"agent": "a", "round_id": "from-yesterday", "event_id": "1", "symbol": "ES"}
        ]
        assert (status["strays_count"], status["open"][0]["answered"]) == (1, [])

    run_virtual(main())


def test_a_signal_with_no_round_open_opens_none_and_joins_the_next():
    async def main():
        rounds = rounds_of("a", "b")
        assert rounds.arrive(Signal("1"), "a") is Verdict.EARLY
        assert rounds.arrive(Signal("1"), "a") is Verdict.EARLY
        assert rounds.abstain("nobody", "") is Verdict.STRAY
        status = rounds.get_status()
        assert (status["open"], status["early_count"]) == ([], 1)
        rounds.arrive(Signal("2"), "a")
        await asyncio.sleep(5)
        rounds.arrive(Signal("3"), "b")
        outcome = await rounds.wait()
        assert (now_s(), outcome.status, dict(outcome)) == (
            5,
            "complete",
            {"a": Signal("2"), "b": Signal("3")},
        )
        assert (outcome.released_ns, rounds.get_status()["early_count"]) == (outcome.opened_ns, 0)

    run_virtual(main())


def test_an_early_signal_waits_no_longer_than_signal_timeout():
    async def main():
        rounds = rounds_of("a")
        rounds.arrive(Signal("1"), "a")
        await asyncio.sleep(5.001)
        assert rounds.open().round.answers_count == 0
        assert [stray["event_id"] for stray in rounds.get_status()["strays"]] == ["1"]

    run_virtual(main())


def test_an_early_signal_waits_for_a_round_that_expects_its_agent():
    async def main():
        rounds = rounds_of("a", "b")
        rounds.open("r-1", roster=["b"])
        assert rounds.arrive(Signal("1"), "a") is Verdict.EARLY
        assert rounds.open("r-2", roster=["b"]).round.answers_count == 0
        assert rounds.open("r-3", roster=["a"]).outcome == {"a": Signal("1")}

    run_virtual(main())


def test_a_signal_without_a_round_by_one_who_missed_the_last_round_is_late_there_and_joins_no_other():
    async def main():
        rounds = rounds_of("a", "b", quorum=1)
        rounds.open("r-1")
        rounds.arrive(Signal("1"), "a")
        outcome = await rounds.wait()
        assert rounds.arrive(Signal("late"), "b") is Verdict.LATE
        assert rounds.arrive(Signal("late"), "b") is Verdict.DUPLICATE
        assert rounds.arrive(Signal("1"), "a") is Verdict.DUPLICATE
        assert rounds.arrive(Signal("next"), "b") is Verdict.EARLY
        assert [late.signal for late in outcome.late] == [Signal("late")]

    run_virtual(main())


def test_one_who_missed_a_round_long_ago_is_not_late_but_early():
    async def main():
        rounds = rounds_of("a", "b", quorum=1)
        rounds.open("r-1")
        rounds.arrive(Signal("1"), "a")
        await rounds.wait()
        await asyncio.sleep(10)
        assert rounds.arrive(Signal("2"), "b") is Verdict.EARLY

    run_virtual(main())


def test_one_who_has_answered_the_last_round_is_early_for_the_next():
    async def main():
        rounds = rounds_of("a")
        for number in range(3):
            rounds.arrive(Signal(str(number)), "a")
            outcome = await rounds.wait()
            assert (outcome.status, outcome["a"].event_id) == ("complete", str(number))
        assert now_s() == 0

    run_virtual(main())


def test_strays_and_early_signals_are_counted_but_kept_within_bounds():
    async def main():
        rounds = rounds_of("a")
        for number in range(RECENT_MAX + 3):
            rounds.arrive(Signal(str(number), "nowhere"), "a")
        for number in range(EARLY_MAX + 3):
            rounds.arrive(Signal(f"early-{number}"), "a")
        status = rounds.get_status()
        assert (len(status["strays"]), status["strays_count"]) == (RECENT_MAX, RECENT_MAX + 6)
        assert status["early_count"] == EARLY_MAX
        rounds.close_all()
        assert rounds.get_status()["strays_count"] == RECENT_MAX + 3 + EARLY_MAX + 3
        assert rounds.arrive(Signal("after"), "a") is Verdict.STRAY

    run_virtual(main())


def test_a_signal_without_a_round_goes_to_the_oldest_one_that_has_not_heard_its_agent():
    async def main():
        rounds = rounds_of("a", "b")
        first, second = rounds.open("r-1"), rounds.open("r-2")
        assert rounds.round_for("a") is first
        rounds.arrive(Signal("1"), "a")
        assert rounds.round_for("a") is second
        rounds.abstain("a", "nothing new")
        assert rounds.round_for("a") is second
        assert rounds.arrive(Signal("2"), "a") is Verdict.COUNTED
        assert rounds.arrive(Signal("3"), "a") is Verdict.FURTHER
        assert (first.round.opinions, second.round.opinions) == ({"a": Signal("1")}, {"a": Signal("3")})
        assert rounds.round_for("nobody") is None

    run_virtual(main())


def test_a_round_whose_deadline_has_passed_unnoticed_takes_no_signal():
    async def main():
        rounds = rounds_of("a", clock=(clock := asyncio.get_running_loop().clock))  # type: ignore[attr-defined]
        first = rounds.open("r-1")
        clock.advance(20 * S)
        assert rounds.round_for("a") is None
        assert first.round.outcome is not None
        assert rounds.arrive(Signal("1"), "stranger") is Verdict.STRAY
        assert rounds.arrive(Signal("2", "r-1"), "a") is Verdict.LATE

    run_virtual(main())


def test_three_strangers_do_not_release_a_round_and_are_named_in_its_outcome():
    async def main():
        rounds = rounds_of("a", "b", "c", "d", quorum=3)
        rounds.open("r-1")
        for name in ("x", "y", "z"):
            assert rounds.arrive(Signal(name), name) is Verdict.STRANGER
        outcome = await rounds.wait("r-1")
        assert (outcome.status, outcome.strangers) == ("expired", {"x": 1, "y": 1, "z": 1})

    run_virtual(main())


def test_several_rounds_are_open_at_once_and_end_each_at_its_own_deadline():
    async def main():
        rounds = rounds_of("a")
        slow = rounds.open("slow", barrier_timeout_s=8)
        quick = rounds.open("quick", barrier_timeout_s=1)
        usual = rounds.open("usual")
        ends = {}

        async def note(barrier):
            await barrier.wait()
            ends[barrier.round_id] = now_s()

        await asyncio.gather(*(note(barrier) for barrier in (slow, quick, usual)))
        assert ends == {"quick": 1, "slow": 8, "usual": 10}

    run_virtual(main())


def test_a_heartbeat_reaches_every_open_round_and_answers_none():
    async def main():
        rounds = rounds_of("a", "b", quorum=1)
        first, second = rounds.open(), rounds.open()
        assert rounds.heartbeat("a") is Verdict.ALIVE
        assert rounds.heartbeat("x") is Verdict.STRANGER
        rounds.open(roster=["x"])
        assert rounds.heartbeat("x") is Verdict.ALIVE
        for barrier in (first, second):
            outcome = await barrier.wait()
            assert (outcome.status, outcome.heartbeats, len(outcome)) == ("expired", {"a": 0}, 0)
        assert rounds.get_status()["heartbeats_age_s"] == {"a": 10.0}

    run_virtual(main())


# -- what a waiter gets --------------------------------------------------------------------------------------


def test_answers_that_are_quicker_than_their_waiter_are_not_lost():
    async def main():
        rounds = rounds_of("a")
        rounds.open("r-1")
        rounds.arrive(Signal("1", "r-1"), "a")
        rounds.open("r-2")
        assert (await rounds.wait()).round_id == "r-1"
        assert rounds.to_wait_for().round_id == "r-2"
        rounds.arrive(Signal("2", "r-2"), "a")
        assert (await rounds.wait()).round_id == "r-2"
        assert rounds.to_wait_for().round_id not in {"r-1", "r-2"}

    run_virtual(main())


def test_waiters_that_name_no_round_share_the_open_one():
    async def main():
        rounds = rounds_of("a")
        waiting = [asyncio.create_task(rounds.wait()) for _ in range(3)]
        await asyncio.sleep(0)
        assert len(rounds.get_status()["open"]) == 1
        rounds.arrive(Signal("1"), "a")
        outcomes = await asyncio.gather(*waiting)
        assert all(outcome is outcomes[0] for outcome in outcomes)

    run_virtual(main())


def test_a_cancelled_wait_leaves_the_round_open_for_the_next_waiter():
    async def main():
        rounds = rounds_of("a")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await rounds.wait()
        (still_open,) = rounds.get_status()["open"]
        waiting = asyncio.create_task(rounds.wait())
        await asyncio.sleep(0)
        rounds.arrive(Signal("1"), "a")
        assert (await waiting).round_id == still_open["round_id"]

    run_virtual(main())


def test_a_stale_signal_is_shown_beside_a_missing_agent_with_its_age_and_expires():
    async def main():
        rounds = rounds_of("a", "b", quorum=1, stand_in_max_age_s=30)
        old = Signal("old")
        first = rounds.open()
        first.arrive("a", Signal("1"))
        first.arrive("b", old)
        ages = []
        for number in range(4):
            barrier = rounds.open()
            barrier.arrive("a", Signal(f"a-{number}"))
            outcome = await barrier.wait()
            assert set(outcome) == {"a"}
            ages.append([(one.agent, one.signal is old, one.age_ns // S) for one in outcome.stand_ins])
            await asyncio.sleep(5)
        assert ages == [[("b", True, 5)], [("b", True, 15)], [("b", True, 25)], []]

    run_virtual(main())


def test_closing_all_rounds_wakes_every_waiter_and_opens_no_more():
    async def main():
        rounds = rounds_of("a")
        waiting = [asyncio.create_task(rounds.open().wait()) for _ in range(2)]
        await asyncio.sleep(0)
        rounds.close_all()
        rounds.close_all("again")
        for outcome in await asyncio.gather(*waiting):
            assert (outcome.status, outcome.valid, outcome.reason) == ("expired", False, "the bus stopped")
        with pytest.raises(BusClosed, match="the bus stopped"):
            rounds.open()
        with pytest.raises(BusClosed):
            await rounds.wait()
        assert now_s() == 0

    run_virtual(main())


class Log:
    """Notes what becomes of rounds."""

    def __init__(self, released):
        self._released = released
        self.opened_ids, self.late_counts = [], []

    def opened(self, opened, *, has_fresh_id):
        self.opened_ids.append((opened.round_id, has_fresh_id))

    def released(self, outcome):
        self._released.append(outcome)

    def late(self, outcome):
        self.late_counts.append(outcome.late_count)


def test_each_opening_and_each_late_answer_is_told_once():
    async def main():
        rounds = rounds_of("a", "b", log=(log := Log([])))
        barrier = rounds.open("r-1", quorum=1, signal_timeout_s=1)
        rounds.open()
        assert log.opened_ids[0] == ("r-1", False)
        assert log.opened_ids[1][1]
        rounds.arrive(Signal("1", round_id="r-1"), "a")
        await asyncio.sleep(2)
        rounds.arrive(Signal("2", round_id="r-1"), "b")
        rounds.arrive(Signal("2", round_id="r-1"), "b")
        barrier.arrive("b", Signal("3", round_id="r-1"))
        barrier.abstain("b", "no data")
        rounds.heartbeat("b")
        assert log.late_counts == [1, 2, 3]
        assert barrier.outcome.late_count == 3

    run_virtual(main())


def test_each_outcome_is_told_once_before_its_waiters_wake():
    async def main():
        told = []
        rounds = rounds_of("a", log=Log(told))
        waiting = asyncio.create_task(rounds.wait())
        await asyncio.sleep(0)
        rounds.arrive(Signal("1"), "a")
        assert [outcome.status for outcome in told] == ["complete"]
        assert not waiting.done()
        assert await waiting is told[0]
        await rounds.wait()
        assert [outcome.status for outcome in told] == ["complete", "expired"]

    run_virtual(main())


def test_the_status_is_json_ready():
    async def main():
        rounds = rounds_of("a", "b", quorum=1)
        rounds.register("risk", critical=True)
        rounds.open("r-1")
        rounds.open("r-2", barrier_timeout_s=1)
        await asyncio.sleep(2)
        rounds.arrive(Signal("1", "r-2"), "a")
        status = json.loads(json.dumps(rounds.get_status()))
        assert (status["registered"], status["critical"]) == (["a", "b", "risk"], ["risk"])
        assert [one["round_id"] for one in status["open"]] == ["r-1"]
        assert status["released_counts"] == {"complete": 0, "quorate": 0, "expired": 1, "empty": 0}
        assert status["invalid_count"] == 1
        assert status["recent"] == [
            {
                "round_id": "r-2",
                "status": "expired",
                "valid": False,
                "missing": ["a", "b", "risk"],
                "late_count": 1,
                "released_after_s": 1.0,
            }
        ]

    run_virtual(main())


def test_thousands_of_rounds_leave_at_most_one_timer_behind():
    async def main():
        rounds = rounds_of("a")
        for number in range(2000):
            waiting = rounds.open()
            rounds.arrive(Signal(str(number)), "a")
            await waiting.wait()
        assert len(asyncio.get_running_loop()._scheduled) <= 1  # type: ignore[attr-defined]
        await asyncio.sleep(60)
        assert asyncio.get_running_loop()._scheduled == []  # type: ignore[attr-defined]

    run_virtual(main())


def test_rounds_may_be_made_before_there_is_a_loop():
    rounds = rounds_of("a")

    async def main():
        outcome = await rounds.wait()
        assert (now_s(), outcome.status) == (10, "expired")

    run_virtual(main())


def test_a_critical_agent_whom_the_round_does_not_expect_is_refused():
    """Elsewhere: it was expected, never answered, and every outcome was invalid."""

    async def main():
        rounds = rounds_of("trend", "value")
        for name, told in (
            ("treend", r"did you mean 'trend'\?"),
            ("cio", r"not among the agents .*'trend', 'value'"),
        ):
            with pytest.raises(ConfigError, match=told):
                rounds.open(critical=[name])
            with pytest.raises(ConfigError, match=told):
                rounds.open(roster=["trend", "value"], critical=[name])
        assert rounds.open(roster=["trend", "cio"], critical=["cio"]).roster == {"trend", "cio"}

    run_virtual(main())


def test_an_agent_on_the_roster_whose_name_is_nearly_a_registered_one_is_told():
    async def main():
        rounds = rounds_of("trend", "value")
        with pytest.raises(ConfigError, match=r"roster has 'Trend': did you mean 'trend'\?"):
            rounds.open(roster=["Trend", "value"])
        with pytest.warns(
            UserWarning, match=r"roster has 'treend', whom nobody expects: did you mean 'trend'\?"
        ):
            rounds.open(roster=["treend", "value"])

    run_virtual(main())


def test_an_answer_to_an_earlier_event_is_late_in_the_first_round_that_missed_it_since():
    async def main():
        rounds = rounds_of("a", "b", quorum=1, signal_timeout_s=1)
        for number in (1, 2, 3):
            rounds.open(f"r-{number}")
            rounds.arrive(Signal(str(number)), "a")
            await asyncio.sleep(1)
        rounds.open("r-4")
        found = [
            rounds.round_for("b", Signal("b"), None, round(asked * S)) for asked in (0.5, 1, 1.5, 2.5, 3)
        ]
        assert [barrier and barrier.round_id for barrier in found] == ["r-1", "r-2", "r-2", "r-3", "r-4"]

    run_virtual(main())
