"""A small run of the model of desks, and defects that it must find."""

import asyncio

import pytest
from campaigns.link_model import run_seed
from campaigns.link_plants import PLANTS
from campaigns.link_processes import Process, ProcessLoop
from campaigns.link_truth import Truth

from openoutcry.testing.simulator.chance import Chance

SEEDS = [0, 1, 2, 3, 4, 6, 7, 8, 17]
FINDING = {
    "a group is named by its first entry": 12,
    "old holders are not fenced": 27,
    "gaps are not noticed": 49,
    "several groups are in flight": 2,
    "the cursor is saved before the import": 1,
    "kill switches that are over come anew": 270,
}
"""Seeds that find a planted defect."""


@pytest.mark.parametrize("number", SEEDS)
def test_a_seed_finds_nothing(number: int) -> None:
    assert run_seed(number) == []


@pytest.mark.parametrize("plant", FINDING)
def test_a_planted_defect_is_found(plant: str) -> None:
    assert run_seed(FINDING[plant], plant)


def test_every_planted_defect_is_one_of_the_campaign() -> None:
    assert FINDING.keys() <= PLANTS.keys()


def test_a_process_that_has_died_does_nothing_more_and_one_that_is_suspended_does_it_later() -> None:
    loop = ProcessLoop(Chance(0))
    dead, suspended = Process("dead"), Process("suspended")
    done: list[str] = []

    async def work(process: Process) -> None:
        async def child() -> None:
            await asyncio.sleep(1)
            done.append(process.name)

        await asyncio.create_task(child())

    async def main() -> None:
        tasks = [loop.spawn(process, work(process)) for process in (dead, suspended)]
        await asyncio.sleep(0.5)
        dead.is_dead = suspended.is_suspended = True
        await asyncio.sleep(5)
        assert done == []
        loop.resume(suspended)
        await tasks[1]
        assert done == ["suspended"]
        assert loop.time() == pytest.approx(5.5, abs=0.1)

    loop.run_until_complete(main())
    loop.drop()
    assert done == ["suspended"]


def test_a_truth_that_nothing_was_told_finds_nothing() -> None:
    assert Truth(["floor", "street"]).judge(is_whole=True, counts_repeats=True) == []
