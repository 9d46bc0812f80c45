"""`openoutcry retire` and `openoutcry vacuum`: delete old events and free space, while no bus runs."""

import time
from collections.abc import Sequence
from pathlib import Path

import click

from openoutcry.cli.console import progress, say
from openoutcry.cli.journal import options
from openoutcry.cli.journal.access import writing
from openoutcry.cli.journal.options import AGE
from openoutcry.cli.mistakes import Mistake
from openoutcry.journals.holders import allowed_upto
from openoutcry.ports import Journal

_PAGES = 4_096


@click.command()
@options.journal
@click.option("--older-than", "age_ns", type=AGE, metavar="AGE", help="Events older than this: 90d.")
@click.option("--keep-count", type=click.IntRange(min=0), metavar="COUNT", help="All but the newest so many.")
@click.option(
    "--keep-bytes", type=click.IntRange(min=0), metavar="BYTES", help="As many as make the file need no more."
)
@click.option("--past-cursors", is_flag=True, help="Delete also what a subscription has not settled.")
@click.option(
    "--past-memory",
    multiple=True,
    metavar="NAME",
    help="Delete also what the memory of this subscription is rebuilt from; repeat it.",
)
@options.key_file
def retire(
    path: Path,
    age_ns: int | None,
    keep_count: int | None,
    keep_bytes: int | None,
    past_cursors: bool,
    past_memory: tuple[str, ...],
    key_file: Path | None,
) -> None:
    """Delete the oldest events, while no bus runs.

    In whole batches. A running bus does it by its settings.

    Nothing is deleted that a subscription has not settled, or that its memory is rebuilt from, unless you ask
    for it. After --past-memory NAME the next start of NAME fails, unless it has on_missing="warn".

    Dead letters keep their events.
    """
    if age_ns is None and keep_count is None and keep_bytes is None:
        raise Mistake("say how much to delete: --older-than, --keep-count or --keep-bytes")
    older_than_ns = None if age_ns is None else time.time_ns() - age_ns
    retired = 0
    with writing(path, key_file) as journal, progress("retiring") as tell:
        _check_names(journal, past_memory)
        entries = journal.head - journal.first + 1
        while count := journal.retire(
            older_than_ns=older_than_ns,
            keep_count=keep_count,
            keep_bytes=keep_bytes,
            past_cursors=past_cursors,
            past_memory=past_memory,
        ):
            retired += count
            tell(retired, entries)
            journal.idle()
        held = journal.held_by()
        passed = {
            one.subscription for one in held if one.why == "memory" and one.position < journal.first - 1
        }
        last = allowed_upto(held, journal.head, past_cursors=past_cursors, past_memory=past_memory)
        for_whom = [one.subscription for one in held if one.position == last < journal.head]
    say(f"{retired:,} events retired; `openoutcry vacuum {path}` gives their space back to the disk")
    if for_whom:
        say(f"what follows position {last:,} is kept for {for_whom[0]}; `openoutcry stats {path}` tells why")
    for name in sorted(passed):
        say(f'{name}: its memory cannot be rebuilt; its next start fails, unless it has on_missing="warn"')


def _check_names(journal: Journal, past_memory: Sequence[str]) -> None:
    known = sorted({held.subscription for held in journal.held_by() if held.why == "memory"})
    for name in past_memory:
        if name not in known:
            raise Mistake(
                f"--past-memory {name}: no memory of that name keeps events here; "
                f"those that do: {', '.join(known) or 'none'}"
            )


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
