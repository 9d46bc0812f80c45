"""`openoutcry cursors`: how far every subscription has come; drop or reassign cursors whose name is gone."""

from pathlib import Path
from typing import Any

import click
import msgspec

from openoutcry.cli.console import print_lines, progress, say, table
from openoutcry.cli.journal import options
from openoutcry.cli.journal.access import change, plainly, reading
from openoutcry.cli.journal.amending import drop_cursor, reassign_cursor
from openoutcry.cli.journal.memories import Memory, memories_of, show_memories
from openoutcry.cli.mistakes import Mistake
from openoutcry.journals import JournalReader, SqliteJournal
from openoutcry.journals.pending import count_waiting
from openoutcry.journals.showing import json_line
from openoutcry.ports import Changes
from openoutcry.runtime.control.client import ask

_PATIENCE_S = 5.0


class Standing(msgspec.Struct, kw_only=True):
    """The progress of a subscription in a lane.

    Attributes:
        subscription: Its name.
        lane: The lane.
        floor: Every position up to here is settled.
        waiting: Events that it takes and has not settled.
        present: Whether it is subscribed to the running bus; None if no bus runs.
        memory: Where its memory begins; None if it has none.

    """

    subscription: str
    lane: str
    floor: int
    waiting: int
    present: bool | None = None
    memory: Memory | None = None


@click.group()
def cursors() -> None:
    """Manage cursors: how far each durable subscription has come."""


@cursors.command("list")
@options.journal
@options.as_json
@options.key_file
def list_cursors(path: Path, as_json: bool, key_file: Path | None) -> None:
    """List the cursors and what waits for each.

    Also what is saved of the subscriptions' memory.

    While a bus runs, `present` tells if it is subscribed.
    """
    with reading(path, key_file) as reader:
        found, memories = _from_bus(path) or _from_file(reader), memories_of(reader)
    for standing in found:
        standing.memory = memories.get(standing.subscription)
    if as_json:
        print_lines(map(json_line, found))
    elif found:
        words = {True: "yes", False: "no", None: "-"}
        heads = ("subscription", "lane", "floor", "waiting", "present")
        table(heads, [(s.subscription, s.lane, s.floor, s.waiting, words[s.present]) for s in found])
    else:
        say("no subscription has a cursor here")
    if memories and not as_json:
        say()
        show_memories(memories)


def _from_bus(path: Path) -> list[Standing] | None:
    """Ask the running bus, which knows best. None if there is none, or it is busy: then ask the file."""
    with plainly(path):
        answer = ask(path, "cursors", timeout_s=_PATIENCE_S)
    if answer is None or not answer.ok:
        return None
    return msgspec.convert(answer.result, list[Standing])


def _from_file(reader: JournalReader) -> list[Standing]:
    head = reader.head
    with progress("counting") as tell:
        counts = count_waiting(reader, lambda at: tell(at, head))
    return [
        Standing(subscription=c.subscription, lane=c.lane, floor=c.floor, waiting=c.waiting) for c in counts
    ]


@cursors.command()
@options.journal
@click.argument("name", metavar="SUBSCRIPTION")
@options.key_file
def drop(path: Path, name: str, key_file: Path | None) -> None:
    """Forget a subscription's cursors and what waits for it.

    Also its saved memory. Its dead letters stay.

    If the name comes back, it begins as a new subscription.
    """

    def offline(journal: SqliteJournal) -> int:
        changes = drop_cursor(journal, name)
        with journal.reader() as reader:
            waiting = sum(c.waiting for c in count_waiting(reader) if c.subscription == name)
        _save(journal, changes)
        return waiting

    count, _ = change(path, key_file, "drop_cursor", {"subscription": name}, offline)
    say(f"{name}: dropped; {_events(count)} that waited for it given up")


@cursors.command()
@options.journal
@click.argument("old", metavar="OLD")
@click.argument("new", metavar="NEW")
@options.key_file
def reassign(path: Path, old: str, new: str, key_file: Path | None) -> None:
    """Give what a renamed subscription has to its NEW name.

    The cursors, dead letters and saved memory of OLD.
    """
    if old == new:
        raise Mistake(f"{old!r} is both the old name and the new one")

    def offline(journal: SqliteJournal) -> int:
        changes = reassign_cursor(journal, old, new)
        _save(journal, changes)
        with journal.reader() as reader:
            return sum(c.waiting for c in count_waiting(reader) if c.subscription == new)

    arguments: dict[str, Any] = {"old": old, "new": new}
    count, _ = change(path, key_file, "reassign_cursor", arguments, offline)
    say(f"{old} is {new} now; {_events(count)} wait for it")


def _save(journal: SqliteJournal, changes: Changes) -> None:
    journal.write((), changes)
    journal.sync()


def _events(count: int) -> str:
    return "1 event" if count == 1 else f"{count:,} events"
