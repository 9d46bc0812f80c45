"""Every life of a journal is replayed, begins as it did, and says what of it was not compared."""

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from lived_firm import (
    Forgetful,
    LivedFirm,
    Unfolded,
    copied,
    leave_fills,
    live,
    redrive,
    until_settled,
)

from openoutcry import EventBus, decode
from openoutcry.cli import main
from openoutcry.errors import ConfigError, RecordTooThin
from openoutcry.journals import JournalReader, Recording, SqliteJournal
from openoutcry.replay import Replayed, replay
from openoutcry.replay.day import read_day
from openoutcry.replay.engine import replay_here
from openoutcry.testing import NotAsRecorded, same_as_recorded

HERE = str(Path(__file__).parent)


def said_by(path: Path, agent: str) -> list[str]:
    with JournalReader(path) as reader:
        events = [decode(entry.payload) for entry in reader.read(0, 100_000)]
    return [event.rationale for event in events if getattr(event, "source_agent", "") == agent]


def again(path: Path, life: int, app: Any = LivedFirm) -> Replayed:
    return replay_here(read_day(path, number=life), app, app.__name__)


@pytest.fixture(scope="module")
def months(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A journal with three lives: the second has what the first left, and redrives its letter."""
    path = tmp_path_factory.mktemp("lives") / "firm.db"
    asyncio.run(live(path, 1, leave_fills, stop_s=0.0))
    asyncio.run(live(path, 2, redrive))
    asyncio.run(live(path, 3, until_settled))
    return path


@pytest.fixture(scope="module")
def crashed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A journal whose first life ends without a stop, a moment after its tape."""
    folder = tmp_path_factory.mktemp("crash")
    path = folder / "firm.db"

    async def die(bus: EventBus) -> None:
        await leave_fills(bus)
        copied(folder / "alive.db", path)

    asyncio.run(live(folder / "alive.db", 1, die, stop_s=0.0))
    asyncio.run(live(path, 2, until_settled))
    return path


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [HERE, *sys.path])


@pytest.mark.parametrize("life", [1, 2, 3])
def test_each_life_begins_as_it_did(months: Path, life: int) -> None:
    found = again(months, life)
    assert found.differences == ()
    assert found.replayed == found.recorded
    assert (found.lives[0].number, found.lives[0].ended, found.lives_count) == (life, "stopped", 3)
    assert found.lives[0].skipped == ""


def test_what_agents_remember_was_tried(months: Path) -> None:
    assert said_by(months, "folds")[-1].startswith(f"folds: {len(said_by(months, 'folds'))} orders")
    assert said_by(months, "saves")[-1].startswith("saves: 18 orders up to o-304")
    assert said_by(months, "counts")[-1].startswith("counts: 5 orders up to o-304")
    assert [text.endswith("['limit']") for text in said_by(months, "counts")] == [False] * 5 + [True] * 13


def test_a_difference_is_told_with_its_life_and_does_not_go_on_into_the_next(
    months: Path, here: None
) -> None:
    found = replay(months, Forgetful)
    (only,) = found.differences
    assert (only.kind, only.agent, only.life) == ("content", "saves", 2)
    assert [life.identical for life in found.lives] == [True, False, True]
    assert [life.differences_count for life in found.lives] == [0, 1, 0]
    assert found.recorded.what != found.replayed.what


def test_who_does_not_get_its_memory_back_is_found(months: Path) -> None:
    assert again(months, 1, Unfolded).identical
    assert {one.agent for one in again(months, 2, Unfolded).differences} == {"folds"}


def test_what_was_unsettled_is_handed_out_again(months: Path) -> None:
    day = read_day(months, number=2)
    assert len(day.life.owed["slow", "high"]) == 2
    assert len(day.steps["slow"]) == 3
    assert [step.is_redriven for step in day.steps["slow"]].count(True) == 1


@pytest.mark.parametrize("life", [1, 2])
def test_lives_around_a_crash_are_as_they_were(crashed: Path, life: int) -> None:
    found = again(crashed, life)
    assert found.identical
    assert found.is_complete
    assert found.lives[0].ended == ("died" if life == 1 else "stopped")


def test_what_died_with_the_process_is_named(crashed: Path) -> None:
    day = read_day(crashed)
    assert "the process died: the tape goes up to" in day.gap
    assert day.gap_is_end


