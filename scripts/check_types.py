"""Check the types: the package by pyright, and what its users write by mypy and pyright, right and wrong.

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
Place = tuple[str, int]
"""The name of a program, and a line in it."""


def main() -> int:
    """Check everything, print what is wrong, and return 1 if anything is."""
    wrong = [f"{name}:{line}: pyright: {said}" for (name, line), said in _pyright(ROOT)]
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
    environment = {**os.environ, "MYPYPATH": str(ROOT / "src"), "PYTHONPATH": str(ROOT / "src")}
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


if __name__ == "__main__":
    sys.exit(main())
