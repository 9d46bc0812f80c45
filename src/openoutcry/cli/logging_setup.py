"""Logging of the commands that go on, where an app does not configure it: to stderr, as text or JSON."""

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TextIO

import click

from openoutcry.cli.console import say
from openoutcry.cli.mistakes import FAILED, AppFailed, without_our_frames
from openoutcry.logs import show_safely
from openoutcry.observers.json_logs import JsonFormatter

LEVELS = ("debug", "info", "warning", "error")

_level = click.option(
    "--log-level",
    type=click.Choice(LEVELS, case_sensitive=False),
    default="info",
    show_default=True,
    envvar="OPENOUTCRY_LOG_LEVEL",
    show_envvar=True,
    help="What is logged to standard error, with the time in UTC, unless an app configures logging itself.",
)
_as_json = click.option(
    "--log-json",
    is_flag=True,
    envvar="OPENOUTCRY_LOG_JSON",
    show_envvar=True,
    help="Log JSON, one line a record, instead of text.",
)


def logged(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that `logging_to_stderr` takes to a command that goes on: `log_level`, `log_json`."""
    return _level(_as_json(command))


_JSON: Final = "openoutcry.cli.logs_json"


def tell(line: str) -> None:
    """Print a line to standard error; where the current command logs JSON, as a record."""
    context = click.get_current_context(silent=True)
    if context is not None and context.meta.get(_JSON):
        click.echo(_as_record(logging.INFO, line), err=True)
    else:
        say(line, err=True)


def _as_record(level: int, text: str, error: BaseException | None = None) -> str:
    trace = None if error is None else (type(error), error, error.__traceback__)
    return JsonFormatter().format(logging.LogRecord("openoutcry", level, "", 0, text, None, trace))


def end_in_json(context: click.Context, error: Exception) -> None:
    """Log the error that a command ends with as the last line of JSON, and exit as it asks for.

    Does nothing where the command does not log JSON.
    """
    if not context.meta.get(_JSON):
        return
    cause: BaseException | None = None if isinstance(error, click.ClickException) else error
    if isinstance(error, AppFailed) and not error.is_shown:
        cause = without_our_frames(error.error)
    message = error.message if isinstance(error, click.ClickException) else "the command has failed"
    click.echo(_as_record(logging.ERROR, message, cause), err=True)
    context.exit(error.exit_code if isinstance(error, click.ClickException) else FAILED)


class _ToStderr(logging.StreamHandler[TextIO]):
    """Writes to what `sys.stderr` is at that moment."""

    def __init__(self, level: int) -> None:
        logging.Handler.__init__(self, level)

    @property
    def stream(self) -> TextIO:  # type: ignore[override] # looked up anew for each record
        return sys.stderr


def _make_safe(record: logging.LogRecord) -> bool:
    """Make a record of the app or of a library safe to show; those of openoutcry are already."""
    return record.name == "openoutcry" or show_safely(record)


def _as_text() -> logging.Formatter:
    formatter = logging.Formatter(
        "%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S"
    )
    formatter.converter = time.gmtime
    return formatter


@contextmanager
def logging_to_stderr(level: str, *, as_json: bool) -> Iterator[None]:
    """Show records from this level on, unless an app configures logging, before or after this.

    It takes the place of `logging.lastResort`, which is used as long as nobody has added a handler. The error
    that the current command ends with is JSON as well: see `end_in_json`.
    """
    context = click.get_current_context(silent=True)
    if context is not None:
        context.meta[_JSON] = as_json
    number = logging.getLevelNamesMapping()[level.upper()]
    handler = _ToStderr(number)
    handler.setFormatter(JsonFormatter() if as_json else _as_text())
    handler.addFilter(_make_safe)
    root, before = logging.root, logging.lastResort
    root_level = root.level
    if not root.handlers and root_level == logging.WARNING:
        root.setLevel(number)
    logging.lastResort = handler
    try:
        yield
    finally:
        logging.lastResort = before
        if root.level == number:
            root.setLevel(root_level)


def is_shown_here() -> bool:
    """Whether what openoutcry logs is written to stderr by the handler above, and to nowhere else."""
    return not logging.getLogger("openoutcry").hasHandlers()
