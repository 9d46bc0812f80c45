"""What a handler raises may decide a test: a failed assertion fails it, a skip skips it, whatever becomes of the event."""

import pytest
from tests.testing.nested_pytest import MODES, check, names_in, run_suite

SUITE = """
import asyncio
import unittest

import pytest

from openoutcry import FillEvent, KillSwitchEvent, MarketDataEvent, Memory, OrderSide
from openoutcry.errors import RestoreFailed
from openoutcry.testing import NotPublished, crash_and_recover, expect


def tick(price=1.0):
    return MarketDataEvent(symbol="ES", price=price)


def fill():
    return FillEvent(order_id="o-1", symbol="ES", side=OrderSide.BUY, filled_quantity=1, fill_price=5000)


async def wrong(event):
    assert event.event_id == "another", "this event is the wrong one"


async def right(event):
    pass


def right_fold(event):
    pass


async def test_bad_assertion(bus):
    bus.subscribe("market_data", wrong, retry=False)
    await bus.publish(tick())


async def test_bad_assertion_although_the_retry_succeeds(bus):
    calls = []
    async def on_tick(event):
        calls.append(event)
        assert len(calls) > 1
    bus.subscribe("market_data", on_tick)
    await bus.publish(tick())


@pytest.mark.bus(dead_letters=True)
async def test_bad_assertion_although_dead_letters_are_allowed(bus):
    bus.subscribe("market_data", wrong, retry=False)
    await bus.publish(tick())


async def test_bad_assertion_of_a_plain_function(bus):
    def on_tick(event):
        assert event.price == 2
    bus.subscribe("market_data", on_tick)
    await bus.publish(tick())


async def test_bad_assertion_of_a_blocking_handler(bus):
    def on_tick(event):
        assert event.price == 2
    bus.subscribe("market_data", on_tick, blocking=True)
    await bus.publish(tick())


async def test_bad_assertion_at_a_kill_switch(bus):
    bus.subscribe("kill_switch", wrong)
    await bus.publish(KillSwitchEvent(reason="test", activated=True))


async def test_bad_assertion_with_an_outbox(durable_bus):
    durable_bus.subscribe("fill", wrong, outbox=True)
    await durable_bus.publish(fill())


async def test_bad_assertion_in_a_group(bus):
    async def on_tick(event):
        async with asyncio.TaskGroup() as group:
            group.create_task(wrong(event))
            group.create_task(right(event))
    bus.subscribe("market_data", on_tick)
    await bus.publish(tick())


async def test_bad_assertion_at_the_end_of_a_cancelled_call(bus):
    async def on_tick(event):
        try:
            await asyncio.sleep(60)
        finally:
            assert event.price == 2
    bus.subscribe("market_data", on_tick, timeout_s=1, retry=False)
    await bus.publish(tick())
    await asyncio.sleep(10)


@pytest.mark.bus(dead_letters=True)
async def test_bad_assertion_of_a_call_that_was_abandoned(bus):
    async def on_tick(event):
        for _ in range(2):
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                pass
        assert event.price == 2
    bus.subscribe("market_data", on_tick, timeout_s=1, retry=False)
    await bus.publish(tick())
    await asyncio.sleep(7200)


async def test_bad_assertion_while_the_rest_is_drained(bus):
    async def on_tick(event):
        await asyncio.sleep(1)
        assert event.price == 2
    bus.subscribe("market_data", on_tick)
    await bus.publish(tick())


async def test_bad_expectation_in_a_handler(bus):
    async def on_tick(event):
        await expect(bus, FillEvent, within_s=1)
    bus.subscribe("market_data", on_tick)
    await bus.publish(tick())
    await asyncio.sleep(2)
    await bus.publish(fill())


async def test_bad_assertion_before_a_crash(durable_bus):
    calls = []
    async def on_fill(event):
        calls.append(event)
        assert len(calls) > 1
    durable_bus.subscribe("fill", on_fill, name="desk")
    await durable_bus.publish(fill())
    while not calls:
        await asyncio.sleep(0)
    await crash_and_recover(durable_bus, lambda again: again.subscribe("fill", on_fill, name="desk"))


async def test_bad_assertion_after_a_crash(durable_bus):
    again = await crash_and_recover(durable_bus, lambda bus: bus.subscribe("fill", wrong, name="desk"))
    await again.publish(fill())


async def test_bad_assertion_after_two_crashes(durable_bus):
    again = await crash_and_recover(await crash_and_recover(durable_bus))
    again.subscribe("fill", wrong, name="desk")
    await again.publish(fill())


async def test_bad_assertion_in_a_fold(durable_bus):
    def fold(event):
        assert event.order_id == "o-2"
    def build(bus):
        bus.subscribe("fill", right, name="desk", restore=fold)
    build(durable_bus)
    await durable_bus.publish(fill())
    await asyncio.sleep(60)
    await crash_and_recover(durable_bus, build)


async def test_bad_assertion_in_a_load(durable_bus):
    def load(state):
        assert state == 2
    def build(bus):
        bus.subscribe("fill", right, name="desk", memory=Memory(right_fold, lambda: 1, load, every=1))
    build(durable_bus)
    await durable_bus.publish(fill())
    await asyncio.sleep(60)
    await crash_and_recover(durable_bus, build)


async def test_bad_assertion_in_a_save(durable_bus):
    def save():
        assert not durable_bus.is_running
    durable_bus.subscribe("fill", right, name="desk", memory=Memory(right_fold, save, right_fold, every=1))
    await durable_bus.publish(fill())


async def test_skipped_by_a_fold(durable_bus):
    def fold(event):
        pytest.skip("no memory today")
    def build(bus):
        bus.subscribe("fill", right, name="desk", restore=fold)
    build(durable_bus)
    await durable_bus.publish(fill())
    await asyncio.sleep(60)
    await crash_and_recover(durable_bus, build)


async def test_bad_memory_that_is_not_given_back(durable_bus):
    def build(bus, fold=right_fold):
        bus.subscribe("fill", right, name="desk", restore=fold)
    def fold(event):
        raise ValueError
    build(durable_bus)
    await durable_bus.publish(fill())
    await asyncio.sleep(60)
    await crash_and_recover(durable_bus, lambda again: build(again, fold))


async def test_ok_memory_that_is_not_given_back_as_expected(durable_bus):
    def build(bus, fold=right_fold):
        return bus.subscribe("fill", right, name="desk", restore=fold)
    def fold(event):
        raise ValueError
    build(durable_bus)
    await durable_bus.publish(fill())
    await asyncio.sleep(60)
    again = await crash_and_recover(durable_bus, lambda again: build(again, fold))
    with pytest.raises(RestoreFailed):
        await again.subscription("desk").ready()
    again.unsubscribe("fill", right)


@pytest.mark.bus(dead_letters=True)
async def test_bad_assertion_in_a_callback(bus):
    async def on_tick(event):
        raise ValueError
    def on_letter(letter):
        assert "ValueError" not in letter.error
    bus.on_dead_letter(on_letter)
    bus.subscribe("market_data", on_tick, retry=False)
    await bus.publish(tick())


@pytest.mark.bus(dead_letters=True)
async def test_bad_assertion_in_a_callback_that_is_a_coroutine(bus):
    async def on_tick(event):
        raise ValueError
    async def on_letter(letter):
        assert "ValueError" not in letter.error
    bus.on_dead_letter(on_letter)
    bus.subscribe("market_data", on_tick, retry=False)
    await bus.publish(tick())


async def test_bad_although_the_test_swallows_its_cancellation(bus):
    bus.subscribe("market_data", wrong)
    await bus.publish(tick())
    try:
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        await asyncio.sleep(3600)


async def test_bad_although_the_test_expects_the_failure_that_follows(bus):
    bus.subscribe("market_data", wrong)
    await bus.publish(tick())
    with pytest.raises(NotPublished):
        await expect(bus, FillEvent, within_s=3600)


async def test_bad_although_the_test_skips(bus):
    bus.subscribe("market_data", wrong)
    await bus.publish(tick())
    try:
        await asyncio.sleep(3600)
    finally:
        pytest.skip("too late")


async def test_bad_pytest_fail(bus):
    async def on_tick(event):
        pytest.fail("a handler says so")
    bus.subscribe("market_data", on_tick)
    await bus.publish(tick())


async def test_skipped_by_a_handler(bus):
    async def on_tick(event):
        pytest.skip("no market today")
    bus.subscribe("market_data", on_tick)
    await bus.publish(tick())


async def test_skipped_by_a_handler_in_the_way_of_unittest(bus):
    def on_tick(event):
        raise unittest.SkipTest("no market today")
    bus.subscribe("market_data", on_tick, blocking=True)
    await bus.publish(tick())


async def test_xfailed_by_a_handler(bus):
    async def on_tick(event):
        pytest.xfail("known")
    bus.subscribe("market_data", on_tick)
    await bus.publish(tick())


@pytest.mark.xfail(raises=AssertionError, strict=True)
async def test_xfailed_for_the_assertion_of_a_handler(bus):
    bus.subscribe("market_data", wrong)
    await bus.publish(tick())


async def test_ok_error_that_a_retry_mends(bus):
    calls = []
    async def on_tick(event):
        calls.append(event)
        if len(calls) == 1:
            raise ValueError
    bus.subscribe("market_data", on_tick)
    await bus.publish(tick())
    await bus.join()
    assert len(calls) == 2


async def test_ok_what_a_crashed_handler_raises_never_happened(durable_bus):
    async def on_fill(event):
        try:
            await asyncio.sleep(3600)
        finally:
            assert event.order_id == "o-2"
    durable_bus.subscribe("fill", on_fill, name="desk")
    await durable_bus.publish(fill())
    await asyncio.sleep(1)
    await crash_and_recover(durable_bus, lambda again: again.subscribe("fill", right, name="desk"))
"""

