"""A day that is recorded: what was delivered from memory, what was taken in which order, and how it ended."""

import asyncio
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from bus_helpers import a_decision, a_fill, a_kill, a_signal, a_tick, an_order, ticks, virtual
from durable_kit import DeskNote, Disk, Faulty, a_bus, floor_of, settings, written

from openoutcry import (
    Conflate,
    DropOldest,
    Event,
    EventBus,
    OrderEvent,
    RetryPolicy,
    TapeRecorded,
)
from openoutcry.errors import JournalFull
from openoutcry.events import RECORDS
from openoutcry.journals import (
    JournalReader,
    MemoryJournal,
    RecordedCall,
    RecordedRun,
    Recording,
    SqliteJournal,
    recover_into,
    runs_of,
)
from openoutcry.ports import Journal, Level
from openoutcry.runtime.delivery import tape

MS = 1_000_000


def recorded_bus(journal: Journal, **fields: Any) -> EventBus:
    return a_bus(journal, record="replay", **fields)


def the_run(journal: Any) -> RecordedRun:
    (run,) = runs_of(journal)
    return run


def places(run: RecordedRun, subscription: str) -> list[int | str]:
    return [place for call in run.calls(subscription) for place in call.places]


def of_type(run: RecordedRun, event_type: str) -> list[int]:
    kept = f'"event_type":"{event_type}"'.encode()
    return [entry.position for entry in run.entries() if kept in entry.payload]


async def nothing(event: Event) -> None:
    pass


# -- what is delivered from memory ---------------------------------------------------------------------


@virtual
async def test_ticks_stand_beside_before_what_their_handlers_publish(disk: Disk):
    async with recorded_bus(disk.journal) as bus:

        async def on_tick(event: Event) -> None:
            await bus.publish(an_order())

        bus.subscribe("market_data", on_tick, name="a")
        for tick in ticks(3):
            await bus.publish(tick)
            await asyncio.sleep(0.01)
        await bus.join()
    found = [(type(event).__name__, entry.is_beside) for event, entry in both(disk.journal)]
    business = [one for one in found if one[0] in ("MarketDataEvent", "OrderEvent")]
    assert business == [("MarketDataEvent", True), ("OrderEvent", False)] * 3


def both(journal: Journal) -> list[Any]:
    return list(zip(written(journal), journal.read(0, 1_000), strict=True))


@virtual
async def test_ticks_alone_are_written_within_the_time_in_which_cursors_are_saved(disk: Disk):
    async with recorded_bus(disk.journal, cursor_save_s=0.25) as bus:
        bus.subscribe("market_data", nothing, name="a")
        await bus.publish_many(ticks(5))
        await asyncio.sleep(0.3)
        assert len(of_type(the_run(disk.journal), "market_data")) == 5
        head = disk.journal.head
        await asyncio.sleep(5.0)
        assert disk.journal.head == head, "an idle bus writes nothing"


@virtual
async def test_no_cursor_waits_for_what_stands_beside(disk: Disk):
    async with recorded_bus(disk.journal) as bus:
        subscription = bus.subscribe(["market_data", "order"], nothing, name="a")
        await bus.publish_many(ticks(3))
        await bus.join()
        subscription.pause()
        await bus.publish(an_order())
        await bus.publish_many(ticks(3, first=4))
        await asyncio.sleep(1.0)
    handled: list[str] = []

    async def note(event: Any) -> None:
        handled.append(event.event_type)

    async with recorded_bus(disk.journal) as bus:
        bus.subscribe(["market_data", "order"], note, name="a")
        await bus.join()
    assert handled == ["order"], "ticks of an earlier life are handed to nobody"


@virtual
async def test_a_memory_is_rebuilt_of_what_was_handled_and_of_nothing_that_stands_beside(disk: Disk):
    for life in range(3):
        folded: list[str] = []
        async with recorded_bus(disk.journal) as bus:

            def fold(event: Any, folded: list[str] = folded) -> None:
                folded.append(event.order_id)

            subscription = bus.subscribe("*", nothing, name="a", restore=fold)
            await subscription.ready()
            for number in range(3):
                await bus.publish(a_tick())
                await bus.publish(an_order(f"o-{life}-{number}"))
                await asyncio.sleep(0.1)
            await bus.join()
        assert folded == [f"o-{before}-{number}" for before in range(life) for number in range(3)]


