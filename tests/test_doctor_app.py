"""`openoutcry doctor JOURNAL --app MODULE:APP`: what the next release could not read, before it is deployed."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
LIMIT_S = 300

YESTERDAY = """
import asyncio
from dataclasses import dataclass
from openoutcry import NO_RETRY, Event, EventBus, PersistenceConfig, register_event

class Booked(Event, kw_only=True):
    event_type: str = "booked"
    qty: float
    venue: str = "CME"

class Closed(Event, kw_only=True):
    event_type: str = "closed"

@register_event
@dataclass
class Memo:
    event_id: str
    event_type: str = "memo"

def fails(event):
    raise ValueError("not today")

async def never(event):
    await asyncio.Event().wait()

async def main():
    bus = EventBus(persistence_config=PersistenceConfig(path="firm.db"))
    bus.subscribe("booked", lambda event: None, name="book", restore=lambda event: None)
    bus.subscribe("booked", never, name="slow")
    bus.subscribe("closed", fails, name="clerk", retry=NO_RETRY)
    bus.subscribe("memo", lambda event: None, name="reader")
    await bus.start()
    for number in range(5):
        await bus.publish(Booked(qty=number))
    await bus.publish(Closed(event_id="c"))
    await bus.publish(Memo("m"))
    await bus.flush()
    while not bus.dead_letters():
        await asyncio.sleep(0.01)
    {end}

asyncio.run(main())
"""

TODAY = """
from dataclasses import dataclass
from openoutcry import Event, register_event, upcaster

class Booked(Event, kw_only=True):
    event_type: str = "booked"
    schema_version: int = 2
    qty: float
    exchange: str{default}
    desk: str = "main"

{upcaster}

class Closed(Event, kw_only=True):
    event_type: str = "closed"
    {closed}

@register_event
@dataclass
class Memo:
    event_id: str
    event_type: str = "memo"

def app(bus):
    raise AssertionError("is not called")
"""

UPCASTER = """
@upcaster(Booked, from_version=1)
def rename(data):
    data["exchange"] = data.pop("venue")
    return data
"""


def python(folder: Path, *arguments: str, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == code, (done.stdout, done.stderr)
    return done.stdout if code in {0, 1} else done.stderr


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where yesterday's release was killed, with a journal in which something waits."""
    (tmp_path / "yesterday.py").write_text(YESTERDAY.replace("{end}", "import os; os._exit(0)"))
    python(tmp_path, "yesterday.py")
    return tmp_path


def doctor(folder: Path, code: int = 0, **release: str) -> dict[tuple[str, int | None], dict[str, Any]]:
    source = TODAY
    for place, value in {"default": ' = ""', "upcaster": "", "closed": "pass", **release}.items():
        source = source.replace(f"{{{place}}}", value)
    (folder / "today.py").write_text(source)
    said = python(folder, "-m", "openoutcry", "doctor", "firm.db", "--app", "today:app", "--json", code=code)
    rows = [json.loads(line) for line in said.splitlines()]
    return {(row["event_class"], row["schema_version"]): row for row in rows if row["what"] == "event class"}


def test_a_release_that_reads_everything_is_told_so(folder: Path) -> None:
    before = (folder / "firm.db").read_bytes()
    rows = doctor(folder, upcaster=UPCASTER)
    assert list(rows) == [("Booked", 1), ("Closed", 1), ("Memo", 1)]
    assert {row["verdict"] for row in rows.values()} == {"ok"}
    booked = rows["Booked", 1]
    assert (booked["events"], booked["unreadable"], booked["known_version"]) == (5, 0, 2)
    assert booked["said"] == "5 are read, brought up to version 2, with the default of desk"
    assert rows["Closed", 1]["events"] == 2, "that of the dead letter as well"
    assert (folder / "firm.db").read_bytes() == before


