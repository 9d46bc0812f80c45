"""`openoutcry status` and `openoutcry top`, beside a real bus in another thread, and without one."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from tests.thread_kit import LIMIT_S, running_bus

from openoutcry import EventBus, HealthCheckConfig, MarketDataEvent, PersistenceConfig
from openoutcry.cli import main
from openoutcry.cli.console import print_lines
from openoutcry.cli.watching import look as look_module
from openoutcry.cli.watching import status as status_module
from openoutcry.cli.watching import top as top_module
from openoutcry.config import DrillConfig
from openoutcry.printable import is_obeyed


def call(*arguments: object) -> Result:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert "Traceback (most recent" not in result.output
    return result


def tick(price: float = 1.0) -> MarketDataEvent:
    return MarketDataEvent(symbol="ES", price=price)


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    """The bus is in this process, on a machine that may be slow: it does answer."""
    monkeypatch.setattr(status_module, "ASK_S", LIMIT_S)
    monkeypatch.setattr(status_module, "LOOK_S", 0.1)
    monkeypatch.setattr(look_module, "ANSWER_S", LIMIT_S)


@contextmanager
def running(path: Path, prepare: Callable[[EventBus], Any], **settings: Any) -> Iterator[None]:
    """A bus with a journal, in a thread of its own, as the command meets it in another process."""

    def make() -> EventBus:
        kept = PersistenceConfig(path=path, levels={"market_data": "process"})
        return EventBus(persistence_config=kept, **settings)

    with running_bus(make, prepare, stop_s=0.1):
        yield


async def at_work(bus: EventBus) -> None:
    async def on_tick(_event: Any) -> None:
        return

    bus.subscribe("market_data", on_tick, name="momentum")
    bus.subscribe("kill_switch", lambda _event: None, name="risk")
    for _ in range(20):
        await bus.publish(tick())
    await bus.join()


async def failing(bus: EventBus) -> None:
    async def on_tick(_event: Any) -> None:
        raise ValueError("\x1b[31m no")

    bus.subscribe("market_data", on_tick, name="bro\x1b[31mken", retry=False)
    for _ in range(20):
        await bus.publish(tick())
    await asyncio.sleep(0.05)


HEALTH = HealthCheckConfig(drills=DrillConfig(every_s=5))


def test_the_status_of_a_healthy_bus_ends_with_0(tmp_path):
    with running(tmp_path / "firm.db", at_work, health_check_config=HEALTH):
        said = call("status", tmp_path / "firm.db")
        as_json = call("status", tmp_path / "firm.db", "--json")
    assert said.exit_code == as_json.exit_code == 0
    assert "healthy: nothing is wrong" in said.stdout
    assert "proven" in said.stdout
    (momentum,) = (line.split() for line in said.stdout.splitlines() if line.startswith("momentum"))
    assert momentum[1] == "idle"
    found = json.loads(as_json.stdout)
    assert found["health"]["status"] == "healthy"
    assert {record["name"] for record in found["handlers"]["handlers"]} == {"momentum", "risk"}


def test_the_status_names_the_culprit_ends_with_1_and_does_nothing_to_a_terminal(tmp_path):
    with running(tmp_path / "firm.db", failing):
        said = call("status", tmp_path / "firm.db")
    assert said.exit_code == 1
    assert "\x1b" not in said.stdout
    assert r"bro\x1b[31mken" in said.stdout
    assert "most of its events fail" in said.stdout
    assert "failing" in said.stdout


def test_top_and_status_show_hostile_names_and_errors_safely(tmp_path):
    with running(tmp_path / "firm.db", failing):
        shown = [
            call("status", tmp_path / "firm.db").stdout,
            call("status", tmp_path / "firm.db", "--json").stdout,
            call("top", tmp_path / "firm.db", "--every", "0.1", "--count", "2").stdout,
        ]
    for text in shown:
        assert {c for c in text if is_obeyed(c)} <= {"\n"}
        assert "bro" in text
    records = {r["name"]: r for r in json.loads(shown[1])["handlers"]["handlers"]}
    assert "bro\x1b[31mken" in records


def test_top_and_status_show_how_long_events_waited_and_how_long_calls_took(tmp_path):
    with running(tmp_path / "firm.db", at_work):
        shown = [
            call("status", tmp_path / "firm.db").stdout,
            call("top", tmp_path / "firm.db", "--count", "1").stdout,
        ]
    for text in shown:
        assert "wait p50  wait p99  call p50  call p99" in text
        (momentum,) = (line for line in text.splitlines() if line.startswith("momentum"))
        assert momentum.count(" us") + momentum.count(" ms") + momentum.count(" s ") == 4


def test_without_a_bus_the_status_says_what_the_journal_tells_and_ends_with_3(tmp_path):
    path = tmp_path / "firm.db"
    with running(path, at_work):
        pass
    said, as_json = call("status", path), call("status", path, "--json")
    assert said.exit_code == as_json.exit_code == 3
    assert "none listens here" in said.stdout
    assert "positions 1 to 21" in said.stdout  # twenty ticks and the record of the start
    assert "momentum" in said.stdout
    assert json.loads(as_json.stdout)["state"] == "no bus"


@pytest.mark.parametrize("verb", ["status", "top"])
def test_a_file_that_is_not_there_is_one_line(tmp_path, verb):
    said = call(verb, tmp_path / "nothing.db")
    assert said.exit_code == 2
    assert said.stderr.count("\n") == 1
    assert "does not exist" in said.stderr


def test_top_looks_again_and_again(tmp_path):
    with running(tmp_path / "firm.db", at_work):
        said = call("top", tmp_path / "firm.db", "--every", "0.1", "--count", "3")
    assert said.exit_code == 0
    assert said.stdout.count("health") >= 3
    assert sum(line.startswith("momentum") for line in said.stdout.splitlines()) == 3


def test_top_without_a_bus_is_one_line_and_ends_with_3(tmp_path):
    path = tmp_path / "firm.db"
    with running(path, at_work):
        pass
    said = call("top", path)
    assert said.exit_code == 3
    assert "no bus listens" in said.stderr


def test_top_ends_with_3_when_the_bus_goes_away(tmp_path, monkeypatch):
    path = tmp_path / "firm.db"
    looks = []
    real = print_lines

    def note(lines):
        real(lines)
        looks.append(1)
        if len(looks) == 2:
            end.set()

    async def serve(bus: EventBus) -> None:
        await at_work(bus)
        bus_loop = asyncio.get_running_loop()
        bus_loop.run_in_executor(None, end.wait, LIMIT_S).add_done_callback(
            lambda _: bus_loop.create_task(bus.stop(timeout_s=0.1))
        )

    end = threading.Event()
    monkeypatch.setattr(top_module, "print_lines", note)
    with running(path, serve):
        said = call("top", path, "--every", "0.1")
    assert said.exit_code == 3
    assert sum(line.startswith("momentum") for line in said.stdout.splitlines()) >= 2


def test_a_bus_that_gives_no_answer_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(status_module, "ASK_S", 0.2)

    async def blocking(bus: EventBus) -> None:
        await at_work(bus)
        bus._lifecycle.control._server.verbs["status"] = bus._lifecycle.control._server.verbs[
            "ping"
        ]._replace(do=lambda _bus, _asked: asyncio.sleep(LIMIT_S))

    with running(tmp_path / "firm.db", blocking):
        said = call("status", tmp_path / "firm.db")
    assert said.exit_code == 2
    assert "did not answer within 0.2 s" in said.stderr
