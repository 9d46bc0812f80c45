"""Durable events by the hot path, which knows their class already: nothing of the contract is lost (1-3, 14, 16)."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from threading import Thread
from typing import Any

import pytest
from bus_helpers import Gate, a_fill, a_kill, a_tick, an_order, assert_settled, ticks, virtual
from durable_kit import Disk, Faulty, Named, SlowDisk, a_bus, cursor, ids, orders, turns, written, written_ids

from openoutcry import BusClosed, Event, EventBus, InvalidEvent, WrongThread, encode
from openoutcry.errors import JournalDead, JournalFull
from openoutcry.events import encode_many
from openoutcry.journals import MemoryJournal, SqliteJournal
from openoutcry.ports import (
    Alike,
    Carried,
    Changes,
    CheckpointStep,
    CursorState,
    Entry,
    Header,
    Journal,
    Level,
    Written,
)
from openoutcry.runtime.durability.commit import Commit

WARM = "warm"


class Watched(Faulty):
    """A journal that remembers the calls that wrote something."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[Sequence[Entry]] = []

    def write(self, entries: Sequence[Entry], changes: Changes | None = None) -> Written:
        self.batches.append(entries)
        return super().write(entries, changes)


@asynccontextmanager
async def warm_bus(journal: Journal, desk: Any, **fields: Any) -> AsyncIterator[EventBus]:
    """A running bus that has seen an order before, so that the next ones go by the hot path."""
    bus = a_bus(journal, **fields)
    bus.subscribe(["order"], desk.on_event, name="risk")
    await bus.start()
    try:
        await bus.publish(an_order(WARM))
        await bus.join()
        assert bus._admission.fast_path.is_durable(an_order())
        desk.begun.clear()
        desk.handled.clear()
        yield bus
    finally:
        await bus.stop()


# -- what is written and handled ----------------------------------------------------------------------


@virtual
async def test_a_list_is_one_commit_in_its_order(disk: Disk):
    desk, some = Named("risk"), orders(500)
    async with warm_bus(disk.journal, desk) as bus:
        assert await bus.publish_many(some) == 500
        await bus.join()
        assert desk.ids == ids(some) == written_ids(disk.journal)[1:]
        assert written(disk.journal)[1:] == some
        assert_settled(bus)


@virtual
async def test_a_list_is_written_without_an_entry_for_each_event():
    journal, desk = Watched(), Named("risk")
    async with warm_bus(journal, desk) as bus:
        await bus.publish_many(orders(500))
        alike = [batch for batch in journal.batches if isinstance(batch, Alike) and len(batch) == 500]
        assert len(alike) == 1


@virtual
async def test_a_list_longer_than_the_credit_is_accepted_whole_in_few_commits():
    journal, desk, some = Watched(), Named("risk"), orders(5_000)
    async with warm_bus(journal, desk) as bus:
        assert await bus.publish_many(some) == 5_000
        await bus.join()
        assert desk.ids == ids(some)
        assert sum(len(batch) > 0 for batch in journal.batches) <= 8


@virtual
async def test_publishers_of_one_turn_share_a_commit(disk: Disk):
    desk, some = Named("risk"), orders(100)
    async with warm_bus(disk.journal, desk) as bus:
        head = disk.journal.head
        assert all(await asyncio.gather(*[bus.publish(order) for order in some]))
        assert disk.journal.head == head + 100
        await bus.join()
        assert desk.ids == ids(some)


@virtual
async def test_a_publisher_goes_on_in_the_turn_of_its_commit_and_the_handler_follows(disk: Disk):
    desk, order = Named("risk"), an_order()
    async with warm_bus(disk.journal, desk) as bus:
        head, publishing = disk.journal.head, asyncio.create_task(bus.publish(order))
        await turns(1)
        assert disk.journal.head == head, "whoever publishes in this turn shares its commit"
        await turns(1)
        assert disk.journal.head == head + 1
        assert publishing.done()
        assert await publishing
        assert desk.begun == []
        await bus.join()
        assert desk.ids == [order.event_id]


