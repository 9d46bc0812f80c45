"""Who names the bus's own records is handed them in a replay too: those of the day, or what a change made."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from deadline_firm import AGENTS, APP, Deadlines, SteppedClock, record_deadlines
from listening_firm import Talkative, record_listening

from openoutcry.events import decode
from openoutcry.journals import JournalReader
from openoutcry.replay import Replayed, replay
from openoutcry.replay.change import change_of
from openoutcry.replay.day import Day, read_day
from openoutcry.replay.engine import control_here, replay_here, what_if_here

HERE = str(Path(__file__).parent)
CLOCKS = {"even": (1,), "slow": (5,), "uneven": (1, 40, 3), "jumping": (90, 1)}
FIRMS: dict[str, dict[str, Any]] = {
    "a deadline ends them": {"quorum": 0.2},
    "a quorum ends them": {"quorum": 0.6},
    "all answers end them": {"quorum": 1.0},
    "they expire": {"quorum": 0.9, "barrier_timeout_s": 0.0011},
}
MS_NS = 1_000_000


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


def firm_of(given: dict[str, Any]) -> Any:
    """Return the app of a day at the edge of its deadlines."""
    return Deadlines(**given).setup


def unchanged(
    path: Path, given: dict[str, Any], agent: str, alter: Any = lambda day: day, **how: Any
) -> Replayed:
    """Return a what-if in which an agent is later by so little that nothing is otherwise."""
    control, known = control_here(alter(read_day(path)), firm_of(given), APP)
    assert control.differences == ()
    change = change_of(delay_s={agent: 1e-9})
    found = what_if_here(
        alter(read_day(path)), firm_of(given), APP, change, control=control, known=known, **how
    )
    assert found.effects is not None
    return found


def assert_nothing_follows(found: Replayed) -> None:
    assert found.effects is not None
    assert (found.effects.touched, found.effects.rounds_changed) == ((), 0)
    assert found.replayed == found.recorded


def late_in(path: Path) -> list[tuple[Any, ...]]:
    """Return who was late in which round, with what, and by how much."""
    late = (event for event in events_in(path) if event.event_type == "round_late")
    return sorted((one.round_id, one.agent, one.signal_id or one.reason, one.late_ns) for one in late)


def heard_in(path: Path) -> dict[str, Any]:
    """Return what each round had when it ended."""
    ended = (event for event in events_in(path) if event.event_type == "round_released")
    return {
        one.round_id: (one.status, one.valid, one.took_ns, set(one.votes), one.missing, one.abstained)
        for one in ended
    }


@pytest.mark.parametrize("how", ["replay", "rounds"])
@pytest.mark.parametrize("clock", CLOCKS)
@pytest.mark.parametrize("ends", FIRMS)
def test_what_came_at_the_edge_of_a_deadline_counts_in_a_what_if_as_it_did(
    ends: str, clock: str, how: str, tmp_path: Path
) -> None:
    path = tmp_path / "day.db"
    record_deadlines(path, Deadlines(**FIRMS[ends]), SteppedClock(*CLOCKS[clock]), how=how)
    assert late_in(path)
    for agent in AGENTS:
        assert_nothing_follows(unchanged(path, FIRMS[ends], agent))


@pytest.mark.parametrize("clock", CLOCKS)
def test_who_was_late_is_noted_once_and_by_as_much(clock: str, tmp_path: Path) -> None:
    path, given = tmp_path / "day.db", FIRMS["a deadline ends them"]
    record_deadlines(path, Deadlines(**given), SteppedClock(*CLOCKS[clock]))
    found = replay_here(read_day(path), firm_of(given), APP, into=tmp_path / "again.db")
    assert found.differences == ()
    unchanged(path, given, "trend", into=tmp_path / "if.db")
    for again in ("again.db", "if.db"):
        assert late_in(tmp_path / again) == late_in(path)
        assert heard_in(tmp_path / again) == heard_in(path)


def rounds_open_later(by_ns: int) -> Any:
    """Return what has the rounds of a day open later than they did: their times are those of another clock."""

    def alter(day: Day) -> Day:
        for known in day.rounds.values():
            for one in known:
                one.at_ns = max(0, one.at_ns + by_ns)
        return day

    return alter


@pytest.mark.parametrize("by_ns", [MS_NS // 10, MS_NS, 5 * MS_NS])
def test_a_round_waits_for_votes_that_it_had_heard(by_ns: int, tmp_path: Path) -> None:
    path, given = tmp_path / "day.db", FIRMS["a deadline ends them"]
    record_deadlines(path, Deadlines(**given), SteppedClock(3))
    for agent in ("trend", "macro"):
        assert_nothing_follows(unchanged(path, given, agent, rounds_open_later(-by_ns)))


def test_who_waits_for_a_round_without_a_tape_knows_it(tmp_path: Path) -> None:
    path, given = tmp_path / "day.db", FIRMS["a deadline ends them"]
    record_deadlines(path, Deadlines(**given), SteppedClock(3), how="rounds")
    day = rounds_open_later(MS_NS // 10)(read_day(path))
    assert replay_here(day, firm_of(given), APP).differences == ()


def test_votes_count_that_are_handed_out_before_their_round_is_open(tmp_path: Path) -> None:
    path = tmp_path / "day.db"
    given: dict[str, Any] = {"quorum": 0.2, "has_chief": False}
    record_deadlines(path, Deadlines(**given), SteppedClock(3))
    for agent in ("trend", "macro"):
        assert_nothing_follows(unchanged(path, given, agent, rounds_open_later(7 * MS_NS // 10)))


def test_a_silent_agent_is_not_waited_for(tmp_path: Path) -> None:
    path, given = tmp_path / "day.db", FIRMS["a deadline ends them"]
    record_deadlines(path, Deadlines(**given), SteppedClock(3))
    control, known = control_here(read_day(path), firm_of(given), APP)
    change = change_of(silence=["trend"])
    what_if_here(
        read_day(path), firm_of(given), APP, change, control=control, known=known, into=tmp_path / "if.db"
    )
    for round_id, now in heard_in(tmp_path / "if.db").items():
        then = heard_in(path)[round_id]
        assert now[3] == {vote for vote in then[3] if vote.agent != "trend"}
        assert "trend" in now[4]
        assert now[2] == then[2] or then[0] == "complete"
