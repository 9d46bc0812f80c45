"""`openoutcry status`: the state of a running bus, or of the journal of one that does not run."""

import asyncio
from collections import Counter
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import click

from openoutcry.cli.asking import NO_BUS, firm
from openoutcry.cli.console import facts, print_lines, say, terminal_size
from openoutcry.cli.journal import options
from openoutcry.cli.journal.access import plainly, reading
from openoutcry.cli.journal.options import read_key
from openoutcry.cli.journal.pending import show_waiting
from openoutcry.cli.mistakes import FAILED, Mistake
from openoutcry.cli.watching.look import Look, Times, looks
from openoutcry.cli.watching.paint import has_colour, written
from openoutcry.cli.watching.view import by_name, view
from openoutcry.core.halts import Halt
from openoutcry.core.wording import counted
from openoutcry.journals.pending import count_waiting
from openoutcry.journals.refusals import must_exist, real_path
from openoutcry.journals.rounds import RecordedRound, recorded_rounds
from openoutcry.journals.scanning import letters_of
from openoutcry.journals.showing import json_line, time_of
from openoutcry.observers.reading import Rates, Wrong
from openoutcry.runtime.control.client import Answer, ask
from openoutcry.units import NS_PER_US

ASK_S: Final = 5.0
"""How long the bus may take to answer."""
LOOK_S: Final = 1.0
"""How far the pulses lie apart that the rounds and the rate of events are taken from."""
ROUNDS_SHOWN: Final = 10
HALTS_SHOWN: Final = 20


@click.command()
@firm
@options.as_json
@options.key_file
def status(path: Path, as_json: bool, key_file: Path | None) -> None:
    """Show the state of a running bus, and what is wrong.

    What is wrong comes first, worst first; then rounds, and a row per subscription. Exits as its health
    check says, with 0 if that finds the bus healthy, with 1 if not; a kill switch that is pulled or a dead
    letter changes nothing about that. With 3 if no bus runs: then it shows what the journal alone says.
    """
    found = _ask(path)
    if found is None:
        _say_no_bus(path, key_file, as_json=as_json)
        raise click.exceptions.Exit(NO_BUS)
    if as_json:
        print_lines([json_line(found)])
    else:
        with plainly(path):
            look = asyncio.run(_look(path, found))
        width, height = terminal_size()
        print_lines(written(view(look, width, height, seen=set()), colour=has_colour()))
    raise click.exceptions.Exit(0 if found["health"]["status"] == "healthy" else FAILED)


# -- asking -----------------------------------------------------------------------------------------


def _ask(path: Path) -> dict[str, Any] | None:
    """Return the status of the bus, or None if none listens. Raises `Mistake` if it does not answer.

    The bus makes a health check for it, so that the pulses that follow tell of what that has found.
    """
    with plainly(path):
        answer: Answer | None = ask(path, "status", timeout_s=ASK_S)
    if answer is None:
        return None
    if not answer.ok:
        raise Mistake(answer.error)
    found: dict[str, Any] = answer.result
    return found


async def _look(path: Path, found: dict[str, Any]) -> Look:
    """Return a look at a bus, with what its status says beyond the pulse."""
    async with aclosing(looks(path, LOOK_S)) as some:
        look = await anext(some)
    health = found["health"]
    unsaid = health["status"] != "healthy" and not look.wrong
    said = f"the health check has found the bus {health['status']}: {health['message']}"
    records = {record["name"]: record["recent"] for record in found["handlers"]["handlers"]}
    return replace(
        look,
        earlier=None,  # what a moment ago was no better counts too
        per_s={
            name: Rates(recent["accepted_per_s"] or 0.0, recent["handled_per_s"] or 0.0)
            for name, recent in records.items()
        },
        times={
            name: _times(recent, look.times[name].last_error if name in look.times else "")
            for name, recent in records.items()
        },
        notes=tuple(_notes(found)),
        also_wrong=(Wrong("bad", "health", said),) if unsaid else (),
    )


def _times(recent: dict[str, Any], last_error: str) -> Times:
    names = ("p50_us", "p99_us", "call_p50_us", "call_p99_us")
    wait_50, wait_99, call_50, call_99 = (
        None if recent[name] is None else float(recent[name] * NS_PER_US) for name in names
    )
    return Times(wait_50, wait_99, call_50, call_99, last_error)


def _notes(found: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what the status of a bus says beyond its pulse."""
    rows = []
    tried = [f"{f['culprit']}: {', '.join(f['tried'])}" for f in found["health"]["findings"] if f["tried"]]
    if tried:
        rows.append(("tried", "; ".join(tried)))
    letters = found["letters"]
    if letters is None:
        rows.append(("dead letters", "they cannot be read"))
    else:
        if letters["redriving"]:
            rows.append(("redriving", counted(letters["redriving"], "dead letter")))
        if letters["let_go"]:
            rows.append(("let go", counted(sum(letters["let_go"].values()), "dead letter")))
    dog = found.get("watchdog")
    if dog is not None and dog["episodes"]:
        times = counted(len(dog["episodes"]), "time")
        rows.append(("loop", f"blocked {times} recently, the last by {dog['episodes'][-1]['handler']}"))
    lane = found["health"]["details"].get("kill_lane")
    if lane is not None:
        ago = lane["proven_s_ago"]
        rows.append(("kill lane", "never proven" if ago is None else f"proven {ago:.0f} s ago"))
    return rows


# -- without a bus ----------------------------------------------------------------------------------


def _say_no_bus(path: Path, key_file: Path | None, *, as_json: bool) -> None:
    """Print what the journal alone says."""
    must_exist(real_path(path))
    with reading(path, key_file) as reader:
        waiting = count_waiting(reader, lambda _at: None)
        letters, halts = Counter(letter.subscription for letter in letters_of(reader)), reader.halts()
        first, head = reader.first, reader.head
    if as_json:
        said = {"state": "no bus", "first": first, "head": head, "dead_letters": letters.total()}
        said["halts"] = [halt.to_dict() for halt in halts]
        print_lines([json_line({**said, "subscriptions": waiting})])
        return
    with plainly(path):
        rounds = recorded_rounds(path, limit=ROUNDS_SHOWN, key=read_key(key_file))
    rows = [
        ("bus", "none listens here"),
        *(("halted", _halted(halt)) for halt in halts[:HALTS_SHOWN]),
        *([("halted", f"{len(halts) - HALTS_SHOWN:,} more")] if len(halts) > HALTS_SHOWN else []),
        *([] if halts else [("halted", "nothing")]),
        ("events", f"positions {first:,} to {head:,}"),
        ("dead letters", by_name(letters)),
    ]
    rows += [("rounds" if at == 0 else "", _ended(one)) for at, one in enumerate(rounds)]
    facts(str(path), rows)
    if waiting:
        say()
        show_waiting(waiting)


def _halted(halt: Halt) -> str:
    by = f" by {halt.by}" if halt.by else ""
    more = f" ({halt.count:,} kill switches)" if halt.count > 1 else ""
    return f"{halt.scope}{by}, since {time_of(halt.since_ns)}: {halt.reason or 'no reason given'}{more}"


def _ended(one: RecordedRound) -> str:
    """Return a recorded round in one line: how it ended, and who has not answered."""
    absent = [f"{cell.agent} {cell.how}" for cell in one.cells if cell.how not in ("voted", "abstained")]
    whom = f": {', '.join(absent)}" if absent else ""
    return f"{one.round_id}  {one.status}{'' if one.valid is not False else ', not valid'}{whom}"
