"""Give bad input to what takes input from outside, guided by the lines that it reaches.

python -m campaigns.fuzz --target payloads --seconds 60      or config, cli, journal
python -m campaigns.fuzz --target journal --input 00010203   one input again, in hex

With atheris installed (pip install atheris; libFuzzer for Python), that does the guiding, by branches;
without it, a loop of our own, by lines. --engine says which.
"""

import argparse
import importlib
import importlib.util
import random
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any, Final

from campaigns.fuzz_guide import INPUT_BYTES_MOST, Lines, minimised, mutated

TARGETS: Final = ("payloads", "config", "cli", "journal")
_SECONDS: Final = 60.0


def say(line: str) -> None:
    """Write a line for whoever runs this by hand."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def target_of(name: str) -> Any:
    """Return a target, importing what it is tried on."""
    module = {"cli": "fuzz_cli", "journal": "fuzz_journal"}.get(name, "fuzz_targets")
    return getattr(importlib.import_module(f"campaigns.{module}"), name.upper())


def fault_of(target: Any, data: bytes) -> str:
    """Return what an input finds, as the kind of exception and where it was raised; "" for nothing."""
    try:
        target.run(data)
    except Exception as problem:  # noqa: BLE001 - any that gets here is a finding
        root = problem.__cause__ or problem
        last = traceback.extract_tb(root.__traceback__)[-1]
        return f"{type(root).__name__} at {Path(last.filename).name}:{last.lineno}"
    return ""


def report(name: str, data: bytes) -> int:
    """Make a failing input short, show what it does, and how to run it again."""
    target = target_of(name)
    fault = fault_of(target, data)
    if not fault:
        say(f"failed, and did not fail again: --target {name} --input {data.hex()}")
        return 1
    short = minimised(data, lambda some: fault_of(target, some) == fault)
    say(f"FOUND: {fault}\n  input: {short!r}"[:2_000])
    try:
        target.run(short)
    except Exception:  # noqa: BLE001 - this is what is shown
        traceback.print_exc(file=sys.stdout)
    say(f"again: python -m campaigns.fuzz --target {name} --input {short.hex()}")
    return 1


def run_own(asked: argparse.Namespace) -> int:
    """Fuzz by lines, in this process."""
    target = target_of(asked.target)
    lines, rng = Lines(target.packages), random.Random(asked.seed)  # noqa: S311 - nothing secret
    corpus: list[bytes] = []
    todo = list(target.seeds())[::-1]
    end_s, tried = time.monotonic() + asked.seconds, 0
    while todo or time.monotonic() < end_s:
        data = todo.pop() if todo else mutated(rng.choice(corpus), corpus, target.words, rng)
        before, seeding = lines.reached, bool(todo) or not corpus
        try:
            lines.watch(target.run, data)
        except Exception:  # noqa: BLE001 - any that gets here is a finding
            return report(asked.target, data)
        tried += 1
        if lines.reached > before or seeding:
            corpus.append(data)
    say(
        f"{asked.target}: {tried:,} inputs by lines, seed {asked.seed}: {lines.reached:,} lines reached, "
        f"{len(corpus)} inputs kept, nothing found"
    )
    return 0


def run_atheris(asked: argparse.Namespace) -> int:
    """Fuzz by branches, in a process that libFuzzer ends; the corpus is in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="openoutcry-corpus-") as folder:
        corpus, found = Path(folder, "corpus"), Path(folder, "found")
        corpus.mkdir()
        for number, data in enumerate(target_of(asked.target).seeds()):
            (corpus / f"seed-{number}").write_bytes(data)
        command = [
            *(sys.executable, "-m", "campaigns.fuzz_atheris", asked.target, str(found), str(corpus)),
            *(f"-max_total_time={max(1, round(asked.seconds))}", f"-seed={asked.seed or 1}"),
            *(f"-max_len={INPUT_BYTES_MOST}", "-verbosity=1", "-timeout=60", f"-artifact_prefix={folder}/"),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own
        if found.exists():
            return report(asked.target, found.read_bytes())
        hung = [*Path(folder).glob("timeout-*"), *Path(folder).glob("crash-*")]
        if hung or done.returncode:
            say(done.stderr[-3_000:])
            again = f": --target {asked.target} --input {hung[0].read_bytes().hex()}" if hung else ""
            say(f"the process ended with {done.returncode}{again}")
            return 1
        kept = len(list(corpus.iterdir()))
    last = [line for line in done.stderr.splitlines() if line.startswith(("Done", "#"))]
    covered = (
        next((word for word in reversed(last) if "cov:" in word), "").partition("cov: ")[2].split(" ")[0]
    )
    tried = int(last[-1].split()[1]) if last else 0
    say(
        f"{asked.target}: {tried:,} inputs by atheris, seed {asked.seed}: {covered} branches reached, "
        f"{kept} inputs kept, nothing found"
    )
    return 0


def main() -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(
        prog="python -m campaigns.fuzz", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--target", choices=TARGETS, required=True, help="what the input is given to")
    parser.add_argument("--seconds", type=float, default=_SECONDS, help="for how long (60)")
    parser.add_argument("--seed", type=int, default=1, help="of the random numbers (1)")
    parser.add_argument("--engine", choices=("auto", "atheris", "own"), default="auto", help="what guides")
    parser.add_argument("--input", metavar="HEX", help="run this input alone")
    asked = parser.parse_args()
    if asked.input is not None:
        data = bytes.fromhex(asked.input)
        if fault_of(target_of(asked.target), data):
            return report(asked.target, data)
        say("nothing found")
        return 0
    there = importlib.util.find_spec("atheris") is not None
    if asked.engine == "atheris" and not there:
        parser.error("atheris is not installed: pip install atheris, or --engine own")
    return run_own(asked) if asked.engine == "own" or not there else run_atheris(asked)


if __name__ == "__main__":
    sys.exit(main())
