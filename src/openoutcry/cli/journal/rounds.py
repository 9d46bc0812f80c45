"""`openoutcry rounds`: the rounds that a journal has recorded, a line each, or one of them in words."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click

from openoutcry.cells import cropped, shortened
from openoutcry.cli.console import print_lines, say, table, terminal_size
from openoutcry.cli.journal import options
from openoutcry.cli.journal.access import plainly
from openoutcry.cli.journal.options import read_key
from openoutcry.cli.mistakes import Mistake
from openoutcry.core.wording import span
from openoutcry.journals.rounds import STATUSES, RecordedRound, RoundCell, recorded_rounds
from openoutcry.journals.showing import json_line, time_of
from openoutcry.printable import printable

_WIDTH_LEAST: Final = 90
"""So wide a terminal is needed beside the columns of the agents."""


@click.command()
@options.journal
@click.option("--id", "round_id", metavar="ID", help="Only the newest round of this id, explained in words.")
@click.option("--agent", metavar="NAME", help="With this agent on the roster, and only its column.")
@click.option("--status", type=click.Choice(STATUSES), help="That ended so, or has not ended.")
@click.option("--symbol", metavar="NAME", help="About this symbol.")
@options.since
@options.until
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=20,
    show_default=True,
    metavar="COUNT",
    help="Only so many of the newest.",
)
@options.as_json
@options.key_file
def rounds(
    path: Path,
    round_id: str | None,
    agent: str | None,
    status: str | None,
    symbol: str | None,
    since_ns: int | None,
    until_ns: int | None,
    limit: int,
    as_json: bool,
    key_file: Path | None,
) -> None:
    """Show recorded rounds: who voted, when, and who did not.

    The newest come first.

    A column for each agent: how long after the opening it voted, `late` and by how much, `abstained`,
    `stood in` if an earlier signal was shown for it, or `missing`. On a terminal that is too narrow for the
    columns, the names of those that were late or missing. Needs no lock, and works on the journal
    of a process that has died: its open rounds have the status `died`.
    """
    with plainly(path):
        found = recorded_rounds(
            path,
            since=since_ns,
            until=until_ns,
            agent=agent,
            status=status,
            symbol=symbol,
            round_id=round_id,
            limit=1 if round_id is not None else limit,
            key=read_key(key_file),
        )
    if round_id is not None and not found:
        raise Mistake(
            f"{path} has no record of a round {round_id!r}; leave --id out to see those that it has"
        )
    if as_json:
        print_lines(json_line(one.to_dict()) for one in found)
    elif round_id is not None:
        say(printable(found[0].explain()))
    elif found:
        _table(found, agent)
    else:
        say("no round is on record")


def _table(found: list[RecordedRound], agent: str | None) -> None:
    names = sorted({cell.agent for one in found for cell in one.cells}) if agent is None else [agent]
    width = terminal_size()[0]
    if width is not None and agent is None and width < _WIDTH_LEAST + sum(len(name) + 2 for name in names):
        print_lines(cropped(line, width) for line in _narrow(found))
        return
    heads = ("opened", "round", "symbol", "status", "valid", "took", "answered", *map(printable, names))
    table(heads, [_row(one, names) for one in found])


def _narrow(found: list[RecordedRound]) -> Iterator[str]:
    """Give a line to each round, aligned, that ends with who was late or missing; under heads."""
    rows = [("opened (UTC)", "round", "status", "took", "answered", "late or missing")]
    for one in found:
        opened, round_id, _symbol, status, valid, took, answered, *_ = _row(one, [])
        absent = (
            f"{cell.agent} {_cell(cell)}" for cell in one.cells if cell.how not in ("voted", "abstained")
        )
        status += ", not valid" if valid == "no" else ""
        at = opened[5:19].replace("T", " ")
        rows.append(
            (at, shortened(printable(round_id), 15), status, took, answered, printable(", ".join(absent)))
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()


def _row(found: RecordedRound, names: list[str]) -> tuple[str, ...]:
    answered = sum(cell.how in ("voted", "abstained") for cell in found.cells)
    valid = "" if found.valid is None else ("yes" if found.valid else "no")
    return (
        time_of(found.opened_wall_ns),
        found.round_id,
        found.symbol or "",
        found.status,
        valid,
        "" if found.took_ns is None else span(found.took_ns),
        f"{answered} of {len(found.cells)}",
        *(_cell(found.cell(name)) for name in names),
    )


def _cell(cell: RoundCell | None) -> str:
    """Return what became of an agent, in a few letters; empty if it was not expected."""
    if cell is None:
        return ""
    if cell.how == "voted":
        return span(cell.votes[0].after_ns)
    if cell.how == "late" and cell.late_ns is not None:
        return f"late {span(cell.late_ns)}"
    return cell.how
