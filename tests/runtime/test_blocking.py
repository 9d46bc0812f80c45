"""Plain handlers in threads (`blocking=True`): in order, out of the loop's way, with cause, and bounded."""

import asyncio
import threading
import time
from typing import Any

import pytest
from bus_helpers import a_fill, a_kill, assert_balanced, assert_settled, row, ticks

from openoutcry import NO_RETRY, EventBus, EventType, FillEvent, HealthCheckConfig, SubscriptionError
from openoutcry.journals import MemoryJournal

LIMIT_S = 300.0


class Blocking:
    """A plain handler that blocks its thread until it is let go, for the prices that it is to block for."""

    def __init__(self, *blocks_for: float) -> None:
        self.blocks_for = blocks_for
        self.begun: list[Any] = []
        self.handled: list[Any] = []
        self.threads: set[threading.Thread] = set()
        self.most_at_once = 0
        self.let_go = threading.Event()

    def on_event(self, event: Any) -> None:
        self.begun.append(event)
        self.threads.add(threading.current_thread())
        self.most_at_once = max(self.most_at_once, len(self.begun) - len(self.handled))
        if getattr(event, "price", None) in self.blocks_for:
            assert self.let_go.wait(LIMIT_S)
        self.handled.append(event)


async def until(condition: Any) -> None:
    deadline_s = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline_s, "the condition never came to hold"
        await asyncio.sleep(0.002)


def run(main: Any) -> Any:
    return asyncio.run(main())


def test_a_blocking_handler_runs_in_one_thread_of_its_own_in_order_one_at_a_time():
    blocking = Blocking()

    async def main() -> None:
        async with EventBus() as bus:
            bus.subscribe(EventType.MARKET_DATA, blocking.on_event, name="model", blocking=True)
            some = ticks(200)
            await bus.publish_many(some)
            await bus.join()
            assert blocking.handled == some
            assert_settled(bus)

    run(main)
    assert len(blocking.threads) == 1
    assert blocking.threads != {threading.main_thread()}
    assert blocking.most_at_once == 1


def test_the_loop_goes_on_while_a_handler_blocks_and_so_do_kill_switches_for_it():
    blocking, handled = Blocking(1.0), []

    async def main() -> None:
        async with EventBus() as bus:
            bus.subscribe(
                [EventType.MARKET_DATA, EventType.KILL_SWITCH], blocking.on_event, name="risk", blocking=True
            )
            bus.subscribe(EventType.MARKET_DATA, handled.append, name="other")
            await bus.publish_many(ticks(3))
            await until(lambda: len(handled) == 3)
            assert len(blocking.begun) == 1
            await bus.publish(a_kill())
            await until(lambda: blocking.handled)
            assert blocking.handled[0].event_type is EventType.KILL_SWITCH
            blocking.let_go.set()
            await bus.join()
            assert len(blocking.handled) == 4

    run(main)


def test_several_at_a_time_have_a_thread_each():
    blocking = Blocking(1.0, 2.0, 3.0)

    async def main() -> None:
        async with EventBus() as bus:
            bus.subscribe(EventType.MARKET_DATA, blocking.on_event, name="pool", blocking=True, concurrency=3)
            await bus.publish_many(ticks(9))
            await until(lambda: len(blocking.begun) == 3)
            blocking.let_go.set()
            await bus.join()
            assert len(blocking.handled) == 9

    run(main)
    assert len(blocking.threads) == 3


def test_what_a_blocking_handler_publishes_has_its_cause_also_when_it_has_returned():
    fills: list[FillEvent] = []

    async def main() -> None:
        async with EventBus() as bus:

            def handler(event: Any) -> None:
                bus.publish_threadsafe(a_fill(f"o-{event.price:g}"))

            bus.subscribe(EventType.MARKET_DATA, handler, name="model", blocking=True)
            bus.subscribe(EventType.FILL, fills.append, name="fills")
            some = ticks(20)
            await bus.publish_many(some)
            await until(lambda: len(fills) == 20)
            await bus.join()
            assert [fill.causation_id for fill in fills] == [tick.event_id for tick in some]
            assert [fill.correlation_id for fill in fills] == [tick.event_id for tick in some]

    run(main)


def test_ids_are_derived_in_the_thread_so_that_handling_again_publishes_nothing_twice():
    made: list[list[str]] = []
    journal = MemoryJournal()

    async def life() -> None:
        fills: list[str] = []
        made.append(fills)

        def handler(_event: Any) -> None:
            for number in range(3):
                fill = a_fill(f"o-{number}")
                fills.append(fill.event_id)
                bus.publish_threadsafe(fill).result(LIMIT_S)
            if len(made) == 1:
                raise ValueError("after the fact")

        bus = EventBus(journal=journal)
        bus.subscribe(EventType.ORDER_STATE_CHANGE, lambda _e: None, name="other")
        bus.subscribe(EventType.MARKET_DATA, handler, name="model", blocking=True, retry=NO_RETRY)
        async with bus:
            if len(made) == 1:
                (tick,) = ticks(1)
                await bus.publish(tick, level="process")
            else:
                assert bus.admin.redrive("model") == 1
            await bus.join()

    run(life)
    run(life)
    assert len(set(made[0])) == 3
    assert made[0] == made[1]