@virtual
async def test_who_names_records_and_reads_on_is_handed_nothing_that_stands_beside(disk: Disk):
    async with recorded_bus(disk.journal) as bus:
        bus.subscribe(["run_started", "order", "market_data"], nothing, name="a").pause()
        for number in range(3):
            await bus.publish(a_tick())
            await bus.publish(an_order(f"o-{number}"))
            await asyncio.sleep(0.1)
    handled: list[str] = []
    async with recorded_bus(disk.journal) as bus:
        bus.subscribe(
            ["run_started", "order", "market_data"], lambda event: handled.append(event.event_type), name="a"
        )
        await bus.join()
        await asyncio.sleep(1.0)
    assert [one for one in handled if one != "run_started"] == ["order"] * 3


@virtual
async def test_the_recording_does_not_change_what_is_a_duplicate(disk: Disk):
    tick = a_tick()
    for life in range(2):
        handled: list[Any] = []
        async with recorded_bus(disk.journal) as bus:
            bus.subscribe("market_data", handled.append, name="a")
            assert await bus.publish(tick)
            assert await bus.publish(tick)
            await bus.join()
        assert len(handled) == 1, f"life {life}: as without a recording"


@virtual
async def test_a_tick_that_was_recorded_can_still_be_raised_to_a_level(disk: Disk):
    async with recorded_bus(disk.journal) as bus:
        subscription = bus.subscribe("market_data", nothing, name="a")
        subscription.pause()
        tick = a_tick()
        await bus.publish(tick)
        await asyncio.sleep(1.0)
        await bus.publish(tick, level="process")
        assert disk.journal.find(tick.event_id)
    handled: list[Any] = []
    async with recorded_bus(disk.journal) as bus:
        bus.subscribe("market_data", handled.append, name="a")
        await bus.join()
    assert [one.event_id for one in handled] == [tick.event_id]


@virtual
async def test_urgent_events_at_memory_and_kill_switches_are_recorded_in_their_lanes(disk: Disk):
    levels: Any = {"kill_switch": "memory", "fill": "memory"}
    async with recorded_bus(disk.journal, levels=levels) as bus:
        bus.subscribe("*", nothing, name="a")
        await bus.publish(a_fill())
        await bus.publish(a_kill())
        await bus.publish(a_tick(), priority=True)
        await bus.join()
    lanes = [(entry.lane, entry.is_beside) for entry in the_run(disk.journal).entries() if entry.is_beside]
    assert sorted(lanes) == [("control", True), ("high", True), ("high", True)]
    assert len(places(the_run(disk.journal), "a")) == 3
    assert all(isinstance(place, int) for place in places(the_run(disk.journal), "a"))
    async with recorded_bus(disk.journal) as bus:
        handled: list[Any] = []
        bus.subscribe("*", handled.append, name="a")
        await bus.join()
        assert handled == []


@virtual
async def test_events_of_users_own_classes_stand_beside_with_what_the_bus_knows_of_them(disk: Disk):
    async with recorded_bus(disk.journal, levels={"note": "memory"}) as bus:

        async def on_order(event: Event) -> None:
            await bus.publish(DeskNote("n-1", "hello"))

        bus.subscribe("order", on_order, name="author")
        bus.subscribe("note", nothing, name="a")
        order = an_order()
        await bus.publish(order)
        await bus.join()
    run = the_run(disk.journal)
    (entry,) = [entry for entry in run.entries() if entry.is_beside]
    assert entry.event_id == "n-1"
    assert entry.header is not None
    assert (entry.header.event_type, entry.header.causation_id) == ("note", order.event_id)
    assert places(run, "a") == [entry.position]
    assert run.made["n-1"].subscription == "author"


