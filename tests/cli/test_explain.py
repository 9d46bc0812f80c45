"""`openoutcry explain` and `openoutcry index`, as an operator meets them."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from openoutcry import FillEvent, MarketDataEvent, OrderEvent
from openoutcry.cli import main
from openoutcry.events import encode
from openoutcry.journals import SqliteJournal
from openoutcry.ports import Entry

LIMIT_S = 60


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def fill_of(number: int) -> list[Entry]:
    tick = MarketDataEvent(symbol="ES", price=5000)
    order = OrderEvent(
        order_id=f"o-{number}",
        symbol="ES",
        side="buy",
        quantity=2,
        causation_id=tick.event_id,
        source_agent="cio",
    )
    fill = FillEvent(
        order_id=order.order_id,
        symbol="ES",
        side="buy",
        filled_quantity=2,
        fill_price=5001,
        causation_id=order.event_id,
    )
    return [Entry(event.event_id, encode(event)) for event in (tick, order, fill)]


@pytest.fixture
def firm(tmp_path: Path) -> Path:
    with SqliteJournal(tmp_path / "firm.db") as journal:
        journal.write(fill_of(1))
    return tmp_path / "firm.db"


def test_the_sentence_comes_first_and_then_the_chain(firm: Path) -> None:
    result = call("explain", firm, "o-1")
    assert result.exit_code == 0, result.output
    title, *lines = result.stdout.splitlines()
    assert title.startswith("Why 2 ES were bought at 5,001.00 on ")
    steps = [line for line in lines if "#" in line and line.startswith("  ")]
    assert ["#1" in steps[-3], "#2" in steps[-2], "#3" in steps[-1]] == [True] * 3


def test_forward_shows_what_came_of_it(firm: Path) -> None:
    result = call("explain", firm, "#1", "--forward")
    assert result.stdout.startswith("What came of this: ES at 5,000.00")
    assert "filled 2 at 5,001.00" in result.stdout


def test_json_is_one_line_with_everything(firm: Path) -> None:
    (line,) = call("explain", firm, "o-1", "--json").stdout.splitlines()
    assert [step["event_type"] for step in json.loads(line)["chain"]] == ["market_data", "order", "fill"]


def test_what_is_not_there_is_a_mistake(firm: Path) -> None:
    result = call("explain", firm, "o-2")
    assert result.exit_code == 2
    assert "has no event, order, execution, decision, round or position of the name 'o-2'" in result.stderr
    assert call("explain", firm.parent / "none.db", "o-1").exit_code == 2


def test_an_index_says_what_it_has(firm: Path) -> None:
    first = call("index", firm)
    assert first.exit_code == 0, first.output
    assert first.stdout.startswith(f"{firm}-lineage: 3 events added, up to position 3; ")
    assert json.loads(call("index", firm, "--json").stdout)["added"] == 0


def test_an_index_that_cannot_be_kept_is_told(firm: Path) -> None:
    Path(f"{firm}-lineage").mkdir()
    assert "every question makes an index for itself" in call("index", firm).stdout
    assert call("explain", firm, "o-1").exit_code == 0
    followed = call("index", firm, "--follow")
    assert followed.exit_code == 2
    assert "cannot be kept" in followed.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_index_that_follows_keeps_up_until_it_is_ended(
    firm: Path, number: signal.Signals, code: int
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "openoutcry", "index", str(firm), "--follow"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    assert "3 events added" in process.stdout.readline()
    side, before = Path(f"{firm}-lineage"), 0
    with SqliteJournal(firm) as journal:
        for count in range(2, 800):
            journal.write(fill_of(count))
        before = side.stat().st_size
    until_s = time.monotonic() + LIMIT_S
    while side.stat().st_size <= before and time.monotonic() < until_s:
        time.sleep(0.05)
    assert side.stat().st_size > before
    process.send_signal(number)
    _, said = process.communicate(timeout=LIMIT_S)
    assert (process.returncode, said) == (code, "")
