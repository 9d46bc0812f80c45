import math
from datetime import date, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openoutcry.errors import ConfigError
from openoutcry.firm.bars import Bar, load_history
from openoutcry.firm.strategies import FEWEST, MOST, Past, across, recipes, reversion, seasonal, trend
from openoutcry.firm.strategies.past import DEPTH, deviation, mean, opinion, smoothed

EVERY = recipes(MOST)
START = date(2001, 1, 1)


def past_of(closes, volumes=None):
    past = Past()
    for number, close in enumerate(closes):
        volume = volumes[number] if volumes else 1_000
        past.add(Bar("X", START + timedelta(days=number), close, close * 1.01, close * 0.99, close, volume))
    return past


def opinions_over(recipe, bars):
    """All opinions of a recipe on one symbol, with a twin beside it for those that compare."""
    past, twin, found = Past(), Past(), []
    for bar in bars:
        past.add(bar)
        twin.add(Bar("Y", bar.day, bar.close, bar.high, bar.low, 100 / bar.close, bar.volume))
        if recipe.one is not None:
            found.append(recipe.one(past))
        else:
            found.append(recipe.many({"X": past, "Y": twin}).get("X"))
    return found


RISING = [100 * 1.004**day * (1 + 0.002 * math.sin(day)) for day in range(300)]
FALLING = RISING[::-1]


@pytest.mark.parametrize("strategy", [trend.momentum, trend.crossover, trend.breakout, trend.steady_trend])
def test_trend_followers_go_with_the_trend(strategy):
    assert strategy(past_of(RISING)).score > 0.2
    assert strategy(past_of(FALLING)).score < -0.2


def test_convergence_is_positive_when_a_rise_gathers_pace():
    assert trend.convergence(past_of([100.0] * 120 + [100 + step for step in range(1, 8)])).score > 0


def test_accumulation_follows_the_volume_and_not_the_price():
    closes = [100 + (day % 2) for day in range(80)]
    heavy_up = [3_000 if day % 2 else 1_000 for day in range(80)]
    heavy_down = [1_000 if day % 2 else 3_000 for day in range(80)]
    assert trend.accumulation(past_of(closes, heavy_up)).score > 0.5
    assert trend.accumulation(past_of(closes, heavy_down)).score < -0.5


@pytest.mark.parametrize("strategy", [reversion.stretch, reversion.relative_index])
def test_reverters_lean_against_the_move(strategy):
    calm = [100 + 0.2 * (-1) ** day for day in range(60)]
    assert strategy(past_of([*calm, 99, 97, 94, 90])).score > 0.2
    assert strategy(past_of([*calm, 101, 103, 106, 110])).score < -0.2
    assert strategy(past_of([*calm, 100.0])).score == 0


def test_exhaustion_wants_a_heavy_fall():
    calm = [100 + 0.2 * (-1) ** day for day in range(80)]
    light, heavy = [1_000] * 81, [1_000] * 80 + [9_000]
    assert reversion.exhaustion(past_of([*calm, 90], heavy)).score > 0.5
    assert reversion.exhaustion(past_of([*calm, 90], light)).score == 0


def test_calm_steps_aside_in_a_storm():
    quiet = [100 + 0.1 * (-1) ** day for day in range(210)]
    stormy = quiet + [100 + 8 * (-1) ** day for day in range(25)]
    assert reversion.calm(past_of(stormy)).score < 0
    assert reversion.calm(past_of(stormy[::-1])).score > 0


def test_the_calendar_is_all_that_seasonal_strategies_know():
    past = past_of([100.0] * 20)
    for day, expected in ((date(2001, 1, 29), True), (date(2001, 2, 2), True), (date(2001, 2, 15), False)):
        past.day = day
        assert (seasonal.turn_of_month(past).score > 0) is expected
    past.day = date(2001, 7, 10)
    assert seasonal.winter(past).score == 0
    past.day = date(2001, 12, 10)
    assert seasonal.winter(past).score > 0


