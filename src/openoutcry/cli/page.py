"""`openoutcry page`: the firm in the browser, from a process of its own."""

import asyncio
import importlib
import os
import sys
import tempfile
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from html import escape
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import click

from openoutcry.cli.console import print_lines
from openoutcry.cli.journal import options
from openoutcry.cli.journal.across_desks import places_of
from openoutcry.cli.journal.options import read_key
from openoutcry.cli.logging_setup import logged, logging_to_stderr
from openoutcry.cli.metrics import read_token
from openoutcry.cli.mistakes import Mistake

PORT: Final = 8_765
_HOST: Final = "127.0.0.1"


@click.command()
@options.journal
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=PORT,
    show_default=True,
    metavar="PORT",
    help="Where it listens; 0 takes any port that is free.",
)
@click.option(
    "--host",
    default=_HOST,
    show_default=True,
    metavar="ADDRESS",
    help="On which address of this machine. Any but this machine's own needs --tokens.",
)
@click.option(
    "--name",
    "names",
    multiple=True,
    metavar="HOST[:PORT]",
    help="Under which name it is reached, such as that of the proxy before it. Repeat it.",
)
@click.option(
    "--tokens",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Who may log in: lines of `look TOKEN NAME` and `act TOKEN NAME`, in a file that only you can read.",
)
@click.option("--act", is_flag=True, help="Print the address with which one may act as well.")
@click.option(
    "--open/--no-open", "opens", default=None, help="Open a browser; by default on a desktop's terminal."
)
@click.option(
    "--metrics-token",
    "metrics_file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Tell the metrics, at /metrics, only to who shows what this file holds, as a bearer token.",
)
@click.option(
    "--compare",
    multiple=True,
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Another journal, such as `replay --into` makes it, to be compared with this one. Repeat it.",
)
@options.with_desks
@options.references
@options.key_file
@logged
def page(
    path: Path,
    port: int,
    host: str,
    names: tuple[str, ...],
    tokens: Path | None,
    act: bool,
    opens: bool | None,
    metrics_file: Path | None,
    compare: tuple[Path, ...],
    journals: tuple[Path, ...],
    config: Path | None,
    references: tuple[str, ...],
    key_file: Path | None,
    log_level: str,
    log_json: bool,
) -> None:
    """Show a firm in the browser.

    What is wrong, its topology, rounds, events, dead letters and its journal.

    JOURNAL is the file that the bus writes to, or the control socket of a bus without one. No bus need run:
    then the page shows what the journal says.

    The page is a process of its own, for this machine alone, and whoever opens it needs the address that is
    printed. Ctrl-C ends it.
    """
    server = imported()
    host = _HOST if host == "localhost" else host
    people, made = _people(tokens, act=act)
    if host not in server.LOOPBACK and tokens is None:
        raise Mistake(
            f"--host {host}: others could reach it: say with --tokens who may log in, and put a proxy with "
            f"TLS before it, as the page itself speaks plain HTTP"
        )
    for name in names:
        if not server.is_host(name):
            raise Mistake(
                f"--name {name}: give what stands in an address behind http://, such as firm.example"
            )
    if host in server.EVERYWHERE and not names:
        raise Mistake(f"--host {host}: say with --name under which name the page is reached")
    key, metrics_token = read_key(key_file), None
    if metrics_file is not None:
        metrics_token = read_token(metrics_file, "--metrics-token")
    with logging_to_stderr(log_level, as_json=log_json), server.bound(host, port) as listener:
        shown = server.Page(
            path,
            listener,
            people,
            names=names,
            key=key,
            metrics_token=metrics_token,
            compare=compare,
            journals=places_of(journals, config),
            references=references,
        )
        lines = [f"{role}: {shown.url}/login?token={token}" for role, token in made]
        with opening(lines[0].partition(" ")[2] if lines else shown.url) as open_it:

            def ready() -> None:
                print_lines(lines or [f"{shown.url}/login?token=..., with a token of {tokens}"])
                if sys.stdout.isatty() and has_screen() if opens is None else opens:
                    open_it()

            asyncio.run(shown.serve(ready))


def imported() -> ModuleType:
    """Return the page's server. Raises `Mistake` where what it needs is not installed."""
    try:
        return importlib.import_module("openoutcry.dashboard.server")
    except ModuleNotFoundError as missing:
        if (missing.name or "").partition(".")[0] == "openoutcry":
            raise
        raise Mistake(f"the page needs {missing.name}: pip install 'openoutcry[page]'") from missing


def has_screen() -> bool:
    """Return False where a browser could only take the terminal, and the page would wait for its end."""
    return sys.platform != "linux" or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY")))


def _people(tokens: Path | None, *, act: bool) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """Return whom the tokens stand for, and the roles and tokens that were made for this start."""
    access = importlib.import_module("openoutcry.dashboard.access")
    if tokens is not None:
        if act:
            raise Mistake("--act goes without --tokens: write a line `act TOKEN NAME` into that file")
        return access.read_tokens(tokens), []
    made = [(role, access.new_token()) for role in (("look", "act") if act else ("look",))]
    return {token: access.Person(role) for role, token in made}, made


@contextmanager
def opening(address: str) -> Iterator[Callable[[], None]]:
    """Yield what opens an address in the browser.

    It is in a file that leads there, since the arguments of a program can be seen by every user.
    """
    with ExitStack() as stack:

        def open_it() -> None:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="openoutcry-page-"))
            file = Path(folder, "page.html")
            text = escape(address, quote=True)
            file.write_text(
                f'<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="0; url={text}">'
                f'<title>openoutcry</title><a href="{text}">the page</a>\n',
                encoding="utf-8",
            )
            webbrowser.open(file.as_uri())

        yield open_it
