"""The barrier through the bus: each way in which such a barrier really fails must not happen here (CONTRACT 19-24)."""

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest
from bus_helpers import (
    Desk,
    a_signal,
    a_tick,
    assert_settled,
    now_s,
    outcome_of,
    virtual,
)

from openoutcry import (
    BackpressureConfig,
    BusClosed,
    ConfigError,
    EventBus,
    EventType,
    InvalidEvent,
    SignalDirection,
    SignalRefused,
    UnknownRound,
)

AGENTS_14 = [f"agent-{number}" for number in range(14)]


def a_bus(*agents: str, critical: tuple[str, ...] = (), **settings: Any) -> EventBus:
    bus = EventBus(**{"signal_timeout": 1.0, "barrier_timeout": 3.0, **settings})
    for agent in (*agents, *critical):
        bus.register_signal_agent(agent, critical=agent in critical)
    return bus


# -- the faults ----------------------------------------------------------------------------------------------


@virtual
async def test_waiting_with_no_round_open_and_nobody_answering_is_never_valid():
    """Elsewhere: it returned a "valid, quorate" result."""
    async with a_bus("a", "b") as bus:
        outcome = await bus.wait_for_signals()
        assert (outcome.valid, outcome.status, dict(outcome)) == (False, "expired", {})
        assert now_s() == 3
    async with a_bus() as bus:
        outcome = await bus.wait_for_signals()
        assert (outcome.valid, outcome.status) == (False, "empty")
        assert now_s() == 3


@virtual
async def test_a_critical_agent_that_nobody_expects_is_refused_and_one_on_the_roster_is_expected():
    """Elsewhere: it was never expected, so that "critical" was vacuous."""
    async with a_bus("a", "b") as bus:
        with pytest.raises(ConfigError, match="critical has 'risk', who is not among the agents"):
            bus.open_round("r-1", quorum=1, critical=["risk"])
        bus.open_round("r-1", roster=["a", "b", "risk"], quorum=1, critical=["risk"])
        await bus.publish_signal(a_signal("a"))
        await bus.publish_signal(a_signal("b"))
        outcome = await bus.wait_for_signals("r-1")
        assert not outcome.valid
        assert outcome.missing_critical == {"risk"}
        assert "risk" in outcome.roster


@virtual
async def test_a_critical_agent_must_answer_this_round_whatever_the_quorum_says():
    """CONTRACT 20."""
    async with a_bus("a", "b", "c", critical=("risk",)) as bus:
        bus.open_round("r-1", quorum=0.5)
        await bus.publish_signal(a_signal("risk", round_id="r-0"))
        for agent in ("a", "b", "c"):
            await bus.publish_signal(a_signal(agent))
        assert not (await bus.wait_for_signals("r-1")).valid
        bus.open_round("r-2", quorum=0.5)
        await bus.publish_signal(a_signal("a"))
        await bus.publish_signal(a_signal("risk"))
        assert (await bus.wait_for_signals("r-2")).valid


@virtual
async def test_a_neutral_view_of_one_symbol_does_not_erase_the_view_of_another():
    """Elsewhere: one vote per agent, so a later heartbeat for NQ erased the long signal for ES."""
    async with a_bus("a", "b") as bus:
        bus.open_round("r-1")
        long = a_signal("a", "ES", SignalDirection.LONG)
        flat = a_signal("a", "NQ", SignalDirection.FLAT)
        newer = a_signal("a", "NQ", SignalDirection.SHORT)
        for signal in (long, flat, newer):
            await bus.publish_signal(signal)
        bus.heartbeat("a")
        await bus.publish_signal(a_signal("b"))
        outcome = await bus.wait_for_signals("r-1")
        assert outcome.votes["a", "ES"] is long
        assert outcome.votes["a", "NQ"] is newer
        assert outcome["a"] is newer


