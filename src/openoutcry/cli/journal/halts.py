"""`openoutcry halts`: which kill switches are active, and their release by the owner of the journal."""

from pathlib import Path

import click

from openoutcry.cli.console import print_lines, say, table
from openoutcry.cli.journal import options
from openoutcry.cli.journal.access import reading
from openoutcry.cli.mistakes import Mistake
from openoutcry.cli.operating import release_from
from openoutcry.core.halts import Halt
from openoutcry.journals.showing import json_line, time_of


@click.command()
@options.journal
@click.option("--release", "ids", multiple=True, metavar="ID", help="Release this kill switch; repeat it.")
@click.option("--release-scope", "scope", metavar="SCOPE", help="Release all of this scope, such as firm.")
@click.option("--reason", metavar="TEXT", help="Why; needed to release.")
@options.as_json
@options.key_file
def halts(
    path: Path,
    ids: tuple[str, ...],
    scope: str | None,
    reason: str | None,
    as_json: bool,
    key_file: Path | None,
) -> None:
    """List the active kill switches, or release some of them.

    To release them is what `openoutcry release` does as well, which asks first.
    """
    if ids or scope is not None:
        say(release_from(path, ids, scope, reason or "", key_file))
        return
    if reason is not None:
        raise Mistake("--reason goes with --release or --release-scope: say what to release")
    with reading(path, key_file) as reader:
        found = reader.halts()
    if as_json:
        print_lines(json_line(halt.to_dict()) for halt in found)
    elif found:
        table(("scope", "since", "id", "by", "reason"), [_columns(halt) for halt in found])
    else:
        say("no kill switch is active")


def _columns(halt: Halt) -> tuple[object, ...]:
    name = halt.event_id or f"({halt.count:,} more)"
    return halt.scope, time_of(halt.since_ns), name, halt.by, halt.reason
