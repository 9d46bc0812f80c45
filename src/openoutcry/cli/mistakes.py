"""How the commands report failures: a line for a mistake of the user, a traceback for a bug."""

from pathlib import Path
from types import TracebackType

import click

from openoutcry.printable import printable, printable_traceback

FAILED = 1
MISTAKE = 2
NOT_DRAINED = 3
BY_SIGNAL = 128

_HERE = str(Path(__file__).parent)


class Mistake(click.ClickException):
    """A mistake of the user: one line with the remedy, and exit code 2."""

    exit_code = MISTAKE

    def __init__(self, message: str) -> None:
        super().__init__(printable(" ".join(message.split())))


class Failed(click.ClickException):
    """What was asked for was not done as it should: one line, and exit code 1."""

    exit_code = FAILED

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


class NotDrained(Failed):
    """Events were left at the drain time-out: one line, and exit code 3."""

    exit_code = NOT_DRAINED


class AppFailed(click.ClickException):
    """The user's code raised: its traceback without the frames of this command, and exit code 1.

    `is_shown` says that the traceback was shown when it happened.
    """

    exit_code = FAILED

    def __init__(self, what: str, error: BaseException, *, is_shown: bool = False) -> None:
        super().__init__(printable(what))
        self.error = error
        self.is_shown = is_shown

    def show(self, file: object = None) -> None:
        """Print the user's part of the traceback, then what failed."""
        del file
        if not self.is_shown:
            click.echo(printable_traceback(without_our_frames(self.error)), err=True, nl=False)
        click.echo(f"Error: {self.message}", err=True)


def without_our_frames(error: BaseException) -> BaseException:
    """Return an error with a traceback that begins in the app, if it comes to the app at all."""
    return error.with_traceback(_from_the_app_on(error.__traceback__) or error.__traceback__)


def _from_the_app_on(tb: TracebackType | None) -> TracebackType | None:
    while tb is not None:
        name = tb.tb_frame.f_code.co_filename
        if not name.startswith((_HERE, "<frozen importlib")) and "importlib" not in Path(name).parts:
            return tb
        tb = tb.tb_next
    return None