@virtual
async def test_heartbeats_are_not_signals_and_silence_does_not_reach_quorum():
    """Elsewhere: heartbeats sent for silent agents counted."""
    async with a_bus("a", "b", "c") as bus:
        bus.open_round("r-1", quorum=2)
        for agent in ("a", "b", "c"):
            bus.heartbeat(agent)
        await bus.publish_signal(a_signal("a"))
        outcome = await bus.wait_for_signals("r-1")
        assert (outcome.valid, outcome.status, set(outcome)) == (False, "expired", {"a"})
        assert set(outcome.heartbeats) == {"a", "b", "c"}
        assert now_s() == 3


@virtual
async def test_an_abstention_is_an_answer_and_no_opinion():
    """CONTRACT 22."""
    async with a_bus("a", "b") as bus:
        bus.open_round("r-1")
        bus.abstain("b", "no data", "r-1")
        await bus.publish_signal(a_signal("a"))
        outcome = await bus.wait_for_signals("r-1")
        assert (outcome.valid, outcome.status, set(outcome)) == (True, "complete", {"a"})
        assert outcome.abstained == {"b": "no data"}


@virtual
async def test_a_late_signal_opens_no_round_and_joins_no_other():
    """Elsewhere: it opened the next barrier."""
    async with a_bus("a", "b") as bus:
        bus.open_round("r-1")
        await bus.publish_signal(a_signal("a"))
        first = await bus.wait_for_signals("r-1")
        assert set(first) == {"a"}
        late = a_signal("b", round_id="r-1")
        await bus.publish_signal(late)
        status = await bus.get_barrier_status()
        assert status["open"] == []
        bus.open_round("r-2")
        await bus.publish_signal(a_signal("a"))
        second = await bus.wait_for_signals("r-2")
        assert set(second) == {"a"}
        assert [answer.signal for answer in first.late] == [late]
        assert second.missing == {"b"}


@virtual
async def test_a_late_signal_without_a_round_belongs_to_the_round_it_missed():
    """CONTRACT 21."""
    async with a_bus("a", "b") as bus:
        waiting = asyncio.create_task(bus.wait_for_signals())
        await asyncio.sleep(0)
        await bus.publish_signal(a_signal("a"))
        first = await waiting
        late = a_signal("b")
        await bus.publish_signal(late)
        assert [answer.signal for answer in first.late] == [late]
        second = asyncio.create_task(bus.wait_for_signals())
        await asyncio.sleep(0)
        await bus.publish_signal(a_signal("a"))
        assert set(await second) == {"a"}


@virtual
async def test_strangers_release_no_round():
    """Elsewhere: three strangers released a barrier of four."""
    async with a_bus("a", "b", "c", "d") as bus:
        bus.open_round("r-1", quorum=3)
        for name in ("x", "y", "z"):
            await bus.publish_signal(a_signal(name))
        await bus.publish_signal(a_signal("a"))
        outcome = await bus.wait_for_signals("r-1")
        assert (outcome.valid, outcome.status, set(outcome)) == (False, "expired", {"a"})
        assert set(outcome.strangers) == {"x", "y", "z"}


@virtual
async def test_eleven_of_fourteen_are_not_eighty_per_cent_and_none_of_one_is_not_half():
    """Elsewhere: the quorum was rounded down."""
    async with a_bus(*AGENTS_14) as bus:
        bus.open_round("r-1", quorum=0.8)
        for agent in AGENTS_14[:11]:
            await bus.publish_signal(a_signal(agent))
        assert not (await bus.wait_for_signals("r-1")).valid
        bus.open_round("r-2", quorum=0.8)
        for agent in AGENTS_14[:12]:
            await bus.publish_signal(a_signal(agent))
        outcome = await bus.wait_for_signals("r-2")
        assert (outcome.valid, outcome.status) == (True, "quorate")
    async with a_bus("a") as bus:
        bus.open_round("r-1", quorum=0.5)
        assert not (await bus.wait_for_signals("r-1")).valid


@virtual
async def test_a_quorum_that_is_met_later_releases_at_that_instant():
    """Elsewhere: once the fast path was missed, met at 0.3 s, it was released at the 3 s time-out."""
    async with a_bus("a", "b", "c") as bus:
        bus.open_round("r-1", quorum=2, signal_timeout=0.2)
        waiting = asyncio.create_task(bus.wait_for_signals("r-1"))
        await bus.publish_signal(a_signal("a"))
        await asyncio.sleep(0.3)
        assert not waiting.done()
        await bus.publish_signal(a_signal("b"))
        outcome = await waiting
        assert (now_s(), outcome.status, outcome.valid) == (0.3, "quorate", True)


