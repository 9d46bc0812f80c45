"""Trends: errors in a row, and a lag that keeps growing."""

from itertools import pairwise

PERIODS = 4


class ErrorStreak:
    """Counts failed calls in a row. A success costs nothing: it shows in the count of handled events."""

    __slots__ = ("_handled", "_streak")

    def __init__(self, handled: int = 0) -> None:
        self._handled = handled
        self._streak = 0

    def failed(self, handled: int) -> int:
        """Note a failed call of a subscription that has handled so many events, and return the streak."""
        self._streak = self.now(handled) + 1
        self._handled = handled
        return self._streak

    def now(self, handled: int) -> int:
        """Return how many calls have failed since the last success."""
        return self._streak if handled == self._handled else 0

    def reset(self) -> None:
        """Forget the failures."""
        self._streak = 0


class LagTrend:
    """Tells a lag that keeps growing from one that comes and goes.

    Time is cut into periods of a quarter of `window_s`. A lag keeps growing if the least lag of each of the
    last four whole periods was larger than in the one before: a burst that drains in between does not count.
    """

    __slots__ = ("_began_ns", "_least", "_leasts", "_period_ns")

    def __init__(self, window_s: float, now_ns: int) -> None:
        self._period_ns = max(1, int(window_s * 1e9) // PERIODS)
        self._began_ns = now_ns
        self._least: int | None = None
        self._leasts: list[int] = []

    def note(self, lag: int, now_ns: int) -> None:
        """Note how much waits now; call it several times per period."""
        passed = (now_ns - self._began_ns) // self._period_ns
        if passed:
            if passed > 1 or self._least is None:
                self._leasts.clear()  # not called for a whole period: nothing is known
            if self._least is not None:
                self._leasts = [*self._leasts, self._least][-PERIODS - 1 :]
            self._least = None
            self._began_ns += passed * self._period_ns
        self._least = lag if self._least is None else min(self._least, lag)

    @property
    def per_s(self) -> float:
        """By how many events a second the lag has grown over the whole window; 0 unless it keeps growing."""
        leasts = self._leasts
        if len(leasts) <= PERIODS or any(b <= a for a, b in pairwise(leasts)):
            return 0.0
        return (leasts[-1] - leasts[0]) / (PERIODS * self._period_ns / 1e9)
