"""Draws charts as SVG text: scales, axes, lines, areas. No script, no library."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date
from html import escape
from itertools import count
from typing import NamedTuple

Scale = Callable[[float], float]
_ids = count(1)


class Size(NamedTuple):
    """A chart's size in its own units, and the space kept for axes."""

    name: str
    width: int
    height: int
    left: int
    right: int
    top: int
    bottom: int

    @property
    def narrow(self) -> bool:
        """Whether it is for a narrow page, or half a wide one."""
        return self.width < 500

    @property
    def plot_right(self) -> int:
        """The right edge of the plot."""
        return self.width - self.right

    @property
    def plot_bottom(self) -> int:
        """The lower edge of the plot."""
        return self.height - self.bottom


WIDE = Size("wide", 960, 340, 64, 96, 14, 28)
NARROW = Size("narrow", 400, 280, 54, 14, 12, 26)
SIZES = (WIDE, NARROW)
"""Charts are drawn for wide and narrow pages, so that letters keep their size; the style shows one."""


def linear(low: float, high: float, start: float, end: float) -> Scale:
    """Map low..high to start..end."""
    span = (high - low) or 1.0
    return lambda value: start + (value - low) / span * (end - start)


def logarithmic(low: float, high: float, start: float, end: float) -> Scale:
    """Map low..high to start..end so that equal ratios have equal lengths."""
    inner = linear(math.log(low), math.log(high), start, end)
    return lambda value: inner(math.log(max(value, low / 1e6)))


def nice_ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Return round numbers between low and high, roughly as many as asked for."""
    span = max(high - low, 1e-12)
    step = 10.0 ** math.floor(math.log10(span / about))
    step = next(step * times for times in (1, 2, 5, 10) if span / (step * times) <= about)
    first = math.ceil(low / step - 1e-9)
    return [round(step * number, 12) for number in range(first, math.floor(high / step + 1e-9) + 1)]


def ratio_ticks(low: float, high: float) -> list[float]:
    """Return round numbers for a logarithmic axis."""
    if high / low < 3:
        return nice_ticks(low, high, 4)
    steps: Sequence[float] = (1, 2, 5) if high / low < 200 else (1,)
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [step * 10.0**exponent for exponent in exponents for step in steps]
    inside = [tick for tick in ticks if low <= tick <= high]
    return inside if len(inside) > 2 else nice_ticks(low, high, 4)


@dataclass(slots=True)
class Drawing:
    """An SVG picture under construction."""

    size: Size
    title: str
    description: str
    parts: list[str] = field(default_factory=list)

    def add(self, part: str) -> None:
        """Add a piece of SVG."""
        self.parts.append(part)

    def text(self, x: float, y: float, words: str, *, kind: str = "tick", anchor: str = "start") -> None:
        """Add text at a place."""
        self.add(
            f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'
        )

    def line(self, points: Sequence[tuple[float, float]], kind: str) -> None:
        """Draw a line through points."""
        self.add(f'<path class="{kind}" d="{_path(points)}"/>')

    def area(self, points: Sequence[tuple[float, float]], base: float, kind: str) -> None:
        """Fill the space between a line and a base line."""
        if points:
            closed = [(points[0][0], base), *points, (points[-1][0], base)]
            self.add(f'<path class="{kind}" d="{_path(closed)}Z"/>')

    def box(self, x: float, y: float, width: float, height: float, kind: str, tip: str = "") -> None:
        """Draw a rectangle, with a tool tip if one is given."""
        inside = f"<title>{escape(tip)}</title>" if tip else ""
        self.add(
            f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{max(width, 0.4):.1f}" '
            f'height="{max(height, 0):.1f}">{inside}</rect>'
        )

    def y_axis(self, ticks: Sequence[float], scale: Scale, label: Callable[[float], str]) -> None:
        """Draw a rule and a label for each tick."""
        for tick in ticks:
            y = scale(tick)
            self.add(f'<path class="rule" d="M{self.size.left},{y:.1f}H{self.size.plot_right}"/>')
            self.text(self.size.left - 8, y + 4, label(tick), anchor="end")

    def x_axis(self, days: Sequence[date], scale: Scale) -> None:
        """Label years, or months if the time is short."""
        baseline = self.size.plot_bottom
        self.add(f'<path class="axis" d="M{self.size.left},{baseline}H{self.size.plot_right}"/>')
        for index, words in time_ticks(days, 7 if self.size.narrow else 14):
            x = scale(index)
            self.add(f'<path class="axis" d="M{x:.1f},{baseline}v5"/>')
            self.text(x, baseline + 19, words, anchor="middle")

    def render(self) -> str:
        """Return the SVG element."""
        mark = f"c{next(_ids)}"
        return (
            f'<svg class="{self.size.name}" viewBox="0 0 {self.size.width} {self.size.height}" role="img" '
            f'aria-labelledby="{mark}t {mark}d"><title id="{mark}t">{escape(self.title)}</title>'
            f'<desc id="{mark}d">{escape(self.description)}</desc>{"".join(self.parts)}</svg>'
        )


def time_ticks(days: Sequence[date], most: int) -> list[tuple[int, str]]:
    """Return the index and the label of the first day of each year, or month, at most so many."""
    by_month = (days[-1] - days[0]).days < 800
    firsts: list[tuple[int, str]] = []
    for index, day in enumerate(days):
        before = days[index - 1] if index else None
        if before is None or (day.month != before.month if by_month else day.year != before.year):
            firsts.append((index, f"{day:%b}" if by_month and day.month != 1 else f"{day:%Y}"))
    if len(firsts) > 1 and firsts[1][0] - firsts[0][0] < len(days) / (2 * most):
        del firsts[0]
    return firsts[:: -(-len(firsts) // most)]


def thinned(
    values: Sequence[float], most: int, pick: Callable[[Sequence[float]], float]
) -> list[tuple[int, float]]:
    """Return about `most` points at most: one per stretch of values, at its end, with what `pick` takes."""
    step = max(1, -(-len(values) // most))
    ends = range(0, len(values), step)
    points = [(min(start + step, len(values)) - 1, pick(values[start : start + step])) for start in ends]
    return points if points[0][0] == 0 else [(0, values[0]), *points]


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.1f},{y:.1f}" for x, y in points)
