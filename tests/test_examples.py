"""The examples run under the command, and end well."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
PRINTED = {"tiny_firm": "halted: the day is over", "feed_thread": "the last quote was accepted: True"}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs_to_its_end(path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "openoutcry", "run", f"{path.stem}:app"],
        cwd=path.parent,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert PRINTED[path.stem] in done.stdout
    assert "balances: nothing was lost" in done.stdout
    assert "Traceback" not in done.stderr
    assert f"openoutcry run {path.stem}:app" in path.read_text(encoding="utf-8")
