"""Compare: which journals may be named, how decisions are paired, what is bounded, and what is refused."""

import os
from pathlib import Path
from typing import Any

import pytest
from compare_kit import HOSTILE, LONG, START_NS, decision, many, the_day, ticks, two_days, written
from page_kit import LOOK, Client, served

from openoutcry.dashboard import comparing
from openoutcry.dashboard.differences import paired, said_of
from openoutcry.errors import JournalError
from openoutcry.events import encode
from openoutcry.journals import SqliteJournal
from openoutcry.ports import Entry, Level, Stored


def asked(client: Client, query: str = "") -> dict[str, Any]:
    """Ask until both journals were read."""
    while True:
        answer = client.get(f"/api/compare{query}")
        assert answer.status == 200, answer.error
        if answer.json["complete"]:
            return answer.json


@pytest.fixture
def days(tmp_path: Path) -> tuple[Path, Path]:
    return two_days(tmp_path)


def test_only_what_differs_is_listed_and_counted_by_its_kind(days: tuple[Path, Path], tmp_path: Path) -> None:
    with served(days[0], tmp_path, compare=[days[1]]) as client:
        found = asked(client.log_in(LOOK))
    assert found["counts"] == {"same": 1, "size": 2, "side": 1, "gone": 1, "new": 1, "other": 1}
    assert [
        (row["kind"], row["a"] and row["a"]["said"], row["b"] and row["b"]["said"]) for row in found["rows"]
    ] == [
        ("size", "buy 100", "buy 60"),
        ("side", "buy 100", "sell 100"),
        ("gone", "buy 100", None),
        ("new", None, "buy 100"),
        ("size", "buy 100", "buy 70"),
        ("other", "buy 100", "buy 100"),
    ]
    assert found["rows"][0]["fields"] == [
        ["quantity", "100", "60"],
        ["conviction_score", "0.4", "0.3"],
        ["contributing_signals", "s-1, 1 in both", "1 in both"],
    ]
    assert (found["total"], found["next"], found["notes"]) == (6, None, [])
    assert (found["a"]["name"], found["a"]["own"], found["b"]["own"]) == ("day.db", True, False)


def test_a_decision_of_another_cause_is_paired_by_its_round_and_agent(
    days: tuple[Path, Path], tmp_path: Path
) -> None:
    with served(days[0], tmp_path, compare=[days[1]]) as client:
        found = asked(client.log_in(LOOK), "?kind=size")
    row = found["rows"][1]
    assert (row["round"], row["id"], row["fields"]) == ("AAPL@5", "d-5", [["quantity", "100", "70"]])


def test_the_later_steps_are_compared_as_well(days: tuple[Path, Path], tmp_path: Path) -> None:
    with served(days[0], tmp_path, compare=[days[1]]) as client:
        client.log_in(LOOK)
        (fill,) = asked(client, "?type=fill")["rows"]
        (validated,) = asked(client, "?type=validated_decision")["rows"]
        assert asked(client, "?type=order")["rows"] == []
    assert (fill["kind"], fill["a"]["said"], fill["b"]["said"]) == ("other", "buy 9 at 2", "buy 9 at 3")
    assert (validated["a"]["said"], validated["b"]["said"]) == ("90", "rejected: too much")


def test_differences_are_filtered_by_agent_symbol_and_kind(days: tuple[Path, Path], tmp_path: Path) -> None:
    with served(days[0], tmp_path, compare=[days[1]]) as client:
        client.log_in(LOOK)
        found = asked(client, "?symbol=MSFT")
        assert [row["kind"] for row in found["rows"]] == ["size", "gone"]
        assert sum(found["counts"].values()) == 2
        assert {"AAPL", "MSFT"} < set(found["symbols"])
        assert asked(client, "?agent=nobody")["rows"] == []
        found = asked(client, "?symbol=MSFT&kind=gone")
        assert ([row["kind"] for row in found["rows"]], found["counts"]["size"]) == (["gone"], 1)


