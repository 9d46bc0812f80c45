"""A replay kept as a journal: what agents published now, in place of what they had published."""

import sys
from pathlib import Path
from typing import Any

import pytest
import replayed_firm
from click.testing import CliRunner

from openoutcry.cli import main
from openoutcry.errors import ConfigError
from openoutcry.journals import JournalReader, Lineage
from openoutcry.replay import Replayed, replay
from openoutcry.replay.day import made_in

HERE = str(Path(__file__).parent)


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("kept") / "day.db"
    replayed_firm.record(path)
    return path


@pytest.fixture(autouse=True)
def _apps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [HERE, *sys.path])


def events(path: Path) -> dict[str, tuple[bytes, int]]:
    """Return what came from agents and from outside, by id; what the bus itself notes is left out."""
    with JournalReader(path) as reader:
        found = reader.read(0, reader.head)
        assert reader.verify().intact
    known = [(entry.head(), entry) for entry in found]
    return {
        str(head.event_id): (entry.payload, entry.wall_ns)
        for head, entry in known
        if head.event_type in ("market_data", "signal", "decision", "order", "fill")
    }


def kept(day: Path, into: Path, app: Any = None, **how: Any) -> Replayed:
    found = replay(day, app, into=into, **how)
    assert found.into == str(into)
    return found


def test_an_identical_replay_has_the_events_of_the_day(day: Path, tmp_path: Path) -> None:
    found = kept(day, tmp_path / "again.db")
    assert found.identical
    before, now = events(day), events(tmp_path / "again.db")
    assert before.keys() == now.keys()
    assert {name for name in before if before[name][0] != now[name][0]} == set()
    assert max(abs(before[name][1] - now[name][1]) for name in before) < 1_000_000_000


def test_a_check_has_what_agents_published_now(day: Path, tmp_path: Path) -> None:
    for number, (app, missing, new) in enumerate(
        [(replayed_firm.OtherRationale, 0, 0), (replayed_firm.Silent, 1, 0), (replayed_firm.Talkative, 0, 1)]
    ):
        into = tmp_path / f"{number}.db"
        found = kept(day, into, app)
        assert not found.identical
        before, now = events(day), events(into)
        assert (len(before.keys() - now.keys()), len(now.keys() - before.keys())) == (missing, new)
        changed = [name for name in before.keys() & now.keys() if before[name][0] != now[name][0]]
        assert len(changed) == (app is replayed_firm.OtherRationale)


def test_a_what_if_has_what_would_have_been(day: Path, tmp_path: Path) -> None:
    found = kept(day, tmp_path / "without.db", without=["execution"])
    assert found.effects is not None
    before, now = events(day), events(tmp_path / "without.db")
    assert not [name for name in now if name.startswith("fill-")]
    assert 0 < len(now) < len(before)
    with Lineage(tmp_path / "without.db") as lineage:
        signal = next(event for event in made_in(day) if event.event_type == "signal")
        found_why = lineage.explain(signal.event_id)
    assert [step.event_type for step in found_why.chain] == ["market_data", "signal"]
    assert found_why.rounds


def test_no_file_is_written_over_and_none_is_left_of_what_failed(day: Path, tmp_path: Path) -> None:
    into = tmp_path / "there.db"
    into.write_text("mine", encoding="utf-8")
    for path in (into, day):
        with pytest.raises(ConfigError, match="there is such a file"):
            replay(day, into=path)
    assert into.read_text(encoding="utf-8") == "mine"
    with pytest.raises(ConfigError, match="no folder"):
        replay(day, into=tmp_path / "nowhere" / "again.db")
    found = replay(day, replayed_firm.OtherRationale, without=["quick"], into=tmp_path / "none.db")
    assert (found.identical, found.into) == (False, None)
    assert not (tmp_path / "none.db").exists()


def test_the_command_says_how_to_compare(day: Path, tmp_path: Path) -> None:
    into = tmp_path / "again.db"
    told = CliRunner().invoke(main, ["replay", str(day), "--into", str(into)])
    assert (told.exit_code, told.exception) == (0, None)
    assert f"openoutcry page {day} --compare {into}" in told.output
    told = CliRunner().invoke(main, ["replay", str(day), "--into", str(into)])
    assert told.exit_code == 2
    assert "there is such a file" in told.output
