"""`openoutcry retire` and `openoutcry vacuum`: delete old events and free space, while no bus runs."""

import time
from pathlib import Path

import click

from openoutcry.cli.console import progress, say
from openoutcry.cli.journal import options
from openoutcry.cli.journal.access import writing
from openoutcry.cli.journal.options import AGE
from openoutcry.cli.mistakes import Mistake

_PAGES = 4_096


@click.command()
@options.journal
@click.option("--older-than", "age_ns", type=AGE, metavar="AGE", help="Events older than this: 90d.")
@click.option("--keep-count", type=click.IntRange(min=0), metavar="COUNT", help="All but the newest so many.")
@click.option(
    "--keep-bytes", type=click.IntRange(min=0), metavar="BYTES", help="As many as make the file need no more."
)
@click.option("--past-cursors", is_flag=True, help="Delete also what a subscription has not settled.")
@options.key_file
def retire(
    path: Path,
    age_ns: int | None,
    keep_count: int | None,
    keep_bytes: int | None,
    past_cursors: bool,
    key_file: Path | None,
) -> None:
    """Delete the oldest events, in whole batches, while no bus runs; a running bus does it by its settings.

    Nothing is deleted that a subscription has not settled, unless you ask for it. Dead letters keep their
    events.
    """
    if age_ns is None and keep_count is None and keep_bytes is None:
        raise Mistake("say how much to delete: --older-than, --keep-count or --keep-bytes")
    older_than_ns = None if age_ns is None else time.time_ns() - age_ns
    retired = 0
    with writing(path, key_file) as journal, progress("retiring") as tell:
        entries = journal.head - journal.first + 1
        while count := journal.retire(
            older_than_ns=older_than_ns,
            keep_count=keep_count,
            keep_bytes=keep_bytes,
            past_cursors=past_cursors,
        ):
            retired += count
            tell(retired, entries)
            journal.idle()
    say(f"{retired:,} events retired; `openoutcry vacuum {path}` gives their space back to the disk")


@click.command()
@options.journal
@options.key_file
def vacuum(path: Path, key_file: Path | None) -> None:
    """Give free space in the file back to the disk, while no bus runs."""
    with writing(path, key_file) as journal, progress("vacuuming") as tell:
        before = journal.path.stat().st_size
        pages = left = journal.vacuum(_PAGES)
        while left:
            tell(pages - left, pages)
            journal.idle()
            left = journal.vacuum(_PAGES)
        where = journal.path
    say(f"{max(0, before - where.stat().st_size):,} bytes given back to the disk")
