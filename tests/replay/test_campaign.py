"""A small run of the campaign: chaotic days are replayed, and what is planted is found."""

from pathlib import Path

from campaigns.replay import judge, record, try_plants


def test_chaotic_days_are_the_same_again(tmp_path: Path) -> None:
    assert judge(record(tmp_path, 1, rounds=12), runs=2).entries_count > 100


def test_a_day_that_was_killed_is_the_same_up_to_there_and_in_its_next_life(tmp_path: Path) -> None:
    found = judge(record(tmp_path, 4, rounds=16), runs=1)
    assert [life.ended for life in found.lives] == ["died", "stopped"]


def test_what_is_planted_in_a_second_life_is_found(tmp_path: Path) -> None:
    told: list[str] = []
    try_plants(tmp_path, told.append, lives=(2,))
    assert len(told) == 13
