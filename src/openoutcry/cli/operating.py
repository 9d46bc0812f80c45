"""`openoutcry halt`, `release`, `pause`, `resume`: what an operator does to a running firm."""

from pathlib import Path

import click

from openoutcry.cli.asking import (
    Unreachable,
    by,
    confirm,
    do,
    firm,
    result_of,
    some_names,
    state_of,
    why,
    yes,
)
from openoutcry.cli.console import say
from openoutcry.cli.journal import options
from openoutcry.cli.journal.access import change, plainly, reading
from openoutcry.cli.journal.amending import release_halts
from openoutcry.cli.mistakes import FAILED, Mistake
from openoutcry.core.halts import FIRM, Halt
from openoutcry.core.wording import counted, listed
from openoutcry.events import EventType, takes_type
from openoutcry.journals import SqliteJournal
from openoutcry.observers.pulse import HaltAnswer, Pulse
from openoutcry.runtime.control.client import ask
from openoutcry.runtime.control.requests import NOTHING_HELD
from openoutcry.units import NS_PER_MS


@click.command()
@firm
@click.option(
    "--scope", metavar="SCOPE", default=FIRM, help="What stops: firm (by default), a symbol, an agent."
)
@why
@by
@yes
def halt(path: Path, scope: str, reason: str, by: str, yes: bool) -> None:
    """Pull the kill switch of a running firm, and say who has heard it.

    Exits with 1 if nobody takes kill switches, or somebody had not handled it within some 50 ms.
    """
    confirm(lambda: _halt_question(path, scope), yes=yes)
    said: HaltAnswer = do(path, "halt", HaltAnswer, scope=scope, reason=reason, by=by)
    if said.problem:
        say(f"it is not in the journal ({said.problem}), and was delivered all the same", err=True)
    if not said.total:
        say(f"{_scope(scope)} is halted, and nobody takes kill switches: no agent knows of it", err=True)
        raise click.exceptions.Exit(FAILED)
    took = f"in {max(1, round(said.slowest_ns / NS_PER_MS)):,} ms" if said.heard else "so far"
    say(f"{_scope(scope)} is halted: {said.heard:,} of {said.total:,} subscriptions have handled it {took}")
    if said.failed:
        say(f"failed to handle it: {listed(said.failed)}", err=True)
    if said.waiting:
        say(f"not yet: {listed(said.waiting)}; see `openoutcry top {path}`", err=True)
        raise click.exceptions.Exit(FAILED)


@click.command()
@firm
@click.option("--id", "ids", multiple=True, metavar="ID", help="Release this kill switch; repeat it.")
@click.option("--scope", metavar="SCOPE", help="Release all of this scope, such as firm.")
@click.option("--reason", metavar="TEXT", required=True, help="Why; it is kept with the release.")
@click.option(
    "--by",
    metavar="NAME",
    default="",
    help="In whose name, which must be one that may release; by default the setting control_releaser.",
)
@options.key_file
@yes
def release(
    path: Path,
    ids: tuple[str, ...],
    scope: str | None,
    reason: str,
    by: str,
    key_file: Path | None,
    yes: bool,
) -> None:
    """Release kill switches, so that trading may go on.

    It asks first, with the kill switches that it means.
    A running bus releases them in a name that may do so. When no bus runs, the release is written into the
    journal, and the next start delivers it.
    """
    if not ids and scope is None:
        raise Mistake("say which, by --id or --scope: see `openoutcry halts`")
    confirm(lambda: _release_question(path, ids, scope, key_file), yes=yes)
    say(release_from(path, ids, scope, reason, key_file, by))


def release_from(
    path: Path, ids: tuple[str, ...], scope: str | None, reason: str, key_file: Path | None, by: str = ""
) -> str:
    """Release kill switches through the bus or in the journal, and return what was done, in words."""
    if not reason:
        raise Mistake("say why, with --reason: it is kept with the release")

    def offline(journal: SqliteJournal) -> int:
        entry, changes = release_halts(journal, scope, ids, reason)
        journal.write([entry], changes)
        journal.sync()
        return len(changes.released)

    arguments = {"scope": scope, "ids": list(ids) or None, "reason": reason, "by": by or None}
    count, online = change(path, key_file, "release", arguments, offline)
    done = "by the running bus" if online else "in the journal: the next start delivers it"
    return f"{count:,} kill switch{'' if count == 1 else 'es'} released {done}"