@virtual
async def test_a_publisher_that_is_cancelled_in_the_turn_of_its_commit_leaves_its_event_whole(disk: Disk):
    desk, order = Named("risk"), an_order()
    async with warm_bus(disk.journal, desk) as bus:
        publishing = asyncio.create_task(bus.publish(order))
        await turns(1)
        publishing.cancel()
        await turns(2)
        assert publishing.cancelled()
        assert await bus.publish(order)
        await bus.join()
        assert desk.ids == [order.event_id]
        assert_settled(bus)


@virtual
async def test_many_publishers_at_a_small_queue_go_on_behind_the_handler_and_do_not_fill_it(
    disk: Disk,
):
    desk, some = Named("risk"), orders(4)
    async with warm_bus(disk.journal, desk, max_queue_size=10) as bus:
        head, publishing = disk.journal.head, [asyncio.create_task(bus.publish(order)) for order in some]
        await turns(2)
        assert disk.journal.head == head + 4
        assert not any(task.done() for task in publishing)
        await turns(1)
        assert all(task.done() for task in publishing)
        assert desk.begun[0] is some[0]
        await bus.join()


@pytest.mark.parametrize("publishers", [5, 9])
@virtual
async def test_publishers_who_each_await_their_own_are_not_refused_while_the_handler_keeps_up(
    publishers: int,
):
    desk, journal = Named("risk"), MemoryJournal()
    async with warm_bus(journal, desk, max_queue_size=10) as bus:

        async def publish(some: list[Any]) -> None:
            for order in some:
                assert await bus.publish(order)

        await asyncio.gather(*[publish(orders(20)) for _ in range(publishers)])
        await bus.join()
        assert len(desk.ids) == 20 * publishers
        assert bus.metrics.refused == {}


@virtual
async def test_publishers_who_find_the_credit_used_up_share_one_look(monkeypatch: pytest.MonkeyPatch):
    desk, journal = Named("risk"), MemoryJournal()
    async with warm_bus(journal, desk, max_queue_size=1_000) as bus:
        carefully: list[Any] = []
        look = bus._admission._look

        def looked_at(event: Any, *rest: Any, **options: Any) -> Any:
            carefully.append(event)
            return look(event, *rest, **options)

        monkeypatch.setattr(bus._admission, "_look", looked_at)

        async def publish(some: list[Any]) -> None:
            for order in some:
                assert await bus.publish(order)

        await asyncio.gather(*[publish(orders(60)) for _ in range(40)])
        await bus.join()
        assert len(desk.ids) == 2_400
        assert not carefully


@virtual
async def test_what_goes_by_the_hot_path_and_what_does_not_keep_their_order():
    class Memo(Event, frozen=True, kw_only=True):  # type: ignore[misc]
        event_type: str = "fast_path_memo"

    journal, desk = MemoryJournal(), Named("risk")
    bus = a_bus(journal)
    bus.subscribe(["order", "fast_path_memo"], desk.on_event, name="risk")
    async with bus:
        await bus.publish(an_order(WARM))
        some: list[Any] = [an_order("o-1"), Memo(), an_order("o-2"), Memo(), an_order("o-3")]
        await asyncio.gather(*[bus.publish(event) for event in some])
        await bus.join()
        assert desk.ids[1:] == ids(some) == written_ids(journal)[1:]


@virtual
async def test_levels_of_one_commit_are_each_kept():
    class Memo(Event, frozen=True, kw_only=True):  # type: ignore[misc]
        event_type: str = "fast_path_disk_memo"

    journal, desk = Watched(), Named("risk")
    async with warm_bus(journal, desk, levels={"fast_path_disk_memo": "disk"}) as bus:
        await bus.publish(Memo())
        syncs = journal.calls["sync"]
        await asyncio.gather(bus.publish(an_order("o-1")), bus.publish(Memo()), bus.publish(an_order("o-2")))
        assert [entry.level for entry in journal.batches[-1]] == [Level.PROCESS, Level.DISK, Level.PROCESS]
        assert journal.calls["sync"] == syncs + 1
        await bus.publish_many([an_order("o-3"), Memo()])
        assert [entry.level for entry in journal.batches[-1]] == [Level.PROCESS, Level.DISK]
        await bus.publish_many(orders(2, 4))
        assert journal.calls["sync"] == syncs + 2


