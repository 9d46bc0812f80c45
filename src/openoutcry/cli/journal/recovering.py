"""`openoutcry recover`: what a start would redeliver, or a new file from what verifies in a damaged one."""

import sys
from collections import Counter
from pathlib import Path

import click
import msgspec

from openoutcry.cli.console import facts, print_lines, progress, say, table
from openoutcry.cli.journal import options
from openoutcry.cli.journal.access import plainly, reading
from openoutcry.cli.journal.options import read_key
from openoutcry.cli.journal.pending import show_waiting
from openoutcry.cli.mistakes import FAILED, Mistake
from openoutcry.config import PersistenceConfig
from openoutcry.core.letters import REDRIVE, REDRIVE_ANEW
from openoutcry.errors import JournalError
from openoutcry.journals import JournalReader, Problem, Recovered, recover_into
from openoutcry.journals.glance import glance
from openoutcry.journals.pending import Waiting, count_waiting
from openoutcry.journals.scanning import letters_of
from openoutcry.journals.showing import json_line
from openoutcry.ports import Suspect

_CRASHES = PersistenceConfig().crash_attempts


class Outlook(msgspec.Struct, kw_only=True):
    """What a start of the bus would find.

    Attributes:
        running: The process that writes to the journal now; None if none does.
        dead: Whether a sync or write has failed, so that a start is refused.
        redelivered: Events that would be delivered again, counted once for each subscription.
        waiting: The same by subscription and lane.
        suspects: What was being handled when a process died, including the last crash.
        quarantined: Suspects that would not be tried again, but become dead letters.
        redriven: Dead letters that are marked to be redriven.
        letters: All dead letters.
        damage: What is not as it was written; None if that was not checked, for lack of the key.

    """

    running: int | None
    dead: bool
    redelivered: int
    waiting: list[Waiting]
    suspects: list[Suspect]
    quarantined: int
    redriven: int
    letters: int
    damage: list[Problem] | None


@click.command()
@options.journal
@click.argument("new", metavar="[NEW]", required=False, type=click.Path(path_type=Path))
@click.option("--dry-run", is_flag=True, help="Only show what a start of the bus would redeliver.")
@click.option(
    "--crash-attempts",
    type=click.IntRange(min=1),
    default=_CRASHES,
    show_default=True,
    metavar="COUNT",
    help="With --dry-run: the bus's setting crash_attempts, at which a suspect is quarantined.",
)
@options.as_json
@options.key_file
def recover(
    path: Path, new: Path | None, dry_run: bool, crash_attempts: int, as_json: bool, key_file: Path | None
) -> None:
    """Build the journal NEW from everything in JOURNAL that verifies.

    With --dry-run show what a start of the bus would deliver again.

    JOURNAL stays as it is. Events keep their positions; what had to be left out is listed. Exits with 1 if
    something is damaged.
    """
    if dry_run == (new is not None):
        raise Mistake("give either NEW, the file to be made, or --dry-run")
    if new is None:
        found = _look(path, key_file, crash_attempts)
        print_lines([json_line(found)]) if as_json else _show(found)
        if found.damage or found.dead:
            sys.exit(FAILED)
        return
    with plainly(path):
        if not path.is_file():
            raise Mistake(f"{path} does not exist; name the journal to recover")
        with progress("recovering") as tell:
            made = recover_into(path, new, key=read_key(key_file), progress=tell)
    print_lines([json_line(_plain(made))]) if as_json else _show_made(made)
    if made.lost or made.beside:
        sys.exit(FAILED)


def _look(path: Path, key_file: Path | None, crash_attempts: int) -> Outlook:
    with reading(path, key_file, held=False) as reader:  # damage is listed, and must not end the inspection
        head = reader.head
        with progress("counting") as tell:
            waiting = count_waiting(reader, lambda at: tell(at, head))
        reasons = Counter(letter.reason for letter in letters_of(reader))
        suspects = {(s.subscription, s.lane, s.position): s.crashes for s in reader.suspects()}
        damage = _damage(reader, has_key=key_file is not None)
        running, dead = None, False
        side = glance(path)
        if side is not None and side.found:
            with side:
                running, dead = side.pid if side.is_written else None, side.dead
                if running is None:
                    for call in side.accused(reader.head):
                        suspects[call] = suspects.get(call, 0) + 1
                    if damage is not None and reader.head < side.due:
                        damage.append(
                            Problem(reader.head + 1, f"positions up to {side.due} had been reached")
                        )
    return Outlook(
        running=running,
        dead=dead,
        redelivered=sum(count.waiting for count in waiting),
        waiting=[count for count in waiting if count.waiting],
        suspects=[Suspect(*call, crashes) for call, crashes in sorted(suspects.items())],
        quarantined=sum(crashes >= crash_attempts for crashes in suspects.values()),
        redriven=reasons[REDRIVE] + reasons[REDRIVE_ANEW],
        letters=reasons.total(),
        damage=damage,
    )


def _damage(reader: JournalReader, *, has_key: bool) -> list[Problem] | None:
    """Verify. Return None for a sealed journal, which cannot be verified without its key."""
    try:
        with progress("verifying") as tell:
            return list(reader.verify(tell).problems)
    except JournalError:
        if has_key:
            raise
        return None


def _show(found: Outlook) -> None:
    names = len({count.subscription for count in found.waiting})
    state = f"process {found.running} is writing to it" if found.running else "no bus runs"
    rows = [
        ("now", "DEAD: a sync or a write has failed, a start is refused" if found.dead else state),
        ("to be redelivered", f"{found.redelivered:,} events, to {names:,} subscriptions"),
        ("suspects", f"{len(found.suspects):,}, one at a time before all else"),
        ("to be quarantined", f"{found.quarantined:,} of them"),
        ("dead letters", f"{found.letters:,}, of which {found.redriven:,} are to be redriven"),
        ("damage", _words(found.damage)),
    ]
    facts("What a start of the bus would find", rows)
    if found.waiting:
        say()
        show_waiting(found.waiting)
    if found.suspects:
        say()
        heads = ("suspect of", "lane", "position", "crashes")
        table(heads, [(s.subscription, s.lane, s.position, s.crashes) for s in found.suspects])
    if found.damage or found.dead:
        say()
        say("continue in a new file with `openoutcry recover OLD NEW`")


def _words(damage: list[Problem] | None) -> str:
    if damage is None:
        return "not looked for: give --key-file"
    return "; ".join(problem.what for problem in damage[:3]) or "none"


def _plain(made: Recovered) -> dict[str, object]:
    return {**msgspec.structs.asdict(made), "path": str(made.path)}


def _show_made(made: Recovered) -> None:
    lost = sum(last - first + 1 for first, last in made.lost)
    rows = [("events copied", f"{made.entries:,}"), ("positions lost", f"{lost:,}")]
    rows += [("", f"{first} to {last}") for first, last in made.lost]
    rows += [("beside", said) for said in made.beside]
    facts(f"{made.path} is a new journal", rows)
