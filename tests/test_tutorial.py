"""The tutorial is followed to the letter in an empty folder, a SIGKILL included, and prints what it says."""

import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent


def script() -> Any:
    """Return the script that follows the tutorial, as a module."""
    spec = importlib.util.spec_from_file_location("tutorial_script", ROOT / "scripts" / "tutorial.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


tutorial = script()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder, and an `openoutcry` on the PATH that is this one."""
    commands = tmp_path / "bin"
    commands.mkdir()
    command = commands / "openoutcry"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m openoutcry "$@"\n', encoding="utf-8")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{commands}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    empty = tmp_path / "firm"
    empty.mkdir()
    return empty


def test_the_tutorial_is_as_the_page_says(folder):
    assert tutorial.follow_page(folder) > 10


def test_the_page_has_a_round_a_crash_and_a_restart():
    commands = [s for s in tutorial.steps(tutorial.PAGE.read_text("utf-8")) if hasattr(s, "line")]
    lines = [command.line for command in commands]
    crash = lines.index(tutorial.KILL)
    assert lines[crash - 1].endswith(" &")
    assert lines[crash + 1].startswith("openoutcry run")
    assert any("the round is complete" in line for command in commands for line in command.shown)
    assert all(command.shown for command in commands if command.line.startswith("openoutcry"))


PAGE = """
```python title="firm.py"
print("hello")
```

```console
$ {command}
{shown}
```
"""


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("cat firm.py", 'print("good bye")'),
        ("cat firm.py", 'print("hello")\nanother line'),
        ("cat firm.py", "..."),
        ("cat another.py", ""),
    ],
)
def test_a_page_that_differs_is_told(folder, tmp_path, command, shown):
    page = tmp_path / "page.md"
    page.write_text(PAGE.format(command=command, shown=shown), encoding="utf-8")
    if shown == "...":  # stands for anything in one line
        assert tutorial.follow_page(folder, page) == 2
    else:
        with pytest.raises(tutorial.Differs):
            tutorial.follow_page(folder, page)
