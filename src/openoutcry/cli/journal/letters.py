"""`openoutcry dlq`: lists, shows, redrives and drops the dead letters of a journal."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from itertools import islice, takewhile
from pathlib import Path
from typing import Any

import click
import msgspec

from openoutcry.cli.console import facts, print_lines, say, table
from openoutcry.cli.journal import options
from openoutcry.cli.journal.access import change, plainly, reading
from openoutcry.cli.journal.amending import drop_letters, mark_for_redrive
from openoutcry.cli.mistakes import FAILED, Mistake
from openoutcry.core.letters import letter_filter
from openoutcry.journals import SqliteJournal
from openoutcry.journals.scanning import Letters, letters_of
from openoutcry.journals.showing import head_of, json_line, letter_row, time_of
from openoutcry.ports import BuriedEvent, Changes
from openoutcry.printable import printable
from openoutcry.runtime.control.client import ask

PAGE = 1_024
_ERROR_WIDTH = 60


class Which(msgspec.Struct, frozen=True, kw_only=True):
    """Which letters the command line selects: those that meet every condition."""

    letter_ids: tuple[int, ...] = ()
    subscription: str | None = None
    event_type: str | None = None
    since_ns: int | None = None
    until_ns: int | None = None

    def arguments(self) -> dict[str, Any]:
        """Return the conditions in the form that the bus takes."""
        return {**msgspec.structs.asdict(self), "letter_ids": list(self.letter_ids) or None}

    def chosen(self, source: Letters, after: int = 0) -> Iterator[BuriedEvent]:
        """Yield the letters behind an id that are meant, oldest first."""
        conditions = self.arguments()
        subscription = conditions.pop("subscription")
        return filter(letter_filter(conditions), letters_of(source, subscription, after))


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


def chosen_letters(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that choose letters to a command; `which_letters` reads them."""
    for option in reversed(_CONDITIONS):
        command = option(command)
    return command


@click.group()
def dlq() -> None:
    """Manage dead letters: events that a subscription could not handle."""


@dlq.command("list")
@options.journal
@chosen_letters
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="At most so many.")
@click.option("--after", type=click.IntRange(min=0), default=0, metavar="ID", help="Those with higher ids.")
@options.as_json
@options.key_file
def list_letters(
    path: Path, limit: int | None, after: int, as_json: bool, key_file: Path | None, **given: Any
) -> None:
    """List the dead letters, oldest first."""
    which, subscribed = Which(**given), subscribed_names(path)
    with reading(path, key_file) as reader:
        found = which.chosen(reader, after)
        if as_json:
            rows = islice(found, limit)
            print_lines(json_line(letter_row(row, _is_subscribed(row, subscribed))) for row in rows)
            return
        rows_shown = [(row.letter_id, _columns(row, subscribed)) for row in islice(found, limit)]
        more = sum(1 for _ in found)
    if not rows_shown:
        say("no dead letters")
        return
    heads = ("id", "subscription", "position", "type", "reason", "attempts", "buried", "error")
    table(heads, [columns for _, columns in rows_shown])
    if more:
        say(f"{more:,} more: --after {rows_shown[-1][0]}")


def subscribed_names(path: Path) -> dict[str, bool] | None:
    """Ask the running bus which names with letters are subscribed now; None if none runs, or cannot say."""
    with plainly(path):
        answer = ask(path, "dead_letter_counts")
    if answer is None or not answer.ok:
        return None
    return {name: bool(count["subscribed"]) for name, count in answer.result.items()}


def _is_subscribed(letter: BuriedEvent, subscribed: dict[str, bool] | None) -> bool | None:
    return None if subscribed is None else subscribed.get(letter.subscription)


