"""The reference says what the code says: pages made from it are up to date, tables written by hand agree with it."""

import importlib
import importlib.util
import inspect
import re
from collections import Counter
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import click
import pytest

from openoutcry import EventBus, errors
from openoutcry.cli import main

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = ROOT / "docs" / "reference"
MEANT_FOR_EVERYONE = (
    "openoutcry",
    "openoutcry.testing",
    "openoutcry.journals",
    "openoutcry.ports",
    "openoutcry.replay",
)


def script() -> Any:
    """Return the script that makes pages, as a module."""
    spec = importlib.util.spec_from_file_location("reference_script", ROOT / "scripts" / "reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def cells(page: str) -> list[list[str]]:
    """Return the rows of a page's tables, without their heads."""
    text = (REFERENCE / page).read_text(encoding="utf-8")
    rows = [re.split(r"(?<!\\) \| ", line[2:-2]) for line in text.splitlines() if line.startswith("| ")]
    return [row for row in rows if not set("".join(row)) <= {"-", " ", "|"}]


@pytest.mark.parametrize("name", script().PAGES)
def test_a_page_that_is_made_from_the_code_is_up_to_date(name: str) -> None:
    page = script().PAGES[name]()
    assert (REFERENCE / name).read_text(encoding="utf-8") == page, "run: python scripts/reference.py"


@pytest.mark.parametrize("name", script().PAGES)
def test_every_row_says_what_it_means(name: str) -> None:
    empty = [row for row in cells(name) if not all(cell.strip() for cell in row)]
    assert empty == []


def described() -> list[str]:
    """Return what the pages of the Python interface describe, as dotted names."""
    pages = (REFERENCE / "api").glob("*.md")
    return [
        name for page in pages for name in re.findall(r"^::: (\S+)$", page.read_text("utf-8"), re.MULTILINE)
    ]


def found(dotted: str) -> object:
    """Return what a dotted name stands for."""
    module, _, name = dotted.rpartition(".")
    return getattr(importlib.import_module(module), name)


def test_every_public_name_is_described_in_one_place() -> None:
    counts = Counter(id(found(name)) for name in described())
    for module in MEANT_FOR_EVERYONE:
        names = importlib.import_module(module).__all__
        wrong = {n: counts[id(getattr(importlib.import_module(module), n))] for n in names}
        assert {n: count for n, count in wrong.items() if count != 1} == {}, module


def test_every_error_is_described() -> None:
    names = {name.rpartition(".")[2] for name in described() if name.startswith("openoutcry.errors.")}
    classes = {n for n, c in vars(errors).items() if inspect.isclass(c) and c.__module__ == errors.__name__}
    assert names == classes


def test_the_table_of_options_is_that_of_subscribe() -> None:
    parameters = list(inspect.signature(EventBus.subscribe).parameters.values())
    options = {p.name: repr(p.default) for p in parameters if p.kind is p.KEYWORD_ONLY}
    table = {name.strip("`"): default.strip("`") for name, default, *_ in cells("subscribe.md")[1:]}
    assert table.pop("name") == "made from the agent and the function"
    assert options.pop("name") == "None"
    assert table == options


UNITS = {"MiB": 2**20, "KiB": 2**10, "s": 1, "ms": 1e-3, "bits": 1}


def constant(dotted: str) -> Any:
    """Return a bound in bytes, seconds, or as a count; of a settings object its default."""
    *path, name = dotted.split(".")
    owner: Any = importlib.import_module(f"openoutcry.{'.'.join(p for p in path if p.islower())}")
    if not path[-1].islower():
        owner = getattr(owner, path[-1])
        assert is_dataclass(owner)
        return next(f.default for f in fields(owner) if f.name == name)
    return getattr(owner, name)


def bounds() -> list[tuple[str, str, str]]:
    """Return the rows of the page of limits that name a constant: what, how much, which."""
    return [
        (row[0], row[1], row[2].strip("`"))
        for row in cells("limits.md")
        if len(row) == 3 and row[2].startswith("`")
    ]


@pytest.mark.parametrize(("what", "limit", "held_by"), bounds(), ids=[row[2] for row in bounds()])
def test_a_limit_is_the_one_that_the_code_has(what: str, limit: str, held_by: str) -> None:
    del what
    value = constant(held_by)
    if "63 bits" in limit:
        assert value == 2**63 - 1
        return
    number, unit = re.match(r"([\d,.]+)(?: (\w+))?", limit).groups()
    assert float(number.replace(",", "")) * UNITS.get(unit, 1) == value


def test_the_limits_are_read() -> None:
    assert len(bounds()) > 20


def shown_commands() -> list[tuple[str, str]]:
    """Return the commands of openoutcry that the pages show, each with its page."""
    found = []
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        text = page.read_text(encoding="utf-8")
        blocks = "".join(re.findall(r"^```(?:sh|console)\n(.*?)^```", text, re.DOTALL | re.MULTILINE))
        command = r"(?:\w+=\w+ )?openoutcry ([a-z].*?)(?: *#.*)?$"
        lines = re.findall(rf"^(?:\$ )?{command}", blocks, re.MULTILINE)
        lines += re.findall(rf"^ {{4}}{command}", text, re.MULTILINE)
        inline = re.findall(r"`openoutcry ([a-z][^`]*)`", text)
        found += [(page.name, one) for line in [*lines, *inline] for one in line.split("`, `")]
    return found


@pytest.mark.parametrize(("page", "line"), sorted(set(shown_commands())))
def test_a_command_that_a_page_shows_exists_with_its_options(page: str, line: str) -> None:
    del page
    words = re.sub(r"\$\(.*?\)", "", line).replace("=", " ").split()
    command: click.Command = main
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        command = command.commands[words.pop(0)]
    if command.context_settings.get("ignore_unknown_options"):
        return  # they go to another program
    names = {n for p in command.params for n in (*p.opts, *p.secondary_opts)} | {"--help", "-h"}
    assert {word for word in words if word.startswith("-") and len(word) > 1} - names == set()


def test_every_page_stands_in_the_navigation() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    nav = re.findall(r"([\w/-]+\.md)$", text.partition("\nnav:\n")[2], re.MULTILINE)
    docs = ROOT / "docs"
    pages = {page.relative_to(docs).as_posix() for page in docs.rglob("*.md")}
    decisions = {page for page in pages if page.startswith("decisions/0")}  # which the site adds by itself
    assert pages - decisions - set(nav) == set()
    assert len(nav) == len(set(nav))
