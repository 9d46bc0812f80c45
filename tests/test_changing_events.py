"""The page on changing event classes is true: each section runs on what the first one has journaled."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "changing-events.md"
LIMIT_S = 300
FIRST = "Yesterday's release"


def programs() -> dict[str, str]:
    """Return each section's code, every line under the number it has on the page, so that errors point there."""
    found: dict[str, list[str]] = {}
    title, is_code = "", False
    for number, line in enumerate(PAGE.read_text(encoding="utf-8").splitlines()):
        if line.startswith("```"):
            is_code = line == "```python"
        elif is_code:
            lines = found.setdefault(title, [])
            lines += [""] * (number - len(lines))
            lines.append(line)
        elif line.startswith("## "):
            title = line.removeprefix("## ")
    return {section: "\n".join(lines) + "\n" for section, lines in found.items()}


PROGRAMS = programs()


def run(folder: Path, name: str, code: str) -> None:
    (folder / name).write_text(code, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error", name],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


def test_every_way_to_change_a_class_has_code_that_is_run() -> None:
    text = PAGE.read_text(encoding="utf-8")
    sections = [line.removeprefix("## ") for line in text.splitlines() if line.startswith("## ")]
    assert list(PROGRAMS) == sections
    assert sections[0] == FIRST
    for change in ("Add", "Remove", "Rename a field", "Retype", "Rename a class", "Split", "Roll back"):
        assert any(section.startswith(change) for section in sections), change


@pytest.mark.parametrize("section", [section for section in PROGRAMS if section != FIRST])
def test_the_code_of_a_section_runs_on_the_journal_of_yesterday_s_release(
    section: str, tmp_path: Path
) -> None:
    run(tmp_path, "yesterday.py", PROGRAMS[FIRST])
    run(tmp_path, "today.py", PROGRAMS[section])
