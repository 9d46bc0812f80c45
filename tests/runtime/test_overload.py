"""A bus is offered a hundred times what it can handle, and is worked for a while: a small run of the campaigns.

Longer by hand: `python -m campaigns.overload --seconds 60`, `python -m campaigns.soak --minutes 240`.
"""

import asyncio
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from campaigns import overload, soak
from campaigns.soak import Sample

SOAK_S = 4.0
DONE = ["rounds", "visits", "redriven", "from threads", "dropped"]
FIGURES = ["rss", "tasks", "threads", "descriptors", "journal", "wal"]


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    return overload.run(seconds=2.0, room=200)


def test_offered_too_much_a_bus_keeps_its_bound_answers_everybody_and_settles_what_it_accepted(
    found: dict[str, Any],
) -> None:
    assert list(overload.broken(found)) == []


def test_the_overload_was_one(found: dict[str, Any]) -> None:
    assert found["offered_per_s"] > 10 * found["sustainable_per_s"]
    assert found["refused"] > found["attempts"] / 2
    assert {"shed", "no_room"} <= set(found["counted"]["refused"])
    assert min(kill["count"] for kill in found["kills"].values()) > 0


def _lost_answer(found: dict[str, Any]) -> None:
    found["refused"] -= 1


def _wrong_reason(found: dict[str, Any]) -> None:
    found["counted"]["refused"]["shed"] -= 1


def _lost_event(found: dict[str, Any]) -> None:
    found["handled"]["desk"]["order"] -= 1


def _left_waiting(found: dict[str, Any]) -> None:
    found["ledger"]["rows"][0]["waiting"] = 1


def _cursor_behind(found: dict[str, Any]) -> None:
    found["cursors"][0]["floor"] -= 1


def _not_journaled(found: dict[str, Any]) -> None:
    found["kept"] -= 1


def _too_much_memory(found: dict[str, Any]) -> None:
    found["peak_bytes"] += found["bound_bytes"]


@pytest.mark.parametrize(
    "spoil",
    [
        _lost_answer,
        _wrong_reason,
        _lost_event,
        _left_waiting,
        _cursor_behind,
        _not_journaled,
        _too_much_memory,
    ],
)
def test_what_an_overload_must_not_do_is_found(found: dict[str, Any], spoil: Any) -> None:
    spoilt = deepcopy(found)
    spoil(spoilt)
    assert list(overload.broken(spoilt))


def test_a_machine_that_cannot_offer_as_much_is_said_to(found: dict[str, Any]) -> None:
    assert list(overload.shortfall({**found, "offered_per_s": found["sustainable_per_s"]}, 100.0))


def test_a_bus_that_is_worked_starts_and_stops_and_loses_nothing(tmp_path: Path) -> None:
    for soak_s in (SOAK_S, 4 * SOAK_S, 16 * SOAK_S):  # a slow machine takes longer to have done everything
        samples, firm = asyncio.run(soak.soak(soak_s, tmp_path / f"soak-{soak_s}.db"))
        assert firm.wrong == []
        grown = list(soak.grown(samples, soak.warm_up_s(soak_s)))
        idle = [what for what in DONE if not firm.counts[what]]
        if firm.counts["lives"] >= 2 and not grown and not idle:
            break
    assert (grown, idle) == ([], [])
    assert firm.counts["lives"] >= 2


def _samples(**per_sample: float) -> list[Sample]:
    """An hour of a process that takes more of something with every sample, beside a little noise."""
    steady = Sample(0, rss=50e6, tasks=20, threads=5, descriptors=15, journal=600e3, wal=1e6)
    samples = []
    for number in range(120):
        grown = {name: getattr(steady, name) + by * number for name, by in per_sample.items()}
        samples.append(replace(steady, at_s=30.0 * number, **{"tasks": 20 + number % 3, **grown}))
    return samples


def test_a_process_that_takes_no_more_than_before_passes() -> None:
    assert list(soak.grown(_samples(), 60.0)) == []


@pytest.mark.parametrize("figure", FIGURES)
def test_whatever_grows_is_found(figure: str) -> None:
    by = 100_000 if figure in ("rss", "journal", "wal") else 0.1
    (said,) = soak.grown(_samples(**{figure: by}), 60.0)
    assert said.startswith(f"{figure} has grown by")


@pytest.mark.parametrize("figure", FIGURES)
def test_what_grows_only_while_it_warms_up_passes(figure: str) -> None:
    late = [replace(each, **{figure: getattr(each, figure) / 2}) for each in _samples()[:2]]
    assert list(soak.grown([*late, *_samples()[2:]], 60.0)) == []


def test_a_planted_leak_is_found_in_a_bus_at_work(tmp_path: Path) -> None:
    said: list[str] = []
    for soak_s in (1.5, 6, 24):  # on a slow machine it takes longer until as much has leaked
        samples, firm = asyncio.run(soak.soak(soak_s, tmp_path / f"soak-{soak_s}.db", plant="tasks"))
        firm.end_leaks()
        said += soak.grown(samples, soak.warm_up_s(soak_s))
        if any(line.startswith("tasks") for line in said):
            break
    assert any(line.startswith("tasks") for line in said)
