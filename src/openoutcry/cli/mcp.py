"""`openoutcry mcp`: tools with which a model asks about a firm, over standard input and output."""

import asyncio
import importlib
import signal
from pathlib import Path
from types import ModuleType

import click

from openoutcry.cli.journal import options
from openoutcry.cli.journal.options import read_key
from openoutcry.cli.logging_setup import logged, logging_to_stderr
from openoutcry.cli.mistakes import Mistake


@click.command()
@options.journal
@options.key_file
@logged
def mcp(path: Path, key_file: Path | None, log_level: str, log_json: bool) -> None:
    """Let a model ask about a firm.

    Why something happened, what came of it, rounds, events, dead letters, and how the firm stands.

    JOURNAL is the file that the bus writes to, or the control socket of a bus without one. No bus need run.

    It speaks the Model Context Protocol over standard input and output, for a client that starts it, and ends
    when its input does. Everything is read only: nothing that is asked changes the firm. Ctrl-C ends it.
    """
    answers, server = imported()
    key = read_key(key_file)
    with logging_to_stderr(log_level, as_json=log_json), answers.Tools(path, key) as tools:
        before = signal.signal(signal.SIGINT, signal.SIG_DFL)  # a thread that reads would be waited for
        try:
            asyncio.run(server.serve(tools))
        finally:
            signal.signal(signal.SIGINT, before)


def imported() -> tuple[ModuleType, ModuleType]:
    """Return the answers and their server. Raises `Mistake` where what they need is not installed."""
    names = ("openoutcry.dashboard.tools.answers", "openoutcry.dashboard.tools.server")
    try:
        answers, server = map(importlib.import_module, names)
    except ModuleNotFoundError as missing:
        if (missing.name or "").partition(".")[0] == "openoutcry":
            raise
        raise Mistake(f"the tools need {missing.name}: pip install 'openoutcry[mcp]'") from missing
    return answers, server
