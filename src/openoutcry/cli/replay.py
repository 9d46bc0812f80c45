"""`openoutcry replay`: runs a recorded day again, and says what its agents do otherwise; or a backtest."""

import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from openoutcry.cli.backtest import are_tables, refuse_options, run_backtest, tell_hashes, with_options
from openoutcry.cli.console import print_lines, say
from openoutcry.cli.journal import options
from openoutcry.cli.journal.access import plainly
from openoutcry.cli.journal.options import read_key
from openoutcry.cli.mistakes import FAILED, Mistake
from openoutcry.core.wording import counted
from openoutcry.errors import RecordTooThin
from openoutcry.journals.showing import json_line, time_of

if TYPE_CHECKING:
    from openoutcry.replay import Replayed

TOO_THIN: Final = 4


@click.command()
@click.argument(
    "paths",
    metavar="JOURNAL|TABLE...",
    nargs=-1,
    required=True,
    type=click.Path(path_type=Path, readable=False),
)
@click.option(
    "--app",
    metavar="MODULE:APP",
    help="The app of that day, which must be given its bus.  [default: what the journal says]",
)
@click.option("--from", "from_ns", type=options.INSTANT, metavar="TIME", help="Begin at this time (UTC).")
@click.option("--to", "to_ns", type=options.INSTANT, metavar="TIME", help="End before this time.")
@click.option("--strict", is_flag=True, help="Compare timestamps as well.")
@with_options
@options.as_json
@options.key_file
def replay(
    paths: tuple[Path, ...],
    app: str | None,
    from_ns: int | None,
    to_ns: int | None,
    strict: bool,
    as_json: bool,
    key_file: Path | None,
    **given: Any,
) -> None:
    """Run a recorded day again, and compare what its agents do.

    The agents are made anew by the app, and are handed what was recorded, in its order and at its time.
    What they publish is compared with what they published on that day, field by field. Whatever they do,
    the others are handed what was recorded, so that each is judged on its own. The main program is not run,
    and nothing goes out: no connection, no process, no file written.

    With tables of bars or ticks, CSV or Parquet, it is a backtest: each row is published at its instant, on
    virtual time, and the agents do what they do. Rows of several tables come in the order of their times. A
    column is a field by its name: time, symbol, price or open, high, low, close, volume, bid, ask, interval.

    Exit codes: 0 identical, or a backtest in which all was handled. 1 not identical, or not all was handled.
    2 a mistake in the command. 4 the record does not say enough; the message says what to record.
    """
    from openoutcry.replay import replay as run_again

    if are_tables(paths):
        _refuse_for_tables(from_ns, to_ns, strict, key_file)
        run_backtest(paths, app, as_json, given)
        return
    if len(paths) > 1:
        raise Mistake(f"{paths[1]}: one journal is replayed at a time")
    refuse_options(given)
    path, began_s = paths[0], time.monotonic()
    try:
        with plainly(path):
            found = run_again(path, app, strict=strict, from_ns=from_ns, to_ns=to_ns, key=read_key(key_file))
    except RecordTooThin as error:
        say(f"Error: {error}", err=True)
        sys.exit(TOO_THIN)
    if as_json:
        print_lines([json_line(found.to_dict())])
    else:
        _tell(found, time.monotonic() - began_s)
    if not found.identical:
        sys.exit(FAILED if found.is_taped else TOO_THIN)


def _refuse_for_tables(from_ns: int | None, to_ns: int | None, strict: bool, key_file: Path | None) -> None:
    """Raise `Mistake` if something was given that a backtest does not have."""
    for name, value in (("--from", from_ns), ("--to", to_ns), ("--strict", strict), ("--key-file", key_file)):
        if value:
            raise Mistake(f"{name} is for a journal, and these are tables: leave it out")


def _tell(found: "Replayed", took_s: float) -> None:
    day, first = time_of(found.from_wall_ns).split("T")
    last = time_of(found.to_wall_ns).split("T")[1]
    verdict = "identical" if found.identical else counted(len(found.differences), "difference")
    span = f"{day} {first[:8]} to {last[:8]}"
    say(f"replayed {found.entries_count:,} events of {span} in {took_s:,.1f} s: {verdict}")
    tell_hashes(found.replayed)
    counts = Counter(one.agent for one in found.differences)
    for one in found.first_differences():
        more = counts[one.agent] - 1
        say(f"  {one.text()}" + (f"   and {more:,} more" if more else ""))
    for limit in found.limits:
        say(f"  Not known: {limit}.")
