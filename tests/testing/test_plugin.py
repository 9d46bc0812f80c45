"""The pytest plugin, as a user's test suite meets it: in a process of its own."""

import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PLUGIN = "openoutcry.testing.plugin"
IS_INSTALLED = any(e.value == PLUGIN for e in importlib.metadata.entry_points(group="pytest11"))

SUITE = """
import asyncio

import pytest

from openoutcry import Event, InvalidEvent, MarketDataEvent
from openoutcry.testing import crash_and_recover, expect, recorded


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


async def test_bad_assertion_in_a_handler(bus):
    async def on_tick(event):
        assert event.price == 2.0, "the price is wrong"
    bus.subscribe("market_data", on_tick, name="desk.on_tick", retry=False)
    await bus.publish(tick())


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


def run_pytest(folder: Path, *options: str) -> subprocess.CompletedProcess:
    plugin = () if IS_INSTALLED else ("-p", PLUGIN)
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "no:randomly",
            "-p",
            "no:cacheprovider",
            *plugin,
            *options,
            str(folder),
        ],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    folder = tmp_path_factory.mktemp("suite")
    (folder / "test_suite.py").write_text(SUITE, encoding="utf-8")
    return run_pytest(folder, "-v", "--strict-markers", "-W", "error")


@pytest.mark.parametrize("name", re.findall(r"def (test_\w+)", SUITE))
def test_a_test_of_the_suite_ends_as_its_name_says(outcome, name):
    (verdict,) = set(re.findall(rf"::{name}(?:\[1\])? (PASSED|FAILED|ERROR)", outcome.stdout))
    assert (verdict == "PASSED") == name.startswith("test_ok"), outcome.stdout


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
    done = run_pytest(tmp_path, "-W", "error")
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
    printed = run_pytest(tmp_path, "-k", "test_it", "--tb=short").stdout
    for line in report.splitlines():
        wanted = line.removesuffix("...").strip()
        assert wanted in printed, printed