@virtual
async def test_what_cannot_be_written_is_delivered_all_the_same_and_that_it_is_missing_is_said(
    disk: Disk, caplog: pytest.LogCaptureFixture
):
    handled: list[Any] = []
    async with recorded_bus(disk.journal, levels={"note": "memory"}) as bus:
        bus.subscribe("note", handled.append, name="a")
        for number, latency in enumerate([1, object(), object(), 2]):
            assert await bus.publish(DeskNote(f"n-{number}", "hello", latency=latency))
        await bus.join()
    run = the_run(disk.journal)
    assert [one.event_id for one in handled] == ["n-0", "n-1", "n-2", "n-3"]
    ids = {entry.position: entry.event_id for entry in run.entries()}
    assert [ids.get(place, place) for place in places(run, "a")] == ["n-0", "n-1", "n-2", "n-3"]  # type: ignore[arg-type]
    assert [place for place in places(run, "a") if isinstance(place, str)] == ["n-1", "n-2"]
    (gap,) = run.gaps
    assert "2 notes or events are missing" in gap.why
    assert caplog.text.count("cannot be recorded") == 1


@virtual
async def test_a_full_disk_keeps_what_stands_beside_until_there_is_room():
    journal = Faulty()
    async with recorded_bus(journal) as bus:
        await bus.flush()
        bus.subscribe("market_data", nothing, name="a")
        await bus.publish(a_tick())
        await bus.join()
        journal.fail_next("write", JournalFull("no room"))
        with pytest.raises(JournalFull):
            await bus.publish(an_order())
        await bus.publish(an_order("o-2"))
        await bus.flush()
    run = the_run(journal)
    assert len(of_type(run, "market_data")) == 1
    assert places(run, "a") == of_type(run, "market_data")
    assert run.gaps == ()


# -- what was taken ------------------------------------------------------------------------------------


@virtual
async def test_a_subscription_is_told_in_the_order_in_which_it_took_across_lanes(disk: Disk):
    handled: list[str] = []
    async with recorded_bus(disk.journal) as bus:

        async def on_any(event: Any) -> None:
            handled.append(event.event_id)
            await asyncio.sleep(0.05)

        bus.subscribe("*", on_any, name="a")
        await bus.publish_many(ticks(3))
        await asyncio.sleep(0.01)
        await bus.publish(an_order())
        await bus.publish(a_fill())
        await bus.publish_many(ticks(2, first=4))
        await bus.join()
    run = the_run(disk.journal)
    ids = {entry.position: entry.event_id for entry in run.entries()}
    assert [ids[int(place)] for place in places(run, "a")] == handled
    assert {call.lane for call in run.calls("a")} == {"high", "normal"}
    assert all(call.end == "handled" for call in run.calls("a"))


@virtual
async def test_calls_have_their_instants_and_how_far_the_log_was(disk: Disk):
    async with recorded_bus(disk.journal) as bus:
        await bus.flush()

        async def slow(event: Event) -> None:
            await asyncio.sleep(0.25)

        bus.subscribe("order", slow, name="a")
        await asyncio.sleep(0.5)
        await bus.publish(an_order())
        await bus.join()
    run = the_run(disk.journal)
    (call,) = run.calls("a")
    (place,) = call.places
    (entry,) = [entry for entry in run.entries() if entry.position == place]
    assert (call.begun_ns, call.ended_ns) == (500 * MS, 750 * MS)
    assert entry.at_ns == 500 * MS
    assert call.head == place


@virtual
async def test_failures_are_told_with_their_attempts_and_what_became_of_them(disk: Disk):
    async with recorded_bus(disk.journal) as bus:

        def fails(event: Event) -> None:
            raise ValueError("no")

        async def hangs(event: Event) -> None:
            await asyncio.sleep(60.0)

        bus.subscribe("order", fails, name="fails", retry=RetryPolicy(attempts=2, first_s=0.1))
        bus.subscribe("order", hangs, name="hangs", retry=False, timeout_s=1.0)
        await bus.publish(an_order())
        await bus.join()
    run = the_run(disk.journal)
    assert [(call.attempt, call.end, call.error) for call in run.calls("fails")] == [
        (1, "failed", "ValueError"),
        (2, "buried", "ValueError"),
    ]
    (call,) = run.calls("hangs")
    assert (call.end, call.error) == ("buried", "CancelledError")
    assert call.ended_ns is not None
    assert call.ended_ns - call.begun_ns >= 1_000 * MS


