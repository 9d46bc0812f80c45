"""The demonstration: runs the firm over real bars, shows its progress, and reports the results."""

import asyncio
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import click

from openoutcry.errors import ConfigError
from openoutcry.firm.application import STRATEGIES
from openoutcry.firm.bars import SYMBOLS, load_history
from openoutcry.firm.chaos import draw_plan
from openoutcry.firm.house import CALM, STORMY, WATCHED, House
from openoutcry.firm.progress import RichProgress, progress_for
from openoutcry.firm.report import write_report
from openoutcry.firm.results import gather
from openoutcry.firm.strategies import recipes
from openoutcry.firm.summary import print_plain, print_rich
from openoutcry.runtime.durability.recorder import running_app

SOUND, UNSOUND, MISTAKE = 0, 1, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOptions:
    """What to run, and how to show it.

    Attributes:
        speed: Trading days per second of real time; None for as fast as possible.
        symbols: What to trade.
        agents: How many strategies, 6 to 64; beyond the fourteen kinds their settings vary.
        chaos: Seed of the faults; None for a calm run.
        days: How many trading days, from the first; None for all.
        report: Where the HTML report is written; its folder is made if needed.
        plain: Lines of text instead of a live display.
        record: The journal in which the run is recorded, so that it can be replayed; None for none.

    """

    speed: float | None = None
    symbols: tuple[str, ...] = SYMBOLS
    agents: int = STRATEGIES
    chaos: int | None = None
    days: int | None = None
    report: Path = Path("out/report.html")
    plain: bool = False
    record: Path | None = None


def run_demo(options: DemoOptions) -> int:
    """Run the demonstration, print its summary and write its report.

    Returns 0 if nothing was lost, 1 if the bus's ledger or the firm's books do not balance, 2 for options out
    of range (reported on standard error).
    """
    try:
        house = build_house(options, options.record)
    except ConfigError as error:
        click.echo(f"Error: {error}", err=True)
        return MISTAKE
    days_count = house.plan.days if house.plan else len(house.history.sessions)
    click.echo(
        f"A firm of {options.agents} strategies on {len(house.history.symbols)} symbols opens for business."
    )
    with QuietLog() as log, progress_for(days_count, plain=options.plain) as progress:
        asyncio.run(house.run(progress.day, days_per_s=options.speed))
    results = gather(house)
    (print_rich if isinstance(progress, RichProgress) else print_plain)(results)
    if log.count:
        click.echo(f"The bus logged {log.count} lines meanwhile, the last: {log.last}")
    write_report(results, options.report)
    click.echo(f"\nThe report: {options.report}")
    if options.record is not None:
        click.echo(f"The record: {options.record}  (openoutcry replay {options.record})")
    return SOUND if results.sound else UNSOUND


def build_house(options: DemoOptions, journal: Path | None = None) -> House:
    """Build the house for these options, on a journal to be watched or in memory.

    Raises `ConfigError` for an option that is out of range.
    """
    if options.speed is not None and not options.speed > 0:
        raise ConfigError(
            f"speed={options.speed}: trading days per second must be above 0, or None for no limit"
        )
    if options.record is not None:
        _check_recordable(options, options.record)
    history = load_history(options.symbols, days=options.days)
    chosen = recipes(options.agents)
    if options.chaos is None:
        is_recorded = options.record is not None
        return House(history, chosen, timing=CALM, journal=journal, is_recorded=is_recorded)
    plan = draw_plan(options.chaos, [recipe.name for recipe in chosen], len(history.sessions))
    timing = STORMY if journal is None else WATCHED
    return House(history, chosen, timing=timing, plan=plan, journal=journal)


def _check_recordable(options: DemoOptions, record: Path) -> None:
    """Raise `ConfigError` for a run that `openoutcry.firm:app` would not be the app of."""
    if options.agents != STRATEGIES or options.chaos is not None:
        raise ConfigError(
            f"record={str(record)!r} with agents={options.agents} and chaos={options.chaos}: what is "
            f"recorded is replayed with openoutcry.firm:app, which has {STRATEGIES} strategies and no chaos; "
            "leave these out"
        )
    if record.exists():
        raise ConfigError(f"record={str(record)!r}: there is such a file; name a new one")
    record.parent.mkdir(parents=True, exist_ok=True)
    running_app.set("openoutcry.firm:app")


class QuietLog(logging.Handler):
    """Counts what the bus logs instead of printing it into the live display."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0
        self.last = ""
        self._logger = logging.getLogger("openoutcry")

    def emit(self, record: logging.LogRecord) -> None:
        """Count a line."""
        self.count += 1
        self.last = record.getMessage()

    def __enter__(self) -> Self:
        self._propagate, self._logger.propagate = self._logger.propagate, False
        self._logger.addHandler(self)
        return self

    def __exit__(self, *_error: object) -> None:
        self._logger.removeHandler(self)
        self._logger.propagate = self._propagate