def test_a_field_that_was_renamed_without_an_upcaster_is_a_warning(folder: Path) -> None:
    booked = doctor(folder)["Booked", 1]
    assert booked["verdict"] == "warn"
    assert (booked["ignored"], booked["missing"]) == (["venue"], ["desk", "exchange"])
    assert "register an upcaster" in booked["said"]


def test_what_cannot_be_read_is_counted_with_its_first_position_and_who_needs_it(folder: Path) -> None:
    rows = doctor(folder, code=1, default="", closed="reason: str")
    booked, closed = rows["Booked", 1], rows["Closed", 1]
    assert (booked["verdict"], booked["unreadable"], booked["first"]) == ("FAIL", 5, 2)
    assert "exchange" in booked["error"]
    assert booked["needed_by"] == {"slow": 5}
    assert booked["remembered_by"] == {"book": 5}
    assert "the memory of book needs 5" in booked["said"]
    assert (closed["unreadable"], closed["first"], closed["dead_letters"]) == (2, 7, {"clerk": 1})
    assert closed["remembered_by"] == closed["needed_by"] == {}
    assert rows["Memo", 1]["verdict"] == "ok"


def test_a_class_that_is_gone_is_told_of(folder: Path) -> None:
    (folder / "today.py").write_text("app = None")
    said = python(folder, "-m", "openoutcry", "doctor", "firm.db", "--app", "today:app", code=1)
    assert "FAIL  Booked       1" in said
    assert "no such class is registered" in said
    assert "slow has 5 of them to handle" in said


def test_an_older_release_is_told_of_newer_events(folder: Path) -> None:
    newer = TODAY.replace("{default}", ' = ""').replace("{upcaster}", "").replace("{closed}", "pass")
    newer = newer.replace("def app", "from openoutcry import EventPersistence\ndef old_app")
    write = "with EventPersistence.open('firm.db') as kept: kept.persist(Booked(qty=1, event_id='new'))\n"
    (folder / "newer.py").write_text(newer + write)
    python(folder, "newer.py")
    (folder / "main.py").write_text(YESTERDAY.replace("asyncio.run(main())", ""))
    said = python(folder, "-m", "openoutcry", "doctor", "firm.db", "--app", "main:main", "--json", code=1)
    [row] = [row for row in map(json.loads, said.splitlines()) if row.get("unreadable")]
    assert (row["event_class"], row["schema_version"], row["known_version"]) == ("Booked", 2, 1)
    assert "Booked is at version 1 here, and the data is of version 2" in row["error"]


def test_it_works_beside_the_bus_of_another_release(folder: Path) -> None:
    (folder / "running.py").write_text(
        YESTERDAY.replace("{end}", "print('ready', flush=True); await never(0)")
    )
    (folder / "firm.db").unlink()
    for rest in folder.glob("firm.db-*"):
        rest.unlink()
    with subprocess.Popen(
        [sys.executable, "running.py"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as running:
        try:
            assert running.stdout is not None
            assert running.stdout.readline() == "ready\n"
            assert doctor(folder, upcaster=UPCASTER)["Booked", 1]["events"] == 5
            assert running.poll() is None
        finally:
            running.kill()


def test_mistakes_are_told_in_a_line(folder: Path) -> None:
    assert "name the journal" in python(folder, "-m", "openoutcry", "doctor", "--app", "today:app", code=2)
    assert "no module" in python(folder, "-m", "openoutcry", "doctor", "firm.db", "--app", "gone:app", code=2)
    (folder / "broken.py").write_text("raise ValueError('not set up')")
    said = python(folder, "-m", "openoutcry", "doctor", "firm.db", "--app", "broken:app", code=1)
    assert said == ""


def test_what_the_app_prints_while_it_is_imported_is_no_part_of_the_report(folder: Path) -> None:
    (folder / "chatty.py").write_text("print('connecting')\napp = None\n")
    said = python(folder, "-m", "openoutcry", "doctor", "firm.db", "--app", "chatty:app", "--json", code=1)
    assert json.loads(said.splitlines()[0])["what"] == "openoutcry"
