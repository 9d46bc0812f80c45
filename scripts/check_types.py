"""Check the types: the package by pyright, and what its users write by mypy and pyright, right and wrong.

Every name that is meant for everyone has a type that no checker has to infer, down to what its types lead to
(`basedpyright --ignoreexternal --verifytypes openoutcry` says what another has not).

The programs in tests/typing are checked as a user's would be, strictly. On a line that ends in `# error` both
checkers must find something, on one with `# error: mypy` or `# error: pyright` that one alone, and nowhere
else may they. The code of docs/types.md is such a program. For pyright stands basedpyright: the same checker,
complete in its wheel.

    python scripts/check_types.py
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
PROGRAMS: Final = ROOT / "tests" / "typing"
PAGE: Final = ROOT / "docs" / "types.md"
CHECKERS: Final = ("mypy", "pyright")
MEANT_FOR_EVERYONE: Final = ("openoutcry", "openoutcry.testing", "openoutcry.journals", "openoutcry.ports")
Place = tuple[str, int]
"""The name of a program, and a line in it."""


def main() -> int:
    """Check everything, print what is wrong, and return 1 if anything is."""
    wrong = [f"{name}:{line}: pyright: {said}" for (name, line), said in _pyright(ROOT)]
    wrong += [
        f"{name}: its type, or one that it leads to, is inferred or unknown"
        for name in sorted(set(_not_known()))
    ]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        shutil.copytree(PROGRAMS, folder, dirs_exist_ok=True)
        (folder / "page.py").write_text(code_of(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
        programs = sorted(folder.glob("*.py"))
        texts = {path.name: path.read_text(encoding="utf-8") for path in programs}
        expected = {(name, line): who for name, text in texts.items() for line, who in expected_in(text)}
        for checker, found in (("mypy", _mypy(programs)), ("pyright", _pyright(folder))):
            wrong += differences(checker, {place for place, who in expected.items() if checker in who}, found)
    print("\n".join(wrong) or f"{len(expected)} errors are found where they are expected, and no others")
    return 1 if wrong else 0


def code_of(page: str) -> str:
    """Return the code of a page of the documentation, every line under its number there."""
    lines, is_code = [], False
    for line in page.splitlines():
        is_fence = line.startswith("```")
        lines.append(line if is_code and not is_fence else "")
        is_code = line == "```python" if is_fence else is_code
    return "\n".join(lines) + "\n"


def expected_in(program: str) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Yield the lines where something is wrong, and which checkers find it."""
    for number, line in enumerate(program.splitlines(), start=1):
        marker = re.search(r"# error(?:: (\w+))?$", line)
        if marker:
            yield number, CHECKERS if marker[1] is None else (marker[1],)


def differences(checker: str, expected: set[Place], found: Iterable[tuple[Place, str]]) -> list[str]:
    """Return what a checker has found and should not have, and the other way round, in words."""
    said = dict(found)
    return [
        *(f"{name}:{line}: {checker}: {said[name, line]}" for name, line in sorted(said.keys() - expected)),
        *(f"{name}:{line}: {checker} finds nothing wrong" for name, line in sorted(expected - said.keys())),
    ]


def _run(folder: Path, *command: str) -> str:
    paths = {"MYPYPATH": str(ROOT / "src"), "PYTHONPATH": str(ROOT / "src")}
    # To verify types pyright takes the first interpreter on the PATH, whichever it is told to take.
    paths["PATH"] = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    environment = {**os.environ, **paths}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1):
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def _mypy(programs: list[Path]) -> Iterator[tuple[Place, str]]:
    options = ("--strict", "--config-file=", "--cache-dir=" + os.devnull, "--no-error-summary")
    names = (path.name for path in programs)
    for line in _run(programs[0].parent, sys.executable, "-m", "mypy", *options, *names).splitlines():
        found = re.match(r"(.+?):(\d+): error: (.*)", line)
        if found:
            yield (found[1], int(found[2])), found[3]


def _pyright(project: Path) -> Iterator[tuple[Place, str]]:
    options = ("--project", str(project), "--pythonpath", sys.executable, "--outputjson")
    report = json.loads(_run(project, sys.executable, "-m", "basedpyright", *options))
    for one in report["generalDiagnostics"]:
        if one["severity"] == "error":
            path, line = Path(one["file"]), one["range"]["start"]["line"] + 1
            yield (str(path.relative_to(project.resolve())), line), one["message"].partition("\n")[0]


def _not_known() -> Iterator[str]:
    options = ("--ignoreexternal", "--verifytypes", "openoutcry", "--outputjson")
    report = json.loads(_run(ROOT, sys.executable, "-m", "basedpyright", *options))
    symbols = report["typeCompleteness"]["symbols"]
    if not symbols:
        raise SystemExit(f"pyright has not looked at openoutcry: {report['generalDiagnostics']}")
    for symbol in symbols:
        for name in (symbol["name"], *symbol.get("alternateNames", ())):
            if name.rpartition(".")[0] in MEANT_FOR_EVERYONE and not symbol["isTypeKnown"]:
                yield name


if __name__ == "__main__":
    sys.exit(main())
