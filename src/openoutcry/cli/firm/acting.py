"""`openoutcry firm trim`, `drop` and `release`: what an operator does to a firm of several desks."""

import asyncio
import os
import pwd
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import click

from openoutcry.cli import asking
from openoutcry.cli.asking import confirm, yes
from openoutcry.cli.console import say
from openoutcry.cli.firm.engine import LISTEN_S, Ear, act, view_of
from openoutcry.cli.firm.options import link_of, linked
from openoutcry.cli.firm.view import FirmView
from openoutcry.cli.mistakes import FAILED, Mistake
from openoutcry.cli.operating import release_from
from openoutcry.config import Link
from openoutcry.core.halts import FIRM
from openoutcry.core.wording import counted, listed
from openoutcry.ports import LOGS, LogName, Transport
from openoutcry.runtime.control.client import ask

RELEASED_S: Final = 10.0
"""So long `release` waits until every desk has released."""
_LOOK_S: Final = 0.1

at = click.option(
    "--at",
    "journal",
    type=click.Path(path_type=Path, readable=False),
    metavar="JOURNAL",
    help="A running desk's journal: that desk puts it on record. By default that of --config.",
)


@click.command()
@linked
@at
@asking.by
@asking.why
@yes
def trim(journal: Path | None, by: str, reason: str, yes: bool, **given: Any) -> None:
    """Remove from the logs what every desk has imported.

    Desks that may do it do so by themselves. A desk that is not heard holds it up, since nobody knows how far
    it is: start it, or drop it.

    Exits with 3 if no server answers.
    """
    link, own = link_of(given)

    async def trimming(transport: Transport, ear: Ear) -> int:
        view = await view_of(link, transport, ear, LISTEN_S)
        if not view.desks:
            raise Mistake(view.nobody())
        plan, untold = _plan(view)
        if untold and not plan:
            raise Mistake(_held_up(untold))
        if untold:
            say(_held_up(untold), err=True)
        places = [f"{desk} {log} up to {upto:,}" for desk, log, upto in plan]
        confirm(lambda: f"Remove from the logs of {link.firm}: {listed(places) or 'nothing'}?", yes=yes)
        return sum([await transport.trim(log, desk, upto) for desk, log, upto in plan])

    count = act(link, trimming)
    say(f"{counted(count, 'group')} removed")
    _record(journal or own, "firm_trim", link, by, reason)


def _plan(view: FirmView) -> tuple[list[tuple[str, LogName, int]], list[str]]:
    """Return up to where each desk's exports can go from each log, and which desks have not told."""
    plan: list[tuple[str, LogName, int]] = []
    missing: set[str] = set()
    for desk in view.desks:
        for log in LOGS:
            upto, untold = view.imported_by_all(desk.name, log)
            missing.update(untold)
            if upto and not untold:
                plan.append((desk.name, log, upto))
    return plan, sorted(missing)


def _held_up(untold: list[str]) -> str:
    return (
        f"not heard: {listed(untold)}. What is in the logs may have to be imported there yet: start it, or "
        "drop it if it is gone for good (firm drop)"
    )


@click.command()
@click.argument("desk")
@linked
@at
@asking.by
@asking.why
@yes
def drop(desk: str, journal: Path | None, by: str, reason: str, yes: bool, **given: Any) -> None:
    """Forget a desk that is gone for good.

    Its seat and its exports go from the servers, and nobody waits for it any more. Its journal stays as it
    is, and has alone what was not exported. Refused for a desk that is heard.

    Exits with 3 if no server answers.
    """
    link, own = link_of(given)

    async def dropping(transport: Transport, ear: Ear) -> None:
        view = await view_of(link, transport, ear, LISTEN_S)
        found = next((one for one in view.desks if one.name == desk), None)
        if found is None:
            names = listed([one.name for one in view.desks]) or "none"
            raise Mistake(f"the firm {link.firm} has no desk {desk!r}; it has {names}")
        if found.said is not None:
            raise Mistake(f"{desk} runs: it is heard, as {found.said.beat.holder}. Stop it first")
        waits = [
            f"{one.behind:,} positions for {one.importer}"
            for one in view.lags()
            if one.exporter == desk and one.behind
        ]
        lost = f" Not imported yet: {listed(waits)}." if waits else ""
        confirm(lambda: f"Forget the desk {desk} of {link.firm}?{lost}", yes=yes)
        await transport.drop(desk)

    act(link, dropping)
    say(f"{desk} is forgotten: its seat and its exports are gone from the servers; its journal is as it was")
    _record(journal or own, "firm_drop", link, by, reason, desk=desk)