@virtual
async def test_of_a_batch_in_which_one_fails_those_before_it_are_handled(disk: Disk):
    async with recorded_bus(disk.journal) as bus:
        count = 0

        def third_fails(event: Event) -> None:
            nonlocal count
            count += 1
            if count == 13:
                raise ValueError

        bus.subscribe("market_data", third_fails, name="a", retry=False)
        await bus.publish_many(ticks(10))
        await bus.join()
        await bus.publish_many(ticks(10, first=11))
        await bus.join()
    calls = the_run(disk.journal).calls("a")
    assert sum(len(call.places) for call in calls) == 20
    (buried,) = [call for call in calls if call.end == "buried"]
    assert places(the_run(disk.journal), "a") == of_type(the_run(disk.journal), "market_data")
    assert buried.places[-1] == of_type(the_run(disk.journal), "market_data")[12]


@virtual
async def test_what_a_lane_lets_go_is_what_nobody_took(disk: Disk):
    async with recorded_bus(disk.journal) as bus:

        async def slow(event: Event) -> None:
            await asyncio.sleep(1.0)

        async def slow_too(event: Event) -> None:
            await asyncio.sleep(1.0)

        bus.subscribe("market_data", slow, name="newest", overflow=Conflate("symbol"))
        bus.subscribe("market_data", slow_too, name="some", overflow=DropOldest(2))
        for tick in ticks(10):
            await bus.publish(tick)
            await asyncio.sleep(0.01)
        await bus.join()
    run = the_run(disk.journal)
    all_ticks = of_type(run, "market_data")
    assert places(run, "newest") == [all_ticks[0], all_ticks[-1]]
    assert [call.number for call in run.calls("newest")] == [1, 10]
    assert places(run, "some") == [all_ticks[0], all_ticks[-2], all_ticks[-1]]


@virtual
async def test_an_event_that_is_too_old_was_taken_and_never_begun(disk: Disk):
    async with recorded_bus(disk.journal) as bus:

        async def slow(event: Event) -> None:
            await asyncio.sleep(1.0)

        bus.subscribe("market_data", slow, name="a", max_age_s=0.5)
        await bus.publish(a_tick())
        await asyncio.sleep(0.01)
        await bus.publish(a_tick())
        await bus.join()
    assert [call.end for call in the_run(disk.journal).calls("a")] == ["handled", "expired"]


@virtual
async def test_a_call_that_is_ended_for_a_newer_event_says_so(disk: Disk):
    async with recorded_bus(disk.journal) as bus:

        async def slow(event: Event) -> None:
            await asyncio.sleep(1.0)

        bus.subscribe("market_data", slow, name="a", supersede="symbol")
        await bus.publish(a_tick())
        await asyncio.sleep(0.1)
        await bus.publish(a_tick())
        await bus.join()
    assert [call.end for call in the_run(disk.journal).calls("a")] == ["superseded", "handled"]


@virtual
async def test_a_kill_switch_is_taken_beside_the_call_that_goes_on(disk: Disk):
    async with recorded_bus(disk.journal) as bus:

        async def on_any(event: Any) -> None:
            await asyncio.sleep(1.0 if event.event_type == "order" else 0.125)

        bus.subscribe("*", on_any, name="a")
        await bus.publish(an_order())
        await asyncio.sleep(0.25)
        await bus.publish(a_kill())
        await bus.join()
    run = the_run(disk.journal)
    order, kill = run.calls("a")
    assert (order.lane, kill.lane) == ("normal", "control")
    assert order.begun_ns < kill.begun_ns < (kill.ended_ns or 0) < (order.ended_ns or 0)
    (entry,) = [entry for entry in run.entries() if entry.position == kill.places[0]]
    assert entry.lane == "control"
    assert entry.at_ns == kill.begun_ns


@virtual
async def test_calls_that_overlap_are_told_one_by_one(disk: Disk):
    async with recorded_bus(disk.journal) as bus:

        async def slow(event: Any) -> None:
            await asyncio.sleep(1.0 if event.order_id == "o-1" else 0.25)

        bus.subscribe("order", slow, name="a", concurrency=2)
        await bus.publish(an_order("o-1"))
        await bus.publish(an_order("o-2"))
        await bus.publish(an_order("o-3"))
        await bus.join()
    first, second, third = the_run(disk.journal).calls("a")
    assert (first.ended_ns or 0) - first.begun_ns == 1_000 * MS
    assert third.begun_ns == second.ended_ns
    assert second.begun_ns < (first.ended_ns or 0)


