"""`openoutcry demo`: runs the firm that comes with the package."""

import sys
from pathlib import Path
from typing import Any

import click

from openoutcry.cli.mistakes import Mistake


def _symbols(_context: click.Context, _parameter: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    """Accept `--symbols AAPL,IBM`, a repeated option, and any case."""
    names = [name.strip().upper() for part in value for name in part.split(",")]
    return tuple(dict.fromkeys(name for name in names if name))


@click.command()
@click.option(
    "--speed",
    type=click.FloatRange(min=0, min_open=True),
    metavar="DAYS_PER_SECOND",
    help="Trading days per second of real time.  [default: as fast as possible]",
)
@click.option(
    "--symbols",
    multiple=True,
    callback=_symbols,
    metavar="NAMES",
    help="Which stocks to trade, comma-separated.  [default: all five]",
)
@click.option(
    "--agents",
    type=click.IntRange(min=1),
    metavar="COUNT",
    help="How many strategies, 6 to 64.  [default: 14]",
)
@click.option(
    "--chaos",
    type=int,
    metavar="SEED",
    help="Make agents hang, raise and flood, as drawn from this seed; then trip the kill switch.",
)
@click.option(
    "--crash",
    type=int,
    is_flag=False,
    flag_value=7,
    metavar="[SEED]",
    help="Kill the firm with SIGKILL in mid-trading, drawn from this seed [7]; compare with a calm run.",
)
@click.option(
    "--desks",
    is_flag=True,
    help="Run the firm as three desks, processes with a nats-server between them; compare with one process.",
)
@click.option(
    "--kill", is_flag=True, help="With --desks: kill the desks and the server with SIGKILL in mid-trading."
)
@click.option(
    "--seed", type=int, metavar="SEED", help="From it is drawn where --desks --kill kills.  [default: 7]"
)
@click.option(
    "--kills",
    type=click.IntRange(min=1),
    metavar="COUNT",
    help="How often --crash, or --desks, kills.  [default: 8]",
)
@click.option("--days", type=click.IntRange(min=1), metavar="COUNT", help="Run only this many trading days.")
@click.option(
    "--report",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Where to write the HTML report.  [default: out/report.html]",
)
@click.option(
    "--record",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Record the run in this journal, so that `openoutcry replay FILE` can run it again.",
)
@click.option("--plain", is_flag=True, help="Lines of text instead of a live display.")
@click.option(
    "--page",
    is_flag=True,
    help="Show the firm in the browser while it trades, 2 days a second, over and over until Ctrl-C.",
)
def demo(**given: Any) -> None:
    """Run a firm of agents over thirteen years of real daily bars.

    It ends with a summary, and a report of what it did.

    A market-data agent, strategies, the CIO at the signal barrier, risk, compliance, a paper broker and a
    portfolio, all on one bus. Ends with a summary and writes a self-contained HTML report.

    With --crash the firm's process is killed over and over and restarted on its journal, while the broker
    goes on in a process of its own. Ends with the evidence that it did no harm.

    With --desks the firm runs as floor, desk and street: three processes, each with a bus and a journal,
    joined over NATS. With --kill they are killed as well, and so is the server. Ends with the evidence that
    it is the same firm: `openoutcry firm audit out/desks` holds the journals against each other.

    With --record the run is recorded: `openoutcry replay FILE` runs it again and compares.

    With --page the firm writes a journal into a scratch folder, and `openoutcry page` shows it beside. Halt
    it, release it, find out who is stuck; with --chaos somebody will be.
    """
    chosen = {name: value for name, value in given.items() if value not in (None, ())}
    if chosen.pop("page"):
        sys.exit(_page(chosen))
    is_on_desks, kill = chosen.pop("desks"), chosen.pop("kill")
    if is_on_desks:
        sys.exit(_desks(chosen, kill=kill or "kills" in chosen))
    if kill or "seed" in chosen:
        raise Mistake("--kill and --seed go with --desks: add --desks, or use --crash SEED")
    if "crash" in chosen:
        sys.exit(_crash(chosen))
    if "kills" in chosen:
        raise Mistake("--kills says how often --crash or --desks kills: add one of them")
    from openoutcry.firm.demo import DemoOptions, run_demo

    sys.exit(run_demo(DemoOptions(**chosen)))


def _page(chosen: dict[str, Any]) -> int:
    from openoutcry.cli.demo_page import run_demo_page
    from openoutcry.firm.demo import DemoOptions

    beside = [name for name in ("desks", "kill") if chosen.pop(name)]
    refused = ("crash", "kills", "seed", "desks", "kill", "report", "record")
    _refuse(chosen | dict.fromkeys(beside), refused, "--page")
    return run_demo_page(DemoOptions(**chosen))


def _refuse(chosen: dict[str, Any], names: tuple[str, ...], beside: str) -> None:
    unfit = [f"--{name}" for name in names if name in chosen]
    if unfit:
        raise Mistake(f"{' and '.join(unfit)} cannot be used together with {beside}: leave one of them out")


def _crash(chosen: dict[str, Any]) -> int:
    from openoutcry.firm.crash import CrashOptions, run_crash_demo

    _refuse(chosen, ("chaos", "report", "record"), "--crash")
    chosen["seed"] = chosen.pop("crash")
    return run_crash_demo(CrashOptions(**chosen))


def _desks(chosen: dict[str, Any], *, kill: bool) -> int:
    from openoutcry.firm.desks import DesksOptions, run_desks_demo
    from openoutcry.firm.desks.demo import KILLS

    _refuse(chosen, ("crash", "chaos", "report", "record"), "--desks")
    chosen["kills"] = chosen.get("kills", KILLS) if kill else 0
    return run_desks_demo(DesksOptions(**chosen))