@virtual
async def test_a_quorum_that_is_met_early_holds_out_for_everybody_until_the_signal_time_out():
    """CONTRACT 20."""
    async with a_bus("a", "b", "c") as bus:
        bus.open_round("r-1", quorum=2)
        waiting = asyncio.create_task(bus.wait_for_signals("r-1"))
        for agent in ("a", "b"):
            await bus.publish_signal(a_signal(agent))
        outcome = await waiting
        assert (now_s(), outcome.status) == (1, "quorate")


@virtual
async def test_nothing_stands_in_for_a_missing_agent_unasked_and_confidence_is_never_changed():
    """Elsewhere: stand-ins were unmarked, never expired, and their confidence decayed at each reuse."""
    async with a_bus("a", "b") as bus:
        bus.open_round("r-1")
        sure = a_signal("b", confidence=0.8)
        await bus.publish_signal(a_signal("a"))
        await bus.publish_signal(sure)
        await bus.wait_for_signals("r-1")
        for number in range(2, 5):
            bus.open_round(f"r-{number}", quorum=2)
            await bus.publish_signal(a_signal("a"))
            outcome = await bus.wait_for_signals(f"r-{number}")
            assert (outcome.valid, set(outcome), outcome.stand_ins) == (False, {"a"}, ())
        assert sure.confidence == 0.8


@virtual
async def test_a_stale_signal_stands_in_where_asked_marked_with_its_true_age_until_it_expires():
    """CONTRACT 23."""
    async with a_bus("a", "b", stand_in_max_age=10.0) as bus:
        stale = a_signal("b", confidence=0.8)
        await bus.publish_signal(stale)
        await bus.publish_signal(a_signal("a"))
        assert (await bus.wait_for_signals()).stand_ins == ()  # nobody is missing
        ages_s = []
        for _ in range(4):
            await asyncio.sleep(2)
            await bus.publish_signal(a_signal("a"))
            outcome = await bus.wait_for_signals()
            assert set(outcome) == {"a"}
            assert outcome.missing == {"b"}
            ages_s.append([one.age_ns / 1e9 for one in outcome.stand_ins])
            for one in outcome.stand_ins:
                assert (one.agent, one.symbol, one.signal) == ("b", stale.symbol, stale)
                assert outcome.with_stand_ins() == {"a": outcome["a"], "b": one}
                assert "Stale signals stand in, without a vote, for b" in outcome.explain()
        assert ages_s == [[5.0], [10.0], [], []]
        assert stale.confidence == 0.8


@virtual
async def test_a_stand_in_never_counts_toward_the_quorum_nor_for_a_critical_agent():
    """CONTRACT 23."""
    async with a_bus("a", "b", critical=("risk",), stand_in_max_age=60.0) as bus:
        for agent in ("a", "b", "risk"):
            await bus.publish_signal(a_signal(agent))
        assert (await bus.wait_for_signals()).valid
        bus.open_round("no-quorum", quorum=3)
        await bus.publish_signal(a_signal("a"))
        await bus.publish_signal(a_signal("risk"))
        outcome = await bus.wait_for_signals("no-quorum")
        assert (outcome.status, outcome.valid) == ("expired", False)
        assert [one.agent for one in outcome.stand_ins] == ["b"]
        bus.open_round("no-risk", quorum=2)
        await bus.publish_signal(a_signal("a"))
        await bus.publish_signal(a_signal("b"))
        outcome = await bus.wait_for_signals("no-risk")
        assert (outcome.status, outcome.valid) == ("quorate", False)
        assert [one.agent for one in outcome.stand_ins] == ["risk"]


