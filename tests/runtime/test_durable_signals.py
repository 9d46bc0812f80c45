"""Signals that have to survive: a vote counts when its signal is accepted, and once (CONTRACT 14, 18, 21)."""

import asyncio

import pytest
from bus_helpers import Gate, a_signal, a_tick, outcome_of, virtual
from durable_kit import Disk, Faulty, Named, SlowDisk, a_bus, ids, turns, written

from openoutcry import EventBus, InvalidEvent, SignalDirection, SignalEvent, SignalRefused
from openoutcry.journals import MemoryJournal


def with_agents(journal: object, *agents: str, **fields: object) -> EventBus:
    bus = a_bus(journal, signal_timeout=1.0, barrier_timeout=2.0, **fields)  # type: ignore[arg-type]
    for agent in agents:
        bus.register_signal_agent(agent)
    return bus


@virtual
async def test_a_signal_is_in_the_journal_before_it_votes():
    journal = SlowDisk()
    bus = with_agents(journal, "a", level="disk", sync="thread")
    await bus.start()
    bus.open_round("r")
    waiting = asyncio.create_task(bus.wait_for_signals("r"))
    publishing = asyncio.create_task(bus.publish_signal(a_signal("a")))
    await turns(20)
    assert journal.head == 1
    assert not waiting.done(), "what is not on the disk has no vote"
    assert not publishing.done()
    journal.let_go()
    await publishing
    outcome = await waiting
    assert outcome.valid
    assert set(outcome) == {"a"}
    await bus.stop()


@virtual
async def test_signals_are_delivered_voted_and_kept_once(disk: Disk):
    desk = Named("cio")
    async with with_agents(disk.journal, "a", "b") as bus:
        bus.subscribe("signal", desk.on_event)
        bus.open_round("r")
        signals = [a_signal("a"), a_signal("b")]
        for signal in [*signals, *signals]:
            await bus.publish_signal(signal)
        outcome = await bus.wait_for_signals("r")
        await bus.join()
        assert outcome.valid
        assert outcome.late_count == 0
        assert ids(desk.handled) == ids(signals) == ids(written(disk.journal))


@virtual
async def test_a_signal_carries_its_round_into_the_journal(disk: Disk):
    async with with_agents(disk.journal, "a") as bus:
        bus.open_round("r")
        await bus.publish_signal(a_signal("a"))
        (stored,) = disk.journal.read(0, 9)
        assert stored.head().round_id == "r"


@virtual
async def test_signals_published_together_share_one_commit():
    journal = Faulty()
    agents = [f"agent {n}" for n in range(14)]
    async with with_agents(journal, *agents) as bus:
        bus.open_round("r")
        await bus.flush()
        before = journal.calls["write"]
        await asyncio.gather(*(bus.publish_signal(a_signal(agent)) for agent in agents))
        assert journal.calls["write"] == before + 1
        assert (await bus.wait_for_signals("r")).valid


@virtual
async def test_a_signal_published_again_after_a_crash_votes_in_the_round_of_the_new_life(disk: Disk):
    """The retry is a duplicate to the journal; to the barrier of a new process it is the first it hears of it."""
    signal = a_signal("a")
    bus = with_agents(disk.journal, "a")
    await bus.start()
    bus.open_round("r1")
    await bus.publish_signal(signal)
    journal = await disk.crash(bus)
    async with with_agents(journal, "a") as bus:
        bus.open_round("r2")
        again = a_signal("a", event_id=signal.event_id, timestamp=signal.timestamp)
        await bus.publish_signal(again)
        assert journal.head == 1
        outcome = await bus.wait_for_signals("r2")
        assert outcome.valid


@virtual
async def test_a_signal_that_was_refused_for_room_does_not_vote_and_is_not_kept():
    journal, gate = MemoryJournal(), Gate()
    bus = with_agents(journal, "a", max_queue_size=10)
    bus.subscribe("signal", gate.on_event)
    await bus.start()
    bus.open_round("r")
    refused = None
    for n in range(40):
        found = await outcome_of(bus.publish_signal(a_signal("someone", symbol=f"S{n}")))
        if isinstance(found, SignalRefused):
            refused = found
    assert refused is not None
    head = journal.head
    assert isinstance(await outcome_of(bus.publish_signal(a_signal("a"))), SignalRefused)
    assert journal.head == head
    outcome = await bus.wait_for_signals("r")
    assert not outcome.valid
    gate.open()
    await bus.stop()


@virtual
async def test_a_cancelled_signal_is_published_and_voted_or_neither():
    journal = SlowDisk()
    bus = with_agents(journal, "a", level="disk", sync="thread")
    await bus.start()
    bus.open_round("r")
    publishing = asyncio.create_task(bus.publish_signal(a_signal("a")))
    await turns()
    publishing.cancel()
    await asyncio.gather(publishing, return_exceptions=True)
    journal.let_go()
    outcome = await bus.wait_for_signals("r")
    assert outcome.valid is (journal.head == 1)
    await bus.stop()


@virtual
async def test_a_signal_that_cannot_be_written_has_no_vote():
    journal = MemoryJournal()

    class OddSignal(SignalEvent, tag="DurableOddSignal"):
        extra: object = None

    async with with_agents(journal, "a") as bus:
        bus.open_round("r")
        odd = OddSignal(
            strategy_name="a", symbol="ES", source_agent="a", direction=SignalDirection.LONG, extra=object()
        )
        with pytest.raises(InvalidEvent):
            await bus.publish_signal(odd)
        outcome = await bus.wait_for_signals("r")
        assert not outcome.valid
        assert "a" in outcome.missing
    assert journal.head == 0


@virtual
async def test_a_handlers_signal_inherits_the_round_and_a_redelivered_tick_does_not_vote_twice(disk: Disk):
    bus = with_agents(disk.journal, "a", levels={"market_data": "process"})

    async def on_tick(tick: object) -> None:
        await bus.publish_signal(a_signal("a"))

    bus.subscribe("market_data", on_tick, name="a")
    await bus.start()
    bus.open_round("r")
    await bus.publish(a_tick(round_id="r"))
    outcome = await bus.wait_for_signals("r")
    assert outcome.valid
    journal = await disk.crash(bus)
    bus = with_agents(journal, "a", levels={"market_data": "process"})
    bus.subscribe("market_data", on_tick, name="a")
    await bus.start()
    await bus.join()
    assert [str(event.event_type) for event in written(journal)] == ["market_data", "signal"]
    await bus.stop()


@virtual
async def test_signals_of_level_memory_need_no_commit():
    journal = Faulty()
    async with with_agents(journal, "a", levels={"signal": "memory"}) as bus:
        bus.open_round("r")
        await bus.publish_signal(a_signal("a"))
        assert (await bus.wait_for_signals("r")).valid
        assert journal.head == 0
