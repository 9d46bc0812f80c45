"""Compare the speed of two commits: is any line of a fixed list slower at the head than at the base?

    python benchmarks/guard.py --base 16b65ba               # HEAD against that commit
    python benchmarks/guard.py --base HEAD --worktree       # what is not committed yet against HEAD
    python benchmarks/guard.py --base main --lines "disk|process" --journals /dev/shm
    python benchmarks/guard.py --base HEAD --compiled       # the compiled core against the same source, pure

Each line runs in fresh processes, round by round: base, head, base again, in an order that turns from round to
round. guard_lines.py beside this file measures both commits, so a change of the benchmarks never looks like one of
the bus. Both are checked out into a temporary folder and run as plain source, unless `--compiled` says that the
head's core is to be compiled first: later changes of the working tree do not count.

Of each line it prints the time that the head takes as a share of the base's: the geometric mean over the rounds,
and in each round the base is the mean of its two. Beside it stands the spread: how far from 1 that share comes by
chance, judged by how far the base came from itself (99 % of the time, by Student's t, and at least half a percent).
`slower` and `faster` are beyond the spread. A line that looks slower is measured once more from the start, and the
second time counts.

Exit code: 1 if a line is slower or gives no figure, 2 for what cannot be run.
"""

import argparse
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean, median
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
ROUNDS, ROUNDS_QUICK = 7, 3
SECONDS, SECONDS_QUICK = 0.4, 0.1
SUBJECTS = ("base", "head", "again")
SPREAD_MIN = 0.005
_START_S = 0.2
"""What a process needs beside the measuring, in seconds."""
_LIMIT_S = 60
_T_99 = (63.66, 9.92, 5.84, 4.60, 4.03, 3.71, 3.50, 3.36, 3.25, 3.17, 3.11, 3.05, 3.01, 2.98, 2.95)
"""Student's t for 99 % on both sides, with 1, 2, 3, ... degrees of freedom."""


class GuardError(Exception):
    """The comparison cannot be run; the message says why and what to do."""


class Comparison(NamedTuple):
    """What the rounds of one line say."""

    ratio: float
    """The head's time as a share of the base's."""
    spread: float
    """How far from 1 the ratio comes by chance, as a share."""

    @property
    def verdict(self) -> str:
        if abs(math.log(self.ratio)) <= math.log1p(self.spread):
            return "same"
        return "slower" if self.ratio > 1 else "faster"


@dataclass
class Line:
    """One line's figures, in microseconds, a list per subject with a figure per round; or the reason for none."""

    name: str
    base: list[float] = field(default_factory=list)
    head: list[float] = field(default_factory=list)
    again: list[float] = field(default_factory=list)
    error: str = ""

    def comparison(self) -> Comparison:
        """Return what the rounds say."""
        return compare(self.base, self.head, self.again)

    @property
    def verdict(self) -> str:
        return "failed" if self.error else self.comparison().verdict


def compare(base: Sequence[float], head: Sequence[float], again: Sequence[float]) -> Comparison:
    """Return the geometric mean of head / base over the rounds, and its spread.

    The logarithm of base / again is 0 but for chance, so its mean square is a variance with a degree of freedom per
    round. The head beside the mean of two bases varies a little less than that.
    """
    rounds_count = len(base)
    changes = [
        math.log(new) - (math.log(old) + math.log(same)) / 2
        for old, new, same in zip(base, head, again, strict=True)
    ]
    variance = fmean(math.log(same / old) ** 2 for old, same in zip(base, again, strict=True))
    factor = _T_99[min(rounds_count, len(_T_99)) - 1]
    spread = math.expm1(factor * math.sqrt(variance / rounds_count))
    return Comparison(math.exp(fmean(changes)), max(spread, SPREAD_MIN))


# -- the two commits ------------------------------------------------------------------------------


def resolve(name: str) -> str:
    """Return the full hash of a commit."""
    done = _git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    if done.returncode:
        raise GuardError(
            f"there is no commit {name!r} here; name a hash, a branch or a tag (git log --oneline)"
        )
    return done.stdout.strip()


