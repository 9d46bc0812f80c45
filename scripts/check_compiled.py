"""Build the compiled wheel, install it beside nothing of this checkout, and see that it keeps the contract.

    python scripts/check_compiled.py [PYTHON ...]

For each of the Pythons (this one, if none is named): the wheel has its platform's tag and every compiled
module, `openoutcry doctor` says that it is compiled, and the tests in `TESTS`, the demonstration and small
campaigns pass with it. With the first also what is said where there is no compiler. It needs an index, a C
compiler and Python's headers; a Python without headers is left out, and a line says so. Ends with 1 at what
is wrong. Takes two minutes for each Python on an idle machine.
"""

import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from pathlib import Path
from typing import Final

from apart import run, wrong

ROOT: Final = Path(__file__).resolve().parent.parent
COPIED: Final = ("campaigns", "tests", "examples", "docs")
TOOLS: Final = ("apsw>=3.46", "attrs>=23", "hypothesis>=6.100", "numpy>=1.26", "pydantic>=2.7", "pytest>=8.2")
TESTS: Final = (
    "tests/core/test_barrier.py",
    "tests/core/test_lanes.py",
    "tests/core/test_mailbox.py",
    "tests/core/test_overflow.py",
    "tests/core/test_round_again.py",
    "tests/runtime/test_backpressure.py",
    "tests/runtime/test_bad_handlers.py",
    "tests/runtime/test_blocking.py",
    "tests/runtime/test_delivery.py",
    "tests/runtime/test_durable_recovery.py",
    "tests/runtime/test_kill_switch.py",
    "tests/runtime/test_ordering.py",
    "tests/runtime/test_ownership.py",
    "tests/runtime/test_retries.py",
    "tests/runtime/test_signal_barrier.py",
    "tests/runtime/test_tape.py",
    "tests/runtime/test_timeouts.py",
    "tests/runtime/test_unheard.py",
)
"""What is run of the tests: those of the promises that the compiled modules keep."""
CAMPAIGNS: Final = (
    ("simulate", "--seeds", "200"),
    ("power_loss", "--seeds", "100"),
    ("journal_kills", "--kills", "20"),
    ("lives", "--seeds", "2"),
    ("replay", "--days", "1", "--runs", "1"),
)


def main() -> None:
    """Check with each Python."""
    pythons = sys.argv[1:] or [sys.executable]
    usable = [python for python in pythons if has_headers(python)]
    if not usable:
        print("not checked: no Python here has its headers (Debian: apt-get install python3-dev)", flush=True)
    for number, python in enumerate(usable):
        with tempfile.TemporaryDirectory(prefix="openoutcry-compiled-") as folder:
            check(python, Path(folder), is_first=not number)


def has_headers(python: str) -> bool:
    """Return True if extension modules can be built for a Python."""
    found = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('include'))"],
        capture_output=True,
        text=True,
        check=True,
    )
    if Path(found.stdout.strip(), "Python.h").is_file():
        return True
    print(f"left out: {python} has no headers; Debian has them in python3-dev", flush=True)
    return False


def check(python: str, folder: Path, *, is_first: bool) -> None:
    """Build, look, install and use."""
    run(python, "-m", "venv", folder / "venv")
    own = folder / "venv" / "bin" / "python"
    if is_first:
        check_refusal(own, folder)
    wheel = build(own, folder / "dist")
    modules = check_wheel(wheel)
    run(own, "-m", "pip", "install", "-q", "--prefer-binary", wheel, *TOOLS)
    check_doctor(own, len(modules))
    for name in COPIED:
        shutil.copytree(ROOT / name, folder / "use" / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder / "use")
    use(own, folder / "use")


def check_refusal(python: Path, folder: Path) -> None:
    """See that a build that cannot compile says what is missing, and makes nothing."""
    said = run(
        *(python, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", folder / "none", ROOT),
        more={"OPENOUTCRY_COMPILE": "1", "CC": "/nowhere/cc"},
        fails=True,
    )
    if "there is no C compiler that works (/nowhere/cc)" not in said or any(folder.rglob("*.whl")):
        wrong(f"without a compiler it is not said what to install:\n{said}")


def build(python: Path, folder: Path) -> Path:
    """Return the compiled wheel."""
    run(
        *(python, "-m", "pip", "wheel", "-q", "--no-deps", "--wheel-dir", folder, ROOT),
        more={"OPENOUTCRY_COMPILE": "1"},
    )
    (wheel,) = folder.iterdir()
    return wheel


def check_wheel(wheel: Path) -> list[str]:
    """See that a wheel is for one platform and has every module, and return these."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        hatch = tomllib.load(file)["tool"]["hatch"]
    modules: list[str] = hatch["build"]["targets"]["wheel"]["hooks"]["custom"]["modules"]
    names = zipfile.ZipFile(wheel).namelist()
    if wheel.stem.endswith("-any"):
        wrong(f"{wheel.name} says that it is for any platform")
    for module in (*modules, "openoutcry.compiled__mypyc"):
        path = module.replace(".", "/")
        if sum(name.startswith(f"{path}.") and not name.endswith(".py") for name in names) != 1:
            wrong(f"{wheel.name} has no compiled {module}")
    print(f"ok {wheel.name}: {len(modules)} compiled modules, {wheel.stat().st_size:,} bytes", flush=True)
    return modules


def check_doctor(python: Path, count: int) -> None:
    """See that the doctor says what runs."""
    said = run(python, "-m", "openoutcry", "doctor")
    if f"compiled ({count} modules)" not in said:
        wrong(f"the doctor does not say that {count} modules are compiled:\n{said}")


def use(python: Path, folder: Path) -> None:
    """Run the tests, the demonstration and the campaigns in a folder that has no source."""
    basetemp = f"--basetemp={folder.parent / 'tests'}"
    run(python, "-m", "pytest", "-p", "no:cacheprovider", basetemp, *TESTS, cwd=folder)
    run(python, "-m", "openoutcry", "demo", "--days", "30", cwd=folder)
    for name, *options in CAMPAIGNS:
        run(python, "-m", f"campaigns.{name}", *options, cwd=folder)


if __name__ == "__main__":
    main()
