"""Admission (CONTRACT 1, 2, 3): what publish answers, duplicates, cancellation, many at once."""

import asyncio
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

import attrs
import msgspec
import pytest
from bus_helpers import (
    Desk,
    Gate,
    a_fill,
    a_kill,
    a_tick,
    an_order,
    assert_balanced,
    assert_exactly,
    assert_settled,
    ticks,
    virtual,
)

from openoutcry import (
    BackpressureConfig,
    BusClosed,
    Event,
    EventBus,
    EventType,
    InvalidEvent,
    NotAuthorised,
    OrderEvent,
)

TIGHT = BackpressureConfig(rate_limit_per_s=1.0, rate_limit_burst=1, cooldown_s=2.0, grace_s=1e6)


class Kind(Enum):
    NEWS = "news"


@dataclass
class NewsData:
    event_id: str
    headline: str = ""
    event_type: str = "news"


@attrs.define
class NewsAttrs:
    event_id: str
    event_type: str = "news"


class NewsStruct(msgspec.Struct):
    event_id: str
    event_type: Kind = Kind.NEWS


@dataclass
class NewsFixed:
    event_id: object
    event_type: ClassVar[Kind] = Kind.NEWS


# -- what publish answers ------------------------------------------------------------------------------------


@virtual
async def test_an_accepted_event_is_handled_by_every_matching_subscription_and_by_no_other():
    """CONTRACT 1."""
    first, second, other = Desk(), Desk(), Desk()
    async with EventBus() as bus:
        bus.subscribe(EventType.MARKET_DATA, first.on_event)
        bus.subscribe([EventType.MARKET_DATA, EventType.FILL], second.on_event)
        bus.subscribe(EventType.ORDER, other.on_event)
        events = ticks(5)
        assert [await bus.publish(event) for event in events] == [True] * 5
        await bus.join()
        assert (first.handled, second.handled, other.handled) == (events, events, [])
        assert_settled(bus)


@virtual
async def test_an_event_that_nobody_takes_is_accepted_and_kept_in_the_history():
    """CONTRACT 1, 31."""
    async with EventBus() as bus:
        event = a_tick()
        assert await bus.publish(event) is True
        assert bus.get_event_history() == [event]


@virtual
async def test_a_refused_event_is_delivered_to_nobody_and_counted_under_a_reason():
    """CONTRACT 1."""
    desk = Desk()
    async with EventBus(max_queue_size=10, backpressure_config=TIGHT) as bus:
        subscription = bus.subscribe("*", desk.on_event, name="desk")
        subscription.pause()
        answers = [bus.publish_nowait(event) for event in ticks(12)]
        accepted = [event for event, answer in zip(ticks(0), answers, strict=False) if answer]
        assert accepted == []
        assert False in answers
        assert sum(bus.metrics.refused.values()) == answers.count(False) == bus.metrics.dropped
        assert set(bus.metrics.refused) <= {"shed", "no_room", "rate_limited"}
        subscription.resume()
        await bus.join()
        assert len(desk.handled) == answers.count(True)
        assert len(bus.get_event_history()) == answers.count(True)
        assert_settled(bus)


@pytest.mark.parametrize(
    "thing",
    [
        object(),
        None,
        42,
        "event",
        NewsData(""),
        NewsData("1", event_type=""),
        NewsFixed(None),
        NewsFixed(7),
    ],
    ids=repr,
)
@virtual
async def test_what_is_not_an_event_is_a_typed_error_by_every_way_in(thing):
    """CONTRACT 1."""
    async with EventBus() as bus:
        await bus.publish_many([NewsData("known class"), NewsFixed("known class, fixed type")])
        await bus.join()
        bus.reset_metrics()
        desk = Desk()
        bus.subscribe("*", desk.on_event)
        with pytest.raises(InvalidEvent):
            await bus.publish(thing)
        with pytest.raises(InvalidEvent):
            bus.publish_nowait(thing)
        with pytest.raises(InvalidEvent):
            await bus.publish_many([thing])
        with pytest.raises(InvalidEvent):
            await asyncio.wrap_future(bus.publish_threadsafe(thing))
        await bus.join()
        assert desk.handled == []
        assert bus.metrics.published == 0


