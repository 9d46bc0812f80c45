"""Cut the power in the middle of a journal's work, thousands of times, and see that it has kept its word.

python -m campaigns.power_loss --seeds 100000
python -m campaigns.power_loss --seeds 10000 --sealed                        of a journal with a key
python -m campaigns.power_loss --seed 4711                                  one of them again
python -m campaigns.power_loss --plant "a failed sync tried again"          with a planted bug
"""

import argparse
import os
import shutil
import sys
import time
import traceback
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from campaigns.crash_kit import scratch
from campaigns.power_loss_plants import HONEST, PLANTS, Plant
from campaigns.power_loss_seed import Seed

_CHUNK: Final = 200


class Failure(NamedTuple):
    """A seed that has found something."""

    seed: int
    what: str
    lived: list[str]
    is_sealed: bool = False

    def command(self) -> str:
        """Return the command that runs it again."""
        return f"python -m campaigns.power_loss --seed {self.seed}{' --sealed' if self.is_sealed else ''}"


def run_seed(number: int, folder: Path, plant: Plant = HONEST, *, is_sealed: bool = False) -> Failure | None:
    """Run one seed, and return what it has found."""
    here = folder / f"seed{number}"
    here.mkdir()
    seed = Seed(number, here, plant, is_sealed=is_sealed)
    try:
        seed.run()
    except Exception as problem:  # noqa: BLE001 - whatever comes out of the journal is a finding
        where = "".join(traceback.format_exception(problem)[-3:])
        return Failure(number, f"{type(problem).__name__}: {problem}\n{where}", seed.lived, is_sealed)
    finally:
        shutil.rmtree(here)
    return None


def run_seeds(
    first: int, count: int, plant: Plant = HONEST, *, failures_max: int = 10, is_sealed: bool = False
) -> list[Failure]:
    """Run some seeds one after the other, until enough have found something."""
    found: list[Failure] = []
    with scratch("power-loss-") as folder:
        for number in range(first, first + count):
            failure = run_seed(number, folder, plant, is_sealed=is_sealed)
            if failure is not None:
                found.append(failure)
                if len(found) >= failures_max:
                    break
    return found


def main(arguments: list[str] | None = None) -> int:
    """Run the campaign that the command line asks for; return 1 when it has found something."""
    parser = argparse.ArgumentParser(prog="python -m campaigns.power_loss", description=__doc__)
    parser.add_argument("--seeds", type=int, default=2000, help="how many (default 2000)")
    parser.add_argument("--first", type=int, default=0, help="the first of them (default 0)")
    parser.add_argument("--seed", type=int, help="only this one")
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: one per CPU)"
    )
    parser.add_argument("--sealed", action="store_true", help="a journal with a key, so with seals")
    parser.add_argument("--plant", choices=list(PLANTS), help="plant a bug, which should be found")
    asked = parser.parse_args(arguments)
    plant = PLANTS[asked.plant] if asked.plant else HONEST
    if asked.seed is not None:
        return _tell(run_seeds(asked.seed, 1, plant, is_sealed=asked.sealed), 1, 0.0)
    started = time.monotonic()
    found: list[Failure] = []
    with ProcessPoolExecutor(asked.jobs) as pool:
        chunks = range(asked.first, asked.first + asked.seeds, _CHUNK)
        end = asked.first + asked.seeds
        run = partial(run_seeds, plant=plant, is_sealed=asked.sealed)
        running = [pool.submit(run, at, min(_CHUNK, end - at)) for at in chunks]
        for number, chunk in enumerate(as_completed(running), 1):
            found += chunk.result()
            if sys.stderr.isatty():
                sys.stderr.write(f"\r{min(number * _CHUNK, asked.seeds)} seeds, {len(found)} failures")
    return _tell(found, asked.seeds, time.monotonic() - started)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")


def _tell(found: list[Failure], seeds: int, took_s: float) -> int:
    for failure in sorted(found)[:10]:
        _say(f"seed {failure.seed}: {failure.what}")
        for line in failure.lived:
            _say(f"    {line}")
        _say(f"    again: {failure.command()}\n")
    _say(f"{seeds} seeds in {took_s:.1f} s: {len(found)} failures")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
