"""The examples run, those that are apps under the command, and end well."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
PRINTED = {
    "tiny_firm": "halted: the day is over",
    "feed_thread": "the last quote was accepted: True",
    "position_book": "after 750 fills",
}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs_to_its_end(path: Path) -> None:
    is_app = "async def app(bus" in path.read_text(encoding="utf-8")
    how = ["-m", "openoutcry", "run", f"{path.stem}:app"] if is_app else [path.name]
    done = subprocess.run(
        [sys.executable, "-W", "error", *how],
        cwd=path.parent,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert PRINTED[path.stem] in done.stdout
    assert "Traceback" not in done.stderr
    if is_app:
        assert "balances: nothing was lost" in done.stdout
    command = f"openoutcry run {path.stem}:app" if is_app else f"python {path.name}"
    assert command in path.read_text(encoding="utf-8")
