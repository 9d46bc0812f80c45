"""`openoutcry firm status` and `lag`: how the desks of a firm stand, and who is behind whom."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from openoutcry.cli.console import facts, print_lines, say, table
from openoutcry.cli.firm.engine import LISTEN_S, NO_SERVER, look, no_server
from openoutcry.cli.firm.options import link_of, linked
from openoutcry.cli.firm.view import FirmView, halts_of, heard, held_by, synced
from openoutcry.cli.journal import options
from openoutcry.cli.mistakes import FAILED
from openoutcry.config import Link
from openoutcry.core.link_words import AWAY, LinkWord
from openoutcry.core.wording import counted, share
from openoutcry.errors import Unreachable
from openoutcry.journals.showing import json_line
from openoutcry.observers.pulse import Pulse
from openoutcry.observers.standing import LinkStanding
from openoutcry.runtime.control.client import ask

_ASK_S: Final = 5.0

listen = click.option(
    "--listen",
    "listen_s",
    type=click.FloatRange(0.1, 60),
    default=LISTEN_S,
    show_default=True,
    metavar="SECONDS",
    help="How long to listen to the desks.",
)


@click.command()
@linked
@listen
@options.as_json
def status(listen_s: float, as_json: bool, **given: Any) -> None:
    """Show how the desks of a firm stand, and what to do.

    Needs only the servers. With the settings file of a desk that runs on this host, what that says of its
    link as well, also when no server answers.

    Exits with 0 if every desk is `up`, or stopped; with 1 if something is wrong, or there is no such firm;
    with 3 if no server answers.
    """
    link, journal = link_of(given)
    own = None if journal is None else standing_of(journal)
    try:
        view = look(link, listen_s)
    except (Unreachable, TimeoutError) as problem:
        say(no_server(link, problem), err=True)
        if as_json:
            print_lines([json_line(_plain_without_servers(link, own))])
        elif own is not None:
            _show_own(own)
        raise click.exceptions.Exit(NO_SERVER) from problem
    if as_json:
        print_lines([json_line(plain(view, own))])
    else:
        _show(view)
        if own is not None:
            say()
            _show_own(own)
    if view.troubles():
        raise click.exceptions.Exit(FAILED)


@click.command()
@linked
@listen
@options.as_json
def lag(listen_s: float, as_json: bool, **given: Any) -> None:
    """Show how far each desk has imported what the others export.

    In positions of the exporting desk's journal: an upper bound of the events. What came while it listened
    does not count.

    Exits with 0 if all is imported, with 1 if somebody is behind or not heard, or there is no such firm; with
    3 if no server answers.
    """
    link, _ = link_of(given)
    try:
        view = look(link, listen_s)
    except (Unreachable, TimeoutError) as problem:
        say(no_server(link, problem), err=True)
        raise click.exceptions.Exit(NO_SERVER) from problem
    lags = list(view.lags())
    if not view.desks:
        say(view.nobody(), err=True)
        raise click.exceptions.Exit(FAILED)
    untold = [desk.name for desk in view.desks if desk.said is None and desk.word != AWAY]
    if as_json:
        print_lines(json_line({**one._asdict(), "behind": one.behind}) for one in lags)
    else:
        rows = [(one.importer, one.exporter, one.log, one.exported, one.imported, one.behind) for one in lags]
        table(("imports", "from", "log", "exported", "imported", "behind"), rows)
        for one in lags:
            if one.is_other:
                say(f"{one.importer} has imported from another journal of {one.exporter} than it has now")
        for name in untold:
            say(f"{name} is not heard: how far it is is not known")
    if untold or any(one.behind for one in lags):
        raise click.exceptions.Exit(FAILED)


def standing_of(journal: Path) -> LinkStanding | None:
    """Return how the link of the bus at a journal stands; None if none runs, or it has no link."""
    with suppress(OSError, msgspec.ValidationError):
        answer = ask(journal, "pulse", timeout_s=_ASK_S)
        if answer is not None and answer.ok:
            return msgspec.convert(answer.result, Pulse, str_keys=True).link
    return None


def _plain_without_servers(link: Link, own: LinkStanding | None) -> dict[str, Any]:
    """Return what is known where no server answers, in the form of `plain`."""
    troubles = [f"no server answers at {', '.join(link.servers)}"]
    own_data = None if own is None else msgspec.to_builtins(own)
    return {
        "firm": link.firm,
        "word": LinkWord.STALLED,
        "troubles": troubles,
        "engine": None,
        "desks": [],
        "lags": [],
        "own": own_data,
    }


def plain(view: FirmView, own: LinkStanding | None) -> dict[str, Any]:
    """Return a view as JSON-ready data."""
    return {
        "firm": view.firm,
        "word": view.word,
        "troubles": view.troubles(),
        "engine": msgspec.to_builtins(view.facts),
        "desks": [
            {
                "desk": desk.name,
                "word": desk.word,
                "why": desk.why if desk.word != LinkWord.UP else "",
                "seat": msgspec.to_builtins(desk.seat),
                "heard_s": desk.heard_s,
                "beat": None if desk.said is None else msgspec.to_builtins(desk.said.beat),
                "ends": {log: msgspec.to_builtins(end) for log, end in desk.ends.items()},
            }
            for desk in view.desks
        ],
        "lags": [{**one._asdict(), "behind": one.behind} for one in view.lags()],
        "own": None if own is None else msgspec.to_builtins(own),
    }


def _show(view: FirmView) -> None:
    engine = view.facts
    copies = f", {counted(engine.replicas, 'replica')}, {synced(engine)}" if engine.logs else ""
    rows = [("engine", f"{engine.engine}{copies}")]
    rows += [(f"log {log.log}", _room(log.size_bytes, log.most_bytes)) for log in engine.logs]
    if not view.desks:
        facts(f"the firm {view.firm} is not here", rows)
        print_lines(_troubles(view))
        return
    facts(f"the firm {view.firm} is {view.word}", rows)
    say()
    behind: dict[str, int] = {}
    for one in view.lags():
        behind[one.importer] = behind.get(one.importer, 0) + one.behind
    table(
        ("desk", "link", "heard", "behind", "kill switches", "held by"),
        [(d.name, d.word, heard(d), behind.get(d.name, 0), halts_of(d), held_by(d)) for d in view.desks],
    )
    print_lines(_troubles(view))


def _troubles(view: FirmView) -> Iterator[str]:
    yield from (["", *view.troubles()] if view.troubles() else [])


def _room(size_bytes: int, most_bytes: int) -> str:
    if not most_bytes:
        return f"{size_bytes:,} bytes, without a limit"
    return f"{size_bytes:,} of {most_bytes:,} bytes ({share(size_bytes, most_bytes)})"


def _show_own(own: LinkStanding) -> None:
    """Show what a running desk says of its link."""
    rows = [("link", own.word + (f": {own.why}" if own.why else ""))]
    rows += [(f"to export ({log.log})", f"{log.waiting:,} positions wait") for log in own.logs]
    for desk in own.desks:
        behind = sum(log.waiting for log in desk.logs)
        gaps = ", ".join(f"gap in {log.log}: {log.gap}" for log in desk.logs if log.gap)
        lost = f", {desk.ticks_lost:,} ticks lost" if desk.ticks_lost else ""
        rows.append(
            (f"from {desk.desk}", f"{behind:,} positions to import{lost}{f', {gaps}' if gaps else ''}")
        )
    facts(f"what the desk {own.desk} says itself", rows)
