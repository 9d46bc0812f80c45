"""The report for the terminal: a table per measurement, then what was to be reached and whether it was."""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from suite.measurements import MEASUREMENTS, Measurement
from suite.schedule import Row, find, ratio
from suite.verdict import Verdict

_LABEL_WIDTH = 46
_EXTRA_FIGURES = {
    "latency": (("p99", "p99"), ("p999", "p99.9"), ("max", "max")),
    "kill_switch": (("p50", "p50"), ("max", "max"), ("flood", "flood")),
    "memory": (("events_mb", "events alone"),),
    "durable": (("put_per_s", "stored/s"), ("burst_per_s", "median burst"), ("wal_mb", "WAL MB")),
    "durable_single": (("put_per_s", "stored/s"),),
    "durable_latency": (
        ("p99", "p99"),
        ("p999", "p99.9"),
        ("handled_p50", "handled p50"),
        ("handled_p99", "p99"),
    ),
    "durable_recovery": (("first_ms", "first call ms"),),
}


def write(rows: Sequence[Row], verdicts: Sequence[Verdict], facts: dict[str, Any]) -> str:
    """The whole report as text."""
    parts = [_facts(facts)]
    for measurement in MEASUREMENTS:
        members = [row for row in rows if row.cell.measurement == measurement.name]
        if members:
            parts.append(_measurement(measurement, members))
    parts.append(_verdicts(verdicts))
    return "\n\n".join(parts)


def _facts(facts: dict[str, Any]) -> str:
    machine = facts["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    return (
        f"openoutcry {facts['openoutcry']} on {machine['implementation']} {machine['python']}, {machine['system']}, "
        f"{machine['processor']}, {machine['cores']} cores, load {machine.get('load_average_at_start', '?')} at the "
        f"start; medians of {facts['repeat']} fresh processes, interleaved\n{versions}"
    )


def _measurement(measurement: Measurement, rows: Sequence[Row]) -> str:
    lines = [f"{measurement.title} [{measurement.unit}]", f"  ({measurement.note})"]
    for case, members in groupby(rows, key=lambda row: row.cell.case):
        lines.append(f"  {case}")
        lines += [_row(measurement, row, rows) for row in members]
        if measurement.name == "slow_handler" and case == "one slow":
            lines.append("  kept by the seven, against the same bus with none slow")
            lines += _kept(rows)
    return "\n".join(lines)


def _row(measurement: Measurement, row: Row, rows: Sequence[Row]) -> str:
    head = f"    {row.cell.label:<{_LABEL_WIDTH}}"
    value = row.middle(measurement.figure)
    if value is None:
        return f"{head} {row.error or 'no figure'}"
    text = f"{head} {number(value):>12}  +-{50 * (row.spread(measurement.figure) or 0):4.0f} %"
    for figure, name in _EXTRA_FIGURES.get(measurement.name, ()):
        extra = row.middle(figure)
        text += f"   {name} {number(extra)}" if extra is not None else ""
    if measurement.baseline:
        base = find(rows, row.cell.measurement, row.cell.case, measurement.baseline)
        share = ratio(row, base, measurement.figure)
        text += f"   {100 * share:7.1f} %" if share is not None else ""
    return text


def _kept(rows: Sequence[Row]) -> list[str]:
    lines = []
    for row in rows:
        if row.cell.case == "one slow":
            base = find(rows, "slow_handler", "none slow", row.cell.label)
            share = ratio(row, base, "deliveries_per_s")
            lines.append(f"    {row.cell.label:<{_LABEL_WIDTH}} {_percent(share):>12}")
    return lines


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.2f} %"


def number(value: float) -> str:
    """Three or more significant digits, with millions and thousands written short."""
    if value >= 1e6:
        return f"{value / 1e6:.2f} M"
    if value >= 1e4:
        return f"{value / 1e3:.1f} k"
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}"


def _verdicts(verdicts: Sequence[Verdict]) -> str:
    lines = ["To reach, measured in this run"]
    for verdict in verdicts:
        word = {True: "met", False: "NOT MET", None: "-"}[verdict.is_met]
        bound = ">=" if verdict.is_at_least else "<="
        lines.append(
            f"  {verdict.workload:<28} {verdict.aim:<44} {bound} {verdict.show(verdict.target):>15}"
            f"  {verdict.show(verdict.measured):>15}  {word}"
        )
    met = sum(verdict.is_met is True for verdict in verdicts)
    run = sum(verdict.is_met is not None for verdict in verdicts)
    lines.append(f"  {met} of {run} met")
    return "\n".join(lines)
