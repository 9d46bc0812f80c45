"""`openoutcry dlq`: lists, shows, redrives and drops the dead letters of a journal."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
import msgspec

from openoutcry.cli.console import facts, print_lines, say, table
from openoutcry.cli.journal import options
from openoutcry.cli.journal.access import change, reading
from openoutcry.cli.journal.amending import drop_letters, mark_for_redrive
from openoutcry.cli.journal.showing import head_of, json_line, letter_row, time_of
from openoutcry.cli.mistakes import Mistake
from openoutcry.journals import SqliteJournal
from openoutcry.ports import BuriedEvent, Changes
from openoutcry.printable import printable

_ERROR_WIDTH = 60


class Which(msgspec.Struct, frozen=True, kw_only=True):
    """Which letters the command line selects: those that meet every condition."""

    letter_ids: tuple[int, ...] = ()
    subscription: str | None = None
    event_type: str | None = None
    since_ns: int | None = None
    until_ns: int | None = None

    def takes(self, letter: BuriedEvent) -> bool:
        """Return True if a letter is one of them."""
        return (
            (not self.letter_ids or letter.letter_id in self.letter_ids)
            and self.subscription in (None, letter.subscription)
            and self.event_type in (None, head_of(letter).event_type)
            and (self.since_ns is None or letter.wall_ns >= self.since_ns)
            and (self.until_ns is None or letter.wall_ns < self.until_ns)
        )

    def arguments(self) -> dict[str, Any]:
        """Return the conditions in the form that the bus takes."""
        return {**msgspec.structs.asdict(self), "letter_ids": list(self.letter_ids) or None}


_CONDITIONS = (
    click.option("--id", "letter_ids", type=int, multiple=True, metavar="ID", help="This letter; repeat it."),
    click.option("--subscription", metavar="NAME", help="Of this subscription."),
    click.option(
        "--type",
        "event_type",
        metavar="TYPE",
        callback=lambda _context, _parameter, name: name and options.type_name(name),
        help="Of this event type.",
    ),
    click.option(
        "--since",
        "since_ns",
        type=options.INSTANT,
        metavar="TIME",
        help="Given up then or later, or an age: 2h.",
    ),
    click.option("--until", "until_ns", type=options.INSTANT, metavar="TIME", help="Buried before."),
)


def _chosen(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_CONDITIONS):
        command = option(command)
    return command


@click.group()
def dlq() -> None:
    """Manage dead letters: events that a subscription could not handle."""


@dlq.command("list")
@options.journal
@_chosen
@options.as_json
@options.key_file
def list_letters(path: Path, as_json: bool, key_file: Path | None, **given: Any) -> None:
    """List the dead letters, oldest first."""
    which = Which(**given)
    with reading(path, key_file) as reader:
        letters = [letter for letter in reader.buried(which.subscription) if which.takes(letter)]
    if as_json:
        print_lines(json_line(letter_row(letter)) for letter in letters)
    elif letters:
        heads = ("id", "subscription", "position", "type", "reason", "attempts", "buried", "error")
        table(heads, [_columns(letter) for letter in letters])
    else:
        say("no dead letters")


def _columns(letter: BuriedEvent) -> tuple[object, ...]:
    error = printable(letter.error)
    return (
        letter.letter_id,
        letter.subscription,
        letter.position,
        head_of(letter).event_type or "-",
        letter.reason,
        letter.attempts,
        time_of(letter.wall_ns),
        error if len(error) <= _ERROR_WIDTH else f"{error[:_ERROR_WIDTH]}...",
    )


@dlq.command()
@options.journal
@click.argument("letter_id", metavar="ID", type=int)
@options.as_json
@options.key_file
def show(path: Path, letter_id: int, as_json: bool, key_file: Path | None) -> None:
    """Show one dead letter completely: the event, the error and its traceback."""
    with reading(path, key_file) as reader:
        found = [letter for letter in reader.buried() if letter.letter_id == letter_id]
    if not found:
        raise Mistake(f"there is no dead letter {letter_id} here; see `openoutcry dlq list {path}`")
    letter = found[0]
    if as_json:
        print_lines([json_line(letter_row(letter))])
        return
    head = head_of(letter)
    rows = [
        ("subscription", letter.subscription),
        ("lane", letter.lane),
        ("position", f"{letter.position}"),
        ("event", f"{head.event_type or '-'}  {head.event_id or '-'}"),
        ("reason", letter.reason),
        ("attempts", f"{letter.attempts}"),
        ("buried", time_of(letter.wall_ns)),
        ("error", letter.error),
    ]
    facts(f"dead letter {letter_id}", rows)
    traceback = (f"  {line}" for line in letter.traceback.rstrip("\n").split("\n"))
    print_lines(["", *_pretty(letter.payload), "", *traceback])


def _pretty(payload: bytes) -> list[str]:
    with suppress(msgspec.DecodeError):
        payload = msgspec.json.format(payload, indent=2)
    return payload.decode("utf-8", "replace").split("\n")


_ALL = click.option("--all", "everything", is_flag=True, help="All of them; needed if no condition is given.")


@dlq.command()
@options.journal
@_chosen
@_ALL
@options.key_file
def redrive(path: Path, everything: bool, key_file: Path | None, **given: Any) -> None:
    """Deliver dead letters again, each only to the subscription that could not handle it.

    A running bus does it at once. Otherwise the letters are marked, and the next start delivers them.
    """
    which = _which(given, everything)
    count, online = change(
        path, key_file, "redrive", which.arguments(), lambda journal: _amend(journal, which, mark_for_redrive)
    )
    done = "redriven by the running bus" if online else "marked: the next start of the bus redrives them"
    say(f"{_letters(count)} {done}")


@dlq.command()
@options.journal
@_chosen
@_ALL
@options.key_file
def drop(path: Path, everything: bool, key_file: Path | None, **given: Any) -> None:
    """Forget dead letters. Their events stay in the log as long as retention keeps them."""
    which = _which(given, everything)
    count, _ = change(
        path,
        key_file,
        "drop_dead_letters",
        which.arguments(),
        lambda journal: _amend(journal, which, drop_letters),
    )
    say(f"{_letters(count)} dropped")


def _which(given: dict[str, Any], everything: bool) -> Which:
    which = Which(**given)
    if everything == (which != Which()):
        raise Mistake(
            "say which letters, by --id, --subscription, --type, --since or --until, or --all of them"
            if not everything
            else "--all goes without other conditions"
        )
    return which


def _amend(journal: SqliteJournal, which: Which, how: Callable[[list[BuriedEvent]], Changes]) -> int:
    """Change the letters in one synced commit, and return how many they are."""
    changes = how([letter for letter in journal.buried(which.subscription) if which.takes(letter)])
    if changes.removed_letters:
        journal.write((), changes)
        journal.sync()
    return len(changes.removed_letters)


def _letters(count: int) -> str:
    return "1 letter" if count == 1 else f"{count:,} letters"
