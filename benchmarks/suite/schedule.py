"""Run the cells in fresh processes, interleaved, and keep every figure of every repetition.

Within a measurement the order is A B C, A B C, ...: what disturbs the machine for a while disturbs all alike, and
ratios are taken within a round.
"""

import json
import os
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from statistics import median

from suite.cells import Cell
from suite.environment import HERE

_TIMEOUT_S = 90


@dataclass
class Row:
    """All that one cell gave: one dict of figures per round, or the reason why there is none."""

    cell: Cell
    rounds: list[dict[str, float]] = field(default_factory=list)
    carries: str = ""
    error: str = ""

    def values(self, figure: str) -> list[float]:
        return [figures[figure] for figures in self.rounds if figure in figures]

    def middle(self, figure: str) -> float | None:
        values = self.values(figure)
        return median(values) if values else None

    def spread(self, figure: str) -> float | None:
        """Largest minus smallest, as a share of the median."""
        values = self.values(figure)
        middle = self.middle(figure)
        return (max(values) - min(values)) / middle if middle else None


Progress = Callable[[Cell, int, Row], None]


def run(cells: Sequence[Cell], python: Path, repeat: int, on_progress: Progress) -> list[Row]:
    """Run every cell `repeat` times. A cell that fails once is not run again."""
    rows: list[Row] = []
    for _, group in groupby(cells, key=lambda cell: cell.measurement):
        members = [Row(cell) for cell in group]
        for round_number in range(repeat):
            for row in members:
                if not row.error:
                    _run_one(row, python)
                    on_progress(row.cell, round_number, row)
        rows += members
    return rows


def _run_one(row: Row, python: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(HERE), str(HERE.parent / "src")))}
    command = [str(python), str(HERE / "cell.py"), json.dumps(row.cell.spec())]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, env=environment, timeout=_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        row.error = f"no result within {_TIMEOUT_S} s"
        return
    if done.returncode != 0:
        row.error = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        row.error = row.error.replace(str(HERE.parent), ".")
        return
    figures = json.loads(done.stdout.strip().splitlines()[-1])
    row.carries = figures.pop("carries", row.carries)
    row.rounds.append(figures)


def find(rows: Sequence[Row], measurement: str, case: str, label: str) -> Row | None:
    """The row of one cell, if it was run."""
    return next((row for row in rows if row.cell.key == (measurement, case, label)), None)


def ratio(row: Row | None, other: Row | None, figure: str) -> float | None:
    """The median over the rounds of `row / other`, each taken within its round."""
    if row is None or other is None:
        return None
    pairs = zip(row.values(figure), other.values(figure), strict=False)
    ratios = [mine / theirs for mine, theirs in pairs if theirs]
    return median(ratios) if ratios else None
