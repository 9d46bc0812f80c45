"""Build the sdist and, from it, the wheel; check both; install them without a network, and use every verb.

    python scripts/check_wheel.py [--keep FOLDER]

Only the first half needs an index: for what builds and checks, and for a folder of wheels of the
dependencies. Then it is `pip install --no-index` into fresh environments: of the core, and of all extras.
Ends with 1 at what is wrong. Takes a minute and a half on an idle machine.
"""

import argparse
import sys
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path
from typing import Final

from apart import run, wrong

ROOT: Final = Path(__file__).resolve().parent.parent
TOOLS: Final = ("build>=1.2", "twine>=6", "hatchling>=1.27")
EXTRAS: Final = ("arrow", "cli", "mcp", "nats", "page", "speed")
IN_WHEEL: Final = (
    "openoutcry/py.typed",
    "openoutcry/version.py",
    "openoutcry/firm/data/bars.csv.gz",
    "openoutcry/firm/data/PROVENANCE.md",
    "openoutcry/dashboard/static/index.html",
)
VENDOR: Final = "src/openoutcry/dashboard/static/vendor"
IN_INFO: Final = (
    "METADATA",
    "WHEEL",
    "RECORD",
    "entry_points.txt",
    "licenses/LICENSE",
    f"licenses/{VENDOR}/htm.LICENSE",
    f"licenses/{VENDOR}/preact.LICENSE",
)
ENTRY_POINTS: Final = ("openoutcry = openoutcry.cli:main", "openoutcry = openoutcry.testing.plugin")
IN_SDIST: Final = (
    "LICENSE",
    "README.md",
    "CHANGELOG.md",
    "pyproject.toml",
    "demo",
    "test",
    "scripts/every_verb.py",
)
TESTED: Final = ("tests/test_docs.py", "tests/test_events.py", "tests/core/test_lanes.py")
"""What is run of the unpacked sdist's tests; all of them are collected."""
WHEEL_BYTES_MAX: Final = 2_000_000


def main() -> None:
    """Do all of it, in a folder that is removed unless it was named."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="an empty folder to work in, which stays")
    keep = parser.parse_args().keep
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        check(keep.resolve())
        return
    with tempfile.TemporaryDirectory(prefix="openoutcry-wheel-") as folder:
        check(Path(folder))


def check(folder: Path) -> None:
    """Build, look, install and use."""
    wheel, sdist = build(folder)
    check_wheel(wheel)
    unpacked = check_sdist(sdist, folder / "unpacked")
    wheels = collect(wheel, folder / "wheels")
    for extras in ("", ",".join(EXTRAS)):
        python = installed(folder / f"with-{extras or 'nothing'}", wheels, extras)
        use(python, folder / f"firm-{extras or 'nothing'}")
    use_tests(unpacked)


def build(folder: Path) -> tuple[Path, Path]:
    """Return the wheel and the sdist that it was built from."""
    python = environment(folder / "tools")
    run(python, "-m", "pip", "install", "-q", *TOOLS)
    run(python, "-m", "build", "--no-isolation", "--outdir", folder / "dist", ROOT)
    made = sorted((folder / "dist").iterdir())
    if [path.name.rpartition(".")[2] for path in made] != ["whl", "gz"]:
        wrong(f"these were built: {made}")
    run(python, "-m", "twine", "check", "--strict", *made)
    return made[0], made[1]


def check_wheel(wheel: Path) -> None:
    """See that a wheel has what it should have, and nothing else."""
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
        info = next(name for name in names if name.endswith(".dist-info/METADATA")).rpartition("/")[0]
        entry_points = file.read(f"{info}/entry_points.txt").decode()
    source = {
        path.relative_to(ROOT / "src").as_posix()
        for path in (ROOT / "src" / "openoutcry").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    expected = source | {f"{info}/{name}" for name in IN_INFO}
    if missing := (expected | set(IN_WHEEL)) - names:
        wrong(f"the wheel lacks {sorted(missing)}")
    if more := names - expected:
        wrong(f"the wheel has what it should not have: {sorted(more)}")
    if lacking := [line for line in ENTRY_POINTS if line not in entry_points]:
        wrong(f"the wheel has no entry points {lacking}")
    if not wheel.name.endswith("-py3-none-any.whl"):
        wrong(f"{wheel.name} is not for every Python 3 and platform, though nobody asked for a compiled core")
    if wheel.stat().st_size > WHEEL_BYTES_MAX:
        wrong(f"the wheel has {wheel.stat().st_size:,} bytes, at most {WHEEL_BYTES_MAX:,}")
    print(f"ok {wheel.name}: {len(names)} files, {wheel.stat().st_size:,} bytes", flush=True)


def check_sdist(sdist: Path, folder: Path) -> Path:
    """See that an sdist has what it should have, and return where it was unpacked."""
    with tarfile.open(sdist) as file:
        file.extractall(folder, filter="data")
    (top,) = folder.iterdir()
    tests = {path.relative_to(ROOT) for path in (ROOT / "tests").rglob("*.py")}
    if missing := [name for name in (*map(Path, IN_SDIST), *tests) if not (top / name).is_file()]:
        wrong(f"the sdist lacks {missing}")
    if more := [name for name in (".git", ".venv", "out", "dist") if (top / name).exists()]:
        wrong(f"the sdist has what it should not have: {more}")
    print(f"ok {sdist.name}: {sdist.stat().st_size:,} bytes", flush=True)
    return top


def collect(wheel: Path, folder: Path) -> Path:
    """Return a folder with the wheel and those of everything that it needs, extras included."""
    needed = f"openoutcry[{','.join(EXTRAS)}] @ {wheel.as_uri()}"
    pip = (Path(sys.executable), "-m", "pip")
    run(*pip, "wheel", "-q", "--prefer-binary", "--wheel-dir", folder, needed)  # nkeys comes as a sdist alone
    return folder


def installed(folder: Path, wheels: Path, extras: str) -> Path:
    """Return the Python of a fresh environment in which the wheel was installed from the folder alone."""
    python = environment(folder)
    wanted = f"openoutcry[{extras}]" if extras else "openoutcry"
    run(python, "-m", "pip", "install", "-q", "--no-index", "--find-links", wheels, wanted)
    run(python, "-m", "pip", "check")
    return python


def use(python: Path, folder: Path) -> None:
    """Use every verb in an empty folder, and follow the tutorial."""
    folder.mkdir()
    run(python, ROOT / "scripts" / "every_verb.py", folder, cwd=folder)
    tutorial = ROOT / "scripts" / "tutorial.py"
    if tutorial.is_file():
        place = folder / "tutorial"
        place.mkdir()
        run(python, tutorial, place, cwd=place)


def use_tests(unpacked: Path) -> None:
    """Collect the tests of an unpacked sdist and run some, with the tools of this environment."""
    own = {"PYTHONPATH": str(unpacked / "src")}
    pytest = (Path(sys.executable), "-m", "pytest", "-p", "no:cacheprovider")
    run(*pytest, "--collect-only", "-qq", cwd=unpacked, more=own)
    run(*pytest, *TESTED, cwd=unpacked, more=own)


def environment(folder: Path) -> Path:
    """Make a virtual environment, and return its Python."""
    venv.create(folder, with_pip=True)
    return folder / "bin" / "python"


if __name__ == "__main__":
    main()