@click.command()
@firm
@click.argument("subscription")
@why
@by
@yes
def pause(path: Path, subscription: str, reason: str, by: str, yes: bool) -> None:
    """Have a subscription begin no further events, until it is resumed.

    The calls that are running go on, kill switches still get through, and what comes meanwhile waits.
    """
    confirm(lambda: _pause_question(path, "pause", subscription), yes=yes)
    say(f"{subscription} is {do(path, 'pause', subscription=subscription, reason=reason, by=by)}")


@click.command()
@firm
@click.argument("subscription")
@why
@by
@yes
def resume(path: Path, subscription: str, reason: str, by: str, yes: bool) -> None:
    """Have a subscription handle its events again.

    Its handler is mended.
    It ends a pause of the operator's and of the bus's own, where most events had failed, and a quarantine.
    Exits with 1 if nothing held it.
    """
    confirm(lambda: _pause_question(path, "resume", subscription), yes=yes)
    state: str = do(path, "resume", str, subscription=subscription, reason=reason, by=by)
    if state.endswith(NOTHING_HELD):
        say(f"{subscription} is {state}", err=True)
        raise click.exceptions.Exit(FAILED)
    say(f"{subscription} is {state}")


def _scope(scope: str) -> str:
    return "the firm" if scope == FIRM else scope


# -- questions --------------------------------------------------------------------------------------


def _halt_question(path: Path, scope: str) -> str:
    """Say who will hear of a kill switch. To stop a firm does not depend on its figures."""
    try:
        known = state_of(path, "halt")
    except Unreachable:
        raise
    except Mistake as problem:
        say(f"who will hear of it is not known: {problem.message}", err=True)
        return f"Halt {_scope(scope)}?"
    takes = [sub.name for sub, _ in known if takes_type(sub.types, EventType.KILL_SWITCH)]
    if not takes:
        none = f"None of the {len(known):,} subscriptions takes kill switches"
        return f"{none}. Halt {_scope(scope)} all the same?"
    whom = f"{len(takes):,} of {counted(len(known), 'subscription')} will hear of it ({some_names(takes)})"
    return f"{whom}. Halt {_scope(scope)}?"


def _release_question(path: Path, ids: tuple[str, ...], scope: str | None, key_file: Path | None) -> str:
    """Say which kill switches will be released: whose they are, and why they were pulled."""
    active = _active(path, key_file)
    meant = [halt for halt in active if halt.event_id in ids or (not ids and halt.scope == scope)]
    if not meant:
        what = listed(ids) if ids else f"kill switch of {_scope(scope or FIRM)}"
        return f"No {what} is among the {len(active):,} active ones that are known. Release it all the same?"
    count = sum(halt.count for halt in meant)
    named = [f"{halt.scope} by {halt.by or 'nobody named'}: {halt.reason or 'no reason'}" for halt in meant]
    switches = "1 kill switch" if count == 1 else f"{count:,} kill switches"
    return f"{switches} will be released ({some_names(named)}). Release {'it' if count == 1 else 'them'}?"


def _active(path: Path, key_file: Path | None) -> list[Halt]:
    """Return the active kill switches: of the running bus the first of them, else those of the journal."""
    with plainly(path):
        answer = ask(path, "pulse")
    if answer is None:
        with reading(path, key_file) as reader:
            return reader.halts()
    pulse: Pulse = result_of(path, answer, Pulse)
    return [
        Halt(scope=row.scope, event_id=row.id, by=row.by, reason=row.reason, since_ns=row.since_ns)
        for row in pulse.halts
    ]


def _pause_question(path: Path, verb: str, subscription: str) -> str:
    """Say what a subscription is doing, and what waits for it."""
    found = {sub.name: row for sub, row in state_of(path, verb)}
    row = found.get(subscription)
    if row is None:
        raise Mistake(f"no subscription is called {subscription!r}; there are {some_names(sorted(found))}")
    state = f"{subscription} is {row.state}: {counted(row.in_flight, 'event')} begun, {row.lag:,} waiting"
    handled = f"{row.handled:,} handled, {row.errors:,} failed"
    return f"{state}; {handled} so far. {verb.capitalize()} it?"
