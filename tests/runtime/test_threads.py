"""Threads (CONTRACT 30): one way in for others, and a clear error for everything else."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from bus_helpers import (
    Desk,
    Gate,
    a_fill,
    a_kill,
    a_signal,
    a_tick,
    an_order,
    assert_exactly,
    assert_settled,
    ticks,
    virtual,
)

from openoutcry import (
    BackpressureConfig,
    BusClosed,
    EventBus,
    EventType,
    InvalidEvent,
    LoopClosed,
    WrongThread,
)
from openoutcry.testing import run_virtual

SLOW_TOKENS = BackpressureConfig(rate_limit_per_s=1.0, rate_limit_burst=1, cooldown_s=5.0, grace_s=1e6)
PATIENT = BackpressureConfig(cooldown_s=1_000.0, grace_s=1e6)


def in_a_thread(call: Callable[[], Any]) -> Any:
    """What a call gives or raises in a thread of its own, while this one waits."""
    answers: list[Any] = []

    def run() -> None:
        try:
            answers.append(call())
        except Exception as error:  # noqa: BLE001 - the error is the answer
            answers.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return answers[0]


@virtual
async def test_events_of_feed_threads_arrive_each_in_its_own_order():
    """CONTRACT 30, 9."""
    desk = Desk()
    async with EventBus() as bus:
        bus.subscribe("*", desk.on_event)
        feeds = {name: ticks(300, symbol=name) for name in "ABCD"}

        def feed(name: str) -> list["Future[bool]"]:
            return [bus.publish_threadsafe(event) for event in feeds[name]]

        with ThreadPoolExecutor(4) as pool:
            loop = asyncio.get_running_loop()
            futures = await asyncio.gather(*(loop.run_in_executor(pool, feed, name) for name in feeds))
        answers = await asyncio.gather(*(asyncio.wrap_future(f) for some in futures for f in some))
        assert answers == [True] * 1_200
        await bus.join()
        for name, events in feeds.items():
            assert [e for e in desk.handled if e.symbol == name] == events
        assert_settled(bus)


@virtual
async def test_urgent_events_of_a_thread_pass_the_others():
    """CONTRACT 5."""
    desk = Desk()
    async with EventBus() as bus:
        bus.subscribe("*", desk.on_event)

        def feed() -> None:
            bus.publish_threadsafe(a_tick(1.0))
            bus.publish_threadsafe(a_tick(2.0), priority=True)
            bus.publish_threadsafe(a_fill())
            bus.publish_threadsafe(a_kill())

        in_a_thread(feed)
        await bus.join()
        assert desk.types[0] == "kill_switch"
        assert desk.types[1:] == ["market_data", "fill", "market_data"]
        assert desk.handled[1].price == 2.0


@virtual
async def test_a_thread_gets_through_while_the_loop_is_busy():
    """CONTRACT 30: handlers that never wait give the loop back by time."""
    got_in = threading.Event()
    handed_in = threading.Event()
    async with EventBus() as bus:
        count = 0

        async def endless(_event: Any) -> None:
            nonlocal count
            count += 1
            if not got_in.is_set() and count < 500_000:
                await bus.publish(an_order())

        bus.subscribe(EventType.ORDER, endless)
        bus.subscribe(EventType.FILL, lambda _event: got_in.set())
        thread = threading.Thread(
            target=lambda: (handed_in.set(), bus.publish_threadsafe(a_fill()).result(300))
        )
        await bus.publish(an_order())
        thread.start()
        await bus.join()
        await asyncio.to_thread(thread.join)
        assert got_in.is_set()
        assert count < 500_000


@virtual
async def test_the_future_has_what_publish_would_raise():
    """CONTRACT 1."""
    async with EventBus() as bus:
        future = in_a_thread(lambda: bus.publish_threadsafe(object()))
        with pytest.raises(InvalidEvent):
            await asyncio.wrap_future(future)
        assert future.done()


class Malformed:
    """What is no event, and does not even say so politely."""

    event_id = "malformed"

    @property
    def event_type(self) -> str:
        raise LookupError("no type")


@pytest.mark.parametrize("priority", [False, True], ids=["plain", "with priority"])
@virtual
async def test_a_malformed_event_harms_no_other_future(priority):
    """CONTRACT 30, 1."""
    desk = Desk()
    async with EventBus() as bus:
        bus.subscribe("*", desk.on_event)
        events: list[Any] = [*ticks(20), Malformed(), object(), *ticks(20, 21)]
        futures = in_a_thread(lambda: [bus.publish_threadsafe(event, priority) for event in events])
        answers = await asyncio.gather(*map(asyncio.wrap_future, futures), return_exceptions=True)
        assert [type(answer) for answer in answers[20:22]] == [LookupError, InvalidEvent]
        assert answers[:20] + answers[22:] == [True] * 40
        await bus.join()
        assert desk.prices == [float(n) for n in range(1, 41)]
        assert_settled(bus)


@virtual
async def test_at_most_the_room_waits_for_the_loop_and_the_rest_is_refused_at_once():
    """CONTRACT 4, 30: a feed that is quicker than the loop has no endless queue."""
    desk = Desk()
    async with EventBus(max_queue_size=100) as bus:
        bus.subscribe("*", desk.on_event)
        events = ticks(250)
        futures = in_a_thread(lambda: [bus.publish_threadsafe(event) for event in events])
        assert [f.result() for f in futures if f.done()] == [False] * 150
        assert bus.metrics.refused == {"no_room": 150}
        fill, kill = a_fill(), a_kill()
        urgent = in_a_thread(lambda: [bus.publish_threadsafe(fill), bus.publish_threadsafe(kill)])
        answers = [await asyncio.wrap_future(f) for f in futures]
        await asyncio.gather(*map(asyncio.wrap_future, urgent))
        await bus.join()
        accepted = [event for event, answer in zip(events, answers, strict=True) if answer]
        assert_exactly(desk.handled, [*accepted, fill, kill])
        assert accepted == events[: len(accepted)]
        assert_settled(bus)


@virtual
async def test_rate_limited_events_of_a_thread_keep_their_order():
    """CONTRACT 4, 9."""
    desk = Desk()
    async with EventBus(max_queue_size=100, backpressure_config=SLOW_TOKENS) as bus:
        bus.subscribe("*", desk.on_event, name="desk").pause()
        assert await bus.publish_many(ticks(75)) == 75
        futures = in_a_thread(lambda: [bus.publish_threadsafe(event) for event in ticks(5, 100)])
        later = in_a_thread(lambda: bus.publish_threadsafe(a_fill()))
        assert await asyncio.wrap_future(later) is True, "the fill does not wait behind them"
        answers = await asyncio.gather(*map(asyncio.wrap_future, futures))
        bus.subscription("desk").resume()
        await bus.join()
        normal = [e.price for e in desk.handled if e.event_type == "market_data"]
        assert normal == [float(n) for n in (*range(1, 76), *range(100, 105))]
        assert answers == [True] * 5
        assert_settled(bus)


@virtual
async def test_high_priority_events_of_a_thread_keep_their_order_under_pressure():
    """CONTRACT 9, 30: who comes when there is room does not overtake those who have waited for it."""
    handled: list[str] = []
    futures: list[Future[bool]] = []
    async with EventBus(max_queue_size=10, backpressure_config=PATIENT) as bus:

        def hand_in(count: int) -> None:
            for _ in range(count):
                futures.append(bus.publish_threadsafe(a_fill(str(len(futures)))))

        async def desk(event: Any) -> None:
            await asyncio.sleep(0.1)
            handled.append(event.order_id)
            if len(futures) < 60:
                in_a_thread(lambda: hand_in(1))

        bus.subscribe("*", desk, timeout_s=10)
        in_a_thread(lambda: hand_in(18))
        answers = await asyncio.gather(*map(asyncio.wrap_future, futures))
        await bus.join()
        assert all(answers)
        assert bus.metrics.room_waits > 10
        assert handled == [str(n) for n in range(60)]
        assert_settled(bus)


@virtual
async def test_urgent_events_that_wait_for_the_loop_are_bounded_and_wait_in_one_line():
    """CONTRACT 4, 30: as much room again as the ordinary ones have; kill switches need none."""
    gate = Gate()
    async with EventBus(max_queue_size=50, backpressure_config=PATIENT) as bus:
        bus.subscribe("*", gate.on_event)
        before = len(asyncio.all_tasks())
        futures = in_a_thread(lambda: [bus.publish_threadsafe(a_fill(str(n))) for n in range(500)])
        assert [future.result() for future in futures if future.done()] == [False] * 400
        assert in_a_thread(lambda: bus.publish_threadsafe(a_tick())).result(0) is False
        kill = in_a_thread(lambda: bus.publish_threadsafe(a_kill()))
        assert await asyncio.wrap_future(kill) is True
        await asyncio.sleep(0.01)
        assert len(asyncio.all_tasks()) <= before + 2
        more = in_a_thread(lambda: [bus.publish_threadsafe(a_fill(str(n))) for n in range(500)])
        await asyncio.sleep(0.01)
        assert sum(not future.done() for future in [*futures, *more]) <= 100
        gate.open()
        answers = await asyncio.gather(*map(asyncio.wrap_future, [*futures, *more]))
        await bus.join()
        assert len(gate.handled) == 1 + sum(answers)
        assert_settled(bus)


@virtual
async def test_joining_waits_for_what_threads_have_handed_in():
    desk = Desk()
    async with EventBus() as bus:
        bus.subscribe("*", desk.on_event)
        in_a_thread(lambda: [bus.publish_threadsafe(event) for event in ticks(50)])
        await bus.join()
        assert len(desk.handled) == 50


def test_what_threads_hand_in_before_the_start_is_delivered_after_it():
    """CONTRACT 27, 30."""
    desk = Desk()
    bus = EventBus()
    bus.subscribe("*", desk.on_event)
    futures = in_a_thread(lambda: [bus.publish_threadsafe(event) for event in (a_tick(), a_fill(), a_kill())])
    assert not any(future.done() for future in futures)

    async def main() -> None:
        async with bus:
            await bus.join()
        assert desk.types == ["kill_switch", "fill", "market_data"]

    run_virtual(main())
    assert [future.result(0) for future in futures] == [True] * 3


@virtual
async def test_after_the_stop_a_thread_is_told_so():
    """CONTRACT 27."""
    bus = EventBus()
    await bus.start()
    await bus.stop()
    future = in_a_thread(lambda: bus.publish_threadsafe(a_tick()))
    assert isinstance(future.exception(0), BusClosed)


@virtual
async def test_what_waits_for_a_token_when_the_bus_stops_is_told_so():
    """CONTRACT 3, 27: and nobody waits for ever for an answer."""
    desk = Desk()
    bus = EventBus(max_queue_size=100, backpressure_config=SLOW_TOKENS)
    bus.subscribe("*", desk.on_event, name="desk").pause()
    await bus.start()
    await bus.publish_many(ticks(75))
    futures = in_a_thread(lambda: [bus.publish_threadsafe(event) for event in ticks(4, 100)])
    await asyncio.sleep(0.5)
    assert [f.done() for f in futures] == [True, False, False, False]
    await bus.stop(timeout_s=0.1)
    assert all(f.done() for f in futures)
    assert [type(f.exception(0)) for f in futures[1:]] == [BusClosed] * 3
    bus.subscription("desk").resume()
    await bus.start()
    await bus.join()
    assert len(desk.handled) == 76
    assert_settled(bus)
    await bus.stop()


@virtual
async def test_a_high_priority_event_that_waits_for_room_when_the_bus_stops_is_answered():
    bus = EventBus(max_queue_size=10, backpressure_config=SLOW_TOKENS)
    bus.subscribe("*", Desk().on_event, name="desk").pause()
    await bus.start()
    await bus.publish_many([a_fill(str(n)) for n in range(10)])
    future = in_a_thread(lambda: bus.publish_threadsafe(a_fill("late")))
    await asyncio.sleep(0.5)
    await bus.stop(timeout_s=0.1)
    await asyncio.sleep(10)
    assert future.done()
    assert future.exception(0) is not None or future.result(0) is False


@virtual
async def test_an_answer_on_its_way_cannot_be_cancelled():
    """CONTRACT 3: the future says what became of the event, whoever lost patience."""
    desk = Desk()
    async with EventBus() as bus:
        bus.subscribe("*", desk.on_event)
        future = in_a_thread(lambda: bus.publish_threadsafe(a_tick()))
        assert future.cancel() is False
        assert await asyncio.wrap_future(future) is True
        await bus.join()
        assert len(desk.handled) == 1


def test_a_loop_that_was_closed_without_a_stop_is_told_to_threads_until_the_next_start():
    """CONTRACT 27, 30: what was handed in before waits for the next start, and what comes after raises."""
    desk = Desk()
    bus = EventBus()
    bus.subscribe("*", desk.on_event)
    early: list[Future[bool]] = []

    async def first() -> None:
        await bus.start()
        asyncio.get_running_loop().call_soon(lambda: early.append(bus.publish_threadsafe(a_tick())))

    run_virtual(first())
    late = in_a_thread(lambda: bus.publish_threadsafe(a_tick()))
    assert isinstance(late, LoopClosed)

    async def main() -> None:
        await bus.start()
        await bus.join()
        await bus.stop()

    run_virtual(main())
    assert [f.result(0) for f in early] == [True]
    assert len(desk.handled) == 1


@virtual
async def test_a_publish_by_a_thread_that_a_handler_started_has_its_cause():
    """CONTRACT 12: as that of a task has."""
    async with EventBus() as bus:
        made: list[Any] = []

        async def handler(event: Any) -> None:
            child = an_order()
            made.append(child)
            future = await asyncio.to_thread(bus.publish_threadsafe, child)
            assert await asyncio.wrap_future(future)

        bus.subscribe(EventType.MARKET_DATA, handler)
        tick = a_tick()
        await bus.publish(tick)
        await bus.join()
        assert made[0].causation_id == tick.event_id


# -- everything else -----------------------------------------------------------------------------------------


@virtual
async def test_every_other_call_from_a_foreign_thread_is_a_clear_error_and_changes_nothing():
    """CONTRACT 30."""
    async with EventBus() as bus:
        desk = Desk()
        subscription = bus.subscribe("a", desk.on_event, name="desk")
        calls: dict[str, Callable[[], Any]] = {
            "publish_nowait": lambda: bus.publish_nowait(a_tick()),
            "publish": lambda: asyncio.run(bus.publish(a_tick())),
            "publish_fill": lambda: asyncio.run(bus.publish(a_fill())),
            "publish_kill": lambda: asyncio.run(bus.publish(a_kill())),
            "publish_many": lambda: asyncio.run(bus.publish_many(ticks(2))),
            "publish_signal": lambda: asyncio.run(bus.publish_signal(a_signal("a"))),
            "wait_for_signals": lambda: asyncio.run(bus.wait_for_signals()),
            "join": lambda: asyncio.run(bus.join()),
            "start": lambda: asyncio.run(bus.start()),
            "stop": lambda: asyncio.run(bus.stop()),
            "subscribe": lambda: bus.subscribe("*", Desk().on_event),
            "on": lambda: bus.on("*")(Desk().on_event),
            "unsubscribe": lambda: bus.unsubscribe("a", desk.on_event),
            "cleanup_dead_handlers": bus.cleanup_dead_handlers,
            "register_signal_agent": lambda: bus.register_signal_agent("a"),
            "open_round": bus.open_round,
            "abstain": lambda: bus.abstain("a", "no idea"),
            "heartbeat": lambda: bus.heartbeat("a"),
            "on_backpressure_change": lambda: bus.on_backpressure_change(print),
            "reset_metrics": bus.reset_metrics,
            "metrics": lambda: bus.metrics,
            "queue_size": lambda: bus.queue_size,
            "backpressure_level": lambda: bus.backpressure_level,
            "ledger": bus.ledger,
            "get_status": bus.get_status,
            "read_status": lambda: asyncio.run(bus.read_status()),
            "get_handler_stats": bus.get_handler_stats,
            "get_event_history": bus.get_event_history,
            "dead_letters": bus.dead_letters,
            "pause": subscription.pause,
            "resume": subscription.resume,
        }
        answers = {name: in_a_thread(call) for name, call in calls.items()}
        assert {name: a for name, a in answers.items() if not isinstance(a, WrongThread)} == {}
        assert "publish_threadsafe" in str(answers["publish_nowait"])
        assert [s.name for s in bus.subscriptions] == ["desk"]
        assert subscription.state() == "idle"
        assert bus.metrics.published == 0
        assert bus.is_running


@virtual
async def test_a_publish_from_a_foreign_thread_is_refused_also_in_the_middle_of_a_batch():
    """CONTRACT 30."""
    desk = Desk()
    async with EventBus() as bus:
        bus.subscribe("*", desk.on_event)
        await bus.publish(a_tick())
        answer = in_a_thread(lambda: asyncio.run(bus.publish(a_tick())))
        assert isinstance(answer, WrongThread)
        await bus.join()
        assert len(desk.handled) == 1


@virtual
async def test_a_bus_made_in_one_thread_may_run_in_another():
    desk = Desk()
    made = in_a_thread(EventBus)
    async with made as bus:
        bus.subscribe("*", desk.on_event)
        await bus.publish(a_tick())
        await bus.join()
        assert len(desk.handled) == 1


def test_a_bus_that_has_stopped_may_be_read_by_whoever_waited_for_it():
    bus = EventBus()

    async def main() -> None:
        async with bus:
            bus.subscribe("*", Desk().on_event, name="desk")
            await bus.publish(a_tick())

    in_a_thread(lambda: asyncio.run(main()))
    assert bus.ledger().total("handled") == 1
    assert bus.metrics.published == 1
    assert len(bus.get_event_history()) == 1
    assert bus.get_status()["state"] == "stopped"


@virtual
async def test_many_threads_at_once_lose_and_double_nothing():
    """CONTRACT 7, 30."""
    gate = Gate()
    desk = Desk()
    async with EventBus(max_queue_size=50_000) as bus:
        bus.subscribe("*", desk.on_event)
        bus.subscribe(EventType.ORDER, gate.on_event)
        shared = ticks(200)
        own = [[*ticks(200), a_fill(), a_kill(scope=f"s-{n}"), an_order()] for n in range(6)]

        def feed(events: list[Any]) -> list[bool]:
            mixed = [event for pair in zip(events, shared, strict=False) for event in pair]
            futures = [bus.publish_threadsafe(event) for event in mixed]
            futures += [bus.publish_threadsafe(event) for event in events]
            return [future.result(300) for future in futures]

        answers = await asyncio.gather(*(asyncio.to_thread(feed, events) for events in own))
        assert all(all(some) for some in answers)
        gate.open()
        await bus.join()
        assert_exactly(desk.handled, [*shared, *(event for events in own for event in events)])
        assert_settled(bus)