@virtual
async def test_no_handler_sees_a_listed_event_before_its_sync_has_returned():
    journal, desk = SlowDisk(), Named("risk")
    journal.let_go()
    async with warm_bus(journal, desk, level="disk", sync="thread") as bus:
        journal.gate.clear()
        publishing = asyncio.create_task(bus.publish_many(orders(10)))
        await turns(20)
        assert journal.head == 11
        assert desk.begun == []
        assert not publishing.done()
        journal.let_go()
        assert await publishing == 10
        await bus.join()
        assert len(desk.handled) == 10


@virtual
async def test_what_handlers_publish_is_stamped_with_its_cause_before_it_is_written(disk: Disk):
    journal = disk.journal
    bus = a_bus(journal)
    made: list[Any] = []

    async def strategy(tick: Any) -> None:
        made.append(an_order(f"by-{tick.price}"))
        if tick.price == 1.0:
            await bus.publish(made[-1])
        else:
            await bus.publish_many([made[-1]])

    bus.subscribe("market_data", strategy, name="strategy")
    async with bus:
        await bus.publish(an_order(WARM))
        some = ticks(2)
        await bus.publish_many(some)
        await bus.join()
        assert [event.causation_id for event in written(journal)[1:]] == ids(some)
        assert [event.causation_id for event in made] == ids(some)


# -- identity -----------------------------------------------------------------------------------------


@virtual
async def test_a_duplicate_inside_of_a_list_is_delivered_once_and_counted(disk: Disk):
    desk = Named("risk")
    one, two = orders(2)
    async with warm_bus(disk.journal, desk) as bus:
        assert await bus.publish_many([one, two, one]) == 3
        await bus.join()
        assert desk.ids == ids([one, two])
        assert bus.metrics.duplicates == 1


@virtual
async def test_publishing_again_what_waits_for_its_commit_waits_for_the_same_one():
    journal, desk = SlowDisk(), Named("risk")
    journal.let_go()
    async with warm_bus(journal, desk, level="disk", sync="thread") as bus:
        journal.gate.clear()
        order = an_order()
        first = asyncio.create_task(bus.publish(order))
        await turns(5)
        second = asyncio.create_task(bus.publish(order))
        await turns(5)
        assert not second.done()
        journal.let_go()
        assert await first
        assert await second
        await bus.join()
        assert desk.ids == [order.event_id]


@virtual
async def test_a_higher_level_that_is_asked_for_an_event_that_waits_is_reached():
    journal, desk, order = Watched(), Named("risk"), an_order()
    async with warm_bus(journal, desk) as bus:
        syncs = journal.calls["sync"]
        await asyncio.gather(bus.publish(order), bus.publish(order, level="disk"))
        assert journal.calls["sync"] == syncs + 1
        assert journal.synced == journal.head == 2


@virtual
async def test_an_id_that_only_the_journal_remembers_is_not_delivered_again(disk: Disk):
    desk, some = Named("risk"), orders(40)
    async with warm_bus(disk.journal, desk, dedup_window=10) as bus:
        await bus.publish_many(some)
        await bus.join()
        for _ in range(3):
            await bus.publish_many(ticks(20))
            await bus.join()
        head = disk.journal.head
        assert await bus.publish(some[3])
        assert await bus.publish_many([*some[:20], an_order("new")]) == 21
        await bus.join()
        assert disk.journal.head == head + 1
        assert len(desk.handled) == 41


