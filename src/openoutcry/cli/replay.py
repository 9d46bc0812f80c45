"""`openoutcry replay`: runs a recorded day again, and says what its agents would do otherwise."""

import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from openoutcry.cli.console import print_lines, say
from openoutcry.cli.journal import options
from openoutcry.cli.journal.access import plainly
from openoutcry.cli.journal.options import read_key
from openoutcry.cli.mistakes import FAILED
from openoutcry.core.wording import counted
from openoutcry.errors import RecordTooThin
from openoutcry.journals.showing import json_line, time_of

if TYPE_CHECKING:
    from openoutcry.replay import Replayed

TOO_THIN: Final = 4
_HEX: Final = 12
"""So many digits of a hash are shown; JSON has all of them."""


@click.command()
@options.journal
@click.option(
    "--app",
    metavar="MODULE:APP",
    help="The app of that day, which must be given its bus.  [default: what the journal says]",
)
@click.option("--from", "from_ns", type=options.INSTANT, metavar="TIME", help="Begin at this time (UTC).")
@click.option("--to", "to_ns", type=options.INSTANT, metavar="TIME", help="End before this time.")
@click.option("--strict", is_flag=True, help="Compare timestamps as well.")
@options.as_json
@options.key_file
def replay(
    path: Path,
    app: str | None,
    from_ns: int | None,
    to_ns: int | None,
    strict: bool,
    as_json: bool,
    key_file: Path | None,
) -> None:
    """Run a recorded day again, and compare what its agents do.

    The agents are made anew by the app, and are handed what was recorded, in its order and at its time.
    What they publish is compared with what they published on that day, field by field. Whatever they do,
    the others are handed what was recorded, so that each is judged on its own. The main program is not run,
    and nothing goes out: no connection, no process, no file written.

    Exit codes: 0 identical. 1 not identical. 2 a mistake in the command. 4 the record does not say enough;
    the message says what to record.
    """
    from openoutcry.replay import replay as run_again

    began_s = time.monotonic()
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


def _tell(found: "Replayed", took_s: float) -> None:
    day, first = time_of(found.from_wall_ns).split("T")
    last = time_of(found.to_wall_ns).split("T")[1]
    verdict = "identical" if found.identical else counted(len(found.differences), "difference")
    span = f"{day} {first[:8]} to {last[:8]}"
    say(f"replayed {found.entries_count:,} events of {span} in {took_s:,.1f} s: {verdict}")
    hashes = found.replayed
    say(
        f"  what {hashes.what[:_HEX]} ({hashes.events_count:,} events)   "
        f"decisions {hashes.decisions[:_HEX]} ({hashes.decisions_count:,})   order {hashes.order[:_HEX]}"
    )
    counts = Counter(one.agent for one in found.differences)
    for one in found.first_differences():
        more = counts[one.agent] - 1
        say(f"  {one.text()}" + (f"   and {more:,} more" if more else ""))
    for limit in found.limits:
        say(f"  Not known: {limit}.")
