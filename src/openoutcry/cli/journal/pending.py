"""`openoutcry pending`: what each subscription has not settled, counted without its code."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from pathlib import Path

import click
import msgspec

from openoutcry.cli.console import print_lines, progress, table
from openoutcry.cli.journal import options
from openoutcry.cli.journal.access import reading
from openoutcry.cli.journal.scanning import Seen, pages
from openoutcry.cli.journal.showing import clean, head_of, json_line, line_of, row_of, time_of
from openoutcry.journals import JournalReader
from openoutcry.ports import CursorState, Stored

_EVERYTHING = "*"


class Waiting(msgspec.Struct, kw_only=True):
    """What waits for one subscription in one lane.

    Attributes:
        subscription: Its name.
        lane: The lane.
        floor: Every position up to here is settled.
        waiting: Events that it takes and has not settled.
        first: The position of the first of them; None if nothing waits.
        oldest: When that one was admitted; empty if nothing waits.

    """

    subscription: str
    lane: str
    floor: int
    waiting: int = 0
    first: int | None = None
    oldest: str = ""


class _Claim:
    """One cursor while the journal is gone through."""

    def __init__(self, cursor: CursorState) -> None:
        self.cursor = cursor
        self.takes = frozenset(cursor.takes)
        self.all_types = not cursor.takes or _EVERYTHING in self.takes
        self.said = Waiting(subscription=cursor.subscription, lane=cursor.lane, floor=cursor.floor)

    def wants(self, position: int, event_type: str | None) -> bool:
        if position <= self.cursor.floor or not (self.all_types or event_type in self.takes):
            return False
        before = bisect_right(self.cursor.settled, (position, float("inf")))
        return not before or self.cursor.settled[before - 1][1] < position


def unsettled(
    reader: JournalReader, cursors: Iterable[CursorState], seen: Seen | None = None
) -> Iterator[tuple[Stored, Waiting]]:
    """Yield every event with each subscription that it waits for, in order, and count them up."""
    lanes: dict[str, list[_Claim]] = {}
    for cursor in cursors:
        lanes.setdefault(cursor.lane, []).append(_Claim(cursor))
    after = min((claim.cursor.floor for claims in lanes.values() for claim in claims), default=reader.head)
    for page in pages(reader, after=after, seen=seen):
        for entry in page:
            claims = lanes.get(entry.lane)
            if claims is None:
                continue
            event_type = head_of(entry).event_type
            for claim in claims:
                if claim.wants(entry.position, event_type):
                    yield entry, claim.said


def count_waiting(reader: JournalReader, seen: Seen | None = None) -> list[Waiting]:
    """Count what waits for every subscription, lane by lane."""
    cursors = reader.cursors()
    found = {(c.subscription, c.lane): _Claim(c).said for c in cursors}
    for entry, said in unsettled(reader, cursors, seen):
        count = found[said.subscription, said.lane]
        count.waiting += 1
        if count.first is None:
            count.first = entry.position
            count.oldest = time_of(entry.wall_ns)
    return list(found.values())


def show_waiting(counts: list[Waiting]) -> None:
    """Print the counts as a table."""
    table(
        ("subscription", "lane", "floor", "waiting", "oldest"),
        [(clean(c.subscription), c.lane, c.floor, c.waiting, c.oldest or "-") for c in counts],
    )


@click.command()
@options.journal
@click.option("--list", "as_list", is_flag=True, help="The events themselves instead of how many.")
@click.option("--subscription", metavar="NAME", help="Of this subscription alone.")
@options.as_json
@options.key_file
def pending(
    path: Path, as_list: bool, subscription: str | None, as_json: bool, key_file: Path | None
) -> None:
    """Count what each subscription has not settled, by its saved cursors and the types that it takes.

    A running bus saves its cursors a moment after they have moved, so that a few more may be settled.
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
        click.echo(
            "no subscription has a cursor here" if subscription is None else f"no cursor: {subscription}"
        )


def _listed(reader: JournalReader, subscription: str | None, as_json: bool) -> Iterator[str]:
    cursors = [c for c in reader.cursors() if subscription in (None, c.subscription)]
    for entry, said in unsettled(reader, cursors):
        if as_json:
            yield json_line(row_of(entry, said.subscription))
        else:
            yield f"{clean(said.subscription)}  {line_of(entry)}"
