"""The log's tail in memory: the most recent events, for the audit history."""

from collections import deque
from collections.abc import Iterator
from typing import Any

from openoutcry.core.weight import SMALL_BYTES, Scales, weight_of
from openoutcry.runtime.delivery.subscription import Selector, takes


class History:
    """The newest `size` events that fit into `bytes_most`, kept as the batches in which they were admitted.

    What an event takes is an estimate (`core.weight`).

    Attributes:
        size: The most events that are kept.
        bytes_most: The most bytes that they take, about.
        bytes_kept: How many they take, about.
        admitted: How many events have come in all.

    """

    __slots__ = ("_batches", "_count", "_scales", "_weights", "admitted", "bytes_kept", "bytes_most", "size")

    def __init__(self, size: int, bytes_most: int) -> None:
        self.size: int = size
        self.bytes_most: int = bytes_most
        self.admitted: int = 0
        self.bytes_kept: int = 0
        self._batches: deque[list[Any]] = deque()
        self._weights: deque[int] = deque()
        self._scales = Scales(size)
        self._count = 0

    def append(self, batch: list[Any], *, mixed: bool = False) -> None:
        """Add a batch, which must not change afterwards, and let go of what is too old.

        `mixed` says that its events differ in class, or may.
        """
        count = len(batch)
        self.admitted += count
        weight = self._scales.weigh(batch, mixed=mixed)
        self._batches.append(batch)
        self._weights.append(weight)
        self._count = kept = self._count + count
        self.bytes_kept = heavy = self.bytes_kept + weight
        if kept > self.size or heavy > self.bytes_most:
            self._trim()

    def add_record(self, event: Any) -> None:
        """Add what the bus has recorded of itself, which nobody has published."""
        self.append([event])
        self.admitted -= 1

    def _trim(self) -> None:
        """Let go of whole batches, oldest first; of heavy events, one by one."""
        while self._batches and self._count - len(self._batches[0]) >= self.size:
            self._drop_oldest()
        while self.bytes_kept > self.bytes_most:
            batch, weight = self._batches[0], self._weights[0]
            self._drop_oldest()
            is_heavy = weight >= SMALL_BYTES * len(batch)
            if self.bytes_kept < self.bytes_most and (is_heavy or not self._batches):
                self._keep_newest_of(batch)

    def _drop_oldest(self) -> None:
        self._count -= len(self._batches.popleft())
        self.bytes_kept -= self._weights.popleft()

    def _keep_newest_of(self, batch: list[Any]) -> None:
        """Keep of a batch that was dropped the newest events that there is room for."""
        room, weight, first = self.bytes_most - self.bytes_kept, 0, len(batch)
        while first and weight + (own := weight_of(batch[first - 1])) <= room:
            weight += own
            first -= 1
        if first < len(batch):
            self._batches.appendleft(batch[first:])
            self._weights.appendleft(weight)
            self._count += len(batch) - first
            self.bytes_kept += weight

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