@pytest.mark.parametrize("make", [NewsData, NewsAttrs, NewsStruct, NewsFixed])
@virtual
async def test_users_own_classes_are_events_whatever_they_are_made_with(make):
    """CONTRACT 1: dataclasses, attrs classes, Structs; a string or an Enum as the type."""
    by_type, by_member, by_class = Desk(), Desk(), Desk()
    async with EventBus() as bus:
        bus.subscribe("news", by_type.on_event)
        bus.subscribe(Kind.NEWS, by_member.on_event)
        bus.subscribe(make, by_class.on_event)
        events = [make("1"), make("2"), make("1")]
        assert [await bus.publish(event) for event in events] == [True] * 3
        await bus.join()
        assert by_type.handled == by_member.handled == by_class.handled == events[:2]
        assert bus.get_event_history(Kind.NEWS) == events[:2]
        assert bus.metrics.duplicates == 1
        assert_settled(bus)


@virtual
async def test_events_whose_type_varies_by_instance_are_routed_one_by_one():
    one, two = Desk(), Desk()
    async with EventBus() as bus:
        bus.subscribe("one", one.on_event)
        bus.subscribe("two", two.on_event)
        events = [Event(event_type=name) for name in ("one", "two", "three", "one", "two")]
        assert await bus.publish_many(events) == 5
        await bus.join()
        assert one.handled == [events[0], events[3]]
        assert two.handled == [events[1], events[4]]


@pytest.mark.parametrize("later", ["b", None, 7], ids=str)
@virtual
async def test_an_event_whose_type_is_changed_after_its_admission_goes_where_it_was_admitted_to(later):
    """CONTRACT 1: and costs no other event of its batch its delivery."""
    for_a, for_b, for_all = Desk(), Desk(), Desk()
    async with EventBus() as bus:
        bus.subscribe("a", for_a.on_event)
        bus.subscribe("b", for_b.on_event)
        bus.subscribe("*", for_all.on_event)
        changed, other, tick = NewsData("1", event_type="a"), NewsData("2", event_type="b"), a_tick()
        for event in (changed, other, tick):
            assert await bus.publish(event)
        changed.event_type = later
        await bus.join()
        assert (for_a.handled, for_b.handled) == ([changed], [other])
        assert for_all.handled == [changed, other, tick]
        assert_settled(bus)


@virtual
async def test_a_free_event_of_a_high_priority_type_takes_the_high_lane():
    """CONTRACT 5: it is the type that counts, not the class."""
    async with EventBus() as bus:
        desk = Desk()
        bus.subscribe("*", desk.on_event, name="desk").pause()
        await bus.publish(a_tick())
        await bus.publish(Event(event_type="fill"))
        await bus.publish(NewsData("1", event_type="risk_alert"))
        bus.subscription("desk").resume()
        await bus.join()
        assert desk.types == ["fill", "risk_alert", "market_data"]


@virtual
async def test_mixed_batches_reach_each_subscription_in_the_order_of_publication():
    """CONTRACT 9, over classes and types that share no route."""
    ticking, ordering, everything = Desk(), Desk(), Desk()
    async with EventBus() as bus:
        bus.subscribe(EventType.MARKET_DATA, ticking.on_event)
        bus.subscribe(EventType.ORDER, ordering.on_event)
        bus.subscribe("*", everything.on_event)
        events = [
            make(n)
            for n in range(20)
            for make in (
                lambda n: a_tick(n + 1.0),
                lambda n: an_order(f"o-{n}"),
                lambda n: NewsData(f"news-{n}"),
                lambda n: Event(event_type=f"own-{n}"),
            )
        ]
        half = len(events) // 2
        for event in events[:half]:
            await bus.publish(event)
        assert await bus.publish_many(events[half:]) == half
        await bus.join()
        assert everything.handled == events
        assert ticking.handled == [e for e in events if e.event_type == "market_data"]
        assert ordering.handled == [e for e in events if e.event_type == "order"]
        assert_settled(bus)


# -- duplicates ----------------------------------------------------------------------------------------------


@virtual
async def test_publishing_an_accepted_id_again_is_a_success_that_delivers_nothing_new():
    """CONTRACT 2, by every way in, in flight and after."""
    gate = Gate()
    async with EventBus() as bus:
        bus.subscribe("*", gate.on_event)
        events = [a_tick(), a_fill(), a_kill(), an_order()]
        for event in events:
            assert await bus.publish(event)
            assert await bus.publish(event)
            assert bus.publish_nowait(event)
            assert await bus.publish_many([event, event]) == 2
            assert await asyncio.wrap_future(bus.publish_threadsafe(event))
        await asyncio.sleep(1)
        assert bus.metrics.duplicates == 5 * len(events)
        gate.open()
        await bus.join()
        for event in events:
            assert await bus.publish(event, priority=True)
        await bus.join()
        assert_exactly(gate.handled, events)
        assert bus.metrics.published == len(events)


