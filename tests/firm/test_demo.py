import asyncio
import io
import logging
import re
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from rich.console import Console

from openoutcry.errors import ConfigError
from openoutcry.firm import DemoOptions, run_demo
from openoutcry.firm.demo import MISTAKE, SOUND, QuietLog, build_house
from openoutcry.firm.progress import PlainProgress, RichProgress, progress_for, sparkline


def options(tmp_path, **given):
    return DemoOptions(
        days=40, symbols=("AAPL", "MSFT"), report=tmp_path / "out" / "report.html", plain=True, **given
    )


def test_a_calm_run_ends_with_a_summary_and_a_report(tmp_path, capsys):
    assert run_demo(options(tmp_path)) == SOUND
    printed = capsys.readouterr().out
    for said in ("rounds held", "signals", "decisions", "orders", "fills", "buy-and-hold", "events/s", "p99"):
        assert said in printed
    assert "Nothing was lost" in printed
    assert "ONE TRADE, FROM BAR TO FILL" in printed
    assert "CHAOS" not in printed
    assert (tmp_path / "out" / "report.html").exists()


def test_a_run_with_chaos_says_who_noticed_and_how_fast_the_kill_switch_was(tmp_path, capsys):
    assert run_demo(options(tmp_path, chaos=7)) == SOUND
    printed = capsys.readouterr().out
    for said in ("CHAOS, SEED 7", "hang", "raise", "flood", "dead letters", "backpressure", "refused"):
        assert said in printed
    assert re.search(r"heard by +22 agents +after [\d.]+ ms \(first\) to [\d.]+ ms \(last\)", printed)
    assert re.search(r"after it +0 orders", printed)
    assert "Nothing was lost" in printed


def test_a_mistake_is_one_line_on_standard_error(tmp_path, capsys):
    assert run_demo(options(tmp_path, agents=5)) == MISTAKE
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "Error: agents=5: a firm takes 6 to 64 strategies; choose a number in between\n"


@pytest.mark.parametrize(
    "given", [{"speed": 0.0}, {"speed": -1.0}, {"symbols": ("X",)}, {"chaos": 1, "days": 10}]
)
def test_an_option_out_of_range_is_a_config_error(given):
    with pytest.raises(ConfigError):
        build_house(DemoOptions(**given))


def test_speed_paces_the_days_and_is_not_counted_as_running_time(tmp_path, capsys):
    assert (
        run_demo(DemoOptions(days=5, symbols=("IBM",), speed=100.0, report=tmp_path / "r.html", plain=True))
        == SOUND
    )
    taken = re.search(r"It took ([\d.]+) s", capsys.readouterr().out)
    assert taken is not None
    assert float(taken[1]) < 5


def test_what_the_bus_logs_is_counted_and_kept_off_the_screen():
    logger = logging.getLogger("openoutcry")
    before = (logger.propagate, list(logger.handlers))
    with QuietLog() as log:
        logger.warning("something %s", "happened")
    assert (log.count, log.last) == (1, "something happened")
    assert (logger.propagate, list(logger.handlers)) == before


def test_a_pipe_gets_plain_lines(monkeypatch):
    assert isinstance(progress_for(10, plain=False), PlainProgress)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert isinstance(progress_for(10, plain=False), RichProgress)
    assert isinstance(progress_for(10, plain=True), PlainProgress)


def test_the_live_table_shows_date_equity_rounds_and_the_kill_lane(monkeypatch):
    shown = []
    monkeypatch.setattr("rich.live.Live.update", lambda _self, table, refresh: shown.append(table))
    house = build_house(DemoOptions(days=30, symbols=("IBM",), chaos=3))
    with QuietLog(), RichProgress(house.plan.days) as progress:
        asyncio.run(house.run(progress.day))
    paper = io.StringIO()
    Console(width=110, file=paper).print(shown[-1])
    text = paper.getvalue()
    assert house.firm.portfolio.day in text
    for said in ("equity", "rounds", "events", "kill lane", "THROWN", "agents had heard within"):
        assert said in text


def test_a_sparkline_has_the_shape_of_its_values():
    assert sparkline([1, 2, 3], 10) == "▁▄█"
    assert len(sparkline(list(range(1_000)), 30)) <= 30
    assert sparkline([5, 5], 10) == "▁▁"
    assert sparkline([], 10) == ""


def test_the_code_on_the_page_about_the_firm_runs(capsys):
    page = (Path(__file__).parents[2] / "docs" / "firm.md").read_text(encoding="utf-8")
    for block in re.findall(r"^```python\n(.*?)^```", page, flags=re.DOTALL | re.MULTILINE):
        exec(compile(block, "docs/firm.md", "exec"), {})
    assert capsys.readouterr().out.endswith("True\n")


def test_every_option_is_on_the_page_about_the_firm():
    page = (Path(__file__).parents[2] / "docs" / "firm.md").read_text(encoding="utf-8")
    for option in fields(DemoOptions):
        assert f"| `--{option.name}` | `{option.name}` |" in page