def test_the_leader_is_long_the_strongest_and_short_the_weakest():
    pasts = {
        "UP": past_of(RISING),
        "DOWN": past_of(FALLING),
        "FLAT": past_of([100.0] * 300),
        "NEW": past_of([1.0]),
    }
    found = across.leadership(pasts)
    assert {symbol: one.score for symbol, one in found.items()} == {"UP": 1, "FLAT": 0, "DOWN": -1}


def test_pairs_lean_against_the_one_that_ran_away():
    base = [100 + 0.1 * (-1) ** day for day in range(80)]
    found = across.pairs({"AWAY": past_of([*base, 104.0]), "HOME": past_of([*base, 100.0])})
    assert found["AWAY"].score < 0 < found["HOME"].score


def test_one_symbol_alone_is_not_compared():
    assert across.leadership({"UP": past_of(RISING)}) == {}
    assert across.pairs({"UP": past_of(RISING)}) == {}


@pytest.mark.parametrize("recipe", EVERY, ids=lambda recipe: recipe.name)
def test_every_strategy_abstains_at_first_and_then_keeps_within_the_ranges(recipe):
    bars = list(load_history(("IBM",), days=320).of("IBM"))
    found = opinions_over(recipe, bars)
    assert found[-1] is not None
    if recipe.kind not in {"month", "winter"}:
        assert found[0] is None
    for one in filter(None, found):
        assert -1 <= one.score <= 1
        assert 0 <= one.confidence <= 1
        assert one.rationale


@settings(max_examples=12, deadline=None)
@given(st.sampled_from(EVERY), st.integers(10, 300), st.floats(0.2, 5))
def test_what_comes_later_never_changes_an_opinion(recipe, cut, factor):
    bars = list(load_history(("MSFT",), days=320).of("MSFT"))
    other = [
        bar
        if number < cut
        else Bar("X", bar.day, bar.open, bar.high * factor, bar.low, bar.close * factor, 1)
        for number, bar in enumerate(bars)
    ]
    assert opinions_over(recipe, bars[:cut]) == opinions_over(recipe, other)[:cut]


@pytest.mark.parametrize("recipe", EVERY[:14], ids=lambda recipe: recipe.name)
def test_asking_twice_gives_the_same_answer(recipe):
    past, other = past_of(RISING), past_of(FALLING)
    ask = (lambda: recipe.one(past)) if recipe.one else (lambda: recipe.many({"X": past, "Y": other}))
    assert ask() == ask()


@pytest.mark.parametrize("recipe", EVERY, ids=lambda recipe: recipe.name)
def test_a_market_that_stands_still_breaks_nothing(recipe):
    found = opinions_over(
        recipe, [Bar("X", START + timedelta(days=n), 10, 10, 10, 10, 0) for n in range(300)]
    )
    assert all(math.isfinite(one.score) for one in filter(None, found))


def test_a_firm_hires_six_to_sixty_four_with_names_of_their_own():
    assert len({recipe.name for recipe in EVERY}) == MOST
    assert len({recipe.kind for recipe in recipes(FEWEST)}) == FEWEST
    assert len({recipe.kind for recipe in recipes(14)}) == 14
    assert [recipe.name for recipe in EVERY][:14] == [recipe.name for recipe in recipes(14)]
    for count in (FEWEST - 1, MOST + 1):
        with pytest.raises(ConfigError, match="6 to 64"):
            recipes(count)


def test_the_past_forgets_but_never_less_than_its_depth():
    past = past_of([float(day + 1) for day in range(5 * DEPTH)])
    assert DEPTH <= len(past) <= 2 * DEPTH
    assert past.closes[-1] == 5 * DEPTH
    assert len(past.returns) == len(past.highs) == len(past.lows) == len(past.volumes) == len(past)


def test_small_statistics_by_hand():
    assert mean([1, 2, 6]) == 3
    assert deviation([1, 2, 6]) == pytest.approx(7**0.5)
    assert smoothed([1, 1, 4], 1) == 4
    assert smoothed([2, 4], 3) == 3
    assert opinion(7, -1, "x") == (1, 0, "x")
