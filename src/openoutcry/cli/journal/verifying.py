"""`openoutcry verify`: checks everything in a journal against its checksums."""

import sys
from pathlib import Path

import click

from openoutcry.cli.console import print_lines, progress, say
from openoutcry.cli.journal import options
from openoutcry.cli.journal.access import reading
from openoutcry.cli.journal.anchoring import AnchorType, anchors_in
from openoutcry.cli.mistakes import FAILED
from openoutcry.journals import Anchor, Verified
from openoutcry.journals.showing import json_line


@click.command()
@options.journal
@click.option(
    "--anchor",
    "given",
    type=AnchorType(),
    multiple=True,
    metavar="ANCHOR",
    help="What an earlier anchor or verify has printed; the journal must still lead through it. Repeat it.",
)
@click.option(
    "--anchors",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="All anchors in this file, as `anchor --append` has written it.",
)
@options.as_json
@options.key_file
def verify(
    path: Path, given: tuple[Anchor, ...], file: Path | None, as_json: bool, key_file: Path | None
) -> None:
    """Check everything in a journal against its checksums.

    Every batch, and every row beside them; and in a sealed journal its seal.

    Exits with 0 if all is as it was written, and with 1 if not.
    """
    anchors = [*(anchors_in(file) if file is not None else []), *given]
    with reading(path, key_file) as reader, progress("verifying") as tell:
        found = reader.verify(tell, anchors)
    if as_json:
        print_lines([json_line(found)])
    else:
        _show(found, has_anchors=bool(anchors))
    if not found.intact:
        sys.exit(FAILED)


def _show(found: Verified, *, has_anchors: bool) -> None:
    head = f"{found.anchor.position}:{found.anchor.checksum}"
    say(f"{found.entries:,} events in {found.batches:,} batches are what was written")
    for problem in found.problems:
        where = "" if problem.position is None else f"position {problem.position}: "
        say(f"  {where}{problem.what}")
    for said in found.untold:
        say(f"  {said}")
    if found.intact:
        say(f"intact; the head to keep elsewhere, for --anchor: {head}")
    else:
        older = "; but if an anchor does not hold, put back the newest copy first" if has_anchors else ""
        say(f"DAMAGED: continue in a new file with `openoutcry recover OLD NEW`{older}")
