"""The history of several desks as one: other desks' journals are read beside the one that was named."""

import heapq
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import msgspec

from openoutcry.cli.journal.access import reading
from openoutcry.config import load_link
from openoutcry.journals import JournalReader
from openoutcry.journals.desks import Desk, desk_in, journals_in, named
from openoutcry.journals.scanning import pages
from openoutcry.journals.showing import desk_of, head_of
from openoutcry.ports import Filter, Header, Stored

_NO_DESK: Final = "onlooker"


def places_of(journals: tuple[Path, ...], config: Path | None) -> list[Path]:
    """Return where other desks' journals are: as given, and as `[link] journals` in a settings file says."""
    if not journals and config is None:
        return []
    told = () if config is None else load_link(config, _NO_DESK).journals
    return journals_in([*journals, *map(Path, told)])


def history_of(
    path: Path, key_file: Path | None, others: list[Path], where: Filter, limit: int | None
) -> Iterator[Stored]:
    """Yield the events of a journal and of other desks' that meet a filter, by when they were admitted.

    Each once, wherever it was imported; of another desk's, marked with that desk, at its position there.
    """
    others = [other for other in others if not other.samefile(path)]
    with ExitStack() as stack:
        readers = [stack.enter_context(reading(one, key_file)) for one in (path, *others)]
        desks = named(map(desk_in, readers))
        streams = [
            _of(desk, reader, where, limit, is_other=number > 0)
            for number, (desk, reader) in enumerate(zip(desks, readers, strict=True))
        ]
        found = _each_once(heapq.merge(*streams, key=lambda entry: entry.wall_ns))
        yield from found if limit is None else list(found)[-limit:]


def _of(
    desk: Desk, reader: JournalReader, where: Filter, limit: int | None, *, is_other: bool
) -> Iterator[Stored]:
    """Yield what a journal has of a filter; of another desk's what that has made itself."""
    keep: Callable[[Stored], bool] = (lambda entry: desk_of(entry) is None) if is_other else lambda _: True
    for page in pages(reader, where) if limit is None else [reader.tail(limit, where)]:
        for entry in filter(keep, page):
            yield _marked(entry, desk.name) if is_other else entry


def _marked(entry: Stored, desk: str) -> Stored:
    header = msgspec.structs.replace(entry.header or Header(), desk=desk)
    return msgspec.structs.replace(entry, header=header)


def _each_once(entries: Iterator[Stored]) -> Iterator[Stored]:
    seen: set[str] = set()
    for entry in entries:
        if desk_of(entry) is None:
            yield entry
            continue
        event_id = head_of(entry).event_id or ""
        if event_id not in seen:
            seen.add(event_id)
            yield entry
