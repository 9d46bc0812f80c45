"""The fixtures beside pytest-asyncio and anyio: with their markers, their fixtures, their loops, in all their modes."""

import pytest
from tests.testing.nested_pytest import MODES, check, names_in, run_suite

SUITE = """
import asyncio

import hypothesis
import pytest
import pytest_asyncio
from hypothesis import strategies as st

from openoutcry import FillEvent, MarketDataEvent
from openoutcry.testing import VirtualLoop, crash_and_recover, expect, recorded

asyncio_and_anyio = pytest.mark.parametrize("marked", [
    pytest.param(0, marks=pytest.mark.asyncio),
    pytest.param(1, marks=pytest.mark.asyncio(loop_scope="module")),
    pytest.param(2, marks=pytest.mark.asyncio(loop_scope="session")),
])


def tick():
    return MarketDataEvent(symbol="ES", price=1.0)


@asyncio_and_anyio
async def test_ok_marked_for_pytest_asyncio(bus, marked):
    assert bus.is_running and isinstance(asyncio.get_running_loop(), VirtualLoop)
    await asyncio.sleep(86_400)
    await bus.publish(tick())
    await expect(bus, MarketDataEvent)


@asyncio_and_anyio
async def test_bad_marked_for_pytest_asyncio(bus, marked):
    await expect(bus, MarketDataEvent)


@pytest.mark.asyncio
@pytest.mark.virtual_time
async def test_ok_virtual_time_marked_for_pytest_asyncio():
    await asyncio.sleep(86_400)


@pytest.mark.asyncio
@pytest.mark.virtual_time
@hypothesis.given(hours=st.integers(1, 100))
async def test_ok_examples_marked_for_pytest_asyncio(hours):
    await asyncio.sleep(3600 * hours)
    assert asyncio.get_running_loop().time() == 3600 * hours


@pytest.mark.asyncio
@hypothesis.settings(suppress_health_check=list(hypothesis.HealthCheck))
@hypothesis.given(hours=st.integers(1, 100))
async def test_bad_examples_with_one_bus(bus, hours):
    pass


@pytest.mark.anyio
async def test_ok_marked_for_anyio(bus):
    assert bus.is_running and isinstance(asyncio.get_running_loop(), VirtualLoop)
    await asyncio.sleep(86_400)
    await bus.publish(tick())
    await expect(bus, MarketDataEvent)


@pytest.mark.anyio
async def test_bad_marked_for_anyio(bus):
    await expect(bus, MarketDataEvent)


@pytest.mark.anyio
@pytest.mark.virtual_time
async def test_ok_virtual_time_marked_for_anyio():
    await asyncio.sleep(86_400)


@pytest.mark.anyio
@pytest.mark.virtual_time
@hypothesis.given(hours=st.integers(1, 100))
async def test_ok_examples_marked_for_anyio(hours):
    await asyncio.sleep(3600 * hours)


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["trio", ("trio", {})])
async def test_bad_on_trio(bus, anyio_backend):
    pass


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", [("asyncio", {"debug": True})])
async def test_ok_with_options_of_a_backend(bus, anyio_backend):
    await bus.publish(tick())


@pytest.mark.asyncio
async def test_ok_of_pytest_asyncio_itself():
    assert not isinstance(asyncio.get_running_loop(), VirtualLoop)


@pytest.mark.anyio
async def test_ok_of_anyio_itself():
    assert not isinstance(asyncio.get_running_loop(), VirtualLoop)


@pytest.mark.asyncio
async def test_bad_fixture_asked_for_on_a_foreign_loop(request):
    await request.getfixturevalue("bus").publish(tick())


class TestAgent:
    @pytest.mark.asyncio
    async def test_ok_method(self, bus):
        await bus.publish(tick())
        await expect(bus, MarketDataEvent)

    @pytest.mark.asyncio
    async def test_bad_method(self, bus):
        await expect(bus, MarketDataEvent)


@pytest_asyncio.fixture
async def agent(bus):
    seen = []
    async def on_tick(event):
        seen.append(event)
    await asyncio.sleep(0)
    bus.subscribe("market_data", on_tick)
    yield seen
    seen.clear()


@pytest.mark.asyncio
async def test_ok_with_an_async_fixture(bus, agent):
    await bus.publish(tick())
    await bus.join()
    assert len(agent) == 1


@pytest.mark.asyncio
async def test_bad_with_an_async_fixture(bus, agent):
    assert len(agent) == 1


@pytest_asyncio.fixture
async def early(bus):
    await bus.publish(tick())


@pytest.mark.asyncio
async def test_ok_what_an_async_fixture_publishes_waits_for_the_start(bus, early):
    await expect(bus, MarketDataEvent)


@pytest_asyncio.fixture
async def starter(bus):
    await bus.start()


@pytest.mark.asyncio
async def test_bad_bus_started_by_an_async_fixture(bus, starter):
    pass


@pytest_asyncio.fixture
async def late(bus):
    yield
    await bus.publish(tick())


@pytest.mark.asyncio
async def test_error_of_publishing_in_the_teardown_of_a_fixture(bus, late):
    pass


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def connection():
    return asyncio.get_running_loop()


@pytest.mark.asyncio(loop_scope="module")
async def test_ok_with_a_fixture_of_the_module(bus, connection):
    assert connection is not asyncio.get_running_loop()
    await bus.publish(tick())
    await expect(bus, MarketDataEvent)


@pytest_asyncio.fixture(scope="module")
async def too_wide(bus):
    pass


@pytest.mark.asyncio
async def test_bad_fixture_of_the_module_with_a_bus(too_wide):
    pass


@pytest.mark.anyio
class TestOfAnyio:
    @pytest.fixture
    async def agent(self, bus):
        seen = []
        async def on_tick(event):
            seen.append(event)
        bus.subscribe("market_data", on_tick)
        yield seen

    async def test_ok_with_an_async_fixture_of_anyio(self, anyio_backend, bus, agent):
        await bus.publish(tick())
        await bus.join()
        assert len(agent) == 1

    async def test_bad_with_an_async_fixture_of_anyio(self, anyio_backend, bus, agent):
        assert len(agent) == 1
"""

LATE = "test_error_of_publishing_in_the_teardown_of_a_fixture"

NOBODY_RUNS_IT = """
import pytest


@pytest.fixture
async def agent(bus):
    return 1


@pytest.fixture
async def feed(bus):
    yield 1


async def test_bad_async_fixture(bus, agent):
    pass


async def test_bad_async_generator_fixture(bus, feed):
    pass
"""


@pytest.fixture(scope="module", params=["strict", "asyncio", "anyio"])
def outcome(request, tmp_path_factory):
    return run_suite(tmp_path_factory.mktemp("suite"), SUITE, *MODES[request.param])


@pytest.mark.parametrize("name", [n for n in names_in(SUITE) if n != LATE])
def test_a_test_beside_other_plugins_ends_as_its_name_says(outcome, name):
    check(outcome, name)


def test_a_fixture_that_publishes_after_the_test_is_an_error(outcome):
    assert f"ERROR at teardown of {LATE}" in outcome.stdout, outcome.stdout
    assert "BusClosed" in outcome.stdout


@pytest.mark.parametrize("name", names_in(NOBODY_RUNS_IT))
def test_async_fixtures_without_another_plugin_fail_the_test(tmp_path, name):
    done = run_suite(tmp_path, NOBODY_RUNS_IT, *MODES["alone"], "-k", name)
    check(done, name)
