"""What is measured: every measurement with its cells, in the order of the report."""

from collections.abc import Iterator
from typing import Any

from suite.cells import Cell

FLOOR = "floor, await handler(e)"
FLOOR_PLAIN = "floor, handler(e)"
_PUBLISH_LABELS = {"publish": "await publish", "nowait": "publish_nowait", "many": "publish_many"}


def ours(publish: str, kind: str = "async", event: str = "market_data") -> str:
    """The label of an openoutcry row."""
    small = ", minimal event" if event == "minimal" else ""
    return f"openoutcry {_PUBLISH_LABELS[publish]}, {kind}{small}"


def cells(*, quick: bool) -> list[Cell]:
    """Every cell of a run, in order; a quick run times shorter windows and fewer of the slow peers' cases."""
    window_s = 0.03 if quick else 0.08
    return [
        *_throughput(window_s, quick=quick),
        *_one_at_a_time(window_s),
        *_latency(seconds=0.4 if quick else 1.5, quick=quick),
        *_slow_handler(seconds=0.3 if quick else 1.0),
        *_mixed(window_s),
        *_created(window_s),
        *_suspending(window_s),
        *_kill_switch(seconds=1.0 if quick else 3.0),
        *_barrier(window_s),
        *_memory(),
    ]


def _throughput(window_s: float, *, quick: bool) -> Iterator[Cell]:
    for handlers in (1, 8, 32):

        def cell(
            label: str, subject: str, options: dict[str, Any], kind: str, package: str | None = None
        ) -> Cell:
            return Cell(
                measurement="throughput",
                case=f"{handlers} handler{'s' if handlers > 1 else ''}",  # noqa: B023 - called within the turn
                label=label,
                measure="throughput.measure",
                params={
                    "subject": subject,
                    "options": options,
                    "handlers": handlers,  # noqa: B023
                    "kind": kind,
                    "window_s": window_s,
                },
                package=package,
            )

        yield cell(FLOOR, "floor", {"handlers": "async"}, "async")
        yield cell(FLOOR_PLAIN, "floor", {"handlers": "plain"}, "plain")
        for publish in _PUBLISH_LABELS:
            for kind in ("async", "plain"):
                yield cell(ours(publish, kind), "openoutcry", {"publish": publish}, kind)
        for publish in ("publish", "many"):
            options = {"publish": publish, "event": "minimal"}
            yield cell(ours(publish, "async", "minimal"), "openoutcry", options, "async")
        yield cell("nautilus_trader, plain", "nautilus", {}, "plain", "nautilus_trader")
        yield cell("vnpy, plain", "vnpy", {}, "plain", "vnpy")
        if quick and handlers == 32:
            continue
        yield cell("pyee, plain", "pyee", {"handlers": "plain"}, "plain", "pyee")
        yield cell("pyee, async", "pyee", {"handlers": "async"}, "async", "pyee")
        yield cell("blinker, plain", "blinker", {}, "plain", "blinker")
        yield cell("aiopubsub, async", "aiopubsub", {}, "async", "aiopubsub")
        yield cell("queue and gather, async", "queue_gather", {}, "async")
        if handlers == 1 or (handlers == 8 and not quick):
            yield cell("bubus, async", "bubus", {}, "async", "bubus")


def _one_at_a_time(window_s: float) -> Iterator[Cell]:
    for loop in ("asyncio", "uvloop"):
        rows = (
            ("bare two-task ping", "measure_bare", {}, None),
            ("openoutcry, handler sets a future", "measure", {"subject": "openoutcry", "options": {}}, None),
            ("openoutcry, join()", "measure_joined", {"subject": "openoutcry", "options": {}}, None),
            (
                "nautilus_trader, direct call",
                "measure_direct",
                {"subject": "nautilus", "options": {}},
                "nautilus_trader",
            ),
        )
        for label, function, params, package in rows:
            yield Cell(
                measurement="one_at_a_time",
                case=loop,
                label=label,
                measure=f"one_at_a_time.{function}",
                params={**params, "window_s": window_s},
                loop=loop,
                package=package or ("uvloop" if loop == "uvloop" else None),
            )


