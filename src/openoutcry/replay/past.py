"""The journal of a replayed life: what earlier lives left in the file, and behind it what happens now.

```
  1 ......... base | base + 1 ........ head
  read in the file |  written in memory
```
"""

from itertools import chain

from openoutcry.journals import MemoryJournal
from openoutcry.journals.log import take_backwards
from openoutcry.journals.reading import JournalReader
from openoutcry.journals.rows import NORMAL
from openoutcry.ports import Filter, Stored

_PAGE = 1_024


class ContinuedJournal(MemoryJournal):
    """A journal in memory that goes on behind a position of a file, which is only read.

    Attributes:
        base: The last position that is in the file.

    """

    def __init__(self, past: JournalReader, base: int, origin: str) -> None:
        super().__init__(origin)
        self.base: int = base
        self.head = self.synced = base
        self.first = past.first
        self._past = past
        self._asked: set[str] = set()

    def is_of_the_past(self, event_id: str) -> bool:
        """Return True if an earlier life has written an event with this id. The first question is slow."""
        if event_id not in self._asked:
            self._asked.add(event_id)
            position = self._past.find(event_id)
            if position is not None and position <= self.base:
                (stored,) = self._past.read(position - 1, 1)
                self._places.setdefault(event_id, stored)  # from now on it is a duplicate
        return event_id in self._places and self._places[event_id].position <= self.base

    def read(self, after: int, limit: int, where: Filter | None = None) -> list[Stored]:
        """Return the next `limit` entries behind position `after`, in order. Fewer: there are no more."""
        found: list[Stored] = []
        if after < self.base and limit > 0:
            found = [one for one in self._past.read(after, limit, where) if one.position <= self.base]
        return found + super().read(max(after, self.base), limit - len(found), where)

    def read_urgent(self, after: int, limit: int) -> list[Stored]:
        """Return the next `limit` entries of the lanes `control` and `high` behind `after`, in order."""
        found: list[Stored] = []
        while after < self.base and len(found) < limit:
            page = [one for one in self._past.read(after, _PAGE) if one.position <= self.base]
            after = page[-1].position if page else self.base
            found += [one for one in page if one.lane != NORMAL]
        return (found + super().read_urgent(max(after, self.base), limit))[:limit]

    def tail(self, limit: int, where: Filter | None = None) -> list[Stored]:
        """Return the newest `limit` entries, oldest first."""
        newer = super().tail(limit, where)
        older = (batch for _, batch in self._past.back(self.base + 1, where))
        left = limit - len(newer)
        return list(chain(take_backwards(older, left, where) if left > 0 else (), newer))

    def close(self) -> None:
        """Let go of the file, and accept nothing more."""
        super().close()
        self._past.close()
