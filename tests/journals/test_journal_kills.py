"""A process is killed while it works on a journal: a few files of kills, and planted bugs that they must find.

Many more by hand: `python -m campaigns.journal_kills --kills 10000 --strace 1000`.
"""

import pytest
from campaigns.crash_kit import Step, has_strace, scratch, traced
from campaigns.journal_kills import PLANTS, STEPS, run_file, run_to
from campaigns.journal_kills_child import live

FILES = 4
TRACED = 15


@pytest.mark.parametrize("seed", range(FILES))
def test_after_25_kills_at_random_moments_nothing_accepted_is_lost(seed: int) -> None:
    assert run_file(seed) is None


@pytest.mark.skipif(not has_strace(), reason="strace is missing, or may not trace: apt-get install strace")
def test_after_kills_at_chosen_system_calls_nothing_accepted_is_lost() -> None:
    assert run_file(1000, TRACED, strace=TRACED) is None


@pytest.mark.skipif(not has_strace(), reason="strace is missing, or may not trace: apt-get install strace")
@pytest.mark.parametrize("call", ["pwrite64", "fdatasync", "fcntl"])
def test_strace_kills_where_it_should(call: str) -> None:
    with scratch("traced-") as folder:
        life = traced(lambda tell: live(folder / "firm.db", 1, tell), call, 1)
    assert life.killed
    assert life.told == [], "an opening writes, locks and syncs before it is done"


@pytest.mark.parametrize("word", STEPS)
def test_a_kill_at_any_step_of_the_work_loses_nothing(word: str) -> None:
    before = (Step("begun"),) if word.startswith("clear") else ()  # which leaves a suspect to be cleared
    for nth in (1, 2, 3) if not before else (1,):
        assert run_to(*before, Step(word, nth)) is None


@pytest.mark.parametrize("bug", PLANTS)
def test_a_planted_bug_is_found(bug: str) -> None:
    planted = PLANTS[bug]
    assert planted.shows_at is not None
    assert run_to(planted.shows_at, plant=planted) is not None
    assert run_to(planted.shows_at) is None, "it is the bug that was found"
