"""The code of the pages runs: the blocks between two headings, in order, are one program, or a firm."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
HOW_TO = sorted(page for page in (DOCS / "howto").glob("*.md") if page.name != "index.md")
PAGES = [*HOW_TO, DOCS / "index.md", DOCS / "reference" / "subscribe.md"]
NEEDS = {
    "web": ("fastapi",),
    "metrics": ("prometheus_client",),
    "tracing": ("opentelemetry.trace",),
    "models": ("mcp",),
}
"""What the code of a page needs beside openoutcry."""
CHANGING = DOCS / "changing-events.md"
YESTERDAY = "Yesterday's release"
SECTION_LIMIT_S = 600


def programs(page: Path) -> dict[str, str]:
    """Return each section's code, every line under the number it has on the page, so that errors point there."""
    found: dict[str, list[str]] = {}
    title, is_code = page.stem, False
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines()):
        if line.startswith("```"):
            is_code = line.startswith("```python")
        elif is_code:
            lines = found.setdefault(title, [])
            lines += [""] * (number - len(lines))
            lines.append(line)
        elif line.startswith("## "):
            title = line.removeprefix("## ")
    return {section: "\n".join(lines) + "\n" for section, lines in found.items()}


PROGRAMS = [(page, section, code) for page in PAGES for section, code in programs(page).items()]
CHANGES = programs(CHANGING)


@pytest.mark.parametrize("page", HOW_TO, ids=lambda page: page.stem)
def test_a_how_to_page_has_code_that_is_run(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    blocks = [block.partition("\n```")[0] for block in re.split(r"```python[^\n]*\n", text)[1:]]
    lines_count = sum(1 for block in blocks for line in block.splitlines() if line)
    assert 0 < lines_count == sum(1 for code in programs(page).values() for line in code.splitlines() if line)


def run(folder: Path, name: str, code: str) -> None:
    """Run a program or, if it is an app, have `openoutcry run` run it."""
    (folder / name).write_text(code, encoding="utf-8")
    is_app = "async def app(bus)" in code
    how = ["-m", "openoutcry", "run", f"{name.removesuffix('.py')}:app"] if is_app else [name]
    done = subprocess.run(
        [sys.executable, "-W", "error", *how],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        timeout=SECTION_LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    untold = [
        n for n, line in enumerate(lines) if line.startswith("Traceback") and ", attempt " not in lines[n - 1]
    ]
    assert not untold, done.stderr  # but for handlers that fail on purpose, which are logged


@pytest.mark.parametrize(
    ("page", "section", "code"), PROGRAMS, ids=[f"{page.stem}: {section}" for page, section, _ in PROGRAMS]
)
def test_the_code_of_a_section_runs(page: Path, section: str, code: str, tmp_path: Path) -> None:
    del section
    for module in NEEDS.get(page.stem, ()):
        if "OPENOUTCRY_TESTS_NEED_ALL" not in os.environ:
            pytest.importorskip(module)
    run(tmp_path, "page.py", code)


def test_every_way_to_change_a_class_has_code_that_is_run() -> None:
    text = CHANGING.read_text(encoding="utf-8")
    sections = [line.removeprefix("## ") for line in text.splitlines() if line.startswith("## ")]
    assert list(CHANGES) == sections
    assert sections[0] == YESTERDAY
    for change in ("Add", "Remove", "Rename a field", "Retype", "Rename a class", "Split", "Roll back"):
        assert any(section.startswith(change) for section in sections), change


@pytest.mark.parametrize("section", [section for section in CHANGES if section != YESTERDAY])
def test_a_change_runs_on_what_yesterday_s_release_has_journaled(section: str, tmp_path: Path) -> None:
    run(tmp_path, "yesterday.py", CHANGES[YESTERDAY])
    run(tmp_path, "today.py", CHANGES[section])
