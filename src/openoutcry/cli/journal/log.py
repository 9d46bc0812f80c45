"""`openoutcry tail` and `openoutcry history`: the events of a journal, the newest or all."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click

from openoutcry.cli.console import print_lines, terminal_size
from openoutcry.cli.journal import options
from openoutcry.cli.journal.access import plainly, reading
from openoutcry.cli.journal.across_desks import history_of, places_of
from openoutcry.cli.journal.following import follow
from openoutcry.cli.journal.options import filter_of, read_key
from openoutcry.journals import JournalReader
from openoutcry.journals.scanning import pages
from openoutcry.journals.showing import heads, shown
from openoutcry.ports import Filter


@click.command()
@options.journal
@click.option("--follow", "-f", is_flag=True, help="Continue with what is written from now on, until Ctrl-C.")
@click.option(
    "--lines",
    "-n",
    "count",
    type=click.IntRange(min=0),
    default=10,
    show_default=True,
    metavar="COUNT",
    help="How many of the newest events to show.",
)
@options.filtered
@options.as_json
@options.key_file
def tail(path: Path, follow: bool, count: int, as_json: bool, key_file: Path | None, **given: Any) -> None:
    """Show the newest events, and with --follow those to come.

    Each on a line, with its own time. On a terminal lines are cropped to its width.

    Needs no lock, does not block the bus, and continues if the bus is restarted.
    """
    where = filter_of(given)
    with reading(path, key_file) as reader:
        head = reader.head
        print_lines(_under_heads(shown(_upto(reader, count, where, head), as_json, _width()), as_json))
    if follow:
        _follow(path, key_file, where, head, as_json)


def _upto(reader: JournalReader, count: int, where: Filter, head: int) -> list[Any]:
    """Return the newest entries, without those written since the head was read."""
    return [entry for entry in reader.tail(count, where) if entry.position <= head]


def _follow(path: Path, key_file: Path | None, where: Filter, after: int, as_json: bool) -> None:
    with plainly(path):
        for page in follow(path, read_key(key_file), where, after):
            print_lines(shown(page, as_json, _width()))


@click.command()
@options.journal
@options.filtered
@click.option("--limit", type=click.IntRange(min=1), metavar="COUNT", help="Only so many of the newest.")
@options.with_desks
@options.as_json
@options.key_file
def history(
    path: Path,
    limit: int | None,
    journals: tuple[Path, ...],
    config: Path | None,
    as_json: bool,
    key_file: Path | None,
    **given: Any,
) -> None:
    """Show the events that meet every given condition.

    The oldest first, each on a line, with its own time. On a terminal lines are cropped to its width.

    With --journals a cause is followed to other desks: each event is shown once, with the desk that made it,
    and its position there.
    """
    where = filter_of(given)
    if journals or config is not None:
        others = places_of(journals, config)
        found = history_of(path, key_file, others, where, limit)
        print_lines(_under_heads(shown(found, as_json, _width()), as_json))
        return
    with reading(path, key_file) as reader:
        print_lines(_under_heads(_history(reader, where, limit, as_json), as_json))


def _width() -> int | None:
    """Return how wide a line may be: as the terminal is. What is piped is never cropped."""
    return terminal_size()[0]


def _under_heads(lines: Iterable[str], as_json: bool) -> Iterator[str]:
    """Put the names of the columns before the lines for people."""
    if not as_json:
        yield heads(_width())
    yield from lines


def _history(reader: JournalReader, where: Filter, limit: int | None, as_json: bool) -> Iterator[str]:
    if limit is not None:
        yield from shown(reader.tail(limit, where), as_json, _width())
        return
    for page in pages(reader, where):
        yield from shown(page, as_json, _width())
