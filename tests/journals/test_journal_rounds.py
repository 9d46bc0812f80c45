"""Reading recorded rounds: from the end, no further than is asked, of a journal that is written or of a dead one."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from openoutcry.errors import ConfigError, InvalidEvent, NotAJournal
from openoutcry.events import Event, RoundLate, RoundOpened, RoundReleased, RunStarted, StoodIn, Vote, encode
from openoutcry.journals import JournalReader, SqliteJournal, recorded_rounds
from openoutcry.journals.rounds import CLOCK_SLACK_NS, DIED, OPEN
from openoutcry.ports import Entry, Header
from openoutcry.trading import SignalEvent

S = 1_000_000_000
NOON_NS = 1_764_000_000 * S
ROSTER = ("a", "b", "c")


class Firm:
    """A journal into which rounds are written as a bus writes them; a second passes from entry to entry."""

    def __init__(self, path: Path, key: bytes | None = None) -> None:
        self.path = path
        self.journal = SqliteJournal(path, key=key)
        self.now_ns = NOON_NS

    def write(self, *events: Event) -> None:
        self.now_ns += S
        self.journal.write([Entry(one.event_id, encode(one), wall_ns=self.now_ns) for one in events])

    def opened(self, round_id: str, ordinal: int = 1, **fields: Any) -> RoundOpened:
        part = "" if ordinal == 1 else f":{ordinal}"
        terms: dict[str, Any] = {"roster": ROSTER, "critical": ("a",), "quorum_count": 2}
        return RoundOpened(
            event_id=f"round:{round_id}{part}:opened",
            timestamp=self.now_ns + S,
            round_id=round_id,
            ordinal=ordinal,
            signal_timeout_ns=S,
            barrier_timeout_ns=2 * S,
            **{**terms, **fields},
        )

    def released(self, round_id: str, ordinal: int = 1, **fields: Any) -> RoundReleased:
        part = "" if ordinal == 1 else f":{ordinal}"
        said: dict[str, Any] = {
            "status": "quorate",
            "valid": True,
            "reason": "enough",
            "opened_wall_ns": self.now_ns,
            "took_ns": S,
            "noticed_ns": S,
            "roster": ROSTER,
            "critical": ("a",),
            "quorum_count": 2,
        }
        return RoundReleased(
            event_id=f"round:{round_id}{part}",
            round_id=round_id,
            ordinal=ordinal,
            signal_timeout_ns=S,
            barrier_timeout_ns=2 * S,
            **{**said, **fields},
        )

    def late(self, round_id: str, agent: str, number: int = 1, **fields: Any) -> RoundLate:
        return RoundLate(
            event_id=f"round:{round_id}:late:{agent}:{number}",
            round_id=round_id,
            agent=agent,
            number=number,
            late_ns=S // 2,
            **fields,
        )

    def rounds(self, count: int, **fields: Any) -> None:
        for number in range(count):
            opened_ns = self.now_ns + S
            said = signal("a", f"r-{number}")
            votes = (Vote("a", "ES", said.event_id, 5),)
            self.write(self.opened(f"r-{number}"), said)
            self.write(
                self.released(
                    f"r-{number}", opened_wall_ns=opened_ns, votes=votes, missing=("b", "c"), **fields
                )
            )

    def close(self) -> None:
        self.journal.close()


@pytest.fixture
def firm(tmp_path: Path):
    made = Firm(tmp_path / "firm.db")
    yield made
    made.close()


def signal(agent: str, round_id: str | None, symbol: str = "ES", **fields: Any) -> SignalEvent:
    return SignalEvent(
        source_agent=agent,
        strategy_name=agent,
        symbol=symbol,
        direction="long",
        strength=0.5,
        round_id=round_id,
        **fields,
    )


def a_start(**fields: Any) -> RunStarted:
    return RunStarted(version="1", python="3", process_id=1, host="h", **fields)


def test_a_round_has_a_cell_for_each_agent_of_its_roster(firm: Firm) -> None:
    first, again, late = signal("a", "r"), signal("a", "r", "NQ"), signal("c", "r")
    firm.write(firm.opened("r", opened_by="cio", symbol="ES"), first)
    firm.write(again)
    firm.write(
        firm.released(
            "r",
            opened_by="cio",
            symbol="ES",
            roster=("a", "b", "c", "d", "e"),
            votes=(Vote("a", "ES", first.event_id, 7), Vote("a", "NQ", again.event_id, 9)),
            abstained={"b": "no data"},
            missing=("c", "d", "e"),
            heartbeats={"d": 3},
            stand_ins=(StoodIn("e", "ES", "old", 4, "q"),),
            strangers={"x": 2},
        )
    )
    firm.write(late, firm.late("r", "c", signal_id=late.event_id, symbol="ES"))
    (found,) = recorded_rounds(firm.path)
    assert (found.opened_by, found.symbol, found.status, found.valid) == ("cio", "ES", "quorate", True)
    assert {cell.agent: cell.how for cell in found.cells} == {
        "a": "voted",
        "b": "abstained",
        "c": "late",
        "d": "missing",
        "e": "stood in",
    }
    a, b, c, d, e = found.cells
    assert [(v.symbol, v.after_ns, v.direction, v.strength) for v in a.votes] == [
        ("ES", 7, "long", 0.5),
        ("NQ", 9, "long", 0.5),
    ]
    assert a.is_critical
    assert b.reason == "no data"
    assert (c.late_ns, c.late[0].direction, c.late[0].after_ns) == (S // 2, "long", S + S // 2)
    assert d.heartbeat_ns == 3
    assert e.stood_in == (StoodIn("e", "ES", "old", 4, "q"),)
    assert found.strangers == ("x",)
    told = found.explain()
    for part in (
        "by cio",
        "2 of 5 agents answered",
        "a (long NQ +0.50",
        "b (no data)",
        "c (by 500 ms",
        "round q",
    ):
        assert part in told
    plain = found.to_dict()
    assert plain["explanation"] == told
    assert plain["cells"][4]["stood_in"][0]["age_ns"] == 4
    assert msgspec.json.encode(plain)


def test_a_signal_that_is_not_in_the_journal_leaves_its_opinion_unknown(firm: Firm) -> None:
    firm.write(firm.released("r", votes=(Vote("a", "ES", "gone", 7),)))
    (vote,) = recorded_rounds(firm.path)[0].cells[0].votes
    assert (vote.signal_id, vote.after_ns, vote.direction) == ("gone", 7, None)
    assert "signal not in the journal" in recorded_rounds(firm.path)[0].explain()


def test_signals_of_users_own_classes_are_read_by_their_fields(firm: Firm) -> None:
    payload = b'{"event_class":"Mine","event_id":"m-1","event_type":"mine","symbol":5,"direction":"short"}'
    header = Header(event_id="m-1", event_type="mine", source_agent="b", round_id="r")
    firm.write(firm.opened("r"))
    firm.journal.write([Entry("m-1", payload, header=header, wall_ns=firm.now_ns)])
    firm.write(firm.released("r", votes=(Vote("b", "5", "m-1", 7),)))
    (found,) = recorded_rounds(firm.path)
    assert found.cell("b").votes[0].direction == "short"


def test_a_round_of_a_dead_process_has_died_and_one_of_a_process_at_work_is_open(firm: Firm) -> None:
    firm.write(a_start())
    firm.write(firm.opened("r"), signal("b", "r"))
    firm.write(signal("a", "r"))
    (found,) = recorded_rounds(firm.path)
    assert (found.status, found.valid, found.took_ns) == (OPEN, None, None)
    assert {cell.agent: cell.how for cell in found.cells} == {"a": "voted", "b": "voted", "c": "missing"}
    firm.write(a_start())
    (found,) = recorded_rounds(firm.path)
    assert (found.status, found.reason) == (DIED, "not ended when the process died")
    firm.close()
    assert recorded_rounds(firm.path)[0].status == DIED


def test_without_a_later_start_a_round_has_died_once_nobody_has_the_journal(firm: Firm) -> None:
    firm.write(firm.opened("r"))
    firm.close()
    assert [found.status for found in recorded_rounds(firm.path)] == [DIED]


def test_the_signals_before_a_round_of_the_same_id_are_not_those_of_the_next(firm: Firm) -> None:
    first, second = signal("a", "r"), signal("b", "r")
    firm.write(firm.opened("r"), first)
    firm.write(firm.released("r", votes=(Vote("a", "ES", first.event_id, 1),)))
    firm.write(a_start())
    firm.write(second, firm.opened("r", ordinal=2))
    newer, older = recorded_rounds(firm.path)
    assert (newer.ordinal, older.ordinal) == (2, 1)
    assert {cell.agent: cell.how for cell in newer.cells} == {"a": "missing", "b": "voted", "c": "missing"}
    assert older.cell("a").votes[0].direction == "long"


def test_a_round_that_died_keeps_its_votes_where_the_next_of_its_id_has_one_record(firm: Firm) -> None:
    before, after, later = signal("a", "r"), signal("b", "r"), signal("c", "r")
    firm.write(before, firm.opened("r"))
    firm.write(after)
    firm.now_ns += S
    firm.write(later, a_start(timestamp=firm.now_ns))
    firm.write(firm.released("r", ordinal=2, votes=(Vote("c", "ES", later.event_id, 1),)))
    newer, older = recorded_rounds(firm.path)
    assert (newer.status, older.status) == ("quorate", DIED)
    assert {cell.agent: cell.how for cell in newer.cells} == {"a": "missing", "b": "missing", "c": "voted"}
    assert {cell.agent: cell.how for cell in older.cells} == {"a": "voted", "b": "voted", "c": "missing"}


def test_the_newest_come_first_and_no_more_than_asked_for(firm: Firm) -> None:
    firm.rounds(5)
    assert [found.round_id for found in recorded_rounds(firm.path, limit=2)] == ["r-4", "r-3"]
    assert all(found.cell("a").votes[0].direction == "long" for found in recorded_rounds(firm.path, limit=1))
    assert len(recorded_rounds(firm.path)) == 5


def test_rounds_are_found_by_time_agent_status_symbol_and_id(firm: Firm) -> None:
    firm.rounds(4)
    firm.write(firm.released("x", status="expired", valid=False, roster=("z",), symbol="NQ"))
    firm.write(firm.opened("y", roster=("z",), symbol="CL"))

    def ids(**given: Any) -> list[str]:
        return [found.round_id for found in recorded_rounds(firm.path, **given)]

    assert ids(agent="z") == ["y", "x"]
    assert ids(status="expired") == ["x"]
    assert ids(status="open") == ["y"]
    assert ids(symbol="ES", limit=2) == ["r-3", "r-2"]
    assert ids(symbol="NQ") == ["x"]
    assert ids(round_id="r-1") == ["r-1"]
    assert ids(since=NOON_NS + 5 * S, until=NOON_NS + 8 * S) == ["r-3", "r-2"]
    assert ids(until="2025-11-24T16:00:02+00:00") == ["r-0"]
    assert ids(agent="nobody") == []


def test_a_clock_that_was_set_back_hides_no_round(firm: Firm) -> None:
    firm.rounds(1)
    firm.now_ns -= CLOCK_SLACK_NS - 60 * S
    for number in range(3):
        firm.write(signal("a", None, event_id=f"s-{number}"))
    assert [found.round_id for found in recorded_rounds(firm.path, since=NOON_NS)] == ["r-0"]


def test_reading_stops_where_the_rounds_that_are_asked_for_begin(firm: Firm, monkeypatch) -> None:
    for _ in range(30):
        firm.write(*(signal("a", None) for _ in range(200)))
    firm.rounds(300)
    read: list[int] = []
    plain = JournalReader.read

    def counting(reader: JournalReader, after: int, limit: int, where: Any = None) -> Any:
        read.append(limit)
        return plain(reader, after, limit, where)

    monkeypatch.setattr(JournalReader, "read", counting)
    assert len(recorded_rounds(firm.path, limit=50)) == 50
    assert sum(read) <= 1_024


def test_a_sealed_journal_is_read_with_its_key_and_without(tmp_path: Path) -> None:
    key = b"k" * 32
    firm = Firm(tmp_path / "firm.db", key)
    firm.rounds(2)
    firm.close()
    for given in (key, None):
        assert [one.round_id for one in recorded_rounds(firm.path, key=given)] == ["r-1", "r-0"]


def test_a_journal_without_records_has_no_rounds(firm: Firm) -> None:
    firm.write(signal("a", "r"))
    assert recorded_rounds(firm.path) == []


def test_nothing_is_written_by_whoever_reads(firm: Firm) -> None:
    firm.rounds(3)
    firm.close()
    before = {path.name: path.read_bytes() for path in firm.path.parent.iterdir() if path.is_file()}
    recorded_rounds(firm.path)
    after = {path.name: path.read_bytes() for path in firm.path.parent.iterdir() if path.is_file()}
    assert {name: after[name] for name in before if not name.endswith("-shm")} == {
        name: data for name, data in before.items() if not name.endswith("-shm")
    }


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"limit": 0}, "limit is 0; it must be a whole number of at least 1"),
        ({"limit": True}, "limit is True"),
        ({"status": "late"}, "status is 'late'; it must be one of complete, quorate"),
    ],
)
def test_a_wrong_question_is_refused(firm: Firm, given: dict[str, Any], error: str) -> None:
    with pytest.raises(ConfigError, match=error):
        recorded_rounds(firm.path, **given)


def test_a_time_that_is_none_and_a_file_that_is_none_are_refused(firm: Firm, tmp_path: Path) -> None:
    with pytest.raises(InvalidEvent):
        recorded_rounds(firm.path, since="yesterday")
    with pytest.raises(NotAJournal):
        recorded_rounds(tmp_path / "no.db")
