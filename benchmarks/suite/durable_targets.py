"""The figures of durability to reach, and whether this run reached them."""

from collections.abc import Sequence

from suite.durable import FLOOR, FLOOR_SYNC, OFFERED, many, publishers
from suite.schedule import Row, find, ratio
from suite.verdict import Verdict

_RATES = {
    ("process", many()): 600_000.0,
    ("disk", many()): 450_000.0,
    ("process", publishers(512)): 330_000.0,
    ("disk", publishers(512)): 260_000.0,
}
WAL_MAX_MB = 80.0
"""Commits wait at 64 MB whatever happens; a commit more, and the frames' own bytes, come on top."""


def verdicts(rows: Sequence[Row]) -> list[Verdict]:
    """Every line, in order."""
    return [
        *_rates(rows),
        *_floors(rows),
        *_latency(rows),
        *_recovery(rows),
        *_sizes(rows),
        *_memory_level(rows),
    ]


def _rates(rows: Sequence[Row]) -> list[Verdict]:
    found = []
    for (level, label), target in _RATES.items():
        row = find(rows, "durable", level, label)
        rate = row.middle("events_per_s") if row else None
        aim = label.removeprefix("openoutcry ")
        found.append(Verdict(f"durable, {level}", aim, target, rate, "events/s", is_at_least=True))
    return found


def _floors(rows: Sequence[Row]) -> list[Verdict]:
    found = []
    for level, share in (("process", 0.74), ("disk", 0.67)):
        pair = (find(rows, "durable", level, label) for label in (many(), FLOOR))
        measured = ratio(*pair, "events_per_s")
        found.append(
            Verdict(
                f"durable, {level}", "publish_many, of bare SQLite", share, measured, "%", is_at_least=True
            )
        )
    pair = (find(rows, "durable_single", "disk", label) for label in (publishers(1), FLOOR_SYNC))
    share = ratio(*pair, "events_per_s")
    found.append(Verdict("one at a time, disk", "of a bare fdatasync", 0.5, share, "%", is_at_least=True))
    return found


def _latency(rows: Sequence[Row]) -> list[Verdict]:
    case = "process, 10k/s offered"
    mine = find(rows, "durable_latency", case, "openoutcry await publish")
    p50 = ratio(mine, find(rows, "durable_latency", case, OFFERED), "p50")
    p99_us = mine.middle("p99") if mine else None
    worst_us = max(mine.values("p99"), default=None) if mine else None
    return [
        Verdict(f"durable latency, {case}", "p50, of a bare commit", 3.0, p50, "x", is_at_least=False),
        Verdict(f"durable latency, {case}", "p99", 1_000.0, p99_us, "us", is_at_least=False),
        Verdict(
            f"durable latency, {case}", "p99 of the worst round", 4_000.0, worst_us, "us", is_at_least=False
        ),
    ]


def _recovery(rows: Sequence[Row]) -> list[Verdict]:
    row = find(rows, "durable_recovery", "everything pending", "openoutcry")
    rate, first_ms = (row.middle(name) if row else None for name in ("events_per_s", "first_ms"))
    return [
        Verdict("recovery", "events handled", 500_000.0, rate, "events/s", is_at_least=True),
        Verdict("recovery", "first handler call", 100.0, first_ms, "ms", is_at_least=False),
    ]


def _sizes(rows: Sequence[Row]) -> list[Verdict]:
    row = find(rows, "durable_size", "300-byte events", "openoutcry, 512 per commit")
    size = row.middle("bytes_per_byte") if row else None
    found = [Verdict("file size", "of the payload, 512 per commit", 1.2, size, "x", is_at_least=False)]
    for level in ("process", "disk"):
        row = find(rows, "durable", level, many())
        wal_mb = row.middle("wal_mb") if row else None
        found.append(
            Verdict("write-ahead log", f"largest, {level}", WAL_MAX_MB, wal_mb, "MB", is_at_least=False)
        )
    return found


def _memory_level(rows: Sequence[Row]) -> list[Verdict]:
    found = []
    cases = dict.fromkeys(row.cell.case for row in rows if row.cell.measurement == "durable_memory_level")
    for case in cases:
        pair = (find(rows, "durable_memory_level", case, f"persistence {state}") for state in ("on", "off"))
        share = ratio(*pair, "deliveries_per_s")
        found.append(
            Verdict("market data, persistence on", f"of off, {case}", 0.97, share, "%", is_at_least=True)
        )
    return found
