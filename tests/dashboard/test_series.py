"""The figures of the last fifteen minutes, whatever the firm's clock does."""

from types import SimpleNamespace
from typing import Any

from page_kit import clock

from openoutcry.dashboard.series import KEPT_S, Series
from openoutcry.observers.pulse import Buckets, Histogram
from openoutcry.testing import run_virtual
from openoutcry.units import NS_PER_S

NOTHING = Buckets(Histogram({}, 0, 0), Histogram({}, 0, 0), "")


class Firm:
    """What a watcher knows of a firm with one subscription."""

    def __init__(self) -> None:
        self.shape: Any = SimpleNamespace(subscriptions=[SimpleNamespace(name="desk")])
        self.pulse: Any = None

    def beat(self, at_s: int, wall_s: int) -> None:
        row = SimpleNamespace(index=0, accepted=at_s, handled=at_s, waiting=0)
        self.pulse = SimpleNamespace(
            session="one", now_ns=at_s * NS_PER_S, wall_ns=wall_s * NS_PER_S, rows=[row]
        )

    async def buckets(self, names: list[str]) -> dict[str, Buckets]:
        return dict.fromkeys(names, NOTHING)


def times_after(beats: list[tuple[int, int]]) -> list[float]:
    """Return when the points were taken that are kept after some pulses."""

    async def scene() -> list[float]:
        firm: Any = Firm()
        series = Series(firm, clock())
        for at_s, wall_s in beats:
            firm.beat(at_s, wall_s)
            series.look_at("desk")
            await series.take()
        return [point[0] for point in series.points("desk")]

    return run_virtual(scene())


def test_what_is_older_than_fifteen_minutes_goes():
    assert times_after([(at, at) for at in range(0, 2 * KEPT_S, 100)]) == list(range(800, 2 * KEPT_S, 100))


def test_a_clock_that_is_set_back_begins_the_figures_anew():
    later = 10 * KEPT_S
    assert times_after([(0, later), (1, later + 1), (2, 2), (3, 3)]) == [2, 3]
