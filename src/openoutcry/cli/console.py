"""Prints facts to people: with rich on a terminal where it is installed, as aligned plain text otherwise."""

import importlib.util
import sys

import click


def can_be_rich(stream: object = None) -> bool:
    """Whether rich is installed and the stream (standard output) is a terminal."""
    stream = sys.stdout if stream is None else stream
    return bool(getattr(stream, "isatty", bool)()) and importlib.util.find_spec("rich") is not None


def facts(title: str, rows: list[tuple[str, str]]) -> None:
    """Print a title and a two-column table."""
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
