"""`openoutcry explain` and `openoutcry index`: what led to an event, and the index that tells it at once."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import click
import msgspec

from openoutcry.cli.console import print_lines, progress, say
from openoutcry.cli.journal import options
from openoutcry.cli.journal.access import plainly
from openoutcry.cli.journal.across_desks import places_of
from openoutcry.cli.journal.options import read_key
from openoutcry.cli.mistakes import BY_SIGNAL, Mistake
from openoutcry.cli.span_delivery import Stopped, StopSignal
from openoutcry.core.wording import counted
from openoutcry.errors import ConfigError, JournalCorrupt, JournalError, SchemaTooNew
from openoutcry.journals import Indexed, Lineage
from openoutcry.journals.engines import database_errors
from openoutcry.journals.glance import identity_of
from openoutcry.journals.showing import json_line

FOLLOW_S: Final = 1.0
_FAILURES_MOST: Final = 60
_BEFORE_A_BAR: Final = 50_000
"""So many events are indexed before anybody would want to see how far it is."""


@click.command()
@options.journal
@click.argument("ref", metavar="REF")
@click.option("--forward", is_flag=True, help="What came of it, instead of what led to it.")
@options.references
@options.with_desks
@options.as_json
@options.key_file
def explain(
    path: Path,
    ref: str,
    forward: bool,
    references: tuple[str, ...],
    journals: tuple[Path, ...],
    config: Path | None,
    as_json: bool,
    key_file: Path | None,
) -> None:
    """Explain an order, execution, decision, round or position.

    REF is `#` and a position of the journal; the id of an event, an order, client order, execution,
    decision or round; or a symbol, or `position:` and a symbol, for what is held of it.

    Shows what led to it, step by step, with the time of each; who voted for and against it, who abstained,
    was late or missing, and what stood in; and what is not known. Needs no lock and does nothing in the
    firm's process. The first question makes an index beside the journal, FILE-lineage.
    """
    with (
        _opened(path, key_file, places_of(journals, config), references) as lineage,
        progress("indexing") as tell,
    ):
        found = lineage.explain(ref, forward=forward, tell=_Late(tell))
    if as_json:
        print_lines([json_line(found.to_dict())])
    else:
        print_lines(found.text().split("\n"))


@click.command()
@options.journal
@click.option("--follow", "-f", "follows", is_flag=True, help="Go on with what is written, until Ctrl-C.")
@options.references
@options.as_json
@options.key_file
def index(
    path: Path, follows: bool, references: tuple[str, ...], as_json: bool, key_file: Path | None
) -> None:
    """Bring the index of a journal up to date.

    The index is the file FILE-lineage, by which `openoutcry explain` and the page find what led to an event.
    They make it themselves, at the first question; this makes it beforehand. It can be deleted at any time.

    Needs no lock and does nothing in the firm's process. SIGTERM or Ctrl-C ends --follow with 143 or 130.
    """
    with _opened(path, key_file, [], references) as lineage, progress("indexing") as tell:
        found = lineage.index(tell)
    _say_what(found, as_json)
    if follows:
        _follow(path, key_file, references)


def _say_what(found: Indexed, as_json: bool) -> None:
    if as_json:
        print_lines([json_line({**msgspec.structs.asdict(found), "path": str(found.path)})])
        return
    what = f"{counted(found.added, 'event')} added, up to position {found.position:,}"
    if found.why_no_file:
        say(f"{found.path} cannot be kept ({found.why_no_file}): every question makes an index for itself")
    else:
        say(f"{found.path}: {what}; {found.size_bytes / 1e6:,.1f} MB")


def _follow(path: Path, key_file: Path | None, references: tuple[str, ...]) -> None:
    """Add what is written once a second, also when the bus is restarted or the file replaced."""
    key = read_key(key_file)
    with StopSignal().heeded() as stop:
        with suppress(Stopped), plainly(path):
            for problem in _failures(lambda: _keep_up(path, key, references, stop)):
                if isinstance(problem, JournalCorrupt | SchemaTooNew | ConfigError):
                    raise problem
                stop.wait(FOLLOW_S)
        raise click.exceptions.Exit(BY_SIGNAL + stop.number)


def _failures(attempt: Callable[[], None]) -> Iterator[Exception]:
    """Try again and again, and yield each failure; raise it when nothing else has come for a minute."""
    passing: tuple[type[Exception], ...] = (JournalError, OSError, *database_errors())
    failures = 0
    while True:
        began_s = time.monotonic()
        try:
            attempt()
        except passing as problem:
            failures = 1 if time.monotonic() - began_s > FOLLOW_S else failures + 1
            if failures >= _FAILURES_MOST:
                raise
            yield problem


def _keep_up(path: Path, key: bytes | None, references: tuple[str, ...], stop: StopSignal) -> None:
    """Add what is written until another file is at the path."""
    identity = identity_of(path)
    with Lineage(path, key=key, references=references) as lineage:
        while identity_of(path) == identity:
            found = lineage.index()
            if found.why_no_file:
                raise Mistake(f"{found.path} cannot be kept: {found.why_no_file}")
            stop.wait(FOLLOW_S)


class _Late:
    """Tells of progress only where there is much to do."""

    def __init__(self, tell: Callable[[int, int], None]) -> None:
        self._tell = tell
        self._first: int | None = None

    def __call__(self, done: int, of: int) -> None:
        """Tell how far it is."""
        self._first = done if self._first is None else self._first
        if of - self._first > _BEFORE_A_BAR:
            self._tell(done, of)


@contextmanager
def _opened(
    path: Path, key_file: Path | None, others: list[Path], references: tuple[str, ...]
) -> Iterator[Lineage]:
    key = read_key(key_file)
    with plainly(path), Lineage(path, key=key, journals=others, references=references) as lineage:
        yield lineage