@virtual
async def test_other_content_under_an_old_id_is_reported_and_the_first_stands(
    disk: Disk, caplog: pytest.LogCaptureFixture
):
    desk, order = Named("risk"), an_order("first", event_id="the-id")
    async with warm_bus(disk.journal, desk, dedup_window=1) as bus:
        await bus.publish(order)
        for number in range(4):
            await bus.publish_many(orders(2, 10 * number))
            await bus.join()
        with caplog.at_level(logging.WARNING):
            assert await bus.publish_many([an_order("other", event_id="the-id"), an_order("new")]) == 2
        assert "was accepted before with other content" in caplog.text
        assert [e.order_id for e in written(disk.journal) if e.event_id == "the-id"] == ["first"]


# -- what is kept out ---------------------------------------------------------------------------------


@virtual
async def test_a_refused_commit_forgets_the_ids_of_its_list():
    journal, desk, some = Watched(), Named("risk"), orders(50)
    async with warm_bus(journal, desk) as bus:
        journal.fail_next("write", JournalFull("no room"))
        with pytest.raises(JournalFull):
            await bus.publish_many(some)
        await bus.join()
        assert desk.begun == []
        assert bus.queue_size == 0
        assert await bus.publish_many(some) == 50
        await bus.join()
        assert desk.ids == ids(some)
        assert bus.metrics.duplicates == 0
        assert_settled(bus)


@virtual
async def test_a_refused_commit_is_refused_to_every_publisher_that_shared_it():
    journal, desk, some = Watched(), Named("risk"), orders(20)
    async with warm_bus(journal, desk) as bus:
        journal.fail_next("write", JournalFull("no room"))
        answers = await asyncio.gather(*[bus.publish(order) for order in some], return_exceptions=True)
        assert {type(answer) for answer in answers} == {JournalFull}
        assert all(await asyncio.gather(*[bus.publish(order) for order in some]))
        await bus.join()
        assert desk.ids == ids(some)


@virtual
async def test_a_dead_journal_refuses_by_the_hot_path_too():
    journal, desk = Watched(), Named("risk")
    async with warm_bus(journal, desk) as bus:
        journal.fail_next("write", JournalDead("gone"))
        for publishing in (bus.publish(an_order()), bus.publish_many(orders(3))):
            with pytest.raises(JournalDead):
                await publishing
        assert desk.begun == []
        assert await bus.publish_many(ticks(3)) == 3


@virtual
async def test_a_cancelled_publisher_leaves_its_event_whole():
    journal, desk, some = SlowDisk(), Named("risk"), orders(3)
    journal.let_go()
    async with warm_bus(journal, desk, level="disk", sync="thread") as bus:
        journal.gate.clear()
        tasks = [asyncio.create_task(bus.publish(order)) for order in some]
        await turns(10)
        tasks[1].cancel()
        await turns(5)
        assert tasks[1].cancelled()
        journal.let_go()
        assert await tasks[0]
        assert await tasks[2]
        assert await bus.publish(some[1])
        await bus.join()
        assert desk.ids == ids(some)


@virtual
async def test_an_event_of_a_list_that_cannot_be_written_raises_and_those_before_it_are_in():
    class Note(Event, frozen=True, kw_only=True):  # type: ignore[misc]
        event_type: str = "fast_path_note"
        content: Any = None

    journal, desk = MemoryJournal(), Named("risk")
    bus = a_bus(journal)
    bus.subscribe("fast_path_note", desk.on_event, name="risk")
    async with bus:
        await bus.publish(Note())
        some = [Note(content=1), Note(content=object()), Note(content=2)]
        with pytest.raises(InvalidEvent):
            await bus.publish_many(some)
        with pytest.raises(InvalidEvent):
            await bus.publish(some[1])
        await bus.join()
        assert desk.ids[1:] == [some[0].event_id]
        assert await bus.publish_many([some[2]]) == 1


