"""The strategies that a firm can hire, from 6 to 64: first all kinds, then the same with other settings."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest

from openoutcry.errors import ConfigError
from openoutcry.firm.strategies import across, reversion, seasonal, trend
from openoutcry.firm.strategies.past import Opinion, Past

FEWEST, MOST = 6, 64

OneSymbol = Callable[[Past], Opinion | None]
ManySymbols = Callable[[Mapping[str, Past]], across.Opinions]


@dataclass(frozen=True, slots=True)
class Recipe:
    """One strategy: it has either `one` (which looks at one symbol) or `many` (which compares symbols)."""

    name: str
    kind: str
    one: OneSymbol | None = None
    many: ManySymbols | None = None


_ONE: Mapping[str, tuple[Callable[..., Opinion | None], tuple[dict[str, int], ...]]] = {
    "momentum": (trend.momentum, tuple({"lookback": days} for days in (126, 252, 63, 189, 90, 42))),
    "stretch": (reversion.stretch, tuple({"window": days} for days in (20, 10, 40, 5, 60, 30))),
    "crossover": (
        trend.crossover,
        tuple(
            {"fast": fast, "slow": slow}
            for fast, slow in ((50, 200), (20, 100), (10, 50), (100, 250), (30, 150))
        ),
    ),
    "breakout": (trend.breakout, tuple({"window": days} for days in (55, 20, 100, 200, 40, 150))),
    "rsi": (reversion.relative_index, tuple({"window": days} for days in (14, 5, 21, 9, 30, 3))),
    "steady": (trend.steady_trend, tuple({"span": days} for days in (40, 20, 60, 80, 30))),
    "month": (
        seasonal.turn_of_month,
        tuple({"from_day": first, "to_day": last} for first, last in ((27, 3), (26, 4), (28, 2), (25, 5))),
    ),
    "macd": (
        trend.convergence,
        tuple(
            {"fast": fast, "slow": slow} for fast, slow in ((12, 26), (8, 17), (19, 39), (5, 35), (24, 52))
        ),
    ),
    "volume": (trend.accumulation, tuple({"window": days} for days in (60, 20, 120, 40, 90))),
    "calm": (reversion.calm, tuple({"fast": fast} for fast in (20, 10, 40, 60, 30))),
    "exhaustion": (reversion.exhaustion, tuple({"window": days} for days in (60, 30, 120, 90))),
    "winter": (
        seasonal.winter,
        tuple({"first": first, "last": last} for first, last in ((10, 4), (11, 4), (10, 5), (9, 3))),
    ),
}
_MANY: Mapping[str, tuple[Callable[..., across.Opinions], tuple[dict[str, int], ...]]] = {
    "leader": (across.leadership, tuple({"lookback": days} for days in (120, 60, 250, 20, 180))),
    "pairs": (across.pairs, tuple({"window": days} for days in (60, 30, 120, 20, 250))),
}
_ORDER = (
    "momentum",
    "stretch",
    "crossover",
    "breakout",
    "rsi",
    "leader",
    "steady",
    "pairs",
    "month",
    "macd",
    "volume",
    "calm",
    "exhaustion",
    "winter",
)


def recipes(count: int) -> tuple[Recipe, ...]:
    """Return the first `count` strategies of the list. Raises `ConfigError` outside 6 to 64."""
    if not FEWEST <= count <= MOST:
        raise ConfigError(
            f"agents={count}: a firm takes {FEWEST} to {MOST} strategies; choose a number in between"
        )
    by_kind = [_of_kind(kind) for kind in _ORDER]
    in_turn = [recipe for turn in zip_longest(*by_kind) for recipe in turn if recipe is not None]
    return tuple(in_turn[:count])


def _of_kind(kind: str) -> list[Recipe]:
    if kind in _ONE:
        one, settings = _ONE[kind]
        return [Recipe(_name(kind, setting), kind, one=partial(one, **setting)) for setting in settings]
    many, settings = _MANY[kind]
    return [Recipe(_name(kind, setting), kind, many=partial(many, **setting)) for setting in settings]


def _name(kind: str, setting: Mapping[str, int]) -> str:
    return "-".join((kind, *(str(value) for value in setting.values())))
