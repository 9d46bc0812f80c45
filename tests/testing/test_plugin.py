"""The pytest plugin, as a user's test suite meets it: in a process of its own, alone and beside others."""

import re

import pytest
from tests.testing.nested_pytest import MODES, ROOT, check, names_in, run_pytest, run_suite

SUITE = """
import asyncio
import functools
import unittest
from unittest import mock

import hypothesis
import pytest
from hypothesis import strategies as st

from openoutcry import Event, EventBus, InvalidEvent, MarketDataEvent
from openoutcry.testing import NotPublished, crash_and_recover, expect, recorded


def tick():
    return MarketDataEvent(symbol="ES", price=1.0)


async def test_ok_virtual_time(bus):
    await asyncio.sleep(86_400)
    await bus.publish(tick())
    await expect(bus, MarketDataEvent)


@pytest.fixture
def agent(bus):
    seen = []
    async def on_tick(event):
        seen.append(event)
    bus.subscribe("market_data", on_tick)
    return seen


async def test_ok_what_is_in_flight_is_drained_before_the_end(bus, agent):
    await bus.publish(tick())
    assert agent == []


@pytest.mark.bus(max_queue_size=7)
async def test_ok_settings_by_marker(bus):
    assert bus.config.max_queue_size == 7


@pytest.mark.virtual_time
async def test_ok_without_a_bus():
    await asyncio.sleep(86_400)


@pytest.mark.parametrize("value", [1])
async def test_ok_with_parameters(bus, value, tmp_path):
    assert (value, tmp_path.exists()) == (1, True)


async def test_ok_crashed(durable_bus):
    bus = await crash_and_recover(durable_bus)
    assert bus is not durable_bus and bus.is_running


def changed_by_a_journal():
    return Event(event_type="note", event_id="\\ud800")


async def test_ok_what_a_journal_would_not_keep_is_refused_in_memory_too(bus):
    with pytest.raises(InvalidEvent):
        await bus.publish(changed_by_a_journal())


async def test_ok_and_so_it_is_after_a_crash(durable_bus):
    bus = await crash_and_recover(durable_bus)
    with pytest.raises(InvalidEvent):
        await bus.publish(changed_by_a_journal(), level="memory")


@pytest.mark.bus(check_events="journaled")
async def test_ok_unless_the_marker_says_so(bus):
    assert await bus.publish(changed_by_a_journal())


async def test_bad_expectation(bus):
    await expect(bus, MarketDataEvent)


async def test_bad_error_in_a_handler(bus):
    async def on_tick(event):
        raise ValueError("the price is wrong")
    bus.subscribe("market_data", on_tick, name="desk.on_tick", retry=False)
    await bus.publish(tick())


async def test_ok_with_two_buses(bus, durable_bus):
    seen = []
    for each in (bus, durable_bus):
        async def on_tick(event, each=each):
            seen.append(each)
        each.subscribe("market_data", on_tick)
        await each.publish(tick())
        await each.join()
    assert seen == [bus, durable_bus]


class TestAgent:
    async def test_ok_in_a_class(self, bus):
        await bus.publish(tick())
        await expect(bus, MarketDataEvent)

    @staticmethod
    async def test_ok_as_a_static_method(bus):
        await bus.publish(tick())
        await expect(bus, MarketDataEvent)

    async def test_bad_in_a_class(self, bus):
        await expect(bus, MarketDataEvent)


def decorated(test):
    @functools.wraps(test)
    def wrapper(*args, **kwargs):
        return test(*args, **kwargs)
    return wrapper


@decorated
async def test_ok_decorated(bus):
    await bus.publish(tick())
    await expect(bus, MarketDataEvent)


@mock.patch("os.getcwd")
async def test_ok_with_a_patch(getcwd, bus):
    await bus.publish(tick())
    await expect(bus, MarketDataEvent)


@pytest.mark.xfail(raises=NotPublished, strict=True)
async def test_xfailed_as_expected(bus):
    await expect(bus, MarketDataEvent)


async def test_skipped_by_itself(bus):
    pytest.skip("not today")


@pytest.mark.virtual_time
@hypothesis.given(hours=st.integers(1, 100))
async def test_ok_examples_in_virtual_time(hours):
    async with EventBus() as bus:
        await asyncio.sleep(3600 * hours)
        await bus.publish(tick())
        await expect(bus, MarketDataEvent)
    assert asyncio.get_running_loop().time() == 3600 * hours


@pytest.mark.virtual_time
@hypothesis.settings(database=None)
@hypothesis.given(hours=st.integers(1, 100))
async def test_bad_example(hours):
    assert hours < 1


@hypothesis.settings(suppress_health_check=list(hypothesis.HealthCheck))
@hypothesis.given(hours=st.integers(1, 100))
async def test_bad_examples_with_one_bus(bus, hours):
    pass


@pytest.mark.virtual_time
def test_bad_virtual_time_of_a_plain_function():
    pass


@pytest.mark.virtual_time(5)
async def test_bad_limit():
    pass


class TestOfUnittest(unittest.IsolatedAsyncioTestCase):
    @pytest.fixture(autouse=True)
    def _bus(self, bus):
        self.bus = bus

    async def test_bad_method_of_unittest(self):
        pass


class TestInVirtualTimeOfUnittest(unittest.IsolatedAsyncioTestCase):
    @pytest.mark.virtual_time
    async def test_bad_virtual_time_of_unittest(self):
        pass


def test_bad_fixture_asked_for_by_a_plain_function(request):
    request.getfixturevalue("bus")


async def test_bad_fixture_asked_for_on_the_way(bus, request):
    await request.getfixturevalue("durable_bus").publish(tick())


@pytest.mark.bus(dead_letters=True)
async def test_ok_when_dead_letters_are_meant(bus):
    async def on_tick(event):
        raise ValueError
    bus.subscribe("market_data", on_tick, retry=False)
    await bus.publish(tick())


async def test_bad_after_a_crash(durable_bus):
    def build(bus):
        async def on_tick(event):
            raise ValueError("after the crash")
        bus.subscribe("market_data", on_tick, name="desk.on_tick", retry=False)
    bus = await crash_and_recover(durable_bus, build)
    await bus.publish(tick())


async def test_bad_deadlock(bus):
    await asyncio.Event().wait()


def test_bad_not_async(bus):
    pass


def test_ok_without_anything():
    pass
"""


