"""`openoutcry pending`: what each subscription has not settled, counted without running its code."""

from collections.abc import Iterator
from pathlib import Path

import click

from openoutcry.cli.console import print_lines, progress, say, table
from openoutcry.cli.journal import options
from openoutcry.cli.journal.access import reading
from openoutcry.journals import JournalReader
from openoutcry.journals.pending import Waiting, count_waiting, unsettled
from openoutcry.journals.showing import json_line, line_of, row_of


def show_waiting(counts: list[Waiting]) -> None:
    """Print the counts as a table."""
    table(
        ("subscription", "lane", "floor", "waiting", "oldest"),
        [(c.subscription, c.lane, c.floor, c.waiting, c.oldest or "-") for c in counts],
    )


@click.command()
@options.journal
@click.option("--list", "as_list", is_flag=True, help="Show the events themselves instead of counts.")
@click.option("--subscription", metavar="NAME", help="Only of this subscription.")
@options.as_json
@options.key_file
def pending(
    path: Path, as_list: bool, subscription: str | None, as_json: bool, key_file: Path | None
) -> None:
    """Count what each subscription has not settled.

    That is known from its saved cursors and the types that it takes.

    A running bus saves its cursors a moment after they have moved, so a few more events may be settled.
    """
    with reading(path, key_file) as reader:
        if as_list:
            print_lines(_listed(reader, subscription, as_json))
            return
        head = reader.head
        with progress("counting") as tell:
            counts = count_waiting(reader, lambda at: tell(at, head))
    counts = [count for count in counts if subscription in (None, count.subscription)]
    if as_json:
        print_lines(map(json_line, counts))
    elif counts:
        show_waiting(counts)
    else:
        say("no subscription has a cursor here" if subscription is None else f"no cursor: {subscription}")


def _listed(reader: JournalReader, subscription: str | None, as_json: bool) -> Iterator[str]:
    cursors = [c for c in reader.cursors() if subscription in (None, c.subscription)]
    for entry, name in unsettled(reader, cursors):
        yield json_line(row_of(entry, name)) if as_json else f"{name}  {line_of(entry)}"
