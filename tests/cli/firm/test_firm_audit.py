"""`openoutcry firm audit`: what it prints, how it ends, and what it refuses."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from desks_kit import DeskJournal, close, event

from openoutcry.cli import main
from openoutcry.journals import SqliteJournal
from openoutcry.printable import is_obeyed


def audit(*words: object) -> Result:
    result = CliRunner().invoke(main, ["firm", "audit", *map(str, words)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def three(folder: Path, *, lost: bool = False, waits: bool = False) -> None:
    floor, desk, street = (DeskJournal(folder, name) for name in ("floor", "desk", "street"))
    events = [event(f"e-{i}") for i in range(5)]
    floor.make(*events)
    desk.make(event("d-0", "validated_decision"))
    street.make(event("f-0", "fill", "high"))
    desk.take(floor, *events[: 3 if waits else 5], upto=3 if waits else 5).take(
        street, event("f-0", "fill", "high")
    )
    street.take(floor, *events[1 if lost else 0 :]).take(desk, event("d-0", "validated_decision"))
    floor.take(desk, event("d-0", "validated_decision")).take(street, event("f-0", "fill", "high"))
    close(floor, desk, street)


def test_desks_that_agree_are_clean(tmp_path):
    three(tmp_path)
    result = audit(tmp_path)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].split() == [
        "made",
        "by",
        "imported",
        "by",
        "same",
        "had",
        "before",
        "waits",
        "retired",
        "wrong",
    ]
    assert len(lines) == 8
    assert lines[-1] == "clean"
    assert ["floor", "desk", "5", "0", "0", "0", "0"] in [line.split() for line in lines]


def test_journals_may_be_named_one_by_one(tmp_path):
    three(tmp_path)
    result = audit(tmp_path / "floor.db", tmp_path / "desk.db")
    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) == 4


def test_a_lost_event_is_named_with_its_desks_and_position_and_ends_with_1(tmp_path):
    three(tmp_path, lost=True)
    result = audit(tmp_path)
    assert result.exit_code == 1
    assert "floor to street: 1 event missing: exported, counted as imported, and not there" in result.stdout
    assert "  missing  e-0  lane normal, position 1 of floor" in result.stdout
    assert result.stdout.splitlines()[-1].startswith("NOT CLEAN")


def test_what_waits_is_no_fault_unless_all_must_be_there(tmp_path):
    three(tmp_path, waits=True)
    assert audit(tmp_path).exit_code == 0
    assert audit(tmp_path, "--complete").exit_code == 1


def test_as_json_each_pair_is_a_line(tmp_path):
    three(tmp_path, lost=True)
    rows = [json.loads(line) for line in audit(tmp_path, "--json").stdout.splitlines()]
    (wrong,) = [row for row in rows if row["counts"]]
    assert (wrong["exporter"], wrong["importer"], wrong["counts"]) == ("floor", "street", {"missing": 1})
    assert wrong["problems"] == [
        {"kind": "missing", "event_id": "e-0", "lane": "normal", "made_at": 1, "found_at": 0}
    ]


def test_journals_of_two_firms_are_refused(tmp_path):
    close(DeskJournal(tmp_path, "floor"), DeskJournal(tmp_path, "street", firm="beta"))
    result = audit(tmp_path)
    assert result.exit_code == 2
    assert "is of the firm 'alpha', and" in result.stderr


def test_one_journal_or_none_is_not_enough(tmp_path):
    assert "0 journals found" in audit(tmp_path).stderr
    close(DeskJournal(tmp_path, "floor"))
    result = audit(tmp_path)
    assert result.exit_code == 2
    assert "1 journal found: name those of two desks at least" in result.stderr


def test_journals_without_links_are_refused(tmp_path):
    for name in ("a", "b"):
        SqliteJournal(tmp_path / f"{name}.db").close()
    result = audit(tmp_path)
    assert result.exit_code == 2
    assert "none of the desks a, b imports what another one of them makes" in result.stderr


def test_a_place_that_is_not_there_is_named(tmp_path):
    result = audit(tmp_path / "none")
    assert result.exit_code == 2
    assert "is not there; name a journal, or a folder with journals" in result.stderr


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_hostile_names_are_printed_so_that_nothing_is_obeyed(tmp_path, more):
    evil = "x\x1b]0;owned\x07\r\nforged\u202e"
    floor, street = DeskJournal(tmp_path, "floor", desk=evil), DeskJournal(tmp_path, "street")
    floor.make(event(evil))
    floor.name = evil
    street.take(floor)
    close(floor, street)
    result = audit(tmp_path, *more)
    assert result.exit_code == 1
    assert {c for c in result.output if is_obeyed(c)} == {"\n"}