@virtual
async def test_a_call_that_outlasts_a_part_of_the_tape_is_on_it_once(disk: Disk):
    async with recorded_bus(disk.journal) as bus:

        async def slow(event: Event) -> None:
            await asyncio.sleep(3.0)

        bus.subscribe("order", slow, name="a")
        bus.subscribe("market_data", nothing, name="b")
        await bus.publish(an_order())
        for tick in ticks(4):
            await bus.publish(tick)
            await asyncio.sleep(0.5)
        (call,) = the_run(disk.journal).calls("a")
        assert (call.end, call.ended_ns) == ("begun", None)
        await bus.join()
    (call,) = the_run(disk.journal).calls("a")
    assert call.end == "handled"
    parts = [event for event in written(disk.journal) if isinstance(event, TapeRecorded)]
    assert [part.number for part in parts] == list(range(1, len(parts) + 1))
    assert [part.is_last for part in parts] == [False] * (len(parts) - 1) + [True]


@virtual
async def test_a_stop_that_cuts_a_call_off_says_that_its_event_waits_again(disk: Disk):
    bus = recorded_bus(disk.journal)

    async def hangs(event: Event) -> None:
        await asyncio.sleep(1_000.0)

    bus.subscribe("order", hangs, name="a")
    await bus.start()
    await bus.publish(an_order())
    await asyncio.sleep(0.1)
    await bus.stop(timeout_s=1.0)
    (call,) = the_run(disk.journal).calls("a")
    assert call.end == "released"
    assert the_run(disk.journal).has_ended
    handled: list[Any] = []
    async with recorded_bus(disk.journal) as again:
        again.subscribe("order", handled.append, name="a")
        await again.join()
    first, second = runs_of(disk.journal)
    assert [call.places for call in second.calls("a")] == [call.places]
    assert first.last < second.started_at
    assert call.places[0] < second.first  # type: ignore[operator]


@virtual
async def test_publications_are_told_whose_ids_do_not_say_by_whom_they_were_made(disk: Disk):
    async with recorded_bus(disk.journal, max_queue_size=4) as bus:

        async def on_order(event: Event) -> None:
            await bus.publish(a_fill(event_id="exec-1"))  # an id from the broker
            await bus.publish(a_decision())  # a derived one

        async def flood(event: Event) -> None:
            refused.extend([await bus.publish(a_tick(event_id=f"t-{number}")) for number in range(10)])

        async def slow(event: Event) -> None:
            await asyncio.sleep(0.5)

        refused: list[bool] = []
        bus.subscribe("market_data", slow, name="slow", overflow="gate")
        bus.subscribe("order", on_order, name="broker")
        bus.subscribe("decision", flood, name="feed")
        await bus.publish(an_order())
        await bus.join()
    made = the_run(disk.journal).made
    assert (made["exec-1"].subscription, made["exec-1"].was_refused) == ("broker", False)
    assert not any(
        event.event_id in made for event in written(disk.journal) if event.event_type == "decision"
    )
    gone = {f"t-{number}" for number, accepted in enumerate(refused) if not accepted}
    assert gone
    assert {one.event_id for one in made.values() if one.was_refused} == gone
    assert {one.subscription for one in made.values() if one.was_refused} == {"feed"}


# -- crashes, recoveries, other files ------------------------------------------------------------------


@virtual
async def test_publications_that_there_is_no_room_to_note_are_said_to_be_missing(
    disk: Disk, monkeypatch, caplog
):
    monkeypatch.setattr(tape, "NOTES_MOST", 3)
    async with recorded_bus(disk.journal) as bus:

        async def answer(event: Event) -> None:
            for number in range(5):
                bus.publish_nowait(a_tick(event_id=f"own-{number}"))

        bus.subscribe("fill", answer, name="a")
        await bus.publish(a_fill())
        await bus.join()
    (gap,) = the_run(disk.journal).gaps
    assert "2 notes or events are missing" in gap.why
    assert [r.getMessage() for r in caplog.records if "left out" in r.getMessage()] == [
        "more happens than the journal takes: notes of the tape are left out"
    ]