@virtual
async def test_a_duplicate_within_one_publish_many_is_delivered_once():
    """CONTRACT 2."""
    desk = Desk()
    async with EventBus() as bus:
        bus.subscribe("*", desk.on_event)
        first, second = ticks(2)
        assert await bus.publish_many([first, second, first, second, first]) == 5
        await bus.join()
        assert desk.handled == [first, second]


@virtual
async def test_a_refused_id_may_be_published_again():
    """CONTRACT 2: only an accepted event makes its id known."""
    desk = Desk()
    async with EventBus(max_queue_size=10, backpressure_config=TIGHT) as bus:
        subscription = bus.subscribe("*", desk.on_event)
        subscription.pause()
        answers = [bus.publish_nowait(an_order(str(n), event_id=str(n))) for n in range(12)]
        refused = str(answers.index(False))
        subscription.resume()
        await bus.join()
        assert await bus.publish(an_order("again", event_id=refused)) is True
        await bus.join()
        assert desk.handled[-1].order_id == "again"


@virtual
async def test_ids_are_known_for_the_stated_window_and_in_flight_ones_always():
    """CONTRACT 2: bounded in entries."""
    gate = Gate()
    async with EventBus(dedup_window=100, dedup_window_s=1e6) as bus:
        bus.subscribe(EventType.ORDER, gate.on_event)
        stuck = an_order("stuck")
        await bus.publish(stuck)
        known = a_tick()
        await bus.publish(known)
        for event in ticks(99):
            await bus.publish(event)
        await asyncio.sleep(0.01)
        assert await bus.publish(known)
        assert bus.metrics.duplicates == 1
        for _ in range(5):
            await bus.publish_many(ticks(100))
            await asyncio.sleep(0.01)
        assert await bus.publish(known)
        assert bus.metrics.duplicates == 1, "forgotten after the window"
        assert await bus.publish(stuck)
        assert bus.metrics.duplicates == 2, "in flight counts as seen"
        gate.open()
        await bus.join()
        assert gate.handled == [stuck]


@virtual
async def test_ids_are_forgotten_after_the_stated_time():
    """CONTRACT 2: bounded in time."""
    desk = Desk()
    async with EventBus(dedup_window=100_000, dedup_window_s=60.0) as bus:
        bus.subscribe("*", desk.on_event)
        event = a_tick(99.0)
        await bus.publish(event)
        await asyncio.sleep(29)
        await bus.publish(event)
        assert bus.metrics.duplicates == 1
        for _ in range(3):
            await asyncio.sleep(61)
            await bus.publish(a_tick())
            await bus.join()
        await bus.publish(event)
        await bus.join()
        assert bus.metrics.duplicates == 1
        assert desk.prices.count(99.0) == 2


def _a_release():
    return a_kill(activated=False, source_agent="risk")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("event_of", [a_fill, _a_release], ids=["high-priority", "kill switches"])
@pytest.mark.parametrize("bound", ["entries", "time"])
@virtual
async def test_the_window_is_bounded_also_where_nothing_but_urgent_events_come(event_of, bound):
    """CONTRACT 2."""
    desk = Desk()
    window = {"entries": (100, 1e6), "time": (100_000, 60.0)}[bound]
    bus = EventBus(dedup_window=window[0], dedup_window_s=window[1], kill_switch_releasers={"risk"})
    async with bus:
        bus.subscribe("*", desk.on_event)
        first = event_of()
        await bus.publish(first)
        await bus.join()
        await bus.publish(first)
        assert bus.metrics.duplicates == 1
        for _ in range(300):
            await bus.publish(event_of())
            await asyncio.sleep(1)
        seen = bus._bus.seen
        assert len(seen.ids()) <= 201
        await bus.publish(first)
        await bus.join()
        assert bus.metrics.duplicates == 1, "forgotten after the window"
        assert desk.handled.count(first) == 2
        assert_settled(bus)


# -- cancellation --------------------------------------------------------------------------------------------