@contextmanager
def checkouts(base: str, head: str | None, *, compiled: bool = False) -> Iterator[dict[str, Path]]:
    """Give the source folders of the subjects; without a head it is a copy of the working tree's. Removed at the end.

    With `compiled` the head's folder is that of its compiled wheel.
    """
    with tempfile.TemporaryDirectory(prefix="guard-") as name:
        place = Path(name)
        try:
            _check_out(base, place / "base")
            if head is None:
                ignored = shutil.ignore_patterns("__pycache__", "*.so", "*.pyd")
                shutil.copytree(ROOT / "src", place / "head" / "src", ignore=ignored)
            else:
                _check_out(head, place / "head")
            sources = {"base": place / "base" / "src", "head": place / "head" / "src"}
            if compiled:
                sources["head"] = _compile(ROOT if head is None else place / "head", place / "wheel")
            for source in sources.values():
                subprocess.run([sys.executable, "-m", "compileall", "-q", source], check=False)
            yield sources | {"again": sources["base"]}
        finally:
            for folder in ("base", "head"):
                _git("worktree", "remove", "--force", str(place / folder))


def _check_out(commit: str, folder: Path) -> None:
    done = _git("worktree", "add", "--quiet", "--detach", str(folder), commit)
    if done.returncode:
        raise GuardError(f"cannot check out {commit[:10]}: {done.stderr.strip()}")


