"""Time bursts in windows, fresh events for each, and check beforehand that every event arrives."""

import gc
from collections.abc import Callable, Sequence
from statistics import median
from time import perf_counter, perf_counter_ns
from typing import Any

from subjects.base import Broken, Route, Subject
from subjects.handlers import counting

WINDOWS_COUNT = 5
BURSTS_MAX = 100
_HEAD_START_NS = 5_000_000
"""Between the end of all preparation and the first event of a schedule."""


async def verify(subject: Subject, topics_per_handler: Sequence[tuple[str, ...]], kind: str) -> None:
    """Send a few bursts to counting handlers and raise `Broken` unless each got exactly its own."""
    counts = [0] * len(topics_per_handler)
    await subject.open([(topics, counting(kind, counts, i)) for i, topics in enumerate(topics_per_handler)])
    topics_all = sorted({topic for topics in topics_per_handler for topic in topics})
    events_count = subject.burst_limit // len(topics_all) * len(topics_all)
    for _ in range(2):
        await subject.burst(subject.prepare(subject.make_events(topics_all, events_count)))
    await subject.close()
    expected = [2 * events_count * len(topics) // len(topics_all) for topics in topics_per_handler]
    if counts != expected:
        raise Broken(f"handlers got {counts} events instead of {expected}")


async def time_bursts(
    subject: Subject, routes: Sequence[Route], topics: Sequence[str], window_s: float
) -> list[float]:
    """Events per second of each window; the subject is opened, warmed and closed here."""

    def make_window(bursts_count: int) -> list[Any]:
        size = subject.burst_limit
        return [subject.prepare(subject.make_events(topics, size)) for _ in range(bursts_count)]

    return await _time(subject, routes, make_window, subject.burst, window_s)


async def time_made(
    subject: Subject, routes: Sequence[Route], make: Callable[[], Any], window_s: float
) -> list[float]:
    """The same for events that are created while they are published."""

    async def burst(_: object) -> None:
        await subject.burst_made(make, subject.burst_limit)

    return await _time(subject, routes, lambda bursts_count: [None] * bursts_count, burst, window_s)


async def _time(
    subject: Subject,
    routes: Sequence[Route],
    make_window: Callable[[int], list[Any]],
    burst: Callable[[Any], Any],
    window_s: float,
) -> list[float]:
    await subject.open(routes)
    for prepared in make_window(2):
        await burst(prepared)
    begun = perf_counter()
    for prepared in make_window(2)[:1]:
        begun = perf_counter()
        await burst(prepared)
    burst_s = perf_counter() - begun
    bursts_count = max(1, min(BURSTS_MAX, int(window_s / burst_s)))
    rates = []
    for _ in range(WINDOWS_COUNT):
        window = make_window(bursts_count)
        gc.collect()
        begun = perf_counter()
        for prepared in window:
            await burst(prepared)
        rates.append(bursts_count * subject.burst_limit / (perf_counter() - begun))
    await subject.close()
    return rates


def schedule(count: int, rate_per_s: int) -> list[int]:
    """When each of so many events is due, on `perf_counter_ns`: the first one a head start after this has been made.

    How long the making takes is not known beforehand, so it is done again, later, until there is a head start left.
    """
    allowed_ns = _HEAD_START_NS
    while True:
        start_ns = perf_counter_ns() + _HEAD_START_NS + allowed_ns
        due_ns = [start_ns + i * 1_000_000_000 // rate_per_s for i in range(count)]
        if perf_counter_ns() + _HEAD_START_NS <= start_ns:
            return due_ns
        allowed_ns *= 2


def middle(values: Sequence[float]) -> float:
    return float(median(values))


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """p50, p99, p99.9 and the maximum by nearest rank."""
    ordered = sorted(values)
    last = len(ordered) - 1
    ranks = {"p50": 0.5, "p99": 0.99, "p999": 0.999}
    found = {name: float(ordered[min(last, int(share * len(ordered)))]) for name, share in ranks.items()}
    return found | {"max": float(ordered[-1])}