@virtual
async def test_what_a_crash_has_taken_from_the_tape_is_said(disk: Disk):
    bus = recorded_bus(disk.journal)
    bus.subscribe("order", nothing, name="a")
    await bus.start()
    await bus.publish(an_order("o-1"))
    await asyncio.sleep(1.0)
    await bus.publish(an_order("o-2"))
    found = the_run(disk.journal)
    assert places(found, "a") == of_type(found, "order")[:1]
    (gap,) = found.gaps
    assert gap.first <= of_type(found, "order")[1] <= gap.last
    assert "the process died, or the run goes on" in gap.why
    await bus.stop()
    assert the_run(disk.journal).gaps == ()


@virtual
async def test_a_recovery_carries_the_tape_over_and_a_part_that_is_lost_is_missed(tmp_path: Path):
    path = tmp_path / "day.db"
    for key in (None, b"k" * 16):
        journal = SqliteJournal(path, key=key)
        async with recorded_bus(journal) as bus:
            bus.subscribe("*", nothing, name="a")
            for number in range(3):
                await bus.publish(a_tick())
                await bus.publish(an_order(f"o-{number}"))
                await asyncio.sleep(1.0)
        journal.close()
        with JournalReader(path, key=key) as reader:
            assert reader.verify().intact
        whole = Recording(path, key=key)
        recovered = recover_into(path, path.with_suffix(".new"), key=key)
        with Recording(recovered.path, key=key) as again:
            assert again.runs[0].calls() == whole.runs[0].calls()
            assert list(again.runs[0].entries()) == list(whole.runs[0].entries())
            assert again.runs[0].gaps == ()
        whole.close()
        path = tmp_path / "keyed.db"


@virtual
async def test_a_part_of_the_tape_that_is_missing_is_named():
    journal = MemoryJournal()
    async with recorded_bus(journal) as bus:
        bus.subscribe("order", nothing, name="a")
        for number in range(3):
            await bus.publish(an_order(f"o-{number}"))
            await asyncio.sleep(1.0)
    parts = [entry for event, entry in both(journal) if isinstance(event, TapeRecorded)]
    lost = parts[1].position
    journal._batches = [
        [entry for entry in batch if entry.position != lost] for batch in journal._batches if batch
    ]
    journal._batches = [batch for batch in journal._batches if batch]
    run = the_run(journal)
    (gap,) = run.gaps
    assert gap.why == "parts 2 to 2 of the tape are missing"
    assert gap.first == parts[0].position + 1
    assert len(places(run, "a")) < 3


@virtual
async def test_a_journal_that_was_not_recorded_says_that_nothing_is_on_tape(disk: Disk):
    async with a_bus(disk.journal, record="rounds") as bus:
        await bus.publish(an_order())
        await bus.publish(a_tick())
        await bus.join()
    run = the_run(disk.journal)
    assert not run.is_taped
    assert "nothing is on tape" in run.gaps[0].why
    assert run.calls() == []
    assert of_type(run, "market_data") == []
    assert all(entry.at_ns is None for entry in run.entries())


@virtual
async def test_retention_takes_the_tape_away_with_its_entries(disk: Disk):
    async with recorded_bus(disk.journal) as bus:
        bus.subscribe("*", nothing, name="a")
        for tick in ticks(20):
            await bus.publish(tick)
            await asyncio.sleep(0.5)
        await bus.join()
        await bus.flush()
        while disk.journal.retire(keep_count=10):
            pass
        assert floor_of(disk.journal, "a") >= disk.journal.first
    left = [event for event in written(disk.journal) if isinstance(event, TapeRecorded)]
    assert len(left) < 20
    assert runs_of(disk.journal) == ()


@virtual
async def test_the_tape_is_handed_to_nobody_and_counts_in_no_figure(disk: Disk):
    handled: list[Any] = []
    async with recorded_bus(disk.journal) as bus:
        bus.subscribe("*", handled.append, name="a")
        await bus.publish(a_tick())
        await asyncio.sleep(1.0)
        await bus.join()
        assert bus.metrics.published == 1
        assert [event.event_type for event in bus.get_event_history()] == ["market_data"]
    assert [event.event_type for event in handled] == ["market_data"]
    assert "tape_recorded" in RECORDS