WAITS = """
import asyncio

from openoutcry import MarketDataEvent


async def test_bad_it_ends_at_once(bus):
    async def on_tick(event):
        assert event.price == 2, "the price is wrong"
    calls = bus.subscribe("market_data", on_tick, name="desk.on_tick")
    await bus.publish_many([MarketDataEvent(symbol="ES", price=1) for _ in range(5)])
    try:
        await asyncio.sleep(3600)
    finally:
        print("ended at", asyncio.get_running_loop().time(), "after", calls.stats(0).errors, "calls")
        assert False, "the test failed too"
"""

STOPS = """
import pytest
from openoutcry import MarketDataEvent


async def test_it(bus):
    async def on_tick(event):
        pytest.exit("the lights are off", returncode=7)
    bus.subscribe("market_data", on_tick)
    await bus.publish(MarketDataEvent(symbol="ES", price=1))


def test_later():
    pass
"""


@pytest.fixture(scope="module", params=["alone", "asyncio"])
def outcome(request, tmp_path_factory):
    return run_suite(tmp_path_factory.mktemp("suite"), SUITE, *MODES[request.param])


@pytest.mark.parametrize("name", names_in(SUITE))
def test_a_test_whose_handlers_raise_ends_as_its_name_says(outcome, name):
    check(outcome, name)


def test_the_first_failed_assertion_ends_the_test_and_is_what_pytest_shows(tmp_path):
    done = run_suite(tmp_path, WAITS, *MODES["alone"])
    check(done, "test_bad_it_ends_at_once")
    assert "AssertionError: the price is wrong" in done.stdout
    assert ">       assert event.price == 2" in done.stdout
    assert "raised in desk.on_tick, which was handling MarketDataEvent(symbol='ES', price=1.0)" in done.stdout
    assert "after that the test itself raised AssertionError('the test failed too" in done.stdout
    assert "ended at 0.0 after 1 calls" in done.stdout


def test_pytest_exit_in_a_handler_ends_the_session(tmp_path):
    done = run_suite(tmp_path, STOPS, *MODES["alone"])
    assert done.returncode == 7
    assert "the lights are off" in done.stdout
    assert "test_later" not in done.stdout