@virtual
async def test_a_late_signal_does_not_stand_in_and_an_abstention_takes_the_last_one_back():
    """CONTRACT 21, 23."""
    async with a_bus("a", "b", stand_in_max_age=60.0) as bus:
        bus.open_round("r-1", quorum=1)
        await bus.publish_signal(a_signal("a"))
        await bus.wait_for_signals("r-1")
        await bus.publish_signal(a_signal("b", round_id="r-1"))
        bus.open_round("r-2", quorum=1)
        await bus.publish_signal(a_signal("a"))
        assert (await bus.wait_for_signals("r-2")).stand_ins == ()
        bus.open_round("r-3")
        await bus.publish_signal(a_signal("a"))
        await bus.publish_signal(a_signal("b"))
        bus.open_round("r-4")
        await bus.publish_signal(a_signal("a"))
        bus.abstain("b", "no view", "r-4")
        bus.open_round("r-5", quorum=1)
        await bus.publish_signal(a_signal("a"))
        assert (await bus.wait_for_signals("r-5")).stand_ins == ()


@virtual
async def test_a_signal_that_was_refused_does_not_vote():
    """Elsewhere: a signal that the queue had dropped still voted."""
    config = BackpressureConfig(grace_s=1e6, cooldown_s=0.1)
    async with a_bus("a", "b", max_queue_size=10, backpressure_config=config) as bus:
        desk = Desk()
        subscription = bus.subscribe("*", desk.on_event, name="desk")
        subscription.pause()
        while bus.publish_nowait(a_signal("noise", round_id="other")):
            pass
        bus.open_round("r-1")
        refused = a_signal("a")
        with pytest.raises(SignalRefused):
            await bus.publish_signal(refused)
        outcome = await bus.wait_for_signals("r-1")
        assert dict(outcome) == {}
        subscription.resume()
        await bus.join()
        assert refused not in desk.handled
        bus.open_round("r-2")
        await bus.publish_signal(refused)
        await bus.publish_signal(a_signal("b"))
        assert (await bus.wait_for_signals("r-2"))["a"] is refused, "published again it votes"


@virtual
async def test_a_duplicate_does_not_vote_again():
    """Elsewhere: a duplicate still voted."""
    desk = Desk()
    async with a_bus("a", "b") as bus:
        bus.subscribe("signal", desk.on_event)
        bus.open_round("r-1")
        signal = a_signal("a")
        await bus.publish_signal(signal)
        await bus.publish_signal(signal)
        await bus.publish_signal(a_signal("b"))
        assert (await bus.wait_for_signals("r-1")).valid
        bus.open_round("r-2")
        await bus.publish_signal(signal)
        outcome = await bus.wait_for_signals("r-2")
        assert dict(outcome) == {}
        await bus.join()
        assert len(desk.handled) == 2
        assert bus.metrics.duplicates == 2


# -- signals are events --------------------------------------------------------------------------------------


@virtual
async def test_a_signal_is_delivered_and_counted_or_neither():
    """CONTRACT 21."""
    desk = Desk()
    async with a_bus("a") as bus:
        bus.subscribe(EventType.SIGNAL, desk.on_event)
        bus.open_round("r-1")
        signal = a_signal("a")
        await bus.publish_signal(signal)
        outcome = await bus.wait_for_signals("r-1")
        await bus.join()
        assert desk.handled == [signal] == list(outcome.values())
        assert signal.round_id == "r-1", "stamped with the round open for its agent"
        assert_settled(bus)


@virtual
async def test_signals_published_in_handlers_belong_to_the_round_of_the_event_being_handled():
    """CONTRACT 21, 12."""
    async with a_bus("a", "b") as bus:
        for name in ("a", "b"):

            async def on_tick(_event: Any, name: str = name) -> None:
                await asyncio.sleep(0.1)
                await bus.publish_signal(a_signal(name))

            bus.subscribe("market_data", on_tick, name=name)
        bus.open_round("bar-1")
        bus.open_round("bar-2")
        await bus.publish(a_tick(2.0, round_id="bar-2"))
        await bus.publish(a_tick(1.0, round_id="bar-1"))
        second = await bus.wait_for_signals("bar-2")
        first = await bus.wait_for_signals("bar-1")
        assert first.valid
        assert second.valid
        assert {s.round_id for s in second.values()} == {"bar-2"}
        assert second.released_ns < first.released_ns


