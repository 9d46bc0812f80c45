"""`openoutcry run MODULE:APP`: runs the user's firm until it ends or is stopped."""

import asyncio
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from openoutcry.cli.console import facts, say
from openoutcry.cli.journal import options
from openoutcry.cli.journal.options import read_key
from openoutcry.cli.loading import load_app
from openoutcry.cli.logging_setup import is_shown_here, logged, logging_to_stderr, tell
from openoutcry.cli.mistakes import BY_SIGNAL, FAILED, AppFailed, Failed, Mistake, NotDrained
from openoutcry.config import BusConfig, load_config
from openoutcry.core.ledger import LedgerRow
from openoutcry.errors import OpenOutcryError

if TYPE_CHECKING:
    from openoutcry.cli.hosting import Ending

_SIGINT = 2


@click.command()
@click.argument("target", metavar="MODULE:APP")
@click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A TOML file with settings for the bus that is passed to the app.",
)
@click.option(
    "--drain-timeout",
    type=click.FloatRange(min=0),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="When stopping: how long the agents may still handle what is queued.",
)
@click.option(
    "--loop",
    "loop_name",
    type=click.Choice(["auto", "asyncio", "uvloop"]),
    default="auto",
    show_default=True,
    help="The event loop; auto is uvloop if it is installed.",
)
@logged
@options.key_file
def run(
    target: str,
    config: Path | None,
    drain_timeout: float,
    loop_name: str,
    log_level: str,
    log_json: bool,
    key_file: Path | None,
) -> None:
    """Run your own firm.

    It is APP in MODULE, imported from the current directory.

    APP is an async generator function that takes the bus:

    \b
        async def app(bus):
            bus.subscribe(...)        # subscribe the agents
            yield                     # here the bus starts
            async for bar in feed():  # the main program
                await bus.publish(bar)

    Or a class with setup(bus), which subscribes, and perhaps async main(bus), the main program. A firm
    without one runs until it is stopped; in an async generator that is `await bus.run_until_signal()`.

    Ctrl-C or SIGTERM stops the firm: nothing new is admitted, and what is queued is handled until the drain
    time-out. A second one ends it at once.

    Exit codes: 0 ended or stopped, everything handled. 1 the app failed, the ledger does not balance, or
    another process has taken the desk over that the firm is.
    2 a mistake in the command. 3 events were still waiting at the drain time-out. 130 or 143 ended at once by
    a second Ctrl-C or SIGTERM. What the app gives to sys.exit goes before these.
    """  # noqa: D301 - the backspace keeps click from wrapping the paragraph
    from openoutcry.cli.hosting import run_to_its_end
    from openoutcry.runtime.durability.recorder import running_app

    settings = _settings(config, key_file)
    running_app.set(target)
    with logging_to_stderr(log_level, as_json=log_json):
        app = load_app(target, Path.cwd())
        ending = run_to_its_end(app, target, settings, drain_timeout, _loop_factory(loop_name))
        if ending.has_run:
            facts(f"{target}: {ending.why}, after {ending.elapsed_s:,.1f} s", _summary(ending))
        elif ending.error is None and ending.problem is None:
            say(f"{target}: {ending.why} before it was started")
        if ending.error is not None:
            _end_with(ending.error, f"{target} {ending.what}")
    if ending.problem is not None:
        _end_with_problem(ending.problem, ending.has_run, target)
    if not ending.ledger.balances:
        sys.exit(FAILED)
    if ending.left_count:
        raise NotDrained(f"{ending.left_count:,} deliveries were left: raise --drain-timeout")


def _settings(config: Path | None, key_file: Path | None) -> BusConfig | None:
    """Return the settings in a file, their journal sealed with a key if there is one."""
    settings, key = None if config is None else load_config(config), read_key(key_file)
    if key is None:
        return settings
    if settings is None or settings.persistence is None:
        where = "without --config" if config is None else f"{config} has no [persistence]"
        raise Mistake(f"--key-file {key_file}: there is no journal to seal with it: {where}")
    return replace(settings, persistence=replace(settings.persistence, key=key))


def _end_with(error: BaseException, what: str) -> None:
    """End as what the app has raised asks for; return for an exit with 0."""
    if isinstance(error, SystemExit):
        if isinstance(error.code, str):
            tell(error.code)
            sys.exit(FAILED)
        if error.code:
            sys.exit(error.code)
    elif isinstance(error, KeyboardInterrupt):
        sys.exit(BY_SIGNAL + _SIGINT)
    elif isinstance(error, Mistake):
        raise error
    else:
        raise AppFailed(what, error, is_shown=is_shown_here())


def _end_with_problem(problem: BaseException, has_run: bool, target: str) -> None:
    """End because the bus could not start, or not stop as it should."""
    if not isinstance(problem, OpenOutcryError):
        raise AppFailed(f"{target} could not be {'stopped' if has_run else 'started'}", problem)
    if not has_run:
        raise problem
    raise Failed(f"{type(problem).__name__}: {problem}")


def _summary(ending: "Ending") -> list[tuple[str, str]]:
    """Return what was published and refused, and what became of the deliveries, without zeros."""
    ledger = ending.ledger
    rows = [("events published", ending.published_count)]
    rows += [(f"refused, {reason}", count) for reason, count in sorted(ending.refused.items()) if count]
    fates = [f.name for f in fields(LedgerRow) if f.name not in ("subscription", "lane")]
    shown = [fate for fate in fates if fate in ("accepted", "handled") or ledger.total(fate)]
    verdict = "balances: nothing was lost" if ledger.balances else "does NOT balance: deliveries were lost"
    rows += [(f"deliveries {fate.replace('_', ' ')}", ledger.total(fate)) for fate in shown]
    return [*((name, f"{count:,}") for name, count in rows), ("ledger", verdict)]


def _loop_factory(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    """Return the function that makes the loop."""
    if name == "asyncio":
        return asyncio.new_event_loop
    try:
        import uvloop
    except ImportError:
        if name == "uvloop":
            raise Mistake("--loop uvloop: uvloop is not installed; pip install 'openoutcry[speed]'") from None
        return asyncio.new_event_loop
    return uvloop.new_event_loop
