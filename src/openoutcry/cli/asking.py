"""Asking an operator before something is done, with figures of what it will do."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from openoutcry.cli.console import say
from openoutcry.cli.journal.access import plainly, writer_of
from openoutcry.cli.mistakes import Mistake
from openoutcry.core.wording import some_of
from openoutcry.journals.refusals import must_exist, real_path
from openoutcry.observers.pulse import Pulse, Shape, SubRow, SubShape
from openoutcry.printable import printable
from openoutcry.runtime.control.client import Answer, ask

NO_BUS: Final = 3
ACT_S: Final = 65.0
"""How long the bus may take for what it is asked to do,"""
FIGURES_S: Final = 5.0
"""and for the figures of a question."""
TRIES: Final = 10
"""So often they are asked for, while subscriptions come and go."""
NAMES_SHOWN: Final = 6
"""So many names are shown in a question."""

firm = click.argument("path", metavar="FILE", type=click.Path(path_type=Path, readable=False))
"""The journal of the bus, or its control socket."""
yes = click.option("--yes", "-y", is_flag=True, help="Do not ask first.")
by = click.option("--by", metavar="NAME", default="", help="Who does it; by default your user name.")
why = click.option("--reason", metavar="TEXT", default="", help="Why; it goes on record.")


class Unreachable(Mistake):
    """A bus runs, and cannot be asked."""


def confirm(question: Callable[[], str], *, yes: bool) -> None:
    """Ask the operator, unless `yes` says that it is agreed. No ends the command with 1.

    Without a terminal to ask at it is a `Mistake`.
    """
    if yes:
        return
    if not can_ask():
        raise Mistake("there is no terminal to ask at: add --yes to do it without being asked")
    click.confirm(printable(question()), abort=True, err=True)


def can_ask() -> bool:
    """Return True if somebody can answer a question."""
    return sys.stdin.isatty()


def some_names(names: list[str]) -> str:
    """Return some names, and how many more there are."""
    return some_of(names, NAMES_SHOWN)


def do(path: Path, verb: str, kind: Any = Any, **arguments: Any) -> Any:
    """Have the running bus do something, and return its answer, which is of a kind.

    Raises `Mistake` if it does not; ends the command with 3 if no bus listens.
    """
    return _asked(path, verb, verb, ACT_S, kind, **arguments)


def state_of(path: Path, verb: str) -> list[tuple[SubShape, SubRow]]:
    """Return what the subscriptions of the running bus are and do, for a question about a verb.

    Raises and ends as `do` does.
    """
    for _ in range(TRIES):
        pulse: Pulse = _asked(path, "pulse", verb, FIGURES_S, Pulse)
        shape: Shape = _asked(path, "shape", verb, FIGURES_S, Shape)
        if (shape.session, shape.number) == (pulse.session, pulse.shape):
            return [(shape.subscriptions[row.index], row) for row in pulse.rows]
    raise Mistake("its subscriptions come and go faster than it can be asked: add --yes to do it unasked")


def _asked(path: Path, asked: str, verb: str, within_s: float, kind: Any, **arguments: Any) -> Any:
    with plainly(path):
        answer = ask(path, asked, timeout_s=within_s, **arguments)
    if answer is None:
        must_exist(real_path(path))
        pid = writer_of(path)
        if pid is not None:
            raise Unreachable(
                f"process {pid} writes to {path}, and has no control socket there: by socket = false, by "
                f"what its log says, or because the socket was removed. Nothing was done: {verb} from within"
            )
        say(f"no bus listens at {path}, so there is nothing to {verb}", err=True)
        raise click.exceptions.Exit(NO_BUS)
    return result_of(path, answer, kind)


def result_of(path: Path, answer: Answer, kind: Any) -> Any:
    """Return what the bus has answered, as a kind. Raises `Mistake` if it is not that, or was not done."""
    if not answer.ok:
        raise Mistake(answer.error)
    try:
        return msgspec.convert(answer.result, kind, str_keys=True)
    except msgspec.ValidationError as problem:
        raise Mistake(
            f"what listens at {path} is no bus of this version ({problem}): see what has become of it"
        ) from problem
