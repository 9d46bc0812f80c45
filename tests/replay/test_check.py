"""A recorded day again: what agents do otherwise is named, and one difference does not spread."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from replayed_firm import (
    Abstains,
    Firm,
    OtherRationale,
    Raises,
    Random,
    ReadsTheClock,
    Silent,
    Talkative,
    Writes,
    as_generator,
    record,
)

from openoutcry.cli import main
from openoutcry.errors import ConfigError, RecordTooThin, ReplayError
from openoutcry.replay import Replayed, replay
from openoutcry.replay.day import read_day
from openoutcry.replay.engine import replay_here

HERE = str(Path(__file__).parent)


@pytest.fixture(scope="module", params=["replay", "rounds"])
def day(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("replay") / f"{request.param}.db"
    record(path, how=request.param)
    return path


def again(day: Path, app: Any, **options: Any) -> Replayed:
    return replay_here(read_day(day), app, app.__name__, **options)


@pytest.mark.parametrize("app", [Firm, as_generator])
def test_the_same_firm_does_the_same(day: Path, app: Any) -> None:
    found = again(day, app)
    assert found.differences == ()
    assert found.identical
    assert found.replayed == found.recorded
    assert found.replayed.decisions_count > 40
    assert found.replayed.events_count > 150


@pytest.mark.parametrize(
    ("app", "kind", "field"),
    [
        (OtherRationale, "content", "rationale"),
        (ReadsTheClock, "content", "rationale"),
        (Random, "content", "confidence"),
        (Silent, "missing", None),
        (Talkative, "extra", None),
    ],
)
def test_one_change_is_one_difference_with_a_name(day: Path, app: Any, kind: str, field: str | None) -> None:
    found = again(day, app)
    assert not found.identical
    (only,) = found.differences
    assert (only.kind, only.agent, only.symbol, only.round_id) == (kind, "slow", "ES", "ES-10")
    assert [one.name for one in only.fields] == ([] if field is None else [field])
    assert found.replayed.what != found.recorded.what
    assert found.replayed.decisions == found.recorded.decisions


def test_who_abstains_where_it_had_spoken_is_named(day: Path) -> None:
    assert [one.kind for one in again(day, Abstains).differences] == ["missing", "abstained"]


def test_who_raises_where_it_had_not_is_named(day: Path) -> None:
    found = again(day, Raises)
    assert {one.agent for one in found.differences} == {"slow"}
    assert "ValueError: no account" in next(one.text() for one in found.differences if one.kind == "raised")


def test_an_agent_that_is_not_hired_is_missing_everywhere(day: Path) -> None:
    class Smaller(Firm):
        def setup(self, bus: Any) -> None:
            self.strategy(bus, "quick", 0.0)
            self.strategy(bus, "slow", 0.003)

    found = again(day, Smaller)
    assert {one.agent for one in found.differences} == {"steady", "execution", "broker"}


def test_timestamps_are_compared_when_asked_for(day: Path) -> None:
    found = again(day, Firm, strict=True)
    assert {one.fields[0].name for one in found.differences} == {"timestamp"}


def test_every_process_finds_the_same(day: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [HERE, *sys.path])
    found = []
    for seed in ("1", "2"):
        monkeypatch.setenv("PYTHONHASHSEED", seed)
        found.append(replay(day, "replayed_firm:Firm"))
    assert found[0] == found[1]
    assert found[0].identical
    assert found[0].replayed == again(day, Firm).replayed


def test_nothing_goes_out(day: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [HERE, *sys.path])
    found = replay(day, Writes)
    first = found.first_differences()[0]
    assert (first.kind, first.agent) == ("raised", "slow")
    assert "EffectDenied: slow was about to write a file (open" in first.said
    assert not Path("/tmp/openoutcry-must-not-be").exists()


def test_a_stretch_of_the_day(day: Path) -> None:
    whole = read_day(day)
    middle_ns = whole.started_wall_ns + whole.entries[len(whole.entries) // 2].at_ns
    before = replay_here(read_day(day, to_ns=middle_ns), Firm, "Firm")
    assert before.identical
    assert 0 < before.entries_count < len(whole.entries)
    with pytest.raises(RecordTooThin, match="no events in that time"):
        read_day(day, from_ns=middle_ns * 2)


def test_what_cannot_be_replayed_says_why(day: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [HERE, *sys.path])
    with pytest.raises(ConfigError, match="there is no module"):
        replay(day, "no_such_module:app")
    with pytest.raises(ConfigError, match="makes its own bus"):
        replay(day, "openoutcry:EventBus")
    with pytest.raises(ReplayError, match="TypeError"):
        replay(day, "replayed_firm:Strategy")
    with pytest.raises(ConfigError, match="imports it in a process of its own"):
        replay(day, lambda bus: None)
    with pytest.raises(ConfigError, match="write MODULE:APP"):
        replay(day, "replayed_firm")
    record(tmp_path / "off.db", how="off")
    with pytest.raises(RecordTooThin, match="does not say how its bus was started"):
        read_day(tmp_path / "off.db")


def test_the_command(day: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [HERE, *sys.path])
    told = CliRunner().invoke(main, ["replay", str(day)])
    assert (told.exit_code, told.exception) == (0, None)
    assert "identical" in told.output.splitlines()[0]
    told = CliRunner().invoke(main, ["replay", str(day), "--app", "replayed_firm:OtherRationale", "--json"])
    # (Without a tape the order is not in the record, and what differs may come from there.)
    assert told.exit_code == (1 if day.stem == "replay" else 4)
    data = json.loads(told.stdout)
    assert data["differences"][0]["text"].startswith("slow published another signal on ES")
    told = CliRunner().invoke(main, ["replay", str(day), "--app", "replayed_firm:OtherRationale"])
    assert "1 differences" not in told.output
    assert "-> because" in told.output
