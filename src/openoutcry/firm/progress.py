"""Live progress of a run: a live table with rich on a terminal, otherwise a line now and then."""

import importlib.util
import sys
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

import click

from openoutcry.firm.house import House
from openoutcry.firm.money import in_words

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

REFRESH_NS = 100_000_000
PLAIN_LINES = 10
SPARKS = "▁▂▃▄▅▆▇█"


class Progress(Protocol):
    """Shows the progress of a run. Used as a context manager around it."""

    def day(self, house: House) -> None:
        """Show that a day has ended."""
        ...

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def progress_for(days_count: int, *, plain: bool) -> Progress:
    """Choose the display: rich if it is installed and standard output is a terminal, else plain."""
    rich = not plain and sys.stdout.isatty() and importlib.util.find_spec("rich") is not None
    return RichProgress(days_count) if rich else PlainProgress(days_count)


def sparkline(values: list[int], width: int) -> str:
    """Draw values as a line of at most `width` blocks, scaled from the lowest to the highest."""
    if not values:
        return ""
    step = max(1, -(-len(values) // width))
    picked = values[::step]
    low, high = min(picked), max(picked)
    return "".join(SPARKS[(value - low) * (len(SPARKS) - 1) // max(1, high - low)] for value in picked)


class PlainProgress:
    """About ten lines over the run."""

    def __init__(self, days_count: int, echo: Callable[[str], None] = click.echo) -> None:
        self._days_count = days_count
        self._echo = echo
        self._next = max(1, days_count // PLAIN_LINES)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Do nothing: there is nothing to clean up."""

    def day(self, house: House) -> None:
        """Print a line for every tenth of the days."""
        if house.days_done < self._next:
            return
        self._next += max(1, self._days_count // PLAIN_LINES)
        book = house.firm.portfolio.book
        self._echo(
            f"{house.firm.portfolio.day}  day {house.days_done:>5,} of {self._days_count:,}  "
            f"equity {in_words(book.equity):>12}  rounds {_rounds(house):>7,}  fills {book.fills_count:>5,}  "
            f"{_rate(house):>8,.0f} events/s"
        )


class RichProgress:
    """A live table, redrawn at most ten times a second and without a thread of its own."""

    def __init__(self, days_count: int) -> None:
        self._days_count = days_count
        self._live: Live | None = None
        self._drawn_ns = -REFRESH_NS

    def __enter__(self) -> Self:
        from rich.live import Live  # noqa: PLC0415 - rich is optional

        self._live = Live(auto_refresh=False, transient=True)
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._live is not None
        self._live.stop()

    def day(self, house: House) -> None:
        """Redraw, if the last drawing is old enough or this was the last day."""
        now_ns = house.clock.now_ns()
        if now_ns - self._drawn_ns < REFRESH_NS and house.days_done < self._days_count:
            return
        assert self._live is not None
        self._live.update(self._draw(house), refresh=True)
        self._drawn_ns = house.clock.now_ns()

    def _draw(self, house: House) -> "RenderableType":
        from rich.console import Group  # noqa: PLC0415 - rich is optional
        from rich.progress_bar import ProgressBar  # noqa: PLC0415
        from rich.table import Table  # noqa: PLC0415

        table = Table.grid(padding=(0, 2))
        table.add_column(style="dim", width=12)
        table.add_column(justify="right", width=14)
        table.add_column()
        portfolio = house.firm.portfolio
        gain = portfolio.book.equity / house.mandate.capital - 1
        colour = "green" if gain >= 0 else "red"
        bar = ProgressBar(total=self._days_count, completed=house.days_done, width=44)
        table.add_row("date", portfolio.day, bar)
        table.add_row(
            "equity",
            in_words(portfolio.book.equity),
            f"[{colour}]{gain:+7.1%}[/]  {sparkline(portfolio.equity, 34)}",
        )
        table.add_row("rounds", f"{_rounds(house):,}", _round_words(house))
        table.add_row(
            "trades",
            f"{portfolio.book.fills_count:,}",
            f"{house.firm.cio.decisions_count:,} decisions asked for them",
        )
        table.add_row("events", f"{_rate(house):,.0f}/s", f"{house.bus.metrics.published:,} published")
        table.add_row("kill lane", _lane(house), _lane_words(house))
        return Group(table)


def _rounds(house: House) -> int:
    return house.firm.cio.tally.by_status.total()


def _round_words(house: House) -> str:
    return ", ".join(f"{count:,} {status}" for status, count in house.firm.cio.tally.by_status.items())


def _rate(house: House) -> float:
    return house.bus.metrics.published / max(house.elapsed_ns - house.paused_ns, 1) * 1e9


def _lane(house: House) -> str:
    return "clear" if house.kill is None else "[red]THROWN[/]"


def _lane_words(house: House) -> str:
    if house.kill is None:
        return f"backpressure {house.bus.backpressure_level.value}"
    kill = house.kill
    return f"on {kill.day}; all {len(kill.heard_ns)} agents had heard within {kill.slowest_ms:.2f} ms"
