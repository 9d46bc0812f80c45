"""The same day with one agent changed: only what follows from that is otherwise."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import replayed_firm
from click.testing import CliRunner

from openoutcry import EventBus
from openoutcry.cli import main
from openoutcry.clocks import clock_of_loop
from openoutcry.config import NO_RETRY
from openoutcry.errors import ConfigError
from openoutcry.firm import House, app, load_history, recipes
from openoutcry.firm.agents import StrategyAgent
from openoutcry.replay import Effects, Replayed, replay
from openoutcry.replay.branch import Knowledge
from openoutcry.replay.change import change_of
from openoutcry.replay.day import made_in, read_day
from openoutcry.replay.engine import control_here, replay_here, what_if_here
from openoutcry.runtime.durability.recorder import running_app

HERE = str(Path(__file__).parent)
DOWNSTREAM = {"archivist", "broker", "cio", "compliance", "execution", "portfolio", "risk"}
"""Who is handed what follows from a strategy's answer."""
Control = tuple[Replayed, Knowledge]


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("what-if") / "day.db"
    history = load_history(("AAPL", "IBM", "MSFT"), days=50)
    running_app.set("openoutcry.firm:app")
    house = House(history, recipes(14), journal=path, is_recorded=True)
    asyncio.run(house.run())
    return path


@pytest.fixture(scope="module")
def control(day: Path) -> Control:
    return control_here(read_day(day), app, "firm")


def what_if(day: Path, control: Control, joins: bool = False, **change: Any) -> Effects:
    others = change.pop("others", None)
    found = what_if_here(
        read_day(day),
        app,
        "firm",
        change_of(**change),
        control=control[0],
        known=control[1],
        joins=joins,
        others=others,
    )
    assert found.effects is not None
    if found.effects.touched == ():
        assert found.replayed == control[0].replayed
    return found.effects


def changed(effects: Effects) -> int:
    return sum(count for kind, count in effects.decisions.items() if kind != "same")


async def the_same_rsi(bus: EventBus) -> AsyncIterator[None]:
    """The agent that is replaced, by itself."""
    recipe = next(one for one in recipes(14) if one.name == "rsi-14")
    StrategyAgent(recipe).attach(bus, clock_of_loop(), retry=NO_RETRY)
    yield


async def nobody(bus: EventBus) -> AsyncIterator[None]:
    yield


def test_the_control_is_identical(control: Control) -> None:
    assert control[0].identical
    assert control[0].limits == ()
    assert set(control[1].agents.values()) >= DOWNSTREAM - {"archivist", "portfolio"}


def test_a_change_that_changes_nothing_leads_to_nothing(day: Path, control: Control) -> None:
    for change in (
        {"delay_s": {"rsi-14": 1e-9}},
        {"replace": {"rsi-14": "x:y"}, "others": {"rsi-14": the_same_rsi}},
    ):
        found = what_if(day, control, **change)
        assert (changed(found), found.rounds_changed, found.touched, found.changes) == (0, 0, (), ())
        assert found.decisions["same"] > 30


def test_without_an_agent_only_what_follows_from_it_is_otherwise(day: Path, control: Control) -> None:
    found = what_if(day, control, without=["rsi-14"])
    assert set(found.touched) <= DOWNSTREAM
    assert changed(found) > 10
    assert found.rounds_changed > 100
    first = found.changes[0]
    assert first.agent == "cio"
    assert first.why == "rsi-14's vote is gone, so 13 of 13 answered"
    kinds = {one.kind for one in found.changes}
    assert kinds <= {"size", "side", "gone", "new", "other"}
    assert len(found.changes) == changed(found)


def test_every_run_leads_to_the_same(day: Path, control: Control) -> None:
    assert what_if(day, control, without=["rsi-14"]) == what_if(day, control, without=["rsi-14"])


def test_who_says_nothing_is_missing_and_a_market_may_wait(day: Path, control: Control) -> None:
    found = what_if(day, control, joins=True, silence=["momentum-126"])
    assert found.rounds_changed > 100  # it had abstained in each, as the past was too short for it
    assert changed(found) == 0