@virtual
async def test_a_publish_that_is_cancelled_while_it_waits_for_a_token_was_not_admitted():
    """CONTRACT 3."""
    async with EventBus(max_queue_size=100, backpressure_config=TIGHT) as bus:
        desk = Desk()
        subscription = bus.subscribe("*", desk.on_event)
        subscription.pause()
        assert await bus.publish_many(ticks(75)) == 75
        assert await bus.publish(a_tick())
        late = a_tick(99.0)
        waiting = asyncio.create_task(bus.publish(late))
        await asyncio.sleep(0.5)
        assert not waiting.done()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        subscription.resume()
        await bus.join()
        assert 99.0 not in desk.prices
        assert await bus.publish(late), "publishing it again is safe"
        await bus.join()
        assert desk.prices.count(99.0) == 1
        assert bus.metrics.duplicates == 0
        assert_settled(bus)


@virtual
async def test_a_publish_that_is_cancelled_while_it_waits_for_room_was_not_admitted():
    """CONTRACT 3."""
    async with EventBus(max_queue_size=10, backpressure_config=TIGHT) as bus:
        desk = Desk()
        subscription = bus.subscribe("*", desk.on_event)
        subscription.pause()
        for n in range(10):
            assert await bus.publish(a_fill(str(n)))
        late = a_fill("late")
        waiting = asyncio.create_task(bus.publish(late))
        await asyncio.sleep(1)
        assert not waiting.done()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        subscription.resume()
        await bus.join()
        assert [e.order_id for e in desk.handled] == [str(n) for n in range(10)]
        assert await bus.publish(late)
        await bus.join()
        assert desk.handled[-1] is late
        assert_settled(bus)


@pytest.mark.parametrize("turns", range(6))
@virtual
async def test_a_publish_cancelled_at_any_turn_is_whole_or_not_at_all(turns):
    """CONTRACT 3: whatever the moment, publishing again delivers each event exactly once."""
    desk = Desk()
    async with EventBus(max_queue_size=200, backpressure_config=TIGHT) as bus:
        bus.subscribe("*", desk.on_event, name="desk")
        events = ticks(300)

        async def feed() -> None:
            for event in events:
                await bus.publish(event)

        task = asyncio.create_task(feed())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await bus.join()
        assert desk.handled == events[: len(desk.handled)]
        for event in events:
            while not await bus.publish(event):
                await bus.join()
        await bus.join()
        assert desk.handled == events
        assert_settled(bus)


# -- many at once --------------------------------------------------------------------------------------------


@virtual
async def test_publish_many_stops_at_the_first_refused_event_and_says_how_many_went_in():
    """CONTRACT 1: a prefix, never a selection."""
    desk = Desk()
    async with EventBus(max_queue_size=100, backpressure_config=TIGHT) as bus:
        subscription = bus.subscribe("*", desk.on_event)
        subscription.pause()
        events = ticks(200)
        count = await bus.publish_many(events)
        assert 75 <= count < 100
        assert bus.metrics.dropped == 1
        subscription.resume()
        await bus.join()
        assert desk.handled == events[:count]
        assert await bus.publish_many(events[count:]) > 0
        await bus.join()
        assert desk.handled == events[: len(desk.handled)]
        assert_settled(bus)


@virtual
async def test_publish_many_raises_at_the_event_in_question_and_those_before_it_are_in():
    desk = Desk()
    async with EventBus() as bus:
        bus.subscribe("*", desk.on_event)
        before, after = ticks(3), ticks(2, 10)
        with pytest.raises(InvalidEvent):
            await bus.publish_many([*before, object(), *after])
        with pytest.raises(NotAuthorised):
            await bus.publish_many([a_tick(50.0), a_kill(activated=False), a_tick(51.0)])
        await bus.join()
        assert desk.prices == [1.0, 2.0, 3.0, 50.0]
        assert_settled(bus)


@virtual
async def test_publish_many_takes_any_iterable_and_none_of_one_that_fails():
    desk = Desk()

    def broken() -> Iterator[Event]:
        yield a_tick()
        raise RuntimeError("the feed broke")

    async with EventBus() as bus:
        bus.subscribe("*", desk.on_event)
        assert await bus.publish_many(iter(ticks(3))) == 3
        assert await bus.publish_many([]) == 0
        with pytest.raises(RuntimeError):
            await bus.publish_many(broken())
        await bus.join()
        assert len(desk.handled) == 3


