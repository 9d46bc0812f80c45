"""Kill a process with a bus under load, thousands of times, and see that nothing accepted is lost.

python -m campaigns.bus_kills --kills 10000
python -m campaigns.bus_kills --kills 10000 --strace 1000     as many of them at chosen system calls
python -m campaigns.bus_kills --seed 4711                     the file of that seed again
"""

import argparse
import random
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Final

from campaigns.bus_child import SLICE, SMALL_BATCH, SMALL_UNSAVED, live
from campaigns.bus_load import Plan
from campaigns.bus_plants import PLANTS, Bug, nothing
from campaigns.bus_truth import Truth
from campaigns.crash_kit import (
    SYSTEM_CALLS,
    Life,
    Step,
    Work,
    forked,
    has_strace,
    journal_name,
    scratch,
    stepped,
    traced,
    undisturbed,
)
from campaigns.power_loss_truth import Broken
from openoutcry.runtime.delivery.offsets import UNSAVED_MOST
from openoutcry.runtime.delivery.worker import BATCH_MOST

KILLS_PER_FILE: Final = 25
AGAIN_MOST: Final = 20
STEPS: Final = ("opened", "started", "offer", "yes", "<", ">", "dead", "leaving", "stopping")
_MOMENTS: Final = (
    ("", (0, 1, 2, 3), 0.0005),  # opening and recovering
    ("started", (0, 1, 10, 50), 0.0005),  # recovering, and the first commits
    ("started", (50, 200, 500, 1200), 0.001),  # under load
    ("started", (0, 10), 0.015),
    ("stopping", (0, 1, 10), 0.002),
)
"""After which word to count, how many lines, and the mean time after them in seconds."""


class Campaign:
    """The lives of one file.

    Attributes:
        kills: How many were killed.
        truth: What was found.

    """

    def __init__(self, seed: int, folder: Path, *, strace: int = 0, plant: Bug = nothing) -> None:
        self._rng = random.Random(seed)  # noqa: S311 - a seed is wanted
        self._path = folder / journal_name(seed)
        self._strace = strace
        self._plant = plant
        self._small = seed % 2 == 0
        limits = (SMALL_UNSAVED, SMALL_BATCH) if self._small else (UNSAVED_MOST, BATCH_MOST)
        self.truth = Truth(sum(limits) + SLICE)
        self.kills = 0

    def run(self, kills: int = KILLS_PER_FILE) -> None:
        """Kill so many lives, look at the file after most, and let a last one finish. Raises `Broken`."""
        for number in range(kills):
            work = self._work()
            life = self._traced(work) if number < self._strace else self._forked(work)
            self.kills += life.killed
            self._hear(life)
            if self._rng.random() < 0.7:  # else the next life finds what this one left
                self.truth.audit(self._path, verify=self._rng.random() < 0.2)
        life = undisturbed(self._work(is_last=True))
        self._hear(life)
        self.truth.audit_end(self._path)

    def _hear(self, life: Life) -> None:
        self.truth.told.hear(life)
        if not life.killed and ["enough"] not in life.told:
            raise Broken(f"the child ended by itself: {life.told[-1:]}")

    def _work(self, *, is_last: bool = False) -> Work:
        told = self.truth.told
        again = tuple(event_id for event_id in told.unknown if event_id[-1] != "s")[-AGAIN_MOST:]
        slow_disk = self._rng.random() < 0.15
        if slow_disk:
            self.truth.slow.add(told.life)
        seed = self._rng.getrandbits(32)
        plan = Plan(told.life, seed, again, is_last, self._small, slow_disk, self._plant)
        return lambda tell: live(self._path, plan, tell)

    def _forked(self, work: Work) -> Life:
        if self._rng.random() < 0.3:
            return stepped(work, Step(self._rng.choice(STEPS), self._rng.choice((1, 2, 5, 20, 100))))
        after, lines, mean_s = self._rng.choice(_MOMENTS)
        return forked(work, self._rng.choice(lines), self._rng, after, mean_s)

    def _traced(self, work: Work) -> Life:
        when = self._rng.randint(1, self._rng.choice((3, 30, 300)))
        return traced(work, self._rng.choice(SYSTEM_CALLS), when)


