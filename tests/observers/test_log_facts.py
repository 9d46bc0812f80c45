"""Records say in attributes which subscription and event they are about, wherever that is known."""

import ast
import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest
from bus_helpers import a_fill, a_tick, ticks, virtual

import openoutcry
from openoutcry import NO_RETRY, BackpressureConfig, BreakerConfig, DropOldest, EventBus, EventType
from openoutcry.logs import FACTS, about

SRC = Path(openoutcry.__file__).parent


def facts(record: logging.LogRecord) -> dict[str, str]:
    return {name: str(getattr(record, name)) for name in FACTS if hasattr(record, name)}


def said(caplog: Any, text: str) -> list[dict[str, str]]:
    return [facts(record) for record in caplog.records if text in record.getMessage()]


# -- what is said ------------------------------------------------------------------------------------------


def test_what_is_known_of_an_event_is_said_and_no_more() -> None:
    begins = a_tick(event_id="t")
    assert about(begins, "desk") == {
        "subscription": "desk",
        "event_id": "t",
        "event_type": "market_data",
        "correlation_id": "t",
    }
    later = a_fill(event_id="f", causation_id="t", correlation_id="c", round_id="r")
    assert about(later) == {
        "event_id": "f",
        "event_type": "fill",
        "correlation_id": "c",
        "round_id": "r",
    }
    assert about() == about(None) == about(object()) == {}
    assert about(event_id="", event_type=EventType.FILL) == {"event_type": "fill"}


def test_an_event_of_a_users_own_class_is_not_said_to_begin_a_chain() -> None:
    class Plain:
        event_id = "p"
        event_type = "plain"

    assert about(Plain()) == {"event_id": "p", "event_type": "plain"}


# -- provoked ----------------------------------------------------------------------------------------------


@virtual
async def test_a_failure_and_its_dead_letter_say_whose_and_what(caplog):
    def fail(_: Any) -> None:
        raise ValueError("no account")

    bus = EventBus()
    bus.subscribe("market_data", fail, name="books", retry=NO_RETRY, breaker=BreakerConfig(least=2, window=4))
    async with bus:
        for tick in ticks(4):
            await bus.publish(tick)
        await bus.join()
    first = {"subscription": "books", "event_type": "market_data"}
    assert said(caplog, "failed on")[0].items() >= first.items()
    for record in said(caplog, "gave up"):
        assert record.items() >= first.items()
        assert record["event_id"] == record["correlation_id"]


@virtual
async def test_one_that_does_not_move_is_named(caplog):
    async def think(_: Any) -> None:
        await asyncio.sleep(3_600)

    bus = EventBus(backpressure_config=BackpressureConfig(grace_s=0.1))
    bus.subscribe("market_data", think, name="llm", overflow=DropOldest(2))
    async with bus:
        for tick in ticks(10):
            await bus.publish(tick)
        await asyncio.sleep(5)
        await bus.stop(timeout_s=0.1)
    assert said(caplog, "has not moved") == [{"subscription": "llm"}]


@virtual
async def test_two_events_with_one_id_are_named(caplog):
    bus = EventBus()
    bus.subscribe("market_data", lambda _: None, name="desk")
    async with bus:
        await bus.publish(a_tick(1.0, event_id="one"))
        await bus.publish(a_tick(2.0, event_id="one"))
    assert [record["event_id"] for record in said(caplog, "accepted before")] == ["one"]


# -- none is forgotten ---------------------------------------------------------------------------------------

NOBODYS = {
    "loop_watchdog.py",  # what blocks the loop may be a task or a callback
    "room.py",  # the level is the bus's
    "admin.py",  # of several names at once
}


def calls() -> list[tuple[Path, ast.Call]]:
    """Every call of a logger in the runtime."""
    return [
        (path, node)
        for path in sorted((SRC / "runtime").rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("log.")
    ]


def knows_a_name(call: ast.Call) -> bool:
    """Return True if what is logged quotes a subscription's name or an event's id."""
    quoted = [ast.unparse(argument) for argument in call.args[1:]]
    return any(
        text in ("name", "self.name") or text.endswith((".name", ".event_id", "described(event)"))
        for text in quoted
    )


@pytest.mark.parametrize(
    ("path", "call"), calls(), ids=[f"{path.stem}:{call.lineno}" for path, call in calls()]
)
def test_a_record_that_quotes_a_name_or_an_event_has_it_as_an_attribute_too(
    path: Path, call: ast.Call
) -> None:
    if path.name in NOBODYS or not knows_a_name(call):
        return
    assert "extra" in {keyword.arg for keyword in call.keywords}, ast.unparse(call)
