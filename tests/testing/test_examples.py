"""Recorded examples: what an earlier release wrote is read by the classes of today, or the test fails and says why."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from openoutcry import Event, EventPersistence, InvalidEvent, OrderEvent
from openoutcry.testing import NotReadable, check_readable, write_examples


class Example2(Event, kw_only=True):
    event_type: str = "example"
    schema_version: int = 2
    qty: float
    desk: str = "main"


ORDER = OrderEvent(order_id="1", symbol="ES", side="buy", quantity=1, event_id="o", timestamp=10**18)
EVENTS = [ORDER, Example2(qty=1.5, event_id="e", timestamp=10**18)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "examples.jsonl"


def add(path: Path, event: Any, **changes: Any) -> None:
    with path.open("a") as file:
        file.write(json.dumps({**event.to_dict(), **changes}) + "\n")


def test_examples_that_are_written_are_read(path: Path) -> None:
    assert write_examples(path, EVENTS) == 2
    rows = check_readable(path)
    assert [(row.event_class, row.schema_version, row.events, row.unreadable) for row in rows] == [
        ("Example2", 2, 1, 0),
        ("OrderEvent", 1, 1, 0),
    ]


def test_writing_them_again_changes_nothing_and_another_version_is_added(path: Path) -> None:
    add(path, EVENTS[1], schema_version=1)
    path.write_text(path.read_text().rstrip("\n"))
    assert write_examples(path, EVENTS) == 2
    before = path.read_bytes()
    assert [json.loads(line)["schema_version"] for line in before.splitlines()] == [1, 1, 2]
    assert write_examples(path, [ORDER, Example2(qty=9)]) == 0
    assert path.read_bytes() == before
    check_readable(path)


def test_an_event_that_cannot_be_journaled_is_no_example(path: Path) -> None:
    with pytest.raises(InvalidEvent):
        write_examples(path, [ORDER, Example2(qty="many")])  # type: ignore[arg-type]
    assert not path.exists()


def test_what_cannot_be_read_is_listed_by_class_and_version(path: Path) -> None:
    write_examples(path, EVENTS)
    add(path, EVENTS[1], schema_version=3)
    add(path, EVENTS[1], schema_version=1, qty="many")
    add(path, EVENTS[1], schema_version=1, qty="more")
    add(path, ORDER, event_class="Gone")
    path.write_text(path.read_text() + "nonsense\n")
    with pytest.raises(NotReadable) as found:
        check_readable(path)
    text = str(found.value)
    assert "Example2, version 1: 2 of 2 cannot be read, the first at 4" in text
    assert "Example2, version 3: 1 of 1 cannot be read, the first at 3: Example2 is at version 2 here" in text
    assert "Gone, version 1: 1 of 1 cannot be read, the first at 6" in text
    assert "no class, no version: 1 of 1 cannot be read, the first at 7: not an event" in text
    assert "OrderEvent" not in text
    assert len(found.value.rows) == 6


def test_a_class_that_reads_another_value_at_the_same_version_fails(path: Path) -> None:
    class Silent(Event, kw_only=True):
        event_type: str = "silent"
        day: datetime

    day = "2026-01-01T00:00:00+00:00"
    add(path, Silent(event_id="s", timestamp=10**18, day=datetime.fromisoformat(day)), day=day)
    with pytest.raises(
        NotReadable, match=r"Silent, version 1: day = .*\+00:00' at 1 is read as .*Z', .*raise"
    ):
        check_readable(path)


def test_a_file_without_events_proves_nothing(path: Path) -> None:
    path.write_text("\n")
    with pytest.raises(NotReadable, match="there is no event in it"):
        check_readable(path)
    with pytest.raises(FileNotFoundError):
        check_readable(path.with_name("other.jsonl"))


def test_a_journal_is_read_too(tmp_path: Path) -> None:
    with EventPersistence.open(tmp_path / "firm.db") as kept:
        kept.persist_many([Example2(qty=number) for number in range(3)])
        [failed, *_] = kept.pending_events()
        kept.mark_failed(failed.event_id, "not today")
    [row] = check_readable(tmp_path / "firm.db")
    assert (row.event_class, row.events, row.unreadable) == ("Example2", 4, 0), "the dead letter's as well"