class Result:
    """What the lives of one file have come to.

    Attributes:
        kills: How many there were.
        failure: What is wrong, with the command that runs it again; None for nothing.
        accepted: How many publishes had returned True.
        worst: The most events that a subscription has handled again after a crash.
        worst_slow: The same after a crash of a life with a slow disk.
        reasons: How many events were given up, by reason.

    """

    def __init__(self, campaign: Campaign, failure: str | None) -> None:
        self.kills = campaign.kills
        self.failure = failure
        self.accepted = len(campaign.truth.told.accepted)
        self.worst = campaign.truth.worst
        self.worst_slow = campaign.truth.worst_slow
        self.reasons = campaign.truth.told.reasons


def run_file(seed: int, kills: int = KILLS_PER_FILE, *, strace: int = 0, plant: str | None = None) -> Result:
    """Run the lives of one file."""
    with scratch("bus-kills-") as folder:
        campaign = Campaign(seed, folder, strace=strace, plant=PLANTS[plant].bug if plant else nothing)
        failure = None
        try:
            campaign.run(kills)
        except Exception as problem:  # noqa: BLE001 - whatever comes out is a finding
            again = f"python -m campaigns.bus_kills --seed {seed} --kills {kills} --strace {strace}"
            again += f" --plant {plant!r}" if plant else ""
            failure = f"{type(problem).__name__} after {campaign.kills} kills: {problem}\n    again: {again}"
        return Result(campaign, failure)


def _report(results: list[Result], took_s: float) -> str:
    failures = [result.failure for result in results if result.failure is not None]
    reasons = sum((result.reasons for result in results), Counter[str]())
    figures = (
        f"{sum(r.kills for r in results)} kills, {sum(r.accepted for r in results)} events accepted, "
        f"at most {max(r.worst for r in results)} handled again after a crash by a subscription "
        f"({max(r.worst_slow for r in results)} where the disk was slow), "
        f"{dict(reasons)} given up; {took_s:.0f} s"
    )
    return "\n".join([*failures, figures, f"{len(results)} files of kills: {len(failures)} failures\n"])


def main(arguments: list[str] | None = None) -> int:
    """Run the campaign that the command line asks for; return 1 when it has found something."""
    parser = argparse.ArgumentParser(prog="python -m campaigns.bus_kills", description=__doc__)
    parser.add_argument("--kills", type=int, default=500, help="how many (default 500)")
    parser.add_argument("--strace", type=int, default=0, help="how many of them at chosen system calls")
    parser.add_argument(
        "--first", type=int, default=0, help="the first seed; a file of 25 kills has one (default 0)"
    )
    parser.add_argument("--seed", type=int, help="only the file of this seed")
    parser.add_argument("--plant", choices=list(PLANTS), help="plant a bug, which should be found")
    asked = parser.parse_args(arguments)
    if asked.strace and not has_strace():
        parser.error(
            "strace is missing or may not trace: install it (apt-get install strace), or leave --strace out"
        )
    started = time.monotonic()
    if asked.seed is not None:
        results = [run_file(asked.seed, asked.kills, strace=asked.strace, plant=asked.plant)]
    else:
        results = []
        files = -(-asked.kills // KILLS_PER_FILE)
        for number in range(files):
            strace = asked.strace * (number + 1) // files - asked.strace * number // files
            results.append(run_file(asked.first + number, strace=strace, plant=asked.plant))
            if sys.stderr.isatty():
                done = sum(result.kills for result in results)
                sys.stderr.write(f"\r{done} kills, {time.monotonic() - started:.0f} s")
    sys.stdout.write(_report(results, time.monotonic() - started))
    return 1 if any(result.failure for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
