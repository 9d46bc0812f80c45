"""Run programs as where there is no checkout: for the scripts that check what is built from this one."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NoReturn


def run(
    *words: str | Path, cwd: Path | None = None, more: dict[str, str] | None = None, fails: bool = False
) -> str:
    """Run a program that knows nothing of this checkout, with what stands beside it; return what it printed.

    Ends with 1, and shows that, if it fails, or with `fails` if it does not.
    """
    began = time.monotonic()
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "OPENOUTCRY"))
    }
    path = f"{Path(words[0]).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        list(map(str, words)),
        cwd=cwd or Path(tempfile.gettempdir()),
        env={**inherited, "PATH": path, "PIP_DISABLE_PIP_VERSION_CHECK": "1", **(more or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    shown = " ".join(map(str, words))[-100:]
    if bool(done.returncode) != fails:
        print(done.stdout, flush=True)
        wrong(f"{shown} ended with {done.returncode}")
    print(f"ok {shown}, {time.monotonic() - began:.0f} s", flush=True)
    return done.stdout


def wrong(what: str) -> NoReturn:
    """End with 1."""
    sys.exit(f"{Path(sys.argv[0]).stem}: {what}")
