"""Python programs in processes of their own, which are sent signals."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 300


def start_python(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """Run Python with these arguments in a folder, and return once it has printed `ready`."""
    process = subprocess.Popen(
        [sys.executable, "-W", "error", *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )
    while (line := read_line(process.stdout)) != "ready\n":
        if not line:
            raise AssertionError(process.communicate()[1])
    return process


def read_line(stream: IO[str] | None) -> str:
    """Read a line and nothing beyond it, which `communicate` would miss."""
    assert stream is not None
    line = b""
    while not line.endswith(b"\n") and (byte := os.read(stream.fileno(), 1)):
        line += byte
    return line.decode()


def finish(process: subprocess.Popen[str], *numbers: signal.Signals) -> tuple[int, str, str]:
    """Send a process these signals, and return its exit code and what it has printed after `ready`."""
    try:
        for number in numbers:
            process.send_signal(number)
        out, err = process.communicate(timeout=LIMIT_S)
    finally:
        process.kill()
    assert "never retrieved" not in err
    assert "was destroyed but it is pending" not in err
    return process.returncode, out, err


def finish_at_once(process: subprocess.Popen[str], number: signal.Signals) -> tuple[int, str, str]:
    """Send a process a signal, and the same again when it has noted the first."""
    process.send_signal(number)
    while "stopping" not in read_line(process.stderr):
        pass
    return finish(process, number)
