"""The architecture page is true: every name in its tables exists, and it shows the rooms that there are."""

import importlib
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import openoutcry.runtime

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "architecture.md"
TEXT = PAGE.read_text(encoding="utf-8")


def section(title: str) -> str:
    found = TEXT.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    assert found, f"there is no section {title!r}"
    return found


def cells(title: str) -> list[tuple[str, str]]:
    """The rows of a section's table, without its head: the first cell, and the rest."""
    lines = [line for line in section(title).splitlines() if line.startswith("| ")]
    return [(line.split(" | ")[0].strip("| "), line.partition(" | ")[2].strip("| ")) for line in lines[1:]]


def found_in_the_package(name: str) -> Any:
    """Import as much of a dotted name as is a module, and look the rest up in it."""
    parts = name.split(".")
    for count in range(len(parts), -1, -1):
        path = ".".join(["openoutcry", *parts[:count]])
        try:
            found: Any = importlib.import_module(path)
        except ModuleNotFoundError as error:
            if not path.startswith(error.name or "?"):
                raise  # the module exists, and something that it imports does not
            continue
        for attribute in parts[count:]:
            found = getattr(found, attribute)
        return found
    raise AssertionError(name)


WHERE = cells("Where to change what")


@pytest.mark.parametrize(("change", "places"), WHERE, ids=[change for change, _ in WHERE])
def test_a_place_to_change_something_exists(change: str, places: str) -> None:
    names = re.findall(r"`([^`]+)`", places)
    assert names, f"nowhere is said where to change {change}"
    for name in names:
        if "/" in name:
            assert (ROOT / name).exists()
        else:
            assert found_in_the_package(name) is not None


def test_the_table_says_where_the_usual_questions_lead() -> None:
    questions = [
        "tick is shed",
        "fill is synced",
        "failed event is tried again",
        "kill switch is delivered",
        "makes a subscription wait",
    ]
    text = " ".join(change for change, _ in WHERE)
    assert [question for question in questions if question not in text] == []


def test_the_rooms_on_the_page_are_the_rooms_of_the_runtime() -> None:
    (folder,) = openoutcry.runtime.__path__
    rooms = {path.parent.name for path in Path(folder).glob("*/__init__.py")}
    assert {first.strip("`") for first, _ in cells("The rooms")} == rooms


def test_every_room_is_drawn() -> None:
    drawing = section("The rooms").partition("```")[2].partition("```")[0]
    assert [room for room, _ in cells("The rooms") if room.strip("`") not in drawing] == []


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:tests|benchmarks)/[\w./]+\.py)`", TEXT))))
def test_a_file_that_the_page_names_exists(path: str) -> None:
    assert (ROOT / path).is_file()


def test_an_unknown_name_is_noticed() -> None:
    with pytest.raises(AttributeError):
        found_in_the_package("core.pressure.Pressure.no_such_method")
    with pytest.raises(AttributeError):
        found_in_the_package("core.no_such_module")
    assert isinstance(found_in_the_package("core.pressure"), ModuleType)
