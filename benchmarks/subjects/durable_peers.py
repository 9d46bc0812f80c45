"""Durable queues and logs that people embed today: put, get, acknowledge, as their users would.

Each takes payloads of bytes and goes through the whole life of an event: stored, read, handled, settled. `survives`
is what an event survives once `put` has returned, with the settings that the package makes by itself: `disk` where
SQLite syncs at each commit, `process` where it does not.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID, uuid4

Handler = Callable[[Any], None]


class DurablePeer(Protocol):
    """One durable queue in a folder of its own."""

    survives: str

    def put(self, payloads: Sequence[bytes]) -> None:
        """Store some payloads; all of them survive when this returns."""
        ...

    def settle(self, payloads_count: int, handler: Handler) -> None:
        """Read as many, hand each to the handler, and settle it."""
        ...

    def reopened(self) -> "DurablePeer":
        """Close it and open it again, as after a restart."""
        ...


class EventSourcing:
    """The process recorder of eventsourcing: one transaction per batch; a tracking record settles a page."""

    survives = "disk"

    def __init__(self, folder: Path) -> None:
        from eventsourcing.persistence import StoredEvent, Tracking  # noqa: PLC0415
        from eventsourcing.sqlite import SQLiteDatastore, SQLiteProcessRecorder  # noqa: PLC0415

        self._folder = folder
        self._stored_event, self._tracking = StoredEvent, Tracking
        self._store = SQLiteDatastore(str(folder / "eventsourcing.db"))
        self._recorder = SQLiteProcessRecorder(self._store)
        self._recorder.create_table()
        self._aggregate: UUID = uuid4()
        self._version = 0
        self._read = self._recorder.max_tracking_id("reader") or 0

    def put(self, payloads: Sequence[bytes]) -> None:
        made, aggregate, first = self._stored_event, self._aggregate, self._version
        self._version += len(payloads)
        self._recorder.insert_events(
            [made(aggregate, number, "note", payload) for number, payload in enumerate(payloads, first)]
        )

    def settle(self, payloads_count: int, handler: Handler) -> None:
        left = payloads_count
        while left > 0:
            page = self._recorder.select_notifications(self._read + 1, min(left, 512))
            for notification in page:
                handler(notification.state)
            self._read = page[-1].id
            self._recorder.insert_tracking(self._tracking("reader", self._read))
            left -= len(page)

    def reopened(self) -> "EventSourcing":
        self._store.close()
        return EventSourcing(self._folder)


class PersistQueue:
    """persist-queue's SQLiteAckQueue."""

    survives = "disk"

    def __init__(self, folder: Path) -> None:
        from persistqueue import SQLiteAckQueue  # noqa: PLC0415

        self._folder = folder
        self._queue = SQLiteAckQueue(str(folder / "persistqueue"), auto_commit=True)

    def put(self, payloads: Sequence[bytes]) -> None:
        put = self._queue.put
        for payload in payloads:
            put(payload)

    def settle(self, payloads_count: int, handler: Handler) -> None:
        queue = self._queue
        for _ in range(payloads_count):
            item = queue.get(raw=True)
            handler(item["data"])
            queue.ack(id=item["pqid"])

    def reopened(self) -> "PersistQueue":
        self._queue.close()
        return PersistQueue(self._folder)


class LiteQueue:
    """litequeue: put, pop, done."""

    survives = "process"

    def __init__(self, folder: Path) -> None:
        from litequeue import LiteQueue as Queue  # noqa: PLC0415

        self._folder = folder
        self._queue = Queue(folder / "litequeue.db")

    def put(self, payloads: Sequence[bytes]) -> None:
        put = self._queue.put
        for payload in payloads:
            put(payload.decode())

    def settle(self, payloads_count: int, handler: Handler) -> None:
        queue = self._queue
        for _ in range(payloads_count):
            message = queue.pop()
            handler(message.data)
            queue.done(message.message_id)

    def reopened(self) -> "LiteQueue":
        self._queue.close()
        return LiteQueue(self._folder)


class DiskCache:
    """diskcache's Deque. It has no acknowledgement: what `popleft` gave is gone, also if the handler dies."""

    survives = "process"

    def __init__(self, folder: Path) -> None:
        from diskcache import Deque  # noqa: PLC0415

        self._folder = folder
        self._deque = Deque(directory=str(folder / "diskcache"))

    def put(self, payloads: Sequence[bytes]) -> None:
        append = self._deque.append
        for payload in payloads:
            append(payload)

    def settle(self, payloads_count: int, handler: Handler) -> None:
        popleft = self._deque.popleft
        for _ in range(payloads_count):
            handler(popleft())

    def reopened(self) -> "DiskCache":
        self._deque.cache.close()
        return DiskCache(self._folder)


PEERS: dict[str, Callable[[Path], DurablePeer]] = {
    "eventsourcing": EventSourcing,
    "persistqueue": PersistQueue,
    "litequeue": LiteQueue,
    "diskcache": DiskCache,
}


def payloads(payloads_count: int, size_bytes: int, first: int = 0) -> list[bytes]:
    """Distinct JSON objects of a size."""
    empty = len(json.dumps({"event_id": f"{0:020d}", "text": ""}))
    text = "x" * (size_bytes - empty)
    return [
        json.dumps({"event_id": f"{number:020d}", "text": text}).encode()
        for number in range(first, first + payloads_count)
    ]
