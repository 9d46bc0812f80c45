"""Reading a journal through a filter, from one end to the head that it had at the start."""

from collections.abc import Callable, Iterator

from openoutcry.journals import JournalReader
from openoutcry.journals.log import matching
from openoutcry.ports import Filter, Stored

PAGE: int = 2_048
Seen = Callable[[int], None]
"""Called with the position that was reached."""


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
