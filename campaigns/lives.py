"""Let firms of agents that remember live and die, and compare what each begins with with what it had handled.

python -m campaigns.lives --seeds 1000
python -m campaigns.lives --seed 4711                   that firm again
python -m campaigns.lives --plant "tombstones ignored"  a bug that must be found
"""

import argparse
import random
import sys
import time
from pathlib import Path
from typing import Final, NamedTuple

from campaigns.bus_plants import Bug, nothing
from campaigns.crash_kit import Life, Step, Tell, Work, forked, journal_name, scratch, stepped, undisturbed
from campaigns.lives_child import live
from campaigns.lives_operator import carry_out
from campaigns.lives_plan import Firm, Plan
from campaigns.lives_plants import PLANTS
from campaigns.lives_truth import Truth
from campaigns.power_loss_truth import Broken

LIVES: Final = 8
STEPS: Final = (
    "started",
    "pub",
    "yes",
    "did",
    "did",
    "dead",
    "saved",
    "saved",
    "dropped",
    "state",
    "flushed",
)
_MOMENTS: Final = (
    ("", (0, 1, 3)),
    ("started", (0, 1, 5, 20)),
    ("started", (20, 60, 120)),
    ("drained", (0, 1)),
)
"""After which word to count, and how many lines."""


class Result(NamedTuple):
    """What the lives of one firm have come to.

    Attributes:
        lives: How many there were.
        kills: How many of them were killed.
        states: How many states were compared.
        failures: How many agents were told why they do not get their memory.
        failure: What is wrong, with the command that runs it again; None for nothing.

    """

    lives: int
    kills: int
    states: int
    failures: int
    failure: str | None


def run_firm(seed: int, lives: int = LIVES, plant: str | None = None, *, trace: bool = False) -> Result:
    """Let one firm live."""
    bug = PLANTS[plant] if plant else nothing
    truth, rng = Truth(), random.Random(seed)  # noqa: S311 - a seed is wanted
    firm = Firm(random.Random(seed + 1), lives)  # noqa: S311 - as above
    done = kills = 0
    failure = None
    with scratch("lives-") as folder:
        try:
            for plan in firm.plans(truth.warned):
                life = _one(folder / journal_name(seed), plan, truth, rng, bug, trace=trace)
                done, kills = done + 1, kills + life.killed
        except Exception as problem:  # noqa: BLE001 - whatever comes out is a finding
            again = f"python -m campaigns.lives --seed {seed} --lives {lives}"
            again += f" --plant {plant!r}" if plant else ""
            failure = f"{type(problem).__name__} in life {done}: {problem}\n    again: {again}"
    return Result(done, kills, truth.states, truth.failures, failure)


def _one(path: Path, plan: Plan, truth: Truth, rng: random.Random, bug: Bug, *, trace: bool) -> Life:
    for order in plan.orders:
        told = undisturbed(lambda tell, order=order: carry_out(path, order, tell, bug)).told  # type: ignore[misc]
        if told[-1:] != [["enough"]]:
            raise Broken(f"{order} failed: {told}")
        truth.ordered(order, was_there=["there"] in told)
    truth.begin(plan)

    def work(tell: Tell) -> None:
        live(path, plan, tell, bug)

    life = _life(work, plan, rng)
    if trace:
        _say(plan, life)
    truth.hear(life.told)
    if not life.killed and ["enough"] not in life.told:
        raise Broken(f"the life ended by itself: {life.told[-2:]}")
    return life


def _say(plan: Plan, life: Life) -> None:
    """Show a life, as it was planned and as it was."""
    sys.stdout.write(f"{plan}\n")
    for words in life.told:
        sys.stdout.write(f"    {' '.join(words)}\n")
    sys.stdout.write("    killed\n" if life.killed else "")


def _life(work: Work, plan: Plan, rng: random.Random) -> Life:
    chance = rng.random()
    if plan.is_last or chance < 0.2:
        return undisturbed(work)
    if chance < 0.6:
        return stepped(work, Step(rng.choice(STEPS), rng.choice((1, 2, 3, 5, 10, 20))))
    after, lines = rng.choice(_MOMENTS)
    return forked(work, rng.choice(lines), rng, after, rng.choice((0.0005, 0.005)))


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=100, help="how many firms (default 100)")
    parser.add_argument("--first", type=int, default=0, help="the first seed (default 0)")
    parser.add_argument("--seed", type=int, help="only this one, and show its lives")
    parser.add_argument("--lives", type=int, default=LIVES, help=f"lives of a firm (default {LIVES})")
    parser.add_argument("--plant", choices=sorted(PLANTS), help="plant this bug: it must be found")
    asked = parser.parse_args()
    seeds = range(asked.first, asked.first + asked.seeds) if asked.seed is None else (asked.seed,)
    began_s, results = time.monotonic(), []
    for seed in seeds:
        results.append(run_firm(seed, asked.lives, asked.plant, trace=asked.seed is not None))
        if (failure := results[-1].failure) is not None:
            sys.stdout.write(f"{failure}\n")
            if sum(result.failure is not None for result in results) == 3 or asked.plant:
                break
    sys.stdout.write(f"{_report(results)} in {time.monotonic() - began_s:.1f} s\n")
    found = any(result.failure is not None for result in results)
    if asked.plant and not found:
        sys.stdout.write(f"the bug {asked.plant!r} was not found\n")
    return int(found != bool(asked.plant))


def _report(results: list[Result]) -> str:
    lives, kills = sum(result.lives for result in results), sum(result.kills for result in results)
    states, refused = sum(result.states for result in results), sum(result.failures for result in results)
    failures = sum(result.failure is not None for result in results)
    return (
        f"{len(results)} firms, {lives} lives, {kills} killed: {states} states compared, {refused} agents "
        f"told why they get none; {failures} failures"
    )


if __name__ == "__main__":
    sys.exit(main())