@virtual
async def test_the_cio_may_wait_at_the_barrier_inside_its_handler_while_the_agents_answer():
    """CONTRACT 8, 24."""
    decisions: list[Any] = []
    async with a_bus("a", "b") as bus:

        async def cio(event: Any) -> None:
            decisions.append(await bus.wait_for_signals())

        async def agent_a(_event: Any) -> None:
            await bus.publish_signal(a_signal("a"))

        def agent_b(_event: Any) -> Any:
            return bus.publish_signal(a_signal("b"))

        bus.subscribe("market_data", cio)
        bus.subscribe("market_data", agent_a)
        bus.subscribe("market_data", agent_b)
        for number in range(3):
            await bus.publish(a_tick(number + 1.0))
            await bus.join()
        assert [d.valid for d in decisions] == [True] * 3
        assert now_s() == 0


@virtual
async def test_what_is_no_signal_is_a_typed_error_and_was_not_published():
    """CONTRACT 1, 21."""

    @dataclass
    class Half:
        event_id: str = "half"
        event_type: str = "signal"
        source_agent: str = "a"

    desk = Desk()
    async with a_bus("a") as bus:
        bus.subscribe("*", desk.on_event)
        bus.open_round("r-1")
        for thing in (a_tick(), Half(), object(), None):
            assert isinstance(await outcome_of(bus.publish_signal(thing)), InvalidEvent), thing
        await bus.join()
        assert desk.handled == []
        assert (await bus.get_barrier_status())["open"][0]["answered"] == []


@virtual
async def test_a_signal_of_the_users_own_class_votes():
    @dataclass
    class View:
        event_id: str
        source_agent: str
        symbol: str = "ES"
        strategy_name: str = ""
        round_id: str | None = None
        event_type: str = "signal"

    async with a_bus("a", "b") as bus:
        bus.open_round("r-1")
        view = View("1", "a")
        await bus.publish_signal(view)
        await bus.publish_signal(View("2", "", strategy_name="b"))
        outcome = await bus.wait_for_signals("r-1")
        assert outcome.valid
        assert outcome["a"] is view


@virtual
async def test_a_cancelled_publish_signal_has_no_vote_and_a_cancelled_wait_leaves_the_round():
    """CONTRACT 3."""
    config = BackpressureConfig(rate_limit_per_s=0.5, rate_limit_burst=1, cooldown_s=10.0, grace_s=1e6)
    async with a_bus("a", max_queue_size=100, backpressure_config=config, barrier_timeout=100.0) as bus:
        bus.subscribe("*", Desk().on_event, name="desk").pause()
        assert await bus.publish_many([a_tick() for _ in range(75)]) == 75
        assert await bus.publish(a_tick())
        bus.open_round("r-1")
        signal = a_signal("a")
        publishing = asyncio.create_task(bus.publish_signal(signal))
        waiting = asyncio.create_task(bus.wait_for_signals("r-1"))
        await asyncio.sleep(0.5)
        publishing.cancel()
        waiting.cancel()
        await asyncio.gather(publishing, waiting, return_exceptions=True)
        (opened,) = (await bus.get_barrier_status())["open"]
        assert opened["answered"] == []
        bus.subscription("desk").resume()
        await bus.join()
        await bus.publish_signal(signal)
        assert (await bus.wait_for_signals("r-1")).valid


@virtual
async def test_rounds_that_nobody_knows_and_buses_that_are_closed_are_typed_errors():
    async with a_bus("a") as bus:
        with pytest.raises(UnknownRound):
            await bus.wait_for_signals("nowhere")
        with pytest.raises(UnknownRound):
            bus.abstain("a", "", "nowhere")
    with pytest.raises(BusClosed):
        await bus.publish_signal(a_signal("a"))
    with pytest.raises(BusClosed):
        await bus.wait_for_signals()


