"""`openoutcry stats`: what a journal holds, how big it is, and which subscriptions are behind."""

from collections import Counter
from pathlib import Path
from typing import Any

import click
import msgspec

from openoutcry.cli.console import facts, print_lines, progress, say, table
from openoutcry.cli.journal import options
from openoutcry.cli.journal.access import reading
from openoutcry.cli.journal.memories import Held, held_of, show_held
from openoutcry.cli.journal.pending import show_waiting
from openoutcry.journals import JournalReader
from openoutcry.journals.glance import glance
from openoutcry.journals.pending import Waiting, count_waiting
from openoutcry.journals.scanning import letters_of, pages
from openoutcry.journals.showing import head_of, json_line, time_of


class Stats(msgspec.Struct, kw_only=True):
    """What a journal holds.

    Attributes:
        path: The file.
        running: The process that writes to it now; None if none does.
        first: The oldest position that is kept.
        head: The newest.
        entries: How many there are.
        oldest: When the first of them was admitted.
        newest: When the last one was.
        file_bytes: The database's size.
        wal_bytes: The write-ahead log's size.
        payload_bytes: The size of the events themselves.
        types: Events by type.
        levels: Events by level.
        letters: Dead letters by subscription.
        suspects: What was in flight when a process died.
        subscriptions: The progress of the subscriptions.
        held_by: What keeps retention from going on, the lowest position first.

    """

    path: str
    running: int | None
    first: int
    head: int
    entries: int
    oldest: str
    newest: str
    file_bytes: int
    wal_bytes: int
    payload_bytes: int
    types: dict[str, int]
    levels: dict[str, int]
    letters: dict[str, int]
    suspects: int
    subscriptions: list[Waiting]
    held_by: list[Held]


@click.command()
@options.journal
@options.as_json
@options.key_file
def stats(path: Path, as_json: bool, key_file: Path | None) -> None:
    """Show what a journal holds.

    Events by type and level, sizes, subscriptions and dead letters.

    And for whom retention keeps what is there: who has not settled it, or needs it for its memory.
    """
    with reading(path, key_file) as reader:
        found = _gather(reader)
    if as_json:
        print_lines([json_line(found)])
    else:
        _show(found)


def _gather(reader: JournalReader) -> Stats:
    types: Counter[str] = Counter()
    levels: Counter[str] = Counter()
    times: list[int] = []
    payload_bytes = 0
    head = reader.head
    with progress("counting") as tell:
        for page in pages(reader, seen=lambda at: tell(at, 2 * head)):
            types.update(head_of(entry).event_type or "" for entry in page)
            levels.update(entry.level.name.lower() for entry in page)
            payload_bytes += sum(len(entry.payload) for entry in page)
            times = [times[0] if times else page[0].wall_ns, page[-1].wall_ns]
        waiting = count_waiting(reader, lambda at: tell(head + at, 2 * head))
    letters = Counter(letter.subscription for letter in letters_of(reader))
    return Stats(
        path=str(reader.path),
        running=_writer_of(reader.path),
        first=reader.first,
        head=head,
        entries=sum(types.values()),
        oldest=time_of(times[0]) if times else "",
        newest=time_of(times[-1]) if times else "",
        file_bytes=_size(reader.path),
        wal_bytes=_size(Path(f"{reader.path}-wal")),
        payload_bytes=payload_bytes,
        types=dict(types.most_common()),
        levels=dict(levels.most_common()),
        letters=dict(letters.most_common()),
        suspects=len(reader.suspects()),
        subscriptions=waiting,
        held_by=held_of(reader),
    )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _writer_of(path: Path) -> int | None:
    side = glance(path)
    if side is None:
        return None
    with side:
        return side.pid if side.is_written else None


def _show(found: Stats) -> None:
    letters: list[Any] = [f"{name} {count:,}" for name, count in found.letters.items()]
    rows = [
        ("written by", f"process {found.running}" if found.running else "nobody now"),
        ("events", f"{found.entries:,}, positions {found.first:,} to {found.head:,}"),
        ("from", found.oldest or "-"),
        ("to", found.newest or "-"),
        ("levels", ", ".join(f"{name} {count:,}" for name, count in found.levels.items()) or "-"),
        ("file", f"{found.file_bytes:,} bytes, of which events {found.payload_bytes:,}"),
        ("write-ahead log", f"{found.wal_bytes:,} bytes"),
        ("dead letters", ", ".join(letters) or "none"),
        ("suspects", f"{found.suspects:,}" if found.suspects else "none"),
    ]
    facts(found.path, rows)
    if found.types:
        say()
        table(("event type", "events"), [(name or "-", count) for name, count in found.types.items()])
    if found.subscriptions:
        say()
        show_waiting(found.subscriptions)
    show_held(found.held_by)
