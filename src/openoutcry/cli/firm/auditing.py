"""`openoutcry firm audit`: holds the journals of a firm's desks against each other."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

import click

from openoutcry.cli.console import print_lines, say, table
from openoutcry.cli.journal import options
from openoutcry.cli.journal.access import reading
from openoutcry.cli.mistakes import FAILED, Mistake
from openoutcry.core.wording import counted
from openoutcry.journals import JournalReader
from openoutcry.journals.audit import MEANS, Audit, Pair
from openoutcry.journals.desks import Desk, desk_in, journals_in, named
from openoutcry.journals.showing import json_line


@click.command()
@click.argument(
    "places", metavar="JOURNAL...", nargs=-1, required=True, type=click.Path(path_type=Path, readable=False)
)
@click.option("--complete", is_flag=True, help="What is exported and not imported yet is missing, too.")
@options.as_json
@options.key_file
def audit(places: tuple[Path, ...], complete: bool, as_json: bool, key_file: Path | None) -> None:
    """Hold desks' journals against each other.

    Give the journals, or a folder with them (*.db).

    Every exported event must be in every journal that imports its type, byte for byte, and in the order of
    the desk that made it. What is exported and not imported yet waits, which is no fault. Needs no lock, no
    servers, and no event class; works beside running desks.

    Exits with 0 if all is as it should be, and with 1 if not.
    """
    paths = journals_in(places)
    if len(paths) < 2:
        raise Mistake(
            f"{counted(len(paths), 'journal')} found: name those of two desks at least, or their folder"
        )
    with ExitStack() as stack:
        readers = [stack.enter_context(reading(path, key_file, held=key_file is not None)) for path in paths]
        desks = list(zip(named(map(desk_in, readers)), readers, strict=True))
        pairs = [Audit(maker, taker).run() for maker, taker in _pairs(desks)]
    if not pairs:
        names = ", ".join(desk.name for desk, _ in desks)
        raise Mistake(f"none of the desks {names} imports what another one of them makes")
    is_clean = all(pair.is_clean and not (complete and pair.waiting) for pair in pairs)
    if as_json:
        print_lines(map(json_line, pairs))
    else:
        _show(pairs)
        say("clean" if is_clean else "NOT CLEAN: keep the journals as they are until it is understood why")
    if not is_clean:
        sys.exit(FAILED)


def _pairs(
    desks: list[tuple[Desk, JournalReader]],
) -> Iterator[tuple[tuple[Desk, JournalReader], tuple[Desk, JournalReader]]]:
    """Yield who makes and who takes. Raises `Mistake` where they are not one firm."""
    firms = {desk.own.firm: desk for desk, _ in desks if desk.own is not None}
    if len(firms) > 1:
        one, other, *_ = (f"{desk.path} is of the firm {name!r}" for name, desk in firms.items())
        raise Mistake(f"{one}, and {other}: name the journals of one firm")
    for maker in desks:
        for taker in desks:
            takes = taker[0].own is not None and taker[0].own.imports and maker[0].own is not None
            if maker is not taker and (takes or maker[0].name in taker[0].imported):
                yield maker, taker


def _show(pairs: Iterable[Pair]) -> None:
    some = list(pairs)
    heads = ("made by", "imported by", "same", "had before", "waits", "retired", "wrong")
    table(
        heads,
        [(p.exporter, p.importer, p.same, p.had, p.waiting, p.retired, sum(p.counts.values())) for p in some],
    )
    for pair in some:
        print_lines(_told(pair))


def _told(pair: Pair) -> Iterator[str]:
    way = f"{pair.exporter} to {pair.importer}"
    if pair.other_journal:
        yield (
            f"{way}: imported from another journal of that desk, origin {pair.other_journal}: name that one, "
            "or a copy of it"
        )
    if pair.former:
        yield (
            f"{way}: {counted(pair.former, 'event')} not looked for: made before exports and imports named "
            "their types, or before either desk had a link"
        )
    if pair.ahead:
        yield (
            f"{way}: {pair.ahead:,} of the kill switches were handed on, as they are at once, by a process "
            "that died before it had written them: no fault"
        )
    for kind, count in pair.counts.items():
        yield f"{way}: {counted(count, 'event')} {kind}: {MEANS[kind]}"  # type: ignore[index]
    for one in pair.problems:
        places = [f"position {one.made_at:,} of {pair.exporter}"] if one.made_at else []
        places += [f"position {one.found_at:,} of {pair.importer}"] if one.found_at else []
        yield f"  {one.kind}  {one.event_id}  lane {one.lane}, {', '.join(places)}"
    unshown = sum(pair.counts.values()) - len(pair.problems)
    if unshown:
        yield f"  and {unshown:,} more"
