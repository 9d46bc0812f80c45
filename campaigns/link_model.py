"""Run the model of a firm on several desks over many seeds: nothing missing, out of order, or held by two.

python -m campaigns.link_model --seeds 10000
python -m campaigns.link_model --seed 7 --trace                the whole trace of one
python -m campaigns.link_model --plant all                     planted defects, which must be found
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from typing import Final, NamedTuple

from campaigns.link_plants import PLANTS, planted
from campaigns.link_world import World

CHUNK: Final = 10
FOUND_MOST: Final = 5
PLANT_SEEDS: Final = 600
"""A planted defect must be found within so many seeds."""
ONCE_FOUND: Final = (
    *(23, 29, 38, 45, 94, 95, 143, 175, 178, 191, 197, 208, 270, 285, 517, 559),
    *(1038, 1315, 2319, 3386, 3888, 4347, 5601, 5893, 5910, 7282, 9755, 10298, 10378),
)
"""Seeds that have found a defect: they are run each time, before the others."""


class Failure(NamedTuple):
    """A seed that has found something."""

    seed: int
    found: list[str]


def run_seed(number: int, plant: str | None = None) -> list[str]:
    """Run a seed, and return what it has found."""
    with planted(plant) if plant is not None else nullcontext():
        return World(number).run()


def run_chunk(numbers: Sequence[int], plant: str | None) -> list[Failure]:
    """Run some seeds one after the other; stop when enough was found."""
    failures = []
    for number in numbers:
        try:
            found = run_seed(number, plant)
        except Exception as error:  # noqa: BLE001 - whatever a bus raises, the seed is told
            found = [f"{type(error).__name__}: {error}"]
        if found and plant is not None and run_seed(number):
            continue  # it has found something that was not planted
        if found:
            failures.append(Failure(number, found))
            if plant is not None or len(failures) >= FOUND_MOST:
                break
    return failures


def run_seeds(numbers: Sequence[int], workers: int) -> list[Failure]:
    """Run many seeds on several CPUs, and tell of each that has found something."""
    failures: list[Failure] = []
    began_s = time.monotonic()
    with ProcessPoolExecutor(workers) as pool:
        chunks = [
            pool.submit(run_chunk, numbers[start : start + CHUNK], None)
            for start in range(0, len(numbers), CHUNK)
        ]
        for number, chunk in enumerate(chunks, 1):
            for failure in chunk.result():
                failures.append(failure)
                say(f"seed {failure.seed}: {'; '.join(failure.found)}")
            if not number % 50:
                say(f"{min(number * CHUNK, len(numbers))} seeds, {time.monotonic() - began_s:.0f} s")
            if len(failures) >= FOUND_MOST:
                pool.shutdown(cancel_futures=True)
                break
    return failures


def find_plants(names: list[str], first: int, count: int) -> list[str]:
    """Run seeds with each planted defect, and return those that were not found."""
    missed = []
    for name in names:
        failures = run_chunk(range(first, first + count), name)
        if failures:
            say(f"{name}: found by seed {failures[0].seed}: {failures[0].found[0]}")
        else:
            missed.append(name)
            say(f"{name}: NOT FOUND in {count} seeds")
    return missed


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def show(number: int) -> int:
    """Run one seed with its whole trace."""
    world = World(number, keep_trace=True)
    try:
        found = world.run()
    finally:
        say("\n".join(world.trace.lines))
    say("\n".join(found) or "nothing was found")
    return bool(found)


def main() -> int:
    """Run what was asked for; 1 if something was found, or a planted defect was not."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=1_000, help="how many seeds")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seed", type=int, help="this one alone")
    parser.add_argument("--trace", action="store_true", help="with its whole trace")
    parser.add_argument("--plant", choices=[*PLANTS, "all"], help="a planted defect, which must be found")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="on how many CPUs")
    asked = parser.parse_args()
    if asked.seed is not None and asked.trace:
        return show(asked.seed)
    if asked.plant is not None:
        names = list(PLANTS) if asked.plant == "all" else [asked.plant]
        return bool(find_plants(names, asked.first, PLANT_SEEDS))
    wanted = range(asked.first, asked.first + asked.seeds) if asked.seed is None else [asked.seed]
    before = [number for number in ONCE_FOUND if number not in wanted and asked.seed is None]
    numbers = [*before, *wanted]
    failures = run_seeds(numbers, asked.workers)
    say(f"{len(numbers)} seeds, {len(failures)} with findings")
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
