"""Runs a test suite as a user would: by pytest, in a process of its own."""

import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PLUGIN = "openoutcry.testing.plugin"
IS_INSTALLED = any(e.value == PLUGIN for e in importlib.metadata.entry_points(group="pytest11"))
ALONE = ("-p", "no:asyncio", "-p", "no:anyio")
STRICT = ("-o", "asyncio_default_fixture_loop_scope=function", "-W", "error")
ASYNCIO_AUTO = (*STRICT, "-o", "asyncio_mode=auto")
ANYIO_AUTO = (*STRICT, "-o", "anyio_mode=auto")
MODES = {"alone": (*ALONE, "-W", "error"), "strict": STRICT, "asyncio": ASYNCIO_AUTO, "anyio": ANYIO_AUTO}


def run_pytest(folder: Path, *options: str) -> subprocess.CompletedProcess:
    plugin = () if IS_INSTALLED else ("-p", PLUGIN)
    common = ["-p", "no:randomly", "-p", "no:cacheprovider", *plugin]
    return subprocess.run(
        [sys.executable, "-m", "pytest", *common, *options, str(folder)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def run_suite(folder: Path, suite: str, *options: str) -> subprocess.CompletedProcess:
    (folder / "test_suite.py").write_text(suite, encoding="utf-8")
    return run_pytest(folder, "-v", "--strict-markers", *options)


def names_in(suite: str) -> list[str]:
    return re.findall(r"def (test_\w+)", suite)


def verdicts(done: subprocess.CompletedProcess, name: str) -> set[str]:
    """Return how a test ended, whatever its class and parameters."""
    return set(re.findall(rf"::{name}(?:\[[^\]]*\])? (PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS)", done.stdout))


def check(done: subprocess.CompletedProcess, name: str) -> None:
    """Assert that a test ended as its name says."""
    wanted = {"ok": {"PASSED"}, "skipped": {"SKIPPED"}, "xfailed": {"XFAIL"}}.get(name.split("_")[1])
    found = verdicts(done, name)
    said = done.stdout + done.stderr
    assert found, said
    assert found == wanted if wanted else found <= {"FAILED", "ERROR"}, said
