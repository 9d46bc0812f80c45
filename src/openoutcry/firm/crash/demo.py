"""The demonstration: one undisturbed firm and one that is killed over and over, compared."""

import asyncio
import shutil
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from openoutcry.errors import ConfigError
from openoutcry.firm.bars import SYMBOLS, load_history
from openoutcry.firm.crash.autopsy import InFlight
from openoutcry.firm.crash.evidence import Evidence, Finding, compare, exactly, gather, is_sound
from openoutcry.firm.crash.plan import Kill, draw_kills
from openoutcry.firm.crash.processes import Failed
from openoutcry.firm.crash.stage import Stage, stage_for
from openoutcry.firm.crash.supervisor import Run, Terms, run_firm
from openoutcry.firm.strategies import recipes

SAME, DIFFERENT, MISTAKE = 0, 1, 2
LEFT_BEHIND = ("firm.db*", "broker.db*", "account.json", "firm.log")


@dataclass(frozen=True, slots=True, kw_only=True)
class CrashOptions:
    """What to run, where to kill, and how to show it.

    Attributes:
        seed: From it is drawn where the firm is killed.
        kills: How often it is killed.
        days: How many trading days, from the first: at least 10 per kill, and 5.
        symbols: What to trade.
        agents: How many strategies, 6 to 64.
        speed: Trading days per second of real time; None for as fast as possible.
        folder: Where the journals and the books are written; what an earlier run left there is removed.
        plain: Lines of text instead of a live display.

    """

    seed: int = 7
    kills: int = 8
    days: int = 250
    symbols: tuple[str, ...] = SYMBOLS
    agents: int = 14
    speed: float | None = None
    folder: Path = Path("out/crash")
    plain: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of both runs."""

    killed: Run
    undisturbed_evidence: Evidence
    killed_evidence: Evidence
    findings: list[Finding]

    @property
    def same(self) -> bool:
        """Whether both runs are sound and ended alike in everything."""
        both = (self.undisturbed_evidence, self.killed_evidence)
        return all(finding.same for finding in self.findings) and all(is_sound(one) for one in both)


def run_crash_demo(options: CrashOptions) -> int:
    """Run the demonstration, and print the evidence.

    Returns 0 if the killed firm ended exactly like the undisturbed one, 1 if it did not, 2 for options out of
    range and for a process that could not do its work (both reported on standard error).
    """
    try:
        kills = plan(options)
        with stage_for(options.days, plain=options.plain) as stage:
            outcome = asyncio.run(run_both(options, kills, stage))
    except (ConfigError, Failed) as error:
        click.echo(f"Error: {error}", err=True)
        return MISTAKE
    lived = lives(outcome.killed, outcome.killed_evidence)
    print_evidence(outcome, ("undisturbed", f"killed {len(outcome.killed.deaths)} times"), lived)
    say(f"\n{verdict(outcome)}")
    click.echo(f"The journals and the books are in {options.folder}.")
    return SAME if outcome.same else DIFFERENT


def plan(options: CrashOptions) -> tuple[Kill, ...]:
    """Draw the kills, and check the options before anything is started. Raises `ConfigError`."""
    if options.speed is not None and not options.speed > 0:
        raise ConfigError(
            f"speed={options.speed}: trading days per second must be above 0, or None for no limit"
        )
    recipes(options.agents)
    days = len(load_history(options.symbols, days=options.days).sessions)
    return draw_kills(options.seed, options.kills, days)


async def run_both(options: CrashOptions, kills: tuple[Kill, ...], stage: Stage) -> Outcome:
    """Run the firm undisturbed, then with the kills, and compare the two."""
    terms = Terms(
        symbols=options.symbols, agents=options.agents, days=options.days, days_per_s=options.speed or 0.0
    )
    undisturbed, killed = (Run(cleared(options.folder / name)) for name in ("undisturbed", "killed"))
    stage.begins("The firm, undisturbed")
    await run_firm(undisturbed, terms, (), stage)
    stage.ends(ending(undisturbed))
    stage.begins(f"The same firm, killed {len(kills)} times")
    await run_firm(killed, terms, kills, stage)
    stage.ends(ending(killed))
    one, other = (gather((run.journal,), run.broker_file, run.account) for run in (undisturbed, killed))
    return Outcome(killed, one, other, compare(one, other))


def ending(run: Run) -> str:
    """Return how a run ended, in words."""
    return f"ends on {run.last.date} with {exactly(run.last.equity)}"


def cleared(folder: Path, patterns: Sequence[str] = LEFT_BEHIND) -> Path:
    """Make a folder if needed, and remove what an earlier run has left there, and nothing else."""
    folder.mkdir(parents=True, exist_ok=True)
    for pattern in patterns:
        for left in folder.glob(pattern):
            left.unlink()
    return folder


def print_evidence(outcome: Outcome, heads: tuple[str, str], lived: Sequence[tuple[str, str]]) -> None:
    """Print how the firm lived, and how its end compares."""
    click.echo("\nHOW IT LIVED")
    for name, value in lived:
        say(f"  {name:<20}  {value}", indent=24)
    click.echo("\nHOW IT ENDED")
    rows = [("", *heads, "")]
    rows += [(f.name, f.undisturbed, f.killed, "same" if f.same else "DIFFERENT") for f in outcome.findings]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        cells = [row[0].ljust(widths[0]), row[1].rjust(widths[1]), row[2].rjust(widths[2]), row[3]]
        click.echo(("  " + "  ".join(cells)).rstrip())


def say(text: str, *, indent: int = 0) -> None:
    """Print a line; on a terminal, in lines as wide as that is."""
    if sys.stdout.isatty():
        wide = shutil.get_terminal_size().columns
        first, text = text[: len(text) - len(text.lstrip("\n"))], text.lstrip("\n")
        text = first + textwrap.fill(text, wide, subsequent_indent=" " * indent, break_on_hyphens=False)
    click.echo(text)


def lives(run: Run, evidence: Evidence) -> list[tuple[str, str]]:
    """Return the figures of the run with kills."""
    orders = [death.orders for death in run.deaths]
    verified = evidence.verified
    loaded = sum(word.loaded for word in run.returns)
    remembered = sum(word.remembered for word in run.returns)
    damage = f"{len(verified.problems)} problems" if verified.problems else "intact"
    return [
        ("killed with SIGKILL", f"{len(run.deaths)} times"),
        ("orders in flight", f"{sum(o.count for o in orders):,} at those moments, {_sum_up(orders)}"),
        ("handed out again", f"{sum(word.recovered for word in run.returns):,} events that were not settled"),
        ("published again", f"{run.duplicates:,} times what the journal had: it took none of it twice"),
        ("ordered again", f"{evidence.repeats:,} times what the broker had: it took none of it twice"),
        ("remembered", f"{loaded:,} events from saved states, {remembered:,} on top, by agent and return"),
        ("the journal", f"{verified.entries:,} events in {verified.batches:,} commits: {damage}"),
    ]


def _sum_up(orders: list[InFlight]) -> str:
    parts = (
        (sum(o.unsent for o in orders), "not sent yet"),
        (sum(o.working for o in orders), "with the broker"),
        (sum(o.unheard for o in orders), "filled and not known to be"),
    )
    return ", ".join(f"{count} {how}" for count, how in parts)


def verdict(outcome: Outcome) -> str:
    """Return the result in a sentence."""
    if outcome.same:
        return (
            f"Killed {len(outcome.killed.deaths)} times in mid-trading, the firm has the same positions, the "
            "same fills and the same profit, to the last ten-thousandth of a dollar."
        )
    wrong = [finding.name for finding in outcome.findings if not finding.same]
    return f"NOT THE SAME: {', '.join(wrong) or 'the books or a journal are not sound'}."
