"""Run the simulator over as many seeds as you like, on all CPUs, and go on where the last run has ended.

python -m campaigns.simulate --seeds 1000000
python -m campaigns.simulate --seeds 1000000 --state sims.json     the same; run it again, and it goes on
python -m campaigns.simulate --plant "retries are overtaken"       with a planted bug, which must be found
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

from campaigns.simulate_plants import PLANTS, planted
from openoutcry.errors import ConfigError
from openoutcry.testing.simulator.__main__ import parser_of, run_one, setting_of
from openoutcry.testing.simulator.running import SimulationFailed, run_seed, say

CHUNK: Final = 100
FAILURES_MOST: Final = 10


class Chunk(NamedTuple):
    """Some seeds that were run, and what they have found."""

    first: int
    seeds: int
    found: list[tuple[int, str]]


def run_chunk(first: int, count: int, asked: argparse.Namespace) -> Chunk:
    """Run some seeds one after the other."""
    setting = setting_of(asked)
    found: list[tuple[int, str]] = []
    with planted(asked.plant):
        for number in range(first, first + count):
            try:
                run_seed(number, setting)
            except SimulationFailed as failed:
                found.append((number, str(failed)))
                if len(found) >= FAILURES_MOST:
                    break
    return Chunk(first, count, found)


class Progress:
    """How far a campaign has come, kept in a file between runs.

    Attributes:
        done: The first seeds of the chunks that were run.
        found: What was found, by seed.

    """

    def __init__(self, path: Path | None, terms: str) -> None:
        self._path = path
        self._terms = terms
        self.done: set[int] = set()
        self.found: dict[int, str] = {}
        if path is not None and path.exists():
            self._read(path)

    def _read(self, path: Path) -> None:
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept.get("terms") != self._terms:
            raise ConfigError(
                f"{path} is of a campaign with other terms: {kept.get('terms')!r}; "
                "name another file, or remove it"
            )
        self.done = set(kept["done"])
        self.found = {int(number): text for number, text in kept["found"].items()}

    def add(self, chunk: Chunk) -> None:
        """Note a chunk, and keep it."""
        self.done.add(chunk.first)
        self.found.update(chunk.found)
        if self._path is not None:
            kept = {"terms": self._terms, "done": sorted(self.done), "found": self.found}
            new = self._path.with_suffix(".new")
            new.write_text(json.dumps(kept), encoding="utf-8")
            new.replace(self._path)


def run_all(asked: argparse.Namespace, progress: Progress) -> int:
    """Run the chunks that have not been run yet, and return how many seeds that were."""
    end = asked.first + asked.seeds
    todo: Iterator[int] = (at for at in range(asked.first, end, CHUNK) if at not in progress.done)
    began_s, count = time.monotonic(), 0
    with ProcessPoolExecutor(asked.jobs) as pool:

        def more(some: int) -> set[Future[Chunk]]:
            firsts = islice(todo, some)
            return {pool.submit(run_chunk, at, min(CHUNK, end - at), asked) for at in firsts}

        running = more(2 * asked.jobs)
        while running:
            over, running = wait(running, return_when=FIRST_COMPLETED)
            for future in over:
                chunk = future.result()
                progress.add(chunk)
                count += chunk.seeds
            if len(progress.found) < FAILURES_MOST:
                running |= more(len(over))
            _show(count, len(progress.done) * CHUNK, asked.seeds, began_s, len(progress.found))
    return count


def _show(count: int, done: int, seeds: int, began_s: float, found: int) -> None:
    if sys.stderr.isatty():
        rate = count / max(1e-9, time.monotonic() - began_s)
        left_s = max(0, seeds - done) / rate
        sys.stderr.write(
            f"\r{min(done, seeds)} of {seeds} seeds, {rate:.0f}/s, {left_s:.0f} s left, {found} found "
        )


def main(arguments: list[str] | None = None) -> int:
    """Run the campaign that the command line asks for; return 1 when it has found something."""
    parser = parser_of("python -m campaigns.simulate", __doc__)
    parser.add_argument("--seeds", type=int, default=2000, help="how many (default 2000)")
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: one per CPU)"
    )
    parser.add_argument("--state", type=Path, help="a file that keeps how far the campaign has come")
    parser.add_argument(
        "--plant", choices=list(PLANTS), default="", help="plant a bug, which should be found"
    )
    asked = parser.parse_args(arguments)
    names = ("firm", "faults", "life", "check_every", "no_shuffle", "first", "plant")
    terms = " ".join(f"{name}={getattr(asked, name)}" for name in names)
    try:
        setting = setting_of(asked)
        progress = Progress(asked.state, terms)
    except ConfigError as error:
        say(str(error))
        return 2
    if asked.seed is not None:
        with planted(asked.plant):
            return run_one(asked.seed, setting)
    began_s = time.monotonic()
    count = run_all(asked, progress)
    for _, text in sorted(progress.found.items())[:FAILURES_MOST]:
        say(text + "\n")
    say(f"{count} seeds in {time.monotonic() - began_s:.1f} s: {len(progress.found)} found something")
    return 1 if progress.found else 0


if __name__ == "__main__":
    sys.exit(main())
