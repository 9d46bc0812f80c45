"""What the bus records of itself: rounds and runs are in the journal, and in nobody's way."""

import asyncio
import logging
import os
import platform
from pathlib import Path
from typing import Any

import pytest
from bus_helpers import Desk, a_signal, a_tick, an_order, assert_settled, outcome_of, pause_until, virtual
from durable_kit import Disk, Faulty, a_bus, ids, written, written_ids

import openoutcry
from openoutcry import (
    Event,
    EventBus,
    InvalidEvent,
    OperatorAction,
    PersistenceConfig,
    RoundLate,
    RoundOpened,
    RoundReleased,
    RunStarted,
    decode,
)
from openoutcry.errors import ConfigError, JournalFull
from openoutcry.events import MAX_BYTES, RECORDS, StoodIn, Vote
from openoutcry.journals import JournalReader, MemoryJournal
from openoutcry.ports import Journal
from openoutcry.runtime.durability.recorder import DUE_COUNT, RECORDS_MOST, running_app


def a_recording_bus(journal: Journal, *agents: str, **fields: Any) -> EventBus:
    bus = a_bus(journal, record="rounds", signal_timeout=1.0, barrier_timeout=2.0, **fields)
    for agent in agents:
        bus.register_signal_agent(agent)
    return bus


def records(journal: Journal, *classes: type) -> list[Any]:
    return [event for event in written(journal) if type(event) in classes]


def business(journal: Journal) -> list[Any]:
    return [event for event in written(journal) if event.event_type not in RECORDS]


# -- what is recorded --------------------------------------------------------------------------------


@virtual
async def test_a_round_is_recorded_with_its_terms_and_who_did_what(disk: Disk):
    bus = a_recording_bus(disk.journal, "a", "b", "c", "d", stand_in_max_age=60.0)
    bus.register_signal_agent("a", critical=True)
    async with bus:
        bus.open_round("before", quorum=1)
        earlier = a_signal("d", round_id="before")
        await bus.publish_signal(earlier)
        await bus.wait_for_signals("before")
        bus.open_round("r", quorum=2)
        await asyncio.sleep(0.25)
        first = a_signal("a", round_id="r")
        again = a_signal("a", round_id="r")
        await bus.publish_signal(first)
        await bus.publish_signal(again)
        bus.abstain("b", "no data", "r")
        bus.heartbeat("c")
        await bus.publish_signal(a_signal("x", round_id="r"))
        outcome = await bus.wait_for_signals("r")
        late = a_signal("c", symbol="NQ", round_id="r")
        await asyncio.sleep(0.5)
        await bus.publish_signal(late)
        bus.abstain("d", "too slow", "r")
        await bus.flush()
    opened = records(disk.journal, RoundOpened)[1]
    assert opened.event_id == "round:r:opened"
    assert (opened.round_id, opened.ordinal, opened.opened_by, opened.symbol) == ("r", 1, "", None)
    assert opened.timestamp_ns == outcome.opened_wall_ns
    assert (opened.roster, opened.critical, opened.quorum_count) == (("a", "b", "c", "d"), ("a",), 2)
    assert (opened.signal_timeout_ns, opened.barrier_timeout_ns) == (10**9, 2 * 10**9)
    assert opened.stand_in_max_age_ns == 60 * 10**9
    ended = records(disk.journal, RoundReleased)[1]
    assert ended.event_id == "round:r"
    assert (ended.status, ended.valid, ended.reason) == ("quorate", True, outcome.reason)
    assert (ended.opened_wall_ns, ended.took_ns, ended.noticed_ns) == (outcome.opened_wall_ns, 10**9, 10**9)
    assert ended.votes == tuple(Vote("a", "ES", one.event_id, 250_000_000) for one in (first, again))
    assert (ended.missing, ended.abstained) == (("c", "d"), {"b": "no data"})
    assert ended.abstained_ns == {"b": 250_000_000}
    assert (ended.heartbeats, ended.strangers) == ({"c": 250_000_000}, {"x": 1})
    assert ended.stand_ins == (StoodIn("d", "ES", earlier.event_id, 2 * 10**9, "before"),)
    answers = records(disk.journal, RoundLate)
    assert [one.event_id for one in answers] == ["round:r:late:c:1", "round:r:late:d:2"]
    assert [(one.signal_id, one.symbol, one.reason, one.late_ns) for one in answers] == [
        (late.event_id, "NQ", None, 500_000_000),
        (None, None, "too slow", 500_000_000),
    ]


