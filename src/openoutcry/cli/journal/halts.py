"""`openoutcry halts`: which kill switches are active, and their release by the owner of the journal."""

from pathlib import Path

import click

from openoutcry.cli.console import print_lines, say, table
from openoutcry.cli.journal import options
from openoutcry.cli.journal.access import change, reading
from openoutcry.cli.journal.amending import release_halts
from openoutcry.cli.mistakes import Mistake
from openoutcry.core.halts import Halt
from openoutcry.journals import SqliteJournal
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

    A running bus releases them if it was made with a `control_releaser`. When no bus runs, the release is
    written into the journal, and the next start delivers it.
    """
    if ids or scope is not None:
        _release(path, ids, scope, reason, key_file)
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


def _release(
    path: Path, ids: tuple[str, ...], scope: str | None, reason: str | None, key_file: Path | None
) -> None:
    if not reason:
        raise Mistake("say why, with --reason: it is kept with the release")

    def offline(journal: SqliteJournal) -> int:
        entry, changes = release_halts(journal, scope, ids, reason)
        journal.write([entry], changes)
        journal.sync()
        return len(changes.released)

    arguments = {"scope": scope, "ids": list(ids) or None, "reason": reason}
    count, online = change(path, key_file, "release", arguments, offline)
    done = "by the running bus" if online else "in the journal: the next start delivers it"
    say(f"{count:,} kill switch{'' if count == 1 else 'es'} released {done}")
