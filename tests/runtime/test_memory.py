"""Agents that remember: what a restarted subscription is given back, and what it is told otherwise (CONTRACT 32)."""

import asyncio
import gc
import weakref
from typing import Any, ClassVar

import pytest
from bus_helpers import Desk, Failing, a_decision, a_fill, a_kill, a_tick, an_order, virtual
from durable_kit import Disk, Named, a_bus, orders, turns

from openoutcry import (
    BusClosed,
    Conflate,
    Event,
    EventBus,
    EventBusHealthStatus,
    Memory,
    RestoreFailed,
    SubscriptionError,
)
from openoutcry.errors import PublishError
from openoutcry.journals import MemoryJournal


class Book:
    """An agent whose state is the list of what it has handled."""

    def __init__(self, fails: Any = lambda event: False) -> None:
        self.seen: list[str] = []
        self.folded: list[str] = []
        self.fails = fails
        self.flaw: Exception | None = None

    async def on_event(self, event: Any) -> None:
        if self.fails(event):
            raise ValueError("no")
        self.seen.append(event.event_id)

    def fold(self, event: Any) -> None:
        self.seen.append(event.event_id)
        self.folded.append(event.event_id)

    def save(self) -> Any:
        return self.seen

    def load(self, state: Any) -> None:
        self.seen = list(state)


def keeps(bus: EventBus, book: Book, types: Any = "order", name: str = "book", **fields: Any) -> Any:
    memory = Memory(book.fold, book.save, book.load) if fields.pop("saves", False) else None
    return bus.subscribe(types, book.on_event, name=name, memory=memory or Memory(book.fold, **fields))


def names(events: Any) -> list[str]:
    return [event.event_id for event in events]


async def a_life(journal: Any, events: Any, book: Book, types: Any = "order", **fields: Any) -> None:
    """Start, publish, let everything be handled, stop."""
    async with a_bus(journal) as bus:
        keeps(bus, book, types, **fields)
        await bus.publish_many(list(events))
        await bus.join()


@virtual
async def test_a_memory_is_what_the_name_has_handled_in_the_order_of_the_journal(disk: Disk):
    batch = [an_order("1"), a_fill("1"), an_order("2"), a_decision(), a_fill("2")]
    first = Book()
    async with a_bus(disk.journal) as bus:
        keeps(bus, first, ["order", "fill"])
        for event in batch:
            await bus.publish(event)
            await bus.join()
    again = Book()
    async with a_bus(disk.restarted()) as bus:
        subscription = keeps(bus, again, ["order", "fill"])
        await subscription.ready()
        assert again.folded == names(e for e in batch if e.event_type != "decision")


@virtual
async def test_a_new_name_remembers_nothing_and_later_only_what_it_has_handled(disk: Disk):
    early, late = orders(3), orders(2, first=10)
    await a_life(disk.journal, early, Book())
    for life in range(3):
        newcomer, old = Book(), Book()
        bus = a_bus(disk.restarted())
        keeps(bus, old)
        keeps(bus, newcomer, name="newcomer")
        async with bus:
            expected = names(late) if life else []
            assert (life, newcomer.folded) == (life, expected)
            if life == 0:
                await bus.publish_many(late)
                await bus.join()
        assert old.seen == names(early + late)


@virtual
async def test_nothing_that_was_buried_is_remembered_also_when_its_letter_was_dropped(disk: Disk):
    events = orders(6)
    bad = {events[1].event_id, events[4].event_id}
    first = Book(fails=lambda event: event.event_id in bad)
    bus = a_bus(disk.journal)
    bus.subscribe("order", first.on_event, name="book", retry=False, memory=Memory(first.fold))
    async with bus:
        await bus.publish_many(events)
        await bus.join()
        [one, other] = bus.dead_letters("book")
        assert bus.admin.drop_dead_letters("book", letter_ids=[one.letter_id]) == 1
    for _ in range(2):
        again = Book()
        bus = a_bus(disk.restarted())
        keeps(bus, again)
        async with bus:
            assert again.folded == [i for i in names(events) if i not in bad]
    async with bus:
        assert bus.admin.redrive("book") == 1
        await bus.join()
    assert other.event.event_id in again.seen
    last = Book()
    bus = a_bus(disk.restarted())
    keeps(bus, last)
    async with bus:
        assert last.folded == [i for i in names(events) if i != events[1].event_id]


