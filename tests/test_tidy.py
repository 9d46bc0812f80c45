"""The house rules that a program can check."""

import ast
import importlib
import inspect
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import openoutcry
from openoutcry import errors
from openoutcry.cli import main

ROOT = Path(__file__).resolve().parent.parent
SRC = ROOT / "src" / "openoutcry"
MODULES = sorted(SRC.rglob("*.py"))
CAMPAIGNS = sorted((ROOT / "campaigns").glob("*.py"))
MODULE_LINES_MAX = 700
FUNCTION_LINES_MAX = 60
README_BLOCK_LIMIT_S = 600

# Who may read clocks, make ids and sleep: the clock itself, the runtime, links and the test kit; an event's default stamps,
# which have to come from somewhere; and the outermost layers, which show times to people.
MAY_READ_CLOCKS = (
    "clocks.py",
    "testing/",
    "links/",
    "runtime/",
    "events/sources.py",
    "firm/",
    "cli/",
    "replay/",
    "virtual.py",
)
FORBIDDEN_CALLS = {
    "datetime.now",
    "datetime.utcnow",
    "datetime.today",
    "date.today",
    "uuid.uuid4",
    "asyncio.sleep",
}
FORBIDDEN_MODULES = {"time", "uuid"}


def name_of(path: Path) -> str:
    return path.relative_to(SRC if path.is_relative_to(SRC) else ROOT).as_posix()


every_module = pytest.mark.parametrize("path", MODULES, ids=name_of)
every_module_to_read = pytest.mark.parametrize("path", MODULES + CAMPAIGNS, ids=name_of)


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@every_module_to_read
def test_a_module_is_short_enough_to_read(path: Path) -> None:
    lines_count = len(path.read_text(encoding="utf-8").splitlines())
    assert lines_count <= MODULE_LINES_MAX, f"{lines_count} lines, at most {MODULE_LINES_MAX}: split it"


Function = ast.FunctionDef | ast.AsyncFunctionDef


def own_length(function: Function) -> int:
    """The lines of a function without its docstring and without the functions in it, which are measured apart."""
    length = (function.end_lineno or 0) - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function) is not None:
        length -= (first.end_lineno or 0) - first.lineno + 1
    inner = [n for n in ast.walk(function) if isinstance(n, Function) and n is not function]
    return length - sum((n.end_lineno or 0) - n.lineno + 1 for n in inner)


@every_module_to_read
def test_a_function_is_short_enough_to_read(path: Path) -> None:
    functions = [n for n in ast.walk(tree_of(path)) if isinstance(n, Function)]
    lengths = {f.name: own_length(f) for f in functions}
    assert {name: length for name, length in lengths.items() if length > FUNCTION_LINES_MAX} == {}


@every_module_to_read
def test_a_module_says_what_it_is_for(path: Path) -> None:
    purpose = (ast.get_docstring(tree_of(path)) or "").strip().partition("\n")[0]
    assert len(purpose.split()) >= 3, "the first line of the file must say what the module is for"


@pytest.mark.parametrize("path", [p for p in MODULES if p.name == "__init__.py"], ids=name_of)
def test_an_init_file_holds_imports_and_nothing_else(path: Path) -> None:
    for node in tree_of(path).body:
        is_docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        is_all = isinstance(node, ast.Assign) and [ast.unparse(t) for t in node.targets] == ["__all__"]
        is_import = isinstance(node, ast.Import | ast.ImportFrom)
        assert is_docstring or is_all or is_import, f"line {node.lineno}: {ast.unparse(node)[:60]}"


