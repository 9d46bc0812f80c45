"""Who names the bus's own records is handed them in a replay too: those of the day, or what a change made."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from listening_firm import Talkative, record_listening

from openoutcry.events import decode
from openoutcry.journals import JournalReader
from openoutcry.replay import replay

HERE = str(Path(__file__).parent)


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [HERE, *sys.path])


@pytest.fixture(scope="module", params=["replay", "rounds"])
def day(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("records") / f"{request.param}.db"
    record_listening(path, how=request.param)
    return path


def events_in(path: Path) -> Iterator[Any]:
    with JournalReader(path) as journal:
        yield from (decode(entry.payload) for entry in journal.read(0, journal.head))


def told_in(path: Path) -> list[str]:
    return [event.message for event in events_in(path) if event.event_type == "risk_alert"]


def test_records_are_handed_out_as_on_the_day(day: Path, tmp_path: Path) -> None:
    found = replay(day, "listening_firm:Listening", into=tmp_path / "again.db")
    assert found.differences == ()
    assert found.recorded == found.replayed
    assert len(told_in(day)) > 20
    assert sorted(told_in(tmp_path / "again.db")) == sorted(told_in(day))


def test_what_is_said_of_a_record_is_compared(day: Path) -> None:
    found = replay(day, Talkative).differences
    assert {(one.kind, one.agent, one.round_id) for one in found} == {("content", "auditor", "ES-7")}


def test_in_a_what_if_the_records_are_of_what_happens_there(day: Path, tmp_path: Path) -> None:
    found = replay(day, "listening_firm:Listening", without=["carry"], into=tmp_path / "if.db")
    assert found.effects is not None
    assert set(found.effects.touched) == {"auditor", "chief"}
    told = told_in(tmp_path / "if.db")
    assert [one for one in told if "carry" in one] == []
    rounds = [one for one in told if one.startswith("ES-")]
    assert len(rounds) == len(set(rounds)) == 12
    assert "ES-5 had ['trend', 'value']" in rounds


def test_a_change_that_leaves_rounds_as_they_were_leaves_their_records(day: Path) -> None:
    found = replay(day, "listening_firm:Listening", delay={"value": 1e-9})
    assert found.effects is not None
    assert found.effects.touched == ()
    assert found.replayed == found.recorded