@virtual
async def test_a_letter_dropped_in_the_turn_before_the_memory_is_restored_is_not_folded(disk: Disk):
    events = orders(3)
    bad = Book(fails=lambda event: event.event_id == events[1].event_id)
    bus = a_bus(disk.journal)
    bus.subscribe("order", bad.on_event, name="book", retry=False, memory=Memory(bad.fold))
    async with bus:
        await bus.publish_many(events)
        await bus.join()
    again = Book()
    async with a_bus(disk.restarted()) as bus:
        bus.admin.drop_dead_letters("book")
        await keeps(bus, again).ready()
        assert again.folded == [events[0].event_id, events[2].event_id]


@virtual
async def test_what_a_name_did_not_take_when_it_passed_is_not_remembered(disk: Disk):
    first, second = [an_order("1"), a_fill("1")], [an_order("2"), a_fill("2")]
    await a_life(disk.journal, first, Book())
    await a_life(disk.restarted(), second, Book(), ["order", "fill"])
    third = [an_order("3"), a_fill("3")]
    book = Book()
    bus = a_bus(disk.restarted())
    keeps(bus, book, "fill")
    async with bus:
        assert book.folded == names([first[0], *second])
        await bus.publish_many(third)
        await bus.join()
    last = Book()
    bus = a_bus(disk.restarted())
    keeps(bus, last, ["order", "fill"])
    async with bus:
        assert sorted(last.folded) == sorted(names([first[0], *second, third[1]]))


@virtual
async def test_types_taken_and_given_up_while_the_bus_runs_are_remembered_for_that_time(disk: Disk):
    book, sent = Book(), [an_order(str(n)) if n % 2 else a_fill(str(n)) for n in range(8)]
    bus = a_bus(disk.journal)
    subscription = keeps(bus, book)
    async with bus:
        await bus.publish_many(sent[:2])
        await bus.join()
        bus.subscribe("fill", book.on_event)
        await bus.publish_many(sent[2:4])
        await bus.join()
        subscription.pause()
        await bus.publish_many(sent[4:6])
        bus.unsubscribe("order", book.on_event)
        subscription.resume()
        await bus.publish_many(sent[6:])
        await bus.join()
    again = Book()
    bus = a_bus(disk.restarted())
    keeps(bus, again, "fill")
    async with bus:
        assert sorted(again.folded) == sorted(book.seen)
        assert len(book.seen) == 5


class Held(Book):
    """A book whose calls for some events wait for a word."""

    def __init__(self, *held: str) -> None:
        super().__init__()
        self.held, self.word = held, asyncio.Event()

    async def on_event(self, event: Any) -> None:
        if event.event_id in self.held:
            await self.word.wait()
        await super().on_event(event)


@virtual
@pytest.mark.parametrize("crashes", [False, True])
async def test_a_type_that_is_taken_during_a_call_is_not_remembered_from_before(disk: Disk, crashes: bool):
    sent = [an_order("1"), a_fill("1"), a_fill("2")]
    book = Held(sent[0].event_id)
    bus = a_bus(disk.journal)
    keeps(bus, book)
    await bus.start()
    await bus.publish_many(sent[:2])
    await turns()
    bus.subscribe("fill", book.on_event)
    await bus.publish(sent[2])
    await bus.flush()
    if crashes:
        journal = await disk.crash(bus)
    else:
        book.word.set()
        await bus.stop()
        journal = disk.restarted()
    again = Book()
    bus = a_bus(journal)
    keeps(bus, again, ["order", "fill"])
    async with bus:
        await bus.join()
        assert sorted(again.seen) == names([sent[0], sent[2]])
    last = Book()
    async with a_bus(disk.restarted()) as bus:
        await keeps(bus, last, ["order", "fill"]).ready()
        assert last.folded == names([sent[0], sent[2]])


