"""The audit history (CONTRACT 31, as far as in memory): order, filters, limits, and what is not in it."""

import asyncio
from dataclasses import dataclass

import pytest
from bus_helpers import a_fill, a_kill, a_tick, an_order, ticks, virtual

from openoutcry import ConfigError, Event, EventBus, EventType, FillEvent, SubscriptionError


@dataclass
class Note:
    event_id: str
    event_type: str = "note"


@virtual
async def test_every_accepted_event_is_in_the_history_at_once():
    """CONTRACT 31."""
    async with EventBus() as bus:
        events = [a_tick(), an_order(), a_fill(), Note("1"), a_kill(), a_tick()]
        for number, event in enumerate(events, 1):
            await bus.publish(event)
            assert bus.get_event_history() == events[:number]


@virtual
async def test_the_history_is_filtered_by_type_class_or_a_list_of_these():
    async with EventBus() as bus:
        tick, order, fill, note = a_tick(), an_order(), a_fill(), Note("1")
        await bus.publish_many([tick, order, fill, note])
        assert bus.get_event_history(EventType.FILL) == [fill]
        assert bus.get_event_history("order") == [order]
        assert bus.get_event_history(FillEvent) == [fill]
        assert bus.get_event_history(["note", EventType.MARKET_DATA]) == [tick, note]
        assert bus.get_event_history(Note) == [note]
        assert bus.get_event_history(Event) == [tick, order, fill]
        assert bus.get_event_history("*") == bus.get_event_history() == [tick, order, fill, note]
        assert bus.get_event_history("nothing") == []
        with pytest.raises(SubscriptionError):
            bus.get_event_history([])


@virtual
async def test_the_limit_gives_the_newest_oldest_first():
    async with EventBus() as bus:
        events = ticks(300)
        await bus.publish_many(events[:150])
        for event in events[150:]:
            await bus.publish(event)
        await bus.join()
        assert bus.get_event_history() == events[-100:], "100 unless told"
        assert bus.get_event_history(limit=7) == events[-7:]
        assert bus.get_event_history(EventType.MARKET_DATA, 250) == events[-250:]
        assert bus.get_event_history(None, 1_000) == events
        assert bus.get_event_history(limit=0) == []
        with pytest.raises(ConfigError, match="limit is -5"):
            bus.get_event_history(limit=-5)


@pytest.mark.parametrize("size", [0, 1, 10, 64])
@virtual
async def test_the_newest_are_kept_up_to_the_size_whatever_the_batches(size):
    async with EventBus(history_size=size) as bus:
        events = ticks(200)
        await bus.publish_many(events[:100])
        await bus.join()
        for event in events[100:]:
            await bus.publish(event)
            await asyncio.sleep(0)
        await bus.join()
        assert bus.get_event_history(limit=1_000) == (events[-size:] if size else [])
        assert bus.get_status()["history"] == {"kept": size, "size": size}


@virtual
async def test_refused_and_duplicate_events_are_not_in_the_history():
    async with EventBus(max_queue_size=10) as bus:
        bus.subscribe("*", lambda _event: None, name="desk").pause()
        accepted = [event for event in (an_order(str(n)) for n in range(30)) if bus.publish_nowait(event)]
        bus.publish_nowait(accepted[0])
        assert bus.get_event_history() == accepted
        bus.subscription("desk").resume()


@virtual
async def test_the_history_is_the_callers_copy():
    async with EventBus() as bus:
        await bus.publish(a_tick())
        bus.get_event_history().clear()
        assert len(bus.get_event_history()) == 1


@virtual
async def test_what_was_published_before_the_start_is_in_the_history_after_it():
    bus = EventBus()
    tick, kill = a_tick(), a_kill()
    await bus.publish(tick)
    await bus.publish(kill)
    await bus.start()
    assert {e.event_id for e in bus.get_event_history()} == {tick.event_id, kill.event_id}
    await bus.stop()
    assert len(bus.get_event_history()) == 2, "also after the stop"


@virtual
async def test_reading_the_history_inside_a_handler_disturbs_nothing():
    async with EventBus() as bus:
        lengths: list[int] = []

        async def handler(_event: Event) -> None:
            lengths.append(len(bus.get_event_history(limit=1_000)))

        bus.subscribe("*", handler)
        for event in ticks(50):
            await bus.publish(event)
        await bus.join()
        assert len(lengths) == 50


@pytest.mark.parametrize("bad", [-1, 1.5, "10", None], ids=repr)
def test_a_size_out_of_range_is_refused(bad):
    with pytest.raises(ConfigError, match="history_size"):
        EventBus(history_size=bad)
