"""The `openoutcry` command: gathers the subcommands, and turns errors into one helpful line."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from openoutcry.cli import journal
from openoutcry.cli.bench import bench
from openoutcry.cli.demo import demo
from openoutcry.cli.doctor import doctor
from openoutcry.cli.firm import firm
from openoutcry.cli.logging_setup import end_in_json
from openoutcry.cli.mcp import mcp
from openoutcry.cli.metrics import metrics
from openoutcry.cli.mistakes import BY_SIGNAL, Mistake
from openoutcry.cli.operating import halt, pause, release, resume
from openoutcry.cli.page import page
from openoutcry.cli.redriving import redrive
from openoutcry.cli.replay import replay
from openoutcry.cli.run import run
from openoutcry.cli.tracing import traces
from openoutcry.cli.watching.status import status
from openoutcry.cli.watching.top import top
from openoutcry.errors import JournalCorrupt, JournalDead, OpenOutcryError
from openoutcry.printable import printable
from openoutcry.version import __version__

_SIGINT = 2
_NEED_A_NEW_FILE = (JournalCorrupt, JournalDead)


@contextmanager
def _safe_to_show() -> Iterator[None]:
    """Make what click quotes of the command line safe to show."""
    try:
        yield
    except click.ClickException as error:
        vars(error)["message"] = printable(error.message)  # some versions of click declare it as final
        raise


def _open_standard_files() -> None:
    """Open what is missing of standard input, output and error, where the process was started without.

    Otherwise a journal or a socket gets the number, and whatever is written to standard error goes into it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


class _Shell(click.Group):
    """A group whose commands may raise the library's errors, and may be interrupted."""

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        """Read the command line."""
        _open_standard_files()
        with _safe_to_show():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command. A typed error is one line and exit code 2, Ctrl-C is a silent 130."""
        try:
            return self._run(ctx)
        except (click.exceptions.Exit, click.Abort, click.UsageError):
            raise
        except Exception as error:
            end_in_json(ctx, error)
            raise

    def _run(self, ctx: click.Context) -> Any:
        try:
            with _safe_to_show():
                return super().invoke(ctx)
        except OpenOutcryError as error:
            remedy = "  (openoutcry recover OLD NEW)" if isinstance(error, _NEED_A_NEW_FILE) else ""
            raise Mistake(f"{type(error).__name__}: {error}{remedy}") from error
        except UnicodeEncodeError as error:  # such as a file name that is not text
            unfit = ascii(error.object[error.start : error.end])
            raise Mistake(
                f"the output's encoding cannot write {unfit}, so the output is not complete"
            ) from error
        except KeyboardInterrupt:
            ctx.exit(BY_SIGNAL + _SIGINT)


@click.group("openoutcry", cls=_Shell, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="openoutcry")
def main() -> None:
    """Run an event bus for firms of trading agents."""


main.add_command(demo)
main.add_command(run)
main.add_command(replay)
main.add_command(bench)
main.add_command(doctor)
main.add_command(status)
main.add_command(top)
main.add_command(page)
main.add_command(mcp)
main.add_command(metrics)
main.add_command(traces)
main.add_command(firm)
main.add_command(halt)
main.add_command(release)
main.add_command(pause)
main.add_command(resume)
main.add_command(redrive)
for verb in journal.__all__:
    main.add_command(getattr(journal, verb))
