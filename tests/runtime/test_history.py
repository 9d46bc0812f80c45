"""The audit history (CONTRACT 31, as far as in memory): order, filters, limits, and what is not in it."""

import asyncio
from dataclasses import dataclass

import pytest
from bus_helpers import a_fill, a_kill, a_tick, an_order, ticks, virtual
from durable_kit import a_bus

from openoutcry import ConfigError, Event, EventBus, EventType, FillEvent, SubscriptionError
from openoutcry.journals import MemoryJournal


@dataclass
class Note:
    event_id: str
    event_type: str = "note"


class Report(Event, kw_only=True):
    event_type: str = "report.of.history"
    text: str


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
        status = bus.get_status()["history"]
        assert (status["kept"], status["size"]) == (size, size)


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


@virtual
@pytest.mark.parametrize("at_once", [True, False])
async def test_the_history_is_bounded_in_bytes_too(at_once):
    """Elsewhere: 300 events of 1 MB kept 300 MB."""
    async with EventBus(history_bytes=10_000_000) as bus:
        some = [Report(text=str(n) + "x" * 1_000_000) for n in range(300)]
        for tick in some:
            await bus.publish(tick)
            if not at_once:
                await asyncio.sleep(0)
        await bus.join()
        assert bus.get_event_history(limit=1_000) == some[-9:]
        assert bus.get_status()["history"]["bytes"] <= 10_000_000
        small = ticks(100)
        await bus.publish_many(small)
        assert bus.get_event_history(limit=1_000) == [*some[-9:], *small]


@virtual
async def test_an_event_that_is_larger_than_the_history_is_not_kept_there_and_is_read_from_the_journal():
    async with a_bus(MemoryJournal(), history_bytes=100_000) as bus:
        some = [Report(text=str(n) + "x" * 1_000_000) for n in range(3)]
        await bus.publish_many(some)
        assert bus.get_status()["history"]["kept"] == 0
        assert bus.get_event_history() == some


@virtual
async def test_large_events_among_small_ones_are_found(monkeypatch):
    async with EventBus(history_bytes=20_000_000) as bus:
        for n in range(3_000):
            text = str(n) + "x" * 1_000_000 if n % 100 == 0 else ""
            await bus.publish(Report(text=text) if n % 2 == 0 else a_tick(float(n)))
            if n % 7 == 0:
                await asyncio.sleep(0)
        await bus.join()
        kept = bus.get_event_history(limit=10_000)
        assert 1_000 <= len(kept) <= 2_000
        assert 10 <= sum(isinstance(e, Report) and e.text != "" for e in kept) <= 20


@pytest.mark.parametrize(
    ("given", "most"),
    [({}, 64 * 2**20), ({"history_size": 1_000_000}, 4_096_000_000), ({"history_bytes": 5}, 5)],
)
def test_the_bytes_are_by_default_several_times_what_ordinary_events_take(given, most):
    assert EventBus(**given).config.history_bytes_most == most


@pytest.mark.parametrize("bad", [-1, 1.5, True, "64"])
def test_a_history_of_so_many_bytes_is_refused(bad):
    with pytest.raises(ConfigError, match="history_bytes"):
        EventBus(history_bytes=bad)
