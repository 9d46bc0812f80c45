"""Two desks as `openoutcry run --config` runs them, with a real server: seen by the commands, killed, audited."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from nats_kit import a_firm, a_link, opened
from process_kit import ROOT
from tests.cli.firm.firm_kit import call

from openoutcry.cli import main
from openoutcry.config import load_link
from openoutcry.links.nats.servers import Servers
from openoutcry.ports import Seat

APP = """
from openoutcry import FillEvent, OrderEvent


async def floor(bus):
    bus.subscribe("fill", lambda fill: None, name="books")
    bus.subscribe("kill_switch", lambda event: None, name="floor.halts")
    yield
    for number in range(20):
        await bus.publish(OrderEvent(order_id=f"o-{number}", symbol="ES", side="buy", quantity=1))
    print("ready", flush=True)
    await bus.run_until_signal()


async def street(bus):
    async def broker(order):
        what = {"order_id": order.order_id, "symbol": order.symbol, "side": order.side}
        await bus.publish(FillEvent(filled_quantity=1, fill_price=5000, **what))

    bus.subscribe("order", broker, name="broker")
    bus.subscribe("kill_switch", lambda event: None, name="street.halts")
    yield
    print("ready", flush=True)
    await bus.run_until_signal()
"""
LONG_S = 120


@pytest.fixture
def firm(one_node: Servers, tmp_path: Path) -> Path:
    name = a_firm()
    (tmp_path / "twodesks.py").write_text(APP)
    for desk, imports in (("floor", "fill"), ("street", "order")):
        (tmp_path / f"{desk}.toml").write_text(
            f"""
            [bus]
            control_releaser = "operator"
            [persistence]
            path = "{tmp_path}/{desk}.db"
            [link]
            firm = "{name}"
            desk = "{desk}"
            servers = ["{one_node.urls[0]}"]
            imports = ["{imports}"]
            max_bytes = 8388608
            """
        )
    return tmp_path


@contextmanager
def running(folder: Path, desk: str, stderr: int | None = None) -> Iterator["subprocess.Popen[str]"]:
    words = [sys.executable, "-m", "openoutcry", "run", f"twodesks:{desk}", "--config", f"{desk}.toml"]
    path = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    process: subprocess.Popen[str] = subprocess.Popen(
        words,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def ended(process: "subprocess.Popen[str]", number: int = signal.SIGTERM) -> int:
    process.send_signal(number)
    return process.wait(LONG_S)


def until(ask: Callable[[], Any], holds: Callable[[Any], bool]) -> Any:
    """Ask until something holds: a desk is at work elsewhere."""
    ends_s = time.monotonic() + LONG_S
    while not holds(found := ask()):
        assert time.monotonic() < ends_s, found
    return found


def audit(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in call("audit", folder, "--json").stdout.splitlines()]


def whole(rows: list[dict[str, Any]]) -> bool:
    return len(rows) == 2 and all(row["same"] == 20 and not row["waiting"] for row in rows)


def test_a_desk_that_another_process_takes_over_ends_by_itself(firm, one_node):
    with running(firm, "street", stderr=subprocess.PIPE) as street:
        name = load_link(firm / "street.toml", "x").firm

        async def take_over() -> None:
            async with opened(a_link(one_node, name, "thief")) as (transport,):
                (seen,) = await transport.seats()
                await transport.claim(Seat(desk="street", holder="another", lease_s=3_600), seen)

        asyncio.run(take_over())
        _, said = street.communicate(timeout=LONG_S)
        assert street.returncode == 1, said
        assert said.splitlines()[-1].startswith("Error: SeatLost: another process holds desk 'street'")
        assert "Traceback" not in said


def test_desks_of_settings_files_are_seen_killed_and_audited(firm):
    with running(firm, "street") as street, running(firm, "floor") as floor:
        until(lambda: audit(firm), whole)
        shown = until(lambda: call("status", "--config", firm / "floor.toml"), lambda one: one.exit_code == 0)
        assert "what the desk floor says itself" in shown.stdout
        assert call("lag", "--config", firm / "street.toml").exit_code == 0

        assert ended(street, signal.SIGKILL) == -signal.SIGKILL
        silent = call("status", "--config", firm / "floor.toml", "--json")
        assert silent.exit_code == 1
        words = {desk["desk"]: desk["word"] for desk in json.loads(silent.stdout)["desks"]}
        assert words["street"] == "silent"

        with running(firm, "street") as again:
            until(lambda: call("lag", "--config", firm / "floor.toml"), lambda one: one.exit_code == 0)
            assert ended(again) == 0
        assert ended(floor) == 0
    assert whole(audit(firm))
    result = call("audit", firm, "--complete")
    assert (result.exit_code, result.stdout.splitlines()[-1]) == (0, "clean")
    away = call("status", "--config", firm / "floor.toml")
    assert away.exit_code == 0, away.output
    assert away.stdout.count(" away ") == 2


def test_a_kill_switch_pulled_on_one_desk_is_released_on_both(firm):
    with running(firm, "street"), running(firm, "floor"):
        words = ["halt", str(firm / "floor.db"), "--reason", "drill", "--yes"]
        assert CliRunner().invoke(main, words).exit_code == 0

        def switches() -> list[int]:
            found = json.loads(call("status", "--config", firm / "floor.toml", "--json").stdout)
            return [len((desk["beat"] or {}).get("halts", ())) for desk in found["desks"]]

        until(switches, lambda found: found == [1, 1])
        result = call("release", "--config", firm / "street.toml", "--reason", "reviewed", "--yes")
        assert result.exit_code == 0, result.output
        assert "no desk that is heard has them any more" in result.stdout
        assert switches() == [0, 0]