def test_where_the_day_is_over_before_its_rounds_it_is_said_first(day: Path, control: Control) -> None:
    found = what_if_here(
        read_day(day), app, "firm", change_of(silence=["rsi-14"]), control=control[0], known=control[1]
    )
    assert "events still waited for" in found.limits[0]
    assert "--join" in found.limits[0]


def test_what_agents_say_in_a_what_if_has_the_times_of_the_session(
    day: Path, control: Control, tmp_path: Path
) -> None:
    into = tmp_path / "if.db"
    what_if_here(
        read_day(day),
        app,
        "firm",
        change_of(without=["rsi-14"]),
        control=control[0],
        known=control[1],
        into=into,
    )
    made = list(made_in(into))
    assert len(made) > 100
    assert {event.timestamp.year for event in made} == {2000}
    assert replay_here(read_day(day), app, "firm", strict=True).identical


def test_who_is_late_is_late_by_so_much(day: Path, control: Control) -> None:
    found = what_if(day, control, joins=True, delay_s={"rsi-14": 20.0})
    assert any(
        "rsi-14 came" in one.why and "too late, so 13 of 14 answered" in one.why for one in found.changes
    )


def test_whose_place_nobody_takes_is_missing(day: Path, control: Control) -> None:
    found = what_if(day, control, joins=True, replace={"rsi-14": "x:y"}, others={"rsi-14": nobody})
    assert found.changes[0].why == "rsi-14's vote is gone, so 13 of 14 answered"


def test_without_risk_nothing_is_ordered(day: Path, control: Control) -> None:
    found = what_if(day, control, without=["risk"])
    assert set(found.touched) == DOWNSTREAM - {"risk"}
    assert found.rounds_changed == 0


def test_a_change_makes_sense(day: Path) -> None:
    with pytest.raises(ConfigError, match="changed in two ways"):
        replay(day, without=["rsi-14"], silence=["rsi-14"])
    with pytest.raises(ConfigError, match="give seconds above 0"):
        replay(day, delay={"rsi-14": -1})


@pytest.mark.parametrize("how", ["without", "silence", "delay_s", "replace"])
def test_whom_the_app_does_not_have_cannot_be_changed(day: Path, control: Control, how: str) -> None:
    given: Any = {"delay_s": {"rsi-41": 1.0}, "replace": {"rsi-41": "x:y"}}.get(how, ["rsi-41"])
    with pytest.raises(ConfigError, match=r"no agent 'rsi-41' to change; it has .*rsi-14"):
        what_if(day, control, **{how: given})


def test_where_the_control_differs_no_effects_are_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [HERE, *sys.path])
    replayed_firm.record(tmp_path / "day.db")
    found = replay(tmp_path / "day.db", replayed_firm.OtherRationale, without=["quick"])
    assert (found.identical, found.effects) == (False, None)
    found = replay(tmp_path / "day.db", without=["quick"])
    assert found.identical
    assert found.effects is not None
    assert found.effects.rounds_unheeded == found.effects.rounds_changed == 40
    assert "main program" in found.limits[-1]
    assert "steady" not in found.effects.touched


def test_the_command(day: Path) -> None:
    told = CliRunner().invoke(main, ["replay", str(day), "--without", "rsi-14", "--json"])
    assert (told.exit_code, told.exception) == (0, None)
    data = json.loads(told.stdout)["effects"]
    assert data["decisions"]["same"] > 0
    assert "rsi-14's vote is gone" in data["changes"][0]["text"]
    told = CliRunner().invoke(main, ["replay", str(day), "--delay", "rsi-14=2s", "--join"])
    assert told.exit_code == 0
    assert "  --delay rsi-14=2s: " in told.output
    for wrong in ("rsi-14", "rsi-14=2", "rsi-14=soon"):
        told = CliRunner().invoke(main, ["replay", str(day), "--delay", wrong])
        assert told.exit_code == 2
