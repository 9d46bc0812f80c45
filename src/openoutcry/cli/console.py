"""Prints for people: with rich on a terminal if it is installed, as aligned plain text otherwise.

Everything that a verb prints goes through here, and is made safe to show.
"""

import importlib.util
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import click

from openoutcry.cli.mistakes import Mistake
from openoutcry.printable import printable

_LINES_PER_WRITE = 256


def can_be_rich(stream: object = None) -> bool:
    """Whether rich is installed and the stream (standard output) is a terminal."""
    stream = sys.stdout if stream is None else stream
    return bool(getattr(stream, "isatty", bool)()) and importlib.util.find_spec("rich") is not None


def terminal_size() -> tuple[int, int] | tuple[None, None]:
    """Return how many columns and lines the terminal has; None twice if the output is piped."""
    if not sys.stdout.isatty():
        return None, None
    with suppress(OSError, ValueError):
        size = os.get_terminal_size(sys.stdout.fileno())
        if size.columns and size.lines:
            return size.columns, size.lines
    size = shutil.get_terminal_size()
    return size.columns, size.lines


def say(line: str = "", *, err: bool = False) -> None:
    """Print a line."""
    click.echo(printable(line), err=err)


def facts(title: str, rows: list[tuple[str, str]]) -> None:
    """Print a title and a two-column table."""
    title, rows = printable(title), [(name, printable(value)) for name, value in rows]
    if can_be_rich():
        _rich_facts(title, rows)
        return
    width = max(len(name) for name, _ in rows)
    click.echo(title)
    for name, value in rows:
        click.echo(f"  {name:<{width}}  {value}")


def _rich_facts(title: str, rows: list[tuple[str, str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for name, value in rows:
        table.add_row(Text(name, style="dim"), Text(value))
    console = Console()
    console.print(Text(title, style="bold"))
    console.print(table)


def table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows, under heads if given: numbers to the right with separated thousands, text to the left."""
    numeric = [bool(rows) and all(isinstance(row[i], int) for row in rows) for i in range(len(heads))]
    cells = [[_cell(value) for value in row] for row in rows]
    if can_be_rich():
        _rich_table(heads, cells, numeric)
        return
    widths = [max(len(head), *(len(row[i]) for row in cells), 0) for i, head in enumerate(heads)]
    for row in [list(heads), *cells] if any(heads) else cells:
        parts = [
            f"{cell:>{width}}" if right else f"{cell:<{width}}"
            for cell, width, right in zip(row, widths, numeric, strict=True)
        ]
        click.echo("  ".join(parts).rstrip())


def _cell(value: object) -> str:
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return f"{value:,}" if is_number else printable(str(value))


def _rich_table(heads: Sequence[str], cells: Sequence[Sequence[str]], numeric: Sequence[bool]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=None, padding=(0, 2, 0, 0), show_header=any(heads))
    for head, right in zip(heads, numeric, strict=True):
        drawn.add_column(Text(head, style="bold"), justify="right" if right else "left", overflow="fold")
    for row in cells:
        drawn.add_row(*map(Text, row))
    Console().print(drawn)


def print_lines(lines: Iterable[str]) -> None:
    """Print many lines, several hundred per write, and flush them.

    A reader that goes away raises `BrokenPipeError`, which ends the command quietly; a full disk is a
    `Mistake`.
    """
    held: list[str] = []
    try:
        for line in lines:
            held.append(printable(line))
            if len(held) == _LINES_PER_WRITE:
                _write(held)
        _write(held)
    except KeyboardInterrupt:
        _write(held)
        raise


def _write(held: list[str]) -> None:
    try:
        if held:
            sys.stdout.write("\n".join(held) + "\n")
            held.clear()
        sys.stdout.flush()
    except UnicodeEncodeError as problem:
        raise Mistake(
            f"the output's encoding cannot write {problem.object[problem.start : problem.end]!r}: "
            f"set PYTHONIOENCODING=utf-8"
        ) from problem
    except BrokenPipeError:
        raise
    except OSError as problem:
        raise Mistake(f"the output cannot be written: {problem.strerror or problem}") from problem


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """Yield a function to call with (done, total). It draws a bar if the standard error is a terminal."""
    bar: Any = None

    def tell(done: int, of: int) -> None:
        nonlocal bar
        if bar is None:
            bar = click.progressbar(length=max(of, 1), label=what, file=sys.stderr)
            bar.__enter__()
        bar.update(max(0, done - bar.pos))

    if not sys.stderr.isatty():
        yield lambda _done, _of: None
        return
    try:
        yield tell
    finally:
        if bar is not None:
            bar.__exit__(None, None, None)