def test_one_life_and_a_stretch_of_another(months: Path, here: None) -> None:
    whole = replay(months)
    assert whole.identical
    assert [life.number for life in whole.lives] == [1, 2, 3]
    second = replay(months, life=2)
    assert second.lives == whole.lives[1:2]
    day = read_day(months, number=2)
    middle_ns = day.started_wall_ns + day.entries[len(day.entries) // 2].at_ns
    rest = replay(months, from_ns=middle_ns)
    assert rest.identical
    assert [life.number for life in rest.lives] == [2, 3]
    assert 0 < rest.lives[0].entries_count < whole.lives[1].entries_count
    start = replay(months, to_ns=middle_ns)
    assert start.identical
    assert start.lives[1].entries_count + rest.lives[0].entries_count == whole.lives[1].entries_count


def test_a_difference_before_the_stretch_is_none(months: Path, here: None) -> None:
    third_ns = read_day(months, number=3).started_wall_ns
    assert replay(months, Forgetful, from_ns=third_ns).identical
    assert not replay(months, Forgetful, to_ns=third_ns).identical


def test_a_life_that_there_is_not(months: Path, here: None) -> None:
    with pytest.raises(ConfigError, match="has lives 1 to 3"):
        replay(months, life=4)


def test_lives_are_kept_in_one_journal(months: Path, here: None, tmp_path: Path) -> None:
    into = tmp_path / "again.db"
    assert replay(months, into=into).into == str(into)
    with Recording(into) as recording:
        assert len(recording.runs) == 3
    assert said_by(into, "folds") == said_by(months, "folds")


def test_a_change_holds_in_each_life(months: Path, here: None) -> None:
    found = replay(months, without=["trader"])
    assert found.effects is not None
    assert found.effects.change == "--without trader"
    assert [life.effects is not None for life in found.lives] == [True] * 3
    assert any("does not go on into it" in limit for limit in found.limits)


def test_without_an_identical_control_there_are_no_effects(months: Path, here: None) -> None:
    found = replay(months, Forgetful, without=["counts"])
    assert found.effects is None
    assert [one.life for one in found.differences] == [2]


def test_what_was_retired_is_no_life_and_the_rest_is_replayed(
    months: Path, here: None, tmp_path: Path
) -> None:
    path = tmp_path / "firm.db"
    with JournalReader(months) as reader:
        path.touch()
        reader.copy_into(path, lambda *_: None)
    third = read_day(months, number=3).life.base
    with SqliteJournal(path) as journal:
        while journal.retire(keep_count=journal.head - third + 2, past_memory=("folds",), past_cursors=True):
            pass
        assert 1 < journal.first <= third + 1
    with pytest.raises(RecordTooThin, match="folds remembered what came from position"):
        replay(path)


def early(path: Path, here_s: float, work: Callable[[EventBus], Any]) -> None:
    """Live once, and leave the journal as it is before anything of the tape was written."""
    whole = path.with_name("whole.db")

    async def die(bus: EventBus) -> None:
        await work(bus)
        copied(whole, path)

    asyncio.run(live(whole, 1, die, stop_s=here_s))


def test_a_life_of_which_nothing_is_on_tape_is_named_and_the_next_replayed(
    here: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "firm.db"
    monkeypatch.setattr("openoutcry.runtime.durability.taping.TapeWriter.has_any", False)
    early(path, 0.0, until_settled)
    monkeypatch.undo()
    monkeypatch.setattr(sys, "path", [HERE, *sys.path])
    with pytest.raises(RecordTooThin, match="the process died, or the run goes on; nothing of the"):
        replay(path)
    asyncio.run(live(path, 2, until_settled))
    found = replay(path)
    assert found.identical
    assert not found.is_complete
    assert [life.is_complete for life in found.lives] == [False, True]
    assert found.lives[0].skipped_count > 5
    told = CliRunner().invoke(main, ["replay", str(path)])
    assert told.exit_code == 4
    assert "life 1 was not replayed: " in told.output
    with pytest.raises(RecordTooThin, match="some were not compared"):
        same_as_recorded(path)
    assert same_as_recorded(path, allow_gaps=True) == found


def test_a_test_says_nothing_of_what_was_not_compared(crashed: Path, here: None) -> None:
    with pytest.raises(RecordTooThin, match=r"some were not compared.* life 1: the process died"):
        same_as_recorded(crashed)
    assert same_as_recorded(crashed, allow_gaps=True).identical
    assert same_as_recorded(crashed, life=2).skipped_count == 0
    with pytest.raises(NotAsRecorded):
        same_as_recorded(crashed, Forgetful, allow_gaps=True)


def test_the_command_tells_of_each_life(crashed: Path, here: None) -> None:
    told = CliRunner().invoke(main, ["replay", str(crashed)])
    assert (told.exit_code, told.exception) == (0, None)
    first, *rest = told.output.splitlines()
    assert first.startswith("replayed 2 lives, ")
    assert "life 1, " in rest[1]
    assert "its process died" in rest[1]
    assert "Not known: life 1: the process died" in told.output
    told = CliRunner().invoke(main, ["replay", str(crashed), "--life", "2", "--json"])
    assert [life["number"] for life in json.loads(told.stdout)["lives"]] == [2]
    assert CliRunner().invoke(main, ["replay", str(crashed), "--life", "9"]).exit_code == 2


def test_what_a_life_began_with_is_on_record(months: Path) -> None:
    with Recording(months) as recording:
        first, second, third = recording.runs
    assert first.memories == []
    assert {(one.subscription, one.form) for one in second.memories} == {("folds", "none"), ("saves", "json")}
    assert all(one.is_whole for one in third.memories)
    assert [halt["reason"] for halt in second.manifest.halts.values()] == ["limit"]
    assert first.manifest.halts == {}
