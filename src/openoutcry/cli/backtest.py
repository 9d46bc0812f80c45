"""What `openoutcry replay` does with tables of bars or ticks: a backtest."""

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from openoutcry.cli.console import print_lines, say
from openoutcry.cli.journal import options
from openoutcry.cli.mistakes import FAILED, Mistake
from openoutcry.core.wording import counted
from openoutcry.errors import InvalidRow
from openoutcry.journals.showing import json_line, time_of

if TYPE_CHECKING:
    from openoutcry.replay import Backtested, Hashes

_HEX: Final = 12
"""So many digits of a hash are shown; JSON has all of them."""
_BURIED_MOST: Final = 5


def _pairs(_context: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> dict[str, str]:
    """Take `name=value`, several times."""
    found: dict[str, str] = {}
    for text in value:
        name, sign, rest = text.rpartition("=") if parameter.name == "columns" else text.partition("=")
        if not sign or not name:
            raise click.BadParameter(f"{text!r}: write {parameter.metavar}")
        if name in found:
            raise click.BadParameter(f"{name!r} is given twice")
        found[name] = rest
    return found


_FILE: Final = click.Path(path_type=Path, dir_okay=False)
_OPTIONS: Final = (
    click.option("--broker", metavar="MODULE:APP", help="The venue of a backtest: it fills orders."),
    click.option(
        "--into", type=_FILE, metavar="FILE", help="Write the replay or backtest into this journal."
    ),
    click.option(
        "--like", type=_FILE, metavar="JOURNAL", help="Take settings, seed and origin from this journal."
    ),
    click.option("--config", type=_FILE, metavar="FILE", help="A TOML file with settings for the bus."),
    click.option(
        "--map",
        "columns",
        multiple=True,
        callback=_pairs,
        metavar="COLUMN=FIELD",
        help="Which column is which field; with nothing behind the sign it is left out.",
    ),
    click.option(
        "--set",
        "constants",
        multiple=True,
        callback=_pairs,
        metavar="FIELD=VALUE",
        help="symbol, interval or source_agent, where it is the same in all rows.",
    ),
    click.option("--zone", metavar="NAME", help="The time zone of times without one: America/New_York."),
    click.option("--unit", type=click.Choice(["s", "ms", "us", "ns"]), help="The unit of times as counts."),
    click.option(
        "--known-after",
        "known_after_ns",
        type=options.AGE,
        metavar="TIME",
        help="A row is known so long after its time: 5m, 16h.",
    ),
    click.option("--repeats", is_flag=True, help="Take ticks that are equal, time included."),
)
NAMES: Final = {
    "broker": "--broker",
    "like": "--like",
    "config": "--config",
    "columns": "--map",
    "constants": "--set",
    "zone": "--zone",
    "unit": "--unit",
    "known_after_ns": "--known-after",
    "repeats": "--repeats",
}
"""The options of a backtest alone."""


def with_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of a backtest to a command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def are_tables(paths: Sequence[Path]) -> bool:
    """Return True if these are tables, by their content. Raises `Mistake` for a journal among tables."""
    from openoutcry.replay.table_files import kind_of

    kinds = [kind_of(path) for path in paths]
    if len(paths) > 1 and None in kinds:
        path = paths[kinds.index(None)]
        raise Mistake(f"{path} is no CSV or Parquet file: name one journal, or tables alone")
    return None not in kinds


def refuse_options(given: dict[str, Any]) -> None:
    """Raise `Mistake` if something was given that only a backtest has."""
    for name, option in NAMES.items():
        if given[name]:
            raise Mistake(f"{option} is for a backtest, and this is a journal: leave it out, or name tables")


def run_backtest(paths: Sequence[Path], app: str | None, as_json: bool, given: dict[str, Any]) -> None:
    """Run a backtest, and tell how it ended."""
    from openoutcry.replay import backtest

    began_s = time.monotonic()
    after_ns = given.pop("known_after_ns")
    try:
        found = backtest(
            list(paths), app, known_after_s=None if after_ns is None else after_ns / 1e9, **given
        )
    except InvalidRow as problem:
        raise Mistake(str(problem)) from problem
    if as_json:
        print_lines([json_line(found.to_dict())])
    else:
        _tell(found, time.monotonic() - began_s)
    if not found.is_sound:
        sys.exit(FAILED)


def tell_hashes(hashes: "Hashes") -> None:
    """Print the three hashes of what was published."""
    say(
        f"  what {hashes.what[:_HEX]} ({hashes.events_count:,} events)   "
        f"decisions {hashes.decisions[:_HEX]} ({hashes.decisions_count:,})   order {hashes.order[:_HEX]}"
    )


def _tell(found: "Backtested", took_s: float) -> None:
    data = found.data
    first, last = (time_of(ns)[:19].replace("T", " ") for ns in (data.first_ns, data.last_ns))
    counts = ", ".join(f"{count:,} {name}" for name, count in found.counts.items()) or "nothing"
    say(
        f"backtested {counted(data.rows_count, 'row')} of {counted(len(data.symbols), 'symbol')}, "
        f"{first} to {last}, in {took_s:,.1f} s"
    )
    say(f"  published: {counts}")
    tell_hashes(found.published)
    if found.journal is not None:
        say(f"  the journal: {found.journal}")
    if found.refused_count:
        say(f"  {counted(found.refused_count, 'row')} found no room on the bus: agents are too slow for them")
    if found.left_count:
        say(f"  {counted(found.left_count, 'delivery')} were not handled a day after the last row")
    for one in found.buried[:_BURIED_MOST]:
        say(f"  {one.agent} could not handle {one.event_type} {one.event_id}: {one.why}")
    if len(found.buried) > _BURIED_MOST:
        say(f"  and {len(found.buried) - _BURIED_MOST:,} more")