@virtual
async def test_the_room_stays_bounded():
    gate, some = Gate(), orders(100)
    bus = a_bus(MemoryJournal(), max_queue_size=20)
    bus.subscribe("order", gate.on_event, name="risk")
    async with bus:
        await bus.publish(an_order(WARM))
        taken = await bus.publish_many(some)
        assert taken < 20
        assert bus.queue_size <= 20
        assert bus.metrics.peak_queue_size <= 20
        gate.open()
        await bus.join()
        assert ids(gate.handled[1:]) == ids(some[:taken])


@virtual
async def test_a_kill_switch_overtakes_a_list_that_waits_for_the_disk():
    journal, desk, seen = SlowDisk(), Named("risk"), []
    journal.let_go()
    async with warm_bus(journal, desk, level="disk", sync="thread") as bus:
        bus.subscribe("kill_switch", lambda event: seen.append(len(desk.begun)), name="killed")
        journal.gate.clear()
        publishing = asyncio.create_task(bus.publish_many(orders(10)))
        await turns(10)
        killing = asyncio.create_task(bus.publish(a_kill()))
        await turns(10)
        assert seen == [0]
        journal.let_go()
        assert await publishing == 10
        assert await killing


@virtual
async def test_a_kill_switch_in_the_same_commit_is_no_ordinary_entry(disk: Disk):
    desk = Named("risk")
    async with warm_bus(disk.journal, desk) as bus:
        kill, some = a_kill(), orders(5)
        publishing = asyncio.gather(
            *[bus.publish(e) for e in some[:3]], bus.publish(kill), bus.publish_many(some[3:])
        )
        await publishing
        await bus.join()
        assert desk.ids == ids(some)
        stored = disk.journal.read(1, 100)
        assert [e.lane for e in stored] == ["normal"] * 3 + ["control"] + ["normal"] * 2
        assert_settled(bus)


@virtual
async def test_other_threads_and_a_stopped_bus_are_refused_as_ever():
    desk, errors = Named("risk"), []

    def elsewhere(publishing: Any) -> None:
        try:
            while True:
                publishing.send(None)
        except WrongThread as error:
            errors.append(error)

    async with warm_bus(MemoryJournal(), desk) as bus:
        for publishing in (bus.publish(an_order()), bus.publish_many(orders(2))):
            thread = Thread(target=elsewhere, args=(publishing,))
            thread.start()
            thread.join()
        assert len(errors) == 2
    with pytest.raises(BusClosed):
        await bus.publish(an_order())
    with pytest.raises(BusClosed):
        await bus.publish_many(orders(2))
    assert desk.begun == []


@virtual
async def test_a_bus_that_is_started_again_writes_to_its_new_store():
    journal, desk, some = MemoryJournal(), Named("risk"), orders(6)
    async with warm_bus(journal, desk) as bus:
        await bus.publish_many(some[:3])
        await bus.stop()
        await bus.start()
        await bus.publish_many(some[3:])
        await bus.join()
        assert desk.ids == ids(some) == written_ids(journal)[1:]


# -- recovery by pages --------------------------------------------------------------------------------


def pending(journal: Journal, events: Sequence[Any], floors: dict[str, int]) -> None:
    """Write events that subscriptions of these names have settled up to these positions."""
    states = [CursorState(subscription=name, lane="normal", floor=at) for name, at in floors.items()]
    journal.write((), Changes(cursors=states))
    for start in range(0, len(events), 100):
        journal.write([Entry(e.event_id, encode(e)) for e in events[start : start + 100]])


@virtual
async def test_whole_pages_are_handed_out_in_order_to_who_has_not_settled_them(disk: Disk):
    some = orders(2_000)
    pending(disk.journal, some, {"all": 0, "rest": 700, "fills": 0})
    every, rest, fills = Named("all"), Named("rest"), Named("fills")
    bus = a_bus(disk.journal)
    bus.subscribe("order", every.on_event, name="all")
    bus.subscribe("order", rest.on_event, name="rest")
    bus.subscribe("fill", fills.on_event, name="fills")
    async with bus:
        new = orders(3, 3_000)
        await bus.publish_many(new)
        await bus.join()
        assert every.ids == ids([*some, *new])
        assert rest.ids == ids([*some[700:], *new])
        assert fills.ids == []
        await bus.flush()
        assert {cursor(disk.journal, name).floor for name in ("all", "rest", "fills")} == {2_003}