@virtual
@pytest.mark.parametrize("crashes", [False, True])
async def test_what_is_in_a_call_when_its_type_is_given_up_is_remembered_if_it_was_handled(
    disk: Disk, crashes: bool
):
    sent = [a_fill("1"), a_fill("2"), a_fill("3"), an_order("1")]
    book = Held(sent[1].event_id)
    bus = a_bus(disk.journal)
    keeps(bus, book, ["order", "fill"])
    await bus.start()
    await bus.publish_many(sent[:3])
    await turns()
    bus.unsubscribe("fill", book.on_event)
    await bus.flush()
    if crashes:
        journal = await disk.crash(bus)
    else:
        book.word.set()
        await bus.publish(sent[3])
        await bus.stop()
        journal = disk.restarted()
    again = Book()
    bus = a_bus(journal)
    keeps(bus, again)
    async with bus:
        await bus.join()
        assert again.seen == names(sent[:1] if crashes else [sent[0], sent[1], sent[3]])


@virtual
@pytest.mark.parametrize("error", [asyncio.CancelledError(), SystemExit(1), GeneratorExit()])
async def test_whatever_a_fold_lets_out_is_its_failure(disk: Disk, error: BaseException):
    await a_life(disk.journal, [an_order("1")], Book())

    def fold(event: Any) -> None:
        raise error

    async with a_bus(disk.restarted()) as bus:
        subscription = bus.subscribe("order", Desk().on_event, name="book", restore=fold)
        with pytest.raises(RestoreFailed, match=type(error).__name__):
            await subscription.ready()


@virtual
async def test_a_name_that_was_ended_and_made_again_begins_with_nothing(disk: Disk):
    book = Book()
    async with a_bus(disk.journal) as bus:
        keeps(bus, book)
        await bus.publish_many(orders(3))
        await bus.join()
        bus.unsubscribe("order", book.on_event)
    again = Book()
    bus = a_bus(disk.restarted())
    keeps(bus, again)
    async with bus:
        assert again.folded == []


@virtual
async def test_a_renamed_name_takes_its_memory_along_and_a_dropped_one_loses_it(disk: Disk):
    events, more = orders(4), orders(2, first=9)
    bad = Book(fails=lambda event: event.event_id == events[2].event_id)
    bus = a_bus(disk.journal)
    bus.subscribe("order", bad.on_event, name="book", retry=False, memory=Memory(bad.fold))
    async with bus:
        await bus.publish_many(events)
        await bus.join()
        bus.admin.drop_dead_letters()
    kept = names([events[0], events[1], events[3]])
    renamed = Book()
    async with a_bus(disk.restarted()) as bus:
        await bus.admin.reassign_cursor("book", "ledger")
        await keeps(bus, renamed, name="ledger").ready()
        assert renamed.folded == kept
        await bus.publish_many(more)
        await bus.join()
    again = Book()
    bus = a_bus(disk.restarted())
    keeps(bus, again, name="ledger")
    async with bus:
        assert again.folded == kept + names(more)
    async with a_bus(disk.restarted()) as bus:
        await bus.admin.drop_cursor("ledger")
        dropped = Book()
        await keeps(bus, dropped, name="ledger").ready()
        assert dropped.folded == []


@virtual
async def test_a_memory_that_is_made_later_is_restored_while_everybody_goes_on(disk: Disk):
    await a_life(disk.journal, orders(3_000), Book())
    waiting = orders(2, first=9_000)
    async with a_bus(disk.restarted()) as bus:
        other = Desk()
        bus.subscribe(["market_data", "kill_switch"], other.on_event)
        await bus.publish_many(waiting)
        again = Book()
        subscription = keeps(bus, again, ["order", "kill_switch"])
        assert subscription.state() == "restoring"
        kill = a_kill()
        seen: list[int] = []
        while subscription.state() == "restoring":
            await bus.publish(a_tick())
            if not seen:
                await bus.publish(kill)
            await asyncio.sleep(0)
            seen.append(len(again.folded))
        assert len(set(seen)) > 5
        assert len(other.handled) >= len(seen)
        assert again.seen.index(kill.event_id) < 3_000  # it did not wait for the rest
        await subscription.ready()
        await bus.join()
        assert len(again.folded) == 3_000
        assert again.seen[-2:] == names(waiting)