@virtual
async def test_a_round_that_a_handler_opens_names_the_handler_and_its_event(disk: Disk):
    async with a_recording_bus(disk.journal, "a") as bus:

        async def on_order(event: Event) -> None:
            bus.open_round("r")
            await bus.publish_signal(a_signal("a", round_id="r"))

        bus.subscribe("order", on_order, name="cio")
        order = an_order()
        await bus.publish(order)
        await bus.join()
        await bus.flush()
    (ended,) = records(disk.journal, RoundOpened, RoundReleased)
    assert (ended.opened_by, ended.symbol) == ("cio", "ES")
    assert (ended.causation_id, ended.correlation_id) == (order.event_id, order.event_id)


@virtual
@pytest.mark.parametrize("is_named", [False, True])
async def test_a_round_that_was_short_has_one_record_which_says_what_both_would(is_named: bool):
    journal = MemoryJournal()
    async with a_recording_bus(journal, "a", "b", stand_in_max_age=60.0) as bus:
        bus.register_signal_agent("a", critical=True)

        async def on_order(event: Event) -> None:
            bus.open_round("r", quorum=1)

        bus.subscribe("order", on_order, name="cio")
        if is_named:
            bus.subscribe("round_opened", lambda _: None, name="named")
        await bus.publish(an_order())
        await bus.join()
        await bus.publish_signal(a_signal("a", round_id="r"))
        await bus.publish_signal(a_signal("b", round_id="r"))
        await bus.flush()
    *opened, ended = records(journal, RoundOpened, RoundReleased)
    assert [one.event_id for one in opened] == (["round:r:opened"] if is_named else [])
    for one in opened:
        said = one.to_dict() | {"opened_wall_ns": one.timestamp_ns}
        for name in ("event_class", "event_id", "event_type", "timestamp"):
            del said[name]
        assert said.items() <= ended.to_dict().items()


@virtual
async def test_a_round_that_lasts_has_a_record_of_its_opening_while_it_is_open():
    journal = MemoryJournal()
    async with a_recording_bus(journal, "a", "b") as bus:
        bus.open_round("r")
        await bus.publish_signal(a_signal("a", round_id="r"))
        await asyncio.sleep(0.3)
        assert [one.event_id for one in records(journal, RoundOpened, RoundReleased)] == ["round:r:opened"]
        await bus.publish_signal(a_signal("b", round_id="r"))
        await asyncio.sleep(0.3)
        assert [one.event_id for one in records(journal, RoundReleased)] == ["round:r"]
        assert len(records(journal, RoundOpened)) == 1


@virtual
async def test_a_run_is_recorded_once_with_its_settings_and_without_its_key(tmp_path: Path):
    path, key = tmp_path / "firm.db", b"k" * 16 + b"secret"
    given = running_app.set("firm:app")
    bus = EventBus(persistence_config=PersistenceConfig(path=path, key=key, socket=False))
    running_app.reset(given)
    for _ in range(2):
        await bus.start()
        await bus.publish(an_order())
        await bus.stop()
    with JournalReader(path, key=key) as reader:
        stored = reader.read(0, 100)
        assert reader.verify().intact
    runs = [event for event in (decode(one.payload) for one in stored) if isinstance(event, RunStarted)]
    assert len(runs) == 2
    assert len({run.event_id for run in runs}) == 2
    run = runs[0]
    assert (run.version, run.python) == (openoutcry.__version__, platform.python_version())
    assert (run.process_id, run.app) == (os.getpid(), "firm:app")
    assert run.origin
    assert run.generation
    assert run.settings["max_queue_size"] == 10_000
    assert run.settings["persistence"]["record"] == "rounds"
    assert b"secret" not in b"".join(one.payload for one in stored)


