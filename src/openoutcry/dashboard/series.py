"""Fifteen minutes of figures about every subscription, kept in the page's process.

The firm keeps distributions since its start. What it adds to them between two asks is the distribution of
that time. What somebody looks at is asked for every second, and the others in turn: a few every ten seconds.
"""

import asyncio
from collections import deque
from contextlib import suppress
from typing import Any, Final, NamedTuple

from openoutcry.observers.pulse import Buckets, Histogram, Pulse
from openoutcry.observers.reading import percentile_ns, since
from openoutcry.ports import Clock
from openoutcry.runtime.control.watcher import Watcher
from openoutcry.units import NS_PER_S

KEPT_S: Final = 15 * 60
EVERY_S: Final = 1.0
AT_ONCE: Final = 16
"""So many are asked for at once."""
OTHERS_S: Final = 10.0
"""So often some of those that nobody looks at are asked for."""
LOOKED_AT_S: Final = 30
"""For so long after the last request a subscription counts as looked at."""
LOOKED_AT_MAX: Final = 8

Point = tuple[float, float | None, float | None, float, float, int, float | None, float | None]
"""Seconds since 1970; p50 and p99 of the wait in ns; accepted and handled per second; waiting; p50 and p99 of
the calls in ns. Percentiles are None where nothing was begun."""


class _Seen(NamedTuple):
    """What was known of a subscription when it was asked for last."""

    at_ns: int
    accepted: int
    handled: int
    buckets: Buckets


class Series:
    """The figures of the last `KEPT_S` seconds, by subscription."""

    def __init__(self, watcher: Watcher, clock: Clock) -> None:
        self._watcher = watcher
        self._clock = clock
        self._session = ""
        self._points: dict[str, deque[Point]] = {}
        self._seen: dict[str, _Seen] = {}
        self._looked_at_ns: dict[str, int] = {}
        self._turn = 0
        self._others_ns: int | None = None

    def look_at(self, name: str) -> None:
        """Ask for a subscription every time from now on, for a while."""
        self._looked_at_ns.pop(name, None)
        self._looked_at_ns[name] = self._clock.now_ns()
        while len(self._looked_at_ns) > LOOKED_AT_MAX:
            del self._looked_at_ns[next(iter(self._looked_at_ns))]

    def points(self, name: str) -> list[Point]:
        """Return the figures of a subscription, oldest first."""
        return list(self._points.get(name, ()))

    def buckets(self, name: str) -> Buckets | None:
        """Return its distributions since the firm's start, as last seen; None if it was not asked yet."""
        seen = self._seen.get(name)
        return None if seen is None else seen.buckets

    async def run(self) -> None:
        """Ask again and again, until it is cancelled."""
        number = 0
        while True:
            began_s = asyncio.get_running_loop().time()
            number = await self._watcher.changed(number)
            with suppress(ConnectionError):
                await self.take()
            with suppress(TimeoutError):
                async with asyncio.timeout_at(began_s + EVERY_S):
                    await asyncio.Event().wait()

    async def take(self) -> None:
        """Ask once, and keep what has come. Raises `ConnectionError`."""
        shape, pulse = self._watcher.shape, self._watcher.pulse
        if shape is None or pulse is None:
            return
        all_names = [subscription.name for subscription in shape.subscriptions]
        self._forget_others(pulse.session, set(all_names))
        names = self._next_names(all_names)
        if not names:
            return
        found = await self._watcher.buckets(names)
        pulse = self._watcher.pulse
        shape = self._watcher.shape
        if pulse is None or shape is None or pulse.session != self._session:
            return
        for row in pulse.rows:
            name = shape.subscriptions[row.index].name
            if name in found:
                self._keep(name, row.accepted, row.handled, row.waiting, found[name], pulse)

    def _forget_others(self, session: str, names: set[str]) -> None:
        """Forget what is not there any more, and at a new life all that is compared with."""
        if session != self._session:
            self._session = session
            self._seen.clear()
        for known in (self._points, self._seen, self._looked_at_ns):
            for name in known.keys() - names:
                del known[name]

    def _next_names(self, names: list[str]) -> list[str]:
        now_ns = self._clock.now_ns()
        since_ns = now_ns - LOOKED_AT_S * NS_PER_S
        chosen = [name for name, at_ns in self._looked_at_ns.items() if at_ns >= since_ns]
        if self._others_ns is not None and now_ns - self._others_ns < OTHERS_S * NS_PER_S:
            return chosen
        self._others_ns = now_ns
        others = [name for name in names if name not in chosen]
        count = min(AT_ONCE - len(chosen), len(others))
        if count:
            self._turn %= len(others)
            chosen += [others[(self._turn + step) % len(others)] for step in range(count)]
            self._turn += count
        return chosen

    def _keep(
        self, name: str, accepted: int, handled: int, waiting: int, buckets: Buckets, pulse: Pulse
    ) -> None:
        before = self._seen.get(name)
        self._seen[name] = _Seen(pulse.now_ns, accepted, handled, buckets)
        if before is None or pulse.now_ns <= before.at_ns:
            return
        past_s = (pulse.now_ns - before.at_ns) / NS_PER_S
        latency = since(buckets.latency, before.buckets.latency)
        duration = since(buckets.duration, before.buckets.duration)
        points = self._points.setdefault(name, deque())
        if points and points[-1][0] > pulse.wall_ns / NS_PER_S:  # the clock was set back
            points.clear()
        points.append(
            (
                pulse.wall_ns / NS_PER_S,
                percentile_ns(latency, 0.5),
                percentile_ns(latency, 0.99),
                (accepted - before.accepted) / past_s,
                (handled - before.handled) / past_s,
                waiting,
                percentile_ns(duration, 0.5),
                percentile_ns(duration, 0.99),
            )
        )
        while points[0][0] < points[-1][0] - KEPT_S:
            points.popleft()


def summary(found: Histogram) -> dict[str, Any]:
    """Return percentiles and count of a distribution."""
    return {
        "p50": percentile_ns(found, 0.5),
        "p99": percentile_ns(found, 0.99),
        "p999": percentile_ns(found, 0.999),
        "max": found.max_ns,
        "count": found.count,
    }