@virtual
async def test_publishers_do_not_wait_while_the_start_restores(disk: Disk):
    await a_life(disk.journal, orders(2_000), Book())
    bus, book = a_bus(disk.restarted()), Book()
    keeps(bus, book)
    starting = asyncio.create_task(bus.start())
    await turns()
    assert bus.is_running
    assert not starting.done()
    new = an_order("new")
    assert await bus.publish(new)
    assert await bus.publish(a_tick())
    await starting
    assert len(book.folded) == 2_000
    await bus.join()
    assert book.seen[-1] == new.event_id
    await bus.stop()


@virtual
async def test_join_waits_for_a_memory_and_for_what_waits_behind_it(disk: Disk):
    await a_life(disk.journal, orders(1_000), Book())
    async with a_bus(disk.restarted()) as bus:
        book, new = Book(), an_order("new")
        await bus.publish(new)
        keeps(bus, book)
        await bus.join()
        assert len(book.folded) == 1_000
        assert book.seen[-1] == new.event_id


@virtual
async def test_a_fold_that_raises_leaves_the_subscription_on_hold_and_says_so(disk: Disk, caplog):
    events = orders(3)
    await a_life(disk.journal, events, Book())
    bus, book, other = a_bus(disk.restarted()), Book(), Named("other")

    def fold(event: Any) -> None:
        if event.order_id == "o-2":
            raise KeyError("o-2")
        book.fold(event)

    subscription = bus.subscribe("order", book.on_event, name="book", memory=Memory(fold))
    bus.subscribe("order", other.on_event)
    async with bus:
        with pytest.raises(RestoreFailed, match=r"book did not get its memory back: fold raised KeyError"):
            await subscription.ready()
        assert subscription.state() == "not restored"
        health = await bus.check_health()
        assert health.status is EventBusHealthStatus.UNHEALTHY
        [found] = [f for f in health.findings if f.check == "memory"]
        assert found.culprit == "book"
        assert "position 2" in found.detail
        new = an_order("new")
        await bus.publish(new)
        with pytest.raises(RestoreFailed, match="what waits for it is not settled"):
            await bus.join()
        assert other.ids == [new.event_id]
        assert new.event_id not in book.seen
        await bus.publish(a_kill())
    assert any("position 2" in r.getMessage() for r in caplog.records if r.levelname == "CRITICAL")
    last = Book()
    bus = a_bus(disk.restarted())
    keeps(bus, last)
    async with bus:
        await bus.join()
        assert last.folded == names(events)
        assert last.seen == names([*events, new])


@virtual
async def test_a_fold_may_not_publish(disk: Disk):
    await a_life(disk.journal, orders(1), Book())
    bus, book = a_bus(disk.restarted()), Book()
    subscription = bus.subscribe(
        "order", book.on_event, name="book", memory=Memory(lambda event: bus.publish_nowait(a_fill()))
    )
    async with bus:
        with pytest.raises(RestoreFailed) as caught:
            await subscription.ready()
        assert isinstance(caught.value.__cause__, PublishError)
        assert disk.journal.head == 1


class Temper(Event, kw_only=True):
    event_type: str = "temper"
    mood: str
    refused: ClassVar[str] = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mood == self.refused:
            raise ValueError(f"the mood is {self.mood}")


@pytest.mark.parametrize("on_missing", ["raise", "warn"])
@virtual
async def test_what_cannot_be_read_is_never_left_out_in_silence(disk: Disk, on_missing, caplog, monkeypatch):
    moods = [Temper(mood="good"), Temper(mood="bad"), Temper(mood="fine")]
    await a_life(disk.journal, moods, Book(), "temper")
    monkeypatch.setattr(Temper, "refused", "bad")
    bus, book = a_bus(disk.restarted()), Book()
    subscription = bus.subscribe(
        "temper", book.on_event, name="book", memory=Memory(book.fold, on_missing=on_missing)
    )
    async with bus:
        if on_missing == "raise":
            with pytest.raises(RestoreFailed, match="position 2 cannot be read"):
                await subscription.ready()
        else:
            await subscription.ready()
            assert book.folded == names([moods[0], moods[2]])
            assert any("begins without 1 event" in r.getMessage() for r in caplog.records)