@virtual
async def test_nothing_is_recorded_where_that_is_off_but_what_operators_do(disk: Disk):
    async with a_bus(disk.journal, record="off", signal_timeout=1.0) as bus:
        bus.register_signal_agent("a")
        bus.open_round("r")
        signal = a_signal("a", round_id="r")
        await bus.publish_signal(signal)
        bus._admission.slot.recorder.note(OperatorAction(operator="kim", via="socket", verb="pause"))
        await bus.flush()
        assert written_ids(disk.journal)[0] == signal.event_id
        assert [type(one) for one in written(disk.journal)[1:]] == [OperatorAction]


def test_what_is_recorded_is_one_of_three_words():
    with pytest.raises(ConfigError, match="record is 'all'; it must be one of off, rounds, replay"):
        PersistenceConfig(record="all")  # type: ignore[arg-type]


# -- an id that is used again ------------------------------------------------------------------------


@virtual
async def test_a_round_id_that_an_earlier_life_has_used_gets_records_of_its_own(disk: Disk, caplog):
    for life in range(3):
        async with a_recording_bus(disk.journal, "a", "b") as bus:
            bus.open_round("r", quorum=1)
            await bus.publish_signal(a_signal("a", round_id="r"))
            await bus.wait_for_signals("r")
            await bus.publish_signal(a_signal("b", round_id="r"))
            await bus.flush()
            assert bus.metrics.duplicates == 0, life
        disk.restarted()
    assert [one.event_id for one in records(disk.journal, RoundOpened)] == [
        "round:r:opened",
        "round:r:2:opened",
        "round:r:3:opened",
    ]
    assert [one.event_id for one in records(disk.journal, RoundReleased)] == [
        "round:r",
        "round:r:2",
        "round:r:3",
    ]
    assert [one.event_id for one in records(disk.journal, RoundLate)] == [
        "round:r:late:b:1",
        "round:r:2:late:b:1",
        "round:r:3:late:b:1",
    ]
    assert [one.ordinal for one in records(disk.journal, RoundReleased)] == [1, 2, 3]
    assert "left out" not in caplog.text


@virtual
async def test_an_id_that_is_used_again_before_its_first_record_was_written_has_two(caplog):
    journal = MemoryJournal()
    fields = {"level": "memory", "high_priority_level": "memory", "cursor_save_s": 100.0}
    async with a_recording_bus(journal, "a", **fields) as bus:
        for round_id in ("r", *(f"other-{number}" for number in range(300)), "r"):
            bus.open_round(round_id)
            signal = a_signal("a", round_id=round_id)
            await bus.publish_signal(signal)
            await bus.wait_for_signals(round_id)
        await bus.flush()
    found = [one for one in records(journal, RoundReleased) if one.round_id == "r"]
    assert [(one.event_id, one.ordinal) for one in found] == [("round:r", 1), ("round:r:2", 2)]
    assert found[1].votes[0].signal_id == signal.event_id
    assert "left out" not in caplog.text


@virtual
async def test_the_record_of_a_round_without_a_release_is_not_mixed_with_the_next_of_its_id(disk: Disk):
    bus = a_recording_bus(disk.journal, "a")
    await bus.start()
    bus.open_round("r")
    await bus.flush()
    await disk.crash(bus)
    async with a_recording_bus(disk.journal, "a") as bus:
        assert (await bus.get_barrier_status())["open"] == [], "no round comes back from its record"
        bus.open_round("r")
        await bus.publish_signal(a_signal("a", round_id="r"))
        await bus.flush()
    assert [one.event_id for one in records(disk.journal, RoundOpened, RoundReleased)] == [
        "round:r:opened",
        "round:r:2:opened",
        "round:r:2",
    ]


# -- who is handed records ---------------------------------------------------------------------------


