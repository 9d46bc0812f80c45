"""Chaotic days, replayed again and again: nobody does otherwise, and what is planted is found.

    python -m campaigns.replay --days 20 --runs 5
    python -m campaigns.replay --plant

A day is traded in a process of its own, in real time: ten strategies, three of which ask a model that is
never twice alike, time-outs of rounds so short that many go on without somebody, calls that fail and are
tried again, an outbox, tasks, ids of their own, memories that are folded or saved. A day has up to three
lives on one journal: after a stop with much unsettled, or a kill in the middle, of which the replay has what
the tape has. Each run is a fresh process with another hash seed around it, and all must say the same.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from campaigns.replay_firm import APP, Plan
from campaigns.replay_plants import LATER_PLANTS, PLANTS
from openoutcry.replay import Replayed, replay

ROUNDS: Final = 40
KINDS: Final = ("killed", "once", "restarted", "killed twice")
"""What a day is like, by its seed."""


class Day(NamedTuple):
    """A recorded day."""

    path: Path
    seed: int
    plans: tuple[Plan, ...]

    @property
    def kind(self) -> str:
        """What the day is like."""
        return KINDS[self.seed % len(KINDS)]


def plans_of(seed: int, rounds: int) -> tuple[Plan, ...]:
    """Return the lives of a day, which has so many rounds or, with several lives, up to twice as many."""
    half = max(4, rounds // 2)
    killed, hasty = Plan(1, rounds, die_at=half), Plan(1, half, stop_s=0.01)
    match KINDS[seed % len(KINDS)]:
        case "once":
            return (Plan(1, rounds),)
        case "killed":
            return killed, Plan(2, half)
        case "restarted":
            return hasty, Plan(2, half), Plan(3, half)
        case _:
            return killed, Plan(2, rounds, die_at=half), Plan(3, half)


def record(folder: Path, seed: int, rounds: int = ROUNDS) -> Day:
    """Trade a day, each of its lives in a process of its own."""
    day = Day(folder / f"day-{seed}.db", seed, plans_of(seed, rounds))
    for plan in day.plans:
        done = subprocess.run(  # noqa: S603 - itself
            [sys.executable, "-m", "campaigns.replay_firm", str(day.path), str(seed), *map(str, plan)],
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        if (done.returncode != 0) != bool(plan.die_at):
            raise AssertionError(
                f"life {plan.life} of seed {seed} ended with {done.returncode}: {done.stderr[-2_000:]}"
            )
    return day


def judge(day: Day, runs: int) -> Replayed:
    """Replay a day, and raise `AssertionError` if anybody does otherwise in any run."""
    found: list[Replayed] = []
    for run in range(runs):
        os.environ["PYTHONHASHSEED"] = str(day.seed * 1_000 + run)
        found.append(replay(day.path, APP))
    first = found[0]
    if not first.identical:
        told = "\n".join(f"life {one.life}: {one.text()}" for one in first.differences[:20])
        raise AssertionError(f"{day.path}: {len(first.differences)} differences\n{told}")
    if any(other != first for other in found):
        raise AssertionError(f"{day.path}: its runs do not say the same")
    ends = [life.ended for life in first.lives]
    if ends != ["died" if plan.die_at else "stopped" for plan in day.plans] or not first.is_complete:
        raise AssertionError(f"{day.path} is {day.kind}, and it says {ends}, {first.limits}")
    return first


def try_days(folder: Path, seeds: range, runs: int, tell: Callable[[str], None]) -> None:
    """Trade and judge days."""
    for seed in seeds:
        began_s = time.monotonic()
        day = record(folder, seed)
        found = judge(day, runs)
        tell(
            f"seed {seed}, {day.kind}: {len(found.lives)} lives, {found.entries_count:,} events, "
            f"{found.replayed.decisions_count:,} decisions, {found.skipped_count:,} skipped: identical in "
            f"{runs} runs ({time.monotonic() - began_s:.1f} s)"
        )


def try_plants(folder: Path, tell: Callable[[str], None], *, lives: Sequence[int] = (1, 2)) -> None:
    """Plant each fault in these lives of a day, and raise `AssertionError` if one is not found and named."""
    day = record(folder, KINDS.index("restarted"), 2 * ROUNDS)
    for life in lives:
        for plant in PLANTS if life == 1 else (*PLANTS, *LATER_PLANTS):
            try:
                found = plant.find(day.path, life)
            except StopIteration:  # no round of that life was decided, on a busy machine
                found = plant.find(day.path, 1)
            kinds = {(one.kind, one.agent) for one in found}
            if not any(kind in plant.kinds and plant.agent in (agent, None) for kind, agent in kinds):
                raise AssertionError(f"{plant.name} was not found in life {life}: {sorted(kinds)}")
            named = next(one for one in found if one.kind in plant.kinds)
            tell(f"life {life}, {plant.name}: {named.text()[:160]}")


def main() -> None:
    """Read the command line, and try."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--days", type=int, default=20, help="how many days; 20 by default")
    parser.add_argument("--runs", type=int, default=5, help="how often each is replayed; 5 by default")
    parser.add_argument("--seed", type=int, default=1, help="the first day's seed; 1 by default")
    parser.add_argument("--plant", action="store_true", help="plant faults, which must be found")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="openoutcry-replay-") as folder:
        if given.plant:
            try_plants(Path(folder), print)
        else:
            try_days(Path(folder), range(given.seed, given.seed + given.days), given.runs, print)


if __name__ == "__main__":
    main()