def test_the_two_may_be_turned_round(days: tuple[Path, Path], tmp_path: Path) -> None:
    with served(days[0], tmp_path, compare=[days[1]]) as client:
        found = asked(client.log_in(LOOK), "?a=again.db&b=day.db")
    assert found["counts"] == {"same": 1, "size": 2, "side": 1, "gone": 1, "new": 1, "other": 1}
    assert (found["rows"][0]["a"]["said"], found["rows"][0]["b"]["said"]) == ("buy 60", "buy 100")


@pytest.mark.parametrize(
    "name",
    [
        "../secret.db",
        "%2e%2e%2fsecret.db",
        "{folder}/secret.db",
        "{folder}/day.db",
        "secret.db",
        "again.db%00",
    ],
)
def test_no_file_is_read_that_was_not_named_at_the_start(
    name: str, days: tuple[Path, Path], tmp_path: Path
) -> None:
    written(tmp_path / "secret.db", ticks(1))
    with served(days[0], tmp_path, compare=[days[1]]) as client:
        client.log_in(LOOK)
        for side in "ab":
            answer = client.get(f"/api/compare?{side}={name.format(folder=tmp_path)}")
            assert (answer.status, "--compare FILE" in answer.error) == (404, True)


def test_what_makes_no_sense_is_refused_with_a_sentence(days: tuple[Path, Path], tmp_path: Path) -> None:
    with served(days[0], tmp_path, compare=[days[1]]) as client:
        assert client.get("/api/compare").status == 401
        client.log_in(LOOK)
        for query in (
            "?a=day.db&b=day.db",
            "?type=signal",
            "?kind=same",
            "?skip=-1",
            "?skip=x",
            f"?agent={'x' * 501}",
        ):
            assert client.get(f"/api/compare{query}").status == 400, query
        assert client.get("/compare?a=day.db").status == 200
        assert client.get("/api/me").json["compares"] is True


def test_without_another_journal_it_is_said_how_to_name_one(days: tuple[Path, Path], tmp_path: Path) -> None:
    with served(days[0], tmp_path, compare=[days[0]]) as client:
        client.log_in(LOOK)
        answer = client.get("/api/compare")
        assert (answer.status, "--compare FILE" in answer.error) == (404, True)
        assert client.get("/api/me").json["compares"] is False


