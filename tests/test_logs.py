"""Every record of the package's logger is safe to show, whatever handler and formatter get it."""

import asyncio
import io
import logging
import re
from pathlib import Path
from typing import Any

import pytest
from bus_helpers import a_tick, ticks, virtual

import openoutcry
from openoutcry import NO_RETRY, EventBus, MarketDataEvent
from openoutcry.logs import lines
from openoutcry.printable import is_obeyed

EVIL = "x\x1b[31m\x9b2J\r\nERROR openoutcry forged\u202e\u2066\u2028\u200b\x7f"
SOURCES = sorted(Path(openoutcry.__file__).parent.rglob("*.py"))
log = logging.getLogger("openoutcry")


class Rude(Exception):
    """An error whose every text is hostile."""

    def __str__(self) -> str:
        return EVIL

    def __repr__(self) -> str:
        return EVIL


class Loose:
    def __repr__(self) -> str:
        return EVIL


@pytest.fixture
def logged():
    """What a user's own handler writes, with all that a format can ask for."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s %(threadName)s %(message)s"))
    log.addHandler(handler)
    yield stream.getvalue
    log.removeHandler(handler)


def assert_safe(text: str) -> None:
    assert text
    assert {c for c in text if is_obeyed(c)} <= {"\n"}
    assert [line for line in text.splitlines() if line.startswith("ERROR openoutcry forged")] == []


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        ("%s failed", (EVIL,)),
        ("%r failed", (EVIL,)),
        ("%-10s|", (EVIL,)),
        ("%s failed", (Rude(),)),
        ("%r failed", (Loose(),)),
        ("%(name)s failed", ({"name": EVIL},)),
        ("%s of %d, %.2f s", (EVIL, 3, 0.5)),
        (EVIL, ()),
        (Loose(), ()),
    ],
)
def test_what_a_record_quotes_is_escaped_by_the_record_itself(logged, message: Any, arguments: Any):
    log.warning(message, *arguments)
    assert_safe(logged())
    assert logged().count("\n") == 1
    assert "forged" in logged()


def test_numbers_stay_numbers_and_plain_text_stays_plain(logged):
    log.warning("%s waits for %d of %5.1f: %r", "Zürich 漢字 😀", 7, 2.5, "a")
    assert logged().endswith("Zürich 漢字 😀 waits for 7 of   2.5: 'a'\n")


def test_a_traceback_keeps_its_lines_and_forges_none(logged):
    def fail() -> None:
        raise Rude from ValueError(EVIL)

    try:
        fail()
    except Rude:
        log.exception("%s raised", EVIL)
    assert_safe(logged())
    assert "in test_a_traceback" in logged()


def test_lines_of_the_programs_own_stay_lines(logged):
    log.error("it is at:\n%s", lines(["  one", f"  {EVIL}"]))
    assert_safe(logged())
    assert logged().count("\n") == 3


def test_names_of_tasks_and_threads_are_escaped():
    record = log.makeRecord("openoutcry", logging.INFO, "f", 1, "text", (), None)
    record.__dict__.update(threadName=EVIL, taskName=EVIL, processName=EVIL)
    assert log.filter(record)
    for name in ("threadName", "taskName", "processName"):
        assert_safe(record.__dict__[name])


def test_a_second_look_at_a_record_changes_nothing():
    record = log.makeRecord("openoutcry", logging.INFO, "f", 1, "%s", (EVIL,), None)
    log.filter(record)
    once = record.getMessage()
    log.filter(record)
    assert record.getMessage() == once


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_all_of_the_package_logs_to_the_one_logger(path: Path):
    named = re.findall(r"getLogger\((.*?)\)", path.read_text(encoding="utf-8"))
    assert set(named) <= {'"openoutcry"', "name"}, "another logger has no filter that makes its records safe"


@virtual
async def test_a_bus_with_hostile_names_events_and_errors_logs_safely():
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    log.addHandler(handler)

    async def rude(_event: Any) -> None:
        raise Rude

    async def deaf(_event: Any) -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(60)

    def callback(_event: Any) -> None:
        raise Rude

    try:
        async with EventBus() as bus:
            bus.on_dead_letter(callback) if hasattr(bus, "on_dead_letter") else None
            bus.on_backpressure_change(callback)
            bus.subscribe("*", rude, name=f"rude {EVIL}", retry=NO_RETRY)
            bus.subscribe("*", deaf, name=f"deaf {EVIL}", timeout_s=0.1)
            bus.on_health_change(callback)
            await bus.publish(
                MarketDataEvent(event_id=f"id {EVIL}", symbol=f"s {EVIL}", price=1.0, source_agent=EVIL)
            )
            await bus.publish_many(ticks(200))
            await bus.publish(a_tick())
            await asyncio.sleep(30)
    finally:
        log.removeHandler(handler)
    assert_safe(stream.getvalue())
    assert "gave up" in stream.getvalue()
    assert "did not end" in stream.getvalue()