def test_a_blocking_handler_that_waits_for_its_own_publication_never_waits_for_room():
    """CONTRACT 6: a re-entrant publish never waits for room that only its own handler could free."""
    answers: list[bool] = []

    async def main() -> None:
        async with EventBus(max_queue_size=4) as bus:

            def handler(event: Any) -> None:
                if event.price < 3:
                    some = ticks(6, first=10)
                    answers.extend(bus.publish_threadsafe(tick).result(LIMIT_S) for tick in some)

            bus.subscribe(EventType.MARKET_DATA, handler, name="model", blocking=True)
            await bus.publish_many(ticks(2))
            await bus.join()
            assert_settled(bus)

    run(main)
    assert answers.count(False) > 0
    assert len(answers) % 6 == 0


def test_a_call_over_its_time_is_abandoned_and_named_and_the_next_begins():
    blocking = Blocking(1.0)

    async def main() -> None:
        config = HealthCheckConfig(recover=False)
        async with EventBus(health_check_config=config) as bus:
            subscription = bus.subscribe(
                EventType.MARKET_DATA,
                blocking.on_event,
                name="model",
                blocking=True,
                timeout_s=0.5,
                retry=NO_RETRY,
            )
            await bus.publish_many(ticks(3))
            await until(lambda: len(blocking.handled) == 2)
            await bus.join()
            assert subscription.abandoned == 1
            assert "abandoned" in [f.check for f in (await bus.check_health()).findings]
            assert [letter.reason for letter in bus.dead_letters()] == ["timed out"]
            blocking.let_go.set()
            await until(lambda: subscription.abandoned == 0)
            assert_settled(bus)

    run(main)
    assert len(blocking.threads) == 2


def test_a_call_that_ends_soon_after_its_time_was_no_failure():
    async def main() -> None:
        async with EventBus() as bus:
            bus.subscribe(
                EventType.MARKET_DATA,
                lambda _event: time.sleep(0.1),
                name="model",
                blocking=True,
                timeout_s=0.02,
            )
            await bus.publish_many(ticks(2))
            await bus.join()
            found = row(bus, "model")
            assert (found.handled, found.dead_lettered) == (2, 0)

    run(main)


@pytest.mark.parametrize("error", [ValueError, SystemExit, StopIteration, StopAsyncIteration], ids=str)
def test_what_a_blocking_handler_raises_is_its_failure(error):
    def handler(_event: Any) -> None:
        raise error

    async def main() -> list[str]:
        async with EventBus() as bus:
            bus.subscribe(EventType.MARKET_DATA, handler, name="model", blocking=True, retry=NO_RETRY)
            await bus.publish_many(ticks(2))
            await bus.join()
            assert_balanced(bus)
            return [letter.reason for letter in bus.dead_letters()]

    assert run(main) == ["failed", "failed"]


def test_a_stop_waits_for_a_call_that_ends_in_time_and_leaves_one_that_does_not():
    blocking = Blocking(1.0)

    async def main() -> None:
        bus = EventBus()
        bus.subscribe(EventType.MARKET_DATA, blocking.on_event, name="model", blocking=True)
        await bus.start()
        await bus.publish_many(ticks(2))
        await until(lambda: blocking.begun)
        await bus.stop(timeout_s=0)
        assert row(bus, "model").waiting == 2
        assert_balanced(bus)
        blocking.let_go.set()
        await bus.start()
        await bus.join()
        assert [event.price for event in blocking.handled][-2:] == [1.0, 2.0]
        await bus.stop()

    run(main)


def test_a_program_that_is_cancelled_does_not_wait_for_a_thread():
    blocking = Blocking(1.0)

    async def main() -> None:
        bus = EventBus()
        bus.subscribe(EventType.MARKET_DATA, blocking.on_event, name="model", blocking=True)
        await bus.start()
        await bus.publish_many(ticks(1))
        await until(lambda: blocking.begun)
        # and no stop: the loop is closed with the call in hand

    began_s = time.monotonic()
    run(main)
    assert time.monotonic() - began_s < LIMIT_S
    assert not blocking.handled, "it has not been waited for"
    blocking.let_go.set()


def test_threads_end_with_their_subscription():
    async def main() -> set[threading.Thread]:
        blocking = Blocking()
        async with EventBus() as bus:
            bus.subscribe(EventType.MARKET_DATA, blocking.on_event, name="model", blocking=True)
            await bus.publish_many(ticks(3))
            await bus.join()
            bus.unsubscribe(EventType.MARKET_DATA, blocking.on_event)
            await until(lambda: not any(thread.is_alive() for thread in blocking.threads))
        return blocking.threads

    assert run(main)


def test_recovery_restarts_a_stuck_thread_and_names_it():
    blocking = Blocking(1.0)

    async def main() -> None:
        config = HealthCheckConfig(stall_s=0.5, check_s=0.05)
        async with EventBus(health_check_config=config) as bus:
            subscription = bus.subscribe(
                EventType.MARKET_DATA, blocking.on_event, name="model", blocking=True, retry=NO_RETRY
            )
            await bus.publish_many(ticks(2))
            await until(lambda: len(blocking.handled) == 1)
            assert subscription.abandoned == 1
            assert [letter.reason for letter in bus.dead_letters()] == ["timed out"]
            blocking.let_go.set()
            await until(lambda: subscription.abandoned == 0)

    run(main)


def test_what_cannot_be_called_in_a_thread_is_refused():
    async def handler(_event: Any) -> None:
        return

    with pytest.raises(SubscriptionError, match="coroutine function"):
        EventBus().subscribe(EventType.MARKET_DATA, handler, blocking=True)
    with pytest.raises(SubscriptionError, match="outbox"):
        EventBus().subscribe(EventType.MARKET_DATA, lambda _e: None, blocking=True, outbox=True)