@virtual
async def test_a_round_is_the_same_with_and_without_a_recording():
    outcomes: list[Any] = []
    for record in ("rounds", "replay"):
        journal = MemoryJournal()
        async with a_bus(journal, record=record, signal_timeout=1.0) as bus:
            bus.register_signal_agent("a")

            async def on_tick(event: Any, bus: EventBus = bus) -> None:
                await bus.publish_signal(a_signal("a", round_id=event.round_id))

            bus.subscribe("market_data", on_tick, name="a")
            bus.open_round("r")
            await bus.publish(a_tick(round_id="r"))
            outcomes.append(await bus.wait_for_signals("r"))
    one, other = outcomes
    assert (one.status, one.reason, list(one)) == (other.status, other.reason, list(other))


@virtual
async def test_a_whole_day_is_read_by_subscription_and_by_run(tmp_path: Path):
    path = tmp_path / "day.db"
    for life in range(2):
        bus = EventBus(persistence_config=settings(path=path, record="replay"), seed=life)
        bus.subscribe("*", nothing, name="a")
        bus.subscribe("market_data", lambda _: None, name="b", durable=False)
        async with bus:
            await bus.publish_many(ticks(100))
            await bus.publish(an_order(f"o-{life}"))
            assert await bus.recorded("model", partial(str, life)) == str(life)
            await bus.join()
    with Recording(path) as day:
        assert [run.manifest.seed for run in day.runs] == [0, 1]
        for life, run in enumerate(day.runs):
            assert run.gaps == ()
            assert [(one.name, one.answer) for one in run.answers] == [("model", f'"{life}"')]
            assert places(run, "b") == of_type(run, "market_data")
            assert sorted(map(int, places(run, "a"))) == sorted(
                of_type(run, "market_data") + of_type(run, "order")
            )
            calls = run.calls()
            assert calls == sorted(calls, key=lambda call: (call.begun_ns, call.order))
            assert {type(call) for call in calls} == {RecordedCall}
            levels = {entry.level for entry in run.entries()}
            assert levels == {Level.MEMORY, Level.PROCESS}
        assert day.runs[0].last + 1 == day.runs[1].first


@virtual
async def test_a_batch_that_goes_on_after_others_is_told_in_parts(disk: Disk):
    async with recorded_bus(disk.journal) as bus:

        async def on_tick(event: Event) -> None:
            if event.event_id == "t-1":
                await asyncio.sleep(0.5)

        bus.subscribe("market_data", on_tick, name="a")
        bus.subscribe("order", nothing, name="b")
        await bus.publish_many([a_tick() for _ in range(500)])  # so that batches grow
        await bus.join()
        assert await bus.publish_many([a_tick(event_id=f"t-{number}") for number in range(4)]) == 4
        await asyncio.sleep(0.1)
        await bus.publish(an_order())
        await bus.join()
    run = the_run(disk.journal)
    before, after = run.calls("a")[-2:]
    (order,) = run.calls("b")
    ids = {entry.position: entry.event_id for entry in run.entries()}
    assert [[ids[int(place)] for place in call.places] for call in (before, after)] == [
        ["t-0", "t-1"],
        ["t-2", "t-3"],
    ]
    assert before.order < order.order < after.order
    assert after.number - before.number == 2
    assert after.begun_ns - before.begun_ns == 500 * MS
    assert before.ended_ns == after.begun_ns
    assert before.head < order.head <= after.head


@virtual
async def test_what_a_run_commits_before_its_start_is_written_is_of_that_run_also_after_a_crash(disk: Disk):
    bus = recorded_bus(disk.journal)
    bus.subscribe("*", nothing, name="a")
    await bus.start()
    await bus.publish(an_order("o-1"))
    await bus.flush()
    await bus.publish(an_order("o-2"))  # its call is not on the tape when the process dies
    journal = await disk.crash(bus)
    await asyncio.sleep(1.0)
    bus = recorded_bus(journal)
    bus.subscribe("*", nothing, name="a")
    await bus.start()
    await bus.publish(a_tick(event_id="t-1"))
    await bus.publish(an_order("o-3"))
    await bus.join()
    await bus.stop()
    first, second = runs_of(journal)
    assert not first.has_ended
    assert second.has_ended
    assert second.first == first.last + 1 < second.started_at
    ids = [[entry.event_id for entry in run.entries()] for run in (first, second)]
    assert "t-1" in ids[1]
    orders = [
        [e.order_id for e in written(journal) if isinstance(e, OrderEvent) and e.event_id in of] for of in ids
    ]
    assert orders == [["o-1", "o-2"], ["o-3"]]
