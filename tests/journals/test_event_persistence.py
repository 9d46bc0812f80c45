"""The persistence layer by hand: what is kept, what is pending, what failed, what may go."""

import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from journal_kit import Factory

from openoutcry.config import PersistenceConfig
from openoutcry.errors import ConfigError, InvalidEvent, JournalError
from openoutcry.events import Event, Undecodable, encode, register_event, stamps
from openoutcry.journals import EventPersistence, MemoryJournal
from openoutcry.ports import Changes, CursorState, Entry, Journal, Level, Snapshot
from openoutcry.trading import FillEvent, KillSwitchEvent, MarketDataEvent


def note(**fields: object) -> Event:
    return Event(event_type="note", **fields)  # type: ignore[arg-type]


def fill() -> FillEvent:
    return FillEvent(order_id="1", symbol="ES", side="buy", filled_quantity=1.0, fill_price=2.0)


@pytest.fixture
def store(journal: Journal) -> EventPersistence:
    return EventPersistence(journal)


# Keeping


def test_events_are_kept_in_order_and_pending_until_they_are_completed(store: EventPersistence) -> None:
    events = [note(), note(), note()]
    assert [store.persist(event) for event in events] == [1, 2, 3]
    assert store.pending_events() == events
    assert store.mark_completed(events[1])
    assert store.pending_events() == [events[0], events[2]]
    assert store.mark_completed(events[0].event_id)
    assert store.pending_events() == [events[2]]
    assert store.pending_count() == 1


def test_many_events_are_one_commit(store: EventPersistence) -> None:
    events = [note() for _ in range(5)]
    assert store.persist_many(events) == [1, 2, 3, 4, 5]
    assert store.persist_many([]) == []
    assert store.pending_events(limit=2) == events[:2]
    assert store.pending_events(limit=0) == []


def test_every_event_gets_the_lane_that_the_bus_would_use_unless_one_is_named(
    store: EventPersistence,
) -> None:
    store.persist_many([KillSwitchEvent(reason="r"), fill(), note()])
    store.persist(note(), lane="high")
    assert [e.lane for e in store.journal.read(0, 9)] == ["control", "high", "normal", "high"]
    with pytest.raises(InvalidEvent, match="lane = 'fast'"):
        store.persist(note(), lane="fast")  # type: ignore[arg-type]


def test_disk_is_on_the_disk_when_it_returns(store: EventPersistence) -> None:
    store.persist(note())
    assert store.journal.synced == 0
    assert store.persist(note(), level="disk") == 2
    assert store.journal.synced == 2
    assert [e.level for e in store.journal.read(0, 9)] == [Level.PROCESS, Level.DISK]
    with pytest.raises(ConfigError, match="level is 'paper'"):
        store.persist(note(), level="paper")  # type: ignore[arg-type]


def test_the_same_event_again_is_not_written_again(store: EventPersistence) -> None:
    event = note()
    assert store.persist(event) == store.persist(event) == 1
    assert store.journal.head == 1


def test_another_event_with_the_same_id_is_refused_and_the_first_one_stands(store: EventPersistence) -> None:
    store.persist(note(event_id="a"))
    with pytest.raises(InvalidEvent, match=r"event_id = 'a': the journal holds another event.*position 1"):
        store.persist(note(event_id="a", source_agent="other"))
    assert [e.source_agent for e in store.pending_events()] == [""]


def test_an_event_that_an_older_version_of_its_class_has_kept_is_not_written_again(
    store: EventPersistence,
) -> None:
    class KeptBefore(Event, kw_only=True):
        event_type: str = "kept"
        size: int = 0

    store.persist(KeptBefore(event_id="a", size=1, timestamp=10**18))

    class KeptBefore(Event, kw_only=True):  # type: ignore[no-redef]
        event_type: str = "kept"
        schema_version: int = 2
        size: int = 0
        desk: str = "main"

    assert store.persist(KeptBefore(event_id="a", size=1, desk="rates")) == 1  # type: ignore[call-arg]
    with pytest.raises(InvalidEvent, match="the journal holds another event"):
        store.persist(KeptBefore(event_id="a", size=2))


class Ping(msgspec.Struct, frozen=True):
    """A class of a user's."""

    event_id: str
    event_type: str = "ping"
    symbol: str = "ES"