_LATENCY_ROWS: tuple[tuple[str, str, dict[str, Any], str, str | None], ...] = (
    ("floor, loop.call_soon", "call_soon", {}, "plain", None),
    ("openoutcry await publish, async", "openoutcry", {}, "async", None),
    ("nautilus_trader, plain", "nautilus", {}, "plain", "nautilus_trader"),
    ("vnpy, plain", "vnpy", {}, "plain", "vnpy"),
    ("pyee, async", "pyee", {"handlers": "async"}, "async", "pyee"),
    ("aiopubsub, async", "aiopubsub", {}, "async", "aiopubsub"),
    ("queue and gather, async", "queue_gather", {}, "async", None),
)


_FALL_BEHIND = ("pyee", "aiopubsub", "queue_gather")
"""Buses that cannot keep up with 800,000 deliveries per second, and take long to drain what they were left with."""


def _latency(seconds: float, *, quick: bool) -> Iterator[Cell]:
    for rate_per_s in (10_000, 100_000):
        for handlers in (1, 8):
            for label, subject, options, kind, package in _LATENCY_ROWS:
                if quick and rate_per_s * handlers > 100_000 and subject in _FALL_BEHIND:
                    continue
                yield Cell(
                    measurement="latency",
                    case=f"{rate_per_s // 1000}k/s, {handlers} handler{'s' if handlers > 1 else ''}",
                    label=label,
                    measure="latency.measure",
                    params={
                        "subject": subject,
                        "options": options,
                        "handlers": handlers,
                        "kind": kind,
                        "rate_per_s": rate_per_s,
                        "seconds": seconds,
                    },
                    package=package,
                )


def _slow_handler(seconds: float) -> Iterator[Cell]:
    rows: tuple[tuple[str, str, dict[str, Any], str, int, str | None, str | None], ...] = (
        ("openoutcry, spill", "openoutcry", {}, "async", 1_000, None, None),
        ("openoutcry, drop_oldest", "openoutcry", {}, "async", 1_000, "drop_oldest", None),
        ("nautilus_trader, plain", "nautilus", {}, "plain", 20, None, "nautilus_trader"),
        ("vnpy, plain", "vnpy", {}, "plain", 20, None, "vnpy"),
        ("pyee, async", "pyee", {"handlers": "async"}, "async", 100, None, "pyee"),
        ("aiopubsub, async", "aiopubsub", {}, "async", 1_000, None, "aiopubsub"),
        ("queue and gather, async", "queue_gather", {}, "async", 20, None, None),
    )
    for slow in (False, True):
        for label, subject, options, kind, burst_size, overflow, package in rows:
            yield Cell(
                measurement="slow_handler",
                case="one slow" if slow else "none slow",
                label=label,
                measure="slow_handler.measure",
                params={
                    "subject": subject,
                    "options": options,
                    "kind": kind,
                    "slow": slow,
                    "burst_size": burst_size,
                    "seconds": seconds,
                    "overflow": overflow,
                },
                package=package,
            )


def _mixed(window_s: float) -> Iterator[Cell]:
    rows: tuple[tuple[str, str, dict[str, Any], str, str | None], ...] = (
        (FLOOR, "floor", {"handlers": "async"}, "async", None),
        (ours("publish"), "openoutcry", {"publish": "publish"}, "async", None),
        (ours("many"), "openoutcry", {"publish": "many"}, "async", None),
        ("nautilus_trader, plain", "nautilus", {}, "plain", "nautilus_trader"),
        ("vnpy, plain", "vnpy", {}, "plain", "vnpy"),
        ("aiopubsub, async", "aiopubsub", {}, "async", "aiopubsub"),
    )
    for label, subject, options, kind, package in rows:
        params = {"subject": subject, "options": options, "kind": kind, "window_s": window_s}
        yield Cell(
            measurement="mixed",
            case="3 types, 6 subscribers",
            label=label,
            measure="throughput.measure_mixed",
            params=params,
            package=package,
        )