@virtual
async def test_a_crash_in_the_middle_of_a_page_redelivers_from_there(disk: Disk):
    some = orders(600)
    pending(disk.journal, some, {"risk": 0})
    gate = Gate()
    bus = a_bus(disk.journal)
    bus.subscribe("order", gate.on_event, name="risk")
    await bus.start()
    await turns(5)
    assert ids(gate.begun) == ids(some[:1])
    journal = await disk.crash(bus)
    assert [(s.position, s.crashes) for s in journal.suspects()] == [(1, 1)]
    desk = Named("risk")
    bus = a_bus(journal)
    bus.subscribe("order", desk.on_event, name="risk")
    async with bus:
        await bus.join()
        assert desk.ids == ids(some)
    assert cursor(journal, "risk").floor == 600


@virtual
async def test_pages_with_something_else_in_them_are_looked_at_entry_by_entry(disk: Disk):
    some = [event for number in range(300) for event in (an_order(f"o-{number}"), a_fill(f"o-{number}"))]
    pending(disk.journal, some, {"orders": 0, "both": 0})
    only, both = Named("orders"), Named("both")
    bus = a_bus(disk.journal)
    bus.subscribe("order", only.on_event, name="orders")
    bus.subscribe(["order", "fill"], both.on_event, name="both")
    async with bus:
        await bus.join()
        assert only.ids == ids(some[::2])
        assert both.ids == ids(some)


# -- beside the hot path ------------------------------------------------------------------------------


@virtual
async def test_events_that_are_not_in_the_journal_cost_it_nothing():
    journal, desk = Watched(), Named("risk")
    bus = a_bus(journal)
    bus.subscribe("market_data", desk.on_event, name="risk")
    async with bus:
        await bus.publish(a_tick())
        await bus.join()
        await asyncio.sleep(2.0)
        calls = journal.calls["write"]
        for _ in range(5):
            await bus.publish_many(ticks(1_000))
            await bus.join()
        await asyncio.sleep(2.0)
        assert journal.calls["write"] == calls


@pytest.mark.parametrize("is_coroutine", [True, False])
@virtual
async def test_the_mark_is_that_of_the_event_in_the_handler(is_coroutine: bool):
    journal, some = MemoryJournal(), orders(300)
    marked: list[int] = []
    bus = a_bus(journal)

    def plain(event: Any) -> None:
        marked.append(max(journal.marks.cells))

    async def coroutine(event: Any) -> None:
        marked.append(max(journal.marks.cells))

    bus.subscribe("order", coroutine if is_coroutine else plain, name="risk")
    async with bus:
        await bus.publish(an_order(WARM))
        for chunk in (some[:10], some[10:150], some[150:]):
            await bus.publish_many(chunk)
        await bus.join()
        assert marked == list(range(1, 302))
        assert max(journal.marks.cells) == 0


def test_encoding_many_is_encoding_each(caplog: pytest.LogCaptureFixture):
    some = [*orders(3), a_fill(), a_tick()]
    assert encode_many(some) == [encode(event) for event in some]
    assert encode_many([]) == []
    with pytest.raises(InvalidEvent):
        encode_many([*some, object()])


@pytest.mark.parametrize("engine", ["sqlite3", "apsw"])
def test_reading_waits_for_a_checkpoint_in_another_thread(tmp_path: Any, engine: Any):
    pytest.importorskip(engine)
    with SqliteJournal(tmp_path / "a.db", engine=engine) as journal:
        for batch in range(40):
            some = orders(100, 100 * batch)
            journal.write([Entry(event.event_id, encode(event) + b" " * 1_000) for event in some])
        found: list[int] = []
        step: CheckpointStep | None = journal.begin_checkpoint()
        while step is not None:
            thread = Thread(target=step.perform)
            thread.start()
            found = [len(journal.read(after, 100)) for after in range(0, 4_000, 100)]
            thread.join()
            step = journal.end_checkpoint(step)
        assert found == [100] * 40
        assert journal.write([Entry("new", b'{"event_id":"new"}')]).positions == range(4_001, 4_002)


