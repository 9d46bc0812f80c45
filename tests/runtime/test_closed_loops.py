"""A loop that is closed without a stop takes nobody with it: not the journal, feed threads, rounds or publishers."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any

from bus_helpers import Desk, a_fill, a_signal, an_order, assert_settled
from durable_kit import SlowDisk, a_bus, cursor

from openoutcry import EventBus
from openoutcry.journals import MemoryJournal


def in_turn(*lives: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run each on a loop of its own, which is closed with whatever is left on it, uncancelled."""
    for life in lives:
        loop = asyncio.new_event_loop()
        loop.set_exception_handler(lambda *_: None)
        try:
            loop.run_until_complete(life())
        finally:
            loop.close()


async def joined_and_stopped(bus: EventBus) -> None:
    async with asyncio.timeout(10):
        await bus.join()
    assert_settled(bus)
    await bus.stop()


def test_cursors_are_saved_in_time_on_the_next_loop():
    """CONTRACT 18: an idle bus saves its cursors within a stated time."""
    journal, desk = MemoryJournal(), Desk()
    bus = a_bus(journal, cursor_save_s=0.05)
    bus.subscribe("*", desk.on_event, name="desk")

    async def first() -> None:
        await bus.start()
        await bus.publish(an_order("o-1"))
        await bus.join()

    async def second() -> None:
        await bus.start()
        await bus.publish(an_order("o-2"))
        await bus.join()
        async with asyncio.timeout(10):
            while cursor(journal, "desk").floor < journal.head:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.01)
        await joined_and_stopped(bus)

    in_turn(first, second)
    assert len(desk.handled) == 2


def test_a_sync_that_was_under_way_ends_and_publishers_go_on():
    journal, desk = SlowDisk(), Desk()
    bus = a_bus(journal, sync="thread")
    bus.subscribe("*", desk.on_event, name="desk")
    lost = []

    async def first() -> None:
        await bus.start()
        lost.append(asyncio.ensure_future(bus.publish(an_order("o-1"), level="disk")))
        await asyncio.sleep(0.01)

    async def second() -> None:
        journal.let_go()
        await bus.start()
        async with asyncio.timeout(10):
            assert await bus.publish(an_order("o-2"), level="disk")
        await joined_and_stopped(bus)

    in_turn(first, second)
    assert [event.order_id for event in desk.handled] == ["o-1", "o-2"]


def test_what_feed_threads_had_handed_in_is_let_in_on_the_next_loop():
    desk, is_open = Desk(), []

    async def on_event(event: Any) -> None:
        if not is_open:
            await asyncio.sleep(1000)
        await desk.on_event(event)

    bus = EventBus(10)
    bus.subscribe("*", on_event, name="desk")
    answers: list[Future[bool]] = []
    lost = []

    def feed(first: int, last: int) -> None:
        thread = threading.Thread(
            target=lambda: answers.extend(
                bus.publish_threadsafe(a_fill(f"f-{n}")) for n in range(first, last)
            )
        )
        thread.start()
        thread.join()

    async def first() -> None:
        await bus.start()
        feed(0, 20)
        await asyncio.sleep(0.01)
        lost.append(asyncio.ensure_future(bus.publish(a_fill("own"))))
        lost.append(asyncio.ensure_future(bus.join()))
        await asyncio.sleep(0.01)
        assert not all(answer.done() for answer in answers)

    async def second() -> None:
        is_open.append(True)
        await bus.start()
        feed(20, 21)
        async with asyncio.timeout(10):
            for answer in answers:
                assert await asyncio.wrap_future(answer)
        await joined_and_stopped(bus)

    in_turn(first, second)
    assert [event.order_id for event in desk.handled if event.order_id != "own"] == [
        f"f-{n}" for n in range(21)
    ]


def test_rounds_have_their_deadlines_on_the_next_loop():
    bus = EventBus(signal_timeout=0.2, barrier_timeout=0.3)
    lost = []

    async def first() -> None:
        await bus.start()
        bus.register_signal_agent("macro")
        lost.append(asyncio.ensure_future(bus.wait_for_signals()))
        await asyncio.sleep(0.01)

    async def second() -> None:
        await bus.start()
        async with asyncio.timeout(10):
            await bus.wait_for_signals()
        waiting = asyncio.ensure_future(bus.wait_for_signals())
        await asyncio.sleep(0)
        await bus.publish_signal(a_signal("macro"))
        async with asyncio.timeout(10):
            assert set(await waiting) == {"macro"}
        await joined_and_stopped(bus)

    in_turn(first, second)