def clock_reads(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in FORBIDDEN_MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module in FORBIDDEN_MODULES:
            yield from (node.module for alias in node.names if alias.name != "UUID")  # the class makes none
        elif isinstance(node, ast.ImportFrom):
            yield from (
                f"{node.module}.{a.name}" for a in node.names if f"{node.module}.{a.name}" in FORBIDDEN_CALLS
            )
        elif isinstance(node, ast.Attribute):
            dotted = ".".join(ast.unparse(node).split(".")[-2:])
            if dotted in FORBIDDEN_CALLS:
                yield dotted


@every_module
def test_time_and_ids_come_from_the_clock_and_the_runtime_alone(path: Path) -> None:
    if name_of(path).startswith(MAY_READ_CLOCKS):
        return
    assert sorted(set(clock_reads(tree_of(path)))) == []


@pytest.mark.parametrize(
    "code",
    [
        "import time",
        "from time import monotonic",
        "datetime.datetime.now(UTC)",
        "uuid.uuid4()",
        "asyncio.sleep(1)",
        "from asyncio import sleep",
    ],
)
def test_the_rule_about_clocks_sees_every_spelling(code: str) -> None:
    assert list(clock_reads(ast.parse(code))) != []


def printed_error_tree() -> dict[str, str]:
    """The tree on top of errors.py, as child -> parent."""
    parents: dict[str, str] = {}
    branch: list[str] = []
    for line in (errors.__doc__ or "").partition("```")[2].partition("```")[0].strip("\n").splitlines():
        found = re.match(r"([│├└─\s]*)(\w+)", line)
        assert found is not None, line
        depth = len(found[1]) // 4
        branch = [*branch[:depth], found[2]]
        if depth:
            parents[found[2]] = branch[depth - 1]
    return parents


def test_the_error_tree_on_top_of_errors_is_the_real_one() -> None:
    classes = [
        c for c in vars(errors).values() if inspect.isclass(c) and issubclass(c, errors.OpenOutcryError)
    ]
    real = {c.__name__: c.__bases__[0].__name__ for c in classes if c is not errors.OpenOutcryError}
    assert printed_error_tree() == real


def commands(
    command: click.Command, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        for name, child in command.commands.items():
            yield from commands(child, (*path, name))


@pytest.mark.parametrize(
    ("path", "command"), list(commands(main)), ids=lambda x: " ".join(x) if isinstance(x, tuple) else ""
)
def test_every_verb_and_option_of_the_command_is_documented(
    path: tuple[str, ...], command: click.Command
) -> None:
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    heading = "## `" + " ".join(("openoutcry", *path))
    assert heading in page
    section = page.partition(heading)[2].partition("\n## ")[0]
    options = [
        name for p in command.params if isinstance(p, click.Option) for name in (*p.opts, *p.secondary_opts)
    ]
    assert [name for name in options if f"`{name}" not in section] == []


def documented_options() -> set[str]:
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    return set(re.findall(r"^\| `(--[a-z-]+)", page, flags=re.MULTILINE))


def test_no_option_is_documented_that_does_not_exist() -> None:
    real = {name for _, command in commands(main) for p in command.params for name in p.opts}
    assert documented_options() - real - {"--help"} == set()


def public_names() -> list[tuple[str, str]]:
    packages = [SRC / "__init__.py", *(p for p in MODULES if p.name == "__init__.py" and p.parent != SRC)]
    names = [".".join(("openoutcry", *p.parent.relative_to(SRC).parts)) for p in packages]
    return [
        (name, public) for name in names for public in getattr(importlib.import_module(name), "__all__", ())
    ]


@pytest.mark.parametrize(("module", "name"), public_names())
def test_every_public_name_exists_and_is_explained(module: str, name: str) -> None:
    value = getattr(importlib.import_module(module), name)
    if inspect.isclass(value) or inspect.isfunction(value):
        own = value.__dict__.get("__doc__") if inspect.isclass(value) else value.__doc__
        assert own, f"{module}.{name} has no docstring"
        assert not own.startswith(f"{name}("), (
            f"{module}.{name} has only the docstring that its dataclass gave it"
        )


def test_the_door_lists_what_it_lets_through() -> None:
    assert len(set(openoutcry.__all__)) == len(openoutcry.__all__)


@pytest.mark.parametrize(
    "path", [*MODULES, *sorted((ROOT / "tests").rglob("*.py"))], ids=lambda p: str(p.relative_to(ROOT))
)
def test_nothing_is_left_for_later(path: Path) -> None:
    markers = ("TO" + "DO", "FIX" + "ME", "X" * 3)
    text = path.read_text(encoding="utf-8")
    assert [marker for marker in markers if re.search(rf"\b{marker}\b", text)] == []


def python_blocks(page: Path) -> list[str]:
    return re.findall(
        r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE
    )


@pytest.mark.parametrize("number", range(len(python_blocks(ROOT / "README.md"))))
def test_the_code_in_the_readme_runs(number: int, tmp_path: Path) -> None:
    code = python_blocks(ROOT / "README.md")[number]
    (tmp_path / "firm.py").write_text(code, encoding="utf-8")
    how = ["-m", "openoutcry", "run", "firm:app"] if "async def app(bus)" in code else ["firm.py"]
    done = subprocess.run(
        [sys.executable, "-W", "error", *how],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        timeout=README_BLOCK_LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