def test_events_of_users_are_kept_with_an_envelope(store: EventPersistence) -> None:
    register_event(Ping)
    store.persist(Ping("p1"))
    head = store.journal.read(0, 1)[0].head()
    assert (head.event_id, head.event_type, head.symbol) == ("p1", "ping", "ES")
    assert store.mark_completed(Ping("p1"))


def test_the_time_of_admission_is_the_clock_s() -> None:
    store = EventPersistence(MemoryJournal(), wall_ns=lambda: 77)
    store.persist(note())
    with stamps(time_ns=lambda: 78):
        by_default = EventPersistence(MemoryJournal())
        by_default.persist(note())
    assert [s.journal.read(0, 1)[0].wall_ns for s in (store, by_default)] == [77, 78]


# Settling


def test_settling_twice_says_so_and_changes_nothing(store: EventPersistence) -> None:
    event = note()
    store.persist(event)
    assert store.mark_completed(event)
    before = store.journal.cursors()
    assert not store.mark_completed(event)
    assert not store.mark_failed(event, "too late")
    assert store.journal.cursors() == before
    assert store.dead_letters() == []


def test_many_are_settled_in_one_commit_all_or_none(store: EventPersistence) -> None:
    events = [note(), fill(), note(), note()]
    store.persist_many(events)
    assert store.mark_many_completed([events[2], events[0].event_id, events[2]]) == 2
    assert store.pending_events() == [events[1], events[3]]
    before = store.journal.cursors()
    with pytest.raises(JournalError, match="does not hold it"):
        store.mark_many_completed([events[1], "nobody"])
    assert store.mark_many_completed([events[0]]) == store.mark_many_completed([]) == 0
    assert store.journal.cursors() == before
    assert store.mark_many_completed(events) == 2
    assert store.pending_count() == 0


def test_what_is_not_in_the_journal_cannot_be_settled(store: EventPersistence) -> None:
    for stranger in (note(event_id="nobody"), "nobody", 7):
        with pytest.raises(JournalError, match="does not hold it; persist it first"):
            store.mark_completed(stranger)


def test_a_failed_event_is_a_dead_letter_and_not_pending(store: EventPersistence) -> None:
    good, bad = fill(), fill()
    store.persist_many([good, bad])
    with pytest.raises(ZeroDivisionError) as caught:
        1 / 0  # noqa: B018 - for an error that has a traceback
    assert store.mark_failed(bad, caught.value, "booking", attempts=3)
    [letter] = store.dead_letters()
    assert (letter.subscription, letter.lane, letter.position) == ("booking", "high", 2)
    assert (letter.reason, letter.error, letter.attempts) == (
        "failed",
        "ZeroDivisionError: division by zero",
        3,
    )
    assert "test_event_persistence.py" in letter.traceback
    assert letter.payload == encode(bad)
    assert store.pending_events("booking") == [good]
    assert store.dead_letters("other") == []


def test_an_error_that_cannot_say_what_it_is_is_still_a_letter(store: EventPersistence) -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    event = note()
    store.persist(event)
    store.mark_failed(event, Mute())
    assert store.dead_letters()[0].error == "Mute"
    other = note()
    store.persist(other)
    store.mark_failed(other, "in words")
    assert (store.dead_letters()[1].error, store.dead_letters()[1].traceback) == ("in words", "")


def test_each_subscription_settles_for_itself(store: EventPersistence) -> None:
    events = [note(), fill(), note()]
    store.persist_many(events)
    store.mark_completed(events[0], "risk")
    store.mark_completed(events[1], "audit")
    assert store.pending_events("risk") == events[1:]
    assert store.pending_events("audit") == [events[0], events[2]]
    assert store.pending_events("nobody yet") == events
    assert store.pending_events() == events
    store.mark_completed(events[0], "audit")
    assert store.pending_events() == events[1:]


def test_a_restart_changes_nothing(factory: Factory) -> None:
    store = EventPersistence(factory.open())
    events = [note() for _ in range(4)]
    store.persist_many(events)
    store.mark_completed(events[2])
    store.mark_failed(events[0], "no")
    again = EventPersistence(factory.reopen(store.journal))
    assert again.pending_events() == [events[1], events[3]]
    assert [letter.position for letter in again.dead_letters()] == [1]