@virtual
async def test_what_others_could_not_read_is_no_business_of_a_memory(disk: Disk, monkeypatch):
    sent = [an_order("1"), Temper(mood="bad"), an_order("2")]
    await a_life(disk.journal, sent, Book())
    monkeypatch.setattr(Temper, "refused", "bad")
    bus, book = a_bus(disk.restarted()), Book()
    keeps(bus, book)
    async with bus:
        assert book.folded == names([sent[0], sent[2]])


@virtual
async def test_retention_never_passes_what_a_memory_needs_and_health_says_whose_it_is(disk: Disk):
    bus, book = a_bus(disk.journal, retain_count=5), Book()
    keeps(bus, book)
    async with bus:
        for order in orders(20):
            await bus.publish(order)
        await bus.join()
        await asyncio.sleep(2)
        health = await bus.check_health()
        [found] = [f for f in health.findings if f.check == "retention"]
        assert found.culprit == "book"
        assert "20 entries" in found.detail
    again = Book()
    bus = a_bus(disk.restarted(), retain_count=5)
    keeps(bus, again)
    async with bus:
        assert len(again.folded) == 20


@virtual
async def test_what_was_retired_although_it_was_needed_is_an_error(disk: Disk):
    bus, book = a_bus(disk.journal), Book()
    keeps(bus, book)
    async with bus:
        for order in orders(10):
            await bus.publish(order)
            await bus.join()
    journal = disk.restarted()
    while journal.retire(keep_count=4, past_memory=["book"]):
        pass
    assert journal.first == 7
    bus, again = a_bus(journal), Book()
    subscription = keeps(bus, again)
    async with bus:
        with pytest.raises(RestoreFailed, match="positions 1 to 6 were retired"):
            await subscription.ready()
    bus = a_bus(disk.restarted())
    subscription = bus.subscribe(
        "order", again.on_event, name="book", memory=Memory(again.fold, on_missing="warn")
    )
    async with bus:
        await subscription.ready()
        assert len(again.folded) == 4


@virtual
async def test_stopping_while_a_memory_is_restored_tells_who_waits_and_the_next_start_goes_on(disk: Disk):
    await a_life(disk.journal, orders(2_000), Book())
    bus, book = a_bus(disk.restarted()), Book()
    await bus.start()
    subscription = keeps(bus, book)
    waiter = asyncio.create_task(subscription.ready())
    await turns(4)
    await bus.stop(timeout_s=0)
    with pytest.raises(BusClosed, match="before book had its memory back"):
        await waiter
    folded = len(book.folded)
    assert 0 < folded < 2_000
    with pytest.raises(SubscriptionError, match="when the bus starts"):
        await subscription.ready()
    await bus.start()
    assert len(book.folded) == len(set(book.folded)) == 2_000
    await bus.stop()


@virtual
async def test_a_bus_that_is_stopped_and_started_does_not_fold_again(disk: Disk):
    bus, book = a_bus(disk.journal), Book()
    keeps(bus, book)
    for _ in range(3):
        async with bus:
            await bus.publish(an_order())
            await bus.join()
    assert book.folded == []
    assert len(book.seen) == 3


@virtual
async def test_ready_returns_at_once_where_there_is_nothing_to_restore(disk: Disk):
    bus = a_bus(disk.journal)
    plain = bus.subscribe("order", Desk().on_event)
    await plain.ready()
    with pytest.raises(SubscriptionError, match="when the bus starts"):
        await keeps(bus, Book()).ready()
    async with bus:
        await keeps(bus, Book(), name="other").ready()
    memory_only = EventBus()
    await memory_only.subscribe("order", Desk().on_event, restore=print).ready()


