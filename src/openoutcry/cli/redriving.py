"""`openoutcry redrive`: dead letters delivered again, after the operator was told which and how many."""

from collections import Counter
from pathlib import Path
from typing import Any

import click

from openoutcry.cli.asking import by, confirm, firm, some_names, why, yes
from openoutcry.cli.journal import letters, options
from openoutcry.cli.journal.access import plainly, reading
from openoutcry.runtime.control.client import ask


@click.command()
@firm
@letters.chosen_letters
@letters.all_letters
@click.option("--anew", is_flag=True, help="What the handler publishes gets fresh ids.")
@why
@by
@yes
@options.key_file
def redrive(
    path: Path,
    everything: bool,
    anew: bool,
    reason: str,
    by: str,
    yes: bool,
    key_file: Path | None,
    **given: Any,
) -> None:
    """Deliver dead letters again.

    Each goes only to the subscription that could not handle it. This asks first, with figures; `dlq redrive`
    does not ask. When no bus runs, the letters are marked, and the next start delivers them. Exits with 2 if
    no letter meets the conditions, and with 1 if some of the ids that were given do not.
    """
    which = letters.which_letters(given, everything)
    if not yes:
        counts = _counts(path, key_file, which)
        if not counts:
            letters.say_none(which)
            return
        confirm(lambda: _question(path, counts, anew=anew), yes=yes)
    letters.redrive_letters(path, key_file, which, anew=anew, by=by, reason=reason)


def _counts(path: Path, key_file: Path | None, which: letters.Which) -> Counter[str]:
    """Return how many letters are meant, by subscription; of a bus without a journal at most so many."""
    if not path.is_socket():
        with reading(path, key_file) as reader:
            return Counter(letter.subscription for letter in which.chosen(reader))
    with plainly(path):
        answer = ask(path, "dead_letter_counts")
    found = answer.result if answer is not None and answer.ok else {}
    meant = {name: its["count"] for name, its in found.items() if which.subscription in (None, name)}
    return +Counter(meant)


def _question(path: Path, counts: Counter[str], *, anew: bool) -> str:
    subscribed = letters.subscribed_names(path)
    absent = {name for name, is_there in (subscribed or {}).items() if not is_there}
    named = [
        f"{name} {count:,}{' (not subscribed: they stay)' if name in absent else ''}"
        for name, count in counts.most_common()
    ]
    when = "now" if subscribed is not None else "at the next start of the bus"
    ids = "fresh ids" if anew else "the ids of the first time"
    said = f"{letters.letters_in_words(counts.total())} will be delivered again {when}: {some_names(named)}"
    return f"{said}. What their handlers publish gets {ids}. Go on?"
