"""`openoutcry anchor`: what a journal has reached, as a line to keep; and holding it against such lines."""

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import click
import msgspec

from openoutcry.cli.console import print_lines, say
from openoutcry.cli.journal import options
from openoutcry.cli.journal.access import plainly, reading
from openoutcry.cli.mistakes import FAILED, Mistake
from openoutcry.journals import Anchor, Held
from openoutcry.journals.anchors import anchor_in
from openoutcry.journals.opening import sync_folder
from openoutcry.journals.showing import json_line, time_of


class AnchorType(click.ParamType):  # type: ignore[type-arg]
    """An anchor, as `anchor` or `verify` has printed it."""

    name = "ANCHOR"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Anchor:
        """Return the anchor."""
        if isinstance(value, Anchor):
            return value
        try:
            return anchor_in(str(value))
        except ValueError:
            self.fail(
                f"{value!r} is not an anchor: give what `anchor` printed, or POSITION:CHECKSUM", param, ctx
            )


def anchors_in(file: Path) -> list[Anchor]:
    """Return the anchors in a file, one a line, oldest first. Raises `Mistake` for a line that is none.

    A last line that a crash has cut off is named and passed over.
    """
    found = []
    with plainly(file):
        lines = file.read_bytes().decode("utf-8", "replace").splitlines(keepends=True)
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                found.append(anchor_in(line))
            except ValueError as problem:
                if number == len(lines) and not line.endswith("\n"):
                    say(f"{file}, line {number} is cut off: it is passed over", err=True)
                    break
                raise Mistake(
                    f"{file}, line {number} is not an anchor ({problem}); take that line out"
                ) from problem
    if not found:
        raise Mistake(f"{file} has no anchor; `openoutcry anchor JOURNAL --append {file}` adds one")
    return found


def _is_anchor(line: bytes) -> bool:
    try:
        anchor_in(line.decode())
    except ValueError:
        return False
    return True


@click.command()
@options.journal
@click.option(
    "--append",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Add the line to this file, in another folder than the journal's, and wait for the disk.",
)
@click.option(
    "--check",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="First hold the journal against the anchors in this file; if it does not hold, print no anchor.",
)
@options.key_file
def anchor(path: Path, append: Path | None, check: Path | None, key_file: Path | None) -> None:
    """Print what JOURNAL has reached, as one line to keep elsewhere.

    Keep it where nobody who can change JOURNAL can change it.

    --check, and `verify --anchors`, then show whether the journal was put back to an earlier moment, or cut
    off at its end. Also while a bus runs. Exits with 1 if JOURNAL is not what the anchors in FILE say, or its
    seals are broken.
    """
    if append is not None and _is_beside(append, path):
        raise Mistake(
            f"--append {append}: that is the folder of the journal, and would be put back with it; "
            f"name a file on another disk, or better on another machine"
        )
    with reading(path, key_file) as reader:
        if check is not None and not show_held(reader.hold(anchors_in(check))):
            sys.exit(FAILED)
        broken = reader.check_seals()
        for problem in broken:
            say(problem.what, err=True)
        if broken:
            sys.exit(FAILED)
        taken = reader.anchor()
    line = json_line(msgspec.structs.replace(taken, time=f"{time_of(time.time_ns())}Z"))
    if append is not None:
        with plainly(append):
            _append(append, f"{line}\n".encode())
    print_lines([line])


def show_held(held: Sequence[Held]) -> bool:
    """Print what came of holding a journal against anchors; return True if it holds."""
    for one in held:
        if one.wrong or one.untold:
            taken = f"anchor of position {one.anchor.position} ({one.anchor.time or 'no time'})"
            say(f"{taken}: {one.wrong or one.untold}", err=True)
    return not any(one.wrong for one in held)


def _is_beside(file: Path, journal: Path) -> bool:
    return Path(os.path.realpath(file)).parent == Path(os.path.realpath(journal)).parent


def _append(file: Path, line: bytes) -> None:
    """Add a line, whole, and put it on the disk with the name of its file. One that is cut off gives way."""
    place = os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        last = os.pread(place, os.fstat(place).st_size, 0).rpartition(b"\n")[2]
        if last and _is_anchor(last):
            line = b"\n" + line
        elif last:
            os.truncate(place, os.fstat(place).st_size - len(last))
        os.write(place, line)
        os.fsync(place)
    finally:
        os.close(place)
    sync_folder(Path(os.path.realpath(file)))
