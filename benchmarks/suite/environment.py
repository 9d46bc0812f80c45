"""The benchmark's own environment, with the packages openoutcry is compared to, and the facts of the machine.

Some of the peers carry licences that keep them out of the project's dependencies: they are installed here alone.
"""

import os
import platform
import re
import subprocess
import venv
from datetime import UTC, datetime
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent.parent
ENVIRONMENT = HERE / ".venv-peers"
BASE = ("msgspec>=0.19", "click>=8.1")
PEERS: dict[str, tuple[str, ...]] = {
    "nautilus_trader": ("nautilus_trader==1.221.0",),
    "vnpy": ("--no-deps", "vnpy==4.5.0"),  # its event module needs the standard library alone
    "pyee": ("pyee==13.0.1",),
    "blinker": ("blinker==1.9.0",),
    "aiopubsub": ("aiopubsub==3.0.0",),
    "bubus": ("bubus==1.5.6",),
    "uvloop": ("uvloop==0.22.1",),
    "eventsourcing": ("eventsourcing==9.5.6",),
    "persist_queue": ("persist-queue==1.1.0",),
    "litequeue": ("litequeue==0.9",),
    "diskcache": ("diskcache==5.6.3",),
    "apsw": ("apsw>=3.46",),
}
_SHARED = ("msgspec", "uvloop", "apsw")


def prepare(*, peers: bool) -> tuple[Path, dict[str, str]]:
    """Make the environment if need be; give its Python and the version of every package that is in it.

    A peer that cannot be installed is left out with a line that says so: the run goes on without it.
    """
    python = ENVIRONMENT / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not python.exists():
        print("making the benchmark's own environment in benchmarks/.venv-peers ...", flush=True)
        venv.create(ENVIRONMENT, with_pip=True)
    present = _versions(python)
    if not {"msgspec", "click"} <= present.keys():
        _install(python, BASE, must=True)
    for package, requirement in PEERS.items():
        if (peers or package in _SHARED) and package not in present:
            print(f"installing {requirement[-1]} ...", flush=True)
            _install(python, requirement, must=False)
    found = _versions(python)
    return python, {name: found[name] for name in (*PEERS, "msgspec") if name in found}


def _install(python: Path, requirement: tuple[str, ...], *, must: bool) -> None:
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirement]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return
    last = (done.stderr.strip().splitlines() or ["no message"])[-1]
    if must:
        raise SystemExit(f"cannot install {' '.join(requirement)}: {last}")
    print(f"  not available here, left out: {requirement[-1]} ({last})", flush=True)


def _versions(python: Path) -> dict[str, str]:
    """Name and version of what is installed beside `python`, names as the registry spells them, with underscores."""
    libraries = list(python.parent.parent.glob("lib*/**/site-packages"))
    if not libraries:
        return {}
    found = distributions(path=[str(path) for path in libraries])
    return {dist.metadata["Name"].lower().replace("-", "_"): dist.version for dist in found}


def machine_facts() -> dict[str, Any]:
    """What a reader needs to judge the figures by: no names and no paths."""
    facts: dict[str, Any] = {
        "date": datetime.now(tz=UTC).date().isoformat(),
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "system": platform.system(),
        "architecture": platform.machine(),
        "processor": _processor(),
        "cores": os.cpu_count(),
    }
    if hasattr(os, "getloadavg"):
        facts["load_average_at_start"] = round(os.getloadavg()[0], 2)
    return facts


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def version_of_openoutcry() -> str:
    """The version of the source tree that the benchmark stands in, which is what is measured."""
    text = (HERE.parent / "src" / "openoutcry" / "version.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__.*"(.+)"', text, re.MULTILINE)
    return found[1] if found else "unknown"
