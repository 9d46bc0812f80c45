"""A small run of the campaign: chaotic days are replayed, and what is planted is found."""

from pathlib import Path

from campaigns.replay import judge, record, try_plants


def test_chaotic_days_are_the_same_again(tmp_path: Path) -> None:
    assert judge(record(tmp_path, 1, rounds=12), runs=2).entries_count > 100


def test_a_day_that_ends_with_a_kill_is_the_same_up_to_there(tmp_path: Path) -> None:
    assert judge(record(tmp_path, 4, rounds=40), runs=1).limits


def test_what_is_planted_is_found(tmp_path: Path) -> None:
    told: list[str] = []
    try_plants(tmp_path, told.append)
    assert len(told) == 9