@click.command()
@linked
@at
@click.option(
    "--scope", metavar="SCOPE", default=FIRM, show_default=True, help="All kill switches of this scope."
)
@click.option("--id", "ids", multiple=True, metavar="ID", help="Only the kill switch of this id; repeat it.")
@asking.why
@click.option("--by", metavar="NAME", default="", help="In whose name: one that may release there.")
@yes
def release(
    journal: Path | None, scope: str, ids: tuple[str, ...], reason: str, by: str, yes: bool, **given: Any
) -> None:
    """Release kill switches on every desk, and say who has done so.

    A running desk whose releases the others take publishes it (--at). Then it waits until every desk that is
    heard says that they are released.

    Exits with 1 if some desk has them still, with 3 if no server answers.
    """
    link, own = link_of(given)
    place = journal or own
    if place is None:
        raise Mistake(
            "say which running desk is to release, with --at JOURNAL, or --config FILE of that desk"
        )

    async def releasing(transport: Transport, ear: Ear) -> list[str]:
        view = await view_of(link, transport, ear, LISTEN_S)
        meant = _active(ear, scope, ids)
        where = sorted({desk for desk, _ in meant})
        confirm(lambda: _release_question(scope, meant, where, view), yes=yes)
        say(await asyncio.to_thread(release_from, place, ids, None if ids else scope, reason, None, by))
        waited_s = 0.0
        named = {event_id for _, event_id in meant}
        left = _left(ear, named)
        while left and waited_s < RELEASED_S:
            await asyncio.sleep(_LOOK_S)
            waited_s += _LOOK_S
            left = _left(ear, named)
        return left

    left = act(link, releasing)
    if left:
        say(
            f"{listed(left)} {'has' if len(left) == 1 else 'have'} not released after {RELEASED_S:g} s",
            err=True,
        )
        raise click.exceptions.Exit(FAILED)
    say("no desk that is heard has them any more")


def _active(ear: Ear, scope: str, ids: tuple[str, ...]) -> set[tuple[str, str]]:
    return {
        (desk, halt.event_id)
        for desk, said in ear.said.items()
        for halt in said.beat.halts
        if (halt.event_id in ids if ids else halt.scope == scope)
    }


def _left(ear: Ear, named: set[str]) -> list[str]:
    return sorted(
        {desk for desk, said in ear.said.items() for halt in said.beat.halts if halt.event_id in named}
    )


def _release_question(scope: str, meant: set[tuple[str, str]], where: list[str], view: FirmView) -> str:
    count = len({event_id for _, event_id in meant})
    switches = "1 kill switch" if count == 1 else f"{count:,} kill switches"
    silent = [desk.name for desk in view.desks if desk.said is None]
    unheard = f" Not heard: {listed(silent)}." if silent else ""
    return f"{switches} of {scope} will be released on {listed(where) or 'no desk'}.{unheard} Go on?"


def _record(place: Path | None, verb: str, link: Link, by: str, reason: str, **more: str) -> None:
    """Have a running desk put on record what was done, or say that none has."""
    answer = None
    if place is not None:
        with suppress(OSError):
            answer = ask(
                place,
                verb,
                timeout_s=asking.FIGURES_S,
                firm=link.firm,
                by=by or _user(),
                reason=reason,
                **more,
            )
    if answer is None:
        say("not on record: no desk runs at --at JOURNAL, or --config FILE", err=True)
    elif not answer.ok:
        say(f"not on record: {answer.error}", err=True)


def _user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