@virtual
async def test_a_memory_survives_a_crash_with_the_events_that_were_in_flight_handled_again(disk: Disk):
    events, book = orders(10), Book()
    bus = a_bus(disk.journal)
    keeps(bus, book)
    await bus.start()
    await bus.publish_many(events[:6])
    await bus.join()
    await bus.flush()
    await bus.publish_many(events[6:])
    journal = await disk.crash(bus)
    again = Book()
    bus = a_bus(journal)
    keeps(bus, again)
    async with bus:
        await bus.join()
        assert again.folded == names(events[:6])
        assert again.seen == names(events)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"overflow": "conflate"}, "fold and overflow=Conflate"),
        ({"overflow": Conflate("symbol")}, "fold and overflow"),
        ({"overflow": "drop_oldest"}, "fold and overflow=DropOldest"),
        ({"max_age_s": 1.0}, r"fold and max_age_s=1\.0"),
        ({"supersede": "symbol"}, "fold and supersede='symbol'"),
        ({"durable": False}, "leave out durable=False"),
        ({"restore": print}, "short for memory=Memory"),
    ],
)
def test_a_memory_that_could_not_be_right_is_refused(fields, says):
    bus = a_bus(MemoryJournal())
    with pytest.raises(SubscriptionError, match=says):
        bus.subscribe("order", Desk().on_event, memory=Memory(print), **fields)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({}, "without anything"),
        ({"fold": 7}, "fold is 7; it must be a plain function"),
        ({"fold": Desk().on_event}, "plain function"),
        ({"save": dict}, "with save and without load"),
        ({"load": print}, "with load and without save"),
        ({"fold": print, "every": 0}, "every"),
        ({"fold": print, "on_missing": "ignore"}, "'raise' or 'warn'"),
    ],
)
def test_what_makes_no_memory_is_refused(arguments, says):
    with pytest.raises((SubscriptionError, ValueError), match=says):
        Memory(**arguments)


def test_a_memory_of_what_is_not_journaled_is_refused():
    bus = a_bus(MemoryJournal())
    with pytest.raises(SubscriptionError, match="market_data: none of this is journaled"):
        bus.subscribe("market_data", Desk().on_event, restore=print)
    bus.subscribe(["market_data", "order"], Desk().on_event, restore=print)
    bus = a_bus(MemoryJournal(), levels={"market_data": "process"})
    bus.subscribe("market_data", Desk().on_event, restore=print)


def test_several_calls_at_a_time_may_be_folded_and_not_saved():
    bus, book = a_bus(MemoryJournal()), Book()
    bus.subscribe("order", book.on_event, concurrency=4, restore=book.fold)
    with pytest.raises(SubscriptionError, match="concurrency=4"):
        bus.subscribe("fill", Desk().on_event, concurrency=4, memory=Memory(book.fold, book.save, book.load))


def test_a_memory_on_a_bus_without_a_journal_is_told_once(caplog):
    bus = EventBus()
    bus.subscribe("order", Desk().on_event, restore=print)
    bus.subscribe("fill", Failing().on_event, restore=print)
    assert len([r for r in caplog.records if "outlives" in r.getMessage()]) == 1


def test_a_state_that_two_subscriptions_would_save_is_refused():
    bus, book = a_bus(MemoryJournal()), Book()
    keeps(bus, book, saves=True)
    with pytest.raises(SubscriptionError, match="the memory of book saves the same state"):
        bus.subscribe("fill", Desk().on_event, name="b", memory=Memory(book.fold, book.save, book.load))
    other = Book()
    bus.subscribe("fill", other.on_event, name="c", memory=Memory(other.fold, other.save, other.load))
    bus.subscribe("decision", book.on_event, name="book", memory=Memory(book.fold, book.save, book.load))


@pytest.mark.parametrize("owned", [True, False])
@virtual
async def test_a_memory_keeps_no_agent_alive_that_is_gone_or_has_ended(owned):
    async with a_bus(MemoryJournal()) as bus:
        book = Book()
        gone = weakref.ref(book)
        memory = Memory(book.fold, book.save, book.load)
        bus.subscribe("order", book.on_event, name="b", memory=memory, owner=book if owned else None)
        await bus.publish(an_order())
        await bus.join()
        bus.subscribe("fill", book.on_event, name="b", memory=memory, owner=book if owned else None)
        if not owned:
            bus.unsubscribe(["order", "fill"], book.on_event)
        del book, memory
        await turns()
        gc.collect()
        await turns()
        assert gone() is None
        assert not bus.subscriptions
