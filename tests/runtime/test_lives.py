"""Firms of agents that remember live and die: they begin with what they had handled, and planted bugs are found.

Many more by hand: `python -m campaigns.lives --seeds 10000`.
"""

from functools import partial

import pytest
from campaigns.bus_plants import nothing
from campaigns.crash_kit import scratch, undisturbed
from campaigns.lives import LIVES, run_firm
from campaigns.lives_child import live
from campaigns.lives_plan import KINDS, Agent, Plan
from campaigns.lives_plants import PLANTS
from campaigns.lives_truth import Truth
from campaigns.power_loss_truth import Broken

FIRMS = 6
SEEDS_MOST = 60
"""A bug is found by one of the first dozen firms, as a rule."""


@pytest.mark.parametrize("seed", range(FIRMS))
def test_whatever_becomes_of_a_firm_its_agents_begin_with_what_they_had_handled(seed: int) -> None:
    done = run_firm(seed)
    assert done.failure is None
    assert done.lives == LIVES


@pytest.mark.parametrize("bug", PLANTS)
def test_a_bug_planted_into_agents_memory_is_found(bug: str) -> None:
    found = next((f for s in range(SEEDS_MOST) if (f := run_firm(s, plant=bug).failure) is not None), None)
    assert found is not None
    assert f"--plant {bug!r}" in found


def test_a_life_tells_what_the_campaign_needs() -> None:
    agents = tuple(Agent(kind, ("lives_trade", "fill"), kind, every=3) for kind in KINDS)
    truth = Truth()
    with scratch("lives-") as folder:
        for number in range(2):
            plan = Plan(number, 5, number, agents, mended=bool(number), first=number * 1_000, is_last=True)
            truth.begin(plan)
            life = undisturbed(partial(live, folder / "firm.db", plan, plant=nothing))
            truth.hear(life.told)
            words = {line[0] for line in life.told}
            assert words >= {
                "sub",
                "started",
                "state",
                "pub",
                "yes",
                "did",
                "saved",
                "drained",
                "live",
                "flushed",
            }
            assert ("dead" in words) != plan.mended
            assert ("loaded" in words) == plan.mended
            assert ["enough"] in life.told
    assert truth.states == 2 * (len(KINDS) - 1)


def told(truth: Truth, *lines: str) -> None:
    truth.hear([line.split() for line in lines])


@pytest.fixture
def truth() -> Truth:
    made = Truth()
    agent = Agent("a", ("fill",), "json", every=1)
    made.begin(Plan(0, 0, 0, (agent,)))
    told(made, "sub a", "state a []", "pub 1f journaled", "pub 2f journaled", "yes 1f", "yes 2f", "did a 1f")
    return made


def again(truth: Truth) -> None:
    truth.begin(Plan(1, 0, 0, (Agent("a", ("fill",), "json", every=1),)))
    told(truth, "sub a")


def test_what_was_not_known_to_be_saved_may_be_handled_again(truth: Truth) -> None:
    again(truth)
    told(truth, "state a []", "did a 1f", "did a 2f", 'live a [["1f",487],["2f",185]]')


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        (['state a [["2f",185]]'], "had not handled: 2f"),
        (['state a [["1f",487],["1f",487]]'], "twice"),
        (['state a [["1f",488]]'], "has read 488 in 1f"),
        (['state a [["1f",487]]', "did a 1f"], "has it in its memory already"),
        (["state a []", "live a []"], "has forgotten 1f"),
        (['loaded a [["1f",487]]'], "never saved"),
        (["state a []", "did a 2f", "did a 1f", 'live a [["1f",487],["2f",185]]'], "in the end"),
        (["state a []", "did a 1f", 'live a [["1f",487]]'], "never given 2f"),
        (["failed a loudly retired"], "without a reason"),
        (["failed a silently:HEALTHY retired"], "health does not say so"),
    ],
)
def test_a_state_that_is_not_what_was_handled_is_found(truth: Truth, lines: list[str], problem: str) -> None:
    again(truth)
    with pytest.raises(Broken, match=problem):
        told(truth, *lines)


def test_what_was_saved_must_be_there(truth: Truth) -> None:
    told(truth, "did a 2f", "flushed")
    again(truth)
    with pytest.raises(Broken, match="has handled 2f as well"):
        told(truth, 'state a [["1f",487]]')