@virtual
async def test_publish_many_does_not_see_what_the_caller_does_to_the_list_afterwards():
    desk = Desk()
    async with EventBus() as bus:
        bus.subscribe("*", desk.on_event)
        await bus.publish(a_tick(99.0))
        await bus.join()
        events = ticks(10)
        same = list(events)
        assert await bus.publish_many(events) == 10
        events.clear()
        await bus.join()
        assert desk.handled[1:] == bus.get_event_history()[1:] == same


@virtual
async def test_publish_many_with_priority_takes_the_high_lane():
    desk = Desk()
    async with EventBus() as bus:
        subscription = bus.subscribe("*", desk.on_event, name="desk")
        subscription.pause()
        await bus.publish_many(ticks(3))
        assert await bus.publish_many(ticks(3, 10), True) == 3
        subscription.resume()
        await bus.join()
        assert desk.prices == [10.0, 11.0, 12.0, 1.0, 2.0, 3.0]
        assert bus.metrics.high_priority == 3


@virtual
async def test_publishing_without_waiting_refuses_what_would_have_to_wait():
    async with EventBus(max_queue_size=100, backpressure_config=TIGHT) as bus:
        bus.subscribe("*", Desk().on_event).pause()
        assert await bus.publish_many(ticks(75)) == 75
        assert bus.publish_nowait(a_tick())
        assert not bus.publish_nowait(a_tick())
        assert bus.metrics.refused == {"rate_limited": 1}
        for _ in range(24):
            assert bus.publish_nowait(a_fill())
        assert not bus.publish_nowait(a_fill())
        assert bus.metrics.refused == {"rate_limited": 1, "no_room": 1}
        assert_balanced(bus)
        await bus.stop(timeout_s=0.1)


@virtual
async def test_publishing_after_the_stop_is_a_typed_error_by_every_way_in():
    """CONTRACT 1, 27."""
    bus = EventBus()
    await bus.start()
    await bus.publish(a_tick())
    await bus.stop()
    for event in (a_tick(), a_fill(), an_order()):
        with pytest.raises(BusClosed, match="stopped"):
            await bus.publish(event)
        with pytest.raises(BusClosed):
            await bus.publish(event, True)
        with pytest.raises(BusClosed):
            bus.publish_nowait(event)
        with pytest.raises(BusClosed):
            await bus.publish_many([event])
        with pytest.raises(BusClosed):
            await asyncio.wrap_future(bus.publish_threadsafe(event))


@virtual
async def test_a_subclass_that_overrides_publish_is_obeyed():
    class Counting(EventBus):
        count = 0

        async def publish(self, event, priority=False):  # type: ignore[override]
            self.count += 1
            return await super().publish(event, priority)

    async with Counting() as bus:
        assert await bus.publish(a_tick())
        assert await bus.publish(a_tick())
        assert (bus.count, bus.metrics.published) == (2, 2)


@virtual
async def test_a_class_in_place_of_an_event_is_told():
    async with EventBus() as bus:
        with pytest.raises(
            InvalidEvent, match=r"OrderEvent is a class, not an event; publish OrderEvent\(\.\.\.\)"
        ):
            await bus.publish(OrderEvent)


class LoggedNote(Event, kw_only=True):
    event_type: str = "logged_note"


def twice_defined() -> type[Event]:
    class DefinedTwice(Event, kw_only=True):
        event_type: str = "defined_twice"

    DefinedTwice.__qualname__ = "DefinedTwice"  # as at the top of a module
    return DefinedTwice


@virtual
async def test_what_a_log_handler_publishes_in_the_middle_of_a_publish_goes_to_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before, now = twice_defined(), twice_defined()
    seen: list[tuple[str, str]] = []
    bus = EventBus()

    class Publishing(logging.Handler):
        def emit(self, told: logging.LogRecord) -> None:
            if "defined again" in told.getMessage():
                bus.publish_nowait(LoggedNote())

    handler = Publishing()
    monkeypatch.setattr(logging.getLogger("openoutcry"), "handlers", [handler])
    bus.subscribe("defined_twice", lambda event: seen.append(("text", event.event_type)), name="text")
    bus.subscribe(LoggedNote, lambda event: seen.append(("note", event.event_type)), name="note")
    async with bus:
        await bus.publish_many([now(), LoggedNote()])
        await bus.join()
        bus.subscribe(before, lambda event: seen.append(("before", event.event_type)), name="before")
        await bus.publish(now())
        await bus.join()
    text, note = ("text", "defined_twice"), ("note", "logged_note")
    assert seen == [text, note, text, note]
