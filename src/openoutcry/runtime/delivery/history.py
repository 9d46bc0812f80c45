"""The log's tail in memory: the most recent events, for the audit history."""

from collections import deque
from collections.abc import Iterator
from typing import Any

from openoutcry.runtime.delivery.subscription import Selector, takes


class History:
    """The newest `size` events, in the order of their admission, kept as the batches in which they came."""

    __slots__ = ("_batches", "_count", "admitted", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self.admitted = 0
        self._batches: deque[list[Any]] = deque()
        self._count = 0

    def append(self, batch: list[Any]) -> None:
        """Add a batch, which must not change afterwards, and let go of what is too old."""
        count = len(batch)
        self.admitted += count
        self._batches.append(batch)
        self._count = kept = self._count + count
        if kept > self.size:
            self._trim()

    def _trim(self) -> None:
        """Let go of whole batches, as long as `size` events are left."""
        while self._batches and self._count - len(self._batches[0]) >= self.size:
            self._count -= len(self._batches.popleft())

    @property
    def kept(self) -> int:
        """Events that can be read back."""
        return min(self._count, self.size)

    def newest(self, count: int) -> Iterator[Any]:
        """Iterate the newest events, newest first: `count` of them, or all that are kept."""
        for batch in reversed(self._batches):
            if count <= 0:
                return
            yield from reversed(batch[-count:])
            count -= len(batch)

    def recent(self, selectors: frozenset[Selector] | None, limit: int) -> list[Any]:
        """Return the newest `limit` events that `selectors` take (all if None), oldest first."""
        found: list[Any] = []
        seen = 0
        for batch in reversed(self._batches):
            for event in reversed(batch):
                if seen >= self.size or len(found) >= limit:
                    return found[::-1]
                seen += 1
                if selectors is None or takes(selectors, event):
                    found.append(event)
        return found[::-1]
