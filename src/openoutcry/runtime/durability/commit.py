"""A commit: durable events that are written together, and what is to be done when they are released."""

import asyncio
from collections.abc import Callable, Generator
from typing import Any

from msgspec import structs

from openoutcry.errors import JournalError
from openoutcry.ports import Alike, Carried, Changes, Entry, Level, Snapshot, Written
from openoutcry.runtime.durability.commit_records import Records
from openoutcry.runtime.ownership import resolve

Then = Callable[[int], None]


class Commit(Alike):
    """Events that are written together.

    As long as its entries differ in nothing but the event, it is itself what the journal writes: ids and
    payloads. An empty one is false, as any empty sequence: ask whether it `is None`.

    Attributes:
        events: The events, in order.
        ids: Their ids.
        level: What all of them must survive, while they are alike.
        payloads: Their JSON, while they are alike.
        entries: The entries, once they differ; None before.
        thens: What to call with the position of an event when it is released, by its index.
        delivered: Kill switches among the events: they are delivered before, each with a list of one
            position, which is filled in at the release and so tells every lane.
        undelivered: Ids of those that were not, since no handler was called: its failure has kept them out.
        began_ns: When its first event was admitted, on the bus's monotonic clock.
        wall_ns: The same, in nanoseconds since 1970.
        raised: Which of the events, by index, were delivered from memory before, and are only written; with
            what to call before the others are released.
        records: What the bus has recorded of itself and is written with the events; None if nothing.
        snapshots: What is written with these events, and only with them: how far imports have come. By name.
        must_sync: Whether it is synced whatever its level.
        error: Why nothing of it was admitted, if so.
        written: What the journal has written of it, once it has.
        head: The newest position after the write.
        is_over: Whether it was released or refused. One that is only written may not have reached its level.
        is_woken: Whether its publishers may go on as well.
        is_mixed: Whether some of its events are of the lanes `control` and `high`.
        imported: How many of its events other desks have made, of those that came in together.
        is_crowded: Whether they go on behind the handlers: there may be no room for as many events again.

    """

    __slots__ = (
        "_index",
        "_indexed",
        "began_ns",
        "delivered",
        "entries",
        "error",
        "events",
        "head",
        "imported",
        "is_crowded",
        "is_mixed",
        "is_over",
        "is_woken",
        "must_sync",
        "on_done",
        "raised",
        "records",
        "snapshots",
        "thens",
        "undelivered",
        "waiters",
        "written",
    )

    def __init__(self, began_ns: int, wall_ns: int) -> None:
        self.began_ns: int = began_ns
        self.wall_ns = wall_ns
        self.ids: list[str] = []
        self.payloads: list[bytes] = []
        self.level: Level = Level.MEMORY
        self.events: list[Any] = []
        self.entries: list[Entry] | Carried | None = None
        self._index: dict[str, int] = {}
        self._indexed = 0
        self.thens: dict[int, Then] = {}
        self.delivered: list[tuple[Any, list[int]]] = []
        self.undelivered: set[str] = set()
        self.waiters: list[asyncio.Future[None]] = []
        self.on_done: list[Callable[[], None]] = []
        self.raised: dict[int, Callable[[], None]] = {}
        self.records: Records | None = None
        self.snapshots: dict[str, Snapshot] = {}
        self.must_sync: bool = False
        self.is_over: bool = False
        self.is_woken: bool = False
        self.is_crowded: bool = False
        self.is_mixed: bool = False
        self.imported: int = 0
        self.error: JournalError | None = None
        self.written: Written | None = None
        self.head: int = 0

    def add(self, event: Any, entry: Entry) -> None:
        """Add an event."""
        if entry.lane == "normal" and entry.header is None and entry.wall_ns == self.wall_ns:
            self.add_alike([event], [entry.event_id], [entry.payload], entry.level)
            return
        self.is_mixed = self.is_mixed or entry.lane != "normal"
        if self.ids:
            self._listed().append(entry)
        else:
            self.entries = [entry]
        self.events.append(event)
        self.ids.append(entry.event_id)

    def add_carried(self, events: list[Any], carried: Carried) -> None:
        """Add events of the normal lane that another desk has made."""
        self.imported += len(events)
        if self.ids:
            self._listed().extend(carried)
        else:
            self.entries = carried
        self.events += events
        self.ids += carried.ids

    def _listed(self) -> list[Entry]:
        """Return the entries as a list, which they are from now on."""
        if not isinstance(self.entries, list):
            self.entries = list(self if self.entries is None else self.entries)
        return self.entries

    def add_alike(self, events: list[Any], ids: list[str], payloads: list[bytes], level: Level) -> None:
        """Add events of the normal lane that carry everything the journal is to know of them."""
        if self.entries is None and (self.level is level or not self.ids):
            self.level = level
            self.payloads += payloads
        else:
            self._listed().extend(Alike(ids, payloads, level, self.wall_ns))
        self.events += events
        self.ids += ids

    def withdraw(self) -> bool:
        """Take the newest event out again; return True if it was delivered from memory before."""
        event_id, index = self.ids.pop(), len(self.events) - 1
        self.events.pop()
        if self.entries is None:
            self.payloads.pop()
        else:
            self._listed().pop()
        if self._indexed > index:
            self._index.pop(event_id, None)
            self._indexed = index
        self.thens.pop(index, None)
        return self.raised.pop(index, None) is not None

    def index_of(self, event_id: str) -> int | None:
        """Return the index of the event with an id; None if it is not in this commit."""
        for number in range(self._indexed, len(self.ids)):
            self._index[self.ids[number]] = number
        self._indexed = len(self.ids)
        return self._index.get(event_id)

    def changes_with(self, changes: Changes | None) -> Changes:
        """Return the changes that go with it, and with them what is written with these events alone."""
        changes = Changes() if changes is None else changes
        return structs.replace(changes, snapshots=[*changes.snapshots, *self.snapshots.values()])

    def __await__(self) -> Generator[Any, None, None]:
        """Wait until publishers may go on, or raise why it failed. A cancellation leaves it going on.

        Mostly it is written before who gives the loop back here goes on; a future is for what takes longer.
        """
        if not self.is_woken:
            yield
            if self.is_crowded:
                yield
        if not self.is_woken:
            future = asyncio.get_running_loop().create_future()
            self.waiters.append(future)
            yield from future
        if self.error is not None:
            raise self.error

    def wake(self) -> None:
        """The commit is over: wake everybody who waits for it."""
        self.is_over = self.is_woken = True
        waiters, self.waiters = self.waiters, []
        for future in waiters:
            resolve(future)
        for call in self.on_done:
            call()
