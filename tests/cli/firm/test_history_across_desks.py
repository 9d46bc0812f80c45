"""`openoutcry history --journals`: a cause is followed to other desks, and each event is shown once."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from desks_kit import DeskJournal, close, event
from msgspec.structs import replace

from openoutcry.cli import main
from openoutcry.ports import Entry


def at(entry: Entry, second: int) -> Entry:
    return replace(entry, wall_ns=1_764_000_000_000_000_000 + second * 10**9)


@pytest.fixture
def firm(tmp_path: Path) -> Path:
    """An order on the floor, its fill on the street, and what the books on the floor made of that."""
    floor, street = DeskJournal(tmp_path, "floor"), DeskJournal(tmp_path, "street")
    order = at(event("order-1", correlation_id="c"), 1)
    fill = at(event("fill-1", "fill", "high", causation_id="order-1", correlation_id="c"), 2)
    note = at(event("note-1", "note", causation_id="order-1", correlation_id="c"), 3)
    booked = at(event("booked-1", "position", causation_id="fill-1", correlation_id="c"), 4)
    floor.make(order)
    street.take(floor, order).make(fill, note)
    floor.take(street, fill).make(booked)
    close(floor, street)
    return tmp_path


def history(*words: object) -> list[tuple[str, str | None, int]]:
    result = CliRunner().invoke(main, ["history", *map(str, words), "--json"])
    assert result.exit_code == 0, result.output
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    return [(row["event_id"], row.get("from_desk"), row["position"]) for row in rows]


def test_a_cause_is_followed_to_the_desk_that_handled_it(firm):
    assert history(firm / "floor.db", "--cause", "order-1") == [("fill-1", "street", 2)]
    assert history(firm / "floor.db", "--cause", "order-1", "--journals", firm) == [
        ("fill-1", "street", 2),
        ("note-1", "street", 3),
    ]


def test_a_chain_is_one_history_in_the_order_of_time_with_each_event_once(firm):
    found = history(firm / "floor.db", "--correlation", "c", "--journals", firm / "street.db")
    assert [one for one, *_ in found] == ["order-1", "fill-1", "note-1", "booked-1"]
    assert [desk for _, desk, _ in found] == [None, "street", "street", None]


def test_seen_from_the_other_desk_it_is_the_same(firm):
    found = history(firm / "street.db", "--correlation", "c", "--journals", firm)
    assert [(one, desk) for one, desk, _ in found] == [
        ("order-1", "floor"),
        ("fill-1", None),
        ("note-1", None),
        ("booked-1", "floor"),
    ]


def test_of_several_journals_the_newest_are_shown(firm):
    found = history(firm / "floor.db", "--limit", "2", "--journals", firm)
    assert [one for one, *_ in found] == ["note-1", "booked-1"]


def test_a_settings_file_says_where_the_journals_are(firm):
    file = firm / "floor.toml"
    file.write_text(f'[link]\nfirm = "alpha"\njournals = ["{firm}"]\n')
    assert len(history(firm / "floor.db", "--cause", "order-1", "--config", file)) == 2


def test_a_desk_whose_journal_is_not_read_is_shown_as_imported(firm):
    (firm / "street.db").rename(firm / "street.away")
    assert history(firm / "floor.db", "--cause", "order-1", "--journals", firm) == [("fill-1", "street", 2)]


def test_for_people_the_desk_stands_in_the_line(firm):
    result = CliRunner().invoke(main, ["history", str(firm / "floor.db"), "--journals", str(firm)])
    assert result.exit_code == 0
    assert "desk=street" in result.stdout


def test_a_place_that_is_not_there_is_a_mistake(firm):
    result = CliRunner().invoke(main, ["history", str(firm / "floor.db"), "--journals", str(firm / "none")])
    assert result.exit_code == 2
    assert "is not there" in result.stderr
