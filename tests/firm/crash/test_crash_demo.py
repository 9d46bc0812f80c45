"""The firm is killed for real: processes, SIGKILL, SQLite files."""

import asyncio
from dataclasses import replace

import pytest

from openoutcry.errors import ConfigError
from openoutcry.firm import House, load_history, recipes
from openoutcry.firm.crash import CrashOptions, Kill, run_crash_demo
from openoutcry.firm.crash.demo import MISTAKE, plan, run_both, verdict
from openoutcry.firm.crash.processes import Failed, firm
from openoutcry.firm.crash.stage import PlainStage
from openoutcry.firm.crash.words import Life

SYMBOLS = ("AAPL", "IBM")
OPTIONS = CrashOptions(days=40, agents=8, symbols=SYMBOLS, plain=True)


def run(tmp_path, kills, *, said=None, **changes):
    options = replace(OPTIONS, folder=tmp_path / "crash", **changes)
    stage = PlainStage(options.days, echo=(said if said is not None else []).append)
    return asyncio.run(run_both(options, kills, stage))


def instead_of_the_firm(tmp_path, monkeypatch, fault):
    """Let a firm with a planted fault be started in its place."""
    script = tmp_path / "faulty.py"
    script.write_text(
        f"import runpy\n{fault}\nrunpy.run_module('openoutcry.firm.crash', run_name='__main__')\n",
        encoding="utf-8",
    )
    monkeypatch.setattr("openoutcry.firm.crash.processes.FIRM", (str(script),))


def test_killed_at_places_of_every_kind_it_comes_back_from_saved_states_as_if_nothing_had_happened(tmp_path):
    said = []
    kills = (
        Kill("vote", 6, nth=4),
        Kill("executed", 12),
        Kill("waking", 12, delay_ms=5),
        Kill("asked", 20),
        Kill("waking", 26, delay_ms=40),
        Kill("decision", 30),
    )
    outcome = run(tmp_path, kills, said=said)
    assert [finding for finding in outcome.findings if not finding.same] == []
    assert outcome.same, (outcome.undisturbed_evidence, outcome.killed_evidence)
    assert [death.kill for death in outcome.killed.deaths] == list(kills)
    first, *_, last = outcome.killed.returns
    assert first.loaded == 0
    assert last.loaded > 0
    assert last.remembered > 0
    assert outcome.killed.deaths[1].orders.unheard == 1
    assert outcome.killed_evidence.repeats == 1
    assert outcome.killed_evidence.verified.problems == ()
    assert sum(word.recovered for word in outcome.killed.returns) > 0
    assert "".join(said).count("KILLED") == len(kills)
    assert f"{last.loaded:,} events in saved states, {last.remembered:,} remembered on top" in "".join(said)
    assert trades_of(outcome.killed_evidence.account.fills) == trades_of(the_plain_firm())


TRADE = ("day", "symbol", "side", "shares", "price", "commission", "realised", "held_after")


def trades_of(fills):
    return [tuple(getattr(fill, name) for name in TRADE) for fill in fills]


def the_plain_firm():
    """Run the plain demonstration, in memory and with the broker next door, and give its trades."""
    house = House(load_history(SYMBOLS, days=OPTIONS.days), recipes(OPTIONS.agents))
    asyncio.run(house.run())
    return house.firm.portfolio.trades


def test_a_firm_that_forgets_what_it_knew_is_found_out(tmp_path, monkeypatch):
    instead_of_the_firm(
        tmp_path,
        monkeypatch,
        "from openoutcry.firm.agents.base import Agent\nAgent.remember = lambda self, event: None",
    )
    outcome = run(tmp_path, (Kill("decision", 14),), days=20)
    assert not outcome.same
    assert verdict(outcome).startswith("NOT THE SAME: equity")


def test_a_firm_whose_saved_states_lack_something_is_found_out(tmp_path, monkeypatch):
    instead_of_the_firm(
        tmp_path,
        monkeypatch,
        "from openoutcry.firm.agents import StrategyAgent\n"
        "StrategyAgent.state = {n: kind for n, kind in StrategyAgent.state.items() if n != '_pasts'}",
    )
    outcome = run(tmp_path, (Kill("decision", 28),))
    assert outcome.killed.returns[0].loaded
    assert not outcome.same


def test_a_firm_that_gives_an_order_a_new_id_each_time_is_found_out(tmp_path, monkeypatch):
    instead_of_the_firm(
        tmp_path,
        monkeypatch,
        "import uuid\nfrom openoutcry.firm.agents import gateway\n"
        "gateway._client_id = lambda order: uuid.uuid4().hex",
    )
    outcome = run(tmp_path, (Kill("accepted", 12),), days=20)
    assert not outcome.same
    assert "fills at broker" in verdict(outcome)


def test_a_firm_that_ends_by_itself_before_its_time_is_a_failure_that_says_where_to_look(
    tmp_path, monkeypatch, capsys
):
    instead_of_the_firm(tmp_path, monkeypatch, "raise SystemExit(4)")
    assert run_crash_demo(replace(OPTIONS, kills=1, folder=tmp_path / "crash")) == MISTAKE
    said = capsys.readouterr().err
    assert "the firm ended with 4" in said
    assert "firm.log" in said


def test_a_firm_whose_supervisor_is_gone_goes_too(tmp_path):
    life = Life(
        journal=str(tmp_path / "firm.db"),
        socket=str(tmp_path / "nobody"),
        account=str(tmp_path / "account.json"),
        symbols=SYMBOLS,
        agents=8,
        days=40,
    )

    async def abandon():
        async with firm(life) as process:
            word = await process.next_word()
            assert word.at == "born"
            process._process.stdin.close()
            with pytest.raises(Failed, match="the firm ended with"):
                await process.ended()

    asyncio.run(abandon())


def test_what_an_earlier_run_left_is_removed_and_nothing_else(tmp_path, monkeypatch):
    instead_of_the_firm(tmp_path, monkeypatch, "raise SystemExit(4)")
    folder = tmp_path / "crash" / "killed"
    folder.mkdir(parents=True)
    (folder / "firm.db-wal").write_text("old")
    (folder / "precious.txt").write_text("mine")
    run_crash_demo(replace(OPTIONS, kills=1, folder=tmp_path / "crash"))
    assert (folder / "precious.txt").exists()
    assert not (folder / "firm.db-wal").exists()


@pytest.mark.parametrize("given", [{"speed": 0.0}, {"agents": 5}, {"days": 14, "kills": 1}, {"kills": 0}])
def test_an_option_out_of_range_is_a_config_error(given):
    with pytest.raises(ConfigError):
        plan(replace(OPTIONS, **({"kills": 1} | given)))
