"""`openoutcry backup` and `openoutcry restore`: a verified copy of a journal, and how it is put back."""

from pathlib import Path
from typing import Any

import click
import msgspec

from openoutcry.cli.console import facts, print_lines, progress, say
from openoutcry.cli.journal import options
from openoutcry.cli.journal.access import plainly
from openoutcry.cli.journal.options import read_key
from openoutcry.journals import BackedUp, Restored
from openoutcry.journals.showing import json_line, time_of


@click.command()
@options.journal
@click.argument("target", metavar="TARGET", type=click.Path(path_type=Path))
@options.as_json
@options.key_file
def backup(path: Path, target: Path, as_json: bool, key_file: Path | None) -> None:
    """Copy JOURNAL into the new file TARGET, also while a bus runs.

    TARGET appears only when it is complete and verified. `openoutcry restore` puts it back.
    """
    from openoutcry.journals import backup as make

    with plainly(path), progress("backing up") as tell:
        made = make(path, target, key=read_key(key_file), progress=tell)
    if as_json:
        print_lines([json_line(_plain(made))])
        return
    facts(f"{made.path} is a backup of {path}", [*_rows(made), ("size", f"{made.size_bytes:,} bytes")])


@click.command()
@click.argument("source", metavar="BACKUP", type=click.Path(path_type=Path))
@options.journal
@options.as_json
@options.key_file
def restore(source: Path, path: Path, as_json: bool, key_file: Path | None) -> None:
    """Put BACKUP in the place of JOURNAL, while no bus runs.

    BACKUP is verified first. What stood there is kept beside it, under a name that is printed. What happened
    since the backup is then missing: reconcile orders, fills and kill switches before the firm starts.
    """
    from openoutcry.journals import restore as put_back

    with plainly(source), progress("restoring") as tell:
        made = put_back(source, path, key=read_key(key_file), progress=tell)
    if as_json:
        print_lines([json_line(_plain(made))])
        return
    kept = "nothing stood there" if made.replaced is None else str(made.replaced)
    facts(f"{made.path} is what {source} holds", [*_rows(made), ("the old journal", kept)])
    say(_missing(made))


def _rows(made: BackedUp) -> list[tuple[str, str]]:
    return [
        ("events", f"{made.entries:,}, positions {made.first:,} to {made.anchor.position:,}"),
        ("up to", "-" if made.newest_ns is None else time_of(made.newest_ns) or "-"),
        ("head", f"{made.anchor.position}:{made.anchor.checksum}"),
    ]


def _missing(made: Restored) -> str:
    if made.replaced is None:
        return "what happened after the backup is not known here"
    if made.newer is None:
        return "how much of the old journal came after the backup cannot be told"
    if made.newer == 0:
        return "no event of the old journal came after the backup; what was handled since is handled again"
    if made.newer == 1:
        return "one event of the old journal came after the backup, and is missing from now on"
    return f"{made.newer:,} events of the old journal came after the backup, and are missing from now on"


def _plain(made: BackedUp) -> dict[str, Any]:
    found = msgspec.structs.asdict(made)
    anchor, newest_ns = found.pop("anchor"), found.pop("newest_ns")
    paths = {name: str(value) for name, value in found.items() if isinstance(value, Path)}
    newest = "" if newest_ns is None else time_of(newest_ns)
    return {**found, **paths, "head": anchor.position, "checksum": anchor.checksum, "newest": newest}