def _compile(root: Path, folder: Path) -> Path:
    """Return a folder with what the compiled wheel of a checkout holds."""
    print("compiling the head, about a minute ...", flush=True)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--wheel-dir",
        str(folder),
        str(root),
    ]
    environment = {**os.environ, "OPENOUTCRY_COMPILE": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise GuardError(f"the head cannot be compiled:\n{done.stderr.strip()}")
    (wheel,) = folder.iterdir()
    with zipfile.ZipFile(wheel) as file:
        file.extractall(folder / "unpacked")
    return folder / "unpacked"


def _git(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", "-C", ROOT, *arguments], capture_output=True, text=True, check=False)


# -- measuring ------------------------------------------------------------------------------------


class Runner:
    """Runs lines in fresh processes, and shows how far it is."""

    def __init__(self, sources: dict[str, Path], seconds: float, journals: Path | None) -> None:
        self._sources = sources
        self._seconds = seconds
        self._journals = journals

    def names(self) -> list[str]:
        """Return the names of all lines."""
        names: list[str] = json.loads(self._child("head", 0, "--names"))
        return names

    def run(self, names: Sequence[str], rounds_count: int) -> list[Line]:
        """Return the lines after so many rounds; one that fails once is not run again."""
        lines = [Line(name) for name in names]
        for number in range(rounds_count):
            for line in lines:
                self._show(f"round {number + 1}/{rounds_count}: {line.name}")
                for turn in range(len(SUBJECTS)):
                    if not line.error:
                        self._measure(line, SUBJECTS[(number + turn) % len(SUBJECTS)], number)
        self._show("")
        return lines

    def _measure(self, line: Line, subject: str, round_number: int) -> None:
        with tempfile.TemporaryDirectory(prefix="guard-", dir=self._journals) as folder:
            spec = {"line": line.name, "seconds": self._seconds, "folder": folder}
            try:
                figures = json.loads(self._child(subject, round_number, json.dumps(spec)))
            except GuardError as error:
                line.error = f"{subject}: {error}"
                return
        if Path(figures["package"]).is_relative_to(self._sources[subject].resolve()):
            getattr(line, subject).append(figures["us"])
        else:
            line.error = (
                f"{subject}: openoutcry was imported from {figures['package']}, not from its checkout"
            )

    def _child(self, subject: str, round_number: int, argument: str) -> str:
        """Run guard_lines.py on a subject's source; the seed of its hashes is the round's, the same for all."""
        source = str(self._sources[subject])
        environment = {**os.environ, "PYTHONPATH": source, "PYTHONHASHSEED": str(round_number)}
        command = [sys.executable, str(HERE / "guard_lines.py"), argument]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, env=environment, timeout=_LIMIT_S, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise GuardError(f"no result within {_LIMIT_S} s") from error
        if done.returncode:
            raise GuardError((done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1])
        return done.stdout.strip().splitlines()[-1]

    def _show(self, text: str) -> None:
        print(f"\r{text[:99]:<100}", end="\r", file=sys.stderr, flush=True)


# -- the report -----------------------------------------------------------------------------------


def table(lines: Sequence[Line]) -> str:
    """Return a row per line."""
    rows = [f"{'':<36}{'base us':>10}{'head us':>10}{'head/base':>11}{'spread':>10}  verdict"]
    for line in lines:
        if line.error:
            rows.append(f"{line.name:<36}  failed: {line.error}")
            continue
        found = line.comparison()
        rows.append(
            f"{line.name:<36}{median(line.base + line.again):>10.3f}{median(line.head):>10.3f}"
            f"{found.ratio:>11.3f}{found.spread:>9.1%}   {line.verdict}"
        )
    return "\n".join(rows)


def _record(lines: Sequence[Line], base: str, head: str | None) -> str:
    rows = []
    for line in lines:
        found = {} if line.error else line.comparison()._asdict()
        rows.append(asdict(line) | found | {"verdict": line.verdict})
    record = {"base": base, "head": head or "working tree", "python": sys.version.split()[0], "lines": rows}
    return json.dumps(record, indent=1) + "\n"


def _choose(names: Sequence[str], pattern: str) -> list[str]:
    chosen = [name for name in names if re.search(pattern, name)]
    if not chosen:
        raise GuardError(f"no line matches {pattern!r}; there are: {'; '.join(names)}")
    return chosen


def guard(given: argparse.Namespace) -> int:
    """Measure, print, and return the exit code."""
    base = resolve(given.base)
    head = None if given.worktree else resolve(given.head)
    rounds_count = given.rounds or (ROUNDS_QUICK if given.quick else ROUNDS)
    seconds = SECONDS_QUICK if given.quick else SECONDS
    with checkouts(base, head, compiled=given.compiled) as sources:
        runner = Runner(sources, seconds, given.journals)
        names = _choose(runner.names(), given.lines)
        minutes = len(names) * rounds_count * len(SUBJECTS) * (seconds + _START_S) / 60
        print(
            f"base {base[:10]}, head {head[:10] if head else 'working tree'}{', compiled' * given.compiled}: "
            f"{len(names)} lines, "
            f"{rounds_count} rounds of three processes, about {minutes:.1f} minutes",
            flush=True,
        )
        lines = runner.run(names, rounds_count)
        again = [line.name for line in lines if line.verdict == "slower"]
        if again:
            print(f"once more, for these look slower: {'; '.join(again)}", flush=True)
            second = {line.name: line for line in runner.run(again, rounds_count)}
            lines = [second.get(line.name, line) for line in lines]
    print(table(lines))
    if given.json:
        given.json.write_text(_record(lines, base, head), encoding="utf-8")
    return int(any(line.verdict in {"slower", "failed"} for line in lines))


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", required=True, metavar="COMMIT", help="what to compare with")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--head", default="HEAD", metavar="COMMIT", help="what to judge (HEAD)")
    which.add_argument("--worktree", action="store_true", help="judge the working tree's source as it is now")
    parser.add_argument("--compiled", action="store_true", help="compile the head's core first")
    parser.add_argument(
        "--rounds", type=int, help=f"rounds, at least 2 ({ROUNDS}; with --quick {ROUNDS_QUICK})"
    )
    parser.add_argument("--lines", default="", metavar="REGEX", help="only lines whose names match")
    parser.add_argument("--quick", action="store_true", help="shorter and fewer: about a minute, and rougher")
    parser.add_argument("--journals", type=Path, metavar="DIR", help="where journals stand, such as /dev/shm")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure there")
    given = parser.parse_args(arguments)
    if given.rounds is not None and given.rounds < 2:
        parser.error(f"--rounds is {given.rounds}; it must be at least 2")
    if given.journals is not None and not given.journals.is_dir():
        parser.error(f"--journals is {str(given.journals)!r}; it must be a folder that exists")
    try:
        re.compile(given.lines)
    except re.error as error:
        parser.error(f"--lines is {given.lines!r}, which is not a regular expression: {error}")
    return given


def main(arguments: Sequence[str] | None = None) -> int:
    given = _parse(arguments)
    try:
        return guard(given)
    except GuardError as error:
        print(f"guard: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nguard: interrupted; the checkouts are removed", file=sys.stderr)
        return 130


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the checkouts are removed then as well
    sys.exit(main())
