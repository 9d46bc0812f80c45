"""The charts: bars as SVG, and one self-contained HTML page with all of them and the table of targets."""

from collections.abc import Sequence
from html import escape
from itertools import groupby
from typing import Any

from suite.measurements import MEASUREMENTS, Measurement
from suite.schedule import Row
from suite.table import number
from suite.verdict import Verdict

_WIDTH, _LABELS, _BAR, _GAP, _HEAD = 860, 300, 16, 6, 30
_COLOURS = {"openoutcry": "#0b7285", "floor": "#adb5bd", "bare": "#adb5bd"}
_PEER_COLOUR = "#e8a87c"
_FONT = 'font-family="system-ui, sans-serif"'


def throughput(rows: Sequence[Row]) -> str:
    """The throughput chart as a file of its own."""
    (measurement,) = (m for m in MEASUREMENTS if m.name == "throughput")
    return bars(measurement, [row for row in rows if row.cell.measurement == "throughput"])


def bars(measurement: Measurement, rows: Sequence[Row]) -> str:
    """Horizontal bars, grouped by case, one scale per case; a whisker shows the smallest and largest round."""
    body: list[str] = []
    y = _HEAD
    for case, members in groupby(rows, key=lambda row: row.cell.case):
        drawn = [row for row in members if row.middle(measurement.figure) is not None]
        if not drawn:
            continue
        body.append(
            f'<text x="8" y="{y}" font-size="13" font-weight="600" {_FONT} fill="#212529">{escape(case)}</text>'
        )
        y += 10
        largest = max(max(row.values(measurement.figure)) for row in drawn) or 1.0
        for row in drawn:
            body.append(_bar(measurement, row, y, largest))
            y += _BAR + _GAP
        y += 24
    title = escape(f"{measurement.title} [{measurement.unit}]")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {y}" width="{_WIDTH}" height="{y}" role="img">'
        f'<title>{title}</title><rect width="100%" height="100%" fill="#ffffff"/>{"".join(body)}</svg>'
    )


def _bar(measurement: Measurement, row: Row, y: int, largest: float) -> str:
    value = row.middle(measurement.figure) or 0.0
    values = row.values(measurement.figure)
    room = _WIDTH - _LABELS - 90
    low, high = (_LABELS + v / largest * room for v in (min(values), max(values)))
    middle = y + _BAR / 2
    return (
        f'<text x="{_LABELS - 8}" y="{y + 12}" font-size="11" text-anchor="end" {_FONT} fill="#343a40">'
        f"{escape(row.cell.label)}</text>"
        f'<rect x="{_LABELS}" y="{y}" width="{max(1.0, value / largest * room):.1f}" height="{_BAR}" rx="2" '
        f'fill="{_colour(row.cell.label)}"/>'
        f'<line x1="{low:.1f}" y1="{middle}" x2="{high:.1f}" y2="{middle}" stroke="#212529" stroke-width="1"/>'
        f'<text x="{max(high, _LABELS + value / largest * room) + 6:.1f}" y="{y + 12}" font-size="11" {_FONT} '
        f'fill="#343a40">{number(value)}</text>'
    )


def _colour(label: str) -> str:
    return next((colour for start, colour in _COLOURS.items() if label.startswith(start)), _PEER_COLOUR)


def page(rows: Sequence[Row], verdicts: Sequence[Verdict], facts: dict[str, Any]) -> str:
    """One HTML page that needs nothing else."""
    machine = facts["machine"]
    about = (
        f"openoutcry {facts['openoutcry']}, {machine['implementation']} {machine['python']}, {machine['system']}, "
        f"{machine['processor']}, {machine['cores']} cores, {machine['date']}; medians of {facts['repeat']} fresh "
        "processes, interleaved; the thin line spans the rounds"
    )
    sections = []
    for measurement in MEASUREMENTS:
        members = [row for row in rows if row.cell.measurement == measurement.name]
        if members:
            heading = f"<h2>{escape(measurement.title)} <small>{escape(measurement.unit)}</small></h2>"
            sections.append(f"{heading}<p>{escape(measurement.note)}</p>{bars(measurement, members)}")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>openoutcry benchmarks</title><style>'
        "body{font:15px/1.5 system-ui,sans-serif;max-width:900px;margin:2rem auto;padding:0 1rem;color:#212529}"
        "table{border-collapse:collapse;width:100%}td,th{padding:.25rem .6rem;border-bottom:1px solid #dee2e6;"
        "text-align:left}td.n{text-align:right;font-variant-numeric:tabular-nums}.met{color:#2b8a3e}"
        ".missed{color:#c92a2a}small,p{color:#495057}svg{max-width:100%;height:auto}</style></head><body>"
        f"<h1>openoutcry benchmarks</h1><p>{escape(about)}</p>{_verdict_table(verdicts)}{''.join(sections)}"
        "</body></html>\n"
    )


def _verdict_table(verdicts: Sequence[Verdict]) -> str:
    lines = ["<table><tr><th>workload</th><th></th><th>to reach</th><th>measured</th><th></th></tr>"]
    for verdict in verdicts:
        word, style = {True: ("met", "met"), False: ("not met", "missed"), None: ("", "")}[verdict.is_met]
        bound = "≥" if verdict.is_at_least else "≤"
        lines.append(
            f"<tr><td>{escape(verdict.workload)}</td><td>{escape(verdict.aim)}</td>"
            f'<td class="n">{bound} {escape(verdict.show(verdict.target))}</td>'
            f'<td class="n">{escape(verdict.show(verdict.measured))}</td><td class="{style}">{word}</td></tr>'
        )
    return "".join([*lines, "</table>"])