def test_what_nobody_can_read_is_pending_too(store: EventPersistence) -> None:
    payload = b'{"event_class":"Gone","event_id":"g","event_type":"gone"}'
    store.journal.write([Entry("g", payload)])
    [gone] = store.pending_events()
    assert isinstance(gone, Undecodable)
    assert gone.payload == payload
    assert store.mark_completed("g")
    assert store.pending_count() == 0


def test_a_subscription_of_a_bus_waits_only_for_the_types_that_it_takes(store: EventPersistence) -> None:
    events = [MarketDataEvent(symbol="ES", price=1.0), note(), fill()]
    store.persist_many(events)
    cursors = [
        CursorState(subscription="risk", lane="normal", floor=0, takes=("market_data", "fill")),
        CursorState(subscription="all", lane="normal", floor=0, takes=("*",)),
    ]
    store.journal.write((), Changes(cursors=cursors))
    assert store.pending_events("risk") == [events[0], events[2]]
    assert store.pending_events("all") == events
    assert store.mark_completed(events[2], "risk")
    assert not store.mark_completed(events[1], "risk")
    assert store.pending_events("risk") == [events[0]]
    assert {c.takes for c in store.journal.cursors() if c.subscription == "risk"} == {("market_data", "fill")}


def test_floors_follow_over_what_belongs_to_other_lanes(store: EventPersistence) -> None:
    events = [note(), fill(), note(), fill(), note()]
    store.persist_many(events)
    for event in events[::-1]:
        store.mark_completed(event)
    store.cleanup(keep_count=9)
    assert {(c.lane, c.floor, c.settled) for c in store.journal.cursors()} == {
        *(("control", 5, ()), ("high", 5, ()), ("normal", 5, ())),
    }


def test_a_cursor_stays_short_where_two_lanes_are_settled_in_turn() -> None:
    store = EventPersistence(MemoryJournal())
    events = [fill() if number % 2 else note() for number in range(400)]
    store.persist_many(events)
    for event in events:
        store.mark_completed(event)
        assert max(len(c.settled) for c in store.journal.cursors()) <= 64
    assert store.pending_count() == 0


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_pending_is_what_was_kept_and_not_settled_in_whatever_order(data: st.DataObject) -> None:
    store = EventPersistence(MemoryJournal())
    waiting: list[Event] = []
    for _ in range(data.draw(st.integers(1, 25))):
        if waiting and data.draw(st.booleans()):  # type: ignore[arg-type]
            event = waiting.pop(data.draw(st.integers(0, len(waiting) - 1)))
            if data.draw(st.booleans()):
                store.mark_completed(event)
            else:
                store.mark_failed(event, "no")
        else:
            new = [
                fill() if data.draw(st.booleans()) else note() for _ in range(data.draw(st.integers(1, 4)))
            ]
            store.persist_many(new)
            waiting += new
        if data.draw(st.integers(0, 9)) == 0:
            store.cleanup(keep_count=data.draw(st.integers(0, 3)))
        assert store.pending_events() == waiting
        assert store.pending_count() == len(waiting)


# Housekeeping


def test_cleanup_never_forgets_what_is_pending(store: EventPersistence) -> None:
    events = [note() for _ in range(6)]
    for event in events:
        store.persist(event)
    assert store.cleanup(keep_count=0) == 0
    for event in events[:3]:
        store.mark_completed(event)
    assert store.cleanup(keep_count=5) == 1
    assert store.cleanup(keep_count=0) == 2
    assert store.pending_events() == events[3:]
    assert store.cleanup(keep_count=1, past_cursors=True) == 2
    assert store.pending_events() == events[5:]
    assert store.mark_completed(events[5])


def test_cleanup_goes_by_age() -> None:
    now_ns = 10**18
    store = EventPersistence(MemoryJournal(), wall_ns=lambda: now_ns)
    old, new = note(), note()
    store.persist(old)
    now_ns += 60 * 10**9
    store.persist(new)
    store.mark_completed(old)
    store.mark_completed(new)
    assert store.cleanup(older_than_s=61) == 0
    assert store.cleanup(older_than_s=30) == 1
    assert store.journal.first == 2