@virtual
async def test_records_are_handed_to_those_alone_that_name_their_type_or_class(disk: Disk):
    everything, by_base, by_type, by_class = Desk(), Desk(), Desk(), Desk()
    async with a_recording_bus(disk.journal, "a") as bus:
        bus.subscribe("*", everything.on_event, name="everything")
        bus.subscribe(Event, by_base.on_event, name="base")
        bus.subscribe("round_released", by_type.on_event, name="type")
        bus.subscribe([RoundOpened, RunStarted], by_class.on_event, name="class")
        bus.open_round("r")
        signal = a_signal("a", round_id="r")
        await bus.publish_signal(signal)
        await bus.flush()
        await bus.join()
        assert ids(everything.handled) == ids(by_base.handled) == [signal.event_id]
        assert by_type.ids == ["round:r"]
        assert [type(one) for one in by_class.handled] == [RunStarted, RoundOpened]
        assert_settled(bus)


@virtual
async def test_after_a_crash_records_are_read_on_by_those_alone_that_name_them(disk: Disk):
    def subscribe(bus: EventBus, everything: Desk, named: Desk) -> None:
        bus.subscribe("*", everything.on_event, name="everything")
        bus.subscribe("round_released", named.on_event, name="named")

    bus = a_recording_bus(disk.journal, "a")
    first, first_named = Desk(takes_s=1_000.0), Desk(takes_s=1_000.0)
    subscribe(bus, first, first_named)
    await bus.start()
    bus.open_round("r")
    signal = a_signal("a", round_id="r")
    await bus.publish_signal(signal)
    await bus.flush()
    await pause_until(lambda: bool(first.begun) and bool(first_named.begun))
    await disk.crash(bus)
    everything, named = Desk(), Desk()
    bus = a_recording_bus(disk.journal, "a")
    subscribe(bus, everything, named)
    await bus.start()
    await bus.join()
    assert everything.ids == [signal.event_id]
    assert named.ids == ["round:r"]
    await bus.stop()


@virtual
async def test_nobody_but_the_bus_publishes_a_record(disk: Disk):
    async with a_recording_bus(disk.journal, "a") as bus:
        for forged in (
            OperatorAction(operator="kim", via="page", verb="halt"),
            Event(event_type="round_released"),
        ):
            with pytest.raises(InvalidEvent, match="only the bus itself"):
                await bus.publish(forged)


@virtual
async def test_records_count_in_no_figure_and_are_in_no_history_that_does_not_name_them(disk: Disk):
    async with a_recording_bus(disk.journal, "a") as bus:
        bus.open_round("r")
        signal = a_signal("a", round_id="r")
        await bus.publish_signal(signal)
        await bus.flush()
        assert bus.metrics.published == 1
        assert ids(bus.get_event_history()) == [signal.event_id]
        assert [e.event_id for e in bus.get_event_history("round_released")] == ["round:r"]
    assert len(business(disk.journal)) == 1


# -- in nobody's way ---------------------------------------------------------------------------------


@virtual
async def test_a_record_takes_no_commit_of_its_own_where_one_is_due():
    journal = Faulty()
    async with a_recording_bus(journal, "a", cursor_save_s=100.0) as bus:
        await bus.flush()
        before = journal.calls["write"]
        for number in range(50):
            bus.open_round(f"r-{number}")
            await bus.publish_signal(a_signal("a", round_id=f"r-{number}"))
        assert records(journal, RoundOpened, RoundReleased) == [], "they are collected"
        for number in range(50, 100):
            bus.open_round(f"r-{number}")
            await bus.publish_signal(a_signal("a", round_id=f"r-{number}"))
        assert journal.calls["write"] == before + 100
        assert len(records(journal, RoundReleased)) >= DUE_COUNT
        await bus.flush()
        assert [one.round_id for one in records(journal, RoundReleased)] == [f"r-{n}" for n in range(100)]


@virtual
@pytest.mark.parametrize("lane", ["normal", "high"])
async def test_what_is_synced_takes_the_rounds_before_it_along(lane: str):
    journal = MemoryJournal()
    async with a_recording_bus(journal, "a", cursor_save_s=100.0, levels={"order": "disk"}) as bus:
        bus.open_round("r")
        await bus.publish_signal(a_signal("a", round_id="r"))
        assert records(journal, RoundReleased) == []
        await bus.publish(an_order(), priority=lane == "high")
        assert [one.event_id for one in records(journal, RoundReleased)] == ["round:r"]