def test_entries_that_are_alike_are_entries_like_others(tmp_path: Any):
    payloads = [b'{"event_class":"Event","event_id":"%d","event_type":"x"}' % n for n in range(5)]
    alike = Alike([str(n) for n in range(5)], payloads, Level.DISK, 7)
    entries = [Entry(str(n), payloads[n], "normal", Level.DISK, 7) for n in range(5)]
    assert list(alike) == alike[:] == entries
    assert (alike[-1], alike[1:3], len(alike)) == (entries[-1], entries[1:3], 5)
    with (
        SqliteJournal(tmp_path / "a.db", engine="sqlite3") as one,
        SqliteJournal(tmp_path / "b.db", engine="sqlite3") as other,
    ):
        assert one.write(alike) == other.write(entries)
        assert one.write(alike[:1]) == other.write(entries[:1])
        assert one.read(0, 10) == other.read(0, 10)
        assert one.anchor.checksum == other.anchor.checksum
    assert [payload[:1] for payload in payloads] == [b"{"] * 5


@pytest.mark.parametrize("levels", [[Level.PROCESS] * 5, [Level.PROCESS, Level.DISK, *[Level.PROCESS] * 3]])
@pytest.mark.parametrize("walls_ns", [[7] * 5, [9, 9, 3, 9, 12]])
def test_entries_of_another_desk_are_written_as_entries_like_others(
    tmp_path: Any, levels: Any, walls_ns: Any
):
    payloads = [b'{"event_class":"Event","event_id":"%d","event_type":"x"}' % n for n in range(5)]
    header = Header(desk="floor")
    carried = Carried([str(n) for n in range(5)], payloads, levels, walls_ns, header)
    entries = [Entry(str(n), payloads[n], "normal", levels[n], walls_ns[n], header) for n in range(5)]
    assert list(carried) == list(carried[:]) == entries
    assert (carried[-1], list(carried[1:3]), len(carried)) == (entries[-1], entries[1:3], 5)
    with (
        SqliteJournal(tmp_path / "a.db", engine="sqlite3") as one,
        SqliteJournal(tmp_path / "b.db", engine="sqlite3") as other,
    ):
        assert one.write(carried[:1]) == other.write(entries[:1])
        assert one.write(carried) == other.write(entries)
        assert one.read(0, 10) == other.read(0, 10)
        assert one.anchor.checksum == other.anchor.checksum


@pytest.mark.parametrize("is_first", [True, False])
def test_what_other_desks_have_made_may_share_a_commit_with_what_is_made_here(is_first: bool):
    header, own = Header(desk="floor"), Entry("own", b"{}", "high", Level.DISK, 5)
    carried = Carried(["a", "b"], [b"{}", b"[]"], [Level.PROCESS] * 2, [1, 2], header)
    commit = Commit(0, 3)
    if is_first:
        commit.add_carried([None, None], carried)
        commit.add("own", own)
        commit.add_alike([None], ["here"], [b"{}"], Level.PROCESS)
    else:
        commit.add_alike([None], ["here"], [b"{}"], Level.PROCESS)
        commit.add_carried([None, None], carried)
        commit.add("own", own)
    here = Entry("here", b"{}", "normal", Level.PROCESS, 3)
    assert list(commit.entries or ()) == ([*carried, own, here] if is_first else [here, *carried, own])
    assert (len(carried), commit.imported, len(commit.ids)) == (2, 2, 4)
    commit.withdraw()
    assert len(commit.entries or ()) == len(commit.ids) == len(commit.events) == 3