def test_cleanup_never_forgets_what_a_memory_needs_unless_told_by_name(store: EventPersistence) -> None:
    events = [note() for _ in range(4)]
    for event in events:
        store.persist(event)
    assert store.mark_many_completed(events) == 4
    kept = Snapshot(subscription="book", form="none", is_needed=True, lanes={"normal": (1, ())})
    store.journal.write((), Changes(snapshots=[kept]))
    assert store.cleanup(keep_count=0) == 1
    with pytest.raises(ConfigError, match=r"past_memory = 'book': give a collection of names"):
        store.cleanup(keep_count=0, past_memory="book")
    assert store.cleanup(keep_count=0, past_memory=["book"]) == 3


def test_cleanup_must_be_told_what_to_forget(store: EventPersistence) -> None:
    with pytest.raises(ConfigError, match="neither older_than_s nor keep_count"):
        store.cleanup()
    with pytest.raises(ConfigError, match="older_than_s is -1"):
        store.cleanup(older_than_s=-1)


def test_the_statistics_are_plain_data(factory: Factory) -> None:
    store = EventPersistence(factory.open())
    events = [note(), fill()]
    store.persist_many(events)
    store.mark_failed(events[1], "no")
    told = json.loads(json.dumps(store.get_stats()))
    assert (told["first"], told["head"], told["synced"], told["entries"]) == (1, 2, 0, 2)
    assert (told["dead_letters"], told["suspects"]) == (1, 0)
    assert {"subscription": "default", "lane": "normal", "floor": 0, "behind": 2} in told["cursors"]
    on_disk = factory.kind != "memory"
    assert (told["path"] is not None, (told["bytes"] or 0) > 0) == (on_disk, on_disk)


def test_verify_looks_at_everything(store: EventPersistence) -> None:
    store.persist_many([note() for _ in range(10)])
    found = store.verify()
    assert found.intact
    assert found.entries == 10


# Standing alone, and before a bus's journal


def test_it_stands_alone_with_a_path_or_settings(tmp_path: Path) -> None:
    event = note()
    with EventPersistence.open(tmp_path / "a.db") as store:
        assert store.path == (tmp_path / "a.db").resolve()
        store.persist(event)
    with EventPersistence(PersistenceConfig(path=tmp_path / "a.db")) as store:
        assert store.pending_events() == [event]
    with EventPersistence.open(tmp_path / "b.db", key=b"k" * 16) as store:
        assert store.persist(event) == 1
    with pytest.raises(JournalError):
        store.persist(note())


def test_a_journal_that_was_handed_in_stays_open(journal: Journal) -> None:
    EventPersistence(journal).close()
    assert EventPersistence(journal).persist(note()) == 1


@pytest.fixture
def view(journal: Journal) -> EventPersistence:
    EventPersistence(journal).persist_many([note(event_id="a"), note(event_id="b")])
    return EventPersistence(journal, owned=lambda name: name == "risk")


def test_before_a_bus_s_journal_nothing_comes_in_past_the_bus(view: EventPersistence) -> None:
    with pytest.raises(JournalError, match="publish the event on the bus"):
        view.persist(note())
    assert view.journal.head == 2


def test_before_a_bus_s_journal_its_own_subscriptions_are_read_only(view: EventPersistence) -> None:
    for refused in (
        lambda: view.mark_completed("a", "risk"),
        lambda: view.mark_many_completed(["a"], "risk"),
        lambda: view.mark_failed("a", "no", "risk"),
    ):
        with pytest.raises(JournalError, match="'risk' is a subscription of the running bus"):
            refused()
    with pytest.raises(JournalError, match="not settled stays"):
        view.cleanup(keep_count=0, past_cursors=True)
    assert view.journal.cursors() == []
    assert view.pending_count("risk") == 2
    assert view.mark_completed("a", "my own")
    assert view.pending_count("my own") == 1


def test_a_subscription_whose_name_cannot_be_written_is_refused_and_the_journal_goes_on(
    store: EventPersistence,
) -> None:
    event, half = note(), "half \ud83d"
    store.persist(event)
    for call in (
        lambda: store.mark_completed(event, half),
        lambda: store.mark_many_completed([event], half),
        lambda: store.mark_failed(event, "broken", half),
        lambda: store.dead_letters(half),
    ):
        with pytest.raises(ConfigError, match="half a surrogate pair"):
            call()
    assert store.pending_events(half) == [event]
    assert store.mark_failed(event, half)
    assert store.persist(note()) == 2
