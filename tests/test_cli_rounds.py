"""`openoutcry rounds`, as an operator meets it."""

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from openoutcry import EventBus, PersistenceConfig, SignalEvent
from openoutcry.cli import main
from openoutcry.testing import run_virtual


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def signal(agent: str, round_id: str) -> SignalEvent:
    return SignalEvent(
        source_agent=agent, strategy_name=agent, symbol="ES", direction="long", round_id=round_id
    )


async def two_rounds(path: Path) -> None:
    settings = PersistenceConfig(path=path, socket=False)
    async with EventBus(signal_timeout=1.0, persistence_config=settings) as bus:
        for agent in ("trend", "value", "model"):
            bus.register_signal_agent(agent)
        bus.open_round("r-1", quorum=1)
        await bus.publish_signal(signal("trend", "r-1"))
        bus.abstain("value", "no view", "r-1")
        await bus.wait_for_signals("r-1")
        await bus.publish_signal(signal("model", "r-1"))
        bus.open_round("r-2", roster=["trend"])
        await bus.wait_for_signals("r-2")


@pytest.fixture
def firm(tmp_path: Path) -> Path:
    path = tmp_path / "firm.db"
    run_virtual(two_rounds(path))
    return path


def test_each_round_is_a_line_with_a_column_for_each_agent(firm: Path) -> None:
    result = call("rounds", firm)
    assert result.exit_code == 0, result.output
    head, newer, older = result.stdout.splitlines()
    assert head.split() == [
        "opened",
        "round",
        "symbol",
        "status",
        "valid",
        "took",
        "answered",
        "model",
        "trend",
        "value",
    ]
    assert newer.split()[1:] == ["r-2", "expired", "no", "10", "s", "0", "of", "1", "missing"]
    assert older.split()[1:] == [
        "r-1",
        "ES",
        "quorate",
        "yes",
        "1",
        "s",
        "2",
        "of",
        "3",
        "late",
        "0",
        "s",
        "0",
        "s",
        "abstained",
    ]
    assert older.index("abstained") == head.index("value")


def test_one_round_is_explained_in_words(firm: Path) -> None:
    result = call("rounds", firm, "--id", "r-1")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("Round r-1 for ES was opened at ")
    assert "Abstained: value (no view)." in result.stdout


def test_json_has_a_line_for_each_round(firm: Path) -> None:
    result = call("rounds", firm, "--json", "--agent", "model")
    (line,) = result.stdout.splitlines()
    found = json.loads(line)
    assert (found["round_id"], found["status"]) == ("r-1", "quorate")
    assert [cell["how"] for cell in found["cells"]] == ["late", "voted", "abstained"]
    assert found["explanation"].startswith("Round r-1")


def test_conditions_and_a_limit_choose_among_them(firm: Path) -> None:
    assert len(call("rounds", firm, "--limit", "1").stdout.splitlines()) == 2
    assert "r-1" not in call("rounds", firm, "--status", "expired").stdout
    assert call("rounds", firm, "--symbol", "CL").stdout == "no round is on record\n"


def test_a_round_that_is_not_on_record_is_a_mistake(firm: Path) -> None:
    result = call("rounds", firm, "--id", "r-9")
    assert result.exit_code == 2
    assert "has no record of a round 'r-9'" in result.stderr


def test_on_a_terminal_too_narrow_for_columns_those_late_or_missing_are_named(
    firm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["openoutcry.cli.journal.rounds"], "terminal_size", lambda: (80, 24))
    head, newer, older = call("rounds", firm).stdout.splitlines()
    assert head.endswith("late or missing")
    assert newer.endswith("expired, not valid  10 s  0 of 1    trend missing")
    assert "  quorate  " in older
    assert older.endswith("model late 0 s")
    assert max(map(len, (head, newer, older))) <= 80
