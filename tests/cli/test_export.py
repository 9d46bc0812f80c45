"""`openoutcry export` as tables: the fields of known event types as columns."""

import csv
import io
import json
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from openoutcry import Event
from openoutcry.cli import main
from openoutcry.events import encode
from openoutcry.journals import SqliteJournal
from openoutcry.ports import Entry

START_NS = 1_764_000_000_000_000_000
UNKNOWN = b'{"event_class":"WeatherEvent","event_id":"w1","event_type":"weather","quantity":"much"}'


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def done(*arguments: object) -> str:
    result = call(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


class ExportedOrder(Event, kw_only=True):
    event_type: str = "exported_order"
    quantity: int = 0
    price: float = 0.0
    level: str = ""
    field_level: str = ""
    is_open: bool = False
    legs: list[dict[str, int]] = msgspec.field(default_factory=list)
    limit: Decimal | None = None


class ExportedFill(Event, kw_only=True):
    event_type: str = "exported_fill"
    quantity: float = 0.0
    is_open: int = 0


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    path = tmp_path / "firm.db"
    events = [
        ExportedOrder(
            quantity=3,
            price=1.5,
            level="=l",
            field_level="f",
            is_open=True,
            legs=[{"a": 1}],
            limit=Decimal("0.10"),
        ),
        ExportedFill(quantity=0.5, is_open=2),
    ]
    with SqliteJournal(path) as journal:
        journal.write([Entry(event.event_id, encode(event), wall_ns=START_NS) for event in events])
        journal.write([Entry("w1", UNKNOWN, wall_ns=START_NS)])
    return path


def test_the_fields_of_known_types_are_columns_of_a_csv(mixed: Path) -> None:
    order, fill, unknown = csv.DictReader(io.StringIO(done("export", mixed, "--format", "csv")))
    assert (order["quantity"], fill["quantity"]) == ("3.0", "0.5")
    assert order["price"] == "1.5"
    assert order["level"] == "process", "what every event has keeps its name"
    assert (order["field_field_level"], order["field_level"]) == ("'=l", "f")
    assert (order["is_open"], fill["is_open"]) == ("true", "2"), "of different kinds: as JSON"
    assert order["legs"] == '[{"a":1}]'
    assert order["limit"] == "0.10"
    assert fill["price"] == fill["legs"] == unknown["quantity"] == ""
    assert order["timestamp"].endswith("Z")
    assert json.loads(unknown["event"]) == json.loads(UNKNOWN)
    assert "quantity" not in done("export", mixed, "--format", "csv", "--type", "weather").splitlines()[0]


def test_the_fields_of_known_types_are_typed_columns_of_a_parquet(mixed: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    out = mixed.with_name("out.parquet")
    done("export", mixed, "-o", out)
    table = parquet.read_table(out)
    order, fill, unknown = table.to_pylist()
    assert (order["quantity"], fill["quantity"], unknown["quantity"]) == (3.0, 0.5, None)
    assert order["price"] == 1.5
    assert order["legs"] == '[{"a":1}]'
    assert (order["is_open"], fill["is_open"]) == ("true", "2")
    assert str(table.schema.field("timestamp").type) == "timestamp[ns, tz=UTC]"
    assert str(table.schema.field("price").type) == "double"


def test_a_value_that_is_not_of_its_columns_type_is_told_of_and_stays_in_the_event(mixed: Path) -> None:
    odd = encode(ExportedOrder(quantity=1, price=2.0)).replace(b'"price":2.0', b'"price":"two"')
    with SqliteJournal(mixed) as journal:
        journal.write([Entry("odd", odd, wall_ns=START_NS)])
    out = mixed.with_name("out.csv")
    said = call("export", mixed, "-o", out)
    assert said.exit_code == 0
    assert "only in the column event: price 1" in said.stderr
    *_, last = csv.DictReader(io.StringIO(out.read_text(encoding="utf-8")))
    assert last["price"] == ""
    assert json.loads(last["event"])["price"] == "two"


def test_an_ending_that_it_does_not_write_is_refused_with_those_that_it_does(mixed: Path) -> None:
    out = mixed.with_name("day.xlsx")
    said = call("export", mixed, "-o", out)
    assert said.exit_code == 2
    assert ".jsonl, .ndjson, .json, .csv or .parquet" in said.stderr
    assert not out.exists()
    done("export", mixed, "-o", out, "--format", "csv")


def test_the_types_of_an_app_are_known_too(mixed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (mixed.parent / "exporting_firm.py").write_text(
        "from openoutcry import Event\n\nprint('loading')\n\n\n"
        "class AppOnlyEvent(Event, kw_only=True):\n    event_type: str = 'app_only'\n    mood: str = ''\n\n\n"
        "def app(bus): ...\n"
    )
    event = {"event_class": "AppOnlyEvent", "event_id": "a1", "event_type": "app_only", "mood": "calm"}
    with SqliteJournal(mixed) as journal:
        journal.write([Entry("a1", json.dumps(event).encode(), wall_ns=START_NS)])
    monkeypatch.chdir(mixed.parent)
    assert "mood" not in done("export", mixed, "--format", "csv").splitlines()[0]
    printed = call("export", mixed, "--format", "csv", "--app", "exporting_firm:app")
    assert "loading" in printed.stderr
    *_, last = csv.DictReader(io.StringIO(printed.stdout))
    assert last["mood"] == "calm"