@pytest.fixture(scope="module", params=MODES)
def outcome(request, tmp_path_factory):
    return run_suite(tmp_path_factory.mktemp("suite"), SUITE, *MODES[request.param])


@pytest.mark.parametrize("name", names_in(SUITE))
def test_a_test_of_the_suite_ends_as_its_name_says(outcome, name):
    check(outcome, name)


@pytest.mark.parametrize(
    "says",
    [
        "expected 1 MarketDataEvent within 5 s; got 0",
        "desk.on_tick gave up MarketDataEvent(",
        "the price is wrong",
        "@pytest.mark.bus(dead_letters=True)",
        "ValueError('after the crash')",
        "nothing is ready, no timer is set",
        "make it an async test",
    ],
)
def test_a_failure_says_what_was_wrong(outcome, says):
    assert says in outcome.stdout


def test_the_worked_example_of_the_guide_runs(tmp_path):
    page = (ROOT / "docs" / "testing.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", page, flags=re.DOTALL | re.MULTILINE)
    (tmp_path / "test_desk.py").write_text("\n".join(blocks), encoding="utf-8")
    done = run_pytest(tmp_path, *MODES["strict"])
    assert done.returncode == 0, done.stdout
    assert "4 passed" in done.stdout


def test_the_failure_that_the_guide_shows_is_the_real_one(tmp_path):
    page = (ROOT / "docs" / "testing.md").read_text(encoding="utf-8")
    desk = re.findall(r"^```python\n(.*?)^```", page, flags=re.DOTALL | re.MULTILINE)
    shown = page.partition("## When an expectation fails")[2].partition("```\n")[2].partition("\n```")[0]
    call, _, report = shown.partition("\n\n")
    test = f"""
async def test_it(bus):
    Desk(bus)
    await bus.publish(an_order("o-1"))
    await asyncio.sleep(301)
    {call}
"""
    (tmp_path / "test_desk.py").write_text("\n".join(desk) + test, encoding="utf-8")
    printed = run_pytest(tmp_path, *MODES["strict"], "-k", "test_it", "--tb=short").stdout
    for line in report.splitlines():
        wanted = line.removesuffix("...").strip()
        assert wanted in printed, printed
