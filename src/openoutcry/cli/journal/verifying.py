"""`openoutcry verify`: checks everything in a journal against its checksums."""

import sys
from pathlib import Path

import click

from openoutcry.cli.console import print_lines, progress, say
from openoutcry.cli.journal import options
from openoutcry.cli.journal.access import reading
from openoutcry.cli.journal.showing import json_line
from openoutcry.cli.mistakes import FAILED
from openoutcry.journals import Anchor, Verified


class _AnchorType(click.ParamType):  # type: ignore[type-arg]
    name = "POSITION:CHECKSUM"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Anchor:
        if isinstance(value, Anchor):
            return value
        position, _, checksum = str(value).partition(":")
        try:
            return Anchor(int(position), bytes.fromhex(checksum).hex())
        except ValueError:
            self.fail(f"{value!r} is not an anchor: give what verify printed, POSITION:CHECKSUM", param, ctx)


@click.command()
@options.journal
@click.option(
    "--anchor",
    type=_AnchorType(),
    metavar="POSITION:CHECKSUM",
    help="A head that an earlier verify has printed; the chain must still lead through it.",
)
@options.as_json
@options.key_file
def verify(path: Path, anchor: Anchor | None, as_json: bool, key_file: Path | None) -> None:
    """Check every batch, cursor and dead letter against its checksum.

    Exits with 0 if all is as it was written, and with 1 if not.
    """
    with reading(path, key_file) as reader, progress("verifying") as tell:
        found = reader.verify(tell, anchor)
    if as_json:
        print_lines([json_line(found)])
    else:
        _show(found)
    if not found.intact:
        sys.exit(FAILED)


def _show(found: Verified) -> None:
    head = f"{found.anchor.position}:{found.anchor.checksum}"
    say(f"{found.entries:,} events in {found.batches:,} batches are what was written")
    for problem in found.problems:
        where = "" if problem.position is None else f"position {problem.position}: "
        say(f"  {where}{problem.what}")
    if found.intact:
        say(f"intact; the head to keep elsewhere, for --anchor: {head}")
    else:
        say("DAMAGED: continue in a new file with `openoutcry recover OLD NEW`")
