"""How each cost grows: subscriptions, agents in rounds, events that wait, the size of a journal.

    python benchmarks/scale.py              # up to 500 subscriptions, a million events, 4 GB: 10 to 15 minutes
    python benchmarks/scale.py --quick      # small sizes: under two minutes
    python benchmarks/scale.py --full       # a journal of 20 GB as well; it needs 25 GB on the disk
    python benchmarks/scale.py --only "journal|round"

Of each curve it prints what one unit costs at each size, beside the smallest: 1.00 is a cost that grows in step.
`linear` is for what must be done for each of them; `constant` for what their number must not matter to, such as a
tick beside 500 idle subscriptions. Every point is measured in a process of its own, the sizes of a curve in turns, and
the least of the rounds counts; times are those of the processor. The growth is the exponent of size that fits the
upper half of the sizes: 0 for constant, 1 for linear. A curve that grows faster than it may is measured once more, and
the least of both counts.

Writes scale.json and scale.html (a chart of each curve) to benchmarks/results.
Exit code: 1 if a curve grows faster than it may or could not be measured, 2 for what cannot be run.
"""

import argparse
import json
import math
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from html import escape
from pathlib import Path
from typing import Literal, NamedTuple

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
ROUNDS, ROUNDS_QUICK = 3, 1
SECONDS, SECONDS_QUICK = 0.3, 0.05
MARGIN = 0.2
"""A curve may grow by so much more than it should: what 500 mailboxes hold fits no cache that holds eight."""
_LIMIT_S = 3_600

Growth = Literal["constant", "linear"]


class Curve(NamedTuple):
    """What is measured at which sizes, and how it may grow."""

    name: str
    growth: Growth
    sizes: tuple[int, ...]
    per: str
    """What there are so many of."""
    unit: str = "us"
    most: float | None = None
    """The most that one of the largest size may cost, in the unit, where that is promised."""


SUBSCRIPTIONS = (8, 32, 125, 500)
IDLE = (1, 20, 100, 500)
WAITING = (10_000, 100_000, 1_000_000)
CURVES = (
    *(
        Curve(name, "constant", IDLE, "idle subscription")
        for name in (
            "a tick, others idle",
            "a tick at a time, others idle",
            "an order, others idle",
            "three types, others idle",
            "a journaled event, others idle",
            "a journaled event at a time, others idle",
        )
    ),
    *(
        Curve(name, "linear", SUBSCRIPTIONS, "subscription")
        for name in (
            "a tick to all",
            "a journaled event to all",
            "a kill switch to all",
            "subscribe, start, stop",
            "subscribe, start, stop, with a journal",
            "join",
            "get_status",
            "check_health",
            "metrics",
            "ledger",
            "what the page asks",
        )
    ),
    *(
        Curve(name, "linear", SUBSCRIPTIONS, "agent")
        for name in ("a round", "a round on a tick", "a journaled round")
    ),
    Curve("publish what waits", "linear", WAITING, "event"),
    Curve("drain what waited", "linear", WAITING, "event"),
    Curve("memory of what waits", "linear", WAITING, "event", "bytes", most=60.0),
    Curve("memory of what waits for all", "linear", SUBSCRIPTIONS, "subscription", "bytes"),
    Curve("a day replayed", "linear", SUBSCRIPTIONS, "subscription"),
)
JOURNAL = (
    *(
        Curve(name, "constant", (), "MB", unit)
        for name, unit in (
            ("a commit of 64 events", "us"),
            ("opening", "us"),
            ("opening, read", "bytes"),
            ("a restart with 5,000 pending", "us"),
            ("the newest 100", "us"),
            ("retire 16 commits", "us"),
            ("doctor", "us"),
        )
    ),
    *(
        Curve(name, "linear", (), "MB", unit)
        for name, unit in (
            ("find an old id", "us"),
            ("explain a fill", "us"),
            ("explain a fill, read", "bytes"),
            ("index for explanations", "us"),
            ("verify", "us"),
            ("read all", "us"),
        )
    ),
)
"""The curves of a journal that grows: scale_journal.py measures all of them at each size."""
MB_QUICK, MB, MB_FULL = (10, 30, 100), (100, 1_000, 4_000), (100, 1_000, 4_000, 20_000)