def _columns(letter: BuriedEvent, subscribed: dict[str, bool] | None) -> tuple[object, ...]:
    error = printable(letter.error)
    absent = " (not subscribed)" if _is_subscribed(letter, subscribed) is False else ""
    return (
        letter.letter_id,
        f"{letter.subscription}{absent}",
        letter.position,
        letter.event_type or "-",
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
    """Show one dead letter in full.

    The event, the error and its traceback.
    """
    with reading(path, key_file) as reader:
        found = reader.buried(after=letter_id - 1, limit=1)
    if not found or found[0].letter_id != letter_id:
        raise Mistake(f"there is no dead letter {letter_id} here; see `openoutcry dlq list {path}`")
    letter = found[0]
    if as_json:
        print_lines([json_line(letter_row(letter, _is_subscribed(letter, subscribed_names(path))))])
        return
    head = head_of(letter)
    rows = [
        ("subscription", letter.subscription),
        ("lane", letter.lane),
        ("position", f"{letter.position}"),
        ("event", f"{letter.event_type or '-'}  {head.event_id or '-'}"),
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


all_letters = click.option(
    "--all", "everything", is_flag=True, help="All of them; needed if no condition is given."
)


@dlq.command()
@options.journal
@chosen_letters
@all_letters
@click.option("--anew", is_flag=True, help="What the handler publishes gets fresh ids.")
@options.key_file
def redrive(path: Path, everything: bool, anew: bool, key_file: Path | None, **given: Any) -> None:
    """Deliver dead letters again, without asking first.

    Each goes only to the subscription that could not handle it.
    A running bus does it as the subscriptions have room. Otherwise the letters are marked, and the next start
    delivers them. What the handlers publish has the ids of the first time, so that what was published then is
    not published twice; with --anew it has fresh ones.
    """
    redrive_letters(path, key_file, which_letters(given, everything), anew=anew)


def redrive_letters(path: Path, key_file: Path | None, which: Which, *, anew: bool, **on_record: str) -> None:
    """Have letters delivered again, by the running bus or by the next start, and say how many."""
    asked = {**which.arguments(), "anew": anew or None, **{k: v or None for k, v in on_record.items()}}
    mark = partial(mark_for_redrive, anew=anew)
    count, online = change(path, key_file, "redrive", asked, lambda journal: _amend(journal, which, mark))
    done = "redriven by the running bus" if online else "marked: the next start of the bus redrives them"
    if count:
        say(f"{letters_in_words(count)} {done}")
    left = _tell_left(path, key_file, which) if online else 0
    _check_done(count, left, which)


def _check_done(count: int, left: int, which: Which) -> None:
    """See that something was done, and with every letter that was named; `left` were left alone, and told."""
    if not count + left:
        say_none(which)
    asked = len(set(which.letter_ids))
    if count < asked:
        say(
            f"with {asked - count:,} of the {asked:,} ids nothing was done; see `openoutcry dlq list`",
            err=True,
        )
        raise click.exceptions.Exit(FAILED)


def say_none(which: Which) -> None:
    """Say that there is no letter to do anything with. Raises `Mistake` where conditions were given."""
    if which == Which():
        say("there are no dead letters to do this with")
        return
    raise Mistake("no dead letter to do this with meets these conditions; see `openoutcry dlq list`")


def _tell_left(path: Path, key_file: Path | None, which: Which) -> int:
    """Print and return how many of the letters belong to names that are not subscribed, so that they stay."""
    if path.is_socket():  # without a journal: the bus itself logs which stay
        return 0
    subscribed = subscribed_names(path)
    with reading(path, key_file) as reader:
        left = sum(_is_subscribed(letter, subscribed) is False for letter in which.chosen(reader))
    if left:
        say(f"{letters_in_words(left)} of names that are not subscribed now stay: see `openoutcry dlq list`")
    return left


@dlq.command()
@options.journal
@chosen_letters
@all_letters
@options.key_file
def drop(path: Path, everything: bool, key_file: Path | None, **given: Any) -> None:
    """Forget dead letters. Their events stay in the log as long as retention keeps them.

    They were not handled, and a memory that is rebuilt from the log goes on without them.
    """
    which = which_letters(given, everything)
    count, _ = change(
        path,
        key_file,
        "drop_dead_letters",
        which.arguments(),
        lambda journal: _amend(journal, which, drop_letters),
    )
    if count:
        say(f"{letters_in_words(count)} dropped")
    _check_done(count, 0, which)


def which_letters(given: dict[str, Any], everything: bool) -> Which:
    """Return which letters are meant. Raises `Mistake` if that is not said."""
    which = Which(**given)
    if everything == (which != Which()):
        raise Mistake(
            "say which letters, by --id, --subscription, --type, --since or --until, or --all of them"
            if not everything
            else "--all goes without other conditions"
        )
    return which


def _amend(journal: SqliteJournal, which: Which, how: Callable[[list[BuriedEvent]], Changes]) -> int:
    """Change the letters, in synced commits, and return how many they are."""
    count, last = 0, journal.last_letter_id()
    letters = takewhile(lambda letter: letter.letter_id <= last, which.chosen(journal))
    while some := list(islice(letters, PAGE)):
        changes = how(some)
        journal.write((), changes)
        count += len(changes.removed_letters)
    journal.sync()
    return count


def letters_in_words(count: int) -> str:
    """Return a number of letters in words."""
    return "1 letter" if count == 1 else f"{count:,} letters"