def _created(window_s: float) -> Iterator[Cell]:
    for handlers in (1, 8):
        rows: tuple[tuple[str, str, dict[str, Any], str, str | None], ...] = (
            (FLOOR, "floor", {"handlers": "async"}, "async", None),
            (ours("publish"), "openoutcry", {"publish": "publish"}, "async", None),
            (ours("many"), "openoutcry", {"publish": "many"}, "async", None),
            ("nautilus_trader, plain", "nautilus", {}, "plain", "nautilus_trader"),
            ("vnpy, plain", "vnpy", {}, "plain", "vnpy"),
        )
        for label, subject, options, kind, package in rows:
            params = {
                "subject": subject,
                "options": options,
                "handlers": handlers,
                "kind": kind,
                "window_s": window_s,
            }
            yield Cell(
                measurement="created",
                case=f"{handlers} handler{'s' if handlers > 1 else ''}",
                label=label,
                measure="throughput.measure_created",
                params=params,
                package=package,
            )


def _suspending(window_s: float) -> Iterator[Cell]:
    for handlers in (1, 8):
        rows: tuple[tuple[str, str, dict[str, Any], str | None], ...] = (
            ("floor, a task per handler", "task_floor", {}, None),
            (ours("publish"), "openoutcry", {"publish": "publish"}, None),
            (ours("many"), "openoutcry", {"publish": "many"}, None),
            ("pyee, async", "pyee", {"handlers": "async"}, "pyee"),
            ("aiopubsub, async", "aiopubsub", {}, "aiopubsub"),
            ("queue and gather, async", "queue_gather", {}, None),
        )
        for label, subject, options, package in rows:
            params = {"subject": subject, "options": options, "handlers": handlers, "window_s": window_s}
            yield Cell(
                measurement="suspending",
                case=f"{handlers} handler{'s' if handlers > 1 else ''}",
                label=label,
                measure="throughput.measure_suspending",
                params=params,
                package=package,
            )


def _kill_switch(seconds: float) -> Iterator[Cell]:
    for busy in (False, True):
        for handlers in (1, 8):
            rows: tuple[tuple[str, str, dict[str, Any], str, str | None], ...] = (
                ("openoutcry", "openoutcry", {}, "async", None),
                ("vnpy", "vnpy", {}, "plain", "vnpy"),
                ("aiopubsub", "aiopubsub", {}, "async", "aiopubsub"),
            )
            for label, subject, options, kind, package in rows:
                if package is not None and handlers > 1:
                    continue
                yield Cell(
                    measurement="kill_switch",
                    case=f"{'50-us busy' if busy else '1-ms waiting'} handler, {handlers} agent{'s' if handlers > 1 else ''}",
                    label=label,
                    measure="kill_switch.measure",
                    params={
                        "subject": subject,
                        "options": options,
                        "kind": kind,
                        "busy": busy,
                        "handlers": handlers,
                        "seconds": seconds,
                    },
                    package=package,
                )


def _barrier(window_s: float) -> Iterator[Cell]:
    for label, form in (
        ("openoutcry, bare calls", "calls"),
        ("openoutcry, signals delivered to a subscriber", "delivered"),
        ("openoutcry, the chief waits in a task", "tasks"),
    ):
        yield Cell(
            measurement="barrier",
            case="14 agents",
            label=label,
            measure="barrier.measure",
            params={"form": form, "window_s": window_s},
        )
    yield Cell(
        measurement="barrier",
        case="14 agents",
        label="openoutcry, agents answer a tick in their handlers",
        measure="barrier.measure_answered",
        params={"window_s": window_s},
    )
    yield Cell(
        measurement="barrier",
        case="14 agents",
        label="openoutcry, SignalBarrier alone",
        measure="barrier.measure_alone",
        params={"window_s": window_s},
    )


def _memory() -> Iterator[Cell]:
    rows: tuple[tuple[str, str, dict[str, Any], str | None], ...] = (
        ("openoutcry", "openoutcry", {"settings": {"max_queue_size": 200_000}}, None),
        ("pyee, async", "pyee", {"handlers": "async"}, "pyee"),
        ("aiopubsub, async", "aiopubsub", {}, "aiopubsub"),
        ("queue and gather, async", "queue_gather", {}, None),
    )
    for trace in (False, True):
        for label, subject, options, package in rows:
            params = {"subject": subject, "options": options, "trace": trace}
            yield Cell(
                measurement="memory",
                case="tracemalloc" if trace else "resident set",
                label=label,
                measure="memory.measure",
                params=params,
                package=package,
            )