@dataclass
class Measured:
    """A curve and what its sizes cost, the least so far; or the reason for none."""

    curve: Curve
    costs: dict[int, float] = field(default_factory=dict)
    error: str = ""

    @property
    def growth(self) -> float:
        """The exponent of size that fits the upper half of the sizes."""
        points = [(size, cost) for size, cost in sorted(self.costs.items()) if size > 0]
        return exponent(points[len(points) // 2 - (len(points) < 4) :])

    def per_unit(self) -> dict[int, float]:
        """What one unit costs at each size: the whole of a constant cost."""
        is_constant = self.curve.growth == "constant"
        return {size: cost / (1 if is_constant else size) for size, cost in sorted(self.costs.items())}

    @property
    def ratio(self) -> float:
        """What a unit of the largest size costs beside one of the smallest."""
        costs = list(self.per_unit().values())
        return costs[-1] / costs[0]

    @property
    def verdict(self) -> str:
        if self.error or len(self.costs) < 2:
            return "failed"
        if self.curve.most is not None and list(self.per_unit().values())[-1] > self.curve.most:
            return "too much"
        if self.curve.growth == "constant":
            return "constant" if self.ratio <= 1 + MARGIN else "GROWS"
        return "linear" if self.growth <= 1 + MARGIN else "WORSE THAN LINEAR"

    @property
    def is_good(self) -> bool:
        return self.verdict == self.curve.growth


def exponent(points: Sequence[tuple[int, float]]) -> float:
    """Return the slope of the costs over the sizes, both as logarithms, by least squares."""
    logs = [(math.log(size), math.log(max(cost, 1e-9))) for size, cost in points]
    mean_x, mean_y = (sum(values) / len(logs) for values in zip(*logs, strict=True))
    spread = sum((x - mean_x) ** 2 for x, _ in logs)
    return sum((x - mean_x) * (y - mean_y) for x, y in logs) / spread if spread else 0.0


# -- measuring ------------------------------------------------------------------------------------


def measure(curves: Sequence[Curve], rounds: int, seconds: float, folder: Path | None) -> list[Measured]:
    """Measure curves, those once more that look too steep."""
    found = [Measured(curve) for curve in curves]
    for one in found:
        for _ in range(rounds):
            _add_round(one, seconds, folder)
        if not (one.is_good or one.error):
            _add_round(one, seconds, folder)
    return found


def _add_round(one: Measured, seconds: float, folder: Path | None) -> None:
    for size in one.curve.sizes:
        if one.error:
            return
        show(f"{one.curve.name}, {size:,}")
        with tempfile.TemporaryDirectory(prefix="scale-", dir=folder) as place:
            spec = {"curve": one.curve.name, "size": size, "seconds": seconds, "folder": place}
            try:
                (line,) = child("scale_lines.py", json.dumps(spec))
            except CannotMeasureError as error:
                one.error = f"{size:,}: {error}"
                return
        one.costs[size] = min(json.loads(line), one.costs.get(size, math.inf))


def measure_journal(curves: Sequence[Curve], sizes_mb: Sequence[int], folder: Path | None) -> list[Measured]:
    """Grow one journal through the sizes, and measure its curves at each of them."""
    found = [Measured(curve) for curve in curves]
    with tempfile.TemporaryDirectory(prefix="scale-", dir=folder) as place:
        spec = {"sizes_mb": list(sizes_mb), "folder": place}
        try:
            for line in child("scale_journal.py", json.dumps(spec)):
                at = json.loads(line)
                show(f"a journal of {at['mb']:,.0f} MB")
                for one in found:
                    one.costs[at["mb"]] = at["costs"][one.curve.name]
        except CannotMeasureError as error:
            for one in found:
                one.error = str(error)
    return found


class CannotMeasureError(Exception):
    """A child gave no figure; the message says why."""


def child(script: str, argument: str) -> Iterator[str]:
    """Run a script on the source beside it, and yield the lines that it prints."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "PYTHONHASHSEED": "0"}
    command = [sys.executable, str(HERE / script), argument]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment) as process:
        assert process.stdout is not None, "it is a pipe"
        assert process.stderr is not None, "likewise"
        yield from process.stdout
        said = process.stderr.read().strip().splitlines()
        if process.wait():
            raise CannotMeasureError((said or [f"exit code {process.returncode}"])[-1])


def show(text: str) -> None:
    """Show how far it is."""
    print(f"\r{text[:79]:<80}", end="\r", file=sys.stderr, flush=True)


# -- the report -----------------------------------------------------------------------------------


def table(found: Sequence[Measured]) -> str:
    """Return the curves as text: what a unit costs at each size, beside the smallest, as figures and as bars."""
    lines = []
    for one in found:
        lines.append(f"{one.curve.name}  [{_unit_of(one.curve)}]  {said(one)}")
        costs = one.per_unit()
        least, most = next(iter(costs.values()), 1.0), max(costs.values(), default=1.0)
        for size, cost in costs.items():
            bar = "#" * max(1, round(40 * cost / most))
            lines.append(f"  {_size(one.curve, size):>12} {number(cost):>10}  {cost / least:6.2f}  {bar}")
    return "\n".join(lines)


def _unit_of(curve: Curve) -> str:
    if curve.growth == "linear":
        return f"{curve.unit} per {curve.per}"
    return f"{curve.unit}, however many {curve.per}s"


def _size(curve: Curve, size: float) -> str:
    return f"{size:,.0f} {'MB' if curve.per == 'MB' else ''}".strip()


def said(one: Measured) -> str:
    """Return the verdict on a curve, with the reason."""
    if one.error:
        return f"failed: {one.error}"
    return f"{one.verdict} (growth {one.growth:.2f}, largest / smallest {one.ratio:.2f})"


def number(value: float) -> str:
    """Return three significant digits, thousands and millions written short."""
    for limit, letter in ((1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:.3g} {letter}"
    return f"{value:.3g}"


def page(found: Sequence[Measured]) -> str:
    """Return one HTML page with a chart of each curve: the cost of a unit beside the smallest size's."""
    charts = "".join(
        f"<figure><figcaption>{escape(one.curve.name)}<br><small>{escape(said(one))}</small></figcaption>"
        f"{chart(one)}</figure>"
        for one in found
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>How costs grow</title><style>'
        "body{font:15px/1.5 system-ui,sans-serif;max-width:1000px;margin:2rem auto;color:#212529}"
        "main{display:flex;flex-wrap:wrap;gap:1rem}figure{width:300px;margin:0}small{color:#495057}</style>"
        "</head><body><h1>How costs grow</h1><p>What one unit costs at each size, beside the smallest size; "
        f"flat is as it should be.</p><main>{charts}</main></body></html>\n"
    )


def chart(one: Measured, width: int = 300, height: int = 140) -> str:
    """Return a curve as SVG, the sizes on a logarithmic scale; the dashed line is the smallest size's cost."""
    costs = one.per_unit()
    if len(costs) < 2:
        return ""
    sizes, left, foot = list(costs), 10.0, height - 24.0
    first = costs[sizes[0]]
    tallest = max(2.0, *(cost / first for cost in costs.values()))
    span = math.log(sizes[-1] / sizes[0])

    def place(size: float, cost: float) -> tuple[float, float]:
        along = left + (width - 2 * left) * math.log(size / sizes[0]) / span
        return round(along, 1), round(foot - (foot - 8) * cost / first / tallest, 1)

    points = [place(size, cost) for size, cost in costs.items()]
    (_, level), line = place(sizes[0], first), " ".join(f"{x},{y}" for x, y in points)
    colour = "#0b7285" if one.is_good else "#c92a2a"
    dots = "".join(f'<circle cx="{x}" cy="{y}" r="3" fill="{colour}"/>' for x, y in points)
    words = "".join(
        f'<text x="{x}" y="{height - 8}" font-size="10" text-anchor="middle">{_size(one.curve, size)}</text>'
        for (x, _), size in zip(points, sizes, strict=True)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-20 0 {width + 40} {height}" role="img">'
        f'<line x1="0" x2="{width}" y1="{level}" y2="{level}" stroke="#adb5bd" stroke-dasharray="4 3"/>'
        f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>{dots}{words}</svg>'
    )


def record(found: Sequence[Measured]) -> str:
    """Return every figure as JSON."""
    curves = [
        {**asdict(one), "curve": one.curve._asdict(), "verdict": one.verdict, "growth": one.growth}
        if not one.error
        else {"curve": one.curve._asdict(), "error": one.error}
        for one in found
    ]
    return json.dumps(curves, indent=1) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, report, and return the exit code."""
    given = _parse(arguments)
    wanted = re.compile(given.only)
    curves = [curve for curve in CURVES if wanted.search(curve.name)]
    of_journal = [curve for curve in JOURNAL if wanted.search("journal: " + curve.name)]
    if not (curves or of_journal):
        print(f"--only is {given.only!r}, and no curve has such a name", file=sys.stderr)
        return 2
    rounds, seconds, sizes_mb = ROUNDS, SECONDS, MB_FULL if given.full else MB
    if given.quick:
        rounds, seconds, sizes_mb = ROUNDS_QUICK, SECONDS_QUICK, MB_QUICK
        curves = [curve._replace(sizes=(curve.sizes[0], *curve.sizes[2:])) for curve in curves]
        curves = [curve._replace(sizes=tuple(min(size, 200_000) for size in curve.sizes)) for curve in curves]
    found = measure(curves, rounds, seconds, given.folder)
    if of_journal:
        found += measure_journal(of_journal, sizes_mb, given.folder)
    show("")
    print(table(found))
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "scale.json").write_text(record(found), encoding="utf-8")
    (given.out / "scale.html").write_text(page(found), encoding="utf-8")
    bad = [one.curve.name for one in found if not one.is_good]
    print(f"\n{len(found) - len(bad)} of {len(found)} curves grow as they may; scale.html has the charts")
    if bad:
        print("not: " + ", ".join(bad))
    return 1 if bad else 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="small sizes, one round: under two minutes")
    size.add_argument("--full", action="store_true", help="a journal of 20 GB as well")
    parser.add_argument("--only", default="", metavar="REGEX", help="only the curves whose names match")
    parser.add_argument(
        "--folder", type=Path, metavar="DIR", help="where journals stand (the system's place)"
    )
    parser.add_argument("--out", type=Path, default=HERE / "results", metavar="DIR", help="where files go")
    given = parser.parse_args(arguments)
    try:
        re.compile(given.only)
    except re.error as error:
        parser.error(f"--only is {given.only!r}, which is not a regular expression: {error}")
    if given.folder is not None and not given.folder.is_dir():
        parser.error(f"--folder is {given.folder}; it must be a folder that exists")
    return given


if __name__ == "__main__":
    sys.exit(main())
