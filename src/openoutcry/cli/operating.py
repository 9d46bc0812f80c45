"""`openoutcry halt`, `release`, `pause`, `resume`: what an operator does to a running firm."""

from pathlib import Path
from typing import Any

import click
import msgspec

from openoutcry.cli.console import say
from openoutcry.cli.journal import options
from openoutcry.cli.journal.access import change, plainly, writer_of
from openoutcry.cli.journal.amending import release_halts
from openoutcry.cli.mistakes import FAILED, Mistake
from openoutcry.core.halts import FIRM
from openoutcry.core.wording import listed
from openoutcry.journals import SqliteJournal
from openoutcry.journals.refusals import must_exist, real_path
from openoutcry.observers.pulse import HaltAnswer
from openoutcry.printable import printable
from openoutcry.runtime.control.client import ask
from openoutcry.units import NS_PER_MS

NO_BUS = 3
ACT_S = 65.0

firm = click.argument("path", metavar="FILE", type=click.Path(path_type=Path, readable=False))
"""The journal of the bus, or its control socket."""
yes = click.option("--yes", "-y", is_flag=True, help="Do not ask first.")
by = click.option("--by", metavar="NAME", default="", help="Who does it; by default your user name.")
why = click.option("--reason", metavar="TEXT", default="", help="Why; it goes on record.")


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
    _confirm(f"Halt {_scope(scope)}?", yes=yes)
    answer = _do(path, "halt", scope=scope, reason=reason, by=by)
    try:
        said = msgspec.convert(answer, HaltAnswer)
    except msgspec.ValidationError as problem:
        raise Mistake(
            f"what listens at {path} is no bus of this version ({problem}): see whether it has halted"
        ) from problem
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
    """Release kill switches, so that the firm, or a part of it, may trade again.

    A running bus releases them in a name that may do so. When no bus runs, the release is written into the
    journal, and the next start delivers it.
    """
    if not ids and scope is None:
        raise Mistake("say which, by --id or --scope: see `openoutcry halts`")
    _confirm(f"Release {listed(ids) if ids else 'every kill switch of ' + _scope(scope or FIRM)}?", yes=yes)
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
    _confirm(f"Pause {subscription}?", yes=yes)
    say(f"{subscription} is {_do(path, 'pause', subscription=subscription, reason=reason, by=by)}")


@click.command()
@firm
@click.argument("subscription")
@why
@by
@yes
def resume(path: Path, subscription: str, reason: str, by: str, yes: bool) -> None:
    """Have a subscription handle its events again: its handler is mended.

    It ends a pause of the operator's and of the bus's own, where most events had failed, and a quarantine.
    """
    _confirm(f"Resume {subscription}?", yes=yes)
    say(f"{subscription} is {_do(path, 'resume', subscription=subscription, reason=reason, by=by)}")


def _scope(scope: str) -> str:
    return "the firm" if scope == FIRM else scope


def _confirm(question: str, *, yes: bool) -> None:
    if not yes:
        click.confirm(printable(question), abort=True, err=True)


def _do(path: Path, verb: str, **arguments: Any) -> Any:
    """Have the running bus do something, and return its answer. Raises `Mistake` if it does not."""
    with plainly(path):
        answer = ask(path, verb, timeout_s=ACT_S, **arguments)
    if answer is None:
        must_exist(real_path(path))
        pid = writer_of(path)
        if pid is not None:
            raise Mistake(
                f"process {pid} writes to {path}, and has no control socket there: by socket = false, by "
                f"what its log says, or because the socket was removed. Nothing was done: {verb} from within"
            )
        say(f"no bus listens at {path}, so there is nothing to {verb}", err=True)
        raise click.exceptions.Exit(NO_BUS)
    if not answer.ok:
        raise Mistake(answer.error)
    return answer.result
