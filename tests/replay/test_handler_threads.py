"""Handlers with `blocking=True` in a replay and a backtest: in threads, one after the other, as long as then."""

import sys
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path

import pytest
from threaded_firm import Doubles, Hangs, Slow, Threaded, WritesInThread, record_threads

from openoutcry import EventBus
from openoutcry.events import decode
from openoutcry.journals import JournalReader, Recording
from openoutcry.replay import backtest, replay
from openoutcry.replay.day import read_day
from openoutcry.replay.engine import replay_here

HERE = str(Path(__file__).parent)


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [HERE, *sys.path])


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("threads") / "day.db"
    record_threads(path)
    return path


def test_handlers_in_threads_do_the_same_in_the_same_order_each_time(day: Path) -> None:
    found = [replay(day) for _ in range(3)]
    assert [one.differences for one in found] == [(), (), ()]
    assert found[0].replayed == found[1].replayed == found[2].replayed == found[0].recorded
    assert found[0].replayed.events_count > 80
    assert found[0].limits == ()


def test_a_change_in_a_thread_is_one_difference_with_a_name(day: Path) -> None:
    (only,) = replay(day, Doubles).differences
    assert (only.kind, only.agent, only.fields[0].name) == ("content", "second", "quantity")


def test_nothing_goes_out_of_a_thread_and_the_agent_is_named(day: Path) -> None:
    first = replay(day, WritesInThread).first_differences()[0]
    assert (first.kind, first.agent) == ("raised", "second")
    assert "EffectDenied: second was about to write a file" in first.said
    assert not Path("/tmp/openoutcry-must-not-be-either").exists()


def test_a_call_in_a_thread_takes_as_long_as_on_the_day(day: Path) -> None:
    seen = []

    async def watched(bus: EventBus) -> AsyncIterator[None]:
        await Threaded().setup(bus)
        seen.append(bus)
        yield

    assert replay_here(read_day(day), watched, "watched").identical
    now = seen[0].subscription("second").durations
    with Recording(day) as recording:
        then_ns = [(one.ended_ns or 0) - one.begun_ns for one in recording.runs[0].calls("second")]
    assert now.count == len(then_ns) == 20
    assert now.largest_ns == pytest.approx(max(then_ns), rel=0.01)
    assert now.largest_ns > 4_000_000


def test_a_call_in_a_thread_that_was_abandoned_is_abandoned_again(tmp_path: Path) -> None:
    record_threads(tmp_path / "day.db", Hangs)
    found = [replay(tmp_path / "day.db") for _ in range(2)]
    assert found[0].differences == ()
    assert found[0] == found[1]
    with Recording(tmp_path / "day.db") as recording:
        assert [one.end for one in recording.runs[0].calls("second")].count("buried") == 1


def test_who_thinks_in_a_thread_thinks_in_the_time_of_the_market(tmp_path: Path) -> None:
    rows = "".join(f"2026-03-02T14:30:{second:02d}Z,ES,{second}\n" for second in range(0, 30, 5))
    (tmp_path / "ticks.csv").write_text(f"time,symbol,price\n{rows}")
    found = [backtest(tmp_path / "ticks.csv", Slow, into=tmp_path / f"{name}.db") for name in ("a", "b")]
    assert found[0].is_sound
    assert found[0].published == found[1].published
    made = list(orders(tmp_path / "a.db"))
    assert len(made) == 18
    assert {at.second % 5 for at in made} == {2}
    assert replay(tmp_path / "a.db").identical


def orders(path: Path) -> list[datetime]:
    with JournalReader(path) as journal:
        events = [decode(entry.payload) for entry in journal.read(0, journal.head)]
    return [event.timestamp for event in events if event.event_type == "order"]
