"""The demonstration: the firm in one process, and the same firm as three desks, compared."""

import asyncio
import shutil
from dataclasses import dataclass
from pathlib import Path

import click

from openoutcry.errors import ConfigError, LinkError
from openoutcry.firm.bars import SYMBOLS, load_history
from openoutcry.firm.crash.demo import (
    DIFFERENT,
    LEFT_BEHIND,
    MISTAKE,
    SAME,
    Outcome,
    cleared,
    ending,
    lives,
    print_evidence,
    say,
)
from openoutcry.firm.crash.evidence import compare, gather
from openoutcry.firm.crash.processes import Failed
from openoutcry.firm.crash.supervisor import Run, Terms, run_firm
from openoutcry.firm.desks.plan import DeskKill, draw
from openoutcry.firm.desks.stage import DeskStage, desk_stage_for
from openoutcry.firm.desks.supervisor import run_desks
from openoutcry.firm.desks.words import DESK, DESKS
from openoutcry.firm.strategies import recipes
from openoutcry.journals import JournalReader
from openoutcry.links.nats.servers import Servers, find_server

_PAGE = 10_000
NODES_FOLDER = "nats"
KILLS = 8
"""How often something is killed, where nothing else is asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DesksOptions:
    """What to run, where to kill, and how to show it.

    Attributes:
        seed: From it is drawn where the desks and the node are killed.
        kills: How often one of them is killed; 0: not at all.
        days: How many trading days, from the first: at least 10 per kill, and 5.
        symbols: What to trade.
        agents: How many strategies, 6 to 64.
        speed: Trading days per second of real time; None for as fast as possible.
        folder: Where the journals and the books are written; what an earlier run left there is removed.
        plain: Lines of text instead of a live display.

    """

    seed: int = 7
    kills: int = 0
    days: int = 120
    symbols: tuple[str, ...] = SYMBOLS
    agents: int = 14
    speed: float | None = None
    folder: Path = Path("out/desks")
    plain: bool = False


def run_desks_demo(options: DesksOptions) -> int:
    """Run the demonstration, and print the evidence.

    Returns 0 if the firm of three desks ended exactly like the one in a single process, 1 if it did not, 2
    for options out of range, without a nats-server, and for a process that could not do its work (reported
    on standard error).
    """
    try:
        kills = plan(options)
        with desk_stage_for(options.days, plain=options.plain) as stage:
            outcome, troubles = asyncio.run(run_both(options, kills, stage))
    except (ConfigError, Failed, LinkError) as error:
        click.echo(f"Error: {error}", err=True)
        return MISTAKE
    *deaths, (_, journals) = lives(outcome.killed, outcome.killed_evidence)
    lived = [*shares(options.folder), *(deaths if kills else ()), ("the journals", journals)]
    print_evidence(outcome, ("one process", "three desks"), lived)
    is_same = outcome.same and not troubles
    say(f"\n{verdict(outcome, troubles)}")
    click.echo(f"The journals and the books are in {options.folder}. To hold them against each other:")
    click.echo(f"  openoutcry firm audit {options.folder}")
    return SAME if is_same else DIFFERENT


def plan(options: DesksOptions) -> tuple[DeskKill, ...]:
    """Draw the kills, and check everything before anything is started. Raises `ConfigError`."""
    if options.speed is not None and not options.speed > 0:
        raise ConfigError(
            f"speed={options.speed}: trading days per second must be above 0, or None for no limit"
        )
    recipes(options.agents)
    find_server()
    days = len(load_history(options.symbols, days=options.days).sessions)
    return draw(options.seed, options.kills, days) if options.kills else ()


async def run_both(
    options: DesksOptions, kills: tuple[DeskKill, ...], stage: DeskStage
) -> tuple[Outcome, int]:
    """Run the firm in one process, then as three desks, and compare the two."""
    terms = Terms(
        symbols=options.symbols, agents=options.agents, days=options.days, days_per_s=options.speed or 0.0
    )
    patterns = (*LEFT_BEHIND, *(f"{desk}.db*" for desk in DESKS))
    alone_folder = options.folder.with_name(f"{options.folder.name}-alone")  # an audit takes a whole folder
    desks, one = (Run(cleared(folder, patterns)) for folder in (options.folder, alone_folder))
    shutil.rmtree(options.folder / NODES_FOLDER, ignore_errors=True)
    stage.begins("The firm in one process")
    await run_firm(one, terms, (), stage)
    stage.ends(ending(one))
    stage.begins(f"The firm on three desks{f', {len(kills)} kills' if kills else ''}")
    troubles = await run_desks(desks, terms, kills, stage, Servers(options.folder / NODES_FOLDER))
    stage.ends(ending(desks))
    journals = [desks.folder / f"{desk}.db" for desk in (DESK, *(name for name in DESKS if name != DESK))]
    alone = gather((one.journal,), one.broker_file, one.account)
    together = gather(journals, desks.broker_file, desks.account)
    return Outcome(desks, alone, together, compare(alone, together)), troubles


def shares(folder: Path) -> list[tuple[str, str]]:
    """Return what each desk has made, and has from the others, in words."""
    rows = []
    for desk in DESKS:
        made = imported = 0
        with JournalReader(folder / f"{desk}.db") as reader:
            after = 0
            while page := reader.read(after, _PAGE):
                after = page[-1].position
                others = sum(entry.header is not None and entry.header.desk is not None for entry in page)
                made, imported = made + len(page) - others, imported + others
        rows.append((desk, f"made {made:,} events, and has {imported:,} from the other desks"))
    return rows


def verdict(outcome: Outcome, troubles: int) -> str:
    """Return the result in a sentence."""
    if outcome.same and not troubles:
        died = len(outcome.killed.deaths)
        return (
            f"On three desks{f', killed {died} times,' if died else ''} the firm has the same positions, the "
            "same cash and the same fills as in one process, to the last ten-thousandth of a dollar."
        )
    wrong = [finding.name for finding in outcome.findings if not finding.same]
    if troubles:
        wrong.append(f"{troubles} dead letters and conflicts")
    return f"NOT THE SAME: {', '.join(wrong) or 'the books or a journal are not sound'}."
