"""A process with a bus under load is killed, again and again: nothing is lost, and planted bugs are found.

Many more by hand: `python -m campaigns.bus_kills --kills 10000 --strace 1000`, `python -m campaigns.bus_steps`.
"""

from functools import partial

import pytest
from campaigns import bus_child
from campaigns.bus_child import live
from campaigns.bus_kills import run_file
from campaigns.bus_load import Plan
from campaigns.bus_plants import PLANTS
from campaigns.bus_steps import LONGEST, SCRIPTS, kill_at, walk
from campaigns.crash_kit import Step, has_strace, scratch, set_in, stepped, undisturbed
from campaigns.power_loss_truth import Broken

from openoutcry.runtime.delivery import offsets

FILES = 10
TRACED = 24
EVERY = 3
LIVES_MOST = 50


@pytest.mark.parametrize("seed", range(FILES))
def test_after_25_kills_of_a_bus_at_random_moments_nothing_accepted_is_lost(seed: int) -> None:
    assert run_file(seed).failure is None


@pytest.mark.skipif(not has_strace(), reason="strace is missing, or may not trace: apt-get install strace")
def test_after_kills_of_a_bus_at_chosen_system_calls_nothing_accepted_is_lost() -> None:
    assert run_file(1000, TRACED, strace=TRACED).failure is None


@pytest.mark.parametrize("script", [name for name in SCRIPTS if name != LONGEST])
def test_a_kill_at_any_step_of_a_life_loses_nothing(script: str) -> None:
    done = walk(script, every=EVERY)
    assert done.failures == []
    assert done.kills > 20 / EVERY, "it has come to its end"


@pytest.mark.parametrize("bug", PLANTS)
def test_a_bug_planted_into_the_bus_is_found(bug: str) -> None:
    planted = PLANTS[bug]
    with pytest.raises(Broken):
        kill_at(planted.script, planted.step, planted)
    assert kill_at(planted.script, planted.step).killed, "without the bug nothing is found there"


def test_a_bug_is_found_by_the_lives_under_load_as_well() -> None:
    found = run_file(0, plant="dead letters that are not written").failure
    assert found is not None
    assert "again: python -m campaigns.bus_kills --seed 0" in found


def test_a_life_under_load_does_what_the_campaign_needs() -> None:
    wanted, words = {"opened", "offer", "yes", "<", ">", "dead"}, set()
    with scratch("bus-life-") as folder:
        path = folder / "firm.db"
        for number in range(LIVES_MOST):
            life = stepped(partial(live, path, Plan(number, number)), Step("dead"))
            words |= {line[0] for line in life.told}
            if words >= wanted:
                break
        last = undisturbed(lambda tell: live(path, Plan(LIVES_MOST, 9, is_last=True), tell))
    assert words >= wanted
    assert not last.killed
    assert [line[0] for line in last.told if line[0] in ("drained", "redriven", "stopped", "enough")] == [
        "drained",
        "redriven",
        "stopped",
        "enough",
    ]


def test_a_setting_that_nothing_reads_is_not_set() -> None:
    with pytest.raises(LookupError, match="changes nothing"):
        set_in(offsets, "SAVE_EVERY", 64)
    with pytest.raises(LookupError, match="changes nothing"):
        set_in(bus_child, "RETRY_", 64)