@virtual
async def test_several_rounds_may_be_open_at_once_each_with_its_own_roster_and_terms():
    """CONTRACT 19."""
    async with a_bus("a", "b", "c") as bus:
        bus.open_round("es", roster=["a", "b"], quorum=1, signal_timeout=0.5)
        bus.open_round("nq", roster=["c"], barrier_timeout=2.0)
        waiting = [asyncio.create_task(bus.wait_for_signals(name)) for name in ("es", "nq", "es")]
        await bus.publish_signal(a_signal("a", round_id="es"))
        await bus.publish_signal(a_signal("c"))
        es, nq, again = await asyncio.gather(*waiting)
        assert es is again
        assert (es.status, nq.status) == ("quorate", "complete")
        assert now_s() == 0.5


# -- answers find their own round ----------------------------------------------------------------------------


@virtual
async def test_an_abstention_in_a_handler_belongs_to_the_round_of_the_event_being_handled():
    """CONTRACT 20-22."""
    async with a_bus("a") as bus:

        @bus.on(EventType.MARKET_DATA)
        async def agent(tick: Any) -> None:
            bus.abstain("a", f"nothing on {tick.symbol}")

        bus.open_round("ES-1")
        bus.open_round("NQ-1")
        await bus.publish(a_tick(symbol="NQ", round_id="NQ-1"))
        outcome = await bus.wait_for_signals("NQ-1")
        assert (outcome.status, dict(outcome.abstained)) == ("complete", {"a": "nothing on NQ"})
        assert (await bus.wait_for_signals("ES-1")).missing == {"a"}


@virtual
async def test_a_late_answer_to_a_tick_without_a_round_never_completes_the_next_round():
    """CONTRACT 21: the agent is slower than every round, and never one tick behind unnoticed."""
    async with a_bus("quick", "slow") as bus:

        async def answer(agent: str, tick: Any, after_s: float) -> None:
            await asyncio.sleep(after_s)
            await bus.publish_signal(a_signal(agent, target_price=tick.price))

        @bus.on(EventType.MARKET_DATA)
        async def quick(tick: Any) -> None:
            await answer("quick", tick, 0.1)

        @bus.on(EventType.MARKET_DATA)
        async def slow(tick: Any) -> None:
            await answer("slow", tick, 3.5)

        for price in (1.0, 2.0, 3.0):
            await bus.publish(a_tick(price))
            outcome = await bus.wait_for_signals()
            assert outcome.status == "expired"
            assert {name: s.target_price for name, s in outcome.items()} == {"quick": price}
        await bus.join()
        recent = (await bus.get_barrier_status())["recent"]
        assert [r["late_count"] for r in recent] == [1, 1, 1]


@virtual
async def test_rounds_of_several_symbols_are_answered_from_one_handler_without_naming_them():
    """A round that is over early does not take the answers that are for the others."""
    async with a_bus("a") as bus:

        @bus.on(EventType.MARKET_DATA)
        async def agent(_tick: Any) -> None:
            await bus.publish_signal(a_signal("a", "ES"))
            await bus.publish_signal(a_signal("a", "NQ"))

        bus.open_round("first")
        bus.open_round("second")
        await bus.publish(a_tick())
        assert set((await bus.wait_for_signals("first")).votes) == {("a", "ES")}
        assert set((await bus.wait_for_signals("second")).votes) == {("a", "NQ")}


@virtual
async def test_a_signal_that_was_admitted_when_its_publisher_was_cancelled_votes():
    """CONTRACT 3, 21: at each publication, whole or not at all."""

    @dataclass(frozen=True)
    class OwnSignal:
        event_id: str
        event_type: str = "own_signal"
        source_agent: str = "a"
        symbol: str = "ES"
        round_id: str | None = None

    async with a_bus("a") as bus:
        for number in range(130):
            signal = OwnSignal(f"own-{number}", round_id=f"r-{number}")
            bus.open_round(signal.round_id)
            task = asyncio.create_task(bus.publish_signal(signal))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await bus.publish_signal(signal)
            assert (await bus.wait_for_signals(signal.round_id)).valid, number


@virtual
async def test_a_wait_without_an_id_that_is_cancelled_finds_its_round_again():
    async with a_bus("a") as bus:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await bus.wait_for_signals()
        await bus.publish_signal(a_signal("a"))
        outcome = await bus.wait_for_signals()
        assert (outcome.valid, set(outcome)) == (True, {"a"})
