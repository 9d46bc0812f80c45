"""A process with a bus under load is killed, again and again: nothing is lost, and planted bugs are found.

Many more by hand: `python -m campaigns.bus_kills --kills 10000 --strace 1000`.
"""

import random

import pytest
from campaigns.bus_child import live
from campaigns.bus_kills import PLANTS, run_file
from campaigns.bus_load import Plan
from campaigns.crash_kit import forked, has_strace, scratch, undisturbed

FILES = 17
TRACED = 24
PLANTED_FILES = 4


@pytest.mark.parametrize("seed", range(FILES))
def test_after_25_kills_of_a_bus_at_random_moments_nothing_accepted_is_lost(seed: int) -> None:
    assert run_file(seed).failure is None


@pytest.mark.skipif(not has_strace(), reason="strace is missing, or may not trace: apt-get install strace")
def test_after_kills_of_a_bus_at_chosen_system_calls_nothing_accepted_is_lost() -> None:
    assert run_file(1000, TRACED, strace=TRACED).failure is None


@pytest.mark.parametrize("bug", PLANTS)
def test_a_bug_planted_into_the_bus_is_found(bug: str) -> None:
    found = next(
        (r.failure for seed in range(PLANTED_FILES) if (r := run_file(seed, plant=bug)).failure), None
    )
    assert found is not None
    assert found.startswith("Broken"), "a check has found it"


def test_a_life_under_load_does_what_the_campaign_needs() -> None:
    with scratch("bus-life-") as folder:
        path = folder / "firm.db"
        words = set()
        for number in range(4):
            life = forked(
                lambda tell, n=number: live(path, Plan(n, n), tell), 600, random.Random(number), "started"
            )
            words |= {line[0] for line in life.told}
        last = undisturbed(lambda tell: live(path, Plan(9, 9, is_last=True), tell))
    assert {"opened", "offer", "yes", "<", ">", "dead"} <= words
    assert not last.killed
    assert [line[0] for line in last.told if line[0] in ("drained", "redriven", "stopped", "enough")] == [
        "drained",
        "redriven",
        "stopped",
        "enough",
    ]
