"""Reading a journal through a filter, from one end to the head that it had at the start."""

from collections.abc import Callable, Iterator
from typing import Protocol

from openoutcry.journals.matching import matching
from openoutcry.journals.reading import JournalReader
from openoutcry.ports import BuriedEvent, Filter, Stored

PAGE: int = 2_048
LETTERS: int = 256
Seen = Callable[[int], None]
"""Called with the position that was reached."""


class Letters(Protocol):
    """A journal that is open for reading or writing."""

    def buried(
        self, subscription: str | None = None, after: int = 0, limit: int | None = None
    ) -> list[BuriedEvent]:
        """Return the dead letters, or those of one name, by their ids: the next `limit` behind `after`."""
        ...


def letters_of(source: Letters, subscription: str | None = None, after: int = 0) -> Iterator[BuriedEvent]:
    """Yield the dead letters of a name or of all behind an id, oldest first, read by the page."""
    while page := source.buried(subscription, after, LETTERS):
        yield from page
        after = page[-1].letter_id


def pages(
    reader: JournalReader, where: Filter | None = None, *, after: int = 0, seen: Seen | None = None
) -> Iterator[list[Stored]]:
    """Yield the entries after a position that meet a filter, page by page, without empty pages.

    Pages are read with only the times of the filter, so that `seen` is told of progress even if nothing
    matches.
    """
    head = reader.head
    meets = None if where is None else matching(where)
    times = None
    if where is not None and (where.since_ns is not None or where.until_ns is not None):
        times = Filter(since_ns=where.since_ns, until_ns=where.until_ns)
    while after < head and (page := reader.read(after, PAGE, times)):
        after = page[-1].position
        if seen is not None:
            seen(min(after, head))
        while page and page[-1].position > head:
            page.pop()
        found = page if meets is None else [entry for entry in page if meets(entry)]
        if found:
            yield found
