"""The figures to reach, and whether this run reached them. Claims are ratios taken within one run."""

from collections.abc import Sequence

from suite.catalogue import FLOOR, ours
from suite.schedule import Row, find, ratio
from suite.verdict import Verdict

NAUTILUS = "nautilus_trader, plain"


def verdicts(rows: Sequence[Row]) -> list[Verdict]:
    """Every line of the targets, in order."""
    return [
        *_throughput(rows),
        *_one_at_a_time(rows),
        *_latency(rows),
        *_barrier(rows),
        *_slow_handler(rows),
        *_kill_switch(rows),
        *_memory(rows),
    ]


def _throughput(rows: Sequence[Row]) -> list[Verdict]:
    def share(case: str, mine: str, other: str) -> float | None:
        pair = (find(rows, "throughput", case, label) for label in (mine, other))
        return ratio(*pair, "deliveries_per_s")

    def line(case: str, aim: str, target: float, mine: str, other: str, unit: str = "%") -> Verdict:
        return Verdict(case, aim, target, share(case, mine, other), unit, is_at_least=True)

    return [
        line("1 handler", "await publish, of the floor", 0.20, ours("publish"), FLOOR),
        line("1 handler", "publish_many, of the floor", 0.33, ours("many"), FLOOR),
        line("1 handler", "await publish, against nautilus_trader", 3.0, ours("publish"), NAUTILUS, "x"),
        line("8 handlers", "await publish, of the floor", 0.60, ours("publish"), FLOOR),
        line("8 handlers", "publish_many, of the floor", 0.70, ours("many"), FLOOR),
        line("32 handlers", "await publish, of the floor", 0.78, ours("publish"), FLOOR),
        line(
            "32 handlers",
            "plain handlers, against nautilus_trader",
            1.2,
            ours("publish", "plain"),
            NAUTILUS,
            "x",
        ),
    ]


def _one_at_a_time(rows: Sequence[Row]) -> list[Verdict]:
    found = []
    for loop in ("asyncio", "uvloop"):
        labels = ("openoutcry, handler sets a future", "bare two-task ping")
        share = ratio(*(find(rows, "one_at_a_time", loop, label) for label in labels), "round_trips_per_s")
        found.append(
            Verdict(f"one at a time, {loop}", "of a bare two-task ping", 0.70, share, "%", is_at_least=True)
        )
    return found


_LATENCY_US = {
    "100k/s, 1 handler": (8.0, 15.0, 60.0),
    "100k/s, 8 handlers": (50.0, 110.0, 200.0),
    "10k/s, 1 handler": (8.0, 25.0, 60.0),
}


def _latency(rows: Sequence[Row]) -> list[Verdict]:
    found = []
    for case, limits_us in _LATENCY_US.items():
        row = find(rows, "latency", case, "openoutcry await publish, async")
        for name, limit_us in zip(("p50", "p99", "p999"), limits_us, strict=True):
            measured = row.middle(name) if row else None
            aim = {"p50": "p50", "p99": "p99", "p999": "p99.9"}[name]
            found.append(Verdict(f"latency, {case}", aim, limit_us, measured, "us", is_at_least=False))
    return found


def _barrier(rows: Sequence[Row]) -> list[Verdict]:
    found = []
    for label, aim in (
        ("openoutcry, bare calls", "bare calls"),
        ("openoutcry, signals delivered to a subscriber", "signals delivered to a subscriber"),
    ):
        row = find(rows, "barrier", "14 agents", label)
        rate = row.middle("rounds_per_s") if row else None
        found.append(Verdict("barrier, 14 agents", aim, 40_000.0, rate, "rounds/s", is_at_least=True))
    return found


def _slow_handler(rows: Sequence[Row]) -> list[Verdict]:
    found = []
    for policy in ("spill", "drop_oldest"):
        pair = (
            find(rows, "slow_handler", case, f"openoutcry, {policy}") for case in ("one slow", "none slow")
        )
        kept = ratio(*pair, "deliveries_per_s")
        loss = None if kept is None else max(0.0, 1.0 - kept)
        aim = f"loss of the other seven ({policy})"
        found.append(Verdict("one slow handler of eight", aim, 0.10, loss, "%", is_at_least=False))
    return found


def _kill_switch(rows: Sequence[Row]) -> list[Verdict]:
    found = []
    for case in (
        row.cell.case
        for row in rows
        if row.cell.measurement == "kill_switch" and row.cell.label == "openoutcry"
    ):
        row = find(rows, "kill_switch", case, "openoutcry")
        p99_us = row.middle("p99") if row else None
        found.append(
            Verdict("kill switch, 100x flood", f"p99, {case}", 1_000.0, p99_us, "us", is_at_least=False)
        )
    return found


def _memory(rows: Sequence[Row]) -> list[Verdict]:
    found = []
    for case in ("resident set", "tracemalloc"):
        row = find(rows, "memory", case, "openoutcry")
        added_mb = row.middle("queue_mb") if row else None
        aim = f"added to the events ({case})"
        found.append(Verdict("100,000 queued events", aim, 6.0, added_mb, "MB", is_at_least=False))
    return found
