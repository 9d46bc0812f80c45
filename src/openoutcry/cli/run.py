"""`openoutcry run MODULE:APP`: runs the user's firm until it ends or is stopped."""

import asyncio
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

import click

from openoutcry.cli.console import facts, say
from openoutcry.cli.loading import load_app
from openoutcry.cli.mistakes import FAILED, NOT_DRAINED, AppFailed, Mistake
from openoutcry.config import load_config
from openoutcry.core.ledger import LedgerRow

if TYPE_CHECKING:
    from openoutcry.cli.hosting import Ending


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
def run(target: str, config: Path | None, drain_timeout: float, loop_name: str) -> None:
    """Run your own firm: APP in MODULE, imported from the current directory.

    APP is a function that takes a bus and subscribes agents to it (the firm then runs until it is stopped),
    or a coroutine function that takes a bus (the firm runs until it returns), or a function without arguments
    that returns an EventBus, or an EventBus.

    Ctrl-C or SIGTERM stops the firm: nothing new is admitted, and what is queued is handled until the drain
    time-out. A second one ends it at once.

    Exit codes: 0 ended or stopped, everything handled. 1 the app failed, or the ledger does not balance.
    2 a mistake in the command. 3 events were still waiting at the drain time-out. 130 or 143 ended at once by
    a second Ctrl-C or SIGTERM.
    """
    from openoutcry.cli.hosting import host

    settings = None if config is None else load_config(config)
    app = load_app(target, Path.cwd())
    with asyncio.Runner(loop_factory=_loop_factory(loop_name)) as runner:
        ending = runner.run(host(app, target, settings, drain_timeout))
    facts(f"{target}: {ending.why}, after {ending.elapsed_s:,.1f} s", _summary(ending))
    if ending.error is not None:
        raise AppFailed(f"{target} failed", ending.error)
    if not ending.ledger.balances:
        sys.exit(FAILED)
    if ending.left_count:
        say(f"Error: {ending.left_count:,} deliveries were left: raise --drain-timeout", err=True)
        sys.exit(NOT_DRAINED)


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


def _loop_factory(name: str) -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return the function that makes the loop; None for asyncio's default."""
    if name == "asyncio":
        return None
    try:
        import uvloop
    except ImportError:
        if name == "uvloop":
            raise Mistake("--loop uvloop: uvloop is not installed; pip install 'openoutcry[speed]'") from None
        return None
    return uvloop.new_event_loop
