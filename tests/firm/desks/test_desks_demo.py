"""The firm as three desks, for real: processes, a nats-server, SIGKILL, SQLite files."""

import asyncio
from dataclasses import replace

import pytest
from click.testing import CliRunner

from openoutcry.cli import main
from openoutcry.errors import ConfigError
from openoutcry.firm.crash.demo import MISTAKE
from openoutcry.firm.crash.plan import Kill
from openoutcry.firm.desks import DesksOptions, run_desks_demo
from openoutcry.firm.desks.demo import plan, run_both, verdict
from openoutcry.firm.desks.plan import DeskKill
from openoutcry.firm.desks.stage import PlainDesks
from openoutcry.firm.desks.supervisor import is_settled
from openoutcry.firm.desks.words import DESK, DESKS, FLOOR, NODE, STREET, DeskWord, Far

OPTIONS = DesksOptions(days=34, agents=8, symbols=("AAPL", "IBM"), plain=True)


def run(tmp_path, kills=(), *, said=None, **changes):
    options = replace(OPTIONS, folder=tmp_path / "desks", **changes)
    stage = PlainDesks(options.days, echo=(said if said is not None else []).append)
    return asyncio.run(run_both(options, kills, stage))


def instead_of_a_desk(tmp_path, monkeypatch, fault):
    """Let desks with a planted fault be started in their place."""
    script = tmp_path / "faulty.py"
    script.write_text(
        f"import runpy\n{fault}\nrunpy.run_module('openoutcry.firm.desks', run_name='__main__')\n",
        encoding="utf-8",
    )
    monkeypatch.setattr("openoutcry.firm.desks.supervisor.PROGRAM", (str(script),))


def test_killed_on_every_desk_and_between_them_it_ends_as_the_firm_in_one_process(tmp_path):
    said = []
    kills = (
        DeskKill(FLOOR, Kill("vote", 6, nth=4)),
        DeskKill(NODE, Kill("anywhen", 12), down_ms=400),
        DeskKill(DESK, Kill("verdict", 14)),
        DeskKill(DESK, Kill("waking", 14, delay_ms=40)),
        DeskKill(STREET, Kill("executed", 20)),
        DeskKill(FLOOR, Kill("decision", 25)),
    )
    outcome, troubles = run(tmp_path, kills, said=said)
    assert [finding for finding in outcome.findings if not finding.same] == []
    assert outcome.same, (outcome.undisturbed_evidence, outcome.killed_evidence)
    assert troubles == 0
    assert [death.who for death in outcome.killed.deaths] == [kill.who for kill in kills]
    assert outcome.killed_evidence.fills.items > 0
    told = "".join(said)
    assert told.count("KILLED") == len(kills)
    assert verdict(outcome, troubles).startswith("On three desks, killed 6 times, the firm has the same")
    audit = CliRunner().invoke(main, ["firm", "audit", "--complete", str(tmp_path / "desks")])
    assert audit.exit_code == 0, audit.output
    assert audit.output.rstrip().endswith("clean")


def test_a_desk_that_loses_a_fill_is_found_out(tmp_path, monkeypatch):
    instead_of_a_desk(
        tmp_path,
        monkeypatch,
        "from openoutcry.firm.agents import Portfolio\n"
        "heard = Portfolio.on_fill\n"
        "async def deaf(self, fill):\n"
        "    if fill.execution_id != 'exec-00002': await heard(self, fill)\n"
        "Portfolio.on_fill = deaf",
    )
    outcome, troubles = run(tmp_path)
    assert not outcome.same
    assert verdict(outcome, troubles).startswith("NOT THE SAME: equity")


def test_a_desk_that_ends_by_itself_is_a_failure_that_says_where_to_look(tmp_path, monkeypatch, capsys):
    instead_of_a_desk(tmp_path, monkeypatch, "raise SystemExit(4)")
    assert run_desks_demo(replace(OPTIONS, days=5, folder=tmp_path / "desks")) == MISTAKE
    said = capsys.readouterr().err
    assert "the firm ended with 4" in said
    assert "firm.log" in said


def test_what_an_earlier_run_left_is_removed_and_nothing_else(tmp_path, monkeypatch):
    instead_of_a_desk(tmp_path, monkeypatch, "raise SystemExit(4)")
    folder = tmp_path / "desks"
    (folder / "nats").mkdir(parents=True)
    (folder / "nats" / "old").write_text("old")
    (folder / "street.db-wal").write_text("old")
    (folder / "precious.txt").write_text("mine")
    run_desks_demo(replace(OPTIONS, days=5, folder=folder))
    assert (folder / "precious.txt").exists()
    assert not (folder / "street.db-wal").exists()
    assert not (folder / "nats" / "old").exists()


@pytest.mark.parametrize("given", [{"speed": 0.0}, {"agents": 5}, {"days": 14, "kills": 1}])
def test_an_option_out_of_range_is_a_config_error(given):
    with pytest.raises(ConfigError):
        plan(replace(OPTIONS, **given))


def far(log, exported, rest=0, **imported):
    return Far(log, exported, rest, imported)


def counted(*, rest=0, had=7):
    """What three desks say, of which the street may lack something of the floor, and the desk not be done."""
    high = {desk: far("high", 0, **{other: 0 for other in DESKS if other != desk}) for desk in DESKS}
    normal = {
        FLOOR: far("normal", 7, desk=3, street=0),
        DESK: far("normal", 3, rest, floor=7, street=0),
        STREET: far("normal", 0, floor=had, desk=3),
    }
    return {desk: DeskWord(at="count", head=9, logs=(high[desk], normal[desk])) for desk in DESKS}


def test_a_step_is_settled_when_all_is_exported_and_imported_everywhere():
    assert is_settled(counted())
    assert not is_settled(counted(had=6))
    assert not is_settled(counted(rest=1))