def test_what_is_no_journal_is_refused_at_the_start(days: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("no journal", encoding="utf-8")
    for path in (tmp_path / "note.txt", tmp_path / "missing.db"):
        with pytest.raises(JournalError), served(days[0], tmp_path / path.stem, compare=[path]):
            pass


def test_two_files_of_one_name_are_told_apart_by_their_paths(days: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = written(tmp_path / "other" / "day.db", the_day())
    with served(days[0], tmp_path, compare=[other]) as client:
        found = asked(client.log_in(LOOK))
    assert found["journals"] == [str(days[0]), str(other)]
    assert found["rows"] == []


def test_a_sealed_journal_is_compared_with_one_that_is_not(days: tuple[Path, Path], tmp_path: Path) -> None:
    key = os.urandom(32)
    with SqliteJournal(tmp_path / "sealed.db", key=key) as journal:
        journal.write([Entry(event.event_id, encode(event), wall_ns=START_NS) for event in the_day()])
        journal.sync()
    with served(days[0], tmp_path, compare=[tmp_path / "sealed.db"], key=None) as client:
        assert asked(client.log_in(LOOK))["rows"] == []
    with served(tmp_path / "sealed.db", tmp_path / "2", compare=[days[0]], key=key) as client:
        assert asked(client.log_in(LOOK))["rows"] == []


def test_ten_thousand_differences_come_a_page_at_a_time(tmp_path: Path) -> None:
    first, second = many(tmp_path, 10_000)
    seen: list[str] = []
    with served(first, tmp_path, compare=[second]) as client:
        client.log_in(LOOK)
        skip: int | None = 0
        while skip is not None:
            found = asked(client, f"?skip={skip}")
            assert found["total"] == found["counts"]["size"] == 10_000
            seen += [row["id"] for row in found["rows"]]
            skip = found["next"] if len(seen) < 300 or skip >= 9_700 else 9_700
        assert asked(client, "?skip=20000")["rows"] == []
    assert seen == [f"d-{number}" for number in (*range(300), *range(9_700, 10_000))]


def test_what_is_journaled_meanwhile_is_compared_the_next_time(
    days: tuple[Path, Path], tmp_path: Path
) -> None:
    with served(days[0], tmp_path, compare=[days[1]]) as client:
        client.log_in(LOOK)
        before = asked(client)
        event = decision(99)
        with SqliteJournal(days[0]) as journal:
            journal.write([Entry(event.event_id, encode(event), wall_ns=START_NS + 10**9)])
            journal.sync()
        after = asked(client)
    assert after["counts"]["gone"] == before["counts"]["gone"] + 1
    assert after["rows"][-1]["id"] == "d-99"


def test_another_file_at_the_path_is_read_from_its_beginning(days: tuple[Path, Path], tmp_path: Path) -> None:
    with served(days[0], tmp_path, compare=[days[1]]) as client:
        client.log_in(LOOK)
        asked(client)
        written(tmp_path / "new.db", the_day()).replace(days[1])
        found = asked(client)
    assert (found["rows"], found["counts"]["same"]) == ([], 6)


def test_days_that_have_nothing_in_common_say_so(days: tuple[Path, Path], tmp_path: Path) -> None:
    later = written(tmp_path / "later.db", the_day(), START_NS + 10**15)
    longer = written(tmp_path / "longer.db", [*the_day(), *ticks(3000)[3:]])
    empty = written(tmp_path / "empty.db", [])
    with served(days[0], tmp_path, compare=[later, longer, empty]) as client:
        client.log_in(LOOK)
        assert "no time in common" in asked(client, "?b=later.db")["notes"][0]
        assert "is in one of them alone" in asked(client, "?b=longer.db")["notes"][0]
        assert asked(client, "?b=empty.db")["notes"] == ["empty.db is empty"]


def test_of_too_many_decisions_the_first_of_each_are_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparing, "KEPT_MAX", 10)
    first, second = many(tmp_path, 30)
    shorter = written(tmp_path / "shorter.db", [decision(number) for number in range(5)])
    with served(first, tmp_path, compare=[second, shorter]) as client:
        client.log_in(LOOK)
        found = asked(client)
        assert (found["counts"]["size"], found["counts"]["gone"], found["counts"]["new"]) == (10, 0, 0)
        assert found["notes"] == ["only the first 10 events of each are compared"]


def test_hostile_and_long_text_is_bounded_and_safe(days: tuple[Path, Path], tmp_path: Path) -> None:
    with served(days[0], tmp_path, compare=[days[1]]) as client:
        answer = client.log_in(LOOK).get("/api/compare")
        while not answer.json["complete"]:
            answer = client.get("/api/compare")
    (new,) = [row for row in answer.json["rows"] if row["kind"] == "new"]
    assert "\\u202e" in new["symbol"]
    assert "\u202e" not in str(answer.json["rows"])
    (other,) = [row for row in answer.json["rows"] if row["kind"] == "other"]
    assert other["fields"][0][2].startswith(LONG)
    assert len(other["fields"][0][2]) <= 300
    assert HOSTILE in answer.json["symbols"]  # a filter is sent back as it is


@pytest.mark.parametrize(
    "payload",
    [
        b"not json",
        b'{"quantity": 1e400}',
        b'{"quantity": 1' + b"0" * 400 + b"}",
        b'{"quantity": "many"}',
        b'{"action": [1, 2]}',
    ],
)
def test_what_cannot_be_read_is_compared_byte_by_byte(payload: bytes) -> None:
    one, other = (
        said_of(Stored(position, payload + more, "normal", Level.PROCESS, position))
        for position, more in ((1, b""), (2, b" "))
    )
    assert [pair.kind for pair in paired([one], [one._replace(position=7)])] == [
        "gone",
        "new",
    ]  # without an id
    named = [said._replace(event_id="e") for said in (one, other)]
    assert paired(named[:1], named[:1])[0].kind == "same"