@virtual
async def test_records_are_written_soon_where_nothing_else_is():
    journal = MemoryJournal()
    async with a_recording_bus(journal, "a", level="memory", high_priority_level="memory") as bus:
        bus.open_round("r")
        await bus.publish_signal(a_signal("a", round_id="r"))
        assert records(journal, RoundOpened, RoundReleased) == []
        await asyncio.sleep(0.3)
        assert [one.event_id for one in records(journal, RoundOpened, RoundReleased)] == ["round:r"]


@virtual
async def test_a_tick_writes_nothing():
    journal = MemoryJournal()
    async with a_recording_bus(journal, "a") as bus:
        await bus.flush()
        head = journal.head
        for _ in range(1_000):
            await bus.publish(a_tick())
        await asyncio.sleep(1.0)
        assert journal.head == head


@virtual
async def test_what_a_full_disk_refuses_of_records_goes_with_the_next_commit():
    journal = Faulty()
    async with a_recording_bus(journal, "a") as bus:
        await bus.flush()
        bus.open_round("r")
        await bus.publish_signal(a_signal("a", round_id="r"))
        outcome = await bus.wait_for_signals("r")
        assert outcome.valid
        journal.fail_next("write", JournalFull("no room"))
        assert isinstance(await outcome_of(bus.flush()), JournalFull)
        assert records(journal, RoundOpened, RoundReleased) == []
        await bus.publish(an_order())
        assert [one.event_id for one in records(journal, RoundOpened, RoundReleased)] == ["round:r"]


@virtual
async def test_a_record_that_cannot_be_made_is_logged_and_keeps_nobody_from_anything(caplog):
    journal = MemoryJournal()
    with caplog.at_level(logging.ERROR, "openoutcry"):
        async with a_recording_bus(journal, "a") as bus:
            bus.open_round("r", roster=["a", "b"])
            bus.abstain("b", "x" * MAX_BYTES, "r")
            await bus.publish_signal(a_signal("a", round_id="r"))
            outcome = await bus.wait_for_signals("r")
            assert outcome.valid
            await bus.flush()
            assert len(business(journal)) == 1
    assert "could not be written, and is left out" in caplog.text


@virtual
async def test_more_records_than_may_wait_let_the_oldest_go_and_say_so(caplog):
    journal = MemoryJournal()
    bus = a_recording_bus(journal, "a")
    recorder = bus._admission.slot.recorder
    for number in range(RECORDS_MOST + 3):
        recorder.note(OperatorAction(event_id=f"a-{number}", operator="kim", via="page", verb="pause"))
    async with bus:
        await bus.flush()
        found = records(journal, OperatorAction)
        assert (len(found), found[0].event_id) == (RECORDS_MOST, "a-3")
        assert recorder.left_out == 3
    assert "the oldest are left out" in caplog.text


@virtual
async def test_a_stop_records_the_rounds_that_it_ends(disk: Disk):
    bus = a_recording_bus(disk.journal, "a")
    await bus.start()
    for number in range(1_500):
        bus.open_round(f"r-{number}")
    await bus.stop()
    ended = records(disk.journal, RoundReleased)
    assert len(ended) == 1_500
    assert {one.status for one in ended} == {"expired"}


@virtual
async def test_what_was_recorded_before_the_start_is_written_after_it():
    journal = MemoryJournal()
    bus = a_recording_bus(journal, "a")
    bus.open_round("r")
    await bus.start()
    await bus.flush()
    assert [type(one) for one in written(journal)] == [RunStarted, RoundOpened]
    await bus.stop()


@pytest.mark.parametrize("record", ["off", "rounds"])
@virtual
async def test_records_take_none_of_the_ids_of_a_run(record: str) -> None:
    with openoutcry.stamps(ids="run"):
        async with a_bus(MemoryJournal(origin="here"), record=record) as bus:
            assert an_order().event_id == "run-1"
            await bus.flush()
            assert an_order().event_id == "run-2"
